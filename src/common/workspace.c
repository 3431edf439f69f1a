/*-------------------------------------------------------------------------
 *
 * workspace.c
 *	  From the numbers that Terraform locks to lockids, and back.
 *
 * A workspace is a row of an attached table of states.  Terraform locks its id;
 * tfstate locks <schema>.<table>/<name>, so the lock stays with the name when the row is
 * deleted and made anew.  The identifiers are quoted as in SQL, but by a rule that depends
 * neither on settings nor on the version of the server (tfstate_quote_identifier()).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/namespace.h"
#include "executor/execdesc.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "common/attached.h"
#include "common/limits.h"
#include "common/lockid.h"
#include "common/privilege.h"
#include "common/scan.h"
#include "common/text.h"
#include "common/workspace.h"

PG_FUNCTION_INFO_V1(tfstate_table_name);
PG_FUNCTION_INFO_V1(tfstate_lockid);
PG_FUNCTION_INFO_V1(tfstate_quoted_name);

/* The lockid of -1, under which workspaces are created in all attached tables. */
#define CREATION_ANYWHERE	"tfstate_pg/new workspace"

/*
 * The name of a table as the lockids of its workspaces begin, <schema>.<table>; NULL if
 * the table is gone.
 */
static char *
table_name(Oid relid)
{
	char	   *table = get_rel_name(relid);
	char	   *schema = table ? get_namespace_name(get_rel_namespace(relid)) : NULL;

	if (schema == NULL)
		return NULL;
	return psprintf("%s.%s", tfstate_quote_identifier(schema), tfstate_quote_identifier(table));
}

/*
 * Error if a table was renamed, or moved into another schema, since it was attached: the
 * locks, versions and grants of its workspaces are under its old name.
 */
void
tfstate_check_table_name(const AttachedTable *table)
{
	char	   *name = table_name(table->relid);

	if (name && strcmp(name, table->name) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s was attached as %s and renamed: an administrator has to call tfstate_attach() with the new name, which takes the versions along",
						name, table->name),
				 errdetail("Until then it cannot be written, because locks and versions of its workspaces are under the old name.")));
}

/*
 * tfstate_internal.table_name(rel regclass) returns text
 */
Datum
tfstate_table_name(PG_FUNCTION_ARGS)
{
	char	   *name = table_name(PG_GETARG_OID(0));

	if (name == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/*
 * tfstate_internal.quoted_name(schema text, "table" text) returns text
 */
Datum
tfstate_quoted_name(PG_FUNCTION_ARGS)
{
	char	   *schema = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *table = text_to_cstring(PG_GETARG_TEXT_PP(1));

	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s.%s", tfstate_quote_identifier(schema),
											  tfstate_quote_identifier(table))));
}

/*
 * The lockid of the workspace of this table that has this name; NULL if the table is
 * gone.  With an empty name it is what the lockids of all its workspaces begin with, and
 * that of its creation key.
 */
char *
tfstate_workspace_lockid(Oid relid, const char *name)
{
	char	   *table = table_name(relid);

	return table ? psprintf("%s/%s", table, name) : NULL;
}

/*
 * tfstate_lockid(schema text, "table" text, workspace text) returns text
 *
 * NULL if the table is not attached.  The workspace need not exist.
 */
Datum
tfstate_lockid(PG_FUNCTION_ARGS)
{
	Datum		schema = DirectFunctionCall1(text_name, PG_GETARG_DATUM(0));
	Datum		table = DirectFunctionCall1(text_name, PG_GETARG_DATUM(1));
	Oid			namespace = get_namespace_oid(NameStr(*DatumGetName(schema)), true);
	Oid			relid = get_relname_relid(NameStr(*DatumGetName(table)), namespace);
	char	   *lockid;

	if (!tfstate_attached_table(relid, NULL))
		PG_RETURN_NULL();
	lockid = tfstate_workspace_lockid(relid, text_to_cstring(PG_GETARG_TEXT_PP(2)));
	if (lockid == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(lockid));
}

