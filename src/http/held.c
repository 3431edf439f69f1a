/*-------------------------------------------------------------------------
 *
 * held.c
 *	  The locks that end with the command of "tfstate run --http".
 *
 * They are leases.  A thread renews them until Terraform unlocks them or the command ends;
 * what is left then is released.  If this process is killed, they expire.
 *
 * Without a command (serve) nothing is noted here, and locks have no lease.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <pthread.h>

#include "client/event.h"
#include "http/held.h"
#include "http/pool.h"

/* How long to wait after a lease could not be renewed. */
#define AGAIN_MS	1000

typedef struct Held
{
	char	   *lockid;
	char	   *id;
	struct Held *next;
} Held;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Held *held;
static bool lost;				/* has one of them ended otherwise? */
static char *ttl;				/* of a lease, as an interval; NULL for none */
static int64_t ttl_ms;
static const char *const *command;

/* The lease of locks that are taken, as an interval; NULL if they have none. */
const char *
held_ttl(void)
{
	return ttl;
}

/* Returns true if a lock was lost while the command ran. */
bool
held_lost(void)
{
	bool		result;

	pthread_mutex_lock(&mutex);
	result = lost;
	pthread_mutex_unlock(&mutex);
	return result;
}

/* Returns true if a word of the command has this text in it. */
bool
held_names(const char *id)
{
	for (int i = 0; command && command[i]; i++)
	{
		if (strstr(command[i], id))
			return true;
	}
	return false;
}

/* Take a lock out of the list.  Returns NULL if it is not there.  The caller has the mutex. */
static Held *
take(const char *lockid, const char *id)
{
	for (Held **place = &held; *place; place = &(*place)->next)
	{
		Held	   *lock = *place;

		if (strcmp(lock->lockid, lockid) == 0 && strcmp(lock->id, id) == 0)
		{
			*place = lock->next;
			return lock;
		}
	}
	return NULL;
}

/* A lock was taken. */
void
held_note(const char *lockid, const char *id)
{
	Held	   *lock;

	if (ttl == NULL)
		return;
	pthread_mutex_lock(&mutex);
	lock = take(lockid, id);
	if (lock == NULL)
	{
		lock = pg_malloc(sizeof(Held));
		lock->lockid = pg_strdup(lockid);
		lock->id = pg_strdup(id);
	}
	lock->next = held;
	held = lock;
	pthread_mutex_unlock(&mutex);
}

/*
 * A lock was released, or is about to be: it is renewed no longer.  Returns true if it was in
 * the list.
 */
bool
held_forget(const char *lockid, const char *id)
{
	Held	   *lock;

	pthread_mutex_lock(&mutex);
	lock = take(lockid, id);
	pthread_mutex_unlock(&mutex);
	if (lock == NULL)
		return false;
	free(lock->lockid);
	free(lock->id);
	free(lock);
	return true;
}

/* Copies of what identifies the lock at a place in the list; false if there is none. */
static bool
get(int place, char **lockid, char **id)
{
	Held	   *lock;

	pthread_mutex_lock(&mutex);
	for (lock = held; lock && place > 0; place--)
		lock = lock->next;
	if (lock)
	{
		*lockid = pg_strdup(lock->lockid);
		*id = pg_strdup(lock->id);
	}
	pthread_mutex_unlock(&mutex);
	return lock != NULL;
}

/*
 * Run a statement with a lock as its parameters, as long as that takes until a time.
 * *problem is NULL or to be freed.
 */
static DbStatus
run_statement(const char *sql, const char *lockid, const char *id, int64_t until, char **problem)
{
	Statement	statement = {sql, 2, {lockid, id}};
	DbStatus	status;

	bool		again = false;

	*problem = NULL;
	do
	{
		PGresult   *result = NULL;
		char		sqlstate[6];
		Db		   *db;

		free(*problem);
		status = pool_get(&db, "", "", again, sqlstate, problem);
		again = true;
		if (status == DB_OK)
		{
			status = db_query(db, &statement, &result);
			if (status == DB_ERROR)
				*problem = pg_strdup(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
			else if (status == DB_GONE)
				*problem = pg_strdup("the connection was lost");
			/* an error that may be over soon is not the lock's */
			if (status == DB_ERROR && strcmp(db_sqlstate(result), "55000") != 0)
				status = DB_GONE;
			PQclear(result);
			if (status == DB_GONE)
				pool_drop(db);
			else
				pool_put(db);
		}
		else
			status = DB_GONE;
		if (status == DB_GONE)
			pg_usleep(AGAIN_MS * 1000L);
	} while (status == DB_GONE && now_ms() < until);
	return status;
}

static void
renew(const char *lockid, const char *id)
{
	char	   *problem;

	/*
	 * where the server cannot be reached it stays to be renewed: it may be
	 * the first to come
	 */
	if (run_statement("SELECT @.tfstate_renew($1, $2)", lockid, id, now_ms() + ttl_ms / 3, &problem) == DB_ERROR &&
		held_forget(lockid, id))
	{
		fprintf(stderr, "%s: %s\n", progname, problem);
		pthread_mutex_lock(&mutex);
		lost = true;
		pthread_mutex_unlock(&mutex);
	}
	free(problem);
}

static void *
renew_all(void *arg)
{
	for (;;)
	{
		char	   *lockid;
		char	   *id;

		pg_usleep(ttl_ms / 3 * 1000L);
		for (int i = 0; get(i, &lockid, &id); i++)
		{
			renew(lockid, id);
			free(lockid);
			free(id);
		}
	}
	return NULL;
}

/* From now on locks are leases of this time, and end with this command. */
void
held_start(int64_t lease_ms, const char *const *argv)
{
	pthread_t	thread;

	ttl_ms = lease_ms;
	ttl = psprintf("%lld milliseconds", (long long) lease_ms);
	command = argv;
	if (pthread_create(&thread, NULL, renew_all, NULL) == 0)
		pthread_detach(thread);
}

/*
 * Release what the command has left locked.  Returns false, and says so, if that could not
 * be done.
 */
bool
held_release_all(void)
{
	bool		released = true;
	char	   *lockid;
	char	   *id;

	while (get(0, &lockid, &id))
	{
		char	   *problem;
		DbStatus	status = run_statement("SELECT @.tfstate_unlock($1, $2)", lockid, id, now_ms() + ttl_ms / 3, &problem);

		if (status == DB_OK)
			fprintf(stderr, "%s: released state lock \"%s\", which the command has left locked (ID %s)\n", progname, lockid, id);
		else
		{
			fprintf(stderr, "%s: could not release state lock \"%s\" (ID %s): %s\n", progname, lockid, id, problem);
			released = false;
		}
		(void) held_forget(lockid, id);
		free(problem);
		free(lockid);
		free(id);
	}
	return released;
}
