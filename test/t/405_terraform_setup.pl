# Set-ups of Terraform with tfstate: the right ones work, and the wrong ones end with an
# error that says what is wrong, before anything is locked or written.

use strict;
use warnings;

use FindBin;
use Sys::Hostname;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('setup');

sub project
{
	my ($schema, %params) = @_;
	return Terraform->new(
		$node,
		schema => $schema,
		who => 'alice',
		%params);
}

# Returns the part of the result of tfstate_attach() that goes into main.tf, and the
# environment variables in it, as the shell of a user with an awkward name makes them.
my $bin = PostgreSQL::Test::Utils::tempdir();
append_to_file("$bin/id", "#!/bin/sh\nprintf '%s\\n' 'DOMAIN\\al ice'\n");
chmod 0755, "$bin/id" or die "$bin/id: $!";
sub backend_block
{
	my ($text) = @_;

	$text =~ /^(terraform \{\n.*?^\}\n)/ms or die "no backend block in: $text";
	return $1;
}

sub exported
{
	my ($text) = @_;
	my @names = $text =~ /^export (\w+)=/mg;
	my $printed = join "\n", $text =~ /^export .*$/mg;
	local $ENV{PATH} = "$bin:$ENV{PATH}";
	my ($values) = run_command([ 'sh', '-ec', join "\n", $printed, map { "printf '%s\\n' \"\$$_\"" } @names ]);
	my @values = split /\n/, $values;
	return { map { $names[$_] => $values[$_] } 0 .. $#names };
}

# A table that tfstate_attach() has made, with an empty workspace "default": the first apply
# locks the id of that row, and never the creation key.  The result is pasted as it is, and
# the role has only what that one call gave it.
{
	my $text = attach($node, 'fresh');
	my $exported = exported($text);
	my $port = $node->port;
	like($exported->{PG_CONN_STR}, qr/\@HOST:$port\//, 'fresh table: through a socket, the host is left to be filled in');
	$exported->{PG_CONN_STR} =~ s/HOST/127.0.0.1/;
	my $p = project(
		'fresh',
		init => 0,
		config => backend_block($text) . Terraform::network(),
		env => $exported);
	delete $p->{env}{PG_SCHEMA_NAME};

	$p->run_ok('fresh table: init', 'init');
	$p->run_ok('fresh table: plan', 'plan');
	is(state_of($node, 'fresh'), '0|', 'fresh table: plan writes nothing');
	my $run = $p->start_slow_apply;
	is(sql('SELECT lockid FROM tfstate_holders'),
		'fresh.states/default',
		'fresh table: the first apply holds only the lock of its workspace');
	is(sql('SELECT who, operation, role FROM tfstate_holders'),
		'DOMAIN\al ice@' . hostname() . '||terraform', 'fresh table: the settings are those of the printed environment');
	$p->open_gate;
	my ($status, $output) = $run->finish;
	is($status, 0, 'fresh table: the first apply succeeds') or diag($output);
	is(state_of($node, 'fresh'), '1|alice', 'fresh table: the first apply has written its state');
	is(sql('SELECT DISTINCT lockid FROM tfstate_history'),
		'fresh.states/default',
		'fresh table: the creation key was never locked');
	nothing_held($node, 'fresh table: no lock is left');
}

# Over TCP the address is known.  The environments for CI services have values that the server
# takes, once their variables are replaced.
{
	my @tcp = ('-h', '127.0.0.1', '-p', $node->port, '-XAt', '-d', 'postgres', '-U', sql('SELECT current_user'));
	my ($shell) = run_command([ 'psql', @tcp, '-c', "SELECT tfstate_configuration('fresh', role => 'terraform')" ]);
	my $port = $node->port;
	like($shell, qr/="postgres:\/\/terraform\@127\.0\.0\.1:$port\/postgres\?sslmode=disable"$/m,
		'configuration: over TCP the host is filled in');
	foreach my $service (qw(github gitlab))
	{
		my $text = sql("SELECT tfstate_configuration('fresh', role => 'terraform', format => '$service')");
		my ($options) = $text =~ /^  PGOPTIONS: '(.*)'$/m;
		$options =~ s/\$\{\{ github\.(\w+) \}\}|\$(\w+)/lc($1 || $2)/ge;
		local $ENV{PGOPTIONS} = $options;
		my ($set) = run_command([ 'psql', @tcp, '-c', q(SELECT current_setting('tfstate.who'), current_setting('tfstate.info')) ]);
		is($set,
			{ github => 'actor|{"Info":"server_url/repository/actions/runs/run_id"}',
				gitlab => 'gitlab_user_login|{"Info":"ci_job_url"}' }->{$service},
			"configuration: what $service has is taken");
	}
}

# A table that Terraform itself has made is attached with its states, and then is the same
# as one that tfstate_attach() makes.
{
	sql(q(
		CREATE ROLE owner LOGIN;
		GRANT CREATE ON DATABASE postgres TO owner;
		GRANT CREATE ON SCHEMA public TO owner;
		GRANT USAGE ON SEQUENCE public.global_states_id_seq TO owner;
		SELECT tfstate_grant('owner', 'own.states/*');
	));
	my $skips_nothing = Terraform::backend('pg') . Terraform::network();
	my $definition = q(
		SELECT string_agg(line, E'\n' ORDER BY line) FROM (
			SELECT concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)) AS line
			  FROM pg_attribute a LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
			 WHERE a.attrelid = '%1$s.states'::regclass AND a.attnum > 0
			UNION ALL
			SELECT replace(indexdef, '%1$s.', '') FROM pg_indexes WHERE schemaname = '%1$s'
			UNION ALL
			SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
			 WHERE conrelid = '%1$s.states'::regclass AND contype <> 'n') d);
	my $before = project('own',
		role => 'owner', bare => 1, config => $skips_nothing, init => 0);
	my $after = project('own',
		role => 'owner', config => $skips_nothing, init => 0);

	$before->run_ok("Terraform's table: init", 'init');
	$before->apply_ok("Terraform's table: apply without tfstate");
	is(sql(q(SELECT tableowner FROM pg_tables WHERE schemaname = 'own')),
		'owner', "Terraform's table: Terraform has made the table");
	sql(q(SELECT tfstate_attach('own')));
	is( sql(sprintf($definition, 'own')),
		sql(sprintf($definition, 'fresh')),
		"Terraform's table: the table is as tfstate_attach() makes it");
	$after->run_ok("Terraform's table: init with tfstate", 'init');
	like(
		$after->apply_ok("Terraform's table: apply with tfstate"),
		qr/No changes/,
		"Terraform's table: the state is unchanged");
	is(sql(q(SELECT lockid, role FROM tfstate_history('own.*'))),
		'own.states/default|owner',
		"Terraform's table: the run had the lock of its workspace");
	nothing_held($node, "Terraform's table: no lock is left");

	# Back to Terraform without tfstate
	sql(q(SELECT tfstate_detach('own')));
	my $run = $after->start_slow_apply;
	is(sql('SELECT count(*) FROM tfstate_holders'),
		0, 'after tfstate_detach() a run takes no lock of tfstate');
	$before->run_fails('after tfstate_detach(): a second run',
		qr/Workspace is already locked: default/, 'plan');
	$after->open_gate;
	is(($run->finish)[0], 0, 'after tfstate_detach() Terraform works as before');
	nothing_held($node, 'after tfstate_detach(): no lock is left');
}

