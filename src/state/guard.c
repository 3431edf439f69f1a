/*-------------------------------------------------------------------------
 *
 * guard.c
 *	  The trigger that guards a table of states.
 *
 * It is fired after each row that is written or deleted, and before TRUNCATE.
 * (Not before a write: an INSERT ... ON CONFLICT DO UPDATE, which is how
 * Terraform writes, fires BEFORE INSERT triggers for an update too.)
 *
 * 	1. Whoever creates a workspace under the creation key exchanges that for the
 * 	   workspace's lock (shim.c).
 * 	2. The workspace must not be locked by somebody else, now or until the
 * 	   commit.  If the lock is ours, its row is locked against changes, where that
 * 	   could be deleted by others; else K is kept for the transaction, too, should the
 * 	   session give the lock back before the commit, or prepare it.  If nobody has it, K is taken, and a share of the
 * 	   built-in lock of a Terraform without tfstate.  The row of an expired lease that
 * 	   somebody is changing counts as held: it may be being renewed.
 * 	   Where the lock is required and not ours, three writes pass: any under the
 * 	   built-in lock of the workspace's id, unless that session was refused one before;
 * 	   the deletion by the session, or the run that has a name, that had the last
 * 	   lock, if nothing was written since; and the deletion of a state without
 * 	   resources.  Whoever writes without the lock must be allowed to take it.
 * 	   What is left of an earlier holding is ended by that write, so that nobody comes
 * 	   back to it.
 * 	3. The text must be a state, its serial must grow and its lineage must stay,
 * 	   unless it replaces an empty one.
 * 	4. The version is recorded (version.c).
 *
 * All that is part of the transaction that writes, so a crash or a rollback leaves
 * neither the write nor its version, and the lock as it was.  An error in any step
 * undoes the write.  Terraform then keeps the state that
 * it wanted to write in the file errored.tfstate, and shows the primary message,
 * which therefore says what happened, who it was, and the way out.  Terraform's own
 * advice is to push that file, which after a lost lock would overwrite what somebody
 * else has written.
 *
 * What a session remembers never lets a write pass by itself: the lock tables, history
 * and versions have to confirm it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/attached.h"
#include "common/compat.h"
#include "common/limits.h"
#include "common/lockid.h"
#include "common/privilege.h"
#include "common/scan.h"
#include "common/settings.h"
#include "common/text.h"
#include "common/workspace.h"
#include "lock/commit.h"
#include "lock/conflict.h"
#include "lock/describe.h"
#include "lock/history.h"
#include "lock/holding.h"
#include "lock/lookup.h"
#include "lock/owner.h"
#include "lock/release.h"
#include "lock/session.h"
#include "lock/tag.h"
#include "lock/wait.h"
#include "state/facts.h"
#include "state/guard.h"
#include "state/prune.h"
#include "state/shim.h"
#include "state/version.h"

PG_FUNCTION_INFO_V1(tfstate_guard);

/* Said of a state that was refused, for Terraform says: push it. */
#define COMPARE_FIRST	"; before pushing errored.tfstate, compare it with the output of \"terraform state pull\""

#define UNLOCKED_HINT	"Terraform locks by itself, but for -lock=false.  In SQL, call tfstate_lock() and read the state again, or show the fence of the lock in tfstate.fence."

/* How long somebody else may be about to take the lock, and when we look what came of it. */
#define MAX_WAIT_USECS	USECS_PER_SEC
#define LOOK_USECS		(USECS_PER_SEC / 20)

/* One row of a table of states. */
typedef struct StateRow
{
	char	   *lockid;
	int64		id;
	StateText text;
} StateRow;

/* The workspace that rollback.c writes, which may go back in serial and lineage. */
const char *tfstate_rolling_back = NULL;

/*
 * The workspaces that this session was refused to write and has not locked since,
 * by their lockids, in TopMemoryContext, and who it was.
 *
 * A Terraform that lost its lock raises its serial with each attempt, and would get
 * through with the second where the lock is not required, or where the session has the
 * built-in lock: that can be had while a durable lock is held whose session is gone.
 */
static List *refused = NIL;
static Caller refused_caller;

