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
 * An expression that makes its transaction work for the run of the lock with this ID, another
 * expression, or for none if that is empty.  The name of the run is the ID, or, if that is no
 * UUID, one that is made of it.
 */
#define LOCK_SET_RUN(id) \
	"pg_catalog.set_config('tfstate.run_id', CASE WHEN " id " = '' THEN '' " \
	"WHEN " id " ~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' THEN " id " " \
	"ELSE pg_catalog.encode(pg_catalog.substr(pg_catalog.sha256(pg_catalog.convert_to(" id ", 'UTF8')), 1, 16), 'hex')" \
	"::pg_catalog.uuid::text END, true)"

extern DbStatus lock_take(Request *request, Db *db);
extern DbStatus lock_release(Request *request, Db *db);

#endif							/* TFSTATE_HTTP_LOCK_H */
