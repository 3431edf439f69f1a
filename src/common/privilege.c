/*-------------------------------------------------------------------------
 *
 * privilege.c
 *	  What the current role may do with which lockids.
 *
 * tfstate_internal.privilege has a row for each grant.  A role without a grant may do
 * nothing; superusers and the owner of the extension's tables may do everything.
 *
 * Roles are stored by their OIDs, in the type tfstate_internal.role, and shown by their
 * names: a role that is renamed keeps its locks and grants, and a role that gets the name
 * of a dropped one gets none of that one's.  A dump has the names; a name that no role has
 * when it is restored belongs to nobody.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "common/catalog.h"
#include "common/limits.h"
#include "common/lockid.h"
#include "common/privilege.h"
#include "common/scan.h"
#include "common/text.h"

PG_FUNCTION_INFO_V1(tfstate_role_in);
PG_FUNCTION_INFO_V1(tfstate_role_out);

/* Stand for all roles, and for none; the OIDs of roles begin at 10. */
#define ROLE_PUBLIC		((Oid) 0)
#define ROLE_NOBODY		((Oid) 1)

/*
 * tfstate_internal.role_in(cstring) returns tfstate_internal.role
 */
Datum
tfstate_role_in(PG_FUNCTION_ARGS)
{
	char	   *name = PG_GETARG_CSTRING(0);
	Oid			role;

	if (strcmp(name, "public") == 0)
		PG_RETURN_OID(ROLE_PUBLIC);
	role = get_role_oid(name, true);
	PG_RETURN_OID(OidIsValid(role) ? role : ROLE_NOBODY);
}

/*
 * tfstate_internal.role_out(tfstate_internal.role) returns cstring
 */
Datum
tfstate_role_out(PG_FUNCTION_ARGS)
{
	Oid			role = PG_GETARG_OID(0);
	char	   *name = role == ROLE_PUBLIC ? "public" : GetUserNameFromId(role, true);

	PG_RETURN_CSTRING(tfstate_valid_text(name ? name : "none"));
}

/* Return true if the current role is a superuser or has the rights of the extension's owner. */
bool
tfstate_is_owner(void)
{
	return superuser() || has_privs_of_role(GetUserId(), tfstate_catalog()->owner);
}

/*
 * The OIDs of the roles whose grants count for the current role, ROLE_PUBLIC included.
 */
static List *
my_roles(void)
{
	List	   *all = list_make1_oid(GetUserId());
	List	   *mine = list_make1_oid(ROLE_PUBLIC);
	ListCell   *lc;

	/* first all roles that it is a member of, with or without their rights */
	foreach(lc, all)
	{
		CatCList   *memberships = SearchSysCacheList1(AUTHMEMMEMROLE,
													  ObjectIdGetDatum(lfirst_oid(lc)));

		for (int i = 0; i < memberships->n_members; i++)
		{
			HeapTuple	tuple = &memberships->members[i]->tuple;

			all = list_append_unique_oid(all, ((Form_pg_auth_members) GETSTRUCT(tuple))->roleid);
		}
		ReleaseSysCacheList(memberships);
	}
	all = list_append_unique_oid(all, ROLE_PG_DATABASE_OWNER);

	/* then those of them whose rights it has */
	foreach(lc, all)
	{
		if (has_privs_of_role(GetUserId(), lfirst_oid(lc)))
			mine = lappend_oid(mine, lfirst_oid(lc));
	}
	list_free(all);
	return mine;
}

/* Return true if a granted privilege gives this privilege. */
static bool
gives(const char *granted, const char *privilege)
{
	if (strcmp(privilege, PRIVILEGE_SEE) == 0)
		return strcmp(granted, "view") == 0 || strcmp(granted, "lock") == 0;
	return strcmp(granted, privilege) == 0;
}

/*
 * The pattern of a grant, palloc'd, if that gives a privilege; else NULL.
 */
