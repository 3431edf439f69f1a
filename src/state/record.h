/*-------------------------------------------------------------------------
 *
 * record.h
 *	  Recording versions of states.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_RECORD_H
#define TFSTATE_RECORD_H

#include "lock/holding.h"
#include "state/facts.h"
#include "state/version.h"

extern void tfstate_record_version(const char *lockid, const StateText *before,
								   const StateText *after, const StateFacts *facts,
								   const Holding *holding);
extern bool tfstate_record_found(const char *lockid, const StateText *found,
								 Version *newest);
extern void tfstate_make_full(const Version *version, const StateText *text);

#endif							/* TFSTATE_RECORD_H */
