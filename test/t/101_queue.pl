# Waiters are served first come, first served, in both modes, and tfstate_waiters shows
# the queue.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $waiters = 30;
my $node = tfstate_node('queue');

# The waiters, in order of arrival
my @sessions = map { session($node, name => "waiter $_") } 1 .. $waiters;

# Takes a lock in one session, queues all others behind it one after the other, and releases
# it; each waiter then gets it and releases it.
sub check_order
{
	my ($mode) = @_;
	my $lockid = "queue/$mode";
	my $holder = session($node, name => 'holder');
	my @arrived;

	my $first_fence = $holder->query_safe(
		"SELECT fence FROM tfstate_lock('$lockid', '{}', '$mode')");
	foreach my $session (@sessions)
	{
		$session->send(
			"SELECT fence FROM tfstate_lock('$lockid', '{}', '$mode', NULL)");
		push @arrived, $session->{pid};
		wait_for("waiter " . @arrived,
			sub { waiting_pids($node, $lockid) eq join(' ', @arrived) });
	}
	is( waiting_pids($node, $lockid),
		join(' ', @arrived),
		"$mode: tfstate_waiters shows the order of arrival");
	is( $node->safe_psql(
			'postgres',
			qq(SELECT string_agg(position::text, ' ' ORDER BY since, position),
					  bool_and(lockid = '$lockid' AND role = current_user AND
							   application_name = 'waiter ' || position AND
							   client_addr IS NULL AND
							   since BETWEEN now() - interval '1 hour' AND now())
				 FROM tfstate_waiters)),
		join(' ', 1 .. $waiters) . '|t',
		"$mode: tfstate_waiters has position, role, application_name and since"
	);
	is( $node->safe_psql(
			'postgres',
			"SELECT pid, waiters FROM tfstate_holders WHERE lockid = '$lockid'"
		),
		"$holder->{pid}|$waiters",
		"$mode: tfstate_holders shows the number of waiters");
	is( $sessions[0]->is_done || $sessions[-1]->is_done,
		'', "$mode: no waiter is served while the lock is held");
	is( $node->psql(
			'postgres',
			"SET lock_timeout = '1s'; REINDEX TABLE tfstate_internal.durable_lock"
		),
		0,
		"$mode: a waiter keeps no table locked");

	# The lock is released, but the first waiter has not had time to take it: other sessions
	# see it free, and still cannot overtake the waiters.
	kill('STOP', $sessions[0]->{pid});
	$holder->query_safe("SELECT tfstate_unlock('$lockid')");
	is( $node->safe_psql(
			'postgres',
			"SELECT locked FROM tfstate_try_lock('$lockid', '{}', '$mode')"),
		'f',
		"$mode: a try does not overtake the waiters");
	kill('CONT', $sessions[0]->{pid});

	my ($order, $fences, $told) = ('', $first_fence, 0);
	my @left = @sessions;
	while (my $session = shift @left)
	{
		my $fence = $session->result;

		$told++
		  if $session->{err} =~
		  /^\S+ NOTICE:  00000: waiting for state lock "\Q$lockid\E", held by \S+ since .*\nDETAIL:  The position in the queue is (\d+)\.\nHINT:  CREATE INDEX CONCURRENTLY waits for this statement; .*\nLOCATION:  .*\n\z/
		  && $1 == $waiters - @left;
		$order .= "$session->{pid} ";
		$order .= 'with another, ' if grep { $_->is_done } @left;
		$order .= 'with a smaller fence, ' if $fence <= $fences;
		$fences = $fence;
		is( waiting_pids($node, $lockid),
			join(' ', map { $_->{pid} } @left),
			"$mode: the others still wait in order")
		  if @left == $waiters / 2;
		$session->query_safe("SELECT tfstate_unlock('$lockid')");
	}
	is($order, join('', map { "$_ " } @arrived),
		"$mode: $waiters waiters are served in order of arrival");
	is($told, $waiters, "$mode: each waiter was told the holder and its own position");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM tfstate_waiters'),
		0, "$mode: no waiter is left");
	$holder->quit;
	return;
}

