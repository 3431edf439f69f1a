# Texts in another encoding than the database's: what comes from PGOPTIONS, from ALTER ROLE in
# another database and from names of roles never reaches a table, so that a dump can be
# restored and every client can read a conflict.  And settings that are refused if the
# library is preloaded.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('encoding');
my %databases = (postgres => 'UTF8', latin1 => 'LATIN1', ascii => 'SQL_ASCII');

foreach my $database ('latin1', 'ascii')
{
	$node->safe_psql('postgres',
		"CREATE DATABASE $database TEMPLATE template0 ENCODING '$databases{$database}' LC_COLLATE 'C' LC_CTYPE 'C'");
	$node->safe_psql($database, 'CREATE EXTENSION tfstate');
}

# Starts a session whose client has an encoding and options.
sub client
{
	my ($database, $encoding, $options, %params) = @_;

	local $ENV{PGCLIENTENCODING} = $encoding;
	local $ENV{PGOPTIONS} = $options || '';
	return session($node, dbname => $database, name => 'client', %params);
}

# Tests that a dump of a database can be restored, with the same contents.
sub restores
{
	my ($database) = @_;
	my $dump = "$PostgreSQL::Test::Utils::tmp_check/$database.sql";

	$node->command_ok(
		[ 'pg_dump', '--file', $dump, '--dbname', $node->connstr($database) ],
		"$database can be dumped");
	$node->safe_psql('postgres',
		"CREATE DATABASE restored TEMPLATE template0 ENCODING '$databases{$database}' LC_COLLATE 'C' LC_CTYPE 'C'");
	$node->command_ok(
		[
			'psql', '--no-psqlrc', '--quiet', '--set=ON_ERROR_STOP=1', '--file', $dump,
			'--output', '/dev/null', '--dbname', $node->connstr('restored')
		],
		"$database can be restored");
	my $query = 'SELECT (SELECT count(*) FROM tfstate_internal.durable_lock), (SELECT count(*) FROM tfstate_internal.released_lock)';
	is($node->safe_psql('restored', $query), $node->safe_psql($database, $query),
		"$database: the restored database has all locks and the whole history");
	$node->safe_psql('postgres', 'DROP DATABASE restored');
	return;
}

