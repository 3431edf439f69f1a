--
-- What is wrong with the roles of Terraform.
--

CREATE FUNCTION tfstate_internal.path_has_shim(path text)
RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(array_position(schemas, 'tfstate_pg') < array_position(schemas, 'pg_catalog'), false)
  FROM (SELECT array_agg(btrim(schema, ' "') ORDER BY n)
		  FROM string_to_table(path, ',') WITH ORDINALITY t(schema, n)) p(schemas)
$$;
COMMENT ON FUNCTION tfstate_internal.path_has_shim(text) IS
'whether a search_path finds the functions of tfstate_pg before the built-in ones';
REVOKE EXECUTE ON FUNCTION tfstate_internal.path_has_shim(text) FROM PUBLIC;

-- The roles that log in and may write an attached table or lock its workspaces for Terraform:
-- members of a role that tfstate_attach() has made ready, or of one that the table grants a
-- write to, and roles that may lock a workspace and read states (for terraform plan).  What
-- everybody may do, what pg_write_all_data gives, and a grant of all locks make no role one of
-- Terraform.  acts_as is the role that ALTER ROLE ... SET role gives to one that logs in.
CREATE FUNCTION tfstate_internal.terraform_roles(
	OUT rel regclass,
	OUT roleid oid,
	OUT acts_as oid,
	OUT attached boolean,
	OUT writes boolean)
RETURNS SETOF record
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
WITH login AS MATERIALIZED (
	SELECT r.oid AS roleid, coalesce(a.oid, r.oid) AS acts_as
	  FROM pg_roles r
		   LEFT JOIN LATERAL (
			SELECT substr(c, length('role=') + 1) AS name
			  FROM pg_db_role_setting s, unnest(s.setconfig) c
			 WHERE s.setrole IN (r.oid, 0) AND starts_with(lower(c), 'role=')
			   AND s.setdatabase IN ((SELECT d.oid FROM pg_database d WHERE d.datname = current_database()), 0)
			 ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 1) s ON true
		   LEFT JOIN pg_roles a ON a.rolname = s.name AND pg_has_role(r.oid, a.oid, 'MEMBER')
	 WHERE r.rolcanlogin AND NOT r.rolsuper AND a.rolsuper IS NOT TRUE),
covered AS MATERIALIZED (SELECT c.relid FROM tfstate_internal.covered_tables() c(relid)),
ready AS MATERIALIZED (
	SELECT t.relid, a.role::oid AS role, true AS attached, a.access = 'write' AS writes
	  FROM covered t JOIN pg_class c ON c.oid = t.relid
		   JOIN tfstate_internal.attached_role a ON a.relid = t.relid
	UNION
	SELECT t.relid, x.grantee, false, true
	  FROM covered t JOIN pg_class c ON c.oid = t.relid,
		   LATERAL (SELECT e.grantee, e.privilege_type
					  FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) e
					UNION ALL
					SELECT e.grantee, e.privilege_type
					  FROM pg_attribute a, aclexplode(a.attacl) e
					 WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped) x
	 WHERE x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE') AND x.grantee <> 0
	UNION
	SELECT t.relid, p.role::oid, false, false
	  FROM covered t JOIN pg_class c ON c.oid = t.relid
		   JOIN tfstate_internal.privilege p ON starts_with(p.pattern, tfstate_internal.table_name(t.relid) || '/')
	 WHERE p.privilege = 'lock' AND p.role::oid <> 0),
member AS MATERIALIZED (
	SELECT l.roleid, l.acts_as, g.role
	  FROM login l, (SELECT DISTINCT role FROM ready) g
	 WHERE pg_has_role(l.acts_as, g.role, 'USAGE'))
SELECT r.relid, m.roleid, m.acts_as, bool_or(r.attached), bool_or(r.writes)
  FROM ready r JOIN member m ON m.role = r.role
 WHERE r.writes OR r.attached OR has_any_column_privilege(m.acts_as, r.relid, 'SELECT')
 GROUP BY r.relid, m.roleid, m.acts_as
