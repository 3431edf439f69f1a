-- Fences: above all that the tables know for a lockid, whatever happened to the sequence.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;
RESET client_min_messages;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

-- The sequence functions of a session are left to the user.
CREATE TEMP SEQUENCE own START 7;
SELECT fence AS first FROM tfstate_lock('f/a', '{"ID":"1"}') \gset
CALL fails('SELECT lastval()');
SELECT nextval('own');
SELECT fence > :first AS greater FROM tfstate_lock('f/b', '{"ID":"1"}');
SELECT lastval(), currval('own');
CALL fails($$SELECT currval('tfstate_internal.fence')$$);
SELECT tfstate_unlock('f/a', '1') IS NOT NULL AND tfstate_unlock('f/b', '1') IS NOT NULL AS unlocked;

-- Fences are taken from the sequence in batches, and each one is used.  Whoever draws from the
-- sequence besides, or sets it, is noticed, whether or not that writes to WAL.
SELECT nextval('tfstate_internal.fence') AS other \gset
SELECT fence AS first, fence - :other AS above FROM tfstate_lock('f/a', '{"ID":"1"}') \gset
SELECT :above AS above, last_value - :first + 1 AS batch FROM tfstate_internal.fence;
SELECT fence - :first AS above FROM tfstate_lock('f/b', '{"ID":"1"}');
SELECT nextval('tfstate_internal.fence') AS other \gset
SELECT :other - :first - 31 AS above_batch;
SELECT fence - :other AS above FROM tfstate_lock('f/c', '{"ID":"1"}');
SELECT nextval('tfstate_internal.fence') < nextval('tfstate_internal.fence') AS drawn;
SELECT currval('tfstate_internal.fence') AS other \gset
SELECT fence - :other AS above FROM tfstate_lock('f/d', '{"ID":"1"}');
SELECT setval('tfstate_internal.fence', :other + 1000) - :other AS set_higher;
SELECT fence - :other AS above FROM tfstate_lock('f/s', '{"ID":"1"}');
SELECT count(tfstate_unlock('f/' || l, '1')) FROM unnest('{a,b,c,d,s}'::text[]) l;

-- setval() to a smaller value: the history has the fences, in each mode.
SELECT newest FROM (SELECT max(fence) AS newest FROM tfstate_internal.released_lock) r \gset
SELECT setval('tfstate_internal.fence', 1);
SELECT object, regexp_replace(problem, 'fence \d+', 'fence <n>') AS problem, remedy ~ '^SELECT pg_catalog.setval\(.tfstate_internal.fence., [0-9]+\)$' AS remedy
  FROM tfstate_check() WHERE object ~ 'fence';
SELECT fence = :newest + 1 AS above FROM tfstate_lock('f/c', '{"ID":"2"}', mode => 'session');
SELECT count(*) FROM tfstate_check() WHERE object ~ 'fence';
SELECT setval('tfstate_internal.fence', 1, false);
-- So has the shared memory, for any lockid.
SELECT fence > :newest + 1 AS other_lockid FROM tfstate_lock('f/new', '{"ID":"2"}');
-- The session's own row has the fence, too.
SELECT locked, fence = :newest + 1 AS own FROM tfstate_try_lock('f/c');
SELECT tfstate_unlock('f/c', '2') IS NOT NULL AS unlocked;
SELECT fence > :newest + 1 AS above FROM tfstate_lock('f/c', '{"ID":"3"}', mode => 'session');
SELECT tfstate_unlock('f/c', '3') IS NOT NULL AND tfstate_unlock('f/new', '2') IS NOT NULL AS unlocked;

-- Only a dead row of the lock table has the fence.
SET tfstate.history = none;
SELECT fence AS dead FROM tfstate_lock('f/d', '{"ID":"1"}') \gset
SELECT tfstate_unlock('f/d', '1') IS NOT NULL AS unlocked;
-- As after a restart of the server, new shared memory knows nothing.
SELECT setval('tfstate_internal.fence', 1), setval('tfstate_internal.shared_memory', 1);
\c
SET tfstate.history = none;
SET client_min_messages = log;
SELECT fence > :dead AS above FROM tfstate_lock('f/d', '{"ID":"2"}');
RESET client_min_messages;
SELECT locked, id FROM (SELECT (tfstate_try_lock('f/d')).*) t;
SELECT tfstate_unlock('f/d', '2') IS NOT NULL AS unlocked;
RESET tfstate.history;

