/*-------------------------------------------------------------------------
 *
 * hold.c
 *	  Locks that the program takes, and keeps while a command runs.
 *
 * All locks are taken in one transaction, in the order of their lockids, so that two
 * programs that want the same ones do not wait for each other.  Each has an ID that was
 * drawn before: if the connection breaks before the answer has come, the ID tells
 * whether the lock was taken.
 *
 * A lease is renewed when a third of it has gone.  Its end is reckoned from before the
 * request was sent, by our own clock, so it comes here earlier than at the server.  In
 * every mode it is asked every few seconds whether the locks are still held under their
 * IDs, so that a forced release is noticed soon.
 * Where the connection breaks, another one is made; but a lock in session mode is lost
 * with its session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "fe_utils/string_utils.h"

#include "client.h"
#include "event.h"
#include "hold.h"
#include "options.h"

/* What part of a lease is kept free at its end, for the command to stop in. */
#define MARGIN_PART		6

/* How often it is asked whether locks without a lease are still held. */
#define CHECK_MS		5000

/* How long to wait before the next attempt to connect. */
#define RECONNECT_MS	1000

/* How long an attempt to connect, and a statement that does not wait, may take. */
#define CONNECT_MS		10000
#define STATEMENT_MS	10000

/* How long it is asked for the reason why a lock was lost, and how long after a session's end. */
#define TELL_MS			3000
#define SESSION_END_MS	300

/* How long it is tried to release locks. */
#define RELEASE_MS		15000

/* Returns true if a mode has a lock that stays when its session ends. */
static bool
outlives_session(const Hold *hold)
{
	return hold->mode != MODE_SESSION;
}

/*
 * Connect, and draw the IDs.  Returns 0, or an exit status for what is wrong, which is
 * reported unless the idle function wanted it to end.
 */
int
hold_prepare(Hold *hold)
{
	DbStatus	status = db_connect(&hold->conn, now_ms() + 3 * CONNECT_MS);

	if (status != DB_OK)
	{
		if (status != DB_STOPPED)
			db_report(&hold->conn, NULL);
		return EXIT_CONNECT;
	}
	hold->wait_until = hold->wait_ms < 0 ? NEVER : now_ms() + hold->wait_ms;
	hold->lease_end = NEVER;
	for (int i = 0; i < hold->count; i++)
		hold->locks[i].id = make_uuid();
	return 0;
}

/*
 * Take one lock in the transaction that is open, or without one.
 */
static DbStatus
take_one(Hold *hold, HeldLock *lock, PGresult **result)
{
	char		wait[32];
	char		ttl[32];
	const char *values[] = {lock->lockid, lock->id, hold->operation, hold->note, hold->who,
		hold->mode == MODE_SESSION ? "session" : "durable",
		hold->wait_until == NEVER && !hold->conn.pooled ? NULL : wait,
	hold->mode == MODE_LEASE ? ttl : NULL, hold->version};
	DbStatus	status;

	snprintf(ttl, sizeof(ttl), "%lld milliseconds", (long long) hold->ttl_ms);

	/*
	 * Behind a pooler the session may also have served the holder.  The
	 * server does not wait for ever for what its own session holds.
	 */
	if (hold->wait_until == NEVER)
		strcpy(wait, "365 days");
	else
		snprintf(wait, sizeof(wait), "%lld milliseconds", (long long) Max(hold->wait_until - now_ms(), 0));
	status = db_exec(&hold->conn, result, NEVER,
					 "SELECT l.fence FROM @.tfstate_lock($1, pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object("
					 "'ID', $2::text, 'Operation', $3::text, 'Info', $4::text, 'Who', $5::text, 'Version', $9::text)), "
					 "$6, $7::interval, $8::interval) l", 9, values);
	if (status == DB_OK)
	{
		free(lock->fence);
		lock->fence = pg_strdup(PQgetvalue(*result, 0, 0));
	}
	return status;
}

static DbStatus
command(Hold *hold, const char *sql, PGresult **result)
{
	PQclear(*result);
	return db_exec(&hold->conn, result, now_ms() + STATEMENT_MS, sql, 0, NULL);
}

