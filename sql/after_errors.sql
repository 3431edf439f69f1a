-- A call that is refused, fails or times out in an open transaction leaves nothing behind in the
-- lock manager, the tables, the views or the session.  It is refused again in the same way, and
-- so is what was refused before it.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;
SET search_path = tfstate_pg, pg_catalog, public;
DO $$ BEGIN
	PERFORM tfstate_attach('tf', 'states', guard => 'require'), tfstate_attach('tg', 'states', guard => 'require');
END $$;

CREATE FUNCTION state(serial integer, lineage text DEFAULT 'a') RETURNS text LANGUAGE sql AS $$
SELECT json_build_object('serial', serial, 'lineage', lineage, 'resources',
	'[{"mode": "managed", "type": "t", "name": "n", "instances": [{}]}]'::json)::text
$$;

-- All state, except the session tag.
CREATE FUNCTION picture() RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(E'\n',
	(SELECT string_agg(l::text, ' ' ORDER BY l) FROM (
		SELECT locktype, classid, objid, objsubid, mode, granted FROM pg_locks
		 WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid <> 29799) l),
	(SELECT string_agg(concat(h.lockid, h.id, h.mode, h.fence, h.waiters), ' ' ORDER BY h.lockid)
	   FROM tfstate_holders h),
	(SELECT string_agg(w::text, ' ') FROM tfstate_waiters w),
	(SELECT count(*) FROM tfstate_history),
	(SELECT md5(string_agg(s::text, ' ' ORDER BY id)) FROM tf.states s),
	(SELECT md5(string_agg(v::text, ' ' ORDER BY lockid, number)) FROM tfstate_internal.stored_version v),
	(SELECT string_agg(t::text, ' ' ORDER BY relid) FROM tfstate_internal.attached_table t),
	(SELECT string_agg(g::text, ' ' ORDER BY role, pattern, privilege) FROM tfstate_grants g),
	(SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_trigger), (SELECT count(*) FROM pg_roles),
	(SELECT string_agg(concat(name, setting), ' ' ORDER BY name) FROM pg_settings
	  WHERE name ~ '^tfstate[.]' OR name IN ('synchronous_commit', 'lock_timeout', 'search_path')))
