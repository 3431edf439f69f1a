/*
 * bench/http.c
 *		A run of Terraform against tfstate serve beside the same statements
 *		through libpq: LOCK, GET, POST of a state, UNLOCK.
 *
 * http ROUNDS BYTES
 *		Both take turns, each with a connection that is kept and a workspace of
 *		its own.  Prints a line for each request: its name, the median time by
 *		libpq and by http, in microseconds, and the median of the quotients.
 * http ROUNDS BYTES CLIENTS
 *		So many clients at once, by http alone, each with a workspace of its own.
 *		Prints the number of requests, of those that were not answered with 200,
 *		and the seconds that they took.
 *
 * PostgreSQL is found by libpq's variables, the server at 127.0.0.1:$HTTP_PORT.  The states
 * are in the table bench.states.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <libpq-fe.h>

enum
{
	LOCK, GET, POST, UNLOCK, REQUESTS
};

static const char *const names[] = {"LOCK", "GET", "POST", "UNLOCK"};

/* The statements.  $1 is the lockid or the workspace, $2 what is sent, $3 the ID. */
static const char *const statements[] = {
	"SELECT locked FROM tfstate_try_lock($1, $2::jsonb)",
	"SELECT data FROM bench.states WHERE name = $1",
	"INSERT INTO bench.states AS s (name, data) VALUES ($1, $2) "
	"ON CONFLICT (name) DO UPDATE SET data = $2 WHERE s.name = $1",
	"SELECT tfstate_unlock($1, $2)"
};

typedef struct Client
{
	int			number;
	PGconn	   *pg;				/* NULL for a client of http */
	int			fd;
	char		workspace[32];
	char		lockid[64];
	char		id[37];
	char		info[512];
	char	   *state;
	char	   *answer;			/* of http */
	int			first;			/* serial */
	int			serial;			/* of the state, above that */
	int64_t		requests;
	int64_t		failures;
	int64_t    *times[REQUESTS];
	pthread_t	thread;
} Client;

static int	rounds;
static int	bytes;
static char authorization[256];

static void
die(const char *what)
{
	fprintf(stderr, "bench/http: %s\n", what);
	exit(1);
}

static int64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* A state of so many bytes, in which a serial of nine digits can be put. */
static char *
make_state(int number)
{
	char	   *state = malloc(bytes + 256);
	int			length = sprintf(state, "{\"version\":4,\"serial\":%09d,\"lineage\":\"bench-%d\",\"outputs\":{},\"resources\":[",
								 100000000, number);
	unsigned	seed = number;

	while (length < bytes - 200)
		length += sprintf(state + length, "%s{\"mode\":\"managed\",\"type\":\"t\",\"name\":\"n%d\",\"instances\":"
						  "[{\"attributes\":{\"id\":\"%08x%08x\",\"address\":\"10.0.%d.%d\"}}]}",
						  state[length - 1] == '[' ? "" : ",", length, rand_r(&seed), rand_r(&seed),
						  rand_r(&seed) % 256, rand_r(&seed) % 256);
	strcpy(state + length, "]}");
	return state;
}

/* The next state, of the same length. */
static void
next_state(Client *client)
{
	char		serial[10];

	snprintf(serial, sizeof(serial), "%09d", client->first + ++client->serial);
	memcpy(strstr(client->state, "\"serial\":") + 9, serial, 9);
}

static void
next_lock(Client *client)
{
	unsigned	seed = now_ns();

	snprintf(client->id, sizeof(client->id), "%08x-%04x-4000-8000-%08x%04x", rand_r(&seed), client->number & 0xffff,
			 rand_r(&seed), client->serial & 0xffff);
	snprintf(client->info, sizeof(client->info), "{\"ID\":\"%s\",\"Operation\":\"OperationTypeApply\",\"Info\":\"\","
			 "\"Who\":\"bench@host\",\"Version\":\"1.11.4\",\"Created\":\"2026-11-28T09:00:00.123456789Z\",\"Path\":\"\"}",
			 client->id);
}

