/*-------------------------------------------------------------------------
 *
 * history.h
 *	  Finished holdings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HISTORY_H
#define TFSTATE_HISTORY_H

#include "datatype/timestamp.h"
#include "lock/holding.h"

extern void tfstate_record_release(const Holding *holding, const char *how,
								   const char *reason);
extern bool tfstate_find_release(const char *lockid, const char *run_id, int64 *fence, char **how,
								 TimestampTz *released_at);

#endif							/* TFSTATE_HISTORY_H */
