# After a crash every acknowledged durable lock is held, no session lock is, and no fence is
# given out twice.  Crashes are kill -9 of a client, of a backend and of the postmaster, and
# an immediate shutdown; synchronous_commit is off, which delays the flush of everything else.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

# WAL is written to disk in time only by a commit that asks for it, or for a fence.
my $node = tfstate_node(
	'crash', conf => qq(
synchronous_commit = off
wal_writer_delay = 10s
wal_writer_flush_after = 0
));

# Takes a lock in each mode, each in a session of its own.
sub take_both
{
	my ($name) = @_;
	my @sessions = map { session($node) } 1, 2;
	my @fences = (
		$sessions[0]->query_safe(
			"SELECT fence FROM tfstate_lock('$name/durable')"),
		$sessions[1]->query_safe(
			"SELECT fence FROM tfstate_lock('$name/session', '{}', 'session')"));

	return (@sessions, @fences);
}

# Tests that the durable lock of take_both() is held, that its session lock is free, and
# that the fences of both keep growing.
sub check_both
{
	my ($name, $pid, $fences, $crash) = @_;
	my ($durable_fence, $session_fence) = @$fences;

	is( sql("SELECT lockid, mode, pid, fence, session_alive FROM tfstate_holders('$name/*')"),
		"$name/durable|durable|$pid|$durable_fence|f",
		"$crash: the durable lock is held, the session lock is not");
	is( sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
		0, "$crash: nothing is left in the lock manager");
	is( sql("SELECT locked, fence = $durable_fence FROM tfstate_try_lock('$name/durable')"
		),
		'f|t',
		"$crash: the durable lock is refused to others");
	is( sql("SELECT locked, fence > $session_fence AND fence > $durable_fence
			 FROM tfstate_try_lock('$name/session', '{}', 'session')"),
		't|t',
		"$crash: the session lock can be taken, with a larger fence");
	is( sql("SELECT tfstate_unlock('$name/durable', id) ->> 'Path' FROM tfstate_holders('$name/durable')"
		),
		"$name/durable",
		"$crash: the durable lock is released by its ID");
	is( sql("SELECT locked, fence > $session_fence AND fence > $durable_fence FROM tfstate_try_lock('$name/durable')"
		),
		't|t',
		"$crash: the durable lock can be taken again, with a larger fence");
	sql("SELECT tfstate_force_unlock('$name/durable')");
	return;
}

# Waits until the server has restarted by itself after kill -9 of a backend.
sub wait_for_restart
{
	my ($killed) = @_;

	wait_for(
		'the server to come back',
		sub {
			my $gone = '';

			# a psql that cannot connect may end before it reads the query
			eval {
				$node->psql('postgres',
					"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $killed)",
					stdout => \$gone);
			};
			return $gone eq 't';
		});
	return;
}

# kill -9 of the clients
{
	my ($durable, $session, @fences) = take_both('client');

	$durable->kill9;
	$session->kill9;
	wait_for('the backends to end', sub { manager_locks($node) == 0 });
	check_both('client', $durable->{pid}, \@fences, 'kill -9 of the clients');
}

# kill -9 of a client in a transaction: not even the durable lock is held.
{
	my $client = session($node);

	$client->query_safe("BEGIN; SELECT tfstate_lock('client/open')");
	$client->kill9;
	wait_for('the backend to end', sub { manager_locks($node) == 0 });
	is(sql("SELECT locked FROM tfstate_try_lock('client/open')"),
		't', 'kill -9 of a client in a transaction: its lock is not held');
	sql("SELECT tfstate_force_unlock('client/open')");
}

# kill -9 of the backend that holds the session lock
{
	my ($durable, $session, @fences) = take_both('backend');

	kill('KILL', $session->{pid});
	$_->kill9 foreach $durable, $session;
	wait_for_restart($session->{pid});
	check_both('backend', $durable->{pid}, \@fences, 'kill -9 of a backend');
}

# kill -9 of a backend that is the first waiter
{
	my ($durable, $session, @fences) = take_both('waiter');
	my $waiter = session($node);

	$waiter->send("SELECT tfstate_lock('waiter/durable', wait => NULL)");
	wait_for('the waiter',
		sub { waiting_pids($node, 'waiter/durable') eq $waiter->{pid} });
	kill('KILL', $waiter->{pid});
	$_->kill9 foreach $durable, $session, $waiter;
	wait_for_restart($waiter->{pid});
	check_both('waiter', $durable->{pid}, \@fences,
		'kill -9 of the backend of a waiter');
}

# kill -9 of the postmaster
{
	my ($durable, $session, @fences) = take_both('postmaster');

	$node->kill9;
	$_->kill9 foreach $durable, $session;
	# it cannot start while a child of the old one is alive
	wait_for(
		'the server to start',
		sub {
			$node->start(fail_ok => 1) and return 1;
			$node->stop('fast', fail_ok => 1);
			return 0;
		});
	check_both('postmaster', $durable->{pid}, \@fences,
		'kill -9 of the postmaster');
}

# An immediate shutdown directly after the acknowledgement
{
	my ($durable, $session, @fences) = take_both('immediate');

	$node->stop('immediate');
	$_->kill9 foreach $durable, $session;
	$node->start;
	check_both('immediate', $durable->{pid}, \@fences, 'immediate shutdown');
}

# Other acknowledgements about a durable lock: that it is renewed, and that another session
# of its run has adopted it.
{
	sql("SELECT tfstate_attach('tf', 'states')");
	my $lock = q(SET application_name = 'tfstate-run:00000001-0000-4000-8000-000000000000';
		SET tfstate.mode = durable;
		SELECT tfstate_pg.pg_try_advisory_lock(id) FROM tf.states WHERE name = 'default');
	my $renewed = session($node);
	my $id = $renewed->query_safe("SELECT id FROM tfstate_lock('renewed', ttl => '1 h')");

	$renewed->query_safe("SELECT tfstate_renew('renewed', '$id', '5 h')");
	$node->stop('immediate');
	$renewed->kill9;
	$node->start;
	is(sql("SELECT expires_at - now() > '4 h' FROM tfstate_holders('renewed')"),
		't', 'immediate shutdown: a renewed lease stays renewed');

	my ($first, $second) = map { session($node) } 1, 2;
	$first->query_safe($lock);
	$first->kill9;
	wait_for('the first session to end',
		sub { sql("SELECT NOT session_alive FROM tfstate_holders('tf.states/default')") eq 't' });
	$second->query_safe($lock);
	$node->stop('immediate');
	$second->kill9;
	$node->start;
	is(sql("SELECT pid FROM tfstate_holders('tf.states/default')"),
		$second->{pid}, 'immediate shutdown: an adopted lock stays adopted');
	sql("SELECT tfstate_force_unlock(l) FROM unnest('{renewed,tf.states/default}'::text[]) l");
}

# Nothing is left of a session lock after a clean restart either: no record of it is made.
{
	my ($durable, $session, @fences) = take_both('clean');
	my $id = $session->query_safe("SELECT id FROM tfstate_holders('clean/session')");

	$node->restart;
	$_->kill9 foreach $durable, $session;
	is( sql("SET tfstate.history = 'all'; SELECT locked FROM tfstate_try_lock('clean/session')"
		),
		't',
		'clean restart: the session lock can be taken');
	is(sql("SELECT count(*) FROM tfstate_history('clean/session') WHERE id = '$id'"),
		0, 'clean restart: the history knows nothing of the session lock');
	sql("SELECT tfstate_force_unlock('clean/session')");
	check_both('clean', $durable->{pid}, \@fences, 'clean restart');
}

# Fences.  They are taken from the sequence in batches, of 32 at first: crash after each number
# of session locks, from the first of a batch to the next batch, while nothing else is flushed.
# The largest fence is always remembered, even that of an uncommitted lock, because its
# holder has seen it and may have shown it to a store.
{
	my $last = 0;
	my ($skipped, $smaller) = (0, 0);

	foreach my $count (1, 2, 3, 31, 32, 33, 40)
	{
		my $client = session($node);

		my $first;
		foreach my $i (1 .. $count)
		{
			my $fence = $client->query_safe(
				"SELECT fence FROM tfstate_lock('fence/$i', '{}', 'session')");

			$smaller++ if $fence <= $last;
			$skipped = $fence - $last if $last && $fence - $last > $skipped;
			$last = $fence;
		}
		$node->stop('immediate');
		$client->kill9;
		$node->start;
	}
	is($smaller, 0,
		'fences of acknowledged session locks grow over immediate shutdowns');
	cmp_ok($skipped, '<=', 64, 'after which only the rest of a batch is skipped');

	foreach my $end ('open transaction', 'rollback')
	{
		my $grown = 1;

		foreach my $count (1, 2, 32, 33)
		{
			my $client = session($node);
			my $fence;

			$client->query_safe('BEGIN');
			foreach my $i (1 .. $count)
			{
				$fence = $client->query_safe(
					"SELECT fence FROM tfstate_lock('open/$i', '{}', 'session')");
				$grown = 0 if $fence <= $last;
				$last = $fence;
			}
			$client->query_safe('ROLLBACK') if $end eq 'rollback';
			$node->stop('immediate');
			$client->kill9;
			$node->start;
		}
		ok($grown, "fences that were returned before a crash are not given out again: $end");
	}
	ok(sql("SELECT fence FROM tfstate_lock('fence/1', '{}', 'session')") > $last,
		'the next fence is larger than all before');
}

# An immediate shutdown beside many clients: every lock that a client has seen acknowledged
# is held afterwards, with its fence, and no fence has been given out twice.
{
	my $clients = 6;
	my %fence_of;
	my ($rounds, $acknowledged, $lost, $doubled) = (10, 0, 0, 0);

	foreach my $round (1 .. $rounds)
	{
		my @clients = map { session($node) } 1 .. $clients;
		my %held;

		# each takes and keeps locks, some in session mode, until its server is gone
		foreach my $i (0 .. $#clients)
		{
			my $script = '';

			foreach my $n (1 .. 400)
			{
				my $lockid = "many/$round/$i/$n";
				my $mode = $n % 3 ? 'durable' : 'session';

				$script .=
				  "SELECT 'got', '$mode', '$lockid', fence FROM tfstate_lock('$lockid', '{}', '$mode');\n";
			}
			$clients[$i]->send($script);
		}
		wait_for('some locks',
			sub {
				$_->is_done foreach @clients;
				(grep { $_->{out} =~ /^got/m } @clients) == $clients;
			});
		$node->stop('immediate');
		foreach my $client (@clients)
		{
			$client->result;
			while ($client->{out} =~ /^got\|(\w+)\|(\S+)\|(\d+)$/mg)
			{
				$held{$2} = $3 if $1 eq 'durable';
				$doubled++ if exists $fence_of{$3};
				$fence_of{$3} = $2;
			}
			$client->kill9;
		}
		$node->start;

		my %found = map { split(/\|/, $_) } split(/\n/,
			sql("SELECT lockid, fence FROM tfstate_holders('many/$round/*')"));
		$acknowledged += keys %held;
		$lost += grep { !defined $found{$_} || $found{$_} != $held{$_} } keys %held;
	}
	ok($acknowledged >= $rounds, 'durable locks were acknowledged');
	is($lost, 0, 'no acknowledged durable lock was lost in an immediate shutdown');
	is($doubled, 0, 'no fence was given out twice');
	note("$acknowledged durable locks in $rounds shutdowns");
}

done_testing();
