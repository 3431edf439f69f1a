-- A whole database of states: settings for everybody, a group for all tables, and what holds for new ones.
SET client_min_messages = warning;
CREATE ROLE regress_tfstate_group;
CREATE ROLE regress_tfstate_member LOGIN IN ROLE regress_tfstate_group;
CREATE ROLE regress_tfstate_second;
SELECT current_database() AS home \gset
CREATE DATABASE regress_tfstate_states;
\c regress_tfstate_states
SET client_min_messages = warning;
SET IntervalStyle = postgres_verbose;
CREATE EXTENSION tfstate;
CREATE PROCEDURE pg_temp.fails(statement text) LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RAISE INFO 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RAISE INFO '%', concat_ws(E'\n', sqlstate || ': ' || sqlerrm, 'DETAIL:  ' || nullif(detail, ''), 'HINT:  ' || nullif(hint, ''));
END;
$$;
-- What is set for whom in this database.
CREATE TEMP VIEW settings AS
SELECT CASE s.setrole WHEN 0 THEN 'database' ELSE s.setrole::regrole::text END AS whose, count(*) > 5 AS many,
	   max(c) FILTER (WHERE c ~ '^search_path') AS search_path, max(c) FILTER (WHERE c ~ '^tcp_keepalives_idle') AS keepalives
  FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
 WHERE d.datname = current_database() GROUP BY s.setrole ORDER BY 1;
CREATE TEMP VIEW findings AS
SELECT severity, role, object, problem, remedy FROM tfstate_check()
 WHERE (role LIKE 'regress_tfstate%' OR role IS NULL) AND (object <> 'server' OR object IS NULL) AND problem NOT LIKE 'the encoding of%';
SELECT count(*) > 0 AS attached FROM tfstate_attach('one');
SELECT count(*) > 0 AS attached FROM tfstate_attach('two', role => 'regress_tfstate_group', wait => '1 min');
CREATE SCHEMA others;
CREATE TABLE others.old (id serial PRIMARY KEY, name text, data text);	-- states that are not attached
CREATE UNIQUE INDEX ON others.old (name);
TABLE settings;

-- For everybody, and for a group
SELECT tfstate_attach_database('regress_tfstate_group', search_path => true);
TABLE settings;
SELECT schema, roles FROM tfstate_tables ORDER BY 1;
SELECT role, pattern FROM tfstate_grants ORDER BY 2;
SELECT problem FROM findings WHERE object IS DISTINCT FROM 'others.old';
DROP TABLE others.old;
-- A role that is made later needs no call.
CREATE ROLE regress_tfstate_late LOGIN IN ROLE regress_tfstate_group;
TABLE findings;
SELECT * FROM tfstate_attach_members();
-- New tables take the group, and what was said for them.
SELECT tfstate_attach_database(mode => 'durable', wait => '2 min', guard => 'on', keep_versions => 3, keep_age => '1 day', default_workspace => false);
SELECT count(*) > 0 AS attached FROM tfstate_attach('three', wait => '3 min');
SELECT schema, mode, wait, guard, keep_versions, keep_age, default_workspace, roles FROM tfstate_tables ORDER BY 1;
SELECT has_table_privilege('regress_tfstate_late', 'three.states', 'SELECT') AS reads, has_schema_privilege('regress_tfstate_late', 'three', 'USAGE') AS uses;
SELECT count(*) FROM three.states;
TABLE findings;
-- A setting of a role's own is replaced, because it would count more.
ALTER ROLE regress_tfstate_late SET tcp_keepalives_idle = 300;
ALTER ROLE regress_tfstate_late IN DATABASE regress_tfstate_states SET search_path = three, public;
SELECT role, severity, remedy FROM findings;
SELECT * FROM tfstate_attach_members();
TABLE settings;
TABLE findings;
-- Settings of the database that somebody has changed
ALTER DATABASE regress_tfstate_states RESET tcp_keepalives_idle;
ALTER DATABASE regress_tfstate_states SET search_path = three, public;
SELECT severity, role, object, problem, remedy FROM findings WHERE role IS NULL;
SET client_min_messages = notice;
SELECT tfstate_attach_database();
SET client_min_messages = warning;
TABLE findings;
SELECT search_path FROM settings WHERE whose = 'database';

