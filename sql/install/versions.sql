--
-- The recorded versions: reading, restoring, verifying and pruning them.
--

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
  FROM tfstate_internal.stored_version v
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
'part of tfstate_verify(): what is wrong with one workspace, as of the statement''s snapshot';
GRANT EXECUTE ON FUNCTION tfstate_internal.verify_workspace(text, boolean, boolean) TO PUBLIC;

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
	 CROSS JOIN LATERAL tfstate_internal.verify_workspace(w.workspace, tfstate_verify.versions,
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

CREATE FUNCTION tfstate_internal.prune_workspace(workspace text, keep_versions integer, keep_age interval)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_prune_workspace'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.prune_workspace(text, integer, interval) IS
'part of tfstate_prune(): forget the old versions of one workspace';
REVOKE EXECUTE ON FUNCTION tfstate_internal.prune_workspace(text, integer, interval) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_prune(
	pattern text DEFAULT '*',
	keep_versions integer DEFAULT NULL,
	keep_age interval DEFAULT NULL)
RETURNS bigint
LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT coalesce(sum(tfstate_internal.prune_workspace(w.lockid, tfstate_prune.keep_versions, tfstate_prune.keep_age)), 0)::bigint
	  FROM (SELECT DISTINCT v.lockid
			  FROM tfstate_internal.stored_version v
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
	PERFORM tfstate_internal.matches('', '');	-- loads the library, which has the setting
	batch := pg_catalog.current_setting('tfstate.max_session_locks');
	FOR workspace IN
		SELECT DISTINCT v.lockid COLLATE "C"
		  FROM tfstate_internal.stored_version v
		 WHERE tfstate_internal.matches(v.lockid, tfstate_prune_in_batches.pattern)
		 ORDER BY 1
	LOOP
		pruned := pruned OPERATOR(pg_catalog.+)
			tfstate_internal.prune_workspace(workspace, tfstate_prune_in_batches.keep_versions, tfstate_prune_in_batches.keep_age);
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
