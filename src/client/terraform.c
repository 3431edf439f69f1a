/*-------------------------------------------------------------------------
 *
 * terraform.c
 *	  tfstate terraform and tofu: the program, unmodified, under the lock of its workspace.
 *
 * The environment tells the server, on each connection that the program makes, who works
 * there and for what, and names the run by a UUID.  So a lock or a version that the
 * program makes by itself says more, and a command that does not lock needs nothing else:
 * we become the program.
 *
 * For a command that locks the state we take the workspace's lock before, as "tfstate run"
 * does, and the program works inside of it.  That lock is a lease: it survives a broken
 * connection, which the program's own lock does not, and ends by itself if we are killed.
 * Commands that create a workspace are left to the program's own lock, since no other name
 * is known before.
 *
 * "force-unlock", which does nothing in the program, is done here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <unistd.h>

#include "fe_utils/string_utils.h"

#include "backend.h"
#include "child.h"
#include "client.h"
#include "commands.h"
#include "event.h"
#include "options.h"
#include "run.h"
#include "simple.h"

static const struct option long_options[] = {
	RUN_LONG_OPTIONS,
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0}
};

/* The commands that lock the state of a workspace, and what Terraform calls the operation. */
static const struct
{
	const char *name;
	const char *operation;		/* NULL if it is the name with a dash for the
								 * space */
}			locking[] = {
	{"apply", "OperationTypeApply"},
	{"destroy", "OperationTypeApply"},
	{"import", NULL},
	{"plan", "OperationTypePlan"},
	{"refresh", "OperationTypeRefresh"},
	{"state mv", NULL},
	{"state push", NULL},
	{"state replace-provider", NULL},
	{"state rm", NULL},
	{"taint", NULL},
	{"untaint", NULL},
	{"workspace delete", NULL}
};

/* A command line of Terraform. */
typedef struct Invocation
{
	char	  **argv;			/* as it is executed */
	const char *chdir;			/* NULL for none */
	const char *name;			/* of the command, as "apply" or "state mv";
								 * "" for none */
	char	  **arguments;		/* of the command */
	bool		locks;			/* is it one of those, and is its lock wanted? */
	const char *operation;
	const char *lock_timeout;	/* NULL if it is not set */
} Invocation;

/* What name_lock() needs. */
typedef struct Wrapped
{
	Invocation	invocation;
	Backend		backend;
} Wrapped;

/* How long a question may take. */
#define STATEMENT_MS	10000

/* Returned by name_lock() in place of an exit status. */
#define ALREADY_HELD	(-1)

/* Take note of an argument of the command that is about its lock. */
static void
note_argument(Invocation *invocation, const char *argument, const char *next)
{
	const char *name = argument + strspn(argument, "-");

	if (name == argument || name > argument + 2)
		return;
	if (strncmp(name, "lock=", 5) == 0)
		invocation->locks = strchr("1tT", name[5]) != NULL && name[5];
	else if (strncmp(name, "lock-timeout=", 13) == 0)
		invocation->lock_timeout = name + 13;
	else if (strcmp(name, "lock-timeout") == 0)
		invocation->lock_timeout = next;
	else if (strcmp(name, "h") == 0 || strcmp(name, "help") == 0)
		invocation->locks = false;
}

/* The same for arguments that an environment variable adds. */
static void
note_variable(Invocation *invocation, const char *name)
{
	const char *value = getenv(name);
	char	   *word = strtok(pg_strdup(value ? value : ""), " \t\n'\"");
	char	   *next;

	for (; word; word = next)
	{
		next = strtok(NULL, " \t\n'\"");
		note_argument(invocation, word, next);
	}
}

/*
 * Understand a command line as Terraform does.  argv[0] is the program.
 */
