--
-- What holds for all tables of states in the database.
--

CREATE TABLE tfstate_internal.attached_database (
	one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
	mode text CHECK (mode IN ('session', 'durable')),
	wait interval CHECK (wait BETWEEN '0' AND '24 days'),
	guard text CHECK (guard IN ('off', 'on', 'require')),
	keep_versions integer,
	keep_age interval,
	default_workspace boolean,
	new_tables boolean NOT NULL DEFAULT false
) USING heap;
COMMENT ON TABLE tfstate_internal.attached_database IS
'one row: what tfstate_attach_database() was told, NULL for nothing; no row where it was not called';
COMMENT ON COLUMN tfstate_internal.attached_database.new_tables IS
'whether tables of states that Terraform makes itself are attached';
REVOKE ALL ON tfstate_internal.attached_database FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.attached_database', '');

CREATE FUNCTION @extschema@.tfstate_attach_database(
	mode text DEFAULT NULL,
	wait interval DEFAULT NULL,
	guard text DEFAULT NULL,
	keep_versions integer DEFAULT NULL,
	keep_age interval DEFAULT NULL,
	default_workspace boolean DEFAULT NULL,
	new_tables boolean DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
	PERFORM tfstate_internal.require_attach_arguments(NULL, mode, wait, guard, keep_versions, keep_age, NULL);
	INSERT INTO tfstate_internal.attached_database AS d
	VALUES (true, mode, wait, guard, keep_versions, keep_age, default_workspace, coalesce(new_tables, false))
	ON CONFLICT (one_row) DO UPDATE
	   SET mode = coalesce(excluded.mode, d.mode),
		   wait = coalesce(excluded.wait, d.wait),
		   guard = coalesce(excluded.guard, d.guard),
		   keep_versions = coalesce(excluded.keep_versions, d.keep_versions),
		   keep_age = coalesce(excluded.keep_age, d.keep_age),
		   default_workspace = coalesce(excluded.default_workspace, d.default_workspace),
		   new_tables = coalesce(tfstate_attach_database.new_tables, d.new_tables);
	IF new_tables THEN
		PERFORM tfstate_internal.create_event_triggers();
	ELSIF NOT new_tables THEN
		PERFORM tfstate_internal.drop_event_triggers();
	END IF;
END;
$$;
COMMENT ON FUNCTION
@extschema@.tfstate_attach_database(text, interval, text, integer, interval, boolean, boolean) IS
'set what holds for all tables of states in the database, and whether new ones are attached as they are made';
REVOKE EXECUTE ON FUNCTION
@extschema@.tfstate_attach_database(text, interval, text, integer, interval, boolean, boolean) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_detach_database()
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tfstate_internal.drop_event_triggers();
	DELETE FROM tfstate_internal.attached_database;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_detach_database() IS
'undo tfstate_attach_database(); attached tables stay attached';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_detach_database() FROM PUBLIC;
