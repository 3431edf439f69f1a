# tfstate_metrics: the counters add up over all sessions of a database and begin anew with the
# server, a lock is taken where there is no shared memory for them, and what an operator should
# look at has a line in the server log, which no client sees.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node(
	'metrics',
	init => { allows_streaming => 1 },
	conf => "max_prepared_transactions = 5\nlog_line_prefix = ''\n");

# Returns the value of a metric; labels as jsonb.
sub metric
{
	my ($name, $labels, %params) = @_;

	return ($params{node} || $node)->safe_psql($params{database} || 'postgres',
		sprintf(q(SELECT value FROM tfstate_metrics WHERE name = 'tfstate_%s' AND labels = '%s'), $name, $labels || '{}'));
}

my $durable = '{"mode": "durable"}';
my $start = metric('counters_start_time_seconds');

#
# All sessions of a database
#

my $script = $node->basedir . '/pair.sql';
append_to_file($script, q(SELECT tfstate_unlock(l, id) FROM (VALUES ('pair' || :client_id)) v(l), tfstate_lock(v.l);) . "\n");
$node->command_ok([ 'pgbench', '-n', '-c', 4, '-t', 100, '-f', $script, 'postgres' ], 'four clients lock and unlock');
is(metric('acquisitions_total', $durable), 400, 'no acquisition of four clients is missing');
is(metric('releases_total', '{"how": "unlock"}'), 400, 'nor is a release');

$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', q(CREATE EXTENSION tfstate; SELECT tfstate_lock('a')));
is(metric('acquisitions_total', $durable, database => 'other'), 1, 'another database counts for itself');
is(metric('acquisitions_total', $durable), 400, 'and changes nothing in this one');

$node->safe_psql('postgres', q(BEGIN; SELECT tfstate_lock('prepared'); PREPARE TRANSACTION 'p'));
$node->safe_psql('postgres', q(COMMIT PREPARED 'p'));
is(metric('acquisitions_total', $durable), 401, 'a prepared transaction counts');

#
# Waiters, and locks that nobody is there to release
#

my ($holder, $waiter) = (session($node), session($node));
$holder->query_safe(q(SELECT tfstate_lock('s', '{"Who": "alice"}', 'session')));
is(metric('orphaned_locks'), 1, 'a durable lock whose session is gone is an orphan');
is(metric('locks_held', '{"mode": "session"}'), 1, 'a lock in session mode is held');
$waiter->send(q(SELECT tfstate_lock('s', '{"Who": "bob"}', 'session', wait => NULL)));
wait_for('a waiter', sub { metric('waiters') == 1 });
cmp_ok(metric('longest_wait_seconds'), '>', 0, 'it has waited for a while');
my $offset = -s $node->logfile;
$holder->kill9;    # the client; its session ends
$waiter->result;
is(metric('waiters'), 0, 'nobody waits any more');
is(metric('releases_total', '{"how": "reclaimed"}'), 1, 'the lock of a dead session was reclaimed');

#
# The server log
#

# Returns the new lines of the log, without what varies.
sub logged
{
	my $log = slurp_file($node->logfile, $offset);

	$offset = -s $node->logfile;
	return events($log);
}

