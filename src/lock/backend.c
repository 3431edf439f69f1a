/*-------------------------------------------------------------------------
 *
 * backend.c
 *	  What the server knows of its processes: their tags and their clients.
 *
 * The lock manager knows which process holds a tag, and the statistics which client it has.
 * Both are for messages and views; the holder of a lock is in the lock tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/ip.h"
#include "miscadmin.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "common/text.h"
#include "lock/backend.h"

/*
 * The process that holds a tag in ExclusiveLock, 0 if none.  Copies the whole lock table, so
 * it is not for hot paths.
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
 * The numeric address of a client, palloc'd; NULL for a Unix socket, or if there is none.
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
 * The numeric address of this session's client, NULL for a Unix socket, or if there is none.
 * Valid for as long as the session.
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

/* The role whose name is remembered; InvalidOid for none. */
static Oid	named_role = InvalidOid;

/* Callback of the cache of roles: one has changed. */
static void
forget_role_name(Datum arg, CompatCacheId cache, uint32 hash)
{
	named_role = InvalidOid;
}

/*
 * The name of the current role, made valid in the database's encoding.  It is remembered,
 * because each lock needs it more than once.  Valid until the next call.
 */
const char *
tfstate_my_role_name(void)
{
	static char name[NAMEDATALEN];
	static bool registered = false;
	Oid			role = GetUserId();

	if (!registered)
		CacheRegisterSyscacheCallback(AUTHOID, forget_role_name, (Datum) 0);
	registered = true;
	if (role != named_role)
	{
		named_role = InvalidOid;
		strlcpy(name, tfstate_valid_text(GetUserNameFromId(role, false)), sizeof(name));
		named_role = role;
	}
	return name;
}

/*
 * Find what the statistics know of another backend, palloc'd.  Returns false, and all NULL or
 * 0, if it is gone.
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
