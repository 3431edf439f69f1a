# Databases whose encoding is not UTF-8: states and locks are shown, and tfstate_check() says
# what cannot be stored there.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

my $node = tfstate_node('encodings');
$ENV{PGCLIENTENCODING} = 'UTF8';
my $umlaut = "\xc3\xbc";
my $euro = "\xe2\x82\xac";    # not in LATIN1

foreach my $encoding ('LATIN1', 'SQL_ASCII')
{
	my $database = lc $encoding;
	$node->safe_psql('postgres', "CREATE DATABASE $database ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	my $sql = sub { return $node->safe_psql($database, $_[0]) };
	my $fails = sub { return ($node->psql($database, $_[0]))[2] };

	$sql->('CREATE EXTENSION tfstate');
	like($sql->(q(SELECT string_agg(problem, ',') FROM tfstate_check() WHERE object = 'database')),
		qr/^the encoding of the database is $encoding: /, "$encoding: tfstate_check() reports the encoding");

	# A state with such characters in a key, an id and an output, escaped and not escaped
	my $state = sub {
		my ($serial) = @_;
		return qq({"version": 4, "terraform_version": "1.11.4", "serial": $serial, "lineage": "$umlaut", )
		  . qq("outputs": {"o$umlaut": {"value": "$umlaut$serial", "type": "string"}, "e": {"value": "\\u00fc\\u20ac", "type": "string"}}, )
		  . qq("resources": [{"mode": "managed", "type": "t", "name": "n", "instances": [{"index_key": "k$umlaut", "attributes": {"id": "$umlaut"}},)
		  . qq( {"index_key": "\\u00fc\\u20ac", "attributes": {"id": "$serial"}}]}]});
	};
	$sql->("SELECT tfstate_attach('tf'); CREATE TABLE kept (n int, t text)");
	foreach my $serial (1, 2)
	{
		my $text = $state->($serial);
		$sql->(qq(SELECT tfstate_lock('tf.states/w$umlaut', mode => 'session');
			INSERT INTO tf.states (name, data) VALUES ('w$umlaut', \$\$$text\$\$) ON CONFLICT (name) DO UPDATE SET data = excluded.data;
			SELECT tfstate_unlock('tf.states/w$umlaut')));
	}
	is($sql->(qq(SELECT workspace, serial, lineage FROM tfstate_states('*/w*'))), "tf.states/w$umlaut|2|$umlaut", "$encoding: tfstate_states() shows the state");
	is($sql->(qq(SELECT workspace, version, lineage FROM tfstate_workspaces WHERE serial = 2)), "tf.states/w$umlaut|2|$umlaut", "$encoding: tfstate_workspaces shows the workspace");
	is($sql->(qq(SELECT tfstate_version('tf.states/w$umlaut', 1))), $state->(1), "$encoding: a version has the text that was written");
	is($sql->(qq(SELECT number, lineage FROM tfstate_versions('tf.states/w$umlaut') ORDER BY 1)), "1|$umlaut\n2|$umlaut", "$encoding: tfstate_versions shows the version");
	is($sql->(q(SELECT index, id FROM tfstate_resources('*/w*'))), "k$umlaut|$umlaut\n\\u00fc\\u20ac|2", "$encoding: resources show characters that the encoding may lack as they are written");
	is($sql->(q(SELECT name, value FROM tfstate_outputs('*/w*') WHERE name <> 'e')), qq(o$umlaut|"${umlaut}2"), "$encoding: outputs show such characters, too");
	is($sql->(q(SELECT name, value IS NULL FROM tfstate_outputs('*/w*') WHERE name = 'e')), 'e|t', "$encoding: no output that jsonb cannot hold is shown");
	is($sql->(qq(SELECT address, change FROM tfstate_diff('tf.states/w$umlaut', 1, 2) ORDER BY address COLLATE "C")),
		"output.o$umlaut|changed\nt.n[\"\\\\u00fc\\\\u20ac\"]|changed", "$encoding: tfstate_diff() shows the change");
	is($sql->(q(SELECT count(*) FROM tfstate_verify(versions => true))), 0, "$encoding: all versions are verified");
	is($sql->(qq(SELECT tfstate_rollback('tf.states/w$umlaut', 1))), 3, "$encoding: a version can be rolled back to");

	# A long Who that is cut in the message, at each byte of a character
	foreach my $pad (0 .. 3)
	{
		my $who = ('x' x $pad) . ($umlaut x 150);
		$sql->(qq(SELECT tfstate_lock('a$umlaut', '{"ID": "1", "Who": "$who", "Operation": "$who", "Info": "$who"}')));
		like($fails->("SELECT tfstate_lock('a$umlaut')"), qr/^psql:.*ERROR: +state lock "a$umlaut" is held by x{$pad}(?:$umlaut)+/,
			"$encoding: a conflict names a long Who that starts $pad bytes later");
		is($sql->(q(SELECT who FROM tfstate_holders)), $who, "$encoding: tfstate_holders shows the long Who whole");
		$sql->("SELECT tfstate_unlock('a$umlaut', '1')");
	}
	next if $encoding eq 'SQL_ASCII';
	like($fails->(qq(SELECT tfstate_lock('$euro'))), qr/ERROR: +character with byte sequence 0xe2 0x82 0xac/, "$encoding: a state with a character that the encoding lacks is refused");
}

$node->stop;
done_testing();
