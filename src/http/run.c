/*-------------------------------------------------------------------------
 *
 * run.c
 *	  tfstate run --http: a command, and a server that is there for it alone.
 *
 * 1. Connect as the caller, to find out early whether that works.
 * 2. Listen on a port of the loopback interface that is free, with a password that is made
 *    up, and start the command with both in its environment.
 * 3. Until it ends: answer its requests, pass signals on, renew the leases of its locks.  If
 *    one is lost, end the command.
 * 4. Release what it has left locked, and exit as the command did.
 *
 * The command is started before there are threads.  Its first request waits until somebody
 * accepts connections.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "common/string.h"

#include "client/child.h"
#include "client/event.h"
#include "http/address.h"
#include "http/auth.h"
#include "http/held.h"
#include "http/pool.h"
#include "http/run.h"
#include "http/server.h"

/* How long requests have to be answered when the command has ended, and how often locks are
 * looked at, in ms. */
#define GRACE_MS	5000
#define LOOK_MS		1000

static bool
ends_a_program(int number)
{
	return number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT;
}

/* Ask for the password of the caller.  Returns false if there is no terminal for that. */
bool
ask_password(void)
{
	int			tty = open("/dev/tty", O_RDWR);

	if (tty < 0)
		return false;
	close(tty);
	options.password = simple_prompt("Password: ", false);
	return true;
}

/*
 * Connect as the caller, and ask for a password where the server wants one and there is a
 * terminal.  Returns 0, or an exit status for what is wrong, which is reported.
 */
static int
check_connection(void)
{
	char		sqlstate[6];
	char	   *message;
	Db		   *db;
	DbStatus	status = pool_get(&db, "", "", true, sqlstate, &message);

	if (status == DB_ERROR && strcmp(sqlstate, DB_NEEDS_PASSWORD) == 0 && options.password == NULL &&
		!options.no_password && ask_password())
		status = pool_get(&db, "", "", true, sqlstate, &message);
	if (status != DB_OK)
	{
		fprintf(stderr, "%s: %s\n", progname, message);
		return EXIT_CONNECT;
	}
	pool_put(db);
	return 0;
}

/* Tell the command where its state is. */
static void
set_environment(const char *url, const Address *address)
{
	char	   *path = address_path(address);
	char	   *full = psprintf("%s%s", url, path);

	setenv("TF_HTTP_ADDRESS", full, 1);
	setenv("TF_HTTP_LOCK_ADDRESS", full, 1);
	setenv("TF_HTTP_UNLOCK_ADDRESS", full, 1);
	setenv("TF_HTTP_USERNAME", AUTH_OWN_USER, 1);
	setenv("TF_HTTP_PASSWORD", auth_make_password(), 1);
	setenv("TF_HTTP_UPDATE_METHOD", "POST", 1);
	setenv("TF_HTTP_LOCK_METHOD", "LOCK", 1);
	setenv("TF_HTTP_UNLOCK_METHOD", "UNLOCK", 1);
	free(full);
	free(path);
}

/* Wait for the command to end. */
static void
wait_for_command(Child *child, int64_t grace_ms)
{
	for (;;)
	{
		int			number;

		while ((number = next_signal()) != 0)
		{
			if (number == SIGCHLD)
				child_reap(child);
			else if (number != SIGWINCH && number != SIGCONT)
				child_signal(child, number);
			if (ends_a_program(number))
				child->drain_ms = grace_ms;
		}
		if (child_is_gone(child))
			break;
		if (child->stopped && child->kill_at == NEVER && child->tty >= 0)
		{
			child_stop_with(child);
			child_continue(child);
			child->stopped = false;
		}
		if (held_lost())
			child_end(child, grace_ms);
		(void) wait_for_event(NULL, NULL, 0, Min(child->kill_at, now_ms() + LOOK_MS));
	}
	child_return_terminal(child);
}

/*
 * Run a command with a server for one workspace.  Returns the exit status.
 */
int
run_command_with_http(const char *lockid, int64_t ttl_ms, int64_t grace_ms, char **command)
{
	Child		child = {0};
	Address		address;
	char	   *url;
	int			fd;
	int			status;

	if (!address_of_lockid(lockid, &address))
	{
		fprintf(stderr, "%s: \"%s\" is not the lockid of a workspace: SCHEMA.TABLE/WORKSPACE\n", progname, lockid);
		return EXIT_USAGE;
	}
	if (child_of_holder(address.lockid))
	{
		fprintf(stderr, "%s: the command would wait for itself: it is run by a \"tfstate run\" that holds state lock \"%s\"; "
				"leave that out, as Terraform takes the lock\n", progname, address.lockid);
		return EXIT_USAGE;
	}
	catch_signals();
	ignore_broken_pipes();
	status = check_connection();
	if (status != 0)
		return status;
	fd = server_listen(&url);
	if (fd < 0)
		return EXIT_CONNECT;
	set_environment(url, &address);
	status = child_start(&child, command);
	if (status != 0)
		return status;
	pool_start();
	held_start(ttl_ms, (const char *const *) command);
	if (server_start(fd))
		wait_for_command(&child, grace_ms);
	else
	{
		child_end(&child, 0);
		return EXIT_FAILED;
	}
	status = child.exit_status;
	(void) server_stop(GRACE_MS);
	if (!held_release_all() || held_lost())
		status = EXIT_LOST;
	return status;
}
