--
-- What tfstate_attach() gives to a role.
--

-- What Terraform's statements need, and no more: Terraform never changes an id or a name.
-- The default of id needs the sequence; a plan writes nothing.  Rights to connect and to use
-- the schema tfstate_pg usually come from PUBLIC; every other one is the role's own, because
-- what it has from elsewhere can go.  Of a table that was dropped, the rest is shown.
CREATE FUNCTION tfstate_internal.role_rights(
	rel regclass,
	schema text,
	roleid oid,
	OUT kind text,
	OUT privilege text,
	OUT target text,
	OUT writes boolean,
	OUT held boolean,
	OUT given boolean,
	OUT grantors text)
RETURNS SETOF record
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT r.kind, r.privilege, r.target, r.writes,
	   coalesce(r.owner = roleid, false) OR coalesce(r.effective, false)
	   OR EXISTS (SELECT FROM aclexplode(r.acl || r.wider) a
				   WHERE a.grantee = roleid AND a.privilege_type = split_part(r.privilege, ' ', 1)),
	   coalesce(e.given, false), e.grantors
  FROM (SELECT 'table' AS kind, p.privilege, format('%s ON TABLE %s', p.privilege, rel) AS target,
			   p.privilege <> 'SELECT' AS writes, c.relowner AS owner, NULL::boolean AS effective,
			   CASE WHEN p.col IS NULL THEN c.relacl ELSE a.attacl END AS acl,
			   CASE WHEN p.col IS NOT NULL THEN c.relacl END AS wider
		  FROM pg_class c,
			   (VALUES ('SELECT', NULL), ('INSERT (name)', 'name'), ('INSERT (data)', 'data'),
					   ('UPDATE (data)', 'data'), ('DELETE', NULL)) p(privilege, col)
			   LEFT JOIN pg_attribute a ON a.attrelid = rel AND a.attname = p.col AND NOT a.attisdropped
		 WHERE c.oid = rel
		UNION ALL
		SELECT k.kind, 'USAGE', format('USAGE ON SCHEMA %I', n.nspname), false, n.nspowner,
			   CASE k.kind WHEN 'shim' THEN has_schema_privilege(roleid, n.oid, 'USAGE') END, n.nspacl, NULL
		  FROM (VALUES ('schema', schema), ('shim', 'tfstate_pg')) k(kind, name) JOIN pg_namespace n ON n.nspname = k.name
		UNION ALL
		SELECT 'sequence', 'USAGE', 'USAGE ON SEQUENCE public.global_states_id_seq', true, c.relowner, NULL, c.relacl, NULL
		  FROM pg_class c WHERE c.oid = to_regclass('public.global_states_id_seq')
		UNION ALL
		SELECT 'database', 'CONNECT', format('CONNECT ON DATABASE %I', d.datname), false, d.datdba,
			   has_database_privilege(roleid, d.oid, 'CONNECT'), d.datacl, NULL
		  FROM pg_database d WHERE d.datname = current_database()) r,
	   LATERAL (SELECT bool_and(NOT a.is_grantable) AS given, string_agg(pg_get_userbyid(a.grantor), ', ') AS grantors
				  FROM aclexplode(r.acl) a
				 WHERE a.grantee = roleid AND a.privilege_type = split_part(r.privilege, ' ', 1)) e
$$;
COMMENT ON FUNCTION tfstate_internal.role_rights(regclass, text, oid) IS
'the rights that Terraform needs for a table; whether a role has them, and as a plain grant to this very role';
REVOKE EXECUTE ON FUNCTION tfstate_internal.role_rights(regclass, text, oid) FROM PUBLIC;

