-- Attaching and detaching tables of states, and the roles that use them.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE EXTENSION tfstate;

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

CREATE ROLE regress_tfstate_tf LOGIN;
CREATE ROLE regress_tfstate_other LOGIN;
CREATE ROLE regress_tfstate_owner LOGIN;

-- The lines that tfstate_attach() returns, without what varies.
CREATE FUNCTION attached(schema text, VARIADIC args text[] DEFAULT '{}') RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format($query$
		SELECT regexp_replace(line, '(HOST|[0-9.]+):[0-9]+/[a-z_]*', '\1:<port>/<database>') FROM tfstate_attach(%s) line
		$query$, array_to_string(quote_literal(schema) || args, ', '));
END;
$$;
-- Privileges on the objects of a table of states, except those of their owners.
CREATE FUNCTION granted(role name) RETURNS SETOF text LANGUAGE sql AS $$
SELECT format('%s ON %s', string_agg(privilege_type, ', ' ORDER BY privilege_type), c.oid::regclass)
  FROM pg_class c, aclexplode(c.relacl) WHERE grantee = quote_ident(role)::regrole AND grantee <> relowner GROUP BY c.oid
UNION ALL
SELECT format('%s (%s) ON %s', privilege_type, string_agg(attname, ', ' ORDER BY attnum), attrelid::regclass)
  FROM pg_attribute, aclexplode(attacl) WHERE grantee = quote_ident(role)::regrole GROUP BY attrelid, privilege_type
UNION ALL
SELECT format('%s ON SCHEMA %I', privilege_type, nspname)
  FROM pg_namespace, aclexplode(nspacl) WHERE grantee = quote_ident(role)::regrole AND grantee <> nspowner
UNION ALL
SELECT format('%s ON DATABASE', privilege_type)
  FROM pg_database, aclexplode(datacl) WHERE grantee = quote_ident(role)::regrole AND datname = current_database()
UNION ALL
SELECT format('%s %s', g.privilege, g.pattern) FROM tfstate_grants g WHERE g.role = granted.role
ORDER BY 1
$$;
-- A state as Terraform writes it.
CREATE FUNCTION state(serial integer) RETURNS text LANGUAGE sql AS $$
SELECT format('{"version":4,"terraform_version":"1.0.0","serial":%s,"lineage":"0d5f1f4a-6f7e-4f57-8b0e-1f6a3f1c2b3d","outputs":{},"resources":[]}', serial)
$$;
CREATE VIEW settings AS
SELECT role, setting
  FROM (SELECT setrole::regrole, unnest(setconfig)
		  FROM pg_db_role_setting JOIN pg_database d ON setdatabase = d.oid
		 WHERE datname = current_database() AND setrole <> 0) s(role, setting)
 ORDER BY 1, 2;

--
-- A new table
--
SELECT attached('terraform_remote_state');
\d terraform_remote_state.states
-- It is like a table made by Terraform.
CREATE SCHEMA "terraform";
CREATE TABLE IF NOT EXISTS "terraform".states (id bigint NOT NULL DEFAULT nextval('public.global_states_id_seq') PRIMARY KEY, name text UNIQUE, data text);
CREATE UNIQUE INDEX IF NOT EXISTS states_by_name ON "terraform".states (name);
CREATE FUNCTION shape(rel regclass) RETURNS SETOF text LANGUAGE sql AS $$
SELECT concat_ws(' ', attname, attnum, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid))
  FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
 WHERE attrelid = rel AND attnum > 0
