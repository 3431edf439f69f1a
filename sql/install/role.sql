--
-- The type of columns that name a role.
--

-- A role is known by its OID.  Unlike regrole, this type reads the name of a role that does
-- not exist as "none", which is nobody, so that a dump of locks or grants can be restored
-- without that role.  It writes the name unquoted, and "none" if the role was dropped.
CREATE TYPE tfstate_internal.role;
CREATE FUNCTION tfstate_internal.role_in(cstring)
RETURNS tfstate_internal.role
AS 'MODULE_PATHNAME', 'tfstate_role_in'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tfstate_internal.role_in(cstring) IS 'I/O';
GRANT EXECUTE ON FUNCTION tfstate_internal.role_in(cstring) TO PUBLIC;
CREATE FUNCTION tfstate_internal.role_out(tfstate_internal.role)
RETURNS cstring
AS 'MODULE_PATHNAME', 'tfstate_role_out'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tfstate_internal.role_out(tfstate_internal.role) IS 'I/O';
GRANT EXECUTE ON FUNCTION tfstate_internal.role_out(tfstate_internal.role) TO PUBLIC;
CREATE TYPE tfstate_internal.role (
	INPUT = tfstate_internal.role_in,
	OUTPUT = tfstate_internal.role_out,
	LIKE = oid
);
COMMENT ON TYPE tfstate_internal.role IS
'a role by its OID: "public" is everybody; "none" is nobody, and so is a role that does not exist';
CREATE CAST (tfstate_internal.role AS oid) WITHOUT FUNCTION AS IMPLICIT;
COMMENT ON CAST (tfstate_internal.role AS oid) IS 'the OID of a role; 0 is everybody, 1 nobody';
CREATE CAST (oid AS tfstate_internal.role) WITHOUT FUNCTION AS ASSIGNMENT;
COMMENT ON CAST (oid AS tfstate_internal.role) IS 'the role of an OID';
