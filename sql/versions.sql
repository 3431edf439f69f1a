-- Recorded versions: reading, rollback, undelete, verify, repair, prune.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE EXTENSION tfstate;
SET tfstate.who = 'me';

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

-- A state, of a given size if wanted
CREATE FUNCTION state(serial bigint, content text DEFAULT 'x', kilobytes integer DEFAULT 0) RETURNS text LANGUAGE sql AS $$
SELECT format('{"version": 4, "terraform_version": "1.11.4", "serial": %s, "lineage": "a", "outputs": {"o": {"value": %s}}, "resources": [%s]}',
			  serial, to_json(content), (SELECT string_agg(format('{"instances": [{"attributes": {"id": "%s"}}]}', repeat(md5(i::text), 30)), ', ')
										   FROM generate_series(1, kilobytes) i))
$$;
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'states', guard => 'on');

--
-- What is recorded
--

-- A workspace that exists is recorded when its table is attached.
SELECT number, operation, serial, resources, size > 100 AS size, stored > 0 AS stored, created <= clock_timestamp() AS created, who, role, lock_id, fence
  FROM tfstate_versions;
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'states', guard => 'on');
SELECT count(*) FROM tfstate_versions;

-- Each write and each deletion is a version, with its role and its lock.
SELECT fence FROM tfstate_lock('tf.states/prod', '{"ID": "1", "Operation": "apply", "Who": "alice@laptop"}') \gset
SET application_name = 'regress';
INSERT INTO tf.states (name, data) VALUES ('prod', state(1, kilobytes => 2));
SELECT tfstate_unlock('tf.states/prod') ->> 'ID' AS unlocked;
UPDATE tf.states SET data = state(3) WHERE name = 'prod';
DELETE FROM tf.states WHERE name = 'prod';
INSERT INTO tf.states (name, data) VALUES ('prod', state(2));
\x
SELECT workspace, number, operation, serial, lineage, terraform_version, resources, size, stored > 0 AS stored, created <= clock_timestamp() AS created,
	   masked(who) AS who, role = current_user AS role, application_name, client_addr IS NOT DISTINCT FROM inet_client_addr() AS client_addr, lock_id, lock_who, lock_operation, fence = :fence AS fence
  FROM tfstate_versions('tf.states/prod') ORDER BY number;
\x
-- The digests are those of the text.
SELECT sha256 = encode(sha256(convert_to(data, 'UTF8')), 'hex') AS sha256, md5 = md5(data) AS md5, size = octet_length(data) AS size
  FROM tf.states, tfstate_versions('tf.states/prod') WHERE name = 'prod' AND number = 4;
SELECT sha256, md5, size, stored FROM tfstate_versions('tf.states/prod') WHERE operation = 'delete';
SELECT number, tfstate_version('tf.states/prod', number) = state(serial, kilobytes => CASE number WHEN 1 THEN 2 ELSE 0 END) AS text
  FROM tfstate_versions('tf.states/prod') WHERE operation <> 'delete' ORDER BY number;
CALL fails($$SELECT tfstate_version('tf.states/prod', 3)$$);
CALL fails($$SELECT tfstate_version('tf.states/prod', 5)$$);
CALL fails($$SELECT tfstate_version('tf.states/prod', 0)$$);
CALL fails($$SELECT tfstate_version('tf.states/prod', -9223372036854775808)$$);
CALL fails($$SELECT tfstate_version('tf.states/nowhere', 1)$$);
CALL fails($$SELECT tfstate_version('nowhere', 1)$$);
CALL fails($$SELECT tfstate_version('', 1)$$);
SELECT tfstate_version(NULL, 1) IS NULL AND tfstate_version('tf.states/prod', NULL) IS NULL AS nulls;
-- The view's function, and the view of the workspaces
SELECT count(*) FROM tfstate_versions('*/pr*');
SELECT count(*) FROM tfstate_versions('nowhere');
SELECT count(*) FROM tfstate_versions(NULL);
SELECT workspace, serial, resources, size, written_by, locked_by, version, "table" FROM tfstate_workspaces ORDER BY 1;

-- A change of a large state takes little room: a delta, and sometimes a full copy.
INSERT INTO tf.states (name, data) VALUES ('big', state(1, kilobytes => 200));
DO $$ BEGIN
	FOR i IN 2..600 LOOP
		UPDATE tf.states SET data = state(i, 'change ' || i, 200 + i % 3) WHERE name = 'big';
	END LOOP;
END; $$;
SELECT count(*) AS versions, sum(size) / sum(stored) > 100 AS small, max(stored) < 20000 AS full, min(stored) < 200 AS delta FROM tfstate_versions('tf.states/big');
SELECT number, chain FROM tfstate_internal.stored_version WHERE lockid = 'tf.states/big' AND (chain = 0 OR chain > 255 OR number > 598) ORDER BY number;
SELECT count(*) FILTER (WHERE tfstate_version('tf.states/big', i) = state(i, CASE i WHEN 1 THEN 'x' ELSE 'change ' || i END, 200 + CASE i WHEN 1 THEN 0 ELSE i % 3 END)) AS equal
  FROM generate_series(1, 600) i;
