#!/bin/bash
# test/upgrade.sh [OLD-NEW ...]
#
# Upgrades clusters with locks, states and versions with pg_upgrade, from each major of
# PostgreSQL to each later one that can be reached, or as named (15-18), and checks that all is there and still
# works.  One database has the first version of the extension that there is a script of, which
# is updated after the upgrade.
#
# The majors are in a system of its own, as for test/majors.sh.  From the environment: SYSTEMS,
# a directory that keeps the system for the next run (otherwise it is removed); MIRROR, another
# mirror of Debian.  Needs root and the network; each pair takes about a minute.
#
# The last line is the count of all tests; the exit status is 0 only if none failed.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"
# shellcheck source=test/lib/debian.sh
source "$root/test/lib/debian.sh"

#
# Outside: making the system
#

outside() {
	((EUID == 0)) || die "only root can make a system of its own"
	make_work_directory
	system=${SYSTEMS:-$work}/majors
	mkdir -p "$system"
	heading 'Making a system with all majors (this takes some minutes)'
	make_majors "$system"
	there=$(mktemp -d "$system/srv/tfstate.XXXXXX")
	copy_checkout "$there"
	in_system "$system" bash "${there#"$system"}/test/upgrade.sh" --inside "$@" || status=$?
	rm -rf "$there"
	exit ${status:-0}
}

#
# Inside: the upgrade
#

# Sets bindir to the programs of a major, in the copy of it, and data to the cluster of that
# major in this upgrade.
use_major() {
	bindir=$(dirname "$work/postgresql$(pg_config_of "$1")")
	data=$work/$trial/$1
}

# Copies a major and installs tfstate into the copy, once.
install_major_copy() {
	PG_CONFIG=$(pg_config_of "$1")
	[[ ! -e $work/postgresql$PG_CONFIG ]] || return 0
	copy_postgresql
	copy_source
	make+=(WITHOUT_CLIENT=1)
	rebuild COPT=-Werror
	rm -rf "$source"
}

make_clusters() {
	local major
	as_user mkdir "$work/$trial"
	for major in $old $new; do
		install_major_copy "$major"
		use_major "$major"
		quietly as_user "$bindir/initdb" -D "$data" -U postgres -E UTF8 --locale=C --no-sync -A trust \
			--data-checksums --no-instructions
		as_user tee -a "$data/postgresql.conf" >/dev/null <<-END
			listen_addresses = ''
			unix_socket_directories = '$work'
			fsync = off
		END
	done
}

start() {
	as_user "$bindir/pg_ctl" -D "$data" -l "$work/server.log" -w start >/dev/null || {
		cat "$work/server.log" >&2
		die "the server does not start"
	}
}

stop() {
	quietly as_user "$bindir/pg_ctl" -D "$data" -m fast -w stop
}

# sql DATABASE [ROLE] < SQL: runs SQL and prints its output and errors.
sql() {
	as_user "$bindir/psql" -XAtq -h "$work" -U "${2:-postgres}" -d "$1" 2>&1
}

query() {
	sql "$1" "${3:-postgres}" <<<"$2"
}

