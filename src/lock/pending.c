/*-------------------------------------------------------------------------
 *
 * pending.c
 *	  The list of what the end of a transaction has to do.
 *
 * commit.c does it, and tells what it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "lock/pending.h"

/* Of Pending, in TopTransactionContext; the oldest is the first. */
List	   *tfstate_pending = NIL;

/*
 * Put an item on the list, for the caller to fill in.
 */
Pending *
tfstate_add_pending(PendingKind kind)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Pending    *item = palloc0(sizeof(Pending));

	item->kind = kind;
	item->subxact = GetCurrentSubTransactionId();
	tfstate_pending = lappend(tfstate_pending, item);
	MemoryContextSwitchTo(old);
	return item;
}

/*
 * Return true if the end of this transaction has anything to do.
 */
bool
tfstate_has_pending(void)
{
	return tfstate_pending != NIL;
}

/*
 * Return the item by which the current subtransaction, itself or one below it that is committed,
 * has taken the lock of an entry; NULL if it has not.
 */
Pending *
tfstate_find_taken(const SessionLock *entry)
{
	for (int i = list_length(tfstate_pending) - 1; i >= 0; i--)
	{
		Pending    *item = list_nth(tfstate_pending, i);

		if (item->kind == PENDING_TAKE && item->entry == entry)
			return item->subxact == GetCurrentSubTransactionId() ? item : NULL;
	}
	return NULL;
}

/*
 * Return true if this transaction has ended the lock of an entry.
 */
bool
tfstate_has_ended(const SessionLock *entry)
{
	ListCell   *lc;

	foreach(lc, tfstate_pending)
	{
		Pending    *item = lfirst(lc);

		if (item->kind == PENDING_END && item->entry == entry)
			return true;
	}
	return false;
}
