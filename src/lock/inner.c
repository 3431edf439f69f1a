/*-------------------------------------------------------------------------
 *
 * inner.c
 *	  The lock of a command that works inside a holding.
 *
 * A run that holds a workspace's lock, by "tfstate run" for example, starts commands that
 * lock the workspace, too: a plan and then the apply of it, with nobody else in between.
 * Such a command neither takes that lock nor releases it.  Instead it takes the inner lock
 * of the holding, an ordinary lock whose lockid is made of the holding's fence, so that two
 * commands of one run exclude each other.  The inner lock permits nothing by itself: what
 * the command writes is checked against the holding.  Once that has ended nobody asks
 * for its inner lock any more, since the next holding has another fence.
 *
 * A holding can have commands inside if it was taken by tfstate_lock() and the like, which
 * Terraform does not unlock, and for a run that has a name, which is how a command shows
 * that it belongs there.  test/model/inner.pml is a model of this.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/run.h"
#include "lock/history.h"
#include "lock/holding_internal.h"
#include "lock/inner.h"
#include "lock/lookup.h"
#include "lock/owner.h"

/* A lockid with this prefix names the inner lock of the holding with the fence behind it. */
#define INNER_PREFIX	"tfstate_pg/inside "

/*
 * Return true if a holding can have commands inside.  (Creation keys are negative; and
 * inner locks have none inside.)
 */
static bool
has_inside(const Holding *holding)
{
	return HOLDING_NULL(holding, unlock_key) && !HOLDING_NULL(holding, run_id) &&
		(HOLDING_NULL(holding, key) || HOLDING_INT64(holding, key) >= 0) &&
		!tfstate_is_inner_lockid(HOLDING_TEXT(holding, lockid));
}

/*
 * Return true if this session works inside a holding: it can have commands inside, has not
 * expired, and is that of the session's run and role.
 */
bool
tfstate_is_outer(const Holding *holding)
{
	const char *run = tfstate_my_run();

	return run != NULL && has_inside(holding) &&
		strcmp(run, HOLDING_TEXT(holding, run_id)) == 0 &&
		!tfstate_holding_expired(holding) && tfstate_may_write_under(holding);
}

/* Return the lockid of the inner lock of a holding, palloc'd. */
char *
tfstate_inner_lockid(const Holding *outer)
{
	return psprintf(INNER_PREFIX INT64_FORMAT, HOLDING_INT64(outer, fence));
}

/* Return true if a lockid is that of an inner lock. */
bool
tfstate_is_inner_lockid(const char *lockid)
{
	return strncmp(lockid, INNER_PREFIX, strlen(INNER_PREFIX)) == 0;
}

/*
 * A holding has ended: delete the durable row of its inner lock, if a command that died has
 * left it.  (Those of session mode go as all rows of dead sessions do.)
 */
void
tfstate_end_inner(const Holding *outer)
{
	Holding		inner;
	int64		newest;

	if (has_inside(outer) &&
		tfstate_find_row(tfstate_inner_lockid(outer), true, &inner, &newest) &&
		inner.durable && tfstate_delete_holding(&inner, false) == TM_Ok)
		tfstate_record_release(&inner, HOW_RECLAIMED, NULL);
}
