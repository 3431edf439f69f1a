# test/lib/Terraform.pm
#
# Real runs of Terraform or OpenTofu against a test server: of the program that the
# environment variable TERRAFORM names, or else of terraform in the PATH.  What the
# programs do differently, as far as tests can see it, is in read_program() and
# nowhere else.
#
# terraform_or_skip		skips the file if there is no program to run
# program				returns what is known of the program
# terraform_node		starts a server for runs
# attach, plain_table	make a table of states, with and without tfstate
# state_of				returns the state of a workspace in short
# edit_state			changes the serial or lineage of a state
# creation_lock			returns the lockid of the creation key
# creation				returns the words of messages for it
# nothing_held			tests that no lock is left
#
# A project, Terraform->new(), is a directory with a configuration of Terraform, for one
# schema of the server and one person.  Its resource "network" is replaced when another
# person applies than the last time, which takes as long as the project's gate is closed.
# A run of it is a Terraform::Run; the methods of both are below.
package Terraform;

use strict;
use warnings;

use Exporter 'import';
use File::Spec;
use File::Copy qw(copy);
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

our @EXPORT = qw(terraform_or_skip program terraform_node attach plain_table
  state_of edit_state creation_lock creation nothing_held);

my $shim = 'tfstate_pg,pg_catalog,public';
my $template;      # an initialized directory
my $rounds = 0;    # how often a resource was to be replaced
my %running;       # processes that were started, by their ids
my %program;       # what is tested, see read_program()

# Skips the whole file if there is no program to run.  One that TERRAFORM names must exist.
sub terraform_or_skip
{
	my $path = $ENV{TERRAFORM} || 'terraform';

	$path = path_of($path) if $path !~ m{/};
	if (!$path || !-x $path)
	{
		die "TERRAFORM names no program: $ENV{TERRAFORM}" if $ENV{TERRAFORM};
		plan skip_all => 'terraform is not installed';
	}

	# the caller's settings for other runs must not affect the tests
	delete $ENV{$_} foreach grep { /^TF_/ } keys %ENV;
	$ENV{HOME} = PostgreSQL::Test::Utils::tempdir();
	$ENV{CHECKPOINT_DISABLE} = 1;
	$ENV{TF_IN_AUTOMATION} = 1;
	read_program(File::Spec->rel2abs($path));
	return;
}

# Finds out which program it is, and how it differs from others.
sub read_program
{
	my ($path) = @_;
	my ($family, $version, $major, $minor) =
	  qx("$path" version) =~ /^(Terraform|OpenTofu) v((\d+)\.(\d+)\S*)/m
	  or die "$path is neither Terraform nor OpenTofu";
	my $since = sub { return $major > 1 || $minor >= $_[0] };
	my $opentofu = $family eq 'OpenTofu';
	my $opentofu_since = sub { return $opentofu && $since->(@_) };

	%program = (
		path => $path,
		name => "$family $version",

		# can encrypt states
		encrypts => $opentofu_since->(7),

		# writes a state as one line without spaces
		one_line => $opentofu_since->(8),

		# creates workspaces under a key per table; others have the key -1 for that
		key_per_table => $opentofu_since->(10),

		# the serial in errored.tfstate, less that of the write that was refused
		errored_ahead => $opentofu_since->(7) ? 1 : 0,

		# after a conflict with the http backend, shows the holder's lock info and not its own
		http_shows_holder => $opentofu_since->(9) || (!$opentofu && $since->(15)),

		# sends the ID of the lock in force-unlock with the http backend
		http_unlock_sends_id => $opentofu_since->(10),

		# shows the SQLSTATE behind an error of the server
		shows_sqlstate => $opentofu_since->(12),

		# what stands before the reason when state push cannot write
		not_pushed => 'Failed to persist state' . ($opentofu_since->(12) ? ' ' : ': '),

		# takes the lock for a console that only reads
		console_locks => $opentofu || !$since->(15),

		# how a plan says what becomes of a tainted resource
		tainted => $opentofu
		? 'is tainted, so it must be replaced'
		: 'is tainted, so must be replaced');
	note("the program: $program{name}");
	return;
}

# Returns what read_program() knows under a name.
sub program
{
	my ($what) = @_;

	die "read_program() does not know $what" unless exists $program{$what};
	return $program{$what};
}

