/*-------------------------------------------------------------------------
 *
 * acquire.c
 *	  Taking and renewing locks.
 *
 * To take a lock:
 *
 *	1. Take the lock tag of the lockid, at transaction level.  A try gives up if
 *	   another session has it: that session is taking the lock, is the first
 *	   waiter, or holds the lock in session mode.  (A session that keeps retrying
 *	   is turned away before this step as long as the row it found is unchanged.)
 *	2. Look for a row of the lockid in the table of durable locks, and for an
 *	   entry in shared memory, which is called a row here, too (session_lock.c).
 *	   A durable row says that the lock is held, unless its lease has expired.  A
 *	   session row of another session was left by a dead one, because a living
 *	   one would have the lock tag.  While the lock is held, a waiter sleeps and
 *	   keeps the lock tag; a try returns it.
 *	3. Delete a row that has expired or was left behind, and record that.
 *	4. If the lockid is a workspace's, take a share of the built-in advisory lock
 *	   that a Terraform without tfstate takes (share.c).
 *	5. Insert the row, with a new fence.  Error if the lockid is frozen (freeze.c).
 *	6. At commit, which is flushed for a durable lock, the lock tag goes with the
 *	   transaction or, in session mode, is kept for the session.  The share of the
 *	   built-in lock is always kept (commit.c).
 *
 * A rollback or a crash anywhere before the commit leaves nothing: the row is
 * not there, and the tags go with the transaction.  From step 1 to the commit no
 * other session gets past step 1.  A crash after the commit leaves the durable
 * row, which is the lock; a session row is gone with the server, and that of a
 * session that is gone fails the test in step 2.
 *
 * Step 3 never waits for another transaction: a row that is being changed counts
 * as held.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "common/counters.h"
#include "common/limits.h"
#include "common/text.h"
#include "lock/acquire.h"
#include "lock/commit.h"
#include "lock/commit_internal.h"
#include "lock/conflict.h"
#include "lock/fence.h"
#include "lock/flush.h"
#include "lock/freeze.h"
#include "lock/history.h"
#include "lock/holding.h"
#include "lock/holding_internal.h"
#include "lock/inner.h"
#include "lock/lookup.h"
#include "lock/new_holding.h"
#include "lock/owner.h"
#include "lock/pending.h"
#include "lock/report.h"
#include "lock/session.h"
#include "lock/share.h"
#include "lock/tag.h"
#include "lock/wait.h"

/* What the owner of the lock tag finds. */
typedef enum LockStatus
{
	LOCK_FREE,					/* nobody holds the lock */
	LOCK_ADOPTED,				/* our run held it, and this session goes on */
	LOCK_HELD					/* the conflict tells by whom */
} LockStatus;

/* One call of tfstate_acquire(). */
typedef struct Attempt
{
	const LockRequest *request;
	LOCKTAG		lock_tag;		/* of the lockid */
	bool		had_tag;		/* did this session have it before the call? */
	WaitLimit	limit;
	LockConflict *conflict;		/* filled in whenever the lock is held */
	bool		ending;			/* is a transaction ending the holding? */
	Holding    *prepared;		/* the new row, filled in before a wait */
} Attempt;

/*
 * With the lock tag, return how a holding has ended whose row is still there (one
 * of the HOW_ words), or NULL if it has not ended.
 *
 * had_tag says that this session had the tag before the call.  Then a session row
 * of its own is a lock that it holds, and not one that a dead session left.
 */
static const char *
how_ended(const Holding *holder, bool had_tag)
{
	if (tfstate_holding_expired(holder))
		return HOW_EXPIRED;
	if (tfstate_holding_is_tied(holder))
	{
		if (tfstate_holding_is_live(holder))
			return NULL;
		/* if only the creation key is gone, that was unlocked */
		return tfstate_session_is_alive(HOLDING_INT64(holder, session)) ?
			HOW_UNLOCK : HOW_RECLAIMED;
	}
	if (!holder->durable &&
		!(had_tag && tfstate_session_is_mine(HOLDING_INT64(holder, session))))
		return HOW_RECLAIMED;
	return NULL;
}

/*
 * Delete the row of a holding that has ended, and record how.  Return TM_Ok if that was done.
 */
