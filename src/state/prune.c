/*-------------------------------------------------------------------------
 *
 * prune.c
 *	  Pruning old versions.
 *
 * A table says how many versions of a workspace to keep, and for how long; a version
 * that neither of them keeps is deleted.  The oldest version that stays can be a delta to
 * one that is deleted, so it becomes a full copy first, in the same transaction.
 *
 * The newest version always stays, and so does the one before it, for when the
 * newest is the deletion of the workspace.
 *
 * Writes prune, so that a table has no more versions than it is to keep.  For a large
 * state that would cost about as much as the write itself, which stores a small delta
 * where pruning stores a full copy; so only each 32nd version of one does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/attached.h"
#include "common/catalog.h"
#include "common/limits.h"
#include "common/privilege.h"
#include "common/scan.h"
#include "common/settings.h"
#include "common/text.h"
#include "common/workspace.h"
#include "state/prune.h"
#include "state/record.h"
#include "state/restore.h"
#include "state/version.h"

/* The number of versions that always stay. */
#define MIN_VERSIONS	2

/*
 * A write of a state of more bytes prunes only if the number of its version is a multiple
 * of this, so that full copies stay rare.
 */
#define LARGE_STATE		(64 * 1024)
#define PRUNE_EVERY		32

PG_FUNCTION_INFO_V1(tfstate_prune_workspace);

/*
 * The number below which versions are not kept for their number.  Where only an age is
 * given, that keeps only those that always stay.
 */
static int64
count_limit(const Version *newest, const AttachedTable *table)
{
	return VERSION_INT64(newest, number) - Max(table->keep_versions, MIN_VERSIONS) + 1;
}

/*
 * The time before which versions are not kept for their age.  An age of more than a
 * thousand years keeps all of them: how large an interval can be subtracted depends on
 * the date.
 */
static TimestampTz
age_limit(const AttachedTable *table)
{
	Interval	longest = {.month = 1000 * MONTHS_PER_YEAR};

	if (!table->has_keep_age)
		return DT_NOEND;
	if (DatumGetBool(DirectFunctionCall2(interval_gt, IntervalPGetDatum(&table->keep_age),
										 IntervalPGetDatum(&longest))))
		return DT_NOBEGIN;
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
												   TimestampTzGetDatum(GetCurrentTimestamp()),
												   IntervalPGetDatum(&table->keep_age)));
}

/*
 * Find the oldest version that stays.  Returns the number of older ones.
 */
static int64
find_oldest(Relation rel, const char *lockid, Snapshot as_of, const AttachedTable *table,
			const Version *newest, Version *oldest)
{
	int64		below = count_limit(newest, table);
	TimestampTz before = age_limit(table);
	int64		older = 0;
	TableScan	scan;
	HeapTuple	tuple;

	tfstate_scan_versions(&scan, rel, lockid, PG_INT64_MIN, ForwardScanDirection, as_of);
	while ((tuple = tfstate_next_row(&scan, ForwardScanDirection)) != NULL)
	{
		tfstate_read_version(tuple, RelationGetDescr(rel), false, oldest);
		if (VERSION_INT64(oldest, number) >= below ||
			DatumGetTimestampTz(VERSION_DATUM(oldest, created)) >= before)
			break;
		older++;
	}
	tfstate_end_scan(&scan);
	return older;
}

/*
 * Make a version independent of those before it.  Returns false if its text cannot be
 * restored.
 */
static bool
make_full(const char *lockid, const Version *version)
{
	StateText text;

	if (VERSION_NULL(version, chain) || DatumGetInt32(VERSION_DATUM(version, chain)) == 0)
		return true;
	if (!tfstate_restore_version(lockid, VERSION_INT64(version, number), &text))
		return false;
	tfstate_make_full(version, &text);
	return true;
}

/* Delete the oldest versions of a workspace, this many of those that the snapshot sees. */
static void
delete_older(Relation rel, const char *lockid, Snapshot as_of, int64 count)
{
	TableScan	scan;
	HeapTuple	tuple;

	tfstate_scan_versions(&scan, rel, lockid, PG_INT64_MIN, ForwardScanDirection, as_of);
	while (count-- > 0 && (tuple = tfstate_next_row(&scan, ForwardScanDirection)) != NULL)
		CatalogTupleDelete(rel, &tuple->t_self);
	tfstate_end_scan(&scan);
	CommandCounterIncrement();
}

