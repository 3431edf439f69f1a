-- tfstate_check(): each problem that it reports, and no row if all is well.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET IntervalStyle = 'postgres';
CREATE EXTENSION tfstate;

-- Make the result independent of the server's configuration: nothing is logged, and keepalives
-- are on.
SELECT current_database() AS database \gset
ALTER DATABASE :"database" SET log_statement = 'none';
ALTER DATABASE :"database" SET log_min_duration_statement = -1;
ALTER DATABASE :"database" SET log_min_duration_sample = -1;
ALTER DATABASE :"database" SET log_transaction_sample_rate = 0;
ALTER DATABASE :"database" SET log_parameter_max_length = -1;
ALTER DATABASE :"database" SET log_parameter_max_length_on_error = 0;
ALTER DATABASE :"database" SET tcp_keepalives_idle = 0;
ALTER DATABASE :"database" SET tcp_keepalives_interval = 0;
ALTER DATABASE :"database" SET tcp_keepalives_count = 0;

CREATE ROLE regress_tfstate_tf LOGIN;
CREATE ROLE regress_tfstate_owner LOGIN;
CREATE VIEW problems AS
SELECT severity, role, object, problem, replace(remedy, current_database(), '<database>') AS remedy
  FROM tfstate_check() WHERE object IS NULL OR object NOT IN ('server', 'database');
\pset format unaligned
\pset tuples_only on
-- Shows the problems, follows the remedies, and shows whether they helped.
CREATE PROCEDURE remedied() LANGUAGE plpgsql AS $$
DECLARE
	p record;
BEGIN
	FOR p IN SELECT * FROM problems LOOP
		RAISE INFO '%', concat_ws(E'\n', p.severity || ': ' || p.problem, 'role: ' || p.role, 'object: ' || p.object, 'remedy: ' || p.remedy);
	END LOOP;
	FOR p IN SELECT DISTINCT remedy FROM tfstate_check() WHERE (object IS NULL OR object NOT IN ('server', 'database')) AND remedy IS NOT NULL LOOP
		EXECUTE p.remedy;
	END LOOP;
	FOR p IN SELECT * FROM problems LOOP
		RAISE INFO 'not remedied: %', p;
	END LOOP;
END;
$$;

-- Nothing is attached, or everything is as it should be.
TABLE problems;
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', role => 'regress_tfstate_tf', guard => 'on');
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'more', role => 'regress_tfstate_tf', mode => 'durable', wait => '10 min');
TABLE problems;

