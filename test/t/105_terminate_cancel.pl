# Cancel, termination and time-outs of a holder or a waiter, wherever a call can wait, leave
# nothing behind: the next waiter gets the lock.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('terminate_cancel');

$node->safe_psql('postgres', "SELECT tfstate_attach('tf', 'states')");
my $workspace = 'tf.states/default';
my $key = $node->safe_psql('postgres', 'SELECT id FROM tf.states');

# What a waiter calls, and how the test interrupts it
my %call = (
	lock => "SELECT id FROM tfstate_lock('%s', '{}', '%s', NULL)",
	bounded => "SELECT id FROM tfstate_lock('%s', '{}', '%s', '1 hour')",
	try => "SELECT id FROM tfstate_try_lock('%s', '{}', '%s', '1 hour')",
	procedure => "CALL tfstate_wait_lock('%s', '{}', '%s', NULL)");

my %sqlstate = (
	pg_cancel_backend => '57014',
	pg_terminate_backend => '57P01',
	statement_timeout => '57014',
	lock_timeout => '55P03');

# Starts a call that will wait and be interrupted in one of the ways above.  With a
# time-out it may end before the test sees it wait.
sub start_to_wait
{
	my ($waiter, $how, $sql, $is_waiting) = @_;

	$waiter->query_safe("SET $how = '300ms'") unless $how =~ /^pg_/;
	$waiter->send($sql);
	wait_for('the wait to begin', $is_waiting) if $how =~ /^pg_/;
	return;
}

# Interrupts the wait.
sub interrupt
{
	my ($waiter, $how) = @_;

	$node->safe_psql('postgres', "SELECT $how($waiter->{pid})")
	  if $how =~ /^pg_/;
	$waiter->result;
	return $waiter->sqlstate;
}

# Tests that nothing of a lockid is left, and that the next session gets it.
sub check_free
{
	my ($lockid, $what) = @_;
	my $next = session($node);

	wait_for('the sessions to end', sub { manager_locks($node) == 0 });
	is( $node->safe_psql(
			'postgres',
			q(SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
					 (SELECT count(*) FROM tfstate_internal.durable_lock),
					 (SELECT count(*) FROM tfstate_holders),
					 (SELECT count(*) FROM tfstate_waiters))),
		'0|0|0|0',
		"$what: no row, tag or waiter is left");
	foreach my $mode ('durable', 'session')
	{
		$next->query(
			"SELECT locked FROM tfstate_try_lock('$lockid', '{}', '$mode')");
		is($next->{out}, 't', "$what: the next session gets the lock in $mode mode");
		$next->query("SELECT tfstate_unlock('$lockid')");
	}
	$next->quit;
	return;
}

# Returns true if a session waits for a lockid at a position in the queue.
sub waiting_at
{
	my ($waiter, $lockid, $place) = @_;
	my @pids = split(' ', waiting_pids($node, $lockid));

	return @pids >= $place && $pids[ $place - 1 ] eq $waiter->{pid};
}

sub wait_for_place
{
	my ($waiter, $lockid, $place) = @_;

	wait_for("waiter at place $place",
		sub { waiting_at($waiter, $lockid, $place) });
	return;
}

# Returns true if a session waits in the lock manager for what a condition on pg_locks says.
sub waiting_in_manager
{
	my ($waiter, $condition) = @_;

	return $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $waiter->{pid} AND $condition"
	) > 0;
}

