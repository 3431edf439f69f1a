/*-------------------------------------------------------------------------
 *
 * lookup.c
 *	  Finding holdings.
 *
 * The key of durable_lock is (lockid, fence).  Fences grow (fence.c makes each new one
 * greater than all entries of its lockid here, dead ones included), so the newest holding is
 * the last entry of its lockid, and a backward index scan finds it first.  That keeps a
 * lookup short even if an old snapshot keeps vacuum from removing the rows of many earlier
 * holdings: the scan sees all row versions, and it can stop at the first holding that was
 * committed and has been deleted, because older ones must have been deleted before.  (A
 * unique key on lockid alone would make each insert step over all dead entries.)  On its
 * way it marks the entries of rows that no transaction can see any more as dead, and the
 * next scan skips them.
 *
 * Those that some transaction still sees cannot be marked, and the scan would compare all of
 * them that are on the same page, a hundred or more where many sessions want one lock.  So a
 * session remembers the newest holding of one lockid that it knows to have been committed, and
 * looks for that and newer ones only.
 *
 * The heap is read directly, as in src/common/scan.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/catalog.h"
#include "common/limits.h"
#include "common/scan.h"
#include "common/text.h"
#include "lock/fence.h"
#include "lock/holding.h"
#include "lock/holding_internal.h"
#include "lock/lookup.h"
#include "lock/session.h"
#include "lock/session_lock.h"

/*
 * Lock mode for lookups: the writers' mode, because most callers go on to write, and then
 * the lock manager has one lock to take, not two.
 *
 * The argument unlock of the functions below is the mode that is unlocked at the end;
 * NoLock keeps the lock until the end of the transaction.
 */
#define ROW_LOCK_MODE	RowExclusiveLock

/*
 * The newest holding, of all that this session knows, of the lockid that it looked up last.  Its
 * insertion is committed, so older ones have been deleted for good.
 *
 * Newer ones have greater fences, as long as fences are given out; but an administrator can
 * delete the row and insert or update another one.  The trigger on the table announces that
 * as a change of the table (arrival.c), and then this no longer counts.
 */
static struct
{
	uint64		changes;		/* of the catalog, when this was noted */
	int64		fence;			/* 0 for none */
	char		lockid[TFSTATE_MAX_LOCKID + 1];
}			last_known;

/*
 * Note the fence of a tuple of the lockid for last_known.  The tuple's insertion has been
 * found to be committed or our own; changes is from before the look-up.
 */
static void
note_known(const char *lockid, int64 fence, HeapTuple tuple, uint64 changes)
{
	TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

	/* an insertion of our own can be rolled back */
	if (TransactionIdIsNormal(xmin) && TransactionIdIsCurrentTransactionId(xmin))
		return;
	last_known.fence = 0;
	if (!tfstate_fence_is_passed(fence))
		return;
	strlcpy(last_known.lockid, lockid, sizeof(last_known.lockid));
	last_known.changes = changes;
	last_known.fence = fence;
}

/*
 * The fence of the newest holding of the lockid that this session knows, 0 for none.
 */
static int64
known_fence(const char *lockid, uint64 changes)
{
	return last_known.changes == changes && strcmp(last_known.lockid, lockid) == 0 ?
		last_known.fence : 0;
}

/*
 * Return true if the tuple's insertion is committed as of the snapshot, or is our own.  A
 * tuple of which this is true and which is not visible has been deleted.
 */
static bool
inserted_for_good(HeapTuple tuple, Snapshot snapshot)
{
	TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

	if (!TransactionIdIsNormal(xmin))
		return TransactionIdIsValid(xmin);	/* frozen */
	if (TransactionIdIsCurrentTransactionId(xmin))
		return true;
	return !XidInMVCCSnapshot(xmin, snapshot) && TransactionIdDidCommit(xmin);
}

