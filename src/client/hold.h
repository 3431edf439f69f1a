/*-------------------------------------------------------------------------
 *
 * hold.h
 *	  Locks that the program takes, and keeps while a command runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HOLD_H
#define TFSTATE_HOLD_H

#include "conn.h"

typedef enum HoldMode
{
	MODE_LEASE,
	MODE_DURABLE,
	MODE_SESSION
} HoldMode;

typedef struct HeldLock
{
	const char *lockid;
	char	   *id;
	char	   *fence;
	bool		lost;			/* it is known to be */
} HeldLock;

typedef struct Hold
{
	/* set by the caller */
	HoldMode	mode;
	int64_t		wait_ms;		/* -1 to wait for ever */
	int64_t		ttl_ms;			/* of MODE_LEASE */
	const char *who;			/* NULL to leave it to the server */
	const char *operation;
	const char *note;			/* Info; NULL for none */
	const char *version;		/* NULL for none */
	HeldLock   *locks;
	int			count;

	Conn		conn;
	int64_t		wait_until;		/* NEVER to wait for ever */
	int64_t		lease_end;		/* when the lease is over at the earliest;
								 * NEVER if there is none */
	int64_t		renew_at;		/* when the leases are to be renewed */
	int64_t		check_at;		/* when it is time for hold_keep() */
	bool		lost;
	const HeldLock *lost_lock;	/* which, until that is told */
	char	   *lost_why;		/* NULL if the server knows */
} Hold;

extern int	hold_prepare(Hold *hold);
extern int	hold_take(Hold *hold);
extern void hold_give_up(Hold *hold);
extern void hold_keep(Hold *hold);
extern void hold_tell_lost(Hold *hold);
extern bool hold_release(Hold *hold);

#endif							/* TFSTATE_HOLD_H */
