/*-------------------------------------------------------------------------
 *
 * flush.c
 *	  When a commit waits for disk and standby.
 *
 * A commit that takes or renews a durable lock waits until it is on disk, and on
 * the synchronous standby, whatever synchronous_commit says.
 *
 * An unlock follows the caller's synchronous_commit.  If somebody waits for the
 * lock, it is handed over before the unlock is on disk: the transaction commits
 * as with synchronous_commit = off, wakes the waiter, and only then waits for
 * disk and standby, before control returns to the client.  Nobody can be misled
 * by that.  The waiter's own commit flushes ours with it before a durable lock
 * is acknowledged.  If the server dies before that, a waiter in session mode has
 * lost its lock with the server, and the session that unlocked was not told that
 * it had.  But whatever else the transaction wrote would be seen before it is
 * safe, so this is done only if releases are all that it wrote to WAL.
 *
 * A waiter in durable mode flushes soon after it is woken.  If the session that
 * unlocked flushed at once, the waiter would have to wait for that flush before
 * its own.  So it gives the waiter a moment: then one flush serves both.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "utils/guc.h"

#include "lock/flush.h"

/*
 * A postponed flush waits for the next holder in steps of so many microseconds, no more
 * than so many of them.
 */
#define STEP_USECS	50
#define MAX_STEPS	10

/* Must this transaction's commit wait until it is on disk? */
static bool sync_at_commit = false;

/*
 * Has this transaction written nothing but releases to WAL, up to releases_end,
 * the end of the last one?
 */
static bool wrote_only_releases = true;
static XLogRecPtr releases_end = InvalidXLogRecPtr;

/* synchronous_commit of a commit whose flush is postponed, else off. */
static int	postponed_commit = SYNCHRONOUS_COMMIT_OFF;

/*
 * Raise synchronous_commit for the rest of the transaction, so that its commit
 * waits until it is on disk, and on the synchronous standby.
 */
void
tfstate_raise_synchronous_commit(void)
{
	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		(void) set_config_option("synchronous_commit", "on", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
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

/*
 * Return true if this transaction has called tfstate_sync_at_commit().
 */
bool
tfstate_will_sync(void)
{
	return sync_at_commit;
}

/*
 * To be called before and after a holding is released: what is written to WAL in
 * between is the release.  Until a transaction has an ID it can have written
 * nothing that counts; it can only have pruned pages that it read.
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
 * Before the commit, decide when it waits for disk and standby.  awaited says
 * whether somebody waits for a lock that this transaction releases: then the
 * wait is postponed if possible.
 *
 * For that only the variable is changed.  The setting stays as it is, and with it
 * what SyncRepWaitForLSN() waits for.
 */
void
tfstate_set_flush(bool awaited)
{
	if (sync_at_commit)
	{
		tfstate_raise_synchronous_commit();
		ForceSyncCommit();
	}
	else if (awaited && wrote_only_releases && XactLastRecEnd == releases_end)
	{
		postponed_commit = synchronous_commit;
		synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
	}
}

/* Undo a postponement. */
static void
restore_synchronous_commit(void)
{
	if (postponed_commit != SYNCHRONOUS_COMMIT_OFF)
		synchronous_commit = postponed_commit;
	postponed_commit = SYNCHRONOUS_COMMIT_OFF;
}

/*
 * Give the next holder time to reach its flush.  It is about to do so once somebody has
 * written WAL after our commit.
 */
static void
await_next_flush(void)
{
	int			left = MAX_STEPS;
	bool		written = false;

	while (left-- > 0 && !written && XLogNeedsFlush(XactLastCommitEnd))
	{
		written = GetXLogInsertRecPtr() > XactLastCommitEnd;
		pg_usleep(STEP_USECS);
	}
}

/*
 * After the commit and the hand-over, wait for disk and standby as the commit
 * would have done, if that was postponed.
 */
void
tfstate_flush_postponed(void)
{
	if (postponed_commit == SYNCHRONOUS_COMMIT_OFF)
		return;
	restore_synchronous_commit();
	await_next_flush();
	START_CRIT_SECTION();
	XLogFlush(XactLastCommitEnd);
	END_CRIT_SECTION();
	SyncRepWaitForLSN(XactLastCommitEnd, true);
}

/*
 * Forget a transaction that has ended, however it did.
 */
void
tfstate_reset_flush(void)
{
	restore_synchronous_commit();
	sync_at_commit = false;
	wrote_only_releases = true;
	releases_end = InvalidXLogRecPtr;
}
