/*-------------------------------------------------------------------------
 *
 * share.c
 *	  The shares of built-in locks that a session keeps for durable locks.
 *
 * A Terraform without tfstate locks the id of a workspace with the built-in
 * pg_try_advisory_lock(bigint), that is in ExclusiveLock.  With the lock of a
 * workspace we take a share of that built-in lock.  So a stock client and we
 * exclude each other, but among ourselves only the lock tag and the rows count.
 *
 * The session that took the lock keeps its share until the lock is released, in
 * durable mode too: as long as the session lives, stock clients are kept out.
 * commit.c takes and returns the share with the transaction.  But a durable lock
 * can also be released by another session, or be lost.  The session does not
 * notice, and its share then excludes only stock clients.  The session therefore
 * remembers the shares of its durable locks, and returns stale ones when it takes
 * its next lock (if it keeps many, over the next few locks), or all when it ends.
 * An expired lease is not lost yet: it can be renewed until somebody takes the
 * lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "storage/lock.h"
#include "utils/memutils.h"

#include "lock/holding.h"
#include "lock/lookup.h"
#include "lock/session.h"
#include "lock/share.h"
#include "lock/tag.h"

/* How many kept shares are checked with each lock that is taken. */
#define SHARES_PER_CHECK	16

/* All KeptShares, in TopMemoryContext. */
static List *kept_shares = NIL;

/*
 * Remember the share that goes with a durable holding.  Returns what is
 * remembered, to be passed to tfstate_forget_share() if the share is not kept.
 */
KeptShare *
tfstate_note_share(const Holding *holding)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	KeptShare  *share = palloc(sizeof(KeptShare));

	share->lockid = HOLDING_TEXT(holding, lockid);
	share->fence = HOLDING_INT64(holding, fence);
	share->key = HOLDING_INT64(holding, key);
	share->session = HOLDING_INT64(holding, session);
	kept_shares = lappend(kept_shares, share);
	MemoryContextSwitchTo(old);
	return share;
}

/*
 * Return the share that this session keeps for a holding, or NULL if it keeps
 * none.
 */
KeptShare *
tfstate_find_share(const Holding *holding)
{
	ListCell   *lc;

	foreach(lc, kept_shares)
	{
		KeptShare  *share = lfirst(lc);

		if (share->fence == HOLDING_INT64(holding, fence) &&
			share->session == HOLDING_INT64(holding, session))
			return share;
	}
	return NULL;
}

/*
 * Forget a share that is not kept, or no longer.  Allocates nothing and cannot
 * fail.
 */
void
tfstate_forget_share(KeptShare *share)
{
	kept_shares = list_delete_ptr(kept_shares, share);
	pfree(share->lockid);
	pfree(share);
}

/*
 * Return true if the holding for which a share was taken is still there.
 */
static bool
is_needed(const KeptShare *share)
{
	Holding		holding;

	return tfstate_current_holding(share->lockid, &holding) &&
		HOLDING_INT64(&holding, fence) == share->fence;
}

/*
 * Return the shares of durable locks that have ended since.  Each call checks
 * only the next few of them, so that it takes no longer if there are many.
 *
 * Not to be called while the end of the transaction has something to do with
 * one of the shares; see tfstate_has_pending().
 */
void
tfstate_drop_stale_shares(void)
{
	static int	next = 0;

	for (int left = Min(list_length(kept_shares), SHARES_PER_CHECK); left > 0; left--)
	{
		KeptShare  *share;
		LOCKTAG		tag;

		if (next >= list_length(kept_shares))
			next = 0;
		share = list_nth(kept_shares, next);
		if (is_needed(share))
		{
			next++;
			continue;
		}
		tag = tfstate_builtin_tag(share->key);
		if (tfstate_session_is_mine(share->session))
			(void) LockRelease(&tag, tfstate_tag_mode(&tag), true);
		tfstate_forget_share(share);
	}
}
