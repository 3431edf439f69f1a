--
-- Undoing tfstate_attach().
--

-- Revoking SELECT on the table would revoke it on the columns, too, which the role may have had before.
CREATE FUNCTION tfstate_internal.revoke_right(rel regclass, schema text, roleid oid, kind text, privilege text)
RETURNS text
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	role name := pg_get_userbyid(roleid);
	held record;
	columns text;
BEGIN
	SELECT r.* INTO held FROM tfstate_internal.role_rights(rel, schema, roleid) r
	 WHERE (r.kind, r.privilege) = (revoke_right.kind, revoke_right.privilege);
	IF held.grantors IS NULL THEN
		RETURN NULL;	-- it is gone, perhaps with its object
	END IF;
	IF NOT held.given THEN
		RAISE NOTICE 'role "%" keeps %, which it may grant to others since', role, held.target;
		RETURN NULL;
	END IF;
	IF privilege = 'SELECT' THEN
		SELECT string_agg(format('GRANT SELECT (%I) ON TABLE %s TO %I%s', a.attname, rel, role,
								 CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), '; ' ORDER BY a.attnum)
		  INTO columns
		  FROM pg_attribute a, aclexplode(a.attacl) x
		 WHERE a.attrelid = rel AND x.grantee = roleid AND x.privilege_type = 'SELECT' AND NOT a.attisdropped;
	END IF;
	BEGIN
		PERFORM tfstate_internal.as_caller(format('REVOKE %s FROM %I', held.target, role));
		IF columns IS NOT NULL THEN
			PERFORM tfstate_internal.as_caller(columns);
		END IF;
	EXCEPTION WHEN insufficient_privilege THEN
		NULL;	-- what the caller has no right to grant was granted by others
	END;
	SELECT r.given, r.grantors INTO held.given, held.grantors
	  FROM tfstate_internal.role_rights(rel, schema, roleid) r
	 WHERE (r.kind, r.privilege) = (revoke_right.kind, revoke_right.privilege);
	IF held.given THEN
		IF tfstate_internal.caller_is_owner() THEN
			RAISE NOTICE 'role "%" keeps %, which was granted by %', role, held.target, held.grantors;
		ELSE
			RAISE NOTICE 'role "%" keeps %, which was granted by %, until a superuser calls tfstate_cleanup()',
				role, held.target, held.grantors;
			INSERT INTO tfstate_internal.given VALUES (rel, roleid, role, kind, privilege, schema)
			ON CONFLICT DO NOTHING;
		END IF;
		RETURN NULL;
	END IF;
	RETURN format('REVOKE %s FROM %I', held.target, role);
END;
$$;
COMMENT ON FUNCTION tfstate_internal.revoke_right(regclass, text, oid, text, text) IS
'part of tfstate_detach(): revoke a right that tfstate_attach() has granted; returns the command, or NULL if it stays';
REVOKE EXECUTE ON FUNCTION tfstate_internal.revoke_right(regclass, text, oid, text, text) FROM PUBLIC;

-- What another attached table of the role needs as well passes on to that one.
CREATE FUNCTION tfstate_internal.pass_on(given tfstate_internal.given)
RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	heir regclass;
BEGIN
	SELECT a.relid INTO heir
	  FROM tfstate_internal.attached_role a
		   JOIN tfstate_internal.attached_table t ON t.relid = a.relid
		   JOIN pg_class c ON c.oid = a.relid JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE a.role::oid = given.role::oid AND a.relid <> given.relid
	   AND (given.kind IN ('shim', 'database')
			OR given.kind = 'sequence' AND a.access = 'write'
			OR given.kind = 'schema' AND n.nspname = given.value
			OR given.kind = 'lock' AND tfstate_internal.table_name(a.relid) || '/*' = given.value)
	 ORDER BY a.relid LIMIT 1;
	IF heir IS NULL THEN
		RETURN false;
	END IF;
	INSERT INTO tfstate_internal.given
	VALUES (heir, given.role, given.role_name, given.kind, given.object, given.value, given.replaced)
	ON CONFLICT DO NOTHING;
	RETURN true;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.pass_on(tfstate_internal.given) IS
'part of tfstate_detach(): record what a role was given for another of its tables, if that needs it';
REVOKE EXECUTE ON FUNCTION tfstate_internal.pass_on(tfstate_internal.given) FROM PUBLIC;

-- What was changed since it was given is left as it is.
CREATE FUNCTION tfstate_internal.take_back(given tfstate_internal.given)
RETURNS text
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
	roleid oid := given.role::oid;
	rolename name := CASE roleid WHEN 0 THEN 'public' ELSE (SELECT r.rolname FROM pg_roles r WHERE r.oid = roleid) END;
	schema name;
	current text;
	done text;
