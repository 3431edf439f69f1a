/*-------------------------------------------------------------------------
 *
 * rows.c
 *	  The rows of the lock tables.
 *
 * tfstate_durable_lock and tfstate_session_lock have a row for each lock that
 * is held, and no other: a release deletes it.  Their key is (lockid, fence).
 * Fences grow (fence.c sees to it that a new one is above all entries of its lockid
 * here, dead ones included), so the newest holding is the last entry of its key,
 * and a backward index scan meets it first.  That keeps a lookup short even
 * where an old snapshot keeps vacuum from removing what many earlier holdings
 * left: the scan sees all row versions, and as soon as it meets a holding that
 * was committed and has been deleted it can stop, since an older one must have
 * been deleted before.  (A unique key on lockid alone would make each insert
 * step over all the dead entries.)  On its way it marks the entry of a row that
 * nobody can see any more as dead, and the next scan skips that.
 *
 * The heap is read and written directly, not by SQL: it is faster, it sees
 * what is committed now in every isolation level, and no serializable
 * transaction is failed for it.  The price is that the callers check the
 * privileges and that the transaction may write.  As with SQL, who has written
 * keeps its lock on the table until the end of the transaction.
 *
 * A holding that was read knows its row by its place, and the table may have been
 * unlocked since.  VACUUM FULL gives rows other places, and the table another file:
 * who finds another one than the row was read from has the caller look again.
 *
 * Exclusion is not decided here.  Only who has K of the lockid (see lock.c)
 * inserts a row or takes an abandoned one away; a release needs no K, the
 * tuple's own lock decides between two of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "common/pg_prng.h"
#include "compat.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "tfstate.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/*
 * How tables and indexes are locked for looking: as for writing, which most who look
 * go on to do, so that the lock manager has one lock to take.  Who looks says what is
 * unlocked after it: NoLock to keep them locked until the end of the transaction.
 */
#define ROW_LOCK_MODE	RowExclusiveLock

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

static Oid
table_of(bool durable)
{
	return durable ? tfstate_catalog()->durable : tfstate_catalog()->session;
}

/*
 * Note where the row of a holding lies.
 */
static void
set_place(const Holding *holding)
{
	last_place.hash = tfstate_private_hash(HOLDING_TEXT(holding, lockid));
	last_place.durable = holding->durable;
	last_place.tid = holding->tid;
}

/*
 * Was the tuple's insertion committed (or is it our own), as the snapshot sees
 * it?  If it was and the tuple is not visible, then it has been deleted.
 */
static bool
inserted_for_good(HeapTuple tuple, Snapshot snapshot)
{
	TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

	if (!TransactionIdIsNormal(xmin))
		return TransactionIdIsValid(xmin);	/* frozen */
	if (TransactionIdIsCurrentTransactionId(xmin))
		return true;
	return !XidInMVCCSnapshot(xmin, snapshot) && TransactionIdDidCommit(xmin);
}

/*
 * A snapshot of what is committed now, whatever the isolation level.  While a
 * parallel query runs no new one can be taken: then it is that query's.
 */
Snapshot
tfstate_latest_snapshot(void)
{
	return IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot();
}

/*
 * The next row of a scan with SnapshotAny that a registered MVCC snapshot sees.
 *
 * That is what a scan with that snapshot would return, but it leaves no
 * predicate locks, for which a serializable transaction could be failed that
 * has nothing to do with our tables.
 */
HeapTuple
tfstate_next_visible(SysScanDesc scan, Snapshot snapshot)
{
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		CHECK_FOR_INTERRUPTS();
		if (table_tuple_satisfies_snapshot(scan->heap_rel, scan->slot, snapshot))
			break;
	}
	return tuple;
}

/*
 * The same for a scan in the order of its index.
 */
HeapTuple
tfstate_next_in_order(SysScanDesc scan, ScanDirection direction, Snapshot snapshot)
{
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan, direction)))
	{
		CHECK_FOR_INTERRUPTS();
		if (table_tuple_satisfies_snapshot(scan->heap_rel, scan->slot, snapshot))
			break;
	}
	return tuple;
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
static void
read_holding(HeapTuple tuple, Relation rel, bool durable, Holding *holding)
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
 * Have the index scan mark the entry that it is at as dead, for later scans to
 * skip, if nobody can see a version of the row any more.  Index scans do so by
 * themselves, but not with SnapshotAny, which sees all versions.
 *
 * The tuple is what the scan returned last, and its insertion was committed.  Where
 * it is the last of its HOT chain, those before it have been updated for good, and
 * are as dead.  There is nothing left in the chain then that the scan had to look at.
 */