SELECT * FROM tfstate_verify(versions => true);
-- A text that does not compress against the one before is stored in full.
CREATE FUNCTION encrypted(serial bigint) RETURNS text LANGUAGE sql AS $$
SELECT format('{"serial": %s, "lineage": "a", "encrypted_data": "%s"}', serial,
			  (SELECT string_agg(encode(sha256(convert_to(serial || ' ' || i, 'UTF8')), 'base64'), '') FROM generate_series(1, 200) i))
$$;
INSERT INTO tf.states (name, data) VALUES ('enc', encrypted(1));
UPDATE tf.states SET data = encrypted(2) WHERE name = 'enc';
UPDATE tf.states SET data = encrypted(3) WHERE name = 'enc';
SELECT number, chain, v.serial, v.resources, v.stored > 6000 AS stored, tfstate_version(workspace, v.number) = encrypted(v.serial) AS equal
  FROM tfstate_versions('tf.states/enc') v JOIN tfstate_internal.stored_version USING (number) WHERE lockid = workspace ORDER BY number;
-- The first version after a deletion is stored in full, and so is one after a text that was found.
SELECT number, operation, chain FROM tfstate_internal.stored_version WHERE lockid = 'tf.states/prod' ORDER BY number;

--
-- Rollback and undelete
--

-- Under the caller's lock, or under a temporary one.
SELECT tfstate_rollback('tf.states/big', 2);
SELECT data = replace(state(2, 'change 2', 202), '"serial": 2,', '"serial": 601,') AS equal FROM tf.states WHERE name = 'big';
SELECT number, operation, serial, lock_id IS NOT NULL AS locked, lock_operation, lock_who FROM tfstate_versions('tf.states/big') ORDER BY number DESC LIMIT 1;
SELECT count(*) FROM tfstate_holders;
SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid = 29798;
SELECT id FROM tfstate_lock('tf.states/big', '{"ID": "2", "Operation": "by hand"}');
SELECT tfstate_rollback('tf.states/big', 3);
SELECT number, serial, lock_id, lock_operation FROM tfstate_versions('tf.states/big') ORDER BY number DESC LIMIT 1;
SELECT id FROM tfstate_holders;
-- Not under another session's lock; the message is that of a lock conflict.
SELECT pg_advisory_unlock_all();
CALL fails($$SELECT tfstate_rollback('tf.states/big', 4)$$);
SELECT tfstate_force_unlock('tf.states/big') ->> 'ID' AS released;
-- To the current version: another serial makes another state.
SELECT tfstate_rollback('tf.states/big', 602);
SELECT number, serial FROM tfstate_versions('tf.states/big') ORDER BY number DESC LIMIT 1;
-- A rollback in a transaction that is rolled back has no effect.
BEGIN;
SELECT tfstate_rollback('tf.states/big', 1);
SELECT tfstate_rollback('tf.states/big', 2);
SELECT number, serial FROM tfstate_versions('tf.states/big') ORDER BY number DESC LIMIT 2;
ROLLBACK;
SELECT number, serial FROM tfstate_versions('tf.states/big') ORDER BY number DESC LIMIT 1;
CALL fails($$SELECT tfstate_rollback('tf.states/big', 604)$$);
CALL fails($$SELECT tfstate_rollback('tf.states/big', 0)$$);
CALL fails($$SELECT tfstate_rollback('tf.states/nowhere', 1)$$);
CALL fails($$SELECT tfstate_rollback('nowhere', 1)$$);
CALL fails($$SELECT tfstate_rollback('', 1)$$);
BEGIN READ ONLY;
CALL fails($$SELECT tfstate_rollback('tf.states/big', 1)$$);
ROLLBACK;
SELECT tfstate_rollback(NULL, 1) IS NULL AND tfstate_rollback('tf.states/big', NULL) IS NULL AS nulls;
-- tfstate.guard and tfstate.fence apply, too.
SET tfstate.fence = 1;
CALL fails($$SELECT tfstate_rollback('tf.states/big', 1)$$);
RESET tfstate.fence;
SET tfstate.guard = require;
SELECT tfstate_rollback('tf.states/big', 1);
RESET tfstate.guard;
-- An encrypted state stays unchanged: its serial is encrypted, too.
SELECT tfstate_rollback('tf.states/enc', 1);
SELECT data = encrypted(1) AS equal FROM tf.states WHERE name = 'enc';
SELECT number, serial FROM tfstate_versions('tf.states/enc') ORDER BY number DESC LIMIT 1;
-- The state keeps the lineage of the version.
SET tfstate.guard = off;
UPDATE tf.states SET data = '{"serial": 1, "lineage": "b"}' WHERE name = 'enc';
UPDATE tf.states SET data = 'garbage' WHERE name = 'enc';
RESET tfstate.guard;
SELECT tfstate_rollback('tf.states/enc', 2);
SELECT tfstate_rollback('tf.states/enc', 5);
SELECT name, data FROM tf.states WHERE name = 'enc';
-- The serial is above the last one that is known, even behind several texts without one.
INSERT INTO tf.states (name, data) VALUES ('texts', '{"serial": 1, "lineage": "a"}');
UPDATE tf.states SET data = '{"serial": 7, "lineage": "a"}' WHERE name = 'texts';
SET tfstate.guard = off;
UPDATE tf.states SET data = 'garbage' WHERE name = 'texts';
UPDATE tf.states SET data = 'more' WHERE name = 'texts';
RESET tfstate.guard;
SELECT tfstate_rollback('tf.states/texts', 1);
SELECT data FROM tf.states WHERE name = 'texts';
-- Under a lease of the caller's that has expired a new lock is taken.
SELECT id FROM tfstate_lock('tf.states/texts', '{"ID": "lease"}', ttl => '1 us');
SELECT tfstate_rollback('tf.states/texts', 1);
SELECT lock_id <> 'lease' AS new_lock FROM tfstate_versions('tf.states/texts') ORDER BY number DESC LIMIT 1;
SELECT count(*) FROM tfstate_holders('tf.states/texts');
DELETE FROM tf.states WHERE name = 'texts';
-- A version without a state cannot be rolled back to.
CALL fails($$SELECT tfstate_rollback('tf.states/enc', 6)$$);
-- Only the serial is changed, wherever it is in the text.
INSERT INTO tf.states (name, data) VALUES ('odd', E'{"x": {"serial": 1},\n "lineage" : "a", "serial"\t:\n7  }\n');
UPDATE tf.states SET data = state(8) WHERE name = 'odd';
SELECT tfstate_rollback('tf.states/odd', 1);
SELECT to_json(data) FROM tf.states WHERE name = 'odd';

