# test/lib/Browser.pm
#
# A Chromium without a window, for tests of pages.
#
# browser	starts it; returns undef if there is none
#
# The methods are below.  The browser is driven by the DevTools protocol over two pipes,
# and ends with the test.
package Browser;

use strict;
use warnings;

use Exporter 'import';
use IO::Handle;
use IO::Select;
use JSON::PP;
use MIME::Base64;
use POSIX ();
use PostgreSQL::Test::Utils;
use TestServer;

our @EXPORT = qw(browser);

my $patience = 60;    # seconds that an answer may take
my @browsers;

sub browser
{
	my ($program) = grep { defined } $ENV{CHROMIUM}, map { path_of($_) } qw(chromium-headless-shell chromium);
	return undef unless $program;
	my $self = bless { id => 0, buffer => '', events => [] }, __PACKAGE__;
	my $dir = PostgreSQL::Test::Utils::tempdir();

	pipe(my $commands, $self->{to}) && pipe($self->{from}, my $answers) or die "pipe: $!";
	$self->{pid} = fork() // die "fork: $!";
	if ($self->{pid} == 0)
	{
		# both are moved out of the way first, because they may be 3 and 4
		my @files = map { fcntl($_, 0, 10) } $commands, $answers;
		POSIX::dup2($files[0], 3) && POSIX::dup2($files[1], 4) or POSIX::_exit(1);
		open(STDERR, '>', "$dir/log");
		open(STDIN, '<', '/dev/null');
		# it shows pages of the test only, and its own sandbox takes rights that a test may lack
		exec($program, '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--hide-scrollbars',
			'--remote-debugging-pipe', "--user-data-dir=$dir", 'about:blank') or POSIX::_exit(127);
	}
	push @browsers, $self;
	$self->{to}->autoflush(1);
	my ($page) = grep { $_->{type} eq 'page' } @{ $self->command('Target.getTargets')->{targetInfos} };
	$self->{session} = $self->command('Target.attachToTarget', targetId => $page->{targetId}, flatten => \1)->{sessionId};
	$self->command("$_.enable") foreach qw(Page Network Log Runtime Accessibility);
	return $self;
}

# Reads the next message.
sub receive
{
	my ($self) = @_;

	while ($self->{buffer} !~ /\0/)
	{
		IO::Select->new($self->{from})->can_read($patience) or die 'the browser does not answer';
		sysread($self->{from}, $self->{buffer}, 65536, length($self->{buffer})) or die 'the browser has ended';
	}
	$self->{buffer} =~ s/^([^\0]*)\0//;
	return decode_json($1);
}

# Sends a command, and returns its result.
sub command
{
	my ($self, $method, %params) = @_;
	my $id = ++$self->{id};

	print { $self->{to} } encode_json({
		id => $id, method => $method, params => \%params, $self->{session} ? (sessionId => $self->{session}) : () }) . "\0";
	while (1)
	{
		my $message = $self->receive;

		push @{ $self->{events} }, $message if $message->{method};
		next unless ($message->{id} || 0) == $id;
		die "$method: $message->{error}{message}" if $message->{error};
		return $message->{result};
	}
}

# Returns what has happened under one of these names since the last page was opened.
sub events
{
	my ($self, $pattern) = @_;
	return grep { $_->{method} =~ $pattern } @{ $self->{events} };
}

# Opens an address as a user, and returns the status.
#
# user, password; width, height: of the window; dark: in which scheme.
sub open_page
{
	my ($self, $url, %params) = @_;
	my $authorization = encode_base64("$params{user}:" . ($params{password} || 'secret'), '');

	$self->command('Network.setExtraHTTPHeaders', headers => { Authorization => "Basic $authorization" });
	$self->command('Emulation.setDeviceMetricsOverride',
		width => $params{width} || 1280, height => $params{height} || 800, deviceScaleFactor => 1, mobile => $params{width} ? \1 : \0);
	$self->command('Emulation.setEmulatedMedia',
		media => $params{media} || '', features => [ { name => 'prefers-color-scheme', value => $params{dark} ? 'dark' : 'light' } ]);
	$self->{events} = [];
	$self->command('Page.navigate', url => $url);
	push @{ $self->{events} }, $self->receive until $self->events(qr/^Page.loadEventFired$/);
	my ($answer) = grep { $_->{params}{type} eq 'Document' } $self->events(qr/^Network.responseReceived$/);
	return $answer->{params}{response}{status};
}

# Returns the value of an expression in the page.
sub value
{
	my ($self, $expression) = @_;
	my $result = $self->command('Runtime.evaluate', expression => $expression, returnByValue => \1, awaitPromise => \1);

	die "$expression: $result->{exceptionDetails}{exception}{description}" if $result->{exceptionDetails};
	return $result->{result}{value};
}

# Presses a key.
sub press
{
	my ($self, $key, $code) = @_;

	$self->command('Input.dispatchKeyEvent', type => $_, key => $key, code => $key, windowsVirtualKeyCode => $code,
		$key eq 'Enter' ? (text => "\r") : ())
	  foreach qw(keyDown keyUp);
	return;
}

# Writes a picture of the whole page, a PNG.
sub picture
{
	my ($self, $file) = @_;
	my $result = $self->command('Page.captureScreenshot', format => 'png', captureBeyondViewport => \1);

	open(my $out, '>:raw', $file) or die "$file: $!";
	print $out decode_base64($result->{data});
	close($out) or die "$file: $!";
	return;
}

END
{
	# also when a test has died
	my $status = $?;

	foreach my $browser (@browsers)
	{
		kill('KILL', $browser->{pid});
		waitpid($browser->{pid}, 0);
	}
	$? = $status;
}

1;