--
-- Tables
--
DROP TRIGGER tfstate_guard_row ON tf.states;
ALTER TABLE tf.states DISABLE TRIGGER tfstate_guard_truncate;
CALL remedied();
ALTER TABLE tf.states ENABLE REPLICA TRIGGER tfstate_guard_row;
DROP TRIGGER tfstate_guard_truncate ON tf.states;
CALL remedied();
ALTER TABLE tf.states ENABLE ALWAYS TRIGGER tfstate_guard_row;
CALL remedied();
-- A trigger with the right name that is another one.
CREATE FUNCTION tf.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE OR REPLACE TRIGGER tfstate_guard_row AFTER INSERT OR UPDATE OR DELETE ON tf.states FOR EACH ROW EXECUTE FUNCTION tf.nothing();
CREATE OR REPLACE TRIGGER tfstate_guard_truncate BEFORE TRUNCATE ON tf.states FOR EACH STATEMENT EXECUTE FUNCTION tf.nothing();
CALL remedied();
CREATE OR REPLACE TRIGGER tfstate_guard_row AFTER INSERT OR UPDATE OR DELETE ON tf.states FOR EACH ROW WHEN (false) EXECUTE FUNCTION tfstate_internal.guard();
CREATE OR REPLACE TRIGGER tfstate_guard_truncate AFTER TRUNCATE ON tf.states FOR EACH STATEMENT EXECUTE FUNCTION tfstate_internal.guard();
CALL remedied();
CREATE OR REPLACE TRIGGER tfstate_guard_row AFTER INSERT OR UPDATE OF name OR DELETE ON tf.states FOR EACH ROW EXECUTE FUNCTION tfstate_internal.guard();
CREATE OR REPLACE TRIGGER tfstate_guard_truncate BEFORE TRUNCATE ON tf.states FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION tfstate_internal.guard();
CALL remedied();
CREATE OR REPLACE TRIGGER tfstate_guard_row AFTER INSERT OR UPDATE ON tf.states FOR EACH ROW EXECUTE FUNCTION tfstate_internal.guard();
CALL remedied();
DROP TRIGGER tfstate_guard_row ON tf.states;
CREATE CONSTRAINT TRIGGER tfstate_guard_row AFTER INSERT OR UPDATE OR DELETE ON tf.states INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tfstate_internal.guard();
CALL remedied();
-- Rules.
CREATE RULE a AS ON INSERT TO tf.states DO ALSO NOTHING;
CREATE RULE b AS ON UPDATE TO tf.states DO INSTEAD NOTHING;
CALL remedied();
-- A table that was restored alone
CREATE TABLE tf.restored (LIKE tf.states INCLUDING ALL);
CREATE TRIGGER tfstate_guard_row AFTER INSERT OR UPDATE OR DELETE ON tf.restored FOR EACH ROW EXECUTE FUNCTION tfstate_internal.guard();
CALL remedied();
SELECT tfstate_detach('tf', 'restored');
DROP TABLE tf.restored;
CREATE SEQUENCE tf.own;
ALTER TABLE tf.states ALTER id SET DEFAULT nextval('tf.own');
CALL remedied();
ALTER TABLE tf.states DROP CONSTRAINT states_pkey, DROP CONSTRAINT states_name_key;
DROP INDEX tf.states_by_name;
CALL remedied();
ALTER TABLE tf.states SET UNLOGGED;
CALL remedied();
ALTER TABLE tf.states ENABLE ROW LEVEL SECURITY;
CALL remedied();
CREATE TABLE tf.child () INHERITS (tf.states);
TABLE problems;
DROP TABLE tf.child;
ALTER TABLE tf.states RENAME data TO text;
TABLE problems;
ALTER TABLE tf.states RENAME text TO data;
-- Publications that carry tables of tfstate; the other one does not.
SET client_min_messages = error;
CREATE PUBLICATION regress_tfstate_all FOR ALL TABLES;
CREATE PUBLICATION regress_tfstate_some FOR TABLE tf.states, tfstate_internal.privilege, tfstate_internal.freeze;
CREATE PUBLICATION regress_tfstate_one FOR TABLE tf.states;
SET client_min_messages = warning;
SELECT object, problem, remedy FROM tfstate_check() WHERE object ~ 'publication';
SELECT remedy FROM tfstate_check() WHERE object ~ 'publication' AND remedy IS NOT NULL \gexec
SELECT object FROM tfstate_check() WHERE object ~ 'publication';
DROP PUBLICATION regress_tfstate_all, regress_tfstate_some, regress_tfstate_one;
ALTER SCHEMA tf RENAME TO renamed;
CALL remedied();
ALTER SCHEMA renamed RENAME TO tf;
CALL remedied();
ALTER TABLE tf.states OWNER TO regress_tfstate_owner;
CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER t BEFORE INSERT ON tf.states FOR EACH ROW EXECUTE FUNCTION pg_temp.f();
SELECT severity, problem, remedy FROM problems WHERE role IS NULL;
DROP TRIGGER t ON tf.states;
ALTER TABLE tf.states OWNER TO CURRENT_USER;
REVOKE ALL ON tf.states FROM regress_tfstate_owner;

-- Rows.
DELETE FROM tf.states;
CALL remedied();
INSERT INTO tf.states VALUES (5000000, 'late', '{"version":4,"serial":1,"lineage":"1"}');
CALL remedied();
-- The last id that was given out is taken, and the next one.
SELECT last_value + 1 AS next, last_value = (SELECT max(id) FROM tf.states) AS taken FROM public.global_states_id_seq \gset
SELECT :'taken' AS taken;
TABLE problems;
SET tfstate.guard = off;
UPDATE tf.states SET id = :next WHERE name = 'default';
CALL remedied();
-- A row without a name
INSERT INTO tf.states (name) VALUES (NULL);
TABLE problems;
DELETE FROM tf.states WHERE name IS NULL;
RESET tfstate.guard;
-- Which row of a collision should go cannot be known.
SET tfstate.guard = off;
UPDATE tf.more SET id = 5000000;
TABLE problems;
UPDATE tf.more SET id = nextval('public.global_states_id_seq');
RESET tfstate.guard;
TABLE problems;
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'dropped');
DROP TABLE tf.dropped;
CALL remedied();

