-- Guarded writes: what the triggers of an attached table refuse.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE EXTENSION tfstate;
SET tfstate.who = 'me';

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

-- A small state
CREATE FUNCTION state(serial bigint, lineage text DEFAULT 'a', content text DEFAULT 'x') RETURNS text LANGUAGE sql
RETURN format('{"version": 4, "serial": %s, "lineage": %s, "outputs": {"o": {"value": %s}}, "resources": [{"instances": [{}]}]}',
			  serial, to_json(lineage), to_json(content));
-- The row and its newest version
CREATE FUNCTION now_in(workspace text) RETURNS TABLE (serial bigint, version bigint, operation text, lock_id text) LANGUAGE sql AS $$
SELECT s.serial, v.number, v.operation, v.lock_id
  FROM tfstate_versions(workspace) v
  LEFT JOIN tfstate_states(workspace) s ON true
 ORDER BY v.number DESC LIMIT 1
$$;
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'states', guard => 'on');
INSERT INTO tf.states (name, data) VALUES ('a', state(1)), ('b', state(1));

--
-- The text
--

-- It must be a JSON object with an integer serial and a lineage.
CREATE PROCEDURE writes(texts text[]) LANGUAGE plpgsql AS $$
DECLARE
	t text;
BEGIN
	FOREACH t IN ARRAY texts LOOP
		RAISE INFO '> %', left(t, 90);
		CALL fails(format('UPDATE tf.states SET data = %L WHERE name = ''a''', t));
	END LOOP;
END;
$$;
CALL writes(ARRAY['', ' ', 'x', '[]', '[{"serial": 2, "lineage": "a"}]', '"serial"', 'null', '7', '{', '{}',
	'{"serial": 2, "lineage": "a"', '{"serial": 2, "lineage": "a"} {}', '{"serial": 2, "lineage": "a",}']);
CALL writes(ARRAY['{"serial": 2}', '{"lineage": "a"}', '{"serial": "2", "lineage": "a"}', '{"serial": -2, "lineage": "a"}',
	'{"serial": 2.5, "lineage": "a"}', '{"serial": 2e1, "lineage": "a"}', '{"serial": null, "lineage": "a"}',
	'{"serial": [2], "lineage": "a"}', '{"serial": 2, "lineage": null}', '{"serial": 2, "lineage": 7}',
	'{"serial": 2, "lineage": {"lineage": "a"}}', '{"state": {"serial": 2, "lineage": "a"}}',
	'{"serial": 9223372036854775808, "lineage": "a"}', '{"serial": 99999999999999999999999999, "lineage": "a"}']);
CALL fails($$UPDATE tf.states SET data = NULL WHERE name = 'a'$$);
CALL fails($$INSERT INTO tf.states (name) VALUES ('c')$$);
CALL fails($$INSERT INTO tf.states (name, data) VALUES ('c', '{}')$$);
-- A character that the server cannot store does no harm where nothing reads it.
CALL writes(ARRAY['{"serial": 2, "lineage": "a\u0000"}', '{"serial": 2, "lineage": "\ud800"}']);
UPDATE tf.states SET data = '{"serial": 2, "lineage": "a", "outputs": {"\u0000": {"value": "\u0000 \ud800"}}}' WHERE name = 'a';
-- Nesting has a limit.
CALL fails($$UPDATE tf.states SET data = '{"serial": 3, "lineage": "a", "x": ' || repeat('[', 1000000) || repeat(']', 1000000) || '}' WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET data = '{"serial": 3, "lineage": "a", "x": ' || repeat('[', 1000) || repeat(']', 1000) || '}' WHERE name = 'a'$$);
UPDATE tf.states SET data = '{"serial": 3, "lineage": "a", "x": ' || repeat('[', 999) || repeat(']', 999) || '}' WHERE name = 'a';
SELECT * FROM now_in('tf.states/a');

--
-- Serial and lineage
--

-- The serial grows, by one or by more.
UPDATE tf.states SET data = state(4) WHERE name = 'a';
UPDATE tf.states SET data = state(70) WHERE name = 'a';
CALL fails($$UPDATE tf.states SET data = state(70, content => 'y') WHERE name = 'a'$$);
SELECT * FROM now_in('tf.states/a');
-- After a refusal the session has to lock the workspace before it may write another state, because
-- Terraform raises the serial with each attempt.
CALL fails($$UPDATE tf.states SET data = state(71, content => 'y') WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET data = state(72, content => 'y') WHERE name = 'a'$$);
CALL fails($$INSERT INTO tf.states (name, data) VALUES ('a', state(73)) ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data$$);
UPDATE tf.states SET data = state(2) WHERE name = 'b';
SELECT id FROM tfstate_lock('tf.states/a', '{"ID": "1"}');
UPDATE tf.states SET data = state(71, content => 'y') WHERE name = 'a';
SELECT tfstate_unlock('tf.states/a') ->> 'ID' AS unlocked;
UPDATE tf.states SET data = state(72) WHERE name = 'a';
-- With the lock it may try again as often as it likes.
SELECT id FROM tfstate_lock('tf.states/a', '{"ID": "1"}');
CALL fails($$UPDATE tf.states SET data = state(71) WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET data = state(0) WHERE name = 'a'$$);
UPDATE tf.states SET data = state(73) WHERE name = 'a';
SELECT tfstate_unlock('tf.states/a') ->> 'ID' AS unlocked;