-- A deleted workspace is restored, with another id,
CALL fails($$SELECT tfstate_undelete('tf.states/odd')$$);
SELECT id AS old_id FROM tf.states WHERE name = 'odd' \gset
DELETE FROM tf.states WHERE name = 'odd';
CALL fails($$SELECT tfstate_rollback('tf.states/odd', 4)$$);
SELECT tfstate_undelete('tf.states/odd');
SELECT id <> :old_id AS new_id, to_json(data) FROM tf.states WHERE name = 'odd';
CALL fails($$SELECT tfstate_undelete('tf.states/odd')$$);
CALL fails($$SELECT tfstate_undelete('tf.states/nowhere')$$);
SELECT tfstate_undelete(NULL) IS NULL AS nulls;
-- or directly with any earlier version.
DELETE FROM tf.states WHERE name = 'odd';
SELECT tfstate_rollback('tf.states/odd', 2);
SELECT number, operation, serial FROM tfstate_versions('tf.states/odd') ORDER BY number;
-- It is not restored while its lock is held.
DELETE FROM tf.states WHERE name = 'odd';
SELECT id FROM tfstate_lock('tf.states/odd', '{"ID": "3", "Info": "frozen for the audit"}');
SELECT pg_advisory_unlock_all();
CALL fails($$SELECT tfstate_undelete('tf.states/odd')$$);
SELECT tfstate_unlock('tf.states/odd', '3') ->> 'ID' AS unlocked;

-- A trigger of the table's owner that suppresses the write is reported.
CREATE FUNCTION tf.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER nothing BEFORE INSERT OR UPDATE ON tf.states FOR EACH ROW EXECUTE FUNCTION tf.nothing();
CALL fails($$SELECT tfstate_undelete('tf.states/odd')$$);
CALL fails($$SELECT tfstate_rollback('tf.states/big', 1)$$);
SELECT count(*) FROM tfstate_holders;
DROP TRIGGER nothing ON tf.states;
-- After a rollback that failed in mid-write, an older serial is refused as before.
CREATE FUNCTION tf.failing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'failing'; END $$;
CREATE TRIGGER failing BEFORE INSERT OR UPDATE ON tf.states FOR EACH ROW EXECUTE FUNCTION tf.failing();
CALL fails($$SELECT tfstate_rollback('tf.states/big', 1)$$);
SELECT tfstate_rollback('tf.states/big', 1);
DROP TRIGGER failing ON tf.states;
DROP FUNCTION tf.failing;
SELECT id FROM tfstate_lock('tf.states/big', '{"ID": "4"}', 'session');
CALL fails($$UPDATE tf.states SET data = state(1) WHERE name = 'big'$$);
UPDATE tf.states SET data = data WHERE name = 'big';
SELECT tfstate_unlock('tf.states/big') ->> 'ID' AS unlocked;

