/*-------------------------------------------------------------------------
 *
 * http.h
 *	  What tfstate-http does.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_CLIENT_HTTP_H
#define TFSTATE_CLIENT_HTTP_H

extern bool wants_http(int argc, char **argv);
extern int	become_http(const char *mode, int argc, char **argv);

#endif							/* TFSTATE_CLIENT_HTTP_H */