/* The entry of a workspace, NULL if there is none. */
static ListCell *
find_refusal(const char *lockid)
{
	ListCell   *lc;

	if (refused != NIL && !tfstate_is_caller(&refused_caller))
	{
		list_free_deep(refused);
		refused = NIL;
	}
	foreach(lc, refused)
	{
		if (strcmp(lfirst(lc), lockid) == 0)
			return lc;
	}
	return NULL;
}

static void
remember_refusal(const char *lockid)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	if (find_refusal(lockid) == NULL)
		refused = lappend(refused, pstrdup(lockid));
	if (list_length(refused) == 1)
		tfstate_note_caller(&refused_caller);
	MemoryContextSwitchTo(old);
}

static void
forget_refusal(const char *lockid)
{
	ListCell   *lc = find_refusal(lockid);

	if (lc)
	{
		pfree(lfirst(lc));
		refused = list_delete_cell(refused, lc);
	}
}

static const char *
shown(const char *lockid)
{
	return tfstate_one_line(lockid, TFSTATE_MAX_LOCKID);
}

/*
 * Error unless the role may lock a workspace, which it writes without having its lock.
 * Nor is who holds the lock told to one that may not.
 */
static void
check_may_lock(const char *lockid)
{
	char	   *role;

	if (tfstate_allowed(tfstate_privileges("lock"), lockid))
		return;
	role = GetUserNameFromId(GetUserId(), false);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to change the state of workspace \"%s\": role \"%s\" may not lock it; an administrator can give it that privilege with tfstate_grant()",
					shown(lockid), role),
			 errdetail("Whoever writes a state without having its lock must have the privilege \"lock\" on it."),
			 errhint("Run as an administrator: SELECT tfstate_grant(%s, %s);",
					 quote_literal_cstr(role), quote_literal_cstr(shown(lockid)))));
}

static void
refuse_held(const char *lockid, const Holding *holder)
{
	check_may_lock(lockid);
	remember_refusal(lockid);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot change the state of workspace \"%s\": its lock is held by %s; ask them, or release the lock with tfstate_force_unlock(), then run again" COMPARE_FIRST,
					shown(lockid), tfstate_describe_holding(holder, false)),
			 errhint("To release the lock: %s", tfstate_force_unlock_call(lockid, holder))));
}

static void
refuse_fence(const char *lockid, const Holding *holder)
{
	check_may_lock(lockid);
	remember_refusal(lockid);
	if (holder)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot change the state of workspace \"%s\": its lock is not held under fence %lld, but under fence %lld by %s",
						shown(lockid), (long long) tfstate_fence,
						(long long) HOLDING_INT64(holder, fence),
						tfstate_describe_holding(holder, false)),
				 errhint("Take the lock, read the state again and write under the new fence.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot change the state of workspace \"%s\": its lock is not held, under fence %lld or any other",
					shown(lockid), (long long) tfstate_fence),
			 errhint("Take the lock, read the state again and write under the new fence.")));
}

/* Has this session locked the id as a Terraform without tfstate does? */
static bool
has_builtin(int64 id)
{
	LOCKTAG		tag = tfstate_builtin_tag(id);

	return compat_lock_held_by_me(&tag, ExclusiveLock);
}

/*
 * Have this transaction be the only one that could take the lock.  Returns false if
 * somebody else has K: for a moment while he tries to, or because he holds the lock by
 * now.  He may in turn be waiting for our row, so do not wait for long.  Error after the
 * deadline, or if a Terraform without tfstate has the lock.
 */
static bool
keep_unlocked(const StateRow *row, const LOCKTAG *key, TimestampTz deadline)
{
	bool		had_key = compat_lock_held_by_me(key, ExclusiveLock);
	LockConflict conflict = {0};
	WaitLimit	limit;

	check_may_lock(row->lockid);
	if (!had_key)
		tfstate_check_lock_count();
	tfstate_start_wait(&limit, LOOK_USECS);
	conflict.tag = *key;
	if (tfstate_try_tag(key) || tfstate_wait_tag(key, &limit))
	{
		conflict.tag = tfstate_builtin_tag(row->id);
		if (tfstate_try_tag(&conflict.tag))
		{
			if (!had_key)
				tfstate_count_lock();
			return true;
		}
	}
	else if (GetCurrentTimestamp() < deadline)
		return false;
	remember_refusal(row->lockid);
	tfstate_raise_conflict(row->lockid, &conflict);
	return false;
}

