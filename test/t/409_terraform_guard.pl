# The guard in everyday use of Terraform: what it refuses, what users read then, and the ways
# out.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('guard');
my $lockid = 'prod.states/default';
my $x = 'terraform_data.network';

sub project
{
	my ($who, %params) = @_;
	return Terraform->new($node, schema => 'prod', who => $who, %params);
}

sub state_now
{
	return state_of($node, 'prod', @_);
}

sub serial
{
	return (split(/\|/, state_now()))[0];
}

# Returns the newest version, as "serial
# operation
# who
# fence is that of its lock".
sub newest_version
{
	my ($workspace) = @_;
	return sql(
		qq(SELECT v.serial, v.operation, v.application_name, v.fence = h.fence
		     FROM tfstate_versions('prod.states/$workspace') v
		     LEFT JOIN tfstate_history h ON h.id = v.lock_id
		    ORDER BY v.number DESC LIMIT 1));
}

# The refusal of a run that writes without the lock
my $compare = qr/; before pushing errored\.tfstate, compare it with the output of "terraform state pull"/;

sub not_held
{
	my ($who) = @_;
	return
	  qr/cannot change the state of workspace "\Q$lockid\E": this session does not hold its lock, or has lost it, and the state was last written by $who at \S+ \S+$compare/;
}

# Writes the state of a project to a file, with changes if wanted.
sub save_state
{
	my ($project, $file, $state) = @_;

	unlink("$project->{dir}/$file");
	append_to_file("$project->{dir}/$file", $state);
	return;
}

attach($node, 'prod');

my $alice = project('alice');
my $bob = project('bob');

$alice->apply_ok('a first apply');

# Somebody has taken the lock by hand, with a reason: a run with the shim stops at once, and
# one without it when it writes.  So does -lock=false.
foreach my $mode ('durable', 'session')
{
	my $dba = session($node);
	my $info = '{"Who":"dba","Operation":"freeze","Info":"frozen for the audit"}';
	my $reason =
	  qr/held by dba: freeze since \S+ \S+ \(ID [0-9a-f-]{36}, info "frozen for the audit"\)/;
	my $state = state_now();

	$dba->query_safe("SELECT tfstate_lock('$lockid', '$info', '$mode')");
	foreach my $command ([ 'apply', '-auto-approve' ], ['plan'], [ 'destroy', '-auto-approve' ])
	{
		$bob->run_fails("frozen, $mode: $command->[0]",
			qr/Error acquiring the state lock Error message: pq: state lock "\Q$lockid\E" is $reason/,
			@$command);
	}
	ok(!-s "$bob->{dir}/applied", "frozen, $mode: the run has changed no resource");
	$bob->run_fails("frozen, $mode: apply -lock=false",
		qr/Error saving state: pq: cannot change the state of workspace "\Q$lockid\E": its lock is $reason; ask them/,
		'apply', '-auto-approve', '-lock=false');
	is(state_now(), $state, "frozen, $mode: the run has not written");
	is($bob->errored_state, (split(/\|/, $state))[0] + 1 . '|bob',
		"frozen, $mode: the state of the run is in errored.tfstate");
	$bob->run_fails("frozen, $mode: state rm -lock=false",
		qr/cannot change the state of workspace \S+: its lock is $reason/,
		'state', 'rm', '-lock=false', $x);

	# Without the shim, a run sees a durable lock only as long as the session that took it lives.
	if ($mode eq 'durable')
	{
		my $stock = project('stock', stock => 1);

		$dba->quit;
		wait_for('the session to end',
			sub { sql('SELECT session_alive FROM tfstate_holders') eq 'f' });
		$stock->apply_fails("frozen, $mode: a run without the shim",
			qr/Error saving state: pq: cannot change the state of workspace "\Q$lockid\E": its lock is $reason/
		);
		is($stock->errored_state, (split(/\|/, $state))[0] + 1 . '|stock',
			"frozen, $mode: the state of the stock run is in errored.tfstate");
		$stock->run_fails("frozen, $mode: state push without the shim",
			qr/its lock is $reason/, 'state', 'push', 'errored.tfstate');
		is(state_now(), $state, "frozen, $mode: the stock run has not written");
		sql("SELECT tfstate_unlock('$lockid', id) FROM tfstate_holders");
		$stock->run_ok("frozen, $mode: state push after the unlock",
			'state', 'push', 'errored.tfstate');
		like(state_now(), qr/\|stock$/,
			"frozen, $mode: state push has written errored.tfstate");
		like($stock->run_ok("frozen, $mode: plan", 'plan'),
			qr/No changes/, "frozen, $mode: the state is that of the resources");
	}
	else
	{
		$dba->query_safe("SELECT tfstate_unlock('$lockid')");
		$bob->run_ok("frozen, $mode: state push after the unlock",
			'state', 'push', 'errored.tfstate');
		like(state_now(), qr/\|bob$/,
			"frozen, $mode: state push has written the errored.tfstate of the stock run");
		$dba->quit;
	}
	unlink("$bob->{dir}/applied");
	nothing_held($node, "frozen, $mode: no lock is left");
}

