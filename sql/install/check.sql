--
-- What is wrong with a set-up.
--

-- A sequence that is too low does no harm here, because each lock compares its fence with
-- what the tables know.  Two rows of a lock, and triggers that do not always fire, come from a
-- restore without triggers.  On a standby the table of session locks cannot be read, so a
-- function does that.
CREATE FUNCTION tfstate_internal.check_fences(
	OUT severity text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT 'warning', 'tfstate_internal.fence'::regclass::text,
		   format('the sequence stands at %s, although fence %s was given out: '
				  'consumers elsewhere can know greater ones, too', f.last, k.newest),
		   format('SELECT pg_catalog.setval(%L, %s)', 'tfstate_internal.fence'::regclass, k.newest)
	  FROM (SELECT CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - 1 END
			  FROM tfstate_internal.fence s) f(last),
		   (SELECT greatest((SELECT max(d.fence) FROM tfstate_internal.durable_lock d),
							(SELECT max(s.fence) FROM tfstate_internal.session_locks() s),
							(SELECT max(r.fence) FROM tfstate_internal.released_lock r),
							(SELECT max(v.fence) FROM tfstate_internal.stored_version v))) k(newest)
	 WHERE k.newest > f.last
	UNION ALL
	SELECT 'error', 'tfstate_internal.durable_lock'::regclass::text,
		   format('state lock "%s" has several rows, with fences %s: only one of them can be right', d.lockid,
				  string_agg(d.fence::text, ', ' ORDER BY d.fence)),
		   format('DELETE FROM %s WHERE lockid = %L AND fence = ...', 'tfstate_internal.durable_lock'::regclass,
				  d.lockid)
	  FROM tfstate_internal.durable_lock d
	 GROUP BY d.lockid HAVING count(*) > 1
	UNION ALL
	SELECT 'error', t.rel::text,
		   format('the trigger %s is missing or does not always fire: '
				  'rows that a restore or replication brings are not looked at', t.name),
		   CASE WHEN g.oid IS NOT NULL THEN format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.rel, t.name) END
	  FROM (VALUES ('tfstate_internal.installation'::regclass, 'keep_own_row'),
				   ('tfstate_internal.durable_lock'::regclass, 'require_free_lock'),
				   ('tfstate_internal.freeze'::regclass, 'report_freeze')) t(rel, name)
		   LEFT JOIN pg_trigger g ON g.tgrelid = t.rel AND g.tgname = t.name
	 WHERE g.tgenabled IS DISTINCT FROM 'A';
