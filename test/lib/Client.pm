# test/lib/Client.pm
#
# The client program, started in the background by TAP tests.
#
# start		starts tfstate
# end		waits for its end
# printed	waits for what it prints
package Client;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use TestServer;

our @EXPORT = qw(start end printed);

# Starts tfstate with arguments.  Returns a hash with its process ID and what it has printed; what
# is put into {in} is its standard input.
sub start
{
	my %program = (in => '', out => '', err => '');

	$program{run} = IPC::Run::start([ 'tfstate', @_ ], '<', \$program{in}, '>', \$program{out}, '2>', \$program{err});
	$program{pid} = $program{run}{KIDS}[0]{PID};
	return \%program;
}

# Waits for the end of what start() started and returns its exit status.
sub end
{
	my ($program) = @_;
	$program->{run}->finish;
	return ($program->{run}->full_results)[0] >> 8;
}

# Waits until the program has printed what matches a pattern.
sub printed
{
	my ($program, $pattern) = @_;
	wait_for("output that matches $pattern", sub { $program->{run}->pump_nb; $program->{out} =~ $pattern });
	return;
}

1;
