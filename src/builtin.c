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
 * gives it back when it takes its next lock, or ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "tfstate.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* The share of a durable lock of this session. */
typedef struct KeptBuiltin
{
	char	   *lockid;
	char	   *id;
	int64		key;
} KeptBuiltin;

static List *kept_builtins = NIL;	/* in TopMemoryContext */

/*
 * Keep the share, which this transaction has, until the holding ends.
 */
void
tfstate_keep_builtin(const Holding *holding)
{
	LOCKTAG		tag = tfstate_builtin_tag(HOLDING_INT64(holding, key));
	MemoryContext old;
	KeptBuiltin *kept;

	tfstate_promote_at_commit(&tag, HOLDING_INT64(holding, session));
	if (!holding->durable)
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	kept = palloc(sizeof(KeptBuiltin));
	kept->lockid = HOLDING_TEXT(holding, lockid);
	kept->id = HOLDING_TEXT(holding, id);
	kept->key = HOLDING_INT64(holding, key);
	kept_builtins = lappend(kept_builtins, kept);
	MemoryContextSwitchTo(old);
}

static void
forget_kept(KeptBuiltin *kept)
{
	pfree(kept->lockid);
	pfree(kept->id);
	pfree(kept);
}

/*
 * The transaction or savepoint that was to keep a share is rolled back.
 */
void
tfstate_unkeep_builtin(const LOCKTAG *tag)
{
	ListCell   *lc;

	foreach(lc, kept_builtins)
	{
		KeptBuiltin *kept = lfirst(lc);
		LOCKTAG		other = tfstate_builtin_tag(kept->key);

		if (memcmp(&other, tag, sizeof(LOCKTAG)) != 0)
			continue;
		kept_builtins = foreach_delete_current(kept_builtins, lc);
		forget_kept(kept);
	}
}

/*
 * Give the share back, at the commit of the release, if it is this session's.
 */
void
tfstate_return_builtin(const Holding *holding)
{
	LOCKTAG		tag = tfstate_builtin_tag(HOLDING_INT64(holding, key));
	ListCell   *lc;

	if (!tfstate_session_is_mine(HOLDING_INT64(holding, session)))
		return;
	tfstate_release_at_commit(&tag, HOLDING_INT64(holding, session));
	foreach(lc, kept_builtins)
	{
		KeptBuiltin *kept = lfirst(lc);

		if (strcmp(kept->lockid, HOLDING_TEXT(holding, lockid)) != 0)
			continue;
		kept_builtins = foreach_delete_current(kept_builtins, lc);
		forget_kept(kept);
	}
}

/*
 * Give back what this session has kept of durable locks that have ended.
 */
void
tfstate_drop_stale_builtins(void)
{
	ListCell   *lc;

	foreach(lc, kept_builtins)
	{
		KeptBuiltin *kept = lfirst(lc);
		LOCKTAG		tag = tfstate_builtin_tag(kept->key);
		Holding		holding;

		if (tfstate_current_holding(kept->lockid, &holding) &&
			strcmp(HOLDING_TEXT(&holding, id), kept->id) == 0)
			continue;
		if (compat_lock_held_by_me(&tag, ShareLock))
			(void) LockRelease(&tag, ShareLock, true);
		kept_builtins = foreach_delete_current(kept_builtins, lc);
		forget_kept(kept);
	}
}
