# The manual is true: each page without Terraform is run, as test/lib/Manual.pm says, in a
# database of its own; the others are run by 417_terraform_manual.pl.

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

done_testing();
