# tfstate terraform runs an unmodified Terraform under the lock of its workspace, which it
# finds as Terraform does, and says who works there; and force-unlock unlocks.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run;
use PostgreSQL::Test::Utils;
use Terraform;
use Terminal;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('terraform_wrapper');
my $lockid = 'tf.states/default';
attach($node, 'tf');
$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN');

# the program by the names that the commands have
my $names = PostgreSQL::Test::Utils::tempdir();
symlink(program('path'), "$names/$_") or die $! foreach qw(terraform tofu);
$ENV{PATH} = "$names:$ENV{PATH}";
delete $ENV{$_} foreach qw(GITHUB_SERVER_URL GITHUB_REPOSITORY GITHUB_RUN_ID CI_JOB_URL BUILD_URL PGAPPNAME);

my %project = map { $_ => Terraform->new($node, schema => 'tf', who => $_, bare => 1) } qw(alice bob);
my $bob = $project{bob};
my $alice = $project{alice};
delete $_->{env}{PGAPPNAME} foreach values %project;
my @plain = ('-no-color', '-input=false');

# Starts tfstate in a project's directory, or another one, with its environment and what
# $more has besides.
sub start
{
	my ($project, $more, @command) = @_;
	my %program = (out => '', err => '');
	my $dir = delete local $more->{dir};

	$program{run} = IPC::Run::start(
		[ 'tfstate', @command ], '<', \undef, '>', \$program{out}, '2>', \$program{err},
		init => sub {
			%ENV = (%ENV, %{ $project->{env} }, %$more);
			delete $ENV{$_} foreach grep { !defined $more->{$_} } keys %$more;
			chdir($dir || $project->{dir}) or die $!;
		});
	$program{pid} = $program{run}{KIDS}[0]{PID};
	return \%program;
}

# Waits for the end of it, and returns exit status, standard output and standard error.
sub end
{
	my ($program) = @_;
	$program->{run}->finish;
	my $status = ($program->{run}->full_results)[0];
	return ($status & 127 ? 128 + ($status & 127) : $status >> 8, $program->{out}, $program->{err});
}

sub tfstate
{
	return end(start(@_));
}

# Starts an apply that lasts until the gate is opened.
my $round = 100;

sub start_apply
{
	my ($project, @options) = @_;

	$project->close_gate;
	my $program = start($project, { TF_VAR_round => ++$round }, 'terraform', @options, 'apply', @plain, '-auto-approve');
	wait_for('the apply', sub { $program->{run}->pump_nb; -s "$project->{dir}/applied" });
	return $program;
}

sub holder
{
	return sql("SELECT id FROM tfstate_holders('$lockid')");
}

# Terraform's block for what holds the lock
sub block
{
	my ($operation, $who) = @_;
	my $id = holder();
	return qr/^Lock Info:\n  ID:        $id\n  Path:      $lockid\n  Operation: $operation\n  Who:       $who\n/m;
}

my ($status, $out, $err, $run);

# A plan and an apply