$$;
COMMENT ON FUNCTION tfstate_internal.terraform_roles() IS
'the roles that log in and use an attached table with Terraform, except superusers';
REVOKE EXECUTE ON FUNCTION tfstate_internal.terraform_roles() FROM PUBLIC;

-- Each table with the role beside it in the arrays.  (JIT would take longer to compile this for
-- many than it takes to run.)  A role that does not write needs to read and to lock; for it,
-- grants has the commands that help.
CREATE FUNCTION tfstate_internal.missing_privileges(
	rels regclass[],
	roleids oid[],
	writes boolean[],
	OUT rel regclass,
	OUT roleid oid,
	OUT missing text,
	OUT may_write boolean,
	OUT grants text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
WITH pair AS MATERIALIZED (
	SELECT p.rel, p.roleid, bool_or(p.writes) AS writes
	  FROM unnest(rels, roleids, writes) p(rel, roleid, writes)
	 GROUP BY p.rel, p.roleid ORDER BY p.roleid),
tab AS MATERIALIZED (
	SELECT c.oid AS rel, c.relnamespace, n.nspname, tfstate_internal.table_name(c.oid::regclass) || '/' AS prefix,
		   max(a.attnum) FILTER (WHERE a.attname = 'id') AS id,
		   max(a.attnum) FILTER (WHERE a.attname = 'name') AS name,
		   max(a.attnum) FILTER (WHERE a.attname = 'data') AS data
	  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		   LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname IN ('id', 'name', 'data')
	 WHERE c.oid IN (SELECT p.rel FROM pair p) GROUP BY c.oid, n.nspname),
locks AS MATERIALIZED (		-- which role has a grant for which table
	SELECT DISTINCT t.rel, g.role
	  FROM tab t, (SELECT DISTINCT p.role::oid AS role, p.pattern
					 FROM tfstate_internal.privilege p WHERE p.privilege = 'lock') g
	 WHERE starts_with(g.pattern, t.prefix) OR tfstate_internal.matches(t.prefix || 'default', g.pattern)),
who AS MATERIALIZED (
	SELECT r.oid AS roleid, r.rolname,
		   has_database_privilege(r.oid, current_database(), 'CONNECT') AS "connect",
		   has_sequence_privilege(r.oid, to_regclass('public.global_states_id_seq'), 'USAGE, UPDATE') AS sequence,
		   has_schema_privilege(r.oid, to_regnamespace('tfstate_pg'), 'USAGE') AS shim,
		   pg_has_role(r.oid, (SELECT c.relowner FROM pg_class c WHERE c.oid = 'tfstate_internal.privilege'::regclass),
					   'USAGE') AS owner,
		   ARRAY(SELECT g.role FROM (SELECT DISTINCT l.role FROM locks l) g
				  WHERE g.role = 0 OR pg_has_role(r.oid, g.role, 'USAGE')) AS roles
	  FROM pg_roles r WHERE r.oid IN (SELECT p.roleid FROM pair p)),
locker AS MATERIALIZED (
	SELECT DISTINCT w.roleid, l.rel FROM who w, unnest(w.roles) role JOIN locks l USING (role)),
may AS MATERIALIZED (
	SELECT p.rel, p.roleid, p.writes, w.rolname, t.nspname, w."connect", w.sequence, w.shim,
		   w.owner OR l.rel IS NOT NULL AS lock,
		   has_schema_privilege(p.roleid, t.relnamespace, 'USAGE') AS schema,
		   has_table_privilege(p.roleid, p.rel, 'SELECT')
		   OR coalesce(has_column_privilege(p.roleid, p.rel, t.id, 'SELECT'), true)
			  AND coalesce(has_column_privilege(p.roleid, p.rel, t.name, 'SELECT'), true)
			  AND coalesce(has_column_privilege(p.roleid, p.rel, t.data, 'SELECT'), true) AS "select",
		   coalesce(has_column_privilege(p.roleid, p.rel, t.name, 'INSERT'), true)
		   AND coalesce(has_column_privilege(p.roleid, p.rel, t.data, 'INSERT'), true) AS "insert",
		   coalesce(has_column_privilege(p.roleid, p.rel, t.data, 'UPDATE'), true) AS "update",
		   has_table_privilege(p.roleid, p.rel, 'DELETE') AS "delete"
	  FROM pair p JOIN tab t ON t.rel = p.rel JOIN who w ON w.roleid = p.roleid
		   LEFT JOIN locker l ON l.roleid = p.roleid AND l.rel = p.rel)
SELECT m.rel, m.roleid,
	   nullif(concat_ws(', ',
			CASE WHEN NOT m."connect" THEN 'CONNECT on the database' END,
			CASE WHEN NOT m.schema THEN 'USAGE on the schema' END,
			CASE WHEN NOT m."select" THEN 'SELECT' END,
			CASE WHEN NOT m."insert" AND m.writes THEN 'INSERT' END,
			CASE WHEN NOT m."update" AND m.writes THEN 'UPDATE' END,
			CASE WHEN NOT m."delete" AND m.writes THEN 'DELETE' END,
			CASE WHEN NOT m.sequence AND m.writes THEN 'USAGE on the sequence' END,
			CASE WHEN NOT m.shim THEN 'USAGE on schema tfstate_pg' END,
			CASE WHEN NOT m.lock THEN 'the privilege "lock"' END), ''),
	   m."insert" AND m."update",
	   CASE WHEN NOT m.writes THEN
			nullif(concat_ws('; ',
				CASE WHEN NOT m."connect" THEN
					format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), m.rolname)
				END,
				CASE WHEN NOT m.schema THEN format('GRANT USAGE ON SCHEMA %I TO %I', m.nspname, m.rolname) END,
				CASE WHEN NOT m."select" THEN format('GRANT SELECT ON %s TO %I', m.rel, m.rolname) END,
				CASE WHEN NOT m.shim THEN format('GRANT USAGE ON SCHEMA tfstate_pg TO %I', m.rolname) END), '') END
  FROM may m
