/*-------------------------------------------------------------------------
 *
 * client.h
 *	  What all files of the client program share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_CLIENT_H
#define TFSTATE_CLIENT_H

#include "libpq-fe.h"

/* PostgreSQL 18 and later define it. */
#ifndef pg_noreturn
#define pg_noreturn __attribute__((noreturn))
#endif

/*
 * Exit statuses of our own.  They are those of <sysexits.h> where that has one for the
 * case, and leave 1 to 63 and 126 and above to the command that "tfstate run" runs.
 */
#define EXIT_SUCCESS_STATUS	0
#define EXIT_FAILED			1	/* the server refused what was asked */
#define EXIT_USAGE			64	/* EX_USAGE: wrong arguments */
#define EXIT_CONNECT		69	/* EX_UNAVAILABLE: no server, no extension */
#define EXIT_LOST			70	/* EX_SOFTWARE: the lock was lost */
#define EXIT_OUTPUT			74	/* EX_IOERR: the output could not be written */
#define EXIT_HELD			75	/* EX_TEMPFAIL: somebody else holds the lock */
#define EXIT_NOPERM			77	/* EX_NOPERM: a privilege is missing */
#define EXIT_CANNOT_RUN		126 /* as a shell: the command cannot be executed */
#define EXIT_NOT_FOUND		127 /* as a shell: there is no such command */

/* The exit statuses that "tfstate run" lets its caller choose. */
typedef struct ExitStatuses
{
	int			held;
	int			lost;
	int			connect;
} ExitStatuses;

extern const char *progname;

/* A subcommand.  Its function returns the exit status; argv[0] stands for the program. */
typedef struct Command Command;
struct Command
{
	const char *name;
	int			(*run) (const Command *command, int argc, char **argv);
	const char *arguments;		/* as the usage line has them */
	const char *brief;			/* one line */
	const char *options;		/* lines of the help, or NULL */
	bool		connects_as_told;	/* elsewhere: it has no connection options */
};

#endif							/* TFSTATE_CLIENT_H */
