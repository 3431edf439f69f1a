/*-------------------------------------------------------------------------
 *
 * reclaim.h
 *	  Removing the rows of dead sessions.  For src/lock only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_RECLAIM_H
#define TFSTATE_RECLAIM_H

extern void tfstate_reclaim_some(void);

#endif							/* TFSTATE_RECLAIM_H */
