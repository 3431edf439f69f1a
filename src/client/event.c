/*-------------------------------------------------------------------------
 *
 * event.c
 *	  The clock, and waiting for sockets, signals and points in time.
 *
 * The program has one thread.  Signal handlers only write the number of the signal
 * into a pipe, which is one of the files that poll() watches, so that no signal is
 * missed between a look and the wait that follows it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "event.h"

/* The signals that we act on. */
static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCHLD, SIGCONT, SIGWINCH, SIGTSTP};

static int	signal_pipe[2] = {-1, -1};

/* What SIGPIPE did when the program was started. */
static void (*pipe_handler) (int) = SIG_DFL;

/*
 * Milliseconds by a clock that nobody sets.  Where there is one it goes on while the
 * machine sleeps: a lease does so, too.
 */
int64_t
now_ms(void)
{
	struct timespec t;

#ifdef CLOCK_BOOTTIME
	if (clock_gettime(CLOCK_BOOTTIME, &t) != 0)
#endif
		clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void
note_signal(int number)
{
	int			save_errno = errno;
	unsigned char byte = (unsigned char) number;

	/* a full pipe has more signals than anybody can wait for */
	(void) !write(signal_pipe[1], &byte, 1);
	errno = save_errno;
}

/*
 * From now on signals are read with next_signal().  One that was ignored when the
 * program was started, as nohup does with SIGHUP, stays ignored.
 */
void
catch_signals(void)
{
	if (signal_pipe[0] < 0 && pipe(signal_pipe) == 0)
	{
		for (int i = 0; i < 2; i++)
		{
			fcntl(signal_pipe[i], F_SETFL, O_NONBLOCK);
			fcntl(signal_pipe[i], F_SETFD, FD_CLOEXEC);
		}
	}
	for (int i = 0; i < lengthof(caught); i++)
	{
		struct sigaction action;

		sigaction(caught[i], NULL, &action);
		if (action.sa_handler == SIG_IGN && caught[i] != SIGCHLD)
			continue;
		action.sa_handler = note_signal;
		action.sa_flags = SA_RESTART;
		sigemptyset(&action.sa_mask);
		sigaction(caught[i], &action, NULL);
	}
}

/*
 * Do not end when nobody reads what we say: there are locks to keep.
 */
void
ignore_broken_pipes(void)
{
	pipe_handler = signal(SIGPIPE, SIG_IGN);
}

/*
 * Undo catch_signals() and ignore_broken_pipes(), in a child before it becomes another
 * program.
 */
void
release_signals(void)
{
	signal(SIGPIPE, pipe_handler);
	for (int i = 0; i < lengthof(caught); i++)
	{
		struct sigaction action;

		sigaction(caught[i], NULL, &action);
		if (action.sa_handler == note_signal)
			signal(caught[i], SIG_DFL);
	}
}

/* Returns the number of the next signal that has come in, 0 if there is none. */
int
next_signal(void)
{
	unsigned char byte;

	return read(signal_pipe[0], &byte, 1) == 1 ? byte : 0;
}

/*
 * Wait until one of the sockets is ready for what is wanted of it, a signal comes in, or
 * the time is until.  A socket of -1 is passed over.
 *
 * Returns a bit mask of the sockets that are ready, 0 if it was something else.
 */
int
wait_for_event(const int *sockets, const int *wanted, int count, int64_t until)
{
	struct pollfd files[4];
	int64_t		left = until == NEVER ? -1 : Max(until - now_ms(), 0);
	int			ready = 0;

	Assert(count < lengthof(files));
	for (int i = 0; i < count; i++)
	{
		files[i].fd = sockets[i];
		files[i].events = (wanted[i] & WAIT_READ ? POLLIN : 0) | (wanted[i] & WAIT_WRITE ? POLLOUT : 0);
		files[i].revents = 0;
	}
	files[count].fd = signal_pipe[0];
	files[count].events = POLLIN;
	files[count].revents = 0;
	if (poll(files, count + 1, (int) Min(left, INT_MAX)) <= 0)
		return 0;
	for (int i = 0; i < count; i++)
	{
		if (files[i].fd >= 0 && files[i].revents != 0)
			ready |= 1 << i;
	}
	return ready;
}
