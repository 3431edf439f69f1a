/*-------------------------------------------------------------------------
 *
 * flush.h
 *	  When a commit waits for disk and standby.  For src/lock only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_FLUSH_H
#define TFSTATE_FLUSH_H

extern void tfstate_raise_synchronous_commit(void);
extern void tfstate_sync_at_commit(void);
extern bool tfstate_will_sync(void);
extern void tfstate_begin_release(void);
extern void tfstate_end_release(void);
extern void tfstate_set_flush(bool awaited);
extern void tfstate_flush_postponed(void);
extern void tfstate_reset_flush(void);

#endif							/* TFSTATE_FLUSH_H */
