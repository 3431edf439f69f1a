# Groups, and roles that are made when everything is set up, as Vault makes them for an hour:
# they lock through tfstate with nothing but a connection string, in a database of states
# without a call, in another one after one call.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('groups');

sub project
{
	my ($role, $database, %params) = @_;
	return Terraform->new(
		$node,
		schema => 'net',
		who => $role,
		role => $role,
		database => $database,
		bare => 1,
		%params);
}

# Two runs of these roles exclude each other, and the one that holds the lock succeeds.
sub exclude_each_other
{
	my ($name, $database, $first, $second) = @_;
	my $run = $first->start_slow_apply;

	is($node->safe_psql($database, 'SELECT role, login_role, mode FROM tfstate_holders'),
		"$first->{holder}|$first->{who}|durable", "$name: who holds the lock, in the mode of the table");
	$second->apply_fails("$name: the second run",
		qr/"net\.states\/default" is held by \Q$first->{who}\E/);
	$first->open_gate;
	is(($run->finish)[0], 0, "$name: the first run succeeds");
	$second->apply_ok("$name: then the second one succeeds");
	nothing_held($node, "$name: nothing is locked") if $database eq 'postgres';
	return;
}

sub named
{
	my ($role, $database, %params) = @_;
	my $project = project($role, $database,
		env => { PGAPPNAME => 'tfstate-run:' . uuid() }, %params);

	$project->{holder} = $params{holder} || $role;
	return $project;
}

# A database with nothing but states
$node->safe_psql('postgres', 'CREATE DATABASE states; CREATE ROLE platform');
$node->safe_psql(
	'states', q(
	CREATE EXTENSION tfstate;
	SELECT tfstate_attach_database('platform', search_path => true, mode => 'durable');
	SELECT tfstate_attach('net');
	CREATE ROLE vault_1 LOGIN IN ROLE platform;
	CREATE ROLE vault_2 LOGIN NOINHERIT IN ROLE platform;
	ALTER ROLE vault_2 SET role = 'platform';
));
{
	my $first = named('vault_1', 'states');
	my $second = named('vault_2', 'states', holder => 'platform');

	exclude_each_other('roles made later', 'states', $first, $second);
	is( $node->safe_psql('states', q(SELECT problem FROM tfstate_check() WHERE role ~ 'vault')),
		'', 'roles made later: tfstate_check() reports nothing');
	project('vault_1', 'states')->apply_fails('a run without a name',
		qr/the lock is to be durable, but this run has no name that it could belong to/);

	# A search_path of the client's own bypasses the lock, but not the guard.
	my $bypass = project('vault_1', 'states', conn_options => '&search_path=public');
	$node->safe_psql('states', q(SELECT tfstate_lock('net.states/default', '{"ID": "1"}')));
	$bypass->apply_fails('a search_path of the client',
		qr/cannot change the state of workspace "net\.states\/default"/);
	$node->safe_psql('states', q(SELECT tfstate_unlock('net.states/default', '1')));
}

# A database with other things: members get the settings themselves.
$node->safe_psql(
	'postgres', q(
	CREATE TABLE public.orders (id integer);
	SELECT tfstate_attach_database('platform', mode => 'durable');
	SELECT tfstate_attach('net');
));
{
	my $first = named('vault_1', 'postgres');
	my $second = named('vault_2', 'postgres', holder => 'platform');

	exclude_each_other('members', 'postgres', $first, $second);
	$node->safe_psql('postgres', 'CREATE ROLE vault_3 LOGIN IN ROLE platform');
	is( $node->safe_psql('postgres',
			q(SELECT DISTINCT role, remedy FROM tfstate_check() WHERE role ~ 'vault' AND severity = 'error')),
		'vault_3|SELECT public.tfstate_attach_members()', 'a new member: tfstate_check() names it, and what helps');
	is( $node->safe_psql('postgres', 'SELECT * FROM tfstate_attach_members()'),
		'role "vault_3" has got its settings, as a member of "platform"', 'a new member: one call');
	exclude_each_other('a new member', 'postgres', named('vault_3', 'postgres'), $first);
}

# Everything is as it was before.
$node->safe_psql($_, 'SELECT tfstate_detach_database(), tfstate_detach(schema) FROM tfstate_tables')
  foreach qw(states postgres);
is( $node->safe_psql('postgres',
		q(SELECT setconfig FROM pg_db_role_setting WHERE setdatabase <> 0)),
	'', 'undone: no setting is left');
$node->safe_psql('postgres', 'DROP ROLE vault_1, vault_2, vault_3, platform');

done_testing();
