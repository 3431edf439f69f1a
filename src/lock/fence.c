/*-------------------------------------------------------------------------
 *
 * fence.c
 *	  Fences: numbers that grow with every acquisition, never given out twice.
 *
 * All lockids draw from one sequence, while they have K of the lockid, so the
 * fences of a lockid grow with its acquisitions, in whatever modes.  Nothing
 * has to be kept for a lockid that is free.
 *
 * The sequence is an ordinary one for pg_dump and setval(), but it is advanced
 * here and not by nextval(), for two reasons.  nextval() changes lastval() and
 * currval() of the session, which belong to the user.  And the sequence can stand
 * too low: setval(), rows restored without it, and logical replication, which
 * leaves sequences out, all do that.  So what the tables know of the lockid is
 * looked up: in the lock tables each time, in the history and the versions of the
 * state for each new lockid, batch or setval().  Where the sequence is not above
 * that, it is moved beyond it first.  Thus a fence that was in use is never given
 * out again, and nobody has to mend anything; tfstate_check() still reports such a
 * sequence.
 *
 * A sequence alone does not survive a crash well enough.  It is written to WAL
 * once in 32 values; a session that gets one of the other 31 has nothing to
 * flush, and if the server crashes before the WAL record of the batch reaches
 * the disk, the same values come again.  So nobody sees a fence before its batch
 * is on disk, and on the synchronous standby where there is one.  Only one
 * acquisition in 32 has something to wait for.  It does not matter whether the
 * transaction commits: somebody may have used its fence before.
 *
 * A standby that was not synchronous may lack the last batches when it takes
 * over, and so may a backup that is recovered to a point in time.  Both begin a
 * new timeline, and the first fence of a session on a timeline that
 * tfstate_internal.installation does not name jumps far ahead.  The new timeline is put
 * down in the transaction that takes the lock; until that has committed, the
 * sessions that come first jump once each, which does no harm.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walsender_private.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "lock/fence.h"
#include "lock/flush.h"
#include "lock/tag.h"

/* How many fences one WAL record covers beyond the one that is given out. */
#define BATCH_SIZE		32

/*
 * How far the first fence on a new timeline jumps: more fences than a standby or a
 * backup can be behind, and few enough for billions of jumps.
 */
#define TIMELINE_JUMP	INT64CONST(1000000000)

/*
 * The lockid for which this session has compared history and versions last, and the
 * sequence's place in WAL then.  A session that takes one lock again and again compares
 * them once a batch.
 */
static struct
{
	uint64		hash;
	XLogRecPtr	lsn;
}			checked;

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
				 errmsg("canceling wait for synchronous replication of a fence")));
	UnlockRelationOid(sequence, ShareUpdateExclusiveLock);
}

/*
 * The next value of the sequence, plus jump, and greater than newest.  Also returns
 * the place in WAL of the last record of the sequence.
 *
 * This is what nextval() does with the page, WAL record included.
 */
static int64
advance(Relation sequence, int64 newest, int64 jump, XLogRecPtr *lsn)
{
	Buffer		buffer = ReadBuffer(sequence, 0);
	Page		page = BufferGetPage(buffer);
	HeapTupleData tuple;
	Form_pg_sequence_data data;
	int64		base;
	int64		fence;
	int64		logged;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	tuple.t_len = ItemIdGetLength(PageGetItemId(page, FirstOffsetNumber));
	data = (Form_pg_sequence_data) GETSTRUCT(&tuple);

	base = Max(data->is_called ? data->last_value : Max(data->last_value, 1) - 1, 0);
	logged = data->is_called ? data->log_cnt : 0;
	if (Max(base, newest) > PG_INT64_MAX - jump - 1 - BATCH_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
				 newest >= base ?
				 errmsg("there is no fence above %lld, which the tables know of this state lock",
						(long long) newest) :
				 errmsg("there is no fence above %lld, where sequence \"%s\" stands",
						(long long) base, TFSTATE_INTERNAL ".fence"),
				 newest >= base ?
				 errhint("Delete the row of that fence if it was restored or written by mistake, or use another lockid.") :
				 errhint("If it was set too high, set it to the greatest fence that was given out, with setval(); nothing is given out twice.")));
	fence = Max(base, newest) + jump + 1;
	logged -= fence - base;

	START_CRIT_SECTION();
	MarkBufferDirty(buffer);
	data->is_called = true;
	/* After a checkpoint, recovery would not find the record that covers us. */
	if (logged < 0 || PageGetLSN(page) <= GetRedoRecPtr())
	{
		data->last_value = fence + BATCH_SIZE;
		data->log_cnt = 0;
		PageSetLSN(page, compat_log_sequence(sequence, buffer, &tuple));
		logged = BATCH_SIZE;
	}
	data->last_value = fence;
	data->log_cnt = logged;
	END_CRIT_SECTION();

	*lsn = PageGetLSN(page);
	UnlockReleaseBuffer(buffer);
	if (newest > base)
		ereport(LOG,
				(errmsg("sequence \"%s\" stood at %lld, below fence %lld of a state lock, and was moved on",
						TFSTATE_INTERNAL ".fence", (long long) base,
						(long long) newest)));
	return fence;
}

