-- Damaged versions: what is reported, what is refused, and what still works.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE EXTENSION tfstate;
SET tfstate.who = 'me';

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

CREATE FUNCTION state(serial bigint, kilobytes integer DEFAULT 1) RETURNS text LANGUAGE sql AS $$
SELECT format('{"serial": %s, "lineage": "a", "resources": [%s]}', serial,
			  (SELECT string_agg(format('{"instances": [{"attributes": {"id": "%s"}}]}', md5(i::text)), ', ') FROM generate_series(1, 15 * kilobytes) i))
$$;
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'states', guard => 'on');
-- Ten versions, of which 7 is a deletion: 1 and 8 are full copies, the others are deltas.
DO $$ BEGIN
	INSERT INTO tf.states (name, data) VALUES ('w', state(1));
	FOR i IN 2..6 LOOP UPDATE tf.states SET data = state(i) WHERE name = 'w'; END LOOP;
	DELETE FROM tf.states WHERE name = 'w';
	INSERT INTO tf.states (name, data) VALUES ('w', state(8));
	FOR i IN 9..10 LOOP UPDATE tf.states SET data = state(i) WHERE name = 'w'; END LOOP;
END; $$;
CREATE VIEW stored AS SELECT * FROM tfstate_internal.stored_version WHERE lockid = 'tf.states/w';
SELECT number, operation, chain FROM stored ORDER BY number;

-- Each kind of damage, with the versions that cannot be read then: the damaged one and those that
-- depend on it.  The others are unchanged.
CREATE PROCEDURE damaged(statement text) LANGUAGE plpgsql AS $$
DECLARE
	v record;
	text text;
	damaged text[] = '{}';
	found text;
BEGIN
	EXECUTE statement;
	FOR v IN SELECT number FROM stored WHERE operation <> 'delete' ORDER BY number LOOP
		BEGIN
			text := tfstate_version('tf.states/w', v.number);
			ASSERT text = state(v.number), v.number;
		EXCEPTION WHEN data_corrupted THEN
			ASSERT sqlerrm LIKE format('version %s of workspace "tf.states/w" cannot be restored%%', v.number), sqlerrm;
			damaged := damaged || v.number::text;
		END;
	END LOOP;
	SELECT string_agg(concat_ws(' ', p.version, CASE WHEN problem !~ 'depends on' THEN problem END), ', ') INTO found
	  FROM tfstate_verify('tf.states/w', true) p;
	RAISE INFO 'damaged: %; verify: %', damaged, found;
	RAISE EXCEPTION USING ERRCODE = 'UNDO0';
EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
	NULL;
END;
$$;
-- nothing
CALL damaged($$SELECT$$);
-- a byte of a full copy, and of a delta
CALL damaged($$UPDATE stored SET content = set_byte(content, 100, 255 - get_byte(content, 100)) WHERE number = 1$$);
CALL damaged($$UPDATE stored SET content = set_byte(content, octet_length(content) - 1, 255 - get_byte(content, octet_length(content) - 1)) WHERE number = 4$$);
CALL damaged($$UPDATE stored SET content = set_byte(content, 0, 0) WHERE number = 10$$);
-- shorter, longer, other content, and none
CALL damaged($$UPDATE stored SET content = substr(content, 1, octet_length(content) - 1) WHERE number = 1$$);
CALL damaged($$UPDATE stored SET content = substr(content, 1, 10) WHERE number = 4$$);
CALL damaged($$UPDATE stored SET content = content || '\x00' WHERE number = 4$$);
CALL damaged($$UPDATE stored SET content = '' WHERE number = 4$$);
CALL damaged($$UPDATE stored SET content = NULL WHERE number = 4$$);
CALL damaged($$UPDATE stored s SET content = (SELECT o.content FROM stored o WHERE o.number = 3) WHERE number = 4$$);
CALL damaged($$UPDATE stored s SET content = (SELECT o.content FROM stored o WHERE o.number = 1) WHERE number = 8$$);
-- size
CALL damaged($$UPDATE stored SET size = size + 1 WHERE number = 4$$);
CALL damaged($$UPDATE stored SET size = size - 1 WHERE number = 8$$);
CALL damaged($$UPDATE stored SET size = 0 WHERE number = 4$$);
CALL damaged($$UPDATE stored SET size = -1 WHERE number = 4$$);
CALL damaged($$UPDATE stored SET size = 9223372036854775807 WHERE number = 4$$);
CALL damaged($$UPDATE stored SET size = 1073741823 WHERE number = 4$$);
-- chain
CALL damaged($$UPDATE stored SET chain = 0 WHERE number = 4$$);
CALL damaged($$UPDATE stored SET chain = 1 WHERE number = 1$$);
CALL damaged($$UPDATE stored SET chain = 1 WHERE number = 8$$);
CALL damaged($$UPDATE stored SET chain = 7 WHERE number = 4$$);
CALL damaged($$UPDATE stored SET chain = -1 WHERE number = 4$$);
CALL damaged($$UPDATE stored SET chain = 2147483647 WHERE number = 10$$);
CALL damaged($$UPDATE stored SET chain = NULL WHERE number = 4$$);
-- digest
CALL damaged($$UPDATE stored SET sha256 = set_byte(sha256, 31, 255 - get_byte(sha256, 31)) WHERE number = 4$$);
CALL damaged($$UPDATE stored SET sha256 = substr(sha256, 1, 31) WHERE number = 4$$);
CALL damaged($$UPDATE stored SET sha256 = '' WHERE number = 4$$);
CALL damaged($$UPDATE stored SET sha256 = NULL WHERE number = 10$$);
-- rows that are missing, or come from another version
CALL damaged($$DELETE FROM stored WHERE number = 1$$);
CALL damaged($$DELETE FROM stored WHERE number = 4$$);
CALL damaged($$DELETE FROM stored WHERE number = 8$$);
CALL damaged($$DELETE FROM stored WHERE number IN (1, 3, 5)$$);
CALL damaged($$DELETE FROM stored WHERE number = 10$$);
CALL damaged($$DELETE FROM stored$$);
CALL damaged($$UPDATE stored SET operation = 'delete' WHERE number = 10$$);
CALL damaged($$UPDATE stored SET operation = 'delete' WHERE number = 4$$);
CALL damaged($$UPDATE stored SET operation = 'write' WHERE number = 7$$);
CALL damaged($$UPDATE stored SET size = NULL WHERE number = 4$$);
CALL damaged($$UPDATE stored SET size = NULL, sha256 = NULL, chain = NULL, content = NULL WHERE operation <> 'delete'$$);
CALL damaged($$UPDATE tfstate_internal.stored_version SET lockid = 'tf.states/v' WHERE lockid = 'tf.states/w' AND number < 3$$);
DROP PROCEDURE damaged;

