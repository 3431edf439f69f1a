# The commands on the page doc/howto/move.md, word for word: real Terraform has its states in other
# backends, moves as the page says, and then plans no changes; nobody else can write meanwhile.
# S3 and DynamoDB are a directory and a file with what they would have.

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use File::Copy qw(copy);
use FindBin;
use lib "$FindBin::RealBin/../lib";
use IO::Socket::INET;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('moving');
my $tmp = PostgreSQL::Test::Utils::tempdir();
my $page = slurp_file("$FindBin::RealBin/../../doc/howto/move.md");
my ($pg_backend) = $page =~ /^```hcl\n(.*?)^```$/ms or die 'the page has no backend';

# The commands of each section, by its heading
my %blocks = map { /^(.*)\n/ ? ("$1" => [ /^```sh\n(.*?)^```$/msg ]) : () } split(/^## /m, $page);

mkdir "$tmp/bin" or die $!;
symlink(program('path'), "$tmp/bin/terraform") or die $!;
write_file("$tmp/bin/aws", <<'END');
#!/bin/sh
case "$1 $2" in
	's3 cp') cp -r "$BUCKET"/. . ;;
	'dynamodb scan') cat "$ITEMS" ;;
	*) exit 2 ;;
esac
END
chmod(0755, "$tmp/bin/aws") or die $!;
%ENV = (%ENV,
	PATH => "$tmp/bin:$ENV{PATH}",
	PGHOST => $node->host,
	PGPORT => $node->port,
	PGDATABASE => 'postgres',
	PGUSER => scalar(getpwuid($<)),
	PG_CONN_STR => 'postgres://terraform@127.0.0.1:' . $node->port . '/postgres?sslmode=disable',
	BUCKET => "$tmp/bucket",
	ITEMS => "$tmp/items",
	TF_INPUT => 0);

my $project;    # the directory in which the commands run

sub write_file
{
	my ($name, $text) = @_;
	open(my $file, '>:raw', $name) or die "$name: $!";
	print $file $text;
	close($file);
}

# Makes a project with a backend.
sub new_project
{
	my ($name, $backend) = @_;

	$project = "$tmp/$name";
	mkdir $project or die $!;
	use_backend($backend);
}

sub use_backend
{
	my ($backend) = @_;
	write_file("$project/main.tf", <<"END");
$backend
resource "terraform_data" "network" {
  input = terraform.workspace
}

output "network" {
  value = terraform_data.network.output
}
END
}

