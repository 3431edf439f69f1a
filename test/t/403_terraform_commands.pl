# Every ordinary command works on an attached table whose writers need the lock, with the
# shim in both modes and without it; it takes the lock of its workspace, and leaves no lock.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('commands');
my $pg = Terraform::pg_backend();
my $network = Terraform::network();
my $config = $pg . $network . <<'END';
resource "terraform_data" "imported" {
}

output "by" {
  value = terraform_data.network.output
}
END
my $broken = $pg . <<'END';
resource "terraform_data" "broken" {
  provisioner "local-exec" {
    command = "exit 3"
  }
}
END
my $x = 'terraform_data';
my $builtin = 'terraform.io/builtin/terraform';

# The ways to run: with the shim in a mode, or without it
my %kinds = (
	session => { options => { 'tfstate.mode' => 'session' } },
	durable => { options => { 'tfstate.mode' => 'durable' } },
	stock => { stock => 1 });

sub project
{
	my ($kind, $schema, %params) = @_;
	my $project = Terraform->new(
		$node,
		schema => $schema,
		who => 'alice',
		init => 0,
		%{ $kinds{$kind} },
		%params);

	@$project{qw(kind schema)} = ($kind, $schema);
	return $project;
}

# Makes an attached table without the row "default".
sub rowless_table
{
	my ($schema) = @_;

	attach($node, $schema);
	sql("SET tfstate.guard = off; DELETE FROM $schema.states");
	return;
}

# Tests which locks were taken since a fence, in order, and that none is left.  "new" stands
# for the creation key.  Locks of the server's own functions leave no trace.
sub locks_are
{
	my ($project, $before, $test, $expected) = @_;
	my %name_of = (new => creation_lock($project->{schema}));
	my $locks = join(', ',
		map { $name_of{$_} || "$project->{schema}.states/$_" } split(' ', $expected));

	is( sql("SELECT string_agg(lockid, ', ' ORDER BY fence) || ': ' || string_agg(DISTINCT mode || ' ' || how, ', ')
			 FROM tfstate_history WHERE fence > $before"),
		$locks ? "$locks: $project->{kind} unlock" : '',
		"$test: locks " . ($locks || 'nothing'))
	  if $project->{kind} ne 'stock';
	nothing_held($node, "$test: leaves no lock");
	return;
}

sub last_fence
{
	return sql('SELECT coalesce(max(fence), 0) FROM tfstate_history');
}

# Runs a command, and tests which locks it took.
sub run_locked
{
	my ($project, $expected, @command) = @_;
	my $test = "$project->{kind}: @command";
	my $before = last_fence();
	my $output = $project->run_ok($test, @command);

	locks_are($project, $before, $test, $expected);
	return $output;
}

# The same for a command that must fail
sub run_refused
{
	my ($project, $expected, $reason, @command) = @_;
	my $test = "$project->{kind}: @command";
	my $before = last_fence();

	$project->run_fails($test, $reason, @command);
	locks_are($project, $before, $test, $expected);
	return;
}

sub serial
{
	my ($project, $workspace) = @_;
	return (split(/\|/, state_of($node, $project->{schema}, $workspace)))[0];
}

# Returns the workspaces whose state has the resource "network".
sub workspaces
{
	my ($schema) = @_;
	return sql(
		"SELECT string_agg(name, ' ' ORDER BY name) FROM $schema.states WHERE data LIKE '%\"network\"%'"
	);
}

# Returns the addresses of the resources in a state.
sub resources
{
	my ($project) = @_;
	my (undef, $output) = $project->run('state', 'list');
	return join(' ', sort split(' ', $output));
}

sub resource_id
{
	my ($project) = @_;
	my (undef, $output) =
	  $project->run('state', 'show', '-no-color', "$x.network");

	return $output =~ /\bid = "([^"]+)"/ ? $1 : "no resource in: $output";
}

# Writes a state to a file.
sub write_state
{
	my ($project, $name, $state) = @_;

	append_to_file("$project->{dir}/$name.tfstate", $state);
	return "$name.tfstate";
}

