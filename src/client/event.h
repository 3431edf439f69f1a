/*-------------------------------------------------------------------------
 *
 * event.h
 *	  The clock, and waiting for sockets, signals and points in time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_EVENT_H
#define TFSTATE_EVENT_H

/* A point in time that never comes. */
#define NEVER	INT64_MAX

/* What wait_for_event() waits for on a socket. */
#define WAIT_READ	1
#define WAIT_WRITE	2

extern int64_t now_ms(void);
extern void catch_signals(void);
extern void ignore_broken_pipes(void);
extern void release_signals(void);
extern int	next_signal(void);
extern int	wait_for_event(const int *sockets, const int *wanted, int count, int64_t until);

#endif							/* TFSTATE_EVENT_H */
