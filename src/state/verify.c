/*-------------------------------------------------------------------------
 *
 * verify.c
 *	  Comparing states with their recorded versions, and repairing differences.
 *
 * tfstate_verify() finds a state that was changed without its trigger, and a version that
 * is damaged.  tfstate_repair() records the state that is in the table as a version,
 * "found", and makes it independent of damaged ones.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "funcapi.h"
#include "nodes/execnodes.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "common/lockid.h"
#include "common/privilege.h"
#include "common/workspace.h"
#include "state/listing.h"
#include "state/record.h"
#include "state/restore.h"
#include "state/version.h"

PG_FUNCTION_INFO_V1(tfstate_verify_workspace);
PG_FUNCTION_INFO_V1(tfstate_repair);
PG_FUNCTION_INFO_V1(tfstate_record_states);

static void
put_problem(ReturnSetInfo *result, const Version *version, const char *problem)
{
	Datum		values[2];
	bool		nulls[2] = {0};

	nulls[0] = (version == NULL);
	if (version)
		values[0] = VERSION_DATUM(version, number);
	values[1] = CStringGetTextDatum(problem);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* A text that a visit copies. */
typedef struct TakenText
{
	MemoryContext context;		/* where the copy is allocated */
	StateText text;
} TakenText;

static void
take_text(const Workspace *workspace, void *arg)
{
	TakenText  *taken = arg;
	MemoryContext old = MemoryContextSwitchTo(taken->context);

	if (!workspace->is_null)
	{
		text	   *data = DatumGetTextPCopy(workspace->data);

		taken->text.data = VARDATA_ANY(data);
		taken->text.len = VARSIZE_ANY_EXHDR(data);
	}
	MemoryContextSwitchTo(old);
}

/*
 * The text of a workspace's state as of the statement's snapshot; none if there is no such
 * workspace.
 */
static StateText
statement_text(Oid relid, const char *name)
{
	TakenText	taken = {CurrentMemoryContext};

	tfstate_visit_table(relid, name, take_text, &taken);
	return taken.text;
}

/*
 * The text of a workspace's state as of now; none if there is no such workspace.
 */
static StateText
current_text(Oid relid, const char *name)
{
	StateText	current = {0};
	text	   *data;

	if (OidIsValid(relid) && tfstate_workspace_text(relid, name, &data))
	{
		current.data = VARDATA_ANY(data);
		current.len = VARSIZE_ANY_EXHDR(data);
	}
	return current;
}

/*
 * Compare the state in the table with the newest version.  Both are read as of one
 * snapshot, because with two a concurrent write would look like a difference.  A workspace
 * whose table is not attached, or has another name by now, is skipped unless named says
 * that the caller asked for just this one.
 */
static void
verify_current(ReturnSetInfo *result, const char *lockid, bool named)
{
	const char *name;
	Oid			relid = tfstate_lockid_table(lockid, &name);
	bool		recorded;
	StateText	current;
	Version		newest;

	recorded = tfstate_newest_version_as_of(lockid, GetActiveSnapshot(), &newest);
	if (!OidIsValid(relid))
	{
		if (recorded && named)
			put_problem(result, &newest,
						"the table of the workspace is not attached or has another name");
		return;
	}
	current = statement_text(relid, name);
	if (!recorded)
	{
		if (current.data)
			put_problem(result, NULL, "the state was never recorded");
	}
	else if (!tfstate_version_is(&newest, &current))
		put_problem(result, &newest,
					current.data == NULL ?
					"the workspace was deleted without being recorded" :
					VERSION_NULL(&newest, size) ?
					"the workspace was created without being recorded" :
					"the state in the table is not the one that was recorded");
}

