# Sessions that are reused: DISCARD ALL and SET ROLE in one session, and a pooler in
# transaction mode, which gives each transaction of a client to any free session.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;
use Time::HiRes qw(usleep);

my $node = tfstate_node('pooled', conf => <<'END');
listen_addresses = '127.0.0.1'
tfstate.history_count = -1
END

# What ends the locks of a session without ending the session: its session locks are free
# afterwards, and it does not take them for its own when it locks again; its durable locks
# stay.
foreach my $reset ('DISCARD ALL', 'SELECT pg_advisory_unlock_all()')
{
	my $session = session($node);
	my $other = session($node);

	$session->query_safe("SELECT tfstate_lock('reset/session', '{}', 'session')");
	$session->query_safe("SELECT tfstate_lock('reset/other', '{}', 'session')");
	my $id = $session->query_safe("SELECT id FROM tfstate_lock('reset/durable')");
	$session->query_safe($reset);

	is(manager_locks($node), 0, "$reset: nothing is left in the lock manager");
	is(sql('SELECT lockid, id, session_alive FROM tfstate_holders'),
		"reset/durable|$id|f", "$reset: only the durable lock is held");

	# A new lock of the session does not bring the old ones back.
	$session->query_safe("SELECT tfstate_lock('reset/new', '{}', 'session')");
	is( sql("SELECT lockid FROM tfstate_holders WHERE mode = 'session'"),
		'reset/new',
		"$reset: a new lock does not bring the old ones back");
	is( $other->query_safe(
			"SELECT locked FROM tfstate_try_lock('reset/session', '{}', 'session')"),
		't',
		"$reset: another session can take a lock that was released");
	$session->query("SELECT tfstate_unlock('reset/session')");
	is($session->sqlstate, '55000', "$reset: the session cannot release the lock of the other one");
	is( $session->query_safe(
			"SELECT locked FROM tfstate_try_lock('reset/other', '{}', 'session')"),
		't',
		"$reset: the session can take a released lock again");
	is( $session->query_safe(
			"SELECT locked FROM tfstate_try_lock('reset/durable')"),
		'f',
		"$reset: the durable lock is refused");
	$session->query("SELECT tfstate_unlock('reset/durable')");
	is($session->sqlstate, '55000',
		"$reset: the durable lock can no longer be released without its ID");
	is( $session->query_safe("SELECT tfstate_unlock('reset/durable', '$id') ->> 'ID'"),
		$id,
		"$reset: the durable lock can be released with its ID");
	$_->quit foreach $session, $other;
	wait_for('the sessions to end', sub { manager_locks($node) == 0 });
	is(sql('SELECT count(*) FROM tfstate_holders'), 0, "$reset: no lock is held in the end");
}

# The same in a transaction that takes or releases a session lock: whether the lock ends up
# held or not, a lock that is refused to other sessions is shown, and can be released.
{
	my $session = session($node);

	$session->query_safe(
		"BEGIN; SELECT tfstate_lock('reset/block', '{}', 'session'); SELECT pg_advisory_unlock_all(); COMMIT"
	);
	my $shown = sql("SELECT count(*) FROM tfstate_holders('reset/block') WHERE session_alive");
	is( sql("SELECT locked FROM tfstate_try_lock('reset/block')"),
		$shown ? 'f' : 't',
		'pg_advisory_unlock_all() in the transaction of a lock: the lock is refused if and only if it is shown'
	);
	sql("SELECT tfstate_force_unlock(lockid, terminate => true) FROM tfstate_holders('reset/block')");
	is(sql("SELECT locked FROM tfstate_try_lock('reset/block', '{}', 'session')"),
		't', 'pg_advisory_unlock_all() in the transaction of a lock: the lock can be taken after a force-unlock');
	$session->quit;

	$session = session($node);
	$session->query_safe("SELECT tfstate_lock('reset/unlock', '{}', 'session')");
	$session->query_safe(
		"BEGIN; SELECT tfstate_unlock('reset/unlock'); SELECT pg_advisory_unlock_all(); COMMIT");
	is($session->{err}, '',
		'pg_advisory_unlock_all() in the transaction of an unlock: no warning');
	$session->quit;
	wait_for('the sessions to end', sub { manager_locks($node) == 0 });
}