--
-- Serial, lineage and version are read from the head of a state, its first 4,096 bytes, if they are
-- there: wherever the head ends, the result is the same as for the whole text.
--
CREATE FUNCTION head(serial bigint, pad integer, filler text, last text) RETURNS text LANGUAGE sql AS $$
SELECT format('{"version": 4, %s, "x": "%s%s", %s , "resources": []}', string_agg(f.text, ', ') FILTER (WHERE f.key <> last),
			  repeat('x', pad % octet_length(filler)), repeat(filler, pad / octet_length(filler)), string_agg(f.text, '') FILTER (WHERE f.key = last))
  FROM (VALUES ('serial', format('"serial": %s', serial)), ('lineage', '"lineage": "abcdefghijklmnopqrstuvwxyz"'),
			   ('version', '"terraform_version": "1.11.4-alpha20250101"')) f(key, text) $$;
DO $$
DECLARE
	c record;
	s bigint := 1234567890000;
	found record;
BEGIN
	PERFORM tfstate_lock('tf.states/head', mode => 'session');
	INSERT INTO tf.states (name, data) VALUES ('head', head(s, 1, 'x', 'serial'));
	FOR c IN SELECT pad, filler, last FROM generate_series(3950, 4060) pad, unnest('{x,ä,€}'::text[]) filler, unnest('{serial,lineage,version}'::text[]) last LOOP
		s := s + 1;
		UPDATE tf.states SET data = head(s, c.pad, c.filler, c.last) WHERE name = 'head';
		SELECT * INTO found FROM tfstate_states('tf.states/head');
		ASSERT (found.serial, found.lineage, found.terraform_version) = (s, 'abcdefghijklmnopqrstuvwxyz', '1.11.4-alpha20250101'), c;
		-- and so the guard reads it
		BEGIN
			UPDATE tf.states SET data = head(s - 1, 1, 'x', 'serial') WHERE name = 'head';
			ASSERT false, c;
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
			NULL;
		END;
	END LOOP;
	PERFORM tfstate_unlock('tf.states/head');
END; $$;
SELECT strpos(head(1234567890123, 3950, 'x', 'serial'), '"serial"') < 4070 AS before, strpos(head(1234567890123, 4060, 'x', 'serial'), '"serial"') > 4100 AS behind;
SELECT tfstate_prune('tf.states/head', 2) > 900 AS pruned;
DROP FUNCTION head;

--
-- Verify and repair
--
CREATE PROCEDURE behind_the_back(statement text) LANGUAGE plpgsql AS $$
BEGIN
	ALTER TABLE tf.states DISABLE TRIGGER USER;
	EXECUTE statement;
	ALTER TABLE tf.states ENABLE TRIGGER USER;
END;
$$;
SELECT * FROM tfstate_verify(versions => true);
CALL behind_the_back($$UPDATE tf.states SET data = state(50) WHERE name = 'prod'$$);
CALL behind_the_back($$UPDATE tf.states SET data = overlay(data PLACING 'y' FROM 100) WHERE name = 'big'$$);
CALL behind_the_back($$DELETE FROM tf.states WHERE name = 'enc'$$);
CALL behind_the_back($$INSERT INTO tf.states (name, data) VALUES ('odd', state(1)), ('new', state(1)), ('null', NULL)$$);
SELECT * FROM tfstate_verify();
SELECT * FROM tfstate_verify('*/prod', true);
SELECT * FROM tfstate_verify('tf.states/nowhere');
SELECT * FROM tfstate_verify(NULL);
-- The next write first records what it found ...
UPDATE tf.states SET data = state(51) WHERE name = 'prod';
SELECT number, operation, serial, who, chain FROM tfstate_internal.stored_version WHERE lockid = 'tf.states/prod' ORDER BY number DESC LIMIT 3;
-- ... and so does repair, which returns the newest version.
SELECT tfstate_repair('tf.states/prod');
SELECT tfstate_repair('tf.states/big');
SELECT tfstate_repair('tf.states/big');
SELECT tfstate_repair('tf.states/enc');
SELECT tfstate_repair('tf.states/odd');
SELECT tfstate_repair('tf.states/new');
SELECT tfstate_repair('tf.states/null');
SELECT * FROM tfstate_verify(versions => true);
SELECT DISTINCT ON (workspace) workspace, number, operation, serial FROM tfstate_versions ORDER BY workspace, number DESC;
-- It is found also where this session has just written a state of the same size, but not after a write that was rolled back.
BEGIN;
UPDATE tf.states SET data = state(1000, 'a', 200) WHERE name = 'big';
CALL behind_the_back($$UPDATE tf.states SET data = state(1000, 'b', 200) WHERE name = 'big'$$);
UPDATE tf.states SET data = state(1001, 'c', 200) WHERE name = 'big';
SAVEPOINT before;
UPDATE tf.states SET data = state(1002, 'd', 200) WHERE name = 'big';
ROLLBACK TO before;
UPDATE tf.states SET data = state(1003, 'e', 200) WHERE name = 'big';
SELECT operation, serial, tfstate_version(workspace, number) = state(serial, translate(right(serial::text, 1), '013', 'bce'), 200) AS text
  FROM tfstate_versions('tf.states/big') ORDER BY number DESC LIMIT 3;
