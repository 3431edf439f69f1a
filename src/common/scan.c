/*-------------------------------------------------------------------------
 *
 * scan.c
 *	  Scans of tables that see what is committed now.
 *
 * The heap is read directly, not by SQL: it is faster, it sees what is committed now in
 * every isolation level, and no serializable transaction is failed for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

#include "common/scan.h"

/*
 * A snapshot of what is committed now, whatever the isolation level.  While a
 * parallel query runs no new one can be taken: then it is that query's.
 */
Snapshot
tfstate_latest_snapshot(void)
{
	return IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot();
}

/*
 * The next row of a scan with SnapshotAny that a registered MVCC snapshot sees.
 *
 * That is what a scan with that snapshot would return, but it leaves no
 * predicate locks, for which a serializable transaction could be failed that
 * has nothing to do with our tables.
 */
HeapTuple
tfstate_next_visible(SysScanDesc scan, Snapshot snapshot)
{
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		CHECK_FOR_INTERRUPTS();
		if (table_tuple_satisfies_snapshot(scan->heap_rel, scan->slot, snapshot))
			break;
	}
	return tuple;
}

/*
 * The same for a scan in the order of its index.
 */
HeapTuple
tfstate_next_in_order(SysScanDesc scan, ScanDirection direction, Snapshot snapshot)
{
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan, direction)))
	{
		CHECK_FOR_INTERRUPTS();
		if (table_tuple_satisfies_snapshot(scan->heap_rel, scan->slot, snapshot))
			break;
	}
	return tuple;
}
