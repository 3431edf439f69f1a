/*-------------------------------------------------------------------------
 *
 * fence.h
 *	  Fences.  For src/lock only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_FENCE_H
#define TFSTATE_FENCE_H

extern int64 tfstate_newest_in_history(const char *lockid, int64 least);
extern int64 tfstate_next_fence(const char *lockid, int64 newest);
extern bool tfstate_fence_is_passed(int64 fence);

#endif							/* TFSTATE_FENCE_H */
