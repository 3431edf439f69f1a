-- Bad input is refused with the right SQLSTATE and a clear message, and changes nothing.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE EXTENSION tfstate;
SET tfstate.who = 'me';
SET tfstate.history = 'all';

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

-- How many tags this session has in the lock manager, without the session tag.
CREATE VIEW tags AS
SELECT count(*) AS tags FROM pg_locks
 WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid <> 29799;

-- These two locks are all that is there in the end.
SELECT id FROM tfstate_lock('held', '{"ID": "h"}', ttl => '1 hour');
SELECT id FROM tfstate_lock('session', '{"ID": "s"}', 'session');

-- lockid
CALL fails($$SELECT tfstate_lock(NULL)$$);
CALL fails($$SELECT tfstate_lock('')$$);
CALL fails($$SELECT tfstate_lock(repeat('x', 1025))$$);
CALL fails($$SELECT tfstate_lock(repeat('é', 513))$$);
CALL fails($$SELECT tfstate_lock('', mode => 'session')$$);
CALL fails($$SELECT tfstate_try_lock(NULL)$$);
CALL fails($$SELECT tfstate_try_lock('')$$);
CALL fails($$SELECT tfstate_try_lock(repeat('x', 1025))$$);
CALL fails($$SELECT tfstate_unlock(NULL)$$);
CALL fails($$SELECT tfstate_unlock('')$$);
CALL fails($$SELECT tfstate_unlock(repeat('x', 1025))$$);
CALL fails($$SELECT tfstate_renew(NULL, 'h')$$);
CALL fails($$SELECT tfstate_renew('', 'h')$$);
CALL fails($$SELECT tfstate_renew(repeat('x', 1025), 'h')$$);
CALL fails($$SELECT tfstate_force_unlock(NULL)$$);
CALL fails($$SELECT tfstate_force_unlock('')$$);
CALL fails($$SELECT tfstate_force_unlock(repeat('x', 1025))$$);

-- info
CALL fails($$SELECT tfstate_lock('e', NULL)$$);
CALL fails($$SELECT tfstate_try_lock('e', NULL)$$);
CALL fails($$SELECT tfstate_lock('e', 'null')$$);
CALL fails($$SELECT tfstate_lock('e', '[]')$$);
CALL fails($$SELECT tfstate_lock('e', '[{"ID": "1"}]')$$);
CALL fails($$SELECT tfstate_lock('e', '"text"')$$);
CALL fails($$SELECT tfstate_lock('e', '1')$$);
CALL fails($$SELECT tfstate_lock('e', 'true')$$);
CALL fails($$SELECT tfstate_lock('e', '{"ID": 1}')$$);
CALL fails($$SELECT tfstate_lock('e', '{"Operation": true}')$$);
CALL fails($$SELECT tfstate_lock('e', '{"Info": {}}')$$);
CALL fails($$SELECT tfstate_lock('e', '{"Who": ["me"]}')$$);
CALL fails($$SELECT tfstate_lock('e', '{"Version": 1.11}')$$);
CALL fails($$SELECT tfstate_lock('e', '{"Created": 0}')$$);
CALL fails($$SELECT tfstate_lock('e', '{"Path": false}')$$);
CALL fails($$SELECT tfstate_try_lock('e', '{"ID": 1}')$$);
-- At most 8 kB, whatever they consist of.
DO $$
DECLARE
	detail text;
BEGIN
	PERFORM tfstate_lock('e', jsonb_build_object('x', repeat('x', 8192)));
EXCEPTION WHEN program_limit_exceeded THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RAISE INFO '%: % (%)', sqlstate, sqlerrm, regexp_replace(detail, '^It has \d{4} bytes', 'It has <n> bytes');
END;
$$;
DO $$
BEGIN
	PERFORM tfstate_lock('e', jsonb_object_agg(n, '[]'::jsonb)) FROM generate_series(1, 2000) n;
EXCEPTION WHEN program_limit_exceeded THEN
	RAISE INFO '%: %', sqlstate, sqlerrm;
END;
$$;
-- Text that compresses well counts in full.
DO $$
BEGIN
	PERFORM tfstate_lock('e', jsonb_build_object('x', repeat('x', 1000000)));
