# sql/install/update.pl OLD NEW BY_HAND
#
# Prints the script that updates the extension from the script OLD to the script NEW.  BY_HAND
# has what cannot be told from the two, such as ALTER TABLE, and a comment where that goes which
# can: each statement of NEW that OLD does not have or that belongs to an object that is made
# anew, in the order of NEW.
#
# Functions, procedures, views and triggers are replaced.  A function whose arguments or result
# have changed is dropped first, as is one that NEW does not have; an object that BY_HAND drops
# is made anew, and one that it names after "-- stays:" is left.  A DO of NEW runs in each
# update, with what stands there after "-- in an update:".  What is left for BY_HAND is printed
# as a comment; test/t/304_update.pl fails then.

use strict;
use warnings;

# A token that contains no end of a statement
my $token = qr/--[^\n]*|\/\*.*?\*\/|'(?:[^']|'')*'|"[^"]*"|(\$\w*\$).*?\g{-1}|\w+|./s;

# The statements of a script, without the comments and psql's commands before each.
sub statements
{
	my ($file) = @_;
	open(my $in, '<', $file) or die "$file: $!\n";
	my $text = join('', grep { !/^\\/ } <$in>);
	close($in);

	my @statements;
	my ($statement, $depth) = ('', 0);
	while ($text =~ /\G($token)/gc)
	{
		my $found = $1;

		next if $statement eq '' && $found =~ /^(\s|--|\/\*)/;
		$depth++ if $found eq 'ATOMIC' || $found eq 'CASE' && $depth > 0;
		$depth-- if $found eq 'END' && $depth > 0;
		if ($found eq ';' && $depth == 0)
		{
			push @statements, $statement;
			$statement = '';
		}
		else
		{
			$statement .= $found;
		}
	}
	die "$file: no end of a statement\n" if $statement ne '' || $depth != 0;
	return @statements;
}

# The kind and the name of what a statement creates, comments on, grants or changes.
sub object
{
	my ($statement) = @_;

	return () unless $statement =~ /^(?:CREATE(?:\ OR\ REPLACE)?|ALTER|DROP|COMMENT\ ON|(?:GRANT|REVOKE)\ [\w\s,()]*?\ ON)\s+
		(?:UNLOGGED\ )?(FUNCTION|PROCEDURE|VIEW|TABLE|TYPE|SEQUENCE|INDEX|COLUMN|SCHEMA|TRIGGER|CAST)?\s*
		(?:IF\ EXISTS\ )?((?:[\w.@]+|\((?:[\w\s\[\].]+)\ AS\ .*?\)))/x;
	my ($kind, $name) = ($1 // 'TABLE', $2);
	$name =~ s/\.\w+$// if $kind eq 'COLUMN';
	$name =~ s/^.*\.// if $kind eq 'INDEX';	# CREATE INDEX has no schema
	$kind = 'TABLE' if $kind =~ /^(VIEW|COLUMN)$/;
	$kind = 'FUNCTION' if $kind eq 'PROCEDURE';
	return ($kind, $name);
}

# What CREATE OR REPLACE FUNCTION cannot change: the arguments without their defaults, and the
# result.
sub fixed
{
	my ($statement) = @_;
	my ($head) = $statement =~ /^(.*?)\n(?:AS|LANGUAGE)\b/s or die "no function: $statement\n";

	$head =~ s/\s+DEFAULT\s+(?:'[^']*'|[^,()'])+//g;
	return $head =~ s/\s+/ /gr;
}

my ($old_file, $new_file, $by_hand_file) = @ARGV;
my @old = statements($old_file);
my @new = statements($new_file);
my @by_hand = statements($by_hand_file);
my %is_old = map { $_ => 1 } @old;
my %is_new = map { $_ => 1 } @new;
my %is_by_hand = map { $_ => 1 } @by_hand;
my (%existed, %remade, %stays, @dropped, @changes, @left);

# Each function has a comment, which tells the types of its arguments.
my %signatures;
foreach (@old)
{
	push @{ $signatures{$1} }, $2 if /^COMMENT ON (?:FUNCTION|PROCEDURE)\s+([\w.@]+)(\(.*?\))\s+IS\b/s;
	$existed{ join ' ', object($_) } = $_ if /^CREATE/;
}
foreach (@by_hand)
{
	$remade{ join ' ', object($_) } = 1 if /^DROP/;
}
open(my $notes, '<', $by_hand_file) or die "$by_hand_file: $!\n";
while (<$notes>)
{
	$stays{$1} = 1 if /^-- stays: (.*)$/;
}
close($notes);
foreach my $statement (grep { /^CREATE/ } @old)
{
	my ($kind, $name) = object($statement);
	my ($now) = grep { /^CREATE/ && join(' ', object($_)) eq "$kind $name" } @new;

	next if $remade{"$kind $name"};
	if ($kind eq 'FUNCTION' && (!$now || fixed($now) ne fixed($statement)))
	{
		die "$name: there are several functions of this name\n" if @{ $signatures{$name} } > 1;
		push @dropped, ($statement =~ /^CREATE PROCEDURE/ ? 'DROP PROCEDURE ' : 'DROP FUNCTION ') . $name . $signatures{$name}[0];
		$remade{"$kind $name"} = 1;
	}
	elsif (!$now && !$stays{"$kind $name"})
	{
		push @left, "DROP $kind $name";
	}
}
foreach my $statement (@new)
{
	my $key = join ' ', object($statement);

	if ($statement =~ /^DO\b/)
	{
		push @changes, $statement =~ s/^-- in an update://gmr;
	}
	elsif (!$key)
	{
		push @changes, $statement if !$is_old{$statement};
	}
	elsif ($is_by_hand{$statement} || $is_old{$statement} && !$remade{$key})
	{
		next;
	}
	elsif ($statement =~ /^CREATE (FUNCTION|PROCEDURE|VIEW|TRIGGER)/ && $existed{$key} && !$remade{$key})
	{
		push @changes, $statement =~ s/^CREATE/CREATE OR REPLACE/r;
	}
	elsif ($statement =~ /^CREATE/ && $existed{$key} && !$remade{$key})
	{
		push @left, $statement;
	}
	else
	{
		push @changes, $statement;
	}
}
foreach my $statement (grep { /^(GRANT|REVOKE)/ && !$is_new{$_} } @old)
{
	my $key = join ' ', object($statement);
	push @left, "what takes back: $statement" unless $remade{$key} || grep { join(' ', object($_)) eq $key && /^(GRANT|REVOKE)/ } @by_hand;
}

open(my $in, '<', $by_hand_file) or die "$by_hand_file: $!\n";
while (<$in>)
{
	print;
	if (/^-- Here follows /)
	{
		print "\n$_;\n" foreach @dropped, @changes;
		print map { s/^/-- by hand: /gmr . "\n" } @left;
	}
}