$$;
-- The result of a statement with some settings, which an error undoes.
CREATE FUNCTION outcome(statement text, VARIADIC settings text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. cardinality(settings) LOOP
		EXECUTE 'SET LOCAL ' || settings[i];
	END LOOP;
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN others THEN
	RETURN SQLSTATE;
END;
$$;
-- Shows the result of a statement, and its traces, if any.
CREATE PROCEDURE refused(statement text, VARIADIC settings text[] DEFAULT '{}') LANGUAGE plpgsql AS $$
DECLARE
	before text := picture();
	code text := outcome(statement, VARIADIC settings);
	again text;
BEGIN
	RAISE INFO '%: %', code, concat_ws('; ', VARIADIC settings || statement);
	IF code = 'done' THEN
		RETURN;
	END IF;
	IF picture() <> before THEN
		RAISE INFO E'before: %\nafter: %', before, picture();
	END IF;
	again := outcome(statement, VARIADIC settings);
	IF again <> code THEN
		RAISE INFO 'the second time: %', again;
	END IF;
	-- its lock is free, and it is not the next serial: refused as always
	again := outcome($s$UPDATE tf.states SET data = state(1) WHERE name = 'free'$s$) ||
			 outcome($s$UPDATE tf.states SET data = state(9) WHERE name = 'free'$s$);
	IF again <> '5500055000' THEN
		RAISE INFO 'then: %', again;
	END IF;
	-- under the lock the serial counts
	again := outcome($s$DO $d$ BEGIN
		PERFORM tfstate_lock('tf.states/free');
		UPDATE tf.states SET data = state(1) WHERE name = 'free';
	END $d$ $s$);
	IF again <> '55000' THEN
		RAISE INFO 'then, with the lock: %', again;
	END IF;
	again := outcome('SELECT tfstate_lock(''tf.states/held'')');
	IF again <> '55P03' THEN
		RAISE INFO 'then, the lock: %', again;
	END IF;
END;
$$;

SET tfstate.guard = off;
INSERT INTO tf.states (name, data) VALUES ('free', state(1)), ('held', state(1)), ('gone', state(1)), ('odd', '[]');
UPDATE tf.states SET data = state(2) WHERE name <> 'odd';
DELETE FROM tf.states WHERE name = 'gone';
INSERT INTO tg.states (id, name, data) SELECT id, 'twin', data FROM tf.states WHERE name = 'odd';
RESET tfstate.guard;
CREATE ROLE regress_tfstate_nobody;
CREATE ROLE regress_tfstate_locker;
GRANT USAGE ON SCHEMA tf TO regress_tfstate_nobody, regress_tfstate_locker;
GRANT ALL ON tf.states TO regress_tfstate_nobody, regress_tfstate_locker;
GRANT ALL ON SEQUENCE public.global_states_id_seq TO regress_tfstate_nobody, regress_tfstate_locker;
SELECT tfstate_grant('regress_tfstate_locker', 'tf.states/*');

-- Another run holds a lock, and the creation key.
SET application_name = 'tfstate-run:00000001-0000-4000-8000-000000000000';
SELECT id FROM tfstate_lock('tf.states/held', '{"ID": "h"}');
SELECT id FROM tfstate_lock('tfstate_pg/new workspace', '{"ID": "c"}');
SET application_name = 'tfstate-run:00000002-0000-4000-8000-000000000000';
SELECT id AS held FROM tf.states WHERE name = 'held' \gset
SELECT id AS twin FROM tf.states WHERE name = 'odd' \gset

BEGIN;
-- The shim
CALL refused(format('SELECT pg_try_advisory_lock(%s)', :held));
CALL refused(format('SELECT pg_try_advisory_lock(%s)', :held), 'tfstate.mode = durable');
CALL refused(format('SELECT pg_try_advisory_lock(%s)', :held), 'tfstate.wait = 10');
CALL refused(format('SELECT pg_try_advisory_lock(%s)', :held), 'tfstate.wait = -1', 'lock_timeout = 10');
CALL refused(format('SELECT pg_try_advisory_lock(%s)', :held), 'tfstate.wait = 20', 'lock_timeout = 10');
CALL refused(format('SELECT pg_try_advisory_lock(%s)', :held), 'tfstate.wait = 10', 'lock_timeout = 20');
ROLLBACK;
BEGIN;
CALL refused('SELECT pg_try_advisory_lock(-1)');
CALL refused('SELECT pg_try_advisory_lock(-1)', 'tfstate.wait = 10');
CALL refused(format('SELECT pg_advisory_unlock(%s)', :held));
CALL refused(format('SELECT pg_try_advisory_lock(%s)', :twin));
CALL refused(format('SELECT pg_advisory_unlock(%s)', :twin));
CALL refused(format('SELECT pg_try_advisory_lock(%s)', :held), 'tfstate.run_id = ''no UUID''');
CALL refused(format('SELECT pg_try_advisory_lock(%s)', :held), 'tfstate.info = ''{"ID": 1}''');
ROLLBACK;
BEGIN;
CALL refused($$SELECT pg_try_advisory_lock(id) FROM tf.states WHERE name = 'free'$$,
			 'application_name = psql', 'tfstate.mode = durable');
CALL refused($$INSERT INTO tf.states (name, data) VALUES ('new', state(1))$$);
ROLLBACK;

-- A call that returns without an error has no savepoint that would undo it: waits that time out,
-- also with other time-outs, and a try.
CREATE PROCEDURE in_vain(statement text, VARIADIC settings text[] DEFAULT '{}') LANGUAGE plpgsql AS $$
DECLARE
	before text := picture();
	start timestamptz := clock_timestamp();
	locked boolean;
BEGIN
	FOR i IN 1 .. cardinality(settings) LOOP
		EXECUTE 'SET LOCAL ' || settings[i];
	END LOOP;
	EXECUTE statement INTO locked;
	RAISE INFO 'locked %, in time %: %', locked, clock_timestamp() - start < '5 s', statement;
	FOR i IN 1 .. cardinality(settings) LOOP
		EXECUTE 'RESET ' || split_part(settings[i], ' ', 1);
	END LOOP;
	IF picture() <> before THEN
		RAISE INFO E'before: %\nafter: %', before, picture();
	END IF;
END;
$$;
BEGIN;
CALL in_vain($$SELECT locked FROM tfstate_try_lock('tf.states/held')$$);
CALL in_vain($$SELECT locked FROM tfstate_try_lock('tf.states/held', wait => '10 ms')$$);
CALL in_vain($$SELECT locked FROM tfstate_try_lock('tf.states/held', mode => 'session', wait => '10 ms')$$);
CALL in_vain($$SELECT locked FROM tfstate_try_lock('tf.states/held', wait => '10 ms')$$, 'lock_timeout = 20000');
CALL in_vain($$SELECT locked FROM tfstate_try_lock('tf.states/held', mode => 'session', wait => '10 ms')$$,
			 'lock_timeout = 20000');
-- as after any other failed call
CALL in_vain($$SELECT locked FROM tfstate_try_lock('tf.states/held', wait => '10 ms')$$);
ROLLBACK;
DROP PROCEDURE in_vain;

-- The guard
BEGIN;
CALL refused($$UPDATE tf.states SET data = state(3) WHERE name = 'held'$$);
CALL refused($$UPDATE tf.states SET data = state(3) WHERE name = 'held'$$, 'tfstate.fence = 1000000');
CALL refused($$UPDATE tf.states SET data = state(3) WHERE name = 'free'$$, 'tfstate.fence = 1000000');
ROLLBACK;
BEGIN;
CALL refused($$DELETE FROM tf.states WHERE name = 'held'$$);
CALL refused($$DELETE FROM tf.states WHERE name = 'free'$$);
CALL refused($$UPDATE tf.states SET name = 'other' WHERE name = 'held'$$);
CALL refused($$UPDATE tf.states SET id = 1000 WHERE name = 'held'$$);
CALL refused('TRUNCATE tf.states');
SELECT id FROM tfstate_lock('tf.states/odd', '{"ID": "o"}');
CALL refused($$UPDATE tf.states SET data = NULL WHERE name = 'odd'$$);
CALL refused($$UPDATE tf.states SET data = '{"a": 1}' WHERE name = 'odd'$$);
CALL refused($$UPDATE tf.states SET data = 'x' WHERE name = 'odd'$$);
CALL refused($$UPDATE tf.states SET name = 'held' WHERE name = 'odd'$$);
ROLLBACK;
BEGIN;
SELECT id FROM tfstate_lock('tf.states/mine', '{"ID": "m"}');
INSERT INTO tf.states (name, data) VALUES ('mine', state(5));
CALL refused($$UPDATE tf.states SET data = state(4) WHERE name = 'mine'$$);
CALL refused($$UPDATE tf.states SET data = state(6, 'b') WHERE name = 'mine'$$);
CALL refused($$INSERT INTO tf.states (name, data) VALUES ('mine', state(5)), ('held', state(9))
	ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data$$);
-- the lock is still ours
CALL refused($$UPDATE tf.states SET data = state(6) WHERE name = 'mine'$$);
ROLLBACK;
BEGIN;
CALL refused($$UPDATE tf.states SET data = state(3) WHERE name = 'free'$$,
			 'ROLE regress_tfstate_locker', 'tfstate.guard = off');
ROLLBACK;

-- Other roles
BEGIN;
CALL refused($$UPDATE tf.states SET data = state(3) WHERE name = 'free'$$, 'ROLE regress_tfstate_nobody');
CALL refused($$DELETE FROM tf.states WHERE name = 'free'$$, 'ROLE regress_tfstate_nobody');
CALL refused($$SELECT pg_try_advisory_lock(id) FROM tf.states WHERE name = 'free'$$, 'ROLE regress_tfstate_nobody');
CALL refused('SELECT pg_try_advisory_lock(-1)', 'ROLE regress_tfstate_nobody');
CALL refused($$SELECT tfstate_rollback('tf.states/free', 1)$$, 'ROLE regress_tfstate_locker');
CALL refused($$SELECT tfstate_repair('tf.states/free')$$, 'ROLE regress_tfstate_locker');
CALL refused($$SELECT tfstate_version('tf.states/free', 1)$$, 'ROLE regress_tfstate_nobody');
CALL refused($$SELECT tfstate_force_unlock('tf.states/held')$$, 'ROLE regress_tfstate_locker');
CALL refused($$SELECT tfstate_unlock('tf.states/held', 'h')$$, 'ROLE regress_tfstate_locker');
ROLLBACK;

-- Versions
BEGIN;
CALL refused($$SELECT tfstate_rollback('tf.states/held', 1)$$);
CALL refused($$SELECT tfstate_rollback('tf.states/free', 9)$$);
CALL refused($$SELECT tfstate_rollback('tf.states/nothing', 1)$$);
CALL refused($$SELECT tfstate_rollback('tf.states/gone', 3)$$);
CALL refused($$SELECT tfstate_rollback('tf.states/odd', 1)$$);
CALL refused($$SELECT tfstate_undelete('tf.states/free')$$);
CALL refused($$SELECT tfstate_undelete('tf.states/nothing')$$);
CALL refused($$SELECT tfstate_version('tf.states/free', 9)$$);
CALL refused($$SELECT tfstate_diff('tf.states/free', 9)$$);
CALL refused($$SELECT tfstate_repair('tf.states/nothing')$$);
CALL refused($$SELECT tfstate_prune('tf.states/free', -1)$$);
ROLLBACK;
-- with a write that fails halfway
BEGIN;
CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION division_by_zero; END';
CREATE FUNCTION skips() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
SAVEPOINT s;
CREATE TRIGGER a BEFORE INSERT ON tf.states EXECUTE FUNCTION fails();
CALL refused($$SELECT tfstate_rollback('tf.states/free', 1)$$);
CALL refused($$SELECT tfstate_undelete('tf.states/gone')$$);
ROLLBACK TO s;
CREATE TRIGGER z AFTER UPDATE ON tf.states FOR EACH ROW EXECUTE FUNCTION fails();
CALL refused($$SELECT tfstate_rollback('tf.states/free', 1)$$);
ROLLBACK TO s;
CREATE TRIGGER a BEFORE INSERT ON tf.states FOR EACH ROW EXECUTE FUNCTION skips();
CALL refused($$SELECT tfstate_rollback('tf.states/free', 1)$$);
CALL refused($$SELECT tfstate_undelete('tf.states/gone')$$);
ROLLBACK TO s;
ALTER TABLE tf.states ADD CONSTRAINT c CHECK (data !~ '"serial" : 3') NOT VALID;
CALL refused($$SELECT tfstate_rollback('tf.states/free', 1)$$);
ROLLBACK;
-- within a roll back to another lineage, a trigger rolls another workspace back, with and without an error
BEGIN;
CREATE FUNCTION rolls_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.name = 'free' THEN
		PERFORM tfstate_rollback('tf.states/' || current_setting('test.other'), 1);
	END IF;
	RETURN new;
EXCEPTION WHEN undefined_object THEN
	RETURN new;
END;
$$;
SET LOCAL tfstate.guard = off;
INSERT INTO tf.states (name, data) VALUES ('inner', state(1));
UPDATE tf.states SET data = state(9, 'b') WHERE name IN ('free', 'inner');
RESET tfstate.guard;
CREATE TRIGGER a BEFORE INSERT ON tf.states FOR EACH ROW EXECUTE FUNCTION rolls_back();
SAVEPOINT s;
SET test.other = 'inner';
SELECT tfstate_rollback('tf.states/free', 1) > 0 AS rolled_back;
ROLLBACK TO s;
SET test.other = 'nothing';
SELECT tfstate_rollback('tf.states/free', 1) > 0 AS rolled_back;
ROLLBACK;

-- Set-up
BEGIN;
CALL refused($$SELECT tfstate_attach('th', 'states', role => 'regress_tfstate_none')$$);
CALL refused($$SELECT tfstate_attach('th', 'states', guard => 'x')$$);
CALL refused($$SELECT tfstate_attach('th', 'states', keep_versions => 0)$$);
CALL refused($$SELECT tfstate_attach('pg_catalog', 'pg_class')$$);
CALL refused($$SELECT tfstate_detach('th', 'states')$$);
CALL refused($$SELECT tfstate_grant('regress_tfstate_none')$$);
CALL refused($$SELECT tfstate_grant('public', 'x', 'y')$$);
CALL refused($$SELECT tfstate_revoke('public', 'x')$$);
ROLLBACK;

SELECT tfstate_unlock('tf.states/held', 'h') ->> 'ID' AS held,
	tfstate_unlock('tfstate_pg/new workspace', 'c') ->> 'ID' AS creation;
SELECT lockid FROM tfstate_holders;
SELECT * FROM tfstate_verify('*', true);
DROP SCHEMA tf, tg CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP PROCEDURE refused;
DROP FUNCTION picture, outcome, state;
DROP EXTENSION tfstate;
DROP ROLE regress_tfstate_nobody, regress_tfstate_locker;
