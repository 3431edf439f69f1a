/*-------------------------------------------------------------------------
 *
 * main.c
 *	  tfstate: state locks and guarded states from the command line.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <fcntl.h>
#include <locale.h>
#include <unistd.h>

#include "common/logging.h"

#include "client.h"
#include "commands.h"
#include "options.h"
#include "print.h"

const char *progname = "tfstate";

/* All subcommands, in the order of the help. */
static const Command *
command_at(int i)
{
	static const Command *const first[] = {&run_command, &terraform_command, &tofu_command, &serve_command, &watch_command};

	if (i < lengthof(first))
		return first[i];
	i -= lengthof(first);
	if (i < num_list_commands)
		return &list_commands[i];
	i -= num_list_commands;
	if (i < num_act_commands)
		return &act_commands[i];
	return i == num_act_commands ? &import_command : NULL;
}

static const Command *
find_command(const char *name)
{
	const Command *command;

	for (int i = 0; (command = command_at(i)) != NULL; i++)
	{
		if (strcmp(command->name, name) == 0)
			return command;
	}
	return NULL;
}

static void
print_overview(void)
{
	const Command *command;

	printf("tfstate takes, shows and releases state locks, and looks after the states they guard.\n\n"
		   "Usage:\n  %s COMMAND [OPTION]... [ARGUMENT]...\n\nCommands:\n", progname);
	for (int i = 0; (command = command_at(i)) != NULL; i++)
		printf("  %-13s%s\n", command->name, command->brief);
	printf("\n\"%s COMMAND --help\" tells more of each.  The server is named as for psql: by the options\n"
		   "-h, -p, -U and -d, by PGHOST, PGPORT, PGUSER, PGDATABASE and the like, or by PGSERVICE.\n", progname);
}

/*
 * Let no file that is opened later be standard input, output or error, where the caller
 * has closed these.  Writing there still fails.
 */
static void
keep_standard_files(void)
{
	int			fd;

	do
	{
		fd = open("/dev/null", O_RDONLY);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* The exit status, which is another one if the output was not written. */
static int
finish(int status)
{
	return flush_output() || status != EXIT_SUCCESS_STATUS ? status : EXIT_OUTPUT;
}

int
main(int argc, char **argv)
{
	const Command *command;
	char	   *name;
	int			status;

	keep_standard_files();
	/* libpq takes the encoding from it; messages stay as scripts expect them */
	setlocale(LC_CTYPE, "");
	pg_logging_init(argv[0]);
	if (argc < 2)
		usage_error(NULL, "no command is given");
	name = argv[1];
	if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
	{
		printf("tfstate %s\n", TFSTATE_VERSION);
		return finish(EXIT_SUCCESS_STATUS);
	}
	if (strcmp(name, "help") == 0 && argc == 3)
	{
		command = find_command(argv[2]);
		if (command == NULL)
			usage_error(NULL, "there is no command \"%s\"", argv[2]);
		print_help(command);
		return finish(EXIT_SUCCESS_STATUS);
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0)
	{
		print_overview();
		return finish(EXIT_SUCCESS_STATUS);
	}
	command = find_command(name);
	if (command == NULL)
		usage_error(NULL, "there is no command \"%s\"", name);
	argv[1] = psprintf("%s %s", progname, name);
	status = command->run(command, argc - 1, argv + 1);
	return finish(status);
}
