# Every refusal is provoked: each message of the library and of the install script, with
# its detail, its hint and its SQLSTATE, stands in the expected output of a regression or
# isolation test, or is looked for by a TAP test.
#
# The sources are read, not run.  A text counts as provoked if a line of an expected
# output has it, or if a TAP test names its longest fixed part.  An SQLSTATE counts as
# seen if it stands before the message there, as fails() of test/lib/regress_helpers.sql and
# VERBOSITY verbose show it, or anywhere in the TAP test that names the message.
#
# What no test can provoke goes into %unreachable, with the reason.

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
	  'takes a state of 700 MB, and as much memory several times',
	'could not send signal to process %d: %m' =>
	  'the server may signal each of its processes, and one that is gone counts as ended');

my $root = "$FindBin::RealBin/../..";

# The SQLSTATE of each condition, by its name in C without ERRCODE_
my %sqlstate;
{
	chomp(my $include = `pg_config --includedir-server`);
	my $errcodes = slurp_file("$include/utils/errcodes.h");

	$sqlstate{$1} = $2 =~ tr/0-9A-Z//cdr
	  while $errcodes =~ /^#define ERRCODE_(\w+) MAKE_SQLSTATE\((.*)\)/mg;
}

# Where in a file a place in its text is
sub place
{
	my ($file, $text, $place) = @_;
	return ($file =~ s,^\Q$root\E/,,r) . ':' . (1 + (substr($text, 0, $place) =~ tr/\n//));
}

#
# What the sources can say: hashes with place, kind, text and sqlstate.  A text is a
# format, of printf() or of RAISE.
#

# The texts in an expression of C: literals that stand side by side are one.
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

# The arguments of the call that begins at a place in a text of C.
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

	# what stands in comments is not said
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
			next if $level ne 'ERROR';	# where no test shows it
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

# Other texts in the script are lower-case words, which are shown as messages as well
# (tfstate_check() shows some, and what stands in the way of attaching is raised).
sub said_in_sql
{
	my ($file) = @_;
	my $source = slurp_file($file);
	my $text = qr/'((?:[^']|'')*)'/;
	my @said;

	# what stands in comments is not said, nor what is said of objects
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

# The fixed parts of a text
sub fixed_parts
{
	my ($text) = @_;
	return split(/%(?:-?[0-9.*]*(?:z|l*)[a-zA-Z]|(?=[^a-zA-Z%]|$))/, $text =~ s/%%/\0/gr);
}

my $outputs = join('', map { slurp_file($_) } glob("$root/expected/*.out $root/test/expected/*.out"));
my @taps = map { slurp_file($_) } grep { !/002_refusals_provoked/ } glob("$root/test/t/*.pl");

# without what a regular expression has to escape
s/\\([^a-z0-9])/$1/g foreach @taps;

# Is it in an expected output, behind something?
sub is_expected
{
	my ($text, $before) = @_;
	my $pattern = join('.*?', map { quotemeta(s/\0/%/gr) } fixed_parts($text));

	$pattern .= '.+' if $text =~ /%[^%]*$/ && $pattern !~ /\.\*\?$/ && $text =~ /%\w+$/;
	return $outputs =~ /$before$pattern/m;
}

# The TAP tests that name it
sub taps
{
	my ($text) = @_;
	my ($longest) = sort { length($b) <=> length($a) } fixed_parts($text);

	return length($longest // '') < 8 ? () : grep { index($_, $longest) >= 0 } @taps;
}

my @said = (
	(map { said_in_c($_) } sort glob("$root/src/*/*.c")),
	map { said_in_sql($_) } sort glob("$root/sql/tfstate--*.sql"));

cmp_ok(scalar(@said), '>', 100, 'the sources say something');
foreach my $said (@said)
{
	my ($kind, $text, $sqlstate) = @$said{qw(kind text sqlstate)};
	my $name = "$said->{place} $kind \"$text\"";
	my @named = taps($text);

	next if $text =~ /^%s?$/ || $unreachable{$text};
	ok(@named || is_expected($text, ''), "$name is provoked");
	next if $kind ne 'message' || !$sqlstate;
	ok((grep { /$sqlstate/ } @named) || is_expected($text, "$sqlstate: +"),
		"and with $sqlstate");
}

# The exceptions are needed.
foreach my $text (sort keys %unreachable)
{
	ok((grep { $_->{text} eq $text } @said), "\"$text\" is in the sources");
	ok(!is_expected($text, '') && !taps($text), 'and is not provoked');
}

done_testing();