# A holder in each mode with two waiters, of which one is interrupted.  The other one then
# gets the lock.
my $number = 0;
foreach my $mode ('durable', 'session')
{
	foreach my $place (1, 2)
	{
		foreach my $how (sort keys %sqlstate)
		{
			# The calls differ from case to case; over all cases each call is used.
			my $name = (sort keys %call)[ $number++ % 4 ];
			my $lockid = "place/$mode/$place/$how";
			my $what = "$mode lock, waiter $place, $name, $how";
			my $holder = session($node);
			my @waiter = map { session($node) } 1, 2;
			my $goer = $waiter[ $place - 1 ];
			my $stayer = $waiter[ 2 - $place ];

			$holder->query_safe("SELECT tfstate_lock('$lockid', '{}', '$mode')");
			if ($place == 2)
			{
				$stayer->send(sprintf($call{$name}, $lockid, $mode));
				wait_for_place($stayer, $lockid, 1);
			}
			start_to_wait($goer, $how, sprintf($call{$name}, $lockid, $mode),
				sub { waiting_at($goer, $lockid, $place) });
			if ($place == 1)
			{
				$stayer->send(sprintf($call{$name}, $lockid, $mode));
				wait_for_place($stayer, $lockid, 2) if $how =~ /^pg_/;
			}
			is(interrupt($goer, $how), $sqlstate{$how}, "$what: the interrupted wait fails");
			wait_for_place($stayer, $lockid, 1);
			is(waiting_pids($node, $lockid),
				$stayer->{pid}, "$what: the other waiter is alone in the queue");
			$holder->query_safe("SELECT tfstate_unlock('$lockid')");
			like($stayer->result, qr/^[0-9a-f-]{36}/,
				"$what: the other waiter gets the lock");
			$stayer->query_safe("SELECT tfstate_unlock('$lockid')");
			$_->quit foreach $holder, @waiter;
			check_free($lockid, $what) if $how =~ /^pg_/;
		}
	}
}

