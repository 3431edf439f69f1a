#!/bin/bash
# test/clients.sh PROGRAM ...
#
# Runs the tests that run Terraform with each of the programs: any Terraform from
# 1.5 and any OpenTofu from 1.6 that is installed somewhere, named as in a
# command.  From the environment: TESTS, the names of the test files (400_terraform_conflict
# ...) if not all of them.
#
# Prints a table: a row for each program with its version, a column for each test
# file (the number that its name begins with), and in the cells how many tests
# passed and how many failed.  "-" is a file that was skipped as a whole.  The exit
# status is 0 only if some tests ran with each program, and none failed.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"

# count_tap FILE: prints the cell for what a test file said.  One that ended before
# all of its tests were run has one failure more.
count_tap() {
	awk '
		/^1\.\.0/ { skipped = 1 }
		/^1\.\.[1-9]/ { planned = substr($1, 4) }
		/^not ok / && !/# *TODO/ { failed++; next }
		/^(not )?ok / { passed++ }
		END {
			if (skipped)
				print "-"
			else
				print passed + 0 "/" failed + (planned == "" || planned != passed + failed)
		}' "$1"
}

# Runs the tests with a program and adds its row to $rows.
run_client() {
	local program=$1 version name tap=$work/tap$((++clients)) row cell ran=0
	version=$("$program" version | sed -n '/^\(Terraform\|OpenTofu\) v/p')
	[[ -n $version ]] || die "$program is neither Terraform nor OpenTofu"
	heading "$version"
	as_user mkdir "$tap"
	TERRAFORM=$program PERL_TEST_HARNESS_DUMP_TAP=$tap as_user "${make[@]}" --no-print-directory -s installcheck \
		REGRESS= ISOLATION= PROVE_TESTS="${tests[*]}" || failed=1
	row=$version
	for name in "${tests[@]}"; do
		cell=0/1
		[[ ! -e $tap/$name ]] || cell=$(count_tap "$tap/$name")
		[[ $cell == - ]] || ran=1
		row+=$'\t'$cell
	done
	((ran == 1)) || failed=1
	rows+=("$row")
}

programs=() clients=0 failed=0
for program in "$@"; do
	programs+=("$(path_of "$program")")
done
((${#programs[@]} > 0)) || die "which programs?"

prepare tap
heading 'Building tfstate'
build
if [[ -n ${TESTS:-} ]]; then
	read -ra tests <<<"$TESTS"
	tests=("${tests[@]/#/test/t/}")
	tests=("${tests[@]/%/.pl}")
else
	mapfile -t tests < <(cd "$source" && grep -l '^terraform_or_skip' test/t/*.pl)
fi
header=program
for name in "${tests[@]}"; do
	name=${name##*/}
	header+=$'\t'${name%%_*}
done
rows=("$header")
for program in "${programs[@]}"; do
	run_client "$program"
done
heading 'Passed and failed, by program and test file'
printf '%s\n' "${rows[@]}" | expand --tabs=20,+8
((failed == 0))
