/*-------------------------------------------------------------------------
 *
 * creation.c
 *	  The lock that comes with the creation of a workspace.
 *
 * Terraform creates a workspace under the creation key, and goes on to write its first
 * state without locking its id.  So the session gets the workspace's lock together with
 * the row:
 *
 * 	- If it has taken the creation key through the shim, it exchanges the key for that
 * 	  lock.  Terraform, which does not know, releases the lock when it unlocks the key.
 * 	- If it is a client without tfstate, it has the built-in lock of the key.  Its unlock
 * 	  is not seen here, so its lock is tied to the key: it has neither the lock tag nor
 * 	  the built-in lock of the id, only its row, which counts while the session has the
 * 	  key.  If the client takes the key once more, for another workspace, the lock of the
 * 	  first one is over.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "storage/lock.h"

#include "common/compat.h"
#include "common/privilege.h"
#include "common/workspace.h"
#include "lock/acquire.h"
#include "lock/conflict.h"
#include "lock/holding.h"
#include "lock/lookup.h"
#include "lock/owner.h"
#include "lock/release.h"
#include "lock/tag.h"
#include "state/creation.h"
#include "state/shim.h"

/*
 * If this creation key is ours, exchange it for the lock of the workspace with this lockid
 * and id.  Returns false if it is not.  Error if somebody else has that lock.
 */
static bool
exchange_key(const char *creation, const char *lockid, int64 id)
{
	Holding		holding;

	if (!tfstate_current_holding(creation, &holding) ||
		!tfstate_is_ours(&holding) || HOLDING_NULL(&holding, key))
		return false;
	tfstate_shim_lock(lockid, HOLDING_INT64(&holding, key), id);
	(void) tfstate_release(&holding, HOW_UNLOCK, NULL);
	return true;
}

/*
 * If this session has a creation key as a client without tfstate takes it, give it the
 * lock of the workspace, tied to the key.  Returns false if it does not have the key.
 * Error if somebody else has that lock.
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
		tfstate_raise_shim_conflict(lockid, &conflict);
	return true;
}

/*
 * A row of a workspace with this lockid and id was inserted into an attached table.  If
 * this session has a creation key for that table, and its role may lock the workspace,
 * give it the workspace's lock.  Error if somebody else has that lock.
 */
void
tfstate_exchange_creation_key(Oid relid, const char *lockid, int64 id)
{
	int64		keys[] = {-1, tfstate_table_creation_key(relid)};

	if (!tfstate_may(lockid, "lock"))
		return;
	for (int i = 0; i < lengthof(keys); i++)
	{
		char	   *creation = tfstate_creation_lockid(relid, keys[i]);

		if ((creation && exchange_key(creation, lockid, id)) ||
			tie_to_key(keys[i], lockid, id))
			return;
	}
}
