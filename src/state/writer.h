/*-------------------------------------------------------------------------
 *
 * writer.h
 *	  Which sessions may write a workspace.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_WRITER_H
#define TFSTATE_WRITER_H

#include "common/settings.h"
#include "lock/holding.h"
#include "state/version.h"

/* One row of a table of states. */
typedef struct StateRow
{
	char	   *lockid;
	int64		id;
	StateText text;
} StateRow;

/* Which lock a write is made under. */
typedef enum WriteLock
{
	LOCK_OURS,					/* the lock of the workspace */
	LOCK_BUILTIN,				/* the built-in lock of its id, as a Terraform
								 * without tfstate takes it */
	LOCK_FREE					/* neither; nobody else has one */
} WriteLock;

extern WriteLock tfstate_check_writer(const StateRow *before, const StateRow *after,
									  GuardLevel level, Holding *holding);

#endif							/* TFSTATE_WRITER_H */