UNION ALL
SELECT concat_ws(' ', relname, indisprimary, indisunique, indkey) FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = rel
$$;
SELECT shape AS differs FROM shape('terraform_remote_state.states') EXCEPT SELECT shape FROM shape('terraform.states');
SELECT shape AS differs FROM shape('terraform.states') EXCEPT SELECT shape FROM shape('terraform_remote_state.states');
SELECT data_type, start_value, increment FROM information_schema.sequences WHERE sequence_name = 'global_states_id_seq';
-- An empty default workspace, as Terraform reads it.
SELECT name, masked(data::jsonb::text) AS data FROM terraform_remote_state.states;
-- Terraform's own statements find everything in place.
CREATE SCHEMA IF NOT EXISTS "terraform_remote_state";
CREATE SEQUENCE IF NOT EXISTS public.global_states_id_seq AS bigint;
CREATE TABLE IF NOT EXISTS "terraform_remote_state".states (id bigint NOT NULL DEFAULT nextval('public.global_states_id_seq') PRIMARY KEY, name text UNIQUE, data text);
CREATE UNIQUE INDEX IF NOT EXISTS states_by_name ON "terraform_remote_state".states (name);
-- A second call changes nothing.
SELECT id AS default_id, data AS before FROM terraform_remote_state.states \gset
SELECT count(*) > 0 AS attached FROM tfstate_attach('terraform_remote_state', 'states');
SELECT id = :default_id AS id, data = :'before' AS data FROM terraform_remote_state.states;
SELECT relid, attached_by = current_user AS by, guard, keep_versions, keep_age, name FROM tfstate_internal.attached_table;
SELECT tgname, tgenabled, tgtype FROM pg_trigger WHERE tgrelid = 'terraform_remote_state.states'::regclass AND tgname LIKE 'tfstate_guard%' ORDER BY 1;

-- A missing default workspace is made again, unless its lock is held.
DELETE FROM terraform_remote_state.states;
SELECT fence > 0 AS locked FROM tfstate_lock('terraform_remote_state.states/default', '{"ID": "1", "Who": "alice", "Created": "2026-11-23T02:45:23Z"}');
CALL fails('SELECT tfstate_attach()');
SELECT tfstate_unlock('terraform_remote_state.states/default', '1') IS NOT NULL AS unlocked;
SELECT count(*) > 0 AS attached FROM tfstate_attach();
SELECT name FROM terraform_remote_state.states;
SELECT count(*) FROM tfstate_holders;
-- So are triggers.
DROP TRIGGER tfstate_guard_truncate ON terraform_remote_state.states;
ALTER TABLE terraform_remote_state.states DISABLE TRIGGER USER;
SELECT count(*) > 0 AS attached FROM tfstate_attach();
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'terraform_remote_state.states'::regclass AND tgname LIKE 'tfstate_guard%' ORDER BY 1;

-- The minimum of tfstate.guard, and the versions to be kept.
SELECT count(*) > 0 AS attached FROM tfstate_attach(guard => 'require', keep_versions => 10, keep_age => '30 days');
SELECT guard, keep_versions, keep_age FROM tfstate_internal.attached_table;
SELECT count(*) > 0 AS attached FROM tfstate_attach(keep_versions => 20);
SELECT guard, keep_versions, keep_age FROM tfstate_internal.attached_table;
SELECT count(*) > 0 AS attached FROM tfstate_attach(guard => 'off', keep_versions => -1, keep_age => '-1');
SELECT guard, keep_versions, keep_age FROM tfstate_internal.attached_table;

-- Without the workspace "default", which OpenTofu would expect to be encrypted.  One made by tfstate_attach() is
-- deleted, unless it has been written or locked since, and is not made again.
SELECT attached('enc', 'default_workspace => false');
SELECT count(*) FROM enc.states;
SELECT count(*) > 0 AS attached FROM tfstate_attach('enc');
SELECT count(*) FROM enc.states;
SELECT problem FROM tfstate_check() WHERE object = 'enc.states' AND problem ~ 'default';
SELECT attached('enc', 'default_workspace => true');
SELECT name FROM enc.states;
SELECT id FROM tfstate_lock('enc.states/default', '{"ID": "1", "Who": "alice", "Created": "2026-11-23T02:45:23Z"}');
CALL fails($$SELECT tfstate_attach('enc', default_workspace => false)$$);
SELECT tfstate_unlock('enc.states/default', '1') IS NOT NULL AS unlocked;
SELECT count(*) > 0 AS attached FROM tfstate_attach('enc', default_workspace => false);
SELECT count(*) FROM enc.states;
SELECT default_workspace FROM tfstate_internal.attached_table WHERE name = 'enc.states';
SELECT number, operation, lock_operation FROM tfstate_versions('enc.states/default') ORDER BY number;
SELECT count(*) > 0 AS attached FROM tfstate_attach('enc', default_workspace => true);
SELECT fence > 0 AS locked FROM tfstate_lock('enc.states/default');
UPDATE enc.states SET data = state(1);
SELECT tfstate_unlock('enc.states/default') IS NOT NULL AS unlocked;
SELECT attached('enc', 'default_workspace => false');
SELECT name, data::jsonb ->> 'serial' AS serial FROM enc.states;
SELECT tfstate_detach('enc');
DROP SCHEMA enc CASCADE;

