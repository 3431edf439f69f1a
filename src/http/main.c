/*-------------------------------------------------------------------------
 *
 * main.c
 *	  tfstate-http: Terraform's http backend on top of tfstate.
 *
 * Users call the program tfstate, which executes this one with "serve" or "run" as its
 * first argument: so only this one needs libmicrohttpd.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <getopt.h>

#include "common/logging.h"

#include "client/duration.h"
#include "http/http.h"
#include "http/run.h"

#define DEFAULT_LISTEN	"127.0.0.1:5480"
#define DEFAULT_LOCKID	"terraform_remote_state.states/default"

/* The lease of the locks of a command, and the time that it has to end, in milliseconds. */
#define DEFAULT_TTL_MS		60000
#define MIN_TTL_MS			5000
#define DEFAULT_GRACE_MS	60000

const char *progname = "tfstate";

Options		options = {
	.listen = DEFAULT_LISTEN,
	.max_clients = 1000,
	.max_sessions = 20,
	.max_state = 256 * 1024 * 1024,
	.client_timeout = 30
};

enum
{
	OPTION_LISTEN = 256,
	OPTION_TLS_CERT,
	OPTION_TLS_KEY,
	OPTION_TLS_CLIENT_CA,
	OPTION_BEHIND_PROXY,
	OPTION_MAX_CLIENTS,
	OPTION_MAX_SESSIONS,
	OPTION_MAX_STATE,
	OPTION_CLIENT_TIMEOUT,
	OPTION_TTL,
	OPTION_GRACE
};

static const struct option serve_options[] = {
	{"dbname", required_argument, NULL, 'd'},
	{"host", required_argument, NULL, 'h'},
	{"port", required_argument, NULL, 'p'},
	{"listen", required_argument, NULL, OPTION_LISTEN},
	{"tls-cert", required_argument, NULL, OPTION_TLS_CERT},
	{"tls-key", required_argument, NULL, OPTION_TLS_KEY},
	{"tls-client-ca", required_argument, NULL, OPTION_TLS_CLIENT_CA},
	{"behind-proxy", no_argument, NULL, OPTION_BEHIND_PROXY},
	{"client-timeout", required_argument, NULL, OPTION_CLIENT_TIMEOUT},
	{"max-clients", required_argument, NULL, OPTION_MAX_CLIENTS},
	{"max-sessions", required_argument, NULL, OPTION_MAX_SESSIONS},
	{"max-state", required_argument, NULL, OPTION_MAX_STATE},
	{NULL, 0, NULL, 0}
};

static const struct option run_options[] = {
	{"dbname", required_argument, NULL, 'd'},
	{"host", required_argument, NULL, 'h'},
	{"port", required_argument, NULL, 'p'},
	{"username", required_argument, NULL, 'U'},
	{"no-password", no_argument, NULL, 'w'},
	{"password", no_argument, NULL, 'W'},
	{"http", no_argument, NULL, 0},
	{"ttl", required_argument, NULL, OPTION_TTL},
	{"grace", required_argument, NULL, OPTION_GRACE},
	{NULL, 0, NULL, 0}
};

pg_noreturn static void
wrong_arguments(const char *command, const char *message, const char *value)
{
	fprintf(stderr, "%s: ", progname);
	fprintf(stderr, message, value);
	fprintf(stderr, "\nTry \"%s %s --help\" for more information.\n", progname, command);
	exit(EXIT_USAGE);
}

/* A number between two bounds. */
static int64_t
number_argument(const char *command, const char *value, int64_t least, int64_t greatest)
{
	char	   *end;
	int64_t		number = strtoll(value, &end, 10);

	if (end == value || *end || number < least || number > greatest)
		wrong_arguments(command, "invalid number: \"%s\"", value);
	return number;
}

/* Milliseconds of a duration. */
static int64_t
duration_argument(const char *option, const char *value)
{
	int64_t		ms;

	if (!read_duration(value, &ms))
		wrong_arguments("run", psprintf("invalid duration for %s: \"%%s\" (" DURATION_EXAMPLES ")", option), value);
	return ms;
}

/* One of the options of both.  Returns false if it is none of them. */
static bool
common_option(int c, const char *value)
{
	switch (c)
	{
		case 'd':
			options.dbname = value;
			return true;
		case 'h':
			options.host = value;
			return true;
		case 'p':
			options.port = value;
			return true;
	}
	return false;
}

