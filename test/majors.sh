#!/bin/bash
# test/majors.sh [MAJOR ...]
#
# Runs all tests on each of these majors of PostgreSQL: 15, 16, 17, 18 and 19 if none is named.
# They are in a system of its own, a bare sid with those majors that other releases of Debian
# have, and with 16 of a package of Python.
#
# From the environment: TESTS, the arguments of test/all.sh if not all tests are to be run;
# SYSTEMS, a directory that keeps the system for the next run (otherwise it is removed); MIRROR,
# another mirror of Debian; TERRAFORM, the program to run, by default terraform in the PATH;
# RELEASED_SOURCE, as for test/all.sh.  Needs root and the network; each major takes about 25
# minutes.
#
# The last lines are a table of the majors, and the count of all tests.  The exit status is 0
# only if no test failed.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"
# shellcheck source=test/lib/debian.sh
source "$root/test/lib/debian.sh"

# Runs the tests on a major, and keeps the count for the table.
run_major() {
	local log=$work/$1.log version there count
	version=$(in_system "$system" "$(pg_config_of "$1")" --version)
	heading "$version, from ${majors[$1]}"
	there=$(mktemp -d "$system/srv/tfstate.XXXXXX")
	chmod 755 "$there"
	copy_checkout "$there/tfstate"
	[[ -z ${RELEASED_SOURCE:-} ]] || cp -R "$RELEASED_SOURCE" "$there/released"
	# shellcheck disable=SC2086
	in_system "$system" env PG_CONFIG="$(pg_config_of "$1")" ${RELEASED_SOURCE:+RELEASED_SOURCE="${there#"$system"}/released"} \
		bash "${there#"$system"}/tfstate/test/all.sh" ${TESTS:-} 2>&1 | tee "$log" || true
	rm -rf "$there"
	count=$(tail -n 1 "$log")
	if [[ $count =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed ]]; then
		passed=$((passed + BASH_REMATCH[1]))
		failed=$((failed + BASH_REMATCH[2]))
	else
		failed=$((failed + 1))
		count='failed before the end'
	fi
	table+=("$(printf '%-42s %s' "$version" "$count")")
}

((EUID == 0)) || die "only root can make a system of its own"
(($# > 0)) || set -- 15 16 17 18 19
for major in "$@"; do
	[[ -n ${majors[$major]:-} ]] || die "not a major that is tested: $major"
done
make_work_directory
find_released
systems=${SYSTEMS:-$work/systems} system=$systems/majors table=()
mkdir -p "$systems"
heading 'Making a system with all majors (this takes some minutes)'
make_majors "$system"
if command -v "$terraform" >/dev/null && ! cmp -s "$(path_of "$terraform")" "$system/usr/local/bin/terraform"; then
	install -m 755 "$(path_of "$terraform")" "$system/usr/local/bin/terraform"
fi
for major in "$@"; do
	run_major "$major"
done
heading "${TESTS:-all tests}"
printf '%s\n' "${table[@]}"
printf '\n%s passed, %s failed\n' $passed $failed
((failed == 0 && passed > 0))
