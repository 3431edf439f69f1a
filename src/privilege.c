/*-------------------------------------------------------------------------
 *
 * privilege.c
 *	  Who may do what with which lockids.
 *
 * tfstate_privilege has a row for each grant.  A role without one can do
 * nothing; superusers and the owner of the extension's tables can do all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "compat.h"
#include "miscadmin.h"
#include "tfstate.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

enum
{
	Anum_privilege_role = 1,
	Anum_privilege_pattern,
	Anum_privilege_privilege
};

PG_FUNCTION_INFO_V1(tfstate_has_privilege);
PG_FUNCTION_INFO_V1(tfstate_matches);

/*
 * Does a lockid match a pattern, in which a star stands for any text?
 */
bool
tfstate_pattern_matches(const char *lockid, const char *pattern)
{
	const char *star = NULL;	/* the last star, ... */
	const char *resume = NULL;	/* and where what it stands for ends */

	while (*lockid)
	{
		if (*pattern == '*')
		{
			star = pattern++;
			if (*pattern == '\0')
				return true;
			resume = lockid;
		}
		else if (*pattern == *lockid)
		{
			pattern++;
			lockid++;
		}
		else if (star)
		{
			pattern = star + 1;
			lockid = ++resume;
		}
		else
			return false;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

/* Is the current role a superuser, or the extension's owner? */
bool
tfstate_is_owner(void)
{
	return superuser() || has_privs_of_role(GetUserId(), tfstate_catalog()->owner);
}

/*
 * The patterns for which the current role has a privilege: C strings in the
 * current memory context.
 */
List *
tfstate_privileges(const char *privilege)
{
	List	   *patterns = NIL;
	Relation	rel;
	Snapshot	snapshot;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (tfstate_is_owner())
		return list_make1("*");

	rel = table_open(tfstate_catalog()->privilege, AccessShareLock);
	snapshot = RegisterSnapshot(tfstate_latest_snapshot());
	scan = systable_beginscan(rel, InvalidOid, false, SnapshotAny, 0, NULL);
	while (HeapTupleIsValid(tuple = tfstate_next_visible(scan, snapshot)))
	{
		TupleDesc	desc = RelationGetDescr(rel);
		bool		isnull;
		Oid			role = DatumGetObjectId(heap_getattr(tuple, Anum_privilege_role, desc, &isnull));
		Datum		word = heap_getattr(tuple, Anum_privilege_privilege, desc, &isnull);
		Datum		pattern = heap_getattr(tuple, Anum_privilege_pattern, desc, &isnull);

		if (strcmp(TextDatumGetCString(word), privilege) == 0 &&
			(role == InvalidOid || has_privs_of_role(GetUserId(), role)))
			patterns = lappend(patterns, TextDatumGetCString(pattern));
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return patterns;
}

/* Does a lockid match one of the patterns? */
bool
tfstate_allowed(List *patterns, const char *lockid)
{
	ListCell   *lc;

	foreach(lc, patterns)
	{
		if (tfstate_pattern_matches(lockid, lfirst(lc)))
			return true;
	}
	return false;
}

/*
 * Error unless the current role has a privilege on a lockid.
 */
void
tfstate_check_privilege(const char *lockid, const char *privilege)
{
	if (tfstate_is_owner() || tfstate_allowed(tfstate_privileges(privilege), lockid))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for state lock \"%s\"",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
			 errdetail("Role \"%s\" has no grant of privilege \"%s\" that matches it.",
					   GetUserNameFromId(GetUserId(), false), privilege),
			 errhint("An administrator can give it with tfstate_grant().")));
}

/*
 * May the current role do with a lock what the role that took it may?  To know its ID
 * or its run is not enough, for a conflict tells the ID to everybody who may lock; nor
 * is it to be in the session that took it, for a session can change its role.
 */
bool
tfstate_acts_for_holder(const Holding *holding)
{
	Oid			role = get_role_oid(HOLDING_TEXT(holding, role), true);

	return (OidIsValid(role) && has_privs_of_role(GetUserId(), role)) ||
		tfstate_allowed(tfstate_privileges("force"), HOLDING_TEXT(holding, lockid));
}

/* The grants of a role, kept for one statement. */
typedef struct StatementPrivileges
{
	Oid			role;
	TimestampTz statement;
	char	   *privilege;
	List	   *patterns;
} StatementPrivileges;

/* Error unless it is the name of a privilege. */
static void
check_privilege_name(const char *privilege)
{
	if (strcmp(privilege, "lock") != 0 && strcmp(privilege, "view") != 0 &&
		strcmp(privilege, "force") != 0 && strcmp(privilege, "override") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized privilege: \"%s\"", privilege),
				 errhint("Valid privileges are \"lock\", \"view\", \"force\" and \"override\".")));
}

/*
 * tfstate_privileges(), looked up once a statement for a function that a query
 * calls for each row.  The function's fn_extra is used up for that.
 */
List *
tfstate_statement_privileges(FmgrInfo *flinfo, const char *privilege)
{
	StatementPrivileges *cache = flinfo->fn_extra;
	MemoryContext old;

	if (cache && cache->role == GetUserId() &&
		cache->statement == GetCurrentStatementStartTimestamp() &&
		strcmp(cache->privilege, privilege) == 0)
		return cache->patterns;

	check_privilege_name(privilege);
	old = MemoryContextSwitchTo(flinfo->fn_mcxt);
	cache = palloc(sizeof(StatementPrivileges));
	cache->role = GetUserId();
	cache->statement = GetCurrentStatementStartTimestamp();
	cache->privilege = pstrdup(privilege);
	cache->patterns = tfstate_privileges(privilege);
	MemoryContextSwitchTo(old);
	flinfo->fn_extra = cache;
	return cache->patterns;
}

/*
 * tfstate_has_privilege(lockid text, privilege text) returns boolean
 */
Datum
tfstate_has_privilege(PG_FUNCTION_ARGS)
{
	char	   *lockid = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *privilege = text_to_cstring(PG_GETARG_TEXT_PP(1));

	PG_RETURN_BOOL(tfstate_allowed(tfstate_statement_privileges(fcinfo->flinfo, privilege), lockid));
}

/*
 * tfstate_matches(lockid text, pattern text) returns boolean
 */
Datum
tfstate_matches(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(tfstate_pattern_matches(text_to_cstring(PG_GETARG_TEXT_PP(0)),
										   text_to_cstring(PG_GETARG_TEXT_PP(1))));
}
