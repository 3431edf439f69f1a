/*-------------------------------------------------------------------------
 *
 * acquire.c
 *	  Taking and renewing locks.
 *
 * To take a lock:
 *
 * 	1. Take the lock tag of the lockid, at transaction level.  A try gives up if another
 * 	   session has it: that one is taking the lock, waits for it first in line, or
 * 	   holds it in session mode.  (A session that keeps retrying is turned away before
 * 	   this step as long as the row it found is unchanged.)
 * 	2. Look for a row of the lockid in both tables.  A durable row says that the
 * 	   lock is held, unless its lease has expired.  A session row of another
 * 	   session was left by a dead one, for its lock tag would not have been free.
 * 	   While the lock is held, a waiter sleeps with the lock tag in hand; a try gives
 * 	   the tag up.
 * 	3. Delete what is expired or left behind, and record that.
 * 	4. Where the lockid is a workspace's, take a share of the built-in advisory
 * 	   lock that a Terraform without tfstate takes (share.c).
 * 	5. Insert the row, with a new fence.
 * 	6. At commit, which a durable lock flushes, the lock tag goes with the transaction
 * 	   or, in session mode, is kept for the session, as the built-in lock always is.
 *
 * A rollback or a crash anywhere before the commit leaves nothing: the row is
 * not there, and the tags go with the transaction.  From step 1 to the commit
 * no other session gets past step 1.  A crash after it leaves the durable row, which
 * is the lock; a session row is gone with the crash (its table is unlogged) or
 * fails the test in step 2.
 *
 * Step 3 never waits for another transaction: it takes a row that is being changed for
 * held.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "common/limits.h"
#include "common/settings.h"
#include "common/text.h"
#include "lock/acquire.h"
#include "lock/backend.h"
#include "lock/commit.h"
#include "lock/commit_internal.h"
#include "lock/conflict.h"
#include "lock/fence.h"
#include "lock/flush.h"
#include "lock/history.h"
#include "lock/holding.h"
#include "lock/holding_internal.h"
#include "lock/info.h"
#include "lock/lookup.h"
#include "lock/owner.h"
#include "lock/session.h"
#include "lock/share.h"
#include "lock/tag.h"
#include "lock/wait.h"

static void
set_value(Holding *holding, int column, Datum value)
{
	holding->values[column - 1] = value;
	holding->nulls[column - 1] = false;
}

static void
set_text(Holding *holding, int column, const char *text)
{
	holding->nulls[column - 1] = (text == NULL || *text == '\0');
	if (!holding->nulls[column - 1])
		set_value(holding, column, CStringGetTextDatum(text));
}

/*
 * Put this session down as the one that has a holding.
 */
static void
set_session(Holding *holding)
{
	const char *addr = tfstate_client_addr();

	set_value(holding, Anum_lock_session, Int64GetDatum(tfstate_session_open()));
	set_value(holding, Anum_lock_pid, Int32GetDatum(MyProcPid));
	set_value(holding, Anum_lock_role, ObjectIdGetDatum(GetUserId()));
	set_text(holding, Anum_lock_role_name, tfstate_valid_text(GetUserNameFromId(GetUserId(), false)));
	set_text(holding, Anum_lock_login_role,
			 tfstate_valid_text(GetUserNameFromId(GetSessionUserId(), false)));
	set_text(holding, Anum_lock_application_name, application_name);
	holding->nulls[Anum_lock_client_addr - 1] = (addr == NULL);
	if (addr)
		set_value(holding, Anum_lock_client_addr,
				  DirectFunctionCall1(inet_in, CStringGetDatum(addr)));
}

/*
 * Put down what Terraform knows the lock by.
 */
static void
set_keys(Holding *holding, const LockRequest *request)
{
	if (request->has_key && !request->tied)
		set_value(holding, Anum_lock_key, Int64GetDatum(request->key));
	holding->nulls[Anum_lock_unlock_key - 1] = (request->unlock_key == 0);
	if (request->unlock_key != 0)
		set_value(holding, Anum_lock_unlock_key, Int64GetDatum(request->unlock_key));
}