-- The same text again is not a change: no error, and no version.
SELECT version AS before FROM now_in('tf.states/a') \gset
UPDATE tf.states SET data = data;
UPDATE tf.states SET data = state(73) WHERE name = 'a';
SELECT version = :before AS same FROM now_in('tf.states/a');

-- The lineage stays the same.
CALL fails($$UPDATE tf.states SET data = state(74, 'b') WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET data = state(74, 'A') WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET data = state(74, repeat('x', 1000)) WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET data = state(74, E'a\nERROR: all is well') WHERE name = 'a'$$);
-- An empty lineage fits any, as it does for Terraform.
INSERT INTO tf.states (name, data) VALUES ('l', state(1, 'a'));
UPDATE tf.states SET data = state(2, '') WHERE name = 'l';
UPDATE tf.states SET data = state(3, 'b') WHERE name = 'l';
CALL fails($$UPDATE tf.states SET data = state(3, '') WHERE name = 'l'$$);
SELECT number, serial, lineage FROM tfstate_versions('tf.states/l') ORDER BY number;
DELETE FROM tf.states WHERE name = 'l';
-- The decoded text counts, however it is escaped.
UPDATE tf.states SET data = '{"serial": 74, "lineage": "\u0061", "outputs": {"o": {}}}' WHERE name = 'a';

-- The first state of a workspace can have any serial, including 0 and the greatest one.
INSERT INTO tf.states (name, data) VALUES ('s0', state(0)), ('s9', state(9223372036854775807));
UPDATE tf.states SET data = state(1) WHERE name = 's0';
CALL fails($$UPDATE tf.states SET data = state(9223372036854775807, content => 'y') WHERE name = 's9'$$);
CALL fails($$SELECT tfstate_rollback('tf.states/s9', 1)$$);
DELETE FROM tf.states WHERE name IN ('s0', 's9');

-- An empty state can be replaced by one of another lineage, and at serial 0 by any.
CREATE FUNCTION empty(serial bigint, lineage text) RETURNS text LANGUAGE sql
RETURN format('{"version": 4, "terraform_version": "1.0.0", "serial": %s, "lineage": "%s", "outputs": {}, "resources": [], "check_results": null}', serial, lineage);
INSERT INTO tf.states (name, data) VALUES ('e', empty(0, 'a'));
UPDATE tf.states SET data = empty(0, 'b') WHERE name = 'e';
UPDATE tf.states SET data = empty(0, 'b') || ' ' WHERE name = 'e';
UPDATE tf.states SET data = empty(1, 'c') WHERE name = 'e';
CALL fails($$UPDATE tf.states SET data = empty(1, 'c') || ' ' WHERE name = 'e'$$);
SELECT id FROM tfstate_lock('tf.states/e', '{"ID": "1"}');
UPDATE tf.states SET data = state(1, 'd') WHERE name = 'e';
SELECT tfstate_unlock('tf.states/e') ->> 'ID' AS unlocked;
-- A state with an output is not empty, nor is one with a resource, or an encrypted one.
CALL fails($$UPDATE tf.states SET data = empty(2, 'e') WHERE name = 'e'$$);
UPDATE tf.states SET data = '{"serial": 2, "lineage": "d", "resources": [{"instances": [{}, {}]}]}' WHERE name = 'e';
CALL fails($$UPDATE tf.states SET data = empty(3, 'e') WHERE name = 'e'$$);
UPDATE tf.states SET data = '{"serial": 3, "lineage": "d", "encrypted_data": "eHh4", "encryption_version": "v0"}' WHERE name = 'e';
CALL fails($$UPDATE tf.states SET data = empty(4, 'e') WHERE name = 'e'$$);
-- Nor is one of a Terraform before 0.12, which keeps resources in modules.
UPDATE tf.states SET data = '{"version": 3, "serial": 4, "lineage": "d", "modules": [{"path": ["root"], "outputs": {}, "resources": {"t.n": {}}}]}' WHERE name = 'e';
CALL fails($$UPDATE tf.states SET data = empty(5, 'e') WHERE name = 'e'$$);
SELECT serial, resources FROM tfstate_versions('tf.states/e') ORDER BY number;
DELETE FROM tf.states WHERE name = 'e';

-- Of two equal keys the last one counts, as it does for Terraform.
UPDATE tf.states SET data = '{"serial": 1, "serial": 75, "lineage": "b", "lineage": "a", "outputs": {"o": {}}}' WHERE name = 'a';
SELECT serial FROM tfstate_states('tf.states/a');

-- Serial and lineage may stand anywhere in a text of any length.
CREATE FUNCTION long_state(serial bigint, before integer, after integer DEFAULT 5000) RETURNS text LANGUAGE sql
RETURN format('{"outputs": {"o": {"value": "%s"}}, "serial": %s, "lineage": "a", "terraform_version": "1", "x": "%s"}',
			  repeat('x', before), serial, repeat('y', after));
DO $$
DECLARE
	s bigint := 100;
	before integer;
