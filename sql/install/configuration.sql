--
-- What Terraform's configuration and environment need for an attached table.
--

CREATE FUNCTION tfstate_internal.quote_hcl(value text)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $sql$
SELECT '"' || replace(replace(replace(replace(replace(value,
	E'\\', E'\\\\'), '"', E'\\"'), E'\n', E'\\n'), '${', '$${'), '%{', '%%{') || '"'
$sql$;
COMMENT ON FUNCTION tfstate_internal.quote_hcl(text) IS
'a text as a string in Terraform''s configuration';
REVOKE EXECUTE ON FUNCTION tfstate_internal.quote_hcl(text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.quote_url(value text)
RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT string_agg(CASE WHEN c COLLATE "C" ~ '^[A-Za-z0-9._~-]$' THEN c
					   ELSE upper(regexp_replace(encode(convert_to(c, 'UTF8'), 'hex'), '(..)', '%\1', 'g')) END,
				  '' ORDER BY n)
  FROM regexp_split_to_table(value, '') WITH ORDINALITY t(c, n)
$$;
COMMENT ON FUNCTION tfstate_internal.quote_url(text) IS
'a text as part of a URL';
REVOKE EXECUTE ON FUNCTION tfstate_internal.quote_url(text) FROM PUBLIC;

-- The address is that of the caller's connection: the server knows no other.
CREATE FUNCTION tfstate_internal.server_url(role name)
RETURNS text
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('postgres://%s@%s:%s/%s?sslmode=%s',
			  coalesce(tfstate_internal.quote_url(role::text), 'ROLE'),
			  CASE family(inet_server_addr()) WHEN 4 THEN host(inet_server_addr())
											  WHEN 6 THEN format('[%s]', host(inet_server_addr()))
											  ELSE 'HOST' END,
			  coalesce(inet_server_port()::text, current_setting('port')),
			  tfstate_internal.quote_url(current_database()::text),
			  CASE WHEN inet_server_addr() IS NULL AND current_setting('ssl')::boolean
						OR (SELECT s.ssl FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid())
				   THEN 'require' ELSE 'disable' END)
$$;
COMMENT ON FUNCTION tfstate_internal.server_url(name) IS
'the connection string with which a role reaches this database';
REVOKE EXECUTE ON FUNCTION tfstate_internal.server_url(name) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.backend_block(rel regclass)
RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT concat_ws(E'\n',
	'terraform {',
	'  backend "pg" {',
	'    schema_name          = ' || tfstate_internal.quote_hcl(n.nspname::text),
	CASE WHEN c.relname <> 'states' THEN	-- OpenTofu 1.10 and later
		'    table_name           = ' || tfstate_internal.quote_hcl(c.relname::text) || E'\n' ||
		'    index_name           = ' ||
		tfstate_internal.quote_hcl((SELECT i.relname::text FROM pg_class i
									 WHERE i.oid = tfstate_internal.unique_index(rel, 'name')))
	END,
	'    skip_schema_creation = true',
	'    skip_table_creation  = true',
	'    skip_index_creation  = true',
	'  }',
	'}')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = rel
$$;
COMMENT ON FUNCTION tfstate_internal.backend_block(regclass) IS
'the backend block of Terraform''s configuration for a table of states';
REVOKE EXECUTE ON FUNCTION tfstate_internal.backend_block(regclass) FROM PUBLIC;

-- In PGOPTIONS a backslash stands before each space and backslash of a value.  A run needs a
-- name where its table's locks are durable.
CREATE FUNCTION tfstate_internal.environment(rel regclass, role name, format text)
RETURNS text
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $sql$
SELECT concat_ws(E'\n',
	f.head,
	CASE WHEN u.url LIKE '%@HOST:%' THEN
		f.indent || '# HOST: the address of the server, as Terraform reaches it'
	END,
	f.indent || format(f.variable, 'PG_CONN_STR', u.url),
	f.indent || f.password,
	f.indent || format(f.variable, 'PGOPTIONS',
					   CASE WHEN environment.role IS NULL THEN '-c search_path=tfstate_pg,pg_catalog,public ' ELSE '' END ||
					   f.options),
	CASE WHEN (SELECT t.mode FROM tfstate_internal.attached_table t WHERE t.relid = environment.rel) = 'durable' THEN
		f.run_name
	END)
  FROM tfstate_internal.server_url(environment.role) u(url), (VALUES
		('shell', NULL, '', 'export %s="%s"', NULL,
		 $$-c tfstate.who=$(id -un | sed 's/[\\ ]/\\&/g')@$(uname -n)$$,
		 'export PGAPPNAME="tfstate-run:$(uuidgen)"   # another one for each run: it owns the locks'),
		('github', 'env:', '  ', $$%s: '%s'$$, 'PGPASSWORD: ${{ secrets.PGPASSWORD }}',
		 '-c tfstate.who=${{ github.actor }} -c tfstate.info={"Info":"${{ github.server_url }}/${{ github.repository }}'
		 '/actions/runs/${{ github.run_id }}"}',
		 E'# The first step of each job, because the name of the run owns the locks:\n'
		 '#   - run: echo "PGAPPNAME=tfstate-run:$(uuidgen)" >> "$GITHUB_ENV"'),
		('gitlab', 'variables:', '  ', $$%s: '%s'$$, '# PGPASSWORD: a masked variable of the project',
		 '-c tfstate.who=$GITLAB_USER_LOGIN -c tfstate.info={"Info":"$CI_JOB_URL"}',
		 'before_script:' || E'\n  - export PGAPPNAME="tfstate-run:$(uuidgen)"   # it owns the locks')
	   ) f(format, head, indent, variable, password, options, run_name)
 WHERE f.format = environment.format
$sql$;
COMMENT ON FUNCTION tfstate_internal.environment(regclass, name, text) IS
'the environment of Terraform, as a shell or a CI service has it';
REVOKE EXECUTE ON FUNCTION tfstate_internal.environment(regclass, name, text) FROM PUBLIC;

-- The body is parsed when it is created, because it names a function that users call.
CREATE FUNCTION tfstate_internal.attach_notes(rel regclass, role name)
RETURNS text
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED
BEGIN ATOMIC
	SELECT concat_ws(E'\n',
		CASE WHEN attach_notes.role IS NULL THEN
			format('# To make a role ready for Terraform: SELECT %s(%L, %L, role => ''...'');',
				   a.attach, n.nspname, c.relname)
		END,
		CASE WHEN EXISTS (SELECT FROM @extschema@.tfstate_states(tfstate_internal.table_name(rel) || '/default') s
						   WHERE s.serial = 0 AND s.terraform_version = '1.0.0' AND NOT s.encrypted) THEN
			format('# If OpenTofu encrypts states: SELECT %s(%L, %L, default_workspace => false);',
				   a.attach, n.nspname, c.relname)
		END,
		CASE WHEN NOT r.rolcanlogin THEN
			format('# "%s" cannot log in. When it has new members: SELECT %s();', attach_notes.role,
				   tfstate_internal.qualified('tfstate_attach_members'))
		END,
		CASE WHEN attach_notes.role IS NOT NULL
				  AND NOT has_parameter_privilege(tfstate_internal.caller(), 'log_parameter_max_length', 'SET') THEN
			format(E'# To keep states out of the server log, a superuser runs\n'
				   '# ALTER ROLE %I IN DATABASE %I SET log_parameter_max_length = 0;',
				   attach_notes.role, current_database())
		END)
	  FROM tfstate_internal.qualified('tfstate_attach') a(attach),
		   pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		   LEFT JOIN pg_roles r ON r.rolname = attach_notes.role
	 WHERE c.oid = rel;
END;
COMMENT ON FUNCTION tfstate_internal.attach_notes(regclass, name) IS
'part of tfstate_attach(): what is left to do, as comments';
REVOKE EXECUTE ON FUNCTION tfstate_internal.attach_notes(regclass, name) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_configuration(
	schema text DEFAULT 'terraform_remote_state',
	"table" text DEFAULT 'states',
	role name DEFAULT NULL,
	format text DEFAULT 'shell')
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'tfstate_for_administrators'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_configuration(text, text, name, text) IS
'what Terraform needs for an attached table: its environment, for a shell or a CI service, or the backend block
"format" is "shell", "github", "gitlab" or "backend". The owner of the table may call it, too.
Privilege: admin.
Errors: 42704 not attached; 22023.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_configuration(text, text, name, text) TO PUBLIC;

CREATE FUNCTION tfstate_internal.tfstate_configuration(
	schema text,
	"table" text,
	role name,
	format text)
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
#variable_conflict use_variable
DECLARE
	rel regclass := to_regclass(quote_ident(schema) || '.' || quote_ident("table"));
BEGIN
	IF NOT EXISTS (SELECT FROM tfstate_internal.attached_table t WHERE t.relid = rel) THEN
		RAISE EXCEPTION 'table "%" is not attached', quote_ident(schema) || '.' || quote_ident("table")
			USING ERRCODE = 'undefined_object';
	END IF;
	IF rel NOT IN (SELECT tfstate_internal.covered_tables()) THEN
		RAISE EXCEPTION 'permission denied to show the configuration for table "%"', rel
			USING ERRCODE = 'insufficient_privilege',
				  DETAIL = 'Role "' || tfstate_internal.caller() ||
						   '" does not own the table, and has no grant of privilege "admin" that covers it.';
	END IF;
	IF format NOT IN ('shell', 'github', 'gitlab', 'backend') IS NOT FALSE THEN
		RAISE EXCEPTION 'unrecognized format: "%"', format
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Valid formats are "shell", "github", "gitlab" and "backend".';
	END IF;
	RETURN QUERY SELECT string_to_table(CASE format WHEN 'backend' THEN tfstate_internal.backend_block(rel)
											ELSE tfstate_internal.environment(rel, role, format) END, E'\n');
END;
$$;
COMMENT ON FUNCTION tfstate_internal.tfstate_configuration(text, text, name, text) IS
'the body of tfstate_configuration()';
REVOKE EXECUTE ON FUNCTION tfstate_internal.tfstate_configuration(text, text, name, text) FROM PUBLIC;
