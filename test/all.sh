#!/bin/bash
# test/all.sh [regress|isolation|tap|demo [NAME ...]]
#
# Runs all tests, or those of one kind, or the named ones of that kind
# (bash test/all.sh tap 001_crash).  Builds and installs first; the regression
# and isolation tests get a throwaway server, the TAP tests start their own.
# The last line is the count of all tests; the exit status is 0 only if some
# ran and none failed.

set -euo pipefail
# shellcheck source=test/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

passed=0 failed=0 skipped=0
kind=${1:-all}
names=("${@:2}")

# Sets tests to the files in $1 with the ending $2, without both, or to what
# the arguments of this script name.  False if there are none.
find_tests() {
	tests=("${names[@]}")
	if ((${#tests[@]} == 0)); then
		mapfile -t tests < <(cd "$source" && printf '%s\n' "$1"/*"$2" | grep -Ev '/(tfstate--.*|\*)[.][a-z]+$' |
			sed "s,.*/\(.*\)$2\$,\1,")
	fi
	((${#tests[@]} > 0))
}

# Runs make installcheck as the arguments say and keeps its output in
# $work/output.
installcheck() {
	as_user "${make[@]}" --no-print-directory -s installcheck "$@" 2>&1 | tee "$work/output"
}

# Adds up what pg_regress says at its end; shows the differences, which are in
# the file $1, where tests failed.
count_regress() {
	local output
	output=$(<"$work/output")
	if [[ $output =~ All\ ([0-9]+)\ tests\ passed ]]; then
		passed=$((passed + BASH_REMATCH[1]))
	elif [[ $output =~ ([0-9]+)\ of\ ([0-9]+)\ tests\ failed ]]; then
		failed=$((failed + BASH_REMATCH[1]))
		passed=$((passed + BASH_REMATCH[2] - BASH_REMATCH[1]))
		cat "$1"
	else
		failed=$((failed + 1))
	fi
}

run_regress() {
	find_tests sql .sql || return 0
	heading 'Regression tests'
	installcheck REGRESS="${tests[*]}" ISOLATION= TAP_TESTS= || true
	count_regress "$source/regression.diffs"
}

run_isolation() {
	find_tests test/specs .spec || return 0
	heading 'Isolation tests'
	installcheck REGRESS= ISOLATION="${tests[*]}" TAP_TESTS= || true
	count_regress "$source/output_iso/regression.diffs"
}

# Adds up the TAP below $work/tap; shows the logs of the files that failed.
# A file can fail without a failed test, so $1 is the exit status of prove.
count_tap() {
	local ok not_ok skip name
	read -r ok not_ok skip < <(find "$work/tap" -type f -exec cat {} + | awk '
		/^(ok .*|1\.\.0 *)# *[Ss][Kk][Ii][Pp]/ { skip++; next }
		/^not ok .*# *TODO/ || /^ok / { ok++; next }
		/^not ok / { not_ok++ }
		END { print ok + 0, not_ok + 0, skip + 0 }')
	passed=$((passed + ok))
	skipped=$((skipped + skip))
	(($1 != 0)) || return 0
	failed=$((failed + (not_ok > 0 ? not_ok : 1)))
	sed -n 's,^test/t/\(.*\)[.]pl .*(Wstat: .*,\1,p' "$work/output" | while read -r name; do
		tail -n 100 "$source/tmp_check/log/"*"$name"*
	done
}

run_tap() {
	local status=0
	find_tests test/t .pl || return 0
	heading 'TAP tests'
	as_user mkdir "$work/tap"
	export PERL_TEST_HARNESS_DUMP_TAP=$work/tap
	tests=("${tests[@]/#/test/t/}")
	installcheck REGRESS= ISOLATION= PROVE_TESTS="${tests[*]/%/.pl}" || status=$?
	count_tap "$status"
}

run_demo() {
	heading 'The demo'
	if bash "$root/test/demo.sh"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
	command -v terraform >/dev/null || skipped=$((skipped + 1))
}

case $kind in
	all)
		kinds=(regress isolation tap demo)
		;;
	regress | isolation | tap | demo)
		kinds=("$kind")
		;;
	*)
		die "no tests are of the kind $kind"
		;;
esac

prepare
heading 'Building tfstate'
build COPT=-Werror
start_server
for kind in "${kinds[@]}"; do
	"run_$kind"
done

summary="$passed passed, $failed failed"
((skipped == 0)) || summary+=", $skipped skipped"
printf '\n%s\n' "$summary"
((failed == 0 && passed > 0))
