/*-------------------------------------------------------------------------
 *
 * metrics.c
 *	  The numbers that a monitoring system collects.
 *
 * Gauges are measured at the call: one pass over the rows of the locks that are held, one over
 * the lock manager, and the size of the table of versions.  So a call costs the same however
 * many workspaces, versions and finished holdings there are.  Counters stand in shared memory
 * (common/shared.c), and begin anew when the server restarts.
 *
 * A member of pg_monitor, and a role that may view all lockids, gets all numbers of the
 * database; they name no lock and no person.  Any other role gets the gauges of the locks that
 * it may see.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/pg_list.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "common/counters.h"
#include "common/privilege.h"
#include "common/scan.h"
#include "common/shared.h"
#include "lock/holding.h"
#include "lock/lockviews.h"
#include "lock/session.h"
#include "lock/session_lock.h"

PG_FUNCTION_INFO_V1(tfstate_metrics);
PG_FUNCTION_INFO_V1(tfstate_sees_all_metrics);

/* A number as it is shown; what has one name has one type and help. */
typedef struct Metric
{
	const char *name;
	const char *type;
	const char *help;
	const char *labels;			/* a JSON object */
} Metric;

#define COUNTER(name, help, labels)	{name, "counter", help, labels}
#define ACQUISITIONS(mode) \
	COUNTER("tfstate_acquisitions_total", "Locks that were taken.", "{\"mode\":\"" mode "\"}")
#define RELEASES(how) \
	COUNTER("tfstate_releases_total", "Locks that ended.", "{\"how\":\"" how "\"}")
#define REFUSALS(reason) \
	COUNTER("tfstate_refusals_total", "Writes of states that the guard refused.", "{\"reason\":\"" reason "\"}")

static const Metric counters[NUM_COUNTERS] = {
	[COUNT_DURABLE] = ACQUISITIONS("durable"),
	[COUNT_SESSION] = ACQUISITIONS("session"),
	[COUNT_CONFLICTS] = COUNTER("tfstate_conflicts_total",
								"Requests for a lock that was held, and not free in time.", "{}"),
	[COUNT_UNLOCKED] = RELEASES("unlock"),
	[COUNT_FORCED] = RELEASES("force"),
	[COUNT_EXPIRED] = RELEASES("expired"),
	[COUNT_RECLAIMED] = RELEASES("reclaimed"),
	[COUNT_REFUSED_HELD] = REFUSALS("held"),
	[COUNT_REFUSED_UNLOCKED] = REFUSALS("unlocked"),
	[COUNT_REFUSED_LOST] = REFUSALS("lost"),
	[COUNT_REFUSED_FENCE] = REFUSALS("fence"),
	[COUNT_REFUSED_WRITTEN] = REFUSALS("written"),
	[COUNT_REFUSED_SERIAL] = REFUSALS("serial"),
	[COUNT_REFUSED_LINEAGE] = REFUSALS("lineage"),
	[COUNT_REFUSED_TEXT] = REFUSALS("not a state"),
	[COUNT_REFUSED_FROZEN] = REFUSALS("frozen"),
	[COUNT_REFUSED_PRIVILEGE] = REFUSALS("privilege"),
	[COUNT_OVERRIDES] = COUNTER("tfstate_overrides_total",
								"Writes of states with tfstate.guard = off.", "{}")
};

/* The locks of one mode. */
typedef struct Measures
{
	int			held;
	int			orphans;
	TimestampTz oldest;
} Measures;

/*
 * Return true if the current role gets all numbers.
 */
static bool
sees_all(List *patterns)
{
	ListCell   *lc;

	if (has_privs_of_role(GetUserId(), ROLE_PG_MONITOR))
		return true;
	foreach(lc, patterns)
	{
		if (strcmp(lfirst(lc), "*") == 0)
			return true;
	}
	return false;
}

/*
 * tfstate_internal.sees_all_metrics() returns boolean
 */
Datum
tfstate_sees_all_metrics(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(sees_all(tfstate_privileges("view")));
}