EXCEPTION WHEN program_limit_exceeded THEN
	RAISE INFO '%: %', sqlstate, sqlerrm;
END;
$$;
-- Exactly 8 kB are accepted, even if nothing can be compressed, and are returned whole.
SELECT jsonb_build_object('x', left(string_agg(md5(n::text), ''), 8179)) AS big FROM generate_series(1, 256) n \gset
BEGIN;
SELECT id FROM tfstate_lock('e', :'big') \gset
SELECT info @> :'big' AS same FROM tfstate_holders('e');
SELECT tfstate_unlock('e') @> :'big' AS same;
SELECT info @> :'big' AS same FROM tfstate_history('e');
ROLLBACK;
\set VERBOSITY sqlstate
SELECT tfstate_lock('e', jsonb_build_object('x', :'big'::jsonb->>'x' || '.'));
\set VERBOSITY default

-- So are 8 kB in two halves, counted in bytes, and no more.
SET tfstate.info = '{"a": "x"}';
CREATE FUNCTION info_of(bytes integer) RETURNS jsonb LANGUAGE sql AS $$
SELECT jsonb_build_object('b', rpad(repeat('é', bytes / 4), bytes - bytes / 4, 'x'))
$$;
SELECT 8192 - pg_column_size(current_setting('tfstate.info')::jsonb) - pg_column_size(info_of(4000)) + 4000 AS room \gset
BEGIN;
SELECT id IS NOT NULL AS locked FROM tfstate_lock('e', info_of(:room));
ROLLBACK;
CALL fails(format('SELECT tfstate_lock(''e'', info_of(%s))', :room + 1));
CALL fails(format('SELECT tfstate_try_lock(''e'', info_of(%s))', :room + 1));
RESET tfstate.info;
DROP FUNCTION info_of;

-- ID
CALL fails($$SELECT tfstate_lock('e', '{"ID": ""}')$$);
CALL fails($$SELECT tfstate_lock('e', jsonb_build_object('ID', repeat('i', 257)))$$);
CALL fails($$SELECT tfstate_lock('e', jsonb_build_object('ID', repeat('é', 129)))$$);
CALL fails($$SELECT tfstate_try_lock('e', '{"ID": ""}')$$);
CALL fails($$SELECT tfstate_unlock('held', '')$$);
CALL fails($$SELECT tfstate_unlock('held', repeat('i', 257))$$);
CALL fails($$SELECT tfstate_renew('held', '')$$);
CALL fails($$SELECT tfstate_renew('held', NULL)$$);
CALL fails($$SELECT tfstate_renew('held', repeat('i', 257))$$);
CALL fails($$SELECT tfstate_force_unlock('held', '')$$);
CALL fails($$SELECT tfstate_force_unlock('held', repeat('i', 257))$$);
CALL fails($$SELECT tfstate_force_unlock('held', terminate => NULL)$$);
-- A reason has at most 1,024 bytes.
CALL fails($$SELECT tfstate_force_unlock('held', reason => repeat('é', 512) || 'x')$$);
BEGIN;
SELECT tfstate_force_unlock('held', reason => repeat('é', 512)) IS NOT NULL AS released;
SELECT octet_length(reason) AS bytes FROM tfstate_history('held');
ROLLBACK;

-- mode
CALL fails($$SELECT tfstate_lock('e', mode => NULL)$$);
CALL fails($$SELECT tfstate_lock('e', mode => '')$$);
CALL fails($$SELECT tfstate_lock('e', mode => 'DURABLE')$$);
CALL fails($$SELECT tfstate_lock('e', mode => 'shared')$$);
-- A message repeats neither texts of any length nor their line breaks.
CALL fails($$SELECT tfstate_lock('e', mode => E'a\n' || repeat('m', 1000000))$$);
CALL fails($$SELECT tfstate_try_lock('e', mode => NULL)$$);
CALL fails($$SELECT tfstate_try_lock('e', mode => 'shared')$$);

