/*-------------------------------------------------------------------------
 *
 * shared.c
 *	  Memory that the sessions of a database share, without preloading.
 *
 * The first session that needs it makes a segment of dynamic shared memory, which stays until
 * the server restarts.  Sessions find the segment by its handle, which stands in the unlogged
 * sequence tfstate_internal.shared_memory: a value there is seen by others at once, whether or
 * not the transaction commits, and costs no WAL.  The same works on all majors;
 * GetNamedDSMSegment() came with PostgreSQL 17, and what it made would outlive DROP EXTENSION.
 *
 * To find it:
 *
 *	1. Read the handle, and attach to its segment.
 *	2. If there is no such segment, or it is not ours, or its layout is older than the
 *	   library's, make one.
 *	3. Put its handle into the sequence, unless that has changed since step 1; then discard
 *	   the new segment, and begin again.
 *
 * A restart of the server, after a crash too, removes all segments, and the handle is that of
 * none.  (Segments have random handles.  If another one gets the old handle, it does not begin
 * as ours does.)  Sessions that use an older library keep the segment that they have, and one
 * of an older library that comes later uses none.
 *
 * If all that fails, because the server can have no more segments for example, there is a
 * message in the log, and the session goes on without.  So does one where the extension is of
 * an older version, without the sequence.  Callers must work without.
 *
 * A session that meets another installation of the extension than before gives the segment of
 * the dropped one up, which then ends with the last session that uses it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/dsm.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "common/layout.h"
#include "common/shared.h"
#include "common/subtransaction.h"

/* "tfstate" */
#define SHARED_MAGIC	UINT64CONST(0x7466737461746500)

/* The sequence for which the segment was looked up, and the segment; NULL if there is none. */
static Oid	looked_up_for = InvalidOid;
static dsm_segment *segment = NULL;

/* The only row of a sequence, in a page that the caller has locked. */
static Form_pg_sequence_data
sequence_row(Buffer buffer)
{
	Page		page = BufferGetPage(buffer);
	HeapTupleData tuple;

	tuple.t_data = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	return (Form_pg_sequence_data) GETSTRUCT(&tuple);
}

static dsm_handle
read_handle(Relation sequence)
{
	Buffer		buffer = ReadBuffer(sequence, 0);
	dsm_handle	handle;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	handle = (dsm_handle) sequence_row(buffer)->last_value;
	UnlockReleaseBuffer(buffer);
	return handle;
}

/* Replace a handle in the sequence.  Returns false if another session has done so. */
static bool
replace_handle(Relation sequence, dsm_handle before, dsm_handle after)
{
	Buffer		buffer = ReadBuffer(sequence, 0);
	Form_pg_sequence_data row;
	bool		unchanged;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	row = sequence_row(buffer);
	unchanged = (dsm_handle) row->last_value == before;
	if (unchanged)
	{
		row->last_value = after;
		MarkBufferDirty(buffer);
	}
	UnlockReleaseBuffer(buffer);
	return unchanged;
}

/*
 * Attach to the segment with this handle.  Returns NULL if there is none, or it is of no use.
 * Error if only a newer library can use it.
 */
static dsm_segment *
attach(dsm_handle handle)
{
	dsm_segment *found = handle == DSM_HANDLE_INVALID ? NULL : dsm_attach(handle);
	TfstateShared *shared = found ? dsm_segment_address(found) : NULL;

	if (found == NULL)
		return NULL;
	if (dsm_segment_map_length(found) < sizeof(TfstateShared) ||
		shared->magic != SHARED_MAGIC || shared->database != MyDatabaseId ||
		shared->version < TFSTATE_SHARED_VERSION)
	{
		dsm_detach(found);
		return NULL;
	}
	if (shared->version > TFSTATE_SHARED_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the shared memory belongs to a newer library")));
	return found;
}

static dsm_segment *
make(void)
{
	dsm_segment *made = dsm_create(sizeof(TfstateShared), 0);
	TfstateShared *shared = dsm_segment_address(made);

	memset(shared, 0, sizeof(TfstateShared));
	shared->magic = SHARED_MAGIC;
	shared->database = MyDatabaseId;
	shared->version = TFSTATE_SHARED_VERSION;
	pg_atomic_init_flag(&shared->retired);
	shared->since = GetCurrentTimestamp();
	for (int i = 0; i < NUM_COUNTERS; i++)
		pg_atomic_init_u64(&shared->counts[i], 0);
	return made;
}

/*
 * Find the segment, or make it.  Error if neither can be done.
 */
static dsm_segment *
find_or_make(Relation sequence)
{
	if (sequence->rd_rel->relkind != RELKIND_SEQUENCE ||
		sequence->rd_rel->relpersistence != RELPERSISTENCE_UNLOGGED)
		tfstate_raise_misfit(RelationGetRelationName(sequence), "it is not an unlogged sequence");
	for (;;)
	{
		dsm_handle	handle = read_handle(sequence);
		dsm_segment *result = attach(handle);

		if (result)
			return result;
		result = make();
		if (replace_handle(sequence, handle, dsm_segment_handle(result)))
		{
			dsm_pin_segment(result);
			return result;
		}
		dsm_detach(result);
	}
}

/* Set the segment, for tfstate_in_subtransaction(). */
static void
set_segment(void *sequence)
{
	dsm_segment *found = find_or_make(sequence);

	dsm_pin_mapping(found);
	segment = found;
}

/*
 * Set the segment.  It stays NULL, with a message in the log, if that fails; only a cancel is
 * raised as an error.
 */
static void
look_up_segment(Relation sequence)
{
	ErrorData  *error = tfstate_in_subtransaction(set_segment, sequence, true);

	if (error == NULL)
		return;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("this session counts nothing for \"%s\": %s", "tfstate_metrics", error->message),
			 errhidestmt(true)));
	FreeErrorData(error);
}

/* Leave the segment of an installation that is gone; the last session to do so ends it. */
static void
leave_segment(void)
{
	TfstateShared *shared = dsm_segment_address(segment);

	if (pg_atomic_test_set_flag(&shared->retired))
		dsm_unpin_segment(dsm_segment_handle(segment));
	dsm_detach(segment);
	segment = NULL;
}

/*
 * What tfstate_shared() has returned last.  Does nothing, so that it cannot fail.
 */
TfstateShared *
tfstate_shared_as_is(void)
{
	return segment ? dsm_segment_address(segment) : NULL;
}

/*
 * The shared memory of this database; NULL if there is none, as on a standby.  Not for a
 * transaction that is being committed or rolled back.
 */
TfstateShared *
tfstate_shared(void)
{
	Oid			relid = tfstate_catalog()->shared_memory;

	if (unlikely(relid != looked_up_for))
	{
		Relation	sequence;

		if (RecoveryInProgress())
			return NULL;
		if (segment)
			leave_segment();
		looked_up_for = InvalidOid;
		sequence = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;
		if (sequence == NULL)
			return NULL;
		look_up_segment(sequence);
		relation_close(sequence, AccessShareLock);
		looked_up_for = relid;
	}
	return tfstate_shared_as_is();
}
