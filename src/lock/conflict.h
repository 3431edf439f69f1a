/*-------------------------------------------------------------------------
 *
 * conflict.h
 *	  Why a lock is not to be had.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_CONFLICT_H
#define TFSTATE_CONFLICT_H

#include "lock/holding.h"
#include "storage/lock.h"
#include "utils/jsonb.h"

/* Why a request was not granted. */
typedef struct LockConflict
{
	bool		known;			/* is there a row that tells the holder? */
	Holding		holder;			/* that row */
	bool		own;			/* held by this very session? */
	LOCKTAG		tag;			/* else: what somebody else has locked */
	int64		newest_fence;	/* where nobody holds it: what the lock tables know */
} LockConflict;

extern void tfstate_raise_conflict(const char *lockid,
								   const LockConflict *conflict);
extern void tfstate_announce_wait(const char *lockid, const LockConflict *conflict,
								  int position);
extern Jsonb *tfstate_conflict_info(const LockConflict *conflict);

#endif							/* TFSTATE_CONFLICT_H */
