# A run loses its connection during an apply, and with it a session lock.  Terraform connects
# again and writes its state, whatever others have done meanwhile.  Without tfstate that
# overwrites their states silently; the guard refuses it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('lost_lock');
my $uuid = qr/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

attach($node, 'prod');
plain_table($node, 'plain', 'terraform');

sub project
{
	my ($schema, $who, %params) = @_;
	return Terraform->new($node, schema => $schema, who => $who, %params);
}

sub stock
{
	my ($schema, $who) = @_;
	return project($schema, $who, stock => 1);
}

sub durable
{
	my ($who) = @_;
	return project(
		'prod', $who,
		options => {
			'tfstate.mode' => 'durable',
			'tfstate.run_id' => uuid()
		});
}

sub serial
{
	my ($schema) = @_;
	return (split(/\|/, state_of($node, $schema)))[0];
}

# Returns the newest version, as "serial
# application_name
# fence is that of its lock".
sub newest_version
{
	return sql(
		q(SELECT v.serial, v.application_name, v.fence = h.fence
		    FROM tfstate_versions('prod.states/default') v
		    LEFT JOIN tfstate_history h ON h.id = v.lock_id
		   ORDER BY v.number DESC LIMIT 1));
}

# The refusal of a run that writes without its lock, after another run has written
my $compare = qr/; before pushing errored\.tfstate, compare it with the output of "terraform state pull"/;

sub not_held
{
	my ($who) = @_;
	return
	  qr/cannot change the state of workspace "prod\.states\/default": this session does not hold its lock, or has lost it, and the state was last written by $who at \S+ \S+$compare/;
}

sub forced_out
{
	my ($who) = @_;
	return
	  qr/cannot change the state of workspace "prod\.states\/default": this run has lost its lock \(it was released by force\), and the state was last written by $who at \S+ \S+$compare/;
}

# Starts an apply and terminates its session.
sub start_and_lose
{
	my ($project) = @_;
	my $run = $project->start_slow_apply;

	$project->terminate_sessions;
	return $run;
}

# Without the guard both runs write the same serial, and succeed.
foreach my $order ('holds the lock', 'has ended')
{
	my $alice = stock('plain', 'alice');
	my $bob = stock('plain', 'bob');
	my $before = serial('plain');
	my $first = start_and_lose($alice);
	my $second = $bob->start_slow_apply;

	if ($order eq 'has ended')
	{
		$bob->open_gate;
		$second->succeeds_ok("not guarded, another run $order: that run succeeds");
		is(state_of($node, 'plain'), $before + 1 . '|bob',
			"not guarded, another run $order: that run has written its state");
	}
	$alice->open_gate;
	$first->succeeds_ok("not guarded, another run $order: the first run succeeds");
	is(state_of($node, 'plain'), $before + 1 . '|alice',
		"not guarded, another run $order: the first run has overwritten the state");
	if ($order eq 'holds the lock')
	{
		$bob->open_gate;
		$second->succeeds_ok("not guarded, another run $order: that run succeeds, too");
		is(state_of($node, 'plain'), $before + 1 . '|bob',
			"not guarded, another run $order: that run has overwritten the state");
	}
}

# With the guard: a run with or without the shim loses its lock to a run with or without
# the shim, which still has the lock when the first run writes.
my %kinds = (
	'a shim' => sub { project('prod', $_[0]) },
	'stock' => sub { stock('prod', $_[0]) });

