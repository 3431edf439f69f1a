/*-------------------------------------------------------------------------
 *
 * reclaim.c
 *	  Removing the rows of dead sessions in passing.
 *
 * When a session ends without an unlock, the row of its lock in session mode stays until
 * that lockid is locked again, which may never happen.  So some transactions that take a
 * lock in session mode read a few pages of the table at their commit and delete the rows of
 * dead sessions, as the next locker would: with the lock tag of the lockid, which is not
 * waited for.
 *
 * This happens only at the commit, because others that want such a lockid meanwhile are
 * refused or wait; and it does not happen if the commit will wait for the disk or a standby.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xlog.h"
#include "nodes/pg_list.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "lock/history.h"
#include "lock/holding.h"
#include "lock/holding_internal.h"
#include "lock/inner.h"
#include "lock/lookup.h"
#include "lock/reclaim.h"
#include "lock/tag.h"

/* How many pages are read, and how many rows are deleted, at one commit at most. */
#define RECLAIM_BLOCKS	32
#define RECLAIM_ROWS	64

/* Once in so many transactions, as long as nothing is found. */
#define RECLAIM_EVERY	64

/*
 * Delete a row, unless another transaction has its lock tag or is changing the row.
 */
static void
reclaim(const Holding *holding)
{
	LOCKTAG		key = tfstate_lock_tag(HOLDING_TEXT(holding, lockid));

	if (!compat_try_lock(&key, ExclusiveLock))
		return;
	if (tfstate_delete_holding(holding, false) != TM_Ok)
		return;
	tfstate_record_release(holding, HOW_RECLAIMED, NULL);
	tfstate_end_inner(holding);
}

/*
 * Remove rows of dead sessions.  Called before the commit of a transaction that has taken a
 * lock in session mode.  What this writes needs no flush: the rows do not outlive a crash
 * anyway.
 */
void
tfstate_reclaim_some(void)
{
	static int	commits = 0;
	static bool found = false;
	List	   *dead;
	ListCell   *lc;

	if (XactLastRecEnd != InvalidXLogRecPtr || (!found && commits++ % RECLAIM_EVERY != 0))
		return;
	PushActiveSnapshot(GetLatestSnapshot());
	dead = tfstate_dead_holdings(RECLAIM_BLOCKS, RECLAIM_ROWS);
	foreach(lc, dead)
		reclaim(lfirst(lc));
	PopActiveSnapshot();
	found = dead != NIL;
	if (XactLastRecEnd != InvalidXLogRecPtr)
		(void) set_config_option("synchronous_commit", "off", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}
