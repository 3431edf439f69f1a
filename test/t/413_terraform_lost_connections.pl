# What happens to a run that loses its connection during an apply: each cell of the table in
# doc/lost-connections.md.
#
# The connection is lost because its session is terminated; because the server is restarted;
# because the server is down when Terraform wants to write a snapshot of its state (it does
# so every 20 seconds, and raises the serial with each attempt); or behind a pooler whose
# connections to the server are terminated.  Before the run ends, no other run comes, or
# another run holds the lock, or has written and ended; in durable mode the other run is
# refused, unless an administrator has released the lock by force.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;
use Time::HiRes qw(time sleep);

terraform_or_skip();

# An apply writes a snapshot at the first change that comes so many seconds after its first
my $persist_interval = 20;

my $node = terraform_node('lost_connections');
my $pooler_port;

my $not_held =
  qr/this session does not hold its lock, or has lost it, and the state was last written by \S+ at \S+ \S+; before pushing errored\.tfstate, compare it with the output of "terraform state pull"/;
my $forced =
  qr/this run has lost its lock \(it was released by force\), and the state was last written by/;
my $held = qr/its lock is held by (?:bob: apply|pooled\@\S+) since/;

# By mode and by what other runs do: the error of the run's last write, or undef if it succeeds
my %expected = (
	session => {
		nobody => $not_held,
		holds => $held,
		ended => $not_held
	},
	'no shim' => {
		nobody => $not_held,
		holds => $held,
		ended => $not_held
	},
	durable => {
		nobody => undef,
		refused => undef,
		'forced, nobody' => $forced,
		'forced, holds' => $held,
		'forced, ended' => $forced
	});

# One resource that is ready at once, and one whose end is the next change
sub other_resources
{
	return <<'END';
resource "terraform_data" "at_once" {
  triggers_replace = "${var.by} ${var.round}"
}

resource "terraform_data" "first" {
  input            = var.by
  triggers_replace = "${var.by} ${var.round}"

  provisioner "local-exec" {
    command = "while [ -e gate_first ]; do sleep 0.05; done"
  }
}
END
}

sub project
{
	my ($cell, $who, $run) = @_;
	my %params =
	    $cell->{event} eq 'pooler'
	  ? (
		bare => 1,
		role => 'pooled',
		env => {
			PG_CONN_STR =>
			  "postgres://pooled\@127.0.0.1:$pooler_port/postgres?sslmode=disable&binary_parameters=yes",
			PGAPPNAME => "tfstate-run:$run"
		})
	  : (
		stock => $cell->{mode} eq 'no shim' && $who eq 'alice',
		options => $cell->{mode} eq 'durable'
		? { 'tfstate.mode' => 'durable', 'tfstate.run_id' => $run }
		: {});
	return Terraform->new(
		$node,
		schema => $cell->{schema},
		who => $who,
		config => Terraform::pg_backend() . Terraform::network() . other_resources(),
		%params);
}

# Starts a run in a schema of its own, and stops in the middle of its apply.
sub begin_cell
{
	my ($event, $mode, $others, %params) = @_;
	my $cell = {
		event => $event,
		mode => $mode,
		others => $others,
		test => "$event, $mode, $others",
		schema => join('_', 'c', map { s/\W+/_/gr } $event, $mode, $others) . ($params{guard} || '')
	};

	sql("SELECT tfstate_attach('$cell->{schema}', role => '"
		  . ($event eq 'pooler' ? "pooled', mode => 'durable" : 'terraform')
		  . "', guard => '" . ($params{guard} || 'require') . "')");
	$cell->{alice} = project($cell, 'alice', uuid());
	append_to_file("$cell->{alice}{dir}/gate_first", '') if $event eq 'unheard';
	$cell->{run} = $cell->{alice}->start_slow_apply;
	$cell->{begun} = time;
	return $cell;
}

# What others do after the connection is lost; then lets the run finish.
sub end_cell
{
	my ($cell) = @_;
	my ($test, $schema, $others) = @$cell{qw(test schema others)};
	my $lockid = "$schema.states/default";
	my $bob = project($cell, 'bob', uuid());
	my $other;

	if ($others =~ /^forced/)
	{
		my ($status, $out, $notice) = $node->psql('postgres', "SELECT tfstate_force_unlock('$lockid')");
		like($notice,
			qr/NOTICE:  the process that held state lock "\Q$lockid\E" may still be running: \S+.* since .*, application_name "\S+"/,
			"$test: whoever releases the lock by force is told which process goes on");
	}
	$bob->apply_fails("$test: the other run", qr/state lock "\Q$lockid\E" is held by/)
	  if $others eq 'refused';
	$bob->apply_ok("$test: the other run") if $others =~ /ended$/;
	$other = $bob->start_slow_apply if $others =~ /holds$/;
	my $state = state_of($node, $schema);

	$cell->{alice}->open_gate;
	return ($state, $bob, $other);
}

