# tfstate at a terminal: who gets ^C and ^Z, what is shown during a wait, the question of
# force-unlock, the screen of watch, and tables that fit.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Terminal;
use Test::More;
use TestServer;
use Time::HiRes qw(usleep);

terminal_or_skip();

my $node = tfstate_node('client_terminal');
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGDATABASE} = 'postgres';
$ENV{PGUSER} = getpwuid($<);
$ENV{LC_ALL} = 'C.UTF-8';
$ENV{PS1} = 'prompt ';
$ENV{PAGER} = 'cat';
delete $ENV{PGAPPNAME};
$ENV{INPUTRC} = PostgreSQL::Test::Utils::tempdir() . '/inputrc';
append_to_file($ENV{INPUTRC}, "set enable-bracketed-paste off\n");

my $holders = sub { sql("SELECT string_agg(lockid, ' ' ORDER BY lockid) FROM tfstate_holders") };
my ($screen, $status, $out);

# ^C

$screen = terminal(80, 'tfstate', 'run', 'a', '--', 'perl', '-e',
	'$| = 1; $SIG{INT} = sub { $n++; print "interrupt $n\n" }; print "ready\n"; sleep 1 until $n; sleep 1; exit 7');
$screen->expect(qr/ready/);
$screen->type("\cC");
($status, $out) = $screen->finish;
is($status, 7, '^C: the exit status is that of the command');
like($out, qr/interrupt 1/, '^C reaches the command');
unlike($out, qr/interrupt 2/, '^C reaches the command once');
is($holders->(), '', '^C: the lock is released');

$screen = terminal(80, 'tfstate', 'run', 'a', '--', 'sh', '-c', 'echo ready; cat; echo not reached');
$screen->expect(qr/ready/);
$screen->type("a line\n");
$screen->expect(qr/a line.*a line/s);
$screen->type("\cC");
is(($screen->finish)[0], 128 + 2, '^C ends a command that reads from the terminal');

$screen = terminal(80, 'tfstate', 'run', 'a', '--', 'sh', '-c', 'echo ready; exec sleep 600');
$screen->expect(qr/ready/);
$screen->type("\c\\");
is(($screen->finish)[0], 128 + 3, '^\ reaches the command');

# ^Z and fg

