/*-------------------------------------------------------------------------
 *
 * freeze.c
 *	  Refusing new locks and writes where a pattern of lockids is frozen.
 *
 * tfstate_internal.freeze has a row for each freeze, until its end or tfstate_unfreeze().
 * A lock that is held goes on: it can be renewed, written under and released.
 *
 * A freeze and a lock can be taken at the same time, and neither waits for the other:
 *
 *	- The freeze takes the freeze tag, inserts its row, and then lists the holders, with the
 *	  rows that are not committed yet.  It has the tag until it is committed and other
 *	  sessions have been told that the table has changed.
 *	- The lock inserts its row, and then looks at the freeze tag and at the table, with the
 *	  rows that are not committed yet.
 *
 * So either the freeze lists the lock, or the lock is refused.  A lock that finds a freeze
 * that is not committed is refused, too, although that may be rolled back.
 *
 * As long as there is no freeze, a session remembers that, until the server reports a change
 * of the table.  Every change of a row causes such a report, one by SQL through a trigger.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/catalog.h"
#include "common/limits.h"
#include "common/lockid.h"
#include "common/text.h"
#include "lock/conflict.h"
#include "lock/describe.h"
#include "lock/freeze.h"
#include "lock/freeze_internal.h"
#include "lock/inner.h"
#include "lock/report.h"
#include "lock/tag.h"

/* The most bytes of a text that a message shows. */
#define MAX_IN_MESSAGE	256

/*
 * True if this session has found no freeze in the table, and no change was reported since;
 * and which table that was.
 */
static bool known_none = false;
static Oid	known_table = InvalidOid;

/* Callback of the relation cache. */
static void
forget_none(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == known_table)
		known_none = false;
}

/* Return true if the freeze has ended by itself. */
bool
tfstate_freeze_is_over(const Freeze *freeze)
{
	return !FREEZE_NULL(freeze, until) &&
		DatumGetTimestampTz(FREEZE_DATUM(freeze, until)) <= GetCurrentTimestamp();
}

/*
 * Return the rows of the table, a list of Freeze; those that another open transaction inserts
 * or deletes are among them, and those that are over.
 */
List *
tfstate_freezes(Relation rel)
{
	List	   *freezes = NIL;
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	SnapshotData dirty;
	TableScanDesc scan;

	InitDirtySnapshot(dirty);
	scan = table_beginscan_strat(rel, &dirty, 0, NULL, true, true);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Freeze	   *freeze = palloc(sizeof(Freeze));

		CHECK_FOR_INTERRUPTS();
		freeze->tid = slot->tts_tid;
		heap_deform_tuple(ExecCopySlotHeapTuple(slot), RelationGetDescr(rel), freeze->values,
						  freeze->nulls);
		freezes = lappend(freezes, freeze);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return freezes;
}

/*
 * The freezes that are not over, without opening the table if there is known to be none.
 */
static List *
current_freezes(void)
{
	static bool callback_registered = false;
	List	   *current = NIL;
	Relation	rel;
	ListCell   *lc;

	if (known_none)
		return NIL;
	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(forget_none, (Datum) 0);
		callback_registered = true;
	}
	rel = tfstate_open(&tfstate_catalog()->freeze, AccessShareLock);
	known_table = RelationGetRelid(rel);
	known_none = true;			/* unless a change is reported meanwhile */
	foreach(lc, tfstate_freezes(rel))
	{
		if (!tfstate_freeze_is_over(lfirst(lc)))
			current = lappend(current, lfirst(lc));
	}
	if (current != NIL)
		known_none = false;
	table_close(rel, AccessShareLock);
	return current;
}

/*
 * Return true if the current role may lock in spite of a freeze: it is one of the roles that
 * this exempts, or a member of one.  A superuser counts as a member only of what it was
 * granted.
 */
static bool
is_exempt(const Freeze *freeze)
{
	ArrayType  *array = DatumGetArrayTypeP(FREEZE_DATUM(freeze, exempt));
	Oid		   *roles = (Oid *) ARR_DATA_PTR(array);

	for (int i = 0; i < ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)); i++)
	{
		if (is_member_of_role_nosuper(GetUserId(), roles[i]))
			return true;
	}
	return false;
}