# The settings can also come from the role or from the connection string.
{
	sql(q(
		CREATE ROLE settings LOGIN IN ROLE terraform;
		ALTER ROLE settings IN DATABASE postgres SET search_path = tfstate_pg, pg_catalog, public;
		ALTER ROLE settings SET tfstate.who = 'named by the role';
		ALTER ROLE settings SET tfstate.operation = 'nightly run';
	));
	my %ways = (
		'named by the role' =>
		  project('fresh', role => 'settings', bare => 1),
		'named by the string' => project(
			'fresh',
			role => 'settings',
			bare => 1,
			conn_options =>
			  '&search_path=tfstate_pg%2Cpg_catalog%2Cpublic&tfstate.who=named%20by%20the%20string&tfstate.operation=nightly%20run'
		));

	foreach my $who (sort keys %ways)
	{
		my $run = $ways{$who}->start_slow_apply;

		project('fresh')->apply_fails($who,
			qr/\Q"fresh.states\/default" is held by $who: nightly run since\E/);
		$ways{$who}->open_gate;
		is(($run->finish)[0], 0, "$who: the holder succeeds");
		nothing_held($node, "$who: no lock is left");
	}
}

# The extension may be in a schema that the role cannot use.
{
	sql('CREATE DATABASE elsewhere');
	$node->safe_psql(
		'elsewhere', q(
		CREATE SCHEMA locks;
		CREATE EXTENSION tfstate SCHEMA locks;
		SELECT locks.tfstate_attach('prod', role => 'terraform');
	));
	my $alice = project('prod', database => 'elsewhere');
	my $bob = Terraform->new(
		$node,
		schema => 'prod',
		who => 'bob',
		database => 'elsewhere',
		options => { 'tfstate.mode' => 'durable' });
	my $run = $alice->start_slow_apply;

	$bob->apply_fails('another schema',
		qr/"prod\.states\/default" is held by alice: apply/);
	$alice->open_gate;
	is(($run->finish)[0], 0, 'another schema: the holder succeeds');
	$bob->apply_ok('another schema: the second run succeeds');
	$bob->run_ok('another schema: workspace new', 'workspace', 'new', 'stage');
	$bob->run_ok('another schema: workspace select',
		'workspace', 'select', 'default');
	$bob->run_ok('another schema: workspace delete',
		'workspace', 'delete', 'stage');
	is( $node->safe_psql(
			'elsewhere',
			"SELECT string_agg(who || ' ' || lockid || ' ' || mode, ', ' ORDER BY fence) FROM locks.tfstate_history"
		),
		join(', ',
			'alice prod.states/default session',
			map { "bob $_ durable" } 'prod.states/default', creation_lock('prod'), 'prod.states/stage',
			'prod.states/stage'),
		'another schema: the runs had the locks of their workspaces');
	is($node->safe_psql('elsewhere', 'SELECT count(*) FROM locks.tfstate_holders'),
		0, 'another schema: no lock is left');
}

