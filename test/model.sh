#!/bin/bash
# test/model.sh [short]
#
# Explores the models of the lock protocol, test/model/lock.pml, and of the entries of locks in
# session mode, test/model/session.pml, state by state: several choices of what sessions do
# and what fails, each exhaustively.  Then puts one deliberate bug after the other into the
# models, each of which must be detected.  Prints the number of states of each choice.
# "short" leaves out the larger choices and takes a minute; all take a few minutes.
#
# A choice fails if it violates a property of the model, or if the search was not complete.  A
# step of the protocol that no choice reaches is a failure, too (not with "short").
#
# The last line is the count of all tests; the exit status is 0 only if none failed.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"

passed=0 failed=0
model=lock
memory=3500 depth=1000000	# at most: MB, steps
optimize=-O0	# compiling takes longer than a small search

# The choices: macros to be set to 1, or NAME=NUMBER
small=(
	'SESSION_MODE CANCELS ENDS POLLS SESSIONS=2'
	'SESSION_MODE DISCARDS CANCELS POLLS SESSIONS=2 OPERATIONS=2'
	'SESSION_MODE FORCES ENDS CANCELS POLLS SESSIONS=2 OPERATIONS=2'
	'DURABLE_MODE LEASES CANCELS POLLS SESSIONS=2'
	'SESSION_MODE DURABLE_MODE CRASHES POLLS SESSIONS=2'
	'SESSION_MODE'
	'DURABLE_MODE CANCELS ENDS POLLS SESSIONS=2'
	'SESSION_MODE PREPARES DISCARDS SESSIONS=2'
	'DURABLE_MODE POLLS'
	'SERVED SESSION_MODE DURABLE_MODE SESSIONS=2'
)
large=(
	'SERVED DURABLE_MODE'
	'DURABLE_MODE PREPARES POLLS SESSIONS=2'
	'SESSION_MODE CANCELS ENDS POLLS'
	'SESSION_MODE FORCES ENDS POLLS'
	'SESSION_MODE DURABLE_MODE POLLS'
	'DURABLE_MODE FORCES CANCELS POLLS'
	'DURABLE_MODE LEASES CRASHES POLLS SESSIONS=2'
)

# The bugs, each with the choice that has to detect it
bugs=(
	'UNLOCK_EARLY SESSION_MODE CANCELS POLLS SESSIONS=2'
	'WAKE_EARLY DURABLE_MODE POLLS SESSIONS=2'
	'LOOK_BEFORE_RESET DURABLE_MODE POLLS SESSIONS=2'
	'NO_LOOK_AFTER_WAIT DURABLE_MODE POLLS SESSIONS=2'
	'NO_WAKE SERVED DURABLE_MODE SESSIONS=2'
	'REQUEUE DURABLE_MODE POLLS'
	'RECLAIM_LIVING SESSION_MODE SESSIONS=2'
	'OWNER_BY_PID SESSION_MODE DISCARDS SESSIONS=2'
	'PROMOTION_STAYS SESSION_MODE CANCELS SESSIONS=2'
	'TAKE_CHANGING SESSION_MODE FORCES CANCELS ENDS POLLS SESSIONS=2'
	'TERMINATE_NO_WAIT SESSION_MODE FORCES SESSIONS=2'
	'PREPARE_SESSION SESSION_MODE PREPARES SESSIONS=2'
	'NO_SYNC DURABLE_MODE CRASHES POLLS SESSIONS=2'
	'FENCE_WITHOUT_TAG DURABLE_MODE POLLS SESSIONS=2'
	'FENCE_NOT_FLUSHED SESSION_MODE CRASHES SESSIONS=2'
)

# The same for the model of the entries of locks in session mode
session_small=(
	'OPERATIONS=2'
	'FORCES ENDS'
	'WRITES DISCARDS'
	'SAVEPOINTS OPERATIONS=2'
	'DURABLE_MODE ENDS DISCARDS'
)
session_large=(
	'FORCES ENDS WRITES DURABLE_MODE DISCARDS'
	'FORCES ENDS OPERATIONS=2'
	'WRITES ENDS OPERATIONS=2'
	'DISCARDS ENDS OPERATIONS=2'
	'DURABLE_MODE ENDS OPERATIONS=2'
	'SAVEPOINTS OPERATIONS=3'
	'FORCES WRITES SAVEPOINTS OPERATIONS=2'
)
session_bugs=(
	'NO_END_TAG FORCES'
	'NO_SECOND_LOOK FORCES'
	'NO_FENCE FORCES OPERATIONS=2'
	'END_TRIED WRITES ENDS'
	'FREED_AT_ONCE'
	'PENDING_REMOVED'
	'PIN_NO_TAG WRITES'
	'PIN_NO_LOOK WRITES'
	'SHOWN_IN_BETWEEN OPERATIONS=2'
	'ROLLBACK_STAYS'
	'SAVEPOINT_STAYS SAVEPOINTS OPERATIONS=2'
	'SAVEPOINT_ENDS SAVEPOINTS OPERATIONS=2'
	'PUBLISHED_FIRST OPERATIONS=2'
	'TAGS_FIRST'
)