/*
 * Find the row that has this value in a column of an open table of states, and copy the
 * value of its wanted column to *result.  Returns false if there is no such row, or that
 * is NULL.
 */
static bool
find_in_table(Relation rel, AttrNumber column, RegProcedure equal, Datum value,
			  AttrNumber wanted, Datum *result)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Oid			index = tfstate_index_on(rel, column);
	bool		isnull = true;
	ScanKeyData key;
	TableScan	scan;
	HeapTuple	tuple;

	ScanKeyEntryInitialize(&key, 0, column, BTEqualStrategyNumber, InvalidOid,
						   TupleDescAttr(desc, column - 1)->attcollation, equal, value);
	tfstate_begin_scan(&scan, rel, index, NULL, 1, &key);
	tuple = tfstate_next_row(&scan, ForwardScanDirection);
	if (HeapTupleIsValid(tuple))
		*result = heap_getattr(tuple, wanted, desc, &isnull);
	if (!isnull && TupleDescAttr(desc, wanted - 1)->attlen == -1)
		*result = PointerGetDatum(PG_DETOAST_DATUM_COPY(*result));
	tfstate_end_scan(&scan);
	return !isnull;
}

/*
 * The same for a table that may be gone, or may no longer be a table of states: then there
 * is no such row.  The column is STATE_ID or STATE_NAME, and the value of its type.
 */
static bool
find_row(Oid relid, StateColumn column, Datum value, StateColumn wanted, Datum *result)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	AttrNumber	columns[NUM_STATE_COLUMNS];
	bool		found;

	if (rel == NULL)
		return false;
	found = tfstate_state_columns(rel, columns) &&
		find_in_table(rel, columns[column], column == STATE_ID ? F_INT8EQ : F_TEXTEQ, value,
					  columns[wanted], result);
	relation_close(rel, AccessShareLock);
	return found;
}

/*
 * The attached tables that the client's current statement reads.
 */
static List *
statement_tables(void)
{
	List	   *result = NIL;
	ListCell   *lc;

	if (ActivePortal == NULL || ActivePortal->queryDesc == NULL)
		return NIL;
	foreach(lc, ActivePortal->queryDesc->plannedstmt->relationOids)
	{
		if (tfstate_attached_table(lfirst_oid(lc), NULL))
			result = list_append_unique_oid(result, lfirst_oid(lc));
	}
	return result;
}

/*
 * Raise the error for an id of two workspaces, where nothing tells which one is meant.
 * They are named only to a role that may see both.
 */
static void
raise_two_workspaces(int64 id, const char *lockid, const char *other)
{
	bool		named = tfstate_may(lockid, PRIVILEGE_SEE) && tfstate_may(other, PRIVILEGE_SEE);

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 named ? errmsg("id %lld belongs to two workspaces, \"%s\" and \"%s\"",
							(long long) id, lockid, other) :
			 errmsg("id %lld belongs to two workspaces", (long long) id),
			 errhint("Let both tables take their ids from one sequence, and give one row a new id.")));
}

/*
 * The lockid of the workspace that has this id in one of the tables, NULL if there is
 * none.  Error if there are two.
 */
static char *
workspace_in_tables(List *tables, int64 id)
{
	char	   *lockid = NULL;
	ListCell   *lc;

	foreach(lc, tables)
	{
		char	   *other;
		Datum		name;

		if (!find_row(lfirst_oid(lc), STATE_ID, Int64GetDatum(id), STATE_NAME, &name))
			continue;
		other = tfstate_workspace_lockid(lfirst_oid(lc), TextDatumGetCString(name));
		if (lockid && other)
			raise_two_workspaces(id, lockid, other);
		lockid = other ? other : lockid;
	}
	return lockid;
}