/*
 * Make the index scan mark its current entry as dead, so that later scans skip it, if no
 * transaction can see any version of the row.  Index scans do this by themselves, but not
 * with SnapshotAny, which sees all versions.
 *
 * The tuple is the one that the scan returned last, and its insertion is committed.  If it
 * is the last one of its HOT chain, those before it have been updated by committed
 * transactions and are dead, too, so the scan can skip the rest of the chain.
 */
static void
forget_dead_entry(SysScanDesc scan, HeapTuple tuple)
{
	if (scan->iscan->xactStartedInRecovery ||
		HeapTupleHeaderIsHotUpdated(tuple->t_data) ||
		!HeapTupleIsSurelyDead(tuple, GlobalVisTestFor(scan->heap_rel)))
		return;
	scan->iscan->kill_prior_tuple = true;
	scan->iscan->xs_heap_continue = false;
}

/*
 * Raise the error for a lockid with two rows.  The table's trigger would have refused the
 * second one.
 */
static void
raise_two_rows(const char *lockid, Relation rel, int64 newer, int64 older)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("state lock \"%s\" has two rows, with fences %lld and %lld, so its holder is ambiguous",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
					(long long) newer, (long long) older),
			 errhint("Delete the wrong one: DELETE FROM %s WHERE lockid = %s AND fence = ...",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												RelationGetRelationName(rel)),
					 quote_literal_cstr(lockid))));
}

/*
 * Find the holding of a lockid by the key of durable_lock, as of a registered MVCC snapshot.
 * Returns false if there is none.  *newest is raised to the greatest fence of the lockid
 * that the scan sees, in visible rows or others, or that this session has seen before.  Error
 * if the next older one that the scan sees is visible, too.
 */
static bool
find_by_key(Relation rel, const char *lockid, Snapshot snapshot, Holding *holding,
			int64 *newest, LOCKMODE unlock)
{
	uint64		changes = tfstate_catalog_changes();
	Relation	index = index_open(tfstate_catalog()->durable_index, ROW_LOCK_MODE);
	int64		known = known_fence(lockid, changes);
	int64		deleted_fence = 0;
	bool		found = false;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	*newest = Max(*newest, known);
	ScanKeyInit(&keys[0], Anum_lock_lockid, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(lockid));
	ScanKeyInit(&keys[1], Anum_lock_fence, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(known));
	scan = systable_beginscan_ordered(rel, index, SnapshotAny, known > 0 ? 2 : 1, keys);
	while ((tuple = systable_getnext_ordered(scan, BackwardScanDirection)) != NULL)
	{
		bool		isnull;
		int64		fence = DatumGetInt64(heap_getattr(tuple, Anum_lock_fence,
													   RelationGetDescr(rel), &isnull));

		CHECK_FOR_INTERRUPTS();
		*newest = Max(*newest, fence);
		/* A renewed holding has several versions under one fence. */
		if (fence < deleted_fence && !found)
			break;
		if (table_tuple_satisfies_snapshot(rel, scan->slot, snapshot))
		{
			if (found)
				raise_two_rows(lockid, rel, HOLDING_INT64(holding, fence), fence);
			tfstate_read_holding(tuple, rel, holding);
			tfstate_note_place(lockid, holding);
			note_known(lockid, fence, tuple, changes);
			found = true;
			continue;
		}
		/* After the row that was found, only the next one is looked at. */
		if (found && fence < HOLDING_INT64(holding, fence))
			break;
		if (inserted_for_good(tuple, snapshot))
		{
			deleted_fence = fence;
			if (!found)
				note_known(lockid, fence, tuple, changes);
			forget_dead_entry(scan, tuple);
		}
	}
	systable_endscan_ordered(scan);
	index_close(index, unlock);
	return found;
}

/*
 * Find the durable holding of a lockid where this session last wrote or found a row, as of a
 * registered MVCC snapshot.  Returns false if it is not there.
 */
