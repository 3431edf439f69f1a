# The library of the last release and the one of this version, beside each other: what happens
# to live sessions and to new ones when the library is replaced, before, during and after ALTER
# EXTENSION UPDATE, and when an old library meets the new objects.

use strict;
use warnings;

use FindBin;
use File::Copy;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $released = $ENV{RELEASED_SOURCE};
plan skip_all => 'the source of the last release is not there: the checkout has no history' unless $released;

my ($bindir, $sharedir, $pkglibdir, $includedir) = map { `pg_config --$_` =~ s/\n//r } qw(bindir sharedir pkglibdir includedir-server);
my $config = slurp_file("$includedir/pg_config.h");
plan skip_all => 'from PostgreSQL 16 on, assertions want what 0.1 does not do'
  if $config =~ /^#define USE_ASSERT_CHECKING 1/m && $config !~ /^#define PG_VERSION_NUM 15/m;

# A copy of the server, whose files of the extension can be replaced
my $copy = PostgreSQL::Test::Utils::tempdir();
system_or_bail("tar -C / --exclude=bitcode -cf - $bindir $sharedir $pkglibdir 2>/dev/null | tar -C $copy -xf -");
my $scripts = "$copy$sharedir/extension";
my $installed;

# Replaces the files of the extension by 'old' or 'new' ones, as make install and packages do:
# the library that was there lives on in the sessions that have it.
sub install
{
	my ($which, $library, @files) = @_;

	$installed = $which;
	unlink "$copy$pkglibdir/tfstate.so", glob("$scripts/tfstate*");
	copy($library, "$copy$pkglibdir/tfstate.so") or die "$library: $!";
	chmod 0755, "$copy$pkglibdir/tfstate.so";
	foreach my $file (@files)
	{
		copy($file, $scripts) or die "$file: $!";
	}
	return;
}

# The old library is built from its source.
my $build = PostgreSQL::Test::Utils::tempdir();
delete @ENV{qw(MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL)};
system_or_bail("cp -R '$released/.' $build && chmod -R u+w $build && "
	  . "make -s -j2 -C $build PG_CONFIG=$bindir/pg_config with_llvm=no WITHOUT_CLIENT=1 COPT=-O0 >$build/log 2>&1 || { cat $build/log >&2; exit 1; }");
my @old = ("$build/tfstate.so", "$build/tfstate.control", glob("$build/sql/tfstate--*.sql"));
my @new = ("$pkglibdir/tfstate.so", glob("$sharedir/extension/tfstate*"));

install('old', @old);
my $node = tfstate_node('library', new => { install_path => $copy . $bindir =~ s,/bin$,,r });
my $old_version = sql(q(SELECT extversion FROM pg_extension WHERE extname = 'tfstate'));
my ($new_version) = slurp_file("$sharedir/extension/tfstate.control") =~ /^default_version = '(.*)'/m;
isnt($old_version, $new_version, 'the extension is installed in its last release');
sql(q(
	CREATE ROLE terraform LOGIN;
	SELECT tfstate_attach('tf', role => 'terraform');
));

# Returns 'old' or 'new', for the library that a session has.
sub library
{
	my ($session) = @_;
	my $is_deleted = slurp_file("/proc/$session->{pid}/maps") =~ m,/tfstate\.so \(deleted\)$,m;

	return $is_deleted ? $installed eq 'new' ? 'old' : 'new' : $installed;
}

my $serial = 0;

# Locks a state, writes it and unlocks it, as one session does after the other.
sub write_state
{
	my ($session) = @_;

	$serial++;
	return $session->query(qq(
		SELECT tfstate_lock('tf.states/prod', '{"ID": "write $serial"}') IS NOT NULL;
		INSERT INTO tf.states (name, data)
		SELECT 'prod', format('{"version": 4, "serial": $serial, "lineage": "a", "x": "%s"}', string_agg(md5((n + $serial / n)::text), ' '))
		  FROM generate_series(1, 300) n
			ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data;
		SELECT tfstate_unlock('tf.states/prod', 'write $serial') ->> 'ID'));
}

# What has to hold between any two sessions, each with any library
sub check_both
{
	my ($when, $one, $other) = @_;
	my $pair = "$when, " . library($one) . ' and ' . library($other);
	my $fence;

	# The library of 0.1 has locks in session mode in a table, a newer one in shared memory, which
	# the objects of 0.1 lack.
	my ($new) = grep { library($_) eq 'new' } $one, $other;
	$new = undef if sql(q(SELECT to_regclass('tfstate_internal.shared_memory'))) ne '';

	# One holds, the other is refused, waits, and is woken
	foreach my $mode (qw(durable session))
	{
		my $shown = $mode eq 'durable' || library($one) eq library($other);

		if ($mode eq 'session' && $new)
		{
			$new->query(q(SELECT tfstate_lock('both', mode => 'session')));
			like($new->{err}, qr/a lock in session mode needs the objects of a newer version of extension "tfstate"/, "$pair: the new one needs the update for session mode");
			next;
		}
		$fence = $one->query_safe(qq(SELECT fence FROM tfstate_lock('both', '{"ID": "one", "Who": "alice"}', mode => '$mode')));
		like($other->query_safe(q(SELECT locked, holder ->> 'Who' FROM tfstate_try_lock('both'))),
			$shown ? qr/^f\|alice$/ : qr/^f\|.*\(pid $one->{pid}\b/, "$pair: a $mode lock is seen as held");
		is($other->query_safe(q(SELECT who, mode, pid FROM tfstate_holders WHERE lockid = 'both')),
			$shown ? "alice|$mode|$one->{pid}" : '', "$pair: with its holder, or only its process");
		$other->send(qq(SELECT fence > $fence FROM tfstate_lock('both', '{"ID": "other"}', mode => '$mode', wait => '1 hour')));
		wait_for('the waiter', sub { waiting_pids($node, 'both') eq $other->{pid} });
		is($one->query_safe(q(SELECT tfstate_unlock('both') ->> 'ID')), 'one', "$pair: it is released");
		is($other->result, 't', "$pair: who waits gets it, with a larger fence");
		is($other->query_safe(q(SELECT tfstate_unlock('both') ->> 'ID')), 'other', "$pair: and releases it");
	}

	# By its ID, and by force
	$one->query_safe(q(SELECT tfstate_lock('both', '{"ID": "by id"}')));
	is($other->query_safe(q(SELECT tfstate_unlock('both', 'by id') ->> 'ID')), 'by id', "$pair: a durable lock is released by its ID");
	$one->query_safe(q(SELECT tfstate_lock('both', '{"ID": "forced"}')));
	is($other->query_safe(q(SELECT tfstate_force_unlock('both') ->> 'ID')), 'forced', "$pair: or by force");
	$one->query(q(SELECT tfstate_unlock('both')));
	is($one->sqlstate, '55000', "$pair: and is then lost");

	# States
	foreach my $session ($one, $other)
	{
		is(write_state($session), "t\nwrite $serial", "$pair: a state is written with the lock");
	}
	$one->query_safe(q(SELECT tfstate_lock('tf.states/prod')));
	$other->query(q(UPDATE tf.states SET data = '{"version": 4, "serial": 1000, "lineage": "a"}' WHERE name = 'prod'));
	is($other->sqlstate, '55006', "$pair: but not against it");
	$one->query_safe(q(SELECT tfstate_unlock('tf.states/prod')));
	foreach my $session ($one, $other)
	{
		is($session->query_safe(q(SELECT tfstate_version('tf.states/prod', max(number)) = (SELECT data FROM tf.states WHERE name = 'prod'), max(serial)
			  FROM tfstate_versions('tf.states/prod'))), "t|$serial", "$pair: its versions can be read");
		is($session->query_safe('SELECT * FROM tfstate_verify()'), '', "$pair: and are undamaged");
	}

	# Terraform's calls
	my $lock = 'SET search_path = tfstate_pg, pg_catalog; SELECT pg_try_advisory_lock(id) FROM tf.states WHERE name = \'prod\'';
	my $unlock = 'SELECT pg_advisory_unlock(id) FROM tf.states WHERE name = \'prod\'; RESET search_path';
	if ($new)
	{
		$new->query($lock);
		like($new->{err}, qr/a lock in session mode needs/, "$pair: the same for Terraform's lock");
		$new->query_safe('RESET search_path');
		return;
	}
	is($one->query_safe($lock), 't', "$pair: Terraform's lock is taken");
	isnt($other->query($lock), 't', "$pair: not twice");
	is($one->query_safe($unlock), 't', "$pair: and is released");
	is($other->query("$lock; $unlock"), "t\nt", "$pair: and taken");
	return;
}

# What the program of this version says to the old objects
sub tfstate
{
	local @ENV{qw(PGHOST PGPORT PGDATABASE PGUSER)} = ($node->host, $node->port, 'postgres', sql('SELECT current_user'));
	my $ok = IPC::Run::run([ "$bindir/tfstate", @_ ], '<', \undef, '>', \my $out, '2>', \my $err);

	return $ok ? $out : $err;
}

# Replaced while sessions live
my ($first, $second, $holder, $waiter) = map { session($node) } 1 .. 4;
is(write_state($first), "t\nwrite 1", 'a session writes a state');
$second->query_safe(q(SELECT tfstate_lock('kept', '{"ID": "kept"}'), tfstate_lock('lease', '{"ID": "lease"}', ttl => '1 hour')));
$holder->query_safe(q(SELECT tfstate_lock('mine', mode => 'session')));
$waiter->send(q(CALL tfstate_wait_lock('kept', '{"ID": "waited"}')));
wait_for('the waiter', sub { waiting_pids($node, 'kept') eq $waiter->{pid} });
install('new', @new);
my @late = map { session($node) } 1 .. 2;
check_both('the new files', $first, $late[0]);
check_both('the new files', $late[0], $first);
check_both('the new files', @late);
is(library($first), 'old', 'a live session keeps the old library');
is(library($late[0]), 'new', 'a new one has the new library');

$late[0]->send(q(SELECT id FROM tfstate_lock('kept', '{"ID": "second"}', wait => '1 hour')));
wait_for('both waiters', sub { waiting_pids($node, 'kept') eq "$waiter->{pid} $late[0]{pid}" });
is($late[1]->query_safe(q(SELECT tfstate_unlock('kept', 'kept') ->> 'ID')), 'kept', 'a lock from before is released by its ID');
is($waiter->result, 'waited|' . sql(q(SELECT max(fence) FROM tfstate_holders('kept'))), 'a session that has waited since before has its turn');
$waiter->query_safe(q(SELECT tfstate_unlock('kept')));
is($late[0]->result, 'second', 'and then a new one');
$late[0]->query_safe(q(SELECT tfstate_unlock('kept')));
is($late[0]->query_safe(q(SELECT tfstate_renew('lease', 'lease') > now())), 't', 'a lease from before is renewed');
$holder->kill9;
wait_for('the end of a session', sub { sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $holder->{pid}") eq '0' });
is($late[0]->query_safe(q(SELECT locked FROM tfstate_try_lock('mine'))), 't', 'the lock of an old session that has died is free');
$late[0]->query_safe(q(SELECT tfstate_unlock('mine')));

is(tfstate('run', 'program', '--', 'echo', 'done'), "done\n", 'the new program works with the old objects');
like(tfstate('attach', 'other'), qr/^tfstate: function .*tfstate_attach\(.* does not exist\ntfstate: hint: The extension in this database has version \Q$old_version\E, and this program \Q$new_version\E: run there ALTER EXTENSION tfstate UPDATE, or use a program of that version\.\n\z/,
	'or says what is missing');

# The update
my $update = 'ALTER EXTENSION tfstate UPDATE';
$first->query($update);
like($first->{err}, qr/ERROR:  55000: cannot update extension "tfstate" in a session that has the library of an older version.*HINT:  Install the new library if it is not there, and connect again\.$/ms,
	'a session with the old library cannot update, and is told');
$first->query_safe(q(SELECT tfstate_lock('mine', mode => 'session')));
$late[0]->query($update);
like($late[0]{err}, qr/ERROR:  55006: .*DETAIL:  Process $first->{pid} holds "mine"\./s, 'no update while an old session holds a lock in session mode');
$waiter->send(q(CALL tfstate_wait_lock('mine')));
wait_for('the waiter', sub { waiting_pids($node, 'mine') eq $waiter->{pid} });
$late[0]->query($update);
like($late[0]{err}, qr/DETAIL:  Process $first->{pid} holds "mine"\. Process $waiter->{pid} waits for a lock\./, 'nor while one waits');
sql("SELECT pg_cancel_backend($waiter->{pid})");
$waiter->result;
$first->query_safe(q(SELECT tfstate_unlock('mine')));
$first->query_safe(q(SELECT tfstate_lock('before', '{"ID": "before"}'); BEGIN; SELECT tfstate_lock('open', '{"ID": "open"}')));
$late[0]->send($update);
wait_for('the update to wait', sub { sql("SELECT pg_blocking_pids($late[0]{pid}) = '{$first->{pid}}'") eq 't' });
$second->send(q(SELECT locked FROM tfstate_try_lock('meanwhile', '{"ID": "meanwhile"}')));
$first->query_safe('COMMIT');
$late[0]->result;
like($late[0]{err}, qr/\Apsql:<stdin>:\d+: WARNING:  01000: index .* is left for sessions that are connected now\nHINT: [^\n]*\nLOCATION: [^\n]*\n?\z/,
	'the update waits for a transaction of an old session');
is(sql(q(SELECT extversion FROM pg_extension WHERE extname = 'tfstate')), $new_version, 'and succeeds');
is($second->result, 't', 'an old session that locked meanwhile goes on');
is($first->query_safe(q(SELECT tfstate_unlock('before') ->> 'ID', tfstate_unlock('open') ->> 'ID', tfstate_unlock('meanwhile', 'meanwhile') ->> 'ID')),
	'before|open|meanwhile', 'one that held durable locks over the update releases them');
check_both('after the update', $first, $late[0]);
check_both('after the update', $late[0], $first);
check_both('after the update', $first, $second);
{
	# A new session hands out fences of a batch, and an old one draws from the sequence.
	my @fences;

	foreach my $session (($late[0], $first, $late[1], $second) x 10)
	{
		my $mode = library($session) eq 'new' ? 'session' : 'durable';

		push @fences, $session->query_safe("SELECT fence FROM tfstate_lock('turns', mode => '$mode')");
		$session->query_safe(q(SELECT tfstate_unlock('turns')));
	}
	is(join(' ', @fences), join(' ', sort { $a <=> $b } @fences), 'fences grow from one to the other');
	cmp_ok($fences[-1] - $fences[0], '>', 40 + 9 * 31, 'and the old ones have ended batches');
}
is(library($first), 'old', 'the old library is still in use');
$first->query('SELECT * FROM tfstate_metrics');
like($first->{err}, qr/ERROR:  42883: could not find function "tfstate_\w+" in file/, 'what is new cannot be called there');
unlike(tfstate('attach', 'other'), qr/^tfstate:/, 'the program can do all');
cmp_ok($late[0]->query_safe('SELECT count(*) FROM tfstate_metrics'), '>', '10', 'but in a new session');
is(sql(q(SELECT problem FROM tfstate_check() WHERE severity = 'error' AND problem !~ '^fsync')), '', 'tfstate_check() finds no error');

# The old library is put back, beside the new objects.
$_->quit foreach $first, $second, $waiter;
install('old', @old);
my @back = map { session($node) } 1 .. 2;
check_both('the old files', @back);
check_both('the old files', $back[0], $late[0]);
check_both('the old files', $late[0], $back[0]);
is(library($back[0]), 'old', 'a new session has the old library');
is(library($late[0]), 'new', 'a live one keeps the new one');
sql('DROP INDEX tfstate_internal.released_lock_released_at_idx');
$back[0]->query(q(SELECT tfstate_lock('both')));
like($back[0]{err}, qr/ERROR:  42P01: relation "tfstate_internal\.released_lock_released_at_idx" of extension "tfstate" does not exist/,
	'without the index that the update has left, the old library is refused');
is($late[0]->query_safe(q(SELECT locked FROM tfstate_try_lock('both'))), 't', 'and the new one is not');
sql('CREATE DATABASE other');
foreach my $file (grep { !/\.so$/ } @new)
{
	copy($file, $scripts) or die "$file: $!";
}
$node->psql('other', 'CREATE EXTENSION tfstate', stderr => \my $error);
like($error, qr/ERROR:  could not find function "tfstate_\w+" in file ".*tfstate\.so"/, 'the new script with the old library is refused');
is($node->safe_psql('other', q(SELECT count(*) FROM pg_proc WHERE proname ~ '^tfstate')), '0', 'and leaves nothing');
$node->safe_psql('other', "CREATE EXTENSION tfstate VERSION '$old_version'");
$node->psql('other', $update, stderr => \$error);
like($error, qr/cannot update extension "tfstate" in a session that has the library of an older version/, 'so is the update');

done_testing();