-- wait and ttl, also with parts of different signs
CALL fails($$SELECT tfstate_lock('e', wait => '-1 us')$$);
CALL fails($$SELECT tfstate_lock('e', wait => '-1 month')$$);
CALL fails($$SELECT tfstate_lock('e', wait => '1 day -25 hours')$$);
CALL fails($$SELECT tfstate_lock('e', wait => '366 days')$$);
CALL fails($$SELECT tfstate_lock('e', wait => '1000000 years')$$);
CALL fails($$SELECT tfstate_lock('e', wait => '178000000 years -1 us')$$);
CALL fails($$SELECT tfstate_lock('e', wait => '2147483647 days')$$);
CALL fails($$SELECT tfstate_lock('e', wait => '-178000000 years')$$);
CALL fails($$SELECT tfstate_lock('e', wait => '2562047788 hours')$$);
CALL fails($$SELECT tfstate_try_lock('e', wait => '-1 s')$$);
CALL fails($$SELECT tfstate_try_lock('e', wait => '366 days')$$);
CALL fails($$SELECT tfstate_lock('e', ttl => '0')$$);
CALL fails($$SELECT tfstate_lock('e', ttl => '-1 us')$$);
CALL fails($$SELECT tfstate_lock('e', ttl => '366 days')$$);
CALL fails($$SELECT tfstate_lock('e', ttl => '178000000 years')$$);
CALL fails($$SELECT tfstate_lock('e', ttl => '1 day -24 hours')$$);
CALL fails($$SELECT tfstate_lock('e', mode => 'session', ttl => '1 hour')$$);
CALL fails($$SELECT tfstate_try_lock('e', ttl => '0')$$);
CALL fails($$SELECT tfstate_renew('held', 'h', '0')$$);
CALL fails($$SELECT tfstate_renew('held', 'h', '-1 h')$$);
CALL fails($$SELECT tfstate_renew('held', 'h', '366 days')$$);

-- CALL tfstate_wait_lock() checks the same arguments.
\set VERBOSITY sqlstate
CALL tfstate_wait_lock(NULL);
CALL tfstate_wait_lock('');
CALL tfstate_wait_lock(repeat('x', 1025));
CALL tfstate_wait_lock('e', NULL);
CALL tfstate_wait_lock('e', '[]');
CALL tfstate_wait_lock('e', '{"ID": ""}');
CALL tfstate_wait_lock('e', jsonb_build_object('x', repeat('x', 8192)));
CALL tfstate_wait_lock('e', mode => 'shared');
CALL tfstate_wait_lock('e', mode => NULL);
CALL tfstate_wait_lock('e', wait => '-1 s');
CALL tfstate_wait_lock('e', ttl => '0');
CALL tfstate_wait_lock('held');
CALL tfstate_wait_lock('session', mode => 'session');
\set VERBOSITY default
-- It commits, so it has to be called where that is possible.
BEGIN;
CALL tfstate_wait_lock('e');
\echo :SQLSTATE
ROLLBACK;
CALL fails($$CALL tfstate_wait_lock('e')$$);
CREATE FUNCTION calls() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	id text;
	fence bigint;
BEGIN
	CALL tfstate_wait_lock('e', id => id, fence => fence);
	RETURN id;
END;
$$;
CALL fails($$SELECT calls()$$);
DROP FUNCTION calls;
BEGIN READ ONLY;
\set VERBOSITY sqlstate
CALL tfstate_wait_lock('e');
\set VERBOSITY default
ROLLBACK;
-- An exception block does not allow that, a plain DO block does.
DO $$
DECLARE
	id text;
	fence bigint;
BEGIN
	CALL tfstate_wait_lock('e', id => id, fence => fence);
EXCEPTION WHEN invalid_transaction_termination THEN
	RAISE INFO '%: %', sqlstate, sqlerrm;
END;
$$;
DO $$
DECLARE
	id text;
	fence bigint;
BEGIN
	CALL tfstate_wait_lock('do', '{"ID": "1"}', id => id, fence => fence);
	RAISE INFO '%, %', id, fence > 0;
	COMMIT;
	PERFORM tfstate_unlock('do');
END;
$$;

