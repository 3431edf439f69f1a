--
-- The numbers that a monitoring system collects.
--

-- It can make the shared memory, for which it needs a subtransaction.
CREATE FUNCTION tfstate_internal.metrics(
	OUT name text,
	OUT type text,
	OUT help text,
	OUT labels jsonb,
	OUT value double precision)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tfstate_metrics'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tfstate_internal.metrics() IS
'the numbers of tfstate_metrics that the current role may see';
GRANT EXECUTE ON FUNCTION tfstate_internal.metrics() TO PUBLIC;

CREATE VIEW @extschema@.tfstate_metrics AS
SELECT m.name, m.type, m.help, m.labels, m.value FROM tfstate_internal.metrics() m;
COMMENT ON VIEW @extschema@.tfstate_metrics IS
'numbers for a monitoring system: gauges and counters, cheap enough for every few seconds';
COMMENT ON COLUMN @extschema@.tfstate_metrics.name IS 'the name of the metric, as Prometheus writes it';
COMMENT ON COLUMN @extschema@.tfstate_metrics.type IS
'gauge, or counter: grows until the server restarts';
COMMENT ON COLUMN @extschema@.tfstate_metrics.help IS 'what it tells';
COMMENT ON COLUMN @extschema@.tfstate_metrics.labels IS 'what tells apart metrics of one name';
COMMENT ON COLUMN @extschema@.tfstate_metrics.value IS 'the number';
REVOKE ALL ON @extschema@.tfstate_metrics FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_metrics TO PUBLIC;

-- PUBLIC can execute this for the view only, because it has no USAGE on the schema.  It runs as
-- the owner, because a role for monitoring needs no rights on states, and gets only numbers.
CREATE FUNCTION tfstate_internal.count_problems(source text)
RETURNS TABLE (severity text, problems bigint)
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF source = 'check' THEN
		RETURN QUERY EXECUTE format('SELECT s.severity, count(c.severity)
									   FROM (VALUES (''error''), (''warning'')) s(severity)
									   LEFT JOIN %s() c ON c.severity = s.severity
									  GROUP BY s.severity', tfstate_internal.qualified('tfstate_check'));
	ELSE
		RETURN QUERY EXECUTE format('SELECT ''error'', count(*) FROM %s()',
									tfstate_internal.qualified('tfstate_verify'));
	END IF;
END;
$$;
COMMENT ON FUNCTION tfstate_internal.count_problems(text) IS
'part of tfstate_slow_metrics: how many problems tfstate_check() or tfstate_verify() reports';
GRANT EXECUTE ON FUNCTION tfstate_internal.count_problems(text) TO PUBLIC;

CREATE FUNCTION tfstate_internal.sees_all_metrics()
RETURNS boolean
AS 'MODULE_PATHNAME', 'tfstate_sees_all_metrics'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tfstate_internal.sees_all_metrics() IS
'whether the current role gets the numbers of the whole database: a member of pg_monitor, or allowed to view all';
GRANT EXECUTE ON FUNCTION tfstate_internal.sees_all_metrics() TO PUBLIC;

-- A condition on name leaves out the other half before it is computed.
CREATE VIEW @extschema@.tfstate_slow_metrics AS
SELECT 'tfstate_check_problems' AS name,
	   'gauge' AS type,
	   'Rows of tfstate_check().' AS help,
	   jsonb_build_object('severity', p.severity) AS labels,
	   p.problems::double precision AS value
  FROM tfstate_internal.count_problems('check') p
 WHERE (SELECT tfstate_internal.sees_all_metrics())
UNION ALL
SELECT 'tfstate_verify_problems',
	   'gauge',
	   'Rows of tfstate_verify(): states that differ from their newest version.',
	   '{}',
	   p.problems::double precision
  FROM tfstate_internal.count_problems('verify') p
 WHERE (SELECT tfstate_internal.sees_all_metrics());
COMMENT ON VIEW @extschema@.tfstate_slow_metrics IS
'the same of tfstate_check(), for every hour, and tfstate_verify(), which reads all states, for every night';
COMMENT ON COLUMN @extschema@.tfstate_slow_metrics.name IS
'the name of the metric; a condition on it spares the other one';
COMMENT ON COLUMN @extschema@.tfstate_slow_metrics.type IS 'gauge';
COMMENT ON COLUMN @extschema@.tfstate_slow_metrics.help IS 'what it tells';
COMMENT ON COLUMN @extschema@.tfstate_slow_metrics.labels IS 'what tells apart metrics of one name';
COMMENT ON COLUMN @extschema@.tfstate_slow_metrics.value IS 'the number';
REVOKE ALL ON @extschema@.tfstate_slow_metrics FROM PUBLIC;
GRANT SELECT ON @extschema@.tfstate_slow_metrics TO PUBLIC;
