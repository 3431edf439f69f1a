# A hot standby shows the locks and refuses to change them.  After a failover durable locks
# are still held and fences keep growing; behind a synchronous standby this holds even if the
# caller runs with synchronous_commit off.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $primary = tfstate_node('primary', init => { allows_streaming => 1 });

# WAL is written to disk in time only by a commit that waits for its flush.
$primary->append_conf(
	'postgresql.conf', qq(
max_prepared_transactions = 10
wal_writer_delay = 10s
wal_writer_flush_after = 0
));
$primary->restart;
$primary->backup('base');

sub new_standby
{
	my ($name) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$standby->init_from_backup($primary, 'base', has_streaming => 1);
	$standby->start;
	return $standby;
}

# Starts a standby that the primary waits for.
sub new_synchronous_standby
{
	my ($name) = @_;
	my $standby = new_standby($name);

	$primary->safe_psql('postgres',
		"ALTER SYSTEM SET synchronous_standby_names = '$name'");
	$primary->reload;
	$primary->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name = '$name' AND sync_state = 'sync'"
	) or die 'the standby does not become synchronous';
	return $standby;
}

# Returns the process that receives WAL on a standby.
sub receiver_pid
{
	my ($standby) = @_;

	return $standby->safe_psql('postgres',
		'SELECT pid FROM pg_stat_wal_receiver');
}

# Returns what a session of the primary waits for.
sub wait_event
{
	my ($client) = @_;

	return $primary->safe_psql('postgres',
		"SELECT wait_event FROM pg_stat_activity WHERE pid = $client->{pid}");
}

# Waits until a session of the primary waits for a synchronous standby.
sub wait_for_standby
{
	my ($client) = @_;

	wait_for('the wait for the standby',
		sub { wait_event($client) eq 'SyncRep' });
	return;
}

my $standby = new_standby('standby');
my $holder = session($primary, name => 'holder');
my $waiter = session($primary);

$primary->safe_psql('postgres', "CREATE ROLE lock_viewer LOGIN");
$primary->safe_psql('postgres',
	"SELECT tfstate_grant('lock_viewer', 'standby/durable', 'view')");
my ($id, $fence) = split(
	/\|/,
	$holder->query_safe(
		q(SELECT id, fence FROM tfstate_lock('standby/durable', '{"Who": "alice"}'))
	));
$holder->query_safe("SELECT tfstate_lock('standby/session', '{}', 'session')");
$holder->query_safe("SELECT tfstate_lock('standby/finished')");
$holder->query_safe("SELECT tfstate_unlock('standby/finished')");
$waiter->send("SELECT tfstate_lock('standby/durable', wait => NULL)");
wait_for('the waiter',
	sub { waiting_pids($primary, 'standby/durable') eq $waiter->{pid} });
$holder->query_safe("SELECT tfstate_attach('standby', 'states', guard => 'on')");
$holder->query_safe(
	q(INSERT INTO standby.states (name, data) VALUES ('prod', '{"serial": 1, "lineage": "a"}')));
$holder->query_safe(
	q(UPDATE standby.states SET data = '{"serial": 2, "lineage": "a"}' WHERE name = 'prod'));

$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));

# The views
is( $standby->safe_psql('postgres',
		q(SELECT lockid, who, mode, session_alive IS NULL, waiters IS NULL, id, fence FROM tfstate_holders)
	),
	"standby/durable|alice|durable|t|t|$id|$fence",
	'tfstate_holders shows durable locks without the state of their sessions');
is( $standby->safe_psql('postgres',
		"SELECT lockid, id FROM tfstate_holders('standby/d*')"),
	"standby/durable|$id",
	'tfstate_holders() shows the durable lock that matches a pattern');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM tfstate_waiters'),
	0, 'tfstate_waiters is empty');
is( $standby->safe_psql('postgres',
		"SELECT count(*) FROM tfstate_waiters('standby/durable')"),
	0,
	'tfstate_waiters() is empty');
is( $standby->safe_psql('postgres',
		'SELECT lockid, mode, how FROM tfstate_history'),
	'standby/finished|durable|unlock',
	'tfstate_history shows finished holdings');
is( $standby->safe_psql('postgres',
		'SELECT role, pattern, privilege FROM tfstate_grants'),
	'lock_viewer|standby/durable|view',
	'tfstate_grants shows the grants');
is( $standby->safe_psql(
		'postgres', 'SELECT lockid FROM tfstate_holders',
		extra_params => [ '-U', 'lock_viewer' ]),
	'standby/durable',
	'the grants of a role count on the standby');

# The states
is( $standby->safe_psql(
		'postgres',
		"SELECT workspace, serial, locked_by FROM tfstate_workspaces WHERE workspace ~ 'prod'"
	),
	'standby.states/prod|2|',
	'tfstate_workspaces shows the workspaces');
