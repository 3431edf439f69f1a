/*-------------------------------------------------------------------------
 *
 * pending.h
 *	  What the end of a transaction has to do.  For src/lock only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_PENDING_H
#define TFSTATE_PENDING_H

#include "nodes/pg_list.h"
#include "storage/lock.h"

#include "lock/session_lock.h"
#include "lock/share.h"

typedef enum PendingKind
{
	PENDING_TAKE,				/* see commit.c */
	PENDING_END,
	PENDING_PROMOTE,
	PENDING_RELEASE,
	PENDING_WAKE
} PendingKind;

typedef struct Pending
{
	PendingKind kind;
	SessionLock *entry;			/* of a lock that is taken or has ended; NULL
								 * for one that was taken in vain */
	LOCKTAG		tag;			/* of the other kinds */
	int64		session;		/* whose lock has ended, or whose tag it is; 0
								 * for a wake-up */
	KeptShare  *share;			/* if the tag is the share of a durable lock */
	SubTransactionId subxact;	/* that added the item */
	bool		promoted;		/* an abort has to take it back */
} Pending;

extern List *tfstate_pending;

extern Pending *tfstate_add_pending(PendingKind kind);
extern bool tfstate_has_pending(void);
extern Pending *tfstate_find_taken(const SessionLock *entry);
extern bool tfstate_has_ended(const SessionLock *entry);

#endif							/* TFSTATE_PENDING_H */
