/* sql/tfstate--0.1--0.2.sql */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION tfstate UPDATE TO '0.2'" to load this file. \quit

SET LOCAL search_path TO pg_catalog, pg_temp;

-- The session may have loaded the library before it was replaced.  One function of the new one
-- stands for all.
DO $$
BEGIN
	CREATE FUNCTION tfstate_internal.is_there() RETURNS void
	AS 'MODULE_PATHNAME', 'tfstate_metrics'
	LANGUAGE C;
	DROP FUNCTION tfstate_internal.is_there();
EXCEPTION WHEN undefined_function THEN
	RAISE EXCEPTION 'cannot update extension "tfstate" in a session that has the library of an older version'
		USING ERRCODE = 'object_not_in_prerequisite_state',
			  HINT = 'Install the new library if it is not there, and connect again.';
END;
$$;

-- New objects belong to the owner of the others, whoever updates.
DO $$
DECLARE
	owner name;
BEGIN
	SELECT r.rolname INTO owner
	  FROM pg_extension e JOIN pg_roles r ON r.oid = e.extowner
	 WHERE e.extname = 'tfstate' AND r.rolsuper;
	IF owner <> current_user THEN
		EXECUTE format('SET LOCAL ROLE %I', owner);
	END IF;
END;
$$;

-- The objects that are there, for default_privileges.sql.
SELECT set_config('tfstate_update.there', string_agg(format('%s/%s', d.classid, d.objid), ' '), true)
  FROM pg_depend d JOIN pg_extension e ON (d.refclassid, d.refobjid, d.deptype) = ('pg_extension'::regclass, e.oid, 'e')
 WHERE e.extname = 'tfstate';

-- The library of a session that holds a lock in session mode or waits may be older than what
-- this makes.  Nobody takes a lock from here on until the end: to take one, the tables are
-- opened as for writing.  (In 0.1 a lock in session mode has a row, which the views of
-- a newer library do not show.)
DO $$
DECLARE
	sessions text;
BEGIN
	FOR pass IN 1..2 LOOP
		SELECT string_agg(format('Process %s %s %s.', s.pid, s.what, coalesce('"' || s.lockid || '"', 'a lock')),
						  ' ' ORDER BY s.pid, s.lockid)
		  INTO sessions
		  FROM (SELECT l.pid, 'holds' AS what, l.lockid FROM tfstate_internal.session_lock l
				 WHERE tfstate_internal.session_alive(l.session)
				UNION ALL
				SELECT w.pid, 'waits for', w.lockid FROM @extschema@.tfstate_waiters w) s;
		IF sessions IS NOT NULL THEN
			RAISE EXCEPTION 'cannot update extension "tfstate" while sessions hold locks in session mode or wait for locks'
				USING ERRCODE = 'object_in_use',
					  DETAIL = sessions,
					  HINT = 'Wait until they have released the locks, or end them with pg_terminate_backend().';
		END IF;
		LOCK TABLE tfstate_internal.durable_lock, tfstate_internal.session_lock IN SHARE ROW EXCLUSIVE MODE;
	END LOOP;
END;
$$;

-- Each change that cannot be told from the two scripts, such as ALTER TABLE

-- The library of 0.1 needs an index that a fresh installation does not have.  Where other
-- sessions are connected, which may have that library, it is left to an administrator.
-- stays: INDEX released_lock_released_at_idx
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_stat_activity a
				WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend') THEN
		RAISE WARNING 'index "tfstate_internal.released_lock_released_at_idx" is left for sessions that are connected now'
			USING HINT = 'Drop it when they have ended.';
	ELSE
		DROP INDEX tfstate_internal.released_lock_released_at_idx;
	END IF;
END;
$$;

-- It decides itself who may call it.
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_configuration(text, text, name, text) TO PUBLIC;

-- Here follows what can be told from them.  The rest comes after that.

-- Sessions look up the tables and the protocol again.
ALTER TABLE tfstate_internal.installation ALTER COLUMN key SET STATISTICS 0;