# Returns the lines about events in a log.
sub events
{
	my ($log) = @_;

	$log =~ s/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+\d\d/TIME/g;
	$log =~ s/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/UUID/g;
	$log =~ s/\(role \w+/(role R/g;
	return join "\n", $log =~ /^LOG:  ((?:state lock|write of|workspace) .*)$/mg;
}

is(logged(), 'state lock "s" of alice (role R, ID UUID, since TIME) was left by a session that is gone, and was removed by '
	  . ($node->safe_psql('postgres', 'SELECT current_user') . '@[local]'), 'a reclaimed lock is logged');

my $secret = 'do-not-show-me';
my $events = qq(
	SET tfstate.who = 'carol\@ops';
	SET client_min_messages = debug5;
	SELECT tfstate_lock('prod/network', '{"Who": "alice\@laptop", "Info": "$secret"}');
	SELECT tfstate_force_unlock('prod/network', reason => E'the laptop\nis gone');
	BEGIN;
	SELECT tfstate_lock('undone', '{"ID": "2"}');
	SELECT tfstate_force_unlock('undone');
	ROLLBACK;
	SELECT tfstate_lock('lease', '{"ID": "3", "Who": "alice"}', ttl => '1 ms');
	SELECT pg_sleep(0.01);
	SELECT tfstate_lock('lease', '{"ID": "4"}');
	SELECT tfstate_unlock('lease', '4');
	SET tfstate.guard = off;
	INSERT INTO tf.states (name, data) VALUES (gen_random_uuid(), '{"serial": 1, "lineage": "a", "x": "$secret"}');
	SET tfstate.guard = on;
	UPDATE tf.states SET data = '{"serial": 9, "lineage": "a", "x": "$secret"}';
);
$node->safe_psql('postgres', q(SELECT tfstate_attach('tf')));
$offset = -s $node->logfile;
my ($stdout, $stderr);
$node->psql('postgres', $events, stdout => \$stdout, stderr => \$stderr, on_error_stop => 0);
my $lines = logged();
is($lines, join("\n",
	'state lock "prod/network" of alice@laptop (role R, ID UUID, since TIME) was released by force by carol@ops (role R), reason: the laptop is gone',
	'state lock "lease" of alice (role R, ID 3, since TIME) has expired, and was removed by carol@ops (role R)',
	'workspace "tf.states/UUID" was written by carol@ops (role R) with tfstate.guard = off',
	'write of workspace "tf.states/default" by carol@ops (role R) was refused: the session does not hold its lock'),
	'the log tells of each event that was committed, in one line');
is(join('', grep { index("$lines\n", $_) < 0 } split(/(?<=\n)/, events(slurp_file("$FindBin::RealBin/../../doc/howto/monitoring.md") =~ s/^    //mgr) . "\n")),
	'', 'doc/howto/monitoring.md shows such lines');
unlike($lines, qr/\Q$secret\E/, 'but not what is in states or in the info of locks');
unlike($stderr, qr/LOG: +(state lock|write of|workspace)/, 'no client sees that');
unlike(slurp_file($node->logfile), qr/^LOG:  (?:state lock|write of|workspace) .*\n(?:STATEMENT|CONTEXT)/m, 'and no statement is logged with it');
$node->append_conf('postgresql.conf', 'tfstate.log_events = off');
$node->reload;
$offset = -s $node->logfile;
$node->psql('postgres', $events, on_error_stop => 0);
is(logged(), '', 'with tfstate.log_events = off it does not');

#
# Notifications
#

is($node->safe_psql('postgres', q(LISTEN tfstate; SELECT 1 FROM tfstate_lock('n'))), '1', 'by default there are no notifications');
$node->safe_psql('postgres', q(SELECT tfstate_unlock('n', id) FROM tfstate_holders WHERE lockid = 'n'));
my $fence = $node->safe_psql('postgres', q(SELECT max(fence) FROM tfstate_history('n')));
my $notified = $node->safe_psql('postgres', q(
	SET tfstate.notify = on;
	LISTEN tfstate;
	BEGIN;
	SELECT FROM tfstate_lock('undone');
	ROLLBACK;
	SELECT FROM tfstate_lock('n');
	SELECT FROM tfstate_force_unlock('n');
));
my $now = $fence + 2;
like($notified, qr/\A\n*Asynchronous notification "tfstate" with payload "{"event": "lock", "fence": $now}" received .*\n+Asynchronous notification "tfstate" with payload "{"event": "unlock", "how": "force", "fence": $now}" received .*\n*\z/,
	'they have the fence, and nothing else that tells of the lock');

#
# The server restarts
#

cmp_ok(metric('acquisitions_total', $durable), '>', 400, 'sessions that come later see what was counted');
$node->restart;
is(metric('acquisitions_total', $durable), 0, 'after a restart the counters begin anew');
cmp_ok(metric('counters_start_time_seconds'), '>', $start, 'and say so');

$start = metric('counters_start_time_seconds');
my $session = session($node);
$session->query_safe(q(SELECT tfstate_lock('b')));
is(metric('acquisitions_total', $durable), 1, 'they count');
kill 'KILL', $session->query_safe('SELECT pg_backend_pid()');
wait_for('the end of the session', sub { !$session->query('SELECT 1') });
$node->poll_query_until('postgres', 'SELECT true');
is(metric('acquisitions_total', $durable), 0, 'after kill -9 of a session, which ends all, too');
cmp_ok(metric('counters_start_time_seconds'), '>', $start, 'and say so');
is(metric('orphaned_locks'), 2, 'durable locks are still there');

#
# A standby has what it can know.
#

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', q(SELECT string_agg(DISTINCT name, ' ' ORDER BY name) FROM tfstate_metrics)),
	'tfstate_locks_held tfstate_oldest_lock_age_seconds tfstate_versions_bytes', 'a standby has durable locks and sizes');
is(metric('locks_held', $durable, node => $standby), 2, 'the durable locks');
my $on_standby = session($standby);
$on_standby->query_safe('SELECT * FROM tfstate_metrics');
$standby->promote;
$on_standby->query_safe(q(SELECT tfstate_lock('c')));
is(metric('acquisitions_total', $durable, node => $standby), 1, 'it counts as soon as it is the primary, also in an old session');
$on_standby->quit;
$standby->stop;

#
# Without shared memory
#

my $directory = $node->data_dir . '/pg_dynshmem';
$node->append_conf('postgresql.conf', 'dynamic_shared_memory_type = mmap');
$node->restart;
chmod 0500, $directory or die;
$offset = -s $node->logfile;
($stdout, $stderr) = ('', '');
$node->psql('postgres', q(SELECT tfstate_unlock('d', id)->>'Path' FROM tfstate_lock('d');
	SELECT tfstate_lock('e'); SELECT count(*) FROM tfstate_metrics WHERE name ~ 'total'; SELECT count(*) FROM tfstate_holders WHERE lockid = 'e'),
	stdout => \$stdout, stderr => \$stderr);
chmod 0700, $directory;
like($stdout, qr/^d\n.*\n0\n1$/, 'locks are taken and released where there is no shared memory, and nothing is counted');
is($stderr, '', 'the client sees nothing of that');
is(() = slurp_file($node->logfile, $offset) =~ /^LOG:  this session counts nothing for "tfstate_metrics": could not .*\nDETAIL:  Nor does it see locks in session mode\.$/mg, 1,
	'the log says so, once a session');
is($node->safe_psql('postgres', q(SELECT count(tfstate_lock('f')))), 1, 'a later session');
is(metric('acquisitions_total', $durable), 1, 'counts');

# Beside another library.  The segment is a file here, and has the version of its layout at byte 12.
sub change_segment
{
	my ($place, $value) = @_;
	my $file = $directory . '/mmap.' . $node->safe_psql('postgres', 'SELECT last_value FROM tfstate_internal.shared_memory');

	open(my $fh, '+<:raw', $file) or die "$file: $!";
	seek($fh, $place, 0);
	print $fh pack('L', $value);
	close $fh or die;
	return;
}

my $owner = session($node);
$owner->query_safe(q(SELECT tfstate_lock('session', mode => 'session')));
change_segment(12, 99);
$offset = -s $node->logfile;
is($node->safe_psql('postgres', q(SELECT count(tfstate_lock('g')))), 1, 'a lock is taken beside a newer library');
like(slurp_file($node->logfile, $offset), qr/^LOG:  this session counts nothing for "tfstate_metrics": the shared memory belongs to a newer library$/m,
	'but not counted');
is($node->safe_psql('postgres', q(SELECT locked FROM tfstate_try_lock('session'); SELECT count(*) FROM tfstate_holders('session'))), "f\n0",
	'a lock in session mode of another session is not shown, and is respected');
$owner->quit;
change_segment(12, 0);
is($node->safe_psql('postgres', q(SELECT count(tfstate_lock('h')))), 1, 'a lock is taken after an older library');
is(metric('acquisitions_total', $durable), 1, 'and counted from the beginning');
change_segment(0, 99);
is(metric('acquisitions_total', $durable), 0, 'memory that is of another kind is not used');

#
# Of an installation that is gone, and of a database that was copied
#

sub segments
{
	return scalar(() = glob("$directory/mmap.*"));
}

$node->safe_psql('postgres', 'CREATE DATABASE copied');
my $segments = segments();
$node->safe_psql('copied', q(CREATE EXTENSION tfstate;
	SELECT count(tfstate_lock('x/' || n, jsonb_build_object('Info', repeat('x', 8000)), 'session')) FROM generate_series(1, 200) n;));
cmp_ok(segments(), '>', $segments + 1, 'many long locks need more than one segment');
$node->safe_psql('copied', q(SELECT count(tfstate_lock('y', '{}', 'session'));
	DROP EXTENSION tfstate;
	CREATE EXTENSION tfstate;
	SELECT count(tfstate_lock('y'));
	SELECT count(tfstate_lock('z'))));
is(segments(), $segments + 1, 'those of an installation that is gone end with the last session that uses them');

my $acquisitions = q(SELECT sum(value) FROM tfstate_metrics WHERE name = 'tfstate_acquisitions_total');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE copied');
is($node->safe_psql('copy', $acquisitions), 0, 'a copy of a database has memory of its own');
is($node->safe_psql('copied', $acquisitions), 2, 'and the original keeps its own');

$node->stop;
done_testing();
