/*-------------------------------------------------------------------------
 *
 * auth.h
 *	  Who sends a request.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_AUTH_H
#define TFSTATE_HTTP_AUTH_H

#include "http/request.h"

/* The user of "tfstate run --http". */
#define AUTH_OWN_USER	"tfstate"

extern char *auth_make_password(void);
extern bool auth_read(Request *request, struct MHD_Connection *connection);
extern DbStatus auth_connect(Request *request, bool fresh, Db **db);
extern void auth_check(Request *request);

#endif							/* TFSTATE_HTTP_AUTH_H */
