/*-------------------------------------------------------------------------
 *
 * log.c
 *	  What is logged while requests are answered.
 *
 * No request waits for whoever reads the log: lines for which there is no room are left out,
 * and a later one tells how many.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include "http/http.h"
#include "http/log.h"

/* Return true if standard error takes PIPE_BUF bytes without a wait. */
static bool
log_has_room(void)
{
	struct pollfd fd = {STDERR_FILENO, POLLOUT, 0};

	return poll(&fd, 1, 0) == 1 && (fd.revents & POLLOUT);
}

/*
 * Write a line, with its newline, into the log: its first PIPE_BUF bytes at most, for which it
 * may be changed.
 */
void
log_line(char *line, size_t length)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	static int	left_out = 0;

	if (length > PIPE_BUF)
	{
		length = PIPE_BUF;
		line[length - 1] = '\n';
	}
	pthread_mutex_lock(&mutex);
	if (left_out > 0 && log_has_room())
	{
		fprintf(stderr, "%s: %d lines of the log were left out\n", progname, left_out);
		left_out = 0;
	}
	if (left_out == 0 && log_has_room())
		(void) !write(STDERR_FILENO, line, length);
	else
		left_out++;
	pthread_mutex_unlock(&mutex);
}