static void
read_invocation(Invocation *invocation, char **argv)
{
	char	  **p = argv + 1;
	char	   *variable;
	bool		locks = false;

	memset(invocation, 0, sizeof(Invocation));
	invocation->argv = argv;
	for (; *p && **p == '-'; p++)
	{
		if (strncmp(*p, "-chdir=", 7) == 0)
			invocation->chdir = *p + 7;
	}
	invocation->name = *p ? *p++ : "";
	if (strcmp(invocation->name, "env") == 0)
		invocation->name = "workspace"; /* as it was called once */
	if (*p && **p != '-' && (strcmp(invocation->name, "state") == 0 || strcmp(invocation->name, "workspace") == 0))
		invocation->name = psprintf("%s %s", invocation->name, *p++);
	invocation->arguments = p;
	for (int i = 0; i < lengthof(locking); i++)
	{
		if (strcmp(locking[i].name, invocation->name) == 0)
		{
			locks = true;
			invocation->operation = locking[i].operation;
		}
	}
	variable = psprintf("TF_CLI_ARGS_%s", invocation->name);
	for (char *c = variable; *c; c++)
		*c = *c == ' ' || *c == '-' ? '_' : *c;
	if (invocation->operation == NULL)
	{
		char	   *operation = pg_strdup(invocation->name);
		char	   *space = strchr(operation, ' ');

		if (space != NULL)
			*space = '-';
		invocation->operation = operation;
	}

	invocation->locks = true;
	note_variable(invocation, variable);
	note_variable(invocation, "TF_CLI_ARGS");
	for (; *p; p++)
		note_argument(invocation, p[0], p[1]);
	invocation->locks &= locks;
}

/* The first argument that is no option; NULL if there is none. */
static char *
first_operand(const Invocation *invocation)
{
	char	  **p = invocation->arguments;

	while (*p && **p == '-')
		p++;
	return *p;
}

/* The address of the job that this is, as CI services tell it; NULL for none. */
static const char *
job_address(void)
{
	const char *server = getenv("GITHUB_SERVER_URL");
	const char *repository = getenv("GITHUB_REPOSITORY");
	const char *id = getenv("GITHUB_RUN_ID");

	if (server && repository && id)
		return psprintf("%s/%s/actions/runs/%s", server, repository, id);
	return getenv("CI_JOB_URL") ? getenv("CI_JOB_URL") : getenv("BUILD_URL");
}

/* Add a member of a JSON object, if there is a value. */
static void
append_member(PQExpBuffer json, const char *name, const char *value)
{
	if (value == NULL)
		return;
	appendPQExpBuffer(json, "%s\"%s\":\"", json->len > 0 ? "," : "{", name);
	for (; *value; value++)
	{
		if (*value == '"' || *value == '\\')
			appendPQExpBufferChar(json, '\\');
		if ((unsigned char) *value < ' ')
			appendPQExpBuffer(json, "\\u%04x", *value);
		else
			appendPQExpBufferChar(json, *value);
	}
	appendPQExpBufferChar(json, '"');
}

/*
 * Let the sessions of the program, and ours, tell who they are.  What PGOPTIONS says of
 * who and info counts more than what we find, and what our options say counts more than
 * that.
 *
 * Where PGOPTIONS does not count, or is refused by a pooler, the application_name names
 * the run, and the rest is told with the lock only.
 */
static void
set_identity(Run *run, const Wrapped *wrapped)
{
	const Backend *backend = &wrapped->backend;
	const char *given = getenv("PGOPTIONS");
	PQExpBuffer info = createPQExpBuffer();
	PQExpBuffer options = createPQExpBuffer();
	Hold	   *hold = &run->hold;
	bool		has_message = hold->note != NULL;

	if (hold->note == NULL)
		hold->note = job_address();
	hold->version = backend->version;
	hold->operation = wrapped->invocation.operation;
	append_member(info, "Info", hold->note);
	append_member(info, "Version", hold->version);
	if (info->len > 0)
		appendPQExpBufferChar(info, '}');

	setenv("TFSTATE_RUN_ID", run->id, 1);
	run->identified = true;
	if (backend->pooled || backend->sets_options)
	{
		setenv("PGAPPNAME", psprintf("tfstate-run:%s", run->id), 1);
		if (hold->who == NULL)
			hold->who = default_who();
		return;
	}
	if (hold->who == NULL)
		append_setting(options, "tfstate.who", default_who());
	if (info->len > 0 && !has_message)
		append_setting(options, "tfstate.info", info->data);

	/*
	 * no lease covers what such a command locks, so that must end with its
	 * connection
	 */
	if (!wrapped->invocation.locks)
		append_setting(options, "tfstate.mode", "session");
	if (given && *given)
		appendPQExpBuffer(options, "%s%s", options->len > 0 ? " " : "", given);
	if (hold->who)
		append_setting(options, "tfstate.who", hold->who);
	if (has_message)
		append_setting(options, "tfstate.info", info->data);
	append_setting(options, "tfstate.operation", hold->operation);
	append_setting(options, "tfstate.run_id", run->id);
	setenv("PGOPTIONS", options->data, 1);
}

