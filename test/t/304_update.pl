# ALTER EXTENSION tfstate UPDATE, from each version that was released: the objects are then those
# of a fresh installation, locks and attached tables stay, and sessions that go on serve or say
# why not.  Before the update, the old objects work with the new library.

use strict;
use warnings;

use FindBin;
use Digest::SHA;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

# Released scripts are never edited: there are databases that they have created.
my %released = ('0.1' => 'cc153837b4dcb3a3ae7f5337f174c7603df5a6dd7b114b79b735c0b1866b0cc9');
# What an administrator can do when no session has the old library any more
my %stays = ('0.1' => 'DROP INDEX tfstate_internal.released_lock_released_at_idx');

my $node = tfstate_node('update');
my $scripts = $node->config_data('--sharedir') . '/extension';
my $version = sql("SELECT extversion FROM pg_extension WHERE extname = 'tfstate'");
my $objects = slurp_file("$FindBin::RealBin/../lib/extension_objects.sql");

is(sql(q(SELECT string_agg(version, ' ' ORDER BY version) FROM pg_available_extension_versions WHERE name = 'tfstate')),
	join(' ', sort(keys %released, $version)), 'the scripts are those of the releases and of this version');
$node->safe_psql('postgres', q(
	CREATE ROLE other SUPERUSER LOGIN;
	CREATE ROLE monitor;
	CREATE ROLE terraform LOGIN;
));

# Creates a database in which default privileges give rights on everything that is created.
sub create_database
{
	my ($name, @statements) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql($name, join(';', 'ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO monitor',
		'ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO monitor', @statements));
	return;
}

# The C functions of the extension: for each symbol what calls hand over.  One passes on
# whatever it is called with.
sub c_functions
{
	my ($database) = @_;

	return map { split /:/, $_, 2 } split /\n/, $node->safe_psql($database, q(
		SELECT prosrc || ':' || string_agg(DISTINCT concat_ws(' ', p.proargtypes::regtype[], p.prorettype::regtype, p.proretset, p.proisstrict), '; ')
		  FROM pg_proc p JOIN pg_depend d ON (d.classid, d.objid, d.deptype) = ('pg_proc'::regclass, p.oid, 'e')
			   JOIN pg_extension e ON e.oid = d.refobjid
		 WHERE e.extname = 'tfstate' AND p.probin IS NOT NULL AND p.prosrc <> 'tfstate_for_administrators' GROUP BY prosrc));
}

# Lines that only one of two texts has
sub differences
{
	my ($before, $after) = @_;
	my %count;

	$count{$_}-- foreach split(/\n/, $before);
	$count{$_}++ foreach split(/\n/, $after);
	return join("\n", map { ($count{$_} < 0 ? '- ' : '+ ') . $_ } grep { $count{$_} } sort keys %count);
}

create_database('fresh', 'CREATE EXTENSION tfstate');
create_database('fresh_named', 'CREATE SCHEMA "The Locks"', 'CREATE EXTENSION tfstate SCHEMA "The Locks"');
my %now = c_functions('fresh');
cmp_ok(scalar(keys %now), '>', 40, 'the library has functions');

