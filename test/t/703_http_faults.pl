# Terraform's http backend while things fail: the server or PostgreSQL is killed and started
# again in mid-apply, the client is killed or cut off, answers are lost.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use HttpServer;
use IO::Select;
use IPC::Run;
use JSON::PP;
use MIME::Base64;
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

http_or_skip();

my $node = http_node('http_faults');
my $server = HttpServer->new($node);
my $port = $server->{port};

sub state_text
{
	my ($serial) = @_;
	return qq({"version":4,"serial":$serial,"lineage":"x","outputs":{"a":{"value":"$serial","type":"string"}},"resources":[]});
}

# A request as it goes over the wire.
sub raw
{
	my ($method, $path, $body) = @_;

	return "$method $path HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic " . encode_base64('alice:secret', '')
	  . "\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
}

# Reads what comes on a connection until it matches or ends.
sub answer
{
	my ($socket, $expected) = @_;
	my $text = '';
	my $select = IO::Select->new($socket);

	while ($text !~ $expected && $select->can_read(60) && sysread($socket, my $piece, 65536))
	{
		$text .= $piece;
	}
	return $text;
}

#
# Requests that are cut off at any place, and answers that nobody reads
#
my $info = lock_info();
my $id = decode_json($info)->{ID};
my $lock = raw('LOCK', '/s/states/default', $info);

foreach my $length (0, 1, 10, 40, index($lock, "\r\n\r\n") + 2, index($lock, "\r\n\r\n") + 4, length($lock) - 1)
{
	my $socket = $server->connect;
	syswrite($socket, substr($lock, 0, $length));
	close($socket);
	my $reader = $server->connect;
	syswrite($reader, substr($lock, 0, $length));
	shutdown($reader, 1);
	unlike(answer($reader, qr/never/), qr{HTTP/1.1 200}, "a LOCK that is cut off after $length bytes is not done");
}
is(sql('SELECT count(*) FROM tfstate_holders'), 0, 'nothing is locked');

my $socket = $server->connect;
syswrite($socket, $lock);
close($socket);
wait_for('the lock', sub { sql('SELECT count(*) FROM tfstate_holders') == 1 });
$server->answers('LOCK, after the answer to the first one was lost', 200, qr/^$/, 'LOCK', body => $info);

