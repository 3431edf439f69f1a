# Terraform's http backend, with real runs through tfstate serve and tfstate run --http: the
# ordinary commands, who holds the lock, force-unlock, and exclusion of runs through the pg
# backend, as doc/howto/http.md says.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use HttpServer;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

http_or_skip();
terraform_or_skip();

my $node = http_node('http_terraform');
my $lockid = 's.states/default';
my $config = Terraform::backend('http') . Terraform::network();

# A project that uses a server as a role.
sub project
{
	my ($server, $who, %params) = @_;
	my $address = $server->address('default');

	return Terraform->new($node,
		bare => 1, who => $who, config => $config, init => 0,
		env => {
			TF_HTTP_ADDRESS => $address, TF_HTTP_LOCK_ADDRESS => $address, TF_HTTP_UNLOCK_ADDRESS => $address,
			TF_HTTP_USERNAME => 'alice', TF_HTTP_PASSWORD => 'secret', TF_HTTP_RETRY_WAIT_MIN => 1, %params });
}

sub holders
{
	return sql("SELECT coalesce(string_agg(concat_ws(' ', lockid, mode, operation, info ->> 'Version'), ';'), '') FROM tfstate_holders");
}

my $server = HttpServer->new($node);
my $alice = project($server, 'alice');
my $bob = project($server, 'bob');

#
# The ordinary commands
#
$_->run_ok('init', 'init') foreach $alice, $bob;
$alice->run_ok('plan', 'plan');
is(state_of($node, 's', 'default'), '0|', 'a plan writes nothing');
$alice->apply_ok('a first apply');
like(state_of($node, 's', 'default'), qr/^\d+\|alice$/, 'it has written its state');
$bob->apply_ok('an apply by another');
like(state_of($node, 's', 'default'), qr/\|bob$/, 'it has written its state');
like($alice->run_ok('state pull', 'state', 'pull'), qr/"lineage"/, 'state pull shows the state');
like($alice->run_ok('state list', 'state', 'list'), qr/terraform_data.network/, 'state list shows a resource');
$alice->run_ok('taint', 'taint', 'terraform_data.network');
$alice->run_ok('untaint', 'untaint', 'terraform_data.network');
$alice->run_ok('state mv', 'state', 'mv', 'terraform_data.network', 'terraform_data.other');
$alice->run_ok('state mv back', 'state', 'mv', 'terraform_data.other', 'terraform_data.network');
$alice->run_ok('refresh', 'apply', '-refresh-only', '-auto-approve');
$alice->run_ok('output', 'output', '-json');

# the other commands, and how many times each takes the lock
my $builtin = 'terraform.io/builtin/terraform';
my $dir = $alice->{dir};

sub run_locked
{
	my ($times, @command) = @_;
	my $before = sql('SELECT coalesce(max(fence), 0) FROM tfstate_history');
	my $output = $alice->run_ok("@command", @command);

	is(sql("SELECT count(*) || coalesce(' ' || string_agg(DISTINCT lockid || ' ' || how, ','), '') FROM tfstate_history WHERE fence > $before"),
		$times ? "$times $lockid unlock" : '0', "@command: locks");
	return $output;
}

