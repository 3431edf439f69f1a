# Clients with and without tfstate exclude each other: a stock Terraform, whose search_path
# does not contain the shim, and tfstate_lock() in psql.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('stock');
my $schema = 'prod';
my $lockid = "$schema.states/default";

attach($node, $schema);

sub project
{
	my ($who, %params) = @_;
	return Terraform->new($node, schema => $schema, who => $who, %params);
}

my $stock = project('stock', stock => 1);
my $ours = project('ours');
my $durable = project('durable', options => { 'tfstate.mode' => 'durable' });

# The stock client holds the lock.
{
	my $run = $stock->start_slow_apply;

	is(sql('SELECT count(*) FROM tfstate_holders'),
		0, 'the lock of a stock client has no row in tfstate');
	foreach my $project ($ours, $durable)
	{
		$project->apply_fails(
			"stock against $project->{who}",
			qr/\Qstate lock "$lockid" is held without tfstate by terraform\E\@127\.0\.0\.1 \(pid \d+/
		);
	}
	my ($status, undef, $stderr) =
	  $node->psql('postgres', "SELECT tfstate_lock('$lockid')");
	isnt($status, 0, 'tfstate_lock() is refused, too');
	like($stderr, qr/is held without tfstate by terraform\@127\.0\.0\.1/,
		'the error of tfstate_lock() names the holder');
	$stock->open_gate;
	is(($run->finish)[0], 0, 'the stock client succeeds');
	$_->apply_ok("after the stock client, $_->{who} succeeds") foreach $ours, $durable;
	nothing_held($node, 'no lock is left');
}

# A client with tfstate holds the lock; in durable mode it keeps stock clients out only as
# long as its session lives.
foreach my $project ($ours, $durable)
{
	my $run = $project->start_slow_apply;

	$stock->apply_fails("$project->{who} against stock",
		qr/Workspace is already locked: default/);
	is(sql('SELECT who FROM tfstate_holders'),
		$project->{who}, 'the refusal does not change the lock of the holder');
	$project->open_gate;
	is(($run->finish)[0], 0, "$project->{who} succeeds");
	$stock->apply_ok("after $project->{who}, the stock client succeeds");
	nothing_held($node, 'no lock is left');
}

# A run can wait in the server for a stock client, too.
foreach my $mode ('session', 'durable')
{
	my $waiter = project("waiter-$mode",
		options => { 'tfstate.mode' => $mode, 'tfstate.wait' => '2min' });
	my $run = $stock->start_slow_apply;
	my $waiting = $waiter->start('apply', '-auto-approve');

	wait_for(
		'the waiter',
		sub {
			sql(q(SELECT count(*) FROM pg_stat_activity
				WHERE usename = 'terraform' AND wait_event_type = 'Lock' AND wait_event = 'advisory')
			) == 1;
		});
	is($waiting->is_done, 0, "$mode: tfstate.wait waits for a stock client");
	$stock->open_gate;
	is(($run->finish)[0], 0, "$mode: the stock client succeeds");
	is(($waiting->finish)[0], 0, "$mode: the run that waited succeeds after it");
	nothing_held($node, "$mode: no lock is left");
}

# tfstate_lock() in psql on the lockid of the workspace, in each mode
foreach my $mode ('session', 'durable')
{
	my $session = session($node);

	$session->query_safe(
		qq(SELECT tfstate_lock('$lockid', '{"Who":"dba","Operation":"repair","Info":"ticket 42"}', '$mode')));
	foreach my $project ($ours, $durable)
	{
		$project->apply_fails(
			"psql, $mode mode, against $project->{who}",
			qr/\Qstate lock "$lockid" is held by dba: repair since \E.* \(ID [0-9a-f-]{36}, info "ticket 42"\)/
		);
	}
	$stock->apply_fails("psql, $mode mode, against stock",
		qr/Workspace is already locked: default/);
	$session->query_safe("SELECT tfstate_unlock('$lockid')");
	$ours->apply_ok("psql, $mode mode: after the unlock the run succeeds");
	$session->quit;

	# the other way round
	my $run = $ours->start_slow_apply;
	my ($status, undef, $stderr) = $node->psql('postgres',
		"SELECT tfstate_lock('$lockid', '{}', '$mode')");
	isnt($status, 0, "a run against psql, $mode mode: tfstate_lock() is refused");
	like(
		$stderr,
		qr/state lock "\Q$lockid\E" is held by ours: apply since/,
		"a run against psql, $mode mode: the error names the holder");
	$ours->open_gate;
	is(($run->finish)[0], 0, 'the run succeeds');
	nothing_held($node, 'no lock is left');
}

# The lock of a workspace that does not exist yet keeps others from creating it.
foreach my $mode ('session', 'durable')
{
	my $session = session($node);
	my $p = $mode eq 'session' ? $ours : $durable;

	$session->query_safe(
		"SELECT tfstate_lock('$schema.states/stage', '{\"Who\":\"dba\"}')");
	$p->run_fails("$mode: workspace new of a locked name",
		qr/\Qstate lock "$schema.states\/stage" is held by dba since\E/,
		'workspace', 'new', 'stage');
	is(sql("SELECT count(*) FROM $schema.states WHERE name = 'stage'"),
		0, "$mode: the workspace has not been created");
	is(sql('SELECT lockid, who FROM tfstate_holders'),
		"$schema.states/stage|dba", "$mode: only the lock of psql is held");
	$session->query_safe("SELECT tfstate_unlock('$schema.states/stage')");
	$session->quit;
	$p->run_ok("$mode: workspace new after the unlock",
		'workspace', 'new', 'stage');
	$p->run_ok("$mode: workspace select", 'workspace', 'select', 'default');
	$p->run_ok("$mode: workspace delete", 'workspace', 'delete', 'stage');
	nothing_held($node, "$mode: no lock is left");
}

# A stock client that applies to a table without a row for the first time holds the creation
# key for the whole run.  For clients of tfstate this delays only creations, and, with
# programs that have a key for each table, not even those of other projects.
{
	my $other = Terraform->new(
		$node,
		schema => 'other',
		who => 'first stock',
		stock => 1);
	attach($node, 'other');
	sql('DELETE FROM other.states');
	my $run = $other->start_slow_apply;

	$ours->run_ok('a first stock apply: plan of another project', 'plan');
	$ours->apply_ok('a first stock apply: another project can apply meanwhile');
	if (program('key_per_table'))
	{
		$ours->run_ok('a first stock apply: workspace new of another project',
			'workspace', 'new', 'stage');
		$ours->run_ok('a first stock apply: workspace select', 'workspace', 'select', 'default');
	}
	else
	{
		$ours->run_fails('a first stock apply: workspace new of another project',
			qr/is held without tfstate by terraform\@127\.0\.0\.1/,
			'workspace', 'new', 'stage');
	}
	$other->open_gate;
	is(($run->finish)[0], 0, 'a first stock apply: the run succeeds');
	nothing_held($node, 'no lock is left');
}

# The lock belongs to the name: a row that is deleted and inserted again, with another id,
# has the same lock.
{
	my $run = $ours->start_slow_apply;
	my $id = sql("SELECT id FROM $schema.states WHERE name = 'default'");

	sql(qq(
		SET tfstate.guard = off;
		CREATE TEMPORARY TABLE old AS SELECT name, data FROM $schema.states WHERE name = 'default';
		DELETE FROM $schema.states WHERE name = 'default';
		INSERT INTO $schema.states (name, data) SELECT name, data FROM old;
	));
	isnt(sql("SELECT id FROM $schema.states WHERE name = 'default'"),
		$id, 'the new row has another id');
	$durable->apply_fails('a run on the new row',
		qr/\Qstate lock "$lockid" is held by ours: apply\E/);
	$ours->open_gate;
	is(($run->finish)[0], 0, 'the run on the old row has ended');
	nothing_held($node, 'no lock is left');
	$durable->apply_ok('a run on the new row succeeds after that');
	nothing_held($node, 'no lock is left');
}

done_testing();
