# A lock and its unlock read no more rows however often the lock was taken before, even if an
# old snapshot keeps vacuum from removing what those locks left.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('old_snapshot', conf => "autovacuum = off\n");
my $old = session($node, name => 'old');
my $client = session($node, name => 'client');

# Locks and unlocks 640 times, each in its own transaction.
sub work
{
	$client->query_safe(
		q(DO $$ BEGIN FOR i IN 1..640 LOOP
		    PERFORM tfstate_lock('many'); PERFORM tfstate_unlock('many'); COMMIT;
		  END LOOP; END $$));
	return;
}

# Returns how many rows the client reads by indexes of tfstate in 640 pairs.
sub rows_read
{
	my $query = q(SELECT sum(idx_tup_fetch) FROM pg_stat_user_tables WHERE schemaname = 'tfstate_internal');
	my @sums;
	foreach my $turn (1, 2)
	{
		work() if $turn == 2;
		$client->query_safe('SELECT pg_stat_force_next_flush()');
		push @sums, $client->query_safe($query);
	}
	return $sums[1] - $sums[0];
}

foreach my $count (0, 10)
{
	$client->query_safe("SET tfstate.history_count = $count");
	$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	work();
	my $before = rows_read();
	work() foreach 1 .. 5;
	my $after = rows_read();
	note("history_count $count: $before rows, later $after");
	cmp_ok($before, '>', 0, "history_count $count: rows are counted");
	cmp_ok($after, '<', 1.2 * $before, "history_count $count: no more rows are read later");
	$old->query_safe('COMMIT');
}
is($client->query_safe(q(SELECT count(*) <= 10 + 64 FROM tfstate_history('many'))),
	't', 'the history was pruned');

$old->quit;
$client->quit;
$node->stop;
done_testing();
