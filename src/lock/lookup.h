/*-------------------------------------------------------------------------
 *
 * lookup.h
 *	  Finding holdings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_LOOKUP_H
#define TFSTATE_LOOKUP_H

#include "lock/holding.h"

extern bool tfstate_find_row(const char *lockid, bool keep_tables, Holding *holding,
							 int64 *newest);
extern bool tfstate_find_live_row(const char *lockid, bool keep_tables, Holding *holding);
extern bool tfstate_current_holding(const char *lockid, Holding *holding);
extern bool tfstate_current_holding_again(const char *lockid, Holding *holding);
extern bool tfstate_find_created(const char *run_id, int64 unlock_key, Holding *holding);
extern bool tfstate_find_tied(int64 creation_key, Holding *holding);
extern int64 tfstate_newest_row_fence(const char *lockid, ItemPointer except, bool *live);

#endif							/* TFSTATE_LOOKUP_H */
