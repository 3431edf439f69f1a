# test/lib/ShimModel.pm
#
# A model of the locks of workspaces: the result of each call by several sessions, roles and
# runs.
#
# new_model	makes a model
# predict	returns the results that an operation may have
# reconnect	replaces a session by a new one
# is_live	returns the holding of a lockid
# is_shown	returns true for a holding that the test compares
# table_of	returns the table of a workspace
# name_of	returns the name of a workspace
#
# A model is a hash.
#
# sessions	by number: role (undef for the superuser that has logged in), run (a UUID, undef for
#			none), durable (tfstate.mode) and serial, a number that no session had before: it
#			changes with a reconnect and with DISCARD ALL.  released: the lock that it released
#			last with the shim, a hash of lockid, fence, role and run.  granted: true if the
#			creation key was granted with a workspace and has not been unlocked since
# held		by lockid: durable, role, run, serial (of the session that holds it), fence, id,
#			sql (true if tfstate_lock() took it) and key (the key that Terraform unlocks)
# rows		by workspace: id, serial and resources (their number)
# fences	by lockid: its last fence
# forced	by lockid: true if the last holding was released by force
# released_by	by lockid: the run that held it last, undef if that had no name; recorded: true
#			if the history is certain to have that
#
# predict() returns the results that are right for an operation: hashes with code, the
# SQLSTATE or an empty string, and change, what the operation does to the model.  If there is
# more than one, the server may choose.
package ShimModel;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(new_model reconnect predict is_live is_shown table_of name_of $creation);

# The lockid of the creation key
our $creation = 'tfstate_pg/new workspace';

# The grants of the privilege "lock": by role, a pattern of lockids.  A superuser needs none.
our %may_lock = (
	alice => qr/./,
	bob => qr/./,
	carol => qr,^tf[.]states/,);

my $serials = 0;

sub new_model
{
	my (%params) = @_;
	my %model = (sessions => {}, held => {}, rows => {}, fences => {}, forced => {});

	$model{rows}{$_} = { %{ $params{rows}{$_} } } foreach keys %{ $params{rows} };
	reconnect(\%model, $_) foreach 1 .. $params{sessions};
	return \%model;
}

# Starts a session, in place of one that has ended.
sub reconnect
{
	my ($model, $session) = @_;

	$model->{sessions}{$session} = { serial => ++$serials };
	return;
}

sub name_of { return $_[0] =~ s,^[^/]*/,,r }
sub table_of { return $_[0] =~ s,/.*,,r }

sub same
{
	my ($one, $other) = @_;
	return defined $one ? defined $other && $one eq $other : !defined $other;
}

# Returns true if the session that took a lock is still the same.
sub has_session
{
	my ($model, $holding) = @_;
	return grep { $_->{serial} == $holding->{serial} } values %{ $model->{sessions} };
}

# Returns the holding of a lockid, or undef if it is free or belonged to a dead session.
sub is_live
{
	my ($model, $lockid) = @_;
	my $holding = $model->{held}{$lockid};

	return $holding && ($holding->{durable} || has_session($model, $holding)) ? $holding : undef;
}

# Returns the lockid of the inner lock of a holding.
sub inner
{
	my ($holding) = @_;
	return "tfstate_pg/inside $holding->{fence}";
}

# Returns true for a holding that is live; an inner lock only while what it is in is live.
sub is_shown
{
	my ($model, $lockid) = @_;

	return is_live($model, $lockid) unless $lockid =~ /^tfstate_pg.inside/;
	return is_live($model, $lockid)
	  && grep { is_live($model, $_) && inner($model->{held}{$_}) eq $lockid }
	  grep { defined $model->{held}{$_}{fence} } keys %{ $model->{held} };
}

# Returns true if the role of a session may act for the role that took a lock.
sub acts
{
	my ($session, $holding) = @_;
	return !defined $session->{role} || same($session->{role}, $holding->{role});
}

