#!/bin/bash
# bench/instructions.sh [DIRECTORY]
#
# Counts the instructions of a backend for a lock and its unlock, and for a try
# that fails, for tfstate and for what PostgreSQL itself has, each in a database of
# its own.  The backend runs in single-user mode under callgrind, which is slow but
# gives the same counts each time, within a few percent, whatever else the machine
# does, so that two commits can be compared.  The cost of statements that lock
# nothing is subtracted.
#
# The profiles are written into the directory (tfstate-instructions by default),
# for callgrind_annotate.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../test/lib/setup.sh"

output=${1:-tfstate-instructions}
[[ $output == /* ]] || output=$PWD/$output
few=100 many=300 # what both have in common is not counted
nothing=0

# Runs the statements from standard input, one per line, in the database $1, under the
# command from $2 on.
single_user() {
	as_user "${@:2}" "$bindir/postgres" --single -D "$work/data" -c log_min_messages=error \
		-c autovacuum=off "$1" >"$work/log" 2>&1
	! grep -E 'ERROR|FATAL|PANIC|Fatal' "$work/log" >&2 || die 'a statement fails'
}

# Prints the instructions for the statement $2 followed by $3 times the statements from
# $4 on, each one a line.  $1 names the database and the profile.
instructions() {
	local i
	{
		echo "$2"
		for ((i = 0; i < $3; i++)); do printf '%s\n' "${@:4}"; done
	} >"$work/statements"
	# not in a pipe: a failure there would not end the script
	single_user "$1" valgrind --tool=callgrind --callgrind-out-file="$work/$1.$3" <"$work/statements"
	sed -n 's/.*Collected : //p' "$work/log"
}

# Prints a line of the table: its name, and the arguments of instructions.
count() {
	local name=${1// /-} less more each
	single_user postgres <<<"CREATE DATABASE \"$name\""
	less=$(instructions "$name" "$2" $few "${@:3}")
	more=$(instructions "$name" "$2" $many "${@:3}")
	each=$(((more - less) / (many - few)))
	if [[ $1 == nothing* ]]; then nothing=$each; else printf '%-24s %8d\n' "$1" $((each - nothing)); fi
	cp "$work/$name.$many" "$output/$name"
}

prepare valgrind
mkdir -p "$output"
# shellcheck disable=SC2119
build
start_server
"$bindir/psql" -qX -v ON_ERROR_STOP=1 -d template1 -o "$work/log" \
	-c 'CREATE EXTENSION tfstate' -f "$root/bench/peers.sql" -f - <<-'END'
	CREATE ROLE one_grant;
	CREATE ROLE many_grants;
	SELECT tfstate_grant('one_grant', 'bench/*');
	SELECT count(tfstate_grant('many_grants', 'other' || i || '.states/*')) FROM generate_series(1, 20000) i;
	SELECT tfstate_grant('many_grants', 'bench/*');
END
as_user "$bindir/pg_ctl" -D "$work/data" -s -m fast stop

lock='PREPARE lock(text) AS SELECT id FROM tfstate_try_lock($1'
unlock='PREPARE unlock(text) AS SELECT tfstate_unlock($1);'
pair=("EXECUTE lock('bench/1');" "EXECUTE unlock('bench/1');")
heading 'Instructions for a lock and its unlock'
count nothing "PREPARE lock(text) AS SELECT ''; PREPARE unlock(text) AS SELECT '';" "${pair[@]}"
count advisory "PREPARE lock(text) AS SELECT '' WHERE pg_try_advisory_lock(1);
PREPARE unlock(text) AS SELECT pg_advisory_unlock(1);" "${pair[@]}"
count sql "PREPARE lock(text) AS INSERT INTO own_lock (lockid) VALUES (\$1) ON CONFLICT DO NOTHING RETURNING id;
PREPARE unlock(text) AS DELETE FROM own_lock WHERE lockid = \$1;" "${pair[@]}"
count plpgsql "PREPARE lock(text) AS SELECT own_lock(\$1, false);
PREPARE unlock(text) AS SELECT own_unlock(\$1, (SELECT id FROM own_lock WHERE lockid = \$1));" "${pair[@]}"
count session "$lock, mode => 'session') WHERE locked; $unlock" "${pair[@]}"
count 'durable without history' "SET tfstate.history = none; $lock) WHERE locked; $unlock" "${pair[@]}"
count durable "$lock) WHERE locked; $unlock" "${pair[@]}"
count 'durable, one grant' "SET ROLE one_grant; $lock) WHERE locked; $unlock" "${pair[@]}"
count 'durable, 20,000 grants' "SET ROLE many_grants; $lock) WHERE locked; $unlock" "${pair[@]}"

heading 'Instructions for a try that fails'
count 'nothing, tried' "PREPARE lock(text) AS SELECT '';" "${pair[0]}"
count 'durable, tried' "$lock) WHERE locked; EXECUTE lock('bench/1');" "${pair[0]}"
printf '\nThe profiles are in %s.\n' "$output"
