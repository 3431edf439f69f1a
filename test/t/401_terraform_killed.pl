# What is left of a run of Terraform that is killed, or that loses its connection during an
# apply, in each mode

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('killed');
my $schema = 'prod';
my $lockid = "$schema.states/default";
my $uuid = qr/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

attach($node, $schema);

sub project
{
	my ($who, %options) = @_;
	return Terraform->new(
		$node,
		schema => $schema,
		who => $who,
		options => { map { ("tfstate.$_" => $options{$_}) } keys %options });
}

# Returns the only holder, as "who
# mode
# session_alive".
sub holder
{
	return sql('SELECT who, mode, session_alive FROM tfstate_holders');
}

# Returns how the holdings of somebody have ended.
sub ends_of
{
	my ($who) = @_;
	return sql(
		"SELECT string_agg(how, ' ' ORDER BY fence) FROM tfstate_history('$lockid') WHERE who = '$who'"
	);
}

# Terminates the sessions of a running Terraform, which keeps running.
sub terminate
{
	my ($who) = @_;
	my $pid = sql("SELECT pid FROM tfstate_holders WHERE who = '$who'");

	is(sql("SELECT pg_terminate_backend($pid, 60000)"),
		't', "the connection of $who is terminated");
	return;
}

my $bob = project('bob');

# kill -9 of the client in session mode: the lock is free.
{
	my $alice = project('alice-session');
	my $run = $alice->start_slow_apply;

	is(holder(), 'alice-session|session|t', 'session mode: the lock is held');
	is(($run->kill9)[0], 'signal 9', 'session mode: the client is killed');
	nothing_held($node, 'session mode: the end of the client frees the lock');
	$bob->apply_ok('session mode: the next run succeeds');
	is(ends_of('alice-session'), 'reclaimed', 'session mode: the history says that the lock was reclaimed');
	nothing_held($node, 'session mode: no lock is left');
	$alice->open_gate;
}