# Returns true if the session took the lock itself, for the run that it works for now.
sub is_own
{
	my ($session, $holding) = @_;
	return $holding->{serial} == $session->{serial} && same($holding->{run}, $session->{run});
}

sub is_ours
{
	my ($session, $holding) = @_;
	return 0 unless $holding && acts($session, $holding);
	return is_own($session, $holding)
	  || $holding->{durable} && defined $session->{run} && same($holding->{run}, $session->{run});
}

# Returns true if the session may write under the lock.
sub may_write
{
	my ($session, $holding) = @_;
	return 0 unless $holding && acts($session, $holding);
	return is_own($session, $holding) || is_of_run($session, $holding);
}

sub is_of_run
{
	my ($session, $holding) = @_;
	return defined $session->{run} && same($holding->{run}, $session->{run});
}

# Returns true if the session's Terraform works inside the lock.
sub is_inside
{
	my ($session, $holding) = @_;
	return $holding && $holding->{sql} && is_of_run($session, $holding) && acts($session, $holding);
}

sub may_lock
{
	my ($session, $lockid) = @_;
	return !defined $session->{role} || $lockid =~ $may_lock{ $session->{role} };
}

sub refused
{
	return map { { code => $_, change => sub { } } } @_;
}

sub done
{
	my ($change) = @_;
	return { code => '', change => $change || sub { } };
}

# Returns the change that takes a lock, with the session's settings.
sub take
{
	my ($lockid, $number, %more) = @_;

	return sub {
		my ($model) = @_;
		my $session = $model->{sessions}{$number};

		end_inner($model, $model->{held}{$lockid});
		$model->{held}{$lockid} = {
			role => $session->{role},
			run => $session->{run},
			serial => $session->{serial},
			%more
		};
		$model->{forced}{$lockid} = 0;
	};
}

# The lock has ended: so has the inner lock that a dead session has left in it.
sub end_inner
{
	my ($model, $holding) = @_;
	my $inner = $holding && $holding->{sql} && $model->{held}{ inner($holding) };

	delete $model->{held}{ inner($holding) } if $inner && $inner->{durable};
	return;
}

sub release
{
	my ($model, $lockid, $session) = @_;
	my $holding = delete $model->{held}{$lockid};

	end_inner($model, $holding);
	$model->{released_by}{$lockid} = $holding->{run};
	$model->{recorded}{$lockid} = $holding->{durable} || defined $holding->{key};
	$session->{released} = {
		lockid => $lockid,
		fence => $holding->{fence},
		role => $session->{role},
		run => $session->{run}
	  }
	  if $session;
	return;
}

# Takes a lock through the shim: returns the results, each with the further changes.
sub shim_take
{
	my ($model, $number, $lockid, $then, %more) = @_;
	my $session = $model->{sessions}{$number};
	my $holding = is_live($model, $lockid);

	return refused('22023') if $session->{durable} && !defined $session->{run};
	if (is_inside($session, $holding))
	{
		$lockid = inner($holding);
		$holding = is_live($model, $lockid);
	}
	if ($holding)
	{
		return refused('55P03')
		  unless $holding->{durable}
		  && defined $session->{run}
		  && same($holding->{run}, $session->{run})
		  && acts($session, $holding)
		  && !has_session($model, $holding);
		return done(
			sub {
				my ($m) = @_;
				my $adopted = $m->{held}{$lockid};

				$adopted->{serial} = $m->{sessions}{$number}{serial};
				$adopted->{role} = $m->{sessions}{$number}{role};
				$adopted->{$_} = $more{$_} foreach keys %more;
				$then->($m);
			});
	}
	return done(
		sub {
			my ($m) = @_;
			take($lockid, $number, durable => $session->{durable}, %more)->($m);
			$then->($m);
		});
}

