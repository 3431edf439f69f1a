/*-------------------------------------------------------------------------
 *
 * guard.c
 *	  The trigger that guards a table of states.
 *
 * It fires after each row that is written or deleted, and before TRUNCATE.  (Not before
 * a write: INSERT ... ON CONFLICT DO UPDATE, with which Terraform writes, fires BEFORE
 * INSERT triggers for an update, too.)
 *
 * The table must have the name under which it was attached, which its lockids have.
 *
 * 	1. A session that creates a workspace under the creation key exchanges the key for
 * 	   the workspace's lock (creation.c).
 * 	2. The session must be allowed to write the workspace: it must hold the lock, or be
 * 	   one of those that may write without it (writer.c).  The lock then stays as it is
 * 	   until the transaction ends.
 * 	3. The text must be a state.  Its serial must be greater than the one before, and its
 * 	   lineage the same, unless it replaces an empty state.
 * 	4. The version is recorded (record.c), and old ones are pruned (prune.c).
 *
 * All that is part of the transaction that writes: a crash or a rollback leaves neither
 * the write nor its version, and the lock as it was.  An error in any step undoes the
 * write.  Its message says what happened, who caused it, and the way out (refusal.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "common/attached.h"
#include "common/compat.h"
#include "common/limits.h"
#include "common/lockid.h"
#include "common/privilege.h"
#include "common/scan.h"
#include "common/settings.h"
#include "common/text.h"
#include "common/workspace.h"
#include "lock/freeze.h"
#include "lock/holding.h"
#include "lock/lookup.h"
#include "lock/owner.h"
#include "lock/report.h"
#include "state/creation.h"
#include "state/facts.h"
#include "state/guard.h"
#include "state/prune.h"
#include "state/record.h"
#include "state/refusal.h"
#include "state/version.h"
#include "state/writer.h"

PG_FUNCTION_INFO_V1(tfstate_guard);

/*
 * The lockid of the workspace that tfstate_rollback() is writing, NULL for none.  A write
 * of that may go back in serial and lineage; all other checks apply.
 *
 * rollback.c sets this for the time of its INSERT, and resets it even after an error.  It
 * is a variable because a trigger gets no arguments from the statement that fires it.
 */
const char *tfstate_rolling_back = NULL;

/*
 * Error unless the text is a state.
 */
static void
check_text(const char *lockid, const StateFacts *facts)
{
	if (facts->valid && facts->has_serial && facts->lineage)
		return;
	tfstate_report_refusal(lockid, COUNT_REFUSED_TEXT, "the new text is not a state");
	if (!facts->valid)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_JSON_TEXT),
				 errmsg("cannot change the state of workspace \"%s\": the new state is not a JSON object",
						tfstate_one_line(lockid, TFSTATE_MAX_LOCKID))));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_JSON_TEXT),
			 errmsg("cannot change the state of workspace \"%s\": the new state has no serial or no lineage",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
			 errdetail("A state has a number under the key \"serial\" and a string under \"lineage\".")));
}

/*
 * Return true if a state has neither resources nor outputs.  Terraform puts such a state
 * into a workspace that it creates, at serial 1, and may at once replace it by a state of
 * another lineage, when it moves that there.
 */
static bool
is_empty(const StateText *text)
{
	StateFacts	facts;

	tfstate_read_facts(text->data, (int) text->len, &facts);
	return facts.valid && !facts.encrypted && !facts.has_resources && facts.outputs == 0;
}

/*
 * Error unless the text before, which may be none, can be replaced by one with these
 * facts.
 */
static void
guard_text(const char *lockid, const StateText *before, const StateFacts *new)
{
	StateFacts	old;
	bool		same_lineage;

	check_text(lockid, new);
	if (before->data == NULL)
		return;
	if (!tfstate_read_head(before->data, (int) before->len, &old))
		tfstate_read_facts(before->data, (int) before->len, &old);
	if (!old.has_serial ||
		(tfstate_rolling_back && strcmp(tfstate_rolling_back, lockid) == 0))
		return;
	/* Terraform takes an empty lineage for that of any state */
	same_lineage = old.lineage == NULL || *old.lineage == '\0' || *new->lineage == '\0' ||
		strcmp(old.lineage, new->lineage) == 0;
	if ((old.serial == 0 || !same_lineage) && is_empty(before))
		return;
	if (!same_lineage)
		tfstate_refuse_lineage(lockid, old.lineage, new->lineage);
	if (new->serial <= old.serial)
		tfstate_refuse_serial(lockid, old.serial, new->serial);
}