/*
 * Become the program.  Returns the exit status if that fails, which is reported.
 */
static int
become(char **argv)
{
	int			error;

	release_signals();
	execvp(argv[0], argv);
	error = errno;
	fprintf(stderr, "%s: could not execute \"%s\": %s\n", progname, argv[0], strerror(error));
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}

/*
 * With a connection as the program will have it: find out which lock to take.  Returns 0,
 * an exit status after a message, or ALREADY_HELD.
 */
static int
name_lock(Run *run)
{
	Wrapped    *wrapped = run->arg;
	const Invocation *invocation = &wrapped->invocation;
	const Backend *backend = &wrapped->backend;
	Conn	   *conn = &run->hold.conn;
	bool		names_workspace = strcmp(invocation->name, "workspace delete") == 0 && first_operand(invocation);
	const char *values[] = {backend->schema, backend->table, names_workspace ? first_operand(invocation) : backend->workspace, run->id};
	PGresult   *result;
	DbStatus	status = db_exec(conn, &result, now_ms() + STATEMENT_MS,
								 "SELECT @.tfstate_lockid($1, $2, $3), EXISTS (SELECT FROM pg_catalog.pg_proc p "
								 "JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'tfstate_pg' "
								 "WHERE p.oid = pg_catalog.to_regprocedure('pg_try_advisory_lock(bigint)')), "
								 "coalesce(nullif(pg_catalog.current_setting('tfstate.run_id', true), ''), "
								 "pg_catalog.current_setting('application_name')) IN ($4, 'tfstate-run:' || $4)", 4, values);

	if (status != DB_OK)
	{
		if (status != DB_STOPPED)
			db_report(conn, result);
		return db_exit_status(status, result);
	}
	run->hold.locks[0].lockid = db_value(result, 0, 0);
	if (run->hold.locks[0].lockid == NULL)
		fprintf(stderr, "%s: table \"%s.%s\" is not attached to tfstate, so there is no lock to take; an administrator attaches it with: tfstate attach '%s' '%s'\n",
				progname, backend->schema, backend->table, backend->schema, backend->table);
	else if (strcmp(PQgetvalue(result, 0, 1), "t") != 0)
		fprintf(stderr, "%s: the search_path of role \"%s\" has no tfstate_pg before pg_catalog, so %s would lock without tfstate; an administrator corrects that with: tfstate attach --role='%s' '%s' '%s'\n",
				progname, PQuser(conn->pg), invocation->argv[0], PQuser(conn->pg), backend->schema, backend->table);
	else if (strcmp(PQgetvalue(result, 0, 2), "t") != 0)
		fprintf(stderr, "%s: the name of this run does not reach the server: the connection string of the backend sets both options and application_name, of which one must be left to PGOPTIONS or PGAPPNAME, or a pooler changes application_name\n",
				progname);
	else
		return child_of_holder(run->hold.locks[0].lockid) ? ALREADY_HELD : 0;
	return EXIT_FAILED;
}

