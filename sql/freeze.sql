-- Freezing patterns: what is refused, and what goes on.
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
CREATE ROLE regress_tfstate_user;
CREATE ROLE regress_tfstate_admins;
CREATE ROLE regress_tfstate_dba IN ROLE regress_tfstate_admins NOINHERIT;
SELECT FROM tfstate_attach('net') \g /dev/null
SELECT FROM tfstate_attach('app') \g /dev/null
SELECT tfstate_lock('net.states/other') \g /dev/null
INSERT INTO net.states (name, data) VALUES ('other', state(1));
SELECT tfstate_unlock('net.states/other') \g /dev/null
GRANT USAGE ON SCHEMA net TO regress_tfstate_user, regress_tfstate_dba;
GRANT SELECT, INSERT, UPDATE, DELETE ON net.states TO regress_tfstate_user, regress_tfstate_dba;
GRANT USAGE ON SEQUENCE global_states_id_seq TO regress_tfstate_user, regress_tfstate_dba;
SELECT tfstate_grant('regress_tfstate_user'), tfstate_grant('regress_tfstate_dba');

-- The holders at that moment are returned, and go on.  What a dead session has left is not held.
SELECT id FROM tfstate_lock('net/dead', '{"ID":"0"}', mode => 'session');
SELECT pg_advisory_unlock_all();
SELECT id FROM tfstate_lock('net.states/default', '{"ID":"1","Operation":"apply"}');
INSERT INTO net.states (name, data) VALUES ('default', state(1)) ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data;
SELECT id FROM tfstate_lock('net.states/new', '{"ID":"2","Who":"bob@ci"}', ttl => '1 h');
SELECT id FROM tfstate_lock('net/session', '{"ID":"3"}', mode => 'session');
SELECT id FROM tfstate_lock('net.states/gone', '{"ID":"4"}', ttl => '1 us');
SELECT id FROM tfstate_lock('elsewhere', '{"ID":"5"}');
SELECT lockid, who, operation, created IS NOT NULL AS created, mode, id, role = current_user AS own, pid = pg_backend_pid() AS pid
  FROM tfstate_freeze('net*', 'upgrade to 17', '2100-01-01 12:00:00Z', '{regress_tfstate_admins}') ORDER BY lockid;
SELECT pattern, reason, who, role = current_user AS own, since <= now() AS since, until AT TIME ZONE 'UTC' AS until,
	   exempt FROM tfstate_freezes;
UPDATE net.states SET data = state(2) WHERE name = 'default';
INSERT INTO net.states (name, data) VALUES ('new', state(1));
SELECT tfstate_renew('net.states/new', '2') > now() AS renewed;
SELECT tfstate_rollback('net.states/default', 2);
SELECT tfstate_unlock('net.states/default', '1') ->> 'ID' AS unlocked;
SELECT tfstate_unlock('net.states/new', '2') ->> 'ID' AS unlocked;
SELECT tfstate_unlock('net/session') ->> 'ID' AS unlocked;

-- All other locks are refused, also those of superusers and of the role that froze.
CALL fails($$SELECT tfstate_lock('net.states/default')$$);
CALL fails($$SELECT tfstate_lock('net.states/default', mode => 'session', wait => NULL)$$);
CALL fails($$SELECT tfstate_lock('net/x', ttl => '1 h')$$);
CALL fails($$SELECT tfstate_try_lock('net.states/gone')$$);
CALL fails($$SELECT tfstate_pg.pg_try_advisory_lock(id) FROM net.states WHERE name = 'default'$$);
SET tfstate.mode = durable;
SET tfstate.run_id = '11111111-2222-4333-8444-555555555555';
CALL fails($$SELECT tfstate_pg.pg_try_advisory_lock(id) FROM net.states WHERE name = 'default'$$);
RESET tfstate.mode;
RESET tfstate.run_id;
SET ROLE regress_tfstate_user;
CALL fails($$SELECT tfstate_lock('net.states/default')$$);
RESET ROLE;
SELECT count(*) FROM tfstate_lock('elsewhere2');
SELECT lockid FROM tfstate_holders ORDER BY lockid;

