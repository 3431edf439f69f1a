# The pages of the manual in which Terraform runs are true, as test/lib/Manual.pm says.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Manual;
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = tfstate_node('terraform_manual', conf => "listen_addresses = '127.0.0.1'\nfsync = off\n");
my $bin = PostgreSQL::Test::Utils::tempdir();

symlink(program('path'), "$bin/terraform") or die $!;
$ENV{PATH} = "$bin:$ENV{PATH}";
$ENV{TF_CLI_ARGS} = '-no-color';
foreach my $page (manual_pages())
{
	run_page($node, $page) if ((page_blocks($page))[1]{needs} // '') eq 'terraform';
}

done_testing();
