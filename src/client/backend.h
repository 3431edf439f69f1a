/*-------------------------------------------------------------------------
 *
 * backend.h
 *	  Where a directory of Terraform's configuration has its states.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_BACKEND_H
#define TFSTATE_BACKEND_H

#include "fe_utils/string_utils.h"

typedef struct Backend
{
	const char *file;			/* that tells all this */
	const char *type;			/* NULL if the directory is not initialized */
	const char *version;		/* of the program that has initialized it; or
								 * NULL */
	const char *workspace;		/* that is selected */

	/* of a backend "pg" */
	const char *conn_str;		/* NULL if it is not set */
	const char *schema;
	const char *table;

	/* of its connection string */
	bool		sets_options;	/* so that PGOPTIONS does not count */
	bool		pooled;			/* as clients of PgBouncer have it:
								 * binary_parameters */
} Backend;

extern bool backend_read(Backend *backend, const char *chdir);
extern bool backend_use(const Backend *backend);
extern void append_setting(PQExpBuffer options, const char *name, const char *value);

#endif							/* TFSTATE_BACKEND_H */
