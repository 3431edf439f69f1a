# test/lib/LostConnections.pm
#
# Runs of Terraform that lose their connection in the middle of an apply: the cells of the
# first two tables in doc/explanation/lost-connections.md.  A cell is an event that ends the connection,
# the mode of the run, and what other runs do before the run goes on.
#
# begin_cell	starts the run of a cell, in a schema of its own
# begin_cells	starts the runs of all cells of an event
# end_cell		lets others do what they do, and then the run go on
# check_cell	does that and tests what becomes of both states
#
# The modes are "session", "no shim" and "durable".  Before the run goes on, no other run
# comes ("nobody"), another run holds the lock ("holds"), or has written and ended ("ended");
# in durable mode another run is refused ("refused"), unless an administrator has released the
# lock by force ("forced, nobody", "forced, holds", "forced, ended").
package LostConnections;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

our @EXPORT = qw(begin_cell begin_cells end_cell check_cell);

my $not_held =
  qr/this session does not hold its lock, or has lost it, and the state was last written by \S+ at \S+ \S+; before pushing errored\.tfstate, compare it with the output of "terraform state pull"/;
my $forced =
  qr/this run has lost its lock \(it was released by force\), and the state was last written by/;
my $held = qr/its lock is held by (?:bob: apply|pooled\@\S+) since/;

# By mode and by what other runs do: the error of the run's last write, or undef if it succeeds
my %lost = (nobody => $not_held, holds => $held, ended => $not_held);
my %expected = (
	session => \%lost,
	'no shim' => \%lost,
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
	    $cell->{pooler_port}
	  ? (
		bare => 1,
		role => 'pooled',
		env => {
			PG_CONN_STR =>
			  "postgres://pooled\@127.0.0.1:$cell->{pooler_port}/postgres?sslmode=disable&binary_parameters=yes",
			PGAPPNAME => "tfstate-run:$run"
		})
	  : (
		stock => $cell->{mode} eq 'no shim' && $who eq 'alice',
		options => $cell->{mode} eq 'durable'
		? { 'tfstate.mode' => 'durable', 'tfstate.run_id' => $run }
		: {});
	return Terraform->new(
		$cell->{node},
		schema => $cell->{schema},
		who => $who,
		config => Terraform::pg_backend() . Terraform::network() . other_resources(),
		%params);
}

# Runs a statement as the superuser.
sub query
{
	my ($cell, $sql) = @_;
	return $cell->{node}->safe_psql('postgres', $sql);
}

# Attaches a schema, starts a run there, and stops in the middle of its apply.  Returns the
# cell: test, its name; schema; alice, the project; run.
#
# guard: of the table; pooler_port: of a pooler before the server, with the role pooled;
# gate_first: true to keep the first resource waiting, too; lock_lost: true if the event
# loses a durable lock, too.
sub begin_cell
{
	my ($node, $event, $mode, $others, %params) = @_;
	my $cell = {
		node => $node,
		mode => $mode,
		others => $others,
		test => "$event, $mode, $others",
		schema => join('_', 'c', map { s/\W+/_/gr } $event, $mode, $others) . ($params{guard} || ''),
		%params
	};

	query($cell,
		"SELECT tfstate_attach('$cell->{schema}', role => '"
		  . ($params{pooler_port} ? "pooled', mode => 'durable" : 'terraform')
		  . "', guard => '" . ($params{guard} || 'require') . "')");
	$cell->{alice} = project($cell, 'alice', uuid());
	append_to_file("$cell->{alice}{dir}/gate_first", '') if $params{gate_first};
	$cell->{run} = $cell->{alice}->start_slow_apply;
	return $cell;
}

# Starts the runs of all cells of an event, in the given modes.
sub begin_cells
{
	my ($node, $event, $modes, %params) = @_;
	my @cells;

	foreach my $mode (@$modes)
	{
		push @cells, begin_cell($node, $event, $mode, $_, %params)
		  foreach sort keys %{ $params{lock_lost} ? \%lost : $expected{$mode} };
	}
	return @cells;
}

# What others do after the connection is lost; then lets the run finish.  Returns the state
# before that, the project of the others and, if it still holds the lock, their run.
sub end_cell
{
	my ($cell) = @_;
	my ($node, $test, $schema, $others) = @$cell{qw(node test schema others)};
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

# Tests what the run of a cell writes, and what the others have written.
sub check_cell
{
	my ($cell) = @_;
	my ($node, $test, $schema) = @$cell{qw(node test schema)};
	my $expected = ($cell->{lock_lost} ? \%lost : $expected{ $cell->{mode} })->{ $cell->{others} };
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
		is($status, $cell->{gate_first} ? 1 : 0, $test) or diag($output);
		like(state_of($node, $schema), qr/^\d+\|alice$/, "$test: the run has written");
		is( query($cell, "SELECT v.fence = h.fence FROM tfstate_versions('$schema.states/default') v JOIN tfstate_history h ON h.id = v.lock_id ORDER BY v.number DESC LIMIT 1"),
			't',
			"$test: the version was written under its lock");
	}
	if ($other)
	{
		$bob->open_gate;
		$other->succeeds_ok("$test: the other run succeeds");
		like(state_of($node, $schema), qr/^\d+\|bob$/, "$test: the other run has written");
	}
	is(query($cell, "SELECT count(*) FROM tfstate_verify('$schema.*', true)"),
		0, "$test: all versions are intact");
	return;
}

1;
