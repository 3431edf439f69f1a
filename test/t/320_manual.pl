# The manual is true: each page without Terraform is run, as test/lib/Manual.pm says, in a
# database of its own; the others are run by 417_terraform_manual.pl.  The reference of objects
# and settings is complete.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Manual;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('manual', conf => "listen_addresses = '127.0.0.1'\nfsync = off\n");

foreach my $page (manual_pages())
{
	run_page($node, $page) if ((page_blocks($page))[1]{needs} // '') ne 'terraform';
}

# The reference lists what \df tfstate*, \df tfstate_pg.* and \dv show, and nothing else.
# "(...)" stands for the arguments that the row above has.
sub arguments
{
	my ($arguments) = @_;
	return join(', ',
		map { s/^IN //r =~ s/::[a-z ]+(?:\[\])?//r =~ s/'00:00:00'/'0'/r }
		grep { !/^(?:IN)?OUT / } split(/, /, $arguments));
}

my $reference = slurp_file("$FindBin::RealBin/../../doc/reference/functions.md");
my %listed = map { $_ => 1 } map { /`(?:CALL )?(tfstate_[^`]+)`/g } map { /^\| (.*?) \| / } split(/\n/, $reference);
my %there = map { $_ => 1 } split(
	/\n/,
	$node->safe_psql(
		'postgres',
		"SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'tfstate%'"));
foreach my $function (
	split(
		/\n/,
		$node->safe_psql(
			'postgres', q(
		SELECT CASE WHEN n.nspname = 'tfstate_pg' THEN 'tfstate_pg.' ELSE '' END || p.proname, pg_get_function_arguments(p.oid)
		  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
		 WHERE n.nspname = 'tfstate_pg' OR n.nspname = 'public' AND p.proname LIKE 'tfstate%'))))
{
	my ($name, $arguments) = split(/\|/, $function, 2);
	my $signature = "$name(" . arguments($arguments) . ')';

	$signature = "$name(...)" if !$listed{$signature} && $listed{"$name(...)"};
	$there{$signature} = 1;
}
is_deeply([ sort keys %listed ], [ sort keys %there ], 'the reference is complete');

# So is the list of settings, with their defaults.
my %default = slurp_file("$FindBin::RealBin/../../doc/reference/settings.md") =~ /^\| `(tfstate\.\w+)` \| (?:`(.*?)` )?\|/mg;
is( join("\n", map { "$_=" . ($default{$_} // '') } sort keys %default),
	$node->safe_psql('postgres', "SELECT tfstate_matches('', '') \\g /dev/null\n"
		  . "SELECT format('%s=%s', name, current_setting(name)) FROM pg_settings WHERE name LIKE 'tfstate.%' ORDER BY 1;"),
	'the settings are complete');

done_testing();
