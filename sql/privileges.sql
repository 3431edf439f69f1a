-- Who may lock, view and force-unlock what.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE EXTENSION tfstate;

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

CREATE ROLE regress_tfstate_alice;
CREATE ROLE regress_tfstate_bob;
CREATE ROLE regress_tfstate_team;
CREATE ROLE regress_tfstate_noinherit NOINHERIT;
GRANT regress_tfstate_team TO regress_tfstate_bob, regress_tfstate_noinherit;
SET tfstate.who = 'me';
SELECT id FROM tfstate_lock('held', '{"ID": "h"}', ttl => '1 hour');
SELECT id FROM tfstate_lock('session', '{"ID": "s"}', 'session');
SELECT count(tfstate_unlock('old')) FROM tfstate_lock('old');

-- A role without a grant can do and see nothing.
SET ROLE regress_tfstate_alice;
CALL fails($$SELECT tfstate_lock('prod/a')$$);
CALL fails($$SELECT tfstate_unlock('held', 'h')$$);
CALL fails($$SELECT tfstate_renew('held', 'h')$$);
CALL fails($$SELECT tfstate_force_unlock('held', 'h')$$);
SELECT count(*) FROM tfstate_holders;
SELECT count(*) FROM tfstate_holders('held');
SELECT count(*) FROM tfstate_holders('*');
SELECT count(*) FROM tfstate_waiters;
SELECT count(*) FROM tfstate_history;
SELECT count(*) FROM tfstate_history('old');
SELECT tfstate_has_privilege('held', 'lock') AS lock, tfstate_has_privilege('held', 'view') AS view,
	   tfstate_has_privilege('held', 'force') AS force;
-- Internal objects cannot be used, even if their schema is open.
CALL fails($$SELECT count(*) FROM tfstate_internal.session_locks()$$);
CALL fails('TABLE tfstate_internal.privilege');
RESET ROLE;
GRANT USAGE ON SCHEMA tfstate_internal TO regress_tfstate_alice;
SET ROLE regress_tfstate_alice;
SELECT count(*) FROM tfstate_internal.session_locks();
SELECT tfstate_internal.waiter_count('session', 'session');
DO $$
DECLARE
	rel text;
	command text;
BEGIN
	FOREACH rel IN ARRAY ARRAY['tfstate_internal.installation', 'tfstate_internal.durable_lock', 'tfstate_internal.session_lock',
		'tfstate_internal.released_lock', 'tfstate_internal.privilege', 'tfstate_internal.attached_table', 'tfstate_internal.attached_role',
		'tfstate_internal.given',
		'tfstate_internal.stored_version', 'tfstate_internal.fence'] LOOP
		FOREACH command IN ARRAY ARRAY['TABLE %s', 'DELETE FROM %s', 'TRUNCATE %s', 'LOCK %s IN ACCESS SHARE MODE',
			'CREATE TRIGGER t AFTER INSERT ON %s EXECUTE FUNCTION tfstate_internal.guard()', 'SELECT nextval(%L)'] LOOP
			BEGIN
				EXECUTE format(command, rel);
				RAISE INFO 'no error: %', format(command, rel);
			EXCEPTION WHEN insufficient_privilege THEN
				NULL;
			WHEN wrong_object_type THEN	-- a sequence is not a table, and the other way round
				IF command LIKE '%nextval%' = (rel = 'tfstate_internal.fence') THEN
					RAISE INFO '%: %', format(command, rel), sqlerrm;
				END IF;
			END;
		END LOOP;
	END LOOP;
END;
$$;
CALL fails($$INSERT INTO tfstate_internal.privilege VALUES ('regress_tfstate_alice', '*', 'lock', 'me')$$);
CALL fails($$DELETE FROM tfstate_grants$$);
CALL fails($$DELETE FROM tfstate_history$$);
-- Nor can it grant itself anything.
CALL fails($$SELECT tfstate_grant('regress_tfstate_alice')$$);
CALL fails($$SELECT tfstate_revoke('regress_tfstate_alice')$$);
CALL fails($$SELECT tfstate_attach()$$);
CALL fails($$SELECT tfstate_detach()$$);
CALL fails($$SELECT tfstate_check()$$);
CALL fails($$SELECT tfstate_internal.require_grant_arguments('public', '*', 'lock')$$);
RESET ROLE;

