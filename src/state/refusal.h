/*-------------------------------------------------------------------------
 *
 * refusal.h
 *	  Refused writes of states: their errors, and what a session remembers of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_REFUSAL_H
#define TFSTATE_REFUSAL_H

#include "lock/conflict.h"
#include "lock/holding.h"
#include "state/version.h"

/* What a write does to a workspace. */
typedef enum WriteKind
{
	WRITE_CREATION,
	WRITE_CHANGE,
	WRITE_DELETION
} WriteKind;

extern void tfstate_check_may_lock(const char *lockid);
extern void tfstate_check_not_refused(const char *lockid);
extern void tfstate_forget_refusal(const char *lockid);
extern void tfstate_refuse_held(const char *lockid, const Holding *holder);
extern void tfstate_refuse_conflict(const char *lockid, const LockConflict *conflict);
extern void tfstate_refuse_fence(const char *lockid, const Holding *holder);
extern void tfstate_refuse_unlocked(const char *lockid, WriteKind kind);
extern void tfstate_refuse_ousted(const char *lockid, const char *how);
extern void tfstate_refuse_written(const char *lockid, const Version *newest);
extern void tfstate_refuse_serial(const char *lockid, int64 before, int64 after);
extern void tfstate_refuse_lineage(const char *lockid, const char *before, const char *after);

#endif							/* TFSTATE_REFUSAL_H */
