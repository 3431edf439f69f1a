/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  Taking and waiting for lock-manager tags.
 *
 * Waiters queue for K in the server's own lock manager: first come, first
 * served, no CPU, deadlocks detected, and nothing left behind by whoever goes
 * away.  The holder of a lock in session mode has K, so the queue moves on when
 * he releases it or dies.  The holder of a durable lock does not have K; the
 * first of the queue gets it, finds the row, and sleeps on its latch with K in
 * hand until the one who deletes the row wakes it (see commit.c).  Where an open
 * transaction is deleting the row already, it waits for the end of that.
 *
 * A wake-up cannot be lost: the waiter has K before it looks at the row, and
 * who deletes the row looks for the owner of K after that is visible.  What
 * comes without a wake-up (a lease that expires, a latch that somebody else
 * reset) is found by looking again each second; only the first of the queue
 * does that.
 *
 * How long a wait lasts is measured by the monotonic clock.  Only the server's own
 * timer, which ends a wait in the lock manager as it does for lock_timeout, is put
 * off if somebody sets the clock back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/subtrans.h"
#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "lock/tag.h"
#include "lock/wait.h"

/* The longest sleep of the first waiter, in milliseconds. */
#define HEAD_POLL_MS	1000

/* How often a waiter looks whether its client is still there. */
#define CLIENT_CHECK_MS	20000

/* The time of a limit that there is not. */
#define NO_LIMIT		PG_INT64_MAX

/* The monotonic clock, in microseconds. */
static int64
monotonic_now(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/*
 * Begin to wait, for some microseconds at most, or for ever if that is -1.  The
 * user's lock_timeout counts from here, over all that there is to wait for.
 */
void
tfstate_start_wait(WaitLimit *limit, int64 usecs)
{
	int64		now = monotonic_now();

	limit->give_up = usecs < 0 ? NO_LIMIT : now + usecs;
	limit->announced = false;
	limit->error = LockTimeout > 0 ? now + LockTimeout * INT64CONST(1000) : NO_LIMIT;
}

/* Is the time over that was asked for? */
bool
tfstate_wait_is_over(const WaitLimit *limit)
{
	return limit->give_up <= monotonic_now();
}

/* Is it a wait for ever? */
bool
tfstate_wait_is_endless(const WaitLimit *limit)
{
	return limit->give_up == NO_LIMIT;
}

/*
 * The microseconds until the nearer of the two limits, not below 0, or NO_LIMIT.
 * Error if the user's lock_timeout is over.
 */
static int64
time_left(const WaitLimit *limit)
{
	int64		end = Min(limit->give_up, limit->error);
	int64		now;

	if (end == NO_LIMIT)
		return NO_LIMIT;
	now = monotonic_now();
	if (limit->error <= now && limit->error <= limit->give_up)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("canceling statement due to lock timeout")));
	return Max(end - now, 0);
}

/* Microseconds in milliseconds, so many that the time is over after them. */
static int
to_msecs(int64 usecs)
{
	return (int) Min(usecs / 1000 + (usecs % 1000 != 0), INT_MAX);
}

/*
 * LockAcquire() at transaction level.  The lock is put down to the transaction
 * and not to the portal that runs the query, so that it can be released from
 * anywhere in the transaction.  Returns false if it is not to be had at once.
 */
static bool
acquire_tag(const LOCKTAG *tag, bool wait)
{
	ResourceOwner old = CurrentResourceOwner;
	LockAcquireResult result;

	CurrentResourceOwner = CurTransactionResourceOwner;
	result = LockAcquire(tag, tfstate_tag_mode(tag), false, !wait);
	CurrentResourceOwner = old;
	return result != LOCKACQUIRE_NOT_AVAIL;
}

/* Take a tag if that is possible at once. */
bool
tfstate_try_tag(const LOCKTAG *tag)
{
	return acquire_tag(tag, false);
}

/* Give back a tag that this transaction took. */
void
tfstate_release_tag(const LOCKTAG *tag)
{
	ResourceOwner old = CurrentResourceOwner;

	CurrentResourceOwner = CurTransactionResourceOwner;
	(void) LockRelease(tag, tfstate_tag_mode(tag), false);
	CurrentResourceOwner = old;
}

/*
 * To be called before a wait.
 *
 * Somebody whose client is gone has to leave the queue: have the server look
 * for that, for the rest of the transaction, unless the administrator has set
 * client_connection_check_interval himself.
 *
 * Give up the snapshot that reading the catalogs has left, so that
 * tfstate_wait_lock() waits without any.
 */
static void
prepare_to_wait(void)
{
	InvalidateCatalogSnapshot();
	if (MyProcPort == NULL || client_connection_check_interval > 0)
		return;
	(void) set_config_option("client_connection_check_interval",
							 CppAsString2(CLIENT_CHECK_MS), PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, DEBUG5, false);
	if (client_connection_check_interval > 0 &&
		!get_timeout_active(CLIENT_CONNECTION_CHECK_TIMEOUT))
		enable_timeout_after(CLIENT_CONNECTION_CHECK_TIMEOUT, client_connection_check_interval);
}

/*
 * To be called after a wait: end the session if its client is gone.  A durable
 * lock must not be given to somebody who cannot know of it.
 */
