# 100,000 durable locks and 10,000 session locks: everything works with the server's default
# of max_locks_per_transaction, and listing the locks never makes the try of another session
# fail.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;
use Time::HiRes qw(usleep);

my $durable = 100_000;
my $sessions = 10;
my $per_session = 1000;
my $session_locks = $sessions * $per_session;

my $node = tfstate_node('many', conf => "max_connections = 200\n");
my $dir = PostgreSQL::Test::Utils::tempdir();

# The durable locks, 1,000 in each transaction
sql( qq(
SET synchronous_commit = off;
DO \$\$
BEGIN
	FOR i IN 0 .. $durable - 1 LOOP
		PERFORM tfstate_lock('many/durable/' || i);
		IF i % 1000 = 999 THEN
			COMMIT;
		END IF;
	END LOOP;
END
\$\$));
is(manager_locks($node), 0, "$durable durable locks take no entry of the lock manager");

# The session locks
my @holders;
foreach my $n (0 .. $sessions - 1)
{
	my $holder = session($node, name => "holder $n");

	$holder->query_safe(
		"SELECT count(tfstate_lock('many/session/' || i, '{}', 'session')) FROM generate_series($n * $per_session, ($n + 1) * $per_session - 1) i"
	);
	push @holders, $holder;
}
is(manager_locks($node), $session_locks + $sessions,
	"$session_locks session locks are in the lock manager");

# The next lock is refused by tfstate, before the lock table of the server is full for all sessions.
$holders[0]->query("SELECT tfstate_lock('many/session/more', '{}', 'session')");
is($holders[0]->sqlstate, '53400', 'a session has a limit of session locks');

# The views
is( sql('SELECT mode, count(*), count(DISTINCT lockid), bool_and(waiters = 0), sum(session_alive::int) FROM tfstate_holders GROUP BY 1 ORDER BY 1'
	),
	"durable|$durable|$durable|t|0\nsession|$session_locks|$session_locks|t|$session_locks",
	'tfstate_holders shows all locks');
is(sql("SELECT lockid FROM tfstate_holders('many/durable/77777')"),
	'many/durable/77777', 'tfstate_holders() finds one durable lock');
is(sql("SELECT lockid, pid FROM tfstate_holders('many/session/7777')"),
	"many/session/7777|$holders[7]->{pid}", 'tfstate_holders() finds one session lock');
is(sql("SELECT count(*) FROM tfstate_holders('many/*/77*')"),
	1111 + 111, 'tfstate_holders() finds all locks that a pattern matches');
is(sql('SELECT count(*) FROM tfstate_waiters'), 0, 'tfstate_waiters shows no waiter');

# One of all durable locks is found by an index.
like(
	sql("EXPLAIN SELECT * FROM tfstate_holders WHERE lockid = 'many/durable/77777'"),
	qr/Index (Only )?Scan.* on durable_lock/,
	'one lockid is looked up by index');

# Session locks take memory only up to a limit.  What has ended gives it back.
{
	my $filler = session($node, name => 'filler');
	my $fill = sub {
		my ($prefix) = @_;
		return $filler->query(qq(\\set VERBOSITY verbose
			SELECT count(tfstate_lock('$prefix/' || i, jsonb_build_object('ID', i::text, 'Info', repeat('x', 8000)), 'session')) FROM generate_series(1, 5000) i));
	};
	$filler->query_safe('SET tfstate.max_session_locks = 100000');
	$fill->('full');
	like($filler->{err}, qr/53200: no shared memory is left for state locks in session mode\s+DETAIL:  Those of one database can take 32 MB\.\s+HINT:  Release some, or use durable mode\./,
		'an error when the memory for session locks is full');
	is(sql("SELECT count(*) FROM tfstate_holders('many/session/*')"), $session_locks, 'the other locks are still there');
	$filler->query_safe(q(SELECT count(tfstate_lock('some/' || i, jsonb_build_object('ID', i::text, 'Info', repeat('x', 8000)), 'session')) FROM generate_series(1, 1000) i));
	$filler->query_safe(q(SELECT count(tfstate_unlock('some/' || i)) FROM generate_series(1, 1000) i));
	is($filler->query_safe(q(SELECT count(tfstate_lock('some/' || i, jsonb_build_object('ID', i::text, 'Info', repeat('x', 8000)), 'session')) FROM generate_series(1001, 2000) i)), 1000,
		'the memory of locks that were released or rolled back is used again');
	$filler->quit;
}

