# bench/report.pl DIRECTORY
#
# Makes report.md and the plots from results.tsv in the directory, and prints the
# report.  A figure is the median over the rounds; "±" is half of the distance between
# the lowest and the highest value, in percent of the median.
use strict;
use warnings;
use utf8;

use List::Util qw(max min);

my ($directory) = @ARGV;
my (@facts, %results, $report);

# Returns a list for each line: its fields, which bars separate.
sub fields
{
	my ($text) = @_;
	return map { [ split(/ *\| */, $_, -1) ] } split(/\n/, $text);
}

# The peers: their names, which crashes a lock of theirs survives, how they wait, whether
# they have fences, and how they are driven.
my @peers = fields(<<'END');
durable | tfstate durable | client, server | queue | yes | `tfstate_lock()`, `tfstate_unlock()` with the ID, both flushed
durable-async | tfstate durable, unlock not flushed | client, server | queue | yes | the same with `synchronous_commit = off`; a crash can lose an unlock
durable-nohistory | tfstate durable, no history | client, server | queue | yes | the same with `tfstate.history = none`
session | tfstate session | neither | queue | yes | the same with `mode => 'session'`
sql | plain SQL | client, server | no | no | `INSERT ... ON CONFLICT DO NOTHING RETURNING id`, `DELETE` with the ID
sql-async | plain SQL, delete not flushed | client, server | no | no | the same; a crash can lose a delete
plpgsql | PL/pgSQL | client, server | queue, while the holder's session lives | no | functions around that table, with an advisory lock as the queue
advisory | bare advisory lock | neither | queue | no | `pg_advisory_lock()`; no holder is recorded
floor | two empty selects | | | | nothing is locked
etcd | etcd | server; client for 60 s | queue | yes | `concurrency.Mutex` of its client: a key under a lease, by a transaction
curator | ZooKeeper | server; client for 60 s | queue | yes | `InterProcessMutex` of Curator: an ephemeral sequential node
redis-always | redis, flushed always | client, server | polls every 10 ms | no | `SET NX` with a token, a script that compares and deletes; `appendfsync always`
redis-everysec | redis, flushed each second | client | polls every 10 ms | no | the same with `appendfsync everysec`; a crash can lose the last two seconds
stock | stock backend
shim | tfstate
plain | table as Terraform makes it
lz4 | the same, compressed with lz4
guarded | attached table
END
my %title = map { $_->[0] => $_->[1] } @peers;

#
# Input
#