BEGIN
	DELETE FROM tfstate_internal.given g
	 WHERE (g.relid, g.role, g.role_name, g.kind, g.object) =
		   (given.relid, given.role, given.role_name, given.kind, given.object);
	-- The schema or the table can have been renamed, or the table moved.
	IF given.kind = 'schema' THEN
		SELECT n.nspname INTO schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		 WHERE c.oid = given.relid;
		IF FOUND AND EXISTS (SELECT FROM tfstate_internal.role_rights(given.relid, schema, roleid) r
							  WHERE r.kind = 'schema' AND r.grantors IS NOT NULL) THEN
			given.value := schema;
		END IF;
	ELSIF given.kind = 'lock' THEN
		given.value := coalesce((SELECT t.name || '/*' FROM tfstate_internal.attached_table t
								  WHERE t.relid = given.relid), given.value);
	END IF;
	IF tfstate_internal.pass_on(given) THEN
		RETURN NULL;
	END IF;
	IF given.kind = 'lock' THEN
		DELETE FROM tfstate_internal.privilege p
		 WHERE (p.role, p.pattern, p.privilege) = (given.role, given.value, 'lock');
		IF FOUND THEN
			RETURN format('grant of privilege "lock" for pattern "%s" to role "%s"', given.value,
						  coalesce(rolename, given.role_name));
		END IF;
	ELSIF rolename IS NULL THEN
		RETURN NULL;
	ELSIF given.kind = 'setting' THEN
		current := (SELECT c.value FROM tfstate_internal.role_config(roleid) c WHERE c.name = given.object);
		IF current = given.value THEN
			PERFORM tfstate_internal.set_role_config(rolename, given.object, given.replaced);
			RETURN format('setting %s = %s of role "%s"', given.object, given.value, rolename);
		ELSIF current IS NOT NULL AND roleid = 0 THEN
			RAISE NOTICE 'the database keeps % = %, which was changed since', given.object, current;
		ELSIF current IS NOT NULL THEN
			RAISE NOTICE 'role "%" keeps % = %, which was changed since', rolename, given.object, current;
		END IF;
	ELSE
		RETURN tfstate_internal.revoke_right(given.relid, given.value, roleid, given.kind, given.object);
	END IF;
	RETURN NULL;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.take_back(tfstate_internal.given) IS
'part of tfstate_detach(): take back one thing that tfstate_attach() has given; returns it, or NULL if it stays';
REVOKE EXECUTE ON FUNCTION tfstate_internal.take_back(tfstate_internal.given) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.detach_role(rel regclass, roleid oid, rolename text)
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM tfstate_internal.attached_role a
	 WHERE a.relid = rel AND a.role::oid = roleid AND a.role_name = rolename;
	RETURN QUERY
	SELECT t.line
	  FROM (SELECT tfstate_internal.take_back(g) AS line FROM tfstate_internal.given g
			 WHERE g.relid = rel AND g.role::oid = roleid AND g.role_name = rolename
			 ORDER BY g.kind, g.object) t
	 WHERE t.line IS NOT NULL;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.detach_role(regclass, oid, text) IS
