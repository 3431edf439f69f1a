/*-------------------------------------------------------------------------
 *
 * commit.h
 *	  What the end of a transaction does with its locks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_COMMIT_H
#define TFSTATE_COMMIT_H

extern void tfstate_init_commit(void);
extern void tfstate_check_lock_count(void);
extern void tfstate_count_lock(void);

#endif							/* TFSTATE_COMMIT_H */
