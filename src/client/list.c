/*-------------------------------------------------------------------------
 *
 * list.c
 *	  Subcommands that show something.
 *
 * Each is a query: of the columns that fit a terminal for people, and of all columns as
 * JSON, which the server makes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "client.h"
#include "commands.h"
#include "options.h"
#include "print.h"
#include "simple.h"

/* Does a column match the pattern, in which a star stands for any text? */
#define MATCHES(column) \
	column " LIKE pg_catalog.replace(pg_catalog.regexp_replace($1, '([%_\\\\])', '\\\\\\1', 'g'), '*', '%')"

/* How many arguments a query can have. */
#define MAX_ARGUMENTS	3

typedef struct ListQuery
{
	const char *command;
	int			least;			/* arguments that must be given */
	int			most;			/* that it takes */
	const char *defaults[MAX_ARGUMENTS];	/* of those that can be left out */
	const char *rows;			/* all columns, $1 and so on the arguments */
	const char *columns;		/* those for people */
	bool		expanded;		/* one line a column, for a single row */
	const char *none;			/* the error if there is no row */
} ListQuery;

static const ListQuery queries[] = {
	{"ls", 0, 1, {"*"},
	"SELECT * FROM @.tfstate_holders($1) ORDER BY lockid",
	"lockid, who, operation, mode, pg_catalog.date_trunc('second', created) AS since, waiters"},
	{"who", 1, 1, {NULL},
	"SELECT * FROM @.tfstate_holders($1) WHERE lockid = $1",
	"*", true, "is not held"},
	{"waiters", 0, 1, {"*"},
	"SELECT * FROM @.tfstate_waiters($1) ORDER BY lockid, position",
	"lockid, position, role, application_name, client_addr, pid, pg_catalog.date_trunc('second', since) AS since"},
	{"history", 0, 2, {"*", "100"},
	"SELECT * FROM @.tfstate_history($1, $2::bigint)",
	"lockid, who, operation, pg_catalog.date_trunc('second', created) AS since, "
	"pg_catalog.date_trunc('second', released_at) AS until, how, released_by, reason"},
	{"freezes", 0, 0, {NULL},
	"SELECT * FROM @.tfstate_freezes ORDER BY since",
	"pattern, reason, who, since, until, exempt"},
	{"workspaces", 0, 1, {"*"},
	"SELECT * FROM @.tfstate_workspaces WHERE " MATCHES("workspace") " ORDER BY workspace",
	"workspace, serial, resources, size, pg_catalog.date_trunc('second', written_at) AS written_at, written_by, "
	"locked_by, locked_for"},
	{"versions", 1, 1, {NULL},
	"SELECT * FROM @.tfstate_versions($1) ORDER BY workspace, number DESC",
	"number, operation, serial, pg_catalog.date_trunc('second', created) AS created, who, lock_operation, "
	"resources, size, stored"},
	{"resources", 0, 1, {"*"},
	"SELECT * FROM @.tfstate_resources($1)",
	"workspace, address, type, id, tainted"},
	{"outputs", 0, 1, {"*"},
	"SELECT * FROM @.tfstate_outputs($1)",
	"workspace, name, value"},
	{"grants", 0, 0, {NULL},
	"SELECT * FROM @.tfstate_grants",
	"*"},
	{"diff", 2, 3, {NULL, NULL, NULL},
	"SELECT * FROM @.tfstate_diff($1, $2::bigint, $3::bigint)",
	"*"}
};

enum
{
	OPTION_JSON = OPTION_LONG_ONLY,
	OPTION_CSV
};

static const struct option long_options[] = {
	CONNECTION_LONG_OPTIONS,
	{"csv", no_argument, NULL, OPTION_CSV},
	{"json", no_argument, NULL, OPTION_JSON},
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0}
};

static OutputFormat
read_options(const Command *command, int argc, char **argv)
{
	OutputFormat format = FORMAT_TABLE;
	int			c;

	while ((c = getopt_long(argc, argv, CONNECTION_OPTSTRING, long_options, NULL)) != -1)
	{
		if ((c == OPTION_JSON || c == OPTION_CSV) && command->options == NULL)
			usage_error(command, "there is no such option: --%s", c == OPTION_JSON ? "json" : "csv");
		else if (c == OPTION_JSON)
			format = FORMAT_JSON;
		else if (c == OPTION_CSV)
			format = FORMAT_CSV;
		else if (!connection_option(c, optarg))
			exit(bad_option(command, c));
	}
	return format;
}