# An invalid value in PGOPTIONS: no lock is taken, and the message says why.
foreach my $setting ('tfstate.who', 'tfstate.operation', 'tfstate.info', 'tfstate.run_id')
{
	foreach my $value ("\xff", "x\xc3", "\xe6\x97")
	{
		my $session = client('postgres', 'UTF8',
			"-c $setting=" . ($setting eq 'tfstate.info' ? "{\"a\":\"$value\"}" : $value));

		$session->query("SELECT tfstate_lock('options')");
		like($session->{err}, qr/ERROR:  22023: .*$setting.*\?/m, "$setting in PGOPTIONS has to be valid");
		$session->quit;
	}
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM tfstate_holders'), 0, 'no lock is taken with invalid options');

# ALTER ROLE in a database with another encoding, and a role with such a name
my $alien = "r\xe9";
$node->safe_psql('postgres', 'CREATE ROLE admin SUPERUSER LOGIN');
my $latin1 = client('latin1', 'LATIN1');
$latin1->query_safe("ALTER ROLE admin SET tfstate.who = 'Ren\xe9'; CREATE ROLE \"$alien\" SUPERUSER LOGIN");
my $admin = client('postgres', 'UTF8', undef, user => 'admin');
$admin->query("SELECT tfstate_lock('role')");
like($admin->{err}, qr/22023: invalid value for parameter "tfstate.who": "Ren\?"/,
	'a value that is invalid here, set in another database, is refused');
$admin->quit;
$admin = client('latin1', 'UTF8', undef, user => 'admin');
$admin->query_safe("SELECT tfstate_lock('role', '{\"ID\": \"1\"}')");
is($admin->query_safe("SELECT who FROM tfstate_holders('role')"),
	"Ren\xc3\xa9", 'the value is accepted where it was set');
$admin->query_safe("SELECT tfstate_unlock('role')");
$admin->quit;
foreach my $database (sort keys %databases)
{
	my $session = client($database, $databases{$database}, undef, user => $alien);
	my $name = $database eq 'postgres' ? 'r?' : $alien;

	$session->query_safe("SELECT tfstate_lock('alien')");
	is($session->query_safe("SELECT who, role FROM tfstate_holders('alien')"),
		"$name\@[local]|$name", "$database: the name of a role is valid");
	$session->query_safe("SELECT tfstate_unlock('alien'); SELECT tfstate_lock('alien')");
	$session->quit;
}

# Long texts of multi-byte characters are cut between two characters, wherever the cut falls.
foreach my $database ('postgres', 'ascii')
{
	my $session = client($database, 'UTF8');

	foreach my $shift (0 .. 3)
	{
		my $who = ('x' x $shift) . ("\xe6\x97\xa5" x 200);
		my $id = ('x' x $shift) . ("\xe6\x97\xa5" x 80);

		$session->query_safe(
			"SELECT tfstate_lock('long/$shift', jsonb_build_object('Who', '$who', 'ID', '$id', 'Operation', '$who', 'Info', '$who'))");
		$session->query("SELECT tfstate_lock('long/$shift')");
		like($session->{err},
			qr/ERROR:  55P03: state lock "long\/$shift" is held by x{$shift}(\xe6\x97\xa5){84,85}\.\.\. \(this session\): x{$shift}(\xe6\x97\xa5){84,85}\.\.\. since/,
			"$database: a long text is cut between two characters");
		$session->query_safe("SELECT tfstate_unlock('long/$shift')");
	}
	$session->quit;
}

# Every client can read the conflict, with question marks for what cannot be shown to it, and
# the way out in its hint works.
sub conflict
{
	my ($database, $lockid, $encoding, $shown) = @_;
	my $session = client($database, $encoding);

	$session->query('SELECT tfstate_lock(lockid) FROM tfstate_internal.durable_lock WHERE id = \'odd\'');
	like($session->{err}, qr/ERROR:  55P03: state lock "$lockid" is held by $shown since/,
		"$database: a client with $encoding is shown the conflict");
	unlike($session->{err}, qr/22021|22P05|invalid byte|no equivalent/, '$database: a client with $encoding gets no other error');
	my ($call) = $session->{err} =~ /(SELECT \S*tfstate_force_unlock.*;)/;
	# not every client can read what the call returns
	$session->query_safe('BEGIN; ' . $call =~ s/SELECT (.*);/SELECT count($1);/r . ' ROLLBACK');
	$session->quit;
	return;
}
my $utf8 = client('postgres', 'UTF8');
$utf8->query_safe("SELECT tfstate_lock('\xe6\x97\xa5/\xc3\xa9', '{\"ID\": \"odd\", \"Who\": \"\xe6\x9c\xac \xc3\xa9 \xc2\x9b31m\"}')");
conflict('postgres', "\xe6\x97\xa5/\xc3\xa9", 'UTF8', "\xe6\x9c\xac \xc3\xa9   31m");
conflict('postgres', "\\?+/\xe9", 'LATIN1', "\\?+ \xe9 +31m");
conflict('postgres', "\\S+/\\S+", 'SQL_ASCII', '.*');
$utf8->quit;
$latin1->query_safe("SELECT tfstate_lock('\xe9', '{\"ID\": \"odd\", \"Who\": \"\xe9\x9b31m\"}')");
conflict('latin1', "\xe9", 'LATIN1', "\xe9 31m");
conflict('latin1', "\xc3\xa9", 'UTF8', "\xc3\xa9 31m");
my $ascii = client('ascii', 'SQL_ASCII');
$ascii->query_safe("SELECT tfstate_lock('ascii', '{\"ID\": \"odd\", \"Who\": \"\xe9 \xe6\x97\xa5 \xe6\x97\"}')");
conflict('ascii', 'ascii', 'SQL_ASCII', "\xe9 \xe6\x97\xa5 \xe6\x97");
conflict('ascii', 'ascii', 'UTF8', "\\? \xe6\x97\xa5 \\?+");
$_->quit foreach $latin1, $ascii;

restores($_) foreach sort keys %databases;

# If the library is preloaded, the server refuses bad values with a warning, and a lock call
# still fails.
$node->safe_psql('postgres', 'ALTER ROLE admin RESET ALL');
$node->safe_psql('postgres', 'CREATE ROLE other SUPERUSER LOGIN');
$node->safe_psql('postgres', 'ALTER ROLE admin SET "tfstate.mode" = \'durble\'');
$node->safe_psql('postgres', 'ALTER DATABASE latin1 SET "tfstate.wait" = \'10 mni\'');
$node->safe_psql('postgres', 'ALTER ROLE admin IN DATABASE ascii SET "tfstate.mdoe" = \'durable\'');
$node->safe_psql('postgres', 'ALTER ROLE ALL SET "tfstate.guard" = \'onn\'');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'tfstate'\ntfstate.operation = '\xff'\n");
$node->restart;
foreach my $case (
	[ 'ascii', 'other', '22023: invalid value for parameter "tfstate.guard": "onn"' ],
	[ 'postgres', 'admin', '22023: invalid value for parameter "tfstate.mode": "durble"' ],
	[ 'latin1', 'other', '22023: invalid value for parameter "tfstate.wait": "10 mni"' ],
	[ 'ascii', 'admin', '42704: unrecognized configuration parameter "tfstate.mdoe"' ],
	[ 'postgres', 'other', '22021: parameter "tfstate.operation" is "\?", which is not valid in encoding "UTF8"' ],
	[ 'ascii', 'other', '' ])
{
	my ($database, $role, $error) = @$case;
	my $session = client($database, $databases{$database}, undef, user => $role);

	$session->query_safe("SET tfstate.operation = ''") if $role eq 'admin' || $database eq 'latin1';
	# what counts is the role that has logged in
	$session->query_safe('SET ROLE ' . ($role eq 'admin' ? 'other' : 'admin'));
	$session->query("SELECT tfstate_lock('preloaded/$role')");
	like($session->{err}, $error ? qr/ERROR:  $error/ : qr/^$/, "preloaded: $role in $database");
	$node->safe_psql('postgres', 'ALTER ROLE ALL RESET "tfstate.guard"') if $error =~ /guard/;
	if ($role eq 'admin' && $database eq 'postgres')
	{
		$session->query_safe("SET tfstate.mode = durable; SELECT tfstate_lock('preloaded/set')");
		is($session->sqlstate, '', 'preloaded: after a valid value is set, the lock call succeeds');
	}
	$session->quit;
}

done_testing();
