/*-------------------------------------------------------------------------
 *
 * layout.c
 *	  What the extension's own tables, indexes and sequences have to look like.
 *
 * The C code reads and writes the tables by the numbers of their columns and without the
 * executor, so a table of another layout would crash the server.  Therefore the layout that
 * the library was written for is compared with what is there: columns, indexes, and how
 * the table is stored.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "common/catalog.h"
#include "common/layout.h"

/* Stand for the extension's own type role, whose OID is not fixed, and for its array. */
#define ROLE_TYPE		((Oid) 0)
#define ROLE_ARRAY_TYPE	((Oid) 1)

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
	const ColumnLayout *columns;
	int			num_columns;
	size_t		oid_offset;		/* where its OID goes in TfstateCatalog */
	IndexLayout indexes[2];		/* the last has no name */
} TableLayout;

/* The columns of released_lock, and the first of them of durable_lock. */
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
	{"default_workspace", BOOLOID, true},
	{"compressed", BOOLOID, true},
	{"mode", TEXTOID},
	{"wait", INTERVALOID}
};

static const ColumnLayout freeze_columns[] = {
	{"pattern", TEXTOID, true, true},
	{"reason", TEXTOID, true},
	{"who", TEXTOID, true},
	{"role", ROLE_TYPE, true},
	{"since", TIMESTAMPTZOID, true},
	{"until", TIMESTAMPTZOID},
	{"exempt", ROLE_ARRAY_TYPE, true},
	{"builtin_pids", INT4ARRAYOID, true}
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
	{"content", BYTEAOID},
	{"erased_at", TIMESTAMPTZOID},
	{"erased_by", TEXTOID},
	{"erase_reason", TEXTOID}
};

static const ColumnLayout installation_columns[] = {
	{"one_row", BOOLOID, true},
	{"key", BYTEAOID, true},
	{"protocol", INT4OID, true},
	{"timeline", INT8OID, true}
};

#define OFFSET(field)	offsetof(TfstateCatalog, field)

static const TableLayout layouts[] = {
	{"installation",
	installation_columns, lengthof(installation_columns), OFFSET(installation)},
	{"durable_lock",
		lock_columns, Natts_lock, OFFSET(durable),
	{{"durable_lock_pkey", true, {1, 2}, OFFSET(durable_index)}}},
	{"released_lock",
		lock_columns, Natts_released, OFFSET(released),
	{{"released_lock_lockid_fence_idx", false, {1, 2}, OFFSET(released_index)}}},
	{"privilege",
		privilege_columns, lengthof(privilege_columns), OFFSET(privilege),
	{{"privilege_pkey", true, {1, 2, 3, 6}, OFFSET(privilege_index)}}},
	{"attached_table",
		attached_columns, lengthof(attached_columns), OFFSET(attached),
	{{"attached_table_pkey", true, {1}, OFFSET(attached_index)}}},
	{"freeze",
		freeze_columns, Natts_freeze, OFFSET(freeze),
	{{"freeze_pkey", true, {1}, OFFSET(freeze_index)}}},
	{"stored_version",
		version_columns, lengthof(version_columns), OFFSET(version),
	{{"stored_version_pkey", true, {1, 2}, OFFSET(version_index)}}}
};

/* The OID in the catalog that a layout names. */
static Oid *
oid_at(TfstateCatalog *catalog, size_t offset)
{
	return (Oid *) ((char *) catalog + offset);
}

/*
 * Return true if the catalog has this OID: a table, an index or a sequence.
 */
bool
tfstate_is_in_catalog(const TfstateCatalog *catalog, Oid relid)
{
	TfstateCatalog *oids = unconstify(TfstateCatalog *, catalog);

	for (int i = 0; i < lengthof(layouts); i++)
	{
		if (relid == *oid_at(oids, layouts[i].oid_offset))
			return true;
		for (const IndexLayout *index = layouts[i].indexes; index->name; index++)
		{
			if (relid == *oid_at(oids, index->oid_offset))
				return true;
		}
	}
	return relid == catalog->fence || relid == catalog->shared_memory;
}

/*
 * The relation with this name in the schema tfstate_internal.  Error if it was dropped.
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

/*
 * Raise the error for a relation that is not as the library expects it; difference says
 * what differs.
 */
void
tfstate_raise_misfit(const char *name, const char *difference)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("relation \"%s.%s\" of extension \"%s\" was altered, or the library is of another version: %s",
					TFSTATE_INTERNAL, name, "tfstate", difference),
			 errhint("Undo the change, or install the library that belongs to the extension.")));
}

/* The OID of a column's type; InvalidOid if the extension's type role was dropped. */
static Oid
expected_type(Relation rel, const ColumnLayout *expected)
{
	Oid			role;

	if (expected->type != ROLE_TYPE && expected->type != ROLE_ARRAY_TYPE)
		return expected->type;
	role = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("role"),
						   ObjectIdGetDatum(RelationGetNamespace(rel)));
	return expected->type == ROLE_TYPE ? role : get_array_type(role);
}

/*
 * Error unless the column with this number is as expected; expected is NULL if there
 * should be none.
 */
