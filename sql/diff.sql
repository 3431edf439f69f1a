-- What differs between two versions of a state.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;
DO $$ BEGIN PERFORM tfstate_attach(guard => 'on'); END $$;
CREATE ROLE regress_tfstate_viewer;
CREATE ROLE regress_tfstate_other;
SELECT tfstate_grant('regress_tfstate_viewer', 'terraform_remote_state.states/a', 'view');
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
-- Writes version n of the state of a workspace.
CREATE PROCEDURE write(workspace text, n int, resources text, outputs text DEFAULT '{}') LANGUAGE plpgsql AS $$
DECLARE
	state text := format('{"version": 4, "terraform_version": "1.11.4", "serial": %s, "lineage": "11111111-1111-4111-8111-111111111111", "outputs": %s, "resources": %s, "check_results": null}',
						 n, outputs, resources);
BEGIN
	INSERT INTO terraform_remote_state.states (name, data) VALUES (workspace, state)
	ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data;
END;
$$;

CALL write('a', 1, '[]');
CALL write('a', 2, $json$[
	{"mode": "managed", "type": "t", "name": "list", "provider": "p", "instances": [
		{"index_key": 0, "attributes": {"id": "0"}}, {"index_key": 1, "attributes": {"id": "1"}}, {"index_key": 2, "attributes": {"id": "2"}}]},
	{"module": "module.m", "mode": "data", "type": "t", "name": "d", "provider": "p", "instances": [{"attributes": {"id": "d"}}]}]$json$,
	'{"kept": {"value": 1, "type": "number"}, "changed": {"value": 1, "type": "number"}, "removed": {"value": 1, "type": "number"}}');
CALL write('a', 3, $json$[
	{"mode": "managed", "type": "t", "name": "list", "provider": "p", "instances": [
		{"index_key": 0, "attributes": {"id": "0"}}, {"index_key": 1, "status": "tainted", "attributes": {"id": "1"}},
		{"index_key": 0, "deposed": "a1b2c3d4", "attributes": {"id": "0"}}, {"index_key": 3, "attributes": {"id": "2"}}]},
	{"module": "module.m", "mode": "data", "type": "t", "name": "d", "provider": "q", "instances": [{"attributes": {"id": "d"}}]}]$json$,
	'{"kept": {"value": 1, "type": "number"}, "changed": {"value": 2, "type": "number"}, "added": {"value": 1, "type": "number"}}');

SELECT * FROM tfstate_diff('terraform_remote_state.states/a', 1, 2);
SELECT * FROM tfstate_diff('terraform_remote_state.states/a', 2, 3);
-- In reverse, and between equal versions.
SELECT * FROM tfstate_diff('terraform_remote_state.states/a', 3, 2);
SELECT * FROM tfstate_diff('terraform_remote_state.states/a', 2, 2);
-- Compared with the current state.
SELECT count(*) FROM tfstate_diff('terraform_remote_state.states/a', 3);
SELECT * FROM tfstate_diff('terraform_remote_state.states/a', 2)
EXCEPT SELECT * FROM tfstate_diff('terraform_remote_state.states/a', 2, 3);
SELECT count(*) FROM tfstate_diff('terraform_remote_state.states/a', 1, NULL);
-- White space and the order of resources are no changes; white space in strings is one.
CALL write('b', 1, '[{"type": "t", "name": "a", "instances": [{"attributes": {"x": "a b", "y": [1, 2]}}]}, {"type": "t", "name": "b", "instances": [{"status": "x y"}]}]');
CALL write('b', 2, E'[{"type": "t",\n"name":\t"b" , "instances": [\n{"status": "x  y" }]}, {"type": "t", "name": "a", "instances": [ {"attributes" :{"x":"a b","y":[ 1,2 ]} } ]} ]');
SELECT * FROM tfstate_diff('terraform_remote_state.states/b', 1, 2);
-- An address that occurs more than once, which no client writes.
CALL write('b', 3, '[{"type": "t", "name": "a", "instances": [{}, {"status": "x"}, {"status": "y"}]}]');
CALL write('b', 4, '[{"type": "t", "name": "a", "instances": [{"status": "y"}, {}]}]');
SELECT * FROM tfstate_diff('terraform_remote_state.states/b', 3, 4);
-- Several deposed objects of one instance are told apart by their keys, in any order.
CALL write('c', 1, '[{"type": "t", "name": "a", "instances": [{"index_key": 0, "status": "x"}, {"index_key": 0, "deposed": "a1"},
	{"index_key": 0, "deposed": "b1", "status": "x"}, {"index_key": 0, "deposed": "c1"}, {"index_key": 1, "deposed": "a1"}]}]');
