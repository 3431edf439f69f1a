/*-------------------------------------------------------------------------
 *
 * reclaim.c
 *	  Removing the entries of dead sessions in passing.
 *
 * When a session ends without an unlock, the entry of its lock in session mode stays until
 * that lockid is locked again, which may never happen.  So some transactions that take a
 * lock in session mode look at a part of the entries at their commit and end those of
 * dead sessions, as the next locker would: with the lock tag of the lockid, which is not
 * waited for.
 *
 * This happens only at the commit, because others that want such a lockid meanwhile are
 * refused or wait; and it does not happen if the commit will wait for the disk or a standby.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/pg_prng.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "common/shared.h"
#include "lock/history.h"
#include "lock/holding.h"
#include "lock/holding_internal.h"
#include "lock/inner.h"
#include "lock/reclaim.h"
#include "lock/session.h"
#include "lock/session_lock.h"
#include "lock/tag.h"

/* How many locks are looked at, and how many are ended, at one commit, or some more. */
#define RECLAIM_LOOKS	256
#define RECLAIM_LOCKS	64

/* Once in so many transactions, as long as nothing is found. */
#define RECLAIM_EVERY	64

/*
 * End a lock, unless another transaction has its lock tag or is ending it.
 */
static void
reclaim(const Holding *holding)
{
	LOCKTAG		lock_tag = tfstate_lock_tag(HOLDING_TEXT(holding, lockid));
	LOCKTAG		end_tag = tfstate_end_tag(HOLDING_INT64(holding, fence));

	if (!compat_try_lock(&lock_tag, ExclusiveLock) || !compat_try_lock(&end_tag, ExclusiveLock))
		return;
	if (tfstate_delete_holding(holding, false) != TM_Ok)
		return;
	PushActiveSnapshot(GetLatestSnapshot());
	tfstate_record_release(holding, HOW_RECLAIMED, NULL);
	tfstate_end_inner(holding);
	PopActiveSnapshot();
}

/*
 * Remove entries of dead sessions.  Each call goes on from where the last one of this session
 * has ended; the first one begins anywhere.
 *
 * Called before the commit of a transaction that has taken a lock in session mode.  (If it has
 * dropped the extension since, it has written WAL.)  What this writes needs no flush: the
 * entries do not outlive a crash anyway.
 */
void
tfstate_reclaim_some(void)
{
	static int	commits = 0;
	static bool found = false;
	static int	next = -1;
	int			looked = 0;
	int			count = 0;
	SessionLockScan scan;
	Holding    *holding;

	if (XactLastRecEnd != InvalidXLogRecPtr || (!found && commits++ % RECLAIM_EVERY != 0))
		return;
	if (next < 0)
		next = (int) pg_prng_uint64_range(&pg_global_prng_state, 0, SESSION_LOCK_BUCKETS - 1);
	tfstate_begin_session_scan(&scan, next, false);
	while ((holding = tfstate_next_session_lock(&scan)) != NULL)
	{
		looked++;
		if (!tfstate_session_is_alive(HOLDING_INT64(holding, session)))
		{
			reclaim(holding);
			count++;
		}
		/* go on with the next list */
		if ((looked >= RECLAIM_LOOKS || count >= RECLAIM_LOCKS) && scan.position >= scan.length)
			break;
	}
	next = scan.bucket;
	tfstate_end_session_scan(&scan);
	found = count > 0;
	if (XactLastRecEnd != InvalidXLogRecPtr)
		(void) set_config_option("synchronous_commit", "off", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}
