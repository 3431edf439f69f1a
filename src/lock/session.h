/*-------------------------------------------------------------------------
 *
 * session.h
 *	  Which sessions are alive.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SESSION_H
#define TFSTATE_SESSION_H

/*
 * For which role and run the session has done something that it remembers.  After DISCARD ALL,
 * under another role or for another run, what it remembers does not count.
 */
typedef struct Caller
{
	int64		session;		/* its number then */
	Oid			role;
	char	   *run;			/* in TopMemoryContext; NULL for none */
} Caller;

extern int64 tfstate_session_open(void);
extern bool tfstate_session_is_mine(int64 session);
extern bool tfstate_session_is_open(void);
extern bool tfstate_session_is_alive(int64 session);
extern int	tfstate_session_pid(int64 session);
extern void tfstate_note_caller(Caller *caller);
extern bool tfstate_is_caller(const Caller *caller);

#endif							/* TFSTATE_SESSION_H */