-- Only a version has the fence.
INSERT INTO tfstate_internal.stored_version (lockid, number, operation, created, fence)
VALUES ('s.states/x', 1, 'write', now(), 70000), ('s.states/x', 2, 'write', now(), NULL);
SELECT regexp_replace(problem, 'at \d+', 'at <n>') AS problem FROM tfstate_check() WHERE object ~ 'fence';
SELECT fence FROM tfstate_lock('s.states/x', '{"ID":"1"}');
SELECT tfstate_unlock('s.states/x', '1') IS NOT NULL AS unlocked;
-- The next value of the sequence is the one that was in use.
INSERT INTO tfstate_internal.stored_version (lockid, number, operation, created, fence)
VALUES ('s.states/y', 1, 'write', now(), 70010);
SELECT setval('tfstate_internal.fence', 70009);
SELECT fence FROM tfstate_lock('s.states/y', '{"ID":"1"}');
SELECT tfstate_unlock('s.states/y', '1') IS NOT NULL AS unlocked;
DELETE FROM tfstate_internal.stored_version;

-- The same where only the history has it, of the lockid that this session locked last.
SELECT fence > 0 AS taken FROM tfstate_lock('f/h', '{"ID":"1"}');
SELECT tfstate_unlock('f/h', '1') IS NOT NULL AS unlocked;
INSERT INTO tfstate_internal.released_lock
SELECT (jsonb_populate_record(r, jsonb_build_object('fence', f))).*
  FROM tfstate_internal.released_lock r, unnest('{70020, 70025}'::bigint[]) f WHERE r.lockid = 'f/h';
SELECT setval('tfstate_internal.fence', 70019);
SELECT fence FROM tfstate_lock('f/h', '{"ID":"2"}');
SELECT tfstate_unlock('f/h', '2') IS NOT NULL AS unlocked;
-- The same where the greatest one is just the next value.
INSERT INTO tfstate_internal.released_lock
SELECT (jsonb_populate_record(r, '{"fence": 70140}')).* FROM tfstate_internal.released_lock r WHERE r.lockid = 'f/h' LIMIT 1;
SELECT setval('tfstate_internal.fence', 70139);
SELECT fence FROM tfstate_lock('f/h', '{"ID":"3"}');
SELECT tfstate_unlock('f/h', '3') IS NOT NULL AS unlocked;

-- A release does not fail because of rows in the history.
SELECT fence FROM tfstate_lock('f/e', '{"ID":"1"}');
INSERT INTO tfstate_internal.released_lock
SELECT d.*, 'durable', now(), 'unlock', 'somebody', NULL FROM tfstate_internal.durable_lock d WHERE d.lockid = 'f/e';
SELECT tfstate_unlock('f/e', '1') IS NOT NULL AS unlocked;
SELECT lockid, fence, released_by = 'somebody' AS other FROM tfstate_history('f/e') ORDER BY other;

-- The last possible fence is an error with a remedy.
INSERT INTO tfstate_internal.released_lock
SELECT 'f/end', 9223372036854775807, d.id, d.created, d.ttl, d.expires_at, d.session, d.pid, d.role, d.role_name, d.login_role, d.application_name,
	   d.client_addr, d.run_id, d.key, d.unlock_key, d.info, d.mode, d.released_at, d.how, d.released_by, d.reason
  FROM tfstate_internal.released_lock d WHERE d.lockid = 'f/e' LIMIT 1;
