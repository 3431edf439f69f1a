# The commands and options of tfstate are the same in its help, in its manual page and in
# bash's completion, and its exit statuses in its source, its manual page and the reference.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";

# What the help says: for each command its usage line and its options, sorted
my %help;
foreach my $command (run_help('--help') =~ /^Commands:\n(.*?)\n\n/ms ? $1 =~ /^  ([a-z-]+) /mg : ())
{
	my $text = run_help($command, '--help');
	my ($usage) = $text =~ /^Usage:\n  (.*)$/m;
	my ($own, $connection) = split(/^Connection options:\n/m, $text);

	is(run_help('help', $command), $text, "the help of $command");
	$help{$command} = { usage => $usage, options => options($own), connection => options($connection // '') };
}
cmp_ok(scalar(keys %help), '>=', 27, 'the help names commands');

sub run_help
{
	my ($out, $err) = run_command([ 'tfstate', @_ ]);
	is($err, '', "tfstate @_ reports nothing");
	return $out;
}

# The options at the beginnings of lines, as in "-m --message="
sub options
{
	my @options = map { s/, / /r } $_[0] =~ /^ +((?:-\w, )?--[a-z-]+=?)/mg;
	return [ sort @options ];
}

# What the manual page says, in the same form: a command is a line of .SS, an option a line
# after .TP or .TQ
my (%manual, @connection, $command, $section);
my $tag = 0;
foreach my $line (split(/\n/, slurp_file("$root/doc/tfstate.1")))
{
	my $text = $line =~ s/^\.[A-Z]+ //r =~ s/\\-/-/gr =~ s/\\ / /gr;

	if ($line =~ /^\.SH /)
	{
		($section, $command) = ($text, undef);
	}
	elsif ($line =~ /^\.SS /)
	{
		($command) = $text =~ /^tfstate ([a-z-]+)/;
		$manual{$command} = { usage => $text, options => [] };
	}
	elsif ($tag && $text =~ /^-/)
	{
		# -m  TEXT , --message= TEXT; -w , --no-password; --wait= DURATION
		my $option = join(' ', $text =~ /(?<![\w-])(-\w(?![\w-])|--[a-z-]+=?)/g);
		push @{ $command ? $manual{$command}{options} : \@connection }, $option;
	}
	$tag = $line =~ /^\.T[PQ]/;
}
is_deeply([ sort keys %manual ], [ sort keys %help ], 'the manual page has all commands and no others');
foreach my $name (sort keys %help)
{
	my $has_options = @{ $help{$name}{options} } > 0;

	is($manual{$name}{usage}, $help{$name}{usage}, "the usage of $name in the manual page");
	is_deeply([ sort @{ $manual{$name}{options} } ], $help{$name}{options}, "the options of $name in the manual page");
	is_deeply($name =~ /^(terraform|tofu)$/ ? [] : [ sort @connection ], $help{$name}{connection}, "the connection options of $name in the manual page");
	is($help{$name}{usage} =~ /\[OPTION\]/ ? 1 : 0, $has_options ? 1 : 0, "the usage of $name says whether it has options");
}

# The exit statuses, and in the reference also the commands, are those of the program.
my $statuses = join(' ', sort { $a <=> $b } slurp_file("$root/src/client/client.h") =~ /^#define EXIT_\w+\s+(\d+)/mg);
my ($of_manual) = slurp_file("$root/doc/tfstate.1") =~ /^\.SH EXIT STATUS\n(.*?)^\.SH /ms;
my $reference = slurp_file("$root/doc/reference/client.md");
my ($of_reference, $others) = $reference =~ /^\| exit status of [^\n]*\n(.*?)\n\n(The other commands exit with [^\n]*)/ms;
my ($commands) = $reference =~ /^\| commands \|[^\n]*\n(.*?)\n\n/ms;

is(join(' ', $of_manual =~ /^\.B (\d+)$/mg), $statuses, 'the manual page has all exit statuses and no others');
is(join(' ', sort { $a <=> $b } "$others\n" =~ /\b(\d+)\b/g, map { /\b(\d+)\b(?! \+)/g } $of_reference =~ /^\| ([^|]*) \|/mg),
	$statuses, 'the reference has all exit statuses and no others');
is(join(' ', sort map { /`([a-z-]+)`/g } $commands =~ /^\| ([^|]*) \|/mg), join(' ', grep { !/^(run|terraform|tofu)$/ } sort keys %help),
	'the table of commands in the reference has all others than run and terraform');

# What bash completes at the end of a line, without a server
sub completions
{
	my ($line) = @_;
	local $ENV{PGHOST} = '/nowhere';
	my ($out, $err) = run_command([ 'bash', '--norc', '-c', <<'END', 'bash', "$root/src/client/tfstate.bash", $line ]);
. "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDS=(${2//=/ = })
compopt() { :; }
_tfstate tfstate
printf '%s\n' "${COMPREPLY[@]}"
END
	is($err, '', "completion of \"$line\" reports nothing");
	return [ sort grep { $_ ne '' } split(/\n/, $out) ];
}

is_deeply(completions('tfstate '), [ sort(keys %help, 'help', '--help', '--version') ], 'completion of a command');
is_deeply(completions('tfstate help '), [ sort keys %help ], 'completion of a command for its help');
is_deeply(completions('tfstate re'), [ 'renew', 'repair', 'resources', 'revoke' ], 'completion of the beginning of a command');
foreach my $name (sort keys %help)
{
	my @options = map { s/^-\w //r } @{ $help{$name}{options} }, @{ $help{$name}{connection} };
	is_deeply(completions("tfstate $name -"), [ sort(@options, '--help') ], "completion of the options of $name");
}
is_deeply(completions('tfstate run --mode='), [ 'durable', 'lease', 'session' ], 'completion of a value behind "="');
is_deeply(completions('tfstate terraform --mode=l'), ['lease'], 'completion of the mode for Terraform');
is_deeply(completions('tfstate terraform --wait 1m pl'), ['plan'], 'completion of a command of Terraform');
is_deeply(completions('tfstate run --mode l'), ['lease'], 'completion of a value in a word of its own');
is_deeply(completions('tfstate attach --guard=o'), [ 'off', 'on' ], 'completion of a level of the guard');
is_deeply(completions('tfstate unlock '), [], 'completion of a lockid is empty without a server');
ok((grep { $_ eq 'true' } @{ completions('tfstate run a -- tr') }) > 0, 'completion of the command of a run');
is_deeply(completions("tfstate import --items=$root/READ"), ["$root/README.md"], 'completion of a file in an option');
is_deeply(completions("tfstate import prod=$root/READ"), ["$root/README.md"], 'completion of the file of a workspace');
is_deeply(completions('tfstate grant somebody * '), [ 'admin', 'force', 'lock', 'override', 'view' ], 'completion of a privilege');

done_testing();