static TM_Result
end_holding(Holding *holder, const char *how)
{
	TM_Result	result;

	PushActiveSnapshot(GetLatestSnapshot());
	result = tfstate_delete_holding(holder, false);
	if (result == TM_Ok)
	{
		tfstate_record_release(holder, how, NULL);
		tfstate_end_inner(holder);
	}
	PopActiveSnapshot();
	return result;
}

/*
 * With the lock tag, delete the rows that ended holdings have left, and record
 * how they ended.  Return true if the lock is held; the conflict then has the
 * holder's row.
 *
 * A row that an open transaction is about to change counts as held, because that
 * transaction may still roll back.
 */
static bool
delete_ended_holdings(Attempt *attempt)
{
	const LockRequest *request = attempt->request;
	LockConflict *conflict = attempt->conflict;
	Holding    *holder = &conflict->holder;
	TM_Result	result = TM_Ok;
	const char *how;

	while (result != TM_BeingModified &&
		   (conflict->known = tfstate_find_row(request->lockid, request->wait == 0, holder,
											   &conflict->newest_fence)) &&
		   (how = how_ended(holder, attempt->had_tag)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		result = end_holding(holder, how);
	}
	attempt->ending = conflict->known && result == TM_BeingModified;
	conflict->own = conflict->known &&
		tfstate_session_is_mine(HOLDING_INT64(holder, session));
	return conflict->known;
}

/*
 * If the holder is a durable lock of the run that asks, and the run's earlier
 * session is gone, put this session in its place: the holding goes on.  Return
 * true if that was done.
 */
static bool
adopt_holding(const LockRequest *request, Holding *holder)
{
	char	   *run_id = HOLDING_NULL(holder, run_id) ? NULL : HOLDING_TEXT(holder, run_id);
	Holding		ours = *holder;
	bool		updated;

	if (request->run_id == NULL || run_id == NULL || !holder->durable ||
		strcmp(run_id, request->run_id) != 0 ||
		tfstate_session_is_alive(HOLDING_INT64(holder, session)) ||
		!tfstate_acts_for_holder(holder))
		return false;
	tfstate_set_holder(request, &ours);
	PushActiveSnapshot(GetLatestSnapshot());
	updated = tfstate_update_holding(&ours, false);
	PopActiveSnapshot();
	if (!updated)
		return false;
	*holder = ours;
	tfstate_sync_at_commit();
	return true;
}

/*
 * With the lock tag, find out whether the lock is free, after ended holdings have
 * been deleted and one of our run has been adopted.
 *
 * To write a row that could be toasted takes a snapshot.  In the transaction in
 * which CALL tfstate_wait_lock() waits, there is none besides.
 */
static LockStatus
inspect_lock(Attempt *attempt)
{
	if (!delete_ended_holdings(attempt))
		return LOCK_FREE;
	return adopt_holding(attempt->request, &attempt->conflict->holder) ? LOCK_ADOPTED : LOCK_HELD;
}

/*
 * Return true if waiting for this holder is pointless: the session would wait for
 * itself.  In session mode it always would, and in durable mode if the wait is
 * endless.  A bounded wait is allowed there, because behind a pooler somebody else
 * may have the session's lock, and release it through another session.
 */
static bool
is_wait_pointless(const LockConflict *conflict, const WaitLimit *limit)
{
	return conflict->own && (!conflict->holder.durable || tfstate_wait_is_endless(limit));
}

/*
 * Error if the extension has been dropped since the lock tag was computed: while we
 * waited, for the lock or for a table of the extension.  If it was created again it
 * has other tags, and ours excludes nobody from its locks.
 */
static void
check_still_installed(const Attempt *attempt)
{
	const char *lockid = attempt->request->lockid;
	LOCKTAG		now = tfstate_lock_tag(lockid);

	if (memcmp(&now, &attempt->lock_tag, sizeof(LOCKTAG)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"%s\" was dropped and created again during the wait for state lock \"%s\"",
						"tfstate", tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
				 errhint("Ask for the lock again.")));
}

/*
 * Before the first wait of a call, fill in the new row, so that less is to be done when the
 * lock is handed over.  And tell the client that it is about to wait for the holder in the
 * conflict.  position is its place in the queue, from 1.
 */
static void
begin_wait(Attempt *attempt, int position)
{
	if (attempt->prepared)
		return;
	attempt->prepared = palloc(sizeof(Holding));
	tfstate_fill_holding(attempt->request, NULL, attempt->prepared);
	if (message_level_is_interesting(NOTICE))
		tfstate_announce_wait(attempt->request->lockid, attempt->conflict, position);
}

/*
 * With the lock tag, wait until the row in the conflict may have changed.
 */
static void
wait_for_holder(const Attempt *attempt)
{
	const Holding *holder = &attempt->conflict->holder;
	TimestampTz expires_at = DT_NOEND;

	if (!holder->durable && attempt->ending)
	{
		LOCKTAG		end_tag = tfstate_end_tag(HOLDING_INT64(holder, fence));

		if (tfstate_wait_tag_as_first(&attempt->lock_tag, &end_tag, &attempt->limit))
			tfstate_release_tag(&end_tag);
		return;
	}
	if (!HOLDING_NULL(holder, expires_at) && !tfstate_holding_expired(holder))
		expires_at = DatumGetTimestampTz(HOLDING_DATUM(holder, expires_at));
	tfstate_wait_as_first(&attempt->lock_tag, holder->changing, expires_at,
						  &attempt->limit);
}

/*
 * With the lock tag, wait until no row says that the lock is held.  Return
 * LOCK_HELD if that does not happen in time.
 *
 * What each look allocates is freed before the next one: there can be very many.
 */
static LockStatus
wait_for_row(Attempt *attempt)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext round = NULL;

	for (;;)
	{
		LockStatus	status;

		if (round)
		{
			check_still_installed(attempt);
			MemoryContextReset(round);
			MemoryContextSwitchTo(round);
		}
		ResetLatch(MyLatch);
		status = inspect_lock(attempt);
		if (status != LOCK_ADOPTED)
			tfstate_check_frozen(attempt->request->lockid, false);
		MemoryContextSwitchTo(caller);
		if (status != LOCK_HELD || attempt->request->wait == 0 ||
			tfstate_wait_is_over(&attempt->limit) ||
			is_wait_pointless(attempt->conflict, &attempt->limit))
			return status;
		if (round == NULL)
			round = AllocSetContextCreate(caller, "tfstate wait", ALLOCSET_SMALL_SIZES);
		begin_wait(attempt, 1);
		wait_for_holder(attempt);
	}
}

