# test/lib/RandomStatements.pm
#
# Random and malicious statements: calls of every function of the extension, reads of its
# views, states for its tables, and damage to what it has stored.
#
# read_catalog	reads the functions and views of the extension
# statement		returns a random statement
# call_of		returns a call of one function
# setting		returns a statement that sets something at random
# damage		returns a statement that damages stored versions
# transaction	returns statements that make a transaction
# in_block		returns a DO block that runs random statements and catches their errors
# chance		returns true with a probability
#
# All randomness comes from rand(), so that srand() repeats it.
package RandomStatements;

use strict;
use warnings;

use Exporter 'import';
use List::Util qw(max);
use TestServer;

our @EXPORT = qw(chance read_catalog call_of statement damage transaction in_block setting
  %calls @roles @workspaces);

our %calls;    # statements by function, view and other kind

our @roles = ('fuzz_super', 'fuzz_none', 'fuzz_lock', 'fuzz "all"');
my @tables = ([ 'terraform_remote_state', 'states' ], [ 'fuzz "a"', 'More states' ]);
our @workspaces = map {
	my $table = $_;
	map { "$table$_" } '/default', '/w1', '/w/2', '/Z\xc3\xbcrich'
} 'terraform_remote_state.states', '"fuzz ""a"""."More states"';

my $encoding;     # of the database
my @functions;    # name, kind, types, names, defaults
my %views;        # columns by name
my $serial = 10;

sub chance
{
	my ($probability) = @_;
	return rand() < $probability;
}

sub literal
{
	my ($text) = @_;

	$text =~ s/\0//g;
	$text =~ s/'/''/g;
	return "'$text'";
}

# Reads the extension's functions and views from a database.
sub read_catalog
{
	my ($node, $database) = @_;

	$encoding = $node->safe_psql($database, 'SHOW server_encoding');
	@functions = map {
		my ($name, $kind, $types, $names, $defaults) = split /\|/;
		{
			name => $name,
			kind => $kind,
			types => [ split /,/, $types ],
			names => [ split /,/, $names, -1 ],
			defaults => $defaults
		}
	  } split /\n/, $node->safe_psql(
		$database, q(
		SELECT p.oid::regproc, CASE WHEN prorettype = 'trigger'::regtype THEN 't' ELSE prokind END,
			   (SELECT string_agg(format_type(t, NULL), ',' ORDER BY n) FROM unnest(proargtypes) WITH ORDINALITY t(t, n)),
			   (SELECT string_agg(coalesce(a, ''), ',' ORDER BY n)
				  FROM unnest(coalesce(proargnames, array_fill(''::text, ARRAY[pronargs]))) WITH ORDINALITY a(a, n)
				 WHERE coalesce(proargmodes[n], 'i') IN ('i', 'b')),
			   pronargdefaults
		  FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
			   AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
			   JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'tfstate'
		 ORDER BY p.oid::regprocedure::text));
	%views = ();
	foreach (
		split /\n/,
		$node->safe_psql(
			$database, q(
		SELECT a.attrelid::regclass, quote_ident(attname), format_type(atttypid, NULL)
		  FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass AND c.relkind = 'v'
			   JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid AND e.extname = 'tfstate'
			   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
		 ORDER BY 1, a.attnum)))
	{
		my ($view, $column, $type) = split /\|/;
		push @{ $views{$view} }, { name => $column, type => $type };
	}
	return map { $_->{name} } @functions;
}

#
# Values
#

# Bytes that are invalid in the database's encoding would be refused by the server before
# they reach tfstate, unless the database has no encoding.
sub random_byte
{
	return chr(1 + int(rand($encoding eq 'SQL_ASCII' ? 255 : 127)));
}