/* Take all locks in one transaction. */
static DbStatus
take_all(Hold *hold, PGresult **result)
{
	DbStatus	status;

	if (hold->count == 1)
		return take_one(hold, &hold->locks[0], result);
	*result = NULL;
	status = command(hold, "BEGIN", result);
	for (int i = 0; i < hold->count && status == DB_OK; i++)
	{
		PQclear(*result);
		status = take_one(hold, &hold->locks[i], result);
	}
	return status == DB_OK ? command(hold, "COMMIT", result) : status;
}

/*
 * Is a lock held under its ID?  DB_OK if it is; DB_ERROR without a result if it is not.
 */
static DbStatus
ask_held(Hold *hold, HeldLock *lock, PGresult **result)
{
	const char *values[] = {lock->lockid, lock->id};
	DbStatus	status = db_exec(&hold->conn, result, now_ms() + STATEMENT_MS,
								 "SELECT h.fence FROM @.tfstate_holders($1) h WHERE h.lockid = $1 AND h.id = $2 "
								 "AND (h.mode <> 'session' OR h.session_alive IS NOT FALSE)", 2, values);

	if (status == DB_OK && PQntuples(*result) == 1)
	{
		free(lock->fence);
		lock->fence = pg_strdup(PQgetvalue(*result, 0, 0));
		return DB_OK;
	}
	if (status == DB_OK)
	{
		PQclear(*result);
		*result = NULL;
		status = DB_ERROR;
	}
	return status;
}

/* Release one lock. */
static DbStatus
unlock_one(Hold *hold, HeldLock *lock, int64_t until, PGresult **result)
{
	const char *values[] = {lock->lockid, lock->id};

	return db_exec(&hold->conn, result, until, "SELECT @.tfstate_unlock($1, $2)", 2, values);
}

/* Are all locks held? */
static DbStatus
ask_all_held(Hold *hold, PGresult **result)
{
	DbStatus	status = DB_OK;

	for (int i = 0; i < hold->count && status == DB_OK; i++)
	{
		if (i > 0)
			PQclear(*result);
		status = ask_held(hold, &hold->locks[i], result);
	}
	return status;
}

/* Wait for some time, unless the idle function wants it to end. */
static DbStatus
pause_for(Hold *hold, int64_t ms)
{
	int64_t		until = now_ms() + ms;

	while (now_ms() < until)
	{
		(void) wait_for_event(NULL, NULL, 0, Min(until, hold->conn.wake));
		if (hold->conn.idle && hold->conn.idle(hold->conn.arg))
			return DB_STOPPED;
	}
	return DB_OK;
}

/*
 * Connect again, and again, until a time.
 */
static DbStatus
reconnect(Hold *hold, int64_t until)
{
	DbStatus	status;

	do
	{
		db_disconnect(&hold->conn);
		status = db_connect(&hold->conn, Min(until, now_ms() + CONNECT_MS * Max(hold->conn.hosts.count, 1)));
		if (status != DB_OK && status != DB_STOPPED)
			status = pause_for(hold, RECONNECT_MS) == DB_STOPPED ? DB_STOPPED : DB_GONE;
	} while (status == DB_GONE && now_ms() < until);
	return status;
}

/* The locks are held, and leases were renewed by a request that was sent at that time. */
static void
note_renewal(Hold *hold, int64_t sent)
{
	hold->lease_end = hold->mode == MODE_LEASE ? sent + hold->ttl_ms - hold->ttl_ms / MARGIN_PART : NEVER;
	hold->renew_at = hold->mode == MODE_LEASE ? sent + hold->ttl_ms / 3 : NEVER;
	hold->check_at = Min(now_ms() + CHECK_MS, hold->renew_at);
}

/*
 * Take the locks.  Returns 0, or an exit status; what went wrong is reported, unless the
 * idle function wanted it to end.
 *
 * The lease counts from when the lock was granted, which we learn of later: renewed at
 * once it counts from a time that we know.
 */
