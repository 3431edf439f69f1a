# The statements of OpenTofu 1.10, as it sends them: extended protocol, unnamed statements,
# all parameters as text of unknown type, schema and table quoted, the name of the table a
# setting, and a creation key for each table.  Needs neither OpenTofu nor Terraform.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('opentofu',
	conf => "listen_addresses = '127.0.0.1'\n");
my $uuid = qr/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

sql('CREATE ROLE terraform LOGIN');
foreach my $table (
	[ 'terraform_remote_state', 'states' ],
	[ 'Infra Prod', 'My "States"' ])
{
	sql("SELECT tfstate_attach('$table->[0]', '$table->[1]', role => 'terraform')");
}

sub quote_identifier
{
	my ($name) = @_;
	return '"' . $name =~ s/"/""/gr . '"';
}

# Returns the key under which OpenTofu creates workspaces in a table: minus the 32-bit FNV-1
# hash of schema, a zero byte, and table.
sub creation_key
{
	my ($schema, $table) = @_;
	my $hash = 2166136261;

	$hash = (($hash * 16777619) & 0xffffffff) ^ ord
	  foreach split(//, "$schema\0$table");
	return -$hash;
}

is(creation_key('terraform_remote_state', 'states'),
	-3797183428, 'the creation key of the default table');

# Connects a client for one table.
sub client
{
	my ($who, $schema, $table, %options) = @_;
	my $client = Wire->connect($node->port, 'terraform',
		search_path => 'tfstate_pg,pg_catalog,public',
		'tfstate.who' => $who,
		'tfstate.operation' => 'apply',
		'tfstate.run_id' => uuid(),
		%options);
	my $quoted = quote_identifier($table);
	my $name = quote_identifier($schema) . ".$quoted";

	$client->{key} = creation_key($schema, $table);
	$client->{lock} =
	  "SELECT $quoted.id, pg_try_advisory_lock($quoted.id), pg_try_advisory_lock(\$1) FROM $name WHERE $quoted.name = \$2";
	$client->{get} = "SELECT data FROM $name WHERE name = \$1";
	$client->{put} =
	  "INSERT INTO $name (name, data) VALUES (\$1, \$2) ON CONFLICT (name) DO UPDATE SET data = \$2 WHERE $quoted.name = \$1";
	$client->{delete} = "DELETE FROM $name WHERE name = \$1";
	return $client;
}

# The statements, each of which returns its rows or its error
sub lock_workspace { my ($c, $workspace) = @_; return $c->extended($c->{lock}, $c->{key}, $workspace) }
sub lock_creation { my ($c) = @_; return $c->extended('SELECT pg_try_advisory_lock($1)', $c->{key}) }
sub unlock { my ($c, $key) = @_; return $c->extended('SELECT pg_advisory_unlock($1)', $key) }
sub get { my ($c, $workspace) = @_; return $c->extended($c->{get}, $workspace) }
sub put { my ($c, $workspace, $data) = @_; return $c->extended($c->{put}, $workspace, $data) }
sub delete_row { my ($c, $workspace) = @_; return $c->extended($c->{delete}, $workspace) }

sub holders
{
	return sql(
		"SELECT string_agg(who || ' ' || lockid, ', ' ORDER BY who, lockid) FROM tfstate_holders"
	);
}

# Returns how many locks are in the lock manager, without the session tags.
sub tags
{
	return sql(
		"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid <> x'7467'::int"
	);
}

foreach my $mode ('session', 'durable')
{
	foreach my $table (
		[ 'terraform_remote_state', 'states' ],
		[ 'Infra Prod', 'My "States"' ])
	{
		my ($schema, $name) = @$table;
		my $lockid =
		  $name eq 'states'
		  ? "$schema.$name"
		  : quote_identifier($schema) . '.' . quote_identifier($name);
		my $test = "$mode, $lockid";
		my @mode = ('tfstate.mode' => $mode);
		my $a = client('alice', $schema, $name, @mode);
		my $b = client('bob', $schema, $name, @mode);
		my $id = sql('SELECT id FROM '
			  . quote_identifier($schema) . '.'
			  . quote_identifier($name)
			  . " WHERE name = 'default'");

		# plan or apply: lock, unlock the creation key, get, put, unlock
		is(lock_workspace($a, 'default'), "$id|t|t", "$test: the client gets the lock");
		is(holders(), "alice $lockid/default", "$test: the client holds the lock of the workspace only");
		is(unlock($a, $a->{key}), 't', "$test: unlocking the creation key succeeds");
		is(holders(), "alice $lockid/default", "$test: unlocking the creation key releases nothing");
		like(get($a, 'default'), qr/"serial":\d+/, "$test: the client reads the state");

		my $tags = tags();
		like(
			lock_workspace($b, 'default'),
			qr/^ERROR 55P03: state lock "\Q$lockid\E\/default" is held by alice: apply since .* \(ID $uuid\); ask them/,
			"$test: the refused lock of another client names the holder");
		is(tags(), $tags, "$test: the refused lock leaves nothing in the lock manager");
		is(unlock($b, $b->{key}), 't', "$test: unlocking the creation key after a refusal succeeds");
		is(holders(), "alice $lockid/default", "$test: unlocking the creation key after a refusal releases nothing");

		my $data = sprintf(
			'{"version":4,"serial":%d,"lineage":"%s","outputs":{},"resources":[],"check_results":null}',
			get($a, 'default') =~ /"serial":(\d+)/ ? $1 + 1 : 1,
			get($a, 'default') =~ /"lineage":"(.*?)"/ ? $1 : '');
		is(put($a, 'default', $data), '', "$test: the client writes the state");
		is(get($b, 'default'), $data, "$test: another client reads the state that was written");
		is(unlock($a, $id), 't', "$test: unlocking the id releases the lock");
		is(holders() . tags(), '0', "$test: no lock is held after the apply");
		is(unlock($a, $id), 'f', "$test: a second unlock finds no lock");
		is(lock_workspace($b, 'default'), "$id|t|t", "$test: the other client can take the lock then");
		is(unlock($b, $b->{key}) . unlock($b, $id), 'tt', "$test: the other client releases the lock");

		# workspace new: lock, lock the creation key, get, put, unlock the key.  As long as it has no
		# row, a workspace has no lock but the creation key of its table; then it gets its own.
		is(lock_workspace($a, 'new'), '', "$test: locking a workspace without a row finds no row");
		is(lock_creation($a), 't', "$test: the client gets the creation key");
		is(holders(), "alice $lockid/", "$test: the creation key is that of the table");
		is(lock_workspace($b, 'new'), '', "$test: another client finds no row of the same workspace");
		like(
			lock_creation($b),
			qr/^ERROR 55P03: cannot create a workspace: the lock for that is held by alice: creation of a workspace in \Q$lockid\E since/,
			"$test: the creation key is refused to another client");
		is(lock_workspace($b, 'default'), "$id|t|t",
			"$test: an existing workspace can be locked meanwhile");
		is(unlock($b, $b->{key}) . unlock($b, $id), 'tt', "$test: an existing workspace can be unlocked meanwhile");
		is(holders(), "alice $lockid/", "$test: the creation key is still held after that");
		is(put($a, 'new', $data), '', "$test: the client creates the workspace");
		is(holders(), "alice $lockid/new",
			"$test: the creation exchanges the key for the lock of the workspace");
		like(lock_workspace($b, 'new'), qr/^ERROR 55P03: state lock "\Q$lockid\E\/new" is held by alice/,
			"$test: the lock of the new workspace is refused to another client");
		is(lock_workspace($b, 'newer'), '', "$test: another client finds no row of another workspace");
		is(lock_creation($b), 't', "$test: another client gets the creation key at the same time");
		is(put($b, 'newer', $data), '', "$test: another client creates another workspace");
		is(unlock($b, $b->{key}), 't', "$test: unlocking the key releases the lock of its workspace");
		is(holders(), "alice $lockid/new", "$test: unlocking the key releases no lock of another client");
		is(unlock($a, $a->{key}), 't', "$test: unlocking the key of the first client succeeds, too");
		is(holders() . tags(), '0', "$test: no lock is held after the creations");

		# workspace delete: lock, unlock the creation key, get, unlock, delete
		foreach my $workspace ('new', 'newer')
		{
			my ($new_id) = split(/\|/, lock_workspace($a, $workspace));
			is(unlock($a, $a->{key}) . unlock($a, $new_id),
				'tt', "$test: workspace delete unlocks $workspace");
			is(delete_row($a, $workspace), '', "$test: workspace delete deletes $workspace");
		}
		is(holders() . tags(), '0', "$test: no lock is held after the deletions");

		$_->terminate foreach $a, $b;
	}

	# The creation keys of two tables are independent.
	my @mode = ('tfstate.mode' => $mode);
	my $a = client('alice', 'terraform_remote_state', 'states', @mode);
	my $b = client('bob', 'Infra Prod', 'My "States"', @mode);

	is(lock_creation($a) . lock_creation($b), 'tt', "$mode: two clients get the creation keys of two tables");
	is( holders(),
		'alice terraform_remote_state.states/, bob "Infra Prod"."My ""States"""/',
		"$mode: both creation keys are held");
	is(unlock($a, $a->{key}) . unlock($b, $b->{key}), 'tt', "$mode: both creation keys are released");
	is(holders() . tags(), '0', "$mode: no lock is held after that");

	# In durable mode a new connection of a run releases the lock of its lost connection.
	if ($mode eq 'durable')
	{
		my @run = (@mode, 'tfstate.run_id' => uuid());
		my $first = client('dave', 'Infra Prod', 'My "States"', @run);
		my ($id) = split(/\|/, lock_workspace($first, 'default'));

		is(unlock($first, $first->{key}), 't', 'lost connection: unlocking the creation key succeeds');
		$first->terminate;
		is( holders(),
			'dave "Infra Prod"."My ""States"""/default',
			'lost connection: the lock stays held');
		my $second = client('dave', 'Infra Prod', 'My "States"', @run);
		like(unlock($b, $id), qr/^ERROR 55000: state lock .* is not held by this run but by dave/,
			'lost connection: another client cannot release the lock');
		is(unlock($second, $id), 't',
			'lost connection: another connection of the run releases the lock');
		is(holders() . tags(), '0', 'lost connection: no lock is held in the end');
		$second->terminate;
	}
	$_->terminate foreach $a, $b;
}

# The guard, on the table with another name
sub state
{
	my ($serial, $lineage, $more) = @_;
	return qq({"version":4,"terraform_version":"1.10.0","serial":$serial,"lineage":"$lineage",)
	  . ($more || '"outputs":{},"resources":[{"mode":"managed","instances":[{}]}]') . '}';
}

foreach my $mode ('session', 'durable')
{
	my @table = ('Infra Prod', 'My "States"');
	my $name = '"Infra Prod"."My ""States"""';
	my @mode = ('tfstate.mode' => $mode);
	my $a = client('alice', @table, @mode);
	my $b = client('bob', @table, @mode);
	my $stock = client('stock', @table, search_path => 'public');
	my $test = "guard, $mode";
	my $lineage = "lineage-$mode";
	my $workspace = "guarded-$mode";
	my $lockid = "$name/$workspace";
	my $refused = qr/cannot change the state of workspace "\Q$lockid\E"/;
	my $held = qr/^ERROR 55006: $refused: its lock is held by alice: apply since .* \(ID $uuid\); ask them/;
	my $newest = sub {
		return sql(
			qq(SELECT operation, serial, who, lock_who, fence IS NOT NULL
				 FROM tfstate_versions('$lockid') ORDER BY number DESC LIMIT 1));
	};

	sql("UPDATE tfstate_internal.attached_table SET guard = 'on' WHERE relid = '$name'::regclass");

	# workspace new, then a state of another lineage over the empty one
	lock_workspace($a, $workspace);
	lock_creation($a);
	is(put($a, $workspace, state(1, 'empty', '"outputs":{},"resources":[]')),
		'', "$test: put creates the workspace");
	is($newest->(), 'write|1|alice|alice|t', "$test: the version was written under the lock of the client");
	is(unlock($a, $a->{key}), 't', "$test: unlocking the creation key succeeds");
	my ($id) = split(/\|/, lock_workspace($a, $workspace));
	unlock($a, $a->{key});
	is(put($a, $workspace, state(1, $lineage)), '', "$test: put replaces the empty state");
	my $state = get($a, $workspace);

	# other clients beside the holder, with the shim and without
	foreach my $other ($b, $stock)
	{
		like(put($other, $workspace, state(2, $lineage)), $held, "$test: put without the lock is refused");
		like(delete_row($other, $workspace), $held, "$test: delete without the lock is refused");
		is(get($a, $workspace), $state, "$test: the refused put and delete change nothing");
	}

	# with the lock, but with states that do not fit
	like(put($a, $workspace, state(1, $lineage, '"resources":[]')),
		qr/^ERROR 55000: $refused: the new state has serial 1, but serial 1 was written by alice at /,
		"$test: put with the same serial is refused");
	like(put($a, $workspace, state(2, 'other')),
		qr/^ERROR 55000: $refused: it belongs to another project: the new state has lineage "other", but the workspace has lineage "$lineage"/,
		"$test: put with another lineage is refused");
	like(put($a, $workspace, 'no state'),
		qr/^ERROR 22032: $refused: the new state is not a JSON object/,
		"$test: put of a text that is no state is refused");
	is(get($a, $workspace), $state, "$test: the refused puts change nothing");
	is(put($a, $workspace, $state), '', "$test: put of the same state succeeds");
	is($newest->(), 'write|1|alice|alice|t', "$test: put of the same state leaves no version");

	# an encrypted state, and a large one
	my $secret = '"meta":{"key":"a"},"encryption_version":"v0","encrypted_data":"'
	  . ('0123456789abcdef' x 64) . '"';
	is(put($a, $workspace, state(2, $lineage, $secret)), '', "$test: put of an encrypted state succeeds");
	is($newest->(), 'write|2|alice|alice|t', "$test: put of an encrypted state leaves a version");
	like(put($a, $workspace, state(2, $lineage, "$secret,\"more\":1")),
		qr/^ERROR 55000: $refused: the new state has serial 2, but serial 2 was/,
		"$test: put of another encrypted state with the same serial is refused");
	like(put($a, $workspace, state(3, 'other', $secret)),
		qr/^ERROR 55000: $refused: it belongs to another project: the new state has lineage "other"/,
		"$test: put of an encrypted state with another lineage is refused");
	my $large = state(3, $lineage, '"outputs":{"x":{"value":"' . ('large ' x 200_000) . '"}}');
	is(put($a, $workspace, $large), '', "$test: put of a large state succeeds");
	is(sql(qq(SELECT tfstate_version('$lockid', max(number)) FROM tfstate_versions('$lockid'))),
		$large, "$test: the version of the large state has its text");

	# without a lock
	is(unlock($a, $id), 't', "$test: the holder releases its lock");
	like(put($b, $workspace, state(4, $lineage)),
		qr/^ERROR 55000: $refused: this session was refused a write before and has not locked the workspace since/,
		"$test: a session that was refused before needs the lock now");
	is(put($a, $workspace, state(4, $lineage)), '', "$test: a session that was not refused may write without the lock");
	is($newest->(), 'write|4|alice||f', "$test: its version shows that it had no lock");
	lock_workspace($b, $workspace);
	unlock($b, $b->{key});
	is(put($b, $workspace, state(5, $lineage)), '', "$test: with the lock, the session that was refused may write");
	is($newest->(), 'write|5|bob|bob|t', "$test: its version shows that it had the lock");
	unlock($b, $id);
	is($stock->extended(
			'SELECT pg_try_advisory_lock($1)', $id), 't', "$test: without the shim, the client gets the built-in lock");
	like(put($stock, $workspace, state(6, $lineage)),
		qr/^ERROR 55000: $refused: this session was refused a write before and has not locked the workspace since/,
		"$test: without the shim, a session that was refused before stays out");
	unlock($stock, $id);
	my $other_stock = client('other stock', @table, search_path => 'public');
	is($other_stock->extended(
			'SELECT pg_try_advisory_lock($1)', $id), 't', "$test: without the shim, another session gets the built-in lock");
	is(put($other_stock, $workspace, state(6, $lineage)), '', "$test: without the shim, that session may write");
	$other_stock->terminate;

	# The connection is lost, and another client has the lock, or has written.  Each attempt has
	# a higher serial.
	lock_workspace($a, $workspace);
	unlock($a, $a->{key});
	$a->terminate;
	sql("SELECT tfstate_force_unlock('$lockid')") if $mode eq 'durable';
	$a = client('alice', @table, @mode);
	lock_workspace($b, $workspace);
	unlock($b, $b->{key});
	like(put($a, $workspace, state(7, $lineage)),
		qr/^ERROR 55006: $refused: its lock is held by bob: apply since/,
		"$test: lost connection: put is refused while another client has the lock");
	is(put($b, $workspace, state(7, $lineage)), '', "$test: lost connection: the other client writes");
	is(unlock($b, $id), 't', "$test: lost connection: the other client unlocks");
	like(put($a, $workspace, state(8, $lineage)),
		qr/^ERROR 55000: $refused: this session was refused a write before/,
		"$test: lost connection: put is refused after that, too");
	is(unlock($a, $id), 'f', "$test: lost connection: there is no lock to release");
	is($newest->(), 'write|7|bob|bob|t', "$test: lost connection: the state of the other client is still there");

	# workspace delete, with another client between unlock and delete
	lock_workspace($a, $workspace);
	unlock($a, $a->{key});
	is(unlock($a, $id), 't', "$test: workspace delete unlocks");
	lock_workspace($b, $workspace);
	unlock($b, $b->{key});
	like(delete_row($a, $workspace), qr/^ERROR 55006: $refused: its lock is held by bob/,
		"$test: delete is refused while another client has the lock");
	is(put($b, $workspace, state(8, $lineage)), '', "$test: the other client writes");
	unlock($b, $id);
	like(delete_row($a, $workspace),
		qr/^ERROR 55000: cannot delete workspace "\Q$lockid\E": its state was written by bob at/,
		"$test: delete is refused after the other client has written");

	# a table whose guard requires the lock
	sql("UPDATE tfstate_internal.attached_table SET guard = 'require' WHERE relid = '$name'::regclass");
	like(put($a, $workspace, state(9, $lineage)),
		qr/^ERROR 55000: $refused: this session does not hold its lock, or has lost it/,
		"$test, require: put without the lock is refused");
	lock_workspace($a, $workspace);
	unlock($a, $a->{key});
	is(put($a, $workspace, state(9, $lineage)), '', "$test, require: put with the lock succeeds");
	is(unlock($a, $id), 't', "$test, require: unlock succeeds");
	is(lock_workspace($a, "new-$mode") . lock_creation($a), 't', "$test, require: the client gets the creation key");
	is(put($a, "new-$mode", state(1, 'new')), '', "$test, require: put creates a workspace");
	is(unlock($a, $a->{key}), 't', "$test, require: unlocking the creation key succeeds");
	my ($new_id) = split(/\|/, lock_workspace($a, "new-$mode"));
	is(unlock($a, $a->{key}) . unlock($a, $new_id), 'tt', "$test, require: workspace delete unlocks");
	is(delete_row($a, "new-$mode"), '', "$test, require: delete after the unlock succeeds");
	sql("UPDATE tfstate_internal.attached_table SET guard = 'on' WHERE relid = '$name'::regclass");

	lock_workspace($a, $workspace);
	unlock($a, $a->{key});
	unlock($a, $id);
	is(delete_row($a, $workspace), '', "$test: delete after the unlock succeeds");
	is($newest->(), 'delete|9|alice||f', "$test: delete leaves a version");
	is(get($a, $workspace), '', "$test: delete removes the row");
	is(holders() . tags(), '0', "$test: no lock is held in the end");
	$_->terminate foreach $a, $b, $stock;
}
is(sql(q(SELECT count(*) FROM tfstate_verify('*', true))),
	0, 'guard: all versions are intact, and the newest are what is in the tables');

# A key that belongs to no workspace and is no creation key goes to the built-in functions.
{
	my $a = client('alice', 'terraform_remote_state', 'states');
	my $b = client('bob', 'terraform_remote_state', 'states');

	foreach my $key (-7, 987654321)
	{
		my $lock = 'SELECT pg_try_advisory_lock($1)';
		is( join(' ',
				$a->extended($lock, $key), $b->extended($lock, $key),
				$a->extended($lock, $key), unlock($a, $key),
				$b->extended($lock, $key), unlock($a, $key),
				$b->extended($lock, $key), unlock($b, $key),
				unlock($b, $key)),
			't f t t f t t t f',
			"key $key is locked as by the built-in functions");
		is(holders(), '', "key $key is no lock of tfstate");
	}
	$_->terminate foreach $a, $b;
}

done_testing();

# A minimal client of the protocol, as lib/pq speaks it
package Wire;

use IO::Socket::INET;
use Test::More;

# Connects, with settings in the start-up packet, as lib/pq sends them.
sub connect
{
	my ($class, $port, $user, %settings) = @_;
	my $self = bless {
		socket => IO::Socket::INET->new(
			PeerAddr => '127.0.0.1',
			PeerPort => $port,
			Timeout => $PostgreSQL::Test::Utils::timeout_default)
		  || die "no connection: $@"
	}, $class;
	my $parameters = join('',
		map { "$_\0" } user => $user, database => 'postgres', %settings);

	$self->write(pack('N', 196608) . "$parameters\0", '');
	my $answer = $self->answer;
	die "no connection: $answer" if $answer ne '';
	return $self;
}

# Adds a message to the buffer; the start-up packet has no type.
sub write
{
	my ($self, $body, $type) = @_;

	$self->{buffer} .= $type . pack('N', 4 + length($body)) . $body;
	return;
}

sub flush
{
	my ($self) = @_;

	$self->{socket}->print($self->{buffer}) or die "could not send: $!";
	$self->{buffer} = '';
	return;
}

sub read
{
	my ($self, $length) = @_;
	my $bytes = '';

	while (length($bytes) < $length)
	{
		$self->{socket}
		  ->read($bytes, $length - length($bytes), length($bytes))
		  or die 'connection lost';
	}
	return $bytes;
}

# Sends the buffer and reads up to ReadyForQuery.  Returns the rows as psql -At prints them,
# or the first error.
sub answer
{
	my ($self) = @_;
	my (@rows, $error, $type);

	$self->flush;

	do
	{
		($type, my $length) = unpack('aN', $self->read(5));
		my $body = $self->read($length - 4);

		if ($type eq 'D')
		{
			push @rows, join('|', unpack('n/(N/a)', $body));
		}
		elsif ($type eq 'E')
		{
			my %field = map { substr($_, 0, 1) => substr($_, 1) }
			  grep { $_ ne '' } split(/\0/, $body);
			$error ||= "ERROR $field{C}: $field{M}";
			die $error if $field{V} eq 'FATAL';
		}
	} while ($type ne 'Z');
	return $error || join("\n", @rows);
}

# Runs a statement with parameters: Parse, Describe, Sync; then Bind, Execute, Sync.
sub extended
{
	my ($self, $sql, @parameters) = @_;

	$self->write("\0$sql\0" . pack('n', 0), 'P');
	$self->write("S\0", 'D');
	$self->write('', 'S');
	my $answer = $self->answer;
	return $answer if $answer ne '';
	$self->write("\0\0" . pack('n', 0) . pack('n', scalar(@parameters))
		  . join('', map { pack('N/a', $_) } @parameters)
		  . pack('n', 0), 'B');
	$self->write("\0" . pack('N', 0), 'E');
	$self->write('', 'S');
	return $self->answer;
}

sub terminate
{
	my ($self) = @_;

	$self->write('', 'X');
	$self->flush;
	# the server closes the connection when the session has ended
	$self->{socket}->read(my $nothing, 1);
	return;
}
