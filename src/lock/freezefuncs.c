/*-------------------------------------------------------------------------
 *
 * freezefuncs.c
 *	  The SQL functions that begin and end a freeze.
 *
 * How a freeze and a lock that is being taken see each other is told in freeze.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/pg_list.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "common/attached.h"
#include "common/catalog.h"
#include "common/compat.h"
#include "common/limits.h"
#include "common/lockid.h"
#include "common/privilege.h"
#include "common/settings.h"
#include "common/text.h"
#include "common/workspace.h"
#include "lock/backend.h"
#include "lock/freeze_internal.h"
#include "lock/holding.h"
#include "lock/holding_internal.h"
#include "lock/info.h"
#include "lock/inner.h"
#include "lock/session_lock.h"
#include "lock/tag.h"
#include "lock/wait.h"

PG_FUNCTION_INFO_V1(tfstate_freeze);
PG_FUNCTION_INFO_V1(tfstate_unfreeze);
PG_FUNCTION_INFO_V1(tfstate_report_freeze);

/* The columns that tfstate_freeze() returns. */
enum
{
	RUNNING_LOCKID,
	RUNNING_WHO,
	RUNNING_OPERATION,
	RUNNING_CREATED,
	RUNNING_MODE,
	RUNNING_ID,
	RUNNING_ROLE,
	RUNNING_PID,
	NUM_RUNNING
};

/*
 * A text that must be there, and be neither empty nor longer than max_bytes.
 */
static char *
text_argument(FunctionCallInfo fcinfo, int argument, const char *name, int max_bytes)
{
	char	   *value;

	if (PG_ARGISNULL(argument))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
	value = text_to_cstring(PG_GETARG_TEXT_PP(argument));
	if (*value == '\0' || strlen(value) > max_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must have 1 to %d bytes", name, max_bytes)));
	return value;
}

/*
 * Set until from the argument; it stays NULL for a freeze without an end.
 */
static void
until_argument(FunctionCallInfo fcinfo, int argument, Freeze *freeze)
{
	TimestampTz until;

	FREEZE_NULL(freeze, until) = true;
	if (PG_ARGISNULL(argument))
		return;
	until = PG_GETARG_TIMESTAMPTZ(argument);
	if (until <= GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the end of a freeze must be in the future")));
	if (TIMESTAMP_IS_NOEND(until))
		return;
	FREEZE_NULL(freeze, until) = false;
	FREEZE_DATUM(freeze, until) = TimestampTzGetDatum(until);
}

/*
 * An array of roles from an array of their names.  Error if one of them does not exist.
 */
static ArrayType *
roles_argument(FunctionCallInfo fcinfo, int argument, Oid role_type)
{
	Datum	   *names;
	bool	   *nulls;
	int			count = 0;

	if (!PG_ARGISNULL(argument))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), NAMEOID, NAMEDATALEN, false,
						  TYPALIGN_CHAR, &names, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("the name of a role must not be null")));
		names[i] = ObjectIdGetDatum(get_role_oid(NameStr(*DatumGetName(names[i])), false));
	}
	return construct_array(names, count, role_type, sizeof(Oid), true, TYPALIGN_INT);
}

/*
 * Add a row to the list of running holders, unless its lockid does not match the pattern.
 */
static void
put_running(ReturnSetInfo *result, const char *lockid, Datum *values, bool *nulls)
{
	values[RUNNING_LOCKID] = CStringGetTextDatum(lockid);
	nulls[RUNNING_LOCKID] = false;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_holding(ReturnSetInfo *result, const Holding *holding)
{
	Datum		values[NUM_RUNNING];
	bool		nulls[NUM_RUNNING] = {false};
	Jsonb	   *info = DatumGetJsonbP(HOLDING_DATUM(holding, info));
	char	   *who = tfstate_info_get(info, "Who");
	char	   *operation = tfstate_info_get(info, "Operation");
	char	   *role = GetUserNameFromId(DatumGetObjectId(HOLDING_DATUM(holding, role)), true);

	nulls[RUNNING_WHO] = (who == NULL);
	nulls[RUNNING_OPERATION] = (operation == NULL);
	if (who)
		values[RUNNING_WHO] = CStringGetTextDatum(who);
	if (operation)
		values[RUNNING_OPERATION] = CStringGetTextDatum(operation);
	values[RUNNING_CREATED] = HOLDING_DATUM(holding, created);
	values[RUNNING_MODE] = CStringGetTextDatum(holding->durable ? "durable" : "session");
	values[RUNNING_ID] = HOLDING_DATUM(holding, id);
	values[RUNNING_ROLE] = role ? CStringGetTextDatum(tfstate_valid_text(role)) :
		HOLDING_DATUM(holding, role_name);
	values[RUNNING_PID] = HOLDING_DATUM(holding, pid);
	put_running(result, HOLDING_TEXT(holding, lockid), values, nulls);
}

/*
 * List a lock, if it is below a pattern and held.
 */
static void
list_holding(ReturnSetInfo *result, const char *pattern, const Holding *holding)
{
	char	   *lockid = HOLDING_TEXT(holding, lockid);

	if (tfstate_pattern_matches(lockid, pattern) && !tfstate_is_inner_lockid(lockid) &&
		!tfstate_holding_expired(holding) && tfstate_holding_is_live(holding))
		put_holding(result, holding);
}

/*
 * List the locks below a pattern in durable mode, or in session mode; those that an open
 * transaction takes or releases are among them.
 */
static void
list_durable(ReturnSetInfo *result, const char *pattern)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->durable, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	SnapshotData dirty;
	TableScanDesc scan;

	InitDirtySnapshot(dirty);
	scan = table_beginscan_strat(rel, &dirty, 0, NULL, true, true);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Holding		holding;

		CHECK_FOR_INTERRUPTS();
		tfstate_read_holding(ExecFetchSlotHeapTuple(slot, false, NULL), rel, &holding);
		list_holding(result, pattern, &holding);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
}

