/*-------------------------------------------------------------------------
 *
 * shim.c
 *	  The advisory lock functions that an unmodified Terraform calls.
 *
 * With tfstate_pg before pg_catalog in search_path, the statements of the pg
 * backend come here:
 *
 * 	L	SELECT id, pg_try_advisory_lock(id), pg_try_advisory_lock(-1)
 * 		  FROM states WHERE name = 'prod'
 * 	Lc	SELECT pg_try_advisory_lock(-1)		where L found no such workspace
 * 	U	SELECT pg_advisory_unlock(id or -1)
 *
 * An id of an attached table locks the workspace's lockid.  A conflict is an error and
 * not false, because Terraform shows the message of an error, which names the holder,
 * but replaces false by a message of its own.
 *
 * -1 is the creation key.  In Lc it locks the creation of workspaces: Terraform knows no
 * finer way.  In L, after the id of an existing workspace, it would only make runs of
 * different projects fail for each other, and protects nothing: a session that creates a
 * workspace gets its lock with the row (creation.c).  So there it is granted and not
 * taken, and the U that follows releases nothing.
 *
 * Where the run of this session holds the workspace's lock already, by "tfstate run" for
 * example, L takes the inner lock of that holding instead, and U releases it
 * (lock/inner.c).
 *
 * All other keys go to the built-in functions.
 *
 * The row of a workspace may have been deleted when U comes, so the session remembers
 * what it has locked for a key (shim_memory.c).  That is a hint: the lock tables tell
 * who holds what.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lock.h"
#include "utils/fmgrprotos.h"

#include "common/attached.h"
#include "common/compat.h"
#include "common/limits.h"
#include "common/lockid.h"
#include "common/privilege.h"
#include "common/run.h"
#include "common/settings.h"
#include "common/text.h"
#include "common/workspace.h"
#include "lock/acquire.h"
#include "lock/conflict.h"
#include "lock/describe.h"
#include "lock/holding.h"
#include "lock/info.h"
#include "lock/inner.h"
#include "lock/lookup.h"
#include "lock/owner.h"
#include "lock/release.h"
#include "lock/tag.h"
#include "state/shim.h"
#include "state/shim_memory.h"
#include "state/shim_terms.h"

PG_FUNCTION_INFO_V1(tfstate_pg_try_advisory_lock);
PG_FUNCTION_INFO_V1(tfstate_pg_advisory_unlock);

/*
 * Error unless the role may lock a workspace.  The caller named it by its id only: the
 * error tells its lockid only to a role that can read the table.
 */
static void
check_workspace_privilege(const char *lockid, int64 id)
{
	const char *name;
	Oid			relid = tfstate_lockid_table(lockid, &name);

	if (tfstate_may(lockid, "lock"))
		return;
	if (OidIsValid(relid) && tfstate_may_read_states(relid))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for state lock \"%s\"; an administrator can permit it with SELECT %s(%s, %s)",
						tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
						tfstate_callable("tfstate_grant"),
						tfstate_shown_literal(GetUserNameFromId(GetUserId(), false)),
						tfstate_shown_literal(lockid)),
				 errdetail("Role \"%s\" has no grant of privilege \"lock\" that matches it.",
						   GetUserNameFromId(GetUserId(), false))));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for the state lock of the workspace with id %lld",
					(long long) id)));
}

/* Return true if the words that a client has for its operation say that it writes nothing. */
static bool
is_plan(const char *operation)
{
	bool		plan = false;

	for (; *operation; operation++)
	{
		if (pg_strncasecmp(operation, "apply", 5) == 0)
			return false;
		plan |= pg_strncasecmp(operation, "plan", 4) == 0 ||
			pg_strncasecmp(operation, "console", 7) == 0;
	}
	return plan;
}

/*
 * Error if the client says that it does more than to plan, and the role reads states but
 * cannot write them: when the state is written, the infrastructure has been changed.
 * Terraform locks a plan and an apply alike, so nothing is known of a client that does not
 * say what it does.
 */