foreach my $first_kind (sort keys %kinds)
{
	foreach my $second_kind (sort keys %kinds)
	{
		my $test = "$first_kind run loses its lock to $second_kind run";
		my $alice = $kinds{$first_kind}->('alice');
		my $bob = $kinds{$second_kind}->('bob');
		my $before = serial('prod');
		my $first = start_and_lose($alice);
		my $second = $bob->start_slow_apply;
		my $state = state_of($node, 'prod');

		$alice->open_gate;
		$first->fails_ok(
			$test,
			$second_kind eq 'stock'
			? qr/Error saving state: pq: state lock "prod\.states\/default" is held without tfstate by terraform\@127\.0\.0\.1 \(pid \d+, bob\)/
			: qr/Error saving state: pq: cannot change the state of workspace "prod\.states\/default": its lock is held by bob: apply since \S+ \S+ \(ID $uuid\); ask them/
		);
		is(state_of($node, 'prod'), $state, "$test: the first run has not written");
		is($alice->errored_state, $before + 1 . '|alice',
			"$test: the state of the first run is in errored.tfstate");
		$bob->open_gate;
		$second->succeeds_ok("$test: the second run succeeds");
		is(state_of($node, 'prod'), $before + 1 . '|bob',
			"$test: the second run has written its state");
		nothing_held($node, "$test: no lock is left");
	}

	# The other run has written and ended.
	my $test = "$first_kind run loses its lock to one that has ended";
	my $alice = $kinds{$first_kind}->('alice');
	my $before = serial('prod');
	my $first = start_and_lose($alice);

	project('prod', 'bob')->apply_ok("$test: the other run succeeds");
	is(state_of($node, 'prod'), $before + 1 . '|bob', "$test: the other run has written");
	$alice->open_gate;
	$first->fails_ok(
		$test,
		qr/Error saving state: pq: @{[not_held('bob')]}/);
	is(state_of($node, 'prod'), $before + 1 . '|bob', "$test: the first run has not written");
	is($alice->errored_state, $before + 1 . '|alice',
		"$test: the state of the first run is in errored.tfstate");
	nothing_held($node, "$test: no lock is left");

	# No other run has taken the lock: the old state is still there, and the results of the run
	# are written under the lock.
	$test = "$first_kind run loses its lock to nobody";
	$alice = $kinds{$first_kind}->('alice');
	$before = serial('prod');
	$first = start_and_lose($alice);
	my $state = state_of($node, 'prod');
	$alice->open_gate;
	$first->fails_ok($test, qr/Error saving state: pq: @{[not_held('bob')]}/);
	is(state_of($node, 'prod'), $state, "$test: the run has not written");
	is($alice->errored_state, $before + 1 . '|alice',
		"$test: the state of the run is in errored.tfstate");
	$alice->run_ok("$test: state push", 'state', 'push', 'errored.tfstate');
	like(state_of($node, 'prod'), qr/\|alice$/, "$test: the pushed state is written");
	nothing_held($node, "$test: no lock is left");

	# If the lock is not required, the run writes at once.
	sql(q(SELECT tfstate_attach('prod', guard => 'on')));
	$before = serial('prod');
	$first = start_and_lose($alice);
	$alice->open_gate;
	$first->succeeds_ok("$test, not required: the run succeeds");
	is(state_of($node, 'prod'), $before + 1 . '|alice', "$test, not required: the run has written");
	is(newest_version(), $before + 1 . '|alice|',
		"$test, not required: the version shows that the run had no lock");
	sql(q(SELECT tfstate_attach('prod', guard => 'require')));
}

# Terraform raises the serial with each attempt, and makes several if it is interrupted: the
# second one would have a higher serial than the state of the other run.
foreach my $schema ('plain', 'prod')
{
	my $alice =
	  $schema eq 'plain' ? stock($schema, 'alice') : project($schema, 'alice');
	my $bob =
	  $schema eq 'plain' ? stock($schema, 'bob') : project($schema, 'bob');
	my $before = serial($schema);
	my $first = start_and_lose($alice);

	$bob->apply_ok("several attempts, $schema: the other run succeeds");
	is(state_of($node, $schema), $before + 1 . '|bob',
		"several attempts, $schema: the other run has written");
	$first->interrupt;
	if ($schema eq 'plain')
	{
		$first->finish;
		isnt(state_of($node, $schema), $before + 1 . '|bob',
			'several attempts, not guarded: the state of the other run is overwritten');
	}
	else
	{
		$first->fails_ok('several attempts, guarded',
			not_held('bob'));
		is(state_of($node, $schema), $before + 1 . '|bob',
			'several attempts, guarded: the state of the other run is still there');
		cmp_ok((split(/\|/, $alice->errored_state))[0], '>', $before + 1,
			'several attempts, guarded: the last attempt had a higher serial');
	}
	$alice->open_gate;
}

