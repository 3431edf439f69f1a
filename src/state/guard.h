/*-------------------------------------------------------------------------
 *
 * guard.h
 *	  The trigger that guards a table of states.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_GUARD_H
#define TFSTATE_GUARD_H

extern const char *tfstate_rolling_back;

#endif							/* TFSTATE_GUARD_H */
