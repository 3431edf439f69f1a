/*-------------------------------------------------------------------------
 *
 * lockfuncs.c
 *	  The SQL functions that take, renew and release locks.
 *
 * They check arguments, privileges and the state of the server, and leave the rest to
 * acquire.c and release.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "common/catalog.h"
#include "common/limits.h"
#include "common/lockid.h"
#include "common/privilege.h"
#include "common/settings.h"
#include "common/text.h"
#include "common/workspace.h"
#include "lock/acquire.h"
#include "lock/conflict.h"
#include "lock/describe.h"
#include "lock/holding.h"
#include "lock/info.h"
#include "lock/lookup.h"
#include "lock/owner.h"
#include "lock/release.h"

PG_FUNCTION_INFO_V1(tfstate_lock);
PG_FUNCTION_INFO_V1(tfstate_try_lock);
PG_FUNCTION_INFO_V1(tfstate_wait_lock);
PG_FUNCTION_INFO_V1(tfstate_unlock);
PG_FUNCTION_INFO_V1(tfstate_renew);
PG_FUNCTION_INFO_V1(tfstate_force_unlock);

static void
check_not_null(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

static char *
text_argument(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

static char *
lockid_argument(FunctionCallInfo fcinfo)
{
	char	   *lockid;

	check_not_null(fcinfo, 0, "lockid");
	lockid = text_argument(fcinfo, 0);
	tfstate_check_lockid(lockid);
	return lockid;
}

/*
 * The length of an interval in microseconds, with months of 30 days.  Error if it is
 * negative or longer than a year; the message calls it by this name.
 */
static int64
interval_usecs(Interval *interval, const char *name)
{
	double		usecs = interval->time +
		((double) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY;

	if (usecs < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name)));
	if (usecs > TFSTATE_MAX_USECS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be longer than 365 days", name)));
	return (int64) usecs;
}

/*
 * The argument ttl, NULL if there is none.  Error if it is zero.
 */
static Interval *
ttl_argument(FunctionCallInfo fcinfo, int argument)
{
	Interval   *ttl;

	if (PG_ARGISNULL(argument))
		return NULL;
	ttl = PG_GETARG_INTERVAL_P(argument);
	if (interval_usecs(ttl, "ttl") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ttl must be greater than zero")));
	return ttl;
}

/* Return true for durable mode, false for session mode.  Error for anything else. */
static bool
mode_argument(FunctionCallInfo fcinfo, int argument)
{
	char	   *mode;

	check_not_null(fcinfo, argument, "mode");
	mode = text_argument(fcinfo, argument);
	if (strcmp(mode, "durable") == 0)
		return true;
	if (strcmp(mode, "session") == 0)
		return false;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized lock mode: \"%s\"", tfstate_one_line(mode, NAMEDATALEN)),
			 errhint("Valid modes are \"durable\" and \"session\".")));
}

/*
 * The row type that the function returns.  It is kept for the next call, because making it
 * takes longer than many a lock does.  It must be made before a wait: the function may have
 * been dropped after that.
 */
