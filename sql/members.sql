-- Attached groups: rights go to the group, settings to the roles that log in and act for it.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;
SELECT current_database() AS database \gset

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

CREATE ROLE regress_tfstate_group;
CREATE ROLE regress_tfstate_team;
GRANT regress_tfstate_team TO regress_tfstate_group;	-- the other way round
CREATE ROLE regress_tfstate_inner IN ROLE regress_tfstate_group;
CREATE ROLE regress_tfstate_direct LOGIN IN ROLE regress_tfstate_group;
CREATE ROLE regress_tfstate_indirect LOGIN IN ROLE regress_tfstate_inner;
CREATE ROLE regress_tfstate_noinherit LOGIN NOINHERIT IN ROLE regress_tfstate_group;
CREATE ROLE regress_tfstate_setter LOGIN NOINHERIT IN ROLE regress_tfstate_group;
ALTER ROLE regress_tfstate_setter SET role = 'regress_tfstate_group';
CREATE ROLE regress_tfstate_super LOGIN SUPERUSER IN ROLE regress_tfstate_group;
CREATE ROLE regress_tfstate_nologin IN ROLE regress_tfstate_group;
CREATE ROLE regress_tfstate_other LOGIN IN ROLE regress_tfstate_team;

-- Which roles have the settings.
CREATE VIEW ready AS
SELECT replace(s.setrole::regrole::text, 'regress_tfstate_', '') AS role, count(*) > 5 AS settings,
	   max(substr(c, 13)) FILTER (WHERE starts_with(c, 'search_path=')) AS search_path,
	   s.setrole IN (SELECT g.role FROM tfstate_internal.given g) AS recorded
  FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
 WHERE d.datname = current_database() AND s.setrole <> 0
 GROUP BY s.setrole ORDER BY s.setrole::regrole::text COLLATE "C";
-- What it says of the roles of this test.
CREATE VIEW problems AS
SELECT replace(role, 'regress_tfstate_', '') AS role, object, left(problem, 45) AS problem, remedy FROM tfstate_check()
 WHERE role LIKE 'regress_tfstate_%' AND problem NOT LIKE '%a client that vanishes%' AND problem NOT LIKE '%server log%';

SELECT line FROM tfstate_attach('tf', role => 'regress_tfstate_group') line WHERE line ~ 'regress_tfstate_group" cannot';
TABLE ready;
-- The rights are those of the group alone.
SELECT DISTINCT grantee FROM information_schema.column_privileges WHERE table_schema = 'tf' AND grantee LIKE 'regress%';
SELECT role FROM tfstate_grants;
SELECT schema, roles FROM tfstate_tables;
TABLE problems;

-- New members, and a member that is none any more.
CREATE ROLE regress_tfstate_late LOGIN IN ROLE regress_tfstate_inner;
CREATE ROLE regress_tfstate_later LOGIN NOINHERIT IN ROLE regress_tfstate_group;
REVOKE regress_tfstate_group FROM regress_tfstate_direct;
ALTER ROLE regress_tfstate_nologin LOGIN;
TABLE problems;
-- A second table is none of the members' business.
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'more', role => 'regress_tfstate_group');
SELECT role FROM ready;
ALTER ROLE regress_tfstate_late IN DATABASE :"database" SET search_path = tf, public;
SET client_min_messages = notice;
SELECT line FROM tfstate_attach_members() line WHERE line !~ 'setting (tcp|log|debug|idle|auto|pgaudit)';
SET client_min_messages = warning;
SELECT * FROM tfstate_attach_members();
TABLE ready;
TABLE problems;
-- A change of its settings is mended.
ALTER ROLE regress_tfstate_later IN DATABASE :"database" RESET search_path;
TABLE problems;
SELECT * FROM tfstate_attach_members();
-- A member whose group has lost a right: the remedy is about the group.
REVOKE SELECT ON tf.more FROM regress_tfstate_group;
SELECT DISTINCT remedy FROM problems;
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', 'more', role => 'regress_tfstate_group');
TABLE problems;

-- A member that is attached itself keeps its settings as long as it is one of the two.
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', role => 'regress_tfstate_late');
SELECT tfstate_detach('tf', 'states', 'regress_tfstate_late');
SELECT role, search_path FROM ready WHERE role = 'late';
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', role => 'regress_tfstate_late');
REVOKE regress_tfstate_inner FROM regress_tfstate_late;
SELECT * FROM tfstate_attach_members();
SELECT role, search_path FROM ready WHERE role = 'late';
SELECT tfstate_detach('tf', 'states', 'regress_tfstate_late');
SELECT * FROM ready WHERE role = 'late';
ALTER ROLE regress_tfstate_late IN DATABASE :"database" RESET ALL;

-- Members lock through tfstate: with the group's rights, or as the group.
SET SESSION AUTHORIZATION regress_tfstate_indirect;
SET search_path = tfstate_pg, pg_catalog, public;
SELECT l, c FROM (SELECT pg_try_advisory_lock(id) AS l, pg_try_advisory_lock(-1) AS c FROM tf.states) l;
INSERT INTO tf.states (name, data) VALUES ('default', '{"version": 4, "serial": 1, "lineage": ""}')
	ON CONFLICT (name) DO UPDATE SET data = excluded.data;
SELECT pg_advisory_unlock(id) FROM tf.states;
SET SESSION AUTHORIZATION regress_tfstate_noinherit;
CALL public.fails('SELECT pg_try_advisory_lock(id) FROM tf.states');
SET ROLE regress_tfstate_group;
SELECT pg_try_advisory_lock(id) FROM tf.states;
SELECT public.masked(role) AS role, login_role FROM public.tfstate_holders;
SELECT pg_advisory_unlock(id) FROM tf.states;
RESET SESSION AUTHORIZATION;
RESET search_path;

-- A member that was dropped leaves nothing.
DROP ROLE regress_tfstate_later;
SELECT * FROM tfstate_attach_members();
SELECT count(*) FROM tfstate_internal.given g WHERE g.role_name = 'regress_tfstate_later';
-- Only an administrator may.
SET ROLE regress_tfstate_indirect;
CALL fails('SELECT tfstate_attach_members()');
RESET ROLE;
-- Where everything is detached, nobody has anything.
SELECT tfstate_detach('tf', 'more');
SELECT count(*) FROM ready;
SELECT tfstate_detach('tf', 'states', 'regress_tfstate_group');
TABLE ready;
SELECT count(*) FROM tfstate_internal.given;
SELECT * FROM tfstate_attach_members();
-- So it is where the tables were dropped.
SELECT count(*) > 0 AS attached FROM tfstate_attach('tf', role => 'regress_tfstate_group');
SET client_min_messages = error;
DROP SCHEMA tf CASCADE;
SELECT line FROM tfstate_cleanup() line WHERE line !~ 'setting (tcp|log|debug|idle|auto|pgaudit)';
TABLE ready;
SELECT count(*) FROM tfstate_internal.given;

DROP VIEW ready, problems;
DROP EXTENSION tfstate;
DROP SEQUENCE public.global_states_id_seq;
DROP FUNCTION masked;
DROP PROCEDURE fails;
DROP ROLE regress_tfstate_late, regress_tfstate_direct, regress_tfstate_indirect, regress_tfstate_noinherit, regress_tfstate_setter,
	regress_tfstate_super, regress_tfstate_nologin, regress_tfstate_other, regress_tfstate_inner, regress_tfstate_team, regress_tfstate_group;
