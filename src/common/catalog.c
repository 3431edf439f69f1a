/*-------------------------------------------------------------------------
 *
 * catalog.c
 *	  The extension's own tables and its secret key, looked up and remembered.
 *
 * They are looked up once a session and remembered until the server reports a change of
 * one of the relations, DROP EXTENSION among the reasons.  Each lookup checks that the
 * tables fit the library (layout.c); the protocol number in the table installation tells
 * what the layout of tables cannot.
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
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "common/layout.h"
#include "common/scan.h"

/* The columns of installation. */
enum
{
	Anum_installation_one_row = 1,
	Anum_installation_key,
	Anum_installation_protocol,
	Anum_installation_timeline,
	Natts_installation = Anum_installation_timeline
};

static TfstateCatalog catalog;
static bool catalog_valid = false;

/* True if one of the relations has changed since this was reset. */
static bool catalog_changed = false;

/* How often one of the relations has changed. */
static uint64 changes = 0;

/*
 * Callback of the relation cache: look everything up again if this relation is ours, or
 * if it is not known which one has changed.
 */
static void
forget_catalog(Datum arg, Oid relid)
{
	if (relid == InvalidOid || tfstate_is_in_catalog(&catalog, relid))
	{
		catalog_valid = false;
		catalog_changed = true;
		changes++;
	}
}

/*
 * A number that grows with each change of one of the relations in tfstate_catalog(), as far as
 * this session knows: changes are told to it when it locks a relation.
 */
uint64
tfstate_catalog_changes(void)
{
	return changes;
}

/*
 * The OID of the extension and, in *schema, the schema of the objects that users call.  Error if
 * the extension is not installed in this database.
 */
static Oid
find_extension(Oid *schema)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	Oid			extension = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("tfstate"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		extension = ((Form_pg_extension) GETSTRUCT(tuple))->oid;
		*schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	if (!OidIsValid(extension))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"%s\" does not exist", "tfstate"),
				 errhint("Run CREATE EXTENSION tfstate in this database.")));
	return extension;
}

/*
 * The schema of the objects that users call.  Error if the extension is not installed in
 * this database.
 */
Oid
tfstate_extension_schema(void)
{
	Oid			schema;

	(void) find_extension(&schema);
	return schema;
}

/*
 * Keep others from dropping the extension, after waiting for those that do.  Returns the OID
 * of the extension that is there then, to be unlocked.  Error if there is none.
 */
static Oid
lock_extension(void)
{
	Oid			schema;

	for (;;)
	{
		Oid			extension = find_extension(&schema);

		LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
		if (find_extension(&schema) == extension)
			return extension;
		UnlockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	}
}

/*
 * The owner of a relation.  Error if there is no relation of that OID.
 */
Oid
tfstate_relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Read the row of the table installation, whose layout has been checked.  Error if there
 * is none, or if its protocol is not the library's.
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
				 errmsg("extension \"%s\" in this database has protocol %d, but the library has protocol %d",
						"tfstate", protocol, TFSTATE_PROTOCOL),
				 errhint("Install the library that belongs to the extension, or run ALTER EXTENSION tfstate UPDATE, and connect again.")));
	key = DatumGetByteaPP(values[Anum_installation_key - 1]);
	if (VARSIZE_ANY_EXHDR(key) != TFSTATE_KEY_SIZE)
		tfstate_raise_misfit(RelationGetRelationName(rel), "the key is of another length");
	memcpy(catalog.key, VARDATA_ANY(key), TFSTATE_KEY_SIZE);
	catalog.timeline = (TimeLineID) DatumGetInt64(values[Anum_installation_timeline - 1]);
	tfstate_end_scan(&scan);
	table_close(rel, AccessShareLock);
}

/*
 * Record, in this transaction, that fences have jumped for a timeline.  If another
 * transaction is changing the row, that one records it.
 */
void
tfstate_note_timeline(TimeLineID timeline)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->installation, RowExclusiveLock);
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
 * Look up everything in the catalog.  Error if something is missing, or does not fit the
 * library.
 */
static void
look_up_catalog(void)
{
	Oid			extension = lock_extension();
	Oid			schema = get_namespace_oid(TFSTATE_INTERNAL, true);

	tfstate_look_up_relations(schema, &catalog);
	catalog.owner = tfstate_relation_owner(catalog.durable);
	read_installation();
	UnlockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
}

/*
 * The extension's objects in the current database; the pointer is valid for as long as the
 * session, but its contents only until the next relation is opened.  Error if the
 * extension is not installed there, or if its tables do not fit the library.
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
		/* look again if something changes after we have looked at it */
		catalog_changed = false;
		look_up_catalog();
	} while (catalog_changed);
	catalog_valid = true;
	return &catalog;
}

/*
 * Open one of the extension's tables, or its sequence, in this mode.  relid points to its OID in
 * what tfstate_catalog() returns.
 *
 * If the extension was dropped while we waited for the relation, it is looked up again: an error
 * if the extension is not installed any more, the new relation if it was created again.
 */
Relation
tfstate_open(const Oid *relid, LOCKMODE mode)
{
	Oid			locked;

	for (;;)
	{
		(void) tfstate_catalog();
		locked = *relid;
		LockRelationOid(locked, mode);
		(void) tfstate_catalog();	/* what the wait has changed is known now */
		if (*relid == locked)
			return relation_open(locked, NoLock);
		UnlockRelationOid(locked, mode);
	}
}
