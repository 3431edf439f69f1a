/*-------------------------------------------------------------------------
 *
 * simple.c
 *	  Subcommands that run one statement, or a few.
 *
 * What goes wrong there ends the program, with a message and the status for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <signal.h>

#include "client.h"
#include "event.h"
#include "simple.h"

/* How long to try to connect, in milliseconds. */
#define CONNECT_MS	30000

/* How long a question may take that is not what the user asked. */
#define STATEMENT_MS	10000

/* How long to wait before the next attempt. */
#define RECONNECT_MS	1000

/* The signal that is to end the program, 0 for none. */
static int	ended_by = 0;

static bool
stop_at_signal(void *arg)
{
	int			number;

	while ((number = next_signal()) != 0)
	{
		if (number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT)
			ended_by = number;
		else if (number == SIGTSTP)
			raise(SIGSTOP);
	}
	return ended_by != 0;
}

/* Exit if something went wrong. */
static void
check(Conn *conn, DbStatus status, PGresult *result)
{
	if (status == DB_OK)
		return;
	if (status == DB_STOPPED)
		exit(128 + ended_by);
	db_report(conn, result);
	exit(db_exit_status(status, result));
}

/*
 * Begin with a connection whose statements signals end.
 */
void
simple_begin(Conn *conn)
{
	catch_signals();
	db_init(conn, stop_at_signal, NULL);
}

/* Returns the signal that has ended a statement, 0 for none. */
int
simple_signal(void)
{
	return ended_by;
}

/*
 * Connect.  The connection lasts as long as the program.
 */
Conn *
simple_connect(void)
{
	static Conn conn;

	simple_begin(&conn);
	check(&conn, db_connect(&conn, now_ms() + CONNECT_MS), NULL);
	return &conn;
}

/*
 * Run a statement, however long it takes.  Returns false if the server has refused it, with
 * the error as the result.  lengths is as for db_exec_data().
 */
bool
simple_try(Conn *conn, PGresult **result, const char *sql, int count, const char *const *values, const int *lengths)
{
	DbStatus	status = db_exec_data(conn, result, NEVER, sql, count, values, lengths);

	if (status != DB_ERROR)
		check(conn, status, *result);
	return status == DB_OK;
}

/*
 * The same for a statement that must not be refused.
 */
PGresult *
simple_query(Conn *conn, const char *sql, int count, const char *const *values)
{
	PGresult   *result;

	if (!simple_try(conn, &result, sql, count, values, NULL))
		check(conn, DB_ERROR, result);
	return result;
}

/*
 * The same for a program that is left open: where the connection is lost, connect again,
 * and again.
 */
PGresult *
simple_query_again(Conn *conn, const char *sql, int count, const char *const *values)
{
	PGresult   *result;
	DbStatus	status = db_exec(conn, &result, NEVER, sql, count, values);

	while (status == DB_GONE)
	{
		char	   *message = db_message(conn, result);

		fprintf(stderr, "%s: %s\n", progname, message);
		free(message);
		PQclear(result);
		simple_pause(RECONNECT_MS);
		db_disconnect(conn);
		status = db_connect(conn, now_ms() + CONNECT_MS);
		result = NULL;
		if (status == DB_OK)
			status = db_exec(conn, &result, NEVER, sql, count, values);
		else if (status == DB_TIMEOUT)
			status = DB_GONE;
	}
	check(conn, status, result);
	return result;
}

/*
 * Describe who holds a lock, as Terraform does.  Sets *id, unless that is NULL, to the ID
 * of the lock.  Returns NULL if nobody holds it, or this role may not see that.
 */
char *
lock_info(Conn *conn, const char *lockid, char **id)
{
	PGresult   *result;
	char	   *block = NULL;

	/* control characters are not for the terminal */
	if (db_exec(conn, &result, now_ms() + STATEMENT_MS,
				"SELECT h.id, 'Lock Info:' || pg_catalog.string_agg(pg_catalog.format(E'\n  %s %s', pg_catalog.rpad(f.name || ':', 10), "
				"pg_catalog.regexp_replace(f.value, '[[:cntrl:]]', ' ', 'g')), '' ORDER BY f.n) "
				"FROM @.tfstate_holders($1) h, LATERAL (VALUES (1, 'ID', h.id), (2, 'Path', h.lockid), (3, 'Operation', h.operation), "
				"(4, 'Who', h.who), (5, 'Version', h.info ->> 'Version'), "
				"(6, 'Created', pg_catalog.to_char(h.created AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"+0000 UTC\"')), "
				"(7, 'Info', h.info ->> 'Info')) f (n, name, value) WHERE h.lockid = $1 GROUP BY h.id", 1, &lockid) == DB_OK &&
		PQntuples(result) == 1)
	{
		block = pg_strdup(PQgetvalue(result, 0, 1));
		if (id)
			*id = pg_strdup(PQgetvalue(result, 0, 0));
	}
	PQclear(result);
	return block;
}

static const char *screen_start;
static const char *screen_end;

static void
leave_screen(void)
{
	if (screen_end)
		fputs(screen_end, stdout);
	fflush(stdout);
}

/*
 * Print what prepares the terminal for a program that is left open, and, when it ends or
 * is stopped, what leaves it as it was.
 */
void
simple_screen(const char *start, const char *end)
{
	screen_start = start;
	screen_end = end;
	fputs(start, stdout);
	atexit(leave_screen);
}

/*
 * Wait for some time, or until the size of the terminal changes.
 */
void
simple_pause(int64_t ms)
{
	int64_t		until = now_ms() + ms;
	int			number;

	while (now_ms() < until)
	{
		(void) wait_for_event(NULL, NULL, 0, until);
		while ((number = next_signal()) != 0)
		{
			if (number == SIGTSTP)
			{
				leave_screen();
				raise(SIGSTOP);
				if (screen_start)
					fputs(screen_start, stdout);
			}
			if (number == SIGWINCH || number == SIGTSTP)
				return;
			if (number == SIGINT)
				exit(EXIT_SUCCESS_STATUS);	/* how a person ends it */
			if (number == SIGTERM || number == SIGHUP || number == SIGQUIT)
				exit(128 + number);
		}
	}
}

/*
 * Ask a question that only "yes" agrees to, as Terraform does.  Returns false if there is
 * nobody to answer.
 */
bool
ask_yes(const char *question)
{
	char		answer[16];

	fprintf(stderr, "%s\n\nOnly \"yes\" is accepted: ", question);
	fflush(stderr);
	release_signals();
	return fgets(answer, sizeof(answer), stdin) != NULL && strcmp(answer, "yes\n") == 0;
}