static void
set_expiry(Holding *holding, Interval *ttl)
{
	set_value(holding, Anum_lock_ttl, IntervalPGetDatum(ttl));
	set_value(holding, Anum_lock_expires_at,
			  DirectFunctionCall2(timestamptz_pl_interval,
								  TimestampTzGetDatum(GetCurrentTimestamp()),
								  IntervalPGetDatum(ttl)));
}

/*
 * The row of a lock that is being taken.
 */
static void
fill_holding(const LockRequest *request, Holding *holding)
{
	TimestampTz created = GetCurrentTimestamp();
	Jsonb	   *info = tfstate_fill_info(request->info, request->lockid, created);

	memset(holding->nulls, true, sizeof(holding->nulls));
	holding->durable = request->durable;
	set_text(holding, Anum_lock_lockid, request->lockid);
	set_value(holding, Anum_lock_fence, Int64GetDatum(0));
	set_text(holding, Anum_lock_id, tfstate_info_get(info, "ID"));
	set_value(holding, Anum_lock_created, TimestampTzGetDatum(created));
	if (request->ttl)
		set_expiry(holding, request->ttl);
	set_session(holding);
	set_text(holding, Anum_lock_run_id, tfstate_my_run());
	set_keys(holding, request);
	set_value(holding, Anum_lock_info, JsonbPGetDatum(info));
}

/*
 * How a holder has abandoned a lock, NULL if he has not.  The caller has K.
 *
 * had_key says that this session had K before: then a session row of its own is
 * a lock that it holds, and not what a dead session left.
 */
static const char *
how_abandoned(const Holding *holder, bool had_key)
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
		!(had_key && tfstate_session_is_mine(HOLDING_INT64(holder, session))))
		return HOW_RECLAIMED;
	return NULL;
}

/*
 * With K in hand: is the lock held?  Then its row is put into conflict.  If it
 * is not, what an earlier holder left behind is deleted, and that is recorded.
 * Where an open transaction is about to change what is left, it counts as held:
 * that transaction may yet roll back.
 */
static bool
is_held(const LockRequest *request, bool had_key, LockConflict *conflict)
{
	Holding    *holder = &conflict->holder;
	TM_Result	result = TM_Ok;
	const char *how;

	while (result != TM_BeingModified &&
		   (conflict->known = tfstate_find_row(request->lockid, request->wait == 0, holder,
											   &conflict->newest_fence)) &&
		   (how = how_abandoned(holder, had_key)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		result = tfstate_delete_holding(holder, false);
		if (result == TM_Ok)
			tfstate_record_release(holder, how, NULL);
	}
	conflict->own = conflict->known &&
		tfstate_session_is_mine(HOLDING_INT64(holder, session));
	return conflict->known;
}

/*
 * Does the durable lock belong to the run that asks, whose earlier session is
 * gone?  Then this session takes its place: the holding goes on.
 */
static bool
adopt(const LockRequest *request, Holding *holder)
{
	char	   *run_id = HOLDING_NULL(holder, run_id) ? NULL : HOLDING_TEXT(holder, run_id);
	Holding		ours = *holder;

	if (request->run_id == NULL || run_id == NULL || !holder->durable ||
		strcmp(run_id, request->run_id) != 0 ||
		tfstate_session_is_alive(HOLDING_INT64(holder, session)) ||
		!tfstate_acts_for_holder(holder))
		return false;
	set_session(&ours);
	set_keys(&ours, request);
	if (!tfstate_update_holding(&ours, false))
		return false;
	*holder = ours;
	tfstate_sync_at_commit();
	return true;
}

/*
 * With K in hand: is the lock free, or has our run adopted it?
 *
 * Whoever writes a row that could be toasted must have a snapshot.  In the
 * transaction in which CALL tfstate_wait_lock() waits there is none but this.
 */
static bool
is_free(const LockRequest *request, bool had_key, LockConflict *conflict,
		bool *adopted)
{
	bool		result;

	PushActiveSnapshot(GetLatestSnapshot());
	*adopted = is_held(request, had_key, conflict) &&
		adopt(request, &conflict->holder);
	result = *adopted || !conflict->known;
	PopActiveSnapshot();
	return result;
}

/*
 * Is waiting for this holder pointless?  A session would wait for itself: always in
 * session mode, and for ever in durable mode.  A bounded wait is allowed there, because
 * behind a pooler somebody else may have the session's lock, and release it through
 * another session.
 */
static bool
is_hopeless(const LockConflict *conflict, const WaitLimit *limit)
{
	return conflict->own && (!conflict->holder.durable || tfstate_wait_is_endless(limit));
}

/*
 * After a wait: error if the extension has been dropped since.  One that was created
 * again has other tags, and ours excludes nobody from its locks.
 */
static void
check_still_installed(const LockRequest *request, const LOCKTAG *key)
{
	LOCKTAG		now;

	AcceptInvalidationMessages();
	now = tfstate_lock_tag(request->lockid);
	if (memcmp(&now, key, sizeof(LOCKTAG)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"%s\" was dropped and created again while state lock \"%s\" was waited for",
						"tfstate", tfstate_one_line(request->lockid, TFSTATE_MAX_LOCKID)),
				 errhint("Ask for the lock again.")));
}

