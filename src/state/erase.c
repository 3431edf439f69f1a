/*-------------------------------------------------------------------------
 *
 * erase.c
 *	  Erasing the texts of versions for good.
 *
 * A version that is erased keeps its row, which says when, by whom and why, and what else is
 * known of the write; the text and its digests go.  A version that stays and is a delta to
 * one that goes becomes a full copy first.  All of that is one transaction, under the version
 * tag.
 *
 * The version whose state is in the table is not erased: the text would still be there, and
 * the next write is compared with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/catalog.h"
#include "common/limits.h"
#include "common/lockid.h"
#include "common/privilege.h"
#include "common/text.h"
#include "common/workspace.h"
#include "lock/info.h"
#include "state/record.h"
#include "state/restore.h"
#include "state/version.h"

PG_FUNCTION_INFO_V1(tfstate_erase);

/* What to erase. */
typedef struct Selection
{
	bool		all;			/* all that can be */
	int64	   *numbers;		/* else these, in order */
	int			count;
	int64		current;		/* the version in the table, 0 for none */
} Selection;

static int
compare_numbers(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/*
 * Set the numbers from the argument, each once.  Without one, all are selected.
 */
static void
numbers_argument(FunctionCallInfo fcinfo, int argument, Selection *selection)
{
	Datum	   *datums;
	bool	   *nulls;
	int			count;

	selection->all = PG_ARGISNULL(argument);
	if (selection->all)
		return;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), INT8OID, sizeof(int64), true,
					  TYPALIGN_DOUBLE, &datums, &nulls, &count);
	selection->numbers = palloc_array(int64, count + 1);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("number of a version must not be null")));
		selection->numbers[i] = DatumGetInt64(datums[i]);
	}
	qsort(selection->numbers, count, sizeof(int64), compare_numbers);
	for (int i = 0; i < count; i++)
	{
		if (selection->count == 0 ||
			selection->numbers[selection->count - 1] != selection->numbers[i])
			selection->numbers[selection->count++] = selection->numbers[i];
	}
}

/* Return true if a version is to be erased. */
static bool
is_selected(const Selection *selection, int64 number)
{
	if (selection->all)
		return number != selection->current;
	return bsearch(&number, selection->numbers, selection->count, sizeof(int64),
				   compare_numbers) != NULL;
}

/*
 * Error unless all numbers that were named are those of versions that can be erased.
 */
static void
check_selection(const char *lockid, const Selection *selection)
{
	Version		version;

	for (int i = 0; i < selection->count; i++)
	{
		int64		number = selection->numbers[i];

		CHECK_FOR_INTERRUPTS();
		if (!tfstate_find_version(lockid, number, &version))
			tfstate_raise_no_version(lockid, number);
		if (number == selection->current)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("version %lld of workspace \"%s\" is its current state",
							(long long) number, tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
					 errhint("Write another state first, or delete the workspace.")));
	}
}

/*
 * Make a version that stays independent of the one before, which goes.  Error if it is
 * damaged.
 */
static void
rebase(const char *lockid, const VersionReader *reader)
{
	if (reader->text.data == NULL || !tfstate_version_is(&reader->version, &reader->text))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("version %lld of workspace \"%s\" depends on one that is to be erased, and is damaged",
						(long long) VERSION_INT64(&reader->version, number),
						tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
				 errhint("Erase it, too, or call tfstate_repair() first if it is the current state.")));
	tfstate_make_full(&reader->version, &reader->text);
}

static bool
is_delta(const Version *version)
{
	return !VERSION_NULL(version, chain) && DatumGetInt32(VERSION_DATUM(version, chain)) > 0;
}

/*
 * Collect the versions that are selected and have a text, as a list of Version without their
 * contents, and make those that stay independent of them.
 */
