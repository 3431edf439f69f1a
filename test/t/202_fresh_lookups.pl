# The library looks everything up as it is now, not as the snapshot of a transaction has it:
# for each thing looked up, the table below has a change by another session, and a call by a
# session that took its snapshot before the change, in each isolation level.  The call ends
# in one way before the change, and in another way after it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('old_snapshots', conf => "fsync = off\nautovacuum = off\n");
my $admin = session($node, name => 'admin');
my $caller = session($node, name => 'caller');

sub state
{
	my ($serial) = @_;
	return
	  qq({"version":4,"serial":$serial,"lineage":"a","outputs":{},"resources":[{"mode":"managed","type":"t","name":"n","instances":[{}]}]});
}
my ($one, $two, $three) = map { state($_) } 1 .. 3;

my $lock = "SELECT tfstate_lock('tf.states/w')";
my $write = "UPDATE tf.states SET data = '$three' WHERE name = 'w'";
my $shim_lock = "SELECT tfstate_pg.pg_try_advisory_lock(id) FROM tf.states WHERE name = 'w'";
my $shim_unlock = "SELECT tfstate_pg.pg_advisory_unlock(id) FROM tf.states WHERE name = 'w'";

# The table: hashes of
# before	what the other session, a superuser, does first
# as		the role of the caller, if not the superuser
# first		what the caller does outside the transaction
# call		the call
# was		its result before the change: an SQLSTATE, or what it returns
# change	what the other session changes
# is		its result after the change
# after		what the other session does last
my %lookups = (
	'the grant of a lock' => {
		as => 'tf_user', call => $lock, was => '42501',
		change => "SELECT tfstate_grant('tf_user', 'tf.states/w')", is => 'done',
	},
	'a grant to everybody' => {
		as => 'tf_user', call => $lock, was => '42501', change => "SELECT tfstate_grant('public')", is => 'done',
		after => "SELECT tfstate_revoke('public')"
	},
	'a grant that is taken back' => {
		before => "SELECT tfstate_grant('tf_user')", as => 'tf_user', call => $lock, was => 'done',
		change => "SELECT tfstate_revoke('tf_user')", is => '42501'
	},
	'a role that becomes a member' => {
		before => "SELECT tfstate_grant('tf_group')", as => 'tf_user', call => $lock, was => '42501',
		change => 'GRANT tf_group TO tf_user', is => 'done'
	},
	'tfstate_has_privilege()' => {
		as => 'tf_user', call => "SELECT tfstate_has_privilege('tf.states/w', 'lock')", was => 'f',
		change => "SELECT tfstate_grant('tf_user')", is => 't'
	},
	'the grant of a forced unlock' => {
		before => $lock, as => 'tf_user', call => "SELECT tfstate_force_unlock('tf.states/w') IS NOT NULL",
		was => '42501', change => "SELECT tfstate_grant('tf_user', privilege => 'force')", is => 't'
	},
	'the grant of an override' => {
		before => "SELECT tfstate_grant('tf_user')", as => 'tf_user', first => 'SET tfstate.guard = off',
		call => $write, was => '42501',
		change => "SELECT tfstate_grant('tf_user', privilege => 'override')", is => 'done'
	},
	'the grant of a view' => {
		before => "SELECT tfstate_grant('tf_user')", as => 'tf_user',
		call => "SELECT length(tfstate_version('tf.states/w', 1))", was => '42501',
		change => "SELECT tfstate_grant('tf_user', privilege => 'view')", is => length($one)
	},
	'a table that is attached' => {
		before => 'CREATE TABLE tf.other (LIKE tf.states INCLUDING ALL)',
		call => "INSERT INTO tf.other VALUES (100, 'x', '$one')", was => 'done',
		change => "DO \$\$ BEGIN PERFORM tfstate_attach('tf', 'other', guard => 'require'); END \$\$", is => '55000',
		after => "SELECT tfstate_detach('tf', 'other'); DROP TABLE tf.other"
	},
	'a table that is detached' => {
		call => "$write RETURNING 1", was => '55000', change => "SELECT tfstate_detach('tf', 'states')", is => '1',
		after => q(DO $$ BEGIN PERFORM tfstate_attach('tf', 'states', guard => 'require'); END $$)
	},
	'an attached table in the shim' => {
		before => "SELECT tfstate_detach('tf', 'states')",
		call => "$shim_lock; SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 29798 AND pid = pg_backend_pid(); SELECT pg_advisory_unlock_all()",
		was => "t\n0\n", change => q(DO $$ BEGIN PERFORM tfstate_attach('tf', 'states', guard => 'require'); END $$),
		is => "t\n1\n"
	},
	'the guard of a table' => {
		call => "$write RETURNING 1", was => '55000',
		change => q(DO $$ BEGIN PERFORM tfstate_attach('tf', 'states', guard => 'on'); END $$), is => '1',
		after => q(DO $$ BEGIN PERFORM tfstate_attach('tf', 'states', guard => 'require'); END $$)
	},
	'a new name of the table' => {
		call => "SELECT tfstate_rollback('tf.renamed/w', 1)", was => '42704',
		change => q(ALTER TABLE tf.states RENAME TO renamed), is => '42704',
		after => q(ALTER TABLE tf.renamed RENAME TO states)
	},
	'a lock that is taken' => { call => $lock, was => 'done', change => $lock, is => '55P03' },
	'a lock that is taken, for the shim' => { call => $shim_lock, was => 't', change => $lock, is => '55P03' },
	'a lock that is taken, for a write' => { call => $write, was => '55000', change => $lock, is => '55006' },
	'a lock that is taken, for its holder' => {
		call => "SELECT holder ->> 'Who' FROM tfstate_try_lock('tf.states/w')", was => '',
		change => "SELECT tfstate_lock('tf.states/w', '{\"Who\": \"me\"}')", is => 'me'
	},
	'a lock that is released' => {
		before => $lock, call => $lock, was => '55P03', change => "SELECT tfstate_unlock('tf.states/w')", is => 'done'
	},
	'a lock that is released, for its ID' => {
		before => "SELECT tfstate_lock('tf.states/w', '{\"ID\": \"i\"}')",
		call => "SELECT tfstate_unlock('tf.states/w', 'i') ->> 'ID'", was => 'i',
		change => "SELECT tfstate_unlock('tf.states/w')", is => '55000'
	},
	'a lock that another one has taken over' => {
		before => "SELECT tfstate_lock('tf.states/w', '{\"ID\": \"i\"}', ttl => '1 h')",
		call => "SELECT tfstate_renew('tf.states/w', 'i') > now()", was => 't',
		change => "SELECT tfstate_unlock('tf.states/w'); SELECT tfstate_lock('tf.states/w', '{\"ID\": \"j\"}', ttl => '1 h')",
		is => '55000'
	},
	'a lock of ours that is forced out' => {
		first => $lock, call => "$write RETURNING 1", was => '1',
		change => "SELECT tfstate_force_unlock('tf.states/w')", is => '55000'
	},
	'a fence that is shown' => {
		before => $lock,
		first => q(SELECT set_config('tfstate.fence', fence::text, false) FROM tfstate_holders),
		call => "$write RETURNING 1", was => '1',
		change => "SELECT tfstate_unlock('tf.states/w'); SELECT tfstate_lock('tf.states/w')", is => '55000'
	},
	'time' => {
		before => "SELECT tfstate_lock('tf.states/w', ttl => '300 ms')", call => $lock, was => '55P03',
		change => 'SELECT pg_sleep(0.4)', is => 'done'
	},
	'time, for a write' => {
		first => "SELECT tfstate_lock('tf.states/w', ttl => '300 ms')", call => "$write RETURNING 1", was => '1',
		change => 'SELECT pg_sleep(0.4)', is => '55000'
	},
	'a workspace that is made, for its lock' => {
		call => "SELECT tfstate_lock('tf.states/new'); SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1",
		was => 'done0', change => "INSERT INTO tf.states (name, data) VALUES ('new', '$one')", is => 'done1'
	},
	'a workspace that is made, for TRUNCATE' => {
		first => $lock, call => 'TRUNCATE tf.states', was => 'done',
		change => "INSERT INTO tf.states (name, data) VALUES ('new', '$one')", is => '55000'
	},
	'a workspace that is locked, for TRUNCATE' => {
		first => 'SET tfstate.guard = on', call => 'TRUNCATE tf.states', was => '55000', change => $lock, is => '55006'
	},
	'a freeze' => {
		call => $lock, was => 'done', change => "DO \$\$ BEGIN PERFORM tfstate_freeze('tf.*', 'x'); END \$\$", is => '55P03',
		after => "SELECT tfstate_unfreeze('tf.*')"
	},
	'a freeze, for a write' => {
		first => 'SET tfstate.guard = off', call => "$write RETURNING 1", was => '1',
		change => "DO \$\$ BEGIN PERFORM tfstate_freeze('tf.*', 'x'); END \$\$", is => '55006',
		after => "SELECT tfstate_unfreeze('tf.*')"
	},
	'the end of a freeze' => {
		before => "DO \$\$ BEGIN PERFORM tfstate_freeze('tf.*', 'x'); END \$\$", call => $shim_lock, was => '55P03',
		change => "SELECT tfstate_unfreeze('tf.*')", is => 't'
	},
	'a version' => {
		call => "SELECT length(tfstate_version('tf.states/w', 3))", was => '42704',
		change => "UPDATE tf.states SET data = '$three' WHERE name = 'w'", is => length($three)
	},
	'a version to go back to' => {
		call => "SELECT tfstate_rollback('tf.states/gone', 1)", was => '42704',
		change => "INSERT INTO tf.states (name, data) VALUES ('gone', '$one'); DELETE FROM tf.states WHERE name = 'gone'",
		is => '3'
	},
	'a deleted workspace' => {
		before => "INSERT INTO tf.states (name, data) VALUES ('gone', '$one')",
		call => "SELECT tfstate_undelete('tf.states/gone')", was => '55000',
		change => "DELETE FROM tf.states WHERE name = 'gone'", is => '3'
	},
	'an index' => {
		call => "SELECT tfstate_lock('tf.states/w'); SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1",
		was => 'done1',
		change => 'CREATE INDEX ON tf.states (name); UPDATE tf.states SET data = data; REINDEX TABLE tf.states; VACUUM tf.states',
		is => 'done1'
	},
	'the tables of the extension in other files' => {
		before => $lock, call => $lock, was => '55P03',
		change => 'REINDEX TABLE tfstate_internal.durable_lock; REINDEX TABLE tfstate_internal.stored_version; REINDEX TABLE tfstate_internal.privilege; REINDEX TABLE tfstate_internal.attached_table',
		is => '55P03'
	},);