# Returns what the program shows after the message of a server error.
sub shown_sqlstate
{
	my ($sqlstate) = @_;
	return $program{shows_sqlstate} ? " ($sqlstate)" : '';
}

# Returns the lockid under which the program creates workspaces in a schema.
sub creation_lock
{
	my ($schema) = @_;
	return $program{key_per_table} ? "$schema.states/" : 'tfstate_pg/new workspace';
}

# Returns the words that messages have for the purpose of that lock.
sub creation
{
	my ($schema) = @_;
	return 'creation of a workspace '
	  . ($program{key_per_table} ? "in $schema.states" : 'anywhere in this database');
}

# Returns the text of a state, laid out as the program does it, with another serial or
# lineage.
sub edit_state
{
	my ($state, %values) = @_;
	my $colon = $program{one_line} ? ':' : ': ';

	foreach my $key (keys %values)
	{
		my $value = $key eq 'serial' ? $values{$key} : qq("$values{$key}");

		$state =~ s/("\Q$key\E"$colon)(?:\d+|"[^"]*")/$1$value/
		  or die "there is no $key in: $state";
	}
	return $state;
}

# Returns a server that listens on 127.0.0.1, with the extension and a role
# terraform that is no superuser.
#
# conf: more lines for postgresql.conf; init: arguments of init().
sub terraform_node
{
	my ($name, %params) = @_;
	my $node = tfstate_node($name,
		init => $params{init},
		conf => "listen_addresses = '127.0.0.1'\nfsync = off\n"
		  . ($params{conf} || ''));

	$node->safe_psql('postgres', 'CREATE ROLE terraform LOGIN');
	return $node;
}

# Attaches the states of a schema and makes the role ready, as the manual says.  Returns the
# text to be pasted.
sub attach
{
	my ($node, $schema) = @_;
	return $node->safe_psql('postgres',
		"SELECT tfstate_attach('$schema', role => 'terraform')");
}

# Makes a table of states that is not attached, for a role.
sub plain_table
{
	my ($node, $schema, $role) = @_;

	$node->safe_psql(
		'postgres', qq(
		SELECT tfstate_attach('$schema');
		SELECT tfstate_detach('$schema');
		GRANT USAGE ON SCHEMA "$schema" TO $role;
		GRANT SELECT, INSERT, UPDATE, DELETE ON "$schema".states TO $role;
		GRANT USAGE ON SEQUENCE public.global_states_id_seq TO $role;
	));
	return;
}

# Returns the serial of a workspace's state and the input of its resource "network", as
# "serial|input", or an empty string if it has no row.
sub state_of
{
	my ($node, $schema, $workspace) = @_;

	$workspace ||= 'default';
	return $node->safe_psql(
		'postgres', qq(
		SELECT data::jsonb ->> 'serial',
			   jsonb_path_query_first(data::jsonb,
				   '\$.resources[*] ? (\@.name == "network").instances[0].attributes.input.value') #>> '{}'
		  FROM "$schema".states WHERE name = '$workspace'));
}

# Tests that no lock is left, in the views or in the lock manager, after the sessions of all
# but the superuser have ended.
sub nothing_held
{
	my ($node, $test) = @_;

	wait_for(
		'sessions to end',
		sub {
			$node->safe_psql('postgres',
				'SELECT count(*) FROM pg_stat_activity WHERE usename <> current_user')
			  == 0;
		});
	is( $node->safe_psql(
			'postgres', q(
			SELECT lockid FROM tfstate_holders
			UNION ALL
			SELECT format('%s, %s, %s', classid, objid, objsubid)
			  FROM pg_locks WHERE locktype = 'advisory')),
		'', $test);
	return;
}

