/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  Taking and waiting for lock-manager tags.
 *
 * Waiters queue for the lock tag in the server's own lock manager: first come,
 * first served, no CPU, deadlocks detected, and nothing left behind by a session
 * that goes away.  The holder of a lock in session mode owns the lock tag, so the
 * queue moves on when it releases the lock or dies.  The holder of a durable lock
 * does not own the tag.  The first waiter gets it, finds the row, and sleeps on its
 * latch, owning the tag, until the session that deletes the row wakes it (see
 * commit.c).  If an open transaction is deleting the row already, the first waiter
 * waits for that transaction to end.
 *
 * A wake-up cannot be lost: the waiter owns the tag before it looks at the row, and
 * the deleter looks for the tag's owner only after the deletion is visible.  What
 * happens without a wake-up (a lease expires, somebody else resets the latch) is
 * found by looking again each second, which only the first waiter does.
 *
 * The length of a wait is measured by the monotonic clock.  Only the server's own
 * timer, which ends a wait in the lock manager as it does for lock_timeout, is
 * delayed if somebody sets the clock back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/subtrans.h"
#include "access/transam.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "common/subtransaction.h"
#include "lock/tag.h"
#include "lock/wait.h"

/* The longest sleep of the first waiter, in milliseconds. */
#define HEAD_POLL_MS	1000

/* How often a waiter checks that its client is still there, in milliseconds. */
#define CLIENT_CHECK_MS	20000

/* The time of a limit that does not exist. */
#define NO_LIMIT		PG_INT64_MAX

