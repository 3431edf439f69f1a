# A lock and its unlock read no more index entries however often the lock was taken before, even if an
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

# Locks and unlocks 768 times, each in its own transaction.
sub work
{
	$client->query_safe(
		q(DO $$ BEGIN FOR i IN 1..768 LOOP
		    PERFORM tfstate_lock('many'); PERFORM tfstate_unlock('many'); COMMIT;
		  END LOOP; END $$));
	return;
}

# Returns how many index entries of tfstate's tables the client reads in 768 pairs.
sub rows_read
{
	my $query = q(SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = 'tfstate_internal');
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
	note("history_count $count: $before entries, later $after");
	cmp_ok($before, '>', 0, "history_count $count: entries are counted");
	cmp_ok($after, '<', 1.2 * $before, "history_count $count: no more are read later");
	$old->query_safe('COMMIT');
}
is($client->query_safe(q(SELECT count(*) <= 10 + 256 FROM tfstate_history('many'))),
	't', 'the history was pruned');

# After a time in which many rows could not be removed, the newest are at the end of the table.
# Later ones come to its beginning, and vacuum cuts off the rest, also if it finds few to remove.
sub history_pages
{
	$client->query_safe('VACUUM tfstate_internal.released_lock');
	return $client->query_safe(q(SELECT pg_relation_size('tfstate_internal.released_lock') / 8192));
}

$client->query_safe(
	q(INSERT INTO tfstate_internal.released_lock
	  SELECT 'gone', i, i, now(), NULL, NULL, 1, 1, 'none', 'x', 'x', NULL, NULL, NULL, NULL, NULL, '{}', 'durable', now(), 'unlock', 'x', NULL
		FROM generate_series(1, 100000) i));
work();
$client->query_safe(q(DELETE FROM tfstate_internal.released_lock WHERE lockid = 'gone'));
my $bloated = history_pages();
work();
my $later = history_pages();
note("$bloated pages, later $later");
cmp_ok($bloated, '>', 1500, 'vacuum cannot cut off pages with rows behind them');
cmp_ok($later, '<', 100, 'after some more locks it can');

$old->quit;
$client->quit;
$node->stop;
done_testing();
