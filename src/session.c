/*-------------------------------------------------------------------------
 *
 * session.c
 *	  Who is still there.
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

#include "common/ip.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tfstate.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

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

/*
 * The process that has a tag locked in ExclusiveLock, 0 if none.  Copies the
 * whole lock table: not for hot paths.
 */
int
tfstate_tag_holder(const LOCKTAG *tag)
{
	LockData   *data = GetLockStatusData();

	for (int i = 0; i < data->nelements; i++)
	{
		LockInstanceData *lock = &data->locks[i];

		if (memcmp(&lock->locktag, tag, sizeof(LOCKTAG)) == 0 &&
			(lock->holdMask & LOCKBIT_ON(ExclusiveLock)) != 0)
			return lock->pid;
	}
	return 0;
}

/* The process that has a session's S, 0 if none. */
int
tfstate_session_pid(int64 session)
{
	LOCKTAG		tag = tfstate_session_tag(session);

	return tfstate_tag_holder(&tag);
}

/* Was a holding taken for the run that this session works for, be it a nameless one? */
static bool
is_of_my_run(const Holding *holding)
{
	const char *run = tfstate_my_run();

	if (run == NULL || HOLDING_NULL(holding, run_id))
		return run == NULL && HOLDING_NULL(holding, run_id);
	return strcmp(run, HOLDING_TEXT(holding, run_id)) == 0;
}

/*
 * Did this session take a holding, for the run that it works for now?  Behind a
 * pooler a session has many runs, and there only their names tell them apart.
 */
bool
tfstate_is_own(const Holding *holding)
{
	return tfstate_session_is_mine(HOLDING_INT64(holding, session)) &&
		is_of_my_run(holding);
}

/* Does this session show the fence of a durable holding, or else its run? */
static bool
is_shown(const Holding *holding)
{
	if (!holding->durable)
		return false;
	if (tfstate_fence != 0 && tfstate_fence == HOLDING_INT64(holding, fence))
		return true;
	return tfstate_my_run() != NULL && is_of_my_run(holding);
}

/*
 * Does a holding belong to this session?  To the one that took it, for as long as it
 * works for the same run; and one in durable mode to whichever session shows its
 * fence, or the run that it was taken for: behind a pooler a run has many sessions.
 * None of that is a secret, and a session can change its role, so the role always
 * counts, too.
 */
bool
tfstate_is_ours(const Holding *holding)
{
	return (tfstate_is_own(holding) || is_shown(holding)) &&
		tfstate_acts_for_holder(holding);
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

/*
 * The numeric address of a client, NULL for a Unix socket or none.
 */
static char *
numeric_address(const SockAddr *addr)
{
	char		host[NI_MAXHOST];

	if (addr->addr.ss_family != AF_INET && addr->addr.ss_family != AF_INET6)
		return NULL;
	if (pg_getnameinfo_all(&addr->addr, addr->salen, host, sizeof(host),
						   NULL, 0, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return NULL;
	clean_ipv6_addr(addr->addr.ss_family, host);
	return pstrdup(host);
}

/*
 * The numeric address of this session's client, NULL for a Unix socket or
 * none.  It is found out once, and lives as long as the session.
 */
const char *
tfstate_client_addr(void)
{
	static const char *address = NULL;
	static bool known = false;

	if (!known)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		address = MyBEEntry ? numeric_address(&MyBEEntry->st_clientaddr) : NULL;
		MemoryContextSwitchTo(old);
		known = true;
	}
	return address;
}

/*
 * What the server's statistics know of another backend.  Returns false, and
 * all NULL or 0, if it is gone.
 */
bool
tfstate_backend_details(int pid, BackendDetails *details)
{
	PgBackendStatus *entry;

	memset(details, 0, sizeof(BackendDetails));
	pgstat_clear_backend_activity_snapshot();
	for (int i = 1; (entry = compat_backend_status(i)) != NULL; i++)
	{
		if (entry->st_procpid != pid)
			continue;
		details->role = GetUserNameFromId(entry->st_userid, true);
		details->client_addr = numeric_address(&entry->st_clientaddr);
		details->application_name = pstrdup(entry->st_appname);
		details->statement_start = entry->st_activity_start_timestamp;
		return true;
	}
	return false;
}
