-- The settings tfstate.*
SET client_min_messages = warning;
CREATE EXTENSION tfstate;

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

-- Defaults, units and who may set them
SELECT tfstate_matches('load', 'the library') AS matches;
SHOW tfstate.who;
SHOW tfstate.operation;
SHOW tfstate.info;
SHOW tfstate.run_id;
SHOW tfstate.mode;
SHOW tfstate.wait;
SHOW tfstate.fence;
SHOW tfstate.guard;
SHOW tfstate.history;
SHOW tfstate.history_count;
SHOW tfstate.history_age;
SHOW tfstate.max_session_locks;
SHOW tfstate.log_events;
SHOW tfstate.notify;
SELECT name, vartype AS type, unit, context, boot_val AS "default", min_val AS min, enumvals AS values
  FROM pg_settings WHERE name LIKE 'tfstate.%' ORDER BY name COLLATE "C";
SELECT name FROM pg_settings WHERE name LIKE 'tfstate.%' AND coalesce(short_desc, '') = '';

-- Valid values
SET tfstate.wait = '10min';
SHOW tfstate.wait;
SET tfstate.wait = 1500;
SHOW tfstate.wait;
SET tfstate.wait = -1;
SHOW tfstate.wait;
SET tfstate.history_age = '2h';
SHOW tfstate.history_age;
SET tfstate.history_age = -1;
SET tfstate.history_count = -1;
SET tfstate.history_count = 0;
SET tfstate.mode = durable;
SET tfstate.mode = 'Session';
SHOW tfstate.mode;
SET tfstate.history = 'all';
SET tfstate.history = 'none';
SET tfstate.info = '';
SET tfstate.info = '{}';
SET tfstate.info = ' {"a": [1, {"b": null}]} ';
SHOW tfstate.info;
SET tfstate.max_session_locks = 1;
SET tfstate.fence = '';
SET tfstate.fence = 1;
SET tfstate.fence = '9223372036854775807';
SHOW tfstate.fence;
SET tfstate.guard = require;
SET tfstate.guard = off;
SET tfstate.guard = 'ON';
SHOW tfstate.guard;
RESET ALL;
SET client_min_messages = warning;

-- Invalid values are refused at once,
CALL fails($$SET tfstate.mode = 'shared'$$);
CALL fails($$SET tfstate.mode = ''$$);
CALL fails($$SET tfstate.guard = 'strict'$$);
CALL fails($$SET tfstate.guard = ''$$);
CALL fails($$SET tfstate.history = 'some'$$);
CALL fails($$SET tfstate.info = 'no json'$$);
CALL fails($$SET tfstate.info = '[]'$$);
CALL fails($$SET tfstate.info = '"text"'$$);
CALL fails($$SET tfstate.info = '{"a": 1'$$);
CALL fails($$SET tfstate.info = '{"a": 1} {}'$$);
\set VERBOSITY sqlstate
SET tfstate.fence = 0;
SET tfstate.fence = -1;
SET tfstate.fence = '1x';
SET tfstate.fence = '1.5';
SET tfstate.fence = ' ';
SET tfstate.fence = '9223372036854775808';
SET tfstate.fence = 'none';
SET tfstate.wait = -2;
SET tfstate.wait = '1 fortnight';
SET tfstate.history_count = -2;
SET tfstate.history_age = -2;
SET tfstate.max_session_locks = 0;
SELECT set_config('tfstate.info', jsonb_build_object('x', repeat('x', 8192))::text, false);
SELECT set_config('tfstate.who', repeat('x', 1025), false);
SELECT set_config('tfstate.operation', repeat('x', 1025), false);
SELECT set_config('tfstate.run_id', repeat('x', 1025), false);
\set VERBOSITY default
-- with the reason.
CALL fails($$SET tfstate.fence = '1x'$$);
CREATE PROCEDURE detail_of(name text, bytes integer) LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	PERFORM set_config(name, rpad('{', bytes - 1) || '}', false);
	RAISE INFO '%: % bytes are accepted', name, bytes;