# -lock=false beside a run is refused, and the run is not affected.
{
	my $run = $alice->start_slow_apply;
	my $state = state_now();

	$bob->run_fails('-lock=false beside a run',
		qr/cannot change the state of workspace \S+: its lock is held by alice: apply since/,
		'apply', '-auto-approve', '-lock=false', "-replace=$x");
	is(state_now(), $state, '-lock=false beside a run: the run without the lock has not written');
	$bob->run_ok('-lock=false beside a run: plan may read', 'plan', '-lock=false');
	$alice->open_gate;
	$run->succeeds_ok('-lock=false beside a run: the run with the lock succeeds');
	like(state_now(), qr/\|alice$/, '-lock=false beside a run: the run with the lock has written');

	# with no other run
	$state = state_now();
	$bob->run_fails('-lock=false alone', not_held('alice'),
		'apply', '-auto-approve', '-lock=false');
	is(state_now(), $state, '-lock=false alone: the run has not written');
	nothing_held($node, '-lock=false: no lock is left');
}

# For comparison: without tfstate, -lock=false overwrites the state.
{
	plain_table($node, 'plain', 'terraform');
	my ($first, $second) =
	  map { project($_, schema => 'plain', stock => 1) } 'first', 'second';
	my $run = $first->start_slow_apply;

	$second->run_ok('not guarded, -lock=false: succeeds',
		'apply', '-auto-approve', '-lock=false');
	is(state_of($node, 'plain'), '1|second', 'not guarded, -lock=false: the run without the lock has written');
	$first->open_gate;
	$run->succeeds_ok('not guarded, -lock=false: the run with the lock succeeds');
	is(state_of($node, 'plain'), '1|first',
		'not guarded, -lock=false: the run with the lock has overwritten the state');
}

