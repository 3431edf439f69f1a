/*-------------------------------------------------------------------------
 *
 * commit.c
 *	  What happens at the end of a transaction.
 *
 * A lock call changes rows and takes K at transaction level, and both undo
 * themselves if the transaction rolls back.  What has to outlive the
 * transaction, or must not happen before it is committed, is put on a list:
 *
 * 	promote		a tag is kept for the session: K of a lock in session mode, and
 * 				the built-in lock of a workspace in any mode
 * 	release		the unlock gives it back
 * 	wake		an unlock in durable mode wakes the one who waits with K
 *
 * Promotions are done before the commit, because they must not fail after it:
 * the tag is held already, so only a local counter changes.  A commit can still
 * fail then (a serialization failure, say), and the abort takes them back.
 * Releases and wake-ups are done when the commit is visible to others.  If the
 * server dies in between, all tags are gone with it, and who waited has to
 * connect again.
 *
 * An unlock that somebody waits for is handed over before it is on disk: it
 * commits as with synchronous_commit = off, wakes the waiter, and only then waits
 * for disk and standby, which it has done before it returns.  Nobody can be misled
 * by that.  The waiter's own commit flushes ours with it before a durable lock is
 * told.  If the server dies before, a waiter in session mode has lost his lock
 * with it, and who unlocked was not told that he had.  But whatever else the
 * transaction wrote would be seen before it is safe, so this is done only where
 * releases are all that it wrote to WAL.
 *
 * pg_advisory_unlock_all() and DISCARD ALL release the session's tags behind our
 * back, its S among them.  What was to be promoted or released for a session
 * number whose S is gone is left alone: the lock is lost already.
 *
 * A savepoint's share of the list goes with the savepoint.
 *
 * PREPARE TRANSACTION waits for disk and standby as a commit does.  COMMIT
 * PREPARED does not come here: it always flushes, but whether it waits for the
 * synchronous standby is up to synchronous_commit of who calls it.  What a failover
 * loses of it is prepared there again, and keeps others from the lock.  Who waits
 * for the transaction is woken by its end in the lock manager.
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

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "common/settings.h"
#include "lock/commit.h"
#include "lock/commit_internal.h"
#include "lock/fence.h"
#include "lock/holding.h"
#include "lock/lookup.h"
#include "lock/reclaim.h"
#include "lock/session.h"
#include "lock/tag.h"

typedef enum PendingKind
{
	PENDING_PROMOTE,
	PENDING_RELEASE,
	PENDING_WAKE
} PendingKind;

/* The share of a durable lock that this session took. */
typedef struct KeptBuiltin
{
	char	   *lockid;
	int64		fence;
	int64		key;
	int64		session;		/* that the share is kept for */
} KeptBuiltin;

typedef struct Pending
{
	PendingKind kind;
	LOCKTAG		tag;
	int64		session;		/* for tags that the session keeps */
	KeptBuiltin *kept;			/* for the share of a durable lock */
	SubTransactionId subxact;	/* that asked for it */
	bool		done;			/* promoted, and to be undone by an abort */
} Pending;

static List *pending = NIL;		/* in TopTransactionContext */
static bool sync_at_commit = false;

/*
 * Has this transaction written nothing to WAL but releases, up to their last end?
 */
static bool wrote_only_releases = true;
static XLogRecPtr releases_end = InvalidXLogRecPtr;

/* The table of session locks, if this transaction has taken one. */
static Oid	session_table = InvalidOid;

/* The synchronous_commit of a commit whose flush is postponed, else off. */
static int	postponed_commit = SYNCHRONOUS_COMMIT_OFF;

/*
 * What this session has in the lock manager: how many locks in session mode that are
 * committed, and for each K that this transaction took besides, which subtransaction
 * did.  To take and release one lockid again and again needs but one K, and a rollback
 * to a savepoint gives back those that were taken after it.
 */
static int	session_locks = 0;
static List *taken = NIL;		/* of SubTransactionId, in TopTransactionContext */

static void
add_pending(PendingKind kind, const LOCKTAG *tag, int64 session, KeptBuiltin *kept)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Pending    *item = palloc0(sizeof(Pending));

	item->kind = kind;
	item->tag = *tag;
	item->session = session;
	item->kept = kept;
	item->subxact = GetCurrentSubTransactionId();
	pending = lappend(pending, item);
	MemoryContextSwitchTo(old);
}

/*
 * Keep a tag, which this transaction has, for the session of that number.
 */
