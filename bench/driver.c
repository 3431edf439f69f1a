/*
 * bench/driver.c
 *		Drives PostgreSQL and redis for the benchmark; etcd.go and Curator.java
 *		do the same for the other peers.
 *
 * A driver runs for the whole benchmark, so that whatever needs to warm up (a JVM,
 * say) has done so.  It reads commands from its standard input, one per line:
 *
 * pairs PEER CLIENTS SECONDS
 *		Each client locks and unlocks a key of its own, in a loop.
 * handover PEER CLIENTS SECONDS HOLD_MS
 *		All clients want the same key; each waits for it, holds it for that
 *		long, unlocks and starts again.
 * waiters PEER CLIENTS SECONDS SETTLE_MS
 *		All clients wait for a key that is held throughout, after that much
 *		time to settle.
 * tries PEER CLIENTS SECONDS		(this driver only)
 *		All clients try to lock a key that is held throughout.
 * repeat PEER COUNT				(this driver only)
 *		One client locks and unlocks a key that many times; every call uses the
 *		same key.
 * write SCHEMA FILE COUNT WORKSPACE	(this driver only)
 *		Writes a state that many times as Terraform does, each time with a
 *		larger serial and one changed address.
 * flush FILE SECONDS				(this driver only)
 *		Overwrites 8 kB of the file and waits for the disk, in a loop.
 *
 * Each client is a thread with a connection of its own.  When all are
 * connected and have run for a fifth of the time to warm up, the driver prints
 * "ready" and the processes on the server that serve it, if it knows them, and
 * waits for an empty line; when the time is over it prints "done" and waits
 * for another one.  Meanwhile the caller can measure what the server has used.
 * Last comes the result, a line with
 *
 *	the number of operations;
 *	the seconds that they took;
 *	the number of inversions: a client got the lock although another one had
 *	been waiting for it at least 5 ms longer;
 *	and the measured times, in microseconds.  For a hand-over that is the time
 *	from the call of unlock by one client to the return of the next one's call
 *	of lock.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <hiredis/hiredis.h>
#include <libpq-fe.h>

#define INVERSION_US	5000
#define REDIS_POLL_US	10000

/*
 * What is benchmarked.  The statements get the key as $1 and the ID as $2; those
 * that lock return the ID, or no row or NULL if another session holds the lock.
 * wait is NULL for a peer without waiting.
 */
typedef struct Peer
{
	const char *name;
	const char *setup;			/* run once in each session */
	const char *key;			/* format of the key; %d is its number */
	const char *try;
	const char *wait;
	const char *unlock;
	const char *database;		/* its own, if it has tables */
	const char *redis_port;		/* environment variable; not PostgreSQL */
} Peer;

#define TFSTATE_KEY "bench/%d"
#define TFSTATE_UNLOCK "SELECT tfstate_unlock($1, $2)"
#define TFSTATE_DURABLE \
	.key = TFSTATE_KEY, \
	.try = "SELECT id FROM tfstate_try_lock($1) WHERE locked", \
	.wait = "SELECT id FROM tfstate_lock($1, wait => NULL)", \
	.unlock = TFSTATE_UNLOCK

#define OWN_INSERT "INSERT INTO own_lock (lockid) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id"
#define OWN_DELETE "DELETE FROM own_lock WHERE lockid = $1 AND id = $2"

static const Peer peers[] = {
	{"floor", NULL, "%d", "SELECT ''", NULL, "SELECT ''"},
	{"advisory", NULL, "%d", "SELECT '' WHERE pg_try_advisory_lock($1)", "SELECT pg_advisory_lock($1)",
	"SELECT pg_advisory_unlock($1)"},
	{"session", NULL, TFSTATE_KEY, "SELECT id FROM tfstate_try_lock($1, mode => 'session') WHERE locked",
	"SELECT id FROM tfstate_lock($1, mode => 'session', wait => NULL)", TFSTATE_UNLOCK, "session"},
	{"durable", TFSTATE_DURABLE, .database = "durable"},
	{"durable-nohistory", "SET tfstate.history = none", TFSTATE_DURABLE, .database = "durable-nohistory"},
	{"durable-async", "SET synchronous_commit = off", TFSTATE_DURABLE, .database = "durable-async"},
	{"sql", NULL, TFSTATE_KEY, OWN_INSERT, NULL, OWN_DELETE, "sql"},
	{"sql-async", NULL, TFSTATE_KEY, OWN_INSERT, NULL,
	OWN_DELETE " AND set_config('synchronous_commit', 'off', true) = 'off'", "sql-async"},
	{"plpgsql", NULL, TFSTATE_KEY, "SELECT own_lock($1, false)", "SELECT own_lock($1, true)",
	"SELECT own_unlock($1, $2)", "plpgsql"},
	{"redis-always", NULL, TFSTATE_KEY, .redis_port = "REDIS_ALWAYS_PORT"},
	{"redis-everysec", NULL, TFSTATE_KEY, .redis_port = "REDIS_EVERYSEC_PORT"},
};

