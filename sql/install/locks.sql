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
'take a lock, or raise an error that names the holder
"wait" 0 does not wait, NULL waits for ever, any other value waits at most that long. "ttl" makes the lock a lease,
which ends after that time unless it is renewed.
Privilege: lock.
Errors: 55P03 held or frozen; 22023; 22004; 54000; 53400.';
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
'take a lock, or return the holder
As tfstate_lock(), but a conflict is no error: "locked" is false then, and "holder" is the info of the lock that is
held.
Privilege: lock.
Errors: 55P03 frozen; 22023; 22004; 54000; 53400.';
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
'take a lock; wait for it without a snapshot, which would hold up vacuum
As tfstate_lock(), but "wait" is NULL by default. Cannot be called in a transaction block, nor after other writes in
a procedure, which it would commit.
Privilege: lock.
Errors: 55P03 held or frozen; 2D000 in a transaction block; 22023; 22004; 54000; 53400.';
GRANT EXECUTE ON PROCEDURE @extschema@.tfstate_wait_lock(text, jsonb, text, interval, interval, text, bigint) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_unlock(lockid text, id text DEFAULT NULL)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'tfstate_unlock'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_unlock(text, text) IS
'release a lock and return its info
The session that took the lock may leave out the ID.
Privilege: lock.
Errors: 55000 not held, held under another ID, or not of this session.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_unlock(text, text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_renew(lockid text, id text, ttl interval DEFAULT NULL)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'tfstate_renew'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_renew(text, text, interval) IS
'extend a lease and return its new end
By the same ttl again, unless another one is given.
Privilege: lock.
Errors: 55000 lost, and to whom; no lease.';
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
'release a lock whoever holds it, record the caller and the reason, and return the info of the lock
With an ID, only that holding is released. A live lock in session mode needs "terminate", which ends its session. A
notice says whose process may still be running; what that writes to an attached table under the lock is refused.
Privilege: force.
Errors: 55000 not held, or under another ID; 55006 a live session; 55P03 held without tfstate.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_force_unlock(text, text, text, boolean) TO PUBLIC;
