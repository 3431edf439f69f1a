/*-------------------------------------------------------------------------
 *
 * reply.c
 *	  Answers to requests, and how errors of the server become statuses of HTTP.
 *
 * Terraform shows little more than the status of an error, so what went wrong goes into
 * the log, too.  A conflict is never a status of 500 or above: Terraform's client tries
 * again after those.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "pqexpbuffer.h"

#include "http/reply.h"

/* Statuses by SQLSTATE, or by its beginning.  The first that fits counts. */
static const struct
{
	const char *sqlstate;
	int			status;
}			statuses[] = {
	{"28", 401},				/* wrong password, no such role, not in
								 * pg_hba.conf */
	{"42501", 403},				/* a privilege is missing */

	/* The address is wrong.  404 would be an empty state to Terraform. */
	{"42P01", 400},
	{"3F000", 400},
	{"42703", 400},

	/*
	 * The body is: no state, no lock info, not in an encoding of the
	 * database, too large or too deeply nested.
	 */
	{"22", 400},
	{"54", 400},

	/* The guard has refused it, or somebody else is faster. */
	{"55", 409},
	{"23", 409},

	/* These may be over when the request comes again. */
	{"08", 503},				/* connection */
	{"25006", 503},				/* a standby */
	{"3D000", 503},				/* no such database */
	{"40", 503},				/* deadlock */
	{"53", 503},				/* resources */
	{"57", 503},				/* restart, time-out */
	{"58", 503},				/* disk */
};

/* The status that answers a SQLSTATE. */
int
reply_status(const char *sqlstate)
{
	for (int i = 0; i < lengthof(statuses); i++)
	{
		if (strncmp(sqlstate, statuses[i].sqlstate, strlen(statuses[i].sqlstate)) == 0)
			return statuses[i].status;
	}
	return *sqlstate ? 500 : 503;
}

/* The request was done, and there is nothing to say. */
void
reply_done(Request *request)
{
	request->status = 200;
}

/*
 * Answer with a JSON text, which is freed with the request.  message, if it is not NULL,
 * goes into the log.
 */
void
reply_json(Request *request, int status, char *text, const char *message)
{
	request->status = status;
	request->content_type = "application/json";
	request->text = text;

	request->message = message ? pg_strdup(message) : NULL;
}

/* Answer with the state in a result, which is cleared with the request. */
void
reply_state(Request *request, PGresult *result)
{
	request->status = 200;
	request->content_type = "application/json";
	request->data = result;
}

/* Answer with a problem in one line. */
void
reply_problem(Request *request, int status, const char *format,...)
{
	va_list		arguments;
	int			length;

	va_start(arguments, format);
	length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	request->message = pg_malloc(length + 1);
	va_start(arguments, format);
	(void) vsnprintf(request->message, length + 1, format, arguments);
	va_end(arguments);
	request->status = status;
	request->content_type = "text/plain; charset=utf-8";
	request->text = psprintf("%s\n", request->message);
}

/* Answer with an error of the server. */
void
reply_refused(Request *request, const char *sqlstate, const char *message)
{
	reply_problem(request, reply_status(sqlstate), "%s", message);
}

/*
 * Answer with the error in a result.  The detail says which privilege is missing.
 */
void
reply_error(Request *request, const PGresult *result)
{
	const char *sqlstate = db_sqlstate(result);
	const char *message = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	const char *detail = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL) : NULL;

	if (detail && strcmp(sqlstate, "42501") == 0)
		reply_problem(request, reply_status(sqlstate), "%s: %s", message, detail);
	else
		reply_refused(request, sqlstate, message ? message : "the server has not said what went wrong");
}

/* A text as a string of JSON, which the caller frees. */
char *
json_string(const char *text)
{
	PQExpBufferData buf;

	initPQExpBuffer(&buf);
	appendPQExpBufferChar(&buf, '"');
	for (const char *p = text; *p; p++)
	{
		if ((unsigned char) *p < ' ')
			appendPQExpBuffer(&buf, "\\u%04x", *p);
		else if (*p == '"' || *p == '\\')
			appendPQExpBuffer(&buf, "\\%c", *p);
		else
			appendPQExpBufferChar(&buf, *p);
	}
	appendPQExpBufferChar(&buf, '"');
	return buf.data;
}

/*
 * The MD5 digest of data in base64, as Content-MD5 has it, which the caller frees with
 * gnutls_free(); NULL where the system does not allow MD5.
 */
char *
md5_of(const char *data, size_t length)
{
	unsigned char digest[16];
	gnutls_datum_t binary = {digest, sizeof(digest)};
	gnutls_datum_t text;

	if (gnutls_hash_fast(GNUTLS_DIG_MD5, data, length, digest) != 0 || gnutls_base64_encode2(&binary, &text) != 0)
		return NULL;
	return (char *) text.data;
}
