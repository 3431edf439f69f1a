/*-------------------------------------------------------------------------
 *
 * shim_memory.c
 *	  What a session remembers of its calls of the shim.
 *
 * All of it is a hint.  A rollback or DISCARD ALL releases locks that are still
 * remembered here, and behind a pooler a session works for many runs.  So the lock tables
 * have to confirm what a caller finds here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "lock/session.h"
#include "state/shim_memory.h"
#include "state/version.h"

/* The last key, and the statement in which it was locked. */
typedef struct KeyMemory
{
	LocalTransactionId lxid;
	TimestampTz statement;
	LastKey		key;
} KeyMemory;

/* A creation key that was granted and not taken, with the lock of a workspace. */
typedef struct GrantMemory
{
	Caller		caller;
	int64		key;			/* 0 for none */
	char	   *lockid;			/* of the workspace, in TopMemoryContext */
	char	   *id;				/* of its holding, in TopMemoryContext */
} GrantMemory;

/* A lock that was released. */
typedef struct ReleaseMemory
{
	Caller		caller;
	char	   *lockid;			/* in TopMemoryContext; NULL for none */
	int64		fence;
	int64		version;		/* its newest one at that moment; 0 for none */
} ReleaseMemory;

static KeyMemory last;
static List *shim_locks = NIL;	/* in TopMemoryContext, the newest one last */
static GrantMemory granted;
static ReleaseMemory last_release;

/*
 * Remember what the key is that was just locked.
 */
void
tfstate_remember_key(LastKey key)
{
	last.lxid = compat_my_lxid();
	last.statement = GetCurrentStatementStartTimestamp();
	last.key = key;
}

/*
 * What the last key was in the client's current statement.
 */
LastKey
tfstate_last_key(void)
{
	if (last.lxid != compat_my_lxid() ||
		last.statement != GetCurrentStatementStartTimestamp())
		return KEY_NONE;
	return last.key;
}

/*
 * Forget a remembered lock, and free it.
 */
void
tfstate_forget_lock(ShimLock *lock)
{
	shim_locks = list_delete_ptr(shim_locks, lock);
	pfree(lock->lockid);
	pfree(lock->id);
	pfree(lock);
}

/*
 * Remember a lock that was taken for a key, instead of an earlier one of this lockid.
 */
void
tfstate_remember_lock(int64 key, bool creation, const char *lockid, const char *id)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ShimLock   *lock;
	ListCell   *lc;

	foreach(lc, shim_locks)
	{
		ShimLock   *earlier = lfirst(lc);

		if (strcmp(earlier->lockid, lockid) != 0)
			continue;
		tfstate_forget_lock(earlier);
		break;
	}
	lock = palloc(sizeof(ShimLock));
	lock->key = key;
	lock->creation = creation;
	lock->lockid = pstrdup(lockid);
	lock->id = pstrdup(id);
	shim_locks = lappend(shim_locks, lock);
	MemoryContextSwitchTo(old);
}

/*
 * The locks that are remembered for a key, as ShimLocks in the order in which they were
 * taken.  The list is the caller's, what is in it is not.
 */
List *
tfstate_remembered_locks(int64 key)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, shim_locks)
	{
		ShimLock   *lock = lfirst(lc);

		if (lock->key == key)
			result = lappend(result, lock);
	}
	return result;
}

static void
forget_grant(void)
{
	if (granted.key == 0)
		return;
	granted.key = 0;
	pfree(granted.lockid);
	pfree(granted.id);
}

/*
 * Remember that a creation key was granted in the statement that has just locked a
 * workspace.
 */
void
tfstate_remember_grant(int64 key)
{
	const ShimLock *lock;

	if (shim_locks == NIL)
		return;					/* it was unlocked in the same statement */
	lock = llast(shim_locks);
	forget_grant();
	tfstate_note_caller(&granted.caller);
	granted.lockid = MemoryContextStrdup(TopMemoryContext, lock->lockid);
	granted.id = MemoryContextStrdup(TopMemoryContext, lock->id);
	granted.key = key;
}

/*
 * Return true if this creation key was the last one that was granted, and to the caller;
 * then fill in the lockid and the ID of the lock that it came with.  Forgets the grant.
 */
bool
tfstate_take_grant(int64 key, char **lockid, char **id)
{
	if (granted.key == 0 || granted.key != key)
		return false;
	*lockid = pstrdup(granted.lockid);
	*id = pstrdup(granted.id);
	forget_grant();
	return tfstate_is_caller(&granted.caller);
}

/*
 * Remember that the lock of this lockid was released, which had this fence, and what the
 * newest version of its workspace was then.
 */
void
tfstate_remember_release(const char *lockid, int64 fence)
{
	Version		newest;

	if (last_release.lockid)
		pfree(last_release.lockid);
	tfstate_note_caller(&last_release.caller);
	last_release.lockid = MemoryContextStrdup(TopMemoryContext, lockid);
	last_release.fence = fence;
	last_release.version = tfstate_newest_version(lockid, &newest) ?
		VERSION_INT64(&newest, number) : 0;
}

/*
 * Return true if the lock of this workspace was the last one that the caller released in
 * this session; then fill in its fence, and the number of the workspace's newest version
 * at that moment, 0 if there was none.
 */
bool
tfstate_released_last(const char *lockid, int64 *fence, int64 *version)
{
	if (last_release.lockid == NULL || strcmp(last_release.lockid, lockid) != 0 ||
		!tfstate_is_caller(&last_release.caller))
		return false;
	*fence = last_release.fence;
	*version = last_release.version;
	return true;
}
