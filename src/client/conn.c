/*-------------------------------------------------------------------------
 *
 * conn.c
 *	  Connections to the server, and statements that a signal or a time can end.
 *
 * Connections are made as psql makes them: by options, connection strings, the PG*
 * variables, the service file and .pgpass.  Nothing is set in the session, since behind
 * a pooler somebody else may have it next.  So all names in statements are qualified: the
 * schema of the extension is looked up, and stands for "@" where a statement has "@.".
 *
 * All calls of libpq are asynchronous, so that the caller can act on signals in the
 * meantime.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/string.h"
#include "fe_utils/string_utils.h"

#include "client.h"
#include "conn.h"
#include "event.h"

/* How long the server is given to cancel a statement, in milliseconds. */
#define CANCEL_MS	2000

/* How long a server may take to answer if there are others and no connect_timeout. */
#define HOST_MS		10000

/* The most parameters that a statement has. */
#define MAX_PARAMETERS	11

/* The oldest extension that has what we call. */
#define OLDEST_MAJOR	0
#define OLDEST_MINOR	1

/* What the connection options say; NULL for nothing. */
static struct
{
	const char *dbname;			/* may be a connection string */
	const char *host;
	const char *port;
	const char *user;
	bool		no_password;
	bool		ask_password;
	char	   *password;

	/* instead of all these, as PQconnectStartParams() has them */
	const char *const *names;
	const char *const *values;
}			options;

/*
 * Returns a copy of a URI without binary_parameters, which libpq does not know, but
 * Terraform's driver does, so that PG_CONN_STR can be given as it is.
 */
static char *
without_binary_parameters(const char *uri)
{
	static const char parameter[] = "binary_parameters=";
	char	   *result = pg_strdup(uri);
	char	   *separator = result + strcspn(result, "?");

	while (*separator)
	{
		char	   *name = separator + 1;
		char	   *end = name + strcspn(name, "&");

		if (strncmp(name, parameter, strlen(parameter)) != 0)
			separator = end;
		else if (*end)
			memmove(name, end + 1, strlen(end + 1) + 1);
		else
			*separator = '\0';
	}
	return result;
}

/* Take one of the CONNECTION_OPTSTRING options.  Returns false if it is none of them. */
bool
connection_option(int c, const char *value)
{
	switch (c)
	{
		case 'd':
			options.dbname = without_binary_parameters(value);
			return true;
		case 'h':
			options.host = value;
			return true;
		case 'p':
			options.port = value;
			return true;
		case 'U':
			options.user = value;
			return true;
		case 'w':
			options.no_password = true;
			return true;
		case 'W':
			options.ask_password = true;
			return true;
	}
	return false;
}

/*
 * Make all connections with these parameters, which end with NULL and stay the caller's.
 * Never ask for a password then.
 */
void
connection_parameters(const char *const *names, const char *const *values)
{
	options.names = names;
	options.values = values;
	options.no_password = true;
}

/*
 * Is there a terminal to ask for a password?  Standard input may be meant for the
 * command that is run.
 */
static bool
has_terminal(void)
{
	int			tty = open("/dev/tty", O_RDWR);

	if (tty < 0)
		return false;
	close(tty);
	return true;
}

static void
ask_password(void)
{
	free(options.password);
	options.password = simple_prompt("Password: ", false);
}

/* Of the notice that a role sees nothing, for lack of a privilege. */
#define SQLSTATE_SEES_NOTHING	"01007"

/* Returns true if the caller wants to be left alone. */
static bool
is_stopped(Conn *conn)
{
	return conn->idle && conn->idle(conn->arg);
}

/*
 * Ignore what the server has to say beside results, which "tfstate run" tells better, but
 * keep the reason why it ends the session (class 57), and say once why a list is empty, if
 * that is for lack of a privilege.
 */
