-- Locks follow transactions: what is rolled back was neither locked nor released, in both modes and
-- at all isolation levels.
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
-- The locks that are held, and the tags: one for each session lock.
CREATE VIEW held AS
SELECT string_agg(lockid || ' ' || id || ' ' || mode, ', ' ORDER BY lockid) AS held, (SELECT tags FROM tags)
  FROM tfstate_holders;

-- Rollback of a lock
BEGIN;
SELECT id FROM tfstate_lock('d', '{"ID": "1"}');
SELECT id FROM tfstate_lock('s', '{"ID": "1"}', 'session');
SELECT * FROM held;
ROLLBACK;
SELECT * FROM held;
SELECT count(*) FROM tfstate_history;
-- By an error
BEGIN;
SELECT id FROM tfstate_lock('d', '{"ID": "1"}');
SELECT id FROM tfstate_lock('s', '{"ID": "1"}', 'session');
SELECT 1/0;
COMMIT;
SELECT * FROM held;
-- By an error at the commit
CREATE TABLE parent (a int PRIMARY KEY);
CREATE TABLE child (a int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
BEGIN;
SELECT id FROM tfstate_lock('d', '{"ID": "1"}');
SELECT id FROM tfstate_lock('s', '{"ID": "1"}', 'session');
INSERT INTO child VALUES (1);
COMMIT;
SELECT * FROM held;

-- Rollback of an unlock: still held
SELECT id FROM tfstate_lock('d', '{"ID": "2"}');
SELECT id FROM tfstate_lock('s', '{"ID": "2"}', 'session');
BEGIN;
SELECT tfstate_unlock('d')->>'ID' AS d, tfstate_unlock('s')->>'ID' AS s;
CALL fails($$SELECT tfstate_unlock('d', '2')$$);
CALL fails($$SELECT tfstate_unlock('s')$$);
-- The tag of a session lock stays until the commit, and with it the right to end the lock.
SELECT * FROM held;
ROLLBACK;
SELECT * FROM held;
SELECT locked, id FROM tfstate_try_lock('d');
SELECT locked, id FROM tfstate_try_lock('s', mode => 'session');
BEGIN;
SELECT tfstate_force_unlock('d')->>'ID' AS d, tfstate_force_unlock('s')->>'ID' AS s;
INSERT INTO child VALUES (1);
COMMIT;
SELECT * FROM held;
SELECT count(*) FROM tfstate_history;
SELECT tfstate_unlock('d')->>'ID' AS d, tfstate_unlock('s')->>'ID' AS s;
SELECT * FROM held;

-- Savepoints: a lock in one that is rolled back
BEGIN;
SELECT id FROM tfstate_lock('d1', '{"ID": "3"}');
SELECT id FROM tfstate_lock('s1', '{"ID": "3"}', 'session');
SAVEPOINT a;
SELECT id FROM tfstate_lock('d2', '{"ID": "3"}');
SELECT id FROM tfstate_lock('s2', '{"ID": "3"}', 'session');
SAVEPOINT b;
SELECT id FROM tfstate_lock('d3', '{"ID": "3"}');
SELECT id FROM tfstate_lock('s3', '{"ID": "3"}', 'session');
RELEASE b;
SELECT * FROM held;
ROLLBACK TO a;
SELECT * FROM held;
SELECT id FROM tfstate_lock('d3', '{"ID": "3b"}');
SELECT id FROM tfstate_lock('s3', '{"ID": "3b"}', 'session');
SAVEPOINT c;
SELECT id FROM tfstate_lock('d4', '{"ID": "3"}');
SELECT id FROM tfstate_lock('s4', '{"ID": "3"}', 'session');
RELEASE c;
RELEASE a;
COMMIT;
SELECT * FROM held;

-- Unlocks in savepoints: one that is rolled back, and one that is released
BEGIN;
SAVEPOINT a;
SELECT tfstate_unlock('d1')->>'ID' AS d, tfstate_unlock('s1')->>'ID' AS s;
SAVEPOINT b;
SELECT tfstate_unlock('d3')->>'ID' AS d, tfstate_unlock('s3')->>'ID' AS s;
RELEASE b;
ROLLBACK TO a;
SELECT locked, id FROM tfstate_try_lock('d1');
SELECT locked, id FROM tfstate_try_lock('s3', mode => 'session');
SAVEPOINT c;
SELECT tfstate_unlock('d4')->>'ID' AS d, tfstate_unlock('s4')->>'ID' AS s;
RELEASE c;
COMMIT;
SELECT * FROM held;
-- The whole transaction is rolled back in the end.
BEGIN;
SAVEPOINT a;
SELECT tfstate_unlock('d1')->>'ID' AS d, tfstate_unlock('s1')->>'ID' AS s;
SELECT id FROM tfstate_lock('d4', '{"ID": "4"}');
SELECT id FROM tfstate_lock('s4', '{"ID": "4"}', 'session');
RELEASE a;
ROLLBACK;
SELECT * FROM held;
SELECT count(tfstate_unlock(lockid, id)) FROM tfstate_holders;
SELECT * FROM held;

-- Lock, unlock, lock in one transaction
BEGIN;
SELECT id FROM tfstate_lock('d', '{"ID": "5"}');
SELECT id FROM tfstate_lock('s', '{"ID": "5"}', 'session');
SELECT tfstate_unlock('d', '5')->>'ID' AS d, tfstate_unlock('s', '5')->>'ID' AS s;
COMMIT;
SELECT * FROM held;
BEGIN;
SELECT id FROM tfstate_lock('d', '{"ID": "6"}');
SELECT id FROM tfstate_lock('s', '{"ID": "6"}', 'session');
SELECT tfstate_unlock('d')->>'ID' AS d, tfstate_unlock('s')->>'ID' AS s;
SELECT id FROM tfstate_lock('d', '{"ID": "7"}');
SELECT id FROM tfstate_lock('s', '{"ID": "7"}', 'session');
COMMIT;
SELECT * FROM held;
BEGIN;
SELECT tfstate_unlock('d')->>'ID' AS d, tfstate_unlock('s')->>'ID' AS s;
SELECT id FROM tfstate_lock('d', '{"ID": "8"}');
SELECT id FROM tfstate_lock('s', '{"ID": "8"}', 'session');
SELECT tfstate_unlock('d')->>'ID' AS d, tfstate_unlock('s')->>'ID' AS s;
SELECT id FROM tfstate_lock('d', '{"ID": "9"}');
SELECT id FROM tfstate_lock('s', '{"ID": "9"}', 'session');
COMMIT;
SELECT * FROM held;
-- The same, with the last lock rolled back: free
BEGIN;
SELECT tfstate_unlock('d')->>'ID' AS d, tfstate_unlock('s')->>'ID' AS s;
SAVEPOINT a;
SELECT id FROM tfstate_lock('d', '{"ID": "10"}');
SELECT id FROM tfstate_lock('s', '{"ID": "10"}', 'session');
ROLLBACK TO a;
COMMIT;
SELECT * FROM held;

-- Changes of mode in one transaction
SELECT id FROM tfstate_lock('d', '{"ID": "11"}');
SELECT id FROM tfstate_lock('s', '{"ID": "11"}', 'session');
BEGIN;
SELECT tfstate_unlock('d')->>'ID' AS d, tfstate_unlock('s')->>'ID' AS s;
SELECT id FROM tfstate_lock('d', '{"ID": "12"}', 'session');
SELECT id FROM tfstate_lock('s', '{"ID": "12"}', 'durable');
COMMIT;
SELECT * FROM held;
BEGIN;
SELECT tfstate_unlock('d')->>'ID' AS d, tfstate_unlock('s')->>'ID' AS s;
SELECT id FROM tfstate_lock('d', '{"ID": "13"}', 'durable');
SELECT id FROM tfstate_lock('s', '{"ID": "13"}', 'session');
ROLLBACK;
SELECT * FROM held;
SELECT tfstate_unlock('d')->>'ID' AS d, tfstate_unlock('s')->>'ID' AS s;
SELECT * FROM held;

-- A snapshot older than the lock does not matter.
CREATE PROCEDURE isolation() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM count(*) FROM pg_class;
	PERFORM tfstate_lock('d', '{"ID": "1"}');
	PERFORM tfstate_lock('s', '{"ID": "1"}', 'session');
	RAISE INFO '%: %', current_setting('transaction_isolation'), (SELECT held FROM held);
	RAISE INFO 'again: %', (SELECT locked FROM tfstate_try_lock('d'));
	PERFORM tfstate_unlock('d', '1');
	PERFORM tfstate_unlock('s', '1');
	PERFORM tfstate_lock('d', '{"ID": "2"}');
	PERFORM tfstate_lock('s', '{"ID": "2"}', 'session');
	PERFORM tfstate_lock('l', '{"ID": "2"}', ttl => '1 hour');
	PERFORM tfstate_renew('l', '2');
	PERFORM tfstate_force_unlock('l', '2');
	COMMIT;
	PERFORM count(*) FROM pg_class;
	RAISE INFO '%: %', current_setting('transaction_isolation'), (SELECT held FROM held);
	PERFORM tfstate_unlock('d', '2');
	PERFORM tfstate_unlock('s', '2');
	PERFORM tfstate_lock('d', '{"ID": "3"}', 'session');
	ROLLBACK;
	RAISE INFO 'rolled back: %', (SELECT held FROM held);
	PERFORM tfstate_unlock('d', '2');
	PERFORM tfstate_unlock('s', '2');
END;
$$;
CALL isolation();
SET default_transaction_isolation = 'repeatable read';
CALL isolation();
SET default_transaction_isolation = 'serializable';
CALL isolation();
RESET default_transaction_isolation;
SELECT * FROM held;

-- An exception block undoes what was done in it.
DO $$
BEGIN
	PERFORM tfstate_lock('d', '{"ID": "1"}');
	BEGIN
		PERFORM tfstate_lock('s', '{"ID": "1"}', 'session');
		PERFORM tfstate_unlock('d');
		PERFORM tfstate_lock('d', '{"ID": "2"}', 'session');
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		RAISE INFO '%', (SELECT held FROM held);
	END;
	BEGIN
		PERFORM tfstate_lock('t', '{"ID": "1"}', 'session');
		PERFORM tfstate_lock('d');
	EXCEPTION WHEN lock_not_available THEN
		RAISE INFO '%', (SELECT held FROM held);
	END;
END;
$$;
SELECT * FROM held;
SELECT tfstate_unlock('d', '1')->>'ID' AS released;
-- Many in a loop, with an exception block each
DO $$
BEGIN
	FOR i IN 1 .. 100 LOOP
		BEGIN
			PERFORM tfstate_lock('loop', '{"ID": "1"}', CASE i % 2 WHEN 0 THEN 'session' ELSE 'durable' END);
			IF i % 3 = 0 THEN
				RAISE division_by_zero;
			END IF;
			PERFORM tfstate_unlock('loop', '1');
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END;
$$;
SELECT * FROM held;
SELECT mode, count(*) FROM tfstate_history('loop') GROUP BY mode ORDER BY mode;
-- The same in separate transactions
DO $$
BEGIN
	FOR i IN 1 .. 100 LOOP
		PERFORM tfstate_lock('loop', '{"ID": "1"}', CASE i % 2 WHEN 0 THEN 'session' ELSE 'durable' END);
		IF i % 3 = 0 THEN
			ROLLBACK;
		ELSE
			COMMIT;
			PERFORM tfstate_unlock('loop', '1');
			COMMIT;
		END IF;
	END LOOP;
END;
$$;
SELECT * FROM held;
SELECT mode, count(*) FROM tfstate_history('loop') GROUP BY mode ORDER BY mode;

-- Locking a lockid again and again needs no more room than locking it once, and a rollback to a
-- savepoint gives the room back.
SET tfstate.max_session_locks = 3;
SELECT count(tfstate_unlock('again')) FROM generate_series(1, 10) n, tfstate_lock('again' || left(n::text, 0));
SELECT count(tfstate_unlock('again')) FROM generate_series(1, 10) n, tfstate_lock('again' || left(n::text, 0), mode => 'session');
BEGIN;
SELECT count(tfstate_unlock('again')) FROM generate_series(1, 10) n, tfstate_lock('again' || left(n::text, 0));
SELECT count(tfstate_lock('another/' || n)) FROM generate_series(1, 2) n;
CALL fails($$SELECT tfstate_lock('another/3')$$);
ROLLBACK;
DO $$
BEGIN
	FOR i IN 1 .. 10 LOOP
		BEGIN
			PERFORM tfstate_lock('sub/' || i || '/' || j, mode => CASE i % 2 WHEN 0 THEN 'session' ELSE 'durable' END)
			   FROM generate_series(1, 3) j;
			RAISE division_by_zero;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END;
$$;
-- What is released to the savepoint around it is undone with that.
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
SELECT count(tfstate_lock('sub/' || n)) FROM generate_series(1, 3) n;
RELEASE b;
CALL fails($$SELECT tfstate_lock('sub/4')$$);
SELECT locked FROM tfstate_try_lock('sub/1');
ROLLBACK TO a;
SELECT count(tfstate_lock('sub/' || n)) FROM generate_series(4, 6) n;
CALL fails($$SELECT tfstate_lock('sub/7')$$);
-- Locks that are already held never exceed the limit.
SELECT tfstate_unlock('sub/4') IS NOT NULL AS released;
SELECT fence > 0 AS locked FROM tfstate_lock('sub/4');
ROLLBACK;
-- Nor does it take longer each time, in one transaction, too: that would be many minutes.
SET statement_timeout = '1min';
SELECT count(tfstate_unlock('again')) FROM generate_series(1, 8000) n, tfstate_lock('again' || left(n::text, 0), mode => 'session');
RESET statement_timeout;
-- What is ended below a savepoint is held again after a rollback to that, and only then.
BEGIN;
SELECT fence > 0 AS locked FROM tfstate_lock('again', '{"ID": "1"}', mode => 'session');
SAVEPOINT a;
SELECT tfstate_unlock('again') IS NOT NULL AS released;
SELECT fence > 0 AS locked FROM tfstate_lock('again', '{"ID": "1"}', mode => 'session');
SELECT tfstate_unlock('again') IS NOT NULL AS released;
SELECT * FROM held;
ROLLBACK TO a;
SELECT * FROM held;
SAVEPOINT b;
SELECT tfstate_unlock('again') IS NOT NULL AS released;
RELEASE b;
SELECT * FROM held;
COMMIT;
SELECT * FROM held;
-- Session locks that are released and taken again in one transaction count once.
SELECT count(tfstate_lock('s/' || n, mode => 'session')) FROM generate_series(1, 2) n;
BEGIN;
SELECT tfstate_unlock('s/1') IS NOT NULL AS released;
SELECT fence > 0 AS locked FROM tfstate_lock('s/1', mode => 'session');
SELECT tfstate_unlock('s/1') IS NOT NULL AS released;
SELECT fence > 0 AS locked FROM tfstate_lock('s/1', mode => 'session');
COMMIT;
SELECT fence > 0 AS locked FROM tfstate_lock('s/3', mode => 'session');
CALL fails($$SELECT tfstate_lock('s/4')$$);
SELECT count(tfstate_unlock('s/' || n)) FROM generate_series(1, 3) n;
SELECT count(tfstate_lock('s/' || n, mode => 'session')) FROM generate_series(1, 3) n;
SELECT count(tfstate_unlock('s/' || n)) FROM generate_series(1, 3) n;
RESET tfstate.max_session_locks;
SELECT * FROM held;

-- Chained transactions
BEGIN;
SELECT id FROM tfstate_lock('s', '{"ID": "1"}', 'session');
COMMIT AND CHAIN;
SELECT tfstate_unlock('s')->>'ID' AS released;
ROLLBACK AND CHAIN;
SELECT * FROM held;
SELECT tfstate_unlock('s')->>'ID' AS released;
COMMIT;
SELECT * FROM held;

-- A read-only transaction can change nothing, but may look.
SELECT id FROM tfstate_lock('d', '{"ID": "1"}', ttl => '1 hour');
BEGIN READ ONLY;
SELECT lockid, id FROM tfstate_holders;
SELECT count(*) FROM tfstate_waiters;
SELECT count(*) > 0 AS has_history FROM tfstate_history;
CALL fails($$SELECT tfstate_lock('r')$$);
CALL fails($$SELECT tfstate_lock('r', mode => 'session')$$);
CALL fails($$SELECT tfstate_try_lock('r')$$);
CALL fails($$CALL tfstate_wait_lock('r')$$);
CALL fails($$SELECT tfstate_unlock('d')$$);
CALL fails($$SELECT tfstate_renew('d', '1')$$);
CALL fails($$SELECT tfstate_force_unlock('d')$$);
SELECT tfstate_pg.pg_try_advisory_lock(4711) AS built_in, tfstate_pg.pg_advisory_unlock(4711) AS unlocked;
CALL fails($$SELECT tfstate_grant('public')$$);
COMMIT;
SELECT * FROM held;
SELECT tfstate_unlock('d')->>'ID' AS released;
-- Nor can the shim change a workspace.
DO $$ BEGIN PERFORM tfstate_attach('tf_ro'); END $$;
SELECT id FROM tf_ro.states \gset
SELECT tfstate_pg.pg_try_advisory_lock(:id) AS locked;
BEGIN READ ONLY;
CALL fails('SELECT tfstate_pg.pg_try_advisory_lock(' || :id || ')');
CALL fails('SELECT tfstate_pg.pg_try_advisory_lock(-1)');
CALL fails('SELECT tfstate_pg.pg_advisory_unlock(' || :id || ')');
CALL fails('SELECT tfstate_pg.pg_advisory_unlock(-1)');
COMMIT;
SELECT lockid, mode FROM tfstate_holders;
SELECT tfstate_pg.pg_advisory_unlock(:id) AS unlocked;
DROP SCHEMA tf_ro CASCADE;
DROP SEQUENCE public.global_states_id_seq;
SELECT * FROM held;

-- A cursor: locks are taken as rows are fetched.
BEGIN;
DECLARE c CURSOR FOR SELECT (tfstate_lock('c' || n, '{"ID": "1"}', 'session')).id FROM generate_series(1, 5) n;
FETCH 2 FROM c;
SELECT count(*) > 0 AS some FROM tfstate_holders;
CLOSE c;
ROLLBACK;
SELECT * FROM held;
-- A lock taken by a fetch belongs to the savepoint, not to the cursor; a failed try leaves nothing.
BEGIN;
SAVEPOINT a;
DECLARE c CURSOR FOR
SELECT (tfstate_lock('c' || n, '{"ID": "1"}', 'session')).id, (tfstate_try_lock('c' || n, wait => '1 ms')).locked
  FROM generate_series(1, 4) n;
FETCH c;
RELEASE a;
FETCH c;
SAVEPOINT b;
FETCH c;
ROLLBACK TO b;
FETCH c;
CLOSE c;
SELECT * FROM held;
COMMIT;
SELECT * FROM held;
SELECT tfstate_unlock(lockid)->>'ID' AS released FROM tfstate_holders;
SELECT * FROM held;

DROP VIEW held;
DROP EXTENSION tfstate CASCADE;
DROP PROCEDURE isolation;
DROP VIEW tags;
DROP TABLE child, parent;
DROP PROCEDURE fails;
DROP FUNCTION masked;
