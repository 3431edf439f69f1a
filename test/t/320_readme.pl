# psql prints what the README shows: every statement in the README with a prompt is run, in
# order, those after "=>" as a role that may view locks but read no states.  The output is
# compared, except for IDs, times and what depends on a compression library.  The lists of
# objects and settings are complete.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('readme');
my $waiter;

# Runs psql without a psqlrc, and returns everything that it prints.
sub psql
{
	my ($statements, @options) = @_;
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = 'postgres';
	my $output = '';

	IPC::Run::run([ 'psql', '-X', @options ], '<', \$statements, '>&', \$output);
	return $output;
}

# Replaces what differs each time, by something of the same width where that is fixed.
sub normal
{
	my ($text) = @_;

	$text =~ s/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/20c0c4fe-cecc-4368-acbd-2514cee03c88/g;
	$text =~ s/\d{4}-\d\d-\d\d([ T])/2026-11-23$1/g;
	$text =~ s/\d\d:\d\d:\d\d/00:00:00/g;
	# how many bytes a version takes
	if ($text =~ /[|] stored *$/m)
	{
		$text =~ s/ +/ /g;
		$text =~ s/-+/-/g;
		$text =~ s/\d+$/1000/mg;
	}
	$text =~ s/(?<=HOST):\d+(.*sslmode)=\w+/:5432$1=require/g;
	$text =~ s/(?<=00:00:00)[.]\d+/.123456/g;
	$text =~ s/\s+$//mg;
	return "$text\n";
}

# Writes a state into an attached table as alice does, under its lock.
sub write_state
{
	my ($schema, $state) = @_;

	$node->safe_psql(
		'postgres', qq(
		SET tfstate.who = 'alice\@laptop';
		SELECT tfstate_lock('$schema.states/prod', '{"Operation":"apply"}');
		INSERT INTO $schema.states (name, data) VALUES ('prod', $state)
			ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data;
		SELECT tfstate_unlock('$schema.states/prod');
	));
	return;
}

# Returns the SQL literal of a state with the resources and outputs, given in JSON.
sub state_of
{
	my ($serial, $resources, $outputs) = @_;
	return qq('{"version":4,"terraform_version":"1.11.4","serial":$serial,"lineage":"5c3a","outputs":{$outputs},"resources":[$resources]}');
}

sub instance
{
	my ($mode, $type, $name, $rest) = @_;
	return qq({"mode":"$mode","type":"$type","name":"$name","provider":"provider[\\"registry.terraform.io/hashicorp/aws\\"]","instances":[{$rest}]});
}

# Returns a state of 5 MB, in which a number depends on the serial.
sub big_state
{
	my ($serial) = @_;
	return qq((SELECT format('{"version":4,"terraform_version":"1.11.4","serial":%s,"lineage":"5c3a","outputs":{},"resources":[%s]}',
		$serial,
		string_agg(format('{"mode":"managed","type":"aws_instance","name":"n%s","provider":"aws","instances":[{"attributes":{"id":"i-%s",'
			'"changed":%s,"tags":"%s"}}]}', n, md5(n::text), CASE n WHEN 1000 THEN $serial ELSE 7 END, (SELECT string_agg(md5(format('%s %s', n, greatest(m, 48))), '') FROM generate_series(1, 58) m)), ','))
		FROM generate_series(1, 2334) n));
}

my $vpc = '"attributes":{"id":"vpc-0a1b2c"}';

