/*-------------------------------------------------------------------------
 *
 * restore.h
 *	  Restoring the texts of recorded versions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_RESTORE_H
#define TFSTATE_RESTORE_H

#include "common/scan.h"
#include "state/version.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* Reads the texts of consecutive versions of a workspace. */
typedef struct VersionReader
{
	Relation	rel;
	TableScan	scan;
	bool		verify;			/* compare each text with its digest */
	Version		version;		/* the last one that was read, content
								 * included */
	StateText text;				/* of that; none for a deletion */
} VersionReader;

extern void tfstate_open_versions(VersionReader *reader, const char *lockid, int64 first,
								  Snapshot as_of);
extern bool tfstate_next_version(VersionReader *reader, bool *intact);
extern void tfstate_close_versions(VersionReader *reader);
extern bool tfstate_restore_version(const char *lockid, int64 number, StateText *text);
extern void tfstate_raise_no_version(const char *lockid, int64 number);
extern char *tfstate_version_text(const char *lockid, int64 number, size_t *len);

#endif							/* TFSTATE_RESTORE_H */
