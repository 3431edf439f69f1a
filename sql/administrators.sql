-- Administrators that are no superusers: the privilege "admin", and the owners of attached tables.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

CREATE ROLE regress_tfstate_admin LOGIN;
CREATE ROLE regress_tfstate_owner LOGIN;
CREATE ROLE regress_tfstate_mallory LOGIN;
CREATE ROLE regress_tfstate_foreign LOGIN;
SELECT current_database() AS database \gset

SELECT count(*) > 0 AS attached FROM tfstate_attach('central');
CREATE SCHEMA team AUTHORIZATION regress_tfstate_admin;
CREATE SCHEMA owned AUTHORIZATION regress_tfstate_owner;
SET ROLE regress_tfstate_owner;
CREATE TABLE owned.states (id bigint, name text, data text);
RESET ROLE;
SELECT count(*) > 0 AS attached FROM tfstate_attach('owned');

--
-- What it takes to attach a table
--
SET ROLE regress_tfstate_admin;
CALL fails($$SELECT tfstate_attach('team')$$);
CALL fails($$SELECT tfstate_detach('owned')$$);
CALL fails($$SELECT tfstate_check()$$);
CALL fails($$SELECT tfstate_grant('regress_tfstate_admin', 'team.states/*', 'admin')$$);
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_admin', 'team.*', 'admin');
SET ROLE regress_tfstate_admin;
SELECT tfstate_has_privilege('team.states/x', 'admin') AS admin, tfstate_has_privilege('team.states/x', 'lock') AS lock;
-- The rest is what PostgreSQL demands.
CALL fails($$SELECT tfstate_attach('team')$$);
RESET ROLE;
GRANT USAGE ON SEQUENCE public.global_states_id_seq TO regress_tfstate_admin;
SET ROLE regress_tfstate_admin;
SELECT line FROM tfstate_attach('team') line WHERE line ~ 'schema_name';
RESET ROLE;
SELECT c.relowner::regrole, t.attached_by FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid WHERE t.name = 'team.states';
SELECT tgname FROM pg_trigger WHERE tgrelid = 'team.states'::regclass ORDER BY 1;
-- A table of others is theirs, whatever the grant covers.
SELECT tfstate_grant('regress_tfstate_admin', '*', 'admin');
SET ROLE regress_tfstate_admin;
CALL fails($$SELECT tfstate_attach('owned')$$);
CALL fails($$SELECT tfstate_detach('owned')$$);
CALL fails($$SELECT tfstate_detach('central')$$);
CALL fails($$SELECT tfstate_attach('elsewhere')$$);
RESET ROLE;
SELECT tfstate_revoke('regress_tfstate_admin', '*', 'admin');

-- The configuration for a table: who owns it, or administers it
SET ROLE regress_tfstate_admin;
SELECT * FROM tfstate_configuration('team', format => 'backend');
CALL fails($$SELECT tfstate_configuration('owned')$$);
SET ROLE regress_tfstate_owner;
SELECT count(*) FROM tfstate_configuration('owned', role => 'regress_tfstate_owner');
CALL fails($$SELECT tfstate_configuration('team')$$);
CALL fails($$SELECT tfstate_configuration('owned', 'other')$$);
SET ROLE regress_tfstate_mallory;
CALL fails($$SELECT tfstate_configuration('team')$$);
CALL fails($$SELECT tfstate_internal.tfstate_configuration('team', 'states', NULL, 'shell')$$);
RESET ROLE;

-- Roles: it gives what it may give, and the error says what it may not.
CREATE PROCEDURE lacks(statement text) LANGUAGE plpgsql AS $$	-- the messages depend on the version
DECLARE
	hint text;
BEGIN
	EXECUTE statement;
	RAISE INFO 'no error';
