/*-------------------------------------------------------------------------
 *
 * http.h
 *	  What all files of tfstate-http share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_H
#define TFSTATE_HTTP_H

#include "libpq-fe.h"

#include "client/client.h"

/* What the command line says. */
typedef struct Options
{
	/* where PostgreSQL is; NULL for what libpq finds */
	const char *dbname;
	const char *host;
	const char *port;

	/* tfstate run --http: whose connections are used for all requests */
	bool		own;			/* the caller's */
	const char *user;
	char	   *password;
	bool		no_password;	/* never ask for it */

	/* where to listen, and for whom */
	const char *listen;			/* ADDRESS:PORT */
	const char *tls_cert;
	const char *tls_key;
	const char *tls_client_ca;
	bool		behind_proxy;	/* which has TLS */
	int			max_clients;
	int			max_sessions;
	int64_t		max_state;		/* in bytes */
	int			client_timeout; /* in seconds */
} Options;

extern Options options;

#endif							/* TFSTATE_HTTP_H */
