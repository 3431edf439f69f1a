/*-------------------------------------------------------------------------
 *
 * restore.c
 *	  Restoring the texts of recorded versions.
 *
 * The text of a version that is a delta is restored from the text of the version before
 * it (see record.c).  A version that was erased has none (erase.c).  So a reader goes through a chain from its full copy on, and keeps
 * one text at a time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/catalog.h"
#include "common/limits.h"
#include "common/scan.h"
#include "common/text.h"
#include "state/delta.h"
#include "state/restore.h"
#include "state/version.h"

/*
 * The number of the full copy that this version depends on; where a version before it is
 * missing, the number of the one after the gap.
 */
static int64
chain_start(Relation rel, const char *lockid, int64 number, Snapshot as_of)
{
	bool		isnull;
	int64		start = number;
	int64		chain = 1;
	TableScan	scan;
	HeapTuple	tuple;

	tfstate_scan_versions(&scan, rel, lockid, number, BackwardScanDirection, as_of);
	while (chain != 0 && (tuple = tfstate_next_row(&scan, BackwardScanDirection)) != NULL)
	{
		TupleDesc	desc = RelationGetDescr(rel);
		int64		found = DatumGetInt64(heap_getattr(tuple, Anum_version_number, desc, &isnull));

		if (found != number)
			break;
		start = number--;
		/* NULL, of a deletion, comes as 0 */
		chain = DatumGetInt32(heap_getattr(tuple, Anum_version_chain, desc, &isnull));
	}
	tfstate_end_scan(&scan);
	return start;
}

/*
 * Begin to read the versions of a workspace in their order, from the full copy on which
 * the version with the number first depends, as of a snapshot; NULL stands for now.  The
 * caller closes the reader, except after an error.
 */
void
tfstate_open_versions(VersionReader *reader, const char *lockid, int64 first, Snapshot as_of)
{
	Snapshot	snapshot = RegisterSnapshot(as_of ? as_of : tfstate_latest_snapshot());

	memset(reader, 0, sizeof(VersionReader));
	reader->rel = tfstate_open(&tfstate_catalog()->version, AccessShareLock);
	tfstate_scan_versions(&reader->scan, reader->rel, lockid,
						  chain_start(reader->rel, lockid, first, snapshot),
						  ForwardScanDirection, snapshot);
	UnregisterSnapshot(snapshot);
}

/*
 * End reading versions.  The last text and version that were read stay.
 */
void
tfstate_close_versions(VersionReader *reader)
{
	tfstate_end_scan(&reader->scan);
	table_close(reader->rel, AccessShareLock);
}

/*
 * The text of a version, palloc'd; NULL if it cannot be restored.  previous is the text
 * of the version before it, or none where that is not known.
 */
static char *
restore(const Version *version, const StateText *previous)
{
	bool		full;

	if (VERSION_NULL(version, size) || VERSION_NULL(version, chain) ||
		VERSION_NULL(version, content) || VERSION_INT64(version, size) < 0)
		return NULL;
	full = DatumGetInt32(VERSION_DATUM(version, chain)) == 0;
	if (!full && previous->data == NULL)
		return NULL;
	return tfstate_decompress((bytea *) DatumGetPointer(VERSION_DATUM(version, content)),
							  VERSION_INT64(version, size),
							  full ? NULL : previous->data, full ? 0 : previous->len);
}

/* Free what was read of the last version. */
static void
forget_version(VersionReader *reader)
{
	if (reader->text.data)
		pfree(unconstify(char *, reader->text.data));
	if (DatumGetPointer(VERSION_DATUM(&reader->version, content)) &&
		!VERSION_NULL(&reader->version, content))
		pfree(DatumGetPointer(VERSION_DATUM(&reader->version, content)));
	reader->text.data = NULL;
	reader->text.len = 0;
}

static bool
is_deletion(const Version *version)
{
	return strcmp(VERSION_TEXT(version, operation), OPERATION_DELETE) == 0;
}

