/*-------------------------------------------------------------------------
 *
 * act.c
 *	  Subcommands that change something, or look for what is wrong.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <limits.h>

#include "client.h"
#include "commands.h"
#include "event.h"
#include "hold.h"
#include "options.h"
#include "pqexpbuffer.h"
#include "print.h"
#include "simple.h"

enum
{
	OPTION_MODE = OPTION_LONG_ONLY,
	OPTION_WAIT,
	OPTION_TTL,
	OPTION_WHO,
	OPTION_OPERATION,
	OPTION_YES,
	OPTION_DRY_RUN,
	OPTION_TERMINATE,
	OPTION_VERSIONS,
	OPTION_ROLE,
	OPTION_ACCESS,
	OPTION_GUARD,
	OPTION_KEEP_VERSIONS,
	OPTION_KEEP_AGE,
	OPTION_NO_DEFAULT_WORKSPACE,
	OPTION_FOR,
	OPTION_EXEMPT,
	OPTION_ALL,
	OPTION_CSV,
	OPTION_JSON
};

/* What the options say. */
typedef struct Options
{
	const char *message;
	const char *mode;
	const char *wait;			/* as intervals */
	const char *ttl;
	int64_t		wait_ms;		/* -1 for ever */
	int64_t		ttl_ms;
	const char *who;
	const char *operation;
	const char *role;
	const char *access;
	const char *guard;
	const char *keep_versions;
	const char *keep_age;
	const char *default_workspace;
	const char *duration;
	const char *exempt;			/* of a name[] */
	bool		all;
	bool		yes;
	bool		terminate;
	bool		dry_run;
	bool		versions;
	OutputFormat format;
} Options;

static const struct option long_options[] = {
	CONNECTION_LONG_OPTIONS,
	{"access", required_argument, NULL, OPTION_ACCESS},
	{"all", no_argument, NULL, OPTION_ALL},
	{"csv", no_argument, NULL, OPTION_CSV},
	{"exempt", required_argument, NULL, OPTION_EXEMPT},
	{"for", required_argument, NULL, OPTION_FOR},
	{"guard", required_argument, NULL, OPTION_GUARD},
	{"json", no_argument, NULL, OPTION_JSON},
	{"keep-age", required_argument, NULL, OPTION_KEEP_AGE},
	{"keep-versions", required_argument, NULL, OPTION_KEEP_VERSIONS},
	{"message", required_argument, NULL, 'm'},
	{"mode", required_argument, NULL, OPTION_MODE},
	{"no-default-workspace", no_argument, NULL, OPTION_NO_DEFAULT_WORKSPACE},
	{"operation", required_argument, NULL, OPTION_OPERATION},
	{"role", required_argument, NULL, OPTION_ROLE},
	{"dry-run", no_argument, NULL, OPTION_DRY_RUN},
	{"terminate", no_argument, NULL, OPTION_TERMINATE},
	{"ttl", required_argument, NULL, OPTION_TTL},
	{"versions", no_argument, NULL, OPTION_VERSIONS},
	{"wait", required_argument, NULL, OPTION_WAIT},
	{"who", required_argument, NULL, OPTION_WHO},
	{"yes", no_argument, NULL, OPTION_YES},
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0}
};

static const char *
interval_argument(const Command *command, const char *option, const char *value, int64_t *ms)
{
	*ms = duration_argument(command, option, value);
	return psprintf("%lld milliseconds", (long long) *ms);
}

/* An array of names as the server reads it, with one more name; NULL is an empty one. */
static char *
append_name(const char *array, const char *name)
{
	PQExpBuffer buf = createPQExpBuffer();

	appendBinaryPQExpBuffer(buf, array ? array : "{", array ? strlen(array) - 1 : 1);
	appendPQExpBufferStr(buf, array ? ",\"" : "\"");
	for (; *name; name++)
	{
		if (*name == '"' || *name == '\\')
			appendPQExpBufferChar(buf, '\\');
		appendPQExpBufferChar(buf, *name);
	}
	appendPQExpBufferStr(buf, "\"}");
	return buf->data;
}

