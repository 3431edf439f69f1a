# tfstate run: the lock is held while the command runs and no longer, the exit status is the
# command's or says why it did not run, signals reach the command, and a lost lock ends it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Client;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('client_run');
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGDATABASE} = 'postgres';
$ENV{PGUSER} = getpwuid($<);

my $who = sub { sql("SELECT string_agg(lockid || ' ' || mode, ', ' ORDER BY lockid) FROM tfstate_holders WHERE lockid <> 'long'") };

# A lease that is looked at before it is time to renew it; what becomes of it is tested below.
my $long = start('run', '--ttl', '16s', 'long', '--', 'sh', '-c', 'read line');
my $expiry = sub { sql("SELECT extract(epoch FROM expires_at) FROM tfstate_holders('long')") };
my $first_expiry = wait_for('the long lease', $expiry);

# Runs tfstate and returns its exit status, standard output and standard error.
sub tfstate
{
	my ($out, $err);
	IPC::Run::run([ 'tfstate', @_ ], '<', \undef, '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

my @result;

# Exit statuses

@result = tfstate('run', 'a', '--', 'sh', '-c', 'tfstate ls; exit 3');
is($result[0], 3, 'the exit status is that of the command');
like($result[1], qr/^ a +\|.*\| sh +\| durable/m, 'the lock is held while the command runs');
is($who->(), '', 'the lock is released afterwards');
is((tfstate('run', 'a', '--', 'sh', '-c', 'kill -TERM $$'))[0], 128 + 15, 'a signal that ends the command is told as a shell does');
is((tfstate('run', 'a', '--', "$FindBin::RealBin/none"))[0], 127, 'a command that does not exist');
is((tfstate('run', 'a', '--', $FindBin::RealBin))[0], 126, 'a command that cannot be executed');
is($who->(), '', 'no lock is left by a command that did not start');
is((tfstate('run', 'a'))[0], 64, 'no command is wrong usage');
is((tfstate('run', '--', 'true'))[0], 64, 'no lockid is wrong usage');
is((tfstate('run', '--wait', 'soon', 'a', '--', 'true'))[0], 64, 'a wait that is no duration is wrong usage');
is((tfstate('run', 'a', 'a', '--', 'true'))[0], 64, 'a lockid that is named twice is wrong usage');
{
	local $ENV{PGPORT} = PostgreSQL::Test::Cluster::get_free_port();
	@result = tfstate('run', 'a', '--', 'true');
	is($result[0], 69, 'no server');
	like($result[2], qr/^tfstate: connection to server .* failed/, 'no server is told in a line');
	unlike($result[2], qr/\n./, 'one line');
	is((tfstate('run', '--connect-exit-code', '9', 'a', '--', 'true'))[0], 9, 'the status for no server can be chosen');
}
@result = tfstate('run', '-d', 'template1', 'a', '--', 'true');
is($result[0], 69, 'no extension');
like($result[2], qr/extension "tfstate" is not installed in database "template1"; run there: CREATE EXTENSION tfstate/,
	'it is told what to do for the extension');

{
	my ($out, $err);
	my @ignoring = ($^X, '-e', '$SIG{CHLD} = "IGNORE"; exec @ARGV');
	IPC::Run::run([ 'timeout', '-k', 1, 60, @ignoring, 'tfstate', 'run', 'a', '--', 'sh', '-c', 'exit 3' ], '<', \undef, '>', \$out, '2>', \$err);
	is($? >> 8, 3, 'started with SIGCHLD ignored, it is told of the end of the command');
}

# The environment of the command

@result = tfstate('run', '--mode', 'session', 'b', 'a', '--', 'sh', '-c',
	'tfstate ls --csv; printf "%s;" "$TFSTATE_LOCKID" "$TFSTATE_LOCK_ID" "$TFSTATE_FENCE" "$PGOPTIONS"; cat');
like($result[1], qr/^a,.*,session,.*\nb,.*,session,.*\n/m, 'two locks are held together, in session mode');
like($result[1], qr/^a\nb;[-0-9a-f]{36} [-0-9a-f]{36};\d+ \d+;-c tfstate\.run_id=[-0-9a-f]{36};$/m,
	'the command is told of its locks');
{
	local $ENV{PGOPTIONS} = '-c tfstate.who=alice';
	@result = tfstate('run', 'a', '--', 'sh', '-c', 'echo "$PGOPTIONS"');
	like($result[1], qr/^-c tfstate\.who=alice -c tfstate\.run_id=[-0-9a-f]{36}$/, 'the options of the caller are kept');
}

# A held lock

my $holder = start('run', 'c', '--', 'sleep', '600');
wait_for('the lock', sub { $who->() eq 'c durable' });
@result = tfstate('run', 'c', '--', 'true');
is($result[0], 75, 'a lock that is held');
like($result[2], qr/^tfstate: state lock "c" is held by .*: sleep since /, 'the holder is named');
is((tfstate('run', '-E', '9', 'c', '--', 'true'))[0], 9, 'the status for that can be chosen');
@result = tfstate('run', '--wait', '2s', 'c', '--', 'true');
is($result[0], 75, 'a lock that is held for longer than the wait');
like($result[2], qr/^tfstate: waiting for state lock "c" \(\d s, position 1\), held by .*: sleep since /, 'the holder is named during the wait');
is((tfstate('run', 'b', 'c', '--', 'true'))[0], 75, 'one lock of two is held');
is($who->(), 'c durable', 'then the other one is not kept');

my $waiter = start('run', '--wait', 'forever', 'c', '--', 'echo', 'got it');
wait_for('the waiter', sub { waiting_pids($node, 'c') ne '' });
kill('TERM', $waiter->{pid});
is(end($waiter), 128 + 15, 'a signal ends the wait');
wait_for('the end of the wait', sub { waiting_pids($node, 'c') eq '' });

$waiter = start('run', '--wait', 'forever', 'c', '--', 'echo', 'got it');
wait_for('the waiter', sub { waiting_pids($node, 'c') ne '' });
kill('TERM', $holder->{pid});
is(end($holder), 128 + 15, 'a signal is passed on to the command');
is(end($waiter), 0, 'the waiter is next');
is($waiter->{out}, "got it\n", 'its command runs');

# Whoever waits is told of each holder that it waits for.
my @queue;
foreach my $operation ('first', 'second', 'third')
{
	push @queue, start('run', '--wait', 'forever', '--operation', $operation, 'q', '--', 'sh', '-c', 'echo ready; read line');
	wait_for('the next in the queue', sub { split(/ /, waiting_pids($node, 'q')) == $#queue && $who->() eq 'q durable' });
}
foreach my $next (1, 2)
{
	my $holder = $queue[ $next - 1 ];

	my $operation = $next == 1 ? 'first' : 'second';

	wait_for('the holder to be named', sub { $queue[2]{run}->pump_nb; $queue[2]{err} =~ /held by .*: $operation since/ });
	printed($holder, qr/ready/);
	$holder->{in} = "go on\n";
	is(end($holder), 0, "the $operation holder ends");
}
printed($queue[2], qr/ready/);
$queue[2]{in} = "go on\n";
is(end($queue[2]), 0, 'the last one ends');
is(() = $queue[2]{err} =~ /^tfstate: waiting for state lock "q" .*, held by /mg, 2, 'a line for each holder that was waited for');

# A look whether a lease is still held is no renewal.
wait_for('the renewal of the long lease', sub { my $now = $expiry->(); $now eq '' || $now > $first_expiry + 3 });
isnt($expiry->(), '', 'a long lease is renewed');
$long->{in} = "go on\n";
is(end($long), 0, 'and held to the end');

# The signal and the lock can come in the same moment.
foreach my $command ([ 'run', '--mode', 'durable', '--wait', 'forever', 'c', '--', 'true' ], [ 'lock', '--wait', 'forever', 'c' ])
{
	my $printed = '';

	foreach my $n (1 .. 40)
	{
		my $id = sql("SELECT id FROM tfstate_lock('c')");
		my $waiter = start(@$command);

		wait_for('the waiter', sub { waiting_pids($node, 'c') ne '' });
		my $session = IPC::Run::start([ 'tfstate', 'unlock', 'c', $id ], '<', \undef);
		select(undef, undef, undef, 0.0005 * $n);
		kill('TERM', $waiter->{pid});
		$session->finish;
		end($waiter);
		$printed = $command->[0] eq 'lock' ? $waiter->{out} =~ s/\n//r : '';
		sql("SELECT tfstate_unlock('c', '$printed')") if $printed;
		last if $who->() ne '';
	}
	is($who->(), '', "$command->[0]: a signal leaves no lock that was granted in the same moment");
}

# A signal that comes while the lock is released does not keep it.
{
	my $run = start('run', '--mode', 'durable', 'c', '--', 'sh', '-c', 'read line');
	wait_for('the lock', sub { $who->() eq 'c durable' });
	my $blocker = session($node);
	$blocker->query_safe('BEGIN; LOCK TABLE tfstate_internal.durable_lock IN SHARE MODE');
	$run->{in} = "go on\n";
	$run->{run}->pump_nb;
	wait_for('the release to wait', sub { $run->{run}->pump_nb; sql("SELECT count(*) FROM pg_locks WHERE relation = 'tfstate_internal.durable_lock'::regclass AND NOT granted") > 0 });
	kill('TERM', $run->{pid});
	select(undef, undef, undef, 0.2);
	$blocker->query_safe('COMMIT');
	$blocker->quit;
	is(end($run), 0, 'a signal during the release: the exit status is that of the command');
	is($who->(), '', 'a signal during the release leaves no lock');
}

# A lost lock

foreach my $mode ('lease', 'durable')
{
	my $run = start('run', '--mode', $mode, '--grace', '1s', 'd', '--', 'sh', '-c',
		'trap "echo told" TERM; sleep 600 & wait; echo goes on; exec sleep 600');
	wait_for('the lock', sub { $who->() eq 'd durable' });
	sql("SELECT tfstate_force_unlock('d', reason => 'a test')");
	is(end($run), 70, "$mode: a lock that was released by force ends the command");
	like($run->{err}, qr/state lock "d" was lost: it was released by force, by .*: a test/, "$mode: it is told who did that");
	is($run->{out}, "told\ngoes on\n", "$mode: the command gets SIGTERM, and SIGKILL when it does not end");
}
my $both = start('run', '--mode', 'durable', 'd', 'e', '--', 'sleep', '60');
wait_for('the locks', sub { $who->() eq 'd durable, e durable' });
sql("SELECT tfstate_force_unlock('e')");
is(end($both), 70, 'the second of two locks that is released by force ends the command');
like($both->{err}, qr/state lock "e" was lost/, 'it is told which');
is($who->(), '', 'the other one is released');
$both = start('run', '--mode', 'durable', 'd', 'e', '--', 'sh', '-c', 'read line');
wait_for('the locks', sub { $who->() eq 'd durable, e durable' });
sql("SELECT tfstate_force_unlock('d')");
$both->{in} = "go on\n";
is(end($both), 70, 'the first of two locks is lost when the command ends');
is($who->(), '', 'the second one is released');
sql('ALTER FUNCTION tfstate_renew RENAME TO really_renew');
sql("CREATE FUNCTION tfstate_renew(lockid text, id text) RETURNS timestamptz LANGUAGE plpgsql AS \$\$ BEGIN
	IF lockid = 'd' THEN RAISE 'state lock \"d\" is not held' USING ERRCODE = '55000'; END IF;
	RETURN really_renew(lockid, id); END; \$\$");
@result = tfstate('run', '--lost-exit-code', '9', 'd', 'e', '--', 'echo', 'started');
is_deeply([ @result[0, 1] ], [ 9, '' ], 'the first of two leases is lost in the first renewal: the command does not start');
is($who->(), 'd durable', 'the second one is released');
sql('DROP FUNCTION tfstate_renew(text, text)');
sql('ALTER FUNCTION really_renew RENAME TO tfstate_renew');
sql("SELECT tfstate_force_unlock('d')");
my $run = start('run', '--mode', 'session', '--lost-exit-code', '9', 'd', '--', 'sleep', '600');
wait_for('the lock', sub { $who->() eq 'd session' });
sql("SELECT pg_terminate_backend(pid) FROM tfstate_holders");
is(end($run), 9, 'session: the end of the session ends the command');
like($run->{err}, qr/\Atfstate: state lock "d" was lost: its session has ended: terminating connection due to administrator command\n\z/,
	'session: it is told why the session has ended');
$run = start('run', '--mode', 'session', 'd', '--', 'sleep', '600');
wait_for('the lock', sub { $who->() eq 'd session' });
sql("SELECT tfstate_force_unlock('d', reason => 'a test', terminate => true)");
is(end($run), 70, 'session: a lock that was released by force ends the command');
like($run->{err}, qr/\Atfstate: state lock "d" was lost: it was released by force, by .*: a test\n\z/, 'session: it is told who did that');

# A broken connection, and a server that starts anew

foreach my $mode ('lease', 'durable')
{
	my $in = '';
	my ($out, $err);
	my $run = IPC::Run::start([ 'tfstate', 'run', '--mode', $mode, 'e', '--', 'sh', '-c', 'read line; exit 4' ],
		'<', \$in, '>', \$out, '2>', \$err);
	wait_for('the lock', sub { $who->() eq 'e durable' });
	my $fence = sql("SELECT fence FROM tfstate_holders");
	sql("SELECT pg_terminate_backend(pid) FROM tfstate_holders");
	wait_for('another connection', sub { sql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tfstate-run:%'") == 1 });
	$node->stop('immediate');
	$node->start;
	wait_for('another connection', sub { sql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tfstate-run:%'") == 1 });
	is(sql("SELECT fence FROM tfstate_holders"), $fence, "$mode: the lock is the same over a broken connection and a crash of the server");
	$in = "go on\n";
	$run->finish;
	is(($run->full_results)[0] >> 8, 4, "$mode: the command goes on");
	is($who->(), '', "$mode: the lock is released");
}

# kill -9

$run = start('run', '--mode', 'session', 'f', '--', 'sh', '-c', 'echo $$; exec sleep 600');
wait_for('the command', sub { $run->{run}->pump_nb; $run->{out} =~ /^\d+\n/ });
my $command = $run->{out} + 0;
kill('KILL', $run->{pid});
end($run);
wait_for('the end of the lock', sub { $who->() eq '' });
wait_for('the end of the command', sub { !kill(0, $command) });
pass('kill -9: a session lock is free, and the command has ended');

done_testing();
