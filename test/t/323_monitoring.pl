# What monitoring/ has fits tfstate_metrics: doc/howto/monitoring.md, the queries for exporters, the
# alerts and the dashboard know the metrics that there are, and no others.  Then postgres_exporter
# and Prometheus run what is for them: each alert fires in its situation and in no other, and each
# query of the dashboard gets something.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use JSON::PP;
use Manual;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Prometheus;
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
my %taken;
foreach my $place (map { $_->{gridPos} } @{ $dashboard->{panels} })
{
	foreach my $x ($place->{x} .. $place->{x} + $place->{w} - 1)
	{
		$taken{"$x,$_"}++ foreach $place->{y} .. $place->{y} + $place->{h} - 1;
	}
}
is(join(' ', grep { $taken{$_} > 1 || /^(\d+)/ && $1 > 23 } sort keys %taken), '', 'and a place of its own');
is(join(' ', map { $_->{title} } grep { !$_->{fieldConfig}{defaults}{unit} } @{ $dashboard->{panels} }), '', 'and a unit');

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
# The programs themselves, set up as on the page, whose database is another one
#

my ($statements, $defaults, $configuration) =
  map { $_->{text} } grep { ($_->{'run by'} // '') =~ /323_monitoring/ } @{ (page_blocks('doc/howto/monitoring.md'))[0] };
my $database = 'states';
$node->safe_psql('postgres', "CREATE DATABASE $database");
$node->safe_psql($database, q(CREATE EXTENSION tfstate; SELECT tfstate_attach('tf')));

SKIP:
{
	skip 'promtool is not installed', 2 if !path_of('promtool');
	command_ok([ 'promtool', 'check', 'rules', "$files/alerts.yml" ], 'the alerts are valid');
	command_ok([ 'promtool', 'test', 'rules', "$files/alerts_test.yml" ], 'they fire when they should, and only then');
}

SKIP:
{
	skip 'prometheus-postgres-exporter is not installed', 1 if !path_of('prometheus-postgres-exporter');

	# as the page says, for another directory of sockets, and for a file from which it reads everything
	# each time, so that Prometheus sees a damaged state at once
	my $directory = PostgreSQL::Test::Utils::tempdir();
	append_to_file("$directory/queries.yml", slurp_file("$files/postgres_exporter.yml") =~ s/^  cache_seconds: \d+\n//mgr);
	$node->safe_psql($database, $statements);
	my ($source, $arguments) = $defaults =~ /^DATA_SOURCE_NAME='(.*)'\nARGS='(.*)'\n$/ or die $defaults;
	my $host = $node->host;
	is($source =~ s/host=\S+/"host=$host port=" . $node->port/e, 1, 'the page has a directory of sockets');
	is($arguments =~ s/=\S+\.yml$/=$directory\/queries.yml/, 1, 'and a path of the queries');
	local $ENV{DATA_SOURCE_NAME} = $source;
	my $exporter = start_program('--web.listen-address', 'prometheus-postgres-exporter', '--disable-default-metrics',
		'--disable-settings-metrics', split(/ /, $arguments));

	$node->safe_psql($database, q(SELECT tfstate_unlock('a') FROM tfstate_lock('a')));
	my $scraped = wait_for('the exporter', sub { my $answer = get("$exporter/metrics"); $answer && $answer =~ /^tfstate/m && $answer });
	my %scraped = map { $_ => 1 } $scraped =~ /^(tfstate\w+)[{ ]/mg;
	is_deeply([ sort keys %scraped ], \@metrics, 'postgres_exporter shows the metrics under their names');
	my %type = $scraped =~ /^# TYPE (tfstate\w+) (\w+)$/mg;
	is(join("\n", map { "$_|$type{$_}" } sort keys %type),
		$node->safe_psql($database, 'SELECT name, type FROM tfstate_metrics UNION SELECT name, type FROM tfstate_slow_metrics ORDER BY 1'),
		'and their types');
	like($scraped, qr/^tfstate_acquisitions_total\{mode="durable",[^}]*\} 1$/m, 'with their values');

	skip 'prometheus is not installed', 1 if !path_of('prometheus');
	# with limits of a second and without patience
	is($alerts =~ s/^ +for: \w+\n//mg, 3, 'three alerts are patient');
	is($alerts =~ s/> (4 \* 3600|1800)$/> 1/mg, 2, 'two have a limit in seconds');
	my $prometheus = start_prometheus($configuration =~ s/db\.example:9187/$exporter/r, 'tfstate-alerts.yml' => $alerts);

	# Waits until exactly these alerts fire, each with what its labels say.
	my $fires = sub
	{
		my ($test, @expected) = @_;
		my $firing = 'nothing';
		eval {
			wait_for('alerts', sub {
				my $answer = get("$prometheus/api/v1/alerts") or return 0;
				$firing = join(', ', sort map { join(' ', @{ $_->{labels} }{qw(alertname severity)}, $_->{labels}{what} || ()) =~ s/^Tfstate//r }
					  grep { $_->{state} eq 'firing' } @{ decode_json($answer)->{data}{alerts} });
				return $firing eq join(', ', sort @expected) });
		};
		is($firing, join(', ', sort @expected), $test);
	};

	# Waits until the alerts have been evaluated with a result of a query.
	my $seen = sub
	{
		my ($query) = @_;
		my $evaluated = sub {
			my $answer = get("$prometheus/api/v1/rules") or return '';
			return decode_json($answer)->{data}{groups}[0]{lastEvaluation} };
		wait_for($query, sub { @{ series($prometheus, $query) } });
		foreach (1 .. 2)
		{
			my $before = $evaluated->();
			wait_for('the alerts', sub { $evaluated->() ne $before });
		}
	};

	my $write = sub { qq(INSERT INTO tf.states (name, data) VALUES ('w', '{"version":4,"serial":$_[0],"lineage":"l"}') ON CONFLICT (name) DO UPDATE SET data = excluded.data) };
	my @long = 'LockHeldTooLong warning';
	my @danger = 'StateInDanger warning';

	$seen->('tfstate_refusals_total == 0');
	$node->safe_psql($database, qq(SELECT tfstate_lock('tf.states/w'); @{[ $write->(1) ]}; SELECT tfstate_unlock('tf.states/w');
		SELECT tfstate_freeze('tf.states/*', 'maintenance')));
	isnt($node->psql($database, $write->(2)), 0, 'a write under a freeze is refused');
	$node->safe_psql($database, q(SELECT tfstate_unfreeze('tf.states/*')));
	$seen->('tfstate_refusals_total{reason="frozen"} == 1');
	$fires->('no alert for a run that ends, and for a freeze');

	my ($holder, $waiter) = (session($node, dbname => $database), session($node, dbname => $database));
	$holder->query_safe(q(SELECT tfstate_lock('tf.states/w')));
	$fires->('a lock that is held for long is no orphan', @long);
	$waiter->send(q(SELECT tfstate_lock('tf.states/w', wait => NULL)));
	$fires->('a long wait', @long, 'WaitTooLong warning');
	$holder->query_safe(q(SELECT tfstate_unlock('tf.states/w')));
	$waiter->result;
	$waiter->query_safe(q(SELECT tfstate_unlock('tf.states/w')));
	$fires->('no alert after it');

	$node->safe_psql($database, q(SELECT tfstate_lock('tf.states/w')));
	$fires->('a job that has died', @long, 'LockOrphaned warning');
	$node->safe_psql($database, q(SELECT tfstate_force_unlock('tf.states/w')));
	$fires->('no alert after its lock was released');

	isnt($node->psql($database, $write->(2)), 0, 'a write without the lock is refused');
	$fires->('a refused write', "@danger refused write");
	$node->safe_psql($database, "SET tfstate.guard = off; " . $write->(2));
	$fires->('a write without the guard', "@danger refused write", "@danger write without the guard");
	$node->safe_psql($database, "SET session_replication_role = replica; " . $write->(3));
	$fires->('a damaged state', "@danger refused write", "@danger write without the guard", 'StateInDanger critical damaged state');

	# what Grafana puts in place of its variables; -1 stands for what is not read
	foreach my $expression (@expressions)
	{
		my $query = $expression =~ s/\$instance/db.example.states/gr =~ s/\$__rate_interval/1m/gr;
		eval { wait_for($query, sub { grep { $_->{value}[1] != -1 } @{ series($prometheus, $query) } }) };
		is($@, '', "the dashboard gets something for $expression");
	}
	my ($variable) = map { $_->{query}{query} } grep { $_->{name} eq 'instance' } @{ $dashboard->{templating}{list} };
	my ($metric, $label) = $variable =~ /^label_values\((\w+), (\w+)\)$/;
	wait_for($metric, sub { @{ series($prometheus, $metric) } });
	is(join(' ', grep { !$_->{metric}{$label} } @{ series($prometheus, $metric) }), '', "$metric has a label $label to choose by");
	my $restarts = $dashboard->{annotations}{list}[0]{expr} =~ s/\$instance/db.example.states/r;
	is_deeply(series($prometheus, $restarts), [], 'the server has not restarted');
	$node->stop('immediate');
	$node->start;
	wait_for('the restart', sub { @{ series($prometheus, $restarts) } });
	pass('the dashboard marks a restart');
}

$node->stop;
done_testing();
