# test/lib/StateModel.pm
#
# Random states, and a model of what tfstate does with them: which it refuses, which versions
# it records and which of them it removes.
#
# next_state	returns a state that may follow that of a workspace; state_with, resource_of,
#				random_resource, garbage and new_lineage make its parts, or other states
# text_of		returns the text of a state
# newest		returns the newest version of a workspace
# is_recorded	returns true if the row of a workspace is its newest version
# model_...		does to the model what a call does, and returns the expected SQLSTATE
#
# A workspace of the model is a hash.  row: the state in its table, undef if it has no
# row; versions: by number, hashes with operation, state (undef for a deletion), serial,
# lineage and old; newest: the highest number; keep: what its table keeps, which is so many
# of the newest versions and, if age is true, those that are not old.
package StateModel;

use strict;
use warnings;

use Exporter 'import';
use List::Util   qw(max);
use MIME::Base64 qw(encode_base64);
use TestServer;

our @EXPORT = qw(%done
  next_state state_with resource_of random_resource garbage text_of new_lineage
  newest is_recorded
  model_write model_delete model_rollback model_undelete model_repair model_prune model_age);

# As in prune.c
my $min_versions = 2;
my $prune_every = 32;
my $large = 64 * 1024;

# How often each thing was recorded or done
our %done;

#
# States.  A state consists of the text before its serial, the serial and the text after
# it, so that the model need not parse JSON.
#

sub random_bytes
{
	my ($bytes) = @_;
	return join('', map { chr(rand 256) } 1 .. $bytes);
}

sub resource_of
{
	my ($n, $value) = @_;
	return
	  qq({"mode":"managed","type":"aws_instance","name":"r$n","serial":$n,"instances":[{"attributes":{"id":"$n","value":"$value"}}]});
}

sub random_resource
{
	my $n = int(rand 1_000_000);
	my $value = choose(
		sprintf('i-%08x', $n),
		"Z\xc3\xbcrich \xe6\x9d\xb1\xe4\xba\xac \xf0\x9f\x94\x92 $n",
		'line\\n\\"quoted\\" \\u00e9 \\\\ ' . $n,
		'x' x rand(2000),
		encode_base64(random_bytes(rand 500), ''));

	return resource_of($n, $value);
}