my @isolations = ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');

$admin->query_safe(q(
	CREATE ROLE tf_user; CREATE ROLE tf_group;
	DO $$ BEGIN PERFORM tfstate_attach('tf', 'states', guard => 'require'); END $$;
	GRANT USAGE ON SCHEMA tf TO tf_user;
	GRANT SELECT, INSERT, UPDATE, DELETE ON tf.states TO tf_user;
));

# Restores what each call starts from: one workspace with two versions, whose lock is free,
# and no grants.  The administrator writes it with the guard off.
sub start_over
{
	$caller->query_safe('DISCARD ALL');
	$admin->query_safe(
		qq(RESET ALL; SET tfstate.guard = off; SET lock_timeout = '10 s';
		   SELECT count(tfstate_force_unlock(lockid, terminate => true)) FROM tfstate_holders;
		   DELETE FROM tf.states; DELETE FROM tfstate_internal.stored_version;
		   INSERT INTO tf.states (name, data) VALUES ('w', '$one');
		   UPDATE tf.states SET data = '$two';
		   DELETE FROM tfstate_internal.privilege; REVOKE tf_group FROM tf_user));
	return;
}

# Returns how a call ends, in a savepoint that is rolled back, so that it locks nothing that
# the change needs.
sub outcome
{
	my ($sql) = @_;

	$caller->query_safe('SAVEPOINT s');
	$caller->query($sql);
	my $result = $caller->sqlstate || $caller->{out};
	$result =~ s/^\(.*\)\n?/done/mg;
	$caller->query_safe('ROLLBACK TO s');
	return $result eq '' && !$caller->sqlstate && $sql !~ /try_lock/ ? 'done' : $result;
}

foreach my $name (sort keys %lookups)
{
	my %lookup = %{ $lookups{$name} };

	foreach my $isolation (@isolations)
	{
		start_over();
		$admin->query_safe($lookup{before}) if $lookup{before};
		$caller->query_safe("SET ROLE $lookup{as}") if $lookup{as};
		$caller->query_safe($lookup{first}) if $lookup{first};
		$caller->query_safe("BEGIN ISOLATION LEVEL $isolation; SELECT count(*) FROM pg_class WHERE oid = 0");
		is(outcome($lookup{call}), $lookup{was}, "$name, $isolation: the result before the change") or diag($caller->{err});
		$admin->query_safe($lookup{change});
		is(outcome($lookup{call}), $lookup{is}, "$name, $isolation: the result after the change") or diag($caller->{err});
		$caller->query_safe('ROLLBACK');
		$admin->query_safe($lookup{after}) if $lookup{after};
	}
}

$_->quit foreach $admin, $caller;
done_testing();
