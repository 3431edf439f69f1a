/*-------------------------------------------------------------------------
 *
 * workspace.c
 *	  From the numbers that Terraform locks to lockids, and back.
 *
 * A workspace is a row of an attached table of states.  Terraform locks its id;
 * tfstate locks <schema>.<table>/<name>, with identifiers quoted by a rule of our own
 * that is as SQL's, but the same whatever the session has set and the server is.  So
 * the lock stays with the name when the row is deleted and made anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/execdesc.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "tfstate.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

/* The lockid of -1, under which workspaces are created in all attached tables. */
#define CREATION_ANYWHERE	"tfstate_pg/new workspace"

PG_FUNCTION_INFO_V1(tfstate_table_name);

/* The columns of tfstate_attached_table. */
enum
{
	Anum_attached_relid = 1,
	Anum_attached_attached_by,
	Anum_attached_attached_at,
	Anum_attached_guard,
	Anum_attached_keep_versions,
	Anum_attached_keep_age
};

/*
 * The tables that are attached, as a list of OIDs.
 */
List *
tfstate_attached_tables(void)
{
	List	   *tables = NIL;
	Relation	rel = table_open(tfstate_catalog()->attached, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(tfstate_latest_snapshot());
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, SnapshotAny, 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = tfstate_next_visible(scan, snapshot)))
	{
		bool		isnull;

		tables = lappend_oid(tables, DatumGetObjectId(heap_getattr(tuple, Anum_attached_relid,
																   RelationGetDescr(rel), &isnull)));
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return tables;
}

static AttrNumber
find_column(TupleDesc desc, const char *name, Oid type)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (!attr->attisdropped && attr->atttypid == type &&
			strcmp(NameStr(attr->attname), name) == 0)
			return attr->attnum;
	}
	return InvalidAttrNumber;
}

/*
 * Find the columns of a table of states, by StateColumn.  Returns false if it is no
 * table, or one is not there, or has another type: the owner of an attached table can
 * change it, in PostgreSQL 15 even to a view, which has no rows to scan.
 */
bool
tfstate_state_columns(Relation rel, AttrNumber *columns)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (rel->rd_rel->relkind != RELKIND_RELATION)
		return false;
	columns[STATE_ID] = find_column(desc, "id", INT8OID);
	columns[STATE_NAME] = find_column(desc, "name", TEXTOID);
	columns[STATE_DATA] = find_column(desc, "data", TEXTOID);
	return columns[STATE_ID] != InvalidAttrNumber &&
		columns[STATE_NAME] != InvalidAttrNumber &&
		columns[STATE_DATA] != InvalidAttrNumber;
}

static int
guard_of(const char *word)
{
	if (strcmp(word, "off") == 0)
		return GUARD_OFF;
	return strcmp(word, "on") == 0 ? GUARD_ON : GUARD_REQUIRE;
}

static void
read_attached_table(HeapTuple tuple, TupleDesc desc, AttachedTable *table)
{
	bool		isnull;
	Datum		value;

	memset(table, 0, sizeof(AttachedTable));
	table->relid = DatumGetObjectId(heap_getattr(tuple, Anum_attached_relid, desc, &isnull));
	value = heap_getattr(tuple, Anum_attached_guard, desc, &isnull);
	table->guard = guard_of(TextDatumGetCString(value));
	value = heap_getattr(tuple, Anum_attached_keep_versions, desc, &isnull);
	table->keep_versions = isnull ? 0 : DatumGetInt32(value);
	value = heap_getattr(tuple, Anum_attached_keep_age, desc, &isnull);
	table->has_keep_age = !isnull;
	if (!isnull)
		table->keep_age = *DatumGetIntervalP(value);
}

/*
 * What is set for an attached table.  Returns false if the table is not attached.
 */
