-- What CREATE EXTENSION creates, and who may use it.
SET client_min_messages = warning;
CREATE TABLE objects_before AS
SELECT oid FROM pg_class UNION ALL SELECT oid FROM pg_proc UNION ALL
SELECT oid FROM pg_type UNION ALL SELECT oid FROM pg_namespace UNION ALL
SELECT oid FROM pg_constraint UNION ALL SELECT oid FROM pg_trigger;
CREATE VIEW objects_left AS
SELECT 'relation' AS kind, oid::regclass::text AS name FROM pg_class WHERE oid NOT IN (TABLE objects_before)
UNION ALL
SELECT 'function', oid::regprocedure::text FROM pg_proc WHERE oid NOT IN (TABLE objects_before)
UNION ALL
SELECT 'type', oid::regtype::text FROM pg_type WHERE oid NOT IN (TABLE objects_before)
UNION ALL
SELECT 'schema', nspname FROM pg_namespace WHERE oid NOT IN (TABLE objects_before)
UNION ALL
SELECT 'constraint', conname FROM pg_constraint WHERE oid NOT IN (TABLE objects_before)
UNION ALL
SELECT 'trigger', tgname FROM pg_trigger WHERE oid NOT IN (TABLE objects_before);
-- Objects made by this test do not count.
INSERT INTO objects_before SELECT oid FROM pg_class WHERE relname IN ('objects_before', 'objects_left')
UNION ALL SELECT oid FROM pg_type WHERE typname IN ('objects_before', '_objects_before', 'objects_left', '_objects_left');

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
INSERT INTO objects_before VALUES ('fails(text)'::regprocedure), ('masked(text)'::regprocedure);

-- An ordinary role cannot create the extension.
CREATE ROLE regress_tfstate_user;
SELECT current_database() AS database \gset
GRANT CREATE ON DATABASE :"database" TO regress_tfstate_user;
GRANT CREATE ON SCHEMA public TO regress_tfstate_user;
SET ROLE regress_tfstate_user;
CALL fails('CREATE EXTENSION tfstate');