# state push -force of an older state, or of another lineage, is refused unless the guard is
# off, which needs a privilege.  (Terraform adds one to the serial that it pushes.)
{
	my $state = sql(q(SELECT data FROM prod.states));
	my $privileged = project('carol', options => { 'tfstate.guard' => 'off' });
	my $before = serial();

	save_state($bob, 'older.tfstate',
		edit_state($state, serial => $before - 2));
	save_state($bob, 'other.tfstate',
		edit_state($state, lineage => 'another'));
	save_state($privileged, 'other.tfstate', slurp_file("$bob->{dir}/other.tfstate"));

	$bob->run_fails('push -force of an older state',
		qr/@{[program('not_pushed')]}pq: cannot change the state of workspace "\Q$lockid\E": the new state has serial @{[$before - 1]}, but serial $before was written by alice at \S+ \S+; read the state again$compare/,
		'state', 'push', '-force', 'older.tfstate');
	$bob->run_fails('push -force of another lineage',
		qr/@{[program('not_pushed')]}pq: cannot change the state of workspace "\Q$lockid\E": it belongs to another project: the new state has lineage "another", but the workspace has lineage "[0-9a-f-]{36}"; check which schema and workspace the backend is configured for; to replace the state on purpose, run with tfstate\.guard=off/,
		'state', 'push', '-force', 'other.tfstate');
	is(sql(q(SELECT data FROM prod.states)), $state, 'push -force: nothing was written');
	$privileged->run_fails('push -force with the guard off, without the privilege',
		qr/permission denied to change the state of workspace .* with tfstate\.guard = off/,
		'state', 'push', '-force', 'other.tfstate');
	sql(q(SELECT tfstate_grant('terraform', 'prod.states/*', 'override')));
	$privileged->run_ok('push -force with the guard off, with the privilege',
		'state', 'push', '-force', 'other.tfstate');
	is(sql(q(SELECT lineage FROM tfstate_states('prod.*'))), 'another',
		'push -force with the guard off writes the state');
	like(newest_version('default'), qr/^\d+\|write\|carol\|t$/,
		'push -force with the guard off leaves a version');
	sql(q(SELECT tfstate_revoke('terraform', 'prod.states/*', 'override')));

	# The way back from there
	sql(qq(SELECT tfstate_rollback('$lockid', max(number) - 1) FROM tfstate_versions('$lockid')));
	is( sql(q(SELECT data FROM prod.states)),
		edit_state($state, serial => serial()),
		'push -force: a rollback restores the state');
	$alice->apply_ok('push -force: an apply succeeds after the rollback');
	nothing_held($node, 'push -force: no lock is left');
}

# init -migrate-state into a workspace that has the state of another project
{
	my $other = project('dave', init => 0, config => Terraform::backend('local') . Terraform::network());
	my $state = state_now();

	$other->run_ok('migrate: init with local states', 'init');
	$other->apply_ok('migrate: apply there');
	$other->write_config(Terraform::pg_backend() . Terraform::network());
	$other->run_fails('migrate: into the state of another project',
		qr/cannot change the state of workspace "\Q$lockid\E": it belongs to another project/,
		'init', '-migrate-state', '-force-copy');
	is(state_now(), $state, 'migrate: nothing was written');
	nothing_held($node, 'migrate: no lock is left');
}

# A state of another lineage where there is none: workspace new has made an empty one.
{
	save_state($bob, 'state.tfstate', sql(q(SELECT data FROM prod.states WHERE name = 'default')));
	$bob->run_ok('copy: workspace new', 'workspace', 'new', 'copy');
	$bob->run_ok('copy: state push', 'state', 'push', 'state.tfstate');
	is( sql(q(SELECT count(DISTINCT lineage) FROM tfstate_states('prod.states/*') WHERE workspace ~ '/(default|copy)$')),
		1,
		'copy: the workspace has the pushed state');
	$bob->apply_ok('copy: an apply succeeds');
	$bob->run_ok('copy: workspace select', 'workspace', 'select', 'default');
	$bob->run_ok('copy: workspace delete', 'workspace', 'delete', '-force', 'copy');
}

# TRUNCATE, and a text that is no state
{
	my $run = $alice->start_slow_apply;
	my (undef, undef, $stderr) = $node->psql('postgres', 'TRUNCATE prod.states');

	like($stderr, qr/its lock is held by alice: apply/, 'TRUNCATE during a run: refused');
	$alice->open_gate;
	$run->succeeds_ok('TRUNCATE during a run: that succeeds');
	(undef, undef, $stderr) = $node->psql('postgres',
		qq(SELECT tfstate_lock('$lockid', '{}', 'session'); UPDATE prod.states SET data = 'x' WHERE name = 'default'));
	like($stderr, qr/the new state is not a JSON object/, 'a text that is no state is refused');
	$alice->run_ok('no state: the one that is there can be read', 'plan');
}

