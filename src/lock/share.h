/*-------------------------------------------------------------------------
 *
 * share.h
 *	  The shares of built-in locks that a session keeps.  For src/lock only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SHARE_H
#define TFSTATE_SHARE_H

#include "lock/holding.h"

/* The share that this session keeps for a durable lock that it took. */
typedef struct KeptShare
{
	char	   *lockid;
	int64		fence;			/* of the holding */
	int64		key;			/* of the built-in lock */
	int64		session;		/* that took the share, by number */
} KeptShare;

extern KeptShare *tfstate_note_share(const Holding *holding);
extern KeptShare *tfstate_find_share(const Holding *holding);
extern void tfstate_forget_share(KeptShare *share);
extern void tfstate_drop_stale_shares(void);

#endif							/* TFSTATE_SHARE_H */
