-- The contents of all states: resources and outputs.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;
DO $$ BEGIN PERFORM tfstate_attach(guard => 'on'), tfstate_attach('regress team', 'More states', guard => 'on'); END $$;
CREATE ROLE regress_tfstate_viewer;
CREATE ROLE regress_tfstate_reader;
CREATE ROLE regress_tfstate_column;
CREATE ROLE regress_tfstate_nobody;
SELECT count(tfstate_grant(r::name, '*', 'view'))
  FROM unnest('{regress_tfstate_viewer, regress_tfstate_reader, regress_tfstate_column}'::text[]) r;
GRANT SELECT ON terraform_remote_state.states TO regress_tfstate_reader, regress_tfstate_nobody;
GRANT SELECT (data) ON terraform_remote_state.states TO regress_tfstate_column;
CREATE SCHEMA helpers;
GRANT USAGE ON SCHEMA helpers TO PUBLIC;

-- Writes the state of a workspace.  States differ only in what is given.
CREATE PROCEDURE helpers.write(workspace text, resources text, outputs text DEFAULT '{}') LANGUAGE plpgsql AS $$
DECLARE
	head text := '"version": 4, "terraform_version": "1.11.4", "lineage": "11111111-1111-4111-8111-111111111111"';
BEGIN
	INSERT INTO terraform_remote_state.states AS s (name, data)
	VALUES (workspace, format('{%s, "serial": 1, "outputs": %s, "resources": %s, "check_results": null}', head, outputs, resources))
	ON CONFLICT (name) DO UPDATE
	SET data = format('{%s, "serial": %s, "outputs": %s, "resources": %s, "check_results": null}',
					  head, substring(s.data FROM '"serial": (\d+)')::int + 1, outputs, resources);
END;
$$;
-- The same with all triggers disabled.
CREATE PROCEDURE helpers.write_anything(workspace text, state text) LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	INSERT INTO terraform_remote_state.states (name, data) VALUES (workspace, state)
	ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data;
	SET LOCAL session_replication_role = origin;
END;
$$;

-- Empty workspaces have no rows.
SELECT count(*) FROM tfstate_resources();
SELECT count(*) FROM tfstate_outputs();

-- Addresses are those of Terraform.
CALL helpers.write('a', $json$[
	{"mode": "managed", "type": "null_resource", "name": "plain", "provider": "provider[\"registry.terraform.io/hashicorp/null\"]",
	 "instances": [{"schema_version": 0, "attributes": {"id": "1", "triggers": null}, "sensitive_attributes": []}]},
	{"mode": "managed", "type": "null_resource", "name": "counted", "provider": "p",
	 "instances": [{"index_key": 0, "attributes": {"id": "c0"}}, {"index_key": 1, "status": "tainted", "attributes": {"id": "c1"}},
				   {"index_key": 1, "deposed": "a1b2c3d4", "attributes": {"id": "old"}}]},
	{"mode": "data", "type": "terraform_remote_state", "name": "other", "provider": "p",
	 "instances": [{"attributes": {"backend": "pg"}}]},
	{"module": "module.net[0].module.sub[\"a/b\"]", "mode": "data", "type": "aws_vpc", "name": "main", "provider": "p",
	 "instances": [{"attributes": {"id": "vpc-1"}}]},
	{"mode": "managed", "type": "aws_iam_role", "name": "none", "provider": "p", "instances": []}]$json$);
SELECT address, module, mode, type, name, index, id, tainted, deposed FROM tfstate_resources();
SELECT workspace, address, provider FROM tfstate_resources() WHERE name = 'plain';

-- Several deposed objects, of one instance and of several
CALL helpers.write('deposed', $json$[
	{"mode": "managed", "type": "t", "name": "n", "instances": [
		{"index_key": 0, "deposed": "a1", "attributes": {"id": "1"}}, {"index_key": 0, "attributes": {"id": "2"}},
		{"index_key": 0, "deposed": "b1", "status": "tainted", "attributes": {"id": "3"}}, {"index_key": 1, "deposed": "a1", "attributes": {"id": "4"}}]},
	{"mode": "managed", "type": "t", "name": "only", "instances": [{"deposed": "a1", "attributes": {"id": "5"}}, {"deposed": "c1", "attributes": {"id": "6"}}]}]$json$);