static void
check_client(void)
{
	if (MyProcPort == NULL)
		return;
	CheckClientConnectionPending = true;
	InterruptPending = true;
	CHECK_FOR_INTERRUPTS();
}

/*
 * Wait for a tag, by the server's own lock_timeout: for some milliseconds, or for
 * ever if that is 0.  Errors: the server's own.
 */
static void
wait_tag(const LOCKTAG *tag, int timeout)
{
	int			user_timeout = LockTimeout;

	PG_TRY();
	{
		LockTimeout = timeout;
		(void) acquire_tag(tag, true);
	}
	PG_FINALLY();
	{
		LockTimeout = user_timeout;
	}
	PG_END_TRY();
}

/*
 * The same, but returns false when the time is over.
 *
 * The time can be up in the very moment in which the lock is granted.  Then the
 * server may report it only at the next check for interrupts, so there is one
 * here; the abort of the subtransaction releases what was granted.
 */
static bool
wait_tag_timeout(const LOCKTAG *tag, int timeout)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool granted = false;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		wait_tag(tag, timeout);
		CHECK_FOR_INTERRUPTS();
		ReleaseCurrentSubTransaction();
		granted = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ReThrowError(error);
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return granted;
}

/*
 * Wait for a tag.  Returns whether we have it.  Errors: the server's own for a
 * cancel, for a deadlock, and for the user's lock_timeout.
 */
bool
tfstate_wait_tag(const LOCKTAG *tag, const WaitLimit *limit)
{
	bool		granted = false;

	prepare_to_wait();
	while (!granted)
	{
		int64		left = time_left(limit);

		if (left == 0)
			return tfstate_try_tag(tag);
		if (left == NO_LIMIT || limit->error <= limit->give_up)
		{
			wait_tag(tag, left == NO_LIMIT ? 0 : to_msecs(left));
			break;
		}
		granted = wait_tag_timeout(tag, to_msecs(left));

		/* The time is over; waiting once more would put us last. */
		if (!granted && left <= INT_MAX * INT64CONST(1000))
			return tfstate_try_tag(tag);
	}
	check_client();
	return true;
}

/*
 * Sleep on the latch, for a second at most.
 */
static void
sleep_on_latch(const WaitLimit *limit)
{
	int64		left = time_left(limit);

	prepare_to_wait();
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min(to_msecs(left), HEAD_POLL_MS), PG_WAIT_EXTENSION);
	check_client();
}

/*
 * The transaction whose end decides about what a transaction did that has ended or
 * been released: invalid if that is decided.
 *
 * The snapshot keeps what is to be looked up from being truncated.
 */
static TransactionId
running_parent(TransactionId xid)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TransactionId parent = InvalidTransactionId;

	if (TransactionIdIsInProgress(xid))
		parent = SubTransGetParent(xid);
	UnregisterSnapshot(snapshot);
	return parent;
}

/*
 * Wait in the lock manager until it is decided what a transaction did.  That one can
 * be a subtransaction, and when that has been released it is for its parent to
 * decide, which need not be the topmost: a rollback to a savepoint decides, too.
 */
static void
wait_for_transaction(TransactionId xid, const WaitLimit *limit)
{
	while (TransactionIdIsValid(xid))
	{
		LOCKTAG		tag;

		SET_LOCKTAG_TRANSACTION(tag, xid);
		if (!tfstate_wait_tag(&tag, limit))
			return;
		tfstate_release_tag(&tag);
		xid = running_parent(xid);
	}
}

/*
 * Take and release W of a lockid, whose K we have.  What comes in between is shown as
 * a wait.
 *
 * Who still has W without K is being aborted: the server releases the one after the
 * other.
 */
static void
begin_first(const LOCKTAG *key)
{
	LOCKTAG		waiting = tfstate_waiter_tag(key);

	(void) acquire_tag(&waiting, true);
}

static void
end_first(const LOCKTAG *key)
{
	LOCKTAG		waiting = tfstate_waiter_tag(key);

	tfstate_release_tag(&waiting);
}

/*
 * Wait, with K of a lockid in hand, until its row may have changed, or its lease has
 * expired (DT_NOEND if it has none).
 *
 * Where an open transaction is changing the row, wait for that transaction in
 * the lock manager, which finds it out if that one waits for us.
 */
void
tfstate_wait_as_first(const LOCKTAG *key, TransactionId changing, TimestampTz expires_at,
					  const WaitLimit *limit)
{
	WaitLimit	until = *limit;

	if (expires_at != DT_NOEND)
		until.give_up = Min(until.give_up,
							monotonic_now() + Max(expires_at - GetCurrentTimestamp(), 0));
	begin_first(key);
	if (TransactionIdIsValid(changing))
		wait_for_transaction(changing, &until);
	else
		sleep_on_latch(&until);
	end_first(key);
}

/*
 * tfstate_wait_tag() with K of a lockid in hand.
 */
bool
tfstate_wait_tag_as_first(const LOCKTAG *key, const LOCKTAG *tag, const WaitLimit *limit)
{
	bool		granted;

	begin_first(key);
	granted = tfstate_wait_tag(tag, limit);
	end_first(key);
	return granted;
}
