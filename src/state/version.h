/*-------------------------------------------------------------------------
 *
 * version.h
 *	  The rows of recorded versions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_VERSION_H
#define TFSTATE_VERSION_H

#include "common/catalog.h"
#include "common/scan.h"
#include "storage/itemptr.h"
#include "utils/builtins.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* What a version records. */
#define OPERATION_WRITE		"write"
#define OPERATION_DELETE	"delete"
#define OPERATION_FOUND		"found"

/* One row of tfstate_internal.stored_version, copied out of it. */
typedef struct Version
{
	ItemPointerData tid;		/* where it lies */
	Datum		values[Natts_version];
	bool		nulls[Natts_version];
} Version;

#define VERSION_NULL(v, col)	((v)->nulls[Anum_version_##col - 1])
#define VERSION_DATUM(v, col)	((v)->values[Anum_version_##col - 1])
#define VERSION_INT64(v, col)	DatumGetInt64(VERSION_DATUM(v, col))
#define VERSION_TEXT(v, col)	TextDatumGetCString(VERSION_DATUM(v, col))

/* The text of a state, in the table or on its way there. */
typedef struct StateText
{
	const char *data;			/* NULL for none; not terminated by a zero */
	size_t		len;			/* in bytes */
	const void *toasted;		/* the TOAST pointer that the row has for it,
								 * if that is known; else NULL */
} StateText;

extern void tfstate_read_version(HeapTuple tuple, TupleDesc desc, bool with_content,
								 Version *version);
extern void tfstate_scan_versions(TableScan *scan, Relation rel, const char *lockid,
								  int64 number, ScanDirection direction, Snapshot as_of);
extern bool tfstate_newest_version(const char *lockid, Version *version);
extern bool tfstate_newest_version_as_of(const char *lockid, Snapshot snapshot,
										 Version *version);
extern bool tfstate_find_version(const char *lockid, int64 number, Version *version);
extern bytea *tfstate_digest(const StateText *text);
extern bool tfstate_version_is(const Version *version, const StateText *text);
extern bool tfstate_lock_versions(const char *lockid, bool wait);

#endif							/* TFSTATE_VERSION_H */