static TupleDesc
row_type(FunctionCallInfo fcinfo)
{
	static Oid	function = InvalidOid;
	static TupleDesc desc = NULL;
	TupleDesc	found;
	MemoryContext old;

	if (desc && fcinfo->flinfo->fn_oid == function)
		return desc;
	if (get_call_result_type(fcinfo, NULL, &found) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (desc)
		FreeTupleDesc(desc);
	desc = NULL;
	old = MemoryContextSwitchTo(TopMemoryContext);
	desc = BlessTupleDesc(CreateTupleDescCopy(found));
	MemoryContextSwitchTo(old);
	function = fcinfo->flinfo->fn_oid;
	return desc;
}

/*
 * Fill in a request from the arguments (lockid, info, mode, wait, ttl).  Error if one is
 * wrong, a setting is, or the role lacks the privilege "lock".
 */
static void
request_arguments(FunctionCallInfo fcinfo, LockRequest *request)
{
	memset(request, 0, sizeof(LockRequest));
	request->lockid = lockid_argument(fcinfo);
	check_not_null(fcinfo, 1, "info");
	request->info = PG_GETARG_JSONB_P(1);
	request->durable = mode_argument(fcinfo, 2);
	request->wait = -1;
	if (!PG_ARGISNULL(3))
		request->wait = interval_usecs(PG_GETARG_INTERVAL_P(3), "wait");
	request->ttl = ttl_argument(fcinfo, 4);
	if (request->ttl && !request->durable)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a lock in session mode cannot have a ttl")));
	tfstate_check_info(request->info);
	tfstate_check_settings();
	tfstate_check_privilege(request->lockid, "lock");
	request->has_key = tfstate_workspace_id(request->lockid, &request->key);
	/* without the extension the error is of that */
	(void) tfstate_catalog();
	(void) row_type(fcinfo);
}

/*
 * A row of the type that the function returns.
 */
static Datum
make_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	return HeapTupleGetDatum(heap_form_tuple(row_type(fcinfo), values, nulls));
}

/*
 * Take a lock, as tfstate_acquire() does.  Error if the privilege was revoked while the
 * session waited; the error also gives the lock back.
 */
static bool
acquire(const LockRequest *request, Holding *holding, LockConflict *conflict)
{
	bool		taken = tfstate_acquire(request, holding, conflict);

	if (request->wait != 0)
		tfstate_check_privilege(request->lockid, "lock");
	return taken;
}

/*
 * Take a lock and return (id, fence).  Error for a conflict.
 */
static Datum
lock_or_raise(FunctionCallInfo fcinfo, const LockRequest *request)
{
	bool		nulls[2] = {false, false};
	Datum		values[2];
	Holding		holding;
	LockConflict conflict;

	if (!acquire(request, &holding, &conflict))
		tfstate_raise_conflict(request->lockid, &conflict);
	if (!request->has_key)
		tfstate_notice_no_workspace(request->lockid);
	values[0] = HOLDING_DATUM(&holding, id);
	values[1] = HOLDING_DATUM(&holding, fence);
	return make_row(fcinfo, values, nulls);
}

/*
 * tfstate_lock(lockid text, info jsonb, mode text, wait interval, ttl interval)
 * returns (id text, fence bigint)
 */
Datum
tfstate_lock(PG_FUNCTION_ARGS)
{
	LockRequest request;

	tfstate_check_writable("tfstate_lock()");
	request_arguments(fcinfo, &request);
	return lock_or_raise(fcinfo, &request);
}

/*
 * tfstate_try_lock(same)
 * returns (locked boolean, id text, fence bigint, holder jsonb)
 */
Datum
tfstate_try_lock(PG_FUNCTION_ARGS)
{
	bool		nulls[4] = {false, true, true, true};
	Datum		values[4];
	Holding    *row;
	Holding		holding;
	LockConflict conflict;
	LockRequest request;
	bool		locked;

	tfstate_check_writable("tfstate_try_lock()");
	request_arguments(fcinfo, &request);
	locked = acquire(&request, &holding, &conflict);
	if (locked && !request.has_key)
		tfstate_notice_no_workspace(request.lockid);
	row = locked ? &holding : &conflict.holder;
	values[0] = BoolGetDatum(locked);
	if (locked || conflict.known)
	{
		values[1] = HOLDING_DATUM(row, id);
		values[2] = HOLDING_DATUM(row, fence);
		nulls[1] = nulls[2] = false;
	}
	if (!locked)
	{
		values[3] = conflict.known ? HOLDING_DATUM(row, info) :
			JsonbPGetDatum(tfstate_conflict_info(&conflict));
		nulls[3] = false;
	}
	return make_row(fcinfo, values, nulls);
}

