# Terraform through PgBouncer in transaction mode: each statement of a run can go to another
# session, and each session serves many runs.
#
# This needs a role that tfstate_attach() has made ready for durable locks, which do not
# belong to a session; a UUID for each run in PGAPPNAME, which PgBouncer passes on, while it
# refuses PGOPTIONS; and binary_parameters=yes in the connection string, so that a statement
# with parameters goes to the server in one piece.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

plan skip_all => 'pgbouncer is not installed' unless path_of('pgbouncer');

my $node = terraform_node('pooler');
my $lockid = 'prod.states/default';

sql(q(
	SELECT tfstate_attach('prod', role => 'terraform', mode => 'durable');
	ALTER ROLE terraform IN DATABASE postgres SET tfstate.operation = 'a run';
	CREATE ROLE stock LOGIN;
));
plain_table($node, 'plain', 'stock');

# A pool of two sessions for each role.
my $pooler = start_pooler(
	$node,
	roles => [ 'terraform', 'stock' ],
	pool_size => 2,
	conf => 'server_round_robin = 1');
my $port = $pooler->{port};

# The names of the runs of each person, who makes one run at a time
my %run = map { $_ => 'tfstate-run:' . uuid() } qw(alice bob);

sub project
{
	my ($who, %params) = @_;
	my $role = $params{role} || 'terraform';
	return Terraform->new(
		$node,
		schema => 'prod',
		who => $who,
		bare => 1,
		env => {
			PG_CONN_STR =>
			  "postgres://$role\@127.0.0.1:$port/postgres?sslmode=disable&binary_parameters=yes",
			PGAPPNAME => $run{$who} || $who
		},
		%params);
}

# Clients that keep the sessions in the pool of a role busy, by the session
my %keepers;

sub pool_of
{
	my ($role) = @_;

	$keepers{$role} ||= {};
	until (keys %{ $keepers{$role} } == 2)
	{
		my $keeper = session($node,
			host => '127.0.0.1',
			port => $port,
			user => $role);
		$keepers{$role}{ $keeper->query_safe('BEGIN; SELECT pg_backend_pid()') } = $keeper;
	}
	$_->query_safe('COMMIT') foreach values %{ $keepers{$role} };
	return sort { $a <=> $b } keys %{ $keepers{$role} };
}

# Leaves only the given session of the pool free.
sub use_session
{
	my ($role, $free) = @_;
	my @pids = pool_of($role);

	# a keeper gets any free session, so take both and release one
	my %has = map { $_->query_safe('BEGIN; SELECT pg_backend_pid()') => $_ }
	  values %{ $keepers{$role} };
	$has{$free}->query_safe('COMMIT');
	$keepers{$role} = \%has;
	return;
}

sub holder
{
	return sql('SELECT lockid, role, application_name, mode FROM tfstate_holders');
}

my @session = pool_of('terraform');
my @stock_session = pool_of('stock');

# Without tfstate, the second run gets the lock if it comes to the same session, and both
# write the same serial.
{
	my ($first, $second) =
	  map { project($_, schema => 'plain', role => 'stock') } 'first', 'second';

	use_session('stock', $stock_session[0]);
	my $run = $first->start_slow_apply;
	$second->apply_ok('stock: a second run gets the lock');
	is(state_of($node, 'plain'), '1|second', 'stock: the second run writes its state');
	$first->open_gate;
	$run->succeeds_ok('stock: the first run succeeds, too');
	is(state_of($node, 'plain'), '1|first', 'stock: the first run overwrites that state');

	# A run that ends in another session leaves its lock behind.
	use_session('stock', $stock_session[0]);
	$run = $first->start_slow_apply;
	use_session('stock', $stock_session[1]);
	$first->open_gate;
	$run->succeeds_ok('stock: a run that ends in another session succeeds');
	$second->run_fails('stock: its lock is there for ever',
		qr/Workspace is already locked: default/, 'plan');
	pool_of('stock');

	# For comparison, not a test: statements that go to the server in two pieces
	$second->{env}{PG_CONN_STR} =~ s/&binary_parameters=yes//;
	note('without binary_parameters: ' . ($second->run('plan'))[1]);
}