typedef struct Client
{
	const Peer *peer;
	PGconn	   *pg;
	redisContext *redis;
	char		key[64];
	char		id[64];			/* of the lock that is held */
	unsigned	seed;
	pthread_t	thread;
	atomic_llong asked;			/* when it began to wait, or 0 */
	int64_t		count;
	int64_t		inversions;
	int64_t    *times;
	size_t		ntimes;
	size_t		maxtimes;
} Client;

/* The current command, the same for all clients. */
static Client *clients;
static int	nclients;
static double seconds;
static int	pause_ms;			/* to hold a lock, or to settle */
static void (*workload) (Client *client, int64_t until);
static pthread_barrier_t barrier;
static atomic_llong released;	/* when the shared key was released */

static void
die(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	fprintf(stderr, "driver: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	exit(1);
}

/* Microseconds. */
static int64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void
record(Client *client, int64_t us)
{
	if (client->ntimes == client->maxtimes)
	{
		client->maxtimes = client->maxtimes * 2 + 1024;
		client->times = realloc(client->times, client->maxtimes * sizeof(int64_t));
	}
	client->times[client->ntimes++] = us;
}

/*
 * PostgreSQL
 */

static PGresult *
check(Client *client, PGresult *result)
{
	if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
		die("%s", PQerrorMessage(client->pg));
	return result;
}

/* Number of parameters of a statement; $2 is the last one possible. */
static int
nparams(const char *sql)
{
	return strstr(sql, "$2") ? 2 : strstr(sql, "$1") ? 1 : 0;
}

static void
pg_prepare(Client *client, const char *name, const char *sql)
{
	if (sql)
		PQclear(check(client, PQprepare(client->pg, name, sql, 0, NULL)));
}

/*
 * A client that waits is told for whom; it reads that, as each client does, but does not
 * print it.
 */
static void
ignore_notice(void *arg, const char *message)
{
}

static void
pg_connect(Client *client)
{
	client->pg = PQsetdbLogin(NULL, NULL, NULL, NULL, client->peer->database, NULL, NULL);
	if (PQstatus(client->pg) != CONNECTION_OK)
		die("%s", PQerrorMessage(client->pg));
	PQsetNoticeProcessor(client->pg, ignore_notice, NULL);
	if (client->peer->setup)
		PQclear(check(client, PQexec(client->pg, client->peer->setup)));
	pg_prepare(client, "try", client->peer->try);
	pg_prepare(client, "wait", client->peer->wait);
	pg_prepare(client, "unlock", client->peer->unlock);
}

static PGresult *
pg_execute(Client *client, const char *name, const char *sql)
{
	const char *values[] = {client->key, client->id};

	return check(client, PQexecPrepared(client->pg, name, nparams(sql), values, NULL, NULL, 0));
}

static bool
pg_lock(Client *client, const char *name, const char *sql)
{
	PGresult   *result = pg_execute(client, name, sql);
	bool		locked = PQntuples(result) == 1 && !PQgetisnull(result, 0, 0);

	if (locked)
		snprintf(client->id, sizeof(client->id), "%s", PQgetvalue(result, 0, 0));
	PQclear(result);
	return locked;
}

static void
pg_unlock(Client *client)
{
	PGresult   *result = pg_execute(client, "unlock", client->peer->unlock);

	if (strcmp(PQcmdTuples(result), "1") != 0)
		die("%s: the lock was lost", client->peer->name);
	PQclear(result);
}

/*
 * redis, locked as its documentation describes for one instance
 */

#define REDIS_UNLOCK "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"

static char redis_unlock_sha[64];	/* the same in each server */

static redisReply *
redis_check(Client *client, redisReply *reply)
{
	if (reply == NULL || reply->type == REDIS_REPLY_ERROR)
		die("redis: %s", reply ? reply->str : client->redis->errstr);
	return reply;
}

static void
redis_connect(Client *client)
{
	redisReply *reply;

	client->redis = redisConnect("127.0.0.1", atoi(getenv(client->peer->redis_port)));
	if (client->redis == NULL || client->redis->err)
		die("could not connect to redis");
	reply = redis_check(client, redisCommand(client->redis, "SCRIPT LOAD %s", REDIS_UNLOCK));
	snprintf(redis_unlock_sha, sizeof(redis_unlock_sha), "%s", reply->str);
	freeReplyObject(reply);
}

static bool
redis_try(Client *client)
{
	redisReply *reply;
	bool		locked;

	snprintf(client->id, sizeof(client->id), "%016x%08x", rand_r(&client->seed), rand_r(&client->seed));
	reply = redis_check(client, redisCommand(client->redis, "SET %s %s NX", client->key, client->id));
	locked = reply->type == REDIS_REPLY_STATUS;
	freeReplyObject(reply);
	return locked;
}

static void
redis_unlock(Client *client)
{
	redisReply *reply = redis_check(client, redisCommand(client->redis, "EVALSHA %s 1 %s %s", redis_unlock_sha,
														 client->key, client->id));

	if (reply->integer != 1)
		die("redis: the lock was lost");
	freeReplyObject(reply);
}

/*
 * Both
 */

static void
connect_client(Client *client, const Peer *peer, int number)
{
	client->peer = peer;
	client->seed = number + 1;
	snprintf(client->key, sizeof(client->key), peer->key, number);
	if (peer->redis_port)
		redis_connect(client);
	else
		pg_connect(client);
}

static void
disconnect_client(Client *client)
{
	if (client->redis)
		redisFree(client->redis);
	PQfinish(client->pg);
	client->redis = NULL;
	client->pg = NULL;
}

static bool
try_lock(Client *client)
{
	if (client->redis)
		return redis_try(client);
	return pg_lock(client, "try", client->peer->try);
}

static void
wait_lock(Client *client)
{
	if (client->redis)
	{
		while (!redis_try(client))
			usleep(REDIS_POLL_US);
	}
	else if (!pg_lock(client, "wait", client->peer->wait))
		die("%s: waited in vain", client->peer->name);
}

static void
unlock(Client *client)
{
	if (client->redis)
		redis_unlock(client);
	else
		pg_unlock(client);
}

/*
 * Workloads: each runs in all clients until the given time.
 */

static void
pairs(Client *client, int64_t until)
{
	while (now() < until)
	{
		if (!try_lock(client))
			die("%s: \"%s\" is locked", client->peer->name, client->key);
		unlock(client);
		client->count++;
	}
}

static void
tries(Client *client, int64_t until)
{
	while (now() < until)
	{
		int64_t		before = now();

		if (try_lock(client))
			die("%s: \"%s\" is not locked", client->peer->name, client->key);
		record(client, now() - before);
		client->count++;
	}
}

static void
count_inversion(Client *client, int64_t since)
{
	for (int i = 0; i < nclients; i++)
	{
		int64_t		asked = clients[i].asked;

		if (asked != 0 && asked < since - INVERSION_US)
		{
			client->inversions++;
			return;
		}
	}
}

static void
handover(Client *client, int64_t until)
{
	while (now() < until)
	{
		int64_t		since = now();
		int64_t		got;

		client->asked = since;
		wait_lock(client);
		got = now();
		client->asked = 0;
		if (released != 0)
			record(client, got - released);
		client->count++;
		count_inversion(client, since);
		if (got < until)
			usleep(pause_ms * 1000);
		released = now();
		unlock(client);
	}
}

/* waits once, and gives the lock back when it comes */
static void
wait_once(Client *client, int64_t until)
{
	wait_lock(client);
	unlock(client);
}

/*
 * Running them
 */

/* Report our state to the caller, and wait until it has been read. */
static void
report(const char *what)
{
	char		line[16];

	printf("%s", what);
	for (int i = 0; i < nclients; i++)
		if (clients[i].pg)
			printf(" %d", PQbackendPID(clients[i].pg));
	printf("\n");
	fflush(stdout);
	if (fgets(line, sizeof(line), stdin) == NULL)
		exit(1);
}

static void
print_result(int64_t us)
{
	int64_t		count = 0;
	int64_t		inversions = 0;

	for (int i = 0; i < nclients; i++)
	{
		count += clients[i].count;
		inversions += clients[i].inversions;
	}
	printf("%ld %.6f %ld", (long) count, us / 1e6, (long) inversions);
	for (int i = 0; i < nclients; i++)
		for (size_t j = 0; j < clients[i].ntimes; j++)
			printf(" %ld", (long) clients[i].times[j]);
	printf("\n");
	fflush(stdout);
}

static void
make_clients(const Peer *peer, int n, bool same_key)
{
	nclients = n;
	clients = calloc(n, sizeof(Client));
	for (int i = 0; i < n; i++)
		connect_client(&clients[i], peer, same_key ? 0 : i + 1);
}

static void
free_clients(void)
{
	for (int i = 0; i < nclients; i++)
	{
		disconnect_client(&clients[i]);
		free(clients[i].times);
	}
	free(clients);
	nclients = 0;
}

static void *
client_thread(void *arg)
{
	Client	   *client = arg;

	workload(client, now() + seconds * 200000);
	pthread_barrier_wait(&barrier);
	/* the caller looks, and the counts are set to zero */
	pthread_barrier_wait(&barrier);
	workload(client, now() + seconds * 1000000);
	pthread_barrier_wait(&barrier);
	return NULL;
}

static void
run(void)
{
	int64_t		start;
	int64_t		us;

	pthread_barrier_init(&barrier, NULL, nclients + 1);
	released = 0;
	for (int i = 0; i < nclients; i++)
		pthread_create(&clients[i].thread, NULL, client_thread, &clients[i]);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < nclients; i++)
		clients[i].count = clients[i].inversions = clients[i].ntimes = 0;
	released = 0;
	report("ready");
	start = now();
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	us = now() - start;
	report("done");
	for (int i = 0; i < nclients; i++)
		pthread_join(clients[i].thread, NULL);
	pthread_barrier_destroy(&barrier);
	print_result(us);
}

