# Each patch in test/mutants/, a deliberate bug, applies to the sources, says what a user would
# see, and names an existing test (test/mutants.sh runs them).

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my %files = (
	regress => "$root/sql/%s.sql",
	isolation => "$root/test/specs/%s.spec",
	tap => "$root/test/t/%s.pl");

my @patches = sort glob("$root/test/mutants/*.patch");
cmp_ok(scalar(@patches), '>', 30, 'there are more than 30 patches');
foreach my $patch (@patches)
{
	my ($name) = $patch =~ m,([^/]*)\.patch$,;
	my ($head, $diff) = split(/\n\n/, slurp_file($patch), 2);
	my ($file) = $diff =~ /^\+\+\+ b\/(\S+)\n/m;
	my ($kind, $test) = $head =~ /\A\S.*\.\nCaught by: (\w+) ([\w-]+)(?: from PostgreSQL \d+)?\z/s;
	my $source = slurp_file("$root/$file");
	my (undef, @hunks) = split(/^@@ .* @@.*\n/m, $diff);

	ok($kind && $files{$kind} && -e sprintf($files{$kind}, $test), "$name says what it does, and names an existing test");
	foreach my $hunk (@hunks)
	{
		my $old = join('', map { /^[- ](.*)/s ? $1 : () } split(/^/m, $hunk));

		cmp_ok(index($source, $old), '>=', 0, "$name applies to $file");
	}
}

done_testing();