SELECT * FROM tfstate_verify('tf.states/big', true);
ROLLBACK;
-- A rollback takes a serial above that of a state that was not recorded.
BEGIN;
CALL behind_the_back($$UPDATE tf.states SET data = state(70) WHERE name = 'prod'$$);
SELECT tfstate_rollback('tf.states/prod', 4) > 0 AS rolled_back;
SELECT data::jsonb ->> 'serial' AS serial FROM tf.states WHERE name = 'prod';
ROLLBACK;
-- A deletion that was found has the facts of the state that was deleted.
BEGIN;
CALL behind_the_back($$DELETE FROM tf.states WHERE name = 'prod'$$);
SELECT tfstate_repair('tf.states/prod') > 0 AS repaired;
SELECT operation, serial, lineage, terraform_version, resources FROM tfstate_versions('tf.states/prod') ORDER BY number DESC LIMIT 2;
ROLLBACK;
-- A null state can be attached, replaced and deleted.
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'states', guard => 'on');
UPDATE tf.states SET data = state(1) WHERE name = 'null';
SELECT number, operation, serial FROM tfstate_versions('tf.states/null') ORDER BY number;
CALL behind_the_back($$UPDATE tf.states SET data = NULL WHERE name = 'null'$$);
SELECT * FROM tfstate_verify();
DELETE FROM tf.states WHERE name = 'null';
SELECT number, operation, serial FROM tfstate_versions('tf.states/null') ORDER BY number;
SELECT tfstate_undelete('tf.states/null');
-- So can a text that cannot be parsed.
CALL behind_the_back($$UPDATE tf.states SET data = repeat('{"a":[', 1000000) WHERE name = 'null'$$);
SELECT workspace, serial, size FROM tfstate_states('*') WHERE workspace ~ 'null';
SELECT count(*) FROM tfstate_resources();
SELECT * FROM tfstate_verify(versions => true);
SELECT tfstate_repair('tf.states/null');
UPDATE tf.states SET data = state(9) WHERE name = 'null';
SELECT number, operation, serial FROM tfstate_versions('tf.states/null') ORDER BY number DESC LIMIT 3;
CALL fails($$SELECT tfstate_rollback('tf.states/null', 4)$$);
-- A workspace deleted that way can be undeleted.
SELECT tfstate_undelete('tf.states/enc');
CALL fails($$SELECT tfstate_repair('tf.states/nowhere')$$);
CALL fails($$SELECT tfstate_repair('nowhere')$$);
CALL fails($$SELECT tfstate_repair('')$$);
SELECT tfstate_repair(NULL) IS NULL AS nulls;
BEGIN READ ONLY;
CALL fails($$SELECT tfstate_repair('tf.states/prod')$$);
ROLLBACK;
-- A table that was renamed, or is no longer attached
ALTER TABLE tf.states RENAME TO renamed;
SELECT DISTINCT workspace ~ '^tf.states/' AS old, version IS NULL AS never, problem FROM tfstate_verify() ORDER BY 1, 2;
-- The old name is shown only to a call that asks for it.
SELECT workspace, problem FROM tfstate_verify('tf.states/prod');
SELECT workspace, problem FROM tfstate_verify('tf.states/pro*');
ALTER TABLE tf.renamed RENAME TO states;
SELECT * FROM tfstate_verify(versions => true);

