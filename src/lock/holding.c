/*-------------------------------------------------------------------------
 *
 * holding.c
 *	  The rows of the lock tables: what one means, and how it is written.
 *
 * tfstate_internal.durable_lock and tfstate_internal.session_lock have a row for each lock
 * that is held, and no other: a release deletes it.  Rows are found by lookup.c.
 *
 * The heap is written directly, not by SQL, so the callers check the privileges and that
 * the transaction may write.  As with SQL, a transaction that has written keeps its lock on
 * the table until its end.
 *
 * A holding that was read knows its row by its place, and the table may have been
 * unlocked since.  After VACUUM FULL the relfilenode differs, and the caller must look
 * again.
 *
 * Exclusion is not decided here.  Only the owner of the lock tag (see acquire.c) inserts a
 * row or takes an abandoned one away.  A release does not need the lock tag: the tuple's
 * own lock decides between two of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "executor/tuptable.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "lock/backend.h"
#include "lock/holding.h"
#include "lock/holding_internal.h"
#include "lock/session.h"
#include "lock/tag.h"

/*
 * Where this session wrote or found a row last: often the one that it unlocks or
 * renews next, or tries to lock again.  Others can have deleted it since, and
 * something else can lie there.
 */
static struct
{
	uint64		hash;			/* of the lockid */
	bool		durable;
	ItemPointerData tid;		/* invalid if there is none */
}			last_place;

Oid
tfstate_lock_table(bool durable)
{
	return durable ? tfstate_catalog()->durable : tfstate_catalog()->session;
}

/*
 * Note where the row of a holding lies.
 */
void
tfstate_note_place(const Holding *holding)
{
	last_place.hash = tfstate_private_hash(HOLDING_TEXT(holding, lockid));
	last_place.durable = holding->durable;
	last_place.tid = holding->tid;
}

/*
 * Return true, and the place, if the row of a lockid can be where this session wrote or
 * found one last.
 */
bool
tfstate_last_place(const char *lockid, bool *durable, ItemPointer tid)
{
	*durable = last_place.durable;
	*tid = last_place.tid;
	return ItemPointerIsValid(tid) && last_place.hash == tfstate_private_hash(lockid);
}

/* The row that was there has gone. */
void
tfstate_forget_place(void)
{
	ItemPointerSetInvalid(&last_place.tid);
}

/*
 * The other transaction that is deleting or updating a visible row, or invalid.
 */
static TransactionId
changing_transaction(HeapTuple tuple)
{
	TransactionId xid;

	if ((tuple->t_data->t_infomask & HEAP_XMAX_INVALID) ||
		HEAP_XMAX_IS_LOCKED_ONLY(tuple->t_data->t_infomask))
		return InvalidTransactionId;
	xid = HeapTupleHeaderGetUpdateXid(tuple->t_data);
	if (TransactionIdIsCurrentTransactionId(xid) || !TransactionIdIsInProgress(xid))
		return InvalidTransactionId;
	return xid;
}

/*
 * Copy a row of a lock table into the current memory context.  Its values point into
 * one copy of the tuple, but for those that lie elsewhere or are compressed.
 */
void
tfstate_read_holding(HeapTuple tuple, Relation rel, bool durable, Holding *holding)
{
	TupleDesc	desc = RelationGetDescr(rel);

	holding->durable = durable;
	holding->relfilenode = rel->rd_rel->relfilenode;
	holding->tid = tuple->t_self;
	holding->changing = changing_transaction(tuple);
	heap_deform_tuple(heap_copytuple(tuple), desc, holding->values, holding->nulls);
	for (int i = 0; i < desc->natts; i++)
	{
		Datum	   *value = &holding->values[i];

		if (TupleDescAttr(desc, i)->attlen == -1 && !holding->nulls[i])
			*value = PointerGetDatum(PG_DETOAST_DATUM_PACKED(*value));
	}
}

/*
 * Is it the lock of a workspace that a client without tfstate has created under a
 * built-in creation key?  Such a holding has no K, and lasts as long as its session
 * has that key (see creation.c).
 */
bool
tfstate_holding_is_tied(const Holding *holding)
{
	return !holding->durable && HOLDING_NULL(holding, key) &&
		!HOLDING_NULL(holding, unlock_key);
}

/*
 * Does the session of a tied holding still have the creation key?
 */
static bool
has_creation_key(const Holding *holding)
{
	int64		session = HOLDING_INT64(holding, session);
	LOCKTAG		tag = tfstate_builtin_tag(HOLDING_INT64(holding, unlock_key));
	int			pid;

	if (tfstate_session_is_mine(session))
		return compat_lock_held_by_me(&tag, ExclusiveLock);
	pid = tfstate_session_pid(session);
	return pid != 0 && tfstate_tag_holder(&tag) == pid;
}