static void
check_column(Relation rel, int number, const ColumnLayout *expected)
{
	const char *name = RelationGetRelationName(rel);
	Form_pg_attribute attr;
	Oid			type;
	Oid			collation;

	if (number > RelationGetDescr(rel)->natts)
		tfstate_raise_misfit(name, psprintf("column \"%s\" is missing", expected->name));
	attr = TupleDescAttr(RelationGetDescr(rel), number - 1);
	if (expected == NULL)
		tfstate_raise_misfit(name, psprintf("column \"%s\" was added", NameStr(attr->attname)));
	if (attr->attisdropped)
		tfstate_raise_misfit(name, psprintf("column \"%s\" was dropped", expected->name));
	if (strcmp(NameStr(attr->attname), expected->name) != 0)
		tfstate_raise_misfit(name, psprintf("column %d is \"%s\", not \"%s\"", number,
											NameStr(attr->attname), expected->name));
	type = expected_type(rel, expected);
	if (attr->atttypid != type || attr->atttypmod != -1)
		tfstate_raise_misfit(name, psprintf("column \"%s\" is of type %s, not %s", expected->name,
											format_type_with_typemod(attr->atttypid, attr->atttypmod),
											OidIsValid(type) ? format_type_be(type) : "role"));
	collation = expected->collate_c ? C_COLLATION_OID : get_typcollation(type);
	if (attr->attcollation != collation)
		tfstate_raise_misfit(name, psprintf("column \"%s\" has another collation", expected->name));
	if (attr->attnotnull != expected->not_null)
		tfstate_raise_misfit(name, psprintf(expected->not_null ? "column \"%s\" can be null" :
											"column \"%s\" cannot be null", expected->name));
	if (attr->attgenerated != '\0')
		tfstate_raise_misfit(name, psprintf("column \"%s\" is generated", expected->name));
}

/*
 * Error if an index of a table, ours or not, is one that only the executor can fill.
 */
static void
check_any_index(Relation rel, Oid indexid)
{
	Relation	index = index_open(indexid, AccessShareLock);

	if (RelationGetIndexExpressions(index) != NIL || RelationGetIndexPredicate(index) != NIL ||
		index->rd_index->indisexclusion || !index->rd_index->indimmediate)
		tfstate_raise_misfit(RelationGetRelationName(rel),
							 psprintf("index \"%s\" has an expression, a condition or a deferred check",
									  RelationGetRelationName(index)));
	index_close(index, AccessShareLock);
}

/*
 * The operator class of a column in our indexes, the default one of its type.  (To look that
 * up, GetDefaultOpClass() reads all operator classes each time.)
 */
static Oid
opclass_of(Form_pg_attribute column)
{
	switch (column->atttypid)
	{
		case TEXTOID:
			return TEXT_BTREE_OPS_OID;
		case INT8OID:
			return INT8_BTREE_OPS_OID;
		default:				/* role and regclass, which are OIDs */
			return OID_BTREE_OPS_OID;
	}
}

/* Return true if the i-th key of an index is this column of its table, ascending. */
static bool
is_key(Relation index, int i, Form_pg_attribute column)
{
	Oid			opclass = opclass_of(column);

	return index->rd_index->indkey.values[i] == column->attnum &&
		index->rd_indoption[i] == 0 &&
		index->rd_indcollation[i] == column->attcollation &&
		index->rd_opfamily[i] == get_opclass_family(opclass) &&
		index->rd_opcintype[i] == get_opclass_input_type(opclass);
}

/*
 * The OID of an index of a table.  Error unless it is as expected.
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
		tfstate_raise_misfit(expected->name, "it is not the index that the extension has made");
	relation_close(index, AccessShareLock);
	return indexid;
}

/*
 * Look up a table and its indexes, and set their OIDs in the catalog.  Error unless they
 * are as expected.
 */
static void
look_up_table(Oid schema, const TableLayout *expected, TfstateCatalog *catalog)
{
	Oid			relid = own_relation(schema, expected->name);
	Relation	rel;
	ListCell   *lc;

	*oid_at(catalog, expected->oid_offset) = relid;
	rel = relation_open(relid, AccessShareLock);
	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		tfstate_raise_misfit(expected->name,
							 "it is not an ordinary table of the access method heap");
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		tfstate_raise_misfit(expected->name, "it is unlogged");
	for (int i = 1; i <= Max(expected->num_columns, RelationGetDescr(rel)->natts); i++)
		check_column(rel, i, i <= expected->num_columns ? &expected->columns[i - 1] : NULL);
	foreach(lc, RelationGetIndexList(rel))
		check_any_index(rel, lfirst_oid(lc));
	for (const IndexLayout *index = expected->indexes; index->name; index++)
		*oid_at(catalog, index->oid_offset) = check_index(rel, index);
	relation_close(rel, AccessShareLock);
}

/*
 * Look up the sequence of fences, and set its OID.  Error unless it is a logged sequence.
 */
static void
look_up_fence(Oid schema, TfstateCatalog *catalog)
{
	Relation	rel;

	catalog->fence = own_relation(schema, "fence");
	rel = relation_open(catalog->fence, AccessShareLock);
	if (rel->rd_rel->relkind != RELKIND_SEQUENCE ||
		rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		tfstate_raise_misfit("fence", "it is not a logged sequence");
	relation_close(rel, AccessShareLock);
}

/*
 * Look up the tables, indexes and sequences of the extension in its schema for internal
 * objects, and set their OIDs in the catalog.  Error if one is missing, or is not as the
 * library expects it.
 */
void
tfstate_look_up_relations(Oid schema, TfstateCatalog *catalog)
{
	for (int i = 0; i < lengthof(layouts); i++)
		look_up_table(schema, &layouts[i], catalog);
	look_up_fence(schema, catalog);
	/* locks work without it */
	catalog->shared_memory = get_relname_relid("shared_memory", schema);
}