--
-- Privileges
--
REVOKE CONNECT ON DATABASE :"database" FROM PUBLIC;
REVOKE USAGE ON SCHEMA tf FROM regress_tfstate_tf;
REVOKE SELECT, DELETE ON tf.states FROM regress_tfstate_tf;
REVOKE INSERT (data) ON tf.states FROM regress_tfstate_tf;
REVOKE UPDATE (data) ON tf.states FROM regress_tfstate_tf;
REVOKE USAGE ON SEQUENCE public.global_states_id_seq FROM regress_tfstate_tf;
SELECT tfstate_revoke('regress_tfstate_tf', 'tf.states/*');
CALL remedied();
GRANT CONNECT ON DATABASE :"database" TO PUBLIC;
REVOKE CONNECT ON DATABASE :"database" FROM regress_tfstate_tf;
REVOKE USAGE ON SCHEMA tfstate_pg FROM PUBLIC;
CALL remedied();
GRANT USAGE ON SCHEMA tfstate_pg TO PUBLIC;
-- More than needed, privileges from other sources, and locks of single workspaces are all
-- accepted.
GRANT DELETE, INSERT, REFERENCES, SELECT, TRIGGER, TRUNCATE, UPDATE ON tf.states TO PUBLIC;
SELECT tfstate_revoke('regress_tfstate_tf', 'tf.states/*'), tfstate_grant('regress_tfstate_tf', 'tf.states/prod');
SELECT * FROM problems WHERE role = 'regress_tfstate_tf';
-- But not for everybody, which is one row, not one for each role.
SELECT count(*) FROM problems;
CALL remedied();
GRANT SELECT ON tf.states TO PUBLIC;
CALL remedied();
SELECT tfstate_revoke('regress_tfstate_tf', 'tf.states/prod'), tfstate_grant('public', '*');
TABLE problems;
SELECT tfstate_revoke('public', '*'), tfstate_grant('regress_tfstate_tf', 'tf.states/*');

-- Default privileges that let others read states
ALTER DEFAULT PRIVILEGES IN SCHEMA tf GRANT SELECT, TRIGGER ON TABLES TO regress_tfstate_owner;
ALTER DEFAULT PRIVILEGES FOR ROLE regress_tfstate_tf GRANT SELECT, UPDATE ON TABLES TO PUBLIC;
CALL remedied();
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO regress_tfstate_owner;
ALTER DEFAULT PRIVILEGES FOR ROLE regress_tfstate_owner IN SCHEMA tf GRANT SELECT ON TABLES TO regress_tfstate_tf;
TABLE problems;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE SELECT ON TABLES FROM regress_tfstate_owner;
ALTER DEFAULT PRIVILEGES IN SCHEMA tf REVOKE TRIGGER ON TABLES FROM regress_tfstate_owner;

-- A role that reads and locks, for terraform plan, is accepted, and gets no right to write.
CREATE ROLE regress_tfstate_planner LOGIN;
GRANT SELECT ON tf.states TO regress_tfstate_planner;
SELECT tfstate_grant('regress_tfstate_planner', 'tf.states/prod');
CALL remedied();
TABLE problems;
REVOKE CONNECT ON DATABASE :"database" FROM PUBLIC;
REVOKE USAGE ON SCHEMA tfstate_pg FROM PUBLIC;
REVOKE SELECT ON tf.states FROM regress_tfstate_planner;
GRANT SELECT (id, data) ON tf.states TO regress_tfstate_planner;
CALL remedied();
GRANT CONNECT ON DATABASE :"database" TO PUBLIC;
GRANT USAGE ON SCHEMA tfstate_pg TO PUBLIC;
SELECT has_any_column_privilege('regress_tfstate_planner', 'tf.states', 'INSERT, UPDATE')
	OR has_table_privilege('regress_tfstate_planner', 'tf.states', 'DELETE') AS may_write;
