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
 * An id of an attached table locks the workspace's lockid.  A conflict is an
 * error and not false, for Terraform shows the message of an error, which names
 * the holder, but makes up its own for false.
 *
 * -1 is the creation key.  In Lc it locks the creation of workspaces: Terraform
 * knows no finer way.  In L, behind the id of an existing workspace, it would
 * only make runs of different projects fail for each other, and protects
 * nothing: whoever creates a workspace gets its lock with the row (see
 * tfstate_exchange_creation_key()).  So there it is granted and not taken, and
 * the U that follows releases nothing.
 *
 * A client without tfstate has the built-in lock of the creation key.  With the row
 * it gets the workspace's lock, too, so that its next writes are those of the
 * holder.  Its U is not seen here, so that lock is tied to the key: it has no K and
 * no built-in lock, only its row, which counts while the session has the key.  If
 * the client takes the key once more, for another workspace, the first one's lock
 * is over.
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

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lock.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "common/attached.h"
#include "common/compat.h"
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
#include "lock/session.h"
#include "lock/tag.h"
#include "state/shim.h"
#include "state/version.h"

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
	Caller		caller;
	char	   *lockid;			/* in TopMemoryContext; NULL for none */
	int64		fence;
	int64		version;		/* its newest one at that moment; 0 for none */
}			last_release;

/* The creation key that was granted and not taken, with the lock of a workspace. */
static struct
{
	Caller		caller;
	int64		key;			/* 0 for none */
	char	   *lockid;			/* of the workspace, in TopMemoryContext */
	char	   *id;				/* of its holding, in TopMemoryContext */
}			granted;

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
 * Error unless the role may lock a workspace, existing or not, of the table that a
 * creation key is for.  With -1 nobody knows yet of which table, and any will do.
 */
static void
check_creation_privilege(List *tables, int64 key)
{
	List	   *patterns = tfstate_privileges("lock");
	ListCell   *lc;

	foreach(lc, tables)
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
					tfstate_describe_creation(tfstate_creation_lockid(tables, key))),
			 errdetail("Role \"%s\" has no grant of privilege \"lock\" that matches any workspace there.",
					   GetUserNameFromId(GetUserId(), false)),
			 errhint("An administrator can give it with tfstate_grant().")));
}

/*
 * Take a lock as the settings say, or raise the conflict.  key is what Terraform
 * will unlock, builtin the built-in lock that goes along.
 */
static void
shim_lock(const char *lockid, int64 key, int64 builtin)
{
	char	   *creation = tfstate_describe_creation(lockid);
	LockRequest request = {0};
	LockConflict conflict;
	Holding		holding;
	bool		taken;

	tfstate_check_writable("pg_try_advisory_lock()");
	tfstate_check_settings();
	tfstate_check_lockid(lockid);
	request.lockid = lockid;
	if (creation)
		request.info = tfstate_operation_info(creation);
	request.durable = tfstate_mode;
	request.wait = tfstate_wait < 0 ? -1 : tfstate_wait * INT64CONST(1000);
	request.has_key = true;
	request.key = builtin;
	request.unlock_key = key != builtin ? key : 0;
	request.run_id = tfstate_my_run();
	if (request.durable)
		tfstate_require_run();
	taken = tfstate_acquire(&request, &holding, &conflict);
	/* the privilege may have been taken back while we waited */
	if (request.wait != 0 && creation)
		check_creation_privilege(tfstate_attached_tables(), key);
	else if (request.wait != 0)
		tfstate_check_privilege(lockid, "lock");
	if (!taken)
		tfstate_raise_conflict(lockid, &conflict);
	remember_lock(key, builtin < 0, lockid, HOLDING_TEXT(&holding, id));
}

/*
 * Remember that a creation key was granted in the statement that has locked a
 * workspace, as the last one so far.
 */
static void
remember_grant(int64 key)
{
	const ShimLock *lock;

	if (shim_locks == NIL)
		return;					/* it was unlocked in the same statement */
	lock = llast(shim_locks);
	if (granted.key != 0)
	{
		pfree(granted.lockid);
		pfree(granted.id);
	}
	tfstate_note_caller(&granted.caller);
	granted.key = key;
	granted.lockid = MemoryContextStrdup(TopMemoryContext, lock->lockid);
	granted.id = MemoryContextStrdup(TopMemoryContext, lock->id);
}

/*
 * Does U release a creation key that was granted and not taken?  That follows L at
 * once, while the workspace is still locked.
 */