static void
take_notice(void *arg, const PGresult *result)
{
	static bool told = false;
	Conn	   *conn = arg;

	if (strcmp(db_sqlstate(result), SQLSTATE_SEES_NOTHING) == 0 && !told)
	{
		told = true;
		db_report(conn, result);
	}
	if (strncmp(db_sqlstate(result), "57", 2) != 0)
		return;
	free(conn->farewell);
	conn->farewell = db_message(conn, result);
}

/* Begin with a connection that has not been made, and what is to be called in a wait. */
void
db_init(Conn *conn, bool (*idle) (void *arg), void *arg)
{
	memset(conn, 0, sizeof(Conn));
	conn->idle = idle;
	conn->arg = arg;
	conn->side_socket = -1;
	conn->wake = NEVER;
}

/*
 * Start to connect.  db_connect_step() goes on with it.
 */
void
db_connect_start(Conn *conn)
{
	const char *names[MAX_CONNECTION_PARAMETERS + 12] = {"host", "port", "user", "password", "dbname",
	"application_name", "fallback_application_name", "client_encoding"};
	const char *values[MAX_CONNECTION_PARAMETERS + 12] = {options.host, options.port, options.user, options.password, options.dbname,
	conn->name, "tfstate", getenv("PGCLIENTENCODING") ? NULL : "auto"};
	int			count = 8;

	for (int i = 0; options.names && options.names[i]; i++)
	{
		names[count] = options.names[i];
		values[count++] = options.values[i];
	}
	/* what comes later counts, unless it is NULL */
	for (HostKeyword i = 0; i < NUM_HOST_KEYWORDS; i++)
	{
		names[count] = hosts_keyword(i);
		values[count++] = hosts_joined(&conn->hosts, i);
	}
	conn->pg = PQconnectStartParams(names, values, true);
	if (conn->pg == NULL)
	{
		fprintf(stderr, "%s: out of memory\n", progname);
		exit(EXIT_FAILED);
	}
	free(conn->farewell);
	conn->farewell = NULL;
	PQsetNoticeReceiver(conn->pg, take_notice, conn);
	conn->connect_mode = WAIT_WRITE;
}

/*
 * Go on connecting, when the socket is ready for conn->connect_mode.  Returns DB_OK when
 * there is a connection, DB_GONE when there will be none, and else DB_TIMEOUT.
 */
DbStatus
db_connect_step(Conn *conn)
{
	if (PQstatus(conn->pg) == CONNECTION_BAD)
		return DB_GONE;
	switch (PQconnectPoll(conn->pg))
	{
		case PGRES_POLLING_OK:
			return DB_OK;
		case PGRES_POLLING_FAILED:
			return DB_GONE;
		case PGRES_POLLING_READING:
			conn->connect_mode = WAIT_READ;
			break;
		default:
			conn->connect_mode = WAIT_WRITE;
			break;
	}
	return DB_TIMEOUT;
}

/*
 * Wait for the connection's socket, or until the idle function has something to do or
 * time is over.  Returns true if the socket is ready.
 */
static bool
wait_for_socket(Conn *conn, int mode, int64_t until)
{
	int			sockets[] = {PQsocket(conn->pg), conn->side_socket};
	int			modes[] = {mode, conn->side_mode};

	return (wait_for_event(sockets, modes, 2, Min(until, conn->wake)) & 1) != 0;
}

/*
 * When the server that is being connected to from now on has to have answered.  libpq
 * heeds connect_timeout only in calls that block.
 */
static int64_t
host_deadline(const Conn *conn, int64_t until)
{
	int64_t		left = until - now_ms();

	if (conn->hosts.timeout_ms > 0)
		return Min(until, now_ms() + conn->hosts.timeout_ms);
	return conn->hosts.count == 1 ? until : now_ms() + Min(HOST_MS, left / conn->hosts.count);
}

/*
 * Connect to the first of the servers that will have us, until one does not answer in
 * time, or the time is over.
 */
