# tfstate run holds one lock over several Terraforms, a plan and the apply of it: nobody
# else gets in between, and each Terraform locks and unlocks as it always does.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run;
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('client_terraform');
my $lockid = 'terraform_remote_state.states/default';

attach($node, 'terraform_remote_state');

my %project = map { $_ => Terraform->new($node, schema => 'terraform_remote_state', who => $_) } qw(alice bob);
my $terraform = program('path');

# Runs a shell script under the lock, in alice's directory, and returns the exit status and
# the output.
sub run_under_lock
{
	my ($script, @options) = @_;
	my $alice = $project{alice};
	my $output;

	IPC::Run::run(
		[ 'tfstate', 'run', '-d', $alice->{env}{PG_CONN_STR}, '--who', 'alice', @options, $lockid, '--', 'sh', '-c', $script ],
		'<', \undef, '>', \$output, '2>&1',
		init => sub { $ENV{$_} = $alice->{env}{$_} foreach keys %{ $alice->{env} }; chdir($alice->{dir}) or die $!; });
	return ($? >> 8, $output);
}

foreach my $mode (qw(lease durable session))
{
	my ($status, $output) = run_under_lock(
		"export TF_VAR_round=$mode; $terraform plan -no-color -input=false -out=plan-$mode"
		  . " && tfstate ls -d \"\$PG_CONN_STR\" --csv"
		  . " && $terraform apply -no-color -input=false plan-$mode && tfstate ls -d \"\$PG_CONN_STR\" --csv",
		'--mode', $mode);

	is($status, 0, "$mode: a plan and the apply of it succeed under one lock") or diag($output);
	my @listed = $output =~ /^(\S+),alice,sh,/mg;
	is_deeply(\@listed, [ $lockid, $lockid ], "$mode: the lock is held between them and after them");
	like(state_of($node, 'terraform_remote_state', 'default'), qr/\|alice$/, "$mode: the state is written");
	nothing_held($node, 'nothing is left');
}

# Somebody else, while the lock is held between a plan and its apply
{
	my $alice = $project{alice};
	my ($output, $error) = ('', '');
	my $run = IPC::Run::start(
		[ 'tfstate', 'run', '-d', $alice->{env}{PG_CONN_STR}, '--who', 'alice', '--operation', 'review', $lockid, '--', 'sh', '-c',
			"$terraform plan -no-color -input=false -out=reviewed && touch planned && until [ -e go ]; do sleep 0.1; done"
			  . " && $terraform apply -no-color -input=false reviewed" ],
		'<', \undef, '>', \$output, '2>', \$error,
		init => sub { $ENV{$_} = $alice->{env}{$_} foreach keys %{ $alice->{env} }; chdir($alice->{dir}) or die $!; });

	wait_for('the plan', sub { -e "$alice->{dir}/planned" });
	$project{bob}->apply_fails('another run is refused while a plan is reviewed', qr/state lock "$lockid" is held by alice: review since/);
	append_to_file("$alice->{dir}/go", '');
	$run->finish;
	is(($run->full_results)[0], 0, 'the apply of the reviewed plan succeeds') or diag("$output\n$error");
	$project{bob}->apply_ok('the other run succeeds after it');
}

# Through a pooler, whose sessions serve anybody
SKIP:
{
	skip 'pgbouncer is not installed', 5 unless path_of('pgbouncer');
	sql("CREATE ROLE pooled LOGIN; SELECT tfstate_attach('pooled', role => 'pooled', mode => 'durable')");
	my $pooler = start_pooler($node, roles => ['pooled'], pool_size => 2, conf => 'server_round_robin = 1');
	my $url = "postgres://pooled\@127.0.0.1:$pooler->{port}/postgres?sslmode=disable";
	my $project = Terraform->new($node, schema => 'pooled', who => 'carol', role => 'pooled', bare => 1,
		env => { PG_CONN_STR => "$url&binary_parameters=yes" });
	my $output;

	IPC::Run::run(
		[ 'tfstate', 'run', '-d', $url, 'pooled.states/default', '--', 'sh', '-c',
			"$terraform plan -no-color -input=false -out=p && psql -XAtd '$url' -c 'SELECT lockid FROM tfstate_holders'"
			  . " && $terraform apply -no-color -input=false p && psql -XAtd '$url' -c 'SELECT lockid FROM tfstate_holders'" ],
		'<', \undef, '>', \$output, '2>&1',
		init => sub { delete $ENV{PGOPTIONS}; $ENV{$_} = $project->{env}{$_} foreach keys %{ $project->{env} }; chdir($project->{dir}) or die $!; });
	is($? >> 8, 0, 'through a pooler: a plan and the apply of it succeed under one lock') or diag($output);
	is(() = $output =~ /^pooled\.states\/default$/mg, 2, 'through a pooler: the lock is held between them and after them');
	like(state_of($node, 'pooled', 'default'), qr/\|carol$/, 'through a pooler: the state is written');
	is(sql('SELECT count(*) FROM tfstate_holders'), '0', 'through a pooler: no lock is left');
	$_->{run}->kill_kill foreach $pooler;
}

# Two Terraforms at once inside one lock
{
	my ($status, $output) = run_under_lock(
		"$terraform apply -no-color -input=false -auto-approve -var by=first & first=\$!"
		  . "; $terraform apply -no-color -input=false -auto-approve -lock-timeout=1m -var by=second; second=\$?; wait \$first && exit \$second");

	like($output, qr/Apply complete!/, 'one of two Terraforms inside one lock applies');
	ok($status == 0 || $output =~ /the lock for commands of this run is (held|being taken or released) by/,
		'the other one applies after it, or is refused')
	  or diag($output);
	nothing_held($node, 'nothing is left');
}

# The lock is lost in between: the apply is refused
{
	my ($status, $output) = run_under_lock(
		"$terraform plan -no-color -input=false -out=late && psql -XAtd '@{[ $node->connstr('postgres') ]}' -c \"SELECT tfstate_force_unlock('$lockid')\""
		  . " && $terraform apply -no-color -input=false -lock=false late", '--grace', '60s');

	isnt($status, 0, 'an apply does not succeed under a lock that was lost');
	like($output, qr/this run has lost its lock|was lost: it was released by force/, 'it is told why');
	nothing_held($node, 'nothing is left');
}

done_testing();
