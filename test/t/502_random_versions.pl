# Random writes, deletions, rollbacks, prunings and tampering by two sessions, compared with a
# model: every version that is still kept returns its text byte for byte, numbers have no
# gaps, and tfstate_verify() reports exactly what was tampered with.
#
# The seed of the random numbers is printed; TFSTATE_SEED sets it, and TFSTATE_STEPS the
# number of steps.

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use Digest::SHA qw(sha256_hex);
use FindBin;
use lib "$FindBin::RealBin/../lib";
use List::Util qw(max min);
use PostgreSQL::Test::Utils;
use StateModel;
use Test::More;
use TestServer;

my $seed = $ENV{TFSTATE_SEED} || time ^ $$;
my $steps = $ENV{TFSTATE_STEPS} || 1000;
my $steps_of_batch = 100;

# As in record.c
my $max_chain = 256;

note("seed $seed");
srand($seed);
$ENV{PGCLIENTENCODING} = 'UTF8';

my $node = tfstate_node(
	'versions_property',
	conf => "fsync = off\n");

# The tables, with the versions that they keep: so many of the newest, and those of an age
my %tables = (
	everything => {},
	newest => { versions => 40 },
	young => { age => 1 },
	few => { versions => 10, age => 1 });

# The workspaces of the model, by lockid (see StateModel.pm)
my %model;

sub literal
{
	my ($text) = @_;
	$text =~ s/'/''/g;
	return "'$text'";
}

# What a session does to a workspace: a list of the SQL and of the function that does the
# same to the model
#

sub upsert
{
	my ($w, $state) = @_;
	return
		"INSERT INTO $w->{table} (name, data) VALUES ("
	  . literal($w->{name}) . ', '
	  . literal(text_of($state))
	  . ') ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data';
}

sub delete_row
{
	my ($w) = @_;
	return "DELETE FROM $w->{table} WHERE name = " . literal($w->{name});
}

sub with_setting
{
	my ($setting, $sql) = @_;
	my ($name) = split(/ /, $setting);
	return "SET $setting; $sql; RESET $name";
}

sub do_write
{
	my ($w, $session, $state, $how) = @_;
	my $sql = upsert($w, $state);

	$sql =
	  "SELECT tfstate_lock($w->{quoted}, mode => 'durable'); $sql; SELECT tfstate_unlock($w->{quoted})"
	  if $how eq 'locked';
	$sql = with_setting('tfstate.guard = off', $sql) if $how eq 'off';
	return ($sql, sub { model_write($w, $session, $state, $how) });
}

sub do_delete
{
	my ($w) = @_;
	return (delete_row($w), sub { model_delete($w) });
}

sub do_repair
{
	my ($w) = @_;
	return ("SELECT tfstate_repair($w->{quoted})", sub { model_repair($w) });
}

sub do_prune
{
	my ($w) = @_;
	my $keep = choose(
		{ versions => 1 + int(rand 40) },
		{ age => 1 },
		{ versions => 1 + int(rand 20), age => 1 },
		$w->{keep});
	my $count = $keep->{versions} || 'NULL';
	my $age = $keep->{age} ? "'5 days'" : 'NULL';

	# Without arguments the values of the table apply, which may be none.
	return (
		"SELECT tfstate_prune($w->{quoted}" . ($keep == $w->{keep} ? '' : ", $count, $age") . ')',
		sub { model_prune($w, $keep) });
}

# A change that the triggers do not see
sub do_behind_our_back
{
	my ($w, $state) = @_;

	return (
		with_setting(
			'session_replication_role = replica',
			$state ? upsert($w, $state) : delete_row($w)),
		sub { $w->{row} = $state; return '' });
}

sub do_tamper
{
	my ($w) = @_;
	return do_behind_our_back($w,
		choose(undef, garbage(), next_state($w->{row}), state_with(int(rand 9), new_lineage(), [])));
}

sub do_age
{
	my ($w) = @_;
	my $number = $w->{newest} - int(rand 30);

	return (
		"UPDATE tfstate_internal.stored_version SET created = created - interval '10 days' WHERE lockid = $w->{quoted} AND number <= $number",
		sub { model_age($w, $number) });
}

sub do_rollback_to
{
	my ($w, $session, $number) = @_;

	return (
		"SELECT tfstate_rollback($w->{quoted}, $number)",
		sub { model_rollback($w, $session, $number) });
}

sub do_rollback
{
	my ($w, $session) = @_;
	return do_rollback_to($w, $session, max(0, $w->{newest} - int(rand 40)));
}