static List *
collect(const char *lockid, const Selection *selection)
{
	int64		first = selection->all ? 0 : selection->numbers[0];
	int64		last = selection->all ? PG_INT64_MAX : selection->numbers[selection->count - 1];
	List	   *erased = NIL;
	bool		after = false;	/* behind one that goes? */
	bool		intact;
	VersionReader reader;

	tfstate_open_versions(&reader, lockid, first, NULL);
	while (tfstate_next_version(&reader, &intact))
	{
		int64		number = VERSION_INT64(&reader.version, number);
		Version    *copy;

		if (number > last && !after)
			break;
		if (!is_selected(selection, number))
		{
			if (after && is_delta(&reader.version))
				rebase(lockid, &reader);
			after = false;
			continue;
		}
		after = true;
		/* a deletion has none, nor has one that is erased already */
		if (VERSION_NULL(&reader.version, size) || !VERSION_NULL(&reader.version, erased_at))
			continue;
		copy = palloc(sizeof(Version));
		*copy = reader.version;
		VERSION_NULL(copy, content) = true;
		erased = lappend(erased, copy);
	}
	tfstate_close_versions(&reader);
	return erased;
}

/*
 * Erase a version.
 */
static void
erase(Relation rel, Version *version, const char *reason)
{
	VERSION_NULL(version, content) = true;
	VERSION_NULL(version, chain) = true;
	VERSION_NULL(version, sha256) = true;
	VERSION_NULL(version, md5) = true;
	VERSION_NULL(version, erased_at) = false;
	VERSION_DATUM(version, erased_at) = TimestampTzGetDatum(GetCurrentTimestamp());
	VERSION_NULL(version, erased_by) = false;
	VERSION_DATUM(version, erased_by) = CStringGetTextDatum(tfstate_actor());
	VERSION_NULL(version, erase_reason) = false;
	VERSION_DATUM(version, erase_reason) = CStringGetTextDatum(reason);
	CatalogTupleUpdate(rel, &version->tid,
					   heap_form_tuple(RelationGetDescr(rel), version->values, version->nulls));
}

/* The reason.  Error if there is none. */
static char *
reason_argument(FunctionCallInfo fcinfo, int argument)
{
	char	   *reason = PG_ARGISNULL(argument) ? "" :
		text_to_cstring(PG_GETARG_TEXT_PP(argument));

	if (*reason == '\0' || strlen(reason) > TFSTATE_MAX_REASON)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("erasing versions needs a reason of 1 to %d bytes", TFSTATE_MAX_REASON)));
	return reason;
}

/*
 * tfstate_erase(workspace text, versions bigint[], reason text) returns bigint
 *
 * Returns the number of versions that were erased.
 */
Datum
tfstate_erase(PG_FUNCTION_ARGS)
{
	Selection	selection = {0};
	char	   *lockid;
	char	   *reason;
	Relation	rel;
	Version		newest;
	List	   *erased;
	ListCell   *lc;
	int64		id;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("workspace must not be null")));
	tfstate_check_writable("tfstate_erase()");
	lockid = text_to_cstring(PG_GETARG_TEXT_PP(0));
	tfstate_check_lockid(lockid);
	numbers_argument(fcinfo, 1, &selection);
	reason = reason_argument(fcinfo, 2);
	tfstate_check_privilege(lockid, "override");

	(void) tfstate_lock_versions(lockid, true);
	/* keeps rows where they are until they are updated */
	rel = tfstate_open(&tfstate_catalog()->version, RowExclusiveLock);
	if (!tfstate_newest_version(lockid, &newest))
		tfstate_raise_no_workspace(lockid);
	if (!VERSION_NULL(&newest, size) && tfstate_workspace_id(lockid, &id))
		selection.current = VERSION_INT64(&newest, number);
	check_selection(lockid, &selection);
	erased = selection.all || selection.count > 0 ? collect(lockid, &selection) : NIL;
	foreach(lc, erased)
		erase(rel, lfirst(lc), reason);
	table_close(rel, NoLock);
	CommandCounterIncrement();
	PG_RETURN_INT64(list_length(erased));
}
