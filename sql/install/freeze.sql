--
-- Freezing patterns of lockids.
--

CREATE TABLE tfstate_internal.freeze (
	pattern text COLLATE "C" PRIMARY KEY,
	reason text NOT NULL,
	who text NOT NULL,
	role tfstate_internal.role NOT NULL,
	since timestamptz NOT NULL,
	until timestamptz,
	exempt tfstate_internal.role[] NOT NULL DEFAULT '{}',
	builtin_pids integer[] NOT NULL DEFAULT '{}'
) USING heap;
COMMENT ON TABLE tfstate_internal.freeze IS
'the patterns of lockids that are frozen, and some that no longer are';
COMMENT ON COLUMN tfstate_internal.freeze.until IS
'when the freeze ends by itself; NULL if it does not';
COMMENT ON COLUMN tfstate_internal.freeze.exempt IS
'the roles that may lock all the same, and write what they have locked';
COMMENT ON COLUMN tfstate_internal.freeze.builtin_pids IS
'the processes that had the built-in lock of a workspace below the pattern when it was frozen';
REVOKE ALL ON tfstate_internal.freeze FROM PUBLIC;

-- A restored database stays frozen until the same time.
SELECT pg_extension_config_dump('tfstate_internal.freeze', '');

CREATE FUNCTION tfstate_internal.report_freeze()
RETURNS trigger
AS 'MODULE_PATHNAME', 'tfstate_report_freeze'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.report_freeze() IS
'trigger of the table freeze: all sessions look at it again';
REVOKE EXECUTE ON FUNCTION tfstate_internal.report_freeze() FROM PUBLIC;
CREATE TRIGGER report_freeze AFTER INSERT OR UPDATE OR DELETE ON tfstate_internal.freeze
	FOR EACH ROW EXECUTE FUNCTION tfstate_internal.report_freeze();
ALTER TABLE tfstate_internal.freeze ENABLE ALWAYS TRIGGER report_freeze;
COMMENT ON TRIGGER report_freeze ON tfstate_internal.freeze IS
'sessions that know the table to be empty look at it again';

CREATE FUNCTION @extschema@.tfstate_freeze(
	pattern text,
	reason text,
	until timestamptz DEFAULT NULL,
	exempt name[] DEFAULT NULL,
	OUT lockid text,
	OUT who text,
	OUT operation text,
	OUT created timestamptz,
	OUT mode text,
	OUT id text,
	OUT role text,
	OUT pid integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_freeze'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_freeze(text, text, timestamptz, name[]) IS
'refuse new locks and writes below a pattern, for maintenance, and return the holders that go on
"mode" is "built-in" for locks of a Terraform that does not use the shim.
Privilege: override on all that the pattern matches.
Errors: 42710 already frozen; 42704 no such role; 22023; 22004.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_freeze(text, text, timestamptz, name[]) TO PUBLIC;

CREATE FUNCTION @extschema@.tfstate_unfreeze(pattern text)
RETURNS void
AS 'MODULE_PATHNAME', 'tfstate_unfreeze'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tfstate_unfreeze(text) IS
'end the freeze of a pattern
Of exactly this pattern.
Privilege: override on all that the pattern matches.
Errors: 42704 not frozen.';
GRANT EXECUTE ON FUNCTION @extschema@.tfstate_unfreeze(text) TO PUBLIC;

CREATE VIEW @extschema@.tfstate_freezes AS
SELECT f.pattern,
	   f.reason,
	   f.who,
	   f.role::text AS role,
	   date_trunc('second', f.since) AS since,
	   date_trunc('second', f.until) AS until,
	   f.exempt::text[] AS exempt
  FROM tfstate_internal.freeze f
 WHERE f.until IS NULL OR f.until > clock_timestamp();
COMMENT ON VIEW @extschema@.tfstate_freezes IS
'the patterns that are frozen, one row each';
COMMENT ON COLUMN @extschema@.tfstate_freezes.pattern IS 'the lockids; * stands for any text';
COMMENT ON COLUMN @extschema@.tfstate_freezes.reason IS 'why they are frozen';
COMMENT ON COLUMN @extschema@.tfstate_freezes.who IS 'who froze them, as the client calls itself';
COMMENT ON COLUMN @extschema@.tfstate_freezes.role IS 'the role that froze them; none if it was dropped';
COMMENT ON COLUMN @extschema@.tfstate_freezes.since IS 'since when';
COMMENT ON COLUMN @extschema@.tfstate_freezes.until IS 'until when; NULL: until tfstate_unfreeze()';
COMMENT ON COLUMN @extschema@.tfstate_freezes.exempt IS
'the roles that may lock all the same, and write what they have locked';
REVOKE ALL ON @extschema@.tfstate_freezes FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_freezes TO PUBLIC;