CALL write('c', 2, '[{"type": "t", "name": "a", "instances": [{"index_key": 0, "deposed": "d1"}, {"index_key": 0, "deposed": "c1"},
	{"index_key": 0, "deposed": "b1", "status": "y"}, {"index_key": 0, "status": "x"}, {"index_key": 1, "deposed": "a1"}]}]');
SELECT * FROM tfstate_diff('terraform_remote_state.states/c', 1, 2);
SELECT * FROM tfstate_diff('terraform_remote_state.states/c', 2, 1);
-- More instances than the first buffer holds.
CREATE FUNCTION many(n int, statuses int) RETURNS text LANGUAGE sql
RETURN (SELECT '[' || string_agg(format('{"type": "t", "name": "%s", "instances": [{"status": "%s"}]}', i, i % statuses), ',') || ']'
		  FROM generate_series(1, n) i);
CALL write('many', 1, many(1000, 1000));
CALL write('many', 2, many(2000, 900));
SELECT change, count(*), min(address COLLATE "C"), max(address COLLATE "C") FROM tfstate_diff('terraform_remote_state.states/many', 1, 2) GROUP BY change ORDER BY change;

-- A role that may view may compare, without seeing values.
SET ROLE regress_tfstate_viewer;
SELECT count(*) FROM tfstate_diff('terraform_remote_state.states/a', 2, 3);
CALL fails($$SELECT * FROM tfstate_diff('terraform_remote_state.states/b', 1, 2)$$);
SET ROLE regress_tfstate_other;
CALL fails($$SELECT * FROM tfstate_diff('terraform_remote_state.states/a', 2, 3)$$);
CALL fails($$SELECT * FROM tfstate_diff('terraform_remote_state.states/a', 2)$$);
RESET ROLE;
-- Of states that OpenTofu has encrypted only a difference is known.
CREATE FUNCTION secret(serial bigint) RETURNS text LANGUAGE sql
RETURN format('{"serial": %s, "lineage": "e", "encrypted_data": "%s", "encryption_version": "v0"}', serial, md5(serial::text));
INSERT INTO terraform_remote_state.states (name, data)
VALUES ('e', '{"version": 4, "serial": 1, "lineage": "e", "resources": [{"mode": "managed", "type": "t", "name": "n", "instances": [{}]}]}');
UPDATE terraform_remote_state.states SET data = secret(2) WHERE name = 'e';
UPDATE terraform_remote_state.states SET data = secret(3) WHERE name = 'e';
SELECT * FROM tfstate_diff('terraform_remote_state.states/e', 1, 2);
SELECT * FROM tfstate_diff('terraform_remote_state.states/e', 2, 3);
SELECT * FROM tfstate_diff('terraform_remote_state.states/e', 2, 2);
SELECT * FROM tfstate_diff('terraform_remote_state.states/e', 3, 1);
SELECT * FROM tfstate_diff('terraform_remote_state.states/e', 3);
SELECT workspace, encrypted, serial, terraform_version FROM tfstate_states('terraform_remote_state.states/e');
SELECT workspace, encrypted, resources FROM tfstate_workspaces WHERE workspace ~ '/[ae]$' ORDER BY 1;
-- Bad input.
CALL fails($$SELECT * FROM tfstate_diff(NULL, 1, 2)$$);
CALL fails($$SELECT * FROM tfstate_diff('terraform_remote_state.states/a', NULL, 2)$$);
CALL fails($$SELECT * FROM tfstate_diff('terraform_remote_state.states/a', 99, 2)$$);
CALL fails($$SELECT * FROM tfstate_diff('terraform_remote_state.states/a', 2, 99)$$);
CALL fails($$SELECT * FROM tfstate_diff('terraform_remote_state.states/*', 2, 3)$$);
CALL fails($$SELECT * FROM tfstate_diff('', 2, 3)$$);
DELETE FROM terraform_remote_state.states WHERE name = 'b';
CALL fails($$SELECT * FROM tfstate_diff('terraform_remote_state.states/b', 2)$$);
CALL fails($$SELECT * FROM tfstate_diff('terraform_remote_state.states/b', 4, 5)$$);
SELECT count(*) FROM tfstate_diff('terraform_remote_state.states/b', 2, 3);
BEGIN READ ONLY;
SELECT count(*) FROM tfstate_diff('terraform_remote_state.states/a', 2);
COMMIT;

DROP EXTENSION tfstate CASCADE;
DROP SCHEMA terraform_remote_state CASCADE;
DROP SEQUENCE IF EXISTS public.global_states_id_seq;
DROP PROCEDURE write, fails;
DROP FUNCTION masked, many, secret;
DROP ROLE regress_tfstate_viewer, regress_tfstate_other;
