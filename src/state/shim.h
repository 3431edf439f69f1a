/*-------------------------------------------------------------------------
 *
 * shim.h
 *	  The advisory lock functions that an unmodified Terraform calls.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SHIM_H
#define TFSTATE_SHIM_H

extern void tfstate_shim_lock(const char *lockid, int64 key, int64 builtin);

#endif							/* TFSTATE_SHIM_H */
