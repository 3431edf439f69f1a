# bench/report.pl DIRECTORY
#
# Makes report.md and the plots out of the results.tsv in the directory, and
# prints the report.  A figure is the median over the rounds, and "±" half of
# what lies between the lowest and the highest, in percent of it.
use strict;
use warnings;
use utf8;

use List::Util qw(max min sum0);

my ($directory) = @ARGV;
my (@facts, %results, @order, $report);

# how the peers are called in tables, and what they promise
my @peers = (
	[ 'durable', 'tfstate durable', 'client, server', 'queue', 'yes',
		'`tfstate_lock()`, `tfstate_unlock()` with the ID; both flushed; holder and history recorded' ],
	[ 'durable-async', 'tfstate durable, unlock not flushed', 'client, server', 'queue', 'yes',
		'the same with `synchronous_commit = off`: locks are flushed nevertheless; a crash can lose an unlock' ],
	[ 'durable-nohistory', 'tfstate durable, no history', 'client, server', 'queue', 'yes',
		'the same with `tfstate.history = none`' ],
	[ 'session', 'tfstate session', 'neither', 'queue', 'yes', '`tfstate_lock(mode => \'session\')`' ],
	[ 'sql', 'plain SQL', 'client, server', 'no', 'no',
		'`INSERT ... ON CONFLICT DO NOTHING RETURNING id`, `DELETE` with the ID' ],
	[ 'sql-async', 'plain SQL, delete not flushed', 'client, server', 'no', 'no', 'the same; a crash can lose a delete' ],
	[ 'plpgsql', 'PL/pgSQL', 'client, server', 'queue', 'no',
		'the same table behind functions, an advisory lock as the queue; waits only for holders whose session lives' ],
	[ 'advisory', 'bare advisory lock', 'neither', 'queue', 'no', '`pg_advisory_lock()`; nobody is recorded' ],
	[ 'floor', 'two empty selects', '', '', '', 'the floor: nothing is locked' ],
	[ 'etcd', 'etcd', 'server; client for 60 s', 'queue', 'yes', '`concurrency.Mutex` of its own client: a key under a lease of 60 s, by a transaction' ],
	[ 'curator', 'ZooKeeper', 'server; client for 60 s', 'queue', 'yes', '`InterProcessMutex` of Curator: an ephemeral sequential node, session timeout 60 s' ],
	[ 'redis-always', 'redis, flushed always', 'client, server', 'polls each 10 ms', 'no',
		'`SET NX` with a token, compare and delete by a script; `appendfsync always`' ],
	[ 'redis-everysec', 'redis, flushed each second', 'client', 'polls each 10 ms', 'no',
		'the same with `appendfsync everysec`: a crash of the server can lose the last second or two' ],
	[ 'stock', 'stock backend' ],
	[ 'shim', 'tfstate' ],
	[ 'plain', 'a table as Terraform makes it' ],
	[ 'lz4', 'the same, compressed with lz4' ],
	[ 'guarded', 'a table attached to tfstate' ],);
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
	my %clients = map { $_ => 1 } map { keys %$_ } map { values %$_ } map { values %$_ } values %{ at($part) };
	delete $clients{0};
	return sort { $a <=> $b } keys %clients;
}

