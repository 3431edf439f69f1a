# A dump of a database with the extension restores into an equal one: locks, history, grants,
# attached tables, states, versions and the fences, which keep growing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('dump_restore');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $dumps = 0;

sub sql_in
{
	my ($db, $sql) = @_;
	return $node->safe_psql($db, $sql);
}

# Dumps a database as a role and restores it as the superuser into a new one, without any
# error; with -Fc or -Fd among the options, by pg_restore in parallel.
sub dump_and_restore
{
	my ($from, $role, $to, @options) = @_;

	sql_in('postgres', "CREATE DATABASE $to TEMPLATE template0");
	dump_into($from, $role, $to, @options);
	return;
}

sub dump_into
{
	my ($from, $role, $to, @options) = @_;
	my $file = "$dir/" . ++$dumps;

	$node->command_ok([ 'pg_dump', '-U', $role, '-f', $file, @options, $from ],
		"$to: dump of $from by $role: @options");
	$node->command_ok(
		grep(/^-F/, @options)
		? [ 'pg_restore', '-e', '-j', '2', '-d', $to, $file ]
		: [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $to, '-f', $file ],
		"$to: the dump restores without errors");
	return;
}

# Everything that has to be restored.  The OIDs in regclass and regrole columns are shown by
# name.
my %contents = (
	holders =>
	  'SELECT lockid, who, operation, mode, id, fence, created, expires_at, role, application_name, pid, info FROM %1$s.tfstate_holders ORDER BY 1',
	history =>
	  'SELECT lockid, who, created, released_at, how, released_by, reason, mode, id, fence, role, pid, info FROM %1$s.tfstate_history ORDER BY lockid, fence',
	grants =>
	  'SELECT role, pattern, privilege, grantor, granted_at FROM %1$s.tfstate_grants ORDER BY 1, 2, 3',
	'attached tables' =>
	  'SELECT relid, attached_by, attached_at, guard, keep_versions, keep_age FROM tfstate_internal.attached_table ORDER BY 3',
	'attached roles' =>
	  'SELECT relid, role, access FROM tfstate_internal.attached_role ORDER BY 1',
	given =>
	  'SELECT relid, role, kind, object, value, replaced FROM tfstate_internal.given ORDER BY 1, 2, 3, 4',
	states => 'SELECT id, name, data FROM tf.states ORDER BY 1',
	versions =>
	  'SELECT v.*, %1$s.tfstate_version(workspace, number) FROM %1$s.tfstate_versions v ORDER BY workspace, number',
	triggers =>
	  'SELECT tgrelid::regclass, tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgrelid::regclass::text, tgname',
	freezes => 'SELECT * FROM %1$s.tfstate_freezes',
	'last fence' => 'SELECT last_value FROM tfstate_internal.fence');

sub contents_of
{
	my ($db, $schema) = @_;
	return map { $_ => sql_in($db, sprintf($contents{$_}, $schema)) } keys %contents;
}

sub check_contents
{
	my ($db, $schema, %before) = @_;

	foreach my $name (sort keys %before)
	{
		isnt($before{$name}, '', "$db: the dumped database has $name");
		is(sql_in($db, sprintf($contents{$name}, $schema)), $before{$name}, "$db: $name are restored");
	}
	return;
}

sub check_equal
{
	my ($from, $to, $schema) = @_;

	check_contents($to, $schema, contents_of($from, $schema));
	return;
}