# Returns an SQL expression of an unexpected text.
sub nasty_text
{
	my $size = choose(1, 100, 10_000, 3_000_000);

	return choose(
		sub { "''" },
		sub { literal(join '', map { random_byte() } 0 .. rand 60) },
		sub { literal(choose('%s%n%d%%%p', '%', '%1$s', '%I %L', '%*d', '\\', '\\\\', "'", '"', '""', '$1', '{}')) },
		sub { literal(choose("\n", "\r\n", "\t", "\x07\x1b[31m", "\x7f", "a\nERROR:  b", "\x01")) },
		sub { literal(choose("\xe2\x80\xae\xef\xbb\xbf", "\xf0\x9f\x94\x92", "e\xcc\x81" x 200, "\xef\xbf\xbf")) },
		sub { literal(choose('/', '.', './', 'a/', '/a', '..', '*', '**', '*/*', '*a*b*c*', '?', '[')) },
		sub { literal(choose('null', 'NaN', '-1', '0', '1e400', '99999999999999999999', 'infinity')) },
		sub { literal(choose('*a' x 2000, '*' x 5000, '"' x 1000)) },
		sub { "repeat('x', $size)" },
		sub { "repeat('*a', $size / 4)" },
		sub { "repeat(chr(10), $size)" },
		sub { "repeat('[', $size) || repeat(']', $size)" },
		sub { sprintf q|repeat('{"a":', %d)|, rand 20_000 })->();
}

# Returns a JSON text.  Most are well-formed, and some of these are not valid as jsonb.
sub json
{
	my ($depth) = @_;
	my $kind = rand($depth > 3 ? 6 : 10);

	return choose('null', 'true', 'false', '""', '[]', '{}') if $kind < 2;
	return choose(0, -1, 1.5, '1e400', '-1e-400', '9223372036854775807', '-9223372036854775808',
		'9223372036854775808', '9' x 500, '1e131071', '0.' . '1' x 100)
	  if $kind < 4;
	return '"'
	  . choose('\\ud83d', '\\ude00\\ud83d', '\\u0000', '\\uffff', '\\u0001\\n\\"', '\\ud83d\\ude00', '%s%n', 'x' x 3000)
	  . '"'
	  if $kind < 6;
	return '[' . join(',', map { json($depth + 1) } 1 .. rand 5) . ']' if $kind < 7;
	return '{' . join(
		',',
		map {
			'"'
			  . choose('ID', 'Operation', 'Info', 'Who', 'Version', 'Created', 'Path', 'a', '', 'a')
			  . '":'
			  . json($depth + 1)
		} 0 .. rand 6) . '}';
}

sub nested_json
{
	my $depth = choose(10, 1000, 5000, 10_000, 100_000);
	my ($open, $close) = @{ choose([ '[', ']' ], [ '{"a":', '}' ], [ '[{"ID":', '}]' ]) };

	return "(repeat('$open', $depth) || '1' || repeat('$close', $depth))";
}

my @int64 = (qw(0 1 -1 2 3 2147483647 2147483648 -2147483648 9223372036854775807), '(-9223372036854775808)');

# Values that make sense for an argument of that name
my %by_name = (
	lockid => sub { literal(choose(@workspaces, @workspaces, 'a', 'b', 'prod/network', 'k' . int(rand 50))) },
	pattern => sub {
		literal(choose('*', '*', @workspaces, 'terraform_remote_state.*', 'k*', '*/w*', 'a'));
	},
	id => sub {
		choose("(SELECT max(id) FROM tfstate_holders)", literal('fuzz-1'), 'NULL',
			"(SELECT max(id) FROM tfstate_holders WHERE lockid = " . literal(choose(@workspaces, 'a', 'b')) . ')');
	},
	mode => sub { literal(choose('durable', 'durable', 'session', 'session', 'Session', 'x')) },
	privilege => sub { literal(choose('lock', 'view', 'force', 'override', 'all')) },
	role => sub { literal(choose(@roles, 'public', 'fuzz nobody', 'pg_monitor')) },
	schema => sub { literal(choose($tables[0][0], $tables[1][0], 'fuzz', 'pg_catalog', 'tfstate_pg', 'information_schema')) },
	table => sub { literal(choose($tables[0][1], $tables[1][1], 'fuzz', 'pg_class', 'tfstate_guards')) },
	column => sub { literal(choose(qw(id name data ctid tableoid a))) },
	guard => sub { literal(choose(qw(on off require x))) },
	parameter => sub { literal(choose(qw(search_path tfstate.wait tcp_keepalives_idle tfstate.none), 'a b')) },
	wait => sub { literal(choose('0', '1 ms', '20 ms', '1 s', '-1 s')) . '::interval' },
	ttl => sub { literal(choose('1 s', '1 ms', '1 hour', '0', '-1 day')) . '::interval' },
	terminate => sub { choose('false', 'false', 'false', 'true') },
	number => sub { choose(1 .. 8, '(SELECT max(number) FROM tfstate_versions)') },
	info => sub {
		literal(sprintf('{"Operation":"%s","Info":"%s"}', choose('apply', 'plan', '%s'), choose('', 'x', '\\u00e9')));
	});
