--
-- Undoing tfstate_attach().
--

-- What other attached tables need is kept.
CREATE FUNCTION @extschema@.tfstate_detach_role(rel regclass, roleid oid)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rolename name := (SELECT r.rolname FROM pg_roles r WHERE r.oid = roleid);
	set_by_us text[];
	command text;
BEGIN
	DELETE FROM @extschema@.tfstate_privilege p
	 WHERE (p.role, p.pattern, p.privilege) = (roleid, @extschema@.tfstate_table_name(rel) || '/*', 'lock');
	DELETE FROM @extschema@.tfstate_attached_role a
	 WHERE a.relid = rel AND a.role = roleid RETURNING a.settings INTO set_by_us;
	IF rolename IS NULL THEN
		RETURN;
	END IF;
	FOR command IN
		SELECT format('REVOKE %s FROM %I', g.privileges, rolename)
		  FROM @extschema@.tfstate_needed_grants(rel) g
		 WHERE g.owner <> roleid AND NOT EXISTS (
			SELECT FROM @extschema@.tfstate_attached_role a JOIN @extschema@.tfstate_needed_grants(a.relid) o ON o = g
			 WHERE a.role = roleid)
		UNION ALL
		SELECT format('ALTER ROLE %I IN DATABASE %I RESET %s', rolename, current_database(), split_part(c, '=', 1))
		  FROM @extschema@.tfstate_role_config(roleid) c
		 WHERE c = ANY (set_by_us) AND NOT EXISTS (SELECT FROM @extschema@.tfstate_attached_role a WHERE a.role = roleid)
	LOOP
		EXECUTE command;
	END LOOP;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_detach_role(regclass, oid) IS
'part of tfstate_detach(): take back what tfstate_attach_role() gave';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_detach_role(regclass, oid) FROM PUBLIC;

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
	PERFORM @extschema@.tfstate_check_table_name(schema, "table");
	rel := to_regclass(format('%I.%I', schema, "table"));
	LOCK TABLE @extschema@.tfstate_attached_table IN SHARE ROW EXCLUSIVE MODE;
	DELETE FROM @extschema@.tfstate_attached_table t WHERE t.relid = rel;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table "%" is not attached', format('%I.%I', schema, "table")
			USING ERRCODE = 'undefined_object';
	END IF;
	PERFORM @extschema@.tfstate_detach_role(a.relid, a.role::oid) FROM @extschema@.tfstate_attached_role a
	  WHERE a.relid = rel;
	EXECUTE format('DROP TRIGGER IF EXISTS tfstate_guard_row ON %s', rel);
	EXECUTE format('DROP TRIGGER IF EXISTS tfstate_guard_truncate ON %s', rel);
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_detach(text, text) IS
'undo tfstate_attach(); the table and its states stay, and so do their versions';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_detach(text, text) FROM PUBLIC;