/* The arguments that were given, and the defaults of the others.  Returns how many. */
static int
read_arguments(const Command *command, const ListQuery *query, int argc, char **argv, const char **values)
{
	int			given = argc - optind;

	if (given < query->least || given > query->most)
		usage_error(command, "too %s arguments: %s", given < query->least ? "few" : "many", command->arguments);
	for (int i = 0; i < query->most; i++)
		values[i] = i < given ? argv[optind + i] : query->defaults[i];
	return query->most;
}

static int
list_main(const Command *command, int argc, char **argv)
{
	const ListQuery *query = queries;
	const char *values[MAX_ARGUMENTS];
	OutputFormat format = read_options(command, argc, argv);
	int			count;
	Conn	   *conn;
	PGresult   *result;

	while (strcmp(query->command, command->name) != 0)
		query++;
	count = read_arguments(command, query, argc, argv, values);
	conn = simple_connect();
	result = simple_query(conn, format == FORMAT_JSON ?
						  psprintf(AS_JSON, query->rows) :
						  psprintf("SELECT %s FROM (%s) t", query->columns, query->rows), count, values);
	if (query->none && format != FORMAT_JSON && PQntuples(result) == 0)
	{
		fprintf(stderr, "%s: \"%s\" %s\n", progname, values[0], query->none);
		return EXIT_FAILED;
	}
	print_result(result, PQclientEncoding(conn->pg), format, query->expanded);
	return EXIT_SUCCESS_STATUS;
}

/*
 * tfstate cat: the text of a version, byte for byte.
 */
static int
cat_main(const Command *command, int argc, char **argv)
{
	const char *values[2];
	Conn	   *conn;
	PGresult   *result;

	(void) read_options(command, argc, argv);
	if (argc - optind < 1 || argc - optind > 2)
		usage_error(command, "a workspace, and perhaps the number of a version, is needed");
	values[0] = argv[optind];
	values[1] = argv[optind + 1];
	conn = simple_connect();
	result = simple_query(conn,
						  "SELECT @.tfstate_version($1, coalesce($2::bigint, "
						  "(SELECT pg_catalog.max(v.number) FROM @.tfstate_versions($1) v)))", 2, values);
	if (PQgetisnull(result, 0, 0))
	{
		fprintf(stderr, "%s: workspace \"%s\" has no version\n", progname, values[0]);
		return EXIT_FAILED;
	}
	(void) fwrite(PQgetvalue(result, 0, 0), 1, PQgetlength(result, 0, 0), stdout);
	return EXIT_SUCCESS_STATUS;
}

#define FORMAT_OPTIONS \
	"      --csv              print CSV\n" \
	"      --json             print all columns as JSON\n"

const Command list_commands[] = {
	{"ls", list_main, "[OPTION]... [PATTERN]", "list the locks that are held", FORMAT_OPTIONS},
	{"who", list_main, "[OPTION]... LOCKID", "show who holds a lock", FORMAT_OPTIONS},
	{"waiters", list_main, "[OPTION]... [PATTERN]", "list who waits for which lock", FORMAT_OPTIONS},
	{"history", list_main, "[OPTION]... [PATTERN [LIMIT]]", "list the locks that were released, newest first", FORMAT_OPTIONS},
	{"freezes", list_main, "[OPTION]...", "list the patterns that are frozen", FORMAT_OPTIONS},
	{"workspaces", list_main, "[OPTION]... [PATTERN]", "list the workspaces of Terraform", FORMAT_OPTIONS},
	{"versions", list_main, "[OPTION]... WORKSPACE", "list the versions of a state, newest first", FORMAT_OPTIONS},
	{"cat", cat_main, "WORKSPACE [VERSION]", "print a version of a state, by default the newest", NULL},
	{"grants", list_main, "[OPTION]...", "list what roles may do", FORMAT_OPTIONS},
	{"resources", list_main, "[OPTION]... [PATTERN]", "list the resources in the states", FORMAT_OPTIONS},
	{"outputs", list_main, "[OPTION]... [PATTERN]", "list the outputs in the states", FORMAT_OPTIONS},
	{"diff", list_main, "[OPTION]... WORKSPACE VERSION [VERSION]", "list what differs between two versions, or a version and now", FORMAT_OPTIONS}
};
const int	num_list_commands = lengthof(list_commands);
