/*-------------------------------------------------------------------------
 *
 * writer.c
 *	  Which sessions may write a workspace.
 *
 * A locked workspace can be written only by the session or run that holds its lock.
 * That this is so is made to last until the writing transaction ends:
 *
 * 	- If the lock is ours and other sessions could release it (a durable lock, one that
 * 	  is tied to a creation key, or the lock in session mode of another session of this
 * 	  run), its row is locked against changes.  If it is in session mode and this
 * 	  session's, the transaction takes the lock tag, too, because the session could
 * 	  release the lock before it commits, or prepare the transaction.
 * 	- If nobody holds the lock, the transaction takes the lock tag, and a share of the
 * 	  built-in lock that a Terraform without tfstate takes.
 * 	- If the session has that built-in lock, nothing more is needed: a session that
 * 	  takes the workspace's lock waits for it.
 *
 * The row of an expired lease that another transaction is changing counts as held,
 * because the change may be its renewal.
 *
 * Where the lock is required and not ours, three kinds of writes pass: any under the
 * built-in lock of the workspace's id, unless this session was refused one before; the
 * deletion by the session, or the run that has a name, that had the last lock, if
 * nothing was written since; and the deletion of a state without resources.  A session
 * that writes without the lock must be allowed to take it.  Its write ends what is left
 * of an earlier holding, so that no session resumes that.
 *
 * What a session remembers never lets a write pass by itself: the lock tables, history
 * and versions have to confirm it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/run.h"
#include "common/settings.h"
#include "lock/commit.h"
#include "lock/conflict.h"
#include "lock/freeze.h"
#include "lock/history.h"
#include "lock/holding.h"
#include "lock/lookup.h"
#include "lock/owner.h"
#include "lock/release.h"
#include "lock/session.h"
#include "lock/tag.h"
#include "lock/wait.h"
#include "state/facts.h"
#include "state/refusal.h"
#include "state/shim_memory.h"
#include "state/version.h"
#include "state/writer.h"

/*
 * For how long a write waits for another session that may be taking the lock, and how
 * often it looks what has come of that.
 */
#define MAX_WAIT_USECS	USECS_PER_SEC
#define LOOK_USECS		(USECS_PER_SEC / 20)

/*
 * Return true if this session has locked an id as a Terraform without tfstate does.
 */
static bool
has_builtin(int64 id)
{
	LOCKTAG		tag = tfstate_builtin_tag(id);

	return compat_lock_held_by_me(&tag, ExclusiveLock);
}

/*
 * Have this transaction be the only one that could take the lock.
 *
 * Returns false if another session has the lock tag: for a moment, while it tries to
 * take the lock, or because it holds the lock by now.  The wait for it is short, since
 * it may be waiting for our row.  Error after the deadline, or if a Terraform without
 * tfstate has the lock.
 */
static bool
keep_unlocked(const StateRow *row, const LOCKTAG *lock_tag, TimestampTz deadline)
{
	bool		had_tag = compat_lock_held_by_me(lock_tag, ExclusiveLock);
	LockConflict conflict = {0};
	WaitLimit	limit;

	tfstate_check_may_lock(row->lockid);
	if (!had_tag)
		tfstate_check_lock_count();
	tfstate_start_wait(&limit, LOOK_USECS);
	conflict.tag = *lock_tag;
	if (tfstate_try_tag(lock_tag) || tfstate_wait_tag(lock_tag, &limit))
	{
		conflict.tag = tfstate_builtin_tag(row->id);
		if (tfstate_try_tag(&conflict.tag))
		{
			if (!had_tag)
				tfstate_count_lock();
			return true;
		}
	}
	else if (GetCurrentTimestamp() < deadline)
		return false;
	tfstate_refuse_conflict(row->lockid, &conflict);
	return false;
}

/*
 * Find out which lock a workspace is written under, and keep it so until the end of the
 * transaction.  *holding is the lock if it is ours.  Error if it is held by somebody
 * else.
 */
