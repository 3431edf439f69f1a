/*-------------------------------------------------------------------------
 *
 * pool.c
 *	  The connections to PostgreSQL: a bounded number, each of one user.
 *
 * Every request has the connection that it uses for itself, and leaves it to the next one
 * with the same user and the same password.  Nobody else gets it, and a password is never
 * compared with anything but one that PostgreSQL has accepted.  A connection is closed when
 * it was idle for some time, when it is so old that the password may have been changed
 * since, or when another user needs one and there may be no more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <pthread.h>

#include "client/event.h"
#include "http/pool.h"

/* How long a connection may be idle, and how old it may become, in milliseconds. */
#define IDLE_MS		10000
#define AGE_MS		60000

/* How often old connections are looked for, and how long a request waits for one. */
#define SWEEP_MS	2000
#define WAIT_MS		30000

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t returned;
static Db  *idle;				/* the one used last comes first */
static int	total;				/* idle or in use */

/*
 * Returns true if two texts are the same, in a time that does not tell where they differ.
 */
bool
same_secret(const char *a, const char *b)
{
	size_t		length = strlen(a);
	unsigned char difference = 0;

	if (length != strlen(b))
		return false;
	for (size_t i = 0; i < length; i++)
		difference |= (unsigned char) (a[i] ^ b[i]);
	return difference == 0;
}

static bool
is_old(const Db *db, int64_t now)
{
	return now - db->used > IDLE_MS || now - db->opened > AGE_MS;
}

/*
 * Take a connection of this user out of the idle ones, or, for no user, one that is too
 * old.  Returns NULL if there is none.  The caller has the mutex.
 */
static Db  *
take_idle(const char *user, const char *password)
{
	int64_t		now = now_ms();

	for (Db **place = &idle; *place; place = &(*place)->next)
	{
		Db		   *db = *place;

		if (user ? !is_old(db, now) && strcmp(db->user, user) == 0 && same_secret(db->password, password) :
			is_old(db, now))
		{
			*place = db->next;
			return db;
		}
	}
	return NULL;
}

/* Take the idle connection that was used least recently.  The caller has the mutex. */
static Db  *
take_last(void)
{
	Db		  **place = &idle;
	Db		   *db;

	while (*place && (*place)->next)
		place = &(*place)->next;
	db = *place;
	*place = NULL;
	return db;
}

static void *
close_old(void *arg)
{
	for (;;)
	{
		Db		   *db;

		pg_usleep(SWEEP_MS * 1000L);
		do
		{
			pthread_mutex_lock(&mutex);
			db = take_idle(NULL, NULL);
			pthread_mutex_unlock(&mutex);
			if (db)
				pool_drop(db);
		} while (db);
	}
	return NULL;
}

/* Start the thread that closes old connections. */
void
pool_start(void)
{
	pthread_condattr_t attributes;
	pthread_t	thread;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&returned, &attributes);
	if (pthread_create(&thread, NULL, close_old, NULL) == 0)
		pthread_detach(thread);
}

/*
 * Returns true if there is an idle connection of this user: PostgreSQL has accepted the
 * password a short while ago.
 */
bool
pool_has(const char *user, const char *password)
{
	bool		found = false;
	int64_t		now = now_ms();

	pthread_mutex_lock(&mutex);
	for (Db *db = idle; db && !found; db = db->next)
		found = !is_old(db, now) && strcmp(db->user, user) == 0 && same_secret(db->password, password);
	pthread_mutex_unlock(&mutex);
	return found;
}

/*
 * Get the right to make a connection, by closing an idle one if need be, or wait for an
 * idle one of this user, which goes into *db.  Returns false if neither came in time.
 */
static bool
wait_for_turn(Db **db, const char *user, const char *password, bool fresh)
{
	Db		   *closing = NULL;
	bool		ready = false;
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += WAIT_MS / 1000;
	pthread_mutex_lock(&mutex);
	while (!ready)
	{
		if (!fresh && (*db = take_idle(user, password)) != NULL)
			break;
		ready = total < options.max_sessions || (closing = take_last()) != NULL;
		if (ready && closing == NULL)
			total++;
		if (!ready && pthread_cond_timedwait(&returned, &mutex, &until) != 0)
			break;
	}
	pthread_mutex_unlock(&mutex);
	if (closing)
		db_close(closing);
	return ready || *db;
}

/*
 * Get a connection of a user: an idle one or, if fresh is true or there is none, a new
 * one.  On DB_ERROR and DB_GONE *message and sqlstate are as db_open() has them.
 */
DbStatus
pool_get(Db **db, const char *user, const char *password, bool fresh, char sqlstate[6], char **message)
{
	DbStatus	status;

	*db = NULL;
	*message = NULL;
	sqlstate[0] = '\0';
	if (!wait_for_turn(db, user, password, fresh))
	{
		*message = psprintf("all %d connections to the database are in use", options.max_sessions);
		strlcpy(sqlstate, "53300", 6);
		return DB_ERROR;
	}
	if (*db)
		return DB_OK;
	status = db_open(db, user, password, sqlstate, message);
	if (status != DB_OK)
	{
		pthread_mutex_lock(&mutex);
		total--;
		pthread_cond_signal(&returned);
		pthread_mutex_unlock(&mutex);
	}
	return status;
}

/* Return a connection for the next request. */
void
pool_put(Db *db)
{
	pthread_mutex_lock(&mutex);
	db->used = now_ms();
	db->next = idle;
	idle = db;
	/* whoever waits may be of another user, so that only some can use it */
	pthread_cond_broadcast(&returned);
	pthread_mutex_unlock(&mutex);
}

/* Close a connection that is not in the pool. */
void
pool_drop(Db *db)
{
	db_close(db);
	pthread_mutex_lock(&mutex);
	total--;
	pthread_cond_signal(&returned);
	pthread_mutex_unlock(&mutex);
}
