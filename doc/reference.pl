#!/usr/bin/perl
# doc/reference.pl DIRECTORY
#
# Writes the generated parts of the pages of the reference in a directory, which begin and end
# with comments: from the comments in the catalogue of the database that libpq's environment
# names, where tfstate has been created in schema public, and from the help of the program
# tfstate in the PATH.  doc/reference.sh runs it; test/t/322_reference.pl tests that it changes
# nothing.

use strict;
use warnings;

my ($dir) = @ARGV;
my $all = "n.nspname = 'tfstate_pg' OR n.nspname = 'public' AND p.proname LIKE 'tfstate%'";

# Returns the rows of a query, each an array.  The library, and so its settings, are loaded.
sub query
{
	my ($sql) = @_;
	local $ENV{PGCLIENTENCODING} = 'UTF8';
	open(my $psql, '-|', 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-F', "\x1f", '-R', "\x1e",
		'-c', "DO \$\$ BEGIN PERFORM tfstate_matches('', ''); END \$\$", '-c', $sql) or die "psql: $!";
	local $/;
	my $out = <$psql> // '';
	close($psql) or die "psql failed: $sql";
	$out =~ s{\n\z}{};
	return map { [ split(/\x1f/, $_, -1) ] } split(/\x1e/, $out);
}

# Makes of a comment in the catalogue a sentence.
sub sentence
{
	my ($text) = @_;
	$text = ucfirst($text);
	$text .= '.' if $text !~ /[.]\z/;
	return $text;
}

