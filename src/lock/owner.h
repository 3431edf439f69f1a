/*-------------------------------------------------------------------------
 *
 * owner.h
 *	  Whose a lock is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_OWNER_H
#define TFSTATE_OWNER_H

#include "lock/holding.h"

extern bool tfstate_is_own(const Holding *holding);
extern bool tfstate_is_ours(const Holding *holding);
extern bool tfstate_may_write_under(const Holding *holding);
extern bool tfstate_acts_for_holder(const Holding *holding);
extern void tfstate_check_held_under(const char *lockid, const char *id,
									 const Holding *holding);
extern void tfstate_check_may_unlock(const char *lockid, const char *id,
									 const Holding *holding);
extern void tfstate_check_may_renew(const char *lockid, const char *id,
									const Holding *holding);

#endif							/* TFSTATE_OWNER_H */