END;
COMMENT ON FUNCTION tfstate_internal.check_fences() IS
'part of tfstate_check(): report what SQL, a restore or replication has done to fences and rows of locks';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_fences() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.check_database(
	OUT severity text,
	OUT role text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'warning', NULL, 'database',
	   format('the encoding of the database is %s: a state with other characters cannot be written',
			  getdatabaseencoding()), NULL
 WHERE getdatabaseencoding() <> 'UTF8'
UNION ALL
SELECT 'error', NULL, 'database', 'it lacks settings that tfstate_attach_database() has made for everybody: ' ||
	   string_agg(n.name, ', ' ORDER BY n.name),
	   format('SELECT %s()', tfstate_internal.qualified('tfstate_attach_database'))
  FROM tfstate_internal.attached_database d, tfstate_internal.needed_settings(0) n
	   LEFT JOIN tfstate_internal.role_config(0) c ON c.name = n.name
 WHERE d.search_path AND c.value IS DISTINCT FROM n.value
HAVING count(*) > 0
UNION ALL
SELECT 'warning', NULL, 'database',
	   'search_path begins with tfstate_pg for everybody, although the database has more than states: ' ||
	   string_agg(l.o, ', '),
	   format('SELECT %s(search_path => false)', tfstate_internal.qualified('tfstate_attach_database'))
  FROM tfstate_internal.attached_database d, (SELECT o FROM tfstate_internal.other_objects() o LIMIT 3) l
 WHERE d.search_path
HAVING count(*) > 0
UNION ALL
-- A sequence of a column goes with its table.
SELECT 'warning', NULL, i.identity,
	   'a CREATE without a schema has put it into tfstate_pg, with which search_path begins',
	   format('ALTER %s %s SET SCHEMA public',
			  CASE WHEN i.type IN ('function', 'procedure', 'aggregate') THEN 'ROUTINE'
				   WHEN i.type = 'statistics object' THEN 'STATISTICS'
				   ELSE upper(i.type) END, i.identity)
  FROM pg_depend d, LATERAL pg_identify_object(d.classid, d.objid, 0) i
 WHERE (d.refclassid, d.refobjid, d.deptype) = ('pg_namespace'::regclass, to_regnamespace('tfstate_pg'), 'n')
   AND NOT EXISTS (SELECT FROM pg_depend o
					WHERE (o.classid, o.objid) = (d.classid, d.objid)
					  AND (o.deptype IN ('i', 'e') OR o.deptype = 'a' AND o.classid = 'pg_class'::regclass))
UNION ALL
SELECT 'error', NULL, g.tgrelid::regclass::text,
	   'the table has triggers of tfstate, but is not attached: nobody can write to it',
	   tfstate_internal.attach_command(g.tgrelid::regclass, NULL::text)
  FROM (SELECT DISTINCT t.tgrelid FROM pg_trigger t WHERE t.tgfoid = 'tfstate_internal.guard()'::regprocedure) g
 WHERE NOT EXISTS (SELECT FROM tfstate_internal.attached_table a WHERE a.relid = g.tgrelid)
UNION ALL
-- Tables that Terraform makes itself, in the schemas where states are.
SELECT 'warning', coalesce(r.rolname, 'public')::text, n.nspname::text,
	   format('by default it gets %s on tables that role "%s" creates, and those can hold states',
			  d.privileges, o.rolname),
	   format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE %s ON TABLES FROM %s', o.rolname,
			  ' IN SCHEMA ' || quote_ident(n.nspname), d.privileges, coalesce(quote_ident(r.rolname), 'PUBLIC'))
  FROM (SELECT a.defaclrole, a.defaclnamespace, e.grantee,
			   string_agg(e.privilege_type, ', ' ORDER BY e.privilege_type) AS privileges
		  FROM pg_default_acl a, aclexplode(a.defaclacl) e
		 WHERE a.defaclobjtype = 'r' AND e.grantee <> a.defaclrole
		   AND e.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
		   AND (a.defaclnamespace = 0
				OR a.defaclnamespace IN (SELECT c.relnamespace FROM tfstate_internal.attached_table t
																	 JOIN pg_class c ON c.oid = t.relid))
		   AND a.defaclrole IN (SELECT c.relowner FROM tfstate_internal.attached_table t
														JOIN pg_class c ON c.oid = t.relid
								UNION SELECT a.role::oid FROM tfstate_internal.attached_role a)
		 GROUP BY a.defaclrole, a.defaclnamespace, e.grantee) d
	   JOIN pg_roles o ON o.oid = d.defaclrole
	   LEFT JOIN pg_roles r ON r.oid = d.grantee
	   LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
$$;
COMMENT ON FUNCTION tfstate_internal.check_database() IS
'part of tfstate_check(): report what is wrong with the database beyond attached tables and roles of Terraform';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_database() FROM PUBLIC;

