--
-- What tfstate_attach() does to a table.
--

CREATE FUNCTION tfstate_internal.create_sequence()
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('public.global_states_id_seq') IS NULL THEN
		PERFORM tfstate_internal.as_caller('CREATE SEQUENCE public.global_states_id_seq AS bigint');
		PERFORM tfstate_internal.revoke_rights('pg_class'::regclass::oid,
											   to_regclass('public.global_states_id_seq')::oid);
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.create_sequence() IS
'create the sequence that all tables of states share, if it is missing';
REVOKE EXECUTE ON FUNCTION tfstate_internal.create_sequence() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.lock_table(schema text, "table" text)
RETURNS regclass
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	qualified text := format('%I.%I', schema, "table");
BEGIN
	-- Create what Terraform would, with its own statements.
	IF to_regnamespace(quote_ident(schema)) IS NULL THEN
		PERFORM tfstate_internal.as_caller(format('CREATE SCHEMA %I', schema));
		PERFORM tfstate_internal.revoke_rights('pg_namespace'::regclass::oid,
											   to_regnamespace(quote_ident(schema))::oid);
	END IF;
	PERFORM tfstate_internal.create_sequence();
	IF to_regclass(qualified) IS NULL THEN
		PERFORM tfstate_internal.as_caller(format(
			'CREATE TABLE %s (id bigint NOT NULL DEFAULT nextval(''public.global_states_id_seq'') PRIMARY KEY, '
			'name text UNIQUE, data text)', qualified));
		PERFORM tfstate_internal.as_caller(format('CREATE UNIQUE INDEX %s ON %s (name)',
			CASE WHEN "table" = 'states' THEN 'states_by_name' ELSE '' END, qualified));
		PERFORM tfstate_internal.revoke_rights('pg_class'::regclass::oid, to_regclass(qualified)::oid);
	END IF;

	-- From here on neither the schema nor the table can be renamed, so that all that
	-- follows is about this table, and its rows stay as they are.  The owner of the
	-- schema has this privilege already: the command is for the lock on the schema's row.
	EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', schema,
				   (SELECT pg_get_userbyid(n.nspowner) FROM pg_namespace n WHERE n.nspname = schema));
	IF EXISTS (SELECT FROM pg_class c WHERE c.oid = to_regclass(qualified) AND c.relkind = 'r') THEN
		-- A dry run lets nobody wait, and leaves out what needs the lock.
		PERFORM tfstate_internal.as_caller(format('LOCK TABLE %s IN %s MODE', qualified,
			CASE WHEN tfstate_internal.dry_run() THEN 'ACCESS SHARE' ELSE 'SHARE ROW EXCLUSIVE' END));
	END IF;
	RETURN to_regclass(qualified);
