# test/lib/TestServer.pm
#
# The servers of the TAP tests, psql sessions on them that a test drives statement by
# statement and may kill, and a pooler in front of them.
#
# tfstate_node	starts a server with the extension
# sql			runs statements on the first of these servers
# session		starts a psql session; its methods are at the end of this file
# start_pooler	starts PgBouncer
# wait_for		waits until a condition is true
# waiting_pids	lists the processes that wait for a lockid
# manager_locks	counts the advisory locks in the lock manager
# choose		picks an element of a list at random
# uuid			makes a random UUID
# path_of		finds a program
package TestServer;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(usleep);

our @EXPORT =
  qw(path_of tfstate_node sql session start_pooler choose uuid wait_for waiting_pids manager_locks);

# A shell starts a command in the background with these ignored, and so would be the programs
# that a test starts.
$SIG{$_} = 'DEFAULT' foreach qw(HUP INT QUIT);

# How many seconds a test waits before it fails.
my $patience = $PostgreSQL::Test::Utils::timeout_default || 180;
my $first_node;    # of tfstate_node()
my @poolers;       # of start_pooler()

# Returns the path of a program, or undef if it is neither in the PATH nor in the directory
# where Debian puts servers.
sub path_of
{
	my ($name) = @_;
	return (grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/sbin')[0];
}

# Returns a running server with the extension in database postgres.
#
# conf: lines for postgresql.conf; init: arguments of init(); new: arguments of new().
sub tfstate_node
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, %{ $params{new} || {} });

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
	$first_node ||= $node;
	return $node;
}

# Runs statements that must not fail as the superuser, in the database postgres of the
# first node that the test started, and returns their output.
sub sql
{
	my ($sql) = @_;
	return $first_node->safe_psql('postgres', $sql);
}

# Starts PgBouncer in transaction mode before the database postgres of a node, which
# has to listen on 127.0.0.1.  It ends with the test.
#
# roles: those that may connect; pool_size: how many sessions each of them has; conf:
# more lines for pgbouncer.ini.
#
# Returns a hash: port, on 127.0.0.1; ini, the path of pgbouncer.ini; run, the process;
# log, what it has written when run was pumped last.
sub start_pooler
{
	my ($node, %params) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir_short();
	my %pooler = (
		port => PostgreSQL::Test::Cluster::get_free_port(),
		ini => "$dir/pgbouncer.ini",
		log => '');

	append_to_file("$dir/users.txt", join('', map { qq("$_" ""\n) } @{ $params{roles} }));
	append_to_file($pooler{ini}, join("\n",
		'[databases]',
		'postgres = host=127.0.0.1 port=' . $node->port,
		'[pgbouncer]',
		'listen_addr = 127.0.0.1',
		"listen_port = $pooler{port}",
		'unix_socket_dir =',
		'auth_type = trust',
		"auth_file = $dir/users.txt",
		'pool_mode = transaction',
		"default_pool_size = $params{pool_size}",
		'ignore_startup_parameters = extra_float_digits',
		$params{conf} // (), ''));
	$pooler{run} = IPC::Run::start([ path_of('pgbouncer'), $pooler{ini} ], '>', \$pooler{log}, '2>&1');
	push @poolers, $pooler{run};
	wait_for('the pooler', sub { $pooler{run}->pump_nb; $pooler{log} =~ /process up/ });
	return \%pooler;
}

END
{
	# also when a test has died
	my $status = $?;

	$_->kill_kill foreach @poolers;
	$? = $status;
}

# Returns one of its arguments, at random.
sub choose
{
	return $_[ rand @_ ];
}

# Returns a new random UUID, to name a run.
sub uuid
{
	my @words = map { int(rand(65536)) } 1 .. 8;

	return sprintf('%04x%04x-%04x-4%03x-8%03x-%04x%04x%04x',
		@words[ 0 .. 2 ], $words[3] & 0xfff, $words[4] & 0xfff, @words[ 5 .. 7 ]);
}

# Starts a psql session and returns it.
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

# Returns the IDs of the processes that wait for a lockid, in the order of tfstate_waiters,
# with spaces between them.
sub waiting_pids
{
	my ($node, $lockid) = @_;
	return $node->safe_psql('postgres',
		qq(SELECT coalesce(string_agg(pid::text, ' ' ORDER BY position), '')
		   FROM tfstate_waiters('$lockid')));
}

# Returns how many advisory locks, of tfstate or of others, are in the lock manager.
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

# Sends SQL without waiting for the result.
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

# Exchanges with psql what can be exchanged without waiting.
sub pump_nb
{
	my ($self) = @_;

	# psql may end before it has read everything, but a time-out is an error
	eval { $self->{run}->pump_nb if $self->{run}->pumpable; };
	die $@ if $@ =~ /timeout/;
	return;
}

# Returns true if the result of what was sent has arrived.
sub is_done
{
	my ($self) = @_;

	$self->pump_nb;
	return $self->{out} =~ /^done $self->{count}\n/m
	  && $self->{err} =~ /^done $self->{count}\n/m;
}

# Waits for the result of what was sent and returns it, or undef if psql has ended.
# $self->{err} then has what went to standard error.
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

# Runs SQL that must not fail, and returns its result.
sub query_safe
{
	my ($self, $sql) = @_;
	my $result = $self->query($sql);

	die "\"$sql\" failed: $self->{err}"
	  if !defined $result || $self->{err} =~ /ERROR|FATAL|PANIC/;
	return $result;
}

# Returns the SQLSTATE of the last error, or an empty string.
sub sqlstate
{
	my ($self) = @_;
	return $self->{err} =~ /(?:ERROR|FATAL):  ([0-9A-Z]{5}):/ ? $1 : '';
}

# Ends the session as a client does that has finished.
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
