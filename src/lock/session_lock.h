/*-------------------------------------------------------------------------
 *
 * session_lock.h
 *	  The locks in session mode, in shared memory.  For src/lock only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SESSION_LOCK_H
#define TFSTATE_SESSION_LOCK_H

#include "access/tableam.h"
#include "utils/relcache.h"

#include "lock/holding.h"

/* The entry of a lock in shared memory. */
typedef struct SessionLock SessionLock;

/* A look at many entries, see session_lock.c. */
typedef struct SessionLockScan
{
	Relation	rel;
	bool		all;
	int			bucket;			/* the next one; after the last, the first */
	int			left;			/* how many there are still */
	char	   *copy;			/* of the entries of a bucket ... */
	Size		size;			/* ... and its size */
	Size		length;			/* how much of it has been filled */
	Size		position;		/* of the next entry there */
	Holding		holding;
} SessionLockScan;

extern void tfstate_insert_session_lock(Holding *holding);
extern bool tfstate_find_session_lock(const char *lockid, Holding *holding, int64 *newest);
extern TM_Result tfstate_end_session_lock(const Holding *holding, bool wait);
extern bool tfstate_pin_session_lock(const Holding *holding);
extern void tfstate_publish_session_lock(SessionLock *entry);
extern void tfstate_free_session_lock(SessionLock *entry);
extern void tfstate_begin_session_scan(SessionLockScan *scan, int first, bool all);
extern Holding *tfstate_next_session_lock(SessionLockScan *scan);
extern void tfstate_end_session_scan(SessionLockScan *scan);

#endif							/* TFSTATE_SESSION_LOCK_H */
