# States of a realistic size, and beyond: how much storage many small changes take, and that
# a state of 100 MB passes through everything that is done with states, within a bound on
# memory.
#
# TFSTATE_CHANGES sets the number of small changes, TFSTATE_MEGABYTES the size of the
# big state.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use List::Util qw(min);
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $changes = $ENV{TFSTATE_CHANGES} || 1000;
my $changes_of_call = 100;
my $megabytes = $ENV{TFSTATE_MEGABYTES} || 100;

# As in record.c
my $max_chain_bytes = 2**30;

# The shared buffers that a process has used count as its memory.
my $node = tfstate_node('big_states', conf => <<'END');
fsync = off
shared_buffers = 16MB
max_wal_size = 4GB
END

# text_of(megabytes, serial, variant) makes a state with resources of about 430 bytes, all
# different.  The variants differ in one resource.
my $text_of = <<'END';
CREATE FUNCTION text_of(megabytes integer, serial integer, variant text) RETURNS text
LANGUAGE sql STABLE
RETURN format('{"version":4,"terraform_version":"1.11.4","serial":%s,"lineage":"a","outputs":{},"resources":[', serial)
	|| (SELECT string_agg(
			format('{"mode":"managed","type":"aws_instance","name":"r%s","provider":"provider[\"registry.terraform.io/hashicorp/aws\"]",', n)
			|| format('"instances":[{"schema_version":1,"attributes":{"id":"i-%s","arn":"arn:aws:ec2:eu-central-1:1:instance/%s",', md5(n::text), md5('b' || n))
			|| format('"private_ip":"10.0.%s.%s","user_data":"%s"}}]}', n / 256, n % 256, CASE WHEN n = 1000 THEN variant ELSE md5('c' || n) || md5('d' || n) || md5('e' || n) END), E',\n')
		  FROM generate_series(1, megabytes * 2330) n)
	|| '],"check_results":null}'
END

sub sql_in
{
	my ($db, $sql) = @_;
	return $node->safe_psql($db, $sql);
}

# Small changes

sql_in('postgres', 'CREATE DATABASE changes');
sql_in('changes', "CREATE EXTENSION tfstate; SELECT tfstate_attach('tf', guard => 'on')");
sql_in('changes', $text_of);
sql_in('changes', "INSERT INTO tf.states (name, data) VALUES ('prod', text_of(5, 100000, 'a'))");
sql_in('changes', 'CREATE TABLE digests (number bigint, sha256 bytea)');

foreach my $from (map { $_ * $changes_of_call } 0 .. ($changes - 1) / $changes_of_call)
{
	my $to = min($from + $changes_of_call, $changes) - 1;

	sql_in('changes', qq(DO \$\$
	DECLARE
		serial integer := (SELECT strpos(data, ($from + 100000)::text) FROM tf.states WHERE name = 'prod');
	BEGIN
		FOR n IN $from .. $to LOOP
			UPDATE tf.states
			   SET data = replace(overlay(data PLACING (n + 100001)::text FROM serial FOR 6),
								  md5((n * 7)::text), md5('changed' || n))
			 WHERE name = 'prod';
			IF n % 97 = 0 THEN
				INSERT INTO digests SELECT n + 2, sha256(convert_to(data, 'UTF8')) FROM tf.states WHERE name = 'prod';
			END IF;
			COMMIT;
		END LOOP;
	END \$\$));
}

