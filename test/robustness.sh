#!/bin/bash
# test/robustness.sh [MINUTES [SEED]]
# test/robustness.sh bugs [NAME ...]
#
# Many clients lock at random while clients, backends, server, network, disks and clock fail,
# or a cluster under Patroni fails over, and checkers look for violations of what tfstate
# promises (see robustness/).  Prints a table of operations, faults and violations; the exit
# status is 1 if there was a violation.  There is at least one round of each kind, which takes
# about five minutes, and then as many more as MINUTES allow.
#
# In rounds of the kind "failover async" the standbys are asynchronous, and what the table
# shows as lost is not a violation.
#
# The second form applies each patch in robustness/bugs, or the named ones, to a copy of the
# sources, and runs until a violation is found, for at most MINUTES (4 by default), in the
# rounds that the head of the patch names or in all.  Its exit status is 1 if a bug was not
# found.
#
# From the environment: ROUNDS names the kinds of rounds, separated by commas; KEEP is a
# directory for the logs of rounds with violations; FIRST=1 stops at the first of them; SEED
# and MINUTES.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"

# Mounts the disks that get full, which only root can.
make_disks() {
	((EUID == 0)) || return 0
	as_user mkdir "$work/data" "$work/wal"
	mount -t tmpfs -o "size=600m,mode=700,uid=$user" tmpfs "$work/data"
	mount -t tmpfs -o "size=96m,mode=700,uid=$user" tmpfs "$work/wal"
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
		tfstate.max_session_locks = 50
		tfstate.history = all
		tfstate.history_count = -1
		tfstate.history_age = -1
	END
	as_user "$bindir/pg_ctl" -D "$work/data" -s -m fast stop
}

# Runs rounds in the background, so that a signal to this script ends them at once.
run_rounds() {
	in_background as_user env PYTHONDONTWRITEBYTECODE=1 python3 "$source/test/robustness/run.py" \
		--directory "$work" --bindir "$bindir" --faketime "$(find_faketime)" "${disks[@]}" "${options[@]}" "$@"
	wait $!
}

disks=() initdb_options=(--wal-segsize=1)
prepare robustness

# Runs with one bug until it is found, and prints a line about it.
find_bug() {
	local name=$1 start=$SECONDS rounds
	as_user patch -s -F0 -p1 -d "$source" <"$source/test/robustness/bugs/$name.patch" || die "$name does not apply"
	rebuild
	rounds=$(sed -n 's/^Rounds: //p' "$source/test/robustness/bugs/$name.patch")
	run_rounds --first --rounds "${ROUNDS:-$rounds}" >"$work/output" 2>&1 && failed=$((failed + 1))
	grep -q '^[0-9]* violations' "$work/output" || { cat "$work/output" >&2 && die 'the driver failed'; }
	[[ -z ${KEEP:-} ]] || cp "$work/output" "$KEEP/$name.out"
	as_user patch -s -R -F0 -p1 -d "$source" <"$source/test/robustness/bugs/$name.patch"
	printf '%-22s %4d s  %s\n' "$name" $((SECONDS - start)) "$(awk '
		/^round/ { round = $0; sub(/^[^(]*[(]/, "", round); sub(/[)].*/, "", round) }
		/^violations/ { inside = 1; next }
		inside && NF >= 2 && /^  / { $1 = $1; all = all (all ? ", " : round ": ") $0 }
		END { print all }' "$work/output")"
}

# Checks that all patches apply, because one that does not is no longer looked for.
check_bugs() {
	local bug
	for bug in "$source"/test/robustness/bugs/*.patch; do
		quietly as_user patch -s -F0 -p1 --dry-run -d "$source" -i "$bug"
	done
}

heading 'Building tfstate'
build COPT=-Werror
make_disks
start_server
configure_server

options=()
[[ -z ${KEEP:-} ]] || options+=(--keep "$KEEP")
if [[ ${1:-} == bugs ]]; then
	heading 'Deliberate bugs'
	failed=0
	bugs=("${@:2}")
	((${#bugs[@]} > 0)) || mapfile -t bugs < <(cd "$source/test/robustness/bugs" && ls -- *.patch)
	options+=(--minutes "${MINUTES:-4}")
	[[ -z ${SEED:-} ]] || options+=(--seed "$SEED")
	for bug in "${bugs[@]}"; do
		find_bug "${bug%.patch}"
	done
	printf '\n%d bugs found, %d not\n' $((${#bugs[@]} - failed)) "$failed"
	((failed == 0))
else
	check_bugs
	heading 'Locking under faults'
	options+=(--minutes "${1:-${MINUTES:-0}}")
	[[ -z ${2:-${SEED:-}} ]] || options+=(--seed "${2:-$SEED}")
	[[ -z ${ROUNDS:-} ]] || options+=(--rounds "$ROUNDS")
	[[ -z ${FIRST:-} ]] || options+=(--first)
	run_rounds
fi
