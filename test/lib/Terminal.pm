# test/lib/Terminal.pm
#
# Programs that run at a terminal, a pty, and a user who types there.
#
# terminal_or_skip	skips the file where the system has no terminals to give
# terminal		starts a program at a terminal of its own; its methods are below
package Terminal;

use strict;
use warnings;

use Exporter 'import';
use IO::Pty;
use POSIX qw(:sys_wait_h);
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(terminal_or_skip terminal);

my $patience = $PostgreSQL::Test::Utils::timeout_default || 180;
my @terminals;

# Skips the whole file in a container, say, that has no devpts.
sub terminal_or_skip
{
	local $SIG{__WARN__} = sub { };

	plan skip_all => 'this system has no terminals' unless eval { IO::Pty->new };
	return;
}

# Starts a program in a session of its own whose terminal has 24 rows and the given number
# of columns.
sub terminal
{
	my ($columns, @command) = @_;
	my $self = bless { out => '', pty => IO::Pty->new }, 'Terminal';
	my $pid = fork();

	die "fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		$self->{pty}->make_slave_controlling_terminal;
		my $slave = $self->{pty}->slave;
		close($self->{pty});
		$slave->set_winsize(24, $columns, 0, 0);
		open(STDIN, '<&', $slave);
		open(STDOUT, '>&', $slave);
		open(STDERR, '>&', $slave);
		close($slave);
		$ENV{TERM} = 'xterm';
		exec(@command) or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	$self->{pty}->close_slave;
	$self->{pty}->blocking(0);
	push @terminals, $self;
	return $self;
}

# Reads what has been printed.  Returns false if the terminal has been closed.
sub pump
{
	my ($self) = @_;
	my $more = '';
	my $read;

	return 0 unless defined fileno($self->{pty});
	while ($read = sysread($self->{pty}, $more, 65536))
	{
		$self->{out} .= $more;
	}
	return defined $read ? 0 : $!{EAGAIN} ? 1 : 0;
}

# Waits until the output since the last call matches a pattern, and returns that output up
# to the end of the match; dies if it does not.
sub expect
{
	my ($self, $pattern) = @_;
	my $until = time + $patience;
	my $open = 1;

	while (1)
	{
		$open = $self->pump;
		if ($self->{out} =~ $pattern)
		{
			my $seen = substr($self->{out}, 0, $+[0]);
			$self->{out} = substr($self->{out}, $+[0]);
			return $seen;
		}
		last if !$open || time > $until;
		usleep(10_000);
	}
	die "the terminal does not show $pattern, but \"$self->{out}\"";
}

# Types keys.
sub type
{
	my ($self, $keys) = @_;

	syswrite($self->{pty}, $keys);
	return;
}

# Takes the terminal away.
sub hang_up
{
	my ($self) = @_;

	close($self->{pty});
	return;
}

# Waits for the end of the program.  Returns its exit status, as a shell has it, and the
# output since the last expect().
sub finish
{
	my ($self) = @_;
	my $until = time + $patience;

	until (waitpid($self->{pid}, WNOHANG) == $self->{pid})
	{
		$self->pump;
		die "the program at the terminal does not end: \"$self->{out}\"" if time > $until;
		usleep(10_000);
	}
	$self->{status} = $?;
	$self->pump;
	@terminals = grep { $_ != $self } @terminals;
	return (WIFSIGNALED($self->{status}) ? 128 + WTERMSIG($self->{status}) : WEXITSTATUS($self->{status}), $self->{out});
}

END
{
	# also when a test has died
	my $status = $?;

	kill('KILL', $_->{pid}) foreach @terminals;
	$? = $status;
}

1;
