/*-------------------------------------------------------------------------
 *
 * reclaim.c
 *	  What dead sessions have left is removed in passing.
 *
 * The row of a lock in session mode stays when its session ends without an unlock,
 * until somebody locks that lockid again, which may be never.  So some transactions
 * that take a lock in session mode look at a few pages of the table at their commit,
 * and take away the rows there whose session is gone, as the next locker would: with
 * K of the lockid, which is not waited for.
 *
 * This is done in the commit, because who wants one of those lockids meanwhile is
 * turned away, or waits; and not if the commit will wait for disk or standby.
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
#include "lock/lookup.h"
#include "lock/reclaim.h"
#include "lock/tag.h"

/* How many pages are looked at, and how many rows are removed, at one commit at most. */
#define RECLAIM_BLOCKS	32
#define RECLAIM_ROWS	64

/* In how many transactions once, if the last look found nothing. */
#define RECLAIM_EVERY	64

/*
 * Remove a row, unless somebody else is at it or at its lockid.
 */
static void
reclaim(const Holding *holding)
{
	LOCKTAG		key = tfstate_lock_tag(HOLDING_TEXT(holding, lockid));

	if (!compat_try_lock(&key, ExclusiveLock))
		return;
	if (tfstate_delete_holding(holding, false) == TM_Ok)
		tfstate_record_release(holding, HOW_RECLAIMED, NULL);
}

/*
 * To be called before the commit of a transaction that has taken a lock in session
 * mode.  What is written here needs no flush: the rows would not outlive a crash.
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