# Locks work in the restored database: what was held is held, what was not is free, and each
# fence is larger than all before.
sub check_works
{
	my ($db, $schema, $fence) = @_;
	my $session = session($node, dbname => $db);

	$session->query_safe("SET search_path = $schema, public");
	is( $session->query_safe(
			"SELECT locked, holder ->> 'Who' FROM tfstate_try_lock('prod/durable')"
		),
		'f|alice@laptop',
		"$db: the durable lock is refused");
	is( $session->query_safe(
			"SELECT locked, fence > $fence FROM tfstate_try_lock('prod/session', '{}', 'session')"
		),
		't|t',
		"$db: the session lock can be taken, with a larger fence");
	is( $session->query_safe(
			"SELECT tfstate_unlock('prod/durable', 'durable-id') ->> 'Operation'"
		),
		'apply',
		"$db: the durable lock is released by its ID");
	is( $session->query_safe(
			"SELECT locked, fence > $fence FROM tfstate_try_lock('prod/durable')"),
		't|t',
		"$db: the durable lock can be taken again, with a larger fence");
	is( $session->query_safe(
			"SELECT extract(epoch FROM tfstate_renew('prod/lease', 'lease-id') - now()) > 3500"
		),
		't',
		"$db: the lease can be renewed");

	# The workspace of the attached table, through the shim
	my $id = $session->query_safe("SELECT id FROM tf.states WHERE name = 'default'");
	is($session->query_safe("SELECT tfstate_pg.pg_try_advisory_lock($id)"),
		't', "$db: Terraform can lock a workspace");
	is( $session->query_safe(
			"SELECT lockid FROM tfstate_holders('tf.*') WHERE session_alive"),
		'tf.states/default',
		"$db: the lock is on the lockid of the workspace");
	$session->query_safe("SELECT tfstate_pg.pg_advisory_unlock($id)");

	# Versions are as they were recorded, and the next one follows.
	is($session->query_safe("SELECT count(*) FROM tfstate_verify('tf.states/*', true)"),
		'0', "$db: the states and their versions verify");
	is($session->query_safe("SELECT tfstate_rollback('tf.states/prod', 1)"),
		'3', "$db: a version can be rolled back to");
	is( $session->query_safe(
			"SELECT chain FROM tfstate_internal.stored_version WHERE lockid = 'tf.states/prod' ORDER BY number"
		),
		"0\n1\n2",
		"$db: the rollback stores a delta to the last version");

	# The guard of attached tables
	$session->query(q(UPDATE "A schema"."a table" SET data = data || ' '));
	is($session->sqlstate, '55000', "$db: a table is guarded as it was");
	is( $session->query_safe(
			q(SELECT DISTINCT role FROM tfstate_check() WHERE problem ~ 'search_path')),
		$db =~ /_created$/ ? '' : 'dump_locker',
		"$db: tfstate_check() reports whether the settings of a role are missing");

	# The grant
	my $user = session($node, dbname => $db, user => 'dump_locker');
	$user->query_safe("SET search_path = $schema, public");
	is($user->query("SELECT locked FROM tfstate_try_lock('team/a')"),
		't', "$db: a role with a grant may lock");
	$user->query("SELECT tfstate_unlock('team/a')");
	$user->query("SELECT tfstate_try_lock('prod/new')");
	is($user->sqlstate, '42501', "$db: a role with a grant may lock only what it was granted");
	$_->quit foreach $session, $user;
	return;
}

sql_in('postgres', 'CREATE ROLE dump_locker LOGIN');
sql_in('postgres', 'CREATE ROLE dump_reader LOGIN');
sql_in('postgres', 'GRANT pg_read_all_data TO dump_reader');

# A state long enough to be stored as deltas
my $state =
  q((SELECT format('{"serial":1,"lineage":"a","outputs":{"a":{"value":"%s"}}}', string_agg(md5(n::text), '')) FROM generate_series(1, 100) n));

