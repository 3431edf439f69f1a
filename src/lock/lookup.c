/*-------------------------------------------------------------------------
 *
 * lookup.c
 *	  Finding rows of the lock tables.
 *
 * The key of both tables is (lockid, fence).  Fences grow (fence.c sees to it that a new
 * one is above all entries of its lockid here, dead ones included), so the newest holding is
 * the last entry of its key, and a backward index scan meets it first.  That keeps a lookup
 * short even where an old snapshot keeps vacuum from removing what many earlier holdings
 * left: the scan sees all row versions, and as soon as it meets a holding that was committed
 * and has been deleted it can stop, since an older one must have been deleted before.  (A
 * unique key on lockid alone would make each insert step over all the dead entries.)  On
 * its way it marks the entry of a row that nobody can see any more as dead, and the next
 * scan skips that.
 *
 * The heap is read directly, not by SQL: it is faster, it sees what is committed now in
 * every isolation level, and no serializable transaction is failed for it.
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
#include "common/pg_prng.h"
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
#include "lock/holding.h"
#include "lock/holding_internal.h"
#include "lock/lookup.h"
#include "lock/session.h"

/*
 * How tables and indexes are locked for looking: as for writing, which most who look
 * go on to do, so that the lock manager has one lock to take.  Who looks says what is
 * unlocked after it: NoLock to keep them locked until the end of the transaction.
 */
#define ROW_LOCK_MODE	RowExclusiveLock

/*
 * Was the tuple's insertion committed (or is it our own), as the snapshot sees
 * it?  If it was and the tuple is not visible, then it has been deleted.
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
 * Have the index scan mark the entry that it is at as dead, for later scans to
 * skip, if nobody can see a version of the row any more.  Index scans do so by
 * themselves, but not with SnapshotAny, which sees all versions.
 *
 * The tuple is what the scan returned last, and its insertion was committed.  Where
 * it is the last of its HOT chain, those before it have been updated for good, and
 * are as dead.  There is nothing left in the chain then that the scan had to look at.
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
 * Error: a lockid has two rows, which the table's trigger would have refused.
 */
static void
raise_two_rows(const char *lockid, Relation rel, int64 newer, int64 older)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("state lock \"%s\" has two rows, with fences %lld and %lld, and nobody can tell who holds it",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
					(long long) newer, (long long) older),
			 errhint("Delete the wrong one: DELETE FROM %s WHERE lockid = %s AND fence = ...",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												RelationGetRelationName(rel)),
					 quote_literal_cstr(lockid))));
}

/*
 * Find the holding of a lockid by the key of a lock table.  *newest is raised to the
 * greatest fence that the key has of the lockid, be that row visible or not.  Error if
 * the row before the newest is there, too.
 */
static bool
find_by_key(Relation rel, const char *lockid, bool durable, Snapshot snapshot,
			Holding *holding, int64 *newest, LOCKMODE unlock)
{
	Relation	index = index_open(durable ? tfstate_catalog()->durable_index :
								   tfstate_catalog()->session_index,
								   ROW_LOCK_MODE);
	int64		deleted_fence = 0;
	bool		found = false;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_lock_lockid, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(lockid));
	scan = systable_beginscan_ordered(rel, index, SnapshotAny, 1, &key);
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
			tfstate_read_holding(tuple, rel, durable, holding);
			tfstate_note_place(holding);
			found = true;
			continue;
		}
		/* The row below the one that was found is looked at, and no other. */
		if (found && fence < HOLDING_INT64(holding, fence))
			break;
		if (inserted_for_good(tuple, snapshot))
		{
			deleted_fence = fence;
			forget_dead_entry(scan, tuple);
		}
	}
	systable_endscan_ordered(scan);
	index_close(index, unlock);
	return found;
}

/*
 * Find the holding of a lockid in one of the lock tables, as of a registered
 * MVCC snapshot.  Returns whether there is one, and raises *newest as above.
 *
 * Where only the other mode is used, the table is empty, and its size says so.
 */
static bool
find_in_table(const char *lockid, bool durable, Snapshot snapshot, Holding *holding,
			  int64 *newest, LOCKMODE unlock)
{
	Relation	rel = table_open(tfstate_lock_table(durable), ROW_LOCK_MODE);
	bool		found;

	found = RelationGetNumberOfBlocks(rel) > 0 &&
		find_by_key(rel, lockid, durable, snapshot, holding, newest, unlock);
	table_close(rel, unlock);
	return found;
}

/*
 * Is what lies where this session wrote or found a row last the holding of a lockid,
 * as of a registered MVCC snapshot?
 */
static bool
find_at_last_place(const char *lockid, Snapshot snapshot, Holding *holding,
				   LOCKMODE unlock)
{
	bool		durable;
	ItemPointerData tid;
	Relation	rel;
	TupleTableSlot *slot;
	bool		found = false;

	if (!tfstate_last_place(lockid, &durable, &tid))
		return false;
	rel = table_open(tfstate_lock_table(durable), ROW_LOCK_MODE);
	slot = table_slot_create(rel, NULL);
	if (ItemPointerGetBlockNumber(&tid) < RelationGetNumberOfBlocks(rel) &&
		table_tuple_fetch_row_version(rel, &tid, SnapshotAny, slot) &&
		table_tuple_satisfies_snapshot(rel, slot, snapshot))
	{
		tfstate_read_holding(ExecFetchSlotHeapTuple(slot, false, NULL), rel, durable, holding);
		found = strcmp(HOLDING_TEXT(holding, lockid), lockid) == 0;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, unlock);
	if (!found)
		tfstate_forget_place();
	return found;
}