CALL fails($$SELECT fence FROM tfstate_lock('f/end')$$);
SELECT count(*) FROM tfstate_holders;
SELECT fence FROM tfstate_lock('f/e', '{"ID":"2"}');
SELECT tfstate_unlock('f/e', '2') IS NOT NULL AS unlocked;
SELECT setval('tfstate_internal.fence', 9223372036854775807);
CALL fails($$SELECT fence FROM tfstate_lock('f/e')$$);
ALTER SEQUENCE tfstate_internal.fence MINVALUE -9223372036854775808 RESTART WITH -9223372036854775808;
SELECT setval('tfstate_internal.shared_memory', 1);
\c
SELECT fence FROM tfstate_lock('f/low', '{"ID":"1"}');
SELECT tfstate_unlock('f/low', '1') IS NOT NULL AS unlocked;
ALTER SEQUENCE tfstate_internal.fence RESTART WITH 100000;
SELECT fence FROM tfstate_lock('f/low', '{"ID":"1"}');
SELECT tfstate_unlock('f/low', '1') IS NOT NULL AS unlocked;

--
-- Rows that SQL inserts
--

SELECT fence FROM tfstate_lock('r/a', '{"ID":"1"}');
CREATE TEMP TABLE dump AS TABLE tfstate_internal.durable_lock;
-- A second row for a held lock, with a greater or smaller fence, or in one statement.
CALL fails('INSERT INTO tfstate_internal.durable_lock SELECT * FROM dump');
UPDATE dump SET fence = 200000;
CALL fails('INSERT INTO tfstate_internal.durable_lock SELECT * FROM dump');
UPDATE dump SET fence = 1;
CALL fails('INSERT INTO tfstate_internal.durable_lock SELECT * FROM dump');
SELECT tfstate_unlock('r/a', '1') IS NOT NULL AS unlocked;
-- A row from before the last holding is out of date, and so is that of the last one.
CALL fails('INSERT INTO tfstate_internal.durable_lock SELECT * FROM dump');
UPDATE dump SET fence = (SELECT max(fence) FROM tfstate_history('r/a'));
CALL fails('INSERT INTO tfstate_internal.durable_lock SELECT * FROM dump');
UPDATE dump SET fence = 200000;
CALL fails('INSERT INTO tfstate_internal.durable_lock SELECT d.* FROM dump d, generate_series(1, 2)');
-- Otherwise it is a lock.
INSERT INTO tfstate_internal.durable_lock SELECT * FROM dump;
SELECT locked, id, fence FROM tfstate_try_lock('r/a');
SELECT object FROM tfstate_check() WHERE object ~ 'durable';
-- The row may be updated, but not to another lockid.
UPDATE tfstate_internal.durable_lock SET application_name = 'other' WHERE lockid = 'r/a';
SELECT fence FROM tfstate_lock('r/b', '{"ID":"2"}');
CALL fails($$UPDATE tfstate_internal.durable_lock SET lockid = 'r/b' WHERE lockid = 'r/a'$$);
UPDATE tfstate_internal.durable_lock SET fence = 300000 WHERE lockid = 'r/a';
SELECT fence FROM tfstate_holders('r/a');
SELECT tfstate_force_unlock('r/a', '1') IS NOT NULL AND tfstate_unlock('r/b', '2') IS NOT NULL AS unlocked;
SELECT fence FROM tfstate_lock('r/a', '{"ID":"3"}');
SELECT tfstate_unlock('r/a', '3') IS NOT NULL AS unlocked;
CALL fails($$INSERT INTO tfstate_internal.durable_lock (lockid, fence) VALUES ('', 1)$$);
-- Where nothing tells of the last holding any more, an older row is a lock, too, also for the
-- session that has had the last one.
SET tfstate.history = none;
SELECT fence FROM tfstate_lock('r/back', '{"ID":"1"}');
SELECT tfstate_unlock('r/back', '1') IS NOT NULL AS unlocked;
UPDATE dump SET fence = 2, lockid = 'r/back';
DO $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		BEGIN
			-- marks the last row's index entry as dead, once no transaction needs it
			PERFORM tfstate_unlock('r/back');
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
		END;
		BEGIN
			INSERT INTO tfstate_internal.durable_lock SELECT * FROM dump;
			EXIT;
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
		END;
		COMMIT;
		PERFORM pg_sleep(0.01);
	END LOOP;