# Fills a cluster with two databases; one has the extension in a schema that sorts after
# those of the states.
fill() {
	local pglz=
	sql postgres <<-'SQL'
		CREATE ROLE terraform LOGIN;
		CREATE ROLE nobody LOGIN;
		CREATE DATABASE states;
		CREATE DATABASE other;
		CREATE DATABASE updated;
	SQL
	sql updated <<-SQL >/dev/null
		CREATE EXTENSION tfstate VERSION '$first';
		SELECT tfstate_lock('old/durable', '{"ID": "old-id"}');
	SQL
	# The PostgreSQL 16 of make_majors has no lz4.
	[[ $new != 16 ]] || pglz="DO \$\$ DECLARE t regclass; BEGIN FOR t IN SELECT relid FROM tfstate_internal.attached_table LOOP
		EXECUTE format('ALTER TABLE %s ALTER data SET COMPRESSION pglz', t); END LOOP; END \$\$;"
	sql states <<-SQL >/dev/null
		CREATE EXTENSION tfstate;
		SELECT tfstate_attach('tf', role => 'terraform', guard => 'on', keep_versions => 200);
		SELECT tfstate_attach('A schema', 'a table', guard => 'require');
		$pglz
		SELECT tfstate_grant('terraform', 'team/*'), tfstate_grant('terraform', 'tf.*', 'view');
		SELECT tfstate_lock('prod/durable', '{"ID": "durable-id", "Who": "alice@laptop"}');
		SELECT tfstate_lock('prod/lease', '{"ID": "lease-id"}', ttl => '1 hour');
		SELECT tfstate_lock('tf.states/frozen', '{"ID": "frozen-id", "Info": "audit"}');
		SELECT tfstate_lock('prod/left', mode => 'session');
		SELECT tfstate_lock('old'), tfstate_unlock('old');
		SELECT tfstate_lock('old'), tfstate_force_unlock('old', reason => 'left over');
		INSERT INTO tf.states (name, data)
		SELECT 'prod', format('{"serial":0,"lineage":"a","outputs":{"a":{"value":"%s é 東京"}}}', string_agg(md5(n::text), ''))
		  FROM generate_series(1, 500) n;
		DO \$\$ BEGIN FOR n IN 1 .. 300 LOOP
			UPDATE tf.states SET data = replace(overlay(data PLACING format('{"serial":%s', n) FROM 1 FOR strpos(data, ',') - 1), md5(n::text), md5('new' || n))
			 WHERE name = 'prod';
		END LOOP; END \$\$;
		INSERT INTO tf.states (name, data) VALUES ('gone', '{"serial":1,"lineage":"b"}');
		DELETE FROM tf.states WHERE name = 'gone';
		SELECT tfstate_rollback('tf.states/prod', 280);
		CREATE TABLE before AS
		SELECT *, tfstate_version(workspace, number) AS text FROM tfstate_versions WHERE size IS NOT NULL;
	SQL
	sql other <<-SQL >/dev/null
		CREATE SCHEMA "The Locks";
		CREATE EXTENSION tfstate SCHEMA "The Locks";
		SET search_path = "The Locks";
		SELECT tfstate_attach('tf');
		$pglz
		SELECT tfstate_lock('other/durable', '{"ID": "other-id"}');
	SQL
}

# Prints everything that must be the same before and after.
show_all() {
	local database
	for database in states other; do
		sql $database <<-'SQL'
			SET search_path = public, "The Locks";
			SELECT lockid, who, operation, mode, id, fence, created, expires_at, info FROM tfstate_holders ORDER BY lockid;
			SELECT * FROM tfstate_history ORDER BY fence;
			SELECT * FROM tfstate_grants ORDER BY 1, 2, 3;
			SELECT *, relid::oid FROM tfstate_internal.attached_table ORDER BY attached_at;
			SELECT *, role::oid FROM tfstate_internal.attached_role;
			SELECT *, relid::oid, role::oid FROM tfstate_internal.given g ORDER BY g.relid::oid, g.role::oid, kind, object;
			SELECT * FROM tfstate_versions ORDER BY workspace, number;
			SELECT workspace, serial, lineage, size, version FROM tfstate_workspaces ORDER BY workspace;
			SELECT last_value FROM tfstate_internal.fence;
			SELECT key, protocol FROM tfstate_internal.installation;
			SELECT pg_describe_object(classid, objid, 0), obj_description(objid, classid::regclass::name)
			  FROM pg_depend
			 WHERE deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'tfstate')
			   AND classid <> 'pg_type'::regclass
			 ORDER BY pg_describe_object(classid, objid, 0) COLLATE "C";
			SELECT oid::regprocedure, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc WHERE probin ~ 'tfstate' OR proname ~ '^tfstate_' OR pronamespace = 'tfstate_internal'::regnamespace ORDER BY oid::regprocedure::text;
			SELECT * FROM tfstate_verify('*', true);
		SQL
	done
}

