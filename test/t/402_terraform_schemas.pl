# Projects that have a schema each do not get in each other's way.  Without
# tfstate they do: every lock takes the key -1, which is one for the database,
# for an instant, and the first apply of a project keeps it for its whole run.

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

# Runs a command in several projects at once, a number of rounds, and returns
# what those said that failed.
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

# Eight plans at once, 12 rounds; the states are not empty.
my @projects = map { project($_) } @schemas;

is_deeply([ failures(1, \@projects, 'apply', '-auto-approve') ],
	[], 'eight first applies at once: none fails');
is_deeply([ failures(12, \@projects, 'plan') ],
	[], 'eight plans at once, 12 rounds: none fails');
is( $node->safe_psql(
		'postgres',
		"SELECT string_agg(DISTINCT lockid || ' ' || n, ', ' ORDER BY lockid || ' ' || n) FROM (SELECT lockid, count(*) AS n FROM tfstate_history GROUP BY lockid) h"
	),
	join(', ', map { "\"$_\".states/default 13" } @schemas),
	'each of them had the lock of its workspace, and none that of creation');
nothing_held($node, 'no lock is left');

# The key for creations is one for the database where the program names no table.
# Whoever waits for it gets it: it is held for an instant only.
my @patient =
  map { project($_, options => { 'tfstate.wait' => '2min' }) } @schemas;
foreach my $name ('stage', 'test')
{
	is_deeply([ failures(1, \@patient, 'workspace', 'new', $name) ],
		[], 'eight workspaces are created at once: with tfstate.wait none fails');
}
nothing_held($node, 'no lock is left');

# For comparison, not a test: the same with the server's own functions.
my @stock = map { project($_, stock => 1) } @schemas;
my @stock_failures = failures(3, \@stock, 'plan');
note('without tfstate ' . @stock_failures . ' of 24 such plans failed');

# A long first apply of a project, of each kind that there is: on the row that
# tfstate_attach() makes, and in a workspace that this very run creates.
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
		"$kind: the key -1 is free for those without tfstate");

	$projects[0]->run_ok("$kind: meanwhile another project plans", 'plan');
	$projects[1]->run_ok("$kind: and applies", 'apply', '-auto-approve');
	$projects[2]->run_ok("$kind: and creates a workspace",
		'workspace', 'new', "new_$kind");
	$projects[2]->run_ok("$kind: and plans in that", 'plan');
	$projects[2]->run_ok("$kind: and leaves it", 'workspace', 'select', 'default');
	$projects[2]->run_ok("$kind: and deletes it",
		'workspace', 'delete', "new_$kind");
	project($other)->apply_ok("$kind: and a new project has its first apply");
	project($other, env => { TF_WORKSPACE => 'other' })
	  ->apply_ok("$kind: also in a workspace that it creates");
	project($name, env => { TF_WORKSPACE => 'second' })
	  ->apply_ok("$kind: and so does another workspace of the same project");
	$stock[3]->run_ok("$kind: and one without tfstate plans", 'plan');

	is($run->is_done, 0, "$kind: the first apply is still at work");
	$first->open_gate;
	my ($status, $output) = $run->finish;
	is($status, 0, "$kind: and succeeds") or diag($output);
	is( state_of($node, $name, $kind),
		($kind eq 'default' ? '1|' : '2|') . "of $name" =~ tr/ /_/r,
		"$kind: with its state");
	nothing_held($node, "$kind: no lock is left");
}

done_testing();
