/*-------------------------------------------------------------------------
 *
 * progress.h
 *	  What is shown while a lock is waited for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_PROGRESS_H
#define TFSTATE_PROGRESS_H

#include "conn.h"

typedef struct Progress
{
	const char *const *lockids;
	int			count;
	Conn	   *waiting;		/* the connection that waits */
	int64_t		started;

	Conn		conn;			/* the one that asks */
	bool		connecting;
	bool		asking;
	int64_t		next;			/* when to ask again */
	char	   *shown;			/* the holder that was named last */
	bool		line;			/* is our line on the terminal? */
} Progress;

extern void progress_start(Progress *progress, const char *const *lockids, int count, Conn *waiting);
extern void progress_step(Progress *progress);
extern void progress_erase(Progress *progress);
extern void progress_stop(Progress *progress);

#endif							/* TFSTATE_PROGRESS_H */
