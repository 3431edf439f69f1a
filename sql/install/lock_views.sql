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

-- Only a grant for all lockids matches '*'.  A view asks for that in a subquery, which runs
-- once; where it is so, no row is asked for.
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
   AND ((SELECT @extschema@.tfstate_has_privilege('*', 'view') OR @extschema@.tfstate_has_privilege('*', 'lock'))
		OR @extschema@.tfstate_has_privilege(l.lockid, 'view') OR @extschema@.tfstate_has_privilege(l.lockid, 'lock'));
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
'the held locks whose lockid matches a pattern
Privilege: lock or view.';
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
'the sessions that wait for a lock whose lockid matches a pattern
Privilege: lock or view.';
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

-- The rows are sorted before the columns are computed.  The order is that of an index that an
-- administrator may make.
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
  FROM (SELECT *
		  FROM tfstate_internal.released_lock l
		 WHERE (SELECT @extschema@.tfstate_has_privilege('*', 'view')) OR @extschema@.tfstate_has_privilege(l.lockid, 'view')
		 ORDER BY l.released_at DESC) r
 WHERE (SELECT tfstate_internal.tell_if_blind('view'));
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
	  WHERE pattern = '*'
	  LIMIT tfstate_history.newest)
	UNION ALL
	(SELECT h.* FROM @extschema@.tfstate_history h
	  WHERE strpos(pattern, '*') > 0 AND pattern <> '*' AND @extschema@.tfstate_matches(h.lockid, pattern)
	  LIMIT tfstate_history.newest)
	ORDER BY released_at DESC, fence DESC;
END;
COMMENT ON FUNCTION @extschema@.tfstate_history(text, bigint) IS
'the finished holdings whose lockid matches a pattern, the newest first: as many as asked for, or all
Privilege: view.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_history(text, bigint) TO PUBLIC;
