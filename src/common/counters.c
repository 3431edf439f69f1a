/*-------------------------------------------------------------------------
 *
 * counters.c
 *	  What is counted, and what is logged, when a transaction commits.
 *
 * What a transaction does is noted for each of its subtransactions, and forgotten if that is
 * rolled back.  At the commit the numbers are added to those in shared memory (shared.c) with
 * atomic additions: nothing can fail then.  The lines are logged shortly before the commit,
 * since writing to the log can fail.  A commit that fails after that is in the log, too.
 *
 * PREPARE TRANSACTION counts as the commit: COMMIT PREPARED does not come here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "common/counters.h"
#include "common/shared.h"

/* What a subtransaction has done; all of it is in TopTransactionContext. */
typedef struct Deeds
{
	SubTransactionId subxact;
	struct Deeds *outer;		/* of a subtransaction around it, or NULL */
	List	   *lines;			/* to be logged */
	uint32		counts[NUM_COUNTERS];
} Deeds;

/* Of the innermost subtransaction that has done anything. */
static Deeds *deeds = NULL;

/* The deeds of the current subtransaction. */
static Deeds *
current_deeds(void)
{
	SubTransactionId subxact = GetCurrentSubTransactionId();

	if (deeds == NULL || deeds->subxact != subxact)
	{
		Deeds	   *new = MemoryContextAllocZero(TopTransactionContext, sizeof(Deeds));

		new->subxact = subxact;
		new->outer = deeds;
		deeds = new;
	}
	return deeds;
}

/*
 * Count something if the transaction commits.
 */
void
tfstate_count(Counter counter)
{
	if (tfstate_shared())
		current_deeds()->counts[counter]++;
}

/*
 * Count something whether or not the transaction commits.
 */
void
tfstate_count_at_once(Counter counter)
{
	TfstateShared *shared = tfstate_shared();

	if (shared)
		pg_atomic_fetch_add_u64(&shared->counts[counter], 1);
}

/*
 * Write a line to the server log.  The statement is left out, because it can have a state in
 * it; and no client sees the line, because its role may not be allowed to see the lock.
 */
void
tfstate_log(const char *line)
{
	ereport(LOG_SERVER_ONLY,
			(errmsg_internal("%s", line), errhidestmt(true), errhidecontext(true)));
}

/*
 * Do that if the transaction commits.
 */
void
tfstate_log_at_commit(const char *line)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Deeds	   *current = current_deeds();

	current->lines = lappend(current->lines, pstrdup(line));
	MemoryContextSwitchTo(old);
}

/* At the commit all subtransactions have ended, so there is at most one entry. */
static void
log_lines(void)
{
	ListCell   *lc;

	if (deeds == NULL)
		return;
	foreach(lc, deeds->lines)
		tfstate_log(lfirst(lc));
}

static void
add_counts(void)
{
	TfstateShared *shared = tfstate_shared_as_is();

	if (deeds == NULL || shared == NULL)
		return;
	for (int i = 0; i < NUM_COUNTERS; i++)
	{
		if (deeds->counts[i] > 0)
			pg_atomic_fetch_add_u64(&shared->counts[i], deeds->counts[i]);
	}
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			log_lines();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			add_counts();
			deeds = NULL;
			break;
		case XACT_EVENT_ABORT:
			deeds = NULL;
			break;
		default:
			break;
	}
}

/* What a subtransaction has done becomes its parent's. */
static void
give_to_parent(SubTransactionId parent)
{
	Deeds	   *outer = deeds->outer;
	MemoryContext old;

	if (outer == NULL || outer->subxact != parent)
	{
		deeds->subxact = parent;
		return;
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	outer->lines = list_concat(outer->lines, deeds->lines);
	MemoryContextSwitchTo(old);
	for (int i = 0; i < NUM_COUNTERS; i++)
		outer->counts[i] += deeds->counts[i];
	pfree(deeds);
	deeds = outer;
}

static void
subxact_callback(SubXactEvent event, SubTransactionId subxact,
				 SubTransactionId parent, void *arg)
{
	if (deeds == NULL || deeds->subxact != subxact)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		give_to_parent(parent);
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		deeds = deeds->outer;
}

/*
 * Have the server call us at the end of each transaction.  To be called once in a session,
 * and before tfstate_init_commit(): the server calls in the opposite order, and what that
 * reports shortly before a commit is logged, too.
 */
void
tfstate_init_counters(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}
