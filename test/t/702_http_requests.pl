# The requests of Terraform's http backend, one by one: what each answers, that each can be
# repeated, odd names, wrong bodies, who may do what, and two servers behind one address.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Digest::MD5 qw(md5_base64);
use HttpServer;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

http_or_skip();

my $node = http_node('http_requests');
my $server = HttpServer->new($node);
my $other = HttpServer->new($node);    # another one on the same database

http_role($node, 'bob');

sub state_text
{
	my ($serial, $lineage, $more) = @_;
	my $resource = '{"mode":"managed","type":"t","name":"n","instances":[{"attributes":{"id":"1"}}]}';

	return sprintf('{"version":4,"serial":%d,"lineage":"%s","outputs":{},"resources":[%s]%s}',
		$serial, $lineage || 'x', $resource, $more || '');
}

sub md5
{
	return md5_base64($_[0]) . '==';
}

my $info = lock_info();
my $id = decode_json($info)->{ID};
my $info2 = lock_info(Who => 'other');
my $id2 = decode_json($info2)->{ID};

#
# The ordinary order of things
#
$server->answers('GET of an empty workspace', 200, qr/"serial":0/, 'GET');
$server->answers('LOCK', 200, qr/^$/, 'LOCK', body => $info);
$server->answers('LOCK again with its ID', 200, qr/^$/, 'LOCK', body => $info);
$other->answers('LOCK again, to another server', 200, qr/^$/, 'LOCK', body => $info);
my $holder = decode_json($server->answers('LOCK by somebody else', 423, qr/^\{/, 'LOCK', body => $info2));
is_deeply($holder, { %{ decode_json($info) }, Path => 's.states/default' }, 'it answers the info of the holder, as it was given');
is($server->{headers}{'content-type'}, 'application/json', 'as JSON');
$server->answers('LOCK with that ID by another role', 423, qr/"ID" : "$id"/, 'LOCK', body => $info, user => 'bob');
$server->answers('POST without an ID', 409, qr/its lock is held by al\@laptop/, 'POST', body => state_text(1));
$server->answers('POST with another ID', 409, qr/its lock is held by al\@laptop/, 'POST', body => state_text(1), id => $id2);
$server->answers('POST with the ID by another role', 409, qr/its lock is held by al\@laptop/,
	'POST', body => state_text(1), id => $id, user => 'bob');
$server->answers('POST', 200, qr/^$/, 'POST', body => state_text(1), id => $id, headers => { 'Content-MD5' => md5(state_text(1)) });
$server->answers('POST again', 200, qr/^$/, 'POST', body => state_text(1), id => $id);
$other->answers('POST of the next state to another server', 200, qr/^$/, 'POST', body => state_text(2), id => $id);
$other->answers('POST of the state before', 409, qr/serial 1, but serial 2 was written by al\@laptop/, 'POST', body => state_text(1), id => $id);
$server->answers('POST of another project', 409, qr/belongs to another project/, 'POST', body => state_text(3, 'y'), id => $id);
$server->answers('PUT', 200, qr/^$/, 'PUT', body => state_text(3), id => $id);
$server->answers('GET', 200, qr/^\Q@{[ state_text(3) ]}\E$/, 'GET');
is($server->{headers}{'content-md5'}, md5(state_text(3)), 'with its digest');
is($server->{headers}{'cache-control'}, 'no-store', 'and nobody keeps it');
$server->answers('HEAD', 200, qr/^$/, 'HEAD');
is($server->{headers}{'content-length'}, length(state_text(3)), 'HEAD tells the length');
$server->answers('DELETE without an ID', 409, qr/its lock is held/, 'DELETE');
$server->answers('UNLOCK with another ID', 409, qr/is not held under ID "$id2"/, 'UNLOCK', body => $info2);
$server->answers('UNLOCK by another role', 403, qr/Only members of role "alice"/, 'UNLOCK', body => $info, user => 'bob');
$server->answers('UNLOCK', 200, qr/^$/, 'UNLOCK', body => $info);
$server->answers('UNLOCK again', 200, qr/^$/, 'UNLOCK', body => $info);
$other->answers('UNLOCK again, to another server', 200, qr/^$/, 'UNLOCK', body => $info);
$server->answers('POST after it', 409, qr/does not hold its lock, or has lost it, and the state was last written by al\@laptop/,
	'POST', body => state_text(4), id => $id);
$server->answers('POST without an ID after it, on the same connection to the server', 409, qr/does not hold its lock/, 'POST', body => state_text(4));
$server->answers('DELETE without an ID after it', 409, qr/does not hold its lock/, 'DELETE');
is(sql("SELECT string_agg(number || ' ' || who || ' ' || lock_id, ',' ORDER BY number) FROM tfstate_versions WHERE number > 1"),
	"2 al\@laptop $id,3 al\@laptop $id,4 al\@laptop $id", 'each state is a version, by the holder');

# repeated while another run has the lock: a role that may see the history knows better
$other->answers('LOCK by the next run', 200, qr/^$/, 'LOCK', body => $info2);
$server->answers('UNLOCK of the run before, repeated', 409, qr/not held under ID/, 'UNLOCK', body => $info);
sql("SELECT tfstate_grant('alice', 's.states/*', 'view')");
$server->answers('the same by a role that may view', 200, qr/^$/, 'UNLOCK', body => $info);
is(sql('SELECT id FROM tfstate_holders'), $id2, 'it has released nothing');
sql("SELECT tfstate_force_unlock('s.states/default')");
$server->answers('UNLOCK of what was released by force', 409, qr/is not held/, 'UNLOCK', body => $info2);
$server->answers('POST after that', 409, qr/has lost its lock \(it was released by force\)/, 'POST', body => state_text(5), id => $id2);
sql("SELECT tfstate_revoke('alice', 's.states/*', 'view')");
$server->answers('DELETE by the run that unlocked it last', 409, qr/does not hold its lock/, 'DELETE', id => $id);
$server->answers('LOCK', 200, qr/^$/, 'LOCK', body => $info);
$server->answers('DELETE under the lock', 200, qr/^$/, 'DELETE', id => $id);
$server->answers('DELETE again', 200, qr/^$/, 'DELETE', id => $id);
$server->answers('GET of a workspace that is gone', 404, qr/there is no workspace s.states\/default/, 'GET');
$server->answers('POST makes it anew, under the lock', 200, qr/^$/, 'POST', body => state_text(1, 'z'), id => $id);
$server->answers('UNLOCK', 200, qr/^$/, 'UNLOCK', body => $info);
$server->answers('DELETE without an ID', 409, qr/does not hold its lock/, 'DELETE');
$server->answers('DELETE by the run that unlocked it last', 200, qr/^$/, 'DELETE', id => $id);
$server->answers('POST to a workspace that is gone', 409, qr/cannot create workspace/, 'POST', body => state_text(1, 'z'), id => $id);

$server->answers('LOCK', 200, qr/^$/, 'LOCK', body => $info);
$server->answers('POST with the ID behind something else', 200, qr/^$/, 'POST', body => state_text(2, 'z'), path => "/s/states/default?a=b&ID=$id");
$server->answers('DELETE in the same way', 200, qr/^$/, 'DELETE', path => "/s/states/default?x&y=&ID=$id&z");
$server->answers('UNLOCK', 200, qr/^$/, 'UNLOCK', body => $info);

sql("SET tfstate.guard = off; INSERT INTO s.states (name, data) VALUES ('void', '')");
$server->answers('GET of a workspace with an empty text', 204, qr/^$/, 'GET', path => '/s/states/void');
sql("SET tfstate.guard = off; DELETE FROM s.states WHERE name = 'void'");

#
# tfstate run --http: all locks of the command are renewed
#
{
	my ($in, $out) = ('', '');
	my $lock = q(curl -s -u "$TF_HTTP_USERNAME:$TF_HTTP_PASSWORD" -X LOCK -d "$1" "${TF_HTTP_ADDRESS%/*}/$2");
	my $run = IPC::Run::start(
		[
			'tfstate', 'run', '--http', '--ttl=5', '-d', $node->connstr('postgres') . ' user=alice', 's.states/default', '--',
			'sh', '-c', "lock() { $lock; }; lock '$info' one; lock '$info2' two; echo locked; read line"
		],
		'<', \$in, '>', \$out);
	my $expiry = 'SELECT extract(epoch FROM min(expires_at)) FROM tfstate_holders HAVING count(*) = 2';

	wait_for('the locks', sub { $run->pump_nb; $out =~ /locked/ });
	my $first = sql($expiry);
	ok(wait_for('their renewal', sub { my $now = sql($expiry); $now eq '' || $now > $first + 2 }) && sql($expiry), 'run --http: both locks are renewed');
	$in = "go on\n";
	$run->finish;
	is(sql('SELECT count(*) FROM tfstate_holders'), 0, 'run --http: both are released');
}

#
# force-unlock
#
my $only_id = sub { lock_info(ID => $_[0], map({ $_ => '' } qw(Operation Info Who Version Path)), Created => '0001-01-01T00:00:00Z') };

sql("SELECT tfstate_lock('s.states/default', '{\"ID\":\"psql\"}')");
foreach my $form ([ body => $only_id->('psql') ], [ id => 'psql' ])
{
	$server->answers("force-unlock by $form->[0] of what another role has locked", 403, qr/permission denied/, 'UNLOCK', @$form);
	sql("SELECT tfstate_grant('alice', 's.states/*', 'force')");
	$server->answers("force-unlock by $form->[0] of another ID", 409, qr/not held under ID/, 'UNLOCK',
		$form->[0] eq 'id' ? (id => 'no') : (body => $only_id->('no')));
	$server->answers("force-unlock by $form->[0]", 200, qr/^$/, 'UNLOCK', @$form);
	is(sql("SELECT how || ': ' || reason FROM tfstate_history WHERE id = 'psql' ORDER BY fence DESC LIMIT 1"),
		'force: force-unlock by HTTP', 'it is recorded');
	sql("SELECT tfstate_revoke('alice', 's.states/*', 'force')");
	$server->answers("force-unlock by $form->[0] of what is not held", 409, qr/is not held/, 'UNLOCK', @$form);
	sql("SELECT tfstate_lock('s.states/default', '{\"ID\":\"psql\"}')");
}
sql("SELECT tfstate_force_unlock('s.states/default')");
$server->answers('force-unlock that does not say what', 400, qr/TF_HTTP_UNLOCK_ADDRESS=.*\?ID=/, 'UNLOCK');

#
# The info of any holder is one that Terraform can read
#
my %created = (
	'2026-11-28T09:00:00.123456789Z' => 1, '2024-02-29T23:59:59+05:30' => 1, '2026-02-29T00:00:00Z' => 0,
	'2026-11-28 09:00:00Z' => 0, '2026-11-28T09:00:60Z' => 0, '2026-11-28T09:00:00' => 0, '2026-13-01T00:00:00Z' => 0,
	'2026-11-28T09:00:00.Z' => 0, '2026-11-28T09:00:00+24:00' => 0, 'yesterday "\\' => 0, '' => 0);
foreach my $created (sort keys %created)
{
	my $given = encode_json({ ID => "a\"b\n\x{e9}", Created => $created, Who => "\x{1f600}\\", More => 1 });

	$node->safe_psql('postgres', "SELECT tfstate_lock('s.states/default', \$i\$$given\$i\$)");
	my $answer = decode_json($server->answers("LOCK where Created is \"$created\"", 423, undef, 'LOCK', body => $info));
	is(join(' ', sort keys %$answer), 'Created ID Info Operation Path Version Who', 'the answer has seven keys');
	is((grep { ref } values %$answer) + 0, 0, 'all of them strings');
	is($answer->{Created}, $created, 'it has that') if $created{$created};
	like($answer->{Created}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'it has when the lock was taken') unless $created{$created};
	sql("SELECT tfstate_force_unlock('s.states/default')");
}
my $stock = session($node);
$stock->query_safe("SELECT tfstate_attach('t')");
my $key = $stock->query_safe("SELECT id FROM t.states WHERE name = 'default'");
sql("SELECT tfstate_attach('t', role => 'alice')");
$stock->query_safe("SELECT pg_catalog.pg_advisory_lock($key)");
my $unknown = decode_json($server->answers('LOCK while a stock Terraform has it', 423, undef, 'LOCK', body => $info, path => '/t/states/default'));
is($unknown->{ID}, 'unknown', 'nobody knows its ID');
is($unknown->{Created}, '0001-01-01T00:00:00Z', 'or since when');
$stock->quit;

# what is frozen is locked, too, with the reason in what every Terraform shows
sql(q(SELECT count(*) FROM tfstate_freeze('s.*', E'upgrade of "everything"\\n\\\\')));
my $frozen = decode_json($server->answers('LOCK of what is frozen', 423, undef, 'LOCK', body => $info));
is(join(' ', sort keys %$frozen), 'Created ID Info Operation Path Version Who', 'the answer is a lock info');
like($frozen->{ID}, qr/^state lock "s.states\/default" is frozen by .*: upgrade of "everything".*\\$/, 'it tells the reason');
$server->answers('POST to what is frozen', 409, qr/it is frozen by .*: upgrade of "everything"/, 'POST', body => state_text(99, 'z'), id => $id);
sql("SELECT tfstate_unfreeze('s.*')");

# while a transaction is about to take it, the request waits for what comes of that
my $taking = session($node);
$taking->query_safe("BEGIN; SELECT tfstate_lock('s.states/default', '{\"Who\":\"taking\"}')");
$server->answers('LOCK while another transaction takes it', 423, undef, 'LOCK', body => $info);
$taking->query_safe('ROLLBACK');
$taking->quit;

#
# Odd names
#
my %odd = (
	'a%20b' => 'a b', '%2F' => '/', 'a%2Fb%25' => 'a/b%', '%22%27' => q("'), '%C3%A9' => "\xc3\xa9", '*' => '*', '..' => '..',
	'a?' => 'a', 'select' => 'select', '%3Fx' => '?x', 'a+b' => 'a+b');
foreach my $path (sort keys %odd)
{
	my $own = lock_info();
	my $name = $odd{$path} =~ s/'/''/gr;

	$server->answers("LOCK of workspace $path", 200, qr/^$/, 'LOCK', path => "/s/states/$path", body => $own);
	is(sql("SELECT count(*) FROM tfstate_holders WHERE lockid = 's.states/$name'"), 1, "its name is $odd{$path}");
	$server->answers("POST of workspace $path", 200, qr/^$/, 'POST', path => "/s/states/" . ($path =~ s/\?//r), body => state_text(1),
		id => decode_json($own)->{ID});
	is(sql("SELECT count(*) FROM s.states WHERE name = '$name'"), 1, 'it is made under that name');
	$server->answers("UNLOCK of workspace $path", 200, qr/^$/, 'UNLOCK', path => "/s/states/$path", body => $own);
}
$server->answers('GET by the lockid', 200, qr/^\{/, 'GET', path => '/s.states%2Fa%20b');
sql(q{SELECT tfstate_attach('Odd "schema', 'order', role => 'alice')});
foreach my $path ('/Odd%20%22schema/order/default', '/%22Odd%20%22%22schema%22.%22order%22%2Fdefault')
{
	$server->answers("LOCK of $path", 200, qr/^$/, 'LOCK', path => $path, body => $info);
	is(sql("SELECT lockid FROM tfstate_holders"), '"Odd ""schema"."order"/default', 'its lockid is quoted as in SQL');
	$server->answers("POST to $path", 200, qr/^$/, 'POST', path => $path, body => state_text($path =~ /order\// ? 1 : 2), id => $id);
	$server->answers("UNLOCK of $path", 200, qr/^$/, 'UNLOCK', path => $path, body => $info);
}

#
# Wrong addresses and bodies; none of them looks like an empty state
#
sql('CREATE TABLE public.plain (id bigint, name text, data text); GRANT ALL ON public.plain TO alice');
foreach my $method (qw(GET LOCK POST DELETE))
{
	$server->answers("$method $_->[0]", 400, $_->[1], $method, path => $_->[0], body => $method eq 'LOCK' ? $info : state_text(1), id => $id)
	  foreach [ '/s/nothing/default', qr/there is no table s.nothing/ ], [ '/public/plain/a', qr/is not attached/ ],
	  [ '/s/states', qr/address/ ], [ '/s/states/', qr/address/ ], [ '/s//default', qr/address/ ],
	  [ '/s/states/a/b', qr/address/ ],
	  # libmicrohttpd 1 refuses these itself
	  map { [ "/s/states/$_", qr/address|The request path contains invalid characters/ ] } '%', '%0', '%zz', 'a%00b';
}
$server->answers('GET of a name that is not UTF-8', 400, qr/invalid byte sequence/, 'GET', path => '/s/states/%ff');
$server->answers('LOCK with ' . $_->[0], 400, $_->[2], 'LOCK', body => $_->[1])
  foreach [ 'no body', '', qr/input syntax|no ID/ ], [ 'no JSON', '{', qr/invalid input syntax/ ], [ 'no object', '[1]', qr/no ID/ ],
  [ 'no ID', '{"Who":"x"}', qr/no ID/ ], [ 'an empty ID', '{"ID":""}', qr/no ID/ ], [ 'an ID that is too long', '{"ID":"' . 'x' x 257 . '"}', qr/too long/ ],
  [ 'a number as Who', '{"ID":"x","Who":1}', qr/must be a string/ ], [ 'a large info', '{"ID":"x","Info":"' . 'x' x 9000 . '"}', qr/too large/ ],
  [ 'a zero', '{"ID":"x\u0000"}', qr/Unicode|zero/ ], [ 'too deep a nesting', '[' x 60_000, qr/stack depth limit exceeded/ ];
is(sql('SELECT count(*) FROM tfstate_holders'), 0, 'none of them has locked anything');
my $odd_id = lock_info(ID => "no UUID: \x{e9}");
$server->answers('LOCK with an ID that is no UUID', 200, qr/^$/, 'LOCK', body => $odd_id);
$server->answers('POST under it', 200, qr/^$/, 'POST', body => state_text(1), id => 'no%20UUID:%20%C3%A9');
$server->answers('POST with ' . $_->[0], 400, $_->[2], 'POST', body => $_->[1], id => 'no%20UUID:%20%C3%A9', headers => $_->[3] || {})
  foreach [ 'no body', '', qr/no state/ ], [ 'no JSON', 'x', qr/not a JSON object/ ], [ 'no state', '{}', qr/no serial/ ],
  [ 'a zero byte', state_text(9) =~ s/x/\0/r, qr/zero byte/ ], [ 'a byte that is not UTF-8', state_text(9) =~ s/"x"/"\xff"/r, qr/invalid byte/ ],
  [ 'a wrong digest', state_text(9), qr/damaged/, { 'Content-MD5' => md5('x') } ];
$server->answers('UNLOCK', 200, qr/^$/, 'UNLOCK', body => $odd_id);
my $space_id = lock_info(ID => 'a b+c');
$server->answers('LOCK with an ID that has a space', 200, qr/^$/, 'LOCK', body => $space_id);
$server->answers('POST under it, as Go encodes it', 200, qr/^$/, 'POST', body => state_text(2), id => 'a+b%2Bc');
$server->answers('UNLOCK', 200, qr/^$/, 'UNLOCK', body => $space_id);
# a page of another site, in a browser that knows the password
foreach my $method (qw(POST PUT DELETE LOCK UNLOCK))
{
	$server->answers("$method from a web page", 403, qr/web pages may change nothing/, $method, body => lock_info(), headers => { Origin => $_ })
	  foreach 'https://evil.example', 'null', $server->{url};
}
is(sql('SELECT count(*) FROM tfstate_holders'), 0, 'they have done nothing');
$server->answers('GET from a web page', 200, qr/^\{/, 'GET', headers => { Origin => 'https://evil.example' });
$server->answers('a method that does not exist', 405, qr/no such method/, 'PATCH', body => 'x');
like($server->{headers}{allow}, qr/UNLOCK/, 'it says which there are');

#
# Who may
#
$node->safe_psql('postgres', "CREATE ROLE eve LOGIN PASSWORD 'secret' IN ROLE http; CREATE ROLE dan LOGIN PASSWORD 'secret'");
$server->answers("$_ without credentials", 401, qr/password/, $_, user => '', body => $info) foreach qw(GET LOCK POST);
like($server->{headers}{'www-authenticate'}, qr/^Basic realm=/, 'they are asked for');
$server->answers('GET with a wrong password', 401, qr/^wrong user or password$/, 'GET', password => 'Secret');
$server->answers('GET with the right one after it', 200, qr/^\{/, 'GET');
$server->answers('GET with a wrong one after that', 401, qr/^wrong user or password$/, 'GET', password => 'secret2');
$server->answers('GET without a password', 401, qr/password/, 'GET', password => '');
$server->answers('GET by a role that does not exist', 401, qr/^wrong user or password$/, 'GET', user => 'nobody');
$server->answers('GET by a role without rights', 403, qr/permission denied/, 'GET', user => 'eve');
$server->answers('LOCK by it', 403, qr/permission denied for state lock/, 'LOCK', user => 'eve', body => $info);
$server->answers('POST by it', 403, qr/permission denied/, 'POST', user => 'eve', body => state_text(2), id => $id);
$server->answers('DELETE by it', 403, qr/permission denied/, 'DELETE', user => 'eve');
$server->answers('UNLOCK by it', 403, qr/permission denied/, 'UNLOCK', user => 'eve', body => $info);
$server->answers('GET by a role whose password the server does not ask for', 401, qr/^wrong user or password$/, 'GET', user => 'dan');
like($server->logged(qr/ dan "GET/), qr/the server has not asked for the password of role "dan": let pg_hba.conf demand one/, 'the log says why');
sql("ALTER ROLE alice NOLOGIN");
is(sql("SELECT count(pg_terminate_backend(pid, 60000)) > 0 FROM pg_stat_activity WHERE usename = 'alice'"), 't', 'the sessions of a role are ended');
$server->answers('GET by a role that may not log in any more', 401, qr/^wrong user or password$/, 'GET');
sql("ALTER ROLE alice LOGIN");
$server->answers('GET when it may again', 200, qr/^\{/, 'GET');
my $long = 'x' x 6000;
$server->request('GET', path => "/$long", id => $long, user => $long);
like($server->logged(qr/ xxx.*"GET/), qr{ x{700}\.\.\. "GET /x{699}\.\.\." 400 0 \d+ ms: the address is not}, 'long texts are cut off in the log, and nothing else is');
unlike($server->log, qr/secret/i, 'no password is in the log');
is(sql("SELECT count(*) FROM tfstate_verify()"), 0, 'all states are intact');

done_testing();