END;
$$;
SELECT locked, id, fence FROM tfstate_try_lock('r/back');
SELECT tfstate_unlock('r/back', '1') IS NOT NULL AS unlocked;
RESET tfstate.history;
-- What was rolled back does not hide what it had replaced.
SELECT fence > 0 AS locked FROM tfstate_lock('r/back', '{"ID":"1"}', ttl => '1 microsecond');
BEGIN;
SELECT fence > 0 AS locked FROM tfstate_lock('r/back', '{"ID":"2"}');
SELECT locked, id FROM tfstate_try_lock('r/back');
ROLLBACK;
SELECT tfstate_renew('r/back', '1', '1 hour') IS NOT NULL AS renewed;
SELECT tfstate_unlock('r/back', '1') IS NOT NULL AS unlocked;

-- Without the trigger two rows can be inserted, in either order.  tfstate_check() and every use of
-- the lock report them, and one of them has to be deleted.
ALTER TABLE tfstate_internal.durable_lock DISABLE TRIGGER ALL;
UPDATE dump SET fence = 400001, lockid = 'r/up';
INSERT INTO tfstate_internal.durable_lock SELECT * FROM dump;
UPDATE dump SET fence = 400000;
INSERT INTO tfstate_internal.durable_lock SELECT * FROM dump;
UPDATE dump SET fence = 400000, lockid = 'r/down';
INSERT INTO tfstate_internal.durable_lock SELECT * FROM dump;
UPDATE dump SET fence = 400001;
INSERT INTO tfstate_internal.durable_lock SELECT * FROM dump;
ALTER TABLE tfstate_internal.durable_lock ENABLE TRIGGER ALL;
SELECT severity, object, problem, remedy FROM tfstate_check() WHERE object ~ 'durable' ORDER BY problem;
ALTER TABLE tfstate_internal.durable_lock ENABLE ALWAYS TRIGGER require_free_lock;
\c
SET client_min_messages = warning;
CALL fails($$SELECT fence FROM tfstate_lock('r/up')$$);
CALL fails($$SELECT locked FROM tfstate_try_lock('r/down')$$);
CALL fails($$SELECT tfstate_unlock('r/up', '1')$$);
CALL fails($$SELECT tfstate_force_unlock('r/down')$$);
DELETE FROM tfstate_internal.durable_lock WHERE fence = 400000;
SELECT locked, fence FROM tfstate_try_lock('r/up');
SELECT tfstate_force_unlock('r/up') IS NOT NULL AND tfstate_force_unlock('r/down') IS NOT NULL AS unlocked;
SELECT fence FROM tfstate_lock('r/down', '{"ID":"1"}');
SELECT tfstate_unlock('r/down', '1') IS NOT NULL AS unlocked;
SELECT object FROM tfstate_check() WHERE object ~ 'durable';

-- A batch that is used up is followed by one of twice its size, up to 4,096, and no fence is
-- skipped or given out twice.  One that has ended otherwise is followed by a small one.
CREATE PROCEDURE draw(times integer, OUT fences bigint, OUT batches text) LANGUAGE plpgsql AS $$
DECLARE
	least bigint;
	newest bigint;
	ends bigint[] = '{}';
	fence bigint;
	last bigint;
BEGIN
	FOR i IN 1 .. times LOOP
		SELECT l.fence INTO fence FROM tfstate_lock('f/many', '{"ID":"1"}', mode => 'session') l;
		PERFORM tfstate_unlock('f/many', '1');
		COMMIT;
		SELECT s.last_value INTO last FROM tfstate_internal.fence s;
		IF last <> ends[cardinality(ends)] IS NOT FALSE THEN
			ends = ends || last;
		END IF;
		IF fence <= newest THEN
			RAISE 'fence % after %', fence, newest;
		END IF;
		newest = fence;
		least = coalesce(least, fence);
	END LOOP;
	fences = newest - least + 1;
	SELECT string_agg((e - coalesce((SELECT max(f) FROM unnest(ends) f WHERE f < e), least - 1))::text, ' ' ORDER BY e)
	  INTO batches FROM unnest(ends) e;
