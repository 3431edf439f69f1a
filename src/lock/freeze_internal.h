/*-------------------------------------------------------------------------
 *
 * freeze_internal.h
 *	  The rows of the table of freezes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_FREEZE_INTERNAL_H
#define TFSTATE_FREEZE_INTERNAL_H

#include "access/htup.h"
#include "common/catalog.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"

/* One row of the table, copied out of it. */
typedef struct Freeze
{
	ItemPointerData tid;		/* its place */
	Datum		values[Natts_freeze];
	bool		nulls[Natts_freeze];
} Freeze;

#define FREEZE_NULL(f, col)		((f)->nulls[Anum_freeze_##col - 1])
#define FREEZE_DATUM(f, col)	((f)->values[Anum_freeze_##col - 1])
#define FREEZE_TEXT(f, col)		TextDatumGetCString(FREEZE_DATUM(f, col))

extern List *tfstate_freezes(Relation rel);
extern bool tfstate_freeze_is_over(const Freeze *freeze);
extern char *tfstate_describe_freeze(const Freeze *freeze);

#endif							/* TFSTATE_FREEZE_INTERNAL_H */
