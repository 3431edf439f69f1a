/*-------------------------------------------------------------------------
 *
 * scan.c
 *	  Scans of tables that see what is committed now.
 *
 * The heap is read directly, not by SQL: that is faster, sees what is committed now at
 * every isolation level, and makes no serializable transaction fail.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/scan.h"

/*
 * A snapshot of what is committed now, at every isolation level.  Within a parallel query,
 * where none can be taken, it is that of the query.
 */
Snapshot
tfstate_latest_snapshot(void)
{
	return IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot();
}

/*
 * Begin a scan of an open table, in the order of an index or, with InvalidOid, in none.  It
 * finds the rows that match the keys, on columns of the table, and that a snapshot sees:
 * as_of is an MVCC snapshot, NULL for what is committed now, or SnapshotAny for all
 * versions of all rows.
 *
 * Below, the scan always has SnapshotAny, and tfstate_next_row() chooses.  The rows are the
 * same, but no predicate locks are left, for which a serializable transaction could be
 * failed that has nothing to do with our tables.
 */
void
tfstate_begin_scan(TableScan *scan, Relation rel, Oid indexid, Snapshot as_of,
				   int nkeys, ScanKey keys)
{
	if (as_of != SnapshotAny)
		as_of = RegisterSnapshot(as_of ? as_of : tfstate_latest_snapshot());
	scan->snapshot = as_of;
	if (OidIsValid(indexid))
		scan->desc = systable_beginscan_ordered(rel, index_open(indexid, AccessShareLock),
												SnapshotAny, nkeys, keys);
	else
		scan->desc = systable_beginscan(rel, InvalidOid, false, SnapshotAny, nkeys, keys);
}

/*
 * Returns the next row of a scan, valid until the next call; NULL at the end.  Without an
 * index the direction is forward.
 */
HeapTuple
tfstate_next_row(TableScan *scan, ScanDirection direction)
{
	SysScanDesc desc = scan->desc;
	HeapTuple	tuple;

	while ((tuple = desc->irel ? systable_getnext_ordered(desc, direction) :
			systable_getnext(desc)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (table_tuple_satisfies_snapshot(desc->heap_rel, desc->slot, scan->snapshot))
			break;
	}
	return tuple;
}

/*
 * End a scan.  The table stays open.
 */
void
tfstate_end_scan(TableScan *scan)
{
	Relation	index = scan->desc->irel;

	if (index)
	{
		systable_endscan_ordered(scan->desc);
		index_close(index, AccessShareLock);
	}
	else
		systable_endscan(scan->desc);
	if (scan->snapshot != SnapshotAny)
		UnregisterSnapshot(scan->snapshot);
}

/*
 * Fetch the row at a place of an open table into a slot.  Returns false if there is none
 * that the MVCC snapshot sees.  The place may be anything that was read before, even from
 * a table that has been rewritten since: what the row is, the caller must look.
 */
bool
tfstate_fetch_row(Relation rel, ItemPointer place, Snapshot snapshot, TupleTableSlot *slot)
{
	return ItemPointerGetBlockNumber(place) < RelationGetNumberOfBlocks(rel) &&
		table_tuple_fetch_row_version(rel, place, SnapshotAny, slot) &&
		table_tuple_satisfies_snapshot(rel, slot, snapshot);
}
