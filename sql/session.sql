-- Locks in session mode: they end with the session, and with everything else that takes away its
-- advisory locks.
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

-- Lock and unlock
SELECT id, fence AS f1 FROM tfstate_lock('s', '{"ID": "1"}', 'session') \gset
SELECT lockid, mode, who, id, fence = :f1 AS fence, session_alive, pid = pg_backend_pid() AS pid, waiters
  FROM tfstate_holders;
SELECT * FROM tags;
-- A second lock by the same session conflicts with itself, in both modes and with any wait.
CALL fails($$SELECT tfstate_lock('s', mode => 'session')$$);
CALL fails($$SELECT tfstate_lock('s')$$);
SELECT locked, id, fence = :f1 AS fence, masked(holder::text) AS holder FROM tfstate_try_lock('s', mode => 'session');
SELECT locked, id FROM tfstate_try_lock('s', mode => 'session', wait => NULL);
SELECT locked, id FROM tfstate_try_lock('s', wait => NULL);
SELECT locked, id FROM tfstate_try_lock('s', wait => '1 hour');
SELECT * FROM tags;
CALL fails($$SELECT tfstate_unlock('s', '2')$$);
SELECT tfstate_unlock('s', '1')->>'ID' AS released;
SELECT * FROM tags;
CALL fails($$SELECT tfstate_unlock('s', '1')$$);
SELECT lockid, mode, id, how FROM tfstate_history ORDER BY fence;

-- Force-unlock of a session's own lock needs no terminate.
SELECT fence > :f1 AS grows FROM tfstate_lock('s', '{"ID": "2"}', 'session');
SELECT tfstate_force_unlock('s', '2', 'why not')->>'ID' AS released;
SELECT * FROM tags;
-- Nor does it when the session works for another run by then.
SELECT fence > :f1 AS grows FROM tfstate_lock('s', '{"ID": "2b"}', 'session');
SET tfstate.run_id = '11111111-2222-4333-8444-555555555555';
SELECT tfstate_force_unlock('s', '2b')->>'ID' AS released;
RESET tfstate.run_id;
SELECT * FROM tags;
-- The history has it, though it leaves out other locks in session mode.
SET tfstate.history = 'durable';
SELECT count(tfstate_lock('forced', jsonb_build_object('ID', n::text), 'session')), count(CASE n WHEN 1 THEN tfstate_unlock('forced') ELSE tfstate_force_unlock('forced') END)
  FROM generate_series(1, 2) n;
SELECT id, mode, how FROM tfstate_history('forced');
SET tfstate.history = 'all';

-- pg_advisory_unlock_all(): the session loses the lock.
SELECT id FROM tfstate_lock('s', '{"ID": "3"}', 'session');
SELECT id FROM tfstate_lock('t', '{"ID": "4"}', 'session');
SELECT pg_advisory_unlock_all();
SELECT * FROM tags;
SELECT count(*) FROM tfstate_holders;
SELECT value FROM tfstate_metrics WHERE name = 'tfstate_locks_held' AND labels->>'mode' = 'session';
CALL fails($$SELECT tfstate_unlock('s', '3')$$);
CALL fails($$SELECT tfstate_unlock('s')$$);
CALL fails($$SELECT tfstate_force_unlock('s')$$);
-- It can lock again, which records the loss; the other locks stay lost.
SELECT id FROM tfstate_lock('s', '{"ID": "5"}', 'session');
SELECT lockid, id FROM tfstate_holders;
SELECT lockid, id, how FROM tfstate_history WHERE how = 'reclaimed' ORDER BY fence;
CALL fails($$SELECT tfstate_unlock('t', '4')$$);
CALL fails($$SELECT tfstate_unlock('s', '3')$$);
SELECT tfstate_unlock('s', '5')->>'ID' AS released;
SELECT * FROM tags;

-- DISCARD ALL does the same.
SELECT id FROM tfstate_lock('s', '{"ID": "6"}', 'session');
DISCARD ALL;
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET tfstate.history = 'all';
SELECT * FROM tags;
SELECT count(*) FROM tfstate_holders;
CALL fails($$SELECT tfstate_unlock('s', '6')$$);
-- A session that locks in durable mode takes over, too.
SELECT id FROM tfstate_lock('s', '{"ID": "7"}');
SELECT id FROM tfstate_lock('t', '{"ID": "8"}');
SELECT lockid, id, how FROM tfstate_history WHERE how = 'reclaimed' ORDER BY fence;
-- A durable lock survives both.
SELECT pg_advisory_unlock_all();
SELECT lockid, id, mode, session_alive FROM tfstate_holders ORDER BY lockid;
CALL fails($$SELECT tfstate_unlock('s')$$);
SELECT tfstate_unlock('s', '7')->>'ID' AS released;
DISCARD ALL;
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SELECT tfstate_unlock('t', '8')->>'ID' AS released;