static void
check_operation(const char *lockid)
{
	const char *name;
	Oid			relid = tfstate_lockid_table(lockid, &name);

	if (*tfstate_operation == '\0' || is_plan(tfstate_operation) ||
		!OidIsValid(relid) || !tfstate_may_read_states(relid) ||
		tfstate_may_write_states(relid))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" may only plan in \"%s\", and tfstate.operation is \"%s\"",
					GetUserNameFromId(GetUserId(), false),
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
					tfstate_one_line(tfstate_operation, NAMEDATALEN)),
			 errdetail("It has no right to update states in the table.")));
}

/*
 * Error unless the role may lock a workspace, existing or not, of the table that a
 * creation key is for.  -1 does not say which table, so the role needs only one of them.
 */
static void
check_creation_privilege(int64 key)
{
	List	   *patterns = tfstate_privileges("lock");
	ListCell   *lc;

	foreach(lc, tfstate_attached_tables())
	{
		Oid			relid = lfirst_oid(lc);
		char	   *prefix = tfstate_workspace_lockid(relid, "");

		if (prefix && (key == -1 || key == tfstate_table_creation_key(relid)) &&
			tfstate_allowed_below(patterns, prefix))
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for the %s",
					tfstate_describe_creation(tfstate_creation_lockid(InvalidOid, key))),
			 errdetail("Role \"%s\" has no grant of privilege \"lock\" that matches any workspace there.",
					   GetUserNameFromId(GetUserId(), false)),
			 errhint("An administrator can give it with tfstate_grant().")));
}

/*
 * Find the holding of a lockid that this session works inside.  Returns false if there
 * is none.
 */
static bool
find_outer(const char *lockid, Holding *outer)
{
	/* a session whose run has no name is inside none, and need not look */
	return tfstate_my_run() != NULL &&
		tfstate_current_holding(lockid, outer) && tfstate_is_outer(outer);
}

/*
 * Error if the holding with this fence has ended since it was found.
 */
static void
check_outer(const char *lockid, int64 fence)
{
	Holding		outer;

	if (!find_outer(lockid, &outer) || HOLDING_INT64(&outer, fence) != fence)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("state lock \"%s\" is no longer held by the run that this command belongs to",
						tfstate_one_line(lockid, TFSTATE_MAX_LOCKID))));
}

/*
 * Take the lock of a workspace, or of a creation key, as shim_terms.c says.  key is what
 * Terraform will unlock, builtin the key of the built-in lock that is taken, too.  Inside
 * a holding of the workspace's lock, take its inner lock instead.
 *
 * Errors: the conflict; the settings are wrong; the role lost its privilege while it
 * waited; what tfstate_acquire() raises.
 */
void
tfstate_shim_lock(const char *lockid, int64 key, int64 builtin)
{
	char	   *creation = tfstate_describe_creation(lockid);
	LockRequest request = {0};
	LockConflict conflict;
	Holding		outer;
	Holding		holding;
	bool		patient;
	bool		inside;
	bool		taken;

	tfstate_check_writable("pg_try_advisory_lock()");
	tfstate_check_settings();
	tfstate_check_lockid(lockid);
	inside = creation == NULL && find_outer(lockid, &outer);
	request.lockid = inside ? tfstate_inner_lockid(&outer) : lockid;
	if (creation)
		request.info = tfstate_operation_info(creation);
	tfstate_shim_terms(lockid, &request, &patient);
	request.has_key = !inside;
	request.key = builtin;
	request.unlock_key = inside || creation ? 0 : key;
	request.run_id = tfstate_my_run();
	if (request.durable)
		tfstate_require_run();
	taken = tfstate_shim_acquire(&request, patient, &holding, &conflict);
	/* the privilege may have been taken back while we waited */
	if (request.wait != 0 && creation)
		check_creation_privilege(key);
	else if (request.wait != 0)
		tfstate_check_privilege(lockid, "lock");
	if (!taken)
		tfstate_raise_shim_conflict(request.lockid, &conflict);
	if (inside)
		check_outer(lockid, HOLDING_INT64(&outer, fence));
	tfstate_remember_lock(key, builtin < 0, request.lockid, HOLDING_TEXT(&holding, id));
}