# The commands of one workspace.
sub check_commands
{
	my ($kind) = @_;
	my $schema = "commands_$kind";
	attach($node, $schema);
	my $p = project($kind, $schema, config => $config);

	run_locked($p, '', 'init');
	run_locked($p, '', 'validate');
	run_locked($p, '', 'providers');
	run_locked($p, 'default', 'plan');
	run_locked($p, 'default', 'apply', '-auto-approve', "-target=$x.network");
	is(serial($p), 1, "$kind: apply has written the state");
	run_locked($p, 'default', 'import', "$x.imported", 'some-id');
	is(resources($p), "$x.imported $x.network", "$kind: import adds a resource");
	run_locked($p, 'default', 'plan', '-out=file');
	run_locked($p, 'default', 'apply', 'file');
	run_locked($p, 'default', 'taint', "$x.network");
	like(run_locked($p, 'default', 'plan'),
		qr/@{[program('tainted')]}/, "$kind: taint marks the resource");
	run_locked($p, 'default', 'untaint', "$x.network");
	run_locked($p, 'default', 'refresh');
	run_locked($p, 'default', 'apply', '-refresh-only', '-auto-approve');
	run_locked($p, program('console_locks') ? 'default' : '', 'console');
	run_locked($p, '', 'graph');
	run_locked($p, '', 'state', 'list');
	run_locked($p, '', 'state', 'show', "$x.network");
	run_locked($p, 'default', 'state', 'mv', "$x.imported", "$x.moved");
	is(resources($p), "$x.moved $x.network", "$kind: state mv moves the resource");
	run_locked($p, 'default', 'state', 'rm', "$x.moved");
	is(resources($p), "$x.network", "$kind: state rm removes the resource");
	foreach my $change ([ $builtin, 'example.com/x/y' ], [ 'example.com/x/y', $builtin ])
	{
		run_locked($p, 'default', 'state', 'replace-provider', '-auto-approve', @$change);
		is( sql("SELECT data::jsonb #>> '{resources,0,provider}' FROM $schema.states"),
			"provider[\"$change->[1]\"]",
			"$kind: state replace-provider replaces the provider");
	}
	like(run_locked($p, '', 'output'), qr/by = "alice"/, "$kind: output prints the output");
	run_locked($p, '', 'show');

	# state push accepts a newer state, and refuses an older one.
	my $serial = serial($p);
	my $state = run_locked($p, '', 'state', 'pull');
	is($state =~ s/\s//gr, sql("SELECT data FROM $schema.states") =~ s/\s//gr,
		"$kind: state pull prints the state");
	run_locked($p, 'default', 'state', 'push',
		write_state($p, 'newer', edit_state($state, serial => $serial + 5)));
	cmp_ok(serial($p), '>=', $serial + 5, "$kind: state push writes the state");
	run_refused($p, 'default', qr/cannot import state with serial $serial over newer state/,
		'state', 'push', write_state($p, 'older', $state));

	run_locked($p, 'default', 'destroy', '-auto-approve');
	is(resources($p), '', "$kind: destroy leaves no resource");
	run_locked($p, 'default', 'apply', '-auto-approve');
	run_locked($p, 'default', 'apply', '-destroy', '-auto-approve');
	run_locked($p, '', 'force-unlock', '-force', 'some-id');

	# An apply that fails unlocks.
	$p->write_config($broken);
	run_refused($p, 'default', qr/exit status 3/, 'apply', '-auto-approve');
	return;
}

