-- Functions that read work in a parallel query, too, in the workers or in the leader.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;
SELECT count(*) > 0 AS attached FROM tfstate_attach(guard => 'on');
CREATE ROLE regress_tfstate_viewer;
SELECT tfstate_grant('regress_tfstate_viewer', '*', 'view');
GRANT USAGE ON SCHEMA terraform_remote_state TO regress_tfstate_viewer;
GRANT SELECT ON terraform_remote_state.states TO regress_tfstate_viewer;
INSERT INTO terraform_remote_state.states (name, data)
VALUES ('w', '{"version": 4, "serial": 1, "lineage": "a", "outputs": {"o": {"value": 1}}, "resources":
	[{"mode": "managed", "type": "t", "name": "n", "instances": [{"attributes": {"id": "i"}}]}]}');
UPDATE terraform_remote_state.states SET data = replace(data, '"serial": 1', '"serial": 2') WHERE name = 'w';
SELECT count(tfstate_lock(lockid)) AS locked FROM unnest('{free, run 7}'::text[]) lockid;
SELECT tfstate_unlock('free') IS NOT NULL AS released;

-- Prints how many rows each query returns.
CREATE PROCEDURE read_all() LANGUAGE plpgsql AS $$
DECLARE
	query text;
	lines bigint;
BEGIN
	FOREACH query IN ARRAY ARRAY[
		'tfstate_holders', 'tfstate_holders(''*'')', 'tfstate_waiters', 'tfstate_waiters(''run 7'')',
		'tfstate_history', 'tfstate_history(''*'')', 'tfstate_grants', 'tfstate_has_privilege(''x'', ''view'')',
		'tfstate_states()', 'tfstate_workspaces', 'tfstate_versions', 'tfstate_versions(''*'')',
		'tfstate_version(''terraform_remote_state.states/w'', 1)', 'tfstate_resources()', 'tfstate_outputs()',
		'tfstate_diff(''terraform_remote_state.states/w'', 1, 2)', 'tfstate_verify(versions => true)',
		'tfstate_lockid()'] LOOP
		EXECUTE format('SELECT count(v) FROM %s v', query) INTO lines;
		RAISE INFO '%: %', query, lines;
	END LOOP;
END;
$$;

-- A session that has cached nothing yet, as the owner and as a role that may only view.
\c -
SET client_min_messages = warning;
SELECT count(set_config(name, 'on', false)) AS forced FROM pg_settings
 WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
CALL read_all();
CREATE TABLE copied AS SELECT lockid FROM tfstate_holders('*');
SELECT * FROM copied;
\c -
SET client_min_messages = warning;
SELECT count(set_config(name, 'on', false)) AS forced FROM pg_settings
 WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
SET SESSION AUTHORIZATION regress_tfstate_viewer;
CALL read_all();

-- A parallel plan that was not forced, in which the leader reads the locks.
\c -
SET client_min_messages = warning;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
CREATE TABLE runs AS SELECT n, 'run ' || n AS lockid FROM generate_series(1, 10000) n;
ALTER TABLE runs SET (parallel_workers = 2);
SELECT count(*) AS runs, count(h.lockid) AS held FROM runs LEFT JOIN tfstate_holders h USING (lockid);

DROP EXTENSION tfstate CASCADE;
DROP SCHEMA terraform_remote_state CASCADE;
DROP SEQUENCE global_states_id_seq;
DROP ROLE regress_tfstate_viewer;
