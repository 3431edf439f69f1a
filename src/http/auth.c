/*-------------------------------------------------------------------------
 *
 * auth.c
 *	  Who sends a request.
 *
 * User and password of basic authentication are those of a role of PostgreSQL, which
 * decides.  Under "tfstate run --http" they are made up for the command, and the caller's
 * own connection is used.  A certificate of the client may be demanded besides.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <sys/random.h>

#include "client/event.h"
#include "http/auth.h"
#include "http/pool.h"
#include "http/reply.h"

/* For how long a server that cannot be reached is tried again, and how often. */
#define RECONNECT_MS	10000
#define PAUSE_MS		250

static char own_password[33];

/* Make up the password of "tfstate run --http", and return it. */
char *
auth_make_password(void)
{
	unsigned char bytes[16];

	if (getentropy(bytes, sizeof(bytes)) != 0)
	{
		fprintf(stderr, "%s: could not generate random values\n", progname);
		exit(EXIT_FAILED);
	}
	for (int i = 0; i < lengthof(bytes); i++)
		snprintf(own_password + 2 * i, 3, "%02x", bytes[i]);
	return own_password;
}

/* Returns true unless a certificate that is demanded is missing or not valid. */
static bool
has_certificate(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info;
	unsigned int problems;

	if (options.tls_client_ca == NULL)
		return true;
	info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
	return info && info->tls_session &&
		gnutls_certificate_verify_peers2(info->tls_session, &problems) == 0 && problems == 0;
}

/*
 * Read user and password from a header of basic authentication.  Returns false if there
 * is none, or it is not correct.
 */
static bool
read_credentials(Request *request, const char *header)
{
	gnutls_datum_t text;
	gnutls_datum_t decoded;
	char	   *colon;

	if (header == NULL || pg_strncasecmp(header, "Basic ", 6) != 0)
		return false;
	header += 6 + strspn(header + 6, " ");
	text.		data = (unsigned char *) unconstify(char *, header);
	text.		size = strlen(header);

	if (gnutls_base64_decode2(&text, &decoded) != 0)
		return false;
	request->user = pnstrdup((char *) decoded.data, decoded.size);
	explicit_bzero(decoded.data, decoded.size);
	colon = strlen(request->user) == decoded.size ? strchr(request->user, ':') : NULL;
	gnutls_free(decoded.data);
	if (colon == NULL)
		return false;
	*colon = '\0';
	request->password = pg_strdup(colon + 1);
	explicit_bzero(colon + 1, strlen(colon + 1));
	/* without a password libpq would look for one elsewhere */
	return *request->user && *request->password;
}

/*
 * Read who sends a request.  Returns false if that is not shown; the request is answered
 * then.
 */
bool
auth_read(Request *request, struct MHD_Connection *connection)
{
	const char *header = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);

	if (!has_certificate(connection))
	{
		reply_problem(request, 403, "a valid client certificate is needed");
		return false;
	}
	if (!read_credentials(request, header))
	{
		reply_problem(request, 401, "user and password of a role of PostgreSQL are needed");
		return false;
	}
	if (options.own &&
		!(same_secret(request->user, AUTH_OWN_USER) && same_secret(request->password, own_password)))
	{
		reply_problem(request, 401, "wrong password");
		return false;
	}
	return true;
}

/*
 * Get a connection for a request.  Where there will be none, the request is answered, and
 * *db is NULL.  A server that is restarting is waited for.
 */
DbStatus
auth_connect(Request *request, bool fresh, Db **db)
{
	int64_t		until = now_ms() + RECONNECT_MS;
	const char *user = options.own ? "" : request->user;
	const char *password = options.own ? "" : request->password;
	char		sqlstate[6];
	char	   *message;
	DbStatus	status;

	for (;;)
	{
		status = pool_get(db, user, password, fresh, sqlstate, &message);
		/* 57P: the server starts or ends */
		if ((status != DB_GONE && strncmp(sqlstate, "57P", 3) != 0) || now_ms() >= until)
			break;
		free(message);
		pg_usleep(PAUSE_MS * 1000L);
	}
	if (status != DB_OK)
	{
		reply_refused(request, status == DB_GONE ? "08006" : sqlstate, message);
		/* what exactly is wrong, and where the server is, is for the log only */
		free(request->text);
		request->text = pg_strdup(request->status == 401 ? "wrong user or password\n" :
								  request->status == 403 ? "the role may not connect to the database\n" :
								  "the database cannot be reached\n");
	}
	free(message);
	return status;
}

/* Have PostgreSQL check the password before the body of the request is read. */
void
auth_check(Request *request)
{
	Db		   *db;

	if (options.own || pool_has(request->user, request->password))
		return;
	if (auth_connect(request, false, &db) == DB_OK)
		pool_put(db);
}