$by_name{workspace} = $by_name{lockid};
$by_name{a} = $by_name{b} = $by_name{number};

# Any values of that type
my %by_type = (
	text => \&nasty_text,
	jsonb => sub { choose(sub { literal(json(0)) }, \&nested_json, \&nasty_text)->() },
	name => sub { choose(sub { literal(choose(@roles)) }, \&nasty_text)->() },
	bigint => sub { choose(@int64, int(rand 20), '(SELECT max(id) FROM terraform_remote_state.states)') },
	integer => sub { choose(0, 1, -1, 2, 3, 100, 2147483647, '(-2147483648)') },
	boolean => sub { choose('true', 'false') },
	interval => sub {
		literal(
			choose(
				'0', '1 us', '-1 us', '178000000 years', '-178000000 years', '2147483647 months', '-2147483648 days',
				'2562047788 hours', '-2562047788:00:54.775808', '1 mon -1 day 00:00:00.001', '9223372036854775807 us'));
	},
	'timestamp with time zone' => sub {
		literal(choose('infinity', '-infinity', 'epoch', '4714-11-24 00:00+00 BC', '294276-12-31 23:59:59+00', 'now'));
	},
	regclass => sub {
		choose("'pg_class'::regclass", "'fuzz.plain'::regclass", "'fuzz.view'::regclass", "'fuzz.plain_name_key'::regclass",
			"'fuzz.seq'::regclass", "'fuzz.parted'::regclass", "'fuzz.child'::regclass", "'fuzz.wrong'::regclass",
			"'terraform_remote_state.states'::regclass", '0::oid', '4294967295::oid', '16000::oid');
	},
	oid => sub {
		choose("'fuzz_none'::regrole", "'fuzz_lock'::regrole", '10::oid', '0::oid', '4294967295::oid', "'pg_class'::regclass");
	},
	'tfstate_internal.role' => sub { choose(sub { literal(choose(@roles, 'public')) }, \&nasty_text, sub { choose('0::oid', '1::oid', '10::oid', '4294967295::oid') })->() },
	'tfstate_internal.given' => sub { '(SELECT g FROM tfstate_internal.given g LIMIT 1)' },
	# only an event trigger has one
	pg_ddl_command => sub { 'NULL' },
	cstring => \&nasty_text,
	inet => sub { literal(choose('127.0.0.1', '::1', '0.0.0.0/0')) });

