/*-------------------------------------------------------------------------
 *
 * pool.h
 *	  The connections to PostgreSQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_POOL_H
#define TFSTATE_HTTP_POOL_H

#include "http/db.h"

extern bool same_secret(const char *a, const char *b);
extern void pool_start(void);
extern bool pool_has(const char *user, const char *password);
extern DbStatus pool_get(Db **db, const char *user, const char *password, bool fresh,
						 char sqlstate[6], char **message);
extern void pool_put(Db *db);
extern void pool_drop(Db *db);

#endif							/* TFSTATE_HTTP_POOL_H */
