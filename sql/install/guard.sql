--
-- The trigger of attached tables.
--

CREATE FUNCTION tfstate_internal.guard()
RETURNS trigger
AS 'MODULE_PATHNAME', 'tfstate_guard'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.guard() IS
'trigger of attached tables: refuse writes against the lock, the serial or the lineage, and record versions';
REVOKE EXECUTE ON FUNCTION tfstate_internal.guard() FROM PUBLIC;

CREATE FUNCTION tfstate_internal.record_states("table" regclass)
RETURNS void
AS 'MODULE_PATHNAME', 'tfstate_record_states'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.record_states(regclass) IS
'part of tfstate_attach(): record the states of a table that is locked against writes';
REVOKE EXECUTE ON FUNCTION tfstate_internal.record_states(regclass) FROM PUBLIC;
