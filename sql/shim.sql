-- The shim: the statements of an unmodified Terraform or OpenTofu.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE EXTENSION tfstate;
SET tfstate.who = 'me';
SET tfstate.operation = 'apply';

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

-- What this session has in the lock manager: the tags of tfstate, and the keys of built-in advisory
-- locks.
CREATE VIEW tags AS
SELECT count(*) FILTER (WHERE objsubid = 29798) AS tags,
	   array_agg((classid::bigint << 32) | objid::bigint ORDER BY 1) FILTER (WHERE objsubid = 1) AS keys
  FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();

-- While no table is attached, all keys are built-in ones.
SET search_path = tfstate_pg, pg_catalog, public;
SELECT pg_try_advisory_lock(-1);
SELECT * FROM tags;
SELECT pg_advisory_unlock(-1);
RESET search_path;
SELECT count(*) > 0 AS attached FROM tfstate_attach(guard => 'on');
SELECT id AS default_id FROM terraform_remote_state.states \gset
-- Another table, which is not attached
CREATE SCHEMA "terraform";
CREATE TABLE IF NOT EXISTS "terraform".states (id bigint NOT NULL DEFAULT nextval('public.global_states_id_seq') PRIMARY KEY, name text UNIQUE, data text);
CREATE UNIQUE INDEX IF NOT EXISTS states_by_name ON "terraform".states (name);
INSERT INTO terraform.states (name, data) VALUES ('prod', '{"version":4,"serial":7,"lineage":"7"}'), ('default', '{"version":4,"serial":8,"lineage":"8"}');

-- An id that is inserted into a second attached table later is an error if nothing tells which table
-- is meant.  Terraform's statement does: it reads that table.
SELECT count(*) > 0 AS attached FROM tfstate_attach('wrong', 'serials');
SET tfstate.guard = off;
UPDATE wrong.serials SET id = :default_id;
RESET tfstate.guard;
SET search_path = tfstate_pg, pg_catalog, public;
PREPARE l AS SELECT states.id, pg_try_advisory_lock(states.id), pg_try_advisory_lock(-1) FROM "terraform_remote_state".states WHERE states.name = $1;
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :default_id));
SELECT * FROM tags;
-- Their names are told only to a role that may see both.
CREATE ROLE regress_tfstate_one;
GRANT USAGE ON SCHEMA tfstate_pg TO regress_tfstate_one;
SELECT tfstate_grant('regress_tfstate_one', 'wrong.*', 'view');
SET ROLE regress_tfstate_one;
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :default_id));
RESET ROLE;
-- A table whose ids the role may read comes before the others.
GRANT SELECT (name, data) ON terraform_remote_state.states TO regress_tfstate_one;
GRANT SELECT (id) ON wrong.serials TO regress_tfstate_one;
SELECT tfstate_grant('regress_tfstate_one', 'wrong.*');
SET ROLE regress_tfstate_one;
SELECT pg_try_advisory_lock(:default_id);
SELECT lockid FROM tfstate_holders;
SELECT pg_advisory_unlock(:default_id);
RESET ROLE;
SELECT tfstate_revoke('regress_tfstate_one', 'wrong.*', 'view'), tfstate_revoke('regress_tfstate_one', 'wrong.*');
DROP OWNED BY regress_tfstate_one;
DROP ROLE regress_tfstate_one;
EXECUTE l('default');
SELECT lockid FROM tfstate_holders;
SELECT pg_advisory_unlock(:default_id);
SELECT * FROM tags;
-- So does the lock that a run holds, if it unlocks in another session.
SET tfstate.run_id = '11111111-1111-4111-8111-111111111111';
SET tfstate.mode = durable;
SELECT pg_try_advisory_lock(id) FROM wrong.serials;
\c -
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET search_path = tfstate_pg, pg_catalog, public;
SET tfstate.who = 'me';
SET tfstate.operation = 'apply';
SET tfstate.run_id = '11111111-1111-4111-8111-111111111111';
SET tfstate.mode = durable;
SELECT pg_advisory_unlock(:default_id);
SELECT lockid FROM tfstate_holders;
SELECT pg_try_advisory_lock(id) FROM wrong.serials;
SELECT pg_try_advisory_lock(id) FROM terraform_remote_state.states;
\c -
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET search_path = tfstate_pg, pg_catalog, public;
SET tfstate.who = 'me';
SET tfstate.operation = 'apply';
SET tfstate.run_id = '11111111-1111-4111-8111-111111111111';
PREPARE l AS SELECT states.id, pg_try_advisory_lock(states.id), pg_try_advisory_lock(-1) FROM "terraform_remote_state".states WHERE states.name = $1;
CALL fails(format('SELECT pg_advisory_unlock(%s)', :default_id));
SELECT tfstate_unlock(lockid, id) ->> 'Operation' AS unlocked FROM tfstate_holders WHERE lockid = 'wrong.serials/default';
SELECT pg_advisory_unlock(:default_id);
SELECT lockid FROM tfstate_holders;
RESET tfstate.run_id;
RESET search_path;
SELECT tfstate_detach('wrong', 'serials');
SET client_min_messages = error;
DROP SCHEMA wrong CASCADE;
SET client_min_messages = warning;

