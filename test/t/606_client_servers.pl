# tfstate run where servers fail: over a failover to a synchronous standby, past a server that
# does not answer, and behind a pooler that takes no options.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Client;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Socket;
use Test::More;
use TestServer;
use Time::HiRes qw(time);

my $primary = tfstate_node('client_primary', init => { allows_streaming => 1 }, conf => "listen_addresses = '127.0.0.1'");
my $user = getpwuid($<);
my $pooler = path_of('pgbouncer') ? start_pooler($primary, roles => [$user], pool_size => 3) : undef;

# Starts tfstate in an environment.
sub start_with
{
	my ($environment, @arguments) = @_;
	local %ENV = (%ENV, PGDATABASE => 'postgres', PGUSER => $user, %$environment);
	return start(@arguments);
}

# A server that does not answer: its queue of connections is full, so that it drops packets

my $silent = IO::Socket::INET->new(Listen => 0, LocalAddr => '127.0.0.1') or die $!;
my @queue = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $silent->sockport, Blocking => 0) } 1 .. 4;
my %hosts = (PGHOST => '127.0.0.1,' . $primary->host, PGPORT => $silent->sockport . ',' . $primary->port, PGCONNECT_TIMEOUT => 2);

my $run = start_with(\%hosts, 'run', 'a', '--', 'sh', '-c', 'echo ready; read line; exit 4');
printed($run, qr/ready/);
my $waiter = start_with(\%hosts, 'run', '--wait', 'forever', 'a', '--', 'true');
wait_for('the holder to be named', sub { $waiter->{run}->pump_nb; $waiter->{err} =~ /held by/ });
sql("SELECT pg_terminate_backend(pid) FROM tfstate_holders");
wait_for('another connection', sub { sql("SELECT session_alive FROM tfstate_holders") ne 't' });
$run->{in} = "go on\n";
is(end($run), 4, 'a server that does not answer is left for the next one, each time');
is(end($waiter), 0, 'by the waiter, too');

$run = start_with({ %hosts, PGCONNECT_TIMEOUT => 60 }, 'run', 'a', '--', 'true');
select(undef, undef, undef, 0.5);
my $sent = time;
kill('TERM', $run->{pid});
is(end($run), 128 + 15, 'a signal ends an attempt to connect');
cmp_ok(time - $sent, '<', 30, 'before its time is over');
$run = start_with({ PGHOST => '127.0.0.1,127.0.0.1', PGPORT => $silent->sockport . ',' . PostgreSQL::Test::Cluster::get_free_port(), PGCONNECT_TIMEOUT => 2 }, 'ls');
is(end($run), 69, 'no server answers');
like($run->{err}, qr/\Atfstate: connection to server at "127\.0\.0\.1", port \d+ failed: timeout expired [^\n]*Connection refused[^\n]*\n\z/, 'one line tells of each');
my $free = PostgreSQL::Test::Cluster::get_free_port();
$run = start_with({ PGHOST => '127.0.0.1,127.0.0.1', PGPORT => "$free," . $silent->sockport, PGCONNECT_TIMEOUT => 2 }, 'ls');
is(end($run), 69, 'no server answers, the silent one last');
like($run->{err}, qr/port ${\ $silent->sockport} failed: timeout expired .*port $free failed: Connection refused/, 'of two ports of one host the silent one is left out');

# Behind PgBouncer, which refuses PGOPTIONS: the command is known by PGAPPNAME