my $post = raw('POST', "/s/states/default?ID=$id", state_text(1));
$socket = $server->connect;
syswrite($socket, substr($post, 0, -1));
close($socket);
$server->logged(qr/"POST .*\(cut off\)/);
$server->answers('a POST that was cut off is not done', 200, qr/"serial":0/, 'GET');
$socket = $server->connect;
syswrite($socket, $post);
close($socket);
wait_for('the state', sub { sql("SELECT data::jsonb ->> 'serial' FROM s.states") == 1 });
$server->answers('POST, after the answer to the first one was lost', 200, qr/^$/, 'POST', body => state_text(1), id => $id);

# several requests on one connection, without waiting for the answers
$socket = $server->connect;
syswrite($socket, raw('POST', "/s/states/default?ID=$id", state_text(2)) . raw('GET', '/s/states/default', '')
	  . raw('UNLOCK', '/s/states/default', $info) . raw('POST', "/s/states/default?ID=$id", state_text(3)));
like(answer($socket, qr/ 409 .*pull"\n/s), qr{\A(HTTP/1.1 200 .*?){3}HTTP/1.1 409 }s, 'requests in a row are answered in order');
close($socket);

#
# The server is killed and started again between the requests of a run
#
$server->answers('LOCK', 200, qr/^$/, 'LOCK', body => $info);
is($server->stop('KILL'), 'signal 9', 'the server is killed');
$server = HttpServer->new($node, port => $port);
$server->answers('POST to the next server', 200, qr/^$/, 'POST', body => state_text(3), id => $id);

# PostgreSQL is, and requests wait until it is there again
$node->stop('immediate');
is($server->request('GET', path => '/healthz', user => ''), 503, 'healthz says that PostgreSQL is away');
my $waiting = $server->connect;
syswrite($waiting, raw('POST', "/s/states/default?ID=$id", state_text(4)));
ok(!IO::Select->new($waiting)->can_read(1), 'a request waits while PostgreSQL is away');
$node->start;
like(answer($waiting, qr/\r\n\r\n/), qr{HTTP/1.1 200 }, 'and is answered when it is back');
$server->answers('UNLOCK', 200, qr/^$/, 'UNLOCK', body => $info);
$server->answers('GET', 200, qr/"serial":4/, 'GET');
wait_for('healthz', sub { $server->request('GET', path => '/healthz', user => '') == 200 });

# all its sessions are ended, and the connections that the server has kept are no use
is(sql("SELECT count(pg_terminate_backend(pid, 60000)) > 0 FROM pg_stat_activity WHERE usename = 'alice'"), 't', 'sessions are ended');
$server->answers('LOCK after that', 200, qr/^$/, 'LOCK', body => $info);
$server->answers('UNLOCK', 200, qr/^$/, 'UNLOCK', body => $info);

# it ends while a request runs: that is answered before
my $taking = session($node);
$taking->query_safe("BEGIN; SELECT tfstate_lock('s.states/default', '{\"Who\":\"taking\"}')");
$socket = $server->connect;
syswrite($socket, $lock);
wait_for('the request', sub { sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'alice' AND query LIKE '%try_lock%' AND query_start > now() - interval '1 s'") });
is($server->stop, 0, 'the server ends cleanly');
like(answer($socket, qr/\}/), qr{HTTP/1.1 423 }, 'when it has answered the request that ran');
$taking->query_safe('ROLLBACK');
$taking->quit;
$server = HttpServer->new($node, port => $port);

# tfstate run --http under the lock that it would take
{
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = 'postgres';
	my @inner = qw(tfstate run --http);

	foreach my $case ([ 64, [ 's.states/default' ] ], [ 64, [ 'other', 's.states/default' ] ], [ 0, [ 's.states/w' ] ])
	{
		my ($status, $outer) = @$case;
		my @command = ((map { ('tfstate', 'run', $_, '--') } @$outer), @inner, 's.states/default', '--', 'true');

		IPC::Run::run(\@command, '<', \undef, '>', \my $out, '2>', \my $err);
		is($? >> 8, $status, "run --http inside of tfstate run @$outer");
		like($err, $status ? qr/holds state lock "s.states\/default"; leave that out, as Terraform takes the lock/ : qr/^$/, 'it says why not');
	}
	foreach my $ttl ('x', '4', '9000000000', '200d200d')
	{
		IPC::Run::run([ @inner, '--ttl', $ttl, 's.states/default', '--', 'true' ], '<', \undef, '>', \my $out, '2>', \my $err);
		is($? >> 8, 64, "--ttl $ttl is refused");
		like($err, $ttl eq '4' ? qr/--ttl is too short: "4"/ : qr/invalid duration for --ttl: "$ttl"/, 'it says why');
	}
}

#
# Real runs
#
SKIP:
{
	skip('terraform is not installed', 1) unless $ENV{TERRAFORM} || path_of('terraform');
	terraform_or_skip();

	sql("SELECT tfstate_rollback('s.states/default', 1)");
	my $address = $server->address('default');
	my %env = (
		TF_HTTP_ADDRESS => $address, TF_HTTP_LOCK_ADDRESS => $address, TF_HTTP_UNLOCK_ADDRESS => $address,
		TF_HTTP_USERNAME => 'alice', TF_HTTP_PASSWORD => 'secret', TF_HTTP_RETRY_WAIT_MIN => 1);
	my $project = Terraform->new($node, bare => 1, who => 'alice', init => 0, env => \%env,
		config => Terraform::backend('http') . Terraform::network());
	my $own = Terraform->new($node, bare => 1, who => 'own', init => 0, config => Terraform::backend('http') . Terraform::network(),
		wrapper => [ 'tfstate', 'run', '--http', '-d', $node->connstr('postgres') . ' user=alice', 's.states/default', '--' ]);

	$_->run_ok('init', 'init') foreach $project, $own;
	my $apply = $project->start_slow_apply;
	$server->stop('KILL');
	$server = HttpServer->new($node, port => $port);
	$project->open_gate;
	$apply->succeeds_ok('an apply during which the server is killed and started again');
	like(state_of($node, 's', 'default'), qr/\|alice$/, 'its state is written');
	is(sql('SELECT count(*) FROM tfstate_holders'), 0, 'no lock is left');

	foreach my $run ([ serve => $project ], [ 'run --http' => $own ])
	{
		my ($name, $terraform) = @$run;

		$apply = $terraform->start_slow_apply;
		$node->stop('immediate');
		$terraform->open_gate;
		$node->start;
		$apply->succeeds_ok("$name: an apply during which PostgreSQL is killed and started again");
		like(state_of($node, 's', 'default'), qr/\|$terraform->{who}$/, "$name: its state is written");
		is(sql('SELECT count(*) FROM tfstate_holders'), 0, "$name: no lock is left");
	}

	# the program that serves a command is killed: the command is ended, and its lock expires
	splice(@{ $own->{wrapper} }, 3, 0, '--ttl=5');
	$apply = $own->start_slow_apply;
	my ($child) = slurp_file("/proc/$apply->{pid}/task/$apply->{pid}/children") =~ /^(\d+)/;
	$apply->kill9;
	$own->open_gate;
	wait_for('terraform to end', sub { !kill(0, $child) });
	wait_for('the lease to expire', sub { sql('SELECT count(*) FROM tfstate_holders') == 0 });
	$project->apply_ok('the next apply');
	is(sql("SELECT count(*) FROM tfstate_verify()"), 0, 'all states are intact');

	# its lock is released by force: the command is ended
	$apply = $own->start_slow_apply;
	sql("SELECT tfstate_force_unlock('s.states/default')");
	my ($status, $output) = $apply->finish;
	is($status, 70, 'run --http: a lock that is lost is an exit status of its own');
	like($output, qr/lease on state lock "s.states\/default" was lost/, 'run --http: it says so');
}

done_testing();
