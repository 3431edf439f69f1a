/*-------------------------------------------------------------------------
 *
 * lockviews.c
 *	  The functions in C that the views of locks use.
 *
 * The views of durable locks and of the history read their tables by SQL.  The rest is
 * here: what only the lock manager knows, and the locks in session mode, which are in shared
 * memory.
 *
 * None of this takes a tag, so reading a view never makes a try of another session fail.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/pg_list.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "common/attached.h"
#include "common/catalog.h"
#include "common/compat.h"
#include "common/lockid.h"
#include "common/privilege.h"
#include "common/text.h"
#include "common/workspace.h"
#include "lock/backend.h"
#include "lock/holding.h"
#include "lock/lockviews.h"
#include "lock/session.h"
#include "lock/session_lock.h"
#include "lock/tag.h"

PG_FUNCTION_INFO_V1(tfstate_age);
PG_FUNCTION_INFO_V1(tfstate_session_alive);
PG_FUNCTION_INFO_V1(tfstate_waiter_count);
PG_FUNCTION_INFO_V1(tfstate_session_locks);
PG_FUNCTION_INFO_V1(tfstate_waiters);

/*
 * tfstate_internal.age(created timestamptz) returns interval
 */
Datum
tfstate_age(PG_FUNCTION_ARGS)
{
	Datum		now = TimestampTzGetDatum(GetCurrentTimestamp());
	Interval   *age = DatumGetIntervalP(DirectFunctionCall2(timestamp_mi, now,
															PG_GETARG_DATUM(0)));

	age->time -= age->time % USECS_PER_SEC;
	PG_RETURN_INTERVAL_P(age);
}

/*
 * tfstate_internal.session_alive(session bigint) returns boolean
 */
Datum
tfstate_session_alive(PG_FUNCTION_ARGS)
{
	if (RecoveryInProgress())
		PG_RETURN_NULL();
	PG_RETURN_BOOL(tfstate_session_is_alive(PG_GETARG_INT64(0)));
}

/*
 * tfstate_internal.waiter_count(lockid text, mode text) returns integer
 *
 * Each waiter holds the lock tag or is queued for it.  So does the holder of a lock in
 * session mode, and a session that has not yet committed taking the lock; that can only be
 * this one, because others do not see such a lock.  NULL without the privilege "lock" or
 * "view", and on a standby.
 */
Datum
tfstate_waiter_count(PG_FUNCTION_ARGS)
{
	char	   *lockid = text_to_cstring(PG_GETARG_TEXT_PP(0));
	LOCKTAG		key;
	int			requests;

	if (RecoveryInProgress() ||
		!tfstate_allowed(tfstate_statement_privileges(fcinfo->flinfo, PRIVILEGE_SEE), lockid))
		PG_RETURN_NULL();
	key = tfstate_lock_tag(lockid);
	requests = LockWaiterCount(&key);
	if (strcmp(text_to_cstring(PG_GETARG_TEXT_PP(1)), "session") == 0 ||
		compat_lock_held_by_me(&key, ExclusiveLock))
		requests--;
	PG_RETURN_INT32(Max(requests, 0));
}

/*
 * tfstate_internal.session_locks() returns setof tfstate_internal.session_lock
 *
 * That has the columns of durable_lock.
 */
Datum
tfstate_session_locks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	SessionLockScan scan;
	Holding    *holding;
	List	   *patterns;

	InitMaterializedSRF(fcinfo, 0);
	if (RecoveryInProgress())
		PG_RETURN_NULL();

	patterns = tfstate_privileges(PRIVILEGE_SEE);
	tfstate_begin_session_scan(&scan, 0, false);
	while ((holding = tfstate_next_session_lock(&scan)) != NULL)
	{
		if (tfstate_holding_is_live(holding) &&
			tfstate_allowed(patterns, HOLDING_TEXT(holding, lockid)))
			tuplestore_putvalues(result->setResult, result->setDesc,
								 holding->values, holding->nulls);
	}
	tfstate_end_session_scan(&scan);
	PG_RETURN_NULL();
}

/*
 * A waiter: owns the waiter tag, or is queued for the lock tag.
 */
typedef struct Waiter
{
	uint64		number;			/* the hash in both tags */
	bool		first;			/* owns the waiter tag */
	TimestampTz since;			/* 0 if the lock manager does not know */
	int			pid;
	bool		has_key;		/* waits for a built-in lock, too */
	int64		key;			/* its number */
	const char *lockid;			/* NULL until it is found */
} Waiter;