-- So are writes without a lock, whatever the guard is; in the table that is not frozen none is.
CREATE PROCEDURE write_all() LANGUAGE plpgsql AS $$
BEGIN
	CALL fails('UPDATE net.states SET data = state(9) WHERE name = ''default''');
	CALL fails('UPDATE net.states SET data = data WHERE name = ''default''');
	CALL fails('INSERT INTO net.states (name, data) VALUES (''created'', state(1))');
	CALL fails('DELETE FROM net.states WHERE name = ''default''');
	CALL fails('UPDATE net.states SET name = ''renamed'' WHERE name = ''default''');
	CALL fails('TRUNCATE net.states');
END;
$$;
CALL write_all();
SET tfstate.guard = off;
CALL write_all();
RESET tfstate.guard;
SELECT FROM tfstate_attach('net', guard => 'on') \g /dev/null
CALL write_all();
SELECT FROM tfstate_attach('net', guard => 'require') \g /dev/null
CALL fails($$SELECT tfstate_rollback('net.states/default', 1)$$);
SELECT id FROM tfstate_lock('app.states/default', '{"ID":"6"}');
UPDATE app.states SET data = state(1) WHERE name = 'default';
SELECT tfstate_unlock('app.states/default') ->> 'ID' AS unlocked;

-- The key under which workspaces are created is for all tables; the creation below the pattern is refused.
SELECT tfstate_pg.pg_try_advisory_lock(-1);
CALL fails($$INSERT INTO net.states (name, data) VALUES ('created', state(1))$$);
INSERT INTO app.states (name, data) VALUES ('created', state(1));
SELECT lockid FROM tfstate_holders('app.*');
SELECT tfstate_pg.pg_advisory_unlock(-1);
-- OpenTofu's key is for one table: here that of net.states is refused at once.
CALL fails('SELECT tfstate_pg.pg_try_advisory_lock(-3796305912)');
-- A client without tfstate: its lock from before counts, a new one does not.
SELECT id AS other_id FROM net.states WHERE name = 'other' \gset
SELECT pg_advisory_lock(:other_id);
CALL fails($$UPDATE net.states SET data = state(2) WHERE name = 'other'$$);
SELECT pg_advisory_lock(-1);
CALL fails($$INSERT INTO net.states (name, data) VALUES ('created', state(1))$$);
SELECT pg_advisory_unlock(-1);
SELECT tfstate_unfreeze('net*');
-- It counts for each workspace of that id.
BEGIN;
SET LOCAL tfstate.guard = off;
INSERT INTO app.states (id, name, data) VALUES (:other_id, 'twin', state(1));
SELECT lockid, mode FROM tfstate_freeze('*', 'both') WHERE mode = 'built-in' ORDER BY lockid;
ROLLBACK;
SELECT lockid, who IS NOT NULL AS who, mode, id, role = current_user AS own, pid = pg_backend_pid() AS pid
  FROM tfstate_freeze('net.states/*', 'again');
UPDATE net.states SET data = state(2) WHERE name = 'other';
-- Not if it was that of a session that has ended since, and whose number this one has got.
BEGIN;
UPDATE tfstate_internal.freeze SET since = since - interval '1 year';
CALL fails($$UPDATE net.states SET data = state(3) WHERE name = 'other'$$);
ROLLBACK;
SELECT pg_advisory_unlock(:other_id);
CALL fails($$UPDATE net.states SET data = state(3) WHERE name = 'other'$$);