static DbStatus
connect_to_hosts(Conn *conn, int64_t until)
{
	char	   *current = hosts_current(conn->pg);
	int64_t		deadline = host_deadline(conn, until);
	DbStatus	status;

	do
	{
		bool		ready = wait_for_socket(conn, conn->connect_mode, deadline);
		char	   *next;

		status = ready ? db_connect_step(conn) : DB_TIMEOUT;
		next = hosts_current(conn->pg);
		if (strcmp(next, current) != 0)
			deadline = host_deadline(conn, until);
		free(current);
		current = next;
		if (is_stopped(conn))
			status = DB_STOPPED;
	} while (status == DB_TIMEOUT && now_ms() < deadline);
	free(current);
	return status;
}

/* Start to connect, to any of the servers that are named. */
static bool
start_with_all(Conn *conn)
{
	conn->hosts.count = 0;
	db_connect_start(conn);
	hosts_read(&conn->hosts, conn->pg);
	return PQstatus(conn->pg) != CONNECTION_BAD;
}

static DbStatus
try_to_connect(Conn *conn, int64_t until)
{
	DbStatus	status;

	if (conn->errors == NULL)
		conn->errors = createPQExpBuffer();
	resetPQExpBuffer(conn->errors);
	conn->timed_out = false;
	if (!start_with_all(conn))
		return DB_GONE;
	while ((status = connect_to_hosts(conn, until)) == DB_TIMEOUT)
	{
		/* libpq has begun the line */
		appendPQExpBuffer(conn->errors, "%stimeout expired\n", PQerrorMessage(conn->pg));
		conn->timed_out = now_ms() >= until || !hosts_drop_current(&conn->hosts, conn->pg);
		if (conn->timed_out)
			return DB_TIMEOUT;
		db_disconnect(conn);
		db_connect_start(conn);
		if (PQstatus(conn->pg) == CONNECTION_BAD)
			return DB_GONE;
	}
	if (status == DB_OK)
		resetPQExpBuffer(conn->errors);
	return status;
}

/*
 * Find the extension in the database.  Its absence is reported, and is DB_GONE: to try
 * once more would not help.
 */
static DbStatus
find_extension(Conn *conn, int64_t until)
{
	PGresult   *result;
	DbStatus	status = db_exec(conn, &result, until,
								 "SELECT e.extversion, pg_catalog.quote_ident(n.nspname), pg_catalog.pg_backend_pid() "
								 "FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace "
								 "WHERE e.extname = 'tfstate'", 0, NULL);

	if (status == DB_OK && PQntuples(result) == 1)
	{
		int			major = 0;
		int			minor = 0;

		free(conn->schema);
		free(conn->version);
		conn->version = pg_strdup(PQgetvalue(result, 0, 0));
		conn->schema = pg_strdup(PQgetvalue(result, 0, 1));
		/* a pooler does not know yet which server process will serve us */
		conn->pooled = atoi(PQgetvalue(result, 0, 2)) != PQbackendPID(conn->pg);
		(void) sscanf(conn->version, "%d.%d", &major, &minor);
		if (major < OLDEST_MAJOR || (major == OLDEST_MAJOR && minor < OLDEST_MINOR))
		{
			fprintf(stderr, "%s: extension \"tfstate\" in database \"%s\" has version %s, and this program needs %d.%d or later\n",
					progname, PQdb(conn->pg), conn->version, OLDEST_MAJOR, OLDEST_MINOR);
			exit(EXIT_CONNECT);
		}
	}
	else if (status == DB_OK)
	{
		fprintf(stderr, "%s: extension \"tfstate\" is not installed in database \"%s\"; run there: CREATE EXTENSION tfstate\n",
				progname, PQdb(conn->pg));
		exit(EXIT_CONNECT);
	}
	PQclear(result);
	return status;
}

/*
 * Connect, and ask for a password where the server wants one and there is a terminal.
 * Where it does not come to a connection, PQerrorMessage() tells why until
 * db_disconnect() is called.
 */