static bool
return_grant(int64 key)
{
	Holding		holding;
	bool		result;

	if (granted.key == 0 || granted.key != key)
		return false;
	result = tfstate_is_caller(&granted.caller) &&
		tfstate_current_holding(granted.lockid, &holding) &&
		tfstate_is_ours(&holding) &&
		strcmp(granted.id, HOLDING_TEXT(&holding, id)) == 0;
	granted.key = 0;
	pfree(granted.lockid);
	pfree(granted.id);
	return result;
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
		{
			remember_grant(key);
			PG_RETURN_BOOL(true);
		}
		if (last_key() == KEY_NONE)
		{
			check_creation_privilege(tables, key);
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
 * Remember what was released, and what its workspace has been like then.
 */
static void
remember_release(const char *lockid, int64 fence)
{
	Version		newest;

	if (last_release.lockid)
		pfree(last_release.lockid);
	tfstate_note_caller(&last_release.caller);
	last_release.lockid = MemoryContextStrdup(TopMemoryContext, lockid);
	last_release.fence = fence;
	last_release.version = tfstate_newest_version(lockid, &newest) ?
		VERSION_INT64(&newest, number) : 0;
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
			tfstate_check_privilege(lockid, "lock");	/* before it is told who has it */
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("state lock \"%s\" is not held by this run but by %s",
							tfstate_one_line(lockid, TFSTATE_MAX_LOCKID),
							tfstate_describe_holding(&holding, false))));
		}
	} while (!tfstate_release(&holding, HOW_UNLOCK, NULL));
	remember_release(lockid, HOLDING_INT64(&holding, fence));
	return true;
}

/* Is a lock that this session remembers still held, and for another run or role? */
static bool
is_of_another(const ShimLock *lock)
{
	Holding		holding;

	return tfstate_current_holding(lock->lockid, &holding) &&
		strcmp(lock->id, HOLDING_TEXT(&holding, id)) == 0 && !tfstate_is_ours(&holding);
}

/*
 * Release the workspaces that this session remembers to have locked for a key.
 * Returns whether there was any.
 *
 * A run that has a name may have released them through another session since, and
 * locked them anew: then that is not the lock that is remembered.  What is another run's or
 * role's still is left for that to unlock.
 */
static bool
release_remembered(int64 key)
{
	bool		released = false;
	ListCell   *lc;

	foreach(lc, shim_locks)
	{
		ShimLock   *lock = lfirst(lc);

		if (lock->key != key || is_of_another(lock))
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
 * The lockid of the workspace that has an id in one of the tables that the role may read,
 * and whose lock is ours; NULL if there is none, or there are two.  Where another table has the id, too, a run
 * that unlocks in another session than it locked in is understood by what it holds.
 */
static char *
my_workspace_by_id(List *tables, int64 id)
{
	char	   *result = NULL;
	ListCell   *lc;

	foreach(lc, tfstate_readable_tables(tables, true))
	{
		char	   *lockid = tfstate_workspace_by_id(list_make1_oid(lfirst_oid(lc)), id);
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
 * As with the built-in function it is false, with a warning, if nobody has the
 * lock.
 */
Datum
tfstate_pg_advisory_unlock(PG_FUNCTION_ARGS)
{
	int64		key = PG_GETARG_INT64(0);
	List	   *tables;
	char	   *lockid;

	if (return_grant(key) || (release_remembered(key) && key >= 0))
		PG_RETURN_BOOL(true);
	tables = tfstate_attached_tables();
	lockid = tfstate_creation_lockid(tables, key);
	if (lockid)
		PG_RETURN_BOOL(release_creation(lockid, key));
	lockid = my_workspace_by_id(tables, key);
	if (lockid == NULL && (lockid = tfstate_workspace_by_id(tables, key)) != NULL)
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
 * If this session has a creation key as a client without tfstate takes it, give it the
 * lock of a workspace, tied to that.  Returns whether it was.
 */
static bool
tie_to_key(int64 key, const char *lockid, int64 id)
{
	LOCKTAG		tag = tfstate_builtin_tag(key);
	LockRequest request = {0};
	LockConflict conflict;
	Holding		holding;

	if (!compat_lock_held_by_me(&tag, ExclusiveLock))
		return false;
	while (tfstate_find_tied(key, &holding))
		(void) tfstate_release(&holding, HOW_UNLOCK, NULL);
	request.lockid = lockid;
	request.tied = true;
	request.unlock_key = key;
	request.has_key = true;
	request.key = id;
	if (!tfstate_acquire(&request, &holding, &conflict))
		tfstate_raise_conflict(lockid, &conflict);
	return true;
}

/*
 * A row was inserted into an attached table: whoever has a creation key, and may lock
 * the workspace that it creates, exchanges the key for that lock.  Terraform, which does
 * not know, releases the lock with the key.
 */
void
tfstate_exchange_creation_key(Oid relid, const char *lockid, int64 id)
{
	int64		keys[] = {-1, tfstate_table_creation_key(relid)};

	if (!tfstate_allowed(tfstate_privileges("lock"), lockid))
		return;
	for (int i = 0; i < lengthof(keys); i++)
	{
		char	   *creation = tfstate_creation_lockid(list_make1_oid(relid), keys[i]);

		if ((creation && exchange_key(creation, lockid, id)) ||
			tie_to_key(keys[i], lockid, id))
			return;
	}
}

/*
 * Was the lock of this workspace the last one that the caller released in this session?
 * Then its fence, and the number of the workspace's newest version at that moment, 0 if
 * there was none.  Whether that is still so is for the tables to say.
 */
bool
tfstate_released_last(const char *lockid, int64 *fence, int64 *version)
{
	if (last_release.lockid == NULL || strcmp(last_release.lockid, lockid) != 0 ||
		!tfstate_is_caller(&last_release.caller))
		return false;
	*fence = last_release.fence;
	*version = last_release.version;
	return true;
}