$$;
COMMENT ON FUNCTION tfstate_internal.missing_privileges(regclass[], oid[], boolean[]) IS
'what roles lack to use tables of states with Terraform; missing is NULL if it is nothing';
REVOKE EXECUTE ON FUNCTION tfstate_internal.missing_privileges(regclass[], oid[], boolean[]) FROM PUBLIC;

-- A session gets the first of what is set for its role in this database, for its role, for
-- this database, for everybody, and in the server.  The last is known as far as the calling
-- session can tell: its own PGOPTIONS hide it.
CREATE FUNCTION tfstate_internal.role_settings(
	roleids oid[],
	names text[],
	OUT roleid oid,
	OUT value jsonb,
	OUT seconds jsonb)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
WITH server AS MATERIALIZED (
	SELECT s.name, s.reset_val, s.unit FROM pg_settings s WHERE s.name = ANY (names)),
given AS MATERIALIZED (
	SELECT s.setrole, n.name, substr(c, strpos(c, '=') + 1) AS value, s.setdatabase = 0 AS everywhere
	  FROM pg_db_role_setting s, unnest(s.setconfig) c, LATERAL (SELECT lower(split_part(c, '=', 1))) n(name)
	 WHERE (s.setrole = 0 OR s.setrole = ANY (roleids)) AND n.name = ANY (names)
	   AND s.setdatabase IN ((SELECT d.oid FROM pg_database d WHERE d.datname = current_database()), 0)),