DbStatus
db_connect(Conn *conn, int64_t until)
{
	DbStatus	status;

	if (options.ask_password && options.password == NULL && has_terminal())
		ask_password();
	status = try_to_connect(conn, until);
	if (status == DB_GONE && PQconnectionNeedsPassword(conn->pg) && !options.no_password &&
		options.password == NULL && has_terminal())
	{
		db_disconnect(conn);
		ask_password();
		status = try_to_connect(conn, until);
	}
	if (status == DB_OK)
		status = find_extension(conn, until);
	return status;
}

void
db_disconnect(Conn *conn)
{
	if (conn->pg)
		PQfinish(conn->pg);
	conn->pg = NULL;
}

/* A copy of a statement with the schema of the extension in place of each "@" before a dot. */
static char *
with_schema(const Conn *conn, const char *sql)
{
	PQExpBufferData buf;

	initPQExpBuffer(&buf);
	for (; *sql; sql++)
	{
		if (sql[0] == '@' && sql[1] == '.')
			appendPQExpBufferStr(&buf, conn->schema);
		else
			appendPQExpBufferChar(&buf, *sql);
	}
	return buf.data;
}

/*
 * Have the server cancel the statement that runs, and wait for it to end so that nothing
 * is left undecided.
 */
static void
cancel_statement(Conn *conn)
{
	PGcancel   *cancel = PQgetCancel(conn->pg);
	char		message[256];
	int64_t		until = now_ms() + CANCEL_MS;
	PGresult   *result;

	if (cancel)
		(void) PQcancel(cancel, message, sizeof(message));
	PQfreeCancel(cancel);
	while (PQisBusy(conn->pg) && now_ms() < until)
	{
		if (wait_for_socket(conn, WAIT_READ, until) && !PQconsumeInput(conn->pg))
			break;
		(void) is_stopped(conn);	/* takes note of signals */
	}
	if (PQisBusy(conn->pg))
		return;
	while ((result = PQgetResult(conn->pg)) != NULL)
		PQclear(result);
}

/*
 * Send a statement with parameters.  A parameter is a text, or, where lengths is given and
 * has a length for it, bytes.  Returns false if there is no connection.
 */
static bool
send_data(Conn *conn, const char *sql, int count, const char *const *values, const int *lengths)
{
	int			formats[MAX_PARAMETERS];
	char	   *statement;
	bool		sent;

	if (conn->pg == NULL)
		return false;
	Assert(count <= MAX_PARAMETERS);
	for (int i = 0; i < count; i++)
		formats[i] = lengths && lengths[i] > 0;
	statement = with_schema(conn, sql);
	sent = PQsendQueryParams(conn->pg, statement, count, NULL, values, lengths, formats, 0);
	free(statement);
	return sent;
}

/*
 * Send a statement with text parameters.  Returns false if there is no connection.
 */
bool
db_send(Conn *conn, const char *sql, int count, const char *const *values)
{
	return send_data(conn, sql, count, values, NULL);
}

/*
 * Run a statement with text parameters and wait for its result, which the caller frees;
 * *result is NULL where the server has not said anything.  On DB_TIMEOUT and DB_STOPPED
 * the statement was cancelled: whether it has done its work is not known.
 */
DbStatus
db_exec(Conn *conn, PGresult **result, int64_t until, const char *sql, int count,
		const char *const *values)
{
	return db_exec_data(conn, result, until, sql, count, values, NULL);
}

