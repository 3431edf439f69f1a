#!/bin/bash
# bench/scale.sh [SIZE ...]
#
# Measures how what administrators call grows with an installation.  In a database of its own
# for each SIZE (10 30 100 300 by default) there are SIZE attached tables for a group with a
# third as many members that log in, and one table with 33 times as many workspaces, each with
# a state of 10 kB.  Prints a line for each SIZE, with times in milliseconds:
#
# table		attach a new table for the group, one of SIZE
# states	attach the table with the workspaces
# readers	how long a reader of that table waits meanwhile, at most
# role		attach one more role to it
# check		check everything
# lock		take and release a lock as a member of the group, one of 1,000
# prune		remove one of the two versions of each of twice as many workspaces, in batches

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../test/lib/setup.sh"

(($# > 0)) || set -- 10 30 100 300
prepare
# shellcheck disable=SC2119
build
start_server "fsync = on"

sql() {
	"$bindir/psql" -X -v ON_ERROR_STOP=1 -qAt "$@"
}

# Prints how long the statements from standard input take in the database, in milliseconds.
time_of() {
	{
		echo '\timing on'
		cat
	} | sql -d "$1" -o /dev/null | awk '/^Time:/ { sum += $2 } END { printf "%.1f\n", sum }'
}

# Prints the longest time that a reader of the table waits, until it is stopped.
slowest_read() {
	while [[ -e $work/reading ]]; do
		echo "SELECT data FROM big.states WHERE name = 'w1';"
	done | { echo '\timing on' && cat; } | sql -d "$1" | awk '/^Time:/ && $2 > most { most = $2 } END { print most }'
}

measure() {
	local size=$1 members=$(($1 / 3)) workspaces=$(($1 * 33)) db=size_$1 table states readers role check lock prune
	sql -c "CREATE DATABASE $db"
	sql -d "$db" -c 'CREATE EXTENSION tfstate' -c "CREATE ROLE group_$size" -f - <<-END
		SELECT format('CREATE ROLE member_${size}_%s LOGIN IN ROLE group_$size', i) FROM generate_series(1, $members) i \gexec
		SELECT format('CREATE SCHEMA s%s', i) FROM generate_series(1, $size) i \gexec
		CREATE SCHEMA big;
		CREATE SEQUENCE public.global_states_id_seq AS bigint;
		CREATE TABLE big.states (id bigint PRIMARY KEY DEFAULT nextval('public.global_states_id_seq'), name text UNIQUE, data text);
		INSERT INTO big.states (name, data)
		SELECT 'w' || i, format('{"version":4,"serial":1,"lineage":"a","resources":[],"x":"%s"}', string_agg(md5((i * j)::text), ''))
		  FROM generate_series(1, $workspaces) i, generate_series(1, 320) j GROUP BY i;
	END
	table=$(time_of "$db" <<<"DO \$\$ BEGIN FOR i IN 1..$size LOOP PERFORM tfstate_attach('s' || i, role => 'group_$size'); END LOOP; END \$\$;")
	touch "$work/reading"
	slowest_read "$db" >"$work/slowest" &
	states=$(time_of "$db" <<<"SELECT tfstate_attach('big');")
	rm "$work/reading"
	wait
	readers=$(cat "$work/slowest")
	role=$(time_of "$db" <<<"SELECT tfstate_attach('big', role => 'group_$size');")
	check=$(time_of "$db" <<<'SELECT count(*) FROM tfstate_check();')
	lock=$(PGUSER=member_${size}_1 time_of "$db" <<<"SELECT count(tfstate_lock('s1.states/default', '{\"ID\": \"1\"}')), count(tfstate_unlock('s1.states/default', '1')) FROM generate_series(1, 1000);")
	sql -d "$db" <<-END
		INSERT INTO tfstate_internal.stored_version (lockid, number, operation, created, size, chain, content)
		SELECT format('s1.states/old%s', i), n, 'write', '2020-01-01', 2, 0, '{}'
		  FROM generate_series(1, $((2 * workspaces))) i, generate_series(1, 2) n;
	END
	prune=$(time_of "$db" <<<"CALL tfstate_prune_in_batches('s1.states/old*', keep_age => '1 day');")
	printf '%6d %8d %10d %8.1f %8.1f %8.1f %8.1f %8.1f %8.3f %8.1f\n' "$size" "$members" "$workspaces" \
		"$(awk "BEGIN { print $table / $size }")" "$states" "$readers" "$role" "$check" \
		"$(awk "BEGIN { print $lock / 1000 }")" "$prune"
}

printf '%6s %8s %10s %8s %8s %8s %8s %8s %8s %8s\n' tables members workspaces table states readers role check lock prune
for size in "$@"; do
	measure "$size"
done
