/*-------------------------------------------------------------------------
 *
 * state.h
 *	  GET, POST and DELETE: the state of a workspace.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_STATE_H
#define TFSTATE_HTTP_STATE_H

#include "http/request.h"

extern DbStatus state_find_table(Request *request, Db *db, bool *found);
extern DbStatus state_get(Request *request, Db *db);
extern DbStatus state_post(Request *request, Db *db);
extern DbStatus state_delete(Request *request, Db *db);

#endif							/* TFSTATE_HTTP_STATE_H */