sub variants_of
{
	my ($part, $peer, $quantity) = @_;
	my @variants = keys %{ at($part, $peer, $quantity) };
	return sort { ($a =~ /^(\d*)/)[0] <=> ($b =~ /^(\d*)/)[0] } @variants if !grep { !/^\d/ } @variants;
	return sort @variants;
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
	my $decimals = abs($value) >= 100 || $value == int($value) ? 0 : abs($value) >= 10 ? 1 : abs($value) >= 0.1 ? 2 : 3;
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
		out('| ', join(' | ', map { sprintf("%-$widths[$_]s", $rows[$i][$_] // '') } 0 .. $#widths), " |\n");
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
		push @rows, [ $title{$name}, map { with_spread($part, $name, $quantity, $variant, $_) } @clients ];
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

# Prints a quantity of the given peers, by the variant.
sub table_by_variant
{
	my ($part, $head, $quantities, @names) = @_;
	my @variants = map { my $name = $_; map { variants_of($part, $name, $_) } @$quantities } @names;
	my %seen;
	@variants = grep { !$seen{$_}++ } @variants;
	my @rows = ([ $head, map { my $name = $_; map { "$title{$name}: $_" } @$quantities } @names ]);
	foreach my $variant (@variants)
	{
		push @rows,
		  [
			$variant =~ /^\d+$/ ? number($variant) : $variant,
			map { my $name = $_; map { with_spread($part, $name, $_, $variant, 1) } @$quantities } @names
		  ];
	}
	table(@rows) if @rows > 1;
	return;
}

#
# Plots
#

sub plot
{
	my ($file, $part, $quantity, $variant, $title, $y, @names) = @_;
	my @clients = clients_of($part) or return;
	open(my $gnuplot, '|-', 'gnuplot') or die "gnuplot: $!";
	print $gnuplot "set terminal svg size 800,500 font 'sans,12' background 'white'\n",
	  "set output '$directory/$file'\nset title '$title'\nset xlabel 'clients'\nset ylabel '$y'\n",
	  "set logscale xy\nset logscale x 2\nset key outside right\nset grid\n",
	  "set xtics (" . join(', ', @clients) . ")\nset xrange [$clients[0] * 0.9:$clients[-1] * 1.1]\n";
	my @lines;
	foreach my $name (@names)
	{
		my @points = grep { defined $_->[1] } map { [ $_, figure($part, $name, $quantity, $variant, $_) ] } @clients;
		next unless @points;
		my $block = '$d' . @lines;
		print $gnuplot "$block << END\n", (map { "@$_\n" } @points), "END\n";
		push @lines, "$block with linespoints linewidth " . ($name =~ /^(durable|session)$/ ? 3 : 1) . " title '$title{$name}'";
	}
	print $gnuplot 'plot ', join(', ', @lines), "\n" if @lines;
	close($gnuplot) or die "gnuplot failed\n";
	out("![$title]($file)\n\n");
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
		my %machine = map { $_ => at($part, 'machine', $_, '', 0) } qw(idle_percent flush_p50_us flush_p99_us);
		my $list = sub {
			my $values = $machine{ $_[0] };
			join(', ', map { number($values->{$_}) } sort { $a <=> $b } keys %$values);
		};
		out("- before the rounds of $part: CPU idle ", $list->('idle_percent'), ' %; a flush takes ',
			$list->('flush_p50_us'), " us (p99 ", $list->('flush_p99_us'), " us)\n");
	}
	out("\n## What is compared\n\n");
	table([ '', 'how', 'a lock survives the crash of', 'waiting', 'fence' ],
		map { [ @$_[ 1, 5, 2, 3, 4 ] ] } grep { @$_ > 2 } @peers);
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
	plot('throughput.svg', 'pairs', 'per_second', '', 'Lock and unlock, each client on a key of its own', 'pairs per second',
		qw(durable durable-async session sql plpgsql advisory etcd curator redis-always redis-everysec));
	return;
}

sub cost_section
{
	out("## What a pair costs\n\nBy one client, without the flush (`fsync = off`) and with CPUs that are kept awake.\n\n");
	table_of_quantities('cost', 1, '', [ 'backend_us', 'CPU of the backend, us' ], [ 'wal_bytes', 'WAL, bytes' ]);
	return;
}

sub handover_section
{
	out("## Hand-over\n\nAll clients want one lock; from the call of unlock until the next one has it.\n\n");
	foreach my $hold (variants_of('handover', 'durable', 'p50_us'))
	{
		foreach my $quantity ([ 'p50_us', 'median, microseconds' ], [ 'p99_us', '99 %, microseconds' ],
			[ 'inversions', 'times that somebody was overtaken' ])
		{
			out("Held $hold: $quantity->[1].\n\n");
			table_by_clients('handover', $quantity->[0], $hold);
		}
	}
	plot('handover.svg', 'handover', 'p50_us', '2 ms', 'Hand-over of a lock held 2 ms, median', 'microseconds',
		qw(durable session plpgsql advisory etcd curator redis-always));
	return;
}

sub waiters_section
{
	out("## 64 clients that wait\n\nCPU in 10 s, milliseconds.\n\n");
	table_of_quantities('waiters', 64, '',
		[ 'server_ms_in_10_s', 'server' ], [ 'backend_ms_in_10_s', 'backends of the waiters' ]);
	return;
}

sub tries_section
{
	out("## A try that fails\n\n");
	table_of_quantities('tries', 1, '',
		[ 'per_second', 'per second' ], [ 'backend_us', 'CPU of the backend, us' ], [ 'wal_bytes', 'WAL, bytes' ]);
	return;
}

sub listing_section
{
	out("## Many locks are held\n\n");
	table_by_variant('listing', 'held', [qw(lock_us bytes_a_lock all_ms one_ms pattern_ms)], 'durable');
	table_by_variant('listing', 'held', [qw(try_p99_us listed_try_p99_us recovery_ms first_lock_ms)], 'durable');
	return;
}

sub onekey_section
{
	my @rows = ([ '', 'first slice, pairs/s', 'last slice', 'last / first', 'MB', 'MB after vacuum' ]);
	foreach my $name (qw(durable-async sql-async))
	{
		foreach my $variant ('', 'snapshot')
		{
			my $slices = at('onekey', $name, 'per_second', $variant, 1);
			next unless %$slices;
			my ($first, $last) = @$slices{ 1, max(keys %$slices) };
			push @rows,
			  [
				$title{$name} . ($variant ? ', an old snapshot open' : ''), number($first), number($last),
				number($last / $first), map { number(figure('onekey', $name, $_, $variant, 1)) } qw(mb mb_after_vacuum)
			  ];
		}
	}
	out("## The same key again and again\n\nIn 20 slices, by one client.\n\n");
	table(@rows) if @rows > 1;
	return;
}

sub states_section
{
	out("## States\n\nThe statements of a plan, milliseconds: on one connection, with a new one each time, and in Terraform.\n\n");
	table_by_variant('shim', '', ['ms'], qw(stock shim));
	out("A write, by the size of the state in bytes.\n\n");
	table_by_variant('writes', 'size', ['ms'], qw(plain lz4 guarded));
	table_by_variant('writes', 'size', ['backend_ms'], qw(plain lz4 guarded));
	table_by_variant('writes', 'size', ['wal_mb'], qw(plain lz4 guarded));
	out("Small changes of a state of 5 MB, each a version.\n\n");
	table_by_variant('versions', 'changes', [qw(ms stored_mb)], 'guarded');
	return;
}

sub growth_section
{
	out("## Growth\n\nA pair, by the number of lockids ever used.\n\n");
	table_by_variant('growth', 'lockids', [qw(backend_us per_second)], qw(durable session floor));
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

# Each is the peer, what it is compared with, the quantity, the variant, and for
# numbers of clients what the ratio is to be: at least, or at most where it is
# negative.
my @goals = (
	[ 'pairs', 'durable', 'sql', 'per_second', '', { 1 => 1.0, 8 => 1.15, 32 => 1.3, 64 => 1.3 } ],
	[ 'pairs', 'durable', 'plpgsql', 'per_second', '', {} ],
	[ 'pairs', 'durable', 'etcd', 'per_second', '', { map { $_ => 2.5 } 1, 8, 32, 64 } ],
	[ 'pairs', 'durable', 'curator', 'per_second', '', { map { $_ => 2.5 } 1, 8, 32, 64 } ],
	[ 'pairs', 'durable', 'redis-always', 'per_second', '', { 1 => 0.9, 8 => 0.9, 32 => 0.5, 64 => 0.5 } ],
	[ 'pairs', 'durable-async', 'sql', 'per_second', '', { 1 => 1.25, 8 => 1.4, 32 => 1.4 } ],
	[ 'pairs', 'durable-async', 'sql-async', 'per_second', '', {} ],
	[ 'pairs', 'session', 'advisory', 'per_second', '', { 8 => 0.6, 32 => 0.6, 64 => 0.6 } ],
	[ 'pairs', 'session', 'redis-everysec', 'per_second', '', { 1 => 1.0 } ],
	[ 'cost', 'durable', 'sql', 'backend_us', '', { 1 => -1.3 } ],
	[ 'cost', 'durable-nohistory', 'sql', 'backend_us', '', { 1 => -1.0 } ],
	[ 'cost', 'durable-nohistory', 'plpgsql', 'backend_us', '', { 1 => -0.7 } ],
	[ 'cost', 'session', 'advisory', 'backend_us', '', { 1 => -1.7 } ],
	(map { ([ 'handover', 'session', 'advisory', 'p50_us', $_, { map { $_ => -1.3 } 2, 16, 64 } ],
		[ 'handover', 'durable', 'plpgsql', 'p50_us', $_, { map { $_ => -0.8 } 2, 16, 64 } ],
		[ 'handover', 'durable', 'etcd', 'p50_us', $_, { map { $_ => -0.5 } 2, 16, 64 } ],
		[ 'handover', 'durable', 'curator', 'p50_us', $_, { map { $_ => -0.5 } 2, 16, 64 } ]) } '2 ms', '100 ms'),
	[ 'tries', 'durable', 'advisory', 'backend_us', '', { 1 => -1.3 } ],
	[ 'tries', 'session', 'advisory', 'backend_us', '', { 1 => -1.3 } ],
	[ 'shim', 'shim', 'stock', 'ms', 'statements', {} ],
	[ 'shim', 'shim', 'stock', 'ms', 'terraform plan', { 1 => -1.02 } ],
	[ 'writes', 'guarded', 'plain', 'ms', '50000', {} ],
	[ 'writes', 'guarded', 'plain', 'ms', '5000000', { 1 => -1.25 } ],
	[ 'writes', 'guarded', 'plain', 'ms', '50000000', {} ],
	[ 'writes', 'guarded', 'lz4', 'ms', '5000000', {} ],);

my %unit = (per_second => 'pairs/s', backend_us => 'CPU of the backend', p50_us => 'hand-over, median', ms => 'time');

# Returns "1.07 (1.0)", with a "!" where the goal is missed.
sub goal_cell
{
	my ($ratio, $goal) = @_;
	return '' unless defined $ratio;
	return sprintf('%.2f', $ratio) unless defined $goal;
	my $missed = $goal < 0 ? $ratio > -$goal : $ratio < $goal;
	return sprintf('%.2f (%s %g)%s', $ratio, $goal < 0 ? '<=' : '>=', abs($goal), $missed ? ' !' : '');
}

sub ratios_section
{
	out("## Ratios\n\nMedians of the ratios in each round; in brackets what we want, with a ! where that is missed.\n\n");
	foreach my $part (qw(pairs cost handover tries shim writes))
	{
		my @clients = clients_of($part) or next;
		my @rows = ([ "clients", @clients ]);
		foreach my $goal (grep { $_->[0] eq $part } @goals)
		{
			my (undef, $a, $b, $quantity, $variant, $wanted) = @$goal;
			my @cells = map { goal_cell(ratio($part, $a, $b, $quantity, $variant, $_), $wanted->{$_}) } @clients;
			my $what = "$title{$a} / $title{$b}: $unit{$quantity}" . ($variant eq '' ? '' : ", $variant");
			push @rows, [ $what, @cells ] if grep { $_ ne '' } @cells;
		}
		table(@rows);
	}
	my @clients = clients_of('handover') or return;
	my @rows = ([ 'p99 / p50, clients', @clients ]);
	foreach my $name (qw(session durable))
	{
		foreach my $hold (variants_of('handover', $name, 'p50_us'))
		{
			push @rows,
			  [
				"$title{$name}, $hold",
				map { goal_cell(figure('handover', $name, 'p99_us', $hold, $_) / figure('handover', $name, 'p50_us', $hold, $_), -4) }
				  @clients
			  ];
		}
	}
	table(@rows);
	return;
}

binmode(STDOUT, ':utf8');
read_results();
machine_section();
ratios_section();
my @sections = (
	[ \&pairs_section, 'pairs' ],
	[ \&cost_section, 'cost' ],
	[ \&handover_section, 'handover' ],
	[ \&waiters_section, 'waiters' ],
	[ \&tries_section, 'tries' ],
	[ \&onekey_section, 'onekey' ],
	[ \&states_section, 'shim', 'writes', 'versions' ],
	[ \&listing_section, 'listing' ],
	[ \&growth_section, 'growth' ],);
foreach my $section (@sections)
{
	my ($print, @parts) = @$section;
	$print->() if grep { $results{$_} } @parts;
}
open(my $file, '>:utf8', "$directory/report.md") or die "$directory/report.md: $!";
print $file $report;
close($file) or die;
print $report;
