# Attaching and detaching tables, and installing and removing tfstate, leaves the whole cluster
# as it was: a dump of everything but data is the same.

use strict;
use warnings;

use FindBin;
use List::Util qw(shuffle);
use lib "$FindBin::RealBin/../lib";
use Dump;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

srand(16);
my $node = tfstate_node('removal');
my @roles = qw(one two "Three");
my @tables = (['net', 'states'], ['net', 'more'], ['app', 'states']);

sub in_db
{
	my ($statements) = @_;
	return $node->safe_psql('infra', $statements);
}

# Everything, with the values of sequences
sub dump_data
{
	my ($dump) = run_command([ 'pg_dump', '-d', $node->connstr('infra') ]);
	return dump_all($node) . join("\n", grep { !/^\\(un)?restrict / } split(/\n/, $dump));
}

# Attaches, and returns what differs afterwards that the steps of a dry run before did not name.
# A dry run that changes something is in the result, too.
sub not_named
{
	my ($call) = @_;
	my $data = dump_data();
	my $before = dump_all($node);
	my @steps = split(/\n/, in_db($call =~ s/\)$/, dry_run => true)/r));
	my @missing = $data eq dump_data() ? () : 'the dry run changes something';

	in_db($call);
	foreach my $line (split(/\n/, differences($before, dump_all($node))))
	{
		next if $line =~ /^[-+](--|$)/;
		my $named =
			$line =~ /^.(ALTER ROLE \S+ IN DATABASE infra) SET (\S+)/ ? qr/^\Q$1 SET $2\E / :
			$line =~ /^.(?:GRANT|REVOKE) (.*) ON (\S+) (.+) (?:TO|FROM) ([^\s;]+)/ ? qr/^(GRANT|REVOKE) .* ON \Q$2 $3\E (TO|FROM) \Q$4\E$/ :
			$line =~ /^.CREATE TRIGGER (\S+) .* ON (\S+) / ? qr/ TRIGGER \Q$1\E .* ON \Q$2\E / :
			$line =~ /^.ALTER TABLE ONLY (\S+) ALTER COLUMN data SET COMPRESSION/ ? qr/^ALTER TABLE \Q$1\E ALTER data SET COMPRESSION/ :
			$line =~ /^.(CREATE SCHEMA|CREATE TABLE|CREATE UNIQUE INDEX states_by_name) (\S+?);?( |$)/ ? qr/^\Q$1\E/ :
			$line =~ /^.(    |ALTER TABLE|\);|ALTER SCHEMA \"brand new\" OWNER)/ ? qr/^CREATE TABLE/ : qr/^no rule for this line/;
		push @missing, $line if !grep { $_ =~ $named } @steps;
	}
	return join("\n", @missing);
}