--
-- Terraform's statements
--

-- The shim comes before the built-in functions only if the search_path names pg_catalog after it.
SET search_path = tfstate_pg, public;
SELECT 'pg_try_advisory_lock(bigint)'::regprocedure::oid = 'pg_catalog.pg_try_advisory_lock(bigint)'::regprocedure::oid AS built_in;
SET search_path = tfstate_pg, pg_catalog, public;
SELECT 'pg_try_advisory_lock(bigint)'::regprocedure::oid = 'tfstate_pg.pg_try_advisory_lock(bigint)'::regprocedure::oid AS shim,
	   'pg_advisory_unlock(bigint)'::regprocedure::oid = 'tfstate_pg.pg_advisory_unlock(bigint)'::regprocedure::oid AS unlock;

-- plan, apply, destroy: find the workspace, lock, unlock the creation key, get, put, unlock.
SELECT name FROM "terraform_remote_state".states WHERE name != 'default' ORDER BY name;
SELECT id = :default_id AS id, l1, l2 FROM (SELECT states.id, pg_try_advisory_lock(states.id) AS l1, pg_try_advisory_lock(-1) AS l2 FROM "terraform_remote_state".states WHERE states.name = 'default') l;
SELECT lockid, mode, who, operation FROM tfstate_holders;
-- The lock tag and the built-in key of the id, but not the creation key.
SELECT tags, keys = ARRAY[:default_id]::bigint[] AS keys FROM tags;
SELECT pg_advisory_unlock(-1);
SELECT tags, keys = ARRAY[:default_id]::bigint[] AS keys FROM tags;
PREPARE p AS INSERT INTO "terraform_remote_state".states (name, data) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET data = $2 WHERE states.name = $1;
EXECUTE p('default', '{"serial": 1, "lineage": "a"}');
SELECT pg_advisory_unlock(:default_id);
SELECT count(*) FROM tfstate_holders;
SELECT * FROM tags;
SELECT lockid, mode, how, who FROM tfstate_history;
-- Like the built-in function, it returns false with a warning if the lock is not held.
SELECT pg_advisory_unlock(:default_id);
SELECT pg_advisory_unlock(-1);

