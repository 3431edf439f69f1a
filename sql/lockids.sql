-- Lockids: their length, and those that look like a workspace's but belong to none.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE EXTENSION tfstate;
SET tfstate.who = 'me';

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
\pset format unaligned
\pset tuples_only on
CREATE PROCEDURE lock(lockid text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM tfstate_lock(lockid);
	PERFORM tfstate_unlock(lockid);
END;
$$;

-- Bytes count, not characters.
SELECT length(tfstate_lock(repeat('x', 1024))::text) > 0;
CALL fails($$SELECT tfstate_lock(repeat('x', 1025))$$);
SELECT length(tfstate_lock(repeat('ä', 512))::text) > 0;
CALL fails($$SELECT tfstate_lock(repeat('ä', 512) || 'x')$$);
CALL fails($$SELECT tfstate_lock('x', jsonb_build_object('ID', repeat('ä', 128) || 'x'))$$);
SELECT count(tfstate_unlock(lockid)) FROM tfstate_holders;

-- Without an attached table any lockid is accepted.
SET client_min_messages = notice;
CALL lock('prod/network');
CALL lock('prod/netwrok.states/x');
SET client_min_messages = warning;
CREATE SCHEMA "prod/network";
SELECT count(*) > 0 AS attached FROM tfstate_attach('prod/network') one, tfstate_attach('tf') two, tfstate_attach('tf', 'More "states"') three;
SET client_min_messages = notice;
-- Workspaces
CALL lock('tf.states/default');
CALL lock('"prod/network".states/default');
CALL lock('tf."More ""states"""/default');
-- Lockids that are almost a workspace's
CALL lock('tf.states/prdo');
CALL lock('"prod/network".states/x');
CALL lock('prod/netwrok.states/x');
CALL lock('prod/network.states/default');
CALL lock('TF.states/default');
CALL lock('tf.state/default');
CALL lock('"tf".states/default');
CALL lock('tf."states"/default');
CALL lock('tf.More "states"/default');
CALL lock('tf/states/default');
-- The lockid by the names, of workspaces that exist or not
SELECT tfstate_lockid('tf'), tfstate_lockid('prod/network', 'states', 'x'), tfstate_lockid('tf', 'More "states"', '');
SELECT tfstate_lockid() IS NULL AS not_attached, tfstate_lockid('nowhere') IS NULL AS no_schema, tfstate_lockid('tf', NULL) IS NULL AS strict,
	   tfstate_lockid(repeat('ä', 10000), repeat('é', 10000)) IS NULL AS too_long;
SET ROLE pg_monitor;
SELECT tfstate_lockid('tf', workspace => 'who may not lock it');
RESET ROLE;
-- Ordinary lockids, and the one that creates workspaces in a table
CALL lock('prod/network');
CALL lock('prod/network.tfstate');
CALL lock('a.b/c');
CALL lock('github.com/org/repo');
CALL lock('my.states');
CALL lock('states/x.y');
CALL lock('tf.states/');
-- Each function that locks says so, if it gets the lock.
SELECT locked FROM tfstate_try_lock('tf.states/nowhere');
SELECT locked FROM tfstate_try_lock('tf.states/nowhere');
CALL tfstate_wait_lock('tf.states/nobody', id => '', fence => 0) \gset
SELECT count(tfstate_unlock(lockid)) FROM tfstate_holders;
-- A table that is no longer attached
SELECT tfstate_detach('tf');
CALL lock('tf.states/default');
SET client_min_messages = warning;

-- The way out in a conflict works in the session that sees it.
SELECT length(tfstate_lock('a', '{"ID": "1"}')::text) > 0;
SELECT pg_advisory_unlock_all();
CALL fails($$SELECT tfstate_lock('a')$$);
BEGIN;
SET LOCAL search_path = pg_temp, pg_catalog;
CREATE PROCEDURE pg_temp.fails(statement text) LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RAISE INFO '%', hint;
	EXECUTE substring(hint FROM 'SELECT .*');
END;
$$;
CALL pg_temp.fails($$SELECT public.tfstate_lock('a')$$);
COMMIT;
SELECT count(*) FROM tfstate_holders;

DROP EXTENSION tfstate CASCADE;
DROP SCHEMA tf, "prod/network" CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP PROCEDURE lock;
DROP PROCEDURE fails;
DROP FUNCTION masked;
