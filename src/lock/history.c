/*-------------------------------------------------------------------------
 *
 * history.c
 *	  Finished holdings: recorded at the release, pruned later.
 *
 * The row of a finished holding is written in the transaction that deletes the row of the
 * lock, so the two cannot disagree.
 *
 * What is too old or too much is deleted in passing: at the first release of a session and
 * at each 256th after it, at most some hundred rows at a time.  What is too much of the
 * lockid that is released is found by the key.  What is too old, of any lockid, is found by
 * reading a few pages, each time those after the ones before, and from the last page on to
 * the first: an index for that would cost each release more.  Nothing waits for this, and it
 * waits for nothing: a row that another session is changing is skipped.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "common/pg_prng.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "common/scan.h"
#include "common/settings.h"
#include "common/write.h"
#include "lock/history.h"
#include "lock/holding.h"
#include "lock/info.h"
#include "lock/report.h"
#include "lock/tag.h"

/* How many releases of a session lie between two prunings. */
#define PRUNE_EVERY		256

/* How many rows one pruning deletes at most by count; more than come between two. */
#define PRUNE_ROWS		512

/* How many pages one pruning reads, to delete by age. */
#define PRUNE_BLOCKS	32

/*
 * Delete a row, unless another transaction is changing it.
 */
static void
forget(Relation rel, ItemPointer place)
{
	(void) compat_delete_tuple(rel, place, GetCurrentCommandId(true), false);
}

/*
 * Return true if a snapshot sees the row at a place, and its fence if fence is not NULL.  The
 * caller keeps the page in *buffer pinned, which may be InvalidBuffer, and has read the place
 * from an index.  A row that somebody has updated in place counts as not seen.
 */
static bool
is_visible(Relation rel, ItemPointer place, Snapshot snapshot, Buffer *buffer, int64 *fence)
{
	HeapTupleData tuple;
	ItemId		item;
	bool		result = false;

	*buffer = ReleaseAndReadBuffer(*buffer, rel, ItemPointerGetBlockNumber(place));
	LockBuffer(*buffer, BUFFER_LOCK_SHARE);
	item = PageGetItemId(BufferGetPage(*buffer), ItemPointerGetOffsetNumber(place));
	if (ItemIdIsNormal(item))
	{
		bool		isnull;

		tuple.t_tableOid = RelationGetRelid(rel);
		tuple.t_data = (HeapTupleHeader) PageGetItem(BufferGetPage(*buffer), item);
		tuple.t_len = ItemIdGetLength(item);
		tuple.t_self = *place;
		result = HeapTupleSatisfiesVisibility(&tuple, snapshot, *buffer);
		if (result && fence)
			*fence = DatumGetInt64(heap_getattr(&tuple, Anum_lock_fence,
												RelationGetDescr(rel), &isnull));
	}
	LockBuffer(*buffer, BUFFER_LOCK_UNLOCK);
	return result;
}

/*
 * Delete the oldest holdings of a lockid beyond the number that is kept.
 *
 * Only the key is read by an index scan, and the rows page by page: that takes a quarter of
 * the time.
 *
 * The session remembers below which fence it has left nothing of the last lockid, because
 * the scan would step over all rows that are deleted and not yet vacuumed, which can be
 * many under an old snapshot.  Rows that come back after a rollback are left to other
 * sessions.
 */
static void
prune_by_count(Relation rel, Datum lockid, Snapshot snapshot)
{
	static uint64 done_hash = 0;
	static int64 done_below = 0;
	uint64		hash = tfstate_private_hash(TextDatumGetCString(lockid));
	Relation	index = index_open(tfstate_catalog()->released_index, AccessShareLock);
	IndexScanDesc scan = compat_index_beginscan(rel, index, SnapshotAny, 2);
	int64		oldest_kept = 0;	/* or the newest, if none is kept */
	int			seen = 0;
	Buffer		buffer = InvalidBuffer;
	ItemPointer place = NULL;
	ScanKeyData keys[2];

	if (hash != done_hash)
		done_below = 0;
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TEXTEQ, lockid);
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(done_below));
	index_rescan(scan, keys, 2, NULL, 0);
	while (seen - PRUNE_ROWS < tfstate_history_count &&
		   (place = index_getnext_tid(scan, BackwardScanDirection)) != NULL)
	{
		bool		last = (seen + 1 == Max(tfstate_history_count, 1));

		CHECK_FOR_INTERRUPTS();
		if (is_visible(rel, place, snapshot, &buffer, last ? &oldest_kept : NULL) &&
			++seen > tfstate_history_count)
			forget(rel, place);
	}
	if (place == NULL)
	{
		done_hash = hash;
		done_below = oldest_kept;
	}
	if (BufferIsValid(buffer))
		ReleaseBuffer(buffer);
	index_endscan(scan);
	index_close(index, AccessShareLock);
}

/* The point in time in a column of a row that cannot be NULL. */
static TimestampTz
time_of(HeapTuple tuple, int column, Relation rel)
{
	bool		isnull;

	return DatumGetTimestampTz(heap_getattr(tuple, column, RelationGetDescr(rel), &isnull));
}

/*
 * Find the visible rows on a page that were released before a point in time.  Returns how
 * many there are, and their places.
 *
 * Almost all rows are newer, and most show it by when the lock was taken, which is read
 * faster than when it was released.
 */
