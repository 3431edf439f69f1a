/*-------------------------------------------------------------------------
 *
 * shim_memory.h
 *	  What a session remembers of its calls of the shim.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SHIM_MEMORY_H
#define TFSTATE_SHIM_MEMORY_H

#include "nodes/pg_list.h"

/* What the last key was that was locked in a statement. */
typedef enum LastKey
{
	KEY_NONE,					/* there was none yet */
	KEY_WORKSPACE,
	KEY_OTHER
} LastKey;

/* A lock that this session took for a key. */
typedef struct ShimLock
{
	int64		key;			/* what Terraform will unlock */
	bool		creation;		/* it is the lock of a creation key */
	char	   *lockid;
	char	   *id;				/* of the holding */
} ShimLock;

extern void tfstate_remember_key(LastKey key);
extern LastKey tfstate_last_key(void);
extern void tfstate_remember_lock(int64 key, bool creation, const char *lockid, const char *id);
extern List *tfstate_remembered_locks(int64 key);
extern void tfstate_forget_lock(ShimLock *lock);
extern void tfstate_remember_grant(int64 key);
extern bool tfstate_take_grant(int64 key, char **lockid, char **id);
extern void tfstate_remember_release(const char *lockid, int64 fence);
extern bool tfstate_released_last(const char *lockid, int64 *fence, int64 *version);

#endif							/* TFSTATE_SHIM_MEMORY_H */
