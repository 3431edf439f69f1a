/*-------------------------------------------------------------------------
 *
 * backend.h
 *	  What is known of the server's processes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_BACKEND_H
#define TFSTATE_BACKEND_H

#include "datatype/timestamp.h"
#include "storage/lock.h"

/* What is known of another backend, NULL or 0 where nothing is. */
typedef struct BackendDetails
{
	char	   *role;
	char	   *client_addr;
	char	   *application_name;
	TimestampTz statement_start;
} BackendDetails;

extern int	tfstate_tag_holder(const LOCKTAG *tag);
extern const char *tfstate_client_addr(void);
extern bool tfstate_backend_details(int pid, BackendDetails *details);

#endif							/* TFSTATE_BACKEND_H */