END;
$$;
COMMENT ON FUNCTION tfstate_internal.lock_table(text, text) IS
'part of tfstate_attach(): create a table of states if it is missing, and lock it';
REVOKE EXECUTE ON FUNCTION tfstate_internal.lock_table(text, text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.adopt_columns(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id record;
BEGIN
	SELECT a.atttypid, a.attidentity INTO id FROM pg_attribute a WHERE a.attrelid = rel AND a.attname = 'id';
	IF id.attidentity <> '' THEN
		PERFORM tfstate_internal.alter_as_caller(format('ALTER TABLE %s ALTER id DROP IDENTITY', rel));
	END IF;
	IF id.atttypid <> 'bigint'::regtype THEN
		PERFORM tfstate_internal.alter_as_caller(format('ALTER TABLE %s ALTER id DROP DEFAULT, ALTER id TYPE bigint', rel));
	END IF;
	IF NOT tfstate_internal.takes_shared_ids(rel) THEN
		PERFORM tfstate_internal.alter_as_caller(format(
			'ALTER TABLE %s ALTER id SET DEFAULT nextval(''public.global_states_id_seq'')', rel));
	END IF;
	-- Each write of a state compresses it, and lz4 is several times as fast as the default.
	IF EXISTS (SELECT FROM pg_attribute a, pg_settings s
				WHERE a.attrelid = rel AND a.attname = 'data' AND a.attcompression = ''
				  AND s.name = 'default_toast_compression' AND 'lz4' = ANY (s.enumvals)) THEN
		PERFORM tfstate_internal.alter_as_caller(format('ALTER TABLE %s ALTER data SET COMPRESSION lz4', rel));
		UPDATE tfstate_internal.attached_table t SET compressed = true WHERE t.relid = rel;
	END IF;
	IF tfstate_internal.unique_index(rel, 'id') IS NULL THEN
		PERFORM tfstate_internal.alter_as_caller(format(
			CASE WHEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = rel AND i.indisprimary)
				 THEN 'CREATE UNIQUE INDEX ON %s (id)' ELSE 'ALTER TABLE %s ADD PRIMARY KEY (id)' END, rel));
	END IF;
	IF tfstate_internal.unique_index(rel, 'name') IS NULL THEN
		PERFORM tfstate_internal.alter_as_caller(format('CREATE UNIQUE INDEX %s ON %s (name)',
			CASE (SELECT c.relname FROM pg_class c WHERE c.oid = rel) WHEN 'states' THEN 'states_by_name' ELSE '' END,
			rel));
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.adopt_columns(regclass) IS
'part of tfstate_attach(): give a table the ids, indexes and compression that tfstate wants';
REVOKE EXECUTE ON FUNCTION tfstate_internal.adopt_columns(regclass) FROM PUBLIC;

-- A sequence that ALTER SEQUENCE has changed gives no value to others before the end of
-- the transaction, and then none that they had cached.
CREATE FUNCTION tfstate_internal.advance_sequence(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	newest bigint;
BEGIN
	newest := tfstate_internal.as_caller(format('SELECT max(id) FROM %s', rel));
	IF newest > coalesce(pg_sequence_last_value('public.global_states_id_seq'), 0) THEN
		PERFORM tfstate_internal.alter_as_caller('ALTER SEQUENCE public.global_states_id_seq NO CYCLE');
		PERFORM tfstate_internal.alter_as_caller(format('ALTER SEQUENCE public.global_states_id_seq RESTART WITH %s',
			greatest(newest, pg_sequence_last_value('public.global_states_id_seq'))));
		PERFORM tfstate_internal.alter_as_caller('SELECT nextval(''public.global_states_id_seq'')');
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.advance_sequence(regclass) IS
'part of tfstate_attach(): move the shared sequence past the ids that a table has';
REVOKE EXECUTE ON FUNCTION tfstate_internal.advance_sequence(regclass) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.empty_state(lineage text)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('{"version":4,"terraform_version":"1.0.0","serial":0,"lineage":"%s",'
			  '"outputs":{},"resources":[],"check_results":null}', lineage)
$$;
COMMENT ON FUNCTION tfstate_internal.empty_state(text) IS
'the state of a workspace "default" that was created for Terraform';
REVOKE EXECUTE ON FUNCTION tfstate_internal.empty_state(text) FROM PUBLIC;

-- If there is a row, the first apply locks the workspace and not the key under which
-- workspaces are created.  A row that is not wanted is deleted again, if nobody has
-- written it since.
CREATE FUNCTION tfstate_internal.create_default(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning	-- no notice that the workspace it locks does not exist
AS $$
DECLARE
	lockid text := tfstate_internal.table_name(rel) || '/default';
	guarded boolean := EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = rel AND g.tgname = 'tfstate_guard_row');
	wanted boolean := (SELECT t.default_workspace FROM tfstate_internal.attached_table t WHERE t.relid = rel);
	change boolean;
BEGIN
	change := tfstate_internal.as_caller(format(
		CASE WHEN wanted THEN 'SELECT NOT EXISTS (SELECT FROM %s WHERE name = ''default'')'
			 ELSE 'SELECT EXISTS (SELECT FROM %s WHERE name = ''default'' AND data LIKE %L)' END,
		rel, tfstate_internal.empty_state(repeat('_', 36))));
	IF NOT change OR tfstate_internal.dry_run() THEN
		IF change THEN
			PERFORM tfstate_internal.note(format(
				CASE WHEN wanted THEN 'create workspace "default" in table "%s", with an empty state'
					 ELSE 'delete workspace "default" of table "%s", which is empty' END, rel));
		END IF;
		RETURN;
	END IF;
	IF guarded THEN
		PERFORM tfstate_internal.as_caller(format(
			'SELECT %s(%L::text, ''{"Operation": "tfstate_attach()"}''::jsonb, ''session''::text, ''0''::interval, '
			'NULL::interval)', tfstate_internal.qualified('tfstate_lock'), lockid));
	END IF;
	IF wanted THEN
		PERFORM tfstate_internal.as_caller(format(
			'INSERT INTO %s (id, name, data) OVERRIDING SYSTEM VALUE '
			'VALUES (nextval(''public.global_states_id_seq''), ''default'', %L)',
			rel, tfstate_internal.empty_state(gen_random_uuid()::text)));
	ELSE
		PERFORM tfstate_internal.as_caller(format('DELETE FROM %s WHERE name = ''default''', rel));
	END IF;
	IF guarded THEN
		PERFORM tfstate_internal.as_caller(format('SELECT %s(%L::text, NULL::text)',
			tfstate_internal.qualified('tfstate_unlock'), lockid));
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.create_default(regclass) IS
'part of tfstate_attach(): create a missing workspace "default" with an empty state, or delete it again';
REVOKE EXECUTE ON FUNCTION tfstate_internal.create_default(regclass) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.record_table(
	rel regclass,
	mode text,
	wait interval,
	guard text,
	keep_versions integer,
	keep_age interval,
	default_workspace boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	before tfstate_internal.attached_table;
	after tfstate_internal.attached_table;
BEGIN
	SELECT * INTO before FROM tfstate_internal.attached_table t WHERE t.relid = rel;
	PERFORM tfstate_internal.follow_rename(rel);
	-- A new table begins with what tfstate_attach_database() was told.
	INSERT INTO tfstate_internal.attached_table (relid, attached_by, name, mode, wait, guard, keep_versions, keep_age,
												 default_workspace)
	SELECT rel, tfstate_internal.caller(), tfstate_internal.table_name(rel), d.mode, d.wait, coalesce(d.guard, 'require'),
		   nullif(d.keep_versions, -1), nullif(d.keep_age, '-1'), coalesce(d.default_workspace, true)
	  FROM (SELECT) one LEFT JOIN tfstate_internal.attached_database d ON true
	ON CONFLICT (relid) DO UPDATE SET name = excluded.name;
	UPDATE tfstate_internal.attached_table t
	   SET mode = coalesce(record_table.mode, t.mode),
		   wait = coalesce(record_table.wait, t.wait),
		   guard = coalesce(record_table.guard, t.guard),
		   keep_versions = nullif(coalesce(record_table.keep_versions, t.keep_versions), -1),
		   keep_age = nullif(coalesce(record_table.keep_age, t.keep_age), '-1'),
		   default_workspace = coalesce(record_table.default_workspace, t.default_workspace)
	 WHERE t.relid = rel
	RETURNING * INTO after;
	IF after IS DISTINCT FROM before THEN
		PERFORM tfstate_internal.note(format(
			'%s table "%s": mode %s, wait %s, guard %s, keep_versions %s, keep_age %s, default_workspace %s',
			CASE WHEN before.relid IS NULL THEN 'attach' ELSE 'change attached' END, rel, coalesce(after.mode, 'not set'),
			coalesce(after.wait::text, 'not set'), after.guard, coalesce(after.keep_versions, -1),
			coalesce(after.keep_age, '-1 days'), after.default_workspace));
	END IF;
END;
$$;
COMMENT ON FUNCTION
tfstate_internal.record_table(regclass, text, interval, text, integer, interval, boolean) IS
'part of tfstate_attach(): enter a table into the table attached_table, or change its row';
REVOKE EXECUTE ON FUNCTION
tfstate_internal.record_table(regclass, text, interval, text, integer, interval, boolean) FROM PUBLIC;

-- It has no WHEN and no columns, and is not deferrable.  The type has a bit for each event.
CREATE FUNCTION tfstate_internal.has_trigger(rel regclass, name text, type integer)
RETURNS boolean
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN EXISTS (SELECT FROM pg_trigger g
					WHERE g.tgrelid = rel AND g.tgname = has_trigger.name AND g.tgtype = type
					  AND g.tgfoid = 'tfstate_internal.guard()'::regprocedure AND g.tgenabled IN ('O', 'A')
					  AND g.tgqual IS NULL AND g.tgattr = '' AND NOT g.tgdeferrable);
END;
$$;
COMMENT ON FUNCTION tfstate_internal.has_trigger(regclass, text, integer) IS
'whether a table has a trigger as tfstate_attach() creates it';
REVOKE EXECUTE ON FUNCTION tfstate_internal.has_trigger(regclass, text, integer) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.is_guarded(rel regclass)
RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM tfstate_internal.attached_table t
				WHERE t.relid = rel AND t.name = tfstate_internal.table_name(rel))
	   AND tfstate_internal.has_trigger(rel, 'tfstate_guard_row', 29)
	   AND tfstate_internal.has_trigger(rel, 'tfstate_guard_truncate', 34)
	   AND tfstate_internal.takes_shared_ids(rel)
	   AND tfstate_internal.unique_index(rel, 'id') IS NOT NULL
	   AND tfstate_internal.unique_index(rel, 'name') IS NOT NULL
$$;
COMMENT ON FUNCTION tfstate_internal.is_guarded(regclass) IS
'whether a table is attached under its present name and still as tfstate_attach() has left it';
REVOKE EXECUTE ON FUNCTION tfstate_internal.is_guarded(regclass) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.guard_table(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	command text;
BEGIN
	-- The caller, who owns the table, cannot name the function.
	FOREACH command IN ARRAY ARRAY[
		format('CREATE OR REPLACE TRIGGER tfstate_guard_row AFTER INSERT OR UPDATE OR DELETE ON %s '
			   'FOR EACH ROW EXECUTE FUNCTION tfstate_internal.guard()', rel),
		format('CREATE OR REPLACE TRIGGER tfstate_guard_truncate BEFORE TRUNCATE ON %s '
			   'FOR EACH STATEMENT EXECUTE FUNCTION tfstate_internal.guard()', rel)]
	LOOP
		IF tfstate_internal.note(command) THEN
			EXECUTE command;
		END IF;
	END LOOP;
	IF tfstate_internal.note(format('record the states of table "%s" as versions', rel)) THEN
		PERFORM tfstate_internal.record_states(rel);
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.guard_table(regclass) IS
'part of tfstate_attach(): put the triggers on a table and record its states';
REVOKE EXECUTE ON FUNCTION tfstate_internal.guard_table(regclass) FROM PUBLIC;
