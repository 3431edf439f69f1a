# Each state that Terraform writes leaves a version that tells who wrote it, under which
# lock; a version can be rolled back to, and Terraform goes on from there.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use JSON::PP;
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('versions');
my $shim = Terraform::pg_backend();

sub project
{
	my ($schema, $who, %params) = @_;
	return Terraform->new($node, schema => $schema, who => $who, %params);
}

# Sets the operation under which the next command takes its lock.
sub set_operation
{
	my ($project, $operation) = @_;

	$project->{env}{PGOPTIONS} =~ s/(tfstate\.operation=)\S+/$1$operation/;
	return;
}

attach($node, $_) foreach 'prod', 'slow', 'lost';

# Terraform writes snapshots of its state, at most every 20 seconds: two longer applies run
# while the other tests do.  The second one loses its lock at once.
my $steps = $shim . <<'END';
resource "terraform_data" "step" {
  count = 45
  input = count.index

  provisioner "local-exec" {
    command = "echo ${count.index} >>applied; sleep 1"
  }
}
END
my $slow = project('slow', 'slow', config => $steps);
my $lost = project('lost', 'lost', config => $steps);
my @slow_command = ('apply', '-auto-approve', '-parallelism=1');
my $slow_run = $slow->start(@slow_command);
my $lost_run = $lost->start(@slow_command);

wait_for('the slow applies', sub { -s "$slow->{dir}/applied" && -s "$lost->{dir}/applied" });
$lost->terminate_sessions;
project('lost', 'taker')->apply_ok('a run takes the lock that another run has lost');
is(state_of($node, 'lost'), '1|taker', 'the run with the lock has written its state');

# One version for each command that writes
{
	my $config = $shim . Terraform::network() . <<'END';
resource "terraform_data" "imported" {
}
END
	my $alice = project('prod', 'alice', config => $config);
	my $x = 'terraform_data';
	my @texts = (sql('SELECT data FROM prod.states'));

	foreach my $command (
		[ 'apply', '-auto-approve', "-target=$x.network" ],
		[ 'import', "$x.imported", 'some-id' ],
		[ 'taint', "$x.network" ],
		[ 'untaint', "$x.network" ],
		[ 'state', 'mv', "$x.imported", "$x.moved" ],
		[ 'state', 'rm', "$x.moved" ],
		[ 'destroy', '-auto-approve' ])
	{
		my $operation = $command->[0] eq 'state' ? $command->[1] : $command->[0];

		set_operation($alice, $operation);
		$alice->run_ok("@$command", @$command);
		push @texts, sql('SELECT data FROM prod.states');
		is( sql(q(SELECT v.number, v.operation, v.serial, v.who, v.role, v.application_name, v.client_addr,
						 v.lock_who, v.lock_operation, h.lockid
				    FROM tfstate_versions('prod.*') v
				    LEFT JOIN tfstate_history h ON (h.fence, h.id) = (v.fence, v.lock_id)
				   ORDER BY number DESC LIMIT 1)),
			@texts . '|write|' . $#texts
			  . "|alice|terraform|alice|127.0.0.1|alice|$operation|prod.states/default",
			"$operation: its version has the name of the run and its lock");
		set_operation($alice, 'plan');
		$alice->run_ok("plan after $operation", 'plan');
	}
	is(sql(q(SELECT max(number) FROM tfstate_versions('prod.*'))),
		scalar(@texts), 'no command has left two versions, and plan has left none');
	is_deeply(
		[ map { sql("SELECT tfstate_version('prod.states/default', $_)") } 1 .. @texts ],
		\@texts,
		'each version returns its text');
	is(sql(q(SELECT string_agg(DISTINCT terraform_version, ' ') FROM tfstate_versions('prod.*') WHERE number > 1)),
		decode_json($texts[-1])->{terraform_version},
		'each version has the version of Terraform');
}

# A rollback to an earlier version
{
	my $alice = project('prod', 'alice');
	my $bob = project('prod', 'bob');

	$alice->apply_ok('rollback: first apply');
	my $version = sql(q(SELECT max(number) FROM tfstate_versions('prod.states/default')));
	$bob->apply_ok('rollback: second apply');
	my ($before) = split(/\|/, state_of($node, 'prod'));
	like($bob->run_ok('roll back: plan before it', 'plan'),
		qr/No changes/, 'rollback: a plan before it finds nothing to do');

	my $run = $bob->start_slow_apply;
	my ($status, undef, $stderr) = $node->psql('postgres',
		"SELECT tfstate_rollback('prod.states/default', $version)");
	isnt($status, 0, 'rollback during a run is refused');
	like($stderr, qr/state lock "prod\.states\/default" is held by bob: apply/,
		'rollback during a run: the error names the holder');
	$bob->open_gate;
	$run->succeeds_ok('rollback during a run: the run succeeds');

	is( sql("SELECT tfstate_rollback('prod.states/default', $version)"),
		$version + 3,
		'rollback returns the number of the new version');
	is(state_of($node, 'prod'), $before + 2 . '|alice',
		'rollback: the earlier state is there, with the next serial');
	is( sql(q(SELECT serial, lock_operation, role = current_user
			    FROM tfstate_versions('prod.states/default') ORDER BY number DESC LIMIT 1)),
		$before + 2 . '|rollback|t',
		'rollback: the version has the role that did it');
	my $plan = $bob->run_ok('roll back: plan', 'plan');
	like($plan, qr/~ input = "alice" -> "bob"/, 'rollback: a plan finds the difference');
	like($plan, qr/Plan: 1 to add, 0 to change, 1 to destroy/,
		'rollback: the plan would repair the difference');
	$bob->apply_ok('rollback: apply');
	is(state_of($node, 'prod'), $before + 3 . '|bob', 'rollback: the apply has repaired the difference');
	like($bob->run_ok('roll back: plan after it', 'plan'),
		qr/No changes/, 'rollback: a plan after that finds nothing to do');
}