sub do_undelete
{
	my ($w, $session) = @_;
	return ("SELECT tfstate_undelete($w->{quoted})", sub { model_undelete($w, $session) });
}

# What Terraform does, with a lock or without
sub do_next_write
{
	my ($w, $session) = @_;
	my $how = $session->{refused}{$w} || rand() < 0.2 ? 'locked' : 'plain';

	return do_write($w, $session, next_state($w->{row}), $how);
}

# Writes that are refused, leave no version, or are forced
sub do_odd_write
{
	my ($w, $session) = @_;
	my $row = $w->{row};

	return do_next_write($w, $session) unless $row && defined $row->{serial};
	return do_write(
		$w, $session,
		choose($row,
			state_with($row->{serial}, $row->{lineage}, [ random_resource() ]),
			state_with($row->{serial} + 1, new_lineage(), [ random_resource() ]),
			state_with(int(rand 9), new_lineage(), [ random_resource() ])),
		choose('plain', 'locked', 'off'));
}

sub do_something
{
	my ($w, $session) = @_;
	my $action = choose(
		(\&do_next_write) x 20,
		(\&do_odd_write) x 4,
		(\&do_rollback) x 4,
		(\&do_delete) x 2,
		(\&do_undelete) x 3,
		(\&do_tamper) x 3,
		(\&do_repair) x 2,
		(\&do_prune) x 2,
		(\&do_age) x 2);

	return $action->($w, $session);
}

# Sessions.  A session in a transaction has frames, one for the transaction and one for each
# savepoint, with the workspaces as they were when they were first touched in it.
#

sub touch
{
	my ($session, $w) = @_;
	my $frame = $session->{frames}[-1];

	$frame->{ $w->{lockid} } ||= { %$w, versions => { %{ $w->{versions} } } } if $frame;
	return;
}

sub restore_frame
{
	my ($frame) = @_;

	%{ $model{$_} } = %{ $frame->{$_} } foreach keys %$frame;
	return;
}

# Applies what a session has done to the model, and compares the error, if any, with the
# expected one.
sub finish
{
	my ($session, $w, $sql, $effect) = @_;

	$session->{psql}->result;
	touch($session, $w);
	my $expected = $effect->();
	my $found = $session->{psql}{err} =~ /WARNING/ ? 'a warning' : $session->{psql}->sqlstate;
	die sprintf(
		"expected \"%s\" of %s, but got: %s\n",
		$expected,
		substr($sql, 0, 300),
		$session->{psql}{err}) if $found ne $expected;
	end_transaction($session, 'ROLLBACK') if $expected && @{ $session->{frames} };
	return;
}

# Performs one action.
sub act
{
	my ($session, $w, @action) = @_;

	$session->{psql}->send($action[0]);
	finish($session, $w, @action);
	return;
}

sub begin
{
	my ($session) = @_;

	$session->{psql}->query_safe('BEGIN');
	$session->{frames} = [ {} ];
	return;
}

sub end_transaction
{
	my ($session, $command) = @_;

	$session->{psql}->query_safe($command);
	if ($command eq 'ROLLBACK')
	{
		restore_frame($_) foreach reverse @{ $session->{frames} };
	}
	$done{$command}++;
	$session->{frames} = [];
	return;
}

# Begins or ends a transaction, or sets a savepoint.
sub step_of_transaction
{
	my ($session) = @_;
	my $frames = $session->{frames};

	if (!@$frames)
	{
		begin($session);
	}
	elsif (rand() < 0.4)
	{
		end_transaction($session, choose('COMMIT', 'ROLLBACK'));
	}
	elsif (@$frames > 1 && rand() < 0.6)
	{
		$session->{psql}->query_safe('ROLLBACK TO s');
		restore_frame($frames->[-1]);
		$frames->[-1] = {};
		$done{'ROLLBACK TO'}++;
	}
	else
	{
		$session->{psql}->query_safe('SAVEPOINT s');
		push @$frames, {};
	}
	return;
}

