-- Changes that an administrator makes to an attached table later: its workspaces are locked and
-- written as before, whatever indexes, columns and triggers it has.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;
SET search_path = tfstate_pg, pg_catalog, public;
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'states', guard => 'require');

CREATE FUNCTION state(serial integer) RETURNS text LANGUAGE sql AS $$
SELECT json_build_object('serial', serial, 'lineage', 'a', 'resources', '[{"mode": "managed"}]'::json)::text
$$;
-- In C, B sorts before a; the names sort the other way round in most languages.
SET tfstate.guard = off;
INSERT INTO tf.states (name, data)
SELECT chr(64 + n + 32 * (n % 2)) || repeat('x', n), state(1) FROM generate_series(1, 26) n;
RESET tfstate.guard;

-- Locks each workspace by its lockid, and as Terraform does, writes it, and unlocks it.  Returns
-- how many got the lock, and the built-in one with it in both ways, were written, and are free
-- again; how many can be written without a lock; and what tfstate_verify() reports.
CREATE PROCEDURE use(what text) LANGUAGE plpgsql AS $$
DECLARE
	w record;
	total integer := 0;
	locked integer := 0;
	builtin integer := 0;
	by_name integer := 0;
	written integer := 0;
	unguarded integer := 0;
	freed integer := 0;
BEGIN
	FOR w IN SELECT id, name, 'tf.states/' || name AS lockid, (data::json ->> 'serial')::integer AS serial
			   FROM tf.states WHERE name <> 'default' LOOP
		total := total + 1;
		-- by its name; the built-in lock stays until the end of the transaction
		BEGIN
			PERFORM tfstate_lock(w.lockid);
			by_name := by_name + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1
									 AND classid = (w.id >> 32)::oid AND objid = (w.id & 4294967295)::oid);
			RAISE EXCEPTION 'undo';
		EXCEPTION WHEN raise_exception THEN
		END;
		PERFORM states.id, pg_try_advisory_lock(states.id), pg_try_advisory_lock(-1)
		   FROM tf.states WHERE states.name = w.name;
		locked := locked + (SELECT count(*) FROM tfstate_holders h WHERE h.lockid = w.lockid);
		builtin := builtin + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1
								 AND classid = (w.id >> 32)::oid AND objid = (w.id & 4294967295)::oid);
		INSERT INTO tf.states (name, data) VALUES (w.name, state(w.serial + 1))
			ON CONFLICT (name) DO UPDATE SET data = state(w.serial + 1) WHERE states.name = w.name;
		written := written + (SELECT count(*) FROM tf.states s WHERE s.name = w.name AND s.data = state(w.serial + 1));
		PERFORM pg_advisory_unlock(w.id);
		freed := freed + 1 - (SELECT count(*) FROM tfstate_holders h WHERE h.lockid = w.lockid);
		BEGIN
			UPDATE tf.states s SET data = state(w.serial + 2) WHERE s.name = w.name;
			unguarded := unguarded + 1;
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
		END;
	END LOOP;
	RAISE INFO '%: % workspaces; locked %, built-in % and %, written %, freed %, unguarded %, damaged %',
		what, total, locked, by_name, builtin, written, freed, unguarded, (SELECT count(*) FROM tfstate_verify());
