/*-------------------------------------------------------------------------
 *
 * catalog.c
 *	  Where the extension's own tables are, and whether they fit the library.
 *
 * Their OIDs are looked up once a session and kept until the server says that
 * one of the relations changed, DROP EXTENSION among the reasons.
 *
 * The C code reads and writes the tables by the numbers of their columns and
 * without the executor, so a table of another layout would crash the server.
 * Therefore each look-up compares what the library was written for with what is
 * there: columns, indexes, and how the table is stored.  The protocol number in
 * installation tells what a layout cannot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "common/scan.h"

/* Stands for the extension's own type role, whose OID is not fixed. */
#define ROLE_TYPE	InvalidOid

/* A column as the library expects it. */
typedef struct ColumnLayout
{
	const char *name;
	Oid			type;
	bool		not_null;
	bool		collate_c;		/* in collation "C", else in the default one */
} ColumnLayout;

/* An index as the library expects it: a plain ascending btree on these columns. */
typedef struct IndexLayout
{
	const char *name;
	bool		unique;
	int			columns[5];		/* 0 after the last */
	size_t		oid_offset;		/* where its OID goes in TfstateCatalog */
} IndexLayout;

typedef struct TableLayout
{
	const char *name;
	char		persistence;
	const ColumnLayout *columns;
	int			num_columns;
	size_t		oid_offset;		/* where its OID goes in TfstateCatalog */
	IndexLayout indexes[3];	/* the last has no name */
} TableLayout;

/* The columns of released_lock, and the first of them of the lock tables. */
static const ColumnLayout lock_columns[] = {
	{"lockid", TEXTOID, true, true},
	{"fence", INT8OID, true},
	{"id", TEXTOID, true, true},
	{"created", TIMESTAMPTZOID, true},
	{"ttl", INTERVALOID},
	{"expires_at", TIMESTAMPTZOID},
	{"session", INT8OID, true},
	{"pid", INT4OID, true},
	{"role", ROLE_TYPE, true},
	{"role_name", TEXTOID, true},
	{"login_role", TEXTOID, true},
	{"application_name", TEXTOID},
	{"client_addr", INETOID},
	{"run_id", TEXTOID},
	{"key", INT8OID},
	{"unlock_key", INT8OID},
	{"info", JSONBOID, true},
	{"mode", TEXTOID, true},
	{"released_at", TIMESTAMPTZOID, true},
	{"how", TEXTOID, true},
	{"released_by", TEXTOID, true},
	{"reason", TEXTOID}
};

static const ColumnLayout privilege_columns[] = {
	{"role", ROLE_TYPE, true},
	{"pattern", TEXTOID, true, true},
	{"privilege", TEXTOID, true, true},
	{"grantor", TEXTOID, true},
	{"granted_at", TIMESTAMPTZOID, true},
	{"role_name", TEXTOID, true, true}
};

static const ColumnLayout attached_columns[] = {
	{"relid", REGCLASSOID, true},
	{"attached_by", TEXTOID, true},
	{"attached_at", TIMESTAMPTZOID, true},
	{"guard", TEXTOID, true},
	{"keep_versions", INT4OID},
	{"keep_age", INTERVALOID},
	{"name", TEXTOID, true},
	{"default_workspace", BOOLOID, true}
};

static const ColumnLayout version_columns[] = {
	{"lockid", TEXTOID, true, true},
	{"number", INT8OID, true},
	{"operation", TEXTOID, true},
	{"serial", INT8OID},
	{"lineage", TEXTOID},
	{"terraform_version", TEXTOID},
	{"resources", INT4OID},
	{"size", INT8OID},
	{"sha256", BYTEAOID},
	{"md5", BYTEAOID},
	{"created", TIMESTAMPTZOID, true},
	{"who", TEXTOID},
	{"role", TEXTOID},
	{"application_name", TEXTOID},
	{"client_addr", INETOID},
	{"lock_id", TEXTOID},
	{"lock_who", TEXTOID},
	{"lock_operation", TEXTOID},
	{"fence", INT8OID},
	{"chain", INT4OID},
	{"content", BYTEAOID}
};

enum
{
	Anum_installation_one_row = 1,
	Anum_installation_key,
	Anum_installation_protocol,
	Anum_installation_timeline,
	Natts_installation = Anum_installation_timeline
};

static const ColumnLayout installation_columns[] = {
	{"one_row", BOOLOID, true},
	{"key", BYTEAOID, true},
	{"protocol", INT4OID, true},
	{"timeline", INT8OID, true}
};

