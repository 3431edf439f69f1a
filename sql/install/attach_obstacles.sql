--
-- Why a table cannot be attached.
--
-- What tfstate_check() calls for each table is in plpgsql, which keeps its plans; a function in
-- SQL that is called by another one would be planned for each table anew.
--

CREATE FUNCTION tfstate_internal.table_name(rel regclass)
RETURNS text
AS 'MODULE_PATHNAME', 'tfstate_table_name'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tfstate_internal.table_name(regclass) IS
'the name of a table in lockids, which depends on no setting and no server version; NULL if there is no such table';
REVOKE EXECUTE ON FUNCTION tfstate_internal.table_name(regclass) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.unique_index(rel regclass, "column" text)
RETURNS regclass
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT i.indexrelid::regclass
	  FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
	 WHERE i.indrelid = rel AND a.attname = "column" AND i.indnkeyatts = 1
	   AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
	 ORDER BY EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid), i.indexrelid
	 LIMIT 1);
END;
$$;
COMMENT ON FUNCTION tfstate_internal.unique_index(regclass, text) IS
'an index that makes the values of a column unique, preferably not that of a constraint';
REVOKE EXECUTE ON FUNCTION tfstate_internal.unique_index(regclass, text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.takes_shared_ids(rel regclass)
RETURNS boolean
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN EXISTS (SELECT FROM pg_attribute a JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
					WHERE a.attrelid = rel AND a.attname = 'id'
					  AND pg_get_expr(d.adbin, d.adrelid) = 'nextval(''public.global_states_id_seq''::regclass)');
END;
$$;
COMMENT ON FUNCTION tfstate_internal.takes_shared_ids(regclass) IS
'whether the ids of a table come from the sequence that all tables of states share';
REVOKE EXECUTE ON FUNCTION tfstate_internal.takes_shared_ids(regclass) FROM PUBLIC;

-- What the owner of a table can put on it, to run in the session of whoever writes to it.
CREATE FUNCTION tfstate_internal.foreign_code(rel regclass)
RETURNS SETOF text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT pg_describe_object(o.classid, o.objid, 0)
  FROM (SELECT 'pg_trigger'::regclass AS classid, t.oid AS objid FROM pg_trigger t
		 WHERE t.tgrelid = rel AND NOT t.tgisinternal
		   AND t.tgfoid <> 'tfstate_internal.guard()'::regprocedure
		UNION ALL
		SELECT 'pg_rewrite'::regclass, r.oid FROM pg_rewrite r WHERE r.ev_class = rel
		UNION ALL
		SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c WHERE c.conrelid = rel AND c.contype = 'c'
		UNION ALL
		SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i
		 WHERE i.indrelid = rel AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
		UNION ALL
		SELECT 'pg_attrdef'::regclass, d.oid
		  FROM pg_attrdef d JOIN pg_attribute a ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum)
		 WHERE d.adrelid = rel AND a.attname <> 'id'
		UNION ALL
		SELECT 'pg_type'::regclass, t.oid FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
		 WHERE a.attrelid = rel AND t.typtype = 'd') o
$$;
COMMENT ON FUNCTION tfstate_internal.foreign_code(regclass) IS
'code of others that would run in the session of whoever writes to a table';
REVOKE EXECUTE ON FUNCTION tfstate_internal.foreign_code(regclass) FROM PUBLIC;

