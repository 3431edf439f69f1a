/*-------------------------------------------------------------------------
 *
 * new_holding.h
 *	  What is written into the row of a lock that is taken.  For src/lock only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_NEW_HOLDING_H
#define TFSTATE_NEW_HOLDING_H

#include "lock/acquire.h"
#include "lock/holding.h"

extern void tfstate_fill_holding(const LockRequest *request, const Holding *prepared,
								 Holding *holding);
extern void tfstate_set_holder(const LockRequest *request, Holding *holding);
extern void tfstate_set_expiry(Holding *holding, Interval *ttl);

#endif							/* TFSTATE_NEW_HOLDING_H */
