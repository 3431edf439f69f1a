# States that OpenTofu encrypts: locks, guard, versions and rollback work as with other
# states, though the server cannot read them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();
plan skip_all => program('name') . ' cannot encrypt states'
  unless program('encrypts');

my $node = terraform_node('encryption');

# There is no fallback, so a state that is not encrypted is an error.
my $encryption = <<'END';
terraform {
  encryption {
    key_provider "pbkdf2" "key" {
      passphrase = "correct horse battery staple"
    }

    method "aes_gcm" "key" {
      keys = key_provider.pbkdf2.key
    }

    state {
      method = method.aes_gcm.key
    }
  }
}

output "by" {
  value = terraform_data.network.output
}
END
my $config = Terraform::pg_backend() . Terraform::network() . $encryption;

# Returns the state of a workspace.
sub data_of
{
	my ($schema, $workspace) = @_;
	return sql("SELECT data FROM $schema.states WHERE name = '$workspace'");
}

# Tests that the state of a workspace is encrypted and has a serial, and that it is the
# newest version.
sub has_state
{
	my ($schema, $workspace, $serial, $test) = @_;
	my $data = data_of($schema, $workspace);

	like($data, qr/"encrypted_data":/, "$test: the state is encrypted");
	unlike($data, qr/terraform_data|"outputs"|alice|bob/, "$test: tfstate_resources() lists nothing");
	is( sql("SELECT serial, fence IS NOT NULL FROM tfstate_versions('$schema.states/$workspace') ORDER BY number DESC LIMIT 1"),
		"$serial|t",
		"$test: the version has the serial, and was written under the lock");
	is( sql("SELECT tfstate_version('$schema.states/$workspace', max(number)) FROM tfstate_versions('$schema.states/$workspace')"),
		$data,
		"$test: the version returns the state");
	return;
}

# The row "default" that tfstate_attach() makes is not an encrypted state.
{
	attach($node, 'plain');
	my $p = Terraform->new(
		$node,
		schema => 'plain',
		who => 'alice',
		config => $config,
		init => 0);

	$p->run_fails('a row "default" that is not encrypted',
		qr/encountered unencrypted payload without unencrypted method configured/, 'init');
	sql(q(SELECT tfstate_attach('plain', default_workspace => false)));
	$p->run_ok('when it is left out: init', 'init');
}

