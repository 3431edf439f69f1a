/*-------------------------------------------------------------------------
 *
 * subtransaction.h
 *	  Work in a subtransaction, whose error can be caught.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SUBTRANSACTION_H
#define TFSTATE_SUBTRANSACTION_H

extern ErrorData *tfstate_in_subtransaction(void (*body) (void *arg), void *arg, bool keep);

#endif							/* TFSTATE_SUBTRANSACTION_H */
