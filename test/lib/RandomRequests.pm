# test/lib/RandomRequests.pm
#
# Random requests for tfstate serve, most of them nearly right: methods, addresses, headers,
# lock infos, states, and how they are sent.
#
# request	returns a random request, as a hash:
#			text		what goes over the wire
#			framed		true if its length is what it says, so that a part of it is no request
#			method		NULL if it is no sensible one
#			workspace	that it is about, if its address is that of one
# chance	returns true with a probability
#
# All randomness comes from rand(), so that srand() repeats it.
package RandomRequests;

use strict;
use warnings;

use Digest::MD5 qw(md5_base64);
use Exporter 'import';
use JSON::PP;
use MIME::Base64;
use TestServer;

our @EXPORT = qw(chance request);

# name in the address, and as it is
my %workspaces = (default => 'default', w1 => 'w1', 'a%20b' => 'a b', 'Z%C3%BCrich' => "Z\xc3\xbcrich", '%2F%25' => '/%');
my @ids = map { uuid() } 1 .. 3;
my $serial = 1;

sub chance
{
	my ($probability) = @_;
	return rand() < $probability;
}

sub any
{
	my (@list) = @_;
	return $list[ rand @list ];
}

sub bytes
{
	my ($most) = @_;
	return join('', map { chr(int(rand(256))) } 1 .. rand($most));
}

# Changes a text at some places.
sub damage
{
	my ($text) = @_;

	foreach (0 .. rand(4))
	{
		my $place = int(rand(1 + length($text)));
		my $piece = any('', chr(int(rand(256))), "\0", "\r\n", '%', '"', '\\', bytes(20), substr($text, 0, rand(200)));

		substr($text, $place, any(0, 1, rand(10), rand(length($text) - $place)), $piece);
	}
	return $text;
}

# An ID as a query, or none.
sub query
{
	return '?ID=' . any(@ids) if chance(0.8);
	return any('', '?', '?ID=', '?ID=%', '?ID=%00', '?ID=%ff', '?ID=a%0Ab', '?id=' . $ids[0], "?ID=$ids[0]&ID=$ids[1]", "?a&b=c&ID=$ids[2]",
		'?ID=' . uc($ids[0]), '?ID=' . 'x' x any(256, 257, 5000), "?ID=no'UUID;--", '?ID=' . '%C3%A9' x 20, "?ID=$ids[0]#ID=$ids[1]");
}