-- Conflicts name the holder; the attempt leaves nothing behind.
SELECT id FROM tfstate_lock('terraform_remote_state.states/default', '{"ID": "1", "Who": "alice@laptop"}');
CALL fails($$EXECUTE l('default')$$);
SELECT * FROM tags;
SELECT tfstate_unlock('terraform_remote_state.states/default', '1') IS NOT NULL AS released;
-- In session mode tfstate_lock() takes the built-in key, too.
SELECT id FROM tfstate_lock('terraform_remote_state.states/default', '{"ID": "2", "Who": "alice@laptop"}', 'session');
SELECT tags, keys = ARRAY[:default_id]::bigint[] AS keys FROM tags;
CALL fails($$EXECUTE l('default')$$);
SELECT tags, keys = ARRAY[:default_id]::bigint[] AS keys FROM tags;
SELECT tfstate_unlock('terraform_remote_state.states/default') IS NOT NULL AS released;
SELECT * FROM tags;
-- Terraform's lock keeps out tfstate_lock(), and a second Terraform that a pooler sends to the same
-- session.
CREATE FUNCTION public.got(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	EXECUTE statement INTO r;
	RETURN CASE WHEN r IS NULL THEN 'no row' ELSE regexp_replace(r::text, '^\(\d+,', '(<id>,') END;
END;
$$;
SELECT got($$EXECUTE l('default')$$);
CALL fails($$SELECT tfstate_lock('terraform_remote_state.states/default')$$);
CALL fails($$SELECT tfstate_lock('terraform_remote_state.states/default', mode => 'session')$$);
CALL fails($$EXECUTE l('default')$$);
SELECT locked, holder->>'Who' AS who FROM tfstate_try_lock('terraform_remote_state.states/default');
-- A lockid with another spelling of the table is another lockid.
SELECT locked FROM tfstate_try_lock('"terraform_remote_state".states/default', '{"ID": "1"}');
SELECT tfstate_unlock('"terraform_remote_state".states/default') IS NOT NULL AS released;
SELECT tags, keys = ARRAY[:default_id]::bigint[] AS keys FROM tags;
SELECT pg_advisory_unlock(:default_id);
SELECT * FROM tags;

-- All in one statement, which no client sends
SELECT pg_try_advisory_lock(:default_id), pg_advisory_unlock(:default_id), pg_try_advisory_lock(-1), pg_advisory_unlock(-1);
SELECT * FROM tags;

-- workspace new: find, find, lock, lock the creation key, get, put, unlock the creation key.
SELECT got($$EXECUTE l('new')$$);
SELECT pg_try_advisory_lock(-1);
SELECT lockid, mode FROM tfstate_holders;
SELECT * FROM tags;
-- Creations exclude each other, but no runs on existing workspaces.
CALL fails($$SELECT pg_try_advisory_lock(-1)$$);
SELECT got($$EXECUTE l('default')$$);
SELECT pg_advisory_unlock(:default_id);
SELECT lockid FROM tfstate_holders;
-- The new workspace is locked from its row on until the creation key is released.
EXECUTE p('new', '{"serial": 0, "lineage": "a"}');
SELECT lockid, mode FROM tfstate_holders ORDER BY lockid;
CALL fails($$EXECUTE l('new')$$);
EXECUTE p('new', '{"serial": 1, "lineage": "a"}');
SELECT count(*) FROM tfstate_holders;
SELECT pg_advisory_unlock(-1);
SELECT count(*) FROM tfstate_holders;
SELECT * FROM tags;
SELECT id AS new_id FROM terraform_remote_state.states WHERE name = 'new' \gset
SELECT got($$EXECUTE l('new')$$);
SELECT pg_advisory_unlock(:new_id);
-- Without the creation key an insert takes no lock.
INSERT INTO terraform_remote_state.states (name, data) VALUES ('loaded', '{"serial": 1, "lineage": "a"}');
SELECT count(*) FROM tfstate_holders;
DELETE FROM terraform_remote_state.states WHERE name = 'loaded';

-- A workspace whose lockid is locked cannot be created.
SELECT id FROM tfstate_lock('terraform_remote_state.states/taken', '{"ID": "3", "Who": "alice@laptop"}');
SELECT pg_try_advisory_lock(-1);
CALL fails($$EXECUTE p('taken', '{"serial": 1, "lineage": "a"}')$$);
SELECT count(*) FROM terraform_remote_state.states WHERE name = 'taken';
SELECT pg_advisory_unlock(-1);
SELECT tfstate_unlock('terraform_remote_state.states/taken', '3') IS NOT NULL AS released;
SELECT * FROM tags;

-- workspace delete: find, find, lock, unlock the creation key, get, unlock, delete.
SELECT got($$EXECUTE l('new')$$);
SELECT pg_advisory_unlock(-1);
SELECT pg_advisory_unlock(:new_id);
DELETE FROM "terraform_remote_state".states WHERE name = 'new';
SELECT * FROM tags;
-- The lock belongs to the name: after the row is deleted and inserted again there is still one
-- holder, which can release the lock by the id that it knows.
EXECUTE p('new', '{"serial": 1, "lineage": "a"}');
SELECT id AS old_id FROM terraform_remote_state.states WHERE name = 'new' \gset
SELECT got($$EXECUTE l('new')$$);
DELETE FROM "terraform_remote_state".states WHERE name = 'new';
EXECUTE p('new', '{"serial": 1, "lineage": "a"}');
SELECT id AS new_id, id <> :old_id AS another FROM terraform_remote_state.states WHERE name = 'new' \gset
SELECT :'another' AS another;
CALL fails($$EXECUTE l('new')$$);
SELECT locked FROM tfstate_try_lock('terraform_remote_state.states/new');
SELECT tags, keys = ARRAY[:old_id]::bigint[] AS keys FROM tags;
SELECT pg_advisory_unlock(:old_id);
SELECT * FROM tags;
SELECT got($$EXECUTE l('new')$$);
SELECT pg_advisory_unlock(:new_id);

-- Transactions: a lock that is rolled back is not held.
BEGIN;
SELECT got($$EXECUTE l('new')$$);
ROLLBACK;
SELECT count(*) FROM tfstate_holders;
SELECT * FROM tags;
SELECT got($$EXECUTE l('new')$$);
BEGIN;
SELECT pg_advisory_unlock(:new_id);
ROLLBACK;
SELECT lockid FROM tfstate_holders;
SELECT pg_advisory_unlock(:new_id);
SELECT * FROM tags;
-- Earlier uses of the connection do not matter: a lock that was rolled back (above), taken away by
-- DISCARD ALL, or released by force.
SELECT pg_try_advisory_lock(:new_id);
DISCARD ALL;
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET search_path = tfstate_pg, pg_catalog, public;
SET tfstate.who = 'me';
SET tfstate.operation = 'apply';
PREPARE l AS SELECT states.id, pg_try_advisory_lock(states.id), pg_try_advisory_lock(-1) FROM "terraform_remote_state".states WHERE states.name = $1;
PREPARE p AS INSERT INTO "terraform_remote_state".states (name, data) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET data = $2 WHERE states.name = $1;
SELECT pg_try_advisory_lock(:new_id);
SELECT pg_advisory_unlock(:new_id);
SELECT count(*) FROM tfstate_holders;
SELECT * FROM tags;
-- In durable mode a run needs a name to own its lock.
SET tfstate.mode = 'durable';
CALL fails($$SELECT pg_try_advisory_lock(-1)$$);
CALL fails($$EXECUTE l('new')$$);
SELECT count(*) FROM tfstate_holders;
SET tfstate.run_id = '00000000-0000-4000-8000-000000000001';
SELECT pg_try_advisory_lock(:new_id);
SELECT tfstate_force_unlock('terraform_remote_state.states/new') IS NOT NULL AS released;
SELECT pg_try_advisory_lock(:new_id);
SELECT pg_advisory_unlock(:new_id);
SELECT count(*) FROM tfstate_holders;
RESET tfstate.mode;
RESET tfstate.run_id;
SELECT tfstate_force_unlock(lockid) IS NOT NULL AS still_held FROM tfstate_holders;
SELECT * FROM tags;

-- What is not possible: read-only transactions, NULL.
BEGIN READ ONLY;
CALL fails($$EXECUTE l('new')$$);
ROLLBACK;
SELECT pg_try_advisory_lock(NULL) IS NULL AS lock, pg_advisory_unlock(NULL) IS NULL AS unlock;

-- OpenTofu from 1.10 on quotes names and has a creation key of its own for each table.
PREPARE tofu_l AS SELECT "states".id, pg_try_advisory_lock("states".id), pg_try_advisory_lock($1) FROM "terraform_remote_state"."states" WHERE "states".name = $2;
PREPARE tofu_lc AS SELECT pg_try_advisory_lock($1);
PREPARE tofu_u AS SELECT pg_advisory_unlock($1);
SELECT got($$EXECUTE tofu_l('-3797183428', 'default')$$);
SELECT lockid FROM tfstate_holders;
SELECT tags, keys = ARRAY[:default_id]::bigint[] AS keys FROM tags;
EXECUTE tofu_u('-3797183428');
EXECUTE tofu_u(:'default_id');
SELECT * FROM tags;
SELECT got($$EXECUTE tofu_l('-3797183428', 'tofu')$$);
EXECUTE tofu_lc('-3797183428');
SELECT lockid, mode FROM tfstate_holders;
SELECT tags, (SELECT array_agg(((classid::bigint << 32) | objid::bigint)) FROM pg_locks
			   WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid = 1) AS key FROM tags;
CALL fails($$EXECUTE tofu_lc('-3797183428')$$);
-- It belongs to one table, and Terraform's key is another one.
SELECT pg_try_advisory_lock(-1);
SELECT lockid FROM tfstate_holders ORDER BY lockid;
SELECT pg_advisory_unlock(-1);
EXECUTE p('tofu', '{"serial": 1, "lineage": "a"}');
SELECT lockid FROM tfstate_holders ORDER BY lockid;
EXECUTE tofu_u('-3797183428');
SELECT count(*) FROM tfstate_holders;
SELECT * FROM tags;

-- A creation key that was rolled back before does no harm.
BEGIN;
SELECT pg_try_advisory_lock(-1);
ROLLBACK;
EXECUTE tofu_lc('-3797183428');
EXECUTE p('tofu2', '{"serial": 1, "lineage": "a"}');
SELECT lockid FROM tfstate_holders;
EXECUTE tofu_u('-3797183428');
SELECT count(*) FROM tfstate_holders;
DELETE FROM terraform_remote_state.states WHERE name = 'tofu2';

-- Any other key goes to the built-in functions, which are re-entrant and name no holder.
SELECT pg_try_advisory_lock(k) FROM unnest(ARRAY[0, 42, 42, -2, -9223372036854775808, 9223372036854775807]::bigint[]) k;
SELECT count(*) FROM tfstate_holders;
SELECT array_agg(DISTINCT ((classid::bigint << 32) | objid::bigint) ORDER BY ((classid::bigint << 32) | objid::bigint)) AS keys
  FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid = 1;
SELECT pg_advisory_unlock(k) FROM unnest(ARRAY[0, 42, 42, -2, -9223372036854775808, 9223372036854775807]::bigint[]) k;
SELECT pg_advisory_unlock(42);
SELECT * FROM tags;
BEGIN READ ONLY;
SELECT pg_try_advisory_lock(42);
SELECT pg_advisory_unlock(42);
ROLLBACK;
-- So does the id of a table that is not attached, with -1 after it.
SELECT id AS prod_id FROM terraform.states WHERE name = 'prod' \gset
SELECT l1, l2 FROM (SELECT states.id, pg_try_advisory_lock(states.id) AS l1, pg_try_advisory_lock(-1) AS l2 FROM "terraform".states WHERE states.name = 'prod') l;
SELECT count(*) FROM tfstate_holders;
SELECT tags, cardinality(keys) AS keys FROM tags;
SELECT pg_advisory_unlock(-1), pg_advisory_unlock(:prod_id);
SELECT * FROM tags;

--
-- Names that need quotes
--
SELECT count(*) > 0 AS attached FROM tfstate_attach('Odd schema', 'My "states"', guard => 'on');
INSERT INTO "Odd schema"."My ""states""" (name, data) VALUES ('a/b "c" ü''', '{"serial": 1, "lineage": "a"}');
SELECT name, pg_try_advisory_lock(id) FROM "Odd schema"."My ""states""" ORDER BY name;
SELECT lockid FROM tfstate_holders ORDER BY lockid;
CALL fails($$SELECT tfstate_lock('"Odd schema"."My ""states"""/a/b "c" ü''')$$);
SELECT pg_advisory_unlock(id) FROM "Odd schema"."My ""states""" ORDER BY name;
SELECT fence > 0 AS locked FROM tfstate_lock('"Odd schema"."My ""states"""/a/b "c" ü''', '{"ID": "1"}', 'session');
SELECT tags, keys = (SELECT array_agg(id) FROM "Odd schema"."My ""states""" WHERE name LIKE 'a/b%') AS keys FROM tags;
CALL fails($$SELECT pg_try_advisory_lock(id) FROM "Odd schema"."My ""states""" WHERE name LIKE 'a/b%'$$);
SELECT tfstate_unlock('"Odd schema"."My ""states"""/a/b "c" ü''') IS NOT NULL AS released;
SELECT tfstate_detach('Odd schema', 'My "states"');
DROP TABLE "Odd schema"."My ""states""";
DROP SCHEMA "Odd schema";

--
-- Durable mode, and runs with a name
--
SET tfstate.mode = 'durable';
SET tfstate.run_id = '00000000-0000-4000-8000-000000000001';
SELECT got($$EXECUTE l('default')$$);
SELECT lockid, mode FROM tfstate_holders;
SELECT * FROM tags;
-- The connection breaks, and the run's next one owns the lock.
SELECT id AS holding, fence FROM tfstate_holders \gset before_
SELECT pg_backend_pid() AS old_pid \gset
\c -
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET tfstate.mode = 'durable';
SET tfstate.run_id = '00000000-0000-4000-8000-000000000002';
SELECT set_config('regress.old_pid', :'old_pid', false) = :'old_pid' AS noted;
DO $$ BEGIN LOOP
	PERFORM pg_stat_clear_snapshot();
	EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = current_setting('regress.old_pid')::integer);
	PERFORM pg_sleep(0.01);
