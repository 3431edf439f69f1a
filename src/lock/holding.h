/*-------------------------------------------------------------------------
 *
 * holding.h
 *	  Holdings: the locks that are held.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HOLDING_H
#define TFSTATE_HOLDING_H

#include "common/catalog.h"
#include "storage/itemptr.h"
#include "utils/builtins.h"

/* A row of durable_lock or the entry of a lock in session mode, copied. */
typedef struct Holding
{
	bool		durable;		/* from tfstate_internal.durable_lock? */
	Oid			relfilenode;	/* then: of the table, when it was read */
	ItemPointerData tid;		/* its place */
	TransactionId changing;		/* the open transaction that is changing it */
	Datum		values[Natts_lock];
	bool		nulls[Natts_lock];
} Holding;

#define HOLDING_NULL(h, col)	((h)->nulls[Anum_lock_##col - 1])
#define HOLDING_DATUM(h, col)	((h)->values[Anum_lock_##col - 1])
#define HOLDING_INT64(h, col)	DatumGetInt64(HOLDING_DATUM(h, col))
#define HOLDING_TEXT(h, col)	TextDatumGetCString(HOLDING_DATUM(h, col))

/* How a holding ended, as tfstate_history shows it. */
#define HOW_UNLOCK		"unlock"
#define HOW_FORCE		"force"
#define HOW_EXPIRED		"expired"
#define HOW_RECLAIMED	"reclaimed"

extern bool tfstate_holding_is_tied(const Holding *holding);
extern bool tfstate_holding_is_live(const Holding *holding);
extern bool tfstate_holding_expired(const Holding *holding);
extern bool tfstate_pin_holding(const Holding *holding);

#endif							/* TFSTATE_HOLDING_H */