chosen AS (
	SELECT DISTINCT ON (v.roleid, v.name) v.roleid, v.name, v.value
	  FROM (SELECT g.setrole AS roleid, g.name, g.value, CASE WHEN g.everywhere THEN 2 ELSE 1 END AS rank
			  FROM given g WHERE g.setrole <> 0
			UNION ALL
			SELECT r, g.name, g.value, CASE WHEN g.everywhere THEN 4 ELSE 3 END
			  FROM unnest(roleids) r, given g WHERE g.setrole = 0
			UNION ALL
			SELECT r, s.name, s.reset_val, 5 FROM unnest(roleids) r, server s) v
	 ORDER BY v.roleid, v.name, v.rank)
SELECT c.roleid, jsonb_object_agg(c.name, c.value),
	   jsonb_object_agg(c.name, extract(epoch FROM (v[1] || ' ' || coalesce(v[2], s.unit))::interval))
  FROM chosen c LEFT JOIN server s ON s.name = c.name
	   LEFT JOIN LATERAL regexp_match(CASE WHEN s.unit IN ('ms', 's', 'min') THEN c.value END,
									  '^\s*(-?[0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|min|h|d)?\s*$') v ON true
 GROUP BY c.roleid
$$;
COMMENT ON FUNCTION tfstate_internal.role_settings(oid[], text[]) IS
'the values of settings in new sessions of roles in this database, times also in seconds; only settings that exist';
REVOKE EXECUTE ON FUNCTION tfstate_internal.role_settings(oid[], text[]) FROM PUBLIC;

-- What the clients of a role set for themselves is not known here.  settings is what helps;
-- attach tells whether tfstate_attach() makes these settings.
CREATE FUNCTION tfstate_internal.check_settings(
	roleids oid[],
	OUT roleid oid,
	OUT severity text,
	OUT problem text,
	OUT settings text[],
	OUT attach boolean)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
WITH s AS MATERIALIZED (
	SELECT r.roleid, r.value ->> 'search_path' AS path,
		   coalesce(nullif((r.seconds ->> 'tcp_keepalives_idle')::numeric, 0), 7200) +
		   coalesce(nullif((r.seconds ->> 'tcp_keepalives_interval')::numeric, 0), 75) *
		   coalesce(nullif((r.value ->> 'tcp_keepalives_count')::integer, 0), 9) AS noticed,
		   (r.seconds ->> 'idle_session_timeout')::numeric AS idle,
		   (r.seconds ->> 'tfstate.wait')::numeric AS wait,
		   (r.value ->> 'default_transaction_read_only')::boolean AS read_only,
		   r.seconds
	  FROM tfstate_internal.role_settings(roleids,
			ARRAY['search_path', 'tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count',
				  'idle_session_timeout', 'tfstate.wait', 'default_transaction_read_only',
				  'statement_timeout', 'lock_timeout', 'transaction_timeout']) r)
SELECT s.roleid, v.severity, v.problem, v.settings, v.attach
  FROM s, LATERAL (VALUES
	(NOT tfstate_internal.path_has_shim(s.path), 'error',
	 format('Terraform does not lock through tfstate, unless it sets search_path itself: '
			'tfstate_pg does not stand before pg_catalog in %s', s.path),
	 ARRAY['search_path = tfstate_pg, pg_catalog, public'], true),
	(s.noticed > 120, 'warning',
	 format('a client that vanishes keeps its session lock for %s, until TCP keepalives end the connection',
			make_interval(secs => s.noticed::float8)),
	 ARRAY['tcp_keepalives_idle = 5', 'tcp_keepalives_interval = 2', 'tcp_keepalives_count = 2'], true),
	(s.idle > 0, 'error',
	 format('idle_session_timeout ends a run that is busy elsewhere for %s', make_interval(secs => s.idle::float8)),
	 ARRAY['idle_session_timeout = 0'], true),
	(s.read_only, 'error', 'default_transaction_read_only lets it neither lock nor write',
	 ARRAY['default_transaction_read_only = off'], false)
	) v(applies, severity, problem, settings, attach)
 WHERE v.applies