/*
 * The lockid of the workspace that has this id in an attached table, with InvalidOid in any;
 * NULL if there is none.  Error if there are two.
 *
 * Terraform takes the id from the table that it reads in the same statement; then the
 * others are not opened.  Where the statement reads none of them, the tables that the
 * role may read come first: what others do to their tables, a lock or a row with the same
 * id, must not affect it.
 */
char *
tfstate_workspace_by_id(Oid relid, int64 id)
{
	List	   *tables;
	char	   *lockid;

	if (OidIsValid(relid))
		return workspace_in_tables(list_make1_oid(relid), id);
	lockid = workspace_in_tables(statement_tables(), id);
	if (lockid)
		return lockid;
	tables = tfstate_attached_tables();
	lockid = workspace_in_tables(tfstate_readable_tables(tables, true), id);
	if (lockid == NULL)
		lockid = workspace_in_tables(tfstate_readable_tables(tables, false), id);
	return lockid;
}

/*
 * The attached table that this lockid names before its slash; *name is then the name of
 * the workspace after it.  Returns InvalidOid if the lockid is not one that
 * tfstate_workspace_lockid() makes for an attached table.
 */
Oid
tfstate_lockid_table(const char *lockid, const char **name)
{
	const char *slash;
	bool		quoted = false;
	bool		dot = false;
	List	   *names;
	Oid			relid;
	char	   *canonical;

	for (slash = lockid; *slash && (quoted || *slash != '/'); slash++)
	{
		if (*slash == '"')
			quoted = !quoted;
		dot |= *slash == '.';
	}
	if (*slash == '\0' || !dot ||
		!SplitIdentifierString(pnstrdup(lockid, slash - lockid), '.', &names) ||
		list_length(names) != 2)
		return InvalidOid;
	relid = get_relname_relid(lsecond(names),
							  get_namespace_oid(linitial(names), true));
	if (!OidIsValid(relid) || !tfstate_attached_table(relid, NULL))
		return InvalidOid;

	/* A lockid that spells the table in another way is another lockid. */
	canonical = tfstate_workspace_lockid(relid, slash + 1);
	if (canonical == NULL || strcmp(canonical, lockid) != 0)
		return InvalidOid;
	*name = slash + 1;
	return relid;
}

/*
 * Find the id of the workspace with this lockid.  Returns false if there is no such
 * workspace.
 */
bool
tfstate_workspace_id(const char *lockid, int64 *id)
{
	const char *name;
	Oid			relid = tfstate_lockid_table(lockid, &name);
	Datum		value;

	if (!OidIsValid(relid) ||
		!find_row(relid, STATE_NAME, CStringGetTextDatum(name), STATE_ID, &value))
		return false;
	*id = DatumGetInt64(value);
	return true;
}

/*
 * The key under which OpenTofu 1.10 and later creates workspaces in a table: minus the
 * 32-bit FNV-1 hash of schema, a zero byte, and table.  0 if the table is gone.
 */
int64
tfstate_table_creation_key(Oid relid)
{
	char	   *table = get_rel_name(relid);
	char	   *schema = table ? get_namespace_name(get_rel_namespace(relid)) : NULL;
	uint32		hash = 2166136261U;
	char	   *p;

	if (schema == NULL)
		return 0;
	for (p = schema; *p; p++)
		hash = (hash * 16777619) ^ (unsigned char) *p;
	hash = hash * 16777619;
	for (p = table; *p; p++)
		hash = (hash * 16777619) ^ (unsigned char) *p;
	return -(int64) hash;
}

/*
 * The lockid of a creation key of an attached table, with InvalidOid of any; NULL if the key
 * is none.  Terraform, and OpenTofu before 1.10, use -1 for all tables.
 */