/*
 * Error if somebody else holds the lock of a workspace.  Returns whether we do, with
 * the holding.  Either stays so until the end of the transaction.
 */
static bool
check_lock(const StateRow *row, Holding *holding)
{
	LOCKTAG		key = tfstate_lock_tag(row->lockid);
	TimestampTz deadline = GetCurrentTimestamp() + MAX_WAIT_USECS;
	bool		kept = false;

	for (;;)
	{
		bool		found = tfstate_current_holding(row->lockid, holding);

		CHECK_FOR_INTERRUPTS();
		if (found && !tfstate_holding_expired(holding))
		{
			if (tfstate_fence != 0 && tfstate_fence != HOLDING_INT64(holding, fence))
				refuse_fence(row->lockid, holding);
			if (!tfstate_is_ours(holding))
				refuse_held(row->lockid, holding);
			if (holding->durable || tfstate_holding_is_tied(holding))
			{
				if (tfstate_pin_holding(holding))
					return true;
			}
			else if (tfstate_try_tag(&key))
				return true;	/* K is the session's, and now the transaction's, too */
		}
		else if (kept || has_builtin(row->id))
		{
			/* who renews an expired lease needs no K; it may yet commit */
			if (found && TransactionIdIsValid(holding->changing))
				refuse_held(row->lockid, holding);
			/* who waits for the built-in lock has K, and gets no further */
			if (tfstate_fence != 0)
				refuse_fence(row->lockid, NULL);
			return false;
		}
		else
		{
			/* somebody may have taken it before we had K: look again */
			kept = keep_unlocked(row, &key, deadline);
		}
	}
}

/* Who wrote a version, and when. */
static char *
describe_writer(const Version *version)
{
	return psprintf("%s at %s",
					VERSION_NULL(version, who) ? "somebody" :
					tfstate_one_line(VERSION_TEXT(version, who), NAMEDATALEN),
					tfstate_format_time(DatumGetTimestampTz(VERSION_DATUM(version, created))));
}

/* Who wrote the newest version of a workspace, and when. */
static char *
describe_last_writer(const char *lockid)
{
	Version		newest;

	return tfstate_newest_version(lockid, &newest) ? describe_writer(&newest) : "nobody";
}

/*
 * Refuse a write without the lock: of the state that is there before, or of a new
 * workspace, or a deletion.
 */
static void
refuse_unlocked(const char *lockid, bool creation, bool deletion)
{
	if (deletion)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot delete workspace \"%s\": this session does not hold its lock, and its state, last written by %s, is not empty; lock it first",
						shown(lockid), describe_last_writer(lockid)),
				 errhint(UNLOCKED_HINT)));
	if (creation)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot create workspace \"%s\": this session holds neither its lock nor the one under which workspaces are created, or has lost it" COMPARE_FIRST,
						shown(lockid)),
				 errhint(UNLOCKED_HINT)));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot change the state of workspace \"%s\": this session does not hold its lock, or has lost it, and the state was last written by %s" COMPARE_FIRST,
					shown(lockid), describe_last_writer(lockid)),
			 errhint(UNLOCKED_HINT)));
}

static void
refuse_ousted(const char *lockid, const char *how)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot change the state of workspace \"%s\": this run has lost its lock (%s), and the state was last written by %s" COMPARE_FIRST,
					shown(lockid), how, describe_last_writer(lockid)),
			 errhint(UNLOCKED_HINT)));
}

/*
 * Does a lock table or history tell of a holding after this fence, or that the one of
 * this fence was not unlocked?
 */
static bool
locked_since(const char *lockid, int64 fence)
{
	Holding		left;
	int64		newest;
	int64		released;
	char	   *how;

	if (tfstate_find_row(lockid, false, &left, &newest) ?
		HOLDING_INT64(&left, fence) >= fence : newest > fence)
		return true;
	return tfstate_find_release(lockid, NULL, &released, &how, NULL) &&
		(released > fence || (released == fence && strcmp(how, HOW_UNLOCK) != 0));
}