# A deleted workspace is restored.
{
	my $alice = project('prod', 'alice');

	$alice->run_ok('undelete: workspace new', 'workspace', 'new', 'stage');
	$alice->apply_ok('undelete: apply');
	my $state = sql(q(SELECT data FROM prod.states WHERE name = 'stage'));
	is(state_of($node, 'prod', 'stage'), '2|alice', 'undelete: the workspace has a state');
	$alice->run_ok('undelete: workspace select', 'workspace', 'select', 'default');
	set_operation($alice, 'delete');
	$alice->run_ok('undelete: workspace delete', 'workspace', 'delete', '-force', 'stage');
	$alice->run_fails('undelete: the deleted workspace cannot be selected', qr/Workspace "stage" doesn't exist/,
		'workspace', 'select', 'stage');
	is( sql(q(SELECT number, operation, serial, who, size IS NULL
			    FROM tfstate_versions('prod.states/stage') ORDER BY number DESC LIMIT 1)),
		'3|delete|2|alice|t',
		'undelete: the deletion has left a version');
	is(sql(q(SELECT tfstate_undelete('prod.states/stage'))), 4, 'undelete: the call returns the number of the new version');
	is( sql(q(SELECT data FROM prod.states WHERE name = 'stage')),
		edit_state($state, serial => 3),
		'undelete: the state has the next serial, and is otherwise unchanged');
	set_operation($alice, 'apply');
	$alice->run_ok('undelete: workspace select', 'workspace', 'select', 'stage');
	like($alice->run_ok('undelete: plan', 'plan'),
		qr/No changes/, 'undelete: a plan finds nothing to do');
	$alice->run_ok('undelete: destroy', 'destroy', '-auto-approve');
	is(state_of($node, 'prod', 'stage'), '4|', 'undelete: an apply goes on from there');
}

# The snapshots of the first long apply
{
	my $versions = q(tfstate_versions('slow.states/default') WHERE number > 1);

	wait_for('a snapshot', sub { sql("SELECT count(*) FROM $versions") >= 1 });
	is($slow_run->is_done, 0, 'a snapshot is written while the apply is running');
	project('slow', 'bob')->apply_fails('meanwhile another apply', qr/is held by slow: apply/);
	$slow_run->succeeds_ok('the long apply succeeds');
	cmp_ok(sql("SELECT count(*) FROM $versions"),
		'>=', 3, 'each snapshot and the last state has left a version');
	is( sql("SELECT count(DISTINCT fence), count(DISTINCT lock_id), min(lock_who), max(lock_who) FROM $versions"),
		'1|1|slow|slow',
		'all snapshots were written under one lock');
	is( sql(qq(
			SELECT count(*) FROM (
				SELECT serial - lag(serial) OVER numbers AS serials,
					   resources - lag(resources) OVER numbers AS more
				  FROM $versions WINDOW numbers AS (ORDER BY number)) v
			 WHERE serials <> 1 OR more < 0)),
		0,
		'each snapshot has the next serial, and no fewer resources');
	cmp_ok(sql("SELECT extract(epoch FROM max(created) - min(created)) FROM $versions"),
		'>=', 20, 'the snapshots cover more than 20 seconds');
	is(sql("SELECT max(resources) FROM $versions"), 45, 'the last state has all resources');
}

# Of the second long apply neither a snapshot nor the last state was written, though the
# serial grew with each attempt.
{
	my $refused =
	  qr/cannot change the state of workspace "lost\.states\/default": this session does not hold its lock, or has lost it, and the state was last written by taker at/;
	my $output = $lost_run->fails_ok('the long apply that has lost its lock fails', $refused);

	like($output, qr/$refused.*$refused/, 'each of its attempts is refused');
	is(state_of($node, 'lost'), '1|taker', 'the state of the run with the lock is still there');
	cmp_ok((split(/\|/, $lost->errored_state))[0], '>', 1, 'the state of the failed apply is in errored.tfstate');
}

nothing_held($node, 'no lock is left');
is(sql(q(SELECT count(*) FROM tfstate_verify('*', true))),
	0, 'all versions are intact, and the newest are what is in the tables');

done_testing();