# The path of an address, and the workspace, if it is that of one.
sub path
{
	my $encoded = any(keys %workspaces);

	return ("/s/states/$encoded", $workspaces{$encoded}) if chance(0.8);
	return ("/s.states%2F$encoded", $workspaces{$encoded}) if chance(0.3);
	return (join('/', '', 's', join('', map { sprintf('%%%02x', ord) } split(//, 'states')), $encoded), $workspaces{$encoded}) if chance(0.3);
	return damage("/s/states/$encoded") if chance(0.4);
	return any('/', '', '*', '/healthz', '/metrics', '/s/states', '/s/states/', '/s//default', '//', '/s/states/a/b', '/s/states/%', '/s/states/%0',
		'/s/states/%00', '/s/states/%ff', '/s/nothing/default', '/nothing/states/default', '/pg_catalog/pg_class/default',
		'/tfstate_internal/durable_lock/default', '/public/plain/a', '/s/states/' . 'x' x any(63, 64, 1000, 20_000, 40_000),
		'/' . '/s' x 1000, 'http://localhost/s/states/default', '/s/states/../states/default', '/s/states/default;x', '/%22s%22.%22states%22%2Fdefault',
		'/s.states%2F', '/s.%22%2Fx', '/%22', "/s/states/new" . int(rand(1000)));
}

sub state_text
{
	my $size = chance(0.03) ? any(900_000, 1_048_400, 1_048_577, 2_000_000) : chance(0.1) ? rand(50_000) : 0;
	my $number = chance(0.85) ? ++$serial : any($serial, $serial - 1, 0, -1, '1e3', '1.5', '"1"', 'null', '9' x 30, 2**63);
	my $text = sprintf('{"version":4,"serial":%s,"lineage":"%s","outputs":{"a":{"value":"%s","type":"string"}},"resources":[%s]}',
		$number, chance(0.95) ? 'x' : any('y', '', 'z' x 1000), 'v' x $size,
		chance(0.5) ? '{"mode":"managed","type":"t","name":"n","instances":[{"attributes":{"id":"1"}}]}' : '');

	return $text if chance(0.8);
	return damage($text) if chance(0.5);
	return any('', '{}', '[]', 'null', '1', '"x"', '{', '[' x 50_000, '{"a":' x 5000, "\xef\xbb\xbf$text", "$text$text", "\xff\xfe", "\0", bytes(2000),
		'{"version":4,"serial":1,"lineage":"\ud800","resources":[]}', '{"version":4,"serial":' . $serial . ',"lineage":"x","resources":{}}');
}

sub lock_info
{
	my %info = (ID => any(@ids), Operation => 'OperationTypeApply', Info => '', Who => 'al@laptop', Version => '1.11.4',
		Created => '2026-11-28T09:00:00.123456789Z', Path => '');

	if (chance(0.15))
	{
		$info{ any(keys %info) } = any(undef, 1, -1.5e300, JSON::PP::true, [], {}, { a => [ {} ] }, '', "\0", "a\nb", "\x{1f600}", 'x' x any(256, 257, 9000, 70_000),
			'<script>', "'; DROP TABLE s.states; --", '%s%n', 'tomorrow');
	}
	delete $info{ any(keys %info) } if chance(0.1);
	$info{ any('More', "a\"b", '', 'id') } = any(1, 'x', [ 1 ]) if chance(0.1);
	@info{qw(Operation Info Who Version Path)} = ('') x 5 if chance(0.15);
	my $text = encode_json(\%info);
	return $text if chance(0.85);
	return damage($text) if chance(0.5);
	return any('', '{}', '[]', 'null', '{"ID":"a","ID":"' . $ids[0] . '"}', '[' x 30_000, "$text $text", "\xef\xbb\xbf$text", bytes(500), '{"ID":"\ud83d"}',
		'{"ID":"\u0000"}', '"' . $ids[0] . '"', '{"ID":"' . 'x' x 70_000 . '"}');
}

sub authorization_of
{
	my ($credentials) = @_;
	return 'Authorization: Basic ' . encode_base64($credentials, '') . "\r\n";
}

sub authorization
{
	my $right = authorization_of(chance(0.8) ? 'alice:secret' : 'bob:secret');

	return $right if chance(0.93);
	return any('', $right . $right, damage($right), "authorization:\tbasic   " . encode_base64('alice:secret', '') . "  \r\n",
		map { "Authorization: $_\r\n" } 'Basic', 'Basic ', 'Basic !!!', 'Bearer x', 'Digest username="alice"', 'Basic ' . 'QUFB' x 5000,
		map { 'Basic ' . encode_base64($_, '') } 'alice', ':', 'alice:', ':secret', "al\0ice:secret", "alice:secret\0", 'alice:Secret', 'eve:secret',
		'postgres:secret', "\xff:\xff", 'a' x 70 . ':secret', 'alice:' . 'x' x 5000, "dbname=x host=y:secret", "alice' password=x:secret");
}

# Headers that are no use, or harm.
sub more_headers
{
	return '' if chance(0.8);
	return any("Expect: 100-continue\r\n", "Expect: 200-maybe\r\n", "Connection: close\r\n", "Connection: upgrade\r\nUpgrade: h2c\r\n", "Range: bytes=0-1\r\n",
		"If-None-Match: *\r\n", "Accept-Encoding: gzip\r\n", "X-A: b\r\n c\r\n", "no colon\r\n", ": empty\r\n", "X\0Y: z\r\n", "X: \0\x01\x7f\r\n",
		"X: \xff\xfe\r\n", "Cookie: a=b; c\r\n", join('', map { "X-$_: $_\r\n" } 1 .. 300), 'X: ' . 'x' x any(1000, 30_000, 40_000) . "\r\n",
		"Host: a\r\nHost: b\r\n", "Content-Type: multipart/form-data; boundary=x\r\n", "Content-Type: application/x-www-form-urlencoded\r\n",
		"Content-MD5: \r\n", "Content-MD5: x\r\n", 'Content-MD5: ' . 'x' x 3000 . "\r\n", "Content-Encoding: gzip\r\n");
}

# The body, with the headers that say how long it is; and whether they are right.
sub framed
{
	my ($body) = @_;
	my $length = length($body);

	return ("Content-Length: $length\r\n\r\n$body", 1) if chance(0.8);
	if (chance(0.5))
	{
		my $chunked = '';

		for (my $place = 0; $place < $length;)
		{
			my $piece = substr($body, $place, 1 + rand($length));
			$chunked .= sprintf("%x%s\r\n%s\r\n", length($piece), chance(0.1) ? ';a=b' : '', $piece);
			$place += length($piece);
		}
		$chunked .= "0\r\n" . (chance(0.1) ? "X-Trailer: 1\r\n" : '') . "\r\n";
		return ("Transfer-Encoding: chunked\r\n\r\n$chunked", 1) if chance(0.8);
		return (any("Transfer-Encoding: chunked\r\nContent-Length: $length\r\n\r\n$chunked", "Transfer-Encoding: gzip, chunked\r\n\r\n$chunked",
				"Transfer-Encoding: chunked\r\n\r\n" . damage($chunked), "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n$body",
				"Transfer-Encoding: chunked\r\n\r\n-1\r\n$body"), 0);
	}
	return (any(map { "$_\r\n\r\n$body" } '', 'Content-Length: ' . ($length + 1 + int(rand(100))), 'Content-Length: ' . int(rand($length)), 'Content-Length: -1',
			'Content-Length: 0', 'Content-Length: 0x10', "Content-Length: +$length", "Content-Length: $length, $length", "Content-Length: 99999999999999999999",
			"Content-Length: 3000000", "Content-Length: $length\r\nContent-Length: " . ($length + 1), "Content-Length: "), 0);
}

sub request
{
	my $method = any(qw(LOCK LOCK UNLOCK UNLOCK POST POST GET GET PUT HEAD DELETE));
	# an answer to HEAD can be read only if it is known that this was asked
	my $sane = $method eq 'HEAD';
	my ($path, $workspace) = $sane ? ('/s/states/default', 'default') : path();
	my $body = $method =~ /LOCK/ ? lock_info() : $method =~ /^P/ || (!$sane && chance(0.05)) ? state_text() : '';
	my ($rest, $framed) = $sane ? ("Content-Length: 0\r\n\r\n", 1) : framed($body);
	my $line = "$method $path" . ($method =~ /LOCK/ && chance(0.9) ? '' : query()) . ' HTTP/1.1';
	my $md5 = chance(0.3) ? 'Content-MD5: ' . (chance(0.9) ? md5_base64($body) . '==' : 'AAAAAAAAAAAAAAAAAAAAAA==') . "\r\n" : '';

	if (!$sane && chance(0.06))
	{
		$line = any(damage($line), "get $path HTTP/1.1", "$method $path", "$method $path HTTP/1.0", "$method $path HTTP/2.0", "$method $path HTTP/9.99999",
			"$method  $path  HTTP/1.1", "$_ $path HTTP/1.1", '', "\0", 'X' x 40_000)
		  foreach any('PATCH', 'OPTIONS', 'TRACE', 'CONNECT', 'lock', 'M' x 5000, "GET\0", 'PROPFIND', '');
		($framed, $method) = (0, undef);
	}
	my $authorization = $sane ? authorization_of('alice:secret') : authorization();
	my $more = $sane ? '' : more_headers();
	# an end of line in these may be that of the headers, and libmicrohttpd 0.9.75 reads none
	# behind one without a name
	$framed = 0 if ($path . $authorization =~ s/\r\n\z//r) =~ /[\0\r\n]/ || $more =~ /^(:|no colon|X\0)/;
	my $text = "$line\r\n" . ($sane || chance(0.98) ? "Host: localhost\r\n" : '') . $authorization . $md5 . $more . $rest;
	if (!$sane && chance(0.02))
	{
		$text = any(damage($text), bytes(3000), "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\r\n" x 100 . $text, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
		$framed = 0;
	}
	return { text => $text, framed => $framed, method => $method, workspace => $workspace };
}

1;