# One session writes in a transaction, and the other one waits for its end, because they
# write the same row.
sub collide
{
	my ($one, $other, $w) = @_;
	my $state = next_state($w->{row});
	my @first = do_write($w, $one, $state, 'locked');
	my @second = choose(
		[ do_write($w, $other, next_state($state), 'plain') ],
		[ do_delete($w) ],
		[ do_repair($w) ],
		[ do_prune($w) ])->@*;

	begin($one);
	act($one, $w, @first);
	$other->{psql}->send($second[0]);
	wait_for(
		'the second session to wait',
		sub {
			$other->{psql}->is_done
			  || sql(
				"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $other->{psql}{pid}"
			  ) eq 't';
		});
	$done{collision}++ unless $other->{psql}->is_done;
	end_transaction($one, choose('COMMIT', 'ROLLBACK')) if @{ $one->{frames} };
	finish($other, $w, @second);
	return;
}

#
# Comparing with the model
#

# The columns that are compared, as they are in the model
sub version_as_text
{
	my ($number, $version) = @_;
	my $state = $version->{state};
	my $text = $state ? text_of($state) : undef;

	return join('|',
		$number,
		$version->{operation},
		map { $_ // '' } $version->{serial},
		$version->{lineage},
		$state && length($text),
		$state && sha256_hex($text),
		$state && md5_hex($text),
		$state && unpack('H*', $text));
}

# Returns the differences between the versions of a workspace and the model.
sub differences
{
	my ($w) = @_;
	my @expected =
	  map { version_as_text($_, $w->{versions}{$_}) }
	  sort { $a <=> $b } keys %{ $w->{versions} };
	my @found = split(
		/\n/,
		sql("SELECT number, operation, serial, lineage, size, sha256, md5,
					CASE WHEN size IS NOT NULL THEN encode(convert_to(tfstate_version(workspace, number), 'UTF8'), 'hex') END
			   FROM tfstate_versions($w->{quoted}) ORDER BY number"));
	my $row = sql("SELECT encode(convert_to(data, 'UTF8'), 'hex') FROM $w->{table} WHERE name = "
		  . literal($w->{name}));
	my @wrong;

	push @wrong, "$w->{lockid}: row" if $row ne unpack('H*', $w->{row} ? text_of($w->{row}) : '');
	push @wrong, "$w->{lockid}: " . scalar(@found) . ' versions for ' . scalar(@expected)
	  if @found != @expected;
	foreach my $n (0 .. min($#found, $#expected))
	{
		push @wrong, "$w->{lockid}: " . substr($found[$n], 0, 200) if $found[$n] ne $expected[$n];
	}
	return @wrong;
}

# What tfstate_verify() should report
sub problems
{
	my @problems;

	foreach my $w (values %model)
	{
		next if is_recorded($w);
		push @problems,
		  "$w->{lockid}|"
		  . join(
			'|',
			!newest($w) ? ('', 'the state was never recorded')
			: ( $w->{newest},
				!$w->{row}             ? 'the workspace was deleted without being recorded'
				: !newest($w)->{state} ? 'the workspace was created without being recorded'
				:                        'the state in the table is not the one that was recorded')
		  );
	}
	return @problems;
}

sub verify
{
	return "SELECT workspace, version, problem FROM tfstate_verify('*', true)";
}

# Cuts the content of a version; it and the versions that depend on it have to be reported.
sub check_damage
{
	my ($w) = @_;
	my @texts = grep { $w->{versions}{$_}{state} } sort keys %{ $w->{versions} };
	return unless @texts;
	my $number = choose(@texts);
	my $last = sql(
		"SELECT coalesce(min(number) - 1, $w->{newest}) FROM tfstate_internal.stored_version
		  WHERE lockid = $w->{quoted} AND number > $number AND coalesce(chain, 0) = 0");
	my @expected = (
		problems(),
		map { "$w->{lockid}|$_|the version, or one that it depends on, is damaged" }
		  $number .. $last);
	my $found = sql(
		"BEGIN;
		 UPDATE tfstate_internal.stored_version SET content = substr(content, 1, length(content) - 1)
		  WHERE lockid = $w->{quoted} AND number = $number;"
		  . verify() . ';ROLLBACK');

	is_deeply(
		[ sort split(/\n/, $found) ],
		[ sort @expected ],
		"version $number of $w->{lockid} is reported as damaged, and those up to $last");
	return;
}

sub check_all
{
	my ($batch) = @_;
	my @expected = sort(problems());

	is_deeply([ map { differences($_) } values %model ],
		[], "$batch: every version returns its text byte for byte");
	is_deeply([ sort split(/\n/, sql(verify())) ],
		\@expected, "$batch: changes that bypassed the triggers are reported: " . scalar(@expected));
	check_damage(choose(map { $model{$_} } sort keys %model));
	return;
}

#
# The test
#

foreach my $table (sort keys %tables)
{
	my $keep = $tables{$table};

	sql("SELECT tfstate_attach('tf', '$table', guard => 'on', keep_versions => "
		  . ($keep->{versions} || 'NULL')
		  . ', keep_age => '
		  . ($keep->{age} ? "'5 days'" : 'NULL')
		  . ')');
	foreach my $name ('prod', "it's a/\"\xc3\xbc\"")
	{
		my $lockid = "tf.$table/$name";

		$model{$lockid} = {
			lockid => $lockid,
			quoted => literal($lockid),
			table => "tf.$table",
			name => $name,
			keep => $keep,
			versions => {},
			newest => 0
		};
	}
}

my @sessions = map { { psql => session($node), refused => {}, frames => [] } } 1 .. 2;

# A chain of deltas up to its limit and beyond
sub check_long_chain
{
	my ($w, $session) = @_;
	my @resources = map { random_resource() } 1 .. 40;
	my @writes;

	foreach my $n (0 .. $max_chain + 40)
	{
		$resources[ rand @resources ] = resource_of($n, $n);
		push @writes, [ do_write($w, $session, state_with($n, 'long', [@resources]), 'plain') ];
	}
	$session->{psql}->send(join(';', delete_row($w), map { $_->[0] } @writes));
	finish(
		$session, $w,
		'a long chain',
		sub {
			model_delete($w);
			$_->[1]->() foreach @writes;
			return '';
		});
	is( sql("SELECT string_agg(chain::text, ' ' ORDER BY number DESC) FROM tfstate_internal.stored_version
			  WHERE lockid = $w->{quoted} AND lineage = 'long' AND number > $w->{newest} - 45"),
		join(' ', reverse($max_chain - 4 .. $max_chain, 0 .. 39)),
		"a full copy follows $max_chain deltas");
	return;
}

# A serial is remembered after its state was destroyed with the triggers bypassed.
sub check_serials
{
	my ($w, $session) = @_;
	my $serial = $w->{row}{serial};

	foreach my $state (garbage(), undef)
	{
		act($session, $w, do_behind_our_back($w, $state));
		act($session, $w, do_repair($w));
		act($session, $w, do_rollback_to($w, $session, $w->{newest} - 1));
		is($w->{row}{serial}, ++$serial, "serial $serial follows");
	}
	return;
}

# What a rolled back transaction has locked is not released later.
sub check_rolled_back_lock
{
	my ($w, $session) = @_;

	foreach my $lockid ($w->{quoted}, "'other'")
	{
		begin($session);
		act($session, $w, do_next_write($w, $session));
		act($session, $w, "SELECT tfstate_lock($lockid)", sub { '' });
		end_transaction($session, 'ROLLBACK');
	}
	return;
}

check_long_chain($model{'tf.everything/prod'}, $sessions[0]);
check_serials($model{'tf.everything/prod'}, $sessions[0]);
check_rolled_back_lock($model{'tf.everything/prod'}, $sessions[0]);

my $step = 0;
while ($step < $steps)
{
	foreach (1 .. $steps_of_batch)
	{
		my ($session, $other) = rand() < 0.5 ? @sessions : reverse @sessions;
		my @free =
		  grep {
			my $w = $_;
			!grep { exists $_->{ $w->{lockid} } } @{ $other->{frames} }
		  }
		  map { $model{$_} } sort keys %model;
		my $w = choose(@free);

		$step++;
		if ($w && $w->{row} && !@{ $session->{frames} } && !@{ $other->{frames} } && rand() < 0.1)
		{
			collide($session, $other, $w);
		}
		elsif (!$w || rand() < (@{ $session->{frames} } ? 0.3 : 0.08))
		{
			step_of_transaction($session);
		}
		else
		{
			act($session, $w, do_something($w, $session));
		}
	}
	foreach my $session (grep { @{ $_->{frames} } } @sessions)
	{
		end_transaction($session, choose('COMMIT', 'ROLLBACK'));
	}
	check_all("after $step steps");
}

cmp_ok($done{$_} || 0, '>', 0, "of $_: " . ($done{$_} || 0))
  foreach qw(write found delete pruned refused rollback undelete repair collision),
  'COMMIT', 'ROLLBACK', 'ROLLBACK TO';
is_deeply(
	[ grep { /PANIC|was terminated by signal|WARNING/ } split /\n/, slurp_file($node->logfile) ],
	[], 'the server log has no warning or error');

$_->{psql}->quit foreach @sessions;
done_testing();