# Returns an SQL expression for an argument.
sub value
{
	my ($type, $name) = @_;
	my $known = $by_name{ $name // '' };
	my $expression;
	my ($element) = $type =~ /^(.*)\[\]$/;

	return "NULL::$type" if chance(0.05);
	return 'ARRAY[' . join(', ', map { value($element) } 1 .. choose(0, 1, 2, 5)) . "]::$type"
	  if defined $element;
	die "the fuzzer has no values of type $type" unless $by_type{$type};
	$expression = $known->() if $known && chance(0.75);
	$expression //= $by_type{$type}->();
	$expression = "($expression)::text" if $type =~ /^(name|jsonb|cstring)$/;
	return "($expression)::$type";
}

#
# States
#

sub resource
{
	my ($n) = @_;
	my $key = choose('', '"index_key": 0, ', '"index_key": "a\\"b${x}", ', '"status": "tainted", ', '"deposed": "0a1b2c3d", ');

	return sprintf(
		'{"module": "module.m[%d].module.n[\\"k\\"]", "mode": "%s", "type": "aws_instance", "name": "r%d", '
		  . '"provider": "provider[\\"registry.terraform.io/hashicorp/aws\\"]", "instances": [{%s"schema_version": 1, '
		  . '"attributes": {"id": "i-%08x", "tags": {"Name": "Z\\u00fcrich \\ud83d\\ude00"}, "list": [1, 2.5e3, null, true]}, '
		  . '"sensitive_attributes": [[{"type": "get_attr", "value": "x"}]], "private": "%s", "dependencies": ["aws_vpc.main"]}]}',
		$n % 3, choose('managed', 'data'),
		$n, $key, int(rand 1e9), 'bnVsbA==' x rand 20);
}

# Returns a state as Terraform writes it, which may replace the one before.
sub sane_state
{
	my $resources = choose(0, 1, 2, 5, 40);

	$serial += choose(0, 1, 1, 1, 1, 3);
	return sprintf(
		qq({\n  "version": 4,\n  "terraform_version": "1.11.4",\n  "serial": %d,\n  "lineage": "%s",\n)
		  . qq(  "outputs": {\n    "vpc": {"value": "vpc-1", "type": "string"},\n)
		  . qq(    "secret": {"value": [1, {"a": "b"}], "type": ["tuple", ["number", ["object", {"a": "string"}]]], "sensitive": true}\n  },\n)
		  . qq(  "resources": [\n    %s\n  ],\n  "check_results": null\n}\n),
		$serial,
		chance(0.97) ? '00000000-0000-4000-8000-000000000001' : 'other',
		join(",\n    ", map { resource($_) } 1 .. $resources));
}

my @keys = qw(version terraform_version serial lineage outputs resources instances attributes module mode type name
  provider index_key status deposed id value sensitive);

my @mutations = (
	sub { substr($_[0], 0, rand length $_[0]) },
	sub { substr($_[0], rand length $_[0]) },
	sub {
		my ($text) = @_;
		substr($text, rand length $text, 1) = random_byte() for 0 .. rand 4;
		return $text;
	},
	sub {
		my ($text) = @_;
		substr($text, rand length $text, rand 30) = '';
		return $text;
	},
	sub {
		my ($text) = @_;
		substr($text, rand length $text, 0) = substr($text, rand length $text, rand 200);
		return $text;
	},
	# another value for a key, or the key twice
	sub {
		my ($text) = @_;
		my ($key, $value) = (choose(@keys), json(0));
		$text =~ s/"$key": ("[^"]*"|[^\s,{}\[\]]+|(?=[\[{]))/"$key": $value/;
		return $text;
	},
	sub {
		my ($text) = @_;
		my ($key, $value) = (choose(@keys), json(0));
		$text =~ s/"$key": /"$key": $value, "$key": /g;
		return $text;
	},
	# another name for a key, as escapes
	sub {
		my ($text) = @_;
		my $key = choose(@keys);
		my $escaped = join '', map { sprintf '\\u%04x', ord } split //, $key;
		$text =~ s/"$key": /"$escaped": /g;
		return $text;
	},
	sub { "\xef\xbb\xbf$_[0]" },
	sub { $_[0] . choose('}', ',', "\x01", ' ' x 100_000, '{}', 'null') });

# Returns an SQL expression of a state, or of a damaged one.
sub state
{
	my $text = sane_state();

	return 'NULL' if chance(0.02);
	return nested_json() if chance(0.03);
	return nasty_text() if chance(0.05);
	if (chance(0.6))
	{
		$text = choose(@mutations)->($text) for 0 .. rand 3;
		if ($encoding eq 'UTF8' && !utf8::decode(my $copy = $text))
		{
			$text =~ s/[\x80-\xff]//g;
		}
		$text = 'x' if $text eq '';
	}
	if (chance(0.04))
	{
		my ($depth, $place) = (choose(100, 6000, 50_000), choose('"list": ', '"resources": ', '"value": '));
		return sprintf('replace(%s, %s, %s || repeat(\'[\', %d) || repeat(\']\', %d) || \', "x": \')',
			literal($text), literal($place), literal($place), $depth, $depth);
	}
	return sprintf(q(replace(%s, 'bnVsbA', repeat('bnVsbA', %d))), literal($text), choose(10_000, 400_000))
	  if chance(0.02);
	return literal($text);
}

# Returns a write to an attached table.
sub write_statement
{
	my $table = choose('terraform_remote_state.states', 'terraform_remote_state.states', '"fuzz ""a"""."More states"');
	my $name = chance(0.95) ? literal(choose('default', 'w1', 'w/2', "Z\xc3\xbcrich")) : nasty_text();

	$calls{'write of a state'}++;
	return choose(
		sub { "INSERT INTO $table (name, data) VALUES ($name, ${\state()}) ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data" },
		sub { "UPDATE $table SET data = ${\state()} WHERE name = $name" },
		sub { "UPDATE $table SET data = ${\state()} WHERE name = $name" },
		sub { "UPDATE $table SET data = left(data, -10) || ${\nasty_text()}" },
		sub { "UPDATE $table SET name = ${\nasty_text()} WHERE name = $name" },
		sub { "UPDATE $table SET id = ${\int(1_000_000 + rand 1_000_000)} WHERE name = $name" },
		sub { "DELETE FROM $table WHERE name = $name" },
		sub { chance(0.1) ? "TRUNCATE $table" : "DELETE FROM $table WHERE name > 'w'" },
		sub {
			"MERGE INTO $table t USING (VALUES ($name, ${\state()})) v(n, d) ON t.name = v.n"
			  . ' WHEN MATCHED THEN UPDATE SET data = v.d WHEN NOT MATCHED THEN INSERT (name, data) VALUES (v.n, v.d)';
		})->();
}

#
# Statements
#

# Returns a call of a function with random arguments.
sub call_of
{
	my ($name) = @_;
	my ($function) = choose(grep { $_->{name} eq $name } @functions);
	my @types = @{ $function->{types} };
	my $given = @types - int(rand(1 + $function->{defaults}));
	my $arguments = join ', ', map { value($types[$_], $function->{names}[$_]) } 0 .. $given - 1;
	my $call = "$name($arguments)";

	$calls{$name}++;
	return "CALL $call" if $function->{kind} eq 'p';
	return trigger_statement($name) if $function->{kind} eq 't' && chance(0.9);
	return choose(
		"SELECT * FROM $call",
		"SELECT * FROM $call",
		"SELECT $call",
		"SELECT $call LIMIT 1",
		"SELECT $call FROM generate_series(1, 3)",
		"SELECT count(*) FROM generate_series(1, 2), LATERAL $call LIMIT 1",
		"SELECT 1 WHERE EXISTS (SELECT FROM $call)",
		"DECLARE c CURSOR WITH HOLD FOR SELECT * FROM $call",
		"EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM $call",
		"CREATE TEMP TABLE t" . int(rand 1e9) . " ON COMMIT DROP AS SELECT * FROM $call");
}

# Returns statements that use a trigger function for an unexpected trigger.
sub trigger_statement
{
	my ($name) = @_;
	my $table = choose('fuzz.plain', 'fuzz.wrong', 'fuzz.parted', 'fuzz.view');

	return sprintf(
		'CREATE OR REPLACE TRIGGER fuzz %s %s ON %s FOR EACH %s EXECUTE FUNCTION %s(%s)',
		choose('BEFORE', 'AFTER', 'INSTEAD OF'),
		choose('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'INSERT OR UPDATE OR DELETE', 'UPDATE OF data'),
		$table, choose('ROW', 'STATEMENT'),
		$name, choose('', "'x'", "'a', '%s'"));
}

sub read_of_view
{
	my $view = choose(sort keys %views);
	my @columns = @{ $views{$view} };
	my @conditions = map {
		my $column = choose(@columns);
		$by_type{ $column->{type} }
		  ? sprintf('%s %s %s',
			$column->{name},
			$column->{type} eq 'text' ? choose('=', '<', '~~', '>=', 'IS DISTINCT FROM') : choose('=', '<', '>='),
			value($column->{type}, $column->{name}))
		  : "$column->{name} IS NOT NULL";
	} 0 .. rand 3;

	$calls{$view}++;
	return sprintf(
		'SELECT %s FROM %s v WHERE %s ORDER BY %d LIMIT %s',
		choose('*', 'count(v) OVER ()', 'v', 'row_to_json(v)'),
		$view, join(choose(' AND ', ' OR '), @conditions),
		1, choose('ALL', 1, 0));
}

sub plain_write
{
	my $table = choose('fuzz.plain', 'fuzz.wrong', 'fuzz.parted', 'fuzz.view');

	$calls{'write of another table'}++;
	return choose("INSERT INTO $table (name, data) VALUES (${\nasty_text()}, ${\state()})",
		"UPDATE $table SET data = ${\state()}", "DELETE FROM $table", "TRUNCATE $table");
}

sub setting
{
	my $name = choose(qw(tfstate.guard tfstate.guard tfstate.fence tfstate.wait tfstate.mode tfstate.who tfstate.info tfstate.run_id
		tfstate.operation tfstate.history tfstate.history_count tfstate.history_age tfstate.max_session_locks));
	my $value =
	  chance(0.5)
	  ? literal(choose(qw(on off require durable session all none 0 1 3 -1 50ms fuzz), '{"a":1}'))
	  : nasty_text();

	$calls{'setting'}++;
	return "SELECT count(set_config('$name', $value, " . choose('true', 'false') . '))';
}

sub statement
{
	my $kind = rand();

	return write_statement() if $kind < 0.2;
	return read_of_view() if $kind < 0.28;
	return setting() if $kind < 0.36;
	return plain_write() if $kind < 0.38;
	# often enough for the sessions to meet
	return call_of(choose(qw(tfstate_lock tfstate_try_lock tfstate_unlock))) if $kind < 0.55;
	# the functions of locks and states twice as often as the helpers of attach
	my $function = choose(@functions);
	$function = choose(@functions) if grep { /^(regclass|oid)$/ } @{ $function->{types} };
	return call_of($function->{name});
}

# Returns a change to the stored versions, which the caller has to roll back.
sub damage
{
	my $at = sub { "(octet_length(content) * ${\rand()})::int" };
	my $what = choose(
		sub { "content = set_byte(content, least($_[0], octet_length(content) - 1), ${\int(rand 256)})" },
		sub { "content = substr(content, 1, $_[0])" },
		sub { "content = substr(content, $_[0])" },
		sub { "content = overlay(content PLACING substr(content, $_[0], 20) FROM 1 + $_[0])" },
		sub { "content = overlay(content PLACING '\\xffffffffffffffffff' FROM 1 + ${\int(rand 30)})" },
		sub { "content = " . choose('NULL', "''", "'\\x00'", "'\\x28b52ffd'", "'\\x28b52ffda0ffffffff'") },
		sub { "content = (SELECT o.content FROM tfstate_internal.stored_version o ORDER BY random() LIMIT 1)" },
		sub { "size = " . choose(@int64, 'NULL', 'size + 1', 1073741823, 1073741824) },
		sub { "chain = " . choose(0, 1, -1, 'NULL', 'chain + 1', 2147483647) },
		sub { "number = number + " . choose(1, -100, 1000000) },
		sub { "sha256 = " . choose('NULL', "''", "'\\x00'", 'md5') },
		sub { "md5 = " . choose('NULL', "''", "'\\x00'", 'sha256') },
		sub { "serial = " . choose(@int64, 'NULL') })->($at->());

	$calls{'damage'}++;
	return "UPDATE tfstate_internal.stored_version SET $what WHERE number >= " . int(rand 10);
}

# Returns statements that together are a transaction.
sub transaction
{
	my @statements = 'BEGIN ISOLATION LEVEL '
	  . choose('READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
	  . choose('', '', '', ', READ ONLY');

	foreach my $n (0 .. rand 8)
	{
		push @statements, "SAVEPOINT s$n" if chance(0.7);
		push @statements, chance(0.15) ? in_block() : statement();
		push @statements, choose("ROLLBACK TO s$n", "RELEASE s$n", 'FETCH 1 FROM c') if chance(0.6);
	}
	push @statements,
	  choose('COMMIT', 'COMMIT', 'ROLLBACK', 'PREPARE TRANSACTION \'fuzz\'', 'COMMIT AND CHAIN', 'DISCARD ALL');
	$calls{'transaction'}++;
	return @statements;
}

# Returns a DO block that runs statements and catches their errors.
sub in_block
{
	my $body = join '', map {
		my $statement = statement();
		"BEGIN EXECUTE \$fuzz\$$statement\$fuzz\$; EXCEPTION WHEN OTHERS THEN"
		  . " IF sqlstate ~ '^XX' THEN RAISE; END IF; END;\n"
		  . choose('', '', "COMMIT;\n", "ROLLBACK;\n")
	} 0 .. rand 4;

	$calls{'DO block'}++;
	return "DO \$do\$ BEGIN\n${body}END \$do\$";
}

1;
