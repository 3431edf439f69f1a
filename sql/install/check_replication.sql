--
-- Logical replication of the tables of tfstate.
--

CREATE FUNCTION tfstate_internal.check_replication(
	OUT severity text,
	OUT object text,
	OUT problem text,
	OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'warning', format('publication %I', p.pubname),
	   'it also publishes tables of tfstate: a subscriber with tfstate gets grants, attachments, history and versions of '
	   'this database, and stops at rows that it has itself; name the tables to publish',
	   CASE WHEN p.puballtables THEN NULL
			ELSE format('ALTER PUBLICATION %I DROP TABLE %s', p.pubname,
						string_agg(format('%I.%I', t.schemaname, t.tablename), ', ' ORDER BY t.tablename)) END
  FROM pg_publication p JOIN pg_publication_tables t ON t.pubname = p.pubname
 WHERE t.schemaname = 'tfstate_internal'
 GROUP BY p.pubname, p.puballtables
UNION ALL
SELECT 'warning', format('subscription %I', s.subname),
	   format('it brings rows of another installation into tables of tfstate, %s among them: its grants and attachments '
			  'count here, too', min(r.srrelid::regclass::text COLLATE "C")), NULL
  FROM pg_subscription_rel r
	   JOIN pg_class c ON c.oid = r.srrelid AND c.relnamespace = 'tfstate_internal'::regnamespace
	   JOIN pg_subscription s ON s.oid = r.srsubid
 GROUP BY s.subname
$$;
COMMENT ON FUNCTION tfstate_internal.check_replication() IS
'part of tfstate_check(): report publications and subscriptions of the tables of tfstate';
REVOKE EXECUTE ON FUNCTION tfstate_internal.check_replication() FROM PUBLIC;
