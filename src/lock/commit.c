/*-------------------------------------------------------------------------
 *
 * commit.c
 *	  What the end of a transaction does with its locks.
 *
 * A lock call changes rows and takes the lock tag at transaction level, and both
 * undo themselves if the transaction rolls back.  What does not, has to outlive the
 * transaction, or must not happen before it is committed, is put on a list of
 * pending items (pending.c):
 *
 *	take		a lock in session mode was taken: other sessions see its entry in shared
 *				memory from the commit on (session_lock.c)
 *	end			such a lock has ended: other sessions see its entry until the commit
 *	promote		keep a tag for the session: the lock tag of a lock in session
 *				mode, or the share of a workspace's built-in lock in any mode
 *				(see share.c)
 *	release		return such a tag, because its lock was released
 *	wake		wake the first waiter for a durable lock that was released; the
 *				first waiter owns the lock tag
 *
 * Promotions are done before the commit, because they must not fail after it: the
 * tag is held already, so only a local counter changes.  The commit can still fail
 * after that (with a serialization failure, say), and the abort takes them back.
 * All else is done when the commit is visible to others: first the entries, then the
 * tags.  If the server dies in between, all of them are gone with it, and a waiter
 * has to connect again.
 *
 * A rollback to a savepoint removes the items that were added since, and the entries
 * of locks that were taken.
 *
 * pg_advisory_unlock_all() and DISCARD ALL release the session's tags behind our
 * back, the session tag among them.  Pending items of a session whose tag is gone
 * are skipped: its locks are lost already.
 *
 * PREPARE TRANSACTION waits for disk and standby as a commit does.  COMMIT
 * PREPARED does not come here.  It always flushes, but whether it waits for the
 * synchronous standby is up to the synchronous_commit of the session that calls
 * it.  If a failover loses it, the transaction is still prepared on the new
 * primary, and keeps others from the lock.  The lock manager wakes whoever waits
 * for the transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "nodes/pg_list.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "common/settings.h"
#include "lock/commit.h"
#include "lock/commit_internal.h"
#include "lock/flush.h"
#include "lock/holding.h"
#include "lock/pending.h"
#include "lock/reclaim.h"
#include "lock/session.h"
#include "lock/share.h"
#include "lock/tag.h"

/* Has this transaction taken a lock in session mode? */
static bool took_session_lock = false;

/*
 * How many locks this session has in the lock manager: those in session mode that
 * are committed and, as a list of the subtransactions that took them, the lock
 * tags that this transaction took besides.  To take and release one lockid again
 * and again needs only one lock tag, and a rollback to a savepoint returns those
 * that were taken after it.
 */
static int	session_locks = 0;
static List *taken = NIL;		/* of SubTransactionId, as above */

/*
 * Error if the session has too many locks: without a limit one session could use
 * up the shared lock table, and nobody could connect.
 */
void
tfstate_check_lock_count(void)
{
	if (session_locks > 0 && !tfstate_session_is_open())
		session_locks = 0;
	if (session_locks + list_length(taken) >= tfstate_max_session_locks)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many state locks in one session"),
				 errdetail("The session has %d locks in session mode and has taken %d in this transaction; tfstate.max_session_locks is %d.",
						   session_locks, list_length(taken), tfstate_max_session_locks),
				 errhint("Release some, or commit between locks in durable mode.")));
}

/*
 * Count a lock tag that this transaction took, and that the session did not have
 * before.
 */
void
tfstate_count_lock(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	taken = lappend_int(taken, (int) GetCurrentSubTransactionId());
	MemoryContextSwitchTo(old);
}

/*
 * Put an item that concerns a tag on the list; for the arguments see Pending.
 */
static void
add_tag(PendingKind kind, const LOCKTAG *tag, int64 session, KeptShare *share)
{
	Pending    *item = tfstate_add_pending(kind);

	item->tag = *tag;
	item->session = session;
	item->share = share;
}

/*
 * At commit, keep a tag that this transaction has for the session of that number.
 */
