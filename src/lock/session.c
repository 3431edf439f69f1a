/*-------------------------------------------------------------------------
 *
 * session.c
 *	  Which sessions are alive.
 *
 * A session that takes its first lock draws a random number, holds the session tag of this
 * number for as long as it lives, and writes the number into the rows of its locks.  A
 * session is alive while its session tag is held.  (A process ID would not do: it is used
 * again, and the row of a lock in session mode can outlive its session, after kill -9 or a
 * clean restart.)
 *
 * pg_advisory_unlock_all() and DISCARD ALL release the session tag, too.  Then the session
 * draws a new number for its next lock, so that what it held before does not seem alive
 * again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "common/run.h"
#include "lock/backend.h"
#include "lock/session.h"
#include "lock/tag.h"

static int64 my_session;
static bool my_session_valid = false;

/*
 * The number of this session, which holds its session tag from now on.
 */
int64
tfstate_session_open(void)
{
	LOCKTAG		tag;

	if (tfstate_session_is_open())
		return my_session;

	if (!pg_strong_random(&my_session, sizeof(my_session)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	tag = tfstate_session_tag(my_session);
	(void) LockAcquire(&tag, ExclusiveLock, true, true);
	my_session_valid = true;
	return my_session;
}

/* Return true if this is the number of this session, and it still holds its session tag. */
bool
tfstate_session_is_mine(int64 session)
{
	LOCKTAG		tag = tfstate_session_tag(session);

	return my_session_valid && session == my_session &&
		compat_lock_held_by_me(&tag, ExclusiveLock);
}

/*
 * Return true if this session holds its session tag, and so still holds all locks that it
 * has taken since it drew its number.
 */
bool
tfstate_session_is_open(void)
{
	return my_session_valid && tfstate_session_is_mine(my_session);
}

/*
 * Return true if the session with this number is alive.  Reads only the shared lock table:
 * unlike an attempt to take the session tag, that has no side effect, and it gives the same
 * answer in every session.
 */
bool
tfstate_session_is_alive(int64 session)
{
	LOCKTAG		tag = tfstate_session_tag(session);

	return LockWaiterCount(&tag) > 0;
}

/* The process that holds the session tag of this number, 0 if none. */
int
tfstate_session_pid(int64 session)
{
	LOCKTAG		tag = tfstate_session_tag(session);

	return tfstate_tag_holder(&tag);
}

/*
 * Remember the role, the session and the run that act now.
 */
void
tfstate_note_caller(Caller *caller)
{
	const char *run = tfstate_my_run();

	if (caller->run)
		pfree(caller->run);
	caller->run = run ? MemoryContextStrdup(TopMemoryContext, run) : NULL;
	caller->role = GetUserId();
	caller->session = tfstate_session_open();
}

/*
 * Return true if the same role acts now in the same session for the same run, and DISCARD
 * ALL has not been called since.
 */
bool
tfstate_is_caller(const Caller *caller)
{
	const char *run = tfstate_my_run();

	return caller->role == GetUserId() && tfstate_session_is_mine(caller->session) &&
		(run && caller->run ? strcmp(run, caller->run) == 0 : run == caller->run);
}