EXCEPTION WHEN insufficient_privilege THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RAISE INFO '%', replace(hint, current_database(), '<database>');
END;
$$;
SET ROLE regress_tfstate_admin;
SET client_min_messages = error;
CALL lacks($$SELECT tfstate_attach('team', role => 'regress_tfstate_foreign')$$);
RESET ROLE;
ALTER ROLE regress_tfstate_admin CREATEROLE;
SET ROLE regress_tfstate_admin;
CREATE ROLE regress_tfstate_mine LOGIN;
CALL lacks($$SELECT tfstate_attach('team', role => 'regress_tfstate_mine')$$);
RESET ROLE;
SET client_min_messages = warning;
SELECT count(*) FROM tfstate_internal.given;
SELECT has_schema_privilege('regress_tfstate_mine', 'team', 'USAGE') AS usage;
GRANT USAGE ON SEQUENCE public.global_states_id_seq TO regress_tfstate_admin WITH GRANT OPTION;
SET ROLE regress_tfstate_admin;
SELECT count(*) > 0 AS attached FROM tfstate_attach('team', role => 'regress_tfstate_mine');
SELECT count(*) FROM tfstate_check() WHERE problem NOT LIKE 'log_%' AND role = 'regress_tfstate_mine';
-- The role works.
SET ROLE regress_tfstate_mine;
SELECT count(tfstate_pg.pg_try_advisory_lock(id)) AS locked FROM team.states;
UPDATE team.states SET data = '{"version": 4, "serial": 1, "lineage": ""}';
SELECT count(tfstate_pg.pg_advisory_unlock(id)) AS unlocked FROM team.states;
CALL fails($$SELECT tfstate_attach('team')$$);
CALL fails($$SELECT tfstate_check()$$);

--
-- Granting: what lies wholly below the pattern
--
SET ROLE regress_tfstate_admin;
SELECT tfstate_grant('regress_tfstate_mine', p.pattern, p.privilege), tfstate_revoke('regress_tfstate_mine', p.pattern, p.privilege)
  FROM (VALUES ('team.*', 'view'), ('team.**', 'force'), ('team.states/a*b', 'override'), ('team.x', 'lock')) p(pattern, privilege);
CALL fails($$SELECT tfstate_grant('regress_tfstate_mine')$$);
CALL fails($$SELECT tfstate_grant('regress_tfstate_mine', 'team*')$$);
CALL fails($$SELECT tfstate_grant('regress_tfstate_mine', 'tea*', 'view')$$);
CALL fails($$SELECT tfstate_grant('regress_tfstate_mine', '*team.x', 'view')$$);
CALL fails($$SELECT tfstate_grant('regress_tfstate_mine', 'team', 'view')$$);
CALL fails($$SELECT tfstate_grant('regress_tfstate_mine', 'team.states/*', 'admin')$$);
CALL fails($$SELECT tfstate_revoke('regress_tfstate_admin', 'team.*', 'admin')$$);
CALL fails($$SELECT tfstate_grant('regress_tfstate_mine', 'owned.states/*')$$);
SELECT tfstate_grant('regress_tfstate_admin', 'team.*');
SELECT role, pattern, privilege, grantor FROM tfstate_grants ORDER BY 1, 2, 3;
-- The owner of an attached table: below it
SET ROLE regress_tfstate_owner;
SELECT tfstate_grant('regress_tfstate_owner', p.pattern, p.privilege), tfstate_revoke('regress_tfstate_owner', p.pattern, p.privilege)
  FROM (VALUES ('owned.states/*', 'lock'), ('owned.states/', 'lock'), ('owned.states/x', 'force')) p(pattern, privilege);
CALL fails($$SELECT tfstate_grant('regress_tfstate_owner', 'owned.states*')$$);
CALL fails($$SELECT tfstate_grant('regress_tfstate_owner', 'owned.states')$$);
CALL fails($$SELECT tfstate_grant('regress_tfstate_owner', 'owned.*')$$);
CALL fails($$SELECT tfstate_grant('regress_tfstate_owner', 'team.states/*')$$);
CALL fails($$SELECT tfstate_grant('regress_tfstate_owner', 'owned.states/*', 'admin')$$);
CALL fails($$SELECT tfstate_detach('owned')$$);
CALL fails($$SELECT tfstate_attach('owned', guard => 'off')$$);
SELECT DISTINCT object FROM tfstate_check();
-- Not under another name than it was attached as
ALTER TABLE owned.states RENAME TO other;
CALL fails($$SELECT tfstate_grant('regress_tfstate_owner', 'owned.states/*')$$);
CALL fails($$SELECT tfstate_grant('regress_tfstate_owner', 'owned.other/*')$$);
ALTER TABLE owned.other RENAME TO states;
-- Nor one with a star in its name, which would stand for any text
RESET ROLE;
ALTER TABLE owned.states RENAME TO "s*";
SELECT count(*) > 0 AS attached FROM tfstate_attach('owned', 's*');
SET ROLE regress_tfstate_owner;
CALL fails($$SELECT tfstate_grant('regress_tfstate_owner', 'owned."s*"/*')$$);
RESET ROLE;
ALTER TABLE owned."s*" RENAME TO states;
SELECT count(*) > 0 AS attached FROM tfstate_attach('owned');

