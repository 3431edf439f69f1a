#!/bin/bash
# test/upgrade.sh [DIRECTORY]
#
# Upgrades a cluster with locks, states and versions from PostgreSQL 15 to 18
# with pg_upgrade, and checks that all is there and still works; then updates the
# extension from the first version that there is a script of, and checks that
# it has the same objects as a fresh one.
#
# No release of Debian has both majors, so this makes a system of its own in
# DIRECTORY: sid with the PostgreSQL 15 of Debian 12, 2 GB.  An existing one is
# used again; without DIRECTORY it is removed in the end.  Needs root
# and the network, and runs on a bare Debian 12 or later.  MIRROR names another
# mirror of Debian.
#
# The last line is the count of all tests; the exit status is 0 only if none
# failed.

set -euo pipefail
# shellcheck source=test/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"
# shellcheck source=test/lib/debian.sh
source "$root/test/lib/debian.sh"

old=15 new=18

#
# Outside: making the system
#

has_majors() {
	[[ -x $system/usr/lib/postgresql/$old/bin/postgres && -x $system/usr/lib/postgresql/$new/bin/postgres ]]
}

# What sid has, too, is newer there, so only PostgreSQL 15 and the libraries that it needs
# come from Debian 12.
install_both() {
	heading "Making a system with PostgreSQL $old and $new (this takes a few minutes)"
	make_system "$system" sid bookworm
	quietly in_system "$system" apt-get install --yes --no-install-recommends gcc libc6-dev make libzstd-dev \
		"postgresql-$old" "postgresql-server-dev-$old" "postgresql-$new" "postgresql-server-dev-$new"
}

outside() {
	make_work_directory
	system=${1:-$work/system}
	has_majors || install_both
	copy_checkout "$system/tfstate"
	in_system "$system" bash /tfstate/test/upgrade.sh --inside
}

#
# Inside: the upgrade
#

# Sets bindir to where copy_postgresql puts the programs of a major, and data to its cluster.
use_major() {
	bindir=$work/postgresql/usr/lib/postgresql/$1/bin
	data=$work/$1
}

install_majors() {
	local major
	for major in $old $new; do
		PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config
		copy_postgresql
		use_major "$major"
		build COPT=-Werror
		rm -rf "$source"
		quietly as_user "$bindir/initdb" -D "$data" -U postgres -E UTF8 --locale=C --no-sync -A trust --data-checksums \
			--no-instructions
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
	sql postgres <<-'SQL'
		CREATE ROLE terraform LOGIN;
		CREATE ROLE nobody LOGIN;
		CREATE DATABASE states;
		CREATE DATABASE other;
	SQL
	sql states <<-'SQL' >/dev/null
		CREATE EXTENSION tfstate;
		SELECT tfstate_attach('tf', role => 'terraform', guard => 'on', keep_versions => 200);
		SELECT tfstate_attach('A schema', 'a table', guard => 'require');
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
		DO $$ BEGIN FOR n IN 1 .. 300 LOOP
			UPDATE tf.states SET data = replace(overlay(data PLACING format('{"serial":%s', n) FROM 1 FOR strpos(data, ',') - 1), md5(n::text), md5('new' || n))
			 WHERE name = 'prod';
		END LOOP; END $$;
		INSERT INTO tf.states (name, data) VALUES ('gone', '{"serial":1,"lineage":"b"}');
		DELETE FROM tf.states WHERE name = 'gone';
		SELECT tfstate_rollback('tf.states/prod', 280);
		CREATE TABLE before AS
		SELECT *, tfstate_version(workspace, number) AS text FROM tfstate_versions WHERE size IS NOT NULL;
	SQL
	sql other <<-'SQL' >/dev/null
		CREATE SCHEMA "The Locks";
		CREATE EXTENSION tfstate SCHEMA "The Locks";
		SET search_path = "The Locks";
		SELECT tfstate_attach('tf');
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
			SELECT *, relid::oid, role::oid FROM tfstate_internal.given ORDER BY relid, role::oid, kind, object;
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

# All objects of the extension, with their definitions, privileges and comments.
show_objects() {
	sql "$1" <<-'SQL'
		SET search_path = pg_catalog;
		SELECT extversion, obj_description(oid, 'pg_extension') FROM pg_extension WHERE extname = 'tfstate';
		CREATE TEMP TABLE object AS
		SELECT classid, objid, pg_describe_object(classid, objid, 0) AS name
		  FROM pg_depend
		 WHERE deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'tfstate');
		SELECT o.name, obj_description(o.objid, o.classid::regclass::name),
			   coalesce(pg_get_functiondef(p.oid), pg_get_viewdef(c.oid)),
			   coalesce(p.proacl, c.relacl, n.nspacl)
		  FROM object o
			   LEFT JOIN pg_proc p ON o.classid = 'pg_proc'::regclass AND p.oid = o.objid
			   LEFT JOIN pg_class c ON o.classid = 'pg_class'::regclass AND c.oid = o.objid
			   LEFT JOIN pg_namespace n ON o.classid = 'pg_namespace'::regclass AND n.oid = o.objid
		 ORDER BY o.name COLLATE "C";
		SELECT o.name, a.attnum, a.attname, a.atttypid::regtype, a.attnotnull, a.attstorage, a.attcollation,
			   pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum)
		  FROM object o JOIN pg_attribute a ON o.classid = 'pg_class'::regclass AND a.attrelid = o.objid AND a.attnum > 0
			   LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
		 ORDER BY o.name COLLATE "C", a.attnum;
		SELECT o.name, pg_get_indexdef(i.indexrelid)
		  FROM object o JOIN pg_index i ON o.classid = 'pg_class'::regclass AND i.indrelid = o.objid ORDER BY 1, 2;
		SELECT o.name, c.conname, pg_get_constraintdef(c.oid)
		  FROM object o JOIN pg_constraint c ON o.classid = 'pg_class'::regclass AND c.conrelid = o.objid ORDER BY 1, 2;
		SELECT o.name, pg_get_triggerdef(t.oid), t.tgenabled
		  FROM object o JOIN pg_trigger t ON o.classid = 'pg_class'::regclass AND t.tgrelid = o.objid ORDER BY 1, 2;
	SQL
}