/*
 * The fence of the lock of this workspace that the caller had and has unlocked, and
 * whether anything was written since, with the newest version then.  Returns false if it
 * has unlocked none.  That is what this session remembers; or else what history tells of
 * the caller's run, which behind a pooler may have unlocked in another session.
 */
static bool
find_unlocked(const char *lockid, int64 *fence, bool *written, Version *newest)
{
	const char *run = tfstate_my_run();
	bool		known = tfstate_newest_version(lockid, newest);
	int64		number;
	char	   *how;
	TimestampTz released_at;

	if (tfstate_released_last(lockid, fence, &number))
	{
		*written = known && VERSION_INT64(newest, number) != number;
		return true;
	}
	if (run == NULL || !tfstate_find_release(lockid, run, fence, &how, &released_at) ||
		strcmp(how, HOW_UNLOCK) != 0)
		return false;
	*written = known &&
		(VERSION_NULL(newest, fence) ?
		 DatumGetTimestampTz(VERSION_DATUM(newest, created)) > released_at :
		 VERSION_INT64(newest, fence) > *fence);
	return true;
}

/*
 * Terraform unlocks a workspace just before it deletes it.  Returns whether that is what
 * happens here: the caller had the last lock there was, and nothing was written since.
 * Error if something was.  The caller has seen to it that nobody holds the lock.
 */
static bool
check_deleter(const char *lockid)
{
	int64		fence;
	bool		written;
	Version		newest;

	if (!find_unlocked(lockid, &fence, &written, &newest))
		return false;
	if (written)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot delete workspace \"%s\": its state was written by %s, after this run had unlocked it; look at it, then run again",
						shown(lockid), describe_writer(&newest))));
	return !locked_since(lockid, fence);
}

/*
 * Has a state nothing that could be lost with it?  An encrypted one may have, and what
 * is no state.
 */
static bool
has_no_resources(const StateText *text)
{
	StateFacts	facts;

	if (text->data == NULL)
		return true;
	tfstate_read_facts(text->data, (int) text->len, &facts);
	return facts.valid && !facts.encrypted && !facts.has_resources;
}

/*
 * End what is left of a holding that could come to life again after somebody else has
 * written: a tied one, when its session takes its creation key once more, and a lease,
 * when it is renewed.  Error if that happens just now.
 */
static void
drop_left(const char *lockid)
{
	Holding		left;
	int64		newest;
	bool		expired;

	if (!tfstate_find_row(lockid, false, &left, &newest))
		return;
	expired = tfstate_holding_expired(&left);
	if ((expired || tfstate_holding_is_tied(&left)) &&
		!tfstate_release(&left, expired ? HOW_EXPIRED : HOW_UNLOCK, NULL) &&
		tfstate_current_holding(lockid, &left))
		refuse_held(lockid, &left);
}

/*
 * How this session's run has lost the lock of a workspace, in words, if it has had it
 * and not released it; else NULL.  A session without a name for its run is no such run.
 */
static const char *
how_ousted(const char *lockid)
{
	const char *run = tfstate_my_run();
	Holding		left;
	int64		fence;
	char	   *how;

	if (run == NULL)
		return NULL;
	if (tfstate_find_row(lockid, false, &left, &fence) && !HOLDING_NULL(&left, run_id) &&
		strcmp(run, HOLDING_TEXT(&left, run_id)) == 0)
		how = left.durable ? HOW_EXPIRED : HOW_RECLAIMED;
	else if (!tfstate_find_release(lockid, run, &fence, &how, NULL))
		return NULL;
	if (strcmp(how, HOW_FORCE) == 0)
		return "it was released by force";
	if (strcmp(how, HOW_EXPIRED) == 0)
		return "it has expired";
	return strcmp(how, HOW_RECLAIMED) == 0 ? "its connection was lost" : NULL;
}

/*
 * Error if this session was refused a write of a workspace and has not locked it since:
 * what it has read may be older than what is there.
 */
static void
check_not_refused(const char *lockid)
{
	if (find_refusal(lockid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot change the state of workspace \"%s\": this session was refused that before, and does not hold the lock" COMPARE_FIRST,
						shown(lockid)),
				 errhint(UNLOCKED_HINT)));
}

