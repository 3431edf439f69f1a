/*-------------------------------------------------------------------------
 *
 * shim.c
 *	  The advisory lock functions that an unmodified Terraform calls.
 *
 * With tfstate_pg before pg_catalog in search_path, the statements of the pg
 * backend come here:
 *
 *	L	SELECT id, pg_try_advisory_lock(id), pg_try_advisory_lock(-1)
 *		  FROM states WHERE name = 'prod'
 *	Lc	SELECT pg_try_advisory_lock(-1)		where L found no such workspace
 *	U	SELECT pg_advisory_unlock(id or -1)
 *
 * An id of an attached table locks the workspace's lockid.  A conflict is an
 * error and not false, for Terraform shows the message of an error, which names
 * the holder, but makes up its own for false.
 *
 * -1 is the creation key.  In Lc it locks the creation of workspaces: Terraform
 * knows no finer way.  In L, behind the id of an existing workspace, it would
 * only make runs of different projects fail for each other, and protects
 * nothing: whoever creates a workspace gets its lock with the row (see
 * tfstate_exchange_creation_key()).  So there it is granted and not taken.
 *
 * All other keys go to the built-in functions.
 *
 * What U needs to know is kept in the session, because the row of a workspace
 * can have been deleted by then.  It is a hint: who holds what is told by the
 * lock tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "compat.h"
#include "miscadmin.h"
#include "tfstate.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(tfstate_pg_try_advisory_lock);
PG_FUNCTION_INFO_V1(tfstate_pg_advisory_unlock);

/* A lock that this session took for a key. */
typedef struct ShimLock
{
	int64		key;			/* as Terraform named it */
	bool		creation;		/* of the creation key itself? */
	char	   *lockid;
	char	   *id;
} ShimLock;

static List *shim_locks = NIL;	/* in TopMemoryContext */

/* The last lock that this session released: Terraform's next word may be DELETE. */
static struct
{
	char	   *lockid;			/* in TopMemoryContext; NULL for none */
	int64		fence;
}			last_release;

/* What the last key of this statement was, to tell L from Lc. */
typedef enum LastKey
{
	KEY_NONE,
	KEY_WORKSPACE,
	KEY_OTHER
} LastKey;

static struct
{
	LocalTransactionId lxid;
	TimestampTz statement;
	LastKey		key;
}			last;

static void
remember_key(LastKey key)
{
	last.lxid = compat_my_lxid();
	last.statement = GetCurrentStatementStartTimestamp();
	last.key = key;
}

static LastKey
last_key(void)
{
	if (last.lxid != compat_my_lxid() ||
		last.statement != GetCurrentStatementStartTimestamp())
		return KEY_NONE;
	return last.key;
}

static void
forget_lock(ShimLock *lock)
{
	pfree(lock->lockid);
	pfree(lock->id);
	pfree(lock);
}

/*
 * Remember a lock that was taken for a key, in place of what is left of an
 * earlier one: a rollback or DISCARD ALL releases locks without our knowing.
 */
static void
remember_lock(int64 key, bool creation, const char *lockid, const char *id)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ShimLock   *lock = palloc(sizeof(ShimLock));
	ListCell   *lc;

	foreach(lc, shim_locks)
	{
		ShimLock   *earlier = lfirst(lc);

		if (strcmp(earlier->lockid, lockid) != 0)
			continue;
		shim_locks = foreach_delete_current(shim_locks, lc);
		forget_lock(earlier);
	}

	lock->key = key;
	lock->creation = creation;
	lock->lockid = pstrdup(lockid);
	lock->id = pstrdup(id);
	shim_locks = lappend(shim_locks, lock);
	MemoryContextSwitchTo(old);
}

/*
 * Error unless the role may lock a workspace.  It was named by its id only: what it is
 * called is told to those who can read that in its table.
 */
static void
check_workspace_privilege(const char *lockid, int64 id)
{
	const char *name;
	Oid			relid = tfstate_lockid_table(lockid, &name);

	if (tfstate_allowed(tfstate_privileges("lock"), lockid))
		return;
	if (OidIsValid(relid) && tfstate_may_read_states(relid))
		tfstate_check_privilege(lockid, "lock");
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for the state lock of the workspace with id %lld",
					(long long) id)));
}

/*
 * Take a lock as the settings say, or raise the conflict.  key is what Terraform
 * will unlock, builtin the built-in lock that goes along.
 */
static void
shim_lock(const char *lockid, int64 key, int64 builtin)
{
	LockRequest request = {0};
	LockConflict conflict;
	Holding		holding;
	bool		taken;

	tfstate_check_writable("pg_try_advisory_lock()");
	tfstate_check_settings();
	tfstate_check_lockid(lockid);
	request.lockid = lockid;
	request.durable = tfstate_mode;
	request.wait = tfstate_wait < 0 ? -1 : tfstate_wait * INT64CONST(1000);
	request.has_key = true;
	request.key = builtin;
	request.unlock_key = key != builtin ? key : 0;
	request.run_id = tfstate_my_run();
	if (request.durable)
		tfstate_require_run();
	taken = tfstate_acquire(&request, &holding, &conflict);
	/* the privilege may have been taken back while we waited; for -1 any will do */
	if (request.wait != 0 && (builtin != -1 || tfstate_privileges("lock") == NIL))
		tfstate_check_privilege(lockid, "lock");
	if (!taken)
		tfstate_raise_conflict(lockid, &conflict);
	remember_lock(key, builtin < 0, lockid, HOLDING_TEXT(&holding, id));
}