void
tfstate_promote_at_commit(const LOCKTAG *tag, int64 session)
{
	add_tag(PENDING_PROMOTE, tag, session, NULL);
	if (tfstate_is_lock_tag(tag))
		took_session_lock = true;
}

/*
 * At commit, return a tag that the session of that number has or will have.
 */
void
tfstate_release_at_commit(const LOCKTAG *tag, int64 session)
{
	add_tag(PENDING_RELEASE, tag, session, NULL);
}

/*
 * At commit, wake the owner of a lock tag, which waits for the row that this
 * transaction deletes.
 */
void
tfstate_wake_at_commit(const LOCKTAG *lock_tag)
{
	add_tag(PENDING_WAKE, lock_tag, 0, NULL);
}

/*
 * At commit, keep the share of a built-in lock that this transaction has, until
 * the holding ends.
 */
void
tfstate_keep_share_at_commit(const Holding *holding)
{
	LOCKTAG		tag = tfstate_builtin_tag(HOLDING_INT64(holding, key));
	KeptShare  *share = holding->durable ? tfstate_note_share(holding) : NULL;

	add_tag(PENDING_PROMOTE, &tag, HOLDING_INT64(holding, session), share);
}

/*
 * At commit, return the share that goes with a holding, if it is this session's.
 * (Nobody has the share of a durable lock that a prepared transaction took.)
 */
void
tfstate_return_share_at_commit(const Holding *holding)
{
	LOCKTAG		tag = tfstate_builtin_tag(HOLDING_INT64(holding, key));
	KeptShare  *share = holding->durable ? tfstate_find_share(holding) : NULL;

	if (share || (!holding->durable &&
				  tfstate_session_is_mine(HOLDING_INT64(holding, session))))
		add_tag(PENDING_RELEASE, &tag, HOLDING_INT64(holding, session), share);
}

/*
 * Return true if somebody waits for a row that this transaction deletes.
 */
static bool
is_awaited(void)
{
	ListCell   *lc;

	foreach(lc, tfstate_pending)
	{
		Pending    *item = lfirst(lc);

		if (item->kind == PENDING_WAKE && LockWaiterCount(&item->tag) > 0)
			return true;
	}
	return false;
}

/*
 * Promote what is to be promoted.
 */
static void
promote_tags(void)
{
	ListCell   *lc;

	foreach(lc, tfstate_pending)
	{
		Pending    *item = lfirst(lc);

		if (item->kind != PENDING_PROMOTE ||
			!tfstate_session_is_mine(item->session))
			continue;
		if (LockAcquire(&item->tag, tfstate_tag_mode(&item->tag), true, true) ==
			LOCKACQUIRE_NOT_AVAIL)
			elog(ERROR, "lock-manager tag to be kept is not held");
		item->promoted = true;
	}
}

static void
before_commit(void)
{
	if (took_session_lock && !tfstate_will_sync())
		tfstate_reclaim_some();
	promote_tags();
	tfstate_set_flush(is_awaited());
}

/*
 * Wake the owner of a lock tag.  Only an owner that runs a transaction is found.
 * That is the first waiter, or a session that a needless wake-up does not harm.
 *
 * After the commit nothing may fail, so nothing is allocated here.
 */
static void
wake_owner(const LOCKTAG *lock_tag)
{
	uint32		hash = LockTagHashCode(lock_tag);

	if (LockWaiterCount(lock_tag) == 0)
		return;
	LWLockAcquire(LockHashPartitionLock(hash), LW_SHARED);
	for (int i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];

		if (proc != MyProc && proc->pid != 0 &&
			compat_proc_holds(proc, lock_tag, hash, ExclusiveLock))
			SetLatch(&proc->procLatch);
	}
	LWLockRelease(LockHashPartitionLock(hash));
}

/*
 * Return a tag whose lock was released.
 */
static void
release_tag(const Pending *item)
{
	if (item->share)
		tfstate_forget_share(item->share);
	if (!tfstate_session_is_mine(item->session))
		return;
	if (tfstate_is_lock_tag(&item->tag))
		session_locks--;
	(void) LockRelease(&item->tag, tfstate_tag_mode(&item->tag), true);
}

