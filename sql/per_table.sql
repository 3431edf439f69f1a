-- What is said for a table holds for that table: the mode of Terraform's locks, and how long it
-- waits for them.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE EXTENSION tfstate;
SELECT current_database() AS database \gset

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

CREATE ROLE regress_tfstate_one LOGIN;
SELECT count(DISTINCT s) AS attached
  FROM (VALUES ('plain', NULL, NULL), ('lasting', 'durable', NULL), ('patient', NULL, '10 ms'::interval),
			   ('brief', 'session', '0')) v(s, mode, wait),
	   tfstate_attach(s, mode => mode, wait => wait);
SELECT count(DISTINCT s) AS attached FROM unnest('{plain,patient}'::text[]) s, tfstate_attach(s, role => 'regress_tfstate_one');

-- A view of the attached tables, for everybody.
SET ROLE regress_tfstate_one;
SELECT schema, "table", mode, wait, guard, keep_versions, keep_age, default_workspace, roles FROM tfstate_tables ORDER BY schema;
SELECT attached_by = session_user AS by_me, attached_at <= clock_timestamp() AS at FROM tfstate_tables WHERE schema = 'plain';
CALL fails($$DELETE FROM tfstate_tables$$);
RESET ROLE;
-- One statement changes the tables that a pattern finds.
SELECT count(DISTINCT schema) FROM tfstate_tables, tfstate_attach(schema, "table", guard => 'on', keep_versions => 7, keep_age => '1 week')
 WHERE schema LIKE 'p%';
SELECT schema, mode, wait, guard, keep_versions, keep_age FROM tfstate_tables ORDER BY schema;
SELECT count(DISTINCT schema) FROM tfstate_tables t, tfstate_attach(schema, keep_versions => -1, keep_age => '-1') WHERE t.guard = 'on';
SELECT schema, guard, keep_versions, keep_age FROM tfstate_tables ORDER BY schema;

-- Locks a workspace, or the creation of one, as Terraform does, and shows the mode.
CREATE FUNCTION mode_of(schema text, run text DEFAULT '11111111-1111-4111-8111-111111111111') RETURNS text
LANGUAGE plpgsql SET search_path = tfstate_pg, pg_catalog, public AS $$
DECLARE
	key bigint := -1;
	result text;
BEGIN
	PERFORM set_config('tfstate.run_id', run, true);
	IF schema <> 'any' THEN
		EXECUTE format('SELECT id FROM %I.states', schema) INTO key;
	END IF;
	PERFORM pg_try_advisory_lock(key);
	SELECT string_agg(h.mode, ' ') INTO result FROM tfstate_holders h WHERE h.lockid NOT LIKE 'held%';
	PERFORM pg_advisory_unlock(key);
	RETURN result;
END;
$$;
CREATE FUNCTION modes() RETURNS SETOF text LANGUAGE sql AS $$
SELECT s || ' ' || mode_of(s) FROM unnest('{plain,lasting,patient,brief}'::text[]) s
$$;
SELECT modes();
SELECT mode_of('any');
-- A run without a name is refused in that table only.
SELECT mode_of('brief', '');
CALL fails($$SELECT mode_of('lasting', '')$$);
-- The key of all tables at once is durable if a table is in which the role may lock.
CALL fails($$SELECT mode_of('any', '')$$);
SET ROLE regress_tfstate_one;
SELECT mode_of('plain', '');
SELECT mode_of('any', '') IS NULL AS hidden;
RESET ROLE;
SELECT lockid, mode FROM tfstate_history('*', 1);
SELECT tfstate_grant('regress_tfstate_one', 'lasting.states/stage');
SET ROLE regress_tfstate_one;
SELECT mode_of('plain', '');
CALL fails($$SELECT mode_of('any', '')$$);
RESET ROLE;
-- What the session sets counts more, and a transaction's setting ends with it.
SET tfstate.mode = session;
SELECT modes();
SELECT mode_of('any');
SET tfstate.mode = durable;
SELECT modes();
SELECT mode_of('any');
RESET tfstate.mode;
BEGIN;
SET LOCAL tfstate.mode = durable;
SELECT mode_of('brief');
ROLLBACK;
SELECT mode_of('brief');
-- So does what was set for the session, even to the default.
ALTER DATABASE :"database" SET tfstate.mode = session;
\c -
SELECT modes();
SELECT mode_of('any');
ALTER DATABASE :"database" SET tfstate.mode = durable;
ALTER ROLE CURRENT_USER IN DATABASE :"database" SET tfstate.mode = session;
\c -
SELECT mode_of('lasting');
ALTER ROLE CURRENT_USER IN DATABASE :"database" RESET tfstate.mode;
\c -
SELECT mode_of('plain');
ALTER DATABASE :"database" RESET tfstate.mode;
\c -reuse-previous=on "options='-c tfstate.mode=durable'"
SELECT mode_of('plain');
SET tfstate.mode = session;
SELECT mode_of('lasting');
RESET tfstate.mode;
SELECT mode_of('plain');
\c -reuse-previous=on "options=''"
SET TimeZone = 'UTC';