-- The rights of the calling role are no news to it.  There is one row for each role, because
-- an administrator who is not a superuser has rights on many objects.
CREATE FUNCTION tfstate_internal.check_rights(
	OUT severity text,
	OUT role text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
WITH given AS (
	SELECT r.object, r.grantee, string_agg(r.privilege, ', ' ORDER BY r.privilege) AS privileges,
		   row_number() OVER (PARTITION BY r.grantee ORDER BY r.object COLLATE "C") AS n,
		   count(*) OVER (PARTITION BY r.grantee) AS objects
	  FROM pg_extension e
		   JOIN pg_depend d ON (d.refclassid, d.refobjid, d.deptype) = ('pg_extension'::regclass, e.oid, 'e'),
		   LATERAL (SELECT * FROM tfstate_internal.rights(d.classid, d.objid)) r
	 WHERE e.extname = 'tfstate' AND NOT r.usual AND pg_get_userbyid(r.grantee) <> tfstate_internal.caller()
	 GROUP BY r.object, r.grantee)
SELECT 'warning', g.name, NULL,
	   'it has rights that only an administrator of tfstate should have: ' ||
	   string_agg(format('%s ON %s', r.privileges, r.object), '; ' ORDER BY r.n) FILTER (WHERE r.n <= 3) ||
	   CASE WHEN r.objects > 3 THEN format('; and on %s others', r.objects - 3) ELSE '' END,
	   string_agg(format('REVOKE %s ON %s FROM %s', r.privileges, r.object,
						 CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(g.name) END), '; ' ORDER BY r.n)
  FROM given r,
	   LATERAL (SELECT CASE r.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(r.grantee)::text END) g(name)
 GROUP BY r.grantee, r.objects, g.name
$$;
COMMENT ON FUNCTION tfstate_internal.check_rights() IS
'part of tfstate_check(): report rights on the objects of tfstate that only an administrator should have';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_rights() FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_check(
	OUT severity text,
	OUT role text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_for_administrators'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_check() IS
'check the set-up: report what is wrong with attached tables, roles of Terraform and the server, and what helps
"remedy" is SQL, where there is some. Who is no administrator sees what is about tables that it owns or has "admin"
for.
Privilege: admin.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_check() TO PUBLIC;

CREATE FUNCTION tfstate_internal.tfstate_check(
	OUT severity text,
	OUT role text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
SET jit = off
AS $$
DECLARE
	complete boolean := tfstate_internal.caller_is_owner();
	covered regclass[] := ARRAY(SELECT tfstate_internal.covered_tables());
BEGIN
	IF NOT complete AND covered = '{}' THEN
		RAISE EXCEPTION 'permission denied to check the set-up'
			USING ERRCODE = 'insufficient_privilege',
				  DETAIL = format('Role "%s" owns no attached table, and has no grant of privilege "admin" that covers one.',
								  tfstate_internal.caller());
	END IF;
	PERFORM tfstate_internal.matches('', '');	-- loads the library, which has the settings tfstate.*
	RETURN QUERY
	SELECT p.severity, p.role, p.object, p.problem, p.remedy
	  FROM (SELECT 'error', NULL, 'server', format('%s is off: a crash loses or corrupts locks and states', s.name),
				   format('ALTER SYSTEM SET %s = on', s.name)
			  FROM pg_settings s WHERE s.name IN ('fsync', 'full_page_writes') AND s.setting = 'off' AND complete
			UNION ALL
			SELECT 'warning', NULL, t.name, 'the attached table was dropped',
				   format('SELECT %s()', tfstate_internal.qualified('tfstate_cleanup'))
			  FROM tfstate_internal.attached_table t
			 WHERE complete AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relid)
			UNION ALL
			SELECT 'warning', CASE count(*) WHEN 1 THEN min(p.role_name) END, NULL,
				   format('%s left grants of tfstate or attachments behind',
						  CASE count(*) WHEN 1 THEN 'a dropped role' ELSE format('%s dropped roles', count(*)) END),
				   format('SELECT %s()', tfstate_internal.qualified('tfstate_cleanup'))
			  FROM (SELECT g.role, g.role_name FROM tfstate_internal.privilege g
					UNION
					SELECT a.role, a.role_name FROM tfstate_internal.attached_role a) p
			 WHERE complete AND p.role <> 0 AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = p.role)
			HAVING count(*) > 0
			UNION ALL
			SELECT 'warning', g.role_name, NULL,
				   'it keeps rights that the role which called tfstate_detach() could not revoke',
				   format('SELECT %s()', tfstate_internal.qualified('tfstate_cleanup'))
			  FROM tfstate_internal.left_rights() g
			 WHERE complete
			 GROUP BY g.role_name
			UNION ALL
			SELECT c.severity, NULL, t.rel::text, c.problem, c.remedy
			  FROM unnest(covered) t(rel), tfstate_internal.check_table(t.rel) c
			UNION ALL
			SELECT c.severity, NULL, c.object, c.problem, c.remedy FROM tfstate_internal.check_rows() c
			 WHERE complete OR c.object = ANY (covered::text[])
			UNION ALL
			SELECT c.severity, NULL, c.object, c.problem, c.remedy FROM tfstate_internal.check_new_tables() c
			 WHERE complete
			UNION ALL
			SELECT c.severity, NULL, c.object, c.problem, c.remedy FROM tfstate_internal.check_fences() c
			 WHERE complete
			UNION ALL
			SELECT * FROM tfstate_internal.check_database() WHERE complete
			UNION ALL
			SELECT c.severity, NULL, c.object, c.problem, c.remedy FROM tfstate_internal.check_replication() c
			 WHERE complete
			UNION ALL
			SELECT * FROM tfstate_internal.check_rights() WHERE complete
			UNION ALL
			SELECT * FROM tfstate_internal.check_roles()) p(severity, role, object, problem, remedy)
	 ORDER BY p.object COLLATE "C", p.role COLLATE "C", p.problem COLLATE "C";
END;
$$;
COMMENT ON FUNCTION tfstate_internal.tfstate_check() IS
'the body of tfstate_check()';
REVOKE EXECUTE ON FUNCTION tfstate_internal.tfstate_check() FROM PUBLIC;
