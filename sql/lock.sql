-- Locks in durable mode: lock, unlock, and the messages of a conflict.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE EXTENSION tfstate;

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

-- How many tags this session has in the lock manager, without the session tag.
CREATE VIEW tags AS
SELECT count(*) AS tags FROM pg_locks
 WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid <> 29799;

-- A lock with all defaults.
SELECT masked(id) AS id, fence > 0 AS fence FROM tfstate_lock('prod/network');
SELECT lockid, mode, masked(who) AS who, operation, masked(id) AS id, session_alive, waiters,
	   expires_at, role = current_user AS role, pid = pg_backend_pid() AS pid,
	   application_name = current_setting('application_name') AS app, age < '1 min' AS age,
	   created BETWEEN now() - interval '1 min' AND clock_timestamp() AS created
  FROM tfstate_holders;
SELECT masked(info::text) AS info, date_trunc('second', (info->>'Created')::timestamptz) = created AS created,
	   info->>'ID' = id AS id, info->>'Who' = who AS who FROM tfstate_holders;
SELECT * FROM tags;
SELECT masked(tfstate_unlock('prod/network')::text) AS released;
SELECT count(*) FROM tfstate_holders;
SELECT lockid, how, mode, masked(released_by) AS by, released_at >= created AS later FROM tfstate_history;
CALL fails($$SELECT tfstate_unlock('prod/network')$$);

-- A conflict names the holder on one line, says so if that is the session itself, and gives the
-- way out.
SELECT id, fence AS f1 FROM tfstate_lock('prod/network', '{"ID": "20c0c4fe-cecc-4368-acbd-2514cee03c88",
	"Who": "alice@laptop", "Operation": "apply", "Info": "https://ci.example/job/4711"}') \gset
CALL fails($$SELECT tfstate_lock('prod/network')$$);
-- A try returns the same in columns, also after a bounded wait.
SELECT locked, id, fence = :f1 AS fence, masked(holder::text) AS holder FROM tfstate_try_lock('prod/network');
SELECT locked, id FROM tfstate_try_lock('prod/network', wait => '10 ms');
CALL fails($$SELECT tfstate_lock('prod/network', wait => '10 ms')$$);
-- An unlimited wait for oneself could not end, and is refused at once,
SELECT locked, id FROM tfstate_try_lock('prod/network', wait => NULL);
-- in both modes.
SELECT locked, id FROM tfstate_try_lock('prod/network', mode => 'session');
SELECT locked, id FROM tfstate_try_lock('prod/network', mode => 'session', wait => NULL);
SELECT * FROM tags;

-- Unlock needs the ID of the holding.
CALL fails($$SELECT tfstate_unlock('prod/network', 'another')$$);
CALL fails($$SELECT tfstate_force_unlock('prod/network', 'another')$$);
SELECT tfstate_unlock('prod/network', '20c0c4fe-cecc-4368-acbd-2514cee03c88')->>'Who' AS released;
CALL fails($$SELECT tfstate_unlock('prod/network', '20c0c4fe-cecc-4368-acbd-2514cee03c88')$$);
CALL fails($$SELECT tfstate_force_unlock('prod/network')$$);
CALL fails($$SELECT tfstate_unlock('never held')$$);

-- From another session it needs the ID; without it the lock stays held.
SELECT fence > :f1 AS grows FROM tfstate_lock('prod/network', '{"ID": "20c0c4fe-cecc-4368-acbd-2514cee03c88",
	"Who": "alice@laptop", "Operation": "apply", "Info": "https://ci.example/job/4711"}');
SELECT pg_backend_pid() AS old_pid \gset
\c -
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET tfstate.who = 'bob';
DO $$ BEGIN LOOP
	PERFORM pg_stat_clear_snapshot();
	EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = (SELECT pid FROM tfstate_holders));
	PERFORM pg_sleep(0.01);
END LOOP; END $$;
SELECT lockid, who, session_alive, pid = :old_pid AS pid FROM tfstate_holders;
CALL fails($$SELECT tfstate_lock('prod/network')$$);
-- This is exactly the documented format.
DO $$
BEGIN
	PERFORM tfstate_lock('prod/network');
