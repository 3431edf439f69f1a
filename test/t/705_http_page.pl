# The pages of tfstate serve: what they show to whom, that nothing in a name becomes markup,
# that the commands on them work, long lists, and how they look to Chromium, if it is there.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Browser;
use Digest::SHA qw(sha256_base64);
use Encode qw(decode_utf8 encode_utf8);
use HttpServer;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

http_or_skip();

my $node = http_node('http_page');
my $server = HttpServer->new($node);
my ($list, $html);

http_role($node, 'bob');
$node->safe_psql('postgres', "CREATE ROLE eve LOGIN PASSWORD 'secret' IN ROLE http");
sql("SELECT tfstate_revoke('bob', 's.states/*'), tfstate_grant('bob', 's.states/w1'), tfstate_grant('alice', '*', 'view')");

sub encoded
{
	return encode_utf8($_[0]) =~ s/([^A-Za-z0-9._~-])/sprintf('%%%02X', ord($1))/ger;
}

# What a browser shows for a text in HTML
sub shown
{
	return $_[0] =~ s/<[^>]*>//gr =~ s/&#(\d+);/chr($1)/ger;
}

# What is wrong with the HTML of a page, in words; the pages leave out no end tag
sub problems
{
	my ($html) = @_;
	my (@open, @problems, %ids, %targets);

	push @problems, 'no doctype' unless $html =~ s/^<!DOCTYPE html>\n//;
	push @problems, 'not UTF-8' unless utf8::decode(my $copy = $html);
	$html =~ s/<style>.*?<\/style>//s;
	while ($html =~ /\G([^<]*)(?:<(\/?)([a-z1-6]+)((?: [a-z0-9-]+(?:="[^"<>]*")?)*)(\/?)>)?/gc)
	{
		my ($text, $end, $name, $attributes, $empty) = ($1, $2, $3, $4, $5);

		push @problems, "'$1' in a text" if "$text$attributes" =~ /(&(?!#\d+;).{0,20}|[\x01-\x09\x0b-\x1f\x7f])/;
		push @problems, "'$text' in a text" if $text =~ /[>"]/;
		last unless defined $name;
		push @problems, "attribute $1" if $attributes =~ /( (?:on\w+|style|src)=)/;
		push @problems, "link to $1" if $attributes =~ / href="((?:\w+:|\/)[^"]*)"/ && $1 ne 'data:,';
		push @problems, "id $1 twice" if $attributes =~ / id="([^"]*)"/ && $ids{$1}++;
		$targets{$1} = 1 if $attributes =~ / (?:for|aria-labelledby)="([^"]*)"/;
		push @problems, 'th without scope' if $name eq 'th' && !$end && $attributes !~ /scope="(col|row)"/;
		push @problems, "element $name" if $name =~ /^(script|iframe|object|embed|img|base)$/;
		next if $empty || $name =~ /^(meta|link|input)$/;
		if (!$end)
		{
			push @open, $name;
		}
		elsif ((pop @open // '') ne $name)
		{
			push @problems, "</$name> ends something else";
			last;
		}
	}
	push @problems, 'it ends early, before ' . substr($html, pos($html) // 0, 40) if (pos($html) // 0) < length($html);
	push @problems, map { "not ended: $_" } @open;
	push @problems, map { "there is no id $_" } grep { !$ids{$_} } sort keys %targets;
	pos($html) = 0;
	push @problems, 'not one h1' if (() = $html =~ /<h1>/g) != 1;
	return join('; ', @problems);
}

# Gets a page and tests its status and its HTML.  Returns that, decoded and without its style.
sub page
{
	my ($path, $test, %params) = @_;
	my ($status, $content) = ($params{server} || $server)->request('GET', path => $path, %params);

	is($status, $params{status} || 200, $test) or diag($content);
	is(problems($content), '', "$test: the HTML is correct");
	return decode_utf8($content) =~ s/<style>.*?<\/style>//sr;
}

sub workspace_path
{
	return '/-/workspace?lockid=' . encoded($_[0]);
}

# What a page has between two tags, as it is shown
sub between
{
	my ($html, $begin, $end) = @_;
	return map { shown($_) } $html =~ /$begin(.*?)$end/gs;
}

sub state_text
{
	my ($serial, @resources) = @_;

	return encode_json({
		version => 4, serial => $serial, lineage => 'x', terraform_version => '1.11.4', outputs => {}, resources => [
			map { my ($name, $value) = split(/=/);
				{ mode => 'managed', type => 't', name => $name, provider => 'p', instances => [ { attributes => { id => "id-$name", x => $value } } ] } }
			  @resources ] });
}

# Writes states of a workspace, each under a lock of its own.
sub write_states
{
	my ($name, @states) = @_;

	foreach my $state (@states)
	{
		$node->safe_psql('postgres', qq(
			SET tfstate.who = 'al\@laptop';
			SELECT tfstate_lock('s.states/' || \$n\$$name\$n\$, '{"ID":"x","Who":"al\@laptop","Operation":"apply"}');
			INSERT INTO s.states (name, data) VALUES (\$n\$$name\$n\$, \$s\$$state\$s\$) ON CONFLICT (name) DO UPDATE SET data = excluded.data;
			SELECT tfstate_unlock('s.states/' || \$n\$$name\$n\$, 'x')));
	}
	return;
}

#
# What the answer is, whatever it shows
#
$list = page('/', 'the first page');
my %headers = %{ $server->{headers} };
my ($style) = ($server->request('GET', path => '/'))[1] =~ /<style>(.*?)<\/style>/s;
is($headers{'content-type'}, 'text/html; charset=utf-8', 'it is HTML');
is($headers{'content-security-policy'},
	"default-src 'none'; style-src 'sha256-" . sha256_base64($style) . "='; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
	'nothing but its own style is used');
is($headers{'x-content-type-options'}, 'nosniff', 'nothing else is made of it');
is($headers{'referrer-policy'}, 'no-referrer', 'no name in an address is told to others');
is($headers{'cache-control'}, 'no-store', 'nobody keeps it');
is($headers{'cross-origin-resource-policy'}, 'same-origin', 'no other site has it as a part');
like($list, qr/<meta name="viewport" content="width=device-width, initial-scale=1">/, 'it knows of phones');
like($list, qr/<html lang="en">/, 'it names its language');
like($list, qr/database <bdi>postgres<\/bdi>, as role <bdi>alice<\/bdi>/, 'it says for whom it is');
like($list, qr/As of <time datetime="20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ">20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC<\/time>/, 'and of when');
$server->answers('HEAD', 200, qr/^$/, 'HEAD', path => '/');
cmp_ok($server->{headers}{'content-length'}, '>', 1000, 'it tells the length');
foreach my $method (qw(POST PUT DELETE LOCK UNLOCK PATCH))
{
	$server->answers("$method of a page", 405, qr/only to be read/, $method, path => '/', body => 'x');
	is($server->{headers}{allow}, 'GET, HEAD', 'it says what is allowed');
}
$server->answers("$_ without credentials", 401, qr/password/, 'GET', path => $_, user => '') foreach '/', '/-/workspace', '/-/version';
$server->answers("$_ with a wrong password", 401, qr/wrong user or password/, 'GET', path => $_, password => 'x') foreach '/', '/-/workspace';
$server->answers("GET $_", 400, qr/address/, 'GET', path => $_) foreach '/-', '/-/', '/-/x', '//', '/-/workspace/', '/index.html', '/-/workspace',
  '/-/workspace?lockid=', '/-/workspace?lockid=%zz', '/-/workspace?lockid=a%00b', '/-/workspace?x=1';
$server->answers('a table with the name of a page', 400, qr/there is no table "-".workspace/, 'GET', path => '/-/workspace/a');

#
# A workspace
#
write_states('w1', state_text(1, 'a', 'b'), state_text(2, 'a=1', 'c'), state_text(3, map { "r$_" } 1 .. 30));
sql("DELETE FROM s.states WHERE name = 'w2'");
$server->request('LOCK', path => '/s/states/w1', body => lock_info(ID => 'by-http', Who => 'carol@ci', Info => 'https://ci.example/1?a&b'));
my $waiter = session($node);
$waiter->send("SELECT tfstate_lock('s.states/w1', wait => '1 min')");
wait_for('a waiter', sub { sql("SELECT count(*) FROM tfstate_waiters") == 1 });

$list = page('/', 'the list');
like($list, qr/1 held or waited for, .*<a href="\.\/-\/workspace\?lockid=s\.states%2Fw1"><bdi>s\.states\/w1<\/bdi><\/a>.*carol\@ci.*OperationTypeApply/s, 'it has the lock');
like($list, qr/http<\/span> durable, taken by Terraform's http backend/, 'how it was taken');
like($list, qr/1 waiting: <bdi>\w+<\/bdi>/, 'who waits');
like($list, qr/2 in the attached tables.*s\.states\/default.*free.*s\.states\/w1.*held<\/span> by <bdi>carol\@ci<\/bdi>.*serial 3<small>30 resources/s, 'and the workspaces');

$html = page(workspace_path('s.states/w1'), 'a workspace');
like(shown($html), $_->[0], "it has $_->[1]")
  foreach [ qr/Holdercarol\@ci/, 'the holder' ], [ qr/InfoHttps?:\/\/ci.example\/1\?a&b/i, 'the info' ], [ qr/IDby-http/, 'the ID' ],
  [ qr/Rolealice/, 'the role' ], [ qr/1 waiting.*Waits since\s+1\w+tap/s, 'the queue' ], [ qr/Serial3\nLineagex\nMade by version1\.11\.4/, 'the state' ],
  [ qr{Address for Terraform/s/states/w1}, 'its address' ], [ qr/4 times that it was held/, 'the history' ],
  [ qr/Version 3.*27 added|Version 3serial 3.*30 added, 0 changed, 2 removed/s, 'what the last version changed' ],
  [ qr/Version 2serial 2.*1 added, 1 changed, 1 removed.*added t\.c\n.*Version 1/s, 'what the one before changed' ],
  [ qr/Version 1serial 1.*the first that is kept, with 2 resources/s, 'the first version' ],
  [ qr/30 in the state.*t\.r1id-r1p/s, 'the resources' ];
like($html, qr/<svg role="img" aria-labelledby="timeline".*al\@laptop.*<rect class="bar now".*<rect class="bar unlock".*<\/svg>/s, 'it has a timeline');
$html = page('/-/version?lockid=s.states%2Fw1&number=2', 'a version');
like(shown($html), $_->[0], "it has $_->[1]")
  foreach [ qr/^Version 2 - tfstate/m, 'a title' ], [ qr/Byal\@laptop\nForapply\nSerial2/, 'who wrote it' ], [ qr/SHA-256[0-9a-f]{64}/, 'its digest' ],
  [ qr/Since version 1: 1 added, 1 changed, 1 removed\s+changed t\.a\nremoved t\.b\nadded t\.c/, 'its changes' ], [ qr/Version 1Version 3/, 'its neighbours' ];
page("/-/version?lockid=s.states%2Fw1$_", "a version that is not there: $_", status => 404) foreach '&number=9', '&number=x', "&number='", '';

# a deletion, a workspace made anew, an erased version and a damaged one
write_states('w3', state_text(1, 'a'), state_text(2, 'b'), state_text(3, 'c'), state_text(4, 'd'));
sql("SELECT tfstate_lock('s.states/w3', '{\"ID\":\"y\"}'); DELETE FROM s.states WHERE name = 'w3'; SELECT tfstate_unlock('s.states/w3', 'y')");
write_states('w3', state_text(1, 'a'), state_text(2, 'b'));
sql("SELECT tfstate_erase('s.states/w3', '{2}', 'a <secret>')");
$html = page(workspace_path('s.states/w3'), 'a workspace that was deleted');
like(shown($html), $_->[0], "it has $_->[1]")
  foreach [ qr/Version 5.*the workspace was deleted/, 'the deletion' ], [ qr/Version 6.*made anew, with 1 resources/, 'the creation after it' ],
  [ qr/Version 3.*that of the version before was erased/, 'the version after the erased one' ], [ qr/Version 2.*its text was erased/, 'the erased one' ];
sql("UPDATE tfstate_internal.stored_version SET content = 'x' WHERE lockid = 's.states/w3' AND number = 7");
$html = page(workspace_path('s.states/w3'), 'a workspace with a damaged version');
like(shown($html), qr/Version 7.*Not shown: .*Version 6.*made anew/s, 'the damage is shown where it is');

#
# Odd names
#
my @odd = (
	'<script>alert(1)</script>', q("'&<>), q(' onmouseover='alert(1)), '&lt;', '*', '?a=b&c#d%', '../..', "tab\tnew\nline\x01\x7f", "\x{5e9}\x{5dc}\x{5d5}\x{5dd}",
	"gpj.\x{202e}exe", "\x{1f600}\x{e9}\x{200b}\x{85}\x{feff}", '-x', 'a b', q(\\), q($(touch x)`x`), '%s%n%d', 'x' x 200);
foreach my $odd (@odd)
{
	my $info = encode_json({ ID => "-$odd", Who => $odd, Operation => $odd, Info => $odd });

	$node->safe_psql('postgres', "SELECT tfstate_lock('s.states/' || \$n\$@{[ encode_utf8($odd) ]}\$n\$, \$i\$$info\$i\$)");
	write_states('seen ' . encode_utf8($odd), encode_utf8('{"version":4,"serial":1,"lineage":' . JSON::PP->new->allow_nonref->encode($odd) . '}'))
	  if $odd !~ /\x01/;
}
$list = page('/', 'a list of odd names');
foreach my $odd (@odd)
{
	my $visible = $odd =~ s/([\x00-\x1f\x7f-\x9f\x{200b}\x{202e}\x{feff}])/sprintf('[U+%04X]', ord($1))/ger;
	my $path = workspace_path("s.states/$odd");
	my $link = '.' . $path;
	my ($holder, $sql, $shell);

	like($list, qr/<a href="\Q$link\E"><bdi>/, encode_utf8("the link to $visible"));
	is((grep { $_ eq $visible } between($list, qr{<td data-label="Holder"><bdi>}, qr{</bdi>}))[0], $visible, 'it is shown as the holder');
	$html = page($path, 'its page');
	is((between($html, '<h1>', '</h1>'))[0], "s.states/$visible", 'its heading');
	is((between($html, '<title>', '</title>'))[0], "s.states/$visible - tfstate", 'its title');
	is((between($html, '<dt>Holder</dt><dd>', '</dd>'))[0], $visible, 'its holder');

	# the commands release just that
	($shell, $sql) = map { encode_utf8($_) } between($html, '<pre><code>', '</code></pre>');
	if (length($odd) % 2)
	{
		local @ENV{qw(PGHOST PGPORT PGUSER)} = ($node->host, $node->port, (getpwuid($>))[0]);
		my $result = IPC::Run::run([ 'bash', '-c', $shell =~ s/force-unlock/force-unlock --yes/r ], '<', \undef, '>&', \my $out);
		is($? >> 8, 0, "the command for the shell works: $shell") or diag($out);
	}
	else
	{
		$node->safe_psql('postgres', $sql);
	}
	is($node->safe_psql('postgres', "SELECT count(*) FROM tfstate_holders WHERE lockid = 's.states/' || \$n\$@{[ encode_utf8($odd) ]}\$n\$"), 0,
		"its lock is released by a command of the page: $sql");
}
is(sql('SELECT count(*) FROM tfstate_holders'), 1, 'no other lock is released by them');
like(page('/?search=' . encoded(q("><b>&')), 'a search for markup'), qr/value="&#34;&#62;&#60;b&#62;&#38;&#39;"/, 'it stays in its field');

# bytes that are no characters, in a database that allows them
$node->safe_psql('postgres', q(CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'));
$node->safe_psql('ascii', q(CREATE EXTENSION tfstate; SELECT tfstate_grant('alice', '*', 'view');
	SELECT tfstate_lock(E'a<\xff\xe2\x80', '{"ID":"x\"","Who":"<b>"}')));
my $ascii = HttpServer->new($node, options => [ '-d', 'ascii' ]);
like(page('/', 'bytes that are no characters', server => $ascii), qr/<bdi>a&#60;\x{fffd}\x{fffd}\x{fffd}<\/bdi>/, 'they are replaced');
$html = page('/-/workspace?lockid=a%3C%FF%E2%80', 'the page of such a name', server => $ascii);
is((between($html, 'In SQL:</p>\n<pre><code>', '</code>'))[0], q{SELECT public.tfstate_force_unlock(E'a<\xff\xe2\x80', 'x"');}, 'its command');
$node->safe_psql('ascii', (between($html, 'In SQL:</p>\n<pre><code>', '</code>'))[0]);
is($node->safe_psql('ascii', 'SELECT count(*) FROM tfstate_holders'), 0, 'it works');
$ascii->stop;

#
# What is behind a lock
#
my $session = session($node);
$session->query_safe("SELECT tfstate_lock('d/session', '{\"ID\":\"1\"}', mode => 'session'), tfstate_lock('d/connected', '{\"ID\":\"2\"}')");
sql("SELECT tfstate_lock('d/lease', '{\"ID\":\"3\"}', ttl => '1 hour'); SELECT tfstate_lock('d/orphan', '{\"ID\":\"4\"}')");
sql("SELECT tfstate_freeze('d/*', 'for <maintenance>')");
foreach my $lock ([ 'd/session', qr/alive session/ ], [ 'd/connected', qr/alive durable/ ], [ 'd/lease', qr/lease ends in (59|60|2|1) (minutes|hour)/ ],
	[ 'd/orphan', qr/orphan durable/ ])
{
	like(shown(page(workspace_path($lock->[0]), "lock $lock->[0]")), $lock->[1], 'what is behind it');
}
$html = page(workspace_path('d/session'), 'a session lock');
like($html, qr/force-unlock -d postgres --terminate d\/session 1</, 'its session has to be ended');
like($html, qr/Frozen: <bdi>d\/\*<\/bdi>.*for &#60;maintenance&#62;/, 'it is frozen');
unlike($html, qr/id="(versions|resources|state)"/, 'it is no workspace');
like(page('/', 'the list'), qr/Frozen: <bdi>d\/\*<\/bdi>/, 'the list has the freeze');
sql("SELECT tfstate_unfreeze('d/*')");

#
# Who sees what
#
like(shown(page('/', 'a role without a grant', user => 'eve')), qr/None is held or waited for that role eve is shown\..*Role eve is shown none here\. It takes the privilege view/s, 'it is shown nothing, and why');
$html = page('/', 'a role that may lock one workspace', user => 'bob');
like($html, qr/1 held or waited for.*s\.states\/w1/s, 'it sees its lock');
unlike($html, qr/d\/session|s\.states\/w3/, 'and no other');
$html = page(workspace_path('s.states/w1'), 'the page of it', user => 'bob');
like(shown($html), qr/Holdercarol\@ci.*1 waiting/s, 'it has the holder and the queue');
unlike($html, qr/id="(state|versions|resources)"|al\@laptop/, 'no state, versions or history');
my $hidden = page(workspace_path('s.states/w3'), 'the page of another', user => 'bob', status => 404);
my $missing = page(workspace_path('s.states/no'), 'one that does not exist', user => 'bob', status => 404);
$missing =~ s/states(.)no/states$1w3/g;
is($hidden =~ s/<time.*?<\/time>//gr, $missing =~ s/<time.*?<\/time>//gr, 'look the same');
page('/-/version?lockid=s.states%2Fw1&number=1', 'a version of it', user => 'bob', status => 404);
page(workspace_path($_), "$_ to a role without a grant", user => 'eve', status => 404) foreach 's.states/w1', 's.states/*', '*';
sql("SELECT tfstate_grant('eve', 's.states/w*', 'view')");
like(shown(page(workspace_path('s.states/w1'), 'a role that may view', user => 'eve')), qr/Serial3.*Version 3.*30 in the state/s, 'it is shown all of it');
page(workspace_path($_), "a role that may view others: $_", user => 'eve', status => 404) foreach 's.states/default', 'd/session', 's.states/*';
sql("REVOKE USAGE ON SCHEMA public FROM PUBLIC");
like(shown(page('/', 'a role without the schema', user => 'eve')), qr/Not shown: permission denied for schema public/, 'is told so');
sql("GRANT USAGE ON SCHEMA public TO PUBLIC");

#
# Long lists
#
sql("INSERT INTO s.states (name, data) SELECT 'many' || lpad(i::text, 3, '0'), '' FROM generate_series(1, 250) i, set_config('tfstate.guard', 'off', true)");
sql("SELECT count(*) FROM generate_series(1, 120) i, tfstate_lock('many/' || lpad(i::text, 3, '0'), '{\"Who\":\"m\"}')");
$list = page('/?search=many', 'a search');
like($list, qr/120 held or waited for.*Page 1 of 3.*<a href="\?search=many&#38;locks=2#locks" rel="next">Next/s, 'has a page of the locks')
  or diag($list);
like($list, qr/250 in the attached tables.*Page 1 of 3.*<a href="\?search=many&#38;workspaces=2#workspaces" rel="next">Next/s, 'and one of the workspaces');
is(() = $list =~ /<tr><th scope="row">/g, 150, 'of bounded size');
like(page('/?search=many&workspaces=3&locks=3', 'the last page'), qr/many\/120.*Previous.*Page 3 of 3<\/li><\/ul>.*many250.*Previous.*Page 3 of 3<\/li><\/ul>/s, 'it is the end');
like(shown(page("/?search=many&workspaces=$_", "page $_")), qr/There are no more\.Page 1/, 'there is none') foreach 4, '99999999999999999999', 1000000;
like(page("/?search=many&workspaces=$_", "page $_"), qr/Page 1 of 3.*Page 1 of 3/s, 'is the first') foreach 0, -1, 'x', '1x', '%27';
like(page('/?search=s.*%2Fmany00*', 'a pattern'), qr/9 in the attached/, 'is one');
like(page('/?search=al+ert%2B', 'a plus'), qr/value="al ert\+"/, 'is a space, and its code a plus');
page('/?search=' . 'x' x 3000, 'a long search');
write_states('long', map { state_text($_, 'a=' . $_) } 1 .. 45);
$html = page(workspace_path('s.states/long') . '&versions=2', 'a page of versions');
like(shown($html), qr/45 kept.*Version 25.*0 added, 1 changed, 0 removed.*Version 6.*PreviousPage 2 of 3Next/s, 'has the second twenty');
unlike($html, qr/Version (26|5)</, 'and no more');
write_states('wide', state_text(1, map { "r$_" } 1 .. 3000), state_text(2, map { "r$_=1" } 1 .. 3000));
like(shown(page(workspace_path('s.states/wide') . '&resources=15', 'a page of resources')), qr/3000 in the state.*Page 15 of 15/s, 'is the last one');
like(shown(page('/-/version?lockid=s.states%2Fwide&number=2&changes=15', 'a page of changes')),
	qr/0 added, 3000 changed, 0 removed.*changed t\.r999\n.*Page 15 of 15/s, 'is the last one');
my $large = state_text(1, map { "r$_=" . 'x' x 100000 } 1 .. 50);
write_states('large', $large, $large =~ s/"serial":1/"serial":2/r, $large =~ s/"serial":1/"serial":3/r);
like(shown(page(workspace_path('s.states/large'), 'large versions')), qr/Version 3.*compare version 3.*compare version 2/s, 'are compared one by one');
my $huge = state_text(4, map { "r$_=" . 'x' x 100000 } 1 .. 90);
write_states('large', $huge);
unlike(page(workspace_path('s.states/large'), 'a large state'), qr/id-r1/, 'its resources are not read at once');
like(page(workspace_path('s.states/large') . '&resources=1', 'a large state, and its resources'), qr/90 in the state.*id-r1/s, 'but on request');
page(workspace_path('s.states/no') . "&$_=2", "page 2 of the $_ of nothing", status => 404) foreach qw(history versions resources);

# a connection that breaks while a page is made
sql(q{ALTER EXTENSION tfstate DROP VIEW tfstate_freezes; ALTER VIEW tfstate_freezes RENAME TO kept;
	CREATE VIEW tfstate_freezes AS SELECT * FROM kept WHERE pg_terminate_backend(pg_backend_pid());
	INSERT INTO tfstate_internal.freeze (pattern, reason, who, role, since) VALUES ('*', '', '', 'alice', now());
	GRANT SELECT ON tfstate_freezes TO PUBLIC});
$server->answers("$_ over a broken connection", 503, qr/connection to the database was lost/, 'GET', path => $_) foreach '/', workspace_path('s.states/w1');
sql('DROP VIEW tfstate_freezes; ALTER VIEW kept RENAME TO tfstate_freezes; ALTER EXTENSION tfstate ADD VIEW tfstate_freezes; DELETE FROM tfstate_internal.freeze');

#
# What a browser makes of it
#
SKIP:
{
	my $browser = browser();
	skip('no chromium-headless-shell or chromium', 1) unless $browser;

	# everything that is text, with too little contrast to what is behind it
	my $faint = q{
		(() => {
			const parts = c => { const m = c.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m };
			const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
				return 0.2126 * r + 0.7152 * g + 0.0722 * b };
			const behind = e => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor); if (c[3] > 0) return c } return [255, 255, 255, 1] };
			const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
			const faint = [];
			let seen = 0;
			while (walker.nextNode()) {
				const e = walker.currentNode.parentElement;
				if (!walker.currentNode.data.trim() || e.closest('rect, svg > title')) continue;
				seen++;
				const style = getComputedStyle(e);
				const [a, b] = [parts(e.closest('svg') ? style.fill : style.color), behind(e)].map(c => light(c.slice(0, 3)) + 0.05).sort((x, y) => y - x);
				if (a / b < 4.5) faint.push(e.outerHTML + ' ' + a / b);
			}
			return seen > 20 ? faint.slice(0, 3).join() : 'no text';
		})()};

	foreach my $path ('/', workspace_path('s.states/w1'), workspace_path("s.states/$odd[0]"), '/-/version?lockid=s.states%2Fwide&number=2')
	{
		foreach my $width (0, 360)
		{
			foreach my $dark (0, 1)
			{
				my $test = "$path" . ($width ? ' on a phone' : '') . ($dark ? ' in the dark' : '');

				is($browser->open_page("$server->{url}$path", user => 'alice', width => $width, dark => $dark), 200, $test);
				is(join("\n", map { $_->{params}{entry}{text} } $browser->events(qr/^Log.entryAdded$/)), '', "$test: nothing to complain of");
				is(scalar($browser->events(qr/^Page.javascriptDialogOpening$|^Runtime.exceptionThrown$/)), 0, "$test: nothing is executed");
				is(scalar(grep { $_->{params}{request}{url} !~ /^data:/ } $browser->events(qr/^Network.requestWillBeSent$/)), 1, "$test: nothing is loaded");
				cmp_ok($browser->value('document.documentElement.scrollWidth - innerWidth'), '<=', 0, "$test: nothing is off the screen");
				is($browser->value($faint), '', "$test: all can be read");
			}
		}
	}
	my %roles;
	$roles{ $_->{role}{value} }++ foreach @{ $browser->command('Accessibility.getFullAXTree')->{nodes} };
	is($roles{heading} >= 2 && $roles{main} == 1, 1, 'who hears the page finds its headings');
	$browser->open_page("$server->{url}/", user => 'alice', width => 360);
	%roles = ();
	$roles{ $_->{role}{value} }++ foreach @{ $browser->command('Accessibility.getFullAXTree')->{nodes} };
	cmp_ok($roles{$_} || 0, '>=', 2, "and also on a phone: $_") foreach qw(table row columnheader rowheader cell);
	is($browser->value('document.scripts.length'), 0, 'there is no script');

	# with the keyboard alone
	$browser->press('Tab', 9);
	is($browser->value('document.activeElement.className + document.activeElement.getBoundingClientRect().left'), 'skip16', 'Tab shows a link to the content');
	$browser->press('Enter', 13);
	is($browser->value('location.hash'), '#main', 'Enter goes there');
	my %outlines;
	foreach (1 .. 6)
	{
		$browser->press('Tab', 9);
		$outlines{ $browser->value('getComputedStyle(document.activeElement).outlineStyle') }++;
	}
	is(join(' ', keys %outlines), 'solid', 'what has the focus is marked');
	$browser->value("document.getElementById('search').focus()");
	$browser->press($_, ord(uc $_)) foreach qw(w);
	$browser->command('Input.insertText', text => 'w3');
	$browser->{events} = [];
	$browser->press('Enter', 13);
	push @{ $browser->{events} }, $browser->receive until $browser->events(qr/^Page.loadEventFired$/);
	is($browser->value('location.search + document.querySelector("#workspaces + table caption").textContent'), '?search=w31 in the attached tables', 'the search works');
}

is(sql('SELECT count(*) FROM tfstate_verify() WHERE workspace NOT LIKE \'%w3\''), 0, 'the pages have changed nothing');
done_testing();
