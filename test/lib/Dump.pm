# test/lib/Dump.pm
#
# Compares a cluster with what it was before.
#
# dump_all		dumps all definitions, rights and settings of a server
# differences	returns the lines that only one of two dumps has
package Dump;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;

our @EXPORT = qw(dump_all differences);

# Dumps roles, their settings, all objects and all rights of a server.
sub dump_all
{
	my ($node) = @_;
	my ($dump) = run_command([ 'pg_dumpall', '-s', '-d', $node->connstr('postgres') ]);

	# newer ones have a random word there
	return join("\n", grep { !/^\\(un)?restrict / } split(/\n/, $dump)) . "\n";
}

# The lines that only one of two dumps has, with - before those of the first; the order of rights
# on an object is not kept.
sub differences
{
	my ($before, $after) = @_;
	my %count;

	$count{$_}-- foreach split(/\n/, $before);
	$count{$_}++ foreach split(/\n/, $after);
	return join("\n", map { ($count{$_} < 0 ? '-' : '+') . $_ } grep { $count{$_} } sort keys %count);
}

1;
