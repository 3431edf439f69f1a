/*-------------------------------------------------------------------------
 *
 * refusal.c
 *	  Refused writes of states: their errors, and what a session remembers of them.
 *
 * Advice stands in the primary messages here, and not in the hints alone, because the
 * primary message is all that Terraform's driver, lib/pq, shows.  Terraform keeps the
 * state that it could not write in a file, errored.tfstate, and advises to push that
 * file.  After a lost lock this would overwrite what somebody else has written, so the
 * messages say what to do first.
 *
 * A Terraform that lost its lock raises its serial with each attempt.  The second one
 * would pass where the lock is not required, or where the session has the built-in lock:
 * that can be taken while a durable lock is held whose session is gone.  So a session
 * remembers which workspaces it was refused to write until it locks them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "common/limits.h"
#include "common/privilege.h"
#include "common/settings.h"
#include "common/text.h"
#include "lock/conflict.h"
#include "lock/describe.h"
#include "lock/report.h"
#include "lock/session.h"
#include "state/refusal.h"
#include "state/version.h"

/* Ends the message of a refused write, because Terraform advises to push the state. */
#define COMPARE_FIRST	"; before pushing errored.tfstate, compare it with the output of \"terraform state pull\""

#define UNLOCKED_HINT	"Terraform locks by itself, unless it is run with -lock=false.  In SQL, call tfstate_lock() and read the state again, or show the fence of the lock in tfstate.fence."

/*
 * The lockids of the workspaces that this session was refused to write and has not
 * locked since, in TopMemoryContext, and for which caller that was.
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

/*
 * The session has the lock of this workspace: forget that a write was refused.
 */
void
tfstate_forget_refusal(const char *lockid)
{
	ListCell   *lc = find_refusal(lockid);

	if (lc)
	{
		pfree(lfirst(lc));
		refused = list_delete_cell(refused, lc);
	}
}

/* A lockid as messages show it. */
static const char *
shown(const char *lockid)
{
	return tfstate_one_line(lockid, TFSTATE_MAX_LOCKID);
}

/*
 * Error unless the current role may lock this workspace, which it is about to write
 * without the lock.  Call this before telling it who holds the lock, too.
 */
void
tfstate_check_may_lock(const char *lockid)
{
	char	   *role;

	if (tfstate_may(lockid, "lock"))
		return;
	role = GetUserNameFromId(GetUserId(), false);
	tfstate_report_refusal(lockid, COUNT_REFUSED_PRIVILEGE,
						   "the role may not lock it, and does not hold its lock");
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to change the state of workspace \"%s\": role \"%s\" may not lock it; an administrator can give it that privilege with tfstate_grant()",
					shown(lockid), role),
			 errdetail("A role that writes a state without its lock needs the privilege \"lock\" on the workspace."),
			 errhint("Run as an administrator: SELECT tfstate_grant(%s, %s);",
					 quote_literal_cstr(role), quote_literal_cstr(shown(lockid)))));
}

/*
 * Error if this session was refused a write of this workspace and has not locked it
 * since: the state that it has read may be older than the one in the table.
 */
void
tfstate_check_not_refused(const char *lockid)
{
	if (find_refusal(lockid) == NULL)
		return;
	tfstate_report_refusal(lockid, COUNT_REFUSED_UNLOCKED,
						   "the session was refused a write before, and has not locked it since");
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot change the state of workspace \"%s\": this session was refused a write before and has not locked the workspace since" COMPARE_FIRST,
					shown(lockid)),
			 errhint(UNLOCKED_HINT)));
}

/*
 * Raise the error for a workspace whose lock is held by another session or run.
 */
void
tfstate_refuse_held(const char *lockid, const Holding *holder)
{
	tfstate_check_may_lock(lockid);
	remember_refusal(lockid);
	tfstate_report_refusal(lockid, COUNT_REFUSED_HELD,
						   psprintf("its lock is held by %s", tfstate_describe_holder(holder)));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot change the state of workspace \"%s\": its lock is held by %s; %s, then run again" COMPARE_FIRST,
					shown(lockid), tfstate_describe_holding(holder, false),
					tfstate_way_out_clause(lockid, holder)),
			 errhint("To release the lock: %s;", tfstate_force_unlock_call(lockid, holder))));
}

