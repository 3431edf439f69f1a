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
 * message in the log, and the session goes on without: it counts nothing, and sees no locks in
 * session mode.  So does one where the extension is of an older version, without the sequence.
 * To take a lock in session mode is an error then (tfstate_require_shared()).
 *
 * The segment has a fixed part and, behind it, the beginning of an area in which memory is
 * allocated (utils/dsa.h).  If that is full, the area gets further segments, up to a limit.
 *
 * A session that meets another installation of the extension than before, after DROP and CREATE
 * EXTENSION, takes another segment.  It leaves the one before only in a later transaction:
 * this one has pointers into it, and may roll the DROP back.  A segment that was left ends
 * with the last session that uses it.
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
#include "nodes/pg_list.h"
#include "storage/bufmgr.h"
#include "storage/dsm.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "common/layout.h"
#include "common/shared.h"
#include "common/subtransaction.h"

/* "tfstate" */
#define SHARED_MAGIC	UINT64CONST(0x7466737461746500)

/* The size of the first segment, of which the fixed part takes 7 kB. */
#define SEGMENT_SIZE	(256 * 1024)

/* A segment that this session has looked up. */
typedef struct Attached
{
	Oid			sequence;		/* for which it was looked up; InvalidOid for
								 * none */
	dsm_segment *segment;		/* NULL if that failed */
	dsa_area   *area;			/* in the segment */
} Attached;

/*
 * The segment in use, those of other installations that are not left yet, in
 * TopMemoryContext, and the transaction in which the last one became such.
 */
static Attached current;
static List *others = NIL;
static LocalTransactionId changed_in;

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

/* Where the area begins in a segment, and its size there. */
static void *
area_place(TfstateShared *shared)
{
	return (char *) shared + MAXALIGN(sizeof(TfstateShared));
}

#define AREA_SIZE	(SEGMENT_SIZE - MAXALIGN(sizeof(TfstateShared)))

static void
make(Attached *made)
{
	dsm_segment *segment = dsm_create(SEGMENT_SIZE, 0);
	TfstateShared *shared = dsm_segment_address(segment);

	memset(shared, 0, sizeof(TfstateShared));
	shared->magic = SHARED_MAGIC;
	shared->database = MyDatabaseId;
	shared->version = TFSTATE_SHARED_VERSION;
	pg_atomic_init_flag(&shared->retired);
	shared->since = GetCurrentTimestamp();
	for (int i = 0; i < NUM_COUNTERS; i++)
		pg_atomic_init_u64(&shared->counts[i], 0);
	SpinLockInit(&shared->fences.mutex);
	shared->fences.buffer = InvalidBuffer;
	shared->tranche = compat_new_tranche();
	for (int i = 0; i < SESSION_LOCK_PARTITIONS; i++)
		LWLockInitialize(&shared->partitions[i].lock, shared->tranche);
	for (int i = 0; i < SESSION_LOCK_BUCKETS; i++)
		shared->buckets[i] = InvalidDsaPointer;
	made->segment = segment;
	made->area = dsa_create_in_place(area_place(shared), AREA_SIZE, shared->tranche, segment);
	dsa_set_size_limit(made->area, TFSTATE_SHARED_LIMIT);
}

/*
 * Find the segment, or make it.  Error if neither can be done.
 */
static void
find_or_make(Relation sequence, Attached *result)
{
	if (sequence->rd_rel->relkind != RELKIND_SEQUENCE ||
		sequence->rd_rel->relpersistence != RELPERSISTENCE_UNLOGGED)
		tfstate_raise_misfit(RelationGetRelationName(sequence), "it is not an unlogged sequence");
	for (;;)
	{
		dsm_handle	handle = read_handle(sequence);

		CHECK_FOR_INTERRUPTS();
		result->segment = attach(handle);
		if (result->segment)
		{
			result->area = dsa_attach_in_place(area_place(dsm_segment_address(result->segment)),
											   result->segment);
			return;
		}
		make(result);
		if (replace_handle(sequence, handle, dsm_segment_handle(result->segment)))
		{
			dsm_pin_segment(result->segment);
			dsa_pin(result->area);
			return;
		}
		dsa_detach(result->area);
		dsm_detach(result->segment);
	}
}

/*
 * Find the segment, or make it, and keep it for as long as the session.  Error if neither can
 * be done.
 */
