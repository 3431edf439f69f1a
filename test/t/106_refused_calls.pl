# A call that is refused, times out or fails in an open transaction leaves nothing behind:
# the lock manager, the views and later statements are as before.  A call reports truly what
# it did.  And all waiters are shown, whatever else is waited for.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('refused');
my $other = session($node, name => 'other');
my $open = session($node, name => 'open');
my $stock = session($node, name => 'stock');
my $caller = session($node, name => 'caller');

# Returns what other sessions see of the caller, and all holders and waiters.
sub seen
{
	return sql(
		qq(SELECT string_agg(concat_ws(' ', classid, objid, objsubid, mode, granted), ', ' ORDER BY 1)
			 FROM (SELECT classid, objid, objsubid, mode, granted FROM pg_locks
					WHERE locktype = 'advisory' AND pid = $caller->{pid} ORDER BY 1, 2, 3, 4) l;
		   SELECT lockid, id, mode, waiters FROM tfstate_holders ORDER BY lockid;
		   SELECT * FROM tfstate_waiters;));
}

# Each lockid is held in a different way.
sql("SELECT tfstate_attach('tf')");
my $workspace = 'tf.states/default';
$other->query_safe("SELECT tfstate_lock('durable', '{\"ID\": \"1\"}')");
$other->query_safe("SELECT tfstate_lock('session', '{\"ID\": \"2\"}', 'session')");
$other->query_safe("SELECT tfstate_lock('leased', '{\"ID\": \"3\"}', ttl => '1 hour')");
$other->query_safe("SELECT tfstate_lock('expired', '{\"ID\": \"4\"}', ttl => '1 ms')");
$open->query_safe("BEGIN; SELECT tfstate_lock('uncommitted', '{\"ID\": \"5\"}')");
$open->query_safe("SELECT tfstate_renew('expired', '4', '1 hour')");
$stock->query_safe('SELECT pg_advisory_lock(id) FROM tf.states');
$caller->query_safe("SELECT tfstate_lock('own/durable', '{\"ID\": \"6\"}')");
$caller->query_safe("SELECT tfstate_lock('own/session', '{\"ID\": \"7\"}', 'session')");
my @lockids = ('durable', 'session', 'leased', 'expired', 'uncommitted', $workspace, 'own/durable', 'own/session');

# Calls on a lockid: those that return a refusal, and those that raise an error
my @refusals = (
	map {
		my $mode = $_;
		map { "SELECT locked, id FROM tfstate_try_lock('%s', '{}', '$mode', '$_')" } '0', '30 ms'
	} 'durable', 'session');
my @errors = (
	"SELECT tfstate_lock('%s')",
	"SELECT tfstate_lock('%s', '{}', 'session', '30 ms')",
	"SELECT tfstate_lock('%s', '{}', 'durable', '30 ms')",
	"SET LOCAL lock_timeout = '30 ms'; SELECT tfstate_lock('%s', '{}', 'durable', '1 hour')",
	"SET LOCAL statement_timeout = '30 ms'; SELECT tfstate_lock('%s', '{}', 'durable', '1 hour')",
	"SET LOCAL statement_timeout = '30 ms'; SELECT tfstate_lock('%s', '{}', 'session', NULL)",
	"SELECT tfstate_lock('%s', '[]')",
	"SELECT tfstate_unlock('%s', 'wrong')",
	"SELECT tfstate_unlock('none/%s')",
	"SELECT tfstate_renew('%s', 'wrong')",
	"SELECT tfstate_force_unlock('%s', 'wrong')",
	"SELECT tfstate_force_unlock('none/%s')",
	"CALL tfstate_wait_lock('%s')",
	"DO \$\$ BEGIN PERFORM tfstate_unlock('own/durable'); PERFORM tfstate_unlock('own/session'); PERFORM tfstate_lock('%s'); PERFORM 1 / 0; END \$\$",
	"SET LOCAL search_path = tfstate_pg, pg_catalog, public; SELECT pg_try_advisory_lock(id) FROM tf.states",
);

