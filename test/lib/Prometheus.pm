# test/lib/Prometheus.pm
#
# Prometheus and programs that it reads, for tests.
#
# start_program		starts a program that listens
# start_prometheus	starts Prometheus
# get				gets what a program shows
# series			queries Prometheus
#
# They end with the test.
package Prometheus;

use strict;
use warnings;

use Exporter 'import';
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(start_program start_prometheus get series);

my @programs;

# Starts a program that has an argument for the address on which it listens.  Returns that.
sub start_program
{
	my ($argument, @command) = @_;
	my $address = '127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port();

	push @programs, { log => '' };
	$programs[-1]{run} = IPC::Run::start([ @command, "$argument=$address" ], '<', \undef, '>&', \$programs[-1]{log});
	return $address;
}

# Starts Prometheus, which looks every half second, with this configuration and with the
# files that it names.  Returns its address.
sub start_prometheus
{
	my ($configuration, %files) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir();

	append_to_file("$directory/prometheus.yml",
		"global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 250ms}\n$configuration");
	append_to_file("$directory/$_", $files{$_}) foreach keys %files;
	return start_program('--web.listen-address', 'prometheus', "--config.file=$directory/prometheus.yml", "--storage.tsdb.path=$directory/data");
}

# Gets what a program shows under an address, or undef.
sub get
{
	my ($url) = @_;

	$_->{run}->pump_nb foreach grep { $_->{run}->pumpable } @programs;
	my $answer = HTTP::Tiny->new(timeout => 60)->get("http://$url");
	return $answer->{success} ? $answer->{content} : undef;
}

# Returns the result of a query, none if Prometheus does not answer.  On a busy machine it may
# miss what it reads for a moment, so wait for a result.
sub series
{
	my ($prometheus, $query) = @_;
	my $answer = get("$prometheus/api/v1/query?" . HTTP::Tiny->new->www_form_urlencode({ query => $query })) or return [];

	return decode_json($answer)->{data}{result};
}

END
{
	# also when a test has died
	my $status = $?;

	$_->{run}->kill_kill foreach @programs;
	$? = $status;
}

1;