# Updates the extension in the database that has the first version.  What pg_upgrade restores
# differs in names of constraints and in texts of views from what is created, so the objects are
# compared by test/t/304_update.pl only.
update_extension() {
	check 'the first version is updated after the upgrade' '' "$(query updated 'ALTER EXTENSION tfstate UPDATE')"
	check 'its lock is held' 'f|old-id' "$(query updated "SELECT locked, id FROM tfstate_try_lock('old/durable')")"
	check 'its tables are checked without an error' '' \
		"$(query updated "SELECT problem FROM tfstate_check() WHERE severity = 'error' AND problem !~ '^fsync'")"
}

upgrade() {
	local options=(-b "$(dirname "$work/postgresql$(pg_config_of "$old")")" -B "$bindir"
		-d "$work/$trial/$old" -D "$data" -s "$work" -U postgres)
	if as_user "$bindir/pg_upgrade" "${options[@]}" "$@" >"$work/log" 2>&1; then
		echo success
	else
		cat "$work/log"
		find "$data/pg_upgrade_output.d" -name '*.log' -size +0 -exec tail -n 20 {} +
	fi
}

# Sends the statements of a Terraform apply, with the settings that tfstate_attach() gave to
# its role.
terraform_apply() {
	sql states terraform <<-'SQL'
		SELECT states.id, pg_try_advisory_lock(states.id), pg_try_advisory_lock(-1) FROM tf.states WHERE states.name = 'prod' \gset l_
		SELECT lockid FROM public.tfstate_holders('tf.states/prod');
		SELECT data::jsonb ->> 'serial' FROM tf.states WHERE name = 'prod';
		SELECT replace(data, '"serial":301', '"serial":302') AS data FROM tf.states WHERE name = 'prod' \gset
		INSERT INTO tf.states (name, data) VALUES ('prod', :'data') ON CONFLICT (name) DO UPDATE SET data = :'data' WHERE states.name = 'prod';
		SELECT pg_advisory_unlock(:l_id);
		SELECT pg_advisory_unlock(-1);
		SELECT count(*) FROM public.tfstate_holders('tf.states/prod');
	SQL
}

check_locks() {
	check 'a durable lock is held' 'f|alice@laptop' \
		"$(query states "SELECT locked, holder ->> 'Who' FROM tfstate_try_lock('prod/durable')")"
	check 'the durable lock is released by its ID' t "$(query states "SELECT tfstate_unlock('prod/durable', 'durable-id') IS NOT NULL")"
	check 'the durable lock can be taken again, with a larger fence' 't|t' \
		"$(query states "SELECT locked, fence > $fence FROM tfstate_try_lock('prod/durable')")"
	check 'the lock of a dead session can be taken, with a larger fence' 't|t' \
		"$(query states "SELECT locked, fence > $fence FROM tfstate_try_lock('prod/left')")"
	check 'a lease can be renewed' t "$(query states "SELECT tfstate_renew('prod/lease', 'lease-id') > now() + interval '59 min'")"
	check 'the other database has its lock' 'f|other-id' \
		"$(query other "SELECT locked, id FROM \"The Locks\".tfstate_try_lock('other/durable')")"
}