/*
 * Read the options, which have to be among those that the help of the command names, and
 * check how many arguments are left, which begin at argv[optind].
 */
static void
read_command_line(const Command *command, int argc, char **argv, int least, int most, Options *options)
{
	int			index = -1;
	int64_t		ms;
	int			c;

	memset(options, 0, sizeof(Options));
	while ((c = getopt_long(argc, argv, CONNECTION_OPTSTRING "m:", long_options, &index)) != -1)
	{
		if (connection_option(c, optarg))
			continue;
		if (c != OPTION_HELP && c != '?' &&
			(command->options == NULL ||
			 strstr(command->options, c == 'm' ? "-m, --message" : psprintf("--%s", long_options[index].name)) == NULL))
			usage_error(command, "there is no such option: --%s", c == 'm' ? "message" : long_options[index].name);
		switch (c)
		{
			case 'm':
				options->message = optarg;
				break;
			case OPTION_ALL:
				options->all = true;
				break;
			case OPTION_CSV:
				options->format = FORMAT_CSV;
				break;
			case OPTION_EXEMPT:
				options->exempt = append_name(options->exempt, optarg);
				break;
			case OPTION_FOR:
				options->duration = interval_argument(command, "--for", optarg, &ms);
				break;
			case OPTION_GUARD:
				options->guard = optarg;
				break;
			case OPTION_JSON:
				options->format = FORMAT_JSON;
				break;
			case OPTION_KEEP_AGE:
				options->keep_age = interval_argument(command, "--keep-age", optarg, &ms);
				break;
			case OPTION_KEEP_VERSIONS:
				options->keep_versions = optarg;
				break;
			case OPTION_MODE:
				options->mode = optarg;
				break;
			case OPTION_NO_DEFAULT_WORKSPACE:
				options->default_workspace = "false";
				break;
			case OPTION_OPERATION:
				options->operation = optarg;
				break;
			case OPTION_ROLE:
				options->role = optarg;
				break;
			case OPTION_ACCESS:
				options->access = optarg;
				break;
			case OPTION_TERMINATE:
				options->terminate = true;
				break;
			case OPTION_DRY_RUN:
				options->dry_run = true;
				break;
			case OPTION_TTL:
				options->ttl = interval_argument(command, "--ttl", optarg, &options->ttl_ms);
				break;
			case OPTION_VERSIONS:
				options->versions = true;
				break;
			case OPTION_WAIT:
				options->wait_ms = -1;
				options->wait = strcmp(optarg, "forever") == 0 ? optarg :
					interval_argument(command, "--wait", optarg, &options->wait_ms);
				break;
			case OPTION_WHO:
				options->who = optarg;
				break;
			case OPTION_YES:
				options->yes = true;
				break;
			default:
				exit(bad_option(command, c));
		}
	}
	if (argc - optind < least || argc - optind > most)
		usage_error(command, "too %s arguments: %s", argc - optind < least ? "few" : "many", command->arguments);
}

/* Print a result, as a table or as JSON if it has that form. */
static void
print_rows(Conn *conn, const PGresult *result, const Options *options)
{
	print_result(result, PQclientEncoding(conn->pg), options->format, false);
}

/*
 * tfstate lock: take a lock that stays, and print its ID.  Nobody would unlock one whose ID
 * is not known.
 */