END LOOP; END $$;
SET search_path = tfstate_pg, pg_catalog, public;
PREPARE l AS SELECT states.id, pg_try_advisory_lock(states.id), pg_try_advisory_lock(-1) FROM "terraform_remote_state".states WHERE states.name = $1;
-- Another run does not.
CALL fails($$EXECUTE l('default')$$);
SELECT set_config('regress.default_id', :'default_id', false) = :'default_id' AS noted;
CALL fails($$SELECT pg_advisory_unlock(current_setting('regress.default_id')::bigint)$$);
SET tfstate.run_id = '';
CALL fails($$EXECUTE l('default')$$);
CALL fails($$SELECT pg_advisory_unlock(current_setting('regress.default_id')::bigint)$$);
SET tfstate.run_id = '00000000-0000-4000-8000-000000000001';
SELECT got($$EXECUTE l('default')$$);
SELECT lockid, mode, id = :'before_holding' AS id, fence = :before_fence AS fence, session_alive, pid = pg_backend_pid() AS pid
  FROM tfstate_holders;
-- Another run in this session, which a pooler has sent here, waits for it, however long; but not without end.
SET tfstate.run_id = '00000000-0000-4000-8000-000000000002';
SET tfstate.wait = '1h';
SET statement_timeout = '100ms';
EXECUTE l('default');
RESET statement_timeout;
SET tfstate.wait = -1;
CALL fails($$EXECUTE l('default')$$);
RESET tfstate.wait;
SET tfstate.run_id = '00000000-0000-4000-8000-000000000001';
-- As long as this session lives, another session of the same run is refused the lock.
CALL fails($$EXECUTE l('default')$$);
SELECT pg_advisory_unlock(:default_id);
SELECT count(*) FROM tfstate_holders;
-- But it may release it without having locked.
SELECT got($$EXECUTE l('default')$$);
\c -
SET client_min_messages = warning;
SET tfstate.run_id = '00000000-0000-4000-8000-000000000001';
SET search_path = tfstate_pg, pg_catalog, public;
SELECT pg_advisory_unlock(:default_id);
SELECT count(*) FROM tfstate_holders;
SELECT count(*) > 0 AS recorded FROM tfstate_history WHERE mode = 'durable' AND how = 'unlock' AND id = :'before_holding';
RESET search_path;

