# tfstate where something goes wrong: servers that are not there or go away, passwords,
# output that cannot be written, commands that do not end, processes that are killed; and
# many runs at once, and a pooler.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Client;
use IO::Select;
use IO::Socket::INET;
use IPC::Run;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;
use Time::HiRes qw(time usleep);

my $node = tfstate_node('client_faults', conf => "max_connections = 500\nlisten_addresses = '127.0.0.1'");
my $user = getpwuid($<);
my $socket = $node->host;
$ENV{PGHOST} = $socket;
$ENV{PGPORT} = $node->port;
$ENV{PGDATABASE} = 'postgres';
$ENV{PGUSER} = $user;

my $holders = sub { sql("SELECT string_agg(lockid, ' ' ORDER BY lockid) FROM tfstate_holders") };

# Runs tfstate and returns its exit status, standard output and standard error.
sub tfstate
{
	my ($out, $err);
	IPC::Run::run([ 'tfstate', @_ ], '<', \undef, '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

# The same for what a shell runs
sub shell
{
	my ($out, $err);
	IPC::Run::run([ 'bash', '-c', @_ ], '<', \undef, '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

# Starts a process that passes connections on to the server, and returns its port and its ID.
# It closes the first connection when the server sends something there and the file exists.
sub start_proxy
{
	my ($cut) = @_;
	my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die $!;
	my $pid = fork() // die $!;
	return ($listener->sockport, $pid) if $pid;

	my $select = IO::Select->new($listener);
	my (%peer, $first);
	while (my @ready = $select->can_read)
	{
		foreach my $socket (@ready)
		{
			if ($socket == $listener)
			{
				my $client = $listener->accept or next;
				my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $node->port) or next;
				@peer{ $client, $server } = ($server, $client);
				$select->add($client, $server);
				$first //= $server;
				next;
			}
			my $peer = $peer{$socket} or next;
			my $data;
			next if sysread($socket, $data, 65536) && !($socket == $first && -e $cut) && syswrite($peer, $data);
			delete @peer{ $socket, $peer };
			$select->remove($socket, $peer);
			close($_) foreach $socket, $peer;
		}
	}
	POSIX::_exit(0);
}

my (@result, $run);

# No connection

foreach my $command ([ 'ls' ], [ 'lock', 'a' ], [ 'run', 'a', '--', 'true' ], [ 'watch', '--json' ])
{
	local $ENV{PGPORT} = PostgreSQL::Test::Cluster::get_free_port();
	@result = tfstate(@$command);
	is($result[0], 69, "@$command: no server");
	like($result[2], qr/\Atfstate: connection to server [^\n]*\n\z/, "@$command: one line says so");
}
{
	# a server that accepts connections and says nothing
	my $silent = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die $!;
	local $ENV{PGHOST} = '127.0.0.1';
	local $ENV{PGPORT} = $silent->sockport;
	local $ENV{PGCONNECT_TIMEOUT} = 2;
	my $started = time;
	@result = tfstate('ls');
	is($result[0], 69, 'a server that does not answer');
	like($result[2], qr/\Atfstate: [^\n]+\n\z/, 'one line says so');
	cmp_ok(time - $started, '<', 10, 'PGCONNECT_TIMEOUT counts');
}
@result = tfstate('ls', '-d', 'nowhere');
is($result[0], 69, 'no such database');
like($result[2], qr/\Atfstate: .*database "nowhere" does not exist\n\z/, 'one line says so');
@result = tfstate('ls', '-d', "postgres://$user\@/postgres?host=$socket&bad=1");
is($result[0], 69, 'a connection string with an error');
like($result[2], qr/\Atfstate: invalid URI query parameter: "bad"\n\z/, 'one line says so');

# Passwords

my $data = $node->data_dir;
my $rules = slurp_file("$data/pg_hba.conf");
append_to_file("$data/new", "host all secret 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n$rules");
rename("$data/new", "$data/pg_hba.conf") or die $!;
sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE secret LOGIN PASSWORD 'right'");
$node->reload;
{
	local $ENV{PGHOST} = '127.0.0.1';
	local $ENV{PGUSER} = 'secret';
	wait_for('the rules', sub { (tfstate('ls', '-w'))[0] == 69 });
	foreach my $command ([ 'ls' ], [ 'run', 'a', '--', 'true' ])
	{
		local $ENV{PGPASSWORD} = 'wrong';
		@result = tfstate(@$command);
		is($result[0], 69, "@$command: a wrong password");
		like($result[2], qr/\Atfstate: [^\n]*password authentication failed[^\n]*\n\z/, "@$command: one line says so");
	}
	@result = tfstate('ls', '-w');
	is($result[0], 69, 'no password');
	like($result[2], qr/\Atfstate: [^\n]*no password supplied\n\z/, 'one line says so');
	local $ENV{PGPASSWORD} = 'right';
	is((tfstate('ls'))[0], 0, 'the right password');
	@result = shell('exec setsid tfstate ls -W </dev/null');
	is($result[0], 0, '-W without a terminal does not ask');
}

# The server goes away in the middle

$run = start('lock', '--wait', 'forever', 'a');
end($run);
sql("SELECT tfstate_force_unlock('a')");
my $id = sql("SELECT id FROM tfstate_lock('a')");
{
	my $blocker = IPC::Run::start([ 'psql', '-XAtqc', <<'END' ], '<', \undef);
BEGIN;
LOCK TABLE tfstate_internal.durable_lock;
DO $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock') LOOP
		PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
	END LOOP;
	PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock';
END $$;
END
	wait_for('the table to be locked',
		sub { sql("SELECT count(*) FROM pg_locks WHERE relation = 'tfstate_internal.durable_lock'::regclass AND mode = 'AccessExclusiveLock'") });
	@result = tfstate('ls');
	is($result[0], 69, 'a session that is terminated during a statement');
	like($result[2], qr/\Atfstate: [^\n]*terminating connection[^\n]*\n\z/, 'one line says so');
	$blocker->finish;
}
$run = start('lock', '--wait', 'forever', 'a');
wait_for('the waiter', sub { waiting_pids($node, 'a') ne '' });
sql("SELECT pg_terminate_backend(pid, 60000) FROM tfstate_waiters");
wait_for('the waiter', sub { waiting_pids($node, 'a') ne '' });
kill('TERM', $run->{pid});
is(end($run), 128 + 15, 'lock waits on over a lost connection, and a signal ends the wait');
wait_for('the end of the wait', sub { waiting_pids($node, 'a') eq '' });

# run waits on over a restart of the server
$run = start('run', '--wait', 'forever', 'a', '--', 'echo', 'got it');
wait_for('the waiter', sub { waiting_pids($node, 'a') ne '' });
$node->stop('immediate');
$node->start;
wait_for('the waiter', sub { waiting_pids($node, 'a') ne '' });
sql("SELECT tfstate_unlock('a', '$id')");
is(end($run), 0, 'run waits on when the server is there again');
is($run->{out}, "got it\n", 'the command has run');

# Output that cannot be written

sql("SELECT tfstate_lock('a')");
foreach my $command ('ls', 'ls --csv', 'ls --json', 'history', 'lock b', '--help', 'run --help', '--version', 'watch --json')
{
	@result = shell("tfstate $command >/dev/full");
	is($result[0], 74, "$command: a full disk");
	like($result[2], qr/\Atfstate: could not write to standard output: No space left on device\n\z/, "$command: one line says so");
}
is($holders->(), 'a', 'a lock whose ID could not be printed is not kept');
{
	local $SIG{PIPE} = 'DEFAULT';
	@result = shell('set -o pipefail; (sleep 1; exec tfstate lock b) | true');
	is($result[0], 74, 'nobody reads the ID of a lock');
	is($holders->(), 'a', 'then it is not kept');
	@result = shell("(sleep 1; exec tfstate history) | true");
	is($result[2], '', 'a reader that has gone is no error');
}
@result = shell('tfstate ls >&-');
is($result[0], 74, 'standard output is closed');
like($result[2], qr/\Atfstate: could not write to standard output: [^\n]+\n\z/, 'one line says so');
is((shell('tfstate ls 0<&- 2>&-'))[0], 0, 'standard input and error are closed');
is((shell('tfstate lock a 2>&-'))[0], 75, 'an error that cannot be told');
is((shell('tfstate run b -- sh -c "exit 5" 0<&- 1>&- 2>&-'))[0], 5, 'run without standard files');
{
	local $SIG{PIPE} = 'DEFAULT';
	@result = shell('exec 3>&1; (sleep 1; tfstate run --wait 2s a -- true; echo $? >&3) 2>&1 >/dev/null | true');
	like($result[1], qr/\A75\n/, 'run goes on if nobody reads standard error');
}
@result = shell("tfstate run b -- sh -c 'echo x' >/dev/full");
is($result[0], 1, 'what the command cannot write is its affair') or diag(@result);
sql("SELECT tfstate_force_unlock('a')");

# Standard input, output and error are the command's

my $bytes = join('', map { chr } 0 .. 255) x 100;
my ($out, $err);
IPC::Run::run([ 'tfstate', 'run', 'a', '--', 'sh', '-c', 'cat; echo to stderr >&2' ], '<', \$bytes, '>', \$out, '2>', \$err);
is($out, $bytes, 'standard input and output pass unchanged');
is($err, "to stderr\n", 'nothing is added to standard error');
@result = shell('printf "1\n2\n3\n" | while read n; do tfstate run a -- true; echo $n; done');
is($result[1], "1\n2\n3\n", 'run does not read from standard input') or diag($result[2]);
@result = shell('tfstate run a -- sh -c "ls -l /proc/self/fd" 3</dev/null');
unlike($result[1], qr/socket:/, 'the command does not inherit the connection');
like($result[1], qr/ 3 -> /, 'it inherits what it is to inherit');

# Signals

foreach my $signal ('HUP', 'INT', 'QUIT', 'TERM', 'USR1', 'USR2')
{
	$run = start('run', 'a', '--', 'perl', '-e', '$| = 1; $SIG{$ARGV[0]} = sub { print "got $ARGV[0]\n"; exit 9 }; print "ready\n"; sleep 1 while 1', $signal);
	printed($run, qr/ready/);
	kill($signal, $run->{pid});
	is(end($run), 9, "$signal: the exit status is that of the command");
	is($run->{out}, "ready\ngot $signal\n", "$signal is passed on once");
	is($holders->(), '', "$signal: the lock is released");
}
$run = start('run', 'a', '--', 'sh', '-c', 'trap "" TERM; echo ready; sleep 2; echo done');
printed($run, qr/ready/);
kill('TERM', $run->{pid});
is(end($run), 0, 'a command that ignores SIGTERM goes on');
is($run->{out}, "ready\ndone\n", 'to its end');
foreach my $grace ('1s', '0')
{
	$run = start('run', '--grace', $grace, 'a', '--', 'sh', '-c',
		'trap "exit 5" TERM; sh -c "trap \"\" TERM; echo \$\$; sleep 20; sleep 20" & wait');
	printed($run, qr/\d+\n/);
	kill('TERM', $run->{pid});
	is(end($run), 5, "--grace=$grace: a command that leaves a process behind");
	ok(!kill(0, $run->{out} + 0), "--grace=$grace: which is killed after the grace time");
}
@result = shell('nohup tfstate run a -- sh -c \'echo $$; kill -HUP $PPID; sleep 1; kill -HUP $$; echo alive\' 2>/dev/null');
like($result[1], qr/alive/, 'below nohup SIGHUP is ignored, by the command as well');

# kill -9 in lease mode

wait_for('the end of the lease', sub { $holders->() eq '' });
$run = start('run', '--ttl', '5s', 'a', '--', 'sh', '-c', 'echo $$; exec sleep 600');
printed($run, qr/\d+\n/);
my ($command) = $run->{out} =~ /(\d+)/;
my $waiter = start('run', '--wait', '60s', 'a', '--', 'echo', 'next');
wait_for('the waiter', sub { waiting_pids($node, 'a') ne '' });
kill('KILL', $run->{pid});
my $killed = time;
$run->{run}->finish;
wait_for('the end of the command', sub { !kill(0, $command) });
is(end($waiter), 0, 'kill -9: the lease ends by itself');
cmp_ok(time - $killed, '<', 12, 'when it is over');

# A command that is stopped gets the signal, too, when its lock is lost

$run = start('run', '--grace', '60s', 'a', '--', 'sh', '-c', 'trap "echo told; exit 3" TERM; echo ready; kill -STOP $$; sleep 600');
printed($run, qr/ready/);
sql("SELECT tfstate_force_unlock('a')");
is(end($run), 70, 'a command that is stopped, and whose lock is lost, ends');
is($run->{out}, "ready\ntold\n", 'it is told');

# A frozen tfstate: its lease ends, and the command with it

$run = start('run', '--ttl', '5s', '--grace', '1s', 'a', '--', 'sh', '-c', 'echo ready; exec sleep 600');
printed($run, qr/ready/);
kill('STOP', $run->{pid});
wait_for('the end of the lease', sub { $holders->() eq '' });
$id = sql("SELECT id FROM tfstate_lock('a', '{\"Who\": \"bob\"}')");
kill('CONT', $run->{pid});
is(end($run), 70, 'a run that was frozen for too long has lost its lock');
like($run->{err}, qr/state lock "a" was lost/, 'it says so');
sql("SELECT tfstate_unlock('a', '$id')");

# A renewal that fails for another reason than a lost lock is tried again

{
	local $ENV{PGOPTIONS} = '-c lock_timeout=100ms';
	my $go_on = PostgreSQL::Test::Utils::tempdir() . '/go_on';
	my $session = session($node);
	my $logged = -s $node->logfile;
	$run = start('run', '--ttl', '9s', 'a', '--', 'sh', '-c', "echo ready; until [ -e $go_on ]; do sleep 0.1; done");
	printed($run, qr/ready/);
	$session->query_safe("BEGIN; SELECT FROM tfstate_internal.durable_lock WHERE lockid = 'a' FOR UPDATE");
	wait_for('a renewal', sub { slurp_file($node->logfile, $logged) =~ /canceling statement due to lock timeout/ });
	$session->query_safe('COMMIT');
	append_to_file($go_on, '');
	is(end($run), 0, 'a renewal that fails once does not end the command');
	is($run->{err}, '', 'and nothing is said about it');
	$session->quit;
}

# The server is away for longer than the lease

$run = start('run', '--ttl', '9s', '--grace', '2s', 'a', '--', 'sh', '-c', 'trap "date +%s.%N; exit 3" TERM; echo ready; sleep 600 & wait');
printed($run, qr/ready/);
$node->stop('immediate');
is(end($run), 70, 'a lease that cannot be renewed is lost');
like($run->{out}, qr/\Aready\n(\d+\.\d+)\n\z/, 'the command is told');
my ($told) = $run->{out} =~ /(\d+\.\d+)/;
like($run->{err}, qr/could not be renewed in time/, 'it is said why');
$node->start;
is(sql("SELECT to_timestamp($told) < expires_at FROM tfstate_internal.durable_lock WHERE lockid = 'a'"), 't', 'that is before the lease is over');
wait_for('the end of the lease', sub { $holders->() eq '' });

# The answer that the lock was granted is lost: the run has the lock all the same

{
	my $cut = PostgreSQL::Test::Utils::tempdir() . '/cut';
	my ($port, $proxy) = start_proxy($cut);
	local $ENV{PGHOST} = '127.0.0.1';
	local $ENV{PGPORT} = $port;
	$id = sql("SELECT id FROM tfstate_lock('a')");
	$run = start('run', '--wait', '60s', 'a', '--', 'echo', 'granted');
	wait_for('the waiter', sub { waiting_pids($node, 'a') ne '' });
	append_to_file($cut, '');
	sql("SELECT tfstate_unlock('a', '$id')");
	is(end($run), 0, 'a run whose answer was lost goes on');
	is($run->{out}, "granted\n", 'its command runs');
	like($run->{err}, qr/the connection was lost while the lock was asked for/, 'it says what has happened');
	is($holders->(), '', 'and no lock is left');
	kill('KILL', $proxy);
	waitpid($proxy, 0);
}

# Many at once, in order

my $count = 200;
my $order = PostgreSQL::Test::Utils::tempdir() . '/order';
$id = sql("SELECT id FROM tfstate_lock('a')");
my $looker = session($node);
my @runs;
my $started = time;
foreach my $n (1 .. $count)
{
	push @runs, start('run', '--wait', 'forever', 'a', '--', 'sh', '-c', "echo in $n >>$order; echo out $n >>$order");
	wait_for("waiter $n", sub { $looker->query_safe("SELECT count(*) FROM tfstate_waiters('a')") == $n });
}
note('all wait after ' . (time - $started) . ' s');
is(sql("SELECT count(*) FROM tfstate_waiters('a')"), $count, 'all wait');
sql("SELECT tfstate_unlock('a', '$id')");
is_deeply([ map { end($_) } @runs ], [ (0) x $count ], "all of $count runs succeed");
is(slurp_file($order), join('', map { "in $_\nout $_\n" } 1 .. $count), 'one after the other, in the order in which they came');
is($holders->(), '', 'and no lock is left');
note('all have ended after ' . (time - $started) . ' s');

# Behind PgBouncer in transaction mode

my $pooler = start_pooler($node, roles => [$user], pool_size => 3);
foreach my $mode ('lease', 'durable')
{
	local $ENV{PGHOST} = '127.0.0.1';
	local $ENV{PGPORT} = $pooler->{port};
	my @waiters;
	$run = start('run', '--mode', $mode, '--ttl', '5s', 'p', '--', 'sh', '-c', 'echo ready; sleep 8; exit 6');
	printed($run, qr/ready/);
	@result = tfstate('run', 'p', '--', 'true');
	is($result[0], 75, "pooler, $mode: the lock is held");
	is((tfstate('ls', 'p'))[1] =~ /\(1 row\)/, 1, "pooler, $mode: other commands work");
	push @waiters, start('run', '--mode', $mode, '--wait', '60s', 'p', '--', 'true');
	is(end($run), 6, "pooler, $mode: the lock is kept over more than a lease");
	is($run->{err}, '', "pooler, $mode: without a word");
	is(end($waiters[0]), 0, "pooler, $mode: the waiter is next");
	is($holders->(), '', "pooler, $mode: the locks are released");
}

done_testing();