static void
forget_dead_entry(SysScanDesc scan, HeapTuple tuple)
{
	if (scan->iscan->xactStartedInRecovery ||
		HeapTupleHeaderIsHotUpdated(tuple->t_data) ||
		!HeapTupleIsSurelyDead(tuple, GlobalVisTestFor(scan->heap_rel)))
		return;
	scan->iscan->kill_prior_tuple = true;
	scan->iscan->xs_heap_continue = false;
}

/*
 * Error: a lockid has two rows, which the table's trigger would have refused.
 */
static void
raise_two_rows(const char *lockid, Relation rel, int64 newer, int64 older)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("state lock \"%s\" has two rows, with fences %lld and %lld, and nobody can tell who holds it",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
					(long long) newer, (long long) older),
			 errhint("Delete the wrong one: DELETE FROM %s WHERE lockid = %s AND fence = ...",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												RelationGetRelationName(rel)),
					 quote_literal_cstr(lockid))));
}

/*
 * Find the holding of a lockid by the key of a lock table.  *newest is raised to the
 * greatest fence that the key has of the lockid, be that row visible or not.  Error if
 * the row before the newest is there, too.
 */
static bool
find_by_key(Relation rel, const char *lockid, bool durable, Snapshot snapshot,
			Holding *holding, int64 *newest, LOCKMODE unlock)
{
	Relation	index = index_open(durable ? tfstate_catalog()->durable_index :
								   tfstate_catalog()->session_index,
								   ROW_LOCK_MODE);
	int64		deleted_fence = 0;
	bool		found = false;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_lock_lockid, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(lockid));
	scan = systable_beginscan_ordered(rel, index, SnapshotAny, 1, &key);
	while ((tuple = systable_getnext_ordered(scan, BackwardScanDirection)) != NULL)
	{
		bool		isnull;
		int64		fence = DatumGetInt64(heap_getattr(tuple, Anum_lock_fence,
													   RelationGetDescr(rel), &isnull));

		CHECK_FOR_INTERRUPTS();
		*newest = Max(*newest, fence);
		/* A renewed holding has several versions under one fence. */
		if (fence < deleted_fence && !found)
			break;
		if (table_tuple_satisfies_snapshot(rel, scan->slot, snapshot))
		{
			if (found)
				raise_two_rows(lockid, rel, HOLDING_INT64(holding, fence), fence);
			read_holding(tuple, rel, durable, holding);
			set_place(holding);
			found = true;
			continue;
		}
		/* The row below the one that was found is looked at, and no other. */
		if (found && fence < HOLDING_INT64(holding, fence))
			break;
		if (inserted_for_good(tuple, snapshot))
		{
			deleted_fence = fence;
			forget_dead_entry(scan, tuple);
		}
	}
	systable_endscan_ordered(scan);
	index_close(index, unlock);
	return found;
}

/*
 * Find the holding of a lockid in one of the lock tables, as of a registered
 * MVCC snapshot.  Returns whether there is one, and raises *newest as above.
 *
 * Where only the other mode is used, the table is empty, and its size says so.
 */
static bool
find_in_table(const char *lockid, bool durable, Snapshot snapshot, Holding *holding,
			  int64 *newest, LOCKMODE unlock)
{
	Relation	rel = table_open(table_of(durable), ROW_LOCK_MODE);
	bool		found;

	found = RelationGetNumberOfBlocks(rel) > 0 &&
		find_by_key(rel, lockid, durable, snapshot, holding, newest, unlock);
	table_close(rel, unlock);
	return found;
}

/* Can the row of a lockid be where this session wrote or found one last? */
static bool
has_last_place(const char *lockid)
{
	return ItemPointerIsValid(&last_place.tid) &&
		last_place.hash == tfstate_private_hash(lockid);
}

/*
 * Is what lies where this session wrote or found a row last the holding of a lockid,
 * as of a registered MVCC snapshot?
 */
