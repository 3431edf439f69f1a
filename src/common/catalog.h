/*-------------------------------------------------------------------------
 *
 * catalog.h
 *	  The tables of the installed extension, and their columns.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_CATALOG_H
#define TFSTATE_CATALOG_H

#include "access/xlogdefs.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

/* The secret key of the hash of lockids, in bytes. */
#define TFSTATE_KEY_SIZE	16

/*
 * The number of what the library and the SQL objects must agree on: the layout of the
 * tables, the tags, and how a lock is taken.  A library refuses an installation with another
 * number.
 */
#define TFSTATE_PROTOCOL	1

/* The schema of all objects that users do not call. */
#define TFSTATE_INTERNAL	"tfstate_internal"

/* The columns of durable_lock ... */
enum
{
	Anum_lock_lockid = 1,
	Anum_lock_fence,
	Anum_lock_id,
	Anum_lock_created,
	Anum_lock_ttl,
	Anum_lock_expires_at,
	Anum_lock_session,
	Anum_lock_pid,
	Anum_lock_role,				/* by its OID */
	Anum_lock_role_name,		/* as it was */
	Anum_lock_login_role,
	Anum_lock_application_name,
	Anum_lock_client_addr,
	Anum_lock_run_id,
	Anum_lock_key,
	Anum_lock_unlock_key,
	Anum_lock_info,
	Natts_lock = Anum_lock_info,
	/* ... which released_lock has too, before its own. */
	Anum_released_mode,
	Anum_released_released_at,
	Anum_released_how,
	Anum_released_released_by,
	Anum_released_reason,
	Natts_released = Anum_released_reason
};

/* The columns of privilege, as far as C reads them. */
enum
{
	Anum_privilege_role = 1,
	Anum_privilege_pattern,
	Anum_privilege_privilege
};

/* The columns of attached_table, as far as C reads them. */
enum
{
	Anum_attached_relid = 1,
	Anum_attached_attached_by,
	Anum_attached_attached_at,
	Anum_attached_guard,
	Anum_attached_keep_versions,
	Anum_attached_keep_age,
	Anum_attached_name,
	Anum_attached_default_workspace,
	Anum_attached_compressed,
	Anum_attached_mode,
	Anum_attached_wait
};

/* The columns of freeze. */
enum
{
	Anum_freeze_pattern = 1,
	Anum_freeze_reason,
	Anum_freeze_who,
	Anum_freeze_role,
	Anum_freeze_since,
	Anum_freeze_until,
	Anum_freeze_exempt,
	Anum_freeze_builtin_pids,
	Natts_freeze = Anum_freeze_builtin_pids
};

/* The columns of stored_version. */
enum
{
	Anum_version_lockid = 1,
	Anum_version_number,
	Anum_version_operation,
	Anum_version_serial,
	Anum_version_lineage,
	Anum_version_terraform_version,
	Anum_version_resources,
	Anum_version_size,
	Anum_version_sha256,
	Anum_version_md5,
	Anum_version_created,
	Anum_version_who,
	Anum_version_role,
	Anum_version_application_name,
	Anum_version_client_addr,
	Anum_version_lock_id,
	Anum_version_lock_who,
	Anum_version_lock_operation,
	Anum_version_fence,
	Anum_version_chain,
	Anum_version_content,
	Anum_version_erased_at,
	Anum_version_erased_by,
	Anum_version_erase_reason,
	Natts_version = Anum_version_erase_reason
};

/* The objects of the installed extension; see catalog.c. */
typedef struct TfstateCatalog
{
	Oid			durable;		/* durable_lock */
	Oid			durable_index;	/* its key (lockid, fence) */
	Oid			released;		/* released_lock */
	Oid			released_index; /* its key (lockid, fence) */
	Oid			privilege;		/* privilege */
	Oid			privilege_index;	/* its key (role, pattern, privilege) */
	Oid			attached;		/* attached_table */
	Oid			attached_index; /* its key (relid) */
	Oid			freeze;			/* freeze */
	Oid			freeze_index;	/* its key (pattern) */
	Oid			version;		/* stored_version */
	Oid			version_index;	/* its key (lockid, number) */
	Oid			fence;			/* the sequence of fences */
	Oid			shared_memory;	/* the sequence of that name, or none */
	Oid			installation;	/* installation */
	Oid			owner;			/* the owner of all of them */
	uint8		key[TFSTATE_KEY_SIZE];	/* of the hash in lock tags */
	TimeLineID	timeline;		/* the last for which fences have jumped */
} TfstateCatalog;

extern const TfstateCatalog *tfstate_catalog(void);
extern uint64 tfstate_catalog_changes(void);
extern Relation tfstate_open(const Oid *relid, LOCKMODE mode);
extern Oid	tfstate_extension_schema(void);
extern Oid	tfstate_relation_owner(Oid relid);
extern void tfstate_note_timeline(TimeLineID timeline);

#endif							/* TFSTATE_CATALOG_H */
