/* sql/tfstate--0.1.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION tfstate" to load this file. \quit

-- What is not schema-qualified below is in pg_catalog; nothing is looked up in
-- a schema that another role may write to.  In ours others may perhaps create
-- functions: in a call of one of ours all arguments are there, and of its types, or
-- literals for text, so that no other function fits as well.
SET LOCAL search_path TO pg_catalog, pg_temp;

--
-- Tables.  Nobody but the owner reads or writes them: the C functions do, and
-- check the privileges that tfstate_grant() gives.
--

-- The key is secret: row-level security keeps it from members of pg_read_all_data, too.
CREATE TABLE @extschema@.tfstate_installation (
	one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
	key bytea NOT NULL CHECK (octet_length(key) = 16),
	protocol integer NOT NULL,
	timeline bigint NOT NULL
) USING heap;
ALTER TABLE @extschema@.tfstate_installation ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.tfstate_installation ALTER COLUMN key SET STATISTICS 0;
COMMENT ON TABLE @extschema@.tfstate_installation IS
'one row: what this installation has for itself alone; it is neither dumped nor replicated';
COMMENT ON COLUMN @extschema@.tfstate_installation.key IS
'the secret key of the hash of lockids in the lock manager';
COMMENT ON COLUMN @extschema@.tfstate_installation.protocol IS
'what the library and the SQL objects have to agree on';
COMMENT ON COLUMN @extschema@.tfstate_installation.timeline IS
'the timeline on which fences are ahead of all earlier ones';
REVOKE ALL ON @extschema@.tfstate_installation FROM PUBLIC;

-- Two UUIDs of version 4 have 244 random bits.
CREATE FUNCTION @extschema@.tfstate_make_key()
RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
	INSERT INTO @extschema@.tfstate_installation (key, protocol, timeline)
	SELECT substr(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 1, 16), 1, c.timeline_id
	  FROM pg_control_checkpoint() c;
END;
COMMENT ON FUNCTION @extschema@.tfstate_make_key() IS
'make the row of tfstate_installation anew if somebody has deleted it; no other session may use tfstate then';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_make_key() FROM PUBLIC;
SELECT @extschema@.tfstate_make_key();

CREATE FUNCTION @extschema@.tfstate_keep_own_row()
RETURNS trigger
AS 'MODULE_PATHNAME', 'tfstate_keep_own_row'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_keep_own_row() IS
'trigger of tfstate_installation: logical replication changes nothing there';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_keep_own_row() FROM PUBLIC;
CREATE TRIGGER tfstate_keep_own_row BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.tfstate_installation
	FOR EACH ROW EXECUTE FUNCTION @extschema@.tfstate_keep_own_row();
ALTER TABLE @extschema@.tfstate_installation ENABLE ALWAYS TRIGGER tfstate_keep_own_row;
COMMENT ON TRIGGER tfstate_keep_own_row ON @extschema@.tfstate_installation IS
'logical replication changes nothing here';

CREATE SEQUENCE @extschema@.tfstate_fence AS bigint;
COMMENT ON SEQUENCE @extschema@.tfstate_fence IS
'the fences of all locks: one value for each acquisition, never given out twice';
REVOKE ALL ON SEQUENCE @extschema@.tfstate_fence FROM PUBLIC;

-- A role is known by its OID.  Unlike regrole this type reads the name of a role that does
-- not exist as "none", which is nobody, so that a dump of locks or grants can be restored
-- without it; and it writes the name as it is, and "none" where the role was dropped.
CREATE TYPE @extschema@.tfstate_role;
CREATE FUNCTION @extschema@.tfstate_role_in(cstring)
RETURNS @extschema@.tfstate_role
AS 'MODULE_PATHNAME', 'tfstate_role_in'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_role_in(cstring) IS 'I/O';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_role_in(cstring) TO PUBLIC;
CREATE FUNCTION @extschema@.tfstate_role_out(@extschema@.tfstate_role)
RETURNS cstring
AS 'MODULE_PATHNAME', 'tfstate_role_out'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_role_out(@extschema@.tfstate_role) IS 'I/O';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_role_out(@extschema@.tfstate_role) TO PUBLIC;
CREATE TYPE @extschema@.tfstate_role (
	INPUT = @extschema@.tfstate_role_in,
	OUTPUT = @extschema@.tfstate_role_out,
	LIKE = oid
);
COMMENT ON TYPE @extschema@.tfstate_role IS
'a role by its OID: "public" is everybody, and "none" nobody, as a role is that does not exist';
CREATE CAST (@extschema@.tfstate_role AS oid) WITHOUT FUNCTION AS IMPLICIT;
COMMENT ON CAST (@extschema@.tfstate_role AS oid) IS 'the OID of a role; 0 is everybody, 1 nobody';
CREATE CAST (oid AS @extschema@.tfstate_role) WITHOUT FUNCTION AS ASSIGNMENT;
COMMENT ON CAST (oid AS @extschema@.tfstate_role) IS 'the role of an OID';

CREATE TABLE @extschema@.tfstate_durable_lock (
	lockid text COLLATE "C" NOT NULL,
	fence bigint NOT NULL,
	id text COLLATE "C" NOT NULL,
	created timestamptz NOT NULL,
	ttl interval,
	expires_at timestamptz,
	session bigint NOT NULL,
	pid integer NOT NULL,
	role @extschema@.tfstate_role NOT NULL,
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
COMMENT ON TABLE @extschema@.tfstate_durable_lock IS
'the locks that are held in durable mode, one row each';
COMMENT ON COLUMN @extschema@.tfstate_durable_lock.session IS
'the random number that names the session which took the lock';
COMMENT ON COLUMN @extschema@.tfstate_durable_lock.role_name IS
'what the role was called when it took the lock';
COMMENT ON COLUMN @extschema@.tfstate_durable_lock.login_role IS
'the role that the session was, whatever SET ROLE it had done';
COMMENT ON COLUMN @extschema@.tfstate_durable_lock.run_id IS
'the UUID that names the run, in lower case';
COMMENT ON COLUMN @extschema@.tfstate_durable_lock.key IS
'the bigint that Terraform locks, where the lock came from there or covers a workspace';
COMMENT ON COLUMN @extschema@.tfstate_durable_lock.unlock_key IS
'the bigint that Terraform unlocks, where that is another: the key under which it created the workspace';
REVOKE ALL ON @extschema@.tfstate_durable_lock FROM PUBLIC;

-- Locks do not fire it: a key on lockid alone would make each lock step over what all
-- earlier ones have left behind.
CREATE FUNCTION @extschema@.tfstate_check_arriving_lock()
RETURNS trigger
AS 'MODULE_PATHNAME', 'tfstate_check_arriving_lock'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_check_arriving_lock() IS
'trigger of tfstate_durable_lock: a row that SQL puts there must be that of a free lock; logical replication changes nothing there';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_check_arriving_lock() FROM PUBLIC;
CREATE TRIGGER tfstate_check_arriving_lock BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.tfstate_durable_lock
	FOR EACH ROW EXECUTE FUNCTION @extschema@.tfstate_check_arriving_lock();
ALTER TABLE @extschema@.tfstate_durable_lock ENABLE ALWAYS TRIGGER tfstate_check_arriving_lock;
COMMENT ON TRIGGER tfstate_check_arriving_lock ON @extschema@.tfstate_durable_lock IS
'no lock is held twice, and logical replication changes nothing here';

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
	reason text
) USING heap
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
-- Not unique: a release must not fail for what is in the history.
CREATE INDEX tfstate_released_lock_lockid_fence_idx
	ON @extschema@.tfstate_released_lock (lockid, fence);
COMMENT ON INDEX @extschema@.tfstate_released_lock_lockid_fence_idx IS
'finds the newest holdings of a lockid';
CREATE INDEX tfstate_released_lock_released_at_idx
	ON @extschema@.tfstate_released_lock (released_at);
COMMENT ON INDEX @extschema@.tfstate_released_lock_released_at_idx IS
'finds what is older than tfstate.history_age';
COMMENT ON TABLE @extschema@.tfstate_released_lock IS
'the finished holdings that tfstate.history keeps, one row each';
REVOKE ALL ON @extschema@.tfstate_released_lock FROM PUBLIC;

-- The name is in the key for roles that a restore has not found, which are all nobody.
CREATE TABLE @extschema@.tfstate_privilege (
	role @extschema@.tfstate_role NOT NULL,
	pattern text COLLATE "C" NOT NULL,
	privilege text COLLATE "C" NOT NULL
		CHECK (privilege IN ('lock', 'view', 'force', 'override')),
	grantor text NOT NULL,
	granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	role_name text COLLATE "C" NOT NULL,
	PRIMARY KEY (role, pattern, privilege, role_name)
) USING heap;
COMMENT ON TABLE @extschema@.tfstate_privilege IS
'who may lock, view, force or override which lockids';
COMMENT ON COLUMN @extschema@.tfstate_privilege.role_name IS
'what the role was called when it was granted the privilege';
REVOKE ALL ON @extschema@.tfstate_privilege FROM PUBLIC;

CREATE TABLE @extschema@.tfstate_attached_table (
	relid regclass PRIMARY KEY,
	attached_by text NOT NULL,
	attached_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	guard text NOT NULL DEFAULT 'require' CHECK (guard IN ('off', 'on', 'require')),
	keep_versions integer CHECK (keep_versions > 0),
	keep_age interval CHECK (keep_age >= '0'),
	name text NOT NULL,
	default_workspace boolean NOT NULL DEFAULT true
) USING heap;
COMMENT ON TABLE @extschema@.tfstate_attached_table IS
'the tables of Terraform states whose workspaces are locked and guarded by tfstate';
COMMENT ON COLUMN @extschema@.tfstate_attached_table.guard IS
'what tfstate.guard is at least for writes to this table';
COMMENT ON COLUMN @extschema@.tfstate_attached_table.keep_versions IS
'how many versions of a state are kept; NULL keeps all';
COMMENT ON COLUMN @extschema@.tfstate_attached_table.keep_age IS
'for how long versions of a state are kept; NULL keeps them for ever';
COMMENT ON COLUMN @extschema@.tfstate_attached_table.name IS
'the name that the table was attached under, with which its lockids begin';
COMMENT ON COLUMN @extschema@.tfstate_attached_table.default_workspace IS
'whether tfstate_attach() makes the workspace "default" where it is missing, which OpenTofu cannot read where it encrypts states';
REVOKE ALL ON @extschema@.tfstate_attached_table FROM PUBLIC;

CREATE TABLE @extschema@.tfstate_attached_role (
	relid regclass,
	role @extschema@.tfstate_role,
	settings text[] NOT NULL DEFAULT '{}',
	role_name text COLLATE "C",
	PRIMARY KEY (relid, role, role_name)
) USING heap;
COMMENT ON TABLE @extschema@.tfstate_attached_role IS
'the roles that tfstate_attach() has made ready for Terraform';
COMMENT ON COLUMN @extschema@.tfstate_attached_role.role_name IS
'what the role was called then';
COMMENT ON COLUMN @extschema@.tfstate_attached_role.settings IS
'what it has set for the role in this database, the same in all rows of a role';
REVOKE ALL ON @extschema@.tfstate_attached_role FROM PUBLIC;

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
SELECT pg_extension_config_dump('@extschema@.tfstate_attached_role',
	'WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = relid)
	   AND EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = role)');

--
-- Locks
--

-- Named types: a record of OUT parameters is put together anew in each statement,
-- column by column, which takes a third as long as a try that fails.
CREATE TYPE @extschema@.tfstate_taken_lock AS (id text, fence bigint);
COMMENT ON TYPE @extschema@.tfstate_taken_lock IS 'what tfstate_lock() returns';

CREATE TYPE @extschema@.tfstate_tried_lock AS (locked boolean, id text, fence bigint, holder jsonb);
COMMENT ON TYPE @extschema@.tfstate_tried_lock IS 'what tfstate_try_lock() returns';

CREATE FUNCTION @extschema@.tfstate_lock(
	lockid text,
	info jsonb DEFAULT '{}',
	mode text DEFAULT 'durable',
	wait interval DEFAULT '0',
	ttl interval DEFAULT NULL)
RETURNS @extschema@.tfstate_taken_lock
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
	ttl interval DEFAULT NULL)
RETURNS @extschema@.tfstate_tried_lock
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

-- The grants of a role that was dropped are shown under the name that it had then, and
-- can be revoked under that.
CREATE VIEW @extschema@.tfstate_grants AS
SELECT coalesce(nullif(p.role::text, 'none'), p.role_name) AS role,
	   p.pattern, p.privilege, p.grantor, p.granted_at
  FROM @extschema@.tfstate_privilege p;
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
	INSERT INTO @extschema@.tfstate_privilege (role, pattern, privilege, grantor, role_name)
	SELECT roleid, tfstate_grant.pattern, tfstate_grant.privilege, current_user, tfstate_grant.role
	 WHERE NOT EXISTS (SELECT FROM @extschema@.tfstate_privilege p
						WHERE p.role = roleid AND p.pattern = tfstate_grant.pattern AND p.privilege = tfstate_grant.privilege)
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
	-- As the view shows it: a role that has the name, and one that had it and is gone.
	DELETE FROM @extschema@.tfstate_privilege p
	 WHERE coalesce(nullif(p.role::text, 'none'), p.role_name) = tfstate_revoke.role
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

-- What is shown about a lock is STABLE, so that a query that does not ask for it does
-- not pay for it.
CREATE FUNCTION @extschema@.tfstate_age(created timestamptz)
RETURNS interval
AS 'MODULE_PATHNAME', 'tfstate_age'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_age(timestamptz) IS
'how long ago a point in time was, in whole seconds';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_age(timestamptz) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_session_alive(session bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_session_alive'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_session_alive(bigint) IS
'whether a session that took a lock is still there; NULL on a standby';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_session_alive(bigint) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_waiter_count(lockid text, mode text)
RETURNS integer
AS 'MODULE_PATHNAME', 'tfstate_waiter_count'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_waiter_count(text, text) IS
'how many sessions wait for a lock that is held in the given mode; NULL on a standby';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_waiter_count(text, text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_session_locks()
RETURNS SETOF @extschema@.tfstate_session_lock
AS 'MODULE_PATHNAME', 'tfstate_session_locks'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_session_locks() IS
'the locks of living sessions that the current role may take or view; none on a standby';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_session_locks() TO PUBLIC;

CREATE VIEW @extschema@.tfstate_holders WITH (security_barrier) AS
SELECT l.lockid,
	   l.info OPERATOR(pg_catalog.->>) 'Who' AS who,
	   l.info OPERATOR(pg_catalog.->>) 'Operation' AS operation,
	   @extschema@.tfstate_age(l.created) AS age,
	   l.mode,
	   @extschema@.tfstate_waiter_count(l.lockid, CASE WHEN l.key IS NULL AND l.unlock_key IS NOT NULL THEN 'tied' ELSE l.mode END) AS waiters,
	   l.id,
	   l.fence,
	   @extschema@.tfstate_session_alive(l.session) AS session_alive,
	   l.created,
	   l.expires_at,
	   coalesce(nullif(l.role::text, 'none'), l.role_name) AS role,
	   l.application_name,
	   l.client_addr,
	   l.pid,
	   l.info,
	   l.login_role
  FROM (SELECT 'durable' AS mode, d.*
		  FROM @extschema@.tfstate_durable_lock d
		UNION ALL
		SELECT 'session', s.*
		  FROM @extschema@.tfstate_session_locks() s) l
 WHERE (l.expires_at IS NULL OR l.expires_at > clock_timestamp())
   AND (@extschema@.tfstate_has_privilege(l.lockid, 'view') OR @extschema@.tfstate_has_privilege(l.lockid, 'lock'));
COMMENT ON VIEW @extschema@.tfstate_holders IS
'the locks that are held, one row each';
REVOKE ALL ON @extschema@.tfstate_holders FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_holders TO PUBLIC;

-- In the twins of the views the text without a star is looked up by index.  This one
-- is planned for both kinds of text in each call, and to compile what a star would need
-- takes longer than the look-up.
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
	   coalesce(nullif(r.role::text, 'none'), r.role_name) AS role,
	   r.application_name,
	   r.client_addr,
	   r.pid,
	   r.info,
	   r.login_role
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
	OUT size bigint,
	OUT encrypted boolean)
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
	named boolean,
	OUT version bigint,
	OUT problem text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_verify_workspace'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_verify_workspace(text, boolean, boolean) IS
'part of tfstate_verify(): what is wrong with one workspace, as of the statement''s snapshot';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_verify_workspace(text, boolean, boolean) TO PUBLIC;

-- A workspace whose table is not attached any more is looked at if it is named.

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
	 CROSS JOIN LATERAL @extschema@.tfstate_verify_workspace(w.workspace, tfstate_verify.versions,
															w.workspace = tfstate_verify.pattern COLLATE "C") p
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
'record what is in the table as the newest version if that is another one or damaged, and return its number';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_repair(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_record_states("table" regclass)
RETURNS void
AS 'MODULE_PATHNAME', 'tfstate_record_states'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_record_states(regclass) IS
'part of tfstate_attach(): record the states of a table that is locked against writes';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_record_states(regclass) FROM PUBLIC;

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

-- A procedure that commits cannot set search_path, so all is qualified.
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
	PERFORM @extschema@.tfstate_matches('', '');	-- loads the library, which has the setting
	batch := pg_catalog.current_setting('tfstate.max_session_locks');
	FOR workspace IN
		SELECT DISTINCT v.lockid COLLATE "C"
		  FROM @extschema@.tfstate_stored_version v
		 WHERE @extschema@.tfstate_matches(v.lockid, tfstate_prune_in_batches.pattern)
		 ORDER BY 1
	LOOP
		pruned := pruned OPERATOR(pg_catalog.+)
			@extschema@.tfstate_prune_workspace(workspace, tfstate_prune_in_batches.keep_versions, tfstate_prune_in_batches.keep_age);
		looked_at := looked_at OPERATOR(pg_catalog.+) 1;
		IF looked_at OPERATOR(pg_catalog.%) pg_catalog.int4smaller(batch, 100) OPERATOR(pg_catalog.=) 0 THEN
			COMMIT;
		END IF;
	END LOOP;
END;
$$;
COMMENT ON PROCEDURE @extschema@.tfstate_prune_in_batches(text, integer, interval, bigint) IS
'the same for any number of workspaces: commit after each hundred of them';
REVOKE EXECUTE ON PROCEDURE @extschema@.tfstate_prune_in_batches(text, integer, interval, bigint) FROM PUBLIC;

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
	   s.id,
	   s.encrypted
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
-- Tables of Terraform states.  tfstate_attach() works on tables that other roles
-- own, mostly as a superuser, so nothing that the owner of a table wrote may run
-- in it: see tfstate_attach_obstacles().  SQL reads the table that is being
-- attached only, while tfstate_lock_table() holds its name and definition.
--

CREATE FUNCTION @extschema@.tfstate_table_name(rel regclass)
RETURNS text
AS 'MODULE_PATHNAME', 'tfstate_table_name'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tfstate_table_name(regclass) IS
'the name of a table as its lockids begin with it, which no setting and no version of the server changes; NULL if it is gone';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_table_name(regclass) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_unique_index(rel regclass, "column" text)
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
COMMENT ON FUNCTION @extschema@.tfstate_unique_index(regclass, text) IS
'an index that keeps the values of a column apart, one of no constraint if there is a choice';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_unique_index(regclass, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_takes_shared_ids(rel regclass)
RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM pg_attribute a JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
				WHERE a.attrelid = rel AND a.attname = 'id'
				  AND pg_get_expr(d.adbin, d.adrelid) = 'nextval(''public.global_states_id_seq''::regclass)')
$$;
COMMENT ON FUNCTION @extschema@.tfstate_takes_shared_ids(regclass) IS
'whether the ids of a table come from the sequence that all tables of states share';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_takes_shared_ids(regclass) FROM PUBLIC;

-- What the owner of a table can have attached to it to run in the session of
-- whoever writes to it.
CREATE FUNCTION @extschema@.tfstate_foreign_code(rel regclass)
RETURNS SETOF text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT pg_describe_object(o.classid, o.objid, 0)
  FROM (SELECT 'pg_trigger'::regclass AS classid, t.oid AS objid FROM pg_trigger t
		 WHERE t.tgrelid = rel AND NOT t.tgisinternal
		   AND t.tgfoid <> '@extschema@.tfstate_guard()'::regprocedure
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
COMMENT ON FUNCTION @extschema@.tfstate_foreign_code(regclass) IS
'what of others would run in the session of whoever writes to a table';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_foreign_code(regclass) FROM PUBLIC;

-- The code of a superuser, or of the caller, is no obstacle.
CREATE FUNCTION @extschema@.tfstate_attach_obstacles(
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
	   LATERAL (VALUES
		(c.relkind <> 'r', '42809', format('"%s" is not an ordinary table', rel), NULL),
		(c.relpersistence = 't', '42809', format('table "%s" is temporary', rel), NULL),
		(c.relpersistence = 'u', '55000', format('table "%s" is unlogged: a crash empties it', rel),
		 format('ALTER TABLE %s SET LOGGED', rel)),
		(EXISTS (SELECT FROM pg_inherits i WHERE rel IN (i.inhrelid, i.inhparent)), '42809',
		 format('table "%s" is a partition, or inherits from another or the other way round', rel), NULL),
		(EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = rel AND d.deptype = 'e'), '42809',
		 format('table "%s" belongs to an extension', rel), NULL),
		(EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = rel AND r.ev_type IN ('2', '3', '4')), '55000',
		 format('table "%s" has a rule, which keeps Terraform from writing', rel),
		 (SELECT string_agg(format('DROP RULE %I ON %s', r.rulename, rel), '; ' ORDER BY r.rulename)
			FROM pg_rewrite r WHERE r.ev_class = rel AND r.ev_type IN ('2', '3', '4'))),
		(c.relrowsecurity, '55000', format('table "%s" has row-level security, which hides states', rel),
		 format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', rel)),
		(3 <> (SELECT count(*) FROM pg_attribute a
				WHERE a.attrelid = rel AND NOT a.attisdropped AND a.attgenerated = ''
				  AND (a.attname, a.atttypid) IN (('id', 'bigint'::regtype), ('id', 'integer'::regtype),
												  ('name', 'text'::regtype), ('data', 'text'::regtype))), '42809',
		 format('table "%s" does not have the columns id bigint, name text and data text', rel), NULL),
		(NOT owner.rolsuper AND owner.rolname <> current_user AND EXISTS (SELECT FROM @extschema@.tfstate_foreign_code(rel)), '55000',
		 format('table "%s" has code of role "%s", which would run as "%s": %s', rel, owner.rolname, current_user,
				(SELECT string_agg(code, ', ' ORDER BY code) FROM @extschema@.tfstate_foreign_code(rel) code)),
		 NULL)
	   ) o(applies, sqlstate, problem, remedy)
 WHERE c.oid = rel AND o.applies
$$;
COMMENT ON FUNCTION @extschema@.tfstate_attach_obstacles(regclass) IS
'why a table cannot be one of Terraform states that tfstate looks after';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_attach_obstacles(regclass) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_raise_obstacle(rel regclass)
RETURNS void
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	obstacle record;
BEGIN
	SELECT * INTO obstacle FROM @extschema@.tfstate_attach_obstacles(rel) LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION '%', obstacle.problem
			USING ERRCODE = obstacle.sqlstate,
				  HINT = CASE WHEN obstacle.remedy IS NULL THEN 'States are kept in a table as Terraform creates it.'
							  ELSE format('Run: %s', obstacle.remedy) END;
	END IF;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_raise_obstacle(regclass) IS
'part of tfstate_attach(): refuse a table that tfstate cannot look after';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_raise_obstacle(regclass) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_check_table_name(schema text, "table" text)
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
	-- A check behind a lock has to see what was there when the lock was granted.
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'tables can be attached and detached in a READ COMMITTED transaction only'
			USING ERRCODE = 'invalid_transaction_state',
				  HINT = 'Begin it with: BEGIN ISOLATION LEVEL READ COMMITTED';
	END IF;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_check_table_name(text, text) IS
'part of tfstate_attach() and tfstate_detach(): check the arguments that name the table';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_check_table_name(text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_check_attach(
	role name,
	mode text,
	wait interval,
	guard text,
	keep_versions integer,
	keep_age interval)
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
		(role IS NULL AND (mode IS NOT NULL OR wait IS NOT NULL), 'mode and wait are settings of a role', 'Name it with role => .'),
		(mode NOT IN ('session', 'durable'), format('unrecognized mode: "%s"', mode), 'Valid modes are "session" and "durable".'),
		(wait < '0' OR wait > '24 days', 'wait is out of range', 'It can be 0 to 24 days.'),
		(guard NOT IN ('off', 'on', 'require'), format('unrecognized guard: "%s"', guard), 'Valid values are "off", "on" and "require".'),
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
			USING ERRCODE = 'undefined_object', HINT = format('Create it with: CREATE ROLE %I LOGIN PASSWORD ...', role);
	END IF;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_check_attach(name, text, interval, text, integer, interval) IS
'part of tfstate_attach(): check the other arguments';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_check_attach(name, text, interval, text, integer, interval) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_rights(
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
												 WHERE (i.classoid, i.objoid, i.objsubid) = (tfstate_rights.classid, tfstate_rights.objid, 0)),
											   acldefault(o.type, o.owner))) u
				WHERE o.suffix = '' AND u.grantee IN (0, a.grantee) AND u.privilege_type = a.privilege_type)
  FROM (SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END AS kind, c.oid::regclass::text AS name, c.relacl AS acl,
			   c.relowner AS owner, CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END AS type, '' AS suffix
		  FROM pg_class c WHERE tfstate_rights.classid = 'pg_class'::regclass AND c.oid = tfstate_rights.objid
		UNION ALL
		SELECT 'TABLE ', c.oid::regclass::text, a.attacl, c.relowner, 'c', format(' (%I)', a.attname)
		  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		 WHERE tfstate_rights.classid = 'pg_class'::regclass AND c.oid = tfstate_rights.objid AND a.attacl IS NOT NULL
		UNION ALL
		SELECT 'ROUTINE ', p.oid::regprocedure::text, p.proacl, p.proowner, 'f', ''
		  FROM pg_proc p WHERE tfstate_rights.classid = 'pg_proc'::regclass AND p.oid = tfstate_rights.objid
		UNION ALL
		SELECT 'TYPE ', t.oid::regtype::text, t.typacl, t.typowner, 'T', ''
		  FROM pg_type t WHERE tfstate_rights.classid = 'pg_type'::regclass AND t.oid = tfstate_rights.objid
		UNION ALL
		SELECT 'SCHEMA ', n.oid::regnamespace::text, n.nspacl, n.nspowner, 'n', ''
		  FROM pg_namespace n WHERE tfstate_rights.classid = 'pg_namespace'::regclass AND n.oid = tfstate_rights.objid) o,
	   aclexplode(o.acl) a
 WHERE a.grantee <> o.owner
$$;
COMMENT ON FUNCTION @extschema@.tfstate_rights(oid, oid) IS
'the rights that others than its owner have on an object, and whether it was made with them; grantee 0 is everybody';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_rights(oid, oid) FROM PUBLIC;

-- What the default privileges of a database give to others was not meant for states.
CREATE FUNCTION @extschema@.tfstate_revoke_rights(classid oid, objid oid)
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
		  FROM @extschema@.tfstate_rights(tfstate_revoke_rights.classid, tfstate_revoke_rights.objid) r
	LOOP
		EXECUTE command;
	END LOOP;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_revoke_rights(oid, oid) IS
'part of tfstate_attach(): take from all others what default privileges gave them on a new object';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_revoke_rights(oid, oid) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_lock_table(schema text, "table" text)
RETURNS regclass
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	qualified text := format('%I.%I', schema, "table");
BEGIN
	-- What Terraform would create, and in its words.
	IF to_regnamespace(quote_ident(schema)) IS NULL THEN
		EXECUTE format('CREATE SCHEMA %I', schema);
		PERFORM @extschema@.tfstate_revoke_rights('pg_namespace'::regclass::oid, to_regnamespace(quote_ident(schema))::oid);
	END IF;
	IF to_regclass('public.global_states_id_seq') IS NULL THEN
		CREATE SEQUENCE public.global_states_id_seq AS bigint;
		PERFORM @extschema@.tfstate_revoke_rights('pg_class'::regclass::oid, to_regclass('public.global_states_id_seq')::oid);
	END IF;
	IF to_regclass(qualified) IS NULL THEN
		EXECUTE format('CREATE TABLE %s (id bigint NOT NULL DEFAULT nextval(''public.global_states_id_seq'') PRIMARY KEY, name text UNIQUE, data text)', qualified);
		EXECUTE format('CREATE UNIQUE INDEX %s ON %s (name)',
					   CASE WHEN "table" = 'states' THEN 'states_by_name' ELSE '' END, qualified);
		PERFORM @extschema@.tfstate_revoke_rights('pg_class'::regclass::oid, to_regclass(qualified)::oid);
	END IF;

	-- From here on neither the schema nor the table can get another name, so that
	-- all that follows is about this table; and its rows stay as they are.  The
	-- owner of the schema has the privilege anyway: it is for the lock of its row.
	EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', schema,
				   (SELECT pg_get_userbyid(n.nspowner) FROM pg_namespace n WHERE n.nspname = schema));
	IF EXISTS (SELECT FROM pg_class c WHERE c.oid = to_regclass(qualified) AND c.relkind = 'r') THEN
		EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', qualified);
	END IF;
	RETURN to_regclass(qualified);
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_lock_table(text, text) IS
'part of tfstate_attach(): create a table of states where it is missing, and lock it';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_lock_table(text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_adopt_columns(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id record;
BEGIN
	SELECT a.atttypid, a.attidentity INTO id FROM pg_attribute a WHERE a.attrelid = rel AND a.attname = 'id';
	IF id.attidentity <> '' THEN
		EXECUTE format('ALTER TABLE %s ALTER id DROP IDENTITY', rel);
	END IF;
	IF id.atttypid <> 'bigint'::regtype THEN
		EXECUTE format('ALTER TABLE %s ALTER id DROP DEFAULT, ALTER id TYPE bigint', rel);
	END IF;
	IF NOT @extschema@.tfstate_takes_shared_ids(rel) THEN
		EXECUTE format('ALTER TABLE %s ALTER id SET DEFAULT nextval(''public.global_states_id_seq'')', rel);
	END IF;
	-- Several times as fast as the default, and each write of a state compresses it.
	IF EXISTS (SELECT FROM pg_attribute a, pg_settings s
				WHERE a.attrelid = rel AND a.attname = 'data' AND a.attcompression = ''
				  AND s.name = 'default_toast_compression' AND 'lz4' = ANY (s.enumvals)) THEN
		EXECUTE format('ALTER TABLE %s ALTER data SET COMPRESSION lz4', rel);
	END IF;
	IF @extschema@.tfstate_unique_index(rel, 'id') IS NULL THEN
		EXECUTE format(CASE WHEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = rel AND i.indisprimary)
							THEN 'CREATE UNIQUE INDEX ON %s (id)' ELSE 'ALTER TABLE %s ADD PRIMARY KEY (id)' END, rel);
	END IF;
	IF @extschema@.tfstate_unique_index(rel, 'name') IS NULL THEN
		EXECUTE format('CREATE UNIQUE INDEX %s ON %s (name)',
					   CASE WHEN (SELECT c.relname FROM pg_class c WHERE c.oid = rel) = 'states' THEN 'states_by_name' ELSE '' END, rel);
	END IF;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_adopt_columns(regclass) IS
'part of tfstate_attach(): give a table the ids, indexes and compression that are best now';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_adopt_columns(regclass) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_rows(
	OUT "table" regclass,
	OUT workspace text,
	OUT id bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_rows'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_rows() IS
'the rows of all attached tables; workspace is NULL for one without a name, which is none';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_rows() FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_colliding_ids()
RETURNS SETOF text
LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
WITH s AS MATERIALIZED (SELECT * FROM @extschema@.tfstate_rows() r WHERE r.workspace IS NOT NULL)
SELECT format('id %s belongs to workspace "%s" and to "%s"', a.id, a.workspace, b.workspace)
  FROM s a JOIN s b ON a.id = b.id AND a."table"::oid < b."table"::oid
$$;
COMMENT ON FUNCTION @extschema@.tfstate_colliding_ids() IS
'the ids that workspaces of two attached tables have, so that nobody can tell which one Terraform locks';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_colliding_ids() FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_row_obstacles(rel regclass)
RETURNS SETOF text
LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY EXECUTE format($query$
		SELECT format('table "%%s" has a row without a name', $1) FROM %1$s WHERE name IS NULL
		UNION
		SELECT format('table "%%s" has several rows of the name "%%s"', $1, name) FROM %1$s GROUP BY name HAVING count(name) > 1
		UNION
		SELECT format('table "%%s" has a row without an id', $1) FROM %1$s WHERE id IS NULL
		UNION
		SELECT format('table "%%s" has several rows of the id %%s', $1, id) FROM %1$s GROUP BY id HAVING count(id) > 1
		UNION
		SELECT format('id %%s of a workspace of "%%s" is less than 1', id, $1) FROM %1$s WHERE id < 1$query$, rel) USING rel;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_row_obstacles(regclass) IS
'part of tfstate_attach(): why the rows of a table cannot be workspaces';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_row_obstacles(regclass) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_raise_row_obstacle(rel regclass)
RETURNS void
LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	problem text;
BEGIN
	SELECT p INTO problem
	  FROM (SELECT * FROM @extschema@.tfstate_row_obstacles(rel)
			UNION ALL SELECT * FROM @extschema@.tfstate_colliding_ids()) o(p) ORDER BY p LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION '%', problem
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  HINT = 'While nothing runs, correct or delete the row; a new id is had with nextval(''public.global_states_id_seq'').';
	END IF;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_raise_row_obstacle(regclass) IS
'part of tfstate_attach(): refuse a table whose workspaces cannot be told apart';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_raise_row_obstacle(regclass) FROM PUBLIC;

-- A sequence that ALTER SEQUENCE has touched gives out no value to others before
-- the end of the transaction, and then none that they have cached.
CREATE FUNCTION @extschema@.tfstate_advance_sequence(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	newest bigint;
BEGIN
	EXECUTE format('SELECT max(id) FROM %s', rel) INTO newest;
	IF newest > coalesce(pg_sequence_last_value('public.global_states_id_seq'), 0) THEN
		ALTER SEQUENCE public.global_states_id_seq NO CYCLE;
		EXECUTE format('ALTER SEQUENCE public.global_states_id_seq RESTART WITH %s',
					   greatest(newest, pg_sequence_last_value('public.global_states_id_seq')));
		PERFORM nextval('public.global_states_id_seq');
	END IF;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_advance_sequence(regclass) IS
'part of tfstate_attach(): let the shared sequence go on behind the ids that a table has';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_advance_sequence(regclass) FROM PUBLIC;

-- With a row for it, the first apply locks the workspace and not the key under
-- which workspaces are created.  The row goes again if it is not wanted and nobody has
-- written it since.
CREATE FUNCTION @extschema@.tfstate_create_default(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning	-- it locks a workspace that does not exist
AS $$
DECLARE
	lockid text := @extschema@.tfstate_table_name(rel) || '/default';
	guarded boolean := EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = rel AND g.tgname = 'tfstate_guard_row');
	wanted boolean := (SELECT t.default_workspace FROM @extschema@.tfstate_attached_table t WHERE t.relid = rel);
	pattern text := '{"version":4,"terraform_version":"1.0.0","serial":0,"lineage":"%s","outputs":{},"resources":[],"check_results":null}';
	change boolean;
BEGIN
	EXECUTE format(CASE WHEN wanted THEN 'SELECT NOT EXISTS (SELECT FROM %s WHERE name = ''default'')'
						ELSE 'SELECT EXISTS (SELECT FROM %s WHERE name = ''default'' AND data LIKE $1)' END, rel)
		INTO change USING format(pattern, repeat('_', 36));
	IF NOT change THEN
		RETURN;
	END IF;
	IF guarded THEN
		PERFORM @extschema@.tfstate_lock(lockid, '{"Operation": "tfstate_attach()"}'::jsonb, 'session', '0'::interval, NULL::interval);
	END IF;
	IF wanted THEN
		EXECUTE format('INSERT INTO %s (id, name, data) VALUES (nextval(''public.global_states_id_seq''), ''default'', $1)', rel)
			USING format(pattern, gen_random_uuid());
	ELSE
		EXECUTE format('DELETE FROM %s WHERE name = ''default''', rel);
	END IF;
	IF guarded THEN
		PERFORM @extschema@.tfstate_unlock(lockid, NULL);
	END IF;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_create_default(regclass) IS
'part of tfstate_attach(): create the workspace "default", with an empty state, where it is missing, or remove it again';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_create_default(regclass) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_record_table(
	rel regclass,
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
	-- Under another name, the roles need other grants.
	WITH old AS (
		DELETE FROM @extschema@.tfstate_privilege p
		 USING @extschema@.tfstate_attached_table t JOIN @extschema@.tfstate_attached_role r ON r.relid = t.relid
		 WHERE t.relid = rel AND t.name <> @extschema@.tfstate_table_name(rel)
		   AND (p.role, p.pattern, p.privilege) = (r.role, t.name || '/*', 'lock')
		RETURNING p.role)
	INSERT INTO @extschema@.tfstate_privilege (role, pattern, privilege, grantor, role_name)
	SELECT old.role, @extschema@.tfstate_table_name(rel) || '/*', 'lock', current_user, old.role::text FROM old
	ON CONFLICT DO NOTHING;

	INSERT INTO @extschema@.tfstate_attached_table (relid, attached_by, name) VALUES (rel, current_user, @extschema@.tfstate_table_name(rel))
	ON CONFLICT (relid) DO UPDATE SET name = excluded.name;
	UPDATE @extschema@.tfstate_attached_table t
	   SET guard = coalesce(tfstate_record_table.guard, t.guard),
		   keep_versions = nullif(coalesce(tfstate_record_table.keep_versions, t.keep_versions), -1),
		   keep_age = nullif(coalesce(tfstate_record_table.keep_age, t.keep_age), '-1'),
		   default_workspace = coalesce(tfstate_record_table.default_workspace, t.default_workspace)
	 WHERE t.relid = rel;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_record_table(regclass, text, integer, interval, boolean) IS
'part of tfstate_attach(): enter a table into tfstate_attached_table';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_record_table(regclass, text, integer, interval, boolean) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_guard_table(rel regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('CREATE OR REPLACE TRIGGER tfstate_guard_row AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION @extschema@.tfstate_guard()', rel);
	EXECUTE format('CREATE OR REPLACE TRIGGER tfstate_guard_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.tfstate_guard()', rel);
	PERFORM @extschema@.tfstate_record_states(rel);
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_guard_table(regclass) IS
'part of tfstate_attach(): put the triggers on a table and record its states';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_guard_table(regclass) FROM PUBLIC;

-- What Terraform's statements need, and no more: it never changes an id or a name.
-- The default of id needs the sequence.
CREATE FUNCTION @extschema@.tfstate_needed_grants(rel regclass, OUT owner oid, OUT privileges text)
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
COMMENT ON FUNCTION @extschema@.tfstate_needed_grants(regclass) IS
'the privileges that Terraform needs for a table of states, and who has them anyway';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_needed_grants(regclass) FROM PUBLIC;

-- The server closes the connection of a client that does not answer after ten
-- seconds, and no other sooner.  Parameters, which states are, stay out of the log.
CREATE FUNCTION @extschema@.tfstate_needed_settings(mode text, wait interval, OUT name text, OUT value text)
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
COMMENT ON FUNCTION @extschema@.tfstate_needed_settings(text, interval) IS
'the settings of a role of Terraform that this server has and the caller may give';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_needed_settings(text, interval) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_attach_role(rel regclass, role name, mode text, wait interval)
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	roleid oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = tfstate_attach_role.role);
	command text;
	missing text;
BEGIN
	IF @extschema@.tfstate_table_name(rel) LIKE '%*%' THEN
		RAISE EXCEPTION 'cannot grant the locks of table "%" alone, because a star in a pattern stands for any text', rel
			USING ERRCODE = 'feature_not_supported';
	END IF;
	PERFORM @extschema@.tfstate_matches('', '');	-- loads the library, which has the settings tfstate.*
	FOR command IN
		SELECT format('GRANT %s TO %I', g.privileges, tfstate_attach_role.role)
		  FROM @extschema@.tfstate_needed_grants(rel) g WHERE g.owner <> roleid
		UNION ALL
		SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), tfstate_attach_role.role)
		 WHERE NOT has_database_privilege(roleid, current_database(), 'CONNECT')
		UNION ALL
		SELECT format('GRANT USAGE ON SCHEMA tfstate_pg TO %I', tfstate_attach_role.role)
		 WHERE NOT has_schema_privilege(roleid, to_regnamespace('tfstate_pg'), 'USAGE')
		UNION ALL
		SELECT format('ALTER ROLE %I IN DATABASE %I SET %s = %s', tfstate_attach_role.role, current_database(), s.name, s.value)
		  FROM @extschema@.tfstate_needed_settings(mode, wait) s
	LOOP
		EXECUTE command;
	END LOOP;
	PERFORM @extschema@.tfstate_grant(tfstate_attach_role.role, @extschema@.tfstate_table_name(rel) || '/*', 'lock');

	INSERT INTO @extschema@.tfstate_attached_role (relid, role, role_name)
	SELECT rel, roleid, tfstate_attach_role.role
	 WHERE NOT EXISTS (SELECT FROM @extschema@.tfstate_attached_role a WHERE a.relid = rel AND a.role = roleid);
	UPDATE @extschema@.tfstate_attached_role a
	   SET settings = ARRAY(
			SELECT c FROM @extschema@.tfstate_role_config(roleid) c
			 WHERE split_part(c, '=', 1) IN (SELECT s.name FROM @extschema@.tfstate_needed_settings(mode, wait) s)
				OR c IN (SELECT unnest(b.settings) FROM @extschema@.tfstate_attached_role b WHERE b.role = roleid))
	 WHERE a.role = roleid;

	SELECT m.missing INTO missing FROM @extschema@.tfstate_missing_privileges(ARRAY[rel], ARRAY[roleid], ARRAY[true]) m;
	IF missing IS NOT NULL THEN
		RAISE EXCEPTION 'could not give role "%" all that Terraform needs for table "%": it lacks %', tfstate_attach_role.role, rel, missing
			USING ERRCODE = 'insufficient_privilege',
				  HINT = 'Let a superuser call tfstate_attach().';
	END IF;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_attach_role(regclass, name, text, interval) IS
'part of tfstate_attach(): give a role the privileges and settings that Terraform needs';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_attach_role(regclass, name, text, interval) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_role_config(roleid oid)
RETURNS SETOF text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
 WHERE s.setrole = roleid AND d.datname = current_database()
$$;
COMMENT ON FUNCTION @extschema@.tfstate_role_config(oid) IS
'what is set for a role in this database, each as name=value';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_role_config(oid) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_quote_hcl(value text)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $sql$
SELECT '"' || replace(replace(replace(replace(replace(value, E'\\', E'\\\\'), '"', E'\\"'), E'\n', E'\\n'), '${', '$${'), '%{', '%%{') || '"'
$sql$;
COMMENT ON FUNCTION @extschema@.tfstate_quote_hcl(text) IS
'a text as a string of Terraform''s configuration';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_quote_hcl(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_quote_url(value text)
RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT string_agg(CASE WHEN c COLLATE "C" ~ '^[A-Za-z0-9._~-]$' THEN c
					   ELSE upper(regexp_replace(encode(convert_to(c, 'UTF8'), 'hex'), '(..)', '%\1', 'g')) END, '' ORDER BY n)
  FROM regexp_split_to_table(value, '') WITH ORDINALITY t(c, n)
$$;
COMMENT ON FUNCTION @extschema@.tfstate_quote_url(text) IS
'a text as a part of a URL';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_quote_url(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_backend_block(rel regclass)
RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT concat_ws(E'\n',
	'terraform {',
	'  backend "pg" {',
	'    schema_name          = ' || @extschema@.tfstate_quote_hcl(n.nspname::text),
	CASE WHEN c.relname <> 'states' THEN	-- OpenTofu 1.10 and later
		'    table_name           = ' || @extschema@.tfstate_quote_hcl(c.relname::text) || E'\n' ||
		'    index_name           = ' || @extschema@.tfstate_quote_hcl((SELECT i.relname::text FROM pg_class i WHERE i.oid = @extschema@.tfstate_unique_index(rel, 'name'))) END,
	'    skip_schema_creation = true',
	'    skip_table_creation  = true',
	'    skip_index_creation  = true',
	'  }',
	'}')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = rel
$$;
COMMENT ON FUNCTION @extschema@.tfstate_backend_block(regclass) IS
'part of tfstate_attach(): the configuration of Terraform for a table of states';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_backend_block(regclass) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_attach_text(rel regclass, role name)
RETURNS text
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT concat_ws(E'\n',
	@extschema@.tfstate_backend_block(rel),
	CASE WHEN tfstate_attach_text.role IS NULL THEN
		format(E'# A role is made ready for Terraform with\n# SELECT @extschema@.tfstate_attach(%L, %L, role => ''...'');', n.nspname, c.relname)
	END,
	format('export PG_CONN_STR="postgres://%s@HOST:PORT/%s"',
		   coalesce(@extschema@.tfstate_quote_url(tfstate_attach_text.role::text), 'ROLE'), @extschema@.tfstate_quote_url(current_database()::text)),
	format('export PGOPTIONS="%s-c tfstate.who=$USER@$HOSTNAME -c tfstate.operation=apply"',
		   CASE WHEN tfstate_attach_text.role IS NULL THEN '-c search_path=tfstate_pg,pg_catalog,public ' END),
	CASE WHEN 'tfstate.mode=durable' = ANY (a.settings) THEN
		'export PGAPPNAME="tfstate-run:$(uuidgen)"   # another one for each run: it owns the locks'
	END,
	CASE WHEN EXISTS (SELECT FROM @extschema@.tfstate_states(@extschema@.tfstate_table_name(rel) || '/default') s
					   WHERE s.serial = 0 AND s.terraform_version = '1.0.0' AND NOT s.encrypted) THEN
		format('# If OpenTofu encrypts states: SELECT @extschema@.tfstate_attach(%L, %L, default_workspace => false);', n.nspname, c.relname)
	END,
	CASE WHEN NOT r.rolcanlogin THEN
		format('# "%s" cannot log in, and its members do not inherit its settings: call tfstate_attach() for them.', tfstate_attach_text.role)
	END,
	CASE WHEN tfstate_attach_text.role IS NOT NULL AND NOT has_parameter_privilege(current_user, 'log_parameter_max_length', 'SET') THEN
		format(E'# To keep states out of the server log, a superuser runs\n# ALTER ROLE %I IN DATABASE %I SET log_parameter_max_length = 0;',
			   tfstate_attach_text.role, current_database())
	END)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	   LEFT JOIN pg_roles r ON r.rolname = tfstate_attach_text.role
	   LEFT JOIN @extschema@.tfstate_attached_role a ON (a.relid, a.role) = (c.oid, r.oid)
 WHERE c.oid = rel
$$;
COMMENT ON FUNCTION @extschema@.tfstate_attach_text(regclass, name) IS
'part of tfstate_attach(): what to paste into the configuration and the environment of Terraform';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_attach_text(regclass, name) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_attach(
	schema text DEFAULT 'terraform_remote_state',
	"table" text DEFAULT 'states',
	role name DEFAULT NULL,
	mode text DEFAULT NULL,
	wait interval DEFAULT NULL,
	guard text DEFAULT NULL,
	keep_versions integer DEFAULT NULL,
	keep_age interval DEFAULT NULL,
	default_workspace boolean DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
#variable_conflict use_variable
DECLARE
	rel regclass;
BEGIN
	PERFORM @extschema@.tfstate_check_table_name(schema, "table");
	PERFORM @extschema@.tfstate_check_attach(role, mode, wait, guard, keep_versions, keep_age);

	-- One at a time, for ids that collide are looked for in attached tables.
	LOCK TABLE @extschema@.tfstate_attached_table IN SHARE ROW EXCLUSIVE MODE;
	DELETE FROM @extschema@.tfstate_attached_role a
	 WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = a.relid) OR NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.role);
	DELETE FROM @extschema@.tfstate_attached_table t
	 WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relid);

	rel := @extschema@.tfstate_lock_table(schema, "table");
	PERFORM @extschema@.tfstate_raise_obstacle(rel);
	PERFORM @extschema@.tfstate_record_table(rel, guard, keep_versions, keep_age, default_workspace);
	-- Before the indexes are made, which such rows would be in the way of, and then the
	-- ids of other tables, too, which takes columns as Terraform makes them.
	PERFORM @extschema@.tfstate_raise_row_obstacle(rel);
	PERFORM @extschema@.tfstate_adopt_columns(rel);
	PERFORM @extschema@.tfstate_raise_row_obstacle(rel);
	PERFORM @extschema@.tfstate_advance_sequence(rel);
	PERFORM @extschema@.tfstate_create_default(rel);
	PERFORM @extschema@.tfstate_guard_table(rel);
	IF role IS NOT NULL THEN
		PERFORM @extschema@.tfstate_attach_role(rel, role, mode, wait);
	END IF;
	RETURN @extschema@.tfstate_attach_text(rel, role);
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_attach(text, text, name, text, interval, text, integer, interval, boolean) IS
'put a table of Terraform states under tfstate, creating it where it is missing, and make a role ready to use it';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_attach(text, text, name, text, interval, text, integer, interval, boolean) FROM PUBLIC;

-- What other attached tables need is kept.
CREATE FUNCTION @extschema@.tfstate_detach_role(rel regclass, roleid oid)
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rolename name := (SELECT r.rolname FROM pg_roles r WHERE r.oid = roleid);
	set_by_us text[];
	command text;
BEGIN
	DELETE FROM @extschema@.tfstate_privilege p
	 WHERE (p.role, p.pattern, p.privilege) = (roleid, @extschema@.tfstate_table_name(rel) || '/*', 'lock');
	DELETE FROM @extschema@.tfstate_attached_role a
	 WHERE a.relid = rel AND a.role = roleid RETURNING a.settings INTO set_by_us;
	IF rolename IS NULL THEN
		RETURN;
	END IF;
	FOR command IN
		SELECT format('REVOKE %s FROM %I', g.privileges, rolename)
		  FROM @extschema@.tfstate_needed_grants(rel) g
		 WHERE g.owner <> roleid AND NOT EXISTS (
			SELECT FROM @extschema@.tfstate_attached_role a JOIN @extschema@.tfstate_needed_grants(a.relid) o ON o = g
			 WHERE a.role = roleid)
		UNION ALL
		SELECT format('ALTER ROLE %I IN DATABASE %I RESET %s', rolename, current_database(), split_part(c, '=', 1))
		  FROM @extschema@.tfstate_role_config(roleid) c
		 WHERE c = ANY (set_by_us) AND NOT EXISTS (SELECT FROM @extschema@.tfstate_attached_role a WHERE a.role = roleid)
	LOOP
		EXECUTE command;
	END LOOP;
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_detach_role(regclass, oid) IS
'part of tfstate_detach(): take back what tfstate_attach_role() gave';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_detach_role(regclass, oid) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_detach(
	schema text DEFAULT 'terraform_remote_state',
	"table" text DEFAULT 'states')
RETURNS void
LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off SET standard_conforming_strings = on SET IntervalStyle = postgres
AS $$
DECLARE
	rel regclass;
BEGIN
	PERFORM @extschema@.tfstate_check_table_name(schema, "table");
	rel := to_regclass(format('%I.%I', schema, "table"));
	LOCK TABLE @extschema@.tfstate_attached_table IN SHARE ROW EXCLUSIVE MODE;
	DELETE FROM @extschema@.tfstate_attached_table t WHERE t.relid = rel;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table "%" is not attached', format('%I.%I', schema, "table")
			USING ERRCODE = 'undefined_object';
	END IF;
	PERFORM @extschema@.tfstate_detach_role(a.relid, a.role::oid) FROM @extschema@.tfstate_attached_role a
	  WHERE a.relid = rel;
	EXECUTE format('DROP TRIGGER IF EXISTS tfstate_guard_row ON %s', rel);
	EXECUTE format('DROP TRIGGER IF EXISTS tfstate_guard_truncate ON %s', rel);
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_detach(text, text) IS
'undo tfstate_attach(); the table and its states stay, and so do their versions';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_detach(text, text) FROM PUBLIC;

--
-- What is wrong with a set-up
--

CREATE FUNCTION @extschema@.tfstate_path_has_shim(path text)
RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(array_position(schemas, 'tfstate_pg') < array_position(schemas, 'pg_catalog'), false)
  FROM (SELECT array_agg(btrim(schema, ' "') ORDER BY n) FROM string_to_table(path, ',') WITH ORDINALITY t(schema, n)) p(schemas)
$$;
COMMENT ON FUNCTION @extschema@.tfstate_path_has_shim(text) IS
'whether a search_path finds the functions of tfstate_pg before the built-in ones';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_path_has_shim(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_attach_command(rel regclass, role text)
RETURNS text
LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('SELECT @extschema@.tfstate_attach(%L, %L%s)', n.nspname, c.relname, ', role => ' || quote_literal(role))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = rel
$$;
COMMENT ON FUNCTION @extschema@.tfstate_attach_command(regclass, text) IS
'part of tfstate_check(): the call that attaches a table, or makes a role ready for it';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_attach_command(regclass, text) FROM PUBLIC;

-- Without a WHEN, columns and arguments, and not deferred; the type has a bit for each event.
CREATE FUNCTION @extschema@.tfstate_has_trigger(rel regclass, name text, type integer)
RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM pg_trigger g
				WHERE g.tgrelid = rel AND g.tgname = tfstate_has_trigger.name AND g.tgtype = type
				  AND g.tgfoid = '@extschema@.tfstate_guard()'::regprocedure AND g.tgenabled IN ('O', 'A')
				  AND g.tgqual IS NULL AND g.tgattr = '' AND NOT g.tgdeferrable)
$$;
COMMENT ON FUNCTION @extschema@.tfstate_has_trigger(regclass, text, integer) IS
'part of tfstate_check(): whether a table has a trigger of tfstate as tfstate_attach() makes it';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_has_trigger(regclass, text, integer) FROM PUBLIC;

-- A constraint trigger cannot be replaced.
CREATE FUNCTION @extschema@.tfstate_trigger_command(rel regclass, name text)
RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT concat((SELECT format('DROP TRIGGER %I ON %s; ', g.tgname, rel) FROM pg_trigger g
				WHERE g.tgrelid = rel AND g.tgname = tfstate_trigger_command.name AND g.tgconstraint <> 0),
			  @extschema@.tfstate_attach_command(rel, NULL::text))
$$;
COMMENT ON FUNCTION @extschema@.tfstate_trigger_command(regclass, text) IS
'part of tfstate_check(): what puts a trigger of tfstate on an attached table again';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_trigger_command(regclass, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_check_table(
	rel regclass,
	OUT severity text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'error', o.problem, o.remedy FROM @extschema@.tfstate_attach_obstacles(rel) o
UNION ALL
SELECT v.severity, v.problem, coalesce(v.remedy, @extschema@.tfstate_attach_command(rel, NULL))
  FROM @extschema@.tfstate_attached_table t JOIN pg_class c ON c.oid = t.relid JOIN pg_roles owner ON owner.oid = c.relowner,
	   LATERAL (VALUES
		(t.name <> @extschema@.tfstate_table_name(rel), 'error',
		 format('the table was attached as "%s" and renamed: what is locked and recorded under the old name is not found', t.name), NULL),
		(NOT @extschema@.tfstate_has_trigger(rel, 'tfstate_guard_row', 29), 'error',
		 'the trigger tfstate_guard_row is missing, disabled or another one: writes are neither guarded nor recorded',
		 @extschema@.tfstate_trigger_command(rel, 'tfstate_guard_row')),
		(NOT @extschema@.tfstate_has_trigger(rel, 'tfstate_guard_truncate', 34), 'error',
		 'the trigger tfstate_guard_truncate is missing, disabled or another one: the table can be emptied against the locks',
		 @extschema@.tfstate_trigger_command(rel, 'tfstate_guard_truncate')),
		(NOT @extschema@.tfstate_takes_shared_ids(rel), 'error',
		 'new ids do not come from public.global_states_id_seq, so that they collide with those of other tables', NULL),
		(@extschema@.tfstate_unique_index(rel, 'id') IS NULL, 'error',
		 'no unique index keeps the ids apart', NULL),
		(@extschema@.tfstate_unique_index(rel, 'name') IS NULL, 'error',
		 'there is no unique index on name: Terraform cannot write', NULL),
		(owner.rolcanlogin AND NOT owner.rolsuper, 'warning',
		 format('the table belongs to role "%s", which can drop the triggers and change everything', owner.rolname),
		 format('ALTER TABLE %s OWNER TO %I', rel, current_user))
	   ) v(applies, severity, problem, remedy)
 WHERE t.relid = rel AND v.applies
UNION ALL
SELECT 'warning', format('everybody may use the table: PUBLIC has %s', string_agg(DISTINCT e.privilege_type, ', ')),
	   format('REVOKE %s ON %s FROM PUBLIC', string_agg(DISTINCT e.privilege_type, ', '), rel)
  FROM pg_class c, aclexplode(c.relacl) e
 WHERE c.oid = rel AND e.grantee = 0
HAVING count(*) > 0
$$;
COMMENT ON FUNCTION @extschema@.tfstate_check_table(regclass) IS
'part of tfstate_check(): what is wrong with the definition of an attached table';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_check_table(regclass) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_check_rows(
	OUT severity text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
SELECT v.severity, t.relid::text, v.problem, @extschema@.tfstate_attach_command(t.relid, NULL)
  FROM @extschema@.tfstate_attached_table t JOIN pg_class c ON c.oid = t.relid
	   LEFT JOIN (SELECT s."table", max(s.id), bool_or(s.workspace = @extschema@.tfstate_table_name(s."table") || '/default'), bool_or(s.workspace IS NULL)
					FROM @extschema@.tfstate_rows() s GROUP BY s."table") w(rel, newest, has_default, nameless) ON w.rel = t.relid,
	   LATERAL (VALUES
		(t.default_workspace AND w.has_default IS NOT TRUE, 'warning',
		 'there is no workspace "default": the first run in it keeps all others from creating workspaces'),
		(w.newest > coalesce(pg_sequence_last_value(to_regclass('public.global_states_id_seq')), 0), 'error',
		 'public.global_states_id_seq will come to an id that the table already has')
	   ) v(applies, severity, problem)
 WHERE v.applies AND NOT EXISTS (SELECT FROM @extschema@.tfstate_attach_obstacles(t.relid))
UNION ALL
SELECT 'error', s."table"::text, 'a row has no name: it is no workspace, so that its state is neither guarded nor recorded', NULL
  FROM (SELECT DISTINCT r."table" FROM @extschema@.tfstate_rows() r WHERE r.workspace IS NULL) s
UNION ALL
SELECT 'error', NULL, c, NULL FROM @extschema@.tfstate_colliding_ids() c
$$;
COMMENT ON FUNCTION @extschema@.tfstate_check_rows() IS
'part of tfstate_check(): what is wrong with the rows of the attached tables';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_check_rows() FROM PUBLIC;

-- Those who log in and may write an attached table or lock its workspaces for Terraform: the
-- members of a role that tfstate_attach() has made ready, or of one to which the table grants a
-- write, and those who may lock a workspace and read states (for terraform plan).  What everybody
-- may, and what pg_write_all_data gives, makes no role one of Terraform; nor does a grant of all
-- locks.  acts_as is the role that ALTER ROLE .. SET role makes of one that logs in.
CREATE FUNCTION @extschema@.tfstate_terraform_roles(
	OUT rel regclass,
	OUT roleid oid,
	OUT acts_as oid,
	OUT attached boolean,
	OUT writes boolean)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
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
ready AS MATERIALIZED (
	SELECT t.relid, a.role::oid AS role, true AS attached, true AS writes
	  FROM @extschema@.tfstate_attached_table t JOIN pg_class c ON c.oid = t.relid
		   JOIN @extschema@.tfstate_attached_role a ON a.relid = t.relid
	UNION
	SELECT t.relid, x.grantee, false, true
	  FROM @extschema@.tfstate_attached_table t JOIN pg_class c ON c.oid = t.relid,
		   LATERAL (SELECT e.grantee, e.privilege_type
					  FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) e
					UNION ALL
					SELECT e.grantee, e.privilege_type
					  FROM pg_attribute a, aclexplode(a.attacl) e
					 WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped) x
	 WHERE x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE') AND x.grantee <> 0
	UNION
	SELECT t.relid, p.role::oid, false, false
	  FROM @extschema@.tfstate_attached_table t JOIN pg_class c ON c.oid = t.relid
		   JOIN @extschema@.tfstate_privilege p ON starts_with(p.pattern, @extschema@.tfstate_table_name(t.relid) || '/')
	 WHERE p.privilege = 'lock' AND p.role::oid <> 0),
member AS MATERIALIZED (
	SELECT l.roleid, l.acts_as, g.role
	  FROM login l, (SELECT DISTINCT role FROM ready) g
	 WHERE pg_has_role(l.acts_as, g.role, 'USAGE'))
SELECT r.relid, m.roleid, m.acts_as, bool_or(r.attached), bool_or(r.writes)
  FROM ready r JOIN member m ON m.role = r.role
 WHERE r.writes OR has_any_column_privilege(m.acts_as, r.relid, 'SELECT')
 GROUP BY r.relid, m.roleid, m.acts_as
$$;
COMMENT ON FUNCTION @extschema@.tfstate_terraform_roles() IS
'the roles that log in and use an attached table with Terraform, but superusers';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_terraform_roles() FROM PUBLIC;

-- Each table with the role beside it; to compile that for many would take longer than to do it.
-- A role that does not write needs to read and to lock; for it, grants is what would help.
CREATE FUNCTION @extschema@.tfstate_missing_privileges(
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
	SELECT c.oid AS rel, c.relnamespace, n.nspname, @extschema@.tfstate_table_name(c.oid::regclass) || '/' AS prefix,
		   max(a.attnum) FILTER (WHERE a.attname = 'id') AS id,
		   max(a.attnum) FILTER (WHERE a.attname = 'name') AS name,
		   max(a.attnum) FILTER (WHERE a.attname = 'data') AS data
	  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		   LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname IN ('id', 'name', 'data')
	 WHERE c.oid IN (SELECT p.rel FROM pair p) GROUP BY c.oid, n.nspname),
locks AS MATERIALIZED (		-- which role's grant is for which table
	SELECT DISTINCT t.rel, g.role
	  FROM tab t, (SELECT DISTINCT p.role::oid AS role, p.pattern
					 FROM @extschema@.tfstate_privilege p WHERE p.privilege = 'lock') g
	 WHERE starts_with(g.pattern, t.prefix) OR @extschema@.tfstate_matches(t.prefix || 'default', g.pattern)),
who AS MATERIALIZED (
	SELECT r.oid AS roleid, r.rolname,
		   has_database_privilege(r.oid, current_database(), 'CONNECT') AS "connect",
		   has_sequence_privilege(r.oid, to_regclass('public.global_states_id_seq'), 'USAGE, UPDATE') AS sequence,
		   has_schema_privilege(r.oid, to_regnamespace('tfstate_pg'), 'USAGE') AS shim,
		   pg_has_role(r.oid, (SELECT c.relowner FROM pg_class c WHERE c.oid = '@extschema@.tfstate_privilege'::regclass), 'USAGE') AS owner,
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
				CASE WHEN NOT m."connect" THEN format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), m.rolname) END,
				CASE WHEN NOT m.schema THEN format('GRANT USAGE ON SCHEMA %I TO %I', m.nspname, m.rolname) END,
				CASE WHEN NOT m."select" THEN format('GRANT SELECT ON %s TO %I', m.rel, m.rolname) END,
				CASE WHEN NOT m.shim THEN format('GRANT USAGE ON SCHEMA tfstate_pg TO %I', m.rolname) END), '') END
  FROM may m
$$;
COMMENT ON FUNCTION @extschema@.tfstate_missing_privileges(regclass[], oid[], boolean[]) IS
'what roles lack to use tables of states with Terraform; missing is NULL for nothing';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_missing_privileges(regclass[], oid[], boolean[]) FROM PUBLIC;

-- A session gets the first of what is set for its role in this database, for its
-- role, for this database, for everybody, and in the server.  The last is as far as
-- the session that asks can tell: its own PGOPTIONS hide it.
CREATE FUNCTION @extschema@.tfstate_role_settings(
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
COMMENT ON FUNCTION @extschema@.tfstate_role_settings(oid[], text[]) IS
'the values of settings in new sessions of roles in this database, times also in seconds; without those that the server does not have';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_role_settings(oid[], text[]) FROM PUBLIC;

-- What the clients of a role set for themselves cannot be known here.  settings are
-- what helps; attach tells whether tfstate_attach() gives them.
CREATE FUNCTION @extschema@.tfstate_check_settings(
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
	  FROM @extschema@.tfstate_role_settings(roleids,
			ARRAY['search_path', 'tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count', 'idle_session_timeout',
				  'tfstate.wait', 'default_transaction_read_only', 'statement_timeout', 'lock_timeout', 'transaction_timeout']) r)
SELECT s.roleid, v.severity, v.problem, v.settings, v.attach
  FROM s, LATERAL (VALUES
	(NOT @extschema@.tfstate_path_has_shim(s.path), 'error',
	 format('Terraform does not lock through tfstate, unless it sets search_path itself: tfstate_pg does not stand before pg_catalog in %s', s.path),
	 ARRAY['search_path = tfstate_pg, pg_catalog, public'], true),
	(s.noticed > 120, 'warning',
	 format('a client that vanishes keeps its session lock for %s: that is when TCP keepalives tell', make_interval(secs => s.noticed::float8)),
	 ARRAY['tcp_keepalives_idle = 5', 'tcp_keepalives_interval = 2', 'tcp_keepalives_count = 2'], true),
	(s.idle > 0, 'error',
	 format('idle_session_timeout ends a run that is busy elsewhere for %s', make_interval(secs => s.idle::float8)),
	 ARRAY['idle_session_timeout = 0'], true),
	(s.read_only, 'error', 'default_transaction_read_only lets it neither lock nor write',
	 ARRAY['default_transaction_read_only = off'], false)
	) v(applies, severity, problem, settings, attach)
 WHERE v.applies
UNION ALL
SELECT s.roleid, 'error', format('%s ends a wait for a lock after %s, which tfstate.wait lets go on longer', t.name, make_interval(secs => t.seconds::float8)),
	   ARRAY[t.name || ' = 0'], false
  FROM s, LATERAL (SELECT n.name, (s.seconds ->> n.name)::numeric
					 FROM unnest(ARRAY['statement_timeout', 'lock_timeout', 'transaction_timeout']) n(name)) t(name, seconds)
 WHERE t.seconds > 0 AND (s.wait < 0 OR s.wait > t.seconds)
$$;
COMMENT ON FUNCTION @extschema@.tfstate_check_settings(oid[]) IS
'part of tfstate_check(): settings of roles that are wrong for Terraform';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_check_settings(oid[]) FROM PUBLIC;

-- Terraform sends a state as a parameter.  The settings of a library count where it is loaded
-- for the role; what they are where nobody has set them is then known here only.
CREATE FUNCTION @extschema@.tfstate_check_log(roleids oid[], OUT roleid oid, OUT setting text, OUT safe text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT r.roleid, v.setting, v.safe
  FROM @extschema@.tfstate_role_settings(roleids,
		ARRAY['log_statement', 'log_min_duration_statement', 'log_min_duration_sample', 'log_statement_sample_rate',
			  'log_transaction_sample_rate', 'log_parameter_max_length', 'log_parameter_max_length_on_error', 'debug_print_plan',
			  'shared_preload_libraries', 'session_preload_libraries', 'local_preload_libraries',
			  'auto_explain.log_min_duration', 'auto_explain.log_verbose', 'auto_explain.log_parameter_max_length',
			  'pgaudit.log', 'pgaudit.role', 'pgaudit.log_parameter']) r,
	   LATERAL (SELECT r.value ->> 'log_statement' IN ('mod', 'all')
					OR r.value ->> 'log_min_duration_statement' <> '-1'
					OR r.value ->> 'log_min_duration_sample' <> '-1' AND (r.value ->> 'log_statement_sample_rate')::float8 > 0
					OR (r.value ->> 'log_transaction_sample_rate')::float8 > 0,
					   -- not everybody may see the first; what this session has of it, is the best guess then
					   concat_ws(',', coalesce(r.value ->> 'shared_preload_libraries',
											   (SELECT string_agg(split_part(p.name, '.', 1), ',') FROM pg_settings p
												 WHERE p.name IN ('auto_explain.log_verbose', 'pgaudit.log_parameter'))),
								 r.value ->> 'session_preload_libraries', r.value ->> 'local_preload_libraries')) log(statements, libraries),
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
		 AND coalesce(r.value ->> 'auto_explain.log_parameter_max_length', '-1') <> '0', 'auto_explain.log_parameter_max_length', '0'),
		(loaded.pgaudit AND (r.value ->> 'pgaudit.log_parameter')::boolean, 'pgaudit.log_parameter', 'off')
	   ) v(logs, setting, safe)
 WHERE v.logs
$$;
COMMENT ON FUNCTION @extschema@.tfstate_check_log(oid[]) IS
'part of tfstate_check(): settings that put the states which roles write into the server log, and their safe values';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_check_log(oid[]) FROM PUBLIC;

-- A value that was set before the library was loaded was accepted as it was.
CREATE FUNCTION @extschema@.tfstate_check_own_settings(
	OUT role text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT r.rolname::text,
	   CASE WHEN g.name IS NULL THEN format('there is no setting %s: every lock is refused', n.name)
			ELSE format('"%s" is no value of %s: every lock is refused', n.value, n.name) END,
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
COMMENT ON FUNCTION @extschema@.tfstate_check_own_settings() IS
'part of tfstate_check(): settings tfstate.* of roles and of the database that do not exist or have a wrong value';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_check_own_settings() FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_check_roles(
	OUT severity text,
	OUT role text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
WITH t AS MATERIALIZED (SELECT * FROM @extschema@.tfstate_terraform_roles()),
m AS MATERIALIZED (
	SELECT m.*
	  FROM (SELECT coalesce(array_agg(t.rel), '{}'), coalesce(array_agg(t.acts_as), '{}'), coalesce(array_agg(t.writes), '{}')
			  FROM t) a(rels, roleids, writes),
		   LATERAL @extschema@.tfstate_missing_privileges(a.rels, a.roleids, a.writes) m),
r AS MATERIALIZED (
	SELECT t.roleid, r.rolname, min(t.rel::oid)::regclass AS rel,
		   t.roleid = t.acts_as AND bool_or(t.attached OR m.may_write) AS attach
	  FROM t JOIN pg_roles r ON r.oid = t.roleid JOIN m ON m.rel = t.rel AND m.roleid = t.acts_as
	 GROUP BY t.roleid, t.acts_as, r.rolname),
roles AS MATERIALIZED (SELECT coalesce(array_agg(r.roleid), '{}') AS ids FROM r)
SELECT 'error', l.rolname::text, t.rel::text,
	   CASE WHEN t.acts_as = t.roleid THEN 'the role lacks ' ELSE format('the role "%s", which it sets, lacks ', a.rolname) END || m.missing,
	   CASE WHEN t.attached OR m.may_write THEN @extschema@.tfstate_attach_command(t.rel, a.rolname::text) ELSE m.grants END
  FROM t JOIN m ON m.rel = t.rel AND m.roleid = t.acts_as
	   JOIN pg_roles l ON l.oid = t.roleid JOIN pg_roles a ON a.oid = t.acts_as
 WHERE m.missing IS NOT NULL
UNION ALL
-- A role that does not write is not given the right to.
SELECT p.severity, r.rolname::text, NULL, p.problem,
	   CASE WHEN p.attach AND r.attach THEN @extschema@.tfstate_attach_command(r.rel, r.rolname::text)
			ELSE (SELECT string_agg(format('ALTER ROLE %I IN DATABASE %I SET %s', r.rolname, current_database(), n.setting), '; ' ORDER BY n.n)
					FROM unnest(p.settings) WITH ORDINALITY n(setting, n)) END
  FROM roles, LATERAL @extschema@.tfstate_check_settings(roles.ids) p JOIN r ON r.roleid = p.roleid
UNION ALL
SELECT 'warning', r.rolname::text, NULL, format('%s lets states that the role writes into the server log', l.setting),
	   format('ALTER ROLE %I IN DATABASE %I SET %s = %s', r.rolname, current_database(), l.setting, l.safe)
  FROM roles, LATERAL @extschema@.tfstate_check_log(roles.ids) l JOIN r ON r.roleid = l.roleid
UNION ALL
SELECT 'error', o.role, NULL, o.problem, o.remedy FROM @extschema@.tfstate_check_own_settings() o
$$;
COMMENT ON FUNCTION @extschema@.tfstate_check_roles() IS
'part of tfstate_check(): what is wrong with the roles of Terraform';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_check_roles() FROM PUBLIC;

-- A sequence that stands too low does no harm, as each lock looks for itself.  Two rows
-- of a lock, and triggers that do not always fire, come of a restore without triggers.
-- A standby has no table of session locks to be read.
CREATE FUNCTION @extschema@.tfstate_check_fences(
	OUT severity text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT 'warning', '@extschema@.tfstate_fence'::regclass::text,
		   format('the sequence stands at %s, although fence %s was given out: consumers elsewhere may know greater ones, too', f.last, k.newest),
		   format('SELECT pg_catalog.setval(%L, %s)', '@extschema@.tfstate_fence'::regclass, k.newest)
	  FROM (SELECT CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - 1 END FROM @extschema@.tfstate_fence s) f(last),
		   (SELECT greatest((SELECT max(d.fence) FROM @extschema@.tfstate_durable_lock d),
							(SELECT max(s.fence) FROM @extschema@.tfstate_session_locks() s),
							(SELECT max(r.fence) FROM @extschema@.tfstate_released_lock r),
							(SELECT max(v.fence) FROM @extschema@.tfstate_stored_version v))) k(newest)
	 WHERE k.newest > f.last
	UNION ALL
	SELECT 'error', '@extschema@.tfstate_durable_lock'::regclass::text,
		   format('state lock "%s" has several rows, with fences %s: only one of them can be right', d.lockid, string_agg(d.fence::text, ', ' ORDER BY d.fence)),
		   format('DELETE FROM %s WHERE lockid = %L AND fence = ...', '@extschema@.tfstate_durable_lock'::regclass, d.lockid)
	  FROM @extschema@.tfstate_durable_lock d
	 GROUP BY d.lockid HAVING count(*) > 1
	UNION ALL
	SELECT 'error', t.rel::text,
		   format('the trigger %s is missing or does not always fire: rows that a restore or replication brings are not checked', t.name),
		   CASE WHEN g.oid IS NOT NULL THEN format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.rel, t.name) END
	  FROM (VALUES ('@extschema@.tfstate_installation'::regclass, 'tfstate_keep_own_row'),
				   ('@extschema@.tfstate_durable_lock'::regclass, 'tfstate_check_arriving_lock')) t(rel, name)
		   LEFT JOIN pg_trigger g ON g.tgrelid = t.rel AND g.tgname = t.name
	 WHERE g.tgenabled IS DISTINCT FROM 'A';
END;
COMMENT ON FUNCTION @extschema@.tfstate_check_fences() IS
'part of tfstate_check(): what is wrong with fences and locks that came by another way than a lock';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_check_fences() FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_check_database(
	OUT severity text,
	OUT role text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'warning', NULL, 'database', format('the encoding of the database is %s: a state that has other characters cannot be written', getdatabaseencoding()),
	   NULL
 WHERE getdatabaseencoding() <> 'UTF8'
UNION ALL
SELECT 'error', NULL, g.tgrelid::regclass::text, 'the table has triggers of tfstate, but is not attached: nobody can write to it',
	   @extschema@.tfstate_attach_command(g.tgrelid::regclass, NULL::text)
  FROM (SELECT DISTINCT t.tgrelid FROM pg_trigger t WHERE t.tgfoid = '@extschema@.tfstate_guard()'::regprocedure) g
 WHERE NOT EXISTS (SELECT FROM @extschema@.tfstate_attached_table a WHERE a.relid = g.tgrelid)
UNION ALL
-- Tables that Terraform makes itself, in the schemas where states are.
SELECT 'warning', coalesce(r.rolname, 'public')::text, n.nspname::text,
	   format('by default it gets %s on tables that role "%s" creates, and those can hold states', d.privileges, o.rolname),
	   format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE %s ON TABLES FROM %s', o.rolname,
			  ' IN SCHEMA ' || quote_ident(n.nspname), d.privileges, coalesce(quote_ident(r.rolname), 'PUBLIC'))
  FROM (SELECT a.defaclrole, a.defaclnamespace, e.grantee, string_agg(e.privilege_type, ', ' ORDER BY e.privilege_type) AS privileges
		  FROM pg_default_acl a, aclexplode(a.defaclacl) e
		 WHERE a.defaclobjtype = 'r' AND e.grantee <> a.defaclrole
		   AND e.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
		   AND (a.defaclnamespace = 0
				OR a.defaclnamespace IN (SELECT c.relnamespace FROM @extschema@.tfstate_attached_table t JOIN pg_class c ON c.oid = t.relid))
		   AND a.defaclrole IN (SELECT c.relowner FROM @extschema@.tfstate_attached_table t JOIN pg_class c ON c.oid = t.relid
								UNION SELECT a.role::oid FROM @extschema@.tfstate_attached_role a)
		 GROUP BY a.defaclrole, a.defaclnamespace, e.grantee) d
	   JOIN pg_roles o ON o.oid = d.defaclrole
	   LEFT JOIN pg_roles r ON r.oid = d.grantee
	   LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
$$;
COMMENT ON FUNCTION @extschema@.tfstate_check_database() IS
'part of tfstate_check(): what is wrong with the database, beside the attached tables and the roles of Terraform';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_check_database() FROM PUBLIC;

-- Those of the role that asks are no news to it.  A role has a row of its own, for an
-- administrator who is no superuser has rights on many objects.
CREATE FUNCTION @extschema@.tfstate_check_rights(
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
	  FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e',
		   LATERAL (SELECT * FROM @extschema@.tfstate_rights(d.classid, d.objid)) r
	 WHERE e.extname = 'tfstate' AND NOT r.usual AND pg_get_userbyid(r.grantee) <> current_user
	 GROUP BY r.object, r.grantee)
SELECT 'warning', g.name, NULL,
	   'it has rights that only an administrator of tfstate should have: ' ||
	   string_agg(format('%s ON %s', r.privileges, r.object), '; ' ORDER BY r.n) FILTER (WHERE r.n <= 3) ||
	   CASE WHEN r.objects > 3 THEN format('; and on %s others', r.objects - 3) ELSE '' END,
	   string_agg(format('REVOKE %s ON %s FROM %s', r.privileges, r.object, CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(g.name) END), '; ' ORDER BY r.n)
  FROM given r,
	   LATERAL (SELECT CASE r.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(r.grantee)::text END) g(name)
 GROUP BY r.grantee, r.objects, g.name
$$;
COMMENT ON FUNCTION @extschema@.tfstate_check_rights() IS
'part of tfstate_check(): rights on the objects of tfstate that were not meant';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_check_rights() FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_check(
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
BEGIN
	PERFORM @extschema@.tfstate_matches('', '');	-- loads the library, which has the settings tfstate.*
	RETURN QUERY
	SELECT p.severity, p.role, p.object, p.problem, p.remedy
	  FROM (SELECT 'error', NULL, 'server', format('%s is off: a crash loses or corrupts locks and states', s.name),
				   format('ALTER SYSTEM SET %s = on', s.name)
			  FROM pg_settings s WHERE s.name IN ('fsync', 'full_page_writes') AND s.setting = 'off'
			UNION ALL
			SELECT 'warning', NULL, t.name, 'the attached table was dropped',
				   format('DELETE FROM @extschema@.tfstate_attached_table WHERE relid = %s', t.relid::oid)
			  FROM @extschema@.tfstate_attached_table t WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relid)
			UNION ALL
			SELECT c.severity, NULL, t.relid::text, c.problem, c.remedy
			  FROM @extschema@.tfstate_attached_table t, @extschema@.tfstate_check_table(t.relid) c
			UNION ALL
			SELECT c.severity, NULL, c.object, c.problem, c.remedy FROM @extschema@.tfstate_check_rows() c
			UNION ALL
			SELECT c.severity, NULL, c.object, c.problem, c.remedy FROM @extschema@.tfstate_check_fences() c
			UNION ALL
			SELECT * FROM @extschema@.tfstate_check_database()
			UNION ALL
			SELECT * FROM @extschema@.tfstate_check_rights()
			UNION ALL
			SELECT * FROM @extschema@.tfstate_check_roles()) p(severity, role, object, problem, remedy)
	 ORDER BY p.object COLLATE "C", p.role COLLATE "C", p.problem COLLATE "C";
END;
$$;
COMMENT ON FUNCTION @extschema@.tfstate_check() IS
'what is wrong with the attached tables, the roles of Terraform and the server, and what to do about it; no row if nothing is';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_check() FROM PUBLIC;

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

--
-- What the default privileges of the database gave to others was not meant for any of
-- these objects.  What everybody may do with them is said beside each.
--

DO $$
DECLARE
	command text;
BEGIN
	FOR command IN
		SELECT DISTINCT format('REVOKE ALL ON %s FROM %I', r.object, pg_get_userbyid(r.grantee))
		  FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e',
			   LATERAL (SELECT * FROM @extschema@.tfstate_rights(d.classid, d.objid)) r
		 WHERE e.extname = 'tfstate' AND r.grantee <> 0
	LOOP
		EXECUTE command;
	END LOOP;
END;
$$;
