# Projects with a schema of their own do not get in each other's way.  Without tfstate they
# do: every run locks the key -1, which is the same for the whole database, for an instant,
# and the first apply of a project keeps it for the whole run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('schemas');
my @schemas = map { "project $_" } 1 .. 8;

attach($node, $_) foreach @schemas;

sub project
{
	my ($schema, %params) = @_;
	return Terraform->new(
		$node,
		schema => $schema,
		who => "of $schema" =~ tr/ /_/r,
		%params);
}

# Runs a command in several projects at once, for a number of rounds, and returns the output
# of the runs that failed.
sub failures
{
	my ($rounds, $projects, @command) = @_;
	my @failures;

	foreach (1 .. $rounds)
	{
		my @runs = map { $_->start(@command) } @$projects;

		foreach my $run (@runs)
		{
			my ($status, $output) = $run->finish;
			push @failures, "$status: $output" if $status != 0;
		}
	}
	return @failures;
}

# Eight plans at once, in 12 rounds; the states are not empty.
my @projects = map { project($_) } @schemas;

is_deeply([ failures(1, \@projects, 'apply', '-auto-approve') ],
	[], 'none of eight first applies at once fails');
is_deeply([ failures(12, \@projects, 'plan') ],
	[], 'none of eight plans at once fails in 12 rounds');
is( $node->safe_psql(
		'postgres',
		"SELECT string_agg(DISTINCT lockid || ' ' || n, ', ' ORDER BY lockid || ' ' || n) FROM (SELECT lockid, count(*) AS n FROM tfstate_history GROUP BY lockid) h"
	),
	join(', ', map { "\"$_\".states/default 13" } @schemas),
	'each of them locked its workspace, and none the creation of workspaces');
nothing_held($node, 'no lock is left');

# The creation key is the same for the whole database if the program names no table.  A run
# that waits for it gets it, since it is held for an instant only.
my @patient =
  map { project($_, options => { 'tfstate.wait' => '2min' }) } @schemas;
foreach my $name ('stage', 'test')
{
	is_deeply([ failures(1, \@patient, 'workspace', 'new', $name) ],
		[], 'with tfstate.wait, none of eight creations of a workspace at once fails');
}
nothing_held($node, 'no lock is left');

# For comparison, not a test: the same with the server's own functions
my @stock = map { project($_, stock => 1) } @schemas;
my @stock_failures = failures(3, \@stock, 'plan');
note('without tfstate ' . @stock_failures . ' of 24 such plans failed');

# A long first apply of a project, of each kind: on the row that tfstate_attach() makes, and
# in a workspace that this run creates
foreach my $kind ('default', 'created')
{
	my $name = "first $kind";
	attach($node, $name);
	my $first = project($name,
		env => $kind eq 'default' ? {} : { TF_WORKSPACE => 'created' });
	my $run = $first->start_slow_apply;
	my $other = "other $kind";
	attach($node, $other);

	is( $node->safe_psql('postgres', 'SELECT lockid FROM tfstate_holders'),
		"\"$name\".states/$kind",
		"$kind: a first apply holds the lock of its workspace and no other");
	is( $node->safe_psql(
			'postgres', q(
			SELECT count(*) FROM pg_locks
			 WHERE locktype = 'advisory' AND classid = 4294967295 AND objid = 4294967295 AND objsubid = 1)
		),
		0,
		"$kind: the key -1 is free for clients without tfstate");

	$projects[0]->run_ok("$kind: meanwhile another project plans", 'plan');
	$projects[1]->run_ok("$kind: meanwhile another project applies", 'apply', '-auto-approve');
	$projects[2]->run_ok("$kind: meanwhile another project creates a workspace",
		'workspace', 'new', "new_$kind");
	$projects[2]->run_ok("$kind: meanwhile it plans in that workspace", 'plan');
	$projects[2]->run_ok("$kind: meanwhile it leaves that workspace", 'workspace', 'select', 'default');
	$projects[2]->run_ok("$kind: meanwhile it deletes that workspace",
		'workspace', 'delete', "new_$kind");
	project($other)->apply_ok("$kind: a new project makes its first apply meanwhile");
	project($other, env => { TF_WORKSPACE => 'other' })
	  ->apply_ok("$kind: a new project makes a first apply that creates a workspace meanwhile");
	project($name, env => { TF_WORKSPACE => 'second' })
	  ->apply_ok("$kind: another workspace of the same project is applied meanwhile");
	$stock[3]->run_ok("$kind: meanwhile a client without tfstate plans", 'plan');

	is($run->is_done, 0, "$kind: the first apply is still running");
	$first->open_gate;
	my ($status, $output) = $run->finish;
	is($status, 0, "$kind: the first apply succeeds") or diag($output);
	is( state_of($node, $name, $kind),
		($kind eq 'default' ? '1|' : '2|') . "of $name" =~ tr/ /_/r,
		"$kind: the first apply has written its state");
	nothing_held($node, "$kind: no lock is left");
}

done_testing();