-- Objects that others have made before do not become part of it.
CREATE SCHEMA tfstate_pg;
RESET ROLE;
CALL fails('CREATE EXTENSION tfstate');
DROP SCHEMA tfstate_pg;
SET ROLE regress_tfstate_user;
CREATE FUNCTION tfstate_matches(lockid text, pattern text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT AS 'SELECT true';
RESET ROLE;
CALL fails('CREATE EXTENSION tfstate');
DROP FUNCTION tfstate_matches(text, text);
SET ROLE regress_tfstate_user;
CREATE SCHEMA tfstate_internal;
RESET ROLE;
CALL fails('CREATE EXTENSION tfstate');
DROP SCHEMA tfstate_internal;
SET ROLE regress_tfstate_user;
CREATE TABLE tfstate_grants (role regrole, pattern text, privilege text);
RESET ROLE;
CALL fails('CREATE EXTENSION tfstate');
DROP TABLE tfstate_grants;
SELECT * FROM objects_left;

CREATE EXTENSION tfstate;
SELECT extversion, extrelocatable FROM pg_extension WHERE extname = 'tfstate';
CALL fails('ALTER EXTENSION tfstate SET SCHEMA pg_catalog');

-- Every object is listed here, and has a comment.
CREATE VIEW members AS
SELECT d.classid, d.objid, i.type, i.identity,
	   obj_description(d.objid, d.classid::regclass::name) AS comment
  FROM pg_depend d
	   JOIN pg_extension e ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass,
	   pg_identify_object(d.classid, d.objid, 0) i
 WHERE e.extname = 'tfstate' AND d.deptype = 'e' AND d.classid <> 'pg_type'::regclass;
SELECT type, count(*) FROM members GROUP BY type ORDER BY type COLLATE "C";
SELECT type, identity FROM members WHERE coalesce(comment, '') = '';
SELECT m.identity, a.attname FROM members m JOIN pg_attribute a ON m.classid = 'pg_class'::regclass AND a.attrelid = m.objid
 WHERE m.type = 'view' AND a.attnum > 0 AND col_description(a.attrelid, a.attnum) IS NULL;
SELECT type, identity, comment FROM members
 WHERE type IN ('table', 'view', 'sequence', 'schema') ORDER BY type COLLATE "C", identity COLLATE "C";

-- All names in the schema of the extension start with tfstate_; everything else is in two other schemas.
SELECT type, identity FROM members
 WHERE identity !~ '^(public\.tfstate_|tfstate_(pg|internal)(\.|$))'
   AND (type <> 'cast' OR identity !~ '\mtfstate_internal\.role\M');

-- Users see what the reference (doc/reference/functions.md) lists, and nothing else.
SELECT CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END AS kind, p.proname::text COLLATE "C" AS name
  FROM pg_proc p WHERE p.proname ~ '^tfstate' AND pg_function_is_visible(p.oid)
UNION ALL
SELECT CASE c.relkind WHEN 'v' THEN 'view' ELSE c.relkind::text END, c.relname
  FROM pg_class c WHERE c.relname ~ '^tfstate' AND pg_table_is_visible(c.oid)
UNION ALL
SELECT 'type', t.typname
  FROM pg_type t WHERE t.typname ~ '^tfstate' AND t.typrelid = 0 AND t.typelem = 0 AND pg_type_is_visible(t.oid)
 ORDER BY kind, name;

-- Functions: kind, volatility, strictness, parallel label, rights.
SELECT p.oid::regprocedure AS function, p.prokind AS kind, p.provolatile AS vol,
	   p.proisstrict AS strict, p.proparallel AS par, p.prosecdef AS secdef,
	   l.lanname AS lang, has_function_privilege('public', p.oid, 'EXECUTE') AS public,
	   array_to_string(p.proconfig, '; ') AS settings
  FROM members m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
	   JOIN pg_language l ON p.prolang = l.oid
 ORDER BY p.oid::regprocedure::text COLLATE "C";
-- A volatile function in SQL or PL/pgSQL begins commands, which none may do in a parallel query.
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	   JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	   JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'tfstate'
 WHERE l.lanname IN ('sql', 'plpgsql') AND p.provolatile = 'v' AND p.proparallel <> 'u';

-- Signatures.
\pset format unaligned
\pset tuples_only on
SELECT p.oid::regproc || '(' || pg_get_function_arguments(p.oid) || ')' ||
	   coalesce(' returns ' || pg_get_function_result(p.oid), '')
  FROM members m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
 ORDER BY p.oid::regprocedure::text COLLATE "C";
\pset format aligned
\pset tuples_only off

-- Tables and views: logged or not, and the rights of PUBLIC.
SELECT c.relname, c.relkind AS kind, c.relpersistence AS pers,
	   has_table_privilege('public', c.oid, 'SELECT') AS public_reads,
	   has_table_privilege('public', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS public_writes,
	   has_any_column_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES') AS public_column
  FROM members m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
 WHERE c.relkind <> 'S' ORDER BY c.relname COLLATE "C";
SELECT c.relname, c.relpersistence AS pers,
	   has_sequence_privilege('public', c.oid, 'USAGE, SELECT, UPDATE') AS public
  FROM members m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
 WHERE c.relkind = 'S';
SELECT nspname, has_schema_privilege('public', n.oid, 'USAGE') AS usage,
	   has_schema_privilege('public', n.oid, 'CREATE') AS "create"
  FROM members m JOIN pg_namespace n ON m.classid = 'pg_namespace'::regclass AND m.objid = n.oid ORDER BY nspname;

-- Triggers.
SELECT tgrelid::regclass AS "table", tgname, tgenabled AS enabled
  FROM pg_trigger WHERE tgrelid IN (SELECT objid FROM members WHERE type = 'table') AND NOT tgisinternal
 ORDER BY tgname COLLATE "C";

-- The order of columns in C is that of the tables.
SELECT c.relname, string_agg(a.attname, ' ' ORDER BY a.attnum) AS columns
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
 WHERE c.relname IN ('durable_lock', 'session_lock')
 GROUP BY c.relname ORDER BY c.relname;
SELECT conrelid::regclass AS "table", contype AS type, pg_get_constraintdef(oid) AS constraint
  FROM pg_constraint
 WHERE conrelid IN (SELECT objid FROM members WHERE type = 'table') AND contype IN ('p', 'c')
 ORDER BY conrelid::regclass::text COLLATE "C", contype, pg_get_constraintdef(oid) COLLATE "C";

-- What pg_dump dumps.
SELECT c.relname FROM pg_extension e, unnest(e.extconfig) u JOIN pg_class c ON c.oid = u
 WHERE e.extname = 'tfstate' ORDER BY c.relname COLLATE "C";

-- The key has one row, and each installation has another one.
SELECT key FROM tfstate_internal.installation \gset key_
SELECT count(*) AS rows, min(octet_length(key)) AS bytes, min(protocol) AS protocol FROM tfstate_internal.installation;
CALL fails('SELECT tfstate_internal.make_key()');
CALL fails($$INSERT INTO tfstate_internal.installation VALUES (false, sha256(''), 1, 1)$$);

-- Nothing is left, even in a session that used it; and it can be created again.
SELECT fence > 0 AS locked FROM tfstate_lock('a', '{"ID":"1"}');
DROP VIEW members;
DROP EXTENSION tfstate;
SELECT * FROM objects_left;
\set VERBOSITY sqlstate
SELECT * FROM tfstate_lock('a');
\set VERBOSITY default
CREATE EXTENSION tfstate;
SELECT key <> :'key_key' AS another FROM tfstate_internal.installation;
SELECT count(*) FROM tfstate_holders;
SELECT fence > 0 AS locked FROM tfstate_lock('a', '{"ID":"2"}');
SELECT tfstate_unlock('a', '2')->>'ID' AS unlocked;

-- Default privileges give no further rights, to PUBLIC or to a role, of the whole database or of
-- the schema, on objects of the extension or on what it makes for states.
DROP EXTENSION tfstate;
CREATE ROLE "regress_tfstate_Default role";
CREATE VIEW rights AS	-- of others than the owner
SELECT o.name, CASE a.grantee WHEN 0 THEN 'public' ELSE a.grantee::regrole::text END AS grantee, a.privilege_type
  FROM (SELECT oid AS id, oid::regclass::text AS name, relacl AS acl, relowner AS owner FROM pg_class UNION ALL
		SELECT oid, oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner)), proowner FROM pg_proc UNION ALL
		SELECT oid, oid::regtype::text, coalesce(typacl, acldefault('T', typowner)), typowner FROM pg_type UNION ALL
		SELECT oid, nspname, nspacl, nspowner FROM pg_namespace) o, aclexplode(o.acl) a
 WHERE a.grantee <> o.owner
   AND (o.id IN (SELECT objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'tfstate' WHERE d.deptype = 'e')
		OR o.name ~ '^(regress_states|global_states_id_seq)');