/*
 * Error unless the role may create workspaces: with -1 nobody knows yet of which
 * table, so that a grant on any lockid will do.
 */
static void
check_creation_privilege(const char *lockid, int64 key)
{
	if (key != -1 || tfstate_privileges("lock") == NIL)
		tfstate_check_privilege(lockid, "lock");
}

/*
 * tfstate_pg.pg_try_advisory_lock(bigint) returns boolean
 */
Datum
tfstate_pg_try_advisory_lock(PG_FUNCTION_ARGS)
{
	int64		key = PG_GETARG_INT64(0);
	List	   *tables = tfstate_attached_tables();
	char	   *lockid = tfstate_creation_lockid(tables, key);

	if (lockid)
	{
		if (last_key() == KEY_WORKSPACE)
			PG_RETURN_BOOL(true);
		if (last_key() == KEY_NONE)
		{
			check_creation_privilege(lockid, key);
			shim_lock(lockid, key, key);
			PG_RETURN_BOOL(true);
		}
		/* else: behind the id of a table that is not attached */
	}
	else if ((lockid = tfstate_workspace_by_id(tables, key)) != NULL)
	{
		check_workspace_privilege(lockid, key);
		remember_key(KEY_WORKSPACE);
		shim_lock(lockid, key, key);
		PG_RETURN_BOOL(true);
	}
	else
		remember_key(KEY_OTHER);
	return pg_try_advisory_lock_int8(fcinfo);
}

/*
 * Release the holding of a lockid if it is ours and, where an ID is given, has
 * that.  Returns whether it was.  If somebody else holds the lock, ours was lost
 * and Terraform has to say so, hence an error, unless lost_ok.
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
		if (!tfstate_is_ours(&holding) ||
			(id && strcmp(id, HOLDING_TEXT(&holding, id)) != 0))
		{
			if (lost_ok)
				return false;
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("state lock \"%s\" is not held by this run but by %s",
							tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
							tfstate_describe_holding(&holding, false))));
		}
	} while (!tfstate_release(&holding, HOW_UNLOCK, NULL));
	if (last_release.lockid)
		pfree(last_release.lockid);
	last_release.lockid = MemoryContextStrdup(TopMemoryContext, lockid);
	last_release.fence = HOLDING_INT64(&holding, fence);
	return true;
}

/*
 * Release the workspaces that this session remembers to have locked for a key.
 * Returns whether there was any.
 *
 * A run that has a name may have released them through another session since, and
 * locked them anew: then that is not the lock that is remembered.
 */
static bool
release_remembered(int64 key)
{
	bool		released = false;
	ListCell   *lc;

	foreach(lc, shim_locks)
	{
		ShimLock   *lock = lfirst(lc);

		if (lock->key != key)
			continue;
		shim_locks = foreach_delete_current(shim_locks, lc);
		if (!lock->creation)
			released |= shim_release(lock->lockid, lock->id,
									 key < 0 || tfstate_my_run() != NULL);
		forget_lock(lock);
	}
	return released;
}

/*
 * Release the creation key, or the workspace for which another session of this run
 * has exchanged it.  Without a word if there is neither, for mostly the key was granted
 * and not taken; unless it was taken as the built-in lock, for a table that is not
 * attached.
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
 * tfstate_pg.pg_advisory_unlock(bigint) returns boolean
 *
 * As with the built-in function it is false, with a warning, if nobody has the
 * lock.
 */
Datum
tfstate_pg_advisory_unlock(PG_FUNCTION_ARGS)
{
	int64		key = PG_GETARG_INT64(0);
	List	   *tables;
	char	   *lockid;
	Holding		holding;

	if (release_remembered(key) && key >= 0)
		PG_RETURN_BOOL(true);
	tables = tfstate_attached_tables();
	lockid = tfstate_creation_lockid(tables, key);
	if (lockid)
		PG_RETURN_BOOL(release_creation(lockid, key));
	lockid = tfstate_workspace_by_id(tables, key);
	if (lockid && !(tfstate_current_holding(lockid, &holding) && tfstate_is_ours(&holding)))
		check_workspace_privilege(lockid, key);	/* before it is told who has it */
	if (lockid && shim_release(lockid, NULL, false))
		PG_RETURN_BOOL(true);
	return pg_advisory_unlock_int8(fcinfo);
}

/*
 * If a creation key is ours, exchange it for the lock of a workspace.  Returns whether
 * it was.
 */
static bool
exchange_key(const char *creation, const char *lockid, int64 id)
{
	Holding		holding;

	if (!tfstate_current_holding(creation, &holding) ||
		!tfstate_is_ours(&holding) || HOLDING_NULL(&holding, key))
		return false;
	shim_lock(lockid, HOLDING_INT64(&holding, key), id);
	(void) tfstate_release(&holding, HOW_UNLOCK, NULL);
	return true;
}

/*
 * A row was inserted into an attached table: who has a creation key exchanges it for
 * the lock of the workspace that he creates.  Terraform, which does not know, releases
 * that with the key.
 */
void
tfstate_exchange_creation_key(Oid relid, const char *lockid, int64 id)
{
	if (!exchange_key(tfstate_creation_lockid(list_make1_oid(relid), -1), lockid, id))
		(void) exchange_key(tfstate_workspace_lockid(relid, ""), lockid, id);
}

/*
 * The fence of the last lock that Terraform released in this session, if that was
 * the lock of this workspace; else 0.
 */
int64
tfstate_released_fence(const char *lockid)
{
	if (last_release.lockid == NULL || strcmp(last_release.lockid, lockid) != 0)
		return 0;
	return last_release.fence;
}