-- The wait.  How it ended tells how long it was: a lock_timeout of the session is shorter than the
-- long ones and longer than the short ones.
SET client_min_messages = warning;
SET search_path = tfstate_pg, pg_catalog, public;
SELECT count(*) > 0 AS attached FROM tfstate_attach('patient', wait => '1 day');
SELECT count(*) > 0 AS attached FROM tfstate_attach('plain', wait => '1 ms');
SELECT id AS plain FROM plain.states \gset
SELECT id AS patient FROM patient.states \gset
SELECT id AS brief FROM brief.states \gset
SELECT id AS lasting FROM lasting.states \gset
SELECT count(tfstate_lock(l, '{"ID": "1", "Who": "alice"}'))
  FROM (SELECT format('%s.states/default', schema) FROM tfstate_tables UNION ALL SELECT 'tfstate_pg/new workspace') l(l);
SET tfstate.run_id = '22222222-2222-4222-8222-222222222222';
-- Only the wait of the table "patient" is longer than this, and so is that of the key of all tables.
SET lock_timeout = '200 ms';
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :patient));
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :plain));
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :brief));
CALL fails('SELECT pg_try_advisory_lock(-1)');
-- What the session sets counts more.
SET tfstate.wait = 0;
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :patient));
SET tfstate.wait = -1;
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :brief));
RESET tfstate.wait;
SELECT count(*) > 0 AS attached FROM tfstate_attach('patient', wait => '1 ms');
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :patient));
CALL fails('SELECT pg_try_advisory_lock(-1)');

-- A timeout that the session has not set itself does not cut short the wait of a table.
ALTER ROLE CURRENT_USER IN DATABASE :"database" SET lock_timeout = '10 ms';
ALTER DATABASE :"database" SET statement_timeout = '1 s';
SELECT count(*) > 0 AS attached FROM tfstate_attach('patient', wait => '1200 ms');
\c -
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET search_path = tfstate_pg, pg_catalog, public;
SET tfstate.run_id = '22222222-2222-4222-8222-222222222222';
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :patient));
SHOW lock_timeout;
-- The statement_timeout begins anew after it, and counts as always elsewhere.
CREATE PROCEDURE public.locks_and_sleeps(id bigint) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_try_advisory_lock(id);
EXCEPTION WHEN lock_not_available THEN
	RAISE INFO '%', masked(sqlerrm);
	PERFORM pg_sleep(100);
END;
$$;
CALL locks_and_sleeps(:patient);
CALL locks_and_sleeps(:brief);
SET tfstate.wait = '1 h';
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :patient));
SET lock_timeout = 0;
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :patient));
RESET tfstate.wait;
SET lock_timeout = '10 ms';
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :patient));
SET statement_timeout = '50 ms';
SET lock_timeout = 0;
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :patient));
SET statement_timeout = 0;
ALTER ROLE CURRENT_USER IN DATABASE :"database" RESET lock_timeout;
ALTER DATABASE :"database" RESET statement_timeout;
SELECT count(tfstate_unlock(lockid, '1')) FROM tfstate_holders;

-- The lock that comes with a new workspace is in the mode of its table.
RESET tfstate.run_id;
SELECT tfstate_detach('lasting');
SET tfstate.run_id = '33333333-3333-4333-8333-333333333333';
SELECT pg_try_advisory_lock(-1);
SELECT mode FROM tfstate_holders;
INSERT INTO brief.states (name, data) VALUES ('new', '{"version": 4, "serial": 0, "lineage": "n", "resources": []}');
SELECT lockid, mode FROM tfstate_holders;
SELECT pg_advisory_unlock(-1);
SELECT count(*) > 0 AS attached FROM tfstate_attach('brief', mode => 'durable');
SELECT pg_try_advisory_lock(-1);
SELECT mode FROM tfstate_holders;
SELECT count(*) > 0 AS attached FROM tfstate_attach('brief', mode => 'session');
INSERT INTO brief.states (name, data) VALUES ('newer', '{"version": 4, "serial": 0, "lineage": "n", "resources": []}');
SELECT lockid, mode FROM tfstate_holders;
SELECT pg_advisory_unlock(-1);
SELECT count(*) FROM tfstate_holders;

\c -
SET client_min_messages = error;
SELECT tfstate_revoke('regress_tfstate_one', 'lasting.states/stage');
SELECT tfstate_detach(schema, "table") FROM tfstate_tables;
SELECT count(*) FROM tfstate_tables;
DROP SCHEMA plain, lasting, patient, brief CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP FUNCTION mode_of, modes, masked;
DROP PROCEDURE locks_and_sleeps, fails;
DROP EXTENSION tfstate;
DROP OWNED BY regress_tfstate_one;
DROP ROLE regress_tfstate_one;