BEGIN
	-- across the end of the part that is read first, at each byte
	FOR before IN 3950..4100 LOOP
		UPDATE tf.states SET data = long_state(s, before) WHERE name = 'a';
		ASSERT (SELECT serial FROM tfstate_states('tf.states/a')) = s;
		BEGIN
			UPDATE tf.states SET data = long_state(s, before, 5001) WHERE name = 'a';
			ASSERT false, before;
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
			ASSERT sqlerrm LIKE format('%%has serial %s, but serial %s was written%%', s, s), sqlerrm;
		END;
		PERFORM tfstate_lock('tf.states/a');
		UPDATE tf.states SET data = long_state(s + 1, before, 0) WHERE name = 'a';
		PERFORM tfstate_unlock('tf.states/a');
		s := s + 10;
	END LOOP;
	-- at the end of a long text that is compressed or stored out of line
	FOR i IN 1..3 LOOP
		UPDATE tf.states SET data = long_state(s, 1000000) WHERE name = 'a';
		s := s + 1;
	END LOOP;
	ALTER TABLE tf.states ALTER COLUMN data SET STORAGE EXTERNAL;
	FOR i IN 1..3 LOOP
		UPDATE tf.states SET data = long_state(s, 1000000) WHERE name = 'a';
		s := s + 1;
	END LOOP;
END;
$$;
SELECT serial, size, lineage, terraform_version FROM tfstate_states('tf.states/a');

--
-- Locks
--

-- What another session has locked cannot be written, deleted or renamed.
SELECT id FROM tfstate_lock('tf.states/a', '{"ID": "1", "Who": "alice@laptop", "Operation": "apply", "Info": "https://ci.example/job/4711"}');
SELECT pg_advisory_unlock_all();
CALL fails($$UPDATE tf.states SET data = state(10000) WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET data = data WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET id = -1 WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET name = 'c' WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET name = NULL WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET name = 'a' WHERE name = 'b'$$);
CALL fails($$INSERT INTO tf.states (name, data) VALUES ('a', state(10000)) ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data WHERE states.name = 'a'$$);
CALL fails($$DELETE FROM tf.states WHERE name = 'a'$$);
CALL fails($$DELETE FROM tf.states$$);
CALL fails($$TRUNCATE tf.states$$);
CALL fails($$MERGE INTO tf.states USING (VALUES (1)) v ON name = 'a' WHEN MATCHED THEN UPDATE SET data = state(10000)$$);
CALL fails($$MERGE INTO tf.states USING (VALUES (1)) v ON name = 'a' WHEN MATCHED THEN DELETE$$);
\set VERBOSITY sqlstate
BEGIN;
DECLARE c CURSOR FOR SELECT name FROM tf.states WHERE name = 'a' FOR UPDATE;
FETCH c;
DELETE FROM tf.states WHERE CURRENT OF c;
ROLLBACK;
-- Nor can a workspace be created whose name is locked.
SELECT id FROM tfstate_lock('tf.states/c', '{"ID": "c"}');
SELECT pg_advisory_unlock_all();
INSERT INTO tf.states (name, data) VALUES ('c', state(1));
COPY tf.states (name, data) FROM stdin WITH (DELIMITER '|');
c|{"serial": 1, "lineage": "a"}
\.
UPDATE tf.states SET name = 'c' WHERE name = 'b';
\set VERBOSITY default
SELECT tfstate_unlock('tf.states/c', 'c') ->> 'ID' AS unlocked;
-- Other workspaces are not affected, and the refusals leave nothing behind.
UPDATE tf.states SET data = state(3) WHERE name = 'b';
SELECT workspace, serial FROM tfstate_workspaces ORDER BY 1;
SELECT count(*) FROM tfstate_verify(versions => true);
SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();