/*
 * Error unless a write or a deletion without the lock passes.  Nobody has the lock.
 */
static void
check_unlocked(const StateRow *row, GuardLevel level, const StateRow *before, bool deletion)
{
	const char *how;

	if (deletion && (check_deleter(row->lockid) || has_no_resources(&row->text)))
		return;
	if (!deletion && (how = how_ousted(row->lockid)) != NULL)
		refuse_ousted(row->lockid, how);
	if (level == GUARD_REQUIRE)
		refuse_unlocked(row->lockid, before == NULL, deletion);
	if (!deletion)
		check_not_refused(row->lockid);
}

/*
 * Step 2, for a row that is there before, unless that is NULL, and after, unless it is
 * a deletion.  Returns whether the lock is ours, with the holding.
 */
static bool
guard_lock(const StateRow *row, GuardLevel level, const StateRow *before, bool deletion,
		   Holding *holding)
{
	bool		ours = check_lock(row, holding);

	if (!ours)
	{
		check_may_lock(row->lockid);
		if (has_builtin(row->id))
			check_not_refused(row->lockid);
		else
			check_unlocked(row, level, before, deletion);
		drop_left(row->lockid);
	}
	else
		forget_refusal(row->lockid);
	return ours;
}

/*
 * Error unless the text is a state.
 */
static void
check_text(const char *lockid, const StateFacts *facts)
{
	if (!facts->valid)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_JSON_TEXT),
				 errmsg("cannot change the state of workspace \"%s\": the new one is not a JSON object",
						shown(lockid))));
	if (!facts->has_serial || facts->lineage == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_JSON_TEXT),
				 errmsg("cannot change the state of workspace \"%s\": the new one has no serial or no lineage",
						shown(lockid)),
				 errdetail("A state has the keys \"serial\", a number, and \"lineage\", a text.")));
}

static void
refuse_serial(const char *lockid, int64 before, int64 after)
{
	Version		newest;
	bool		found = tfstate_newest_version(lockid, &newest);

	remember_refusal(lockid);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot change the state of workspace \"%s\": the new one has serial %lld, but serial %lld was written by %s; read the state again" COMPARE_FIRST,
					shown(lockid), (long long) after, (long long) before,
					found ? describe_writer(&newest) : "somebody"),
			 found && VERSION_INT64(&newest, number) > 1 ?
			 errhint("What the last write changed: SELECT * FROM tfstate_diff(%s, %lld);",
					 quote_literal_cstr(shown(lockid)),
					 (long long) VERSION_INT64(&newest, number) - 1) : 0));
}

/*
 * Is there nothing in a state?  Terraform puts one like that into a workspace that it
 * creates, at serial 1, and can move a state of another lineage there at once.
 */
static bool
is_empty(const StateText *text)
{
	StateFacts	facts;

	tfstate_read_facts(text->data, (int) text->len, &facts);
	return facts.valid && !facts.encrypted && !facts.has_resources && facts.outputs == 0;
}

/*
 * Step 3: may the one text be replaced by one of which this is known?
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
	/* to Terraform, an empty lineage is that of any state */
	same_lineage = old.lineage == NULL || *old.lineage == '\0' || *new->lineage == '\0' ||
		strcmp(old.lineage, new->lineage) == 0;
	if ((old.serial == 0 || !same_lineage) && is_empty(before))
		return;
	if (!same_lineage)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot change the state of workspace \"%s\": it belongs to another project: the new state has lineage \"%s\", but the workspace has lineage \"%s\"; check which schema and workspace the backend is configured for; to replace the state on purpose, run with tfstate.guard=off",
						shown(lockid), tfstate_one_line(new->lineage, NAMEDATALEN),
						tfstate_one_line(old.lineage, NAMEDATALEN)),
				 errhint("Only a role with the privilege \"override\" can set tfstate.guard to \"off\".")));
	if (new->serial <= old.serial)
		refuse_serial(lockid, old.serial, new->serial);
}

/*
 * How strictly a workspace is guarded: as the session says, but not less than its
 * table says.  Error if it says "off" and may not.
 */
