/*-------------------------------------------------------------------------
 *
 * request.c
 *	  A request, from its first line to its line in the log.
 *
 * 1. When the headers have come: what is asked for, and by whom?  PostgreSQL has to accept
 *    the password before a body is read.
 * 2. The body comes in pieces, and is kept in memory, of which all bodies together may use
 *    a bounded amount.
 * 3. When it is complete, the function of the method answers it, on a connection of the
 *    user.  If that breaks, the function is called once more with a new one: all requests
 *    can be repeated.
 * 4. When the answer was sent, or the client is gone, the request is logged.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <gnutls/gnutls.h>

#include "pqexpbuffer.h"

#include "client/event.h"
#include "http/auth.h"
#include "http/health.h"
#include "http/lock.h"
#include "http/log.h"
#include "http/metrics.h"
#include "http/page.h"
#include "http/pool.h"
#include "http/reply.h"
#include "http/request.h"
#include "http/state.h"

/* How fast a client must be, both ways. */
#define BYTES_PER_S		(64 * 1024)

/* The largest lock info; the server allows 8 kB. */
#define MAX_INFO		(64 * 1024)

/* The first allocation for a body. */
#define FIRST_ROOM		(16 * 1024)

/*
 * How much is read of a body that is refused, since a client looks for the answer only when
 * it has sent all.  PostgreSQL could not keep more than that.
 */
#define MAX_DISCARDED	(1024 * 1024 * 1024)

/* How much memory all states together may use, as a multiple of the largest one. */
#define STATES_IN_MEMORY	4

/*
 * How many bytes of a text are shown in the log.  There are five in a line, and it is
 * written as one of at most PIPE_BUF bytes.
 */
#define MAX_SHOWN		700

static const Method methods[] = {
	{"GET", state_get, false},
	{"HEAD", state_get, false},
	{"POST", state_post, true},
	{"PUT", state_post, true},
	{"DELETE", state_delete, false},
	{"LOCK", lock_take, false},
	{"UNLOCK", lock_release, false},
};

/* Bytes that states use in memory. */
static int64_t memory;

/*
 * Count memory for a request.  Returns false if there is too much in use already.
 */
static bool
count_memory(Request *request, size_t bytes)
{
	int64_t		now = __atomic_add_fetch(&memory, (int64_t) bytes, __ATOMIC_RELAXED);

	request->counted += bytes;
	return now <= options.max_state * STATES_IN_MEMORY + FIRST_ROOM;
}

static bool
memory_is_full(void)
{
	return __atomic_load_n(&memory, __ATOMIC_RELAXED) >= options.max_state * STATES_IN_MEMORY;
}

/*
 * Have the client transfer so many bytes from a time on: at BYTES_PER_S, but for some time
 * that it has in any case.
 */
static void
expect_bytes(const Request *request, int64_t since, size_t bytes)
{
	server_set_deadline(request->link, since + options.client_timeout * INT64CONST(1000) +
						(int64_t) (bytes / BYTES_PER_S) * 1000);
}

