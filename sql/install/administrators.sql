--
-- What functions for administrators are made of.  A function that users call, a C function,
-- calls the one of the same name in tfstate_internal with the rights of the owner of tfstate.
-- That one asks here what the caller may do, and runs with as_caller() whatever touches
-- objects that are not tfstate's: no statement of it reads or changes such a table directly.
-- See src/common/caller.c.
--

CREATE FUNCTION tfstate_internal.as_caller(command text)
RETURNS text
AS 'MODULE_PATHNAME', 'tfstate_as_caller'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.as_caller(text) IS
'run a command with the rights of the role that called a function for administrators';
REVOKE EXECUTE ON FUNCTION tfstate_internal.as_caller(text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.note(step text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_note'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.note(text) IS
'note what a function for administrators does; false if it is a dry run, which may have to leave that out';
REVOKE EXECUTE ON FUNCTION tfstate_internal.note(text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.dry_run()
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_dry_run'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tfstate_internal.dry_run() IS
'whether a function for administrators was asked what it would do, and will be rolled back';
REVOKE EXECUTE ON FUNCTION tfstate_internal.dry_run() FROM PUBLIC;

-- What waits for the sessions that use a table, or lets them wait, is left out of a dry run.
CREATE FUNCTION tfstate_internal.alter_as_caller(command text)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF tfstate_internal.dry_run() THEN
		PERFORM tfstate_internal.note(command);
	ELSE
		PERFORM tfstate_internal.as_caller(command);
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.alter_as_caller(text) IS
'run a command with the rights of the role that called a function for administrators, unless it is a dry run';
REVOKE EXECUTE ON FUNCTION tfstate_internal.alter_as_caller(text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.caller()
RETURNS name
AS 'MODULE_PATHNAME', 'tfstate_calling_role'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tfstate_internal.caller() IS
'the role that called a function for administrators';
REVOKE EXECUTE ON FUNCTION tfstate_internal.caller() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.caller_is_owner()
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_caller_is_owner'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tfstate_internal.caller_is_owner() IS
'whether that role is a superuser or has the rights of the owner of tfstate';
REVOKE EXECUTE ON FUNCTION tfstate_internal.caller_is_owner() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.caller_may(privilege text, pattern text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_caller_may'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tfstate_internal.caller_may(text, text) IS
'whether that role has a privilege for all lockids that a pattern matches';
REVOKE EXECUTE ON FUNCTION tfstate_internal.caller_may(text, text) FROM PUBLIC;

-- The owner of a table may grant what is below it, under the name that it is attached as.
CREATE FUNCTION tfstate_internal.caller_owns(pattern text)
RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid
				WHERE starts_with(pattern, t.name || '/') AND strpos(t.name, '*') = 0
				  AND t.name = tfstate_internal.table_name(t.relid)
				  AND pg_has_role(tfstate_internal.caller(), c.relowner, 'USAGE'))
$$;
COMMENT ON FUNCTION tfstate_internal.caller_owns(text) IS
'whether the role that called a function for administrators owns the attached table that a pattern is about';

CREATE FUNCTION tfstate_internal.quoted_name(schema text, "table" text)
RETURNS text
AS 'MODULE_PATHNAME', 'tfstate_quoted_name'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tfstate_internal.quoted_name(text, text) IS
'the name of a table, perhaps one that does not exist, in lockids';
REVOKE EXECUTE ON FUNCTION tfstate_internal.quoted_name(text, text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.require_administrator(schema text, "table" text)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pattern text := tfstate_internal.quoted_name(schema, "table") || '/*';
BEGIN
	IF NOT tfstate_internal.caller_may('admin', pattern) THEN
		RAISE EXCEPTION 'permission denied to attach or detach table "%"', format('%I.%I', schema, "table")
			USING ERRCODE = 'insufficient_privilege',
				  DETAIL = format('Role "%s" has no grant of privilege "admin" that covers "%s".',
								  tfstate_internal.caller(), pattern),
				  HINT = format('An administrator can give it with: SELECT %s(%L, %L, ''admin'')',
								tfstate_internal.qualified('tfstate_grant'), tfstate_internal.caller(), pattern);
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.require_administrator(text, text) IS
'error unless the role that called a function for administrators may attach and detach a table of this name';
REVOKE EXECUTE ON FUNCTION tfstate_internal.require_administrator(text, text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.require_owner(rel regclass)
RETURNS void
LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	owner oid := (SELECT c.relowner FROM pg_class c WHERE c.oid = rel);
BEGIN
	IF NOT tfstate_internal.caller_is_owner() AND NOT pg_has_role(tfstate_internal.caller(), owner, 'USAGE') THEN
		RAISE EXCEPTION 'must be owner of table %', rel
			USING ERRCODE = 'insufficient_privilege',
				  HINT = format('Role "%s" and superusers can attach and detach it.', pg_get_userbyid(owner));
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.require_owner(regclass) IS
'error unless the role that called a function for administrators owns a table';
REVOKE EXECUTE ON FUNCTION tfstate_internal.require_owner(regclass) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.covered_tables()
RETURNS SETOF regclass
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT t.relid
  FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid
 WHERE tfstate_internal.caller_is_owner()
	OR pg_has_role(tfstate_internal.caller(), c.relowner, 'USAGE')
	OR tfstate_internal.caller_may('admin', tfstate_internal.table_name(t.relid) || '/*')
$$;
COMMENT ON FUNCTION tfstate_internal.covered_tables() IS
'the attached tables that the role which called a function for administrators administers or owns';
REVOKE EXECUTE ON FUNCTION tfstate_internal.covered_tables() FROM PUBLIC;
