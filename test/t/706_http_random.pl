# Random requests to tfstate serve, odd and broken ones among them: it must not crash, leak, hang
# or answer with a status of 500 or more, what it answers can be read, and what it refuses has
# changed nothing.
#
# The seed of the random numbers is printed; FUZZ_SEED sets it, and FUZZ_MINUTES the time.
# TFSTATE_HTTP names another program than the tfstate-http that is installed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use HttpServer;
use IO::Select;
use JSON::PP;
use List::Util qw(sum0);
use POSIX ();
use PostgreSQL::Test::Utils;
use RandomRequests;
use Socket;
use Test::More;
use TestServer;
use Time::HiRes qw(time usleep);

http_or_skip();

my $seed = $ENV{FUZZ_SEED} || time ^ $$;
my $seconds = 60 * ($ENV{FUZZ_MINUTES} || 0.12);
my $show = $ENV{FUZZ_MINUTES} ? \&diag : \&note;
my $clients = 4;    # at once, in the last quarter

# how long an answer may take
my $patience = 30;

srand($seed);
$show->("seed $seed");
$SIG{PIPE} = 'IGNORE';

my $node = http_node('http_random', conf => "tfstate.history_count = 5\nlog_min_messages = fatal\n");
my $server = HttpServer->new($node, options => [ '--max-state', 1, '--client-timeout', 1, '--max-sessions', 6 ]);
my ($pid) = $server->pid;
my $watcher = session($node);
my (%problems, %statuses, $socket, $raw, @sent);
my $requests = 0;

http_role($node, 'bob');
sql("CREATE ROLE eve LOGIN PASSWORD 'secret' IN ROLE http; CREATE TABLE public.plain (id bigint, name text, data text); GRANT ALL ON public.plain TO alice");
sql("SELECT tfstate_grant('bob', 's.states/*', 'force')");

sub problem
{
	my ($what, @during) = @_;
	return if $problems{$what}++ || keys %problems > 20;

	diag("$what\nduring: " . join("\n", map { s/([^ -~\r\n])/sprintf('\x%02x', ord($1))/egr } map { substr($_, 0, 1500) } @during));
	return;
}

# What is stored and locked.
sub contents
{
	return $watcher->query_safe(
		q(SELECT concat((SELECT md5(string_agg(name || ' ' || data, ',' ORDER BY name)) FROM s.states), ' ',
						(SELECT string_agg(lockid || ' ' || id || ' ' || fence, ',' ORDER BY lockid) FROM tfstate_internal.durable_lock))));
}

