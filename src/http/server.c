/*-------------------------------------------------------------------------
 *
 * server.c
 *	  Listening, and the limits that every client has.
 *
 * libmicrohttpd gives each connection a thread, which reads a request, waits for the
 * database and sends the answer.  So a slow client keeps a thread and nobody else, and no
 * connection to the database: that is taken when the request is complete.  How long a
 * client may take is limited twice: libmicrohttpd closes a connection on which nothing
 * happens, and a thread of ours those that send or read too slowly (request.c says how
 * slowly).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <ctype.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/event.h"
#include "http/log.h"
#include "http/request.h"
#include "http/server.h"

/* Memory for the headers of a request, and of a thread's stack, in bytes. */
#define HEADERS_BYTES	(32 * 1024)
#define STACK_BYTES		(512 * 1024)

struct Link
{
	int			fd;
	int64_t		deadline;
	Link	   *next;
	Link	  **place;			/* of the pointer to it */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Link *links;
static int	requests;			/* how many are being answered */
static struct MHD_Daemon *daemon_of_mhd;

/* How long the headers of a request may take, from the end of the request before, in ms. */
static int64_t
headers_ms(void)
{
	return options.client_timeout * INT64CONST(2000);
}

/* A client has connected, or is gone. */
static void
notify_connection(void *arg, struct MHD_Connection *connection, void **context,
				  enum MHD_ConnectionNotificationCode code)
{
	Link	   *link = *context;

	pthread_mutex_lock(&mutex);
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		*context = link = pg_malloc0(sizeof(Link));
		link->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
		link->deadline = now_ms() + headers_ms();
		link->next = links;
		link->place = &links;
		if (links)
			links->place = &link->next;
		links = link;
	}
	else if (link)
	{
		*link->place = link->next;
		if (link->next)
			link->next->place = link->place;
		free(link);
		*context = NULL;
	}
	pthread_mutex_unlock(&mutex);
}

/*
 * Close the connection unless it goes on until then; NEVER for no limit, and 0 for the limit
 * of the next request's headers.
 */
void
server_set_deadline(Link *link, int64_t deadline)
{
	pthread_mutex_lock(&mutex);
	link->deadline = deadline ? deadline : now_ms() + headers_ms();
	pthread_mutex_unlock(&mutex);
}

/* The thread that closes connections whose time is over. */
static void *
close_slow(void *arg)
{
	for (;;)
	{
		int64_t		now = now_ms();

		pthread_mutex_lock(&mutex);
		for (Link *link = links; link; link = link->next)
		{
			if (link->deadline <= now)
			{
				(void) shutdown(link->fd, SHUT_RDWR);
				link->deadline = NEVER;
			}
		}
		pthread_mutex_unlock(&mutex);
		pg_usleep(1000000L);
	}
	return NULL;
}

/* A request begins (1) or has ended (-1). */
void
server_count_request(int change)
{
	pthread_mutex_lock(&mutex);
	requests += change;
	pthread_mutex_unlock(&mutex);
}

static bool
is_loopback(int fd)
{
	struct sockaddr_storage address;
	socklen_t	length = sizeof(address);
	const struct in6_addr *in6 = &((struct sockaddr_in6 *) &address)->sin6_addr;

	if (getsockname(fd, (struct sockaddr *) &address, &length) != 0)
		return false;
	switch (address.ss_family)
	{
		case AF_UNIX:
			return true;
		case AF_INET:
			return (ntohl(((struct sockaddr_in *) &address)->sin_addr.s_addr) >> 24) == 127;
		case AF_INET6:
			return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
	}
	return false;
}

