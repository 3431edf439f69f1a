/*-------------------------------------------------------------------------
 *
 * conflict.c
 *	  What a caller is told of a lock that it cannot have.
 *
 * Terraform's driver shows only the primary message of an error, so that one names
 * the holder.  How the caller can get the lock stands in the hint, and in the primary
 * message, too, if it is for Terraform.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/snapmgr.h"

#include "common/limits.h"
#include "common/privilege.h"
#include "common/text.h"
#include "common/workspace.h"
#include "lock/conflict.h"
#include "lock/describe.h"
#include "lock/holding.h"
#include "lock/info.h"
#include "lock/inner.h"
#include "lock/owner.h"
#include "lock/tag.h"

/*
 * Return a lock info for a holder that has no row.
 */
Jsonb *
tfstate_conflict_info(const LockConflict *conflict)
{
	return tfstate_who_info(tfstate_describe_tag_holder(&conflict->tag));
}

/*
 * Return the subject of a message: a lock, by its lockid, or the lock under which
 * workspaces are created.  The holder's operation tells of which table that is.
 */
char *
tfstate_lock_subject(const char *lockid)
{
	if (tfstate_describe_creation(lockid))
		return pstrdup("cannot create a workspace: the lock for that");
	if (tfstate_is_inner_lockid(lockid))
		return pstrdup("the lock for commands of this run");
	return psprintf("state lock \"%s\"", tfstate_one_line(lockid, TFSTATE_MAX_LOCKID));
}

/*
 * The hint for a lock that is held: the call that releases it, of those that the current
 * role may make, or the grant that it would need.
 */
static int
way_out(const char *lockid, const Holding *holder)
{
	if (tfstate_may(lockid, "force"))
		return errhint("Ask the holder, or release the lock with: %s;",
					   tfstate_force_unlock_call(lockid, holder));
	if (holder->durable && tfstate_acts_for_holder(holder))
		return errhint("Ask the holder or, if it is a lock of your own that was left, release it with: SELECT %s(%s, %s);",
					   tfstate_callable("tfstate_unlock"), tfstate_shown_literal(lockid),
					   tfstate_shown_literal(HOLDING_TEXT(holder, id)));
	return errhint("Ask the holder.  To release the lock takes the privilege \"force\"; an administrator can give it with: SELECT %s(%s, %s, 'force');",
				   tfstate_callable("tfstate_grant"),
				   tfstate_shown_literal(GetUserNameFromId(GetUserId(), false)),
				   tfstate_shown_literal(lockid));
}

/*
 * Return the same as a clause of a primary message.
 */
char *
tfstate_way_out_clause(const char *lockid, const Holding *holder)
{
	if (tfstate_allowed(tfstate_privileges("force"), lockid))
		return psprintf("ask them, or release it with %s",
						tfstate_force_unlock_call(lockid, holder));
	if (holder->durable && tfstate_acts_for_holder(holder))
		return psprintf("ask them or, if it is left of a run of your own, release it with SELECT %s(%s, %s)",
						tfstate_callable("tfstate_unlock"), tfstate_shown_literal(lockid),
						tfstate_shown_literal(HOLDING_TEXT(holder, id)));
	return pstrdup("ask them, or a role with the privilege \"force\" to release it");
}

static void
raise_conflict(const char *lockid, const LockConflict *conflict, bool advise)
{
	char	   *name = tfstate_lock_subject(lockid);
	const Holding *holder = &conflict->holder;

	if (conflict->known)
	{
		Jsonb	   *info = DatumGetJsonbP(HOLDING_DATUM(holder, info));

		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("%s is held by %s%s%s", name,
						tfstate_describe_holding(holder, tfstate_is_own(holder)),
						advise ? "; " : "",
						advise ? tfstate_way_out_clause(lockid, holder) : ""),
				 errdetail("Lock info: %s",
						   tfstate_one_line(JsonbToCString(NULL, &info->root, VARSIZE(info)),
											INT_MAX)),
				 way_out(lockid, holder)));
	}
	if (!tfstate_is_lock_tag(&conflict->tag))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("%s is held without tfstate by %s", name,
						tfstate_describe_tag_holder(&conflict->tag)),
				 errdetail("Advisory lock %lld is held by a client that does not use tfstate.",
						   (long long) tfstate_tag_number(&conflict->tag)),
				 errhint("Wait until it has finished, or end it with pg_terminate_backend().")));
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("%s is being taken or released by %s", name,
					tfstate_describe_tag_holder(&conflict->tag)),
			 errhint("Try again when that transaction has ended.")));
}

/*
 * Raise the error for a request that was not granted: the lock is held with a row, by
 * a client without tfstate, or is being taken or released.
 */
void
tfstate_raise_conflict(const char *lockid, const LockConflict *conflict)
{
	raise_conflict(lockid, conflict, false);
}

/*
 * Raise the same error for a request that comes from Terraform.
 */
void
tfstate_raise_shim_conflict(const char *lockid, const LockConflict *conflict)
{
	raise_conflict(lockid, conflict, true);
}

/*
 * Return who is waited for, as a clause to be put after the lock.
 */
static char *
describe_awaited(const LockConflict *conflict)
{
	if (conflict->known)
		return psprintf("held by %s", tfstate_describe_holding(&conflict->holder, conflict->own));
	if (!tfstate_is_lock_tag(&conflict->tag))
		return psprintf("held without tfstate by %s", tfstate_describe_tag_holder(&conflict->tag));
	return pstrdup("which another transaction is taking or releasing");
}

/*
 * Tell the client that it waits for a lock, who holds it, and its position in the
 * queue, from 1.
 *
 * A query keeps its snapshot while it waits.  If the holder runs a command that waits
 * for old snapshots, no deadlock detector notices, so there is a hint.
 */
void
tfstate_announce_wait(const char *lockid, const LockConflict *conflict, int position)
{
	ereport(NOTICE,
			(errmsg("waiting for state lock \"%s\", %s",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID), describe_awaited(conflict)),
			 errdetail("The position in the queue is %d.", position),
			 ActiveSnapshotSet() ?
			 errhint("CREATE INDEX CONCURRENTLY waits for this statement; CALL tfstate_wait_lock() waits without a snapshot.") : 0));
}