# Returns a project.
#
# schema: of the states; who: the person, as the lock info and the application_name
# have it and as the resource's input; options: more settings for PGOPTIONS, as a
# hash; stock: true for a Terraform without tfstate; bare: true for no PGOPTIONS at
# all; nameless: true for runs in durable mode without a name, which else each command gets;
# role, database: where to connect, by default as the role that attach() has made ready;
# conn_options: more for the end of the connection string; env: more environment variables,
# as a hash; config: the text of main.tf; init: false if the test itself runs terraform init;
# wrapper: a command that gets the program and its arguments behind its own ones, as an array.
sub new
{
	my ($class, $node, %params) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir('terraform');
	my %options =
	    $params{bare} ? ()
	  : $params{stock} ? ('search_path' => 'public')
	  : (
		$params{role} ? ('search_path' => $shim) : (),
		'tfstate.who' => $params{who},
		'tfstate.operation' => 'apply',
		%{ $params{options} || {} });
	my $role = $params{role} || 'terraform';
	my $self = bless {
		node => $node,
		dir => $dir,
		who => $params{who},
		wrapper => $params{wrapper} || [],
		named => ($options{'tfstate.mode'} || '') eq 'durable'
		  && !$options{'tfstate.run_id'}
		  && !$params{nameless},
		env => {
			PG_CONN_STR => "postgres://$role\@127.0.0.1:"
			  . $node->port
			  . '/' . ($params{database} || 'postgres')
			  . '?sslmode=disable' . ($params{conn_options} || ''),
			PG_SCHEMA_NAME => $params{schema},
			PGAPPNAME => $params{who},
			(%options
				? (PGOPTIONS => join(' ', map { "-c $_=$options{$_}" } sort keys %options))
				: ()),
			TF_VAR_by => $params{who},
			TF_VAR_round => 0,
			%{ $params{env} || {} }
		},
	  },
	  $class;

	$self->write_config($params{config} || pg_backend() . network());
	$self->init if !exists $params{init} || $params{init};
	return $self;
}

# The parts of a configuration.  The three settings of the backend are for roles that may
# not create anything in public.
sub pg_backend
{
	return backend('pg', map { "skip_${_}_creation = true" } qw(schema table index));
}

sub backend
{
	my ($type, @settings) = @_;
	return join("\n",
		'terraform {', qq(backend "$type" {), @settings, '}', '}', '');
}

sub network
{
	return <<'END';
variable "by" {}

variable "round" {}

resource "terraform_data" "network" {
  input            = var.by
  triggers_replace = "${var.by} ${var.round}"

  provisioner "local-exec" {
    command = "echo ${var.by} >>applied; while [ -e gate ]; do sleep 0.05; done"
  }
}
END
}

sub write_config
{
	my ($self, $config) = @_;

	open(my $file, '>', "$self->{dir}/main.tf") or die "main.tf: $!";
	print $file $config;
	close($file) or die "main.tf: $!";
	return;
}

# Runs terraform init, or copies the result of another project's init, which depends neither
# on the schema nor on the person.
sub init
{
	my ($self) = @_;
	my $file = '.terraform/terraform.tfstate';

	if ($template)
	{
		mkdir "$self->{dir}/.terraform" or die "mkdir: $!";
		copy("$template/$file", "$self->{dir}/$file") or die "copy: $!";
		return;
	}
	my ($status, $output) = $self->run('init');
	die "terraform init failed: $output" if $status != 0;
	$template = $self->{dir};
	return;
}

# Keeps applies running until open_gate().
sub close_gate
{
	my ($self) = @_;

	unlink("$self->{dir}/applied");
	open(my $file, '>', "$self->{dir}/gate") or die "gate: $!";
	close($file);
	return;
}

sub open_gate
{
	my ($self) = @_;

	unlink("$self->{dir}/gate") or die "gate: $!";
	return;
}

# Closes the gate, starts an apply that replaces the resource, and waits until it is doing
# that.
sub start_slow_apply
{
	my ($self, @args) = @_;

	$self->close_gate;
	$self->{env}{TF_VAR_round} = ++$rounds;
	my $run = $self->start('apply', '-auto-approve', @args);
	wait_for(
		"the apply by $self->{who}",
		sub {
			die "the apply by $self->{who} has ended: " . $run->output
			  if $run->is_done;
			return -s "$self->{dir}/applied";
		});
	return $run;
}

# Terminates the sessions of the project's runs; the runs go on, and connect again.
sub terminate_sessions
{
	my ($self) = @_;
	my $ended = $self->{node}->safe_psql('postgres',
		"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = '$self->{who}'"
	);

	die "no session of $self->{who} is terminated" if $ended !~ /^(t\n?)+$/;
	return;
}

# Returns the state that a run could not write and left in a file, as state_of() returns it,
# with the serial that was refused; or an empty string if there is none.
sub errored_state
{
	my ($self) = @_;
	my $file = "$self->{dir}/errored.tfstate";

	return '' unless -e $file;
	my $state = decode_json(slurp_file($file));
	my ($network) = grep { $_->{name} eq 'network' } @{ $state->{resources} };
	my $value = $network ? $network->{instances}[0]{attributes}{input}{value} : '';
	return $state->{serial} - $program{errored_ahead} . "|$value";
}

# Starts a command and returns the run.  Options for scripts are added if the command has
# them.
sub start
{
	my ($self, @args) = @_;
	my $log = "$self->{dir}/" . ++$self->{runs} . '.log';
	my $run = uuid();
	my @options = '-no-color';

	push @options, '-input=false'
	  if $args[0] =~ /^(init|plan|apply|destroy|refresh|import)$/;
	# "workspace new", "state mv" and the like are two words
	my @command = splice(@args, 0, $args[0] =~ /^(workspace|state)$/ ? 2 : 1);
	@options = () if "@command" =~ /^(state|output|force-unlock|workspace select)/;

	open(my $output, '>', $log) or die "$log: $!";
	my $pid = fork();
	die "fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		delete $ENV{PGOPTIONS};
		$ENV{$_} = $self->{env}{$_} foreach keys %{ $self->{env} };
		$ENV{PGOPTIONS} .= " -c tfstate.run_id=$run" if $self->{named};
		chdir($self->{dir})
		  and open(STDIN, '<', '/dev/null')
		  and open(STDOUT, '>&', $output)
		  and open(STDERR, '>&', $output)
		  and exec(@{ $self->{wrapper} }, $program{path}, @command, @options, @args);
		POSIX::_exit(127);
	}
	$running{$pid} = 1;
	return bless { pid => $pid, log => $log }, 'Terraform::Run';
}

