-- Leases: durable locks with a ttl.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE EXTENSION tfstate;
SET tfstate.who = 'me';

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/test/lib/regress_helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

-- How many tags this session has in the lock manager, without the session tag.
CREATE VIEW tags AS
SELECT count(*) AS tags FROM pg_locks
 WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid <> 29799;

-- A lease is a durable lock that states its end.
SELECT id, fence AS f1 FROM tfstate_lock('l', '{"ID": "1"}', ttl => '1 hour') \gset
SELECT lockid, mode, id, expires_at - created BETWEEN '59 min 59 s' AND '1 hour 1 s' AS expires FROM tfstate_holders;
SELECT locked, id FROM tfstate_try_lock('l');
CALL fails($$SELECT tfstate_lock('l', ttl => '1 hour')$$);
SELECT * FROM tags;

-- Renewal: with the same ttl, and with another one, which replaces it.
CREATE FUNCTION left_of(t timestamptz) RETURNS text LANGUAGE sql
AS $$SELECT to_char(date_round, 'HH24:MI') FROM (SELECT t - clock_timestamp() + '30 s' AS date_round) d$$;
SELECT left_of(tfstate_renew('l', '1'));
SELECT left_of(tfstate_renew('l', '1', '2 hours'));
SELECT left_of(tfstate_renew('l', '1'));
-- A shorter one is accepted, too.
SELECT left_of(tfstate_renew('l', '1', '30 min'));
SELECT left_of(expires_at), fence = :f1 AS same_fence, id FROM tfstate_holders;
SELECT tfstate_renew('l', '1') AS renewed \gset
SELECT expires_at = date_trunc('second', :'renewed'::timestamptz) AS same FROM tfstate_holders('l');
SELECT expires_at = :'renewed' AS same FROM tfstate_internal.durable_lock WHERE lockid = 'l';
-- A renewal that is rolled back has no effect.
BEGIN;
SELECT left_of(tfstate_renew('l', '1', '5 hours'));
ROLLBACK;
BEGIN;
SAVEPOINT a;
SELECT left_of(tfstate_renew('l', '1', '5 hours'));
ROLLBACK TO a;
COMMIT;
SELECT left_of(expires_at) FROM tfstate_holders;

-- What cannot be renewed
CALL fails($$SELECT tfstate_renew('l', '2')$$);
CALL fails($$SELECT tfstate_renew('nothing', '1')$$);
SELECT id FROM tfstate_lock('d', '{"ID": "3"}');
CALL fails($$SELECT tfstate_renew('d', '3')$$);
CALL fails($$SELECT tfstate_renew('d', '3', '1 hour')$$);
SELECT id FROM tfstate_lock('s', '{"ID": "4"}', 'session');
CALL fails($$SELECT tfstate_renew('s', '4')$$);
CALL fails($$SELECT tfstate_lock('t', mode => 'session', ttl => '1 hour')$$);
SELECT lockid, id, expires_at IS NULL AS no_end FROM tfstate_holders ORDER BY lockid;
SELECT tfstate_unlock('d')->>'ID' AS d, tfstate_unlock('s')->>'ID' AS s;

-- An expired lease is not held, whenever the transaction that asks has begun.
BEGIN;
SELECT id FROM tfstate_lock('short', '{"ID": "5"}', ttl => '1 ms');
SELECT count(*) FROM pg_sleep(0.01);
SELECT id FROM tfstate_holders('short');
ROLLBACK;

-- Unlock before the end
SELECT tfstate_unlock('l', '1')->>'ID' AS released;
CALL fails($$SELECT tfstate_renew('l', '1')$$);
SELECT lockid, id, how FROM tfstate_history('l');

-- Expiry: not held, not shown, and taken over by the next session that locks.
SELECT id, fence AS f2 FROM tfstate_lock('l', '{"ID": "5", "Who": "alice"}', ttl => '50 ms') \gset
SELECT pg_sleep(0.06);
SELECT count(*) FROM tfstate_holders;
SELECT count(*) FROM tfstate_holders('l');
SELECT locked, id, fence > :f2 AS grows, holder FROM tfstate_try_lock('l', '{"ID": "6", "Who": "bob"}');
SELECT who, id, how, released_at >= expires_at AS later FROM tfstate_history('l') WHERE fence = :f2;
-- The earlier holder is told who has taken over the lease, and can do nothing.
CALL fails($$SELECT tfstate_renew('l', '5')$$);
CALL fails($$SELECT tfstate_unlock('l', '5')$$);
SELECT tfstate_unlock('l', '6')->>'ID' AS released;
CALL fails($$SELECT tfstate_renew('l', '5')$$);

-- A session lock can take over, too; and a lease can follow a lease.
SELECT id FROM tfstate_lock('l', '{"ID": "7"}', ttl => '1 us');
SELECT id FROM tfstate_lock('l', '{"ID": "8"}', 'session');
SELECT lockid, mode, id FROM tfstate_holders;
SELECT tfstate_unlock('l')->>'ID' AS released;
SELECT id FROM tfstate_lock('l', '{"ID": "9"}', ttl => '1 us');
SELECT id FROM tfstate_lock('l', '{"ID": "10"}', ttl => '1 us');
SELECT id FROM tfstate_lock('l', '{"ID": "11"}', ttl => '1 hour');
SELECT lockid, mode, id FROM tfstate_holders;
SELECT mode, id, how FROM tfstate_history('l') ORDER BY fence;
-- A takeover that is rolled back has no effect.
SELECT tfstate_renew('l', '11', '1 us') IS NOT NULL AS renewed;
BEGIN;
SELECT id FROM tfstate_lock('l', '{"ID": "12"}');
SELECT lockid, mode, id FROM tfstate_holders;
ROLLBACK;
SELECT count(*) FROM tfstate_holders;
SELECT count(*) FROM tfstate_history('l') WHERE id = '11';

-- An expired lease that has not been taken over can be renewed.
SELECT left_of(tfstate_renew('l', '11', '1 hour'));
SELECT lockid, mode, id FROM tfstate_holders;
SELECT locked, id FROM tfstate_try_lock('l');

-- A waiter gets the lock at its expiry, even in the session that held it.
SELECT tfstate_renew('l', '11', '100 ms') IS NOT NULL AS renewed;
SELECT locked, id FROM tfstate_try_lock('l', '{"ID": "13"}', wait => '1 min');
SELECT tfstate_unlock('l', '13')->>'ID' AS released;

-- The longest and the shortest ttl; a month counts as 30 days.
SELECT id FROM tfstate_lock('l', '{"ID": "14"}', ttl => '365 days');
SELECT expires_at - created BETWEEN '364 days 22 hours' AND '365 days 2 hours' AS year FROM tfstate_holders;
CALL fails($$SELECT tfstate_renew('l', '14', '365 days 1 us')$$);
CALL fails($$SELECT tfstate_renew('l', '14', '0')$$);
CALL fails($$SELECT tfstate_renew('l', '14', '-1 s')$$);
CALL fails($$SELECT tfstate_renew('l', '14', '1 month -30 days')$$);
SELECT left_of(tfstate_renew('l', '14', '1 day -23 hours'));
SELECT tfstate_unlock('l', '14')->>'ID' AS released;
CALL fails($$SELECT tfstate_lock('l', ttl => '13 months')$$);
SELECT * FROM tags;
SELECT count(*) FROM tfstate_holders;

DROP EXTENSION tfstate CASCADE;
DROP FUNCTION left_of;
DROP VIEW tags;
DROP PROCEDURE fails;
DROP FUNCTION masked;
