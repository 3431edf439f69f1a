/*-------------------------------------------------------------------------
 *
 * record.c
 *	  Recording versions of states.
 *
 * The text of a version is compressed by zstd with the text of the version before as
 * prefix, which makes it a delta.  A chain of deltas begins with a full copy.  A new
 * chain begins when the old one gets long, when a delta would save little (an encrypted
 * state), after a deletion, and when the text that is being replaced is not the one that
 * was recorded last.  In the last case the table was changed without our trigger, and
 * that text is recorded first, as "found".
 *
 * (With deltas against the next newer version instead, each write would have to store a
 * full copy of the new text and to turn the last one into a delta: for a state of 5 MB,
 * half a megabyte of WAL and of dead rows a write, instead of one kilobyte.)
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/catalog.h"
#include "lock/backend.h"
#include "lock/holding.h"
#include "lock/info.h"
#include "state/delta.h"
#include "state/facts.h"
#include "state/record.h"
#include "state/version.h"

/*
 * The most deltas in a chain, and the most bytes of text that they stand for.  To restore
 * the last version takes all of them, at about 10 GB/s.
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

/* Set a column to a text; leave it NULL if that is NULL or empty. */
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
 * Set the text itself: as a delta to base, the chain'th in a row, where that is allowed
 * and saves enough; else as a full copy.  Without a base, which is NULL then, or with
 * chain 0 it is always one.
 */
static void
set_content(Version *version, const StateText *text, const StateText *base, int chain)
{
	bytea	   *content = NULL;

	set_value(version, Anum_version_size, Int64GetDatum((int64) text->len));
	set_bytea(version, Anum_version_sha256, tfstate_digest(text));
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
 * Record who writes, and under which lock, NULL for none.
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
	Relation	rel = tfstate_open(&tfstate_catalog()->version, RowExclusiveLock);
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(rel),
										version->values, version->nulls);

	CatalogTupleInsert(rel, tuple);
	version->tid = tuple->t_self;
	heap_freetuple(tuple);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/*
 * Copy to a deletion the facts of the version that was deleted.
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
 * Record the text that is in the table, which may be none, if it is not the newest
 * version.  The caller holds the version tag, or has locked the table against writes.
 *
 * *newest is the newest version after that.  Returns false if there is none.
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
 * Find the newest version, after which one of a text that replaces before is recorded.
 * Locks the versions, and records before as found if it is a text that was not recorded.
 * Returns false if there is no version.
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
 *
 * before is what was in the table, and differs from after; facts are those of after or,
 * for a deletion, of before; holding is the lock that the write is made under, NULL for
 * none.  Waits for other transactions that add or remove versions of the workspace.
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
 * Make a version, whose text this is, independent of the versions before it.  The caller
 * holds the version tag, and has had stored_version locked since it read the
 * version, so that its row is still where it was.
 */
void
tfstate_make_full(const Version *version, const StateText *text)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->version, RowExclusiveLock);
	Version		full = *version;

	set_value(&full, Anum_version_chain, Int32GetDatum(0));
	set_bytea(&full, Anum_version_content, tfstate_compress(text->data, text->len, NULL, 0));
	CatalogTupleUpdate(rel, &full.tid,
					   heap_form_tuple(RelationGetDescr(rel), full.values, full.nulls));
	table_close(rel, NoLock);
	CommandCounterIncrement();
}