#
# The operations: by name, functions of the model, the number of the session, and the
# workspace
#
my %operations = (

	# the shim locks an existing workspace
	shim_lock => sub {
		my ($model, $number, $w) = @_;
		my $session = $model->{sessions}{$number};
		my $row = $model->{rows}{$w} or return done();

		return refused('42501') unless may_lock($session, $w);
		return shim_take($model, $number, $w, sub { $_[0]{sessions}{$number}{granted} = 1 },
			key => $row->{id});
	},

	# the shim locks the creation key
	shim_create => sub {
		my ($model, $number) = @_;

		return shim_take($model, $number, $creation, sub { }, key => -1);
	},

	# the shim unlocks the id that a workspace has, or had last
	shim_unlock => sub {
		my ($model, $number, $w) = @_;
		my $session = $model->{sessions}{$number};
		my $holding = is_live($model, $w);
		my $row = $model->{rows}{$w};
		my $id = $row ? $row->{id} : $model->{last_id}{$w};
		my $released = done(sub { release($_[0], $w, $_[0]{sessions}{$number}) });
		my $inner = is_inside($session, $holding) ? inner($holding) : '';

		# without naming the holder
		return (refused('42501'), $row ? () : done()) if defined $id && !may_lock($session, $w);
		return done() unless $holding && defined $id;
		# a Terraform inside a lock releases the inner one at most
		if ($inner)
		{
			my $ours = is_ours($session, is_live($model, $inner));

			return ($ours ? done(sub { release($_[0], $inner, $_[0]{sessions}{$number}) }) : (),
				$ours && $row ? () : done());
		}
		if (!is_ours($session, $holding))
		{
			return ($row ? () : done(), refused('55000'));
		}
		# the shim unlocks what it has locked, and may refuse what tfstate_lock() has locked
		return ($released, $row && defined $holding->{key} ? () : refused('55000')) if $row;
		# known to the session only
		return $released if same($holding->{key}, $id) && is_own($session, $holding);
		return ($released, done(), refused('55000'));
	},

	# the shim unlocks the creation key
	shim_unlock_creation => sub {
		my ($model, $number) = @_;
		my $session = $model->{sessions}{$number};
		my @ours =
		  grep { is_ours($session, is_live($model, $_)) && same($model->{held}{$_}{key}, -1) }
		  sort keys %{ $model->{held} };
		my $forget = sub { $_[0]{sessions}{$number}{granted} = 0 };
		my @outcomes;

		# those that the session knows of, or else one of the run
		foreach my $set (1 .. 2**@ours - 1)
		{
			my $chosen = [ map { $ours[$_] } grep { $set & 2**$_ } 0 .. $#ours ];

			push @outcomes, done(
				sub {
					my ($m) = @_;
					release($m, $_, $m->{sessions}{$number}) foreach @$chosen;
					$forget->($m);
				});
		}
		# an inner lock is known to its session only
		push @outcomes, done($forget) if !@ours || $session->{granted} || grep { /^tfstate_pg.inside/ } @ours;
		return @outcomes;
	},

	# write the next state
	write => sub {
		my ($model, $number, $w) = @_;
		my $session = $model->{sessions}{$number};
		my $holding = is_live($model, $w);
		my $write = sub {
			my ($m) = @_;
			$m->{rows}{$w}{serial}++;
			$m->{rows}{$w}{resources} = $m->{rows}{$w}{serial} % 3;
		};

		return refused('42501', '55006', '55000') unless may_lock($session, $w);
		my $creates = !$model->{rows}{$w} && is_ours($session, is_live($model, $creation));
		return done($write) if may_write($session, $holding) && !$creates;
		# this first takes the lock of the new workspace
		my @taking = $creates ? ('55P03', $session->{durable} && !defined $session->{run} ? '22023' : ()) : ();
		return refused('55006', @taking) if $holding && !may_write($session, $holding);
		return refused('55000') unless $creates;
		return shim_take(
			$model, $number, $w,
			sub { delete $_[0]{held}{$creation}; $write->($_[0]) },
			key => -1);
	},

	# delete a workspace
	delete => sub {
		my ($model, $number, $w) = @_;
		my $session = $model->{sessions}{$number};
		my $holding = is_live($model, $w);
		my $row = $model->{rows}{$w} or return done();
		my $released = $session->{released};
		my $delete = sub {
			my ($m) = @_;
			$m->{last_id}{$w} = $m->{rows}{$w}{id};
			delete $m->{rows}{$w};
		};

		return refused('42501', '55006', '55000') unless may_lock($session, $w);
		return done($delete) if may_write($session, $holding);
		return refused('55006') if $holding;
		return done($delete) if $row->{resources} == 0;
		# also another session of the run that had the last lock, if the history says so
		return (done($delete), $model->{recorded}{$w} ? () : refused('55000'))
		  if defined $session->{run}
		  && same($model->{released_by}{$w}, $session->{run})
		  && !$model->{forced}{$w}
		  && !$model->{held}{$w};
		return done($delete)
		  if $released
		  && $released->{lockid} eq $w
		  && $released->{fence} == $model->{fences}{$w}
		  && !$model->{forced}{$w}
		  && same($released->{role}, $session->{role})
		  && same($released->{run}, $session->{run});
		return refused('55000');
	},

	# tfstate_lock() in both modes
	durable => sub { return sql_lock(@_, 1) },
	session => sub { return sql_lock(@_, 0) },

	# tfstate_unlock() with the holder's ID
	unlock_id => sub {
		my ($model, $number, $w) = @_;
		my $session = $model->{sessions}{$number};
		my $holding = is_live($model, $w);

		return refused('42501') unless may_lock($session, $w);
		return refused('55000') unless $holding;
		return refused('55000')
		  if !$holding->{durable} && $holding->{serial} != $session->{serial};
		return refused('42501') unless acts($session, $holding);
		return done(sub { release($_[0], $w) });
	},

	# tfstate_unlock() without an ID
	unlock => sub {
		my ($model, $number, $w) = @_;
		my $session = $model->{sessions}{$number};
		my $holding = is_live($model, $w);

		return refused('42501') unless may_lock($session, $w);
		return refused('55000') unless $holding && is_own($session, $holding);
		return refused('42501') unless acts($session, $holding);
		return done(sub { release($_[0], $w) });
	},

	# tfstate_force_unlock(), which only the superuser may
	force => sub {
		my ($model, $number, $w) = @_;
		my $session = $model->{sessions}{$number};
		my $holding = is_live($model, $w);

		return refused('42501') if defined $session->{role};
		return refused('55000') unless $holding;
		return refused('55006')
		  if !$holding->{durable} && $holding->{serial} != $session->{serial};
		return done(sub { release($_[0], $w); $_[0]{forced}{$w} = 1 });
	},

	# What changes a session
	role => sub {
		my ($model, $number, $role) = @_;
		return done(sub { $_[0]{sessions}{$number}{role} = $role });
	},
	run => sub {
		my ($model, $number, $run) = @_;
		return done(sub { $_[0]{sessions}{$number}{run} = $run });
	},
	mode => sub {
		my ($model, $number, $durable) = @_;
		return done(sub { $_[0]{sessions}{$number}{durable} = $durable });
	},
	discard => sub {
		my ($model, $number) = @_;
		return done(sub { reconnect($_[0], $number) });
	},
	reconnect => sub {
		my ($model, $number) = @_;
		return done(sub { reconnect($_[0], $number) });
	},);

sub sql_lock
{
	my ($model, $number, $w, $durable) = @_;

	return refused('42501') unless may_lock($model->{sessions}{$number}, $w);
	return refused('55P03') if is_live($model, $w);
	return done(take($w, $number, durable => $durable, sql => defined $model->{sessions}{$number}{run}));
}

sub predict
{
	my ($model, $operation, $number, $argument) = @_;
	return $operations{$operation}->($model, $number, $argument);
}

1;
