#!/bin/bash
# test/coverage.sh [regress|isolation|tap [NAME ...]]
#
# Runs the regression and isolation tests, or tests of one kind, or the named ones, on a build
# with --coverage, and prints how many of the lines of each source file were executed.  The
# annotated sources are in the directory COVERAGE, by default tfstate-coverage: "#####" marks
# lines that were not executed.
#
# A server that a test kills or stops at once loses its counts.  The exit status is 0 only if
# no test failed.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"

output=${COVERAGE:-tfstate-coverage}
[[ $output == /* ]] || output=$PWD/$output
kind=${1:-all} names=("${@:2}") status=0

# what installcheck runs; an empty list runs nothing, none runs all
arguments=(REGRESS= ISOLATION= TAP_TESTS=)
case $kind in
	all) arguments=(TAP_TESTS=) ;;
	regress) arguments[0]=${names:+"REGRESS=${names[*]}"} ;;
	isolation) arguments[1]=${names:+"ISOLATION=${names[*]}"} ;;
	tap)
		names=("${names[@]/#/test/t/}")
		arguments[2]=${names:+"PROVE_TESTS=${names[*]/%/.pl}"}
		;;
	*) die "no tests are of the kind $kind" ;;
esac

prepare regress isolation tap
heading 'Building tfstate'
export PG_CFLAGS='--coverage -O0' PG_LDFLAGS=--coverage
build
start_server
heading 'Tests'
for i in "${!arguments[@]}"; do
	[[ -n ${arguments[i]} ]] || unset "arguments[i]"
done
as_user "${make[@]}" --no-print-directory -s installcheck "${arguments[@]}" || status=1
stop_servers

heading 'Lines executed'
cd "$source"
for file in src/*.c src/*/*.c; do
	as_user gcov --object-directory "$(dirname "$file")" "$file" 2>/dev/null | awk -v file="$file" '
		/^File / { ours = $2 == "\047" file "\047" }
		ours && /^Lines executed:/ {
			split($2, executed, /[:%]/)
			printf "%6.2f %% of %5d  %s\n", executed[2], $4, file
			ours = 0
		}'
done | sort -n | tee "$work/lines"
awk '{ lines += $4; executed += $1 / 100 * $4 }
	END { printf "%6.2f %% of %5d  in all\n", 100 * executed / lines, lines }' "$work/lines"
mkdir -p "$output"
mv -- *.c.gcov "$output"
printf '\nThe annotated sources are in %s.\n' "$output"
exit $status