-- In durable mode the session that took the lock may write ...
SELECT tfstate_unlock('tf.states/a', '1') ->> 'ID' AS unlocked;
SELECT id FROM tfstate_lock('tf.states/a', '{"ID": "2", "Who": "alice@laptop"}');
UPDATE tf.states SET data = state(10001) WHERE name = 'a';
SELECT * FROM now_in('tf.states/a');
-- ... and so may a session that shows its fence.
SELECT pg_advisory_unlock_all();
SELECT fence, fence - 1 AS stale, fence + 1 AS future FROM tfstate_holders('tf.states/a') \gset
SET tfstate.fence = :stale;
CALL fails($$UPDATE tf.states SET data = state(10002) WHERE name = 'a'$$);
SET tfstate.fence = :future;
CALL fails($$UPDATE tf.states SET data = state(10002) WHERE name = 'a'$$);
SET tfstate.fence = :fence;
UPDATE tf.states SET data = state(10002) WHERE name = 'a';
SELECT * FROM now_in('tf.states/a');
-- A fence counts for its own lock, and not for another workspace.
CALL fails($$UPDATE tf.states SET data = state(4) WHERE name = 'b'$$);
CALL fails($$DELETE FROM tf.states WHERE name = 'b'$$);
RESET tfstate.fence;
CALL fails($$UPDATE tf.states SET data = state(10003) WHERE name = 'a'$$);
-- The right to write ends with the lock.
SELECT tfstate_force_unlock('tf.states/a') ->> 'ID' AS released;
SET tfstate.fence = :fence;
CALL fails($$UPDATE tf.states SET data = state(10003) WHERE name = 'a'$$);
RESET tfstate.fence;
-- A run may write in any session.
SET tfstate.run_id = '00000000-0000-4000-8000-000000000001';
SELECT id FROM tfstate_lock('tf.states/a', '{"ID": "3"}');
SELECT pg_advisory_unlock_all();
UPDATE tf.states SET data = state(10003) WHERE name = 'a';
SET tfstate.run_id = '00000000-0000-4000-8000-000000000002';
CALL fails($$UPDATE tf.states SET data = state(10004) WHERE name = 'a'$$);
-- The case of its letters does not matter, and the application_name may name it, too.
SET tfstate.run_id = 'ABCDEFAB-0000-4000-8000-00000000000C';
CALL fails($$UPDATE tf.states SET data = state(10004) WHERE name = 'a'$$);
SELECT tfstate_unlock('tf.states/a', '3') ->> 'ID' AS unlocked;
SELECT id FROM tfstate_lock('tf.states/a', '{"ID": "4"}');
SELECT pg_advisory_unlock_all();
RESET tfstate.run_id;
SELECT current_setting('application_name') AS name \gset
CALL fails($$UPDATE tf.states SET data = state(10004) WHERE name = 'a'$$);
SET application_name = 'abcdefab-0000-4000-8000-00000000000c';
CALL fails($$UPDATE tf.states SET data = state(10004) WHERE name = 'a'$$);
SET application_name = 'tfstate-run:00000000-0000-4000-8000-000000000001';
CALL fails($$UPDATE tf.states SET data = state(10004) WHERE name = 'a'$$);
SET application_name = 'tfstate-run:abcdefab-0000-4000-8000-00000000000C';
UPDATE tf.states SET data = state(10004) WHERE name = 'a';
-- The setting overrides the application_name.
SET tfstate.run_id = '00000000-0000-4000-8000-000000000001';
CALL fails($$UPDATE tf.states SET data = state(10005) WHERE name = 'a'$$);
RESET tfstate.run_id;
-- A name that was cut or extended is not a run's name.
SET application_name = 'tfstate-run:abcdefab-0000-4000-8000-00000000000c - 10.1.2.3:5432';
CALL fails($$UPDATE tf.states SET data = state(10005) WHERE name = 'a'$$);
SET application_name = :'name';
-- The session that took a lock for one run does not hold it for another one, or for none.
SET tfstate.run_id = '00000000-0000-4000-8000-000000000001';
SELECT tfstate_unlock('tf.states/a', '4') ->> 'ID' AS unlocked;
SELECT id FROM tfstate_lock('tf.states/a', '{"ID": "4b"}', 'session');
SET tfstate.run_id = '00000000-0000-4000-8000-000000000002';
CALL fails($$UPDATE tf.states SET data = state(10005) WHERE name = 'a'$$);
RESET tfstate.run_id;
CALL fails($$UPDATE tf.states SET data = state(10005) WHERE name = 'a'$$);
CALL fails($$SELECT tfstate_unlock('tf.states/a')$$);
SET tfstate.run_id = '00000000-0000-4000-8000-000000000001';
UPDATE tf.states SET data = state(10005) WHERE name = 'a';
SELECT tfstate_unlock('tf.states/a') ->> 'ID' AS unlocked;
RESET tfstate.run_id;
-- Nor does a lock without a name belong to a run with one.
SELECT id FROM tfstate_lock('tf.states/a', '{"ID": "4c"}');
SET tfstate.run_id = '00000000-0000-4000-8000-000000000001';
CALL fails($$UPDATE tf.states SET data = state(10006) WHERE name = 'a'$$);
CALL fails($$SELECT tfstate_unlock('tf.states/a')$$);
RESET tfstate.run_id;
SELECT tfstate_unlock('tf.states/a') ->> 'ID' AS unlocked;

-- In session mode the lock belongs to the session alone.
SELECT id FROM tfstate_lock('tf.states/a', '{"ID": "5"}', 'session');
UPDATE tf.states SET data = state(10006) WHERE name = 'a';
SELECT * FROM now_in('tf.states/a');
SELECT tfstate_unlock('tf.states/a') ->> 'ID' AS unlocked;
-- A lock left by a dead session does not prevent writes.
SELECT id, fence AS gone FROM tfstate_lock('tf.states/a', '{"ID": "6"}', 'session') \gset
SELECT pg_advisory_unlock_all();
UPDATE tf.states SET data = state(10007) WHERE name = 'a';
SELECT * FROM now_in('tf.states/a');
SET tfstate.fence = :gone;
CALL fails($$UPDATE tf.states SET data = state(10008) WHERE name = 'a'$$);
RESET tfstate.fence;

-- A lease protects until it expires; then its holder writes like any other session.
SELECT id FROM tfstate_lock('tf.states/default', '{"ID": "7"}', ttl => '1 h');
SELECT pg_advisory_unlock_all();
CALL fails($$UPDATE tf.states SET data = state(1) WHERE name = 'default'$$);
SELECT tfstate_unlock('tf.states/default', '7') ->> 'ID' AS unlocked;
SELECT fence AS lease FROM tfstate_lock('tf.states/b', '{"ID": "8"}', ttl => '1 h') \gset
UPDATE tf.states SET data = state(4) WHERE name = 'b';
SELECT * FROM now_in('tf.states/b');
SELECT tfstate_renew('tf.states/b', '8', '1 ms') IS NOT NULL AS renewed;
SELECT pg_sleep(0.01);
UPDATE tf.states SET data = state(5) WHERE name = 'b';
SELECT * FROM now_in('tf.states/b');
SET tfstate.fence = :lease;
CALL fails($$UPDATE tf.states SET data = state(6) WHERE name = 'b'$$);
RESET tfstate.fence;

