/*-------------------------------------------------------------------------
 *
 * run.c
 *	  tfstate run: a command that runs while we hold locks.
 *
 *	1. Connect, and take the locks, perhaps after a wait that signals can end.
 *	2. Start the command, with a description of the locks in its environment.
 *	3. Until it ends: pass signals on, renew leases, look whether the locks are still
 *	   ours.  If they are not, end the command.
 *	4. Release the locks, and exit as the command did.
 *
 * If this program is killed in between, a lock in session mode ends with its connection, a
 * lease when it is not renewed, and a durable lock stays.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <signal.h>
#include <unistd.h>

#include "fe_utils/string_utils.h"

#include "client.h"
#include "commands.h"
#include "event.h"
#include "http.h"
#include "run.h"

/* The lease that is taken without --ttl, and the time a command has to end, in ms. */
#define DEFAULT_TTL_MS		60000
#define DEFAULT_GRACE_MS	60000

static const ExitStatuses default_statuses = {EXIT_HELD, EXIT_LOST, EXIT_CONNECT};

/* The shortest lease: it must be possible to renew it over a slow connection. */
#define MIN_TTL_MS			5000

enum
{
	OPTION_OPERATION = OPTION_RUN_LAST,
	OPTION_HTTP
};

static const struct option long_options[] = {
	CONNECTION_LONG_OPTIONS,
	{"http", no_argument, NULL, OPTION_HTTP},
	RUN_LONG_OPTIONS,
	{"operation", required_argument, NULL, OPTION_OPERATION},
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0}
};

static bool
ends_a_program(int number)
{
	return number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT;
}

/*
 * Act on the signals that have come in while the command runs.
 */
static void
pass_signals_on(Run *run)
{
	int			number;

	while ((number = next_signal()) != 0)
	{
		if (number == SIGCHLD)
			child_reap(&run->child);
		else if (number != SIGWINCH && number != SIGCONT)
			child_signal(&run->child, number);
		if (ends_a_program(number))
			run->child.drain_ms = run->grace_ms;
	}
	(void) child_is_gone(&run->child);	/* kills it when its time is over */
}

/* What is done while a statement of ours runs; see Conn. */
static bool
idle(void *arg)
{
	Run		   *run = arg;
	int			number;

	if (!run->waiting && !run->asking)
	{
		pass_signals_on(run);
		return !run->child.running && !run->telling;
	}
	while ((number = next_signal()) != 0)
	{
		if (ends_a_program(number))
			run->signal = number;
		else if (number == SIGTSTP && run->waiting)
		{
			progress_erase(&run->progress);
			raise(SIGSTOP);
		}
	}
	if (run->progress.waiting && run->hold.wait_ms != 0)
		progress_step(&run->progress);
	return run->signal != 0;
}

/*
 * Take the locks.  Returns 0, or an exit status.
 */
static int
take_locks(Run *run)
{
	const char **lockids = pg_malloc(run->hold.count * sizeof(char *));
	int			status;

	run->waiting = true;
	status = hold_prepare(&run->hold);
	if (status == 0 && run->connected)
		status = run->connected(run);
	if (status == 0)
	{
		for (int i = 0; i < run->hold.count; i++)
			lockids[i] = run->hold.locks[i].lockid;
		progress_start(&run->progress, lockids, run->hold.count, &run->hold.conn);
		status = hold_take(&run->hold);
		progress_stop(&run->progress);
		run->refused = status == EXIT_HELD;
	}
	run->waiting = false;
	if (run->signal != 0)
	{
		hold_give_up(&run->hold);
		return 128 + run->signal;
	}
	switch (status)
	{
		case EXIT_HELD:
			return run->statuses.held;
		case EXIT_CONNECT:
			return run->statuses.connect;
		case EXIT_LOST:
			return run->statuses.lost;
		default:
			return status;
	}
}

/* Names joined by a space, which no fence and no ID has in it. */
static char *
joined(const Run *run, bool fences)
{
	PQExpBufferData buf;

	initPQExpBuffer(&buf);
	for (int i = 0; i < run->hold.count; i++)
		appendPQExpBuffer(&buf, "%s%s", i > 0 ? " " : "", fences ? run->hold.locks[i].fence : run->hold.locks[i].id);
	return buf.data;
}

/*
 * Tell the command of the locks.  What it does in the database is done for the run that
 * holds them.  A pooler may refuse the options of a connection, or ignore them, but it
 * passes its name on.
 */