# What happens before certain blocks, by the last statement in the block
my %before = (
	'FROM tfstate_holders' => sub {
		$waiter = session($node);
		$waiter->send("SELECT tfstate_lock('prod/network', wait => '10 min')");
		wait_for('a waiter',
			sub { $node->safe_psql('postgres', 'SELECT count(*) FROM tfstate_waiters') == 1 });
	},
	'FROM tfstate_versions' => sub {
		$waiter->kill9;
		$node->safe_psql('postgres', q(SELECT tfstate_detach('terraform_remote_state')));
		$node->safe_psql('postgres',
			"INSERT INTO terraform_remote_state.states (name, data) VALUES ('prod', " . big_state(7) . ')');
		$node->safe_psql('postgres', q(SELECT tfstate_attach('terraform_remote_state')));
		write_state('terraform_remote_state', big_state(8));
	},
	'FROM tfstate_resources' => sub {
		$node->safe_psql('postgres',
			q(CREATE ROLE viewer LOGIN; SELECT tfstate_grant('viewer', '*', 'view'), tfstate_attach('network'), tfstate_attach('shop')));
		write_state('shop', state_of(1, instance('data', 'aws_vpc', 'main', $vpc), ''));
		write_state('network', state_of(1, instance('managed', 'aws_vpc', 'main', $vpc),
				'"vpc_id":{"value":"vpc-0a1b2c","type":"string"},"vpn_key":{"value":"old","type":"string","sensitive":true}'));
		write_state('network', state_of(2, instance('managed', 'aws_vpc', 'main', $vpc) . ','
				  . instance('managed', 'aws_subnet', 'private', '"index_key":"c","attributes":{"id":"subnet-1"}'),
				'"vpc_id":{"value":"vpc-0a1b2c","type":"string"},"vpn_key":{"value":"new","type":"string","sensitive":true}'));
	});

my $readme = slurp_file("$FindBin::RealBin/../../README.md");
my @blocks = $readme =~ /^((?:    =[#>] .*\n)(?:    .*\n)*)/mg;
cmp_ok(scalar(@blocks), '>', 5, 'the README has blocks with statements');

foreach my $block (@blocks)
{
	my ($statements, $expected) = ('', '');
	my $inside = 0;

	$block =~ s/^    //mg;
	foreach my $line (split(/\n/, $block))
	{
		$inside = 1 if $line =~ s/^=[#>] //;
		$inside ? ($statements .= "$line\n") : ($expected .= "$line\n");
		$inside = 0 if $line =~ /;$/;
	}
	foreach my $key (keys %before)
	{
		$before{$key}->() if $statements =~ /\Q$key\E/;
	}
	my $output = psql($statements, $block =~ /^=>/ ? ('-U', 'viewer') : (), $statements =~ /tfstate_attach/ ? ('-qAt') : ())
	  =~ s/^\n//mgr;

	note($output);
	is(normal($output), normal($expected), $statements =~ s/\s+/ /gr);
}

# The reference lists what \df tfstate*, \df tfstate_pg.* and \dv show, and nothing else.
# "(...)" stands for the arguments that the row above has.
sub arguments
{
	my ($arguments) = @_;
	return join(', ',
		map { s/^IN //r =~ s/::[a-z ]+(?:\[\])?//r =~ s/'00:00:00'/'0'/r }
		grep { !/^(?:IN)?OUT / } split(/, /, $arguments));
}

my ($reference) = $readme =~ /^## Reference\n(.*?)^## /ms;
my %listed = map { $_ => 1 } map { /`(?:CALL )?(tfstate_[^`]+)`/g } map { /^\| (.*?) \| / } split(/\n/, $reference);
my %there = map { $_ => 1 } split(
	/\n/,
	$node->safe_psql(
		'postgres',
		"SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'tfstate%'"));
foreach my $function (
	split(
		/\n/,
		$node->safe_psql(
			'postgres', q(
		SELECT CASE WHEN n.nspname = 'tfstate_pg' THEN 'tfstate_pg.' ELSE '' END || p.proname, pg_get_function_arguments(p.oid)
		  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
		 WHERE n.nspname = 'tfstate_pg' OR n.nspname = 'public' AND p.proname LIKE 'tfstate%'))))
{
	my ($name, $arguments) = split(/\|/, $function, 2);
	my $signature = "$name(" . arguments($arguments) . ')';

	$signature = "$name(...)" if !$listed{$signature} && $listed{"$name(...)"};
	$there{$signature} = 1;
}
is_deeply([ sort keys %listed ], [ sort keys %there ], 'the reference is complete');

# So is the list of settings, with their defaults.
my %default = $readme =~ /^\| `(tfstate\.\w+)` \| (?:`(.*?)` )?\|/mg;
is( join("\n", map { "$_=" . ($default{$_} // '') } sort keys %default),
	psql("SELECT tfstate_matches('', '') \\g /dev/null\n"
		  . "SELECT format('%s=%s', name, current_setting(name)) FROM pg_settings WHERE name LIKE 'tfstate.%' ORDER BY 1;",
		'-At') =~ s/\n\z//r,
	'the settings are complete');

done_testing();
