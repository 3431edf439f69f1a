#!/bin/bash
# test/bare.sh [SUITE | USER | COMMAND | terraform ...]
#
# Runs the README's two commands on unprepared systems: with what debootstrap
# --variant=minbase installs, and a copy of the checkout.
#
# SUITE		bookworm, trixie or sid; the first two if none is named
# USER		root; "user", which may use sudo; or "neighbour", the same beside a cluster of
#			PostgreSQL that runs.  All three if none is named
# COMMAND	demo or all; both, one after the other, if none is named
# terraform	is copied into the systems from this machine
#
# After the commands and a second demo, which must not install anything, this checks what they
# left behind: processes, files that belong to no package, settings of the system.  Then it
# follows their instructions for removal, after which the system must be as before; and, for
# other users than root, the README's instructions for installing tfstate.
#
# From the environment: SYSTEMS, a directory that keeps bare systems and packages for the next
# run (otherwise they are removed); MIRROR, another mirror of Debian; TESTS, the arguments of
# the test command.  Needs root and the network; each complete run of the tests takes about 20
# minutes.
#
# The last line is the count of all checks; the exit status is 0 only if none failed.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"
# shellcheck source=test/lib/debian.sh
source "$root/test/lib/debian.sh"

# Makes $system a bare system for the user of the trial.
make_trial_system() {
	local base=$systems/$suite
	packages=$systems/packages-$suite
	mkdir -p "$packages/partial"
	if [[ ! -e $base.made ]]; then
		rm -rf "$base"
		make_system "$base" "$suite"
		touch "$base.made"
	fi
	rm -rf "$system"
	cp -a --reflink=auto "$base" "$system"
	printf '127.0.0.1 localhost %s\n' "$(uname -n)" >"$system/etc/hosts" # which an installer writes
	home=/root login=root
	if [[ $user_there != root ]]; then
		home=/home/tester login=tester
		quietly in_system "$system" apt-get install --yes --no-install-recommends sudo
		quietly in_system "$system" useradd --create-home --shell /bin/bash tester
		printf 'tester ALL=(ALL) NOPASSWD: ALL\n' >"$system/etc/sudoers.d/tester"
	fi
	if [[ $user_there == neighbour ]]; then
		quietly in_system "$system" apt-get install --yes --no-install-recommends postgresql
	fi
	if ((with_terraform)); then
		install -m 755 "$(path_of "$terraform")" "$system/usr/local/bin/terraform"
	fi
	copy_checkout "$system$home/tfstate"
	in_system "$system" chown -R "$login:" "$home/tfstate"
}

# Runs a command there as the user, beside the neighbour's cluster if there is one.  After its
# output come the processes that it left.
run_there() {
	# shellcheck disable=SC2016
	in_system "$system" bash -c '
		cluster=$(echo /etc/postgresql/*/main)
		if [[ -d $cluster ]]; then
			cluster=${cluster#/etc/postgresql/}
			pg_ctlcluster "${cluster%/main}" main start
			pid=$(head -n 1 /var/lib/postgresql/*/main/postmaster.pid)
		fi
		su - "$1" -c "$2"
		status=$?
		for process in /proc/[0-9]*; do
			{ line=$(tr "\\0" " " <"$process/cmdline"); } 2>/dev/null
			case ${process#/proc/} in
				1 | $$ | "${pid:-}") ;;
				*) [[ -z $line || $line == "postgres: ${cluster:-x}"* ]] || echo "left: $line" ;;
			esac
		done
		[[ -z ${pid:-} ]] || [[ $pid == "$(head -n 1 /var/lib/postgresql/*/main/postmaster.pid)" && -d /proc/$pid ]] ||
			echo "left: the cluster was stopped or started"
		exit $status' - "$login" "$1" 2>&1
}

# run_command NAME COMMAND PATTERN: runs a command, whose last line has to match.
run_command() {
	local log=$work/$trial.$1 status=0 last
	heading "$trial: $2"
	run_there "cd tfstate && $2" | tee "$log" || status=$?
	last=$(grep -v '^left: ' "$log" | tail -n 1)
	check "$1 ends with exit status 0" 0 $status
	check "$1 says so in its last line" yes "$([[ $last =~ $3 ]] && echo yes || echo "$last")"
	check "$1 leaves no process" '' "$(grep '^left: ' "$log" || true)"
}

fold_names() {
	paste -sd' ' | fold -s -w 78
}

