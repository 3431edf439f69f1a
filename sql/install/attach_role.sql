--
-- What tfstate_attach() gives to a role.
--

-- What Terraform's statements need, and no more: Terraform never changes an id or a name.
-- The default of id needs the sequence.
CREATE FUNCTION tfstate_internal.needed_grants(rel regclass, OUT owner oid, OUT privileges text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT c.relowner, format('SELECT, INSERT (name, data), UPDATE (data), DELETE ON TABLE %s', rel)
  FROM pg_class c WHERE c.oid = rel
UNION ALL
SELECT n.nspowner, format('USAGE ON SCHEMA %I', n.nspname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = rel
UNION ALL
SELECT c.relowner, 'USAGE ON SEQUENCE public.global_states_id_seq'
  FROM pg_class c WHERE c.oid = to_regclass('public.global_states_id_seq')
$$;
COMMENT ON FUNCTION tfstate_internal.needed_grants(regclass) IS
'the privileges that Terraform needs for a table of states, and the owner, who has them already';
REVOKE EXECUTE ON FUNCTION tfstate_internal.needed_grants(regclass) FROM PUBLIC;

-- The server closes the connection of a client that has not answered for ten seconds, and
-- no connection only because it is idle.  Parameters, which are states, stay out of the log.
CREATE FUNCTION tfstate_internal.needed_settings(mode text, wait interval, OUT name text, OUT value text)
RETURNS SETOF record
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT n.name, n.value
  FROM (VALUES
		('search_path', 'tfstate_pg, pg_catalog, public'),
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
		('pgaudit.log_parameter', 'off'),
		('tfstate.mode', mode),
		('tfstate.wait', (extract(epoch FROM wait) * 1000)::bigint::text),
		('statement_timeout', CASE WHEN wait > '0' THEN '0' END),
		('lock_timeout', CASE WHEN wait > '0' THEN '0' END),
		('transaction_timeout', CASE WHEN wait > '0' THEN '0' END)
	   ) n(name, value) JOIN pg_settings s ON s.name = n.name
 WHERE n.value IS NOT NULL
   AND (s.context = 'user' OR has_parameter_privilege(current_user, n.name, 'SET'))
$$;
COMMENT ON FUNCTION tfstate_internal.needed_settings(text, interval) IS
'the settings for a role of Terraform, as far as the server has them and the caller may make them';
REVOKE EXECUTE ON FUNCTION tfstate_internal.needed_settings(text, interval) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.attach_role(rel regclass, role name, mode text, wait interval)
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	roleid oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = attach_role.role);
	command text;
	missing text;
BEGIN
	IF tfstate_internal.table_name(rel) LIKE '%*%' THEN
		RAISE EXCEPTION 'cannot grant the locks of table "%" alone, because a star in a pattern stands for any text',
			rel
			USING ERRCODE = 'feature_not_supported';
	END IF;
	PERFORM tfstate_internal.matches('', '');	-- loads the library, which has the settings tfstate.*
	FOR command IN
		SELECT format('GRANT %s TO %I', g.privileges, attach_role.role)
		  FROM tfstate_internal.needed_grants(rel) g WHERE g.owner <> roleid
		UNION ALL
		SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), attach_role.role)
		 WHERE NOT has_database_privilege(roleid, current_database(), 'CONNECT')
		UNION ALL
		SELECT format('GRANT USAGE ON SCHEMA tfstate_pg TO %I', attach_role.role)
		 WHERE NOT has_schema_privilege(roleid, to_regnamespace('tfstate_pg'), 'USAGE')
		UNION ALL
		SELECT format('ALTER ROLE %I IN DATABASE %I SET %s = %s', attach_role.role, current_database(), s.name, s.value)
		  FROM tfstate_internal.needed_settings(mode, wait) s
	LOOP
		EXECUTE command;
	END LOOP;
	INSERT INTO tfstate_internal.privilege (role, pattern, privilege, grantor, role_name)
	SELECT roleid, g.pattern, 'lock', current_user, attach_role.role
	  FROM (SELECT tfstate_internal.table_name(rel) || '/*') g(pattern)
	 WHERE NOT EXISTS (SELECT FROM tfstate_internal.privilege p
						WHERE (p.role, p.pattern, p.privilege) = (roleid, g.pattern, 'lock'))
	ON CONFLICT DO NOTHING;

	INSERT INTO tfstate_internal.attached_role (relid, role, role_name)
	SELECT rel, roleid, attach_role.role
	 WHERE NOT EXISTS (SELECT FROM tfstate_internal.attached_role a WHERE a.relid = rel AND a.role = roleid);
	UPDATE tfstate_internal.attached_role a
	   SET settings = ARRAY(
			SELECT c FROM tfstate_internal.role_config(roleid) c
			 WHERE split_part(c, '=', 1) IN (SELECT s.name FROM tfstate_internal.needed_settings(mode, wait) s)
				OR c IN (SELECT unnest(b.settings) FROM tfstate_internal.attached_role b WHERE b.role = roleid))
	 WHERE a.role = roleid;

	SELECT m.missing INTO missing FROM tfstate_internal.missing_privileges(ARRAY[rel], ARRAY[roleid], ARRAY[true]) m;
	IF missing IS NOT NULL THEN
		RAISE EXCEPTION 'could not give role "%" all that Terraform needs for table "%": it lacks %',
			attach_role.role, rel, missing
			USING ERRCODE = 'insufficient_privilege',
				  HINT = 'Let a superuser call tfstate_attach().';
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.attach_role(regclass, name, text, interval) IS
'part of tfstate_attach(): give a role the privileges and settings that Terraform needs';
REVOKE EXECUTE ON FUNCTION tfstate_internal.attach_role(regclass, name, text, interval) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.role_config(roleid oid)
RETURNS SETOF text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
 WHERE s.setrole = roleid AND d.datname = current_database()
$$;
COMMENT ON FUNCTION tfstate_internal.role_config(oid) IS
'what is set for a role in this database, each setting as name=value';
REVOKE EXECUTE ON FUNCTION tfstate_internal.role_config(oid) FROM PUBLIC;