END $$;
SELECT nextval('tfstate_internal.fence') > 0 AS ended;
CALL draw(8200, NULL, NULL);
-- Within a batch, too, a session looks again, after 128 draws, what the history has of a lockid.
SELECT last_value + 10000 AS restored FROM tfstate_internal.fence \gset
INSERT INTO tfstate_internal.released_lock
SELECT (jsonb_populate_record(r, jsonb_build_object('lockid', 'f/many', 'fence', :restored))).*
  FROM tfstate_internal.released_lock r WHERE r.lockid = 'f/h' LIMIT 1;
CALL draw(128, NULL, NULL);
SELECT nextval('tfstate_internal.fence') > 0 AS ended;
CALL draw(33, NULL, NULL);
DROP PROCEDURE draw;

--
-- The key
--

-- The test vectors in the appendix of the paper, and those of the reference implementation.
CREATE FUNCTION siphash(key bytea, data bytea) RETURNS bigint
AS '$libdir/tfstate', 'tfstate_siphash_bytea' LANGUAGE C IMMUTABLE STRICT;
SELECT n, to_hex(siphash('\x000102030405060708090a0b0c0d0e0f', substr('\x000102030405060708090a0b0c0d0e0f'::bytea, 1, n))) AS hash
  FROM unnest('{0,1,7,8,9,15}'::integer[]) n;
CALL fails($$SELECT siphash('short', '')$$);
-- This is the hash in the tags, with the key.
BEGIN;
SELECT fence > 0 AS locked FROM tfstate_lock('prod/a lockid of more than eight bytes', '{"ID":"1"}');
SELECT count(*) FROM pg_locks l, tfstate_internal.installation i
 WHERE l.locktype = 'advisory' AND l.objsubid = x'7466'::integer
   AND (l.classid::bigint << 32) | l.objid::bigint = siphash(i.key, convert_to('prod/a lockid of more than eight bytes', 'UTF8'));
ROLLBACK;
-- While a state is written, also the hash in the version tag.
BEGIN;
SELECT count(*) > 0 AS attached FROM tfstate_attach('keyed');
SELECT fence > 0 AS locked FROM tfstate_lock('keyed.states/default', '{"ID":"1"}');
UPDATE keyed.states SET data = '{"serial": 1, "lineage": "a"}';
SELECT to_hex(l.objsubid::integer) AS tag, count(*),
	   bool_and((l.classid::bigint << 32) | l.objid::bigint = siphash(i.key, convert_to('keyed.states/default', 'UTF8'))) AS keyed
  FROM pg_locks l, tfstate_internal.installation i
 WHERE l.locktype = 'advisory' AND l.pid = pg_backend_pid() AND l.objsubid IN (x'7466'::integer, x'7469'::integer)
 GROUP BY l.objsubid ORDER BY 1;
ROLLBACK;
DROP FUNCTION siphash;
-- A role that may read all data may not read the key.
CREATE ROLE regress_tfstate_reader;
GRANT pg_read_all_data TO regress_tfstate_reader;
SET ROLE regress_tfstate_reader;
SELECT key FROM tfstate_internal.installation;
SELECT count(*) FROM pg_stats WHERE tablename = 'installation' AND attname = 'key';
CALL fails('SELECT tfstate_internal.make_key()');
RESET ROLE;
ANALYZE tfstate_internal.installation;
SELECT count(*) FROM pg_statistic WHERE starelid = 'tfstate_internal.installation'::regclass AND staattnum = 2;
DROP ROLE regress_tfstate_reader;

