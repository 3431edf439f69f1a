/*-------------------------------------------------------------------------
 *
 * prune.h
 *	  Pruning old versions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_PRUNE_H
#define TFSTATE_PRUNE_H

#include "common/attached.h"

extern void tfstate_prune_in_passing(const char *lockid, const AttachedTable *table);

#endif							/* TFSTATE_PRUNE_H */