EXCEPTION WHEN lock_not_available THEN
	RAISE INFO '%', sqlerrm ~ ('^state lock "prod/network" is held by alice@laptop: apply since '
		'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00 \(ID 20c0c4fe-cecc-4368-acbd-2514cee03c88, '
		'info "https://ci\.example/job/4711"\)$');
END;
$$;
CALL fails($$SELECT tfstate_unlock('prod/network')$$);
CALL fails($$SELECT tfstate_unlock('prod/network', '2')$$);
SELECT count(*) FROM tfstate_holders;
SELECT tfstate_unlock('prod/network', '20c0c4fe-cecc-4368-acbd-2514cee03c88')->>'Who' AS released;
-- The history says who released: tfstate.who is what the session says of itself.
SELECT who, how, masked(replace(released_by, current_user, '<user>')) AS by, reason
  FROM tfstate_history ORDER BY fence DESC LIMIT 1;

-- Force-unlock needs no ID and keeps the reason.
SELECT id FROM tfstate_lock('forced', '{"ID": "1", "Who": "alice"}');
SELECT tfstate_force_unlock('forced', '1', 'she is on holiday')->>'Who' AS released;
SELECT id FROM tfstate_lock('forced', '{"ID": "2"}');
SELECT tfstate_force_unlock('forced', reason => 'again')->>'ID' AS released;
SELECT lockid, who, id, how, reason FROM tfstate_history WHERE lockid = 'forced' ORDER BY fence;

-- Info: given keys are kept, null counts as missing, unknown keys are kept.
SET tfstate.operation = 'plan';
SET tfstate.info = '{"Version": "1.11.4", "Info": "from the setting", "ticket": 42, "Who": "ignored"}';
SELECT id FROM tfstate_lock('info/1', '{"ID": null, "Who": null, "Created": null, "Path": null, "Operation": null}') \gset
SELECT masked(info::text) AS info FROM tfstate_holders('info/1');
SELECT id FROM tfstate_lock('info/2', '{"ID": "mine", "Who": "me", "Created": "yesterday", "Path": "elsewhere",
	"Operation": "apply", "Version": "0", "Info": "given", "ticket": {"a": [1, null]}, "x": null, "é": "ü"}');
SELECT info FROM tfstate_holders('info/2');
SELECT who, operation, id, lockid FROM tfstate_holders('info/2');
RESET tfstate.info;
RESET tfstate.operation;
RESET tfstate.who;
SELECT id FROM tfstate_lock('info/3', '{"Info": "", "Version": ""}') \gset
SELECT masked(info::text) AS info FROM tfstate_holders('info/3');
SELECT count(tfstate_unlock(lockid, id)) FROM tfstate_holders;

-- Fences grow with every lock, over all modes and rollbacks.
CREATE TABLE fences (n serial, fence bigint);
INSERT INTO fences (fence) SELECT fence FROM tfstate_lock('fence', '{"ID": "1"}');
SELECT tfstate_unlock('fence') IS NOT NULL AS released;
INSERT INTO fences (fence) SELECT fence FROM tfstate_lock('fence', mode => 'session');
SELECT tfstate_unlock('fence') IS NOT NULL AS released;
INSERT INTO fences (fence) SELECT fence FROM tfstate_lock('fence', ttl => '1 hour');
BEGIN;
SELECT tfstate_force_unlock('fence') IS NOT NULL AS released;
SELECT fence AS lost FROM tfstate_lock('fence') \gset
ROLLBACK;
SELECT tfstate_force_unlock('fence') IS NOT NULL AS released;
INSERT INTO fences (fence) VALUES (:lost);
INSERT INTO fences (fence) SELECT fence FROM tfstate_try_lock('fence');
SELECT bool_and(fence > before) AS grow, count(*) FROM (SELECT fence, lag(fence, 1, 0::bigint) OVER (ORDER BY n) AS before FROM fences) f;
SELECT tfstate_unlock('fence') IS NOT NULL AS released;
DROP TABLE fences;

