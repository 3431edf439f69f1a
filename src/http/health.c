/*-------------------------------------------------------------------------
 *
 * health.c
 *	  GET /healthz: can requests be answered?
 *
 * Anybody may ask, so the server is asked at most once in some seconds, however many do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <pthread.h>

#include "client/event.h"
#include "http/health.h"
#include "http/reply.h"

/* For how long what the server has said counts, in milliseconds. */
#define FRESH_MS	2000

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int64_t asked_at;
static PGPing answered = PQPING_NO_RESPONSE;

void
health_answer(Request *request)
{
	const char *keywords[] = {"connect_timeout", "host", "port", "dbname", NULL};
	const char *values[] = {"3", options.host, options.port, options.dbname, NULL};
	PGPing		ping;

	pthread_mutex_lock(&mutex);
	if (asked_at == 0 || now_ms() - asked_at > FRESH_MS)
	{
		answered = PQpingParams(keywords, values, true);
		asked_at = now_ms();
	}
	ping = answered;
	pthread_mutex_unlock(&mutex);
	if (ping == PQPING_OK)
		reply_problem(request, 200, "ok");
	else
		reply_problem(request, 503, "%s", ping == PQPING_REJECT ? "PostgreSQL accepts no connections" :
					  "PostgreSQL cannot be reached");
}