END;
$$;
-- The same after a change, which is then undone.
CREATE PROCEDURE with_change(change text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE change;
	CALL use(change);
	RAISE EXCEPTION 'undo';
EXCEPTION WHEN raise_exception THEN
	PERFORM pg_advisory_unlock_all();
WHEN others THEN
	PERFORM pg_advisory_unlock_all();
	RAISE INFO '%: %', change, SQLSTATE;
END;
$$;

CALL use('as attached');

-- Indexes: the newest one may be chosen.
CALL with_change($$CREATE INDEX ON tf.states (id) WHERE id < 3$$);
CALL with_change($$CREATE INDEX ON tf.states (name) WHERE name > 'c'$$);
CALL with_change($$CREATE INDEX ON tf.states ((id + 0))$$);
CALL with_change($$CREATE INDEX ON tf.states (lower(name))$$);
CALL with_change($$CREATE INDEX ON tf.states (lower(name), name)$$);
CALL with_change($$CREATE INDEX ON tf.states USING hash (id)$$);
CALL with_change($$CREATE INDEX ON tf.states USING hash (name)$$);
CALL with_change($$CREATE INDEX ON tf.states USING brin (id)$$);
CALL with_change($$CREATE INDEX ON tf.states (id DESC)$$);
CALL with_change($$CREATE INDEX ON tf.states (name DESC NULLS LAST, id)$$);
-- a server that was built without ICU has none of its collations
DO $$ BEGIN
	CREATE COLLATION another FROM "en-x-icu";
EXCEPTION WHEN undefined_object THEN
	CREATE COLLATION another FROM "POSIX";
END $$;
CALL with_change($$CREATE INDEX ON tf.states (name COLLATE another)$$);
CALL with_change($$CREATE INDEX ON tf.states (name text_pattern_ops)$$);
CALL with_change($$CREATE INDEX ON tf.states (id) INCLUDE (name)$$);
CALL with_change($$CREATE UNIQUE INDEX ON tf.states (id, name)$$);
-- what a failed concurrent build leaves, and an index that is being built
CALL with_change($$CREATE INDEX bad ON tf.states (id);
	UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'tf.bad'::regclass$$);
CALL with_change($$CREATE INDEX bad ON tf.states (name);
	UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'tf.bad'::regclass$$);
CALL with_change($$CREATE INDEX bad ON tf.states (id);
	UPDATE pg_index SET indisvalid = false, indisready = false WHERE indexrelid = 'tf.bad'::regclass$$);
CREATE PROCEDURE with_late_rows(change text) LANGUAGE plpgsql AS $$
BEGIN
	CALL with_change(change || $c$; SET LOCAL tfstate.guard = off;
		INSERT INTO tf.states (name, data) VALUES ('late', state(1)), ('later', state(1)); SET LOCAL tfstate.guard = require$c$);
END;
$$;
-- which lacks later rows
CALL with_late_rows($$CREATE INDEX bad ON tf.states (id);
	UPDATE pg_index SET indisvalid = false, indisready = false WHERE indexrelid = 'tf.bad'::regclass$$);
CALL with_late_rows($$CREATE INDEX bad ON tf.states (name);
	UPDATE pg_index SET indisvalid = false, indisready = false WHERE indexrelid = 'tf.bad'::regclass$$);
DROP PROCEDURE with_late_rows;
-- only what Terraform needs, in a new file
CALL with_change($$ALTER TABLE tf.states DROP CONSTRAINT states_pkey$$);
CALL with_change($$REINDEX TABLE tf.states$$);

-- Columns
CALL with_change($$ALTER TABLE tf.states ADD note text DEFAULT 'x'$$);
CALL with_change($$ALTER TABLE tf.states ADD at timestamptz NOT NULL DEFAULT clock_timestamp(),
	ADD serial text GENERATED ALWAYS AS (left(data, 5)) STORED$$);
CALL with_change($$ALTER TABLE tf.states ADD old text; ALTER TABLE tf.states DROP old$$);
CALL with_change($$CREATE DOMAIN public.positive AS bigint; ALTER TABLE tf.states ADD n public.positive$$);
CALL with_change($$ALTER TABLE tf.states ALTER data SET STORAGE EXTERNAL$$);
CALL with_change($$ALTER TABLE tf.states ADD CONSTRAINT long CHECK (length(data) > 2)$$);
CALL with_change($$ALTER TABLE tf.states REPLICA IDENTITY FULL$$);
CALL with_change($$ALTER TABLE tf.states ALTER name TYPE varchar(255)$$);
CALL with_change($$ALTER TABLE tf.states ALTER data TYPE json USING data::json$$);
CALL with_change($$ALTER TABLE tf.states RENAME data TO content$$);

-- Rules and triggers
CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(NEW, OLD); END';
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.data := NEW.data || chr(10); RETURN NEW; END';
CREATE TABLE public.audit (at timestamptz DEFAULT now(), name text);
CALL with_change($$CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON tf.states
	FOR EACH ROW EXECUTE FUNCTION nothing()$$);
CALL with_change($$CREATE TRIGGER a AFTER INSERT OR UPDATE OR DELETE ON tf.states
	FOR EACH ROW EXECUTE FUNCTION nothing()$$);
CALL with_change($$CREATE CONSTRAINT TRIGGER z AFTER INSERT OR UPDATE ON tf.states DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION nothing()$$);
CALL with_change($$CREATE TRIGGER a BEFORE INSERT OR UPDATE ON tf.states
	FOR EACH ROW EXECUTE FUNCTION touch()$$);
CALL with_change($$CREATE RULE a AS ON UPDATE TO tf.states DO ALSO INSERT INTO public.audit (name) VALUES (NEW.name)$$);

-- Another place for the table
CALL with_change($$ALTER TABLE tf.states SET (fillfactor = 50)$$);
CALL with_change($$ALTER TABLE tf.states CLUSTER ON states_by_name; CLUSTER tf.states$$);

CALL use('at the end');

SELECT tfstate_detach('tf', 'states');
DROP SCHEMA tf CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP TABLE audit;
DROP PROCEDURE with_change, use;
DROP FUNCTION state, nothing, touch;
DROP COLLATION another;
DROP EXTENSION tfstate;

-- The schema of the extension is renamed.  A new session has parsed nothing before.
CREATE SCHEMA regress_tfstate_before;
CREATE EXTENSION tfstate SCHEMA regress_tfstate_before;
SELECT count(*) > 0 AS attached FROM regress_tfstate_before.tfstate_attach('tf', 'states');
ALTER SCHEMA regress_tfstate_before RENAME TO "regress_tfstate After";
CREATE ROLE regress_tfstate_terraform LOGIN;
\c
SET client_min_messages = error;
SET search_path = pg_catalog;
CREATE TEMP TABLE command (n serial, text text);
INSERT INTO command (text) VALUES
	($$SELECT our.tfstate_lock('a', '{"ID": "1"}')$$),
	($$SELECT our.tfstate_try_lock('b', '{"ID": "2"}', ttl => '1 hour')$$),
	($$CALL our.tfstate_wait_lock('c', '{"ID": "3"}')$$),
	($$SELECT our.tfstate_renew('b', '2')$$),
	($$TABLE our.tfstate_holders$$),
	($$SELECT our.tfstate_holders('*')$$),
	($$TABLE our.tfstate_waiters$$),
	($$SELECT our.tfstate_waiters('*')$$),
	($$SELECT our.tfstate_freeze('x*', 'reason')$$),
	($$TABLE our.tfstate_freezes$$),
	($$TABLE our.tfstate_metrics$$),
	($$TABLE our.tfstate_slow_metrics$$),
	($$SELECT our.tfstate_unfreeze('x*')$$),
	($$SELECT our.tfstate_unlock('a')$$),
	($$SELECT our.tfstate_force_unlock('b')$$),
	($$TABLE our.tfstate_history$$),
	($$SELECT our.tfstate_history('*')$$),
	($$SELECT our.tfstate_grant('public', 'x')$$),
	($$TABLE our.tfstate_grants$$),
	($$SELECT our.tfstate_revoke('public', 'x')$$),
	($$SELECT our.tfstate_has_privilege('x', 'lock'), our.tfstate_matches('x', '*')$$),
	($$SELECT our.tfstate_attach('tf', 'states', role => 'regress_tfstate_terraform', mode => 'session')$$),
	($$SELECT our.tfstate_attach('tf', 'states', default_workspace => false)$$),
	($$SELECT our.tfstate_attach('tf', 'states', default_workspace => true)$$),
	($$SELECT our.tfstate_attach('tf', 'other')$$),
	($$SELECT our.tfstate_configuration('tf', 'other')$$),
	($$TABLE our.tfstate_tables$$),
	($$SELECT our.tfstate_attach_members()$$),
	($$SELECT our.tfstate_detach('tf', 'other')$$),
	($$SELECT our.tfstate_check()$$),
	($$SELECT our.tfstate_cleanup()$$),
	($$SELECT our.tfstate_attach_database(new_tables => true)$$),
	($$CREATE TABLE IF NOT EXISTS tf.more (id bigint NOT NULL DEFAULT nextval('public.global_states_id_seq') PRIMARY KEY, name text UNIQUE, data text)$$),
	($$SELECT our.tfstate_detach('tf', 'more')$$),
	($$SELECT our.tfstate_detach_database()$$),
	($$SELECT our.tfstate_lock('tf.states/default', '{"ID": "4"}')$$),
	($$UPDATE tf.states SET data = '{"version": 4, "serial": 1, "lineage": ""}'$$),
	($$SELECT our.tfstate_unlock('tf.states/default', '4')$$),
	($$TABLE our.tfstate_workspaces$$),
	($$SELECT our.tfstate_states('*')$$),
	($$SELECT our.tfstate_lockid('tf')$$),
	($$TABLE our.tfstate_versions$$),
	($$SELECT our.tfstate_versions('*')$$),
	($$SELECT our.tfstate_version('tf.states/default', max(number)) FROM our.tfstate_versions$$),
	($$SELECT our.tfstate_rollback('tf.states/default', max(number)) FROM our.tfstate_versions$$),
	($$SELECT our.tfstate_diff('tf.states/default', min(number)) FROM our.tfstate_versions WHERE serial = 1$$),
	($$SELECT our.tfstate_lock('tf.states/default', '{"ID": "5"}')$$),
	($$DELETE FROM tf.states$$),
	($$SELECT our.tfstate_erase('tf.states/default', '{}', 'reason')$$),
	($$SELECT our.tfstate_unlock('tf.states/default', '5')$$),
	($$SELECT our.tfstate_undelete('tf.states/default')$$),
	($$SELECT our.tfstate_verify('*', true)$$),
	($$SELECT our.tfstate_repair('tf.states/default')$$),
	($$SELECT our.tfstate_resources('*'), our.tfstate_outputs('*')$$),
	($$SELECT our.tfstate_prune('*', 3)$$),
	($$CALL our.tfstate_prune_in_batches('*', 2)$$),
	($$SELECT tfstate_pg.pg_try_advisory_lock(id), tfstate_pg.pg_advisory_unlock(id) FROM tf.states$$);
-- every function and view is among them
SELECT p.proname AS not_called FROM pg_proc p
 WHERE p.pronamespace = '"regress_tfstate After"'::regnamespace
   AND NOT EXISTS (SELECT FROM command c WHERE c.text ~ ('our\.' || p.proname || '\('))
UNION ALL
SELECT c.relname FROM pg_class c
 WHERE c.relnamespace = '"regress_tfstate After"'::regnamespace AND c.relkind = 'v'
   AND NOT EXISTS (SELECT FROM command o WHERE o.text ~ ('TABLE our\.' || c.relname || '$'));
\o /dev/null
SELECT replace(text, 'our.', '"regress_tfstate After".') FROM command ORDER BY n \gexec
\o
-- Statements printed to be run contain the schema, too.
SELECT line FROM "regress_tfstate After".tfstate_attach('tf', 'states') line WHERE line ~ 'tfstate_attach';
DROP TRIGGER tfstate_guard_row ON tf.states;
SELECT remedy FROM "regress_tfstate After".tfstate_check() WHERE problem ~ 'tfstate_guard_row';
SELECT remedy FROM "regress_tfstate After".tfstate_check() WHERE problem ~ 'tfstate_guard_row'
\o /dev/null
\gexec
\o
SELECT count(*) FROM "regress_tfstate After".tfstate_check() WHERE problem ~ 'tfstate_guard_row';
DO $$
DECLARE
	hint text;
BEGIN
	PERFORM "regress_tfstate After".tfstate_lock('c');
EXCEPTION WHEN lock_not_available THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RAISE INFO '%', hint;
END;
$$;
RESET search_path;
DROP EXTENSION tfstate CASCADE;
DROP SCHEMA "regress_tfstate After", tf CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP OWNED BY regress_tfstate_terraform;
DROP ROLE regress_tfstate_terraform;