UNION ALL
SELECT s.roleid, 'error',
	   format('%s ends a wait for a lock after %s, although tfstate.wait allows a longer one', t.name,
			  make_interval(secs => t.seconds::float8)),
	   ARRAY[t.name || ' = 0'], false
  FROM s,
	   LATERAL (SELECT n.name, (s.seconds ->> n.name)::numeric
				  FROM unnest(ARRAY['statement_timeout', 'lock_timeout', 'transaction_timeout']) n(name)
			   ) t(name, seconds)
 WHERE t.seconds > 0 AND (s.wait < 0 OR s.wait > t.seconds)
$$;
COMMENT ON FUNCTION tfstate_internal.check_settings(oid[]) IS
'part of tfstate_check(): report settings of roles that are wrong for Terraform';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_settings(oid[]) FROM PUBLIC;

-- Terraform sends a state as a parameter.  The settings of a library count if it is loaded for
-- the role; their defaults are known here only.
CREATE FUNCTION tfstate_internal.check_log(roleids oid[], OUT roleid oid, OUT setting text, OUT safe text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT r.roleid, v.setting, v.safe
  FROM tfstate_internal.role_settings(roleids,
		ARRAY['log_statement', 'log_min_duration_statement', 'log_min_duration_sample', 'log_statement_sample_rate',
			  'log_transaction_sample_rate', 'log_parameter_max_length', 'log_parameter_max_length_on_error',
			  'debug_print_plan',
			  'shared_preload_libraries', 'session_preload_libraries', 'local_preload_libraries',
			  'auto_explain.log_min_duration', 'auto_explain.log_verbose', 'auto_explain.log_parameter_max_length',
			  'pgaudit.log', 'pgaudit.role', 'pgaudit.log_parameter']) r,
	   LATERAL (SELECT r.value ->> 'log_statement' IN ('mod', 'all')
					OR r.value ->> 'log_min_duration_statement' <> '-1'
					OR r.value ->> 'log_min_duration_sample' <> '-1'
					   AND (r.value ->> 'log_statement_sample_rate')::float8 > 0
					OR (r.value ->> 'log_transaction_sample_rate')::float8 > 0,
					   -- not everybody may see the first; the best guess is then what this session has
					   concat_ws(',', coalesce(r.value ->> 'shared_preload_libraries',
											   (SELECT string_agg(split_part(p.name, '.', 1), ',')
												  FROM pg_settings p
												 WHERE p.name IN ('auto_explain.log_verbose',
																  'pgaudit.log_parameter'))),
								 r.value ->> 'session_preload_libraries',
								 r.value ->> 'local_preload_libraries')) log(statements, libraries),
	   LATERAL (SELECT log.libraries ~ '(^|[,/" ])auto_explain($|[,." ])'
				   AND coalesce(r.value ->> 'auto_explain.log_min_duration', '-1') <> '-1',
					   log.libraries ~ '(^|[,/" ])pgaudit($|[,." ])'
				   AND (lower(coalesce(nullif(btrim(r.value ->> 'pgaudit.log'), ''), 'none')) <> 'none'
						OR coalesce(r.value ->> 'pgaudit.role', '') <> '')) loaded(auto_explain, pgaudit),
	   LATERAL (VALUES
		(log.statements AND r.value ->> 'log_parameter_max_length' <> '0', 'log_parameter_max_length', '0'),
		(r.value ->> 'log_parameter_max_length_on_error' <> '0', 'log_parameter_max_length_on_error', '0'),
		((r.value ->> 'debug_print_plan')::boolean, 'debug_print_plan', 'off'),
		(loaded.auto_explain AND (r.value ->> 'auto_explain.log_verbose')::boolean, 'auto_explain.log_verbose', 'off'),
		(loaded.auto_explain AND current_setting('server_version_num')::integer >= 160000
		 AND coalesce(r.value ->> 'auto_explain.log_parameter_max_length', '-1') <> '0',
		 'auto_explain.log_parameter_max_length', '0'),
		(loaded.pgaudit AND (r.value ->> 'pgaudit.log_parameter')::boolean, 'pgaudit.log_parameter', 'off')
	   ) v(logs, setting, safe)
 WHERE v.logs
$$;
COMMENT ON FUNCTION tfstate_internal.check_log(oid[]) IS
'part of tfstate_check(): report settings that put the states which roles write into the server log, with safe values';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_log(oid[]) FROM PUBLIC;

-- A value that was set while the library was not loaded was accepted unchecked.
CREATE FUNCTION tfstate_internal.check_own_settings(
	OUT role text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT r.rolname::text,
	   CASE WHEN g.name IS NULL THEN format('there is no setting %s: every lock is refused', n.name)
			ELSE format('"%s" is no valid value of %s: every lock is refused', n.value, n.name) END,
	   format(CASE WHEN r.rolname IS NULL AND d.datname IS NULL THEN 'ALTER ROLE ALL RESET %3$s'
				   WHEN r.rolname IS NULL THEN 'ALTER DATABASE %2$I RESET %3$s'
				   WHEN d.datname IS NULL THEN 'ALTER ROLE %1$I RESET %3$s'
				   ELSE 'ALTER ROLE %1$I IN DATABASE %2$I RESET %3$s' END,
			  coalesce(r.rolname, ''), coalesce(d.datname, ''), n.name)
  FROM pg_db_role_setting s
	   LEFT JOIN pg_roles r ON r.oid = s.setrole
	   LEFT JOIN pg_database d ON d.oid = s.setdatabase,
	   unnest(s.setconfig) c,
	   LATERAL (SELECT split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)) n(name, value)
	   LEFT JOIN pg_settings g ON g.name = lower(n.name)
 WHERE starts_with(lower(n.name), 'tfstate.') AND (s.setdatabase = 0 OR d.datname = current_database())
   AND (g.name IS NULL
		OR g.vartype = 'enum' AND lower(n.value) <> ALL (g.enumvals)
		OR g.vartype = 'integer' AND n.value !~ '^\s*-?[0-9]+(\.[0-9]+)?\s*(us|ms|s|min|h|d)?\s*$')
$$;
COMMENT ON FUNCTION tfstate_internal.check_own_settings() IS
'part of tfstate_check(): report settings tfstate.* that do not exist or have an invalid value';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_own_settings() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.attached_group(rel regclass, roleid oid)
RETURNS name
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT r.rolname FROM tfstate_internal.attached_role a JOIN pg_roles r ON r.oid = a.role
 WHERE a.relid = rel AND pg_has_role(roleid, r.oid, 'USAGE')
 ORDER BY r.oid <> roleid, r.rolname LIMIT 1
$$;
COMMENT ON FUNCTION tfstate_internal.attached_group(regclass, oid) IS
'part of tfstate_check(): the role attached to a table whose rights another role has; NULL if there is none';
REVOKE EXECUTE ON FUNCTION tfstate_internal.attached_group(regclass, oid) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.check_roles(
	OUT severity text,
	OUT role text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
WITH t AS MATERIALIZED (SELECT * FROM tfstate_internal.terraform_roles()),
m AS MATERIALIZED (
	SELECT m.*
	  FROM (SELECT coalesce(array_agg(t.rel), '{}'), coalesce(array_agg(t.acts_as), '{}'),
				   coalesce(array_agg(t.writes), '{}')
			  FROM t) a(rels, roleids, writes),
		   LATERAL tfstate_internal.missing_privileges(a.rels, a.roleids, a.writes) m),
s AS MATERIALIZED (
	SELECT s.* FROM tfstate_internal.setting_roles() s
	 WHERE EXISTS (SELECT FROM tfstate_internal.attached_role a JOIN tfstate_internal.covered_tables() c ON c = a.relid
					WHERE a.role::oid = s.groupid)),
-- members of attached roles are among them, even if only a SET ROLE gives them the rights
r AS MATERIALIZED (
	SELECT t.roleid, r.rolname, min(t.rel::oid)::regclass AS rel,
		   t.roleid = t.acts_as AND bool_or(t.attached OR m.may_write) AS attach
	  FROM t JOIN pg_roles r ON r.oid = t.roleid JOIN m ON m.rel = t.rel AND m.roleid = t.acts_as
	 GROUP BY t.roleid, t.acts_as, r.rolname
	UNION ALL
	SELECT s.roleid, s.name, NULL, false FROM s WHERE s.roleid NOT IN (SELECT t.roleid FROM t)),
roles AS MATERIALIZED (SELECT coalesce(array_agg(r.roleid), '{}') AS ids FROM r)
SELECT 'error', l.rolname::text, t.rel::text,
	   CASE WHEN t.acts_as = t.roleid THEN 'the role lacks '
			ELSE format('the role "%s", which it sets, lacks ', a.rolname) END || m.missing,
	   CASE WHEN t.attached OR m.may_write THEN
				tfstate_internal.attach_command(t.rel, coalesce(tfstate_internal.attached_group(t.rel, t.acts_as),
																a.rolname)::text)
			ELSE m.grants END
  FROM t JOIN m ON m.rel = t.rel AND m.roleid = t.acts_as
	   JOIN pg_roles l ON l.oid = t.roleid JOIN pg_roles a ON a.oid = t.acts_as
 WHERE m.missing IS NOT NULL
UNION ALL
-- A role that does not write is given no right to write.
SELECT p.severity, r.rolname::text, NULL, p.problem,
	   CASE WHEN p.attach AND r.roleid IN (SELECT s.roleid FROM s WHERE s.member_of IS NOT NULL) THEN
				format('SELECT %s()', tfstate_internal.qualified('tfstate_attach_members'))
			WHEN p.attach AND r.attach THEN tfstate_internal.attach_command(r.rel, r.rolname::text)
			ELSE (SELECT string_agg(format('ALTER ROLE %I IN DATABASE %I SET %s',
										   r.rolname, current_database(), n.setting), '; ' ORDER BY n.n)
					FROM unnest(p.settings) WITH ORDINALITY n(setting, n)) END
  FROM roles, LATERAL tfstate_internal.check_settings(roles.ids) p JOIN r ON r.roleid = p.roleid
 WHERE NOT (p.attach AND r.roleid IN (SELECT s.roleid FROM s)
			AND tfstate_internal.set_at_login(r.roleid, ARRAY(SELECT split_part(n, ' ', 1) FROM unnest(p.settings) n)))
UNION ALL
SELECT 'warning', r.rolname::text, NULL, format('%s lets states that the role writes into the server log', l.setting),
	   format('ALTER ROLE %I IN DATABASE %I SET %s = %s', r.rolname, current_database(), l.setting, l.safe)
  FROM roles, LATERAL tfstate_internal.check_log(roles.ids) l JOIN r ON r.roleid = l.roleid
 WHERE NOT (r.roleid IN (SELECT s.roleid FROM s) AND tfstate_internal.set_at_login(r.roleid, ARRAY[l.setting]))
UNION ALL
SELECT 'warning', r.rolname::text, a.relid::text, 'the role was attached with access => ''plan'', but may write states', NULL
  FROM tfstate_internal.attached_role a JOIN tfstate_internal.covered_tables() c ON c = a.relid
	   JOIN pg_roles r ON r.oid = a.role
 WHERE a.access = 'plan' AND has_any_column_privilege(r.oid, a.relid, 'UPDATE')
UNION ALL
SELECT 'error', o.role, NULL, o.problem, o.remedy FROM tfstate_internal.check_own_settings() o
 WHERE tfstate_internal.caller_is_owner()
$$;
COMMENT ON FUNCTION tfstate_internal.check_roles() IS
'part of tfstate_check(): report what is wrong with the roles of Terraform';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_roles() FROM PUBLIC;