SELECT tfstate_revoke('regress_tfstate_planner', 'tf.states/prod');
DROP OWNED BY regress_tfstate_planner;
DROP ROLE regress_tfstate_planner;
-- So is a role that may write everything.
CREATE ROLE regress_tfstate_all LOGIN;
GRANT pg_write_all_data TO regress_tfstate_all;
TABLE problems;
DROP ROLE regress_tfstate_all;
-- A role that becomes an attached role at login has its rights, but not its settings.
CREATE ROLE regress_tfstate_other LOGIN NOINHERIT IN ROLE regress_tfstate_tf;
TABLE problems;
ALTER ROLE regress_tfstate_other SET role = regress_tfstate_tf;
REVOKE DELETE ON tf.states FROM regress_tfstate_tf;
SELECT severity, role, problem, remedy FROM problems;
CALL remedied();
ALTER ROLE regress_tfstate_other IN DATABASE :"database" RESET search_path;
ALTER ROLE regress_tfstate_other SET role = none;
TABLE problems;
DROP ROLE regress_tfstate_other;

-- Other roles that may write, lock and read, or have the privileges of an attached role
CREATE ROLE regress_tfstate_writer LOGIN;
GRANT DELETE ON tf.states TO regress_tfstate_writer;
CREATE ROLE regress_tfstate_locker LOGIN;
GRANT SELECT (data) ON tf.states TO regress_tfstate_locker;
SELECT tfstate_grant('regress_tfstate_locker', 'tf.states/prod');
CREATE ROLE regress_tfstate_member LOGIN IN ROLE regress_tfstate_tf;
SELECT role, object, problem, remedy FROM problems;
DROP OWNED BY regress_tfstate_writer;
DROP ROLE regress_tfstate_member, regress_tfstate_writer;
SELECT tfstate_revoke('regress_tfstate_locker', 'tf.states/prod');
-- Not a role that may lock without reading states.
REVOKE ALL ON tf.states FROM regress_tfstate_locker;
REVOKE SELECT (data) ON tf.states FROM regress_tfstate_locker;
SELECT tfstate_grant('regress_tfstate_locker', 'tf.states/*');
TABLE problems;
SELECT tfstate_revoke('regress_tfstate_locker', 'tf.states/*');
-- Not a role that may lock everything, which may lock without Terraform; a role that cannot log
-- in; or a superuser.
SELECT tfstate_grant('regress_tfstate_locker', '*');
GRANT ALL ON tf.states TO regress_tfstate_locker;
ALTER ROLE regress_tfstate_locker NOLOGIN;
TABLE problems;
ALTER ROLE regress_tfstate_locker LOGIN SUPERUSER;
TABLE problems;
DROP OWNED BY regress_tfstate_locker;
DROP ROLE regress_tfstate_locker;

--
-- Settings of roles
--
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET search_path = tfstate_pg, public;
CALL remedied();
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET search_path = pg_catalog, tfstate_pg;
CALL remedied();
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" RESET search_path;
CALL remedied();
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET search_path = '"tfstate_pg", PG_CATALOG';
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET search_path = "$user", "tfstate_pg", pg_catalog;
TABLE problems;
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" RESET ALL;
ALTER ROLE regress_tfstate_tf SET search_path = tfstate_pg, pg_catalog;
CALL remedied();
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET tcp_keepalives_idle = '2min';
CALL remedied();
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET tcp_keepalives_interval = 0;
CALL remedied();
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET tcp_keepalives_count = 100;
CALL remedied();
-- A setting of the role in this database overrides one of the role, and that overrides one of
-- the database.
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" RESET idle_session_timeout;
ALTER DATABASE :"database" SET idle_session_timeout = '2h';
SELECT problem FROM problems;
ALTER ROLE regress_tfstate_tf SET idle_session_timeout = '90min';
SELECT problem FROM problems;
CALL remedied();
ALTER DATABASE :"database" RESET idle_session_timeout;
ALTER ROLE regress_tfstate_tf RESET ALL;
ALTER DATABASE :"database" SET default_transaction_read_only = on;
ALTER DATABASE :"database" SET statement_timeout = '30s';
CALL remedied();
ALTER DATABASE :"database" RESET default_transaction_read_only;
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" RESET default_transaction_read_only;
-- Time-outs are problems only for longer waits.
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET tfstate.wait = '30s';
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET lock_timeout = 29999;
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" RESET statement_timeout;
SELECT problem FROM problems;
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET tfstate.wait = -1;
CALL remedied();
ALTER DATABASE :"database" RESET statement_timeout;

