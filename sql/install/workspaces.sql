--
-- The workspaces, and their states as they are now.
--

CREATE FUNCTION @extschema@.tfstate_states(
	pattern text DEFAULT '*',
	OUT workspace text,
	OUT "table" regclass,
	OUT id bigint,
	OUT serial bigint,
	OUT lineage text,
	OUT terraform_version text,
	OUT size bigint,
	OUT encrypted boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_states'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_states(text) IS
'the states in the attached tables, as they are now, without their text';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_states(text) TO PUBLIC;

CREATE VIEW @extschema@.tfstate_workspaces WITH (security_barrier) AS
SELECT s.workspace,
	   s.serial,
	   v.resources,
	   s.size,
	   v.created AS written_at,
	   v.who AS written_by,
	   h.who AS locked_by,
	   h.operation AS locked_for,
	   h.created AS locked_at,
	   s.terraform_version,
	   s.lineage,
	   v.number AS version,
	   s."table",
	   s.id,
	   s.encrypted
  FROM @extschema@.tfstate_states('*') s
  LEFT JOIN LATERAL (SELECT n.*
					   FROM tfstate_internal.stored_version n
					  WHERE n.lockid = s.workspace COLLATE "C"
					  ORDER BY n.number DESC
					  LIMIT 1) v ON true
  LEFT JOIN @extschema@.tfstate_holders h ON h.lockid = s.workspace COLLATE "C";
COMMENT ON VIEW @extschema@.tfstate_workspaces IS
'the workspaces of all attached tables, one row each';
REVOKE ALL ON @extschema@.tfstate_workspaces FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_workspaces TO PUBLIC;
