# The statements of OpenTofu 1.10, as it sends them: extended protocol, unnamed
# statements, all parameters as text of unknown type, the schema and the table
# quoted, the table's name a setting, and a creation key of its own for each
# table.  Needs neither OpenTofu nor Terraform.

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

# The key under which OpenTofu creates workspaces in a table: minus the 32-bit
# FNV-1 hash of schema, a zero byte, and table.
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

# A client for one table.
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
	$client->{L} =
	  "SELECT $quoted.id, pg_try_advisory_lock($quoted.id), pg_try_advisory_lock(\$1) FROM $name WHERE $quoted.name = \$2";
	$client->{G} = "SELECT data FROM $name WHERE name = \$1";
	$client->{P} =
	  "INSERT INTO $name (name, data) VALUES (\$1, \$2) ON CONFLICT (name) DO UPDATE SET data = \$2 WHERE $quoted.name = \$1";
	$client->{D} = "DELETE FROM $name WHERE name = \$1";
	return $client;
}

sub L  { my ($c, $workspace) = @_; return $c->extended($c->{L}, $c->{key}, $workspace) }
sub Lc { my ($c) = @_; return $c->extended('SELECT pg_try_advisory_lock($1)', $c->{key}) }
sub U  { my ($c, $key) = @_; return $c->extended('SELECT pg_advisory_unlock($1)', $key) }
sub G  { my ($c, $workspace) = @_; return $c->extended($c->{G}, $workspace) }
sub P  { my ($c, $workspace, $data) = @_; return $c->extended($c->{P}, $workspace, $data) }
sub D  { my ($c, $workspace) = @_; return $c->extended($c->{D}, $workspace) }

sub holders
{
	return sql(
		"SELECT string_agg(who || ' ' || lockid, ', ' ORDER BY who, lockid) FROM tfstate_holders"
	);
}

