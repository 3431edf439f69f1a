# bench/bench.pl [--quick] [PART ...]
#
# Runs the parts of the benchmark against the servers that bench.sh has started,
# and prints each measurement as a line of
#
#	part, peer, clients, variant, quantity, round, value
#
# separated by tabs, and facts about all of them as "# name<tab>value".  driver.c
# says how the load is made and what is counted.  In each round every peer has its
# turn, so that a disturbance of the machine affects them all.
use strict;
use warnings;
use feature 'state';

use IPC::Open2;
use List::Util  qw(any max min sum0);
use Time::HiRes qw(sleep time);

my $quick = any { $_ eq '--quick' } @ARGV;
my @wanted = grep { $_ ne '--quick' } @ARGV;
my ($work, $bindir) = @ENV{qw(WORK BINDIR)};

# name, driver, server, and what it can do beside locking and unlocking
my @peers = (
	[ 'durable', 'postgresql', 'POSTGRESQL', 'wait try' ],
	[ 'durable-async', 'postgresql', 'POSTGRESQL', '' ],
	[ 'durable-nohistory', 'postgresql', 'POSTGRESQL', '' ],
	[ 'session', 'postgresql', 'POSTGRESQL', 'wait try' ],
	[ 'sql', 'postgresql', 'POSTGRESQL', 'try' ],
	[ 'sql-async', 'postgresql', 'POSTGRESQL', '' ],
	[ 'plpgsql', 'postgresql', 'POSTGRESQL', 'wait try' ],
	[ 'advisory', 'postgresql', 'POSTGRESQL', 'wait try' ],
	[ 'floor', 'postgresql', 'POSTGRESQL', '' ],
	[ 'etcd', 'etcd', 'ETCD', 'wait' ],
	[ 'curator', 'curator', 'ZOOKEEPER', 'wait' ],
	[ 'redis-always', 'postgresql', 'REDIS_ALWAYS', 'wait' ],
	[ 'redis-everysec', 'postgresql', 'REDIS_EVERYSEC', '' ],);

my %driver_command = (
	postgresql => ["$work/driver"],
	etcd => ["$work/etcd-driver"],
	curator => [ 'java', '-cp', $ENV{CLASSPATH}, 'Curator' ],);

$| = 1;

sub record
{
	my ($part, $peer, $clients, $variant, $quantity, $round, $value) = @_;
	print join("\t", @_), "\n";
	return;
}

sub fact
{
	my ($name, $value) = @_;
	print "# $name\t$value\n";
	return;
}

sub progress
{
	print STDERR @_, "\n";
	return;
}

#
# Child processes that answer lines
#

my %child;

sub child
{
	my ($name, @command) = @_;
	$child{$name} ||= do
	{
		open2(my $out, my $in, @command);
		$in->autoflush(1);
		{ in => $in, out => $out };
	};
	return $child{$name};
}

sub end_child
{
	my ($name) = @_;
	my $child = delete $child{$name};
	close($child->{in});
	close($child->{out});
	wait;
	return;
}

sub send_line
{
	my ($child, $line) = @_;
	print { $child->{in} } "$line\n";
	return;
}

sub receive_line
{
	my ($child) = @_;
	my $line = readline($child->{out});
	die "no answer\n" unless defined $line;
	chomp $line;
	return $line;
}

# Runs SQL in a session of psql, which stays open, and returns its output.  The
# session is named by its database, with a suffix if a database needs several.
sub sql
{
	my ($session, $query) = @_;
	my ($database) = split(/ /, $session);
	my $psql = child($session, "$bindir/psql", '-XAtq', '-v', 'ON_ERROR_STOP=1', $database);
	my @answer;
	send_line($psql, "$query;\n\\echo end of answer");
	while ((my $line = receive_line($psql)) ne 'end of answer')
	{
		push @answer, $line;
	}
	return join("\n", @answer);
}

# The same, but returns how many milliseconds it takes.
sub sql_ms
{
	my $start = time;
	sql(@_);
	return (time - $start) * 1000;
}

#
# What a server uses
#

