/*-------------------------------------------------------------------------
 *
 * scan.h
 *	  Scans of tables that see what is committed now.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SCAN_H
#define TFSTATE_SCAN_H

#include "access/genam.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* A scan of a table, see scan.c. */
typedef struct TableScan
{
	SysScanDesc desc;			/* its slot has the row that was returned last */
	Snapshot	snapshot;		/* which rows are returned */
} TableScan;

extern Snapshot tfstate_latest_snapshot(void);
extern void tfstate_begin_scan(TableScan *scan, Relation rel, Oid indexid, Snapshot as_of,
							   int nkeys, ScanKey keys);
extern HeapTuple tfstate_next_row(TableScan *scan, ScanDirection direction);
extern void tfstate_end_scan(TableScan *scan);
extern bool tfstate_fetch_row(Relation rel, ItemPointer place, Snapshot snapshot,
							  TupleTableSlot *slot);

#endif							/* TFSTATE_SCAN_H */
