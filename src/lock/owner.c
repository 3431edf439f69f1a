/*-------------------------------------------------------------------------
 *
 * owner.c
 *	  Whose a lock is.
 *
 * A holding is the caller's if the caller is the session that took it, for as long
 * as that works for the same run, or shows the lock's ID, its run or its fence.
 * Besides, the caller's role must act for the role that took the lock.  The role
 * always counts, because none of the others is a secret (a conflict tells the ID
 * to every role that may lock), and because a session can change its role.
 *
 * What each call asks for:
 *
 *	a write of a state	the session, the run or the fence
 *	unlock by Terraform	the session or, in durable mode, the run or the fence
 *	unlock				the ID or the session, in session mode the session
 *	renew				the ID
 *	force-unlock		a privilege, and the ID if one is given (release.c)
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"

#include "common/limits.h"
#include "common/privilege.h"
#include "common/run.h"
#include "common/settings.h"
#include "common/text.h"
#include "lock/describe.h"
#include "lock/holding.h"
#include "lock/owner.h"
#include "lock/session.h"

/*
 * Return true if a holding was taken for the run that this session works for.  All
 * sessions without a name of their run count as one.
 */
static bool
is_of_my_run(const Holding *holding)
{
	const char *run = tfstate_my_run();

	if (run == NULL || HOLDING_NULL(holding, run_id))
		return run == NULL && HOLDING_NULL(holding, run_id);
	return strcmp(run, HOLDING_TEXT(holding, run_id)) == 0;
}

/*
 * Return true if this session took a holding, for the run that it works for now.
 * Behind a pooler a session works for many runs, which only their names tell
 * apart.
 */
bool
tfstate_is_own(const Holding *holding)
{
	return tfstate_session_is_mine(HOLDING_INT64(holding, session)) &&
		is_of_my_run(holding);
}

/*
 * Return true if this session shows the fence of a holding, or its run.
 */
static bool
is_shown(const Holding *holding)
{
	if (tfstate_fence != 0 && tfstate_fence == HOLDING_INT64(holding, fence))
		return true;
	return tfstate_my_run() != NULL && is_of_my_run(holding);
}

/*
 * Return true if the current role may do with a lock what the role that took it
 * may: it is that role, has its privileges, or may force-unlock.
 */
bool
tfstate_acts_for_holder(const Holding *holding)
{
	return has_privs_of_role(GetUserId(), DatumGetObjectId(HOLDING_DATUM(holding, role))) ||
		tfstate_may(HOLDING_TEXT(holding, lockid), "force");
}

/*
 * Return true if a holding belongs to this session, so that it may release it: this
 * session took it, or it is durable and the session shows its fence or the run that it
 * was taken for (behind a pooler, a run has many sessions); and the role acts for the
 * role that took it.
 */
bool
tfstate_is_ours(const Holding *holding)
{
	return (tfstate_is_own(holding) || (holding->durable && is_shown(holding))) &&
		tfstate_acts_for_holder(holding);
}

/*
 * Return true if this session may write under a holding: that is the same, but for
 * a holding in session mode, too, the run or the fence is enough.  The session that
 * took it is alive, and only that can release it.
 */
bool
tfstate_may_write_under(const Holding *holding)
{
	return (tfstate_is_own(holding) || is_shown(holding)) &&
		tfstate_acts_for_holder(holding);
}

/*
 * Return the name of the role that took a lock: its present name, or the one it had
 * then if it has been dropped.
 */
static char *
holder_role(const Holding *holding)
{
	char	   *name = GetUserNameFromId(DatumGetObjectId(HOLDING_DATUM(holding, role)), true);

	return name ? name : HOLDING_TEXT(holding, role_name);
}

/*
 * Error unless the current role acts for the role that took a lock, be it in
 * another session or in this one.
 */
static void
check_role(const char *lockid, const Holding *holding)
{
	if (tfstate_acts_for_holder(holding))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for state lock \"%s\"",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
			 errdetail("It is held by %s.  Only members of role \"%s\", which took it, and roles with the privilege \"force\" can release or renew it.",
					   tfstate_describe_holding(holding, false), holder_role(holding))));
}

static bool
has_id(const Holding *holding, const char *id)
{
	return strcmp(id, HOLDING_TEXT(holding, id)) == 0;
}

/*
 * Error unless a lock is held under the given ID.
 */
void
tfstate_check_held_under(const char *lockid, const char *id, const Holding *holding)
{
	if (has_id(holding, id))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("state lock \"%s\" is not held under ID \"%s\" but by %s",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
					tfstate_one_line(id, TFSTATE_MAX_ID),
					tfstate_describe_holding(holding, tfstate_is_own(holding)))));
}

/*
 * Error unless the caller may unlock a holding: it shows the ID or, if id is NULL, it
 * is the session that took the lock and still works for the same run; in session
 * mode it is that session in any case; and its role acts for the role that took the
 * lock.
 */
void
tfstate_check_may_unlock(const char *lockid, const char *id, const Holding *holding)
{
	bool		own = tfstate_is_own(holding);

	if (id)
	{
		if (!has_id(holding, id) && tfstate_holding_expired(holding))
			tfstate_raise_not_held(lockid);
		tfstate_check_held_under(lockid, id, holding);
	}
	else if (!own)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("state lock \"%s\" was not taken by this session but by %s",
						tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
						tfstate_describe_holding(holding, false)),
				 errhint("Specify the ID of the lock to release it from another session.")));
	if (!holding->durable && !own && !tfstate_session_is_mine(HOLDING_INT64(holding, session)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("state lock \"%s\" is held in session mode by another session: %s",
						tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
						tfstate_describe_holding(holding, own)),
				 errhint("Only that session can release it, or tfstate_force_unlock() with terminate => true.")));
	check_role(lockid, holding);
}

/*
 * Error unless the caller may renew a lease: the lock is still held under the ID that
 * it shows, has a ttl, and its role acts for the role that took the lock.
 */
void
tfstate_check_may_renew(const char *lockid, const char *id, const Holding *holding)
{
	char	   *name = tfstate_one_line(lockid, TFSTATE_MAX_LOCKID);

	if (!has_id(holding, id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lease on state lock \"%s\" was lost: the lock is held by %s",
						name, tfstate_describe_holding(holding, false))));
	if (HOLDING_NULL(holding, ttl))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("state lock \"%s\" has no ttl that could be renewed", name)));
	check_role(lockid, holding);
}