static void
look_up(void *sequence)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	Attached	found;
	TfstateShared *shared;

	find_or_make(sequence, &found);
	dsm_pin_mapping(found.segment);
	dsa_pin_mapping(found.area);
	shared = dsm_segment_address(found.segment);
	compat_name_tranche(shared->tranche);
	current.segment = found.segment;
	current.area = found.area;
	MemoryContextSwitchTo(old);
}

/*
 * The same, but if that fails there is only a message in the log; a cancel is raised as an
 * error.
 */
static void
try_to_look_up(Relation sequence)
{
	ErrorData  *error = tfstate_in_subtransaction(look_up, sequence, true);

	if (error == NULL)
		return;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("this session counts nothing for \"%s\": %s", "tfstate_metrics", error->message),
			 errdetail("Nor does it see locks in session mode."),
			 errhidestmt(true)));
	FreeErrorData(error);
}

/* Leave the segment of an installation that is gone; the last session to do so ends it. */
static void
leave(Attached *left)
{
	TfstateShared *shared = dsm_segment_address(left->segment);

	if (pg_atomic_test_set_flag(&shared->retired))
	{
		dsm_unpin_segment(dsm_segment_handle(left->segment));
		dsa_unpin(left->area);
	}
	dsa_detach(left->area);
	dsm_detach(left->segment);
}

/*
 * Leave the segments of other installations, unless this transaction has used one of them.
 */
static void
leave_others(void)
{
	ListCell   *lc;

	if (changed_in == compat_my_lxid())
		return;
	foreach(lc, others)
	{
		leave(lfirst(lc));
		pfree(lfirst(lc));
	}
	list_free(others);
	others = NIL;
}

/*
 * Put the current segment to those of other installations, and take that of a sequence from
 * there, if it is there; otherwise there is none.
 */
static void
change_to(Oid sequence)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	Attached	before = current;
	ListCell   *lc;

	memset(&current, 0, sizeof(current));
	foreach(lc, others)
	{
		Attached   *other = lfirst(lc);

		if (other->sequence == sequence)
		{
			current = *other;
			others = foreach_delete_current(others, lc);
			pfree(other);
		}
	}
	if (before.segment)
	{
		Attached   *other = palloc(sizeof(Attached));

		*other = before;
		others = lappend(others, other);
		changed_in = compat_my_lxid();
	}
	MemoryContextSwitchTo(old);
}

/*
 * What tfstate_shared() has returned last.  Does nothing, so that it cannot fail.
 */
TfstateShared *
tfstate_shared_as_is(void)
{
	return current.segment ? dsm_segment_address(current.segment) : NULL;
}

/*
 * The shared memory of this database; NULL if there is none, as on a standby.  Not for a
 * transaction that is being committed or rolled back.
 */
TfstateShared *
tfstate_shared(void)
{
	Oid			relid = tfstate_catalog()->shared_memory;

	if (unlikely(relid != current.sequence))
	{
		Relation	sequence;

		if (RecoveryInProgress())
			return NULL;
		change_to(relid);
		if (current.segment)
			return tfstate_shared_as_is();
		sequence = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;
		if (sequence == NULL)
			return NULL;
		if (IsInParallelMode())
			look_up(sequence);	/* no subtransaction is possible */
		else
			try_to_look_up(sequence);
		relation_close(sequence, AccessShareLock);
		current.sequence = relid;
	}
	if (unlikely(others != NIL))
		leave_others();
	return tfstate_shared_as_is();
}

/*
 * The shared memory of this database.  Error if there is none.
 */
TfstateShared *
tfstate_require_shared(void)
{
	TfstateShared *shared = tfstate_shared();
	Oid			relid = tfstate_catalog()->shared_memory;
	Relation	sequence;

	if (likely(shared))
		return shared;
	sequence = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;
	if (sequence == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a lock in session mode needs the objects of a newer version of extension \"%s\"; run ALTER EXTENSION %s UPDATE",
						"tfstate", "tfstate"),
				 errdetail("Sequence \"%s.%s\" does not exist.", TFSTATE_INTERNAL, "shared_memory")));
	look_up(sequence);
	relation_close(sequence, AccessShareLock);
	current.sequence = relid;
	return tfstate_shared_as_is();
}

/*
 * The area in the shared memory that tfstate_shared() has returned last, which was not NULL.
 */
dsa_area *
tfstate_shared_area(void)
{
	return current.area;
}
