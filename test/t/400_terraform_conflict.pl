# Two people run terraform apply on one workspace: the second run is refused and told who
# holds the lock, or it waits, by Terraform's -lock-timeout or by tfstate.wait.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('conflict');
my $lockid = 'terraform_remote_state.states/default';

attach($node, 'terraform_remote_state');

sub project
{
	my ($who, %params) = @_;
	return Terraform->new(
		$node,
		schema => 'terraform_remote_state',
		who => $who,
		%params);
}

my $alice = project(
	'alice@laptop',
	options => {
		'tfstate.operation' => 'quarterly\ upgrade',
		'tfstate.info' => '{"Info":"https://ci.example/job/4711"}'
	});
my $bob = project('bob@ci');

# The refusal names the holder, and not the refused run.
{
	my $run = $alice->start_slow_apply;
	my $holder = $node->safe_psql('postgres',
		"SELECT id, to_char(created, 'YYYY-MM-DD HH24:MI:SSOF') FROM tfstate_holders('$lockid')"
	);
	my ($id, $created) = split(/\|/, $holder);
	my $refusal = qq{state lock "$lockid" is held by alice\@laptop: quarterly upgrade }
	  . qq{since $created (ID $id, info "https://ci.example/job/4711")}
	  . qq{; ask them, or a role with the privilege "force" to release it};

	my $shown = quotemeta(Terraform::shown_sqlstate('55P03'));

	is( $node->safe_psql(
			'postgres',
			'SELECT lockid, who, operation, mode, info ->> \'Info\', role, client_addr FROM tfstate_holders'
		),
		"$lockid|alice\@laptop|quarterly upgrade|session|https://ci.example/job/4711|terraform|127.0.0.1",
		'an apply holds the lock of its workspace, with the info from the settings');
	foreach my $command ([ 'apply', '-auto-approve' ], ['plan'],
		[ 'taint', 'terraform_data.network' ])
	{
		$bob->run_fails(
			"$command->[0] during an apply",
			qr/\QError message: pq: $refusal\E$shown Lock Info:/,
			@$command);
	}
	$bob->run_ok('plan -lock=false during an apply', 'plan', '-lock=false');
	is( $node->safe_psql('postgres', "SELECT id FROM tfstate_holders"),
		$id, 'the refusal does not change the lock of the holder');
	is($run->is_done, 0, 'the first apply is still running');
	$alice->open_gate;
	my ($status, $output) = $run->finish;
	is($status, 0, 'the first apply succeeds') or diag($output);
	nothing_held($node, 'the first apply leaves no lock');
	is(state_of($node, 'terraform_remote_state'),
		'1|alice@laptop', 'the first apply has written its state');
	$bob->apply_ok('the second apply succeeds after that');
	nothing_held($node, 'the second apply leaves no lock');
	is(state_of($node, 'terraform_remote_state'),
		'2|bob@ci', 'the second apply has written the next serial');
}

# In a freeze, a run that holds its lock goes on; any other is told why it is refused, and until
# when.
{
	my $run = $alice->start_slow_apply;
	my $frozen = $node->safe_psql('postgres',
		"SET tfstate.who = 'dba'; SELECT lockid, who FROM tfstate_freeze('terraform_remote_state.*', 'database upgrade', now() + '1 h')");
	my $shown = quotemeta(Terraform::shown_sqlstate('55P03'));
	my $times = qr/since \S+ \S+ until \S+ \S+/;

	is($frozen, "$lockid|alice\@laptop", 'a freeze returns the run that goes on');
	foreach my $command ([ 'apply', '-auto-approve' ], ['plan'])
	{
		$bob->run_fails("$command->[0] in a freeze",
			qr/pq: state lock "\Q$lockid\E" is frozen by dba $times: database upgrade$shown Lock Info:/, @$command);
	}
	$bob->run_fails('workspace new in a freeze',
		qr/is frozen by dba $times: database upgrade/, 'workspace', 'new', 'frozen');
	$bob->run_ok('plan -lock=false in a freeze', 'plan', '-lock=false');
	$alice->open_gate;
	my ($status, $output) = $run->finish;
	is($status, 0, 'the run from before the freeze succeeds') or diag($output);
	$alice->apply_fails('its next run', qr/is frozen by dba/);
	$node->safe_psql('postgres', "SELECT tfstate_unfreeze('terraform_remote_state.*')");
	$bob->apply_ok('an apply after the freeze succeeds');
}

