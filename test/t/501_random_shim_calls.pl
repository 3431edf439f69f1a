# Random calls of the shim and of tfstate_lock() and similar functions, and writes, by several
# sessions, roles and runs, in both modes, with connections shared as behind a pooler: the
# result of each call, the holders and the contents of the tables are as a model predicts
# (test/lib/ShimModel.pm).
#
# A failing sequence of operations is shortened to what is needed to fail, and printed.  The
# seed of the random numbers is printed; TFSTATE_SEED sets it, and TFSTATE_SEQUENCES the
# number of sequences.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use ShimModel;
use Storable qw(dclone);
use Test::More;
use TestServer;

my $seed = $ENV{TFSTATE_SEED} || time ^ $$;
my $sequences = $ENV{TFSTATE_SEQUENCES} || 60;
my $length = 60;

note("seed $seed");
srand($seed);

my $node = tfstate_node('shim_property', conf => "fsync = off\nautovacuum = off\n");
my @existing = ('tf.states/a', 'tg.states/b');
my @workspaces = (@existing, 'tf.states/m', 'tf.states/n');
my @roles = (undef, 'alice', 'bob', 'carol');
my @runs = map { "0000000$_-0000-4000-8000-000000000000" } 1 .. 2;
my $sessions = 4;

sql(q(
	CREATE ROLE alice; CREATE ROLE bob; CREATE ROLE carol;
	SELECT tfstate_attach('tf', 'states'), tfstate_attach('tg', 'states', guard => 'require');
	GRANT USAGE ON SCHEMA tf, tg TO alice, bob, carol;
	GRANT SELECT, INSERT, UPDATE, DELETE ON tf.states, tg.states TO alice, bob, carol;
	GRANT USAGE ON SEQUENCE public.global_states_id_seq TO alice, bob, carol;
	SELECT tfstate_grant('alice'), tfstate_grant('bob'), tfstate_grant('carol', 'tf.states/*');
	ALTER DATABASE postgres SET search_path = tfstate_pg, pg_catalog, public;
));

my $admin = session($node, name => 'admin');
my %session = map { $_ => session($node) } 1 .. $sessions;

#
# What is there
#

sub state
{
	my ($serial) = @_;
	my $resources = join(',', map { qq({"mode":"managed","type":"t","name":"n$_","instances":[{}]}) } 1 .. $serial % 3);
	return qq({"version":4,"serial":$serial,"lineage":"a","outputs":{},"resources":[$resources]});
}