/* The value of a header, NULL if there is none. */
static const char *
header(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static bool
find_address(Request *request)
{
	char	   *path = pnstrdup(request->uri, strcspn(request->uri, "?"));
	bool		found = address_of_path(path, &request->address);

	free(path);
	return found;
}

/* The method that reads an address which is not that of a workspace; NULL if it is. */
static const Method *
reading_method(const char *uri)
{
	static const Method metrics = {"GET", metrics_answer, false};

	if (strncmp(uri, "/metrics", 8) == 0 && (uri[8] == '\0' || uri[8] == '?'))
		return &metrics;
	return page_method(uri);
}

/* Answers a request that its method is not there for. */
static void
check_method(Request *request, struct MHD_Connection *connection)
{
	bool		reads = request->method && request->method->answer == state_get;
	const Method *page = reading_method(request->uri);

	/*
	 * the browser would send along the password that it knows, whoever made
	 * the page
	 */
	if (!reads && header(connection, MHD_HTTP_HEADER_ORIGIN))
		reply_problem(request, 403, "web pages may change nothing here");
	else if (page && reads)
		request->method = page;
	else if (page)
		reply_problem(request, 405, "this page is only to be read; the address of a workspace is /SCHEMA/TABLE/WORKSPACE");
	else if (!find_address(request))
		reply_problem(request, 400, "the address is not that of a workspace: /SCHEMA/TABLE/WORKSPACE");
	else if (request->method == NULL)
		reply_problem(request, 405, "there is no such method");
}

/*
 * The headers have come.  Answers the request if that can be done without its body.
 */
static void
read_headers(Request *request, struct MHD_Connection *connection, const char *method)
{
	const char *length = header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
	const char *md5 = header(connection, "Content-MD5");

	for (int i = 0; i < lengthof(methods); i++)
	{
		if (strcmp(methods[i].name, method) == 0)
			request->method = &methods[i];
	}
	request->verb = request->method ? request->method->name : "?";
	request->content_md5 = md5 ? pg_strdup(md5) : NULL;
	if (strcmp(request->uri, "/healthz") == 0)
	{
		health_answer(request);
		return;
	}
	if (!auth_read(request, connection))
		return;
	check_method(request, connection);
	if (request->status != 0)
		return;
	if (request->method->has_state && length && strtoll(length, NULL, 10) > options.max_state)
		reply_problem(request, 413, "the state is too large: it has %s bytes, and %lld are allowed (--max-state)",
					  length, (long long) options.max_state);
	else if (memory_is_full())
		reply_problem(request, 503, "too many large states are being transferred");
	else
	{
		request->id = query_value(request->uri, "ID");
		auth_check(request);
	}
}

/* Returns false if there is no memory for so many more bytes of the body. */
static bool
make_room(Request *request, size_t size)
{
	size_t		needed = request->length + size + 1;
	size_t		room = Max(request->room, FIRST_ROOM);
	char	   *body;

	if (needed <= request->room)
		return true;
	while (room < needed)
		room += room / 2;
	if (!count_memory(request, room - request->room) || (body = realloc(request->body, room)) == NULL)
		return false;
	request->body = body;
	request->room = room;
	return true;
}

/* A piece of the body has come. */
static void
read_piece(Request *request, const char *data, size_t size)
{
	int64_t		limit = request->method && request->method->has_state ? options.max_state : MAX_INFO;

	request->received += size;
	expect_bytes(request, request->body_since, request->received);
	if (request->status != 0)
	{
		request->discarded += size;
		return;
	}
	if (request->received > limit)
		reply_problem(request, 413, "the request is too large: %lld bytes are allowed%s", (long long) limit,
					  request->method->has_state ? " (--max-state)" : "");
	else if (!make_room(request, size))
		reply_problem(request, 503, "too many large states are being transferred");
	else
	{
		memcpy(request->body + request->length, data, size);
		request->length += size;
		request->body[request->length] = '\0';
		return;
	}
	free(request->body);
	request->body = NULL;
	request->length = 0;
}

/* The body is complete.  Answers the request if it is not what the client has sent. */
static void
check_body(Request *request)
{
	char	   *md5;

	if (request->length == 0)
		return;
	if (memchr(request->body, 0, request->length))
		reply_problem(request, 400, "the request has a zero byte in it");
	else if (request->content_md5 && (md5 = md5_of(request->body, request->length)) != NULL)
	{
		if (strcmp(md5, request->content_md5) != 0)
			reply_problem(request, 400, "the request was damaged on its way: its Content-MD5 is another one");
		gnutls_free(md5);
	}
}

/* Have PostgreSQL answer a request. */
static void
answer(Request *request)
{
	DbStatus	status = DB_GONE;
	Db		   *db;

	check_body(request);
	for (int attempt = 0; request->status == 0 && attempt < 3; attempt++)
	{
		if (auth_connect(request, attempt > 0, &db) != DB_OK)
			return;
		status = request->method->answer(request, db);
		if (status == DB_OK)
			pool_put(db);
		else
			pool_drop(db);
		request->repeated = true;
	}
	if (request->status == 0)
		reply_refused(request, "08006", "the connection to the database was lost");
	if (request->data)
		(void) count_memory(request, PQgetlength(request->data, 0, 0));
	else if (request->text)
		(void) count_memory(request, strlen(request->text));
}

static void
clear_result(void *result)
{
	PQclear(result);
}

/* Make the answer of a request. */
static struct MHD_Response *
make_response(Request *request)
{
	struct MHD_Response *response;
	PGresult   *data = request->data;
	char	   *md5;

	if (data == NULL)
		return MHD_create_response_from_buffer(request->text ? strlen(request->text) : 0,
											   request->text ? request->text : "", MHD_RESPMEM_MUST_COPY);
	response = MHD_create_response_from_buffer_with_free_callback_cls(PQgetlength(data, 0, 0), PQgetvalue(data, 0, 0),
																	  clear_result, data);
	md5 = response ? md5_of(PQgetvalue(data, 0, 0), PQgetlength(data, 0, 0)) : NULL;
	if (response)
		request->data = NULL;
	if (md5)
		MHD_add_response_header(response, "Content-MD5", md5);
	gnutls_free(md5);
	return response;
}

/* Send the answer. */
static enum MHD_Result
send_answer(Request *request, struct MHD_Connection *connection)
{
	size_t		length = request->data ? PQgetlength(request->data, 0, 0) : request->text ? strlen(request->text) : 0;
	struct MHD_Response *response = make_response(request);
	enum MHD_Result result;

	if (response == NULL)
		return MHD_NO;
	if (request->content_type)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, request->content_type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	/* what a browser might make of it */
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "Cross-Origin-Resource-Policy", "same-origin");
	if (request->content_type && strcmp(request->content_type, PAGE_CONTENT_TYPE) == 0)
		page_add_headers(response);
	if (request->status == 401)
		MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Basic realm=\"tfstate\", charset=\"UTF-8\"");
	if (request->status == 405)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, reading_method(request->uri) ? "GET, HEAD" :
								"GET, HEAD, POST, PUT, DELETE, LOCK, UNLOCK");
	if (request->status == 503)
		MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "2");
	expect_bytes(request, now_ms(), length);
	result = MHD_queue_response(connection, request->status, response);
	MHD_destroy_response(response);
	return result;
}