/*
 * tfstate_wait_lock(lockid text, info jsonb, mode text, wait interval,
 *					 ttl interval, INOUT id text, INOUT fence bigint)
 *
 * The snapshot of a query keeps vacuum from removing what was deleted since.  So this
 * procedure commits, and then waits in the next transaction, without a snapshot.  Nothing
 * else may be committed by that, so the procedure is refused in a transaction that has
 * written something.
 */
Datum
tfstate_wait_lock(PG_FUNCTION_ARGS)
{
	CallContext *context = castNode(CallContext, fcinfo->context);
	LockRequest request;

	tfstate_check_writable("tfstate_wait_lock()");
	if (context->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("tfstate_wait_lock() cannot be called in a transaction block"),
				 errhint("Call tfstate_lock() with a wait there.")));
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("tfstate_wait_lock() cannot be called in a transaction that has written something"),
				 errdetail("It waits in a transaction of its own, and would commit what was written before."),
				 errhint("Commit before the call.")));
	request_arguments(fcinfo, &request);
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect_ext failed");
	SPI_commit();
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	return lock_or_raise(fcinfo, &request);
}

/*
 * tfstate_unlock(lockid text, id text) returns jsonb
 */
Datum
tfstate_unlock(PG_FUNCTION_ARGS)
{
	char	   *lockid;
	char	   *id;
	Holding		holding;

	tfstate_check_writable("tfstate_unlock()");
	lockid = lockid_argument(fcinfo);
	id = text_argument(fcinfo, 1);
	if (id)
		tfstate_check_id(id);
	tfstate_check_privilege(lockid, "lock");
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!tfstate_find_live_row(lockid, true, &holding))
			tfstate_raise_not_held(lockid);
		tfstate_check_may_unlock(lockid, id, &holding);
	} while (!tfstate_release(&holding, HOW_UNLOCK, NULL));
	PG_RETURN_DATUM(HOLDING_DATUM(&holding, info));
}

/*
 * tfstate_renew(lockid text, id text, ttl interval) returns timestamptz
 *
 * A lease that has expired can be renewed as long as the lock has not been taken since.
 */
Datum
tfstate_renew(PG_FUNCTION_ARGS)
{
	char	   *lockid;
	char	   *id;
	Interval   *ttl;
	Holding		holding;

	tfstate_check_writable("tfstate_renew()");
	lockid = lockid_argument(fcinfo);
	check_not_null(fcinfo, 1, "lock ID");
	id = text_argument(fcinfo, 1);
	tfstate_check_id(id);
	ttl = ttl_argument(fcinfo, 2);
	tfstate_check_privilege(lockid, "lock");
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!tfstate_current_holding(lockid, &holding))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("lease on state lock \"%s\" was lost: the lock is not held",
							tfstate_one_line(lockid, TFSTATE_MAX_LOCKID))));
		tfstate_check_may_renew(lockid, id, &holding);
	} while (!tfstate_renew_lease(&holding, ttl));
	PG_RETURN_DATUM(HOLDING_DATUM(&holding, expires_at));
}

/*
 * tfstate_force_unlock(lockid text, id text, reason text, terminate boolean)
 * returns jsonb
 */
Datum
tfstate_force_unlock(PG_FUNCTION_ARGS)
{
	char	   *lockid;
	char	   *id;
	char	   *reason;

	tfstate_check_writable("tfstate_force_unlock()");
	lockid = lockid_argument(fcinfo);
	id = text_argument(fcinfo, 1);
	if (id)
		tfstate_check_id(id);
	reason = text_argument(fcinfo, 2);
	if (reason && strlen(reason) > TFSTATE_MAX_REASON)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reason is too long: it has %zu bytes, and %d are allowed",
						strlen(reason), TFSTATE_MAX_REASON)));
	check_not_null(fcinfo, 3, "terminate");
	tfstate_check_privilege(lockid, "force");
	PG_RETURN_JSONB_P(tfstate_force_release(lockid, id, reason, PG_GETARG_BOOL(3)));
}
