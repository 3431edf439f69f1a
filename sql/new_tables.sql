-- Tables of states that Terraform makes itself.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE SCHEMA regress_tfstate;
CREATE EXTENSION tfstate SCHEMA regress_tfstate;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SET search_path = public, regress_tfstate;

SELECT current_database() AS database \gset
CREATE ROLE regress_tfstate_tf LOGIN;
CREATE ROLE regress_tfstate_other LOGIN;
CREATE ROLE regress_tfstate_admin;
GRANT CREATE ON DATABASE :"database" TO regress_tfstate_tf, regress_tfstate_other;
GRANT CREATE ON SCHEMA public TO regress_tfstate_tf, regress_tfstate_other;
-- what Terraform sends, apart from the names
\set states '(id bigint NOT NULL DEFAULT nextval(\'public.global_states_id_seq\') PRIMARY KEY, name text UNIQUE, data text)'
CREATE VIEW attached AS	-- with what was made for it
SELECT t.relid AS "table", c.relowner::regrole AS owner, t.name, t.guard, t.keep_versions AS keep, t.default_workspace AS "default",
	   (SELECT count(*) FROM pg_trigger g WHERE g.tgrelid = t.relid AND g.tgfoid = 'tfstate_internal.guard()'::regprocedure) AS triggers,
	   (SELECT count(*) FROM tfstate_versions(t.name || '/*')) AS versions,
	   (SELECT string_agg(g.role || ' ' || g.privilege || ' ' || g.pattern, ', ') FROM tfstate_grants g WHERE g.pattern = t.name || '/*') AS grants
  FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid ORDER BY t.name COLLATE "C";
CREATE VIEW findings AS
SELECT severity, object, problem, remedy FROM tfstate_check() WHERE role IS NULL AND object <> 'server';

--
-- Nothing happens before it is asked for; check says which tables are not attached.
--
SET ROLE regress_tfstate_tf;
CREATE SCHEMA IF NOT EXISTS before;
CREATE SEQUENCE IF NOT EXISTS public.global_states_id_seq AS bigint;
CREATE TABLE IF NOT EXISTS before.states :states;
CREATE UNIQUE INDEX IF NOT EXISTS states_by_name ON before.states (name);
CREATE TABLE before.old (id SERIAL PRIMARY KEY, name text, data text);
CREATE UNIQUE INDEX old_by_name ON before.old (name);
CREATE TABLE before.no_states (id bigint PRIMARY KEY, name text, data text);
CREATE TABLE before.wide (id bigint PRIMARY KEY, name text UNIQUE, data text, more text);
CREATE TEMP TABLE temporary :states;
RESET ROLE;
TABLE attached;
TABLE findings;
SELECT evtname FROM pg_event_trigger;

--
-- Who may ask for it, and where
--
GRANT USAGE ON SCHEMA regress_tfstate TO regress_tfstate_admin, regress_tfstate_tf;
GRANT USAGE ON SCHEMA tfstate_internal TO regress_tfstate_admin;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA regress_tfstate, tfstate_internal TO regress_tfstate_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tfstate_internal TO regress_tfstate_admin;
SET ROLE regress_tfstate_admin;
CALL fails('SELECT regress_tfstate.tfstate_attach_database(new_tables => true)');
CALL fails('SELECT regress_tfstate.tfstate_attach_database(login => true)');
SET ROLE regress_tfstate_tf;
CALL fails('SELECT tfstate_attach_database(new_tables => true)');
RESET ROLE;
GRANT CREATE ON SCHEMA regress_tfstate TO regress_tfstate_other;
CALL fails('SELECT tfstate_attach_database(new_tables => true)');
REVOKE CREATE ON SCHEMA regress_tfstate FROM regress_tfstate_other;
ALTER SCHEMA regress_tfstate OWNER TO regress_tfstate_other;
CALL fails('SELECT tfstate_attach_database(new_tables => true)');
SELECT format('ALTER SCHEMA regress_tfstate OWNER TO %I', current_user) \gexec
SELECT count(*) FROM tfstate_internal.attached_database;
CALL fails('SELECT tfstate_attach_database(keep_versions => 0)');
SELECT tfstate_attach_database(new_tables => true, keep_versions => 5);
SELECT evtname, evtevent, evtenabled, evttags FROM pg_event_trigger ORDER BY evtname COLLATE "C";
SELECT DISTINCT obj_description(oid, 'pg_event_trigger') FROM pg_event_trigger;
TABLE attached;