SELECT address, deposed, id, tainted FROM tfstate_resources('*/deposed');

-- String keys are quoted as Terraform quotes them.
CALL helpers.write('keys', $json$[
	{"mode": "managed", "type": "t", "name": "n", "instances": [
		{"index_key": ""}, {"index_key": "with space"}, {"index_key": "a\"b\\c"}, {"index_key": "${x} %{y} $ % $x $"},
		{"index_key": "line\nreturn\rtab\tbell\u0007"}, {"index_key": "\u003c\u00e9\u20ac\ud83d\ude00\u003e"},
		{"index_key": "\u00a0\u2028\u200b\ue000\udb40\udc01"}, {"index_key": "\/\b\f"}, {"index_key": "0"}, {"index_key": null},
		{"index_key": "nul \u0000 and half a pair \ud83d \ude00"}]}]$json$);
SELECT address FROM tfstate_resources('terraform_remote_state.states/keys');
SELECT index FROM tfstate_resources('terraform_remote_state.states/keys') WHERE address ~ '<|return';

-- The order of keys and the layout of the text do not matter.
CALL helpers.write('order', $json$[{"instances":[{"sensitive_attributes" : [ ] ,"status":"tainted","attributes":{"tags":{"id":"no"},"list":[{"id":"no"}],
	"text":"\"id\": \"no\"}","id":"yes"},"index_key":7}],"name":"n","type":"t","module":"module.m","mode":"data"}]$json$);
SELECT address, id, tainted FROM tfstate_resources('*/order');

-- An id is shown as it is if it is a string or a number.
CALL helpers.write('ids', $json$[{"type": "t", "name": "n", "instances": [
	{"index_key": 0, "attributes": {"id": 12345678901234567890}}, {"index_key": 1, "attributes": {"id": -1.50e3}},
	{"index_key": 2, "attributes": {"id": null}}, {"index_key": 3, "attributes": {"id": ["no"]}}, {"index_key": 4, "attributes": {}},
	{"index_key": 5, "attributes": {"id": true}}, {"index_key": 6, "attributes": null}, {"index_key": 7},
	{"index_key": 8, "attributes": {"user_data": "a\u0000b", "id": "beside a NUL"}}, {"index_key": 9, "attributes": {"id": "NUL\u0000inside"}},
	{"index_key": 10, "attributes_flat": {"id": "flat"}}, {"index_key": 11, "attributes": {"\u0069d": "spelled in another way"}}]}]$json$);
SELECT index, id FROM tfstate_resources('*/ids');

-- Patterns
INSERT INTO "regress team"."More states" (name, data)
SELECT 'a/b', data FROM terraform_remote_state.states WHERE name = 'order';
SELECT DISTINCT workspace FROM tfstate_resources() ORDER BY workspace;
SELECT DISTINCT workspace FROM tfstate_resources('*/a*') ORDER BY workspace;
SELECT workspace, id FROM tfstate_resources('"regress team"."More states"/a/b');
SELECT count(*) FROM tfstate_resources('regress team.More states/a/b');
SELECT count(*) FROM tfstate_resources('terraform_remote_state.states/A');
SELECT count(*) FROM tfstate_resources('terraform_remote_state.states/');
SELECT count(*) FROM tfstate_resources('terraform_remote_state.gone/a');
SELECT count(*) FROM tfstate_resources('');
SELECT count(*) FROM tfstate_resources(NULL);
-- One workspace is found by its index, and no other table is read.
\c -
SET client_min_messages = warning;
BEGIN;
SELECT count(*) FROM tfstate_resources('terraform_remote_state.states/order');
SELECT relname, seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE relname IN ('states', 'More states') ORDER BY relname;
SELECT count(*) FROM tfstate_resources('*/order');
SELECT relname, seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE relname IN ('states', 'More states') ORDER BY relname;
ROLLBACK;