/*
 * Return true if U releases a creation key that was granted and not taken: it follows L
 * at once, while the workspace is still locked.
 */
static bool
return_grant(int64 key)
{
	char	   *lockid;
	char	   *id;
	Holding		holding;

	return tfstate_take_grant(key, &lockid, &id) &&
		tfstate_current_holding(lockid, &holding) &&
		tfstate_is_ours(&holding) &&
		strcmp(id, HOLDING_TEXT(&holding, id)) == 0;
}

/*
 * tfstate_pg.pg_try_advisory_lock(bigint) returns boolean
 */
Datum
tfstate_pg_try_advisory_lock(PG_FUNCTION_ARGS)
{
	int64		key = PG_GETARG_INT64(0);
	char	   *lockid = tfstate_creation_lockid(InvalidOid, key);

	if (lockid)
	{
		if (tfstate_last_key() == KEY_WORKSPACE)
		{
			tfstate_remember_grant(key);
			PG_RETURN_BOOL(true);
		}
		if (tfstate_last_key() == KEY_NONE)
		{
			check_creation_privilege(key);
			tfstate_shim_lock(lockid, key, key);
			PG_RETURN_BOOL(true);
		}
		/* else: after the id of a table that is not attached */
	}
	else if ((lockid = tfstate_workspace_by_id(InvalidOid, key)) != NULL)
	{
		check_workspace_privilege(lockid, key);
		check_operation(lockid);
		tfstate_remember_key(KEY_WORKSPACE);
		tfstate_shim_lock(lockid, key, key);
		PG_RETURN_BOOL(true);
	}
	else
		tfstate_remember_key(KEY_OTHER);
	return pg_try_advisory_lock_int8(fcinfo);
}

/*
 * Release the inner lock of a holding if it is ours.  Returns true: that of session mode may
 * have ended with another session of this run, and the holding itself is not released here.
 */
static bool
release_inner(const Holding *outer)
{
	char	   *lockid = tfstate_inner_lockid(outer);
	Holding		inner;

	while (tfstate_current_holding(lockid, &inner) && tfstate_is_ours(&inner))
	{
		CHECK_FOR_INTERRUPTS();
		if (tfstate_release(&inner, HOW_UNLOCK, NULL))
		{
			tfstate_remember_release(lockid, HOLDING_INT64(&inner, fence));
			break;
		}
	}
	return true;
}

/*
 * Release the lock of this lockid if it is ours and has this ID; NULL stands for any.
 * Returns false if nobody holds it.  If somebody else does, ours was lost: an error, so
 * that Terraform says so, or false with lost_ok.
 */
static bool
shim_release(const char *lockid, const char *id, bool lost_ok)
{
	Holding		holding;

	tfstate_check_writable("pg_advisory_unlock()");
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!tfstate_current_holding(lockid, &holding))
			return false;
		if (id == NULL && tfstate_is_outer(&holding))
			return release_inner(&holding);
		if (!tfstate_is_ours(&holding) ||
			(id && strcmp(id, HOLDING_TEXT(&holding, id)) != 0))
		{
			if (lost_ok)
				return false;
			/* the error tells who holds the lock */
			tfstate_check_privilege(lockid, "lock");
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("state lock \"%s\" is not held by this run but by %s",
							tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
							tfstate_describe_holding(&holding, false))));
		}
	} while (!tfstate_release(&holding, HOW_UNLOCK, NULL));
	tfstate_remember_release(lockid, HOLDING_INT64(&holding, fence));
	return true;
}

/*
 * Return true if a lock that this session remembers is still held, by another run or
 * role.
 */