is( $standby->safe_psql(
		'postgres',
		"SELECT count(*) FROM tfstate_check() WHERE object IS DISTINCT FROM 'server'"
	),
	$primary->safe_psql(
		'postgres',
		"SELECT count(*) FROM tfstate_check() WHERE object IS DISTINCT FROM 'server'"
	),
	'tfstate_check() says the same as on the primary');
is( $standby->safe_psql(
		'postgres',
		"SELECT number, tfstate_version(workspace, number) FROM tfstate_versions('*/prod') ORDER BY number"
	),
	qq(1|{"serial": 1, "lineage": "a"}\n2|{"serial": 2, "lineage": "a"}),
	'the versions are readable');
is( $standby->safe_psql('postgres',
		'SELECT count(*) FROM tfstate_verify(versions => true)'),
	0, 'the versions verify');

# Calls that write
my $reader = session($standby);
foreach my $call (
	"SELECT tfstate_lock('standby/durable')",
	"SELECT tfstate_lock('standby/new', '{}', 'session')",
	"SELECT tfstate_try_lock('standby/new')",
	"SELECT tfstate_try_lock('standby/new', '{}', 'session', '1s')",
	"CALL tfstate_wait_lock('standby/new')",
	"SELECT tfstate_unlock('standby/durable', '$id')",
	"SELECT tfstate_renew('standby/durable', '$id')",
	"SELECT tfstate_force_unlock('standby/durable')",
	"SELECT tfstate_force_unlock('standby/durable', terminate => true)",
	"SELECT tfstate_grant('lock_viewer')",
	"SELECT tfstate_revoke('lock_viewer', 'standby/durable', 'view')",
	"SELECT tfstate_rollback('standby.states/prod', 1)",
	"SELECT tfstate_undelete('standby.states/prod')",
	"SELECT tfstate_repair('standby.states/prod')",
	'SELECT tfstate_prune(keep_versions => 1)',
	"SELECT tfstate_attach('tf', 'states')",
	"SELECT tfstate_detach('tf', 'states')")
{
	$reader->query($call);
	is($reader->sqlstate, '25006', "refused: $call");
}
$reader->query("SELECT tfstate_lock('standby/durable')");
like(
	$reader->{err},
	qr/cannot execute tfstate_lock\(\) during recovery/,
	"the refusal is the read-only error of the server");
