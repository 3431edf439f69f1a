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

#include "child.h"
#include "client.h"
#include "commands.h"
#include "event.h"
#include "hold.h"
#include "http.h"
#include "options.h"
#include "progress.h"

/* The lease that is taken without --ttl, and the time a command has to end, in ms. */
#define DEFAULT_TTL_MS		60000
#define DEFAULT_GRACE_MS	60000

static const ExitStatuses default_statuses = {EXIT_HELD, EXIT_LOST, EXIT_CONNECT};

/* The shortest lease: it must be possible to renew it over a slow connection. */
#define MIN_TTL_MS			5000

enum
{
	OPTION_MODE = OPTION_LONG_ONLY,
	OPTION_WAIT,
	OPTION_TTL,
	OPTION_GRACE,
	OPTION_HTTP,
	OPTION_WHO,
	OPTION_OPERATION,
	OPTION_LOST_STATUS,
	OPTION_CONNECT_STATUS
};

static const struct option long_options[] = {
	CONNECTION_LONG_OPTIONS,
	{"conflict-exit-code", required_argument, NULL, 'E'},
	{"connect-exit-code", required_argument, NULL, OPTION_CONNECT_STATUS},
	{"grace", required_argument, NULL, OPTION_GRACE},
	{"lost-exit-code", required_argument, NULL, OPTION_LOST_STATUS},
	{"http", no_argument, NULL, OPTION_HTTP},
	{"message", required_argument, NULL, 'm'},
	{"mode", required_argument, NULL, OPTION_MODE},
	{"operation", required_argument, NULL, OPTION_OPERATION},
	{"ttl", required_argument, NULL, OPTION_TTL},
	{"wait", required_argument, NULL, OPTION_WAIT},
	{"who", required_argument, NULL, OPTION_WHO},
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0}
};