/*
 * Show the locks that this transaction has taken, and has not ended, to other sessions.
 *
 * A lock that was taken and ended must not be seen in between.  No session but this one can
 * know it, so its entry is not protected by the end tag; and it is free already.
 */
static void
publish_entries(void)
{
	bool		ended = false;
	ListCell   *lc;

	foreach(lc, tfstate_pending)
		ended |= ((Pending *) lfirst(lc))->kind == PENDING_END;
	foreach(lc, tfstate_pending)
	{
		Pending    *item = lfirst(lc);

		if (item->kind == PENDING_TAKE && item->entry &&
			!(ended && tfstate_has_ended(item->entry)))
			tfstate_publish_session_lock(item->entry);
	}
}

/*
 * Free the entries of the locks that this transaction has ended.
 */
static void
free_entries(void)
{
	ListCell   *lc;

	foreach(lc, tfstate_pending)
	{
		Pending    *item = lfirst(lc);

		if (item->kind == PENDING_END)
			tfstate_free_session_lock(item->entry);
	}
}

static void
after_commit(void)
{
	ListCell   *lc;

	free_entries();
	publish_entries();
	foreach(lc, tfstate_pending)
	{
		Pending    *item = lfirst(lc);

		switch (item->kind)
		{
			case PENDING_TAKE:
			case PENDING_END:
				break;
			case PENDING_PROMOTE:
				if (item->promoted && tfstate_is_lock_tag(&item->tag))
					session_locks++;
				break;
			case PENDING_RELEASE:
				release_tag(item);
				break;
			case PENDING_WAKE:
				wake_owner(&item->tag);
				break;
		}
	}
}

/*
 * Take back what was done for an item: the transaction or savepoint that added it is
 * rolled back.
 */
static void
undo(Pending *item)
{
	if (item->kind == PENDING_TAKE && item->entry)
		tfstate_free_session_lock(item->entry);
	if (item->promoted)
		(void) LockRelease(&item->tag, tfstate_tag_mode(&item->tag), true);
	if (item->kind == PENDING_PROMOTE && item->share)
		tfstate_forget_share(item->share);
}

static void
after_abort(void)
{
	ListCell   *lc;

	foreach(lc, tfstate_pending)
		undo(lfirst(lc));
}

/*
 * Error if the transaction has touched a lock in session mode: a prepared
 * transaction belongs to no session, so no session would have the lock.  (Nor has
 * any session the built-in lock that goes with a durable lock: it ends with the
 * transaction.)  What a dead session has left may go at once: nobody counts it as
 * held, and a rollback loses only the record that it was there.
 */
static void
before_prepare(void)
{
	ListCell   *lc;

	foreach(lc, tfstate_pending)
	{
		Pending    *item = lfirst(lc);

		if (item->kind == PENDING_TAKE ||
			(item->kind == PENDING_END && tfstate_session_is_alive(item->session)))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot PREPARE a transaction that has taken or released a state lock in session mode")));
	}
	if (tfstate_will_sync())
		tfstate_raise_synchronous_commit();
}

static void
forget_transaction(void)
{
	tfstate_reset_flush();
	tfstate_pending = NIL;
	took_session_lock = false;
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
			tfstate_flush_postponed();
			forget_transaction();
			break;
		case XACT_EVENT_PREPARE:
			free_entries();
			after_abort();
			forget_transaction();
			break;
		case XACT_EVENT_ABORT:
			after_abort();
			forget_transaction();
			break;
		default:
			break;
	}
}

/*
 * What a subtransaction has added becomes its parent's, or is undone.
 */
static void
subxact_callback(SubXactEvent event, SubTransactionId subxact,
				 SubTransactionId parent, void *arg)
{
	ListCell   *lc;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	foreach(lc, tfstate_pending)
	{
		Pending    *item = lfirst(lc);

		if (item->subxact != subxact)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
		{
			item->subxact = parent;
			continue;
		}
		undo(item);
		tfstate_pending = foreach_delete_current(tfstate_pending, lc);
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

/*
 * Have the server call us at the end of each transaction.  To be called once in
 * a session.
 */
void
tfstate_init_commit(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}