static int
lock_main(const Command *command, int argc, char **argv)
{
	Hold		hold = {0};
	HeldLock	lock = {0};
	Options		options;
	int			status;

	read_command_line(command, argc, argv, 1, 1, &options);
	lock.lockid = argv[optind];
	hold.locks = &lock;
	hold.count = 1;
	hold.mode = options.ttl ? MODE_LEASE : MODE_DURABLE;
	hold.ttl_ms = options.ttl_ms;
	hold.wait_ms = options.wait_ms;
	hold.operation = options.operation ? options.operation : "lock";
	hold.note = options.message;
	hold.who = options.who ? options.who : default_who();
	simple_begin(&hold.conn);
	ignore_broken_pipes();
	status = hold_prepare(&hold);
	if (status == 0)
		status = hold_take(&hold);
	if (simple_signal() != 0)
	{
		hold_give_up(&hold);
		return 128 + simple_signal();
	}
	if (status != 0)
		return status;
	printf("%s\n", lock.id);
	if (!flush_output())
		(void) hold_release(&hold);
	return EXIT_SUCCESS_STATUS;
}

static int
unlock_main(const Command *command, int argc, char **argv)
{
	Options		options;

	read_command_line(command, argc, argv, 2, 2, &options);
	(void) simple_query(simple_connect(), "SELECT @.tfstate_unlock($1, $2)", 2, (const char **) argv + optind);
	return EXIT_SUCCESS_STATUS;
}

static int
renew_main(const Command *command, int argc, char **argv)
{
	Options		options;
	const char *values[3];
	PGresult   *result;

	read_command_line(command, argc, argv, 2, 2, &options);
	values[0] = argv[optind];
	values[1] = argv[optind + 1];
	values[2] = options.ttl;
	result = simple_query(simple_connect(), "SELECT @.tfstate_renew($1, $2, $3::interval)", 3, values);
	printf("%s\n", PQgetvalue(result, 0, 0));
	return EXIT_SUCCESS_STATUS;
}

/*
 * tfstate force-unlock: release a lock whoever holds it, after a question.  What is
 * released is what was shown: its ID goes along.
 */
static int
force_unlock_main(const Command *command, int argc, char **argv)
{
	Options		options;
	const char *values[4];
	Conn	   *conn;

	read_command_line(command, argc, argv, 1, 2, &options);
	values[0] = argv[optind];
	values[1] = argv[optind + 1];	/* NULL if it was left out */
	values[2] = options.message;
	values[3] = options.terminate ? "true" : "false";
	conn = simple_connect();
	if (!options.yes)
	{
		char	   *id;
		char	   *block = lock_info(conn, values[0], &id);

		if (block)
		{
			fprintf(stderr, "%s\n\n", block);
			if (values[1] == NULL)
				values[1] = id;
			if (!ask_yes("Do you really want to release this lock?  Whoever holds it is not stopped by that."))
			{
				fprintf(stderr, "%s: nothing was released\n", progname);
				return EXIT_FAILED;
			}
		}
	}
	(void) simple_query(conn, "SELECT @.tfstate_force_unlock($1, $2, $3, $4::boolean)", 4, values);
	fprintf(stderr, "%s: state lock \"%s\" was released\n", progname, values[0]);
	return EXIT_SUCCESS_STATUS;
}

/*
 * tfstate freeze: refuse new locks, and list the holders that go on.
 */
static int
freeze_main(const Command *command, int argc, char **argv)
{
	static const char *const rows =
		"SELECT * FROM @.tfstate_freeze($1, $2, pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $3::interval, $4::name[])";
	Options		options;
	const char *values[4];
	const char *who;
	PGresult   *result;
	Conn	   *conn;

	read_command_line(command, argc, argv, 1, 1, &options);
	if (options.message == NULL)
		usage_error(command, "the reason is missing: --message=TEXT");
	values[0] = argv[optind];
	values[1] = options.message;
	values[2] = options.duration;
	values[3] = options.exempt;
	conn = simple_connect();
	who = default_who();
	(void) simple_query(conn, "SELECT pg_catalog.set_config('tfstate.who', $1, false)", 1, &who);
	result = simple_query(conn, options.format == FORMAT_JSON ? psprintf(AS_JSON, rows) : rows, 4, values);
	fprintf(stderr, "%s: \"%s\" is frozen; the locks that are held below it:\n", progname, values[0]);
	print_rows(conn, result, &options);
	return EXIT_SUCCESS_STATUS;
}