/*
 * Return true if this session had a built-in lock of a workspace below the pattern when that
 * was frozen, as a Terraform without tfstate takes it.
 */
static bool
had_builtin(const Freeze *freeze)
{
	ArrayType  *array = DatumGetArrayTypeP(FREEZE_DATUM(freeze, builtin_pids));
	int32	   *pids = (int32 *) ARR_DATA_PTR(array);

	if (MyStartTimestamp > DatumGetTimestampTz(FREEZE_DATUM(freeze, since)))
		return false;			/* then the number was another session's */
	for (int i = 0; i < ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)); i++)
	{
		if (pids[i] == MyProcPid)
			return true;
	}
	return false;
}

/*
 * Return the freeze that refuses a lockid to the current role, NULL if there is none.
 * builtin says that this session has the built-in lock of the workspace.
 *
 * An inner lock is taken inside a holding, which goes on.
 */
static Freeze *
find_freeze(const char *lockid, bool builtin)
{
	ListCell   *lc;

	foreach(lc, current_freezes())
	{
		Freeze	   *freeze = lfirst(lc);

		if (tfstate_pattern_matches(lockid, FREEZE_TEXT(freeze, pattern)) &&
			!is_exempt(freeze) && !(builtin && had_builtin(freeze)) && !tfstate_is_inner_lockid(lockid))
			return freeze;
	}
	return NULL;
}

/*
 * Return true if there is certainly no freeze: this session knows of none, none is being made,
 * and no change has been reported.
 */
static bool
is_nothing_frozen(void)
{
	LOCKTAG		tag = tfstate_freeze_tag();

	/* in this order: a freeze is reported before it returns the tag */
	if (LockWaiterCount(&tag) > 0)
		known_none = false;
	else
		AcceptInvalidationMessages();
	return known_none;
}

/*
 * Return one line about a freeze: who made it, when, until when, and why.
 */
char *
tfstate_describe_freeze(const Freeze *freeze)
{
	return psprintf("frozen by %s since %s%s%s: %s",
					tfstate_one_line(FREEZE_TEXT(freeze, who), MAX_IN_MESSAGE),
					tfstate_format_time(DatumGetTimestampTz(FREEZE_DATUM(freeze, since))),
					FREEZE_NULL(freeze, until) ? "" : " until ",
					FREEZE_NULL(freeze, until) ? "" :
					tfstate_format_time(DatumGetTimestampTz(FREEZE_DATUM(freeze, until))),
					tfstate_one_line(FREEZE_TEXT(freeze, reason), TFSTATE_MAX_REASON));
}

static int
freeze_hint(const Freeze *freeze)
{
	return errhint("Wait for its end, or end it with: SELECT %s(%s);",
				   tfstate_callable("tfstate_unfreeze"),
				   tfstate_shown_literal(FREEZE_TEXT(freeze, pattern)));
}

/*
 * Error if a lockid is frozen for the current role.  With sure, the caller has inserted the
 * row of its lock; without, this looks only at what the session knows, and is cheaper.
 */
void
tfstate_check_frozen(const char *lockid, bool sure)
{
	Freeze	   *freeze;

	if (sure ? is_nothing_frozen() : known_none)
		return;
	freeze = find_freeze(lockid, false);
	if (freeze)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("%s is %s", tfstate_lock_subject(lockid), tfstate_describe_freeze(freeze)),
				 freeze_hint(freeze)));
}

/*
 * Error if a workspace is frozen for the current role, which is about to write it without
 * holding its lock.  builtin says that this session has the built-in lock of the workspace;
 * if it had that before, it may write.
 */
void
tfstate_check_write_frozen(const char *lockid, bool builtin)
{
	Freeze	   *freeze;

	if (is_nothing_frozen())
		return;
	freeze = find_freeze(lockid, builtin);
	if (freeze == NULL)
		return;
	tfstate_report_refusal(lockid, COUNT_REFUSED_FROZEN, "it is frozen");
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot change the state of workspace \"%s\": it is %s",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
					tfstate_describe_freeze(freeze)),
			 freeze_hint(freeze)));
}
