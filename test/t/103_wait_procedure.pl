# CALL tfstate_wait_lock() waits without holding back vacuum, and treats a large info as
# tfstate_lock() does.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('procedure', conf => "autovacuum = off\n");
my $holder = session($node, name => 'holder');
my $waiter = session($node, name => 'waiter');
my $behind = session($node, name => 'behind');

sub waits
{
	my ($session, $lockid) = @_;

	wait_for('the waiter',
		sub { waiting_pids($node, $lockid) =~ /\b$session->{pid}\b/ });
	return;
}

# Returns true if a session holds back what vacuum may remove.
sub holds_back
{
	my ($session) = @_;
	return sql(
		"SELECT backend_xmin IS NOT NULL OR backend_xid IS NOT NULL FROM pg_stat_activity WHERE pid = $session->{pid}"
	);
}

# Each waiter is tested: the first in line, which sleeps, and the one behind it, which waits
# in the lock manager.
foreach my $mode ('durable', 'session')
{
	my $lockid = "xmin/$mode";

	$holder->query_safe("SELECT tfstate_lock('$lockid', '{}', '$mode')");
	$waiter->send("CALL tfstate_wait_lock('$lockid', '{}', '$mode')");
	waits($waiter, $lockid);
	$behind->send("CALL tfstate_wait_lock('$lockid', '{}', '$mode', '1 hour')");
	waits($behind, $lockid);
	is(holds_back($waiter), 'f', "$mode: the first waiter has no snapshot");
	is(holds_back($behind), 'f', "$mode: the second waiter has no snapshot");

	# The first waiter for a durable lock looks at the tables each second: here when one of them
	# has changed, so that the catalogs are read again.
	if ($mode eq 'durable')
	{
		my $event = "SELECT wait_event_type || ' ' || wait_event FROM pg_stat_activity WHERE pid = $waiter->{pid}";
		my $changer = session($node);

		$changer->query_safe('BEGIN; LOCK TABLE tfstate_internal.durable_lock; ALTER TABLE tfstate_internal.durable_lock SET (fillfactor = 90)');
		wait_for('the waiter to look', sub { sql($event) eq 'Lock relation' });
		$changer->query_safe('COMMIT; ALTER TABLE tfstate_internal.durable_lock RESET (fillfactor)');
		wait_for('the waiter to sleep', sub { sql($event) =~ /^Extension/ });
		is(holds_back($waiter), 'f', "$mode: the first waiter has no snapshot after it has read the catalogs");
		$changer->quit;
	}

	# Rows deleted during the wait can be removed.
	sql('CREATE TABLE deleted AS SELECT generate_series(1, 1000) AS i');
	sql('DELETE FROM deleted');
	sql('VACUUM deleted');
	is(sql("SELECT pg_relation_size('deleted')"),
		0, "$mode: vacuum removes rows that were deleted during the wait");
	sql('DROP TABLE deleted');

	$holder->query_safe("SELECT tfstate_unlock('$lockid')");
	foreach my $session ($waiter, $behind)
	{
		my ($id, $fence) = split(/\|/, $session->result);

		like($session->{err}, qr/NOTICE: .* waiting for state lock "$lockid", held by /,
			"$mode: the client is told that it waits");
		unlike($session->{err}, qr/CONCURRENTLY/, "$mode: the notice is the only one, since there is no snapshot to warn of");
		is( sql("SELECT id, fence, pid, mode FROM tfstate_holders('$lockid')"),
			"$id|$fence|$session->{pid}|$mode",
			"$mode: the procedure returns the ID and the fence of the lock");
		$session->query_safe("SELECT tfstate_unlock('$lockid', '$id')");
	}
}

# The function does hold a snapshot, so the test above is able to fail.
$holder->query_safe("SELECT tfstate_lock('xmin/function')");
$waiter->send("SELECT tfstate_lock('xmin/function', wait => NULL)");
waits($waiter, 'xmin/function');
is(holds_back($waiter), 't', 'tfstate_lock() waits with a snapshot');
$holder->query_safe("SELECT tfstate_unlock('xmin/function')");
$waiter->result;
$waiter->query_safe("SELECT tfstate_unlock('xmin/function')");

# By default it waits without a limit; with a wait it returns at once or at its end.
$holder->query_safe(
	q(SELECT tfstate_lock('wait', '{"ID": "x-1", "Who": "alice@laptop", "Operation": "apply", "Info": "job 7"}')));
foreach my $wait ("'0'", "'200ms'")
{
	$waiter->query("CALL tfstate_wait_lock('wait', wait => $wait)");
	is($waiter->sqlstate, '55P03', "a wait of $wait ends with the conflict error");
	like(
		$waiter->{err},
		qr/ERROR:  55P03: state lock "wait" is held by alice\@laptop: apply since \S+ \S+ \(ID x-1, info "job 7"\)\nDETAIL:  .*"ID": "x-1".*\nHINT:  .*SELECT tfstate_force_unlock\('wait', 'x-1'\);/,
		"the conflict error of a wait of $wait names the holder");
}
$holder->query_safe("SELECT tfstate_unlock('wait')");