static int
unfreeze_main(const Command *command, int argc, char **argv)
{
	Options		options;

	read_command_line(command, argc, argv, 1, 1, &options);
	(void) simple_query(simple_connect(), "SELECT @.tfstate_unfreeze($1)", 1, (const char **) argv + optind);
	return EXIT_SUCCESS_STATUS;
}

/* tfstate rollback, undelete and repair: what the state is then. */
static int
new_version_main(const Command *command, int argc, char **argv)
{
	const char *name = command->name;
	bool		rollback = strcmp(name, "rollback") == 0;
	Options		options;
	PGresult   *result;

	read_command_line(command, argc, argv, rollback ? 2 : 1, rollback ? 2 : 1, &options);
	result = simple_query(simple_connect(),
						  rollback ? "SELECT @.tfstate_rollback($1, $2::bigint)" :
						  psprintf("SELECT @.tfstate_%s($1)", name), rollback ? 2 : 1, (const char **) argv + optind);
	if (PQgetisnull(result, 0, 0))
		printf("workspace \"%s\" has never had a state\n", argv[optind]);
	else
		printf("the state of workspace \"%s\" is version %s\n", argv[optind], PQgetvalue(result, 0, 0));
	return EXIT_SUCCESS_STATUS;
}

/*
 * tfstate erase: remove the texts of versions for good, after a question.
 */
static int
erase_main(const Command *command, int argc, char **argv)
{
	Options		options;
	const char *values[3];
	PGresult   *result;

	read_command_line(command, argc, argv, 1, INT_MAX, &options);
	if (options.message == NULL)
		usage_error(command, "the reason is missing: --message=TEXT");
	if (options.all == (argc - optind > 1))
		usage_error(command, options.all ? "--all takes no versions" : "which versions? (--all: all but the current state)");
	values[0] = argv[optind];
	values[1] = NULL;			/* all */
	for (int i = optind + 1; i < argc; i++)
		values[1] = append_name(values[1], argv[i]);
	values[2] = options.message;
	if (!options.yes && !ask_yes("Do you really want to erase these versions?  Nobody can read or restore them after that."))
	{
		fprintf(stderr, "%s: nothing was erased\n", progname);
		return EXIT_FAILED;
	}
	result = simple_query(simple_connect(), "SELECT @.tfstate_erase($1, $2::bigint[], $3)", 3, values);
	printf("%s versions were erased\n", PQgetvalue(result, 0, 0));
	return EXIT_SUCCESS_STATUS;
}

/* tfstate verify: exit status 1 if something is wrong. */
static int
verify_main(const Command *command, int argc, char **argv)
{
	static const char *const rows = "SELECT * FROM @.tfstate_verify($1, $2::boolean)";
	Options		options;
	const char *values[2];
	Conn	   *conn;
	PGresult   *result;

	read_command_line(command, argc, argv, 0, 1, &options);
	values[0] = argv[optind] ? argv[optind] : "*";
	values[1] = options.versions ? "true" : "false";
	conn = simple_connect();
	result = simple_query(conn, options.format == FORMAT_JSON ? psprintf(AS_JSON, rows) : rows, 2, values);
	print_rows(conn, result, &options);
	if (options.format == FORMAT_JSON)
		return strcmp(PQgetvalue(result, 0, 0), "[]") == 0 ? EXIT_SUCCESS_STATUS : EXIT_FAILED;
	return PQntuples(result) == 0 ? EXIT_SUCCESS_STATUS : EXIT_FAILED;
}

