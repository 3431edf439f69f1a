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
#include "utils/snapshot.h"

extern Snapshot tfstate_latest_snapshot(void);
extern HeapTuple tfstate_next_visible(SysScanDesc scan, Snapshot snapshot);
extern HeapTuple tfstate_next_in_order(SysScanDesc scan, ScanDirection direction,
									   Snapshot snapshot);

#endif							/* TFSTATE_SCAN_H */