/*
 * How strictly a workspace is guarded: as tfstate.guard says, but not less than is set
 * for its table.  Error if tfstate.guard is "off" and the role may not override.
 */
static GuardLevel
guard_level(const char *lockid, const AttachedTable *table)
{
	if (tfstate_guard_level != GUARD_OFF)
		return Max(tfstate_guard_level, table->guard);
	if (tfstate_may(lockid, "override"))
		return GUARD_OFF;
	tfstate_report_refusal(lockid, COUNT_REFUSED_PRIVILEGE,
						   "tfstate.guard is off, and the role may not override");
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to change the state of workspace \"%s\" with tfstate.guard = off",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
			 errdetail("Role \"%s\" has no grant of privilege \"override\" that matches it.",
					   GetUserNameFromId(GetUserId(), false)),
			 errhint("An administrator can give it with tfstate_grant().")));
	return GUARD_OFF;
}

static bool
is_same_text(const StateText *a, const StateText *b)
{
	return a->data && b->data && a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/*
 * Let a write pass without the guard, except where the workspace is frozen.  Returns true if
 * its lock is ours; *holding then is that.
 */
static bool
override(const char *lockid, Holding *holding)
{
	bool		found = tfstate_current_holding(lockid, holding);
	bool		ours = found && tfstate_may_write_under(holding);

	if (!ours)
		tfstate_check_write_frozen(lockid, false);
	tfstate_report_override(lockid, found && !ours && !tfstate_holding_expired(holding) ?
							holding : NULL);
	return ours;
}

/*
 * Guard and record the write of a workspace.  before is NULL for a new one, after for a
 * deletion; else both have its lockid.
 */
static void
guard_change(const AttachedTable *table, const StateRow *before, const StateRow *after)
{
	static const StateText nothing = {0};
	const char *lockid = after ? after->lockid : before->lockid;
	const StateText *old_text = before ? &before->text : &nothing;
	const StateText *new_text = after ? &after->text : &nothing;
	const StateText *known_text = after ? new_text : old_text;
	GuardLevel	level = guard_level(lockid, table);
	StateFacts	facts;
	Holding		holding;
	bool		ours;

	if (after && new_text->data == NULL)
	{
		tfstate_report_refusal(lockid, COUNT_REFUSED_TEXT, "the new text is null");
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("cannot change the state of workspace \"%s\": the new state is null",
						tfstate_one_line(lockid, TFSTATE_MAX_LOCKID))));
	}
	ours = level == GUARD_OFF ? override(lockid, &holding) :
		tfstate_check_writer(before, after, level, &holding) == LOCK_OURS;
	if (is_same_text(old_text, new_text))
		return;
	tfstate_read_facts(known_text->data, (int) known_text->len, &facts);
	if (after && level != GUARD_OFF)
		guard_text(lockid, old_text, &facts);
	tfstate_record_version(lockid, old_text, new_text, &facts, ours ? &holding : NULL);
	tfstate_prune_in_passing(lockid, table);
}

/*
 * Find the columns of a table of states, by StateColumn.  Error if it is no longer one.
 */
static void
require_columns(Relation rel, AttrNumber *columns)
{
	if (!tfstate_state_columns(rel, columns))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is no longer a table of Terraform states",
						RelationGetRelationName(rel)),
				 errdetail("Such a table has the columns id bigint, name text and data text.")));
}

/*
 * Read the row in a tuple of a table of states; the text stays where the tuple has it, or
 * is detoasted.  Returns false if the row has no name, and so is not a workspace.  Error
 * if the table is no longer a table of states.
 */