-- A read-only transaction.
SET default_transaction_read_only = on;
\set VERBOSITY sqlstate
SELECT tfstate_lock('e');
SELECT tfstate_lock('e', mode => 'session');
SELECT tfstate_try_lock('e');
CALL tfstate_wait_lock('e');
SELECT tfstate_unlock('held');
SELECT tfstate_renew('held', 'h');
SELECT tfstate_force_unlock('held');
\set VERBOSITY default
SELECT tfstate_lock('e');
RESET default_transaction_read_only;

-- A parallel worker, for whatever reason
BEGIN;
ALTER FUNCTION tfstate_lock PARALLEL SAFE;
ALTER FUNCTION tfstate_try_lock PARALLEL SAFE;
ALTER FUNCTION tfstate_unlock PARALLEL SAFE;
ALTER FUNCTION tfstate_renew PARALLEL SAFE;
ALTER FUNCTION tfstate_force_unlock PARALLEL SAFE;
SELECT count(set_config(name, 'on', true)) AS forced FROM pg_settings
 WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
CREATE FUNCTION fails_in_parallel(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN invalid_transaction_state THEN
	RETURN sqlstate || ': ' || sqlerrm;
END;
$$;
DO $$
DECLARE
	statement text;
BEGIN
	FOREACH statement IN ARRAY ARRAY[
		$s$SELECT tfstate_lock('e')$s$, $s$SELECT tfstate_lock('e', mode => 'session')$s$,
		$s$SELECT tfstate_try_lock('e')$s$, $s$SELECT tfstate_unlock('held')$s$,
		$s$SELECT tfstate_renew('held', 'h')$s$, $s$SELECT tfstate_force_unlock('held')$s$]
	LOOP
		RAISE INFO '%', fails_in_parallel(statement);
	END LOOP;
END;
$$;
ROLLBACK;

-- No privilege.  A bad argument is reported first, because that reveals nothing.
CREATE ROLE regress_tfstate_user;
SET ROLE regress_tfstate_user;
CALL fails($$SELECT tfstate_lock('e')$$);
CALL fails($$SELECT tfstate_lock('e', mode => 'session')$$);
CALL fails($$SELECT tfstate_lock(E'new\nline')$$);
CALL fails($$SELECT tfstate_try_lock('held')$$);
CALL fails($$SELECT tfstate_unlock('held', 'h')$$);
CALL fails($$SELECT tfstate_unlock('nothing')$$);
CALL fails($$SELECT tfstate_renew('held', 'h')$$);
CALL fails($$SELECT tfstate_force_unlock('held')$$);
CALL fails($$SELECT tfstate_lock('')$$);
\set VERBOSITY sqlstate
CALL tfstate_wait_lock('e');
\set VERBOSITY default
RESET ROLE;
DROP ROLE regress_tfstate_user;

-- Grants and tables.
CALL fails($$SELECT tfstate_grant(NULL)$$);
CALL fails($$SELECT tfstate_grant('public', NULL)$$);
CALL fails($$SELECT tfstate_grant('public', 'a', NULL)$$);
CALL fails($$SELECT tfstate_grant('public', '')$$);
CALL fails($$SELECT tfstate_grant('public', repeat('x', 1025))$$);
SELECT tfstate_grant('public', repeat('x', 1024)), tfstate_revoke('public', repeat('x', 1024));
CALL fails($$SELECT tfstate_has_privilege('a', E'a\n' || repeat('m', 1000000))$$);
CALL fails($$SELECT tfstate_grant('public', 'a', 'LOCK')$$);
CALL fails($$SELECT tfstate_grant('regress_tfstate_nobody')$$);
CALL fails($$SELECT tfstate_revoke(NULL)$$);
CALL fails($$SELECT tfstate_revoke('public', 'a', 'own')$$);
CALL fails($$SELECT tfstate_revoke('regress_tfstate_nobody')$$);
CALL fails($$SELECT tfstate_revoke('public')$$);
CALL fails($$SELECT tfstate_has_privilege('a', 'own')$$);
SELECT count(*) FROM tfstate_grants;
CALL fails($$SELECT tfstate_attach(NULL)$$);
CALL fails($$SELECT tfstate_attach('public', NULL)$$);
CALL fails($$SELECT tfstate_detach(NULL)$$);
CALL fails($$SELECT tfstate_detach('public', NULL)$$);
CALL fails($$SELECT tfstate_detach('public', 'nothing')$$);
CALL fails($$SELECT tfstate_attach('pg_catalog', 'pg_class')$$);
SELECT count(*) FROM pg_namespace WHERE nspname = 'terraform_remote_state';

-- The trigger function accepts only the right kind of trigger.
CREATE TABLE triggered (id bigint, name text, data text);
CREATE TRIGGER wrong BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION tfstate_internal.guard();
CALL fails($$INSERT INTO triggered VALUES (1, 'a', '')$$);
DROP TRIGGER wrong ON triggered;
CREATE TRIGGER wrong AFTER INSERT ON triggered EXECUTE FUNCTION tfstate_internal.guard();
CALL fails($$INSERT INTO triggered VALUES (1, 'a', '')$$);
CALL fails($$SELECT tfstate_internal.guard()$$);
DROP TRIGGER wrong ON triggered;
-- So do those of the extension's own tables.
CREATE TRIGGER wrong AFTER INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION tfstate_internal.require_free_lock();
CALL fails($$INSERT INTO triggered VALUES (1, 'a', '')$$);
DROP TRIGGER wrong ON triggered;
CREATE TRIGGER wrong BEFORE INSERT ON triggered EXECUTE FUNCTION tfstate_internal.keep_own_row();
CALL fails($$INSERT INTO triggered VALUES (1, 'a', '')$$);
CALL fails($$SELECT tfstate_internal.keep_own_row()$$);
DROP TABLE triggered;

-- pattern: at most as long as a lockid, and a match can be interrupted.
SELECT tfstate_matches(repeat('a', 1024), '*' || repeat('a', 1022) || '*') AS longest,
	   tfstate_matches('', '*') AS empty, tfstate_matches('', '') AS both;
CALL fails($$SELECT tfstate_matches('a', repeat('*', 1025))$$);
CALL fails($$SELECT tfstate_matches(repeat('a', 1025), '*')$$);
CALL fails($$SELECT * FROM tfstate_holders(repeat('*', 1025))$$);
CALL fails($$SELECT * FROM tfstate_waiters(repeat('a', 1025))$$);
CALL fails($$SELECT * FROM tfstate_states(repeat('é', 513))$$);
CALL fails($$SELECT * FROM tfstate_resources(repeat('*', 1025))$$);
CREATE ROLE regress_tfstate_matcher;
SELECT tfstate_grant('regress_tfstate_matcher', '*' || repeat('a', 1000) || 'b');
SET ROLE regress_tfstate_matcher;
SELECT clock_timestamp() AS start \gset
SET statement_timeout = '50 ms';
SELECT tfstate_has_privilege(repeat('a', 100000000), 'lock');
RESET statement_timeout;
SELECT clock_timestamp() - :'start' < '15 s' AS interrupted;
RESET ROLE;
SELECT tfstate_revoke('regress_tfstate_matcher', '*' || repeat('a', 1000) || 'b');
DROP ROLE regress_tfstate_matcher;

-- Texts are cut in messages between characters.
BEGIN;
SELECT id FROM tfstate_lock('cut', jsonb_build_object('ID', 'c',
	'Who', repeat('é', 200), 'Operation', 'a' || repeat('é', 200), 'Info', repeat('é', 200)));
CALL fails($$SELECT tfstate_lock('cut')$$);
ROLLBACK;

-- A NULL pattern matches nothing.
SELECT count(*) FROM tfstate_holders(NULL);
SELECT count(*) FROM tfstate_waiters(NULL);
SELECT count(*) FROM tfstate_history(NULL);

-- Nothing has changed, except for the two locks of the DO block.
SELECT lockid, id, mode FROM tfstate_holders ORDER BY lockid;
SELECT * FROM tags;
SELECT lockid, how FROM tfstate_history;
SELECT tfstate_unlock('held', 'h')->>'ID' AS h, tfstate_unlock('session')->>'ID' AS s;
SELECT * FROM tags;

DROP EXTENSION tfstate CASCADE;
DROP VIEW tags;
DROP PROCEDURE fails;
DROP FUNCTION masked;