# The extension in schema public, in a schema of its own that existed before, and in one
# whose name needs quotes
foreach my $case ([ 'plain', 'public' ], [ 'own', 'locks' ], [ 'quoted', '"The Locks"' ])
{
	my ($db, $schema) = @$case;

	sql_in('postgres', "CREATE DATABASE $db");
	sql_in($db, "CREATE SCHEMA $schema") if $schema ne 'public';
	sql_in($db, "GRANT USAGE ON SCHEMA $schema TO PUBLIC");
	sql_in($db, "CREATE EXTENSION tfstate SCHEMA $schema");

	my $holder = session($node, dbname => $db, name => 'holder');
	$holder->query_safe("SET search_path = $schema, public");
	$holder->query_safe("SELECT tfstate_attach('tf', 'states', role => 'dump_locker', guard => 'on')");
	$holder->query_safe(
		"SELECT tfstate_attach('A schema', 'a table', guard => 'require', keep_versions => 5, keep_age => '30 days')"
	);
	$holder->query_safe("SELECT tfstate_attach('tf', 'gone')");
	$holder->query_safe("SELECT tfstate_detach('tf', 'gone')");
	$holder->query_safe("INSERT INTO tf.states (name, data) VALUES ('prod', $state)");
	$holder->query_safe(
		q(UPDATE tf.states SET data = replace(data, '"serial":1', '"serial":2') WHERE name = 'prod')
	);
	$holder->query_safe(
		q(SELECT tfstate_lock('prod/durable', '{"ID": "durable-id", "Who": "alice@laptop", "Operation": "apply", "other": [1]}'))
	);
	$holder->query_safe(
		q(SELECT tfstate_lock('prod/lease', '{"ID": "lease-id"}', ttl => '1 hour')));
	$holder->query_safe(q(SELECT tfstate_lock('prod/"quote''', wait => '0')));
	$holder->query_safe("SELECT tfstate_lock('old')");
	$holder->query_safe("SELECT tfstate_unlock('old')");
	$holder->query_safe("SELECT tfstate_lock('old')");
	$holder->query_safe("SELECT tfstate_force_unlock('old', reason => 'left over')");
	$holder->query_safe("SELECT tfstate_grant('dump_locker', 'team/*')");
	$holder->query_safe("SELECT tfstate_freeze('frozen/*', 'for the dump', '2100-01-01', '{dump_locker}')");
	$holder->query_safe("SELECT tfstate_grant('public', 'team/*', 'view')");
	$holder->query_safe("SELECT tfstate_grant('dump_reader', 'prod/*', 'force')");
	my $fence = $holder->query_safe(
		"SELECT fence FROM tfstate_lock('prod/session', '{}', 'session')");

	# A session lock is not dumped.
	my $shown = sql_in($db, "SELECT count(*) FROM $schema.tfstate_holders WHERE mode = 'session'");
	is($shown, 1, "$db: a session lock is held while the database is dumped");
	dump_and_restore($db, 'dump_reader', "${db}_by_reader");
	$holder->query_safe("SELECT tfstate_unlock('prod/session')");
	check_equal($db, "${db}_by_reader", $schema);
	check_works("${db}_by_reader", $schema, $fence);
	if ($schema eq 'public')
	{
		my $superuser = sql_in('postgres', 'SELECT current_user');

		dump_and_restore($db, $superuser, "${db}_inserts", '--inserts');
		check_equal($db, "${db}_inserts", $schema);
		dump_and_restore("${db}_inserts", $superuser, "${db}_again");
		check_equal($db, "${db}_again", $schema);
		dump_into($db, $superuser, "${db}_again", '--clean', '--if-exists');
		check_equal($db, "${db}_again", $schema);
		check_works("${db}_again", $schema, $fence);

		dump_and_restore($db, $superuser, "${db}_custom", '-Fc');
		check_equal($db, "${db}_custom", $schema);
		check_works("${db}_custom", $schema, $fence);
		dump_and_restore($db, $superuser, "${db}_directory", '-Fd', '-j', '2');
		check_equal($db, "${db}_directory", $schema);

		# A restore of the data alone fires the triggers of the tables, unless they are disabled.
		dump_and_restore($db, $superuser, "${db}_parts", '--schema-only');
		dump_into($db, $superuser, "${db}_parts", '--data-only', '--disable-triggers');

		# that leaves them enabled in another way than they were
		my $remedy = sql_in("${db}_parts",
			"SELECT string_agg(remedy, '; ' ORDER BY remedy) FROM $schema.tfstate_check() WHERE remedy ~ 'ENABLE ALWAYS TRIGGER'");
		like($remedy,
			qr/^ALTER TABLE tfstate_internal."?freeze"? ENABLE ALWAYS TRIGGER \w+; ALTER TABLE .*tfstate_internal.durable_lock ENABLE ALWAYS TRIGGER \w+$/,
			"${db}_parts: tfstate_check() tells how to enable the triggers of locks and freezes again");
		sql_in("${db}_parts", $remedy);
		check_equal($db, "${db}_parts", $schema);
		check_works("${db}_parts", $schema, $fence);
	}
	$holder->quit;
}