sub read_results
{
	open(my $in, '<', "$directory/results.tsv") or die "$directory/results.tsv: $!";
	while (my $line = <$in>)
	{
		chomp $line;
		if ($line =~ /^# (.*?)\t(.*)/)
		{
			push @facts, [ $1, $2 ];
			next;
		}
		my ($part, $peer, $clients, $variant, $quantity, $round, $value) = split(/\t/, $line);
		$results{$part}{$peer}{$quantity}{$variant}{$clients}{$round} = $value;
	}
	return;
}

# Returns what there is of a part, a peer, a quantity, a variant and a number of
# clients, or of the first ones of these; that of all five are the values by round.
sub at
{
	my $at = \%results;
	foreach my $key (@_)
	{
		$at = $at->{$key} or return {};
	}
	return $at;
}

# Returns all numbers of clients, or all variants, that a part has.
sub clients_of
{
	my ($part) = @_;
	my %clients =
	  map { $_ => 1 } map { keys %$_ } map { values %$_ } map { values %$_ } values %{ at($part) };
	delete $clients{0};
	return sort { $a <=> $b } keys %clients;
}

sub variants_of
{
	my ($part, $peer, $quantity) = @_;
	return in_order(keys %{ at($part, $peer, $quantity) });
}

# Numbers in the order of numbers, what else there is in that of the alphabet.
sub in_order
{
	my %number = map { $_ => /^(\d+)/ ? $1 : 0 } @_;
	return sort { $number{$a} <=> $number{$b} || $a cmp $b } @_;
}

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return undef unless @sorted;
	return ($sorted[ $#sorted / 2 ] + $sorted[ @sorted / 2 ]) / 2;
}

sub figure
{
	return median(values %{ at(@_) });
}

#
# Output
#

sub out
{
	$report .= join('', @_);
	return;
}

# Writes a number so that it can be read: three digits, or all of a large one.
sub number
{
	my ($value) = @_;
	return '' unless defined $value;
	my $decimals = abs($value) >= 100
	  || $value == int($value) ? 0 : abs($value) >= 10 ? 1 : abs($value) >= 0.1 ? 2 : 3;
	my $text = sprintf("%.${decimals}f", $value);
	1 while $text =~ s/^(-?\d+)(\d{3})/$1,$2/;
	return $text;
}

sub with_spread
{
	my @values = values %{ at(@_) };
	my $median = median(@values);
	return '' unless defined $median;
	return number($median) if @values < 2 || $median == 0;
	return sprintf('%s ±%.0f %%', number($median), 50 * (max(@values) - min(@values)) / $median);
}

# Prints a table; the first row is its head.
sub table
{
	my @rows = @_;
	my @widths = map {
		my $column = $_;
		max(map { length($_->[$column] // '') } @rows)
	} 0 .. $#{ $rows[0] };
	foreach my $i (0 .. $#rows)
	{
		out('| ', join(' | ', map { sprintf("%-$widths[$_]s", $rows[$i][$_] // '') } 0 .. $#widths),
			" |\n");
		out('|', join('|', map { '-' x ($_ + 2) } @widths), "|\n") if $i == 0;
	}
	out("\n");
	return;
}

# Prints a quantity of all peers, by the number of clients.
sub table_by_clients
{
	my ($part, $quantity, $variant) = @_;
	my @clients = clients_of($part);
	my @rows = ([ 'clients', @clients ]);
	foreach my $name (map { $_->[0] } @peers)
	{
		next unless %{ at($part, $name, $quantity, $variant) };
		push @rows,
		  [ $title{$name}, map { with_spread($part, $name, $quantity, $variant, $_) } @clients ];
	}
	table(@rows) if @rows > 1;
	return;
}

# Prints several quantities of all peers, for so many clients.
sub table_of_quantities
{
	my ($part, $clients, $variant, @quantities) = @_;
	my @rows = ([ '', map { $_->[1] } @quantities ]);
	foreach my $name (map { $_->[0] } @peers)
	{
		my @cells = map { with_spread($part, $name, $_->[0], $variant, $clients) } @quantities;
		push @rows, [ $title{$name}, @cells ] if grep { $_ ne '' } @cells;
	}
	table(@rows) if @rows > 1;
	return;
}

# Prints columns, each a peer, a quantity and a title, by the variant.
sub table_by_variant
{
	my ($part, $head, @columns) = @_;
	my %variants = map { $_ => 1 } map { variants_of($part, $_->[0], $_->[1]) } @columns;
	my @rows = ([ $head, map { $_->[2] } @columns ]);
	foreach my $variant (in_order(keys %variants))
	{
		my @cells = map { with_spread($part, $_->[0], $_->[1], $variant, 1) } @columns;
		push @rows, [ $variant =~ /^\d+$/ ? number($variant) : $variant, @cells ];
	}
	table(@rows) if @rows > 1;
	return;
}

#
# Plots
#

# Draws curves, each a title, a width and a list of points, on logarithmic axes.
# settings are further lines for gnuplot.
sub plot
{
	my ($file, $title, $x, $y, $settings, @curves) = @_;
	@curves = grep { @{ $_->[2] } } @curves or return;
	open(my $gnuplot, '|-', 'gnuplot') or die "gnuplot: $!";
	print $gnuplot "set terminal svg size 800,500 font 'sans,12' background 'white'\n",
	  "set output '$directory/$file'\nset title '$title'\nset xlabel '$x'\nset ylabel '$y'\n",
	  "set logscale xy\nset key outside right\nset grid\n$settings\n";
	my @lines;
	foreach my $curve (@curves)
	{
		my ($name, $width, $points) = @$curve;
		my $block = '$d' . @lines;
		print $gnuplot "$block << END\n", (map { "@$_\n" } @$points), "END\n";
		push @lines, "$block with linespoints linewidth $width title '$name'";
	}
	print $gnuplot 'plot ', join(', ', @lines), "\n";
	close($gnuplot) or die "gnuplot failed\n";
	out("![$title]($file)\n\n");
	return;
}

# Draws a quantity of some peers, by the number of clients.
sub plot_by_clients
{
	my ($file, $part, $quantity, $variant, $title, $y, @names) = @_;
	my @clients = clients_of($part) or return;
	my @curves;
	foreach my $name (@names)
	{
		my @points = grep { defined $_->[1] }
		  map { [ $_, figure($part, $name, $quantity, $variant, $_) ] } @clients;
		push @curves, [ $title{$name}, $name =~ /^(durable|session)$/ ? 3 : 1, \@points ];
	}
	plot(
		$file, $title, 'clients', $y,
		"set logscale x 2\nset xtics ("
		  . join(', ', @clients)
		  . ")\nset xrange [$clients[0] * 0.9:$clients[-1] * 1.1]",
		@curves);
	return;
}

#
# Sections
#

sub machine_section
{
	out("# Benchmark\n\n");
	out("- $_->[0]: $_->[1]\n") foreach @facts;
	foreach my $part (sort keys %results)
	{
		my %machine =
		  map { $_ => at($part, 'machine', $_, '', 0) } qw(idle_percent flush_p50_us flush_p99_us);
		my $list = sub {
			my $values = $machine{ $_[0] };
			join(', ', map { number($values->{$_}) } sort { $a <=> $b } keys %$values);
		};
		out("- before the rounds of $part: CPU idle ",
			$list->('idle_percent'),
			' %; a flush takes ',
			$list->('flush_p50_us'),
			" us (p99 ", $list->('flush_p99_us'),
			" us)\n");
	}
	out("\n## What is compared\n\n");
	table(
		[ '', 'how', 'a lock survives the crash of', 'waiting', 'fence' ],
		map { [ @$_[ 1, 5, 2, 3, 4 ] ] } grep { @$_ > 2 } @peers);
	out("Each peer in PostgreSQL that has tables has a database of its own.\n\n");
	return;
}

sub pairs_section
{
	out("## Lock and unlock\n\nPairs per second, each client on a key of its own.\n\n");
	table_by_clients('pairs', 'per_second', '');
	out("CPU of the backend for a pair, microseconds.\n\n");
	table_by_clients('pairs', 'backend_us', '');
	out("CPU of the whole server for a pair, microseconds.\n\n");
	table_by_clients('pairs', 'server_us', '');
	plot_by_clients(
		'throughput.svg',
		'pairs',
		'per_second',
		'',
		'Lock and unlock, each client on a key of its own',
		'pairs per second',
		qw(durable durable-async session sql plpgsql advisory etcd curator redis-always redis-everysec)
	);
	return;
}

sub cost_section
{
	out("## What a pair costs\n\nOne client, without the flush (`fsync = off`) and with the CPUs kept awake.\n\n"
	);
	table_of_quantities(
		'cost', 1, '',
		[ 'backend_us', 'CPU of the backend, us' ],
		[ 'wal_bytes', 'WAL, bytes' ]);
	return;
}

sub handover_section
{
	out("## Hand-over\n\nAll clients want one lock. Measured from the call of unlock until the next client has the lock.\n\n"
	);
	foreach my $hold (variants_of('handover', 'durable', 'p50_us'))
	{
		foreach my $quantity (
			[ 'p50_us', 'median, microseconds' ],
			[ 'p99_us', '99 %, microseconds' ],
			[ 'inversions', 'how often a client was overtaken' ])
		{
			out("Held $hold: $quantity->[1].\n\n");
			table_by_clients('handover', $quantity->[0], $hold);
		}
	}
	plot_by_clients('handover.svg', 'handover', 'p50_us', '2 ms', 'Hand-over of a lock held 2 ms, median',
		'microseconds', qw(durable session plpgsql advisory etcd curator redis-always));
	return;
}

sub waiters_section
{
	out("## 64 waiting clients\n\nCPU in 10 s, milliseconds.\n\n");
	table_of_quantities(
		'waiters', 64, '',
		[ 'server_ms_in_10_s', 'server' ],
		[ 'backend_ms_in_10_s', 'backends of the waiters' ]);
	return;
}

sub tries_section
{
	out("## A try that fails\n\n");
	table_of_quantities(
		'tries', 1, '',
		[ 'per_second', 'per second' ],
		[ 'backend_us', 'CPU of the backend, us' ],
		[ 'wal_bytes', 'WAL, bytes' ]);
	return;
}

sub listing_section
{
	out("## Many durable locks held\n\n");
	table_by_variant(
		'listing',
		'held',
		[ 'durable', 'lock_us', 'a lock, 1000 in a transaction, us' ],
		[ 'durable', 'pair_us', 'CPU of a pair, us' ],
		[ 'durable', 'bytes_a_lock', 'disk, bytes a lock' ],
		[ 'durable', 'recovery_ms', 'recovery after a crash, ms' ],
		[ 'durable', 'first_lock_ms', 'then connect and lock, ms' ]);
	table_by_variant(
		'listing',
		'held',
		[ 'durable', 'all_ms', 'list all, ms' ],
		[ 'durable', 'one_ms', 'one by WHERE, ms' ],
		[ 'durable', 'pattern_ms', 'one by pattern, ms' ],
		[ 'durable', 'try_p99_us', 'a try, p99, us' ],
		[ 'durable', 'listed_try_p99_us', 'the same during listings, us' ]);
	return;
}

sub onekey_section
{
	my @rows =
	  (
		[
			'old snapshot', '', 'first slice, pairs/s', 'last slice', 'MB', 'MB after vacuum',
			'MB after 5,000 more and vacuum'
		]);
	foreach my $name (qw(durable-async sql-async))
	{
		foreach my $variant (qw(none snapshot))
		{
			my @slices = slices($name, $variant) or next;
			my @mb = map { figure('onekey', $name, $_, $variant, 1) } qw(mb mb_after_vacuum mb_later);
			push @rows, [ $variant, $title{$name}, map { number($_) } @slices, @mb ];
		}
	}
	out("## The same key again and again\n\nOne client, in 20 slices.\n\n");
	table(@rows);
	return;
}

sub shim_section
{
	out("## A plan\n\n");
	out("Milliseconds: its statements on one connection, the same with a new connection each time, and the command in Terraform.\n\n"
	);
	table_by_variant('shim', '', map { [ $_, 'ms', $title{$_} ] } qw(stock shim));
	return;
}

sub writes_section
{
	out("## A write of a state\n\n");
	foreach my $quantity (
		[ 'ms', 'Milliseconds' ],
		[ 'backend_ms', 'CPU of the backend, ms' ],
		[ 'wal_mb', 'WAL, MB' ])
	{
		out("$quantity->[1].\n\n");
		table_by_variant('writes', 'bytes',
			map { [ $_, $quantity->[0], $title{$_} ] } qw(plain lz4 guarded));
	}
	return;
}

sub versions_section
{
	out("## Small changes of a state of 5 MB, each a version\n\n");
	table_by_variant(
		'versions', 'changes',
		[ 'guarded', 'ms', 'a write, ms' ],
		[ 'guarded', 'stored_mb', 'stored, MB' ]);
	return;
}

# What grows; then the curves over it: a peer, a quantity and a title each.
my @growth = (
	[
		'lockids ever used',
		[ 'durable', 'used_pair_us', 'durable pair' ],
		[ 'session', 'used_pair_us', 'session pair' ],
		[ 'floor', 'used_pair_us', 'two empty selects' ]
	],
	[
		'durable locks held',
		[ 'durable', 'held_pair_us', 'durable pair of another lockid' ],
		[ 'durable', 'held_try_us', 'try that fails' ],
		[ 'durable', 'held_look_us', 'look at one lock' ]
	],
	[
		'waiters',
		[ 'durable', 'waiting_handover_us', 'durable hand-over' ],
		[ 'session', 'waiting_handover_us', 'session hand-over' ]
	],
	[
		'versions',
		[ 'guarded', 'versions_write_us', 'write of 50 kB' ],
		[ 'guarded', 'versions_read_us', 'read of the first version' ]
	],
	[
		'workspaces',
		[ 'shim', 'workspaces_lock_us', 'lock and unlock one' ],
		[ 'shim', 'workspaces_list_us', 'list all' ]
	]);

sub growth_section
{
	my @curves;
	out("## Growth\n\nMicroseconds; pairs and tries are CPU of the backend.\n\n");
	foreach my $growth (@growth)
	{
		my ($what, @columns) = @$growth;
		table_by_variant('growth', $what, @columns);
		foreach my $column (@columns)
		{
			my ($peer, $quantity, $title) = @$column;
			push @curves,
			  [
				"$title, by $what",
				1,
				[
					map { [ $_, figure('growth', $peer, $quantity, $_, 1) ] }
					  variants_of('growth', $peer, $quantity)
				]
			  ];
		}
	}
	plot('growth.svg', 'What an operation costs, by how much there is',
		'how many', 'microseconds', "set format x '%.0s%c'\nset key below font ',10'", @curves);
	return;
}

#
# Ratios
#

# Returns the median over the rounds of the ratio of two peers in the same round.
sub ratio
{
	my ($part, $a, $b, $quantity, $variant, $clients) = @_;
	my ($x, $y) = map { at($part, $_, $quantity, $variant, $clients) } $a, $b;
	return median(map { $x->{$_} / $y->{$_} } grep { ($y->{$_} // 0) != 0 } keys %$x);
}

# The comparisons: part, peer, other peer, quantity, variant; then, by the number of
# clients, the goal for the ratio.
my @goals = fields(<<'END');
pairs | durable | sql | per_second | | 1 >= 1, 8 >= 0.95, 32 >= 0.95, 64 >= 0.85
pairs | durable | plpgsql | per_second | |
pairs | durable | etcd | per_second | | 1 >= 2.5, 8 >= 2.5, 32 >= 2.5, 64 >= 2.5
pairs | durable | curator | per_second | | 1 >= 2.5, 8 >= 2.5, 32 >= 2.5, 64 >= 2.5
pairs | durable | redis-always | per_second | | 1 >= 0.9, 8 >= 0.9, 32 >= 0.5, 64 >= 0.5
pairs | durable-async | sql | per_second | | 1 >= 1.25, 8 >= 1.4, 32 >= 1.4
pairs | durable-async | sql-async | per_second | |
pairs | session | advisory | per_second | | 1 >= 0.85, 8 >= 0.8, 32 >= 0.8, 64 >= 0.7
pairs | session | redis-everysec | per_second | | 1 >= 1
cost | durable | sql | backend_us | | 1 <= 1.3
cost | durable-nohistory | sql | backend_us | | 1 <= 1
cost | durable-nohistory | plpgsql | backend_us | | 1 <= 0.7
cost | session | advisory | backend_us | | 1 <= 1.4
handover | session | advisory | p50_us | 2 ms | 2 <= 1.3, 16 <= 1.45
handover | durable | plpgsql | p50_us | 2 ms | 2 <= 0.8, 16 <= 0.8, 64 <= 0.8
handover | durable | etcd | p50_us | 2 ms | 2 <= 0.5, 16 <= 0.5, 64 <= 0.5
handover | durable | curator | p50_us | 2 ms | 2 <= 0.5, 16 <= 0.5, 64 <= 0.5
handover | session | advisory | p50_us | 100 ms | 2 <= 1.3, 16 <= 1.45
handover | durable | plpgsql | p50_us | 100 ms | 2 <= 0.8, 16 <= 0.8, 64 <= 0.8
handover | durable | etcd | p50_us | 100 ms | 2 <= 0.5, 16 <= 0.5, 64 <= 0.5
handover | durable | curator | p50_us | 100 ms | 2 <= 0.5, 16 <= 0.5, 64 <= 0.5
tries | durable | advisory | backend_us | | 1 <= 1.2
tries | session | advisory | backend_us | | 1 <= 1.2
shim | shim | stock | ms | statements |
shim | shim | stock | ms | connection |
shim | shim | stock | ms | terraform plan | 1 <= 1.02
writes | guarded | plain | ms | 50000 |
writes | guarded | plain | ms | 5000000 |
writes | guarded | plain | ms | 50000000 |
writes | guarded | lz4 | ms | 5000000 | 1 <= 1.1
END

my %unit = (
	per_second => 'pairs/s',
	backend_us => 'CPU of the backend',
	p50_us => 'hand-over, median',
	ms => 'time');

# The same for figures that are not ratios.
my @limits = fields(<<'END');
waiters | durable | backend_ms_in_10_s | | 64 <= 5
waiters | session | backend_ms_in_10_s | | 64 <= 5
tries | durable | wal_bytes | | 1 <= 0
tries | session | wal_bytes | | 1 <= 0
onekey | durable-async | mb_after_vacuum | snapshot | 1 <= 64
onekey | durable-async | mb_after_vacuum | none | 1 <= 64
versions | guarded | stored_mb | 1000 | 1 <= 5
listing | durable | all_ms | 10000 | 1 <= 15
listing | durable | all_ms | 1000000 | 1 <= 300
listing | durable | first_lock_ms | 10000 | 1 <= 1000
listing | durable | first_lock_ms | 1000000 | 1 <= 1000
END

# Returns a figure and its goal for that number of clients, with a "!" if the goal is
# missed.
sub goal_cell
{
	my ($value, $clients, $goals) = @_;
	return '' unless defined $value;
	my ($relation, $goal) = ($goals // '') =~ /\b$clients (..) ([\d.]+)/
	  or return sprintf('%.2f', $value);
	my $met = $relation eq '<=' ? $value <= $goal : $value >= $goal;
	return sprintf('%.2f (%s %s)%s', $value, $relation, $goal, $met ? '' : ' !');
}

sub ratios_section
{
	out("## Ratios\n\nMedians of the ratios in each round; goals in brackets, with a ! where they are missed.\n\n"
	);
	foreach my $part (qw(pairs cost handover tries shim writes))
	{
		my @clients = clients_of($part) or next;
		my @rows = ([ 'clients', @clients ]);
		foreach my $goal (grep { $_->[0] eq $part } @goals)
		{
			my (undef, $a, $b, $quantity, $variant, $wanted) = @$goal;
			my @cells =
			  map { goal_cell(ratio($part, $a, $b, $quantity, $variant, $_), $_, $wanted) }
			  @clients;
			my $what =
			  "$title{$a} / $title{$b}: $unit{$quantity}" . ($variant eq '' ? '' : ", $variant");
			push @rows, [ $what, @cells ] if grep { $_ ne '' } @cells;
		}
		table(@rows);
	}
	tail_ratios();
	slice_ratios();
	limits();
	return;
}

sub tail_ratios
{
	my @clients = clients_of('handover') or return;
	my @rows = ([ 'hand-over, p99 / p50; clients', @clients ]);
	foreach my $name (qw(session durable))
	{
		foreach my $hold (variants_of('handover', $name, 'p50_us'))
		{
			my @cells;
			foreach my $clients (@clients)
			{
				my ($p50, $p99) =
				  map { figure('handover', $name, $_, $hold, $clients) } qw(p50_us p99_us);
				push @cells, goal_cell($p99 / $p50, $clients, "$clients <= 4");
			}
			push @rows, [ "$title{$name}, $hold", @cells ];
		}
	}
	table(@rows);
	return;
}

# Returns the first and the last slice of the pairs on one key.
sub slices
{
	my $slices = at('onekey', $_[0], 'per_second', $_[1], 1);
	return %$slices ? @$slices{ 1, max(keys %$slices) } : ();
}

sub slice_ratios
{
	my @rows = ([ 'one key, last slice / first', '' ]);
	foreach my $variant (qw(none snapshot))
	{
		my ($first, $last) = slices('durable-async', $variant) or next;
		push @rows, [ "old snapshot: $variant", goal_cell($last / $first, 1, '1 >= 0.9') ];
	}
	table(@rows) if @rows > 1;
	return;
}

sub limits
{
	my @rows = ([ 'figures', '' ]);
	foreach my $limit (@limits)
	{
		my ($part, $name, $quantity, $variant, $wanted) = @$limit;
		my ($clients) = $wanted =~ /^(\d+)/;
		my $value = figure($part, $name, $quantity, $variant, $clients) // next;
		push @rows,
		  [
			join(', ', grep { $_ ne '' } $part, $title{$name}, $quantity, $variant),
			goal_cell($value, $clients, $wanted)
		  ];
	}
	table(@rows) if @rows > 1;
	return;
}

binmode(STDOUT, ':utf8');
read_results();
machine_section();
ratios_section();
my @sections = (
	[ pairs => \&pairs_section ],
	[ cost => \&cost_section ],
	[ handover => \&handover_section ],
	[ waiters => \&waiters_section ],
	[ tries => \&tries_section ],
	[ onekey => \&onekey_section ],
	[ shim => \&shim_section ],
	[ writes => \&writes_section ],
	[ versions => \&versions_section ],
	[ listing => \&listing_section ],
	[ growth => \&growth_section ],);
foreach my $section (@sections)
{
	$section->[1]->() if $results{ $section->[0] };
}
open(my $file, '>:utf8', "$directory/report.md") or die "$directory/report.md: $!";
print $file $report;
close($file) or die;
print $report;
