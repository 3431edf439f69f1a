# test/lib/Manual.pm
#
# The manual, README.md and the pages below doc/ that users read, as a test: a page is run from
# its beginning to its end by one shell, in a database and a directory of its own, and what it
# shows has to be what comes out.
#
# manual_pages	returns the pages
# page_blocks	returns the blocks of a page
# run_page		runs a page, and tests what comes out
#
# These are the blocks of a page:
#
#	=# SELECT ...		statements that psql runs as the superuser, and what it prints;
#	=> SELECT ...		the same as the role $viewer
#	$ command			commands of the shell, and what they print (> goes on with a line)
#	```sh, ```sql		commands without their output, which have to succeed
#	```mermaid			a drawing
#	any other			a file or a text, which the comment before it explains
#
# "..." as a line of an output stands for any lines.  Comments, which a reader does not see, say
# more about the next block, or the whole page if they stand above its title:
#
#	<!-- test: COMMANDS -->		COMMANDS are run by the shell before the block
#	<!-- file: NAME -->			the block is the content of this file
#	<!-- run by FILE -->		another test, which names the page, does so
#	<!-- as on PAGE -->			the lines are among the outputs on that page
#	<!-- needs PROGRAM -->		the page is skipped where there is none
#	<!-- in the background -->	the block is run in the background, and shows no output
#
# The shell has the functions of test/lib/manual.sh.
package Manual;

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use IPC::Run;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

our @EXPORT = qw(manual_pages page_blocks run_page);

my $root = "$FindBin::RealBin/../..";
my $me = getpwuid($<) . '@' . (POSIX::uname())[1];

# Returns the names of the pages, or those in the environment variable PAGES.
sub manual_pages
{
	return split(/ /, $ENV{PAGES}) if $ENV{PAGES};
	my @pages = sort map { s{^\Q$root\E/}{}r } glob("$root/README.md $root/doc/README.md $root/doc/{tutorial,howto,reference,explanation}/*.md");
	die 'there is no manual' if @pages < 10;
	return @pages;
}

