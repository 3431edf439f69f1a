--
-- What holds for all tables of states in the database.
--

CREATE TABLE tfstate_internal.attached_database (
	one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
	role tfstate_internal.role,
	role_name text COLLATE "C",
	search_path boolean NOT NULL DEFAULT false,
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
COMMENT ON COLUMN tfstate_internal.attached_database.role IS
'the role that is attached to every table';
COMMENT ON COLUMN tfstate_internal.attached_database.role_name IS
'the name of the role when that was done';
COMMENT ON COLUMN tfstate_internal.attached_database.search_path IS
'whether the database has the settings that Terraform needs, so that every role has them';
COMMENT ON COLUMN tfstate_internal.attached_database.new_tables IS
'whether tables of states that Terraform makes itself are attached';
REVOKE ALL ON tfstate_internal.attached_database FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.attached_database', '');

CREATE FUNCTION tfstate_internal.other_objects()
RETURNS SETOF text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
WITH states AS MATERIALIZED (
	SELECT t.relid::oid AS relid FROM tfstate_internal.attached_table t
	UNION ALL SELECT u::oid FROM tfstate_internal.unattached_tables() u
	UNION ALL SELECT to_regclass('public.global_states_id_seq')::oid),
schemas AS MATERIALIZED (
	SELECT n.oid FROM pg_namespace n
	 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_|toast_temp_)')
SELECT o.name
  FROM (SELECT 'pg_class'::regclass AS classid, c.oid AS objid, c.oid::regclass::text AS name
		  FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace
		 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
		   AND NOT EXISTS (SELECT FROM states st WHERE st.relid = c.oid)
		   AND NOT EXISTS (SELECT FROM pg_depend d JOIN states st ON st.relid = d.refobjid
							WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
							  AND d.refclassid = 'pg_class'::regclass)
		UNION ALL
		SELECT 'pg_proc'::regclass, p.oid, p.oid::regprocedure::text
		  FROM pg_proc p JOIN schemas s ON s.oid = p.pronamespace) o
 WHERE NOT EXISTS (SELECT FROM pg_depend d
					WHERE d.classid = o.classid AND d.objid = o.objid AND d.deptype = 'e')
 ORDER BY o.name COLLATE "C"
$$;
COMMENT ON FUNCTION tfstate_internal.other_objects() IS
'the relations and functions in this database that are neither tables of states nor part of an extension';
REVOKE EXECUTE ON FUNCTION tfstate_internal.other_objects() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.raise_other_objects()
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	others text := (SELECT string_agg(o, ', ') FROM (SELECT o FROM tfstate_internal.other_objects() o LIMIT 3) l);
BEGIN
	IF others IS NOT NULL THEN
		RAISE EXCEPTION 'cannot set search_path for everybody, because the database has more than states: %', others
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = 'With tfstate_pg in front, a CREATE without a schema fails, and a superuser''s object lands there.',
				  HINT = 'Leave out search_path => true. The members of attached roles get settings of their own.';
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.raise_other_objects() IS
'part of tfstate_attach_database(): error if the database has other things than states';
REVOKE EXECUTE ON FUNCTION tfstate_internal.raise_other_objects() FROM PUBLIC;

-- A role that was attached to the table before stays so when the database is detached.
CREATE FUNCTION tfstate_internal.attach_database_role(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
	owner record;
	access text;
BEGIN
	SELECT r.oid, r.rolname INTO owner
	  FROM tfstate_internal.attached_database d JOIN pg_roles r ON r.oid = d.role;
	IF NOT FOUND OR tfstate_internal.table_name(rel) LIKE '%*%' THEN
		RETURN;
	END IF;
	IF EXISTS (SELECT FROM tfstate_internal.role_rights(rel, NULL::text, owner.oid) r
				WHERE NOT r.held AND r.kind IN ('sequence', 'shim', 'database')) THEN
		PERFORM tfstate_internal.lock_rights();
	END IF;
	INSERT INTO tfstate_internal.attached_role (relid, role, role_name, by_database)
	SELECT rel, owner.oid, owner.rolname, true
	 WHERE NOT EXISTS (SELECT FROM tfstate_internal.attached_role a WHERE a.relid = rel AND a.role = owner.oid);
	access := (SELECT a.access FROM tfstate_internal.attached_role a WHERE a.relid = rel AND a.role = owner.oid);
	PERFORM tfstate_internal.give_rights(rel, owner.rolname, owner.oid, access);
END;
$$;
COMMENT ON FUNCTION tfstate_internal.attach_database_role(regclass) IS
'part of attaching a table: give it to the role of tfstate_attach_database(), if there is one';
REVOKE EXECUTE ON FUNCTION tfstate_internal.attach_database_role(regclass) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.detach_database_role()
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tfstate_internal.detach_role(a.relid, a.role::oid, a.role_name)
	   FROM tfstate_internal.attached_role a WHERE a.by_database;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.detach_database_role() IS
'take from the role of tfstate_attach_database() what it was given for all tables';
REVOKE EXECUTE ON FUNCTION tfstate_internal.detach_database_role() FROM PUBLIC;

-- What the database has no more, the roles get themselves.
CREATE FUNCTION tfstate_internal.give_and_take_settings(everybody boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF everybody THEN
		PERFORM tfstate_internal.give_settings('public', 0);
	ELSE
		PERFORM tfstate_internal.take_back(g)
		   FROM tfstate_internal.given g WHERE g.kind = 'setting' AND g.role::oid = 0;
	END IF;
	PERFORM tfstate_internal.give_settings(r.name, r.roleid) FROM tfstate_internal.setting_roles() r;
	PERFORM tfstate_internal.take_settings();
END;
$$;
COMMENT ON FUNCTION tfstate_internal.give_and_take_settings(boolean) IS
'make the settings of the database or take them back, and then those that its roles need beside them';
REVOKE EXECUTE ON FUNCTION tfstate_internal.give_and_take_settings(boolean) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_attach_database(
	role name DEFAULT NULL,
	search_path boolean DEFAULT NULL,
	mode text DEFAULT NULL,
	wait interval DEFAULT NULL,
	guard text DEFAULT NULL,
	keep_versions integer DEFAULT NULL,
	keep_age interval DEFAULT NULL,
	default_workspace boolean DEFAULT NULL,
	new_tables boolean DEFAULT NULL,
	login boolean DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
#variable_conflict use_variable
DECLARE
	roleid oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = role);
	asked tfstate_internal.attached_database;
BEGIN
	PERFORM tfstate_internal.require_attach_arguments(role, mode, wait, guard, keep_versions, keep_age, NULL);
	LOCK TABLE tfstate_internal.attached_table IN SHARE ROW EXCLUSIVE MODE;
	IF search_path THEN
		PERFORM tfstate_internal.raise_other_objects();
	END IF;
	INSERT INTO tfstate_internal.attached_database AS d
	VALUES (true, roleid, role, coalesce(search_path, false), mode, wait, guard, keep_versions, keep_age,
			default_workspace, coalesce(new_tables, false))
	ON CONFLICT (one_row) DO UPDATE
	   SET role = coalesce(roleid, d.role::oid),
		   role_name = coalesce(excluded.role_name, d.role_name),
		   search_path = coalesce(tfstate_attach_database.search_path, d.search_path),
		   mode = coalesce(excluded.mode, d.mode),
		   wait = coalesce(excluded.wait, d.wait),
		   guard = coalesce(excluded.guard, d.guard),
		   keep_versions = coalesce(excluded.keep_versions, d.keep_versions),
		   keep_age = coalesce(excluded.keep_age, d.keep_age),
		   default_workspace = coalesce(excluded.default_workspace, d.default_workspace),
		   new_tables = coalesce(tfstate_attach_database.new_tables, d.new_tables)
	RETURNING * INTO asked;
	IF EXISTS (SELECT FROM tfstate_internal.attached_role a WHERE a.by_database AND a.role::oid <> asked.role::oid) THEN
		PERFORM tfstate_internal.detach_database_role();
	END IF;
	PERFORM tfstate_internal.attach_database_role(t.relid)
	   FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid;
	PERFORM tfstate_internal.give_and_take_settings(asked.search_path);
	IF new_tables THEN
		PERFORM tfstate_internal.create_event_triggers();
	ELSIF NOT new_tables THEN
		PERFORM tfstate_internal.drop_event_triggers();
	END IF;
	IF login THEN
		PERFORM tfstate_internal.create_login_trigger();
	ELSIF NOT login THEN
		PERFORM tfstate_internal.drop_login_trigger();
	END IF;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_attach_database(
	name, boolean, text, interval, text, integer, interval, boolean, boolean, boolean) IS
'make a role, or everybody, ready for all tables of states in the database, and say what holds for new tables
The role is made ready for the tables that come later, too. "search_path", initially false, makes settings for
everybody in the database; "new_tables", initially false, has tables attached that clients make themselves; "login",
initially false and from PostgreSQL 17 on, gives members of attached roles their settings when they log in. The
others are what new tables begin with. NULL leaves a value as it is.
Privilege: administrator; superuser for "new_tables" and "login".
Errors: 42501; 42704 no such role; 0A000 "login" before PostgreSQL 17; 55000 the database has more than states, or
others can create objects in the schema of tfstate; 22023.';
REVOKE EXECUTE ON FUNCTION
@extschema@.tfstate_attach_database(name, boolean, text, interval, text, integer, interval, boolean, boolean, boolean)
FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_detach_database()
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
BEGIN
	LOCK TABLE tfstate_internal.attached_table IN SHARE ROW EXCLUSIVE MODE;
	PERFORM tfstate_internal.drop_event_triggers();
	PERFORM tfstate_internal.drop_login_trigger();
	DELETE FROM tfstate_internal.attached_database;
	PERFORM tfstate_internal.detach_database_role();
	PERFORM tfstate_internal.give_and_take_settings(false);
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_detach_database() IS
'undo tfstate_attach_database(); attached tables stay attached
Privilege: superuser.';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_detach_database() FROM PUBLIC;
