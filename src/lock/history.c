/*-------------------------------------------------------------------------
 *
 * history.c
 *	  Finished holdings: recorded at the release, pruned later.
 *
 * The row of a finished holding is written in the transaction that deletes the row of the
 * lock, so the two cannot disagree.  What is too old or too much is deleted in passing: at
 * the first release of a session and at each 64th after it, at most some hundred rows at a
 * time.  Nothing waits for this, and it waits for nothing: a row that another session is
 * changing is skipped.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
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
#define PRUNE_EVERY		64

/* How many rows one pruning deletes at most, by count and by age each. */
#define PRUNE_ROWS		128

/*
 * Delete a row, unless another transaction is changing it.
 */
static void
forget(Relation rel, HeapTuple tuple)
{
	(void) compat_delete_tuple(rel, &tuple->t_self, GetCurrentCommandId(true), false);
}

/*
 * Delete the oldest holdings of a lockid beyond the number that is kept.
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
	int64		reached = 0;	/* the oldest kept, or the newest */
	int			seen = 0;
	ScanKeyData keys[2];
	TableScan	scan;
	HeapTuple	tuple = NULL;

	if (hash != done_hash)
		done_below = 0;
	ScanKeyInit(&keys[0], Anum_lock_lockid, BTEqualStrategyNumber, F_TEXTEQ, lockid);
	ScanKeyInit(&keys[1], Anum_lock_fence, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(done_below));
	tfstate_begin_scan(&scan, rel, tfstate_catalog()->released_index, snapshot, 2, keys);
	while (seen - PRUNE_ROWS < tfstate_history_count &&
		   (tuple = tfstate_next_row(&scan, BackwardScanDirection)) != NULL)
	{
		bool		isnull;

		if (seen < Max(tfstate_history_count, 1))
			reached = DatumGetInt64(heap_getattr(tuple, Anum_lock_fence,
												 RelationGetDescr(rel), &isnull));
		if (++seen > tfstate_history_count)
			forget(rel, tuple);
	}
	if (tuple == NULL)
	{
		done_hash = hash;
		done_below = reached;
	}
	tfstate_end_scan(&scan);
}

/*
 * Delete the holdings, of any lockid, that were released too long ago.
 *
 * The session remembers until when it has left nothing, because the scan would step over
 * all rows that are deleted and not yet vacuumed.
 */
static void
prune_by_age(Relation rel, Snapshot snapshot)
{
	static TimestampTz done_until = DT_NOBEGIN;
	TimestampTz cutoff = GetCurrentTimestamp() - tfstate_history_age * USECS_PER_SEC;
	int			seen = 0;
	ScanKeyData keys[2];
	TableScan	scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_released_released_at, BTGreaterEqualStrategyNumber,
				F_TIMESTAMPTZ_GE, TimestampTzGetDatum(done_until));
	ScanKeyInit(&keys[1], Anum_released_released_at, BTLessStrategyNumber,
				F_TIMESTAMPTZ_LT, TimestampTzGetDatum(cutoff));
	tfstate_begin_scan(&scan, rel, tfstate_catalog()->released_at_index, snapshot, 2, keys);
	while (seen++ < PRUNE_ROWS && (tuple = tfstate_next_row(&scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;

		done_until = DatumGetTimestampTz(heap_getattr(tuple, Anum_released_released_at,
													  RelationGetDescr(rel), &isnull));
		forget(rel, tuple);
	}
	tfstate_end_scan(&scan);
}

/*
 * At each PRUNE_EVERY-th call: delete what need not be kept, of this lockid by count, and
 * of all lockids by age.
 */
static void
prune(Relation rel, Datum lockid)
{
	static int	releases = 0;
	Snapshot	snapshot;

	if (releases++ % PRUNE_EVERY != 0)
		return;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	if (tfstate_history_count >= 0)
		prune_by_count(rel, lockid, snapshot);
	if (tfstate_history_age >= 0)
		prune_by_age(rel, snapshot);
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
