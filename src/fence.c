/*-------------------------------------------------------------------------
 *
 * fence.c
 *	  Fences: numbers that grow with every acquisition, never given out twice.
 *
 * All lockids draw from one sequence, while they have K of the lockid, so the
 * fences of a lockid grow with its acquisitions, in whatever modes.  Nothing
 * has to be kept for a lockid that is free.
 *
 * A sequence alone does not survive a crash well enough.  It is written to WAL
 * once in 32 values; a session that gets one of the other 31 has nothing to
 * flush, and if the server crashes before the WAL record of the batch reaches
 * the disk, the same values come again.  So nobody sees a fence before its batch
 * is on disk, and on the synchronous standby where there is one.  Only one
 * acquisition in 32 has something to wait for.  It does not matter whether the
 * transaction commits: somebody may have used its fence before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walsender_private.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "tfstate.h"
#include "utils/guc.h"
#include "utils/rel.h"

/*
 * The place in WAL of the last change of the sequence.
 */
static XLogRecPtr
sequence_lsn(Oid sequence)
{
	Relation	rel = relation_open(sequence, NoLock);
	Buffer		buffer = ReadBuffer(rel, 0);
	XLogRecPtr	lsn;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	lsn = PageGetLSN(BufferGetPage(buffer));
	UnlockReleaseBuffer(buffer);
	relation_close(rel, NoLock);
	return lsn;
}

/*
 * Raise synchronous_commit for the rest of the transaction, so that it waits
 * for its commit to be on disk, and on the synchronous standby.
 */
void
tfstate_raise_synchronous_commit(void)
{
	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		(void) set_config_option("synchronous_commit", "on", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/*
 * Has a synchronous standby flushed WAL up to this place?
 */
static bool
is_on_standby(XLogRecPtr lsn)
{
	bool		result;

	LWLockAcquire(SyncRepLock, LW_SHARED);
	result = WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH] >= lsn;
	LWLockRelease(SyncRepLock);
	return result;
}

/*
 * Wait until the WAL of a batch, up to this place, cannot be lost any more.
 *
 * The server expects that no two sessions wait for a standby to have WAL up to the
 * same place, as no two of its commits do.  Those of a batch do it one after the
 * other, and for all but the first it is there.
 *
 * To the server a cancel of the wait for a standby is a mere warning, since what
 * it waits for is usually a commit that has happened.  Here nothing has happened
 * yet, and it is an error.
 */
static void
make_durable(Oid sequence, XLogRecPtr lsn)
{
	if (XLogNeedsFlush(lsn))
		XLogFlush(lsn);
	if (SyncRepStandbyNames == NULL || *SyncRepStandbyNames == '\0' ||
		is_on_standby(lsn))
		return;
	tfstate_raise_synchronous_commit();
	LockRelationOid(sequence, ShareUpdateExclusiveLock);
	HOLD_INTERRUPTS();
	SyncRepWaitForLSN(lsn, true);
	RESUME_INTERRUPTS();
	if (InterruptPending && !is_on_standby(lsn))
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("canceling the wait of a fence for synchronous replication")));
	UnlockRelationOid(sequence, ShareUpdateExclusiveLock);
}

/*
 * A new fence.  The caller has K of the lockid that it is for.
 */
int64
tfstate_next_fence(void)
{
	Oid			sequence = tfstate_catalog()->fence;
	int64		fence = nextval_internal(sequence, false);

	make_durable(sequence, sequence_lsn(sequence));
	return fence;
}