/* Show who holds a lock, as Terraform does.  Returns false if nobody does. */
static bool
show_holder(Conn *conn, const char *lockid)
{
	char	   *block = lock_info(conn, lockid, NULL);

	if (block)
		fprintf(stderr, "%s\n", block);
	return block != NULL;
}

/*
 * Run a command that locks, under the lock of its workspace.
 */
static int
run_locked(Run *run, Wrapped *wrapped)
{
	const Backend *backend = &wrapped->backend;
	int			status;

	if (backend->type == NULL)
		fprintf(stderr, "%s: \"%s\" names no backend; run \"%s init\" first, or %s itself if the states are local files\n",
				progname, backend->file, wrapped->invocation.argv[0], wrapped->invocation.argv[0]);
	else if (strcmp(backend->type, "pg") != 0)
		fprintf(stderr, "%s: the states are in a backend of type \"%s\", and tfstate locks only those of type \"pg\"; run %s itself\n",
				progname, backend->type, wrapped->invocation.argv[0]);
	if (backend->type == NULL || strcmp(backend->type, "pg") != 0 || !backend_use(backend))
		return EXIT_FAILED;

	run->hold.locks = pg_malloc0(sizeof(HeldLock));
	run->hold.count = 1;
	run->connected = name_lock;
	run->arg = wrapped;
	run->child.only_command = true;
	status = run_under_locks(run);
	if (run->refused)
		(void) show_holder(&run->hold.conn, run->hold.locks[0].lockid);
	/* "... parameter: options", or "... parameter in options: tfstate.info" */
	if (run->hold.conn.pg && strstr(PQerrorMessage(run->hold.conn.pg), "unsupported startup parameter"))
		fprintf(stderr, "%s: hint: Behind a pooler in transaction mode, add binary_parameters=yes to the connection string, and let the table's mode be durable.\n",
				progname);
	db_disconnect(&run->hold.conn);
	return status == ALREADY_HELD ? become(wrapped->invocation.argv) : status;
}

/*
 * terraform force-unlock: release a lock by its ID.
 */
static int
force_unlock(Run *run, Wrapped *wrapped)
{
	const char *id = NULL;
	bool		force = false;
	const char *lockid;
	const char *values[4];
	Conn	   *conn;
	PGresult   *result;

	for (char **p = wrapped->invocation.arguments; *p; p++)
	{
		const char *name = *p + strspn(*p, "-");

		if (name > *p && (strcmp(name, "force") == 0 || strcmp(name, "force=true") == 0))
			force = true;
		else if (name == *p && id == NULL)
			id = *p;
		else if (name == *p || strcmp(name, "force=false") != 0)
			return become(wrapped->invocation.argv);	/* which says what is
														 * wrong, or helps */
	}
	if (id == NULL)
		return become(wrapped->invocation.argv);
	if (!backend_use(&wrapped->backend))
		return EXIT_FAILED;
	conn = simple_connect();
	values[0] = wrapped->backend.schema;
	values[1] = wrapped->backend.table;
	values[2] = wrapped->backend.workspace;
	result = simple_query(conn, "SELECT @.tfstate_lockid($1, $2, $3), @.tfstate_lockid($1, $2, '')", 3, values);
	lockid = db_value(result, 0, 0);
	values[0] = id;
	values[1] = lockid;
	values[2] = db_value(result, 0, 1);
	result = simple_query(conn, "SELECT h.lockid, h.mode = 'session' AND h.session_alive FROM @.tfstate_holders h WHERE h.id = $1 "
						  "ORDER BY h.lockid = $2 DESC NULLS LAST, pg_catalog.starts_with(h.lockid, $3) DESC NULLS LAST LIMIT 1",
						  3, values);
	if (PQntuples(result) == 0)
	{
		fprintf(stderr, "%s: no lock that you may see has the ID \"%s\".  (The Lock Info that %s shows after a conflict is of its own attempt.)\n",
				progname, id, wrapped->invocation.argv[0]);
		if (lockid && show_holder(conn, lockid))
			fprintf(stderr, "%s: this is the holder of workspace \"%s\"\n", progname, lockid);
		else if (lockid)
			fprintf(stderr, "%s: workspace \"%s\" is not locked\n", progname, lockid);
		return EXIT_FAILED;
	}
	values[0] = db_value(result, 0, 0);
	values[1] = id;
	values[2] = run->hold.note ? run->hold.note : psprintf("%s force-unlock by %s", wrapped->invocation.argv[0], default_who());
	values[3] = strcmp(PQgetvalue(result, 0, 1), "t") == 0 ? "true" : "false";
	if (!force)
	{
		(void) show_holder(conn, values[0]);
		if (!ask_yes(psprintf("Do you really want to force-unlock?\n"
							  "  The lock will be removed%s.  Others may then modify this state, even though it\n"
							  "  may still be in use.", strcmp(values[3], "true") == 0 ? ", and the session that holds it ended" : "")))
		{
			fprintf(stderr, "force-unlock cancelled.\n");
			return EXIT_FAILED;
		}
	}
	(void) simple_query(conn, "SELECT @.tfstate_force_unlock($1, $2, $3, $4::boolean)", 4, values);
	printf("Terraform state has been successfully unlocked!\n\n"
		   "The lock of \"%s\" has been released, and other commands can take it now.\n", values[0]);
	return EXIT_SUCCESS_STATUS;
}

