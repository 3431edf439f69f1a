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
