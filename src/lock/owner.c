/*-------------------------------------------------------------------------
 *
 * owner.c
 *	  Whose a lock is.
 *
 * A holding is the caller's if it shows the lock's ID, its run or its fence, or is the
 * session that took it, and if its role acts for the one that took it.  None of the
 * former is a secret, so the role always counts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"

#include "common/limits.h"
#include "common/privilege.h"
#include "common/settings.h"
#include "common/text.h"
#include "lock/describe.h"
#include "lock/holding.h"
#include "lock/owner.h"
#include "lock/session.h"

/* Was a holding taken for the run that this session works for, be it a nameless one? */
static bool
is_of_my_run(const Holding *holding)
{
	const char *run = tfstate_my_run();

	if (run == NULL || HOLDING_NULL(holding, run_id))
		return run == NULL && HOLDING_NULL(holding, run_id);
	return strcmp(run, HOLDING_TEXT(holding, run_id)) == 0;
}

/*
 * Did this session take a holding, for the run that it works for now?  Behind a
 * pooler a session has many runs, and there only their names tell them apart.
 */
bool
tfstate_is_own(const Holding *holding)
{
	return tfstate_session_is_mine(HOLDING_INT64(holding, session)) &&
		is_of_my_run(holding);
}

/* Does this session show the fence of a durable holding, or else its run? */
static bool
is_shown(const Holding *holding)
{
	if (!holding->durable)
		return false;
	if (tfstate_fence != 0 && tfstate_fence == HOLDING_INT64(holding, fence))
		return true;
	return tfstate_my_run() != NULL && is_of_my_run(holding);
}

/*
 * May the current role do with a lock what the role that took it may?  To know its ID
 * or its run is not enough, for a conflict tells the ID to everybody who may lock; nor
 * is it to be in the session that took it, for a session can change its role.
 */
bool
tfstate_acts_for_holder(const Holding *holding)
{
	return has_privs_of_role(GetUserId(), DatumGetObjectId(HOLDING_DATUM(holding, role))) ||
		tfstate_allowed(tfstate_privileges("force"), HOLDING_TEXT(holding, lockid));
}

/* The name of the role that took a lock: as it is now, or was if the role is gone. */
static char *
holder_role(const Holding *holding)
{
	char	   *name = GetUserNameFromId(DatumGetObjectId(HOLDING_DATUM(holding, role)), true);

	return name ? name : HOLDING_TEXT(holding, role_name);
}

/*
 * Does a holding belong to this session?  To the one that took it, for as long as it
 * works for the same run; and one in durable mode to whichever session shows its
 * fence, or the run that it was taken for: behind a pooler a run has many sessions.
 * None of that is a secret, and a session can change its role, so the role always
 * counts, too.
 */
bool
tfstate_is_ours(const Holding *holding)
{
	return (tfstate_is_own(holding) || is_shown(holding)) &&
		tfstate_acts_for_holder(holding);
}

/*
 * Error if the current role has nothing to do with the one that took a lock, in
 * another session or in this one.
 */
void
tfstate_check_role(const char *lockid, const Holding *holding)
{
	if (tfstate_acts_for_holder(holding))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for state lock \"%s\", which is held by %s",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
					tfstate_describe_holding(holding, false)),
			 errdetail("Role \"%s\" took it; only its members and roles with the privilege \"force\" can release or renew it.",
					   holder_role(holding))));
}

/*
 * Error unless the caller may unlock this holding: it shows the ID, or it is
 * the session that took the lock, and still works for the same run; and its role
 * acts for the one that took it.
 */
void
tfstate_check_ownership(const char *lockid, const char *id, const Holding *holding)
{
	char	   *name = tfstate_one_line(lockid, TFSTATE_MAX_LOCKID);
	bool		own = tfstate_is_own(holding);

	if (id && strcmp(id, HOLDING_TEXT(holding, id)) != 0 &&
		tfstate_holding_expired(holding))
		tfstate_raise_not_held(lockid);
	if (id && strcmp(id, HOLDING_TEXT(holding, id)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("state lock \"%s\" is not held under ID \"%s\" but by %s",
						name, tfstate_one_line(id, TFSTATE_MAX_ID),
						tfstate_describe_holding(holding, own))));
	if (id == NULL && !own)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("state lock \"%s\" was not taken by this session but by %s",
						name, tfstate_describe_holding(holding, false)),
				 errhint("Name the ID of the lock to release it from another session.")));
	if (!holding->durable && !tfstate_session_is_mine(HOLDING_INT64(holding, session)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("state lock \"%s\" is held in session mode by another session: %s",
						name, tfstate_describe_holding(holding, own)),
				 errhint("Only that session can release it, or tfstate_force_unlock() with terminate => true.")));
	tfstate_check_role(lockid, holding);
}