/*
 * With the lock tag, take the share of the built-in lock.  Return false, with the
 * conflict, if it is not to be had in time.
 */
static bool
take_share(Attempt *attempt)
{
	LOCKTAG		builtin = tfstate_builtin_tag(attempt->request->key);

	if (tfstate_try_tag(&builtin))
		return true;
	attempt->conflict->known = false;
	attempt->conflict->tag = builtin;
	if (attempt->request->wait == 0)
		return false;
	begin_wait(attempt, 1);
	return tfstate_wait_tag_as_first(&attempt->lock_tag, &builtin, &attempt->limit);
}

/*
 * With the lock tag, wait until the lock is free or adopted, and take the share of
 * the built-in lock if one goes with it.  Return LOCK_HELD if that does not happen
 * in time.
 */
static LockStatus
wait_until_free(Attempt *attempt)
{
	LockStatus	status = wait_for_row(attempt);

	if (status != LOCK_HELD && attempt->request->has_key && !take_share(attempt))
		return LOCK_HELD;
	return status;
}

/*
 * Insert the row of a lock whose tags we have, and arrange for what its commit has
 * to do.
 */
static void
insert_holding(const Attempt *attempt, Holding *holding)
{
	const LockRequest *request = attempt->request;

	tfstate_fill_holding(request, attempt->prepared, holding);
	HOLDING_DATUM(holding, session) = Int64GetDatum(tfstate_session_open());
	HOLDING_DATUM(holding, fence) =
		Int64GetDatum(tfstate_next_fence(request->lockid, attempt->conflict->newest_fence));
	if (request->durable)
		PushActiveSnapshot(GetLatestSnapshot());
	tfstate_insert_holding(holding);
	if (request->durable)
		PopActiveSnapshot();
	tfstate_check_frozen(request->lockid, true);
	tfstate_report_lock(holding);
	if (request->durable)
		tfstate_sync_at_commit();
	else if (!request->tied)
		tfstate_promote_at_commit(&attempt->lock_tag, HOLDING_INT64(holding, session));
}

/*
 * Without the lock tag, fill in the conflict from the holder's row, if one was
 * found and has not expired; then return true.  Otherwise the conflict is with
 * the owner of the lock tag.
 */
