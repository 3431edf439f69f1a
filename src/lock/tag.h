/*-------------------------------------------------------------------------
 *
 * tag.h
 *	  The lock-manager tags of tfstate.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_TAG_H
#define TFSTATE_TAG_H

#include "storage/lock.h"

extern uint64 tfstate_hash_lockid(const char *lockid);
extern uint64 tfstate_private_hash(const char *lockid);
extern LOCKTAG tfstate_lock_tag(const char *lockid);
extern LOCKTAG tfstate_waiter_tag(const LOCKTAG *lock_tag);
extern LOCKTAG tfstate_version_tag(const char *lockid);
extern LOCKTAG tfstate_creation_tag(const char *schema);
extern LOCKTAG tfstate_session_tag(int64 session);
extern LOCKTAG tfstate_freeze_tag(void);
extern LOCKTAG tfstate_end_tag(int64 fence);
extern LOCKTAG tfstate_builtin_tag(int64 key);
extern LOCKMODE tfstate_tag_mode(const LOCKTAG *tag);
extern bool tfstate_is_lock_tag(const LOCKTAG *tag);
extern bool tfstate_is_waiter_tag(const LOCKTAG *tag);
extern bool tfstate_is_builtin_tag(const LOCKTAG *tag);
extern uint64 tfstate_tag_number(const LOCKTAG *tag);

#endif							/* TFSTATE_TAG_H */
