-- A table of states, or its schema, that is renamed: what is recorded under the old name follows.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SET timezone = 'UTC';
SET tfstate.who = 'alice@laptop';
CREATE FUNCTION state(serial integer) RETURNS text LANGUAGE sql AS
$$ SELECT json_build_object('serial', serial, 'lineage', 'a', 'resources', json_build_array())::text $$;
-- Writes a state as a run does.
CREATE PROCEDURE write(workspace text, serial integer) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM tfstate_lock(workspace);
	EXECUTE format('INSERT INTO %s (name, data) VALUES (%L, %L) ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data',
				   split_part(workspace, '/', 1), split_part(workspace, '/', 2), state(serial));
	PERFORM tfstate_unlock(workspace);
END;
$$;
CREATE VIEW versions AS
SELECT workspace, string_agg(format('%s:%s', number, serial), ' ' ORDER BY number) AS numbers
  FROM tfstate_versions GROUP BY workspace ORDER BY workspace COLLATE "C";

CREATE ROLE regress_tfstate_tf;
CREATE ROLE regress_tfstate_reader;
SELECT FROM tfstate_attach('old', role => 'regress_tfstate_tf') \g /dev/null
SELECT FROM tfstate_attach('old', 'odd/"Table"') \g /dev/null
SELECT FROM tfstate_attach('older', 'states') \g /dev/null
CALL write('old.states/prod', 1);
CALL write('old.states/prod', 2);
CALL write('old.states/test', 1);
CALL write('older.states/prod', 1);
SELECT tfstate_grant('regress_tfstate_reader', 'old.states/prod', 'view'),
	   tfstate_grant('regress_tfstate_reader', 'old.*', 'view'), tfstate_grant('regress_tfstate_reader', 'new.states/*', 'view');
TABLE versions;

-- Between the rename and the call everything is refused that would go wrong, whatever the guard is.
ALTER SCHEMA old RENAME TO new;
CALL fails($$CALL write('new.states/prod', 3)$$);
SET tfstate.guard = off;
CALL fails($$UPDATE new.states SET data = state(3)$$);
CALL fails($$DELETE FROM new.states$$);
CALL fails($$TRUNCATE new.states$$);
RESET tfstate.guard;
CALL fails($$SELECT tfstate_pg.pg_try_advisory_lock(id) FROM new.states WHERE name = 'prod'$$);
CALL fails($$SELECT tfstate_rollback('new.states/prod', 1)$$);
CALL fails($$SELECT tfstate_undelete('old.states/prod')$$);
SELECT severity, object, problem, remedy FROM tfstate_check() WHERE problem ~ 'renamed';

-- It is refused while a lock is held under either name, and tells whose.
SELECT count(tfstate_lock('old.states/prod', '{"Who":"bob@ci"}'));
CALL fails($$SELECT FROM tfstate_attach('new')$$);
SELECT count(tfstate_unlock('old.states/prod'));
SELECT count(tfstate_lock('new.states/x', mode => 'session'));
CALL fails($$SELECT FROM tfstate_attach('new')$$);
SELECT count(tfstate_unlock('new.states/x'));
SELECT count(tfstate_lock('old.states/gone', ttl => '1 us'));
-- Others do not matter.
SELECT count(tfstate_lock('older.states/prod'));
SELECT count(*) FROM tfstate_freeze('old.states/test', 'moves along');
SET client_min_messages = notice;
SELECT FROM tfstate_attach('new') \g /dev/null
SET client_min_messages = warning;
TABLE versions;
SELECT DISTINCT lockid COLLATE "C" AS lockid FROM tfstate_history ORDER BY lockid;
SELECT role, pattern, privilege FROM tfstate_grants ORDER BY role, pattern COLLATE "C";
SELECT pattern FROM tfstate_freezes;
SELECT tfstate_unfreeze('new.states/test');
SELECT count(*) FROM tfstate_verify('new.states/*', true);
CALL write('new.states/prod', 3);
SELECT tfstate_rollback('new.states/prod', 1);
SELECT serial FROM tfstate_states('new.states/prod');
-- The other table of the schema is a call of its own.
CALL fails($$UPDATE new."odd/""Table""" SET data = state(1)$$);
SELECT FROM tfstate_attach('new', 'odd/"Table"') \g /dev/null
SELECT name FROM tfstate_internal.attached_table ORDER BY name COLLATE "C";

-- Into another schema, under a name that has had versions of its own: those are the older ones.
CREATE SCHEMA other;
SELECT FROM tfstate_attach('other', 'kept') \g /dev/null
CALL write('other.kept/prod', 7);
CALL write('other.kept/prod', 8);
CALL write('other.kept/prod', 9);
SELECT tfstate_prune('other.kept/prod', 1);
SELECT tfstate_detach('other', 'kept');
DROP TABLE other.kept;
ALTER TABLE new.states SET SCHEMA other;
ALTER TABLE other.states RENAME TO kept;
SELECT FROM tfstate_attach('other', 'kept') \g /dev/null
TABLE versions;
SELECT count(*) FROM tfstate_verify('other.kept/*', true);
SELECT tfstate_version('other.kept/prod', 5) = state(2) AS second;

-- Two tables that change their names, and a new table under the name of a renamed one
ALTER TABLE other.kept RENAME TO a;
SELECT FROM tfstate_attach('other', 'a') \g /dev/null
SELECT FROM tfstate_attach('other', 'b') \g /dev/null
CALL write('other.b/prod', 20);
ALTER TABLE other.a RENAME TO c;
CALL fails($$SELECT FROM tfstate_attach('other', 'a')$$);
ALTER TABLE other.b RENAME TO a;
ALTER TABLE other.c RENAME TO b;
CALL fails($$SELECT FROM tfstate_attach('other', 'a')$$);
CALL fails($$SELECT FROM tfstate_attach('other', 'b')$$);
ALTER TABLE other.b RENAME TO c;
SELECT FROM tfstate_attach('other', 'c') \g /dev/null
SELECT FROM tfstate_attach('other', 'a') \g /dev/null
TABLE versions;

-- A rollback of the call leaves everything under the old name.
ALTER TABLE other.a RENAME TO d;
BEGIN;
SELECT FROM tfstate_attach('other', 'd') \g /dev/null
SELECT workspace FROM versions WHERE workspace ~ 'other.d';
ROLLBACK;
SELECT workspace FROM versions WHERE workspace ~ 'other.[ad]';
-- Detached after a rename: nothing is left but versions, where they were.
SELECT tfstate_detach('other', 'd');
UPDATE other.d SET data = state(99);
SELECT name FROM tfstate_internal.attached_table ORDER BY name COLLATE "C";
SELECT FROM tfstate_attach('other', 'c', role => 'regress_tfstate_tf') \g /dev/null
ALTER TABLE other.c RENAME TO e;
SELECT tfstate_detach('other', 'e');
SELECT role, pattern, privilege FROM tfstate_grants WHERE role = 'regress_tfstate_tf';
SELECT count(*) FROM tfstate_internal.attached_role;

SELECT tfstate_detach('older'), tfstate_detach('new', 'odd/"Table"');
DROP SCHEMA new, older, other CASCADE;
DROP SEQUENCE global_states_id_seq;
DROP VIEW versions;
DROP EXTENSION tfstate CASCADE;
DROP FUNCTION state, masked;
DROP PROCEDURE fails, write;
DROP OWNED BY regress_tfstate_tf, regress_tfstate_reader;
DROP ROLE regress_tfstate_tf, regress_tfstate_reader;
