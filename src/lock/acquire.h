/*-------------------------------------------------------------------------
 *
 * acquire.h
 *	  Taking and renewing locks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_ACQUIRE_H
#define TFSTATE_ACQUIRE_H

#include "lock/conflict.h"
#include "lock/holding.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* The lock that a caller asks for. */
typedef struct LockRequest
{
	const char *lockid;			/* checked by tfstate_check_lockid() */
	Jsonb	   *info;			/* as the caller gave it; NULL for none */
	bool		durable;		/* durable mode, else session mode */
	int64		wait;			/* microseconds; 0 at once, -1 for ever */
	Interval   *ttl;			/* of a lease; NULL for none */
	bool		has_key;		/* does a built-in advisory lock go with it? */
	int64		key;			/* its key */
	int64		unlock_key;		/* what Terraform unlocks; 0 if it does not */
	bool		tied;			/* ends with the built-in lock of unlock_key? */
	const char *run_id;			/* adopt a lock of this run; NULL for no run */
} LockRequest;

extern bool tfstate_acquire(const LockRequest *request, Holding *holding,
							LockConflict *conflict);
extern bool tfstate_renew_lease(Holding *holding, Interval *ttl);

#endif							/* TFSTATE_ACQUIRE_H */