-- The privilege lock, by a pattern.
SELECT tfstate_grant('regress_tfstate_alice', 'prod/*');
SELECT tfstate_grant('regress_tfstate_alice', 'prod/*');	-- a second grant is no error
SELECT role, pattern, privilege, grantor = current_user AS by_me, granted_at <= clock_timestamp() AS at FROM tfstate_grants;
SET ROLE regress_tfstate_alice;
SELECT id, role FROM tfstate_lock('prod/a', '{"ID": "1"}'), current_user AS role;
CALL fails($$SELECT tfstate_lock('prod')$$);
CALL fails($$SELECT tfstate_lock('Prod/a')$$);
CALL fails($$SELECT tfstate_lock(' prod/a')$$);
CALL fails($$SELECT tfstate_lock('test/prod/a')$$);
-- The privileges are independent: no view, no force.  But a role that may lock sees the holder and
-- the waiters of the lockids that it may lock.
SELECT lockid, role, waiters FROM tfstate_holders;
SELECT count(*) FROM tfstate_holders('held');
SELECT tfstate_internal.waiter_count('prod/a', 'durable'), tfstate_internal.waiter_count('held', 'durable');
CALL fails($$SELECT tfstate_force_unlock('prod/a', '1')$$);
-- The holder in a conflict is named, with the whole info.
CALL fails($$SELECT tfstate_lock('prod/a')$$);
SELECT locked, id FROM tfstate_try_lock('prod/a');
SELECT tfstate_unlock('prod/a', '1')->>'ID' AS released;
SELECT count(*) FROM tfstate_history;
SELECT id FROM tfstate_lock('prod/a', '{"ID": "2"}', 'session');
SELECT count(*) FROM tfstate_internal.session_locks();
SELECT tfstate_unlock('prod/a')->>'ID' AS released;
CALL tfstate_wait_lock('prod/', '{"ID": "3"}') \gset waited_
SELECT tfstate_unlock('prod/', '3')->>'ID' AS released;
SELECT lockid, tfstate_has_privilege(lockid, 'lock') AS lock, tfstate_has_privilege(lockid, 'view') AS view
  FROM (VALUES ('prod/a'), ('prod/'), ('prod'), ('')) v (lockid);
SELECT tfstate_has_privilege(NULL, 'lock') IS NULL AS strict;
RESET ROLE;
-- The record of the end has the role, not only tfstate.who.
SELECT lockid, who, mode, released_by FROM tfstate_history('prod/*');
-- A lock that another role has taken belongs to that role, in the same session, too.
CREATE ROLE regress_tfstate_other SUPERUSER;
SET ROLE regress_tfstate_other;
SELECT id FROM tfstate_lock('prod/b', '{"ID": "4"}', ttl => '1 hour');
SET ROLE regress_tfstate_alice;
CALL fails($$SELECT tfstate_renew('prod/b', '4')$$);
CALL fails($$SELECT tfstate_unlock('prod/b', '4')$$);
CALL fails($$SELECT tfstate_unlock('prod/b')$$);
RESET ROLE;
SELECT tfstate_renew('prod/b', '4') > now() AS renewed;
SELECT role FROM tfstate_holders('prod/b');
ALTER ROLE regress_tfstate_other NOSUPERUSER;

