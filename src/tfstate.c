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

#include "fmgr.h"
#include "miscadmin.h"

#include "common/counters.h"
#include "common/settings.h"
#include "lock/commit.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/*
 * Define the parameters and register the callbacks.
 *
 * The server checks for interrupts at each warning about a parameter.  A cancel must not
 * leave this half done: the server would call it again, and no parameter can be defined
 * twice.
 */
void
_PG_init(void)
{
	HOLD_INTERRUPTS();
	tfstate_define_settings();
	tfstate_init_counters();
	tfstate_init_commit();
	RESUME_INTERRUPTS();
}
