/*-------------------------------------------------------------------------
 *
 * progress.c
 *	  What is shown while a lock is waited for.
 *
 * The connection that waits is busy, so another one asks who holds the lock and how
 * many are before us.  It is made when the wait has lasted for a moment, and nothing is
 * ever waited for here: each step does what can be done at once.  Where it cannot be
 * had, the wait goes on without.
 *
 * At a terminal there is one line, which is drawn again; elsewhere, in the log of a
 * pipeline for example, a line each time that the holder is another one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include "client.h"
#include "event.h"
#include "progress.h"

/* When the first line comes, and how often it is asked from then on, in milliseconds. */
#define FIRST_MS	300
#define EVERY_MS	1000

/* How long it is waited for a connection. */
#define CONNECT_MS	10000

void
progress_start(Progress *progress, const char *const *lockids, int count, Conn *waiting)
{
	memset(progress, 0, sizeof(Progress));
	progress->lockids = lockids;
	progress->count = count;
	progress->waiting = waiting;
	progress->started = now_ms();
	progress->next = progress->started + FIRST_MS;
	waiting->wake = progress->next;
}

static void
show(Progress *progress, const char *lockid, const char *holder, const char *position)
{
	int			waited = (int) ((now_ms() - progress->started) / 1000);
	char	   *line = psprintf("waiting for state lock \"%s\" (%d s, position %s)%s%s", lockid, waited, position,
								*holder ? ", held by " : "", holder);

	if (isatty(STDERR_FILENO))
	{
		struct winsize size;
		int			width = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;

		fprintf(stderr, "\r%.*s\033[K", width - 1, line);
		progress->line = true;
	}
	else if (progress->shown == NULL || strcmp(progress->shown, holder) != 0)
		fprintf(stderr, "%s: %s\n", progname, line);
	fflush(stderr);
	free(progress->shown);
	progress->shown = pg_strdup(holder);
}

/*
 * Send the question: of the lock that the other connection waits for.  Behind a pooler
 * its process is not known, but it has the name of this run.
 */
static void
ask(Progress *progress)
{
	char		pid[16];
	const char *values[] = {pid, progress->waiting->name};

	snprintf(pid, sizeof(pid), "%d", PQbackendPID(progress->waiting->pg));
	progress->asking = db_send(&progress->conn,
							   "SELECT w.lockid, w.position, (SELECT pg_catalog.format('%s: %s since %s (ID %s)', h.who, h.operation, "
							   "pg_catalog.date_trunc('second', h.created), h.id) FROM @.tfstate_holders(w.lockid) h WHERE h.lockid = w.lockid) "
							   "FROM @.tfstate_waiters w WHERE w.pid = $1::integer OR w.application_name = $2 LIMIT 1", 2, values);
}

static void
take_answer(Progress *progress)
{
	PGresult   *result;

	if (!PQconsumeInput(progress->conn.pg))
	{
		progress->asking = false;
		return;
	}
	if (PQisBusy(progress->conn.pg))
		return;
	while ((result = PQgetResult(progress->conn.pg)) != NULL)
	{
		if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
			show(progress, PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 2), PQgetvalue(result, 0, 1));
		PQclear(result);
	}
	progress->asking = false;
}

/*
 * Do what can be done now, and set when and for what the waiting connection is to come
 * back here.
 */
void
progress_step(Progress *progress)
{
	Conn	   *conn = &progress->conn;

	if (progress->connecting)
	{
		DbStatus	status = db_connect_step(conn);

		if (status == DB_OK)
		{
			progress->connecting = false;
			conn->schema = progress->waiting->schema;
			progress->next = now_ms();
		}
		else if (status == DB_GONE || now_ms() > progress->started + CONNECT_MS)
		{
			db_disconnect(conn);
			progress->connecting = false;
			progress->next = NEVER;
		}
	}
	else if (progress->asking)
		take_answer(progress);
	else if (now_ms() >= progress->next && conn->pg == NULL)
	{
		hosts_copy_current(&conn->hosts, progress->waiting->pg);
		db_connect_start(conn);
		progress->connecting = true;
	}
	if (!progress->connecting && !progress->asking && conn->pg && now_ms() >= progress->next)
	{
		ask(progress);
		progress->next = progress->asking ? now_ms() + EVERY_MS : NEVER;
	}
	progress->waiting->side_socket = progress->connecting || progress->asking ? PQsocket(conn->pg) : -1;
	progress->waiting->side_mode = progress->connecting ? conn->connect_mode : WAIT_READ;
	progress->waiting->wake = progress->connecting || progress->asking ? now_ms() + EVERY_MS : progress->next;
}

/* Erase the line on the terminal. */
void
progress_erase(Progress *progress)
{
	if (progress->line)
		fprintf(stderr, "\r\033[K");
	progress->line = false;
}

void
progress_stop(Progress *progress)
{
	progress_erase(progress);
	progress->conn.schema = NULL;
	db_disconnect(&progress->conn);
	progress->waiting->side_socket = -1;
	progress->waiting->wake = NEVER;
	progress->waiting = NULL;
	free(progress->shown);
	progress->shown = NULL;
}
