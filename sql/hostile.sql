-- What a role without rights can do, or with rights for its own work only.
SET client_min_messages = warning;
CREATE ROLE regress_tfstate_mallory;
CREATE ROLE regress_tfstate_owner;
CREATE ROLE regress_tfstate_alice;
CREATE ROLE regress_tfstate_alices IN ROLE regress_tfstate_alice;
SELECT current_database() AS database \gset
GRANT CREATE ON DATABASE :"database" TO regress_tfstate_mallory, regress_tfstate_owner;

-- Runs a command and reports its result.
CREATE PROCEDURE try(command text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	RAISE INFO 'no error: %', command;
EXCEPTION WHEN OTHERS THEN
	RAISE INFO '%: %', sqlstate, regexp_replace(regexp_replace(sqlerrm, 'since \S+ \S+', 'since ...'), 'ID [0-9a-f-]{36}', 'ID ...');
END;
$$;

--
-- Before CREATE EXTENSION
--

-- It is not trusted: the right to create objects in a database is not enough to install it there.
SET ROLE regress_tfstate_owner;
CALL try('CREATE EXTENSION tfstate');
RESET ROLE;

-- Objects that others have created under tfstate's names are not used.
CREATE SCHEMA shared;
GRANT ALL ON SCHEMA shared TO PUBLIC;
SET ROLE regress_tfstate_mallory;
SET search_path = shared, public;
CREATE FUNCTION planted() RETURNS boolean LANGUAGE plpgsql AS
$$
DECLARE
	context text;
BEGIN
	GET DIAGNOSTICS context = PG_CONTEXT;
	RAISE WARNING 'planted code runs as %: %', current_user, context;
	RETURN true;
END;
$$;
RESET ROLE;
CREATE PROCEDURE plant(command text, leftover text) LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL ROLE regress_tfstate_mallory;
	EXECUTE command;
	RESET ROLE;
	CALL try('CREATE EXTENSION tfstate');
	EXECUTE leftover;
END;
$$;
CALL plant('CREATE TABLE shared.tfstate_grants (role regrole, pattern text)', 'DROP TABLE shared.tfstate_grants');
CALL plant('CREATE VIEW shared.tfstate_holders AS SELECT 1 AS n', 'DROP VIEW shared.tfstate_holders');
CALL plant('CREATE TYPE shared.tfstate_history AS (n int)', 'DROP TYPE shared.tfstate_history');
CALL plant('CREATE DOMAIN shared.tfstate_versions AS oid', 'DROP DOMAIN shared.tfstate_versions');
CALL plant('CREATE FUNCTION shared.tfstate_grant(name, text, text) RETURNS void LANGUAGE sql AS ''SELECT shared.planted()''',
		   'DROP FUNCTION shared.tfstate_grant');
CALL plant('CREATE SCHEMA tfstate_internal', 'DROP SCHEMA tfstate_internal');
CALL plant('CREATE SCHEMA tfstate_pg', 'DROP SCHEMA tfstate_pg');

-- Nor are functions, in a schema before all others or in the schema of the extension, that fit the
-- arguments of a call as well as the server's or tfstate's own do: with other types for one or all
-- of its arguments, or without those that have a default.
CREATE FUNCTION plant_functions(of oid[], changed boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	f record;
BEGIN
	FOR f IN SELECT p.proname, v.types
			   FROM pg_proc p
			  CROSS JOIN generate_series(p.pronargs - p.pronargdefaults * changed::integer, p.pronargs::integer) arguments
			  CROSS JOIN generate_series(-changed::integer, p.pronargs * changed::integer) change	-- 0: none, -1: all
			  CROSS JOIN LATERAL (
				SELECT coalesce(string_agg(CASE WHEN change NOT IN (n, -1) THEN t::regtype::text WHEN t = 'text'::regtype THEN 'name'
												WHEN t = 'regclass'::regtype THEN 'oid' WHEN t = 'oid'::regtype THEN 'regrole' ELSE 'text' END, ', ' ORDER BY n), '') AS types
				  FROM unnest(p.proargtypes) WITH ORDINALITY a(t, n) WHERE n <= arguments) v
			  WHERE p.oid = ANY (of) AND v.types !~ '\yany|internal|cstring|pg_ddl_command' LOOP
		BEGIN
			EXECUTE format('CREATE FUNCTION shared.%I(%s) RETURNS boolean LANGUAGE sql AS ''SELECT shared.planted()''', f.proname, f.types);
		EXCEPTION WHEN duplicate_function THEN
			NULL;
		END;
	END LOOP;
END;
$$;
SET ROLE regress_tfstate_mallory;
SELECT plant_functions(array_agg(oid), false) FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f'
   AND proname IN ('replace', 'right', 'left', 'format', 'strpos', 'length', 'octet_length', 'md5', 'sha256', 'encode', 'quote_ident', 'quote_literal',
				   'current_setting', 'set_config', 'gen_random_uuid', 'clock_timestamp', 'pg_get_userbyid', 'to_regclass', 'to_regnamespace',
				   'pg_has_role', 'has_table_privilege', 'has_schema_privilege', 'split_part', 'pg_backend_pid', 'pg_extension_config_dump',
				   'nextval', 'pg_try_advisory_lock', 'pg_advisory_unlock');
CREATE FUNCTION same(name, text) RETURNS boolean LANGUAGE sql AS 'SELECT shared.planted()';
CREATE OPERATOR = (FUNCTION = same, LEFTARG = name, RIGHTARG = text);
CREATE OPERATOR <> (FUNCTION = same, LEFTARG = name, RIGHTARG = text);
RESET ROLE;
SET search_path = pg_catalog, public;
CREATE EXTENSION tfstate SCHEMA shared;
CREATE TEMP TABLE ours AS
SELECT array_agg(objid) AS functions FROM pg_depend
 WHERE classid = 'pg_proc'::regclass AND refclassid = 'pg_extension'::regclass AND deptype = 'e'
   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'tfstate');
GRANT SELECT ON ours TO PUBLIC;
SET ROLE regress_tfstate_mallory;
SELECT shared.plant_functions(functions, true) FROM ours;
SELECT count(*) > 300 AS planted FROM pg_proc WHERE proowner = 'regress_tfstate_mallory'::regrole;
RESET ROLE;
DROP EXTENSION tfstate;
SET search_path = shared, pg_catalog;
CREATE EXTENSION tfstate;
SET search_path = pg_catalog, public;
-- As a superuser would call them, from a schema that is not the first:
SELECT shared.tfstate_grant('regress_tfstate_alice'::name, '*'::text, 'lock'::text);
SELECT count(*) > 0 AS attached FROM shared.tfstate_attach('planted'::text, 'states'::text, 'regress_tfstate_alice'::name, 'durable'::text, '1 s'::interval,
							 'on'::text, 5::integer, '1 day'::interval, true, 'write'::text, false);
INSERT INTO planted.states (name, data) VALUES ('w', '{"version": 4, "serial": 1, "lineage": "a"}');
UPDATE planted.states SET data = '{"version": 4, "serial": 2, "lineage": "a"}';
SELECT count(shared.tfstate_lock('l'::text, '{}'::jsonb, 'durable'::text, '0'::interval, '1 h'::interval)) AS locked;
SELECT count(*) AS lines FROM shared.tfstate_check() WHERE object IS DISTINCT FROM 'server';
SELECT (SELECT count(*) FROM shared.tfstate_holders('*'::text)) AS holders, (SELECT count(*) FROM shared.tfstate_waiters('*'::text)) AS waiters,
	   (SELECT count(*) FROM shared.tfstate_history('*'::text, 5::bigint)) AS history, (SELECT count(*) FROM shared.tfstate_versions('*'::text)) AS versions,
	   (SELECT count(*) FROM shared.tfstate_workspaces) AS workspaces, (SELECT count(*) FROM shared.tfstate_verify('*'::text, true)) AS wrong;
SELECT shared.tfstate_rollback('planted.states/w'::text, 1::bigint) AS number, shared.tfstate_prune('planted.states/w'::text, 1::integer, '0'::interval) AS pruned;
SELECT shared.tfstate_force_unlock('l'::text, NULL::text, 'test'::text, false) IS NOT NULL AS released;
SELECT shared.tfstate_detach('planted'::text, 'states'::text, NULL::name);
SELECT shared.tfstate_revoke('regress_tfstate_alice'::name, '*'::text, 'lock'::text);
DROP EXTENSION tfstate CASCADE;
DROP SCHEMA planted CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP SCHEMA shared CASCADE;
RESET search_path;
CREATE EXTENSION tfstate;

--
-- The owner of a database
--

ALTER SCHEMA public OWNER TO regress_tfstate_owner;
SET ROLE regress_tfstate_owner;
CALL try('TABLE tfstate_internal.durable_lock');
CALL try('DELETE FROM tfstate_internal.released_lock');
CALL try('ALTER TABLE tfstate_internal.durable_lock DISABLE TRIGGER ALL');
CALL try('CREATE OR REPLACE FUNCTION tfstate_matches(text, text) RETURNS boolean LANGUAGE sql AS ''SELECT true''');
CALL try('ALTER FUNCTION tfstate_matches(text, text) COST 1');
CALL try('DROP FUNCTION tfstate_lock(text, jsonb, text, interval, interval)');
CALL try('DROP TABLE tfstate_internal.privilege');
CALL try('CREATE TABLE tfstate_internal.planted ()');
CALL try('ALTER SCHEMA tfstate_internal RENAME TO planted');
CALL try('DROP VIEW tfstate_grants');
CALL try('DROP EXTENSION tfstate');
CALL try('ALTER EXTENSION tfstate SET SCHEMA public');
CALL try($$SELECT tfstate_grant('regress_tfstate_owner')$$);
CALL try($$SELECT tfstate_lock('l')$$);
CALL try($$SELECT tfstate_attach()$$);
RESET ROLE;
ALTER SCHEMA public OWNER TO pg_database_owner;

--
-- tfstate's triggers on tables of others
--

SELECT count(*) > 0 AS attached FROM tfstate_attach(role => 'regress_tfstate_alice', guard => 'on');
INSERT INTO terraform_remote_state.states (name, data) VALUES ('w', '{"version": 4, "serial": 1, "lineage": "a"}');
CREATE SCHEMA mallory AUTHORIZATION regress_tfstate_mallory;
SET ROLE regress_tfstate_mallory;
CREATE TABLE mallory.states (id bigint, name text, data text);
CALL try('CREATE TRIGGER t AFTER INSERT ON mallory.states FOR EACH ROW EXECUTE FUNCTION tfstate_internal.guard()');
CALL try('SELECT tfstate_internal.guard()');
RESET ROLE;
-- Even if an administrator makes the trigger for the role:
CALL try('SELECT tfstate_internal.guard()');
CREATE TRIGGER t AFTER INSERT OR UPDATE OR DELETE ON mallory.states FOR EACH ROW EXECUTE FUNCTION tfstate_internal.guard();
SET ROLE regress_tfstate_mallory;
CALL try($$INSERT INTO mallory.states VALUES ((SELECT 1), 'w', '{"version": 4, "serial": 9, "lineage": "a"}')$$);
RESET ROLE;
SELECT workspace, number, serial FROM tfstate_versions ORDER BY workspace, number;
DROP SCHEMA mallory CASCADE;

--
-- A role that may lock, and nothing else
--

SELECT tfstate_grant('regress_tfstate_alice', 'terraform_remote_state.*'), tfstate_grant('regress_tfstate_alice', 'l*'),
	   tfstate_grant('regress_tfstate_mallory', '*');
GRANT USAGE ON SCHEMA terraform_remote_state TO regress_tfstate_mallory;
GRANT SELECT, UPDATE ON terraform_remote_state.states TO regress_tfstate_mallory;
SET ROLE regress_tfstate_alice;
SET tfstate.run_id = '00000000-0000-4000-8000-000000000001';
SET tfstate.mode = durable;
SELECT tfstate_lock('lease', '{"ID": "a"}', ttl => '1 h') IS NOT NULL AS locked;
SELECT id AS workspace FROM terraform_remote_state.states WHERE name = 'w' \gset
SELECT tfstate_pg.pg_try_advisory_lock(:workspace);
-- Another role does not hold them, even in the same session and with the same run.
SET ROLE regress_tfstate_mallory;
CALL try($$UPDATE terraform_remote_state.states SET data = '{"version": 4, "serial": 2, "lineage": "a"}' WHERE name = 'w'$$);
CALL try(format('SELECT tfstate_pg.pg_advisory_unlock(%s)', :workspace));
CALL try($$SELECT tfstate_unlock('lease')$$);
CALL try($$SELECT tfstate_renew('lease', 'a', '1 ms')$$);
-- It sees the IDs and fences of locks, and can guess the names of runs.
\c -
SET client_min_messages = warning;
SET ROLE regress_tfstate_mallory;
SELECT id, fence, holder->>'ID' AS holder FROM tfstate_try_lock('lease') \gset
SELECT :'id' AS id, :'holder' AS holder, :fence > 0 AS fence;
SELECT id AS workspace_lock, fence FROM tfstate_try_lock('terraform_remote_state.states/w') \gset
CALL try($$SELECT tfstate_unlock('lease', 'a')$$);
CALL try($$SELECT tfstate_renew('lease', 'a', '1 ms')$$);
CALL try($$SELECT tfstate_force_unlock('lease', 'a')$$);
SELECT set_config('tfstate.fence', :'fence', false) IS NOT NULL AS fence;
SET tfstate.run_id = '00000000-0000-4000-8000-000000000001';
SET tfstate.mode = durable;
\set VERBOSITY sqlstate
UPDATE terraform_remote_state.states SET data = '{"version": 4, "serial": 2, "lineage": "a"}' WHERE name = 'w';
SELECT tfstate_pg.pg_try_advisory_lock(:workspace);
SELECT tfstate_pg.pg_advisory_unlock(:workspace);
SELECT tfstate_unlock('terraform_remote_state.states/w', :'workspace_lock');
SELECT tfstate_lock('lease');
SET tfstate.guard = off;
UPDATE terraform_remote_state.states SET data = '{"version": 4, "serial": 2, "lineage": "a"}';
SELECT tfstate_repair('terraform_remote_state.states/w');
RESET tfstate.guard;
\set VERBOSITY default
RESET tfstate.fence;
RESET tfstate.run_id;
-- It may take many of its own locks, but not all that the server has room for, nor may it raise the limit.
CALL try('SET tfstate.max_session_locks = 1000000');
CALL try('SET tfstate.history = none');
CALL try('SET tfstate.history_count = -1');
CALL try('SET tfstate.history_age = -1');
CALL try($$SELECT tfstate_lock('mine ' || i, '{}', 'session') FROM generate_series(1, 1001) i$$);
RESET ROLE;
SELECT lockid, id = 'a' AS same, role, waiters FROM tfstate_holders ORDER BY lockid;
-- A member of the role that has the lock, which may force-unlock, can do so by its ID.
SET ROLE regress_tfstate_alices;
SELECT tfstate_renew('lease', 'a') > now() AS renewed;
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_mallory', 'lease', 'force');
SET ROLE regress_tfstate_mallory;
SELECT tfstate_unlock('lease', 'a')->>'ID' AS released;
RESET ROLE;
SELECT lockid, role, how, released_by FROM tfstate_history('lease');
-- The run goes on as the role that began it, in any session.
SET ROLE regress_tfstate_alices;
SET tfstate.run_id = '00000000-0000-4000-8000-000000000001';
SET tfstate.mode = durable;
SELECT tfstate_pg.pg_try_advisory_lock(:workspace), tfstate_pg.pg_advisory_unlock(:workspace);
RESET tfstate.run_id;
RESET ROLE;

--
-- Crafted lockids
--

-- The call in a hint can be copied, and does not change what the terminal shows.
SELECT count(tfstate_lock(lockid, '{"ID": "'')--", "Who": "\u001b[31m\nERROR:  no", "Info": "%s"}')) AS locked
  FROM unnest(ARRAY['''); DROP TABLE tfstate_internal.privilege; --', E'a\nERROR:  b\x1b[31m\u0085', E'\\''', '%s%n', '*', '"']) lockid;
CREATE PROCEDURE show_conflict(lockid text) LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	PERFORM tfstate_lock(lockid);
EXCEPTION WHEN lock_not_available THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RAISE INFO '% / % / %', regexp_replace(sqlerrm, 'since \S+ \S+', 'since ...'), regexp_replace(detail, '"Created": "[^"]*"', '"Created": ...'), hint;
	EXECUTE regexp_replace(hint, '.*SELECT', 'SELECT');
END;
$$;
DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT h.lockid FROM tfstate_holders h ORDER BY h.lockid LOOP
		CALL show_conflict(name);
	END LOOP;
END;
$$;
SELECT count(*) AS held FROM tfstate_holders;
-- A lockid that looks like a workspace's, for a table with that odd name, is another lockid.
CREATE SCHEMA "terraform_remote_state.states/w";
SELECT count(*) > 0 AS attached FROM tfstate_attach('terraform_remote_state.states/w', 'x', guard => 'on');
INSERT INTO "terraform_remote_state.states/w".x (name, data) VALUES ('w', '{"version": 4, "serial": 1, "lineage": "a"}');
SELECT workspace FROM tfstate_workspaces ORDER BY workspace;

-- Code that the owner of a table has put on it does not run when an administrator rolls back or
-- undeletes; the owner can still do so.
SELECT count(*) > 0 AS attached FROM tfstate_attach('owned', 'states', guard => 'on');
INSERT INTO owned.states (name, data) VALUES ('w', '{"version": 4, "serial": 1, "lineage": "a"}'), ('gone', '{"version": 4, "serial": 1, "lineage": "a"}');
SELECT tfstate_lock('owned.states/gone') IS NOT NULL AS locked;
DELETE FROM owned.states WHERE name = 'gone';
SELECT tfstate_unlock('owned.states/gone') IS NOT NULL AS unlocked;
GRANT USAGE, CREATE ON SCHEMA owned TO regress_tfstate_owner;
GRANT USAGE ON SEQUENCE public.global_states_id_seq TO regress_tfstate_owner;
ALTER TABLE owned.states OWNER TO regress_tfstate_owner;
SELECT tfstate_grant('regress_tfstate_owner', 'owned.states/*'), tfstate_grant('regress_tfstate_owner', 'owned.states/*', 'view');
SELECT tfstate_rollback('owned.states/w', 1) AS version;
SET ROLE regress_tfstate_owner;
CREATE FUNCTION owned.planted() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE INFO 'planted code runs as %', current_user; RETURN NEW; END$$;
CREATE TRIGGER planted BEFORE INSERT OR UPDATE ON owned.states FOR EACH ROW EXECUTE FUNCTION owned.planted();
RESET ROLE;
CALL try($$SELECT tfstate_rollback('owned.states/w', 1)$$);
CALL try($$SELECT tfstate_undelete('owned.states/gone')$$);
SET ROLE regress_tfstate_owner;
SELECT tfstate_rollback('owned.states/w', 1) AS version;
RESET ROLE;
DROP SCHEMA owned CASCADE;

DROP EXTENSION tfstate CASCADE;
DROP SCHEMA terraform_remote_state, "terraform_remote_state.states/w" CASCADE;
DROP SEQUENCE global_states_id_seq;
DROP PROCEDURE try, show_conflict;
REVOKE ALL ON DATABASE :"database" FROM regress_tfstate_mallory, regress_tfstate_owner;
DROP ROLE regress_tfstate_mallory, regress_tfstate_owner, regress_tfstate_alices, regress_tfstate_alice;
