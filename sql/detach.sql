-- tfstate_detach() takes exactly back what tfstate_attach() gave, and tfstate_cleanup() what it gave for what is gone.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

CREATE ROLE regress_tfstate_a LOGIN;
CREATE ROLE regress_tfstate_b LOGIN;
CREATE ROLE regress_tfstate_c LOGIN;
SELECT current_database() AS database \gset

-- Everything that tfstate_attach() may change, except what it keeps.
CREATE VIEW everything AS
SELECT format('%s: %s of %s by %s%s', o.name, a.privilege_type, a.grantee::regrole, a.grantor::regrole,
			  CASE WHEN a.is_grantable THEN ' with grant option' END) AS line
  FROM (SELECT c.oid::regclass::text AS name,
			   coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, c.relowner)) AS acl
		  FROM pg_class c WHERE c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('one', 'two', 'public'))
		UNION ALL
		SELECT format('%s.%s', t.attrelid::regclass, t.attname), t.attacl
		  FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		 WHERE n.nspname IN ('one', 'two')
		UNION ALL
		SELECT nspname, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace
		UNION ALL
		SELECT datname, coalesce(datacl, acldefault('d', datdba)) FROM pg_database) o, aclexplode(o.acl) a
UNION ALL
SELECT format('setting %s of %s%s: %s', n, s.setrole::regrole, CASE WHEN s.setdatabase <> 0 THEN ' in a database' END, c)
  FROM pg_db_role_setting s, unnest(s.setconfig) WITH ORDINALITY u(c, n)
UNION ALL
SELECT format('grant of %s on %s to %s', privilege, pattern, role) FROM tfstate_grants
UNION ALL
SELECT format('trigger %s of %s', tgname, tgrelid::regclass) FROM pg_trigger WHERE tgname LIKE 'tfstate_guard%'
UNION ALL
SELECT format('compression of %s: "%s"', attrelid::regclass, attcompression) FROM pg_attribute WHERE attname = 'data'
UNION ALL
SELECT format('record: %s', g) FROM tfstate_internal.given g
UNION ALL
SELECT format('record: %s', a) FROM tfstate_internal.attached_role a;
CREATE TABLE before (line text);
CREATE PROCEDURE remember() LANGUAGE sql AS 'TRUNCATE before; INSERT INTO before TABLE everything';
CREATE VIEW changed AS
SELECT *
  FROM (SELECT '-' AS sign, line FROM (TABLE before EXCEPT ALL TABLE everything) b
		UNION ALL
		SELECT '+', line FROM (TABLE everything EXCEPT ALL TABLE before) e) c
 ORDER BY line COLLATE "C", sign;
CREATE VIEW settings AS		-- of role a in this database
SELECT c AS setting FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
 WHERE s.setrole = (SELECT oid FROM pg_roles WHERE rolname = 'regress_tfstate_a') AND d.datname = current_database() AND c ~ '^(search_path|idle|tfstate)';

-- What is made stays: tables, ids, indexes.
CREATE SCHEMA one;
CREATE SCHEMA two;
CREATE SEQUENCE public.global_states_id_seq;
CREATE TABLE one.states (id bigint NOT NULL DEFAULT nextval('public.global_states_id_seq') PRIMARY KEY, name text UNIQUE, data text);
CREATE TABLE one.more (LIKE one.states INCLUDING ALL);
CREATE TABLE two.states (LIKE one.states INCLUDING ALL);
CALL remember();
SELECT count(*) > 0 AS attached FROM tfstate_attach('one');
SELECT attcompression = CASE WHEN 'lz4' = ANY (enumvals) THEN 'l' ELSE '' END AS as_the_server_can
  FROM pg_attribute, pg_settings WHERE attrelid = 'one.states'::regclass AND attname = 'data' AND name = 'default_toast_compression';
SELECT tfstate_detach('one');
TABLE changed;
-- A compression that was there stays.
ALTER TABLE one.more ALTER data SET COMPRESSION pglz;
CALL remember();
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', 'more');
SELECT tfstate_detach('one', 'more');
TABLE changed;