--
-- Prune
--
CREATE FUNCTION kept(workspace text) RETURNS text LANGUAGE sql AS $$
SELECT format('%s to %s: %s', min(number), max(number), count(*)) FROM tfstate_versions(workspace) $$;
-- By count: the newest n, but at least two.
SELECT kept('tf.states/big');
SELECT tfstate_prune('tf.states/big', 400);
SELECT kept('tf.states/big');
SELECT tfstate_prune('tf.states/big', 400);
SELECT number, chain FROM tfstate_internal.stored_version WHERE lockid = 'tf.states/big' AND (chain = 0 OR number = (SELECT min(number) FROM tfstate_internal.stored_version WHERE lockid = 'tf.states/big')) ORDER BY number;
SELECT * FROM tfstate_verify('tf.states/big', true);
SELECT tfstate_version('tf.states/big', 500) = state(500, 'change 500', 202) AS equal;
CALL fails($$SELECT tfstate_version('tf.states/big', 100)$$);
CALL fails($$SELECT tfstate_rollback('tf.states/big', 100)$$);
SELECT tfstate_prune('tf.states/big', 1);
SELECT kept('tf.states/big');
SELECT * FROM tfstate_verify('tf.states/big', true);
UPDATE tf.states SET data = state(1000) WHERE name = 'big';
SELECT kept('tf.states/big');
-- By age: older ones, except for the last two.
UPDATE tfstate_internal.stored_version SET created = created - interval '10 days' * (10 - number) WHERE lockid = 'tf.states/prod';
SELECT kept('tf.states/prod');
SELECT tfstate_prune('tf.states/prod', keep_age => '65 days');
SELECT kept('tf.states/prod');
-- By both: those that neither wants to keep.
SELECT tfstate_prune('tf.states/prod', 3, '55 days');
SELECT kept('tf.states/prod');
SELECT tfstate_prune('tf.states/prod', 3, '0');
SELECT kept('tf.states/prod');
SELECT tfstate_prune('tf.states/prod', keep_age => '0');
SELECT kept('tf.states/prod');
SELECT * FROM tfstate_verify(versions => true);
-- A deleted workspace keeps what is needed to restore it.
INSERT INTO tf.states (name, data) SELECT 'gone', state(1);
DO $$ BEGIN FOR i IN 2..20 LOOP UPDATE tf.states SET data = state(i) WHERE name = 'gone'; END LOOP; END; $$;
DELETE FROM tf.states WHERE name = 'gone';
SELECT tfstate_prune('tf.states/gone', 1);
SELECT kept('tf.states/gone');
SELECT tfstate_undelete('tf.states/gone');
-- All tables at once, each by its own values; those without values are left alone.
SELECT tfstate_prune();
SELECT tfstate_prune('*', 2) > 0 AS pruned;
SELECT workspace, count(*) FROM tfstate_versions GROUP BY 1 HAVING count(*) > 2;
SELECT tfstate_prune(NULL, 2);
CALL fails($$SELECT tfstate_prune('*', 0)$$);
CALL fails($$SELECT tfstate_prune('*', -1)$$);
CALL fails($$SELECT tfstate_prune('*', keep_age => '-1 day')$$);
CALL fails($$SELECT tfstate_prune('*', keep_age => '300000 years')$$);
-- One transaction prunes a limited number of workspaces that have versions to remove.
INSERT INTO tf.states (name, data) SELECT 'many' || i, state(1) FROM generate_series(1, 5) i;
UPDATE tf.states SET data = state(2) WHERE name ~ '^many';
UPDATE tf.states SET data = state(3) WHERE name ~ '^many[1-4]';
SET tfstate.max_session_locks = 3;
CALL fails($$SELECT tfstate_prune('tf.states/many*', 2)$$);
SET tfstate.max_session_locks = 4;
SELECT tfstate_prune('tf.states/many*', 2);
RESET tfstate.max_session_locks;
SET tfstate.max_session_locks = 2;
UPDATE tf.states SET data = state(4) WHERE name = 'many1';
UPDATE tf.states SET data = state(4) WHERE name = 'many2';
UPDATE tf.states SET data = state(4) WHERE name = 'many3';
CALL tfstate_prune_in_batches('tf.states/many*', 1);
SELECT DISTINCT kept(workspace) FROM tfstate_versions('tf.states/many*') ORDER BY 1;
UPDATE tfstate_internal.attached_table SET keep_versions = 2;
UPDATE tf.states SET data = state(5) WHERE name = 'many1';
UPDATE tfstate_internal.attached_table SET keep_versions = NULL;
CALL tfstate_prune_in_batches();
CALL tfstate_prune_in_batches(NULL);
CALL tfstate_prune_in_batches('*', 0);
BEGIN;
CALL tfstate_prune_in_batches();
ROLLBACK;
RESET tfstate.max_session_locks;
-- Writes prune by the table's values; those of a large state only sometimes.
UPDATE tfstate_internal.attached_table SET keep_versions = 5;
INSERT INTO tf.states (name, data) SELECT 'passing', state(1);
CREATE PROCEDURE write_on(n integer) LANGUAGE plpgsql AS $$
DECLARE
	s bigint;
BEGIN
	FOR i IN 1..n LOOP
		SELECT serial INTO s FROM tfstate_states('tf.states/passing');
		UPDATE tf.states SET data = state(s + 1, kilobytes => 70) WHERE name = 'passing';
	END LOOP;
END;
$$;
CALL write_on(30);
SELECT kept('tf.states/passing');
CALL write_on(1);
SELECT kept('tf.states/passing');
CALL write_on(100);
SELECT kept('tf.states/passing');
SELECT tfstate_prune('tf.states/passing');
SELECT kept('tf.states/passing');
UPDATE tfstate_internal.attached_table SET keep_versions = NULL, keep_age = '300000 years';
CALL write_on(64);
SELECT kept('tf.states/passing');
UPDATE tfstate_internal.attached_table SET keep_versions = NULL, keep_age = '0';
CALL write_on(32);
SELECT kept('tf.states/passing');
UPDATE tfstate_internal.attached_table SET keep_age = NULL;
CALL write_on(64);
SELECT kept('tf.states/passing');
SELECT * FROM tfstate_verify(versions => true);
UPDATE tfstate_internal.attached_table SET keep_versions = 5;
UPDATE tf.states SET data = state(1000) WHERE name = 'passing';
SELECT kept('tf.states/passing');
UPDATE tf.states SET data = state(1001) WHERE name = 'passing';
SELECT kept('tf.states/passing');
UPDATE tf.states SET data = state(1002, kilobytes => 70) WHERE name = 'passing';
SELECT kept('tf.states/passing');
DELETE FROM tf.states WHERE name = 'passing';
SELECT kept('tf.states/passing');
SELECT tfstate_undelete('tf.states/passing') > 0 AS undeleted;
UPDATE tfstate_internal.attached_table SET keep_versions = NULL, keep_age = '0';
UPDATE tf.states SET data = state(1010) WHERE name = 'passing';
SELECT kept('tf.states/passing');
UPDATE tfstate_internal.attached_table SET keep_age = NULL;
SELECT * FROM tfstate_verify(versions => true);

