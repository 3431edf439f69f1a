-- The views of the locks, and what is kept of finished ones.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE EXTENSION tfstate;
SET tfstate.who = 'me';

-- The most important columns are on the left.
SELECT attrelid::regclass AS view, attname AS column, format_type(atttypid, atttypmod) AS type
  FROM pg_attribute
 WHERE attrelid IN ('tfstate_holders'::regclass, 'tfstate_waiters'::regclass, 'tfstate_history'::regclass, 'tfstate_grants'::regclass)
 ORDER BY attrelid::regclass::text COLLATE "C", attnum;
SELECT count(*) FROM tfstate_holders;
SELECT count(*) FROM tfstate_waiters;
SELECT count(*) FROM tfstate_history;

-- Holders of all kinds
SELECT count(tfstate_lock('prod/' || n, jsonb_build_object('ID', n::text, 'Operation', 'apply'))) FROM generate_series(1, 3) n;
SELECT count(tfstate_lock('lease', '{"ID": "l"}', ttl => '1 hour'));
SELECT count(tfstate_lock('session', '{"ID": "s", "Who": "alice"}', 'session'));
SELECT lockid, who, operation, age < '1 min' AS age, mode, waiters, id, fence > 0 AS fence, session_alive AS alive,
	   expires_at > now() AS lease, role = current_user AS role, pid = pg_backend_pid() AS pid
  FROM tfstate_holders ORDER BY lockid;
-- Times are shown to the second.
SELECT bool_and(age = date_trunc('second', age) AND created = date_trunc('second', created)) AS seconds FROM tfstate_holders;

-- The functions take a pattern; a text without a star is the lockid itself.
SELECT lockid FROM tfstate_holders('*') ORDER BY lockid;
SELECT lockid FROM tfstate_holders('prod/*') ORDER BY lockid;
SELECT lockid FROM tfstate_holders('*s*') ORDER BY lockid;
SELECT lockid FROM tfstate_holders('prod/2');
SELECT lockid FROM tfstate_holders('session');
SELECT lockid FROM tfstate_holders('prod/') ORDER BY lockid;
SELECT lockid FROM tfstate_holders('') ORDER BY lockid;
SELECT lockid FROM tfstate_holders('prod/%') ORDER BY lockid;
-- Each holder appears once, in the view and the function, with the same columns.
SELECT (SELECT count(*) FROM tfstate_holders) AS view,
	   (SELECT count(*) FROM tfstate_holders('*')) AS twin,
	   (SELECT count(*) FROM (SELECT lockid, id, fence, mode, role, pid, info FROM tfstate_holders
							  INTERSECT SELECT lockid, id, fence, mode, role, pid, info FROM tfstate_holders('*')) b) AS both;