-- The server closes the connection of a client that has not answered for ten seconds, and
-- no connection only because it is idle.  Parameters, which are states, stay out of the log.
CREATE FUNCTION tfstate_internal.needed_settings(
	roleid oid,
	OUT name text,
	OUT value text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT n.name, n.value
  FROM (VALUES
		('search_path', tfstate_internal.path_with_shim(roleid)),
		('tcp_keepalives_idle', '5'),
		('tcp_keepalives_interval', '2'),
		('tcp_keepalives_count', '2'),
		('tcp_user_timeout', '10000'),
		('idle_session_timeout', '0'),
		('log_parameter_max_length', '0'),
		('log_parameter_max_length_on_error', '0'),
		('debug_print_plan', 'off'),
		('auto_explain.log_verbose', 'off'),
		('auto_explain.log_parameter_max_length', '0'),
		('pgaudit.log_parameter', 'off')
	   ) n(name, value) JOIN pg_settings s ON s.name = n.name
 WHERE n.value IS NOT NULL
   AND (s.context = 'user' OR has_parameter_privilege(tfstate_internal.caller(), n.name, 'SET'))
   -- unless the database has it, and the role no other value
   AND NOT (roleid <> 0
			AND EXISTS (SELECT FROM tfstate_internal.given g
						 WHERE (g.role, g.kind, g.object, g.value) = (0, 'setting', n.name, n.value))
			AND NOT EXISTS (SELECT FROM pg_db_role_setting s, unnest(s.setconfig) c
							 WHERE s.setrole = roleid AND starts_with(c, n.name || '=')))
$$;
COMMENT ON FUNCTION tfstate_internal.needed_settings(oid) IS
'the settings for a role of Terraform, as far as the server has them and the caller may make them';
REVOKE EXECUTE ON FUNCTION tfstate_internal.needed_settings(oid) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.schemas_of(path text, OUT schema text, OUT n bigint)
RETURNS SETOF record
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN e.name LIKE '"%' THEN replace(substr(e.name, 2, length(e.name) - 2), '""', '"') ELSE lower(e.name) END,
	   m.n
  FROM regexp_matches(path, '((?:"(?:[^"]|"")*"|[^,"])+)', 'g') WITH ORDINALITY m(part, n),
	   LATERAL (SELECT btrim(m.part[1])) e(name)
$$;
COMMENT ON FUNCTION tfstate_internal.schemas_of(text) IS
'the names in a search_path, in order';
REVOKE EXECUTE ON FUNCTION tfstate_internal.schemas_of(text) FROM PUBLIC;

-- What is set for the role in this database, for the role, for the database, or for everybody
-- is kept behind the two schemas.
CREATE FUNCTION tfstate_internal.path_with_shim(roleid oid)
RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN tfstate_internal.path_has_shim(p.path) THEN p.own
			ELSE concat_ws(', ', 'tfstate_pg', 'pg_catalog',
				(SELECT string_agg(quote_ident(s.schema), ', ' ORDER BY s.n)
				   FROM tfstate_internal.schemas_of(p.path) s
				  WHERE s.schema NOT IN ('tfstate_pg', 'pg_catalog'))) END
  FROM (SELECT (array_agg(s.path ORDER BY s.rank))[1], max(s.path) FILTER (WHERE s.rank = 1)
		  FROM (SELECT substr(c, length('search_path=') + 1) AS path,
					   CASE WHEN d.setrole <> 0 AND d.setdatabase <> 0 THEN 1 WHEN d.setrole <> 0 THEN 2
							WHEN d.setdatabase <> 0 THEN 3 ELSE 4 END AS rank
				  FROM pg_db_role_setting d, unnest(d.setconfig) c
				 WHERE d.setrole IN (roleid, 0) AND starts_with(c, 'search_path=')
				   AND d.setdatabase IN ((SELECT b.oid FROM pg_database b WHERE b.datname = current_database()), 0)
				UNION ALL
				SELECT 'public', 5) s) p(path, own)
$$;
COMMENT ON FUNCTION tfstate_internal.path_with_shim(oid) IS
'the search_path to be set for a role in this database; NULL if none needs to be';
REVOKE EXECUTE ON FUNCTION tfstate_internal.path_with_shim(oid) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.role_config(roleid oid, OUT name text, OUT value text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
  FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
 WHERE s.setrole = roleid AND d.datname = current_database()
$$;
COMMENT ON FUNCTION tfstate_internal.role_config(oid) IS
'what is set for a role in this database';
REVOKE EXECUTE ON FUNCTION tfstate_internal.role_config(oid) FROM PUBLIC;

-- A search_path is a list, which one literal would turn into one name.
CREATE FUNCTION tfstate_internal.set_role_config(role name, name text, value text)
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tfstate_internal.as_caller(format(
		CASE role WHEN 'public' THEN 'ALTER DATABASE %2$I %3$s' ELSE 'ALTER ROLE %1$I IN DATABASE %2$I %3$s' END,
		role, current_database(),
		CASE WHEN value IS NULL THEN 'RESET ' || name
			 WHEN name = 'search_path' THEN (
				SELECT 'SET search_path = ' || coalesce(string_agg(quote_literal(s.schema), ', ' ORDER BY s.n), '''''')
				  FROM tfstate_internal.schemas_of(value) s)
			 ELSE format('SET %s = %L', name, value) END));
END;
$$;
COMMENT ON FUNCTION tfstate_internal.set_role_config(name, text, text) IS
'make a setting for a role in this database, or for the database if the role is public; NULL resets it';
REVOKE EXECUTE ON FUNCTION tfstate_internal.set_role_config(name, text, text) FROM PUBLIC;

-- What the role has already is left as it is, and not recorded.
CREATE FUNCTION tfstate_internal.give_rights(rel regclass, role name, roleid oid, access text)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	schema text := (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = rel);
	lockids text := tfstate_internal.table_name(rel) || '/*';
	needed record;
BEGIN
	FOR needed IN
		SELECT * FROM tfstate_internal.role_rights(rel, schema, roleid) r
		 WHERE NOT r.held AND (access = 'write' OR NOT r.writes)
		 ORDER BY r.target COLLATE "C"
	LOOP
		PERFORM tfstate_internal.as_caller(format('GRANT %s TO %I', needed.target, role));
		INSERT INTO tfstate_internal.given
		VALUES (rel, roleid, role, needed.kind, needed.privilege, CASE needed.kind WHEN 'schema' THEN schema END)
		ON CONFLICT DO NOTHING;
	END LOOP;

	INSERT INTO tfstate_internal.privilege (role, pattern, privilege, grantor, role_name)
	SELECT roleid, lockids, 'lock', tfstate_internal.caller(), give_rights.role
	 WHERE NOT EXISTS (SELECT FROM tfstate_internal.privilege p
						WHERE (p.role, p.pattern, p.privilege) = (roleid, lockids, 'lock'))
	ON CONFLICT DO NOTHING;
	IF FOUND THEN
		PERFORM tfstate_internal.note(format('SELECT %s(%L, %L, ''lock'')', tfstate_internal.qualified('tfstate_grant'),
											 role, lockids));
		INSERT INTO tfstate_internal.given VALUES (rel, roleid, role, 'lock', 'lock', lockids)
		ON CONFLICT DO NOTHING;
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.give_rights(regclass, name, oid, text) IS
'part of tfstate_attach(): give a role the rights that Terraform needs, and record those that it did not have';
REVOKE EXECUTE ON FUNCTION tfstate_internal.give_rights(regclass, name, oid, text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.attach_role(rel regclass, role name, access text)
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	roleid oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = attach_role.role);
	changed boolean;
	missing text;
BEGIN
	IF tfstate_internal.table_name(rel) LIKE '%*%' THEN
		RAISE EXCEPTION 'cannot grant the locks of table "%" alone, because a star in a pattern stands for any text',
			rel
			USING ERRCODE = 'feature_not_supported';
	END IF;
	INSERT INTO tfstate_internal.attached_role (relid, role, role_name)
	SELECT rel, roleid, attach_role.role
	 WHERE NOT EXISTS (SELECT FROM tfstate_internal.attached_role a WHERE a.relid = rel AND a.role = roleid);
	changed := FOUND OR EXISTS (SELECT FROM tfstate_internal.attached_role a
								 WHERE a.relid = rel AND a.role = roleid AND a.access <> attach_role.access);
	UPDATE tfstate_internal.attached_role a
	   SET access = coalesce(attach_role.access, a.access)
	 WHERE a.relid = rel AND a.role = roleid
	RETURNING a.access INTO access;
	IF changed THEN
		PERFORM tfstate_internal.note(format('attach role "%s" to table "%s" with access "%s"', attach_role.role, rel,
											 access));
	END IF;

	PERFORM tfstate_internal.give_rights(rel, attach_role.role, roleid, access);
	-- The members of a group have the settings since its first table.
	PERFORM tfstate_internal.give_settings(r.name, r.id)
	   FROM tfstate_internal.setting_roles() r(id, name, member_of, groupid)
	  WHERE r.id = roleid
		 OR r.groupid = roleid
			AND NOT EXISTS (SELECT FROM tfstate_internal.attached_role a WHERE a.role = roleid AND a.relid <> rel);
	IF access = 'plan' THEN		-- it could write before
		PERFORM tfstate_internal.take_back(g)
		   FROM tfstate_internal.given g, tfstate_internal.role_rights(rel, NULL::text, roleid) r
		  WHERE g.relid = rel AND g.role = roleid AND (r.kind, r.privilege) = (g.kind, g.object) AND r.writes
		  ORDER BY r.target COLLATE "C";
	END IF;

	SELECT m.missing INTO missing
	  FROM tfstate_internal.missing_privileges(ARRAY[rel], ARRAY[roleid], ARRAY[access = 'write']) m;
	IF missing IS NOT NULL THEN
		RAISE EXCEPTION 'could not give role "%" all that Terraform needs for table "%": it lacks %',
			attach_role.role, rel, missing
			USING ERRCODE = 'insufficient_privilege',
				  HINT = 'Let a superuser call tfstate_attach().';
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.attach_role(regclass, name, text) IS
'part of tfstate_attach(): give a role the rights and settings that Terraform needs';
REVOKE EXECUTE ON FUNCTION tfstate_internal.attach_role(regclass, name, text) FROM PUBLIC;