-- A lock that is taken in the same transaction, and one that is rolled back.
BEGIN;
SELECT id FROM tfstate_lock('tf.states/b', '{"ID": "9"}');
UPDATE tf.states SET data = state(6) WHERE name = 'b';
SELECT tfstate_unlock('tf.states/b') ->> 'ID' AS unlocked;
UPDATE tf.states SET data = state(7) WHERE name = 'b';
COMMIT;
SELECT number, serial, lock_id FROM tfstate_versions('tf.states/b') ORDER BY number DESC LIMIT 2;
BEGIN;
SAVEPOINT s;
SELECT id FROM tfstate_lock('tf.states/b', '{"ID": "10"}', 'session');
UPDATE tf.states SET data = state(8) WHERE name = 'b';
ROLLBACK TO s;
SELECT * FROM now_in('tf.states/b');
UPDATE tf.states SET data = state(9) WHERE name = 'b';
SAVEPOINT s;
UPDATE tf.states SET data = state(10) WHERE name = 'b';
ROLLBACK TO s;
UPDATE tf.states SET data = state(11) WHERE name = 'b';
COMMIT;
SELECT number, serial, lock_id FROM tfstate_versions('tf.states/b') ORDER BY number DESC LIMIT 3;
SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();

-- A write can be prepared; until its end no other session can write or lock the workspace.
INSERT INTO tf.states (name, data) VALUES ('p', state(1));
BEGIN;
UPDATE tf.states SET data = state(2) WHERE name = 'p';
PREPARE TRANSACTION 'regress_tfstate';
CALL fails($$SELECT tfstate_lock('tf.states/p')$$);
COMMIT PREPARED 'regress_tfstate';
SELECT * FROM now_in('tf.states/p');
BEGIN;
UPDATE tf.states SET data = state(3) WHERE name = 'p';
PREPARE TRANSACTION 'regress_tfstate';
ROLLBACK PREPARED 'regress_tfstate';
SELECT * FROM now_in('tf.states/p');
-- Under a session lock it cannot be prepared: the lock could be released before its end.
SELECT fence IS NOT NULL AS locked FROM tfstate_lock('tf.states/p', '{"ID": "1"}', 'session');
BEGIN;
UPDATE tf.states SET data = state(3) WHERE name = 'p';
PREPARE TRANSACTION 'regress_tfstate';
-- Nor does pg_advisory_unlock_all() give the lock away before the commit.
BEGIN;
UPDATE tf.states SET data = state(3) WHERE name = 'p';
SELECT pg_advisory_unlock_all();
SELECT count(*) AS kept FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 29798 AND pid = pg_backend_pid();
ROLLBACK;
UPDATE tf.states SET data = state(3) WHERE name = 'p';
DELETE FROM tf.states WHERE name = 'p';

--
-- The order of Terraform's statements
--

-- workspace delete: the lock is released just before the DELETE, which still passes in this session ...
SET search_path = tfstate_pg, pg_catalog, public;
INSERT INTO tf.states (name, data) VALUES ('d', state(1));
SET tfstate.guard = require;
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
SELECT pg_try_advisory_lock(id), pg_try_advisory_lock(-1) FROM tf.states WHERE name = 'd';
SELECT pg_advisory_unlock(-1);
SELECT pg_advisory_unlock(id) FROM tf.states WHERE name = 'd';
DELETE FROM tf.states WHERE name = 'd';
SELECT number, operation, serial, lock_id FROM tfstate_versions('tf.states/d') ORDER BY number;
-- ... unless another session has locked and written in between.
SET tfstate.guard = on;
INSERT INTO tf.states (name, data) VALUES ('d', state(1));
SELECT pg_try_advisory_lock(id) FROM tf.states WHERE name = 'd';
SELECT pg_advisory_unlock(id) FROM tf.states WHERE name = 'd';
SELECT id FROM tfstate_lock('tf.states/d', '{"ID": "11"}');
SET tfstate.who = 'bob@laptop';
UPDATE tf.states SET data = state(2) WHERE name = 'd';
SET tfstate.who = 'me';
SELECT tfstate_unlock('tf.states/d') ->> 'ID' AS unlocked;
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
SELECT pg_try_advisory_lock(id) FROM tf.states WHERE name = 'd';
SELECT pg_advisory_unlock(id) FROM tf.states WHERE name = 'd';
DELETE FROM tf.states WHERE name = 'd';

-- workspace new with guard = require: the creation key is exchanged for the lock.
SET tfstate.guard = require;
SELECT pg_try_advisory_lock(-1);
INSERT INTO tf.states (name, data) VALUES ('n', empty(0, 'n'));
SELECT lockid FROM tfstate_holders;
UPDATE tf.states SET data = state(1, 'n') WHERE name = 'n';
SELECT pg_advisory_unlock(-1);
CALL fails($$UPDATE tf.states SET data = state(2, 'n') WHERE name = 'n'$$);
SELECT number, serial, fence IS NOT NULL AS locked FROM tfstate_versions('tf.states/n') ORDER BY number;
-- A lock taken by hand on a name without a workspace prevents its creation, and gives its reason.
SELECT id FROM tfstate_lock('tf.states/frozen', '{"ID": "12", "Info": "frozen for the audit"}');
SELECT pg_try_advisory_lock(-1);
CALL fails($$INSERT INTO tf.states (name, data) VALUES ('frozen', empty(0, 'f'))$$);
SELECT pg_advisory_unlock(-1);
SELECT tfstate_unlock('tf.states/frozen', '12') ->> 'ID' AS unlocked;
RESET search_path;

