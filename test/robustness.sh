#!/bin/bash
# test/robustness.sh [MINUTES [SEED]]
#
# Many clients lock at random while clients, backends, server, network, disks and clock fail, and
# checkers look for broken promises (see robustness/).  Prints a table of operations,
# faults and violations; the exit status is 1 if there was a violation.  2 minutes by default.
#
# ROUNDS names the kinds of rounds, with commas between them; KEEP names a directory for the logs
# of rounds with violations; FIRST=1 stops at the first of them.

set -euo pipefail
# shellcheck source=test/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Files on which a disk can be full: only root can mount them.
make_disks() {
	((EUID == 0)) || return 0
	as_user mkdir "$work/data" "$work/wal"
	mount -t tmpfs -o size=600m,mode=700,uid=postgres tmpfs "$work/data"
	mount -t tmpfs -o size=96m,mode=700,uid=postgres tmpfs "$work/wal"
	disks=(--wal-disk "$work/wal" --data-disk "$work/data")
	initdb_options+=(--waldir="$work/wal/pg_wal")
}

configure_server() {
	as_user tee -a "$work/data/postgresql.conf" >/dev/null <<-END
		max_connections = 60
		max_locks_per_transaction = 16
		max_wal_size = 24MB
		min_wal_size = 8MB
		wal_writer_delay = 5s
		deadlock_timeout = 200ms
		tfstate.history = all
		tfstate.history_count = -1
		tfstate.history_age = -1
	END
	as_user "$bindir/pg_ctl" -D "$work/data" -s -m fast stop
}

run_rounds() {
	as_user env PYTHONDONTWRITEBYTECODE=1 python3 "$source/test/robustness/run.py" --directory "$work" \
		--bindir "$bindir" --faketime "$faketime" "${disks[@]}" "$@"
}

disks=() initdb_options=(--wal-segsize=1)
prepare pgbouncer python3
python3 -c 'import psycopg2' 2>/dev/null || apt_install python3-psycopg2
faketime=$(find /usr/lib -name libfaketime.so.1 | head -n 1)
[[ -n $faketime ]] || { apt_install libfaketime && faketime=$(find /usr/lib -name libfaketime.so.1 | head -n 1); }

heading 'Building tfstate'
build COPT=-Werror
make_disks
start_server
configure_server

heading 'Locking under faults'
options=(--minutes "${1:-2}")
[[ -z ${2:-} ]] || options+=(--seed "$2")
[[ -z ${ROUNDS:-} ]] || options+=(--rounds "$ROUNDS")
[[ -z ${KEEP:-} ]] || options+=(--keep "$KEEP")
[[ -z ${FIRST:-} ]] || options+=(--first)
run_rounds "${options[@]}"
