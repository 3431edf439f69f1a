/* sql/tfstate--0.1.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION tfstate" to load this file. \quit

-- What is not schema-qualified below is in pg_catalog; nothing is looked up in
-- a schema that another role may write to.  In the schema of the extension others
-- can perhaps create functions: calls of our own functions there pass every argument
-- with its exact type, or a literal for text, so that no other function fits as well.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- What users call is in the schema of the extension and starts with tfstate_; everything
-- else is in tfstate_internal.  PUBLIC needs no USAGE on it, because views, triggers and SQL
-- bodies that were parsed when they were created refer to objects by their OIDs.
--
-- ALTER SCHEMA ... RENAME can give the schema of the extension another name.  So no body that
-- is parsed only when it runs names that schema, and texts that show it ask qualified().
CREATE SCHEMA tfstate_internal;
COMMENT ON SCHEMA tfstate_internal IS
'tables, types and functions of tfstate that are not for users';
REVOKE ALL ON SCHEMA tfstate_internal FROM PUBLIC;

CREATE FUNCTION tfstate_internal.qualified(name text)
RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('%I.%I', n.nspname, qualified.name)
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname = 'tfstate'
$$;
COMMENT ON FUNCTION tfstate_internal.qualified(text) IS
'the name of an object that users call, with the schema that it is in now';
REVOKE EXECUTE ON FUNCTION tfstate_internal.qualified(text) FROM PUBLIC;

--
-- What belongs to this installation alone.  Ordinary roles neither read nor write this
-- table and the others; the C functions do, and check the privileges that tfstate_grant()
-- gives.
--

-- The key is secret: row-level security keeps it from members of pg_read_all_data, too.
CREATE TABLE tfstate_internal.installation (
	one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
	key bytea NOT NULL CHECK (octet_length(key) = 16),
	protocol integer NOT NULL,
	timeline bigint NOT NULL
) USING heap;
ALTER TABLE tfstate_internal.installation ENABLE ROW LEVEL SECURITY;
ALTER TABLE tfstate_internal.installation ALTER COLUMN key SET STATISTICS 0;
COMMENT ON TABLE tfstate_internal.installation IS
'one row: what belongs to this installation alone; neither dumped nor replicated';
COMMENT ON COLUMN tfstate_internal.installation.key IS
'the secret key of the hash of lockids in the lock manager';
COMMENT ON COLUMN tfstate_internal.installation.protocol IS
'the number of the protocol that the library and the SQL objects must agree on';
COMMENT ON COLUMN tfstate_internal.installation.timeline IS
'the newest timeline for which the fences have jumped ahead';
REVOKE ALL ON tfstate_internal.installation FROM PUBLIC;

-- Two UUIDs of version 4 have 244 random bits.
CREATE FUNCTION tfstate_internal.make_key()
RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
	INSERT INTO tfstate_internal.installation (key, protocol, timeline)
	SELECT substr(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 1, 16), 1, c.timeline_id
	  FROM pg_control_checkpoint() c;
END;
COMMENT ON FUNCTION tfstate_internal.make_key() IS
'make the row of the table installation anew if somebody has deleted it, while no other session uses tfstate';
REVOKE EXECUTE ON FUNCTION tfstate_internal.make_key() FROM PUBLIC;
SELECT tfstate_internal.make_key();

CREATE FUNCTION tfstate_internal.keep_own_row()
RETURNS trigger
AS 'MODULE_PATHNAME', 'tfstate_keep_own_row'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.keep_own_row() IS
'trigger of the table installation: logical replication changes nothing there';
REVOKE EXECUTE ON FUNCTION tfstate_internal.keep_own_row() FROM PUBLIC;
CREATE TRIGGER keep_own_row BEFORE INSERT OR UPDATE OR DELETE ON tfstate_internal.installation
	FOR EACH ROW EXECUTE FUNCTION tfstate_internal.keep_own_row();
ALTER TABLE tfstate_internal.installation ENABLE ALWAYS TRIGGER keep_own_row;
COMMENT ON TRIGGER keep_own_row ON tfstate_internal.installation IS
'logical replication changes nothing here';

--
-- The type of columns that name a role.
--

-- A role is known by its OID.  Unlike regrole, this type reads the name of a role that does
-- not exist as "none", which is nobody, so that a dump of locks or grants can be restored
-- without that role.  It writes the name unquoted, and "none" if the role was dropped.
CREATE TYPE tfstate_internal.role;
CREATE FUNCTION tfstate_internal.role_in(cstring)
RETURNS tfstate_internal.role
AS 'MODULE_PATHNAME', 'tfstate_role_in'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tfstate_internal.role_in(cstring) IS 'I/O';
GRANT EXECUTE ON FUNCTION tfstate_internal.role_in(cstring) TO PUBLIC;
CREATE FUNCTION tfstate_internal.role_out(tfstate_internal.role)
RETURNS cstring
AS 'MODULE_PATHNAME', 'tfstate_role_out'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tfstate_internal.role_out(tfstate_internal.role) IS 'I/O';
GRANT EXECUTE ON FUNCTION tfstate_internal.role_out(tfstate_internal.role) TO PUBLIC;
CREATE TYPE tfstate_internal.role (
	INPUT = tfstate_internal.role_in,
	OUTPUT = tfstate_internal.role_out,
	LIKE = oid
);
COMMENT ON TYPE tfstate_internal.role IS
'a role by its OID: "public" is everybody; "none" is nobody, and so is a role that does not exist';
CREATE CAST (tfstate_internal.role AS oid) WITHOUT FUNCTION AS IMPLICIT;
COMMENT ON CAST (tfstate_internal.role AS oid) IS 'the OID of a role; 0 is everybody, 1 nobody';
CREATE CAST (oid AS tfstate_internal.role) WITHOUT FUNCTION AS ASSIGNMENT;
COMMENT ON CAST (oid AS tfstate_internal.role) IS 'the role of an OID';

--
-- The fences, and the tables of held and of released locks.
--

CREATE SEQUENCE tfstate_internal.fence AS bigint;
COMMENT ON SEQUENCE tfstate_internal.fence IS
'the fences of all locks: one value for each acquisition, never given out twice';
REVOKE ALL ON SEQUENCE tfstate_internal.fence FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.fence', '');

CREATE TABLE tfstate_internal.durable_lock (
	lockid text COLLATE "C" NOT NULL,
	fence bigint NOT NULL,
	id text COLLATE "C" NOT NULL,
	created timestamptz NOT NULL,
	ttl interval,
	expires_at timestamptz,
	session bigint NOT NULL,
	pid integer NOT NULL,
	role tfstate_internal.role NOT NULL,
	role_name text NOT NULL,
	login_role text NOT NULL,
	application_name text,
	client_addr inet,
	run_id text,
	key bigint,
	unlock_key bigint,
	info jsonb NOT NULL,
	PRIMARY KEY (lockid, fence)
) USING heap
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE tfstate_internal.durable_lock IS
'the locks that are held in durable mode, one row each';
COMMENT ON COLUMN tfstate_internal.durable_lock.session IS
'the random number that names the session which took the lock';
COMMENT ON COLUMN tfstate_internal.durable_lock.role_name IS
'the name of the role when it took the lock';
COMMENT ON COLUMN tfstate_internal.durable_lock.login_role IS
'the role that the session had logged in as, whatever SET ROLE it had done';
COMMENT ON COLUMN tfstate_internal.durable_lock.run_id IS
'the UUID that names the run, in lower case';
COMMENT ON COLUMN tfstate_internal.durable_lock.key IS
'the key that Terraform locks, if the lock came from there or is that of a workspace';
COMMENT ON COLUMN tfstate_internal.durable_lock.unlock_key IS
'the key that Terraform unlocks, if it took the lock of a workspace: the id, or the key under which it created the row';
REVOKE ALL ON tfstate_internal.durable_lock FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.durable_lock', '');

-- Taking a lock does not fire it.  (With a unique key on lockid alone, each lock would have
-- to step over the dead rows of all earlier ones.)
CREATE FUNCTION tfstate_internal.require_free_lock()
RETURNS trigger
AS 'MODULE_PATHNAME', 'tfstate_require_free_lock'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.require_free_lock() IS
'trigger of the table durable_lock: SQL can add only the row of a free lock; logical replication changes nothing';
REVOKE EXECUTE ON FUNCTION tfstate_internal.require_free_lock() FROM PUBLIC;
CREATE TRIGGER require_free_lock BEFORE INSERT OR UPDATE OR DELETE ON tfstate_internal.durable_lock
	FOR EACH ROW EXECUTE FUNCTION tfstate_internal.require_free_lock();
ALTER TABLE tfstate_internal.durable_lock ENABLE ALWAYS TRIGGER require_free_lock;
COMMENT ON TRIGGER require_free_lock ON tfstate_internal.durable_lock IS
'no lock is held twice, and logical replication changes nothing here';

CREATE UNLOGGED TABLE tfstate_internal.session_lock (
	LIKE tfstate_internal.durable_lock INCLUDING COMMENTS,
	PRIMARY KEY (lockid, fence)
) USING heap
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE tfstate_internal.session_lock IS
'the locks that are held in session mode, and rows that dead sessions have left';
REVOKE ALL ON tfstate_internal.session_lock FROM PUBLIC;

CREATE TABLE tfstate_internal.released_lock (
	LIKE tfstate_internal.durable_lock INCLUDING COMMENTS,
	mode text NOT NULL,
	released_at timestamptz NOT NULL,
	how text NOT NULL CHECK (how IN ('unlock', 'force', 'expired', 'reclaimed')),
	released_by text NOT NULL,
	reason text
) USING heap
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
-- Not unique: no row of the history may make a release fail.
CREATE INDEX released_lock_lockid_fence_idx
	ON tfstate_internal.released_lock (lockid, fence);
COMMENT ON INDEX tfstate_internal.released_lock_lockid_fence_idx IS
'finds the newest holdings of a lockid';
CREATE INDEX released_lock_released_at_idx
	ON tfstate_internal.released_lock (released_at);
COMMENT ON INDEX tfstate_internal.released_lock_released_at_idx IS
'finds the newest holdings of all, and those older than tfstate.history_age';
COMMENT ON TABLE tfstate_internal.released_lock IS
'the finished holdings that tfstate.history keeps, one row each';
REVOKE ALL ON tfstate_internal.released_lock FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.released_lock', '');

--
-- Privileges: which role may do what with which lockids.
--

-- The name is in the key because roles that a restore did not find are all nobody.
CREATE TABLE tfstate_internal.privilege (
	role tfstate_internal.role NOT NULL,
	pattern text COLLATE "C" NOT NULL,
	privilege text COLLATE "C" NOT NULL
		CHECK (privilege IN ('lock', 'view', 'force', 'override', 'admin')),
	grantor text NOT NULL,
	granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	role_name text COLLATE "C" NOT NULL,
	PRIMARY KEY (role, pattern, privilege, role_name)
) USING heap;
COMMENT ON TABLE tfstate_internal.privilege IS
'which role may lock, view, force, override or administer which lockids';
COMMENT ON COLUMN tfstate_internal.privilege.role_name IS
'the name of the role when it was granted the privilege';
REVOKE ALL ON tfstate_internal.privilege FROM PUBLIC;

-- No row of a role that was dropped is dumped: its bare OID could be another role's later.
SELECT pg_extension_config_dump('tfstate_internal.privilege',
	'WHERE role = 0 OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = role)');

-- The grants of a role that was dropped are shown under the name that it had, and can be
-- revoked under that name.
CREATE VIEW @extschema@.tfstate_grants AS
SELECT coalesce(nullif(p.role::text, 'none'), p.role_name) AS role,
	   p.pattern, p.privilege, p.grantor, date_trunc('second', p.granted_at) AS granted_at
  FROM tfstate_internal.privilege p;
COMMENT ON VIEW @extschema@.tfstate_grants IS
'what tfstate_grant() has given, one row each';
COMMENT ON COLUMN @extschema@.tfstate_grants.role IS 'the role; public is everybody';
COMMENT ON COLUMN @extschema@.tfstate_grants.pattern IS 'the lockids; * stands for any text';
COMMENT ON COLUMN @extschema@.tfstate_grants.privilege IS 'lock, view, force, override or admin';
COMMENT ON COLUMN @extschema@.tfstate_grants.grantor IS 'the role that granted it';
COMMENT ON COLUMN @extschema@.tfstate_grants.granted_at IS 'when it was granted';
REVOKE ALL ON @extschema@.tfstate_grants FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_grants TO PUBLIC;

CREATE FUNCTION tfstate_internal.require_grant_arguments(role name, pattern text, privilege text)
RETURNS void
LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF role IS NULL OR pattern IS NULL OR privilege IS NULL THEN
		RAISE EXCEPTION 'role, pattern and privilege must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF privilege NOT IN ('lock', 'view', 'force', 'override', 'admin') THEN
		RAISE EXCEPTION 'unrecognized privilege: "%"', privilege
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Valid privileges are "lock", "view", "force", "override" and "admin".';
	END IF;
	IF pattern = '' OR octet_length(pattern) > 1024 THEN
		RAISE EXCEPTION 'pattern must have 1 to 1024 bytes'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF NOT (tfstate_internal.caller_is_owner()
			OR privilege <> 'admin' AND (tfstate_internal.caller_may('admin', pattern)
										 OR tfstate_internal.caller_owns(pattern))) THEN
		RAISE EXCEPTION 'permission denied to grant or revoke privilege "%" for pattern "%"', privilege, pattern
			USING ERRCODE = 'insufficient_privilege',
				  DETAIL = CASE WHEN privilege = 'admin' THEN
								'Only a superuser and the owner of tfstate can give the privilege "admin".'
						   ELSE format('Role "%s" has no grant of privilege "admin" that covers the pattern, and owns no '
									   'attached table that it is about.', tfstate_internal.caller()) END;
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.require_grant_arguments(name, text, text) IS
'part of tfstate_grant() and tfstate_revoke(): error unless the arguments are valid';
REVOKE EXECUTE ON FUNCTION tfstate_internal.require_grant_arguments(name, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_grant(
	role name,
	pattern text DEFAULT '*',
	privilege text DEFAULT 'lock')
RETURNS void
AS 'MODULE_PATHNAME', 'tfstate_for_administrators'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_grant(name, text, text) IS
'let a role lock, view, force, override or administer the lockids that a pattern matches';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_grant(name, text, text) TO PUBLIC;

CREATE FUNCTION tfstate_internal.tfstate_grant(
	role name,
	pattern text,
	privilege text)
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	roleid oid := 0;
BEGIN
	PERFORM tfstate_internal.require_grant_arguments(tfstate_grant.role, tfstate_grant.pattern,
													 tfstate_grant.privilege);
	IF tfstate_grant.role <> 'public' THEN
		SELECT r.oid INTO roleid FROM pg_roles r WHERE r.rolname = tfstate_grant.role;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'role "%" does not exist', tfstate_grant.role
				USING ERRCODE = 'undefined_object';
		END IF;
	END IF;
	INSERT INTO tfstate_internal.privilege (role, pattern, privilege, grantor, role_name)
	SELECT roleid, tfstate_grant.pattern, tfstate_grant.privilege, tfstate_internal.caller(), tfstate_grant.role
	 WHERE NOT EXISTS (SELECT FROM tfstate_internal.privilege p
						WHERE (p.role, p.pattern, p.privilege) =
							  (roleid, tfstate_grant.pattern, tfstate_grant.privilege))
	ON CONFLICT DO NOTHING;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.tfstate_grant(name, text, text) IS
'the body of tfstate_grant()';
REVOKE EXECUTE ON FUNCTION tfstate_internal.tfstate_grant(name, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_revoke(
	role name,
	pattern text DEFAULT '*',
	privilege text DEFAULT 'lock')
RETURNS void
AS 'MODULE_PATHNAME', 'tfstate_for_administrators'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_revoke(name, text, text) IS
'take back what tfstate_grant() gave with the same arguments';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_revoke(name, text, text) TO PUBLIC;

CREATE FUNCTION tfstate_internal.tfstate_revoke(
	role name,
	pattern text,
	privilege text)
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM tfstate_internal.require_grant_arguments(tfstate_revoke.role, tfstate_revoke.pattern,
													 tfstate_revoke.privilege);
	-- As the view shows it: the role that has this name, and one that had it and is gone.
	DELETE FROM tfstate_internal.privilege p
	 WHERE coalesce(nullif(p.role::text, 'none'), p.role_name) = tfstate_revoke.role
	   AND p.pattern = tfstate_revoke.pattern
	   AND p.privilege = tfstate_revoke.privilege;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'role "%" has no grant of privilege "%" for pattern "%"',
			tfstate_revoke.role, tfstate_revoke.privilege, tfstate_revoke.pattern
			USING ERRCODE = 'undefined_object',
				  HINT = 'The view tfstate_grants lists what was granted.';
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.tfstate_revoke(name, text, text) IS
'the body of tfstate_revoke()';
REVOKE EXECUTE ON FUNCTION tfstate_internal.tfstate_revoke(name, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_has_privilege(lockid text, privilege text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_has_privilege'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_has_privilege(text, text) IS
'whether the current role may lock, view, force or override a lockid';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_has_privilege(text, text) TO PUBLIC;

-- A view has this in a subquery, which runs once and before any row is read, so that it tells
-- nothing of the rows.
CREATE FUNCTION tfstate_internal.tell_if_blind(privilege text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_tell_if_blind_sql'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tfstate_internal.tell_if_blind(text) IS
'part of the views: true; and a notice if the current role sees nothing, because it has no grant';
GRANT EXECUTE ON FUNCTION tfstate_internal.tell_if_blind(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_matches(lockid text, pattern text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_matches'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_matches(text, text) IS
'whether a lockid matches a pattern, in which * stands for any text';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_matches(text, text) TO PUBLIC;

CREATE FUNCTION tfstate_internal.matches(lockid text, pattern text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_matches'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tfstate_internal.matches(text, text) IS
'tfstate_matches(), for bodies that are parsed when they run';
REVOKE EXECUTE ON FUNCTION tfstate_internal.matches(text, text) FROM PUBLIC;

--
-- Taking and releasing locks.
--

-- Named types, because a record of OUT parameters is put together anew in each statement,
-- which takes a third as long as a try that fails.
CREATE TYPE tfstate_internal.taken_lock AS (id text, fence bigint);
COMMENT ON TYPE tfstate_internal.taken_lock IS 'what tfstate_lock() returns';

CREATE TYPE tfstate_internal.tried_lock AS (locked boolean, id text, fence bigint, holder jsonb);
COMMENT ON TYPE tfstate_internal.tried_lock IS 'what tfstate_try_lock() returns';

CREATE FUNCTION @extschema@.tfstate_lock(
	lockid text,
	info jsonb DEFAULT '{}',
	mode text DEFAULT 'durable',
	wait interval DEFAULT '0',
	ttl interval DEFAULT NULL)
RETURNS tfstate_internal.taken_lock
AS 'MODULE_PATHNAME', 'tfstate_lock'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_lock(text, jsonb, text, interval, interval) IS
'take a lock, or raise an error that names the holder';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_lock(text, jsonb, text, interval, interval) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_try_lock(
	lockid text,
	info jsonb DEFAULT '{}',
	mode text DEFAULT 'durable',
	wait interval DEFAULT '0',
	ttl interval DEFAULT NULL)
RETURNS tfstate_internal.tried_lock
AS 'MODULE_PATHNAME', 'tfstate_try_lock'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_try_lock(text, jsonb, text, interval, interval) IS
'take a lock, or return the holder';
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
'take a lock; wait for it without a snapshot, which would hold up vacuum';
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
'extend a lease and return its new end';
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
'release a lock whoever holds it, record the caller and the reason, and return the info of the lock';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_force_unlock(text, text, text, boolean) TO PUBLIC;

--
-- Who holds, who waits, and who has held.  The views show times in whole seconds.
--

-- What is shown about a lock is STABLE, so that a query that does not ask for it does
-- not pay for it.
CREATE FUNCTION tfstate_internal.age(created timestamptz)
RETURNS interval
AS 'MODULE_PATHNAME', 'tfstate_age'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tfstate_internal.age(timestamptz) IS
'how long ago a point in time was, in whole seconds';
GRANT EXECUTE ON FUNCTION tfstate_internal.age(timestamptz) TO PUBLIC;

CREATE FUNCTION tfstate_internal.session_alive(session bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_session_alive'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tfstate_internal.session_alive(bigint) IS
'whether the session that took a lock is still there; NULL on a standby';
GRANT EXECUTE ON FUNCTION tfstate_internal.session_alive(bigint) TO PUBLIC;

CREATE FUNCTION tfstate_internal.waiter_count(lockid text, mode text)
RETURNS integer
AS 'MODULE_PATHNAME', 'tfstate_waiter_count'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tfstate_internal.waiter_count(text, text) IS
'how many sessions wait for a lock that is held in the given mode; NULL on a standby';
GRANT EXECUTE ON FUNCTION tfstate_internal.waiter_count(text, text) TO PUBLIC;

CREATE FUNCTION tfstate_internal.session_locks()
RETURNS SETOF tfstate_internal.session_lock
AS 'MODULE_PATHNAME', 'tfstate_session_locks'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tfstate_internal.session_locks() IS
'the locks of living sessions that the current role may take or view; none on a standby';
GRANT EXECUTE ON FUNCTION tfstate_internal.session_locks() TO PUBLIC;

CREATE VIEW @extschema@.tfstate_holders WITH (security_barrier) AS
SELECT l.lockid,
	   l.info OPERATOR(pg_catalog.->>) 'Who' AS who,
	   l.info OPERATOR(pg_catalog.->>) 'Operation' AS operation,
	   tfstate_internal.age(l.created) AS age,
	   l.mode,
	   tfstate_internal.waiter_count(l.lockid,
			CASE WHEN l.key IS NULL AND l.unlock_key IS NOT NULL THEN 'tied' ELSE l.mode END) AS waiters,
	   l.id,
	   l.fence,
	   tfstate_internal.session_alive(l.session) AS session_alive,
	   date_trunc('second', l.created) AS created,
	   date_trunc('second', l.expires_at) AS expires_at,
	   coalesce(nullif(l.role::text, 'none'), l.role_name) AS role,
	   l.application_name,
	   l.client_addr,
	   l.pid,
	   l.info,
	   l.login_role
  FROM (SELECT 'durable' AS mode, d.*
		  FROM tfstate_internal.durable_lock d
		UNION ALL
		SELECT 'session', s.*
		  FROM tfstate_internal.session_locks() s) l
 WHERE (SELECT tfstate_internal.tell_if_blind('see'))
   AND (l.expires_at IS NULL OR l.expires_at > clock_timestamp())
   AND (@extschema@.tfstate_has_privilege(l.lockid, 'view') OR @extschema@.tfstate_has_privilege(l.lockid, 'lock'));
COMMENT ON VIEW @extschema@.tfstate_holders IS
'the locks that are held, one row each';
COMMENT ON COLUMN @extschema@.tfstate_holders.lockid IS 'what is locked';
COMMENT ON COLUMN @extschema@.tfstate_holders.who IS 'the holder, as the client calls itself';
COMMENT ON COLUMN @extschema@.tfstate_holders.operation IS 'what the lock was taken for, as the client says';
COMMENT ON COLUMN @extschema@.tfstate_holders.age IS 'for how long the lock has been held';
COMMENT ON COLUMN @extschema@.tfstate_holders.mode IS 'durable, or session: ends with the session that took it';
COMMENT ON COLUMN @extschema@.tfstate_holders.waiters IS 'how many sessions wait for the lock; NULL on a standby';
COMMENT ON COLUMN @extschema@.tfstate_holders.id IS 'the ID of this holding, which unlocks it';
COMMENT ON COLUMN @extschema@.tfstate_holders.fence IS 'the fence of this holding';
COMMENT ON COLUMN @extschema@.tfstate_holders.session_alive IS
'whether the session that took the lock is still there; NULL on a standby';
COMMENT ON COLUMN @extschema@.tfstate_holders.created IS 'when the lock was taken';
COMMENT ON COLUMN @extschema@.tfstate_holders.expires_at IS 'when the lease ends; NULL if the lock is no lease';
COMMENT ON COLUMN @extschema@.tfstate_holders.role IS 'the role that took the lock, by its name today';
COMMENT ON COLUMN @extschema@.tfstate_holders.application_name IS 'the application_name of that session';
COMMENT ON COLUMN @extschema@.tfstate_holders.client_addr IS 'the address of its client; NULL for a local socket';
COMMENT ON COLUMN @extschema@.tfstate_holders.pid IS 'its server process';
COMMENT ON COLUMN @extschema@.tfstate_holders.info IS 'the whole lock info';
COMMENT ON COLUMN @extschema@.tfstate_holders.login_role IS 'the role that the session had logged in as';
REVOKE ALL ON @extschema@.tfstate_holders FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_holders TO PUBLIC;

-- The functions beside the views find a text without a star by an index.  A query has
-- a branch for each kind of text, and only one of them runs.  Here JIT would take longer
-- to compile both than the look-up takes.
CREATE FUNCTION @extschema@.tfstate_holders(pattern text)
RETURNS SETOF @extschema@.tfstate_holders
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
SET jit = off
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
'the sessions that wait for a lock, one row each';
COMMENT ON COLUMN @extschema@.tfstate_waiters.lockid IS 'what the session waits for';
COMMENT ON COLUMN @extschema@.tfstate_waiters."position" IS 'its place in the queue; 1 is served next';
COMMENT ON COLUMN @extschema@.tfstate_waiters.pid IS 'its server process';
COMMENT ON COLUMN @extschema@.tfstate_waiters.role IS 'its role';
COMMENT ON COLUMN @extschema@.tfstate_waiters.application_name IS 'its application_name';
COMMENT ON COLUMN @extschema@.tfstate_waiters.client_addr IS 'the address of its client; NULL for a local socket';
COMMENT ON COLUMN @extschema@.tfstate_waiters.since IS 'when it began to wait';
REVOKE ALL ON @extschema@.tfstate_waiters FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_waiters TO PUBLIC;

-- The order is that of an index, so that the newest rows are found without reading all.
CREATE VIEW @extschema@.tfstate_history WITH (security_barrier) AS
SELECT r.lockid,
	   r.info OPERATOR(pg_catalog.->>) 'Who' AS who,
	   r.info OPERATOR(pg_catalog.->>) 'Operation' AS operation,
	   date_trunc('second', r.created) AS created,
	   date_trunc('second', r.released_at) AS released_at,
	   r.how,
	   r.released_by,
	   r.reason,
	   r.mode,
	   r.id,
	   r.fence,
	   date_trunc('second', r.expires_at) AS expires_at,
	   coalesce(nullif(r.role::text, 'none'), r.role_name) AS role,
	   r.application_name,
	   r.client_addr,
	   r.pid,
	   r.info,
	   r.login_role
  FROM tfstate_internal.released_lock r
 WHERE (SELECT tfstate_internal.tell_if_blind('view'))
   AND @extschema@.tfstate_has_privilege(r.lockid, 'view')
 ORDER BY r.released_at DESC;
COMMENT ON VIEW @extschema@.tfstate_history IS
'the finished holdings that are kept, one row each, the newest first';
COMMENT ON COLUMN @extschema@.tfstate_history.lockid IS 'what was locked';
COMMENT ON COLUMN @extschema@.tfstate_history.who IS 'the holder, as the client called itself';
COMMENT ON COLUMN @extschema@.tfstate_history.operation IS 'what the lock was taken for, as the client said';
COMMENT ON COLUMN @extschema@.tfstate_history.created IS 'when the lock was taken';
COMMENT ON COLUMN @extschema@.tfstate_history.released_at IS 'when the holding ended';
COMMENT ON COLUMN @extschema@.tfstate_history.how IS
'how it ended: unlock, force, expired, or reclaimed: left by a session that is gone';
COMMENT ON COLUMN @extschema@.tfstate_history.released_by IS 'who ended it';
COMMENT ON COLUMN @extschema@.tfstate_history.reason IS 'why it was ended by force, as that caller said';
COMMENT ON COLUMN @extschema@.tfstate_history.mode IS 'durable or session';
COMMENT ON COLUMN @extschema@.tfstate_history.id IS 'the ID of the holding';
COMMENT ON COLUMN @extschema@.tfstate_history.fence IS 'the fence of the holding';
COMMENT ON COLUMN @extschema@.tfstate_history.expires_at IS 'when the lease was to end; NULL if the lock was no lease';
COMMENT ON COLUMN @extschema@.tfstate_history.role IS 'the role that took the lock, by its name today';
COMMENT ON COLUMN @extschema@.tfstate_history.application_name IS 'the application_name of the session that took it';
COMMENT ON COLUMN @extschema@.tfstate_history.client_addr IS 'the address of its client; NULL for a local socket';
COMMENT ON COLUMN @extschema@.tfstate_history.pid IS 'its server process';
COMMENT ON COLUMN @extschema@.tfstate_history.info IS 'the whole lock info';
COMMENT ON COLUMN @extschema@.tfstate_history.login_role IS 'the role that the session had logged in as';
REVOKE ALL ON @extschema@.tfstate_history FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_history TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_history(pattern text, newest bigint DEFAULT NULL)
RETURNS SETOF @extschema@.tfstate_history
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE
BEGIN ATOMIC
	(SELECT h.* FROM @extschema@.tfstate_history h
	  WHERE strpos(pattern, '*') = 0 AND h.lockid = pattern COLLATE "C"
	  LIMIT tfstate_history.newest)
	UNION ALL
	(SELECT h.* FROM @extschema@.tfstate_history h
	  WHERE strpos(pattern, '*') > 0 AND @extschema@.tfstate_matches(h.lockid, pattern)
	  LIMIT tfstate_history.newest)
	ORDER BY released_at DESC, fence DESC;
END;
COMMENT ON FUNCTION @extschema@.tfstate_history(text, bigint) IS
'the finished holdings whose lockid matches a pattern, the newest first: as many as asked for, or all';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_history(text, bigint) TO PUBLIC;

--
-- Freezing patterns of lockids.
--

CREATE TABLE tfstate_internal.freeze (
	pattern text COLLATE "C" PRIMARY KEY,
	reason text NOT NULL,
	who text NOT NULL,
	role tfstate_internal.role NOT NULL,
	since timestamptz NOT NULL,
	until timestamptz,
	exempt tfstate_internal.role[] NOT NULL DEFAULT '{}',
	builtin_pids integer[] NOT NULL DEFAULT '{}'
) USING heap;
COMMENT ON TABLE tfstate_internal.freeze IS
'the patterns of lockids that are frozen, and some that no longer are';
COMMENT ON COLUMN tfstate_internal.freeze.until IS
'when the freeze ends by itself; NULL if it does not';
COMMENT ON COLUMN tfstate_internal.freeze.exempt IS
'the roles that may lock all the same, and write what they have locked';
COMMENT ON COLUMN tfstate_internal.freeze.builtin_pids IS
'the processes that had the built-in lock of a workspace below the pattern when it was frozen';
REVOKE ALL ON tfstate_internal.freeze FROM PUBLIC;

-- A restored database stays frozen until the same time.
SELECT pg_extension_config_dump('tfstate_internal.freeze', '');

CREATE FUNCTION tfstate_internal.report_freeze()
RETURNS trigger
AS 'MODULE_PATHNAME', 'tfstate_report_freeze'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.report_freeze() IS
'trigger of the table freeze: all sessions look at it again';
REVOKE EXECUTE ON FUNCTION tfstate_internal.report_freeze() FROM PUBLIC;
CREATE TRIGGER report_freeze AFTER INSERT OR UPDATE OR DELETE ON tfstate_internal.freeze
	FOR EACH ROW EXECUTE FUNCTION tfstate_internal.report_freeze();
ALTER TABLE tfstate_internal.freeze ENABLE ALWAYS TRIGGER report_freeze;
COMMENT ON TRIGGER report_freeze ON tfstate_internal.freeze IS
'sessions that know the table to be empty look at it again';

CREATE FUNCTION @extschema@.tfstate_freeze(
	pattern text,
	reason text,
	until timestamptz DEFAULT NULL,
	exempt name[] DEFAULT NULL,
	OUT lockid text,
	OUT who text,
	OUT operation text,
	OUT created timestamptz,
	OUT mode text,
	OUT id text,
	OUT role text,
	OUT pid integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_freeze'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_freeze(text, text, timestamptz, name[]) IS
'refuse new locks and writes below a pattern, for maintenance, and return the holders that go on';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_freeze(text, text, timestamptz, name[]) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_unfreeze(pattern text)
RETURNS void
AS 'MODULE_PATHNAME', 'tfstate_unfreeze'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_unfreeze(text) IS
'end the freeze of a pattern';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_unfreeze(text) TO PUBLIC;

CREATE VIEW @extschema@.tfstate_freezes AS
SELECT f.pattern,
	   f.reason,
	   f.who,
	   f.role::text AS role,
	   date_trunc('second', f.since) AS since,
	   date_trunc('second', f.until) AS until,
	   f.exempt::text[] AS exempt
  FROM tfstate_internal.freeze f
 WHERE f.until IS NULL OR f.until > clock_timestamp();
COMMENT ON VIEW @extschema@.tfstate_freezes IS
'the patterns that are frozen, one row each';
COMMENT ON COLUMN @extschema@.tfstate_freezes.pattern IS 'the lockids; * stands for any text';
COMMENT ON COLUMN @extschema@.tfstate_freezes.reason IS 'why they are frozen';
COMMENT ON COLUMN @extschema@.tfstate_freezes.who IS 'who froze them, as the client calls itself';
COMMENT ON COLUMN @extschema@.tfstate_freezes.role IS 'the role that froze them; none if it was dropped';
COMMENT ON COLUMN @extschema@.tfstate_freezes.since IS 'since when';
COMMENT ON COLUMN @extschema@.tfstate_freezes.until IS 'until when; NULL: until tfstate_unfreeze()';
COMMENT ON COLUMN @extschema@.tfstate_freezes.exempt IS
'the roles that may lock all the same, and write what they have locked';
REVOKE ALL ON @extschema@.tfstate_freezes FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_freezes TO PUBLIC;

--
-- The shim: two functions that an unmodified Terraform or OpenTofu finds before the
-- built-in ones of the same name, because its search_path has tfstate_pg first.
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
'lock the workspace that has this id, or do as the built-in function does';
GRANT EXECUTE ON FUNCTION tfstate_pg.pg_try_advisory_lock(bigint) TO PUBLIC;

CREATE FUNCTION tfstate_pg.pg_advisory_unlock(bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_pg_advisory_unlock'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_pg.pg_advisory_unlock(bigint) IS
'unlock the workspace that has this id, or do as the built-in function does';
GRANT EXECUTE ON FUNCTION tfstate_pg.pg_advisory_unlock(bigint) TO PUBLIC;

--
-- The attached tables, the roles that use them, and the versions of states.
--

CREATE TABLE tfstate_internal.attached_table (
	relid regclass PRIMARY KEY,
	attached_by text NOT NULL,
	attached_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	guard text NOT NULL DEFAULT 'require' CHECK (guard IN ('off', 'on', 'require')),
	keep_versions integer CHECK (keep_versions > 0),
	keep_age interval CHECK (keep_age >= '0'),
	name text NOT NULL,
	default_workspace boolean NOT NULL DEFAULT true,
	compressed boolean NOT NULL DEFAULT false,
	mode text CHECK (mode IN ('session', 'durable')),
	wait interval CHECK (wait BETWEEN '0' AND '24 days')
) USING heap;
COMMENT ON TABLE tfstate_internal.attached_table IS
'the tables of Terraform states whose workspaces are locked and guarded by tfstate';
COMMENT ON COLUMN tfstate_internal.attached_table.guard IS
'the least value of tfstate.guard for writes to this table';
COMMENT ON COLUMN tfstate_internal.attached_table.keep_versions IS
'how many versions of a state are kept; NULL keeps all';
COMMENT ON COLUMN tfstate_internal.attached_table.keep_age IS
'for how long versions of a state are kept; NULL keeps all';
COMMENT ON COLUMN tfstate_internal.attached_table.name IS
'the name under which the table was attached; its lockids begin with it';
COMMENT ON COLUMN tfstate_internal.attached_table.default_workspace IS
'whether tfstate_attach() creates a missing workspace "default", which an OpenTofu that encrypts states cannot read';
COMMENT ON COLUMN tfstate_internal.attached_table.compressed IS
'whether tfstate_attach() has set the compression of data';
COMMENT ON COLUMN tfstate_internal.attached_table.mode IS
'the mode of Terraform''s locks where a session sets none; NULL leaves it to tfstate.mode';
COMMENT ON COLUMN tfstate_internal.attached_table.wait IS
'how long Terraform waits for its locks where a session does not set that; NULL leaves it to tfstate.wait';
REVOKE ALL ON tfstate_internal.attached_table FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.attached_table',
	'WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = relid)');

CREATE TABLE tfstate_internal.attached_role (
	relid regclass,
	role tfstate_internal.role,
	role_name text COLLATE "C",
	access text NOT NULL DEFAULT 'write' CHECK (access IN ('write', 'plan')),
	by_database boolean NOT NULL DEFAULT false,
	PRIMARY KEY (relid, role, role_name)
) USING heap;
COMMENT ON TABLE tfstate_internal.attached_role IS
'the roles that tfstate_attach() has made ready for Terraform, one row for each table';
COMMENT ON COLUMN tfstate_internal.attached_role.role_name IS
'the name of the role when that was done';
COMMENT ON COLUMN tfstate_internal.attached_role.access IS
'write, or plan for a role that reads and locks only';
COMMENT ON COLUMN tfstate_internal.attached_role.by_database IS
'whether tfstate_attach_database() has done that, and not tfstate_attach()';
REVOKE ALL ON tfstate_internal.attached_role FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.attached_role',
	'WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = relid)
	   AND EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = role)');

-- A role gets a right once, for the first of its tables that needs it; when that table is
-- detached and another one still needs it, the row passes on to that one.  A setting is for
-- all tables: its relid is 0, and its role is 0, too, if it is one of the database.  No row
-- depends on the OID of anything but the table and the role.
CREATE TABLE tfstate_internal.given (
	relid regclass,
	role tfstate_internal.role,
	role_name text COLLATE "C",
	kind text COLLATE "C" CHECK (kind IN ('table', 'schema', 'sequence', 'shim', 'database', 'lock', 'setting')),
	object text COLLATE "C",
	value text,
	replaced text,
	PRIMARY KEY (relid, role, role_name, kind, object)
) USING heap;
COMMENT ON TABLE tfstate_internal.given IS
'what tfstate_attach() has given to roles that did not have it, for tfstate_detach() to take back';
COMMENT ON COLUMN tfstate_internal.given.kind IS
'a setting of the role or of everybody in this database, a lock for a grant of tfstate, or what the right is on';
COMMENT ON COLUMN tfstate_internal.given.object IS
'the name of the setting, or the privilege';
COMMENT ON COLUMN tfstate_internal.given.value IS
'the value of the setting, the schema, or the pattern of the grant';
COMMENT ON COLUMN tfstate_internal.given.replaced IS
'the value that the setting had before; NULL if it was not set';
REVOKE ALL ON tfstate_internal.given FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.given',
	'WHERE (relid = 0 OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = relid))
	   AND (role = 0 OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = role))');

CREATE VIEW @extschema@.tfstate_tables AS
SELECT n.nspname::text AS schema,
	   c.relname::text AS "table",
	   t.mode, t.wait, t.guard, t.keep_versions, t.keep_age, t.default_workspace,
	   ARRAY(SELECT a.role::text FROM tfstate_internal.attached_role a
			  WHERE a.relid = t.relid AND a.role::text <> 'none' ORDER BY a.role::text COLLATE "C") AS roles,
	   t.attached_by,
	   date_trunc('second', t.attached_at) AS attached_at
  FROM tfstate_internal.attached_table t
	   JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace;
COMMENT ON VIEW @extschema@.tfstate_tables IS
'the attached tables, one row each, with what tfstate_attach() was told for them';
COMMENT ON COLUMN @extschema@.tfstate_tables.schema IS 'the schema of the table';
COMMENT ON COLUMN @extschema@.tfstate_tables."table" IS 'its name there';
COMMENT ON COLUMN @extschema@.tfstate_tables.mode IS
'the mode of Terraform''s locks, where a session sets none; NULL leaves it to tfstate.mode';
COMMENT ON COLUMN @extschema@.tfstate_tables.wait IS
'how long Terraform waits for its locks, where a session does not set that; NULL leaves it to tfstate.wait';
COMMENT ON COLUMN @extschema@.tfstate_tables.guard IS 'the least value of tfstate.guard for writes';
COMMENT ON COLUMN @extschema@.tfstate_tables.keep_versions IS 'how many versions of a state are kept; NULL keeps all';
COMMENT ON COLUMN @extschema@.tfstate_tables.keep_age IS 'for how long versions are kept; NULL keeps all';
COMMENT ON COLUMN @extschema@.tfstate_tables.default_workspace IS
'whether tfstate_attach() creates a missing workspace "default"';
COMMENT ON COLUMN @extschema@.tfstate_tables.roles IS 'the roles that tfstate_attach() has made ready for it';
COMMENT ON COLUMN @extschema@.tfstate_tables.attached_by IS 'the role that attached it';
COMMENT ON COLUMN @extschema@.tfstate_tables.attached_at IS 'when it was attached';
REVOKE ALL ON @extschema@.tfstate_tables FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_tables TO PUBLIC;

-- The content is compressed already.
CREATE TABLE tfstate_internal.stored_version (
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
	erased_at timestamptz,
	erased_by text,
	erase_reason text,
	PRIMARY KEY (lockid, number)
) USING heap;
ALTER TABLE tfstate_internal.stored_version ALTER COLUMN content SET STORAGE EXTERNAL;
COMMENT ON TABLE tfstate_internal.stored_version IS
'the recorded versions of states, one row each';
COMMENT ON COLUMN tfstate_internal.stored_version.chain IS
'0 for a full copy; else content is a delta to the version before, and a full copy is so many versions back';
COMMENT ON COLUMN tfstate_internal.stored_version.erased_at IS
'when tfstate_erase() has removed text and digests; NULL if it has not';
REVOKE ALL ON tfstate_internal.stored_version FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.stored_version', '');

--
-- What functions for administrators are made of.  A function that users call, a C function,
-- calls the one of the same name in tfstate_internal with the rights of the owner of tfstate.
-- That one asks here what the caller may do, and runs with as_caller() whatever touches
-- objects that are not tfstate's: no statement of it reads or changes such a table directly.
-- See src/common/caller.c.
--

CREATE FUNCTION tfstate_internal.as_caller(command text)
RETURNS text
AS 'MODULE_PATHNAME', 'tfstate_as_caller'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.as_caller(text) IS
'run a command with the rights of the role that called a function for administrators';
REVOKE EXECUTE ON FUNCTION tfstate_internal.as_caller(text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.caller()
RETURNS name
AS 'MODULE_PATHNAME', 'tfstate_calling_role'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tfstate_internal.caller() IS
'the role that called a function for administrators';
REVOKE EXECUTE ON FUNCTION tfstate_internal.caller() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.caller_is_owner()
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_caller_is_owner'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tfstate_internal.caller_is_owner() IS
'whether that role is a superuser or has the rights of the owner of tfstate';
REVOKE EXECUTE ON FUNCTION tfstate_internal.caller_is_owner() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.caller_may(privilege text, pattern text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_caller_may'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tfstate_internal.caller_may(text, text) IS
'whether that role has a privilege for all lockids that a pattern matches';
REVOKE EXECUTE ON FUNCTION tfstate_internal.caller_may(text, text) FROM PUBLIC;

-- The owner of a table may grant what is below it, under the name that it is attached as.
CREATE FUNCTION tfstate_internal.caller_owns(pattern text)
RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid
				WHERE starts_with(pattern, t.name || '/') AND strpos(t.name, '*') = 0
				  AND t.name = tfstate_internal.table_name(t.relid)
				  AND pg_has_role(tfstate_internal.caller(), c.relowner, 'USAGE'))
$$;
COMMENT ON FUNCTION tfstate_internal.caller_owns(text) IS
'whether the role that called a function for administrators owns the attached table that a pattern is about';

CREATE FUNCTION tfstate_internal.quoted_name(schema text, "table" text)
RETURNS text
AS 'MODULE_PATHNAME', 'tfstate_quoted_name'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tfstate_internal.quoted_name(text, text) IS
'the name of a table, perhaps one that does not exist, in lockids';
REVOKE EXECUTE ON FUNCTION tfstate_internal.quoted_name(text, text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.require_administrator(schema text, "table" text)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pattern text := tfstate_internal.quoted_name(schema, "table") || '/*';
BEGIN
	IF NOT tfstate_internal.caller_may('admin', pattern) THEN
		RAISE EXCEPTION 'permission denied to attach or detach table "%"', format('%I.%I', schema, "table")
			USING ERRCODE = 'insufficient_privilege',
				  DETAIL = format('Role "%s" has no grant of privilege "admin" that covers "%s".',
								  tfstate_internal.caller(), pattern),
				  HINT = format('An administrator can give it with: SELECT %s(%L, %L, ''admin'')',
								tfstate_internal.qualified('tfstate_grant'), tfstate_internal.caller(), pattern);
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.require_administrator(text, text) IS
'error unless the role that called a function for administrators may attach and detach a table of this name';
REVOKE EXECUTE ON FUNCTION tfstate_internal.require_administrator(text, text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.require_owner(rel regclass)
RETURNS void
LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	owner oid := (SELECT c.relowner FROM pg_class c WHERE c.oid = rel);
BEGIN
	IF NOT tfstate_internal.caller_is_owner() AND NOT pg_has_role(tfstate_internal.caller(), owner, 'USAGE') THEN
		RAISE EXCEPTION 'must be owner of table %', rel
			USING ERRCODE = 'insufficient_privilege',
				  HINT = format('Role "%s" and superusers can attach and detach it.', pg_get_userbyid(owner));
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.require_owner(regclass) IS
'error unless the role that called a function for administrators owns a table';
REVOKE EXECUTE ON FUNCTION tfstate_internal.require_owner(regclass) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.covered_tables()
RETURNS SETOF regclass
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT t.relid
  FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid
 WHERE tfstate_internal.caller_is_owner()
	OR pg_has_role(tfstate_internal.caller(), c.relowner, 'USAGE')
	OR tfstate_internal.caller_may('admin', tfstate_internal.table_name(t.relid) || '/*')
$$;
COMMENT ON FUNCTION tfstate_internal.covered_tables() IS
'part of tfstate_check(): the attached tables that the role which called it administers or owns';
REVOKE EXECUTE ON FUNCTION tfstate_internal.covered_tables() FROM PUBLIC;

--
-- The trigger of attached tables.
--

CREATE FUNCTION tfstate_internal.guard()
RETURNS trigger
AS 'MODULE_PATHNAME', 'tfstate_guard'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.guard() IS
'trigger of attached tables: refuse writes against the lock, the serial or the lineage, and record versions';
REVOKE EXECUTE ON FUNCTION tfstate_internal.guard() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.record_states("table" regclass)
RETURNS void
AS 'MODULE_PATHNAME', 'tfstate_record_states'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.record_states(regclass) IS
'part of tfstate_attach(): record the states of a table that is locked against writes';
REVOKE EXECUTE ON FUNCTION tfstate_internal.record_states(regclass) FROM PUBLIC;

--
-- The workspaces, and their states as they are now.
--

CREATE FUNCTION @extschema@.tfstate_states(
	pattern text DEFAULT '*',
	OUT workspace text,
	OUT "table" regclass,
	OUT id bigint,
	OUT serial bigint,
	OUT lineage text,
	OUT terraform_version text,
	OUT size bigint,
	OUT encrypted boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_states'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_states(text) IS
'the workspaces of the attached tables whose lockid matches a pattern, with what their states say of themselves';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_states(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_lockid(
	schema text DEFAULT 'terraform_remote_state',
	"table" text DEFAULT 'states',
	workspace text DEFAULT 'default')
RETURNS text
AS 'MODULE_PATHNAME', 'tfstate_lockid'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_lockid(text, text, text) IS
'the lockid of a workspace, existing or not, of an attached table; NULL if the table is not attached';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_lockid(text, text, text) TO PUBLIC;

CREATE VIEW @extschema@.tfstate_workspaces WITH (security_barrier) AS
SELECT s.workspace,
	   s.serial,
	   v.resources,
	   s.size,
	   date_trunc('second', v.created) AS written_at,
	   v.who AS written_by,
	   h.who AS locked_by,
	   h.operation AS locked_for,
	   h.created AS locked_at,
	   s.terraform_version,
	   s.lineage,
	   v.number AS version,
	   s."table",
	   s.id,
	   s.encrypted
  FROM @extschema@.tfstate_states('*') s
  LEFT JOIN LATERAL (SELECT n.*
					   FROM tfstate_internal.stored_version n
					  WHERE n.lockid = s.workspace COLLATE "C"
					  ORDER BY n.number DESC
					  LIMIT 1) v ON true
  LEFT JOIN @extschema@.tfstate_holders h ON h.lockid = s.workspace COLLATE "C";
COMMENT ON VIEW @extschema@.tfstate_workspaces IS
'the workspaces of all attached tables, one row each: state, last write and lock';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.workspace IS 'the workspace, by its lockid';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.serial IS 'the serial of its state';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.resources IS 'how many instances of resources its state has';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.size IS 'how many bytes its state has';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.written_at IS 'when its newest version was recorded';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.written_by IS 'who wrote that, as the client calls itself';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.locked_by IS 'the holder of its lock; NULL if nobody holds it';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.locked_for IS 'what the lock was taken for';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.locked_at IS 'when the lock was taken';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.terraform_version IS
'the version of Terraform or OpenTofu that made the state';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.lineage IS 'the lineage of its state';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.version IS 'the number of its newest version';
COMMENT ON COLUMN @extschema@.tfstate_workspaces."table" IS 'its table';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.id IS 'its id there, which Terraform locks';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.encrypted IS 'whether OpenTofu has encrypted its state';
REVOKE ALL ON @extschema@.tfstate_workspaces FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_workspaces TO PUBLIC;

--
-- The recorded versions: reading, restoring, verifying and pruning them.
--

CREATE VIEW @extschema@.tfstate_versions WITH (security_barrier) AS
SELECT v.lockid AS workspace,
	   v.number,
	   v.operation,
	   v.serial,
	   date_trunc('second', v.created) AS created,
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
	   v.client_addr,
	   date_trunc('second', v.erased_at) AS erased_at,
	   v.erased_by,
	   v.erase_reason
  FROM tfstate_internal.stored_version v
 WHERE (SELECT tfstate_internal.tell_if_blind('view'))
   AND @extschema@.tfstate_has_privilege(v.lockid, 'view');
COMMENT ON VIEW @extschema@.tfstate_versions IS
'the recorded versions of states, one row each';
COMMENT ON COLUMN @extschema@.tfstate_versions.workspace IS 'the workspace, by its lockid';
COMMENT ON COLUMN @extschema@.tfstate_versions.number IS 'the number of the version in its workspace';
COMMENT ON COLUMN @extschema@.tfstate_versions.operation IS 'write, delete, or found: it was in the table already';
COMMENT ON COLUMN @extschema@.tfstate_versions.serial IS 'the serial of the state; NULL for a deletion';
COMMENT ON COLUMN @extschema@.tfstate_versions.created IS 'when it was recorded';
COMMENT ON COLUMN @extschema@.tfstate_versions.who IS 'who wrote it, as the client calls itself';
COMMENT ON COLUMN @extschema@.tfstate_versions.lock_operation IS
'what the lock was taken for under which it was written';
COMMENT ON COLUMN @extschema@.tfstate_versions.resources IS 'how many instances of resources it has';
COMMENT ON COLUMN @extschema@.tfstate_versions.size IS 'how many bytes the state has';
COMMENT ON COLUMN @extschema@.tfstate_versions.stored IS 'how many bytes the version takes';
COMMENT ON COLUMN @extschema@.tfstate_versions.fence IS
'the fence of the lock under which it was written; NULL without a lock';
COMMENT ON COLUMN @extschema@.tfstate_versions.lock_id IS 'the ID of that lock';
COMMENT ON COLUMN @extschema@.tfstate_versions.lock_who IS 'the holder of that lock';
COMMENT ON COLUMN @extschema@.tfstate_versions.terraform_version IS
'the version of Terraform or OpenTofu that made the state';
COMMENT ON COLUMN @extschema@.tfstate_versions.lineage IS 'the lineage of the state';
COMMENT ON COLUMN @extschema@.tfstate_versions.sha256 IS 'the SHA-256 digest of the state';
COMMENT ON COLUMN @extschema@.tfstate_versions.md5 IS 'the MD5 digest of the state';
COMMENT ON COLUMN @extschema@.tfstate_versions.role IS 'the role that wrote it';
COMMENT ON COLUMN @extschema@.tfstate_versions.application_name IS 'the application_name of the session that wrote it';
COMMENT ON COLUMN @extschema@.tfstate_versions.client_addr IS 'the address of its client; NULL for a local socket';
COMMENT ON COLUMN @extschema@.tfstate_versions.erased_at IS 'when its text was erased; NULL if it was not';
COMMENT ON COLUMN @extschema@.tfstate_versions.erased_by IS 'who erased it';
COMMENT ON COLUMN @extschema@.tfstate_versions.erase_reason IS 'why, as that caller said';
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
'the text of a version, byte for byte';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_version(text, bigint) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_rollback(workspace text, number bigint)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_rollback'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_rollback(text, bigint) IS
'write a version as the new state of its workspace, and return the number of the version that this records';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_rollback(text, bigint) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_undelete(workspace text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_undelete'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_undelete(text) IS
'bring back a deleted workspace, and return the number of the version that this records';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_undelete(text) TO PUBLIC;

CREATE FUNCTION tfstate_internal.verify_workspace(
	workspace text,
	versions boolean,
	named boolean,
	OUT version bigint,
	OUT problem text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_verify_workspace'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tfstate_internal.verify_workspace(text, boolean, boolean) IS
'part of tfstate_verify(): the damage to one workspace in the snapshot of the statement';
GRANT EXECUTE ON FUNCTION tfstate_internal.verify_workspace(text, boolean, boolean) TO PUBLIC;

-- A workspace whose table is no longer attached is examined if it is named.
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
	 CROSS JOIN LATERAL tfstate_internal.verify_workspace(w.workspace, tfstate_verify.versions,
															w.workspace = tfstate_verify.pattern COLLATE "C") p
	 ORDER BY w.workspace COLLATE "C", p.version;
END;
COMMENT ON FUNCTION @extschema@.tfstate_verify(text, boolean) IS
'verify what is stored: report states that differ from their newest version and, if asked, damaged versions';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_verify(text, boolean) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_repair(workspace text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_repair'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_repair(text) IS
'repair what tfstate_verify() has reported: record the state in the table as the newest version, and return its number';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_repair(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_erase(workspace text, versions bigint[], reason text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_erase'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_erase(text, bigint[], text) IS
'erase the texts of versions for good, of all but the current one for NULL, and return how many there were';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_erase(text, bigint[], text) TO PUBLIC;

CREATE FUNCTION tfstate_internal.prune_workspace(workspace text, keep_versions integer, keep_age interval)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_prune_workspace'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.prune_workspace(text, integer, interval) IS
'part of tfstate_prune(): delete the old versions of one workspace';
REVOKE EXECUTE ON FUNCTION tfstate_internal.prune_workspace(text, integer, interval) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_prune(
	pattern text DEFAULT '*',
	keep_versions integer DEFAULT NULL,
	keep_age interval DEFAULT NULL)
RETURNS bigint
LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT coalesce(sum(tfstate_internal.prune_workspace(w.lockid, tfstate_prune.keep_versions,
														 tfstate_prune.keep_age)), 0)::bigint
	  FROM (SELECT DISTINCT v.lockid
			  FROM tfstate_internal.stored_version v
			 WHERE @extschema@.tfstate_matches(v.lockid, tfstate_prune.pattern)
			 ORDER BY v.lockid) w;
END;
COMMENT ON FUNCTION @extschema@.tfstate_prune(text, integer, interval) IS
'delete the versions that need not be kept, and return how many there were';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_prune(text, integer, interval) FROM PUBLIC;

-- A procedure that commits cannot set search_path, so every name is qualified.
CREATE PROCEDURE @extschema@.tfstate_prune_in_batches(
	pattern text DEFAULT '*',
	keep_versions integer DEFAULT NULL,
	keep_age interval DEFAULT NULL,
	INOUT pruned bigint DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
	workspace text;
	batch integer;
	looked_at integer := 0;
BEGIN
	pruned := 0;
	PERFORM tfstate_internal.matches('', '');	-- loads the library, which has the setting
	batch := pg_catalog.current_setting('tfstate.max_session_locks');
	FOR workspace IN
		SELECT DISTINCT v.lockid COLLATE "C"
		  FROM tfstate_internal.stored_version v
		 WHERE tfstate_internal.matches(v.lockid, tfstate_prune_in_batches.pattern)
		 ORDER BY 1
	LOOP
		pruned := pruned OPERATOR(pg_catalog.+)
			tfstate_internal.prune_workspace(workspace, tfstate_prune_in_batches.keep_versions,
											 tfstate_prune_in_batches.keep_age);
		looked_at := looked_at OPERATOR(pg_catalog.+) 1;
		IF looked_at OPERATOR(pg_catalog.%) pg_catalog.int4smaller(batch, 100) OPERATOR(pg_catalog.=) 0 THEN
			COMMIT;
		END IF;
	END LOOP;
END;
$$;
COMMENT ON PROCEDURE @extschema@.tfstate_prune_in_batches(text, integer, interval, bigint) IS
'delete the versions that need not be kept of any number of workspaces, and commit after each hundred of these';
REVOKE EXECUTE ON PROCEDURE @extschema@.tfstate_prune_in_batches(text, integer, interval, bigint) FROM PUBLIC;

--
-- What the states contain.
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
'what was added, removed and changed from one version of a workspace to another, or to its state now';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_diff(text, bigint, bigint) TO PUBLIC;

--
-- The rights that other roles have on an object.
--

CREATE FUNCTION tfstate_internal.rights(
	classid oid,
	objid oid,
	OUT object text,
	OUT owner oid,
	OUT grantee oid,
	OUT privilege text,
	OUT usual boolean)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT o.kind || o.name, o.owner, a.grantee, a.privilege_type || o.suffix,
	   EXISTS (SELECT FROM aclexplode(coalesce((SELECT i.initprivs FROM pg_init_privs i
												 WHERE (i.classoid, i.objoid, i.objsubid) =
													   (rights.classid, rights.objid, 0)),
											   acldefault(o.type, o.owner))) u
				WHERE o.suffix = '' AND u.grantee IN (0, a.grantee) AND u.privilege_type = a.privilege_type)
  FROM (SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END AS kind, c.oid::regclass::text AS name,
			   c.relacl AS acl, c.relowner AS owner, CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END AS type,
			   '' AS suffix
		  FROM pg_class c WHERE rights.classid = 'pg_class'::regclass AND c.oid = rights.objid
		UNION ALL
		SELECT 'TABLE ', c.oid::regclass::text, a.attacl, c.relowner, 'c', format(' (%I)', a.attname)
		  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		 WHERE rights.classid = 'pg_class'::regclass AND c.oid = rights.objid AND a.attacl IS NOT NULL
		UNION ALL
		SELECT 'ROUTINE ', p.oid::regprocedure::text, p.proacl, p.proowner, 'f', ''
		  FROM pg_proc p WHERE rights.classid = 'pg_proc'::regclass AND p.oid = rights.objid
		UNION ALL
		SELECT 'TYPE ', t.oid::regtype::text, t.typacl, t.typowner, 'T', ''
		  FROM pg_type t WHERE rights.classid = 'pg_type'::regclass AND t.oid = rights.objid
		UNION ALL
		SELECT 'SCHEMA ', n.oid::regnamespace::text, n.nspacl, n.nspowner, 'n', ''
		  FROM pg_namespace n WHERE rights.classid = 'pg_namespace'::regclass AND n.oid = rights.objid) o,
	   aclexplode(o.acl) a
 WHERE a.grantee <> o.owner
$$;
COMMENT ON FUNCTION tfstate_internal.rights(oid, oid) IS
'the rights of others than its owner on an object, and whether it was created with them; grantee 0 is everybody';
REVOKE EXECUTE ON FUNCTION tfstate_internal.rights(oid, oid) FROM PUBLIC;

-- The default privileges of a database are not meant for states.
CREATE FUNCTION tfstate_internal.revoke_rights(classid oid, objid oid)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	command text;
BEGIN
	FOR command IN
		SELECT DISTINCT format('REVOKE ALL ON %s FROM %s', r.object,
							   CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r.grantee)) END)
		  FROM tfstate_internal.rights(revoke_rights.classid, revoke_rights.objid) r
	LOOP
		PERFORM tfstate_internal.as_caller(command);
	END LOOP;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.revoke_rights(oid, oid) IS
'part of tfstate_attach(): take away what default privileges have given to other roles on a new object';
REVOKE EXECUTE ON FUNCTION tfstate_internal.revoke_rights(oid, oid) FROM PUBLIC;

--
-- A table, or its schema, was renamed since it was attached.  Lockids begin with the name, so
-- the guard refuses every write until tfstate_attach() has taken along what is recorded under
-- the old one.
--

CREATE FUNCTION tfstate_internal.follow_rename(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
	new text := tfstate_internal.table_name(rel);
	old text := (SELECT t.name FROM tfstate_internal.attached_table t WHERE t.relid = rel);
	behind integer := length(old) + 1;
	other regclass;
	held record;
BEGIN
	-- What is recorded under the new name belongs to the table that was attached under it.
	SELECT t.relid INTO other FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid
	 WHERE t.name = new AND t.relid <> rel;
	IF FOUND THEN
		RAISE EXCEPTION 'another table was attached as % and renamed to %', new, other
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = format('Attach that one first: %s', tfstate_internal.attach_command(other, NULL));
	END IF;
	IF old = new OR old IS NULL THEN
		RETURN;
	END IF;

	-- No lock is taken until the end of this transaction, and those that are being taken are decided.
	LOCK TABLE tfstate_internal.durable_lock, tfstate_internal.session_lock IN SHARE ROW EXCLUSIVE MODE;
	SELECT l.lockid, l.info ->> 'Who' AS who INTO held
	  FROM (SELECT d.lockid, d.info FROM tfstate_internal.durable_lock d
			 WHERE d.expires_at IS NULL OR d.expires_at > clock_timestamp()
			 UNION ALL
			SELECT s.lockid, s.info FROM tfstate_internal.session_locks() s) l
	 WHERE starts_with(l.lockid, old || '/') OR starts_with(l.lockid, new || '/')
	 ORDER BY l.lockid COLLATE "C" LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'table % was renamed to % while state lock "%" is held by %', old, new, held.lockid, held.who
			USING ERRCODE = 'object_in_use',
				  HINT = format('Wait for the holder, or release the lock: SELECT %s(%L);',
								tfstate_internal.qualified('tfstate_force_unlock'), held.lockid);
	END IF;

	-- Where an earlier table of the new name has left versions, these stay the older ones.
	UPDATE tfstate_internal.stored_version v
	   SET lockid = new || substr(v.lockid, behind),
		   number = v.number + coalesce((SELECT max(n.number) FROM tfstate_internal.stored_version n
										  WHERE n.lockid = new || substr(v.lockid, behind)), 0)
	 WHERE starts_with(v.lockid, old || '/');
	UPDATE tfstate_internal.released_lock r SET lockid = new || substr(r.lockid, behind)
	 WHERE starts_with(r.lockid, old || '/');
	WITH moved AS (
		DELETE FROM tfstate_internal.privilege p WHERE starts_with(p.pattern, old || '/')
		RETURNING p.*)
	INSERT INTO tfstate_internal.privilege (role, pattern, privilege, grantor, granted_at, role_name)
	SELECT m.role, new || substr(m.pattern, behind), m.privilege, m.grantor, m.granted_at, m.role_name FROM moved m
	ON CONFLICT DO NOTHING;
	UPDATE tfstate_internal.freeze f SET pattern = new || substr(f.pattern, behind)
	 WHERE starts_with(f.pattern, old || '/')
	   AND NOT EXISTS (SELECT FROM tfstate_internal.freeze n WHERE n.pattern = new || substr(f.pattern, behind));
	RAISE NOTICE 'versions, history and grants of % are now those of %', old, new;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.follow_rename(regclass) IS
'part of tfstate_attach(): take along what is recorded under the old name of a table that was renamed';
REVOKE EXECUTE ON FUNCTION tfstate_internal.follow_rename(regclass) FROM PUBLIC;

--
-- Logical replication of the tables of tfstate.
--

CREATE FUNCTION tfstate_internal.check_replication(
	OUT severity text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'warning', format('publication %I', p.pubname),
	   'it also publishes tables of tfstate: a subscriber with tfstate gets grants, attachments, history and versions of '
	   'this database, and stops at rows that it has itself; name the tables to publish',
	   CASE WHEN p.puballtables THEN NULL
			ELSE format('ALTER PUBLICATION %I DROP TABLE %s', p.pubname,
						string_agg(format('%I.%I', t.schemaname, t.tablename), ', ' ORDER BY t.tablename)) END
  FROM pg_publication p JOIN pg_publication_tables t ON t.pubname = p.pubname
 WHERE t.schemaname = 'tfstate_internal'
 GROUP BY p.pubname, p.puballtables
UNION ALL
SELECT 'warning', format('subscription %I', s.subname),
	   format('it brings rows of another installation into tables of tfstate, %s among them: its grants and attachments '
			  'count here, too', min(r.srrelid::regclass::text COLLATE "C")), NULL
  FROM pg_subscription_rel r
	   JOIN pg_class c ON c.oid = r.srrelid AND c.relnamespace = 'tfstate_internal'::regnamespace
	   JOIN pg_subscription s ON s.oid = r.srsubid
 GROUP BY s.subname
$$;
COMMENT ON FUNCTION tfstate_internal.check_replication() IS
'part of tfstate_check(): report publications and subscriptions of the tables of tfstate';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_replication() FROM PUBLIC;

--
-- Why a table cannot be attached.
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
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT i.indexrelid::regclass
  FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
 WHERE i.indrelid = rel AND a.attname = "column" AND i.indnkeyatts = 1
   AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
 ORDER BY EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid), i.indexrelid
 LIMIT 1
$$;
COMMENT ON FUNCTION tfstate_internal.unique_index(regclass, text) IS
'an index that makes the values of a column unique, preferably not that of a constraint';
REVOKE EXECUTE ON FUNCTION tfstate_internal.unique_index(regclass, text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.takes_shared_ids(rel regclass)
RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM pg_attribute a JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
				WHERE a.attrelid = rel AND a.attname = 'id'
				  AND pg_get_expr(d.adbin, d.adrelid) = 'nextval(''public.global_states_id_seq''::regclass)')
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
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
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
 WHERE c.oid = rel AND o.applies
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
		PERFORM tfstate_internal.as_caller(format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', qualified));
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
		PERFORM tfstate_internal.as_caller(format('ALTER TABLE %s ALTER id DROP IDENTITY', rel));
	END IF;
	IF id.atttypid <> 'bigint'::regtype THEN
		PERFORM tfstate_internal.as_caller(format('ALTER TABLE %s ALTER id DROP DEFAULT, ALTER id TYPE bigint', rel));
	END IF;
	IF NOT tfstate_internal.takes_shared_ids(rel) THEN
		PERFORM tfstate_internal.as_caller(format(
			'ALTER TABLE %s ALTER id SET DEFAULT nextval(''public.global_states_id_seq'')', rel));
	END IF;
	-- Each write of a state compresses it, and lz4 is several times as fast as the default.
	IF EXISTS (SELECT FROM pg_attribute a, pg_settings s
				WHERE a.attrelid = rel AND a.attname = 'data' AND a.attcompression = ''
				  AND s.name = 'default_toast_compression' AND 'lz4' = ANY (s.enumvals)) THEN
		PERFORM tfstate_internal.as_caller(format('ALTER TABLE %s ALTER data SET COMPRESSION lz4', rel));
		UPDATE tfstate_internal.attached_table t SET compressed = true WHERE t.relid = rel;
	END IF;
	IF tfstate_internal.unique_index(rel, 'id') IS NULL THEN
		PERFORM tfstate_internal.as_caller(format(
			CASE WHEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = rel AND i.indisprimary)
				 THEN 'CREATE UNIQUE INDEX ON %s (id)' ELSE 'ALTER TABLE %s ADD PRIMARY KEY (id)' END, rel));
	END IF;
	IF tfstate_internal.unique_index(rel, 'name') IS NULL THEN
		PERFORM tfstate_internal.as_caller(format('CREATE UNIQUE INDEX %s ON %s (name)',
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
		PERFORM tfstate_internal.as_caller('ALTER SEQUENCE public.global_states_id_seq NO CYCLE');
		PERFORM tfstate_internal.as_caller(format('ALTER SEQUENCE public.global_states_id_seq RESTART WITH %s',
			greatest(newest, pg_sequence_last_value('public.global_states_id_seq'))));
		PERFORM tfstate_internal.as_caller('SELECT nextval(''public.global_states_id_seq'')');
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
	IF NOT change THEN
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
BEGIN
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
	 WHERE t.relid = rel;
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
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM pg_trigger g
				WHERE g.tgrelid = rel AND g.tgname = has_trigger.name AND g.tgtype = type
				  AND g.tgfoid = 'tfstate_internal.guard()'::regprocedure AND g.tgenabled IN ('O', 'A')
				  AND g.tgqual IS NULL AND g.tgattr = '' AND NOT g.tgdeferrable)
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
BEGIN
	-- The caller, who owns the table, cannot name the function.
	EXECUTE format('CREATE OR REPLACE TRIGGER tfstate_guard_row AFTER INSERT OR UPDATE OR DELETE ON %s '
				   'FOR EACH ROW EXECUTE FUNCTION tfstate_internal.guard()', rel);
	EXECUTE format('CREATE OR REPLACE TRIGGER tfstate_guard_truncate BEFORE TRUNCATE ON %s '
				   'FOR EACH STATEMENT EXECUTE FUNCTION tfstate_internal.guard()', rel);
	PERFORM tfstate_internal.record_states(rel);
END;
$$;
COMMENT ON FUNCTION tfstate_internal.guard_table(regclass) IS
'part of tfstate_attach(): put the triggers on a table and record its states';
REVOKE EXECUTE ON FUNCTION tfstate_internal.guard_table(regclass) FROM PUBLIC;

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
	UPDATE tfstate_internal.attached_role a
	   SET access = coalesce(attach_role.access, a.access)
	 WHERE a.relid = rel AND a.role = roleid
	RETURNING a.access INTO access;

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
		  WHERE g.relid = rel AND g.role = roleid AND (r.kind, r.privilege) = (g.kind, g.object) AND r.writes;
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

--
-- The settings of roles that log in.
--
-- A right comes with membership in a role, a setting does not: a session has the settings of
-- the role that has logged in.  So an attached role can be a group, and each role that logs
-- in and is a member of it gets the settings itself.
--

-- Members need no INHERIT, because they can set the role.  From PostgreSQL 16 on, a member may
-- have neither, only ADMIN; then it acts for itself alone.
CREATE FUNCTION tfstate_internal.setting_roles(
	OUT roleid oid,
	OUT name name,
	OUT member_of name,
	OUT groupid oid)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
WITH RECURSIVE edge AS MATERIALIZED (
	SELECT m.roleid, m.member FROM pg_auth_members m, to_jsonb(m) j
	 WHERE coalesce((j ->> 'inherit_option')::boolean OR (j ->> 'set_option')::boolean, true)),
root AS MATERIALIZED (
	SELECT a.role::oid AS groupid, a.role::oid AS roleid FROM tfstate_internal.attached_role a
	UNION
	SELECT d.role::oid, d.role::oid FROM tfstate_internal.attached_database d WHERE d.role IS NOT NULL),
acts AS (
	SELECT * FROM root
	UNION
	SELECT a.groupid, e.member FROM acts a JOIN edge e ON e.roleid = a.roleid)
SELECT DISTINCT ON (r.oid) r.oid, r.rolname, CASE WHEN a.groupid <> a.roleid THEN g.rolname END, a.groupid
  FROM acts a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles g ON g.oid = a.groupid
 WHERE r.rolcanlogin AND (a.groupid = a.roleid OR NOT r.rolsuper)
 ORDER BY r.oid, a.groupid <> a.roleid, g.rolname
$$;
COMMENT ON FUNCTION tfstate_internal.setting_roles() IS
'the roles that log in and act for an attached role: that role itself, and its direct and indirect members';
REVOKE EXECUTE ON FUNCTION tfstate_internal.setting_roles() FROM PUBLIC;

-- A setting that somebody has changed since it was made counts as what was there before.
CREATE FUNCTION tfstate_internal.give_settings(role name, roleid oid)
RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	setting record;
	ours boolean;
	changed boolean := false;
BEGIN
	FOR setting IN
		SELECT n.name, n.value, c.value AS before
		  FROM tfstate_internal.needed_settings(roleid) n
			   LEFT JOIN tfstate_internal.role_config(roleid) c ON c.name = n.name
		 WHERE c.value IS DISTINCT FROM n.value
	LOOP
		changed := true;
		PERFORM tfstate_internal.set_role_config(role, setting.name, setting.value);
		UPDATE tfstate_internal.given g
		   SET value = setting.value,
			   replaced = CASE WHEN g.value = setting.before THEN g.replaced ELSE setting.before END
		 WHERE (g.role, g.kind, g.object) = (roleid, 'setting', setting.name)
		RETURNING g.replaced IS NOT DISTINCT FROM setting.before INTO ours;
		IF NOT FOUND THEN
			INSERT INTO tfstate_internal.given
			VALUES (0, roleid, role, 'setting', setting.name, setting.value, setting.before);
		END IF;
		IF setting.before IS NULL OR ours IS FALSE THEN
			CONTINUE;
		ELSIF roleid = 0 THEN
			RAISE NOTICE 'setting % = % of the database is replaced by %', setting.name, setting.before, setting.value
				USING DETAIL = 'tfstate_detach_database() brings the old value back.';
		ELSE
			RAISE NOTICE 'setting % = % of role "%" is replaced by %', setting.name, setting.before, role, setting.value
				USING DETAIL = 'tfstate_detach() brings the old value back.';
		END IF;
	END LOOP;
	RETURN changed;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.give_settings(name, oid) IS
'part of tfstate_attach(): make the settings that Terraform needs, and record what they replace; false if none was made';
REVOKE EXECUTE ON FUNCTION tfstate_internal.give_settings(name, oid) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.take_settings()
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	setting tfstate_internal.given;
	line text;
BEGIN
	FOR setting IN
		SELECT * FROM tfstate_internal.given g
		 WHERE g.kind = 'setting' AND g.role::oid <> 0
		   AND g.role::oid NOT IN (SELECT r.roleid FROM tfstate_internal.setting_roles() r)
		 ORDER BY g.role_name, g.object
	LOOP
		BEGIN
			line := tfstate_internal.take_back(setting);
			CONTINUE WHEN line IS NULL;
			RETURN NEXT line;
		EXCEPTION WHEN insufficient_privilege THEN
			-- It can be a role that others have attached, or a member of one.
			RAISE NOTICE 'role "%" keeps %, until a superuser calls tfstate_cleanup()', setting.role_name, setting.object;
		END;
	END LOOP;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.take_settings() IS
'take back the settings of roles that act for no attached role any more; returns what that was';
REVOKE EXECUTE ON FUNCTION tfstate_internal.take_settings() FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_attach_members()
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
BEGIN
	LOCK TABLE tfstate_internal.attached_table IN SHARE ROW EXCLUSIVE MODE;
	RETURN QUERY
	SELECT CASE WHEN g.member_of IS NULL THEN format('role "%s" has got its settings', g.name)
				ELSE format('role "%s" has got its settings, as a member of "%s"', g.name, g.member_of) END
	  FROM (SELECT r.name, r.member_of, tfstate_internal.give_settings(r.name, r.roleid) AS changed
			  FROM tfstate_internal.setting_roles() r ORDER BY r.name) g
	 WHERE g.changed;
	RETURN QUERY SELECT * FROM tfstate_internal.take_settings();
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_attach_members() IS
'give all members of attached roles the settings for Terraform, and take them back from former ones; one row a change';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_attach_members() FROM PUBLIC;

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
LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
	rel regclass := to_regclass(quote_ident(schema) || '.' || quote_ident("table"));
BEGIN
	IF NOT EXISTS (SELECT FROM tfstate_internal.attached_table t WHERE t.relid = rel) THEN
		RAISE EXCEPTION 'table "%" is not attached', quote_ident(schema) || '.' || quote_ident("table")
			USING ERRCODE = 'undefined_object';
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
COMMENT ON FUNCTION @extschema@.tfstate_configuration(text, text, name, text) IS
'what Terraform needs for an attached table: its environment, for a shell or a CI service, or the backend block';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_configuration(text, text, name, text) FROM PUBLIC;

--
-- Attaching a table of Terraform states.  tfstate_attach() works on tables of other
-- roles, mostly as a superuser, so no code that the owner has put on a table may run
-- in it: see attach_obstacles().  Of the tables, SQL reads only the one that is being
-- attached, while the locks that lock_table() takes keep its name and definition.
--

CREATE FUNCTION tfstate_internal.require_table_arguments(schema text, "table" text)
RETURNS void
LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF schema IS NULL OR "table" IS NULL THEN
		RAISE EXCEPTION 'schema and table must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF schema = '' OR "table" = '' OR octet_length(schema) > 63 OR octet_length("table") > 63 THEN
		RAISE EXCEPTION 'schema and table must have 1 to 63 bytes'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	-- A table in the first schema of search_path would hide a catalog of its name.
	IF schema = 'tfstate_pg' THEN
		RAISE EXCEPTION 'schema "%" is not for tables of states', schema
			USING ERRCODE = 'reserved_name';
	END IF;
	-- What is checked behind a lock must be what was there when the lock was granted.
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'tables can be attached and detached in a READ COMMITTED transaction only'
			USING ERRCODE = 'invalid_transaction_state',
				  HINT = 'Begin it with: BEGIN ISOLATION LEVEL READ COMMITTED';
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.require_table_arguments(text, text) IS
'part of tfstate_attach() and tfstate_detach(): error unless the arguments that name the table are valid';
REVOKE EXECUTE ON FUNCTION tfstate_internal.require_table_arguments(text, text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.require_attach_arguments(
	role name,
	mode text,
	wait interval,
	guard text,
	keep_versions integer,
	keep_age interval,
	access text)
RETURNS void
LANGUAGE plpgsql STABLE CALLED ON NULL INPUT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wrong record;
BEGIN
	SELECT * INTO wrong
	  FROM (VALUES
		(role = 'public', 'cannot make everybody ready for Terraform', 'Name a role that Terraform connects as.'),
		(role IS NULL AND access IS NOT NULL, 'access is given to a role', 'Name it with role => .'),
		(access NOT IN ('write', 'plan'), format('unrecognized access: "%s"', access),
		 'Valid values are "write" and "plan".'),
		(mode NOT IN ('session', 'durable'), format('unrecognized mode: "%s"', mode),
		 'Valid modes are "session" and "durable".'),
		(wait < '0' OR wait > '24 days', 'wait is out of range', 'It can be 0 to 24 days.'),
		(guard NOT IN ('off', 'on', 'require'), format('unrecognized guard: "%s"', guard),
		 'Valid values are "off", "on" and "require".'),
		(keep_versions < 1 AND keep_versions <> -1, 'keep_versions must be 1 or more', '-1 keeps all versions.'),
		(keep_age < '0' AND keep_age <> '-1', 'keep_age must not be negative', '-1 keeps versions for ever.')
	  ) w(applies, message, hint)
	 WHERE applies LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION '%', wrong.message
			USING ERRCODE = 'invalid_parameter_value', HINT = wrong.hint;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_roles r WHERE role IS NULL OR r.rolname = role) THEN
		RAISE EXCEPTION 'role "%" does not exist', role
			USING ERRCODE = 'undefined_object',
				  HINT = format('Create it with: CREATE ROLE %I LOGIN PASSWORD ...', role);
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.require_attach_arguments(name, text, interval, text, integer, interval, text) IS
'part of tfstate_attach(): error unless the other arguments are valid';
REVOKE EXECUTE ON FUNCTION
tfstate_internal.require_attach_arguments(name, text, interval, text, integer, interval, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_attach(
	schema text DEFAULT 'terraform_remote_state',
	"table" text DEFAULT 'states',
	role name DEFAULT NULL,
	mode text DEFAULT NULL,
	wait interval DEFAULT NULL,
	guard text DEFAULT NULL,
	keep_versions integer DEFAULT NULL,
	keep_age interval DEFAULT NULL,
	default_workspace boolean DEFAULT NULL,
	access text DEFAULT NULL)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'tfstate_for_administrators'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION
@extschema@.tfstate_attach(text, text, name, text, interval, text, integer, interval, boolean, text) IS
'put a table of Terraform states under tfstate, create it if it is missing, and make a role ready to use it';
GRANT EXECUTE ON FUNCTION
@extschema@.tfstate_attach(text, text, name, text, interval, text, integer, interval, boolean, text) TO PUBLIC;

CREATE FUNCTION tfstate_internal.tfstate_attach(
	schema text,
	"table" text,
	role name,
	mode text,
	wait interval,
	guard text,
	keep_versions integer,
	keep_age interval,
	default_workspace boolean,
	access text)
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
#variable_conflict use_variable
DECLARE
	rel regclass;
	guarded boolean;	-- already, and nobody has altered the table since
BEGIN
	PERFORM tfstate_internal.require_table_arguments(schema, "table");
	PERFORM tfstate_internal.require_attach_arguments(role, mode, wait, guard, keep_versions, keep_age, access);
	PERFORM tfstate_internal.require_administrator(schema, "table");

	-- One at a time, because colliding ids are looked for in attached tables only.
	LOCK TABLE tfstate_internal.attached_table IN SHARE ROW EXCLUSIVE MODE;
	rel := tfstate_internal.lock_table(schema, "table");
	PERFORM tfstate_internal.require_owner(rel);
	-- What is recorded under another name goes with the table.
	IF NOT tfstate_internal.caller_may('admin', (SELECT t.name || '/*' FROM tfstate_internal.attached_table t
												  WHERE t.relid = rel)) THEN
		RAISE EXCEPTION 'permission denied to attach table "%" under another name', rel
			USING ERRCODE = 'insufficient_privilege',
				  DETAIL = format('Role "%s" has no grant of privilege "admin" that covers its old name.',
								  tfstate_internal.caller());
	END IF;
	PERFORM tfstate_internal.raise_obstacle(rel);
	guarded := tfstate_internal.is_guarded(rel);
	PERFORM tfstate_internal.record_table(rel, mode, wait, guard, keep_versions, keep_age, default_workspace);
	IF NOT guarded THEN
		PERFORM tfstate_internal.raise_row_obstacle(rel);
	END IF;
	PERFORM tfstate_internal.advance_sequence(rel);
	PERFORM tfstate_internal.create_default(rel);
	IF NOT guarded THEN
		PERFORM tfstate_internal.guard_table(rel);
		-- From here on readers wait, too.  The ids are compared with those of other tables
		-- again, because that is done only when the columns are as Terraform makes them.
		PERFORM tfstate_internal.adopt_columns(rel);
		PERFORM tfstate_internal.raise_row_obstacle(rel);
	END IF;
	IF role IS NOT NULL THEN
		PERFORM tfstate_internal.attach_role(rel, role, access);
	END IF;
	PERFORM tfstate_internal.attach_database_role(rel);
	-- One row a line: then psql's table can be pasted as it stands.
	RETURN QUERY SELECT string_to_table(concat_ws(E'\n', tfstate_internal.backend_block(rel),
												  tfstate_internal.environment(rel, role, 'shell'),
												  nullif(tfstate_internal.attach_notes(rel, role), '')), E'\n');
END;
$$;
COMMENT ON FUNCTION
tfstate_internal.tfstate_attach(text, text, name, text, interval, text, integer, interval, boolean, text) IS
'the body of tfstate_attach()';
REVOKE EXECUTE ON FUNCTION
tfstate_internal.tfstate_attach(text, text, name, text, interval, text, integer, interval, boolean, text) FROM PUBLIC;

--
-- Undoing tfstate_attach().
--

-- Revoking SELECT on the table would revoke it on the columns, too, which the role may have had before.
CREATE FUNCTION tfstate_internal.revoke_right(rel regclass, schema text, roleid oid, kind text, privilege text)
RETURNS text
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	role name := pg_get_userbyid(roleid);
	held record;
	columns text;
BEGIN
	SELECT r.* INTO held FROM tfstate_internal.role_rights(rel, schema, roleid) r
	 WHERE (r.kind, r.privilege) = (revoke_right.kind, revoke_right.privilege);
	IF held.grantors IS NULL THEN
		RETURN NULL;	-- it is gone, perhaps with its object
	END IF;
	IF NOT held.given THEN
		RAISE NOTICE 'role "%" keeps %, which it may grant to others since', role, held.target;
		RETURN NULL;
	END IF;
	IF privilege = 'SELECT' THEN
		SELECT string_agg(format('GRANT SELECT (%I) ON TABLE %s TO %I%s', a.attname, rel, role,
								 CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), '; ' ORDER BY a.attnum)
		  INTO columns
		  FROM pg_attribute a, aclexplode(a.attacl) x
		 WHERE a.attrelid = rel AND x.grantee = roleid AND x.privilege_type = 'SELECT' AND NOT a.attisdropped;
	END IF;
	PERFORM tfstate_internal.as_caller(format('REVOKE %s FROM %I', held.target, role));
	IF columns IS NOT NULL THEN
		PERFORM tfstate_internal.as_caller(columns);
	END IF;
	IF EXISTS (SELECT FROM tfstate_internal.role_rights(rel, schema, roleid) r
				WHERE (r.kind, r.privilege) = (revoke_right.kind, revoke_right.privilege) AND r.given) THEN
		IF NOT tfstate_internal.caller_is_owner() THEN
			RAISE EXCEPTION 'cannot revoke % from role "%"', held.target, role
				USING ERRCODE = 'insufficient_privilege',
					  HINT = format('It was granted by %s, so let that role or a superuser call tfstate_detach().',
									held.grantors);
		END IF;
		RAISE NOTICE 'role "%" keeps %, which was granted by %', role, held.target, held.grantors;
		RETURN NULL;
	END IF;
	RETURN format('REVOKE %s FROM %I', held.target, role);
END;
$$;
COMMENT ON FUNCTION tfstate_internal.revoke_right(regclass, text, oid, text, text) IS
'part of tfstate_detach(): revoke a right that tfstate_attach() has granted; returns the command, or NULL if it is gone';
REVOKE EXECUTE ON FUNCTION tfstate_internal.revoke_right(regclass, text, oid, text, text) FROM PUBLIC;

-- What another attached table of the role needs as well passes on to that one.
CREATE FUNCTION tfstate_internal.pass_on(given tfstate_internal.given)
RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	heir regclass;
BEGIN
	SELECT a.relid INTO heir
	  FROM tfstate_internal.attached_role a
		   JOIN tfstate_internal.attached_table t ON t.relid = a.relid
		   JOIN pg_class c ON c.oid = a.relid JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE a.role::oid = given.role::oid AND a.relid <> given.relid
	   AND (given.kind IN ('shim', 'database')
			OR given.kind = 'sequence' AND a.access = 'write'
			OR given.kind = 'schema' AND n.nspname = given.value
			OR given.kind = 'lock' AND tfstate_internal.table_name(a.relid) || '/*' = given.value)
	 ORDER BY a.relid LIMIT 1;
	IF heir IS NULL THEN
		RETURN false;
	END IF;
	INSERT INTO tfstate_internal.given
	VALUES (heir, given.role, given.role_name, given.kind, given.object, given.value, given.replaced)
	ON CONFLICT DO NOTHING;
	RETURN true;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.pass_on(tfstate_internal.given) IS
'part of tfstate_detach(): record what a role was given for another of its tables, if that needs it';
REVOKE EXECUTE ON FUNCTION tfstate_internal.pass_on(tfstate_internal.given) FROM PUBLIC;

-- What was changed since it was given is left as it is.
CREATE FUNCTION tfstate_internal.take_back(given tfstate_internal.given)
RETURNS text
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
	roleid oid := given.role::oid;
	rolename name := CASE roleid WHEN 0 THEN 'public' ELSE (SELECT r.rolname FROM pg_roles r WHERE r.oid = roleid) END;
	schema name;
	current text;
	done text;
BEGIN
	DELETE FROM tfstate_internal.given g
	 WHERE (g.relid, g.role, g.role_name, g.kind, g.object) =
		   (given.relid, given.role, given.role_name, given.kind, given.object);
	-- The schema or the table can have been renamed, or the table moved.
	IF given.kind = 'schema' THEN
		SELECT n.nspname INTO schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		 WHERE c.oid = given.relid;
		IF FOUND AND EXISTS (SELECT FROM tfstate_internal.role_rights(given.relid, schema, roleid) r
							  WHERE r.kind = 'schema' AND r.grantors IS NOT NULL) THEN
			given.value := schema;
		END IF;
	ELSIF given.kind = 'lock' THEN
		given.value := coalesce((SELECT t.name || '/*' FROM tfstate_internal.attached_table t
								  WHERE t.relid = given.relid), given.value);
	END IF;
	IF tfstate_internal.pass_on(given) THEN
		RETURN NULL;
	END IF;
	IF given.kind = 'lock' THEN
		DELETE FROM tfstate_internal.privilege p
		 WHERE (p.role, p.pattern, p.privilege) = (given.role, given.value, 'lock');
		IF FOUND THEN
			RETURN format('grant of privilege "lock" for pattern "%s" to role "%s"', given.value,
						  coalesce(rolename, given.role_name));
		END IF;
	ELSIF rolename IS NULL THEN
		RETURN NULL;
	ELSIF given.kind = 'setting' THEN
		current := (SELECT c.value FROM tfstate_internal.role_config(roleid) c WHERE c.name = given.object);
		IF current = given.value THEN
			PERFORM tfstate_internal.set_role_config(rolename, given.object, given.replaced);
			RETURN format('setting %s = %s of role "%s"', given.object, given.value, rolename);
		ELSIF current IS NOT NULL AND roleid = 0 THEN
			RAISE NOTICE 'the database keeps % = %, which was changed since', given.object, current;
		ELSIF current IS NOT NULL THEN
			RAISE NOTICE 'role "%" keeps % = %, which was changed since', rolename, given.object, current;
		END IF;
	ELSE
		RETURN tfstate_internal.revoke_right(given.relid, given.value, roleid, given.kind, given.object);
	END IF;
	RETURN NULL;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.take_back(tfstate_internal.given) IS
'part of tfstate_detach(): take back one thing that tfstate_attach() has given; returns it, or NULL if it stays';
REVOKE EXECUTE ON FUNCTION tfstate_internal.take_back(tfstate_internal.given) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.detach_role(rel regclass, roleid oid, rolename text)
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM tfstate_internal.attached_role a
	 WHERE a.relid = rel AND a.role::oid = roleid AND a.role_name = rolename;
	RETURN QUERY
	SELECT t.line
	  FROM (SELECT tfstate_internal.take_back(g) AS line FROM tfstate_internal.given g
			 WHERE g.relid = rel AND g.role::oid = roleid AND g.role_name = rolename
			 ORDER BY g.kind, g.object) t
	 WHERE t.line IS NOT NULL;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.detach_role(regclass, oid, text) IS
'part of tfstate_detach(): take back the rights that tfstate_attach() gave to a role; returns what that was';
REVOKE EXECUTE ON FUNCTION tfstate_internal.detach_role(regclass, oid, text) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.detach_table(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	compressed boolean;
BEGIN
	PERFORM tfstate_internal.detach_role(a.relid, a.role::oid, a.role_name)
	   FROM tfstate_internal.attached_role a WHERE a.relid = rel;
	PERFORM tfstate_internal.take_settings();
	DELETE FROM tfstate_internal.attached_table t WHERE t.relid = rel RETURNING t.compressed INTO compressed;
	PERFORM tfstate_internal.as_caller(format('DROP TRIGGER IF EXISTS tfstate_guard_row ON %s', rel));
	PERFORM tfstate_internal.as_caller(format('DROP TRIGGER IF EXISTS tfstate_guard_truncate ON %s', rel));
	IF compressed AND EXISTS (SELECT FROM pg_attribute a
							   WHERE a.attrelid = rel AND a.attname = 'data' AND a.attcompression = 'l') THEN
		PERFORM tfstate_internal.as_caller(format('ALTER TABLE %s ALTER data SET COMPRESSION default', rel));
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.detach_table(regclass) IS
'part of tfstate_detach(): take the guard and all roles from a table';
REVOKE EXECUTE ON FUNCTION tfstate_internal.detach_table(regclass) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_detach(
	schema text DEFAULT 'terraform_remote_state',
	"table" text DEFAULT 'states',
	role name DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'tfstate_for_administrators'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_detach(text, text, name) IS
'undo tfstate_attach(), for one role or altogether, but keep the table, its states and their versions';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_detach(text, text, name) TO PUBLIC;

CREATE FUNCTION tfstate_internal.tfstate_detach(
	schema text,
	"table" text,
	role name)
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
#variable_conflict use_variable
DECLARE
	rel regclass;
BEGIN
	PERFORM tfstate_internal.require_table_arguments(schema, "table");
	PERFORM tfstate_internal.require_administrator(schema, "table");
	rel := to_regclass(format('%I.%I', schema, "table"));
	LOCK TABLE tfstate_internal.attached_table IN SHARE ROW EXCLUSIVE MODE;
	IF NOT EXISTS (SELECT FROM tfstate_internal.attached_table t WHERE t.relid = rel) THEN
		RAISE EXCEPTION 'table "%" is not attached', format('%I.%I', schema, "table")
			USING ERRCODE = 'undefined_object';
	END IF;
	PERFORM tfstate_internal.require_owner(rel);
	IF role IS NULL THEN
		PERFORM tfstate_internal.detach_table(rel);
		RETURN;
	END IF;
	PERFORM tfstate_internal.detach_role(a.relid, a.role::oid, a.role_name)
	   FROM tfstate_internal.attached_role a
	  WHERE a.relid = rel AND coalesce(nullif(a.role::text, 'none'), a.role_name) = role::text;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'role "%" is not attached to table "%"', role, format('%I.%I', schema, "table")
			USING ERRCODE = 'undefined_object';
	END IF;
	PERFORM tfstate_internal.take_settings();
END;
$$;
COMMENT ON FUNCTION tfstate_internal.tfstate_detach(text, text, name) IS
'the body of tfstate_detach()';
REVOKE EXECUTE ON FUNCTION tfstate_internal.tfstate_detach(text, text, name) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_cleanup()
RETURNS SETOF text
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
BEGIN
	LOCK TABLE tfstate_internal.attached_table IN SHARE ROW EXCLUSIVE MODE;
	RETURN QUERY
	SELECT l.line
	  FROM tfstate_internal.attached_role a,
		   LATERAL tfstate_internal.detach_role(a.relid, a.role::oid, a.role_name) WITH ORDINALITY l(line, n)
	 WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = a.relid)
		OR NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.role)
	 ORDER BY a.role_name, a.relid, l.n;
	RETURN QUERY SELECT * FROM tfstate_internal.take_settings();
	RETURN QUERY
	WITH gone AS (
		DELETE FROM tfstate_internal.attached_table t
		 WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relid)
		RETURNING t.name)
	SELECT format('attachment of table "%s"', g.name) FROM gone g ORDER BY g.name COLLATE "C";
	RETURN QUERY
	WITH gone AS (
		DELETE FROM tfstate_internal.privilege p
		 WHERE p.role <> 0 AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = p.role)
		RETURNING p.privilege, p.pattern, p.role_name)
	SELECT format('grant of privilege "%s" for pattern "%s" to role "%s"', g.privilege, g.pattern, g.role_name)
	  FROM gone g ORDER BY g.role_name, g.pattern, g.privilege;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_cleanup() IS
'take back what tfstate_attach() gave for tables that were dropped, and remove grants of dropped roles; one row each';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_cleanup() FROM PUBLIC;

--
-- What holds for all tables of states in the database.
--

CREATE TABLE tfstate_internal.attached_database (
	one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
	role tfstate_internal.role,
	role_name text COLLATE "C",
	search_path boolean NOT NULL DEFAULT false,
	mode text CHECK (mode IN ('session', 'durable')),
	wait interval CHECK (wait BETWEEN '0' AND '24 days'),
	guard text CHECK (guard IN ('off', 'on', 'require')),
	keep_versions integer,
	keep_age interval,
	default_workspace boolean,
	new_tables boolean NOT NULL DEFAULT false
) USING heap;
COMMENT ON TABLE tfstate_internal.attached_database IS
'one row: what tfstate_attach_database() was told, NULL for nothing; no row where it was not called';
COMMENT ON COLUMN tfstate_internal.attached_database.role IS
'the role that is attached to every table';
COMMENT ON COLUMN tfstate_internal.attached_database.role_name IS
'the name of the role when that was done';
COMMENT ON COLUMN tfstate_internal.attached_database.search_path IS
'whether the database has the settings that Terraform needs, so that every role has them';
COMMENT ON COLUMN tfstate_internal.attached_database.new_tables IS
'whether tables of states that Terraform makes itself are attached';
REVOKE ALL ON tfstate_internal.attached_database FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.attached_database', '');

CREATE FUNCTION tfstate_internal.other_objects()
RETURNS SETOF text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
WITH states AS MATERIALIZED (
	SELECT t.relid::oid AS relid FROM tfstate_internal.attached_table t
	UNION ALL SELECT u::oid FROM tfstate_internal.unattached_tables() u
	UNION ALL SELECT to_regclass('public.global_states_id_seq')::oid),
schemas AS MATERIALIZED (
	SELECT n.oid FROM pg_namespace n
	 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_|toast_temp_)')
SELECT o.name
  FROM (SELECT 'pg_class'::regclass AS classid, c.oid AS objid, c.oid::regclass::text AS name
		  FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace
		 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
		   AND NOT EXISTS (SELECT FROM states st WHERE st.relid = c.oid)
		   AND NOT EXISTS (SELECT FROM pg_depend d JOIN states st ON st.relid = d.refobjid
							WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
							  AND d.refclassid = 'pg_class'::regclass)
		UNION ALL
		SELECT 'pg_proc'::regclass, p.oid, p.oid::regprocedure::text
		  FROM pg_proc p JOIN schemas s ON s.oid = p.pronamespace) o
 WHERE NOT EXISTS (SELECT FROM pg_depend d
					WHERE d.classid = o.classid AND d.objid = o.objid AND d.deptype = 'e')
 ORDER BY o.name COLLATE "C"
$$;
COMMENT ON FUNCTION tfstate_internal.other_objects() IS
'the relations and functions in this database that are neither tables of states nor part of an extension';
REVOKE EXECUTE ON FUNCTION tfstate_internal.other_objects() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.raise_other_objects()
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	others text := (SELECT string_agg(o, ', ') FROM (SELECT o FROM tfstate_internal.other_objects() o LIMIT 3) l);
BEGIN
	IF others IS NOT NULL THEN
		RAISE EXCEPTION 'cannot set search_path for everybody, because the database has more than states: %', others
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = 'With tfstate_pg in front, a CREATE without a schema fails, and a superuser''s object lands there.',
				  HINT = 'Leave out search_path => true. The members of attached roles get settings of their own.';
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.raise_other_objects() IS
'part of tfstate_attach_database(): error if the database has other things than states';
REVOKE EXECUTE ON FUNCTION tfstate_internal.raise_other_objects() FROM PUBLIC;

-- A role that was attached to the table before stays so when the database is detached.
CREATE FUNCTION tfstate_internal.attach_database_role(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
	owner record;
	access text;
BEGIN
	SELECT r.oid, r.rolname INTO owner
	  FROM tfstate_internal.attached_database d JOIN pg_roles r ON r.oid = d.role;
	IF NOT FOUND OR tfstate_internal.table_name(rel) LIKE '%*%' THEN
		RETURN;
	END IF;
	IF EXISTS (SELECT FROM tfstate_internal.role_rights(rel, NULL::text, owner.oid) r
				WHERE NOT r.held AND r.kind IN ('sequence', 'shim', 'database')) THEN
		PERFORM tfstate_internal.lock_rights();
	END IF;
	INSERT INTO tfstate_internal.attached_role (relid, role, role_name, by_database)
	SELECT rel, owner.oid, owner.rolname, true
	 WHERE NOT EXISTS (SELECT FROM tfstate_internal.attached_role a WHERE a.relid = rel AND a.role = owner.oid);
	access := (SELECT a.access FROM tfstate_internal.attached_role a WHERE a.relid = rel AND a.role = owner.oid);
	PERFORM tfstate_internal.give_rights(rel, owner.rolname, owner.oid, access);
END;
$$;
COMMENT ON FUNCTION tfstate_internal.attach_database_role(regclass) IS
'part of attaching a table: give it to the role of tfstate_attach_database(), if there is one';
REVOKE EXECUTE ON FUNCTION tfstate_internal.attach_database_role(regclass) FROM PUBLIC;

CREATE FUNCTION tfstate_internal.detach_database_role()
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tfstate_internal.detach_role(a.relid, a.role::oid, a.role_name)
	   FROM tfstate_internal.attached_role a WHERE a.by_database;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.detach_database_role() IS
'take from the role of tfstate_attach_database() what it was given for all tables';
REVOKE EXECUTE ON FUNCTION tfstate_internal.detach_database_role() FROM PUBLIC;

-- What the database has no more, the roles get themselves.
CREATE FUNCTION tfstate_internal.give_and_take_settings(everybody boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF everybody THEN
		PERFORM tfstate_internal.give_settings('public', 0);
	ELSE
		PERFORM tfstate_internal.take_back(g)
		   FROM tfstate_internal.given g WHERE g.kind = 'setting' AND g.role::oid = 0;
	END IF;
	PERFORM tfstate_internal.give_settings(r.name, r.roleid) FROM tfstate_internal.setting_roles() r;
	PERFORM tfstate_internal.take_settings();
END;
$$;
COMMENT ON FUNCTION tfstate_internal.give_and_take_settings(boolean) IS
'make the settings of the database or take them back, and then those that its roles need beside them';
REVOKE EXECUTE ON FUNCTION tfstate_internal.give_and_take_settings(boolean) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_attach_database(
	role name DEFAULT NULL,
	search_path boolean DEFAULT NULL,
	mode text DEFAULT NULL,
	wait interval DEFAULT NULL,
	guard text DEFAULT NULL,
	keep_versions integer DEFAULT NULL,
	keep_age interval DEFAULT NULL,
	default_workspace boolean DEFAULT NULL,
	new_tables boolean DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
#variable_conflict use_variable
DECLARE
	roleid oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = role);
	asked tfstate_internal.attached_database;
BEGIN
	PERFORM tfstate_internal.require_attach_arguments(role, mode, wait, guard, keep_versions, keep_age, NULL);
	LOCK TABLE tfstate_internal.attached_table IN SHARE ROW EXCLUSIVE MODE;
	IF search_path THEN
		PERFORM tfstate_internal.raise_other_objects();
	END IF;
	INSERT INTO tfstate_internal.attached_database AS d
	VALUES (true, roleid, role, coalesce(search_path, false), mode, wait, guard, keep_versions, keep_age,
			default_workspace, coalesce(new_tables, false))
	ON CONFLICT (one_row) DO UPDATE
	   SET role = coalesce(roleid, d.role::oid),
		   role_name = coalesce(excluded.role_name, d.role_name),
		   search_path = coalesce(tfstate_attach_database.search_path, d.search_path),
		   mode = coalesce(excluded.mode, d.mode),
		   wait = coalesce(excluded.wait, d.wait),
		   guard = coalesce(excluded.guard, d.guard),
		   keep_versions = coalesce(excluded.keep_versions, d.keep_versions),
		   keep_age = coalesce(excluded.keep_age, d.keep_age),
		   default_workspace = coalesce(excluded.default_workspace, d.default_workspace),
		   new_tables = coalesce(tfstate_attach_database.new_tables, d.new_tables)
	RETURNING * INTO asked;
	IF EXISTS (SELECT FROM tfstate_internal.attached_role a WHERE a.by_database AND a.role::oid <> asked.role::oid) THEN
		PERFORM tfstate_internal.detach_database_role();
	END IF;
	PERFORM tfstate_internal.attach_database_role(t.relid)
	   FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid;
	PERFORM tfstate_internal.give_and_take_settings(asked.search_path);
	IF new_tables THEN
		PERFORM tfstate_internal.create_event_triggers();
	ELSIF NOT new_tables THEN
		PERFORM tfstate_internal.drop_event_triggers();
	END IF;
END;
$$;
COMMENT ON FUNCTION
@extschema@.tfstate_attach_database(name, boolean, text, interval, text, integer, interval, boolean, boolean) IS
'make a role, or everybody, ready for all tables of states in the database, and say what holds for new tables';
REVOKE EXECUTE ON FUNCTION
@extschema@.tfstate_attach_database(name, boolean, text, interval, text, integer, interval, boolean, boolean)
FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_detach_database()
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
BEGIN
	LOCK TABLE tfstate_internal.attached_table IN SHARE ROW EXCLUSIVE MODE;
	PERFORM tfstate_internal.drop_event_triggers();
	DELETE FROM tfstate_internal.attached_database;
	PERFORM tfstate_internal.detach_database_role();
	PERFORM tfstate_internal.give_and_take_settings(false);
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_detach_database() IS
'undo tfstate_attach_database(); attached tables stay attached';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_detach_database() FROM PUBLIC;

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
UNION ALL
SELECT 'warning', r.rolname::text, NULL, format('%s lets states that the role writes into the server log', l.setting),
	   format('ALTER ROLE %I IN DATABASE %I SET %s = %s', r.rolname, current_database(), l.setting, l.safe)
  FROM roles, LATERAL tfstate_internal.check_log(roles.ids) l JOIN r ON r.roleid = l.roleid
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

--
-- What is wrong with a set-up.
--

-- A sequence that is too low does no harm here, because each lock compares its fence with
-- what the tables know.  Two rows of a lock, and triggers that do not always fire, come from a
-- restore without triggers.  On a standby the table of session locks cannot be read, so a
-- function does that.
CREATE FUNCTION tfstate_internal.check_fences(
	OUT severity text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT 'warning', 'tfstate_internal.fence'::regclass::text,
		   format('the sequence stands at %s, although fence %s was given out: '
				  'consumers elsewhere can know greater ones, too', f.last, k.newest),
		   format('SELECT pg_catalog.setval(%L, %s)', 'tfstate_internal.fence'::regclass, k.newest)
	  FROM (SELECT CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - 1 END
			  FROM tfstate_internal.fence s) f(last),
		   (SELECT greatest((SELECT max(d.fence) FROM tfstate_internal.durable_lock d),
							(SELECT max(s.fence) FROM tfstate_internal.session_locks() s),
							(SELECT max(r.fence) FROM tfstate_internal.released_lock r),
							(SELECT max(v.fence) FROM tfstate_internal.stored_version v))) k(newest)
	 WHERE k.newest > f.last
	UNION ALL
	SELECT 'error', 'tfstate_internal.durable_lock'::regclass::text,
		   format('state lock "%s" has several rows, with fences %s: only one of them can be right', d.lockid,
				  string_agg(d.fence::text, ', ' ORDER BY d.fence)),
		   format('DELETE FROM %s WHERE lockid = %L AND fence = ...', 'tfstate_internal.durable_lock'::regclass,
				  d.lockid)
	  FROM tfstate_internal.durable_lock d
	 GROUP BY d.lockid HAVING count(*) > 1
	UNION ALL
	SELECT 'error', t.rel::text,
		   format('the trigger %s is missing or does not always fire: '
				  'rows that a restore or replication brings are not looked at', t.name),
		   CASE WHEN g.oid IS NOT NULL THEN format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.rel, t.name) END
	  FROM (VALUES ('tfstate_internal.installation'::regclass, 'keep_own_row'),
				   ('tfstate_internal.durable_lock'::regclass, 'require_free_lock'),
				   ('tfstate_internal.freeze'::regclass, 'report_freeze')) t(rel, name)
		   LEFT JOIN pg_trigger g ON g.tgrelid = t.rel AND g.tgname = t.name
	 WHERE g.tgenabled IS DISTINCT FROM 'A';
END;
COMMENT ON FUNCTION tfstate_internal.check_fences() IS
'part of tfstate_check(): report what SQL, a restore or replication has done to fences and rows of locks';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_fences() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.check_database(
	OUT severity text,
	OUT role text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'warning', NULL, 'database',
	   format('the encoding of the database is %s: a state with other characters cannot be written',
			  getdatabaseencoding()), NULL
 WHERE getdatabaseencoding() <> 'UTF8'
UNION ALL
SELECT 'error', NULL, 'database', 'it lacks settings that tfstate_attach_database() has made for everybody: ' ||
	   string_agg(n.name, ', ' ORDER BY n.name),
	   format('SELECT %s()', tfstate_internal.qualified('tfstate_attach_database'))
  FROM tfstate_internal.attached_database d, tfstate_internal.needed_settings(0) n
	   LEFT JOIN tfstate_internal.role_config(0) c ON c.name = n.name
 WHERE d.search_path AND c.value IS DISTINCT FROM n.value
HAVING count(*) > 0
UNION ALL
SELECT 'warning', NULL, 'database',
	   'search_path begins with tfstate_pg for everybody, although the database has more than states: ' ||
	   string_agg(l.o, ', '),
	   format('SELECT %s(search_path => false)', tfstate_internal.qualified('tfstate_attach_database'))
  FROM tfstate_internal.attached_database d, (SELECT o FROM tfstate_internal.other_objects() o LIMIT 3) l
 WHERE d.search_path
HAVING count(*) > 0
UNION ALL
SELECT 'warning', NULL, c.oid::regclass::text,
	   'a CREATE without a schema has put it into tfstate_pg, with which search_path begins',
	   format('ALTER TABLE %s SET SCHEMA public', c.oid::regclass)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'tfstate_pg' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
   AND NOT EXISTS (SELECT FROM pg_depend d
					WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i'))
UNION ALL
SELECT 'error', NULL, g.tgrelid::regclass::text,
	   'the table has triggers of tfstate, but is not attached: nobody can write to it',
	   tfstate_internal.attach_command(g.tgrelid::regclass, NULL::text)
  FROM (SELECT DISTINCT t.tgrelid FROM pg_trigger t WHERE t.tgfoid = 'tfstate_internal.guard()'::regprocedure) g
 WHERE NOT EXISTS (SELECT FROM tfstate_internal.attached_table a WHERE a.relid = g.tgrelid)
UNION ALL
-- Tables that Terraform makes itself, in the schemas where states are.
SELECT 'warning', coalesce(r.rolname, 'public')::text, n.nspname::text,
	   format('by default it gets %s on tables that role "%s" creates, and those can hold states',
			  d.privileges, o.rolname),
	   format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE %s ON TABLES FROM %s', o.rolname,
			  ' IN SCHEMA ' || quote_ident(n.nspname), d.privileges, coalesce(quote_ident(r.rolname), 'PUBLIC'))
  FROM (SELECT a.defaclrole, a.defaclnamespace, e.grantee,
			   string_agg(e.privilege_type, ', ' ORDER BY e.privilege_type) AS privileges
		  FROM pg_default_acl a, aclexplode(a.defaclacl) e
		 WHERE a.defaclobjtype = 'r' AND e.grantee <> a.defaclrole
		   AND e.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
		   AND (a.defaclnamespace = 0
				OR a.defaclnamespace IN (SELECT c.relnamespace FROM tfstate_internal.attached_table t
																	 JOIN pg_class c ON c.oid = t.relid))
		   AND a.defaclrole IN (SELECT c.relowner FROM tfstate_internal.attached_table t
														JOIN pg_class c ON c.oid = t.relid
								UNION SELECT a.role::oid FROM tfstate_internal.attached_role a)
		 GROUP BY a.defaclrole, a.defaclnamespace, e.grantee) d
	   JOIN pg_roles o ON o.oid = d.defaclrole
	   LEFT JOIN pg_roles r ON r.oid = d.grantee
	   LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
$$;
COMMENT ON FUNCTION tfstate_internal.check_database() IS
'part of tfstate_check(): report what is wrong with the database beyond attached tables and roles of Terraform';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_database() FROM PUBLIC;

-- The rights of the calling role are no news to it.  There is one row for each role, because
-- an administrator who is not a superuser has rights on many objects.
CREATE FUNCTION tfstate_internal.check_rights(
	OUT severity text,
	OUT role text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
WITH given AS (
	SELECT r.object, r.grantee, string_agg(r.privilege, ', ' ORDER BY r.privilege) AS privileges,
		   row_number() OVER (PARTITION BY r.grantee ORDER BY r.object COLLATE "C") AS n,
		   count(*) OVER (PARTITION BY r.grantee) AS objects
	  FROM pg_extension e
		   JOIN pg_depend d ON (d.refclassid, d.refobjid, d.deptype) = ('pg_extension'::regclass, e.oid, 'e'),
		   LATERAL (SELECT * FROM tfstate_internal.rights(d.classid, d.objid)) r
	 WHERE e.extname = 'tfstate' AND NOT r.usual AND pg_get_userbyid(r.grantee) <> tfstate_internal.caller()
	 GROUP BY r.object, r.grantee)
SELECT 'warning', g.name, NULL,
	   'it has rights that only an administrator of tfstate should have: ' ||
	   string_agg(format('%s ON %s', r.privileges, r.object), '; ' ORDER BY r.n) FILTER (WHERE r.n <= 3) ||
	   CASE WHEN r.objects > 3 THEN format('; and on %s others', r.objects - 3) ELSE '' END,
	   string_agg(format('REVOKE %s ON %s FROM %s', r.privileges, r.object,
						 CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(g.name) END), '; ' ORDER BY r.n)
  FROM given r,
	   LATERAL (SELECT CASE r.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(r.grantee)::text END) g(name)
 GROUP BY r.grantee, r.objects, g.name
$$;
COMMENT ON FUNCTION tfstate_internal.check_rights() IS
'part of tfstate_check(): report rights on the objects of tfstate that only an administrator should have';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_rights() FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_check(
	OUT severity text,
	OUT role text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_for_administrators'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_check() IS
'check the set-up: report what is wrong with attached tables, roles of Terraform and the server, and what helps';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_check() TO PUBLIC;

CREATE FUNCTION tfstate_internal.tfstate_check(
	OUT severity text,
	OUT role text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
SET jit = off
AS $$
DECLARE
	complete boolean := tfstate_internal.caller_is_owner();
	covered regclass[] := ARRAY(SELECT tfstate_internal.covered_tables());
BEGIN
	IF NOT complete AND covered = '{}' THEN
		RAISE EXCEPTION 'permission denied to check the set-up'
			USING ERRCODE = 'insufficient_privilege',
				  DETAIL = format('Role "%s" owns no attached table, and has no grant of privilege "admin" that covers one.',
								  tfstate_internal.caller());
	END IF;
	PERFORM tfstate_internal.matches('', '');	-- loads the library, which has the settings tfstate.*
	RETURN QUERY
	SELECT p.severity, p.role, p.object, p.problem, p.remedy
	  FROM (SELECT 'error', NULL, 'server', format('%s is off: a crash loses or corrupts locks and states', s.name),
				   format('ALTER SYSTEM SET %s = on', s.name)
			  FROM pg_settings s WHERE s.name IN ('fsync', 'full_page_writes') AND s.setting = 'off' AND complete
			UNION ALL
			SELECT 'warning', NULL, t.name, 'the attached table was dropped',
				   format('SELECT %s()', tfstate_internal.qualified('tfstate_cleanup'))
			  FROM tfstate_internal.attached_table t
			 WHERE complete AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relid)
			UNION ALL
			SELECT 'warning', CASE count(*) WHEN 1 THEN min(p.role_name) END, NULL,
				   format('%s left grants of tfstate or attachments behind',
						  CASE count(*) WHEN 1 THEN 'a dropped role' ELSE format('%s dropped roles', count(*)) END),
				   format('SELECT %s()', tfstate_internal.qualified('tfstate_cleanup'))
			  FROM (SELECT g.role, g.role_name FROM tfstate_internal.privilege g
					UNION
					SELECT a.role, a.role_name FROM tfstate_internal.attached_role a) p
			 WHERE complete AND p.role <> 0 AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = p.role)
			HAVING count(*) > 0
			UNION ALL
			SELECT c.severity, NULL, t.rel::text, c.problem, c.remedy
			  FROM unnest(covered) t(rel), tfstate_internal.check_table(t.rel) c
			UNION ALL
			SELECT c.severity, NULL, c.object, c.problem, c.remedy FROM tfstate_internal.check_rows() c
			 WHERE complete OR c.object = ANY (covered::text[])
			UNION ALL
			SELECT c.severity, NULL, c.object, c.problem, c.remedy FROM tfstate_internal.check_new_tables() c
			 WHERE complete
			UNION ALL
			SELECT c.severity, NULL, c.object, c.problem, c.remedy FROM tfstate_internal.check_fences() c
			 WHERE complete
			UNION ALL
			SELECT * FROM tfstate_internal.check_database() WHERE complete
			UNION ALL
			SELECT c.severity, NULL, c.object, c.problem, c.remedy FROM tfstate_internal.check_replication() c
			 WHERE complete
			UNION ALL
			SELECT * FROM tfstate_internal.check_rights() WHERE complete
			UNION ALL
			SELECT * FROM tfstate_internal.check_roles()) p(severity, role, object, problem, remedy)
	 ORDER BY p.object COLLATE "C", p.role COLLATE "C", p.problem COLLATE "C";
END;
$$;
COMMENT ON FUNCTION tfstate_internal.tfstate_check() IS
'the body of tfstate_check()';
REVOKE EXECUTE ON FUNCTION tfstate_internal.tfstate_check() FROM PUBLIC;

--
-- The default privileges of the database are not meant for these objects: take away what
-- they have given.  What PUBLIC may do stands beside each object.
--

DO $$
DECLARE
	command text;
BEGIN
	FOR command IN
		SELECT DISTINCT format('REVOKE ALL ON %s FROM %I', r.object, pg_get_userbyid(r.grantee))
		  FROM pg_extension e
			   JOIN pg_depend d ON (d.refclassid, d.refobjid, d.deptype) = ('pg_extension'::regclass, e.oid, 'e'),
			   LATERAL (SELECT * FROM tfstate_internal.rights(d.classid, d.objid)) r
		 WHERE e.extname = 'tfstate' AND r.grantee <> 0
	LOOP
		EXECUTE command;
	END LOOP;
END;
$$;
