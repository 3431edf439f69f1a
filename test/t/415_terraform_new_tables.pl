# Terraform makes its schemas and tables itself, and each is attached as it is made: many
# projects that begin at the same time get in nobody's way, from the first command on.
#
# UNITS is the number of projects, for a longer run by hand.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;
use Time::HiRes qw(usleep);

terraform_or_skip();

my $units = $ENV{UNITS} || 16;
my $node = terraform_node('new_tables');

# A database for states, whose roles make their schemas themselves
$node->safe_psql('postgres', 'CREATE DATABASE states');
$node->safe_psql(
	'states', q(
	CREATE SCHEMA tfstate;
	CREATE EXTENSION tfstate SCHEMA tfstate;
	GRANT CREATE ON DATABASE states TO terraform;
	GRANT CREATE ON SCHEMA public TO terraform;
	SELECT tfstate.tfstate_attach_database(new_tables => true);
));

sub states
{
	my ($sql) = @_;
	return $node->safe_psql('states', $sql);
}

sub project
{
	my ($schema, $who) = @_;
	return Terraform->new(
		$node,
		schema => $schema,
		who => $who,
		role => 'terraform',
		database => 'states',
		init => 0,
		config => Terraform::backend('pg') . Terraform::network());
}

# Runs init and apply in each project, eight projects at a time, and returns the output of the
# commands that failed.
sub failures
{
	my @waiting = @_;
	my (@running, @failures);

	while (@waiting || @running)
	{
		while (@running < 8 && @waiting)
		{
			my $project = shift @waiting;
			push @running, { project => $project, run => $project->start('init'), next => 'apply' };
		}
		usleep(20_000);
		foreach my $unit (splice @running)
		{
			if (!$unit->{run}->is_done)
			{
				push @running, $unit;
				next;
			}
			my ($status, $output) = $unit->{run}->finish;
			push @failures, "$status: $output" if $status != 0;
			next if $status != 0 || !$unit->{next};
			$unit->{run} = $unit->{project}->start('apply', '-auto-approve');
			delete $unit->{next};
			push @running, $unit;
		}
	}
	return @failures;
}

# First applies, each in a schema of its own
is_deeply([ failures(map { project("unit-$_", "job_$_") } 1 .. $units) ],
	[], "none of $units projects fails that begin side by side");
is( states(
		q(SELECT count(*), count(DISTINCT name), string_agg(DISTINCT guard, ' '), bool_and(pg_get_userbyid(relowner) = 'terraform')
		  FROM tfstate_internal.attached_table t JOIN pg_class c ON c.oid = t.relid)),
	"$units|$units|require|t",
	'each table is attached, and belongs to the role that has made it');
is( states(q(SELECT DISTINCT number, operation, serial, role, lock_operation FROM tfstate.tfstate_versions ORDER BY 1)),
	"1|found|0||\n2|write|1|terraform|apply",
	'each state was written once, under the lock of its workspace');
is( states(q(SELECT string_agg(DISTINCT regexp_replace(lockid, 'unit-\d+', 'unit-N'), ' ') FROM tfstate.tfstate_history)),
	'"unit-N".states/default',
	'no other lock was taken');
is(states(q(SELECT count(*) FROM tfstate.tfstate_holders)), 0, 'no lock is left');
is( states(q(SELECT string_agg(problem, '; ') FROM tfstate.tfstate_check() WHERE role IS NULL AND object NOT IN ('server'))),
	'',
	'nothing is wrong with the tables');

# Ten first commands at once in two schemas: one of them makes what the others use.
{
	my @projects = map { project('shared ' . $_ % 2, "job $_" =~ tr/ /_/r) } 1 .. 10;
	my @runs = map { $_->start('init') } @projects;
	my @failures = map { $_->[0] == 0 ? () : $_->[1] } map { [ $_->finish ] } @runs;

	is_deeply(\@failures, [], 'none of ten inits in two new schemas fails');
	is(states(q(SELECT count(*) FROM tfstate_internal.attached_table WHERE name ~ 'shared')),
		2, 'each of the two tables is attached once');
}

# A dump restores without attaching anything anew, and what the restored database makes
# afterwards is attached.
{
	my $file = PostgreSQL::Test::Utils::tempdir() . '/dump';
	my $tables = 'SELECT name, attached_at FROM tfstate_internal.attached_table ORDER BY name';
	my $triggers = 'SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY evtname';

	states(q(DROP SCHEMA "unit-1" CASCADE));
	$node->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
	$node->command_ok([ 'pg_dump', '-Fc', '-f', $file, 'states' ], 'pg_dump of the database');
	$node->command_ok([ 'pg_restore', '-e', '-d', 'restored', $file ], 'it restores without errors');
	is( $node->safe_psql('restored', $tables),
		states($tables =~ s/ORDER/WHERE name !~ 'unit-1"' ORDER/r),
		'the same tables are attached as before');
	is($node->safe_psql('restored', $triggers), states($triggers), 'the event triggers are there');
	$node->safe_psql('restored',
		q(CREATE TABLE IF NOT EXISTS "shared 0".more (id bigint NOT NULL DEFAULT nextval('public.global_states_id_seq') PRIMARY KEY, name text UNIQUE, data text)));
	is( $node->safe_psql('restored', q(SELECT count(*) FROM tfstate_internal.attached_table WHERE name ~ 'more')),
		1, 'a new table is attached there');
}

# Without the library every table can be created.  In this database it is looked for where it
# is not.
{
	states(q(UPDATE pg_proc SET probin = '$libdir/tfstate_missing' WHERE probin = '$libdir/tfstate'));
	my $session = session($node, dbname => 'states', user => 'terraform');
	$session->query('CREATE TABLE public.other (a int)');
	is($session->sqlstate, '', 'without the library a table can be created');
	like($session->{err}, qr/WARNING: .*could not access file/, 'a warning says that it is missing');
	$session->quit;
}

done_testing();
