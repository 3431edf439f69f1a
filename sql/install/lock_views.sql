--
-- Who holds, who waits, and who held.
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
'whether a session that took a lock is still there; NULL on a standby';
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
	   tfstate_internal.waiter_count(l.lockid, CASE WHEN l.key IS NULL AND l.unlock_key IS NOT NULL THEN 'tied' ELSE l.mode END) AS waiters,
	   l.id,
	   l.fence,
	   tfstate_internal.session_alive(l.session) AS session_alive,
	   l.created,
	   l.expires_at,
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
  FROM tfstate_internal.released_lock r
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
