# The cost of a wait and its end: it takes no CPU and no memory, whatever it waits for, and
# ends at the earliest of its time-outs.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;
use Time::HiRes qw(sleep time);

my $node = tfstate_node('waiting', conf => "deadlock_timeout = 100ms\n");
my $holder = session($node, name => 'holder');
my $first = session($node, name => 'first');
my $second = session($node, name => 'second');

$_->query_safe('SET client_min_messages = warning') foreach $first, $second;

# Starts a query that waits for a lockid.
sub wait_in
{
	my ($session, $lockid, $query) = @_;

	$session->send($query);
	wait_for('the waiter', sub { waiting_pids($node, $lockid) =~ /\b$session->{pid}\b/ });
	return;
}

# Returns the CPU time of a process in seconds.
sub cpu
{
	my ($pid) = @_;
	my ($nanoseconds) = split / /, slurp_file("/proc/$pid/schedstat");

	return $nanoseconds / 1e9;
}

# Returns how many bytes a process has allocated.
sub memory
{
	my ($pid) = @_;
	my $offset = -s $node->logfile;

	sql("SELECT pg_log_backend_memory_contexts($pid)");
	return wait_for(
		'the memory contexts',
		sub {
			my $log = slurp_file($node->logfile, $offset);
			return $log =~ /\[$pid\].* Grand total: \d+ bytes in \d+ blocks; \d+ free \(\d+ chunks\); (\d+) used/ ? $1 : 0;
		});
}

# What can keep a lock: a session lock, an unlock in an open transaction or in a released
# savepoint, an uncommitted renewal of an expired lease, and so on.  For each: the statements
# of the holder, and what ends the wait.
my $info = "jsonb_build_object('ID', 'h')";
my @scenarios = (
	[ 'a durable lock', ["SELECT tfstate_lock('%s', $info)"], ["SELECT tfstate_unlock('%s')"] ],
	[
		'a session lock',
		["SELECT tfstate_lock('%s', $info, 'session')"],
		["SELECT tfstate_unlock('%s')"]
	],
	[ 'an open lock', [ 'BEGIN', "SELECT tfstate_lock('%s', $info)" ], ['ROLLBACK'] ],
	[
		'an open unlock',
		[ "SELECT tfstate_lock('%s', $info)", 'BEGIN', "SELECT tfstate_unlock('%s')" ],
		['COMMIT']
	],
	[
		'an unlock in a released savepoint',
		[
			"SELECT tfstate_lock('%s', $info)", 'BEGIN', 'SAVEPOINT a', 'SAVEPOINT b',
			"SELECT tfstate_unlock('%s')", 'RELEASE a'
		],
		['COMMIT']
	],
	[
		'an open renewal of an expired lease',
		[
			"SELECT tfstate_lock('%s', $info, ttl => '1 ms')", 'SELECT pg_sleep(0.01)',
			'BEGIN', "SELECT tfstate_renew('%s', 'h', '1 h')"
		],
		[ 'ROLLBACK' ]
	],
	[
		'a renewal of an expired lease in a released savepoint',
		[
			"SELECT tfstate_lock('%s', $info, ttl => '1 ms')", 'SELECT pg_sleep(0.01)',
			'BEGIN', 'SAVEPOINT a', "SELECT tfstate_renew('%s', 'h', '1 h')", 'RELEASE a'
		],
		[ 'ROLLBACK' ]
	],
	[
		'an expired lease with a locked row',
		[
			"SELECT tfstate_lock('%s', $info, ttl => '1 ms')", 'SELECT pg_sleep(0.01)', 'BEGIN',
			"SELECT FROM tfstate_internal.durable_lock WHERE lockid = '%s' FOR SHARE"
		],
		['COMMIT']
	],
	[
		'a workspace that a client without tfstate has created',
		[ 'SELECT pg_advisory_lock(-1)', "INSERT INTO tf.states (name, data) VALUES ('new', '{\"serial\": 1, \"lineage\": \"a\"}')" ],
		['SELECT pg_advisory_unlock(-1)'],
		'tf.states/new'
	],
);
my $n = 0;

sql("SELECT tfstate_attach('tf')");