--
-- Existing tables
--

-- A table made by Terraform keeps its rows.
INSERT INTO terraform.states (name, data) VALUES ('prod', state(7)), ('default', state(8));
CREATE TABLE rows_before AS TABLE terraform.states;
SELECT count(*) > 0 AS attached FROM tfstate_attach('terraform', 'states', guard => 'on');
SELECT count(*) FROM (TABLE terraform.states EXCEPT TABLE rows_before) d;
SELECT workspace, number, operation, serial FROM tfstate_versions ORDER BY workspace COLLATE "C", number;
DROP TABLE rows_before;

-- An old one, with a sequence of its own and integer ids, gets the shared sequence, which goes on
-- after the existing ids.
CREATE SCHEMA old;
CREATE TABLE old.states (id serial PRIMARY KEY, name text, data text);
CREATE UNIQUE INDEX states_by_name ON old.states (name);
INSERT INTO old.states VALUES (1000000, 'default', state(1)), (1000001, 'prod', state(2));
SELECT count(*) > 0 AS attached FROM tfstate_attach('old', guard => 'on');
SELECT shape AS differs FROM shape('old.states') EXCEPT SELECT shape FROM shape('terraform.states');
INSERT INTO old.states (name, data) VALUES ('new', state(0));
INSERT INTO terraform.states (name, data) VALUES ('new', state(0));
SELECT id, name FROM old.states ORDER BY id;
SELECT id FROM terraform.states WHERE name = 'new';
-- Identity columns and missing indexes are accepted.
CREATE SCHEMA ident;
CREATE TABLE ident.states (id integer GENERATED ALWAYS AS IDENTITY (START 2000000), name text, data text, note text DEFAULT 'mine');
INSERT INTO ident.states (name) VALUES ('prod');
SELECT count(*) > 0 AS attached FROM tfstate_attach('ident');
SELECT shape FROM shape('ident.states');
SELECT id > 2000000 AS behind, name, note FROM ident.states ORDER BY name;
-- A deferrable constraint, a partial index or one of two columns is not enough.
CREATE SCHEMA odd;
CREATE TABLE odd.tf (id bigint PRIMARY KEY DEFERRABLE, name text UNIQUE DEFERRABLE, data text);
CREATE UNIQUE INDEX ON odd.tf (name) WHERE data IS NOT NULL;
CREATE UNIQUE INDEX ON odd.tf (id, name);
CREATE UNIQUE INDEX ON odd.tf (name, id);
SELECT attached('odd', $$'tf'$$);
SELECT tfstate_internal.unique_index('odd.tf', 'id'), tfstate_internal.unique_index('odd.tf', 'name');
SELECT tfstate_detach('old'), tfstate_detach('ident'), tfstate_detach('odd', 'tf'), tfstate_detach('terraform');

