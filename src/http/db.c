/*-------------------------------------------------------------------------
 *
 * db.c
 *	  One connection to PostgreSQL, and statements on it that take no longer than a
 *	  deadline.
 *
 * Nothing is set in the session, since behind a pooler somebody else may have it next, and
 * here it serves one request after the other.  What a request sets is set in its
 * transaction, whose statements are sent together with BEGIN and COMMIT, so that it takes
 * one round trip.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <ctype.h>
#include <limits.h>
#include <poll.h>

#include "pqexpbuffer.h"

#include "client/event.h"
#include "http/db.h"

/* How long an attempt to connect, and a transaction, may take, in milliseconds. */
#define CONNECT_MS		10000
#define STATEMENT_MS	120000

/*
 * Wait until the connection can be read or, if asked for, written.  Returns false when
 * the time is over.
 */
static bool
wait_for_socket(PGconn *pg, bool readable, bool writable, int64_t until)
{
	struct pollfd file = {PQsocket(pg), (readable ? POLLIN : 0) | (writable ? POLLOUT : 0), 0};
	int			ready;

	do
	{
		int64_t		left = until - now_ms();

		if (left <= 0)
			return false;
		ready = poll(&file, 1, (int) Min(left, INT_MAX));
	} while (ready < 0 && errno == EINTR);
	return ready > 0;
}

/*
 * The SQLSTATE in the message of a connection that was refused, which is verbose; "" if
 * there is none.
 */
static void
find_sqlstate(const char *message, char sqlstate[6])
{
	sqlstate[0] = '\0';
	for (const char *p = strchr(message, ':'); p; p = strchr(p + 1, ':'))
	{
		const char *code = p + 1 + strspn(p + 1, " ");
		int			length = 0;

		while (length < 5 && (isdigit((unsigned char) code[length]) || isupper((unsigned char) code[length])))
			length++;
		if (length == 5 && code[5] == ':')
			strlcpy(sqlstate, code, 6);
	}
}

/* The first line of a text, a copy. */
static char *
first_line(const char *text)
{
	return pnstrdup(text, strcspn(text, "\n"));
}

/*
 * Start to connect as a user, or as the caller of "tfstate run --http".
 *
 * For a user of serve, nothing of what this process has may prove who that is: the
 * password is given even if it is wrong, and neither a password file nor a ticket of
 * Kerberos is looked for.
 */
static PGconn *
start_connecting(const char *user, const char *password)
{
	const char *keywords[16];
	const char *values[16];
	int			n = 0;
	PGconn	   *pg;

#define PARAMETER(k, v) (keywords[n] = (k), values[n++] = (v))
	PARAMETER("tcp_user_timeout", "10000");
	PARAMETER("keepalives_idle", "10");
	PARAMETER("keepalives_interval", "5");
	PARAMETER("keepalives_count", "2");
	PARAMETER("host", options.host);
	PARAMETER("port", options.port);
	PARAMETER("dbname", options.dbname);
	PARAMETER("user", options.own ? options.user : user);
	PARAMETER("password", options.own ? options.password : password);
	PARAMETER("application_name", "tfstate-http");
	PARAMETER("client_encoding", "UTF8");
	if (!options.own)
	{
		PARAMETER("passfile", "/dev/null");
		PARAMETER("gssencmode", "disable");
	}
	PARAMETER(NULL, NULL);
	pg = PQconnectStartParams(keywords, values, true);
	if (pg)
		(void) PQsetErrorVerbosity(pg, PQERRORS_VERBOSE);
	return pg;
}

static bool
finish_connecting(PGconn *pg, int64_t until)
{
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	if (PQstatus(pg) == CONNECTION_BAD)
		return false;
	while (status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED)
	{
		if (!wait_for_socket(pg, status == PGRES_POLLING_READING, status == PGRES_POLLING_WRITING, until))
			return false;
		status = PQconnectPoll(pg);
	}
	return status == PGRES_POLLING_OK && PQsetnonblocking(pg, 1) == 0;
}

static void
ignore_notice(void *arg, const PGresult *result)
{
}

/*
 * Find the extension.  Returns NULL, or what is wrong.
 */