static int
terraform_main(const Command *command, int argc, char **argv)
{
	Run			run;
	Wrapped		wrapped;
	char	  **program;
	const char *given = getenv("TFSTATE_RUN_ID");
	bool		waits = false;
	bool		readable;
	int			c;

	run_init(&run, command);
	/* the first argument that is none of our options begins Terraform's */
	while (optind < argc && (strncmp(argv[optind], "-E", 2) == 0 || strncmp(argv[optind], "-m", 2) == 0 ||
							 (strncmp(argv[optind], "--", 2) == 0 && argv[optind][2])))
	{
		c = getopt_long(argc, argv, "+" RUN_OPTSTRING, long_options, NULL);
		if (!run_option(&run, c, optarg))
			return bad_option(command, c);
		waits |= c == OPTION_WAIT;
	}
	program = argv + optind;
	if (optind < argc && strcmp(argv[optind], "--") == 0)
	{
		if (*++program == NULL)
			usage_error(command, "no program is given behind \"--\"");
	}
	else
		*--program = pg_strdup(command->name);

	read_invocation(&wrapped.invocation, program);
	readable = backend_read(&wrapped.backend, wrapped.invocation.chdir);
	if (!readable && wrapped.invocation.locks)
		return EXIT_FAILED;
	if (given && *given)
		run.id = pg_strdup(given);
	set_identity(&run, &wrapped);
	if (strcmp(wrapped.invocation.name, "force-unlock") == 0 && wrapped.backend.type && strcmp(wrapped.backend.type, "pg") == 0)
		return force_unlock(&run, &wrapped);
	if (!wrapped.invocation.locks)
		return become(program);
	if (!waits && wrapped.invocation.lock_timeout)
		run.hold.wait_ms = duration_argument(command, "-lock-timeout", wrapped.invocation.lock_timeout);
	run.command = program;
	return run_locked(&run, &wrapped);
}

#define TERRAFORM_OPTIONS \
	"      --wait=DURATION    how long to wait for the lock, or \"forever\" (default: what\n" \
	"                         Terraform's -lock-timeout says)\n" \
	"  -m, --message=TEXT     Info of the lock, or the reason of a force-unlock (default: the\n" \
	"                         address of the CI job)\n" \
	RUN_OPTIONS_HELP

const Command terraform_command = {
	"terraform", terraform_main, "[OPTION]... [-- PROGRAM] [ARGUMENT]...",
	"run Terraform under the lock of its workspace", TERRAFORM_OPTIONS, true
};

const Command tofu_command = {
	"tofu", terraform_main, "[OPTION]... [-- PROGRAM] [ARGUMENT]...",
	"run OpenTofu under the lock of its workspace", TERRAFORM_OPTIONS, true
};
