# Random and malicious calls of everything in the extension, in two sessions: the server must
# not crash, raise an internal error, warn of a leak, hang, or keep a lock.
#
# The seed of the random numbers is printed; FUZZ_SEED sets it, and FUZZ_MINUTES the time.
# With FUZZ_SQLSMITH a third of that time is sqlsmith's.

use strict;
use warnings;

use File::Basename;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use RandomStatements;
use List::Util qw(max sum0);
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;
use Time::HiRes qw(time usleep);

# How many seconds a statement may run after its statement_timeout, or after lock_timeout if
# a query runs at the commit (DECLARE CURSOR WITH HOLD)
my $patience = 30;

my $seed = $ENV{FUZZ_SEED} || time ^ $$;
my $seconds = 60 * ($ENV{FUZZ_MINUTES} || 0.25);
my $smith_seconds = $ENV{FUZZ_SQLSMITH} ? $seconds / 3 : 0;
my $show = $ENV{FUZZ_MINUTES} ? \&diag : \&note;

my $end = time + $seconds - $smith_seconds;
my (%problems, %errors, @done, @names, $slowest);
my ($statements, $crashes, $ended) = (0, 0, 0);

$ENV{PGCLIENTENCODING} = 'SQL_ASCII';
srand($seed);
$show->("seed $seed");

my $node = tfstate_node(
	'fuzz',
	conf => q(
max_prepared_transactions = 2
statement_timeout = 3s
lock_timeout = 5s
deadlock_timeout = 100ms
log_min_error_statement = warning
log_line_prefix = '%m [%p] %u %d %e '
log_error_verbosity = verbose
backtrace_functions = 'LockRelease'
tfstate.history_count = 5
fsync = off
));
my %is_ours = map { basename($_) => 1 } glob("$FindBin::RealBin/../../src/{,*/}*.c");
my %databases = (postgres => 'UTF8', bytes => 'SQL_ASCII');

sub problem
{
	my ($what, @during) = @_;
	return if $problems{$what}++ || keys %problems > 20;

	diag("$what\nduring: " . substr(join("\n", @during), 0, 3000));
	return;
}