/* tfstate check: exit status 1 if an error was found, and not for warnings. */
static int
check_main(const Command *command, int argc, char **argv)
{
	static const char *const rows = "SELECT * FROM @.tfstate_check()";
	Options		options;
	Conn	   *conn;
	PGresult   *result;

	read_command_line(command, argc, argv, 0, 0, &options);
	conn = simple_connect();
	result = simple_query(conn, options.format == FORMAT_JSON ? psprintf(AS_JSON, rows) : rows, 0, NULL);
	print_rows(conn, result, &options);
	if (options.format == FORMAT_JSON)
		return strstr(PQgetvalue(result, 0, 0), "\"severity\": \"error\"") ? EXIT_FAILED : EXIT_SUCCESS_STATUS;
	for (int i = 0; i < PQntuples(result); i++)
	{
		if (strcmp(PQgetvalue(result, i, 0), "error") == 0)
			return EXIT_FAILED;
	}
	return EXIT_SUCCESS_STATUS;
}

static int
prune_main(const Command *command, int argc, char **argv)
{
	Options		options;
	const char *values[3];
	PGresult   *result;

	read_command_line(command, argc, argv, 0, 1, &options);
	values[0] = argv[optind] ? argv[optind] : "*";
	values[1] = options.keep_versions;
	values[2] = options.keep_age;
	result = simple_query(simple_connect(), "CALL @.tfstate_prune_in_batches($1, $2::integer, $3::interval)", 3, values);
	printf("%s versions were removed\n", PQgetvalue(result, 0, 0));
	return EXIT_SUCCESS_STATUS;
}

/* The schema and table that were named, or the ones that attach and detach have by default. */
static void
table_arguments(char **argv, const char **values)
{
	values[0] = argv[optind] ? argv[optind] : "terraform_remote_state";
	values[1] = argv[optind] && argv[optind + 1] ? argv[optind + 1] : "states";
}

static int
attach_main(const Command *command, int argc, char **argv)
{
	Options		options;
	const char *values[11];
	PGresult   *result;

	read_command_line(command, argc, argv, 0, 2, &options);
	table_arguments(argv, values);
	values[2] = options.role;
	values[3] = options.mode;
	values[4] = options.wait;
	values[5] = options.guard;
	values[6] = options.keep_versions;
	values[7] = options.keep_age;
	values[8] = options.default_workspace;
	values[9] = options.access;
	values[10] = options.dry_run ? "true" : "false";
	result = simple_query(simple_connect(),
						  "SELECT * FROM @.tfstate_attach($1, $2, $3::name, $4, $5::interval, $6, $7::integer, $8::interval, $9::boolean, "
						  "access => $10, dry_run => $11::boolean)",
						  11, values);
	for (int row = 0; row < PQntuples(result); row++)
		printf("%s\n", PQgetvalue(result, row, 0));
	return EXIT_SUCCESS_STATUS;
}

static int
detach_main(const Command *command, int argc, char **argv)
{
	Options		options;
	const char *values[3];

	read_command_line(command, argc, argv, 0, 2, &options);
	table_arguments(argv, values);
	values[2] = options.role;
	(void) simple_query(simple_connect(), "SELECT @.tfstate_detach($1, $2, $3::name)", 3, values);
	return EXIT_SUCCESS_STATUS;
}

/* tfstate grant and revoke. */
static int
grant_main(const Command *command, int argc, char **argv)
{
	const char *name = command->name;
	Options		options;
	const char *values[3];
	int			given;

	read_command_line(command, argc, argv, 1, 3, &options);
	given = argc - optind;
	values[0] = argv[optind];
	values[1] = given > 1 ? argv[optind + 1] : "*";
	values[2] = given > 2 ? argv[optind + 2] : "lock";
	(void) simple_query(simple_connect(), psprintf("SELECT @.tfstate_%s($1::name, $2, $3)", name), 3, values);
	return EXIT_SUCCESS_STATUS;
}

#define FORMAT_OPTIONS \
	"      --csv              print CSV\n" \
	"      --json             print JSON\n"