static void
set_environment(Run *run)
{
	const char *given = getenv("PGOPTIONS");
	PQExpBufferData lockids;

	initPQExpBuffer(&lockids);
	for (int i = 0; i < run->hold.count; i++)
		appendPQExpBuffer(&lockids, "%s%s", i > 0 ? "\n" : "", run->hold.locks[i].lockid);
	setenv("TFSTATE_LOCKID", lockids.data, 1);
	setenv("TFSTATE_LOCK_ID", joined(run, false), 1);
	setenv("TFSTATE_FENCE", joined(run, true), 1);
	if (run->identified)
		return;
	setenv("TFSTATE_RUN_ID", run->id, 1);
	if (run->hold.conn.pooled)
		setenv("PGAPPNAME", run->hold.conn.name, 1);
	else
		setenv("PGOPTIONS", psprintf("%s%s-c tfstate.run_id=%s", given ? given : "", given && *given ? " " : "", run->id), 1);
}

/*
 * The command was stopped, and so are we, if that was at a terminal.  When it goes on, it
 * must not do so without its locks.
 */
static void
stop_and_go_on(Run *run)
{
	child_stop_with(&run->child);
	if (run->child.tty < 0)
		return;
	hold_keep(&run->hold);
	if (!run->hold.lost)
		child_continue(&run->child);
	run->child.stopped = false;
}

/*
 * Keep the locks until the command has ended.
 */
static void
keep_locks(Run *run)
{
	Hold	   *hold = &run->hold;

	for (;;)
	{
		int			socket = hold->lost || hold->conn.pg == NULL ? -1 : PQsocket(hold->conn.pg);
		int			mode = WAIT_READ;
		int64_t		until = hold->lost ? run->child.kill_at : Min(run->child.kill_at, hold->check_at);
		bool		news;

		pass_signals_on(run);
		if (child_is_gone(&run->child))
			break;
		if (run->child.stopped && run->child.kill_at == NEVER)
			stop_and_go_on(run);
		news = wait_for_event(&socket, &mode, 1, until) != 0;
		if (news)
		{
			(void) PQconsumeInput(hold->conn.pg);
			(void) PQisBusy(hold->conn.pg); /* looks at what came */
		}
		if (!hold->lost && (now_ms() >= hold->check_at || (news && PQstatus(hold->conn.pg) == CONNECTION_BAD)))
			hold_keep(hold);
		if (hold->lost)
		{
			child_end(&run->child, run->grace_ms);
			run->telling = true;
			hold_tell_lost(hold);
			run->telling = false;
		}
	}
	child_return_terminal(&run->child);
}

/*
 * Begin with what is so without options.
 */
void
run_init(Run *run, const Command *subcommand)
{
	memset(run, 0, sizeof(Run));
	run->subcommand = subcommand;
	run->id = make_uuid();
	run->hold.mode = MODE_LEASE;
	run->hold.ttl_ms = DEFAULT_TTL_MS;
	run->grace_ms = DEFAULT_GRACE_MS;
	run->statuses = default_statuses;
	run->child.kill_at = NEVER;
	db_init(&run->hold.conn, idle, run);
}

/* Take one of the RUN_LONG_OPTIONS.  Returns false if it is none of them. */
bool
run_option(Run *run, int c, const char *value)
{
	const Command *subcommand = run->subcommand;
	Hold	   *hold = &run->hold;

	switch (c)
	{
		case 'E':
			run->statuses.held = status_argument(subcommand, "-E", value);
			return true;
		case 'm':
			hold->note = value;
			return true;
		case OPTION_MODE:
			if (strcmp(value, "lease") == 0)
				hold->mode = MODE_LEASE;
			else if (strcmp(value, "durable") == 0)
				hold->mode = MODE_DURABLE;
			else if (strcmp(value, "session") == 0)
				hold->mode = MODE_SESSION;
			else
				usage_error(subcommand, "unrecognized mode: \"%s\" (lease, durable and session are valid)", value);
			return true;
		case OPTION_WAIT:
			hold->wait_ms = strcmp(value, "forever") == 0 ? -1 : duration_argument(subcommand, "--wait", value);
			return true;
		case OPTION_TTL:
			hold->ttl_ms = duration_argument(subcommand, "--ttl", value);
			if (hold->ttl_ms < MIN_TTL_MS)
				usage_error(subcommand, "--ttl must be %d s at least", MIN_TTL_MS / 1000);
			return true;
		case OPTION_GRACE:
			run->grace_ms = duration_argument(subcommand, "--grace", value);
			return true;
		case OPTION_WHO:
			hold->who = value;
			return true;
		case OPTION_LOST_STATUS:
			run->statuses.lost = status_argument(subcommand, "--lost-exit-code", value);
			return true;
		case OPTION_CONNECT_STATUS:
			run->statuses.connect = status_argument(subcommand, "--connect-exit-code", value);
			return true;
	}
	return false;
}

