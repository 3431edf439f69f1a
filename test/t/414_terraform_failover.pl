# What happens to a run whose server fails over to a standby during an apply: cells of the
# tables in doc/explanation/lost-connections.md (LostConnections.pm).
#
# The primary dies, and the standby is promoted and gets the primary's address.  Terraform
# knows only one address.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use LostConnections;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

# Starts a primary with a standby.
sub start_pair
{
	my ($name) = @_;
	my $primary = terraform_node($name, init => { allows_streaming => 1 });
	my $standby = PostgreSQL::Test::Cluster->new("${name}_standby");

	$primary->backup('base');
	$standby->init_from_backup($primary, 'base', has_streaming => 1);
	$standby->start;
	return ($primary, $standby);
}

# Has commits on the primary wait for the standby.
sub make_synchronous
{
	my ($primary, $standby) = @_;
	my $name = $standby->name;

	$primary->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '$name'");
	$primary->reload;
	$primary->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name = '$name' AND sync_state = 'sync'"
	) or die 'the standby does not become synchronous';
	return;
}

# Promotes the standby at the address of the primary, which is dead: from then on, what
# connects to the primary comes to the standby.
sub take_over
{
	my ($primary, $standby) = @_;

	$standby->append_conf('postgresql.conf', 'port = ' . $primary->port);
	$standby->restart;
	$standby->promote;
	$primary->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()')
	  or die 'the standby is not promoted';
	return;
}

my ($primary, $standby) = start_pair('synchronous');
make_synchronous($primary, $standby);

# The run writes when the standby has taken over.
my @cells = begin_cells($primary, 'failed over', [ 'session', 'no shim', 'durable' ]);

# The run ends before that.
my %too_early = map { $_ => begin_cell($primary, 'ended before', $_, 'nobody') } 'session', 'durable';

$primary->stop('immediate');
foreach my $cell (values %too_early)
{
	$cell->{alice}->open_gate;
	$cell->{run}->fails_ok($cell->{test}, qr/connection refused/);
	like($cell->{alice}->errored_state, qr/^\d+\|alice$/,
		"$cell->{test}: the state of the run is in errored.tfstate");
}
take_over($primary, $standby);
check_cell($_) foreach @cells;

# In durable mode the run still has the lock, and another run is refused.  Under the run's
# name, its state is pushed, which releases the lock.
foreach my $mode (sort keys %too_early)
{
	my ($alice, $schema, $test) = @{ $too_early{$mode} }{qw(alice schema test)};

	is( $primary->safe_psql('postgres',
			"SELECT locked FROM tfstate_try_lock('$schema.states/default', '{}', 'session')"),
		$mode eq 'durable' ? 'f' : 't',
		"$test: the lock is " . ($mode eq 'durable' ? 'held' : 'free'));
	$alice->run_ok("$test: state push", 'state', 'push', 'errored.tfstate');
	like(state_of($primary, $schema), qr/^\d+\|alice$/, "$test: the pushed state is written");
	$alice->run_ok("$test: nothing is left to be done", 'plan', '-detailed-exitcode');
}
is($primary->safe_psql('postgres', 'SELECT count(*) FROM tfstate_holders'),
	0, 'no lock is left');

# An asynchronous standby that is down when the runs take their locks: these are lost.
my ($asynchronous, $behind) = start_pair('asynchronous');
attach($asynchronous, "c_behind_durable_$_") foreach 'nobody', 'holds', 'ended';
$asynchronous->wait_for_catchup($behind);
$behind->stop;
@cells = begin_cells($asynchronous, 'behind', ['durable'], lock_lost => 1);
$asynchronous->stop('immediate');
take_over($asynchronous, $behind);
is($asynchronous->safe_psql('postgres', 'SELECT count(*) FROM tfstate_holders'),
	0, 'behind: the locks are lost');
check_cell($_) foreach @cells;

done_testing();