# Nobody removes the entries of a transaction that is open.
{
	my $taker = session($node, name => 'taker');
	$taker->query_safe(q(BEGIN; SELECT count(tfstate_lock('open/' || i, '{}', 'session')) FROM generate_series(1, 900) i));
	sql(q(SELECT count(tfstate_lock('closed/' || i, '{}', 'session')), count(tfstate_unlock('closed/' || i)) FROM generate_series(1, 900) i)) foreach 1 .. 2;
	$taker->query_safe('COMMIT');
	is(sql("SELECT count(*) FROM tfstate_holders('open/*')"), 900, 'the locks of a transaction are there after its commit');
	# nor those of locks that are newer than what is removed
	my $newer = session($node, name => 'newer');
	my $lock = q(SELECT count(tfstate_lock('%s/' || i, '{}', 'session')) FROM generate_series(1, 450) i);
	$newer->query_safe(sprintf($lock, 'newer'));
	is($taker->query_safe(q(SELECT count(tfstate_unlock('open/' || i)) FROM generate_series(1, 900) i)), 900, 'and are released');
	$newer->query_safe(sprintf($lock, 'newest'));
	is(sql("SELECT count(*) FROM tfstate_holders('newer/*')"), 450, 'newer locks are there after that');
	$newer->quit;
	$taker->quit;
}

# A waiter for a lock in each mode
my @waiters = map { session($node, name => 'waiter') } 1, 2;
$waiters[0]->send("SELECT tfstate_lock('many/durable/5', wait => NULL)");
$waiters[1]->send("SELECT tfstate_lock('many/session/5', wait => NULL)");
wait_for('the waiters', sub { sql('SELECT count(*) FROM tfstate_waiters') == 2 });
is( sql('SELECT lockid, "position", pid FROM tfstate_waiters ORDER BY 1'),
	"many/durable/5|1|$waiters[0]->{pid}\nmany/session/5|1|$waiters[1]->{pid}",
	'tfstate_waiters finds the waiters');
is( sql('SELECT lockid FROM tfstate_holders WHERE waiters > 0 ORDER BY 1'),
	"many/durable/5\nmany/session/5",
	'tfstate_holders shows which locks have waiters');

# Listings in a loop beside tries of free locks: each try succeeds.
my @tries;
my @lists = map { session($node, name => 'list') } 1, 2;
my $listings = 0;
my $errors = '';
foreach my $mode ('durable', 'session')
{
	my $file = "$dir/$mode.sql";

	append_to_file(
		$file, "SELECT locked::int AS locked FROM tfstate_try_lock('free/$mode/:client_id', '{}', '$mode') \\gset
\\if :locked
SELECT tfstate_unlock('free/$mode/:client_id');
\\else
SELECT 'a try was refused'::int;
\\endif
");
	push @tries, "-f", $file;
}
my $listing =
  'SELECT count(*) FROM tfstate_holders; SELECT count(*) FROM tfstate_waiters; SELECT count(*) FROM pg_locks';
my ($stdout, $stderr) = ('', '');
my $pgbench = IPC::Run::start(
	[
		'pgbench', '-n', '-c', 4, '-t', 500, '-R', 500, @tries, '-h', $node->host, '-p',
		$node->port, 'postgres'
	],
	'>', \$stdout, '2>', \$stderr);
$_->send($listing) foreach @lists;
while ($pgbench->pumpable)
{
	eval { $pgbench->pump_nb };
	foreach my $list (grep { $_->is_done } @lists)
	{
		$list->result;
		$errors .= $list->{err};
		$listings++;
		$list->send($listing);
	}
	usleep(5_000);
}
$pgbench->finish;
$_->result foreach @lists;
like($stdout, qr{actually processed: 2000/2000},
	'2000 tries beside listings succeed');
unlike($stderr, qr/ERROR|aborted/, 'no try was refused or failed');
is($errors, '', 'no listing failed');
cmp_ok($listings, '>', 4, 'listings ran meanwhile');
note("$listings listings");

# The sessions end: their locks are free at once, and the rows that they left are not shown
# as held.
sql("SELECT tfstate_force_unlock('many/durable/5')");
$waiters[0]->result;
$_->kill9 foreach @holders;
$waiters[1]->result;
is($waiters[1]->sqlstate, '', 'the waiter for a session lock gets the lock');
wait_for('the sessions to end',
	sub { sql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'holder%'") == 0 });
is( sql('SELECT mode, count(*) FROM tfstate_holders GROUP BY 1'),
	'durable|' . ($durable + 1),
	'the session locks are not shown after their sessions ended');
is( sql("SELECT count(*) FROM generate_series(0, $session_locks - 1, 100) i, tfstate_try_lock('many/session/' || i) WHERE locked"
	),
	$session_locks / 100,
	'the session locks can be taken after their sessions ended');
$_->quit foreach @waiters, @lists;

done_testing();