append_to_file("$dir/imported.tf", qq(resource "terraform_data" "imported" {\n}\n));
run_locked(0, 'validate');
run_locked(0, 'providers');
run_locked(0, 'show');
run_locked(0, 'state', 'show', 'terraform_data.network');
run_locked(1, 'refresh');
run_locked(1, 'plan', '-out=file');
run_locked(1, 'import', 'terraform_data.imported', 'some-id');
like(run_locked(0, 'state', 'list'), qr/terraform_data.imported/, 'import adds a resource');
$alice->run_fails('apply of a plan that is stale', qr/stale/, 'apply', 'file');
run_locked(1, 'plan', '-out=file2');
run_locked(1, 'apply', 'file2');
run_locked(1, 'state', 'rm', 'terraform_data.imported');
unlike(run_locked(0, 'state', 'list'), qr/terraform_data.imported/, 'state rm removes it');
foreach my $change ([ $builtin, 'example.com/x/y' ], [ 'example.com/x/y', $builtin ])
{
	run_locked(1, 'state', 'replace-provider', '-auto-approve', @$change);
	is(sql("SELECT data::jsonb #>> '{resources,0,provider}' FROM s.states"), "provider[\"$change->[1]\"]", 'state replace-provider replaces it');
}
unlink("$dir/imported.tf");
my $pulled = decode_json(run_locked(0, 'state', 'pull'));
foreach my $push ([ 1, newer => $pulled->{serial} + 1 ], [ 0, older => $pulled->{serial} ])
{
	my ($works, $name, $serial) = @$push;

	append_to_file("$dir/$name.tfstate", JSON::PP->new->canonical->encode({ %$pulled, serial => $serial + 0 }));
	run_locked(1, 'state', 'push', "$name.tfstate") if $works;
	$alice->run_fails('state push of an older state', qr/serial|newer|greater|older/, 'state', 'push', "$name.tfstate") unless $works;
}
cmp_ok((split(/\|/, state_of($node, 's', 'default')))[0], '>', $pulled->{serial}, 'state push has written the newer state');
$alice->run_fails("workspace $_", qr/workspaces not supported/i, 'workspace', $_, $_ eq 'list' ? () : 'prod') foreach qw(new list);
$alice->run_ok('state pull -lock=false, plan -lock=false', 'plan', '-lock=false');
$alice->run_fails('apply without the lock', qr/HTTP error: 409/, 'apply', '-auto-approve', '-lock=false', '-var', 'round=7');
like($server->logged(qr/"POST .*" 409/), qr/this session does not hold its lock.*last written by .*\@/,
	'the log says why a write was refused, and who wrote last');
unlink("$alice->{dir}/errored.tfstate");
is(holders(), '', 'no lock is left');
is(sql("SELECT count(*) FROM tfstate_verify()"), 0, 'all states are intact');

#
# Conflicts: of two through http, and of one of each kind
#
my $apply = $alice->start_slow_apply;
my ($id, $version) = split(/\|/, sql("SELECT id || '|' || (info ->> 'Version') FROM tfstate_holders"));

like(holders(), qr/^$lockid durable OperationTypeApply \d/, 'the lock has what Terraform says of it');
my $output = $bob->apply_fails('a second apply', qr/HTTP remote state already locked: ID=$id/);
like($output, qr/ID: +$id/, 'it shows the Lock Info of the holder') if program('http_shows_holder');

