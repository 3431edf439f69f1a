/*-------------------------------------------------------------------------
 *
 * shim.h
 *	  The advisory lock functions that an unmodified Terraform calls.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SHIM_H
#define TFSTATE_SHIM_H

extern void tfstate_exchange_creation_key(Oid relid, const char *lockid, int64 id);
extern bool tfstate_released_last(const char *lockid, int64 *fence, int64 *version);

#endif							/* TFSTATE_SHIM_H */
