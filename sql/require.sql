-- Writes without the lock, where the lock is required: the default of an attached table.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE EXTENSION tfstate;
SET tfstate.who = 'me';

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

-- A state with some resources.
CREATE FUNCTION state(serial bigint, resources integer DEFAULT 1) RETURNS text LANGUAGE sql
RETURN format('{"version": 4, "serial": %s, "lineage": "a", "outputs": {}, "resources": [%s]}',
			  serial, array_to_string(array_fill('{"instances": [{}]}'::text, ARRAY[resources]), ','));
-- Creates a workspace with the guard off.
CREATE PROCEDURE makes(workspace text, content text) LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL tfstate.guard = off;
	DELETE FROM tf.states WHERE name = workspace;
	INSERT INTO tf.states (name, data) VALUES (workspace, content);
	SET LOCAL tfstate.guard = on;
END;
$$;

SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'states');
SELECT guard FROM tfstate_internal.attached_table;
CREATE VIEW held AS SELECT lockid, operation, mode FROM tfstate_holders ORDER BY lockid;
CALL makes('a', state(1));

--
-- Refused without the lock, by any statement
--
CALL fails($$UPDATE tf.states SET data = state(2) WHERE name = 'a'$$);
CALL fails($$INSERT INTO tf.states (name, data) VALUES ('n', state(1))$$);
CALL fails($$INSERT INTO tf.states (name, data) VALUES ('a', state(2)) ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data$$);
CALL fails($$UPDATE tf.states SET name = 'b' WHERE name = 'a'$$);
CALL fails($$DELETE FROM tf.states WHERE name = 'a'$$);
CALL fails($$TRUNCATE tf.states$$);
CALL fails($$MERGE INTO tf.states USING (VALUES (1)) v ON name = 'a' WHEN MATCHED THEN DELETE$$);
-- Trying again with another serial does not help.
CALL fails($$UPDATE tf.states SET data = state(3) WHERE name = 'a'$$);
-- The lock of another workspace does not count.
SELECT id FROM tfstate_lock('tf.states/b', '{"ID": "1"}');
CALL fails($$UPDATE tf.states SET data = state(2) WHERE name = 'a'$$);
SELECT tfstate_unlock('tf.states/b') ->> 'ID' AS unlocked;
-- With the lock, all statements succeed.
SELECT id FROM tfstate_lock('tf.states/a', '{"ID": "1"}');
UPDATE tf.states SET data = state(2) WHERE name = 'a';
DELETE FROM tf.states WHERE name = 'a';
INSERT INTO tf.states (name, data) VALUES ('a', state(3));
SELECT tfstate_unlock('tf.states/a') ->> 'ID' AS unlocked;
CALL fails($$UPDATE tf.states SET data = state(4) WHERE name = 'a'$$);
-- A session can ask for less only with the guard off.
SET tfstate.guard = on;
CALL fails($$UPDATE tf.states SET data = state(4) WHERE name = 'a'$$);
SET tfstate.guard = off;
UPDATE tf.states SET data = state(4) WHERE name = 'a';
RESET tfstate.guard;
-- The administrator of a table can ask for less; what is not named stays.
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'states', guard => 'on');
UPDATE tf.states SET data = state(5) WHERE name = 'a';
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'states');
UPDATE tf.states SET data = state(6) WHERE name = 'a';
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'states', guard => 'off');
UPDATE tf.states SET data = state(7) WHERE name = 'a';
CALL fails($$UPDATE tf.states SET data = state(7, 2) WHERE name = 'a'$$);
SELECT guard FROM tfstate_internal.attached_table;
\set VERBOSITY terse
UPDATE tfstate_internal.attached_table SET guard = NULL;
\set VERBOSITY default
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'states', guard => 'require');

--
-- Deletion of a state without resources, which loses nothing
--
CALL makes('e', state(1, 0));
SELECT id FROM tfstate_lock('tf.states/e', '{"ID": "1", "Who": "alice@laptop"}');
SELECT pg_advisory_unlock_all();
CALL fails($$DELETE FROM tf.states WHERE name = 'e'$$);
SELECT tfstate_unlock('tf.states/e', '1') ->> 'ID' AS unlocked;
DELETE FROM tf.states WHERE name = 'e';
SELECT number, operation, resources FROM tfstate_versions('tf.states/e') ORDER BY number;
CALL makes('e', '{"serial": 1, "lineage": "a", "outputs": {"o": {"value": 1}}, "resources": []}');
DELETE FROM tf.states WHERE name = 'e';
-- States with resources, or with what may be some
CREATE PROCEDURE keeps(content text) LANGUAGE plpgsql AS $$
BEGIN
	CALL makes('e', content);
	CALL fails('DELETE FROM tf.states WHERE name = ''e''');