foreach my $lockid (@lockids)
{
	my $probe = "SELECT locked, id FROM tfstate_try_lock('$lockid')";

	$caller->query_safe('BEGIN');
	$caller->query_safe("SELECT tfstate_lock('block/durable', '{\"ID\": \"8\"}')");
	$caller->query_safe("SELECT tfstate_lock('block/session', '{\"ID\": \"9\"}', 'session')");
	my $result = $caller->query_safe($probe);
	my $inside = $caller->query_safe('SELECT lockid, id, waiters FROM tfstate_holders ORDER BY 1');
	my $before = seen();
	my @left;

	like($result, qr/^f\|/, "$lockid: the lock cannot be taken");
	foreach my $call (@refusals)
	{
		my $text = sprintf($call, $lockid);

		$caller->query_safe($text);
		push @left, $text if seen() ne $before || $caller->query_safe($probe) ne $result;
	}
	foreach my $call (@errors)
	{
		my $text = sprintf($call, $lockid);

		$caller->query_safe('SAVEPOINT s');
		$caller->query("$text");
		push @left, "$text: no error" unless $caller->sqlstate;
		$caller->query_safe('ROLLBACK TO s; RELEASE s');
		push @left, $text if seen() ne $before || $caller->query_safe($probe) ne $result;
	}
	is_deeply(\@left, [], "$lockid: no refused call leaves anything behind");
	is($caller->query_safe('SELECT lockid, id, waiters FROM tfstate_holders ORDER BY 1'),
		$inside, "$lockid: the views in the transaction are as before");
	$caller->query_safe('ROLLBACK');
}
$open->query_safe('ROLLBACK');
$stock->query_safe('SELECT pg_advisory_unlock_all()');
is(sql("SELECT count(*) FROM tfstate_holders"), 5, 'all locks are held as before');

# If the process of a holder does not end, the call does not say that it has, and the lock
# stays held.  A durable lock can be released whatever its process does.
my $stopped = session($node, name => 'stopped');
$stopped->query_safe("SELECT tfstate_lock('stopped/session', '{}', 'session'); SELECT tfstate_lock('stopped/durable')");
kill 'STOP', $stopped->{pid};
$caller->query("SELECT tfstate_force_unlock('stopped/session', terminate => true)");
is($caller->sqlstate, '55006', 'force-unlock fails as long as the process has not ended');
is(sql("SELECT pid FROM tfstate_holders('stopped/session')"),
	$stopped->{pid}, 'the session lock is still held');
$caller->query_safe("SELECT tfstate_force_unlock('stopped/durable')");
is($caller->query_safe("SELECT locked FROM tfstate_try_lock('stopped/durable')"),
	't', 'a durable lock can be taken after a force-unlock');
kill 'CONT', $stopped->{pid};
wait_for('the end of the process',
	sub { sql("SELECT count(*) FROM tfstate_holders('stopped/session')") == 0 });
is($caller->query_safe("SELECT locked FROM tfstate_try_lock('stopped/session')"),
	't', 'the session lock can be taken after its process has ended');

# Waiters in both modes, for several lockids at once
my (@waiters, @expected);
$other->query_safe("SELECT tfstate_lock('many/' || n, '{}', CASE n % 2 WHEN 0 THEN 'durable' ELSE 'session' END) FROM generate_series(1, 4) n");
foreach my $position (1 .. 3)
{
	foreach my $n (1 .. 4)
	{
		my $waiter = session($node, name => "waiter $n $position");
		my $mode = $position % 2 ? 'durable' : 'session';

		$waiter->send("SELECT tfstate_lock('many/$n', '{}', '$mode', '1 hour')");
		wait_for('the waiter', sub { waiting_pids($node, "many/$n") =~ /\b$waiter->{pid}\b/ });
		push @waiters, $waiter;
		push @expected, "many/$n|$position|$waiter->{pid}";
	}
}
is(sql('SELECT lockid, position, pid FROM tfstate_waiters ORDER BY lockid, position'),
	join("\n", sort @expected), 'tfstate_waiters shows all waiters of all lockids');
is( sql("SELECT string_agg(waiters::text, ' ') FROM tfstate_holders('many/*')"),
	'3 3 3 3',
	'tfstate_holders counts the waiters of each lockid');
foreach my $n (1 .. 4)
{
	is( sql("SELECT lockid, position, pid FROM tfstate_waiters('many/$n') ORDER BY position"),
		join("\n", sort grep { /^many\/$n\|/ } @expected),
		"tfstate_waiters('many/$n') shows the waiters of one lockid");
}
foreach my $waiter (@waiters)
{
	sql("SELECT pg_cancel_backend($waiter->{pid})");
	$waiter->result;
	$waiter->quit;
}
is(sql('SELECT count(*) FROM tfstate_waiters'), 0, 'tfstate_waiters is empty after the waiters have gone');

$_->quit foreach $other, $open, $stock, $caller;
done_testing();
