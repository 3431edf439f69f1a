# Session locks that dead sessions have left, and shares of locks that other sessions released, are removed by
# later calls, a bounded number at a time.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('housekeeping', conf => "autovacuum = off\nwal_writer_delay = 10s\n");
my $session = session($node, name => 'session');
my $other = session($node, name => 'other');

# How many locks of dead sessions have been left, and not removed
my $left = 0;
sub left
{
	return $left - sql(q(SELECT value FROM tfstate_metrics WHERE name = 'tfstate_releases_total' AND labels = '{"how": "reclaimed"}'));
}

# Leaves locks of dead sessions for ordinary lockids.
sub leave_locks
{
	my ($prefix, $count) = @_;
	$left += $count;
	sql("SELECT count(tfstate_lock('$prefix/' || n, '{}', 'session')) FROM generate_series(1, $count) n");
	return;
}

# Locks and unlocks one lockid in session mode, each in its own transaction.
sub lock_often
{
	my ($times) = @_;
	$session->query_safe(
		"DO \$\$ BEGIN FOR i IN 1 .. $times LOOP PERFORM tfstate_lock('mine', '{}', 'session'); COMMIT; PERFORM tfstate_unlock('mine'); COMMIT; END LOOP; END \$\$"
	);
	return;
}

# The locks of a living session are kept.  They are more than one transaction looks at.
$other->query_safe("SELECT count(tfstate_lock('living/' || n, '{}', 'session')) FROM generate_series(1, 400) n");
leave_locks('dead', 900);
leave_locks('dead2', 900);
is(left(), 1800, 'dead sessions leave locks');
lock_often(2);
cmp_ok(left(), '<', 1800, 'the next session locks remove some of them');
cmp_ok(left(), '>=', 1800 - 160, 'the next session locks remove a bounded number of them');
lock_often(100);
is(left(), 0, 'more session locks remove all locks of dead sessions, and none of a living one');
is(sql("SELECT count(*) FROM tfstate_holders('living/*')"), 400, 'the living session still holds its locks');
is(sql("SELECT count(*) FROM tfstate_history"), 0, 'the history has nothing of the dead sessions');
is(manager_locks($node), 400 + 1 + 1, 'the lock manager has only the tags of living sessions');

# A durable lock removes none, because its commit waits for the disk.
leave_locks('dead3', 50);
$session->query_safe("SELECT count(tfstate_unlock('durable')) FROM tfstate_lock('durable')");
is(left(), 50, 'a durable lock removes none');

# A transaction that is rolled back, or that drops the extension, removes none either.
my $fresh = session($node, name => 'fresh');
$fresh->query_safe("BEGIN; SELECT tfstate_lock('x', '{}', 'session'); ROLLBACK");
is(left(), 50, 'a rollback removes none');

# Dead locks of workspaces are recorded, though the lock that removes them is not flushed.
sql("SELECT tfstate_attach('tf')");
$fresh->query_safe("SELECT tfstate_lock('tf.states/default', '{}', 'session')");
$fresh->quit;
$left++;
wait_for('the end of the session',
	sub { sql("SELECT count(*) FROM tfstate_holders('tf.states/default')") == 0 });
# (Each 64th lock looks for them, but not if its transaction has written to WAL.)
for (1 .. 10)
{
	last if left() == 0;
	lock_often(130);
}
is(left(), 0, 'the next session locks remove all locks of dead sessions again');
is(sql("SELECT lockid, how FROM tfstate_history WHERE mode = 'session'"),
	'tf.states/default|reclaimed', 'the history has the dead lock of a workspace');

# A session that has dropped the extension can commit.
$session->query_safe(
	"CREATE DATABASE dropped");
my $dropper = session($node, name => 'dropper', dbname => 'dropped');
$dropper->query_safe('CREATE EXTENSION tfstate');
$dropper->query_safe(
	"BEGIN; SELECT tfstate_lock('x', '{}', 'session'); SET client_min_messages = warning; DROP EXTENSION tfstate; COMMIT");