check_states() {
	check 'every version returns its text byte for byte' '' \
		"$(query states 'SELECT workspace, number FROM before WHERE text IS DISTINCT FROM tfstate_version(workspace, number)')"
	check 'Terraform locks, writes and unlocks' $'tf.states/prod\n301\nt\nt\n0' "$(terraform_apply)"
	check 'the write leaves a version, stored as a delta' "1|write|302|terraform" \
		"$(query states "SELECT n.chain - o.chain, n.operation, n.serial, n.role
						   FROM tfstate_internal.stored_version n JOIN tfstate_internal.stored_version o ON o.lockid = n.lockid AND o.number = n.number - 1
						  WHERE n.lockid = 'tf.states/prod' ORDER BY n.number DESC LIMIT 1")"
	check 'a version can be rolled back to' t "$(query states "SELECT tfstate_rollback('tf.states/prod', 290) > 300")"
	check 'a deleted workspace can be restored' 3 "$(query states "SELECT tfstate_undelete('tf.states/gone')")"
	check 'the guard of a table is as it was' 55000 \
		"$(query states $'UPDATE "A schema"."a table" SET data = data || \' \';\n\\echo :LAST_ERROR_SQLSTATE' | tail -n 1)"
	check 'all versions verify after that' '' "$(query states "SELECT * FROM tfstate_verify('*', true)")"
}

check_privileges() {
	check 'a role may lock what it was granted' t "$(query states "SELECT locked FROM tfstate_try_lock('team/a')" terraform)"
	check 'a role may not lock anything else' 42501 \
		"$(query states $'SELECT tfstate_lock(\'prod/b\');\n\\echo :LAST_ERROR_SQLSTATE' terraform | tail -n 1)"
	check 'a role without a grant sees nothing' 0 "$(query states 'SELECT count(*) FROM tfstate_holders' nobody | tail -n 1)"
	check 'a role without a grant cannot read the tables' 42501 \
		"$(query states $'SELECT FROM tfstate_internal.stored_version;\n\\echo :LAST_ERROR_SQLSTATE' nobody | tail -n 1)"
}

run_upgrade() {
	local fence first result
	old=${1%-*} new=${1#*-} trial=$1
	heading "Upgrading from PostgreSQL $old to $new"
	make_clusters
	first=$(cd "$root/sql" && ls tfstate--*.sql | sed -n 's/^tfstate--\([0-9.]*\)[.]sql$/\1/p' | sort -V | head -n 1)
	use_major "$old"
	start
	fill
	show_all >"$work/before"
	check 'there is something to upgrade' '|400' "$(grep ERROR "$work/before" || true)|$(sed -n '400{=;q}' "$work/before")"
	fence=$(query states 'SELECT last_value FROM tfstate_internal.fence')
	stop

	use_major "$new"
	check 'pg_upgrade --check' success "$(upgrade --check)"
	result=$(upgrade)
	check 'pg_upgrade' success "$result"
	[[ $result == success ]] || return 0
	start
	check 'the server is the new one' "$new" "$(query states "SELECT current_setting('server_version_num')::integer / 10000")"
	show_all >"$work/after"
	check 'locks, history, grants, tables and versions are the same' '' "$(diff "$work/before" "$work/after")"
	check 'tfstate_check() finds no error' '' \
		"$(query states "SELECT problem FROM tfstate_check() WHERE severity = 'error' AND problem !~ '^fsync'")"
	check_locks
	check_states
	check_privileges
	update_extension
	stop
	rm -rf "${work:?}/$trial"
}

inside() {
	local one
	make_work_directory
	chown "$user:" "$work"
	for one in "$@"; do
		run_upgrade "$one"
	done
	printf '\n%s passed, %s failed\n' $passed $failed
	((failed == 0 && passed > 0))
}

if [[ ${1:-} == --inside ]]; then
	inside "${@:2}"
else
	# PostgreSQL 17.12 gives each column an option that 18.6 and 19rc1 do not know (pg_attver), so
	# no database that has a table can be upgraded from it to them.
	(($# > 0)) || set -- 15-16 15-17 15-18 15-19 16-17 16-18 16-19 18-19
	for pair in "$@"; do
		[[ $pair =~ ^(1[5-9])-(1[5-9])$ ]] && ((BASH_REMATCH[1] < BASH_REMATCH[2])) || die "not a pair of majors: $pair"
	done
	outside "$@"
fi