--
-- What terraform init sends
--
SET ROLE regress_tfstate_tf;
CREATE SCHEMA IF NOT EXISTS new;
CREATE SEQUENCE IF NOT EXISTS public.global_states_id_seq AS bigint;
CREATE TABLE IF NOT EXISTS new.states :states;
CREATE UNIQUE INDEX IF NOT EXISTS states_by_name ON new.states (name);
-- again, at the next command
CREATE TABLE IF NOT EXISTS new.states :states;
CREATE UNIQUE INDEX IF NOT EXISTS states_by_name ON new.states (name);
-- the run's own locks and writes
SELECT tfstate_pg.pg_try_advisory_lock(id) FROM new.states WHERE name = 'default';
INSERT INTO new.states (name, data) VALUES ('default', '{"version":4,"serial":1,"lineage":"a"}')
ON CONFLICT (name) DO UPDATE SET data = excluded.data WHERE states.name = 'default';
SELECT tfstate_pg.pg_advisory_unlock(id) FROM new.states WHERE name = 'default';
CALL fails('UPDATE new.states SET data = ''{"version":4,"serial":2,"lineage":"a"}''');
RESET ROLE;
TABLE attached;
SELECT number, operation, serial, role FROM tfstate_versions('new.states/default') ORDER BY number;

--
-- Each kind of command
--
SET ROLE regress_tfstate_other;
CREATE SCHEMA "Odd ""name/";
CREATE TABLE IF NOT EXISTS "Odd ""name/"."t able" :states;
CREATE SCHEMA kinds;
CREATE TABLE IF NOT EXISTS kinds.a23456789_123456789_123456789_123456789_123456789_123456789_123 :states;
DO $$ BEGIN
	CREATE TABLE IF NOT EXISTS kinds.in_do (id bigint NOT NULL DEFAULT nextval('public.global_states_id_seq') PRIMARY KEY, name text UNIQUE, data text);