static int
serve_main(int argc, char **argv)
{
	int			c;

	while ((c = getopt_long(argc, argv, "d:h:p:", serve_options, NULL)) != -1)
	{
		switch (c)
		{
			case OPTION_LISTEN:
				options.listen = optarg;
				break;
			case OPTION_TLS_CERT:
				options.tls_cert = optarg;
				break;
			case OPTION_TLS_KEY:
				options.tls_key = optarg;
				break;
			case OPTION_TLS_CLIENT_CA:
				options.tls_client_ca = optarg;
				break;
			case OPTION_BEHIND_PROXY:
				options.behind_proxy = true;
				break;
			case OPTION_CLIENT_TIMEOUT:
				options.client_timeout = number_argument("serve", optarg, 1, 3600);
				break;
			case OPTION_MAX_CLIENTS:
				options.max_clients = number_argument("serve", optarg, 1, 100000);
				break;
			case OPTION_MAX_SESSIONS:
				options.max_sessions = number_argument("serve", optarg, 1, 10000);
				break;
			case OPTION_MAX_STATE:
				options.max_state = number_argument("serve", optarg, 1, 1023) * 1024 * 1024;
				break;
			default:
				if (!common_option(c, optarg))
					wrong_arguments("serve", "user and password of PostgreSQL come with each request%s", "");
		}
	}
	if (optind < argc)
		wrong_arguments("serve", "too many arguments: \"%s\"", argv[optind]);
	if ((options.tls_cert == NULL) != (options.tls_key == NULL))
		wrong_arguments("serve", "--tls-cert and --tls-key belong together%s", "");
	if (options.tls_client_ca && options.tls_cert == NULL)
		wrong_arguments("serve", "--tls-client-ca needs --tls-cert%s", "");
	return serve();
}

static int
run_main(int argc, char **argv)
{
	const char *lockid = DEFAULT_LOCKID;
	int64_t		ttl_ms = DEFAULT_TTL_MS;
	int64_t		grace_ms = DEFAULT_GRACE_MS;
	bool		ask = false;
	int			end = argc;
	int			c;

	/*
	 * what stands behind "--" is the command's, and none of it an option of
	 * ours
	 */
	for (int i = 1; i < argc && end == argc; i++)
	{
		if (strcmp(argv[i], "--") == 0)
			end = i;
	}
	if (end + 1 >= argc)
		wrong_arguments("run", "no command is given: put \"--\" and the command behind the workspace%s", "");
	argv[end] = NULL;
	while ((c = getopt_long(end, argv, "d:h:p:U:wW", run_options, NULL)) != -1)
	{
		switch (c)
		{
			case 0:
				break;
			case 'U':
				options.user = optarg;
				break;
			case 'w':
				options.no_password = true;
				break;
			case 'W':
				ask = true;
				break;
			case OPTION_TTL:
				ttl_ms = duration_argument("--ttl", optarg);
				if (ttl_ms < MIN_TTL_MS)
					wrong_arguments("run", "--ttl is too short: \"%s\"", optarg);
				break;
			case OPTION_GRACE:
				grace_ms = duration_argument("--grace", optarg);
				break;
			default:
				if (!common_option(c, optarg))
					wrong_arguments("run", "with --http, \"run\" has the options --ttl and --grace only%s", "");
		}
	}
	if (optind < end)
		lockid = argv[optind++];
	if (optind < end)
		wrong_arguments("run", "with --http, there is one workspace only: \"%s\" is too much", argv[optind]);
	options.own = true;
	options.listen = "127.0.0.1:0";
	if (ask)
		(void) ask_password();
	return run_command_with_http(lockid, ttl_ms, grace_ms, argv + end + 1);
}

int
main(int argc, char **argv)
{
	pg_logging_init(argv[0]);
	if (argc >= 2 && strcmp(argv[1], "--version") == 0)
	{
		printf("tfstate-http %s\n", TFSTATE_VERSION);
		return EXIT_SUCCESS_STATUS;
	}
	if (argc >= 2 && strcmp(argv[1], "serve") == 0)
	{
		argv[1] = "tfstate serve";
		return serve_main(argc - 1, argv + 1);
	}
	if (argc >= 2 && strcmp(argv[1], "run") == 0)
	{
		argv[1] = "tfstate run";
		return run_main(argc - 1, argv + 1);
	}
	fprintf(stderr, "This program is for \"tfstate serve\" and \"tfstate run --http\", which start it.\n");
	return EXIT_USAGE;
}
