# States stay out of the server log, or tfstate_check() says which setting lets them in,
# and its remedy helps.

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

# Writes a state as Terraform does, with parameters, as its role, and then one that the
# server refuses.  Returns whether the log has anything of either since.
sub leaks
{
	my $offset = -s $node->logfile;

	$serial++;
	my $state = qq({"version": 4, "serial": $serial, "lineage": "a", "outputs": {"o": {"value": "hidden"}}});
	my $bytes = join ' ', map { ord } split //, 'hidden';
	run_log([ 'pgbench', '-n', '-t', 1, '-M', 'extended', '-U', 'terraform', '-h', $node->host, '-p', $node->port,
		'-D', "data=$state", '-f', $script, 'postgres' ]);
	is($node->safe_psql('postgres', q(SELECT serial FROM tfstate_states('tf.states/w'))), $serial, 'it is written');
	my $log = slurp_file($node->logfile, $offset);
	like($log, qr/ERROR: +duplicate key/, 'and the other is refused');
	return $log =~ /hidden|\Q$bytes\E/ ? 'yes' : 'no';
}

# What tfstate_check() says of it, and what it tells to do.
sub found
{
	return $node->safe_psql('postgres', q(SELECT substring(problem FROM '^(.*) lets states'), remedy FROM tfstate_check() WHERE problem ~ 'server log'));
}

is(leaks(), 'no', 'nothing is logged');
is(found(), '', 'and nothing is found');

# The last one lets states in.
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
		like(found(), qr/^\Q$setting\E\|ALTER ROLE terraform IN DATABASE postgres SET \Q$setting\E = \S+$/, "$settings[-1]: it is found");
		$node->safe_psql('postgres', $node->safe_psql('postgres', q(SELECT remedy FROM tfstate_check() WHERE problem ~ 'server log')));
		is(leaks(), 'no', "$settings[-1]: and remedied");
		is(found(), '', "$settings[-1]: as it says");
		$node->safe_psql('postgres', join '', map { /^(\S+)/; "ALTER ROLE terraform IN DATABASE postgres RESET $1;" } @settings[ 0 .. $#settings - 1 ]);
	}
}

# For the whole server, where tfstate_attach() has set what it can for its role.
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
is(leaks(), 'no', 'what is set for the server does not count for the role');
is(found(), '', 'and is not found');
$node->safe_psql('postgres', q(ALTER ROLE terraform IN DATABASE postgres RESET auto_explain.log_verbose));
SKIP:
{
	skip 'auto_explain is not installed', 4 if !$installed{auto_explain};
	is(leaks(), 'yes', 'unless it is reset');
	like(found(), qr/^auto_explain.log_verbose\|/, 'and then it is found');
}

$node->stop;
done_testing();