void
tfstate_promote_at_commit(const LOCKTAG *tag, int64 session)
{
	add_pending(PENDING_PROMOTE, tag, session, NULL);
	if (tfstate_is_lock_tag(tag))
		session_table = tfstate_catalog()->session;
}

/*
 * Give a tag back, which the session of that number has or will have.
 */
void
tfstate_release_at_commit(const LOCKTAG *tag, int64 session)
{
	add_pending(PENDING_RELEASE, tag, session, NULL);
}

/* Wake who has K and waits for the row that this transaction deletes. */
void
tfstate_wake_at_commit(const LOCKTAG *tag)
{
	add_pending(PENDING_WAKE, tag, 0, NULL);
}

/*
 * Have the commit wait until it is on disk, and on the synchronous standby,
 * whatever synchronous_commit says.
 */
void
tfstate_sync_at_commit(void)
{
	sync_at_commit = true;
}

/* How many of the shares that a session has kept are looked at with each lock. */
#define LOOK_AT_KEPT	16

/*
 * In TopMemoryContext.  A transaction that takes or releases such a lock has it
 * on the list of what its end has to do as well.
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
	add_pending(PENDING_PROMOTE, &tag, HOLDING_INT64(holding, session), kept);
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
static void
forget_kept(KeptBuiltin *kept)
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
		add_pending(PENDING_RELEASE, &tag, HOLDING_INT64(holding, session), kept);
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

	if (pending != NIL)
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
		forget_kept(kept);
	}
}

/*
 * To be called before and after a holding is released: what is written to WAL in
 * between is the release.  Before a transaction has an ID it can have written
 * nothing that counts, only have pruned pages that it read.
 */
void
tfstate_begin_release(void)
{
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
		XactLastRecEnd != releases_end)
		wrote_only_releases = false;
}

void
tfstate_end_release(void)
{
	releases_end = XactLastRecEnd;
}

/*
 * Error if the session has too many locks: without a limit one session could
 * use up the shared lock table, and nobody could connect.
 */
void
tfstate_check_lock_count(void)
{
	if (!tfstate_session_is_open())
		session_locks = 0;
	if (session_locks + list_length(taken) >= tfstate_max_session_locks)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many state locks in one session"),
				 errdetail("The session has %d locks in session mode and has taken %d in this transaction; tfstate.max_session_locks is %d.",
						   session_locks, list_length(taken), tfstate_max_session_locks),
				 errhint("Release some, or commit between locks in durable mode.")));
}

/* Count a K that this transaction took, and that the session did not have before. */
void
tfstate_count_lock(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	taken = lappend_int(taken, (int) GetCurrentSubTransactionId());
	MemoryContextSwitchTo(old);
}

/* Does somebody wait for a row that this transaction deletes? */
static bool
is_awaited(void)
{
	ListCell   *lc;

	foreach(lc, pending)
	{
		Pending    *item = lfirst(lc);

		if (item->kind == PENDING_WAKE && LockWaiterCount(&item->tag) > 0)
			return true;
	}
	return false;
}

/*
 * Have the commit not wait for disk and standby, if that can be done after the
 * hand-over.
 *
 * The setting itself stays as it is, and with it what SyncRepWaitForLSN() waits for.
 */
static void
postpone_flush(void)
{
	if (!wrote_only_releases || XactLastRecEnd != releases_end || !is_awaited())
		return;
	postponed_commit = synchronous_commit;
	synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
}

/* Undo what postpone_flush() did. */
static void
restore_synchronous_commit(void)
{
	if (postponed_commit != SYNCHRONOUS_COMMIT_OFF)
		synchronous_commit = postponed_commit;
	postponed_commit = SYNCHRONOUS_COMMIT_OFF;
}

/*
 * Wait for disk and standby, as the commit would have done.
 */
static void
flush_postponed(void)
{
	if (postponed_commit == SYNCHRONOUS_COMMIT_OFF)
		return;
	restore_synchronous_commit();
	START_CRIT_SECTION();
	XLogFlush(XactLastCommitEnd);
	END_CRIT_SECTION();
	SyncRepWaitForLSN(XactLastCommitEnd, true);
}

