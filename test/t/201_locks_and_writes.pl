# Who holds the lock of a workspace, and who writes it: the table below says how each way to
# write ends, for each way to lock, in each isolation level in which the writer has taken its
# snapshot before the lock was taken.
#
# A refused write leaves the table, its versions, the locks and the writer's entries in the
# lock manager as they were, in an open transaction too, and is refused again.  An accepted
# one is committed, and has changed what it was to change.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

# The rows are the ways to lock, the columns the ways to write.  Insert, copy and undelete
# write a workspace that was deleted under the lock.
my $table = q(
                    update upsert merge  delete truncate rollback repair attach insert copy   undelete
nobody              55000  55000  55000  55000  55000    ok       ok     ok     55000  55000  ok
stock               55P03  55P03  55P03  55P03  55P03    55P03    ok     ok     55000  55000  ok
shim session        55006  55006  55006  55006  55006    55P03    ok     ok     55006  55006  55P03
shim durable        55006  55006  55006  55006  55006    55P03    ok     ok     55006  55006  55P03
session             55006  55006  55006  55006  55006    55P03    ok     ok     55006  55006  55P03
durable             55006  55006  55006  55006  55006    55P03    ok     ok     55006  55006  55P03
lease               55006  55006  55006  55006  55006    55P03    ok     ok     55006  55006  55P03
expired lease       55000  55000  55000  55000  55000    ok       ok     ok     55000  55000  ok
dead session        55000  55000  55000  55000  55000    ok       ok     ok     55000  55000  ok
dead durable        55006  55006  55006  55006  55006    55P03    ok     ok     55006  55006  55P03
dropped role        55006  55006  55006  55006  55006    55P03    ok     ok     55006  55006  55P03
forced out          55000  55000  55000  55000  55000    ok       ok     ok     55000  55000  ok
own stock           ok     ok     ok     ok     ok       ok       ok     ok     55000  55000  ok
own shim session    ok     ok     ok     ok     ok       ok       ok     ok     ok     ok     ok
own shim durable    ok     ok     ok     ok     ok       ok       ok     ok     ok     ok     ok
own session         ok     ok     ok     ok     ok       ok       ok     ok     ok     ok     ok
own durable         ok     ok     ok     ok     ok       ok       ok     ok     ok     ok     ok
own expired lease   55000  55000  55000  55000  55000    ok       ok     ok     55000  55000  ok
own, other role     55006  55006  55006  55006  55006    55P03    ok     ok     55006  55006  55P03
same run            ok     ok     ok     ok     ok       ok       ok     ok     ok     ok     ok
other run           55006  55006  55006  55006  55006    55P03    ok     ok     55006  55006  55P03
fence shown         ok     ok     ok     ok     ok       ok       ok     ok     ok     ok     ok
);

# A table can be attached in READ COMMITTED only.
my %other_isolation = (attach => '25000');

my $node = tfstate_node(
	'locks_and_writes',
	conf => "fsync = off\nautovacuum = off\n");
my $admin = session($node, name => 'admin');
my $other = session($node, name => 'other');
my $writing = session($node, name => 'writer');
my $run = 'tfstate-run:00000001-0000-4000-8000-000000000000';
my $other_run = 'tfstate-run:00000002-0000-4000-8000-000000000000';

sub state
{
	my ($serial) = @_;
	return qq({"version":4,"serial":$serial,"lineage":"a","outputs":{},"resources":[{"mode":"managed","type":"t","name":"n","instances":[{}]}]});
}

$admin->query_safe(q(
	CREATE ROLE writer; CREATE ROLE other;
	DO $$ BEGIN PERFORM tfstate_attach('tf', 'states'); END $$;
	SET tfstate.guard = off;
	DELETE FROM tf.states;
	GRANT pg_read_server_files TO writer;
	GRANT USAGE ON SCHEMA tf TO writer, other;
	GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON tf.states TO writer, other;
	GRANT USAGE ON SEQUENCE public.global_states_id_seq TO writer, other;
	DO $$ BEGIN
		PERFORM tfstate_grant(r, p) FROM unnest(ARRAY['writer', 'other']) r, unnest(ARRAY['tf.states/*', 'tfstate_pg/*']) p;
		PERFORM tfstate_grant(r, 'tf.states/*', 'view') FROM unnest(ARRAY['writer', 'other']) r;
	END $$;
));

my $name = 'w';
my $id = "(SELECT id FROM tf.states WHERE name = '$name')";
my $lock = "SELECT tfstate_pg.pg_try_advisory_lock(id) FROM tf.states WHERE name = '$name'";