static bool
read_row(Relation rel, HeapTuple tuple, StateRow *row)
{
	TupleDesc	desc = RelationGetDescr(rel);
	AttrNumber	columns[NUM_STATE_COLUMNS];
	bool		isnull;
	Datum		value;

	require_columns(rel, columns);
	memset(row, 0, sizeof(StateRow));
	value = heap_getattr(tuple, columns[STATE_NAME], desc, &isnull);
	if (isnull)
		return false;
	row->lockid = tfstate_workspace_lockid(RelationGetRelid(rel), TextDatumGetCString(value));
	tfstate_check_lockid(row->lockid);
	row->id = DatumGetInt64(heap_getattr(tuple, columns[STATE_ID], desc, &isnull));
	value = heap_getattr(tuple, columns[STATE_DATA], desc, &isnull);
	if (!isnull)
	{
		text	   *data = DatumGetTextPP(value);

		row->text.data = VARDATA_ANY(data);
		row->text.len = VARSIZE_ANY_EXHDR(data);
		if (VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(value)))
			row->text.toasted = DatumGetPointer(value);
	}
	return true;
}

/*
 * Guard TRUNCATE, which deletes all workspaces: also those that the transaction's
 * snapshot does not see.
 */
static void
guard_truncate(Relation rel, const AttachedTable *table)
{
	MemoryContext context;
	AttrNumber	columns[NUM_STATE_COLUMNS];
	TableScan	scan;
	HeapTuple	tuple;
	StateRow	row;

	require_columns(rel, columns);
	context = AllocSetContextCreate(CurrentMemoryContext, "tfstate workspace",
									ALLOCSET_DEFAULT_SIZES);
	tfstate_begin_scan(&scan, rel, InvalidOid, NULL, 0, NULL);
	while ((tuple = tfstate_next_row(&scan, ForwardScanDirection)) != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		if (read_row(rel, tuple, &row))
			guard_change(table, &row, NULL);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	tfstate_end_scan(&scan);
	MemoryContextDelete(context);
}

/*
 * Guard the write of a row.  A workspace that gets another name is deleted and created.
 */
static void
guard_row(TriggerData *trigger, const AttachedTable *table)
{
	Relation	rel = trigger->tg_relation;
	HeapTuple	old = TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ? NULL : trigger->tg_trigtuple;
	HeapTuple	new = TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ? trigger->tg_trigtuple :
		trigger->tg_newtuple;
	bool		has_before;
	bool		has_after;
	StateRow	before;
	StateRow	after;

	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		new = NULL;
	has_before = old && read_row(rel, old, &before);
	has_after = new && read_row(rel, new, &after);
	if (has_after && TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		tfstate_exchange_creation_key(table->relid, after.lockid, after.id);
	if (has_before && has_after && strcmp(before.lockid, after.lockid) == 0)
	{
		guard_change(table, &before, &after);
		return;
	}
	if (has_before)
		guard_change(table, &before, NULL);
	if (has_after)
		guard_change(table, NULL, &after);
}

/*
 * tfstate_internal.guard() returns trigger
 *
 * The trigger of an attached table: AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW, and
 * BEFORE TRUNCATE FOR EACH STATEMENT.
 */
Datum
tfstate_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	AttachedTable table;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		(TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) ?
		 !TRIGGER_FIRED_BEFORE(trigger->tg_event) :
		 !(TRIGGER_FIRED_AFTER(trigger->tg_event) && TRIGGER_FIRED_FOR_ROW(trigger->tg_event))))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired AFTER a row or BEFORE TRUNCATE",
						TFSTATE_INTERNAL ".guard")));
	if (!tfstate_attached_table(RelationGetRelid(trigger->tg_relation), &table))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not attached",
						RelationGetRelationName(trigger->tg_relation)),
				 errhint("Attach it with tfstate_attach(), or drop its trigger \"%s\".",
						 trigger->tg_trigger->tgname)));
	tfstate_check_table_name(&table);
	tfstate_check_settings();
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		guard_truncate(trigger->tg_relation, &table);
	else
		guard_row(trigger, &table);
	return PointerGetDatum(NULL);
}