static char *
find_extension(Db *db)
{
	Statement	statement = {"SELECT pg_catalog.quote_ident(n.nspname) "
		"FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace "
	"WHERE e.extname = 'tfstate'", 0};
	PGresult   *result;
	char	   *problem = NULL;

	if (db_query(db, &statement, &result) != DB_OK)
		problem = first_line(PQerrorMessage(db->pg));
	else if (PQntuples(result) == 0)
		problem = psprintf("extension \"tfstate\" is not installed in database \"%s\"", PQdb(db->pg));
	else
		db->schema = pg_strdup(PQgetvalue(result, 0, 0));
	PQclear(result);
	return problem;
}

/*
 * Connect as a user; see start_connecting().  If the server refuses, returns DB_ERROR
 * and its SQLSTATE; if it cannot be reached or used, DB_GONE.  In both cases *message is
 * one line, which the caller frees.
 *
 * A user whom the server has not asked for the password is refused as if it was wrong:
 * by "trust" or "peer" anybody could be anybody here.
 */
DbStatus
db_open(Db **result, const char *user, const char *password, char sqlstate[6], char **message)
{
	PGconn	   *pg = start_connecting(user, password);
	Db		   *db;

	*result = NULL;
	*message = NULL;
	sqlstate[0] = '\0';
	if (pg == NULL)
	{
		*message = pg_strdup("out of memory");
		return DB_GONE;
	}
	if (!finish_connecting(pg, now_ms() + CONNECT_MS))
	{
		*message = first_line(*PQerrorMessage(pg) ? PQerrorMessage(pg) : "the connection was not made in time");
		find_sqlstate(PQerrorMessage(pg), sqlstate);
		if (PQconnectionNeedsPassword(pg))
			strlcpy(sqlstate, DB_NEEDS_PASSWORD, 6);
		PQfinish(pg);
		return *sqlstate ? DB_ERROR : DB_GONE;
	}
	if (!options.own && !PQconnectionUsedPassword(pg))
	{
		*message = psprintf("the server has not asked for the password of role \"%s\": let pg_hba.conf demand one (scram-sha-256)", user);
		strlcpy(sqlstate, "28000", 6);
		PQfinish(pg);
		return DB_ERROR;
	}
	(void) PQsetErrorVerbosity(pg, PQERRORS_DEFAULT);
	PQsetNoticeReceiver(pg, ignore_notice, NULL);
	db = pg_malloc0(sizeof(Db));
	db->pg = pg;
	db->user = pg_strdup(user);
	db->password = pg_strdup(password);
	db->opened = now_ms();
	*message = find_extension(db);
	if (*message)
	{
		db_close(db);
		return DB_GONE;
	}
	*result = db;
	return DB_OK;
}

void
db_close(Db *db)
{
	PQfinish(db->pg);
	explicit_bzero(db->password, strlen(db->password));
	free(db->password);
	free(db->user);
	free(db->schema);
	free(db->table);
	free(db->lock);
	free(db->who);
	free(db);
}

/* A lock was taken over this connection. */
void
db_note_lock(Db *db, const char *lockid, const char *id, const char *who)
{
	free(db->lock);
	free(db->who);
	db->lock = who ? psprintf("%s %s", id, lockid) : NULL;
	db->who = who ? pg_strdup(who) : NULL;
}

/* Who has a lock, if it is the last one that was taken over this connection; else NULL. */
const char *
db_who(const Db *db, const char *lockid, const char *id)
{
	size_t		length = strlen(id);

	return db->lock && strncmp(db->lock, id, length) == 0 && db->lock[length] == ' ' &&
		strcmp(db->lock + length + 1, lockid) == 0 ? db->who : NULL;
}

/* A copy of a statement with the schema of the extension in place of each "@" before a dot. */
static char *
with_schema(const Db *db, const char *sql)
{
	PQExpBufferData buf;

	initPQExpBuffer(&buf);
	for (; *sql; sql++)
	{
		if (sql[0] == '@' && sql[1] == '.')
			appendPQExpBufferStr(&buf, db->schema);
		else
			appendPQExpBufferChar(&buf, *sql);
	}
	return buf.data;
}

static bool
send_statement(Db *db, const Statement *statement)
{
	char	   *sql = with_schema(db, statement->sql);
	bool		sent = PQsendQueryParams(db->pg, sql, statement->count, NULL, statement->values, NULL, NULL, 0);

	free(sql);
	return sent;
}

/*
 * Send what is to be sent, and wait until PQgetResult() does not have to wait.  Returns
 * false if the connection broke or the time is over.
 */
