--
-- Privileges: which role may do what with which lockids.
--

-- The name is in the key because roles that a restore did not find are all nobody.
CREATE TABLE tfstate_internal.privilege (
	role tfstate_internal.role NOT NULL,
	pattern text COLLATE "C" NOT NULL,
	privilege text COLLATE "C" NOT NULL
		CHECK (privilege IN ('lock', 'view', 'force', 'override', 'admin')),
	grantor text NOT NULL,
	granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	role_name text COLLATE "C" NOT NULL,
	PRIMARY KEY (role, pattern, privilege, role_name)
) USING heap;
COMMENT ON TABLE tfstate_internal.privilege IS
'which role may lock, view, force, override or administer which lockids';
COMMENT ON COLUMN tfstate_internal.privilege.role_name IS
'the name of the role when it was granted the privilege';
REVOKE ALL ON tfstate_internal.privilege FROM PUBLIC;

-- No row of a role that was dropped is dumped: its bare OID could be another role's later.
SELECT pg_extension_config_dump('tfstate_internal.privilege',
	'WHERE role = 0 OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = role)');

-- The grants of a role that was dropped are shown under the name that it had, and can be
-- revoked under that name.
CREATE VIEW @extschema@.tfstate_grants AS
SELECT coalesce(nullif(p.role::text, 'none'), p.role_name) AS role,
	   p.pattern, p.privilege, p.grantor, date_trunc('second', p.granted_at) AS granted_at
  FROM tfstate_internal.privilege p;
COMMENT ON VIEW @extschema@.tfstate_grants IS
'what tfstate_grant() has given, one row each';
COMMENT ON COLUMN @extschema@.tfstate_grants.role IS 'the role; public is everybody';
COMMENT ON COLUMN @extschema@.tfstate_grants.pattern IS 'the lockids; * stands for any text';
COMMENT ON COLUMN @extschema@.tfstate_grants.privilege IS 'lock, view, force, override or admin';
COMMENT ON COLUMN @extschema@.tfstate_grants.grantor IS 'the role that granted it';
COMMENT ON COLUMN @extschema@.tfstate_grants.granted_at IS 'when it was granted';
REVOKE ALL ON @extschema@.tfstate_grants FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_grants TO PUBLIC;