-- Another protocol is refused when a session looks up the tables.
UPDATE tfstate_internal.installation SET protocol = 2;
\c
SET client_min_messages = warning;
CALL fails($$SELECT fence FROM tfstate_lock('p/a')$$);
CALL fails($$SELECT count(*) FROM tfstate_holders$$);
UPDATE tfstate_internal.installation SET protocol = 0;
CALL fails($$SELECT fence FROM tfstate_lock('p/a')$$);
UPDATE tfstate_internal.installation SET protocol = 1;
SELECT fence > 0 AS locked FROM tfstate_lock('p/a', '{"ID":"1"}');
-- If the key is lost, no lock is.
DELETE FROM tfstate_internal.installation;
\c
SET client_min_messages = warning;
CALL fails($$SELECT fence FROM tfstate_lock('p/b')$$);
SELECT tfstate_internal.make_key();
SELECT locked, id FROM tfstate_try_lock('p/a');
SELECT tfstate_unlock('p/a', '1') IS NOT NULL AS unlocked;

-- On another timeline than that of the last fence, fences jump once.  So does the fence of a lockid
-- for which the lock table has an earlier one.
SELECT fence AS before FROM tfstate_lock('t/a', '{"ID":"0"}', ttl => '1 ms') \gset
SELECT pg_sleep(0.01);
UPDATE tfstate_internal.installation SET timeline = 0;
\c
SET client_min_messages = warning;
BEGIN;
SELECT fence - :before >= 1000000000 AS jumped, fence AS after FROM tfstate_lock('t/b', '{"ID":"1"}') \gset
ROLLBACK;
SELECT :'jumped' AS jumped, timeline FROM tfstate_internal.installation;
SELECT fence = :after + 1 AS next FROM tfstate_lock('t/b', '{"ID":"1"}');
\c
SELECT fence - :after >= 1000000000 AS jumped FROM tfstate_lock('t/a', '{"ID":"1"}');
SELECT timeline > 0 AS noted FROM tfstate_internal.installation;
\c
SELECT fence - :after < 1100000000 AS jumped_no_more FROM tfstate_lock('t/d', '{"ID":"1"}');
SELECT count(tfstate_unlock('t/' || l, '1')) FROM unnest('{a,b,d}'::text[]) l;