/* Look for missing and damaged versions. */
static void
verify_versions(ReturnSetInfo *result, const char *lockid)
{
	VersionReader reader;
	int64		previous = 0;
	bool		intact;

	tfstate_open_versions(&reader, lockid, 0, GetActiveSnapshot());
	reader.verify = true;
	while (tfstate_next_version(&reader, &intact))
	{
		int64		number = VERSION_INT64(&reader.version, number);

		if (previous != 0 && number != previous + 1)
			put_problem(result, &reader.version, "the version before it is missing");
		if (!intact)
			put_problem(result, &reader.version,
						"the version, or one that it depends on, is damaged");
		previous = number;
	}
	tfstate_close_versions(&reader);
}

/*
 * tfstate_internal.verify_workspace(workspace text, versions boolean, named boolean)
 * returns setof (version bigint, problem text)
 */
Datum
tfstate_verify_workspace(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *lockid = text_to_cstring(PG_GETARG_TEXT_PP(0));

	InitMaterializedSRF(fcinfo, 0);
	tfstate_check_privilege(lockid, "view");
	verify_current(result, lockid, PG_GETARG_BOOL(2));
	if (PG_GETARG_BOOL(1))
		verify_versions(result, lockid);
	PG_RETURN_NULL();
}

/*
 * If the newest version, whose text is in the table, cannot be restored, make it a full
 * copy, so that later versions do not depend on damaged ones.
 */
static void
mend_newest(const char *lockid, const Version *newest, const StateText *current)
{
	StateText	restored;

	if (current->data &&
		!tfstate_restore_version(lockid, VERSION_INT64(newest, number), &restored))
		tfstate_make_full(newest, current);
}

/*
 * tfstate_repair(workspace text) returns bigint
 *
 * Returns the number of the newest version; NULL if there is none, because the state has
 * always been NULL.
 */
Datum
tfstate_repair(PG_FUNCTION_ARGS)
{
	char	   *lockid = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const char *name;
	StateText	current;
	Version		newest;
	Oid			relid;
	int64		id;

	tfstate_check_writable("tfstate_repair()");
	tfstate_check_lockid(lockid);
	tfstate_check_privilege(lockid, "override");
	relid = tfstate_lockid_table(lockid, &name);
	if (!OidIsValid(relid))
		tfstate_raise_no_workspace(lockid);

	/*
	 * waits for tfstate_attach(), which records states without the version
	 * tag
	 */
	LockRelationOid(relid, RowExclusiveLock);
	(void) tfstate_lock_versions(lockid, true);
	/* keeps VACUUM FULL, say, from moving the row before it is updated */
	LockRelationOid(tfstate_catalog()->version, RowExclusiveLock);
	current = current_text(relid, name);
	if (!tfstate_record_found(lockid, &current, &newest))
	{
		if (!tfstate_workspace_id(lockid, &id))
			tfstate_raise_no_workspace(lockid);
		PG_RETURN_NULL();
	}
	mend_newest(lockid, &newest, &current);
	PG_RETURN_DATUM(VERSION_DATUM(&newest, number));
}

/* Record a state as "found", unless it is the newest version. */
static void
record_state(const Workspace *workspace, void *arg)
{
	StateText	found = {0};
	Version		newest;
	text	   *data;

	if (workspace->is_null)
		return;
	data = DatumGetTextPP(workspace->data);
	found.data = VARDATA_ANY(data);
	found.len = VARSIZE_ANY_EXHDR(data);
	(void) tfstate_record_found(workspace->lockid, &found, &newest);
}

/*
 * tfstate_internal.record_states("table" regclass) returns void
 *
 * Record the states of a table that is being attached.  The caller has locked it against
 * writes, and no version tags are taken: a table can have more workspaces than the
 * server's lock table has room for.
 */
Datum
tfstate_record_states(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Relation	rel;

	tfstate_check_writable("tfstate_attach()");
	rel = try_relation_open(relid, AccessShareLock);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	if (!CheckRelationLockedByMe(rel, ShareRowExclusiveLock, true))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not locked against writes",
						RelationGetRelationName(rel))));
	tfstate_visit_table(relid, NULL, record_state, NULL);
	relation_close(rel, NoLock);
	PG_RETURN_VOID();
}
