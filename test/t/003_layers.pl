# The three floors of the library: src/common, src/lock and src/state.  A file uses symbols
# and headers of its own floor and of those below it, and no two files need each other.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../../src";
my @floors = qw(common lock state .);
my %height = map { $floors[$_] => $_ } 0 .. $#floors;

# lock for lock/wait
sub floor
{
	my ($file) = @_;
	return $file =~ m,(.*)/, ? $1 : '.';
}

# What an object defines, or uses without defining it
sub symbols
{
	my ($file, @options) = @_;
	open(my $nm, '-|', 'nm', '-P', '-g', @options, "$root/$file.o") or die "nm: $!";
	my @symbols = map { (split)[0] } <$nm>;
	close($nm) or die "nm $file.o failed";
	return @symbols;
}

my @files = map { s,^\Q$root\E/,,r =~ s/\.o$//r } sort glob("$root/{,common/,lock/,state/}*.o");
cmp_ok(scalar(@files), '>', 30, 'the library has been built');

my (%defined_in, %uses);
foreach my $file (@files)
{
	$defined_in{$_} = $file foreach symbols($file, '--defined-only');
}
foreach my $file (@files)
{
	my %used = map { $_ => $defined_in{$_} } grep { $defined_in{$_} } symbols($file, '-u');
	my @above = grep { $height{ floor($used{$_}) } > $height{ floor($file) } } sort keys %used;

	is_deeply(\@above, [], "$file uses no symbol of a floor above it");
	$uses{$file} = [ sort keys %{ { reverse %used } } ];
}

# All files that a file needs, by however many others
sub needs
{
	my ($file) = @_;
	my %needed;
	my @open = @{ $uses{$file} };
	while (defined(my $next = shift @open))
	{
		push @open, @{ $uses{$next} } unless $needed{$next}++;
	}
	return \%needed;
}

foreach my $file (@files)
{
	my $needed = needs($file);
	my @circle = grep { needs($_)->{$file} } sort keys %$needed;

	is_deeply(\@circle, [], "$file is needed by no file that it needs");
}

foreach my $path (sort glob("$root/{,common/,lock/,state/}*.[ch]"))
{
	my $file = $path =~ s,^\Q$root\E/,,r;
	foreach my $header (slurp_file($path) =~ /^#include "((?:common|lock|state)\/[^"]+)"/mg)
	{
		next unless -e "$root/$header";    # the server's headers have a folder common, too
		my ($only) = slurp_file("$root/$header") =~ /For (src\/\w+) only\./;

		cmp_ok($height{ floor($header) }, '<=', $height{ floor($file) }, "$file includes $header from no floor above it");
		is("src/" . floor($file), $only, "$file may include $header") if $only;
	}
}

done_testing();