int
hold_take(Hold *hold)
{
	PGresult   *result = NULL;
	DbStatus	status = take_all(hold, &result);
	int			exit_status;

	while (status == DB_GONE)
	{
		fprintf(stderr, "%s: the connection was lost while the lock was asked for; connecting again\n", progname);
		PQclear(result);
		result = NULL;
		status = reconnect(hold, hold->wait_until == NEVER ? NEVER : Max(hold->wait_until, now_ms() + CONNECT_MS));
		if (status != DB_OK)
			break;
		if (outlives_session(hold) && ask_all_held(hold, &result) == DB_OK)
			break;
		PQclear(result);
		result = NULL;
		status = take_all(hold, &result);
	}
	if (status == DB_OK)
	{
		PQclear(result);
		note_renewal(hold, now_ms());
		if (hold->mode == MODE_LEASE)
		{
			hold->renew_at = now_ms();
			hold_keep(hold);
		}
		hold_tell_lost(hold);
		return hold->lost ? EXIT_LOST : 0;
	}
	if (status != DB_STOPPED)
		db_report(&hold->conn, result);
	exit_status = db_exit_status(status, result);
	PQclear(result);
	return exit_status;
}

/*
 * The wait for the locks was ended by the idle function: release what may have been granted
 * in the same moment.  The IDs are our own, so that nobody else's lock is released.
 */
void
hold_give_up(Hold *hold)
{
	PGresult   *result = NULL;

	hold->conn.idle = NULL;
	if (!outlives_session(hold))
		return;
	if (hold->count > 1)
		(void) command(hold, "ROLLBACK", &result);
	PQclear(result);
	for (int i = 0; i < hold->count && hold->locks[i].id; i++)
	{
		(void) unlock_one(hold, &hold->locks[i], now_ms() + STATEMENT_MS, &result);
		PQclear(result);
	}
}

/*
 * Say how a lock was lost, as far as the server tells, or else that its session has ended.
 * It is said in one piece, because the command may write at the same time.
 */
static void
report_lost(Hold *hold, const HeldLock *lock, const char *session_end)
{
	const char *values[] = {lock->lockid, lock->id};
	PGresult   *result;
	PQExpBuffer line = createPQExpBuffer();

	appendPQExpBuffer(line, "%s: state lock \"%s\" was lost", progname, lock->lockid);
	if (db_exec(&hold->conn, &result, now_ms() + TELL_MS,
				"SELECT CASE h.how WHEN 'force' THEN pg_catalog.format('it was released by force, by %s%s', h.released_by, "
				"': ' || h.reason) WHEN 'expired' THEN 'its lease has expired' WHEN 'reclaimed' THEN 'its session has ended' "
				"ELSE 'it was unlocked by ' || h.released_by END FROM @.tfstate_history($1) h WHERE h.lockid = $1 AND h.id = $2",
				2, values) == DB_OK && PQntuples(result) > 0)
		appendPQExpBuffer(line, ": %s", PQgetvalue(result, 0, 0));
	else if (session_end)
		appendPQExpBuffer(line, ": its session has ended: %s", session_end);
	PQclear(result);
	if (db_exec(&hold->conn, &result, now_ms() + TELL_MS,
				"SELECT pg_catalog.concat_ws(': ', h.who, h.operation) FROM @.tfstate_holders($1) h WHERE h.lockid = $1 AND h.id <> $2",
				2, values) == DB_OK && PQntuples(result) > 0)
		appendPQExpBuffer(line, "; it is held by %s now", PQgetvalue(result, 0, 0));
	PQclear(result);
	fprintf(stderr, "%s\n", line->data);
	destroyPQExpBuffer(line);
}

/* The lock is lost; hold_tell_lost() tells how. */
static void
note_lost(Hold *hold, HeldLock *lock, const char *why)
{
	hold->lost = lock->lost = true;
	hold->lost_lock = lock;
	hold->lost_why = why ? pg_strdup(why) : NULL;
}

/*
 * Say how the lock was lost, if that has not been said.  The server is asked for it, so
 * end the command before.  A session that has ended is looked up from a new one: it may
 * have been ended by tfstate_force_unlock(), which commits a moment later.
 */
void
hold_tell_lost(Hold *hold)
{
	const HeldLock *lock = hold->lost_lock;
	int64_t		until = now_ms() + TELL_MS;

	if (lock == NULL)
		return;
	hold->lost_lock = NULL;
	if (hold->lost_why && outlives_session(hold))
		fprintf(stderr, "%s: state lock \"%s\" was lost: %s\n", progname, lock->lockid, hold->lost_why);
	else
	{
		if (hold->lost_why && pause_for(hold, SESSION_END_MS) == DB_OK)
			(void) reconnect(hold, until);
		report_lost(hold, lock, hold->lost_why);
	}
}

