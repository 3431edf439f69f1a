-- bench/peers.sql
--
-- Durable locks as users write them themselves in PostgreSQL: one table for plain SQL
-- and for PL/pgSQL.

CREATE TABLE own_lock (
	lockid text PRIMARY KEY,
	id uuid NOT NULL DEFAULT gen_random_uuid(),
	created timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The advisory lock is the queue, and is held as long as the lock.
CREATE FUNCTION own_lock(p_lockid text, p_wait boolean) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
	result uuid;
BEGIN
	IF p_wait THEN
		PERFORM pg_advisory_lock(hashtextextended(p_lockid, 0));
	ELSIF NOT pg_try_advisory_lock(hashtextextended(p_lockid, 0)) THEN
		RETURN NULL;
	END IF;
	INSERT INTO own_lock (lockid) VALUES (p_lockid)
		ON CONFLICT DO NOTHING RETURNING id INTO result;
	IF result IS NULL THEN		-- left by a session that is gone
		PERFORM pg_advisory_unlock(hashtextextended(p_lockid, 0));
	END IF;
	RETURN result;
END;
$$;

CREATE FUNCTION own_unlock(p_lockid text, p_id uuid) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM own_lock WHERE lockid = p_lockid AND id = p_id;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'lock "%" is not held', p_lockid;
	END IF;
	PERFORM pg_advisory_unlock(hashtextextended(p_lockid, 0));
END;
$$;
