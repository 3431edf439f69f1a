/*-------------------------------------------------------------------------
 *
 * version.h
 *	  The recorded versions of states.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_VERSION_H
#define TFSTATE_VERSION_H

#include "access/genam.h"
#include "common/catalog.h"
#include "lock/holding.h"
#include "state/facts.h"
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
} StateText;

/* Reads the texts of consecutive versions of a workspace. */
typedef struct VersionReader
{
	Relation	rel;
	Relation	index;
	SysScanDesc scan;
	Snapshot	snapshot;
	bool		verify;			/* compare each text with its digest? */
	Version		version;		/* the last one that was read, content
								 * included */
	StateText text;				/* of that; none for a deletion */
} VersionReader;

extern void tfstate_read_version(HeapTuple tuple, TupleDesc desc, bool with_content,
								 Version *version);
extern SysScanDesc tfstate_scan_versions(Relation rel, Relation index,
										 const char *lockid, int64 number,
										 ScanDirection direction);
extern bool tfstate_newest_version(const char *lockid, Version *version);
extern bool tfstate_newest_version_as_of(const char *lockid, Snapshot snapshot,
										 Version *version);
extern bool tfstate_find_version(const char *lockid, int64 number, Version *version);
extern bool tfstate_version_is(const Version *version, const StateText *text);
extern void tfstate_record_version(const char *lockid, const StateText *before,
								   const StateText *after, const StateFacts *facts,
								   const Holding *holding);
extern bool tfstate_lock_versions(const char *lockid, bool wait);
extern bool tfstate_record_found(const char *lockid, const StateText *found,
								 Version *newest);
extern bool tfstate_restore_version(const char *lockid, int64 number, StateText *text);
extern void tfstate_make_full(const Version *version, const StateText *text);
extern char *tfstate_version_text(const char *lockid, int64 number, size_t *len);
extern void tfstate_open_versions(VersionReader *reader, const char *lockid, int64 first,
								  Snapshot as_of);
extern bool tfstate_next_version(VersionReader *reader, bool *intact);
extern void tfstate_close_versions(VersionReader *reader);

#endif							/* TFSTATE_VERSION_H */
