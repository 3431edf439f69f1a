/*-------------------------------------------------------------------------
 *
 * subtransaction.c
 *	  Work in a subtransaction, whose error can be caught.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "common/subtransaction.h"

/*
 * Call body(arg) in a subtransaction.  Returns NULL if it raised no error; what it did is
 * then kept, or rolled back if keep is false.  Otherwise returns the error, palloc'd, after
 * a rollback; callers hand on with ReThrowError() what they do not expect, a cancel for
 * example.
 *
 * The body runs in the caller's memory context, which a rollback leaves alone.
 */
ErrorData *
tfstate_in_subtransaction(void (*body) (void *arg), void *arg, bool keep)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		body(arg);
		if (keep)
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	if (error == NULL && !keep)
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}