END;
$$;
CALL keeps(state(1, 1));
CALL keeps('{"serial": 1, "lineage": "a", "resources": [{"instances": []}]}');
CALL keeps('{"serial": 1, "lineage": "a", "encrypted_data": "eHh4", "encryption_version": "v0"}');
CALL keeps('{"version": 3, "serial": 1, "lineage": "a", "modules": [{"path": ["root"], "outputs": {}, "resources": {"t.n": {}}}]}');
CALL keeps('no state at all');
CALL keeps('{"serial": 1, "lineage": "a", "resources": []');
CALL keeps('');

--
-- workspace delete: unlock, then DELETE
--
SET search_path = tfstate_pg, pg_catalog, public;
CREATE PROCEDURE public.unlocked(workspace text) LANGUAGE plpgsql AS $$
DECLARE
	key bigint;
BEGIN
	CALL public.makes(workspace, public.state(1));
	SELECT id INTO key FROM tf.states WHERE name = workspace;
	PERFORM pg_try_advisory_lock(key), pg_try_advisory_lock(-1);
	PERFORM pg_advisory_unlock(-1);
	PERFORM pg_advisory_unlock(key);
END;
$$;
CALL unlocked('d');
DELETE FROM tf.states WHERE name = 'd';
SELECT number, operation, serial FROM tfstate_versions('tf.states/d') ORDER BY number DESC LIMIT 1;
-- This counts for that workspace only, and for its last lock only.
CALL unlocked('d');
CALL fails($$DELETE FROM tf.states WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET data = state(2) WHERE name = 'd'$$);
CALL unlocked('d2');
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
DELETE FROM tf.states WHERE name = 'd2';
-- Another session has written in between: under a lock of tfstate, ...
CALL unlocked('d');
SET tfstate.who = 'bob@laptop';
SELECT id FROM tfstate_lock('tf.states/d', '{"ID": "2"}');
UPDATE tf.states SET data = state(2) WHERE name = 'd';
SELECT tfstate_unlock('tf.states/d') ->> 'ID' AS unlocked;
SET tfstate.who = 'me';
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
-- ... or as a Terraform without tfstate.
CALL unlocked('d');
SELECT pg_catalog.pg_try_advisory_lock(id) FROM tf.states WHERE name = 'd';
UPDATE tf.states SET data = state(2) WHERE name = 'd';
SELECT pg_catalog.pg_advisory_unlock(id) FROM tf.states WHERE name = 'd';
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
-- Another session has had the lock without writing, or holds it.
CALL unlocked('d');
SELECT id FROM tfstate_lock('tf.states/d', '{"ID": "3", "Who": "alice@laptop"}');
SELECT tfstate_unlock('tf.states/d') ->> 'ID' AS unlocked;
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
CALL unlocked('d');
SELECT id FROM tfstate_lock('tf.states/d', '{"ID": "4", "Who": "alice@laptop"}');
SELECT pg_advisory_unlock_all();
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
SELECT tfstate_unlock('tf.states/d', '4') ->> 'ID' AS unlocked;
-- The unlock was rolled back, and then the lock was released by force.
CALL makes('d', state(1));
SELECT id AS d FROM tf.states WHERE name = 'd' \gset
SET tfstate.run_id = '11111111-1111-4111-8111-111111111111';
SET tfstate.mode = durable;
SELECT pg_try_advisory_lock(:d);
BEGIN;
SELECT pg_advisory_unlock(:d);
ROLLBACK;
SELECT tfstate_force_unlock('tf.states/d') ->> 'Path' AS released;
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
RESET tfstate.mode;
RESET tfstate.run_id;

