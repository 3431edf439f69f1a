/*-------------------------------------------------------------------------
 *
 * run.h
 *	  tfstate run --http, and tfstate serve.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_RUN_H
#define TFSTATE_HTTP_RUN_H

#include "http/http.h"

extern bool ask_password(void);
extern int	run_command_with_http(const char *lockid, int64_t ttl_ms, int64_t grace_ms, char **command);
extern int	serve(void);

#endif							/* TFSTATE_HTTP_RUN_H */