bool
tfstate_attached_table(Oid relid, AttachedTable *table)
{
	Relation	rel = table_open(tfstate_catalog()->attached, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(tfstate_latest_snapshot());
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, SnapshotAny, 0, NULL);
	bool		found = false;
	HeapTuple	tuple;

	while (!found && HeapTupleIsValid(tuple = tfstate_next_visible(scan, snapshot)))
	{
		read_attached_table(tuple, RelationGetDescr(rel), table);
		found = table->relid == relid;
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * The words that a lockid quotes although they are written in lower case: those that
 * PostgreSQL 15 does not let stand for any name.  The list is in order, and frozen: if
 * it followed the server, an upgrade would give workspaces other locks.
 */
static const char *const quoted_words[] = {
	"all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric",
	"authorization", "between", "bigint", "binary", "bit", "boolean", "both", "case", "cast",
	"char", "character", "check", "coalesce", "collate", "collation", "column",
	"concurrently", "constraint", "create", "cross", "current_catalog", "current_date",
	"current_role", "current_schema", "current_time", "current_timestamp", "current_user",
	"dec", "decimal", "default", "deferrable", "desc", "distinct", "do", "else", "end",
	"except", "exists", "extract", "false", "fetch", "float", "for", "foreign", "freeze",
	"from", "full", "grant", "greatest", "group", "grouping", "having", "ilike", "in",
	"initially", "inner", "inout", "int", "integer", "intersect", "interval", "into", "is",
	"isnull", "join", "lateral", "leading", "least", "left", "like", "limit", "localtime",
	"localtimestamp", "national", "natural", "nchar", "none", "normalize", "not", "notnull",
	"null", "nullif", "numeric", "offset", "on", "only", "or", "order", "out", "outer",
	"overlaps", "overlay", "placing", "position", "precision", "primary", "real",
	"references", "returning", "right", "row", "select", "session_user", "setof", "similar",
	"smallint", "some", "substring", "symmetric", "table", "tablesample", "then", "time",
	"timestamp", "to", "trailing", "treat", "trim", "true", "union", "unique", "user",
	"using", "values", "varchar", "variadic", "verbose", "when", "where", "window", "with",
	"xmlattributes", "xmlconcat", "xmlelement", "xmlexists", "xmlforest", "xmlnamespaces",
	"xmlparse", "xmlpi", "xmlroot", "xmlserialize", "xmltable"
};

static int
compare_words(const void *a, const void *b)
{
	return strcmp(a, *(const char *const *) b);
}

/*
 * Append an identifier as lockids have it: bare if it is made of lower-case ASCII
 * letters, digits and underscores and is no quoted word, else in double quotes.
 */
static void
append_identifier(StringInfo buf, const char *identifier)
{
	size_t		bare = strspn(identifier, "abcdefghijklmnopqrstuvwxyz_0123456789");

	if (bare > 0 && identifier[bare] == '\0' && !isdigit((unsigned char) *identifier) &&
		bsearch(identifier, quoted_words, lengthof(quoted_words), sizeof(char *),
				compare_words) == NULL)
	{
		appendStringInfoString(buf, identifier);
		return;
	}
	appendStringInfoChar(buf, '"');
	for (; *identifier; identifier++)
	{
		if (*identifier == '"')
			appendStringInfoChar(buf, '"');
		appendStringInfoChar(buf, *identifier);
	}
	appendStringInfoChar(buf, '"');
}

/* An identifier as lockids have it, palloc'd. */
char *
tfstate_quote_identifier(const char *identifier)
{
	StringInfoData buf;

	initStringInfo(&buf);
	append_identifier(&buf, identifier);
	return buf.data;
}

/*
 * The name of a table as its lockids begin with it, <schema>.<table>; NULL if it is
 * gone.
 */
static char *
table_name(Oid relid)
{
	char	   *table = get_rel_name(relid);
	char	   *schema = table ? get_namespace_name(get_rel_namespace(relid)) : NULL;
	StringInfoData buf;

	if (schema == NULL)
		return NULL;
	initStringInfo(&buf);
	append_identifier(&buf, schema);
	appendStringInfoChar(&buf, '.');
	append_identifier(&buf, table);
	return buf.data;
}

/*
 * tfstate_table_name(rel regclass) returns text
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
 * The lockid of a workspace; NULL if its table is gone.
 */
char *
tfstate_workspace_lockid(Oid relid, const char *name)
{
	char	   *table = table_name(relid);

	return table ? psprintf("%s/%s", table, name) : NULL;
}

/*
 * An index that finds all rows with a value in the given column, in the order of the
 * column's collation; InvalidOid if there is none.
 */
Oid
tfstate_index_on(Relation rel, AttrNumber column)
{
	List	   *indexes = RelationGetIndexList(rel);
	Oid			result = InvalidOid;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_index->indisvalid &&
			index->rd_rel->relam == BTREE_AM_OID &&
			index->rd_index->indkey.values[0] == column &&
			index->rd_indcollation[0] == TupleDescAttr(RelationGetDescr(rel), column - 1)->attcollation &&
			RelationGetIndexPredicate(index) == NIL)
			result = RelationGetRelid(index);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return result;
}

/*
 * Find the row that has a value in a column of an open table of states, and return a copy
 * of what it has in another one.  Returns false if there is no such row, or it has
 * nothing there.
 */
static bool
find_in_table(Relation rel, AttrNumber column, RegProcedure equal, Datum value,
			  AttrNumber wanted, Datum *result)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Oid			index = tfstate_index_on(rel, column);
	Snapshot	snapshot = RegisterSnapshot(tfstate_latest_snapshot());
	bool		isnull = true;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyEntryInitialize(&key, 0, column, BTEqualStrategyNumber, InvalidOid,
						   TupleDescAttr(desc, column - 1)->attcollation, equal, value);
	scan = systable_beginscan(rel, index, OidIsValid(index), SnapshotAny, 1, &key);
	tuple = tfstate_next_visible(scan, snapshot);
	if (HeapTupleIsValid(tuple))
		*result = heap_getattr(tuple, wanted, desc, &isnull);
	if (!isnull && TupleDescAttr(desc, wanted - 1)->attlen == -1)
		*result = PointerGetDatum(PG_DETOAST_DATUM_COPY(*result));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return !isnull;
}