# With the database itself, the settings that tfstate_attach() gave to roles are dumped.
{
	my %before = contents_of('plain', 'public');
	my $fence = sql_in('plain', 'SELECT last_value FROM tfstate_internal.fence');
	my $file = "$dir/created.sql";

	sql_in('postgres', 'ALTER DATABASE plain RENAME TO plain_created');
	$node->command_ok([ 'pg_dump', '-C', '-f', $file, 'plain_created' ],
		'a database is dumped with its settings');
	sql_in('postgres', 'DROP DATABASE plain_created');
	$node->command_ok(
		[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'postgres', '-f', $file ],
		'the database with its settings restores without errors');
	check_contents('plain_created', 'public', %before);
	check_works('plain_created', 'public', $fence);
}

# A role is dumped by its current name.  A role that is missing at the restore is nobody
# there: its locks and grants are shown, and give no right to anybody, not even to a role
# that gets the name later.
{
	my $file = "$dir/role.sql";
	my $before = sql_in('own', 'SELECT lockid FROM locks.tfstate_holders ORDER BY 1');

	foreach my $role ('dump_leaver', 'dump_leaver2', 'dump_old')
	{
		sql_in('postgres', "CREATE ROLE $role LOGIN");
		sql_in('own', "SELECT locks.tfstate_grant('$role', 'left/*'), locks.tfstate_attach('tf', role => '$role')");
		my $user = session($node, dbname => 'own', user => $role);
		$user->query_safe("SELECT locks.tfstate_lock('left/$role', '{\"ID\": \"$role\"}')");
		$user->query_safe("SELECT locks.tfstate_unlock('left/past', id) FROM locks.tfstate_lock('left/past')");
		$user->quit;
	}
	sql_in('own', "SELECT locks.tfstate_grant('dump_locker', 'left/*')");
	sql_in('postgres', 'ALTER ROLE dump_old RENAME TO dump_new');
	$node->command_ok([ 'pg_dump', '-f', $file, 'own' ], 'a database is dumped with roles that will be missing');
	sql_in('own', 'SELECT locks.tfstate_detach(\'tf\')');
	sql_in('own', "DROP OWNED BY $_"), sql_in('postgres', "DROP ROLE $_")
	  foreach 'dump_leaver', 'dump_leaver2';
	sql_in('postgres', 'CREATE DATABASE roleless');
	# the grants on the tables of states fail, and nothing else
	my (undef, undef, $stderr) = $node->psql('roleless', slurp_file($file), on_error_stop => 0);
	my @errors = grep { !/role "dump_leaver2?" does not exist/ } $stderr =~ /ERROR: .*/g;
	is("@errors", '', 'without the roles, everything but their grants on tables restores');
	sql_in('postgres', "CREATE ROLE $_ LOGIN") foreach 'dump_leaver', 'dump_old';
	is( sql_in('roleless', "SELECT string_agg(role, ' ' ORDER BY role) FROM locks.tfstate_grants WHERE pattern = 'left/*'"),
		'dump_leaver dump_leaver2 dump_locker dump_new',
		'missing roles: their grants are shown');
	is( sql_in('roleless',
			"SELECT string_agg(lockid || ' ' || role, ', ' ORDER BY lockid) FROM locks.tfstate_holders('left/*')"
		),
		'left/dump_leaver dump_leaver, left/dump_leaver2 dump_leaver2, left/dump_old dump_new',
		'missing roles: their locks are shown');
	is( sql_in('roleless',
			"SELECT string_agg(role, ' ' ORDER BY fence) FROM locks.tfstate_history('left/past')"),
		'dump_leaver dump_leaver2 dump_new', 'missing roles: the history shows what they did');
	is( sql_in('roleless',
			"SELECT string_agg(role::text || ' ' || role_name, ', ' ORDER BY role_name) FROM tfstate_internal.attached_role WHERE role_name <> 'dump_locker'"
		),
		'none dump_leaver, none dump_leaver2, dump_new dump_old',
		'missing roles: the tables to which they were attached are shown');
	is(sql_in('roleless', "SELECT lockid FROM locks.tfstate_holders WHERE lockid !~ '^left' ORDER BY 1"),
		$before, 'missing roles: all other locks are held');
	is( sql_in('roleless', "SELECT * FROM locks.tfstate_verify('tf.states/*', true)"),
		'', 'missing roles: the states and their versions are restored');

	foreach my $role ('dump_leaver', 'dump_old')
	{
		my $user = session($node, dbname => 'roleless', user => $role);
		$user->query("SELECT locks.tfstate_lock('left/new')");
		is($user->sqlstate, '42501', "a new role $role has no grant");
		sql_in('roleless', "SELECT locks.tfstate_grant('$role', 'left/*')");
		$user->query("SELECT locks.tfstate_unlock('left/$role', '$role')");
		is($user->sqlstate, '42501', "a new role $role does not have the lock");
		$user->quit;
	}
	my $user = session($node, dbname => 'roleless', user => 'dump_new');
	is($user->query("SELECT locks.tfstate_unlock('left/dump_old', 'dump_old') ->> 'ID'"),
		'dump_old', 'the renamed role still has its lock');
	$user->quit;
	is( sql_in('roleless', "SELECT locks.tfstate_force_unlock('left/dump_leaver') ->> 'ID'"),
		'dump_leaver', 'the lock of a missing role can be released by force');
	sql_in('roleless', "SELECT locks.tfstate_revoke('dump_leaver2', 'left/*')");
	is( sql_in('roleless', "SELECT count(*) FROM locks.tfstate_grants WHERE role = 'dump_leaver2' AND pattern = 'left/*'"),
		'0', 'the grant of a missing role can be revoked');
}