# Writers need the lock.  Terraform takes it unless told otherwise, with the shim or without.
{
	my $stock = project('stock', stock => 1);

	foreach my $p ($alice, $stock, project('durable', options => { 'tfstate.mode' => 'durable' }))
	{
		my $test = "require, $p->{who}";
		my $unlocked = not_held($p == $stock ? 'terraform@127\.0\.0\.1' : $p->{who});
		my $before = serial();

		$p->run_ok("$test: plan", 'plan');
		$p->run_ok("$test: apply", 'apply', '-auto-approve', "-replace=$x");
		is(state_now(), $before + 1 . "|$p->{who}", "$test: the run has written");
		is( newest_version('default'),
			$before + 1 . "|write|$p->{who}|" . ($p == $stock ? '' : 't'),
			"$test: the version has the fence of its lock, if that has one");
		$p->run_ok("$test: taint", 'taint', $x);
		$p->run_ok("$test: untaint", 'untaint', $x);
		save_state($p, 'next.tfstate', sql(q(SELECT data FROM prod.states)));
		$p->run_ok("$test: state rm", 'state', 'rm', $x);
		$before = serial() + 1;
		save_state($p, 'next.tfstate',
			edit_state(slurp_file("$p->{dir}/next.tfstate"), serial => $before));
		$p->run_ok("$test: state push", 'state', 'push', 'next.tfstate');
		like(state_now(), qr/\|$p->{who}$/, "$test: the command changes the state");

		$before = state_now();
		$p->run_fails("$test: apply -lock=false", $unlocked,
			'apply', '-auto-approve', '-lock=false', "-replace=$x");
		is(state_now(), $before, "$test: the run without the lock has not written");
		is((split(/\|/, $p->errored_state))[0], (split(/\|/, $before))[0] + 1,
			"$test: the state of the run is in errored.tfstate");
		$p->run_ok("$test: errored.tfstate can be pushed with the lock",
			'state', 'push', 'errored.tfstate');
		$p->run_fails("$test: state rm -lock=false", $unlocked,
			'state', 'rm', '-lock=false', $x);
		$p->run_ok("$test: destroy", 'destroy', '-auto-approve');

		# A workspace whose state has resources cannot be deleted without its lock.  Terraform
		# unlocks before it deletes, and only the shim knows that the run had the lock.
		my $not_empty =
		  qr/cannot delete workspace "prod\.states\/stage": this session does not hold its lock, and its state, last written by \S+ at \S+ \S+, is not empty; lock it first/;
		$p->run_ok("$test: workspace new", 'workspace', 'new', 'stage');
		$p->apply_ok("$test: apply in the workspace");
		$p->run_ok("$test: workspace select", 'workspace', 'select', 'default');
		$p->run_fails("$test: workspace delete -force -lock=false",
			$not_empty, 'workspace', 'delete', '-force', '-lock=false', 'stage');
		$p->run_fails("$test: workspace delete -force",
			$not_empty, 'workspace', 'delete', '-force', 'stage')
		  if $p == $stock;
		$p->run_ok("$test: workspace select", 'workspace', 'select', 'stage');
		$p->run_ok("$test: destroy", 'destroy', '-auto-approve');
		$p->run_ok("$test: workspace select", 'workspace', 'select', 'default');
		$p->run_ok("$test: workspace delete", 'workspace', 'delete', 'stage');

		# Workspaces that are created with a state, or by an apply
		save_state($p, 'next.tfstate', sql(q(SELECT data FROM prod.states)));
		$p->run_ok("$test: workspace new -state",
			'workspace', 'new', '-state=next.tfstate', 'copied');
		$p->run_ok("$test: workspace select -or-create",
			'workspace', 'select', '-or-create', 'selected');
		$p->run_ok("$test: workspace select", 'workspace', 'select', 'default');
		$p->run_ok("$test: workspace delete $_", 'workspace', 'delete', $_)
		  foreach 'copied', 'selected';
		is(sql(q(SELECT string_agg(name, ' ') FROM prod.states)), 'default',
			"$test: the workspace is deleted");
		nothing_held($node, "$test: no lock is left");
	}
}

is(sql(q(SELECT count(*) FROM tfstate_verify('prod.*', true))),
	0, 'all versions are intact, and the newest are what is in the table');

done_testing();