static void *
waiter_thread(void *arg)
{
	wait_once(arg, 0);
	return NULL;
}

static void
run_waiters(void)
{
	Client		holder = {0};

	connect_client(&holder, clients->peer, 0);
	wait_lock(&holder);
	for (int i = 0; i < nclients; i++)
		pthread_create(&clients[i].thread, NULL, waiter_thread, &clients[i]);
	usleep(pause_ms * 1000);
	report("ready");
	usleep(seconds * 1000000);
	report("done");
	unlock(&holder);
	for (int i = 0; i < nclients; i++)
		pthread_join(clients[i].thread, NULL);
	disconnect_client(&holder);
	print_result(seconds * 1000000);
}

static void
run_tries(void)
{
	Client		holder = {0};

	connect_client(&holder, clients->peer, 0);
	if (!try_lock(&holder))
		die("%s: \"%s\" is locked", holder.peer->name, holder.key);
	workload = tries;
	run();
	unlock(&holder);
	disconnect_client(&holder);
}

static void
run_repeat(int64_t count)
{
	int64_t		start;

	report("ready");
	start = now();
	for (; clients->count < count; clients->count++)
	{
		if (!try_lock(clients))
			die("%s: \"%s\" is locked", clients->peer->name, clients->key);
		unlock(clients);
	}
	start = now() - start;
	report("done");
	print_result(start);
}