is( $standby->safe_psql('postgres',
		"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
	0,
	'no refused call leaves anything in the lock manager');
$reader->quit;

# Failover to an asynchronous standby that has received everything: fences of both modes
# from before it are not given out again.
$primary->safe_psql('postgres',
	"SELECT tfstate_try_lock('standby/fence' || i, '{}', 'session') FROM generate_series(1, 40) i"
);
my $last_fence = $primary->safe_psql('postgres',
	"SELECT fence FROM tfstate_lock('standby/last')");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
$standby->promote;
is( $standby->safe_psql('postgres',
		'SELECT lockid, id, session_alive FROM tfstate_holders ORDER BY 1'),
	"standby/durable|$id|f\nstandby/last|"
	  . $primary->safe_psql('postgres',
		"SELECT id FROM tfstate_holders('standby/last')")
	  . '|f',
	'promoted: durable locks are held, session locks are not');
is( $standby->safe_psql('postgres',
		"SELECT locked, fence = $fence FROM tfstate_try_lock('standby/durable')"),
	'f|t',
	'promoted: the durable lock is refused');
foreach my $mode ('session', 'durable')
{
	is( $standby->safe_psql(
			'postgres',
			"SELECT locked, fence > $last_fence FROM tfstate_try_lock('standby/session', '{}', '$mode')"
		),
		't|t',
		"promoted: the session lock is free in $mode mode, with a larger fence");
}
is( $standby->safe_psql('postgres',
		"SELECT tfstate_unlock('standby/durable', '$id') ->> 'Who'"),
	'alice',
	'promoted: the durable lock is released by its ID');
is( $standby->safe_psql('postgres',
		"SELECT locked, fence > $last_fence FROM tfstate_try_lock('standby/durable')"
	),
	't|t',
	'promoted: the durable lock can be taken again, with a larger fence');
$standby->stop;
$primary->safe_psql('postgres', "SELECT pg_terminate_backend($waiter->{pid})");
$_->kill9 foreach $holder, $waiter;

# Synchronous standbys.  In each round locks are acknowledged, the primary dies at once, and
# the standby takes over: it has every acknowledged durable lock, and gives out no fence from
# before, not even one of a session lock.
foreach my $level ('off', 'remote_write')
{
	my $name = "sync_$level";
	my $sync = new_synchronous_standby($name);
	my $client = session($primary);
	my (@expected, $last);

	$client->query_safe("SET synchronous_commit = '$level'");

	# While the standby receives nothing, no lock is acknowledged.
	my $receiver = receiver_pid($sync);
	foreach my $lockid ("$level/1", "$level/2")
	{
		kill('STOP', $receiver);
		$client->send("SELECT fence FROM tfstate_lock('$lockid')");
		wait_for_standby($client);
		is($client->is_done, '',
			"synchronous_commit $level: a durable lock waits for the standby");
		kill('CONT', $receiver);
		push @expected, "$lockid|" . $client->result;
	}
	# No lock is prepared.
	$client->query_safe("BEGIN; SELECT tfstate_lock('prepared/$level')");
	kill('STOP', $receiver);
	$client->send("PREPARE TRANSACTION '$level'");
	wait_for_standby($client);
	is($client->is_done, '',
		"synchronous_commit $level: a prepared lock waits for the standby");
	kill('CONT', $receiver);
	$client->result;
	# No fence is shown if the wait for it is canceled, in a transaction that has yet to
	# commit.  What nextval() has taken ends the batch.
	my $end_batch = q(SET synchronous_commit = local; SELECT nextval('tfstate_internal.fence'));
	kill('STOP', $receiver);
	$primary->safe_psql('postgres', $end_batch);
	$client->query_safe('BEGIN');
	$client->query_safe("SET LOCAL statement_timeout = '200ms'");
	$client->query("SELECT tfstate_lock('$level/canceled', '{}', 'session')");
	is($client->sqlstate, '57014',
		"synchronous_commit $level: no fence without the standby");
	$client->query_safe('ROLLBACK');
	kill('CONT', $receiver);

	# One session takes a batch, and shows it to none before it is on the standby.  If its wait is
	# canceled, another call takes the next batch, and still waits for its fence.
	my @batch = map { session($primary) } (1, 2);
	kill('STOP', $receiver);
	$primary->safe_psql('postgres', $end_batch);
	$batch[$_]->send("SELECT tfstate_lock('$level/batch/$_', '{}', 'session')")
	  foreach (0, 1);
	wait_for('the wait of both',
		sub { !grep { wait_event($_) !~ /^(SyncRep|relation)$/ } @batch });
	is(join(' ', sort(map { wait_event($_) } @batch)),
		'SyncRep relation',
		"synchronous_commit $level: a batch waits for the standby, and who wants its fences for that");
	@batch = reverse(@batch) if wait_event($batch[0]) ne 'SyncRep';
	$primary->safe_psql('postgres',
		"SELECT pg_cancel_backend($batch[0]->{pid})");
	$batch[0]->result;
	like(
		$batch[0]->{err},
		qr/57014: canceling wait for synchronous replication of a fence/,
		"synchronous_commit $level: the wait for the fence is canceled");
	wait_for_standby($batch[1]);
	is($batch[1]->is_done, '',
		"synchronous_commit $level: the other call then waits for the standby");
	kill('CONT', $receiver);
	$batch[1]->result;

	# Nor does a fence of a batch that was taken before the standby became synchronous go out
	# before the standby has it.
	my $names = $primary->safe_psql('postgres', 'SHOW synchronous_standby_names');
	$primary->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = ''");
	$primary->reload;
	kill('STOP', $receiver);
	my $late = session($primary);
	wait_for('the setting', sub { $late->query_safe('SHOW synchronous_standby_names') eq '' });
	$primary->safe_psql('postgres', $end_batch);
	$late->query_safe("SELECT tfstate_lock('$level/late/1', '{}', 'session')");
	$primary->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '$names'");
	$primary->reload;
	wait_for('the setting', sub { $late->query_safe('SHOW synchronous_standby_names') eq $names });
	$primary->safe_psql('postgres', 'CHECKPOINT');	# by the process that tells the others
	$late->send("SELECT fence FROM tfstate_lock('$level/late/2', '{}', 'session')");
	wait_for_standby($late);
	is($late->is_done, '', "synchronous_commit $level: a fence of a batch from before the standby was synchronous waits for it");
	kill('CONT', $receiver);
	$late->result;

	# A session lock writes nothing that has to survive, but its fence has to.
	kill('STOP', $receiver);
	$primary->safe_psql('postgres', $end_batch);
	$client->send(
		"SELECT max(fence) FROM generate_series(1, 40) i, tfstate_lock('$level/session/' || i, '{}', 'session')"
	);
	wait_for_standby($client);
	is($client->is_done, '',
		"synchronous_commit $level: a fence waits for the standby");
	kill('CONT', $receiver);
	$last = $client->result;
	$primary->stop('immediate');
	$client->kill9;
	$sync->promote;
	is( $sync->safe_psql('postgres',
			"SELECT lockid, fence FROM tfstate_holders('$level/*') ORDER BY 1"),
		join("\n", @expected),
		"synchronous_commit $level: the standby has the acknowledged durable locks"
	);
	is( $sync->safe_psql('postgres',
			"SELECT locked FROM tfstate_try_lock('prepared/$level')"),
		'f',
		"synchronous_commit $level: a prepared lock cannot be taken");
	$sync->safe_psql('postgres', "COMMIT PREPARED '$level'");
	is( $sync->safe_psql('postgres',
			"SELECT count(*) FROM tfstate_holders('prepared/$level')"),
		'1',
		"synchronous_commit $level: a prepared lock can be committed on the new primary");
	is( $sync->safe_psql('postgres',
			"SELECT fence > $last FROM tfstate_lock('$level/next', '{}', 'session')"
		),
		't',
		"synchronous_commit $level: no fence from before is given out again");
	$sync->stop;
	$primary->start;
	$primary->safe_psql('postgres',
		"SET synchronous_commit = local; ROLLBACK PREPARED '$level'");
}

# An unlock with a waiter is handed over before the standby has received it, and returns
# when the standby has.  Not so if others would see more of the transaction than the unlock;
# and an unlock without a waiter is not seen before either.
my $sync = new_synchronous_standby('sync_hand_over');
my $receiver = receiver_pid($sync);

$primary->safe_psql('postgres', 'CREATE TABLE other (i int)');
foreach my $case (
	{
		name => 'unlock',
		sql => q(SELECT tfstate_unlock('hand/over')),
		early => 1
	},
	{
		name => 'unlock in a transaction block',
		sql => q(BEGIN; SELECT tfstate_unlock('hand/over'); COMMIT),
		early => 1
	},
	{
		name => 'two unlocks and a savepoint',
		sql =>
		  q(BEGIN; SAVEPOINT s; SELECT tfstate_unlock('hand/over'); RELEASE s; SELECT tfstate_unlock('hand/second'); COMMIT),
		early => 1
	},
	{
		name => 'unlock without a waiter',
		sql => q(SELECT tfstate_unlock('hand/over')),
		alone => 1
	},
	{
		name => 'unlock after another write',
		sql =>
		  q(BEGIN; INSERT INTO other VALUES (1); SELECT tfstate_unlock('hand/over'); COMMIT)
	},
	{
		name => 'unlock before another write',
		sql =>
		  q(BEGIN; SELECT tfstate_unlock('hand/over'); INSERT INTO other VALUES (1); COMMIT)
	},
	{
		name => 'unlock between two writes',
		sql =>
		  q(BEGIN; INSERT INTO other VALUES (1); SELECT tfstate_unlock('hand/over'); SELECT tfstate_unlock('hand/second'); COMMIT)
	},
	{
		name => 'unlock and lock',
		sql =>
		  q(BEGIN; SELECT tfstate_unlock('hand/over'); SELECT tfstate_lock('hand/third'); COMMIT)
	},
	{
		name => 'unlock after a savepoint that wrote',
		sql =>
		  q(BEGIN; SAVEPOINT s; INSERT INTO other VALUES (1); ROLLBACK TO s; SELECT tfstate_unlock('hand/over'); COMMIT)
	})
{
	my $client = session($primary);
	my $next = session($primary);
	my $observer = session($primary);

	# the next fences must not be those that wait for the standby
	$observer->query_safe("SELECT nextval('tfstate_internal.fence')");
	$client->query_safe("SELECT tfstate_lock('hand/over')");
	$client->query_safe("SELECT tfstate_lock('hand/second')");
	if (!$case->{alone})
	{
		$next->send(
			"SELECT tfstate_lock('hand/over', '{}', 'session', NULL)");
		wait_for('the waiter',
			sub { waiting_pids($primary, 'hand/over') eq $next->{pid} });
	}
	kill('STOP', $receiver);
	$client->send($case->{sql});
	wait_for_standby($client);
	if ($case->{early})
	{
		like($next->result, qr/^\(.*,\d+\)$/,
			"$case->{name}: the lock is handed over while the unlock waits for the standby");
	}
	else
	{
		is( $observer->query_safe(
				"SELECT lockid, mode FROM tfstate_holders('hand/over')"),
			'hand/over|durable',
			"$case->{name}: other sessions do not see the unlock while it waits for the standby");
		ok($case->{alone} || !$next->is_done,
			"$case->{name}: no other session has the lock");
	}
	ok(!$client->is_done, "$case->{name}: the unlock does not return before the standby has it");
	kill('CONT', $receiver);
	$client->result;
	is($client->query_safe('SHOW synchronous_commit'),
		'on', "$case->{name}: synchronous_commit is as before");
	$next->result if !$case->{early} && !$case->{alone};
	$_->quit foreach $client, $next, $observer;
	$primary->safe_psql('postgres',
		"SELECT tfstate_force_unlock(lockid) FROM tfstate_holders('hand/*')");
}

done_testing();