/* The first line of a request has come. */
void *
request_begin(void *arg, const char *uri, struct MHD_Connection *connection)
{
	Request    *request = pg_malloc0(sizeof(Request));

	request->uri = pg_strdup(uri);
	request->started = now_ms();
	request->link = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
	server_count_request(1);
	return request;
}

/*
 * Called when the headers have come, for each piece of the body, and at its end.
 */
enum MHD_Result
request_handle(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
			   const char *version, const char *data, size_t *size, void **context)
{
	Request    *request = *context;

	if (request->verb == NULL)
	{
		const char *length = header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);

		read_headers(request, connection, method);
		request->body_since = now_ms();
		expect_bytes(request, request->body_since, 0);
		if (request->status != 0 &&
			(header(connection, MHD_HTTP_HEADER_EXPECT) || (length && strtoll(length, NULL, 10) > MAX_DISCARDED)))
			return send_answer(request, connection);
		return MHD_YES;
	}
	if (*size > 0)
	{
		read_piece(request, data, *size);
		*size = 0;
		return request->discarded > MAX_DISCARDED ? MHD_NO : MHD_YES;
	}
	if (request->status == 0)
	{
		/* the time that this takes is not the client's */
		server_set_deadline(request->link, NEVER);
		MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, 0);
		answer(request);
		MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, options.client_timeout);
	}
	return send_answer(request, connection);
}

/*
 * Append a text to the log line, with control characters encoded, and those that other
 * words of the line could be made of.  A long one is cut off, and ends with "...".
 */
static void
append_shown(PQExpBuffer buf, const char *text, const char *encoded)
{
	size_t		end = buf->len + MAX_SHOWN;

	for (; *text; text ++)
	{
		unsigned char c = *text;

		/* not amid a character */
		if (buf->len >= end && (c & 0xC0) != 0x80)
		{
			appendPQExpBufferStr(buf, "...");
			break;
		}
		if (c < ' ' || c == 0x7f || strchr(encoded, c))
			appendPQExpBuffer(buf, "\\x%02x", c);
		else
			appendPQExpBufferChar(buf, c);
	}
}

/* Append the address of the client. */
static void
append_client(PQExpBuffer buf, struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	char		host[NI_MAXHOST] = "-";

	if (info && info->client_addr)
		(void) getnameinfo(info->client_addr, info->client_addr->sa_family == AF_INET6 ?
						   sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in),
						   host, sizeof(host), NULL, 0, NI_NUMERICHOST);
	appendPQExpBufferStr(buf, host);
}

/*
 * Write the line of a request into the log: when it ended, client, user, what was asked
 * for, status, bytes of the body, milliseconds, and what went wrong.  The path is without
 * its query, but for the ID of the lock.
 */
static void
log_request(Request *request, struct MHD_Connection *connection, bool complete)
{
	PQExpBufferData buf;
	time_t		now = time(NULL);
	struct tm	tm;
	char		stamp[32];

	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	request->uri[strcspn(request->uri, "?")] = '\0';
	initPQExpBuffer(&buf);
	appendPQExpBuffer(&buf, "%s ", stamp);
	append_client(&buf, connection);
	appendPQExpBufferChar(&buf, ' ');
	append_shown(&buf, request->user && *request->user ? request->user : "-", " \"\\");
	appendPQExpBufferStr(&buf, " \"");
	append_shown(&buf, request->verb ? request->verb : "-", " \"\\");
	appendPQExpBufferChar(&buf, ' ');
	append_shown(&buf, request->uri, " \"\\");
	appendPQExpBuffer(&buf, "\" %d %lld %lld ms", request->status, (long long) request->received,
					  (long long) (now_ms() - request->started));
	if (request->id)
	{
		appendPQExpBufferStr(&buf, " ID=");
		append_shown(&buf, request->id, " \"\\:");
	}
	if (!complete)
		appendPQExpBufferStr(&buf, " (cut off)");
	if (request->message)
	{
		appendPQExpBufferStr(&buf, ": ");
		append_shown(&buf, request->message, "");
	}
	appendPQExpBufferChar(&buf, '\n');
	log_line(buf.data, buf.len);
	termPQExpBuffer(&buf);
}

static void
free_secret(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
}

/* The answer was sent, or the client is gone. */
void
request_end(void *arg, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode code)
{
	Request    *request = *context;

	if (request == NULL)
		return;
	*context = NULL;
	if (strcmp(request->uri, "/healthz") != 0)
		log_request(request, connection, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
	if (request->link)
		server_set_deadline(request->link, 0);
	__atomic_sub_fetch(&memory, (int64_t) request->counted, __ATOMIC_RELAXED);
	server_count_request(-1);
	address_free(&request->address);
	free(request->id);
	free_secret(request->user);
	free_secret(request->password);
	free(request->content_md5);
	free(request->body);
	free(request->text);
	PQclear(request->data);
	free(request->message);
	free(request->uri);
	free(request);
}
