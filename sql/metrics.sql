-- What tfstate_metrics counts and measures, and to whom it shows that.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE EXTENSION tfstate;
SET tfstate.who = 'me';

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

SELECT attname AS column, format_type(atttypid, atttypmod) AS type
  FROM pg_attribute WHERE attrelid = 'tfstate_metrics'::regclass ORDER BY attnum;

-- All metrics, at their beginning: the names, types and labels that a monitoring system knows.
SELECT name, type, labels, CASE WHEN name ~ 'start_time|versions_bytes' THEN value > 0 ELSE value = 0 END AS ok
  FROM tfstate_metrics;
SELECT DISTINCT name, help FROM tfstate_metrics ORDER BY name;
-- The counters begin with the extension.
SELECT value BETWEEN extract(epoch FROM statement_timestamp()) - 60 AND extract(epoch FROM clock_timestamp()) AS began
  FROM tfstate_metrics WHERE name = 'tfstate_counters_start_time_seconds';
-- A name has one type and one help; counters end with _total, and nothing else does.
SELECT name FROM tfstate_metrics GROUP BY name HAVING count(DISTINCT (type, help)) > 1;
SELECT DISTINCT name, type FROM tfstate_metrics WHERE (type = 'counter') <> (name LIKE '%\_total');

-- What is not zero, besides ages and sizes
CREATE VIEW counted AS
SELECT name || coalesce(' ' || nullif(labels, '{}')::text, '') AS metric, value
  FROM tfstate_metrics WHERE value <> 0 AND name !~ '(seconds|bytes)$';

-- Locks: a commit counts, a rollback does not, and of savepoints what is left.
SELECT count(tfstate_lock(name, '{"ID": "1"}')) FROM unnest('{a,b}'::text[]) name;
BEGIN;
SELECT count(tfstate_lock('c', '{"ID": "2"}'));
SELECT count(tfstate_unlock('a'));
ROLLBACK;
TABLE counted;
BEGIN;
SELECT count(tfstate_lock('c', '{"ID": "2"}'));
SAVEPOINT one;
SELECT count(tfstate_lock('d', '{"ID": "3"}'));
SAVEPOINT two;
SELECT count(tfstate_lock('s', '{"ID": "4"}', 'session'));
RELEASE two;
SAVEPOINT three;
SELECT count(tfstate_lock('t', '{"ID": "5"}', 'session'));
ROLLBACK TO three;
RELEASE one;
SAVEPOINT four;
SELECT count(tfstate_unlock('a'));
ROLLBACK TO four;
COMMIT;
TABLE counted;
-- A conflict counts at once.
BEGIN;
SELECT locked FROM tfstate_try_lock('a');
ROLLBACK;
CALL fails($$SELECT tfstate_lock('a')$$);
TABLE counted;
-- How locks end
SELECT count(tfstate_unlock('a')), count(tfstate_force_unlock('b')), count(tfstate_unlock('s'));
SELECT count(tfstate_lock('lease', '{"ID": "6"}', ttl => '1 ms'));
SELECT pg_sleep(0.002);
SELECT count(tfstate_lock('lease', '{"ID": "7"}', ttl => '1 hour'));
SET tfstate.history = none;
SELECT count(tfstate_unlock('lease', '7'));
RESET tfstate.history;
TABLE counted;

-- Refusals, by reason
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf');
CREATE FUNCTION state(serial bigint, lineage text DEFAULT 'a') RETURNS text LANGUAGE sql
RETURN format('{"version": 4, "serial": %s, "lineage": "%s", "resources": [{"instances": [{}]}]}', serial, lineage);
-- Tries to write a workspace, and shows which counter has grown.
CREATE PROCEDURE counts(command text) LANGUAGE plpgsql AS $$
DECLARE
	old jsonb := (SELECT jsonb_object_agg(name || labels, value) FROM tfstate_metrics WHERE type = 'counter');
BEGIN
	BEGIN
		EXECUTE command;
	EXCEPTION WHEN OTHERS THEN
		NULL;
	END;
	RAISE INFO '%', (SELECT string_agg(format('%s %s: %s', name, labels, value - (old->>(name || labels))::float8), '; ')
					   FROM tfstate_metrics WHERE type = 'counter' AND value <> (old->>(name || labels))::float8);