# A role without a grant, or with a grant for something else
sql(q(
	CREATE ROLE ungranted LOGIN;
	CREATE ROLE viewer LOGIN;
	CREATE ROLE neighbour LOGIN;
	GRANT USAGE ON SCHEMA fresh TO ungranted, viewer, neighbour;
	GRANT SELECT, INSERT, UPDATE, DELETE ON fresh.states TO ungranted, viewer, neighbour;
	GRANT USAGE ON SEQUENCE public.global_states_id_seq TO ungranted, viewer, neighbour;
	SELECT tfstate_grant('viewer', '*', 'view'), tfstate_grant('viewer', '*', 'force');
	SELECT tfstate_grant('neighbour', 'fresh.states/stage');
));
my $state = sql('SELECT data FROM fresh.states');

foreach my $role ('ungranted', 'viewer', 'neighbour')
{
	my $p = project('fresh', role => $role, env => { TF_VAR_round => 99 });

	$p->apply_fails("role $role",
		qr/Error acquiring the state lock Error message: pq: permission denied for state lock "fresh\.states\/default"; an administrator can permit it with SELECT tfstate_grant\('$role', 'fresh\.states\/default'\)/
	);
	$p->run_fails("role $role: workspace new",
		qr/permission denied for the @{[creation('fresh')]}/,
		'workspace', 'new', "of_$role")
	  if $role ne 'neighbour';
	is(sql('SELECT data FROM fresh.states'),
		$state, "role $role: nothing is written");
	nothing_held($node, "role $role: nothing is locked");
}
project(
	'fresh',
	role => 'neighbour',
	env => { TF_WORKSPACE => 'stage' }
)->apply_ok('role neighbour: the run succeeds in the workspace that its grant names');
sql(q(SET tfstate.guard = off; DELETE FROM fresh.states WHERE name = 'stage'));

# Settings with a wrong value are an error; the default is not used instead.
my %wrong = (
	'tfstate.mode' => 'forever',
	'tfstate.wait' => 'soon',
	'tfstate.info' => '[1,2]',
	'tfstate.who' => 'x' x 1025);

foreach my $name (sort keys %wrong)
{
	my $p = project(
		'fresh',
		options => { $name => $wrong{$name} },
		env => { TF_VAR_round => 99 });

	my $shown =
	  length($wrong{$name}) > 1024 ? substr($wrong{$name}, 0, 1024) . '...' : $wrong{$name};
	$p->apply_fails("wrong $name",
		qr/Error message: pq: invalid value for parameter "\Q$name": "$shown"\E/);
	$p->run_fails(
		"wrong $name: workspace new",
		qr/pq: invalid value for parameter "\Q$name\E"/,
		'workspace', 'new', 'stage');
	is(sql('SELECT string_agg(data, \'\') FROM fresh.states'),
		$state, "wrong $name: nothing is written");
	nothing_held($node, "wrong $name: nothing is locked");
}

