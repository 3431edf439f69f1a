/*-------------------------------------------------------------------------
 *
 * listing.c
 *	  SQL functions that list and read the states in the attached tables.
 *
 * A role sees the workspaces for which it has the privilege "view".  The text of a state
 * can hold secrets, so to read it a role needs SELECT on the table, too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "common/attached.h"
#include "common/compat.h"
#include "common/limits.h"
#include "common/lockid.h"
#include "common/privilege.h"
#include "common/text.h"
#include "common/workspace.h"
#include "state/facts.h"
#include "state/listing.h"
#include "state/restore.h"

PG_FUNCTION_INFO_V1(tfstate_states);
PG_FUNCTION_INFO_V1(tfstate_rows);
PG_FUNCTION_INFO_V1(tfstate_version);

/* A visit of workspaces. */
typedef struct Visit
{
	const char *pattern;		/* of their lockids */
	List	   *privileges;		/* the patterns that the role may view */
	WorkspaceVisitor visitor;
	void	   *arg;			/* the visitor's */
	bool		nameless;		/* rows without a name, too, which are not
								 * workspaces */
} Visit;

/*
 * Visit the workspace in a row, if it is one of those that are visited.
 */
static void
visit_row(const Visit *visit, Relation rel, const AttrNumber *columns, HeapTuple tuple)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Workspace	workspace = {RelationGetRelid(rel)};
	bool		isnull;
	Datum		name = heap_getattr(tuple, columns[STATE_NAME], desc, &isnull);

	if (!isnull)
	{
		workspace.lockid = tfstate_workspace_lockid(workspace.relid, TextDatumGetCString(name));
		if (workspace.lockid == NULL ||
			!tfstate_pattern_matches(workspace.lockid, visit->pattern) ||
			!tfstate_allowed(visit->privileges, workspace.lockid))
			return;
	}
	else if (!visit->nameless)
		return;
	workspace.id = DatumGetInt64(heap_getattr(tuple, columns[STATE_ID], desc, &isnull));
	workspace.data = heap_getattr(tuple, columns[STATE_DATA], desc, &workspace.is_null);
	visit->visitor(&workspace, visit->arg);
}

/*
 * Visit the rows of an open table, only the one with this name unless that is NULL.
 */
static void
visit_rows(const Visit *visit, Relation rel, const AttrNumber *columns, const char *name)
{
	AttrNumber	column = columns[STATE_NAME];
	Oid			index = name ? tfstate_index_on(rel, column) : InvalidOid;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "tfstate workspace",
												  ALLOCSET_DEFAULT_SIZES);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (name)
		ScanKeyEntryInitialize(&key, 0, column, BTEqualStrategyNumber, InvalidOid,
							   TupleDescAttr(RelationGetDescr(rel), column - 1)->attcollation,
							   F_TEXTEQ, CStringGetTextDatum(name));
	scan = systable_beginscan(rel, index, OidIsValid(index), GetActiveSnapshot(),
							  name ? 1 : 0, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		CHECK_FOR_INTERRUPTS();
		visit_row(visit, rel, columns, tuple);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	systable_endscan(scan);
	MemoryContextDelete(context);
}

/*
 * Visit the workspaces of a table, only the one with this name unless that is NULL.  A
 * table that is gone, or is no longer a table of states, has none.
 */
static void
visit_table(const Visit *visit, Oid relid, const char *name)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	AttrNumber	columns[NUM_STATE_COLUMNS];

	if (rel == NULL)
		return;
	if (tfstate_state_columns(rel, columns))
		visit_rows(visit, rel, columns, name);
	relation_close(rel, AccessShareLock);
}

/*
 * Visit the workspaces of a table, only the one with this name unless that is NULL, as of
 * the statement's snapshot.  The privileges of the current role do not matter.  What a
 * visit allocates is freed after it.
 */
void
tfstate_visit_table(Oid relid, const char *name, WorkspaceVisitor visitor, void *arg)
{
	Visit		visit = {"*", list_make1("*"), visitor, arg};

	visit_table(&visit, relid, name);
}

/*
 * Visit the workspaces whose lockids match a pattern and that the current role may view,
 * as of the statement's snapshot, so that a query sees here what it sees in the tables
 * themselves.  What a visit allocates is freed after it.  Error if the pattern is not one.
 */
