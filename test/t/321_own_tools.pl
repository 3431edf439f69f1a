# The scripts in the section "Changing a state" of doc/howto/own-tools.md, word for word: they
# change a state under its lock, are refused if they have lost it, and leave no lock.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my ($section) =
  slurp_file("$FindBin::RealBin/../../doc/howto/own-tools.md") =~ /^## Changing a state\n(.*)/ms;
my $workspace = 'terraform_remote_state.states/prod';
my $node = tfstate_node('tools');
my $tmp = PostgreSQL::Test::Utils::tempdir();

# Writes the section's only block in a language to a file.
sub script
{
	my ($language) = @_;
	my @blocks = $section =~ /^```$language\n(.*?)^```$/msg;

	is(scalar(@blocks), 1, "the section has one script in $language");
	open(my $file, '>', "$tmp/script.$language") or die "script: $!";
	print $file $blocks[0];
	close($file);
	return "$tmp/script.$language";
}

# Runs a command with the server's environment; returns its status and output.
sub run_script
{
	my (@command) = @_;
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = 'postgres';
	my $output = '';
	my $run = IPC::Run::start(\@command, '>&', \$output);

	$run->finish;
	return ($run->result(0), $output);
}

sub state
{
	return sql(
		"SELECT data::jsonb ->> 'serial', data::jsonb #>> '{outputs,owner,value}', data::jsonb ->> 'lineage'
		   FROM terraform_remote_state.states WHERE name = 'prod'");
}

sql(q(
	SELECT tfstate_attach();
	SELECT tfstate_lock('terraform_remote_state.states/prod', mode => 'session');
	INSERT INTO terraform_remote_state.states (name, data) VALUES
		('prod', '{"version":4,"terraform_version":"1.11.4","serial":7,"lineage":"a-b-c","outputs":{},"resources":[],"check_results":null}');
	SELECT tfstate_unlock('terraform_remote_state.states/prod');
));

my %commands = (
	sql => [ 'psql', '-X', '-f', script('sql') ],
	sh => [ 'sh', script('sh') ]);
my $serial = 7;

foreach my $language ('sql', 'sh')
{
	my ($status, $output) = run_script(@{ $commands{$language} });

	is($status, 0, "$language: the script succeeds") or diag($output);
	unlike($output, qr/error|could not|cannot/i, "$language: the script prints no error");
	$serial++;
	is(state(), "$serial|network team|a-b-c", "$language: the script has changed the state");
	is( sql("SELECT lock_operation, fence IS NOT NULL FROM tfstate_versions('$workspace') ORDER BY number DESC LIMIT 1"),
		'set owner|t',
		"$language: the version was written under the lock");
	is(sql('SELECT count(*) FROM tfstate_holders'), '0', "$language: the script has released the lock");
}

# Another session has the lock.
my $holder = session($node);
$holder->query_safe("SELECT tfstate_lock('$workspace', '{\"Who\":\"alice\",\"Info\":\"frozen\"}')");
foreach my $language ('sql', 'sh')
{
	my $impatient = slurp_file("$tmp/script.$language") =~ s/1 min/100 ms/r;
	open(my $file, '>', "$tmp/impatient") or die "script: $!";
	print $file $impatient;
	close($file);
	my ($status, $output) = run_script(
		map { $_ eq "$tmp/script.$language" ? "$tmp/impatient" : $_ } @{ $commands{$language} });

	isnt($status, 0, "$language: the script fails while another session has the lock");
	like($output, qr/is held by alice/, "$language: the script names the holder");
	is(state(), "$serial|network team|a-b-c", "$language: the state is unchanged");
}
my $id = $holder->query_safe("SELECT id FROM tfstate_holders");
$holder->query_safe("SELECT tfstate_unlock('$workspace', '$id')");
$holder->quit;

# Another session releases the lock by force while the shell script is at work, when it runs
# jq, between reading and writing.
mkdir "$tmp/bin" or die "mkdir: $!";
my ($jq) = grep { -x } map { "$_/jq" } split(/:/, $ENV{PATH});
open(my $file, '>', "$tmp/bin/jq") or die "jq: $!";
printf $file <<'END', $workspace, $workspace, $jq;
#!/bin/sh
psql -XAtq -o /dev/null -c "SELECT tfstate_force_unlock('%s', reason => 'test'), tfstate_lock('%s', '{\"Who\":\"mallory\"}')"
exec %s "$@"
END
close($file);
chmod(0755, "$tmp/bin/jq") or die "chmod: $!";
{
	local $ENV{PATH} = "$tmp/bin:$ENV{PATH}";
	my ($status, $output) = run_script(@{ $commands{sh} });

	isnt($status, 0, 'sh: the script fails if the lock was released by force');
	like($output, qr/its lock is not held under fence \d+, but under fence \d+ by mallory/,
		'sh: the script says that it has lost the lock');
	is(state(), "$serial|network team|a-b-c", 'sh: the state is unchanged');
}

done_testing();