($status, $out, $err) = tfstate($alice, { CI_JOB_URL => 'https://ci.example/job 1' }, 'terraform', '--who', 'alice', 'plan', @plain, '-detailed-exitcode');
is($status, 2, 'the exit status is that of the program') or diag($err);
is($err, '', 'standard error is left to the program');
my ($version) = slurp_file("$alice->{dir}/.terraform/terraform.tfstate") =~ /"terraform_version": "([^"]+)"/;
is(sql("SELECT who, operation, info ->> 'Info', info ->> 'Version', how FROM tfstate_history WHERE lockid = '$lockid'"),
	'alice|OperationTypePlan|https://ci.example/job 1|' . ($version // '') . '|unlock', 'the lock tells who, what for, where and with what');
($status, $out, $err) = tfstate($alice,
	{ GITHUB_SERVER_URL => 'https://git.example', GITHUB_REPOSITORY => 'a/b', GITHUB_RUN_ID => 17, PGOPTIONS => '-c tfstate.who=al\ ice' },
	'tofu', 'apply', @plain, '-auto-approve');
is($status, 0, 'an apply') or diag($err);
is(state_of($node, 'tf'), '1|alice', 'it writes the state');
is(sql("SELECT who, operation, info ->> 'Info' FROM tfstate_history WHERE lockid = '$lockid' LIMIT 1"),
	'al ice|OperationTypeApply|https://git.example/a/b/actions/runs/17', 'PGOPTIONS can name who');
is(sql("SELECT who, lock_operation FROM tfstate_versions ORDER BY number DESC LIMIT 1"), 'al ice|OperationTypeApply', 'so does the version');
nothing_held($node, 'nothing is left');

# Conflicts

$run = start_apply($alice, '--who', 'alice', '-m', 'a change');
my $block = block('OperationTypeApply', 'alice');
($status, $out, $err) = tfstate($bob, {}, 'terraform', 'plan', @plain);
is($status, 75, 'a plan while another run holds the lock');
is($out, '', 'the program has not run');
like($err, qr/^tfstate: state lock "$lockid" is held by alice: OperationTypeApply since /, 'the holder is told');
like($err, $block, "and shown in Terraform's form");
like($err, qr/^  Info:      a change\n/m, 'with its Info');
is((tfstate($bob, {}, 'terraform', '-E', 1, 'plan', @plain))[0], 1, 'another exit status can be chosen');
$bob->apply_fails('a run without tfstate', qr/state lock "$lockid" is held by alice: OperationTypeApply since/);
is((tfstate($bob, {}, 'terraform', 'plan', @plain, '-lock=false'))[0], 0, '-lock=false counts');
is((tfstate($bob, { TF_CLI_ARGS_plan => '-lock=false' }, 'terraform', 'plan', @plain))[0], 0, 'in TF_CLI_ARGS, too');
is((tfstate($bob, {}, 'terraform', 'state', 'list'))[0], 0, 'a command that does not lock');
my $waiter = start($bob, {}, 'terraform', 'plan', @plain, '-lock-timeout=5m');
wait_for('the waiter', sub { waiting_pids($node, $lockid) ne '' });
$alice->open_gate;
is((end($run))[0], 0, 'the apply succeeds');
is((end($waiter))[0], 0, '-lock-timeout waits in the queue');
$run = $bob->start_slow_apply;
$block = block('', 'terraform@127.0.0.1(/32)?');
($status, $out, $err) = tfstate($alice, {}, 'terraform', 'apply', @plain, '-auto-approve');
is($status, 75, 'an apply while a run without tfstate holds the lock');
like($err, $block, 'which is shown');

# force-unlock: this holder is alive

($status, $out, $err) = tfstate($alice, {}, 'terraform', 'force-unlock', '-force', '8387e506-21ab-de02-3595-6148c3cfeef0');
is($status, 1, 'force-unlock of an ID that nobody has');
like($err, qr/^tfstate: no lock that you may see has the ID "8387e506-21ab-de02-3595-6148c3cfeef0"\./, 'it is told');
like($err, $block, 'with the holder');
my $id = holder();
($status, $out, $err) = tfstate($alice, {}, 'terraform', 'force-unlock', $id);
is($status, 1, 'force-unlock asks, and nobody answers');
is(holder(), $id, 'nothing is unlocked');
($status, $out, $err) = tfstate($alice, {}, 'terraform', 'force-unlock', '-force', $id);
is($status, 77, 'force-unlock needs the privilege "force"');
sql("SELECT tfstate_grant('terraform', '*', 'force')");
($status, $out, $err) = tfstate($alice, {}, 'terraform', '-m', 'a test', 'force-unlock', '-force', $id);
is($status, 0, 'force-unlock -force') or diag($err);
like($out, qr/^Terraform state has been successfully unlocked!\n/, 'it says so');
is(holder(), '', 'the lock is free');
is(sql("SELECT how, reason FROM tfstate_history WHERE id = '$id'"), 'force|a test', 'the reason is kept');
$bob->open_gate;
$run->fails_ok('the run that lost its lock', qr/holds its lock|does not hold its lock|lost/);
($status, $out, $err) = tfstate($alice, {}, 'terraform', 'force-unlock', '-force', $id);
like($err, qr/^tfstate: workspace "$lockid" is not locked$/m, 'an ID that was released, while nobody holds the lock');
is($status, 1, 'is an error');
like((tfstate($alice, {}, 'terraform', 'force-unlock'))[2], qr/Expected a single argument/, 'a missing ID is told by the program');

# force-unlock at a terminal, of a lock elsewhere; the workspace is not named

SKIP:
{
	skip 'this system has no terminals', 4 unless eval { IO::Pty->new };
	local %ENV = (%ENV, %{ $alice->{env} });
	$id = sql(q(SELECT id FROM tfstate_lock('tf.states/other', '{"Who":"carol","Info":"e\u001b[31mvil"}')));
	foreach my $answer ('y', 'yes')
	{
		my $terminal = terminal(80, 'sh', '-c', "cd $alice->{dir} && exec tfstate terraform force-unlock $id");
		like($terminal->expect(qr/accepted: /), qr/Who:       carol\r\n.*Info:      e \[31mvil\r\n.*Do you really want to force-unlock\?/s,
			"$answer: force-unlock shows the holder and asks");
		$terminal->type("$answer\n");
		is(($terminal->finish)[0], $answer eq 'yes' ? 0 : 1, "$answer: only yes agrees");
	}
	is(sql("SELECT count(*) FROM tfstate_holders"), 0, 'the lock is free');
}

# Workspaces

is((tfstate($alice, {}, 'terraform', 'workspace', 'new', 'w'))[0], 0, 'workspace new');
is((tfstate($alice, {}, 'terraform', 'apply', @plain, '-auto-approve'))[0], 0, 'an apply in the workspace that is selected');
is(state_of($node, 'tf', 'w'), '2|alice', 'writes its state');
is((tfstate($alice, {}, 'terraform', 'workspace', 'select', 'default'))[0], 0, 'workspace select');
$id = sql("SELECT id FROM tfstate_lock('tf.states/w')");
is((tfstate($alice, { TF_WORKSPACE => 'w' }, 'terraform', 'plan', @plain))[0], 75, 'TF_WORKSPACE counts');
is((tfstate($alice, {}, 'terraform', 'workspace', 'delete', '-force', 'w'))[0], 75, 'workspace delete takes the lock of the workspace that is named');
is((tfstate($alice, {}, 'terraform', 'plan', @plain))[0], 0, 'a plan in another workspace');
sql("SELECT tfstate_unlock('tf.states/w', '$id')");
is((tfstate($alice, {}, 'terraform', 'workspace', 'delete', '-force', 'w'))[0], 0, 'workspace delete');
is(state_of($node, 'tf', 'w'), '', 'the workspace is gone');
is((tfstate($alice, { TF_WORKSPACE => 'first' }, 'terraform', 'apply', @plain, '-auto-approve'))[0], 0, 'an apply that creates its workspace');
is(state_of($node, 'tf', 'first'), '2|alice', 'writes its state');

# A run that is killed must leave nothing, whatever the mode of the role: this one is killed
# while it has the creation key.
sql("ALTER ROLE terraform SET tfstate.mode = 'durable'");
{
	my $session = session($node);
	$session->query_safe('BEGIN; LOCK TABLE tf.states IN EXCLUSIVE MODE');
	$run = start($alice, {}, 'terraform', 'workspace', 'new', 'killed');
	wait_for('the creation of a workspace', sub { sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'terraform' AND wait_event_type = 'Lock'") });
	kill('KILL', $run->{pid});
	end($run);
	$session->quit;
	nothing_held($node, 'kill -9 of a workspace new');
}
sql("ALTER ROLE terraform RESET tfstate.mode");

# Directories

mkdir("$alice->{dir}/none") or die $!;
($status, $out, $err) = tfstate($alice, { dir => "$alice->{dir}/none" }, 'terraform', 'plan', @plain);
is($status, 1, 'a directory without a backend');
like($err, qr/^tfstate: ".terraform\/terraform.tfstate" names no backend; run "terraform init" first, or terraform itself if the states are local files\n\z/, 'it is told what to do');
($status, $out, $err) = tfstate($alice, { dir => '/' }, 'terraform', "-chdir=$alice->{dir}", 'apply', @plain, '-auto-approve');
is($status, 0, '-chdir counts') or diag($err);
rename("$alice->{dir}/.terraform", "$alice->{dir}/data") or die $!;
is((tfstate($alice, { TF_DATA_DIR => 'data', dir => '/' }, 'terraform', "-chdir=$alice->{dir}", 'plan', @plain))[0], 0, 'TF_DATA_DIR counts');
rename("$alice->{dir}/data", "$alice->{dir}/.terraform") or die $!;
{
	my $other = Terraform->new($node, schema => 'tf', who => 'carol', init => 0, config => Terraform::backend('local'));
	($status, $out, $err) = tfstate($other, {}, 'terraform', 'init', @plain);
	is($status, 0, 'init without a backend') or diag($err);
	($status, $out, $err) = tfstate($other, {}, 'terraform', 'plan', @plain);
	is($status, 1, 'another backend');
	like($err, qr/^tfstate: the states are in a backend of type "local", and tfstate locks only those of type "pg"; run terraform itself\n\z/, 'it is told');
	foreach my $more ('{', '[' x 900_000)
	{
		append_to_file("$other->{dir}/.terraform/terraform.tfstate", $more);
		($status, $out, $err) = tfstate($other, {}, 'terraform', 'plan', @plain);
		like($err, qr/^tfstate: could not read ".terraform\/terraform.tfstate": it is not what "terraform init" writes\n\z/, 'a damaged file');
	}
}
($status, $out, $err) = tfstate($alice, { PG_SCHEMA_NAME => 'nowhere' }, 'terraform', 'plan', @plain);
is($status, 1, 'a table that is not attached');
like($err, qr/^tfstate: table "nowhere.states" is not attached to tfstate, .*: tfstate attach 'nowhere' 'states'\n\z/, 'it is told what to do');

# Connection strings; Terraform's driver wants SSL unless told otherwise, which a libpq without SSL
# refuses even for a socket

my $has_ssl = slurp_file($node->config_data('--includedir-server') . '/pg_config.h') =~ /^#define USE_OPENSSL 1/m;
my $port = $node->port;
my $socket = $node->host;
foreach my $string (
	"host=127.0.0.1 port=$port user=terraform dbname='postgres' sslmode=disable",
	"host = '$socket' port=$port user=terraform dbname=postgres",
	"postgresql://terraform\@localhost:$port/postgres?sslmode=disable&statement_timeout=60s&application_name=ci%20job",
	"postgres://terraform\@localhost:$port/postgres?sslmode=disable&options=-c%20statement_timeout%3D60s",
	"postgres://terraform\@localhost:$port/postgres?sslmode=disable&binary_parameters=yes")
{
	($status, $out, $err) = tfstate($alice, { PG_CONN_STR => $string }, 'terraform', '--who', 'alice', 'plan', @plain);
	if ($string !~ /sslmode/ && !$has_ssl)
	{
		is($status, 69, "connection string $string without SSL");
		like($err, qr/sslmode value "require" invalid when SSL support is not compiled in/, 'libpq tells why');
		next;
	}
	is($status, 0, "connection string $string") or diag("$out\n$err");
	is(sql("SELECT who, operation FROM tfstate_history('$lockid') LIMIT 1"), 'alice|OperationTypePlan', 'the lock is taken');
}
is((tfstate($alice, { PG_CONN_STR => undef, PGHOST => '127.0.0.1', PGPORT => $port, PGUSER => 'terraform', PGDATABASE => 'postgres', PGSSLMODE => 'disable' },
		'terraform', 'plan', @plain))[0], 0, 'no connection string');
foreach my $wrong (
	[ "postgres://terraform\@localhost:$port/postgres?sslmode=disable&application_name=a&options=-c%20a.b%3Dc", 1, qr/the connection string of the backend sets both options and application_name/ ],
	[ "postgres://terraform\@localhost:$port/postgres?sslinline=true", 1, qr/has "sslinline"/ ],
	[ "postgres://terraform\@localhost:$port/postgres", 69, qr/SSL/ ],
	[ "host=localhost nonsense password=secret", 1, qr/is not valid near "nonsense"\n\z/ ],
	[ "postgres://stranger\@localhost:$port/postgres?sslmode=disable", 1, qr/search_path of role "stranger" has no tfstate_pg.* tfstate attach --role='stranger' 'tf' 'states'\n/ ],
	[ "postgres://stranger\@localhost:$port/postgres?sslmode=disable&search_path=tfstate_pg,pg_catalog", 77, qr/permission denied/ ])
{
	($status, $out, $err) = tfstate($alice, { PG_CONN_STR => $wrong->[0] }, 'terraform', 'plan', @plain);
	is($status, $wrong->[1], "connection string $wrong->[0]");
	like($err, $wrong->[2], 'it is told why');
}
like((tfstate($alice, { PGSERVICE => 'x' }, 'terraform', 'plan', @plain))[2], qr/driver does not know PGSERVICE/, 'PGSERVICE');
is((tfstate($alice, {}, 'terraform', '--wait', 'soon', 'plan'))[0], 64, 'a wrong option');
is((tfstate($alice, {}, 'terraform', '--fly', 'plan'))[0], 64, 'an option that does not exist');
is((tfstate($alice, {}, 'terraform', '--', "$names/none", 'version'))[0], 127, 'a program that does not exist');
like((tfstate($alice, { PGPORT => 1, PG_CONN_STR => 'host=127.0.0.1' }, 'terraform', '--', "$names/tofu", 'plan', '-help'))[1], qr/^Usage: /m, 'help takes no lock');

# Inside of tfstate run there is one lock

($status, $out, $err) = tfstate($alice, {}, 'run', '-d', $alice->{env}{PG_CONN_STR}, $lockid, '--', 'sh', '-c',
	"tfstate terraform plan @plain -out=p && tfstate terraform apply @plain p");
is($status, 0, 'tfstate terraform inside of tfstate run') or diag("$out\n$err");

is((tfstate($alice, { TFSTATE_LOCKID => "other\n$lockid-other" }, 'terraform', 'plan', @plain))[0], 0, 'inside of tfstate run with another lock');
is(sql("SELECT mode FROM tfstate_history('$lockid') ORDER BY fence DESC LIMIT 1"), 'durable', 'its own one is taken, though the other one begins like it');

# What is killed leaves nothing

$run = start_apply($alice);
my $terraform = sql("SELECT 1") && qx(ps -o pid= --ppid $run->{pid}) + 0;
kill('KILL', $terraform);
is((end($run))[0], 128 + 9, 'kill -9 of the program is told as a shell does');
$alice->open_gate;
nothing_held($node, 'nothing is left');

$run = start_apply($alice, '--ttl', '5s');
$terraform = qx(ps -o pid= --ppid $run->{pid}) + 0;
kill('KILL', $run->{pid});
end($run);
wait_for('the program to end', sub { !kill(0, $terraform) });
$alice->open_gate;
is((tfstate($bob, {}, 'terraform', 'apply', @plain, '-auto-approve', '-lock-timeout=1m'))[0], 0, 'kill -9 of tfstate: the next run gets the lock by itself');

# Signals go to the program, which tells its children

$alice->write_config(Terraform::pg_backend() . qq(
	resource "terraform_data" "child" {
	  provisioner "local-exec" {
	    command = "trap 'echo told >told' TERM; echo >applied; while [ -e gate ]; do sleep 0.05; done"
	  }
	}));
$run = start_apply($alice);
kill('TERM', $run->{pid});
$run->{run}->pump until $run->{out} =~ /Interrupt|Stopping/;
$alice->open_gate;
($status, $out, $err) = end($run);
ok(!-e "$alice->{dir}/told", 'a signal goes to the program only') or diag("$out\n$err");
nothing_held($node, 'nothing is left');

# A lock that is lost ends the program

$run = start_apply($bob);
sql("SELECT tfstate_grant('terraform', '*', 'view'), tfstate_force_unlock('$lockid', reason => 'a test')");
wait_for('the loss', sub { $run->{run}->pump_nb; $run->{err} =~ /was lost/ });
$bob->open_gate;
($status, $out, $err) = end($run);
is($status, 70, 'a lost lock ends the program') or diag("$out\n$err");
like($err, qr/^tfstate: state lock "$lockid" was lost: it was released by force, by .*: a test/m, 'it is told how');
nothing_held($node, 'nothing is left');

# A server that starts anew

$run = start_apply($bob);
$node->restart;
$bob->open_gate;
($status, $out, $err) = end($run);
is($status, 0, 'an apply goes on over a restart of the server') or diag("$out\n$err");
like(state_of($node, 'tf'), qr/\|bob$/, 'and writes its state');
nothing_held($node, 'nothing is left');

done_testing();