sub make_databases
{
	$node->safe_psql('postgres', q(CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'));
	$node->safe_psql('bytes', 'CREATE EXTENSION tfstate');
	$node->safe_psql('postgres',
		q(CREATE ROLE fuzz_super SUPERUSER; CREATE ROLE fuzz_none; CREATE ROLE fuzz_lock; CREATE ROLE "fuzz ""all""" LOGIN;
		  CREATE ROLE fuzz_smith LOGIN IN ROLE "fuzz ""all""";));
	foreach my $database (keys %databases)
	{
		$node->safe_psql(
			$database, q(
		-- ids that no random number is by chance
		CREATE SEQUENCE public.global_states_id_seq START 1000;
		SELECT tfstate_attach(guard => 'on', keep_versions => 20), tfstate_attach('fuzz "a"', 'More states', role => 'fuzz "all"');
		SELECT tfstate_attach(role => 'fuzz "all"');
		SELECT tfstate_grant('fuzz_lock');
		SELECT tfstate_grant('fuzz "all"', '*', p) FROM unnest('{lock, view, force, override}'::text[]) p;
		-- ordinary roles, too, call what is not for users
		GRANT USAGE ON SCHEMA tfstate_internal TO PUBLIC;
		CREATE SCHEMA fuzz;
		CREATE TABLE fuzz.plain (id bigint PRIMARY KEY DEFAULT 1, name text UNIQUE, data text);
		CREATE TABLE fuzz.wrong (data int[], id text, x bigint, name name);
		CREATE TABLE fuzz.parted (id bigint, name text, data text) PARTITION BY LIST (id);
		CREATE TABLE fuzz.child PARTITION OF fuzz.parted DEFAULT;
		CREATE VIEW fuzz.view AS SELECT * FROM fuzz.plain;
		CREATE SEQUENCE fuzz.seq;
		GRANT ALL ON SCHEMA fuzz, terraform_remote_state, "fuzz ""a""" TO PUBLIC;
		GRANT ALL ON ALL TABLES IN SCHEMA fuzz TO PUBLIC;
		GRANT ALL ON terraform_remote_state.states, "fuzz ""a"""."More states" TO fuzz_lock));
	}
	return;
}

# Counts the errors of a statement.  Their texts are in the server log.
sub judge
{
	my ($session, $sql) = @_;

	foreach my $state ($session->{err} =~ /^(?:psql:.*?: )?(?:ERROR|FATAL|PANIC):  ([0-9A-Z]{5})$/mg)
	{
		$errors{$state}++;
		problem("SQLSTATE $state", $sql)
		  if $state =~ /^XX/ && !($session->{damaged} && $state eq 'XX001');
	}
	return;
}

# Starts a session that prints only the SQLSTATEs of its errors.
sub connect_to
{
	my ($database) = @_;
	my $session = session($node, dbname => $database);

	$session->query("\\o /dev/null\n\\set VERBOSITY sqlstate\nSELECT");
	return $session;
}

# Waits for a statement that was sent.  Returns false if the session has ended, which it may
# only if it was told to.
sub finish
{
	my ($session) = @_;
	my ($sql, $begin) = @$session{qw(sql begin)};

	while ($session->{run}->pumpable && !$session->is_done)
	{
		usleep(300);
		next if time < $begin + $patience;
		problem('a statement does not end', $sql);
		$session->kill9;
		return 0;
	}
	my $took = time - $begin;
	$slowest = [ $took, substr($sql, 0, 200) ] if !$slowest || $took > $slowest->[0];
	my $result = eval { $session->result };
	judge($session, $sql);
	return 1 if defined $result;

	if ($session->{err} =~ /57P01/)
	{
		$ended++;
	}
	else
	{
		$crashes++;
		problem('the connection is lost', $session->{err}, $sql);
	}
	return 0;
}

sub start
{
	my ($session, $sql) = @_;

	$statements++;
	push @done, substr($sql, 0, 1000);
	shift @done if @done > 20;
	@$session{qw(sql begin)} = ($sql, time);
	$session->send($sql);
	return;
}

sub run_all
{
	my ($session, @sql) = @_;

	foreach (@sql)
	{
		start($session, $_);
		return 0 unless finish($session);
	}
	return 1;
}

# Sets another role and other settings in a session.
sub become
{
	my ($session) = @_;

	return run_all(
		$session,
		'ROLLBACK',
		'CLOSE ALL',
		'RESET SESSION AUTHORIZATION',
		'RESET ALL',
		'SET search_path = ' . choose('public', 'public', 'tfstate_pg, pg_catalog, public'),
		chance(0.1) ? "SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')" : (),
		chance(0.1) ? 'SET session_replication_role = replica' : (),
		chance(0.3) ? 'SET tfstate.guard = off' : (),
		chance(0.1) ? 'SET statement_timeout = ' . int(1 + rand 20) : (),
		sprintf('SET SESSION AUTHORIZATION "%s"', choose(@roles, @roles[ 0, 0, 3, 3 ]) =~ s/"/""/gr));
}

# Damages versions, reads them, and restores them.
sub read_damaged
{
	my ($session) = @_;
	my @reading =
	  grep { /version|verify|repair|rollback|undelete|diff|prune/ && !/attach|check/ } @names;

	return unless become($session) && run_all($session, 'RESET SESSION AUTHORIZATION', 'BEGIN');
	$session->{damaged} = 1;
	my $alive = run_all($session, 'SAVEPOINT d', damage(), damage(), 'SAVEPOINT s');
	foreach (1 .. 6)
	{
		last unless $alive &&= run_all($session, call_of(choose(@reading)), 'ROLLBACK TO s');
	}
	return unless $alive && run_all($session, 'ROLLBACK');
	$session->{damaged} = 0;
	return 1;
}

# Performs the next action of a session, perhaps together with another one.  Returns false if
# one of them has ended.
sub act
{
	my ($session, $other) = @_;
	my $kind = rand();

	return run_all($session, transaction(), "ROLLBACK PREPARED 'fuzz'") if $kind < 0.15;
	return run_all($session, in_block()) if $kind < 0.25;
	return read_damaged($session) if $kind < 0.3;
	return become($session) if $kind < 0.35;
	return run_all($session, statement()) if $kind < 0.7;

	# both at the same time, perhaps the first in a transaction
	run_all($session, 'BEGIN', statement()) or return 0 if chance(0.4);
	start($session, statement());
	start($other, statement());
	my $alive = finish($session);
	return finish($other) && $alive && run_all($session, choose('COMMIT', 'ROLLBACK'));
}

# Sessions that have released everything leave nothing in the lock manager except the
# session tag.
sub settle
{
	my ($database, @sessions) = @_;

	foreach my $session (@sessions)
	{
		# the next lock releases built-in locks of workspaces whose locks others have released
		run_all($session, 'ROLLBACK', 'RESET SESSION AUTHORIZATION', 'RESET ALL',
			q(SELECT tfstate_lock('settle')),
			# a lease that has expired can be renewed, so its built-in lock is kept
			'SELECT count(tfstate_unlock(lockid, id)) FROM
				(SELECT lockid, id, pid FROM tfstate_holders UNION SELECT lockid, id, pid FROM tfstate_internal.durable_lock) h
			  WHERE pid = pg_backend_pid()')
		  or return;
		problem('an unlock of what the session holds failed', $session->{err}) if $session->{err} =~ /ERROR/;
	}
	my $left = $node->safe_psql($database,
		q(SELECT l.objsubid, l.pid, l.mode, (SELECT string_agg(DISTINCT h.lockid, ' ') FROM tfstate_holders h WHERE h.pid = l.pid)
			FROM pg_locks l
		   WHERE l.locktype = 'advisory'
			 AND (l.objsubid = 29798 OR l.objsubid = 1 AND l.mode = 'ShareLock')));
	problem("left in the lock manager: $left", @done) if $left ne '';
	return;
}

sub play
{
	my ($database, $actions) = @_;

	@names = read_catalog($node, $database);
	my @sessions = map { connect_to($database) } 1 .. 2;

	# a warning of the server's own, whose statement does not say what was called
	run_all($sessions[0],
		'BEGIN', 'DECLARE c CURSOR FOR SELECT tfstate_pg.pg_advisory_unlock(7)', 'FETCH 1 FROM c', 'COMMIT');

	# each function at least once
	foreach (@names)
	{
		next if become($sessions[0]) && run_all($sessions[0], call_of($_));
		return if $crashes;
		$sessions[0] = connect_to($database);
	}
	foreach (1 .. $actions)
	{
		my $n = int rand 2;
		last if time > $end || $crashes;
		next if act(@sessions[ $n, 1 - $n ]);
		last if $crashes;
		foreach my $session (@sessions)
		{
			$session->quit;
			$session = connect_to($database);
		}
	}
	return if $crashes;
	settle($database, @sessions);
	$_->quit foreach @sessions;
	return;
}

# sqlsmith, as a role without special rights.  It calls all functions of the server, so only
# internal errors from files of tfstate count.
sub play_sqlsmith
{
	my ($run_until, $round) = (time + $smith_seconds, 0);
	my $log = "$PostgreSQL::Test::Utils::log_path/sqlsmith";

	while (time < $run_until && !$crashes)
	{
		my $smith = IPC::Run::start(
			[
				'sqlsmith', '--verbose', '--exclude-catalog', '--seed=' . ($seed + $round++),
				sprintf("--target=host='%s' port=%s dbname=postgres user=fuzz_smith", $node->host, $node->port)
			],
			'>', $log, '2>>', $log);
		while ($smith->pumpable && time < $run_until)
		{
			$smith->pump_nb;
			usleep(100_000);
		}
		$smith->kill_kill;
	}
	my @queries = slurp_file($log) =~ /^queries: (\d+)/mg;
	$show->("sqlsmith: " . max(0, @queries) . ' queries');
	return;
}

# What only the server log shows, in entries of several lines
sub read_log
{
	open my $log, '<', $node->logfile or die;
	my $entry = '';
	while (my $line = <$log>)
	{
		if ($line !~ /^\t|^\d{4}-\S+ \S+ \S+ \[\d+\] \S* \S* \S{5} (?:DETAIL|HINT|CONTEXT|LOCATION|BACKTRACE|STATEMENT|QUERY):/)
		{
			judge_log($entry);
			$entry = '';
		}
		$entry .= $line if length $entry < 10_000;
	}
	judge_log($entry);
	close $log;
	return;
}

# A built-in unlock of what the session does not have warns, as it should.  Only the
# backtrace tells it from a release of ours: the statement may be the FETCH of a cursor.
sub judge_log
{
	my ($entry) = @_;
	my ($first) = $entry =~ /^(.*)/;
	my ($file) = $entry =~ /LOCATION: .*, (\w+\.c):\d+$/m;

	problem("server log: $first", $entry)
	  if $first =~ /PANIC:|terminated by signal|TRAP:|runtime error:|exited with exit code [2-9]/
	  || $first =~ /WARNING:.*(leak|not closed|still active|still referenced|refcount|corrupt|unexpected|unrecognized)/
	  || $first =~ /WARNING:.*own a lock/ && $entry !~ /\(LockRelease\+.*\n.*\(pg_advisory_unlock_/
	  || $first =~ / XX000 /
	  && ($first =~ /\] postgres / || $entry =~ /CONTEXT:.*tfstate_/ || $file && $is_ours{$file});
	return;
}

make_databases();
while (time < $end && !$crashes)
{
	play($_, 100) foreach sort keys %databases;
}
play_sqlsmith() if $smith_seconds && !$crashes;

is($crashes, 0, 'no session was lost');
$crashes
  or $node->poll_query_until('postgres',
	"SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'tap'");
is($crashes || manager_locks($node), 0, 'nothing is left in the lock manager');
$node->stop;
read_log();

is_deeply([ sort keys %problems ], [], 'nothing of what must not be')
  or diag("to be repeated with FUZZ_SEED=$seed");
is_deeply([ grep { !$calls{$_} } @names ], [], 'each function was called');
$show->(sprintf '%-45s %7d', $_, $calls{$_}) foreach sort keys %calls;
$show->(sprintf '%-45s %7d', "SQLSTATE $_", $errors{$_}) foreach sort keys %errors;
$show->(sprintf '%d statements, %d sessions were ended by others; the slowest took %.1f s', $statements, $ended, $slowest->[0]);
done_testing();