/* The time by the monotonic clock, in microseconds. */
static int64
monotonic_now(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/*
 * Begin a wait of at most usecs microseconds, or an endless one if that is negative.
 * The user's lock_timeout counts from here, over everything that is waited for.
 */
void
tfstate_start_wait(WaitLimit *limit, int64 usecs)
{
	int64		now = monotonic_now();

	limit->give_up = usecs < 0 ? NO_LIMIT : now + usecs;
	limit->ends_with_session = false;
	limit->error = LockTimeout > 0 ? now + LockTimeout * INT64CONST(1000) : NO_LIMIT;
}

/*
 * Return true if the time that was asked for is over.
 */
bool
tfstate_wait_is_over(const WaitLimit *limit)
{
	return limit->give_up <= monotonic_now();
}

/*
 * Return true if the wait is endless.
 */
bool
tfstate_wait_is_endless(const WaitLimit *limit)
{
	return limit->give_up == NO_LIMIT;
}

/*
 * Return the microseconds until the nearer of the two limits, 0 if it has passed, or
 * NO_LIMIT.  Error if the user's lock_timeout is over.
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

/* Microseconds in milliseconds, rounded up. */
static int
to_msecs(int64 usecs)
{
	return (int) Min(usecs / 1000 + (usecs % 1000 != 0), INT_MAX);
}

/*
 * Take a tag at transaction level.  Its resource owner is the transaction and not the
 * portal that runs the query, so that it can be released from anywhere in the
 * transaction.  Returns false if it cannot be had at once and wait is false.
 */
static bool
acquire_in_mode(const LOCKTAG *tag, LOCKMODE mode, bool wait)
{
	ResourceOwner old = CurrentResourceOwner;
	LockAcquireResult result;

	CurrentResourceOwner = CurTransactionResourceOwner;
	result = LockAcquire(tag, mode, false, !wait);
	CurrentResourceOwner = old;
	return result != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * The same, in the mode of its kind.
 */
static bool
acquire_tag(const LOCKTAG *tag, bool wait)
{
	return acquire_in_mode(tag, tfstate_tag_mode(tag), wait);
}

/*
 * Take a tag if that is possible at once.  Returns true if it was.
 */
bool
tfstate_try_tag(const LOCKTAG *tag)
{
	return acquire_tag(tag, false);
}

/*
 * Take a tag, or a share of one of our own tags, after waiting for it as a statement waits
 * for a row.  Errors: the server's own for a cancel, for a deadlock, and for lock_timeout.
 */
void
tfstate_take_tag(const LOCKTAG *tag)
{
	(void) acquire_tag(tag, true);
}

void
tfstate_take_share_of(const LOCKTAG *tag)
{
	(void) acquire_in_mode(tag, ShareLock, true);
}

/*
 * Release a tag that this transaction took.
 */
void
tfstate_release_tag(const LOCKTAG *tag)
{
	ResourceOwner old = CurrentResourceOwner;

	CurrentResourceOwner = CurTransactionResourceOwner;
	(void) LockRelease(tag, tfstate_tag_mode(tag), false);
	CurrentResourceOwner = old;
}

/* What waits, for wait_watched().  Returns false if the time is over. */
typedef bool (*Wait) (const LOCKTAG *tag, const WaitLimit *limit);

/*
 * Give up the snapshot that reading the catalogs has left, so that tfstate_wait_lock()
 * waits without any, and wait.
 *
 * A session whose client is gone has to leave the queue.  So the server checks for that
 * during the wait, unless client_connection_check_interval has been set already.  For
 * that only the variable is changed, because it takes long to change a setting for a
 * transaction.
 *
 * After the wait, end the session if its client is gone: a durable lock must not be
 * given to a client that cannot learn of it.  One in session mode ends with the session,
 * which learns of that soon.
 */
static bool
wait_watched(Wait wait, const LOCKTAG *tag, const WaitLimit *limit)
{
	int			user_interval = client_connection_check_interval;
	bool		result = false;

	InvalidateCatalogSnapshot();
	if (MyProcPort && user_interval == 0 && WaitEventSetCanReportClosed())
	{
		client_connection_check_interval = CLIENT_CHECK_MS;
		if (!get_timeout_active(CLIENT_CONNECTION_CHECK_TIMEOUT))
			enable_timeout_after(CLIENT_CONNECTION_CHECK_TIMEOUT, CLIENT_CHECK_MS);
	}
	PG_TRY();
	{
		result = wait(tag, limit);
		if (result && MyProcPort && !limit->ends_with_session)
			InterruptPending = CheckClientConnectionPending = true;
		CHECK_FOR_INTERRUPTS();
	}
	PG_FINALLY();
	{
		client_connection_check_interval = user_interval;
	}
	PG_END_TRY();
	return result;
}

/*
 * Wait for a tag by the server's own lock_timeout: timeout milliseconds, or endlessly
 * if that is 0.  Errors: the server's own.
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

/* A wait for a tag in a subtransaction. */
typedef struct TagWait
{
	const LOCKTAG *tag;
	int			timeout;		/* as above */
} TagWait;

static void
wait_tag_and_check(void *arg)
{
	const TagWait *wait = arg;

	wait_tag(wait->tag, wait->timeout);
	CHECK_FOR_INTERRUPTS();
}

/*
 * The same, but return false if the time is over.
 *
 * The time can be over in the very moment in which the lock is granted.  The server
 * may then report it only at the next check for interrupts, so there is one in
 * wait_tag_and_check(); the abort of the subtransaction releases what was granted.
 */
static bool
wait_tag_timeout(const LOCKTAG *tag, int timeout)
{
	TagWait		wait = {tag, timeout};
	ErrorData  *error = tfstate_in_subtransaction(wait_tag_and_check, &wait, true);

	if (error == NULL)
		return true;
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

/*
 * Wait for a tag within the limit.
 */
static bool
wait_tag_within(const LOCKTAG *tag, const WaitLimit *limit)
{
	bool		granted = false;

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

		/*
		 * Treat this as a timeout even if the clock disagrees; waiting again
		 * would put us last.
		 */
		if (!granted && left <= INT_MAX * INT64CONST(1000))
			return tfstate_try_tag(tag);
	}
	return true;
}

/*
 * Wait for a tag.  Returns true if we have it, false if the time is over.  Errors: the
 * server's own for a cancel, for a deadlock, and for the user's lock_timeout.
 */
bool
tfstate_wait_tag(const LOCKTAG *tag, const WaitLimit *limit)
{
	return wait_watched(wait_tag_within, tag, limit);
}

/*
 * Sleep on the latch, at most for a second.
 */
static bool
sleep_on_latch(const LOCKTAG *unused, const WaitLimit *limit)
{
	int64		left = time_left(limit);

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min(to_msecs(left), HEAD_POLL_MS), PG_WAIT_EXTENSION);
	return true;
}

/*
 * For a transaction that has ended or, as a subtransaction, been released, return the
 * transaction whose end decides about what it did, or an invalid one if that is
 * decided.
 *
 * The snapshot keeps the data that is looked up from being truncated.
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
 * Wait in the lock manager until it is decided whether a transaction has taken
 * effect.  It can be a subtransaction.  After that has been released its parent
 * decides, which need not be the topmost transaction: a rollback to a savepoint
 * decides, too.
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
 * To be called before and after a wait that owns the lock tag.  While this session
 * has the waiter tag, too, it is shown as a waiter.
 *
 * If another session still has the waiter tag without the lock tag, its transaction
 * is being aborted: the server releases the two one after the other.
 */
static void
begin_first_wait(const LOCKTAG *lock_tag)
{
	LOCKTAG		waiter_tag = tfstate_waiter_tag(lock_tag);

	(void) acquire_tag(&waiter_tag, true);
}

static void
end_first_wait(const LOCKTAG *lock_tag)
{
	LOCKTAG		waiter_tag = tfstate_waiter_tag(lock_tag);

	tfstate_release_tag(&waiter_tag);
}

/*
 * Owning the lock tag, wait until the row of the lockid may have changed, or its lease
 * has expired at expires_at (DT_NOEND if there is none).
 *
 * If a transaction is changing the row (changing is valid), wait for that in the lock
 * manager, which detects a deadlock if it waits for us.
 */
void
tfstate_wait_as_first(const LOCKTAG *lock_tag, TransactionId changing,
					  TimestampTz expires_at, const WaitLimit *limit)
{
	WaitLimit	until = *limit;

	if (expires_at != DT_NOEND)
		until.give_up = Min(until.give_up,
							monotonic_now() + Max(expires_at - GetCurrentTimestamp(), 0));
	begin_first_wait(lock_tag);
	if (TransactionIdIsValid(changing))
		wait_for_transaction(changing, &until);
	else
		(void) wait_watched(sleep_on_latch, NULL, &until);
	end_first_wait(lock_tag);
}

/*
 * Owning the lock tag, wait for another tag as tfstate_wait_tag() does.
 */
bool
tfstate_wait_tag_as_first(const LOCKTAG *lock_tag, const LOCKTAG *tag,
						  const WaitLimit *limit)
{
	bool		granted;

	begin_first_wait(lock_tag);
	granted = tfstate_wait_tag(tag, limit);
	end_first_wait(lock_tag);
	return granted;
}
