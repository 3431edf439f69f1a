# Fences and locks where the sequence or the rows come from elsewhere: a failover to a
# standby, a restore of single tables, and logical replication of all tables.  What was
# acknowledged survives a crash at each value of synchronous_commit.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $jump = 1_000_000_000;

# WAL is written to disk in time only by a commit that waits for its flush.
my $primary = tfstate_node(
	'primary',
	init => { allows_streaming => 'logical' },
	conf => qq(
wal_writer_delay = 10s
wal_writer_flush_after = 0
));

# A lock and a renewal that were acknowledged, at each value of synchronous_commit
foreach my $level (qw(off local remote_write on remote_apply))
{
	my $session = session($primary);

	$session->query_safe("SET synchronous_commit = $level");
	$session->query_safe(
		"SELECT tfstate_lock('crash/$level', '{\"ID\":\"1\"}', ttl => '1 h')");
	my $expires =
	  $session->query_safe("SELECT tfstate_renew('crash/$level', '1', '2 h')");
	$primary->stop('immediate');
	$primary->start;
	is( sql("SELECT expires_at = '$expires' FROM tfstate_internal.durable_lock WHERE lockid = 'crash/$level'"),
		't',
		"a renewal with synchronous_commit = $level survives a crash");
	sql("SELECT tfstate_force_unlock('crash/$level')");
}

# What a user writes in a transaction that takes a session lock and removes what a dead
# session has left
sql('CREATE TABLE written (n integer)');
my $dead = session($primary);
$dead->query_safe("SELECT tfstate_lock('dead', '{}', 'session')");
sql("SELECT pg_terminate_backend($dead->{pid}, 10000)");
my $writer = session($primary);
$writer->query_safe($_)
  foreach 'BEGIN', 'INSERT INTO written VALUES (1)',
  "SELECT tfstate_lock('living', '{}', 'session')", 'COMMIT';
$primary->stop('immediate');
$primary->start;
is(sql('SELECT n FROM written'),
	1, 'what a transaction with a session lock has written survives a crash');
sql('DROP TABLE written');

# A new timeline.  One session has looked up the tables before.
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
my $before = sql("SELECT fence FROM tfstate_lock('failover')");
$primary->wait_for_catchup($standby);
my $early = session($standby);
is( $early->query_safe(
		"SELECT fence FROM tfstate_holders('failover')"),
	$before,
	'the standby shows the lock');
$standby->promote;
my @after = map {
	$_->query_safe("SELECT fence FROM tfstate_lock('new/' || gen_random_uuid())")
} ($early, $early, session($standby), session($standby));
cmp_ok($after[0], '>=', $before + $jump, 'fences jump on a new timeline');
cmp_ok($after[$_], '>', $after[ $_ - 1 ], 'the next fence is larger than that') foreach 1, 2;
cmp_ok($after[3], '<', $before + 2 * $jump, 'fences jump only once');
$standby->restart;
cmp_ok(
	$standby->safe_psql('postgres', "SELECT fence FROM tfstate_lock('later')"),
	'<',
	$before + 2 * $jump,
	'a restart does not make fences jump again');
$standby->stop;

# Only the tables, restored into an installation that has other locks
sql("SELECT tfstate_unlock('failover', id) FROM tfstate_holders('failover')");
sql("SELECT setval('tfstate_internal.fence', 5000)");
sql("SELECT tfstate_lock('restored/held', '{\"ID\":\"1\"}')");
sql("SELECT tfstate_lock('restored/old', '{\"ID\":\"1\"}')");
sql("SELECT tfstate_unlock('restored/old', '1')");
my $dump = $primary->basedir . '/data.sql';
$primary->command_ok(
	[
		'pg_dump', '-a', '-f', $dump,
		'-t', 'tfstate_internal.durable_lock', '-t', 'tfstate_internal.released_lock',
		'-d', $primary->connstr('postgres')
	],
	'the tables are dumped without the sequence');
$primary->safe_psql('postgres', 'CREATE DATABASE other');
$primary->safe_psql('other', 'CREATE EXTENSION tfstate');
$primary->safe_psql('other', "SELECT tfstate_lock('mine', '{\"ID\":\"1\"}')");
$primary->command_ok(
	[
		'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump,
		'-d', $primary->connstr('other')
	],
	'the tables are restored into another installation');
is( $primary->safe_psql('other',
		"SELECT locked, id, fence > 5000 FROM tfstate_try_lock('restored/held')"),
	'f|1|t',
	'a lock that was restored is held');
is( $primary->safe_psql('other',
		"SELECT fence > 5000 FROM tfstate_lock('restored/old')"),
	't',
	'a fence is above those of the restored history');
$primary->command_fails_like(
	[
		'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump,
		'-d', $primary->connstr('other')
	],
	qr/state lock "restored\/(held|old)" is already held/,
	'a second restore does not bring in a lock twice');

# Logical replication of all tables.
my $subscriber = tfstate_node('subscriber');
my $key = $subscriber->safe_psql('postgres', 'SELECT key FROM tfstate_internal.installation');
sql('CREATE TABLE users (n integer PRIMARY KEY)');
$subscriber->safe_psql('postgres', 'CREATE TABLE users (n integer PRIMARY KEY)');
sql('CREATE PUBLICATION everything FOR ALL TABLES');
sql("SELECT tfstate_lock('logical/before', '{\"ID\":\"1\"}')");
$subscriber->safe_psql('postgres',
		"CREATE SUBSCRIPTION s CONNECTION '"
	  . $primary->connstr
	  . " dbname=postgres' PUBLICATION everything");
$subscriber->wait_for_subscription_sync($primary, 's');
sql("SELECT tfstate_lock('logical/after', '{\"ID\":\"1\"}')");
sql("SELECT tfstate_unlock('logical/before', '1')");
sql("UPDATE tfstate_internal.installation SET timeline = timeline");
my $newest = sql("SELECT max(fence) FROM tfstate_history");
sql('INSERT INTO users VALUES (1)');
$primary->wait_for_catchup('s');
is($subscriber->safe_psql('postgres', 'SELECT n FROM users'),
	1, 'replication goes on');
is( $subscriber->safe_psql('postgres', 'SELECT key FROM tfstate_internal.installation'),
	$key, 'the subscriber has its own key, and no other');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM tfstate_holders'),
	0, 'no lock is held on the subscriber');
is( $subscriber->safe_psql('postgres',
		"SELECT fence > $newest FROM tfstate_lock('logical/before', '{\"ID\":\"2\"}')"),
	't',
	'a fence on the subscriber is above those of the replicated history');
is( $subscriber->safe_psql('postgres',
		"SELECT tfstate_unlock('logical/before', '2') ->> 'ID'"),
	2,
	'the release of a lock on the subscriber works');
is( sql("SELECT object FROM tfstate_check() WHERE problem ~ 'also publishes tables of tfstate'"),
	'publication everything', 'tfstate_check() warns of the publication');
is( $subscriber->safe_psql('postgres',
		"SELECT object FROM tfstate_check() WHERE starts_with(problem, 'it brings rows of another installation into tables of tfstate, ')"),
	'subscription s',
	'tfstate_check() on the subscriber warns of the subscription');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');

done_testing();