/* The same with parameters as send_data() takes them. */
DbStatus
db_exec_data(Conn *conn, PGresult **result, int64_t until, const char *sql, int count,
			 const char *const *values, const int *lengths)
{
	PGresult   *next;

	*result = NULL;
	if (!send_data(conn, sql, count, values, lengths))
		return DB_GONE;
	while (PQisBusy(conn->pg))
	{
		if (now_ms() >= until)
		{
			cancel_statement(conn);
			return DB_TIMEOUT;
		}
		if (wait_for_socket(conn, WAIT_READ, until) && !PQconsumeInput(conn->pg))
			return DB_GONE;
		if (is_stopped(conn))
		{
			cancel_statement(conn);
			return DB_STOPPED;
		}
	}
	while ((next = PQgetResult(conn->pg)) != NULL)
	{
		PQclear(*result);
		*result = next;
	}
	if (PQstatus(conn->pg) == CONNECTION_BAD)
		return DB_GONE;
	return PQresultStatus(*result) == PGRES_TUPLES_OK || PQresultStatus(*result) == PGRES_COMMAND_OK ? DB_OK : DB_ERROR;
}

/* A value of a result, NULL where it is null. */
char *
db_value(PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

/* The SQLSTATE of a result, "" if it has none. */
const char *
db_sqlstate(const PGresult *result)
{
	const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

	return state ? state : "";
}

/*
 * What went wrong, in one line: the primary message of a result, or else what libpq
 * says of the connection.  The caller frees it.
 */
char *
db_message(const Conn *conn, const PGresult *result)
{
	const char *primary = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	const char *before = conn->errors ? conn->errors->data : "";
	const char *now = conn->farewell ? conn->farewell : conn->pg ? PQerrorMessage(conn->pg) : "not connected";
	char	   *line = primary ? pg_strdup(primary) : psprintf("%s%s", before, *before && conn->timed_out ? "" : now);

	for (char *p = line; *p; p++)
	{
		if (*p == '\n' && p[strspn(p, "\n")] == '\0')
			*p = '\0';
		else if (*p == '\n' || *p == '\t')
			*p = ' ';
	}
	return line;
}

/*
 * Is there no server where there is one by default, while the environment of Terraform
 * names one that was not asked for?
 */
static bool
only_terraform_knows_server(void)
{
	return !options.dbname && !options.host && !options.names && !getenv("PGHOST") && !getenv("PGHOSTADDR") &&
		!getenv("PGSERVICE") && getenv("PG_CONN_STR");
}

/*
 * Tell the user what went wrong, with the hint where the server has one, and with the
 * detail of a missing privilege, which names it.  The program only calls functions of the
 * extension, so one that does not exist is one of another version.
 */
void
db_report(const Conn *conn, const PGresult *result)
{
	const char *detail = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL) : NULL;
	const char *hint = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_HINT) : NULL;
	char	   *line = db_message(conn, result);

	fprintf(stderr, "%s: %s\n", progname, line);
	if (detail && db_exit_status(DB_ERROR, result) == EXIT_NOPERM)
		fprintf(stderr, "%s: detail: %s\n", progname, detail);
	if (strcmp(db_sqlstate(result), "42883") == 0 && conn->version &&
		strcmp(conn->version, TFSTATE_VERSION) != 0)
		fprintf(stderr, "%s: hint: The extension in this database has version %s, and this program %s: run there ALTER EXTENSION tfstate UPDATE, or use a program of that version.\n",
				progname, conn->version, TFSTATE_VERSION);
	else if (hint)
		fprintf(stderr, "%s: hint: %s\n", progname, hint);
	else if (!result && only_terraform_knows_server())
		fprintf(stderr, "%s: hint: To connect as Terraform does, add: -d \"$PG_CONN_STR\"\n", progname);
	free(line);
}

/* The exit status for what went wrong. */
int
db_exit_status(DbStatus status, const PGresult *result)
{
	if (status == DB_OK)
		return EXIT_SUCCESS_STATUS;
	if (status != DB_ERROR)
		return EXIT_CONNECT;
	if (strcmp(db_sqlstate(result), "55P03") == 0)
		return EXIT_HELD;
	if (strcmp(db_sqlstate(result), "42501") == 0)
		return EXIT_NOPERM;
	return EXIT_FAILED;
}