-- A role that may view does not see sensitive values; a role that may read the table does.  Unclear
-- cases count as sensitive.
CALL helpers.write('secret', $json$[{"type": "t", "name": "n", "instances": [
	{"index_key": "public", "attributes": {"id": "1", "password": "p"}, "sensitive_attributes": [[{"type": "get_attr", "value": "password"}]]},
	{"index_key": "inside another", "attributes": {"id": "2"}, "sensitive_attributes": [[{"type": "get_attr", "value": "x"}, {"type": "get_attr", "value": "id"}]]},
	{"index_key": "unmarked", "attributes": {"id": "3"}, "sensitive_attributes": null},
	{"index_key": "id", "attributes": {"id": "s1"}, "sensitive_attributes": [[{"type": "get_attr", "value": "x"}], [{"value": "id", "type": "get_attr"}]]},
	{"index_key": "marks first", "sensitive_attributes": [[{"type": "get_attr", "value": "id"}]], "attributes": {"id": "s2"}},
	{"index_key": "inside id", "attributes": {"id": "s3"}, "sensitive_attributes": [[{"type": "get_attr", "value": "id"}, {"type": "index", "value": 0}]]},
	{"index_key": "all", "attributes": {"id": "s4"}, "sensitive_attributes": [[]]},
	{"index_key": "index", "attributes": {"id": "s5"}, "sensitive_attributes": [[{"type": "index", "value": {"value": "id", "type": "string"}}]]},
	{"index_key": "escaped", "attributes": {"id": "s6"}, "sensitive_attributes": [[{"type": "get_attr", "value": "\u0069d"}]]},
	{"index_key": "no list", "attributes": {"id": "s7"}, "sensitive_attributes": {"id": true}},
	{"index_key": "no path", "attributes": {"id": "s8"}, "sensitive_attributes": ["id"]},
	{"index_key": "flat", "attributes_flat": {"id": "s9"}}]}]$json$,
	$json${"open": {"value": {"a": [1, null]}, "type": ["object", {"a": ["list", "number"]}]},
		   "hidden": {"value": "hush", "type": "string", "sensitive": true},
		   "marked first": {"sensitive": true, "value": "hush", "type": "string"},
		   "said not to be": {"value": "loud", "type": "string", "sensitive": false}}$json$);
SELECT index, id FROM tfstate_resources('*/secret');
SELECT * FROM tfstate_outputs('*/secret');
SET ROLE regress_tfstate_viewer;
SELECT index, id FROM tfstate_resources('*/secret');
SELECT * FROM tfstate_outputs('*/secret');
SELECT * FROM tfstate_outputs() EXCEPT SELECT * FROM tfstate_outputs('*/secret');
-- No other column shows them.
SELECT count(*) FROM tfstate_resources() r WHERE r::text ~ '\ms\d\M';
SELECT count(*) FROM tfstate_outputs() o WHERE o::text ~ 'hush';
SET ROLE regress_tfstate_reader;
SELECT count(*) FROM tfstate_resources() r WHERE r.id ~ '^s\d$';
SELECT count(*) FROM tfstate_outputs() WHERE value = '"hush"';
SET ROLE regress_tfstate_column;
SELECT count(*) FROM tfstate_resources() r WHERE r.id ~ '^s\d$';
RESET ROLE;
-- A role that may read some rows only does not count as a reader.
ALTER TABLE terraform_remote_state.states ENABLE ROW LEVEL SECURITY;
SET ROLE regress_tfstate_reader;
SELECT count(*) FROM tfstate_resources() r WHERE r.id ~ '^s\d$';
SELECT count(*) FROM tfstate_outputs() WHERE sensitive AND value IS NULL;
RESET ROLE;
ALTER TABLE terraform_remote_state.states DISABLE ROW LEVEL SECURITY;
-- Reading the table is not enough without a grant; and a grant covers only its pattern.
SET ROLE regress_tfstate_nobody;
SELECT count(*) FROM tfstate_resources();
SELECT count(*) FROM tfstate_outputs('terraform_remote_state.states/secret');
RESET ROLE;
SELECT tfstate_grant('regress_tfstate_nobody', '*/order', 'view');
SELECT tfstate_grant('regress_tfstate_nobody', '*/ids', 'lock');
SET ROLE regress_tfstate_nobody;
SELECT DISTINCT workspace FROM tfstate_resources();
RESET ROLE;