/*
 * Return true if a workspace has versions that need not be kept.
 */
static bool
has_old_versions(const char *lockid, const AttachedTable *table)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->version, AccessShareLock);
	Version		newest;
	Version		oldest;
	bool		result;

	result = tfstate_newest_version(lockid, &newest) &&
		find_oldest(rel, lockid, NULL, table, &newest, &oldest) > 0;
	table_close(rel, AccessShareLock);
	return result;
}

/*
 * Delete the versions of a workspace that need not be kept.  The caller holds its version
 * tag.  Returns how many were deleted: none, with a warning, if the oldest one that stays
 * is damaged, because it may be mended from the older ones.
 */
static int64
prune(const char *lockid, const AttachedTable *table)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->version, RowExclusiveLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int64		count = 0;
	Version		newest;
	Version		oldest;

	if (tfstate_newest_version(lockid, &newest))
		count = find_oldest(rel, lockid, snapshot, table, &newest, &oldest);
	if (count > 0 && !make_full(lockid, &oldest))
	{
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("versions of workspace \"%s\" are not pruned: version %lld is damaged",
						tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
						(long long) VERSION_INT64(&oldest, number))));
		count = 0;
	}
	if (count > 0)
		delete_older(rel, lockid, snapshot, count);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return count;
}

/* Return true if the write of this version does not prune, because of its size. */
static bool
is_left_for_later(const Version *newest)
{
	return !VERSION_NULL(newest, size) && VERSION_INT64(newest, size) > LARGE_STATE &&
		VERSION_INT64(newest, number) % PRUNE_EVERY != 0;
}

/*
 * Prune a workspace that was just written, as its table says.  Does nothing if another
 * transaction is adding or removing its versions.
 */
void
tfstate_prune_in_passing(const char *lockid, const AttachedTable *table)
{
	Version		newest;

	if ((table->keep_versions == 0 && !table->has_keep_age) ||
		!tfstate_newest_version(lockid, &newest) || is_left_for_later(&newest) ||
		!tfstate_lock_versions(lockid, false))
		return;
	(void) prune(lockid, table);
}

/*
 * Error if this transaction has pruned so many workspaces that another version tag could
 * fill the server's lock table.
 */
static void
count_pruned(void)
{
	static TransactionId transaction = InvalidTransactionId;
	static int	count = 0;

	if (transaction != GetTopTransactionId())
		count = 0;
	transaction = GetTopTransactionId();
	if (count >= tfstate_max_session_locks)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many workspaces to prune in one transaction"),
				 errdetail("It has pruned %d, and tfstate.max_session_locks is %d.",
						   count, tfstate_max_session_locks),
				 errhint("Prune them in batches, with CALL tfstate_prune_in_batches().")));
	count++;
}

/*
 * tfstate_internal.prune_workspace(workspace text, keep_versions integer, keep_age interval)
 * returns bigint
 *
 * Returns the number of deleted versions.  With NULL for both limits those of the
 * workspace's table apply.
 */
Datum
tfstate_prune_workspace(PG_FUNCTION_ARGS)
{
	AttachedTable table = {0};
	const char *name;
	char	   *lockid;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	lockid = text_to_cstring(PG_GETARG_TEXT_PP(0));
	tfstate_check_writable("tfstate_prune()");
	if (!PG_ARGISNULL(1))
		table.keep_versions = PG_GETARG_INT32(1);
	if (table.keep_versions < 0 || (!PG_ARGISNULL(1) && table.keep_versions == 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("number of versions to keep must be greater than zero")));
	if (!PG_ARGISNULL(2))
	{
		Interval	zero = {0};

		table.has_keep_age = true;
		table.keep_age = *PG_GETARG_INTERVAL_P(2);
		if (DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(&table.keep_age),
											 IntervalPGetDatum(&zero))))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("age of versions to keep must not be negative")));
	}
	if (PG_ARGISNULL(1) && PG_ARGISNULL(2))
		(void) tfstate_attached_table(tfstate_lockid_table(lockid, &name), &table);
	if ((table.keep_versions == 0 && !table.has_keep_age) || !has_old_versions(lockid, &table))
		PG_RETURN_INT64(0);
	count_pruned();
	(void) tfstate_lock_versions(lockid, true);
	PG_RETURN_INT64(prune(lockid, &table));
}
