#!/bin/bash
# test/all.sh [regress|isolation|tap|robustness|model|demo [NAME ...]]
#
# Runs all tests, or those of one kind, or the named ones of that kind (bash test/all.sh tap
# 110_crash).  Builds and installs first; the regression and isolation tests get a throwaway
# server, the others start their own.  Each kind of round of test/robustness.sh counts as a
# test.
#
# At the end it lists what was skipped and what failed; the last line is the count of all
# tests, and the exit status is 0 only if some ran and none failed.
#
# From the environment: TERRAFORM, the terraform or tofu to run, by default terraform in the
# PATH (test/clients.sh runs several); SETTINGS, further lines for the throwaway server's
# postgresql.conf; RELEASED_SOURCE, a directory with the source of the last release, which is
# otherwise taken from the history of the checkout.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"

passed=0 failed=0 skipped=0
kind=${1:-all}
names=("${@:2}")

# Sets tests to the names of the files in $1 with the ending $2, or to those among the
# arguments of this script.  Fails if there are none.
find_tests() {
	tests=("${names[@]}")
	if ((${#tests[@]} == 0)); then
		mapfile -t tests < <(cd "$source" && printf '%s\n' "$1"/*"$2" | grep -Ev '/(tfstate--.*|\*)[.][a-z]+$' |
			sed "s,.*/\(.*\)$2\$,\1,")
	fi
	((${#tests[@]} > 0))
}

# Keeps what $work/output says about failures for the end: the lines that match a pattern and
# the errors of scripts and the shell, or else its last lines.
keep_failures() {
	grep -E "$1|^[^ ]*[.]sh: |^env: |command not found" "$work/output" >>"$work/failures" ||
		tail -n 20 "$work/output" >>"$work/failures"
}

# Counts the test $1 as skipped, and keeps the reason for the end.
skip() {
	skipped=$((skipped + 1))
	printf '%s\t%s\n' "$1" "$2" >>"$work/skips"
}

# Runs make installcheck with the arguments, and keeps its output in $work/output.
installcheck() {
	as_user "${make[@]}" --no-print-directory -s installcheck "$@" 2>&1 | tee "$work/output"
}

# Adds the counts of pg_regress; if tests failed, shows the differences in the file $1.
count_regress() {
	local output
	output=$(<"$work/output")
	if [[ $output =~ All\ ([0-9]+)\ tests\ passed ]]; then
		passed=$((passed + BASH_REMATCH[1]))
	elif [[ $output =~ ([0-9]+)\ of\ ([0-9]+)\ tests\ failed ]]; then
		failed=$((failed + BASH_REMATCH[1]))
		passed=$((passed + BASH_REMATCH[2] - BASH_REMATCH[1]))
		cat "$1"
		keep_failures '^not ok|[.]{3} FAILED'
		head -n 60 "$1" >>"$work/failures"
	else
		failed=$((failed + 1))
		keep_failures '^(ERROR|FATAL|error|make)'
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

# Adds the tests in the TAP below $work/tap that did not fail.
count_tap() {
	local ok name reason
	while read -r ok name reason; do
		passed=$((passed + ok))
		[[ -z $name ]] || skip "$name" "$reason"
	done < <(find "$work/tap" -type f -exec awk '
		/^(ok .*|1\.\.0 *)# *[Ss][Kk][Ii][Pp]/ {
			name = FILENAME
			gsub(/.*\/|\.pl$/, "", name)
			sub(/^[^#]*# *[^ ]* */, "")
			print 0, name, $0
			next
		}
		/^ok / || /^not ok .*# *TODO/ { ok++ }
		END { print ok + 0 }' {} +)
}

# Adds the failures that prove reports by file, and shows the logs of these files.  A file
# that fails without a failed test counts as one.
count_tap_failures() {
	local name count before=$failed
	keep_failures '^#|[(]Wstat: |^  (Failed test|Parse error|Non-zero)'
	while read -r name count; do
		failed=$((failed + (count > 0 ? count : 1)))
		tail -n 100 "$source/tmp_check/log/"*"$name"* || true # none, if it cannot be compiled
	done < <(sed -En 's,^test/t/(.*)[.]pl .*\(Wstat: .* Failed: ([0-9]+)\)$,\1 \2,p' "$work/output")
	((failed > before)) || failed=$((failed + 1))
}

run_tap() {
	local status=0 before=$((passed + skipped))
	find_tests test/t .pl || return 0
	find_released
	heading 'TAP tests'
	as_user mkdir "$work/tap"
	export PERL_TEST_HARNESS_DUMP_TAP=$work/tap
	tests=("${tests[@]/#/test/t/}")
	# two at a time: each has a server of its own, and most of them wait for most of their time
	installcheck REGRESS= ISOLATION= PROVE_FLAGS=-j2 PROVE_TESTS="${tests[*]/%/.pl}" || status=$?
	count_tap
	# a PostgreSQL may be built without TAP tests
	((passed + skipped > before)) || status=1
	((status == 0)) || count_tap_failures
}

# Each round reports its violations; a run without its last line has failed, too.
run_robustness() {
	local ok bad round reason
	heading 'Robustness'
	ROUNDS=$(IFS=, && echo "${names[*]}") bash "$root/test/robustness.sh" 2>&1 | tee "$work/output" || true
	read -r ok bad < <(awk '
		/^round .*, 0 violations$/ { ok++; next }
		/^round / { bad++ }
		/ violations \(seed / { ended = 1 }
		END { print ok + 0, bad + !ended }' "$work/output")
	passed=$((passed + ok))
	failed=$((failed + bad))
	((bad == 0)) || keep_failures '^round .* [1-9][0-9]* violations$|^  [a-z ]+: '
	while IFS='"' read -r _ round reason; do
		skip "robustness $round" "${reason# }"
	done < <(grep '^skipped: round' "$work/output")
}

run_model() {
	heading 'The model'
	bash "$root/test/model.sh" short 2>&1 | tee "$work/output" || true
	if [[ $(tail -n 1 "$work/output") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
		passed=$((passed + BASH_REMATCH[1]))
		failed=$((failed + BASH_REMATCH[2]))
		((BASH_REMATCH[2] == 0)) || keep_failures '^FAILED'
	else
		failed=$((failed + 1))
		keep_failures '^FAILED'
	fi
}

run_demo() {
	heading 'The demo'
	if bash "$root/test/demo.sh" 2>&1 | tee "$work/output"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		keep_failures '^expected here'
	fi
	command -v "$terraform" >/dev/null || skip 'the runs of Terraform in the demo' 'terraform is not installed'
}

case $kind in
	all)
		kinds=(regress isolation tap robustness model demo)
		;;
	regress | isolation | tap | robustness | model | demo)
		kinds=("$kind")
		;;
	*)
		die "no tests are of the kind $kind"
		;;
esac

prepare "${kinds[@]}"
heading 'Building tfstate'
build COPT=-Werror
start_server ${SETTINGS:+"$SETTINGS"}
for kind in "${kinds[@]}"; do
	before=$failed
	"run_$kind"
	((failed == before)) || printf '%s: %d failed\n' "$kind" $((failed - before)) >>"$work/failures"
done

if [[ -s $work/skips ]]; then
	heading 'What was skipped'
	sort -u "$work/skips" | awk -F '\t' '
		{ names[$2] = names[$2] (names[$2] ? ", " : "") $1 }
		END { for (reason in names) print reason ": " names[reason] }' | fold -s -w 100
fi
if [[ -s $work/failures ]]; then
	heading 'What failed'
	cat "$work/failures"
fi
summary="$passed passed, $failed failed"
((skipped == 0)) || summary+=", $skipped skipped"
printf '\n%s\n' "$summary"
((failed == 0 && passed > 0))
