-- A role that only plans: it reads and locks, and an apply is refused at the lock if it says that it is one.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

CREATE ROLE regress_tfstate_planner LOGIN;
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', role => 'regress_tfstate_planner', access => 'plan');
CREATE VIEW may AS
SELECT has_column_privilege('regress_tfstate_planner', 'tf.states', 'data', 'SELECT') AS read,
	   has_any_column_privilege('regress_tfstate_planner', 'tf.states', 'INSERT, UPDATE')
	   OR has_table_privilege('regress_tfstate_planner', 'tf.states', 'DELETE, TRUNCATE') AS write,
	   has_sequence_privilege('regress_tfstate_planner', 'public.global_states_id_seq', 'USAGE') AS ids;
TABLE may;
-- Nothing is wrong with it, and a second call gives no more.
SELECT problem FROM tfstate_check() WHERE role = 'regress_tfstate_planner' AND problem NOT LIKE 'log_%';
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', role => 'regress_tfstate_planner');
TABLE may;

-- What "terraform plan" sends
SET ROLE regress_tfstate_planner;
SELECT pg_catalog.set_config('search_path', 'tfstate_pg, pg_catalog, public', false) IS NOT NULL AS set;
CREATE TEMPORARY VIEW locked AS SELECT id, pg_try_advisory_lock(id), pg_try_advisory_lock(-1) AS creation FROM tf.states WHERE name = 'default';
SELECT pg_try_advisory_lock, creation FROM locked;
SELECT count(data) FROM tf.states WHERE name = 'default';
SELECT pg_advisory_unlock(-1), pg_advisory_unlock(id) FROM tf.states WHERE name = 'default';
-- A run that says what it does
SET tfstate.operation = 'OperationTypePlan';
SELECT pg_try_advisory_lock FROM locked;
SELECT pg_advisory_unlock(id) FROM tf.states WHERE name = 'default';
SET tfstate.operation = 'terraform console';
SELECT pg_try_advisory_lock FROM locked;
SELECT pg_advisory_unlock(id) FROM tf.states WHERE name = 'default';
SET tfstate.operation = 'OperationTypeApply';
CALL fails('TABLE locked');
SET tfstate.operation = 'apply of a plan';
CALL fails('TABLE locked');
SET tfstate.operation = 'state-mv';
CALL fails('TABLE locked');
RESET tfstate.operation;
SELECT count(*) FROM tfstate_holders;
-- At last, at the write
SELECT pg_try_advisory_lock FROM locked;
CALL fails($$INSERT INTO tf.states (name, data) VALUES ('default', '') ON CONFLICT (name) DO UPDATE SET data = ''$$);
SELECT pg_advisory_unlock(id) FROM tf.states WHERE name = 'default';
DROP VIEW locked;
RESET ROLE;
RESET search_path;

-- From plan to write and back
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', role => 'regress_tfstate_planner', access => 'write');
TABLE may;
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', role => 'regress_tfstate_planner', access => 'plan');
TABLE may;
-- Rights from elsewhere are reported.
GRANT UPDATE (data) ON tf.states TO regress_tfstate_planner;
SELECT severity, object, problem FROM tfstate_check() WHERE role = 'regress_tfstate_planner' AND problem NOT LIKE 'log_%';
REVOKE UPDATE (data) ON tf.states FROM regress_tfstate_planner;
-- Where another of its tables is only read, what it was given to write is taken back with the one that it writes.
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'written', role => 'regress_tfstate_planner');
TABLE may;
SELECT tfstate_detach('tf', 'written');
TABLE may;
SELECT tfstate_detach('tf');
SELECT count(*) FROM tfstate_internal.given;

DROP VIEW may;
DROP EXTENSION tfstate CASCADE;
DROP SCHEMA tf CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP PROCEDURE fails;
DROP FUNCTION masked;
DROP OWNED BY regress_tfstate_planner;
DROP ROLE regress_tfstate_planner;