EXCEPTION WHEN invalid_parameter_value THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RAISE INFO '%: %', name, detail;
END;
$$;
CALL detail_of('tfstate.who', 1024);
CALL detail_of('tfstate.who', 1025);
CALL detail_of('tfstate.operation', 1025);
CALL detail_of('tfstate.run_id', 1025);
CALL detail_of('tfstate.info', 8192);
CALL detail_of('tfstate.info', 8193);
DROP PROCEDURE detail_of;
RESET tfstate.who;
RESET tfstate.info;
SELECT name, setting FROM pg_settings WHERE name LIKE 'tfstate.%' AND source <> 'default';
-- The prefix is reserved.
CALL fails($$SET tfstate.nonsense = 1$$);

-- Their use: who, operation and info appear in the lock.
SET tfstate.who = 'alice@laptop';
SET tfstate.operation = 'apply';
SET tfstate.info = '{"Info": "job 4711", "Version": "1.11.4", "team": "blue"}';
SELECT id FROM tfstate_lock('s', '{"ID": "1", "Created": "now"}');
SELECT who, operation, info FROM tfstate_holders;
SELECT tfstate_unlock('s', '1')->>'Who' AS released;
-- An info that cannot be used is an error when the lock is taken.
SET tfstate.info = '{"Who": 1}';
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.info = '{"ID": ""}';
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.info = '{"ID": "from the setting", "Who": "me"}';
SELECT id FROM tfstate_lock('s');
SELECT who FROM tfstate_holders;
SELECT tfstate_unlock('s', 'from the setting')->>'Who' AS released;
-- It and the info argument may have 8 kB together, however that is divided.
CREATE FUNCTION lock_with(setting integer, given integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	empty integer := pg_column_size(jsonb '{"a": ""}');
BEGIN
	PERFORM set_config('tfstate.info', jsonb_build_object('a', repeat('x', setting - empty))::text, true);
	RETURN tfstate_unlock('s', id)->>'Path' FROM tfstate_lock('s', jsonb_build_object('b', repeat('x', given - empty)));
END;
$$;
SELECT lock_with(4096, 4096), lock_with(100, 8092), lock_with(8092, 100);
CALL fails($$SELECT lock_with(4096, 4097)$$);
CALL fails($$SELECT lock_with(101, 8092)$$);
CALL fails($$SELECT lock_with(8093, 100)$$);
DROP FUNCTION lock_with;
SELECT count(*) FROM tfstate_holders;

-- Settings that protect the server can be changed by administrators only.
CREATE ROLE regress_tfstate_user;
SELECT tfstate_grant('regress_tfstate_user');
SET ROLE regress_tfstate_user;
CALL fails($$SET tfstate.history = 'none'$$);
CALL fails($$SET tfstate.history_count = 0$$);
CALL fails($$SET tfstate.history_age = 0$$);
CALL fails($$SET tfstate.max_session_locks = 100000$$);
CALL fails($$SET tfstate.log_events = off$$);
CALL fails($$SET tfstate.notify = on$$);
CALL fails($$SELECT set_config('tfstate.history', 'none', false)$$);
SET tfstate.who = 'user';
SET tfstate.operation = 'plan';
SET tfstate.info = '{}';
SET tfstate.run_id = '1';
SET tfstate.fence = 1;
SET tfstate.guard = 'off';
SET tfstate.mode = 'durable';
SET tfstate.wait = '1s';
RESET ROLE;

-- Before the library is loaded anything can be set.  A valid value is used ...
\c -
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET tfstate.who = 'early bird';
SET tfstate.history = 'none';
SET tfstate.max_session_locks = 2;
SELECT id FROM tfstate_lock('s', '{"ID": "1"}');
SELECT who FROM tfstate_holders;
SELECT tfstate_unlock('s', '1')->>'Who' AS released;
SHOW tfstate.history;
CALL fails($$SELECT tfstate_lock('s/' || n) FROM generate_series(1, 3) n$$);
-- ... and an invalid one, for which there is only a warning, is an error at the lock until a valid one
-- is set.
\c -
SET client_min_messages = error;
SET tfstate.mode = 'shared';
SELECT tfstate_matches('load', 'the library') AS matches;
SHOW tfstate.mode;
CALL fails($$SELECT tfstate_lock('s')$$);
CALL fails($$SELECT tfstate_try_lock('s', mode => 'session')$$);
\set VERBOSITY sqlstate
CALL tfstate_wait_lock('s');
\set VERBOSITY default
SELECT count(*) FROM tfstate_holders;
SET tfstate.mode = 'session';
SELECT id FROM tfstate_lock('s', '{"ID": "2"}');
SELECT tfstate_unlock('s', '2')->>'ID' AS released;
-- Several invalid values are reported one after the other.
\c -
SET client_min_messages = error;
SET tfstate.info = 'no json';
SET tfstate.wait = 'soon';
SET tfstate.history = 'some';
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.info = '{"Info": "job 4711"}';
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.wait = 0;
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.history = 'durable';
SELECT id FROM tfstate_lock('s', '{"ID": "3"}');
SELECT info->>'Info' AS info FROM tfstate_holders;
-- Locks taken before can be released whatever the settings are.
\c -
SET client_min_messages = error;
SET tfstate.mode = 'shared';
CALL fails($$SELECT tfstate_lock('s')$$);
SELECT tfstate_unlock('s', '3')->>'ID' AS released;
-- An unknown name is removed with a warning, and is an error at the lock, too: it may be a
-- misspelling.
\c -
SET client_min_messages = warning;
SET tfstate.nonsense = 1;
SELECT tfstate_matches('load', 'the library') AS matches;
CALL fails($$SHOW tfstate.nonsense$$);
CALL fails($$SELECT tfstate_lock('s')$$);
CALL fails($$SELECT tfstate_unlock('s')$$);
-- It is also an error at a write, which may come without a lock.
\c -
SET client_min_messages = warning;
SELECT count(*) > 0 AS attached FROM tfstate_attach(guard => 'on');
\c -
SET client_min_messages = error;
SET tfstate.guard = 'strict';
CALL fails($$UPDATE terraform_remote_state.states SET data = '{"serial": 1, "lineage": "a"}'$$);
CALL fails($$DELETE FROM terraform_remote_state.states$$);
CALL fails($$TRUNCATE terraform_remote_state.states$$);
CALL fails($$SELECT tfstate_rollback('terraform_remote_state.states/default', 1)$$);
SET tfstate.guard = 'on';
UPDATE terraform_remote_state.states SET data = '{"serial": 1, "lineage": "a"}';
\c -
SET client_min_messages = error;
SET tfstate.gaurd = 'require';
CALL fails($$UPDATE terraform_remote_state.states SET data = '{"serial": 2, "lineage": "a"}'$$);
-- A cancel while the library is loaded, when the warning checks for interrupts, does not leave it
-- half loaded.
CREATE FUNCTION cancel() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN RETURN CASE WHEN pg_cancel_backend(pg_backend_pid()) THEN NULL::record END; END';
CREATE TRIGGER before_guard BEFORE TRUNCATE ON terraform_remote_state.states
	FOR EACH STATEMENT EXECUTE FUNCTION cancel();
\c -
SET tfstate.guard = 'strict';
TRUNCATE terraform_remote_state.states;
DROP TRIGGER before_guard ON terraform_remote_state.states;
CALL fails($$UPDATE terraform_remote_state.states SET data = data$$);
SET tfstate.guard = 'on';
UPDATE terraform_remote_state.states SET data = data;
DROP SCHEMA terraform_remote_state CASCADE;
DROP SEQUENCE public.global_states_id_seq;
\c -

-- Values from the database or the connection string are treated in the same way.
SELECT current_database() AS database \gset
ALTER DATABASE :"database" SET tfstate.who = 'database';
\c -
SET client_min_messages = warning;
SELECT id FROM tfstate_lock('s', '{"ID": "4"}');
SELECT who FROM tfstate_holders;
SELECT tfstate_unlock('s', '4')->>'ID' AS released;
\set VERBOSITY sqlstate
-- The library is loaded here, so the server can refuse the value.
ALTER DATABASE :"database" SET tfstate.mode = 'shared';
\c -
ALTER DATABASE :"database" SET tfstate.mode = 'shared';
\set VERBOSITY default
\c -
SET client_min_messages = error;
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.mode = 'session';
SELECT id FROM tfstate_lock('s', '{"ID": "5"}');
SELECT tfstate_unlock('s', '5')->>'ID' AS released;
ALTER DATABASE :"database" RESET tfstate.who;
ALTER DATABASE :"database" RESET tfstate.mode;
\c -reuse-previous=on "options='-c tfstate.who=option -c tfstate.wait=soon -c client_min_messages=error'"
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.wait = 0;
SELECT id FROM tfstate_lock('s', '{"ID": "6"}');
SELECT who FROM tfstate_holders;
SELECT tfstate_unlock('s', '6')->>'ID' AS released;

-- The name of a run is a UUID; anything else is an error at the lock that says what to set.
SET tfstate.run_id = '%a';
CALL fails($$SELECT tfstate_lock('s')$$);
CALL fails($$SELECT tfstate_try_lock('s')$$);
SET tfstate.run_id = 'job 4711';
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.run_id = '00000000-0000-4000-8000-00000000000';
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.run_id = '00000000-0000-4000-8000-0000000000010';
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.run_id = ' 00000000-0000-4000-8000-000000000001';
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.run_id = '{00000000-0000-4000-8000-000000000001}';
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.run_id = '00000000000040008000000000000001';
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.run_id = '00000000-0000-4000-8000-00000000000g';
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.run_id = '0000000-00000-4000-8000-000000000001';
CALL fails($$SELECT tfstate_lock('s')$$);
SET tfstate.run_id = 'ABCDEFAB-0000-4000-8000-00000000000C';
SELECT id FROM tfstate_lock('s', '{"ID": "8"}');
SELECT masked(who) AS who, run_id FROM tfstate_holders JOIN tfstate_internal.durable_lock USING (lockid);
SELECT tfstate_unlock('s', '8')->>'ID' AS released;
RESET tfstate.run_id;
-- A lock taken without a name does not belong to a run with one, in the same session.
SELECT id FROM tfstate_lock('s', '{"ID": "8b"}');
SET tfstate.run_id = '00000000-0000-4000-8000-000000000001';
SET TimeZone = 'UTC';
CALL fails($$SELECT tfstate_unlock('s')$$);
RESET TimeZone;
RESET tfstate.run_id;
SELECT tfstate_unlock('s')->>'ID' AS released;
-- An application_name of the right form counts; one that only begins like it is an error.
SET application_name = 'tfstate-run:00000000-0000-4000-8000-000000000001';
SELECT id FROM tfstate_lock('s', '{"ID": "9"}');
SELECT run_id, application_name FROM tfstate_holders JOIN tfstate_internal.durable_lock USING (lockid, application_name);
SELECT tfstate_unlock('s', '9')->>'ID' AS released;
SET application_name = 'tfstate-run:00000000-0000-4000-8000-000000000001 - 10.1.2.3:5432';
CALL fails($$SELECT tfstate_lock('s')$$);
SET application_name = 'tfstate-run:';
CALL fails($$SELECT tfstate_lock('s')$$);
SET application_name = 'tfstate-run:job 4711';
CALL fails($$SELECT tfstate_lock('s')$$);
SET application_name = 'tfstate-run';
SELECT id FROM tfstate_lock('s', '{"ID": "10"}');
SELECT run_id, application_name FROM tfstate_holders JOIN tfstate_internal.durable_lock USING (lockid, application_name);
SELECT tfstate_unlock('s', '10')->>'ID' AS released;
RESET application_name;
-- This concerns no other setting.
SET tfstate.who = '%a';
SELECT id FROM tfstate_lock('s', '{"ID": "11"}');
SELECT who FROM tfstate_holders;
SELECT tfstate_unlock('s', '11')->>'ID' AS released;
RESET tfstate.who;

\c -reuse-previous=on "options=''"

-- A role that may not change a setting cannot do so before the library is loaded, either.
SET ROLE regress_tfstate_user;
SET tfstate.history = 'none';
SET client_min_messages = warning;
SELECT id FROM tfstate_lock('s', '{"ID": "7"}');
SHOW tfstate.history;
RESET ROLE;
SELECT tfstate_unlock('s', '7')->>'ID' AS released;
SELECT count(*) FROM tfstate_history WHERE id = '7';

-- A setting that was reset before the library is loaded is as one that was never set.
\c -
SET tfstate.mode = 'nonsense';
SET tfstate.nonsense = 'x';
DISCARD ALL;
SET client_min_messages = error;
SELECT id FROM tfstate_lock('s', '{"ID": "12"}');
SELECT tfstate_unlock('s', '12')->>'ID' AS released;

SELECT count(*) FROM tfstate_holders;
DROP EXTENSION tfstate CASCADE;
DROP ROLE regress_tfstate_user;
DROP PROCEDURE fails;
DROP FUNCTION masked;
DROP FUNCTION cancel;