sub check_cell
{
	my ($cell) = @_;
	my ($test, $schema) = @$cell{qw(test schema)};
	my $expected = $expected{ $cell->{mode} }{ $cell->{others} };
	my ($state, $bob, $other) = end_cell($cell);

	if ($expected)
	{
		my $output = $cell->{run}->fails_ok($test, $expected);

		is(state_of($node, $schema), $state, "$test: the run has not written");
		like($cell->{alice}->errored_state, qr/^\d+\|alice$/,
			"$test: the state of the run is in errored.tfstate");
	}
	else
	{
		my ($status, $output) = $cell->{run}->finish;

		# a snapshot that could not be written is an error to Terraform
		is($status, $cell->{event} eq 'unheard' ? 1 : 0, $test) or diag($output);
		like(state_of($node, $schema), qr/^\d+\|alice$/, "$test: the run has written");
		is( sql("SELECT v.fence = h.fence FROM tfstate_versions('$schema.states/default') v JOIN tfstate_history h ON h.id = v.lock_id ORDER BY v.number DESC LIMIT 1"),
			't',
			"$test: the version was written under its lock");
	}
	if ($other)
	{
		$bob->open_gate;
		$other->succeeds_ok("$test: the other run succeeds");
		like(state_of($node, $schema), qr/^\d+\|bob$/, "$test: the other run has written");
	}
	is(sql("SELECT count(*) FROM tfstate_verify('$schema.*', true)"),
		0, "$test: all versions are intact");
	return;
}

# Starts the runs for all cells of an event.
sub begin_cells
{
	my ($event, @modes) = @_;
	my @cells;

	foreach my $mode (@modes)
	{
		push @cells, begin_cell($event, $mode, $_) foreach sort keys %{ $expected{$mode} };
	}
	return @cells;
}

# The session of each run is terminated.
{
	my @cells = begin_cells('ended', 'session', 'no shim', 'durable');

	sql("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = 'terraform'");
	check_cell($_) foreach @cells;
}

# The server is restarted.
{
	my @cells = begin_cells('restarted', 'session', 'no shim', 'durable');

	$node->restart;
	check_cell($_) foreach @cells;
}

# The server is down when the runs want to write snapshots: the next attempt has a serial
# that no other run has written, so the serial alone shows no conflict.
{
	my @cells = begin_cells('unheard', 'session', 'no shim', 'durable');
	my $weak = begin_cell('unheard', 'session', 'ended', guard => 'on');

	sleep(0.1) until time > $weak->{begun} + $persist_interval + 1;
	$node->stop;
	foreach my $cell (@cells, $weak)
	{
		unlink("$cell->{alice}{dir}/gate_first") or die "gate_first: $!";
	}
	foreach my $cell (@cells, $weak)
	{
		wait_for("the first resource of $cell->{test}",
			sub { $cell->{run}->output =~ /terraform_data\.first: Creation complete/ });
	}
	sleep(1);
	$node->start;
	check_cell($_) foreach @cells;

	# If the lock is not required, the update of the other run is lost.
	end_cell($weak);
	$weak->{run}->finish;
	like(state_of($node, $weak->{schema}), qr/^\d+\|alice$/,
		'unheard, not required: the state of the other run is overwritten');
}

# Through PgBouncer in transaction mode, whose sessions are terminated
SKIP:
{
	skip 'pgbouncer is not installed', 1 unless path_of('pgbouncer');

	sql('CREATE ROLE pooled LOGIN');
	$pooler_port = start_pooler(
		$node,
		roles => ['pooled'],
		pool_size => 3,
		conf => 'server_round_robin = 1')->{port};

	my @cells = begin_cells('pooler', 'durable');
	sql("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = 'pooled'");
	check_cell($_) foreach @cells;
}

is(sql('SELECT count(*) FROM tfstate_holders'), 0, 'no lock is left');

done_testing();