#define OFFSET(field)	offsetof(TfstateCatalog, field)

static const TableLayout layouts[] = {
	{"installation", RELPERSISTENCE_PERMANENT,
	installation_columns, lengthof(installation_columns), OFFSET(installation)},
	{"durable_lock", RELPERSISTENCE_PERMANENT,
		lock_columns, Natts_lock, OFFSET(durable),
	{{"durable_lock_pkey", true, {1, 2}, OFFSET(durable_index)}}},
	{"session_lock", RELPERSISTENCE_UNLOGGED,
		lock_columns, Natts_lock, OFFSET(session),
	{{"session_lock_pkey", true, {1, 2}, OFFSET(session_index)}}},
	{"released_lock", RELPERSISTENCE_PERMANENT,
		lock_columns, Natts_released, OFFSET(released),
		{{"released_lock_lockid_fence_idx", false, {1, 2}, OFFSET(released_index)},
	{"released_lock_released_at_idx", false, {Anum_released_released_at}, OFFSET(released_at_index)}}},
	{"privilege", RELPERSISTENCE_PERMANENT,
		privilege_columns, lengthof(privilege_columns), OFFSET(privilege),
	{{"privilege_pkey", true, {1, 2, 3, 6}, OFFSET(privilege_index)}}},
	{"attached_table", RELPERSISTENCE_PERMANENT,
	attached_columns, lengthof(attached_columns), OFFSET(attached)},
	{"stored_version", RELPERSISTENCE_PERMANENT,
		version_columns, lengthof(version_columns), OFFSET(version),
	{{"stored_version_pkey", true, {1, 2}, OFFSET(version_index)}}}
};

static TfstateCatalog catalog;
static bool catalog_valid = false;

/* Has one of the relations changed since this was reset? */
static bool catalog_changed = false;

/* The OID in the catalog that a layout names. */
static Oid *
oid_at(size_t offset)
{
	return (Oid *) ((char *) &catalog + offset);
}

static void
forget_catalog(Datum arg, Oid relid)
{
	bool		ours = relid == InvalidOid || relid == catalog.fence;

	for (int i = 0; i < lengthof(layouts) && !ours; i++)
	{
		ours = relid == *oid_at(layouts[i].oid_offset);
		for (const IndexLayout *index = layouts[i].indexes; index->name && !ours; index++)
			ours = relid == *oid_at(index->oid_offset);
	}
	if (ours)
	{
		catalog_valid = false;
		catalog_changed = true;
	}
}

/*
 * The schema that has what users call.  Error if the extension is not installed.
 */
Oid
tfstate_extension_schema(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	Oid			schema = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("tfstate"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	if (!OidIsValid(schema))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"%s\" does not exist", "tfstate"),
				 errhint("Run CREATE EXTENSION tfstate in this database.")));
	return schema;
}

/*
 * A relation of the internal schema by its name.  Error if somebody dropped it.
 */
static Oid
own_relation(Oid schema, const char *name)
{
	Oid			relid = get_relname_relid(name, schema);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"%s.%s\" of extension \"%s\" does not exist",
						TFSTATE_INTERNAL, name, "tfstate")));
	return relid;
}

static Oid
relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Error: a relation is not as the library expects it.
 */
static void
raise_misfit(const char *name, const char *difference)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("relation \"%s.%s\" of extension \"%s\" was altered, or the library is of another version: %s",
					TFSTATE_INTERNAL, name, "tfstate", difference),
			 errhint("Undo the change, or install the library that belongs to the extension.")));
}

/*
 * Error unless a column is as expected; expected is NULL for one too many.
 */
static void
check_column(Relation rel, int number, const ColumnLayout *expected)
{
	const char *name = RelationGetRelationName(rel);
	Form_pg_attribute attr;
	Oid			type;
	Oid			collation;

	if (number > RelationGetDescr(rel)->natts)
		raise_misfit(name, psprintf("column \"%s\" is missing", expected->name));
	attr = TupleDescAttr(RelationGetDescr(rel), number - 1);
	if (expected == NULL)
		raise_misfit(name, psprintf("column \"%s\" was added", NameStr(attr->attname)));
	if (attr->attisdropped)
		raise_misfit(name, psprintf("column \"%s\" was dropped", expected->name));
	if (strcmp(NameStr(attr->attname), expected->name) != 0)
		raise_misfit(name, psprintf("column %d is \"%s\", not \"%s\"", number,
									NameStr(attr->attname), expected->name));
	type = expected->type != ROLE_TYPE ? expected->type :
		GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("role"),
						ObjectIdGetDatum(RelationGetNamespace(rel)));
	if (attr->atttypid != type || attr->atttypmod != -1)
		raise_misfit(name, psprintf("column \"%s\" is of type %s, not %s", expected->name,
									format_type_with_typemod(attr->atttypid, attr->atttypmod),
									OidIsValid(type) ? format_type_be(type) : "role"));
	collation = expected->collate_c ? C_COLLATION_OID : get_typcollation(type);
	if (attr->attcollation != collation)
		raise_misfit(name, psprintf("column \"%s\" has another collation", expected->name));
	if (attr->attnotnull != expected->not_null)
		raise_misfit(name, psprintf(expected->not_null ? "column \"%s\" can be null" :
									"column \"%s\" cannot be null", expected->name));
	if (attr->attgenerated != '\0')
		raise_misfit(name, psprintf("column \"%s\" is generated", expected->name));
}