static bool
find_at_last_place(Relation rel, const char *lockid, Snapshot snapshot, Holding *holding)
{
	uint64		changes = tfstate_catalog_changes();
	bool		durable;
	ItemPointerData tid;
	TupleTableSlot *slot;
	bool		found = false;

	if (!tfstate_last_place(lockid, &durable, &tid) || !durable)
		return false;
	slot = table_slot_create(rel, NULL);
	if (tfstate_fetch_row(rel, &tid, snapshot, slot))
	{
		HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, NULL);

		tfstate_read_holding(tuple, rel, holding);
		found = strcmp(HOLDING_TEXT(holding, lockid), lockid) == 0;
		if (found)
			note_known(lockid, HOLDING_INT64(holding, fence), tuple, changes);
	}
	ExecDropSingleTupleTableSlot(slot);
	if (!found)
		tfstate_forget_place();
	return found;
}

/*
 * Find the row of a lockid in durable_lock.  If only session mode is used, the table is empty,
 * and its size says so.
 *
 * The table is locked before the snapshot is taken: SQL may have locked it to insert a row.
 */
static bool
find_durable(const char *lockid, Holding *holding, int64 *newest, LOCKMODE unlock)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->durable, ROW_LOCK_MODE);
	bool		found = false;

	if (RelationGetNumberOfBlocks(rel) > 0)
	{
		Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

		found = find_at_last_place(rel, lockid, snapshot, holding) ||
			find_by_key(rel, lockid, snapshot, holding, newest, unlock);
		UnregisterSnapshot(snapshot);
	}
	table_close(rel, unlock);
	return found;
}

/*
 * Find the lock of a lockid in session mode, even if its session is dead.
 */
static bool
find_in_session_mode(const char *lockid, Holding *holding, int64 *newest)
{
	if (!tfstate_find_session_lock(lockid, holding, newest))
		return false;
	tfstate_note_place(lockid, holding);
	return true;
}

/*
 * Find the row of a lockid in either mode, even if it is expired or left by a dead session; then
 * *live is false if it is the latter, else true.
 * Returns false if there is none.  At most one is committed, because the session that inserts
 * one owns the lock tag and has deleted the row before.  (At the commit that does both, a
 * durable row can be seen for a moment together with the one that a dead session left; then
 * the durable one counts.)  Error if the durable table has two.
 *
 * Pass keep_tables if the caller will write: the table stays locked until the end of the
 * transaction.  A caller that waits for a lock must not keep it, because it would block
 * ALTER and REINDEX, and with them all others.
 *
 * If there is no row, *newest is the greatest fence of the lockid that the key of the table
 * and the shared memory still have or this session knows, 0 for none.
 */
static bool
find_row(const char *lockid, bool keep_tables, Holding *holding, int64 *newest, bool *live)
{
	Holding		left;
	bool		is_left;

	*newest = 0;
	is_left = find_in_session_mode(lockid, &left, newest);
	*live = is_left && tfstate_holding_is_live(&left);
	if (!*live &&
		find_durable(lockid, holding, newest, keep_tables ? NoLock : ROW_LOCK_MODE))
	{
		*live = true;
		return true;
	}
	if (is_left)
		*holding = left;
	return is_left;
}

/*
 * As find_row(), but without *live.
 */
bool
tfstate_find_row(const char *lockid, bool keep_tables, Holding *holding, int64 *newest)
{
	bool		live;

	return find_row(lockid, keep_tables, holding, newest, &live);
}

/*
 * As tfstate_find_row(), but a row that a dead session has left does not count.
 */
bool
tfstate_find_live_row(const char *lockid, bool keep_tables, Holding *holding)
{
	int64		newest;
	bool		live;

	return find_row(lockid, keep_tables, holding, &newest, &live) && live;
}

/*
 * The greatest fence of a lockid in the durable lock table, deleted rows included; 0 for
 * none.  *live is set to whether there is a row that is not deleted, other than the one at
 * the place except, unless that is NULL.  Rows of the current command count.  All rows of
 * the lockid are read, so this is not for hot paths.  The caller keeps others from changing
 * the table.
 */
