-- Erasing versions for good.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SET timezone = 'UTC';
SET tfstate.who = 'alice@laptop';
-- States of which each is stored as a small delta to the one before
CREATE FUNCTION state(serial integer) RETURNS text LANGUAGE sql AS
$$ SELECT json_build_object('serial', serial, 'lineage', 'a', 'secret', 'word' || serial,
							'resources', (SELECT json_agg(json_build_object('mode', 'managed', 'type', 't', 'name', md5(n::text)))
											FROM generate_series(1, 200) n))::text $$;
CREATE PROCEDURE write(workspace text, serial integer) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM tfstate_lock(workspace);
	EXECUTE format('INSERT INTO tf.states (name, data) VALUES (%L, %L) ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data',
				   split_part(workspace, '/', 2), state(serial));
	PERFORM tfstate_unlock(workspace);
END;
$$;
-- Whether each version can still be read as it was written.
CREATE FUNCTION readable(workspace text, OUT number bigint, OUT serial bigint, OUT chain integer, OUT result text)
RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
	FOR number, serial, chain IN
		SELECT v.number, v.serial, v.chain FROM tfstate_internal.stored_version v WHERE v.lockid = workspace ORDER BY v.number
	LOOP
		BEGIN
			result := CASE tfstate_version(workspace, number) WHEN state(serial::integer) THEN 'as written' ELSE 'another' END;
		EXCEPTION WHEN OTHERS THEN
			result := masked(SQLSTATE || ': ' || SQLERRM);
		END;
		RETURN NEXT;
	END LOOP;
END;
$$;
CREATE ROLE regress_tfstate_user;
SELECT FROM tfstate_attach('tf') \g /dev/null
DO $$ BEGIN FOR serial IN 1 .. 8 LOOP CALL write('tf.states/prod', serial); END LOOP; END $$;
SELECT * FROM readable('tf.states/prod');

-- Some versions: those that depend on them stay readable.
SELECT tfstate_erase('tf.states/prod', '{3, 1, 4, 3}', 'leaked key');
SELECT * FROM readable('tf.states/prod');
SELECT number, serial, size > 0 AS size, stored, sha256, md5, erased_at <= now() AS erased_at, masked(erased_by) AS erased_by,
	   erase_reason
  FROM tfstate_versions('tf.states/prod') WHERE erased_at IS NOT NULL ORDER BY number;
SELECT count(*) FROM tfstate_internal.stored_version WHERE erased_at IS NOT NULL AND content IS NOT NULL;
SELECT * FROM tfstate_verify('tf.states/prod', true);
-- Nobody gets them back.
CALL fails($$SELECT tfstate_rollback('tf.states/prod', 3)$$);
CALL fails($$SELECT tfstate_diff('tf.states/prod', 3, 5)$$);
CALL fails($$SELECT tfstate_version('tf.states/prod', 1)$$);
SELECT tfstate_rollback('tf.states/prod', 2);
-- Once more, and nothing
SELECT tfstate_erase('tf.states/prod', '{3}', 'again'), tfstate_erase('tf.states/prod', '{}', repeat('x', 1024));
SELECT erase_reason FROM tfstate_versions('tf.states/prod') WHERE number = 3;

-- The current state stays; it can be erased when another one was written.
CALL fails($$SELECT tfstate_erase('tf.states/prod', '{2, 9}', 'current')$$);
SELECT tfstate_erase('tf.states/prod', NULL, 'all');
SELECT * FROM readable('tf.states/prod');
CALL write('tf.states/prod', 20);
CALL write('tf.states/prod', 21);
SELECT tfstate_erase('tf.states/prod', '{9}', 'now');
SELECT number, serial, result FROM readable('tf.states/prod') WHERE number > 8;
SELECT * FROM tfstate_verify('tf.states/prod', true);

-- Pruning, and what is found in the table
SELECT tfstate_prune('tf.states/prod', 3, '0');
SELECT number, result FROM readable('tf.states/prod');
SET session_replication_role = replica;
UPDATE tf.states SET data = state(30) WHERE name = 'prod';
RESET session_replication_role;
CALL write('tf.states/prod', 31);
SELECT tfstate_erase('tf.states/prod', '{12}', 'found');
SELECT number, serial, result FROM readable('tf.states/prod');
SELECT * FROM tfstate_verify('tf.states/prod', true);

