/*-------------------------------------------------------------------------
 *
 * hosts.h
 *	  The servers that a connection string names.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HOSTS_H
#define TFSTATE_HOSTS_H

#include "libpq-fe.h"

/* The parameters of a connection that are lists. */
typedef enum HostKeyword
{
	HOST_NAME,
	HOST_ADDRESS,
	HOST_PORT
} HostKeyword;

#define NUM_HOST_KEYWORDS	3

typedef struct HostList
{
	int			count;
	char	  **items[NUM_HOST_KEYWORDS];	/* each with count items, or NULL */
	int			timeout_ms;		/* connect_timeout; 0 for none */
} HostList;

extern void hosts_read(HostList *hosts, PGconn *conn);
extern bool hosts_drop_current(HostList *hosts, PGconn *conn);
extern void hosts_copy_current(HostList *hosts, PGconn *conn);
extern const char *hosts_keyword(HostKeyword keyword);
extern char *hosts_joined(const HostList *hosts, HostKeyword keyword);
extern char *hosts_current(PGconn *conn);

#endif							/* TFSTATE_HOSTS_H */
