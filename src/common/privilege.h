/*-------------------------------------------------------------------------
 *
 * privilege.h
 *	  What the current role may do with which lockids.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_PRIVILEGE_H
#define TFSTATE_PRIVILEGE_H

#include "fmgr.h"
#include "nodes/pg_list.h"

/*
 * Stands for the right to see the holder of a lock and those that wait for it, which both
 * "view" and "lock" give.
 */
#define PRIVILEGE_SEE	"see"

extern List *tfstate_privileges(const char *privilege);
extern List *tfstate_statement_privileges(FmgrInfo *flinfo, const char *privilege);
extern bool tfstate_allowed(List *patterns, const char *lockid);
extern bool tfstate_allowed_below(List *patterns, const char *prefix);
extern bool tfstate_may(const char *lockid, const char *privilege);
extern void tfstate_check_privilege(const char *lockid, const char *privilege);
extern void tfstate_tell_if_blind(const char *privilege, List *patterns);
extern bool tfstate_is_owner(void);
extern void tfstate_check_writable(const char *function);

#endif							/* TFSTATE_PRIVILEGE_H */