# The limit of locks per session does not count locks that DISCARD ALL released.
{
	my $session = session($node);
	my $granted = 0;

	foreach my $round (1 .. 3)
	{
		$session->query_safe('SET tfstate.max_session_locks = 2');
		foreach my $i (1, 2)
		{
			$granted++
			  if $session->query(
				"SELECT locked FROM tfstate_try_lock('limit/$i', '{}', 'session')") eq 't';
		}
		$session->query("SELECT tfstate_lock('limit/3', '{}', 'session')");
		is($session->sqlstate, '53400', 'the limit of locks per session holds');
		$session->query_safe('DISCARD ALL');
	}
	is($granted, 6, 'the limit counts from 0 after DISCARD ALL');
	$session->quit;
}

# The current role counts.
{
	my $session = session($node);

	sql('CREATE ROLE pool_a');
	sql('CREATE ROLE pool_b');
	sql("SELECT tfstate_grant('pool_a', 'a/*'), tfstate_grant('pool_b', 'b/*'), tfstate_grant('pool_b', 'b/*', 'view')"
	);
	$session->query_safe('SET ROLE pool_a');
	$session->query_safe("SELECT tfstate_lock('a/1', '{}', 'session')");
	$session->query("SELECT tfstate_lock('b/1')");
	is($session->sqlstate, '42501', 'SET ROLE: only what that role may');
	$session->query_safe('SET ROLE pool_b');
	$session->query_safe("SELECT tfstate_lock('b/1')");
	$session->query("SELECT tfstate_unlock('a/1')");
	is($session->sqlstate, '42501', 'after the next SET ROLE, the new role cannot release the lock of the old one');
	is($session->query_safe('SELECT lockid FROM tfstate_holders'),
		'b/1', 'the new role sees only the locks that it may view');
	$session->query_safe('RESET ROLE');
	is( $session->query_safe(
			'SELECT lockid, role FROM tfstate_holders ORDER BY 1'),
		"a/1|pool_a\nb/1|pool_b",
		'each lock has the role that took it');
	$session->query_safe("SELECT tfstate_unlock('a/1'), tfstate_unlock('b/1')");
	$session->quit;
}

# The pooler
my $pool_size = 3;

