/*-------------------------------------------------------------------------
 *
 * shim_terms.h
 *	  The mode of Terraform's locks, and how long it waits for them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SHIM_TERMS_H
#define TFSTATE_SHIM_TERMS_H

#include "lock/acquire.h"

extern void tfstate_shim_terms(const char *lockid, LockRequest *request, bool *patient);
extern bool tfstate_shim_acquire(const LockRequest *request, bool patient, Holding *holding,
								 LockConflict *conflict);

#endif							/* TFSTATE_SHIM_TERMS_H */
