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

-- Sessions that have loaded the library of 0.1 still use it; then they and others see of each
-- other's locks in session mode only that they are held.
CREATE UNLOGGED TABLE tfstate_internal.session_lock (
	LIKE tfstate_internal.durable_lock INCLUDING COMMENTS,
	PRIMARY KEY (lockid, fence)
) USING heap
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE tfstate_internal.session_lock IS
'the locks in session mode of sessions that have loaded the library of version 0.1; otherwise empty';
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
-- If VACUUM left entries in the indexes because they are few, it could not cut off the end of
-- the table.
ALTER TABLE tfstate_internal.released_lock SET (vacuum_index_cleanup = on);
-- Not unique: no row of the history may make a release fail.
CREATE INDEX released_lock_lockid_fence_idx
	ON tfstate_internal.released_lock (lockid, fence);
COMMENT ON INDEX tfstate_internal.released_lock_lockid_fence_idx IS
'finds the newest holdings of a lockid';
COMMENT ON TABLE tfstate_internal.released_lock IS
'the finished holdings that tfstate.history keeps, one row each';
REVOKE ALL ON tfstate_internal.released_lock FROM PUBLIC;

SELECT pg_extension_config_dump('tfstate_internal.released_lock', '');
