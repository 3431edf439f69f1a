# Very many waits that end by statement_timeout at the same time
#
# A waiter that gives up owns the waiter tag and waits for, or owns, the lock tag; the server
# releases one after the other.  The next waiter can come in between: nothing may be missing
# then, nor left behind.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $sessions = 24;
my $waits = 250;
my $lockids = 8;

my $node = tfstate_node('abandoned');
my $dir = PostgreSQL::Test::Utils::tempdir();
my @clients;

$node->safe_psql('postgres',
	"SELECT tfstate_lock('k' || i) FROM generate_series(1, $lockids) i");
srand(1);
foreach my $n (1 .. $sessions)
{
	my $script = "$dir/script.$n";

	append_to_file(
		$script,
		join(
			'',
			map {
				sprintf(
					"SET statement_timeout = %d;\nSELECT tfstate_lock('k%d', wait => '1 hour');\n",
					5 + int(rand(40)),
					1 + int(rand($lockids)))
			} 1 .. $waits));
	push @clients,
	  IPC::Run::start(
		[
			'psql', '--no-psqlrc', '--quiet', '--file', $script, '--dbname',
			$node->connstr('postgres')
		],
		'>', \my $out, '2>', "$dir/errors.$n");
}
$_->finish foreach @clients;

my @errors = map { split /\n/, slurp_file("$dir/errors.$_") } 1 .. $sessions;

# On a busy machine even the SET before the wait can time out.
cmp_ok(
	scalar(grep { /ERROR:  canceling statement due to statement timeout/ } @errors),
	'>=',
	$sessions * $waits,
	'each wait ended by its time-out');
is_deeply([ grep { /WARNING|FATAL|PANIC/ } @errors ],
	[], 'no wait ended with another error');
is($node->safe_psql('postgres', 'SELECT count(*) FROM tfstate_waiters'),
	0, 'no session is shown as a waiter');
is( $node->safe_psql(
		'postgres',
		"SELECT count(tfstate_unlock(lockid, id)) FROM tfstate_holders"),
	$lockids,
	'the locks are held, and can be released');
is(manager_locks($node), 0, 'nothing is left in the lock manager');

done_testing();