--
-- Privileges
--
CREATE ROLE regress_tfstate_user;
GRANT USAGE ON SCHEMA terraform_remote_state TO regress_tfstate_user;
GRANT SELECT, INSERT, UPDATE, DELETE ON terraform_remote_state.states TO regress_tfstate_user;
GRANT USAGE ON SEQUENCE public.global_states_id_seq TO regress_tfstate_user;
SET TimeZone = 'UTC';
SET tfstate.who = 'me';
SET search_path = tfstate_pg, pg_catalog, public;
PREPARE l AS SELECT states.id, pg_try_advisory_lock(states.id), pg_try_advisory_lock(-1) FROM "terraform_remote_state".states WHERE states.name = $1;
PREPARE p AS INSERT INTO "terraform_remote_state".states (name, data) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET data = $2 WHERE states.name = $1;
SET ROLE regress_tfstate_user;
-- Without a grant: neither a workspace nor the creation key, for any client.
CALL fails($$EXECUTE l('default')$$);
CALL fails($$SELECT pg_try_advisory_lock(-1)$$);
CALL fails($$SELECT pg_try_advisory_lock(-3797183428)$$);
-- Nor is it told the holder, and it sees the name of a workspace only if it may read that.
RESET ROLE;
CREATE ROLE regress_tfstate_stranger;
SELECT id FROM tfstate_lock('terraform_remote_state.states/default', '{"ID": "secret", "Info": "secret"}');
SET ROLE regress_tfstate_user;
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :default_id));
CALL fails(format('SELECT pg_advisory_unlock(%s)', :default_id));
CALL fails($$SELECT tfstate_unlock('terraform_remote_state.states/default')$$);
CALL fails($$SELECT tfstate_renew('terraform_remote_state.states/default', 'x')$$);
RESET ROLE;
SET ROLE regress_tfstate_stranger;
CALL fails(format('SELECT pg_try_advisory_lock(%s)', :default_id));
CALL fails(format('SELECT pg_advisory_unlock(%s)', :default_id));
RESET ROLE;
DROP ROLE regress_tfstate_stranger;
SELECT tfstate_unlock('terraform_remote_state.states/default') ->> 'ID' AS released;
-- It may release what it has locked, though the privilege has been revoked.
SELECT tfstate_grant('regress_tfstate_user', '*');
SET ROLE regress_tfstate_user;
SELECT got($$EXECUTE l('default')$$);
RESET ROLE;
SELECT tfstate_revoke('regress_tfstate_user', '*');
SET ROLE regress_tfstate_user;
SELECT pg_advisory_unlock(:default_id);
-- A grant that matches no workspace of an attached table is not enough.
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_user', 'terraform_remote_state.states'), tfstate_grant('regress_tfstate_user', 'terraform/*'),
	   tfstate_grant('regress_tfstate_user', 'z*');
SET ROLE regress_tfstate_user;
CALL fails($$SELECT pg_try_advisory_lock(-1)$$);
CALL fails($$SELECT pg_try_advisory_lock(-3797183428)$$);
-- Other keys do not belong to tfstate.
SELECT pg_try_advisory_lock(42);
SELECT pg_advisory_unlock(42);
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_user', 'terraform_remote_state.states/d*');
SET ROLE regress_tfstate_user;
SELECT got($$EXECUTE l('default')$$);
SELECT pg_advisory_unlock(:default_id);
CALL fails($$EXECUTE l('new')$$);
-- The creation key of another table needs a grant for that table.
BEGIN;
RESET ROLE;
SELECT count(*) > 0 AS attached FROM tfstate_attach('other');
SET LOCAL ROLE regress_tfstate_user;
CALL fails($$SELECT pg_try_advisory_lock(-2958088033)$$);
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_user', 'other.states/a');
SET LOCAL ROLE regress_tfstate_user;
SELECT pg_try_advisory_lock(-2958088033);
ROLLBACK;
-- A role that may lock some workspaces of a table may create these, under either key.
SELECT pg_try_advisory_lock(-1);
SELECT pg_advisory_unlock(-1);
SELECT pg_try_advisory_lock(-3797183428);
EXECUTE p('dev', '{"serial": 1, "lineage": "a"}');
SELECT pg_advisory_unlock(-3797183428);
SELECT pg_try_advisory_lock(-1);
CALL fails($$EXECUTE p('new2', '{"serial": 1, "lineage": "a"}')$$);
EXECUTE p('dev2', '{"serial": 1, "lineage": "a"}');
SELECT pg_advisory_unlock(-1);
RESET ROLE;
-- Under one key, a session has created a workspace for each of two roles: each unlocks its own.
SELECT pg_try_advisory_lock(-1);
EXECUTE p('theirs', '{"serial": 1, "lineage": "a"}');
SET ROLE regress_tfstate_user;
SELECT pg_try_advisory_lock(-1);
EXECUTE p('dev3', '{"serial": 1, "lineage": "a"}');
SELECT pg_advisory_unlock(-1);
RESET ROLE;
SELECT lockid, role = current_user AS own FROM tfstate_holders;
SELECT pg_advisory_unlock(-1);
SELECT lockid FROM tfstate_holders;
-- Holders and history say what such a lock is for.
SELECT lockid, operation, count(*) > 0 AS found FROM tfstate_history WHERE lockid ~ '^tfstate_pg|/$' GROUP BY 1, 2 ORDER BY 1;
SELECT tfstate_grant('regress_tfstate_user', 'terraform_remote_state.states/*');
SET ROLE regress_tfstate_user;
SELECT pg_try_advisory_lock(-3797183428);
EXECUTE p('mine', '{"serial": 1, "lineage": "a"}');
SELECT pg_advisory_unlock(-3797183428);
SELECT got($$EXECUTE l('mine')$$);
RESET ROLE;
SELECT lockid, role FROM tfstate_holders;
SELECT count(pg_advisory_unlock(id)) FROM terraform_remote_state.states WHERE name = 'mine';
SELECT * FROM tags;
-- A key that is granted goes with the workspace of its statement, not with one that was locked before.
SELECT got($$EXECUTE l('mine')$$);
SELECT tfstate_unlock('terraform_remote_state.states/mine') IS NOT NULL AS released;
SELECT pg_try_advisory_lock(-1);
SELECT got($$EXECUTE l('default')$$);
SELECT pg_advisory_unlock(-1);
SELECT lockid FROM tfstate_holders ORDER BY lockid;
SELECT pg_advisory_unlock(-1), pg_advisory_unlock(:default_id);
SELECT * FROM tags;
RESET search_path;

--
-- Detaching
--
SET search_path = tfstate_pg, pg_catalog, public;
-- A lock that is held meanwhile can still be released.
SELECT got($$EXECUTE l('default')$$);
SELECT tfstate_detach();
SELECT lockid FROM tfstate_holders;
SELECT pg_advisory_unlock(:default_id);
SELECT * FROM tags;
CALL fails($$SELECT tfstate_detach()$$);
SELECT name FROM terraform_remote_state.states ORDER BY name;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'terraform_remote_state.states'::regclass;
-- After that the keys are built-in ones.
SELECT got($$EXECUTE l('default')$$);
SELECT count(*) FROM tfstate_holders;
SELECT tags, cardinality(keys) AS keys FROM tags;
SELECT pg_advisory_unlock(-1), pg_advisory_unlock(:default_id);

-- An attached table that was dropped does no harm, and can be created and attached again.
SELECT count(*) > 0 AS attached FROM tfstate_attach() one, tfstate_attach('terraform', 'states') two;
DROP TABLE terraform.states;
SELECT got($$EXECUTE l('default')$$);
SELECT lockid FROM tfstate_holders;
SELECT pg_advisory_unlock(:default_id);
SELECT count(*) > 0 AS attached FROM tfstate_attach('terraform', 'states');
SELECT pg_try_advisory_lock(id) FROM terraform.states;
SELECT lockid FROM tfstate_holders;
SELECT pg_advisory_unlock(id) FROM terraform.states;
SELECT * FROM tags;

-- A durable lock of a workspace can be prepared; the built-in lock that belongs to it ends with the
-- transaction.
BEGIN;
SELECT id FROM tfstate_lock('terraform.states/default', '{"ID":"prepared"}');
PREPARE TRANSACTION 'regress_tfstate';
SELECT locked FROM tfstate_try_lock('terraform.states/default');
COMMIT PREPARED 'regress_tfstate';
SELECT lockid, id, mode FROM tfstate_holders;
BEGIN;
SELECT tfstate_unlock('terraform.states/default') ->> 'ID' AS unlocked;
PREPARE TRANSACTION 'regress_tfstate';
COMMIT PREPARED 'regress_tfstate';
SELECT lockid, id, mode FROM tfstate_holders;
SELECT * FROM tags;

-- What was a table when it was attached can be a view by now, through a rule, or anything else,
-- because its OID was reused: that has no workspaces.
CREATE VIEW public.no_table AS SELECT 7::bigint AS id, text 'w' AS name, text '' AS data;
SELECT count(tfstate_internal.record_table(r, NULL, NULL, NULL, NULL, NULL, NULL)) AS recorded
  FROM unnest('{public.no_table, pg_class_oid_index, global_states_id_seq}'::regclass[]) r;
SELECT pg_try_advisory_lock(7), pg_advisory_unlock(7);
SELECT count(tfstate_unlock(lockid)) AS unlocked
  FROM unnest('{public.no_table/w, pg_catalog.pg_class_oid_index/w}'::text[]) lockid, tfstate_lock(lockid);
SELECT count(*) FROM tfstate_states('*/w');
CREATE TABLE public.parted (id bigint, name text, data text) PARTITION BY LIST (id);
SELECT tfstate_internal.record_table(r, NULL, NULL, NULL, NULL, NULL, NULL), tfstate_internal.guard_table(r) FROM (SELECT 'public.parted'::regclass) p(r);
TRUNCATE public.parted;
DELETE FROM tfstate_internal.attached_table WHERE relid IN (SELECT oid FROM pg_class WHERE relkind <> 'r');
DROP VIEW public.no_table;
DROP TABLE public.parted;

