/*-------------------------------------------------------------------------
 *
 * workspace.c
 *	  The page of a workspace, or of any other lock.
 *
 * Each part is asked for by itself.  What is damaged, or refused, leaves out its own part
 * only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "http/address.h"
#include "http/subject.h"

/* How many rows a page has. */
#define WAITERS		100
#define HOLDINGS	50
#define RESOURCES	200

/* Write who holds the lock. */
static void
write_holder(Page *page, const Subject *subject, const PGresult *result)
{
	PQExpBuffer buf = &page->html;
	bool		lives = strcmp(db_value(result, 0, 4), "session") == 0;

	html(buf, "<dl><dt>Holder</dt><dd><bdi>%s</bdi></dd>\n", db_value(result, 0, 0));
	write_fact(page, "Operation", db_value(result, 0, 1));
	write_fact(page, "Info", db_value(result, 0, 2));
	html(buf, "<dt>Held for</dt><dd>");
	html_duration(buf, Max(page->now - page_int(result, 0, 3), 0));
	html(buf, ", since ");
	html_time(buf, page_int(result, 0, 3));
	html(buf, "</dd>\n<dt>State</dt><dd>");
	page_lock_state(page, result, 0, 4);
	html(buf, "</dd>\n");
	write_fact(page, "ID", db_value(result, 0, 8));
	write_fact(page, "Fence", db_value(result, 0, 9));
	write_fact(page, "Role", db_value(result, 0, 10));
	write_fact(page, "Logged in as", db_value(result, 0, 11));
	write_fact(page, "Program", db_value(result, 0, 7));
	write_fact(page, "Address", db_value(result, 0, 12));
	write_fact(page, "Process", db_value(result, 0, 13));
	html(buf, "</dl>\n<h3>To release it by force</h3>\n"
		 "<p>First make sure that the holder's run has ended: ");
	if (lives)
		html(buf, "its session is ended, but what it has started goes on.");
	else
		html(buf, "nothing stops it, and its next write is refused.");
	html(buf, " It takes the privilege <code>force</code>.</p>\n");
	page_release_commands(page, subject->lockid, db_value(result, 0, 8), lives);
}

/* Write who waits for the lock. */
static void
write_queue(Page *page, const PGresult *result)
{
	PQExpBuffer buf = &page->html;

	html(buf, "<h3>Queue</h3>\n");
	page_table(page, page_int(result, 0, 6), "waiting", "Place", "Role", "Program", "Waits since",
			   NULL);
	for (int row = 0; row < PQntuples(result); row++)
	{
		html(buf, "<tr><th scope=\"row\">%s</th>", db_value(result, row, 0));
		page_cell(page, "Role");
		html(buf, "<bdi>%s</bdi></td>", db_value(result, row, 1));
		page_cell(page, "Program");
		html(buf, "<bdi>%s</bdi><small>process %s %s</small></td>", db_value(result, row, 2),
			 db_value(result, row, 3), db_value(result, row, 4));
		page_cell(page, "Waits since");
		page_ago(page, result, row, 5);
		html(buf, "</td></tr>\n");
	}
	page_table_end(page);
}

static void
write_lock(Page *page, Subject *subject)
{
	Statement	holder = {"SELECT h.who, h.operation, h.info ->> 'Info', " EPOCH("h.created") ", "
		"h.mode, h.session_alive, " EPOCH("h.expires_at") ", h.application_name, "
		"h.id, h.fence, h.role, h.login_role, h.client_addr, h.pid "
	"FROM @.tfstate_holders h WHERE h.lockid = $1 COLLATE \"C\"", 1, {subject->lockid}};
	Statement	queue = {"SELECT w.position, w.role, w.application_name, w.pid, "
		"w.client_addr, " EPOCH("w.since") ", pg_catalog.count(*) OVER () "
		"FROM @.tfstate_waiters($1) w WHERE w.lockid = $1 COLLATE \"C\" "
	"ORDER BY w.position LIMIT " CppAsString2(WAITERS), 1, {subject->lockid}};
	PGresult   *result;

	html(&page->html, "<h2 id=\"lock\">Lock</h2>\n");
	page_freezes(page, subject->lockid);
	if (!page_ask(page, &holder, &result))
		page_say_why(page, result);
	else if (PQntuples(result) == 0)
		html(&page->html, "<p>Nobody that tfstate knows of holds it.</p>\n");
	else
	{
		subject->found = true;
		write_holder(page, subject, result);
	}
	PQclear(result);
	if (page_ask(page, &queue, &result) && PQntuples(result) > 0)
	{
		subject->found = true;
		write_queue(page, result);
	}
	PQclear(result);
}