static int
find_old_rows(Relation rel, BlockNumber block, TimestampTz before, Snapshot snapshot,
			  ItemPointerData *places)
{
	Buffer		buffer = ReadBuffer(rel, block);
	Page		page = BufferGetPage(buffer);
	int			found = 0;
	HeapTupleData tuple;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	tuple.t_tableOid = RelationGetRelid(rel);
	for (OffsetNumber i = FirstOffsetNumber; i <= PageGetMaxOffsetNumber(page); i++)
	{
		ItemId		item = PageGetItemId(page, i);

		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		ItemPointerSet(&tuple.t_self, block, i);
		if (time_of(&tuple, Anum_lock_created, rel) < before &&
			time_of(&tuple, Anum_released_released_at, rel) < before &&
			HeapTupleSatisfiesVisibility(&tuple, snapshot, buffer))
			places[found++] = tuple.t_self;
	}
	UnlockReleaseBuffer(buffer);
	return found;
}

/*
 * Delete the holdings, of any lockid, that were released too long ago and lie on the next
 * pages.  The first ones of a session begin anywhere.
 */
static void
prune_by_age(Relation rel, BlockNumber blocks, Snapshot snapshot)
{
	static BlockNumber next = InvalidBlockNumber;
	TimestampTz before = GetCurrentTimestamp() - tfstate_history_age * USECS_PER_SEC;
	ItemPointerData places[MaxHeapTuplesPerPage];

	if (next == InvalidBlockNumber)
		next = (BlockNumber) pg_prng_uint64_range(&pg_global_prng_state, 0, blocks - 1);
	for (int i = 0; i < Min(blocks, PRUNE_BLOCKS); i++)
	{
		int			found;

		CHECK_FOR_INTERRUPTS();
		if (next >= blocks)
			next = 0;
		found = find_old_rows(rel, next++, before, snapshot, places);
		while (found > 0)
			forget(rel, &places[--found]);
	}
}

/*
 * Delete what need not be kept, of this lockid by count, and of all lockids by age.
 */
static void
prune(Relation rel, Datum lockid)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	if (tfstate_history_count >= 0)
		prune_by_count(rel, lockid, snapshot);
	if (tfstate_history_age >= 0)
		prune_by_age(rel, RelationGetNumberOfBlocks(rel), snapshot);
	UnregisterSnapshot(snapshot);
	CommandCounterIncrement();
}

/*
 * Return true if the end of this holding is recorded, with one of the words HOW_...
 */
static bool
is_recorded(const Holding *holding, const char *how)
{
	switch ((HistoryKind) tfstate_history)
	{
		case HISTORY_NONE:
			return false;
		case HISTORY_DURABLE:
			return holding->durable || !HOLDING_NULL(holding, key) ||
				tfstate_holding_is_tied(holding) || strcmp(how, HOW_FORCE) == 0;
		case HISTORY_ALL:
			break;
	}
	return true;
}

/*
 * Report that a holding has ended, and record it, unless tfstate.history leaves it out.  how is
 * one of the words HOW_..., reason what the administrator gave, or NULL.  The caller has deleted the
 * row of the lock.
 */
void
tfstate_record_release(const Holding *holding, const char *how, const char *reason)
{
	Datum		values[Natts_released];
	bool		nulls[Natts_released];
	static int	releases = 0;
	ItemPointerData place;
	Relation	rel;

	tfstate_report_release(holding, how, reason);
	if (!is_recorded(holding, how))
		return;

	memcpy(values, holding->values, sizeof(holding->values));
	memcpy(nulls, holding->nulls, sizeof(holding->nulls));
	memset(&nulls[Natts_lock], 0, sizeof(nulls) - sizeof(holding->nulls));
	values[Anum_released_mode - 1] = CStringGetTextDatum(holding->durable ? "durable" : "session");
	values[Anum_released_released_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_released_how - 1] = CStringGetTextDatum(how);
	values[Anum_released_released_by - 1] = CStringGetTextDatum(tfstate_actor());
	if (reason)
		values[Anum_released_reason - 1] = CStringGetTextDatum(reason);
	else
		nulls[Anum_released_reason - 1] = true;

	rel = tfstate_open(&tfstate_catalog()->released, RowExclusiveLock);
	tfstate_insert_row(rel, values, nulls, &place);
	CommandCounterIncrement();
	if (releases++ % PRUNE_EVERY == 0)
		prune(rel, HOLDING_DATUM(holding, lockid));
	table_close(rel, NoLock);
}

/*
 * Find the newest finished holding of a lockid: its fence, how it ended (one of the words
 * HOW_..., palloc'd) and, unless released_at is NULL, when.  With a run_id that is not NULL
 * only holdings of that run count.  Returns false if there is none.
 */
bool
tfstate_find_release(const char *lockid, const char *run_id, int64 *fence, char **how,
					 TimestampTz *released_at)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->released, AccessShareLock);
	bool		found = false;
	ScanKeyData key;
	TableScan	scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_lock_lockid, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(lockid));
	tfstate_begin_scan(&scan, rel, tfstate_catalog()->released_index, NULL, 1, &key);
	while (!found && (tuple = tfstate_next_row(&scan, BackwardScanDirection)) != NULL)
	{
		Datum		values[Natts_released];
		bool		nulls[Natts_released];

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		found = run_id == NULL ||
			(!nulls[Anum_lock_run_id - 1] &&
			 strcmp(run_id, TextDatumGetCString(values[Anum_lock_run_id - 1])) == 0);
		if (!found)
			continue;
		*fence = DatumGetInt64(values[Anum_lock_fence - 1]);
		*how = TextDatumGetCString(values[Anum_released_how - 1]);
		if (released_at)
			*released_at = DatumGetTimestampTz(values[Anum_released_released_at - 1]);
	}
	tfstate_end_scan(&scan);
	table_close(rel, AccessShareLock);
	return found;
}