-- Odd lockids: each is a lock of its own, and the message stays on one line.
CREATE TABLE odd (n serial, lockid text);
INSERT INTO odd (lockid) VALUES ('a'), ('A'), (' a'), ('a '), ('a''b"c\d'), (E'new\nline\ttab\rreturn\x7f'),
	('über/straße/日本語'), ('%s%n$1'), ('*'), ('a*'), (repeat('x', 1024)), (repeat('x', 1023)), (repeat('é', 512));
SELECT count(fence) FROM odd, tfstate_lock(lockid, jsonb_build_object('ID', 'id ' || n, 'Who', 'me'));
SELECT count(*) AS held, count(*) FILTER (WHERE h.lockid = o.lockid) AS same
  FROM tfstate_holders h JOIN odd o ON h.id = 'id ' || n;
SELECT n, locked, id FROM odd, tfstate_try_lock(lockid) ORDER BY n;
DO $$
DECLARE
	o record;
	hint text;
BEGIN
	FOR o IN SELECT * FROM odd ORDER BY n LOOP
		BEGIN
			PERFORM tfstate_lock(o.lockid);
		EXCEPTION WHEN lock_not_available THEN
			GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
			RAISE INFO '%', replace(replace(masked(sqlerrm), repeat('x', 1023), '<xs>'), repeat('é', 512), '<és>');
			IF sqlerrm ~ '[\x01-\x1f\x7f]' THEN
				RAISE INFO 'not on one line';
			END IF;
			-- The call in the hint works unchanged.
			EXECUTE substring(hint from 'SELECT tfstate_force_unlock.*$');
		END;
	END LOOP;
END;
$$;
SELECT count(*) FROM tfstate_holders;
SELECT count(*) FROM tfstate_history h JOIN odd o ON h.lockid = o.lockid AND h.how = 'force';
DROP TABLE odd;

-- Odd texts of the holder stay on one line, too, and are cut.
SELECT id FROM tfstate_lock('odd', jsonb_build_object('ID', E'i\nd''"', 'Who', E'mallory\nFATAL:  boo',
	'Operation', E'\t\x1b[31mred', 'Info', repeat('é', 300))) \gset
CALL fails($$SELECT tfstate_lock('odd')$$);
SELECT tfstate_unlock('odd', E'i\nd''"') IS NOT NULL AS released;
-- Empty texts are left out.
SELECT id FROM tfstate_lock('odd', '{"ID": "1", "Who": "me", "Operation": "", "Info": ""}');
CALL fails($$SELECT tfstate_lock('odd')$$);
SELECT tfstate_unlock('odd', '1') IS NOT NULL AS released;
-- The longest ID and almost the largest info
SELECT length(id) AS id FROM tfstate_lock('odd', jsonb_build_object('ID', repeat('i', 256), 'x', repeat('x', 7800)));
SELECT tfstate_unlock('odd', repeat('i', 256)) IS NOT NULL AS released;

-- Several locks in one transaction: all or none.
BEGIN;
SELECT n, id FROM generate_series(1, 3) n, tfstate_lock('many/' || n, '{"ID": "m"}');
SELECT lockid FROM tfstate_holders ORDER BY lockid;
SELECT * FROM tags;
COMMIT;
SELECT lockid FROM tfstate_holders ORDER BY lockid;
SELECT * FROM tags;
BEGIN;
SELECT id FROM tfstate_lock('many/0', '{"ID": "m"}');
\set VERBOSITY sqlstate
SELECT id FROM tfstate_lock('many/2');
\set VERBOSITY default
ROLLBACK;
SELECT lockid FROM tfstate_holders ORDER BY lockid;
SELECT * FROM tags;
-- One statement succeeds or fails as a whole.
CALL fails($$SELECT tfstate_lock('many/' || n) FROM generate_series(0, 3) n$$);
SELECT lockid FROM tfstate_holders ORDER BY lockid;
SELECT count(tfstate_unlock('many/' || n, 'm')) FROM generate_series(1, 3) n;