CREATE FUNCTION tfstate_internal.require_grant_arguments(role name, pattern text, privilege text)
RETURNS void
LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF role IS NULL OR pattern IS NULL OR privilege IS NULL THEN
		RAISE EXCEPTION 'role, pattern and privilege must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF privilege NOT IN ('lock', 'view', 'force', 'override', 'admin') THEN
		RAISE EXCEPTION 'unrecognized privilege: "%"', privilege
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Valid privileges are "lock", "view", "force", "override" and "admin".';
	END IF;
	IF pattern = '' OR octet_length(pattern) > 1024 THEN
		RAISE EXCEPTION 'pattern must have 1 to 1024 bytes'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF NOT (tfstate_internal.caller_is_owner()
			OR privilege <> 'admin' AND (tfstate_internal.caller_may('admin', pattern)
										 OR tfstate_internal.caller_owns(pattern))) THEN
		RAISE EXCEPTION 'permission denied to grant or revoke privilege "%" for pattern "%"', privilege, pattern
			USING ERRCODE = 'insufficient_privilege',
				  DETAIL = CASE WHEN privilege = 'admin' THEN
								'Only a superuser and the owner of tfstate can give the privilege "admin".'
						   ELSE format('Role "%s" has no grant of privilege "admin" that covers the pattern, and owns no '
									   'attached table that it is about.', tfstate_internal.caller()) END;
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.require_grant_arguments(name, text, text) IS
'part of tfstate_grant() and tfstate_revoke(): error unless the arguments are valid';
REVOKE EXECUTE ON FUNCTION tfstate_internal.require_grant_arguments(name, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_grant(
	role name,
	pattern text DEFAULT '*',
	privilege text DEFAULT 'lock')
RETURNS void
AS 'MODULE_PATHNAME', 'tfstate_for_administrators'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_grant(name, text, text) IS
'let a role lock, view, force, override or administer the lockids that a pattern matches
"public" is everybody.
Privilege: admin.
Errors: 42704 no such role; 22023; 22004.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_grant(name, text, text) TO PUBLIC;

CREATE FUNCTION tfstate_internal.tfstate_grant(
	role name,
	pattern text,
	privilege text)
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	roleid oid := 0;
BEGIN
	PERFORM tfstate_internal.require_grant_arguments(tfstate_grant.role, tfstate_grant.pattern,
													 tfstate_grant.privilege);
	IF tfstate_grant.role <> 'public' THEN
		SELECT r.oid INTO roleid FROM pg_roles r WHERE r.rolname = tfstate_grant.role;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'role "%" does not exist', tfstate_grant.role
				USING ERRCODE = 'undefined_object';
		END IF;
	END IF;
	INSERT INTO tfstate_internal.privilege (role, pattern, privilege, grantor, role_name)
	SELECT roleid, tfstate_grant.pattern, tfstate_grant.privilege, tfstate_internal.caller(), tfstate_grant.role
	 WHERE NOT EXISTS (SELECT FROM tfstate_internal.privilege p
						WHERE (p.role, p.pattern, p.privilege) =
							  (roleid, tfstate_grant.pattern, tfstate_grant.privilege))
	ON CONFLICT DO NOTHING;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.tfstate_grant(name, text, text) IS
'the body of tfstate_grant()';
REVOKE EXECUTE ON FUNCTION tfstate_internal.tfstate_grant(name, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_revoke(
	role name,
	pattern text DEFAULT '*',
	privilege text DEFAULT 'lock')
RETURNS void
AS 'MODULE_PATHNAME', 'tfstate_for_administrators'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_revoke(name, text, text) IS
'take back what tfstate_grant() gave with the same arguments
Privilege: admin.
Errors: 42704 no such grant; 22023; 22004.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_revoke(name, text, text) TO PUBLIC;

CREATE FUNCTION tfstate_internal.tfstate_revoke(
	role name,
	pattern text,
	privilege text)
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM tfstate_internal.require_grant_arguments(tfstate_revoke.role, tfstate_revoke.pattern,
													 tfstate_revoke.privilege);
	-- As the view shows it: the role that has this name, and one that had it and is gone.
	DELETE FROM tfstate_internal.privilege p
	 WHERE coalesce(nullif(p.role::text, 'none'), p.role_name) = tfstate_revoke.role
	   AND p.pattern = tfstate_revoke.pattern
	   AND p.privilege = tfstate_revoke.privilege;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'role "%" has no grant of privilege "%" for pattern "%"',
			tfstate_revoke.role, tfstate_revoke.privilege, tfstate_revoke.pattern
			USING ERRCODE = 'undefined_object',
				  HINT = 'The view tfstate_grants lists what was granted.';
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.tfstate_revoke(name, text, text) IS
'the body of tfstate_revoke()';
REVOKE EXECUTE ON FUNCTION tfstate_internal.tfstate_revoke(name, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_has_privilege(lockid text, privilege text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_has_privilege'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_has_privilege(text, text) IS
'whether the current role may lock, view, force or override a lockid
Privilege: none.
Errors: 22023.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_has_privilege(text, text) TO PUBLIC;

-- A view has this in a subquery, which runs once and before any row is read, so that it tells
-- nothing of the rows.
CREATE FUNCTION tfstate_internal.tell_if_blind(privilege text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_tell_if_blind_sql'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tfstate_internal.tell_if_blind(text) IS
'part of the views: true; and a notice if the current role sees nothing, because it has no grant';
GRANT EXECUTE ON FUNCTION tfstate_internal.tell_if_blind(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_matches(lockid text, pattern text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_matches'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_matches(text, text) IS
'whether a lockid matches a pattern, in which * stands for any text
Privilege: none.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_matches(text, text) TO PUBLIC;

CREATE FUNCTION tfstate_internal.matches(lockid text, pattern text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_matches'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tfstate_internal.matches(text, text) IS
'tfstate_matches(), for bodies that are parsed when they run';
REVOKE EXECUTE ON FUNCTION tfstate_internal.matches(text, text) FROM PUBLIC;