static GuardLevel
guard_level(const char *lockid, const AttachedTable *table)
{
	if (tfstate_guard_level != GUARD_OFF)
		return Max(tfstate_guard_level, table->guard);
	if (!tfstate_allowed(tfstate_privileges("override"), lockid))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to change the state of workspace \"%s\" with tfstate.guard = off",
						shown(lockid)),
				 errdetail("Role \"%s\" has no grant of privilege \"override\" that matches it.",
						   GetUserNameFromId(GetUserId(), false)),
				 errhint("An administrator can give it with tfstate_grant().")));
	return GUARD_OFF;
}

/*
 * A workspace is written, from before, or deleted, if after is NULL.
 */
static void
guard_change(const AttachedTable *table, const StateRow *before, const StateRow *after)
{
	static const StateText nothing = {0};
	const StateRow *row = after ? after : before;
	const StateText *old_text = before ? &before->text : &nothing;
	const StateText *new_text = after ? &after->text : &nothing;
	GuardLevel	level = guard_level(row->lockid, table);
	StateFacts	facts;
	Holding		holding;
	bool		ours;

	if (after && after->text.data == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("cannot change the state of workspace \"%s\": the new one is null", shown(row->lockid))));
	if (level == GUARD_OFF)
		ours = tfstate_current_holding(row->lockid, &holding) && tfstate_is_ours(&holding);
	else
	{
		/* a Terraform without tfstate may have locked the id that goes */
		if (before && before->id != row->id)
			(void) check_lock(before, &holding);
		ours = guard_lock(row, level, before, after == NULL, &holding);
	}
	if (after && before && old_text->len == new_text->len && old_text->data &&
		memcmp(old_text->data, new_text->data, new_text->len) == 0)
		return;
	tfstate_read_facts(after ? new_text->data : old_text->data,
					   (int) (after ? new_text->len : old_text->len), &facts);
	if (after && level != GUARD_OFF)
		guard_text(row->lockid, old_text, &facts);
	tfstate_record_version(row->lockid, old_text, new_text, &facts, ours ? &holding : NULL);
	tfstate_prune_in_passing(row->lockid, table);
}

/*
 * Find the columns of a table of states, by StateColumn.  Error if it is none by now.
 */
static void
require_columns(Relation rel, AttrNumber *columns)
{
	if (!tfstate_state_columns(rel, columns))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table of Terraform states any more",
						RelationGetRelationName(rel)),
				 errdetail("Such a table has the columns id bigint, name text and data text.")));
}

/*
 * The row in a tuple of a table of states.  Returns false if it has no name, and
 * so is no workspace.  Error if the table has other columns by now.
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
	}
	return true;
}

/*
 * TRUNCATE deletes all workspaces.
 */
static void
guard_truncate(Relation rel, const AttachedTable *table)
{
	Snapshot	snapshot;
	MemoryContext context;
	AttrNumber	columns[NUM_STATE_COLUMNS];
	SysScanDesc scan;
	HeapTuple	tuple;
	StateRow	row;

	require_columns(rel, columns);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	context = AllocSetContextCreate(CurrentMemoryContext, "tfstate workspace",
									ALLOCSET_DEFAULT_SIZES);
	scan = systable_beginscan(rel, InvalidOid, false, SnapshotAny, 0, NULL);
	while (HeapTupleIsValid(tuple = tfstate_next_visible(scan, snapshot)))
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		if (read_row(rel, tuple, &row))
			guard_change(table, &row, NULL);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	systable_endscan(scan);
	MemoryContextDelete(context);
	UnregisterSnapshot(snapshot);
}

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
 * Trigger of an attached table: AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW, and
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
						"tfstate_guard")));
	if (!tfstate_attached_table(RelationGetRelid(trigger->tg_relation), &table))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not attached",
						RelationGetRelationName(trigger->tg_relation)),
				 errhint("Attach it with tfstate_attach(), or drop its trigger \"%s\".",
						 trigger->tg_trigger->tgname)));
	tfstate_check_settings();
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		guard_truncate(trigger->tg_relation, &table);
	else
		guard_row(trigger, &table);
	return PointerGetDatum(NULL);
}