-- Code of a superuser or of the caller is no obstacle.
CREATE FUNCTION tfstate_internal.attach_obstacles(
	rel regclass,
	OUT sqlstate text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT o.sqlstate, o.problem, o.remedy
	  FROM pg_class c JOIN pg_roles owner ON owner.oid = c.relowner,
		   LATERAL (SELECT CASE WHEN NOT owner.rolsuper AND owner.rolname <> tfstate_internal.caller() THEN
								(SELECT string_agg(f, ', ' ORDER BY f) FROM tfstate_internal.foreign_code(rel) f)
						   END) foreign_code(names),
		   LATERAL (VALUES
			(c.relkind <> 'r', '42809', format('"%s" is not an ordinary table', rel), NULL),
			(c.relpersistence = 't', '42809', format('table "%s" is temporary', rel), NULL),
			(c.relpersistence = 'u', '55000', format('table "%s" is unlogged: a crash empties it', rel),
			 format('ALTER TABLE %s SET LOGGED', rel)),
			(EXISTS (SELECT FROM pg_inherits i WHERE rel IN (i.inhrelid, i.inhparent)), '42809',
			 format('table "%s" is a partition, or inherits from another or the other way round', rel), NULL),
			(EXISTS (SELECT FROM pg_depend d
					  WHERE (d.classid, d.objid, d.deptype) = ('pg_class'::regclass, rel, 'e')), '42809',
			 format('table "%s" belongs to an extension', rel), NULL),
			(c.relhasrules AND EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = rel AND r.ev_type IN ('2', '3', '4')),
			 '55000',
			 format('table "%s" has a rule, which keeps Terraform from writing', rel),
			 CASE WHEN c.relhasrules THEN
				(SELECT string_agg(format('DROP RULE %I ON %s', r.rulename, rel), '; ' ORDER BY r.rulename)
				   FROM pg_rewrite r WHERE r.ev_class = rel AND r.ev_type IN ('2', '3', '4'))
			 END),
			(c.relrowsecurity, '55000', format('table "%s" has row-level security, which hides states', rel),
			 format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', rel)),
			(3 <> (SELECT count(*) FROM pg_attribute a
					WHERE a.attrelid = rel AND NOT a.attisdropped AND a.attgenerated = ''
					  AND (a.attname, a.atttypid) IN (('id', 'bigint'::regtype), ('id', 'integer'::regtype),
													  ('name', 'text'::regtype), ('data', 'text'::regtype))), '42809',
			 format('table "%s" does not have the columns id bigint, name text and data text', rel), NULL),
			(foreign_code.names IS NOT NULL, '55000',
			 format('table "%s" has code of role "%s", which would run as "%s": %s', rel, owner.rolname,
					tfstate_internal.caller(), foreign_code.names), NULL)
		   ) o(applies, sqlstate, problem, remedy)
	 WHERE c.oid = rel AND o.applies;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.attach_obstacles(regclass) IS
'why tfstate cannot attach a table, and what to do about it';
REVOKE EXECUTE ON FUNCTION tfstate_internal.attach_obstacles(regclass) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.raise_obstacle(rel regclass)
RETURNS void
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	obstacle record;
BEGIN
	SELECT * INTO obstacle FROM tfstate_internal.attach_obstacles(rel) LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION '%', obstacle.problem
			USING ERRCODE = obstacle.sqlstate,
				  HINT = CASE WHEN obstacle.remedy IS NULL THEN 'States are kept in a table as Terraform creates it.'
							  ELSE format('Run: %s', obstacle.remedy) END;
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.raise_obstacle(regclass) IS
'part of tfstate_attach(): error if a table cannot be attached';
REVOKE EXECUTE ON FUNCTION tfstate_internal.raise_obstacle(regclass) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.rows(
	OUT "table" regclass,
	OUT workspace text,
	OUT id bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_rows'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tfstate_internal.rows() IS
'the rows of all attached tables; a row without a name is no workspace, and has NULL there';
REVOKE EXECUTE ON FUNCTION tfstate_internal.rows() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.colliding_ids()
RETURNS SETOF text
LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
WITH s AS MATERIALIZED (SELECT * FROM tfstate_internal.rows() r WHERE r.workspace IS NOT NULL)
SELECT format('id %s belongs to workspace "%s" and to "%s"', a.id, a.workspace, b.workspace)
  FROM s a JOIN s b ON a.id = b.id AND a."table"::oid < b."table"::oid
$$;
COMMENT ON FUNCTION tfstate_internal.colliding_ids() IS
'the ids that workspaces of two attached tables share, so that nobody can tell which of them Terraform locks';
REVOKE EXECUTE ON FUNCTION tfstate_internal.colliding_ids() FROM PUBLIC;

-- An empty table needs no look at all others.
CREATE FUNCTION tfstate_internal.raise_row_obstacle(rel regclass)
RETURNS void
LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	empty boolean;
	problem text;
BEGIN
	empty := tfstate_internal.as_caller(format('SELECT NOT EXISTS (SELECT FROM %s)', rel));
	IF empty THEN
		RETURN;
	END IF;
	problem := tfstate_internal.as_caller(format($query$
		SELECT format('table "%%s" has a row without a name', %2$L) FROM %1$s WHERE name IS NULL
		UNION
		SELECT format('table "%%s" has several rows of the name "%%s"', %2$L, name)
		  FROM %1$s GROUP BY name HAVING count(name) > 1
		UNION
		SELECT format('table "%%s" has a row without an id', %2$L) FROM %1$s WHERE id IS NULL
		UNION
		SELECT format('table "%%s" has several rows of the id %%s', %2$L, id)
		  FROM %1$s GROUP BY id HAVING count(id) > 1
		UNION
		SELECT format('id %%s of a workspace of "%%s" is less than 1', id, %2$L) FROM %1$s WHERE id < 1
		 ORDER BY 1 LIMIT 1$query$, rel, rel));
	problem := coalesce(problem, (SELECT c FROM tfstate_internal.colliding_ids() c ORDER BY 1 LIMIT 1));
	IF problem IS NOT NULL THEN
		RAISE EXCEPTION '%', problem
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'While nothing runs, correct or delete the row; '
						 'nextval(''public.global_states_id_seq'') returns a new id.';
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.raise_row_obstacle(regclass) IS
'part of tfstate_attach(): error if the rows of a table cannot be workspaces, or cannot be told apart from others';
REVOKE EXECUTE ON FUNCTION tfstate_internal.raise_row_obstacle(regclass) FROM PUBLIC;