-- Outputs that jsonb cannot hold are listed without their value.
CALL helpers.write('outputs', '[]', $json${"nul": {"value": "a\u0000b", "type": "string"}, "large": {"value": 1e200000, "type": "number"},
	"half": {"value": ["\ud83d"], "type": ["tuple", ["string"]]}, "null": {"value": null, "type": "dynamic"}, "none": {},
	"last": {"value": 1.50, "type": "number"}, "no object": 1}$json$);
SELECT name, value, value IS NULL AS no_value, type, sensitive FROM tfstate_outputs('*/outputs');

-- As of the statement's snapshot.
BEGIN ISOLATION LEVEL REPEATABLE READ;
DECLARE before CURSOR FOR SELECT address FROM tfstate_resources('*/order');
CALL helpers.write('order', '[{"type": "t", "name": "after", "instances": [{}]}]');
FETCH ALL FROM before;
SELECT address FROM tfstate_resources('*/order');
ROLLBACK;
SELECT address FROM tfstate_resources('*/order');
-- In a read-only transaction, and in a serializable one.
BEGIN READ ONLY;
SELECT count(*) FROM tfstate_resources('*/ids');
SELECT count(*) FROM tfstate_outputs('*/secret');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM tfstate_resources('*/ids');
COMMIT;

-- Texts that are not states of this version have no rows, and raise no error.
CALL helpers.write_anything('bad 1', '');
CALL helpers.write_anything('bad 2', 'no JSON');
CALL helpers.write_anything('bad 3', NULL);
CALL helpers.write_anything('bad 4', '[{"version": 4, "resources": [{"type": "t", "name": "n", "instances": [{}]}]}]');
CALL helpers.write_anything('bad 5', '{"version": 4, "resources": [{"type": "t", "name": "n", "instances": [{}]}]');
CALL helpers.write_anything('bad 6', '{"version": 4, "resources": [{"type": "t", "name": "n", "instances": [{}]}]} {}');
CALL helpers.write_anything('bad 7', '{"version": 5, "resources": [{"type": "t", "name": "n", "instances": [{}]}]}');
CALL helpers.write_anything('bad 8', '{"version": 3, "serial": 1, "lineage": "l", "modules": [{"path": ["root"], "outputs": {}, "resources": {"t.n": {"type": "t", "primary": {"id": "1"}}}}]}');
CALL helpers.write_anything('bad 9', '{"serial": 1, "lineage": "l", "meta": {"key_provider.pbkdf2.x": "e30="}, "encrypted_data": "QUJD", "encryption_version": "v0"}');
CALL helpers.write_anything('bad 10', '{"version": 4, "resources": {"a": {"type": "t", "name": "n", "instances": [{}]}}, "outputs": [{"value": 1}]}');
CALL helpers.write_anything('bad 11', '{"version": 4, "resources": [1, "x", [], {}, {"type": "t", "instances": [{}]}, {"type": 1, "name": "n", "instances": [{}]}, {"type": "t", "name": "n", "instances": [1, null, []]}]}');
SELECT * FROM tfstate_resources('*/bad *');
SELECT * FROM tfstate_outputs('*/bad *');

