/*-------------------------------------------------------------------------
 *
 * holding.c
 *	  Holdings: what their columns mean, and how they are written.
 *
 * tfstate_internal.durable_lock has a row for each lock that is held in durable mode, and no
 * other: a release deletes it.  A lock that is held in session mode has an entry in shared
 * memory with the same columns (session_lock.c).  Both are found by lookup.c.  To its callers
 * a holding is a row in either case.
 *
 * The heap is written directly, not by SQL, so the callers check the privileges, and that
 * the transaction may write.  As with SQL, a transaction that has written keeps its lock on
 * the table until its end.
 *
 * A holding refers to its row by its place, and the table may have been unlocked since it
 * was read.  After VACUUM FULL the relfilenode differs, and the caller must look again.
 *
 * Exclusion is not decided here.  Only the owner of the lock tag (see acquire.c) inserts a
 * row or deletes an abandoned one.  A release does not need the lock tag: the lock on the
 * tuple decides between two releases.
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
#include "common/write.h"
#include "lock/backend.h"
#include "lock/holding.h"
#include "lock/holding_internal.h"
#include "lock/session.h"
#include "lock/session_lock.h"
#include "lock/tag.h"

/*
 * Where this session last wrote or found a row: often the one that it unlocks or renews
 * next, or tries to lock again.  Others can have deleted it since, and put another row in
 * its place.
 */
static struct
{
	bool		known;
	uint64		hash;			/* of the lockid */
	bool		durable;
	ItemPointerData tid;		/* of a durable lock */
}			last_place;

/*
 * Remember the place of a holding's row, for tfstate_last_place().
 */
void
tfstate_note_place(const char *lockid, const Holding *holding)
{
	last_place.known = true;
	last_place.hash = tfstate_private_hash(lockid);
	last_place.durable = holding->durable;
	last_place.tid = holding->tid;
}

/*
 * Return true, and the place, if the row that this session last wrote or found may be that
 * of this lockid.  The caller must check what is there.  There is no place in session mode.
 */
bool
tfstate_last_place(const char *lockid, bool *durable, ItemPointer tid)
{
	*durable = last_place.durable;
	*tid = last_place.tid;
	return last_place.known && last_place.hash == tfstate_private_hash(lockid);
}

/* Forget the place, because the row has gone. */
void
tfstate_forget_place(void)
{
	last_place.known = false;
}

/*
 * The other transaction that is deleting or updating a visible row, InvalidTransactionId if
 * there is none.
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
 * Copy a row of durable_lock into the current memory context.  The values point into one
 * copy of the tuple, except those that were compressed or stored out of line.
 */
void
tfstate_read_holding(HeapTuple tuple, Relation rel, Holding *holding)
{
	TupleDesc	desc = RelationGetDescr(rel);

	holding->durable = true;
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
 * Return true if it is a tied holding: the lock of a workspace that a client without tfstate
 * has created under a built-in creation key.  Such a holding has no lock tag, and lasts as
 * long as its session holds that key (see creation.c).
 */
bool
tfstate_holding_is_tied(const Holding *holding)
{
	return !holding->durable && HOLDING_NULL(holding, key) &&
		!HOLDING_NULL(holding, unlock_key);
}

/*
 * Return true if the session of a tied holding still holds the creation key.
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
 * Return true if it is durable, or if its session is alive and, for a tied holding, still
 * holds the creation key.
 */
bool
tfstate_holding_is_live(const Holding *holding)
{
	if (holding->durable)
		return true;
	return tfstate_session_is_alive(HOLDING_INT64(holding, session)) &&
		(!tfstate_holding_is_tied(holding) || has_creation_key(holding));
}

/* Return true if it is a lease that has expired. */
bool
tfstate_holding_expired(const Holding *holding)
{
	return !HOLDING_NULL(holding, expires_at) &&
		DatumGetTimestampTz(HOLDING_DATUM(holding, expires_at)) <= GetCurrentTimestamp();
}

/*
 * Insert the row of a holding, and set its place.  The caller owns the lock tag of the
 * lockid.
 */
void
tfstate_insert_holding(Holding *holding)
{
	Relation	rel;

	if (!holding->durable)
	{
		tfstate_insert_session_lock(holding);
		return;
	}
	rel = tfstate_open(&tfstate_catalog()->durable, RowExclusiveLock);
	tfstate_insert_row(rel, holding->values, holding->nulls, &holding->tid);
	holding->relfilenode = rel->rd_rel->relfilenode;
	tfstate_note_place(HOLDING_TEXT(holding, lockid), holding);
	holding->changing = InvalidTransactionId;
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/*
 * Return true if the table has been rewritten since a holding was read, for example by
 * VACUUM FULL.  Then the row is elsewhere, and another row may be in its place.
 */
static bool
was_moved(const Holding *holding, Relation rel)
{
	return holding->relfilenode != rel->rd_rel->relfilenode;
}

/*
 * Delete the row of a holding.  Returns TM_Ok if that was done.  Otherwise another
 * transaction has changed, moved or deleted the row since it was read (TM_Updated,
 * TM_Deleted) or, without wait, has locked it or is changing it (TM_BeingModified).
 */
TM_Result
tfstate_delete_holding(const Holding *holding, bool wait)
{
	Relation	rel;
	ItemPointerData tid = holding->tid;
	TM_Result	result = TM_Updated;

	if (!holding->durable)
	{
		tfstate_forget_place();
		return tfstate_end_session_lock(holding, wait);
	}
	rel = tfstate_open(&tfstate_catalog()->durable, RowExclusiveLock);
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
 * Write a changed durable holding back to its row, and set its new place.  Returns false if
 * another transaction has changed, moved or deleted the row since it was read or, without
 * wait, has locked it or is changing it.
 */
bool
tfstate_update_holding(Holding *holding, bool wait)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->durable, RowExclusiveLock);
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
		tfstate_note_place(HOLDING_TEXT(holding, lockid), holding);
		CommandCounterIncrement();
	}
	table_close(rel, NoLock);
	return result == TM_Ok;
}

/*
 * Lock the row of a durable lock until the end of the transaction, after waiting for others
 * that have it locked.  Returns false if another transaction has changed, moved or deleted it
 * since it was read.
 */
static bool
lock_row(const Holding *holding, LOCKMODE table_mode, LockTupleMode mode)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->durable, table_mode);
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
 * Keep the row of a holding from being changed or deleted until the end of the transaction.
 * Waits for a transaction that is changing it.  Returns false if another transaction has
 * changed, moved or deleted it since it was read.
 */
bool
tfstate_pin_holding(const Holding *holding)
{
	if (!holding->durable)
		return tfstate_pin_session_lock(holding);
	return lock_row(holding, RowShareLock, LockTupleShare);
}

/*
 * Keep other transactions also from pinning the row, which is that of a durable lock.
 * Otherwise as tfstate_pin_holding().
 */
bool
tfstate_lock_holding(const Holding *holding)
{
	return lock_row(holding, RowExclusiveLock, LockTupleNoKeyExclusive);
}
