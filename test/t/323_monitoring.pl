# What monitoring/ has fits tfstate_metrics: doc/howto/monitoring.md, the queries for exporters, the
# alerts and the dashboard know the metrics that there are, and no others.  Where the programs are
# installed, postgres_exporter and promtool run what is for them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $root = "$FindBin::RealBin/../..";
my $files = "$root/monitoring";
my $node = tfstate_node('monitoring');
$node->safe_psql('postgres', q(CREATE ROLE monitor LOGIN IN ROLE pg_monitor; SELECT tfstate_attach('tf')));

my @metrics = split /\n/,
  $node->safe_psql('postgres', 'SELECT name FROM tfstate_metrics UNION SELECT name FROM tfstate_slow_metrics ORDER BY 1');
my %is_metric = map { $_ => 1 } @metrics;
cmp_ok(scalar(@metrics), '>', 10, 'there are metrics');

# Returns the metrics that a text names.
sub named
{
	my ($text) = @_;
	my %names = map { $_ => 1 } $text =~ /\b(tfstate_\w+_(?:total|seconds|bytes|problems|locks|held|waiters)|tfstate_waiters)\b/g;
	return sort keys %names;
}

my $page = slurp_file("$root/doc/howto/monitoring.md");
is_deeply([ named($page) ], \@metrics, 'doc/howto/monitoring.md lists all metrics, and no others');

#
# Alerts
#

my $alerts = slurp_file("$files/alerts.yml");
is(join(' ', grep { !$is_metric{$_} } named($alerts)), '', 'the alerts use metrics that there are');
foreach my $alert ($alerts =~ /- alert: (\w+)/g)
{
	like($page, qr/^### $alert$/m, "doc/howto/monitoring.md says what to do for $alert");
	like($alerts, qr/runbook: doc\/howto\/monitoring\.md#\L$alert\E$/m, "$alert names that place");
}

#
# The dashboard
#

my $dashboard = decode_json(slurp_file("$files/grafana-dashboard.json"));
my @expressions = map { $_->{expr} } map { @{ $_->{targets} } } @{ $dashboard->{panels} };
cmp_ok(scalar(@expressions), '>', 10, 'the dashboard has queries');
is(join(' ', grep { !$is_metric{$_} } map { named($_) } @expressions), '', 'they use metrics that there are');
my %ids = map { $_->{id} => 1 } @{ $dashboard->{panels} };
is(scalar(keys %ids), scalar(@{ $dashboard->{panels} }), 'each panel has an id of its own');

#
# pgwatch: each query runs as a role that is a member of pg_monitor only
#

my $pgwatch = slurp_file("$files/pgwatch.yaml");
my @queries = $pgwatch =~ /^      15: [|]\n((?:        .*\n)+)/mg;
is(scalar(@queries), scalar(() = $pgwatch =~ /^    sqls:$/mg), 'each metric for pgwatch has a query');
foreach my $query (@queries)
{
	my ($result, $stdout, $stderr) = $node->psql('postgres', "\\pset format aligned\n\\pset tuples_only off\n$query", extra_params => [ '-U', 'monitor' ]);
	is($result, 0, 'a query for pgwatch runs') or diag($stderr);
	like($stdout, qr/epoch_ns/, 'and has the column that pgwatch asks for');
	unlike($stdout, qr/\(0 rows\)/, 'and rows');
}
is(join(' ', grep { !$is_metric{$_} } named(join('', @queries))), '', 'they use metrics that there are');

#
# The programs themselves
#

SKIP:
{
	skip 'promtool is not installed', 2 if !path_of('promtool');
	command_ok([ 'promtool', 'check', 'rules', "$files/alerts.yml" ], 'the alerts are valid');
	command_ok([ 'promtool', 'test', 'rules', "$files/alerts_test.yml" ], 'they fire when they should, and only then');
}

SKIP:
{
	skip 'prometheus-postgres-exporter or curl is not installed', 3 if !path_of('prometheus-postgres-exporter') || !path_of('curl');
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $host = $node->host;
	my ($log, $scraped) = ('', '');
	local $ENV{DATA_SOURCE_NAME} = "host=$host port=" . $node->port . ' user=monitor dbname=postgres sslmode=disable';
	my $exporter = IPC::Run::start([ 'prometheus-postgres-exporter', "--web.listen-address=127.0.0.1:$port",
		'--disable-default-metrics', '--disable-settings-metrics', "--extend.query-path=$files/postgres_exporter.yml" ],
		'>&', \$log);
	$node->safe_psql('postgres', q(SELECT tfstate_lock('a')));
	wait_for('the exporter', sub { IPC::Run::run([ 'curl', '-s', "http://127.0.0.1:$port/metrics" ], '>', \$scraped) && $scraped =~ /^tfstate/m });
	$exporter->kill_kill;
	my %scraped = map { $_ => 1 } $scraped =~ /^(tfstate\w+)[{ ]/mg;
	is_deeply([ sort keys %scraped ], \@metrics, 'postgres_exporter shows the metrics under their names');
	my %type = $scraped =~ /^# TYPE (tfstate\w+) (\w+)$/mg;
	is(join("\n", map { "$_|$type{$_}" } sort keys %type),
		$node->safe_psql('postgres', 'SELECT name, type FROM tfstate_metrics UNION SELECT name, type FROM tfstate_slow_metrics ORDER BY 1'),
		'and their types');
	like($scraped, qr/^tfstate_acquisitions_total\{mode="durable",[^}]*\} 1$/m, 'with their values');
}

$node->stop;
done_testing();
