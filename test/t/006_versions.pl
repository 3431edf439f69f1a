# All files that name the version of tfstate name the same one, and META.json is as PGXN asks for
# it (https://pgxn.org/spec/, 1.0.0).

use strict;
use warnings;

use FindBin;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";

sub first
{
	my ($file, $pattern) = @_;
	return slurp_file("$root/$file") =~ $pattern ? $1 : "nothing in $file";
}

my $version = first('tfstate.control', qr/^default_version = '(\d+\.\d+)'$/m);
like($version, qr/^\d/, 'the control file has a version');
is(first('debian/changelog', qr/\Atfstate \(([^)]+)\)/), $version, 'debian/changelog');
is(first('CHANGELOG.md', qr/^## \[([^\]]+)\]/m), "$version.0", 'CHANGELOG.md');
is(first('doc/tfstate.1', qr/^\.TH .*"tfstate ([^"]+)"/m), $version, 'the manual page');
is(first('sql/install/head.sql', qr,\A/\* sql/tfstate--([\d.]+)\.sql \*/,), $version, 'the head of the install script');
my $released = first('Makefile', qr/^RELEASED = (.*)$/m);
is(first('sql/install/update.sql', qr,\A/\* sql/tfstate--([\d.-]+)\.sql \*/,), "$released--$version", 'the head of the update');
ok(-e "$root/sql/tfstate--$released.sql", 'the script of the last release is there');

# What the specification requires, and what it allows besides
my $meta = decode_json(slurp_file("$root/META.json"));
my %required = (
	name => qr/^[^\s\/\\]{2,}$/,
	version => qr/^\d+\.\d+\.\d+$/,
	abstract => qr/\S/,
	maintainer => qr/\S/,
	license => qr/^(agpl_3|apache_[12]_[01]|artistic_[12]|bsd|freebsd|gfdl_1_[23]|gpl_[123]|lgpl_[23]_[01]|mit|mozilla_1_[01]|openssl|perl_5|postgresql|qpl_1_0|ssleay|sun|zlib)$/,
	provides => undef,
	'meta-spec' => undef);
my %optional = map { $_ => 1 } qw(description generated_by tags no_index prereqs release_status resources);

is(join(' ', grep { !exists $required{$_} && !$optional{$_} && !/^x_/i } sort keys %$meta), '', 'META.json has no other keys');
foreach my $key (sort keys %required)
{
	ok(defined $meta->{$key} && (!$required{$key} || $meta->{$key} =~ $required{$key}), "META.json has $key");
}
is($meta->{version}, "$version.0", 'the version in META.json');
is($meta->{'meta-spec'}{version}, '1.0.0', 'the version of the specification');
is(join(' ', keys %{ $meta->{provides} }), 'tfstate', 'META.json provides the extension');
is($meta->{provides}{tfstate}{version}, "$version.0", 'its version');
is($meta->{provides}{tfstate}{file}, "sql/tfstate--$version.sql", 'its script');
ok(-e "$root/$meta->{provides}{tfstate}{docfile}", 'its documentation is there');
foreach my $phase (keys %{ $meta->{prereqs} })
{
	like($phase, qr/^(configure|build|test|runtime|develop)$/, "phase $phase");
	foreach my $kind (keys %{ $meta->{prereqs}{$phase} })
	{
		like($kind, qr/^(requires|recommends|suggests|conflicts)$/, "$phase $kind");
		like($_, qr/^(0|\d+\.\d+\.\d+)$/, "a version in $phase $kind") foreach values %{ $meta->{prereqs}{$phase}{$kind} };
	}
}
is(join(' ', grep { !/\S/ || length > 255 } @{ $meta->{tags} }), '', 'the tags');

done_testing();