# A waiter in another database, which is not shown here
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', "CREATE EXTENSION tfstate; SELECT tfstate_lock('elsewhere')");
my $elsewhere = session($node, dbname => 'other');
$elsewhere->send("SELECT tfstate_lock('elsewhere', wait => NULL)");
wait_for('the waiter in the other database',
	sub { $node->safe_psql('other', 'SELECT count(*) FROM tfstate_waiters') });

check_order('durable');
check_order('session');
$node->safe_psql('other', "SELECT tfstate_force_unlock('elsewhere')");
$elsewhere->quit;

# Mixed modes: the mode that a waiter asks for does not change its position.
{
	my $lockid = 'queue/mixed';
	my $holder = session($node);
	my @mixed = @sessions[ 0 .. 5 ];
	my @arrived;

	$holder->query_safe("SELECT tfstate_lock('$lockid', '{}', 'session')");
	foreach my $i (0 .. $#mixed)
	{
		my $mode = $i % 2 ? 'session' : 'durable';

		$mixed[$i]->send(
			"SELECT id FROM tfstate_lock('$lockid', '{}', '$mode', '1 hour')");
		push @arrived, $mixed[$i]->{pid};
		wait_for("waiter " . @arrived,
			sub { waiting_pids($node, $lockid) eq join(' ', @arrived) });
	}
	$holder->query_safe("SELECT tfstate_unlock('$lockid')");
	foreach my $i (0 .. $#mixed)
	{
		my $id = $mixed[$i]->result;

		is( $node->safe_psql('postgres',
				"SELECT pid, id FROM tfstate_holders('$lockid')"),
			"$mixed[$i]->{pid}|$id",
			"mixed modes: waiter " . ($i + 1) . " is served in its turn");
		is(scalar(grep { $_->is_done } @mixed[ $i + 1 .. $#mixed ]),
			0, 'mixed modes: no other waiter is served with it');
		$mixed[$i]->query_safe("SELECT tfstate_unlock('$lockid')");
	}
	$holder->quit;
}

# A waiter that leaves the queue does not delay those behind it, and they keep their order.
{
	my $lockid = 'queue/gap';
	my $holder = session($node);
	my @some = @sessions[ 0 .. 3 ];
	my @arrived;

	$holder->query_safe("SELECT tfstate_lock('$lockid')");
	foreach my $session (@some)
	{
		$session->send("SELECT id FROM tfstate_lock('$lockid', wait => NULL)");
		push @arrived, $session->{pid};
		wait_for("waiter " . @arrived,
			sub { waiting_pids($node, $lockid) eq join(' ', @arrived) });
	}
	foreach my $gone (2, 0)
	{
		$node->safe_psql('postgres',
			"SELECT pg_cancel_backend($some[$gone]->{pid})");
		$some[$gone]->result;
		is($some[$gone]->sqlstate, '57014', 'a cancelled waiter leaves the queue');
		splice(@arrived, $gone, 1);
		wait_for('the queue to close up',
			sub { waiting_pids($node, $lockid) eq join(' ', @arrived) });
	}
	$holder->query_safe("SELECT tfstate_unlock('$lockid')");
	like($some[1]->result, qr/^[0-9a-f-]{36}$/, 'the first of the remaining waiters gets the lock');
	is($some[3]->is_done, '', 'the second remaining waiter still waits');
	$some[1]->query_safe("SELECT tfstate_unlock('$lockid')");
	like($some[3]->result, qr/^[0-9a-f-]{36}$/, 'the second remaining waiter gets the lock next');
	$some[3]->query_safe("SELECT tfstate_unlock('$lockid')");
	$holder->quit;
}

$_->quit foreach @sessions;
wait_for('all tags to go', sub { manager_locks($node) == 0 });
is(manager_locks($node), 0, 'nothing is left in the lock manager');

done_testing();
