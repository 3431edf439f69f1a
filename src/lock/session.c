/*-------------------------------------------------------------------------
 *
 * session.c
 *	  Which sessions are still there.
 *
 * A session that takes its first lock draws a random number, takes the tag S
 * of that number for as long as it lives, and writes the number into the rows
 * of its locks.  A session is alive while somebody has its S: a bare process
 * ID would not do, because it is used again, and a row of session mode can
 * outlive its session (in a killed client, or over a clean restart).
 *
 * pg_advisory_unlock_all() and DISCARD ALL release S with all the rest.  The
 * session draws a new number for its next lock then, so that what it held
 * before is not taken for alive again.
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
 * The number of this session, with S held.
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

/* Is it the number of this session, and S still held? */
bool
tfstate_session_is_mine(int64 session)
{
	LOCKTAG		tag = tfstate_session_tag(session);

	return my_session_valid && session == my_session &&
		compat_lock_held_by_me(&tag, ExclusiveLock);
}

/* Has this session its S, so that all that it took since is still held? */
bool
tfstate_session_is_open(void)
{
	return my_session_valid && tfstate_session_is_mine(my_session);
}

/*
 * Is the session that has this number still there?  Looks at the shared lock
 * table only: unlike an attempt to take S this has no side effect, and it is
 * right in every session.
 */
bool
tfstate_session_is_alive(int64 session)
{
	LOCKTAG		tag = tfstate_session_tag(session);

	return LockWaiterCount(&tag) > 0;
}

/* The process that has a session's S, 0 if none. */
int
tfstate_session_pid(int64 session)
{
	LOCKTAG		tag = tfstate_session_tag(session);

	return tfstate_tag_holder(&tag);
}

/*
 * Note for whom something is remembered from now on.
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

/* Is it the caller who was noted, and has nothing come in between that ends memories? */
bool
tfstate_is_caller(const Caller *caller)
{
	const char *run = tfstate_my_run();

	return caller->role == GetUserId() && tfstate_session_is_mine(caller->session) &&
		(run && caller->run ? strcmp(run, caller->run) == 0 : run == caller->run);
}