$screen = terminal(80, 'bash', '--norc', '--noprofile', '-i');
$screen->expect(qr/prompt /);
$screen->type("tfstate run a -- sh -c 'echo ready; read line; echo got \$line; exit 9'\n");
$screen->expect(qr/\nready/);
$screen->type("\cZ");
$screen->expect(qr/Stopped.*prompt /s);
is($holders->(), 'a', '^Z: the lock is held');
$screen->type("tfstate ls a\n");
$screen->expect(qr/\(1 row\).*prompt /s);
$screen->type("fg\n");
$screen->expect(qr/exit 9'.*\n/);
$screen->type("this\n");
$screen->expect(qr/got this.*prompt /s);
$screen->type("echo status \$?\n");
$screen->expect(qr/status 9.*prompt /s);
pass('fg: the command goes on in the foreground, with its exit status');
is($holders->(), '', 'fg: the lock is released');

# ^Z in the wait

my ($id) = split(/\|/, sql("SELECT id FROM tfstate_lock('b', '{\"Who\": \"alice\", \"Operation\": \"apply\"}')"));
$screen->type("tfstate run --wait forever b -- echo got it\n");
$screen->expect(qr/waiting for state lock "b"/);
$screen->type("\cZ");
$screen->expect(qr/Stopped.*prompt /s);
pass('^Z stops a wait');
$screen->type("fg\n");
$screen->expect(qr/waiting for state lock "b"/);
sql("SELECT tfstate_unlock('b', '$id')");
$screen->expect(qr/\e\[Kgot it.*prompt /s);
pass('fg goes on with the wait');

# In the background

$screen->type("tfstate run a -- sh -c 'read line; echo got \$line' &\n");
$screen->expect(qr/prompt /);
$screen->type("sleep 1; jobs\n");
$screen->expect(qr/Stopped.*prompt /s);
pass('a command in the background that wants to read is stopped');
$screen->type("fg\n");
$screen->expect(qr/echo got \$line'.*\n/);
$screen->type("that\n");
$screen->expect(qr/got that.*prompt /s);
$screen->type("exit\n");
is(($screen->finish)[0], 0, 'the shell ends');

# The progress line

$id = sql("SELECT id FROM tfstate_lock('b', '{\"Who\": \"alice\", \"Operation\": \"apply\"}')");
$screen = terminal(60, 'tfstate', 'run', '--wait', 'forever', 'b', '--', 'sh', '-c', 'stty -a | head -n 1; echo got it');
$out = $screen->expect(qr/waiting for .*waiting for .*waiting for [^\r]*\e\[K/s);
like($out, qr/\rwaiting for state lock "b" \(\d+ s, position 1\), held by ali\S*\e\[K/, 'the progress line names the holder and the position');
is((grep { length() > 59 } map { s/\e\[K//r } split(/[\r\n]+/, $out)), 0, 'the progress line fits the terminal');
unlike($out, qr/\n/, 'the progress line is one line');
sql("SELECT tfstate_unlock('b', '$id')");
($status, $out) = $screen->finish;
is($status, 0, 'the wait ends with the lock');
like($out, qr/\r\e\[K[^\r]*columns 60;.*got it\r\n$/s, 'the progress line is erased before the command starts');

$id = sql("SELECT id FROM tfstate_lock('b')");
$screen = terminal(80, 'tfstate', 'run', '--wait', 'forever', 'b', '--', 'true');
$screen->expect(qr/waiting for/);
$screen->type("\cC");
($status, $out) = $screen->finish;
is($status, 128 + 2, '^C ends the wait');
like($out, qr/\r\e\[K/, '^C: the progress line is erased');

# A terminal that goes away

$screen = terminal(80, 'tfstate', 'run', '--grace', '2s', 'c', '--', 'sh', '-c', 'trap "" HUP; echo ready; exec sleep 600');
$screen->expect(qr/ready/);
$screen->hang_up;
usleep(500_000);
is($holders->(), 'b c', 'the lock is held as long as the command ignores SIGHUP');
sql("SELECT tfstate_force_unlock('c')");
is(($screen->finish)[0], 70, 'and a lost lock ends it');
foreach my $command ([ 'run', 'c', '--', 'sleep', '600' ], [ 'run', '--wait', 'forever', 'b', '--', 'true' ], ['watch'])
{
	$screen = terminal(80, 'tfstate', @$command);
	wait_for('the connection', sub { sql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tfstate%'") > 0 });
	usleep(500_000);
	$screen->hang_up;
	is(($screen->finish)[0], 128 + 1, "@$command ends");
}
is($holders->(), 'b', 'and no lock is left');

# force-unlock

foreach my $answer ('no', 'y', '')
{
	$screen = terminal(80, 'tfstate', 'force-unlock', 'b');
	like($screen->expect(qr/Only "yes" is accepted: /), qr/ID: +\Q$id\E\r\n.*Operation: .*Who: /s, 'force-unlock shows the holder');
	$screen->type("$answer\n");
	($status, $out) = $screen->finish;
	is($status, 1, "force-unlock: \"$answer\" is no yes");
	like($out, qr/nothing was released/, "\"$answer\": it says so");
}
is($holders->(), 'b', 'the lock is still held');
$screen = terminal(80, 'tfstate', 'force-unlock', 'b');
$screen->expect(qr/accepted: /);
$screen->type("\cC");
is(($screen->finish)[0], 128 + 2, '^C at the question');
is($holders->(), 'b', 'the lock is still held');
$screen = terminal(80, 'tfstate', 'force-unlock', '-m', 'a test', 'b');
$screen->expect(qr/accepted: /);
$screen->type("yes\n");
($status, $out) = $screen->finish;
is($status, 0, 'force-unlock: yes');
like($out, qr/state lock "b" was released/, 'it says so');
is($holders->(), '', 'then the lock is free');
is(sql("SELECT reason FROM tfstate_history('b') WHERE id = '$id'"), 'a test', 'the reason is in the history');

# watch

sql("SELECT tfstate_lock('b', '{\"Who\": \"alice\"}')");
$screen = terminal(60, 'bash', '--norc', '--noprofile', '-i');
$screen->expect(qr/prompt /);
$screen->type("stty -g >before; tfstate watch\n");
$out = $screen->expect(qr/Held: 1.*Released: .*Held: 1.*\e\[J/s);
like($out, qr/\e\[\?1049h\e\[\?25l/, 'watch uses the other screen, without a cursor');
like($out, qr/\e\[HHeld: 1\e\[K\r+\n.*b +alice/s, 'watch draws from the top');
unlike($out, qr/\e\[2J/, 'watch does not erase the screen first');
is((grep { length() > 60 } map { s/\e\[\??\d*[a-zA-Z]//gr } split(/[\r\n]+/, $out =~ s/.*?\e\[H//sr)), 0, 'watch fits the terminal');
sql("SELECT tfstate_lock('a')");
$screen->expect(qr/Held: 2/);
sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tfstate'");
$screen->expect(qr/\e\[HHeld: 2.*\e\[J.*\e\[HHeld: 2/s);
pass('watch connects again');
$screen->type("\cZ");
$screen->expect(qr/\e\[\?25h\e\[\?1049l.*Stopped.*prompt /s);
$screen->type("fg\n");
$screen->expect(qr/\e\[\?1049h\e\[\?25l\e\[HHeld: 2/);
pass('^Z leaves the screen of watch, and fg shows it again');
$screen->type("\cC");
$screen->expect(qr/\e\[\?25h\e\[\?1049l.*prompt /s);
$screen->type("echo status \$?; stty -g | cmp before - && echo unchanged; rm before\n");
$out = $screen->expect(qr/\nunchanged.*prompt /s);
like($out, qr/status 0/, '^C ends watch with status 0, and the terminal is as it was');
$screen->type("exit\n");
$screen->finish;

# Tables

sql("SELECT tfstate_lock('" . 'long/' x 60 . "', '{\"Who\": \"Jürgen Müller aus München\"}')");
foreach my $command ([ 'ls' ], [ 'who', 'a' ], [ 'history' ], ['grants'], [ 'waiters' ], ['workspaces'], ['check'])
{
	foreach my $columns (60, 200)
	{
		$screen = terminal($columns, 'tfstate', @$command);
		($status, $out) = $screen->finish;
		utf8::decode($out);
		is((grep { length() > $columns } split(/\r?\n/, $out)), 0, "@$command: the table fits $columns columns");
	}
}
$screen = terminal(200, 'tfstate', 'ls', 'long*');
$out = ($screen->finish)[1];
utf8::decode($out);
my %bars = map { join(' ', map { length } /(.*?)\|/g) => 1 } grep { /\|/ } split(/\r?\n/, $out);
is(scalar(keys %bars), 1, 'columns are aligned where characters have several bytes') or diag($out);

done_testing();