-- A Terraform without tfstate holds the built-in lock of the row, which is enough.
SELECT pg_try_advisory_lock(id) FROM tf.states WHERE name = 'n';
UPDATE tf.states SET data = state(2, 'n') WHERE name = 'n';
SELECT pg_advisory_unlock(id) FROM tf.states WHERE name = 'n';
CALL fails($$UPDATE tf.states SET data = state(3, 'n') WHERE name = 'n'$$);
RESET tfstate.guard;

--
-- tfstate.guard
--

-- require: neither writes nor deletions without the lock.
SET tfstate.guard = require;
CALL fails($$UPDATE tf.states SET data = state(14) WHERE name = 'b'$$);
CALL fails($$INSERT INTO tf.states (name, data) VALUES ('r', state(1))$$);
CALL fails($$DELETE FROM tf.states WHERE name = 'b'$$);
CALL fails($$TRUNCATE tf.states$$);
SELECT id FROM tfstate_lock('tf.states/b', '{"ID": "13"}');
UPDATE tf.states SET data = state(14) WHERE name = 'b';
-- A rename needs the locks of both names.
CALL fails($$UPDATE tf.states SET name = 'r' WHERE name = 'b'$$);
SELECT id FROM tfstate_lock('tf.states/r', '{"ID": "14"}');
UPDATE tf.states SET name = 'r' WHERE name = 'b';
UPDATE tf.states SET name = 'b' WHERE name = 'r';
SELECT number, operation, serial FROM tfstate_versions('tf.states/r') ORDER BY number;
SELECT count(tfstate_unlock(lockid)) AS unlocked FROM tfstate_holders;
RESET tfstate.guard;
-- The table sets a minimum; a session can ask for more, but not for less.
UPDATE tfstate_internal.attached_table SET guard = 'require';
CALL fails($$UPDATE tf.states SET data = state(15) WHERE name = 'b'$$);
UPDATE tfstate_internal.attached_table SET guard = 'on';
SET tfstate.guard = require;
CALL fails($$UPDATE tf.states SET data = state(15) WHERE name = 'b'$$);
RESET tfstate.guard;
UPDATE tfstate_internal.attached_table SET guard = 'off';
UPDATE tf.states SET data = state(15) WHERE name = 'b';

-- off needs the privilege "override" for the workspace.
CREATE ROLE regress_tfstate_user;
CREATE ROLE regress_tfstate_admin;
GRANT USAGE ON SCHEMA tf TO regress_tfstate_user, regress_tfstate_admin;
GRANT ALL ON tf.states TO regress_tfstate_user, regress_tfstate_admin;
GRANT USAGE ON SEQUENCE public.global_states_id_seq TO regress_tfstate_user, regress_tfstate_admin;
SELECT tfstate_grant('regress_tfstate_user', 'tf.states/*'), tfstate_grant('regress_tfstate_user', 'tf.states/*', 'force');
SELECT tfstate_grant('regress_tfstate_admin', 'tf.other/*', 'override'), tfstate_grant('regress_tfstate_admin', 'tf.states/b', 'override');
SELECT tfstate_has_privilege('tf.states/b', 'override') AS superuser;
SET tfstate.guard = off;
SET ROLE regress_tfstate_user;
SELECT tfstate_has_privilege('tf.states/b', 'override') AS override;
CALL fails($$UPDATE tf.states SET data = state(1) WHERE name = 'b'$$);
CALL fails($$UPDATE tf.states SET data = data WHERE name = 'b'$$);
CALL fails($$DELETE FROM tf.states WHERE name = 'b'$$);
CALL fails($$INSERT INTO tf.states (name, data) VALUES ('o', state(1))$$);
CALL fails($$TRUNCATE tf.states$$);
SET ROLE regress_tfstate_admin;
SELECT tfstate_has_privilege('tf.states/b', 'override') AS override;
CALL fails($$UPDATE tf.states SET data = state(1) WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET name = 'o' WHERE name = 'b'$$);
CALL fails($$TRUNCATE tf.states$$);
UPDATE tf.states SET data = state(1, 'z') WHERE name = 'b';
UPDATE tf.states SET data = 'no state at all' WHERE name = 'b';
CALL fails($$UPDATE tf.states SET data = NULL WHERE name = 'b'$$);
-- With the guard on, a write without the lock needs the privilege to take it.
SET tfstate.guard = on;
CALL fails($$UPDATE tf.states SET data = state(2, 'y') WHERE name = 'b'$$);
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_admin', 'tf.states/b');
SET ROLE regress_tfstate_admin;
UPDATE tf.states SET data = state(2, 'y') WHERE name = 'b';
RESET ROLE;
SELECT number, operation, serial, lineage, size, role, lock_id FROM tfstate_versions('tf.states/b') ORDER BY number DESC LIMIT 3;
-- Even against another session's lock; the version records it as such.
SELECT id FROM tfstate_lock('tf.states/b', '{"ID": "15", "Who": "alice@laptop"}');
SELECT pg_advisory_unlock_all();
SET ROLE regress_tfstate_admin;
SET tfstate.guard = off;
UPDATE tf.states SET data = state(3, 'y') WHERE name = 'b';
DELETE FROM tf.states WHERE name = 'b';
INSERT INTO tf.states (name, data) VALUES ('b', state(1, 'x'));
RESET tfstate.guard;
RESET ROLE;
SELECT number, operation, serial, role, lock_id FROM tfstate_versions('tf.states/b') ORDER BY number DESC LIMIT 3;
SELECT tfstate_unlock('tf.states/b', '15') ->> 'ID' AS unlocked;

