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
	PERFORM tfstate_internal.note(format('move versions, history, grants and freezes of %s to %s', old, new));
	RAISE NOTICE 'versions, history and grants of % are now those of %', old, new;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.follow_rename(regclass) IS
'part of tfstate_attach(): take along what is recorded under the old name of a table that was renamed';
REVOKE EXECUTE ON FUNCTION tfstate_internal.follow_rename(regclass) FROM PUBLIC;
