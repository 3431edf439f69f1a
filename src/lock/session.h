/*-------------------------------------------------------------------------
 *
 * session.h
 *	  Which sessions are still there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SESSION_H
#define TFSTATE_SESSION_H

/*
 * Whose doing a session remembers: what it keeps in memory is of no account after
 * DISCARD ALL, under another role, or for another run.
 */
typedef struct Caller
{
	int64		session;		/* whose S it had */
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
