# Tables with more workspaces than the server's lock table has room for, at the default
# settings, are attached, verified and pruned.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('many_workspaces');
my $room = $node->safe_psql('postgres',
	q(SELECT current_setting('max_locks_per_transaction')::int * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)));
my $count = 40000;
cmp_ok($room, '<', $count / 4, "the lock table has room for about $room locks");

$node->safe_psql('postgres', <<"END");
CREATE SCHEMA tf;
CREATE TABLE tf.states (id bigint PRIMARY KEY, name text UNIQUE, data text);
INSERT INTO tf.states SELECT i, 'w' || i, format('{"version": 4, "serial": 1, "lineage": "%s"}', i) FROM generate_series(1, $count) i;
ANALYZE;
END

# Each is one statement, and the server keeps working.
$node->safe_psql('postgres', q(SELECT tfstate_attach('tf')));
is($node->safe_psql('postgres', q(SELECT count(*), count(DISTINCT workspace), min(number), max(number) FROM tfstate_versions)),
	($count + 1) . '|' . ($count + 1) . '|1|1', 'each state is recorded once');
$node->safe_psql('postgres', q(SELECT tfstate_attach('tf')));
is($node->safe_psql('postgres', 'SELECT count(*) FROM tfstate_versions'), $count + 1, 'a second attach records no state again');
is($node->safe_psql('postgres', 'SELECT count(*) FROM tfstate_verify()'), 0, 'all versions are verified');

# Half of the workspaces have two versions that are not to be kept.
$node->safe_psql('postgres', <<'END');
INSERT INTO tfstate_internal.stored_version
SELECT v.lockid, n, v.operation, v.serial, v.lineage, v.terraform_version, v.resources, v.size, v.sha256, v.md5, v.created, v.who, v.role,
	   v.application_name, v.client_addr, v.lock_id, v.lock_who, v.lock_operation, v.fence, v.chain, v.content
  FROM tfstate_internal.stored_version v, generate_series(2, 4) n WHERE v.lockid LIKE '%0' OR v.lockid LIKE '%2' OR v.lockid LIKE '%4' OR v.lockid LIKE '%6' OR v.lockid LIKE '%8';
ANALYZE;
END
my ($status, undef, $error) = $node->psql('postgres', q(SELECT tfstate_prune('*', 2)));
is($status, 3, 'tfstate_prune() refuses to prune them all in one transaction');
like($error, qr/ERROR: +too many workspaces to prune.*CALL tfstate_prune_in_batches\(\)/s, 'the error names tfstate_prune_in_batches()');
is($node->safe_psql('postgres', q(SELECT tfstate_prune('*', 4))), 0, 'tfstate_prune() of all workspaces succeeds if no version is to be removed');
is($node->safe_psql('postgres', q(CALL tfstate_prune_in_batches('*', 2))), $count, 'tfstate_prune_in_batches() prunes them all');
is($node->safe_psql('postgres', 'SELECT max(number), count(*) FROM tfstate_versions'), '4|' . ($count * 3 / 2 + 1),
	'the versions that are to be kept stay');
is($node->safe_psql('postgres', q(CALL tfstate_prune_in_batches('*', 2))), 0, 'a second tfstate_prune_in_batches() removes nothing');
is($node->safe_psql('postgres', q(SELECT count(*) FROM tfstate_verify(versions => true))), 0, 'the remaining versions are intact');

$node->stop;
done_testing();
