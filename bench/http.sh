#!/bin/bash
# bench/http.sh [ROUNDS [BYTES]]
#
# Compares tfstate serve with the same statements through libpq: LOCK, GET and POST of a
# state of so many bytes (a million by default), UNLOCK, with connections that are kept.  Both
# take turns, 200 rounds by default.  Prints the median times in microseconds, and the
# quotient.  Then 200 clients do the same at once, each three times, and the peak of the
# server's memory is printed, too.  The data is on a real disk.  Nothing else should run on
# the machine.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../test/lib/setup.sh"

rounds=${1:-200} bytes=${2:-1000000} clients=200
# not below /tmp, which may be in memory
work_parent=/var/tmp

# Prints what the kernel says of the memory of a process, in MB.
memory() {
	awk -v key="$2:" '$1 == key { printf "%d MB\n", $2 / 1024 }' "/proc/$1/status"
}

prepare libmicrohttpd-dev
heading 'Building tfstate and the client'
# shellcheck disable=SC2119
build
quietly gcc -O2 -Wall -I"$("$PG_CONFIG" --includedir)" -I/usr/include/postgresql -o "$work/http" "$root/bench/http.c" \
	-L"$("$PG_CONFIG" --libdir)" -lpq -lgnutls -lpthread
start_server 'fsync = on'
"$bindir/psql" -X -v ON_ERROR_STOP=1 -q >"$work/log" <<-END
	CREATE EXTENSION tfstate;
	CREATE ROLE bench LOGIN PASSWORD 'bench';
	CREATE SCHEMA bench;
	CREATE SEQUENCE public.global_states_id_seq AS bigint;
	CREATE TABLE bench.states (id bigint PRIMARY KEY DEFAULT nextval('public.global_states_id_seq'), name text UNIQUE, data text);
	INSERT INTO bench.states (name, data)
	SELECT 'w' || i, '{"version":4,"serial":1,"lineage":"","outputs":{},"resources":[]}' FROM generate_series(1, $clients + 2) i;
	SELECT tfstate_attach('bench', role => 'bench');
END
export HTTP_PORT PGHOST=127.0.0.1 PGUSER=bench PGPASSWORD=bench
in_background as_user "$bindir/tfstate-http" serve -d postgres --listen 127.0.0.1:0 2>"$work/http.log"
until HTTP_PORT=$(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' "$work/http.log") && [[ -n $HTTP_PORT ]]; do sleep 0.1; done
server=$(pgrep -P $!) || server=$!

heading "$rounds rounds, state of $bytes bytes"
printf '%-8s %8s %8s %8s\n' request libpq http quotient
"$work/http" "$rounds" "$bytes"
heading "$clients clients at once"
printf 'memory before: %s\n' "$(memory "$server" VmRSS)"
"$work/http" 3 "$bytes" "$clients"
printf 'memory at its peak: %s, after it: %s\n' "$(memory "$server" VmHWM)" "$(memory "$server" VmRSS)"