# A session that cannot write cannot lock.
foreach my $mode ('session', 'durable')
{
	project(
		'fresh',
		options => {
			'tfstate.mode' => $mode,
			'default_transaction_read_only' => 'on'
		})->apply_fails(
		"read-only, $mode mode",
		qr/pq: cannot execute pg_try_advisory_lock\(\) in a read-only transaction/
		);
	nothing_held($node, "read-only, $mode mode: nothing is locked");
}

# A role that tfstate_attach() made ready for durable locks: PGAPPNAME names each run, and a
# run that waits gets the lock.  tfstate_check() has nothing to report.
{
	sql('CREATE ROLE durable LOGIN');
	like( sql(
			q(SELECT tfstate_attach('durable', role => 'durable', mode => 'durable', wait => '2 min'))
		),
		qr/^export PGAPPNAME="tfstate-run:\$\(uuidgen\)"/m,
		'durable role: a run without a name is refused');
	my %run = (alice => uuid(), bob => uuid());
	my ($alice, $bob) = map {
		project(
			'durable',
			role => 'durable',
			bare => 1,
			env => { PGAPPNAME => "tfstate-run:$run{$_}" })
	} qw(alice bob);

	is(sql(q(SELECT role, problem FROM tfstate_check() WHERE role = 'durable')),
		'', 'durable role: tfstate_check() reports nothing');
	my $run = $alice->start_slow_apply;
	is( sql('SELECT mode, application_name, role FROM tfstate_holders'),
		"durable|tfstate-run:$run{alice}|durable",
		'durable role: the lock is durable');
	is(sql('SELECT run_id FROM tfstate_internal.durable_lock'),
		$run{alice}, 'durable role: the lock has the name in PGAPPNAME');
	my $second = $bob->start('apply', '-auto-approve');
	wait_for('the waiter', sub { waiting_pids($node, 'durable.states/default') });
	$alice->open_gate;
	is(($run->finish)[0], 0, 'durable role: the holder succeeds');
	is(($second->finish)[0], 0, 'durable role: the run that waited succeeds after it');

	# The states are not in the server log, whatever is logged.
	sql('ALTER DATABASE postgres SET log_statement = "all"');
	my $offset = -s $node->logfile;
	$run = $alice->start_slow_apply;
	$alice->open_gate;
	is(($run->finish)[0], 0, 'durable role: a run with log_statement = all');
	my $log = slurp_file($node->logfile, $offset);
	like($log, qr/INSERT INTO "?durable"?/, 'durable role: the log has the statement that writes');
	unlike($log, qr/lineage/, 'durable role: the log has no state');
	sql('ALTER DATABASE postgres RESET log_statement');
}

# What the server's configuration says counts only for a table for which nothing was said.
{
	my $shim = q(SET search_path = tfstate_pg, pg_catalog, public; SELECT pg_try_advisory_lock(id));
	my $modes = q(SELECT string_agg(lockid || ' ' || mode, ', ') FROM public.tfstate_holders);

	$node->append_conf('postgresql.conf',
		qq(tfstate.mode = 'durable'\ntfstate.run_id = '@{[uuid()]}'));
	$node->reload;
	sql(q(SELECT tfstate_attach('said', mode => 'session'), tfstate_attach('unsaid')));
	foreach my $schema (qw(said unsaid))
	{
		my $mode = $schema eq 'said' ? 'session' : 'durable';

		like(sql("$shim FROM $schema.states; $modes; SELECT pg_advisory_unlock(id) FROM $schema.states"),
			qr/^$schema\.states\/default $mode$/m,
			"server's configuration: a table for which a mode is $schema");
	}
	$node->append_conf('postgresql.conf', "tfstate.mode = 'session'\ntfstate.run_id = ''");
	$node->reload;
}

# tfstate_check() reports settings of the server, too.
{
	is(sql(q(SELECT severity, problem, remedy FROM tfstate_check() WHERE object = 'server')),
		'error|fsync is off: a crash loses or corrupts locks and states|ALTER SYSTEM SET fsync = on',
		'tfstate_check() reports fsync');
	sql('ALTER SYSTEM SET fsync = on');
	sql('ALTER SYSTEM SET full_page_writes = off');
	$node->reload;
	like(sql(q(SELECT problem FROM tfstate_check() WHERE object = 'server')),
		qr/^full_page_writes is off/, 'tfstate_check() reports full_page_writes');
	sql('ALTER SYSTEM RESET ALL');
	$node->reload;
}

done_testing();
