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
 * the disk, the same values come again.  So whoever takes a fence waits at its
 * commit until the batch is on disk, and on the synchronous standby where
 * there is one: see tfstate_fence_at_commit().  Only one acquisition in 32 has
 * something to wait for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "commands/sequence.h"
#include "storage/bufmgr.h"
#include "tfstate.h"
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
 * A new fence.  The caller has K of the lockid that it is for.
 */
int64
tfstate_next_fence(void)
{
	Oid			sequence = tfstate_catalog()->fence;
	int64		fence = nextval_internal(sequence, false);

	tfstate_fence_at_commit(sequence_lsn(sequence));
	return fence;
}
