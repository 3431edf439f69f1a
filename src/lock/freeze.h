/*-------------------------------------------------------------------------
 *
 * freeze.h
 *	  Patterns of lockids that are frozen.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_FREEZE_H
#define TFSTATE_FREEZE_H

extern void tfstate_check_frozen(const char *lockid, bool sure);
extern void tfstate_check_write_frozen(const char *lockid, bool builtin);

#endif							/* TFSTATE_FREEZE_H */
