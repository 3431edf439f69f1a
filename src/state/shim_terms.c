/*-------------------------------------------------------------------------
 *
 * shim_terms.c
 *	  The mode of Terraform's locks, and how long it waits for them.
 *
 * Terraform's calls say neither.  What was set for the session counts first: by its client,
 * by SET, by ALTER ROLE or ALTER DATABASE.  Then comes what tfstate_attach() was told for the
 * table of the workspace, and last the default of tfstate.mode and tfstate.wait.
 *
 * -1 is the creation key of all tables at once.  For it the answers of the tables in which
 * the role may lock a workspace are put together: durable if one of them is, and the longest
 * wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "storage/proc.h"
#include "utils/timeout.h"

#include "common/attached.h"
#include "common/compat.h"
#include "common/privilege.h"
#include "common/settings.h"
#include "common/workspace.h"
#include "state/shim_terms.h"

/*
 * Add what is set for a table to what is set for the others.
 */
static void
add_terms(Oid relid, AttachedTable *terms)
{
	AttachedTable table;

	if (!tfstate_attached_table(relid, &table))
		return;
	terms->has_mode |= table.has_mode;
	terms->durable |= table.durable;
	terms->has_wait |= table.has_wait;
	terms->wait = Max(terms->wait, table.wait);
}

/*
 * Find what is set for the table of a lockid.  Error if that was renamed.
 */
static void
find_terms(const char *lockid, AttachedTable *terms)
{
	const char *name;
	Oid			relid = tfstate_lockid_table(lockid, &name);
	List	   *patterns;
	ListCell   *lc;

	memset(terms, 0, sizeof(AttachedTable));
	if (OidIsValid(relid))
	{
		if (tfstate_attached_table(relid, terms))
			tfstate_check_table_name(terms);
		return;
	}
	patterns = tfstate_privileges("lock");
	foreach(lc, tfstate_attached_tables())
	{
		char	   *prefix = tfstate_workspace_lockid(lfirst_oid(lc), "");

		if (prefix && tfstate_allowed_below(patterns, prefix))
			add_terms(lfirst_oid(lc), terms);
	}
}

/*
 * Set the mode and the wait of a request for the lock of a workspace or a creation key.
 * *patient tells whether the wait is that of a table.
 */
void
tfstate_shim_terms(const char *lockid, LockRequest *request, bool *patient)
{
	bool		own_mode = tfstate_set_for_session("tfstate.mode");
	bool		own_wait = tfstate_set_for_session("tfstate.wait");
	AttachedTable terms = {0};

	if (!own_mode || !own_wait)
		find_terms(lockid, &terms);
	request->durable = own_mode || !terms.has_mode ? tfstate_mode : terms.durable;
	*patient = !own_wait && terms.has_wait;
	if (*patient)
		request->wait = terms.wait;
	else
		request->wait = tfstate_wait < 0 ? -1 : tfstate_wait * INT64CONST(1000);
}

/*
 * Take a lock as tfstate_acquire() does.  With patient, the wait is not cut short by
 * statement_timeout, lock_timeout and transaction_timeout, unless the session itself has set
 * them: they are meant for queries, and the administrator of the table has asked for the
 * wait.  Those that have run begin anew after it.
 */
bool
tfstate_shim_acquire(const LockRequest *request, bool patient, Holding *holding,
					 LockConflict *conflict)
{
	int			lock_timeout = LockTimeout;
	bool		statement;
	bool		transaction;
	bool		taken;

	if (!patient || request->wait == 0)
		return tfstate_acquire(request, holding, conflict);

	statement = !tfstate_set_by_session("statement_timeout") &&
		get_timeout_active(STATEMENT_TIMEOUT);
	if (statement)
		disable_timeout(STATEMENT_TIMEOUT, false);
	transaction = !tfstate_set_by_session("transaction_timeout") &&
		compat_stop_transaction_timer();
	if (!tfstate_set_by_session("lock_timeout"))
		LockTimeout = 0;
	PG_TRY();
	{
		taken = tfstate_acquire(request, holding, conflict);
	}
	PG_FINALLY();
	{
		LockTimeout = lock_timeout;
		if (statement)
			enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);
		if (transaction)
			compat_start_transaction_timer();
	}
	PG_END_TRY();
	return taken;
}