'part of tfstate_detach(): take back the rights that tfstate_attach() gave to a role; returns what that was';
REVOKE EXECUTE ON FUNCTION tfstate_internal.detach_role(regclass, oid, text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.detach_table(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	compressed boolean;
BEGIN
	PERFORM tfstate_internal.detach_role(a.relid, a.role::oid, a.role_name)
	   FROM tfstate_internal.attached_role a WHERE a.relid = rel;
	PERFORM tfstate_internal.take_settings();
	DELETE FROM tfstate_internal.attached_table t WHERE t.relid = rel RETURNING t.compressed INTO compressed;
	PERFORM tfstate_internal.as_caller(format('DROP TRIGGER IF EXISTS tfstate_guard_row ON %s', rel));
	PERFORM tfstate_internal.as_caller(format('DROP TRIGGER IF EXISTS tfstate_guard_truncate ON %s', rel));
	IF compressed AND EXISTS (SELECT FROM pg_attribute a
							   WHERE a.attrelid = rel AND a.attname = 'data' AND a.attcompression = 'l') THEN
		PERFORM tfstate_internal.as_caller(format('ALTER TABLE %s ALTER data SET COMPRESSION default', rel));
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.detach_table(regclass) IS
'part of tfstate_detach(): take the guard and all roles from a table';
REVOKE EXECUTE ON FUNCTION tfstate_internal.detach_table(regclass) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_detach(
	schema text DEFAULT 'terraform_remote_state',
	"table" text DEFAULT 'states',
	role name DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'tfstate_for_administrators'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_detach(text, text, name) IS
'undo tfstate_attach(), for one role or altogether, but keep the table, its states and their versions
Privilege: admin.
Errors: 42704 not attached.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_detach(text, text, name) TO PUBLIC;

CREATE FUNCTION tfstate_internal.tfstate_detach(
	schema text,
	"table" text,
	role name)
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
#variable_conflict use_variable
DECLARE
	rel regclass;
BEGIN
	PERFORM tfstate_internal.require_table_arguments(schema, "table");
	PERFORM tfstate_internal.require_administrator(schema, "table");
	rel := to_regclass(format('%I.%I', schema, "table"));
	LOCK TABLE tfstate_internal.attached_table IN SHARE ROW EXCLUSIVE MODE;
	IF NOT EXISTS (SELECT FROM tfstate_internal.attached_table t WHERE t.relid = rel) THEN
		RAISE EXCEPTION 'table "%" is not attached', format('%I.%I', schema, "table")
			USING ERRCODE = 'undefined_object';
	END IF;
	PERFORM tfstate_internal.require_owner(rel);
	IF role IS NULL THEN
		PERFORM tfstate_internal.detach_table(rel);
		RETURN;
	END IF;
	PERFORM tfstate_internal.detach_role(a.relid, a.role::oid, a.role_name)
	   FROM tfstate_internal.attached_role a
	  WHERE a.relid = rel AND coalesce(nullif(a.role::text, 'none'), a.role_name) = role::text;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'role "%" is not attached to table "%"', role, format('%I.%I', schema, "table")
			USING ERRCODE = 'undefined_object';
	END IF;
	PERFORM tfstate_internal.take_settings();
END;
$$;
COMMENT ON FUNCTION tfstate_internal.tfstate_detach(text, text, name) IS
'the body of tfstate_detach()';
REVOKE EXECUTE ON FUNCTION tfstate_internal.tfstate_detach(text, text, name) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.left_rights()
RETURNS SETOF tfstate_internal.given
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT g.* FROM tfstate_internal.given g
 WHERE g.kind <> 'setting'
   AND NOT EXISTS (SELECT FROM tfstate_internal.attached_role a
					WHERE a.relid = g.relid AND a.role::oid = g.role::oid)
$$;
COMMENT ON FUNCTION tfstate_internal.left_rights() IS
'the rights that roles have kept because who detached them could not revoke these';
REVOKE EXECUTE ON FUNCTION tfstate_internal.left_rights() FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_cleanup()
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
BEGIN
	LOCK TABLE tfstate_internal.attached_table IN SHARE ROW EXCLUSIVE MODE;
	RETURN QUERY
	SELECT l.line
	  FROM tfstate_internal.attached_role a,
		   LATERAL tfstate_internal.detach_role(a.relid, a.role::oid, a.role_name) WITH ORDINALITY l(line, n)
	 WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = a.relid)
		OR NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.role)
	 ORDER BY a.role_name, a.relid, l.n;
	RETURN QUERY	-- what a detach could not take back
	SELECT t.line
	  FROM (SELECT tfstate_internal.take_back(g) AS line FROM tfstate_internal.left_rights() g
			 ORDER BY g.role_name, g.relid, g.kind, g.object) t
	 WHERE t.line IS NOT NULL;
	RETURN QUERY SELECT * FROM tfstate_internal.take_settings();
	RETURN QUERY
	WITH gone AS (
		DELETE FROM tfstate_internal.attached_table t
		 WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relid)
		RETURNING t.name)
	SELECT format('attachment of table "%s"', g.name) FROM gone g ORDER BY g.name COLLATE "C";
	RETURN QUERY
	WITH gone AS (
		DELETE FROM tfstate_internal.privilege p
		 WHERE p.role <> 0 AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = p.role)
		RETURNING p.privilege, p.pattern, p.role_name)
	SELECT format('grant of privilege "%s" for pattern "%s" to role "%s"', g.privilege, g.pattern, g.role_name)
	  FROM gone g ORDER BY g.role_name, g.pattern, g.privilege;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_cleanup() IS
'take back what tfstate_attach() gave for tables that were dropped, and remove grants of dropped roles; one row each
It also takes back what the role that called tfstate_detach() could not revoke.
Privilege: administrator.';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_cleanup() FROM PUBLIC;