int64
tfstate_newest_row_fence(const char *lockid, ItemPointer except, bool *live)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->durable, AccessShareLock);
	int64		newest = 0;
	ScanKeyData key;
	TableScan	scan;
	HeapTuple	tuple;

	*live = false;
	ScanKeyInit(&key, Anum_lock_lockid, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(lockid));
	tfstate_begin_scan(&scan, rel, tfstate_catalog()->durable_index, SnapshotAny, 1, &key);
	while ((tuple = tfstate_next_row(&scan, BackwardScanDirection)) != NULL)
	{
		TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);
		bool		isnull;
		int64		fence = DatumGetInt64(heap_getattr(tuple, Anum_lock_fence,
													   RelationGetDescr(rel), &isnull));

		if (TransactionIdIsNormal(xmin) && !TransactionIdIsCurrentTransactionId(xmin) &&
			!TransactionIdDidCommit(xmin))
			continue;
		newest = Max(newest, fence);
		if ((except == NULL || !ItemPointerEquals(except, &tuple->t_self)) &&
			table_tuple_satisfies_snapshot(rel, scan.desc->slot, SnapshotSelf))
			*live = true;
	}
	tfstate_end_scan(&scan);
	table_close(rel, AccessShareLock);
	return newest;
}

/*
 * Find the current holding of a lockid: a durable one, an expired lease included, or one of
 * a live session.  Returns false if there is none.
 */
bool
tfstate_current_holding(const char *lockid, Holding *holding)
{
	return tfstate_find_live_row(lockid, false, holding);
}

/*
 * The same, but only if this session last wrote or found a row of this lockid, and only where
 * that was.
 */
bool
tfstate_current_holding_again(const char *lockid, Holding *holding)
{
	bool		durable;
	ItemPointerData tid;
	int64		newest = 0;
	Relation	rel;
	Snapshot	snapshot;
	bool		found;

	if (!tfstate_last_place(lockid, &durable, &tid))
		return false;			/* no need of a snapshot */
	if (!durable)
		return tfstate_find_session_lock(lockid, holding, &newest) &&
			tfstate_holding_is_live(holding);
	rel = tfstate_open(&tfstate_catalog()->durable, ROW_LOCK_MODE);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	found = find_at_last_place(rel, lockid, snapshot, holding);
	UnregisterSnapshot(snapshot);
	table_close(rel, ROW_LOCK_MODE);
	return found;
}

/*
 * Find the durable lock of a workspace that this run has created and will unlock with this
 * key.  Returns false if there is none.
 */
bool
tfstate_find_created(const char *run_id, int64 unlock_key, Holding *holding)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->durable, AccessShareLock);
	bool		found = false;
	ScanKeyData keys[2];
	TableScan	scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_lock_unlock_key, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(unlock_key));
	ScanKeyInit(&keys[1], Anum_lock_run_id, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(run_id));
	tfstate_begin_scan(&scan, rel, InvalidOid, NULL, 2, keys);
	if ((tuple = tfstate_next_row(&scan, ForwardScanDirection)) != NULL)
	{
		tfstate_read_holding(tuple, rel, holding);
		found = true;
	}
	tfstate_end_scan(&scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Find the tied holding that this session has under a creation key.  Returns false if there
 * is none.
 */
bool
tfstate_find_tied(int64 creation_key, Holding *holding)
{
	SessionLockScan scan;
	Holding    *tied;
	int64		newest = 0;
	bool		found = false;

	tfstate_begin_session_scan(&scan, 0, false);
	while (!found && (tied = tfstate_next_session_lock(&scan)) != NULL)
		found = tfstate_holding_is_tied(tied) &&
			HOLDING_INT64(tied, unlock_key) == creation_key &&
			tfstate_session_is_mine(HOLDING_INT64(tied, session));
	if (found)
		found = tfstate_find_session_lock(HOLDING_TEXT(tied, lockid), holding, &newest);
	tfstate_end_session_scan(&scan);
	return found;
}