# With tfstate exactly one run has the lock, in whatever sessions.
my ($alice, $bob) = map { project($_) } 'alice', 'bob';
my $serial = 0;

foreach my $sessions ([ 0, 0 ], [ 0, 1 ], [ 1, 0 ], [ 1, 1 ])
{
	my ($taker, $releaser) = @session[@$sessions];
	my $test = "lock in session $sessions->[0], unlock in session $sessions->[1]";

	foreach my $pair ([ $alice, $bob ], [ $bob, $alice ])
	{
		my ($first, $second) = @$pair;
		my $who = $first->{who};

		use_session('terraform', $taker);
		my $run = $first->start_slow_apply;
		is(holder(), "$lockid|terraform|$run{$who}|durable", "$test, $who: the run has the lock");
		my $id = sql('SELECT id FROM tfstate_holders');
		foreach my $pid (@session)
		{
			use_session('terraform', $pid);
			$second->apply_fails("$test, $who: another run",
				qr/state lock "\Q$lockid\E" is held by terraform\@127\.0\.0\.1: a run since .* \(ID $id\)/);
			$second->run_fails(
				"$test, $who: another run with -lock=false",
				qr/cannot change the state of workspace \S+: its lock is held by terraform\@127\.0\.0\.1: a run since .* \(ID $id\)/,
				'apply', '-auto-approve', '-lock=false', '-replace=terraform_data.network');
		}
		is(holder(), "$lockid|terraform|$run{$who}|durable", "$test, $who: the run still has the lock");
		use_session('terraform', $releaser);
		$first->open_gate;
		$run->succeeds_ok("$test, $who: the run succeeds");
		is(holder(), '', "$test, $who: the run has released the lock");
		is(state_of($node, 'prod'), ++$serial . "|$who", "$test, $who: the run has written");
	}
}
is( sql(q(SELECT string_agg(concat_ws(' ', v.serial, v.application_name, v.fence = h.fence), ', ' ORDER BY v.number)
		    FROM tfstate_versions('prod.*') v LEFT JOIN tfstate_history h ON h.id = v.lock_id WHERE v.number > 1)),
	join(', ', map { "$_ " . $run{ $_ % 2 ? 'alice' : 'bob' } . ' t' } 1 .. $serial),
	'each version has the name of its run, and the fence of its lock');

# Both sessions free: runs go to any session that the pooler chooses.
pool_of('terraform');
foreach my $round (1 .. 3)
{
	my @runs = map { $_->start('apply', '-auto-approve', '-lock-timeout=120s',
			'-replace=terraform_data.network') } $alice, $bob;

	$_->succeeds_ok("at the same time, round $round: a run succeeds") foreach @runs;
}
is((split(/\|/, state_of($node, 'prod')))[0], $serial + 6,
	'at the same time: no run has overwritten the state of another');
is( sql(qq(SELECT count(*) FROM (
			SELECT created < lag(released_at) OVER (ORDER BY fence) AS early
			  FROM tfstate_internal.released_lock WHERE lockid = '$lockid') h WHERE early)),
	0, 'at the same time: no two runs had the lock');
is(holder(), '', 'at the same time: no lock is left');

# A run that is killed keeps its lock until it is released by force.
{
	my $run = $alice->start_slow_apply;

	$run->kill9;
	$bob->apply_fails('killed: another run', qr/is held by terraform\@/);
	is(holder(), "$lockid|terraform|$run{alice}|durable", 'killed: the lock is still held');
	sql("SELECT tfstate_force_unlock('$lockid', id) FROM tfstate_holders");
	$bob->apply_ok('killed: the next run succeeds after a forced unlock');
	is(holder(), '', 'killed: no lock is left');
	$alice->open_gate;
}