# Without settings the message names the holder by its session.
{
	my $nobody = project('nobody',
		options => { 'tfstate.who' => '', 'tfstate.operation' => '' });
	my $run = $nobody->start_slow_apply;

	$bob->apply_fails('apply',
		qr/is held by terraform\@127\.0\.0\.1 since \S+ \S+ \(ID [0-9a-f-]{36}\)/);
	$nobody->open_gate;
	is(($run->finish)[0], 0, 'the holder without a name succeeds');
}

# -lock-timeout tries again and again, and gets the lock in the end.
{
	my $run = $alice->start_slow_apply;
	my $offset = -s $node->logfile;
	my $second = $bob->start('apply', '-auto-approve', '-lock-timeout=120s');

	wait_for(
		'the second attempt',
		sub {
			my @refused = slurp_file($node->logfile, $offset) =~
			  /ERROR:  state lock "\Q$lockid\E" is held by alice\@laptop/g;
			return @refused >= 2;
		});
	is($second->is_done, 0, '-lock-timeout goes on after two refusals');
	$alice->open_gate;
	is(($run->finish)[0], 0, 'the first apply succeeds');
	my ($status, $output) = $second->finish;
	is($status, 0, 'the apply with -lock-timeout succeeds after it') or diag($output);
	is((split(/\|/, state_of($node, 'terraform_remote_state')))[1],
		'bob@ci', 'the apply with -lock-timeout has written the last state');
	nothing_held($node, 'the apply with -lock-timeout leaves no lock');
}

# -lock-timeout ends with an error if the lock does not become free.
{
	my $run = $alice->start_slow_apply;

	$bob->run_fails('-lock-timeout=1s', qr/is held by alice\@laptop/,
		'apply', '-auto-approve', '-lock-timeout=1s');
	$alice->open_gate;
	is(($run->finish)[0], 0, 'the holder succeeds');
}

# With tfstate.wait runs queue in the server, first come, first served, in each mode.
foreach my $mode ('session', 'durable')
{
	my %options = ('tfstate.wait' => '2min', 'tfstate.mode' => $mode);
	my $holder = project("holder\@$mode", options => {%options});
	my @waiters =
	  map { project("waiter$_\@$mode", options => {%options}) } 1 .. 3;
	my $run = $holder->start_slow_apply;
	my @runs;

	foreach my $i (0 .. $#waiters)
	{
		push @runs, $waiters[$i]->start('apply', '-auto-approve');
		wait_for("waiter $i",
			sub { scalar(split(' ', waiting_pids($node, $lockid))) == $i + 1 });
	}
	is( $node->safe_psql('postgres', 'SELECT who, waiters FROM tfstate_holders'),
		"holder\@$mode|3", "$mode: three runs wait for the lock");
	is(scalar(grep { $_->is_done } @runs), 0, "$mode: none of the waiting runs has failed");
	my ($before) = split(/\|/, state_of($node, 'terraform_remote_state'));
	$holder->open_gate;
	foreach my $each ($run, @runs)
	{
		my ($status, $output) = $each->finish;
		is($status, 0, "$mode: a run succeeds") or diag($output);
	}
	is( $node->safe_psql(
			'postgres',
			"SELECT string_agg(who, ' ' ORDER BY fence) FROM tfstate_history('$lockid') WHERE who LIKE '%\@$mode'"
		),
		join(' ', map { "$_\@$mode" } qw(holder waiter1 waiter2 waiter3)),
		"$mode: the runs had the lock in order of arrival");
	is( $node->safe_psql(
			'postgres', qq(
			SELECT count(*) FROM (
				SELECT created < lag(released_at) OVER (ORDER BY fence) AS early
				  FROM tfstate_internal.released_lock WHERE lockid = '$lockid') h WHERE early)),
		0,
		"$mode: no two runs had the lock at the same time");
	is( state_of($node, 'terraform_remote_state'),
		$before + 4 . "|waiter3\@$mode",
		"$mode: each run wrote the next serial");
	nothing_held($node, "$mode: no lock is left");
}

# tfstate.wait is a limit: the refusal comes at its end.
{
	my $impatient = project('impatient', options => { 'tfstate.wait' => '100ms' });
	my $run = $alice->start_slow_apply;

	$impatient->apply_fails('a wait that is too short',
		qr/is held by alice\@laptop/);
	$alice->open_gate;
	is(($run->finish)[0], 0, 'the holder succeeds');
	nothing_held($node, 'no lock is left in the end');
}

done_testing();