static bool
is_of_another(const ShimLock *lock)
{
	Holding		holding;

	return tfstate_current_holding(lock->lockid, &holding) &&
		strcmp(lock->id, HOLDING_TEXT(&holding, id)) == 0 && !tfstate_is_ours(&holding);
}

/*
 * Release the workspaces that this session remembers to have locked for a key.  Returns
 * true if it released any.
 *
 * A run that has a name may have released them through another session since, and locked
 * them anew: then the lock is not the remembered one.  A lock that belongs to another run
 * or role is skipped, so that those can unlock it.
 */
static bool
release_remembered(int64 key)
{
	bool		released = false;
	ListCell   *lc;

	foreach(lc, tfstate_remembered_locks(key))
	{
		ShimLock   *lock = lfirst(lc);
		bool		creation = lock->creation;
		char	   *lockid = pstrdup(lock->lockid);
		char	   *id = pstrdup(lock->id);

		if (is_of_another(lock))
			continue;
		tfstate_forget_lock(lock);	/* even if the release fails */
		if (!creation)
			released |= shim_release(lockid, id, key < 0 || tfstate_my_run() != NULL);
	}
	return released;
}

/*
 * Release a creation key, or the workspace for which another session of this run has
 * exchanged it.  Returns what pg_advisory_unlock() is to return.
 *
 * If there is neither, the key was most likely granted and not taken, so the result is
 * true; unless the session has the built-in lock of the key, taken for a table that is
 * not attached.
 */
static bool
release_creation(const char *lockid, int64 key)
{
	LOCKTAG		builtin = tfstate_builtin_tag(key);
	const char *run = tfstate_my_run();
	Holding		holding;

	tfstate_check_writable("pg_advisory_unlock()");
	if (tfstate_current_holding(lockid, &holding) && tfstate_is_ours(&holding))
		return shim_release(lockid, NULL, true);
	if (run && tfstate_find_created(run, key, &holding))
		return shim_release(HOLDING_TEXT(&holding, lockid), NULL, true);
	if (compat_lock_held_by_me(&builtin, ExclusiveLock))
		return DatumGetBool(DirectFunctionCall1(pg_advisory_unlock_int8, Int64GetDatum(key)));
	return true;
}

/*
 * The lockid of the workspace that has this id in one of the tables that the role may
 * read, and whose lock is ours; NULL if there is none, or there are two.
 *
 * This serves a run that unlocks in another session than it locked in: where two tables
 * have the id, what the run holds tells which one it means.
 */
static char *
my_workspace_by_id(int64 id)
{
	char	   *result = NULL;
	ListCell   *lc;

	foreach(lc, tfstate_readable_tables(tfstate_attached_tables(), true))
	{
		char	   *lockid = tfstate_workspace_by_id(lfirst_oid(lc), id);
		Holding		holding;

		if (lockid == NULL || !tfstate_current_holding(lockid, &holding) ||
			!tfstate_is_ours(&holding))
			continue;
		if (result)
			return NULL;
		result = lockid;
	}
	return result;
}

/*
 * tfstate_pg.pg_advisory_unlock(bigint) returns boolean
 *
 * Like the built-in function it returns false, with a warning, if the lock is not held.
 */
Datum
tfstate_pg_advisory_unlock(PG_FUNCTION_ARGS)
{
	int64		key = PG_GETARG_INT64(0);
	char	   *lockid;

	if (return_grant(key) || (release_remembered(key) && key >= 0))
		PG_RETURN_BOOL(true);
	lockid = tfstate_creation_lockid(InvalidOid, key);
	if (lockid)
		PG_RETURN_BOOL(release_creation(lockid, key));
	lockid = my_workspace_by_id(key);
	/* an error of the release tells who holds the lock */
	if (lockid == NULL && (lockid = tfstate_workspace_by_id(InvalidOid, key)) != NULL)
		check_workspace_privilege(lockid, key);
	if (lockid && shim_release(lockid, NULL, false))
		PG_RETURN_BOOL(true);
	return pg_advisory_unlock_int8(fcinfo);
}