-- In the middle of a transaction: what was taken before is lost; what the transaction takes or
-- releases ends up held by some session, or free.
BEGIN;
SELECT id FROM tfstate_lock('s', '{"ID": "9"}', 'session');
SELECT pg_advisory_unlock_all();
COMMIT;
SELECT (SELECT count(*) FROM tfstate_holders) = (SELECT tags FROM tags) AS agree;
SELECT pg_advisory_unlock_all();
SELECT locked FROM tfstate_try_lock('s', '{"ID": "10"}', 'session');
BEGIN;
SELECT tfstate_unlock('s')->>'ID' AS released;
SELECT pg_advisory_unlock_all();
COMMIT;
SELECT * FROM tags;
SELECT count(*) FROM tfstate_holders;
SELECT locked FROM tfstate_try_lock('s', '{"ID": "11"}', 'session');
BEGIN;
SELECT pg_advisory_unlock_all();
SELECT locked FROM tfstate_try_lock('s', '{"ID": "11a"}', 'session');
COMMIT;
SELECT lockid, id FROM tfstate_holders;
SELECT * FROM tags;
SELECT tfstate_unlock('s')->>'ID' AS released;

-- The lock ends with the session, and the next session that locks reclaims the row.
SET tfstate.history = 'all';
SELECT id FROM tfstate_lock('left', '{"ID": "12", "Who": "alice"}', 'session');
SELECT pg_backend_pid() AS old_pid \gset
\c -
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET tfstate.history = 'all';
SELECT set_config('regress.old_pid', :'old_pid', false) = :'old_pid' AS noted;
DO $$ BEGIN LOOP
	PERFORM pg_stat_clear_snapshot();
	EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = current_setting('regress.old_pid')::integer);
	PERFORM pg_sleep(0.01);
END LOOP; END $$;
SELECT count(*) FROM tfstate_holders;
CALL fails($$SELECT tfstate_unlock('left', '12')$$);
CALL fails($$SELECT tfstate_force_unlock('left', '12')$$);
SELECT locked, id FROM tfstate_try_lock('left', '{"ID": "13"}', 'session');
SELECT lockid, who, id, how FROM tfstate_history('left');
SELECT tfstate_unlock('left')->>'ID' AS released;

-- PREPARE TRANSACTION is refused after a session lock or its unlock.
BEGIN;
SELECT id FROM tfstate_lock('s', '{"ID": "14"}', 'session');
PREPARE TRANSACTION 'regress_tfstate';
\echo :SQLSTATE
BEGIN;
SELECT id FROM tfstate_lock('s', '{"ID": "14"}', 'session');
SELECT tfstate_unlock('s')->>'ID' AS released;
PREPARE TRANSACTION 'regress_tfstate';
\echo :SQLSTATE
SELECT * FROM tags;
SELECT id FROM tfstate_lock('s', '{"ID": "15"}', 'session');
BEGIN;
SELECT tfstate_unlock('s')->>'ID' AS released;
PREPARE TRANSACTION 'regress_tfstate';
\echo :SQLSTATE
-- The lock is still held.
SELECT lockid, id FROM tfstate_holders;
SELECT tfstate_unlock('s')->>'ID' AS released;
SELECT * FROM tags;
SELECT count(*) FROM pg_prepared_xacts;

