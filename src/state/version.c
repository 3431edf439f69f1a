/*-------------------------------------------------------------------------
 *
 * version.c
 *	  The recorded versions of states.
 *
 * tfstate_internal.stored_version has a row for each write and each deletion of a
 * workspace, under its lockid and a number that grows by one.  Rows are added
 * in the transaction that writes the state, so a crash or a rollback leaves either
 * both or none.  Only pruning removes any, and only it and repair change one: into a
 * full copy of the same text.
 *
 * The text of a version is kept as what zstd makes of it with the version
 * before as prefix.  Such a chain begins with a full copy, and a new one is
 * begun when it gets long, when a delta would save little (an encrypted state),
 * after a deletion, and when the text that is being replaced is not the one
 * that was recorded last.  In the last case that text is recorded first, as
 * "found": somebody changed the table without our trigger.
 *
 * (With the deltas the other way round, against the next newer version, each
 * write would have to store a full copy of the new text and to turn the last
 * one into a delta: for a state of 5 MB, half a megabyte of WAL and of dead
 * rows a write, instead of one kilobyte.)
 *
 * Whoever adds or removes versions of a workspace has V of its lockid until the end
 * of the transaction, so that the numbers and chains come out right.  tfstate_attach(),
 * which adds some to many workspaces, keeps all others from writing to their table instead.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "common/limits.h"
#include "common/scan.h"
#include "common/text.h"
#include "lock/backend.h"
#include "lock/holding.h"
#include "lock/info.h"
#include "lock/tag.h"
#include "lock/wait.h"
#include "state/delta.h"
#include "state/facts.h"
#include "state/version.h"

/*
 * A chain has at most so many deltas, and so many bytes of text.  To restore its
 * last version means to go through all of it, at about 10 GB/s.
 */
#define MAX_CHAIN		256
#define MAX_CHAIN_BYTES (INT64CONST(1) << 30)

/* A delta that is not this many times smaller than its text may not pay. */
#define GOOD_RATIO		8

static void
set_value(Version *version, int column, Datum value)
{
	version->values[column - 1] = value;
	version->nulls[column - 1] = false;
}

static void
set_text(Version *version, int column, const char *value)
{
	if (value && *value)
		set_value(version, column, CStringGetTextDatum(value));
}

static void
set_bytea(Version *version, int column, bytea *value)
{
	if (value)
		set_value(version, column, PointerGetDatum(value));
}

/*
 * Copy the values of a row, with all that hangs on them, into the current memory
 * context, each in the place of what points to it.
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
 * Copy a row into the current memory context, its content only if wanted: that
 * can be large, and then lies elsewhere.
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
 * Begin a scan of the versions of a workspace in their order, from a number on or,
 * backward, from a number down.  tfstate_next_in_order() reads them.
 */
SysScanDesc
tfstate_scan_versions(Relation rel, Relation index, const char *lockid, int64 number,
					  ScanDirection direction)
{
	bool		forward = ScanDirectionIsForward(direction);
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], Anum_version_lockid, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(lockid));
	ScanKeyInit(&keys[1], Anum_version_number,
				forward ? BTGreaterEqualStrategyNumber : BTLessEqualStrategyNumber,
				forward ? F_INT8GE : F_INT8LE, Int64GetDatum(number));
	return systable_beginscan_ordered(rel, index, SnapshotAny, 2, keys);
}

/*
 * Find the newest version of a lockid that has at most this number, as of a snapshot, or
 * as of now if that is NULL.  Returns false if there is none.  Its content is left out.
 */