static bool
set_conflict(Attempt *attempt, bool found)
{
	LockConflict *conflict = attempt->conflict;

	conflict->known = found && !tfstate_holding_expired(&conflict->holder);
	conflict->own = conflict->known &&
		tfstate_session_is_mine(HOLDING_INT64(&conflict->holder, session));
	conflict->tag = attempt->lock_tag;
	return conflict->known;
}

/*
 * Without the lock tag, find out who has the lock now.
 */
static void
find_conflict(Attempt *attempt)
{
	(void) set_conflict(attempt,
						tfstate_current_holding(attempt->request->lockid,
												&attempt->conflict->holder));
}

/*
 * For a try without the lock tag, return true, with the conflict, if the lock is
 * still held as this session saw it last: then the tag would not help.  A run that
 * could adopt the lock needs the tag.
 */
static bool
is_unchanged(Attempt *attempt)
{
	const LockRequest *request = attempt->request;

	return request->wait == 0 && request->run_id == NULL &&
		set_conflict(attempt,
					 tfstate_current_holding_again(request->lockid,
												   &attempt->conflict->holder));
}

/*
 * Take the lock tag.  Return false, with the conflict, if it is not to be had in
 * time.
 */
static bool
take_lock_tag(Attempt *attempt)
{
	const LOCKTAG *lock_tag = &attempt->lock_tag;
	LockConflict *conflict = attempt->conflict;

	if (tfstate_try_tag(lock_tag))
		return true;
	find_conflict(attempt);
	if (attempt->request->wait == 0)
		return false;

	/*
	 * The count includes the tag's owner.  That is the first waiter if the
	 * lock is durable, else the holder or a session that is taking the lock.
	 */
	begin_wait(attempt,
			   LockWaiterCount(lock_tag) + (conflict->known && conflict->holder.durable));
	if (tfstate_wait_tag(lock_tag, &attempt->limit))
		return true;
	find_conflict(attempt);
	return false;
}

/*
 * Take a lock.  Returns true with the new holding, or false with the conflict if
 * the lock is not to be had within request->wait.
 *
 * The caller has checked the privilege, and that the transaction may write.
 * Errors: too many locks, an invalid info, a freeze, and whatever interrupts a wait.
 */
bool
tfstate_acquire(const LockRequest *request, Holding *holding,
				LockConflict *conflict)
{
	Attempt		attempt;
	LockStatus	status;

	attempt.request = request;
	attempt.lock_tag = tfstate_lock_tag(request->lockid);
	attempt.had_tag = compat_lock_held_by_me(&attempt.lock_tag, ExclusiveLock);
	attempt.conflict = conflict;
	attempt.prepared = NULL;

	if (!attempt.had_tag)
		tfstate_check_lock_count();
	if (!tfstate_has_pending())
		tfstate_drop_stale_shares();
	/* a run that has a name may go on with a lock that it had before */
	if (request->run_id == NULL)
		tfstate_check_frozen(request->lockid, false);
	tfstate_start_wait(&attempt.limit, request->wait);
	attempt.limit.ends_with_session = !request->durable;
	if (is_unchanged(&attempt) || !take_lock_tag(&attempt))
	{
		tfstate_count_at_once(COUNT_CONFLICTS);
		return false;
	}
	status = wait_until_free(&attempt);
	if (status == LOCK_HELD)
	{
		tfstate_release_tag(&attempt.lock_tag);
		tfstate_count_at_once(COUNT_CONFLICTS);
		return false;
	}
	if (!attempt.had_tag)
		tfstate_count_lock();
	if (status == LOCK_ADOPTED)
		*holding = conflict->holder;
	else
		insert_holding(&attempt, holding);
	/* from here on the row keeps the extension from being dropped */
	check_still_installed(&attempt);
	if (request->has_key && !request->tied)
		tfstate_keep_share_at_commit(holding);
	return true;
}

/*
 * Extend a lease by ttl, or by its own ttl if that is NULL.  Returns false if its
 * row has been changed or deleted since it was read.
 *
 * The new time counts from the moment in which the row is locked, because we may
 * have to wait for that.
 */
bool
tfstate_renew_lease(Holding *holding, Interval *ttl)
{
	if (!tfstate_lock_holding(holding))
		return false;
	tfstate_set_expiry(holding, ttl ? ttl : DatumGetIntervalP(HOLDING_DATUM(holding, ttl)));
	tfstate_sync_at_commit();
	return tfstate_update_holding(holding, true);
}
