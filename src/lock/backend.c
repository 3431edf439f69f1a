/*-------------------------------------------------------------------------
 *
 * backend.c
 *	  What is known of the server's processes: tags, clients.
 *
 * The lock manager tells which process has a tag, and the statistics tell who its client
 * is.  Both are for messages and views; who holds a lock is told by the lock tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/ip.h"
#include "miscadmin.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "lock/backend.h"

/*
 * The process that has a tag locked in ExclusiveLock, 0 if none.  Copies the
 * whole lock table: not for hot paths.
 */
int
tfstate_tag_holder(const LOCKTAG *tag)
{
	LockData   *data = GetLockStatusData();

	for (int i = 0; i < data->nelements; i++)
	{
		LockInstanceData *lock = &data->locks[i];

		if (memcmp(&lock->locktag, tag, sizeof(LOCKTAG)) == 0 &&
			(lock->holdMask & LOCKBIT_ON(ExclusiveLock)) != 0)
			return lock->pid;
	}
	return 0;
}

/*
 * The numeric address of a client, NULL for a Unix socket or none.
 */
static char *
numeric_address(const SockAddr *addr)
{
	char		host[NI_MAXHOST];

	if (addr->addr.ss_family != AF_INET && addr->addr.ss_family != AF_INET6)
		return NULL;
	if (pg_getnameinfo_all(&addr->addr, addr->salen, host, sizeof(host),
						   NULL, 0, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return NULL;
	clean_ipv6_addr(addr->addr.ss_family, host);
	return pstrdup(host);
}

/*
 * The numeric address of this session's client, NULL for a Unix socket or
 * none.  It is found out once, and lives as long as the session.
 */
const char *
tfstate_client_addr(void)
{
	static const char *address = NULL;
	static bool known = false;

	if (!known)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		address = MyBEEntry ? numeric_address(&MyBEEntry->st_clientaddr) : NULL;
		MemoryContextSwitchTo(old);
		known = true;
	}
	return address;
}

/*
 * What the server's statistics know of another backend.  Returns false, and
 * all NULL or 0, if it is gone.
 */
bool
tfstate_backend_details(int pid, BackendDetails *details)
{
	PgBackendStatus *entry;

	memset(details, 0, sizeof(BackendDetails));
	pgstat_clear_backend_activity_snapshot();
	for (int i = 1; (entry = compat_backend_status(i)) != NULL; i++)
	{
		if (entry->st_procpid != pid)
			continue;
		details->role = GetUserNameFromId(entry->st_userid, true);
		details->client_addr = numeric_address(&entry->st_clientaddr);
		details->application_name = pstrdup(entry->st_appname);
		details->statement_start = entry->st_activity_start_timestamp;
		return true;
	}
	return false;
}