is($dropper->query_safe("SELECT count(*) FROM pg_extension WHERE extname = 'tfstate'"),
	0, 'a transaction that locks and drops the extension commits');

# Nor does it matter that it is created again, be that committed or not.
$dropper->query_safe('CREATE EXTENSION tfstate');
$dropper->query_safe("SELECT tfstate_lock('kept', '{}', 'session')");
my $again = "SET client_min_messages = warning; BEGIN; SELECT tfstate_lock('old', '{}', 'session'); DROP EXTENSION tfstate; CREATE EXTENSION tfstate; SELECT tfstate_lock('new', '{}', 'session')";
$dropper->query_safe("$again; ROLLBACK");
is($dropper->query_safe("SELECT string_agg(lockid, ' ') FROM tfstate_holders"), 'kept', 'after a rollback the locks from before are there');
is($dropper->query_safe("SELECT tfstate_unlock('kept') ->> 'Path'"), 'kept', 'and can be released');
is($node->safe_psql('dropped', "SELECT locked FROM tfstate_try_lock('kept')"), 't', 'so that others get them');
$dropper->query_safe("$again; COMMIT");
is($dropper->query_safe("SELECT string_agg(lockid, ' ') FROM tfstate_holders"), 'new', 'after a commit only the new ones');
is($node->safe_psql('dropped', "SELECT string_agg(lockid, ' ') FROM tfstate_holders"), 'new', 'for others, too');
$dropper->query_safe("SELECT tfstate_unlock('new')");
$dropper->quit;

# The shares for durable locks of workspaces that other sessions have released are given
# back, some with each lock.
sql("SET tfstate.guard = off; INSERT INTO tf.states (name, data) SELECT 'w' || i, '{\"version\": 4, \"serial\": 1, \"lineage\": \"l\", \"resources\": []}' FROM generate_series(1, 60) i");
$session->query_safe("SELECT count(tfstate_lock('tf.states/w' || i)) FROM generate_series(1, 60) i");
sub shares
{
	return sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND pid = $session->{pid}");
}
is(shares(), 60, 'a session keeps a share for each workspace that it has locked');
$other->query_safe("SELECT count(tfstate_force_unlock(lockid)) FROM tfstate_holders('tf.states/*') WHERE right(lockid, 1) <> '7'");
foreach my $i (1 .. 8)
{
	$session->query_safe("SELECT tfstate_unlock('durable') FROM tfstate_lock('durable')");
}
is(shares(), 6, 'the shares of released locks are given back, some with each lock');
is(sql("SELECT count(*) FROM tfstate_holders('tf.states/*')"), 6, 'the other locks stay held');

# Sessions that begin at once, where there is no memory yet, use the same.
my $sequence = 'tfstate_internal.shared_memory';
my $seen = 0;
foreach my $round (1 .. 5)
{
	my @sessions = map { session($node, name => 'beginner') } 1 .. 8;
	$other->query_safe("BEGIN; ALTER SEQUENCE $sequence RENAME TO renamed; ALTER SEQUENCE tfstate_internal.renamed RENAME TO shared_memory; SELECT setval('$sequence', 1)");
	$sessions[$_]->send("SELECT tfstate_lock('begin/$round/$_', '{}', 'session')") foreach 0 .. 7;
	wait_for('the sessions to wait', sub { sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'beginner' AND wait_event_type = 'Lock'") == 8 });
	$other->query_safe('COMMIT');
	$_->result foreach @sessions;
	$seen += sql("SELECT count(*) FROM tfstate_holders('begin/$round/*')");
	$_->quit foreach @sessions;
}
is($seen, 5 * 8, 'sessions that begin at once see the locks of each other');
unlike(slurp_file($node->logfile), qr/shared memory leak/, 'and those that make the memory in vain give it back');

$_->quit foreach $session, $other;
done_testing();