-- A dead project: the workspace is deleted, and then everything goes.
SELECT count(tfstate_lock('tf.states/prod'));
DELETE FROM tf.states WHERE name = 'prod';
SELECT count(tfstate_unlock('tf.states/prod'));
SELECT tfstate_erase('tf.states/prod', NULL, 'project is over');
SELECT number, serial, result FROM readable('tf.states/prod');
CALL fails($$SELECT tfstate_undelete('tf.states/prod')$$);
SELECT * FROM tfstate_verify('tf.states/prod', true);
SELECT count(*) FROM tfstate_internal.stored_version WHERE lockid = 'tf.states/prod' AND content IS NOT NULL;
-- It can be made anew.
CALL write('tf.states/prod', 1);
SELECT operation, result FROM readable('tf.states/prod') r JOIN tfstate_versions v USING (number)
 WHERE v.workspace = 'tf.states/prod' ORDER BY number DESC LIMIT 1;
-- A table that is detached has no current state.
SELECT tfstate_detach('tf');
SELECT tfstate_erase('tf.states/prod', NULL, 'detached');
SELECT * FROM tfstate_verify('tf.states/prod', true);
SELECT FROM tfstate_attach('tf') \g /dev/null
SELECT operation, result FROM readable('tf.states/prod') r JOIN tfstate_versions v USING (number)
 WHERE v.workspace = 'tf.states/prod' ORDER BY number DESC LIMIT 2;

-- A version that is damaged, and depends on one that goes
DO $$ BEGIN FOR serial IN 1 .. 4 LOOP CALL write('tf.states/bad', serial); END LOOP; END $$;
UPDATE tfstate_internal.stored_version SET content = substr(content, 1, 10) WHERE lockid = 'tf.states/bad' AND number = 3;
CALL fails($$SELECT tfstate_erase('tf.states/bad', '{2}', 'damaged')$$);
SELECT count(*) FROM tfstate_versions('tf.states/bad') WHERE erased_at IS NOT NULL;
CALL fails($$SELECT tfstate_erase('tf.states/bad', '{2,3}', 'damaged')$$);
SELECT tfstate_repair('tf.states/bad');
SELECT tfstate_erase('tf.states/bad', '{2,3}', 'damaged');
SELECT number, result FROM readable('tf.states/bad');

-- A rollback erases nothing.
BEGIN;
SELECT tfstate_erase('tf.states/bad', '{1}', 'no');
ROLLBACK;
SELECT number, result FROM readable('tf.states/bad') WHERE number = 1;

-- Who may
SELECT tfstate_grant('regress_tfstate_user', 'tf.*', privilege) FROM unnest('{lock,view,force}'::text[]) privilege;
GRANT USAGE ON SCHEMA tf TO regress_tfstate_user;
GRANT SELECT, INSERT, UPDATE, DELETE ON tf.states TO regress_tfstate_user;
SET ROLE regress_tfstate_user;
CALL fails($$SELECT tfstate_erase('tf.states/bad', '{1}', 'mine')$$);
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_user', 'tf.*', 'override');
SET ROLE regress_tfstate_user;
SELECT tfstate_erase('tf.states/bad', '{1}', E'mine\nand yours');
CALL fails($$SELECT tfstate_version('tf.states/bad', 1)$$);
RESET ROLE;
SELECT erased_by FROM tfstate_versions('tf.states/bad') WHERE number = 1;

-- Wrong arguments
CALL fails($$SELECT tfstate_erase(NULL, NULL, 'x')$$);
CALL fails($$SELECT tfstate_erase('tf.states/bad', '{NULL}', 'x')$$);
CALL fails($$SELECT tfstate_erase('tf.states/bad', NULL, NULL)$$);
CALL fails($$SELECT tfstate_erase('tf.states/bad', NULL, '')$$);
CALL fails($$SELECT tfstate_erase('tf.states/bad', NULL, repeat('x', 1025))$$);
CALL fails($$SELECT tfstate_erase('tf.states/bad', '{1, 99}', 'x')$$);
CALL fails($$SELECT tfstate_erase('tf.states/none', NULL, 'x')$$);
CALL fails($$SELECT tfstate_erase('', NULL, 'x')$$);
BEGIN READ ONLY;
SELECT tfstate_erase('tf.states/bad', NULL, 'x');
ROLLBACK;

DROP SCHEMA tf CASCADE;
DROP SEQUENCE global_states_id_seq;
DROP EXTENSION tfstate CASCADE;
DROP FUNCTION state, masked, readable;
DROP PROCEDURE fails, write;
DROP ROLE regress_tfstate_user;
