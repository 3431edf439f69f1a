# tfstate import: states come into their workspaces under their locks, once; digests and locks
# of DynamoDB's items count; what is there is never lost; and what is wrong is said in a line,
# with nothing changed.

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('client_import');
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGDATABASE} = 'postgres';
my $user = 'terraform';    # of the imports

sql(q(
	CREATE ROLE terraform LOGIN;
	CREATE ROLE somebody LOGIN;
	SELECT tfstate_attach('net', role => 'terraform'), tfstate_attach('Odd "json"', 'select', role => 'terraform'),
		   tfstate_attach('json', role => 'terraform');
	CREATE TABLE net.plain (name text PRIMARY KEY, data text);
));
my $dir = PostgreSQL::Test::Utils::tempdir();
chdir($dir) or die $!;
mkdir($_) or die "$_: $!" foreach 's3', 's3/net', 's3/env:', 's3/env:/prod', 's3/env:/prod/net', 's3/workspaces', 's3/workspaces/stage';

# Runs tfstate import with the given standard input and returns its exit status, standard
# output and standard error.
sub import_input
{
	my ($in, @arguments) = @_;
	my ($out, $err);
	local $ENV{PGUSER} = $user;
	IPC::Run::run([ 'tfstate', 'import', @arguments ], '<', \$in, '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

# What the tables have, to see that nothing is changed
sub contents
{
	return sql(q(SELECT md5(string_agg(s.data, ' ' ORDER BY s.name)), (SELECT string_agg(h.lockid || h.id, ' ' ORDER BY lockid) FROM tfstate_holders h)
		FROM net.states s));
}

# Tests that an import succeeds and prints the lines.
sub imported
{
	my ($expected, $in, @arguments) = @_;
	my @result = import_input($in, @arguments);

	is($result[0], 0, "import @arguments");
	is($result[1], $expected, 'it says what it has done');
	is($result[2], '', 'and nothing else');
}

# Tests that an import is refused with the exit status and one line on standard error, and
# changes nothing.
sub refused
{
	my ($status, $pattern, $in, @arguments) = @_;
	my $before = contents();
	my @result = import_input($in, @arguments);

	is($result[0], $status, "exit status of import @arguments");
	like($result[2], qr/\Atfstate: $pattern\n(tfstate: (hint|detail): .*\n|Try .*\n)*\z/, 'one line says why');
	is($result[1], '', 'it prints nothing else');
	is(contents(), $before, 'nothing is changed');
}

# A state
sub state
{
	my ($serial, $lineage, %keys) = @_;
	return JSON::PP->new->canonical->utf8->encode({
		version => 4, terraform_version => '1.11.4', serial => $serial, lineage => $lineage,
		outputs => { o => { value => "\x{e4}\x{20ac}", type => 'string' } }, resources => [], %keys });
}

sub write_file
{
	my ($name, $text) = @_;
	open(my $file, '>:raw', $name) or die "$name: $!";
	print $file $text;
	close($file);
}

# Items as "aws dynamodb scan" prints them: of states in S3, by their keys, and of locks
sub write_items
{
	my ($states, $locks) = @_;
	my @items = ((map { { LockID => { S => "bucket/$_-md5" }, Digest => { S => md5_hex($states->{$_}) } } } sort keys %$states),
		map { { LockID => { S => "bucket/$_" }, Info => { S => encode_json($locks->{$_}) } } } sort keys %$locks);

	write_file('items.json', JSON::PP->new->pretty->encode({ Items => \@items, Count => scalar(@items), ScannedCount => scalar(@items), ConsumedCapacity => undef }));
}

my @net = ('--table', 'net.states');
my $data = sub { sql("SELECT data FROM net.states WHERE name = '$_[0]'") };

# From standard input and from files; names from paths

imported("net.states/prod: serial 3 imported\n", state(3, 'p'), @net, 'prod=-');
is($data->('prod'), state(3, 'p'), 'the state is there byte for byte');
is(sql("SELECT operation, lock_operation, who ~ '.+\@.+', fence IS NOT NULL FROM tfstate_versions('net.states/prod')"), 'write|import|t|t',
	'it was written under the lock, and the version tells by whom');
is(sql('SELECT count(*) FROM tfstate_holders'), '0', 'the lock is released');
imported("net.states/prod: serial 3 is already there\n", state(3, 'p'), @net, 'prod=-');
imported("net.states/prod: serial 3 is already there\n", state(3, 'p', terraform_version => '1.5.7') =~ s/,/,\n /gr, @net, 'prod=-');
is(sql("SELECT count(*) FROM tfstate_versions('net.states/prod')"), '1', 'and is not written again');
refused(1, qr/workspace "net.states\/prod" has serial 3, and standard input has serial 5; to replace it, use --newer/, state(5, 'p'), @net, 'prod=-');
imported("net.states/prod: serial 5 imported\n", state(5, 'p'), @net, '--newer', 'prod=-');
is(sql("SELECT string_agg(serial::text, ' ' ORDER BY number) FROM tfstate_versions('net.states/prod')"), '3 5', 'what a later state replaces stays as a version');
{
	local $ENV{LC_ALL} = 'C';
	local $ENV{PGCLIENTENCODING} = 'LATIN1';
	imported("net.states/latin: serial 1 imported\n", state(1, 'l'), @net, 'latin=-');
}
is($data->('latin'), state(1, 'l'), 'the encoding of the client does not matter');
my $zero = state(1, 'z', outputs => { o => { value => "a\0b\\u0000", type => 'string' } });
like($zero, qr/a\\u0000b\\\\u0000/, 'a state with the character 0');
imported("net.states/zero: serial 1 imported\n", $zero, @net, 'zero=-');
imported("net.states/zero: serial 1 is already there\n", $zero, @net, 'zero=-');
is($data->('zero'), $zero, 'is there byte for byte');
refused(1, qr/workspace "net.states\/zero" has serial 1 of another state, .*/, $zero . ' ', @net, 'zero=-');
mkdir 'terraform.tfstate.d' and mkdir 'terraform.tfstate.d/dev' or die $!;
write_file('terraform.tfstate', state(1, 'd'));
write_file('terraform.tfstate.d/dev/terraform.tfstate', state(2, 'dev'));
write_file('odd=name', state(4, 'odd'));
imported("net.states/default: serial 1 imported\nnet.states/dev: serial 2 imported\nnet.states/a b: serial 4 imported\n", '',
	@net, 'terraform.tfstate', 'terraform.tfstate.d/dev/terraform.tfstate', 'a b=odd=name');
imported("\"Odd \"\"json\"\"\".\"select\"/x: serial 1 imported\n", state(1, 'x'), '--table', '"Odd ""json""".select', 'x=-');
imported("json.states/x: serial 1 imported\n", state(1, 'x'), '--table', 'json.states', 'x=-');
refused(64, qr/the name "odd=name" does not tell the workspace: write WORKSPACE=odd=name/, '', @net, 'odd=name');
refused(64, qr/"terraform.tfstate" and "odd=name" are both for workspace "default"/, '', @net, 'terraform.tfstate', 'default=odd=name');

# What is there is not lost

push @net, '--newer';

refused(1, qr/workspace "net.states\/prod" has serial 5, and standard input has serial 4; .*/, state(4, 'p'), @net, 'prod=-');
refused(1, qr/workspace "net.states\/prod" has serial 5 of another state, and standard input has serial 5; .*/, state(5, 'p', outputs => {}), @net, 'prod=-');
refused(1, qr/workspace "net.states\/prod" has the state of another project, with lineage "p"; that of standard input is "q"/, state(9, 'q'), @net, 'prod=-');
refused(1, qr/workspace "net.states\/prod" has the state of another project, with lineage "p"; that of standard input is ""/, state(9, ''), @net, 'prod=-');
sql("SELECT tfstate_attach('net', guard => 'off')");
{
	$user = getpwuid($<);
	local $ENV{PGOPTIONS} = '-c tfstate.guard=off';
	refused(1, qr/workspace "net.states\/prod" has serial 5, and standard input has serial 4; .*/, state(4, 'p'), @net, 'prod=-');
	$user = 'terraform';
}
sql("SELECT tfstate_attach('net', guard => 'require')");
my $id = sql("SELECT id FROM tfstate_lock('net.states/prod', '{\"Who\": \"carol\"}')");
refused(75, qr/state lock "net.states\/prod" is held by carol since .*/, state(6, 'p'), @net, 'prod=-');
imported("net.states/prod: serial 5 is already there\n", state(5, 'p'), @net, 'prod=-');
sql("SELECT tfstate_unlock('net.states/prod', '$id')");

# One that fails does not keep the others away.
{
	my @result = import_input(state(9, 'q'), @net, 'prod=-', 'test=terraform.tfstate');
	is($result[0], 1, 'two states, the first refused: exit status');
	is($result[1], "net.states/test: serial 1 imported\n", 'two states, the first refused: the second is there');
}

# Lock items

my %state = map { $_ => state(7, $_) } 'net/terraform.tfstate', 'env:/prod/net/terraform.tfstate', 'workspaces/stage/net.tfstate';
write_file("s3/$_", $state{$_}) foreach keys %state;
my %lock = (ID => 'a1b2', Operation => 'OperationTypeApply', Info => '', Who => 'bob@ci', Version => '1.5.7',
	Created => '2026-11-01T10:00:00.5Z', Path => 'bucket/env:/prod/net/terraform.tfstate');
my @files = ('s3/net/terraform.tfstate', 's3/env:/prod/net/terraform.tfstate');
my @items = ('--items', 'items.json');
sql("SELECT tfstate_attach('s3', role => 'terraform')");
my @s3 = ('--table', 's3.states');

write_items(\%state, {});
imported("s3.states/default: serial 7 imported\ns3.states/prod: serial 7 imported\ns3.states/stage: serial 7 imported\n", '',
	@s3, @items, @files, 'stage=s3/workspaces/stage/net.tfstate');
refused(1, qr/no state was imported: no lock item in items.json belongs to odd=name; .*/, '', @s3, @items, @files, 'x=odd=name');
write_items({ %state, 'net/terraform.tfstate' => 'newer' }, {});
refused(1, qr/s3\/net\/terraform.tfstate is not the state that was written last: its MD5 is [0-9a-f]{32}, and the digest in items.json is [0-9a-f]{32}/, '', @s3, @items, $files[0]);
write_items({ 'net/terraform.tfstate' => $state{ $files[1] =~ s/^s3\///r } }, {});
refused(1, qr/no state was imported: no lock item in items.json belongs to s3\/env:.*/, '', @s3, @items, $files[1]);
{
	my $two = decode_json(do { write_items(\%state, {}); slurp_file('items.json') });
	push @{ $two->{Items} }, map { { %$_, LockID => { S => $_->{LockID}{S} =~ s/^bucket/other/r } } } @{ $two->{Items} };
	write_file('items.json', encode_json($two));
	refused(1, qr/no state was imported: more than one lock item in items.json belong to s3\/net.*/, '', @s3, @items, $files[0]);
}

# A lock that is held there

$state{'env:/prod/net/terraform.tfstate'} = state(8, 'env:/prod/net/terraform.tfstate');
write_file($files[1], $state{'env:/prod/net/terraform.tfstate'});
write_items(\%state, { 'env:/prod/net/terraform.tfstate' => \%lock, 'other.tfstate' => { %lock, ID => 'c3' } });
refused(75, qr/s3\/env:\S+ is locked by bob\@ci: OperationTypeApply since 2026-11-01T10:00:00.5Z \(ID a1b2\); .* --locks/, '', @s3, @items, $files[1]);
push @s3, '--newer';
my @result = import_input('', @s3, @items, '--locks', @files);
is($result[0], 0, '--locks');
is($result[1], "s3.states/default: serial 7 is already there\n"
	  . "s3.states/prod: serial 8 imported, locked by bob\@ci: OperationTypeApply since 2026-11-01T10:00:00.5Z (ID a1b2)\n", '--locks: the lock is taken over');
like($result[2], qr/\Atfstate: not taken over: the lock of bucket\/other.tfstate, .* held by bob\@ci: .*\n\z/, '--locks: other locks are named');
is_deeply(decode_json(sql("SELECT info FROM tfstate_holders WHERE lockid = 's3.states/prod' AND id = 'a1b2' AND who = 'bob\@ci' AND mode = 'durable'")), \%lock,
	'--locks: with all that was said of it');
@result = import_input('', @s3, @items, '--locks', $files[1]);
like($result[1], qr/prod: serial 8 is already there, locked by bob/, '--locks again: the lock is there');
$state{'env:/prod/net/terraform.tfstate'} = state(9, 'env:/prod/net/terraform.tfstate');
write_file($files[1], $state{'env:/prod/net/terraform.tfstate'});
write_items(\%state, { 'env:/prod/net/terraform.tfstate' => \%lock });
imported("s3.states/prod: serial 9 imported, locked by bob\@ci: OperationTypeApply since 2026-11-01T10:00:00.5Z (ID a1b2)\n", '',
	@s3, @items, '--locks', $files[1]);
is(sql("SELECT lock_id FROM tfstate_versions('s3.states/prod') ORDER BY number DESC LIMIT 1"), 'a1b2', '--locks again: a later state is written under that lock');
write_items(\%state, { 'env:/prod/net/terraform.tfstate' => { %lock, ID => 'd4' } });
@result = import_input('', @s3, @items, '--locks', $files[1]);
is($result[0], 75, '--locks: another holding in the meantime');
is((run_command([ 'tfstate', 'unlock', '-U', 'terraform', 's3.states/prod', 'a1b2' ]))[1], '', 'the lock is released by its ID');
is(sql('SELECT count(*) FROM tfstate_holders'), '0', 'no lock is left');

# Bad input

refused(1, qr/standard input is empty/, '', @net, 'prod=-');
refused(1, qr/standard input is not a state: invalid input syntax for type json/, '{"a"', @net, 'prod=-');
refused(1, qr/standard input is not a state: it has no serial or no lineage/, '[1, 2]', @net, 'prod=-');
refused(1, qr/standard input is not a state: it has no serial or no lineage/, '{"serial": 4}', @net, 'prod=-');
refused(1, qr/cannot change the state of workspace "net.states\/y": the new state has no serial or no lineage/, '{"serial": "x", "lineage": "y"}', @net, 'y=-');
refused(1, qr/standard input is not a state: invalid byte sequence .*/, qq({"serial": 1, "lineage": "\xff"}), @net, 'prod=-');
refused(1, qr/standard input is not a state: invalid byte sequence .*/, "{\0}", @net, 'prod=-');
refused(1, qr/could not read nowhere: No such file or directory/, '', @net, 'x=nowhere');
refused(1, qr/could not read s3: Is a directory/, '', @net, 'x=s3');
refused(1, qr/there is no table "net.none"; .*/, '', '--table', 'net.none', 'terraform.tfstate');
refused(1, qr/table "net.plain" is not attached; .*/, '', '--table', 'net.plain', 'terraform.tfstate');
refused(64, qr/invalid table: "net" \(SCHEMA.TABLE is valid\)/, '', '--table', 'net', 'terraform.tfstate');
refused(64, qr/no state is given: .*/, '', @net);
refused(64, qr/invalid argument: "=-" .*/, '', @net, '=-');
refused(64, qr/--locks needs --items, .*/, '', @net, '--locks', 'terraform.tfstate');
refused(64, qr/standard input is named twice/, '', @net, '--items', '-', 'x=-');
foreach my $items ('{"a"', '[]', '{"Items": 1}', '{"Items": [{"LockID": {"S": "b/net/terraform.tfstate"}, "Info": {"S": "x"}}]}')
{
	refused(1, qr/standard input is not the JSON that "aws dynamodb scan" prints: .*|there are no lock items in standard input; .*/, $items,
		@s3, '--items', '-', $files[0]);
}
{
	$user = 'somebody';
	refused(77, qr/permission denied for schema net/, '', @net, 'terraform.tfstate');
	sql('GRANT USAGE ON SCHEMA net TO somebody; GRANT SELECT ON net.states TO somebody');
	refused(77, qr/permission denied for state lock "net.states\/new"/, state(1, 'n'), @net, 'new=-');
	sql("SELECT tfstate_grant('somebody', 'net.*')");
	refused(77, qr/permission denied for table states/, state(1, 'n'), @net, 'new=-');
	$user = 'terraform';
}
is(sql('SELECT count(*) FROM tfstate_verify()'), '0', 'all that was written is what was recorded');

# Interrupted while it waits for input

sub sessions
{
	local $ENV{PGUSER} = getpwuid($<);
	return sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'terraform' AND state = 'idle'");
}

{
	my ($in, $out, $err) = ('', '', '');
	local $ENV{PGUSER} = $user;
	my $run = IPC::Run::start([ 'tfstate', 'import', @net, 'y=-' ], '<', \$in, '>', \$out, '2>', \$err);
	wait_for('the connection', sub { sessions() == 1 });
	$run->signal('INT');
	$run->finish;
	my $status = ($run->full_results)[0];
	ok($status == 2 || $status >> 8 == 130, 'a signal ends an import that waits for input');
}
is(sql("SELECT count(*) FROM net.states WHERE name = 'y'"), '0', 'nothing is written');

chdir($FindBin::RealBin);
done_testing();
