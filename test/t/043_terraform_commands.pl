# Every command of Terraform that locks a state works with tfstate, in both modes,
# holds the lock of the workspace that it is about, and leaves no lock behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TfstateTest;

terraform_or_skip();

my $node = terraform_node('commands');
my $config = Terraform::pg_backend() . Terraform::network() . <<'END';
resource "terraform_data" "imported" {
}
END

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# Runs a command and tests which locks it took, in what order, and that none is
# left.
sub locks_of
{
	my ($project, $expected, @command) = @_;
	my $name = "$project->{mode}: @command";
	my $before = sql('SELECT coalesce(max(fence), 0) FROM tfstate_history');
	my $output = $project->run_ok($name, @command);

	is( sql("SELECT string_agg(replace(lockid, '$project->{env}{PG_SCHEMA_NAME}.states/', ''), ', ' ORDER BY fence) || ': ' ||
				string_agg(DISTINCT mode || ' ' || how, ', ')
			 FROM tfstate_history WHERE fence > $before"),
		$expected ? "$expected: $project->{mode} unlock" : '',
		"$name: locks " . ($expected || 'nothing'));
	nothing_held($node, "$name: leaves no lock");
	return $output;
}

sub serial
{
	my ($project, $workspace) = @_;
	my ($serial) = split(/\|/,
		state_of($node, $project->{env}{PG_SCHEMA_NAME}, $workspace));
	return $serial;
}

# The addresses of the resources in a state.
sub resources
{
	my ($project) = @_;
	my (undef, $output) = $project->run('state', 'list');
	return join(' ', sort split(' ', $output));
}

sub project
{
	my ($mode, $schema, %params) = @_;
	my $project = Terraform->new(
		$node,
		schema => $schema,
		who => 'alice',
		options => { 'tfstate.mode' => $mode },
		config => $config,
		%params);

	$project->{mode} = $mode;
	return $project;
}

# Writes a state to a file, with another serial.
sub write_state
{
	my ($project, $name, $state, $serial) = @_;

	append_to_file("$project->{dir}/$name.tfstate", edit_state($state, serial => $serial));
	return;
}

sub check_commands
{
	my ($mode) = @_;
	my $schema = "commands_$mode";
	attach($node, $schema);
	my $p = project($mode, $schema);
	my $x = 'terraform_data';
	my $creation_lock = creation_lock($schema) =~ s{^\Q$schema.states/\E}{}r;

	locks_of($p, '', 'init');
	locks_of($p, 'default', 'plan');
	locks_of($p, 'default', 'apply', '-auto-approve',
		"-target=$x.network");
	is(serial($p), 1, "$mode: apply has written the state");
	locks_of($p, 'default', 'import', "$x.imported", 'some-id');
	is(resources($p), "$x.imported $x.network", "$mode: import adds a resource");
	locks_of($p, 'default', 'apply', '-auto-approve');
	locks_of($p, 'default', 'taint', "$x.network");
	like(locks_of($p, 'default', 'plan'),
		qr/@{[program('tainted')]}/, "$mode: taint has its effect");
	locks_of($p, 'default', 'untaint', "$x.network");
	locks_of($p, 'default', 'refresh');
	locks_of($p, 'default', 'state', 'mv', "$x.imported", "$x.moved");
	is(resources($p), "$x.moved $x.network", "$mode: state mv has its effect");
	locks_of($p, 'default', 'state', 'rm', "$x.moved");
	is(resources($p), "$x.network", "$mode: state rm has its effect");
	locks_of($p, '', 'output');
	locks_of($p, '', 'show');

	# state push takes a newer state, and refuses an older one.
	my $serial = serial($p);
	my $state = locks_of($p, '', 'state', 'pull');
	is($state =~ s/\s//gr, sql("SELECT data FROM $schema.states") =~ s/\s//gr,
		"$mode: state pull prints the state");
	write_state($p, 'newer', $state, $serial + 5);
	locks_of($p, 'default', 'state', 'push', 'newer.tfstate');
	cmp_ok(serial($p), '>=', $serial + 5, "$mode: state push writes the state");
	write_state($p, 'older', $state, $serial);
	$p->run_fails("$mode: state push of an older state",
		qr/cannot import state with serial $serial over newer state/,
		'state', 'push', 'older.tfstate');
	nothing_held($node, "$mode: and leaves no lock");

	# Workspaces.  A new one is created under the key for that, which is
	# exchanged for its own lock.
	locks_of($p, "$creation_lock, stage", 'workspace', 'new', 'stage');
	locks_of($p, 'stage', 'apply', '-auto-approve');
	is(serial($p, 'stage'), 2, "$mode: the workspace has a state");
	locks_of($p, '', 'workspace', 'select', 'default');
	locks_of($p, '', 'workspace', 'list');
	$p->run_fails("$mode: deleting a workspace with resources",
		qr/Workspace is not empty/, 'workspace', 'delete', 'stage');
	nothing_held($node, "$mode: leaves no lock");
	locks_of($p, '', 'workspace', 'select', 'stage');
	locks_of($p, 'stage', 'destroy', '-auto-approve');
	locks_of($p, '', 'workspace', 'select', 'default');
	locks_of($p, 'stage', 'workspace', 'delete', 'stage');
	is(sql("SELECT string_agg(name, ' ') FROM $schema.states"),
		'default', "$mode: the workspace is deleted");
	locks_of($p, "$creation_lock, stage", 'workspace', 'new', 'stage');
	locks_of($p, '', 'workspace', 'select', 'default');
	locks_of($p, 'default', 'destroy', '-auto-approve');
	is(resources($p), '', "$mode: destroy leaves no resource");

	# An apply that fails unlocks, too.
	$p->write_config(
		Terraform::pg_backend() . <<'END');
resource "terraform_data" "broken" {
  provisioner "local-exec" {
    command = "exit 3"
  }
}
END
	$p->apply_fails("$mode: an apply whose provisioner fails", qr/exit status 3/);
	nothing_held($node, "$mode: leaves no lock");
	return;
}

# Moving states into the server and out of it, workspaces and all.
sub check_migration
{
	my ($mode) = @_;
	my $schema = "migrate_$mode";
	attach($node, $schema);
	my $local = Terraform::backend('local') . Terraform::network();
	my $pg = Terraform::pg_backend() . Terraform::network();
	my $p = project($mode, $schema, config => $local, init => 0);

	$p->run_ok("$mode: init with local states", 'init');
	$p->apply_ok("$mode: apply there");
	$p->run_ok("$mode: a second workspace there", 'workspace', 'new', 'stage');
	$p->apply_ok("$mode: apply there");
	my $id = resource_id($p);

	$p->write_config($pg);
	$p->run_ok("$mode: init -migrate-state into the server",
		'init', '-migrate-state', '-force-copy');
	nothing_held($node, "$mode: leaves no lock");
	is( sql("SELECT string_agg(name, ' ' ORDER BY name) FROM $schema.states WHERE data LIKE '%\"network\"%'"),
		'default stage',
		"$mode: both workspaces are there");
	is(resource_id($p), $id, "$mode: with their resources");
	locks_of($p, 'stage', 'plan');

	# From one schema to another: that takes locks in both at a time.
	attach($node, "${schema}2");
	$p->write_config(
		$pg =~ s/(backend "pg" \{)/$1\nschema_name = "${schema}2"/r);
	$p->run_ok("$mode: init -migrate-state to another schema",
		'init', '-migrate-state', '-force-copy');
	nothing_held($node, "$mode: leaves no lock");
	is( sql("SELECT string_agg(name, ' ' ORDER BY name) FROM ${schema}2.states WHERE data LIKE '%\"network\"%'"),
		'default stage',
		"$mode: both workspaces are there");

	$p->write_config($local);
	$p->run_ok("$mode: init -migrate-state out of the server",
		'init', '-migrate-state', '-force-copy');
	nothing_held($node, "$mode: leaves no lock");
	is(resource_id($p), $id, "$mode: with the same resources");
	like($p->run_ok("$mode: plan there", 'plan'),
		qr/No changes/, "$mode: nothing has changed");
	return;
}

sub resource_id
{
	my ($project) = @_;
	my (undef, $output) = $project->run('state', 'show', '-no-color', 'terraform_data.network');

	return $output =~ /\bid = "([^"]+)"/ ? $1 : "no resource in: $output";
}

foreach my $mode ('session', 'durable')
{
	check_commands($mode);
	check_migration($mode);
}

done_testing();