-- Whoever is exempt locks and writes as ever: members, with or without inheritance.
SELECT tfstate_unfreeze('net.states/*');
SELECT count(*) FROM tfstate_freeze('*', 'upgrade', exempt => '{regress_tfstate_user, regress_tfstate_admins}');
SET ROLE regress_tfstate_dba;
SELECT id FROM tfstate_lock('net.states/default', '{"ID":"7a"}');
SELECT tfstate_unlock('net.states/default', '7a') ->> 'ID' AS unlocked;
SET ROLE regress_tfstate_user;
SELECT id FROM tfstate_lock('net.states/default', '{"ID":"7b"}');
SELECT tfstate_unlock('net.states/default', '7b') ->> 'ID' AS unlocked;
RESET ROLE;
SELECT tfstate_unfreeze('*');
SELECT count(*) FROM tfstate_freeze('*', 'upgrade', exempt => '{regress_tfstate_admins}');
SET ROLE regress_tfstate_dba;
SELECT id FROM tfstate_lock('net.states/default', '{"ID":"7"}');
UPDATE net.states SET data = state(9) WHERE name = 'default';
SELECT tfstate_unlock('net.states/default', '7') ->> 'ID' AS unlocked;
SELECT tfstate_pg.pg_try_advisory_lock(-1);
INSERT INTO net.states (name, data) VALUES ('created', state(1));
SELECT tfstate_pg.pg_advisory_unlock(-1);
-- It may not end the freeze.
CALL fails($$SELECT tfstate_unfreeze('*')$$);
RESET ROLE;
-- Everything is frozen: so is the creation of workspaces anywhere.
CALL fails('SELECT tfstate_pg.pg_try_advisory_lock(-1)');
ALTER ROLE regress_tfstate_admins RENAME TO regress_tfstate_renamed;
SELECT exempt FROM tfstate_freezes;
DROP ROLE regress_tfstate_renamed;
SELECT exempt FROM tfstate_freezes;
SET ROLE regress_tfstate_dba;
CALL fails($$SELECT tfstate_lock('net.states/default')$$);
RESET ROLE;

-- A command inside a holding that goes on locks and writes.
SELECT tfstate_unfreeze('*');
SET tfstate.run_id = '11111111-2222-4333-8444-555555555555';
SELECT id FROM tfstate_lock('net.states/default', '{"ID":"outer"}');
SELECT lockid FROM tfstate_freeze('*', 'upgrade') WHERE id = 'outer';
SELECT tfstate_pg.pg_try_advisory_lock(id) FROM net.states WHERE name = 'default';
SELECT regexp_replace(lockid, '\d+', 'N') AS lockid FROM tfstate_holders WHERE lockid ~ 'inside';
SELECT tfstate_pg.pg_advisory_unlock(id) FROM net.states WHERE name = 'default';
SELECT tfstate_unlock('net.states/default', 'outer') ->> 'ID' AS unlocked;
RESET tfstate.run_id;

-- A lock can be released by force.
SELECT tfstate_force_unlock('elsewhere', reason => 'freeze') ->> 'ID' AS released;
CALL fails($$SELECT tfstate_lock('elsewhere')$$);
SELECT tfstate_unfreeze('*');
SELECT count(*) FROM tfstate_freezes;
SELECT id FROM tfstate_lock('elsewhere', '{"ID":"8"}');

-- A freeze ends by itself.
SELECT count(*) FROM tfstate_freeze('a*', 'short', clock_timestamp() + '0.3 s');
CALL fails($$SELECT tfstate_lock('a')$$);
SELECT pg_sleep(0.4);
SELECT id FROM tfstate_lock('a', '{"ID":"9"}');
SELECT count(*) FROM tfstate_freezes;
CALL fails($$SELECT tfstate_unfreeze('a*')$$);
-- The next one removes its row.
SELECT count(*) FROM tfstate_freeze('a*', 'long', 'infinity');
SELECT pattern, reason, until FROM tfstate_internal.freeze;

-- One freeze for a pattern; patterns can overlap.
CALL fails($$SELECT tfstate_freeze('a*', 'again')$$);
SELECT count(*) FROM tfstate_freeze('a/b', 'second');
SELECT tfstate_unfreeze('a*');
CALL fails($$SELECT tfstate_lock('a/b')$$);
BEGIN;
SELECT tfstate_unfreeze('a/b');
SELECT count(*) FROM tfstate_freeze('a/b', 'replaced', exempt => '{}');
COMMIT;
CALL fails($$SELECT tfstate_lock('a/b')$$);
-- Rolled back, also to a savepoint
BEGIN;
SELECT tfstate_unfreeze('a/b');
SELECT id FROM tfstate_lock('a/b', '{"ID":"10"}');
ROLLBACK;
CALL fails($$SELECT tfstate_lock('a/b')$$);
SELECT tfstate_unfreeze('a/b');
BEGIN;
SELECT id FROM tfstate_lock('a/b', '{"ID":"11"}');
SAVEPOINT s;
SELECT lockid, id FROM tfstate_freeze('a/*', 'rolled back');
CALL fails($$SELECT tfstate_lock('a/c')$$);
ROLLBACK TO s;
SELECT id FROM tfstate_lock('a/c', '{"ID":"12"}');
COMMIT;
SELECT tfstate_unlock('a/b'), tfstate_unlock('a/c') \g /dev/null