/* The address of a listening socket as a URL. */
static char *
url_of(int fd)
{
	struct sockaddr_storage address;
	socklen_t	length = sizeof(address);
	char		host[NI_MAXHOST];
	char		port[NI_MAXSERV];

	if (getsockname(fd, (struct sockaddr *) &address, &length) != 0 || address.ss_family == AF_UNIX ||
		getnameinfo((struct sockaddr *) &address, length, host, sizeof(host), port, sizeof(port),
					NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return pg_strdup("the socket that was passed");
	return psprintf("%s://%s%s%s:%s", options.tls_cert ? "https" : "http", strchr(host, ':') ? "[" : "", host,
					strchr(host, ':') ? "]" : "", port);
}

/* The socket that systemd has passed, or -1. */
static int
passed_socket(void)
{
	const char *pid = getenv("LISTEN_PID");
	const char *count = getenv("LISTEN_FDS");
	const int	first = 3;

	if (pid == NULL || count == NULL || atol(pid) != (long) getpid() || atoi(count) < 1)
		return -1;
	if (atoi(count) > 1)
		fprintf(stderr, "%s: only the first of %s passed sockets is used\n", progname, count);
	(void) fcntl(first, F_SETFD, FD_CLOEXEC);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	return first;
}

/* Returns a socket for ADDRESS:PORT, or -1 with what is wrong reported. */
static int
make_socket(const char *text)
{
	const char *colon = strrchr(text, ':');
	bool		brackets = *text == '[' && colon && colon > text &&colon[-1] == ']';
	struct addrinfo hints = {0};
	struct addrinfo *found = NULL;
	char	   *host;
	int			fd;
	int			on = 1;
	int			error;

	if (colon == NULL || (strchr(text, ':') != colon && !brackets))
	{
		fprintf(stderr, "%s: invalid address to listen on: \"%s\" (use 127.0.0.1:5480 or [::1]:5480, for example)\n", progname, text);
		return -1;
	}
	host = brackets ? pnstrdup(text +1, colon - text -2) : pnstrdup(text, colon - text);
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
	error = getaddrinfo(*host && strcmp(host, "*") != 0 ? host : NULL, colon + 1, &hints, &found);
	free(host);
	if (error != 0)
	{
		fprintf(stderr, "%s: could not find address \"%s\": %s\n", progname, text, gai_strerror(error));
		return -1;
	}
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
		bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0)
	{
		fprintf(stderr, "%s: could not listen on \"%s\": %m\n", progname, text);
		freeaddrinfo(found);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	freeaddrinfo(found);
	return fd;
}

/*
 * Listen.  Returns a socket, and its URL, or -1 with what is wrong reported: passwords do
 * not travel in clear over a network.
 */
int
server_listen(char **url)
{
	int			fd = passed_socket();

	if (fd < 0)
		fd = make_socket(options.listen);
	if (fd < 0)
		return -1;
	if (!is_loopback(fd) && options.tls_cert == NULL && !options.behind_proxy)
	{
		fprintf(stderr, "%s: refusing to listen beyond this machine without TLS, since passwords would travel in clear: "
				"use --tls-cert and --tls-key, or --behind-proxy if a proxy in front has TLS\n", progname);
		close(fd);
		return -1;
	}
	*url = url_of(fd);
	return fd;
}

/* The contents of a file, NULL with what is wrong reported. */
static char *
read_file(const char *path)
{
	struct stat status;
	FILE	   *file = fopen(path, "r");
	char	   *text = NULL;

	if (file && fstat(fileno(file), &status) == 0)
	{
		text = pg_malloc0(status.st_size + 1);

		if (fread(text, 1, status.st_size, file) != status.st_size)
		{
			free(text);
			text = NULL;
		}
	}
	if (text == NULL)
		fprintf(stderr, "%s: could not read file \"%s\": %m\n", progname, path);
	if (file)
		fclose(file);
	return text;
}

static void log_of_mhd(void *arg, const char *format, va_list arguments) pg_attribute_printf(2, 0);

/*
 * Log what libmicrohttpd has to say, in one line: some of its messages end with newlines, and
 * some have what a client has sent.
 */
static void
log_of_mhd(void *arg, const char *format, va_list arguments)
{
	char		line[1024];
	size_t		len = snprintf(line, sizeof(line), "%s: ", progname);

	(void) vsnprintf(line + len, sizeof(line) - len - 1, format, arguments);
	for (char *c = line; *c; c++)
	{
		if (iscntrl((unsigned char) *c))
			*c = ' ';
	}
	len = strlen(line);
	while (len > 0 && line[len - 1] == ' ')
		line[--len] = '\0';
	line[len++] = '\n';
	log_line(line, len);
}

/* Allow as many open files as there can be connections. */
static void
raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max)
	{
		limit.rlim_cur = limit.rlim_max;
		(void) setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/*
 * Start to answer requests on a socket.  Returns false, with what is wrong reported, if
 * that could not be done.
 */
bool
server_start(int fd)
{
	struct MHD_OptionItem items[24];
	int			n = 0;
	unsigned int flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
		MHD_USE_ITC | MHD_USE_ERROR_LOG;
	pthread_t	thread;

#define OPTION(o, v, p) (items[n++] = (struct MHD_OptionItem) {(o), (intptr_t) (v), (void *) (p)})
	OPTION(MHD_OPTION_EXTERNAL_LOGGER, log_of_mhd, NULL);
	OPTION(MHD_OPTION_LISTEN_SOCKET, fd, NULL);
	OPTION(MHD_OPTION_CONNECTION_LIMIT, options.max_clients, NULL);
	OPTION(MHD_OPTION_CONNECTION_TIMEOUT, options.client_timeout, NULL);
	OPTION(MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADERS_BYTES, NULL);
	OPTION(MHD_OPTION_THREAD_STACK_SIZE, STACK_BYTES, NULL);
	OPTION(MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL);
	OPTION(MHD_OPTION_NOTIFY_CONNECTION, notify_connection, NULL);
	OPTION(MHD_OPTION_URI_LOG_CALLBACK, request_begin, NULL);
	OPTION(MHD_OPTION_NOTIFY_COMPLETED, request_end, NULL);
	if (options.tls_cert)
	{
		char	   *cert = read_file(options.tls_cert);
		char	   *key = read_file(options.tls_key);
		char	   *ca = options.tls_client_ca ? read_file(options.tls_client_ca) : NULL;

		if (cert == NULL || key == NULL || (options.tls_client_ca && ca == NULL))
			return false;
		flags |= MHD_USE_TLS;
		OPTION(MHD_OPTION_HTTPS_MEM_CERT, 0, cert);
		OPTION(MHD_OPTION_HTTPS_MEM_KEY, 0, key);
		if (ca)
			OPTION(MHD_OPTION_HTTPS_MEM_TRUST, 0, ca);
	}
	OPTION(MHD_OPTION_END, 0, NULL);
	raise_file_limit();
	daemon_of_mhd = MHD_start_daemon(flags, 0, NULL, NULL, request_handle, NULL, MHD_OPTION_ARRAY, items, MHD_OPTION_END);
	if (daemon_of_mhd == NULL)
	{
		fprintf(stderr, "%s: could not start the server%s\n", progname,
				options.tls_cert ? ": look at the files with certificate and key" : "");
		return false;
	}
	if (pthread_create(&thread, NULL, close_slow, NULL) == 0)
		pthread_detach(thread);
	return true;
}

/*
 * Accept no more connections, and let the requests that have come in be answered, if that
 * takes no longer than so many milliseconds.  Returns true if they were.
 */
bool
server_stop(int64_t grace_ms)
{
	int64_t		until = now_ms() + grace_ms;
	int			fd = MHD_quiesce_daemon(daemon_of_mhd);
	int			left;

	if (fd >= 0)
		close(fd);
	for (;;)
	{
		pthread_mutex_lock(&mutex);
		left = requests;
		pthread_mutex_unlock(&mutex);
		if (left == 0 || now_ms() >= until)
			break;
		pg_usleep(10000L);
	}
	if (left == 0)
		MHD_stop_daemon(daemon_of_mhd);
	return left == 0;
}
