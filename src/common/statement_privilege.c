/*-------------------------------------------------------------------------
 *
 * statement_privilege.c
 *	  Privileges in queries: looked up once for a statement, not for each row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/privilege.h"
#include "common/text.h"

PG_FUNCTION_INFO_V1(tfstate_has_privilege);
PG_FUNCTION_INFO_V1(tfstate_tell_if_blind_sql);

/*
 * The patterns of a role, kept as long as they cannot have changed.  (A snapshot also
 * counts commits, but not in a copy.)
 */
typedef struct StatementPrivileges
{
	Oid			role;
	TimestampTz statement;
	CommandId	command;		/* changes if this transaction has written */
	TransactionId xmax;			/* one of these three changes if another */
	uint32		xcnt;			/* transaction has committed */
	int32		subxcnt;
	char	   *privilege;
	List	   *patterns;
	bool		all;			/* one of them is for all lockids */
	MemoryContext context;		/* of the texts; NULL if nothing is kept */
} StatementPrivileges;

/* Error unless there is a privilege of this name. */
static void
check_privilege_name(const char *privilege)
{
	if (strcmp(privilege, "lock") != 0 && strcmp(privilege, "view") != 0 &&
		strcmp(privilege, "force") != 0 && strcmp(privilege, "override") != 0 &&
		strcmp(privilege, "admin") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized privilege: \"%s\"", tfstate_one_line(privilege, NAMEDATALEN)),
				 errhint("Valid privileges are \"lock\", \"view\", \"force\", \"override\" and \"admin\".")));
}

/*
 * Return true if what is kept in cache, which can be NULL, is what statement_privileges()
 * would look up for this privilege.
 */
static bool
is_kept(const StatementPrivileges *cache, const char *privilege)
{
	Snapshot	snapshot = GetActiveSnapshot();

	return cache && cache->context && cache->role == GetUserId() &&
		cache->statement == GetCurrentStatementStartTimestamp() &&
		cache->command == snapshot->curcid &&
		cache->xmax == snapshot->xmax && cache->xcnt == snapshot->xcnt &&
		cache->subxcnt == snapshot->subxcnt &&
		strcmp(cache->privilege, privilege) == 0;
}

/*
 * What tfstate_privileges() returns, for a function that a query calls for each row.  It is
 * looked up again only if the role, the privilege or the snapshot is another one than in the
 * call before; that can happen within a statement.  Takes the fn_extra of flinfo.
 */
static const StatementPrivileges *
statement_privileges(FmgrInfo *flinfo, const char *privilege)
{
	StatementPrivileges *cache = flinfo->fn_extra;
	Snapshot	snapshot = GetActiveSnapshot();
	MemoryContext old;
	ListCell   *lc;

	if (is_kept(cache, privilege))
		return cache;

	if (cache == NULL)
		flinfo->fn_extra = cache = MemoryContextAllocZero(flinfo->fn_mcxt,
														  sizeof(StatementPrivileges));
	if (cache->context)
		MemoryContextDelete(cache->context);
	cache->context = NULL;
	old = MemoryContextSwitchTo(AllocSetContextCreate(flinfo->fn_mcxt, "tfstate privileges",
													  ALLOCSET_SMALL_SIZES));
	cache->role = GetUserId();
	cache->statement = GetCurrentStatementStartTimestamp();
	cache->command = snapshot->curcid;
	cache->xmax = snapshot->xmax;
	cache->xcnt = snapshot->xcnt;
	cache->subxcnt = snapshot->subxcnt;
	cache->privilege = pstrdup(privilege);
	cache->patterns = tfstate_privileges(privilege);
	cache->all = false;
	foreach(lc, cache->patterns)
		cache->all |= strcmp(lfirst(lc), "*") == 0;
	cache->context = MemoryContextSwitchTo(old);
	return cache;
}

/* The same as tfstate_privileges(), for a function that a query calls for each row. */
List *
tfstate_statement_privileges(FmgrInfo *flinfo, const char *privilege)
{
	return statement_privileges(flinfo, privilege)->patterns;
}

/*
 * tfstate_has_privilege(lockid text, privilege text) returns boolean
 */
Datum
tfstate_has_privilege(PG_FUNCTION_ARGS)
{
	char		privilege[2 * NAMEDATALEN];
	const StatementPrivileges *cache = fcinfo->flinfo->fn_extra;

	text_to_cstring_buffer(PG_GETARG_TEXT_PP(1), privilege, sizeof(privilege));
	if (!is_kept(cache, privilege))
	{
		check_privilege_name(privilege);
		if (cache == NULL)
		{
			/* it may be the only call, for which not all grants need be read */
			fcinfo->flinfo->fn_extra = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt,
															  sizeof(StatementPrivileges));
			PG_RETURN_BOOL(tfstate_may(text_to_cstring(PG_GETARG_TEXT_PP(0)), privilege));
		}
		cache = statement_privileges(fcinfo->flinfo, privilege);
	}
	PG_RETURN_BOOL(cache->all ||
				   (cache->patterns != NIL &&
					tfstate_allowed(cache->patterns, text_to_cstring(PG_GETARG_TEXT_PP(0)))));
}

/*
 * Send a notice, once a statement, if the current role will be shown nothing because it has
 * this privilege for none of the patterns: an empty list would look as if there was nothing.
 */
void
tfstate_tell_if_blind(const char *privilege, List *patterns)
{
	static TimestampTz told = 0;
	bool		see = strcmp(privilege, PRIVILEGE_SEE) == 0;

	if (patterns != NIL || told == GetCurrentStatementStartTimestamp())
		return;
	told = GetCurrentStatementStartTimestamp();
	ereport(NOTICE,
			(errcode(ERRCODE_WARNING_PRIVILEGE_NOT_GRANTED),
			 see ? errmsg("role \"%s\" is shown nothing here: it has no grant of privilege \"lock\" or \"view\"",
						  GetUserNameFromId(GetUserId(), false)) :
			 errmsg("role \"%s\" is shown nothing here: it has no grant of privilege \"%s\"",
					GetUserNameFromId(GetUserId(), false), privilege),
			 errhint("An administrator can give it with tfstate_grant().")));
}

/*
 * tfstate_internal.tell_if_blind(privilege text) returns boolean
 */
Datum
tfstate_tell_if_blind_sql(PG_FUNCTION_ARGS)
{
	char	   *privilege = text_to_cstring(PG_GETARG_TEXT_PP(0));

	tfstate_tell_if_blind(privilege, tfstate_privileges(privilege));
	PG_RETURN_BOOL(true);
}