-- The table of versions can be rewritten or truncated under a session that has used it.
CREATE PROCEDURE rewritten(serial bigint) LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	PERFORM tfstate_lock('tf.states/many1', mode => 'session');
	UPDATE tf.states SET data = state(serial, kilobytes => 2) WHERE name = 'many1';
	SELECT max(number) INTO n FROM tfstate_versions('tf.states/many1');
	ASSERT tfstate_version('tf.states/many1', n) = state(serial, kilobytes => 2);
	PERFORM tfstate_repair('tf.states/many1');
	PERFORM tfstate_rollback('tf.states/many1', n);
	PERFORM tfstate_prune('tf.states/many1', 4);
	PERFORM tfstate_unlock('tf.states/many1');
	ASSERT (SELECT count(*) FROM tfstate_versions('tf.states/many1')) = 4;
	ASSERT NOT EXISTS (SELECT FROM tfstate_verify(versions => true));
END;
$$;
CALL rewritten(100);
CALL rewritten(200);
VACUUM FULL tfstate_internal.stored_version;
CALL rewritten(300);
CLUSTER tfstate_internal.stored_version USING stored_version_pkey;
CALL rewritten(400);
REINDEX TABLE tfstate_internal.stored_version;
CALL rewritten(500);
REINDEX INDEX CONCURRENTLY tfstate_internal.stored_version_pkey;
CALL rewritten(600);
DELETE FROM tfstate_internal.stored_version WHERE lockid NOT IN ('tf.states/many1', 'tf.states/prod');
VACUUM (TRUNCATE) tfstate_internal.stored_version;
DO $$ BEGIN PERFORM tfstate_repair(workspace) FROM tfstate_states(); END $$;
CALL rewritten(700);
DROP PROCEDURE rewritten;