-- What a role had before it keeps: rights on columns, with and without grant option, and settings.
GRANT SELECT (name, data), INSERT (name) ON one.states TO regress_tfstate_a;
GRANT SELECT (id) ON one.states TO regress_tfstate_a WITH GRANT OPTION;
GRANT DELETE, UPDATE ON one.states TO regress_tfstate_a;
GRANT USAGE ON SCHEMA one TO regress_tfstate_a;
SELECT tfstate_grant('regress_tfstate_a', 'one.states/*');
ALTER ROLE regress_tfstate_a IN DATABASE :"database" SET work_mem = '5MB';
ALTER ROLE regress_tfstate_a IN DATABASE :"database" SET search_path = "$user", "My, ""odd"" path", pg_catalog, public;
ALTER ROLE regress_tfstate_a IN DATABASE :"database" SET idle_session_timeout = '1h';
ALTER ROLE regress_tfstate_a IN DATABASE :"database" SET tcp_keepalives_idle = 5;
CALL remember();
SET client_min_messages = notice;
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_a');
TABLE settings;
-- A second call replaces nothing.
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_a');
SELECT tfstate_detach('one');
SET client_min_messages = warning;
TABLE changed;

-- A search_path that comes from elsewhere is extended, too, and so is an empty one; one that is right is left alone.
ALTER ROLE regress_tfstate_a IN DATABASE :"database" RESET search_path;
ALTER DATABASE :"database" SET search_path = two, tfstate_pg;
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_a');
TABLE settings;
SELECT tfstate_detach('one');
ALTER ROLE regress_tfstate_a SET search_path = '';
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_a');
TABLE settings;
SELECT tfstate_detach('one');
ALTER ROLE regress_tfstate_a SET search_path = one, tfstate_pg, pg_catalog;
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_a');
TABLE settings;
SELECT tfstate_detach('one');
TABLE settings;
ALTER ROLE regress_tfstate_a RESET search_path;
ALTER DATABASE :"database" RESET search_path;

-- One role only, and what another table still needs.
CALL remember();
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_a');
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', 'more', role => 'regress_tfstate_b');
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_b');
SELECT count(*) > 0 AS attached FROM tfstate_attach('two', role => 'regress_tfstate_b');
SELECT relid, kind FROM tfstate_internal.given WHERE role::text = 'regress_tfstate_b' AND kind IN ('schema', 'sequence') ORDER BY 1, 2;
SELECT tfstate_detach('one', 'more', 'regress_tfstate_b');
SELECT relid, kind FROM tfstate_internal.given WHERE role::text = 'regress_tfstate_b' AND kind IN ('schema', 'sequence') ORDER BY 1, 2;
CALL fails($$SELECT tfstate_detach('one', 'more', 'regress_tfstate_b')$$);
CALL fails($$SELECT tfstate_detach('one', 'states', 'regress_tfstate_nobody')$$);
SELECT tfstate_detach('one');
SELECT has_schema_privilege('regress_tfstate_b', 'one', 'USAGE') AS one, has_schema_privilege('regress_tfstate_b', 'two', 'USAGE') AS two,
	   has_sequence_privilege('regress_tfstate_b', 'public.global_states_id_seq', 'USAGE') AS sequence;
SELECT relid, kind FROM tfstate_internal.given WHERE role::text = 'regress_tfstate_b' AND kind IN ('schema', 'sequence') ORDER BY 1, 2;
SELECT tfstate_detach('two'), tfstate_detach('one', 'more');
TABLE changed;

-- What an administrator has changed since is left.
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_b');
REVOKE SELECT, DELETE ON one.states FROM regress_tfstate_b;
GRANT SELECT ON one.states TO regress_tfstate_b WITH GRANT OPTION;
ALTER ROLE regress_tfstate_b IN DATABASE :"database" SET idle_session_timeout = '1h';
ALTER ROLE regress_tfstate_b IN DATABASE :"database" RESET tcp_keepalives_idle;
SELECT tfstate_revoke('regress_tfstate_b', 'one.states/*');
SET client_min_messages = notice;
SELECT tfstate_detach('one');
SET client_min_messages = warning;
TABLE changed;
REVOKE SELECT ON one.states FROM regress_tfstate_b;
ALTER ROLE regress_tfstate_b IN DATABASE :"database" RESET ALL;
-- So is a right that another role gave.
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_b');
GRANT USAGE ON SCHEMA one TO regress_tfstate_c;
GRANT SELECT ON one.states TO regress_tfstate_c WITH GRANT OPTION;
REVOKE SELECT ON one.states FROM regress_tfstate_b;
SET ROLE regress_tfstate_c;
GRANT SELECT ON one.states TO regress_tfstate_b;
RESET ROLE;
SET client_min_messages = notice;
SELECT tfstate_detach('one');
SET client_min_messages = warning;
TABLE changed;
REVOKE SELECT ON one.states FROM regress_tfstate_c CASCADE;
REVOKE USAGE ON SCHEMA one FROM regress_tfstate_c;
TABLE changed;

