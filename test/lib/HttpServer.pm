# test/lib/HttpServer.pm
#
# tfstate serve, for tests: the server, and requests to it.
#
# http_or_skip	skips the file if tfstate-http was not built
# http_node		starts a PostgreSQL that demands the passwords of roles for it
# http_role		makes a role, with the password "secret"
# lock_info		makes a lock info
#
# HttpServer->new() starts a server; its methods are below.
package HttpServer;

use strict;
use warnings;

use Exporter 'import';
use HTTP::Tiny;
use IO::Socket::INET;
use IPC::Run;
use JSON::PP;
use MIME::Base64;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

our @EXPORT = qw(http_or_skip http_node http_role lock_info);

my @servers;

sub http_or_skip
{
	plan skip_all => 'tfstate-http was not built' unless path_of('tfstate-http');
	return;
}

# Returns a server with the extension and attached states in the schema s.
sub http_node
{
	my ($name, %params) = @_;
	my $node = tfstate_node($name, conf => "listen_addresses = '127.0.0.1'\nfsync = off\n" . ($params{conf} || ''));
	my $hba = $node->data_dir . '/pg_hba.conf';
	my $rules = slurp_file($hba);

	unlink($hba);
	append_to_file($hba, "host all +http 127.0.0.1/32 scram-sha-256\n$rules");
	$node->reload;
	$node->safe_psql('postgres', "CREATE ROLE http; SELECT tfstate_attach('s')");
	http_role($node, 'alice');
	return $node;
}

# Makes a role that may use the states of the schema s.
sub http_role
{
	my ($node, $role) = @_;

	$node->safe_psql('postgres',
		"CREATE ROLE $role LOGIN PASSWORD 'secret' IN ROLE http; SELECT tfstate_attach('s', role => '$role')");
	return;
}

# Returns a lock info as Terraform sends it, with other values for some keys.
sub lock_info
{
	my (%values) = @_;

	return encode_json({
		ID => uuid(), Operation => 'OperationTypeApply', Info => '', Who => 'al@laptop', Version => '1.11.4',
		Created => '2026-11-28T09:00:00.123456789Z', Path => '', %values });
}

# Starts a server for a node.
#
# options: more options of tfstate serve; env: environment variables, as a hash.
sub new
{
	my ($class, $node, %params) = @_;
	my $self = bless { node => $node, log => '', user => 'alice' }, $class;
	my @command = (
		$ENV{TFSTATE_HTTP} || 'tfstate', 'serve', '-h', '127.0.0.1', '-p', $node->port, '-d', 'postgres',
		'--listen', '127.0.0.1:' . ($params{port} || 0), @{ $params{options} || [] });

	$self->{run} = IPC::Run::start(\@command, '<', \undef, '>&', \$self->{log},
		init => sub { $ENV{$_} = $params{env}{$_} foreach keys %{ $params{env} || {} } });
	push @servers, $self;
	wait_for('tfstate serve', sub {
		die "tfstate serve has ended: $self->{log}" unless $self->{run}->pumpable;
		$self->{run}->pump_nb;
		return $self->{log} =~ /listening on (\S+)/ });
	($self->{url}, $self->{port}) = $self->{log} =~ m{listening on (\S+:(\d+))};
	return $self;
}

# Returns its process.
sub pid
{
	my ($self) = @_;
	return $self->{run}{KIDS}[0]{PID};
}

# Returns what the server has logged so far.
sub log
{
	my ($self) = @_;

	$self->{run}->pump_nb if $self->{run}->pumpable;
	return $self->{log};
}

# Waits for a line in the log, and returns it.
sub logged
{
	my ($self, $expected) = @_;

	return wait_for("log line $expected", sub { (grep { $_ =~ $expected } split(/\n/, $self->log))[0] });
}

# Returns the address of a workspace.
sub address
{
	my ($self, $workspace) = @_;
	return "$self->{url}/s/states/$workspace";
}

# Sends a request and returns the status and the body, or in scalar context the status.
#
# path: instead of that of the workspace "default"; id: in the query; body; user, password:
# false for none; headers: as a hash.
sub request
{
	my ($self, $method, %params) = @_;
	my $user = exists $params{user} ? $params{user} : $self->{user};
	my $password = exists $params{password} ? $params{password} : 'secret';
	my $url = $self->{url} . ($params{path} || '/s/states/default') . ($params{id} ? "?ID=$params{id}" : '');
	my %headers = %{ $params{headers} || {} };

	$headers{Authorization} = 'Basic ' . encode_base64("$user:$password", '') if $user;
	my $response = HTTP::Tiny->new(timeout => 60, keep_alive => 0)->request($method, $url,
		{ headers => \%headers, defined $params{body} ? (content => $params{body}) : () });
	$self->{headers} = $response->{headers};
	return wantarray ? ($response->{status}, $response->{content}) : $response->{status};
}

# Tests the status of a request and, if it is not undef, the body.
sub answers
{
	my ($self, $test, $status, $body, $method, %params) = @_;
	my ($got, $content) = $self->request($method, %params);

	is($got, $status, $test) or diag($content);
	like($content, $body, "$test: the body") if defined $body;
	return $content;
}

# Opens a connection on which a test sends what it likes.
sub connect
{
	my ($self) = @_;
	return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}, Timeout => 60) || die "connect: $!";
}

# Ends the server with a signal, and returns its exit status, or "signal N".
sub stop
{
	my ($self, $signal) = @_;

	return unless $self->{run};
	$self->{run}->signal($signal || 'TERM');
	eval { $self->{run}->finish };
	my $status = ($self->{run}->full_results)[0];
	delete $self->{run};
	return $status & 127 ? 'signal ' . ($status & 127) : $status >> 8;
}

END
{
	# also when a test has died
	my $status = $?;

	$_->{run} && $_->{run}->kill_kill foreach @servers;
	$? = $status;
}

1;