/*
 * Error if an index of a table, whoever made it, is one that only the executor can fill.
 */
static void
check_any_index(Relation rel, Oid indexid)
{
	Relation	index = index_open(indexid, AccessShareLock);

	if (RelationGetIndexExpressions(index) != NIL || RelationGetIndexPredicate(index) != NIL ||
		index->rd_index->indisexclusion || !index->rd_index->indimmediate)
		raise_misfit(RelationGetRelationName(rel),
					 psprintf("index \"%s\" has an expression, a condition or a deferred check",
							  RelationGetRelationName(index)));
	index_close(index, AccessShareLock);
}

/* Is a key column of an index on this column of its table, plainly ascending? */
static bool
is_key(Relation index, int i, Form_pg_attribute column)
{
	Oid			opclass = GetDefaultOpClass(column->atttypid, BTREE_AM_OID);

	return index->rd_index->indkey.values[i] == column->attnum &&
		index->rd_indoption[i] == 0 &&
		index->rd_indcollation[i] == column->attcollation &&
		index->rd_opfamily[i] == get_opclass_family(opclass) &&
		index->rd_opcintype[i] == get_opclass_input_type(opclass);
}

/*
 * Find an index of a table by its layout, and return its OID.  Error unless it fits.
 */
static Oid
check_index(Relation rel, const IndexLayout *expected)
{
	Oid			indexid = own_relation(RelationGetNamespace(rel), expected->name);
	Relation	index = relation_open(indexid, AccessShareLock);
	bool		fits;
	int			n = 0;

	fits = index->rd_rel->relkind == RELKIND_INDEX && index->rd_rel->relam == BTREE_AM_OID &&
		index->rd_index->indrelid == RelationGetRelid(rel) &&
		index->rd_index->indisvalid && index->rd_index->indisready &&
		index->rd_index->indisunique == expected->unique;
	for (; fits && expected->columns[n] != 0; n++)
		fits = n < index->rd_index->indnkeyatts &&
			is_key(index, n, TupleDescAttr(RelationGetDescr(rel), expected->columns[n] - 1));
	if (!fits || index->rd_index->indnatts != n)
		raise_misfit(expected->name, "it is not the index that the extension has made");
	relation_close(index, AccessShareLock);
	return indexid;
}

/*
 * Look up a table and its indexes.  Error unless they fit.
 */
static void
look_up_table(Oid schema, const TableLayout *expected)
{
	Oid			relid = own_relation(schema, expected->name);
	Relation	rel;
	ListCell   *lc;

	*oid_at(expected->oid_offset) = relid;
	rel = relation_open(relid, AccessShareLock);
	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		raise_misfit(expected->name, "it is not an ordinary table of the access method heap");
	if (rel->rd_rel->relpersistence != expected->persistence)
		raise_misfit(expected->name, expected->persistence == RELPERSISTENCE_UNLOGGED ?
					 "it is not unlogged" : "it is unlogged");
	for (int i = 1; i <= Max(expected->num_columns, RelationGetDescr(rel)->natts); i++)
		check_column(rel, i, i <= expected->num_columns ? &expected->columns[i - 1] : NULL);
	foreach(lc, RelationGetIndexList(rel))
		check_any_index(rel, lfirst_oid(lc));
	for (const IndexLayout *index = expected->indexes; index->name; index++)
		*oid_at(index->oid_offset) = check_index(rel, index);
	relation_close(rel, AccessShareLock);
}

/*
 * Look up the sequence of fences.  Error unless it is one.
 */