foreach my $old (sort keys %released)
{
	my $name = "old_$old" =~ tr/./_/r;

	is(Digest::SHA->new(256)->addfile("$scripts/tfstate--$old.sql")->hexdigest, $released{$old}, "the script of $old is as it was released");
	unlike(slurp_file("$scripts/tfstate--$old--$version.sql"), qr/^-- by hand:/m, "the update from $old lacks nothing");

	# The old objects with the new library: as CREATE FUNCTION looks for each symbol, all are there.
	# One serves functions of any arguments.
	create_database($name, "CREATE EXTENSION tfstate VERSION '$old'");
	my %then = c_functions($name);
	delete $then{tfstate_for_administrators};
	is(join("\n", map { "$_: $then{$_}; now $now{$_}" } grep { exists $now{$_} && $now{$_} ne $then{$_} } sort keys %then),
		'', "$old: a function whose arguments or result have changed has another symbol");
	$node->safe_psql($name, q(
		SELECT tfstate_attach('tf', role => 'terraform');
		SELECT tfstate_lock('durable', '{"ID": "durable-id"}'), tfstate_lock('lease', '{"ID": "lease-id"}', ttl => '1 hour');
		SELECT tfstate_grant('monitor', 'team/*', 'view');
		SELECT tfstate_lock('tf.states/prod', '{"ID": "apply"}');
		INSERT INTO tf.states (name, data) VALUES ('prod', '{"version": 4, "serial": 1, "lineage": "a"}');
		SELECT tfstate_unlock('tf.states/prod', 'apply');
		GRANT SELECT ON tfstate_internal.durable_lock TO monitor;
	));

	# Sessions that hold or wait
	my $holder = session($node, dbname => $name);
	my $waiter = session($node, dbname => $name);
	my $update = "ALTER EXTENSION tfstate UPDATE TO '$version'";
	my $error;
	if ($old eq '0.1')
	{
		# A lock in session mode needs shared memory.  The library of 0.1 has a row for it.
		$holder->query("\\set VERBOSITY verbose\nSELECT tfstate_lock('held', mode => 'session')");
		like($holder->{err}, qr/55000: a lock in session mode needs the objects of a newer version of extension "tfstate"; run ALTER EXTENSION tfstate UPDATE\s+DETAIL:  Sequence "tfstate_internal.shared_memory" does not exist\./,
			"$old: no lock in session mode before the update");
		$holder->query_safe(q(SELECT tfstate_lock('held');
			INSERT INTO tfstate_internal.session_lock TABLE tfstate_internal.durable_lock));
		$holder->query_safe(q(DELETE FROM tfstate_internal.session_lock WHERE lockid <> 'held';
			SELECT tfstate_unlock('held')));
	}
	else
	{
		$holder->query_safe("SELECT tfstate_lock('held', mode => 'session')");
	}
	$node->psql($name, $update, stderr => \$error);
	like($error, qr/cannot update extension "tfstate" while sessions hold locks in session mode or wait for locks/,
		"$old: no update while there is a lock in session mode");
	like($error, qr/DETAIL:  Process $holder->{pid} holds "held"\.\nHINT:  Wait until they have released the locks, or end them with pg_terminate_backend\(\)\./,
		"$old: it tells who holds it");
	is($holder->query_safe($old eq '0.1' ? q(DELETE FROM tfstate_internal.session_lock RETURNING lockid) : q(SELECT tfstate_unlock('held') ->> 'Path')), 'held', "$old: the lock is still there");
	$waiter->send(q(CALL tfstate_wait_lock('durable', '{"ID": "waited"}')));
	wait_for('the waiter', sub { $node->safe_psql($name, 'SELECT count(*) FROM tfstate_waiters') eq '1' });
	$node->psql($name, "\\set VERBOSITY verbose\n$update", stderr => \$error);
	like($error, qr/55006: .*DETAIL:  Process $waiter->{pid} waits for "durable"\./s, "$old: no update while somebody waits");
	$node->safe_psql($name, "SELECT pg_cancel_backend($waiter->{pid})");
	$waiter->result;
	wait_for('the end of the wait', sub { $node->safe_psql($name, 'SELECT count(*) FROM tfstate_waiters') eq '0' });

	# An open transaction that takes a durable lock ends first
	$holder->query_safe(q(BEGIN; SELECT tfstate_lock('open')));
	my $updater = session($node, dbname => $name, user => 'other');
	$updater->send($update);
	wait_for('the update to wait', sub {
		$node->safe_psql($name, "SELECT cardinality(pg_blocking_pids($updater->{pid}))") eq '1' });
	$waiter->send(q(SELECT locked FROM tfstate_try_lock('meanwhile')));
	$holder->query_safe('COMMIT');
	$updater->result;
	like($updater->{err}, qr/\Apsql:<stdin>:\d+: WARNING:  01000: index "tfstate_internal\.released_lock_released_at_idx" is left for sessions that are connected now\nHINT:  Drop it when they have ended\.\nLOCATION: [^\n]*\n?\z/,
		"$old: the update works, by another superuser, and says what it leaves");
	is($waiter->result, 't', "$old: a session that took a lock meanwhile goes on");
	is($holder->query(q(SELECT tfstate_unlock('open') ->> 'Path')), 'open', "$old: so does one that has used the old objects");

	# What is there afterwards
	my $there = sub { $node->safe_psql($name, $_[0]) };
	is($there->("SELECT has_table_privilege('monitor', 'tfstate_internal.durable_lock', 'SELECT')"), 't', "$old: what an administrator has granted stays");
	$there->('REVOKE SELECT ON tfstate_internal.durable_lock FROM monitor');
	# What stays if other sessions, perhaps with the old library, are connected
	$there->($stays{$old});
	is(differences($node->safe_psql('fresh', $objects), $there->($objects)), '', "$old: the objects are those of a fresh installation");
	is($there->("SELECT locked, id FROM tfstate_try_lock('durable')"), 'f|durable-id', "$old: a durable lock is still held");
	is($there->("SELECT tfstate_renew('lease', 'lease-id') > now()"), 't', "$old: a lease can be renewed");
	is($there->("SELECT role, pattern FROM tfstate_grants WHERE privilege = 'view'"), 'monitor|team/*', "$old: grants are there");
	is($there->("SELECT count(*) FROM tfstate_versions('tf.states/prod')"), '1', "$old: versions are there");
	$node->psql($name, q(UPDATE tf.states SET data = '{"version": 4, "serial": 2, "lineage": "a"}' WHERE name = 'prod'), stderr => \$error);
	like($error, qr/ERROR:/, "$old: an attached table is guarded");
	is($there->(q(SELECT tfstate_lock('tf.states/prod', '{"ID": "again"}') IS NOT NULL;
			UPDATE tf.states SET data = '{"version": 4, "serial": 2, "lineage": "a"}' WHERE name = 'prod';
			SELECT serial FROM tfstate_states('tf.states/prod'))), "t\n2", "$old: it is written with the lock");
	is($there->('SELECT * FROM tfstate_verify()'), '', "$old: tfstate_verify() finds nothing");
	is($there->(q(SELECT severity, problem FROM tfstate_check() WHERE severity = 'error' AND problem !~ '^fsync')), '', "$old: tfstate_check() finds no error");

	# In a schema of its own, by another superuser who does not own the extension, while nobody
	# else is connected
	create_database("${name}_named", 'CREATE SCHEMA "The Locks"', qq(CREATE EXTENSION tfstate SCHEMA "The Locks" VERSION '$old'));
	wait_for('the end of other sessions',
		sub { $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = '${name}_named'") eq '0' });
	$node->psql("${name}_named", $update, extra_params => [ '-U', 'other' ], stderr => \$error);
	is($error, '', "$old: nothing is left where nobody else is connected");
	is(differences($node->safe_psql('fresh_named', $objects), $node->safe_psql("${name}_named", $objects)), '',
		"$old: the objects in another schema are those of a fresh installation there");
	$_->quit foreach $holder, $waiter, $updater;
}

# A session whose library is not that of the objects is told, also if it has looked at them before.
my $session = session($node);
is($session->query_safe(q(SELECT locked FROM tfstate_try_lock('a'))), 't', 'a session has used the library');
sql('UPDATE tfstate_internal.installation SET protocol = protocol + 1; ALTER TABLE tfstate_internal.installation ALTER COLUMN key SET STATISTICS 0');
$session->query(q(SELECT tfstate_lock('b')));
like($session->{err}, qr/extension "tfstate" in this database has protocol \d+, but the library has protocol/, 'it is told that the protocol has changed');
sql('UPDATE tfstate_internal.installation SET protocol = protocol - 1; ALTER TABLE tfstate_internal.installation ALTER COLUMN key SET STATISTICS 0');
is($session->query_safe(q(SELECT tfstate_unlock('a') ->> 'Path')), 'a', 'and goes on when it is as before');

done_testing();