# Returns the process and its descendants.
sub process_tree
{
	my ($root) = @_;
	my (%children, @tree);
	foreach my $file (glob '/proc/[0-9]*/stat')
	{
		open(my $stat, '<', $file) or next;
		my ($pid, $parent) = (<$stat> // '') =~ /^(\d+) \(.*\) \S (\d+)/s or next;
		push @{ $children{$parent} }, $pid;
	}
	@tree = ($root);
	for (my $i = 0; $i < @tree; $i++)
	{
		push @tree, @{ $children{ $tree[$i] } || [] };
	}
	return @tree;
}

# Returns the CPU that all threads of these processes have used, in
# microseconds.
sub cpu_us
{
	my $ns = 0;
	foreach my $file (map { glob "/proc/$_/task/*/schedstat" } @_)
	{
		open(my $schedstat, '<', $file) or next;
		$ns += (split(/ /, <$schedstat> // '0'))[0];
	}
	return $ns / 1000;
}

sub wal_bytes
{
	return sql('postgres', "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')");
}

# Runs a command of the driver and returns its result: count, seconds,
# inversions, times (microseconds, ascending), and what it cost in between:
# server_us and backend_us of CPU, wal in bytes.
sub drive
{
	my ($peer, $command) = @_;
	my ($name, $driver, $server) = @$peer;
	my $child = child($driver, @{ $driver_command{$driver} });
	my $postgresql = $server eq 'POSTGRESQL';

	send_line($child, $command);
	my (undef, @backends) = split(/ /, receive_line($child));
	my $wal = $postgresql ? wal_bytes() : 0;
	my @before = (cpu_us(process_tree($ENV{"${server}_PID"})), cpu_us(@backends));
	send_line($child, '');

	receive_line($child);
	my @after = (cpu_us(process_tree($ENV{"${server}_PID"})), cpu_us(@backends));
	$wal = wal_bytes() - $wal if $postgresql;
	send_line($child, '');

	my ($count, $seconds, $inversions, @times) = split(/ /, receive_line($child));
	return {
		count => $count,
		seconds => $seconds,
		inversions => $inversions,
		times => [ sort { $a <=> $b } @times ],
		server_us => $after[0] - $before[0],
		backend_us => $after[1] - $before[1],
		wal => $wal
	};
}

sub percentile
{
	my ($percent, $times) = @_;
	return @$times ? $times->[ int($#$times * $percent / 100 + 0.5) ] : 'NaN';
}

sub median
{
	return percentile(50, [ sort { $a <=> $b } @_ ]);
}

# Returns the peers that can do this, starting with another one in each round.
sub peers_that
{
	my ($can, $round) = @_;
	my @those = grep { $_->[3] =~ /$can/ } @peers;
	push @those, splice(@those, 0, $round % @those);
	return @those;
}

sub peer
{
	my ($name) = @_;
	return (grep { $_->[0] eq $name } @peers)[0];
}

#
# Is the machine quiet?
#

# Returns the share of the CPUs that is idle now, in percent.
sub idle_percent
{
	my @jiffies = map {
		open(my $stat, '<', '/proc/stat') or die;
		sleep 0.3 if $_;
		[ (split(/\s+/, <$stat>))[ 1 .. 8 ] ]
	} 0 .. 1;
	my @spent = map { $jiffies[1][$_] - $jiffies[0][$_] } 0 .. 7;
	return 100 * ($spent[3] + $spent[4]) / max(1, sum0(@spent));
}

# Waits up to a minute for a quiet machine, then records how quiet it is and how
# long a flush takes.
sub begin_round
{
	my ($part, $round) = @_;
	my $idle = idle_percent();
	for (my $i = 0; $idle < 90 && $i < ($quick ? 0 : 60); $i++)
	{
		sleep 1;
		$idle = idle_percent();
	}
	my $driver = child('postgresql', @{ $driver_command{postgresql} });
	send_line($driver, "flush $work/flush 0.3");
	my (undef, undef, undef, @times) = split(/ /, receive_line($driver));
	@times = sort { $a <=> $b } @times;
	record($part, 'machine', 0, '', 'idle_percent', $round, sprintf('%.0f', $idle));
	record($part, 'machine', 0, '', 'flush_p50_us', $round, percentile(50, \@times));
	record($part, 'machine', 0, '', 'flush_p99_us', $round, percentile(99, \@times));
	progress(
		sprintf(
			'%4d s: %s, round %d; CPU %.0f %% idle, a flush takes %d us',
			time - $^T, $part, $round, $idle, percentile(50, \@times)));
	return;
}

#
# Parts
#

# Lock and unlock, each client on a key of its own.
sub pairs
{
	foreach my $round (1 .. ($quick ? 1 : 4))
	{
		begin_round('pairs', $round);
		foreach my $clients ($quick ? (1, 8, 32) : (1, 8, 32, 64))
		{
			foreach my $peer (peers_that('', $round))
			{
				my $r = drive($peer, "pairs $peer->[0] $clients " . ($quick ? 0.4 : 1.5));
				my @key = ('pairs', $peer->[0], $clients, '');
				record(@key, 'per_second', $round, $r->{count} / $r->{seconds});
				record(@key, 'server_us', $round, $r->{server_us} / $r->{count});
				next if $peer->[2] ne 'POSTGRESQL';
				record(@key, 'backend_us', $round, $r->{backend_us} / $r->{count});
			}
		}
	}
	return;
}

# CPU and WAL of a pair, by one client.  Two effects that are the same for all, and
# larger than the differences, are left out: fsync is off, because the kernel charges
# the backend for the work of the disk's driver; and loops of idle priority keep the
# CPUs awake, because a sleeping CPU is slow to start.
sub cost
{
	set_fsync('off');
	foreach my $round (1 .. ($quick ? 2 : 5))
	{
		begin_round('cost', $round);
		my @loops = map { start_loop() } 1 .. `nproc`;
		foreach my $peer (grep { $_->[2] eq 'POSTGRESQL' } peers_that('', $round))
		{
			my $r = drive($peer, "pairs $peer->[0] 1 " . ($quick ? 0.5 : 2));
			record('cost', $peer->[0], 1, '', 'backend_us', $round, $r->{backend_us} / $r->{count});
			record('cost', $peer->[0], 1, '', 'wal_bytes', $round, $r->{wal} / $r->{count});
		}
		kill 'TERM', @loops;
		waitpid($_, 0) foreach @loops;
	}
	set_fsync('on');
	return;
}

sub set_fsync
{
	my ($value) = @_;
	sql('postgres', "ALTER SYSTEM SET fsync = $value");
	sql('postgres', 'SELECT pg_reload_conf()');
	sleep 0.2;
	return;
}

# Returns the process.
sub start_loop
{
	my $pid = fork // die "could not fork: $!";
	exec('chrt', '--idle', '0', 'perl', '-e', '1 while getppid() > 1') if $pid == 0;
	return $pid;
}

# One lock that all clients want, held 2 or 100 ms.
sub handover
{
	foreach my $round (1 .. ($quick ? 1 : 2))
	{
		begin_round('handover', $round);
		foreach my $hold ($quick ? (2) : (2, 100))
		{
			my $seconds = $quick ? 0.7 : $hold == 2 ? 2 : 6;
			foreach my $clients ($quick ? (2, 16) : (2, 16, 64))
			{
				foreach my $peer (peers_that('wait', $round))
				{
					my $r = drive($peer, "handover $peer->[0] $clients $seconds $hold");
					my @key = ('handover', $peer->[0], $clients, "$hold ms");
					record(@key, 'p50_us', $round, percentile(50, $r->{times}));
					record(@key, 'p99_us', $round, percentile(99, $r->{times}));
					record(@key, 'per_second', $round, $r->{count} / $r->{seconds});
					record(@key, 'inversions', $round, $r->{inversions});
				}
			}
		}
	}
	return;
}

# What the server spends on waiting clients.  They have time to settle, so that what
# PostgreSQL does once, after 1 s (the search for deadlocks) and after 10 s (the
# statistics of an idle session), is over; what a waiter of tfstate does every 20 s is
# seen once.
sub waiters
{
	my ($seconds, $settle_ms) = $quick ? (1, 2000) : (20, 12_000);
	begin_round('waiters', 1);
	foreach my $peer (peers_that('wait', 0))
	{
		my $r = drive($peer, "waiters $peer->[0] 64 $seconds $settle_ms");
		record('waiters', $peer->[0], 64, '', 'server_ms_in_10_s', 1,
			$r->{server_us} / 1000 * 10 / $seconds);
		record('waiters', $peer->[0], 64, '', 'backend_ms_in_10_s', 1,
			$r->{backend_us} / 1000 * 10 / $seconds)
		  if $peer->[2] eq 'POSTGRESQL';
	}
	return;
}

# A try for a lock that another session holds.
sub tries
{
	foreach my $round (1 .. 3)
	{
		begin_round('tries', $round);
		foreach my $peer (peers_that('try', $round))
		{
			my $r = drive($peer, "tries $peer->[0] 1 " . ($quick ? 0.4 : 2));
			my @key = ('tries', $peer->[0], 1, '');
			record(@key, 'per_second', $round, $r->{count} / $r->{seconds});
			record(@key, 'backend_us', $round, $r->{backend_us} / $r->{count});
			record(@key, 'wal_bytes', $round, $r->{wal} / $r->{count});
		}
	}
	return;
}

my $extension_mb = q{
SELECT sum(pg_total_relation_size(objid)) / 1e6
  FROM pg_depend JOIN pg_class ON pg_class.oid = objid
 WHERE classid = 'pg_class'::regclass AND deptype = 'e' AND relkind = 'r'
	   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'tfstate')};

# The same key again and again, while another session has an old snapshot and
# without one.
sub one_key
{
	my ($peer, $variant, $total, $size) = @_;
	my $slices = 20;
	begin_round('onekey', $variant eq 'snapshot' ? 2 : 1);
	sql("$peer snapshot", 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1') if $variant eq 'snapshot';
	foreach my $slice (1 .. $slices)
	{
		my $r = drive(peer($peer), "repeat $peer " . $total / $slices);
		record('onekey', $peer, 1, $variant, 'per_second', $slice, $r->{count} / $r->{seconds});
		record('onekey', $peer, 1, $variant, 'backend_us', $slice, $r->{backend_us} / $r->{count});
	}
	record('onekey', $peer, 1, $variant, 'mb', 1, sql($peer, $size));
	end_child("$peer snapshot") if $variant eq 'snapshot';
	sql($peer, 'VACUUM');
	record('onekey', $peer, 1, $variant, 'mb_after_vacuum', 1, sql($peer, $size));

	# A new session writes where vacuum has made room.
	end_child('postgresql');
	drive(peer($peer), "repeat $peer 5000");
	sql($peer, 'VACUUM');
	record('onekey', $peer, 1, $variant, 'mb_later', 1, sql($peer, $size));
	return;
}

sub onekey
{
	foreach my $variant (qw(none snapshot))
	{
		one_key('durable-async', $variant, $quick ? 20_000 : 1_000_000, $extension_mb);
		# it would take hours for a million
		one_key(
			'sql-async', $variant,
			$quick ? 5_000 : 20_000,
			"SELECT pg_total_relation_size('own_lock') / 1e6");
	}
	return;
}

# Takes durable locks on new lockids, and releases them at once if told to.
sub lock_many
{
	my ($prefix, $from, $to, $unlock) = @_;
	my $statement = 'tfstate_lock(lockid)';
	$statement = "tfstate_unlock(lockid, ($statement).id)" if $unlock;
	return sql_ms(
		'durable many', qq{
		SET synchronous_commit = off;
		DO \$\$
		BEGIN
			FOR batch IN 0 .. ($to - $from) / 1000 - 1 LOOP
				PERFORM $statement
				   FROM (SELECT '$prefix/' || i AS lockid
						   FROM generate_series($from + batch * 1000 + 1, $from + batch * 1000 + 1000) i) s;
				COMMIT;
			END LOOP;
		END;
		\$\$});
}

sub record_times
{
	my ($part, $held, $what, $query) = @_;
	sql('durable', $query);
	record($part, 'durable', 1, $held, $what, $_, sql_ms('durable', $query)) foreach 1 .. 5;
	return;
}

# Kills a backend, so that the server goes through crash recovery, and records
# how long the first lock takes after the recovery.
sub lock_after_crash
{
	my ($held) = @_;
	my $pid = sql('durable many', 'SELECT pg_backend_pid()');
	my $start = time;
	kill 'KILL', $pid;
	end_child($_) foreach keys %child;
	sleep 0.2;
	sleep 0.05 until system("'$bindir/psql' -XAtq -c 'SELECT 1' >/dev/null 2>&1") == 0;
	my $back = time;
	system("'$bindir/psql' -XAtq -c \"SELECT tfstate_lock('after the crash')\" durable >/dev/null") == 0
	  or die;
	record('listing', 'durable', 1, $held, 'recovery_ms', 1, ($back - $start) * 1000);
	record('listing', 'durable', 1, $held, 'first_lock_ms', 1, (time - $back) * 1000);
	sql('durable', "SELECT tfstate_force_unlock('after the crash')");
	return;
}

# Many durable locks held.
sub listing
{
	my $before = 0;
	begin_round('listing', 1);
	foreach my $held (10_000, $quick ? () : (1_000_000))
	{
		my $mb = sql('durable', $extension_mb);
		my $ms = lock_many('many', $before, $held, 0);
		record('listing', 'durable', 1, $held, 'lock_us', 1, $ms * 1000 / ($held - $before));
		record('listing', 'durable', 1, $held, 'bytes_a_lock', 1,
			(sql('durable', $extension_mb) - $mb) * 1e6 / ($held - $before));
		record_times('listing', $held, 'all_ms', 'SELECT count(info) FROM tfstate_holders');
		record_times('listing', $held, 'one_ms',
			"SELECT * FROM tfstate_holders WHERE lockid = 'many/77'");
		record_times('listing', $held, 'pattern_ms', "SELECT * FROM tfstate_holders('many/77')");
		my $pairs = drive(peer('durable'), 'pairs durable 1 1');
		record('listing', 'durable', 1, $held, 'pair_us', 1,
			$pairs->{backend_us} / $pairs->{count});

		foreach my $listing (0, 1)
		{
			send_line(
				child('lister', "$bindir/psql", '-XAtq', 'durable'),
				"DO 'DECLARE e timestamptz := clock_timestamp() + ''3 s''; BEGIN WHILE clock_timestamp() < e LOOP"
				  . " PERFORM count(info) FROM tfstate_holders; END LOOP; END';") if $listing;
			my $r = drive(peer('durable'), 'tries durable 1 1');
			record('listing', 'durable', 1, $held, ($listing ? 'listed_try_p99_us' : 'try_p99_us'),
				1, percentile(99, $r->{times}));
			end_child('lister') if $listing;
		}
		lock_after_crash($held);
		$before = $held;
	}
	sql('durable many',
		"SET synchronous_commit = off; SELECT count(tfstate_force_unlock(lockid)) FROM tfstate_holders"
		  . " WHERE lockid LIKE 'many/%'")
	  if $quick;
	return;
}

#
# States
#

# Makes a table of states as Terraform would, with an empty default workspace.
sub terraform_table
{
	my ($schema) = @_;
	sql('postgres', qq{
		SET client_min_messages = warning;
		CREATE SCHEMA $schema;
		CREATE SEQUENCE IF NOT EXISTS public.global_states_id_seq AS bigint;
		CREATE TABLE $schema.states (
			id bigint NOT NULL DEFAULT nextval('public.global_states_id_seq') PRIMARY KEY, name text UNIQUE, data text);
		CREATE UNIQUE INDEX states_by_name ON $schema.states (name);
		INSERT INTO $schema.states (name, data)
		VALUES ('default', format('{"version":4,"terraform_version":"1.0.0","serial":0,"lineage":"%s","outputs":{},'
					'"resources":[],"check_results":null}', gen_random_uuid()))});
	return;
}

# Returns a file with a realistic state of the given size in bytes.
sub state_file
{
	my ($size) = @_;
	my $file = "$work/state.$size";
	return $file if -e $file;
	open(my $out, '>', $file) or die "$file: $!";
	print $out <<END;
{
  "version": 4,
  "terraform_version": "1.11.4",
  "serial": 1000000000,
  "lineage": "6a1b5f3e-0f5e-4d0c-9d3a-1f2b3c4d5e6f",
  "outputs": {},
  "resources": [
END
	for (my $i = 1; tell($out) < $size; $i++)
	{
		print $out ",\n" if $i > 1;
		print $out state_resource($i);
	}
	print $out "\n  ],\n  \"check_results\": null\n}\n";
	close($out);
	return $file;
}

sub hex_digits
{
	my ($n) = @_;
	return join('', map { sprintf('%x', int(rand(16))) } 1 .. $n);
}

sub state_resource
{
	my ($i) = @_;
	my ($id, $private, $volume, $vpc) = map { hex_digits($_) } 17, 80, 17, 17;
	my @octets = map { 100 + int(rand(156)) } 1 .. 3;
	return <<END =~ s/\n$//r;
    {
      "mode": "managed",
      "type": "aws_instance",
      "name": "node_$i",
      "provider": "provider[\\"registry.terraform.io/hashicorp/aws\\"]",
      "instances": [
        {
          "schema_version": 1,
          "attributes": {
            "arn": "arn:aws:ec2:eu-central-1:123456789012:instance/i-$id",
            "associate_public_ip_address": false,
            "availability_zone": "eu-central-1a",
            "id": "i-$id",
            "instance_type": "m5.large",
            "private_ip": "10.$octets[0].$octets[1].$octets[2]",
            "root_block_device": [
              {
                "delete_on_termination": true,
                "device_name": "/dev/xvda",
                "encrypted": true,
                "volume_id": "vol-$volume",
                "volume_size": 100,
                "volume_type": "gp3"
              }
            ],
            "tags": {
              "Name": "node-$i",
              "env": "prod"
            },
            "timeouts": null,
            "vpc_security_group_ids": [
              "sg-$vpc"
            ]
          },
          "sensitive_attributes": [],
          "private": "$private",
          "dependencies": [
            "aws_subnet.a",
            "aws_vpc.main"
          ]
        }
      ]
    }
END
}

# The workspace is named after the size.
sub write_state
{
	my ($schema, $size, $count) = @_;
	return drive(peer('floor'), "write $schema " . state_file($size) . " $count w$size");
}

# A write of a state, by its size: into a table as Terraform makes it, into the same
# with the compression that tfstate chooses, and into an attached one.
sub writes
{
	my @sizes = $quick ? (50_000, 5_000_000) : (50_000, 5_000_000, 50_000_000);
	terraform_table($_) foreach qw(plain lz4);
	sql('postgres', 'ALTER TABLE lz4.states ALTER data SET COMPRESSION lz4');
	sql('postgres', "SELECT tfstate_attach('guarded', guard => 'on')");
	foreach my $round (1 .. ($quick ? 2 : 4))
	{
		begin_round('writes', $round);
		foreach my $size (@sizes)
		{
			my $count = max(2, min(50, int(($quick ? 2e7 : 6e7) / $size)));
			foreach my $schema (qw(plain lz4 guarded))
			{
				write_state($schema, $size, 1) if $round == 1;
				my $r = write_state($schema, $size, $count);
				record('writes', $schema, 1, $size, 'ms', $round,
					percentile(50, $r->{times}) / 1000);
				record('writes', $schema, 1, $size, 'backend_ms', $round,
					$r->{backend_us} / $r->{count} / 1000);
				record('writes', $schema, 1, $size, 'wal_mb', $round,
					$r->{wal} / $r->{count} / 1e6);
			}
		}
	}
	return;
}

# Many small changes of a state of 5 MB.
sub versions
{
	my $slice = $quick ? 10 : 100;
	begin_round('versions', 1);
	sql('postgres', "SELECT tfstate_attach('changes', guard => 'on')");
	write_state('changes', 5_000_000, 1);
	my $stored = "SELECT sum(stored) / 1e6 FROM tfstate_versions('changes.states/w5000000')";
	my $base = sql('postgres', $stored);
	foreach my $i (1 .. 10)
	{
		my $r = write_state('changes', 5_000_000, $slice);
		record('versions', 'guarded', 1, $i * $slice, 'ms', 1, percentile(50, $r->{times}) / 1000);
		record('versions', 'guarded', 1, $i * $slice,
			'stored_mb', 1, sql('postgres', $stored) - $base);
	}
	return;
}

# Returns how long a script of pgbench takes, on one connection or, with -C, with a
# new one each time.
sub script_ms
{
	my ($role, $how, $seconds, @statements) = @_;
	my $file = "$work/$role.sql";
	open(my $out, '>', $file) or die "$file: $!";
	print $out map { "$_\n" } @statements;
	close($out);
	my $output = `'$bindir/pgbench' -n -M extended $how -T $seconds -U $role -f '$file' 2>&1`;
	return $1 if $output =~ /^latency average = ([\d.]+) ms/m;
	die $output;
}

# What Terraform sends for a plan of the workspace, and the part of it that locks.
sub plan_statements
{
	my ($schema, $workspace) = @_;
	my ($lock, $unlock) = lock_statements($schema, $workspace);
	return (
		qq{SELECT name FROM "$schema".states WHERE name != 'default' ORDER BY name;},
		$lock,
		'SELECT pg_advisory_unlock(-1);',
		qq{SELECT data FROM "$schema".states WHERE name = '$workspace';},
		$unlock);
}

sub lock_statements
{
	my ($schema, $workspace) = @_;
	return (
		'SELECT states.id, pg_try_advisory_lock(states.id), pg_try_advisory_lock(-1)'
		  . qq{ FROM "$schema".states WHERE states.name = '$workspace' \\gset},
		'SELECT pg_advisory_unlock(:id);');
}

# The shim beside the stock backend, on an empty state: what Terraform sends for
# a plan, and a real one.
sub shim
{
	terraform_table('stock');
	sql('postgres', "CREATE ROLE $_ LOGIN PASSWORD 'bench'") foreach qw(stock shim);
	sql('postgres', 'GRANT USAGE ON SCHEMA stock TO stock; GRANT ALL ON stock.states TO stock');
	sql('postgres', "SELECT tfstate_attach('shim', role => 'shim')");
	foreach my $round (1 .. ($quick ? 3 : 10))
	{
		begin_round('shim', $round);
		foreach my $how ('', '-C')
		{
			record('shim', $_, 1, $how eq '' ? 'statements' : 'connection',
				'ms', $round, script_ms($_, $how, $quick ? 1 : 2, plan_statements($_, 'default')))
			  foreach qw(stock shim);
		}
		next unless grep { -x "$_/terraform" } split(/:/, $ENV{PATH});
		record('shim', $_, 1, 'terraform plan', 'ms', $round, terraform_plan_ms($_))
		  foreach qw(stock shim);
	}
	return;
}

# Returns how long a real terraform plan takes.
sub terraform_plan_ms
{
	my ($schema) = @_;
	my $directory = "$work/terraform.$schema";
	local $ENV{PG_CONN_STR} =
	  "postgres://$schema:bench\@127.0.0.1:$ENV{PGPORT}/postgres?sslmode=disable";
	local $ENV{HOME} = $work;
	if (!-d $directory)
	{
		mkdir $directory;
		open(my $out, '>', "$directory/main.tf") or die;
		print $out <<END;
terraform {
  backend "pg" {
    schema_name          = "$schema"
    skip_schema_creation = true
    skip_table_creation  = true
    skip_index_creation  = true
  }
}
resource "terraform_data" "network" {}
END
		close($out);
		terraform($directory, 'init');
	}
	my $start = time;
	terraform($directory, 'plan');
	return (time - $start) * 1000;
}

sub terraform
{
	my ($directory, $command) = @_;
	my $output = `cd '$directory' && terraform $command -input=false -no-color 2>&1`;
	die "terraform $command failed:\n$output" if $? != 0;
	return;
}

#
# Growth: what an operation costs, in microseconds, by the amount of something,
# which is the variant
#

sub grow
{
	my ($peer, $n, $quantity, $round, $us) = @_;
	record('growth', $peer, 1, $n, $quantity, $round, $us);
	return;
}

sub begin_growth
{
	state $round = 0;
	begin_round('growth', ++$round);
	return;
}

# Records the CPU that the backend of a single client uses for a pair or a try.
sub grow_cpu
{
	my ($peer, $n, $command, $quantity) = @_;
	my $r = drive(peer($peer), "$command $peer 1 2");
	grow($peer, $n, $quantity, 1, $r->{backend_us} / $r->{count});
	return;
}

sub grow_time
{
	my ($peer, $n, $quantity, $database, $query) = @_;
	sql($database, $query);
	grow($peer, $n, $quantity, $_, 1000 * sql_ms($database, $query)) foreach 1 .. 5;
	return;
}

# Makes the database of sessions a copy of that of durable locks.
sub copy_to_session
{
	end_child($_) foreach grep { /^(durable|session)\b/ } keys %child;
	sql('postgres', 'DROP DATABASE session');
	sql('postgres', 'CREATE DATABASE session TEMPLATE durable');
	return;
}

# A pair, by the number of lockids ever used.
sub growth_of_lockids
{
	my $before = 0;
	foreach my $n (1000, 10_000, $quick ? () : (100_000, 1_000_000, 10_000_000))
	{
		lock_many('used', $before, $n, 1);
		copy_to_session();
		begin_growth();
		grow_cpu($_, $n, 'pairs', 'used_pair_us') foreach qw(durable session floor);
		$before = $n;
	}
	return;
}

# A pair, a try that fails and a look at one lock, by the number of durable locks held.
sub growth_of_held_locks
{
	my $before = 0;
	foreach my $n (1000, 10_000, $quick ? () : (100_000, 1_000_000))
	{
		lock_many('held', $before, $n, 0);
		begin_growth();
		grow_cpu('durable', $n, 'pairs', 'held_pair_us');
		grow_cpu('durable', $n, 'tries', 'held_try_us');
		grow_time('durable', $n, 'held_look_us', 'durable', "SELECT * FROM tfstate_holders('held/77')");
		$before = $n;
	}
	return;
}

# A hand-over of one lock, by the number of waiters.
sub growth_of_waiters
{
	foreach my $n (1, 3, 7, 15, 31, 63)
	{
		begin_growth();
		foreach my $peer (qw(durable session))
		{
			my $r = drive(peer($peer), "handover $peer " . ($n + 1) . ' ' . ($quick ? 1 : 4) . ' 2');
			grow($peer, $n, 'waiting_handover_us', 1, percentile(50, $r->{times}));
		}
	}
	return;
}

# A write of a state of 50 kB and a look at its first version, by the number of versions.
sub growth_of_versions
{
	my $before = 0;
	sql('postgres', "SELECT tfstate_attach('kept', guard => 'on')");
	foreach my $n (10, 100, 1000, $quick ? () : (10_000))
	{
		begin_growth();
		my $r = write_state('kept', 50_000, $n - $before);
		grow('guarded', $n, 'versions_write_us', 1, percentile(50, $r->{times}));
		grow_time('guarded', $n, 'versions_read_us', 'postgres',
			"SELECT length(tfstate_version('kept.states/w50000', 1))");
		$before = $n;
	}
	return;
}

# Locking and unlocking a workspace for Terraform, and a list of all workspaces, by their
# number.
sub growth_of_workspaces
{
	my $before = 0;
	sql('postgres', "CREATE ROLE workspaces LOGIN PASSWORD 'bench'");
	sql('postgres', "SELECT tfstate_attach('workspaces', role => 'workspaces', guard => 'on')");
	foreach my $n (10, 100, 1000, $quick ? () : (10_000, 100_000))
	{
		my $state = q('{"version":4,"terraform_version":"1.0.0","serial":1,"lineage":"%s","outputs":{},)
		  . q("resources":[],"check_results":null}');
		sql('postgres', qq{
			DO \$\$
			BEGIN
				FOR i IN $before + 1 .. $n LOOP
					INSERT INTO workspaces.states (name, data) VALUES ('w' || i, format($state, gen_random_uuid()));
					IF i % 500 = 0 THEN COMMIT; END IF;
				END LOOP;
			END;
			\$\$});
		begin_growth();
		grow('shim', $n, 'workspaces_lock_us', $_,
			1000 * script_ms('workspaces', '', 1, lock_statements('workspaces', 'w7')))
		  foreach 1 .. 3;
		grow_time('shim', $n, 'workspaces_list_us', 'postgres', 'SELECT count(serial) FROM tfstate_workspaces');
		$before = $n;
	}
	return;
}

# The held locks come last: they stay, and would be listed with the workspaces.
sub growth
{
	growth_of_waiters();
	growth_of_versions();
	growth_of_workspaces();
	growth_of_lockids();
	growth_of_held_locks();
	return;
}

#
# All of it
#

sub machine
{
	my ($model) = (`cat /proc/cpuinfo` =~ /^model name\s*: (.*)$/m);
	fact(
		'machine',
		sprintf(
			'%d x %s, %.0f GB, %s',
			`nproc`,
			$model // `uname -m`,
			(`cat /proc/meminfo` =~ /MemTotal: *(\d+)/)[0] / 1e6,
			`uname -sr` =~ s/\n//r));
	fact('file system', `stat -f -c %T '$work'` =~ s/\n//r);
	fact('date', `date -u +%F` =~ s/\n//r);
	fact('postgresql', sql('postgres', 'SHOW server_version'));
	fact(
		'postgresql settings',
		sql('postgres',
			"SELECT string_agg(name || ' = ' || current_setting(name), ', ' ORDER BY name) FROM pg_settings"
			  . " WHERE name IN ('fsync', 'full_page_writes', 'max_connections', 'max_locks_per_transaction',"
			  . " 'shared_buffers', 'synchronous_commit', 'wal_sync_method')"));
	fact('etcd', (`etcd --version` =~ /Version: (\S+)/)[0]);
	fact('redis', (`redis-server --version` =~ /v=(\S+)/)[0]);
	fact(
		'zookeeper and curator',
		join(', ',
			map { `dpkg-query -W -f '\${Version}' $_` }
			  qw(libzookeeper-java libcurator-recipes-java)));
	fact('mode', $quick ? 'quick: too short to be relied on' : 'full');
	return;
}

my %part = (
	pairs => \&pairs,
	cost => \&cost,
	handover => \&handover,
	waiters => \&waiters,
	tries => \&tries,
	onekey => \&onekey,
	shim => \&shim,
	writes => \&writes,
	versions => \&versions,
	listing => \&listing,
	growth => \&growth);

# growth takes as long as several others together
@wanted = qw(pairs cost handover waiters tries onekey shim writes versions listing)
  unless @wanted;
foreach my $name (@wanted)
{
	die "unknown part: $name\n" unless $part{$name};
}
machine();
$part{$_}->() foreach @wanted;
