# The pages of the manual hang together: links lead to a file and a heading that exist, all
# pages are in the table of contents, files that are named anywhere in the tree exist, and the
# README is short.

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Spec;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Manual;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my @pages = manual_pages();
my @texts = sort map { s{^\Q$root\E/}{}r } glob("$root/*.md $root/doc/*.md $root/doc/*/*.md $root/sql/install/*.md");

# Returns the anchors of a page as GitHub makes them of its headings.
sub anchors
{
	my ($page) = @_;
	my $text = slurp_file("$root/$page") =~ s/^```.*?^```$//msgr;
	return map { s/[^\w\- ]//gr =~ tr/ /-/r } map { lc } $text =~ /^#+ (.*?) *$/mg;
}

foreach my $page (@texts)
{
	my $text = slurp_file("$root/$page") =~ s/^```.*?^```$//msgr =~ s/`[^`\n]*`//gr;

	foreach my $link ($text =~ /\]\(([^)\s]+)\)/g)
	{
		next if $link =~ /^https?:/;
		my ($file, $anchor) = $link =~ /^([^#]*)(?:#(.*))?$/;
		my $target = $file eq '' ? $page : File::Spec->catfile(dirname($page), $file);

		1 while $target =~ s{(^|/)[^/.]+/\.\./}{$1};
		$target =~ s{^\./}{};
		ok(-e "$root/$target", "$page: $link exists") or next;
		ok((grep { $_ eq $anchor } anchors($target)) == 1, "$page: $link has such a heading") if defined $anchor;
	}
}

my $contents = slurp_file("$root/doc/README.md");
is(join(' ', grep { !/README/ && index($contents, '(' . s{^doc/}{}r . ')') < 0 } @pages), '', 'all pages are in the table of contents');

# Texts and programs name files of doc/ that exist.
foreach my $file (map { glob("$root/$_") } '*.md', 'Makefile', 'doc/tfstate.1', 'debian/*', 'src/*/*', 'sql/*.sql', 'sql/install/*', 'test/*.sh', 'test/lib/*', 'test/t/*', 'bench/*')
{
	next if !-f $file || $file =~ /005_manual/;
	my %named = map { $_ => 1 } slurp_file($file) =~ m{(?<![\w/])(doc/[\w/.-]+\.md)\b}g;

	is(join(' ', grep { !-e "$root/$_" } sort keys %named), '', $file =~ s{^\Q$root\E/}{}r . ' names pages that exist') if %named;
}

my @words = split(' ', slurp_file("$root/README.md"));
cmp_ok(scalar(@words), '<=', 1200, 'the README has at most 1,200 words');

done_testing();