# Returns the blocks of a page, in order, and what the comments above its title say.  A block is
# a hash: kind ("psql", "shell", "sh", "sql" or "text"), line, text, and what the comments say
# about it, by their first word.
sub page_blocks
{
	my ($page) = @_;
	my @lines = split(/\n/, slurp_file("$root/$page"));
	my (@blocks, %page, %comments);
	my $blank = 1;

	for (my $i = 0; $i < @lines; $i++)
	{
		my $line = $i + 1;

		if ($lines[$i] =~ /^<!-- (test|file|run by|as on|needs|in the background):? ?(.*)/)
		{
			my ($word, $text) = ($1, $2);

			$text .= "\n" . ($lines[ ++$i ] // die "$page:$line: a comment without an end") while $text !~ s/ ?-->$//;
			$comments{$word} .= "$text\n";
		}
		elsif ($lines[$i] =~ /^# / && !@blocks && !%page)
		{
			%page = (title => $lines[$i], map { $_ => $comments{$_} =~ s/\n\z//r } keys %comments);
			%comments = ();
		}
		elsif ($lines[$i] =~ /^```(\w*)$/)
		{
			my ($language, $text) = ($1, '');

			$text .= "$lines[$i]\n" while ++$i < @lines && $lines[$i] ne '```';
			push @blocks, { kind => $language =~ /^(sh|sql)$/ ? $language : 'text', language => $language, line => $line, text => $text, %comments };
			%comments = ();
		}
		elsif ($blank && $lines[$i] =~ /^    \S/)
		{
			my $text = '';

			while ($i < @lines && $lines[$i] =~ /^(    .*|)$/)
			{
				$text .= ($lines[ $i++ ] =~ s/^    //r) . "\n";
			}
			$i--;
			$text =~ s/\n+\z/\n/;
			push @blocks, { kind => $text =~ /^=[#>] /m ? 'psql' : $text =~ /^\$ /m ? 'shell' : 'text', line => $line, text => $text, %comments };
			%comments = ();
		}
		$blank = $lines[$i] =~ /^\s*$|-->$/;
	}
	foreach my $block (@blocks)
	{
		$block->{$_} //= $page{$_} foreach grep { /^run by/ } keys %page;
		chomp $block->{$_} foreach grep { defined $block->{$_} } 'file', 'run by', 'as on';
	}
	return (\@blocks, \%page);
}

# Splits a block with prompts into what is typed and what is expected.
sub split_block
{
	my ($block) = @_;
	my ($typed, $expected, $inside) = ('', '', 0);

	foreach my $line (split(/\n/, $block->{text}))
	{
		if ($block->{kind} eq 'psql')
		{
			$inside = 1 if $line =~ s/^=[#>] //;
			$inside ? ($typed .= "$line\n") : ($expected .= "$line\n");
			$inside = 0 if $line =~ /;$/;
		}
		else
		{
			$line =~ s/^[\$>] // ? ($typed .= "$line\n") : ($expected .= "$line\n");
		}
	}
	return ($typed, $expected);
}

# Returns what the shell runs for a block, or nothing.
sub block_script
{
	my ($block) = @_;
	my ($typed) = split_block($block);
	my %runner = (
		sh => 'run_shell',
		shell => 'run_shell',
		sql => 'run_psql -q -o /dev/null -v ON_ERROR_STOP=1',
		psql => 'run_psql'
		  . ($block->{text} =~ /^=> /m ? ' -U "$viewer"' : '')
		  . ($typed =~ /tfstate_(?:attach|configuration)\(/ ? ' -qAt' : ''));

	return "cat >'$block->{file}' <<'END_OF_BLOCK'\n$block->{text}END_OF_BLOCK\n" if $block->{file};
	$typed = $block->{text} if $block->{kind} =~ /^(sh|sql)$/;
	return '' unless exists $runner{ $block->{kind} };
	return "$runner{ $block->{kind} } "
	  . (defined $block->{'in the background'} ? ">/dev/null 2>&1 <<'END_OF_BLOCK' &" : "<<'END_OF_BLOCK'")
	  . "\n${typed}END_OF_BLOCK\n";
}

# Replaces what differs each time, by something of the same width where that is fixed.
sub normal
{
	my ($text) = @_;

	$text =~ s/\e\[[0-9;]*m//g;
	$text =~ s/\Q$me\E/alice\@laptop/g;
	$text =~ s/\bOpenTofu\b/Terraform/g;
	$text =~ s/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/20c0c4fe-cecc-4368-acbd-2514cee03c88/g;
	$text =~ s/\d{4}-\d\d-\d\d([ T])/2026-11-23$1/g;
	$text =~ s/\d\d:\d\d:\d\d/00:00:00/g;
	# how wide the columns of a table are, and how many bytes a version takes
	if ($text =~ /^-+[+]-/m)
	{
		$text =~ s/\d+$/1000/mg if $text =~ /[|] stored *$/m;
		$text =~ s/ +/ /g;
		$text =~ s/-+/-/g;
	}
	$text =~ s/(?<=\@)(?:HOST|127\.0\.0\.1|localhost):\d+(.*sslmode)=\w+/HOST:5432$1=require/g;
	$text =~ s/^# HOST: .*\n//mg;
	$text =~ s/(?<=00:00:00)[.]\d+Z?/.123456/g;
	$text =~ s/\s+$//mg;
	$text =~ s/^\n+//;
	return "$text\n";
}

# Returns a text on one line, in which it does not matter how it was wrapped.
sub joined
{
	my ($text) = @_;
	return normal($text) =~ s/^[\x{e2}\x{94}\x{95}\x{82}\x{b5}\x{b7}\x{b4}\x{a4}]+//mgr =~ s/\s+/ /gr =~ s/^ //r =~ s/-+/-/gr;
}

# Tests that an output is what is expected; where that has "...", wrapping does not matter.
sub output_is
{
	my ($output, $expected, $test) = @_;

	if ($expected =~ /^\.\.\.$/m)
	{
		my $pattern = join('.*', map { quotemeta(joined($_)) } split(/^\.\.\.\n/m, $expected, -1));
		like(joined($output), qr/\A$pattern\z/, $test);
	}
	else
	{
		is(normal($output), normal($expected), $test);
	}
}

# Runs a page on a server, and tests that its commands succeed and print what it shows, and that
# each of its blocks is tested somehow.
sub run_page
{
	my ($node, $page) = @_;
	my ($blocks, $about) = page_blocks($page);
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $script = "exec 2>&1\n. '$root/test/lib/manual.sh'\n";
	my @runs;

	foreach my $block (@$blocks)
	{
		my $name = "$page:$block->{line}";

		next if ($block->{language} // '') eq 'mermaid';    # a drawing
		if (my $by = $block->{'run by'})
		{
			ok(-f "$root/$by" && slurp_file("$root/$by") =~ /\Q$page\E/, "$name: $by names the page");
		}
		elsif (my $other = $block->{'as on'})
		{
			my $shown = joined(join('', map { $_->{text} } grep { $_->{kind} ne 'text' } @{ (page_blocks($other))[0] }));
			is(join('', grep { index($shown, joined($_)) < 0 } split(/(?<=\n)\n/, $block->{text})), '', "$name: the text is in the outputs on $other");
		}
		else
		{
			my $commands = block_script($block);

			ok($commands, "$name: a block that is tested") or next;
			push @runs, $block;
			$script .= "$block->{test}\n" if $block->{test};
			$script .= "printf '\\n\\036begin %d\\n' $block->{line}\n$commands\nprintf '\\n\\036end %d\\n' \$?\n";
		}
	}
	return if !@runs;

	$node->safe_psql('postgres', 'CREATE DATABASE states');
	$node->safe_psql('states', 'CREATE EXTENSION tfstate');
	my $roles = $node->safe_psql('postgres', 'SELECT array_agg(oid) FROM pg_roles');
	append_to_file("$dir/script", $script);
	my $output = '';
	{
		local %ENV = (%ENV,
			PGHOST => '127.0.0.1', PGPORT => $node->port, PGDATABASE => 'states', PGUSER => scalar(getpwuid($<)),
			HOME => $dir, TERM => 'dumb', LC_ALL => 'C.UTF-8', TZ => 'UTC', USER => 'alice');
		delete @ENV{ 'PGAPPNAME', 'PGOPTIONS', 'PSQLRC' };
		IPC::Run::run([ 'bash', '--norc', "$dir/script" ], '<', \undef, '>', \$output, '2>&1', init => sub { chdir($dir) or die $! }, IPC::Run::timeout(120));
	}
	my %shown;
	while ($output =~ /\x{1e}begin (\d+)\n(.*?)\n\x{1e}end (\d+)\n/sg)
	{
		$shown{$1} = [ $2, $3 ];
	}
	foreach my $block (@runs)
	{
		my $name = "$page:$block->{line}";
		my ($text, $status) = @{ $shown{ $block->{line} } || [ "the shell has ended: $output", -1 ] };

		if ($block->{kind} =~ /^(psql|shell)$/ && !$block->{file} && !defined $block->{'in the background'})
		{
			output_is($text, (split_block($block))[1], "$name: the output");
		}
		else
		{
			is($status, 0, "$name: it succeeds") or diag($text);
		}
	}
	note($output);

	$node->safe_psql('postgres', 'DROP DATABASE states (FORCE)');
	$node->safe_psql('postgres', $_)
	  foreach split(/\n/, $node->safe_psql('postgres', "SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE oid <> ALL ('$roles')"));
	return;
}

1;