SKIP:
{
	skip 'pgbouncer is not installed', 1 unless path_of('pgbouncer');

	my $user = sql('SELECT current_user');
	my $port = start_pooler($node, roles => [$user], pool_size => $pool_size)->{port};
	my %pool = (host => '127.0.0.1', port => $port, user => $user);
	my @clients = map { session($node, %pool) } 1 .. 4;

	# Clients 0 and 1 keep one session of the pool busy each, so that client 2 takes its lock
	# through the third one.  Then client 3 keeps that one busy, and client 2 unlocks through
	# another.
	my ($taker, $releaser);
	$_->query_safe('BEGIN') foreach @clients[ 0, 1 ];
	my $id = $clients[2]->query_safe("SELECT id FROM tfstate_lock('pool/a')");
	$taker = sql("SELECT pid FROM tfstate_holders('pool/a')");
	is($clients[3]->query_safe('BEGIN; SELECT pg_backend_pid()'),
		$taker, 'the pooler gives the session of a lock to another client');

	# That client is in the session that took the lock, but the lock is not its own.
	$clients[3]->query("SELECT tfstate_lock('pool/a')");
	is($clients[3]->sqlstate, '55P03', 'a client in the same session is refused the lock');
	$clients[3]->query_safe('ROLLBACK; BEGIN');
	$clients[3]->query("SELECT tfstate_unlock('pool/a', 'another')");
	is($clients[3]->sqlstate, '55000',
		'a client in the same session cannot release the lock with another ID');
	$clients[3]->query_safe('ROLLBACK; BEGIN');
	is($clients[3]->query_safe("SELECT pg_backend_pid()"),
		$taker, 'that client is still in the same session');
	$clients[0]->query_safe('COMMIT');
	$releaser = $clients[2]->query_safe('SELECT pg_backend_pid()');
	isnt($releaser, $taker, 'the client that took the lock is now in another session');
	is($clients[2]->query_safe("SELECT tfstate_unlock('pool/a', '$id') ->> 'ID'"),
		$id, 'the client that took the lock releases it there, with its ID');
	$_->query_safe('ROLLBACK') foreach @clients[ 1, 3 ];

	# Clients lock the same lockid one after the other: a late unlock with the ID of an earlier
	# holding releases nothing.
	my $old = $clients[0]->query_safe("SELECT id FROM tfstate_lock('pool/b')");
	$clients[0]->query_safe("SELECT tfstate_unlock('pool/b', '$old')");
	my $new = $clients[1]->query_safe("SELECT id FROM tfstate_lock('pool/b')");
	$clients[0]->query("SELECT tfstate_unlock('pool/b', '$old')");
	is($clients[0]->sqlstate, '55000', 'a late unlock is refused');
	like($clients[0]->{err}, qr/ID $new/, 'a late unlock is told the ID of the holder');
	is(sql("SELECT id FROM tfstate_holders('pool/b')"),
		$new, 'the lock is still held');
	$clients[1]->query_safe("SELECT tfstate_unlock('pool/b', '$new')");

	# A bounded wait for a lock that may have been taken in the same session
	$id = $clients[0]->query_safe("SELECT id FROM tfstate_lock('pool/c')");
	$clients[1]->send("SELECT id FROM tfstate_lock('pool/c', wait => '1 hour')");
	wait_for('the waiter', sub { waiting_pids($node, 'pool/c') ne '' });
	$clients[0]->query_safe("SELECT tfstate_unlock('pool/c', '$id')");
	like($clients[1]->result, qr/^[0-9a-f-]{36}$/,
		'a waiter in the pool gets the lock');
	$clients[2]->query_safe("SELECT tfstate_unlock('pool/c', id) FROM tfstate_holders('pool/c')");
	$_->quit foreach @clients;

	# Many clients over a small pool: each client that gets the lock counts itself in and out
	# of a table, in transactions of their own.
	my $script = PostgreSQL::Test::Utils::tempdir() . '/exclusion.sql';
	sql('CREATE TABLE inside (n int, most int, entered int)');
	sql('INSERT INTO inside VALUES (0, 0, 0)');
	append_to_file(
		$script, q(SELECT locked::int AS locked, coalesce(id, '') AS id FROM tfstate_try_lock('pool/many') \gset
\if :locked
UPDATE inside SET n = n + 1, most = greatest(most, n + 1), entered = entered + 1;
\sleep 1 ms
UPDATE inside SET n = n - 1;
SELECT tfstate_unlock('pool/many', ':id');
\else
\sleep 3 ms
\endif
));
	my ($stdout, $stderr);
	my $ok = IPC::Run::run(
		[
			'pgbench', '-n', '-M', 'simple', '-h', '127.0.0.1', '-p', $port, '-U',
			$user, '-c', 20, '-j', 2, '-t', 60, '-f', $script, 'postgres'
		],
		'>', \$stdout, '2>', \$stderr);
	ok($ok, '20 clients over a pool of 3 sessions') or diag($stderr);
	unlike($stderr, qr/aborted|ERROR/, 'none of the clients fails');
	is(sql('SELECT n, most, entered > 0 FROM inside'),
		'0|1|t', 'at no time was more than one client inside');
	is( sql("SELECT (SELECT entered FROM inside) - count(*), count(DISTINCT pid) <= $pool_size FROM tfstate_internal.released_lock WHERE lockid = 'pool/many'"
		),
		'0|t',
		'each holding has a row in the history');
	# the pooler connects by TCP; a session of the test may still be at its end
	is(sql('SELECT count(*) FROM pg_stat_activity WHERE client_addr IS NOT NULL'),
		$pool_size,
		'the pool had no more sessions than it was given');
	is(sql('SELECT count(*) FROM tfstate_holders'),
		0, 'nothing is held in the end');
}

done_testing();
