/*-------------------------------------------------------------------------
 *
 * conflict.h
 *	  What a caller is told of a lock that it cannot have.
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
	bool		known;			/* is there a row of the holder? */
	Holding		holder;			/* if so, that row */
	bool		own;			/* is this session the holder? */
	LOCKTAG		tag;			/* if not known: the tag that another owns */
	int64		newest_fence;	/* if the lock is free: the greatest fence
								 * that the lock tables have of the lockid */
} LockConflict;

extern char *tfstate_lock_subject(const char *lockid);
extern void tfstate_raise_conflict(const char *lockid,
								   const LockConflict *conflict);
extern void tfstate_raise_shim_conflict(const char *lockid,
										const LockConflict *conflict);
extern char *tfstate_way_out_clause(const char *lockid, const Holding *holder);
extern void tfstate_announce_wait(const char *lockid, const LockConflict *conflict,
								  int position);
extern Jsonb *tfstate_conflict_info(const LockConflict *conflict);

#endif							/* TFSTATE_CONFLICT_H */