/*
 * If the process that waits for a built-in lock is among the waiters, note the lock there.
 */
static void
set_key(Waiter *waiters, int count, const LockInstanceData *lock)
{
	for (int i = 0; i < count; i++)
	{
		if (!waiters[i].first || waiters[i].pid != lock->pid)
			continue;
		waiters[i].has_key = true;
		waiters[i].key = (int64) tfstate_tag_number(&lock->locktag);
	}
}

/*
 * The waiters in this database, as an array in the current memory context, without lockids.
 */
static Waiter *
collect_waiters(int *count)
{
	LockData   *data = GetLockStatusData();
	Waiter	   *waiters = palloc_array(Waiter, data->nelements + 1);

	*count = 0;
	for (int i = 0; i < data->nelements; i++)
	{
		LockInstanceData *lock = &data->locks[i];
		bool		first = tfstate_is_waiter_tag(&lock->locktag);

		if (!first && !(tfstate_is_lock_tag(&lock->locktag) && lock->waitLockMode != NoLock))
			continue;
		waiters[*count].number = tfstate_tag_number(&lock->locktag);
		waiters[*count].first = first;
		waiters[*count].since = lock->waitStart;
		waiters[*count].pid = lock->pid;
		waiters[*count].has_key = false;
		waiters[*count].lockid = NULL;
		(*count)++;
	}
	for (int i = 0; i < data->nelements; i++)
	{
		if (data->locks[i].waitLockMode != NoLock && tfstate_is_builtin_tag(&data->locks[i].locktag))
			set_key(waiters, *count, &data->locks[i]);
	}
	return waiters;
}

/* Order by lock, and then as they are served. */
static int
compare_waiters(const void *a, const void *b)
{
	const Waiter *x = a;
	const Waiter *y = b;

	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	if (x->first != y->first)
		return x->first ? -1 : 1;
	if (x->since != y->since)
		return x->since < y->since ? -1 : 1;
	return x->pid - y->pid;
}

/*
 * Fill in a lockid for the waiters of it.  They are in the order of compare_waiters().
 */
static void
name_waiters(Waiter *waiters, int count, const char *lockid)
{
	uint64		number = tfstate_hash_lockid(lockid);
	int			low = 0;
	int			high = count;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (waiters[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < count && waiters[low].number == number; low++)
	{
		if (waiters[low].lockid == NULL)
			waiters[low].lockid = pstrdup(lockid);
	}
}

/*
 * Fill in the lockids of durable locks.  Rows that are not committed count, too, because a
 * lock that an open transaction has taken can have waiters.
 */
static void
name_waiters_for_durable(Waiter *waiters, int count)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->durable, AccessShareLock);
	SnapshotData dirty;
	TableScanDesc scan;
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	InitDirtySnapshot(dirty);
	scan = table_beginscan_strat(rel, &dirty, 0, NULL, true, true);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		char	   *lockid;

		CHECK_FOR_INTERRUPTS();
		lockid = TextDatumGetCString(slot_getattr(slot, Anum_lock_lockid, &isnull));
		name_waiters(waiters, count, lockid);
		pfree(lockid);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
}

/*
 * The same for locks in session mode.
 */
static void
name_waiters_for_session(Waiter *waiters, int count)
{
	SessionLockScan scan;
	Holding    *holding;

	tfstate_begin_session_scan(&scan, 0, true);
	while ((holding = tfstate_next_session_lock(&scan)) != NULL)
	{
		char	   *lockid = HOLDING_TEXT(holding, lockid);

		name_waiters(waiters, count, lockid);
		pfree(lockid);
	}
	tfstate_end_session_scan(&scan);
}

/*
 * Fill in the lockids of waiters that wait for the built-in lock of a client without
 * tfstate, for which there is no row.
 */
static void
name_waiters_by_key(Waiter *waiters, int count)
{
	for (int i = 0; i < count; i++)
	{
		char	   *lockid;

		if (waiters[i].lockid || !waiters[i].has_key)
			continue;
		lockid = tfstate_creation_lockid(InvalidOid, waiters[i].key);
		if (lockid == NULL)
			lockid = tfstate_workspace_by_id(InvalidOid, waiters[i].key);
		if (lockid)
			name_waiters(waiters, count, lockid);
	}
}