-- A query for one lockid does not read the whole table.
CREATE FUNCTION uses_index(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	line text;
	found boolean := false;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		found := found OR line ~ 'Index.* (durable_lock_pkey|released_lock_\w*_idx)';
	END LOOP;
	RETURN found;
END;
$$;
BEGIN;
SET LOCAL enable_seqscan = off;
SELECT uses_index($$SELECT * FROM tfstate_holders WHERE lockid = 'prod/1'$$) AS holders,
	   uses_index($$SELECT * FROM tfstate_history WHERE lockid = 'prod/1'$$) AS history,
	   uses_index($$SELECT * FROM tfstate_history('prod/1', 5)$$) AS newest_of_one;
-- Nor does one for the newest of all, if the administrator makes an index for that.
CREATE INDEX released_lock_time_idx ON tfstate_internal.released_lock (released_at);
SET LOCAL enable_sort = off;
SELECT uses_index($$SELECT * FROM tfstate_history LIMIT 5$$) AS newest,
	   uses_index($$SELECT * FROM tfstate_history('*', 5)$$) AS newest_of_all,
	   uses_index($$SELECT * FROM tfstate_history('prod/*', 5)$$) AS newest_of_some;
ROLLBACK;
DROP FUNCTION uses_index;
-- Uncommitted locks are seen by their own transaction only.
BEGIN;
SELECT tfstate_unlock('prod/1')->>'ID' AS released;
SELECT id FROM tfstate_lock('prod/4', '{"ID": "4"}');
SELECT lockid, waiters FROM tfstate_holders('prod/*') ORDER BY lockid;
SELECT count(*) FROM tfstate_history;
ROLLBACK;
SELECT lockid FROM tfstate_holders('prod/*') ORDER BY lockid;
SELECT count(*) FROM tfstate_history;
-- Reading the views takes no lock: there is only the tag of the session lock.
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid <> 29799;

-- History: durable locks by default, in full.
SELECT fence AS f2 FROM tfstate_holders('prod/2') \gset
SELECT tfstate_unlock('prod/1')->>'ID' AS released;
SELECT tfstate_force_unlock('prod/2', '2', 'stuck')->>'ID' AS released;
SELECT tfstate_unlock('session')->>'ID' AS released;
SELECT lockid, who, operation, created <= released_at AS ended, how, released_by = 'me (role ' || current_user || ')' AS by,
	   reason, mode, id, expires_at, role = current_user AS role, pid = pg_backend_pid() AS pid, info->>'ID' AS info
  FROM tfstate_history ORDER BY fence;
SELECT fence = :f2 AS fence FROM tfstate_history('prod/2');
SELECT lockid FROM tfstate_history('prod/*') ORDER BY lockid;
SELECT lockid FROM tfstate_history('session');
-- Times are in whole seconds.
SELECT bool_and(t = date_trunc('second', t)) AS whole
  FROM (SELECT created FROM tfstate_holders UNION ALL SELECT expires_at FROM tfstate_holders UNION ALL
		SELECT created FROM tfstate_history UNION ALL SELECT released_at FROM tfstate_history) h(t);
-- The newest come first, as many as asked for.
SELECT lockid, id FROM tfstate_history LIMIT 1;
SELECT lockid, id FROM tfstate_history('*');
SELECT lockid, id FROM tfstate_history('prod/*', 1);
SELECT lockid, id FROM tfstate_history('prod/1', 1);
SELECT count(*) FROM tfstate_history('*', 0);
SELECT count(*) FROM tfstate_history(NULL);
-- All, and none
SET tfstate.history = 'all';
SELECT count(tfstate_unlock('session')) FROM tfstate_lock('session', '{"ID": "s2"}', 'session');
SET tfstate.history = 'none';
SELECT count(tfstate_unlock('session')) FROM tfstate_lock('session', '{"ID": "s3"}', 'session');
SELECT tfstate_unlock('prod/3')->>'ID' AS released;
SET tfstate.history = 'durable';
SELECT tfstate_unlock('lease')->>'ID' AS released;
SELECT lockid, id, mode, how, expires_at IS NULL AS no_lease FROM tfstate_history WHERE id IN ('s2', 's3', '3', 'l') ORDER BY fence;

-- The number of holdings kept for a lockid.  A session prunes at its first release and at some of
-- the later ones.
SELECT count(*) FROM (SELECT tfstate_lock('many'), tfstate_unlock('many') FROM generate_series(1, 10)) p;
SELECT count(*) FROM tfstate_history('many');
-- What was rolled back does not count.
BEGIN;
SELECT count(*) FROM (SELECT tfstate_lock('many'), tfstate_unlock('many') FROM generate_series(1, 5)) p;
ROLLBACK;
\c -
SET tfstate.history_count = 3;
SELECT fence AS newest FROM tfstate_lock('many') \gset
SELECT tfstate_unlock('many') IS NOT NULL AS released;
SELECT count(*), max(fence) = :newest AS newest FROM tfstate_history('many');
-- Other lockids keep theirs.
SELECT count(*) FROM tfstate_history('prod/*');
-- The limit is not exceeded by much in a long session, either.
SELECT count(*) FROM (SELECT tfstate_lock('many'), tfstate_unlock('many') FROM generate_series(1, 600)) p;
SELECT count(*) BETWEEN 3 AND 3 + 256 AS bounded FROM tfstate_history('many');
-- Nor after a time without one, though each pruning deletes only some.
SET tfstate.history_count = -1;
SELECT count(*) FROM (SELECT tfstate_lock('many'), tfstate_unlock('many') FROM generate_series(1, 1000)) p;
SET tfstate.history_count = 3;
SELECT count(*) FROM (SELECT tfstate_lock('many'), tfstate_unlock('many') FROM generate_series(1, 1200)) p;
SELECT count(*) BETWEEN 3 AND 3 + 256 AS bounded FROM tfstate_history('many');
-- Pruning that is rolled back has no effect.
\c -
SELECT count(*) AS before FROM tfstate_history('many') \gset
SET tfstate.history_count = 0;
BEGIN;
SELECT id FROM tfstate_lock('many', '{"ID": "x"}');
SELECT tfstate_unlock('many') IS NOT NULL AS released;
SELECT count(*) FROM tfstate_history('many');
ROLLBACK;
SELECT count(*) = :before AS kept FROM tfstate_history('many');
-- -1 keeps all.
\c -
SET tfstate.history_count = -1;
SELECT count(tfstate_unlock('many')) FROM tfstate_lock('many', '{"ID": "y"}');
SELECT count(*) = :before + 1 AS kept FROM tfstate_history('many');

-- The age of holdings that are kept, for all lockids; on few pages, which each pruning reads
VACUUM FULL tfstate_internal.released_lock;
\c -
SET tfstate.history_age = '1h';
SELECT count(tfstate_unlock('new')) FROM tfstate_lock('new', '{"ID": "y"}');
SELECT count(*) > 1 AS all_kept FROM tfstate_history;
UPDATE tfstate_internal.released_lock SET (created, released_at) = (created - interval '2h', released_at - interval '59 min') WHERE lockid = 'prod/1';
UPDATE tfstate_internal.released_lock SET (created, released_at) = (created - interval '2h', released_at - interval '61 min') WHERE lockid = 'prod/2';
\c -
SET tfstate.history_age = '1h';
SELECT count(tfstate_unlock('new')) FROM tfstate_lock('new', '{"ID": "z"}');
SELECT lockid FROM tfstate_history('prod/*') ORDER BY lockid;
\c -
SET tfstate.history_age = -1;
UPDATE tfstate_internal.released_lock SET (created, released_at) = (created - interval '10 years', released_at - interval '10 years') WHERE lockid = 'prod/1';
SELECT count(tfstate_unlock('new')) FROM tfstate_lock('new', '{"ID": "z"}');
SELECT lockid FROM tfstate_history('prod/*') ORDER BY lockid;
-- By default 90 days.
\c -
SELECT count(tfstate_unlock('new')) FROM tfstate_lock('new', '{"ID": "z"}');
SELECT lockid FROM tfstate_history('prod/*') ORDER BY lockid;
-- 0 keeps nothing older than the current release.
\c -
SET tfstate.history_age = 0;
SELECT pg_sleep(0.001);
SELECT count(tfstate_unlock('new')) FROM tfstate_lock('new', '{"ID": "last"}');
SELECT count(*) FROM tfstate_history WHERE id <> 'last';
-- On many pages it takes several prunings.
INSERT INTO tfstate_internal.released_lock (lockid, fence, id, created, session, pid, role, role_name, login_role, info, mode,
	released_at, how, released_by)
SELECT 'old', i, i, now() - interval '2h', 1, 1, 'none', 'x', 'x', '{}', 'durable', now() - interval '2h', 'unlock', 'x'
  FROM generate_series(1, 10000) i;
SET tfstate.history_age = '1h';
SELECT count(*) FROM (SELECT tfstate_lock('many'), tfstate_unlock('many') FROM generate_series(1, 300)) p;
SELECT count(*) BETWEEN 5000 AND 9999 AS some_left FROM tfstate_history('old');
SELECT count(*) FROM (SELECT tfstate_lock('many'), tfstate_unlock('many') FROM generate_series(1, 4000)) p;
SELECT count(*) FROM tfstate_history('old');

SET client_min_messages = warning;
DROP EXTENSION tfstate CASCADE;