const Command act_commands[] = {
	{"lock", lock_main, "[OPTION]... LOCKID", "take a lock that stays until it is unlocked, and print its ID",
		"  -m, --message=TEXT     Info of the lock, for whoever looks at it\n"
		"      --wait=DURATION    how long to wait for the lock, or \"forever\" (default: 0)\n"
		"      --ttl=DURATION     take a lease, which ends by then unless it is renewed\n"
		"      --operation=TEXT   Operation of the lock (default: lock)\n"
	"      --who=TEXT         Who holds the lock (default: user@host)\n"},
	{"unlock", unlock_main, "LOCKID ID", "release a lock", NULL},
	{"renew", renew_main, "[OPTION]... LOCKID ID", "extend a lease, and print when it ends",
	"      --ttl=DURATION     for how long (default: as before)\n"},
	{"force-unlock", force_unlock_main, "[OPTION]... LOCKID [ID]", "release a lock whoever holds it",
		"  -m, --message=TEXT     the reason, for the history\n"
		"      --terminate        end the session of a lock in session mode\n"
	"      --yes              do not ask\n"},
	{"freeze", freeze_main, "[OPTION]... PATTERN", "refuse new locks and writes, and list the holders that go on",
		"  -m, --message=TEXT     the reason, which must be given\n"
		"      --for=DURATION     when the freeze ends by itself (default: never)\n"
		"      --exempt=ROLE      let this role and its members lock (repeatable)\n"
	FORMAT_OPTIONS},
	{"unfreeze", unfreeze_main, "PATTERN", "end a freeze", NULL},
	{"rollback", new_version_main, "WORKSPACE VERSION", "make an earlier version the state", NULL},
	{"undelete", new_version_main, "WORKSPACE", "bring a deleted workspace back", NULL},
	{"erase", erase_main, "[OPTION]... WORKSPACE [VERSION]...", "erase versions for good: a secret, a dead project",
		"      --all              all versions but the current state\n"
		"  -m, --message=TEXT     the reason, which must be given\n"
	"      --yes              do not ask\n"},
	{"verify", verify_main, "[OPTION]... [PATTERN]", "compare the states with what was recorded of them",
	"      --versions         check all versions, too\n" FORMAT_OPTIONS},
	{"repair", new_version_main, "WORKSPACE", "record the state in the table as the newest version", NULL},
	{"prune", prune_main, "[OPTION]... [PATTERN]", "remove old versions",
		"      --keep-versions=N  keep N of a workspace (default: as its table says)\n"
	"      --keep-age=DURATION\n                         keep what is not older (default: as its table says)\n"},
	{"check", check_main, "[OPTION]...", "look for what is wrong with the set-up", FORMAT_OPTIONS},
	{"attach", attach_main, "[OPTION]... [SCHEMA [TABLE]]", "lock and guard a table of Terraform states",
		"      --role=ROLE        make this role ready for Terraform\n"
		"      --access=ACCESS    what it may do: write, or only plan\n"
		"      --mode=MODE        the mode of its locks: session or durable\n"
		"      --wait=DURATION    how long Terraform waits for a lock\n"
		"      --guard=LEVEL      require, on or off\n"
		"      --keep-versions=N  how many versions of a state are kept\n"
		"      --keep-age=DURATION\n                         for how long versions are kept\n"
		"      --no-default-workspace\n                         do not make the workspace \"default\"\n"
	"      --dry-run          print the steps, and do nothing\n"},
	{"detach", detach_main, "[OPTION]... [SCHEMA [TABLE]]", "leave a table of states to itself, or take it from a role",
	"      --role=ROLE        only take back what this role was given\n"},
	{"grant", grant_main, "ROLE [PATTERN [PRIVILEGE]]", "let a role lock, view, force, override or admin", NULL},
	{"revoke", grant_main, "ROLE [PATTERN [PRIVILEGE]]", "take that back", NULL}
};
const int	num_act_commands = lengthof(act_commands);
