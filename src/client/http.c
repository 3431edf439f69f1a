/*-------------------------------------------------------------------------
 *
 * http.c
 *	  What tfstate-http does: tfstate serve, and tfstate run --http.
 *
 * That is a program of its own, which may be missing, so that this one needs libpq only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <unistd.h>

#include "client.h"
#include "commands.h"
#include "http.h"
#include "options.h"

#define PROGRAM "tfstate-http"

/* Returns true if --http is among the options in front of "--". */
bool
wants_http(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
	{
		if (strcmp(argv[i], "--http") == 0)
			return true;
	}
	return false;
}

/*
 * Become tfstate-http, which stands beside this program or is found as commands are, with
 * the same arguments.  Returns the exit status if that is not possible.
 */
int
become_http(const char *mode, int argc, char **argv)
{
	char	  **words = pg_malloc((argc + 2) * sizeof(char *));
	char		path[MAXPGPATH];
	ssize_t		length = readlink("/proc/self/exe", path, sizeof(path) - sizeof(PROGRAM));
	char	   *slash;

	words[0] = PROGRAM;
	words[1] = pg_strdup(mode);
	for (int i = 1; i <= argc; i++)
		words[i + 1] = argv[i];
	path[Max(length, 0)] = '\0';
	slash = strrchr(path, '/');
	if (slash)
	{
		strcpy(slash + 1, PROGRAM);
		execv(path, words);
	}
	if (slash == NULL || errno == ENOENT)
		execvp(PROGRAM, words);
	fprintf(stderr, "%s: could not execute \"%s\": %s%s\n", progname, PROGRAM, strerror(errno),
			errno == ENOENT ? "; it is built where libmicrohttpd is installed" : "");
	return EXIT_CONNECT;
}

static int
serve_main(const Command *command, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--help") == 0)
		{
			print_help(command);
			return EXIT_SUCCESS_STATUS;
		}
	}
	return become_http("serve", argc, argv);
}

const Command serve_command = {
	"serve", serve_main, "[OPTION]...",
	"serve Terraform's http backend",
	"      --listen=ADDRESS:PORT\n"
	"                         where to listen (default: 127.0.0.1:5480)\n"
	"      --tls-cert=FILE    the server's certificate, and those it was issued by\n"
	"      --tls-key=FILE     its private key\n"
	"      --tls-client-ca=FILE\n"
	"                         demand certificates of clients, issued by one of these\n"
	"      --behind-proxy     listen beyond this machine without TLS, which a proxy has\n"
	"      --client-timeout=SECONDS\n"
	"                         how long a client may be silent, or too slow (default: 30)\n"
	"      --max-clients=N    how many clients can be connected (default: 1000)\n"
	"      --max-sessions=N   how many connections to PostgreSQL are used (default: 20)\n"
	"      --max-state=MB     the largest state that is accepted (default: 256)\n"
};