static void
read_options(Run *run, int argc, char **argv)
{
	Hold	   *hold = &run->hold;
	int			end = argc;
	int			c;

	/* what stands behind "--" is no option of ours */
	for (int i = 1; i < argc && end == argc; i++)
	{
		if (strcmp(argv[i], "--") == 0)
			end = i;
	}
	run->command = argv + Min(end + 1, argc);
	argv[end] = end < argc ? NULL : argv[end];
	while ((c = getopt_long(end, argv, CONNECTION_OPTSTRING RUN_OPTSTRING, long_options, NULL)) != -1)
	{
		if (c == OPTION_OPERATION)
			hold->operation = optarg;
		else if (!connection_option(c, optarg) && !run_option(run, c, optarg))
			exit(bad_option(&run_command, c));
	}
	if (run->command[0] == NULL)
		usage_error(&run_command, "no command is given: put \"--\" and the command behind the lockids");
	if (optind == end)
		usage_error(&run_command, "no lockid is given");
	hold->count = end - optind;
	hold->locks = pg_malloc0(hold->count * sizeof(HeldLock));
	for (int i = 0; i < hold->count; i++)
		hold->locks[i].lockid = argv[optind + i];
	if (hold->operation == NULL)
		hold->operation = last_dir_separator(run->command[0]) ? last_dir_separator(run->command[0]) + 1 : run->command[0];
}

static int
compare_lockids(const void *a, const void *b)
{
	return strcmp(((const HeldLock *) a)->lockid, ((const HeldLock *) b)->lockid);
}

/*
 * Take the locks, run the command, and release the locks.  Returns the exit status.  The
 * connection stays the caller's, to be closed.
 */
int
run_under_locks(Run *run)
{
	int			status;

	catch_signals();
	ignore_broken_pipes();
	status = take_locks(run);
	if (status != 0)
	{
		/* the first renewal can find that one of several locks is lost */
		if (run->hold.lost)
			(void) hold_release(&run->hold);
		/* for what the caller goes on to ask; there is no child */
		run->asking = true;
		return status;
	}
	set_environment(run);
	status = child_start(&run->child, run->command);
	if (status == 0)
	{
		keep_locks(run);
		status = run->child.exit_status;
	}
	if (!hold_release(&run->hold))
		status = run->statuses.lost;
	return status;
}

static int
run_main(const Command *command, int argc, char **argv)
{
	Run			run;
	int			status;

	if (wants_http(argc, argv))
		return become_http("run", argc, argv);
	run_init(&run, command);
	read_options(&run, argc, argv);
	run.hold.conn.name = psprintf("tfstate-run:%s", run.id);
	if (run.hold.who == NULL)
		run.hold.who = default_who();
	qsort(run.hold.locks, run.hold.count, sizeof(HeldLock), compare_lockids);
	for (int i = 1; i < run.hold.count; i++)
	{
		if (compare_lockids(&run.hold.locks[i - 1], &run.hold.locks[i]) == 0)
			usage_error(&run_command, "lockid \"%s\" is given twice", run.hold.locks[i].lockid);
	}
	status = run_under_locks(&run);
	db_disconnect(&run.hold.conn);
	return status;
}

const Command run_command = {
	"run", run_main, "[OPTION]... LOCKID... -- COMMAND [ARGUMENT]...",
	"hold locks while a command runs",
	"      --http             take no lock, but give the command Terraform's http backend for one\n"
	"                         workspace (default: terraform_remote_state.states/default)\n"
	"      --wait=DURATION    how long to wait for the locks, or \"forever\" (default: 0)\n"
	"  -m, --message=TEXT     Info of the locks, for whoever looks at them\n"
	"      --operation=TEXT   Operation of the locks (default: the command's name)\n"
	RUN_OPTIONS_HELP
};