/*
 * Since when a waiter waits.  For the first one, which does not wait for a tag, that is the
 * start of its statement.
 */
static Datum
waiting_since(const Waiter *waiter, TimestampTz statement_start)
{
	TimestampTz since = waiter->since ? waiter->since : statement_start;

	return TimestampTzGetDatum(since - since % USECS_PER_SEC);
}

/*
 * Add a waiter to the result.
 */
static void
put_waiter(ReturnSetInfo *result, const Waiter *waiter, int position)
{
	Datum		values[7];
	bool		nulls[7] = {false};
	BackendDetails details;

	tfstate_backend_details(waiter->pid, &details);
	nulls[0] = (waiter->lockid == NULL);
	if (waiter->lockid)
		values[0] = CStringGetTextDatum(waiter->lockid);
	values[1] = Int32GetDatum(position);
	values[2] = Int32GetDatum(waiter->pid);
	nulls[3] = (details.role == NULL);
	if (details.role)
		values[3] = CStringGetTextDatum(tfstate_valid_text(details.role));
	nulls[4] = (details.application_name == NULL);
	if (details.application_name)
		values[4] = CStringGetTextDatum(details.application_name);
	nulls[5] = (details.client_addr == NULL);
	if (details.client_addr)
		values[5] = DirectFunctionCall1(inet_in, CStringGetDatum(details.client_addr));
	values[6] = waiting_since(waiter, details.statement_start);
	nulls[6] = (DatumGetTimestampTz(values[6]) == 0);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * The waiters for lockids that match a pattern, in the order of compare_waiters(), as an array
 * in the current memory context.  All are in it; those of other lockids may have none.
 */
static Waiter *
find_waiters(const char *pattern, int *count)
{
	Waiter	   *waiters = collect_waiters(count);

	qsort(waiters, *count, sizeof(Waiter), compare_waiters);
	if (strchr(pattern, '*') == NULL)
		name_waiters(waiters, *count, pattern);
	else if (*count > 0)
	{
		name_waiters_for_durable(waiters, *count);
		name_waiters_for_session(waiters, *count);
		name_waiters_by_key(waiters, *count);
	}
	return waiters;
}

/*
 * Count the waiters for lockids that one of the patterns allows, and set since when the first
 * of them has been waiting; 0 if there is none.  Not for a standby.
 */
int
tfstate_count_waiters(List *patterns, TimestampTz *since)
{
	int			result = 0;
	int			count;
	Waiter	   *waiters = find_waiters("*", &count);

	*since = 0;
	for (int i = 0; i < count; i++)
	{
		BackendDetails details;
		TimestampTz start = waiters[i].since;

		if (!tfstate_allowed(patterns, waiters[i].lockid ? waiters[i].lockid : ""))
			continue;
		result++;
		if (start == 0 && tfstate_backend_details(waiters[i].pid, &details))
			start = details.statement_start;
		if (start != 0 && (*since == 0 || start < *since))
			*since = start;
	}
	return result;
}

/*
 * tfstate_waiters(pattern text)
 * returns setof (lockid, position, pid, role, application_name, client_addr,
 *				  since)
 *
 * A waiter of a lockid that has no row has lockid NULL, and only the extension's owner sees
 * it.  That lasts only until the waiter has woken up.
 */
Datum
tfstate_waiters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *pattern = text_to_cstring(PG_GETARG_TEXT_PP(0));
	List	   *patterns = tfstate_privileges(PRIVILEGE_SEE);
	int			position = 0;
	int			count;
	Waiter	   *waiters;

	tfstate_check_pattern(pattern);
	tfstate_tell_if_blind(PRIVILEGE_SEE, patterns);
	InitMaterializedSRF(fcinfo, 0);
	if (RecoveryInProgress())
		PG_RETURN_NULL();

	waiters = find_waiters(pattern, &count);
	for (int i = 0; i < count; i++)
	{
		const char *lockid = waiters[i].lockid ? waiters[i].lockid : "";

		position = (i > 0 && waiters[i].number == waiters[i - 1].number) ? position + 1 : 1;
		if (tfstate_pattern_matches(lockid, pattern) && tfstate_allowed(patterns, lockid))
			put_waiter(result, &waiters[i], position);
	}
	PG_RETURN_NULL();
}