-- Renamed and moved tables.
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_b');
ALTER SCHEMA one RENAME TO uno;
SELECT tfstate_detach('uno');
ALTER SCHEMA uno RENAME TO one;
TABLE changed;
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', 'more', role => 'regress_tfstate_b');
ALTER TABLE one.more SET SCHEMA two;
SELECT tfstate_detach('two', 'more');
ALTER TABLE two.more SET SCHEMA one;
TABLE changed;

-- Any order: tables are attached for roles and detached again at random, and what was there before is there at last.
CREATE PROCEDURE at_random(rounds integer) LANGUAGE plpgsql AS $$
DECLARE
	place record;
	command text;
	steps text[];
BEGIN
	PERFORM setseed(0.16);
	FOR round IN 1 .. rounds LOOP
		-- What there is before.
		steps := '{}';
		FOR command IN
			SELECT c FROM (
				SELECT format(c, r, t, split_part(t, '.', 1), current_database(), setting) AS c
				  FROM unnest(ARRAY['regress_tfstate_b', 'regress_tfstate_c']) r, unnest(ARRAY['one.states', 'one.more', 'two.states']) t,
					   unnest(ARRAY['search_path = two, pg_catalog', 'idle_session_timeout = ''1h''', 'tcp_keepalives_count = 2', 'debug_print_plan = on']) setting,
					   unnest(ARRAY['GRANT SELECT ON %2$s TO %1$s', 'GRANT SELECT (name) ON %2$s TO %1$s WITH GRANT OPTION', 'GRANT INSERT, UPDATE ON %2$s TO %1$s',
									'GRANT UPDATE (data) ON %2$s TO %1$s', 'GRANT USAGE ON SCHEMA %3$s TO %1$s', 'GRANT USAGE ON SEQUENCE public.global_states_id_seq TO %1$s',
									'SELECT tfstate_grant(''%1$s'', ''%2$s/*'')', 'ALTER ROLE %1$s IN DATABASE %4$I SET %5$s']) c) s
			 GROUP BY c ORDER BY random() LIMIT 6
		LOOP
			EXECUTE command;
			steps := steps || command;
		END LOOP;
		CALL remember();
		FOR place IN
			SELECT r, t, s, mode, access, undo
			  FROM (SELECT r, split_part(t, '.', 1) AS s, split_part(t, '.', 2) AS t, (ARRAY['durable', 'session', NULL])[ceil(random() * 3)] AS mode,
						   (ARRAY['write', 'plan', NULL])[ceil(random() * 3)] AS access, random() < 0.3 AS undo
					  FROM unnest(ARRAY['regress_tfstate_b', 'regress_tfstate_c']) r, unnest(ARRAY['one.states', 'one.more', 'two.states']) t, generate_series(1, 2)
					 ORDER BY random() LIMIT 9) p
		LOOP
			IF place.undo THEN
				BEGIN
					PERFORM tfstate_detach(place.s, place.t, place.r);
				EXCEPTION WHEN undefined_object THEN
					CONTINUE;
				END;
			ELSE
				PERFORM tfstate_attach(place.s, place.t, place.r, place.mode, access => place.access);
			END IF;
			steps := steps || place::text;
		END LOOP;
		FOR place IN
			SELECT t.relid, n.nspname AS s, c.relname AS t, a.role
			  FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
				   LEFT JOIN tfstate_internal.attached_role a ON a.relid = t.relid AND random() < 0.5
			 ORDER BY random()
		LOOP
			BEGIN
				PERFORM tfstate_detach(place.s, place.t, place.role::text);
			EXCEPTION WHEN undefined_object THEN
				CONTINUE;
			END;
			steps := steps || place::text;
		END LOOP;
		FOR place IN
			SELECT n.nspname AS s, c.relname AS t
			  FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
		LOOP
			PERFORM tfstate_detach(place.s, place.t);
		END LOOP;
		IF EXISTS (SELECT FROM changed) THEN
			RAISE INFO E'round %:\n%\n%', round, array_to_string(steps, E'\n'), (SELECT string_agg(sign || line, E'\n') FROM changed);
			RETURN;
		END IF;
		FOR place IN SELECT * FROM tfstate_grants WHERE role <> 'regress_tfstate_a' LOOP
			PERFORM tfstate_revoke(place.role, place.pattern, place.privilege);
		END LOOP;
		REVOKE ALL ON ALL TABLES IN SCHEMA one, two FROM regress_tfstate_b, regress_tfstate_c;
		REVOKE ALL ON SCHEMA one, two FROM regress_tfstate_b, regress_tfstate_c;
		REVOKE ALL ON SEQUENCE public.global_states_id_seq FROM regress_tfstate_b, regress_tfstate_c;
		EXECUTE format('ALTER ROLE regress_tfstate_b IN DATABASE %I RESET ALL', current_database());
		EXECUTE format('ALTER ROLE regress_tfstate_c IN DATABASE %I RESET ALL', current_database());
	END LOOP;