# Runs commands in the project, and returns the exit status and the output.
sub shell
{
	my ($commands, %env) = @_;
	my $output;
	local %ENV = (%ENV, %env);

	IPC::Run::run([ 'bash', '-e', '-c', $commands ], '<', \undef, '>', \$output, '2>&1', init => sub { chdir($project) or die $! });
	return ($? >> 8, $output =~ s/\e\[[0-9;]*m//gr);
}

# Tests that commands succeed, and returns what they print.
sub succeeds
{
	my ($test, $commands, %env) = @_;
	my ($status, $output) = shell($commands, %env);

	is($status, 0, $test) or diag($output);
	return $output;
}

# Runs the next block of a section of the page.
sub run_block
{
	my ($section) = @_;
	my $block = shift @{ $blocks{$section} } or die "the section $section has no more blocks";
	return succeeds("$section: " . ($block =~ s/\s+/ /gr), $block);
}

# Tests that a plan in a workspace shows no changes.
sub no_changes
{
	my ($section, $workspace) = @_;
	like(succeeds("$section: a plan in $workspace", 'terraform plan', TF_WORKSPACE => $workspace), qr/No changes\./, "$section: no changes in $workspace");
}

# Empties the table for the next project.
sub new_table
{
	sql("SELECT tfstate_detach('network'); DROP SCHEMA network CASCADE; DROP OWNED BY terraform") if sql("SELECT to_regclass('network.states')");
	sql("SELECT tfstate_attach('network', role => 'terraform')");
}

# The states of a real project in two workspaces, as local files have them

new_project('local', Terraform::backend('local'));
succeeds('a project with local states', 'terraform init && terraform apply -auto-approve && terraform workspace new prod && terraform apply -auto-approve && terraform workspace select default');
my $local = $project;
my %state = (default => slurp_file("$local/terraform.tfstate"), prod => slurp_file("$local/terraform.tfstate.d/prod/terraform.tfstate"));

# S3 and DynamoDB

{
	my $section = 'From S3 and DynamoDB';
	my %key = (default => 'network/terraform.tfstate', prod => 'env:/prod/network/terraform.tfstate');
	my @digests = map { { LockID => { S => "states/$key{$_}-md5" }, Digest => { S => md5_hex($state{$_}) } } } sort keys %key;
	my $lock = { LockID => { S => "states/$key{prod}" }, Info => { S => encode_json({
		ID => 'f3a1c0de-0000-4000-8000-000000000001', Operation => 'OperationTypeApply', Info => '', Who => 'runner17@ci',
		Version => '1.11.4', Created => '2026-11-20T09:30:00.123456789Z', Path => "states/$key{prod}" }) } };

	system('mkdir', '-p', "$tmp/bucket/network", "$tmp/bucket/env:/prod/network") == 0 or die;
	write_file("$tmp/bucket/$key{$_}", $state{$_}) foreach keys %key;
	write_file("$tmp/items", encode_json({ Items => [ @digests, $lock ], Count => 3, ScannedCount => 3, ConsumedCapacity => undef }));
	new_project('s3', Terraform::backend('local'));
	like(run_block('Prepare'), qr/schema_name +=/, 'Prepare: the backend is printed');
	my ($status, $output) = shell($blocks{$section}[0]);
	is($status, 75, "$section: a state that is locked there is not imported");
	like($output, qr/env:\S+ is locked by runner17\@ci: OperationTypeApply since .* --locks$/m, "$section: it is said who holds the lock");
	is(sql("SELECT string_agg(name, ' ') FROM network.states"), 'default', "$section: the other one is imported");
	write_file("$tmp/items", encode_json({ Items => \@digests, Count => 2, ScannedCount => 2, ConsumedCapacity => undef }));
	like(run_block($section), qr/^network\.states\/prod: serial \d+ imported$/m, "$section: both are imported");
	use_backend($pg_backend);
	like(run_block($section), qr/No changes\./, "$section: no changes");
	no_changes($section, 'prod');
	is(sql("SELECT string_agg(data, '' ORDER BY name) FROM network.states"), $state{default} . $state{prod}, "$section: the states are as in S3, byte for byte");

	# an orphaned lock
	write_file("$tmp/items", encode_json({ Items => [ @digests, $lock ], Count => 3, ScannedCount => 3, ConsumedCapacity => undef }));
	succeeds('items with a lock', 'aws dynamodb scan >items.json');
	like(run_block($section), qr/runner17\@ci/, "$section: a lock that is taken over");
	nothing_held($node, "$section: it is released");
}

# pg without tfstate

{
	my $section = 'From the pg backend without tfstate';

	new_project('stock', "terraform {\n  backend \"pg\" {\n    schema_name = \"terraform_remote_state\"\n  }\n}\n");
	sql('CREATE ROLE stock LOGIN; GRANT CREATE ON DATABASE postgres TO stock; GRANT CREATE ON SCHEMA public TO stock; ALTER SEQUENCE public.global_states_id_seq OWNER TO stock');
	succeeds('a project with states in stock pg', 'terraform init && terraform apply -auto-approve', PG_CONN_STR => $ENV{PG_CONN_STR} =~ s/terraform@/stock@/r);
	run_block($section);
	use_backend($pg_backend =~ s/"network"/"terraform_remote_state"/r);
	like(run_block($section), qr/No changes\./, "$section: no changes");
	succeeds("$section: an apply", 'terraform apply -auto-approve -replace=terraform_data.network');
	is(sql("SELECT string_agg(operation || ' ' || (fence IS NOT NULL), ', ' ORDER BY number) FROM tfstate_versions('terraform_remote_state.states/default')"),
		'found false, write true', "$section: the state has versions, and was written under the lock");
}

# Local files, moved by Terraform and by tfstate

foreach my $how ('Terraform', 'tfstate')
{
	my $section = 'From local files';

	new_table();
	new_project("local-$how", Terraform::backend('local'));
	succeeds('a copy of the project', "cp -r $local/. . && rm main.tf");
	use_backend($pg_backend);
	like(run_block($section), qr/No changes\./, "$section, by $how: no changes");
	no_changes("$section, by $how", 'prod');
	ok((grep { -s } "$project/terraform.tfstate", "$project/terraform.tfstate.backup", "$project/before/terraform.tfstate"), "$section, by $how: the old state is kept");
}

# http: a server that keeps one state and one lock

{
	my $section = 'From http';
	my $server = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die $!;
	my $address = 'http://127.0.0.1:' . $server->sockport . '/network';
	my $pid = fork() // die $!;

	serve($server) if $pid == 0;
	new_table();
	new_project('http', Terraform::backend('http', map { qq($_ = "$address") } 'address', 'lock_address', 'unlock_address'));
	succeeds('a project with its state in http', 'terraform init && terraform apply -auto-approve');
	run_block($section);
	use_backend($pg_backend);
	like(run_block($section), qr/No changes\./, "$section: no changes");
	kill('KILL', $pid);
	waitpid($pid, 0);
}

sub serve
{
	my ($server) = @_;
	my ($state, $lock) = ('', '');

	while (my $client = $server->accept)
	{
		my ($method) = <$client> =~ /^([A-Z]+) /;
		my ($length, $body) = (0, '');
		while ((my $line = <$client>) =~ /\S/)
		{
			$length = $1 if $line =~ /^Content-Length: (\d+)/i;
		}
		read($client, $body, $length) if $length;
		my $status = 200;
		$status = 404 if $method eq 'GET' && $state eq '';
		$status = 423 if $method eq 'LOCK' && $lock ne '';
		$state = $body if $method eq 'POST';
		$lock = $body if $method eq 'LOCK' && $status == 200;
		$lock = '' if $method eq 'UNLOCK';
		my $answer = $status == 423 ? $lock : $method eq 'GET' ? $state : '';
		print $client "HTTP/1.1 $status x\r\nConnection: close\r\nContent-Length: " . length($answer) . "\r\n\r\n$answer";
		close($client);
	}
	POSIX::_exit(0);
}

# Any other backend, with workspaces

{
	my $section = 'From any other backend';

	new_table();
	new_project('other', Terraform::backend('local', 'path = "states/terraform.tfstate"', 'workspace_dir = "states/terraform.tfstate.d"'));
	succeeds('a copy of the states', "cp -r $local states && rm -r states/.terraform states/main.tf && terraform init");
	is(run_block($section), join('', map { "network.states/$_: serial " . decode_json($state{$_})->{serial} . " imported\n" } 'default', 'prod'),
		"$section: each workspace is imported");
	use_backend($pg_backend);
	succeeds("$section: the new backend", 'terraform init -reconfigure');
	no_changes($section, $_) foreach 'default', 'prod';
}

like(run_block('Afterwards'), qr/network\.states\/prod/, 'Afterwards: the workspaces are listed');
unlike((shell(shift @{ $blocks{Afterwards} }))[1], qr/network\.states/, 'Afterwards: the set-up is right');
is_deeply({ map { $_ => $blocks{$_} } grep { @{ $blocks{$_} } } keys %blocks }, {}, 'all commands of the page were run');
is(sql('SELECT count(*) FROM tfstate_verify()'), '0', 'all states are what was recorded');

done_testing();
