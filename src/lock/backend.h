/*-------------------------------------------------------------------------
 *
 * backend.h
 *	  What the server knows of its processes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_BACKEND_H
#define TFSTATE_BACKEND_H

#include "datatype/timestamp.h"
#include "storage/lock.h"

/* What is known of another backend; NULL or 0 if it is not known. */
typedef struct BackendDetails
{
	char	   *role;
	char	   *client_addr;
	char	   *application_name;
	TimestampTz statement_start;
} BackendDetails;

extern int	tfstate_tag_holder(const LOCKTAG *tag);
extern const char *tfstate_client_addr(void);
extern const char *tfstate_my_role_name(void);
extern bool tfstate_backend_details(int pid, BackendDetails *details);

#endif							/* TFSTATE_BACKEND_H */
