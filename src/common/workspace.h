/*-------------------------------------------------------------------------
 *
 * workspace.h
 *	  From the numbers that Terraform locks to lockids, and back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_WORKSPACE_H
#define TFSTATE_WORKSPACE_H

#include "common/attached.h"
#include "nodes/pg_list.h"

extern void tfstate_check_table_name(const AttachedTable *table);
extern char *tfstate_workspace_lockid(Oid relid, const char *name);
extern Oid	tfstate_lockid_table(const char *lockid, const char **name);
extern char *tfstate_workspace_by_id(Oid relid, int64 id);
extern bool tfstate_workspace_id(const char *lockid, int64 *id);
extern bool tfstate_workspace_text(Oid relid, const char *name, text **data);
extern int64 tfstate_table_creation_key(Oid relid);
extern char *tfstate_creation_lockid(Oid relid, int64 key);
extern char *tfstate_describe_creation(const char *lockid);
extern void tfstate_notice_no_workspace(const char *lockid);
extern void tfstate_raise_no_workspace(const char *lockid);

#endif							/* TFSTATE_WORKSPACE_H */
