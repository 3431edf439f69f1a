--
-- What tfstate_attach() returns.
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

-- The body is parsed when it is created, because it names a function that users call.
CREATE FUNCTION tfstate_internal.attach_text(rel regclass, role name)
RETURNS text
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED
BEGIN ATOMIC
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
		'}',
		CASE WHEN attach_text.role IS NULL THEN
			format(E'# A role is made ready for Terraform with\n# SELECT %s(%L, %L, role => ''...'');',
				   a.attach, n.nspname, c.relname)
		END,
		format('export PG_CONN_STR="postgres://%s@HOST:PORT/%s"',
			   coalesce(tfstate_internal.quote_url(attach_text.role::text), 'ROLE'),
			   tfstate_internal.quote_url(current_database()::text)),
		format('export PGOPTIONS="%s-c tfstate.who=$USER@$HOSTNAME -c tfstate.operation=apply"',
			   CASE WHEN attach_text.role IS NULL THEN '-c search_path=tfstate_pg,pg_catalog,public ' END),
		CASE WHEN 'tfstate.mode=durable' = ANY (g.settings) THEN
			'export PGAPPNAME="tfstate-run:$(uuidgen)"   # another one for each run: it owns the locks'
		END,
		CASE WHEN EXISTS (SELECT FROM @extschema@.tfstate_states(tfstate_internal.table_name(rel) || '/default') s
						   WHERE s.serial = 0 AND s.terraform_version = '1.0.0' AND NOT s.encrypted) THEN
			format('# If OpenTofu encrypts states: SELECT %s(%L, %L, default_workspace => false);',
				   a.attach, n.nspname, c.relname)
		END,
		CASE WHEN NOT r.rolcanlogin THEN
			format('# "%s" cannot log in, and its members do not inherit its settings: call tfstate_attach() for them.',
				   attach_text.role)
		END,
		CASE WHEN attach_text.role IS NOT NULL
				  AND NOT has_parameter_privilege(current_user, 'log_parameter_max_length', 'SET') THEN
			format(E'# To keep states out of the server log, a superuser runs\n'
				   '# ALTER ROLE %I IN DATABASE %I SET log_parameter_max_length = 0;',
				   attach_text.role, current_database())
		END)
	  FROM tfstate_internal.qualified('tfstate_attach') a(attach),
		   pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		   LEFT JOIN pg_roles r ON r.rolname = attach_text.role
		   LEFT JOIN tfstate_internal.attached_role g ON (g.relid, g.role) = (c.oid, r.oid)
	 WHERE c.oid = rel;
END;
COMMENT ON FUNCTION tfstate_internal.attach_text(regclass, name) IS
'part of tfstate_attach(): what to paste into the configuration and the environment of Terraform';
REVOKE EXECUTE ON FUNCTION tfstate_internal.attach_text(regclass, name) FROM PUBLIC;