END;
$$;
CALL at_random(10);

--
-- Leftovers
--
CALL remember();
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_b');
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', 'more', role => 'regress_tfstate_b');
SELECT count(*) > 0 AS attached FROM tfstate_attach('two', role => 'regress_tfstate_b');
CREATE ROLE regress_tfstate_dropped;
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_dropped');
SELECT tfstate_grant('regress_tfstate_dropped', 'more', 'force'), tfstate_grant('public', 'for/all', 'view');
DROP OWNED BY regress_tfstate_dropped;
DROP ROLE regress_tfstate_dropped;
DROP TABLE one.states;
DROP SCHEMA two CASCADE;
SELECT object, problem, remedy FROM tfstate_check() WHERE remedy ~ 'cleanup' ORDER BY 1, 2;
-- What the table that is left needs stays, and what public was granted.
SELECT * FROM tfstate_cleanup();
SELECT * FROM tfstate_cleanup();
SELECT role, pattern, privilege FROM tfstate_grants WHERE role = 'public';
SELECT tfstate_revoke('public', 'for/all', 'view');
SELECT object, problem, remedy FROM tfstate_check() WHERE remedy ~ 'cleanup' ORDER BY 1, 2;
SELECT has_schema_privilege('regress_tfstate_b', 'one', 'USAGE') AS schema, count(*) AS settings
  FROM pg_db_role_setting WHERE setrole = 'regress_tfstate_b'::regrole;
DROP TABLE one.more;
SELECT * FROM tfstate_cleanup();
SELECT * FROM changed WHERE line !~ '^(one|two)|compression';
-- A table that was made again has its own rights and settings.
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_b');
DROP TABLE one.states;
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_b');
SELECT * FROM tfstate_cleanup();
SELECT count(*) FROM tfstate_check() WHERE role = 'regress_tfstate_b';
SELECT tfstate_detach('one');
SELECT count(*) FROM tfstate_internal.given;
SELECT * FROM changed WHERE line !~ '^(one|two)|compression';

-- Of a setting that was changed more than once, the last value comes back.
SELECT current_database() AS database \gset
ALTER ROLE regress_tfstate_b IN DATABASE :"database" SET tcp_keepalives_idle = 100;
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_b');
ALTER ROLE regress_tfstate_b IN DATABASE :"database" SET tcp_keepalives_idle = 200;
SELECT count(*) > 0 AS attached FROM tfstate_attach('one', role => 'regress_tfstate_b');
SELECT value FROM tfstate_internal.role_config('regress_tfstate_b'::regrole) WHERE name = 'tcp_keepalives_idle';
SELECT tfstate_detach('one');
SELECT value FROM tfstate_internal.role_config('regress_tfstate_b'::regrole) WHERE name = 'tcp_keepalives_idle';
ALTER ROLE regress_tfstate_b IN DATABASE :"database" RESET ALL;

DROP VIEW changed, everything, settings;
DROP EXTENSION tfstate CASCADE;
DROP TABLE before;
DROP SCHEMA one CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP PROCEDURE at_random, remember, fails;
DROP FUNCTION masked;
DROP OWNED BY regress_tfstate_a, regress_tfstate_b, regress_tfstate_c;
DROP ROLE regress_tfstate_a, regress_tfstate_b, regress_tfstate_c;
