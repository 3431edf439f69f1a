/*-------------------------------------------------------------------------
 *
 * report.h
 *	  Telling an operator what happens to locks and states.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_REPORT_H
#define TFSTATE_REPORT_H

#include "common/counters.h"
#include "lock/holding.h"

extern char *tfstate_describe_holder(const Holding *holding);
extern void tfstate_report_lock(const Holding *holding);
extern void tfstate_report_release(const Holding *holding, const char *how, const char *reason);
extern void tfstate_report_refusal(const char *lockid, Counter counter, const char *why);
extern void tfstate_report_override(const char *lockid, const Holding *holder);

#endif							/* TFSTATE_REPORT_H */
