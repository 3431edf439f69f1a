--
-- Attaching the tables of states that Terraform or OpenTofu makes itself.
--
-- Where the administrator asks for that, event triggers exist; elsewhere nothing does, and
-- nothing costs anything.  They are no members of the extension, so that pg_dump writes
-- them, after all data; a restore creates its tables before that, and without IF NOT EXISTS.
--
-- Whoever creates a table runs these functions in its own session.  What belongs to tfstate
-- takes the rights of the extension's owner, and so two of the functions are SECURITY DEFINER.
-- The table is new then, and nobody else can see it; it has the columns and the default
-- that Terraform gives it, and nothing of its owner's that could run with those rights.
--

CREATE FUNCTION tfstate_internal.await_creation()
RETURNS void
AS 'MODULE_PATHNAME', 'tfstate_await_creation'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.await_creation() IS
'wait for other transactions that create in the same schema what Terraform creates';
REVOKE EXECUTE ON FUNCTION tfstate_internal.await_creation() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.is_terraforms(command pg_ddl_command)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_is_terraforms'
LANGUAGE C STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.is_terraforms(pg_ddl_command) IS
'whether a command creates a table as Terraform does, apart from its columns';
REVOKE EXECUTE ON FUNCTION tfstate_internal.is_terraforms(pg_ddl_command) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.insert_as_owner(rel regclass, state text)
RETURNS void
AS 'MODULE_PATHNAME', 'tfstate_insert_as_owner'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.insert_as_owner(regclass, text) IS
'insert a workspace "default" with the rights of the owner of the table';
REVOKE EXECUTE ON FUNCTION tfstate_internal.insert_as_owner(regclass, text) FROM PUBLIC;

-- Two transactions that change the rights on the shared sequence at once would end in an error.
-- The table that is locked against that is one to which these transactions do not write.
CREATE FUNCTION tfstate_internal.lock_rights()
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	LOCK TABLE tfstate_internal.attached_database IN SHARE ROW EXCLUSIVE MODE;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.lock_rights() IS
'part of attaching a new table: let one transaction at a time change rights on what all tables share';
REVOKE EXECUTE ON FUNCTION tfstate_internal.lock_rights() FROM PUBLIC;

-- The locks of a table that was dropped are not those of a new one of its name.
CREATE FUNCTION tfstate_internal.forget_table(name text)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	gone regclass[] := ARRAY(SELECT t.relid FROM tfstate_internal.attached_table t
							  WHERE t.name = forget_table.name
								AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relid));
BEGIN
	IF gone = '{}' THEN
		RETURN;
	END IF;
	PERFORM tfstate_internal.lock_rights();
	PERFORM tfstate_internal.detach_role(a.relid, a.role::oid, a.role_name)
	   FROM tfstate_internal.attached_role a WHERE a.relid = ANY (gone);
	DELETE FROM tfstate_internal.attached_table t WHERE t.relid = ANY (gone);
END;
$$;
COMMENT ON FUNCTION tfstate_internal.forget_table(text) IS
'part of attaching a new table: take back what roles were given for one of its name that was dropped';
REVOKE EXECUTE ON FUNCTION tfstate_internal.forget_table(text) FROM PUBLIC;

-- Versions outlive a table that is dropped.  Whoever makes another one of its name could read
-- them, given the privilege view, and must not by that alone.  ("0" comes after "/" in C.)
CREATE FUNCTION tfstate_internal.has_versions_of_others(rel regclass, role name)
RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM tfstate_internal.table_name(rel) t(name), tfstate_internal.stored_version v
				WHERE v.lockid >= t.name || '/' AND v.lockid < t.name || '0'
				  AND v.role IS DISTINCT FROM has_versions_of_others.role
				  AND NOT (v.operation = 'found' AND v.serial = 0))
$$;
COMMENT ON FUNCTION tfstate_internal.has_versions_of_others(regclass, name) IS
'part of attaching a new table: whether there are versions of its workspaces that other roles have written';
REVOKE EXECUTE ON FUNCTION tfstate_internal.has_versions_of_others(regclass, name) FROM PUBLIC;