-- A call that needs an unreadable version raises an error that names it; other calls work.
BEGIN;
UPDATE stored SET content = set_byte(content, 20, 255 - get_byte(content, 20)) WHERE number = 4;
CALL fails($$SELECT tfstate_version('tf.states/w', 5)$$);
CALL fails($$SELECT tfstate_rollback('tf.states/w', 6)$$);
CALL fails($$SELECT * FROM tfstate_diff('tf.states/w', 5, 9)$$);
SELECT tfstate_rollback('tf.states/w', 3);
SELECT replace(data, '"serial": 11', '"serial": 3') = state(3) AS equal FROM tf.states WHERE name = 'w';
SELECT * FROM tfstate_verify(versions => true);
ROLLBACK;
-- Undelete needs the version before the deletion.
BEGIN;
DELETE FROM tf.states WHERE name = 'w';
UPDATE stored SET content = NULL WHERE number = 10;
CALL fails($$SELECT tfstate_undelete('tf.states/w')$$);
SELECT tfstate_rollback('tf.states/w', 9);
ROLLBACK;

-- Writes after a damaged version succeed, but depend on it, until tfstate_repair() stores the newest
-- version in full.
BEGIN;
UPDATE stored SET content = set_byte(content, 20, 255 - get_byte(content, 20)) WHERE number = 10;
UPDATE tf.states SET data = state(11) WHERE name = 'w';
UPDATE tf.states SET data = state(12) WHERE name = 'w';
SELECT * FROM tfstate_verify(versions => true);
SELECT tfstate_repair('tf.states/w');
UPDATE tf.states SET data = state(13) WHERE name = 'w';
SELECT number, chain FROM stored WHERE number > 10 ORDER BY 1;
SELECT number, tfstate_version('tf.states/w', number) = state(number) AS equal FROM stored WHERE number > 11 ORDER BY 1;
SELECT * FROM tfstate_verify(versions => true);
ROLLBACK;
-- The same if the digest is damaged, and if the newest version is missing.
BEGIN;
UPDATE stored SET sha256 = sha256('') WHERE number = 10;
SELECT * FROM tfstate_verify(versions => true);
SELECT tfstate_repair('tf.states/w');
SELECT * FROM tfstate_verify(versions => true);
UPDATE tf.states SET data = state(12) WHERE name = 'w';
SELECT number, operation, chain FROM stored WHERE number > 9 ORDER BY 1;
ROLLBACK;
BEGIN;
DELETE FROM stored WHERE number > 8;
UPDATE tf.states SET data = state(11) WHERE name = 'w';
SELECT number, operation, serial, chain FROM stored WHERE number > 7 ORDER BY 1;
SELECT * FROM tfstate_verify(versions => true);
ROLLBACK;
-- And if the length of the chain is wrong.
BEGIN;
UPDATE stored SET chain = 2147483647 WHERE number = 10;
UPDATE tf.states SET data = state(11) WHERE name = 'w';
UPDATE tf.states SET data = state(12) WHERE name = 'w';
SELECT number, chain FROM stored WHERE number > 9 ORDER BY 1;
SELECT * FROM tfstate_verify(versions => true);
ROLLBACK;

