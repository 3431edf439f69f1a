# The reference is what doc/reference.sh generates from the comments of this version
# (doc/reference/functions.md, views.md, settings.md and sqlstates.md) and from the help of the
# client (doc/reference/client.md), and names each SQLSTATE that the library raises as PL/pgSQL does.

use strict;
use warnings;

use File::Copy qw(copy);
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('reference');
my $doc = "$FindBin::RealBin/../../doc";
my $tmp = PostgreSQL::Test::Utils::tempdir();

copy($_, $tmp) or die "$_: $!" foreach glob("$doc/reference/*.md");
{
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');
	command_ok([ 'perl', "$doc/reference.pl", $tmp ], 'the reference is generated');
}
foreach my $page (map { s{.*/}{}r } glob("$doc/reference/*.md"))
{
	my $new = slurp_file("$tmp/$page");
	my @old = split(/\n/, slurp_file("$doc/reference/$page"));
	my %old = map { $_ => 1 } @old;

	ok($new eq slurp_file("$doc/reference/$page"), "$page is what bash doc/reference.sh generates")
	  or diag(join("\n", 'new lines:', grep { !$old{$_} } split(/\n/, $new)));
}

# SQLSTATEs that the sources raise, except as internal errors and warnings
my ($includes) = run_command([ 'pg_config', '--includedir-server' ]);
my %code = slurp_file("$includes/utils/errcodes.h") =~ /^#define (ERRCODE_\w+) MAKE_SQLSTATE\(([^)]*)\)/mg;
my %raised;
foreach my $file (glob("$doc/../src/*.c $doc/../src/{common,lock,state}/*.[ch]"))
{
	$raised{$_} = 1 foreach slurp_file($file) =~ /errcode\((ERRCODE_\w+)\)/g;
}
my $page = slurp_file("$doc/reference/sqlstates.md");
foreach my $name (sort grep { !/WARNING|INTERNAL_ERROR/ } keys %raised)
{
	my $sqlstate = join('', $code{$name} =~ /'(.)'/g);
	ok($page =~ /\b$sqlstate\b/, "$sqlstate ($name) is in the reference");
}

# Names of SQLSTATEs are PL/pgSQL's.
my %named = $page =~ /^\| (\w{5}) \| `(\w+)` \|/mg;
cmp_ok(scalar(keys %named), '>', 20, 'SQLSTATEs have names');
is($node->safe_psql('postgres', "DO \$\$ BEGIN RAISE $named{$_}; EXCEPTION WHEN SQLSTATE '$_' THEN SET tfstate.operation = '$_'; END \$\$; SHOW tfstate.operation"),
	$_, "$_ is $named{$_}") foreach sort keys %named;

done_testing();