--
-- Kinds of statements
--

-- Several rows: each is guarded separately, and one refusal undoes all.
INSERT INTO tf.states (name, data) SELECT 'm' || i, state(i) FROM generate_series(1, 5) i;
UPDATE tf.states SET data = state(10) WHERE name LIKE 'm_';
CALL fails($$UPDATE tf.states SET data = state(CASE name WHEN 'm3' THEN 9 ELSE 11 END) WHERE name LIKE 'm_'$$);
SELECT workspace, serial FROM tfstate_states('tf.states/m*') ORDER BY 1;
-- COPY, and MERGE.
COPY tf.states (name, data) FROM stdin WITH (DELIMITER '|');
c1|{"serial": 1, "lineage": "a"}
c2|{"serial": 2, "lineage": "a"}
\.
\set VERBOSITY terse
COPY tf.states (name, data) FROM stdin WITH (DELIMITER '|');
c3|{"serial": 1, "lineage": "a"}
c4|{"serial": 2}
\.
\set VERBOSITY default
MERGE INTO tf.states t USING (VALUES ('c1', 5), ('c2', 5), ('c3', 5)) v (name, serial) ON t.name = v.name
 WHEN MATCHED AND v.name = 'c2' THEN DELETE
 WHEN MATCHED THEN UPDATE SET data = state(v.serial)
 WHEN NOT MATCHED THEN INSERT (name, data) VALUES (v.name, state(v.serial));
SELECT workspace, number, operation, serial FROM tfstate_versions('tf.states/c*') ORDER BY 1, 2;
-- A row without a name is not a workspace.
INSERT INTO tf.states (data) VALUES ('nameless');
UPDATE tf.states SET data = NULL WHERE name IS NULL;
UPDATE tf.states SET name = 'c4', data = state(1) WHERE name IS NULL;
UPDATE tf.states SET name = NULL WHERE name = 'c4';
DELETE FROM tf.states WHERE name IS NULL;
SELECT number, operation FROM tfstate_versions('tf.states/c4') ORDER BY 1;
-- Many writes of one workspace in a transaction take no more locks than one.
SET tfstate.max_session_locks = 3;
DO $$ BEGIN
	FOR i IN 1..10 LOOP
		UPDATE tf.states SET data = state(i + 5) WHERE name = 'c3';
	END LOOP;
END; $$;
CALL fails($$UPDATE tf.states SET data = state(100) WHERE name LIKE 'm_' AND name <> 'm3'$$);
RESET tfstate.max_session_locks;
-- A name may be empty, but not so long that its lockid is too long.
INSERT INTO tf.states (name, data) VALUES ('', state(1));
SELECT number, operation FROM tfstate_versions('tf.states/') ORDER BY 1;
CALL fails($$INSERT INTO tf.states (name, data) VALUES (repeat('x', 1024), state(1))$$);
INSERT INTO tf.states (name, data) VALUES (repeat('x', 1014), state(1));
-- A new id alone makes no new version.
UPDATE tf.states SET id = -7 WHERE name = 'c1';
SELECT number, operation FROM tfstate_versions('tf.states/c1') ORDER BY 1;
-- TRUNCATE deletes all.
SELECT count(*) AS workspaces FROM tf.states \gset
SELECT number AS versions FROM tfstate_versions('tf.states/m3') ORDER BY 1 DESC LIMIT 1 \gset
BEGIN;
TRUNCATE tf.states;
SELECT count(*) FROM tfstate_workspaces;
ROLLBACK;
SELECT count(*) = :workspaces AS back FROM tfstate_workspaces;
SELECT count(*) FROM tfstate_verify(versions => true);
TRUNCATE tf.states;
SELECT number, operation, serial FROM tfstate_versions('tf.states/m3') WHERE number > :versions;
SELECT count(*) FROM tfstate_verify(versions => true);

--
-- Triggers
--

-- The owner's triggers run first, and the guard checks the state that they make.
CREATE FUNCTION tf.change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	new.data := replace(new.data, '"serial": 1', '"serial": 2');
	RETURN new;
END; $$;
CREATE TRIGGER change BEFORE INSERT OR UPDATE ON tf.states FOR EACH ROW EXECUTE FUNCTION tf.change();
INSERT INTO tf.states (name, data) VALUES ('t', state(1));
CALL fails($$UPDATE tf.states SET data = state(1, content => 'y') WHERE name = 't'$$);
SELECT serial, version FROM tfstate_workspaces;
DROP TRIGGER change ON tf.states;
-- A trigger that writes again, after ours: two versions.
CREATE FUNCTION tf.again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	UPDATE tf.states SET data = state(4) WHERE name = new.name AND data = state(3);
	RETURN NULL;