END $$;
BEGIN ISOLATION LEVEL SERIALIZABLE;
CREATE TABLE IF NOT EXISTS kinds.serializable :states;
COMMIT;
SET quote_all_identifiers = on;
-- PostgreSQL 19 has no other strings than standard ones.
DO $$ BEGIN IF current_setting('server_version_num') < '190000' THEN SET standard_conforming_strings = off; END IF; END $$;
CREATE TABLE IF NOT EXISTS kinds.settings :states;
RESET quote_all_identifiers;
RESET standard_conforming_strings;
BEGIN;
CREATE TABLE IF NOT EXISTS kinds.rolled_back :states;
SELECT count(*) FROM kinds.rolled_back;
ROLLBACK;
BEGIN;
SAVEPOINT s;
CREATE TABLE IF NOT EXISTS kinds.savepoint :states;
ROLLBACK TO s;
CREATE TABLE IF NOT EXISTS kinds.savepoint :states;
COMMIT;
-- None of these is what Terraform sends.
CREATE TEMP TABLE IF NOT EXISTS not_temporary :states;
CREATE UNLOGGED TABLE IF NOT EXISTS kinds.not_unlogged :states;
CREATE TABLE kinds.not_plain :states;
CREATE TABLE IF NOT EXISTS kinds.not_query AS SELECT * FROM kinds.in_do;
CREATE TABLE IF NOT EXISTS kinds.not_inherited () INHERITS (kinds.not_plain);
CREATE TABLE IF NOT EXISTS kinds.not_partitioned (id bigint DEFAULT nextval('public.global_states_id_seq') PRIMARY KEY, name text, data text) PARTITION BY RANGE (id);
CREATE TABLE IF NOT EXISTS kinds.not_a_part PARTITION OF kinds.not_partitioned DEFAULT;
CREATE TYPE kinds.row AS (id bigint, name text, data text);
CREATE TABLE IF NOT EXISTS kinds.not_typed OF kinds.row;
CREATE TABLE IF NOT EXISTS kinds.not_shared (id bigserial PRIMARY KEY, name text UNIQUE, data text);
CREATE SCHEMA elements CREATE TABLE not_element :states;
-- An obstacle is a warning.
CREATE SCHEMA IF NOT EXISTS "a*b";
CREATE TABLE IF NOT EXISTS "a*b".states :states;
CREATE TABLE IF NOT EXISTS kinds.columns (id bigint DEFAULT nextval('public.global_states_id_seq') PRIMARY KEY, name text UNIQUE, content text);
CREATE TABLE IF NOT EXISTS kinds.checked (id bigint DEFAULT nextval('public.global_states_id_seq') PRIMARY KEY, name text UNIQUE, data text CHECK (data > ''));
-- A role without the right to create gets the server's error.
RESET ROLE;
REVOKE CREATE ON DATABASE :"database" FROM regress_tfstate_other;
SET ROLE regress_tfstate_other;
CALL fails('CREATE SCHEMA IF NOT EXISTS denied');
CALL fails('CREATE TABLE IF NOT EXISTS new.denied (id bigint)');
RESET ROLE;
-- A superuser's table
CREATE TABLE IF NOT EXISTS kinds.of_superuser :states;
SELECT rolname = current_user AS superusers FROM pg_class JOIN pg_roles r ON r.oid = relowner WHERE relname = 'of_superuser';
SELECT "table", keep, triggers, versions, grants FROM attached;
SELECT object, remedy FROM findings;

--
-- What the administrator has asked for
--
SELECT tfstate_attach_database(mode => 'durable', wait => '1 min', guard => 'on', default_workspace => false);
SET ROLE regress_tfstate_tf;
CREATE TABLE IF NOT EXISTS new.encrypted :states;
RESET ROLE;
SELECT mode, wait, guard, keep_versions, default_workspace FROM tfstate_tables WHERE "table" = 'encrypted';
SELECT count(*) FROM new.encrypted;
SELECT tfstate_attach_database(mode => 'session', wait => '0', guard => 'require', default_workspace => true);
-- The default row is inserted with the rights of the owner, whatever another event trigger has done before.
CREATE FUNCTION public.meddle() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
	command record;
BEGIN
	FOR command IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE object_type = 'table' LOOP
		EXECUTE format('REVOKE INSERT ON %s FROM regress_tfstate_tf', command.object_identity);
	END LOOP;
END;
$$;
CREATE EVENT TRIGGER regress_tfstate_meddle ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.meddle();
SET ROLE regress_tfstate_tf;
CREATE TABLE IF NOT EXISTS new.without_right :states;
RESET ROLE;
DROP EVENT TRIGGER regress_tfstate_meddle;
DROP FUNCTION public.meddle;
SELECT count(*) FROM new.without_right;
-- Default privileges do not apply.
ALTER DEFAULT PRIVILEGES FOR ROLE regress_tfstate_tf GRANT SELECT ON TABLES TO PUBLIC;
SET ROLE regress_tfstate_tf;
CREATE TABLE IF NOT EXISTS new.by_default :states;
RESET ROLE;
ALTER DEFAULT PRIVILEGES FOR ROLE regress_tfstate_tf REVOKE SELECT ON TABLES FROM PUBLIC;
SELECT has_table_privilege('regress_tfstate_other', 'new.by_default', 'SELECT') AS other_reads;

