# What happens to a run that loses its connection during an apply: cells of the tables in
# doc/explanation/lost-connections.md (LostConnections.pm; failovers are in 414_terraform_failover.pl).
#
# The connection is lost because its session is terminated; because the server is restarted;
# because the server is down when Terraform wants to write a snapshot of its state (it does
# so every 20 seconds, and raises the serial with each attempt); or behind a pooler whose
# connections to the server are terminated.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use LostConnections;
use Terraform;
use Test::More;
use TestServer;
use Time::HiRes qw(time sleep);

terraform_or_skip();

# An apply writes a snapshot at the first change that comes so many seconds after its first
my $persist_interval = 20;

my $node = terraform_node('lost_connections');

# The session of each run is terminated.
{
	my @cells = begin_cells($node, 'ended', [ 'session', 'no shim', 'durable' ]);

	sql("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = 'terraform'");
	check_cell($_) foreach @cells;
}

# The server is restarted.
{
	my @cells = begin_cells($node, 'restarted', [ 'session', 'no shim', 'durable' ]);

	$node->restart;
	check_cell($_) foreach @cells;
}

# The server is down when the runs want to write snapshots: the next attempt has a serial
# that no other run has written, so the serial alone shows no conflict.
{
	my @cells = begin_cells($node, 'unheard', [ 'session', 'no shim', 'durable' ], gate_first => 1);
	my $weak = begin_cell($node, 'unheard', 'session', 'ended', guard => 'on', gate_first => 1);
	my $begun = time;

	sleep(0.1) until time > $begun + $persist_interval + 1;
	$node->stop;
	foreach my $cell (@cells, $weak)
	{
		unlink("$cell->{alice}{dir}/gate_first") or die "gate_first: $!";
	}
	foreach my $cell (@cells, $weak)
	{
		wait_for("the first resource of $cell->{test}",
			sub { $cell->{run}->output =~ /terraform_data\.first: Creation complete/ });
	}
	sleep(1);
	$node->start;
	check_cell($_) foreach @cells;

	# If the lock is not required, the update of the other run is lost.
	end_cell($weak);
	$weak->{run}->finish;
	like(state_of($node, $weak->{schema}), qr/^\d+\|alice$/,
		'unheard, not required: the state of the other run is overwritten');
}

# Through PgBouncer in transaction mode, whose sessions are terminated
SKIP:
{
	skip 'pgbouncer is not installed', 1 unless path_of('pgbouncer');

	sql('CREATE ROLE pooled LOGIN');
	my $pooler = start_pooler(
		$node,
		roles => ['pooled'],
		pool_size => 3,
		conf => 'server_round_robin = 1');

	my @cells = begin_cells($node, 'pooler', ['durable'], pooler_port => $pooler->{port});
	sql("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = 'pooled'");
	check_cell($_) foreach @cells;
}

is(sql('SELECT count(*) FROM tfstate_holders'), 0, 'no lock is left');

done_testing();
