/*-------------------------------------------------------------------------
 *
 * reply.h
 *	  Answers to requests, and how errors of the server become statuses of HTTP.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_REPLY_H
#define TFSTATE_HTTP_REPLY_H

#include "http/request.h"

extern void reply_done(Request *request);
extern void reply_json(Request *request, int status, char *text, const char *message);
extern void reply_state(Request *request, PGresult *result);
extern void reply_problem(Request *request, int status, const char *format,...) pg_attribute_printf(3, 4);
extern void reply_refused(Request *request, const char *sqlstate, const char *message);
extern void reply_error(Request *request, const PGresult *result);
extern int	reply_status(const char *sqlstate);
extern char *json_string(const char *text);
extern char *md5_of(const char *data, size_t length);

#endif							/* TFSTATE_HTTP_REPLY_H */
