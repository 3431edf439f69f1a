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

extern void tfstate_sync_at_commit(void);
extern void tfstate_begin_release(void);
extern void tfstate_end_release(void);
extern void tfstate_promote_at_commit(const LOCKTAG *tag, int64 session);
extern void tfstate_release_at_commit(const LOCKTAG *tag, int64 session);
extern void tfstate_wake_at_commit(const LOCKTAG *tag);
extern void tfstate_keep_builtin(const Holding *holding);
extern void tfstate_return_builtin(const Holding *holding);
extern void tfstate_drop_stale_builtins(void);

#endif							/* TFSTATE_COMMIT_INTERNAL_H */