# Runs a command and returns its exit status and its output, as one line.
sub run
{
	my ($self, @args) = @_;
	return $self->start(@args)->finish;
}

# Tests that a command succeeds, and returns its output.
sub run_ok
{
	my ($self, $test, @args) = @_;
	return $self->start(@args)->succeeds_ok($test);
}

# Tests that a command fails with the expected error, and returns its output.
sub run_fails
{
	my ($self, $test, $expected, @args) = @_;
	return $self->start(@args)->fails_ok($test, $expected);
}

sub apply_ok
{
	my ($self, $test) = @_;
	return $self->run_ok($test, 'apply', '-auto-approve');
}

sub apply_fails
{
	my ($self, $test, $expected) = @_;
	return $self->run_fails($test, $expected, 'apply', '-auto-approve');
}

END
{
	# what a test that died has left; the gates go with the directories
	my $status = $?;

	kill('KILL', $_) && waitpid($_, 0) foreach keys %running;
	$? = $status;
}

package Terraform::Run;

use strict;
use warnings;

use POSIX qw(:sys_wait_h);
use PostgreSQL::Test::Utils;
use Test::More;
use TestServer;

# Returns true if the run has ended.
sub is_done
{
	my ($self) = @_;

	return 1 if defined $self->{status};
	return 0 if waitpid($self->{pid}, WNOHANG) == 0;
	$self->{status} = $? & 127 ? "signal " . ($? & 127) : $? >> 8;
	delete $running{ $self->{pid} };
	return 1;
}

# Returns the output so far as one line, without frames and colours: the program wraps lines
# and draws frames, and only some commands have -no-color.
sub output
{
	my ($self) = @_;
	my $output = slurp_file($self->{log});

	$output =~ s/\e\[[0-9;]*m|│|╷|╵//g;
	$output =~ s/\s+/ /g;
	return $output;
}

# Waits for the end of the run and returns its exit status and its output.
sub finish
{
	my ($self) = @_;

	wait_for('terraform to end', sub { $self->is_done });
	return ($self->{status}, $self->output);
}

# Tests that the run fails with the expected error, and returns its output.
sub fails_ok
{
	my ($self, $test, $expected) = @_;
	my ($status, $output) = $self->finish;

	is($status, 1, "$test: fails");
	like($output, $expected, "$test: the error says why");
	return $output;
}

# Tests that the run succeeds, and returns its output.
sub succeeds_ok
{
	my ($self, $test) = @_;
	my ($status, $output) = $self->finish;

	is($status, 0, $test) or diag($output);
	return $output;
}

# Interrupts the run, as Ctrl-C does.
sub interrupt
{
	my ($self) = @_;

	kill('INT', $self->{pid});
	return;
}

# Kills the run with signal 9; returns what finish() does.
sub kill9
{
	my ($self) = @_;

	kill('KILL', $self->{pid});
	return $self->finish;
}

1;
