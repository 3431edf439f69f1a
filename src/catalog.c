/*-------------------------------------------------------------------------
 *
 * catalog.c
 *	  Where the extension's own tables are.
 *
 * Their OIDs are looked up once a session and kept until the server says that
 * one of the relations changed, DROP EXTENSION among the reasons.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "compat.h"
#include "tfstate.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

static TfstateCatalog catalog;
static bool catalog_valid = false;

static void
forget_catalog(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == catalog.durable ||
		relid == catalog.session || relid == catalog.released ||
		relid == catalog.privilege || relid == catalog.attached ||
		relid == catalog.version ||
		relid == catalog.fence)
		catalog_valid = false;
}

/*
 * The schema that the extension was installed into.  Error if there is none.
 */
static Oid
extension_schema(void)
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
 * A relation of the extension by its name.  Error if somebody dropped it.
 */
static Oid
own_relation(Oid schema, const char *name)
{
	Oid			relid = get_relname_relid(name, schema);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"%s\" of extension \"%s\" does not exist",
						name, "tfstate")));
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
 * The seed in the one row of tfstate_installation.
 */
static uint64
read_seed(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(tfstate_latest_snapshot());
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, SnapshotAny, 0, NULL);
	HeapTuple	tuple = tfstate_next_visible(scan, snapshot);
	bool		isnull;
	uint64		seed;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is empty", RelationGetRelationName(rel)),
				 errhint("Drop and create extension tfstate again.")));
	seed = (uint64) DatumGetInt64(heap_getattr(tuple, 1, RelationGetDescr(rel), &isnull));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return seed;
}

/*
 * The extension's objects in the current database.  Error if it is not
 * installed there.
 */
const TfstateCatalog *
tfstate_catalog(void)
{
	static bool callback_registered = false;
	Oid			schema;

	if (likely(catalog_valid))
		return &catalog;

	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(forget_catalog, (Datum) 0);
		callback_registered = true;
	}
	schema = extension_schema();
	catalog.durable = own_relation(schema, "tfstate_durable_lock");
	catalog.session = own_relation(schema, "tfstate_session_lock");
	catalog.released = own_relation(schema, "tfstate_released_lock");
	catalog.privilege = own_relation(schema, "tfstate_privilege");
	catalog.privilege_index = own_relation(schema, "tfstate_privilege_pkey");
	catalog.attached = own_relation(schema, "tfstate_attached_table");
	catalog.version = own_relation(schema, "tfstate_stored_version");
	catalog.fence = own_relation(schema, "tfstate_fence");
	catalog.durable_index = own_relation(schema, "tfstate_durable_lock_pkey");
	catalog.session_index = own_relation(schema, "tfstate_session_lock_pkey");
	catalog.version_index = own_relation(schema, "tfstate_stored_version_pkey");
	catalog.released_index = own_relation(schema, "tfstate_released_lock_pkey");
	catalog.released_at_index = own_relation(schema, "tfstate_released_lock_released_at_idx");
	catalog.owner = relation_owner(catalog.durable);
	catalog.seed = read_seed(own_relation(schema, "tfstate_installation"));
	catalog_valid = true;
	return &catalog;
}
