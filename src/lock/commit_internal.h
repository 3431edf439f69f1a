/*-------------------------------------------------------------------------
 *
 * commit_internal.h
 *	  What the end of a transaction has to do.  For src/lock only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_COMMIT_INTERNAL_H
#define TFSTATE_COMMIT_INTERNAL_H

#include "lock/holding.h"
#include "storage/lock.h"

extern void tfstate_promote_at_commit(const LOCKTAG *tag, int64 session);
extern void tfstate_release_at_commit(const LOCKTAG *tag, int64 session);
extern void tfstate_wake_at_commit(const LOCKTAG *lock_tag);
extern void tfstate_keep_share_at_commit(const Holding *holding);
extern void tfstate_return_share_at_commit(const Holding *holding);

#endif							/* TFSTATE_COMMIT_INTERNAL_H */
