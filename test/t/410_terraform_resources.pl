# tfstate_resources() and tfstate_outputs() list what Terraform's own commands list, for
# states written by Terraform; tfstate_diff() shows what an apply has changed; and all of
# them work on a standby.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('resources', init => { allows_streaming => 1 });
my $workspace = 'estate.states/default';

# All the ways in which Terraform addresses an instance
my $config = Terraform::pg_backend() . <<'END';
variable "size" {
  default = 3
}

resource "terraform_data" "plain" {
  input = "size ${var.size}"
}

resource "terraform_data" "kept" {
}

resource "terraform_data" "counted" {
  count = var.size
}

resource "terraform_data" "keyed" {
  for_each = toset([
    "", "0", "a b", "a/b.c[0]", "quote\"d", "back\\slash", "$${x}", "%%{y}", "100% $ $x $", "<&>",
    "tab\t", "new\nline", "return\r", "bell\u0007", "\u00a0\u2028\u200b\ue000", "\u00e9\u20ac\U0001f600"
  ])
}

module "one" {
  source = "./inner"
}

module "counted" {
  source = "./inner"
  count  = 2
}

module "keyed" {
  source   = "./inner"
  for_each = toset(["x y", "q\"q", "$${x}"])
}

output "plain" {
  value = { list = [1, null, "<x>"], id = terraform_data.plain.id }
}

output "password" {
  value     = "hush"
  sensitive = true
}
END
my $inner = <<'END';
resource "terraform_data" "keyed" {
  for_each = toset(["k", "l"])
}

data "terraform_remote_state" "other" {
  backend = "local"
  config  = { path = "${path.root}/other.tfstate" }
}

module "innermost" {
  source = "./innermost"
}
END
my $innermost = 'resource "terraform_data" "single" {}';

# Returns what a command prints, unchanged.
sub printed
{
	my ($project, @command) = @_;
	my $run = $project->start(@command);
	my ($status, $output) = $run->finish;

	die "terraform @command failed: $output" if $status != 0;
	return slurp_file($run->{log});
}

# Tests that tfstate_resources() lists the same addresses as Terraform.
sub same_addresses
{
	my ($project, $count, $test) = @_;
	my @ours = split(/\n/,
		sql("SELECT DISTINCT address FROM tfstate_resources('$workspace')"));
	my @theirs = split(/\n/, printed($project, 'state', 'list'));

	is(scalar(@theirs), $count, "$test: Terraform lists $count instances");
	is_deeply([ sort @ours ], [ sort @theirs ], "$test: tfstate_resources() lists the same");
	return;
}

attach($node, 'estate');
my $project = Terraform->new(
	$node,
	schema => 'estate',
	who => 'alice',
	config => $config,
	init => 0);
my $dir = $project->{dir};
mkdir "$dir/$_" or die "mkdir: $!" foreach 'inner', 'inner/innermost';
append_to_file("$dir/inner/main.tf", $inner);
append_to_file("$dir/inner/innermost/main.tf", $innermost);
append_to_file("$dir/other.tfstate",
	'{"version":4,"terraform_version":"1.11.4","serial":1,"lineage":"other","outputs":{},"resources":[]}');
$project->run_ok('init', 'init');
$project->apply_ok('apply');

# 21 instances in the root module, and 4 in each of the 6 instances of module inner
same_addresses($project, 45, 'after the apply');

my $ids = decode_json(printed($project, 'show', '-json'));
my %theirs = map { $_->{address} => $_->{values}{id} }
  @{ $ids->{values}{root_module}{resources} };
my %ours = map { split(/\|/, $_, 2) } split(
	/\n/,
	sql("SELECT address, id FROM tfstate_resources('$workspace')
		 WHERE module IS NULL AND index IS NULL"));
is_deeply(
	\%ours,
	{ map { $_ => $theirs{$_} } 'terraform_data.plain', 'terraform_data.kept' },
	'the ids are those that Terraform shows');
is( sql("SELECT string_agg(DISTINCT provider, ' ') FROM tfstate_resources()"),
	'provider["terraform.io/builtin/terraform"]',
	'the provider is shown');

# Outputs
my $outputs = decode_json(printed($project, 'output', '-json'));
my %listed = map {
	my ($name, $value, $type, $sensitive) = split(/\t/);
	$name => {
		value => decode_json($value),
		type => decode_json($type),
		sensitive => $sensitive eq 't' ? JSON::PP::true : JSON::PP::false
	}
} split(
	/\n/,
	sql("SELECT concat_ws(E'\\t', name, value, type, sensitive) FROM tfstate_outputs('$workspace')"));
is_deeply(\%listed, $outputs, 'the outputs are those that Terraform shows');

# A tainted instance
$project->run_ok('taint', 'taint', 'terraform_data.counted[1]');
is(sql('SELECT address FROM tfstate_resources() WHERE tainted'),
	'terraform_data.counted[1]', 'the tainted instance is shown');

# What an apply changes
my $version =
  sql("SELECT max(number) FROM tfstate_versions WHERE workspace = '$workspace'");
$project->run_ok('another apply', 'apply', '-auto-approve', '-var=size=2');
same_addresses($project, 44, 'after another apply');
is( sql("SELECT address, change, deposed FROM tfstate_diff('$workspace', $version)"),
	"terraform_data.counted[1]|changed|\n"
	  . "terraform_data.counted[2]|removed|\n"
	  . 'terraform_data.plain|changed|',
	'tfstate_diff() lists what the apply has changed');

# A deposed instance, beside a current one and alone
sql(q{
	SET tfstate.guard = off;
	UPDATE estate.states SET data = jsonb_set(
		jsonb_set(data::jsonb, '{serial}', to_jsonb((data::jsonb ->> 'serial')::int + 1)),
		'{resources}',
		(SELECT jsonb_agg(CASE r ->> 'name'
				WHEN 'kept' THEN jsonb_set(r, '{instances}', (r -> 'instances') || jsonb_set(r #> '{instances,0}', '{deposed}', '"a1b2c3d4"'))
				WHEN 'plain' THEN jsonb_set(r, '{instances,0,deposed}', '"00000001"')
				ELSE r END)
		   FROM jsonb_array_elements(data::jsonb -> 'resources') r))::text
	 WHERE name = 'default'});
same_addresses($project, 44, 'with deposed instances');
is( sql("SELECT address, deposed FROM tfstate_resources() WHERE name IN ('kept', 'plain') ORDER BY 1, 2"),
	"terraform_data.kept|a1b2c3d4\nterraform_data.kept|\nterraform_data.plain|00000001",
	'deposed instances are shown as such');

# On a standby
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay');
foreach my $query (
	"tfstate_resources('*')", "tfstate_outputs('*')",
	"tfstate_resources('$workspace')", "tfstate_diff('$workspace', $version)")
{
	my $result = $standby->safe_psql('postgres', "SELECT * FROM $query");

	isnt($result, '', "$query lists something on a standby");
	is($result, sql("SELECT * FROM $query"), "$query lists the same on a standby");
}

$project->run_ok('destroy', 'destroy', '-auto-approve');
is(sql('SELECT count(*) FROM tfstate_resources()'),
	0, 'after the destroy nothing is listed');

done_testing();
