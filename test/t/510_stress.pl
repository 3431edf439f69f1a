# Many clients lock, kill and cancel at random for a while; then the test checks that each
# of them had what it thought: no two holdings of a lockid overlap, fences grow in the order
# of acquisition, and nothing is left.
#
# The seed of the random numbers is printed; TFSTATE_SEED sets it, and TFSTATE_SECONDS the
# duration.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use List::Util qw(max);
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;
use Time::HiRes qw(time usleep);

my $seed = $ENV{TFSTATE_SEED} || time ^ $$;
my $seconds = $ENV{TFSTATE_SECONDS} || 20;
my $clients = 12;
my $keys = 4;

note("seed $seed");
srand($seed);

my $node = tfstate_node('stress', conf => "deadlock_timeout = 100ms\n");
my $dir = PostgreSQL::Test::Utils::tempdir();

# A holding is a script for psql.  The log gets a line when the lock is taken ("L lockid mode
# id fence time"), one while it is held ("H id time") and one before it is released ("U id
# time"), each with the server's clock.
#
# A durable lock may be left to another session of this client, as behind a pooler; a
# transaction may be rolled back, which ends its holding unseen.
sub holding
{
	my $lockid = 'stress/' . int(rand $keys);
	my $mode = choose('durable', 'session');
	my $ttl = $mode eq 'durable' && rand() < 0.2 ? "'1 hour'" : 'NULL';
	my $wait = choose("'0'", "'0'", "'20ms'", "'1s'", "'5s'");
	my $isolation =
	  choose('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');
	my $in_block = rand() < 0.3;
	my $end = $in_block ? choose('COMMIT', 'COMMIT', 'ROLLBACK') : '';
	my $procedure = !$in_block && rand() < 0.2;
	my $hold = choose(0, 0, 0.001, 0.005);
	my $script = '';

	$script .= "SET synchronous_commit = " . choose('on', 'off') . ";\n";
	$script .= "\\set id ''\n\\set fence ''\n\\set locked false\n";
	$script .= "\\set ready true\n";
	if ($in_block)
	{
		# These can be cancelled, too.
		$script .= "BEGIN ISOLATION LEVEL $isolation;\n";
		$script .= "\\if :ERROR\n\\set ready false\n\\endif\n";
		$script .= "\\if :ready\nSAVEPOINT before;\n";
		$script .= "\\if :ERROR\n\\set ready false\nROLLBACK;\n\\endif\n\\endif\n";
	}
	$script .= "\\if :ready\n";
	if ($procedure)
	{
		$script .=
		  "CALL tfstate_wait_lock('$lockid', '{}', '$mode', $wait, $ttl) \\gset\n"
		  . "SELECT :'id' <> '' AS locked, clock_timestamp() AS now \\gset\n";
	}
	else
	{
		$script .=
		  "SELECT locked, id, fence, clock_timestamp() AS now FROM tfstate_try_lock('$lockid', '{}', '$mode', $wait, $ttl) \\gset\n";
	}
	if ($in_block)
	{
		$script .= "\\if :ERROR\nROLLBACK TO before;\n\\endif\n";
		$script .=
		  "\\if :locked\nSELECT pg_sleep($hold) \\g /dev/null\n";

		# only what is committed counts, and after an error COMMIT rolls back
		$script .= "\\if :ERROR\n\\set locked false\n\\endif\n\\endif\n";
		$script .= "$end;\n";
		$script .= "\\if :ERROR\n\\set locked false\n\\endif\n";
		$script .= "\\set locked false\n" if $end eq 'ROLLBACK';
	}
	$script .= "\\if :locked\n";
	$script .= "\\echo L $lockid $mode :id :fence :now\n";
	$script .= "SELECT pg_sleep($hold) \\g /dev/null\n";
	$script .=
	  "SELECT count(*) = 1 AS held, clock_timestamp() AS now FROM tfstate_holders('$lockid') WHERE id = :'id' \\gset\n"
	  . "\\if :ERROR\n\\elif :held\n\\echo H :id :now\n\\else\n\\echo LOST :id\n\\endif\n";

	# A cancel may hit the unlock, which is repeated until it succeeds.
	$script .= "SELECT clock_timestamp() AS now \\gset\n" x 2;
	$script .= "\\echo U :id :now\n";
	foreach my $try (1 .. 3)
	{
		$script .=
		  "SELECT tfstate_unlock('$lockid', :'id') IS NOT NULL AS released \\gset\n";
		$script .= "\\if :ERROR\n";
	}
	$script .= "\\endif\n" x 3;
	$script .= "\\endif\n" x 2;
	return $script;
}