static bool
find_up_to(const char *lockid, int64 number, Snapshot as_of, Version *version)
{
	Relation	rel = table_open(tfstate_catalog()->version, AccessShareLock);
	Relation	index = index_open(tfstate_catalog()->version_index, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(as_of ? as_of : tfstate_latest_snapshot());
	bool		found;
	SysScanDesc scan;
	HeapTuple	tuple;

	scan = tfstate_scan_versions(rel, index, lockid, number, BackwardScanDirection);
	tuple = tfstate_next_in_order(scan, BackwardScanDirection, snapshot);
	found = HeapTupleIsValid(tuple);
	if (found)
		tfstate_read_version(tuple, RelationGetDescr(rel), false, version);
	systable_endscan_ordered(scan);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * The newest version of a workspace, without its content.  Returns false if none
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
 * A version of a workspace, without its content.  Returns false if there is no
 * such version.
 */
bool
tfstate_find_version(const char *lockid, int64 number, Version *version)
{
	return find_up_to(lockid, number, NULL, version) && VERSION_INT64(version, number) == number;
}

/*
 * Is this the text of a version?  For none, is it a deletion?
 */
bool
tfstate_version_is(const Version *version, const StateText *text)
{
	if (text->data == NULL || VERSION_NULL(version, size))
		return text->data == NULL && VERSION_NULL(version, size);

	if (VERSION_INT64(version, size) != text->len || VERSION_NULL(version, sha256))
		return false;
	return datumIsEqual(VERSION_DATUM(version, sha256),
						PointerGetDatum(tfstate_sha256(text->data, text->len)), false, -1);
}

/*
 * Have this transaction be the only one that adds or removes versions of a workspace.
 * Without wait, returns false if another one is at it.
 */
bool
tfstate_lock_versions(const char *lockid, bool wait)
{
	LOCKTAG		tag = tfstate_version_tag(lockid);
	WaitLimit	limit;

	tfstate_start_wait(&limit, -1);
	return tfstate_try_tag(&tag) || (wait && tfstate_wait_tag(&tag, &limit));
}

static void
set_facts(Version *version, const StateFacts *facts)
{
	if (facts->has_serial)
		set_value(version, Anum_version_serial, Int64GetDatum(facts->serial));
	set_text(version, Anum_version_lineage, facts->lineage);
	set_text(version, Anum_version_terraform_version, facts->terraform_version);
	if (facts->valid && !facts->encrypted)
		set_value(version, Anum_version_resources, Int32GetDatum(facts->resources));
}

/*
 * Put down the text itself: as a delta to base unless that is NULL, when it is
 * worth it.
 */
static void
set_content(Version *version, const StateText *text, const StateText *base, int chain)
{
	bytea	   *content = NULL;

	set_value(version, Anum_version_size, Int64GetDatum((int64) text->len));
	set_bytea(version, Anum_version_sha256, tfstate_sha256(text->data, text->len));
	set_bytea(version, Anum_version_md5, tfstate_md5(text->data, text->len));

	if (base && chain > 0 && chain <= MAX_CHAIN && (int64) text->len * chain <= MAX_CHAIN_BYTES)
		content = tfstate_compress(text->data, text->len, base->data, base->len);
	if (content == NULL || VARSIZE(content) > text->len / GOOD_RATIO)
	{
		bytea	   *full = tfstate_compress(text->data, text->len, NULL, 0);

		if (content == NULL || VARSIZE(full) / 2 < VARSIZE(content))
		{
			content = full;
			chain = 0;
		}
	}
	set_value(version, Anum_version_chain, Int32GetDatum(chain));
	set_bytea(version, Anum_version_content, content);
}

/*
 * Put down who writes, and under which lock.
 */
static void
set_writer(Version *version, const Holding *holding)
{
	const char *addr = tfstate_client_addr();

	set_text(version, Anum_version_who, tfstate_caller());
	set_text(version, Anum_version_role, GetUserNameFromId(GetUserId(), false));
	set_text(version, Anum_version_application_name, application_name);
	if (addr)
		set_value(version, Anum_version_client_addr,
				  DirectFunctionCall1(inet_in, CStringGetDatum(addr)));
	if (holding)
	{
		Jsonb	   *info = DatumGetJsonbP(HOLDING_DATUM(holding, info));

		set_text(version, Anum_version_lock_id, HOLDING_TEXT(holding, id));
		set_text(version, Anum_version_lock_who, tfstate_info_get(info, "Who"));
		set_text(version, Anum_version_lock_operation, tfstate_info_get(info, "Operation"));
		set_value(version, Anum_version_fence, HOLDING_DATUM(holding, fence));
	}
}

static void
start_version(Version *version, const char *lockid, int64 number, const char *operation)
{
	memset(version->nulls, true, sizeof(version->nulls));
	set_text(version, Anum_version_lockid, lockid);
	set_value(version, Anum_version_number, Int64GetDatum(number));
	set_text(version, Anum_version_operation, operation);
	set_value(version, Anum_version_created, TimestampTzGetDatum(GetCurrentTimestamp()));
}

static void
insert_version(Version *version)
{
	Relation	rel = table_open(tfstate_catalog()->version, RowExclusiveLock);
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(rel),
										version->values, version->nulls);

	CatalogTupleInsert(rel, tuple);
	version->tid = tuple->t_self;
	heap_freetuple(tuple);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/*
 * Put down of a deletion what there is to know of the version that was deleted.
 */
static void
copy_facts(Version *version, const Version *deleted)
{
	for (int i = Anum_version_serial - 1; i < Anum_version_resources; i++)
	{
		version->values[i] = deleted->values[i];
		version->nulls[i] = deleted->nulls[i];
	}
}

/*
 * Record what is in the table if it is not the newest version.  The caller has V of the
 * lockid, or keeps all others from writing to the table.  Returns whether there is any
 * version, and in *newest the newest one.
 */
bool
tfstate_record_found(const char *lockid, const StateText *found, Version *newest)
{
	Version		version;
	bool		exists;

	exists = tfstate_newest_version(lockid, newest);
	if (exists ? tfstate_version_is(newest, found) : found->data == NULL)
		return exists;
	start_version(&version, lockid, exists ? VERSION_INT64(newest, number) + 1 : 1,
				  found->data ? OPERATION_FOUND : OPERATION_DELETE);
	if (found->data)
	{
		StateFacts	facts;

		tfstate_read_facts(found->data, (int) found->len, &facts);
		set_facts(&version, &facts);
		set_content(&version, found, NULL, 0);
	}
	else
		copy_facts(&version, newest);
	insert_version(&version);
	*newest = version;
	return true;
}

/*
 * The newest version, on which that of a text which replaces before is to be based:
 * where before has no text, whatever there is.  Returns false if there is none.
 */
static bool
find_base(const char *lockid, const StateText *before, Version *newest)
{
	(void) tfstate_lock_versions(lockid, true);
	if (before->data)
		return tfstate_record_found(lockid, before, newest);
	return tfstate_newest_version(lockid, newest);
}

/*
 * Record that a workspace is being written or, where after has no text, deleted.
 * before is what was in the table, and another text; facts is what is known of after
 * or, for a deletion, of before; holding is the lock under which that happens, or NULL.
 */
void
tfstate_record_version(const char *lockid, const StateText *before,
					   const StateText *after, const StateFacts *facts,
					   const Holding *holding)
{
	Version		newest;
	Version		version;
	int64		number = 1;
	int			chain = 0;

	if (find_base(lockid, before, &newest))
	{
		number = VERSION_INT64(&newest, number) + 1;
		if (!VERSION_NULL(&newest, chain))
			chain = DatumGetInt32(VERSION_DATUM(&newest, chain)) + 1;
	}
	start_version(&version, lockid, number,
				  after->data ? OPERATION_WRITE : OPERATION_DELETE);
	set_facts(&version, facts);
	if (after->data)
		set_content(&version, after, before->data ? before : NULL, chain);
	set_writer(&version, holding);
	insert_version(&version);
}

/*
 * The number of the full copy on which a version depends; where the chain is broken, of
 * the version behind the gap.
 */
static int64
chain_start(VersionReader *reader, const char *lockid, int64 number)
{
	SysScanDesc scan = tfstate_scan_versions(reader->rel, reader->index, lockid, number,
											 BackwardScanDirection);
	bool		isnull;
	int64		start = number;
	int64		chain = 1;
	HeapTuple	tuple;

	while (chain != 0 &&
		   HeapTupleIsValid(tuple = tfstate_next_in_order(scan, BackwardScanDirection,
														  reader->snapshot)))
	{
		TupleDesc	desc = RelationGetDescr(reader->rel);
		int64		found = DatumGetInt64(heap_getattr(tuple, Anum_version_number, desc, &isnull));

		if (found != number)
			break;
		start = number--;
		/* NULL, of a deletion, comes as 0 */
		chain = DatumGetInt32(heap_getattr(tuple, Anum_version_chain, desc, &isnull));
	}
	systable_endscan_ordered(scan);
	return start;
}

/*
 * Begin to read the versions of a workspace in their order, from the full copy
 * on which the version numbered first depends, as of a snapshot, or as of now if that is
 * NULL.  The reader is to be closed, but for errors.
 */
void
tfstate_open_versions(VersionReader *reader, const char *lockid, int64 first, Snapshot as_of)
{
	memset(reader, 0, sizeof(VersionReader));
	reader->rel = table_open(tfstate_catalog()->version, AccessShareLock);
	reader->index = index_open(tfstate_catalog()->version_index, AccessShareLock);
	reader->snapshot = RegisterSnapshot(as_of ? as_of : tfstate_latest_snapshot());
	reader->scan = tfstate_scan_versions(reader->rel, reader->index, lockid,
										 chain_start(reader, lockid, first),
										 ForwardScanDirection);
}

void
tfstate_close_versions(VersionReader *reader)
{
	systable_endscan_ordered(reader->scan);
	UnregisterSnapshot(reader->snapshot);
	index_close(reader->index, AccessShareLock);
	table_close(reader->rel, AccessShareLock);
}

/*
 * The text of a version, NULL if it cannot be restored; previous is the text of
 * the version before, none if that is not known.
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
 * Read the next version.  Returns false if there is none.  *intact tells whether
 * its text could be restored and, with reader->verify, is the one that was written.
 * A deletion has no text.
 */
bool
tfstate_next_version(VersionReader *reader, bool *intact)
{
	HeapTuple	tuple;
	Version		version;
	StateText	previous = {0};
	StateText	restored = {0};

	tuple = tfstate_next_in_order(reader->scan, ForwardScanDirection, reader->snapshot);
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
	else
		*intact = restored.data && (!reader->verify || tfstate_version_is(&version, &restored));
	reader->version = version;
	reader->text = restored;
	return true;
}

static void
raise_no_version(const char *lockid, int64 number)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("version %lld of workspace \"%s\" does not exist", (long long) number,
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
			 errhint("The view tfstate_versions lists the versions.")));
}