INSERT INTO objects_before VALUES ('rights'::regclass), ('rights'::regtype), ('rights[]'::regtype);
CREATE EXTENSION tfstate;
SELECT count(*) > 0 AS attached FROM tfstate_attach('regress_states');
CREATE TABLE rights_before AS TABLE rights;
INSERT INTO objects_before VALUES ('rights_before'::regclass), ('rights_before'::regtype), ('rights_before[]'::regtype);
SELECT count(*) > 0 AS some, count(*) FILTER (WHERE grantee <> 'public') AS of_roles FROM rights;
CREATE PROCEDURE grants_later() LANGUAGE plpgsql AS $$
DECLARE
	kind text;
	scope text;
	grantee text;
BEGIN
	FOREACH grantee IN ARRAY ARRAY['PUBLIC', '"regress_tfstate_Default role"', '"regress_tfstate_Default role" WITH GRANT OPTION'] LOOP
		FOREACH scope IN ARRAY ARRAY['', 'IN SCHEMA public'] LOOP
			FOREACH kind IN ARRAY ARRAY['TABLES', 'SEQUENCES', 'FUNCTIONS', 'TYPES', 'SCHEMAS'] LOOP
				CONTINUE WHEN kind = 'SCHEMAS' AND scope <> '' OR grantee = 'PUBLIC' AND kind = 'TYPES';
				EXECUTE format('ALTER DEFAULT PRIVILEGES %s GRANT ALL ON %s TO %s', scope, kind, grantee);
			END LOOP;
		END LOOP;
		DROP EXTENSION tfstate CASCADE;
		DROP SCHEMA regress_states CASCADE;
		DROP SEQUENCE public.global_states_id_seq;
		CREATE EXTENSION tfstate;
		PERFORM tfstate_attach('regress_states');
		RAISE INFO '%: % more, % fewer, check: %', grantee,
			(SELECT count(*) FROM (TABLE rights EXCEPT ALL TABLE rights_before) r),
			(SELECT count(*) FROM (TABLE rights_before EXCEPT ALL TABLE rights) r),
			(SELECT count(*) FROM tfstate_internal.check_rights());
		ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM PUBLIC;
		ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM PUBLIC;
		ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM PUBLIC;
		ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM PUBLIC;
		ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON SEQUENCES FROM PUBLIC;
		ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON FUNCTIONS FROM PUBLIC;
	END LOOP;