void
tfstate_visit_workspaces(const char *pattern, WorkspaceVisitor visitor, void *arg)
{
	Visit		visit = {pattern, tfstate_privileges("view"), visitor, arg};
	ListCell   *lc;

	tfstate_check_pattern(pattern);
	tfstate_tell_if_blind("view", visit.privileges);
	if (strchr(pattern, '*') == NULL)
	{
		const char *name;
		Oid			relid = tfstate_lockid_table(pattern, &name);

		if (OidIsValid(relid))
			visit_table(&visit, relid, name);
		return;
	}
	foreach(lc, tfstate_attached_tables())
	{
		char	   *prefix = tfstate_workspace_lockid(lfirst_oid(lc), "");

		/* a table without workspaces for the role may be locked: leave it */
		if (prefix && tfstate_allowed_below(list_make1(pstrdup(pattern)), prefix) &&
			tfstate_allowed_below(visit.privileges, prefix))
			visit_table(&visit, lfirst_oid(lc), NULL);
	}
}

/*
 * Read serial, lineage and Terraform's version of a stored text; only its beginning if
 * they are all there.
 */
static void
read_stored_head(Datum data, StateFacts *facts)
{
	text	   *head = DatumGetTextPSlice(data, 0, TFSTATE_HEAD_BYTES);

	if (!tfstate_read_head(VARDATA_ANY(head), VARSIZE_ANY_EXHDR(head), facts))
	{
		text	   *all = DatumGetTextPP(data);

		tfstate_read_facts(VARDATA_ANY(all), VARSIZE_ANY_EXHDR(all), facts);
	}
}

static void
put_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = (text == NULL);
	if (text)
		values[column] = CStringGetTextDatum(text);
}

static void
put_state(const Workspace *workspace, void *arg)
{
	ReturnSetInfo *result = arg;
	StateFacts	facts = {0};
	Datum		values[8];
	bool		nulls[8] = {0};

	if (!workspace->is_null)
		read_stored_head(workspace->data, &facts);
	put_text(values, nulls, 0, workspace->lockid);
	values[1] = ObjectIdGetDatum(workspace->relid);
	values[2] = Int64GetDatum(workspace->id);
	values[3] = Int64GetDatum(facts.serial);
	nulls[3] = !facts.has_serial;
	put_text(values, nulls, 4, facts.lineage);
	put_text(values, nulls, 5, facts.terraform_version);
	nulls[6] = workspace->is_null;
	if (!nulls[6])
		values[6] = Int64GetDatum((int64) toast_raw_datum_size(workspace->data) - VARHDRSZ);
	values[7] = BoolGetDatum(facts.encrypted);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * tfstate_states(pattern text)
 * returns setof (workspace text, "table" regclass, id bigint, serial bigint,
 *				  lineage text, terraform_version text, size bigint, encrypted boolean)
 */
Datum
tfstate_states(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	tfstate_visit_workspaces(text_to_cstring(PG_GETARG_TEXT_PP(0)), put_state, fcinfo->resultinfo);
	PG_RETURN_NULL();
}

static void
put_table_row(const Workspace *workspace, void *arg)
{
	ReturnSetInfo *result = arg;
	Datum		values[3];
	bool		nulls[3] = {0};

	values[0] = ObjectIdGetDatum(workspace->relid);
	put_text(values, nulls, 1, workspace->lockid);
	values[2] = Int64GetDatum(workspace->id);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * tfstate_internal.rows() returns setof ("table" regclass, workspace text, id bigint)
 *
 * All rows of all attached tables.  The states are not read.
 */
Datum
tfstate_rows(PG_FUNCTION_ARGS)
{
	Visit		visit = {"*", list_make1("*"), put_table_row, fcinfo->resultinfo, true};
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	foreach(lc, tfstate_attached_tables())
		visit_table(&visit, lfirst_oid(lc), NULL);
	PG_RETURN_NULL();
}

/*
 * Error unless the current role may read the texts of the states of a workspace: it needs
 * the privilege "view", and SELECT on the table.
 */
void
tfstate_check_read(const char *lockid)
{
	const char *name;
	Oid			relid = tfstate_lockid_table(lockid, &name);

	tfstate_check_privilege(lockid, "view");
	if (OidIsValid(relid) ? !tfstate_may_read_states(relid) : !tfstate_is_owner())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for the states of workspace \"%s\"",
						tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
				 errdetail("To read them, a role needs SELECT on the table.  If the table no longer exists, only the owner of the extension can.")));
}

/*
 * tfstate_version(workspace text, number bigint) returns text
 */
Datum
tfstate_version(PG_FUNCTION_ARGS)
{
	char	   *lockid = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *text;
	size_t		len;

	tfstate_check_lockid(lockid);
	tfstate_check_read(lockid);
	text = tfstate_version_text(lockid, PG_GETARG_INT64(1), &len);

	PG_RETURN_TEXT_P(cstring_to_text_with_len(text, (int) len));
}
