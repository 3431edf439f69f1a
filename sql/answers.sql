-- What a role is told that may not do or see everything: the way out of a conflict, and why a list is empty.
SET client_min_messages = warning;
CREATE EXTENSION tfstate;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SET timezone = 'UTC';
SET tfstate.who = 'alice@laptop';
CREATE ROLE regress_tfstate_blind;
CREATE ROLE "regress_tfstate ""locker""";
CREATE ROLE regress_tfstate_oncall;
CREATE ROLE regress_tfstate_viewer;
SELECT tfstate_grant('regress_tfstate "locker"', 'a*'), tfstate_grant('regress_tfstate_oncall'),
	   tfstate_grant('regress_tfstate_oncall', 'a*', 'force'), tfstate_grant('regress_tfstate_viewer', 'x', 'view');

-- A lock of the role's own: whoever may lock can release it, and is told how.
SET ROLE "regress_tfstate ""locker""";
SELECT id FROM tfstate_lock('a''1', '{"ID":"i''d"}');
CALL fails($$SELECT tfstate_lock('a''1')$$);
SELECT tfstate_unlock('a''1', 'i''d') ->> 'ID' AS unlocked;
SELECT id FROM tfstate_lock('a2', '{"ID":"2"}', 'session');
CALL fails($$SELECT tfstate_lock('a2')$$);
RESET ROLE;
-- A lock of another role: the grant that would be needed, or the call for a role that has it.
SELECT id FROM tfstate_lock('a3', '{"ID":"3"}');
SET ROLE "regress_tfstate ""locker""";
CALL fails($$SELECT tfstate_lock('a3')$$);
SET ROLE regress_tfstate_oncall;
CALL fails($$SELECT tfstate_lock('a3')$$);
CALL fails($$SELECT tfstate_lock('a2')$$);
-- The calls can be pasted where the schema of the extension is not in search_path.
RESET ROLE;
CREATE SCHEMA regress_tfstate_aside;
GRANT USAGE ON SCHEMA regress_tfstate_aside TO PUBLIC;
ALTER FUNCTION masked SET SCHEMA regress_tfstate_aside;
ALTER PROCEDURE fails SET SCHEMA regress_tfstate_aside;
SET search_path = pg_catalog, regress_tfstate_aside;
SET ROLE regress_tfstate_oncall;
CALL fails($$SELECT public.tfstate_lock('a3')$$);
SET ROLE "regress_tfstate ""locker""";
CALL fails($$SELECT public.tfstate_lock('a3')$$);
SELECT id FROM public.tfstate_lock('a4', '{"ID":"4"}');
CALL fails($$SELECT public.tfstate_lock('a4')$$);
RESET ROLE;
RESET search_path;
ALTER FUNCTION regress_tfstate_aside.masked SET SCHEMA public;
ALTER PROCEDURE regress_tfstate_aside.fails SET SCHEMA public;
DROP SCHEMA regress_tfstate_aside;
CALL fails($$SELECT tfstate_lock(repeat('x', 1025))$$);

-- A list that is empty because there is no grant says so, once a statement; one that is empty does not.
SELECT FROM tfstate_attach('tf') \g /dev/null
SET client_min_messages = notice;
SET ROLE regress_tfstate_blind;
SELECT count(*) FROM tfstate_holders;
SELECT count(*) FROM tfstate_holders('a3');
SELECT count(*) FROM tfstate_waiters;
SELECT count(*) FROM tfstate_history;
SELECT count(*) FROM tfstate_history('*', 1);
SELECT count(*) FROM tfstate_versions;
SELECT count(*) FROM tfstate_versions('tf.states/default');
SELECT count(*) FROM tfstate_workspaces;
SELECT count(*) FROM tfstate_states();
SELECT count(*) FROM tfstate_resources();
SELECT count(*) FROM tfstate_outputs();
SELECT count(*) FROM tfstate_verify();
SELECT (SELECT count(*) FROM tfstate_holders) AS holders, (SELECT count(*) FROM tfstate_history) AS history;
-- Who may lock sees holders and waiters, and nothing else.
SET ROLE "regress_tfstate ""locker""";
SELECT lockid FROM tfstate_holders ORDER BY lockid;
SELECT count(*) FROM tfstate_waiters;
SELECT count(*) FROM tfstate_versions;
SET ROLE regress_tfstate_viewer;
SELECT count(*) FROM tfstate_holders;
SELECT count(*) FROM tfstate_history;
SELECT count(*) FROM tfstate_versions;
SELECT count(*) FROM tfstate_workspaces;
RESET ROLE;
SELECT count(*) FROM tfstate_history('none');
SET client_min_messages = warning;

DROP SCHEMA tf CASCADE;
DROP SEQUENCE global_states_id_seq;
DROP EXTENSION tfstate CASCADE;
DROP FUNCTION masked;
DROP PROCEDURE fails;
DROP ROLE regress_tfstate_blind, "regress_tfstate ""locker""", regress_tfstate_oncall, regress_tfstate_viewer;