$node->safe_psql('postgres', "CREATE ROLE terraform LOGIN; SELECT tfstate_attach('s', role => 'terraform')");
my $carol = Terraform->new($node, schema => 's', who => 'carol');
$carol->apply_fails('an apply through the pg backend', qr/state lock "$lockid" is held by \S+: OperationTypeApply since .*\(ID $id/);
my $waiting = $bob->start('apply', '-auto-approve', '-lock-timeout=60s');
$server->logged(qr/"LOCK .*" 423 .*/);
$alice->open_gate;
$apply->succeeds_ok('the first apply succeeds');
$waiting->succeeds_ok('one that waits with -lock-timeout succeeds after it');

$apply = $carol->start_slow_apply;
$bob->apply_fails('an apply through http while one through the pg backend runs',
	qr/HTTP remote state already locked: ID=[0-9a-f-]{36}/);
like($server->logged(qr/"LOCK .*" 423.*carol/), qr/held by carol: apply/, 'the log names the holder');
$carol->open_gate;
$apply->succeeds_ok('the apply through the pg backend succeeds');
$bob->apply_ok('the one through http succeeds after it');

# a freeze tells its reason
sql("SELECT count(*) FROM tfstate_freeze('s.*', 'database upgrade')");
$bob->apply_fails('an apply of what is frozen', qr/is frozen by .* database\s+upgrade/);
sql("SELECT tfstate_unfreeze('s.*')");

#
# force-unlock
#
$apply = $alice->start_slow_apply;
$id = sql("SELECT id FROM tfstate_holders");
$apply->kill9;
is(holders() =~ s/ .*//r, $lockid, 'the lock of a killed run stays');
if (program('http_unlock_sends_id'))
{
	$bob->run_fails('force-unlock with another ID', qr/409/, 'force-unlock', '-force', uuid());
	$bob->run_ok('force-unlock', 'force-unlock', '-force', $id);
}
else
{
	$bob->run_fails('force-unlock without the ID in the address', qr/400/, 'force-unlock', '-force', $id);
	like($server->logged(qr/"UNLOCK .*" 400/), qr/TF_HTTP_UNLOCK_ADDRESS=.*\?ID=/, 'the log says what to do');
	$bob->{env}{TF_HTTP_UNLOCK_ADDRESS} .= '?ID=' . uuid();
	$bob->run_fails('force-unlock with another ID', qr/409/, 'force-unlock', '-force', $id);
	$bob->{env}{TF_HTTP_UNLOCK_ADDRESS} =~ s/ID=.*/ID=$id/;
	$bob->run_ok('force-unlock', 'force-unlock', '-force', $id);
}
is(holders(), '', 'the lock is released');
is(sql("SELECT how FROM tfstate_history WHERE id = '$id'"), 'unlock', 'the role may release its own lock, which is no force');
$bob->apply_ok('the next apply, with the ID still in the address');
is(holders(), '', 'it has released its own lock');

# a holder that is forced out
sql("SELECT tfstate_grant('alice', 's.states/*', 'force')");
$apply = $alice->start_slow_apply;
$id = sql("SELECT id FROM tfstate_holders");
$bob->{env}{TF_HTTP_UNLOCK_ADDRESS} =~ s/\?ID=.*//;
$bob->{env}{TF_HTTP_UNLOCK_ADDRESS} .= "?ID=$id";
$bob->run_ok('force-unlock of a live run', 'force-unlock', '-force', $id);
is(sql("SELECT how FROM tfstate_history WHERE id = '$id'"), 'force', 'that is force');
$bob->apply_ok('the next apply');
$alice->open_gate;
$apply->fails_ok('the run that was forced out', qr/HTTP error: 409/);
like($server->logged(qr/POST .*" 409.*ID=$id/), qr/lost its lock \(it was released by force\)/, 'the log says that it has lost its lock');
like(state_of($node, 's', 'default'), qr/\|bob$/, 'it has not overwritten the state');

is($server->stop, 0, 'the server ends cleanly');

#
# tfstate run --http
#
my @run = ('tfstate', 'run', '--http', '-d', $node->connstr('postgres') . ' user=terraform');
my $dave = Terraform->new($node, bare => 1, who => 'dave', config => $config, init => 0, wrapper => [ @run, $lockid, '--' ]);

$dave->run_ok('run --http: init', 'init');
$dave->apply_ok('run --http: apply');
like(state_of($node, 's', 'default'), qr/\|dave$/, 'run --http: the state is written');
$apply = $dave->start_slow_apply;
is(sql("SELECT mode || ' ' || (expires_at IS NOT NULL) || ' ' || role FROM tfstate_holders"), 'durable true terraform',
	'run --http: the lock is a lease of the caller');
$carol->apply_fails('run --http: another run is refused', qr/state lock "$lockid" is held by \S+: OperationTypeApply/);
$dave->open_gate;
$apply->succeeds_ok('run --http: the apply succeeds');

# the program is killed: its lock is released
$apply = $dave->start_slow_apply;
my ($child) = slurp_file("/proc/$apply->{pid}/task/$apply->{pid}/children") =~ /^(\d+) $/;
kill('KILL', $child);
my ($status, $said) = $apply->finish;
is($status, 137, 'run --http: exits as the command did');
like($said, qr/released state lock "$lockid", which the command has left locked/, 'run --http: releases what a killed command has left locked');
is(holders(), '', 'run --http: no lock is left');

# force-unlock of a lock that somebody has left
$id = sql("SELECT id FROM tfstate_lock('$lockid', '{\"Who\":\"left\"}')");
$dave->run_fails('run --http: an apply shows the ID', qr/already locked: ID=$id/, 'apply', '-auto-approve');
$dave->run_fails('run --http: force-unlock of what another role has locked', qr/403/, 'force-unlock', '-force', $id);
sql("SELECT tfstate_grant('terraform', 's.states/*', 'force')");
$dave->run_ok('run --http: force-unlock', 'force-unlock', '-force', $id);
is(holders(), '', 'run --http: the lock is released');
$dave->run_ok('run --http: destroy', 'destroy', '-auto-approve');
is(sql("SELECT count(*) FROM tfstate_verify()"), 0, 'all states are intact');

done_testing();
