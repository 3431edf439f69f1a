# The server's clock is set back and forth while sessions wait: a bounded wait lasts as long as
# it says, however the clock is set.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my ($faketime) = glob('/usr/lib/*/faketime/libfaketime.so.1');
die 'libfaketime is not installed' unless $faketime;

# The server reads the shift of its clock from a file each time.
my $clock = PostgreSQL::Test::Utils::tempdir() . '/clock';
sub set_clock
{
	my ($shift) = @_;
	open(my $file, '>', "$clock.new") or die $!;
	print $file "$shift\n";
	close($file);
	rename("$clock.new", $clock) or die $!;
	return;
}
set_clock('+0');

my $node = tfstate_node('clock');
{
	local $ENV{LD_PRELOAD} = $faketime;
	local $ENV{FAKETIME_TIMESTAMP_FILE} = $clock;
	local $ENV{FAKETIME_NO_CACHE} = 1;
	local $ENV{FAKETIME_DONT_FAKE_MONOTONIC} = 1;
	$node->restart;
}
my $year = sub { sql("SELECT extract(year FROM clock_timestamp())") };
my $now = $year->();
set_clock('+1000d');
cmp_ok($year->(), '>', $now, 'the clock of the server can be set');
set_clock('+0');

sql("SELECT tfstate_lock('durable')");
my $holder = session($node, name => 'holder');
$holder->query_safe("SELECT tfstate_lock('session', mode => 'session')");

# Waits for two seconds for a lock while the clock is set, and returns how long that took.
sub wait_in_vain
{
	my ($lockid, $shift) = @_;
	my $waiter = session($node, name => 'waiter');
	my $start = clock_gettime(CLOCK_MONOTONIC);

	$waiter->send("SELECT locked FROM tfstate_try_lock('$lockid', wait => '2s')");
	wait_for('the waiter', sub { waiting_pids($node, $lockid) ne '' });
	set_clock($shift);
	$waiter->result;
	set_clock('+0');
	return clock_gettime(CLOCK_MONOTONIC) - $start;
}

foreach my $shift ('-60', '+60')
{
	my $waited = wait_in_vain('durable', $shift);
	cmp_ok($waited, '>', 1.9, "a wait for a durable lock does not end early when the clock moves by $shift s");
	cmp_ok($waited, '<', 30, "nor does it end late");
}
# In the lock manager the server's own timer ends the wait, late if the clock is set back.
cmp_ok(wait_in_vain('session', '+60'), '>', 1.9, 'a wait for a session lock does not end early when the clock is set forth');

done_testing();