/*
 * Find the row of a lockid: of a durable lock or of a session, be it expired or
 * left by a dead session.  There is no more than one that is committed, since who
 * inserts one has K and has deleted what was there.
 *
 * keep_tables is for who goes on to write: the tables stay locked for him.  Nobody
 * must wait for a lock with them, because then he would be in the way of ALTER and
 * REINDEX, and all others behind those.
 *
 * If there is no row, *newest is the greatest fence of the lockid that the keys of the
 * tables still have, 0 for none.
 */
bool
tfstate_find_row(const char *lockid, bool keep_tables, Holding *holding, int64 *newest)
{
	LOCKMODE	unlock = keep_tables ? NoLock : ROW_LOCK_MODE;
	Oid			durable = tfstate_catalog()->durable;
	Snapshot	snapshot;
	bool		found;

	/* before the snapshot: SQL may be about to put in a row, and have locked the table */
	LockRelationOid(durable, ROW_LOCK_MODE);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	*newest = 0;
	found = find_at_last_place(lockid, snapshot, holding, unlock) ||
		find_in_table(lockid, true, snapshot, holding, newest, unlock) ||
		find_in_table(lockid, false, snapshot, holding, newest, unlock);

	UnregisterSnapshot(snapshot);
	if (unlock != NoLock)
		UnlockRelationOid(durable, unlock);
	return found;
}

/*
 * The greatest fence that the durable lock table has of a lockid, in rows that are
 * deleted, too; 0 for none.  *live says whether a row is not deleted, but for one that
 * lies at except, if that is not NULL.  All rows are looked at, those of the command that
 * runs among them, so this is not for hot paths.  The caller keeps others from changing
 * the table.
 */
int64
tfstate_newest_row_fence(const char *lockid, ItemPointer except, bool *live)
{
	Relation	rel = table_open(tfstate_catalog()->durable, AccessShareLock);
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
 * Find who holds a lockid now: a durable row, or a row of a living session.
 * An expired lease is returned too; tfstate_holding_expired() tells.
 */
bool
tfstate_current_holding(const char *lockid, Holding *holding)
{
	int64		newest;

	return tfstate_find_row(lockid, false, holding, &newest) && tfstate_holding_is_live(holding);
}

/*
 * Find a current holding where this session wrote or found it last, and nowhere else.
 */
bool
tfstate_current_holding_again(const char *lockid, Holding *holding)
{
	bool		durable;
	ItemPointerData tid;
	Snapshot	snapshot;
	bool		found;

	if (!tfstate_last_place(lockid, &durable, &tid))
		return false;				/* no need of a snapshot */
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	found = find_at_last_place(lockid, snapshot, holding, ROW_LOCK_MODE);
	UnregisterSnapshot(snapshot);
	return found && tfstate_holding_is_live(holding);
}

/*
 * Find a lock in durable mode that a run has of a workspace which it created, and
 * unlocks with this key.  Returns whether there is one.
 */
bool
tfstate_find_created(const char *run_id, int64 unlock_key, Holding *holding)
{
	Relation	rel = table_open(tfstate_catalog()->durable, AccessShareLock);
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
		tfstate_read_holding(tuple, rel, true, holding);
		found = true;
	}
	tfstate_end_scan(&scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Find the tied holding that this session has under a creation key.  Returns whether
 * there is one.
 */
bool
tfstate_find_tied(int64 creation_key, Holding *holding)
{
	Relation	rel = table_open(tfstate_catalog()->session, AccessShareLock);
	bool		found = false;
	ScanKeyData key;
	TableScan	scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_lock_unlock_key, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(creation_key));
	tfstate_begin_scan(&scan, rel, InvalidOid, NULL, 1, &key);
	while (!found && (tuple = tfstate_next_row(&scan, ForwardScanDirection)) != NULL)
	{
		tfstate_read_holding(tuple, rel, false, holding);
		found = tfstate_holding_is_tied(holding) &&
			tfstate_session_is_mine(HOLDING_INT64(holding, session));
	}
	tfstate_end_scan(&scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Find rows that dead sessions have left: some of them, on a few pages of the table,
 * from where the last look of this session has ended.  The first begins anywhere.
 */
List *
tfstate_dead_holdings(int max_blocks, int max_rows)
{
	Relation	rel = table_open(tfstate_catalog()->session, RowExclusiveLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);
	static BlockNumber next = InvalidBlockNumber;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan_strat(rel, SnapshotAny, 0, NULL, false, false);
	List	   *dead = NIL;

	if (next == InvalidBlockNumber && blocks > 0)
		next = (BlockNumber) pg_prng_uint64_range(&pg_global_prng_state, 0, blocks - 1);
	if (next >= blocks)
		next = 0;
	heap_setscanlimits(scan, next, Min(blocks - next, max_blocks));
	next += max_blocks;
	while (list_length(dead) < max_rows &&
		   table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Holding    *holding;

		CHECK_FOR_INTERRUPTS();
		if (!table_tuple_satisfies_snapshot(rel, slot, snapshot))
			continue;
		holding = palloc(sizeof(Holding));
		tfstate_read_holding(ExecFetchSlotHeapTuple(slot, false, NULL), rel, false, holding);
		if (!tfstate_session_is_alive(HOLDING_INT64(holding, session)))
			dead = lappend(dead, holding);
		if (list_length(dead) == max_rows)
			next = ItemPointerGetBlockNumber(&slot->tts_tid);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return dead;
}