/*
 * The same in a table that may be gone, or be no table of states any more: then there is
 * no such row.  The column is id or name, and value of its type.
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
 * Those of the tables that the statement reads which the client is running.
 */
static List *
statement_tables(List *tables)
{
	List	   *result = NIL;
	ListCell   *lc;

	if (ActivePortal == NULL || ActivePortal->queryDesc == NULL)
		return NIL;
	foreach(lc, ActivePortal->queryDesc->plannedstmt->relationOids)
	{
		if (list_member_oid(tables, lfirst_oid(lc)))
			result = list_append_unique_oid(result, lfirst_oid(lc));
	}
	return result;
}

/*
 * Those of the tables in which the current role may read ids, or else the others.  No
 * table is opened for that, so nobody who has one locked is in the way.
 */
List *
tfstate_readable_tables(List *tables, bool readable)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, tables)
	{
		Oid			relid = lfirst_oid(lc);
		AttrNumber	id = get_attnum(relid, "id");
		bool		missing = false;
		bool		may_read = id != InvalidAttrNumber &&
			(pg_class_aclcheck_ext(relid, GetUserId(), ACL_SELECT, &missing) == ACLCHECK_OK ||
			 (!missing &&
			  pg_attribute_aclcheck(relid, id, GetUserId(), ACL_SELECT) == ACLCHECK_OK));

		if (may_read == readable)
			result = lappend_oid(result, relid);
	}
	return result;
}

/*
 * Error: two workspaces have an id, and nobody can tell which one is meant.  They are
 * named to those who may see both.
 */