# What there is before: tables as Terraform makes them, and roles with some rights and settings.
$node->safe_psql('postgres', 'CREATE DATABASE infra');
in_db('CREATE SEQUENCE public.global_states_id_seq AS bigint; CREATE SCHEMA net; CREATE SCHEMA app');
foreach my $table (@tables)
{
	my ($schema, $name) = @$table;
	in_db("CREATE TABLE $schema.$name (id bigint NOT NULL DEFAULT nextval('public.global_states_id_seq') PRIMARY KEY, name text UNIQUE, data text);
		   CREATE UNIQUE INDEX ON $schema.$name (name)");
}
in_db("CREATE ROLE $_ LOGIN") foreach @roles;
in_db(q(
	REVOKE CONNECT ON DATABASE infra FROM PUBLIC;
	GRANT CONNECT ON DATABASE infra TO one;
	GRANT USAGE ON SCHEMA net TO "Three" WITH GRANT OPTION;
	GRANT SELECT (name), INSERT (data) ON net.states TO one, "Three";
	GRANT ALL ON app.states TO two;
	ALTER ROLE one SET search_path = app;
	ALTER ROLE two IN DATABASE infra SET search_path = "$user", net, "A, b";
	ALTER ROLE two IN DATABASE infra SET idle_session_timeout = '1h';
	ALTER ROLE two IN DATABASE infra SET work_mem = '8MB';
	ALTER ROLE "Three" IN DATABASE infra SET tcp_keepalives_idle = 5;
));
my $bare = dump_all($node);
like($bare, qr/ALTER ROLE two IN DATABASE infra SET search_path/, 'the dump has the settings of roles');

in_db('CREATE EXTENSION tfstate');
my $installed = dump_all($node);
isnt($installed, $bare, 'the dump has the extension');

# A dry run names what a call changes, and changes nothing.
is(not_named("SELECT tfstate_attach('net', 'states', 'two')"), '', 'dry run: a table and a role with settings');
is(not_named("SELECT tfstate_attach('net', 'states', 'one', access => 'plan')"), '', 'dry run: a role that plans');
is(not_named("SELECT tfstate_attach('net', 'states', 'two', access => 'plan')"), '', 'dry run: a role that plans from now on');
is(not_named("SELECT tfstate_attach('net', 'more', 'Three', mode => 'durable')"), '', 'dry run: another table');
is(not_named("SELECT tfstate_attach('brand new', 'states', 'one')"), '', 'dry run: a table that is missing');
is(in_db("SELECT tfstate_attach('net', 'states', 'two', dry_run => true)"), '', 'dry run: nothing to be done');
in_db("SELECT tfstate_detach(schema, \"table\") FROM tfstate_tables; DROP SCHEMA \"brand new\" CASCADE");
is(differences($installed, dump_all($node)), '', 'dry run: afterwards everything is as it was');

# It waits for no writer, and changes no existing table.
{
	my $writer = session($node, dbname => 'infra');
	$writer->query("BEGIN; INSERT INTO net.states (name, data) VALUES ('w', '{}'); SELECT count(*) FROM net.more");
	like(in_db("SET lock_timeout = 100; SELECT tfstate_attach('net', dry_run => true)"),
		qr/^attach table "net.states": .* guard require/, 'dry run: beside a writer');
	is($node->safe_psql('infra', "SELECT string_agg(mode, ' ') FROM pg_locks WHERE relation = 'net.states'::regclass"),
		'RowExclusiveLock', 'dry run: no lock of it stays');
	$writer->query('ROLLBACK');
	$writer->quit;
}

# All tables for all roles, some with another access later, in any order
foreach my $round (1 .. 3)
{
	foreach my $table (shuffle(@tables, @tables))
	{
		foreach my $role (shuffle(@roles))
		{
			my $access = choose("'write'", "'plan'", 'NULL');
			my $name = $role =~ s/"//gr;
			in_db("SELECT tfstate_attach('$table->[0]', '$table->[1]', '$name', access => $access)");
		}
	}
	isnt(dump_all($node), $installed, "round $round: attaching changes something");
	foreach my $table (shuffle(@tables))
	{
		foreach my $role (shuffle(@roles))
		{
			my $name = $role =~ s/"//gr;
			in_db("SELECT tfstate_detach('$table->[0]', '$table->[1]', '$name')") if rand() < 0.5;
		}
	}
	in_db("SELECT tfstate_detach('$_->[0]', '$_->[1]')") foreach shuffle(@tables);
	is(differences($installed, dump_all($node)), '', "round $round: after detaching everything is as it was");
}

# Removing it
in_db("SELECT tfstate_attach('net', role => 'two'); SELECT tfstate_lock('held')");
$node->psql('infra', 'DROP EXTENSION tfstate', stderr => \my $error);
like($error, qr/other objects depend on it/, 'DROP EXTENSION is refused while a table is attached');
is(in_db("SELECT tfstate_detach('net'); SELECT lockid FROM tfstate_holders"), "\nheld", 'a lock is held');
in_db('DROP EXTENSION tfstate');
is(differences($bare, dump_all($node)), '', 'after DROP EXTENSION the cluster is as it was before CREATE EXTENSION');

# CASCADE: the triggers are gone, states, rights and settings stay.
in_db("CREATE EXTENSION tfstate; SELECT tfstate_attach('net', role => 'two')");
in_db('SET client_min_messages = warning; DROP EXTENSION tfstate CASCADE');
is(in_db("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'tfstate%'"), '0', 'CASCADE removes the triggers');
is(in_db("SELECT count(*) > 0, has_table_privilege('two', 'net.states', 'DELETE') FROM net.states"), 't|t',
	'CASCADE leaves states and rights');
like(dump_all($node), qr/ALTER ROLE two IN DATABASE infra SET search_path TO 'tfstate_pg', 'pg_catalog'/,
	'CASCADE leaves the settings of roles');

done_testing();