# Returns a state with these resources, or an encrypted one if there is no list of them.
sub state_with
{
	my ($serial, $lineage, $resources) = @_;
	my %state = (serial => $serial, lineage => $lineage, resources => $resources);

	if (!$resources)
	{
		$state{encrypted} = 1;
		$state{before} = '{"serial":';
		$state{after} = qq(,"lineage":"$lineage","meta":{"key":"a"},"encrypted_data":")
		  . encode_base64(random_bytes(200 + rand 20_000), '') . '"}';
	}
	elsif (rand() < 0.1)
	{
		$state{before} =
		  qq({"resources":[) . join(',', @$resources) . qq(],"lineage":"$lineage","serial": );
		$state{after} = '}';
	}
	else
	{
		$state{before} = qq({\n  "version": 4,\n  "terraform_version": "1.11.4",\n  "serial": );
		$state{after} =
			qq(,\n  "lineage": "$lineage",\n  "outputs": {},\n  "resources": [\n    )
		  . join(",\n    ", @$resources)
		  . qq(\n  ],\n  "check_results": null\n}\n);
	}
	return \%state;
}

# Returns a text that is no state.
sub garbage
{
	return { before => choose('', 'no JSON', '[1, 2]', "\xe6\x9d\xb1"), after => '' };
}

sub text_of
{
	my ($state) = @_;
	return $state->{before} . ($state->{serial} // '') . $state->{after};
}

sub same_text
{
	my ($one, $other) = @_;
	return $one && $other ? text_of($one) eq text_of($other) : !$one && !$other;
}

my $lineages = 0;

sub new_lineage
{
	return sprintf('00000000-0000-4000-8000-%012d', ++$lineages);
}

# Returns what Terraform could write over the state in the row.
sub next_state
{
	my ($row) = @_;
	my $serial = ($row && $row->{serial} // int(rand 5)) + 1 + int(rand 3);
	my $lineage = $row && $row->{lineage} || new_lineage();
	my @resources = @{ $row && $row->{resources} || [] };
	my $change = rand();

	if ($change < 0.45)
	{
		$resources[ rand @resources ] = random_resource();
	}
	elsif ($change < 0.6)
	{
		push @resources, map { random_resource() } 0 .. rand 30;
	}
	elsif ($change < 0.75)
	{
		@resources = map { rand() < 0.5 ? $_ : random_resource() } @resources;
	}
	elsif ($change < 0.85)
	{
		@resources = ();
	}
	elsif ($change < 0.9)
	{
		return state_with($serial, $lineage, undef);
	}
	splice(@resources, 60);
	return state_with($serial, $lineage, \@resources);
}

#
# The model of the functions.  Each returns the expected SQLSTATE, or an empty string.
#

sub newest
{
	my ($w) = @_;
	return $w->{versions}{ $w->{newest} };
}

# Returns true if the row is the newest version.
sub is_recorded
{
	my ($w) = @_;
	my $newest = newest($w);

	return $newest ? same_text($newest->{state}, $w->{row}) : !$w->{row};
}

# Adds a version; described is the state that has its serial and lineage.
sub add_version
{
	my ($w, $operation, $state, $described) = @_;

	$done{$operation}++;
	$w->{versions}{ ++$w->{newest} } = {
		operation => $operation,
		state => $state,
		serial => $described->{serial},
		lineage => $described->{lineage}
	};
	return;
}

sub model_prune
{
	my ($w, $keep) = @_;
	return '' unless %$keep;
	my $count = $keep->{versions} || ($keep->{age} ? $min_versions : 1e9);
	my $below = $w->{newest} - max($count, $min_versions) + 1;

	foreach my $number (sort { $a <=> $b } keys %{ $w->{versions} })
	{
		last if $number >= $below;
		last if $keep->{age} && !$w->{versions}{$number}{old};
		delete $w->{versions}{$number};
		$done{pruned}++;
	}
	return '';
}

# Records the row, if it was changed with the triggers bypassed, and what replaces it.
sub record
{
	my ($w, $state) = @_;

	add_version($w, 'found', $w->{row}, $w->{row}) if $w->{row} && !is_recorded($w);
	add_version($w, $state ? 'write' : 'delete', $state, $state || $w->{row});
	$w->{row} = $state;
	model_prune($w, $w->{keep})
	  if !$state || length(text_of($state)) <= $large || $w->{newest} % $prune_every == 0;
	return '';
}

# Returns the SQLSTATE if a session may not replace the row by a state.
sub check_write
{
	my ($w, $session, $state) = @_;
	my $row = $w->{row};

	return '' if !$row || !defined $row->{serial};
	my $empty = $row->{resources} && !@{ $row->{resources} };
	my $same_lineage = $row->{lineage} eq $state->{lineage};
	return '' if $empty && ($row->{serial} == 0 || !$same_lineage);
	return '55000' if !$same_lineage;
	return '' if $state->{serial} > $row->{serial};
	$session->{refused}{$w} = 1;
	return '55000';
}

# A session writes a state.  how: 'locked' under its lock, 'off' with tfstate.guard = off.
sub model_write
{
	my ($w, $session, $state, $how) = @_;
	my $error = '';

	delete $session->{refused}{$w} if $how eq 'locked';
	return '55000' if $session->{refused}{$w} && $how ne 'off';
	return '' if same_text($w->{row}, $state);
	$error = check_write($w, $session, $state) if $how ne 'off';
	$done{refused}++ if $error;
	return $error || record($w, $state);
}

sub model_delete
{
	my ($w) = @_;
	return $w->{row} ? record($w, undef) : '';
}

# Returns the serial of the newest version that has one.
sub last_serial
{
	my ($w) = @_;
	my ($number) =
	  grep { defined $w->{versions}{$_}{serial} } sort { $b <=> $a } keys %{ $w->{versions} };

	return $number ? $w->{versions}{$number}{serial} : 0;
}

sub model_rollback
{
	my ($w, $session, $number) = @_;
	my $version = $w->{versions}{$number};

	return '42704' unless $version;
	return '55000' unless $version->{state};
	return '22032' unless defined $version->{state}{serial};
	my $state = { %{ $version->{state} } };
	$state->{serial} =
	  1 + max($state->{serial}, last_serial($w), $w->{row} && $w->{row}{serial} // 0)
	  unless $state->{encrypted};
	delete $session->{refused}{$w};
	$done{rollback}++;
	return same_text($w->{row}, $state) ? '' : record($w, $state);
}

sub model_undelete
{
	my ($w, $session) = @_;

	return '42704' unless newest($w);
	my $state = newest($w)->{state};
	return '55000' if $state && $w->{row};
	$done{undelete}++;
	return model_rollback($w, $session, $w->{newest} - ($state ? 0 : 1));
}

sub model_repair
{
	my ($w) = @_;

	if (!is_recorded($w))
	{
		add_version($w, $w->{row} ? 'found' : 'delete', $w->{row}, $w->{row} || newest($w));
		$done{repair}++;
	}
	return newest($w) ? '' : '42704';
}

# Makes the versions up to a number old.
sub model_age
{
	my ($w, $number) = @_;

	$_->{old} = 1
	  foreach map { $w->{versions}{$_} = { %{ $w->{versions}{$_} } } }
	  grep { $_ <= $number } keys %{ $w->{versions} };
	return '';
}

1;