my ($size, $versions, $full, $chain, $total) = split(
	/\|/,
	sql_in('changes', "SELECT max(size), count(*), count(*) FILTER (WHERE chain = 0), max(chain),
						   pg_total_relation_size('tfstate_internal.stored_version')
					  FROM tfstate_internal.stored_version WHERE lockid = 'tf.states/prod'"));

is($versions, $changes + 1, "$changes changes of a state of 5 MB leave a version each");

# A delta has about 3 kB and a full copy 0.9 MB, of which there is one for each GB of
# text.  Stored as they are, a thousand would take 5 GB, and compressed 900 MB.
cmp_ok(
	$total, '<',
	(2 + $changes / 125) * 1e6,
	sprintf('the versions take %.1f MB with their table and index', $total / 1e6));
is($chain, int(min($changes, $max_chain_bytes / $size)), 'a chain has at most 1 GB of text');
is($full, 1 + int($changes / ($chain + 1)), 'a full copy follows each chain');
is(sql_in('changes', "SELECT * FROM tfstate_verify('*', true)"), '', 'all versions verify');
is( sql_in('changes', "SELECT number FROM digests
		  WHERE sha256 <> sha256(convert_to(tfstate_version('tf.states/prod', number), 'UTF8'))"),
	'',
	'the versions have the texts that were written');

# A big state

sql_in('postgres', "SELECT tfstate_attach('tf', guard => 'on')");
sql_in('postgres', $text_of);
sql_in('postgres',
	"CREATE TABLE texts AS
	 SELECT n, text_of($megabytes, n, CASE n WHEN 2 THEN 'b' ELSE 'a' END) AS text
	   FROM generate_series(1, 3) n");

my $bytes = sql_in('postgres', 'SELECT octet_length(text) FROM texts WHERE n = 1');
note("the big state has $bytes bytes");

# Runs SQL in a session of its own and tests the result, and the peak memory of the process
# as a multiple of the size of the state.  An idle process has 15 MB.
sub check
{
	my ($what, $expected, $bound, $sql) = @_;
	my $session = session($node);

	is($session->query_safe($sql), $expected, $what);
  SKIP:
	{
		my $status = "/proc/$session->{pid}/status";
		skip 'the memory of a process is not known here', 1 unless -r $status;
		my ($peak) = slurp_file($status) =~ /^VmHWM:\s+(\d+) kB/m;
		my $factor = ($peak * 1024 - 15e6) / $bytes;

		cmp_ok($factor, '<', $bound, sprintf('%s: memory for %.1f states', $what, $factor));
	}
	$session->quit;
	return;
}

sub upsert
{
	my ($n) = @_;
	return
	  "INSERT INTO tf.states (name, data) SELECT 'big', text FROM texts WHERE n = $n ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data";
}

sub version_is
{
	my ($n) = @_;
	return "SELECT tfstate_version('tf.states/big', $n) = text FROM texts WHERE n = $n";
}

sub row_is
{
	my ($n) = @_;
	return "SELECT data = text FROM tf.states, texts WHERE name = 'big' AND n = $n";
}

# PostgreSQL itself takes memory for two or three states to write one.
check('write', '', 3, upsert(1));
check('change', '', 4, upsert(2));
check('the first version', 't', 5, version_is(1));
check('the second version', 't', 5, version_is(2));
check('a list of states',
	'tf.states/big|2', 2,
	q(SELECT workspace, serial FROM tfstate_states() WHERE workspace ~ 'big'));
check('a list of workspaces',
	'tf.states/big|2|2', 2,
	q(SELECT workspace, serial, version FROM tfstate_workspaces WHERE workspace ~ 'big'));
check('verification', '', 5, "SELECT * FROM tfstate_verify('tf.states/big', true)");
check('roll back', '3', 9, "SELECT tfstate_rollback('tf.states/big', 1)");
check('the state after it', 't', 4, row_is(3));
check('deletion', '', 3, "DELETE FROM tf.states WHERE name = 'big'");
check('undeletion', '5', 7, "SELECT tfstate_undelete('tf.states/big')");
check('pruning', '3', 2, "SELECT tfstate_prune('tf.states/big', 2)");

# An output that is too long for jsonb, which holds strings of less than 256 MB

sql_in('postgres', <<'END');
INSERT INTO tf.states (name, data)
SELECT 'output', format('{"version":4,"serial":1,"lineage":"a","outputs":{"long":{"value":"%s"},"short":{"value":1}}}',
						repeat('x', 256 * 1024 * 1024))
END
is( sql_in('postgres', "SELECT name, value FROM tfstate_outputs('tf.states/output') ORDER BY name"),
	"long|\nshort|1",
	'an output that is too long is listed without its value');

done_testing();