-- tfstate_prune() keeps everything if the oldest version to be kept is damaged: it may be repairable.
BEGIN;
UPDATE stored SET content = set_byte(content, 20, 255 - get_byte(content, 20)) WHERE number = 5;
SELECT tfstate_prune('tf.states/w', 5);
SELECT tfstate_prune('tf.states/w', 6);
SELECT tfstate_prune('tf.states/w', 7);
SELECT * FROM tfstate_verify(versions => true);
SELECT tfstate_prune('tf.states/w', 3);
SELECT * FROM tfstate_verify(versions => true);
ROLLBACK;
-- Missing versions do not count.
BEGIN;
DELETE FROM stored WHERE number IN (3, 9);
SELECT tfstate_prune('tf.states/w', 4);
SELECT number FROM stored ORDER BY 1;
ROLLBACK;

-- Whatever is done to the rows, a version is what was written, or an error.
CREATE PROCEDURE damage(kind integer, n bigint) LANGUAGE plpgsql AS $$
BEGIN
	CASE kind
		WHEN 0, 1, 2, 3 THEN
			UPDATE stored SET content = set_byte(content, floor(random() * octet_length(content))::integer, floor(random() * 256)::integer) WHERE number = n AND content <> '';
		WHEN 4 THEN UPDATE stored SET content = substr(content, 1, floor(random() * octet_length(content))::integer) WHERE number = n;
		WHEN 5 THEN UPDATE stored SET content = content || set_byte('\x00', 0, floor(random() * 256)::integer) WHERE number = n AND content <> '';
		WHEN 6 THEN UPDATE stored SET content = substr(content, 2) WHERE number = n;
		WHEN 7 THEN UPDATE stored SET content = (SELECT content FROM stored WHERE operation <> 'delete' ORDER BY random() LIMIT 1) WHERE number = n;
		WHEN 8 THEN UPDATE stored SET chain = floor(random() * 5) - 1 WHERE number = n;
		WHEN 9 THEN UPDATE stored SET size = greatest(0, size + floor(random() * 5) - 2) WHERE number = n;
		WHEN 10 THEN UPDATE stored SET size = floor(random() * 2000000) WHERE number = n;
		WHEN 11 THEN UPDATE stored SET sha256 = set_byte(sha256, floor(random() * 32)::integer, floor(random() * 256)::integer) WHERE number = n AND content <> '';
		WHEN 12 THEN DELETE FROM stored WHERE number = n;
		WHEN 13 THEN UPDATE stored s SET (content, chain, size) = (SELECT content, chain, size FROM stored o ORDER BY random() LIMIT 1) WHERE number = n;
		ELSE UPDATE stored SET number = number + 20 WHERE number = n AND n <= 10;
	END CASE;
END;
$$;
SET tfstate.max_session_locks = 10000;
DO $$
DECLARE
	broken integer := 0;
	intact integer := 0;
	verified text;
	failed text;
	t text;
	n bigint;
BEGIN
	PERFORM setseed(0.5);
	FOR i IN 1..2000 LOOP
		BEGIN
			FOR j IN 1..1 + floor(random() * 2) LOOP
				CALL damage(floor(random() * 15)::integer, 1 + floor(random() * 10)::bigint);
			END LOOP;
			failed := '';
			FOR n IN SELECT number FROM stored ORDER BY 1 LOOP
				BEGIN
					t := tfstate_version('tf.states/w', n);
					ASSERT t IN (state(n), state(n - 20)), format('%s: version %s', i, n);
					intact := intact + 1;
				EXCEPTION
					WHEN data_corrupted THEN
						broken := broken + 1;
						failed := failed || n || ' ';
					WHEN object_not_in_prerequisite_state THEN
						NULL;	-- a deletion
				END;
			END LOOP;
			SELECT coalesce(string_agg(version || ' ', '' ORDER BY version), '') INTO verified
			  FROM tfstate_internal.verify_workspace('tf.states/w', true, true) JOIN stored ON number = version
			 WHERE problem LIKE '%damaged%' AND operation <> 'delete';
			-- verify reports exactly that
			ASSERT failed = verified, format('%s: failed %s, verified %s', i, failed, verified);
			-- writes still work
			PERFORM tfstate_lock('tf.states/w');
			UPDATE tf.states SET data = state(40) WHERE name = 'w';
			PERFORM tfstate_unlock('tf.states/w');
			PERFORM tfstate_repair('tf.states/w');
			ASSERT tfstate_version('tf.states/w', (SELECT max(number) FROM stored)) = state(40);
			RAISE EXCEPTION USING ERRCODE = 'UNDO0';
		EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
			NULL;
		END;
	END LOOP;
	RAISE INFO 'some are broken: %, some are not: %', broken > 2000, intact > 2000;
END;
$$;
SELECT * FROM tfstate_verify(versions => true);

DROP VIEW stored CASCADE;
DROP EXTENSION tfstate CASCADE;
DROP SCHEMA tf CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP FUNCTION state;
DROP PROCEDURE damage;
DROP PROCEDURE fails;
DROP FUNCTION masked;