static WriteLock
secure_lock(const StateRow *row, Holding *holding)
{
	LOCKTAG		lock_tag = tfstate_lock_tag(row->lockid);
	TimestampTz deadline = GetCurrentTimestamp() + MAX_WAIT_USECS;
	bool		kept = false;

	for (;;)
	{
		bool		found = tfstate_current_holding(row->lockid, holding);

		CHECK_FOR_INTERRUPTS();
		if (found && !tfstate_holding_expired(holding))
		{
			if (tfstate_fence != 0 && tfstate_fence != HOLDING_INT64(holding, fence))
				tfstate_refuse_fence(row->lockid, holding);
			if (!tfstate_may_write_under(holding))
				tfstate_refuse_held(row->lockid, holding);
			/* only the session that has the lock tag can keep that for itself */
			if (holding->durable || tfstate_holding_is_tied(holding) ||
				!tfstate_session_is_mine(HOLDING_INT64(holding, session)))
			{
				if (tfstate_pin_holding(holding))
					return LOCK_OURS;
			}
			else if (tfstate_try_tag(&lock_tag))
				return LOCK_OURS;
		}
		else if (kept || has_builtin(row->id))
		{
			/* renewing an expired lease takes no tag, and may yet commit */
			if (found && TransactionIdIsValid(holding->changing))
				tfstate_refuse_held(row->lockid, holding);
			if (tfstate_fence != 0)
				tfstate_refuse_fence(row->lockid, NULL);
			return kept ? LOCK_FREE : LOCK_BUILTIN;
		}
		else
		{
			/* another session may have had the tag before: look again */
			kept = keep_unlocked(row, &lock_tag, deadline);
		}
	}
}

/*
 * Return true if a lock table or history tells of a holding after this fence, or tells
 * that the one of this fence ended otherwise than by an unlock.
 */
static bool
locked_since(const char *lockid, int64 fence)
{
	Holding		left;
	int64		newest;
	int64		released;
	char	   *how;

	if (tfstate_find_row(lockid, false, &left, &newest) ?
		HOLDING_INT64(&left, fence) >= fence : newest > fence)
		return true;
	return tfstate_find_release(lockid, NULL, &released, &how, NULL) &&
		(released > fence || (released == fence && strcmp(how, HOW_UNLOCK) != 0));
}

/*
 * Find the last lock of this workspace that the caller has unlocked.  Returns false if
 * there is none.
 *
 * Fills in the fence of that lock, the newest version, and whether that was written
 * after the unlock.  The source is what this session remembers, or else what history
 * tells of the caller's run, which behind a pooler may have unlocked in another session.
 */
static bool
find_unlocked(const char *lockid, int64 *fence, bool *written, Version *newest)
{
	const char *run = tfstate_my_run();
	bool		known = tfstate_newest_version(lockid, newest);
	int64		number;
	char	   *how;
	TimestampTz released_at;

	if (tfstate_released_last(lockid, fence, &number))
	{
		*written = known && VERSION_INT64(newest, number) != number;
		return true;
	}
	if (run == NULL || !tfstate_find_release(lockid, run, fence, &how, &released_at) ||
		strcmp(how, HOW_UNLOCK) != 0)
		return false;
	*written = known &&
		(VERSION_NULL(newest, fence) ?
		 DatumGetTimestampTz(VERSION_DATUM(newest, created)) > released_at :
		 VERSION_INT64(newest, fence) > *fence);
	return true;
}

/*
 * Return true if the caller may delete a workspace because it has just unlocked it, as
 * Terraform does: it had the last lock there was, and nothing was written since.  Error
 * if something was.  The caller has secured that nobody holds the lock.
 */
static bool
is_last_holder(const char *lockid)
{
	int64		fence;
	bool		written;
	Version		newest;

	if (!find_unlocked(lockid, &fence, &written, &newest))
		return false;
	if (written)
		tfstate_refuse_written(lockid, &newest);
	return !locked_since(lockid, fence);
}

/*
 * Return true if a text has no resources that could be lost with it.  An encrypted state
 * may have some, and so may a text that is not a state.
 */