# The ways to lock: what the other session does, and what the writer does
my %lockers = (
	'nobody' => {},
	'stock' => { other => "SELECT pg_advisory_lock($id)" },
	'shim session' => { other => $lock },
	'shim durable' => { other => "SET application_name = '$run'; SET tfstate.mode = durable; $lock" },
	'session' => { other => "SELECT tfstate_lock('tf.states/$name', mode => 'session')" },
	'durable' => { other => "SELECT tfstate_lock('tf.states/$name')" },
	'lease' => { other => "SELECT tfstate_lock('tf.states/$name', ttl => '1 hour')" },
	'expired lease' => {
		other => "SELECT tfstate_lock('tf.states/$name', ttl => '1 ms'); SELECT pg_sleep(0.002)"
	},
	'dead session' => { other => "SELECT tfstate_lock('tf.states/$name', mode => 'session')", dies => 1 },
	'dead durable' => { other => "SELECT tfstate_lock('tf.states/$name')", dies => 1 },
	'dropped role' => {
		other => "SET ROLE gone; SELECT tfstate_lock('tf.states/$name')",
		before => q(CREATE ROLE gone; SELECT tfstate_grant('gone'); GRANT ALL ON SCHEMA tf TO gone; GRANT ALL ON tf.states TO gone),
		after => q(SELECT tfstate_revoke('gone'); DROP OWNED BY gone; DROP ROLE gone),
		dies => 1
	},
	'forced out' => {
		writer => "SELECT tfstate_lock('tf.states/$name')",
		after => "SELECT tfstate_force_unlock('tf.states/$name')"
	},
	'own stock' => { writer => "SELECT pg_advisory_lock($id)" },
	'own shim session' => { writer => $lock },
	'own shim durable' => { writer => "SET application_name = '$run'; SET tfstate.mode = durable; $lock" },
	'own session' => { writer => "SELECT tfstate_lock('tf.states/$name', mode => 'session')" },
	'own durable' => { writer => "SELECT tfstate_lock('tf.states/$name')" },
	'own expired lease' =>
	  { writer => "SELECT tfstate_lock('tf.states/$name', ttl => '1 ms'); SELECT pg_sleep(0.002)" },
	'own, other role' =>
	  { writer => "SET ROLE other; SELECT tfstate_lock('tf.states/$name'); SET ROLE writer" },
	'same run' => {
		other => "SET application_name = '$run'; SET tfstate.mode = durable; $lock",
		writer => "SET application_name = '$run'"
	},
	'other run' => {
		other => "SET application_name = '$run'; SET tfstate.mode = durable; $lock",
		writer => "SET application_name = '$other_run'"
	},
	'fence shown' => {
		other => "SELECT tfstate_lock('tf.states/$name')",
		shows => 1
	});

# The ways to write, and what has changed then: the name of the row, its serial, and the
# number of the newest version
my $new = state(3);
my $tmp = PostgreSQL::Test::Utils::tempdir();
append_to_file("$tmp/rows", "$name#$new\n");
my %writers = (
	update => [ "UPDATE tf.states SET data = '$new' WHERE name = '$name'", 'w|3|3' ],
	upsert => [
		"INSERT INTO tf.states (name, data) VALUES ('$name', '$new') ON CONFLICT (name) DO UPDATE SET data = '$new' WHERE states.name = '$name'",
		'w|3|3'
	],
	merge => [
		"MERGE INTO tf.states s USING (VALUES ('$name', '$new')) n(name, data) ON s.name = n.name WHEN MATCHED THEN UPDATE SET data = n.data",
		'w|3|3'
	],
	delete => [ "DELETE FROM tf.states WHERE name = '$name'", '||3' ],
	truncate => [ 'TRUNCATE tf.states', '||3' ],
	rollback => [ "SELECT tfstate_rollback('tf.states/$name', 1)", 'w|3|3' ],
	repair => [ "RESET ROLE; SELECT tfstate_repair('tf.states/$name')", 'w|9|3' ],
	attach => [ "RESET ROLE; RESET tfstate.fence; SELECT count(*) > 0 FROM tfstate_attach('tf', 'states')", 'w|2|2' ],
	insert => [ "INSERT INTO tf.states (name, data) VALUES ('$name', '$new')", 'w|3|4' ],
	copy => [ "COPY tf.states (name, data) FROM '$tmp/rows' WITH (DELIMITER '#')", 'w|3|4' ],
	undelete => [ "SELECT tfstate_undelete('tf.states/$name')", 'w|3|4' ]);

# The ways to write a workspace that has no row
my %deleted = map { $_ => 1 } qw(insert copy undelete);

my $state_of_all = q(
	SELECT coalesce(max(s.name), '') || '|' || coalesce(max(s.data::json ->> 'serial'), '') || '|' ||
		   (SELECT max(number) FROM tfstate_internal.stored_version WHERE lockid = 'tf.states/w')
	  FROM tf.states s;
	SELECT md5(string_agg(v::text, ' ' ORDER BY number)) FROM tfstate_internal.stored_version v;
	SELECT lockid, id, mode, fence, waiters FROM tfstate_holders;
	SELECT count(*) FROM tfstate_waiters);