-- Where other things are, everybody else would be disturbed.
\c -
SHOW search_path;
SET client_min_messages = warning;
CREATE TABLE lost (id integer);		-- as a superuser
CREATE TABLE public.orders (id serial);
CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql RETURN 1;
SELECT object, problem, remedy FROM tfstate_check() WHERE severity = 'warning' AND role IS NULL AND problem NOT LIKE 'the encoding of%';
-- The remedies bring all of them back.
CREATE FUNCTION astray(integer, VARIADIC text[]) RETURNS integer LANGUAGE sql RETURN 1;
CREATE PROCEDURE "Astray"() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE strays(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
CREATE OPERATOR <=> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4eq);
CREATE TYPE stray AS ENUM ('a');
CREATE DOMAIN stray_domain AS stray;
CREATE VIEW strays AS SELECT id FROM lost;
CREATE SEQUENCE stray_seq;
CREATE OPERATOR FAMILY stray_family USING hash;
CREATE OPERATOR CLASS stray_ops FOR TYPE stray USING hash FAMILY stray_family AS OPERATOR 1 =(anyenum, anyenum), FUNCTION 1 hashenum(anyenum);
CREATE COLLATION stray_collation FROM "C";
CREATE TEXT SEARCH CONFIGURATION stray_search (COPY = simple);
CREATE STATISTICS lost_statistics ON id, (id + 1) FROM lost;
ALTER TABLE lost ADD UNIQUE (id), ADD own serial;
SELECT remedy FROM tfstate_check() WHERE problem ~ 'CREATE without' \gexec
SELECT object FROM tfstate_check() WHERE problem ~ 'CREATE without';
ALTER TABLE public.lost DROP own;
SET search_path = public, pg_catalog;
DROP AGGREGATE strays(*);
DROP VIEW strays;
DROP FUNCTION astray;
DROP PROCEDURE "Astray";
DROP OPERATOR <=> (integer, integer);
DROP OPERATOR FAMILY stray_family USING hash CASCADE;
DROP TYPE stray CASCADE;
DROP SEQUENCE stray_seq;
DROP COLLATION stray_collation;
DROP TEXT SEARCH CONFIGURATION stray_search;
RESET search_path;
SELECT tfstate_attach_database(search_path => false);
SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database() AND s.setrole = 0 AND s.setconfig <> ARRAY['search_path=three, public'];
-- Then its members have the settings.
SELECT whose, search_path FROM (SELECT s.setrole::regrole AS whose, c AS search_path FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
 WHERE d.datname = current_database() AND c ~ '^search_path') s ORDER BY 1;
DO $$
DECLARE
	detail text;
	hint text;
BEGIN
	PERFORM tfstate_attach_database(search_path => true);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RAISE INFO '%', concat_ws(E'\n', sqlstate || ': ' || sqlerrm, 'DETAIL:  ' || detail, 'HINT:  ' || hint);
END;
$$;
DROP TABLE public.orders, public.lost;
DROP FUNCTION public.f;
ALTER DATABASE regress_tfstate_states RESET search_path;
ALTER ROLE regress_tfstate_late RESET ALL;

-- Another group
SELECT tfstate_attach_database('regress_tfstate_second', search_path => true);
SELECT schema, roles FROM tfstate_tables ORDER BY 1;
-- Undone, what was there before is there again, except for what somebody has changed since.
ALTER DATABASE regress_tfstate_states SET tcp_keepalives_idle = 30;
SET client_min_messages = notice;
SELECT tfstate_detach_database();
SET client_min_messages = warning;
SELECT schema, roles FROM tfstate_tables ORDER BY 1;
SELECT role, pattern FROM tfstate_grants ORDER BY 2;
SELECT whose, search_path FROM (SELECT s.setrole::regrole::text AS whose, c AS search_path FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
 WHERE d.datname = current_database() AND c ~ '^search_path') s ORDER BY 1;
SELECT count(*) FROM tfstate_internal.attached_database;
SELECT tfstate_detach(schema) FROM tfstate_tables;
SELECT count(*) FROM tfstate_internal.given;
SELECT setrole::regrole::text AS role, setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database() ORDER BY 1;
SELECT tfstate_detach_database();
-- Only an administrator may.
SET ROLE regress_tfstate_member;
SELECT tfstate_attach_database();
SELECT tfstate_detach_database();
RESET ROLE;

\c :home
DROP DATABASE regress_tfstate_states;
DROP ROLE regress_tfstate_late, regress_tfstate_member, regress_tfstate_group, regress_tfstate_second;