/*
 * Raise the error for a workspace that cannot be kept unlocked, because another session
 * takes its lock or has the built-in one.
 */
void
tfstate_refuse_conflict(const char *lockid, const LockConflict *conflict)
{
	remember_refusal(lockid);
	tfstate_report_refusal(lockid, COUNT_REFUSED_HELD,
						   psprintf("its lock is held or taken by %s",
									tfstate_describe_tag_holder(&conflict->tag)));
	tfstate_raise_shim_conflict(lockid, conflict);
}

/*
 * Raise the error for a fence in tfstate.fence that is not that of the current holder,
 * which is NULL if the lock is not held.
 */
void
tfstate_refuse_fence(const char *lockid, const Holding *holder)
{
	tfstate_check_may_lock(lockid);
	remember_refusal(lockid);
	tfstate_report_refusal(lockid, COUNT_REFUSED_FENCE,
						   psprintf("its lock is not held under fence %lld",
									(long long) tfstate_fence));
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
 * Raise the error for a write that requires the lock of the workspace, which is free.
 */
void
tfstate_refuse_unlocked(const char *lockid, WriteKind kind)
{
	tfstate_report_refusal(lockid, COUNT_REFUSED_UNLOCKED, "the session does not hold its lock");
	if (kind == WRITE_DELETION)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot delete workspace \"%s\": this session does not hold its lock, and its state, last written by %s, is not empty; lock it first",
						shown(lockid), describe_last_writer(lockid)),
				 errhint(UNLOCKED_HINT)));
	if (kind == WRITE_CREATION)
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

/*
 * Raise the error for a run that had the lock and did not release it; how tells in
 * words what has become of the lock.
 */
void
tfstate_refuse_ousted(const char *lockid, const char *how)
{
	tfstate_report_refusal(lockid, COUNT_REFUSED_LOST,
						   psprintf("the run has lost its lock (%s)", how));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot change the state of workspace \"%s\": this run has lost its lock (%s), and the state was last written by %s" COMPARE_FIRST,
					shown(lockid), how, describe_last_writer(lockid)),
			 errhint(UNLOCKED_HINT)));
}

/*
 * Raise the error for the deletion of a workspace by the run that unlocked it last,
 * where this version was written after that.
 */
void
tfstate_refuse_written(const char *lockid, const Version *newest)
{
	tfstate_report_refusal(lockid, COUNT_REFUSED_WRITTEN,
						   "it was written after the run had unlocked it");
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot delete workspace \"%s\": its state was written by %s, after this run had unlocked it; look at it, then run again",
					shown(lockid), describe_writer(newest))));
}

/*
 * Raise the error for a serial that is not greater than the one before.
 */
void
tfstate_refuse_serial(const char *lockid, int64 before, int64 after)
{
	Version		newest;
	bool		found = tfstate_newest_version(lockid, &newest);

	remember_refusal(lockid);
	tfstate_report_refusal(lockid, COUNT_REFUSED_SERIAL,
						   psprintf("the new state has serial %lld, the old one %lld",
									(long long) after, (long long) before));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot change the state of workspace \"%s\": the new state has serial %lld, but serial %lld was written by %s; read the state again" COMPARE_FIRST,
					shown(lockid), (long long) after, (long long) before,
					found ? describe_writer(&newest) : "somebody"),
			 found && VERSION_INT64(&newest, number) > 1 ?
			 errhint("What the last write changed: SELECT * FROM tfstate_diff(%s, %lld);",
					 quote_literal_cstr(shown(lockid)),
					 (long long) VERSION_INT64(&newest, number) - 1) : 0));
}

/*
 * Raise the error for a state of another lineage than the one before.
 */
void
tfstate_refuse_lineage(const char *lockid, const char *before, const char *after)
{
	tfstate_report_refusal(lockid, COUNT_REFUSED_LINEAGE, "the new state has another lineage");
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot change the state of workspace \"%s\": it belongs to another project: the new state has lineage \"%s\", but the workspace has lineage \"%s\"; check which schema and workspace the backend is configured for; to replace the state on purpose, run with tfstate.guard=off",
					shown(lockid), tfstate_one_line(after, NAMEDATALEN),
					tfstate_one_line(before, NAMEDATALEN)),
			 errhint("Only a role with the privilege \"override\" can set tfstate.guard to \"off\".")));
}