-- CALL tfstate_wait_lock returns the same, and raises the same.
CALL tfstate_wait_lock('waited', '{"ID": "w", "Who": "me"}', fence => NULL) \gset called_
SELECT :'called_id' AS id, fence = :called_fence AS fence FROM tfstate_holders('waited');
\set VERBOSITY sqlstate
CALL tfstate_wait_lock('waited', wait => '0');
\set VERBOSITY default
SELECT tfstate_unlock('waited')->>'ID' AS released;
SELECT * FROM tags;
SELECT count(*) FROM tfstate_holders;

-- A session first looks where it last wrote a row, whatever is there now.
SELECT id FROM tfstate_lock('place', '{"ID": "p1"}');
SELECT id FROM tfstate_lock('place/2', '{"ID": "p2"}');
SELECT tfstate_unlock('place', 'p1')->>'ID' AS released;
SELECT tfstate_unlock('place/2', 'p2')->>'ID' AS released;
VACUUM tfstate_internal.durable_lock;
CALL fails($$SELECT tfstate_unlock('place/2', 'p2')$$);
SELECT id FROM tfstate_lock('place', '{"ID": "p3"}');
VACUUM FULL tfstate_internal.durable_lock;
SELECT tfstate_unlock('place', 'p3')->>'ID' AS released;
SELECT count(*) FROM tfstate_holders;

-- A durable lock is flushed, whatever synchronous_commit says, which stays as it is.
SET synchronous_commit = off;
SELECT id FROM tfstate_lock('flushed', '{"ID": "f1"}');
SELECT tfstate_unlock('flushed', 'f1')->>'ID' AS released;
SHOW synchronous_commit;
RESET synchronous_commit;

-- Generated IDs are random UUIDs, all different.
SELECT count(DISTINCT (l).id) AS ids,
	   bool_and((l).id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$') AS version_4
  FROM (SELECT tfstate_lock('id/' || i) AS l FROM generate_series(1, 50) AS i OFFSET 0) AS locks;

-- However many workspaces a session has locked, each further lock checks some of them.
DO $$ BEGIN PERFORM tfstate_attach('tf_many'); END $$;
SET tfstate.guard = off;
INSERT INTO tf_many.states (name, data)
SELECT 'w' || i, '{"version": 4, "serial": 1, "lineage": "l", "resources": []}' FROM generate_series(1, 100) i;
RESET tfstate.guard;
SELECT count(tfstate_lock('tf_many.states/w' || i)) FROM generate_series(1, 100) i;
BEGIN;
SELECT pg_stat_get_xact_numscans('tfstate_internal.durable_lock_pkey'::regclass) AS before \gset
SELECT fence > 0 AS locked FROM tfstate_lock('another');
SELECT pg_stat_get_xact_numscans('tfstate_internal.durable_lock_pkey'::regclass) - :before BETWEEN 1 AND 40 AS bounded;
COMMIT;
SELECT count(tfstate_unlock(lockid)) FROM tfstate_holders;
SELECT * FROM tags;
DROP SCHEMA tf_many CASCADE;
DROP SEQUENCE public.global_states_id_seq;

-- Each lockid has a lock tag of its own, also in a session that goes from one to the other and
-- back, and another one when the extension was created again.
CREATE FUNCTION tag_of(lockid text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	tag text;
BEGIN
	PERFORM tfstate_lock(lockid);
	SELECT classid || ' ' || objid INTO STRICT tag FROM pg_locks
	 WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid = x'7466'::integer;
	RAISE EXCEPTION USING MESSAGE = tag, ERRCODE = 'TAG00';
EXCEPTION WHEN SQLSTATE 'TAG00' THEN
	RETURN SQLERRM;
END;
$$;
SELECT tag_of('one') AS one, tag_of('one/more') AS more, tag_of('one') AS again \gset
SELECT :'one' = :'again' AS same, :'one' = :'more' AS other;
SET client_min_messages = warning;
DROP EXTENSION tfstate CASCADE;
CREATE EXTENSION tfstate;
RESET client_min_messages;
SELECT tag_of('one') = :'again' AS same;
DROP FUNCTION tag_of;

DROP EXTENSION tfstate CASCADE;
DROP VIEW tags;
DROP PROCEDURE fails;
DROP FUNCTION masked;
