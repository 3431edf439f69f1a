# Refusals that need a second session, or more than one function, to be provoked: the whole
# error, with code, detail and hint, and that nothing has changed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node(
	'refused_beside_others',
	conf => "fsync = off\nmax_prepared_transactions = 2\nautovacuum_naptime = 1s\nautovacuum_max_workers = 1\n");
my $holder = session($node, name => 'holder');
my $other = session($node, name => 'other');

# Runs a statement that must be refused; compares the SQLSTATE and the text of the error.
sub refused
{
	my ($session, $sql, $code, $expected, $what) = @_;
	my $held = sql('SELECT lockid, id, fence FROM tfstate_holders ORDER BY lockid');

	$session->query($sql);
	my $error = $session->{err} =~ s/.*?ERROR:  (\w{5}): //sr;
	is($1, $code, "$what: the SQLSTATE is $code");
	$error =~ s/^(?:CONTEXT|LOCATION|PL|SQL).*\n?//mg;
	$error =~ s/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00/TIME/g;
	$error =~ s/$holder->{pid}/PID/g;
	is($error, $expected, "$what: the text of the error");
	is(sql('SELECT lockid, id, fence FROM tfstate_holders ORDER BY lockid'), $held, "$what: nothing has changed");
	return;
}

my $user = sql('SELECT current_user');
sql(q(
	CREATE ROLE admin; CREATE ROLE alice LOGIN;
	SELECT tfstate_attach('tf', 'states');
	SELECT tfstate_grant('admin', privilege => 'force'), tfstate_grant('alice'), tfstate_grant('alice', privilege => 'force');
));
$_->query_safe("SET TimeZone = 'UTC'; SET tfstate.who = 'me'") foreach $holder, $other;

# A client without tfstate
my $id = sql("SELECT id FROM tf.states WHERE name = 'default'");
$holder->query_safe("SELECT pg_advisory_lock($id)");
refused($other, "SELECT tfstate_lock('tf.states/default')", '55P03', <<END, 'the built-in lock');
state lock "tf.states/default" is held without tfstate by $user\@[local] (pid PID, holder)
DETAIL:  Advisory lock $id is held by a client that does not use tfstate.
HINT:  Wait until it has finished, or end it with pg_terminate_backend().
END
is( $other->query_safe(
		"BEGIN; SELECT locked FROM tfstate_try_lock('tf.states/default', wait => '10 ms'); SELECT count(*) FROM tfstate_waiters; ROLLBACK"),
	"f\n0",
	'the built-in lock: a session whose wait was in vain is no longer a waiter');
$holder->query_safe("SELECT pg_advisory_unlock($id)");

# In a transaction, a holder that has connected since the first look at the activity
$other->query_safe('BEGIN; SELECT count(*) FROM pg_stat_activity');
my $late = session($node, name => 'late');
$late->query_safe("SELECT pg_advisory_lock($id)");
$other->query("SELECT tfstate_lock('tf.states/default')");
like($other->{err}, qr/ is held without tfstate by \Q$user\E\@\[local\] \(pid $late->{pid}, late\)/,
	'a holder that connected after the begin of a transaction is named there');
$other->query_safe('ROLLBACK');
$late->quit;

