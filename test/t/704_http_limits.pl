# The limits of tfstate serve: who is slow, large or many harms nobody else.  And how it
# listens: TLS, certificates of clients, a socket from systemd.  TLS is that of
# doc/howto/http.md.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use HttpServer;
use IO::Select;
use IPC::Run;
use JSON::PP;
use MIME::Base64;
use POSIX ();
use PostgreSQL::Test::Utils;
use Socket;
use Test::More;
use TestServer;

http_or_skip();

my $node = http_node('http_limits');
my $server = HttpServer->new($node, options => [ '--max-state', 1, '--client-timeout', 2, '--max-sessions', 5 ]);
my $authorization = 'Authorization: Basic ' . encode_base64('alice:secret', '') . "\r\n";
my $megabyte = 1024 * 1024;

# A state of so many bytes.
sub large_state
{
	my ($size) = @_;
	my $begin = '{"version":4,"serial":1,"lineage":"x","resources":[],"outputs":{},"more":"';

	return $begin . 'x' x ($size - length($begin) - 2) . '"}';
}

# Reads what comes on a connection until its end.
sub read_all
{
	my ($socket) = @_;
	my $text = '';
	my $select = IO::Select->new($socket);

	while ($select->can_read(60))
	{
		my $size = sysread($socket, my $piece, 65536);
		return $text unless $size;
		$text .= $piece;
	}
	return "$text and no end";
}

#
# Large requests
#
my $info = lock_info();
my $id = decode_json($info)->{ID};

