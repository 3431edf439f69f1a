# test/lib/ShimModel.pm
#
# A model of who holds what: what each call of several sessions, roles and runs comes to.
#
# A model is a hash.
#
# sessions	by number: role (undef for the superuser who has logged in), run (a UUID, undef for
#			none), durable (tfstate.mode) and serial, a number that no session had before: it
#			is another one after a reconnect and after DISCARD ALL.  released: the lock that
#			it released last with the shim, hash of lockid, fence, role and run.  granted: has
#			the creation key been granted with a workspace, and not been unlocked since?
# held		by lockid: durable, role, run, serial (of the session that has it), fence, id,
#			created (was it exchanged for the creation key?) and key (what Terraform unlocks)
# rows		by workspace: id, serial and resources (how many)
# fences	by lockid: the last fence that it had
# forced	by lockid: was the last holding forced out?
# released_by	by lockid: the run that had it last, undef if that had no name; recorded: is
#			that in the history for sure?
#
# predict() returns the outcomes that are right for an operation: hashes with code, the
# SQLSTATE or an empty text, and change, what it does to the model.  Where more than one
# is right the server may choose.
package ShimModel;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(new_model reconnect predict is_live table_of name_of $creation);

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

# A session begins, in place of one that is gone.
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

# Is the session that took a lock still the same?
sub has_session
{
	my ($model, $holding) = @_;
	return grep { $_->{serial} == $holding->{serial} } values %{ $model->{sessions} };
}

# The holding of a lockid, undef if it is free, or was a dead session's.
sub is_live
{
	my ($model, $lockid) = @_;
	my $holding = $model->{held}{$lockid};

	return $holding && ($holding->{durable} || has_session($model, $holding)) ? $holding : undef;
}

# Does a session's role act for the one that took a lock?
sub acts
{
	my ($session, $holding) = @_;
	return !defined $session->{role} || same($session->{role}, $holding->{role});
}

# Is it the session that took it, for the run that it works for now?
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

# Take a lock, as the session is.
sub take
{
	my ($lockid, $number, %more) = @_;

	return sub {
		my ($model) = @_;
		my $session = $model->{sessions}{$number};

		$model->{held}{$lockid} = {
			role => $session->{role},
			run => $session->{run},
			serial => $session->{serial},
			%more
		};
		$model->{forced}{$lockid} = 0;
	};
}

sub release
{
	my ($model, $lockid, $session) = @_;
	my $holding = delete $model->{held}{$lockid};

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

# Take a lock through the shim: the outcomes, each followed by what else there is to do.
sub shim_take
{
	my ($model, $number, $lockid, $then, %more) = @_;
	my $session = $model->{sessions}{$number};
	my $holding = is_live($model, $lockid);

	return refused('22023') if $session->{durable} && !defined $session->{run};
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

	# L: lock an existing workspace
	L => sub {
		my ($model, $number, $w) = @_;
		my $session = $model->{sessions}{$number};
		my $row = $model->{rows}{$w} or return done();

		return refused('42501') unless may_lock($session, $w);
		return shim_take($model, $number, $w, sub { $_[0]{sessions}{$number}{granted} = 1 },
			key => $row->{id});
	},

	# Lc: lock the creation of workspaces
	Lc => sub {
		my ($model, $number) = @_;

		return shim_take($model, $number, $creation, sub { }, key => -1);
	},

	# U of the id that a workspace has, or had last
	U => sub {
		my ($model, $number, $w) = @_;
		my $session = $model->{sessions}{$number};
		my $holding = is_live($model, $w);
		my $row = $model->{rows}{$w};
		my $id = $row ? $row->{id} : $model->{last_id}{$w};
		my $released = done(sub { release($_[0], $w, $_[0]{sessions}{$number}) });

		# without a word of who has it
		return (refused('42501'), $row ? () : done()) if defined $id && !may_lock($session, $w);
		return done() unless $holding && defined $id;
		if (!is_ours($session, $holding))
		{
			return ($row ? () : done(), refused('55000'));
		}
		# the shim unlocks what it has locked, and need not unlock what tfstate_lock() has
		return ($released, $row && defined $holding->{key} ? () : refused('55000')) if $row;
		# by what the session remembers
		return $released if same($holding->{key}, $id) && is_own($session, $holding);
		return ($released, done(), refused('55000'));
	},

	# U of the creation key
	'U-1' => sub {
		my ($model, $number) = @_;
		my $session = $model->{sessions}{$number};
		my @ours =
		  grep { is_ours($session, is_live($model, $_)) && same($model->{held}{$_}{key}, -1) }
		  sort keys %{ $model->{held} };
		my $forget = sub { $_[0]{sessions}{$number}{granted} = 0 };
		my @outcomes;

		# what the session remembers, or else one that the run has
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
		push @outcomes, done($forget) if !@ours || $session->{granted};
		return @outcomes;
	},

	# P: write the next state
	P => sub {
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
		return done($write) if is_ours($session, $holding) && !$creates;
		# first the lock of the new workspace is taken
		my @taking = $creates ? ('55P03', $session->{durable} && !defined $session->{run} ? '22023' : ()) : ();
		return refused('55006', @taking) if $holding && !is_ours($session, $holding);
		return refused('55000') unless $creates;
		return shim_take(
			$model, $number, $w,
			sub { delete $_[0]{held}{$creation}; $write->($_[0]) },
			key => -1);
	},

	# D: delete a workspace
	D => sub {
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
		return done($delete) if is_ours($session, $holding);
		return refused('55006') if $holding;
		return done($delete) if $row->{resources} == 0;
		# another session of the run that had the last lock, too, if history tells
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

	# tfstate_unlock() without it
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
	return done(take($w, $number, durable => $durable));
}

sub predict
{
	my ($model, $operation, $number, $argument) = @_;
	return $operations{$operation}->($model, $number, $argument);
}

1;
