# From PostgreSQL 18 on, an extension may be in directories of its own, which the settings
# extension_control_path and dynamic_library_path name, as CloudNativePG mounts its volumes: the
# layout is that of the target "volume" in Containerfile.

use strict;
use warnings;

use FindBin;
use File::Copy;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('path');
$node->init(extra => [ '-E', 'UTF8', '--locale=C' ]);
$node->start;
plan skip_all => 'extension_control_path is new in PostgreSQL 18'
  if $node->safe_psql('postgres', 'SHOW server_version_num') < 180000;

my $volume = PostgreSQL::Test::Utils::tempdir();
mkdir "$volume/$_" or die "$volume/$_: $!" foreach qw(lib share share/extension);
foreach my $file (glob($node->config_data('--sharedir') . '/extension/tfstate*'))
{
	copy($file, "$volume/share/extension") or die "$file: $!";
}
copy($node->config_data('--pkglibdir') . '/tfstate.so', "$volume/lib") or die "tfstate.so: $!";
chmod 0755, "$volume/lib/tfstate.so";
$node->append_conf('postgresql.conf', qq(
extension_control_path = '$volume/share:\$system'
dynamic_library_path = '$volume/lib:\$libdir'
));
$node->restart;

# The library that the session has loaded
sub library
{
	my ($maps) = @_;
	my %seen;
	return join(" ", grep { !$seen{$_}++ } slurp_file($maps) =~ m,(/\S*/tfstate\.so)$,mg);
}

my $background = $node->background_psql('postgres');
$background->query_safe("CREATE EXTENSION tfstate");
is($background->query_safe("SELECT fence > 0 FROM tfstate_lock('a', mode => 'session')"), 't', 'a lock is taken');
my $pid = $background->query_safe('SELECT pg_backend_pid()');
is(library("/proc/$pid/maps"), "$volume/lib/tfstate.so", 'by the library of the volume');
is($background->query_safe("SELECT tfstate_unlock('a') ->> 'Path'"), 'a', 'and released');
$background->quit;
is($node->safe_psql('postgres', "CREATE DATABASE old; SELECT count(*) > 0 FROM pg_available_extension_versions WHERE name = 'tfstate' AND version = '0.1'"),
	't', 'the versions of the volume are available');
is($node->safe_psql('old', q(CREATE EXTENSION tfstate VERSION '0.1'; SELECT tfstate_lock('a', '{"ID": "id"}') IS NOT NULL; ALTER EXTENSION tfstate UPDATE;
	SELECT locked FROM tfstate_try_lock('a'))), "t\nf", 'one is installed and updated from there');

done_testing();