static bool
find_at_last_place(const char *lockid, Snapshot snapshot, Holding *holding,
				   LOCKMODE unlock)
{
	bool		durable = last_place.durable;
	ItemPointer tid = &last_place.tid;
	Relation	rel;
	TupleTableSlot *slot;
	bool		found = false;

	rel = table_open(table_of(durable), ROW_LOCK_MODE);
	slot = table_slot_create(rel, NULL);
	if (ItemPointerGetBlockNumber(tid) < RelationGetNumberOfBlocks(rel) &&
		table_tuple_fetch_row_version(rel, tid, SnapshotAny, slot) &&
		table_tuple_satisfies_snapshot(rel, slot, snapshot))
	{
		read_holding(ExecFetchSlotHeapTuple(slot, false, NULL), rel, durable, holding);
		found = strcmp(HOLDING_TEXT(holding, lockid), lockid) == 0;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, unlock);
	if (!found)
		ItemPointerSetInvalid(tid);
	return found;
}

/*
 * Find the row of a lockid: of a durable lock or of a session, be it expired or
 * left by a dead session.  There is no more than one that is committed, since who
 * inserts one has K and has deleted what was there.
 *
 * keep_tables is for who goes on to write: the tables stay locked for him.  Nobody
 * must wait for a lock with them, because then he would be in the way of ALTER and
 * REINDEX, and all others behind those.
 *
 * If there is no row, *newest is the greatest fence of the lockid that the keys of the
 * tables still have, 0 for none.
 */
bool
tfstate_find_row(const char *lockid, bool keep_tables, Holding *holding, int64 *newest)
{
	LOCKMODE	unlock = keep_tables ? NoLock : ROW_LOCK_MODE;
	Oid			durable = tfstate_catalog()->durable;
	Snapshot	snapshot;
	bool		found;

	/* before the snapshot: SQL may be about to put in a row, and have locked the table */
	LockRelationOid(durable, ROW_LOCK_MODE);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	*newest = 0;
	found = (has_last_place(lockid) && find_at_last_place(lockid, snapshot, holding, unlock)) ||
		find_in_table(lockid, true, snapshot, holding, newest, unlock) ||
		find_in_table(lockid, false, snapshot, holding, newest, unlock);

	UnregisterSnapshot(snapshot);
	if (unlock != NoLock)
		UnlockRelationOid(durable, unlock);
	return found;
}

/*
 * The greatest fence that the durable lock table has of a lockid, in rows that are
 * deleted, too; 0 for none.  *live says whether a row is not deleted, but for one that
 * lies at except, if that is not NULL.  All rows are looked at, those of the command that
 * runs among them, so this is not for hot paths.  The caller keeps others from changing
 * the table.
 */
int64
tfstate_newest_row_fence(const char *lockid, ItemPointer except, bool *live)
{
	Relation	rel = table_open(tfstate_catalog()->durable, AccessShareLock);
	Relation	index = index_open(tfstate_catalog()->durable_index, AccessShareLock);
	int64		newest = 0;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	*live = false;
	ScanKeyInit(&key, Anum_lock_lockid, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(lockid));
	scan = systable_beginscan_ordered(rel, index, SnapshotAny, 1, &key);
	while ((tuple = systable_getnext_ordered(scan, BackwardScanDirection)) != NULL)
	{
		TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);
		bool		isnull;
		int64		fence = DatumGetInt64(heap_getattr(tuple, Anum_lock_fence,
													   RelationGetDescr(rel), &isnull));

		CHECK_FOR_INTERRUPTS();
		if (TransactionIdIsNormal(xmin) && !TransactionIdIsCurrentTransactionId(xmin) &&
			!TransactionIdDidCommit(xmin))
			continue;
		newest = Max(newest, fence);
		if ((except == NULL || !ItemPointerEquals(except, &tuple->t_self)) &&
			table_tuple_satisfies_snapshot(rel, scan->slot, SnapshotSelf))
			*live = true;
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return newest;
}

/*
 * Is it the lock of a workspace that a client without tfstate has created under a
 * built-in creation key?  Such a holding has no K, and lasts as long as its session
 * has that key (see shim.c).
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

/*
 * Find who holds a lockid now: a durable row, or a row of a living session.
 * An expired lease is returned too; tfstate_holding_expired() tells.
 */
bool
tfstate_current_holding(const char *lockid, Holding *holding)
{
	int64		newest;

	return tfstate_find_row(lockid, false, holding, &newest) && tfstate_holding_is_live(holding);
}

/*
 * Find a current holding where this session wrote or found it last, and nowhere else.
 */
bool
tfstate_current_holding_again(const char *lockid, Holding *holding)
{
	Snapshot	snapshot;
	bool		found;

	if (!has_last_place(lockid))
		return false;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	found = find_at_last_place(lockid, snapshot, holding, ROW_LOCK_MODE);
	UnregisterSnapshot(snapshot);
	return found && tfstate_holding_is_live(holding);
}