/* Renew one lease. */
static DbStatus
renew_one(Hold *hold, HeldLock *lock, PGresult **result)
{
	const char *values[] = {lock->lockid, lock->id};

	return db_exec(&hold->conn, result, Min(hold->lease_end, now_ms() + STATEMENT_MS),
				   "SELECT @.tfstate_renew($1, $2)", 2, values);
}

/*
 * Renew the leases or, where it is not time for that, ask whether the locks are held.  On
 * DB_ERROR *lock is the one that is not.
 */
static DbStatus
keep_once(Hold *hold, HeldLock **lock)
{
	int64_t		sent = now_ms();
	bool		renew = sent >= hold->renew_at;
	DbStatus	status = DB_OK;

	for (int i = 0; i < hold->count && status == DB_OK; i++)
	{
		PGresult   *result;

		*lock = &hold->locks[i];
		status = renew ? renew_one(hold, *lock, &result) : ask_held(hold, *lock, &result);
		/* only this says that the lock is lost; other errors may be over soon */
		if (status == DB_ERROR && result && strcmp(db_sqlstate(result), "55000") != 0)
			status = DB_TIMEOUT;
		PQclear(result);
	}
	if (status == DB_OK && (renew || hold->mode != MODE_LEASE))
		note_renewal(hold, sent);
	else if (status == DB_OK)
		hold->check_at = Min(now_ms() + CHECK_MS, hold->renew_at);
	return status;
}

/*
 * Keep the locks: to be called when it is time for that, or when the connection has
 * something to say.  Sets hold->lost if they were lost.  Returns earlier if
 * the idle function wants it to.
 */
void
hold_keep(Hold *hold)
{
	HeldLock   *lock = &hold->locks[0];
	DbStatus	status;

	if (hold->lost)
		return;
	status = keep_once(hold, &lock);
	if (status == DB_GONE && !outlives_session(hold))
	{
		note_lost(hold, lock, db_message(&hold->conn, NULL));
		return;
	}
	while (status == DB_GONE && now_ms() < hold->lease_end)
	{
		fprintf(stderr, "%s: the connection was lost; connecting again\n", progname);
		if (reconnect(hold, hold->lease_end) != DB_OK)
			break;
		status = keep_once(hold, &lock);
	}
	if (status == DB_ERROR)
		note_lost(hold, lock, NULL);
	else if (status != DB_OK)
	{
		hold->check_at = now_ms() + RECONNECT_MS;
		if (now_ms() >= hold->lease_end)
			note_lost(hold, lock, "its lease could not be renewed in time");
	}
}

/*
 * Release the locks, those beside one that was lost, too.  Returns true if all were held until
 * then.  What cannot be released is said, with what is to be done.
 *
 * The idle function is not asked any more: a signal that comes now must not leave the locks.
 */
bool
hold_release(Hold *hold)
{
	int64_t		until = now_ms() + RELEASE_MS;
	bool		held = !hold->lost;

	hold->conn.idle = NULL;
	for (int i = 0; i < hold->count; i++)
	{
		HeldLock   *lock = &hold->locks[i];
		PGresult   *result;
		DbStatus	status;
		bool		again = false;

		if (lock->lost)
			continue;
		while ((status = unlock_one(hold, lock, until, &result)) == DB_GONE &&
			   outlives_session(hold) && now_ms() < until && reconnect(hold, until) == DB_OK)
		{
			PQclear(result);
			again = true;
		}
		if (status == DB_ERROR && strcmp(db_sqlstate(result), "55000") == 0)
		{
			/* the first attempt, whose answer was lost, may have done it */
			if (!again)
			{
				report_lost(hold, lock, NULL);
				held = false;
			}
		}
		else if (status == DB_GONE && !outlives_session(hold))
			held = false;
		else if (status != DB_OK)
		{
			fprintf(stderr, "%s: could not release state lock \"%s\": %s\n", progname, lock->lockid,
					db_message(&hold->conn, result));
			if (hold->mode == MODE_DURABLE)
				fprintf(stderr, "%s: it is still held; release it with: tfstate unlock '%s' %s\n", progname, lock->lockid, lock->id);
		}
		PQclear(result);
	}
	return held;
}
