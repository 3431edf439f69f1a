-- tfstate_check(): each problem that it knows, and none where all is well.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET IntervalStyle = 'postgres';
CREATE EXTENSION tfstate;

-- Whatever the server at hand has: nothing is logged, and the system keeps
-- connections alive.
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
  FROM tfstate_check() WHERE object IS DISTINCT FROM 'server';
\pset format unaligned
\pset tuples_only on
-- Shows the problems, does what they say, and tells whether that helped.
CREATE PROCEDURE remedied() LANGUAGE plpgsql AS $$
DECLARE
	p record;
BEGIN
	FOR p IN SELECT * FROM problems LOOP
		RAISE INFO '%', concat_ws(E'\n', p.severity || ': ' || p.problem, 'role: ' || p.role, 'object: ' || p.object, 'remedy: ' || p.remedy);
	END LOOP;
	FOR p IN SELECT DISTINCT remedy FROM tfstate_check() WHERE object IS DISTINCT FROM 'server' AND remedy IS NOT NULL LOOP
		EXECUTE p.remedy;
	END LOOP;
	FOR p IN SELECT * FROM problems LOOP
		RAISE INFO 'not remedied: %', p;
	END LOOP;
END;
$$;

-- Nothing is attached, or as it should be.
TABLE problems;
SELECT tfstate_attach('tf', role => 'regress_tfstate_tf') IS NOT NULL AS attached;
SELECT tfstate_attach('tf', 'more', role => 'regress_tfstate_tf', mode => 'durable', wait => '10 min') IS NOT NULL AS attached;
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
-- Of a collision nobody can tell which one is to go.
SET tfstate.guard = off;
UPDATE tf.more SET id = 5000000;
TABLE problems;
UPDATE tf.more SET id = nextval('public.global_states_id_seq');
RESET tfstate.guard;
TABLE problems;
SELECT tfstate_attach('tf', 'dropped') IS NOT NULL AS attached;
DROP TABLE tf.dropped;
SELECT severity, role, object, problem, regexp_replace(remedy, '\d+', '<oid>') FROM problems;
DELETE FROM tfstate_attached_table WHERE name = 'tf.dropped';
TABLE problems;

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
-- More than is needed, other ways to have it, and locks of single workspaces are
-- all well.
GRANT ALL ON tf.states TO PUBLIC;
SELECT tfstate_revoke('regress_tfstate_tf', 'tf.states/*'), tfstate_grant('regress_tfstate_tf', 'tf.states/prod');
SELECT * FROM problems WHERE role = 'regress_tfstate_tf';
REVOKE ALL ON tf.states FROM PUBLIC;
SELECT tfstate_revoke('regress_tfstate_tf', 'tf.states/prod'), tfstate_grant('public', '*');
TABLE problems;
SELECT tfstate_revoke('public', '*'), tfstate_grant('regress_tfstate_tf', 'tf.states/*');

-- Who else may write, lock, or has the privileges of an attached role.
CREATE ROLE regress_tfstate_writer LOGIN;
GRANT DELETE ON tf.states TO regress_tfstate_writer;
CREATE ROLE regress_tfstate_locker LOGIN;
SELECT tfstate_grant('regress_tfstate_locker', 'tf.states/prod');
CREATE ROLE regress_tfstate_member LOGIN IN ROLE regress_tfstate_tf;
SELECT role, object, problem FROM problems;
DROP OWNED BY regress_tfstate_writer;
DROP ROLE regress_tfstate_member, regress_tfstate_writer;
SELECT tfstate_revoke('regress_tfstate_locker', 'tf.states/prod');
-- Not who may lock everything, for it may lock without Terraform, who cannot log
-- in, and superusers.
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
-- A setting of the role in this database goes before one of the role, that before
-- one of the database.
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
-- Time-outs are in the way of waits that are longer, only.
SELECT tfstate_attach('tf', role => 'regress_tfstate_tf', wait => '30s') IS NOT NULL AS attached;
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET lock_timeout = 29999;
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" RESET statement_timeout;
SELECT problem FROM problems;
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET tfstate.wait = -1;
CALL remedied();
ALTER DATABASE :"database" RESET statement_timeout;

-- Settings of tfstate that an earlier session could give a wrong name or value.
\c -
\pset format unaligned
\pset tuples_only on
SET client_min_messages = error;
SET IntervalStyle = 'postgres';
ALTER ROLE regress_tfstate_tf IN DATABASE :"database" SET tfstate.mod = 'durable';
ALTER ROLE regress_tfstate_tf SET tfstate.mode = 'forever';
ALTER DATABASE :"database" SET tfstate.wait = 'soon';
ALTER DATABASE :"database" SET tfstate.who = 'anything';
CALL remedied();
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
ALTER DATABASE :"database" SET auto_explain.log_min_duration = '1s';
TABLE problems;
ALTER DATABASE :"database" SET auto_explain.log_parameter_max_length = -1;
CALL remedied();

SELECT tfstate_detach('tf'), tfstate_detach('tf', 'more');
TABLE problems;
ALTER DATABASE :"database" RESET ALL;
DROP EXTENSION tfstate CASCADE;
DROP SCHEMA tf CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP PROCEDURE remedied;
DROP OWNED BY regress_tfstate_tf, regress_tfstate_owner;
DROP ROLE regress_tfstate_tf, regress_tfstate_owner;