END;
$$;
INSERT INTO objects_before VALUES ('grants_later()'::regprocedure);
CALL grants_later();
DROP PROCEDURE grants_later;
-- What has been granted since is reported, with the way to revoke it.
GRANT SELECT, DELETE ON tfstate_internal.privilege TO "regress_tfstate_Default role";
GRANT SELECT (content, size) ON tfstate_internal.stored_version TO "regress_tfstate_Default role";
GRANT USAGE ON SEQUENCE tfstate_internal.fence TO PUBLIC;
GRANT EXECUTE ON FUNCTION tfstate_revoke TO "regress_tfstate_Default role";
GRANT EXECUTE ON PROCEDURE tfstate_wait_lock TO "regress_tfstate_Default role";
GRANT CREATE ON SCHEMA tfstate_pg TO "regress_tfstate_Default role";
GRANT INSERT ON tfstate_grants TO "regress_tfstate_Default role";
\pset format unaligned
\pset tuples_only on
SELECT severity, role, object, problem, remedy FROM tfstate_check() WHERE problem ~ 'rights';
SELECT remedy FROM tfstate_check() WHERE problem ~ 'rights' \gexec
SELECT count(*) FROM tfstate_check() WHERE problem ~ 'rights';
\pset format aligned
\pset tuples_only off
-- A right of PUBLIC is not reported for each role, nor is a role's right on its own object.
REVOKE USAGE ON SCHEMA tfstate_pg FROM PUBLIC;
GRANT USAGE ON SCHEMA tfstate_pg TO "regress_tfstate_Default role";
GRANT SELECT ON tfstate_internal.privilege, tfstate_internal.stored_version TO "regress_tfstate_Default role";
SELECT count(*) FROM tfstate_internal.check_rights();
GRANT USAGE ON SCHEMA tfstate_internal TO "regress_tfstate_Default role";
GRANT EXECUTE ON FUNCTION tfstate_internal.check_rights, tfstate_internal.rights TO "regress_tfstate_Default role";
SET ROLE "regress_tfstate_Default role";
CALL fails('SELECT FROM tfstate_internal.check_rights()');
RESET ROLE;
DROP SCHEMA regress_states CASCADE;
DROP EXTENSION tfstate CASCADE;
DROP SEQUENCE public.global_states_id_seq;
DROP VIEW rights;
DROP TABLE rights_before;
DROP OWNED BY "regress_tfstate_Default role";
DROP ROLE "regress_tfstate_Default role";

-- In another schema, which needs quotes and is not in the search_path
CREATE SCHEMA "Odd schema";
CREATE EXTENSION tfstate SCHEMA "Odd schema";
SET search_path = '';
-- No body that is parsed at run time contains this name, which can change: see altered.sql.
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.prosqlbody IS NULL AND p.prosrc ~ 'Odd schema';
SELECT fence > 0 AS locked FROM "Odd schema".tfstate_lock('a', '{"ID":"3"}');
SELECT locked, id, holder->>'Path' AS path FROM "Odd schema".tfstate_try_lock('a');
SELECT lockid, id FROM "Odd schema".tfstate_holders;
SELECT lockid, id FROM "Odd schema".tfstate_holders('*');
SELECT count(*) FROM "Odd schema".tfstate_waiters('a');
SELECT "Odd schema".tfstate_renew('b', '1');
SELECT "Odd schema".tfstate_force_unlock('a')->>'ID' AS unlocked;
SELECT lockid, how FROM "Odd schema".tfstate_history;
SELECT lockid, how FROM "Odd schema".tfstate_history('a');
SELECT "Odd schema".tfstate_grant('regress_tfstate_user', 'b');
SELECT role, pattern, privilege FROM "Odd schema".tfstate_grants;
SELECT "Odd schema".tfstate_revoke('regress_tfstate_user', 'b');
BEGIN;
SELECT line FROM "Odd schema".tfstate_attach('regress_tfstate', 'states') line WHERE line ~ 'schema_name';
SELECT tfstate_pg.pg_try_advisory_lock(id) FROM regress_tfstate.states;
SELECT lockid, mode FROM "Odd schema".tfstate_holders;
SELECT tfstate_pg.pg_advisory_unlock(id) FROM regress_tfstate.states;
SELECT "Odd schema".tfstate_detach('regress_tfstate', 'states');
ROLLBACK;
SET search_path = public;
DROP EXTENSION tfstate;
DROP SCHEMA "Odd schema";
SELECT * FROM objects_left;

REVOKE CREATE ON DATABASE :"database" FROM regress_tfstate_user;
REVOKE CREATE ON SCHEMA public FROM regress_tfstate_user;
DROP ROLE regress_tfstate_user;
DROP PROCEDURE fails;
DROP FUNCTION masked;
DROP VIEW objects_left;
DROP TABLE objects_before;