-- A table that was attached under a name that it does not administer
CREATE SCHEMA away AUTHORIZATION regress_tfstate_admin;
SELECT count(*) > 0 AS attached FROM tfstate_attach('away', 'moved');
ALTER TABLE away.moved OWNER TO regress_tfstate_admin;
ALTER TABLE away.moved SET SCHEMA team;
SET ROLE regress_tfstate_admin;
CALL fails($$SELECT tfstate_attach('team', 'moved')$$);
DROP TABLE team.moved;
RESET ROLE;
DROP SCHEMA away;

--
-- Code of others
--
-- What the administrator has put on the table runs with its own rights, and cannot leave them.
SET ROLE regress_tfstate_admin;
CREATE TABLE team.code (id integer DEFAULT 1, name text, data text);
INSERT INTO team.code VALUES (1000, 'prod', 'x');
CALL fails($$SELECT tfstate_attach('team', 'code')$$);
UPDATE team.code SET id = nextval('public.global_states_id_seq');
CREATE FUNCTION team.spy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE WARNING 'runs as %', current_user;
	BEGIN
		RESET ROLE;
	EXCEPTION WHEN OTHERS THEN
		RAISE WARNING '%', sqlerrm;
	END;
	BEGIN
		PERFORM tfstate_internal.as_caller('SELECT 1');
	EXCEPTION WHEN OTHERS THEN
		RAISE WARNING '%', sqlerrm;
	END;
	BEGIN
		PERFORM public.tfstate_grant('regress_tfstate_mallory');
	EXCEPTION WHEN OTHERS THEN
		RAISE WARNING '%', sqlerrm;
	END;
	RAISE WARNING 'still runs as %', current_user;
	RETURN new;