# Reads the holders and the tables into a model.
sub expected
{
	my ($model) = @_;
	return join(
		"\n",
		(   map { join('|', $_, $model->{held}{$_}{durable} ? 'durable' : 'session', $model->{held}{$_}{fence} // 'new') }
			  grep { is_shown($model, $_) } sort keys %{ $model->{held} }),
		map { join('|', 'row', $_, $model->{rows}{$_}{serial}) } sort keys %{ $model->{rows} });
}

my $observe = q(
	WITH h AS (SELECT lockid, mode, fence, id FROM tfstate_holders WHERE mode = 'durable' OR session_alive)
	SELECT * FROM h
	 WHERE lockid !~ '^tfstate_pg/inside' OR split_part(lockid, ' ', 2) IN (SELECT fence::text FROM h)
	 ORDER BY lockid COLLATE "C";
	SELECT 'row', w, serial, id
	  FROM (SELECT 'tf.states/' || name, data::json ->> 'serial', id FROM tf.states WHERE name <> 'default' UNION ALL
			SELECT 'tg.states/' || name, data::json ->> 'serial', id FROM tg.states WHERE name <> 'default') s(w, serial, id)
	 ORDER BY w COLLATE "C");

# Compares a model with what is there; the model learns the new IDs, fences and ids.  Returns
# the differences.
sub compare
{
	my ($model, $found) = @_;
	my @lines;

	foreach my $line (split(/\n/, $found))
	{
		my ($what, $mode, $number, $id) = split(/\|/, $line);

		if ($what eq 'row')
		{
			$model->{rows}{$mode}{id} = $id if $model->{rows}{$mode};
			push @lines, "row|$mode|$number";
			next;
		}
		my $holding = $model->{held}{$what};
		if ($holding && !defined $holding->{fence})
		{
			my $last = $model->{fences}{$what} // 0;

			return "the fence of $what is $number after $last" if $number <= $last;
			$holding->{fence} = $model->{fences}{$what} = $number;
			$holding->{id} = $id;
		}
		push @lines, "$what|$mode|$number";
	}
	my $is = join("\n", @lines);
	my $ought = expected($model);
	return $is eq $ought ? '' : "found:\n$is\nexpected:\n$ought";
}

#
# Operations: [ name, session, argument ].  The model decides whether they are allowed.
#

sub random_operation
{
	my ($pooled) = @_;
	my $session = 1 + int(rand $sessions);
	my $w = choose(@workspaces);
	my @operations = ([ choose(
			qw(shim_lock shim_lock shim_lock shim_unlock shim_unlock shim_unlock_creation
			  write write write delete shim_create shim_create)), $session, $w ]);

	# a client of a pooler is known by its name, in any session
	if ($pooled)
	{
		return ([ 'run', $session, choose(@runs) ], @operations) if rand() < 0.9;
		return [ choose('force', 'discard', 'unlock_id'), $session, $w ];
	}
	return @operations if rand() < 0.6;
	return [ choose(qw(durable session unlock unlock unlock_id force)), $session, $w ] if rand() < 0.6;
	return [ 'role', $session, choose(@roles) ] if rand() < 0.4;
	return [ 'run', $session, choose(undef, @runs) ] if rand() < 0.4;
	return [ 'mode', $session, int(rand 2) ] if rand() < 0.5;
	return [ choose('discard', 'reconnect'), $session ];
}

sub random_sequence
{
	my $pooled = rand() < 0.3;
	my @operations = map { [ 'mode', $_, 1 ] } $pooled ? 1 .. $sessions : ();

	push @operations, random_operation($pooled) while @operations < $length;
	return @operations;
}

sub literal
{
	return defined $_[0] ? "'$_[0]'" : 'NULL';
}

sub sql_of
{
	my ($model, $name, $w) = @_;
	my ($table, $row) = $w && $w =~ m,/, ? (table_of($w), literal(name_of($w))) : ();
	my $id = $w && ($model->{rows}{$w} ? $model->{rows}{$w}{id} : $model->{last_id}{$w}) // 0;
	my $held = $w && $model->{held}{$w};
	my $serial = 1 + ($w && $model->{rows}{$w} ? $model->{rows}{$w}{serial} : 0);
	my %sql = (
		shim_lock => sub {
			"SELECT states.id, pg_try_advisory_lock(states.id), pg_try_advisory_lock(-1) FROM $table WHERE states.name = $row"
		},
		shim_create => sub { 'SELECT pg_try_advisory_lock(-1)' },
		shim_unlock => sub { "SELECT pg_advisory_unlock($id)" },
		shim_unlock_creation => sub { 'SELECT pg_advisory_unlock(-1)' },
		write => sub {
			my $state = literal(state($serial));
			"INSERT INTO $table (name, data) VALUES ($row, $state) ON CONFLICT (name) DO UPDATE SET data = $state WHERE states.name = $row";
		},
		delete => sub { "DELETE FROM $table WHERE name = $row" },
		durable => sub { "SELECT tfstate_lock('$w')" },
		session => sub { "SELECT tfstate_lock('$w', mode => 'session')" },
		unlock => sub { "SELECT tfstate_unlock('$w')" },
		unlock_id => sub { "SELECT tfstate_unlock('$w', " . literal($held ? $held->{id} : 'none') . ')' },
		force => sub { "SELECT tfstate_force_unlock('$w')" },
		role => sub { defined $w ? "SET ROLE $w" : 'RESET ROLE' },
		run => sub { 'SET application_name = ' . (defined $w ? "'tfstate-run:$w'" : "'tap'") },
		mode => sub { 'SET tfstate.mode = ' . ($w ? 'durable' : 'session') },
		discard => sub { 'DISCARD ALL' },
		reconnect => sub { '\connect' });

	return $sql{$name}->();
}

sub as_text
{
	my ($model, $operation) = @_;
	my ($name, $number, $argument) = @$operation;
	return "  $number: " . sql_of($model, $name, $argument);
}

sub pid
{
	return $session{ $_[0] }->query_safe('SELECT pg_backend_pid()');
}

sub wait_until_gone
{
	my ($pid) = @_;

	wait_for("process $pid to go",
		sub { !$admin->query_safe("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") });
	return;
}

# Restores the initial state, and returns its model.
sub start_over
{
	my @pids = map { pid($_) } sort keys %session;

	$session{$_}->query_safe('\connect') foreach sort keys %session;
	wait_until_gone($_) foreach @pids;
	$admin->query_safe(
		q(SELECT count(tfstate_force_unlock(lockid)) FROM tfstate_holders;
		  DELETE FROM tfstate_internal.released_lock;
		  SET session_replication_role = replica;
		  DELETE FROM tf.states WHERE name <> 'default'; DELETE FROM tg.states WHERE name <> 'default';)
		  . join('',
			map { sprintf("INSERT INTO %s (name, data) VALUES ('%s', '%s');", table_of($_), name_of($_), state(1)) }
			  @existing)
		  . 'RESET session_replication_role');
	my $model = new_model(
		sessions => $sessions,
		rows => { map { $_ => { serial => 1, resources => 1 } } @existing });
	my $found = $admin->query_safe($observe);
	my $wrong = compare($model, $found);

	die "at the start: $wrong" if $wrong;
	return $model;
}

my %done;

# Performs an operation; returns the model of the state after it, or a text that says what is wrong.
sub perform
{
	my ($model, $operation) = @_;
	my ($name, $number, $argument) = @$operation;
	my $session = $session{$number};
	my $pid = $name eq 'reconnect' && pid($number);

	$session->query(sql_of($model, $name, $argument));
	wait_until_gone($pid) if $pid;
	my $code = $session->sqlstate;
	my $found = $admin->query_safe($observe);
	my @outcomes = predict($model, $name, $number, $argument);
	my @wrong;

	$done{ $code ? "$name $code" : $name }++;
	foreach my $outcome (grep { $_->{code} eq $code } @outcomes)
	{
		my $next = dclone($model);

		$outcome->{change}->($next);
		my $wrong = compare($next, $found);
		return $next unless $wrong;
		push @wrong, $wrong;
	}
	my $codes = join(' or ', map { $_->{code} || 'success' } @outcomes);
	return join("\n", @wrong) if @wrong;
	return ($session->{err} =~ s/\n.*//sr || 'success') . " instead of $codes";
}

# Performs operations; returns an empty string, or what is wrong after the last of them.
sub run_sequence
{
	my (@operations) = @_;
	my $model = start_over();
	my @texts;

	foreach my $operation (@operations)
	{
		push @texts, as_text($model, $operation);
		my $next = perform($model, $operation);
		return (join("\n", @texts) . "\n$next", scalar(@texts)) unless ref $next;
		$model = $next;
	}
	return '';
}

# Removes operations that a sequence does not need to fail.
sub shrink
{
	my (@operations) = @_;
	my $tries = 0;

	for (my $chunk = int(@operations / 2) || 1; $chunk >= 1; $chunk = int($chunk / 2))
	{
		for (my $i = @operations - 1 - $chunk; $i >= 0 && $tries < 200; $i -= $chunk)
		{
			my @fewer = @operations;

			splice(@fewer, $i, $chunk);
			$tries++;
			my ($wrong, $count) = run_sequence(@fewer);
			@operations = @fewer[ 0 .. $count - 1 ] if $wrong;
		}
	}
	return (run_sequence(@operations))[0];
}

foreach my $n (1 .. $sequences)
{
	my @operations = random_sequence();
	my ($wrong, $count) = run_sequence(@operations);

	next if ok(!$wrong, "sequence $n");
	diag((shrink(@operations[ 0 .. $count - 1 ]) || "only once") . "\n\nas it came:\n$wrong");
	done_testing();
	exit;
}
note(join("\n", map { "$done{$_} $_" } sort keys %done));
cmp_ok($done{$_} || 0, '>', 0, "of $_: " . ($done{$_} || 0))
  foreach qw(shim_lock shim_create shim_unlock shim_unlock_creation write delete durable session unlock unlock_id force discard reconnect),
  'shim_lock 55P03', 'shim_lock 42501', 'write 55000', 'write 55006', 'delete 55000', 'delete 55006',
  'shim_unlock 55000', 'unlock 55000',
  'unlock_id 55000';
is_deeply(
	[ grep { /PANIC|was terminated by signal/ } split /\n/, slurp_file($node->logfile) ],
	[], 'the server log has no warning or error');

$_->quit foreach $admin, values %session;
done_testing();
