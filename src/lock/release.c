/*-------------------------------------------------------------------------
 *
 * release.c
 *	  Releasing locks.
 *
 * To release a lock, its row is deleted and its end recorded.  That does not need
 * the lock tag, so it does not queue behind waiters.  After the commit a waiter is
 * woken, and the tags of session mode are released (commit.c).
 *
 * Two calls can want to delete one row at the same time.  The second waits for the
 * first to commit, and then looks again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/tableam.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"

#include "common/limits.h"
#include "common/text.h"
#include "common/workspace.h"
#include "lock/backend.h"
#include "lock/commit_internal.h"
#include "lock/conflict.h"
#include "lock/describe.h"
#include "lock/flush.h"
#include "lock/history.h"
#include "lock/holding.h"
#include "lock/holding_internal.h"
#include "lock/inner.h"
#include "lock/lookup.h"
#include "lock/owner.h"
#include "lock/release.h"
#include "lock/session.h"
#include "lock/tag.h"
#include "lock/wait.h"

/* How long a terminated session may take to end. */
#define TERMINATE_USECS	(10 * USECS_PER_SEC)

/*
 * End a holding.  how is one of the HOW_ words, reason the caller's text or NULL.
 * Returns false if its row has been changed or deleted since it was read; then the
 * caller must look again.
 */
bool
tfstate_release(const Holding *holding, const char *how, const char *reason)
{
	char	   *lockid = HOLDING_TEXT(holding, lockid);
	LOCKTAG		lock_tag = tfstate_lock_tag(lockid);

	tfstate_begin_release();
	if (tfstate_delete_holding(holding, true) != TM_Ok)
		return false;
	tfstate_record_release(holding, how, reason);
	tfstate_end_inner(holding);
	tfstate_end_release();
	if (holding->durable || tfstate_holding_is_tied(holding))
		tfstate_wake_at_commit(&lock_tag);
	else
		tfstate_release_at_commit(&lock_tag, HOLDING_INT64(holding, session));
	if (!HOLDING_NULL(holding, key))
		tfstate_return_share_at_commit(holding);
	return true;
}

/*
 * Terminate the session that has a lock in session mode, and wait until it is gone.
 * Errors: the session is a superuser's, or a server process without a role, and we
 * are no superuser; it does not end in time.
 */
static void
terminate_session(const Holding *holding)
{
	int64		session = HOLDING_INT64(holding, session);
	LOCKTAG		tag = tfstate_session_tag(session);
	int			pid = tfstate_session_pid(session);
	PGPROC	   *proc = pid ? BackendPidGetProc(pid) : NULL;
	WaitLimit	limit;

	if (proc == NULL)
		return;
	if ((!OidIsValid(proc->roleId) || superuser_arg(proc->roleId)) && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be a superuser to terminate superuser process")));
	if (kill(pid, SIGTERM) != 0 && errno != ESRCH)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not send signal to process %d: %m", pid)));
	tfstate_start_wait(&limit, TERMINATE_USECS);
	if (!tfstate_wait_tag(&tag, &limit))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("process %d did not terminate within %d seconds", pid,
						(int) (TERMINATE_USECS / USECS_PER_SEC))));
	tfstate_release_tag(&tag);
}

/*
 * Raise the error for a lock that has no holding to be released: a client without
 * tfstate holds it, or nobody does.
 */
static void
raise_nothing_to_release(const char *lockid)
{
	LockConflict conflict = {0};
	int64		id;

	if (tfstate_workspace_id(lockid, &id))
	{
		conflict.tag = tfstate_builtin_tag(id);
		if (tfstate_tag_holder(&conflict.tag) != 0)
			tfstate_raise_conflict(lockid, &conflict);
	}
	tfstate_raise_not_held(lockid);
}

/*
 * Warn with a notice that the process that held a lock may go on although its lock
 * and its session have ended: Terraform connects again.
 */
static void
warn_of_holder(const Holding *holding)
{
	ereport(NOTICE,
			(errmsg("the process that held state lock \"%s\" may still be running: %s, application_name \"%s\"",
					tfstate_one_line(HOLDING_TEXT(holding, lockid), TFSTATE_MAX_LOCKID),
					tfstate_describe_holding(holding, false),
					HOLDING_NULL(holding, application_name) ? "" :
					tfstate_one_line(HOLDING_TEXT(holding, application_name), NAMEDATALEN)),
			 errdetail("Its writes to a state that requires the lock are refused from now on; nothing else that it does is stopped."),
			 errhint("Stop it where it runs, before somebody else takes the lock.")));
}

/*
 * Release a lock whoever holds it; if id is not NULL, only the holding of that ID.
 * terminate allows that a live session is ended for it.  Returns the lock's info.
 * Errors: the lock is not held, or under another ID, or by a live session that must
 * not or cannot be terminated.
 *
 * The row of a live session is deleted before the session is terminated, so that no
 * waiter records it as reclaimed: a waiter finds that the row is being deleted, and
 * waits until we commit.  If we roll back after that, the row is there again, and is
 * what a dead session left.
 */
Jsonb *
tfstate_force_release(const char *lockid, const char *id, const char *reason,
					  bool terminate)
{
	Holding		holding;
	bool		live;

	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!tfstate_current_holding(lockid, &holding))
			raise_nothing_to_release(lockid);
		if (id)
			tfstate_check_held_under(lockid, id, &holding);
		live = !holding.durable &&
			!tfstate_session_is_mine(HOLDING_INT64(&holding, session));
		if (live && !terminate)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("state lock \"%s\" is held by a live session: %s",
							tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
							tfstate_describe_holding(&holding, false)),
					 errhint("To end that session and its lock, add terminate => true, or --terminate to tfstate force-unlock.")));
	} while (!tfstate_release(&holding, HOW_FORCE, reason));
	if (live)
		terminate_session(&holding);
	if (!tfstate_is_own(&holding))
		warn_of_holder(&holding);
	return DatumGetJsonbP(HOLDING_DATUM(&holding, info));
}
