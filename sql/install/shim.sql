--
-- The shim: two functions that an unmodified Terraform or OpenTofu finds before the
-- built-in ones of the same name, because its search_path has tfstate_pg first.
--

CREATE SCHEMA tfstate_pg;
COMMENT ON SCHEMA tfstate_pg IS
'advisory lock functions for the pg backend of Terraform and OpenTofu; name it before pg_catalog in search_path';
REVOKE ALL ON SCHEMA tfstate_pg FROM PUBLIC;
GRANT USAGE ON SCHEMA tfstate_pg TO PUBLIC;

CREATE FUNCTION tfstate_pg.pg_try_advisory_lock(bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_pg_try_advisory_lock'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_pg.pg_try_advisory_lock(bigint) IS
'lock the workspace that has this id, or do as the built-in function does
Terraform calls it. For the id of a workspace it takes the lock of that.
Privilege: lock.
Errors: 55P03 held or frozen; 55000; 22023 no name of the run.';
GRANT EXECUTE ON FUNCTION tfstate_pg.pg_try_advisory_lock(bigint) TO PUBLIC;

CREATE FUNCTION tfstate_pg.pg_advisory_unlock(bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_pg_advisory_unlock'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_pg.pg_advisory_unlock(bigint) IS
'unlock the workspace that has this id, or do as the built-in function does
Terraform calls it.
Privilege: lock.
Errors: 55000 not held by this run.';
GRANT EXECUTE ON FUNCTION tfstate_pg.pg_advisory_unlock(bigint) TO PUBLIC;
