--
-- The recorded versions: reading, restoring, verifying and pruning them.
--

CREATE VIEW @extschema@.tfstate_versions WITH (security_barrier) AS
SELECT v.lockid AS workspace,
	   v.number,
	   v.operation,
	   v.serial,
	   date_trunc('second', v.created) AS created,
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
	   v.client_addr,
	   date_trunc('second', v.erased_at) AS erased_at,
	   v.erased_by,
	   v.erase_reason
  FROM tfstate_internal.stored_version v
 WHERE (SELECT tfstate_internal.tell_if_blind('view'))
   AND ((SELECT @extschema@.tfstate_has_privilege('*', 'view'))
		OR @extschema@.tfstate_has_privilege(v.lockid, 'view'));
COMMENT ON VIEW @extschema@.tfstate_versions IS
'the recorded versions of states, one row each';
COMMENT ON COLUMN @extschema@.tfstate_versions.workspace IS 'the workspace, by its lockid';
COMMENT ON COLUMN @extschema@.tfstate_versions.number IS 'the number of the version in its workspace';
COMMENT ON COLUMN @extschema@.tfstate_versions.operation IS 'write, delete, or found: it was in the table already';
COMMENT ON COLUMN @extschema@.tfstate_versions.serial IS 'the serial of the state; NULL for a deletion';
COMMENT ON COLUMN @extschema@.tfstate_versions.created IS 'when it was recorded';
COMMENT ON COLUMN @extschema@.tfstate_versions.who IS 'who wrote it, as the client calls itself';
COMMENT ON COLUMN @extschema@.tfstate_versions.lock_operation IS
'what the lock was taken for under which it was written';
COMMENT ON COLUMN @extschema@.tfstate_versions.resources IS 'how many instances of resources it has';
COMMENT ON COLUMN @extschema@.tfstate_versions.size IS 'how many bytes the state has';
COMMENT ON COLUMN @extschema@.tfstate_versions.stored IS 'how many bytes the version takes';
COMMENT ON COLUMN @extschema@.tfstate_versions.fence IS
'the fence of the lock under which it was written; NULL without a lock';
COMMENT ON COLUMN @extschema@.tfstate_versions.lock_id IS 'the ID of that lock';
COMMENT ON COLUMN @extschema@.tfstate_versions.lock_who IS 'the holder of that lock';
COMMENT ON COLUMN @extschema@.tfstate_versions.terraform_version IS
'the version of Terraform or OpenTofu that made the state';
COMMENT ON COLUMN @extschema@.tfstate_versions.lineage IS 'the lineage of the state';
COMMENT ON COLUMN @extschema@.tfstate_versions.sha256 IS 'the SHA-256 digest of the state';
COMMENT ON COLUMN @extschema@.tfstate_versions.md5 IS 'the MD5 digest of the state';
COMMENT ON COLUMN @extschema@.tfstate_versions.role IS 'the role that wrote it';
COMMENT ON COLUMN @extschema@.tfstate_versions.application_name IS 'the application_name of the session that wrote it';
COMMENT ON COLUMN @extschema@.tfstate_versions.client_addr IS 'the address of its client; NULL for a local socket';
COMMENT ON COLUMN @extschema@.tfstate_versions.erased_at IS 'when its text was erased; NULL if it was not';
COMMENT ON COLUMN @extschema@.tfstate_versions.erased_by IS 'who erased it';
COMMENT ON COLUMN @extschema@.tfstate_versions.erase_reason IS 'why, as that caller said';
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
'the recorded versions of the workspaces that match a pattern
Privilege: view.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_versions(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_version(workspace text, number bigint)
RETURNS text
AS 'MODULE_PATHNAME', 'tfstate_version'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_version(text, bigint) IS
'the text of a version, byte for byte
Privilege: view, and SELECT on the table.
Errors: 42704 no such version; 55000 a deletion, or erased; XX001 damaged.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_version(text, bigint) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_rollback(workspace text, number bigint)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_rollback'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_rollback(text, bigint) IS
'write a version as the new state of its workspace, and return the number of the version that this records
Takes the lock for that. An encrypted state keeps its old serial.
Privilege: lock and view, and the rights on the table.
Errors: 42704 no such version; 55000 a deletion, erased, or code of the owner of the table would run as an
administrator; 55P03 locked; 22032 not a state; XX001 damaged.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_rollback(text, bigint) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_undelete(workspace text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_undelete'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_undelete(text) IS
'bring back a deleted workspace, and return the number of the version that this records
That is the last one before the deletion, by DELETE, TRUNCATE or a new table. Takes the lock for that.
Privilege: lock and view, and the rights on the table.
Errors: 55000 not deleted; 55P03 locked; 22032 not a state; XX001 damaged.';
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
'part of tfstate_verify(): the damage to one workspace in the snapshot of the statement';
GRANT EXECUTE ON FUNCTION tfstate_internal.verify_workspace(text, boolean, boolean) TO PUBLIC;

-- A workspace whose table is no longer attached is examined if it is named.
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
'verify what is stored: report states that differ from their newest version and, if asked, damaged versions
Privilege: view.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_verify(text, boolean) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_repair(workspace text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_repair'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_repair(text) IS
'repair what tfstate_verify() has reported: record the state in the table as the newest version, and return its number
Does nothing if the state is what the newest version says.
Privilege: override.
Errors: 42704 no such workspace.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_repair(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_erase(workspace text, versions bigint[], reason text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_erase'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_erase(text, bigint[], text) IS
'erase the texts of versions for good, of all but the current one for NULL, and return how many there were
Their rows stay, with the reason.
Privilege: override.
Errors: 42704 no such version; 55000 the current state; XX001 a version that stays depends on it and is damaged;
22023; 22004.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_erase(text, bigint[], text) TO PUBLIC;

CREATE FUNCTION tfstate_internal.prune_workspace(workspace text, keep_versions integer, keep_age interval)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tfstate_prune_workspace'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.prune_workspace(text, integer, interval) IS
'part of tfstate_prune(): delete the old versions of one workspace';
REVOKE EXECUTE ON FUNCTION tfstate_internal.prune_workspace(text, integer, interval) FROM PUBLIC;

CREATE FUNCTION @extschema@.tfstate_prune(
	pattern text DEFAULT '*',
	keep_versions integer DEFAULT NULL,
	keep_age interval DEFAULT NULL)
RETURNS bigint
LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT coalesce(sum(tfstate_internal.prune_workspace(w.lockid, tfstate_prune.keep_versions,
														 tfstate_prune.keep_age)), 0)::bigint
	  FROM (SELECT DISTINCT v.lockid
			  FROM tfstate_internal.stored_version v
			 WHERE @extschema@.tfstate_matches(v.lockid, tfstate_prune.pattern)
			 ORDER BY v.lockid) w;
END;
COMMENT ON FUNCTION @extschema@.tfstate_prune(text, integer, interval) IS
'delete the versions that need not be kept, and return how many there were
By default as the tables of the workspaces say.
Privilege: administrator.
Errors: 22023; 53400 too many workspaces.';
REVOKE EXECUTE ON FUNCTION @extschema@.tfstate_prune(text, integer, interval) FROM PUBLIC;

-- A procedure that commits cannot set search_path, so every name is qualified.
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
			tfstate_internal.prune_workspace(workspace, tfstate_prune_in_batches.keep_versions,
											 tfstate_prune_in_batches.keep_age);
		looked_at := looked_at OPERATOR(pg_catalog.+) 1;
		IF looked_at OPERATOR(pg_catalog.%) pg_catalog.int4smaller(batch, 100) OPERATOR(pg_catalog.=) 0 THEN
			COMMIT;
		END IF;
	END LOOP;
END;
$$;
COMMENT ON PROCEDURE @extschema@.tfstate_prune_in_batches(text, integer, interval, bigint) IS
'delete the versions that need not be kept of any number of workspaces, and commit after each hundred of these
Cannot be called in a transaction block.
Privilege: administrator.
Errors: 22023; 2D000 in a transaction block.';
REVOKE EXECUTE ON PROCEDURE @extschema@.tfstate_prune_in_batches(text, integer, interval, bigint) FROM PUBLIC;