static char *
pattern_giving(HeapTuple tuple, TupleDesc desc, const char *privilege)
{
	bool		isnull;
	Datum		word = heap_getattr(tuple, Anum_privilege_privilege, desc, &isnull);
	Datum		pattern = heap_getattr(tuple, Anum_privilege_pattern, desc, &isnull);

	return gives(TextDatumGetCString(word), privilege) ? TextDatumGetCString(pattern) : NULL;
}

/*
 * Add the patterns for which a privilege was granted to this very role.
 */
static List *
add_patterns(List *patterns, Relation rel, Snapshot snapshot, Oid role,
			 const char *privilege)
{
	ScanKeyData key;
	TableScan	scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_privilege_role, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	tfstate_begin_scan(&scan, rel, tfstate_catalog()->privilege_index, snapshot, 1, &key);
	while ((tuple = tfstate_next_row(&scan, ForwardScanDirection)) != NULL)
	{
		char	   *pattern = pattern_giving(tuple, RelationGetDescr(rel), privilege);

		if (pattern)
			patterns = lappend(patterns, pattern);
	}
	tfstate_end_scan(&scan);
	return patterns;
}

/*
 * The patterns for which the current role has a privilege, as C strings in the current
 * memory context.  Reads only the grants of its own roles, so grants of thousands of other
 * roles, or of dropped ones, cost nothing.
 */
List *
tfstate_privileges(const char *privilege)
{
	List	   *patterns = NIL;
	Relation	rel;
	Snapshot	snapshot;
	List	   *roles;
	ListCell   *lc;

	if (tfstate_is_owner())
		return list_make1("*");

	rel = tfstate_open(&tfstate_catalog()->privilege, AccessShareLock);
	snapshot = RegisterSnapshot(tfstate_latest_snapshot());
	roles = my_roles();
	foreach(lc, roles)
		patterns = add_patterns(patterns, rel, snapshot, lfirst_oid(lc), privilege);
	list_free(roles);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return patterns;
}

/* Return true if a lockid matches one of the patterns. */
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
 * Return true if a lockid that begins with this text can match one of the patterns.
 */
bool
tfstate_allowed_below(List *patterns, const char *prefix)
{
	size_t		prefix_len = strlen(prefix);
	ListCell   *lc;

	foreach(lc, patterns)
	{
		const char *pattern = lfirst(lc);
		size_t		literal = strcspn(pattern, "*");

		if (strncmp(pattern, prefix, Min(literal, prefix_len)) == 0 &&
			(literal >= prefix_len || pattern[literal] == '*'))
			return true;
	}
	return false;
}

/* How many bytes both texts begin with. */
static size_t
common_bytes(const char *a, const char *b)
{
	size_t		n = 0;

	while (a[n] != '\0' && a[n] == b[n])
		n++;
	return n;
}

/*
 * In the order of the index, return the next text after this one from which on there can be
 * a pattern that matches the lockid, palloc'd; NULL if there is none.
 *
 * Such a pattern is the lockid itself, or begins with its first n bytes and a star, for some
 * n.  So there are few places to look at.
 */
static char *
next_start(const char *lockid, const char *after)
{
	const unsigned char *l = (const unsigned char *) lockid;
	const unsigned char *a = (const unsigned char *) after;
	size_t		len = strlen(lockid);
	size_t		common = common_bytes(lockid, after);
	size_t		none = len + 2;
	size_t		best = none;	/* an n; len + 1 stands for the lockid itself */
	char	   *start;

	for (size_t n = 0; n < none; n++)
	{
		if (n <= common ? '*' <= a[n] : l[common] <= a[common])
			continue;			/* not after it */
		/* of a star and the lockid's byte, the lesser one comes first */
		if (best == none || l[best] < '*')
			best = n;
	}
	if (best == none)
		return NULL;
	start = palloc(len + 2);
	strcpy(start, lockid);
	if (best <= len)
		strcpy(start + best, "*");
	return start;
}