SKIP:
{
	skip 'pgbouncer is not installed', 9 unless $pooler;
	my %pooled = (PGHOST => '127.0.0.1', PGPORT => $pooler->{port});
	my $write = q(INSERT INTO net.states (name, data) VALUES ('prod', '{"serial": 1, "lineage": "a"}'));

	sql("SELECT tfstate_attach('net')");
	foreach my $mode ('lease', 'durable')
	{
		$run = start_with(\%pooled, 'run', '--mode', $mode, 'net.states/prod', '--', 'sh', '-c',
			qq(psql -XAtqc "\$1"; echo "status \$?; options \$PGOPTIONS; name \$PGAPPNAME; \$TFSTATE_RUN_ID"), 'sh', $write);
		is(end($run), 0, "$mode, behind a pooler: the command runs");
		like($run->{out}, qr/^status 0; options ; name tfstate-run:([-0-9a-f]{36}); \1$/m, "$mode, behind a pooler: what it writes is written under the lock") or diag($run->{err});
		$write = $write =~ s/INSERT.*VALUES \('prod', (.*)\)/UPDATE net.states SET data = $1 WHERE name = 'prod'/r =~ s/"serial": 1/"serial": 2/r;
	}
	is(sql("SELECT count(*) FROM tfstate_versions('net.states/prod') v JOIN tfstate_history h ON h.id = v.lock_id AND h.fence = v.fence"), '2',
		'behind a pooler: the versions tell under which locks');
	my $holder = start_with(\%pooled, 'run', 'b', '--', 'sh', '-c', 'echo ready; read line');
	printed($holder, qr/ready/);
	$waiter = start_with(\%pooled, 'run', '--wait', 'forever', 'b', '--', 'true');
	wait_for('the holder to be named', sub { $waiter->{run}->pump_nb; $waiter->{err} =~ /position 1\), held by .*: sh since/ });
	pass('behind a pooler: the holder is named during the wait');
	$holder->{in} = "go on\n";
	is(end($holder), 0, 'behind a pooler: the holder ends');
	is(end($waiter), 0, 'behind a pooler: the waiter is next');
	$run = start_with({ PGHOST => $primary->host, PGPORT => $primary->port, PGAPPNAME => '' }, 'run', 'c', '--', 'sh', '-c', 'echo "$PGOPTIONS; $PGAPPNAME"');
	end($run);
	like($run->{out}, qr/^-c tfstate\.run_id=\S+; $/, 'without a pooler it has PGOPTIONS');
}

# A failover

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('client_standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
sql("ALTER SYSTEM SET synchronous_standby_names = 'client_standby'");
$primary->reload;
wait_for('the synchronous standby', sub { sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1 });

my %both = (
	PGHOST => $primary->host . ',' . $standby->host,
	PGPORT => $primary->port . ',' . $standby->port,
	PGTARGETSESSIONATTRS => 'read-write');
my %runs = map { $_ => start_with(\%both, 'run', '--mode', $_, '--ttl', '60s', $_, '--', 'sh', '-c', 'echo ready; read line; exit 4') } qw(lease durable session);
printed($_, qr/ready/) foreach values %runs;
$waiter = start_with(\%both, 'run', '--wait', 'forever', 'durable', '--', 'true');
wait_for('the waiter', sub { waiting_pids($primary, 'durable') ne '' });
my $holdings = sub { $_[0]->safe_psql('postgres', "SELECT string_agg(concat_ws(' ', lockid, id, fence), ', ' ORDER BY lockid) FROM tfstate_holders WHERE mode <> 'session'") };
my $before = $holdings->($primary);
like($before, qr/^durable .*, lease /, 'two locks that outlive a session are held');
$primary->stop('immediate');
is(end($runs{session}), 70, 'session: a failover ends the command');
like($runs{session}{err}, qr/state lock "session" was lost: its session has ended/, 'session: it is told why');
$standby->promote;
$standby->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()");
wait_for('the connections to the new primary', sub { $standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tfstate-run:%'") == 3 });
is($holdings->($standby), $before, 'the locks are held over the failover, under the same IDs and fences');
foreach my $mode (qw(lease durable))
{
	$runs{$mode}{run}->pump_nb;
	ok($runs{$mode}{run}->pumpable, "$mode: the command goes on after a failover");
	$runs{$mode}{in} = "go on\n";
	is(end($runs{$mode}), 4, "$mode: and ends by itself");
	like($runs{$mode}{err}, qr/the connection was lost; connecting again/, "$mode: it is told what has happened");
}
is(end($waiter), 0, 'a waiter is next after a failover');
is($holdings->($standby), '', 'the locks are released');
is($standby->safe_psql('postgres', "SELECT string_agg(how, ' ') FROM tfstate_history WHERE lockid IN ('lease', 'durable')"), 'unlock unlock unlock', 'by their runs');

done_testing();