# Transaction control: the procedure ends the transaction in which it is called, so it is
# refused in a transaction block and in a function.
foreach my $call ("BEGIN; CALL tfstate_wait_lock('block')",
	"CREATE FUNCTION pg_temp.call_it() RETURNS void LANGUAGE plpgsql AS 'DECLARE i text; f bigint; BEGIN CALL tfstate_wait_lock(''block'', id => i, fence => f); END'; SELECT pg_temp.call_it()"
  )
{
	$waiter->query($call);
	is($waiter->sqlstate, '2D000', 'the procedure is refused in a transaction');
	$waiter->query('ROLLBACK');
}
is(sql("SELECT count(*) FROM tfstate_holders('block')"),
	0, 'the refused procedure has taken no lock');
$waiter->query_safe(
	"DO \$\$ DECLARE i text; f bigint; BEGIN CALL tfstate_wait_lock('block', id => i, fence => f); ASSERT f > 0; END \$\$"
);
is(sql("SELECT pid FROM tfstate_holders('block')"),
	$waiter->{pid}, 'the procedure works in DO, which may end its transactions');
$waiter->query_safe("SELECT tfstate_unlock('block')");

# The procedure does not commit what its caller has written before.
sql('CREATE TABLE written (i int)');
sql("CREATE PROCEDURE call_it(commits boolean) LANGUAGE plpgsql AS 'DECLARE i text; f bigint; BEGIN INSERT INTO written VALUES (1); IF commits THEN COMMIT; END IF; CALL tfstate_wait_lock(''block'', id => i, fence => f); END'");
$waiter->query('CALL call_it(false)');
like(
	$waiter->{err},
	qr/ERROR:  2D000: tfstate_wait_lock\(\) cannot be called in a transaction that has written something\n/,
	'the procedure is refused in a transaction that has written');
is(sql("SELECT count(*) FROM written, tfstate_holders"), 0, 'neither the row nor the lock is there after the refusal');
$waiter->query_safe('CALL call_it(true)');
is(sql("SELECT count(*) FROM written, tfstate_holders('block')"), 1, 'the procedure works after a commit of what was written');
$waiter->query_safe("SELECT tfstate_unlock('block')");

# An info of almost 8 kB that cannot be compressed, in each mode and through each call,
# while another session waits for the lock and reads it.
my $text = join('', map { ('a' .. 'z', 'A' .. 'Z', 0 .. 9)[ rand 62 ] } 1 .. 7900);
foreach my $mode ('durable', 'session')
{
	foreach my $call (
		"SELECT id FROM tfstate_lock('%s', jsonb_build_object('Info', :'info'), '%s')",
		"CALL tfstate_wait_lock('%s', jsonb_build_object('Info', :'info'), '%s')")
	{
		my $lockid = "big/$mode";
		my ($name) = $call =~ /(tfstate_\w+)/;

		$holder->query_safe("\\set info '$text'");
		$holder->query_safe(sprintf($call, $lockid, $mode));
		$waiter->send(sprintf("CALL tfstate_wait_lock('%s', '{}', '%s')", $lockid, $mode));
		waits($waiter, $lockid);
		is(sql("SELECT info ->> 'Info' FROM tfstate_holders('$lockid')"),
			$text, "$name, $mode: tfstate_holders shows a large info");
		$behind->query("SELECT tfstate_lock('$lockid')");
		is($behind->sqlstate, '55P03', "$name, $mode: the conflict error is raised");
		my ($primary, $detail) = $behind->{err} =~ /ERROR:  (.*)\nDETAIL:  (.*)\n/;
		is( $primary =~ s/since \S+ \S+ \(ID [0-9a-f-]{36},/since then/r,
			"55P03: state lock \"$lockid\" is held by "
			  . sql('SELECT current_user')
			  . '@[local] since then info "'
			  . substr($text, 0, 256) . '...")',
			"$name, $mode: the message has the start of the info");
		like($detail, qr/"\Q$text\E"/, "$name, $mode: the detail has the whole info");
		is( $holder->query_safe("SELECT tfstate_unlock('$lockid') ->> 'Info'"),
			$text, "$name, $mode: unlock returns the whole info");
		$waiter->result;
		$waiter->query_safe("SELECT tfstate_unlock('$lockid')");
	}
}

is( sql("SELECT count(*), bool_and(info ->> 'Info' = '$text') FROM tfstate_history('big/durable') WHERE length(info ->> 'Info') > 256"
	),
	'2|t',
	'the history keeps a large info');

# A large info that comes from a table, stored out of line, and is needed after the
# procedure has committed.
sql("CREATE TABLE big AS SELECT jsonb_build_object('Info', '$text') AS info");
sql("CREATE FUNCTION big() RETURNS jsonb LANGUAGE sql AS 'SELECT info FROM big'");
$holder->query_safe("SELECT tfstate_lock('big/stored')");
$waiter->send("CALL tfstate_wait_lock('big/stored', big())");
waits($waiter, 'big/stored');
sql('TRUNCATE big');
$holder->query_safe("SELECT tfstate_unlock('big/stored')");
$waiter->result;
is($waiter->sqlstate, '', 'a wait ends with the lock, though the table of its info was truncated meanwhile');
is(sql("SELECT info ->> 'Info' FROM tfstate_holders('big/stored')"),
	$text, 'the lock has the info that was passed');

$_->quit foreach $holder, $waiter, $behind;
done_testing();