char *
tfstate_creation_lockid(Oid relid, int64 key)
{
	ListCell   *lc;

	if (key == -1 && (OidIsValid(relid) || tfstate_any_attached()))
		return pstrdup(CREATION_ANYWHERE);
	if (key >= -1)
		return NULL;
	foreach(lc, OidIsValid(relid) ? list_make1_oid(relid) : tfstate_attached_tables())
	{
		if (tfstate_table_creation_key(lfirst_oid(lc)) == key)
			return tfstate_workspace_lockid(lfirst_oid(lc), "");
	}
	return NULL;
}

/*
 * What the lockid of a creation key stands for, in words; NULL for any other lockid.
 */
char *
tfstate_describe_creation(const char *lockid)
{
	size_t		len = strlen(lockid);
	const char *name;

	if (strcmp(lockid, CREATION_ANYWHERE) == 0)
		return pstrdup("creation of a workspace anywhere in this database");
	if (len == 0 || lockid[len - 1] != '/' ||
		!OidIsValid(tfstate_lockid_table(lockid, &name)) || *name != '\0')
		return NULL;
	return psprintf("creation of a workspace in %s",
					tfstate_one_line(pnstrdup(lockid, len - 1), TFSTATE_MAX_LOCKID));
}

/*
 * Find the text of the state of a workspace, palloc'd.  Returns false if there is no such
 * workspace, or its state is NULL.
 */
bool
tfstate_workspace_text(Oid relid, const char *name, text **data)
{
	Datum		value;

	if (!find_row(relid, STATE_NAME, CStringGetTextDatum(name), STATE_DATA, &value))
		return false;
	*data = DatumGetTextPP(value);
	return true;
}

/*
 * Return true if this lockid has the name of the table, or of its schema, where the lockid
 * of one of its workspaces would have it.
 */
static bool
resembles(const char *lockid, Oid relid)
{
	char	   *table = get_rel_name(relid);
	char	   *schema = table ? get_namespace_name(get_rel_namespace(relid)) : NULL;
	char	   *start;

	if (schema == NULL)
		return false;
	if (strstr(lockid, psprintf(".%s/", table)) ||
		strstr(lockid, psprintf(".%s/", tfstate_quote_identifier(table))) ||
		strstr(lockid, psprintf(".\"%s\"/", table)))
		return true;
	start = psprintf("%s.", tfstate_quote_identifier(schema));
	return strncmp(lockid, start, strlen(start)) == 0 && strchr(lockid + strlen(start), '/');
}

/*
 * Send a notice if a lockid that was locked looks like that of a workspace and is not: a
 * typing error would lock no workspace, and other lockids seldom look like that.
 */
void
tfstate_notice_no_workspace(const char *lockid)
{
	const char *dot = strchr(lockid, '.');
	const char *name;
	int64		id;
	ListCell   *lc;

	if (dot == NULL || strchr(dot, '/') == NULL || tfstate_workspace_id(lockid, &id))
		return;
	if (OidIsValid(tfstate_lockid_table(lockid, &name)))
	{
		if (*name != '\0')		/* else the table's creation key */
			ereport(NOTICE,
					(errcode(ERRCODE_WARNING),
					 errmsg("workspace \"%s\" does not exist; its lock only keeps others from creating it",
							tfstate_one_line(lockid, TFSTATE_MAX_LOCKID))));
		return;
	}
	foreach(lc, tfstate_attached_tables())
	{
		if (!resembles(lockid, lfirst_oid(lc)))
			continue;
		ereport(NOTICE,
				(errcode(ERRCODE_WARNING),
				 errmsg("lock \"%s\" is not that of a workspace: no attached table has this name",
						tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
				 errhint("The lockid of a workspace is schema.table/name, with identifiers quoted as in the view tfstate_workspaces.")));
		return;
	}
}

/*
 * Raise the error for a workspace that does not exist.
 */
void
tfstate_raise_no_workspace(const char *lockid)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("workspace \"%s\" does not exist",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
			 errhint("A workspace is named schema.table/name, and its table is attached with tfstate_attach().")));
}