/*
 * Read the next version, and free what was read of the last one.  Returns false if there
 * is none.
 *
 * Sets *intact if its text could be restored and, with reader->verify, is the one that
 * was written.  A deletion and a version that was erased have no text, and are intact.
 */
bool
tfstate_next_version(VersionReader *reader, bool *intact)
{
	HeapTuple	tuple;
	Version		version;
	StateText	previous = {0};
	StateText	restored = {0};

	tuple = tfstate_next_row(&reader->scan, ForwardScanDirection);
	if (!HeapTupleIsValid(tuple))
		return false;
	tfstate_read_version(tuple, RelationGetDescr(reader->rel), true, &version);
	if (VERSION_INT64(&version, number) - 1 == VERSION_INT64(&reader->version, number))
		previous = reader->text;
	restored.data = restore(&version, &previous);
	restored.len = restored.data ? VERSION_INT64(&version, size) : 0;
	forget_version(reader);
	if (is_deletion(&version))
		*intact = VERSION_NULL(&version, size);
	else if (!VERSION_NULL(&version, erased_at))
		*intact = VERSION_NULL(&version, content);
	else
		*intact = restored.data && (!reader->verify || tfstate_version_is(&version, &restored));
	reader->version = version;
	reader->text = restored;
	return true;
}

/*
 * Raise the error for a version that does not exist.
 */
void
tfstate_raise_no_version(const char *lockid, int64 number)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("version %lld of workspace \"%s\" does not exist", (long long) number,
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
			 errhint("The view tfstate_versions lists the versions.")));
}

/*
 * Restore the text of a version, palloc'd.  Returns false if that cannot be done: the
 * version, or one that it depends on, is damaged; it is a deletion; it does not exist.
 */
bool
tfstate_restore_version(const char *lockid, int64 number, StateText *text)
{
	VersionReader reader;
	bool		intact;

	tfstate_open_versions(&reader, lockid, number, NULL);
	while (tfstate_next_version(&reader, &intact) &&
		   VERSION_INT64(&reader.version, number) < number)
		 /* the next one is a delta to it */ ;
	tfstate_close_versions(&reader);
	*text = reader.text;
	return text->data && VERSION_INT64(&reader.version, number) == number &&
		tfstate_version_is(&reader.version, text);
}

/* Raise the error for a version that was erased. */
static void
raise_erased(const char *lockid, const Version *version)
{
	TimestampTz erased_at = DatumGetTimestampTz(VERSION_DATUM(version, erased_at));

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("version %lld of workspace \"%s\" was erased by %s at %s: %s",
					(long long) VERSION_INT64(version, number),
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
					tfstate_one_line(VERSION_TEXT(version, erased_by), 2 * NAMEDATALEN),
					tfstate_format_time(erased_at),
					tfstate_one_line(VERSION_TEXT(version, erase_reason), TFSTATE_MAX_REASON))));
}

/*
 * The text of a version as it was written, palloc'd, and its length in bytes.
 *
 * Errors: there is no such version; it is a deletion; it was erased; it cannot be restored.
 */
char *
tfstate_version_text(const char *lockid, int64 number, size_t *len)
{
	const char *name = tfstate_one_line(lockid, TFSTATE_MAX_LOCKID);
	StateText text;
	Version		version;

	if (!tfstate_find_version(lockid, number, &version))
		tfstate_raise_no_version(lockid, number);
	if (is_deletion(&version))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("version %lld of workspace \"%s\" is its deletion and has no text",
						(long long) number, name)));
	if (!VERSION_NULL(&version, erased_at))
		raise_erased(lockid, &version);
	if (!tfstate_restore_version(lockid, number, &text))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("version %lld of workspace \"%s\" cannot be restored, because it or one that it depends on is damaged",
						(long long) number, name),
				 errhint("tfstate_verify() lists the versions that are damaged.")));
	*len = text.len;

	return unconstify(char *, text.data);
}
