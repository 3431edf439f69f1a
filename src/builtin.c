/*-------------------------------------------------------------------------
 *
 * builtin.c
 *	  The built-in advisory lock that goes along with a workspace's lock.
 *
 * A Terraform without tfstate locks the id of a workspace with the built-in
 * pg_try_advisory_lock(bigint), that is in ExclusiveLock.  We take a share of the
 * same lock.  So he and we exclude each other, but among ourselves only K and
 * the rows count.
 *
 * The session that took the lock keeps its share until it releases the lock, in
 * durable mode too: as long as it is there, a Terraform without tfstate is kept
 * out.  A durable lock can be released, or lost, without that session having
 * part in it.  What it has kept then shuts out nobody who uses tfstate, and it
 * gives it back when it takes its next lock (one of the next, where it has kept many),
 * or ends.  A lease that has expired
 * is not lost yet: it can be renewed until somebody takes the lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "tfstate.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* How many of the shares that a session has kept are looked at with each lock. */
#define LOOK_AT_KEPT	16

/* The share of a durable lock that this session took. */
struct KeptBuiltin
{
	char	   *lockid;
	int64		fence;
	int64		key;
	int64		session;		/* that the share is kept for */
};

/*
 * In TopMemoryContext.  A transaction that takes or releases such a lock has it
 * on the list of what its end has to do as well (see xact.c).
 */
static List *kept_builtins = NIL;

/*
 * Keep the share, which this transaction has, until the holding ends.
 */
void
tfstate_keep_builtin(const Holding *holding)
{
	LOCKTAG		tag = tfstate_builtin_tag(HOLDING_INT64(holding, key));
	KeptBuiltin *kept = NULL;

	if (holding->durable)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		kept = palloc(sizeof(KeptBuiltin));
		kept->lockid = HOLDING_TEXT(holding, lockid);
		kept->fence = HOLDING_INT64(holding, fence);
		kept->key = HOLDING_INT64(holding, key);
		kept->session = HOLDING_INT64(holding, session);
		kept_builtins = lappend(kept_builtins, kept);
		MemoryContextSwitchTo(old);
	}
	tfstate_promote_at_commit(&tag, HOLDING_INT64(holding, session), kept);
}

static void
free_kept(KeptBuiltin *kept)
{
	pfree(kept->lockid);
	pfree(kept);
}

/*
 * A share is not kept, or not any more.
 */
void
tfstate_forget_kept(KeptBuiltin *kept)
{
	kept_builtins = list_delete_ptr(kept_builtins, kept);
	free_kept(kept);
}

static KeptBuiltin *
find_kept(const Holding *holding)
{
	ListCell   *lc;

	foreach(lc, kept_builtins)
	{
		KeptBuiltin *kept = lfirst(lc);

		if (kept->fence == HOLDING_INT64(holding, fence) &&
			kept->session == HOLDING_INT64(holding, session))
			return kept;
	}
	return NULL;
}

/*
 * Give the share back, at the commit of the release, if it is this session's.
 * (That of a durable lock taken by a prepared transaction is nobody's.)
 */
void
tfstate_return_builtin(const Holding *holding)
{
	LOCKTAG		tag = tfstate_builtin_tag(HOLDING_INT64(holding, key));
	KeptBuiltin *kept = holding->durable ? find_kept(holding) : NULL;

	if (kept || (!holding->durable &&
				 tfstate_session_is_mine(HOLDING_INT64(holding, session))))
		tfstate_release_at_commit(&tag, HOLDING_INT64(holding, session), kept);
}

/*
 * Is the share still of use: is the holding that it was taken for still there?
 */
static bool
is_needed(const KeptBuiltin *kept)
{
	Holding		holding;

	return tfstate_current_holding(kept->lockid, &holding) &&
		HOLDING_INT64(&holding, fence) == kept->fence;
}

/*
 * Give back what this session has kept of durable locks that have ended.  Not
 * while this transaction may yet decide about one of them.
 *
 * Each call looks at some, in turn, so that it takes no longer where they are many.
 */
void
tfstate_drop_stale_builtins(void)
{
	static int	next = 0;

	if (tfstate_has_pending())
		return;
	for (int left = Min(list_length(kept_builtins), LOOK_AT_KEPT); left > 0; left--)
	{
		KeptBuiltin *kept;
		LOCKTAG		tag;

		if (next >= list_length(kept_builtins))
			next = 0;
		kept = list_nth(kept_builtins, next);
		if (is_needed(kept))
		{
			next++;
			continue;
		}
		tag = tfstate_builtin_tag(kept->key);
		if (tfstate_session_is_mine(kept->session))
			(void) LockRelease(&tag, ShareLock, true);
		tfstate_forget_kept(kept);
	}
}
