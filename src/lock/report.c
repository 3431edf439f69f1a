/*-------------------------------------------------------------------------
 *
 * report.c
 *	  Telling an operator what happens to locks and states.
 *
 * All of it is counted, for the view tfstate_metrics.  With tfstate.log_events, what calls for
 * a look also gets a line in the server log: a lock that ended otherwise than by an unlock, a
 * write that was refused, and one that was made without the guard.  The lines have lockids,
 * IDs, names and reasons, but nothing of a state, and not the info of a lock.
 *
 * With tfstate.notify, each lock that is taken or ends is also sent as a notification.  LISTEN
 * takes no privilege, so a notification has no lockid, no name and no ID: it has the fence,
 * by which whoever may see the lock finds it in the views.
 *
 * What a transaction does is reported when it commits, a refusal at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/async.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "common/counters.h"
#include "common/limits.h"
#include "common/settings.h"
#include "common/text.h"
#include "lock/holding.h"
#include "lock/info.h"
#include "lock/report.h"

/* The most bytes of a name that a line shows. */
#define MAX_IN_LINE		256

/* A lockid in a line. */
static char *
shown(const char *lockid)
{
	return tfstate_one_line(lockid, TFSTATE_MAX_LOCKID);
}

/* The caller in a line. */
static char *
actor(void)
{
	return tfstate_one_line(tfstate_actor(), MAX_IN_LINE);
}

/*
 * A holder in a line: Who, role, ID and since when.
 */
char *
tfstate_describe_holder(const Holding *holding)
{
	char	   *who = tfstate_info_get(DatumGetJsonbP(HOLDING_DATUM(holding, info)), "Who");

	return psprintf("%s (role %s, ID %s, since %s)",
					tfstate_one_line(who ? who : "?", MAX_IN_LINE),
					tfstate_one_line(HOLDING_TEXT(holding, role_name), NAMEDATALEN),
					tfstate_one_line(HOLDING_TEXT(holding, id), MAX_IN_LINE),
					tfstate_format_time(DatumGetTimestampTz(HOLDING_DATUM(holding, created))));
}

/* Send a notification, if they are on.  how is NULL for a lock that was taken. */
static void
notify(const Holding *holding, const char *how)
{
	long long	fence = HOLDING_INT64(holding, fence);

	if (!tfstate_notify)
		return;
	Async_Notify("tfstate", how ?
				 psprintf("{\"event\": \"unlock\", \"how\": \"%s\", \"fence\": %lld}", how, fence) :
				 psprintf("{\"event\": \"lock\", \"fence\": %lld}", fence));
}

/*
 * Report that a lock was taken.
 */
void
tfstate_report_lock(const Holding *holding)
{
	tfstate_count(holding->durable ? COUNT_DURABLE : COUNT_SESSION);
	notify(holding, NULL);
}

/* The line for a lock that was not unlocked by its holder. */
static char *
release_line(const Holding *holding, Counter counter, const char *reason)
{
	char	   *lockid = shown(HOLDING_TEXT(holding, lockid));
	char	   *holder = tfstate_describe_holder(holding);

	if (counter == COUNT_EXPIRED)
		return psprintf("state lock \"%s\" of %s has expired, and was removed by %s",
						lockid, holder, actor());
	if (counter == COUNT_RECLAIMED)
		return psprintf("state lock \"%s\" of %s was left by a session that is gone, and was removed by %s",
						lockid, holder, actor());
	return psprintf("state lock \"%s\" of %s was released by force by %s, reason: %s",
					lockid, holder, actor(),
					reason ? tfstate_one_line(reason, TFSTATE_MAX_REASON) : "none given");
}

/*
 * Report that a holding has ended.  how is one of the words HOW_..., reason what the
 * administrator gave, or NULL.
 */
void
tfstate_report_release(const Holding *holding, const char *how, const char *reason)
{
	Counter		counter = strcmp(how, HOW_UNLOCK) == 0 ? COUNT_UNLOCKED :
		strcmp(how, HOW_FORCE) == 0 ? COUNT_FORCED :
		strcmp(how, HOW_EXPIRED) == 0 ? COUNT_EXPIRED : COUNT_RECLAIMED;

	tfstate_count(counter);
	notify(holding, how);
	if (tfstate_log_events && counter != COUNT_UNLOCKED)
		tfstate_log_at_commit(release_line(holding, counter, reason));
}

/*
 * Report that a write of a workspace is about to be refused.  counter is the reason, and why
 * tells it in words.
 */
void
tfstate_report_refusal(const char *lockid, Counter counter, const char *why)
{
	tfstate_count_at_once(counter);
	if (tfstate_log_events)
		tfstate_log(psprintf("write of workspace \"%s\" by %s was refused: %s",
							 shown(lockid), actor(), why));
}

/*
 * Report that a workspace was written without the guard.  holder is who has its lock, NULL for
 * nobody or the caller.
 */
void
tfstate_report_override(const char *lockid, const Holding *holder)
{
	tfstate_count(COUNT_OVERRIDES);
	if (!tfstate_log_events)
		return;
	tfstate_log_at_commit(holder ?
						  psprintf("workspace \"%s\" was written by %s with tfstate.guard = off, while its lock was held by %s",
								   shown(lockid), actor(), tfstate_describe_holder(holder)) :
						  psprintf("workspace \"%s\" was written by %s with tfstate.guard = off",
								   shown(lockid), actor()));
}