-- Runs and roles that share a session: a lock of one of them stays with it, even if another one
-- unlocks the same key.
CREATE FUNCTION public.shared_state() RETURNS text LANGUAGE sql AS $$
SELECT '{"version": 4, "serial": 1, "lineage": "a", "outputs": {}, "resources": []}'
$$;
RESET tfstate.run_id;
SET application_name = 'tfstate-run:00000001-0000-4000-8000-000000000000';
SELECT pg_try_advisory_lock(-1);
INSERT INTO terraform_remote_state.states (name, data) VALUES ('shared', public.shared_state());
SET application_name = 'tfstate-run:00000002-0000-4000-8000-000000000000';
SELECT pg_advisory_unlock(-1);
SELECT lockid FROM tfstate_holders WHERE lockid ~ 'shared|tfstate_pg';
SET application_name = 'tfstate-run:00000001-0000-4000-8000-000000000000';
SELECT pg_advisory_unlock(-1);
SELECT lockid FROM tfstate_holders WHERE lockid ~ 'shared|tfstate_pg';
-- A role without the privilege is not told who holds a lock that its session has taken,
SELECT pg_try_advisory_lock(id) FROM terraform_remote_state.states WHERE name = 'shared';
SELECT id AS shared FROM terraform_remote_state.states WHERE name = 'shared' \gset
CREATE ROLE regress_tfstate_other;
SET ROLE regress_tfstate_other;
CALL fails(format('SELECT tfstate_pg.pg_advisory_unlock(%s)', :shared));
RESET ROLE;
SELECT pg_advisory_unlock(:shared);
-- nor if the lock has been taken again since.
RESET application_name;
SELECT pg_try_advisory_lock(:shared), tfstate_unlock('terraform_remote_state.states/shared') IS NOT NULL AS unlocked;
SELECT id FROM tfstate_lock('terraform_remote_state.states/shared', '{"ID": "s"}');
SET ROLE regress_tfstate_other;
CALL fails(format('SELECT tfstate_pg.pg_advisory_unlock(%s)', :shared));
RESET ROLE;
SELECT tfstate_unlock('terraform_remote_state.states/shared') ->> 'ID' AS unlocked;
DROP ROLE regress_tfstate_other;
-- Two workspaces created under one key are unlocked with it.
SELECT pg_try_advisory_lock(-1);
INSERT INTO terraform_remote_state.states (name, data) VALUES ('first', public.shared_state());
SELECT pg_try_advisory_lock(-1);
INSERT INTO terraform_remote_state.states (name, data) VALUES ('second', public.shared_state());
SELECT lockid FROM tfstate_holders WHERE lockid ~ 'first|second' ORDER BY lockid;
SELECT pg_advisory_unlock(-1);
SELECT lockid FROM tfstate_holders WHERE lockid ~ 'first|second';
DELETE FROM terraform_remote_state.states WHERE name IN ('first', 'second');
DELETE FROM terraform_remote_state.states WHERE name = 'shared';
-- A run can delete what it has unlocked, unless another run has locked it since.
SET tfstate.guard = off;
INSERT INTO terraform_remote_state.states (name, data) VALUES ('shared',
	'{"version": 4, "serial": 1, "lineage": "a", "resources": [{"type": "t", "name": "n", "instances": [{}]}]}');