/* Write who has held the lock. */
static void
write_holdings(Page *page, const Subject *subject, const PGresult *result, int64_t number)
{
	PQExpBuffer buf = &page->html;
	int64_t		count = PQntuples(result) > 0 ? page_int(result, 0, 7) : 0;

	html(buf, "<h2 id=\"history\">History</h2>\n");
	if (PQntuples(result) > 0)
	{
		page_timeline(page, result);
		page_table(page, count, "times that it was held, the newest first", "Holder", "Taken",
				   "Held for", "Ended", NULL);
	}
	for (int row = 0; row < PQntuples(result); row++)
	{
		const char *how = db_value(result, row, 4);

		html(buf, "<tr><th scope=\"row\"><bdi>%s</bdi><small><bdi>%s</bdi></small></th>",
			 db_value(result, row, 0), db_value(result, row, 1));
		page_cell(page, "Taken");
		html_time(buf, page_int(result, row, 2));
		html(buf, "</td>");
		page_cell(page, "Held for");
		html_duration(buf, Max((how ? page_int(result, row, 3) : page->now) - page_int(result,
																					   row, 2), 0));
		html(buf, "</td>");
		page_cell(page, "Ended");
		if (how)
			html(buf, "<span class=\"mark %s\">%s</span> by <bdi>%s</bdi><small><bdi>%s</bdi>"
				 "</small>",
				 strcmp(how, "unlock") == 0 ? "fine" : "bad", how, db_value(result, row, 5),
				 db_value(result, row, 6));
		else
			html(buf, "<span class=\"mark held\">held now</span>");
		html(buf, "</td></tr>\n");
	}
	if (PQntuples(result) > 0)
		page_table_end(page);
	page_links(page, "history", subject->query, number, HOLDINGS, count);
}

static void
write_history(Page *page, Subject *subject)
{
	int64_t		number = page_number(page, "history");
	char	   *offset = page_offset(number, HOLDINGS);
	Statement	statement = {"SELECT pg_catalog.left(r.who, 200), pg_catalog.left(r.operation, "
		"200), " EPOCH("r.created") ", "
		EPOCH("r.released_at") ", r.how, r.released_by, pg_catalog.left(r.reason, 200), "
		"pg_catalog.count(*) OVER () FROM "
		"(SELECT h.who, h.operation, h.created, NULL::timestamptz AS released_at, NULL AS how, "
		"NULL AS released_by, NULL AS reason, h.fence "
		"FROM @.tfstate_holders h WHERE h.lockid = $1 COLLATE \"C\" UNION ALL "
		"SELECT t.who, t.operation, t.created, t.released_at, t.how, t.released_by, t.reason, "
		"t.fence "
		"FROM @.tfstate_history t WHERE t.lockid = $1 COLLATE \"C\") r "
		"ORDER BY r.fence DESC LIMIT " CppAsString2(HOLDINGS) " OFFSET $2", 2, {subject->lockid,
	offset}};
	PGresult   *result;

	if (!page_ask(page, &statement, &result))
		page_say_why(page, result);
	else if (PQntuples(result) > 0 || (number > 1 && subject->found))
	{
		subject->found = true;
		write_holdings(page, subject, result, number);
	}
	PQclear(result);
	free(offset);
}

