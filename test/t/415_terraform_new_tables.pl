# Terraform makes its schemas and tables itself, and each is attached as it is made: many
# projects that begin at the same time get in nobody's way, from the first command on.
#
# UNITS is the number of projects, SCHEMAS that of projects of roles in groups, for a longer run
# by hand.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Dump;
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
	my ($schema, $who, %params) = @_;
	return Terraform->new(
		$node,
		schema => $schema,
		who => $who,
		role => 'terraform',
		database => 'states',
		init => 0,
		config => Terraform::backend('pg') . Terraform::network(),
		%params);
}

# Runs init and apply in each project, but only init where it has init_only, eight projects at a
# time, and returns the output of the commands that failed.
sub failures
{
	my @waiting = @_;
	my (@running, @failures);

	while (@waiting || @running)
	{
		while (@running < 8 && @waiting)
		{
			my $project = shift @waiting;
			push @running, { project => $project, run => $project->start('init'), next => !$project->{init_only} };
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

# Roles in groups, some of them made when everything is set up, whose schemas Terraform makes.
# What attach has done is taken apart again with its own calls: object by object and setting by
# setting, all is as it was.
{
	my $schemas = $ENV{SCHEMAS} || 6;
	my $in_db = sub { return $node->safe_psql('companies', $_[0]) };

	$node->safe_psql('postgres', 'CREATE DATABASE companies');
	$in_db->(q(
		CREATE SCHEMA tfstate;
		CREATE EXTENSION tfstate SCHEMA tfstate;
		CREATE TABLE public.orders (id integer);
		CREATE ROLE network;
		CREATE ROLE platform ROLE network;
		GRANT CREATE ON DATABASE companies TO platform;
		GRANT CREATE ON SCHEMA public TO platform;
		CREATE ROLE nina LOGIN IN ROLE network;
		CREATE ROLE paul LOGIN IN ROLE platform;
		ALTER ROLE paul SET search_path = "$user", public;
		ALTER ROLE paul IN DATABASE companies SET idle_session_timeout = '1h';
	));
	my $before = dump_all($node);
	$in_db->(q(SET client_min_messages = warning; SELECT tfstate.tfstate_attach_database('platform', new_tables => true)));
	$in_db->("CREATE ROLE $_ LOGIN IN ROLE platform") foreach qw(vault_1 vault_2);
	is($in_db->('SELECT count(*) FROM tfstate.tfstate_attach_members()'), '2', 'groups: new members get their settings');

	my @roles = qw(nina paul vault_1 vault_2);
	my @projects = map { project("company-$_", "job_$_", role => $roles[$_ % @roles], database => 'companies', bare => 1) } 1 .. $schemas;
	$_->{init_only} = 1 foreach @projects[ 6 .. $#projects ];
	is_deeply([ failures(@projects) ], [], "groups: none of $schemas projects fails");
	is($in_db->('SELECT count(*) FROM tfstate.tfstate_tables'), $schemas, 'groups: each table is attached');
	is($in_db->(q(SELECT string_agg(DISTINCT operation || ' ' || role, ', ') FROM tfstate.tfstate_versions WHERE number = 2)),
		'write nina, write paul, write vault_1, write vault_2', 'groups: they have written under their locks');
	like(differences($before, dump_all($node)), qr/^\+ALTER ROLE vault_1 IN DATABASE companies SET search_path/m,
		'groups: attaching changes something');

	$in_db->('SET client_min_messages = warning; SELECT tfstate.tfstate_detach(schema, "table") FROM tfstate.tfstate_tables');
	$in_db->('SELECT tfstate.tfstate_detach_database()');
	is($in_db->('SELECT tfstate.tfstate_cleanup()'), '', 'groups: nothing is left to be cleaned up');
	is($in_db->('SELECT count(*) FROM tfstate.tfstate_grants') . $in_db->('SELECT count(*) FROM tfstate_internal.given'),
		'00', 'groups: no grant is left');
	is(join("\n", grep { /^[-+].*(GRANT|REVOKE|TRIGGER|ALTER (ROLE|DATABASE) .* SET|COMPRESSION)/ && !/^\+GRANT platform TO vault_/ }
				split(/\n/, differences($before, dump_all($node)))),
		'', 'groups: no right, setting or trigger is left');
	$in_db->(join(';', map { qq(DROP SCHEMA "company-$_" CASCADE) } 1 .. $schemas) . '; DROP SEQUENCE public.global_states_id_seq; DROP ROLE vault_1, vault_2');
	is(differences($before, dump_all($node)), '', 'groups: without the schemas and the new roles, all is as before');
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
