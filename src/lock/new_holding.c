/*-------------------------------------------------------------------------
 *
 * new_holding.c
 *	  What is written into the row of a lock that is taken.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "common/catalog.h"
#include "common/run.h"
#include "common/text.h"
#include "lock/backend.h"
#include "lock/holding.h"
#include "lock/info.h"
#include "lock/new_holding.h"
#include "lock/session.h"

static void
set_value(Holding *holding, int column, Datum value)
{
	holding->values[column - 1] = value;
	holding->nulls[column - 1] = false;
}

/* NULL and the empty text become NULL. */
static void
set_text(Holding *holding, int column, const char *text)
{
	holding->nulls[column - 1] = (text == NULL || *text == '\0');
	if (!holding->nulls[column - 1])
		set_value(holding, column, CStringGetTextDatum(text));
}

/*
 * Record this process and its role as the holder.
 */
static void
set_process(Holding *holding)
{
	const char *addr = tfstate_client_addr();
	Oid			role = GetUserId();
	Oid			login_role = GetSessionUserId();
	const char *name = tfstate_my_role_name();

	set_value(holding, Anum_lock_pid, Int32GetDatum(MyProcPid));
	set_value(holding, Anum_lock_role, ObjectIdGetDatum(role));
	set_text(holding, Anum_lock_role_name, name);
	if (login_role != role)
		name = tfstate_valid_text(GetUserNameFromId(login_role, false));
	set_text(holding, Anum_lock_login_role, name);
	set_text(holding, Anum_lock_application_name, application_name);
	holding->nulls[Anum_lock_client_addr - 1] = (addr == NULL);
	if (addr)
		set_value(holding, Anum_lock_client_addr,
				  DirectFunctionCall1(inet_in, CStringGetDatum(addr)));
}

/*
 * Record the keys by which Terraform knows the lock.
 */
static void
set_keys(Holding *holding, const LockRequest *request)
{
	if (request->has_key && !request->tied)
		set_value(holding, Anum_lock_key, Int64GetDatum(request->key));
	holding->nulls[Anum_lock_unlock_key - 1] = (request->unlock_key == 0);
	if (request->unlock_key != 0)
		set_value(holding, Anum_lock_unlock_key, Int64GetDatum(request->unlock_key));
}

/*
 * Record this session as the holder that has the lock from now on, and how it
 * will unlock.
 */
void
tfstate_set_holder(const LockRequest *request, Holding *holding)
{
	set_process(holding);
	set_value(holding, Anum_lock_session, Int64GetDatum(tfstate_session_open()));
	set_keys(holding, request);
}

/*
 * Record a ttl that counts from now.
 */
void
tfstate_set_expiry(Holding *holding, Interval *ttl)
{
	set_value(holding, Anum_lock_ttl, IntervalPGetDatum(ttl));
	set_value(holding, Anum_lock_expires_at,
			  DirectFunctionCall2(timestamptz_pl_interval,
								  TimestampTzGetDatum(GetCurrentTimestamp()),
								  IntervalPGetDatum(ttl)));
}

/*
 * Bring a row that was filled in before a wait up to date.  Returns false if that is not
 * possible.
 */
static bool
refill(const LockRequest *request, TimestampTz created, Holding *holding)
{
	if (!tfstate_restamp_info(DatumGetJsonbP(HOLDING_DATUM(holding, info)),
							  DatumGetTimestampTz(HOLDING_DATUM(holding, created)), created))
		return false;
	set_value(holding, Anum_lock_created, TimestampTzGetDatum(created));
	if (request->ttl)
		tfstate_set_expiry(holding, request->ttl);
	return true;
}

/*
 * Fill in the row of a lock that is being taken, all but its fence and its session, which are
 * 0: a session that only waits needs no session tag.  prepared is what this has returned for the
 * same request before, or NULL; it takes less time with that.
 * Errors: an invalid info.
 */
void
tfstate_fill_holding(const LockRequest *request, const Holding *prepared, Holding *holding)
{
	TimestampTz created = GetCurrentTimestamp();
	char	   *id;
	Jsonb	   *info;

	if (prepared)
	{
		*holding = *prepared;
		if (refill(request, created, holding))
			return;
	}
	info = tfstate_fill_info(request->info, request->lockid, created, &id);
	memset(holding->nulls, true, sizeof(holding->nulls));
	holding->durable = request->durable;
	set_text(holding, Anum_lock_lockid, request->lockid);
	set_value(holding, Anum_lock_fence, Int64GetDatum(0));
	set_text(holding, Anum_lock_id, id);
	set_value(holding, Anum_lock_created, TimestampTzGetDatum(created));
	if (request->ttl)
		tfstate_set_expiry(holding, request->ttl);
	set_process(holding);
	set_value(holding, Anum_lock_session, Int64GetDatum(0));
	set_keys(holding, request);
	set_text(holding, Anum_lock_run_id, tfstate_my_run());
	set_value(holding, Anum_lock_info, JsonbPGetDatum(info));
}