--
-- A table of the name of one that was dropped: its owner gets the locks, and the old one loses them.
--
SET ROLE regress_tfstate_tf;
CREATE TABLE IF NOT EXISTS new.unused :states;
DROP SCHEMA new CASCADE;
CREATE SCHEMA IF NOT EXISTS new;
CREATE TABLE IF NOT EXISTS new.states :states;
RESET ROLE;
SELECT "table", owner, triggers, versions, grants FROM attached WHERE name = 'new.states';
GRANT CREATE ON DATABASE :"database" TO regress_tfstate_other;
GRANT ALL ON SCHEMA new TO regress_tfstate_other;
SET ROLE regress_tfstate_other;
CREATE TABLE IF NOT EXISTS new.unused :states;
RESET ROLE;
SELECT "table", owner, triggers, versions, grants FROM attached WHERE name = 'new.unused';
SELECT count(*) FROM tfstate_internal.attached_table WHERE name = 'new.unused';
-- But nobody gets at states of others that way.
SELECT tfstate_grant('regress_tfstate_other', '*', 'view');
SET ROLE regress_tfstate_tf;
DROP TABLE new.states;
SET ROLE regress_tfstate_other;
CREATE TABLE IF NOT EXISTS new.states :states;
RESET ROLE;
GRANT USAGE ON SCHEMA regress_tfstate TO regress_tfstate_other;
SET ROLE regress_tfstate_other;
CALL fails($$SELECT tfstate_version('new.states/default', 2)$$);
CALL fails($$SELECT tfstate_rollback('new.states/default', 2)$$);
RESET ROLE;
CALL fails($$SELECT tfstate_internal.adopt_owner('new.states')$$);
SELECT object, remedy FROM findings WHERE object = 'new.states';
DROP TABLE new.states;
SET ROLE regress_tfstate_other;

--
-- The owner cannot take the guard from its table.
--
CALL fails('ALTER TABLE new.unused DISABLE TRIGGER ALL');
CALL fails('ALTER TABLE new.unused DISABLE TRIGGER USER');
CALL fails('ALTER TABLE new.unused DISABLE TRIGGER tfstate_guard_row');
CALL fails('ALTER TABLE new.unused ENABLE REPLICA TRIGGER tfstate_guard_truncate');
CALL fails('DROP TRIGGER tfstate_guard_row ON new.unused');
CALL fails('DROP TRIGGER tfstate_guard_truncate ON new.unused CASCADE');
CALL fails('ALTER TRIGGER tfstate_guard_row ON new.unused RENAME TO other');
CREATE FUNCTION public.other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CALL fails('CREATE OR REPLACE TRIGGER tfstate_guard_row AFTER INSERT ON new.unused FOR EACH ROW EXECUTE FUNCTION public.other()');
CALL fails('CREATE RULE other AS ON UPDATE TO new.unused DO INSTEAD NOTHING');
CALL fails($$DO 'BEGIN ALTER TABLE new.unused DISABLE TRIGGER ALL; END'$$);
CREATE TRIGGER own AFTER INSERT ON new.unused FOR EACH ROW EXECUTE FUNCTION public.other();
ALTER TABLE new.unused DISABLE TRIGGER own;
DROP TRIGGER own ON new.unused;
ALTER TABLE new.unused ADD more text;
ALTER TABLE new.unused DROP more;
ALTER TABLE new.unused ENABLE ALWAYS TRIGGER tfstate_guard_row;
DROP TABLE kinds.in_do;
RESET ROLE;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'new.unused'::regclass ORDER BY tgname COLLATE "C";
-- An administrator can, also one who is no superuser.
ALTER TABLE new.unused DISABLE TRIGGER ALL;
SELECT object, problem, remedy FROM findings WHERE object = 'new.unused';
ALTER TABLE new.unused ENABLE TRIGGER ALL;
GRANT regress_tfstate_other TO regress_tfstate_admin;
SELECT tfstate_grant('regress_tfstate_admin', 'new.unused/*', 'admin');
SET ROLE regress_tfstate_admin;
SELECT regress_tfstate.tfstate_detach('new', 'unused');
RESET ROLE;
REVOKE regress_tfstate_other FROM regress_tfstate_admin;
SELECT object, remedy FROM findings WHERE object = 'new.unused';

