--
-- The rights that other roles have on an object.
--

CREATE FUNCTION tfstate_internal.rights(
	classid oid,
	objid oid,
	OUT object text,
	OUT owner oid,
	OUT grantee oid,
	OUT privilege text,
	OUT usual boolean)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT o.kind || o.name, o.owner, a.grantee, a.privilege_type || o.suffix,
	   EXISTS (SELECT FROM aclexplode(coalesce((SELECT i.initprivs FROM pg_init_privs i
												 WHERE (i.classoid, i.objoid, i.objsubid) =
													   (rights.classid, rights.objid, 0)),
											   acldefault(o.type, o.owner))) u
				WHERE o.suffix = '' AND u.grantee IN (0, a.grantee) AND u.privilege_type = a.privilege_type)
  FROM (SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END AS kind, c.oid::regclass::text AS name,
			   c.relacl AS acl, c.relowner AS owner, CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END AS type,
			   '' AS suffix
		  FROM pg_class c WHERE rights.classid = 'pg_class'::regclass AND c.oid = rights.objid
		UNION ALL
		SELECT 'TABLE ', c.oid::regclass::text, a.attacl, c.relowner, 'c', format(' (%I)', a.attname)
		  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		 WHERE rights.classid = 'pg_class'::regclass AND c.oid = rights.objid AND a.attacl IS NOT NULL
		UNION ALL
		SELECT 'ROUTINE ', p.oid::regprocedure::text, p.proacl, p.proowner, 'f', ''
		  FROM pg_proc p WHERE rights.classid = 'pg_proc'::regclass AND p.oid = rights.objid
		UNION ALL
		SELECT 'TYPE ', t.oid::regtype::text, t.typacl, t.typowner, 'T', ''
		  FROM pg_type t WHERE rights.classid = 'pg_type'::regclass AND t.oid = rights.objid
		UNION ALL
		SELECT 'SCHEMA ', n.oid::regnamespace::text, n.nspacl, n.nspowner, 'n', ''
		  FROM pg_namespace n WHERE rights.classid = 'pg_namespace'::regclass AND n.oid = rights.objid) o,
	   aclexplode(o.acl) a
 WHERE a.grantee <> o.owner
$$;
COMMENT ON FUNCTION tfstate_internal.rights(oid, oid) IS
'the rights of others than its owner on an object, and whether it was created with them; grantee 0 is everybody';
REVOKE EXECUTE ON FUNCTION tfstate_internal.rights(oid, oid) FROM PUBLIC;

-- The default privileges of a database are not meant for states.
CREATE FUNCTION tfstate_internal.revoke_rights(classid oid, objid oid)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	command text;
BEGIN
	FOR command IN
		SELECT DISTINCT format('REVOKE ALL ON %s FROM %s', r.object,
							   CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r.grantee)) END)
		  FROM tfstate_internal.rights(revoke_rights.classid, revoke_rights.objid) r
	LOOP
		PERFORM tfstate_internal.as_caller(command);
	END LOOP;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.revoke_rights(oid, oid) IS
'part of tfstate_attach(): take away what default privileges have given to other roles on a new object';
REVOKE EXECUTE ON FUNCTION tfstate_internal.revoke_rights(oid, oid) FROM PUBLIC;
