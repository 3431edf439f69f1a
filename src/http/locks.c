/*-------------------------------------------------------------------------
 *
 * locks.c
 *	  The first page: the locks that are held or waited for, and the workspaces.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "http/address.h"
#include "http/page.h"
#include "http/reply.h"

/* How many rows a page has. */
#define LOCKS		50
#define WORKSPACES	100

/* What is looked for. */
typedef struct Search
{
	char	   *text;			/* as it was typed, or "" */
	char	   *pattern;		/* of lockids */
	char	   *query;			/* for links that keep it */
} Search;

static void
read_search(const Page *page, Search *search)
{
	char	   *encoded;

	search->text = page_parameter(page, "search");
	if (search->text == NULL)
		search->text = pg_strdup("");
	if (strchr(search->text, '*'))
		search->pattern = pg_strdup(search->text);
	else
		search->pattern = psprintf(*search->text ? "*%s*" : "*", search->text);
	encoded = percent_encode(search->text);
	search->query = *search->text ? psprintf("search=%s&", encoded) : pg_strdup("");
	free(encoded);
}

static void
free_search(Search *search)
{
	free(search->text);
	free(search->pattern);
	free(search->query);
}

/* A link to the page of a workspace. */
static void
link_workspace(Page *page, const char *lockid)
{
	char	   *encoded = percent_encode(lockid);

	html(&page->html, "<a href=\"%s-/workspace?lockid=%s\"><bdi>%s</bdi></a>", page->root,
		 encoded, lockid);
	free(encoded);
}

/*
 * Say whether anybody still stands behind a lock.  From a column on, a result has mode,
 * session_alive, expires_at and application_name of tfstate_holders.
 */
void
page_lock_state(Page *page, const PGresult *result, int row, int column)
{
	PQExpBuffer buf = &page->html;
	const char *mode = db_value(result, row, column);
	const char *alive = db_value(result, row, column + 1);
	const char *expires_at = db_value(result, row, column + 2);
	const char *application = PQgetvalue(result, row, column + 3);

	if (expires_at)
	{
		html(buf, "<span class=\"mark fine\">lease</span> ends in ");
		html_duration(buf, Max(strtoll(expires_at, NULL, 10) - page->now, 0));
		html(buf, " unless it is renewed");
	}
	else if (strcmp(mode, "durable") == 0 && strcmp(application, "tfstate-http") == 0)
		html(buf, "<span class=\"mark held\">http</span> %s, taken by Terraform's http backend, "
			 "which keeps no session", mode);
	else if (alive == NULL)
		html(buf, "<span class=\"mark held\">%s</span> whether its session is there is not known "
			 "on a standby", mode);
	else if (*alive == 't')
		html(buf, "<span class=\"mark fine\">alive</span> %s; its session is there", mode);
	else
		html(buf, "<span class=\"mark bad\">orphan</span> %s; its session is gone (or was a "
			 "pooler's)", mode);
}

/* Write a row of the locks. */
static void
write_lock(Page *page, const PGresult *result, int row)
{
	PQExpBuffer buf = &page->html;
	const char *lockid = db_value(result, row, 0);
	bool		held = db_is_true(result, row, 1);
	int64_t		waiting = page_int(result, row, 9);

	html(buf, "<tr><th scope=\"row\">");
	if (lockid)
		link_workspace(page, lockid);
	else
		html(buf, "not known");
	html(buf, "</th>");
	page_cell(page, "Holder");
	if (held)
		html(buf, "<bdi>%s</bdi><small><bdi>%s</bdi></small>", db_value(result, row, 2),
			 db_value(result, row, 3));
	else
		html(buf, "nobody that tfstate knows of");
	html(buf, "</td>");
	page_cell(page, "Since");
	if (held)
		page_ago(page, result, row, 4);
	html(buf, "</td>");
	page_cell(page, "State");
	if (held)
		page_lock_state(page, result, row, 5);
	html(buf, "</td>");
	page_cell(page, "Queue");
	if (waiting > 0)
	{
		html(buf, "%lld waiting: <bdi>%s</bdi>%s<small>the first for ", (long long) waiting,
			 db_value(result, row, 10), waiting > 3 ? ", ..." : "");
		html_duration(buf, Max(page->now - page_int(result, row, 11), 0));
		html(buf, "</small>");
	}
	else
		html(buf, "%s", page->standby ? "not known" : "nobody");
	html(buf, "</td></tr>\n");
}

/*
 * Ask for the locks that are held or waited for.  The longest held come first, and of what
 * clients say of themselves only so much that a page stays a page.
 */
static bool
ask_locks(Page *page, const Search *search, int64_t number, PGresult **result)
{
	char	   *offset = page_offset(number, LOCKS);
	Statement	statement = {"WITH w AS MATERIALIZED (SELECT t.lockid, pg_catalog.count(*) AS n, "
		"pg_catalog.array_to_string((pg_catalog.array_agg(t.role ORDER BY t.position))[1:3], ', ') "
		"AS roles, "
		"pg_catalog.min(t.since) AS since FROM @.tfstate_waiters($1) t GROUP BY t.lockid) "
		"SELECT coalesce(h.lockid, w.lockid), h.id IS NOT NULL, pg_catalog.left(h.who, 200), "
		"pg_catalog.left(h.operation, 200), " EPOCH("h.created") ", h.mode, "
		"h.session_alive, " EPOCH("h.expires_at") ", h.application_name, "
		"w.n, w.roles, " EPOCH("w.since") ", pg_catalog.count(*) OVER () "
		"FROM @.tfstate_holders($1) h FULL JOIN w ON w.lockid = h.lockid COLLATE \"C\" "
		"ORDER BY h.created, coalesce(h.lockid, w.lockid) COLLATE \"C\" LIMIT " CppAsString2(LOCKS)
	" OFFSET $2", 2, {search->pattern, offset}};
	bool		answered = page_ask(page, &statement, result);

	free(offset);
	return answered;
}

