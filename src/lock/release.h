/*-------------------------------------------------------------------------
 *
 * release.h
 *	  Releasing locks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_RELEASE_H
#define TFSTATE_RELEASE_H

#include "lock/holding.h"
#include "utils/jsonb.h"

extern bool tfstate_release(const Holding *holding, const char *how,
							const char *reason);
extern Jsonb *tfstate_force_release(const char *lockid, const char *id,
									const char *reason, bool terminate);

#endif							/* TFSTATE_RELEASE_H */