typedef struct Run
{
	Hold		hold;
	Child		child;
	Progress	progress;
	bool		waiting;		/* for the locks */
	bool		releasing;
	int			signal;			/* that ended the wait, or 0 */
	int64_t		grace_ms;
	ExitStatuses statuses;
	char	  **command;
} Run;

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

	if (!run->waiting && !run->releasing)
	{
		pass_signals_on(run);
		return !run->child.running;
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
	for (int i = 0; i < run->hold.count; i++)
		lockids[i] = run->hold.locks[i].lockid;
	status = hold_prepare(&run->hold);
	if (status == 0)
	{
		progress_start(&run->progress, lockids, run->hold.count, &run->hold.conn);
		status = hold_take(&run->hold);
		progress_stop(&run->progress);
	}
	run->waiting = false;
	if (run->signal != 0)
	{
		hold_give_up(&run->hold);
		return 128 + run->signal;
	}
	return status == EXIT_HELD ? run->statuses.held : status == EXIT_CONNECT ? run->statuses.connect : status;
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
 * holds them.
 */
static void
set_environment(Run *run, const char *run_id)
{
	const char *given = getenv("PGOPTIONS");
	PQExpBufferData lockids;

	initPQExpBuffer(&lockids);
	for (int i = 0; i < run->hold.count; i++)
		appendPQExpBuffer(&lockids, "%s%s", i > 0 ? "\n" : "", run->hold.locks[i].lockid);
	setenv("TFSTATE_LOCKID", lockids.data, 1);
	setenv("TFSTATE_LOCK_ID", joined(run, false), 1);
	setenv("TFSTATE_FENCE", joined(run, true), 1);
	setenv("TFSTATE_RUN_ID", run_id, 1);
	setenv("PGOPTIONS", psprintf("%s%s-c tfstate.run_id=%s", given ? given : "", given && *given ? " " : "", run_id), 1);
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
			(void) PQconsumeInput(hold->conn.pg);
		if (!hold->lost && (now_ms() >= hold->check_at || (news && PQstatus(hold->conn.pg) == CONNECTION_BAD)))
			hold_keep(hold);
		if (hold->lost)
			child_end(&run->child, run->grace_ms);
	}
	child_return_terminal(&run->child);
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
	hold->mode = MODE_LEASE;
	hold->ttl_ms = DEFAULT_TTL_MS;
	run->grace_ms = DEFAULT_GRACE_MS;
	run->statuses = default_statuses;
	while ((c = getopt_long(end, argv, CONNECTION_OPTSTRING "E:m:", long_options, NULL)) != -1)
	{
		switch (c)
		{
			case 'E':
				run->statuses.held = status_argument(&run_command, "-E", optarg);
				break;
			case 'm':
				hold->note = optarg;
				break;
			case OPTION_MODE:
				if (strcmp(optarg, "lease") == 0)
					hold->mode = MODE_LEASE;
				else if (strcmp(optarg, "durable") == 0)
					hold->mode = MODE_DURABLE;
				else if (strcmp(optarg, "session") == 0)
					hold->mode = MODE_SESSION;
				else
					usage_error(&run_command, "unrecognized mode: \"%s\" (lease, durable and session are valid)", optarg);
				break;
			case OPTION_WAIT:
				hold->wait_ms = strcmp(optarg, "forever") == 0 ? -1 : duration_argument(&run_command, "--wait", optarg);
				break;
			case OPTION_TTL:
				hold->ttl_ms = duration_argument(&run_command, "--ttl", optarg);
				if (hold->ttl_ms < MIN_TTL_MS)
					usage_error(&run_command, "--ttl must be %d s at least", MIN_TTL_MS / 1000);
				break;
			case OPTION_GRACE:
				run->grace_ms = duration_argument(&run_command, "--grace", optarg);
				break;
			case OPTION_WHO:
				hold->who = optarg;
				break;
			case OPTION_OPERATION:
				hold->operation = optarg;
				break;
			case OPTION_LOST_STATUS:
				run->statuses.lost = status_argument(&run_command, "--lost-exit-code", optarg);
				break;
			case OPTION_CONNECT_STATUS:
				run->statuses.connect = status_argument(&run_command, "--connect-exit-code", optarg);
				break;
			default:
				if (!connection_option(c, optarg))
					exit(bad_option(&run_command, c));
		}
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

static int
run_main(const Command *command, int argc, char **argv)
{
	Run			run = {0};
	char	   *run_id = make_uuid();
	int			status;

	if (wants_http(argc, argv))
		return become_http("run", argc, argv);
	db_init(&run.hold.conn, idle, &run);
	read_options(&run, argc, argv);
	run.hold.conn.name = psprintf("tfstate-run:%s", run_id);
	if (run.hold.who == NULL)
		run.hold.who = default_who();
	qsort(run.hold.locks, run.hold.count, sizeof(HeldLock), compare_lockids);
	for (int i = 1; i < run.hold.count; i++)
	{
		if (compare_lockids(&run.hold.locks[i - 1], &run.hold.locks[i]) == 0)
			usage_error(&run_command, "lockid \"%s\" is given twice", run.hold.locks[i].lockid);
	}

	catch_signals();
	ignore_broken_pipes();
	status = take_locks(&run);
	if (status != 0)
	{
		db_disconnect(&run.hold.conn);
		return status;
	}
	set_environment(&run, run_id);
	status = child_start(&run.child, run.command);
	if (status == 0)
	{
		keep_locks(&run);
		status = run.child.exit_status;
	}
	run.releasing = true;
	if (run.hold.lost || !hold_release(&run.hold))
		status = run.statuses.lost;
	db_disconnect(&run.hold.conn);
	return status;
}

const Command run_command = {
	"run", run_main, "[OPTION]... LOCKID... -- COMMAND [ARGUMENT]...",
	"hold locks while a command runs",
	"      --http             take no lock, but give the command Terraform's http backend for one\n"
	"                         workspace (default: terraform_remote_state.states/default)\n"
	"      --wait=DURATION    how long to wait for the locks, or \"forever\" (default: 0)\n"
	"      --mode=MODE        lease (default), durable or session\n"
	"      --ttl=DURATION     how long a lease lasts unless it is renewed (default: 60s)\n"
	"      --grace=DURATION   after a lock is lost, how long the command has between SIGTERM\n"
	"                         and SIGKILL (default: 60s)\n"
	"  -m, --message=TEXT     Info of the locks, for whoever looks at them\n"
	"      --operation=TEXT   Operation of the locks (default: the command's name)\n"
	"      --who=TEXT         Who holds the locks (default: user@host)\n"
	"  -E, --conflict-exit-code=N\n"
	"                         exit status if another holds a lock (default: 75)\n"
	"      --lost-exit-code=N exit status if a lock was lost (default: 70)\n"
	"      --connect-exit-code=N\n"
	"                         exit status if there is no connection (default: 69)\n"
};
