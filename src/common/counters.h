/*-------------------------------------------------------------------------
 *
 * counters.h
 *	  What is counted, and what is logged, when a transaction commits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_COUNTERS_H
#define TFSTATE_COUNTERS_H

/* src/lock/metrics.c has the names under which they are shown. */
typedef enum Counter
{
	COUNT_DURABLE,				/* locks that were taken, by mode */
	COUNT_SESSION,
	COUNT_CONFLICTS,			/* requests for a lock that was held */
	COUNT_UNLOCKED,				/* holdings that have ended, by HOW_... */
	COUNT_FORCED,
	COUNT_EXPIRED,
	COUNT_RECLAIMED,
	COUNT_REFUSED_HELD,			/* writes that the guard refused, by reason: */
	COUNT_REFUSED_UNLOCKED,		/* the lock is required, and was not held */
	COUNT_REFUSED_LOST,			/* the run has lost the lock */
	COUNT_REFUSED_FENCE,		/* the lock is not held under tfstate.fence */
	COUNT_REFUSED_WRITTEN,		/* was written after the unlock */
	COUNT_REFUSED_SERIAL,
	COUNT_REFUSED_LINEAGE,
	COUNT_REFUSED_TEXT,			/* the text is no state */
	COUNT_REFUSED_FROZEN,
	COUNT_REFUSED_PRIVILEGE,
	COUNT_OVERRIDES,			/* writes with tfstate.guard = off */
	NUM_COUNTERS
} Counter;

extern void tfstate_init_counters(void);
extern void tfstate_count(Counter counter);
extern void tfstate_count_at_once(Counter counter);
extern void tfstate_log_at_commit(const char *line);
extern void tfstate_log(const char *line);

#endif							/* TFSTATE_COUNTERS_H */