--
-- tfstate.history_count applies to each lockid that a session releases in turn
--
SET tfstate.history_count = -1;
CREATE PROCEDURE cycle(lockid text, n integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..n LOOP
		PERFORM tfstate_lock(lockid, '{"ID":"1"}');
		PERFORM tfstate_unlock(lockid, '1');
		COMMIT;
	END LOOP;
END;
$$;
CALL cycle('c/early', 20);
\c
SET client_min_messages = warning;
SET tfstate.history_count = 5;
CALL cycle('c/late', 512);
CALL cycle('c/early', 1);
SELECT lockid, count(*) FROM tfstate_history('c/*') GROUP BY lockid HAVING lockid = 'c/early';
-- The last release of these prunes, and so has one of this lockid before.
CALL cycle('c/late', 512);
SELECT lockid, count(*) FROM tfstate_history('c/*') GROUP BY lockid ORDER BY lockid;
DROP PROCEDURE cycle;
RESET tfstate.history_count;

--
-- Tables that were altered
--

CREATE PROCEDURE altered(command text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	CALL fails('SELECT fence FROM tfstate_lock(''altered'')');
	ROLLBACK;
END;
$$;
SET client_min_messages = warning;
CALL altered('ALTER TABLE tfstate_internal.durable_lock ADD extra integer');
CALL altered('ALTER EXTENSION tfstate DROP VIEW tfstate_tables; DROP VIEW tfstate_tables; ALTER TABLE tfstate_internal.attached_table DROP attached_by');
CALL altered('ALTER TABLE tfstate_internal.durable_lock RENAME application_name TO name');
CALL altered('ALTER EXTENSION tfstate DROP VIEW tfstate_tables; DROP VIEW tfstate_tables; ALTER TABLE tfstate_internal.attached_table ALTER keep_versions TYPE bigint');
CALL altered('ALTER EXTENSION tfstate DROP VIEW tfstate_tables; DROP VIEW tfstate_tables; ALTER TABLE tfstate_internal.attached_table ALTER keep_age TYPE interval hour');
CALL altered('ALTER TABLE tfstate_internal.attached_table ALTER name TYPE text COLLATE "C"');
CALL altered('ALTER TABLE tfstate_internal.durable_lock ALTER info DROP NOT NULL');
CALL altered('ALTER TABLE tfstate_internal.durable_lock ALTER application_name SET NOT NULL');
CALL altered('ALTER TABLE tfstate_internal.durable_lock SET UNLOGGED');
CALL altered('CREATE INDEX ON tfstate_internal.durable_lock (lower(id))');
CALL altered('CREATE INDEX ON tfstate_internal.durable_lock (id) WHERE ttl IS NULL');
CALL altered('CREATE INDEX odd ON tfstate_internal.released_lock ((1 / pid))');
CALL altered('ALTER TABLE tfstate_internal.stored_version ADD UNIQUE (fence) DEFERRABLE');
CALL altered('ALTER EXTENSION tfstate DROP TABLE tfstate_internal.durable_lock; ALTER TABLE tfstate_internal.durable_lock DROP CONSTRAINT durable_lock_pkey');
CALL altered('DROP INDEX tfstate_internal.released_lock_lockid_fence_idx; CREATE INDEX released_lock_lockid_fence_idx ON tfstate_internal.released_lock (lockid, fence DESC)');
CALL altered('DROP INDEX tfstate_internal.released_lock_lockid_fence_idx; CREATE INDEX released_lock_lockid_fence_idx ON tfstate_internal.released_lock USING hash (lockid)');
CALL altered('DROP INDEX tfstate_internal.released_lock_lockid_fence_idx; CREATE INDEX released_lock_lockid_fence_idx ON tfstate_internal.released_lock (lockid text_pattern_ops, fence)');
CALL altered('DROP INDEX tfstate_internal.released_lock_lockid_fence_idx; CREATE INDEX released_lock_lockid_fence_idx ON tfstate_internal.released_lock (lockid, fence) INCLUDE (id)');
CALL altered('DROP INDEX tfstate_internal.released_lock_lockid_fence_idx; CREATE INDEX released_lock_lockid_fence_idx ON tfstate_internal.released_lock (lockid COLLATE "POSIX", fence)');
CALL altered('ALTER TABLE tfstate_internal.durable_lock RENAME TO gone; CREATE VIEW tfstate_internal.durable_lock AS TABLE tfstate_internal.gone');
CALL altered('ALTER TABLE tfstate_internal.installation ADD extra integer');
CALL altered('ALTER SEQUENCE tfstate_internal.fence RENAME TO gone; CREATE TABLE tfstate_internal.fence (n bigint)');
-- Plain indexes made by others, and defaults of other columns, do no harm; all indexes have
-- the new rows.
BEGIN;
CREATE INDEX ON tfstate_internal.durable_lock USING gin (info);
CREATE INDEX ON tfstate_internal.released_lock USING brin (fence) WITH (pages_per_range = 1);
CREATE INDEX ON tfstate_internal.released_lock (id);
-- ours as REINDEX CONCURRENTLY leaves it: the newest
DROP INDEX tfstate_internal.released_lock_lockid_fence_idx;
CREATE INDEX released_lock_lockid_fence_idx ON tfstate_internal.released_lock (lockid, fence);
SET LOCAL enable_seqscan = off;
SELECT fence > 0 AS locked FROM tfstate_lock('altered', '{"ID":"by index"}');
SELECT lockid FROM tfstate_internal.durable_lock WHERE info @> '{"ID":"by index"}';
SELECT lockid FROM tfstate_internal.durable_lock WHERE lockid = 'altered';
SELECT tfstate_unlock('altered', 'by index') IS NOT NULL AS unlocked;
SELECT lockid FROM tfstate_internal.released_lock WHERE id = 'by index';
SELECT id FROM tfstate_internal.released_lock WHERE lockid = 'altered' AND fence > 0 ORDER BY fence DESC LIMIT 1;
ROLLBACK;
SELECT fence > 0 AS locked FROM tfstate_lock('altered', '{"ID":"1"}');
SELECT tfstate_unlock('altered', '1') IS NOT NULL AS unlocked;

DROP PROCEDURE altered;
DROP EXTENSION tfstate;
DROP PROCEDURE fails;
DROP FUNCTION masked;