# In durable mode a run with a name still owns the lock.
{
	my $alice = durable('alice');
	my $before = serial('prod');
	my $run = start_and_lose($alice);

	project('prod', 'bob')->apply_fails('durable: another run',
		qr/Error acquiring the state lock.* is held by alice: apply/);
	$alice->open_gate;
	$run->succeeds_ok('durable: a run that has lost its connection succeeds');
	is(state_of($node, 'prod'), $before + 1 . '|alice', 'durable: the run has written');
	is(newest_version(), $before + 1 . '|alice|t',
		'durable: the version shows that the run had its lock');
	nothing_held($node, 'durable: no lock is left');
}

# Without a row for "default", a run holds the creation key until it writes.
{
	my ($alice, $bob) = map { durable($_) } 'alice', 'bob';

	attach($node, 'rowless');
	sql(q(DELETE FROM rowless.states));
	$_->{env}{PG_SCHEMA_NAME} = 'rowless' foreach $alice, $bob;
	my $run = start_and_lose($alice);
	$bob->apply_fails('durable, no row: another run',
		qr/cannot create a workspace: the lock for that is held by alice: @{[creation('rowless')]} since/);
	$alice->open_gate;
	$run->succeeds_ok('durable, no row: the run succeeds');
	is(state_of($node, 'rowless'), '1|alice', 'durable, no row: the run has written');
	is( sql(q(SELECT fence IS NOT NULL, lock_who FROM tfstate_versions('rowless.states/default') WHERE operation = 'write')),
		't|alice',
		'durable, no row: the version was written under the lock of the workspace');
	nothing_held($node, 'durable, no row: no lock is left');
}

# A durable lock that was released by force: another run has it, or has had it.
foreach my $order ('holds the lock', 'has ended')
{
	my $test = "forced, another run $order";
	my $alice = durable('alice');
	my $bob = durable('bob');
	my $before = serial('prod');
	my $first = start_and_lose($alice);

	sql(q(SELECT tfstate_force_unlock('prod.states/default')));
	my $second = $bob->start_slow_apply;
	if ($order eq 'has ended')
	{
		$bob->open_gate;
		$second->succeeds_ok("$test: the other run succeeds");
	}
	my $state = state_of($node, 'prod');
	$alice->open_gate;
	$first->fails_ok(
		"$test: the first",
		$order eq 'has ended'
		? forced_out('bob')
		: qr/cannot change the state of workspace \S+: its lock is held by bob: apply/);
	is(state_of($node, 'prod'), $state, "$test: the first run has not written");
	is($alice->errored_state, $before + 1 . '|alice',
		"$test: the state of the first run is in errored.tfstate");
	if ($order eq 'holds the lock')
	{
		$bob->open_gate;
		$second->succeeds_ok("$test: the second run succeeds");
	}
	is(newest_version(), $before + 1 . '|bob|t',
		"$test: the newest version is that of the second run");
	nothing_held($node, "$test: no lock is left");
}

# A run whose lock was released by force stays out, even if no other run has taken it.
{
	my $alice = durable('alice');
	my $before = state_of($node, 'prod');
	my $run = start_and_lose($alice);

	sql(q(SELECT tfstate_force_unlock('prod.states/default')));
	$alice->open_gate;
	$run->fails_ok('forced, nobody takes it: the run', forced_out('bob'));
	is(state_of($node, 'prod'), $before, 'forced, no other run: the run has not written');
	nothing_held($node, 'forced, no other run: no lock is left');
}

is( sql(q(SELECT count(*) FROM tfstate_verify('prod.*', true))),
	0, 'all versions are intact, and the newest is what is in the table');

done_testing();
