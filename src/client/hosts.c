/*-------------------------------------------------------------------------
 *
 * hosts.c
 *	  The servers that a connection string names.
 *
 * libpq tries several servers one after the other.  But it goes on from one that does not
 * answer at all (whose machine is down, for example) only in the calls that block.  So
 * that signals can be heeded meanwhile we do not use these; where a server does not
 * answer in time, we start again with the others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "fe_utils/string_utils.h"

#include "hosts.h"

static const char *const keywords[NUM_HOST_KEYWORDS] = {"host", "hostaddr", "port"};

static int
count_items(const char *list)
{
	int			count = 1;

	for (const char *p = list; (p = strchr(p, ',')) != NULL; p++)
		count++;
	return count;
}

/* Split a list into count items; one item stands for all. */
static char **
split(const char *list, int count)
{
	char	  **items = pg_malloc(count * sizeof(char *));
	bool		single = strchr(list, ',') == NULL;

	for (int i = 0; i < count; i++)
	{
		size_t		length = strcspn(list, ",");

		items[i] = pnstrdup(list, length);
		if (!single && list[length] == ',')
			list += length + 1;
	}
	return items;
}

/*
 * Read the list from a connection that is being made.
 */
void
hosts_read(HostList *hosts, PGconn *conn)
{
	PQconninfoOption *options = PQconninfo(conn);
	const char *lists[NUM_HOST_KEYWORDS] = {NULL, NULL, NULL};

	memset(hosts, 0, sizeof(HostList));
	hosts->count = 1;
	for (PQconninfoOption *option = options; option && option->keyword; option++)
	{
		if (option->val == NULL || *option->val == '\0')
			continue;
		for (int i = 0; i < NUM_HOST_KEYWORDS; i++)
		{
			if (strcmp(option->keyword, keywords[i]) == 0)
				lists[i] = option->val;
		}
		/* 1 means 2, as libpq has it */
		if (strcmp(option->keyword, "connect_timeout") == 0 && atoi(option->val) > 0)
			hosts->timeout_ms = Max(atoi(option->val), 2) * 1000;
	}
	for (int i = HOST_NAME; i <= HOST_ADDRESS; i++)
	{
		if (lists[i])
			hosts->count = Max(hosts->count, count_items(lists[i]));
	}
	for (int i = 0; i < NUM_HOST_KEYWORDS; i++)
	{
		if (lists[i])
			hosts->items[i] = split(lists[i], hosts->count);
	}
	PQconninfoFree(options);
}

/* An item as it counts: NULL if it is not given. */
static const char *
item(const HostList *hosts, HostKeyword keyword, int i)
{
	return hosts->items[keyword] && *hosts->items[keyword][i] ? hosts->items[keyword][i] : NULL;
}

/*
 * Take the server that is being connected to out of the list.  Returns false if it is the
 * only one, or is not found.
 */
bool
hosts_drop_current(HostList *hosts, PGconn *conn)
{
	for (int i = 0; i < hosts->count && hosts->count > 1; i++)
	{
		const char *name = item(hosts, HOST_NAME, i) ? item(hosts, HOST_NAME, i) : item(hosts, HOST_ADDRESS, i);
		const char *port = item(hosts, HOST_PORT, i);

		if (name == NULL || strcmp(name, PQhost(conn)) != 0 || (port && strcmp(port, PQport(conn)) != 0))
			continue;
		hosts->count--;
		for (int j = 0; j < NUM_HOST_KEYWORDS; j++)
		{
			if (hosts->items[j])
				memmove(&hosts->items[j][i], &hosts->items[j][i + 1], (hosts->count - i) * sizeof(char *));
		}
		return true;
	}
	return false;
}

/* Make a list of the one server to which there is a connection. */
void
hosts_copy_current(HostList *hosts, PGconn *conn)
{
	const char *values[NUM_HOST_KEYWORDS] = {PQhost(conn), PQhostaddr(conn), PQport(conn)};

	memset(hosts, 0, sizeof(HostList));
	hosts->count = 1;
	for (int i = 0; i < NUM_HOST_KEYWORDS; i++)
	{
		if (values[i] && *values[i])
			hosts->items[i] = split(values[i], 1);
	}
}

/* The name of a parameter. */
const char *
hosts_keyword(HostKeyword keyword)
{
	return keywords[keyword];
}

/* A parameter of a connection to the servers in the list; NULL if it is not given. */
char *
hosts_joined(const HostList *hosts, HostKeyword keyword)
{
	PQExpBufferData buf;

	if (hosts->count == 0 || hosts->items[keyword] == NULL)
		return NULL;
	initPQExpBuffer(&buf);
	for (int i = 0; i < hosts->count; i++)
		appendPQExpBuffer(&buf, "%s%s", i > 0 ? "," : "", hosts->items[keyword][i]);
	return buf.data;
}

/* The address that is being connected to. */
char *
hosts_current(PGconn *conn)
{
	return psprintf("%s %s %s", PQhost(conn), PQhostaddr(conn), PQport(conn));
}