--
-- Without the library every table can be created, and those of states are not attached.
--
CREATE TABLE library AS SELECT oid, probin FROM pg_proc WHERE pronamespace = 'tfstate_internal'::regnamespace AND probin IS NOT NULL;
UPDATE pg_proc p SET probin = '/missing/library' FROM library l WHERE l.oid = p.oid;
SET ROLE regress_tfstate_tf;
CREATE TABLE public.other (a int);
CREATE TABLE IF NOT EXISTS before.without_library :states;
ALTER TABLE public.other ADD b int;
RESET ROLE;
DROP TABLE public.other;
UPDATE pg_proc p SET probin = l.probin FROM library l WHERE l.oid = p.oid;
DROP TABLE library;
SELECT object, remedy FROM findings WHERE object = 'before.without_library';

--
-- The event triggers are altered, or the schema is opened.
--
ALTER EVENT TRIGGER tfstate_after_creation DISABLE;
DROP EVENT TRIGGER tfstate_keep_guard;
SELECT problem, remedy FROM findings WHERE object = 'database';
SELECT count(*) > 0 AS reported FROM findings WHERE problem ~ 'which can drop the triggers';
SELECT tfstate_attach_database(new_tables => true);
GRANT CREATE ON SCHEMA regress_tfstate TO regress_tfstate_other;
SELECT problem, remedy FROM findings WHERE object = 'database';
REVOKE CREATE ON SCHEMA regress_tfstate FROM regress_tfstate_other;
SELECT count(*) FROM findings WHERE object = 'database';

--
-- Off again; nothing is left in the way of DROP EXTENSION but what is attached.
--
SELECT tfstate_attach_database(new_tables => false);
SELECT count(*) FROM pg_event_trigger;
SET ROLE regress_tfstate_tf;
CREATE TABLE IF NOT EXISTS before.after :states;
RESET ROLE;
SELECT count(*) FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid WHERE c.relname = 'after';
SELECT tfstate_attach_database(new_tables => true);
SELECT tfstate_detach(n.nspname, c.relname) FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid
  JOIN pg_namespace n ON n.oid = c.relnamespace;
DROP VIEW attached, findings;
DROP TABLE temporary, not_temporary;
SET client_min_messages = error;
CALL fails('DROP EXTENSION tfstate');
SELECT tfstate_detach_database();
SELECT count(*) FROM pg_event_trigger;
DROP EXTENSION tfstate;

--
-- An installation in public gets a schema of its own when that is renamed.
--
CREATE EXTENSION tfstate SCHEMA public;
CALL fails('SELECT public.tfstate_attach_database(new_tables => true)');
BEGIN;
SELECT count(*) > 0 AS attached FROM tfstate_attach('before');
ALTER SCHEMA public RENAME TO regress_tfstate_moved;
CREATE SCHEMA public;
ALTER SEQUENCE regress_tfstate_moved.global_states_id_seq SET SCHEMA public;
REVOKE CREATE ON SCHEMA regress_tfstate_moved FROM regress_tfstate_tf, regress_tfstate_other;
SELECT format('ALTER SCHEMA regress_tfstate_moved OWNER TO %I', current_user) \gexec
GRANT USAGE, CREATE ON SCHEMA public TO regress_tfstate_tf;
SELECT regress_tfstate_moved.tfstate_attach_database(new_tables => true);
SET ROLE regress_tfstate_tf;
CREATE TABLE IF NOT EXISTS before.moved :states;
RESET ROLE;
SELECT t.relid FROM tfstate_internal.attached_table t ORDER BY t.relid::text COLLATE "C";
ROLLBACK;
CALL fails('SELECT tfstate_internal.insert_as_owner(1::regclass, ''x'')');
DROP EXTENSION tfstate;

DROP SCHEMA before, new, kinds, "Odd ""name/", elements, "a*b" CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP FUNCTION public.other;
DROP FUNCTION masked;
DROP PROCEDURE fails;
DROP SCHEMA regress_tfstate CASCADE;
DROP OWNED BY regress_tfstate_tf, regress_tfstate_other, regress_tfstate_admin;
DROP ROLE regress_tfstate_tf, regress_tfstate_other, regress_tfstate_admin;