--
-- Privileges
--
CREATE ROLE regress_tfstate_viewer;
CREATE ROLE regress_tfstate_reader;
CREATE ROLE regress_tfstate_writer;
GRANT USAGE ON SCHEMA tf TO regress_tfstate_viewer, regress_tfstate_reader, regress_tfstate_writer;
GRANT SELECT ON tf.states TO regress_tfstate_reader, regress_tfstate_writer;
SELECT tfstate_grant('regress_tfstate_viewer', 'tf.states/p*', 'view'), tfstate_grant('regress_tfstate_writer', 'tf.states/p*', 'view');
-- SELECT without view: no rows.
SET ROLE regress_tfstate_reader;
SELECT count(*) FROM tfstate_versions;
SELECT count(*) FROM tfstate_workspaces;
SELECT count(*) FROM tfstate_states();
SELECT count(*) FROM tfstate_verify(versions => true);
CALL fails($$SELECT tfstate_version('tf.states/prod', 1)$$);
RESET ROLE;
GRANT USAGE ON SCHEMA tfstate_internal TO regress_tfstate_reader;
SET ROLE regress_tfstate_reader;
CALL fails($$SELECT tfstate_internal.verify_workspace('tf.states/prod', true, true)$$);
CALL fails($$SELECT tfstate_rollback('tf.states/prod', 1)$$);
CALL fails($$SELECT tfstate_undelete('tf.states/prod')$$);
CALL fails($$SELECT tfstate_repair('tf.states/prod')$$);
CALL fails($$SELECT tfstate_prune('tf.states/prod', 2)$$);
CALL fails($$SELECT tfstate_internal.prune_workspace('tf.states/prod', 2, NULL)$$);
CALL fails($$SELECT * FROM tfstate_internal.stored_version$$);
-- view without SELECT: everything but the texts.
SET ROLE regress_tfstate_viewer;
SELECT DISTINCT workspace FROM tfstate_versions ORDER BY 1;
SELECT workspace FROM tfstate_workspaces ORDER BY 1;
SELECT count(*) FROM tfstate_verify(versions => true);
CALL fails($$SELECT tfstate_version('tf.states/prod', 1)$$);
CALL fails($$SELECT tfstate_version('tf.states/nowhere', 1)$$);
RESET ROLE;
GRANT SELECT (id, name) ON tf.states TO regress_tfstate_viewer;
SET ROLE regress_tfstate_viewer;
CALL fails($$SELECT tfstate_version('tf.states/prod', 1)$$);
RESET ROLE;
GRANT SELECT (data) ON tf.states TO regress_tfstate_viewer;
SELECT max(number) AS newest FROM tfstate_versions('tf.states/prod') \gset
SET ROLE regress_tfstate_viewer;
SELECT tfstate_version('tf.states/prod', :newest) = state(51) AS text;
CALL fails($$SELECT tfstate_version('tf.states/big', 1)$$);
-- A cheap function does not see the rows that a view hides.
CREATE FUNCTION pg_temp.leak(t text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
$$
BEGIN
	IF t NOT IN ('tf.states/prod', 'tf.states/passing') THEN
		RAISE INFO 'leak %', t;
	END IF;
	RETURN true;
END;
$$;
SELECT count(*) FROM tfstate_versions WHERE pg_temp.leak(workspace) AND workspace <> 'tf.states/passing' AND workspace <> 'tf.states/prod';
SELECT workspace FROM tfstate_workspaces WHERE pg_temp.leak(workspace) ORDER BY 1;
DROP FUNCTION pg_temp.leak;
-- A rollback needs the privilege lock, and the privileges of the table itself.
CALL fails($$SELECT tfstate_rollback('tf.states/prod', 1)$$);
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_writer', 'tf.states/p*');
SET ROLE regress_tfstate_writer;
CALL fails($$SELECT tfstate_rollback('tf.states/prod', 1)$$);
SELECT set_config('regress.newest', :'newest', false) <> '' AS set;
CALL fails($$SELECT tfstate_rollback('tf.states/prod', current_setting('regress.newest')::bigint)$$);
SELECT count(*) FROM tfstate_holders;
RESET ROLE;
GRANT INSERT, UPDATE ON tf.states TO regress_tfstate_writer;
GRANT USAGE ON SEQUENCE public.global_states_id_seq TO regress_tfstate_writer;
SET ROLE regress_tfstate_writer;
SELECT tfstate_rollback('tf.states/prod', :newest) - :newest AS later;
CALL fails($$SELECT tfstate_repair('tf.states/prod')$$);
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_writer', 'tf.states/prod', 'override');
SET ROLE regress_tfstate_writer;
SELECT tfstate_repair('tf.states/prod') - :newest AS later;
RESET ROLE;
-- When the table is dropped, the rights end, except those of the extension's owner.
CREATE TABLE tf.copy AS TABLE tf.states;
DROP TABLE tf.states;
SET ROLE regress_tfstate_viewer;
SELECT count(*) > 0 AS versions FROM tfstate_versions;
SELECT set_config('regress.newest', :'newest', false) <> '' AS set;
CALL fails($$SELECT tfstate_version('tf.states/prod', current_setting('regress.newest')::bigint)$$);
RESET ROLE;
SELECT tfstate_version('tf.states/prod', :newest) = state(51) AS text;
CALL fails($$SELECT tfstate_rollback('tf.states/prod', current_setting('regress.newest')::bigint)$$);
SELECT * FROM tfstate_verify(versions => true);
SELECT workspace, problem FROM tfstate_verify('tf.states/prod');
CALL fails($$SELECT tfstate_undelete('tf.states/prod')$$);
-- A new table with the name can restore all workspaces.
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf');
SELECT problem, count(*) > 3 AS count FROM tfstate_verify(versions => true) GROUP BY 1;
SELECT max(number) AS newest FROM tfstate_versions('tf.states/prod') \gset
SELECT tfstate_undelete('tf.states/prod') - :newest AS later;
SELECT data = replace(tfstate_version('tf.states/prod', :newest), '"serial": ' || v.serial, '"serial": ' || v.serial + 1) AS equal
  FROM tf.states, tfstate_versions('tf.states/prod') v WHERE name = 'prod' AND number = :newest;
CALL fails($$SELECT tfstate_undelete('tf.states/prod')$$);
-- Its default workspace is a new one.
CALL fails($$SELECT tfstate_undelete('tf.states/default')$$);
SELECT tfstate_rollback('tf.states/default', 1) > 1 AS rolled_back;
-- The same again, with a workspace that was deleted before.
DELETE FROM tf.states WHERE name = 'prod';
DROP TABLE tf.states;
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf');
SELECT tfstate_undelete('tf.states/prod') - :newest AS later;
SELECT * FROM tfstate_verify('tf.states/prod', true);
-- A detached table is neither verified nor recorded.
SELECT tfstate_detach('tf');
SELECT * FROM tfstate_verify(versions => true);
CALL fails($$SELECT tfstate_internal.record_states('tf.states')$$);
CALL fails($$SELECT tfstate_internal.record_states(0)$$);

DROP EXTENSION tfstate CASCADE;
DROP SCHEMA tf CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP ROLE regress_tfstate_viewer, regress_tfstate_reader, regress_tfstate_writer;
DROP FUNCTION state, encrypted, kept;
DROP PROCEDURE behind_the_back;
DROP PROCEDURE write_on;
DROP PROCEDURE fails;
DROP FUNCTION masked;