/*
 * States
 */

static char *
read_file(const char *path)
{
	FILE	   *file = fopen(path, "r");
	char	   *content;
	long		size;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0)
		die("could not read \"%s\"", path);
	size = ftell(file);
	rewind(file);
	content = calloc(1, size + 1);
	if (fread(content, 1, size, file) != size)
		die("could not read \"%s\"", path);
	fclose(file);
	return content;
}

/* Return the text after the next occurrence of what. */
static char *
after(char *state, const char *what)
{
	char	   *found = strstr(state, what);

	return found ? found + strlen(what) : NULL;
}

static void
put_digits(char *digits, int64_t value, int n)
{
	while (n-- > 0)
	{
		digits[n] = '0' + value % 10;
		value /= 10;
	}
}

/* Gives the state this serial and changes one of its addresses. */
static void
change_state(char *state, size_t size, int64_t serial)
{
	char	   *ip = after(state + serial * 2654435761U % size, "\"private_ip\": \"10.");

	put_digits(after(state, "\"serial\": "), serial, 10);
	if (ip)
		put_digits(ip, 100 + serial % 100, 3);
}

static void
run_write(const char *schema, const char *file, int count, const char *workspace)
{
	char	   *state = read_file(file);
	size_t		size = strlen(state);
	char		sql[2048];
	const char *values[] = {workspace, state};
	int64_t		start;
	int64_t		serial;
	PGresult   *result;

	PQclear(check(clients, PQexec(clients->pg, "SET search_path = tfstate_pg, pg_catalog, public")));
	snprintf(sql, sizeof(sql), "SELECT greatest(max((data::json ->> 'serial')::bigint), 1000000000),"
			 " count(pg_try_advisory_lock(id)) FROM %s.states WHERE name = $1", schema);
	result = check(clients, PQexecParams(clients->pg, sql, 1, NULL, values, NULL, NULL, 0));
	serial = atoll(PQgetvalue(result, 0, 0));
	PQclear(result);
	snprintf(sql, sizeof(sql), "INSERT INTO %s.states (name, data) VALUES ($1, $2)"
			 " ON CONFLICT (name) DO UPDATE SET data = $2 WHERE states.name = $1", schema);
	report("ready");
	start = now();
	for (; clients->count < count; clients->count++)
	{
		int64_t		before;

		change_state(state, size, ++serial);
		before = now();
		PQclear(check(clients, PQexecParams(clients->pg, sql, 2, NULL, values, NULL, NULL, 0)));
		record(clients, now() - before);
	}
	start = now() - start;
	report("done");
	print_result(start);
	free(state);
}