# A client: one psql after the other, each with some holdings, into one log
sub run_client
{
	my ($n, $until) = @_;
	my $log = "$dir/log.$n";

	srand($seed + $n);
	while (time < $until)
	{
		my $file = "$dir/script.$n";
		open(my $script, '>', $file) or die "could not write $file: $!";
		print $script "\\set ON_ERROR_STOP 0\n";
		print $script holding() foreach 1 .. 20;
		close($script);

		my $pid = fork();
		die "could not fork: $!" unless defined $pid;
		if ($pid == 0)
		{
			open(STDOUT, '>>', $log);
			open(STDERR, '>>', "$log.err");
			exec('psql', '-X', '-q', '-A', '-t', '-f', $file,
				'-d', $node->connstr('postgres') . " application_name=stress$n")
			  or POSIX::_exit(1);
		}

		# now and then the client itself is killed
		if (rand() < 0.3)
		{
			usleep(rand(200_000));
			kill('KILL', $pid);
		}
		waitpid($pid, 0);

		# the durable lock of a dead session stays until an administrator releases it by force
		$node->psql(
			'postgres',
			"SELECT tfstate_force_unlock(lockid, id, 'left by a dead session') FROM tfstate_holders WHERE mode = 'durable' AND application_name = 'stress$n' AND NOT session_alive"
		);
	}
	return;
}

my $until = time + $seconds;
my @children;
foreach my $n (1 .. $clients)
{
	my $pid = fork();
	die "could not fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		eval { run_client($n, $until) };
		print STDERR $@ if $@;

		# without the server's shutdown at the end of the test
		POSIX::_exit($@ ? 1 : 0);
	}
	push @children, $pid;
}

# Disturbances: random cancels and terminations, session locks released by force, and
# listings
my $unexpected = '';
my $trouble = session($node, name => 'trouble');
my %done =
  (pg_cancel_backend => 0, pg_terminate_backend => 0, force => 0, holders => 0);
while (time < $until)
{
	my $what = choose('pg_cancel_backend', 'pg_cancel_backend',
		'pg_terminate_backend', 'force', 'holders');

	if ($what eq 'holders')
	{
		$trouble->query_safe(
			'SELECT count(*) FROM tfstate_holders; SELECT count(*) FROM tfstate_waiters');
		$done{$what}++;
	}
	elsif ($what eq 'force')
	{
		# the holder may release the lock first
		$trouble->query(
			"SELECT tfstate_force_unlock(lockid, id, 'stress', true) FROM tfstate_holders WHERE mode = 'session' ORDER BY random() LIMIT 1"
		);
		$done{$what}++ if $trouble->{out} ne '';
		$unexpected .= $trouble->{err}
		  if $trouble->sqlstate !~ /^(55000)?$/;
	}
	else
	{
		$done{$what} += $trouble->query_safe(
			"SELECT count($what(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'stress%' ORDER BY random() LIMIT 1) a"
		);
	}
	usleep(rand(60_000));
}
$trouble->quit;
is($unexpected, '', 'force-unlock of session locks');

# Every client ends: none is stuck behind a lock that is never released.
my $failed = 0;
foreach my $pid (@children)
{
	wait_for('a client to end', sub { waitpid($pid, POSIX::WNOHANG()) == $pid });
	$failed++ if $? != 0;
}
is($failed, 0, 'all clients have ended');
wait_for(
	'the backends to end',
	sub {
		sql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'stress%'"
		) == 0;
	});