-- The privilege view.
SELECT tfstate_grant('regress_tfstate_alice', 'held', 'view');
SELECT tfstate_grant('regress_tfstate_alice', 's*n', 'view');
SET ROLE regress_tfstate_alice;
SELECT lockid, who, mode, waiters FROM tfstate_holders ORDER BY lockid;
SELECT lockid FROM tfstate_holders('*') ORDER BY lockid;
SELECT lockid FROM tfstate_holders('prod/b');
SELECT lockid FROM tfstate_holders('held');
SELECT count(*) FROM tfstate_history;
SELECT tfstate_internal.waiter_count('session', 'session'), tfstate_internal.waiter_count('prod/b', 'durable');
CALL fails($$SELECT tfstate_lock('held')$$);
CALL fails($$SELECT tfstate_unlock('held', 'h')$$);
CALL fails($$SELECT tfstate_force_unlock('held')$$);
-- A cheap function does not see the rows that the view hides.
CREATE FUNCTION pg_temp.leak(t text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
$$ BEGIN RAISE INFO 'leak %', t; RETURN true; END; $$;
SELECT lockid FROM tfstate_holders WHERE pg_temp.leak(lockid) ORDER BY lockid;
SELECT lockid FROM tfstate_history WHERE pg_temp.leak(lockid);
DROP FUNCTION pg_temp.leak;
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_alice', 'old', 'view');
SET ROLE regress_tfstate_alice;
SELECT lockid, how FROM tfstate_history;
RESET ROLE;

-- The privilege force.
SELECT tfstate_grant('regress_tfstate_alice', '*', 'force');
SET ROLE regress_tfstate_alice;
SELECT tfstate_force_unlock('prod/b', '4', 'for the test')->>'ID' AS released;
CALL fails($$SELECT tfstate_lock('other')$$);
SELECT count(*) FROM tfstate_holders('prod/*');
RESET ROLE;
SELECT lockid, how, released_by, reason FROM tfstate_history('prod/b');

-- Revoke takes back exactly what was granted.
CALL fails($$SELECT tfstate_revoke('regress_tfstate_alice', 'prod/a')$$);
CALL fails($$SELECT tfstate_revoke('regress_tfstate_alice', 'held')$$);
CALL fails($$SELECT tfstate_revoke('regress_tfstate_bob', 'prod/*')$$);
SELECT tfstate_revoke('regress_tfstate_alice', 'prod/*');
CALL fails($$SELECT tfstate_revoke('regress_tfstate_alice', 'prod/*')$$);
SELECT role, pattern, privilege FROM tfstate_grants ORDER BY pattern, privilege;
-- It takes effect at once.
SET ROLE regress_tfstate_alice;
CALL fails($$SELECT tfstate_lock('prod/a')$$);
RESET ROLE;
SELECT tfstate_revoke('regress_tfstate_alice', pattern, privilege) FROM tfstate_grants;
SELECT count(*) FROM tfstate_grants;
-- A grant is part of its transaction.
BEGIN;
SELECT tfstate_grant('regress_tfstate_alice');
SET LOCAL ROLE regress_tfstate_alice;
SELECT tfstate_has_privilege('a', 'lock');
ROLLBACK;
SET ROLE regress_tfstate_alice;
SELECT tfstate_has_privilege('a', 'lock');
RESET ROLE;

-- Also within one statement: the result of a privilege check is kept, and checked again for another
-- role, for another privilege, and after grants.
CREATE FUNCTION pg_temp.may(privilege text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answers text := '';
	step text;
BEGIN
	FOREACH step IN ARRAY ARRAY['SET LOCAL ROLE regress_tfstate_alice', 'RESET ROLE', 'SET LOCAL ROLE regress_tfstate_bob', 'RESET ROLE',
		'SELECT tfstate_grant(''regress_tfstate_bob'', ''b'')', 'SET LOCAL ROLE regress_tfstate_bob', 'RESET ROLE',
		'SELECT tfstate_revoke(''regress_tfstate_bob'', ''b'')', 'SET LOCAL ROLE regress_tfstate_bob', 'RESET ROLE',
		'GRANT regress_tfstate_alice TO regress_tfstate_bob', 'SET LOCAL ROLE regress_tfstate_bob', 'RESET ROLE',
		'REVOKE regress_tfstate_alice FROM regress_tfstate_bob', 'SET LOCAL ROLE regress_tfstate_bob', 'RESET ROLE'] LOOP
		EXECUTE step;
		IF step LIKE '%LOCAL%' THEN
			answers := answers || format(E'%s: %s %s\n', current_user, tfstate_has_privilege('b', 'lock'), tfstate_has_privilege('b', privilege));
		END IF;
	END LOOP;
	RETURN answers;
END;
$$;
SELECT tfstate_grant('regress_tfstate_alice', 'b');
\pset format unaligned
SELECT pg_temp.may('view');
SELECT pg_temp.may('lock');
SELECT string_agg(p || ' ' || tfstate_has_privilege('b', p), ', ' ORDER BY n)
  FROM unnest(ARRAY['lock', 'view', 'lock', 'override', 'view']) WITH ORDINALITY u(p, n), set_config('role', 'regress_tfstate_alice', true);
\pset format aligned
DROP FUNCTION pg_temp.may;
SELECT tfstate_revoke('regress_tfstate_alice', 'b');
CALL fails($$SELECT tfstate_has_privilege('b', 'see')$$);
CALL fails($$SELECT tfstate_has_privilege('b', 'LOCK')$$);
CALL fails($$SELECT tfstate_has_privilege('b', '')$$);

-- Membership, with and without inheritance
SELECT tfstate_grant('regress_tfstate_team', 'team/*');
SET ROLE regress_tfstate_bob;
SELECT tfstate_has_privilege('team/a', 'lock') AS bob;
SELECT id, role FROM tfstate_lock('team/a', '{"ID": "5"}'), current_user AS role;
RESET ROLE;
SET ROLE regress_tfstate_alice;
SELECT tfstate_has_privilege('team/a', 'lock') AS alice;
CALL fails($$SELECT tfstate_unlock('team/a', '5')$$);
RESET ROLE;
SET ROLE regress_tfstate_noinherit;
SELECT tfstate_has_privilege('team/a', 'lock') AS noinherit;
RESET ROLE;
SET ROLE regress_tfstate_team;
CALL fails($$SELECT tfstate_unlock('team/a', '5')$$);
RESET ROLE;
SET ROLE regress_tfstate_bob;
SELECT tfstate_unlock('team/a')->>'ID' AS released;
SELECT id FROM tfstate_lock('team/a', '{"ID": "5b"}');
RESET ROLE;
-- Members of the role that took a lock may not release it without inheriting its rights.
SELECT tfstate_grant('regress_tfstate_noinherit', 'team/*');
SET ROLE regress_tfstate_team;
SELECT id FROM tfstate_lock('team/b', '{"ID": "5c"}');
SET ROLE regress_tfstate_noinherit;
CALL fails($$SELECT tfstate_unlock('team/b', '5c')$$);
SET ROLE regress_tfstate_team;
SELECT tfstate_unlock('team/b')->>'ID' AS released;
RESET ROLE;
SELECT tfstate_revoke('regress_tfstate_noinherit', 'team/*');
-- Those that inherit them may.
GRANT regress_tfstate_bob TO regress_tfstate_alice;
SELECT tfstate_grant('regress_tfstate_alice', 'team/*');
SET ROLE regress_tfstate_alice;
SELECT tfstate_unlock('team/a')->>'ID' AS released;
RESET ROLE;
SELECT tfstate_revoke('regress_tfstate_alice', 'team/*');
REVOKE regress_tfstate_bob FROM regress_tfstate_alice;
REVOKE regress_tfstate_team FROM regress_tfstate_bob;
SET ROLE regress_tfstate_bob;
SELECT tfstate_has_privilege('team/a', 'lock') AS bob;
RESET ROLE;

-- PUBLIC
SELECT tfstate_grant('public', '*/shared/*');
SELECT role, pattern, privilege FROM tfstate_grants ORDER BY role;
SET ROLE regress_tfstate_alice;
SELECT id FROM tfstate_lock('a/shared/b', '{"ID": "6"}');
SELECT tfstate_unlock('a/shared/b', '6')->>'ID' AS released;
-- The grants of others are no secret.
SELECT count(*) FROM tfstate_grants;
RESET ROLE;
SELECT tfstate_revoke('public', '*/shared/*');

-- Odd names of roles
CREATE ROLE "regress_tfstate_Odd-""role";
SELECT tfstate_grant('regress_tfstate_Odd-"role', 'odd');
SET ROLE "regress_tfstate_Odd-""role";
SELECT tfstate_has_privilege('odd', 'lock');
RESET ROLE;
-- The view shows names as tfstate_revoke() takes them.
SELECT role FROM tfstate_grants WHERE pattern = 'odd';
SELECT tfstate_revoke(role::name, pattern) FROM tfstate_grants WHERE pattern = 'odd';
SELECT count(*) FROM tfstate_grants WHERE pattern = 'odd';
DROP ROLE "regress_tfstate_Odd-""role";

-- The owner of the extension's tables and its members need no grant.
SELECT rolname AS owner FROM pg_class c JOIN pg_roles r ON c.relowner = r.oid WHERE relname = 'durable_lock' \gset
CREATE ROLE regress_tfstate_super SUPERUSER;
SET ROLE regress_tfstate_super;
SELECT bool_and(tfstate_has_privilege('anything', p)) AS super FROM unnest(ARRAY['lock', 'view', 'force']) p;
SELECT lockid FROM tfstate_holders ORDER BY lockid;
RESET ROLE;
DROP ROLE regress_tfstate_super;
GRANT :"owner" TO regress_tfstate_alice;
SET ROLE regress_tfstate_alice;
SELECT bool_and(tfstate_has_privilege('anything', p)) AS member FROM unnest(ARRAY['lock', 'view', 'force']) p;
RESET ROLE;
REVOKE :"owner" FROM regress_tfstate_alice;

-- A SECURITY DEFINER function of another role has the rights of that role.
CREATE FUNCTION lock_for_all(lockid text) RETURNS text LANGUAGE sql SECURITY DEFINER
SET search_path = public, pg_temp AS $$SELECT id FROM tfstate_lock(lockid, '{"ID": "7"}')$$;
SET ROLE regress_tfstate_alice;
SELECT lock_for_all('definer');
RESET ROLE;
SELECT role = current_user AS role FROM tfstate_holders('definer');
SELECT tfstate_unlock('definer', '7')->>'ID' AS released;
DROP FUNCTION lock_for_all;

-- Grants of a dropped role: no role gets them, everything else works, and they can be revoked as
-- the view shows them.
SELECT tfstate_grant('regress_tfstate_bob', 'x');
DROP ROLE regress_tfstate_bob;
SELECT count(*) FROM tfstate_grants WHERE pattern = 'x';
SET ROLE regress_tfstate_alice;
CALL fails($$SELECT tfstate_lock('x')$$);
RESET ROLE;
-- Nor does a new role with that name, whose grants are separate.
CREATE ROLE regress_tfstate_bob;
SET ROLE regress_tfstate_bob;
CALL fails($$SELECT tfstate_lock('x')$$);
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_bob', 'y');
SELECT role, pattern, tfstate_revoke(role::name, pattern) FROM tfstate_grants ORDER BY pattern;
CALL fails($$SELECT tfstate_revoke('regress_tfstate_bob', 'x')$$);
SELECT role, pattern FROM tfstate_grants;

-- A renamed role keeps its grants and its locks, and a new role with its old name gets neither.
SELECT tfstate_grant('regress_tfstate_bob', 'named/*');
SET ROLE regress_tfstate_bob;
SELECT id FROM tfstate_lock('named/a', '{"ID": "9a"}') UNION ALL SELECT id FROM tfstate_lock('named/b', '{"ID": "9b"}', 'session');
SELECT count(tfstate_unlock('named/c', '9c')) FROM tfstate_lock('named/c', '{"ID": "9c"}');
RESET ROLE;
ALTER ROLE regress_tfstate_bob RENAME TO regress_tfstate_robert;
CREATE ROLE regress_tfstate_bob;
SELECT role, pattern FROM tfstate_grants;
SELECT lockid, role FROM tfstate_holders('named/*') ORDER BY lockid;
SELECT lockid, role FROM tfstate_history('named/*');
SET ROLE regress_tfstate_bob;
CALL fails($$SELECT tfstate_lock('named/d')$$);
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_bob', 'named/*');
SET ROLE regress_tfstate_bob;
CALL fails($$SELECT tfstate_unlock('named/a', '9a')$$);
CALL fails($$SELECT tfstate_unlock('named/b')$$);
RESET ROLE;
SET ROLE regress_tfstate_robert;
SELECT tfstate_unlock('named/a', '9a') IS NOT NULL AS durable, tfstate_unlock('named/b') IS NOT NULL AS session;
SELECT id FROM tfstate_lock('named/e', '{"ID": "9e"}');
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_robert', 'named/*');	-- which it already has
SELECT role, pattern FROM tfstate_grants ORDER BY role;
-- A dropped role is shown under its last name, and its lock belongs to no role.
DROP ROLE regress_tfstate_robert;
SELECT lockid, role FROM tfstate_holders('named/*');
SELECT lockid, role FROM tfstate_history('named/*') ORDER BY fence;
SELECT role, pattern FROM tfstate_grants ORDER BY role;
CREATE ROLE regress_tfstate_robert;
SELECT tfstate_grant('regress_tfstate_robert', 'named/*');
SET ROLE regress_tfstate_robert;
CALL fails($$SELECT tfstate_unlock('named/e', '9e')$$);
RESET ROLE;
SELECT tfstate_force_unlock('named/e', '9e')->>'ID' AS released;
SELECT tfstate_revoke('regress_tfstate_robert', 'named/*'), tfstate_revoke('regress_tfstate_bob', 'named/*');
SELECT count(*) FROM tfstate_grants;
DROP ROLE regress_tfstate_robert;
-- The type that stores a role has values for PUBLIC and for no role, which is what the name of a
-- missing role is read as.
SELECT r AS read, r::tfstate_internal.role AS written, r::tfstate_internal.role::oid IN (SELECT oid FROM pg_roles) AS exists
  FROM unnest(ARRAY['regress_tfstate_bob', 'public', 'none', 'regress_tfstate_robert', '', '10', repeat('x', 100)]) r;
-- The session user is shown, whatever role is set.
SELECT tfstate_grant('regress_tfstate_bob', 'who');
SET ROLE regress_tfstate_bob;
SELECT id FROM tfstate_lock('who', '{"ID": "w"}');
RESET ROLE;
SELECT role, login_role = session_user AS login_role FROM tfstate_holders('who');
SELECT tfstate_unlock('who', 'w') ->> 'ID' AS released;
SELECT role, login_role = session_user AS login_role FROM tfstate_history('who');
-- A role that is renamed is known by its new name at its next lock, in a session that knows the old one.
SET tfstate.who = '';
SET ROLE regress_tfstate_bob;
SELECT tfstate_unlock('who', id) ->> 'Who' ~ '^regress_tfstate_bob@' AS named FROM tfstate_lock('who');
RESET ROLE;
ALTER ROLE regress_tfstate_bob RENAME TO regress_tfstate_robert;
SET ROLE regress_tfstate_robert;
SELECT tfstate_unlock('who', id) ->> 'Who' ~ '^regress_tfstate_robert@' AS named FROM tfstate_lock('who');
RESET ROLE;
SELECT starts_with(released_by, 'regress_tfstate_robert@') AS named FROM tfstate_history('who') ORDER BY fence DESC LIMIT 1;
SET tfstate.who = 'me';
ALTER ROLE regress_tfstate_robert RENAME TO regress_tfstate_bob;
-- The grants of other roles do not slow down a role, and its own are found among them.
SELECT count(tfstate_grant('regress_tfstate_alice', 'a' || i, 'view')) FROM generate_series(1, 1000) i;
SELECT pg_stat_force_next_flush();
SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'privilege' \gset before_
SET ROLE regress_tfstate_bob;
SELECT tfstate_has_privilege('who', 'lock') AS who, tfstate_has_privilege('a1', 'view') AS a1;
RESET ROLE;
SELECT pg_stat_force_next_flush();
SELECT seq_tup_read - :before_seq_tup_read AS scanned, idx_tup_fetch - :before_idx_tup_fetch < 10 AS few
  FROM pg_stat_user_tables WHERE relname = 'privilege';
SELECT count(tfstate_revoke(role::name, pattern, privilege)) FROM tfstate_grants;
-- The owner of the database is a member of pg_database_owner.
SELECT current_database() AS database, r.rolname AS owner FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
 WHERE d.datname = current_database() \gset database_
ALTER DATABASE :"database_database" OWNER TO regress_tfstate_bob;
SELECT tfstate_grant('pg_database_owner', 'owned');
SET ROLE regress_tfstate_bob;
SELECT tfstate_has_privilege('owned', 'lock');
RESET ROLE;
ALTER DATABASE :"database_database" OWNER TO :"database_owner";
SELECT tfstate_revoke('pg_database_owner', 'owned');
DROP ROLE regress_tfstate_bob;

-- Patterns
SELECT pattern, string_agg(lockid, ' ' ORDER BY lockid COLLATE "C") FILTER (WHERE tfstate_matches(lockid, pattern)) AS matches
  FROM (VALUES ('a'), ('a/b'), ('a/b/c'), ('ab'), ('A'), ('*'), ('%'), ('a%'), ('aXbXc'), ('abab'), ('ü/é')) l (lockid),
	   (VALUES (1, '*'), (2, 'a'), (3, 'a*'), (4, '*a'), (5, 'a/*'), (6, 'a/*/*'), (7, '*/*'), (8, '**'), (9, '%'), (10, '_'),
			   (11, '*b*c'), (12, '*ab'), (13, 'ü*'), (14, '?'), (15, '[a]'), (16, '\*'), (17, '***b***')) p (n, pattern)
 GROUP BY n, pattern ORDER BY n;
SELECT tfstate_matches('', '*') AS star, tfstate_matches('', '') AS empty, tfstate_matches('a', '') AS no,
	   tfstate_matches(repeat('a', 1024), repeat('*a', 20) || 'b') AS backtracking;

-- Few of a role's grants are read for a lock, however many it has, and it loses each at once.
VACUUM tfstate_internal.privilege;
SELECT count(tfstate_grant('regress_tfstate_alice', 's' || i || '.states/*')) FROM generate_series(1, 1000) i;
SET ROLE regress_tfstate_alice;
BEGIN;
SELECT pg_stat_get_xact_tuples_fetched('tfstate_internal.privilege_pkey'::regclass) AS fetched \gset before_
SELECT count(tfstate_lock('s' || i || '.states/a', '{"ID": "g"}')) FROM generate_series(901, 1000, 11) i;
SELECT pg_stat_get_xact_tuples_fetched('tfstate_internal.privilege_pkey'::regclass) - :before_fetched BETWEEN 10 AND 100 AS few;
SELECT pg_stat_get_xact_tuples_fetched('tfstate_internal.privilege_pkey'::regclass) AS fetched \gset before_
SELECT tfstate_unlock('s989.states/a', 'g') IS NOT NULL AS released;
SELECT pg_stat_get_xact_tuples_fetched('tfstate_internal.privilege_pkey'::regclass) - :before_fetched <= 10 AS few;
ROLLBACK;
RESET ROLE;
SELECT tfstate_revoke('regress_tfstate_alice', 's989.states/*');
SET ROLE regress_tfstate_alice;
CALL fails($$SELECT tfstate_lock('s989.states/a')$$);
SELECT count(tfstate_unlock('s988.states/a')) FROM tfstate_lock('s988.states/a');
SET ROLE regress_tfstate_noinherit;
CALL fails($$SELECT tfstate_lock('s988.states/a')$$);
RESET ROLE;
SELECT count(tfstate_revoke(role::name, pattern, privilege)) FROM tfstate_grants;
-- A role with any grants is refused what none of them matches, and nothing else: random grants
-- of short patterns, and all short lockids.
DO $$
DECLARE
	texts text[] := ARRAY(SELECT a || b || c FROM unnest(ARRAY['a', '*', '"']) a, unnest(ARRAY['', 'a', '*', '"']) b,
							   unnest(ARRAY['', 'a', '*', '"']) c WHERE b <> '' OR c = '');
	patterns text[];
	granted boolean;
	l text;
BEGIN
	PERFORM setseed(0.5);
	FOR i IN 1..60 LOOP
		SELECT array_agg(p) INTO patterns FROM unnest(texts) p WHERE random() < 0.1;
		PERFORM tfstate_grant('regress_tfstate_alice', p, CASE WHEN random() < 0.2 THEN 'lock' ELSE 'force' END)
		   FROM unnest(patterns) p;
		FOREACH l IN ARRAY texts LOOP
			SET LOCAL ROLE regress_tfstate_alice;
			BEGIN
				PERFORM tfstate_force_unlock(l);
			EXCEPTION
				WHEN insufficient_privilege THEN granted := false;
				WHEN object_not_in_prerequisite_state THEN granted := true;
			END;
			RESET ROLE;
			IF granted <> EXISTS (SELECT FROM tfstate_grants g WHERE g.privilege = 'force' AND tfstate_matches(l, g.pattern)) THEN
				RAISE INFO '%: granted is % with %', l, granted, patterns;
			END IF;
		END LOOP;
		PERFORM tfstate_revoke(g.role::name, g.pattern, g.privilege) FROM tfstate_grants g;
	END LOOP;
END;
$$;

SELECT tfstate_unlock('held', 'h')->>'ID' AS h, tfstate_unlock('session')->>'ID' AS s;
SELECT count(*) FROM tfstate_holders;
DROP EXTENSION tfstate CASCADE;
DROP ROLE regress_tfstate_alice;
DROP ROLE regress_tfstate_other;
DROP ROLE regress_tfstate_noinherit;
DROP ROLE regress_tfstate_team;
DROP PROCEDURE fails;
DROP FUNCTION masked;