/* Put out a number. */
static void
put(ReturnSetInfo *result, const Metric *metric, double value)
{
	Datum		values[5];
	bool		nulls[5] = {false};

	values[0] = CStringGetTextDatum(metric->name);
	values[1] = CStringGetTextDatum(metric->type);
	values[2] = CStringGetTextDatum(metric->help);
	values[3] = DirectFunctionCall1(jsonb_in, CStringGetDatum(metric->labels));
	values[4] = Float8GetDatum(value);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_gauge(ReturnSetInfo *result, const char *name, const char *help, const char *labels,
		  double value)
{
	Metric		metric = {name, "gauge", help, labels};

	put(result, &metric, value);
}

/* The seconds since a point in time, 0 for none. */
static double
seconds_since(TimestampTz time)
{
	return time == 0 ? 0 : Max(GetCurrentTimestamp() - time, 0) / (double) USECS_PER_SEC;
}

/*
 * Return true if nobody is there to release a lock, and no lease ends it.
 */
static bool
is_orphan(const Holding *holding)
{
	return HOLDING_NULL(holding, expires_at) &&
		!tfstate_session_is_alive(HOLDING_INT64(holding, session));
}

/*
 * Count a lock, if it is held and one of the patterns allows it.
 */
static void
measure(const Holding *holding, List *patterns, Measures *measures)
{
	TimestampTz created = DatumGetTimestampTz(HOLDING_DATUM(holding, created));

	if (tfstate_holding_expired(holding) || !tfstate_holding_is_live(holding) ||
		!tfstate_allowed(patterns, HOLDING_TEXT(holding, lockid)))
		return;
	measures->held++;
	if (holding->durable && !RecoveryInProgress() && is_orphan(holding))
		measures->orphans++;
	if (measures->oldest == 0 || created < measures->oldest)
		measures->oldest = created;
}

/*
 * Measure the locks of each mode that one of the patterns allows.
 */
static void
measure_durable(List *patterns, Measures *measures)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->durable, AccessShareLock);
	TableScan	scan;
	HeapTuple	tuple;

	memset(measures, 0, sizeof(Measures));
	tfstate_begin_scan(&scan, rel, InvalidOid, NULL, 0, NULL);
	while ((tuple = tfstate_next_row(&scan, ForwardScanDirection)) != NULL)
	{
		Holding		holding = {.durable = true};

		heap_deform_tuple(tuple, RelationGetDescr(rel), holding.values, holding.nulls);
		measure(&holding, patterns, measures);
	}
	tfstate_end_scan(&scan);
	table_close(rel, AccessShareLock);
}

static void
measure_session(List *patterns, Measures *measures)
{
	SessionLockScan scan;
	Holding    *holding;

	memset(measures, 0, sizeof(Measures));
	tfstate_begin_session_scan(&scan, 0, false);
	while ((holding = tfstate_next_session_lock(&scan)) != NULL)
		measure(holding, patterns, measures);
	tfstate_end_session_scan(&scan);
}

static void
put_measures(ReturnSetInfo *result, const char *labels, const Measures *measures)
{
	put_gauge(result, "tfstate_locks_held", "Locks that are held.", labels, measures->held);
	put_gauge(result, "tfstate_oldest_lock_age_seconds",
			  "For how long the oldest lock has been held, 0 without any.", labels,
			  seconds_since(measures->oldest));
}

/*
 * Put out the gauges of the locks that one of the patterns allows.  On a standby only the
 * durable locks are known.
 */
static void
put_lock_gauges(ReturnSetInfo *result, List *patterns)
{
	Measures	measures;
	TimestampTz since;
	int			waiters;

	measure_durable(patterns, &measures);
	put_measures(result, "{\"mode\":\"durable\"}", &measures);
	if (RecoveryInProgress())
		return;
	put_gauge(result, "tfstate_orphaned_locks",
			  "Durable locks without a lease whose session is gone.", "{}", measures.orphans);
	measure_session(patterns, &measures);
	put_measures(result, "{\"mode\":\"session\"}", &measures);
	waiters = tfstate_count_waiters(patterns, &since);
	put_gauge(result, "tfstate_waiters", "Sessions that wait for a lock.", "{}", waiters);
	put_gauge(result, "tfstate_longest_wait_seconds",
			  "For how long the first of them has waited, 0 without any.", "{}",
			  seconds_since(since));
}

static void
put_counters(ReturnSetInfo *result)
{
	TfstateShared *shared = tfstate_shared();

	if (shared == NULL)
		return;
	put_gauge(result, "tfstate_counters_start_time_seconds",
			  "When the counters began, as a Unix time.", "{}",
			  shared->since / (double) USECS_PER_SEC +
			  (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (double) SECS_PER_DAY);
	for (int i = 0; i < NUM_COUNTERS; i++)
		put(result, &counters[i], (double) pg_atomic_read_u64(&shared->counts[i]));
}

/*
 * tfstate_internal.metrics()
 * returns setof (name text, type text, help text, labels jsonb, value double precision)
 */
Datum
tfstate_metrics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	List	   *patterns = tfstate_privileges(PRIVILEGE_SEE);
	bool		all = sees_all(tfstate_privileges("view"));

	InitMaterializedSRF(fcinfo, 0);
	if (!all)
		tfstate_tell_if_blind(PRIVILEGE_SEE, patterns);
	put_lock_gauges(result, all ? list_make1("*") : patterns);
	if (!all)
		PG_RETURN_NULL();
	put_gauge(result, "tfstate_versions_bytes",
			  "Disk space of the recorded versions of states, with indexes and free space.", "{}",
			  DatumGetInt64(DirectFunctionCall1(pg_total_relation_size,
												ObjectIdGetDatum(tfstate_catalog()->version))));
	put_counters(result);
	PG_RETURN_NULL();
}
