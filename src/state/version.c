/*-------------------------------------------------------------------------
 *
 * version.c
 *	  The rows of recorded versions.
 *
 * tfstate_internal.stored_version has a row for each write and each deletion of a
 * workspace, under its lockid and a number that grows by one.  Rows are added in the
 * transaction that writes the state (record.c), so a crash or a rollback leaves both or
 * neither.  Only pruning removes rows (prune.c).  Pruning, repair (verify.c) and erasing
 * (erase.c) change one into a full copy of the same text, and erasing removes texts.
 *
 * A transaction that adds, removes or erases versions of a workspace holds the version tag of its
 * lockid until it ends, so that the numbers and the chains of deltas come out right.
 * tfstate_attach(), which adds versions of many workspaces, instead locks their table
 * against writes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "common/sha2.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "common/scan.h"
#include "lock/tag.h"
#include "lock/wait.h"
#include "state/delta.h"
#include "state/version.h"

/* No TOAST pointer has more bytes. */
#define MAX_TOAST_POINTER	32

/*
 * Replace the values of a row by copies in the current memory context, detoasted.
 */
static void
copy_values(TupleDesc desc, Datum *values, const bool *nulls)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (nulls[i])
			continue;
		if (attr->attlen == -1)
			values[i] = PointerGetDatum(PG_DETOAST_DATUM_COPY(values[i]));
		else
			values[i] = datumCopy(values[i], attr->attbyval, attr->attlen);
	}
}

/*
 * Copy a row into the current memory context.  Its content is left out unless the caller
 * wants it: it can be large, and then has to be read from the TOAST table.
 */
void
tfstate_read_version(HeapTuple tuple, TupleDesc desc, bool with_content, Version *version)
{
	version->tid = tuple->t_self;
	heap_deform_tuple(tuple, desc, version->values, version->nulls);
	if (!with_content)
		version->nulls[Anum_version_content - 1] = true;
	copy_values(desc, version->values, version->nulls);
}

/*
 * Begin a scan of the versions of a workspace in the order of their numbers: forward from
 * this number, or backward from it.  as_of is that of
 * tfstate_begin_scan(), and tfstate_next_row() reads them.
 */
void
tfstate_scan_versions(TableScan *scan, Relation rel, const char *lockid, int64 number,
					  ScanDirection direction, Snapshot as_of)
{
	bool		forward = ScanDirectionIsForward(direction);
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], Anum_version_lockid, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(lockid));
	ScanKeyInit(&keys[1], Anum_version_number,
				forward ? BTGreaterEqualStrategyNumber : BTLessEqualStrategyNumber,
				forward ? F_INT8GE : F_INT8LE, Int64GetDatum(number));
	tfstate_begin_scan(scan, rel, tfstate_catalog()->version_index, as_of, 2, keys);
}

/*
 * Find the newest version of a lockid with at most this number, without its content, as
 * of a snapshot; NULL stands for now.  Returns false if there is none.
 */
static bool
find_up_to(const char *lockid, int64 number, Snapshot as_of, Version *version)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->version, AccessShareLock);
	bool		found;
	TableScan	scan;
	HeapTuple	tuple;

	tfstate_scan_versions(&scan, rel, lockid, number, BackwardScanDirection, as_of);
	tuple = tfstate_next_row(&scan, BackwardScanDirection);
	found = HeapTupleIsValid(tuple);
	if (found)
		tfstate_read_version(tuple, RelationGetDescr(rel), false, version);
	tfstate_end_scan(&scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Find the newest version of a workspace, without its content.  Returns false if none
 * was recorded.
 */
bool
tfstate_newest_version(const char *lockid, Version *version)
{
	return find_up_to(lockid, PG_INT64_MAX, NULL, version);
}

/*
 * The same as of a snapshot.
 */
bool
tfstate_newest_version_as_of(const char *lockid, Snapshot snapshot, Version *version)
{
	return find_up_to(lockid, PG_INT64_MAX, snapshot, version);
}

/*
 * Find the version of a workspace with this number, without its content.  Returns false
 * if there is none.
 */
bool
tfstate_find_version(const char *lockid, int64 number, Version *version)
{
	return find_up_to(lockid, number, NULL, version) && VERSION_INT64(version, number) == number;
}

/*
 * The SHA-256 digest of a text, palloc'd.
 *
 * A run writes a state several times, and what it replaces is what it wrote before.  So the
 * last digest of a text in a TOAST table is kept, with its TOAST pointer.  A value there is
 * never changed, and its OID is not given out again before those of the whole server come
 * round.
 */
bytea *
tfstate_digest(const StateText *text)
{
	static char kept[MAX_TOAST_POINTER];	/* of which text it is */
	static char digest[VARHDRSZ + PG_SHA256_DIGEST_LENGTH];
	size_t		size = text->toasted ? VARSIZE_EXTERNAL(text->toasted) : 0;
	bytea	   *result;

	if (size == 0 || size > sizeof(kept))
		return tfstate_sha256(text->data, text->len);
	if (memcmp(kept, text->toasted, size) != 0)
	{
		result = tfstate_sha256(text->data, text->len);
		memcpy(digest, result, sizeof(digest));
		memcpy(kept, text->toasted, size);
		return result;
	}
	result = palloc(sizeof(digest));
	memcpy(result, digest, sizeof(digest));
	return result;
}

/*
 * Return true if this is the text of a version; or, for no text, if the version is a
 * deletion.
 */
bool
tfstate_version_is(const Version *version, const StateText *text)
{
	if (text->data == NULL || VERSION_NULL(version, size))
		return text->data == NULL && VERSION_NULL(version, size);

	if (VERSION_INT64(version, size) != text->len || VERSION_NULL(version, sha256))
		return false;
	return datumIsEqual(VERSION_DATUM(version, sha256),
						PointerGetDatum(tfstate_digest(text)), false, -1);
}

/*
 * Have this transaction be the only one that adds or removes versions of a workspace.
 * Waits for another one that does, or returns false without wait.
 */
bool
tfstate_lock_versions(const char *lockid, bool wait)
{
	LOCKTAG		tag = tfstate_version_tag(lockid);
	WaitLimit	limit;

	tfstate_start_wait(&limit, -1);
	return tfstate_try_tag(&tag) || (wait && tfstate_wait_tag(&tag, &limit));
}