# Shows as code what stands in a comment in double quotes, and what can be nothing else.
sub marked
{
	my ($text) = @_;
	$text =~ s/"([\w-]+)"/`$1`/g;
	$text =~ s/(?<![\w`])((?:tfstate|pg)[_.]\w+(?:\(\))?)/`$1`/g;
	$text =~ s/\*/\\*/g;
	return $text;
}

# Functions

my @groups = (
	[ 'Locks', qr/^tfstate_(try_lock|lock|wait_lock|unlock|renew|force_unlock|holders|waiters|history|freeze|unfreeze)$/ ],
	[ 'Privileges', qr/^tfstate_(grant|revoke|has_privilege|matches)$/ ],
	[ 'Setting up', qr/^tfstate_(attach|detach|configuration|cleanup|check|lockid)/ ],
	[ 'States', qr/^tfstate_(states|versions?|rollback|undelete|erase|verify|repair|prune.*|resources|outputs|diff)$/ ],
	[ 'What Terraform calls', qr/^pg_/ ],
	[ 'Others', qr// ]);
my %functions;
my %errors;    # by SQLSTATE: the functions that can raise it, and why

foreach my $row (query("SELECT CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END, p.proname, p.prokind,
		pg_get_function_arguments(p.oid), coalesce(pg_get_function_result(p.oid), ''), p.proretset, t.typtype, t.typrelid,
		(SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
		   FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped),
		obj_description(p.oid, 'pg_proc')
	  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_type t ON t.oid = p.prorettype
	 WHERE $all ORDER BY p.oid"))
{
	my ($schema, $name, $kind, $arguments, $result, $set, undef, $relation, $columns, $comment) = @$row;
	my ($group) = map { $_->[0] } grep { $name =~ $_->[1] } @groups;
	my @arguments = map { s/^IN //r =~ s/::[a-z ]+(?:\[\])?//r =~ s/'00:00:00'/'0'/r } grep { !/^(?:IN)?OUT / } split(/, /, $arguments);
	my ($brief, @rest) = split(/\n/, $comment);
	my ($privilege, $errors) = map { my $word = $_; join(' ', @rest) =~ /\b$word: (.*?)[.](?= Errors: |\z)/ ? $1 : '' } 'Privilege', 'Errors';
	my $details = join(' ', @rest) =~ s/ ?\b(?:Privilege|Errors): .*//sr;
	my $text = "### $name\n\n```sql\n" . ($kind eq 'p' ? 'CALL ' : '') . "$schema$name(" . join(",\n    ", join(', ', @arguments) =~ /.{100}/ ? ('', @arguments) : join(', ', @arguments)) . ')';

	$text =~ s/\(,\n/(\n/;
	$result =~ s/^(SETOF )?TABLE\(/SETOF (/;
	$result = ($set eq 't' ? 'SETOF ' : '') . "($columns)" if $relation && $columns;
	$text .= "\n" . ($result =~ s/^(SETOF )?\(/$1 ? "RETURNS $1(" : 'RETURNS ('/er =~ s/^(?!RETURNS)/RETURNS /r) if $kind ne 'p';
	$text =~ s/(.{1,100}) /length($1) > 90 ? "$1\n    " : "$1 "/ge;
	$text .= "\n```\n\n" . marked(sentence($brief) . ($details ? " $details" : '')) . "\n";
	my @facts;
	push @facts, "Privilege: $privilege." if $privilege;
	push @facts, "Errors: $errors." if $errors;
	$text .= "\n" . marked(join(' ', @facts)) . "\n" if @facts;
	push @{ $functions{$group} }, $text;

	foreach my $error (split(/; /, $errors))
	{
		$error =~ /^(\w{5})(?: (.*))?$/ and push @{ $errors{$1} }, [ $name, $2 // '' ];
	}
}
my $functions = join("\n", map { $functions{ $_->[0] } ? ("## $_->[0]\n", @{ $functions{ $_->[0] } }) : () } @groups);
$functions =~ s/^```sql$/<!-- run by test\/t\/322_reference.pl -->\n```sql/mg;

# Views

my $views = '';
my $last = '';
foreach my $row (query("SELECT c.relname, obj_description(c.oid, 'pg_class'), a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum)
	  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v' AND c.relname LIKE 'tfstate%' ORDER BY c.oid, a.attnum"))
{
	my ($view, $about, $column, $type, $comment) = @$row;

	$views .= "\n## $view\n\n" . marked(sentence($about)) . "\n\n| column | type | |\n|---|---|---|\n" if $view ne $last;
	$views .= "| `$column` | `$type` | " . marked($comment) . " |\n";
	$last = $view;
}

# Settings

my $settings = "| setting | default | values | who can set it | meaning |\n|---|---|---|---|---|\n";
foreach my $row (query("SELECT name, CASE WHEN unit IS NULL THEN boot_val ELSE boot_val || ' ' || unit END,
		CASE vartype WHEN 'enum' THEN array_to_string(enumvals, ', ') WHEN 'integer' THEN 'from ' || min_val WHEN 'bool' THEN 'on, off' ELSE 'text' END,
		CASE context WHEN 'user' THEN 'everybody' WHEN 'superuser' THEN 'superusers' ELSE 'the server''s configuration' END,
		short_desc || coalesce(' ' || extra_desc, '')
	  FROM pg_settings WHERE name LIKE 'tfstate.%' ORDER BY name COLLATE \"C\""))
{
	my ($name, $default, $values, $who, $meaning) = @$row;
	$default = $default eq '' ? '' : "`$default`";
	$settings .= "| `$name` | $default | $values | $who | " . marked($meaning) . " |\n";
}

# SQLSTATEs: their names are PL/pgSQL's

my %condition = (
	'0A000' => 'feature_not_supported',
	'22004' => 'null_value_not_allowed', '22023' => 'invalid_parameter_value', '22032' => 'invalid_json_text',
	'25000' => 'invalid_transaction_state', '2D000' => 'invalid_transaction_termination', '42501' => 'insufficient_privilege',
	'42704' => 'undefined_object', '42710' => 'duplicate_object', '42809' => 'wrong_object_type', '42939' => 'reserved_name',
	'53400' => 'configuration_limit_exceeded', '54000' => 'program_limit_exceeded', '55000' => 'object_not_in_prerequisite_state',
	'55006' => 'object_in_use', '55P03' => 'lock_not_available', 'XX001' => 'data_corrupted');
my $sqlstates = "| SQLSTATE | condition | functions |\n|---|---|---|\n";
foreach my $sqlstate (sort keys %errors)
{
	my %by;
	push @{ $by{ $_->[1] } }, "`$_->[0]`" foreach @{ $errors{$sqlstate} };
	die "no name of $sqlstate" if !$condition{$sqlstate};
	$sqlstates .= "| $sqlstate | `$condition{$sqlstate}` | " . join('; ', map { marked($_ =~ s/(.+)/$1: /r) . join(', ', @{ $by{$_} }) } sort keys %by) . " |\n";
}

# The client

sub help
{
	open(my $tfstate, '-|', 'tfstate', @_) or die "tfstate: $!";
	local $/;
	return scalar(<$tfstate>);
}

my $overview = help('--help');
my $client = "\n";
foreach my $command ($overview =~ /^Commands:\n(.*?)\n\n/ms ? $1 =~ /^  ([a-z-]+) /mg : ())
{
	my $text = help($command, '--help') =~ s/\n+Connection options:\n.*//sr;
	$client .= "### tfstate $command\n\n<!-- run by test/t/322_reference.pl -->\n```text\n" . ($text =~ s/\n*\z/\n/r) . "```\n\n";
}
my ($connection) = help('ls', '--help') =~ /^(Connection options:\n.*)/ms;
$client .= "### Connection options\n\nAll commands but `terraform`, `tofu` and, in part, `serve` have them.\n\n<!-- run by test/t/322_reference.pl -->\n```text\n"
  . ($connection =~ s/\n*\z/\n/r) . "```\n";

# Puts a text in place of the generated part of a page.
sub put
{
	my ($page, $text) = @_;

	open(my $file, '<:raw', "$dir/$page") or die "$page: $!";
	my $content = do { local $/; <$file> };
	$content =~ s/(?<=<!-- generated by doc\/reference\.sh -->\n).*(?=<!-- end of what is generated -->)/\n$text\n/s or die "$page has no generated part";
	$content =~ s/\n{3,}/\n\n/g;
	open($file, '>:raw', "$dir/$page") or die "$page: $!";
	print $file $content;
	close($file) or die "$page: $!";
}

put('functions.md', $functions);
put('views.md', $views);
put('settings.md', $settings);
put('sqlstates.md', $sqlstates);
put('client.md', $client);