-- Behind a pooler a run unlocks in one session and deletes in another: the history proves it, ...
SET tfstate.run_id = '11111111-1111-4111-8111-111111111111';
CALL unlocked('d');
SELECT pg_advisory_unlock_all();
DELETE FROM tf.states WHERE name = 'd';
CALL unlocked('d');
SELECT pg_advisory_unlock_all();
-- ... for that run's lock only, ...
SET tfstate.run_id = '22222222-2222-4222-8222-222222222222';
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
RESET tfstate.run_id;
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
-- ... if nothing was written since, ...
SELECT pg_catalog.pg_try_advisory_lock(id) FROM tf.states WHERE name = 'd';
UPDATE tf.states SET data = state(2) WHERE name = 'd';
SELECT pg_catalog.pg_advisory_unlock(id) FROM tf.states WHERE name = 'd';
SET tfstate.run_id = '11111111-1111-4111-8111-111111111111';
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
CALL unlocked('d');
SELECT pg_advisory_unlock_all();
SET tfstate.run_id = '22222222-2222-4222-8222-222222222222';
SELECT id FROM tfstate_lock('tf.states/d', '{"ID": "5"}');
UPDATE tf.states SET data = state(2) WHERE name = 'd';
SELECT tfstate_unlock('tf.states/d') ->> 'ID' AS unlocked;
SET tfstate.run_id = '11111111-1111-4111-8111-111111111111';
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
-- ... and the lock was not taken since.
CALL unlocked('d');
SELECT pg_advisory_unlock_all();
SET tfstate.run_id = '22222222-2222-4222-8222-222222222222';
SELECT id FROM tfstate_lock('tf.states/d', '{"ID": "5"}');
SELECT tfstate_unlock('tf.states/d') ->> 'ID' AS unlocked;
SET tfstate.run_id = '11111111-1111-4111-8111-111111111111';
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
RESET tfstate.run_id;

-- What the session remembers ends with DISCARD ALL, ...
CALL unlocked('d');
DISCARD ALL;
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET tfstate.who = 'me';
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
-- ... with another name of the run, ...
SET search_path = tfstate_pg, pg_catalog, public;
CALL unlocked('d');
SET tfstate.run_id = '11111111-1111-4111-8111-111111111111';
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
RESET tfstate.run_id;
-- ... and with another role.
CREATE ROLE regress_tfstate_user;
CREATE ROLE regress_tfstate_other;
GRANT USAGE ON SCHEMA tf TO regress_tfstate_user, regress_tfstate_other;
GRANT ALL ON tf.states TO regress_tfstate_user, regress_tfstate_other;
GRANT USAGE ON SEQUENCE public.global_states_id_seq TO regress_tfstate_user, regress_tfstate_other;
SELECT tfstate_grant('regress_tfstate_user', 'tf.states/*'), tfstate_grant('regress_tfstate_other', 'tf.states/*');
CALL makes('d', state(1));
SELECT id AS d FROM tf.states WHERE name = 'd' \gset
SET ROLE regress_tfstate_user;
SELECT pg_try_advisory_lock(:d);
SELECT pg_advisory_unlock(:d);
RESET ROLE;
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
SET ROLE regress_tfstate_other;
CALL fails($$DELETE FROM tf.states WHERE name = 'd'$$);
SET ROLE regress_tfstate_user;
DELETE FROM tf.states WHERE name = 'd';
RESET ROLE;
RESET search_path;

--
-- A session that writes without the lock must have the privilege to take it
--
SELECT tfstate_revoke('regress_tfstate_user', 'tf.states/*'), tfstate_grant('regress_tfstate_user', 'tf.states/dev*');
CALL makes('dev', state(1, 0));
CALL makes('prod', state(1, 0));
SELECT id AS dev FROM tf.states WHERE name = 'dev' \gset
SELECT id AS prod FROM tf.states WHERE name = 'prod' \gset
SET ROLE regress_tfstate_user;
-- a state without resources, and one locked as a Terraform without tfstate locks it
CALL fails($$DELETE FROM tf.states WHERE name = 'prod'$$);
SELECT pg_try_advisory_lock(:prod), pg_try_advisory_lock(:dev);
CALL fails($$UPDATE tf.states SET data = state(2) WHERE name = 'prod'$$);
CALL fails($$DELETE FROM tf.states WHERE name = 'prod'$$);
CALL fails($$UPDATE tf.states SET name = 'dev2' WHERE name = 'prod'$$);
CALL fails($$UPDATE tf.states SET name = 'prod2' WHERE name = 'dev'$$);
UPDATE tf.states SET data = state(2, 0) WHERE name = 'dev';
SELECT pg_advisory_unlock(:prod), pg_advisory_unlock(:dev);
DELETE FROM tf.states WHERE name = 'dev';
-- nor is the role told who holds the lock
RESET ROLE;
SELECT id IS NOT NULL AS locked FROM tfstate_lock('tf.states/prod', '{"Who": "secret", "ID": "secret"}');
SET ROLE regress_tfstate_user;
CALL fails($$UPDATE tf.states SET data = state(2) WHERE name = 'prod'$$);
CALL fails($$DELETE FROM tf.states WHERE name = 'prod'$$);
SET tfstate.fence = 1;
CALL fails($$UPDATE tf.states SET data = state(2) WHERE name = 'prod'$$);
RESET tfstate.fence;
RESET ROLE;
SELECT tfstate_unlock('tf.states/prod', 'secret') IS NOT NULL AS unlocked;
SET ROLE regress_tfstate_user;
-- a new workspace, under the creation key
SELECT pg_try_advisory_lock(-1);
CALL fails($$INSERT INTO tf.states (name, data) VALUES ('prod2', state(1))$$);
INSERT INTO tf.states (name, data) VALUES ('dev2', state(1, 0));
SELECT pg_advisory_unlock(-1);
-- if the lock is not required
RESET ROLE;
UPDATE tfstate_internal.attached_table SET guard = 'on';
SET ROLE regress_tfstate_user;
CALL fails($$UPDATE tf.states SET data = state(2) WHERE name = 'prod'$$);
CALL fails($$INSERT INTO tf.states (name, data) VALUES ('prod2', state(1))$$);
CALL fails($$DELETE FROM tf.states WHERE name = 'prod'$$);
CALL fails($$TRUNCATE tf.states$$);
UPDATE tf.states SET data = state(2) WHERE name = 'dev2';
INSERT INTO tf.states (name, data) VALUES ('dev3', state(1));
DELETE FROM tf.states WHERE name = 'dev3';
RESET ROLE;
UPDATE tfstate_internal.attached_table SET guard = 'require';

