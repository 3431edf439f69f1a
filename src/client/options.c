/*-------------------------------------------------------------------------
 *
 * options.c
 *	  Reading the command line.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <pwd.h>
#include <sys/random.h>
#include <unistd.h>

#include "client.h"
#include "duration.h"
#include "options.h"
#include "print.h"

/*
 * Report a wrong command line, and exit.
 */
void
usage_error(const Command *command, const char *format,...)
{
	va_list		arguments;

	fprintf(stderr, "%s: ", progname);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\nTry \"%s %s%s--help\" for more information.\n", progname,
			command ? command->name : "", command ? " " : "");
	exit(EXIT_USAGE);
}

/* Milliseconds of a duration; see read_duration(). */
int64_t
duration_argument(const Command *command, const char *option, const char *value)
{
	int64_t		ms;

	if (!read_duration(value, &ms))
		usage_error(command, "invalid duration for %s: \"%s\" (" DURATION_EXAMPLES ")", option, value);
	return ms;
}

/* An exit status. */
int
status_argument(const Command *command, const char *option, const char *value)
{
	char	   *end;
	long		number = strtol(value, &end, 10);

	if (end == value || *end || number < 0 || number > 255)
		usage_error(command, "invalid exit status for %s: \"%s\" (0 to 255 are allowed)", option, value);
	return (int) number;
}

/* A random UUID (version 4). */
char *
make_uuid(void)
{
	uint8		b[16];

	if (getentropy(b, sizeof(b)) != 0)
	{
		fprintf(stderr, "%s: could not generate random values\n", progname);
		exit(EXIT_FAILED);
	}
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	return psprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
					b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

/* Who we are, as Terraform has it: user@host. */
char *
default_who(void)
{
	struct passwd *entry = getpwuid(geteuid());
	char		host[256] = "";

	(void) gethostname(host, sizeof(host) - 1);
	return psprintf("%s@%s", entry ? entry->pw_name : getenv("USER") ? getenv("USER") : "unknown", host);
}

void
print_help(const Command *command)
{
	printf("%s %s: %s\n\nUsage:\n  %s %s %s\n", progname, command->name, command->brief, progname, command->name,
		   command->arguments);
	if (command->options)
		printf("\nOptions:\n%s", command->options);
	if (command->connects_as_told)
		return;
	printf("\nConnection options:\n"
		   "  -d, --dbname=DBNAME    database, or connection string\n"
		   "  -h, --host=HOSTNAME    database server host or socket directory\n"
		   "  -p, --port=PORT        database server port\n"
		   "  -U, --username=USER    database user name\n"
		   "  -w, --no-password      never prompt for a password\n"
		   "  -W, --password         prompt for a password before connecting\n");
}

/*
 * What getopt_long() returned is no option that has an argument of ours: help, or an error,
 * which it has reported.  Returns the exit status.
 */
int
bad_option(const Command *command, int c)
{
	if (c == OPTION_HELP)
	{
		print_help(command);
		return flush_output() ? EXIT_SUCCESS_STATUS : EXIT_OUTPUT;
	}
	fprintf(stderr, "Try \"%s %s --help\" for more information.\n", progname, command->name);
	return EXIT_USAGE;
}