$server->answers('LOCK', 200, qr/^$/, 'LOCK', body => $info);
$server->answers('POST of the largest state', 200, qr/^$/, 'POST', body => large_state($megabyte), id => $id);
$server->answers('GET of it', 200, qr/x"\}$/, 'GET');
$server->answers('POST of a larger one', 413, qr/it has 1048577 bytes, and 1048576 are allowed/, 'POST', body => large_state($megabyte + 1), id => $id);
$server->answers('LOCK with a large info', 413, qr/too large/, 'LOCK', body => lock_info(Info => 'x' x 100_000));
my $socket = $server->connect;
syswrite($socket, "POST /s/states/default?ID=$id HTTP/1.1\r\nHost: a\r\n${authorization}Content-Length: 99999999999\r\nConnection: close\r\n\r\n");
like(read_all($socket), qr{^HTTP/1.1 413 }, 'a request that announces too much is refused before it is sent');
$socket = $server->connect;
local $SIG{PIPE} = 'IGNORE';
syswrite($socket, "POST /s/states/default?ID=$id HTTP/1.1\r\nHost: a\r\n${authorization}Transfer-Encoding: chunked\r\n\r\n");
foreach (1 .. 48)
{
	last unless syswrite($socket, sprintf("%x\r\n", 65536) . 'x' x 65536 . "\r\n");
}
unlike(read_all($socket), qr{^HTTP/1.1 200 }, 'a request that does not announce it is not accepted either');
$socket = $server->connect;
syswrite($socket, "GET /s/states/default HTTP/1.1\r\nHost: a\r\n" . "X-A: " . 'x' x 100_000 . "\r\n\r\n");
like(read_all($socket), qr{^(HTTP/1.1 4|$)}, 'large headers are refused');
$socket = $server->connect;
syswrite($socket, 'GET /' . 'x' x 100_000 . " HTTP/1.1\r\nHost: a\r\n\r\n");
like(read_all($socket), qr{^(HTTP/1.1 4|$)}, 'a long address is refused');
foreach my $garbage ("\0" x 1000, "\r\n" x 1000, "GET\r\n\r\n", "LOCK /s/states/default HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
	"LOCK /s/states/default HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
	"POST /s/states/default HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01")
{
	$socket = $server->connect;
	syswrite($socket, $garbage);
	shutdown($socket, 1);
	unlike(read_all($socket), qr{HTTP/1.1 (2|500)}, 'no sense is not answered with success');
}
$server->answers('GET after all that', 200, qr/x"\}$/, 'GET');

#
# Slow and many clients
#
my @slow = map { $server->connect } 1 .. 200;
syswrite($slow[$_], (
	'', "GET /s/states/default HTT", "GET /s/states/default HTTP/1.1\r\nHost: a\r\n",
	"POST /s/states/default?ID=$id HTTP/1.1\r\nHost: a\r\n${authorization}Content-Length: 1000000\r\n\r\n" . 'x' x 1000)[ $_ % 4 ])
  foreach 0 .. $#slow;
$server->answers('GET while 200 clients are slow', 200, qr/x"\}$/, 'GET') foreach 1 .. 5;

# one that sends a byte now and then, and so is never silent for long
$socket = $server->connect;
my $sent = 0;
while (syswrite($socket, 'G') && ++$sent < 100 && !IO::Select->new($socket)->can_read(0.3))
{
}
cmp_ok($sent, '<', 100, 'a client that sends one byte after the other is cut off');
is(scalar(grep { my $end = read_all($_); $end !~ /no end/ } @slow), 200, 'slow clients are cut off');
close($_) foreach @slow;

# all at once
my @clients = map { $server->connect } 0 .. 199;
my @infos = map { lock_info() } 0 .. 199;
foreach my $i (0 .. 199)
{
	syswrite($clients[$i], "LOCK /s/states/w$i HTTP/1.1\r\nHost: a\r\n${authorization}Connection: close\r\nContent-Length: "
		  . length($infos[$i]) . "\r\n\r\n$infos[$i]");
}
is(scalar(grep { read_all($_) =~ m{^HTTP/1.1 200 } } @clients), 200, '200 clients at once get their locks');
is(sql('SELECT count(*) FROM tfstate_holders'), 201, 'all of them are held');
cmp_ok(sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'alice'"), '<=', 5, 'by no more sessions than are allowed');

# states that are being sent use a bounded amount of memory
my @large = map { $server->connect } 1 .. 8;
syswrite($_, "POST /s/states/default?ID=$id HTTP/1.1\r\nHost: a\r\n${authorization}Content-Length: $megabyte\r\n\r\n" . 'x' x ($megabyte - 1))
  foreach @large;
wait_for('a refusal', sub { $server->request('GET') == 503 });
is($server->{headers}{'retry-after'}, 2, 'when there is too much, requests are told to come again');
close($_) foreach @large;
wait_for('memory', sub { $server->request('GET') == 200 });

# more users than sessions
http_role($node, "user$_") foreach 1 .. 8;
foreach my $round (1, 2)
{
	is($server->request('GET', user => "user$_"), 200, "user$_ gets a session, of those of others") foreach 1 .. 8;
}
is($server->request('GET', user => 'user1', password => 'secret2'), 401, 'nobody gets that of somebody else');
is($server->request('GET', path => '/healthz', user => ''), 200, 'healthz');

# a log that nobody reads: more than a pipe takes.  What is not HTTP is logged by libmicrohttpd.
sub answered
{
	my ($request, $status) = @_;

	foreach my $count (0 .. 299)
	{
		my $client = $server->connect;
		syswrite($client, $request);
		return $count unless IO::Select->new($client)->can_read(10) && read_all($client) =~ /^HTTP\/1.1 $status /;
	}
	return 300;
}

is(answered('GET /s/states/' . 'x' x 500 . " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 401), 300,
	'requests do not wait for whoever reads the log') or exit 1;
is(answered("GET /s/states/default HTTP/9.9\r\n\r\n", 505), 300, 'nor do those that only libmicrohttpd logs') or exit 1;
my $left_out = wait_for('the log', sub {
	$server->log;
	$server->request('GET');
	return ($server->log =~ /: (\d+) lines of the log were left out\n/)[0] });
cmp_ok($left_out, '>', 400, 'the log tells how many lines it lacks');
is($server->stop('INT'), 0, 'the server ends cleanly');

#
# How it listens
#
sub refuses
{
	my ($test, $expected, @options) = @_;
	my $result = IPC::Run::run([ 'tfstate', 'serve', @options ], '<', \undef, '>', \my $out, '2>', \my $err);

	is($? >> 8, 64, "$test: it does not start");
	like($err, $expected, "$test: it says why");
}

refuses('beyond this machine without TLS', qr/refusing to listen beyond this machine without TLS/, '--listen', $_) foreach '0.0.0.0:0', '*:0';
refuses('an address without a port', qr/invalid address/, '--listen', 'localhost');
refuses('a certificate without a key', qr/belong together/, '--tls-cert', 'x');
refuses('a user', qr/come with each request/, '-U', 'alice');
refuses('a number that is none', qr/invalid number/, '--max-state', '1x');
$server = HttpServer->new($node, options => [ '--listen', '0.0.0.0:0', '--behind-proxy' ], env => { PGUSER => 'postgres', PGPASSWORD => 'x' });
$server->{url} = "http://127.0.0.1:$server->{port}";
is($server->request('GET'), 200, 'behind a proxy it listens');
is($server->request('GET', user => ''), 401, 'PGUSER is nobody');
$server->stop;

# a socket that was passed
my $listener = IO::Socket::INET->new(Listen => 10, LocalAddr => '127.0.0.1') or die "listen: $!";
my $pid = fork() // die "fork: $!";
if ($pid == 0)
{
	POSIX::dup2(fileno($listener), 3) or POSIX::_exit(1);
	@ENV{qw(LISTEN_PID LISTEN_FDS)} = ($$, 1);
	open(STDERR, '>', '/dev/null');
	$^F = 3;
	fcntl(IO::Handle->new_from_fd(3, 'r+'), 2, 0);
	exec('tfstate', 'serve', '-h', '127.0.0.1', '-p', $node->port, '-d', 'postgres') or POSIX::_exit(127);
}
my $passed = bless { %$server, url => 'http://127.0.0.1:' . $listener->sockport, port => $listener->sockport, run => undef }, 'HttpServer';
is($passed->request('GET'), 200, 'a socket from systemd is served');
kill('TERM', $pid);
waitpid($pid, 0);
is($?, 0, 'that server ends cleanly');

# TLS
SKIP:
{
	skip('openssl or curl is not installed', 1) unless path_of('openssl') && path_of('curl');
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $make = sub {
		my ($name, @sign) = @_;
		run_log([ qw(openssl req -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 2 -subj), "/CN=$name", '-keyout', "$dir/$name.key",
				'-out', "$dir/$name.crt", '-x509', '-addext', 'subjectAltName=IP:127.0.0.1', @sign ]);
	};
	$make->('server');
	$make->($_) foreach 'client', 'stranger';
	my $curl = sub {
		my ($url, @options) = @_;
		my ($out, $err) = run_command([ 'curl', '-s', '-u', 'alice:secret', '-w', '%{http_code}', '-o', "$dir/out", @options, $url ]);
		return $out;
	};
	my @tls = ('--listen', '0.0.0.0:0', '--tls-cert', "$dir/server.crt", '--tls-key', "$dir/server.key");

	$server = HttpServer->new($node, options => \@tls);
	my $url = "https://127.0.0.1:$server->{port}/s/states/default";
	is($curl->($url, '--cacert', "$dir/server.crt"), 200, 'TLS');
	is($curl->($url), '000', 'a client that does not know the certificate');
	is($curl->($url =~ s/https/http/r), '000', 'no TLS is no answer');
	$socket = $server->connect;
	$server->stop;
	$server = HttpServer->new($node, options => [ @tls, '--tls-client-ca', "$dir/client.crt" ]);
	$url = "https://127.0.0.1:$server->{port}/s/states/default";
	is($curl->($url, '--cacert', "$dir/server.crt"), 403, 'a client without a certificate');
	is($curl->($url, '--cacert', "$dir/server.crt", '--cert', "$dir/stranger.crt", '--key', "$dir/stranger.key") =~ /^(403|000)$/, 1,
		'a client with a wrong certificate');
	is($curl->($url, '--cacert', "$dir/server.crt", '--cert', "$dir/client.crt", '--key', "$dir/client.key"), 200, 'a client with the right one');
	is($curl->($url, '--cacert', "$dir/server.crt", '--cert', "$dir/client.crt", '--key', "$dir/client.key", '-u', 'alice:no'), 401,
		'which still needs the password');
	is($server->stop, 0, 'the server ends cleanly');
}

done_testing();
