/*-------------------------------------------------------------------------
 *
 * arrival.c
 *	  Triggers for rows that get into the lock tables by SQL or logical replication.
 *
 * Taking a lock uses no SQL and fires no trigger.  These triggers are fired by a restore
 * (COPY), by an administrator, and by logical replication, which a publication FOR ALL
 * TABLES starts without asking.
 *
 * Logical replication may bring nothing into tfstate_internal.installation and
 * tfstate_internal.durable_lock: the secret key belongs to this installation, and a lock that is
 * held on the publisher is not held here.  Such a row is skipped, so that neither the row
 * nor an error about it stops the replication of the user's tables.
 *
 * A lock that is inserted by SQL must be one that a lock call could have taken: no other
 * lock of its lockid is held, and none was taken after it.  The trigger locks the table
 * against lock calls until the end of the transaction, so that this stays true.  And it
 * announces the row as a change of the table: sessions forget what they know of its locks
 * (lookup.c), because the fence need not be above all that were given out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "replication/logicalworker.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"

#include "common/catalog.h"
#include "common/limits.h"
#include "common/lockid.h"
#include "common/text.h"
#include "lock/fence.h"
#include "lock/lookup.h"

PG_FUNCTION_INFO_V1(tfstate_keep_own_row);
PG_FUNCTION_INFO_V1(tfstate_require_free_lock);

/* The call of the trigger.  Error unless it is fired before a change of a row. */
static TriggerData *
row_trigger(FunctionCallInfo fcinfo)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as a trigger before a change of a row")));
	return trigger;
}

/* The row that the trigger returns to let the change happen. */
static HeapTuple
unchanged(const TriggerData *trigger)
{
	return TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple :
		trigger->tg_trigtuple;
}

/*
 * tfstate_internal.keep_own_row() returns trigger
 *
 * Skips a change by logical replication.
 */
Datum
tfstate_keep_own_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = row_trigger(fcinfo);

	return PointerGetDatum(IsLogicalWorker() ? NULL : unchanged(trigger));
}

static int64
fence_of(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		fence = heap_getattr(tuple, Anum_lock_fence, desc, &isnull);

	return isnull ? 0 : DatumGetInt64(fence);
}

static char *
lockid_of(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		lockid = heap_getattr(tuple, Anum_lock_lockid, desc, &isnull);

	return isnull ? pstrdup("") : TextDatumGetCString(lockid);
}

/*
 * Error unless a row with this fence can become the lock of its lockid.  except is the place
 * of the row that it replaces, or NULL.
 */
static void
check_arriving(const char *lockid, int64 fence, ItemPointer except)
{
	bool		live;
	int64		newest = Max(tfstate_newest_row_fence(lockid, except, &live),
							 tfstate_newest_in_history(lockid, fence));

	if (live)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("state lock \"%s\" is already held",
						tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
				 errhint("Leave the row out, or release the lock first.")));
	if (fence <= newest)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("state lock \"%s\" has had fence %lld, so a row with fence %lld is out of date",
						tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
						(long long) newest, (long long) fence),
				 errhint("Leave the row out, or give it a greater fence.")));
}

/*
 * tfstate_internal.require_free_lock() returns trigger
 *
 * Error for a row that is inserted or updated by SQL unless a lock call could have taken
 * its lock.  Skips a change by logical replication.
 */
Datum
tfstate_require_free_lock(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = row_trigger(fcinfo);
	Relation	rel = trigger->tg_relation;
	TupleDesc	desc = RelationGetDescr(rel);
	HeapTuple	old = trigger->tg_trigtuple;
	HeapTuple	row = unchanged(trigger);
	bool		update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
	char	   *lockid;

	if (IsLogicalWorker())
		PG_RETURN_POINTER(NULL);
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ||
		RelationGetRelid(rel) != tfstate_catalog()->durable)
		return PointerGetDatum(row);

	lockid = lockid_of(row, desc);
	if (update && strcmp(lockid, lockid_of(old, desc)) == 0 &&
		fence_of(row, desc) == fence_of(old, desc))
		return PointerGetDatum(row);
	tfstate_check_lockid(lockid);
	LockRelation(rel, ShareRowExclusiveLock);
	check_arriving(lockid, fence_of(row, desc), update ? &old->t_self : NULL);
	CacheInvalidateRelcache(rel);
	return PointerGetDatum(row);
}
