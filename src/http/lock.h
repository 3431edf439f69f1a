/*-------------------------------------------------------------------------
 *
 * lock.h
 *	  LOCK and UNLOCK.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_LOCK_H
#define TFSTATE_HTTP_LOCK_H

#include "http/request.h"

/*
 * A statement that makes its transaction work for the run of the lock with the ID $1, or
 * for none if that is empty.  The name of the run is the ID, or, if that is no UUID, one that
 * is made of it.
 */
#define LOCK_SET_RUN \
	"SELECT pg_catalog.set_config('tfstate.run_id', CASE WHEN $1 = '' THEN '' " \
	"WHEN $1 ~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' THEN $1 " \
	"ELSE pg_catalog.encode(pg_catalog.substr(pg_catalog.sha256(pg_catalog.convert_to($1, 'UTF8')), 1, 16), 'hex')::pg_catalog.uuid::text " \
	"END, true)"

extern DbStatus lock_take(Request *request, Db *db);
extern DbStatus lock_release(Request *request, Db *db);

#endif							/* TFSTATE_HTTP_LOCK_H */