END;
$$;
CREATE TRIGGER spy BEFORE INSERT ON team.code FOR EACH ROW EXECUTE FUNCTION team.spy();
CREATE FUNCTION team.seen(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	RAISE WARNING 'seen by %', current_user;
	PERFORM set_config('search_path', 'team, pg_catalog', false);
	RETURN true;
END;
$$;
ALTER TABLE team.code ADD CHECK (team.seen(name));
RESET search_path;
CREATE INDEX ON team.code (team.seen(data));
RESET search_path;
\set VERBOSITY terse
SELECT count(*) > 0 AS attached FROM tfstate_attach('team', 'code');
SELECT current_user;
SHOW search_path;
SELECT tfstate_detach('team', 'code');
\set VERBOSITY default
-- A function with the rights of its owner has just those, whoever calls it.
RESET ROLE;
CREATE SCHEMA mallory AUTHORIZATION regress_tfstate_mallory;
SET ROLE regress_tfstate_mallory;
CREATE FUNCTION mallory.trap(command text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
	result text;
BEGIN
	EXECUTE command INTO result;
	RETURN result;
END;
$$;
RESET ROLE;
CALL fails($$SELECT mallory.trap('SELECT public.tfstate_attach(''mallory'')')$$);
CALL fails($$SELECT mallory.trap('SELECT public.tfstate_detach(''central'')')$$);
CALL fails($$SELECT mallory.trap('SELECT public.tfstate_grant(''regress_tfstate_mallory'')')$$);
CALL fails($$SELECT mallory.trap('SELECT public.tfstate_revoke(''regress_tfstate_admin'', ''team.*'', ''admin'')')$$);
CALL fails($$SELECT mallory.trap('SELECT public.tfstate_check()')$$);
-- And the other way round.
CREATE FUNCTION sudo(command text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
	result text;
BEGIN
	EXECUTE command INTO result;
	RETURN result;
END;
$$;
SET ROLE regress_tfstate_mallory;
SELECT sudo('SELECT tfstate_grant(''regress_tfstate_mallory'', ''m'')');
SELECT grantor = session_user AS by_owner FROM tfstate_grants WHERE pattern = 'm';
SELECT sudo('SELECT tfstate_revoke(''regress_tfstate_mallory'', ''m'')');
-- After an error the role is what it was.
SET ROLE regress_tfstate_admin;
DO $$
BEGIN
	BEGIN
		PERFORM tfstate_attach('team', default_workspace => true), tfstate_attach('nowhere');
	EXCEPTION WHEN insufficient_privilege THEN
		RAISE INFO 'refused';
	END;
	RAISE INFO 'runs as %', current_user;
	PERFORM tfstate_grant('public');
EXCEPTION WHEN insufficient_privilege THEN
	RAISE INFO 'refused';
END;
$$;
SELECT current_user;
CALL fails('TABLE tfstate_internal.given');

--
-- Detaching takes back what was given.
--
SELECT tfstate_detach('team', 'states', 'regress_tfstate_mine');
RESET ROLE;
SELECT has_schema_privilege('regress_tfstate_mine', 'team', 'USAGE') AS usage, has_table_privilege('regress_tfstate_mine', 'team.states', 'SELECT') AS "select",
	   (SELECT count(*) FROM pg_db_role_setting WHERE setrole = 'regress_tfstate_mine'::regrole) AS settings,
	   (SELECT count(*) FROM tfstate_grants WHERE role = 'regress_tfstate_mine') AS grants;
-- What a superuser gave, in a schema of others, it cannot take back; the rest it can, and the record of that stays.
ALTER SCHEMA team OWNER TO CURRENT_USER;
GRANT ALL ON SCHEMA team TO regress_tfstate_admin;
SELECT count(*) > 0 AS attached FROM tfstate_attach('team', role => 'regress_tfstate_mine');
SET ROLE regress_tfstate_admin;
SET client_min_messages = notice;
SELECT tfstate_detach('team', 'states', 'regress_tfstate_mine');
RESET ROLE;
SELECT has_schema_privilege('regress_tfstate_mine', 'team', 'USAGE') AS usage, has_table_privilege('regress_tfstate_mine', 'team.states', 'SELECT') AS "select",
	   (SELECT count(*) FROM pg_db_role_setting WHERE setrole = 'regress_tfstate_mine'::regrole) AS settings;
SELECT kind, object FROM tfstate_internal.given;
-- Attached again and detached by a superuser
SELECT count(*) > 0 AS attached FROM tfstate_attach('team', role => 'regress_tfstate_mine');
SELECT tfstate_detach('team', 'states', 'regress_tfstate_mine');
SELECT has_schema_privilege('regress_tfstate_mine', 'team', 'USAGE') AS usage;
SELECT count(*) FROM tfstate_internal.given;
-- What another one has granted, too, stays with a superuser as well.
GRANT USAGE ON SCHEMA team TO regress_tfstate_foreign WITH GRANT OPTION;
SELECT count(*) > 0 AS attached FROM tfstate_attach('team', role => 'regress_tfstate_mine');
SET ROLE regress_tfstate_foreign;
GRANT USAGE ON SCHEMA team TO regress_tfstate_mine;
RESET ROLE;
SELECT tfstate_detach('team', 'states', 'regress_tfstate_mine');
REVOKE ALL ON SCHEMA team FROM regress_tfstate_foreign CASCADE;
-- The whole table, by who has no right at all on the schema but to use it
SELECT count(*) > 0 AS attached FROM tfstate_attach('team', role => 'regress_tfstate_mine');
REVOKE ALL ON SCHEMA team FROM regress_tfstate_admin;
GRANT USAGE ON SCHEMA team TO public;
SET ROLE regress_tfstate_admin;
SELECT tfstate_detach('team');
RESET ROLE;
REVOKE USAGE ON SCHEMA team FROM public;
SET client_min_messages = warning;
SELECT role, problem, remedy FROM tfstate_check() WHERE remedy ~ 'cleanup';
SELECT * FROM tfstate_cleanup();
SELECT role, problem, remedy FROM tfstate_check() WHERE remedy ~ 'cleanup';
SELECT has_schema_privilege('regress_tfstate_mine', 'team', 'USAGE') AS usage;
SELECT count(*) FROM tfstate_internal.given;
-- Settings of a role that it may not change stay, too, and do not prevent the rest.
ALTER SCHEMA team OWNER TO regress_tfstate_admin;
CREATE ROLE regress_tfstate_super SUPERUSER LOGIN;
SELECT count(*) > 0 AS attached FROM tfstate_attach('team', role => 'regress_tfstate_super', access => 'plan');
SET ROLE regress_tfstate_admin;
SET client_min_messages = notice;
SELECT tfstate_detach('team');
RESET ROLE;
SET client_min_messages = warning;
SELECT kind, count(*) > 0 AS kept FROM tfstate_internal.given GROUP BY kind;
SELECT count(*) > 0 AS cleaned FROM tfstate_cleanup();
SELECT count(*) FROM tfstate_internal.given;
DROP ROLE regress_tfstate_super;

DROP EXTENSION tfstate CASCADE;
SET client_min_messages = error;
DROP SCHEMA team, owned, central, mallory CASCADE;
DROP SEQUENCE public.global_states_id_seq CASCADE;
DROP PROCEDURE fails, lacks;
DROP FUNCTION masked, sudo;
DROP OWNED BY regress_tfstate_admin, regress_tfstate_mine;
DROP ROLE regress_tfstate_mine, regress_tfstate_admin, regress_tfstate_owner, regress_tfstate_mallory, regress_tfstate_foreign;