/*
 * Is it a durable row, or a row of a living session that has not lost what its lock
 * depends on?
 */
bool
tfstate_holding_is_live(const Holding *holding)
{
	if (holding->durable)
		return true;
	return tfstate_session_is_alive(HOLDING_INT64(holding, session)) &&
		(!tfstate_holding_is_tied(holding) || has_creation_key(holding));
}

/* Is it a lease whose time is over? */
bool
tfstate_holding_expired(const Holding *holding)
{
	return !HOLDING_NULL(holding, expires_at) &&
		DatumGetTimestampTz(HOLDING_DATUM(holding, expires_at)) <= GetCurrentTimestamp();
}

/*
 * Add a row, and set where it lies.  The caller has K of the lockid.
 */
void
tfstate_insert_holding(Holding *holding)
{
	Relation	rel = table_open(tfstate_lock_table(holding->durable), RowExclusiveLock);
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(rel),
										holding->values, holding->nulls);

	CatalogTupleInsert(rel, tuple);
	holding->relfilenode = rel->rd_rel->relfilenode;
	holding->tid = tuple->t_self;
	tfstate_note_place(holding);
	holding->changing = InvalidTransactionId;
	heap_freetuple(tuple);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/*
 * Has the table been rewritten since a holding was read, by VACUUM FULL, say?  Then
 * the row lies elsewhere, and another one may lie where it was.
 */
static bool
was_moved(const Holding *holding, Relation rel)
{
	return holding->relfilenode != rel->rd_rel->relfilenode;
}

/*
 * Delete a row.  Returns TM_Ok, or else that somebody else has changed, moved or
 * deleted it (TM_Updated, TM_Deleted) or, without wait, that he is about to or keeps us
 * from it (TM_BeingModified).
 */
TM_Result
tfstate_delete_holding(const Holding *holding, bool wait)
{
	Relation	rel = table_open(tfstate_lock_table(holding->durable), RowExclusiveLock);
	ItemPointerData tid = holding->tid;
	TM_Result	result = TM_Updated;

	if (!was_moved(holding, rel))
		result = compat_delete_tuple(rel, &tid, GetCurrentCommandId(true), wait);
	table_close(rel, NoLock);
	if (result == TM_Ok)
	{
		tfstate_forget_place();
		CommandCounterIncrement();
	}
	return result;
}

/*
 * Write a changed holding back to its row.  Returns false if somebody else has
 * changed, moved or deleted the row since it was read, or, without wait, is about to.
 */
bool
tfstate_update_holding(Holding *holding, bool wait)
{
	Relation	rel = table_open(tfstate_lock_table(holding->durable), RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TM_FailureData failure;
	TM_Result	result = TM_Updated;

	if (!was_moved(holding, rel))
		result = table_tuple_lock(rel, &holding->tid, InvalidSnapshot, slot,
								  GetCurrentCommandId(true), LockTupleNoKeyExclusive,
								  wait ? LockWaitBlock : LockWaitSkip, 0, &failure);
	ExecDropSingleTupleTableSlot(slot);
	if (result == TM_Ok)
	{
		HeapTuple	tuple = heap_form_tuple(RelationGetDescr(rel),
											holding->values, holding->nulls);

		CatalogTupleUpdate(rel, &holding->tid, tuple);
		holding->tid = tuple->t_self;
		tfstate_note_place(holding);
		CommandCounterIncrement();
	}
	table_close(rel, NoLock);
	return result == TM_Ok;
}

/*
 * Lock a row until the end of the transaction.  Returns false if somebody else has
 * changed, moved or deleted it since it was read.
 */
static bool
lock_row(const Holding *holding, LOCKMODE table_mode, LockTupleMode mode)
{
	Relation	rel = table_open(tfstate_lock_table(holding->durable), table_mode);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ItemPointerData tid = holding->tid;
	TM_FailureData failure;
	TM_Result	result = TM_Updated;

	if (!was_moved(holding, rel))
		result = table_tuple_lock(rel, &tid, InvalidSnapshot, slot,
								  GetCurrentCommandId(true), mode,
								  LockWaitBlock, 0, &failure);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return result == TM_Ok;
}

/*
 * Keep a row from being changed or deleted until the end of the transaction.
 * Returns false if somebody else has changed, moved or deleted it since it was read.
 */
bool
tfstate_pin_holding(const Holding *holding)
{
	return lock_row(holding, RowShareLock, LockTupleShare);
}

/*
 * Be the only one who may change a row.  Returns false as tfstate_pin_holding() does.
 */
bool
tfstate_lock_holding(const Holding *holding)
{
	return lock_row(holding, RowExclusiveLock, LockTupleNoKeyExclusive);
}