--
-- Refusals, which leave nothing behind
--
CREATE SCHEMA wrong;
CREATE VIEW wrong.a_view AS TABLE terraform.states;
CREATE MATERIALIZED VIEW wrong.matview AS TABLE terraform.states;
CREATE SEQUENCE wrong.sequence;
CREATE TABLE wrong.partitioned (id bigint, name text, data text) PARTITION BY HASH (id);
CREATE TABLE wrong.part PARTITION OF wrong.partitioned FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE wrong.parent (id bigint, name text, data text);
CREATE TABLE wrong.child () INHERITS (wrong.parent);
CREATE UNLOGGED TABLE wrong.unlogged (id bigint, name text, data text);
CREATE TEMPORARY TABLE temporary (id bigint, name text, data text);
CREATE TABLE wrong.secured (id bigint, name text, data text);
ALTER TABLE wrong.secured ENABLE ROW LEVEL SECURITY;
CREATE TABLE wrong.smallints (id smallint, name text, data text);
CREATE TABLE wrong.varchars (id bigint, name varchar, data text);
CREATE TABLE wrong.two_columns (id bigint, name text);
CREATE TABLE wrong.generated (id bigint, name text, data text GENERATED ALWAYS AS ('') STORED);
CREATE TABLE wrong."Names" ("Id" bigint, name text, data text);
CALL fails($$SELECT tfstate_attach('wrong.smallints')$$);
CALL fails($$SELECT tfstate_detach('wrong.smallints')$$);
CALL fails($$SELECT tfstate_detach('wrong.a_view')$$);
CALL fails($$SELECT tfstate_attach('wrong', 'a_view')$$);
CALL fails($$SELECT tfstate_attach('wrong', 'matview')$$);
CALL fails($$SELECT tfstate_attach('wrong', 'sequence')$$);
CALL fails($$SELECT tfstate_attach('wrong', 'partitioned')$$);
CALL fails($$SELECT tfstate_attach('wrong', 'part')$$);
CALL fails($$SELECT tfstate_attach('wrong', 'parent')$$);
CALL fails($$SELECT tfstate_attach('wrong', 'child')$$);
CALL fails($$SELECT tfstate_attach('wrong', 'unlogged')$$);
SELECT nspname AS temp FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE relname = 'temporary' \gset
CALL fails(format('SELECT tfstate_attach(%L, ''temporary'')', :'temp'));
CALL fails($$SELECT tfstate_attach('wrong', 'secured')$$);
CALL fails($$SELECT tfstate_attach('wrong', 'smallints')$$);
CALL fails($$SELECT tfstate_attach('wrong', 'varchars')$$);
CALL fails($$SELECT tfstate_attach('wrong', 'two_columns')$$);
CALL fails($$SELECT tfstate_attach('wrong', 'generated')$$);
CALL fails($$SELECT tfstate_attach('wrong', 'Names')$$);
CALL fails($$SELECT tfstate_attach('tfstate_internal', 'attached_table')$$);
CALL fails($$SELECT tfstate_attach('tfstate_pg', 'pg_class')$$);
-- Rows that cannot be told apart
CREATE TABLE wrong.rows (id bigint, name text, data text);
INSERT INTO wrong.rows VALUES (3000000, NULL, '');
CALL fails($$SELECT tfstate_attach('wrong', 'rows')$$);
UPDATE wrong.rows SET name = 'a', id = NULL;
CALL fails($$SELECT tfstate_attach('wrong', 'rows')$$);
UPDATE wrong.rows SET id = -1;
CALL fails($$SELECT tfstate_attach('wrong', 'rows')$$);
UPDATE wrong.rows SET id = 3000000;
INSERT INTO wrong.rows VALUES (3000000, 'b', '');
CALL fails($$SELECT tfstate_attach('wrong', 'rows')$$);
UPDATE wrong.rows SET id = 3000001, name = 'a' WHERE name = 'b';
CALL fails($$SELECT tfstate_attach('wrong', 'rows')$$);
UPDATE wrong.rows SET name = 'b' WHERE id = 3000001;
INSERT INTO wrong.rows SELECT id, 'default', '' FROM terraform_remote_state.states;
CREATE FUNCTION collision() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM tfstate_attach('wrong', 'rows');
EXCEPTION WHEN object_not_in_prerequisite_state THEN
	RAISE EXCEPTION '%', regexp_replace(sqlerrm, '\d+', '<id>');
END;
$$;
CALL fails('SELECT collision()');
ALTER TABLE wrong.rows ALTER id TYPE integer;
CALL fails('SELECT collision()');
DROP FUNCTION collision;
SELECT relid FROM tfstate_internal.attached_table;
SELECT count(*) FROM pg_trigger t JOIN pg_class c ON t.tgrelid = c.oid WHERE c.relnamespace = 'wrong'::regnamespace;
UPDATE wrong.rows SET id = 3000002 WHERE name = 'default';
SELECT count(*) > 0 AS attached FROM tfstate_attach('wrong', 'rows');
SELECT tfstate_detach('wrong', 'rows');