static void
before_commit(void)
{
	ListCell   *lc;

	/* The transaction may have dropped the extension. */
	if (OidIsValid(session_table) && !sync_at_commit &&
		SearchSysCacheExists1(RELOID, ObjectIdGetDatum(session_table)))
		tfstate_reclaim_some();
	foreach(lc, pending)
	{
		Pending    *item = lfirst(lc);

		if (item->kind != PENDING_PROMOTE ||
			!tfstate_session_is_mine(item->session))
			continue;
		if (LockAcquire(&item->tag, tfstate_tag_mode(&item->tag), true, true) ==
			LOCKACQUIRE_NOT_AVAIL)
			elog(ERROR, "lock-manager tag to be kept is not held");
		item->done = true;
	}
	if (sync_at_commit)
	{
		tfstate_raise_synchronous_commit();
		ForceSyncCommit();
	}
	else
		postpone_flush();
}

/*
 * Wake who has the tag: only somebody who runs a transaction can, and it is the
 * waiter, or somebody whom a needless wake-up does no harm.
 *
 * After the commit nothing may fail, so nothing is allocated here.
 */
static void
wake_owner(const LOCKTAG *tag)
{
	uint32		hash = LockTagHashCode(tag);

	if (LockWaiterCount(tag) == 0)
		return;
	LWLockAcquire(LockHashPartitionLock(hash), LW_SHARED);
	for (int i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];

		if (proc != MyProc && proc->pid != 0 &&
			compat_proc_holds(proc, tag, hash, ExclusiveLock))
			SetLatch(&proc->procLatch);
	}
	LWLockRelease(LockHashPartitionLock(hash));
}

static void
after_commit(void)
{
	ListCell   *lc;

	foreach(lc, pending)
	{
		Pending    *item = lfirst(lc);

		switch (item->kind)
		{
			case PENDING_PROMOTE:
				if (item->done && tfstate_is_lock_tag(&item->tag))
					session_locks++;
				break;
			case PENDING_RELEASE:
				if (item->kept)
					forget_kept(item->kept);
				if (!tfstate_session_is_mine(item->session))
					break;
				if (tfstate_is_lock_tag(&item->tag))
					session_locks--;
				(void) LockRelease(&item->tag, tfstate_tag_mode(&item->tag), true);
				break;
			case PENDING_WAKE:
				wake_owner(&item->tag);
				break;
		}
	}
}

/* The transaction or savepoint that was to promote a tag will not do so. */
static void
not_promoted(Pending *item)
{
	if (item->done)
		(void) LockRelease(&item->tag, tfstate_tag_mode(&item->tag), true);
	if (item->kind == PENDING_PROMOTE && item->kept)
		forget_kept(item->kept);
}

static void
after_abort(void)
{
	ListCell   *lc;

	foreach(lc, pending)
		not_promoted(lfirst(lc));
}

/*
 * PREPARE TRANSACTION hands the transaction over to nobody in particular, and
 * then no session would have a lock in session mode.  (Nor has one the built-in
 * lock that goes along with a durable lock: that ends with the transaction.)
 */
static void
before_prepare(void)
{
	ListCell   *lc;

	foreach(lc, pending)
	{
		Pending    *item = lfirst(lc);

		if (item->kind != PENDING_WAKE && tfstate_is_lock_tag(&item->tag))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot PREPARE a transaction that has taken or released a state lock in session mode")));
	}
	if (sync_at_commit)
		tfstate_raise_synchronous_commit();
}

static void
forget_transaction(void)
{
	restore_synchronous_commit();
	pending = NIL;
	session_table = InvalidOid;
	sync_at_commit = false;
	wrote_only_releases = true;
	releases_end = InvalidXLogRecPtr;
	taken = NIL;
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			before_commit();
			break;
		case XACT_EVENT_PRE_PREPARE:
			before_prepare();
			break;
		case XACT_EVENT_COMMIT:
			after_commit();
			flush_postponed();
			forget_transaction();
			break;
		case XACT_EVENT_ABORT:
			after_abort();
			forget_transaction();
			break;
		case XACT_EVENT_PREPARE:
			after_abort();
			forget_transaction();
			break;
		default:
			break;
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId subxact,
				 SubTransactionId parent, void *arg)
{
	ListCell   *lc;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	foreach(lc, pending)
	{
		Pending    *item = lfirst(lc);

		if (item->subxact != subxact)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
		{
			item->subxact = parent;
			continue;
		}
		not_promoted(item);
		pending = foreach_delete_current(pending, lc);
	}
	foreach(lc, taken)
	{
		if ((SubTransactionId) lfirst_int(lc) != subxact)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			lfirst_int(lc) = (int) parent;
		else
			taken = foreach_delete_current(taken, lc);
	}
}

/* Have the server call us.  Once a session. */
void
tfstate_init_commit(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}