-- The settings of a role are not made here: two that attach would change them at once, and
-- this session would not have them.
CREATE FUNCTION tfstate_internal.adopt_owner(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	owner record;
BEGIN
	SELECT r.oid, r.rolname, n.nspname INTO owner
	  FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE c.oid = rel AND NOT r.rolsuper;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	IF tfstate_internal.table_name(rel) LIKE '%*%' THEN
		RAISE EXCEPTION 'cannot grant the locks of table "%" alone, because a star in a pattern stands for any text',
			rel
			USING ERRCODE = 'feature_not_supported';
	END IF;
	IF tfstate_internal.has_versions_of_others(rel, owner.rolname) THEN
		RAISE EXCEPTION 'there are versions of its workspaces that other roles have written'
			USING ERRCODE = 'object_not_in_prerequisite_state';
	END IF;
	IF EXISTS (SELECT FROM tfstate_internal.role_rights(rel, owner.nspname, owner.oid) r WHERE NOT r.held) THEN
		PERFORM tfstate_internal.lock_rights();
	END IF;
	INSERT INTO tfstate_internal.attached_role (relid, role, role_name) VALUES (rel, owner.oid, owner.rolname);
	PERFORM tfstate_internal.give_rights(rel, owner.rolname, owner.oid, 'write');
END;
$$;
COMMENT ON FUNCTION tfstate_internal.adopt_owner(regclass) IS
'part of attaching a new table: give its owner the rights that tfstate_attach() gives to a role';
REVOKE EXECUTE ON FUNCTION tfstate_internal.adopt_owner(regclass) FROM PUBLIC;

-- The table is empty, so no rows or ids of its own can be an obstacle.
CREATE FUNCTION tfstate_internal.attach_new_table(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	asked tfstate_internal.attached_database;
BEGIN
	SELECT * INTO asked FROM tfstate_internal.attached_database d WHERE d.new_tables;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	PERFORM tfstate_internal.raise_obstacle(rel);
	PERFORM tfstate_internal.forget_table(tfstate_internal.table_name(rel));
	PERFORM tfstate_internal.record_table(rel, asked.mode, asked.wait, asked.guard, asked.keep_versions,
										  asked.keep_age, asked.default_workspace);
	PERFORM tfstate_internal.revoke_rights('pg_class'::regclass::oid, rel::oid);
	PERFORM tfstate_internal.adopt_columns(rel);
	PERFORM tfstate_internal.adopt_owner(rel);
	PERFORM tfstate_internal.attach_database_role(rel);
	IF (SELECT t.default_workspace FROM tfstate_internal.attached_table t WHERE t.relid = rel) THEN
		PERFORM tfstate_internal.insert_as_owner(rel, tfstate_internal.empty_state(gen_random_uuid()::text));
	END IF;
	PERFORM tfstate_internal.guard_table(rel);
END;
$$;
COMMENT ON FUNCTION tfstate_internal.attach_new_table(regclass) IS
'attach a table that its owner is creating, with what the administrator has set for the database';
REVOKE EXECUTE ON FUNCTION tfstate_internal.attach_new_table(regclass) FROM PUBLIC;

-- An obstacle must not stop the command of a role that need not know of tfstate; that the
-- library is missing is one, too.  Neither a cancel nor a lack of memory is hidden.
CREATE FUNCTION tfstate_internal.before_creation()
RETURNS event_trigger
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tfstate_internal.await_creation();
EXCEPTION
	WHEN out_of_memory THEN
		RAISE;
	WHEN OTHERS THEN
		RAISE WARNING 'could not wait for other sessions that create the same: %', sqlerrm;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.before_creation() IS
'event trigger: what Terraform creates in a schema is created by one at a time';
REVOKE EXECUTE ON FUNCTION tfstate_internal.before_creation() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.after_creation()
RETURNS event_trigger
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
DECLARE
	rel regclass;
BEGIN
	FOR rel IN SELECT c.objid::regclass FROM pg_event_trigger_ddl_commands() c
				WHERE c.command_tag = 'CREATE TABLE' AND NOT c.in_extension
				  AND tfstate_internal.is_terraforms(c.command)
				  AND tfstate_internal.takes_shared_ids(c.objid)
	LOOP
		PERFORM tfstate_internal.attach_new_table(rel);
	END LOOP;
EXCEPTION
	WHEN out_of_memory THEN
		RAISE;
	WHEN OTHERS THEN
		IF rel IS NULL THEN
			RAISE WARNING 'could not find out whether a table of states was created: %', sqlerrm;
		ELSE
			RAISE WARNING 'table "%" of states was not attached: %', rel, sqlerrm;
		END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.after_creation() IS
'event trigger: a table of states that Terraform has made is attached';
REVOKE EXECUTE ON FUNCTION tfstate_internal.after_creation() FROM PUBLIC;

-- The owner of a table must not take the guard from it, as long as it is attached.  What
-- counts is the role that gives the command: the session's, or that of SET ROLE.
CREATE FUNCTION tfstate_internal.keep_guard()
RETURNS event_trigger
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lost record;
BEGIN
	IF pg_has_role(coalesce(nullif(current_setting('role'), 'none')::name, session_user), current_user, 'USAGE') THEN
		RETURN;
	END IF;
	IF tg_event = 'sql_drop' THEN
		SELECT c.oid, d.address_names[3]::name AS name INTO lost
		  FROM pg_event_trigger_dropped_objects() d
			   JOIN pg_namespace n ON n.nspname = d.address_names[1]
			   JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = d.address_names[2]
			   JOIN tfstate_internal.attached_table a ON a.relid = c.oid
		 WHERE d.object_type = 'trigger' AND d.address_names[3] IN ('tfstate_guard_row', 'tfstate_guard_truncate')
		 ORDER BY d.address_names[3] LIMIT 1;
	ELSE
		-- not all triggers as tfstate_attach() makes them, or a rule beside them
		SELECT t.tgrelid AS oid, t.tgname AS name INTO lost
		  FROM pg_event_trigger_ddl_commands() d
			   LEFT JOIN pg_trigger g ON d.classid = 'pg_trigger'::regclass AND g.oid = d.objid
			   LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
			   JOIN pg_trigger t ON t.tgrelid = CASE d.classid WHEN 'pg_class'::regclass THEN d.objid
																ELSE coalesce(g.tgrelid, r.ev_class) END
			   JOIN tfstate_internal.attached_table a ON a.relid = t.tgrelid,
			   LATERAL (SELECT t.tgfoid = 'tfstate_internal.guard()'::regprocedure) f(is_guard)
		 WHERE f.is_guard AND r.oid IS NOT NULL
			OR (f.is_guard OR t.tgname IN ('tfstate_guard_row', 'tfstate_guard_truncate'))
			   AND NOT tfstate_internal.has_trigger(t.tgrelid, t.tgname::text, CASE t.tgname
					WHEN 'tfstate_guard_row' THEN 29 WHEN 'tfstate_guard_truncate' THEN 34 ELSE 0 END)
		 ORDER BY t.tgname LIMIT 1;
	END IF;
	IF FOUND THEN
		RAISE EXCEPTION 'permission denied: trigger "%" of table "%" guards the states in it', lost.name, lost.oid::regclass
			USING ERRCODE = 'insufficient_privilege',
				  DETAIL = 'The owner of an attached table can drop the table, but not take the guard from it.',
				  HINT = 'An administrator can detach the table with tfstate_detach().';
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.keep_guard() IS
'event trigger: the owner of an attached table cannot drop, disable, replace or get around the triggers of tfstate';
REVOKE EXECUTE ON FUNCTION tfstate_internal.keep_guard() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.event_triggers(OUT name text, OUT event text, OUT function text, OUT tags text)
RETURNS SETOF record
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
VALUES ('tfstate_before_creation', 'ddl_command_start', 'before_creation',
		'''CREATE INDEX'', ''CREATE SCHEMA'', ''CREATE SEQUENCE'', ''CREATE TABLE'''),
	   ('tfstate_after_creation', 'ddl_command_end', 'after_creation', '''CREATE TABLE'''),
	   ('tfstate_keep_guard', 'ddl_command_end', 'keep_guard',
		'''ALTER TABLE'', ''ALTER TRIGGER'', ''CREATE RULE'', ''CREATE TRIGGER'''),
	   ('tfstate_keep_triggers', 'sql_drop', 'keep_guard',
		'''DROP EXTENSION'', ''DROP OWNED'', ''DROP SCHEMA'', ''DROP TRIGGER''')
$$;
COMMENT ON FUNCTION tfstate_internal.event_triggers() IS
'the event triggers through which new tables of states are attached';
REVOKE EXECUTE ON FUNCTION tfstate_internal.event_triggers() FROM PUBLIC;

-- A role that can create tables of states can create functions in public, too, which calls of
-- the functions of tfstate could then mean.
CREATE FUNCTION tfstate_internal.schema_is_open()
RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT n.nspname = 'public' OR NOT o.rolsuper
	   OR EXISTS (SELECT FROM aclexplode(n.nspacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
				   WHERE a.privilege_type = 'CREATE' AND r.rolsuper IS NOT TRUE)
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace JOIN pg_roles o ON o.oid = n.nspowner
 WHERE e.extname = 'tfstate'
$$;
COMMENT ON FUNCTION tfstate_internal.schema_is_open() IS
'whether roles that are no superusers can create objects in the schema of tfstate';
REVOKE EXECUTE ON FUNCTION tfstate_internal.schema_is_open() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.drop_event_triggers()
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT t.name FROM tfstate_internal.event_triggers() t JOIN pg_event_trigger e ON e.evtname = t.name LOOP
		EXECUTE format('DROP EVENT TRIGGER %I', name);
	END LOOP;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.drop_event_triggers() IS
'let new tables of states be as Terraform makes them';
REVOKE EXECUTE ON FUNCTION tfstate_internal.drop_event_triggers() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.create_event_triggers()
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted record;
BEGIN
	IF NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) THEN
		RAISE EXCEPTION 'permission denied to attach new tables of states'
			USING ERRCODE = 'insufficient_privilege',
				  HINT = 'Only superusers can create event triggers.';
	END IF;
	IF tfstate_internal.schema_is_open() THEN
		RAISE EXCEPTION 'cannot attach new tables of states while others can create objects in the schema of tfstate'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = 'Roles that create such tables need CREATE on schema public.',
				  HINT = 'Give tfstate a schema of its own, in which only superusers have CREATE.';
	END IF;
	PERFORM tfstate_internal.create_sequence();
	PERFORM tfstate_internal.drop_event_triggers();
	FOR wanted IN SELECT * FROM tfstate_internal.event_triggers() LOOP
		EXECUTE format('CREATE EVENT TRIGGER %I ON %s WHEN TAG IN (%s) EXECUTE FUNCTION tfstate_internal.%I()',
					   wanted.name, wanted.event, wanted.tags, wanted.function);
		EXECUTE format('COMMENT ON EVENT TRIGGER %I IS %L', wanted.name, 'attaches new tables of states to tfstate');
	END LOOP;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.create_event_triggers() IS
'let new tables of states be attached, with what the table attached_database says';
REVOKE EXECUTE ON FUNCTION tfstate_internal.create_event_triggers() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.missing_event_triggers()
RETURNS SETOF text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT t.name FROM tfstate_internal.event_triggers() t
 WHERE NOT EXISTS (
	SELECT FROM pg_event_trigger e
	 WHERE e.evtname = t.name AND e.evtevent = t.event AND e.evtenabled IN ('O', 'A')
	   AND e.evtfoid = to_regprocedure(format('tfstate_internal.%I()', t.function))
	   AND t.tags = (SELECT string_agg(quote_literal(g), ', ' ORDER BY g COLLATE "C") FROM unnest(e.evttags) g))
$$;
COMMENT ON FUNCTION tfstate_internal.missing_event_triggers() IS
'the event triggers that are missing, disabled or altered';
REVOKE EXECUTE ON FUNCTION tfstate_internal.missing_event_triggers() FROM PUBLIC;

-- Their ids come from the shared sequence, or they have just the columns and keys of a table
-- of states.  (That a table has triggers of tfstate and is not attached is reported elsewhere.)
CREATE FUNCTION tfstate_internal.unattached_tables()
RETURNS SETOF regclass
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT c.oid::regclass
  FROM pg_class c
 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND c.relnatts >= 3
   AND 3 = (SELECT count(*) FROM pg_attribute a
			 WHERE a.attrelid = c.oid
			   AND (a.attname, a.atttypid) IN (('id', 'bigint'::regtype), ('id', 'integer'::regtype),
											   ('name', 'text'::regtype), ('data', 'text'::regtype)))
   AND (tfstate_internal.takes_shared_ids(c.oid)
		OR c.relnatts = 3 AND tfstate_internal.unique_index(c.oid, 'id') IS NOT NULL
		   AND tfstate_internal.unique_index(c.oid, 'name') IS NOT NULL)
   AND NOT EXISTS (SELECT FROM tfstate_internal.attached_table t WHERE t.relid = c.oid)
   AND NOT EXISTS (SELECT FROM pg_trigger g
					WHERE g.tgrelid = c.oid AND g.tgfoid = 'tfstate_internal.guard()'::regprocedure)
   AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
$$;
COMMENT ON FUNCTION tfstate_internal.unattached_tables() IS
'the tables of states that are not attached';
REVOKE EXECUTE ON FUNCTION tfstate_internal.unattached_tables() FROM PUBLIC;