foreach my $mode ('session', 'durable')
{
	my $schema = "encrypted_$mode";
	my ($alice, $bob) = map {
		Terraform->new(
			$node,
			schema => $schema,
			who => $_,
			options => { 'tfstate.mode' => $mode },
			config => $config,
			init => 0)
	} 'alice', 'bob';

	sql("SELECT tfstate_attach('$schema', role => 'terraform', default_workspace => false)");
	$_->run_ok("$mode: init", 'init') foreach $alice, $bob;
	$alice->run_ok("$mode: plan", 'plan');
	is(sql("SELECT count(*) FROM $schema.states"), 0, "$mode: plan writes nothing");
	$alice->apply_ok("$mode: apply");
	has_state($schema, 'default', 1, "$mode: apply");
	is( sql("SELECT w.encrypted, r.address FROM tfstate_workspaces w, tfstate_resources() r
			 WHERE w.workspace = r.workspace AND w.workspace = '$schema.states/default'"),
		't|(encrypted)',
		"$mode: the lists say that the state is encrypted");
	my $version = sql("SELECT max(number) FROM tfstate_versions('$schema.states/default')");
	like($alice->run_ok("$mode: output", 'output', 'by'), qr/^ ?"alice" ?$/, "$mode: output prints the output");

	# The lock, and the guard.
	my $run = $bob->start_slow_apply;
	$alice->apply_fails("$mode: apply beside a run",
		qr/"\Q$schema.states\/default\E" is held by bob: apply/);
	$alice->run_fails("$mode: apply -lock=false beside a run",
		qr/cannot change the state of workspace "\Q$schema.states\/default\E": its lock is held by bob/,
		'apply', '-auto-approve', '-lock=false', '-replace=terraform_data.network');
	$bob->open_gate;
	$run->succeeds_ok("$mode: the run with the lock succeeds");
	has_state($schema, 'default', 2, "$mode: the second apply");

	# Rollback to the first state: its serial is encrypted, too, so it keeps that one.
	sql("SELECT tfstate_rollback('$schema.states/default', $version)");
	is((split(/\|/, state_of($node, $schema)))[0], 1, "$mode: rollback: the state has its old serial");
	like($bob->run_ok("$mode: plan after it", 'plan'),
		qr/~ input = "alice" -> "bob"/, "$mode: rollback: the state is the old one");
	$alice->run_ok("$mode: apply after it", 'apply', '-auto-approve', '-replace=terraform_data.network');
	has_state($schema, 'default', 2, "$mode: rollback: an apply succeeds after it");

	# Workspaces.
	$alice->run_ok("$mode: workspace new", 'workspace', 'new', 'stage');
	has_state($schema, 'stage', 1, "$mode: workspace new");
	$alice->apply_ok("$mode: apply there");
	has_state($schema, 'stage', 2, "$mode: apply there");
	$alice->run_ok("$mode: workspace select", 'workspace', 'select', 'default');
	$alice->run_ok("$mode: workspace delete", 'workspace', 'delete', '-force', 'stage');
	is(data_of($schema, 'stage'), '', "$mode: workspace delete");
	sql("SELECT tfstate_undelete('$schema.states/stage')");
	$alice->run_ok("$mode: workspace select", 'workspace', 'select', 'stage');
	like($alice->run_ok("$mode: plan there", 'plan'),
		qr/No changes/, "$mode: undelete: the state is restored");
	$alice->run_ok("$mode: destroy there", 'destroy', '-auto-approve');
	has_state($schema, 'stage', 3, "$mode: destroy there");
	$alice->run_ok("$mode: workspace select", 'workspace', 'select', 'default');
	# The guard cannot see that the state is empty, so it asks for the lock.
	$alice->run_fails("$mode: workspace delete -lock=false",
		qr/cannot delete workspace "\Q$schema.states\/stage\E": this session does not hold its lock, and its state, .*, is not empty/,
		'workspace', 'delete', '-lock=false', 'stage');
	$alice->run_ok("$mode: workspace delete", 'workspace', 'delete', 'stage');

	# The commands for states.
	my $x = 'terraform_data';
	$alice->run_ok("$mode: state mv", 'state', 'mv', "$x.network", "$x.moved");
	$alice->run_ok("$mode: state mv back", 'state', 'mv', "$x.moved", "$x.network");
	has_state($schema, 'default', 4, "$mode: state mv");
	my $pulled = $alice->run_ok("$mode: state pull", 'state', 'pull');
	$alice->run_ok("$mode: state rm", 'state', 'rm', "$x.network");
	append_to_file("$alice->{dir}/pulled.tfstate", edit_state($pulled, serial => 6));
	$alice->run_ok("$mode: state push", 'state', 'push', 'pulled.tfstate');
	has_state($schema, 'default', 7, "$mode: state push");
	like($alice->run_ok("$mode: plan after it", 'plan'),
		qr/No changes/, "$mode: state push: the state is restored");

	# A state from another project is noticed.
	$alice->run_fails("$mode: state push -force of another lineage",
		qr/the new state has lineage "another", but the workspace has lineage "[0-9a-f-]{36}"/,
		'state', 'push', '-force',
		other_lineage($alice, $pulled));

	$alice->run_ok("$mode: destroy", 'destroy', '-auto-approve');
	nothing_held($node, "$mode: no lock is left");
}

sub other_lineage
{
	my ($project, $state) = @_;

	append_to_file("$project->{dir}/other.tfstate", edit_state($state, lineage => 'another'));
	return 'other.tfstate';
}

is(sql(q(SELECT count(*) FROM tfstate_verify('*', true))),
	0, 'all versions are intact, and the newest are what is in the tables');

done_testing();
