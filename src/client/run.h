/*-------------------------------------------------------------------------
 *
 * run.h
 *	  A command that runs while we hold locks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_RUN_H
#define TFSTATE_RUN_H

#include "child.h"
#include "client.h"
#include "hold.h"
#include "options.h"
#include "progress.h"

/* The options that commands of this kind have: a part of an optstring and of a table. */
#define RUN_OPTSTRING	"E:m:"
#define RUN_LONG_OPTIONS \
	{"conflict-exit-code", required_argument, NULL, 'E'}, \
	{"connect-exit-code", required_argument, NULL, OPTION_CONNECT_STATUS}, \
	{"grace", required_argument, NULL, OPTION_GRACE}, \
	{"lost-exit-code", required_argument, NULL, OPTION_LOST_STATUS}, \
	{"message", required_argument, NULL, 'm'}, \
	{"mode", required_argument, NULL, OPTION_MODE}, \
	{"ttl", required_argument, NULL, OPTION_TTL}, \
	{"wait", required_argument, NULL, OPTION_WAIT}, \
	{"who", required_argument, NULL, OPTION_WHO}

enum
{
	OPTION_MODE = OPTION_LONG_ONLY,
	OPTION_WAIT,
	OPTION_TTL,
	OPTION_GRACE,
	OPTION_WHO,
	OPTION_LOST_STATUS,
	OPTION_CONNECT_STATUS,
	OPTION_RUN_LAST
};

/* What the help says of them, but for --wait and --message. */
#define RUN_OPTIONS_HELP \
	"      --mode=MODE        lease (default), durable or session\n" \
	"      --ttl=DURATION     how long a lease lasts unless it is renewed (default: 60s)\n" \
	"      --grace=DURATION   after a lock is lost, how long the command has between SIGTERM\n" \
	"                         and SIGKILL (default: 60s)\n" \
	"      --who=TEXT         Who holds the locks (default: user@host)\n" \
	"  -E, --conflict-exit-code=N\n" \
	"                         exit status if another holds a lock (default: 75)\n" \
	"      --lost-exit-code=N exit status if a lock was lost (default: 70)\n" \
	"      --connect-exit-code=N\n" \
	"                         exit status if there is no connection (default: 69)\n"

typedef struct Run Run;
struct Run
{
	const Command *subcommand;
	Hold		hold;
	Child		child;
	Progress	progress;
	bool		waiting;		/* for the locks */
	bool		asking;			/* what the caller wants to know of a refusal */
	bool		telling;		/* how a lock was lost */
	bool		refused;		/* somebody else holds a lock */
	int			signal;			/* that ended the wait, or 0 */
	int64_t		grace_ms;
	ExitStatuses statuses;
	char	  **command;
	const char *id;				/* a UUID that names this run */
	bool		identified;		/* does our environment tell it already? */

	/*
	 * Called when there is a connection, to name the locks, or NULL.  Returns
	 * 0, or what run_under_locks() is to return.
	 */
	int			(*connected) (Run *run);
	void	   *arg;
};

extern void run_init(Run *run, const Command *subcommand);
extern bool run_option(Run *run, int c, const char *value);
extern int	run_under_locks(Run *run);

#endif							/* TFSTATE_RUN_H */
