#!/bin/bash
# test/clients.sh PROGRAM ...
#
# Runs the tests that need Terraform with each of the programs: any installed Terraform from
# 1.5 and OpenTofu from 1.6, named as in a command.  From the environment: TESTS, the names of
# the test files (400_terraform_conflict ...) if not all of them.
#
# Prints a table with a row for each program with its version, a column for each test file (by
# its number), and the number of passed and failed tests.  "-" is a file that was skipped.
# The exit status is 0 only if some tests ran with each program, and none failed.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"

# count_tap FILE: prints the cell for the output of a test file.  A file that ended before all
# of its tests had run has one more failure.
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