# kill -9 of the client in durable mode: the lock stays until it is released by force.
{
	my $alice = project('alice-durable', mode => 'durable');
	my $run = $alice->start_slow_apply;

	is(holder(), 'alice-durable|durable|t', 'durable mode: the lock is held');
	is(($run->kill9)[0], 'signal 9', 'durable mode: the client is killed');
	wait_for('the session to end',
		sub { holder() eq 'alice-durable|durable|f' });
	is( holder(),
		'alice-durable|durable|f',
		'durable mode: the lock is held, and its session is shown as dead');

	my $output =
	  $bob->apply_fails('durable mode: the next run', qr/is held by alice-durable: apply since .*\(ID $uuid\)/);
	my ($id) = $output =~ /is held by alice-durable: .*? \(ID ($uuid)\)/;
	is(sql('SELECT id FROM tfstate_holders'),
		$id, 'durable mode: the message has the ID of the lock');

	# What the message says to call works, for the role that is told so.
	my ($call) = $output =~ /; ask them or, if it is left of a run of your own, release it with (SELECT .*?'\))/;
	is($call, "SELECT tfstate_unlock('$lockid', '$id')", 'durable mode: the message has the call that releases it');
	my $session = session($node, user => 'terraform');
	is($session->query("BEGIN; $call IS NOT NULL; ROLLBACK"), 't', 'durable mode: the role may make the call');
	$session->quit;
	sql("SELECT tfstate_grant('terraform', '*', 'force')");
	$bob->apply_fails('durable mode: a run that may release all locks',
		qr/; ask them, or release it with \QSELECT tfstate_force_unlock('$lockid', '$id')\E/);
	sql("SELECT tfstate_revoke('terraform', '*', 'force')");

	# Terraform's own command sends no statement for a lock.
	$bob->run_ok('durable mode: terraform force-unlock says that it did it',
		'force-unlock', '-force', $id);
	is( holder(),
		'alice-durable|durable|f',
		'durable mode: terraform force-unlock has not released the lock');

	my ($status, undef, $stderr) = $node->psql('postgres',
		"SELECT tfstate_force_unlock('$lockid', 'another ID')");
	isnt($status, 0, 'durable mode: tfstate_force_unlock() with another ID is refused');
	like(
		$stderr,
		qr/is not held under ID "another ID" but by alice-durable: apply/,
		'durable mode: the refusal names the holder');
	is( sql("SELECT tfstate_force_unlock('$lockid', '$id', 'laptop was lost') ->> 'Who'"
		),
		'alice-durable',
		'durable mode: tfstate_force_unlock() with the right ID releases the lock');
	is(ends_of('alice-durable'), 'force', 'durable mode: the history says that the lock was released by force');
	is( sql("SELECT reason, released_by LIKE current_user || '@%' FROM tfstate_history('$lockid') WHERE id = '$id'"
		),
		'laptop was lost|t',
		'durable mode: the history says why, and by whom');
	$bob->apply_ok('durable mode: the next run succeeds');
	nothing_held($node, 'durable mode: no lock is left');
	$alice->open_gate;
}

# The connection breaks in durable mode.  Go opens a new one, and tfstate.run_id says that it
# is the same run: the lock stays held, and is released at the end.
{
	my $alice = project('alice-run', mode => 'durable', run_id => uuid());
	my $run = $alice->start_slow_apply;
	my ($before) = split(/\|/, state_of($node, $schema));

	terminate('alice-run');
	is( holder(),
		'alice-run|durable|f',
		'run_id: the lock stays held after its session');
	$bob->apply_fails('run_id: another run', qr/is held by alice-run: apply/);
	project('carol', mode => 'durable', run_id => uuid())
	  ->apply_fails('run_id: a run with another name', qr/is held by alice-run: apply/);
	$alice->open_gate;
	my ($status, $output) = $run->finish;
	is($status, 0, 'run_id: the run succeeds') or diag($output);
	is(state_of($node, $schema), $before + 1 . '|alice-run',
		'run_id: the run has written its state');
	is(ends_of('alice-run'), 'unlock', 'run_id: the run has released its lock');
	nothing_held($node, 'run_id: no lock is left');
}

# A run with the name of a killed one goes on with the lock that that has left.
{
	my @same = (mode => 'durable', run_id => uuid());
	my $alice = project('alice-again', @same);
	my $run = $alice->start_slow_apply;
	my $fence = sql('SELECT fence FROM tfstate_holders');

	$run->kill9;
	wait_for('the session to end',
		sub { holder() eq 'alice-again|durable|f' });
	$bob->apply_fails('same run_id: another run',
		qr/is held by alice-again: apply/);
	my $again = $alice->start_slow_apply;
	is(sql('SELECT fence, session_alive FROM tfstate_holders'),
		"$fence|t", 'same run_id: the second run has the lock, with the same fence');
	$alice->open_gate;
	my ($status, $output) = $again->finish;
	is($status, 0, 'same run_id: the run succeeds') or diag($output);
	is(ends_of('alice-again'), 'unlock', 'same run_id: the second run has released the lock');
	nothing_held($node, 'same run_id: no lock is left');
}

# The connection breaks because the server crashes and is started again.
{
	my $alice = project('alice-crash', mode => 'durable', run_id => uuid());
	my $run = $alice->start_slow_apply;
	my ($before) = split(/\|/, state_of($node, $schema));

	$node->stop('immediate');
	$node->start;
	is(holder(), 'alice-crash|durable|f', 'crash: the lock is still held after the restart');
	$bob->apply_fails('crash: another run', qr/is held by alice-crash: apply/);
	$alice->open_gate;
	my ($status, $output) = $run->finish;
	is($status, 0, 'crash: the run succeeds') or diag($output);
	is(state_of($node, $schema), $before + 1 . '|alice-crash',
		'crash: the run has written its state');
	is(ends_of('alice-crash'), 'unlock', 'crash: the run has released its lock');
	nothing_held($node, 'crash: no lock is left');
}

# Without a name, the second connection would not be known as the same run: the run is
# refused at once, and told what to set.  So is a run whose name another run may have, too.
foreach my $name (undef, 'job/4711', '%a', 'alice@laptop')
{
	my $alice = Terraform->new(
		$node,
		schema => $schema,
		who => 'alice',
		nameless => 1,
		options => {
			'tfstate.mode' => 'durable',
			defined $name ? ('tfstate.run_id' => $name) : ()
		});
	my $test = 'run_id ' . ($name || 'missing');

	$alice->apply_fails($test,
		defined $name
		? qr/tfstate\.run_id is "\Q$name\E", which is not a UUID; set a new UUID for each run, for example with PGOPTIONS="-c tfstate\.run_id=\$\(uuidgen\)"/
		: qr/the lock is to be durable, but this run has no name that it could belong to; set PGAPPNAME="tfstate-run:\$\(uuidgen\)", or add/
	);
	nothing_held($node, "$test: no lock is taken");
}

# In session mode the lock ends with the connection.  If another run has taken it, the first
# one fails at its end, and the second one keeps its lock.
{
	my $alice = project('alice-lost');
	my $carol = project('carol-taker');
	my $first = $alice->start_slow_apply;

	terminate('alice-lost');
	is(holder(), '', 'lost lock: the lock is free');
	my $second = $carol->start_slow_apply;
	is(holder(), 'carol-taker|session|t', 'lost lock: another run takes the lock');
	$alice->open_gate;
	my ($status, $output) = $first->finish;
	is($status, 1, 'lost lock: the first run fails');
	like(
		$output,
		qr/\Q"$lockid" is not held by this run but by carol-taker: apply\E/,
		'lost lock: the error of the first run names the new holder');
	is( holder(),
		'carol-taker|session|t',
		'lost lock: the second run still has the lock');
	$carol->open_gate;
	($status, $output) = $second->finish;
	is($status, 0, 'lost lock: the second run succeeds') or diag($output);
	nothing_held($node, 'lost lock: no lock is left');
}

# A durable lock can be released by force while its holder is running.  The next run gets it
# at once, and the first one says at its end that it has lost it.
{
	my $alice = project('alice-forced', mode => 'durable');
	my $carol = project('carol-next', mode => 'durable');
	my $first = $alice->start_slow_apply;
	my $id = sql('SELECT id FROM tfstate_holders');

	is(sql("SELECT tfstate_force_unlock('$lockid', '$id') ->> 'Who'"),
		'alice-forced', 'forced lock: the lock of a running holder is released');
	$bob->apply_ok('forced lock: a run in session mode gets the lock');
	my $second = $carol->start_slow_apply;
	is(holder(), 'carol-next|durable|t', 'forced lock: a run in durable mode gets the lock');
	$alice->open_gate;
	my ($status, $output) = $first->finish;
	is($status, 1, 'forced lock: the first run fails');
	like(
		$output,
		qr/\Q"$lockid" is not held by this run but by carol-next: apply\E/,
		'forced lock: the error of the first run names the new holder');
	is(holder(), 'carol-next|durable|t', 'forced lock: the second run still has the lock');
	$carol->open_gate;
	($status, $output) = $second->finish;
	is($status, 0, 'forced lock: the second run succeeds') or diag($output);
	nothing_held($node, 'forced lock: no lock is left');
}

# A run that is killed in the queue leaves it without having had the lock.
foreach my $mode ('session', 'durable')
{
	my $holder = project("holder-$mode", mode => $mode);
	my $first = project("first-$mode", mode => $mode, wait => '-1');
	my $second = project("second-$mode", mode => $mode, wait => '-1');
	my $run = $holder->start_slow_apply;
	my $killed = $first->start('apply', '-auto-approve');

	wait_for('the first waiter',
		sub { waiting_pids($node, $lockid) =~ /^\d+$/ });
	my ($pid) = waiting_pids($node, $lockid);
	my $waiter = $second->start('apply', '-auto-approve');
	wait_for('the second waiter',
		sub { waiting_pids($node, $lockid) =~ /^$pid \d+$/ });
	$killed->kill9;
	wait_for('the queue to close up',
		sub { waiting_pids($node, $lockid) !~ /\b$pid\b/ });
	like(waiting_pids($node, $lockid),
		qr/^\d+$/, "$mode: a killed run leaves the queue");
	is(holder(), "holder-$mode|$mode|t", "$mode: the holder still has the lock");
	$holder->open_gate;
	is(($run->finish)[0], 0, "$mode: the holder succeeds");
	is(($waiter->finish)[0], 0, "$mode: the other waiter succeeds after it");
	is(ends_of("first-$mode"), '', "$mode: the killed run never had the lock");
	nothing_held($node, "$mode: no lock is left");
}

done_testing();