static void
look_up_fence(Oid schema)
{
	Relation	rel;

	catalog.fence = own_relation(schema, "fence");
	rel = relation_open(catalog.fence, AccessShareLock);
	if (rel->rd_rel->relkind != RELKIND_SEQUENCE ||
		rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		raise_misfit("fence", "it is not a logged sequence");
	relation_close(rel, AccessShareLock);
}

/*
 * Read the row of installation, which is checked already.  Error if it is
 * missing, or of another protocol.
 */
static void
read_installation(void)
{
	Relation	rel = table_open(catalog.installation, AccessShareLock);
	Datum		values[Natts_installation];
	bool		nulls[Natts_installation];
	bytea	   *key;
	int			protocol;
	TableScan	scan;
	HeapTuple	tuple;

	tfstate_begin_scan(&scan, rel, InvalidOid, NULL, 0, NULL);
	tuple = tfstate_next_row(&scan, ForwardScanDirection);
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s.%s\" has no row: the secret key of the locks is missing",
						TFSTATE_INTERNAL, RelationGetRelationName(rel)),
				 errhint("End all sessions that use tfstate, and call %s.make_key().", TFSTATE_INTERNAL)));
	heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
	protocol = DatumGetInt32(values[Anum_installation_protocol - 1]);
	if (protocol != TFSTATE_PROTOCOL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"%s\" in this database follows protocol %d, but the library protocol %d",
						"tfstate", protocol, TFSTATE_PROTOCOL),
				 errhint("Install the library that belongs to the extension, or run ALTER EXTENSION tfstate UPDATE, and connect again.")));
	key = DatumGetByteaPP(values[Anum_installation_key - 1]);
	if (VARSIZE_ANY_EXHDR(key) != TFSTATE_KEY_SIZE)
		raise_misfit(RelationGetRelationName(rel), "the key is of another length");
	memcpy(catalog.key, VARDATA_ANY(key), TFSTATE_KEY_SIZE);
	catalog.timeline = (TimeLineID) DatumGetInt64(values[Anum_installation_timeline - 1]);
	tfstate_end_scan(&scan);
	table_close(rel, AccessShareLock);
}

/*
 * Put down, in this transaction, that fences have jumped for a timeline.  Where another
 * transaction is about to, it is left to that one.
 */
void
tfstate_note_timeline(TimeLineID timeline)
{
	Relation	rel = table_open(tfstate_catalog()->installation, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Datum		values[Natts_installation] = {0};
	bool		nulls[Natts_installation] = {0};
	bool		replace[Natts_installation] = {0};
	TM_FailureData failure;
	TableScan	scan;
	HeapTuple	tuple;

	tfstate_begin_scan(&scan, rel, InvalidOid, NULL, 0, NULL);
	tuple = tfstate_next_row(&scan, ForwardScanDirection);
	catalog.timeline = timeline;
	values[Anum_installation_timeline - 1] = Int64GetDatum((int64) timeline);
	replace[Anum_installation_timeline - 1] = true;
	if (HeapTupleIsValid(tuple) &&
		table_tuple_lock(rel, &tuple->t_self, InvalidSnapshot, slot, GetCurrentCommandId(true),
						 LockTupleNoKeyExclusive, LockWaitSkip, 0, &failure) == TM_Ok)
	{
		tuple = heap_modify_tuple(tuple, RelationGetDescr(rel), values, nulls, replace);
		CatalogTupleUpdate(rel, &tuple->t_self, tuple);
		CommandCounterIncrement();
	}
	ExecDropSingleTupleTableSlot(slot);
	tfstate_end_scan(&scan);
	table_close(rel, NoLock);
}

/*
 * Look up the extension's objects.  Error unless they are there and fit.
 */
static void
look_up_catalog(void)
{
	Oid			schema;

	(void) tfstate_extension_schema();
	schema = get_namespace_oid(TFSTATE_INTERNAL, true);
	for (int i = 0; i < lengthof(layouts); i++)
		look_up_table(schema, &layouts[i]);
	look_up_fence(schema);
	catalog.owner = relation_owner(catalog.durable);
	read_installation();
}

/*
 * The extension's objects in the current database.  Error if it is not
 * installed there, or if its tables were altered.
 */
const TfstateCatalog *
tfstate_catalog(void)
{
	static bool callback_registered = false;

	if (likely(catalog_valid))
		return &catalog;

	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(forget_catalog, (Datum) 0);
		callback_registered = true;
	}
	do
	{
		CHECK_FOR_INTERRUPTS();
		/* What changes while we look may be behind us already: then look again. */
		catalog_changed = false;
		look_up_catalog();
	} while (catalog_changed);
	catalog_valid = true;
	return &catalog;
}