--
-- A Terraform without tfstate that was refused once stays out, because it raises the serial with each attempt
--
SELECT id AS a FROM tf.states WHERE name = 'a' \gset
SELECT pg_try_advisory_lock(:a);
UPDATE tf.states SET data = state(8) WHERE name = 'a';
CALL fails($$UPDATE tf.states SET data = state(8, 2) WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET data = state(9, 2) WHERE name = 'a'$$);
SELECT pg_advisory_unlock(:a);
SELECT id FROM tfstate_lock('tf.states/a', '{"ID": "9"}');
UPDATE tf.states SET data = state(9, 2) WHERE name = 'a';
SELECT tfstate_unlock('tf.states/a') ->> 'ID' AS unlocked;

-- After a write, a lease that had expired before cannot be renewed.
SELECT id FROM tfstate_lock('tf.states/a', '{"ID": "10"}', ttl => '1 ms');
SELECT pg_advisory_unlock_all();
SELECT pg_sleep(0.01);
SELECT pg_try_advisory_lock(:a);
UPDATE tf.states SET data = state(10) WHERE name = 'a';
SELECT pg_advisory_unlock(:a);
CALL fails($$SELECT tfstate_renew('tf.states/a', '10', '1 h')$$);
SELECT how FROM tfstate_history('tf.states/a') WHERE id = '10';

--
-- A Terraform without tfstate that creates workspaces
--

