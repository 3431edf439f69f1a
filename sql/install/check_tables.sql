--
-- What is wrong with attached tables.
--

CREATE FUNCTION tfstate_internal.attach_command(rel regclass, role text)
RETURNS text
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('SELECT %s(%L, %L%s)', tfstate_internal.qualified('tfstate_attach'), n.nspname, c.relname,
			  ', role => ' || quote_literal(role))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = rel
$$;
COMMENT ON FUNCTION tfstate_internal.attach_command(regclass, text) IS
'part of tfstate_check(): the call that attaches a table, or makes a role ready for it';
REVOKE EXECUTE ON FUNCTION tfstate_internal.attach_command(regclass, text) FROM PUBLIC;

-- A constraint trigger cannot be replaced, so it is dropped first.
CREATE FUNCTION tfstate_internal.trigger_command(rel regclass, name text)
RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT concat((SELECT format('DROP TRIGGER %I ON %s; ', g.tgname, rel) FROM pg_trigger g
				WHERE g.tgrelid = rel AND g.tgname = trigger_command.name AND g.tgconstraint <> 0),
			  tfstate_internal.attach_command(rel, NULL::text))
$$;
COMMENT ON FUNCTION tfstate_internal.trigger_command(regclass, text) IS
'part of tfstate_check(): the commands that put a trigger of tfstate back on a table';
REVOKE EXECUTE ON FUNCTION tfstate_internal.trigger_command(regclass, text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.check_table(
	rel regclass,
	OUT severity text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'error', o.problem, o.remedy FROM tfstate_internal.attach_obstacles(rel) o
UNION ALL
SELECT v.severity, v.problem, coalesce(v.remedy, tfstate_internal.attach_command(rel, NULL))
  FROM tfstate_internal.attached_table t
	   JOIN pg_class c ON c.oid = t.relid JOIN pg_roles owner ON owner.oid = c.relowner,
	   LATERAL (SELECT NOT tfstate_internal.has_trigger(rel, 'tfstate_guard_row', 29),
					   NOT tfstate_internal.has_trigger(rel, 'tfstate_guard_truncate', 34)
				OFFSET 0) lost("row", truncate),
	   LATERAL (VALUES
		(t.name <> tfstate_internal.table_name(rel), 'error',
		 format('the table was attached as "%s" and renamed: it cannot be written until it is attached again, '
				'which takes its versions, history and grants along', t.name), NULL),
		(lost."row", 'error',
		 'the trigger tfstate_guard_row is missing, disabled or altered: writes are neither guarded nor recorded',
		 CASE WHEN lost."row" THEN tfstate_internal.trigger_command(rel, 'tfstate_guard_row') END),
		(lost.truncate, 'error',
		 'the trigger tfstate_guard_truncate is missing, disabled or altered: '
		 'TRUNCATE empties the table whoever holds locks',
		 CASE WHEN lost.truncate THEN tfstate_internal.trigger_command(rel, 'tfstate_guard_truncate') END),
		(NOT tfstate_internal.takes_shared_ids(rel), 'error',
		 'new ids do not come from public.global_states_id_seq, so they can collide with those of other tables', NULL),
		(tfstate_internal.unique_index(rel, 'id') IS NULL, 'error',
		 'there is no unique index on id: two workspaces can have the same id', NULL),
		(tfstate_internal.unique_index(rel, 'name') IS NULL, 'error',
		 'there is no unique index on name: Terraform cannot write', NULL),
		(owner.rolcanlogin AND NOT owner.rolsuper
		 AND EXISTS (SELECT FROM tfstate_internal.missing_event_triggers() m WHERE m LIKE 'tfstate_keep_%'), 'warning',
		 format('the table belongs to role "%s", which can drop the triggers and change any state', owner.rolname),
		 format('ALTER TABLE %s OWNER TO %I', rel, tfstate_internal.caller()))
	   ) v(applies, severity, problem, remedy)
 WHERE t.relid = rel AND v.applies
UNION ALL
SELECT 'warning', format('everybody may use the table: PUBLIC has %s', string_agg(DISTINCT e.privilege_type, ', ')),
	   format('REVOKE %s ON %s FROM PUBLIC', string_agg(DISTINCT e.privilege_type, ', '), rel)
  FROM pg_class c, aclexplode(c.relacl) e
 WHERE c.oid = rel AND e.grantee = 0
HAVING count(*) > 0
$$;
COMMENT ON FUNCTION tfstate_internal.check_table(regclass) IS
'part of tfstate_check(): report what is wrong with the definition of an attached table';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_table(regclass) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.check_rows(
	OUT severity text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
SELECT v.severity, t.relid::text, v.problem, tfstate_internal.attach_command(t.relid, NULL)
  FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid
	   LEFT JOIN (SELECT s."table", max(s.id),
						 bool_or(s.workspace = tfstate_internal.table_name(s."table") || '/default')
					FROM tfstate_internal.rows() s GROUP BY s."table") w(rel, newest, has_default) ON w.rel = t.relid,
	   LATERAL (VALUES
		(t.default_workspace AND w.has_default IS NOT TRUE, 'warning',
		 'there is no workspace "default": while the first run creates it, no other workspace can be created'),
		(w.newest > coalesce(pg_sequence_last_value(to_regclass('public.global_states_id_seq')), 0), 'error',
		 'public.global_states_id_seq will reach an id that the table already has')
	   ) v(applies, severity, problem)
 WHERE CASE WHEN v.applies THEN NOT EXISTS (SELECT FROM tfstate_internal.attach_obstacles(t.relid)) END
UNION ALL
SELECT 'error', s."table"::text,
	   'a row has no name: it is no workspace, and its state is neither guarded nor recorded', NULL
  FROM (SELECT DISTINCT r."table" FROM tfstate_internal.rows() r WHERE r.workspace IS NULL) s
UNION ALL
SELECT 'error', NULL, c, NULL FROM tfstate_internal.colliding_ids() c
$$;
COMMENT ON FUNCTION tfstate_internal.check_rows() IS
'part of tfstate_check(): report what is wrong with the rows of the attached tables';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_rows() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.check_new_tables(
	OUT severity text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'warning', u.rel::text,
	   'this is a table of Terraform states, but it is not attached: its states are neither guarded nor recorded',
	   tfstate_internal.attach_command(u.rel,
			CASE WHEN NOT o.rolsuper AND tfstate_internal.table_name(u.rel) NOT LIKE '%*%' THEN o.rolname END)
  FROM tfstate_internal.unattached_tables() u(rel) JOIN pg_class c ON c.oid = u.rel
	   JOIN pg_roles o ON o.oid = c.relowner
UNION ALL
SELECT v.severity, 'database', v.problem, v.remedy
  FROM tfstate_internal.attached_database d,
	   (SELECT string_agg(m, ', ') FROM tfstate_internal.missing_event_triggers() m) t(missing),
	   LATERAL (VALUES
		(t.missing IS NOT NULL, 'error',
		 format('new tables of states are not attached: event triggers are missing, disabled or altered: %s', t.missing),
		 format('SELECT %s(new_tables => true)', tfstate_internal.qualified('tfstate_attach_database'))),
		(tfstate_internal.schema_is_open(), 'error',
		 'roles that are no superusers can create functions in the schema of tfstate, which others might call', NULL)
	   ) v(applies, severity, problem, remedy)
 WHERE d.new_tables AND v.applies
$$;
COMMENT ON FUNCTION tfstate_internal.check_new_tables() IS
'part of tfstate_check(): report tables of states that are not attached, and why new ones would not be';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_new_tables() FROM PUBLIC;
