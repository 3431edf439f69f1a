# Settings at login: members of attached roles get what Terraform needs when they log in, and
# nobody is kept from logging in, whatever is wrong with tfstate.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('login', init => { allows_streaming => 1 });

$node->safe_psql('postgres', 'CREATE ROLE platform; CREATE ROLE other LOGIN; CREATE TABLE orders (id integer)');
$node->safe_psql('postgres', q(SELECT tfstate_attach('net', role => 'platform')));

if ($node->safe_psql('postgres', 'SHOW server_version_num') < 170000)
{
	$node->psql('postgres', 'SELECT tfstate_attach_database(login => true)', stderr => \my $error, on_error_stop => 0, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($error, qr/0A000: settings at login need PostgreSQL 17 or later/, 'before PostgreSQL 17 it is refused');
	like($error, qr/tfstate_attach_members\(\)/, 'and it is said what to call instead');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM tfstate_internal.attached_database'), '0', 'nothing is changed');
	note('skipped: PostgreSQL before 17 has no event triggers for logins');
	done_testing();
	exit;
}

# Returns what a statement returns as a role, and what the server says beside that.
sub as_role
{
	my ($role, $sql, %params) = @_;
	my $server = $params{node} || $node;
	my ($stdout, $stderr) = ('', '');

	local $ENV{PGOPTIONS} = $params{options} || '';
	my $status = $server->psql('postgres', $sql, extra_params => [ '-U', $role ], stdout => \$stdout, stderr => \$stderr);
	return $status == 0 ? "$stdout$stderr" : "status $status: $stderr";
}

my $path = 'tfstate_pg, pg_catalog, public';
$node->safe_psql('postgres', q(
	SELECT tfstate_attach_database(login => true);
	CREATE ROLE vault_1 LOGIN IN ROLE platform;
	CREATE ROLE vault_2 LOGIN NOINHERIT IN ROLE platform;
	CREATE ROLE own LOGIN IN ROLE platform;
	ALTER ROLE own SET search_path = mine;
	ALTER ROLE own IN DATABASE postgres SET idle_session_timeout = '1h';
));

is($node->safe_psql('postgres', q(SELECT obj_description(oid) FROM pg_event_trigger)),
	'gives members of roles attached to tfstate the settings for Terraform', 'there is an event trigger');
foreach my $role (qw(vault_1 vault_2))
{
	is(as_role($role, q(SHOW search_path; SHOW idle_session_timeout; SHOW log_parameter_max_length; SHOW tcp_keepalives_idle)),
		"$path\n0\n0\n0", "$role, made later, has the settings"); # no keepalives on a socket
	is(as_role($role, q(SELECT pg_try_advisory_lock(id) FROM net.states), options => $role eq 'vault_2' ? '-c role=platform' : ''), 't',
		"$role locks through tfstate");
}
is(as_role('vault_1', 'BEGIN; ROLLBACK; RESET search_path; SHOW search_path'), '"$user", public', 'they are those of the session');
is(as_role('other', 'SHOW search_path'), '"$user", public', 'another role has no settings');
is(as_role('own', 'SHOW search_path; SHOW idle_session_timeout'), "mine\n1h", 'what is set for the role itself stays');
is(as_role('vault_1', 'SHOW search_path', options => '-c search_path=public'), 'public', 'what the client sets stays');
is(as_role('vault_1', 'SHOW search_path', options => '-c default_transaction_read_only=on'), $path, 'in a read-only session');
is($node->safe_psql('postgres', q(SELECT role, split_part(problem, ',', 1) FROM tfstate_check() WHERE role ~ 'vault|own' AND severity = 'error' ORDER BY 1, 2)),
	"own|Terraform does not lock through tfstate\nown|idle_session_timeout ends a run that is busy elsewhere for 01:00:00",
	'tfstate_check() reports only what a role has set for itself');

# On a standby
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
is(as_role('vault_1', 'SHOW search_path', node => $standby), $path, 'on a standby the role has the settings');
is(as_role('other', 'SELECT 1', node => $standby), '1', 'on a standby another role logs in');
$standby->stop;

# Whatever is wrong, everybody logs in.
my %wrong = (
	'without the library' => [
		q(UPDATE pg_proc SET probin = '$libdir/tfstate_missing' WHERE probin = '$libdir/tfstate'),
		q(UPDATE pg_proc SET probin = '$libdir/tfstate' WHERE probin = '$libdir/tfstate_missing') ],
	'without a table' => [ 'ALTER TABLE tfstate_internal.attached_role RENAME TO gone', 'ALTER TABLE tfstate_internal.gone RENAME TO attached_role' ],
	'with a function that fails' => [
		q(ALTER FUNCTION tfstate_internal.path_with_shim(oid) RENAME TO gone),
		q(ALTER FUNCTION tfstate_internal.gone(oid) RENAME TO path_with_shim) ],
	'with a function that is canceled' => [
		q(ALTER FUNCTION tfstate_internal.needs_login_settings() RENAME TO gone;
		  CREATE FUNCTION tfstate_internal.needs_login_settings() RETURNS boolean LANGUAGE plpgsql AS
			'BEGIN PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN false; END'),
		q(DROP FUNCTION tfstate_internal.needs_login_settings();
		  ALTER FUNCTION tfstate_internal.gone() RENAME TO needs_login_settings) ]);
foreach my $what (sort keys %wrong)
{
	my ($break, $mend) = @{ $wrong{$what} };
	my $fails = qr/^1\n?.*WARNING:  the settings for Terraform could not be made: /s;

	$node->safe_psql('postgres', $break);
	like(as_role('vault_1', 'SELECT 1'), $fails, "$what: a member logs in, and is warned");
	like(as_role('other', 'SELECT 1'), qr/^1/, "$what: another role logs in");
	is($node->safe_psql('postgres', 'SELECT 1'), '1', "$what: a superuser logs in");
	$node->safe_psql('postgres', $mend);
}
is(as_role('vault_1', 'SHOW search_path'), $path, 'afterwards the settings are there again');

# It is dumped with the database, and ends with it.
$node->safe_psql('postgres', 'SELECT tfstate_attach_database(login => false); CREATE ROLE vault_3 LOGIN IN ROLE platform');
is(as_role('vault_3', 'SHOW search_path'), '"$user", public', 'switched off, a login is as before');
$node->safe_psql('postgres', q(SELECT tfstate_attach_database(login => true); SELECT tfstate_detach_database()));
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_event_trigger'), '0', 'tfstate_detach_database() removes the trigger');

done_testing();