/* Write the locks that are held or waited for. */
static void
write_locks(Page *page, const Search *search, const PGresult *result, int64_t number)
{
	PQExpBuffer buf = &page->html;
	int64_t		count = PQntuples(result) > 0 ? page_int(result, 0, 12) : 0;

	html(buf, "<h2 id=\"locks\">Locks</h2>\n");
	if (count > 0)
	{
		page_table(page, count, "held or waited for, the oldest first", "Lock", "Holder", "Since",
				   "State", "Queue", NULL);
		for (int row = 0; row < PQntuples(result); row++)
			write_lock(page, result, row);
		page_table_end(page);
	}
	else if (number == 1)
		html(buf, "<p>None is held or waited for that role <bdi>%s</bdi> is shown.</p>\n",
			 page->role);
	page_links(page, "locks", search->query, number, LOCKS, count);
}

/* Ask for the workspaces. */
static bool
ask_workspaces(Page *page, const Search *search, int64_t number, PGresult **result)
{
	char	   *offset = page_offset(number, WORKSPACES);
	Statement	statement = {"SELECT w.workspace, w.serial, w.resources, w.size, "
		EPOCH("w.written_at") ", pg_catalog.left(w.written_by, 200), "
		"w.locked_at IS NOT NULL, pg_catalog.left(w.locked_by, 200), w.encrypted, "
		"pg_catalog.count(*) OVER () FROM @.tfstate_workspaces w "
		"WHERE @.tfstate_matches(w.workspace, $1) ORDER BY w.workspace COLLATE \"C\" "
	"LIMIT " CppAsString2(WORKSPACES) " OFFSET $2", 2, {search->pattern, offset}};
	bool		answered = page_ask(page, &statement, result);

	free(offset);
	return answered;
}

/* Write a row of the workspaces. */
static void
write_workspace(Page *page, const PGresult *result, int row)
{
	PQExpBuffer buf = &page->html;

	html(buf, "<tr><th scope=\"row\">");
	link_workspace(page, db_value(result, row, 0));
	html(buf, "</th>");
	page_cell(page, "Lock");
	if (db_is_true(result, row, 6))
		html(buf, "<span class=\"mark held\">held</span> by <bdi>%s</bdi>",
			 db_value(result, row, 7));
	else
		html(buf, "free");
	html(buf, "</td>");
	page_cell(page, "State");
	if (db_value(result, row, 1))
		html(buf, "serial %s", db_value(result, row, 1));
	else
		html(buf, "%s", db_is_true(result, row, 8) ? "encrypted" : "empty");
	html(buf, "<small>");
	if (db_value(result, row, 2))
		html(buf, "%s resources, ", db_value(result, row, 2));
	html_size(buf, page_int(result, row, 3));
	html(buf, "</small></td>");
	page_cell(page, "Written");
	if (db_value(result, row, 4))
	{
		page_ago(page, result, row, 4);
		if (db_value(result, row, 5))
			html(buf, "<small>by <bdi>%s</bdi></small>", db_value(result, row, 5));
	}
	html(buf, "</td></tr>\n");
}

/* Write the workspaces. */
static void
write_workspaces(Page *page, const Search *search, const PGresult *result, int64_t number)
{
	PQExpBuffer buf = &page->html;
	int64_t		count = PQntuples(result) > 0 ? page_int(result, 0, 9) : 0;

	html(buf, "<h2 id=\"workspaces\">Workspaces</h2>\n");
	if (count > 0)
	{
		page_table(page, count, "in the attached tables", "Workspace", "Lock", "State", "Written",
				   NULL);
		for (int row = 0; row < PQntuples(result); row++)
			write_workspace(page, result, row);
		page_table_end(page);
	}
	else if (number == 1)
		html(buf, "<p>Role <bdi>%s</bdi> is shown none here. It takes the privilege <code>view"
			 "</code> to see a workspace, "
			 "and <code>view</code> or <code>lock</code> to see who holds its lock.</p>\n",
			 page->role);
	page_links(page, "workspaces", search->query, number, WORKSPACES, count);
}

static void
write_search(Page *page, const Search *search)
{
	html(&page->html, "<form action=\"%s\" method=\"get\" role=\"search\"><label "
		 "for=\"search\">Name</label>"
		 "<input id=\"search\" name=\"search\" type=\"search\" value=\"%s\" autocomplete=\"off\" "
		 "spellcheck=\"false\">"
		 "<button>Search</button><small>a part of it, or a pattern with <code>*</code></small>"
		 "</form>\n",
		 page->root, search->text);
}

/* GET / */
void
page_locks(Page *page)
{
	Search		search;
	int64_t		of_locks = page_number(page, "locks");
	int64_t		of_workspaces = page_number(page, "workspaces");
	PGresult   *locks;
	PGresult   *workspaces;

	read_search(page, &search);
	page_begin(page, "Locks and workspaces");
	write_search(page, &search);
	page_freezes(page, NULL);
	if (ask_locks(page, &search, of_locks, &locks))
		write_locks(page, &search, locks, of_locks);
	else
		page_say_why(page, locks);
	if (ask_workspaces(page, &search, of_workspaces, &workspaces))
		write_workspaces(page, &search, workspaces, of_workspaces);
	else
		page_say_why(page, workspaces);
	PQclear(locks);
	PQclear(workspaces);
	free_search(&search);
}