-- Damaged states raise no error.  If jsonb can read one, both find the same instances and ids.
CREATE FUNCTION helpers.ids(state jsonb) RETURNS text[] LANGUAGE sql AS $$
SELECT array_agg(CASE WHEN jsonb_typeof(i -> 'attributes') = 'object' AND jsonb_typeof(i #> '{attributes,id}') IN ('string', 'number')
					  THEN i #>> '{attributes,id}' END ORDER BY n, m)
  FROM jsonb_array_elements(CASE WHEN jsonb_typeof(state -> 'resources') = 'array' THEN state -> 'resources' ELSE '[]' END) WITH ORDINALITY r (r, n),
	   jsonb_array_elements(CASE WHEN jsonb_typeof(r -> 'instances') = 'array' THEN r -> 'instances' ELSE '[]' END) WITH ORDINALITY i (i, m)
 WHERE state ->> 'version' = '4' AND jsonb_typeof(r -> 'type') = 'string' AND jsonb_typeof(r -> 'name') = 'string' AND jsonb_typeof(i) = 'object'
$$;
CREATE FUNCTION helpers.damaged(state text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	at int := 1 + random() * length(state);
	span int := random() * 12;
	tokens text[] := string_to_array('null true 1 -2.5 1e999999 [] {} [[]] "" "\u0000" "\ud800" "\\" "id" "a\tb\u00e9"', ' ');
	token text := tokens[1 + floor(random() * array_length(tokens, 1))];
BEGIN
	CASE floor(random() * 8)::int
		WHEN 0 THEN	-- a character is changed
			RETURN overlay(state PLACING substr(E'{}[]",:\\ 0ntfu\n', 1 + floor(random() * 15)::int, 1) FROM at FOR 1);
		WHEN 1 THEN	-- some are missing
			RETURN overlay(state PLACING '' FROM at FOR span);
		WHEN 2 THEN	-- some are repeated
			RETURN overlay(state PLACING substr(state, at, span) FROM at FOR 0);
		WHEN 3 THEN	-- the end is missing
			RETURN left(state, at);
		WHEN 4 THEN	-- a key is changed
			RETURN regexp_replace(state, '"\w+":', '"id":', 1, 1 + floor(random() * 40)::int);
		ELSE		-- a value is changed
			RETURN regexp_replace(state, ': ("[^"]*"|\d+|null|\[\]|\{\})', ': ' || replace(token, '\', '\\'), 1, 1 + floor(random() * 40)::int);
	END CASE;
END;
$$;
DO $$
DECLARE
	base text := (SELECT data FROM terraform_remote_state.states WHERE name = 'a');
	state text;
	found text[];
	readable int := 0;
	compared int := 0;
	differing int := 0;
BEGIN
	PERFORM setseed(0.5);
	base := replace(base, '"outputs": {}', '"outputs": {"o": {"value": [1, "x"], "type": "string", "sensitive": true}}');
	INSERT INTO terraform_remote_state.states (name, data) VALUES ('fuzz', base);
	FOR i IN 1 .. 3000 LOOP
		state := helpers.damaged(base);
		IF i % 2 = 0 THEN
			state := helpers.damaged(state);
		END IF;
		CALL helpers.write_anything('fuzz', state);
		found := (SELECT array_agg(id) FROM tfstate_resources('terraform_remote_state.states/fuzz'));
		PERFORM FROM tfstate_outputs('terraform_remote_state.states/fuzz');
		PERFORM FROM tfstate_diff('terraform_remote_state.states/fuzz', 1);
		readable := readable + (found IS NOT NULL)::int;
		BEGIN
			differing := differing + (helpers.ids(state::jsonb) IS DISTINCT FROM found)::int;
			compared := compared + 1;
		EXCEPTION WHEN data_exception THEN	-- not for jsonb
		END;
	END LOOP;
	RAISE INFO 'many are readable: %, many are not: %, jsonb differs: %',
		readable > 500, readable < 2500, CASE WHEN compared > 1000 THEN differing END;
END;
$$;

-- A table without the needed columns, or a dropped one.
ALTER TABLE "regress team"."More states" RENAME COLUMN data TO document;
SELECT count(*) FROM tfstate_resources('"regress team"*');
ALTER TABLE "regress team"."More states" ADD data bytea DEFAULT 'x';
SELECT count(*) FROM tfstate_resources('"regress team"*');
DROP TABLE "regress team"."More states";
SELECT count(*) FROM tfstate_resources('"regress team"*');
SELECT count(*) FROM tfstate_resources('"regress team"."More states"/a/b');

DROP EXTENSION tfstate CASCADE;
DROP SCHEMA helpers, terraform_remote_state, "regress team" CASCADE;
DROP SEQUENCE IF EXISTS public.global_states_id_seq;
DROP ROLE regress_tfstate_viewer, regress_tfstate_reader, regress_tfstate_column, regress_tfstate_nobody;