RESET tfstate.guard;
SELECT id AS shared FROM terraform_remote_state.states WHERE name = 'shared' \gset
SET application_name = 'tfstate-run:00000001-0000-4000-8000-000000000000';
SELECT pg_try_advisory_lock(:shared), pg_advisory_unlock(:shared);
SET application_name = 'tfstate-run:00000002-0000-4000-8000-000000000000';
SELECT pg_try_advisory_lock(:shared), pg_advisory_unlock(:shared);
SET application_name = 'tfstate-run:00000001-0000-4000-8000-000000000000';
\set VERBOSITY sqlstate
DELETE FROM terraform_remote_state.states WHERE name = 'shared';
\set VERBOSITY default
SET application_name = 'tfstate-run:00000002-0000-4000-8000-000000000000';
DELETE FROM terraform_remote_state.states WHERE name = 'shared' RETURNING name;
DROP FUNCTION public.shared_state;
RESET application_name;

-- The extension is dropped, the states stay.
RESET search_path;
\set VERBOSITY sqlstate
DROP EXTENSION tfstate;
\set VERBOSITY default
SET client_min_messages = error;
DROP EXTENSION tfstate CASCADE;
SELECT name FROM terraform_remote_state.states ORDER BY name;
INSERT INTO terraform_remote_state.states (name) VALUES ('later');

DROP FUNCTION public.got;
DROP VIEW tags;
DROP SCHEMA terraform_remote_state CASCADE;
DROP SCHEMA terraform CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP ROLE regress_tfstate_user;
DROP PROCEDURE fails;
DROP FUNCTION masked;
