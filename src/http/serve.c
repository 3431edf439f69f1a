/*-------------------------------------------------------------------------
 *
 * serve.c
 *	  tfstate serve: requests are answered until a signal ends that.
 *
 * Nothing is kept here that a request needs after it: any number of servers can stand
 * behind one address, and one that is killed takes nothing with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <signal.h>

#include "client/event.h"
#include "http/pool.h"
#include "http/run.h"
#include "http/server.h"

/* How long requests have to be answered when the program is told to end, in ms. */
#define GRACE_MS	30000

static bool
ends_the_server(int number)
{
	return number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT;
}

/* Returns the exit status. */
int
serve(void)
{
	char	   *url;
	int			fd;
	int			number = 0;

	/* whom a request is from is never found out from what this process has */
	unsetenv("PGUSER");
	unsetenv("PGPASSWORD");
	unsetenv("PGPASSFILE");
	catch_signals();
	ignore_broken_pipes();
	fd = server_listen(&url);
	if (fd < 0)
		return EXIT_USAGE;
	pool_start();
	if (!server_start(fd))
		return EXIT_FAILED;
	fprintf(stderr, "%s: listening on %s\n", progname, url);
	free(url);
	while (!ends_the_server(number))
	{
		(void) wait_for_event(NULL, NULL, 0, NEVER);
		number = next_signal();
		if (number == SIGTSTP)
			raise(SIGSTOP);
	}
	fprintf(stderr, "%s: ending\n", progname);
	if (!server_stop(GRACE_MS))
		fprintf(stderr, "%s: some requests were not answered in time\n", progname);
	return EXIT_SUCCESS_STATUS;
}