-- A durable lock may be prepared; until the end of that others see it as being taken.
BEGIN;
SELECT id FROM tfstate_lock('p', '{"ID": "16"}');
PREPARE TRANSACTION 'regress_tfstate';
SELECT count(*) FROM tfstate_holders;
SELECT locked, id, holder FROM tfstate_try_lock('p');
CALL fails($$SELECT tfstate_lock('p', wait => '10 ms')$$);
CALL fails($$SELECT tfstate_unlock('p', '16')$$);
ROLLBACK PREPARED 'regress_tfstate';
SELECT count(*) FROM tfstate_holders;
SELECT locked FROM tfstate_try_lock('p', '{"ID": "17"}');
-- So may its unlock.
BEGIN;
SELECT tfstate_unlock('p')->>'ID' AS released;
PREPARE TRANSACTION 'regress_tfstate';
SELECT locked, id FROM tfstate_try_lock('p');
ROLLBACK PREPARED 'regress_tfstate';
SELECT lockid, id FROM tfstate_holders;
BEGIN;
SELECT tfstate_unlock('p')->>'ID' AS released;
SELECT id FROM tfstate_lock('p', '{"ID": "18"}');
PREPARE TRANSACTION 'regress_tfstate';
COMMIT PREPARED 'regress_tfstate';
SELECT lockid, id FROM tfstate_holders;
SELECT tfstate_unlock('p', '18')->>'ID' AS released;
-- What a dead session has left is no obstacle, and is recorded once.
SET tfstate.history = 'all';
SELECT id FROM tfstate_lock('p', '{"ID": "19"}', 'session');
SELECT pg_advisory_unlock_all();
BEGIN;
SELECT id FROM tfstate_lock('p', '{"ID": "20"}');
PREPARE TRANSACTION 'regress_tfstate';
COMMIT PREPARED 'regress_tfstate';
SELECT lockid, id FROM tfstate_holders;
SELECT tfstate_unlock('p', '20')->>'ID' AS released;
SELECT locked, id FROM tfstate_try_lock('p', '{"ID": "21"}', 'session');
SELECT tfstate_unlock('p')->>'ID' AS released;
SELECT id, how FROM tfstate_history('p') WHERE fence >= (SELECT fence FROM tfstate_history('p') WHERE id = '19') ORDER BY fence;
RESET tfstate.history;
SELECT * FROM tags;

-- Limits: session locks of the session, and all locks of a transaction.
SET tfstate.max_session_locks = 3;
SELECT count(tfstate_lock('max/' || n, mode => 'session')) FROM generate_series(1, 3) n;
CALL fails($$SELECT tfstate_lock('max/4', mode => 'session')$$);
CALL fails($$SELECT tfstate_lock('max/4')$$);
CALL fails($$SELECT tfstate_try_lock('max/4')$$);
SELECT count(*), max(lockid) FROM tfstate_holders;
SELECT tfstate_unlock('max/2') IS NOT NULL AS released;
SELECT count(tfstate_lock('max/4', mode => 'session'));
-- Releases in a transaction count after its commit.
BEGIN;
SELECT tfstate_unlock('max/4') IS NOT NULL AS released;
CALL fails($$SELECT tfstate_lock('max/5', mode => 'session')$$);
COMMIT;
SELECT count(tfstate_lock('max/5', mode => 'session'));
SELECT count(tfstate_unlock(lockid)) FROM tfstate_holders;
-- Durable locks count until the transaction ends; those that failed or were rolled back no longer
-- count after that.
CALL fails($$SELECT tfstate_lock('max/' || n) FROM generate_series(1, 4) n$$);
SELECT count(tfstate_lock('max/' || n)) FROM generate_series(1, 3) n;
SELECT count(tfstate_lock('max/' || n)) FROM generate_series(4, 6) n;
SELECT count(tfstate_unlock('max/' || n)) FROM generate_series(1, 6) n;
-- Nor do those that a rollback to a savepoint undid.
BEGIN;
SAVEPOINT a;
SELECT count(tfstate_lock('max/' || n, mode => 'session')) FROM generate_series(1, 3) n;
ROLLBACK TO a;
SELECT * FROM tags;
COMMIT;
SELECT count(tfstate_lock('max/' || n, mode => 'session')) FROM generate_series(1, 3) n;
SELECT count(tfstate_unlock('max/' || n)) FROM generate_series(1, 3) n;
-- Locks that pg_advisory_unlock_all() released do not count.
SELECT count(tfstate_lock('max/' || n, mode => 'session')) FROM generate_series(1, 3) n;
SELECT pg_advisory_unlock_all();
SELECT count(tfstate_lock('max/' || n, mode => 'session')) FROM generate_series(1, 3) n;
CALL fails($$SELECT tfstate_lock('max/4', mode => 'session')$$);
SELECT count(tfstate_unlock('max/' || n)) FROM generate_series(1, 3) n;
SELECT * FROM tags;
SELECT count(*) FROM tfstate_holders;

DROP EXTENSION tfstate CASCADE;
DROP VIEW tags;
DROP PROCEDURE fails;
DROP FUNCTION masked;
