/*-------------------------------------------------------------------------
 *
 * describe.h
 *	  A lock and its holder in words.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_DESCRIBE_H
#define TFSTATE_DESCRIBE_H

#include "lock/holding.h"
#include "storage/lock.h"

extern char *tfstate_describe_holding(const Holding *holding, bool own);
extern char *tfstate_describe_tag_holder(const LOCKTAG *tag);
extern const char *tfstate_callable(const char *function);
extern char *tfstate_force_unlock_call(const char *lockid, const Holding *holder);
extern void tfstate_raise_not_held(const char *lockid);

#endif							/* TFSTATE_DESCRIBE_H */