# The bugs of the model of commands inside a holding.
inner_bugs=(NO_INNER ENDS_HOLDING TRUSTS_LOOK)

# Compiles the model with the named macros, and explores it; the explorer's report is in
# output, and its states are in listing.  With SERVED it also looks for infinite fair runs that
# violate the formula.
explore() {
	local macro macros=() search=() safety=(-DSAFETY)
	for macro in "$@"; do
		[[ $macro == *=* || $macro == BUG_* ]] || macro+='=1'
		macros+=("-D$macro")
	done
	rm -rf "$work/model"
	mkdir "$work/model"
	cd "$work/model"
	cp "$root/test/model/$model.pml" .
	quietly spin -a -o3 "${macros[@]}" "$model.pml"
	[[ $* != *SERVED* ]] || search=(-a -f) safety=(-DNFAIR=3)
	quietly gcc "$optimize" -w "${safety[@]}" -DCOLLAPSE -DVECTORSZ=512 "-DMEMLIM=$memory" -o pan pan.c
	./pan "-m$depth" "${search[@]}" >output 2>&1 || true
	./pan -d >listing
}

# Returns true if everything was explored without an error.
is_complete() {
	grep -q 'errors: 0$' output && ! grep -Eiq '^error|out of memory|not completed|too small' output
}

# Returns true if a property of the model was violated.
is_violation() {
	grep -Eq 'assertion violated|invalid end state \(|acceptance cycle \(' output
}

# Prints how many states were explored.
states() {
	awk '/states, stored/ { printf "%10d states", $1 }' output
}

# Counts and prints a result: ok or FAILED, and of what.
result() {
	if [[ $1 == ok ]]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
	printf '%-6s  %s\n' "$1" "$2"
}

# Adds the lines of the model that were reached to the file $work/reached.$model, and all that
# can be reached to $work/lines.$model.
note_reached() {
	awk -v place="$model.pml:" '
		/^proctype/ || /^init/ { process = $NF }
		FNR == NR && /^unreached in / { process = $NF }
		FNR == NR && match($0, /state [0-9]+/) && index($0, "\t" place) == 1 { unreached[process, substr($0, RSTART + 6, RLENGTH - 6)]; next }
		FNR < NR && /^\tstate/ && !/-end-/ && (start = index($0, place)) > 0 {
			line = substr($0, start + length(place)) + 0
			print line >> lines
			if (!((process, $2) in unreached))
				print line >> reached
		}' lines="$work/lines.$model" reached="$work/reached.$model" output listing
}

# Prints the lines that no choice has reached.
unreached_lines() {
	comm -23 <(sort -u "$work/lines.$model") <(sort -u "$work/reached.$model") | sort -n | while read -r line; do
		sed -n "$line{/never reached/!s/^/$model.pml:$line: /p}" "$root/test/model/$model.pml"
	done
}

explore_choices() {
	local choice
	for choice in "$@"; do
		# shellcheck disable=SC2086
		explore $choice
		if is_complete; then
			result ok "$(states)  $choice"
		else
			result FAILED "$(states)  $choice"
			grep -E '^(error|pan)|errors:' output || true
		fi
		[[ $model == inner || $choice == SERVED* ]] || note_reached
	done
}

check_reached() {
	local lines
	lines=$(unreached_lines)
	if [[ -n $lines ]]; then
		result FAILED 'every step is reached'
		printf '%s\n' "$lines"
	else
		result ok 'every step is reached'
	fi
}

# Explores choices that have many states, and checks that each step was reached.
explore_long() {
	local optimize=-O1 depth=10000000
	explore_choices "$@"
	check_reached
}

explore_bugs() {
	local bug
	for bug in "$@"; do
		# shellcheck disable=SC2086
		explore BUG_$bug
		if is_violation; then
			result ok "$bug: $(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' output | cut -c 1-60)"
		else
			result FAILED "$bug: not seen"
		fi
	done
}

form=${1:-long}
[[ $form == long || $form == short ]] || die "there is no form $form"
make_work_directory
install_missing model

heading 'The protocol'
explore_choices "${small[@]}"
[[ $form == short ]] || explore_long "${large[@]}"
heading 'Deliberate bugs'
explore_bugs "${bugs[@]}"

model=session
heading 'The entries of locks in session mode'
explore_choices "${session_small[@]}"
[[ $form == short ]] || explore_long "${session_large[@]}"
heading 'Deliberate bugs'
explore_bugs "${session_bugs[@]}"

model=inner
heading 'Commands inside a holding, and deliberate bugs'
explore_choices ''
explore_bugs "${inner_bugs[@]}"
printf '\n%s passed, %s failed\n' $passed $failed
((failed == 0 && passed > 0))
