/*-------------------------------------------------------------------------
 *
 * fence.c
 *	  Fences: numbers that grow with every acquisition, never given out twice.
 *
 * All lockids draw from one sequence, and a session draws only while it has the lock
 * tag of the lockid.  So the fences of a lockid grow with its acquisitions, in whatever
 * modes, and nothing has to be kept for a lockid that is free.
 *
 * The sequence is an ordinary one for pg_dump and setval(), but it is advanced here
 * and not by nextval(), for two reasons.  nextval() changes lastval() and currval() of
 * the session, which belong to the user.  And the sequence can be too low: setval(),
 * rows restored without it, and logical replication, which leaves sequences out, all
 * do that.  So the greatest fence that was given out since the server was started is in
 * shared memory, and the greatest that the tables have of the lockid is looked up: in
 * the lock table each time, in the history and the versions of the state for each new
 * lockid, batch or setval().  If the sequence is not above that, it is advanced beyond
 * it first.  Thus a fence that was in use is never given out again, and nobody has to
 * repair anything; tfstate_check() still reports such a sequence.
 *
 * A sequence alone does not survive a crash well enough.  It is written to WAL once in
 * 32 values.  A session that gets one of the other 31 has nothing to flush, and if the
 * server crashes before the WAL record of the batch reaches the disk, the same values
 * come again.  So nobody sees a fence before its batch is on disk, and on the
 * synchronous standby if there is one.  Only one acquisition in 32 has something to
 * wait for.  Whether the transaction commits does not matter: somebody may have used
 * its fence before.
 *
 * A standby that was not synchronous may lack the last batches when it takes over, and
 * so may a backup that is recovered to a point in time.  Both begin a new timeline, and
 * the first fence of a session on another timeline than tfstate_internal.installation
 * names jumps far ahead.  The new timeline is recorded by the transaction that takes
 * the lock.  Until that has committed, each session that comes meanwhile jumps once,
 * too, which does no harm.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/relscan.h"
#include "access/table.h"
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
#include "common/scan.h"
#include "common/shared.h"
#include "lock/fence.h"
#include "lock/flush.h"
#include "lock/tag.h"

/* How many fences a WAL record covers besides the one that is given out. */
#define BATCH_SIZE		32

/*
 * How far the first fence on a new timeline jumps: by more fences than a standby or a
 * backup can be behind, and by few enough for billions of jumps.
 */
#define TIMELINE_JUMP	INT64CONST(1000000000)

/*
 * The lockid for which this session last compared history and versions, and the
 * sequence's LSN then.  A session that takes one lock again and again compares them
 * once a batch.
 */
static struct
{
	uint64		hash;
	XLogRecPtr	lsn;
}			checked;

/*
 * Return true if the synchronous standbys have flushed WAL up to an LSN.
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
 * Wait until the WAL of a batch, up to lsn, can no longer be lost.  Error if the wait
 * for a standby is canceled.
 *
 * The server expects that no two sessions wait for a standby to have flushed the same
 * LSN, as no two of its commits do.  The sessions of a batch do so one after the other,
 * and all but the first find that it is flushed.
 *
 * The server only warns when a wait for a standby is canceled, since it usually waits
 * for a commit that has happened.  Here nothing has happened yet, and it is an error.
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
 * Advance the sequence to its next value or to newest + 1, whichever is greater, plus
 * jump, and return that.  Also returns the LSN of the sequence's last WAL record.
 * Error if there is no such value.
 *
 * This is what nextval() does with the page, including the WAL record.
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
				 errmsg("cannot give out a fence above %lld, which the tables have of this state lock",
						(long long) newest) :
				 errmsg("cannot give out a fence above %lld, the value of sequence \"%s\"",
						(long long) base, TFSTATE_INTERNAL ".fence"),
				 newest >= base ?
				 errhint("Delete the row of that fence if it was restored or written by mistake, or use another lockid.") :
				 errhint("If the sequence was set too high, set it to the greatest fence that was given out, with setval(); no fence is given out twice.")));
	fence = Max(base, newest) + jump + 1;
	logged -= fence - base;

	START_CRIT_SECTION();
	MarkBufferDirty(buffer);
	data->is_called = true;
	/* After a checkpoint, recovery would not see the record that covers us. */
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
				(errmsg("sequence \"%s\" was at %lld, below fence %lld of a state lock, and was advanced",
						TFSTATE_INTERNAL ".fence", (long long) base,
						(long long) newest)));
	return fence;
}