# Prints the reasons why tests were skipped, or that none was given.
reasons() {
	sed -n '/^== What was skipped/,/^\(== What failed\|[0-9]* passed\)/s/^\([^ ].*\): .*/\1/p' "$work/$trial.all"
	if grep -q ' skipped$' "$work/$trial.all" && ! grep -q '^== What was skipped' "$work/$trial.all"; then
		echo 'no reason is told'
	fi
}

# Prints the commands' instructions for removal.
removal() {
	sed -n '/To remove it:$/,/^$/s/^    //p' "$work/$trial".* | awk '!seen[$0]++'
}

# Follows the README's section "Install", which names no packages for a Debian without a
# number.
check_install() {
	local number install
	number=$(sed -n 's/^VERSION_ID="\(.*\)"$/\1/p' "$system/etc/os-release")
	[[ -n $number ]] || return 0
	install=$(sed -n "s/^    \(sudo apt-get install .*[^ ]\) *# Debian $number\$/\1/p" "$root/README.md")
	heading "$trial: $install"
	check 'the packages that the README names can be installed' 0 \
		"$(run_there "$install --yes" >"$work/log" 2>&1 && echo 0 || tail -n 20 "$work/log")"
	check 'tfstate can be built and installed with them' 0 \
		"$(run_there 'cd tfstate && make && sudo make install CLIENT_PREFIX=/usr/local' >"$work/log" 2>&1 && echo 0 || tail -n 20 "$work/log")"
	check 'tfstate can be used' 'fence 1' "$(run_there "cd / && sudo -u postgres psql -XAtq -c 'CREATE EXTENSION tfstate' \
		-c \"SELECT 'fence', fence FROM tfstate_lock('prod/network')\" -F ' '" | grep ^fence)"
}

run_trial() {
	local suite=$1 user_there=$2 command system home login trial=$1-$2 before=$work/before after=$work/after
	system=$systems/$trial
	heading "$trial: a bare system"
	make_trial_system
	list_packages >"$before.packages"
	list_files >"$before.files"
	for command in "${commands[@]}"; do
		case $command in
			demo) run_command demo 'bash test/demo.sh' '^demo finished: ' ;;
			all) run_command all "bash test/all.sh ${TESTS:-}" '^[0-9]+ passed, 0 failed(, [0-9]+ skipped)?$' ;;
		esac
	done
	run_command again 'bash test/demo.sh' '^demo finished: '
	check 'the second demo installs nothing' '' "$(grep 'Installing' "$work/$trial.again" || true)"
	if [[ -e $work/$trial.all ]]; then
		# what Debian does not have, or needs a user or a major that is not here
		check 'the test command skips only what it has to' '' "$(reasons | grep -Ev \
			-e '^(terraform is not installed|needs root, .*|extension_control_path is new in PostgreSQL 18)$' \
			-e '^the source of the last release is not there: the checkout has no history$' || true)"
	fi

	heading "$trial: what is left"
	list_packages | comm -13 "$before.packages" - | sed 's/ .*//' | fold_names
	list_files >"$after.files"
	check 'nothing is left but what the commands named' '' "$(changed_files "$before.files" "$after.files" | grep -v "^$home/[.]cache/tfstate" || true)"
	removal
	check 'the instructions for removal work' 0 "$(run_there "yes | ($(removal | paste -sd\;))" >"$work/log" && echo 0 || cat "$work/log")"
	check 'the packages are as before after the removal' '' "$(list_packages | diff "$before.packages" - || true)"
	list_files >"$after.files"
	check 'the files are as before after the removal' '' "$(changed_files "$before.files" "$after.files")"
	[[ $user_there == root ]] || check_install
	rm -rf "$system"
}

suites=() users=() commands=() with_terraform=0
for word in "$@"; do
	case $word in
		bookworm | trixie | sid) suites+=("$word") ;;
		root | user | neighbour) users+=("$word") ;;
		demo | all) commands+=("$word") ;;
		terraform) with_terraform=1 ;;
		*) die "neither a suite nor a user nor a command: $word" ;;
	esac
done
((${#suites[@]} > 0)) || suites=(bookworm trixie)
((${#users[@]} > 0)) || users=(root user neighbour)
((${#commands[@]} > 0)) || commands=(demo all)

((EUID == 0)) || die "only root can make a system of its own"
make_work_directory
systems=${SYSTEMS:-$work/systems}
mkdir -p "$systems"
for one_suite in "${suites[@]}"; do
	for one_user in "${users[@]}"; do
		run_trial "$one_suite" "$one_user"
	done
done

if ((failed > 0)); then
	heading 'What failed'
	printf '%s\n' "${failures[@]}"
fi
printf '\n%s passed, %s failed\n' $passed $failed
((failed == 0 && passed > 0))