/*
 * Tell the client, once, that it is about to wait: for whom is in conflict.
 */
static void
announce(const LockRequest *request, const LockConflict *conflict, int position,
		 WaitLimit *limit)
{
	if (!limit->announced && message_level_is_interesting(NOTICE))
		tfstate_announce_wait(request->lockid, conflict, position);
	limit->announced = true;
}

/*
 * With K in hand, wait until the lock is free, or our run's own (then *adopted is
 * set).  Returns false, with the conflict, when it is not free in time.
 *
 * What each look needs is freed before the next one: there can be very many.
 */
static bool
wait_as_first(const LockRequest *request, const LOCKTAG *key, bool had_key,
			  WaitLimit *limit, LockConflict *conflict, bool *adopted)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext round = NULL;

	for (;;)
	{
		bool		free;
		TimestampTz expires_at = DT_NOEND;

		if (round)
		{
			check_still_installed(request, key);
			MemoryContextReset(round);
			MemoryContextSwitchTo(round);
		}
		ResetLatch(MyLatch);
		free = is_free(request, had_key, conflict, adopted);
		MemoryContextSwitchTo(caller);
		if (free)
			return true;
		if (request->wait == 0 || tfstate_wait_is_over(limit) || is_hopeless(conflict, limit))
			return false;
		if (round == NULL)
			round = AllocSetContextCreate(caller, "tfstate wait", ALLOCSET_SMALL_SIZES);
		announce(request, conflict, 1, limit);
		if (!HOLDING_NULL(&conflict->holder, expires_at) &&
			!tfstate_holding_expired(&conflict->holder))
			expires_at = DatumGetTimestampTz(HOLDING_DATUM(&conflict->holder, expires_at));
		tfstate_wait_as_first(key, conflict->holder.changing, expires_at, limit);
	}
}

/*
 * With K in hand, take the built-in lock that goes along, in time.
 */
static bool
take_builtin(const LockRequest *request, const LOCKTAG *key, WaitLimit *limit,
			 LockConflict *conflict)
{
	LOCKTAG		builtin = tfstate_builtin_tag(request->key);

	if (tfstate_try_tag(&builtin))
		return true;
	conflict->known = false;
	conflict->tag = builtin;
	if (request->wait == 0)
		return false;
	announce(request, conflict, 1, limit);
	if (!tfstate_wait_tag_as_first(key, &builtin, limit))
		return false;
	check_still_installed(request, key);
	return true;
}

/*
 * With K in hand, wait until the lock is not held, and take the built-in lock
 * where there is one.  Returns false when that does not happen in time, with
 * the conflict.  Returns true with *adopted set if the holder was of our run.
 */
static bool
wait_until_free(const LockRequest *request, const LOCKTAG *key, bool had_key,
				WaitLimit *limit, LockConflict *conflict, bool *adopted)
{
	return wait_as_first(request, key, had_key, limit, conflict, adopted) &&
		(!request->has_key || take_builtin(request, key, limit, conflict));
}

/*
 * Insert the row of a lock whose tags we have, and see to what its commit has
 * to do.  newest_fence is what the lock tables know of the lockid.
 */
