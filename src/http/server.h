/*-------------------------------------------------------------------------
 *
 * server.h
 *	  Listening, and the limits that every client has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_SERVER_H
#define TFSTATE_HTTP_SERVER_H

#include "http/http.h"

/* A connection of a client. */
typedef struct Link Link;

extern int	server_listen(char **url);
extern bool server_start(int fd);
extern bool server_stop(int64_t grace_ms);
extern void server_set_deadline(Link *link, int64_t deadline);
extern void server_count_request(int change);

#endif							/* TFSTATE_HTTP_SERVER_H */
