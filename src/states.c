/*-------------------------------------------------------------------------
 *
 * states.c
 *	  SQL functions that list, read and check the states in the attached tables.
 *
 * A role sees the workspaces for which it has the privilege "view".  The text of
 * a state can hold secrets: to read that, it must also have SELECT on the table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "compat.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "states.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "version.h"

PG_FUNCTION_INFO_V1(tfstate_states);
PG_FUNCTION_INFO_V1(tfstate_version);
PG_FUNCTION_INFO_V1(tfstate_verify_workspace);
PG_FUNCTION_INFO_V1(tfstate_repair);
PG_FUNCTION_INFO_V1(tfstate_record_states);
PG_FUNCTION_INFO_V1(tfstate_rows);

/* Who visits which workspaces. */
typedef struct Visit
{
	const char *pattern;		/* of their lockids */
	List	   *privileges;		/* the patterns that may be viewed */
	WorkspaceVisitor visitor;
	void	   *arg;			/* the visitor's */
	bool		nameless;		/* also rows without a name, which are none? */
} Visit;

/*
 * Visit the workspace of a row, unless it is left out.
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
		if (workspace.lockid == NULL || !tfstate_pattern_matches(workspace.lockid, visit->pattern) ||
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
 * Visit the rows of a table, or the one that has a name.
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
 * Visit the workspaces of a table, or the one that has a name.  What is gone, or no
 * table of states any more, has none.
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

/* All workspaces of a table may be visited. */
static Visit
visit_all(WorkspaceVisitor visitor, void *arg)
{
	Visit		visit = {"*", list_make1("*"), visitor, arg};

	return visit;
}

/*
 * Visit all workspaces whose lockid matches a pattern and which the current role may
 * view, as of the statement's snapshot: what a query finds here fits what it finds in
 * the tables themselves.  What a visit allocates is freed after it.
 */
void
tfstate_visit_workspaces(const char *pattern, WorkspaceVisitor visitor, void *arg)
{
	Visit		visit = {pattern, tfstate_privileges("view"), visitor, arg};
	ListCell   *lc;

	tfstate_check_pattern(pattern);
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

		/* A table that has nothing for the role is not opened: it may be locked. */
		if (prefix && tfstate_allowed_below(list_make1(pstrdup(pattern)), prefix) &&
			tfstate_allowed_below(visit.privileges, prefix))
			visit_table(&visit, lfirst_oid(lc), NULL);
	}
}

/*
 * Read serial, lineage and version of a stored text, without reading it whole if they
 * stand at its beginning.
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
 * tfstate_rows() returns setof ("table" regclass, workspace text, id bigint)
 *
 * All rows of all attached tables, without a look at the states.
 */
Datum
tfstate_rows(PG_FUNCTION_ARGS)
{
	Visit		visit;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	visit = visit_all(put_table_row, fcinfo->resultinfo);
	visit.nameless = true;
	foreach(lc, tfstate_attached_tables())
		visit_table(&visit, lfirst_oid(lc), NULL);
	PG_RETURN_NULL();
}

/*
 * Error unless the current role may read the texts of a workspace's states.
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
				 errdetail("To read them, a role needs SELECT on the table; where there is none any more, only the owner of the extension can.")));
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

/* A text to be taken along from a visit. */
typedef struct TakenText
{
	MemoryContext context;		/* where to */
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
 * The text that is in the table as of the statement's snapshot; none if there is no
 * such workspace.
 */
static StateText
statement_text(Oid relid, const char *name)
{
	TakenText	taken = {CurrentMemoryContext};
	Visit		visit = visit_all(take_text, &taken);

	visit_table(&visit, relid, name);
	return taken.text;
}

/*
 * The text that is in the table now; none if there is no such workspace.
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
 * Compare what is in the table with the newest version, both as of one snapshot: beside a
 * writer, each of two would be right, and they would differ.  A workspace whose table is
 * not attached, or has another name by now, is passed over unless named says that the
 * caller asked for just this one.
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
					current.data == NULL ? "the workspace was deleted without being recorded" :
					VERSION_NULL(&newest, size) ? "the workspace was created without being recorded" :
					"the state in the table is not the one that was recorded");
}

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
			put_problem(result, &reader.version, "the version is damaged, or one that it depends on");
		previous = number;
	}
	tfstate_close_versions(&reader);
}

/*
 * tfstate_verify_workspace(workspace text, versions boolean, named boolean)
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
 * If the newest version, whose text is in the table, cannot be restored, those to come
 * must not depend on it.
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
 * The number of the newest version; NULL if there is none, the state having been NULL
 * all the time.
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
	/* waits for tfstate_attach(), which records all states of the table without V */
	LockRelationOid(relid, RowExclusiveLock);
	(void) tfstate_lock_versions(lockid, true);
	/* no row must be moved, by VACUUM FULL, say, before it is mended */
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

/* Record a state as found, unless it is the newest version. */
static void
record_state(const Workspace *workspace, void *arg)
{
	StateText	found;
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
 * tfstate_record_states("table" regclass) returns void
 *
 * The caller has locked the table against writes.  A table can have more workspaces than
 * the server's lock table has room for, so V of each is not taken.
 */
Datum
tfstate_record_states(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Relation	rel;
	Visit		visit;

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
	visit = visit_all(record_state, NULL);
	visit_table(&visit, relid, NULL);
	relation_close(rel, NoLock);
	PG_RETURN_VOID();
}

/*
 * Is the name of the table, or of its schema, in a lockid where that of a workspace of the
 * table would have it?
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
 * Tell somebody who has locked what looks like a workspace and is none: a slip of the pen
 * would freeze nothing, and an ordinary lockid seldom looks like that.
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