# The commands for workspaces: a new workspace is created under the creation key, which is
# exchanged for its own lock.
sub check_workspaces
{
	my ($kind) = @_;
	my $schema = "workspaces_$kind";
	attach($node, $schema);
	my $p = project($kind, $schema, config => $config);

	run_locked($p, '', 'init');
	run_locked($p, 'new stage', 'workspace', 'new', 'stage');
	run_locked($p, 'stage', 'apply', '-auto-approve');
	is(serial($p, 'stage'), 2, "$kind: the new workspace has a state");
	my (undef, $state) = $p->run('state', 'pull');
	run_locked($p, '', 'workspace', 'select', 'default');
	run_locked($p, '', 'workspace', 'list');
	run_locked($p, '', 'workspace', 'show');
	run_refused($p, '', qr/Workspace "stage" already exists/, 'workspace', 'new', 'stage');
	run_refused($p, 'stage', qr/Workspace is not empty/, 'workspace', 'delete', 'stage');
	# (that it does not write this state is a fault of the programs, with every backend)
	run_locked($p, 'new copy copy', 'workspace', 'new', '-state=' . write_state($p, 'stage', $state), 'copy');
	run_locked($p, 'new other', 'workspace', 'select', '-or-create', 'other');
	run_locked($p, '', 'workspace', 'select', '-or-create', 'stage');
	run_locked($p, 'stage', 'destroy', '-auto-approve');
	run_locked($p, '', 'workspace', 'select', 'default');
	run_locked($p, 'stage', 'workspace', 'delete', 'stage');
	run_locked($p, 'copy', 'workspace', 'delete', '-force', 'copy');
	run_locked($p, 'other', 'workspace', 'delete', 'other');
	is(sql("SELECT string_agg(name, ' ') FROM $schema.states"),
		'default', "$kind: workspace delete has deleted the workspaces");
	run_locked($p, 'new stage', 'workspace', 'new', 'stage');
	run_locked($p, '', 'workspace', 'select', 'default');

	# An apply that creates its workspace
	$p->{env}{TF_WORKSPACE} = 'made';
	run_locked($p, 'new made made', 'apply', '-auto-approve');
	is(workspaces($schema), 'made', "$kind: the first apply has written its state");
	run_locked($p, 'made', 'apply', '-auto-approve', "-replace=$x.network");
	delete $p->{env}{TF_WORKSPACE};
	return;
}

# First runs without a row for "default"
sub check_rowless
{
	my ($kind) = @_;
	my $schema = "rowless_$kind";
	rowless_table($schema);
	my $p = project($kind, $schema, config => $config);

	run_locked($p, '', 'init');
	run_locked($p, 'new', 'plan');
	is(sql("SELECT count(*) FROM $schema.states"), 0, "$kind: plan writes nothing");
	run_locked($p, 'new default', 'apply', '-auto-approve');
	is(workspaces($schema), 'default', "$kind: the first apply has written its state");
	run_locked($p, 'default', 'destroy', '-auto-approve');
	return;
}

# States are moved into the server, within it, and out of it, with all workspaces.
sub check_migration
{
	my ($kind) = @_;
	my $schema = "migrate_$kind";
	my @tables = ($schema, "${schema}2", "${schema}3");
	my $local = Terraform::backend('local') . $network;
	my $p = project($kind, $schema, config => $local);
	my @migrate = ('init', '-migrate-state', '-force-copy');

	attach($node, $_) foreach @tables[ 0, 1 ];
	rowless_table($tables[2]);
	$p->run_ok("$kind: init with local states", 'init');
	$p->apply_ok("$kind: apply there");
	$p->run_ok("$kind: a second workspace there", 'workspace', 'new', 'stage');
	$p->apply_ok("$kind: apply there");
	my $id = resource_id($p);

	# A migration from one table to another locks in both at the same time.
	foreach my $to (@tables)
	{
		my $setting = $to eq $schema ? '' : qq(\nschema_name = "$to");
		my $test = "$kind: init -migrate-state into $to";

		$p->write_config($pg =~ s/(backend "pg" \{)/$1$setting/r . $network);
		$p->run_ok($test, @migrate);
		nothing_held($node, "$test: leaves no lock");
		is(workspaces($to), 'default stage', "$test: both workspaces are there");
		is(resource_id($p), $id, "$test: both workspaces have their resources");
		like($p->run_ok("$test: plan", 'plan'),
			qr/No changes/, "$test: a plan finds nothing to change");
	}

	$p->write_config($local);
	$p->run_ok("$kind: init -migrate-state out of the server", @migrate);
	nothing_held($node, "$kind: init -migrate-state out of the server leaves no lock");
	is(resource_id($p), $id, "$kind: the local state has the same resources");
	like($p->run_ok("$kind: plan there", 'plan'),
		qr/No changes/, "$kind: a plan of the local state finds nothing to change");
	return;
}

foreach my $kind (sort keys %kinds)
{
	check_commands($kind);
	check_workspaces($kind);
	check_rowless($kind);
	check_migration($kind);
}

done_testing();