static char *
md5_of(const char *text)
{
	unsigned char digest[16];
	gnutls_datum_t binary = {digest, sizeof(digest)};
	gnutls_datum_t encoded;

	if (gnutls_hash_fast(GNUTLS_DIG_MD5, text, strlen(text), digest) != 0 || gnutls_base64_encode2(&binary, &encoded) != 0)
		die("MD5 cannot be had");
	return (char *) encoded.data;
}

static void
connect_http(Client *client)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("HTTP_PORT")))};
	int			on = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	client->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(client->fd, (struct sockaddr *) &address, sizeof(address)) != 0)
		die("nobody listens");
	setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* Send a request and read its answer.  Returns its status. */
static int
ask_http(Client *client, const char *head, const char *body)
{
	struct iovec parts[] = {{(char *) head, strlen(head)}, {(char *) body, strlen(body)}};
	int			part = 0;
	size_t		got = 0;
	size_t		wanted = SIZE_MAX;

	while (part < 2)
	{
		ssize_t		sent = writev(client->fd, parts + part, 2 - part);

		if (sent < 0)
			return -1;
		for (; part < 2 && sent >= (ssize_t) parts[part].iov_len; part++)
			sent -= parts[part].iov_len;
		if (part < 2)
		{
			parts[part].iov_base = (char *) parts[part].iov_base + sent;
			parts[part].iov_len -= sent;
		}
	}
	while (got < wanted)
	{
		ssize_t		size = read(client->fd, client->answer + got, bytes + 65536 - got - 1);
		char	   *end;

		if (size <= 0)
			return -1;
		got += size;
		client->answer[got] = '\0';
		if (wanted == SIZE_MAX && (end = strstr(client->answer, "\r\n\r\n")) != NULL)
		{
			const char *length = strstr(client->answer, "Content-Length: ");

			wanted = end + 4 - client->answer + (length && length < end ? atol(length + 16) : 0);
		}
	}
	return atoi(client->answer + 9);
}

static bool
request_http(Client *client, int request)
{
	const char *const bodies[] = {client->info, "", client->state, client->info};
	const char *body = bodies[request];
	char		head[1024];
	char	   *md5 = *body ? md5_of(body) : NULL;
	int64_t		begin;
	int			status;

	snprintf(head, sizeof(head), "%s /bench/states/%s%s%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic %s\r\n"
			 "%s%s%sContent-Length: %zu\r\n\r\n", names[request], client->workspace, request == POST ? "?ID=" : "",
			 request == POST ? client->id : "", authorization, md5 ? "Content-MD5: " : "", md5 ? md5 : "", md5 ? "\r\n" : "",
			 strlen(body));
	gnutls_free(md5);
	begin = now_ns();
	status = ask_http(client, head, body);
	if (client->times[request])
		client->times[request][client->serial - 1] = now_ns() - begin;
	if (status == 200)
		return true;
	fprintf(stderr, "bench/http: %s is answered with %d\n", names[request], status);
	return false;
}

static bool
request_pg(Client *client, int request)
{
	const char *const values[REQUESTS][2] = {
		{client->lockid, client->info}, {client->workspace}, {client->workspace, client->state}, {client->lockid, client->id}
	};
	int64_t		begin = now_ns();
	PGresult   *result = PQexecParams(client->pg, statements[request], request == GET ? 1 : 2, NULL, values[request], NULL, NULL, 0);
	bool		good = PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK;

	client->times[request][client->serial - 1] = now_ns() - begin;
	if (!good)
		fprintf(stderr, "bench/http: %s", PQerrorMessage(client->pg));
	PQclear(result);
	return good;
}

static void
run(Client *client)
{
	next_state(client);
	next_lock(client);
	for (int request = 0; request < REQUESTS; request++)
	{
		client->requests++;
		if (!(client->pg ? request_pg : request_http) (client, request))
			client->failures++;
	}
}