# An apply that creates its workspace has the lock of that workspace, wherever it ends.
foreach my $sessions ([ 0, 0 ], [ 0, 1 ])
{
	my $name = "made$sessions->[1]";
	my $test = "created in session $sessions->[0], unlocked in session $sessions->[1]";

	$_->{env}{TF_WORKSPACE} = $name foreach $alice, $bob;
	use_session('terraform', $session[ $sessions->[0] ]);
	my $run = $alice->start_slow_apply;
	is(holder(), "prod.states/$name|terraform|$run{alice}|durable", "$test: the run has the lock of the new workspace");
	$bob->apply_fails("$test: another run",
		qr/state lock "prod\.states\/$name" is held by terraform\@/);
	use_session('terraform', $session[ $sessions->[1] ]);
	$alice->open_gate;
	$run->succeeds_ok("$test: the run succeeds");
	is(holder(), '', "$test: the run has released the lock");
	$bob->apply_ok("$test: the next run succeeds");
	is(state_of($node, 'prod', $name), '3|bob', "$test: the next run has written");
	delete $_->{env}{TF_WORKSPACE} foreach $alice, $bob;
}

# The commands for workspaces, through both sessions in turn
pool_of('terraform');
foreach my $name ('stage', 'test')
{
	$alice->run_ok("workspace new $name", 'workspace', 'new', $name);
	is(holder(), '', "workspace new $name: no lock is left");
	$alice->apply_ok("apply in $name");
	$alice->run_ok("destroy in $name", 'destroy', '-auto-approve');
	$alice->run_ok('workspace select', 'workspace', 'select', 'default');
	$alice->run_ok("workspace delete $name", 'workspace', 'delete', $name);
	is(holder(), '', "workspace delete $name: no lock is left");
}
# tfstate terraform names its runs without PGOPTIONS where the connection string is for a pooler

{
	my $alice = project('alice');
	my $wrapped = sub {
		my ($string) = @_;
		local %ENV = (%ENV, %{ $alice->{env} }, PG_CONN_STR => $string, TF_VAR_round => 'wrapped');
		delete $ENV{PGOPTIONS};
		my ($out, $err);
		IPC::Run::run([ 'tfstate', 'terraform', '--who', 'alice', '--', program('path'), "-chdir=$alice->{dir}", 'apply', '-no-color', '-auto-approve' ],
			'<', \undef, '>', \$out, '2>', \$err);
		return ($? >> 8, $out . $err);
	};

	my ($status, $output) = $wrapped->($alice->{env}{PG_CONN_STR});
	is($status, 0, 'tfstate terraform through the pooler') or diag($output);
	is(sql("SELECT who, operation FROM tfstate_history('$lockid', 1)"), 'alice|OperationTypeApply', 'it has held the lock');
	($status, $output) = $wrapped->($alice->{env}{PG_CONN_STR} =~ s/&binary_parameters=yes//r);
	is($status, 69, 'a pooler that refuses PGOPTIONS');
	like($output, qr/^tfstate: hint: Behind a pooler in transaction mode, add binary_parameters=yes /m, 'the way out is told');
}

# A name that is no run's name, or that the pooler has changed, is refused with the remedy.
{
	my $nameless = project('carol');

	$nameless->apply_fails('a name that is no run\'s',
		qr/this run has no name that it could belong to; set PGAPPNAME="tfstate-run:\$\(uuidgen\)"/);
	append_to_file($pooler->{ini}, "application_name_add_host = 1\n");
	$pooler->{run}->signal('HUP');
	wait_for('the new setting', sub { $pooler->{run}->pump_nb; $pooler->{log} =~ /SIGHUP/ });
	$alice->apply_fails(
		'application_name_add_host',
		qr/application_name is "\Q$run{alice}\E - 127\.\S*", which is not "tfstate-run:" followed by a UUID and nothing else; set PGAPPNAME=\S+, and application_name_add_host = 0 in PgBouncer/
	);
	is(holder(), '', 'application_name_add_host: no lock is left');
}

is(sql(q(SELECT count(*) FROM tfstate_verify('prod.*', true))),
	0, 'all versions are intact, and the newest are what is in the table');

done_testing();