/* Where this session found a grant last: often that is the one that it needs next. */
static ItemPointerData last_grant;

/*
 * Return true if this very role has a privilege on a lockid.
 *
 * Reads few of its grants, however many it has, by looking only where one that matches can
 * be.
 */
static bool
is_granted(Relation rel, Snapshot snapshot, Oid role, const char *lockid,
		   const char *privilege)
{
	const char *start = "";

	while ((start = next_start(lockid, start)) != NULL)
	{
		bool		isnull;
		ScanKeyData keys[2];
		TableScan	scan;
		HeapTuple	tuple;

		ScanKeyInit(&keys[0], Anum_privilege_role, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(role));
		ScanKeyInit(&keys[1], Anum_privilege_pattern, BTGreaterEqualStrategyNumber, F_TEXT_GE,
					CStringGetTextDatum(start));
		tfstate_begin_scan(&scan, rel, tfstate_catalog()->privilege_index, snapshot, 2, keys);
		while ((tuple = tfstate_next_row(&scan, ForwardScanDirection)) != NULL)
		{
			start = TextDatumGetCString(heap_getattr(tuple, Anum_privilege_pattern,
													 RelationGetDescr(rel), &isnull));
			if (tfstate_pattern_matches(lockid, start) &&
				pattern_giving(tuple, RelationGetDescr(rel), privilege))
			{
				last_grant = tuple->t_self;
				tfstate_end_scan(&scan);
				return true;
			}
			if (strcspn(start, "*") > common_bytes(start, lockid))
				break;			/* nor does what follows it */
		}
		tfstate_end_scan(&scan);
		if (tuple == NULL)
			break;
	}
	return false;
}

/*
 * Return true if the grant that this session found last gives the current role a privilege
 * on a lockid.  What is in its place is looked at anew: it may have been revoked.
 */
static bool
is_granted_again(Relation rel, Snapshot snapshot, const char *lockid, const char *privilege)
{
	bool		granted = false;
	TupleTableSlot *slot;

	if (!ItemPointerIsValid(&last_grant))
		return false;
	slot = table_slot_create(rel, NULL);
	if (tfstate_fetch_row(rel, &last_grant, snapshot, slot))
	{
		HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, NULL);
		bool		isnull;
		Oid			role = DatumGetObjectId(heap_getattr(tuple, Anum_privilege_role,
														 RelationGetDescr(rel), &isnull));
		char	   *pattern = pattern_giving(tuple, RelationGetDescr(rel), privilege);

		granted = pattern && tfstate_pattern_matches(lockid, pattern) &&
			(role == ROLE_PUBLIC || has_privs_of_role(GetUserId(), role));
	}
	ExecDropSingleTupleTableSlot(slot);
	return granted;
}

/*
 * Return true if the current role has a privilege on a lockid.
 */
bool
tfstate_may(const char *lockid, const char *privilege)
{
	Relation	rel;
	Snapshot	snapshot;
	bool		granted;

	if (tfstate_is_owner())
		return true;

	rel = tfstate_open(&tfstate_catalog()->privilege, AccessShareLock);
	snapshot = RegisterSnapshot(tfstate_latest_snapshot());
	granted = is_granted_again(rel, snapshot, lockid, privilege);
	if (!granted)
	{
		List	   *roles = my_roles();
		ListCell   *lc;

		foreach(lc, roles)
		{
			granted = is_granted(rel, snapshot, lfirst_oid(lc), lockid, privilege);
			if (granted)
				break;
		}
		list_free(roles);
	}
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return granted;
}

/*
 * Error unless the current role has a privilege on a lockid.
 */
void
tfstate_check_privilege(const char *lockid, const char *privilege)
{
	if (tfstate_may(lockid, privilege))
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
 * Error if nothing can be written here: on a standby, in a read-only transaction, in a
 * parallel query.  The message names the function as it is given.
 */
void
tfstate_check_writable(const char *function)
{
	PreventCommandDuringRecovery(function);
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
}