# How much memory a process has, in MB, and how many open files.
sub memory
{
	return slurp_file("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m ? $1 / 1024 : 0;
}

sub files
{
	my @files = glob("/proc/$pid/fd/*");
	return scalar(@files);
}

# Reads answers until one is complete for each of the methods, or, if $all is true, until the
# end.  Returns whether that came, and the answers as hashes.
sub read_answers
{
	my ($connection, $all, @methods) = @_;
	my $select = IO::Select->new($connection);
	my ($text, $end, @answers) = ('', 0);

	for (;;)
	{
		# libmicrohttpd 0.9.75 may send the head of an answer of its own twice
		$text =~ s/(HTTP\/1\.1 4\d\d [^\n]*\n(?:[^\r\n][^\n]*\n)*?Connection: close\r\n(?:[^\r\n][^\n]*\n)*\r\n)(?=\1)//;
		while ($text =~ /^HTTP\/1\.[01] (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n/)
		{
			my ($status, $headers, $begin) = ($1, $2, $+[0]);
			my ($length) = $headers =~ /^Content-Length: (\d+)\r$/mi;
			my $bodiless = $status < 200 || $status == 204 || ($methods[0] || '') eq 'HEAD';

			last if !$bodiless && length($text) < $begin + ($length // 0);
			push @answers, { status => $status, to => $methods[0] || '', headers => $headers, body => $bodiless ? '' : substr($text, $begin, $length // 0) };
			substr($text, 0, $begin + ($bodiless ? 0 : $length // 0), '');
			shift @methods if $status >= 200;
		}
		last if $end || (!$all && !@methods);
		if (!$select->can_read($patience))
		{
			problem('no answer');
			last;
		}
		my $size = sysread($connection, $text, 1_000_000, length($text));
		$raw = substr($raw . substr($text, -($size || 0)), -3000) if $size;
		$end = 1 unless $size;
	}
	problem('an answer that cannot be read', $text, $raw, @sent) if $text ne '' && $text !~ /^HTTP\/1\.1/;
	return ($end, grep { $_->{status} >= 200 } @answers);
}

sub check_answer
{
	my ($answer, @requests) = @_;
	my ($status, $body) = @$answer{qw(status body)};

	$statuses{$status}++;
	problem("status $status", $body, @requests)
	  if $status >= 500 && $status != 501 && $status != 505 && $body !~ /^too many large states/;
	if ($status == 423)
	{
		my $info = eval { decode_json($body) };

		problem('423 without a lock info', $body, @requests)
		  unless $info && join(' ', sort keys %$info) eq 'Created ID Info Operation Path Version Who' && !grep { !defined || ref } values %$info;
	}
	elsif ($status != 200 && $status != 204 && $answer->{to} ne 'HEAD' && $answer->{headers} =~ m{Content-Type: text/plain}i)
	{
		problem("status $status without one line that says why", $body, @requests) unless $body =~ /\A[^\n]+\n\z/;
	}
	return;
}

# Sends a text in pieces.  Returns false if the server closes the connection meanwhile.
sub send_text
{
	my ($connection, $text) = @_;
	my @places = chance(0.7) ? () : sort { $a <=> $b } map { int(rand(length($text))) } 1 .. rand(6);
	my $begin = 0;

	foreach my $end (@places, length($text))
	{
		while ($begin < $end)
		{
			my $size = syswrite($connection, $text, $end - $begin, $begin);
			return unless $size;
			$begin += $size;
		}
		usleep(500) if @places;
	}
	return 1;
}

# Sends a request, or some in a row, and checks what comes of it.
sub one_round
{
	my ($alone) = @_;
	my @requests = map { request() } 1 .. (chance(0.9) ? 1 : 1 + rand(4));
	my $framed = !grep { !$_->{framed} } @requests;
	# where it is not known which answer is whose, none may be to HEAD
	@requests = grep { ($_->{method} || '') ne 'HEAD' } @requests unless $framed;
	my $text = join('', map { $_->{text} } @requests);
	my $before = $alone ? contents() : '';
	my $connection = $socket || $server->connect;
	my ($may_change, @answers, $end);

	$socket = undef;
	$requests += @requests;
	($raw, @sent) = ('', map { $_->{text} } @requests);
	if ($framed && chance(0.07))
	{
		# a request that is cut off is none, and those before it may be done
		my $length = length($requests[0]{text});

		send_text($connection, substr($requests[0]{text}, 0, rand($length)));
		close($connection) if chance(0.9);
		shutdown($connection, 1) if $connection->opened;
		($end, @answers) = read_answers($connection, 1, $requests[0]{method}) if $connection->opened;
		problem('a request that was cut off is answered with success', $requests[0]{text}) if grep { $_->{status} < 300 } @answers;
	}
	elsif ($framed && chance(0.9) && $text !~ /^(Connection|Expect|Upgrade|Host: b|Range)/m)
	{
		send_text($connection, $text);
		($end, @answers) = read_answers($connection, 0, map { $_->{method} } @requests);
		$socket = $connection unless $end;
	}
	else
	{
		send_text($connection, $text);
		shutdown($connection, 1);
		($end, @answers) = read_answers($connection, 1, map { $_->{method} || '' } @requests);
	}
	check_answer($_, map { $_->{text} } @requests) foreach @answers;
	return unless $alone;
	my $after = contents();
	problem('what was refused has changed something', (map { $_->{text} } @requests), map { "$_->{status} $_->{body}" } @answers)
	  if $after ne $before && @answers >= @requests && !grep { $_->{status} == 200 } @answers;
	problem('a reading request has changed something', map { $_->{text} } @requests)
	  if $after ne $before && $framed && !grep { $_->{method} !~ /^(GET|HEAD)$/ } @requests;
	check_effect($requests[0], $answers[0], $after) if $framed && @requests == 1 && @answers == 1;
	return;
}

# A request that was done has the effect that it should have.
sub check_effect
{
	my ($request, $answer, $after) = @_;
	my ($method, $workspace) = @$request{qw(method workspace)};

	return unless $answer->{status} == 200 && defined $workspace;
	$workspace =~ s/'/''/g;
	if ($method eq 'GET')
	{
		my $state = $watcher->query_safe("SELECT data FROM s.states WHERE name = '$workspace'");
		utf8::encode($state) if utf8::is_utf8($state);
		problem('GET answers another state', $request->{text}, $answer->{body}, $state) unless $answer->{body} eq $state;
	}
	problem('LOCK has locked nothing', $request->{text}) if $method eq 'LOCK' && index($after, "s.states/$request->{workspace} ") < 0;
	return;
}

# Sends requests until a time.
sub run_until
{
	my ($end, $alone) = @_;

	while (time < $end && keys %problems < 20)
	{
		one_round($alone);
		# somebody has to read its log
		$server->log if $alone;
	}
	return;
}

my $begin = time;
run_until($begin + 2, 1);
my $memory = memory();
run_until($begin + $seconds * 0.75, 1);
$show->(sprintf('%d requests, %.0f per second; answers: %s', $requests, $requests / (time - $begin),
		join(', ', map { "$_ $statuses{$_}" } sort keys %statuses)));
ok($statuses{200}, 'there were requests');

# several clients at once, whose problems are the exit status
my @children;
foreach my $number (1 .. $clients)
{
	my $child = fork() // die "fork: $!";
	if ($child == 0)
	{
		srand($seed + $number);
		$socket = undef;
		run_until($begin + $seconds, 0);
		POSIX::_exit(keys %problems ? 1 : 0);
	}
	push @children, $child;
}
foreach my $child (@children)
{
	while (waitpid($child, POSIX::WNOHANG()) == 0)
	{
		$server->log;
		usleep(10_000);
	}
	$problems{'a problem of clients at once'}++ if $?;
}
is(join('; ', sort keys %problems), '', 'no problem')
  or diag("to be repeated with FUZZ_SEED=$seed");

# what it needed is free again
$socket = undef;
wait_for('the connections to be closed', sub { $server->log; files() < 20 });
cmp_ok(sql("SELECT count(*) FROM pg_stat_activity WHERE usename IN ('alice', 'bob')"), '<=', 6, 'there are no more sessions than are allowed');
cmp_ok(memory(), '<', $memory * ($ENV{TFSTATE_HTTP} ? 10 : 1) + 40, 'it does not grow');
is(sql('SELECT count(*) FROM tfstate_verify()'), 0, 'all states are intact');
is($server->request('GET', path => '/healthz', user => ''), 200, 'it still answers');
is($server->stop, 0, 'it ends cleanly') or diag(substr($server->{log}, -5000));
my @odd = grep { !/^\S+Z \S+ \S+ "\S+ .*" \d+ \d+ \d+ ms/ && !/^tfstate: (listening on|ending|.*(connection|request|socket|Socket|HTTP|header|memory|left out))/i } split(/\n/, $server->{log});
is(join("\n", @odd > 20 ? @odd[ 0 .. 19 ] : @odd), '', 'the log has a line for each request, and nothing else');

done_testing();