foreach my $scenario (@scenarios)
{
	my ($what, $begin, $end, $lockid) = @$scenario;

	$lockid ||= 'cpu/' . $n++;
	$holder->query_safe(sprintf($_, $lockid)) foreach @$begin;
	wait_in($first, $lockid, "SELECT tfstate_lock('$lockid', wait => '1 hour')");
	wait_in($second, $lockid, "SELECT tfstate_lock('$lockid', wait => NULL)");

	my @cpu = map { cpu($_->{pid}) } $first, $second;
	sleep 1.5;
	cmp_ok(cpu($first->{pid}) - $cpu[0], '<', 0.2, "$what: the first waiter uses no CPU");
	cmp_ok(cpu($second->{pid}) - $cpu[1], '<', 0.1, "$what: the second waiter uses no CPU");

	$holder->query_safe(sprintf($_, $lockid)) foreach @$end;
	foreach my $session ($first, $second)
	{
		$session->result;
		is($session->sqlstate, '', "$what: the waiter gets the lock");
		$session->query_safe("SELECT tfstate_unlock('$lockid')");
	}
}

# A rollback to a savepoint before the unlock ends the wait for that transaction: an unlock
# by another session then wakes the waiter at once.
$holder->query_safe("SELECT tfstate_lock('back', $info)");
$holder->query_safe($_)
  foreach 'BEGIN', 'SAVEPOINT a', 'SAVEPOINT b', "SELECT tfstate_unlock('back')", 'RELEASE b';
wait_in($first, 'back', "SELECT tfstate_lock('back', wait => '1 hour')");
is($second->query_safe("SELECT locked FROM tfstate_try_lock('back', wait => '1 s')"),
	'f', 'a wait for an open unlock can be bounded');
$holder->query_safe('ROLLBACK TO a');
wait_for('the wait on the latch',
	sub { sql("SELECT wait_event_type FROM pg_stat_activity WHERE pid = $first->{pid}") eq 'Extension' });
$second->query_safe("SELECT tfstate_unlock('back', 'h')");
$first->result;
is($first->sqlstate, '', 'a rollback to a savepoint before an unlock ends the wait for its transaction');
$holder->query_safe('COMMIT');
$first->query_safe("SELECT tfstate_unlock('back')");

# A notification wakes the waiter, which checks the lock again; that leaves nothing behind.
$holder->query_safe("SELECT tfstate_lock('memory')");
$first->query_safe('LISTEN nothing');
wait_in($first, 'memory', "SELECT tfstate_lock('memory', wait => '1 hour')");
sub notify
{
	sql("DO \$\$ BEGIN FOR i IN 1 .. $_[0] LOOP NOTIFY nothing; COMMIT; PERFORM pg_sleep(0.001); END LOOP; END \$\$");
	return;
}
notify(100);
my $memory = memory($first->{pid});
notify(1000);
cmp_ok(memory($first->{pid}) - $memory, '<', 20_000, 'repeated checks take no memory');
$holder->query_safe("SELECT tfstate_unlock('memory')");
$first->result;
$first->query_safe("SELECT tfstate_unlock('memory')");
$first->query_safe('UNLISTEN *');

# Pairs of time-outs: the earlier one ends the wait, with its own error, for the first and
# the second waiter.  It counts once for everything that is waited for.
foreach my $mode ('durable', 'session')
{
	my $lockid = "timeout/$mode";

	$holder->query_safe("SELECT tfstate_lock('$lockid', '{}', '$mode')");
	foreach my $queue ('alone', 'behind another waiter')
	{
		wait_in($second, $lockid, "SELECT tfstate_lock('$lockid', wait => '1 hour')")
		  if $queue ne 'alone';
		foreach my $pair ([ '300 ms', '60 s', qr/is held by/ ],
			[ '60 s', '300 ms', qr/canceling statement due to lock timeout/ ],
			[ undef, '300 ms', qr/canceling statement due to lock timeout/ ])
		{
			my ($wait, $timeout, $error) = @$pair;
			my $text = defined $wait ? "'$wait'" : 'NULL';

			foreach my $function ('tfstate_lock', 'tfstate_try_lock')
			{
				my $start = time;

				$first->query_safe("SET lock_timeout = '$timeout'");
				my $result = $first->query("SELECT * FROM $function('$lockid', wait => $text)");
				cmp_ok(time - $start, '<', 30,
					"$mode, $queue: $function, wait $text and lock_timeout $timeout: the earlier one ends the wait");
				if ($function eq 'tfstate_try_lock' && $error =~ /held/)
				{
					like($result, qr/^f\|/, "$mode, $queue: $function says that the lock is held");
				}
				else
				{
					like($first->{err}, qr/55P03: .*$error/, "$mode, $queue: $function fails with the error of the earlier one");
				}
				is($first->query_safe('SHOW lock_timeout') =~ s/min$/ min/r,
					$timeout eq '60 s' ? '1 min' : '300ms', 'lock_timeout is as before the wait');
			}
		}
		next if $queue eq 'alone';
		sql("SELECT pg_cancel_backend($second->{pid})");
		$second->result;
	}
	$holder->query_safe("SELECT tfstate_unlock('$lockid')");
}
$first->query_safe('RESET lock_timeout');