static void
raise_two_workspaces(int64 id, const char *lockid, const char *other)
{
	List	   *patterns = tfstate_privileges(PRIVILEGE_SEE);
	bool		named = tfstate_allowed(patterns, lockid) && tfstate_allowed(patterns, other);

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 named ? errmsg("id %lld belongs to two workspaces, \"%s\" and \"%s\"",
							(long long) id, lockid, other) :
			 errmsg("id %lld belongs to two workspaces", (long long) id),
			 errhint("Let both tables take their ids from one sequence, and give one row a new id.")));
}

/*
 * The lockid of the workspace that has an id in one of the tables, NULL if none
 * has.  Error if two have.
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
 * The lockid of the workspace that has an id, NULL if none of the tables has
 * it.  Terraform takes the id from the table that it reads in the same
 * statement; the others are not opened then.  Where the statement reads none,
 * those are looked at first that the role may read: what others do to their
 * tables, a lock or a row with the same id, must not be in its way.
 */
char *
tfstate_workspace_by_id(List *tables, int64 id)
{
	char	   *lockid = workspace_in_tables(statement_tables(tables), id);

	if (lockid == NULL)
		lockid = workspace_in_tables(tfstate_readable_tables(tables, true), id);
	if (lockid == NULL)
		lockid = workspace_in_tables(tfstate_readable_tables(tables, false), id);
	return lockid;
}

/*
 * The attached table that is named in front of the slash of a lockid, and the
 * name behind it.  InvalidOid if the lockid is not of that form.
 */
Oid
tfstate_lockid_table(const char *lockid, const char **name)
{
	const char *slash;
	bool		quoted = false;
	List	   *names;
	Oid			relid;
	char	   *canonical;

	for (slash = lockid; *slash && (quoted || *slash != '/'); slash++)
	{
		if (*slash == '"')
			quoted = !quoted;
	}
	if (*slash == '\0' ||
		!SplitIdentifierString(pnstrdup(lockid, slash - lockid), '.', &names) ||
		list_length(names) != 2)
		return InvalidOid;
	relid = get_relname_relid(lsecond(names),
							  get_namespace_oid(linitial(names), true));
	if (!OidIsValid(relid) || !list_member_oid(tfstate_attached_tables(), relid))
		return InvalidOid;

	/* A lockid that spells the table in another way is another lockid. */
	canonical = tfstate_workspace_lockid(relid, slash + 1);
	if (canonical == NULL || strcmp(canonical, lockid) != 0)
		return InvalidOid;
	*name = slash + 1;
	return relid;
}

/*
 * Is there a workspace of this lockid?  Then its id is returned.
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
 * The key under which OpenTofu 1.10 and later creates workspaces in a table:
 * minus the 32-bit FNV-1 hash of schema, a zero byte, and table.
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
 * The lockid under which workspaces are created, if that is what a key is for;
 * else NULL.  Terraform, and OpenTofu before 1.10, use -1 for all tables.
 */
char *
tfstate_creation_lockid(List *tables, int64 key)
{
	ListCell   *lc;

	if (tables != NIL && key == -1)
		return pstrdup(CREATION_ANYWHERE);
	if (key >= -1)
		return NULL;
	foreach(lc, tables)
	{
		if (tfstate_table_creation_key(lfirst_oid(lc)) == key)
			return tfstate_workspace_lockid(lfirst_oid(lc), "");
	}
	return NULL;
}

/*
 * What a lockid of creation is in words; NULL if it is none.
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
 * The text of a workspace's state.  Returns false if there is no such workspace, or
 * its state is null.
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
 * May the current role read the states in a table, in all its rows?
 */
bool
tfstate_may_read_states(Oid relid)
{
	AttrNumber	column = get_attnum(relid, "data");

	if (check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		return false;
	return pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK ||
		(column != InvalidAttrNumber &&
		 pg_attribute_aclcheck(relid, column, GetUserId(), ACL_SELECT) == ACLCHECK_OK);
}
