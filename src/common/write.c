/*-------------------------------------------------------------------------
 *
 * write.c
 *	  Rows that are written without the executor.
 *
 * Triggers do not fire, and constraints other than unique keys are not checked: the library
 * writes only what fits.  Publications and replicas get the rows as others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "catalog/indexing.h"
#include "storage/lockdefs.h"
#include "utils/rel.h"

#include "common/catalog.h"
#include "common/layout.h"
#include "common/write.h"

/*
 * Insert the entry of a row into an index of ours, a btree on columns without NULLs.
 */
static void
insert_entry(Relation rel, Oid indexid, Datum *row, ItemPointer place)
{
	Relation	index = index_open(indexid, RowExclusiveLock);
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS] = {0};

	for (int i = 0; i < index->rd_index->indnatts; i++)
		values[i] = row[index->rd_index->indkey.values[i] - 1];
	index_insert(index, values, nulls, place, rel,
				 index->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
				 false, NULL);	/* a btree has no use for an IndexInfo */
	index_close(index, RowExclusiveLock);
}

/*
 * Insert a row into one of the extension's tables, which is open, with its index entries.
 * Returns its place.  The caller has locked the table as for writing.
 *
 * The catalog vouches for our own indexes.  If there is another one, an administrator's, or
 * the new one of a REINDEX CONCURRENTLY, all are filled as those of system catalogs.
 */
void
tfstate_insert_row(Relation rel, Datum *values, bool *nulls, ItemPointer place)
{
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	List	   *indexes = RelationGetIndexList(rel);
	bool		all_ours = true;
	ListCell   *lc;

	foreach(lc, indexes)
		all_ours = all_ours && tfstate_is_in_catalog(tfstate_catalog(), lfirst_oid(lc));
	if (all_ours)
	{
		simple_heap_insert(rel, tuple);
		foreach(lc, indexes)
			insert_entry(rel, lfirst_oid(lc), values, &tuple->t_self);
	}
	else
		CatalogTupleInsert(rel, tuple);
	*place = tuple->t_self;
	list_free(indexes);
	heap_freetuple(tuple);
}
