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
'the workspaces of the attached tables whose lockid matches a pattern, with what their states say of themselves
Privilege: view.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_states(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_lockid(
	schema text DEFAULT 'terraform_remote_state',
	"table" text DEFAULT 'states',
	workspace text DEFAULT 'default')
RETURNS text
AS 'MODULE_PATHNAME', 'tfstate_lockid'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_lockid(text, text, text) IS
'the lockid of a workspace, existing or not, of an attached table; NULL if the table is not attached
Privilege: none.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_lockid(text, text, text) TO PUBLIC;

CREATE VIEW @extschema@.tfstate_workspaces WITH (security_barrier) AS
SELECT s.workspace,
	   s.serial,
	   v.resources,
	   s.size,
	   date_trunc('second', v.created) AS written_at,
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
'the workspaces of all attached tables, one row each: state, last write and lock';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.workspace IS 'the workspace, by its lockid';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.serial IS 'the serial of its state';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.resources IS 'how many instances of resources its state has';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.size IS 'how many bytes its state has';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.written_at IS 'when its newest version was recorded';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.written_by IS 'who wrote that, as the client calls itself';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.locked_by IS 'the holder of its lock; NULL if nobody holds it';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.locked_for IS 'what the lock was taken for';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.locked_at IS 'when the lock was taken';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.terraform_version IS
'the version of Terraform or OpenTofu that made the state';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.lineage IS 'the lineage of its state';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.version IS 'the number of its newest version';
COMMENT ON COLUMN @extschema@.tfstate_workspaces."table" IS 'its table';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.id IS 'its id there, which Terraform locks';
COMMENT ON COLUMN @extschema@.tfstate_workspaces.encrypted IS 'whether OpenTofu has encrypted its state';
REVOKE ALL ON @extschema@.tfstate_workspaces FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_workspaces TO PUBLIC;