/*
 * The greatest fence that the history has of a lockid, if that is at least a given one;
 * else 0.  The key tells it; whether the row is still there does not matter.  (The scan
 * reads all entries on a page that fit, so it must not ask for more.)
 */
int64
tfstate_newest_in_history(const char *lockid, int64 least)
{
	Relation	index = index_open(tfstate_catalog()->released_index, AccessShareLock);
	IndexScanDesc scan = compat_index_beginscan(index, SnapshotAny, 2);
	int64		fence = 0;
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(lockid));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(least));
	scan->xs_want_itup = true;
	index_rescan(scan, keys, 2, NULL, 0);
	if (index_getnext_tid(scan, BackwardScanDirection) != NULL)
	{
		bool		isnull;

		fence = DatumGetInt64(index_getattr(scan->xs_itup, 2, scan->xs_itupdesc, &isnull));
	}
	index_endscan(scan);
	index_close(index, AccessShareLock);
	return fence;
}

/*
 * The fence of the newest version of a workspace that has one, 0 for none.
 */
static int64
newest_in_versions(const char *lockid)
{
	Relation	rel = table_open(tfstate_catalog()->version, AccessShareLock);
	Relation	index = index_open(tfstate_catalog()->version_index, AccessShareLock);
	bool		isnull = true;
	Datum		fence = Int64GetDatum(0);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_version_lockid, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(lockid));
	scan = systable_beginscan_ordered(rel, index, SnapshotAny, 1, &key);
	while (isnull && (tuple = systable_getnext_ordered(scan, BackwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		fence = heap_getattr(tuple, Anum_version_fence, RelationGetDescr(rel), &isnull);
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return isnull ? 0 : DatumGetInt64(fence);
}

/*
 * The greatest fence that history and versions have of a lockid, if that is at least a
 * given one.
 */
static int64
newest_recorded(const char *lockid, int64 least)
{
	int64		newest = tfstate_newest_in_history(lockid, least);
	const char *dot = strchr(lockid, '.');

	/* There are versions of <schema>.<table>/<name> only. */
	if (dot != NULL && strchr(dot, '/') != NULL)
		newest = Max(newest, newest_in_versions(lockid));
	return newest;
}

/*
 * A new fence for a lockid, above all that the tables know of it; newest is what the
 * lock tables do.  The caller has K of the lockid.  Errors: no greater number; what
 * interrupts the wait for a synchronous standby.
 */
int64
tfstate_next_fence(const char *lockid, int64 newest)
{
	TimeLineID	timeline = GetWALInsertionTimeLine();
	bool		jump = timeline != tfstate_catalog()->timeline;
	Relation	sequence = relation_open(tfstate_catalog()->fence, RowExclusiveLock);
	XLogRecPtr	lsn;
	int64		fence = advance(sequence, newest, jump ? TIMELINE_JUMP : 0, &lsn);
	uint64		hash = tfstate_private_hash(lockid);

	/* The record of a batch, or of setval(), has another place in WAL. */
	if (lsn != checked.lsn || hash != checked.hash)
	{
		newest = newest_recorded(lockid, fence);
		if (newest >= fence)
			fence = advance(sequence, newest, 0, &lsn);
		checked.lsn = lsn;
		checked.hash = hash;
	}
	make_durable(RelationGetRelid(sequence), lsn);
	relation_close(sequence, NoLock);
	if (jump)
		tfstate_note_timeline(timeline);
	return fence;
}
