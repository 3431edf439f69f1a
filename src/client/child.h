/*-------------------------------------------------------------------------
 *
 * child.h
 *	  The command that runs under a lock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_CHILD_H
#define TFSTATE_CHILD_H

typedef struct Child
{
	pid_t		pid;			/* also its process group */
	bool		running;		/* has the command itself not ended? */
	bool		stopped;		/* by a signal such as SIGTSTP? */
	int			exit_status;	/* as a shell has it, once it has ended */
	int			tty;			/* our terminal, -1 if there is none */
	int64_t		kill_at;		/* when its group gets SIGKILL; NEVER if not */
	int64_t		drain_ms;		/* how long what it leaves behind may go on;
								 * -1 for ever */
	bool		only_command;	/* do signals go to the command only, which
								 * ends what it has started?  Set by the
								 * caller */
} Child;

extern int	child_start(Child *child, char **argv);
extern void child_reap(Child *child);
extern void child_signal(Child *child, int number);
extern void child_end(Child *child, int64_t grace_ms);
extern bool child_is_gone(Child *child);
extern void child_stop_with(Child *child);
extern void child_continue(Child *child);
extern void child_return_terminal(Child *child);
extern bool child_of_holder(const char *lockid);

#endif							/* TFSTATE_CHILD_H */