# A lock in session mode
$holder->query_safe(q(SELECT tfstate_lock('s', '{"ID": "i"}', 'session')));
refused($other, "SELECT tfstate_unlock('s', 'i')", '55000', <<END, q(another session's lock));
state lock "s" is held in session mode by another session: me since TIME (ID i)
HINT:  Only that session can release it, or tfstate_force_unlock() with terminate => true.
END
refused($other, "SELECT tfstate_force_unlock('s')", '55006', <<END, 'a live session');
state lock "s" is held by a live session: me since TIME (ID i)
HINT:  To end that session and its lock, add terminate => true, or --terminate to tfstate force-unlock.
END

# A bounded wait, beside a longer lock_timeout
my $start = time;
is( $other->query_safe("SET lock_timeout = '20 s'; SELECT locked FROM tfstate_try_lock('s', wait => '50 ms'); RESET lock_timeout"),
	'f', 'a bounded wait beside a longer lock_timeout does not get the lock');
cmp_ok(time - $start, '<', 10, 'a bounded wait ends in its own time');

# Waiters for locks in both modes
$holder->query_safe(q(SELECT tfstate_lock('t')));
my %waiter = map { $_ => session($node, name => "waiter of $_") } 's', 't';
$waiter{$_}->send("SELECT tfstate_lock('$_', wait => '1 min')") foreach sort keys %waiter;
wait_for('both to wait', sub { sql('SELECT count(*) FROM tfstate_waiters') == 2 });
is( sql("SELECT lockid, position, application_name FROM tfstate_waiters ORDER BY lockid"),
	"s|1|waiter of s\nt|1|waiter of t",
	'tfstate_waiters shows the waiter of each lock');
is(sql("SELECT lockid, mode, waiters FROM tfstate_holders ORDER BY lockid"),
	"s|session|1\nt|durable|1", 'tfstate_holders shows the number of waiters of each lock');
sql("SELECT pg_cancel_backend(pid) FROM tfstate_waiters");
$_->quit foreach values %waiter;
$holder->query_safe("SELECT tfstate_unlock('t')");

# A session lock whose holder is a superuser
$other->query_safe('SET ROLE admin');
refused($other, "SELECT tfstate_force_unlock('s', terminate => true)", '42501', <<END, 'the session of a superuser');
must be a superuser to terminate superuser process
END
$other->query_safe('RESET ROLE');
is($holder->query_safe('SELECT 1'), '1', 'the session of a superuser has not been terminated');

# A session lock whose holder is a process of the server without a role: autovacuum, which calls
# the functions of indexes.  It takes the lock for one of two tables, and sleeps for the other.
sql(q(
	CREATE FUNCTION lock_or_sleep(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql SET search_path = public AS $$
	BEGIN
		IF EXISTS (SELECT FROM pg_stat_activity WHERE pid = pg_backend_pid() AND backend_type = 'autovacuum worker')
		   AND NOT (SELECT locked FROM tfstate_try_lock('auto', mode => 'session')) THEN
			PERFORM pg_sleep(600);
		END IF;
		RETURN $1;
	END $$;
	CREATE TABLE one (i integer) WITH (autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0, autovacuum_enabled = off);
	CREATE TABLE two (LIKE one) WITH (autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0, autovacuum_enabled = off);
	CREATE INDEX ON one (lock_or_sleep(i));
	CREATE INDEX ON two (lock_or_sleep(i));
	INSERT INTO one VALUES (1);
	INSERT INTO two VALUES (1);
));
sql('BEGIN; ALTER TABLE one RESET (autovacuum_enabled); ALTER TABLE two RESET (autovacuum_enabled); COMMIT');
my $worker;
wait_for('autovacuum',
	sub { $worker = sql("SELECT h.pid FROM tfstate_holders('auto') h JOIN pg_stat_activity a ON a.pid = h.pid AND a.wait_event = 'PgSleep'") });
$other->query_safe('SET ROLE admin');
refused($other, "SELECT tfstate_force_unlock('auto', terminate => true)", '42501', <<END, 'a process without a role');
must be a superuser to terminate superuser process
END
$other->query_safe('RESET ROLE');
is(sql("SELECT pid FROM tfstate_holders('auto')"), $worker, 'a process without a role has not been terminated');
$other->query_safe("SELECT tfstate_force_unlock('auto', terminate => true)");
is(sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $worker"), 0, 'a superuser terminates a process without a role');

# A session lock whose holder does not end
kill('STOP', $holder->{pid}) or die "kill: $!";
refused($other, "SELECT tfstate_force_unlock('s', terminate => true)", '55006', <<END, 'a session that is stopped');
process PID did not terminate within 10 seconds
END
is(sql("SELECT locked FROM tfstate_try_lock('s')"), 'f', 'the lock of a stopped session cannot be taken');
kill('CONT', $holder->{pid}) or die "kill: $!";
wait_for('the session to end', sub { sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $holder->{pid}") eq '0' });
is(sql("SELECT locked FROM tfstate_try_lock('s', mode => 'session')"), 't', 'the lock of a stopped session can be taken after that has ended');
$holder->quit;

# A durable lock of another role
$holder = session($node, name => 'holder');
$holder->query_safe(q(SET TimeZone = 'UTC'; SET tfstate.who = 'me'; SELECT tfstate_lock('d', '{"ID": "i"}', ttl => '1 h')));
sql("SELECT tfstate_revoke('alice', privilege => 'force')");
$other->query_safe('SET ROLE alice');
foreach my $call ("tfstate_unlock('d', 'i')", "tfstate_renew('d', 'i')")
{
	refused($other, "SELECT $call", '42501', <<END, "another role's: $call");
permission denied for state lock "d"
DETAIL:  It is held by me since TIME (ID i).  Only members of role "$user", which took it, and roles with the privilege "force" can release or renew it.
END
}
$other->query_safe('RESET ROLE');

# lock_timeout during a wait
refused($other, "SET lock_timeout = 50; SELECT tfstate_lock('d', wait => NULL)", '55P03', <<END, 'lock_timeout');
canceling statement due to lock timeout
END
$other->query_safe('RESET lock_timeout');

# What a waiting client is told, and a client that releases a lock by force
$other->query("SELECT tfstate_lock('d', wait => '50 ms')");
like(
	$other->{err},
	qr/NOTICE:  00000: waiting for state lock "d", held by me since .* \(ID i\)\nDETAIL:  The position in the queue is 1\.\nHINT:  CREATE INDEX CONCURRENTLY waits for this statement; CALL tfstate_wait_lock\(\) waits without a snapshot\./,
	'a waiter is told the holder, and that its snapshot is in the way');
$other->query_safe("SELECT tfstate_force_unlock('d')");
like(
	$other->{err},
	qr/NOTICE:  00000: the process that held state lock "d" may still be running: .*, application_name "holder"\nDETAIL:  Its writes to a state that requires the lock are refused from now on; nothing else that it does is stopped\.\nHINT:  Stop it where it runs, before somebody else takes the lock\./,
	'a forced unlock says which process may still be running');

# Where a lock cannot be taken
refused($other, "BEGIN; SELECT tfstate_lock('p', mode => 'session'); PREPARE TRANSACTION 'p'", '0A000', <<END, 'PREPARE');
cannot PREPARE a transaction that has taken or released a state lock in session mode
END
$other->query_safe('ROLLBACK');
refused(
	$other,
	q(DO $$ DECLARE id text; fence bigint;
		BEGIN CREATE TABLE written (); CALL tfstate_wait_lock('w', id => id, fence => fence); END $$),
	'2D000', <<END, 'a wait that would commit');
tfstate_wait_lock() cannot be called in a transaction that has written something
DETAIL:  It waits in a transaction of its own, and would commit what was written before.
HINT:  Commit before the call.
END
is(sql("SELECT to_regclass('written') IS NULL"), 't', 'the table that the refused call had created does not exist');

# The extension is dropped, but its library is still loaded.
sql(q(CREATE FUNCTION public.kept(lockid text, info jsonb, mode text, wait interval, ttl interval)
	  RETURNS record AS 'tfstate', 'tfstate_lock' LANGUAGE C));
$holder->quit;
sql('DROP EXTENSION tfstate CASCADE');
$other->query("SELECT kept('x', '{}', 'durable', '0', NULL)");
is($other->sqlstate, '42704', 'without the extension: the SQLSTATE is 42704');
like($other->{err}, qr/extension "tfstate" does not exist\nHINT:  Run CREATE EXTENSION tfstate in this database\./,
	'without the extension: the hint says what to do');

$other->quit;
done_testing();
