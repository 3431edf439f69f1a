# Texts that are cut in messages, in databases with several encodings and with a client in
# UTF-8: every cut falls between two characters, and the views show the texts whole.

use strict;
use warnings;

use Encode;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

# The encodings of the databases, each with the character that is to be cut
my %characters = (
	UTF8 => "\x{6771}",
	LATIN1 => "\x{e9}",
	EUC_JP => "\x{6771}",
	SQL_ASCII => "\x{6771}");

my $node = tfstate_node('cut_messages', conf => "fsync = off\ntfstate.history = all\n");

$ENV{PGCLIENTENCODING} = 'UTF8';

# Returns a text as a client in UTF-8 gets it, or undef if it is cut within a character.
sub decoded
{
	my ($bytes) = @_;
	return eval { Encode::decode('UTF-8', $bytes, Encode::FB_CROAK | Encode::LEAVE_SRC) };
}

sub literal
{
	return "'" . Encode::encode('UTF-8', $_[0]) . "'";
}

# Runs a statement that must be refused; tests the SQLSTATE and the start of the message.
sub refused
{
	my ($session, $sql, $code, $text, $what) = @_;

	$session->query($sql);
	is($session->sqlstate, $code, "$what: the SQLSTATE");
	my $error = decoded($session->{err} =~ s/.*?ERROR:  \w{5}: //sr);
	is(substr($error // 'cut within a character', 0, length($text)), $text, "$what: the start of the message");
	return;
}

foreach my $encoding (sort keys %characters)
{
	my $database = lc $encoding;
	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	$node->safe_psql($database, 'CREATE EXTENSION tfstate');

	my ($holder, $other) = map { session($node, dbname => $database) } 1, 2;
	my $c = $characters{$encoding};

	$holder->query_safe("DO \$\$ BEGIN PERFORM tfstate_attach('tf', 'states'); END \$\$");
	# the cut falls on each byte of the character
	foreach my $n (0 .. 3)
	{
		my $what = "$encoding, $n";
		my $start = 'a' x $n;
		my $text = $start . $c x 300;
		my $name = "w$n$c";
		my $w = literal("tf.states/$name");
		my $long = literal($start . $c x int((1000 - $n) / length(Encode::encode('UTF-8', $c))));
		my $state = sub {
			literal(qq({"version":4,"serial":$_[0],"lineage":"$_[1]","resources":[{"type":"t","name":"n","instances":[{}]}]}));
		};

		# the texts of a holder, and a long lockid
		$holder->query_safe('SET tfstate.who = '
			  . literal($start . $c x 60)
			  . "; SELECT tfstate_lock($long, jsonb_build_object('ID', 'i', 'Operation', @{[literal($text)]}, 'Info', @{[literal($text)]}))");
		refused($other, "SELECT tfstate_lock($long)", '55P03', "state lock \"$start$c", "$what, conflict");
		refused($other, "SELECT tfstate_unlock($long, @{[literal($start . $c x 60)]})",
			'55000', "state lock \"$start$c", "$what, another ID");
		is(decoded($other->query_safe("SELECT lockid = $long, operation, info ->> 'Info' FROM tfstate_holders WHERE id = 'i'")),
			"t|$text|$text", "$what: tfstate_holders shows the texts whole");
		ok(defined decoded($other->query_safe("SELECT tfstate_force_unlock($long, reason => @{[literal($text)]})")),
			"$what: tfstate_force_unlock() returns the texts whole");
		is(decoded($other->query_safe("SELECT reason FROM tfstate_history WHERE lockid = $long")),
			$text, "$what: tfstate_history shows the texts whole");

		# the last writer of a state, and its lineage
		$holder->query_safe(
			"SELECT tfstate_lock($w); INSERT INTO tf.states (name, data) VALUES (@{[literal($name)]}, @{[$state->(2, $text)]})");
		refused($holder, "UPDATE tf.states SET data = @{[$state->(1, $text)]} WHERE name = @{[literal($name)]}",
			'55000', "cannot change the state of workspace \"tf.states/$name\"", "$what, serial");
		refused($holder, "UPDATE tf.states SET data = @{[$state->(3, qq(x$text))]} WHERE name = @{[literal($name)]}",
			'55000', "cannot change the state of workspace \"tf.states/$name\"", "$what, lineage");
		refused($other, "UPDATE tf.states SET data = @{[$state->(3, $text)]} WHERE name = @{[literal($name)]}",
			'55006', "cannot change the state of workspace \"tf.states/$name\"", "$what, held");
		refused($other, "SELECT tfstate_pg.pg_try_advisory_lock(id) FROM tf.states WHERE name = @{[literal($name)]}",
			'55P03', "state lock \"tf.states/$name\" is held", "$what, shim");
		is(decoded($other->query_safe("SELECT lineage, lock_who FROM tfstate_versions($w)")),
			$text . '|' . $start . $c x 60, "$what: tfstate_versions shows the texts whole");
		$holder->query_safe("SELECT tfstate_unlock($w)");
	}
	is($node->safe_psql($database, "SELECT count(*) FROM tfstate_verify('*', true)"), 0, "$encoding: the states are as recorded");
	is( $node->safe_psql($database, "SELECT problem FROM tfstate_check() WHERE object = 'database'"),
		$encoding eq 'UTF8' ? '' : "the encoding of the database is $encoding: a state with other characters cannot be written",
		"$encoding: tfstate_check() works");
	$_->quit foreach $holder, $other;
}

# A setting that is given before the library is loaded, in another encoding
{
	local $ENV{PGOPTIONS} = "-c tfstate.who=\xe9";
	my $session = session($node, dbname => 'utf8');

	$session->query("SELECT tfstate_lock('x')");
	like($session->{err}, qr/DETAIL:  The value is not valid in encoding "UTF8"\./, 'a setting in another encoding is refused with the reason');
	$session->quit;
}

is_deeply([ grep { /PANIC|was terminated by signal/ } split /\n/, slurp_file($node->logfile) ],
	[], 'the server log has no warning or error');
done_testing();
