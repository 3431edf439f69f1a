/*-------------------------------------------------------------------------
 *
 * attached.c
 *	  The attached tables of states, and what is in their columns.
 *
 * The owner of an attached table can change it at any time, so its columns are looked up
 * each time that its rows are read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/timestamp.h"

#include "common/attached.h"
#include "common/catalog.h"
#include "common/scan.h"
#include "common/settings.h"

/*
 * The OIDs of the attached tables.
 */
List *
tfstate_attached_tables(void)
{
	List	   *tables = NIL;
	Relation	rel = tfstate_open(&tfstate_catalog()->attached, AccessShareLock);
	TableScan	scan;
	HeapTuple	tuple;

	tfstate_begin_scan(&scan, rel, InvalidOid, NULL, 0, NULL);
	while ((tuple = tfstate_next_row(&scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;
		Datum		relid = heap_getattr(tuple, Anum_attached_relid,
										 RelationGetDescr(rel), &isnull);

		tables = lappend_oid(tables, DatumGetObjectId(relid));
	}
	tfstate_end_scan(&scan);
	table_close(rel, AccessShareLock);
	return tables;
}

/*
 * Return true if any table is attached.
 */
bool
tfstate_any_attached(void)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->attached, AccessShareLock);
	bool		any;
	TableScan	scan;

	tfstate_begin_scan(&scan, rel, InvalidOid, NULL, 0, NULL);
	any = tfstate_next_row(&scan, ForwardScanDirection) != NULL;
	tfstate_end_scan(&scan);
	table_close(rel, AccessShareLock);
	return any;
}

static int
guard_of(const char *word)
{
	if (strcmp(word, "off") == 0)
		return GUARD_OFF;
	return strcmp(word, "on") == 0 ? GUARD_ON : GUARD_REQUIRE;
}

/* The length of an interval in microseconds, with months of 30 days. */
static int64
interval_usecs(const Interval *interval)
{
	return interval->time + ((int64) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY;
}

static void
read_attached_table(HeapTuple tuple, TupleDesc desc, AttachedTable *table)
{
	bool		isnull;
	Datum		value;

	memset(table, 0, sizeof(AttachedTable));
	table->relid = DatumGetObjectId(heap_getattr(tuple, Anum_attached_relid, desc, &isnull));
	value = heap_getattr(tuple, Anum_attached_name, desc, &isnull);
	table->name = TextDatumGetCString(value);
	value = heap_getattr(tuple, Anum_attached_guard, desc, &isnull);
	table->guard = guard_of(TextDatumGetCString(value));
	value = heap_getattr(tuple, Anum_attached_keep_versions, desc, &isnull);
	table->keep_versions = isnull ? 0 : DatumGetInt32(value);
	value = heap_getattr(tuple, Anum_attached_keep_age, desc, &isnull);
	table->has_keep_age = !isnull;
	if (!isnull)
		table->keep_age = *DatumGetIntervalP(value);
	value = heap_getattr(tuple, Anum_attached_mode, desc, &isnull);
	table->has_mode = !isnull;
	table->durable = !isnull && strcmp(TextDatumGetCString(value), "durable") == 0;
	value = heap_getattr(tuple, Anum_attached_wait, desc, &isnull);
	table->has_wait = !isnull;
	if (!isnull)
		table->wait = interval_usecs(DatumGetIntervalP(value));
}

/*
 * Return true if a table is attached; then set *table, unless that is NULL, to what is set
 * for it.
 */
bool
tfstate_attached_table(Oid relid, AttachedTable *table)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->attached, AccessShareLock);
	ScanKeyData key;
	TableScan	scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_attached_relid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	tfstate_begin_scan(&scan, rel, tfstate_catalog()->attached_index, NULL, 1, &key);
	tuple = tfstate_next_row(&scan, ForwardScanDirection);
	if (HeapTupleIsValid(tuple) && table)
		read_attached_table(tuple, RelationGetDescr(rel), table);
	tfstate_end_scan(&scan);
	table_close(rel, AccessShareLock);
	return HeapTupleIsValid(tuple);
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
 * Find the columns of a table of states, by StateColumn.  Returns false if one of them is
 * missing or has another type, or if it is no longer a table: in PostgreSQL 15 its owner
 * can make it a view, which has no rows to scan.
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

/*
 * An index that finds all rows with a given value in this column, and is in the order of
 * the column's collation; InvalidOid if there is none.
 */
Oid
tfstate_index_on(Relation rel, AttrNumber column)
{
	Oid			collation = TupleDescAttr(RelationGetDescr(rel), column - 1)->attcollation;
	List	   *indexes = RelationGetIndexList(rel);
	Oid			result = InvalidOid;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_index->indisvalid &&
			index->rd_rel->relam == BTREE_AM_OID &&
			index->rd_index->indkey.values[0] == column &&
			index->rd_indcollation[0] == collation &&
			RelationGetIndexPredicate(index) == NIL)
			result = RelationGetRelid(index);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return result;
}

/*
 * Those of the tables in which the current role may read ids or, without readable, in
 * which it may not.  Opens no table, so a locked one does not block the caller.
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
 * Return true if the current role may read the states in all rows of a table.
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

/*
 * Return true if the current role may write states to a table.
 */
bool
tfstate_may_write_states(Oid relid)
{
	AttrNumber	column = get_attnum(relid, "data");

	return pg_class_aclcheck(relid, GetUserId(), ACL_UPDATE) == ACLCHECK_OK ||
		(column != InvalidAttrNumber &&
		 pg_attribute_aclcheck(relid, column, GetUserId(), ACL_UPDATE) == ACLCHECK_OK);
}
