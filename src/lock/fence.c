/*-------------------------------------------------------------------------
 *
 * fence.c
 *	  Fences: numbers that grow with every acquisition, never given out twice.
 *
 * All lockids draw from one sequence, and a session draws only while it has the lock
 * tag of the lockid.  So the fences of a lockid grow with its acquisitions, in whatever
 * modes, and nothing has to be kept for a lockid that is free.
 *
 * Fences are taken from the sequence in batches, and handed out from shared memory (common/
 * shared.c).  A batch can be used only if nobody sees its fences before it is on disk, and on
 * the synchronous standby if there is one: after a crash the same values would come again.
 * So one session takes it, waits for that, and only then shows it to the others.  Whether
 * its transaction commits does not matter.  What is left of a batch when the server stops is
 * skipped.  The more fences are used, the greater the batches: a batch that was used up is
 * followed by one of twice its size.  So no more is skipped than was used before, and a
 * session waits for the disk once in up to 4,096 fences.
 *
 * Others draw from the sequence, too: nextval(), a session with an older library, and one
 * that has no shared memory.  And setval() changes it.  All of them write a WAL record, because
 * the sequence's page says that none covers further values.  So the LSN of the page is compared
 * for each fence, and if it is not that of the batch, the batch has ended, and the next one
 * begins above what the sequence says then.  (A session that draws for a lockid has its lock
 * tag, so what others have drawn for that before is seen.)  A session without shared memory
 * draws as nextval() does: its WAL record covers 32 further values.
 *
 * The sequence is an ordinary one for pg_dump and setval(), but it is advanced here
 * and not by nextval(), for two reasons.  nextval() changes lastval() and currval() of
 * the session, which belong to the user.  And the sequence can be too low: setval(),
 * rows restored without it, and logical replication, which leaves sequences out, all
 * do that.  So the greatest fence that was given out since the server was started is in
 * shared memory, and the greatest that the tables have of the lockid is looked up: in
 * the lock table each time, in the history and the versions of the state for each new
 * lockid, batch or setval(), and from time to time.  If the sequence is not above that, it
 * is advanced beyond it first.  Thus a fence that was in use is never given out again, and
 * nobody has to repair anything; tfstate_check() still reports such a sequence.
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
#include "storage/spin.h"
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

/* How many fences are taken at once, at first and at most. */
#define MIN_BATCH		32
#define MAX_BATCH		4096

/* How many fences a WAL record covers besides the one that is drawn without shared memory. */
#define LOGGED_AHEAD	32

/*
 * How far the first fence on a new timeline jumps: by more fences than a standby or a
 * backup can be behind, and by few enough for billions of jumps.
 */
#define TIMELINE_JUMP	INT64CONST(1000000000)

/*
 * The lockid for which this session last compared history and versions, the sequence's LSN
 * then, and how many fences it has drawn since.  A session that takes one lock again and again
 * compares them once a batch, or once in so many fences.
 */
static struct
{
	uint64		hash;
	XLogRecPtr	lsn;
	int			uses;
}			checked;

#define CHECK_EVERY		128

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
 * Wait until the synchronous standbys, if there are any, have the WAL of a batch, up to lsn.
 * Error if the wait is canceled.
 *
 * The server expects that no two sessions wait for a standby to have flushed the same
 * LSN, as no two of its commits do.  The sessions of a batch do so one after the other,
 * and all but the first find that it is flushed.
 *
 * The server only warns when a wait for a standby is canceled, since it usually waits
 * for a commit that has happened.  Here nothing has happened yet, and it is an error.
 */