/*
 * Find a lock in durable mode that a run has of a workspace which it created, and
 * unlocks with this key.  Returns whether there is one.
 */
bool
tfstate_find_created(const char *run_id, int64 unlock_key, Holding *holding)
{
	Relation	rel = table_open(tfstate_catalog()->durable, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		found = false;
	SysScanDesc scan;
	ScanKeyData keys[2];
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_lock_unlock_key, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(unlock_key));
	ScanKeyInit(&keys[1], Anum_lock_run_id, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(run_id));
	scan = systable_beginscan(rel, InvalidOid, false, SnapshotAny, 2, keys);
	if (HeapTupleIsValid(tuple = tfstate_next_visible(scan, snapshot)))
	{
		read_holding(tuple, rel, true, holding);
		found = true;
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Find the tied holding that this session has under a creation key.  Returns whether
 * there is one.
 */
bool
tfstate_find_tied(int64 creation_key, Holding *holding)
{
	Relation	rel = table_open(tfstate_catalog()->session, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		found = false;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_lock_unlock_key, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(creation_key));
	scan = systable_beginscan(rel, InvalidOid, false, SnapshotAny, 1, &key);
	while (!found && HeapTupleIsValid(tuple = tfstate_next_visible(scan, snapshot)))
	{
		read_holding(tuple, rel, false, holding);
		found = tfstate_holding_is_tied(holding) &&
			tfstate_session_is_mine(HOLDING_INT64(holding, session));
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Add a row, and set where it lies.  The caller has K of the lockid.
 */
void
tfstate_insert_holding(Holding *holding)
{
	Relation	rel = table_open(table_of(holding->durable), RowExclusiveLock);
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(rel),
										holding->values, holding->nulls);

	CatalogTupleInsert(rel, tuple);
	holding->relfilenode = rel->rd_rel->relfilenode;
	holding->tid = tuple->t_self;
	set_place(holding);
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
	Relation	rel = table_open(table_of(holding->durable), RowExclusiveLock);
	ItemPointerData tid = holding->tid;
	TM_FailureData failure;
	TM_Result	result = TM_Updated;

	if (!was_moved(holding, rel))
		result = table_tuple_delete(rel, &tid, GetCurrentCommandId(true),
									InvalidSnapshot, InvalidSnapshot, wait,
									&failure, false);
	table_close(rel, NoLock);
	if (result == TM_Ok)
	{
		ItemPointerSetInvalid(&last_place.tid);
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
	Relation	rel = table_open(table_of(holding->durable), RowExclusiveLock);
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
		set_place(holding);
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
	Relation	rel = table_open(table_of(holding->durable), table_mode);
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

/*
 * Find rows that dead sessions have left: some of them, on a few pages of the table,
 * from where the last look of this session has ended.  The first begins anywhere.
 */
List *
tfstate_dead_holdings(int max_blocks, int max_rows)
{
	Relation	rel = table_open(tfstate_catalog()->session, RowExclusiveLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);
	static BlockNumber next = InvalidBlockNumber;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan_strat(rel, SnapshotAny, 0, NULL, false, false);
	List	   *dead = NIL;

	if (next == InvalidBlockNumber && blocks > 0)
		next = (BlockNumber) pg_prng_uint64_range(&pg_global_prng_state, 0, blocks - 1);
	if (next >= blocks)
		next = 0;
	heap_setscanlimits(scan, next, Min(blocks - next, max_blocks));
	next += max_blocks;
	while (list_length(dead) < max_rows &&
		   table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Holding    *holding;

		CHECK_FOR_INTERRUPTS();
		if (!table_tuple_satisfies_snapshot(rel, slot, snapshot))
			continue;
		holding = palloc(sizeof(Holding));
		read_holding(ExecFetchSlotHeapTuple(slot, false, NULL), rel, false, holding);
		if (!tfstate_session_is_alive(HOLDING_INT64(holding, session)))
			dead = lappend(dead, holding);
		if (list_length(dead) == max_rows)
			next = ItemPointerGetBlockNumber(&slot->tts_tid);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return dead;
}

/* Is it a lease whose time is over? */
bool
tfstate_holding_expired(const Holding *holding)
{
	return !HOLDING_NULL(holding, expires_at) &&
		DatumGetTimestampTz(HOLDING_DATUM(holding, expires_at)) <= GetCurrentTimestamp();
}
