# The commands of tfstate that show and change something: their tables, CSV and JSON, their
# effects, and their errors with exit statuses.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('client_commands');
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGDATABASE} = 'postgres';
$ENV{PGUSER} = getpwuid($<);
$ENV{LC_ALL} = 'C.UTF-8';

my @result;

# Runs tfstate with the given standard input and returns its exit status, standard output
# and standard error.
sub tfstate_with_input
{
	my ($in, @arguments) = @_;
	my ($out, $err);
	IPC::Run::run([ 'tfstate', @arguments ], '<', \$in, '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

sub tfstate
{
	return tfstate_with_input('', @_);
}

# Runs tfstate, which must succeed, and returns its standard output without the last newline.
sub done
{
	my @result = tfstate(@_);
	is($result[0], 0, "tfstate @_") or diag($result[2]);
	chomp($result[1]);
	return $result[1];
}

# Runs tfstate, which must fail with the given exit status and one line on standard error
# that matches; hints follow in further lines.
sub refused
{
	my ($status, $pattern, @arguments) = @_;
	my @result = tfstate(@arguments);

	is($result[0], $status, "exit status of tfstate @arguments");
	like($result[2], qr/\A$pattern/, "message of tfstate @arguments");
	like($result[2], qr/\Atfstate: [^\n]+\n(tfstate: detail: [^\n]+\n)?(tfstate: hint: [^\n]+\n)?\z|\nTry "/, "tfstate @arguments says it in a line");
	is($result[1], '', "tfstate @arguments prints nothing else");
}

# A connection string as Terraform's driver has it behind a pooler
foreach my $query ('binary_parameters=yes', 'binary_parameters=yes&application_name=a', 'application_name=a&binary_parameters=yes')
{
	done('ls', '-d', "postgres:///postgres?$query");
}

{
	local %ENV = (%ENV, PGPORT => 1, PG_CONN_STR => 'postgres:///postgres?host=' . $node->host . '&port=' . $node->port);

	done('ls', '-d', $ENV{PG_CONN_STR});
	is((tfstate('ls'))[2] =~ /hint/, '', 'no hint at PG_CONN_STR where PGHOST names a server');
	delete $ENV{PGHOST};
	@result = tfstate('ls');
	is($result[0], 69, 'no server at the default address');
	like($result[2], qr/\ntfstate: hint: To connect as Terraform does, add: -d "\$PG_CONN_STR"\n\z/, 'a hint at PG_CONN_STR');
}

# The rows of CSV
sub rows
{
	my ($csv) = @_;
	my @rows = ([]);

	while ($csv =~ /\G(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n|\z)/g)
	{
		my ($quoted, $plain, $end) = ($1, $2, $3);
		push @{ $rows[-1] }, $plain // $quoted =~ s/""/"/gr;
		last if pos($csv) == length($csv);
		push @rows, [] if $end eq "\n";
	}
	is(pos($csv), length($csv), 'the CSV can be read to its end');
	return @rows;
}

# jq's answer about a JSON text
sub jq
{
	my ($json, $filter) = @_;
	my ($out, $err);
	IPC::Run::run([ 'jq', '-r', $filter ], '<', \$json, '>', \$out, '2>', \$err);
	is($err, '', "jq $filter reads the JSON");
	chomp($out);
	return $out;
}

# Locks

my $odd = "a, \"b\"\nä*";
my $id = done('lock', '-m', 'a "reason"', '--who', 'Jürgen', '--operation', 'freeze', $odd);
like($id, qr/^[-0-9a-f]{36}$/, 'lock prints the ID and nothing else');
is(sql("SELECT id, who, operation, info ->> 'Info', mode, expires_at FROM tfstate_holders"), "$id|Jürgen|freeze|a \"reason\"|durable|",
	'lock takes a durable lock with what it was told');
refused(75, qr/tfstate: state lock "a, .*" is held by Jürgen: freeze since /, 'lock', $odd);
refused(75, qr/tfstate: state lock "a, .*" is held by /, 'lock', '--wait', '100ms', $odd);

my $leased = done('lock', '--ttl', '1h', 'b');
like(sql("SELECT expires_at - created FROM tfstate_holders('b')"), qr/^(00:59:5|01:00:00)/, 'lock --ttl takes a lease');
like(done('renew', '--ttl', '2h', 'b', $leased), qr/^\d{4}-\d\d-\d\d \d\d:\d\d/, 'renew prints when the lease ends');
is(sql("SELECT expires_at > now() + interval '90 min' FROM tfstate_holders('b')"), 't', 'renew extends the lease');

# Lists of locks in all formats

foreach my $list ([ 'ls' ], [ 'waiters' ], [ 'history' ], [ 'workspaces' ], [ 'resources' ], [ 'outputs' ], ['grants'], ['check'],
	['verify'], [ 'versions', 'none.none/none' ])
{
	my @rows = rows(tfstate_output(@$list, '--csv'));
	my %lengths = map { scalar(@$_) => 1 } @rows;
	is(scalar(keys %lengths), 1, "@$list --csv: all rows have the same length");
	like(jq(tfstate_output(@$list, '--json'), 'type'), qr/^array$/, "@$list --json is an array");
	like(tfstate_output(@$list), qr/^ .*\n-.*\n(.*\n)*\(\d+ rows?\)\n/, "@$list prints a table");
}

# Standard output, whatever the exit status
sub tfstate_output
{
	return (tfstate(@_))[1];
}

my @rows = rows(done('ls', '--csv'));
is($rows[0][0], 'lockid', 'ls --csv has a heading');
is_deeply([ $rows[1][0], $rows[1][1], $rows[2][0] ], [ $odd, 'Jürgen', 'b' ], 'ls --csv keeps quotes, commas, newlines and umlauts');
is(jq(done('ls', '--json'), '.[0].lockid'), $odd, 'ls --json keeps them');
is(jq(done('ls', '--json', 'b*'), 'map(.lockid) | join(",")'), 'b', 'a pattern selects');
is(jq(done('who', '--json', 'b'), '.[0].id'), $leased, 'who --json');
like(done('who', 'b'), qr/^lockid +\| b *$/m, 'who shows a column a line');
refused(1, qr/tfstate: "none" is not held/, 'who', 'none');

done('unlock', 'b', $leased);
refused(1, qr/tfstate: state lock "b" is not held/, 'unlock', 'b', $leased);
refused(1, qr/tfstate: .*"b"/, 'renew', 'b', $leased);
refused(1, qr/tfstate: state lock "a, .*/, 'unlock', $odd, 'other');
is(jq(done('history', '--json', 'b'), '.[0].how'), 'unlock', 'history');
is(jq(done('history', '--json', '*', '0'), 'length'), '0', 'history has a limit');

# The encoding of the output is that of the locale, or the one that was asked for

{
	my $own = done('lock', "\xc3\xbc");
	like(done('ls', '--csv'), qr/^\xc3\xbc,/m, 'in UTF-8');
	local $ENV{PGCLIENTENCODING} = 'LATIN1';
	like(done('ls', '--csv'), qr/^\xfc,/m, 'in LATIN1');
	done('unlock', "\xfc", $own);
}

# force-unlock without a terminal

is((tfstate_with_input("no\n", 'force-unlock', $odd))[0], 1, 'force-unlock: no');
is((tfstate('force-unlock', $odd))[0], 1, 'force-unlock: nobody to answer');
@result = tfstate_with_input("yes\n", 'force-unlock', $odd);
is($result[0], 0, 'force-unlock: yes');
like($result[2], qr/ID: +\Q$id\E\n/, 'it has shown the holder');
refused(1, qr/tfstate: state lock "b" is not held/, 'force-unlock', 'b');
refused(1, qr/tfstate: state lock "b" is not held/, 'force-unlock', '--yes', 'b');
$id = done('lock', 'b');
is((tfstate('force-unlock', '--yes', 'b', 'other'))[0], 1, 'force-unlock of another ID');
is((tfstate('force-unlock', '--yes', 'b', $id))[0], 0, 'force-unlock of this ID');
{
	# another one has the lock by the time of the answer
	my ($in, $out, $err) = ('', '', '');
	my $shown = done('lock', 'b');
	my $run = IPC::Run::start([ 'tfstate', 'force-unlock', 'b' ], '<', \$in, '>', \$out, '2>', \$err);
	wait_for('the question', sub { $run->pump_nb; $err =~ /Only "yes" is accepted/ });
	done('unlock', 'b', $shown);
	$id = done('lock', 'b');
	$in = "yes\n";
	$run->finish;
	is(($run->full_results)[0] >> 8, 1, 'force-unlock: another one has the lock than was shown');
	like($err, qr/state lock "b" is not held under ID "\Q$shown\E"/, 'it says so');
	done('unlock', 'b', $id);
}
{
	my $session = session($node);
	$session->query_safe("SELECT tfstate_lock('b', mode => 'session')");
	@result = tfstate('force-unlock', '--yes', 'b');
	is($result[0], 1, 'force-unlock of a live session lock');
	like($result[2], qr/--terminate/, 'force-unlock of a live session lock names the option');
	is((tfstate('force-unlock', '--yes', '--terminate', 'b'))[0], 0, 'force-unlock --terminate');
	wait_for('the end of the lock', sub { sql("SELECT count(*) FROM tfstate_holders") == 0 });
}

# Tables of states

sql("CREATE ROLE terraform LOGIN");
like(done('attach', '--dry-run', '--role', 'terraform', 'net'), qr/^CREATE SCHEMA net\n.*^GRANT SELECT ON TABLE net.states TO terraform$/ms,
	'attach --dry-run prints the steps');
is(sql("SELECT to_regnamespace('net')"), '', 'attach --dry-run does nothing');
like(done('attach', '--role', 'terraform', '--mode', 'durable', '--wait', '90s', '--guard', 'on', '--keep-versions', '5',
		'--keep-age', '1d', 'net'), qr/schema_name +=/, 'attach prints the configuration');
is(sql("SELECT relname FROM pg_class WHERE oid = 'net.states'::regclass"), 'states', 'attach makes the table');
is(sql("SELECT mode, wait FROM tfstate_tables WHERE schema = 'net'"), 'durable|00:01:30', 'attach sets the mode and the wait');
like(sql("SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'terraform'::regrole"), qr/search_path=tfstate_pg/,
	'attach sets up the role');
sql('CREATE ROLE planner LOGIN');
done('attach', '--role', 'planner', '--access', 'plan', 'net');
is(sql("SELECT has_table_privilege('planner', 'net.states', 'SELECT'), has_any_column_privilege('planner', 'net.states', 'INSERT')"),
	't|f', 'attach --access plan');
done('detach', '--role', 'planner', 'net');
is(sql("SELECT has_table_privilege('planner', 'net.states', 'SELECT'), count(*) FROM tfstate_tables WHERE schema = 'net'"),
	'f|1', 'detach --role takes the table from the role and stays attached');
is(done('attach', '--no-default-workspace', 'app') ne '', 1, 'attach again');
is(sql("SELECT count(*) FROM app.states"), '0', 'attach --no-default-workspace');

foreach my $serial (1 .. 3)
{
	my $state = qq({"version": 4, "terraform_version": "1.9.0", "serial": $serial, "lineage": "l", "outputs": {"o": {"value": $serial, "type": "number"}},
"resources": [{"mode": "managed", "type": "null_resource", "name": "n$serial", "provider": "p", "instances": [{"attributes": {"id": "$serial"}}]}]});
	sql("BEGIN; SELECT tfstate_lock('net.states/prod'); INSERT INTO net.states (name, data) VALUES ('prod', '$state')
		ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data; SELECT tfstate_unlock('net.states/prod'); COMMIT");
}
is(jq(done('workspaces', '--json', 'net.*/prod'), '.[0].serial'), '3', 'workspaces');
is(jq(done('workspaces', '--json', "net.states/$_"), 'length'), '0', "workspaces: in $_ only a star stands for something else")
  foreach 'p_od', 'p%', 'p\\rod';
{
	my @workspaces = rows(done('workspaces', '--csv', 'net.*/prod'));
	my @versions = rows(done('versions', '--csv', 'net.states/prod'));
	my %row;

	is("@{ $workspaces[0] }", 'workspace serial resources size written_at written_by locked_by locked_for', 'workspaces: the columns for people');
	@row{ @{ $workspaces[0] } } = @{ $workspaces[1] };
	is("$row{serial} $row{resources} $row{size}", sql("SELECT '3 1 ' || octet_length(data) FROM net.states WHERE name = 'prod'"), 'workspaces: what they say');
	like("$row{written_at} $row{written_by} $row{locked_by}", qr/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S* \S+@\S+ $/, 'workspaces: when and by whom it was written');
	is("@{ $versions[0] }", 'number operation serial created who lock_operation resources size stored', 'versions: the columns for people');
	@row{ @{ $versions[0] } } = @{ $versions[1] };
	is("$row{number} $row{operation} $row{serial} $row{resources}", '3 write 3 1', 'versions: what they say');
	my $lock = done('lock', '--who', 'carol', '--operation', 'freeze', 'net.states/prod');
	is(join(' ', @{ (rows(done('workspaces', '--csv', 'net.*/prod')))[1] }[ 6, 7 ]), 'carol freeze', 'workspaces: who has locked it, and what for');
	done('unlock', 'net.states/prod', $lock);
}
is(jq(done('versions', '--json', 'net.states/prod'), 'map(.number) | join(" ")'), '3 2 1', 'versions, the newest first');
is(jq(done('resources', '--json', 'net.states/*'), '.[0].address'), 'null_resource.n3', 'resources');
is(jq(done('outputs', '--json', 'net.states/*'), '.[0].value'), '3', 'outputs');
is(jq(done('diff', '--json', 'net.states/prod', '1', '2'), 'map(.change) | sort | join(" ")'), 'added changed removed', 'diff of two versions');
is(jq(done('diff', '--json', 'net.states/prod', '3'), 'length'), '0', 'diff of a version and now');
foreach my $number (1, 2)
{
	is(done('cat', 'net.states/prod', $number) . "\n", sql("SELECT tfstate_version('net.states/prod', $number)") . "\n",
		"cat prints version $number byte for byte");
}
is(tfstate_output('cat', 'net.states/prod'), sql("SELECT data FROM net.states WHERE name = 'prod'"), 'cat prints the newest version, and no newline');
is(done('rollback', 'net.states/prod', '1'), 'the state of workspace "net.states/prod" is version 4', 'rollback');
is(jq(sql("SELECT data FROM net.states WHERE name = 'prod'"), '.outputs.o.value'), '1', 'the state is that version');
sql("SELECT tfstate_lock('net.states/prod'); DELETE FROM net.states WHERE name = 'prod'; SELECT tfstate_unlock('net.states/prod')");
like(done('undelete', 'net.states/prod'), qr/is version \d+$/, 'undelete');
like(done('verify', '--versions', 'net.states/*'), qr/\(0 rows\)/, 'verify finds nothing');
sql("SET session_replication_role = replica; UPDATE net.states SET data = '{}' WHERE name = 'prod'");
is((tfstate('verify', 'net.states/*'))[0], 1, 'verify finds what was changed');
is((tfstate('verify', '--json', 'net.states/*'))[0], 1, 'verify --json finds what was changed');
like(done('repair', 'net.states/prod'), qr/is version \d+$/, 'repair');
is((tfstate('verify', 'net.states/*'))[0], 0, 'then verify finds nothing');
like(done('prune', '--keep-versions', '2', '--keep-age', '0', 'net.states/*'), qr/^[1-9]\d* versions were removed$/, 'prune');
is((tfstate('check'))[0] =~ /^[01]$/, 1, 'check');
sql('ALTER TABLE app.states DISABLE TRIGGER tfstate_guard_truncate');
is((tfstate('check', @$_))[0], 1, "check @$_: an error") foreach [], ['--csv'], ['--json'];
sql('ALTER TABLE app.states ENABLE TRIGGER tfstate_guard_truncate');
{
	my ($status, $out, $err) = tfstate_with_input("no\n", 'erase', '-m', 'leak', '--all', 'net.states/prod');
	is($status, 1, 'erase asks');
	like($err, qr/nothing was erased\n\z/, 'and erases nothing without a yes');
	my $oldest = sql("SELECT min(number) FROM tfstate_versions('net.states/prod')");
	is(done('erase', '--yes', '-m', 'leak', 'net.states/prod', $oldest), '1 versions were erased', 'erase');
	refused(1, qr/tfstate: version $oldest of workspace "net.states\/prod" was erased by .*: leak\n/, 'cat', 'net.states/prod', $oldest);
	refused(1, qr/tfstate: invalid input syntax for type bigint: "x"\n/, 'erase', '--yes', '-m', 'leak', 'net.states/prod', '1', 'x');
	refused(64, qr/tfstate: which versions\?/, 'erase', '--yes', '-m', 'leak', 'net.states/prod');
	refused(64, qr/tfstate: --all takes no versions/, 'erase', '--all', '-m', 'leak', 'net.states/prod', '1');
	refused(64, qr/tfstate: the reason is missing/, 'erase', '--all', 'net.states/prod');
	like(done('erase', '--yes', '-m', 'over', '--all', 'net.states/prod'), qr/^\d+ versions were erased$/, 'erase --all');
	like(done('verify', '--versions', 'net.states/*'), qr/\(0 rows\)/, 'that is no damage');
}
refused(1, qr/tfstate: /, 'rollback', 'net.states/prod', '99');
refused(1, qr/tfstate: /, 'rollback', 'net.states/prod', 'x');
refused(1, qr/tfstate: /, 'undelete', 'net.states/prod');
refused(1, qr/tfstate: /, 'cat', 'net.states/none');
refused(1, qr/tfstate: /, 'diff', 'net.states/prod', '98', '99');
refused(1, qr/tfstate: /, 'attach', 'pg_catalog', 'pg_class');
done('detach', 'app');
refused(1, qr/tfstate: /, 'detach', 'app');

# Grants, and what a role without them may not do

sql("CREATE ROLE somebody LOGIN");
{
	local $ENV{PGUSER} = 'somebody';
	my $missing = sub { qr/tfstate: permission denied for state lock "b"\ntfstate: detail: .*"somebody".*"$_[0]"/ };
	foreach my $list ([ 'ls' ], ['history'], [ 'versions', 'net.states/prod' ], ['resources'])
	{
		my ($status, $out, $err) = tfstate(@$list);
		is($status, 0, "exit status of $list->[0] without a grant");
		like($err, qr/\Atfstate: role "somebody" is shown nothing here: [^\n]+\ntfstate: hint: [^\n]+\n\z/, "$list->[0] says why it is empty");
	}
	refused(77, $missing->('lock'), 'lock', 'b');
	refused(77, $missing->('lock'), 'run', 'b', '--', 'true');
	refused(77, $missing->('force'), 'force-unlock', '--yes', 'b');
	refused(77, qr/tfstate: permission denied.*/, 'unlock', 'b', 'x');
	refused(77, qr/tfstate: permission denied.*/, 'grant', 'somebody');
	refused(77, qr/tfstate: .*/, 'attach', 'theirs');
	refused(77, qr/tfstate: .*/, 'prune');
}
done('grant', 'somebody', 'b*');
{
	local $ENV{PGUSER} = 'somebody';
	done('unlock', 'b', done('lock', 'b'));
	refused(77, qr/tfstate: permission denied.*/, 'lock', 'c');
}
done('grant', 'somebody', 'c', 'force');
done('revoke', 'somebody', 'b*');
{
	local $ENV{PGUSER} = 'somebody';
	refused(77, qr/tfstate: permission denied.*/, 'lock', 'b');
}
refused(1, qr/tfstate: .*"nobody_there"/, 'grant', 'nobody_there');
refused(1, qr/tfstate: .*"fly"/, 'grant', 'somebody', '*', 'fly');

# Freezes

{
	my $lock = done('lock', 'f/held');
	my @frozen = tfstate('freeze', '-m', 'a "reason"', '--for', '2h', '--exempt', 'somebody', '--exempt', $ENV{PGUSER}, '--csv', 'f/*');
	is($frozen[0], 0, 'freeze');
	like($frozen[1], qr/\nf\/held,/, 'freeze lists the holders');
	like($frozen[2], qr/\Atfstate: "f\/\*" is frozen/, 'freeze says so');
	is(jq(done('freezes', '--json'), '.[0] | .reason + " " + .pattern'), 'a "reason" f/*', 'freezes');
	is(sql("SELECT exempt, until - since BETWEEN '119 min' AND '121 min', who LIKE '%@%' FROM tfstate_freezes"),
		"{somebody,$ENV{PGUSER}}|t|t", 'freeze takes roles, an end and who it is');
	done('unlock', 'f/x', done('lock', 'f/x'));
	done('unfreeze', 'f/*');
	is((tfstate('freeze', '-m', 'again', 'f/*'))[0], 0, 'freeze without an end');
	refused(75, qr/tfstate: state lock "f\/x" is frozen by [^ ]+@[^ ]+ since [^:]+:[^:]+:[^:]+: again\n/, 'lock', 'f/x');
	refused(75, qr/tfstate: state lock "f\/x" is frozen by /, 'run', '--wait', 'forever', 'f/x', '--', 'true');
	refused(64, qr/tfstate freeze: the reason is missing|tfstate: the reason is missing/, 'freeze', 'f/*');
	refused(1, qr/tfstate: pattern "f\/\*" is already frozen/, 'freeze', '-m', 'x', 'f/*');
	done('unlock', 'f/held', $lock);
	done('unfreeze', 'f/*');
	refused(1, qr/tfstate: pattern "f\/\*" is not frozen/, 'unfreeze', 'f/*');
	done('grant', 'somebody', 'f/*');
	local $ENV{PGUSER} = 'somebody';
	refused(77, qr/tfstate: permission denied/, 'freeze', '-m', 'x', 'f/*');
}

# Wrong usage

refused(64, qr/tfstate: no command is given\n/);
refused(64, qr/tfstate: there is no command "fly"\n/, 'fly');
refused(64, qr/tfstate ls: unrecognized option '--fly'\n/, 'ls', '--fly');
refused(64, qr/tfstate: too few arguments: LOCKID ID\n/, 'unlock', 'b');
refused(64, qr/tfstate: too many arguments/, 'ls', 'a', 'b');
refused(64, qr/tfstate: invalid duration for --ttl: "1 week"/, 'lock', '--ttl', '1 week', 'b');
refused(64, qr/tfstate: there is no such option: --ttl/, 'unlock', '--ttl', '1s', 'b', 'x');
refused(64, qr/tfstate: there is no such option: --csv/, 'cat', '--csv', 'x');
refused(64, qr/tfstate: standard output is not a terminal/, 'watch');

# watch --json

{
	my ($out, $err) = ('', '');
	my $watch = IPC::Run::start([ 'tfstate', 'watch', '--json', 'w*' ], '<', \undef, '>', \$out, '2>', \$err);
	my $event = sub {
		my ($name) = @_;
		wait_for("the event $name", sub { $watch->pump_nb; $out =~ /"event": "$name"/ });
		pass("watch --json: $name");
	};
	my $lock = done('lock', 'w');
	$event->('locked');
	my $waiter = session($node);
	$waiter->send("SELECT tfstate_lock('w', wait => NULL)");
	$event->('waiting');
	done('unlock', 'w', $lock);
	$event->($_) foreach 'waited', 'ended', 'released';
	is_deeply([ map { jq($_, '.lockid') } split(/\n/, $out) ], [ ('w') x (() = $out =~ /\n/g) ], 'each event is a line of JSON with the lockid');
	$watch->signal('INT');
	$watch->finish;
	is(($watch->full_results)[0] >> 8, 0, 'watch --json ends with SIGINT');
	is($err, '', 'without a message');
}

# Completion of lockids and workspaces by the server

my $completed = sub {
	my ($line) = @_;
	my ($out, $err) = run_command([ 'bash', '--norc', '-c', <<'END', 'bash', "$FindBin::RealBin/../../src/client/tfstate.bash", $line ]);
. "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDS=($2)
compopt() { :; }
_tfstate tfstate
printf '%s\n' "${COMPREPLY[@]}"
END
	is($err, '', "completion of \"$line\" reports nothing");
	return $out;
};
done('lock', 'x:1/a,"b" c');
done('lock', 'x:1/d');
is($completed->('tfstate who x:1/d'), '1/d', 'completion of a lockid with a colon');
is($completed->('tfstate who x'), "x:1/a\\,\\\"b\\\"\\ c\nx:1/d", 'completion quotes lockids');
is($completed->("tfstate unlock -h $ENV{PGHOST} x:1/d"), '1/d', 'completion behind a connection option');
is($completed->("tfstate unlock -h /nowhere x:1/d"), '', 'completion of another server');
is($completed->('tfstate rollback net.states/p'), 'net.states/prod', 'completion of a workspace');
is($completed->('tfstate run --wait 5 net.states/d'), 'net.states/default', 'completion of a workspace for run');

done_testing();
