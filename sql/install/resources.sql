--
-- What the states contain.
--

CREATE FUNCTION @extschema@.tfstate_resources(
	pattern text DEFAULT '*',
	OUT workspace text,
	OUT address text,
	OUT module text,
	OUT mode text,
	OUT type text,
	OUT name text,
	OUT index text,
	OUT provider text,
	OUT id text,
	OUT tainted boolean,
	OUT deposed text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_resources'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_resources(text) IS
'the instances of resources in the states of the workspaces that a pattern matches
As the snapshot of the statement has them. "deposed" is the key of an instance that waits to be destroyed.
Privilege: view.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_resources(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_outputs(
	pattern text DEFAULT '*',
	OUT workspace text,
	OUT name text,
	OUT value jsonb,
	OUT type jsonb,
	OUT sensitive boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_outputs'
LANGUAGE C STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_outputs(text) IS
'the outputs in the states of the workspaces that a pattern matches
"value" is NULL where the caller may not see it, and where jsonb cannot hold it: a text with the character 0, a
number that is too large.
Privilege: view.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_outputs(text) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_diff(
	workspace text,
	a bigint,
	b bigint DEFAULT NULL,
	OUT address text,
	OUT change text,
	OUT deposed text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_diff'
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tfstate_diff(text, bigint, bigint) IS
'what was added, removed and changed from one version of a workspace to another, or to its state now
"change" is "added", "removed" or "changed". An output has the address output.NAME. Any difference counts as
changed, except white space.
Privilege: view.
Errors: 42704 no such version or workspace; 55000 a deletion; XX001 damaged.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_diff(text, bigint, bigint) TO PUBLIC;
