# Tables with more workspaces than the server's lock table has room for, at default
# settings: attached, verified, pruned.

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

# One statement each, beside which the server goes on.
$node->safe_psql('postgres', q(SELECT tfstate_attach('tf')));
is($node->safe_psql('postgres', q(SELECT count(*), count(DISTINCT workspace), min(number), max(number) FROM tfstate_versions)),
	($count + 1) . '|' . ($count + 1) . '|1|1', 'each state is recorded once');
$node->safe_psql('postgres', q(SELECT tfstate_attach('tf')));
is($node->safe_psql('postgres', 'SELECT count(*) FROM tfstate_versions'), $count + 1, 'and not again');
is($node->safe_psql('postgres', 'SELECT count(*) FROM tfstate_verify()'), 0, 'all are verified');

# Half of the workspaces have two versions that nobody asks to keep.
$node->safe_psql('postgres', <<'END');
INSERT INTO tfstate_stored_version
SELECT v.lockid, n, v.operation, v.serial, v.lineage, v.terraform_version, v.resources, v.size, v.sha256, v.md5, v.created, v.who, v.role,
	   v.application_name, v.client_addr, v.lock_id, v.lock_who, v.lock_operation, v.fence, v.chain, v.content
  FROM tfstate_stored_version v, generate_series(2, 4) n WHERE v.lockid LIKE '%0' OR v.lockid LIKE '%2' OR v.lockid LIKE '%4' OR v.lockid LIKE '%6' OR v.lockid LIKE '%8';
ANALYZE;
END
my ($status, undef, $error) = $node->psql('postgres', q(SELECT tfstate_prune('*', 2)));
is($status, 3, 'one transaction does not prune them all');
like($error, qr/ERROR: +too many workspaces to prune.*CALL tfstate_prune_in_batches\(\)/s, 'and says what does');
is($node->safe_psql('postgres', q(SELECT tfstate_prune('*', 4))), 0, 'where nothing is to be done, it does that for all');
is($node->safe_psql('postgres', q(CALL tfstate_prune_in_batches('*', 2))), $count, 'batches do');
is($node->safe_psql('postgres', 'SELECT max(number), count(*) FROM tfstate_versions'), '4|' . ($count * 3 / 2 + 1),
	'what is to be kept stays');
is($node->safe_psql('postgres', q(CALL tfstate_prune_in_batches('*', 2))), 0, 'and once is enough');
is($node->safe_psql('postgres', q(SELECT count(*) FROM tfstate_verify(versions => true))), 0, 'what stays is intact');

$node->stop;
done_testing();
