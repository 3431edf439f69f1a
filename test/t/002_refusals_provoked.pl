# Every refusal is provoked: each message of the library and of the install script, with
# its detail, hint and SQLSTATE, is in the expected output of a regression or isolation
# test, or a TAP test looks for it.
#
# The sources are read, not run.  A text counts as provoked if a line of an expected output
# contains it, or if a TAP test contains its longest fixed part.  An SQLSTATE counts as seen
# if it stands before the message, as fails() of test/lib/regress_helpers.sql and VERBOSITY
# verbose show it, or anywhere in the TAP test that contains the message.
#
# %unreachable lists the messages that no test can provoke, with the reason.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my %unreachable = (
	'could not generate random values' => 'the kernel would have to have none',
	'could not compress a state: %s' => 'only a mistake of ours, or no memory, is left to libzstd',
	'out of memory' => 'of libzstd, for some hundred bytes',
	'could not compute %s hash' => 'SHA-256 is always there',
	'state is too large to be kept as a version: it has %zu bytes when compressed, and %zu are allowed' =>
	  'takes a state of 700 MB, and several times as much memory',
	'could not send signal to process %d: %m' =>
	  'the server may signal each of its processes, and a process that has ended counts as terminated');

my $root = "$FindBin::RealBin/../..";

# The SQLSTATE of each condition, by its name in C without ERRCODE_
my %sqlstate;
{
	chomp(my $include = `pg_config --includedir-server`);
	my $errcodes = slurp_file("$include/utils/errcodes.h");

	$sqlstate{$1} = $2 =~ tr/0-9A-Z//cdr
	  while $errcodes =~ /^#define ERRCODE_(\w+) MAKE_SQLSTATE\((.*)\)/mg;
}

# Returns the position of a place in a file, as "file:line".
sub place
{
	my ($file, $text, $place) = @_;
	return ($file =~ s,^\Q$root\E/,,r) . ':' . (1 + (substr($text, 0, $place) =~ tr/\n//));
}

#
# What the sources can say: hashes with place, kind, text and sqlstate.  A text is a
# format, for printf() or RAISE.
#

# Returns the texts in a C expression; adjacent literals are one text.
my $literal = qr/"(?:[^"\\]|\\.)*"/;

sub texts
{
	my ($expression) = @_;
	my @texts;

	while ($expression =~ /($literal(?:\s*$literal)*)/g)
	{
		my $text = join('', map { substr($_, 1, -1) } $1 =~ /$literal/g);
		$text =~ s/\\(.)/$1 eq 'n' ? "\n" : $1/ge;
		push @texts, $text;
	}
	return @texts;
}

# Returns the arguments of the call that begins at a place in C source.
sub arguments
{
	my ($text, $place) = @_;
	my @arguments = ('');
	my $depth = 0;

	pos($text) = $place;
	while ($text =~ /\G($literal|'(?:[^'\\]|\\.)'|.)/gcs)
	{
		my $token = $1;

		return @arguments if $token eq ')' && --$depth == 0;
		$depth++ if $token eq '(';
		next if $token eq '(' && $depth == 1;
		push(@arguments, ''), next if $token eq ',' && $depth == 1;
		$arguments[-1] .= $token;
	}
	die "unbalanced parentheses";
}

my %kinds = (msg => 'message', detail => 'detail', hint => 'hint');