sql("SELECT tfstate_force_unlock(lockid, id) FROM tfstate_holders WHERE mode = 'durable'");

# What the clients saw
my (%by_id, %by_lockid, %errors);
my ($lost, $ended) = (0, 0);
foreach my $n (1 .. $clients)
{
	my $log = "$dir/log.$n";

	next unless -e $log;
	foreach my $line (split(/\n/, slurp_file($log)))
	{
		if ($line =~ /^L (\S+) (\w+) (\S+) (\d+) (\S+ \S+)$/)
		{
			my $holding = {
				lockid => $1,
				mode => $2,
				id => $3,
				fence => $4,
				from => $5,
				to => $5
			};
			$by_id{$3} = $holding;
			push @{ $by_lockid{$1} }, $holding;
		}
		elsif ($line =~ /^[HU] (\S+) (\S+ \S+)$/ && $by_id{$1})
		{
			$by_id{$1}->{to} = $2 if $2 gt $by_id{$1}->{to};
			$ended++ if $line =~ /^U/;
		}
		elsif ($line =~ /^LOST (\S+)$/)
		{
			diag("$log: $line");
			$lost++;
		}
	}
	foreach my $error (slurp_file("$log.err") =~ /(?:ERROR|WARNING|PANIC):  (.*)/g)
	{
		$error =~ s/ "\S+"( is (?:not )?(?:held|being)).*/$1/;
		$errors{$error}++;
	}
}
note(sprintf('%d holdings of %d lockids, %d to their end; %s',
		scalar(keys %by_id), scalar(keys %by_lockid), $ended,
		join(', ', map { "$done{$_} $_" } sort keys %done)));
note("errors: $_ ($errors{$_})") foreach sort keys %errors;

cmp_ok(scalar(keys %by_id), '>', 10 * $seconds, 'there were holdings');
is(scalar(keys %by_lockid), $keys, 'all lockids were held');
cmp_ok($ended, '>', scalar(keys %by_id) / 2, 'most holdings were released by their holders');
is($lost, 0, 'no holder found its lock missing');

# The times are texts in one format and one time zone.
my ($overlaps, $backwards, %fences) = (0, 0);
foreach my $lockid (sort keys %by_lockid)
{
	my @holdings = sort { $a->{from} cmp $b->{from} } @{ $by_lockid{$lockid} };

	foreach my $i (1 .. $#holdings)
	{
		my ($before, $after) = @holdings[ $i - 1, $i ];

		if ($before->{to} gt $after->{from})
		{
			$overlaps++;
			diag("$lockid: $before->{mode} $before->{id} from $before->{from} to $before->{to}, $after->{mode} $after->{id} from $after->{from} to $after->{to}"
			);
		}
		if ($before->{fence} >= $after->{fence})
		{
			$backwards++;
			diag("$lockid: fence $before->{fence} before $after->{fence}");
		}
	}
}
is($overlaps, 0, 'no two holdings of a lockid overlap');
is($backwards, 0, 'fences grow in the order of acquisition');
is_deeply(
	[
		grep { !/^(canceling statement due to user request|terminating connection due to administrator command|current transaction is aborted, commands ignored until end of transaction block|state lock is (held|being))$/ }
		  sort keys %errors
	],
	[],
	'the clients met no unexpected errors');

# What is left
is( sql("SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM tfstate_holders), (SELECT count(*) FROM tfstate_waiters)"
	),
	'0|0|0',
	'no lock is held in the end');
my $largest = max(map { $_->{fence} } values %by_id);
is( sql("SELECT count(*) FROM generate_series(0, $keys - 1) i, tfstate_try_lock('stress/' || i) WHERE locked AND fence > $largest"
	),
	$keys,
	'each lock can be taken, with a larger fence than all before');
# a process can have ended when it is to be terminated
is_deeply(
	[
		grep {
			/PANIC|was terminated by signal|WARNING(?!:  PID \d+ is not a PostgreSQL backend process)/
		}
		  split /\n/,
		slurp_file($node->logfile)
	],
	[],
	'the server log has no warning or error');

done_testing();
