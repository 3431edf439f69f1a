/* sql/tfstate--0.2.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION tfstate" to load this file. \quit

-- What is not schema-qualified below is in pg_catalog; nothing is looked up in
-- a schema that another role may write to.  In the schema of the extension others
-- can perhaps create functions: calls of our own functions there pass every argument
-- with its exact type, or a literal for text, so that no other function fits as well.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- What users call is in the schema of the extension and starts with tfstate_; everything
-- else is in tfstate_internal.  PUBLIC needs no USAGE on it, because views, triggers and SQL
-- bodies that were parsed when they were created refer to objects by their OIDs.
--
-- ALTER SCHEMA ... RENAME can give the schema of the extension another name.  So no body that
-- is parsed only when it runs names that schema, and texts that show it ask qualified().
CREATE SCHEMA tfstate_internal;
COMMENT ON SCHEMA tfstate_internal IS
'tables, types and functions of tfstate that are not for users';
REVOKE ALL ON SCHEMA tfstate_internal FROM PUBLIC;

CREATE FUNCTION tfstate_internal.qualified(name text)
RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('%I.%I', n.nspname, qualified.name)
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname = 'tfstate'
$$;
COMMENT ON FUNCTION tfstate_internal.qualified(text) IS
'the name of an object that users call, with the schema that it is in now';
REVOKE EXECUTE ON FUNCTION tfstate_internal.qualified(text) FROM PUBLIC;
