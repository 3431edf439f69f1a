/*-------------------------------------------------------------------------
 *
 * holding_internal.h
 *	  Reading and writing holdings.  For src/lock only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HOLDING_INTERNAL_H
#define TFSTATE_HOLDING_INTERNAL_H

#include "access/htup.h"
#include "access/tableam.h"
#include "lock/holding.h"
#include "utils/relcache.h"

extern void tfstate_read_holding(HeapTuple tuple, Relation rel, Holding *holding);
extern void tfstate_note_place(const char *lockid, const Holding *holding);
extern bool tfstate_last_place(const char *lockid, bool *durable, ItemPointer tid);
extern void tfstate_forget_place(void);
extern void tfstate_insert_holding(Holding *holding);
extern TM_Result tfstate_delete_holding(const Holding *holding, bool wait);
extern bool tfstate_update_holding(Holding *holding, bool wait);
extern bool tfstate_lock_holding(const Holding *holding);

#endif							/* TFSTATE_HOLDING_INTERNAL_H */
