# GET /metrics of tfstate serve: the view tfstate_metrics as Prometheus reads it, with what the
# role may see, and nothing in a label that Prometheus would take for something else.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use HttpServer;
use Manual;
use PostgreSQL::Test::Utils;
use Prometheus;
use Test::More;
use TestServer;

http_or_skip();

my $node = http_node('http_metrics');
my $server = HttpServer->new($node);

$node->safe_psql('postgres', "CREATE ROLE eve LOGIN PASSWORD 'secret' IN ROLE http");
sql("CREATE ROLE monitor LOGIN PASSWORD 'secret' IN ROLE http, pg_monitor");

# Reads metrics as Prometheus does.  Returns a hash of types, and one of values by names with
# labels; dies of what Prometheus would not accept.
sub parse
{
	my ($text) = @_;
	my (%types, %helps, %values, $current);

	die 'no line feed at the end' unless $text =~ s/\n\z//;
	foreach my $line (split(/\n/, $text, -1))
	{
		if ($line =~ /^# HELP ([a-z_]+) ((?:[^\\]|\\[\\n])+)$/)
		{
			die "two helps: $line" if $helps{$1}++;
			$current = $1;
		}
		elsif ($line =~ /^# TYPE ([a-z_]+) (counter|gauge)$/)
		{
			die "not after its help: $line" unless $1 eq $current && !$types{$1};
			$types{$1} = $2;
		}
		elsif ($line =~ /^(([a-z_]+)(?:\{[a-z_]+="(?:[^"\\]|\\[\\"n])*"(?:,[a-z_]+="(?:[^"\\]|\\[\\"n])*")*\})?) ([-+0-9.e]+|[+-]?Infinity|NaN)$/)
		{
			die "not among its own: $line" unless $2 eq $current && $types{$2};
			die "twice: $line" if exists $values{$1};
			$values{$1} = $3;
		}
		else
		{
			die "not the format of Prometheus: $line";
		}
	}
	return (\%types, \%values);
}

# Gets the metrics for a role.
sub metrics
{
	my ($user) = @_;
	my $text = $server->answers("metrics for $user", 200, undef, 'GET', path => '/metrics', user => $user);

	return parse($text);
}

sub make_view
{
	sql(<<'END');
CREATE VIEW tfstate_metrics AS
	SELECT 'a_b' AS name, 'gauge' AS type, E'back\\slash\nnew "line"' AS help,
		   jsonb_build_object('x', E'a\\"b\n} 1\n', 'y', '') AS labels, 'Infinity'::float8 AS value
	UNION ALL SELECT 'z_total', 'counter', 'z', '{}', 1e30
	UNION ALL SELECT 'a_b', 'gauge', E'back\\slash\nnew "line"', '{"x": "2"}', -0.5
	UNION ALL SELECT 'r', 'gauge', 'role', jsonb_build_object('role', current_user), 7;
GRANT SELECT ON tfstate_metrics TO PUBLIC;
END
	return;
}

#
# The view of the extension
#
SKIP:
{
	skip('this version of the extension has no view tfstate_metrics', 1) if sql("SELECT to_regclass('tfstate_metrics') IS NULL") eq 't';
	my $changing = '_age_|wait|time|bytes';

	is($server->request('LOCK', body => lock_info()), 200, 'a lock is taken');
	is($server->request('LOCK', body => lock_info()), 423, 'and refused to another');
	my ($types, $values) = metrics('monitor');
	is(join(' ', sort keys %$types), sql("SELECT string_agg(DISTINCT name, ' ' ORDER BY name) FROM tfstate_metrics"), 'all metrics are there');
	is($values->{'tfstate_locks_held{mode="durable"}'}, 1, 'the lock is held');
	is($values->{'tfstate_conflicts_total'}, 1, 'the conflict was counted');
	my $view = sql("SELECT name || coalesce('{' || (SELECT string_agg(key || '=\"' || value || '\"', ',' ORDER BY key)
		FROM jsonb_each_text(labels)) || '}', '') || E'\t' || value FROM tfstate_metrics WHERE name !~ '$changing'");
	is_deeply({ map { $_ => $values->{$_} } grep { !/$changing/ } keys %$values }, { map { split(/\t/) } split(/\n/, $view) },
		'the numbers are those of the view');
	SKIP:
	{
		skip('promtool is not installed', 1) unless path_of('promtool');
		my $text = ($server->request('GET', path => '/metrics', user => 'monitor'))[1];
		IPC::Run::run([ 'promtool', 'check', 'metrics' ], '<', \$text, '>&', \my $said);
		is($said, '', 'Prometheus has nothing to complain of');
	}
	SKIP:
	{
		skip('prometheus is not installed', 1) unless path_of('prometheus');
		# as the page says, but for TLS, for which there would have to be a certificate
		my ($configuration) =
		  map { $_->{text} } grep { ($_->{'run by'} // '') =~ /707_http_metrics/ } @{ (page_blocks('doc/howto/monitoring.md'))[0] };
		is($configuration =~ s/^    scheme: https\n//m, 1, 'the page has TLS');
		is($configuration =~ s/locks\.example:5480/127.0.0.1:$server->{port}/, 1, 'and an address');
		my $prometheus = start_prometheus($configuration, 'tfstate-password' => 'secret');
		my $all = 'group by (__name__) ({__name__=~"tfstate_.+", instance="db.example/states"})';
		is(join(' ', sort map { $_->{metric}{__name__} } @{ wait_for($all, sub { my $series = series($prometheus, $all); @$series && $series }) }),
			join(' ', sort keys %$types), 'Prometheus has all metrics');
	}
	($types, $values) = metrics('alice');
	is($values->{'tfstate_locks_held{mode="durable"}'}, 1, 'a role that may lock sees its lock');
	is($values->{'tfstate_conflicts_total'}, undef, 'and no counters');
	($types, $values) = metrics('eve');
	is($values->{'tfstate_locks_held{mode="durable"}'}, 0, 'a role without a grant sees none');
	sql('ALTER EXTENSION tfstate DROP VIEW tfstate_metrics; DROP VIEW tfstate_metrics');
}

#
# A view of the test, with all that a label can have, and none at all
#
$server->answers('metrics of an extension that has none', 503, qr/ALTER EXTENSION tfstate UPDATE/, 'GET', path => '/metrics');
make_view();
my ($types, $values) = metrics('alice');
is($server->{headers}{'content-type'}, 'text/plain; version=0.0.4; charset=utf-8', 'they have the type of that format');
is($server->{headers}{'cache-control'}, 'no-store', 'nobody keeps them');
is_deeply($types, { a_b => 'gauge', z_total => 'counter', r => 'gauge' }, 'all metrics are there');
is($values->{'r{role="alice"}'}, 7, 'as the role of the request sees them');
($types, $values) = metrics('eve');
is($values->{'r{role="eve"}'}, 7, 'and another one');
is($server->answers('odd labels', 200, undef, 'GET', path => '/metrics'), <<'END', 'labels are escaped, and a metric is in one piece');
# HELP a_b back\\slash\nnew "line"
# TYPE a_b gauge
a_b{x="2"} -0.5
a_b{x="a\\\"b\n} 1\n",y=""} Infinity
# HELP r role
# TYPE r gauge
r{role="alice"} 7
# HELP z_total z
# TYPE z_total counter
z_total 1e+30
END

$server->answers('metrics without a password', 401, qr/password/, 'GET', path => '/metrics', user => '');
$server->answers('metrics with a wrong one', 401, qr/wrong/, 'GET', path => '/metrics', password => 'x');
$server->answers("$_ of the metrics", 405, qr/only to be read/, $_, path => '/metrics', body => 'x') foreach qw(POST PUT DELETE LOCK UNLOCK);
is($server->{headers}{allow}, 'GET, HEAD', 'they can only be read');
$server->answers('HEAD of the metrics', 200, qr/^$/, 'HEAD', path => '/metrics', user => 'alice');
is($server->request('GET', path => '/metrics?x=1', user => 'alice'), 200, 'a query is no matter');
$server->answers("GET $_", 400, qr/address/, 'GET', path => $_) foreach '/metricsx', '/metrics/', '/metrics/x';

sql('CREATE OR REPLACE VIEW tfstate_metrics AS SELECT NULL::text AS name, NULL::text AS type, NULL::text AS help, NULL::jsonb AS labels, NULL::float8 AS value WHERE false');
$server->answers('no metrics', 200, qr/^$/, 'GET', path => '/metrics');
sql('REVOKE SELECT ON tfstate_metrics FROM PUBLIC');
$server->answers('metrics that a role may not read', 403, qr/permission denied/, 'GET', path => '/metrics');

done_testing();