sub said_in_c
{
	my ($file) = @_;
	my $source = slurp_file($file);
	my ($level, $sqlstate) = ('', undef);
	my @said;

	# comments are not messages
	$source =~ s{($literal)|/\*(.*?)\*/}{$1 // "\n" x ($2 =~ tr/\n//)}ges;
	while ($source =~ /\b(?:ereport\((\w+)|errcode\(ERRCODE_(\w+)\)|(?:GUC_check_)?err(msg|detail|hint)(_internal|_plural)?(?=\())/g)
	{
		my ($report, $condition, $kind, $form) = ($1, $2, $3, $4 // '');
		my $place = place($file, $source, pos($source));

		if ($report)
		{
			$level = $report;
			$sqlstate = undef;
			next;
		}
		if ($condition)
		{
			next if $level ne 'no test shows the others';	# where no test shows it
			$sqlstate = $sqlstate{$condition} // die "$place: $condition is no condition";
			next;
		}
		my @arguments = arguments($source, pos($source));
		push @said,
		  map { { place => $place, kind => $kinds{$kind}, text => $_, sqlstate => $sqlstate } }
		  map { texts($_) } @arguments[ 0 .. ($form eq '_plural' ? 1 : 0) ];
	}
	return @said;
}

# Other strings in the script that consist of lower-case words are shown as messages, too:
# tfstate_check() returns some, and others are raised as obstacles to attaching.
sub said_in_sql
{
	my ($file) = @_;
	my $source = slurp_file($file);
	my $text = qr/'((?:[^']|'')*)'/;
	my @said;

	# comments are not messages, nor are the COMMENTs on objects
	$source =~ s/--.*//g;
	$source =~ s/^COMMENT ON [^;]+ IS\s+$text;/"\n" x ($& =~ tr,\n,,)/gem;
	while ($source =~ /\bRAISE (EXCEPTION|WARNING|NOTICE) $text(.*?);\n/gs)
	{
		my ($level, $message, $rest, $start) = ($1, $2, $3, $-[0]);
		my ($condition) = $rest =~ /ERRCODE = '(\w+)'/;
		my %said = (place => place($file, $source, $start));

		is($rest !~ /ERRCODE = /, $level ne 'EXCEPTION', "$said{place} has an SQLSTATE if it is an exception");
		$said{sqlstate} = $sqlstate{ uc $condition } // die "$said{place}: $condition is no condition"
		  if $condition;
		push @said, { %said, kind => 'message', text => $message };
		push @said, { %said, kind => lc $1, text => $2 } while $rest =~ /\b(DETAIL|HINT) = $text/g;
	}
	while ($source =~ /$text/g)
	{
		my ($words, $start) = ($1, $-[0]);

		push @said, { place => place($file, $source, $start), kind => 'text', text => $words =~ s/%%/%/gr }
		  if $words =~ /^[a-z"%][^\n]* [^\n]* [^\n]* /;
	}
	$_->{text} =~ s/''/'/g foreach @said;
	return @said;
}

#
# What the tests have seen
#

# Returns the fixed parts of a text.
sub fixed_parts
{
	my ($text) = @_;
	return split(/%(?:-?[0-9.*]*(?:z|l*)[a-zA-Z]|(?=[^a-zA-Z%]|$))/, $text =~ s/%%/\0/gr);
}

my $outputs = join('', map { slurp_file($_) } glob("$root/expected/*.out $root/test/expected/*.out"));
my @taps = map { slurp_file($_) } grep { !/002_refusals_provoked/ } glob("$root/test/t/*.pl");

# remove the escapes of regular expressions
s/\\([^a-z0-9])/$1/g foreach @taps;

# Returns true if a text, preceded by a pattern, is in an expected output.
sub is_expected
{
	my ($text, $before) = @_;
	my $pattern = join('.*?', map { quotemeta(s/\0/%/gr) } fixed_parts($text));

	$pattern .= '.+' if $text =~ /%[^%]*$/ && $pattern !~ /\.\*\?$/ && $text =~ /%\w+$/;
	return $outputs =~ /$before$pattern/m;
}

# Returns the TAP tests that contain a text.
sub taps
{
	my ($text) = @_;
	my ($longest) = sort { length($b) <=> length($a) } fixed_parts($text);

	return length($longest // '') < 8 ? () : grep { index($_, $longest) >= 0 } @taps;
}

my @said = (
	(map { said_in_c($_) } sort glob("$root/src/*/*.c")),
	map { said_in_sql($_) } sort glob("$root/sql/install/*.sql"));

cmp_ok(scalar(@said), '>', 100, 'the sources have more than 100 messages');
foreach my $said (@said)
{
	my ($kind, $text, $sqlstate) = @$said{qw(kind text sqlstate)};
	my $name = "$said->{place} $kind \"$text\"";
	my @named = taps($text);

	next if $text =~ /^%s?$/ || $unreachable{$text};
	ok(@named || is_expected($text, ''), "$name is provoked");
	next if $kind ne 'message' || !$sqlstate;
	ok((grep { /$sqlstate/ } @named) || is_expected($text, "$sqlstate: +"),
		"$name is provoked with SQLSTATE $sqlstate");
}

# Each exception is needed.
foreach my $text (sort keys %unreachable)
{
	ok((grep { $_->{text} eq $text } @said), "\"$text\" is in the sources");
	ok(!is_expected($text, '') && !taps($text), "\"$text\" is not provoked");
}

done_testing();
