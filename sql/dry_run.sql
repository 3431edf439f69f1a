-- What tfstate_attach() would do is shown, step by step, and nothing is done.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
CREATE ROLE regress_tfstate_run LOGIN;
CREATE ROLE regress_tfstate_dba;
CREATE SCHEMA tf;
CREATE TABLE tf.states (id integer PRIMARY KEY, name text, data text);
INSERT INTO tf.states VALUES (7, 'w', '{"version": 4, "serial": 1, "lineage": "a", "resources": []}');
CREATE VIEW everything AS
SELECT (SELECT jsonb_agg(t) FROM (TABLE tfstate_internal.attached_table) t) AS tables,
	   (SELECT jsonb_agg(g) FROM (TABLE tfstate_internal.given) g) AS given,
	   (SELECT count(*) FROM tfstate_internal.stored_version) AS versions,
	   (SELECT count(*) FROM tfstate_grants) AS grants,
	   (SELECT jsonb_agg(s) FROM (TABLE pg_db_role_setting) s) AS settings,
	   (SELECT jsonb_agg(to_jsonb(c) - 'relhastriggers') FROM pg_class c WHERE relnamespace = 'tf'::regnamespace) AS classes,
	   to_regclass('public.global_states_id_seq') AS sequence;
CREATE TABLE before AS TABLE everything;

-- All that is missing is named, in order, with the commands that are run.
SELECT replace(l, current_database(), 'db') AS step
  FROM tfstate_attach('tf', role => 'regress_tfstate_run', mode => 'durable', dry_run => true) l
 WHERE l !~ 'COMPRESSION|SET (tcp|log|debug|idle)';
TABLE everything EXCEPT TABLE before;

-- The real call does it, and then nothing is left to do.
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', role => 'regress_tfstate_run', mode => 'durable', dry_run => NULL);
SELECT * FROM tfstate_attach('tf', role => 'regress_tfstate_run', dry_run => true);
SELECT * FROM tfstate_attach('tf', guard => 'on', default_workspace => false, dry_run => true);
SELECT * FROM tfstate_attach('tf', role => 'regress_tfstate_run', access => 'plan', dry_run => true);
ALTER TABLE tf.states RENAME TO renamed;
SELECT * FROM tfstate_attach('tf', 'renamed', dry_run => true);
ALTER TABLE tf.renamed RENAME TO states;

-- What the real call refuses, it refuses, and the next call is a real one.
CALL fails($$SELECT tfstate_attach('tf', role => 'nobody_of_this_name', dry_run => true)$$);
CALL fails($$SELECT tfstate_attach('pg_catalog', 'pg_class', dry_run => true)$$);
ALTER TABLE tf.states DISABLE TRIGGER tfstate_guard_row;
DO $$
BEGIN
	PERFORM tfstate_attach('tf', dry_run => true);
	PERFORM tfstate_attach('pg_catalog', 'pg_class', dry_run => true);
EXCEPTION WHEN OTHERS THEN
	PERFORM tfstate_attach('tf');
END;
$$;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'tf.states'::regclass ORDER BY tgname;

-- A role that may not attach is refused; one that may need not be a superuser.
CREATE ROLE regress_tfstate_owner;
CREATE SCHEMA own AUTHORIZATION regress_tfstate_owner;
SET ROLE regress_tfstate_owner;
CALL fails($$SELECT tfstate_attach('own', dry_run => true)$$);
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_owner', 'own.states/*', 'admin');
GRANT USAGE ON SEQUENCE public.global_states_id_seq TO regress_tfstate_owner;
SET ROLE regress_tfstate_owner;
SELECT l AS step FROM tfstate_attach('own', dry_run => true) l WHERE l !~ 'COMPRESSION';
RESET ROLE;
SELECT to_regclass('own.states') AS "table", count(*) AS attached FROM tfstate_tables WHERE schema = 'own';

SELECT tfstate_detach('tf');
DROP VIEW everything;
DROP TABLE before;
DROP SCHEMA tf, own CASCADE;
DROP EXTENSION tfstate;
DROP SEQUENCE public.global_states_id_seq;
DROP ROLE regress_tfstate_run, regress_tfstate_dba, regress_tfstate_owner;
DROP PROCEDURE fails;
DROP FUNCTION masked;
