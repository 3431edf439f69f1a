# A role that may only plan, with real Terraform: "terraform plan" works under its lock, and an
# apply is refused at the lock if the run says what it is, or else when the state is written.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Terraform;
use Test::More;
use TestServer;

terraform_or_skip();

my $node = terraform_node('plan');
attach($node, 'tf');
sql(q(CREATE ROLE planner LOGIN; SELECT tfstate_attach('tf', role => 'planner', access => 'plan')));
is(sql(q(SELECT role, problem FROM tfstate_check() WHERE role = 'planner')), '', 'nothing is wrong with the role');

sub planner
{
	my ($who, %params) = @_;
	return Terraform->new($node, schema => 'tf', role => 'planner', who => $who, %params);
}
my $writer = Terraform->new($node, schema => 'tf', who => 'writer');
my $silent = planner('silent', bare => 1);
my $planner = planner('planner', options => { 'tfstate.operation' => 'plan' });
my $applier = planner('applier', options => { 'tfstate.operation' => 'apply' });

$writer->apply_ok('a role that writes applies');
like($planner->run_ok('a run that says that it plans', 'plan'), qr/must be replaced/, 'the plan has what changed');
$silent->run_ok('a run that does not say what it does plans', 'plan');
is(sql(q(SELECT count(*) FROM tfstate_history('tf.*') WHERE role = 'planner')), '2', 'both had the lock of the workspace');
# while another one has the lock
my $slow = $writer->start_slow_apply;
$planner->run_fails('a plan beside a run', qr/"tf.states\/default" is held by writer/, 'plan');
$writer->open_gate;
is(($slow->finish)[0], 0, 'the run goes on');
my $state = state_of($node, 'tf');

$applier->apply_fails('an apply that says so', qr/role "planner" may only plan in "tf.states\/default", and tfstate.operation is "apply"/);
is($applier->errored_state, '', 'it has changed nothing');
$silent->apply_fails('an apply that does not say so', qr/permission denied for table states/);
isnt($silent->errored_state, '', 'its changes are in errored.tfstate');
is(state_of($node, 'tf'), $state, 'the state is as it was');
nothing_held($node, 'no lock is left');

done_testing();
