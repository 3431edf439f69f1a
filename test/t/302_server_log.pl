# States stay out of the server log, or tfstate_check() says which setting lets them in, and
# its remedy works.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('server_log', conf => "log_line_prefix = ''\n");
my $directory = $node->config_data('--pkglibdir');
my %installed = map { $_ => -e "$directory/$_.so" } 'auto_explain', 'pgaudit';
$node->safe_psql('postgres', q(CREATE ROLE terraform LOGIN; SELECT tfstate_attach('tf', role => 'terraform')));
if ($installed{pgaudit})
{
	$node->append_conf('postgresql.conf', 'shared_preload_libraries = pgaudit');
	$node->restart;
}
my $script = $node->basedir . '/write.sql';
append_to_file($script, <<'END');
SELECT public.tfstate_lock('tf.states/w', mode => 'session');
INSERT INTO tf.states (name, data) VALUES ('w', :data) ON CONFLICT (name) DO UPDATE SET data = :data;
INSERT INTO tf.states (name, data) VALUES ('w', :data);
END

my $serial = 0;

# Writes a state as Terraform does, with parameters and as its role, and then one that the
# server refuses.  Returns whether the log has anything of either since then.
sub leaks
{
	my $offset = -s $node->logfile;

	$serial++;
	my $state = qq({"version": 4, "serial": $serial, "lineage": "a", "outputs": {"o": {"value": "hidden"}}});
	my $bytes = join ' ', map { ord } split //, 'hidden';
	run_log([ 'pgbench', '-n', '-t', 1, '-M', 'extended', '-U', 'terraform', '-h', $node->host, '-p', $node->port,
		'-D', "data=$state", '-f', $script, 'postgres' ]);
	is($node->safe_psql('postgres', q(SELECT serial FROM tfstate_states('tf.states/w'))), $serial, 'the first state is written');
	my $log = slurp_file($node->logfile, $offset);
	like($log, qr/ERROR: +duplicate key/, 'the second state is refused');
	return $log =~ /hidden|\Q$bytes\E/ ? 'yes' : 'no';
}

# What tfstate_check() reports, and its remedy
sub found
{
	return $node->safe_psql('postgres', q(SELECT substring(problem FROM '^(.*) lets states'), remedy FROM tfstate_check() WHERE problem ~ 'server log'));
}

is(leaks(), 'no', 'no state is logged after tfstate_attach()');
is(found(), '', 'tfstate_check() reports nothing');

# Each setting that lets states in
my @cases = (
	[ 'log_statement = mod', 'log_parameter_max_length = -1' ],
	[ 'log_min_duration_statement = 0', 'log_parameter_max_length = 100000' ],
	[ 'log_min_duration_sample = 0', 'log_statement_sample_rate = 1', 'log_parameter_max_length = -1' ],
	[ 'log_transaction_sample_rate = 1', 'log_parameter_max_length = -1' ],
	['log_parameter_max_length_on_error = -1'],
	['debug_print_plan = on'],
	[ 'session_preload_libraries = auto_explain', 'auto_explain.log_min_duration = 0', 'auto_explain.log_verbose = on' ],
	[ q(pgaudit.log = 'write'), 'pgaudit.log_parameter = on' ]);
if ($node->pg_version >= 16)
{
	# By default, auto_explain logs the parameters, too.
	splice @{ $cases[6] }, 2, 0, 'auto_explain.log_parameter_max_length = 0';
	push @cases, [ 'session_preload_libraries = auto_explain', 'auto_explain.log_min_duration = 0', 'auto_explain.log_parameter_max_length = -1' ];
}

foreach my $case (@cases)
{
	my @settings = @$case;
	my ($setting) = $settings[-1] =~ /^(\S+)/;
	my ($library) = $setting =~ /^(\w+)\./;

  SKIP:
	{
		skip "$library is not installed", 8 if $library && !$installed{$library};
		$node->safe_psql('postgres', join '', map { "ALTER ROLE terraform IN DATABASE postgres SET $_;" } @settings);
		is(leaks(), 'yes', "$settings[-1]: the state is logged");
		like(found(), qr/^\Q$setting\E\|ALTER ROLE terraform IN DATABASE postgres SET \Q$setting\E = \S+$/, "$settings[-1]: tfstate_check() reports it");
		$node->safe_psql('postgres', $node->safe_psql('postgres', q(SELECT remedy FROM tfstate_check() WHERE problem ~ 'server log')));
		is(leaks(), 'no', "$settings[-1]: no state is logged after the remedy");
		is(found(), '', "$settings[-1]: tfstate_check() reports nothing after the remedy");
		$node->safe_psql('postgres', join '', map { /^(\S+)/; "ALTER ROLE terraform IN DATABASE postgres RESET $1;" } @settings[ 0 .. $#settings - 1 ]);
	}
}

# Settings of the whole server, where tfstate_attach() has set what it can for its role
my $libraries = join ',', grep { $installed{$_} } keys %installed;
$node->append_conf('postgresql.conf', <<"END");
shared_preload_libraries = '$libraries'
pgaudit.log = 'all'
pgaudit.log_parameter = on
auto_explain.log_min_duration = 0
auto_explain.log_verbose = on
auto_explain.log_nested_statements = on
log_statement = all
log_parameter_max_length_on_error = -1
debug_print_plan = on
END
$node->restart;
$node->safe_psql('postgres', q(SELECT tfstate_detach('tf'); SELECT tfstate_attach('tf', role => 'terraform')));
is(leaks(), 'no', 'a setting of the server does not affect the attached role');
is(found(), '', 'tfstate_check() does not report a setting of the server');
$node->safe_psql('postgres', q(ALTER ROLE terraform IN DATABASE postgres RESET auto_explain.log_verbose));
SKIP:
{
	skip 'auto_explain is not installed', 4 if !$installed{auto_explain};
	is(leaks(), 'yes', 'a setting of the server affects the role whose own one is reset');
	like(found(), qr/^auto_explain.log_verbose\|/, 'tfstate_check() reports a role whose own setting is reset');
}

$node->stop;
done_testing();
