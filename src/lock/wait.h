/*-------------------------------------------------------------------------
 *
 * wait.h
 *	  Taking and waiting for lock-manager tags.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_WAIT_H
#define TFSTATE_WAIT_H

#include "datatype/timestamp.h"
#include "storage/lock.h"

/*
 * When a wait ends, in microseconds of a clock that nobody sets; see
 * tfstate_start_wait().
 */
typedef struct WaitLimit
{
	int64		give_up;		/* then without the lock, and no error */
	int64		error;			/* then the user's lock_timeout is over */
	bool		ends_with_session;	/* does what is waited for? */
} WaitLimit;

extern bool tfstate_try_tag(const LOCKTAG *tag);
extern void tfstate_take_tag(const LOCKTAG *tag);
extern void tfstate_take_share_of(const LOCKTAG *tag);
extern void tfstate_release_tag(const LOCKTAG *tag);
extern void tfstate_start_wait(WaitLimit *limit, int64 usecs);
extern bool tfstate_wait_is_over(const WaitLimit *limit);
extern bool tfstate_wait_is_endless(const WaitLimit *limit);
extern bool tfstate_wait_tag(const LOCKTAG *tag, const WaitLimit *limit);
extern void tfstate_wait_as_first(const LOCKTAG *lock_tag, TransactionId changing,
								  TimestampTz expires_at, const WaitLimit *limit);
extern bool tfstate_wait_tag_as_first(const LOCKTAG *lock_tag, const LOCKTAG *tag,
									  const WaitLimit *limit);

#endif							/* TFSTATE_WAIT_H */