static void
list_session(ReturnSetInfo *result, const char *pattern)
{
	SessionLockScan scan;
	Holding    *holding;

	tfstate_begin_session_scan(&scan, 0, true);
	while ((holding = tfstate_next_session_lock(&scan)) != NULL)
		list_holding(result, pattern, holding);
	tfstate_end_session_scan(&scan);
}

/*
 * List the session that has the built-in lock of a workspace, which is a Terraform without
 * tfstate.
 */
static void
put_builtin(ReturnSetInfo *result, const char *lockid, int pid)
{
	Datum		values[NUM_RUNNING] = {0};
	bool		nulls[NUM_RUNNING];
	BackendDetails details;

	memset(nulls, true, sizeof(nulls));
	values[RUNNING_MODE] = CStringGetTextDatum("built-in");
	values[RUNNING_PID] = Int32GetDatum(pid);
	nulls[RUNNING_MODE] = nulls[RUNNING_PID] = false;
	if (tfstate_backend_details(pid, &details) && details.role)
	{
		char	   *role = tfstate_valid_text(details.role);

		values[RUNNING_ROLE] = CStringGetTextDatum(role);
		values[RUNNING_WHO] =
			CStringGetTextDatum(psprintf("%s@%s", role, details.client_addr ?
										 details.client_addr : "[local]"));
		nulls[RUNNING_ROLE] = nulls[RUNNING_WHO] = false;
	}
	put_running(result, lockid, values, nulls);
}

/*
 * List the sessions that have the built-in lock of a workspace below the pattern, as a
 * Terraform without tfstate takes it.  Returns an array of their process IDs.
 */
static ArrayType *
list_builtins(ReturnSetInfo *result, const char *pattern)
{
	LockData   *data = GetLockStatusData();
	Datum	   *pids = palloc_array(Datum, data->nelements + 1);
	List	   *tables = tfstate_attached_tables();
	int			count = 0;

	for (int i = 0; i < data->nelements; i++)
	{
		const LockInstanceData *lock = &data->locks[i];
		bool		found = false;
		ListCell   *lc;

		if (!tfstate_is_builtin_tag(&lock->locktag) ||
			(lock->holdMask & LOCKBIT_ON(ExclusiveLock)) == 0)
			continue;
		foreach(lc, tables)
		{
			char	   *lockid;

			CHECK_FOR_INTERRUPTS();
			lockid = tfstate_workspace_by_id(lfirst_oid(lc),
											 (int64) tfstate_tag_number(&lock->locktag));
			if (lockid == NULL || !tfstate_pattern_matches(lockid, pattern))
				continue;
			put_builtin(result, lockid, lock->pid);
			found = true;
		}
		if (found)
			pids[count++] = Int32GetDatum(lock->pid);
	}
	return construct_array(pids, count, INT4OID, sizeof(int32), true, TYPALIGN_INT);
}

/*
 * Have this transaction be the only one that changes freezes, and the sessions be told of
 * it at its commit.
 */
static Relation
open_freezes(void)
{
	LOCKTAG		tag = tfstate_freeze_tag();
	Relation	rel;
	WaitLimit	limit;

	tfstate_start_wait(&limit, -1);
	(void) tfstate_wait_tag(&tag, &limit);
	rel = tfstate_open(&tfstate_catalog()->freeze, RowExclusiveLock);
	CacheInvalidateRelcacheByRelid(RelationGetRelid(rel));
	return rel;
}

