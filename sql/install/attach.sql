--
-- Attaching a table of Terraform states.  tfstate_attach() works on tables of other
-- roles, mostly as a superuser, so no code that the owner has put on a table may run
-- in it: see attach_obstacles().  Of the tables, SQL reads only the one that is being
-- attached, while the locks that lock_table() takes keep its name and definition.
--

CREATE FUNCTION tfstate_internal.require_table_arguments(schema text, "table" text)
RETURNS void
LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	meant record;
BEGIN
	IF schema IS NULL OR "table" IS NULL THEN
		RAISE EXCEPTION 'schema and table must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF schema = '' OR "table" = '' OR octet_length(schema) > 63 OR octet_length("table") > 63 THEN
		RAISE EXCEPTION 'schema and table must have 1 to 63 bytes'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	SELECT n.nspname, c.relname INTO meant
	  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE concat(n.nspname, '.', c.relname) = schema AND c.relkind IN ('r', 'p')
	   AND to_regnamespace(quote_ident(schema)) IS NULL;
	IF FOUND THEN
		RAISE EXCEPTION 'schema "%" does not exist, but schema "%" has a table "%"', schema, meant.nspname, meant.relname
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = format('They are two arguments: %L, %L.', meant.nspname, meant.relname);
	END IF;
	-- A table in the first schema of search_path would hide a catalog of its name.
	IF schema = 'tfstate_pg' THEN
		RAISE EXCEPTION 'schema "%" is not for tables of states', schema
			USING ERRCODE = 'reserved_name';
	END IF;
	-- What is checked behind a lock must be what was there when the lock was granted.
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'tables can be attached and detached in a READ COMMITTED transaction only'
			USING ERRCODE = 'invalid_transaction_state',
				  HINT = 'Begin it with: BEGIN ISOLATION LEVEL READ COMMITTED';
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.require_table_arguments(text, text) IS
'part of tfstate_attach() and tfstate_detach(): error unless the arguments that name the table are valid';
REVOKE EXECUTE ON FUNCTION tfstate_internal.require_table_arguments(text, text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.require_attach_arguments(
	role name,
	mode text,
	wait interval,
	guard text,
	keep_versions integer,
	keep_age interval,
	access text)
RETURNS void
LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wrong record;
BEGIN
	SELECT * INTO wrong
	  FROM (VALUES
		(role = 'public', 'cannot make everybody ready for Terraform', 'Name a role that Terraform connects as.'),
		(role IS NULL AND access IS NOT NULL, 'access is given to a role', 'Name it with role => .'),
		(access NOT IN ('write', 'plan'), format('unrecognized access: "%s"', access),
		 'Valid values are "write" and "plan".'),
		(mode NOT IN ('session', 'durable'), format('unrecognized mode: "%s"', mode),
		 'Valid modes are "session" and "durable".'),
		(wait < '0' OR wait > '24 days', 'wait is out of range', 'It can be 0 to 24 days.'),
		(guard NOT IN ('off', 'on', 'require'), format('unrecognized guard: "%s"', guard),
		 'Valid values are "off", "on" and "require".'),
		(keep_versions < 1 AND keep_versions <> -1, 'keep_versions must be 1 or more', '-1 keeps all versions.'),
		(keep_age < '0' AND keep_age <> '-1', 'keep_age must not be negative', '-1 keeps versions for ever.')
	  ) w(applies, message, hint)
	 WHERE applies LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION '%', wrong.message
			USING ERRCODE = 'invalid_parameter_value', HINT = wrong.hint;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_roles r WHERE role IS NULL OR r.rolname = role) THEN
		RAISE EXCEPTION 'role "%" does not exist', role
			USING ERRCODE = 'undefined_object',
				  HINT = format('Create it with: CREATE ROLE %I LOGIN PASSWORD ...', role);
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.require_attach_arguments(name, text, interval, text, integer, interval, text) IS
'part of tfstate_attach(): error unless the other arguments are valid';
REVOKE EXECUTE ON FUNCTION
tfstate_internal.require_attach_arguments(name, text, interval, text, integer, interval, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_attach(
	schema text DEFAULT 'terraform_remote_state',
	"table" text DEFAULT 'states',
	role name DEFAULT NULL,
	mode text DEFAULT NULL,
	wait interval DEFAULT NULL,
	guard text DEFAULT NULL,
	keep_versions integer DEFAULT NULL,
	keep_age interval DEFAULT NULL,
	default_workspace boolean DEFAULT NULL,
	access text DEFAULT NULL,
	dry_run boolean DEFAULT false)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'tfstate_for_administrators_or_dry'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION
@extschema@.tfstate_attach(text, text, name, text, interval, text, integer, interval, boolean, text, boolean) IS
'put a table of Terraform states under tfstate, create it if it is missing, and make a role ready to use it
Returns the lines of Terraform''s configuration and environment. "mode" and "wait" are those of Terraform''s locks
in this table, up to 24 days, where a session has no tfstate.mode or tfstate.wait; "guard" is what tfstate.guard is
at least for the table, initially "require"; "keep_versions" and "keep_age" say which versions are kept, -1 for all;
"default_workspace" says whether the workspace "default" is made, which initially it is; "access" is "write",
initially, or "plan", for a role that only reads and locks. NULL leaves a value as it is. With "dry_run", returns the
steps instead, and does nothing.
Privilege: admin.
Errors: 42809 not a table of states; 42939 in schema tfstate_pg; 55000 not safe; 42704 no such role; 22023; 25000
not READ COMMITTED.';
GRANT EXECUTE ON FUNCTION
@extschema@.tfstate_attach(text, text, name, text, interval, text, integer, interval, boolean, text, boolean) TO PUBLIC;

CREATE FUNCTION tfstate_internal.tfstate_attach(
	schema text,
	"table" text,
	role name,
	mode text,
	wait interval,
	guard text,
	keep_versions integer,
	keep_age interval,
	default_workspace boolean,
	access text)
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
#variable_conflict use_variable
DECLARE
	rel regclass;
	guarded boolean;	-- already, and nobody has altered the table since
BEGIN
	PERFORM tfstate_internal.require_table_arguments(schema, "table");
	PERFORM tfstate_internal.require_attach_arguments(role, mode, wait, guard, keep_versions, keep_age, access);
	PERFORM tfstate_internal.require_administrator(schema, "table");

	-- One at a time, because colliding ids are looked for in attached tables only.
	LOCK TABLE tfstate_internal.attached_table IN SHARE ROW EXCLUSIVE MODE;
	rel := tfstate_internal.lock_table(schema, "table");
	PERFORM tfstate_internal.require_owner(rel);
	-- What is recorded under another name goes with the table.
	IF NOT tfstate_internal.caller_may('admin', (SELECT t.name || '/*' FROM tfstate_internal.attached_table t
												  WHERE t.relid = rel)) THEN
		RAISE EXCEPTION 'permission denied to attach table "%" under another name', rel
			USING ERRCODE = 'insufficient_privilege',
				  DETAIL = format('Role "%s" has no grant of privilege "admin" that covers its old name.',
								  tfstate_internal.caller());
	END IF;
	PERFORM tfstate_internal.raise_obstacle(rel);
	guarded := tfstate_internal.is_guarded(rel);
	PERFORM tfstate_internal.record_table(rel, mode, wait, guard, keep_versions, keep_age, default_workspace);
	IF NOT guarded THEN
		PERFORM tfstate_internal.raise_row_obstacle(rel);
	END IF;
	PERFORM tfstate_internal.advance_sequence(rel);
	PERFORM tfstate_internal.create_default(rel);
	IF NOT guarded THEN
		PERFORM tfstate_internal.guard_table(rel);
		-- From here on readers wait, too.  The ids are compared with those of other tables
		-- again, because that is done only when the columns are as Terraform makes them.
		PERFORM tfstate_internal.adopt_columns(rel);
		PERFORM tfstate_internal.raise_row_obstacle(rel);
	END IF;
	IF role IS NOT NULL THEN
		PERFORM tfstate_internal.attach_role(rel, role, access);
	END IF;
	PERFORM tfstate_internal.attach_database_role(rel);
	-- One row a line: then psql's table can be pasted as it stands.
	RETURN QUERY SELECT string_to_table(concat_ws(E'\n', tfstate_internal.backend_block(rel),
												  tfstate_internal.environment(rel, role, 'shell'),
												  nullif(tfstate_internal.attach_notes(rel, role), '')), E'\n');
END;
$$;
COMMENT ON FUNCTION
tfstate_internal.tfstate_attach(text, text, name, text, interval, text, integer, interval, boolean, text) IS
'the body of tfstate_attach()';
REVOKE EXECUTE ON FUNCTION
tfstate_internal.tfstate_attach(text, text, name, text, interval, text, integer, interval, boolean, text) FROM PUBLIC;