static void
take(const LockRequest *request, const LOCKTAG *key, int64 newest_fence, Holding *holding)
{
	fill_holding(request, holding);
	set_value(holding, Anum_lock_fence,
			  Int64GetDatum(tfstate_next_fence(request->lockid, newest_fence)));
	PushActiveSnapshot(GetLatestSnapshot());
	tfstate_insert_holding(holding);
	PopActiveSnapshot();
	if (request->durable)
		tfstate_sync_at_commit();
	else if (!request->tied)
		tfstate_promote_at_commit(key, HOLDING_INT64(holding, session));
}

/*
 * Without K: the conflict with who holds the lock, in the words of a row that was
 * found.  Returns false, and a conflict with who has K, if that row says nothing.
 */
static bool
is_held_by_row(bool found, const LOCKTAG *key, LockConflict *conflict)
{
	conflict->known = found && !tfstate_holding_expired(&conflict->holder);
	conflict->own = conflict->known &&
		tfstate_session_is_mine(HOLDING_INT64(&conflict->holder, session));
	conflict->tag = *key;
	return conflict->known;
}

/*
 * Without K, for a try: is the lock still held as this session saw it last?  Then
 * K would not help.  A run that can adopt the lock has to have K.
 */
static bool
is_held_still(const LockRequest *request, const LOCKTAG *key, LockConflict *conflict)
{
	return request->wait == 0 && request->run_id == NULL &&
		is_held_by_row(tfstate_current_holding_again(request->lockid, &conflict->holder),
					   key, conflict);
}

/*
 * Without K: who has the lock now, as far as a row says?
 */
static void
look_without_key(const LockRequest *request, const LOCKTAG *key, LockConflict *conflict)
{
	(void) is_held_by_row(tfstate_current_holding(request->lockid, &conflict->holder),
						  key, conflict);
}

/*
 * Take K in time, or return false with the conflict.
 */
static bool
take_key(const LockRequest *request, const LOCKTAG *key, WaitLimit *limit,
		 LockConflict *conflict)
{
	if (tfstate_try_tag(key))
		return true;
	look_without_key(request, key, conflict);
	if (request->wait == 0)
		return false;

	/* the first waiter for a durable lock has K, else the holder or who takes it */
	announce(request, conflict,
			 LockWaiterCount(key) + (conflict->known && conflict->holder.durable), limit);
	if (tfstate_wait_tag(key, limit))
	{
		check_still_installed(request, key);
		return true;
	}
	look_without_key(request, key, conflict);
	return false;
}

/*
 * Take a lock.  Returns true with the new holding, or false with the conflict.
 *
 * The caller has checked the privilege, and that the transaction may write.
 * Errors: too many locks, a bad info, and what interrupts a wait.
 */
bool
tfstate_acquire(const LockRequest *request, Holding *holding,
				LockConflict *conflict)
{
	LOCKTAG		key = tfstate_lock_tag(request->lockid);
	bool		had_key = compat_lock_held_by_me(&key, ExclusiveLock);
	WaitLimit	limit;
	bool		adopted;

	if (!had_key)
		tfstate_check_lock_count();
	if (!tfstate_has_pending())
		tfstate_drop_stale_shares();
	tfstate_start_wait(&limit, request->wait);
	if (is_held_still(request, &key, conflict))
		return false;
	if (!take_key(request, &key, &limit, conflict))
		return false;
	if (!wait_until_free(request, &key, had_key, &limit, conflict, &adopted))
	{
		tfstate_release_tag(&key);
		return false;
	}
	if (!had_key)
		tfstate_count_lock();
	if (adopted)
		*holding = conflict->holder;
	else
		take(request, &key, conflict->newest_fence, holding);
	if (request->has_key && !request->tied)
		tfstate_keep_share_at_commit(holding);
	return true;
}

/*
 * Extend a lease, by ttl or, if that is NULL, by its own.  Returns false if
 * somebody else has changed or deleted its row since it was read.
 *
 * The new time counts from when the row is ours, for which we may have to wait.
 */
bool
tfstate_renew_lease(Holding *holding, Interval *ttl)
{
	if (!tfstate_lock_holding(holding))
		return false;
	set_expiry(holding, ttl ? ttl : DatumGetIntervalP(HOLDING_DATUM(holding, ttl)));
	tfstate_sync_at_commit();
	return tfstate_update_holding(holding, true);
}
