/*-------------------------------------------------------------------------
 *
 * child.c
 *	  The command that runs under a lock.
 *
 * It gets a process group of its own, so that signals reach what it has started, too,
 * and where we are in the foreground of a terminal, the foreground: what is typed there
 * is for it, an interrupt included.  We are not in that group: a ^C reaches the command
 * once and not twice, which to Terraform would be an order to abort.
 *
 * If we are killed, the kernel tells the command by SIGTERM where it can
 * (PR_SET_PDEATHSIG).  Processes that the command leaves behind become our children
 * (PR_SET_CHILD_SUBREAPER), so that we know when its group is empty.
 *
 * If the command is stopped at a terminal, by ^Z for example, so are we: the shell that
 * started us waits for our process.  When the shell continues us, we continue the command.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "child.h"
#include "client.h"
#include "event.h"

/* How long to wait after SIGKILL before the next one. */
#define KILL_AGAIN_MS	1000

/* Make a process group the one that a terminal's keys go to, from whatever group. */
static void
give_terminal(int tty, pid_t group)
{
	sigset_t	ttou;
	sigset_t	before;

	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	sigprocmask(SIG_BLOCK, &ttou, &before);
	(void) tcsetpgrp(tty, group);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

static bool
in_foreground(const Child *child)
{
	return child->tty >= 0 && tcgetpgrp(child->tty) == getpgrp();
}

/*
 * In the new process: become the command.  Where that fails, errno goes into the pipe.
 */
static void
become(const Child *child, char **argv, bool foreground, pid_t parent, int report)
{
	int			error;

	setpgid(0, 0);
	if (foreground)
		give_terminal(child->tty, getpgrp());
#ifdef __linux__
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(128 + SIGTERM);
#endif
	release_signals();
	execvp(argv[0], argv);
	error = errno;
	(void) !write(report, &error, sizeof(error));
	_exit(EXIT_NOT_FOUND);
}

/*
 * Start a command.  Returns 0, or the exit status for why it did not start, which is
 * reported.
 */
int
child_start(Child *child, char **argv)
{
	pid_t		parent = getpid();
	bool		foreground;
	int			report[2];
	int			error = 0;

	child->stopped = false;
	child->exit_status = 0;
	child->kill_at = NEVER;
	child->drain_ms = -1;
	child->tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
	foreground = in_foreground(child);
#ifdef __linux__
	prctl(PR_SET_CHILD_SUBREAPER, 1);
#endif
	if (pipe(report) != 0 ||
		fcntl(report[1], F_SETFD, FD_CLOEXEC) != 0 ||
		(child->pid = fork()) < 0)
	{
		fprintf(stderr, "%s: could not start a process: %s\n", progname, strerror(errno));
		return EXIT_CANNOT_RUN;
	}
	if (child->pid == 0)
		become(child, argv, foreground, parent, report[1]);

	close(report[1]);
	setpgid(child->pid, child->pid);	/* whoever of us two comes first */
	while (read(report[0], &error, sizeof(error)) < 0 && errno == EINTR)
		;
	close(report[0]);
	if (error != 0)
	{
		(void) waitpid(child->pid, NULL, 0);
		if (foreground)
			give_terminal(child->tty, getpgrp());
		fprintf(stderr, "%s: could not execute \"%s\": %s\n", progname, argv[0], strerror(error));
		return error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
	}
	child->running = true;
	return 0;
}

/*
 * Take note of what has become of the command and of what it has left behind.
 */
void
child_reap(Child *child)
{
	pid_t		pid;
	int			status;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0)
	{
		if (pid != child->pid)
			continue;
		child->stopped = WIFSTOPPED(status);
		if (WIFEXITED(status) || WIFSIGNALED(status))
		{
			child->running = false;
			child->exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
	}
}

/* Send a signal to the command and to what it has started, or to the command only. */
void
child_signal(Child *child, int number)
{
	if (!child->only_command)
		(void) kill(-child->pid, number);
	else if (child->running)
		(void) kill(child->pid, number);
	/* a stopped process acts on a signal when it goes on */
	if (child->stopped && (number == SIGTERM || number == SIGHUP || number == SIGINT || number == SIGQUIT))
		(void) kill(-child->pid, SIGCONT);
}

/* End the command: by SIGTERM, and after a time by SIGKILL. */
void
child_end(Child *child, int64_t grace_ms)
{
	if (child->kill_at != NEVER)
		return;
	child->kill_at = now_ms() + grace_ms;
	child_signal(child, SIGTERM);
}

/*
 * Returns true if the command has ended, and, if it was told to, all that it has started
 * and that is still in its process group, too.  What it leaves behind by itself is left
 * alone.
 */
bool
child_is_gone(Child *child)
{
	bool		gone;

	if (!child->running && child->drain_ms >= 0 && child->kill_at == NEVER)
		child->kill_at = now_ms() + child->drain_ms;
	gone = !child->running && (child->kill_at == NEVER || kill(-child->pid, 0) != 0);
	if (!gone && now_ms() >= child->kill_at)
	{
		(void) kill(-child->pid, SIGKILL);
		child->kill_at = now_ms() + KILL_AGAIN_MS;
	}
	return gone;
}

/*
 * The command was stopped: if that was at our terminal, stop, too, and go on with it
 * when we are continued.
 */
void
child_stop_with(Child *child)
{
	if (child->tty < 0)
		return;
	if (tcgetpgrp(child->tty) == child->pid)
		give_terminal(child->tty, getpgrp());
	(void) kill(0, SIGSTOP);
}

/* We were continued: let the command go on, in the foreground if we have that. */
void
child_continue(Child *child)
{
	if (in_foreground(child))
		give_terminal(child->tty, child->pid);
	(void) kill(-child->pid, SIGCONT);
}

/* The command has ended: take the terminal back. */
void
child_return_terminal(Child *child)
{
	if (child->tty >= 0 && tcgetpgrp(child->tty) == child->pid)
		give_terminal(child->tty, getpgrp());
}

/*
 * Returns true if this process is such a command, or was started by one, and the lock is one of
 * those around it: a line of TFSTATE_LOCKID, which "tfstate run" sets.
 */
bool
child_of_holder(const char *lockid)
{
	const char *lines = getenv("TFSTATE_LOCKID");
	size_t		length = strlen(lockid);

	for (; lines; lines = strchr(lines, '\n') ? strchr(lines, '\n') + 1 : NULL)
	{
		if (strncmp(lines, lockid, length) == 0 && (lines[length] == '\n' || lines[length] == '\0'))
			return true;
	}
	return false;
}
