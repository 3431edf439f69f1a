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
 * hand until the one who deletes the row wakes it (see xact.c).  Where an open
 * transaction is deleting the row already, it waits for the end of that.
 *
 * A wake-up cannot be lost: the waiter has K before it looks at the row, and
 * who deletes the row looks for the owner of K after that is visible.  What
 * comes without a wake-up (a lease that expires, a latch that somebody else
 * reset) is found by looking again each second; only the first of the queue
 * does that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "tfstate.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/* The longest sleep of the first waiter, in milliseconds. */
#define HEAD_POLL_MS	1000

/* How often a waiter looks whether its client is still there. */
#define CLIENT_CHECK_MS	20000

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
 * Wait for a tag for some milliseconds, by the server's own lock_timeout.
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
	int			user_timeout = LockTimeout;
	volatile bool granted = false;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		LockTimeout = timeout;
		(void) acquire_tag(tag, true);
		CHECK_FOR_INTERRUPTS();
		LockTimeout = user_timeout;
		ReleaseCurrentSubTransaction();
		granted = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		LockTimeout = user_timeout;
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
 * Wait for a tag until a point in time, DT_NOEND for ever.  Returns whether we
 * have it.  Errors: the server's own for a cancel, for a deadlock, and for the
 * user's lock_timeout where that is shorter.
 */
bool
tfstate_wait_tag(const LOCKTAG *tag, TimestampTz deadline)
{
	bool		granted = false;

	prepare_to_wait();
	while (!granted && deadline != DT_NOEND)
	{
		long		rest = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

		if (rest <= 0)
			return tfstate_try_tag(tag);
		if (LockTimeout > 0 && LockTimeout <= rest)
			break;
		granted = wait_tag_timeout(tag, (int) Min(rest, INT_MAX));

		/*
		 * The time is up, whatever the clock says: it can have been set back,
		 * and who waits once more goes to the end of the queue.
		 */
		if (!granted && rest <= INT_MAX)
			return tfstate_try_tag(tag);
	}
	if (!granted)
		(void) acquire_tag(tag, true);
	check_client();
	return true;
}

/*
 * Sleep on the latch until a point in time or for a second.  lock_deadline is
 * where the user's lock_timeout ends; the lock manager does not look after it
 * here.
 */
static void
sleep_on_latch(TimestampTz until, TimestampTz lock_deadline)
{
	TimestampTz now = GetCurrentTimestamp();
	long		timeout;

	if (lock_deadline <= now)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("canceling statement due to lock timeout")));

	timeout = TimestampDifferenceMilliseconds(now, Min(until, lock_deadline));
	timeout = Min(timeout, HEAD_POLL_MS);
	prepare_to_wait();
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout, PG_WAIT_EXTENSION);
	check_client();
}

/*
 * Wait, with K of a lockid in hand, until its row may have changed, at most
 * until a point in time.
 *
 * Where an open transaction is changing the row, wait for that transaction in
 * the lock manager, which finds it out if that one waits for us.
 */
void
tfstate_wait_as_head(const LOCKTAG *key, TransactionId changing,
					 TimestampTz until, TimestampTz lock_deadline)
{
	LOCKTAG		waiting = tfstate_waiting_tag(key);

	/*
	 * Who still has W without K is being aborted: the server releases the one
	 * after the other.
	 */
	(void) acquire_tag(&waiting, true);
	if (TransactionIdIsValid(changing))
	{
		LOCKTAG		transaction;

		SET_LOCKTAG_TRANSACTION(transaction, changing);
		if (tfstate_wait_tag(&transaction, until))
			tfstate_release_tag(&transaction);
	}
	else
		sleep_on_latch(until, lock_deadline);
	tfstate_release_tag(&waiting);
}