-- Settings of tfstate to which an earlier session could give a wrong name or value.
\c -
\pset format unaligned
\pset tuples_only on
SET client_min_messages = error;
SET IntervalStyle = 'postgres';
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET tfstate.mod = 'durable';
ALTER ROLE regress_tfstate_tf SET tfstate.mode = 'forever';
ALTER DATABASE :"database" SET tfstate.wait = 'soon';
ALTER DATABASE :"database" SET tfstate.who = 'anything';
-- not those of other databases
ALTER ROLE regress_tfstate_tf IN DATABASE template1 SET tfstate.mode = 'elsewhere';
CALL remedied();
ALTER ROLE regress_tfstate_tf IN DATABASE template1 RESET ALL;
ALTER DATABASE :"database" RESET tfstate.who;

-- The server log.
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" RESET log_parameter_max_length;
TABLE problems;
ALTER DATABASE :"database" SET log_statement = 'mod';
SELECT problem FROM problems;
ALTER DATABASE :"database" SET log_statement = 'ddl';
TABLE problems;
ALTER DATABASE :"database" SET log_min_duration_statement = '1s';
SELECT problem FROM problems;
ALTER DATABASE :"database" SET log_min_duration_statement = -1;
ALTER DATABASE :"database" SET log_min_duration_sample = 0;
SELECT problem FROM problems;
ALTER DATABASE :"database" SET log_min_duration_sample = -1;
ALTER DATABASE :"database" SET log_transaction_sample_rate = 0.5;
CALL remedied();
ALTER DATABASE :"database" SET log_transaction_sample_rate = 0;
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET log_parameter_max_length_on_error = 100;
CALL remedied();
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET debug_print_plan = on;
CALL remedied();
ALTER DATABASE :"database" SET log_min_duration_sample = 0;
ALTER DATABASE :"database" SET log_statement_sample_rate = 0;
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" RESET log_parameter_max_length;
TABLE problems;
ALTER DATABASE :"database" SET log_min_duration_sample = -1;
-- Settings of libraries, if they are loaded for the role.
ALTER DATABASE :"database" SET auto_explain.log_min_duration = '1s';
ALTER DATABASE :"database" SET auto_explain.log_verbose = on;
ALTER DATABASE :"database" SET auto_explain.log_parameter_max_length = 0;
ALTER DATABASE :"database" SET pgaudit.log = 'write';
ALTER DATABASE :"database" SET pgaudit.log_parameter = on;
TABLE problems;
ALTER ROLE regress_tfstate_tf SET session_preload_libraries = 'auto_explain', '$libdir/pgaudit';
CALL remedied();
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" RESET pgaudit.log_parameter;
ALTER ROLE regress_tfstate_tf SET session_preload_libraries = 'auto_explain';
TABLE problems;
ALTER ROLE regress_tfstate_tf RESET session_preload_libraries;
ALTER ROLE regress_tfstate_tf SET local_preload_libraries = 'pgaudit';
CALL remedied();
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" RESET pgaudit.log_parameter;
ALTER DATABASE :"database" SET pgaudit.log = 'none';
TABLE problems;
ALTER DATABASE :"database" SET pgaudit.role = 'auditor';
SELECT problem FROM problems;
ALTER ROLE regress_tfstate_tf RESET local_preload_libraries;

SELECT tfstate_detach('tf'), tfstate_detach('tf', 'more');
TABLE problems;
ALTER DATABASE :"database" RESET ALL;
DROP EXTENSION tfstate CASCADE;
DROP SCHEMA tf CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP PROCEDURE remedied;
DROP OWNED BY regress_tfstate_tf, regress_tfstate_owner;
DROP ROLE regress_tfstate_tf, regress_tfstate_owner;
