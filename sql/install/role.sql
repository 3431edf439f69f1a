--
-- The type of columns that name a role.
--

-- A role is known by its OID.  Unlike regrole this type reads the name of a role that does
-- not exist as "none", which is nobody, so that a dump of locks or grants can be restored
-- without it; and it writes the name as it is, and "none" where the role was dropped.
CREATE TYPE @extschema@.tfstate_role;
CREATE FUNCTION @extschema@.tfstate_role_in(cstring)
RETURNS @extschema@.tfstate_role
AS 'MODULE_PATHNAME', 'tfstate_role_in'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_role_in(cstring) IS 'I/O';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_role_in(cstring) TO PUBLIC;
CREATE FUNCTION @extschema@.tfstate_role_out(@extschema@.tfstate_role)
RETURNS cstring
AS 'MODULE_PATHNAME', 'tfstate_role_out'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_role_out(@extschema@.tfstate_role) IS 'I/O';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_role_out(@extschema@.tfstate_role) TO PUBLIC;
CREATE TYPE @extschema@.tfstate_role (
	INPUT = @extschema@.tfstate_role_in,
	OUTPUT = @extschema@.tfstate_role_out,
	LIKE = oid
);
COMMENT ON TYPE @extschema@.tfstate_role IS
'a role by its OID: "public" is everybody, and "none" nobody, as a role is that does not exist';
CREATE CAST (@extschema@.tfstate_role AS oid) WITHOUT FUNCTION AS IMPLICIT;
COMMENT ON CAST (@extschema@.tfstate_role AS oid) IS 'the OID of a role; 0 is everybody, 1 nobody';
CREATE CAST (oid AS @extschema@.tfstate_role) WITHOUT FUNCTION AS ASSIGNMENT;
COMMENT ON CAST (oid AS @extschema@.tfstate_role) IS 'the role of an OID';