-- Arguments
CALL fails($$SELECT tfstate_attach(role => 'public')$$);
CALL fails($$SELECT tfstate_attach(role => 'regress_tfstate_nobody')$$);
CALL fails($$SELECT tfstate_attach(mode => 'Durable')$$);
CALL fails($$SELECT tfstate_attach(wait => '-1 min')$$);
CALL fails($$SELECT tfstate_attach(wait => '25 days')$$);
CALL fails($$SELECT tfstate_attach(access => 'plan')$$);
CALL fails($$SELECT tfstate_attach(role => 'regress_tfstate_tf', access => 'read')$$);
CALL fails($$SELECT tfstate_attach(guard => 'always')$$);
CALL fails($$SELECT tfstate_attach(keep_versions => 0)$$);
CALL fails($$SELECT tfstate_attach(keep_age => '-1 day')$$);
CALL fails($$SELECT tfstate_attach('a*', role => 'regress_tfstate_tf')$$);
CALL fails($$SELECT tfstate_attach(repeat('x', 64))$$);
CALL fails($$SELECT tfstate_attach(repeat('ü', 32))$$);
CALL fails($$SELECT tfstate_attach('terraform', repeat('ü', 32))$$);
CALL fails($$SELECT tfstate_detach('terraform', repeat('x', 64))$$);
SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'a*' OR nspname LIKE 'xx%';
BEGIN ISOLATION LEVEL REPEATABLE READ;
CALL fails($$SELECT tfstate_attach()$$);
CALL fails($$SELECT tfstate_detach()$$);
ROLLBACK;
SELECT * FROM granted('regress_tfstate_tf');
SELECT * FROM settings;

--
-- What was changed behind the triggers is not taken for a known state, when a role is added later.
SELECT count(*) > 0 AS attached FROM tfstate_attach('wrong', 'rows');
SET session_replication_role = replica;
UPDATE wrong.rows SET data = state(77) WHERE name = 'default';
RESET session_replication_role;
SELECT count(*) > 0 AS attached FROM tfstate_attach('wrong', 'rows', role => 'regress_tfstate_tf');
SELECT * FROM tfstate_verify('wrong.*');
SELECT tfstate_detach('wrong', 'rows');

-- Code of others: nothing that the owner of a table wrote runs with the rights of the caller of tfstate_attach().
--
CREATE SCHEMA evil AUTHORIZATION regress_tfstate_owner;
SET ROLE regress_tfstate_owner;
CREATE FUNCTION evil.run() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	RAISE WARNING 'runs as superuser: %', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
	RETURN 4000000;