# A dump of a schema with an attached table: the triggers belong to the table, and restore
# where the extension is installed, attached or not.
{
	my $file = "$dir/table.sql";

	$node->command_ok(
		[ 'pg_dump', '-f', $file, '-n', 'tf', 'plain_again' ],
		'a schema with an attached table is dumped');
	sql_in('postgres', 'CREATE DATABASE table_only');
	sql_in('table_only', 'CREATE EXTENSION tfstate');
	sql_in('table_only', 'CREATE SEQUENCE public.global_states_id_seq');
	$node->command_ok(
		[
			'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'table_only',
			'-f', $file
		],
		'a schema with an attached table restores without errors');
	is(sql_in('table_only', "SELECT count(*) FROM tf.states"),
		2, 'the restored table has its workspaces');

	# The restored triggers must not prevent attaching the table.
	my $session = session($node, dbname => 'table_only');
	my $insert =
	  q(INSERT INTO tf.states (id, name, data) VALUES (100, 'new', '{"serial":1,"lineage":"a"}'));
	$session->query($insert);
	is($session->sqlstate, '55000', 'the restored table cannot be written unguarded');
	$session->query("SELECT tfstate_attach('tf', 'states', guard => 'on')");
	is($session->{err}, '', 'the restored table is not attached');
	is($session->query_safe('SELECT relid FROM tfstate_internal.attached_table'),
		'tf.states', 'the restored table can be attached');
	$session->query_safe($insert);
	is( $session->query_safe('SELECT workspace, number, operation FROM tfstate_versions ORDER BY 1'),
		"tf.states/default|1|found\ntf.states/new|1|write\ntf.states/prod|1|found",
		'the restored table gets versions after that');
	$session->quit;
}

done_testing();