static bool
wait_for_result(Db *db, int64_t until)
{
	for (;;)
	{
		int			unsent = PQflush(db->pg);

		if (unsent < 0)
			return false;
		if (!PQisBusy(db->pg))
			return true;
		if (!wait_for_socket(db->pg, true, unsent > 0, until) || !PQconsumeInput(db->pg))
			return false;
	}
}

static bool
is_good(const PGresult *result)
{
	return PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK;
}

/*
 * Run one statement.  *result is NULL or to be cleared by the caller.
 */
DbStatus
db_query(Db *db, const Statement *statement, PGresult **result)
{
	int64_t		until = now_ms() + STATEMENT_MS;
	PGresult   *next;

	*result = NULL;
	if (!send_statement(db, statement))
		return DB_GONE;
	while (wait_for_result(db, until) && (next = PQgetResult(db->pg)) != NULL)
	{
		PQclear(*result);
		*result = next;
	}
	if (*result == NULL || PQstatus(db->pg) == CONNECTION_BAD || PQtransactionStatus(db->pg) == PQTRANS_ACTIVE)
		return DB_GONE;
	return is_good(*result) ? DB_OK : DB_ERROR;
}

/*
 * Read the results of a pipeline up to its synchronization point.  *result becomes that
 * of the statement before COMMIT or, if something went wrong, the first error.  Returns
 * DB_OK only if COMMIT has committed.
 */
static DbStatus
read_pipeline(Db *db, PGresult **result)
{
	int64_t		until = now_ms() + STATEMENT_MS;
	bool		failed = false;
	bool		committed = false;
	int			nothing = 0;

	while (nothing < 2)
	{
		PGresult   *next;

		if (!wait_for_result(db, until))
			return DB_GONE;
		next = PQgetResult(db->pg);
		nothing = next ? 0 : nothing + 1;
		if (next == NULL)
			continue;
		if (PQresultStatus(next) == PGRES_PIPELINE_SYNC)
		{
			PQclear(next);
			return committed ? DB_OK : DB_ERROR;
		}
		committed = strcmp(PQcmdStatus(next), "COMMIT") == 0;
		if (failed || committed || PQresultStatus(next) == PGRES_PIPELINE_ABORTED)
		{
			PQclear(next);
			continue;
		}
		failed = !is_good(next);
		PQclear(*result);
		*result = next;
	}
	return DB_GONE;
}

/*
 * Run statements in one transaction.  *result is that of the last one or, for DB_ERROR,
 * the error, and is NULL or to be cleared by the caller.
 */
DbStatus
db_transaction(Db *db, const Statement *statements, int count, PGresult **result)
{
	static const Statement begin = {"BEGIN ISOLATION LEVEL READ COMMITTED", 0};
	static const Statement commit = {"COMMIT", 0};
	static const Statement rollback = {"ROLLBACK", 0};
	bool		sent = PQenterPipelineMode(db->pg) && send_statement(db, &begin);
	PGresult   *ignored;
	DbStatus	status;

	*result = NULL;
	for (int i = 0; i < count; i++)
		sent = sent && send_statement(db, &statements[i]);
	if (!sent || !send_statement(db, &commit) || !PQpipelineSync(db->pg))
		return DB_GONE;
	status = read_pipeline(db, result);
	if (PQstatus(db->pg) == CONNECTION_BAD || status == DB_GONE || !PQexitPipelineMode(db->pg))
		return DB_GONE;
	if (PQtransactionStatus(db->pg) == PQTRANS_IDLE)
		return status;
	if (db_query(db, &rollback, &ignored) == DB_GONE)
		status = DB_GONE;
	PQclear(ignored);
	return status;
}

/* A value of a result, NULL where it is null. */
const char *
db_value(const PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

/* Returns true if a value of a result is true. */
bool
db_is_true(const PGresult *result, int row, int column)
{
	return *PQgetvalue(result, row, column) == 't';
}

/* The SQLSTATE of a result, "" if it has none. */
const char *
db_sqlstate(const PGresult *result)
{
	const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

	return state ? state : "";
}

/* An identifier in quotes, which the caller frees. */
char *
db_quote(const char *identifier)
{
	PQExpBufferData buf;

	initPQExpBuffer(&buf);
	appendPQExpBufferChar(&buf, '"');
	for (; *identifier; identifier++)
	{
		if (*identifier == '"')
			appendPQExpBufferChar(&buf, '"');
		appendPQExpBufferChar(&buf, *identifier);
	}
	appendPQExpBufferChar(&buf, '"');
	return buf.data;
}