static void
make_client(Client *client, int number, bool timed)
{
	client->number = number;
	/* above what an earlier run has written */
	client->first = 100000000 + time(NULL) % 8000000 * 100;
	snprintf(client->workspace, sizeof(client->workspace), "w%d", number);
	snprintf(client->lockid, sizeof(client->lockid), "bench.states/%s", client->workspace);
	client->state = make_state(number);
	client->answer = malloc(bytes + 65536);
	for (int i = 0; timed && i < REQUESTS; i++)
		client->times[i] = malloc(rounds * sizeof(int64_t));
}

static void *
run_client(void *arg)
{
	Client	   *client = arg;

	connect_http(client);
	for (int i = 0; i < rounds; i++)
		run(client);
	return NULL;
}

static void
run_many(int count)
{
	Client	   *clients = calloc(count, sizeof(Client));
	int64_t		begin;
	int64_t		requests = 0;
	int64_t		failures = 0;

	for (int i = 0; i < count; i++)
		make_client(&clients[i], i + 3, false);
	begin = now_ns();
	for (int i = 0; i < count; i++)
		if (pthread_create(&clients[i].thread, NULL, run_client, &clients[i]) != 0)
			die("no threads");
	for (int i = 0; i < count; i++)
	{
		pthread_join(clients[i].thread, NULL);
		requests += clients[i].requests;
		failures += clients[i].failures;
	}
	printf("%lld requests, %lld failed, %.1f s\n", (long long) requests, (long long) failures, (now_ns() - begin) / 1e9);
}

static int
compare_doubles(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return (x > y) - (x < y);
}

static double
median(double *values)
{
	qsort(values, rounds, sizeof(double), compare_doubles);
	return values[rounds / 2];
}

static void
compare(void)
{
	Client		pg = {0};
	Client		http = {0};
	double	   *values = malloc(rounds * sizeof(double));

	make_client(&pg, 1, true);
	make_client(&http, 2, true);
	pg.pg = PQconnectdb("");
	if (PQstatus(pg.pg) != CONNECTION_OK)
		die(PQerrorMessage(pg.pg));
	connect_http(&http);
	for (int i = 0; i < rounds; i++)
	{
		run(i % 2 ? &pg : &http);
		run(i % 2 ? &http : &pg);
	}
	if (pg.failures || http.failures)
		die("there were errors");
	for (int request = 0; request < REQUESTS; request++)
	{
		double		medians[2];

		for (int peer = 0; peer < 2; peer++)
		{
			for (int i = 0; i < rounds; i++)
				values[i] = (peer ? &http : &pg)->times[request][i] / 1e3;
			medians[peer] = median(values);
		}
		for (int i = 0; i < rounds; i++)
			values[i] = (double) http.times[request][i] / pg.times[request][i];
		printf("%-8s %8.0f %8.0f %8.2f\n", names[request], medians[0], medians[1], median(values));
	}
}

int
main(int argc, char **argv)
{
	char		credentials[128];
	gnutls_datum_t text = {(unsigned char *) credentials, 0};
	gnutls_datum_t encoded;

	if (argc < 3 || getenv("HTTP_PORT") == NULL || getenv("PGUSER") == NULL || getenv("PGPASSWORD") == NULL)
		die("see the head of http.c");
	rounds = atoi(argv[1]);
	bytes = atoi(argv[2]);
	text.size = snprintf(credentials, sizeof(credentials), "%s:%s", getenv("PGUSER"), getenv("PGPASSWORD"));
	if (gnutls_base64_encode2(&text, &encoded) != 0)
		die("base64");
	snprintf(authorization, sizeof(authorization), "%s", encoded.data);
	if (argc > 3)
		run_many(atoi(argv[3]));
	else
		compare();
	return 0;
}
