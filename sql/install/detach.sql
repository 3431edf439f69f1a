--
-- Undoing tfstate_attach().
--

-- The role keeps what other attached tables need.
CREATE FUNCTION tfstate_internal.detach_role(rel regclass, roleid oid)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rolename name := (SELECT r.rolname FROM pg_roles r WHERE r.oid = roleid);
	set_by_us text[];
	command text;
BEGIN
	DELETE FROM tfstate_internal.privilege p
	 WHERE (p.role, p.pattern, p.privilege) = (roleid, tfstate_internal.table_name(rel) || '/*', 'lock');
	DELETE FROM tfstate_internal.attached_role a
	 WHERE a.relid = rel AND a.role = roleid RETURNING a.settings INTO set_by_us;
	IF rolename IS NULL THEN
		RETURN;
	END IF;
	FOR command IN
		SELECT format('REVOKE %s FROM %I', g.privileges, rolename)
		  FROM tfstate_internal.needed_grants(rel) g
		 WHERE g.owner <> roleid AND NOT EXISTS (
			SELECT FROM tfstate_internal.attached_role a JOIN tfstate_internal.needed_grants(a.relid) o ON o = g
			 WHERE a.role = roleid)
		UNION ALL
		SELECT format('ALTER ROLE %I IN DATABASE %I RESET %s', rolename, current_database(), split_part(c, '=', 1))
		  FROM tfstate_internal.role_config(roleid) c
		 WHERE c = ANY (set_by_us) AND NOT EXISTS (SELECT FROM tfstate_internal.attached_role a WHERE a.role = roleid)
	LOOP
		EXECUTE command;
	END LOOP;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.detach_role(regclass, oid) IS
'part of tfstate_detach(): take back what tfstate_attach() gave to a role';
REVOKE EXECUTE ON FUNCTION tfstate_internal.detach_role(regclass, oid) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_detach(
	schema text DEFAULT 'terraform_remote_state',
	"table" text DEFAULT 'states')
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
DECLARE
	rel regclass;
BEGIN
	PERFORM tfstate_internal.require_table_arguments(schema, "table");
	rel := to_regclass(format('%I.%I', schema, "table"));
	LOCK TABLE tfstate_internal.attached_table IN SHARE ROW EXCLUSIVE MODE;
	DELETE FROM tfstate_internal.attached_table t WHERE t.relid = rel;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table "%" is not attached', format('%I.%I', schema, "table")
			USING ERRCODE = 'undefined_object';
	END IF;
	PERFORM tfstate_internal.detach_role(a.relid, a.role::oid) FROM tfstate_internal.attached_role a
	  WHERE a.relid = rel;
	EXECUTE format('DROP TRIGGER IF EXISTS tfstate_guard_row ON %s', rel);
	EXECUTE format('DROP TRIGGER IF EXISTS tfstate_guard_truncate ON %s', rel);
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_detach(text, text) IS
'undo tfstate_attach(), but keep the table, its states and their versions';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_detach(text, text) FROM PUBLIC;
