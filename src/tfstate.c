/*-------------------------------------------------------------------------
 *
 * tfstate.c
 *	  What happens when the library is loaded.
 *
 * The library needs no preloading: the first call of a function in a session
 * loads it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "tfstate.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	tfstate_define_settings();
	tfstate_init_xact();
}