-- What is changed by SQL, as a restore does, counts at once.
INSERT INTO tfstate_internal.freeze (pattern, reason, who, role, since) VALUES ('r*', 'restored', 'dump', 'public', now());
CALL fails($$SELECT tfstate_lock('r')$$);
SET session_replication_role = replica;
DELETE FROM tfstate_internal.freeze;
SELECT id FROM tfstate_lock('r', '{"ID":"13"}');
INSERT INTO tfstate_internal.freeze (pattern, reason, who, role, since) VALUES ('r*', 'restored', 'dump', 'none', now());
CALL fails($$SELECT tfstate_lock('r2')$$);
SELECT role FROM tfstate_freezes;
TRUNCATE tfstate_internal.freeze;
SELECT id FROM tfstate_lock('r2', '{"ID":"14"}');
RESET session_replication_role;
CALL fails('SELECT tfstate_internal.report_freeze()');

-- Who may freeze: administrators, and roles that may override all that the pattern matches.
SET ROLE regress_tfstate_user;
CALL fails($$SELECT tfstate_freeze('net.*', 'mine')$$);
CALL fails($$SELECT tfstate_unfreeze('net.*')$$);
CALL fails($$INSERT INTO tfstate_internal.freeze (pattern) VALUES ('x')$$);
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_user', 'net.*', 'override');
SET ROLE regress_tfstate_user;
CALL fails($$SELECT tfstate_freeze('*', 'all')$$);
CALL fails($$SELECT tfstate_freeze('net*', 'more')$$);
CALL fails($$SELECT tfstate_freeze('*net.*', 'more')$$);
SELECT count(*) FROM tfstate_freeze('net.states/*', 'mine');
SELECT pattern, role FROM tfstate_freezes;
SELECT tfstate_unfreeze('net.states/*');
RESET ROLE;

-- The longest pattern and reason
SELECT count(*) FROM tfstate_freeze(repeat('x', 1024), repeat('y', 1024));
SELECT tfstate_unfreeze(repeat('x', 1024));
-- Wrong arguments
CALL fails($$SELECT tfstate_freeze(NULL, 'x')$$);
CALL fails($$SELECT tfstate_freeze('x', NULL)$$);
CALL fails($$SELECT tfstate_freeze('', 'x')$$);
CALL fails($$SELECT tfstate_freeze('x', '')$$);
CALL fails($$SELECT tfstate_freeze(repeat('x', 1025), 'x')$$);
CALL fails($$SELECT tfstate_freeze('x', repeat('x', 1025))$$);
CALL fails($$SELECT tfstate_freeze('x', 'x', now())$$);
CALL fails($$SELECT tfstate_freeze('x', 'x', '-infinity')$$);
CALL fails($$SELECT tfstate_freeze('x', 'x', exempt => '{regress_tfstate_none}')$$);
CALL fails($$SELECT tfstate_freeze('x', 'x', exempt => '{NULL}')$$);
CALL fails($$SELECT tfstate_unfreeze(NULL)$$);
CALL fails($$SELECT tfstate_unfreeze('x')$$);
BEGIN READ ONLY;
SELECT tfstate_freeze('x', 'x');
ROLLBACK;
SELECT count(*) FROM tfstate_freezes;
-- Texts of others are shown in one line.
SET tfstate.who = E'two\nlines';
SELECT count(*) FROM tfstate_freeze(E'odd\n"*''', E'first\nsecond');
CALL fails($$SELECT tfstate_lock(E'odd\n"x''')$$);
SELECT tfstate_unfreeze(E'odd\n"*''');

DROP SCHEMA net CASCADE;
DROP SCHEMA app CASCADE;
DROP SEQUENCE global_states_id_seq;
DROP EXTENSION tfstate;
DROP FUNCTION state, masked;
DROP PROCEDURE fails, write_all;
DROP ROLE regress_tfstate_user, regress_tfstate_dba;