END;
$$;
SELECT count(tfstate_lock('tf.states/w', '{"ID": "8"}'));
INSERT INTO tf.states (name, data) VALUES ('w', state(5));
CALL counts($$UPDATE tf.states SET data = state(4) WHERE name = 'w'$$);
CALL counts($$UPDATE tf.states SET data = state(6, 'b') WHERE name = 'w'$$);
CALL counts($$UPDATE tf.states SET data = 'no state' WHERE name = 'w'$$);
CALL counts($$UPDATE tf.states SET data = '{}' WHERE name = 'w'$$);
CALL counts($$UPDATE tf.states SET data = NULL WHERE name = 'w'$$);
SET tfstate.fence = 1;
CALL counts($$UPDATE tf.states SET data = state(6) WHERE name = 'w'$$);
RESET tfstate.fence;
SELECT count(tfstate_unlock('tf.states/w', '8'));
CALL counts($$UPDATE tf.states SET data = state(6) WHERE name = 'w'$$);
SELECT count(*) FROM tfstate_freeze('tf.*', 'maintenance');
CALL counts($$UPDATE tf.states SET data = state(6) WHERE name = 'w'$$);
SELECT tfstate_unfreeze('tf.*');
-- by a run that has lost the lock
SET tfstate.run_id = '11111111-1111-4111-8111-111111111111';
SELECT count(tfstate_lock('tf.states/w', '{"ID": "9"}'));
SELECT count(tfstate_force_unlock('tf.states/w'));
CALL counts($$UPDATE tf.states SET data = state(6) WHERE name = 'w'$$);
RESET tfstate.run_id;
-- by another role
CREATE ROLE regress_tfstate_writer;
GRANT USAGE ON SCHEMA tf TO regress_tfstate_writer;
GRANT SELECT, UPDATE, DELETE ON tf.states TO regress_tfstate_writer;
GRANT pg_monitor TO regress_tfstate_writer;
SET ROLE regress_tfstate_writer;
CALL counts($$UPDATE tf.states SET data = state(6) WHERE name = 'w'$$);
SET tfstate.guard = off;
CALL counts($$UPDATE tf.states SET data = state(6) WHERE name = 'w'$$);
RESET tfstate.guard;
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_writer', 'tf.states/*');
SELECT count(tfstate_lock('tf.states/w', '{"ID": "10"}'));
SET ROLE regress_tfstate_writer;
CALL counts($$UPDATE tf.states SET data = state(6) WHERE name = 'w'$$);
RESET ROLE;
SELECT count(tfstate_unlock('tf.states/w', '10'));
-- A deletion of what was written since the unlock
SELECT tfstate_pg.pg_try_advisory_lock(id) FROM tf.states WHERE name = 'w';
SELECT tfstate_pg.pg_advisory_unlock(id) FROM tf.states WHERE name = 'w';
SET tfstate.guard = off;
UPDATE tf.states SET data = state(6) WHERE name = 'w';
RESET tfstate.guard;
CALL counts($$DELETE FROM tf.states WHERE name = 'w'$$);
-- Writes without the guard; one that is rolled back does not count.
SET tfstate.guard = off;
CALL counts($$UPDATE tf.states SET data = state(7) WHERE name = 'w'$$);
CALL counts($$DO 'BEGIN UPDATE tf.states SET data = state(8); RAISE EXCEPTION ''no''; END'$$);
RESET tfstate.guard;
TABLE counted;

-- To whom what is shown: a role with nothing is told so, and one with a grant gets the gauges of those locks.
REVOKE pg_monitor FROM regress_tfstate_writer;
GRANT SELECT ON counted TO regress_tfstate_writer;
SELECT tfstate_revoke('regress_tfstate_writer', 'tf.states/*');
SET client_min_messages = notice;
SET ROLE regress_tfstate_writer;
SELECT name, labels, value FROM tfstate_metrics;
SELECT count(*) FROM tfstate_slow_metrics;
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_writer', 'd');
SET ROLE regress_tfstate_writer;
SELECT name, labels, value FROM tfstate_metrics WHERE name !~ 'seconds';
RESET ROLE;
-- "view" on everything, but not "lock", shows all numbers; so does pg_monitor.
SELECT tfstate_grant('regress_tfstate_writer', '*');
SET ROLE regress_tfstate_writer;
SELECT count(DISTINCT name) FROM tfstate_metrics;
RESET ROLE;
SELECT tfstate_revoke('regress_tfstate_writer', '*'), tfstate_grant('regress_tfstate_writer', '*', 'view');
SET ROLE regress_tfstate_writer;
SELECT count(DISTINCT name) FROM tfstate_metrics;
RESET ROLE;
SELECT tfstate_revoke('regress_tfstate_writer', '*', 'view'), tfstate_revoke('regress_tfstate_writer', 'd');
GRANT pg_monitor TO regress_tfstate_writer;
SET ROLE regress_tfstate_writer;
SELECT count(DISTINCT name) FROM tfstate_metrics;
SELECT value FROM tfstate_metrics WHERE name = 'tfstate_locks_held' AND labels->>'mode' = 'durable';

-- What tfstate_check() and tfstate_verify() report, as numbers; one name does not compute the other.
SELECT name, type, labels, value >= 0 AS value FROM tfstate_slow_metrics ORDER BY name, labels;
RESET ROLE;
ALTER TABLE tf.states DISABLE TRIGGER tfstate_guard_row;
UPDATE tf.states SET data = state(9) WHERE name = 'w';
SET ROLE regress_tfstate_writer;
SELECT value FROM tfstate_slow_metrics WHERE name = 'tfstate_verify_problems';
SELECT value > 0 AS found FROM tfstate_slow_metrics WHERE name = 'tfstate_check_problems' AND labels->>'severity' = 'error';
CALL fails($$SELECT * FROM tfstate_internal.count_problems('check')$$);
CALL fails($$SELECT * FROM tfstate_internal.metrics()$$);
RESET ROLE;

-- A read-only transaction can read them, also the first one that does.
SET client_min_messages = warning;
DROP EXTENSION tfstate CASCADE;
CREATE EXTENSION tfstate;
\c -
SET default_transaction_read_only = on;
SELECT count(DISTINCT name) FROM tfstate_metrics;
SET default_transaction_read_only = off;
-- Another installation begins anew, also within a session.
SELECT count(tfstate_lock('a', '{"ID": "1"}'));
SELECT sum(value) FROM tfstate_metrics WHERE type = 'counter';
SET client_min_messages = warning;
DROP EXTENSION tfstate;
CREATE EXTENSION tfstate;
SELECT sum(value) FROM tfstate_metrics WHERE type = 'counter';
SELECT count(tfstate_lock('a', '{"ID": "1"}'));
SELECT sum(value) FROM tfstate_metrics WHERE type = 'counter';
-- A handle that is none, or is no longer one, is replaced.
SELECT setval('tfstate_internal.shared_memory', 4711);
\c -
SELECT sum(value) FROM tfstate_metrics WHERE type = 'counter';
SELECT last_value NOT IN (0, 4711) AS replaced FROM tfstate_internal.shared_memory;
-- Without the sequence that the extension has made, nothing is counted, and locks are taken.
ALTER SEQUENCE tfstate_internal.shared_memory SET LOGGED;
\c -
SELECT count(tfstate_lock('b', '{"ID": "1"}'));
SELECT count(*) FROM tfstate_metrics WHERE type = 'counter';
ALTER EXTENSION tfstate DROP SEQUENCE tfstate_internal.shared_memory;
DROP SEQUENCE tfstate_internal.shared_memory;
SELECT count(tfstate_lock('c', '{"ID": "1"}'));
SELECT count(*) FROM tfstate_metrics WHERE type = 'counter';

SET client_min_messages = warning;
DROP EXTENSION tfstate CASCADE;
DROP SCHEMA tf CASCADE;
DROP FUNCTION state;
DROP PROCEDURE counts, fails;
DROP FUNCTION masked;
DROP SEQUENCE public.global_states_id_seq;
DROP OWNED BY regress_tfstate_writer;
DROP ROLE regress_tfstate_writer;