# How many locks there are in the lock manager, without the one by which a session
# that has ever locked shows that it lives.
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

		# plan or apply: L U(key) G P U(id)
		is(L($a, 'default'), "$id|t|t", "$test: L has the lock");
		is(holders(), "alice $lockid/default", "$test: of the workspace only");
		is(U($a, $a->{key}), 't', "$test: U of the creation key succeeds");
		is(holders(), "alice $lockid/default", "$test: and releases nothing");
		like(G($a, 'default'), qr/"serial":\d+/, "$test: G reads the state");

		my $tags = tags();
		like(
			L($b, 'default'),
			qr/^ERROR 55P03: state lock "\Q$lockid\E\/default" is held by alice: apply since .* \(ID $uuid\)$/,
			"$test: L of another client names the holder");
		is(tags(), $tags, "$test: and leaves nothing in the lock manager");
		is(U($b, $b->{key}), 't', "$test: U of the creation key after that");
		is(holders(), "alice $lockid/default", "$test: releases nothing");

		my $data = sprintf(
			'{"version":4,"serial":%d,"lineage":"%s","outputs":{},"resources":[],"check_results":null}',
			G($a, 'default') =~ /"serial":(\d+)/ ? $1 + 1 : 1,
			G($a, 'default') =~ /"lineage":"(.*?)"/ ? $1 : '');
		is(P($a, 'default', $data), '', "$test: P writes the state");
		is(G($b, 'default'), $data, "$test: as another client sees");
		is(U($a, $id), 't', "$test: U of the id releases the lock");
		is(holders() . tags(), '0', "$test: nothing is held");
		is(U($a, $id), 'f', "$test: a second U finds nothing");
		is(L($b, 'default'), "$id|t|t", "$test: the other client has it then");
		is(U($b, $b->{key}) . U($b, $id), 'tt', "$test: and releases it");

		# workspace new: L Lc G P U(key).  While it has no row, a workspace has
		# no lock but the creation key of its table; with the row it gets its own.
		is(L($a, 'new'), '', "$test: L of a workspace that is not there");
		is(Lc($a), 't', "$test: Lc has the creation key");
		is(holders(), "alice $lockid/", "$test: of this table");
		is(L($b, 'new'), '', "$test: another client wants the same workspace");
		like(
			Lc($b),
			qr/^ERROR 55P03: cannot create a workspace: the lock for that is held by alice: creation of a workspace in \Q$lockid\E since/,
			"$test: and its Lc is refused");
		is(L($b, 'default'), "$id|t|t",
			"$test: an existing workspace is not affected");
		is(U($b, $b->{key}) . U($b, $id), 'tt', "$test: and can be unlocked");
		is(holders(), "alice $lockid/", "$test: which is all that was released");
		is(P($a, 'new', $data), '', "$test: P creates the workspace");
		is(holders(), "alice $lockid/new",
			"$test: and exchanges the key for its lock");
		like(L($b, 'new'), qr/^ERROR 55P03: state lock "\Q$lockid\E\/new" is held by alice/,
			"$test: which others respect");
		is(L($b, 'newer'), '', "$test: another client creates another workspace");
		is(Lc($b), 't', "$test: at the same time");
		is(P($b, 'newer', $data), '', "$test: with success");
		is(U($b, $b->{key}), 't', "$test: U of the key releases the workspace");
		is(holders(), "alice $lockid/new", "$test: its own only");
		is(U($a, $a->{key}), 't', "$test: and so for the first one");
		is(holders() . tags(), '0', "$test: nothing is held");

		# workspace delete: L U(key) G U(id) D
		foreach my $workspace ('new', 'newer')
		{
			my ($new_id) = split(/\|/, L($a, $workspace));
			is(U($a, $a->{key}) . U($a, $new_id),
				'tt', "$test: workspace delete unlocks $workspace");
			is(D($a, $workspace), '', "$test: and deletes it");
		}
		is(holders() . tags(), '0', "$test: nothing is held");

		$_->terminate foreach $a, $b;
	}

	# The creation keys of two tables have nothing to do with each other.
	my @mode = ('tfstate.mode' => $mode);
	my $a = client('alice', 'terraform_remote_state', 'states', @mode);
	my $b = client('bob', 'Infra Prod', 'My "States"', @mode);

	is(Lc($a) . Lc($b), 'tt', "$mode: two tables have a creation key each");
	is( holders(),
		'alice terraform_remote_state.states/, bob "Infra Prod"."My ""States"""/',
		"$mode: both are held");
	is(U($a, $a->{key}) . U($b, $b->{key}), 'tt', "$mode: and released");
	is(holders() . tags(), '0', "$mode: nothing is held");

	# In durable mode a connection that comes after a lost one of the same run
	# releases what that took.
	if ($mode eq 'durable')
	{
		my @run = (@mode, 'tfstate.run_id' => uuid());
		my $first = client('dave', 'Infra Prod', 'My "States"', @run);
		my ($id) = split(/\|/, L($first, 'default'));

		is(U($first, $first->{key}), 't', 'lost connection: U of the key');
		$first->terminate;
		is( holders(),
			'dave "Infra Prod"."My ""States"""/default',
			'lost connection: the lock is held');
		my $second = client('dave', 'Infra Prod', 'My "States"', @run);
		like(U($b, $id), qr/^ERROR 55000: state lock .* is not held by this run but by dave/,
			'lost connection: another client cannot release it');
		is(U($second, $id), 't',
			'lost connection: another connection of the run can');
		is(holders() . tags(), '0', 'lost connection: nothing is held');
		$second->terminate;
	}
	$_->terminate foreach $a, $b;
}