static bool
has_no_resources(const StateText *text)
{
	StateFacts	facts;

	if (text->data == NULL)
		return true;
	tfstate_read_facts(text->data, (int) text->len, &facts);
	return facts.valid && !facts.encrypted && !facts.has_resources;
}

/*
 * How this session's run has lost the lock of a workspace, in words; NULL if it never had
 * it or has released it.  A session without a name for its run has no such run.
 */
static const char *
how_ousted(const char *lockid)
{
	const char *run = tfstate_my_run();
	Holding		left;
	int64		fence;
	char	   *how;

	if (run == NULL)
		return NULL;
	if (tfstate_find_row(lockid, false, &left, &fence) && !HOLDING_NULL(&left, run_id) &&
		strcmp(run, HOLDING_TEXT(&left, run_id)) == 0)
		how = left.durable ? HOW_EXPIRED : HOW_RECLAIMED;
	else if (!tfstate_find_release(lockid, run, &fence, &how, NULL))
		return NULL;
	if (strcmp(how, HOW_FORCE) == 0)
		return "it was released by force";
	if (strcmp(how, HOW_EXPIRED) == 0)
		return "it has expired";
	return strcmp(how, HOW_RECLAIMED) == 0 ? "its connection was lost" : NULL;
}

/*
 * Error unless a write passes while nobody has the lock.
 */
static void
check_unlocked(const StateRow *row, WriteKind kind, GuardLevel level)
{
	const char *how;

	if (kind == WRITE_DELETION)
	{
		if (is_last_holder(row->lockid) || has_no_resources(&row->text))
			return;
	}
	else if ((how = how_ousted(row->lockid)) != NULL)
		tfstate_refuse_ousted(row->lockid, how);
	if (level == GUARD_REQUIRE)
		tfstate_refuse_unlocked(row->lockid, kind);
	if (kind != WRITE_DELETION)
		tfstate_check_not_refused(row->lockid);
}

/*
 * End what is left of a holding that could come to life again after this write: one that
 * is tied to a creation key would when its session takes the key once more, and a lease
 * when it is renewed.  Error if that happens just now.
 */
static void
end_leftover(const char *lockid)
{
	Holding		leftover;
	int64		newest;
	bool		expired;

	if (!tfstate_find_row(lockid, false, &leftover, &newest))
		return;
	expired = tfstate_holding_expired(&leftover);
	if ((expired || tfstate_holding_is_tied(&leftover)) &&
		!tfstate_release(&leftover, expired ? HOW_EXPIRED : HOW_UNLOCK, NULL) &&
		tfstate_current_holding(lockid, &leftover))
		tfstate_refuse_held(lockid, &leftover);
}

/*
 * Error unless this session may write a workspace.  before is the row that is replaced,
 * NULL for a new workspace; after is the new one, NULL for a deletion; level is not
 * GUARD_OFF.  Returns the lock under which the write is made, and the holding if it is
 * LOCK_OURS.  The lock stays as it is until the transaction ends.
 */
WriteLock
tfstate_check_writer(const StateRow *before, const StateRow *after, GuardLevel level,
					 Holding *holding)
{
	const StateRow *row = after ? after : before;
	WriteKind	kind = after == NULL ? WRITE_DELETION :
		before == NULL ? WRITE_CREATION : WRITE_CHANGE;
	WriteLock	lock;

	/* a Terraform without tfstate may have locked the id that goes */
	if (before && before->id != row->id)
		(void) secure_lock(before, holding);
	lock = secure_lock(row, holding);
	if (lock == LOCK_OURS)
	{
		tfstate_forget_refusal(row->lockid);
		return lock;
	}
	tfstate_check_may_lock(row->lockid);
	tfstate_check_write_frozen(row->lockid, lock == LOCK_BUILTIN);
	if (lock == LOCK_BUILTIN)
		tfstate_check_not_refused(row->lockid);
	else
		check_unlocked(row, kind, level);
	end_leftover(row->lockid);
	return lock;
}