static void
run_flush(const char *path)
{
	Client		probe = {0};
	char		page[8192] = {0};
	int			file = open(path, O_RDWR | O_CREAT, 0600);
	int64_t		start = now();

	clients = &probe;
	nclients = 1;
	while (now() < start + seconds * 1000000)
	{
		int64_t		before = now();

		if (pwrite(file, page, sizeof(page), 0) != sizeof(page) || fdatasync(file) != 0)
			die("could not flush \"%s\"", path);
		record(&probe, now() - before);
		probe.count++;
	}
	close(file);
	print_result(now() - start);
	free(probe.times);
}

static const Peer *
find_peer(const char *name)
{
	for (size_t i = 0; i < sizeof(peers) / sizeof(peers[0]); i++)
		if (strcmp(peers[i].name, name) == 0)
			return &peers[i];
	die("unknown peer \"%s\"", name);
	return NULL;
}

/* The clients do the same on keys of their own, or on one. */
static void
run_workload(const char *command, const char *peer, int n)
{
	bool		same_key = strcmp(command, "pairs") != 0;

	make_clients(find_peer(peer), n, same_key);
	if (strcmp(command, "waiters") == 0)
		run_waiters();
	else if (strcmp(command, "tries") == 0)
		run_tries();
	else
	{
		workload = same_key ? handover : pairs;
		run();
	}
	free_clients();
}

static void
run_command(char *line)
{
	char		command[16];
	char		first[1024];
	char		second[1024] = "";
	char		third[64] = "";
	char		fourth[64] = "";

	if (sscanf(line, "%15s %1023s %1023s %63s %63s", command, first, second, third, fourth) < 3)
		die("bad command: %s", line);
	seconds = atof(third);
	pause_ms = atoi(fourth);
	if (strcmp(command, "repeat") == 0)
	{
		make_clients(find_peer(first), 1, true);
		run_repeat(atoll(second));
		free_clients();
	}
	else if (strcmp(command, "write") == 0)
	{
		make_clients(find_peer("floor"), 1, true);
		run_write(first, second, atoi(third), fourth);
		free_clients();
	}
	else if (strcmp(command, "flush") == 0)
	{
		seconds = atof(second);
		run_flush(first);
	}
	else
		run_workload(command, first, atoi(second));
}

int
main(void)
{
	char		line[2048];

	while (fgets(line, sizeof(line), stdin))
		run_command(line);
	return 0;
}