static void
wait_for_standby(Oid sequence, XLogRecPtr lsn)
{
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
 * Take count fences from the sequence: the values from its next one or newest + 1 on, whichever
 * is greater, plus jump.  Returns the first, and the LSN of the sequence's last WAL record.
 * Error if there are no such values.
 *
 * This is what nextval() does with the page, including the WAL record, which covers as many
 * values more as ahead says.  If that is 0, whoever draws next writes another record.
 */
static int64
advance(Relation sequence, int64 newest, int64 jump, int count, int ahead, XLogRecPtr *lsn)
{
	Buffer		buffer = ReadBuffer(sequence, 0);
	Page		page = BufferGetPage(buffer);
	HeapTupleData tuple;
	Form_pg_sequence_data data;
	int64		base;
	int64		first;
	int64		last;
	int64		logged;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	tuple.t_len = ItemIdGetLength(PageGetItemId(page, FirstOffsetNumber));
	data = (Form_pg_sequence_data) GETSTRUCT(&tuple);

	base = Max(data->is_called ? data->last_value : Max(data->last_value, 1) - 1, 0);
	logged = data->is_called ? data->log_cnt : 0;
	if (Max(base, newest) > PG_INT64_MAX - jump - count - ahead)
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
	first = Max(base, newest) + jump + 1;
	last = first + count - 1;
	logged -= last - base;

	START_CRIT_SECTION();
	MarkBufferDirty(buffer);
	data->is_called = true;
	/* After a checkpoint, recovery would not see the record that covers us. */
	if (ahead == 0 || logged < 0 || PageGetLSN(page) <= GetRedoRecPtr())
	{
		data->last_value = last + ahead;
		data->log_cnt = 0;
		PageSetLSN(page, compat_log_sequence(sequence, buffer, &tuple));
		logged = ahead;
	}
	data->last_value = last;
	data->log_cnt = logged;
	END_CRIT_SECTION();

	*lsn = PageGetLSN(page);
	UnlockReleaseBuffer(buffer);
	if (newest > base)
		ereport(LOG,
				(errmsg("sequence \"%s\" was at %lld, below fence %lld of a state lock, and was advanced",
						TFSTATE_INTERNAL ".fence", (long long) base,
						(long long) newest)));
	return first;
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
 * Return the next fence of the batch, or 0 if the batch is used up, has ended, or is not above
 * newest.  lsn is that of the sequence's page, as read after the caller got the lock tag.
 */
static int64
hand_out(TfstateFences *fences, XLogRecPtr lsn, int64 newest)
{
	int64		fence = 0;

	SpinLockAcquire(&fences->mutex);
	if (fences->lsn == lsn && fences->newest < fences->last && newest <= fences->newest)
		fence = ++fences->newest;
	SpinLockRelease(&fences->mutex);
	return fence;
}

/*
 * The same, and return the LSN.  The page is looked for where the taker of the batch has found
 * it; without a lock on the sequence, which may be dropped: then there is no such page.
 */
static int64
hand_out_here(TfstateFences *fences, int64 newest, XLogRecPtr *lsn)
{
	CompatFile	file;
	Buffer		buffer;

	SpinLockAcquire(&fences->mutex);
	file = fences->file;
	buffer = fences->buffer;
	SpinLockRelease(&fences->mutex);
	if (!BufferIsValid(buffer) || !compat_read_recent_buffer(file, 0, buffer))
		return 0;
	*lsn = BufferGetLSNAtomic(buffer);
	ReleaseBuffer(buffer);
	return hand_out(fences, *lsn, newest);
}

/*
 * Note where the page of the sequence is, for hand_out_here().  Returns its LSN.
 */
static XLogRecPtr
find_page(TfstateFences *fences, Relation sequence)
{
	Buffer		buffer = ReadBuffer(sequence, 0);
	XLogRecPtr	lsn = BufferGetLSNAtomic(buffer);

	SpinLockAcquire(&fences->mutex);
	fences->file = compat_file(sequence);
	fences->buffer = buffer;
	SpinLockRelease(&fences->mutex);
	ReleaseBuffer(buffer);
	return lsn;
}

/*
 * End the batch: no session gets a fence of it from here on.  Returns the greatest fence that was
 * given out since the server was started, 0 for none, and the size that the next batch should have.
 */
static int64
end_batch(TfstateFences *fences, int *size)
{
	int64		newest;

	SpinLockAcquire(&fences->mutex);
	newest = fences->newest;
	*size = newest < fences->last ? MIN_BATCH : Min(Max(2 * fences->size, MIN_BATCH), MAX_BATCH);
	fences->lsn = InvalidXLogRecPtr;
	SpinLockRelease(&fences->mutex);
	return newest;
}

/*
 * Show a batch to all sessions, with its first fence given out.
 */
static void
show_batch(TfstateFences *fences, int64 first, int size, XLogRecPtr lsn)
{
	SpinLockAcquire(&fences->mutex);
	fences->newest = first;
	fences->last = first + size - 1;
	fences->size = size;
	fences->lsn = lsn;
	SpinLockRelease(&fences->mutex);
}

/*
 * Take a batch from the sequence, for which no other session waits then, and return its first
 * fence; or that of a batch which another session has taken meanwhile.  Without shared memory
 * (fences is NULL) the batch is one fence.
 */
static int64
take_batch(Relation sequence, TfstateFences *fences, int64 newest, int64 jump, XLogRecPtr *lsn)
{
	int			size = 1;
	int64		fence = 0;

	if (fences)
	{
		LockRelation(sequence, ShareUpdateExclusiveLock);
		*lsn = find_page(fences, sequence);
		if (jump == 0)
			fence = hand_out(fences, *lsn, newest);
	}
	if (fence == 0)
	{
		if (fences)
			newest = Max(newest, end_batch(fences, &size));
		fence = advance(sequence, newest, jump, size, fences ? 0 : LOGGED_AHEAD, lsn);
		if (XLogNeedsFlush(*lsn))
			XLogFlush(*lsn);
		wait_for_standby(RelationGetRelid(sequence), *lsn);
		if (fences)
			show_batch(fences, fence, size, *lsn);
	}
	if (fences)
		UnlockRelation(sequence, ShareUpdateExclusiveLock);
	return fence;
}

/*
 * Draw a fence above newest, from the batch or, with jump, from a new one.  Returns also the LSN
 * up to which the WAL of its batch is on disk.
 */
static int64
draw(int64 newest, int64 jump, XLogRecPtr *lsn)
{
	TfstateShared *shared = tfstate_shared();
	int64		fence = 0;
	Relation	sequence;

	if (shared && jump == 0)
		fence = hand_out_here(&shared->fences, newest, lsn);
	if (fence != 0)
		return fence;
	sequence = tfstate_open(&tfstate_catalog()->fence, RowExclusiveLock);
	shared = tfstate_shared();	/* of the same installation */
	fence = take_batch(sequence, shared ? &shared->fences : NULL, newest, jump, lsn);
	relation_close(sequence, NoLock);
	return fence;
}

/*
 * Return true if all fences that will be given out are greater than this one, whatever
 * happens to the sequence.
 */
bool
tfstate_fence_is_passed(int64 fence)
{
	TfstateShared *shared = tfstate_shared_as_is();
	int64		newest;

	if (shared == NULL)
		return false;
	SpinLockAcquire(&shared->fences.mutex);
	newest = shared->fences.newest;
	SpinLockRelease(&shared->fences.mutex);
	return fence <= newest;
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
	XLogRecPtr	lsn;
	int64		fence = draw(newest, jump ? TIMELINE_JUMP : 0, &lsn);
	uint64		hash = tfstate_private_hash(lockid);

	/* The record of a new batch, or of setval(), has another LSN. */
	if (lsn != checked.lsn || hash != checked.hash || ++checked.uses >= CHECK_EVERY)
	{
		newest = newest_recorded(lockid, fence);
		if (newest >= fence)
			fence = draw(newest, 0, &lsn);
		checked.lsn = lsn;
		checked.hash = hash;
		checked.uses = 0;
	}
	/* since the batch was taken, a standby may have become synchronous */
	wait_for_standby(tfstate_catalog()->fence, lsn);
	if (jump)
		tfstate_note_timeline(timeline);
	return fence;
}