# The clients of the first two waiters are killed: their sessions leave the queue, and do
# not take a lock that no client could release.
foreach my $case ([ 'lock', 'durable' ], [ 'procedure', 'session' ])
{
	my ($name, $mode) = @$case;
	my $lockid = "client/$mode";
	my $what = "$mode lock, $name, the clients of two waiters are gone";
	my $holder = session($node);
	my @waiter = map { session($node) } 1 .. 3;

	$holder->query_safe("SELECT tfstate_lock('$lockid', '{}', '$mode')");
	foreach my $i (0 .. $#waiter)
	{
		$waiter[$i]->send(sprintf($call{$name}, $lockid, $mode));
		wait_for_place($waiter[$i], $lockid, $i + 1);
	}
	$_->kill9 foreach @waiter[ 0, 1 ];
	wait_for_place($waiter[2], $lockid, 1);
	is(waiting_pids($node, $lockid),
		$waiter[2]->{pid}, "$what: the sessions of killed clients leave the queue");
	$holder->query_safe("SELECT tfstate_unlock('$lockid')");
	like($waiter[2]->result, qr/^[0-9a-f-]{36}/,
		"$what: the next waiter gets the lock");
	$waiter[2]->query_safe("SELECT tfstate_unlock('$lockid')");
	$_->quit foreach $holder, $waiter[2];
	check_free($lockid, $what);
}

# A waiter behind an uncommitted lock waits in the lock manager, in both modes.  If it is
# interrupted, the transaction that has the lock is not affected.
foreach my $how ('pg_cancel_backend', 'pg_terminate_backend')
{
	my $lockid = "uncommitted/$how";
	my $holder = session($node);
	my $waiter = session($node);

	$holder->query_safe("BEGIN; SELECT tfstate_lock('$lockid')");
	$waiter->send(sprintf($call{lock}, $lockid, 'durable'));
	wait_for_place($waiter, $lockid, 1);
	is(interrupt($waiter, $how),
		$sqlstate{$how}, "waiter behind an uncommitted lock, $how: the interrupted wait fails");
	$holder->query_safe('COMMIT');
	is( $node->safe_psql('postgres', "SELECT pid FROM tfstate_holders('$lockid')"),
		$holder->{pid},
		"waiter behind an uncommitted lock, $how: the lock is held");
	$holder->query_safe("SELECT tfstate_unlock('$lockid')");
	$_->quit foreach $holder, $waiter;
	check_free($lockid, "waiter behind an uncommitted lock, $how");
}

# An unlock that waits for another transaction that has released the same lock
foreach my $how ('pg_cancel_backend', 'pg_terminate_backend', 'lock_timeout')
{
	my $lockid = "unlock/$how";
	my $first = session($node);
	my $second = session($node);
	my $id = $first->query_safe("SELECT id FROM tfstate_lock('$lockid')");

	$first->query_safe("BEGIN; SELECT tfstate_unlock('$lockid')");
	start_to_wait($second, $how, "SELECT tfstate_unlock('$lockid', '$id')",
		sub { waiting_in_manager($second, "locktype = 'transactionid'") });
	is(interrupt($second, $how),
		$sqlstate{$how}, "unlock behind an uncommitted unlock, $how: the interrupted unlock fails");
	$first->query_safe('ROLLBACK');
	is( $node->safe_psql('postgres', "SELECT id FROM tfstate_holders('$lockid')"),
		$id,
		"unlock behind an uncommitted unlock, $how: the lock is held");
	$first->query_safe("SELECT tfstate_unlock('$lockid')");
	$_->quit foreach $first, $second;
	check_free($lockid, "unlock behind an uncommitted unlock, $how");
}

# A waiter for a workspace whose id is locked by a client without tfstate: it owns the lock
# tag and waits for the built-in lock.
foreach my $how (sort keys %sqlstate)
{
	my $what = "waiter on the built-in key, $how";
	my $holder = session($node);
	my $waiter = session($node);

	$holder->query_safe("SELECT pg_advisory_lock($key)");
	start_to_wait($waiter, $how, sprintf($call{lock}, $workspace, 'session'),
		sub { waiting_in_manager($waiter, 'objsubid = 1') });
	is(interrupt($waiter, $how), $sqlstate{$how}, "$what: the interrupted wait fails");
	wait_for('the waiter to be gone',
		sub {
			$node->safe_psql('postgres',
				"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = $waiter->{pid}"
			) == 0;
		});
	like(
		$node->safe_psql('postgres',
			"SELECT locked, holder->>'Who' FROM tfstate_try_lock('$workspace')"),
		qr/^f\|.*pid $holder->{pid}/,
		"$what: the built-in lock is still the client's");
	is($holder->query_safe("SELECT pg_advisory_unlock($key)"),
		't', "$what: the client still has the built-in lock, and releases it");
	$_->quit foreach $holder, $waiter;
	check_free($workspace, $what);
}

# The holder is terminated.  In session mode the waiter gets the lock, whatever the holder
# was doing; in durable mode only a lock of an open transaction is gone.
foreach my $state ('idle', 'in a query', 'in a transaction')
{
	my $lockid = "holder/$state";
	my $holder = session($node);
	my $waiter = session($node);

	$holder->query_safe('BEGIN') if $state eq 'in a transaction';
	$holder->query_safe("SELECT tfstate_lock('$lockid', '{}', 'session')");
	$holder->send('SELECT pg_sleep(3600)') if $state eq 'in a query';
	$waiter->send(sprintf($call{lock}, $lockid, 'session'));
	wait_for_place($waiter, $lockid, 1);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($holder->{pid})");
	like($waiter->result, qr/^[0-9a-f-]{36}$/,
		"session lock, holder $state is terminated: the waiter gets the lock");
	$waiter->query_safe("SELECT tfstate_unlock('$lockid')");
	$_->quit foreach $holder, $waiter;
	check_free($lockid, "session lock, holder $state is terminated");
}
{
	my $lockid = 'holder/cancelled';
	my $holder = session($node);

	$holder->query_safe("SELECT tfstate_lock('$lockid', '{}', 'session')");
	$holder->send('SELECT pg_sleep(3600)');
	wait_for(
		'the query to run',
		sub {
			$node->safe_psql('postgres',
				"SELECT count(*) FROM pg_stat_activity WHERE pid = $holder->{pid} AND wait_event = 'PgSleep'"
			) == 1;
		});
	is(interrupt($holder, 'pg_cancel_backend'),
		'57014', 'holder of a session lock is cancelled');
	is( $node->safe_psql('postgres',
			"SELECT pid, session_alive FROM tfstate_holders('$lockid')"),
		"$holder->{pid}|t",
		'the cancelled holder still has its lock');
	$holder->query_safe("SELECT tfstate_unlock('$lockid')");
	$holder->quit;
	check_free($lockid, 'holder of a session lock is cancelled');
}
{
	my $lockid = 'holder/durable';
	my $holder = session($node);
	my $waiter = session($node);
	my $id = $holder->query_safe("SELECT id FROM tfstate_lock('$lockid')");

	$waiter->send(sprintf($call{lock}, $lockid, 'durable'));
	wait_for_place($waiter, $lockid, 1);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($holder->{pid})");
	wait_for(
		'the holder to be gone',
		sub {
			$node->safe_psql('postgres',
				"SELECT session_alive FROM tfstate_holders('$lockid')") eq 'f';
		});
	is(waiting_pids($node, $lockid),
		$waiter->{pid}, 'durable lock, holder is terminated: the lock stays held');
	$node->safe_psql('postgres', "SELECT tfstate_unlock('$lockid', '$id')");
	like($waiter->result, qr/^[0-9a-f-]{36}$/,
		'durable lock, released from another session: the waiter gets the lock');
	$waiter->query_safe("SELECT tfstate_unlock('$lockid')");

	# The same with the transaction that took the lock still open
	my $other = session($node);
	$other->query_safe("BEGIN; SELECT tfstate_lock('$lockid')");
	$waiter->send(sprintf($call{procedure}, $lockid, 'durable'));
	wait_for_place($waiter, $lockid, 1);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($other->{pid})");
	like($waiter->result, qr/^[0-9a-f-]{36}\|/,
		'durable lock in an open transaction, holder is terminated: the waiter gets the lock'
	);
	$waiter->query_safe("SELECT tfstate_unlock('$lockid')");
	$_->quit foreach $holder, $waiter, $other;
	check_free($lockid, 'durable lock, holder is terminated');
}

# A force-unlock that terminates the holder and is rolled back has still ended the holding.
# The lock cannot be taken before that transaction has ended; the session that takes it then
# records what the dead session left.
foreach my $end ('ROLLBACK', 'COMMIT')
{
	my $lockid = "forced/$end";
	my ($holder, $forcer, $waiter) = map { session($node) } 1 .. 3;

	$_->query_safe('SET tfstate.history = "all"') foreach $forcer, $waiter;
	$holder->query_safe("SELECT tfstate_lock('$lockid', '{}', 'session')");
	$forcer->query_safe('BEGIN');
	$forcer->query_safe(
		"SELECT tfstate_force_unlock('$lockid', NULL, 'a test', true)");
	is( $node->safe_psql('postgres',
			"SELECT locked FROM tfstate_try_lock('$lockid', '{}', 'session')"),
		'f',
		"force-unlock in a transaction, before $end: the lock is not free");
	$waiter->send(sprintf($call{lock}, $lockid, 'session'));
	wait_for_place($waiter, $lockid, 1);
	$forcer->query_safe($end);
	like($waiter->result, qr/^[0-9a-f-]{36}$/, "force-unlock in a transaction, after $end: the waiter gets the lock");
	$waiter->query_safe("SELECT tfstate_unlock('$lockid')");
	is( $node->safe_psql('postgres',
			"SELECT string_agg(how, ' ' ORDER BY fence) FROM tfstate_history WHERE lockid = '$lockid'"),
		$end eq 'COMMIT' ? 'force unlock' : 'reclaimed unlock',
		"force-unlock in a transaction, after $end: the history has both holdings");
	$_->quit foreach $holder, $forcer, $waiter;
	check_free($lockid, "force-unlock with $end");
}

# In a block that catches the error, or after a savepoint, the transaction goes on after a
# cancelled wait, and keeps nothing of it.
foreach my $mode ('durable', 'session')
{
	my $lockid = "savepoint/$mode";
	my $holder = session($node);
	my $waiter = session($node);
	my $third = session($node);

	$holder->query_safe("SELECT tfstate_lock('$lockid', '{}', '$mode')");
	$waiter->query_safe('BEGIN; SAVEPOINT before');
	$waiter->send(sprintf($call{bounded}, $lockid, $mode));
	wait_for_place($waiter, $lockid, 1);
	$third->send(sprintf($call{lock}, $lockid, $mode));
	wait_for_place($third, $lockid, 2);
	is(interrupt($waiter, 'pg_cancel_backend'),
		'57014', "$mode lock, waiter behind a savepoint is cancelled");
	$waiter->query_safe('ROLLBACK TO before');
	$holder->query_safe("SELECT tfstate_unlock('$lockid')");
	like($third->result, qr/^[0-9a-f-]{36}$/,
		"$mode lock, waiter behind a savepoint: another session gets the lock before the transaction ends"
	);
	$third->query_safe("SELECT tfstate_unlock('$lockid')");
	$waiter->query_safe('COMMIT');
	$_->quit foreach $holder, $waiter, $third;
	check_free($lockid, "$mode lock, waiter behind a savepoint is cancelled");
}

done_testing();