/*
 * Restore the text of a version.  Returns false if that cannot be done: it is damaged,
 * or is a deletion, or does not exist.
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

/*
 * Make a version, of which this is the text, independent of those before it.  The caller
 * has V of its lockid, and has had the table locked since he read the version.
 */
void
tfstate_make_full(const Version *version, const StateText *text)
{
	Relation	rel = table_open(tfstate_catalog()->version, RowExclusiveLock);
	Version		full = *version;

	set_value(&full, Anum_version_chain, Int32GetDatum(0));
	set_bytea(&full, Anum_version_content, tfstate_compress(text->data, text->len, NULL, 0));
	CatalogTupleUpdate(rel, &full.tid,
					   heap_form_tuple(RelationGetDescr(rel), full.values, full.nulls));
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/*
 * The text of a version as it was written, and its length in bytes.  Errors: there
 * is no such version, it is a deletion, it cannot be restored.
 */
char *
tfstate_version_text(const char *lockid, int64 number, size_t *len)
{
	const char *name = tfstate_one_line(lockid, TFSTATE_MAX_LOCKID);
	StateText text;
	Version		version;

	if (!tfstate_find_version(lockid, number, &version))
		raise_no_version(lockid, number);
	if (is_deletion(&version))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("version %lld of workspace \"%s\" is its deletion and has no text",
						(long long) number, name)));
	if (!tfstate_restore_version(lockid, number, &text))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("version %lld of workspace \"%s\" cannot be restored, because it or one that it depends on is damaged",
						(long long) number, name),
				 errhint("tfstate_verify() lists the versions that are damaged.")));
	*len = text.len;

	return unconstify(char *, text.data);
}