# First behind another waiter, then first in line: lock_timeout counts from the start.
$holder->query_safe("SELECT tfstate_lock('stages')");
wait_in($second, 'stages', "SELECT tfstate_try_lock('stages', wait => '4 s')");
$first->query_safe("SET lock_timeout = '5 s'");
my $start = time;
wait_in($first, 'stages', "SELECT tfstate_lock('stages', wait => '1 hour')");
$second->result;
$first->result;
is($first->sqlstate, '55P03', 'lock_timeout ends a wait with two stages');
cmp_ok(time - $start, '<', 8, 'lock_timeout counts from the start of the wait');
$first->query_safe('RESET lock_timeout');
$holder->query_safe("SELECT tfstate_unlock('stages')");

# A renewal that had to wait sets its lease from the moment when it is done.
$holder->query_safe("SELECT tfstate_lock('renewed', $info, ttl => '500 ms')");
$second->query_safe("BEGIN; SELECT FROM tfstate_internal.durable_lock WHERE lockid = 'renewed' FOR SHARE");
$holder->send("SELECT tfstate_renew('renewed', 'h') > clock_timestamp()");
wait_for('the renewal',
	sub { sql("SELECT wait_event_type FROM pg_stat_activity WHERE pid = $holder->{pid}") eq 'Lock' });
sleep 0.7;
$second->query_safe('COMMIT');
is($holder->result, 't', 'a renewal that had to wait does not set a lease that ends in the past');
$holder->query_safe("SELECT tfstate_unlock('renewed')");

# The client is told once whom it waits for, also if that is a client without tfstate or
# an open transaction.
sql("SELECT tfstate_attach('tf')");
$first->query_safe('SET client_min_messages = notice');
$holder->query_safe('SELECT pg_advisory_lock(id) FROM tf.states');
wait_in($first, 'tf.states/default', "SELECT tfstate_lock('tf.states/default', wait => NULL)");
$holder->query_safe('SELECT pg_advisory_unlock_all()');
$first->result;
is(() = $first->{err} =~ /NOTICE: .*waiting for state lock "tf.states\/default", held without tfstate by \S+ \(pid $holder->{pid}, holder\)\nDETAIL:  The position in the queue is 1\./g,
	1, 'a waiter is told that it waits for a client without tfstate');
$first->query_safe("SELECT tfstate_unlock('tf.states/default')");
$holder->query_safe("BEGIN; SELECT tfstate_lock('open')");
wait_in($first, 'open', "SELECT tfstate_lock('open', wait => NULL)");
$holder->query_safe('ROLLBACK');
$first->result;
like($first->{err}, qr/NOTICE: .*waiting for state lock "open", which another transaction is taking or releasing\nDETAIL:  The position in the queue is 1\./,
	'a waiter is told that it waits for an open transaction');
$first->query_safe("SELECT tfstate_unlock('open')");
$first->query_safe('SET client_min_messages = warning');

# The extension is dropped, and perhaps created again, while sessions wait: both the first
# and the second waiter get an error that says so.  One that looks in between finds none.
foreach my $again ('', '; CREATE EXTENSION tfstate')
{
	$holder->query_safe("SELECT tfstate_lock('dropped')");
	wait_in($first, 'dropped', "SELECT tfstate_lock('dropped', wait => '1 hour')");
	wait_in($second, 'dropped', "SELECT tfstate_lock('dropped', wait => NULL)");
	sql("SET client_min_messages = warning; DROP EXTENSION tfstate CASCADE$again");
	foreach my $session ($first, $second)
	{
		$session->result;
		like(
			$session->{err},
			$again
			? qr/ERROR:  (?:55000: extension "tfstate" was dropped and created again during the wait for state lock "dropped"\nHINT:  Ask for the lock again\.|42704: extension "tfstate" does not exist)/
			: qr/ERROR:  42704: extension "tfstate" does not exist/,
			'a waiter is told that the extension was dropped' . ($again && ' and created'));
	}
	sql('CREATE EXTENSION tfstate') unless $again;
}
is( $first->query_safe("SELECT fence FROM tfstate_lock('dropped')"),
	1, 'a waiter can lock in the new extension');
$first->query_safe("SELECT tfstate_unlock('dropped')");

$_->quit foreach $holder, $first, $second;
done_testing();