END;
$$;
CREATE FUNCTION evil.fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM evil.run(); RETURN new; END';
CREATE FUNCTION evil.checks(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN evil.run() > 0; END';
CREATE TABLE evil.states (id integer DEFAULT evil.run(), name text, data text);
RESET ROLE;
-- A default of id is replaced without being evaluated.
SELECT count(*) > 0 AS attached FROM tfstate_attach('evil');
SELECT tfstate_detach('evil');
CREATE PROCEDURE evil_way(command text, undo text) LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE evil.states;
	SET LOCAL ROLE regress_tfstate_owner;
	EXECUTE command;
	RESET ROLE;
	CALL fails('SELECT tfstate_attach(''evil'')');
	SET LOCAL ROLE regress_tfstate_owner;
	EXECUTE undo;
	RESET ROLE;
END;
$$;
CALL evil_way('CREATE TRIGGER t BEFORE INSERT ON evil.states FOR EACH ROW EXECUTE FUNCTION evil.fire()', 'DROP TRIGGER t ON evil.states');
CALL evil_way('CREATE RULE r AS ON INSERT TO evil.states DO ALSO SELECT evil.run()', 'DROP RULE r ON evil.states');
CALL evil_way('ALTER TABLE evil.states ADD CONSTRAINT c CHECK (evil.checks(data))', 'ALTER TABLE evil.states DROP CONSTRAINT c');
CALL evil_way('CREATE INDEX i ON evil.states (evil.checks(data))', 'DROP INDEX evil.i');
CALL evil_way('CREATE INDEX i ON evil.states (id) WHERE evil.checks(data)', 'DROP INDEX evil.i');
CALL evil_way('ALTER TABLE evil.states ADD extra bigint DEFAULT evil.run()', 'ALTER TABLE evil.states DROP extra');
CALL evil_way('CREATE DOMAIN evil.d AS text CHECK (evil.checks(value)); ALTER TABLE evil.states ADD extra evil.d', 'ALTER TABLE evil.states DROP extra; DROP DOMAIN evil.d');
-- Another attached table is not read if its ids have another type.
SELECT count(*) > 0 AS attached FROM tfstate_attach('evil');
SET ROLE regress_tfstate_owner;
CREATE TYPE evil.number AS (n bigint);
CREATE FUNCTION evil.cast_number(evil.number) RETURNS bigint LANGUAGE sql AS 'SELECT evil.run()';
CREATE CAST (evil.number AS bigint) WITH FUNCTION evil.cast_number(evil.number) AS IMPLICIT;
ALTER TABLE evil.states ALTER id DROP DEFAULT, ALTER id TYPE evil.number USING row(id);
RESET ROLE;
SELECT count(*) > 0 AS attached FROM tfstate_attach();
SELECT tfstate_detach('evil');
SET client_min_messages = error;
DROP SCHEMA evil CASCADE;
SET client_min_messages = warning;
DROP PROCEDURE evil_way;
-- A trigger of the owner is accepted if the owner attaches the table.
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER note BEFORE INSERT ON terraform.states FOR EACH ROW EXECUTE FUNCTION note();
SELECT count(*) > 0 AS attached FROM tfstate_attach('terraform');
SELECT tfstate_detach('terraform');
DROP FUNCTION note CASCADE;

--
-- Roles
--
SELECT attached('terraform_remote_state', $$role => 'regress_tfstate_tf'$$);
SELECT * FROM granted('regress_tfstate_tf');
SELECT * FROM settings;
SELECT relid, role, access FROM tfstate_internal.attached_role;
SELECT kind, object, value, replaced FROM tfstate_internal.given WHERE object <> 'transaction_timeout' ORDER BY kind, object;
-- These are the privileges that Terraform's statements need.
SET ROLE regress_tfstate_tf;
SET search_path = tfstate_pg, pg_catalog, public;
SELECT name FROM "terraform_remote_state".states WHERE name != 'default' ORDER BY name;
SELECT l, c FROM (SELECT states.id, pg_try_advisory_lock(states.id) AS l, pg_try_advisory_lock(-1) AS c FROM "terraform_remote_state".states WHERE states.name = 'default') l;
SELECT pg_advisory_unlock(-1);
INSERT INTO "terraform_remote_state".states (name, data) VALUES ('default', public.state(1)) ON CONFLICT (name) DO UPDATE SET data = public.state(1) WHERE states.name = 'default';
SELECT pg_advisory_unlock(id) FROM terraform_remote_state.states WHERE name = 'default';
SELECT pg_try_advisory_lock(-1);
INSERT INTO "terraform_remote_state".states (name, data) VALUES ('new', public.state(0)) ON CONFLICT (name) DO UPDATE SET data = public.state(0) WHERE states.name = 'new';
SELECT pg_advisory_unlock(-1);
DELETE FROM "terraform_remote_state".states WHERE name = 'new';
-- Nothing else is allowed.
CALL public.fails('UPDATE terraform_remote_state.states SET id = 5');
CALL public.fails($$UPDATE terraform_remote_state.states SET name = 'other'$$);
CALL public.fails($$INSERT INTO terraform_remote_state.states (id, name) VALUES (5, 'five')$$);
CALL public.fails('TRUNCATE terraform_remote_state.states');
CALL public.fails('CREATE TABLE terraform_remote_state.more ()');
CALL public.fails($$SELECT setval('public.global_states_id_seq', 1)$$);
CALL public.fails('SELECT public.tfstate_attach()');
CALL public.fails('SELECT public.tfstate_check()');
RESET ROLE;
RESET search_path;

-- New values replace the old ones; what is not named stays.
-- The mode and the wait are the table's, and not the role's: what is printed says so.
SELECT attached('terraform_remote_state', $$mode => 'durable'$$, $$wait => '90s'$$);
SELECT mode, wait FROM tfstate_tables WHERE schema = 'terraform_remote_state';
SELECT attached('terraform_remote_state', $$role => 'regress_tfstate_tf'$$, $$wait => '0'$$);
SELECT mode, wait FROM tfstate_tables WHERE schema = 'terraform_remote_state';
SELECT attached('terraform_remote_state', $$role => 'regress_tfstate_tf'$$, $$mode => 'session'$$);
SELECT mode, wait FROM tfstate_tables WHERE schema = 'terraform_remote_state';
SELECT count(*) > 0 AS attached FROM tfstate_attach(mode => 'durable', wait => '24 days');
SELECT mode, wait FROM tfstate_tables WHERE schema = 'terraform_remote_state';
SELECT setting FROM settings WHERE setting ~ '^(tfstate|statement|lock)';

-- A role with several tables, one of them in the same schema, and several roles for one table.
SELECT attached('terraform_remote_state', $$'more "states"'$$, $$role => 'regress_tfstate_tf'$$);
SELECT count(*) > 0 AS attached FROM tfstate_attach('terraform', role => 'regress_tfstate_tf');
SELECT count(*) > 0 AS attached FROM tfstate_attach('terraform', role => 'regress_tfstate_other');
SELECT * FROM granted('regress_tfstate_tf');
-- What Terraform needs for a table that is attached
CREATE FUNCTION configuration(VARIADIC args text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format($query$
		SELECT regexp_replace(line, '(HOST|[0-9.]+):[0-9]+/[a-z_]*', '\1:<port>/<database>') FROM tfstate_configuration(%s) line
		$query$, array_to_string(args, ', '));
END;
$$;
SELECT configuration($$role => NULL$$);
SELECT configuration($$role => 'regress_tfstate_other'$$, $$format => 'gitlab'$$);
SELECT configuration($$'terraform_remote_state'$$, $$'more "states"'$$, $$format => 'backend'$$);
-- Where locks are durable, each run needs a name.
SELECT configuration($$role => 'regress_tfstate_tf'$$);
SELECT configuration($$role => 'regress_tfstate_tf'$$, $$format => 'github'$$);
SELECT configuration($$role => 'regress_tfstate_tf'$$, $$format => 'gitlab'$$);
CALL fails($$SELECT tfstate_configuration('nowhere')$$);
CALL fails($$SELECT tfstate_configuration(NULL)$$);
CALL fails($$SELECT tfstate_configuration(format => 'yaml')$$);
CALL fails($$SELECT tfstate_configuration(format => NULL)$$);
-- tfstate_detach() takes from a role what none of its other tables needs.
SELECT tfstate_detach();
SELECT * FROM granted('regress_tfstate_tf');
SELECT tfstate_detach('terraform_remote_state', 'more "states"');
SELECT * FROM granted('regress_tfstate_tf');
SELECT count(*) FROM settings WHERE role = 'regress_tfstate_tf'::regrole;
-- Settings that somebody has changed meanwhile stay.
SELECT current_database() AS database \gset
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET tcp_keepalives_idle = '7s';
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET work_mem = '8MB';
SELECT tfstate_detach('terraform');
SELECT * FROM granted('regress_tfstate_tf');
SELECT * FROM granted('regress_tfstate_other');
SELECT * FROM settings;
SELECT count(*) FROM tfstate_internal.attached_role;
SELECT count(*) FROM pg_trigger WHERE tgfoid = 'tfstate_internal.guard()'::regprocedure;
SELECT name FROM terraform_remote_state.states;
SELECT name FROM terraform.states ORDER BY name;
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" RESET ALL;

-- The owner of table, schema and sequence keeps its own rights.
ALTER TABLE terraform.states OWNER TO regress_tfstate_owner;
ALTER SCHEMA terraform OWNER TO regress_tfstate_owner;
ALTER SEQUENCE public.global_states_id_seq OWNER TO regress_tfstate_owner;
SELECT count(*) > 0 AS attached FROM tfstate_attach('terraform', role => 'regress_tfstate_owner');
SELECT tfstate_detach('terraform');
SET ROLE regress_tfstate_owner;
INSERT INTO terraform.states (name) VALUES ('mine');
RESET ROLE;
SELECT * FROM granted('regress_tfstate_owner');
ALTER SEQUENCE public.global_states_id_seq OWNER TO CURRENT_USER;

-- A group, and a role that may not connect.
CREATE ROLE regress_tfstate_group;
SELECT attached('terraform', $$role => 'regress_tfstate_group'$$);
REVOKE CONNECT ON DATABASE :"database" FROM PUBLIC;
SELECT count(*) > 0 AS attached FROM tfstate_attach('terraform', role => 'regress_tfstate_group');
SELECT * FROM granted('regress_tfstate_group');
GRANT CONNECT ON DATABASE :"database" TO PUBLIC;
-- A dropped role is ignored.
DROP OWNED BY regress_tfstate_group;
DROP ROLE regress_tfstate_group;
SELECT tfstate_detach('terraform');
SELECT count(*) FROM tfstate_internal.attached_role;

-- A renamed table: locks and grants follow the new name.
SELECT count(*) > 0 AS attached FROM tfstate_attach('terraform', role => 'regress_tfstate_tf');
ALTER SCHEMA terraform RENAME TO renamed;
SELECT count(*) > 0 AS attached FROM tfstate_attach('renamed');
SELECT relid, name FROM tfstate_internal.attached_table;
SELECT * FROM granted('regress_tfstate_tf');
SELECT tfstate_detach('renamed');
SELECT * FROM granted('regress_tfstate_tf');
SELECT * FROM settings;

-- Names that need quotes
CREATE ROLE "regress_tfstate ""odd"" %'ü" LOGIN;
SELECT attached(E'Infra "${p}" %{x}\\', $$'My "%s" ''states'''$$, $$role => 'regress_tfstate "odd" %''ü'$$);
SELECT * FROM granted(E'regress_tfstate "odd" %''ü');
SELECT tfstate_detach(E'Infra "${p}" %{x}\\', $$My "%s" 'states'$$);
SELECT * FROM granted(E'regress_tfstate "odd" %''ü');
SELECT count(*) FROM settings;
DROP SCHEMA "Infra ""${p}"" %{x}\" CASCADE;
DROP ROLE "regress_tfstate ""odd"" %'ü";

-- A rollback leaves nothing.
BEGIN;
SELECT count(*) > 0 AS attached FROM tfstate_attach('renamed', role => 'regress_tfstate_tf');
SELECT tfstate_detach('renamed');
SELECT count(*) > 0 AS attached FROM tfstate_attach('renamed', role => 'regress_tfstate_tf');
ROLLBACK;
SELECT * FROM granted('regress_tfstate_tf');
SELECT * FROM settings;
SELECT count(*) FROM tfstate_internal.attached_table;

--
-- An owner of the extension that is not a superuser
--
CREATE ROLE regress_tfstate_dba CREATEROLE;
GRANT CREATE ON DATABASE :"database" TO regress_tfstate_dba;
GRANT USAGE ON SEQUENCE public.global_states_id_seq TO regress_tfstate_dba;
GRANT USAGE ON SCHEMA tfstate_internal TO regress_tfstate_dba;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public, tfstate_internal TO regress_tfstate_dba;
DO $$
DECLARE
	object record;
BEGIN
	FOR object IN SELECT c.oid::regclass AS rel FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'e'
						JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'tfstate'
				   WHERE c.relkind IN ('r', 'v', 'S') LOOP
		EXECUTE format('ALTER TABLE %s OWNER TO regress_tfstate_dba', object.rel);
	END LOOP;
END;
$$;
SET ROLE regress_tfstate_dba;
CREATE ROLE regress_tfstate_mine LOGIN;
-- It cannot grant on a sequence that belongs to another role.
SET client_min_messages = error;
CALL fails($$SELECT tfstate_attach('dba', role => 'regress_tfstate_mine')$$);
SET client_min_messages = warning;
RESET ROLE;
GRANT USAGE ON SEQUENCE public.global_states_id_seq TO regress_tfstate_dba WITH GRANT OPTION;
SET ROLE regress_tfstate_dba;
SELECT regexp_replace(attached('dba', $$role => 'regress_tfstate_mine'$$), 'DATABASE \S+', 'DATABASE <database>');
SELECT * FROM granted('regress_tfstate_mine');
RESET ROLE;
SELECT setting FROM settings WHERE setting LIKE 'log%';
SET ROLE regress_tfstate_dba;
SELECT count(*) FROM tfstate_check() WHERE object IS DISTINCT FROM 'server' AND problem !~ '^log_parameter|is not attached';
SELECT tfstate_detach('dba');
SELECT * FROM granted('regress_tfstate_mine');
-- It cannot attach a table that belongs to another role.
CALL fails($$SELECT tfstate_attach('terraform_remote_state')$$);
RESET ROLE;
REVOKE CREATE ON DATABASE :"database" FROM regress_tfstate_dba;

SET client_min_messages = error;
DROP EXTENSION tfstate CASCADE;
DROP SCHEMA terraform_remote_state, renamed, old, ident, odd, wrong, dba CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP VIEW settings;
DROP FUNCTION attached, granted, shape, state;
DROP PROCEDURE fails;
DROP FUNCTION masked;
DROP OWNED BY regress_tfstate_dba;
DROP ROLE regress_tfstate_mine, regress_tfstate_dba, regress_tfstate_tf, regress_tfstate_other, regress_tfstate_owner;
