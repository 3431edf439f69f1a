/* sql/tfstate--0.1.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION tfstate" to load this file. \quit

-- What is not schema-qualified below is in pg_catalog; nothing is looked up in
-- a schema that another role may write to.
SET LOCAL search_path TO pg_catalog, pg_temp;

--
-- Tables.  Nobody but the owner reads or writes them: the C functions do, and
-- check the privileges that tfstate_grant() gives.
--

CREATE TABLE @extschema@.tfstate_installation (
	seed bigint NOT NULL
) USING heap;
COMMENT ON TABLE @extschema@.tfstate_installation IS
'one row: the random seed of this installation''s lock-manager keys';
REVOKE ALL ON @extschema@.tfstate_installation FROM PUBLIC;

-- The last 32 bits of a version 4 UUID are random; two of them make 64.
INSERT INTO @extschema@.tfstate_installation (seed)
SELECT ('x' || right(replace(gen_random_uuid()::text, '-', ''), 8) ||
		right(replace(gen_random_uuid()::text, '-', ''), 8))::bit(64)::bigint;

CREATE SEQUENCE @extschema@.tfstate_fence AS bigint;
COMMENT ON SEQUENCE @extschema@.tfstate_fence IS
'the fences of all locks: one value for each acquisition, never given out twice';
REVOKE ALL ON SEQUENCE @extschema@.tfstate_fence FROM PUBLIC;

CREATE TABLE @extschema@.tfstate_durable_lock (
	lockid text COLLATE "C" NOT NULL,
	fence bigint NOT NULL,
	id text COLLATE "C" NOT NULL,
	created timestamptz NOT NULL,
	ttl interval,
	expires_at timestamptz,
	session bigint NOT NULL,
	pid integer NOT NULL,
	role text NOT NULL,
	application_name text,
	client_addr inet,
	run_id text,
	key bigint,
	info jsonb NOT NULL,
	PRIMARY KEY (lockid, fence)
) USING heap
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE @extschema@.tfstate_durable_lock IS
'the locks that are held in durable mode, one row each';
COMMENT ON COLUMN @extschema@.tfstate_durable_lock.session IS
'the random number that names the session which took the lock';
COMMENT ON COLUMN @extschema@.tfstate_durable_lock.key IS
'the bigint that Terraform locks, where the lock came from there or covers a workspace';
REVOKE ALL ON @extschema@.tfstate_durable_lock FROM PUBLIC;

CREATE UNLOGGED TABLE @extschema@.tfstate_session_lock (
	LIKE @extschema@.tfstate_durable_lock INCLUDING COMMENTS,
	PRIMARY KEY (lockid, fence)
) USING heap
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE @extschema@.tfstate_session_lock IS
'the locks that are held in session mode, and what dead sessions left of theirs';
REVOKE ALL ON @extschema@.tfstate_session_lock FROM PUBLIC;

CREATE TABLE @extschema@.tfstate_released_lock (
	LIKE @extschema@.tfstate_durable_lock INCLUDING COMMENTS,
	mode text NOT NULL,
	released_at timestamptz NOT NULL,
	how text NOT NULL CHECK (how IN ('unlock', 'force', 'expired', 'reclaimed')),
	released_by text NOT NULL,
	reason text,
	PRIMARY KEY (lockid, fence)
) USING heap
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE INDEX tfstate_released_lock_released_at_idx
	ON @extschema@.tfstate_released_lock (released_at);
COMMENT ON INDEX @extschema@.tfstate_released_lock_released_at_idx IS
'finds what is older than tfstate.history_age';
COMMENT ON TABLE @extschema@.tfstate_released_lock IS
'the finished holdings that tfstate.history keeps, one row each';
REVOKE ALL ON @extschema@.tfstate_released_lock FROM PUBLIC;

-- role is 0 for PUBLIC
CREATE TABLE @extschema@.tfstate_privilege (
	role regrole NOT NULL,
	pattern text COLLATE "C" NOT NULL,
	privilege text COLLATE "C" NOT NULL
		CHECK (privilege IN ('lock', 'view', 'force', 'override')),
	grantor text NOT NULL,
	granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (role, pattern, privilege)
) USING heap;
COMMENT ON TABLE @extschema@.tfstate_privilege IS
'who may lock, view, force or override which lockids';
REVOKE ALL ON @extschema@.tfstate_privilege FROM PUBLIC;

CREATE TABLE @extschema@.tfstate_attached_table (
	relid regclass PRIMARY KEY,
	attached_by text NOT NULL,
	attached_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	guard text CHECK (guard IN ('on', 'require')),
	keep_versions integer CHECK (keep_versions > 0),
	keep_age interval CHECK (keep_age >= '0')
) USING heap;
COMMENT ON TABLE @extschema@.tfstate_attached_table IS
'the tables of Terraform states whose workspaces are locked and guarded by tfstate';
REVOKE ALL ON @extschema@.tfstate_attached_table FROM PUBLIC;

-- content is compressed already
CREATE TABLE @extschema@.tfstate_stored_version (
	lockid text COLLATE "C" NOT NULL,
	number bigint NOT NULL,
	operation text NOT NULL CHECK (operation IN ('write', 'delete', 'found')),
	serial bigint,
	lineage text,
	terraform_version text,
	resources integer,
	size bigint,
	sha256 bytea,
	md5 bytea,
	created timestamptz NOT NULL,
	who text,
	role text,
	application_name text,
	client_addr inet,
	lock_id text,
	lock_who text,
	lock_operation text,
	fence bigint,
	chain integer,
	content bytea,
	PRIMARY KEY (lockid, number)
) USING heap;
ALTER TABLE @extschema@.tfstate_stored_version ALTER COLUMN content SET STORAGE EXTERNAL;
COMMENT ON TABLE @extschema@.tfstate_stored_version IS
'the versions of the states in the attached tables, one row each';
COMMENT ON COLUMN @extschema@.tfstate_stored_version.chain IS
'0 if content stands for itself; else it is a delta to the version before, and so many versions lie between it and a full copy';
REVOKE ALL ON @extschema@.tfstate_stored_version FROM PUBLIC;

SELECT pg_extension_config_dump('@extschema@.tfstate_fence', '');
SELECT pg_extension_config_dump('@extschema@.tfstate_stored_version', '');
SELECT pg_extension_config_dump('@extschema@.tfstate_durable_lock', '');
SELECT pg_extension_config_dump('@extschema@.tfstate_released_lock', '');
-- What was dropped is not dumped: its bare OID could be another object's later.
SELECT pg_extension_config_dump('@extschema@.tfstate_privilege',
	'WHERE role = 0 OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = role)');
SELECT pg_extension_config_dump('@extschema@.tfstate_attached_table',
	'WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = relid)');

--
-- Locks
--

CREATE FUNCTION @extschema@.tfstate_lock(
	lockid text,
	info jsonb DEFAULT '{}',
	mode text DEFAULT 'durable',
	wait interval DEFAULT '0',
	ttl interval DEFAULT NULL,
	OUT id text,
	OUT fence bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'tfstate_lock'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_lock(text, jsonb, text, interval, interval) IS
'take a lock, or raise an error that names its holder';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_lock(text, jsonb, text, interval, interval) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_try_lock(
	lockid text,
	info jsonb DEFAULT '{}',
	mode text DEFAULT 'durable',
	wait interval DEFAULT '0',
	ttl interval DEFAULT NULL,
	OUT locked boolean,
	OUT id text,
	OUT fence bigint,
	OUT holder jsonb)
RETURNS record
AS 'MODULE_PATHNAME', 'tfstate_try_lock'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_try_lock(text, jsonb, text, interval, interval) IS
'take a lock, or return its holder';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_try_lock(text, jsonb, text, interval, interval) TO PUBLIC;

CREATE PROCEDURE @extschema@.tfstate_wait_lock(
	lockid text,
	info jsonb DEFAULT '{}',
	mode text DEFAULT 'durable',
	wait interval DEFAULT NULL,
	ttl interval DEFAULT NULL,
	INOUT id text DEFAULT NULL,
	INOUT fence bigint DEFAULT NULL)
AS 'MODULE_PATHNAME', 'tfstate_wait_lock'
LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.tfstate_wait_lock(text, jsonb, text, interval, interval, text, bigint) IS
'take a lock, waiting for it without a snapshot that would hold up vacuum';
GRANT EXECUTE ON PROCEDURE @extschema@.tfstate_wait_lock(text, jsonb, text, interval, interval, text, bigint) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_unlock(lockid text, id text DEFAULT NULL)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'tfstate_unlock'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_unlock(text, text) IS
'release a lock and return its info';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_unlock(text, text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_renew(lockid text, id text, ttl interval DEFAULT NULL)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'tfstate_renew'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_renew(text, text, interval) IS
'extend a lease and return when it expires now';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_renew(text, text, interval) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_force_unlock(
	lockid text,
	id text DEFAULT NULL,
	reason text DEFAULT NULL,
	terminate boolean DEFAULT false)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'tfstate_force_unlock'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_force_unlock(text, text, text, boolean) IS
'release a lock whoever holds it, record who did so and why, and return its info';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_force_unlock(text, text, text, boolean) TO PUBLIC;

--
-- Privileges
--

-- The grants of a role that was dropped are shown under its OID, and can be
-- revoked under that.
CREATE VIEW @extschema@.tfstate_grants AS
SELECT CASE WHEN p.role = 0::oid THEN 'public'
			ELSE coalesce(r.rolname::text, p.role::oid::text) END AS role,
	   p.pattern, p.privilege, p.grantor, p.granted_at
  FROM @extschema@.tfstate_privilege p
  LEFT JOIN pg_roles r ON r.oid = p.role;
COMMENT ON VIEW @extschema@.tfstate_grants IS
'who may lock, view, force or override which lockids';
REVOKE ALL ON @extschema@.tfstate_grants FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_grants TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_check_grant(role name, pattern text, privilege text)
RETURNS void
LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF role IS NULL OR pattern IS NULL OR privilege IS NULL THEN
		RAISE EXCEPTION 'role, pattern and privilege must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF privilege NOT IN ('lock', 'view', 'force', 'override') THEN
		RAISE EXCEPTION 'unrecognized privilege: "%"', privilege
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Valid privileges are "lock", "view", "force" and "override".';
	END IF;
	IF pattern = '' OR octet_length(pattern) > 1024 THEN
		RAISE EXCEPTION 'pattern must have 1 to 1024 bytes'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_check_grant(name, text, text) IS
'part of tfstate_grant() and tfstate_revoke(): check the arguments';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_check_grant(name, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_grant(
	role name,
	pattern text DEFAULT '*',
	privilege text DEFAULT 'lock')
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	roleid oid := 0;
BEGIN
	PERFORM @extschema@.tfstate_check_grant(tfstate_grant.role, tfstate_grant.pattern, tfstate_grant.privilege);
	IF tfstate_grant.role <> 'public' THEN
		SELECT r.oid INTO roleid FROM pg_roles r WHERE r.rolname = tfstate_grant.role;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'role "%" does not exist', tfstate_grant.role
				USING ERRCODE = 'undefined_object';
		END IF;
	END IF;
	INSERT INTO @extschema@.tfstate_privilege (role, pattern, privilege, grantor)
	VALUES (roleid, tfstate_grant.pattern, tfstate_grant.privilege, current_user)
	ON CONFLICT DO NOTHING;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_grant(name, text, text) IS
'let a role lock, view, force or override the lockids that a pattern matches';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_grant(name, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_revoke(
	role name,
	pattern text DEFAULT '*',
	privilege text DEFAULT 'lock')
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM @extschema@.tfstate_check_grant(tfstate_revoke.role, tfstate_revoke.pattern, tfstate_revoke.privilege);
	DELETE FROM @extschema@.tfstate_privilege p
	 WHERE p.role = CASE WHEN tfstate_revoke.role = 'public' THEN 0::oid
						 ELSE coalesce((SELECT r.oid FROM pg_roles r WHERE r.rolname = tfstate_revoke.role),
									   substring(tfstate_revoke.role::text FROM '^[0-9]{1,9}$')::oid) END
	   AND p.pattern = tfstate_revoke.pattern
	   AND p.privilege = tfstate_revoke.privilege;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'role "%" has no grant of privilege "%" for pattern "%"', tfstate_revoke.role, tfstate_revoke.privilege, tfstate_revoke.pattern
			USING ERRCODE = 'undefined_object',
				  HINT = 'The view tfstate_grants lists what was granted.';
	END IF;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_revoke(name, text, text) IS
'take back what tfstate_grant() gave with the same arguments';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_revoke(name, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_has_privilege(lockid text, privilege text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_has_privilege'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_has_privilege(text, text) IS
'whether the current role may lock, view, force or override a lockid';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_has_privilege(text, text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_matches(lockid text, pattern text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_matches'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_matches(text, text) IS
'whether a lockid matches a pattern, in which * stands for any text';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_matches(text, text) TO PUBLIC;

--
-- Views of the locks
--

CREATE FUNCTION @extschema@.tfstate_session_alive(session bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_session_alive'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_session_alive(bigint) IS
'whether a session that took a lock is still there; NULL on a standby';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_session_alive(bigint) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_waiter_count(lockid text, mode text)
RETURNS integer
AS 'MODULE_PATHNAME', 'tfstate_waiter_count'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_waiter_count(text, text) IS
'how many sessions wait for a lock that is held in the given mode; NULL on a standby';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_waiter_count(text, text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_session_locks()
RETURNS SETOF @extschema@.tfstate_session_lock
AS 'MODULE_PATHNAME', 'tfstate_session_locks'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_session_locks() IS
'the locks of living sessions that the current role may view; none on a standby';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_session_locks() TO PUBLIC;

CREATE VIEW @extschema@.tfstate_holders WITH (security_barrier) AS
SELECT l.lockid,
	   l.info OPERATOR(pg_catalog.->>) 'Who' AS who,
	   l.info OPERATOR(pg_catalog.->>) 'Operation' AS operation,
	   date_trunc('second', clock_timestamp() - l.created) AS age,
	   l.mode,
	   @extschema@.tfstate_waiter_count(l.lockid, l.mode) AS waiters,
	   l.id,
	   l.fence,
	   @extschema@.tfstate_session_alive(l.session) AS session_alive,
	   l.created,
	   l.expires_at,
	   l.role,
	   l.application_name,
	   l.client_addr,
	   l.pid,
	   l.info
  FROM (SELECT 'durable' AS mode, d.*
		  FROM @extschema@.tfstate_durable_lock d
		 WHERE d.expires_at IS NULL OR d.expires_at > clock_timestamp()
		UNION ALL
		SELECT 'session', s.*
		  FROM @extschema@.tfstate_session_locks() s) l
 WHERE @extschema@.tfstate_has_privilege(l.lockid, 'view');
COMMENT ON VIEW @extschema@.tfstate_holders IS
'the locks that are held, one row each';
REVOKE ALL ON @extschema@.tfstate_holders FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_holders TO PUBLIC;

-- In the twins of the views the text without a star is looked up by index.
CREATE FUNCTION @extschema@.tfstate_holders(pattern text)
RETURNS SETOF @extschema@.tfstate_holders
LANGUAGE sql VOLATILE STRICT PARALLEL RESTRICTED
BEGIN ATOMIC
	SELECT h.* FROM @extschema@.tfstate_holders h
	 WHERE strpos(pattern, '*') = 0 AND h.lockid = pattern COLLATE "C"
	UNION ALL
	SELECT h.* FROM @extschema@.tfstate_holders h
	 WHERE strpos(pattern, '*') > 0 AND @extschema@.tfstate_matches(h.lockid, pattern);
END;
COMMENT ON FUNCTION @extschema@.tfstate_holders(text) IS
'the held locks whose lockid matches a pattern';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_holders(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_waiters(
	pattern text,
	OUT lockid text,
	OUT "position" integer,
	OUT pid integer,
	OUT role text,
	OUT application_name text,
	OUT client_addr inet,
	OUT since timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_waiters'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_waiters(text) IS
'the sessions that wait for a lock whose lockid matches a pattern';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_waiters(text) TO PUBLIC;

CREATE VIEW @extschema@.tfstate_waiters AS
SELECT w.lockid, w."position", w.pid, w.role, w.application_name, w.client_addr, w.since
  FROM @extschema@.tfstate_waiters('*') w;
COMMENT ON VIEW @extschema@.tfstate_waiters IS
'the sessions that wait for a lock, one row each; position 1 is served next';
REVOKE ALL ON @extschema@.tfstate_waiters FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_waiters TO PUBLIC;

CREATE VIEW @extschema@.tfstate_history WITH (security_barrier) AS
SELECT r.lockid,
	   r.info OPERATOR(pg_catalog.->>) 'Who' AS who,
	   r.info OPERATOR(pg_catalog.->>) 'Operation' AS operation,
	   r.created,
	   r.released_at,
	   r.how,
	   r.released_by,
	   r.reason,
	   r.mode,
	   r.id,
	   r.fence,
	   r.expires_at,
	   r.role,
	   r.application_name,
	   r.client_addr,
	   r.pid,
	   r.info
  FROM @extschema@.tfstate_released_lock r
 WHERE @extschema@.tfstate_has_privilege(r.lockid, 'view');
COMMENT ON VIEW @extschema@.tfstate_history IS
'the finished holdings, one row each';
REVOKE ALL ON @extschema@.tfstate_history FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_history TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_history(pattern text)
RETURNS SETOF @extschema@.tfstate_history
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	SELECT h.* FROM @extschema@.tfstate_history h
	 WHERE strpos(pattern, '*') = 0 AND h.lockid = pattern COLLATE "C"
	UNION ALL
	SELECT h.* FROM @extschema@.tfstate_history h
	 WHERE strpos(pattern, '*') > 0 AND @extschema@.tfstate_matches(h.lockid, pattern);
END;
COMMENT ON FUNCTION @extschema@.tfstate_history(text) IS
'the finished holdings whose lockid matches a pattern';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_history(text) TO PUBLIC;

--
-- The shim: two functions that stand before the built-in ones of the same
-- name in the search_path of an unmodified Terraform or OpenTofu.
--

CREATE SCHEMA tfstate_pg;
COMMENT ON SCHEMA tfstate_pg IS
'advisory lock functions for the pg backend of Terraform and OpenTofu; name it before pg_catalog in search_path';
REVOKE ALL ON SCHEMA tfstate_pg FROM PUBLIC;
GRANT USAGE ON SCHEMA tfstate_pg TO PUBLIC;

CREATE FUNCTION tfstate_pg.pg_try_advisory_lock(bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_pg_try_advisory_lock'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_pg.pg_try_advisory_lock(bigint) IS
'lock the workspace that has this id, or as the built-in function does';
GRANT EXECUTE ON FUNCTION tfstate_pg.pg_try_advisory_lock(bigint) TO PUBLIC;

CREATE FUNCTION tfstate_pg.pg_advisory_unlock(bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_pg_advisory_unlock'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_pg.pg_advisory_unlock(bigint) IS
'unlock the workspace that has this id, or as the built-in function does';
GRANT EXECUTE ON FUNCTION tfstate_pg.pg_advisory_unlock(bigint) TO PUBLIC;

--
-- States
--

CREATE FUNCTION @extschema@.tfstate_guard()
RETURNS trigger
AS 'MODULE_PATHNAME', 'tfstate_guard'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_guard() IS
'trigger of an attached table: refuse writes against the lock, serial or lineage, and record versions';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_guard() FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_states(
	pattern text DEFAULT '*',
	OUT workspace text,
	OUT "table" regclass,
	OUT id bigint,
	OUT serial bigint,
	OUT lineage text,
	OUT terraform_version text,
	OUT size bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_states'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_states(text) IS
'the states in the attached tables, as they are now, without their text';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_states(text) TO PUBLIC;

CREATE VIEW @extschema@.tfstate_versions WITH (security_barrier) AS
SELECT v.lockid AS workspace,
	   v.number,
	   v.operation,
	   v.serial,
	   v.created,
	   v.who,
	   v.lock_operation,
	   v.resources,
	   v.size,
	   coalesce(octet_length(v.content), 0) AS stored,
	   v.fence,
	   v.lock_id,
	   v.lock_who,
	   v.terraform_version,
	   v.lineage,
	   encode(v.sha256, 'hex') AS sha256,
	   encode(v.md5, 'hex') AS md5,
	   v.role,
	   v.application_name,
	   v.client_addr
  FROM @extschema@.tfstate_stored_version v
 WHERE @extschema@.tfstate_has_privilege(v.lockid, 'view');
COMMENT ON VIEW @extschema@.tfstate_versions IS
'the recorded versions of states, one row each';
REVOKE ALL ON @extschema@.tfstate_versions FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_versions TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_versions(pattern text)
RETURNS SETOF @extschema@.tfstate_versions
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	SELECT v.* FROM @extschema@.tfstate_versions v
	 WHERE strpos(pattern, '*') = 0 AND v.workspace = pattern COLLATE "C"
	UNION ALL
	SELECT v.* FROM @extschema@.tfstate_versions v
	 WHERE strpos(pattern, '*') > 0 AND @extschema@.tfstate_matches(v.workspace, pattern);
END;
COMMENT ON FUNCTION @extschema@.tfstate_versions(text) IS
'the recorded versions of the workspaces that match a pattern';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_versions(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_version(workspace text, number bigint)
RETURNS text
AS 'MODULE_PATHNAME', 'tfstate_version'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_version(text, bigint) IS
'the text of a version, as it was written';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_version(text, bigint) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_rollback(workspace text, number bigint)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_rollback'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_rollback(text, bigint) IS
'write a version as the new state of its workspace, and return the number of the version that this makes';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_rollback(text, bigint) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_undelete(workspace text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_undelete'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_undelete(text) IS
'bring back a workspace that was deleted, and return the number of the version that this makes';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_undelete(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_verify_workspace(
	workspace text,
	versions boolean,
	OUT version bigint,
	OUT problem text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_verify_workspace'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_verify_workspace(text, boolean) IS
'part of tfstate_verify(): what is wrong with one workspace';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_verify_workspace(text, boolean) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_verify(
	pattern text DEFAULT '*',
	versions boolean DEFAULT false,
	OUT workspace text,
	OUT version bigint,
	OUT problem text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
BEGIN ATOMIC
	SELECT w.workspace, p.version, p.problem
	  FROM (SELECT s.workspace FROM @extschema@.tfstate_states(tfstate_verify.pattern) s
			 UNION
			SELECT v.workspace FROM @extschema@.tfstate_versions(tfstate_verify.pattern) v) w
	 CROSS JOIN LATERAL @extschema@.tfstate_verify_workspace(w.workspace, tfstate_verify.versions) p
	 ORDER BY w.workspace COLLATE "C", p.version;
END;
COMMENT ON FUNCTION @extschema@.tfstate_verify(text, boolean) IS
'what is wrong: states that are not the ones that were recorded and, if asked for, versions that are damaged';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_verify(text, boolean) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_repair(workspace text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_repair'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_repair(text) IS
'record what is in the table as the newest version if it is not, and return its number';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_repair(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_prune_workspace(workspace text, keep_versions integer, keep_age interval)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_prune_workspace'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_prune_workspace(text, integer, interval) IS
'part of tfstate_prune(): forget the old versions of one workspace';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_prune_workspace(text, integer, interval) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_prune(
	pattern text DEFAULT '*',
	keep_versions integer DEFAULT NULL,
	keep_age interval DEFAULT NULL)
RETURNS bigint
LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT coalesce(sum(@extschema@.tfstate_prune_workspace(w.lockid, tfstate_prune.keep_versions, tfstate_prune.keep_age)), 0)::bigint
	  FROM (SELECT DISTINCT v.lockid
			  FROM @extschema@.tfstate_stored_version v
			 WHERE @extschema@.tfstate_matches(v.lockid, tfstate_prune.pattern)
			 ORDER BY v.lockid) w;
END;
COMMENT ON FUNCTION @extschema@.tfstate_prune(text, integer, interval) IS
'forget the versions that need not be kept, and return how many there were';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_prune(text, integer, interval) FROM PUBLIC;

CREATE VIEW @extschema@.tfstate_workspaces WITH (security_barrier) AS
SELECT s.workspace,
	   s.serial,
	   v.resources,
	   s.size,
	   v.created AS written_at,
	   v.who AS written_by,
	   h.who AS locked_by,
	   h.operation AS locked_for,
	   h.created AS locked_at,
	   s.terraform_version,
	   s.lineage,
	   v.number AS version,
	   s."table",
	   s.id
  FROM @extschema@.tfstate_states('*') s
  LEFT JOIN LATERAL (SELECT n.*
					   FROM @extschema@.tfstate_stored_version n
					  WHERE n.lockid = s.workspace COLLATE "C"
					  ORDER BY n.number DESC
					  LIMIT 1) v ON true
  LEFT JOIN @extschema@.tfstate_holders h ON h.lockid = s.workspace COLLATE "C";
COMMENT ON VIEW @extschema@.tfstate_workspaces IS
'the workspaces of all attached tables, one row each';
REVOKE ALL ON @extschema@.tfstate_workspaces FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_workspaces TO PUBLIC;

--
-- Tables of Terraform states
--

CREATE FUNCTION @extschema@.tfstate_attach(
	schema text DEFAULT 'terraform_remote_state',
	"table" text DEFAULT 'states')
RETURNS text
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	qualified text := quote_ident(schema) || '.' || quote_ident("table");
	rel regclass;
	other regclass;
	id bigint;
BEGIN
	IF schema IS NULL OR "table" IS NULL THEN
		RAISE EXCEPTION 'schema and table must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF schema = '' OR "table" = '' THEN
		RAISE EXCEPTION 'schema and table must not be empty'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	DELETE FROM @extschema@.tfstate_attached_table t
	 WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relid);

	-- What Terraform would create, and in its words.
	IF to_regnamespace(quote_ident(schema)) IS NULL THEN
		EXECUTE format('CREATE SCHEMA %I', schema);
	END IF;
	IF to_regclass(qualified) IS NULL THEN
		IF to_regclass('public.global_states_id_seq') IS NULL THEN
			CREATE SEQUENCE public.global_states_id_seq AS bigint;
		END IF;
		EXECUTE format('CREATE TABLE %s (id bigint NOT NULL DEFAULT nextval(''public.global_states_id_seq'') PRIMARY KEY, name text UNIQUE, data text)', qualified);
		EXECUTE format('CREATE UNIQUE INDEX %s ON %s (name)',
					   CASE WHEN "table" = 'states' THEN 'states_by_name' ELSE '' END, qualified);
	END IF;
	rel := to_regclass(qualified);

	IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = rel AND c.relkind = 'r')
	   OR 3 <> (SELECT count(*) FROM pg_attribute a
				 WHERE a.attrelid = rel AND NOT a.attisdropped
				   AND (a.attname, a.atttypid) IN (('id', 'bigint'::regtype), ('name', 'text'::regtype), ('data', 'text'::regtype)))
	THEN
		RAISE EXCEPTION '"%" is not a table of Terraform states', qualified
			USING ERRCODE = 'wrong_object_type',
				  DETAIL = 'Such a table has the columns id bigint, name text and data text.';
	END IF;

	-- Nobody may add a workspace while its id is compared.
	EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', qualified);
	FOR other IN SELECT t.relid FROM @extschema@.tfstate_attached_table t WHERE t.relid <> rel LOOP
		EXECUTE format('SELECT a.id FROM %s a JOIN %s b ON a.id = b.id LIMIT 1', rel, other) INTO id;
		IF id IS NOT NULL THEN
			RAISE EXCEPTION 'id % belongs to a workspace of "%" and to one of "%"', id, rel, other
				USING ERRCODE = 'object_not_in_prerequisite_state',
					  HINT = 'Let both tables take their ids from public.global_states_id_seq, and give the rows of one of them new ids.';
		END IF;
	END LOOP;

	-- With a row for it, the first apply locks the workspace and not the key
	-- under which workspaces are created.
	EXECUTE format('INSERT INTO %s (name, data) SELECT ''default'', $1 WHERE NOT EXISTS (SELECT FROM %s WHERE name = ''default'')', qualified, qualified)
		USING format('{"version":4,"terraform_version":"1.0.0","serial":0,"lineage":"%s","outputs":{},"resources":[],"check_results":null}', gen_random_uuid());

	INSERT INTO @extschema@.tfstate_attached_table (relid, attached_by)
	VALUES (rel, current_user) ON CONFLICT DO NOTHING;
	EXECUTE format('CREATE OR REPLACE TRIGGER tfstate_guard_row AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION @extschema@.tfstate_guard()', qualified);
	EXECUTE format('CREATE OR REPLACE TRIGGER tfstate_guard_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.tfstate_guard()', qualified);
	PERFORM @extschema@.tfstate_repair(s.workspace) FROM @extschema@.tfstate_states(qualified || '/*') s;

	RETURN format($text$Terraform locks the workspaces of %1$s through tfstate if it runs with
  PGOPTIONS="-c search_path=tfstate_pg,pg_catalog,public"
A role that is not a superuser needs
  SELECT tfstate_grant('ROLE', %2$L);
  GRANT USAGE ON SCHEMA %3$I TO ROLE;
  GRANT SELECT, INSERT, UPDATE, DELETE ON %1$s TO ROLE;
  GRANT USAGE ON SEQUENCE %4$s TO ROLE;$text$,
				  qualified, qualified || '/*', schema,
				  coalesce(pg_get_serial_sequence(qualified, 'id'), 'public.global_states_id_seq'));
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_attach(text, text) IS
'put a table of Terraform states under tfstate, and create it where it is missing';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_attach(text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_detach(
	schema text DEFAULT 'terraform_remote_state',
	"table" text DEFAULT 'states')
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	qualified text := quote_ident(schema) || '.' || quote_ident("table");
BEGIN
	IF schema IS NULL OR "table" IS NULL THEN
		RAISE EXCEPTION 'schema and table must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	DELETE FROM @extschema@.tfstate_attached_table t WHERE t.relid = to_regclass(qualified);
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table "%" is not attached', qualified
			USING ERRCODE = 'undefined_object';
	END IF;
	EXECUTE format('DROP TRIGGER IF EXISTS tfstate_guard_row ON %s', qualified);
	EXECUTE format('DROP TRIGGER IF EXISTS tfstate_guard_truncate ON %s', qualified);
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_detach(text, text) IS
'undo tfstate_attach(); the table and its states stay';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_detach(text, text) FROM PUBLIC;

--
-- What the states have
--

CREATE FUNCTION @extschema@.tfstate_resources(
	pattern text DEFAULT '*',
	OUT workspace text,
	OUT address text,
	OUT module text,
	OUT mode text,
	OUT type text,
	OUT name text,
	OUT index text,
	OUT provider text,
	OUT id text,
	OUT tainted boolean,
	OUT deposed text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_resources'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_resources(text) IS
'the instances of resources in the states of the workspaces that a pattern matches';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_resources(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_outputs(
	pattern text DEFAULT '*',
	OUT workspace text,
	OUT name text,
	OUT value jsonb,
	OUT type jsonb,
	OUT sensitive boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_outputs'
LANGUAGE C STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_outputs(text) IS
'the outputs in the states of the workspaces that a pattern matches';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_outputs(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_diff(
	workspace text,
	a bigint,
	b bigint DEFAULT NULL,
	OUT address text,
	OUT change text,
	OUT deposed text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_diff'
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_diff(text, bigint, bigint) IS
'what was added, removed and changed from one version of a workspace to another, or to its present state';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_diff(text, bigint, bigint) TO PUBLIC;
