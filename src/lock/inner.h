/*-------------------------------------------------------------------------
 *
 * inner.h
 *	  The lock of a command that works inside a holding.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_INNER_H
#define TFSTATE_INNER_H

#include "lock/holding.h"

extern bool tfstate_is_outer(const Holding *holding);
extern char *tfstate_inner_lockid(const Holding *outer);
extern bool tfstate_is_inner_lockid(const char *lockid);
extern void tfstate_end_inner(const Holding *outer);

#endif							/* TFSTATE_INNER_H */