update_extension() {
	local first
	first=$(query postgres "SELECT version FROM pg_available_extension_versions WHERE name = 'tfstate' ORDER BY string_to_array(version, '.')::int[] LIMIT 1")
	sql postgres <<-SQL >/dev/null
		CREATE DATABASE updated;
		CREATE DATABASE fresh;
		\c updated
		CREATE EXTENSION tfstate VERSION '$first';
		ALTER EXTENSION tfstate UPDATE;
		\c fresh
		CREATE EXTENSION tfstate;
	SQL
	show_objects updated >"$work/updated"
	show_objects fresh >"$work/fresh"
	check 'there are objects to compare' '0|400' "$(grep -c ERROR "$work/fresh" || true)|$(sed -n '400{=;q}' "$work/fresh")"
	check 'an updated extension is the same as a fresh one' '' "$(diff "$work/fresh" "$work/updated")"
}

upgrade() {
	local programs=$work/postgresql/usr/lib/postgresql
	local options=(-b "$programs/$old/bin" -B "$programs/$new/bin"
		-d "$work/$old" -D "$work/$new" -s "$work" -U postgres)
	if as_user "$bindir/pg_upgrade" "${options[@]}" "$@" >"$work/log" 2>&1; then
		echo success
	else
		cat "$work/log"
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
	check 'a role without a grant sees nothing' 0 "$(query states 'SELECT count(*) FROM tfstate_holders' nobody)"
	check 'a role without a grant cannot read the tables' 42501 \
		"$(query states $'SELECT FROM tfstate_internal.stored_version;\n\\echo :LAST_ERROR_SQLSTATE' nobody | tail -n 1)"
}

inside() {
	local fence
	make_work_directory
	chown "$user:" "$work"
	heading "Building tfstate for PostgreSQL $old and $new"
	install_majors

	heading "Upgrading from PostgreSQL $old to $new"
	use_major $old
	start
	fill
	show_all >"$work/before"
	check 'there is something to upgrade' '0|400' "$(grep -c ERROR "$work/before" || true)|$(sed -n '400{=;q}' "$work/before")"
	fence=$(query states 'SELECT last_value FROM tfstate_internal.fence')
	stop

	use_major $new
	check 'pg_upgrade --check' success "$(upgrade --check)"
	check 'pg_upgrade' success "$(upgrade)"
	start
	check 'the server is the new one' $new "$(query states "SELECT current_setting('server_version_num')::integer / 10000")"
	show_all >"$work/after"
	check 'locks, history, grants, tables and versions are the same' '' "$(diff "$work/before" "$work/after")"
	check_locks
	check_states
	check_privileges
	update_extension
	stop

	printf '\n%s passed, %s failed\n' $passed $failed
	((failed == 0 && passed > 0))
}

if [[ ${1:-} == --inside ]]; then
	inside
else
	outside "$@"
fi