END; $$;
CREATE TRIGGER zz_again AFTER UPDATE ON tf.states FOR EACH ROW EXECUTE FUNCTION tf.again();
SELECT id FROM tfstate_lock('tf.states/t', '{"ID": "16"}');
UPDATE tf.states SET data = state(3) WHERE name = 't';
SELECT number, operation, serial FROM tfstate_versions('tf.states/t') ORDER BY 1 DESC LIMIT 2;
SELECT * FROM tfstate_verify();
SELECT tfstate_unlock('tf.states/t') ->> 'ID' AS unlocked;
DROP TRIGGER zz_again ON tf.states;

-- The trigger function works only on attached tables, and only as its two triggers.
CREATE TABLE tf.other (id bigint, name text, data text);
CREATE TRIGGER t AFTER INSERT ON tf.other FOR EACH ROW EXECUTE FUNCTION tfstate_internal.guard();
CREATE TRIGGER u BEFORE TRUNCATE ON tf.other EXECUTE FUNCTION tfstate_internal.guard();
CALL fails($$INSERT INTO tf.other VALUES (1, 'a', '')$$);
CALL fails($$TRUNCATE tf.other$$);
DROP TRIGGER t ON tf.other;
DROP TRIGGER u ON tf.other;
CREATE TRIGGER t AFTER TRUNCATE ON tf.other EXECUTE FUNCTION tfstate_internal.guard();
CALL fails($$TRUNCATE tf.other$$);
DROP TABLE tf.other;
SET ROLE regress_tfstate_user;
CREATE TEMP TABLE other (id bigint, name text, data text);
CALL fails($$CREATE TRIGGER t AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION tfstate_internal.guard()$$);
DROP TABLE other;
RESET ROLE;

-- A table altered by its owner is guarded as long as it has the columns.
ALTER TABLE tf.states ADD COLUMN note text;
ALTER TABLE tf.states DROP COLUMN note, ADD COLUMN extra text DEFAULT 'e',
	ADD COLUMN serial bigint GENERATED ALWAYS AS (substring(data FROM '"serial": (\d+)')::bigint) STORED;
UPDATE tf.states SET data = state(5) WHERE name = 't';
SELECT serial, extra FROM tf.states;
SELECT serial, version FROM tfstate_workspaces;
SELECT tfstate_rollback('tf.states/t', 1);
SELECT serial, extra FROM tf.states;
VACUUM FULL tf.states;
CLUSTER tf.states USING states_by_name;
SELECT * FROM tfstate_verify(versions => true);
-- Without them nothing can be written.
ALTER TABLE tf.states DROP COLUMN serial;
ALTER TABLE tf.states RENAME COLUMN data TO content;
CALL fails($$UPDATE tf.states SET content = state(9)$$);
CALL fails($$DELETE FROM tf.states$$);
CALL fails($$TRUNCATE tf.states$$);
SELECT * FROM tfstate_states();
SELECT * FROM tfstate_verify();
ALTER TABLE tf.states RENAME COLUMN content TO data;
ALTER TABLE tf.states ALTER COLUMN name TYPE bigint USING 1;
CALL fails($$UPDATE tf.states SET data = state(9)$$);
SELECT * FROM tfstate_states();
SELECT tfstate_pg.pg_try_advisory_lock(id) FROM tf.states;
SELECT tfstate_pg.pg_advisory_unlock(id) FROM tf.states;
DROP TABLE tf.states;

--
-- Tables with another order of columns, dropped ones between, and another collation
--
CREATE TABLE tf.odd (x integer, data text, y text, name text COLLATE "C", z integer, id bigint PRIMARY KEY DEFAULT 1);
ALTER TABLE tf.odd DROP COLUMN x, DROP COLUMN y, DROP COLUMN z;
CREATE UNIQUE INDEX ON tf.odd (name);
ALTER TABLE tf.odd ALTER COLUMN id SET DEFAULT nextval('public.global_states_id_seq');
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'odd', guard => 'on');
INSERT INTO tf.odd (name, data) VALUES ('p', state(1));
UPDATE tf.odd SET data = state(2) WHERE name = 'p';
CALL fails($$UPDATE tf.odd SET data = state(1) WHERE name = 'p'$$);
SELECT number, serial FROM tfstate_versions('tf.odd/p') ORDER BY 1;
SELECT tfstate_rollback('tf.odd/p', 1);
SELECT workspace, serial, version FROM tfstate_workspaces ORDER BY 1;

-- With session_replication_role = replica, as in logical replication, there is no guard; tfstate_verify() reports it.
SET session_replication_role = replica;
UPDATE tf.odd SET data = state(1) WHERE name = 'p';
RESET session_replication_role;
SELECT * FROM tfstate_verify('tf.odd/*');
SELECT tfstate_repair('tf.odd/p');
SELECT * FROM tfstate_verify('tf.odd/*');

DROP EXTENSION tfstate CASCADE;
DROP SCHEMA tf CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP ROLE regress_tfstate_user, regress_tfstate_admin;
DROP FUNCTION now_in, state(bigint, text, text), empty, long_state;
DROP PROCEDURE fails;
DROP PROCEDURE writes;
DROP FUNCTION masked;
