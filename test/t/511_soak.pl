# Sessions that live long use no more memory, locks or disk the longer they work.
#
# SOAK_MINUTES sets the duration.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use List::Util qw(max);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use TestServer;

my $seconds = 60 * ($ENV{SOAK_MINUTES} || 0.3);
my $node = tfstate_node(
	'soak',
	conf => q(
autovacuum_naptime = 1s
tfstate.history = all
tfstate.history_count = 50
));

$node->safe_psql('postgres',
	"SELECT tfstate_attach('tf', 'states', guard => 'on', keep_versions => 20)");
$node->safe_psql('postgres',
	q(INSERT INTO tf.states (name, data) VALUES ('w', '{"serial":1,"lineage":"l"}')));

# What a session repeats.  Another session holds taken and taken/session.
my $work = q(
SELECT tfstate_lock('a'), tfstate_unlock('a');
SELECT tfstate_lock('a', mode => 'session');
SELECT tfstate_unlock('a');
BEGIN;
SELECT id FROM tfstate_lock('lease', ttl => '1 hour') \gset
SELECT tfstate_renew('lease', :'id');
COMMIT;
SELECT tfstate_unlock('lease', :'id');
SELECT locked FROM tfstate_try_lock('taken');
SELECT locked FROM tfstate_try_lock('taken', mode => 'session');
SELECT locked FROM tfstate_try_lock('taken', wait => '1 ms');
SELECT locked FROM tfstate_try_lock('taken/session', mode => 'session', wait => '1 ms');
BEGIN;
SAVEPOINT s;
SELECT tfstate_lock('b'), tfstate_lock('c', mode => 'session'), tfstate_lock('tf.states/w');
ROLLBACK TO s;
SELECT tfstate_lock('b', mode => 'session'), tfstate_lock('c'), tfstate_lock('tf.states/w');
ROLLBACK;
DO $$ BEGIN PERFORM tfstate_lock('d'), tfstate_lock('taken'); EXCEPTION WHEN lock_not_available THEN NULL; END $$;
SET lock_timeout = '1ms';
DO $$ BEGIN PERFORM tfstate_lock('taken/session', wait => NULL); EXCEPTION WHEN lock_not_available THEN NULL; END $$;
RESET lock_timeout;
SELECT tfstate_lock('tf.states/w', mode => 'session');
UPDATE tf.states SET data = replace(data, '"serial":' || (data::json->>'serial'), '"serial":' || (data::json->>'serial')::bigint + 1)
 WHERE name = 'w';
SELECT tfstate_version('tf.states/w', max(number)) FROM tfstate_versions('tf.states/w');
SELECT count(*) FROM tfstate_verify('tf.states/w');
SELECT tfstate_unlock('tf.states/w');
SELECT count(*) FROM tfstate_holders, tfstate_waiters;
SELECT count(*) FROM tfstate_resources();
);

# Returns the size of the memory contexts of a session in bytes, and its number of locks.
my $usage = q(
SELECT sum(total_bytes) FILTER (WHERE name = 'TopMemoryContext'),
	   sum(total_bytes) FILTER (WHERE name LIKE 'LOCALLOCK%'),
	   sum(total_bytes) FILTER (WHERE name NOT IN ('MessageContext', 'ErrorContext')),
	   (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory')
  FROM pg_backend_memory_contexts);

sub resident_kb
{
	my ($pid) = @_;
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m;

	return $kb;
}

# Returns the size of the extension's tables with their indexes, in kB.
sub disk_kb
{
	return $node->safe_psql('postgres',
		q(SELECT sum(pg_total_relation_size(oid))::bigint / 1024 FROM pg_class
		   WHERE relkind = 'r' AND relnamespace = 'tfstate_internal'::regnamespace));
}

my $holder = session($node);
$holder->query_safe(
	"SELECT tfstate_lock('taken'), tfstate_lock('taken/session', mode => 'session')");

my $worker = session($node);
my (@samples, $rounds);
my $begin = time;
while (time < $begin + $seconds)
{
	$worker->query_safe($work) for 1 .. 5;
	$rounds += 5;
	my @memory = split /\|/, $worker->query_safe($usage);
	push @samples,
	  { top => $memory[0], locallock => $memory[1] // 0, contexts => $memory[2],
		locks => $memory[3], rss => resident_kb($worker->{pid}), disk => disk_kb() };
}
note "$rounds rounds";

# The maximum of the last third is no larger than that of the middle third, apart from a
# small amount that depends on the moment of the measurement.
my $third = int(@samples / 3);
cmp_ok($third, '>=', 3, 'there are enough samples');
my %slack = (top => 0, locallock => 0, contexts => 65536, locks => 0, rss => 512, disk => 2048);
foreach my $what (sort keys %slack)
{
	my @values = map { $_->{$what} } @samples;
	my $middle = max(@values[ $third .. 2 * $third - 1 ]);
	my $last = max(@values[ 2 * $third .. $#values ]);

	cmp_ok($last, '<=', $middle + $slack{$what}, "$what does not grow");
	note "$what: first $values[0], middle $middle, last $last";
}

$_->quit foreach $worker, $holder;
done_testing();