/*
 * Delete the row of a freeze.  Error if another transaction has changed it, which only SQL
 * can do.
 */
static void
delete_freeze(Relation rel, Freeze *freeze)
{
	if (compat_delete_tuple(rel, &freeze->tid, GetCurrentCommandId(true), true) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the freeze of pattern \"%s\" was changed at the same time",
						tfstate_one_line(FREEZE_TEXT(freeze, pattern), TFSTATE_MAX_LOCKID))));
}

/*
 * Delete the freezes that have ended.  Error if this pattern is frozen.
 */
static void
make_room(Relation rel, const char *pattern)
{
	ListCell   *lc;

	foreach(lc, tfstate_freezes(rel))
	{
		Freeze	   *freeze = lfirst(lc);

		if (tfstate_freeze_is_over(freeze))
			delete_freeze(rel, freeze);
		else if (strcmp(FREEZE_TEXT(freeze, pattern), pattern) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("pattern \"%s\" is already %s",
							tfstate_one_line(pattern, TFSTATE_MAX_LOCKID),
							tfstate_describe_freeze(freeze)),
					 errhint("To replace the freeze, call tfstate_unfreeze() before, in the same transaction.")));
	}
	CommandCounterIncrement();
}

/*
 * tfstate_freeze(pattern text, reason text, until timestamptz, exempt name[])
 * returns setof (lockid, who, operation, created, mode, id, role, pid)
 */
Datum
tfstate_freeze(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Freeze		freeze = {0};
	Relation	rel;
	char	   *pattern;
	char	   *reason;
	Oid			exempt_type;

	tfstate_check_writable("tfstate_freeze()");
	pattern = text_argument(fcinfo, 0, "pattern", TFSTATE_MAX_LOCKID);
	reason = text_argument(fcinfo, 1, "reason", TFSTATE_MAX_REASON);
	until_argument(fcinfo, 2, &freeze);
	tfstate_check_settings();
	tfstate_check_privilege(pattern, "override");
	InitMaterializedSRF(fcinfo, 0);

	rel = open_freezes();
	make_room(rel, pattern);
	exempt_type = TupleDescAttr(RelationGetDescr(rel), Anum_freeze_exempt - 1)->atttypid;
	FREEZE_DATUM(&freeze, pattern) = CStringGetTextDatum(pattern);
	FREEZE_DATUM(&freeze, reason) = CStringGetTextDatum(reason);
	FREEZE_DATUM(&freeze, who) = CStringGetTextDatum(tfstate_caller());
	FREEZE_DATUM(&freeze, role) = ObjectIdGetDatum(GetUserId());
	FREEZE_DATUM(&freeze, since) = TimestampTzGetDatum(GetCurrentTimestamp());
	FREEZE_DATUM(&freeze, exempt) =
		PointerGetDatum(roles_argument(fcinfo, 3, get_element_type(exempt_type)));
	FREEZE_DATUM(&freeze, builtin_pids) = PointerGetDatum(list_builtins(result, pattern));
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), freeze.values, freeze.nulls));
	table_close(rel, NoLock);
	CommandCounterIncrement();

	/* not before: see freeze.c */
	list_durable(result, pattern);
	list_session(result, pattern);
	PG_RETURN_NULL();
}

/*
 * tfstate_unfreeze(pattern text) returns void
 */
Datum
tfstate_unfreeze(PG_FUNCTION_ARGS)
{
	char	   *pattern;
	Relation	rel;
	ListCell   *lc;
	bool		found = false;

	tfstate_check_writable("tfstate_unfreeze()");
	pattern = text_argument(fcinfo, 0, "pattern", TFSTATE_MAX_LOCKID);
	tfstate_check_privilege(pattern, "override");
	rel = open_freezes();
	foreach(lc, tfstate_freezes(rel))
	{
		Freeze	   *freeze = lfirst(lc);

		if (strcmp(FREEZE_TEXT(freeze, pattern), pattern) != 0 || tfstate_freeze_is_over(freeze))
			continue;
		delete_freeze(rel, freeze);
		found = true;
	}
	table_close(rel, NoLock);
	CommandCounterIncrement();
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("pattern \"%s\" is not frozen", tfstate_one_line(pattern, TFSTATE_MAX_LOCKID)),
				 errhint("The view tfstate_freezes lists the patterns that are.")));
	PG_RETURN_VOID();
}

/*
 * tfstate_internal.report_freeze() returns trigger
 *
 * Has all sessions look at the table of freezes again, after a restore, logical replication
 * or an administrator has changed a row.
 */
Datum
tfstate_report_freeze(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as a trigger")));
	CacheInvalidateRelcache(trigger->tg_relation);
	return PointerGetDatum(NULL);
}