/* Write what a state says of itself. */
static void
write_state(Page *page, Subject *subject)
{
	Statement	statement = {"SELECT s.serial, s.lineage, s.terraform_version, s.size, "
		"s.encrypted, s.\"table\", s.id "
	"FROM @.tfstate_states($1) s WHERE s.workspace = $1 COLLATE \"C\"", 1, {subject->lockid}};
	Address		address;
	PGresult   *result;

	if (!page_ask(page, &statement, &result))
		page_say_why(page, result);
	else if (PQntuples(result) > 0)
	{
		subject->found = subject->workspace = true;
		subject->size = page_int(result, 0, 3);
		html(&page->html, "<h2 id=\"state\">State</h2>\n<dl>");
		write_fact(page, "Serial", db_value(result, 0, 0));
		write_fact(page, "Lineage", db_value(result, 0, 1));
		write_fact(page, "Made by version", db_value(result, 0, 2));
		write_size_fact(page, "Size", result, 3);
		write_fact(page, "Encrypted", db_is_true(result, 0, 4) ? "by OpenTofu" : NULL);
		write_fact(page, "Table", db_value(result, 0, 5));
		write_fact(page, "Row id", db_value(result, 0, 6));
		if (address_of_lockid(subject->lockid, &address))
		{
			char	   *path = address_path(&address);

			write_fact(page, "Address for Terraform", path);
			free(path);
		}
		address_free(&address);
		html(&page->html, "</dl>\n");
	}
	PQclear(result);
}

/* Write what is in the state. */
static void
write_resource_list(Page *page, const Subject *subject)
{
	PQExpBuffer buf = &page->html;
	int64_t		number = page_number(page, "resources");
	int64_t		count = 0;
	char	   *offset = page_offset(number, RESOURCES);
	Statement	statement = {"SELECT r.address, r.id, r.provider, r.tainted, r.deposed, "
		"pg_catalog.count(*) OVER () "
		"FROM @.tfstate_resources($1) r WHERE r.workspace = $1 COLLATE \"C\" "
		"ORDER BY r.address COLLATE \"C\", r.deposed COLLATE \"C\" "
	"LIMIT " CppAsString2(RESOURCES) " OFFSET $2", 2, {subject->lockid, offset}};
	PGresult   *result;

	if (!page_ask(page, &statement, &result))
		page_say_why(page, result);
	else if (PQntuples(result) > 0)
	{
		count = page_int(result, 0, 5);
		page_table(page, count, "in the state", "Resource", "ID", "Provider", NULL);
	}
	else if (number == 1)
		html(buf, "<p>There are none.</p>\n");
	for (int row = 0; row < PQntuples(result); row++)
	{
		html(buf, "<tr><th scope=\"row\"><bdi>%s</bdi>", db_value(result, row, 0));
		if (db_is_true(result, row, 3))
			html(buf, " <span class=\"mark held\">tainted</span>");
		if (db_value(result, row, 4))
			html(buf, " <span class=\"mark held\">deposed %s</span>", db_value(result, row, 4));
		html(buf, "</th>");
		page_cell(page, "ID");
		html(buf, "<bdi>%s</bdi></td>", db_value(result, row, 1));
		page_cell(page, "Provider");
		html(buf, "<bdi>%s</bdi></td></tr>\n", db_value(result, row, 2));
	}
	if (count > 0)
		page_table_end(page);
	page_links(page, "resources", subject->query, number, RESOURCES, count);
	PQclear(result);
	free(offset);
}

/* The same, unless the state is large and nobody has asked for it. */
static void
write_resources(Page *page, const Subject *subject)
{
	char	   *asked = page_parameter(page, "resources");

	html(&page->html, "<h2 id=\"resources\">Resources</h2>\n");
	if (asked || subject->size <= READ_FOR_LIST)
		write_resource_list(page, subject);
	else
		html(&page->html, "<p>The state is large. <a href=\"?%sresources=1#resources\">List its "
			 "resources</a></p>\n",
			 subject->query);
	free(asked);
}

/* GET /-/workspace */
void
page_workspace(Page *page)
{
	Subject		subject;

	if (!subject_begin(page, &subject, NULL))
		return;
	write_lock(page, &subject);
	write_state(page, &subject);
	write_history(page, &subject);
	write_versions(page, &subject);
	if (subject.workspace)
		write_resources(page, &subject);
	subject_end(page, &subject);
}
