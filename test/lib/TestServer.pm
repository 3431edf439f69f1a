# test/lib/TestServer.pm
#
# What the TAP tests share: a server with the extension, and psql sessions that
# a test drives statement by statement and may kill.
package TestServer;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(usleep);

our @EXPORT = qw(path_of tfstate_node session uuid wait_for waiting_pids manager_locks);

# A bound that tells late from never.
my $patience = $PostgreSQL::Test::Utils::timeout_default || 180;

# Returns where a program is, or nothing if it is not in the PATH or where Debian has
# programs that run servers.
sub path_of
{
	my ($name) = @_;
	return (grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/sbin')[0];
}

# Returns a running server with the extension in database postgres.
#
# conf: lines for postgresql.conf; init: arguments of init().
sub tfstate_node
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	# the encoding does not depend on the caller's locale
	$node->init(extra => [ '-E', 'UTF8', '--locale=C' ], %{ $params{init} || {} });
	$node->append_conf(
		'postgresql.conf', qq(
max_connections = 60
restart_after_crash = on
log_statement = none
));
	$node->append_conf('postgresql.conf', $params{conf}) if $params{conf};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION tfstate');
	return $node;
}

# Returns a new random UUID: the name of a run.
sub uuid
{
	my @words = map { int(rand(65536)) } 1 .. 8;

	return sprintf('%04x%04x-%04x-4%03x-8%03x-%04x%04x%04x',
		@words[ 0 .. 2 ], $words[3] & 0xfff, $words[4] & 0xfff, @words[ 5 .. 7 ]);
}

# Returns a psql session.
#
# name: its application_name; dbname, host, port, user: where to connect, by
# default as the superuser to the node's database postgres.
sub session
{
	my ($node, %params) = @_;
	my $self = bless {
		in => '',
		out => '',
		err => '',
		count => 0,
	  },
	  'TestServer::Session';
	my $connstr = sprintf(
		"host='%s' port=%s dbname='%s' application_name='%s'",
		$params{host} || $node->host,
		$params{port} || $node->port,
		$params{dbname} || 'postgres',
		$params{name} || 'tap');

	$connstr .= " user='$params{user}'" if $params{user};
	$self->{timer} = IPC::Run::timeout($patience);
	$self->{run} = IPC::Run::start(
		[
			'psql', '--no-psqlrc', '--quiet', '--no-align', '--tuples-only',
			'--set=VERBOSITY=verbose', '--file=-', $connstr
		],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err},
		$self->{timer});
	$self->{pid} = $self->query('SELECT pg_backend_pid()');
	die "no connection: $self->{err}" unless $self->{pid} =~ /^\d+$/;
	return $self;
}

# Calls a function until it returns true, and returns that.
sub wait_for
{
	my ($what, $condition) = @_;
	my $until = time + $patience;

	while (time < $until)
	{
		my $result = $condition->();
		return $result if $result;
		usleep(20_000);
	}
	die "timed out waiting for $what";
}

# The processes that wait for a lockid, in the order of tfstate_waiters.
sub waiting_pids
{
	my ($node, $lockid) = @_;
	return $node->safe_psql('postgres',
		qq(SELECT coalesce(string_agg(pid::text, ' ' ORDER BY position), '')
		   FROM tfstate_waiters('$lockid')));
}

# How many advisory locks of tfstate, of any kind, are in the lock manager.
sub manager_locks
{
	my ($node) = @_;
	return $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'");
}

package TestServer::Session;

use strict;
use warnings;

use Time::HiRes qw(usleep);

# Sends SQL and does not wait for the result.
sub send
{
	my ($self, $sql) = @_;
	my $done = 'done ' . ++$self->{count};

	$self->{out} = '';
	$self->{err} = '';
	$self->{timer}->start($patience);
	$self->{in} .= "$sql\n;\n\\echo $done\n\\warn $done\n";
	$self->pump_nb;
	return;
}

# Moves what there is to be moved from and to psql.
sub pump_nb
{
	my ($self) = @_;

	# psql may end before it has read all; a time-out is an error, though.
	eval { $self->{run}->pump_nb if $self->{run}->pumpable; };
	die $@ if $@ =~ /timeout/;
	return;
}

# Has the result of what was sent arrived?
sub is_done
{
	my ($self) = @_;

	$self->pump_nb;
	return $self->{out} =~ /^done $self->{count}\n/m
	  && $self->{err} =~ /^done $self->{count}\n/m;
}

# Waits for the result of what was sent and returns it; $self->{err} has what
# went to standard error.  Returns undef if psql is gone.
sub result
{
	my ($self) = @_;

	until ($self->is_done)
	{
		return undef unless $self->{run}->pumpable;
		usleep(1_000);
	}
	$self->{timer}->reset;
	s/^done \d+\n//m for ($self->{out}, $self->{err});
	chomp($self->{out});
	return $self->{out};
}

# Runs SQL and returns its result.
sub query
{
	my ($self, $sql) = @_;

	$self->send($sql);
	return $self->result;
}

# Runs SQL that must not fail.
sub query_safe
{
	my ($self, $sql) = @_;
	my $result = $self->query($sql);

	die "\"$sql\" failed: $self->{err}"
	  if !defined $result || $self->{err} =~ /ERROR|FATAL|PANIC/;
	return $result;
}

# The SQLSTATE of the last error, or an empty text.
sub sqlstate
{
	my ($self) = @_;
	return $self->{err} =~ /(?:ERROR|FATAL):  ([0-9A-Z]{5}):/ ? $1 : '';
}

# Ends the session as a client does that is done.
sub quit
{
	my ($self) = @_;

	$self->{in} .= "\\q\n";
	$self->{timer}->start($patience);
	eval { $self->{run}->finish; };
	return;
}

# Kills the client with signal 9.
sub kill9
{
	my ($self) = @_;

	$self->{run}->signal('KILL');
	eval { $self->{run}->finish; };
	return;
}

1;
