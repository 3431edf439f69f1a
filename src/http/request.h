/*-------------------------------------------------------------------------
 *
 * request.h
 *	  A request and its answer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_REQUEST_H
#define TFSTATE_HTTP_REQUEST_H

#include <microhttpd.h>

#include "http/address.h"
#include "http/db.h"
#include "http/server.h"

typedef struct Request
{
	const struct Method *method;	/* NULL if there is no such method */
	Address		address;
	char	   *id;				/* of the lock, from ?ID= or the body; NULL if
								 * there is none */
	char	   *user;			/* NULL if no credentials were shown */
	char	   *password;
	char	   *content_md5;	/* as it was sent; NULL if it was not */
	char	   *body;
	size_t		length;
	bool		repeated;		/* was it tried before, on a connection that
								 * broke? */

	/* the answer; see reply.h */
	int			status;			/* 0 as long as there is none */
	const char *content_type;
	char	   *text;			/* NULL if the answer is in data */
	PGresult   *data;			/* a state, in its first field */
	char	   *message;		/* for the log; NULL if all is well */

	/* for request.c */
	char	   *uri;			/* as it was sent */
	const char *verb;			/* NULL until the headers have come */
	size_t		room;			/* of body */
	size_t		received;
	size_t		discarded;
	size_t		counted;		/* bytes that count as memory in use */
	int64_t		started;
	int64_t		body_since;		/* when the headers had come */
	Link	   *link;
} Request;

/*
 * A method.  Its function answers the request, unless it returns DB_GONE: then it is called
 * once more, with another connection.  DB_ERROR is not returned.
 */
typedef struct Method
{
	const char *name;
	DbStatus	(*answer) (Request *request, Db *db);
	bool		has_state;		/* in its body */
} Method;

/* What libmicrohttpd calls for a request, from its first line to its end. */
extern void *request_begin(void *arg, const char *uri, struct MHD_Connection *connection);
extern enum MHD_Result request_handle(void *arg, struct MHD_Connection *connection, const char *url,
									  const char *method, const char *version,
									  const char *data, size_t *size, void **context);
extern void request_end(void *arg, struct MHD_Connection *connection, void **context,
						enum MHD_RequestTerminationCode code);

#endif							/* TFSTATE_HTTP_REQUEST_H */