# The guard, on the table of another name.
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

	sql("UPDATE tfstate_attached_table SET guard = 'on' WHERE relid = '$name'::regclass");

	# workspace new, and a state of another lineage in place of the empty one
	L($a, $workspace);
	Lc($a);
	is(P($a, $workspace, state(1, 'empty', '"outputs":{},"resources":[]')),
		'', "$test: P creates the workspace");
	is($newest->(), 'write|1|alice|alice|t', "$test: under its lock");
	is(U($a, $a->{key}), 't', "$test: U");
	my ($id) = split(/\|/, L($a, $workspace));
	U($a, $a->{key});
	is(P($a, $workspace, state(1, $lineage)), '', "$test: P replaces the empty state");
	my $state = G($a, $workspace);

	# beside the holder, with the shim and without
	foreach my $other ($b, $stock)
	{
		like(P($other, $workspace, state(2, $lineage)), $held, "$test: P without the lock");
		like(D($other, $workspace), $held, "$test: D without the lock");
		is(G($a, $workspace), $state, "$test: neither has any effect");
	}

	# with the lock, but nonsense
	like(P($a, $workspace, state(1, $lineage, '"resources":[]')),
		qr/^ERROR 55000: $refused: the new one has serial 1, but serial 1 was written by alice at /,
		"$test: P of the same serial");
	like(P($a, $workspace, state(2, 'other')),
		qr/^ERROR 55000: $refused: it belongs to another project: the new state has lineage "other", but the workspace has lineage "$lineage"/,
		"$test: P of another lineage");
	like(P($a, $workspace, 'no state'),
		qr/^ERROR 22032: $refused: the new one is not a JSON object/,
		"$test: P of what is no state");
	is(G($a, $workspace), $state, "$test: none has any effect");
	is(P($a, $workspace, $state), '', "$test: P of what is there");
	is($newest->(), 'write|1|alice|alice|t', "$test: leaves no version");

	# a state that is encrypted, and a large one
	my $secret = '"meta":{"key":"a"},"encryption_version":"v0","encrypted_data":"'
	  . ('0123456789abcdef' x 64) . '"';
	is(P($a, $workspace, state(2, $lineage, $secret)), '', "$test: P of an encrypted state");
	is($newest->(), 'write|2|alice|alice|t', "$test: leaves a version");
	like(P($a, $workspace, state(2, $lineage, "$secret,\"more\":1")),
		qr/^ERROR 55000: $refused: the new one has serial 2, but serial 2 was/,
		"$test: P of another one of the same serial");
	like(P($a, $workspace, state(3, 'other', $secret)),
		qr/^ERROR 55000: $refused: it belongs to another project: the new state has lineage "other"/,
		"$test: P of another one of another lineage");
	my $large = state(3, $lineage, '"outputs":{"x":{"value":"' . ('large ' x 200_000) . '"}}');
	is(P($a, $workspace, $large), '', "$test: P of a large state");
	is(sql(qq(SELECT tfstate_version('$lockid', max(number)) FROM tfstate_versions('$lockid'))),
		$large, "$test: its version gives it back");

	# without any lock
	is(U($a, $id), 't', "$test: U");
	like(P($b, $workspace, state(4, $lineage)),
		qr/^ERROR 55000: $refused: this session was refused that before, and does not hold the lock/,
		"$test: who was refused before needs the lock now");
	is(P($a, $workspace, state(4, $lineage)), '', "$test: who was not may do without");
	is($newest->(), 'write|4|alice||f', "$test: and the version tells");
	L($b, $workspace);
	U($b, $b->{key});
	is(P($b, $workspace, state(5, $lineage)), '', "$test: with the lock he may write");
	is($newest->(), 'write|5|bob|bob|t', "$test: as the version tells");
	U($b, $id);
	is($stock->extended(
			'SELECT pg_try_advisory_lock($1)', $id), 't', "$test: without the shim, L");
	like(P($stock, $workspace, state(6, $lineage)),
		qr/^ERROR 55000: $refused: this session was refused that before, and does not hold the lock/,
		"$test: without the shim, who was refused before stays out");
	U($stock, $id);
	my $other_stock = client('other stock', @table, search_path => 'public');
	is($other_stock->extended(
			'SELECT pg_try_advisory_lock($1)', $id), 't', "$test: without the shim, L of another one");
	is(P($other_stock, $workspace, state(6, $lineage)), '', "$test: without the shim, P of that");
	$other_stock->terminate;

	# The connection is lost, and another client has the lock, or has written: each
	# attempt has a higher serial.
	L($a, $workspace);
	U($a, $a->{key});
	$a->terminate;
	sql("SELECT tfstate_force_unlock('$lockid')") if $mode eq 'durable';
	$a = client('alice', @table, @mode);
	L($b, $workspace);
	U($b, $b->{key});
	like(P($a, $workspace, state(7, $lineage)),
		qr/^ERROR 55006: $refused: its lock is held by bob: apply since/,
		"$test: lost connection, P while another one has the lock");
	is(P($b, $workspace, state(7, $lineage)), '', "$test: lost connection, P of that");
	is(U($b, $id), 't', "$test: lost connection, U of that");
	like(P($a, $workspace, state(8, $lineage)),
		qr/^ERROR 55000: $refused: this session was refused that before/,
		"$test: lost connection, P after that");
	is(U($a, $id), 'f', "$test: lost connection, U");
	is($newest->(), 'write|7|bob|bob|t', "$test: lost connection: nothing was overwritten");

	# workspace delete, while another client gets in between U and D
	L($a, $workspace);
	U($a, $a->{key});
	is(U($a, $id), 't', "$test: workspace delete unlocks");
	L($b, $workspace);
	U($b, $b->{key});
	like(D($a, $workspace), qr/^ERROR 55006: $refused: its lock is held by bob/,
		"$test: D while another one has the lock");
	is(P($b, $workspace, state(8, $lineage)), '', "$test: which writes");
	U($b, $id);
	like(D($a, $workspace),
		qr/^ERROR 55000: cannot delete workspace "\Q$lockid\E": its state was written by bob at/,
		"$test: D after that");

	# who writes has the lock
	sql("UPDATE tfstate_attached_table SET guard = 'require' WHERE relid = '$name'::regclass");
	like(P($a, $workspace, state(9, $lineage)),
		qr/^ERROR 55000: $refused: this session does not hold its lock, or has lost it/,
		"$test, require: P without the lock");
	L($a, $workspace);
	U($a, $a->{key});
	is(P($a, $workspace, state(9, $lineage)), '', "$test, require: P with the lock");
	is(U($a, $id), 't', "$test, require: U");
	is(L($a, "new-$mode") . Lc($a), 't', "$test, require: Lc");
	is(P($a, "new-$mode", state(1, 'new')), '', "$test, require: P creates a workspace");
	is(U($a, $a->{key}), 't', "$test, require: U");
	my ($new_id) = split(/\|/, L($a, "new-$mode"));
	is(U($a, $a->{key}) . U($a, $new_id), 'tt', "$test, require: workspace delete unlocks");
	is(D($a, "new-$mode"), '', "$test, require: D");
	sql("UPDATE tfstate_attached_table SET guard = 'on' WHERE relid = '$name'::regclass");

	L($a, $workspace);
	U($a, $a->{key});
	U($a, $id);
	is(D($a, $workspace), '', "$test: D");
	is($newest->(), 'delete|9|alice||f', "$test: leaves a version, too");
	is(G($a, $workspace), '', "$test: and deletes the workspace");
	is(holders() . tags(), '0', "$test: nothing is held");
	$_->terminate foreach $a, $b, $stock;
}
is(sql(q(SELECT count(*) FROM tfstate_verify('*', true))),
	0, 'guard: all versions are intact, and the newest are what is in the tables');

# A key that is no workspace's and no creation key is the built-in's.
{
	my $a = client('alice', 'terraform_remote_state', 'states');
	my $b = client('bob', 'terraform_remote_state', 'states');

	foreach my $key (-7, 987654321)
	{
		my $lock = 'SELECT pg_try_advisory_lock($1)';
		is( join(' ',
				$a->extended($lock, $key), $b->extended($lock, $key),
				$a->extended($lock, $key), U($a, $key),
				$b->extended($lock, $key), U($a, $key),
				$b->extended($lock, $key), U($b, $key),
				U($b, $key)),
			't f t t f t t t f',
			"key $key is locked as by the built-in functions");
		is(holders(), '', "key $key is nothing to tfstate");
	}
	$_->terminate foreach $a, $b;
}

done_testing();

# As much of a client as is needed, for the protocol as lib/pq speaks it.
package Wire;

use IO::Socket::INET;
use Test::More;

# Connects, with settings as lib/pq sends them: in the start-up packet.
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

# Puts a message into the buffer; the start-up packet has no type.
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

# Sends the messages and reads up to ReadyForQuery.  Returns the rows as psql -At
# prints them, or the first error.
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

# A statement with parameters: Parse, Describe, Sync; then Bind, Execute, Sync.
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