-- workspace new, and a first apply: it holds the lock as long as it has the key.
SELECT pg_try_advisory_lock(-1);
INSERT INTO tf.states (name, data) VALUES ('w', state(1, 0));
TABLE held;
UPDATE tf.states SET data = state(2) WHERE name = 'w';
INSERT INTO tf.states (name, data) VALUES ('w', state(3)) ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data WHERE states.name = 'w';
SELECT number, serial, fence IS NOT NULL AS locked FROM tfstate_versions('tf.states/w') ORDER BY number;
CALL fails($$SELECT tfstate_lock('tf.states/w')$$);
CALL fails($$UPDATE tf.states SET data = state(8) WHERE name = 'a'$$);
-- It does not know of that lock, and unlocks its key.
SELECT pg_advisory_unlock(-1);
TABLE held;
CALL fails($$UPDATE tf.states SET data = state(4) WHERE name = 'w'$$);
SELECT id FROM tfstate_lock('tf.states/w', '{"ID": "5"}');
SELECT tfstate_unlock('tf.states/w') ->> 'ID' AS unlocked;
SELECT how, mode, operation FROM tfstate_history('tf.states/w') ORDER BY fence;
SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory' AND objsubid <> 29799 AND pid = pg_backend_pid();
-- The next workspace ends what is left of the first one's lock ...
SELECT pg_try_advisory_lock(-1);
INSERT INTO tf.states (name, data) VALUES ('w2', state(1));
INSERT INTO tf.states (name, data) VALUES ('w3', state(1));
TABLE held;
CALL fails($$UPDATE tf.states SET data = state(2) WHERE name = 'w2'$$);
SELECT pg_advisory_unlock(-1);
-- ... and so does another session's write, even if the creator takes the key again.
SELECT id AS w3 FROM tf.states WHERE name = 'w3' \gset
SELECT pg_try_advisory_lock(:w3);
UPDATE tf.states SET data = state(2) WHERE name = 'w3';
SELECT pg_advisory_unlock(:w3);
SELECT pg_try_advisory_lock(-1);
TABLE held;
CALL fails($$UPDATE tf.states SET data = state(3) WHERE name = 'w3'$$);
CALL fails($$DELETE FROM tf.states WHERE name = 'w3'$$);
SELECT pg_advisory_unlock(-1);
-- OpenTofu 1.10 has a key for each table; that of another table, terraform_remote_state.states here, does not count.
SELECT pg_try_advisory_lock(-788592755);
INSERT INTO tf.states (name, data) VALUES ('w4', state(1));
TABLE held;
SELECT pg_advisory_unlock(-788592755);
TABLE held;
SELECT pg_try_advisory_lock(-3797183428);
CALL fails($$INSERT INTO tf.states (name, data) VALUES ('w5', state(1))$$);
SELECT pg_advisory_unlock(-3797183428);
-- Another session holds the lock of the name.
SELECT id FROM tfstate_lock('tf.states/frozen', '{"ID": "6", "Who": "alice@laptop", "Info": "frozen for the audit"}');
SELECT pg_try_advisory_lock(-1);
CALL fails($$INSERT INTO tf.states (name, data) VALUES ('frozen', state(1))$$);
-- A creation that is rolled back has no effect.
BEGIN;
INSERT INTO tf.states (name, data) VALUES ('w5', state(1));
ROLLBACK;
TABLE held;
SELECT pg_advisory_unlock(-1);
SELECT tfstate_unlock('tf.states/frozen') ->> 'ID' AS unlocked;
-- An administrator can end the lock, and DISCARD ALL does.
SELECT pg_try_advisory_lock(-1);
INSERT INTO tf.states (name, data) VALUES ('w5', state(1));
SELECT tfstate_force_unlock('tf.states/w5') ->> 'Path' AS released;
CALL fails($$UPDATE tf.states SET data = state(2) WHERE name = 'w5'$$);
INSERT INTO tf.states (name, data) VALUES ('w6', state(1));
TABLE held;
DISCARD ALL;
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET tfstate.who = 'me';
TABLE held;

--
-- A run with a name that has lost its lock stays out even if the lock is not required
--
UPDATE tfstate_internal.attached_table SET guard = 'on';
SET search_path = tfstate_pg, pg_catalog, public;
SET tfstate.run_id = '11111111-1111-4111-8111-111111111111';
SET tfstate.mode = durable;
SELECT id AS a FROM tf.states WHERE name = 'a' \gset
SELECT pg_try_advisory_lock(:a);
SELECT tfstate_force_unlock('tf.states/a') ->> 'Path' AS released;
CALL fails($$UPDATE tf.states SET data = state(11) WHERE name = 'a'$$);
CALL fails($$UPDATE tf.states SET data = state(12) WHERE name = 'a'$$);
-- Others are not affected, nor is the run after it has locked again and unlocked.
SET tfstate.run_id = '22222222-2222-4222-8222-222222222222';
UPDATE tf.states SET data = state(11) WHERE name = 'a';
SET tfstate.run_id = '11111111-1111-4111-8111-111111111111';
CALL fails($$UPDATE tf.states SET data = state(12) WHERE name = 'a'$$);
SELECT pg_try_advisory_lock(:a);
UPDATE tf.states SET data = state(12) WHERE name = 'a';
SELECT pg_advisory_unlock(:a);
UPDATE tf.states SET data = state(13) WHERE name = 'a';
-- The end of its session or of a lease is not an unlock, either.
SET tfstate.mode = session;
SELECT pg_try_advisory_lock(:a);
SELECT pg_advisory_unlock_all();
CALL fails($$UPDATE tf.states SET data = state(14) WHERE name = 'a'$$);
SELECT id FROM tfstate_lock('tf.states/a', '{"ID": "7"}', ttl => '1 ms');
SELECT pg_sleep(0.01);
CALL fails($$UPDATE tf.states SET data = state(14) WHERE name = 'a'$$);
RESET tfstate.run_id;
RESET tfstate.mode;
RESET search_path;

SET client_min_messages = error;
DROP VIEW held;
DROP EXTENSION tfstate CASCADE;
DROP SCHEMA tf CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP ROLE regress_tfstate_user, regress_tfstate_other;
DROP FUNCTION state, masked;
DROP PROCEDURE makes, keeps, unlocked, fails;