# The writer's entries in the lock manager, without its session tag
my $own_locks = q(
	SELECT locktype, classid, objid, objsubid, mode, count(*) FROM pg_locks
	 WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND objsubid <> 29799 GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5);

# Makes versions 1 and 2 of the workspace, with its lock free.
sub start_over
{
	my ($writer) = @_;
	my ($one, $two) = (state(1), state(2));

	$admin->query_safe(
		qq(SELECT count(tfstate_force_unlock(lockid, terminate => true)) FROM tfstate_holders;
		   DELETE FROM tf.states; DELETE FROM tfstate_internal.stored_version;
		   DELETE FROM tfstate_internal.stored_version;
		   INSERT INTO tf.states (name, data) VALUES ('$name', '$one');
		   UPDATE tf.states SET data = '$two';)
		  . ($writer eq 'repair'
			? "SET session_replication_role = replica; UPDATE tf.states SET data = '"
			  . state(9)
			  . "'; RESET session_replication_role"
			: ''));
	return;
}

# Returns how a statement ends: its SQLSTATE, or ok.
sub outcome
{
	my ($session, $sql) = @_;

	$session->query($sql);
	return $session->sqlstate || 'ok';
}

# The other session locks the workspace, which may then be deleted, and may end.
sub lock_by_other
{
	my ($how, $deletes) = @_;
	my $pid = $other->query_safe('SELECT pg_backend_pid()');

	$other->query_safe('SET ROLE writer') unless $how->{other} =~ /SET ROLE/;
	$other->query_safe($how->{other});
	$admin->query_safe('DELETE FROM tf.states') if $deletes;
	return unless $how->{dies};
	$other->query_safe('\connect');
	wait_for('the session to end',
		sub { !$admin->query_safe("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") });
	return;
}

sub check_cell
{
	my ($locker, $writer, $isolation, $expected) = @_;
	my $how = $lockers{$locker};
	my ($sql, $changed) = @{ $writers{$writer} };
	my $cell = "$locker, $writer, $isolation";

	$_->query_safe('DISCARD ALL') foreach $other, $writing;
	start_over($writer);
	$admin->query_safe($how->{before}) if $how->{before};
	$writing->query_safe('SET ROLE writer; ' . ($how->{other} ? '' : $how->{writer} // ''));
	$admin->query_safe('DELETE FROM tf.states') if $deleted{$writer} && !$how->{other};
	$writing->query_safe("BEGIN ISOLATION LEVEL $isolation; SELECT count(*) FROM pg_class WHERE oid = 0");
	lock_by_other($how, $deleted{$writer}) if $how->{other};
	$admin->query_safe($how->{after}) if $how->{after};
	$writing->query_safe($how->{writer}) if $how->{other} && $how->{writer};
	$writing->query_safe('SET tfstate.fence = ' . $admin->query_safe('SELECT fence FROM tfstate_holders'))
	  if $how->{shows};

	my $before = $admin->query_safe($state_of_all);
	my $locks = $writing->query_safe($own_locks);
	$writing->query_safe('SAVEPOINT s');

	my $got = outcome($writing, $sql);

	is($got, $expected, $cell) or diag($writing->{err});
	if ($got eq 'ok')
	{
		$writing->query_safe('COMMIT');

		my ($after) = split(/\n/, $admin->query_safe($state_of_all));

		is($after, $changed, "$cell: the table and its versions have changed as expected");
	}
	else
	{
		$writing->query_safe('ROLLBACK TO s');
		is($writing->query_safe($own_locks), $locks, "$cell: the refused write leaves nothing in the lock manager");
		is(outcome($writing, $sql), $got, "$cell: the write is refused again");
		$writing->query_safe('ROLLBACK');
		is($admin->query_safe($state_of_all), $before, "$cell: table, versions and locks have not changed");
	}
	return;
}

my (undef, $head, @rows) = split(/\n/, $table);
my @columns = split(' ', $head);

foreach my $row (@rows)
{
	my ($locker, $cells) = $row =~ /^(.*?)  +(.*)$/;
	my @cells = split(' ', $cells);

	foreach my $n (0 .. $#columns)
	{
		my $column = $columns[$n];

		check_cell($locker, $column, 'READ COMMITTED', $cells[$n]);
		check_cell($locker, $column, $_, $other_isolation{$column} // $cells[$n])
		  foreach 'REPEATABLE READ', 'SERIALIZABLE';
	}
}

$_->quit foreach $admin, $other, $writing;
done_testing();
