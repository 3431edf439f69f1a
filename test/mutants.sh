#!/bin/bash
# test/mutants.sh [NAME ...]
# test/mutants.sh find [NAME ...]
#
# Checks that the tests catch deliberate bugs.  Each patch in mutants/ puts one into the
# sources.  Its head says what a user would see, and names the cheapest test that catches it:
#
#	Caught by: regress lock
#
# (or isolation, or tap, with a name for test/all.sh), which can end with "from PostgreSQL 17",
# say; on an earlier one the bug is left out.  The first form builds a copy of the
# sources with each bug in turn, or with the named ones, and runs that test, which has to fail.
# Before that it runs each of these tests without a bug, which has to pass.  The exit status is
# 0 only if all bugs were caught.
#
# The second form is for writing a patch: it runs all regression and isolation tests on each
# bug, and prints which of them fail.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"

# No test takes so many seconds, unless it hangs.
limit=300

# Restarts the server with the data from before any test.
reset_server() {
	stop_servers
	rm -rf "$work/data"
	cp -a "$work/pristine" "$work/data"
	as_user "$bindir/pg_ctl" -D "$work/data" -l "$work/server.log" -w start >/dev/null
}

# run_tests KIND NAME ...: runs tests, with their output in $work/log.
run_tests() {
	local kind=$1 names=("${@:2}") arguments=(REGRESS= ISOLATION= TAP_TESTS=)
	case $kind in
		regress) arguments[0]="REGRESS=${names[*]}" ;;
		isolation) arguments[1]="ISOLATION=${names[*]}" ;;
		tap)
			names=("${names[@]/#/test/t/}")
			arguments[2]="PROVE_TESTS=${names[*]/%/.pl}"
			;;
		*) die "no tests are of the kind $kind" ;;
	esac
	reset_server
	as_user timeout -k 10 "$limit" "${make[@]}" --no-print-directory -s with_llvm=no installcheck \
		"${arguments[@]}" >"$work/log" 2>&1
}

apply() {
	as_user patch -s -F0 -p1 "${@:2}" -d "$source" <"$source/test/mutants/$1.patch" || die "$1 does not apply"
}

caught_by() {
	sed -En 's/^Caught by: (\S+ \S+).*/\1/p' "$source/test/mutants/$1.patch"
}

# Returns 0 if the test that catches a bug shows it on the PostgreSQL in use.
can_be_caught() {
	local since
	since=$(sed -n 's/^Caught by: .* from PostgreSQL //p' "$source/test/mutants/$1.patch")
	((${since:-0} <= major))
}

check_without_bugs() {
	local kind names
	for kind in regress isolation tap; do
		mapfile -t names < <(for bug in "${bugs[@]}"; do caught_by "$bug"; done | sed -n "s/^$kind //p" | sort -u)
		((${#names[@]} > 0)) || continue
		printf 'without a bug: %s %s\n' "$kind" "${names[*]}"
		# shellcheck disable=SC2086
		run_tests "$kind" ${names[@]} || { cat "$work/log" >&2 && die 'a test fails without a bug'; }
	done
}

try_bug() {
	local name=$1 start=$SECONDS test result=caught
	read -ra test < <(caught_by "$name")
	apply "$name"
	rebuild
	if run_tests "${test[@]}"; then
		result='NOT CAUGHT'
		failed=$((failed + 1))
	fi
	apply "$name" -R
	printf '%-10s  %-28s %4d s  %s\n' "$result" "$name" $((SECONDS - start)) "${test[*]}"
}

find_tests() {
	local name=$1 kind
	apply "$name"
	rebuild
	printf '%s:\n' "$name"
	for kind in regress isolation; do
		if [[ $kind == regress ]]; then
			mapfile -t names < <(cd "$source/sql" && ls -- *.sql | grep -v '^tfstate--' | sed 's/[.]sql$//')
		else
			mapfile -t names < <(cd "$source/test/specs" && ls -- *.spec | sed 's/[.]spec$//')
		fi
		run_tests "$kind" "${names[@]}" || true
		sed -En "s/^test ([^ ]+) .*FAILED.*/  $kind \1/p; s/^not ok [0-9]+ +[-+] ([^ ]+) .*/  $kind \1/p" "$work/log"
	done
	apply "$name" -R
}

command=try_bug failed=0
if [[ ${1:-} == find ]]; then
	command=find_tests
	shift
fi
prepare tap jq patch
find_released
heading 'Building tfstate'
copy_source
rebuild
bugs=("$@")
((${#bugs[@]} > 0)) || mapfile -t bugs < <(cd "$source/test/mutants" && ls -- *.patch | sed 's/[.]patch$//')
start_server
as_user "$bindir/pg_ctl" -D "$work/data" -s -m fast stop
cp -a "$work/data" "$work/pristine"
heading 'Deliberate bugs'
if [[ $command == try_bug ]]; then
	major=$("$PG_CONFIG" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
	for i in "${!bugs[@]}"; do
		can_be_caught "${bugs[i]}" && continue
		printf 'left out    %s: it shows on a later PostgreSQL than %s\n' "${bugs[i]}" "$major"
		unset "bugs[i]"
	done
	check_without_bugs
fi
for bug in "${bugs[@]}"; do
	"$command" "$bug"
done
[[ $command == find_tests ]] || printf '\n%d caught, %d not\n' $((${#bugs[@]} - failed)) "$failed"
((failed == 0))