/*
 * Return the greatest fence that the history has of a lockid if it is not below least,
 * else 0.  The index tells it; whether the row is still there does not matter.  (The
 * scan reads all entries of a page that match, so it must not ask for more.)
 */
int64
tfstate_newest_in_history(const char *lockid, int64 least)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->released, AccessShareLock);
	Relation	index = index_open(tfstate_catalog()->released_index, AccessShareLock);
	IndexScanDesc scan = compat_index_beginscan(rel, index, SnapshotAny, 2);
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
	table_close(rel, AccessShareLock);
	return fence;
}

/*
 * Return the fence of the newest version of a workspace that has one, or 0.
 */
static int64
newest_in_versions(const char *lockid)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->version, AccessShareLock);
	bool		isnull = true;
	Datum		fence = Int64GetDatum(0);
	ScanKeyData key;
	TableScan	scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_version_lockid, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(lockid));
	tfstate_begin_scan(&scan, rel, tfstate_catalog()->version_index, SnapshotAny, 1, &key);
	while (isnull && (tuple = tfstate_next_row(&scan, BackwardScanDirection)) != NULL)
		fence = heap_getattr(tuple, Anum_version_fence, RelationGetDescr(rel), &isnull);
	tfstate_end_scan(&scan);
	table_close(rel, AccessShareLock);
	return isnull ? 0 : DatumGetInt64(fence);
}

/*
 * Return the greatest fence that history and versions have of a lockid.  It counts only
 * if it is not below least.
 */
static int64
newest_recorded(const char *lockid, int64 least)
{
	int64		newest = tfstate_newest_in_history(lockid, least);
	const char *dot = strchr(lockid, '.');

	/* Only lockids of the form <schema>.<table>/<name> have versions. */
	if (dot != NULL && strchr(dot, '/') != NULL)
		newest = Max(newest, newest_in_versions(lockid));
	return newest;
}

/*
 * Return the greatest fence that was given out since the server was started, 0 if it is not
 * known, or newest if that is greater.
 */
static int64
newest_known(int64 newest)
{
	TfstateShared *shared = tfstate_shared();

	return shared ? Max(newest, (int64) pg_atomic_read_u64(&shared->newest_fence)) : newest;
}

/*
 * Note that a fence was given out.
 */
static void
note_fence(int64 fence)
{
	TfstateShared *shared = tfstate_shared_as_is();
	uint64		before;

	if (shared == NULL)
		return;
	before = pg_atomic_read_u64(&shared->newest_fence);
	while ((int64) before < fence &&
		   !pg_atomic_compare_exchange_u64(&shared->newest_fence, &before, (uint64) fence))
		;
}

/*
 * Return true if all fences that will be given out are greater than this one, whatever
 * happens to the sequence.
 */
bool
tfstate_fence_is_passed(int64 fence)
{
	TfstateShared *shared = tfstate_shared_as_is();

	return shared && fence <= (int64) pg_atomic_read_u64(&shared->newest_fence);
}

/*
 * Return a new fence for a lockid, above all that the tables have of it; newest is the
 * greatest in the lock tables.  The caller has the lock tag of the lockid.  Errors: no
 * greater number is left; the wait for a synchronous standby is canceled.
 */
int64
tfstate_next_fence(const char *lockid, int64 newest)
{
	TimeLineID	timeline = GetWALInsertionTimeLine();
	bool		jump = timeline != tfstate_catalog()->timeline;
	Relation	sequence = tfstate_open(&tfstate_catalog()->fence, RowExclusiveLock);
	XLogRecPtr	lsn;
	int64		fence = advance(sequence, newest_known(newest), jump ? TIMELINE_JUMP : 0, &lsn);
	uint64		hash = tfstate_private_hash(lockid);

	/* The record of a new batch, or of setval(), has another LSN. */
	if (lsn != checked.lsn || hash != checked.hash)
	{
		newest = newest_recorded(lockid, fence);
		if (newest >= fence)
			fence = advance(sequence, newest, 0, &lsn);
		checked.lsn = lsn;
		checked.hash = hash;
	}
	note_fence(fence);
	make_durable(RelationGetRelid(sequence), lsn);
	relation_close(sequence, NoLock);
	if (jump)
		tfstate_note_timeline(timeline);
	return fence;
}
