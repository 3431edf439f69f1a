/*-------------------------------------------------------------------------
 *
 * versions.c
 *	  The list of the versions of a workspace, and the page of one of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "http/subject.h"

/* How many rows a page has, and how many changes a version in a list. */
#define VERSIONS	20
#define CHANGES		200
#define FEW_CHANGES	10

/* A version and the one before it, in a result of VERSION_COLUMNS. */
#define VERSION_COLUMNS \
	"v.number, v.operation, v.serial, " EPOCH("v.created") ", pg_catalog.left(v.who, 200), " \
	"pg_catalog.left(v.lock_operation, 200), v.resources, v.size, v.erased_at IS NOT NULL, " \
	"pg_catalog.lead(v.number) OVER o, pg_catalog.lead(v.operation) OVER o, " \
	"pg_catalog.lead(v.erased_at IS NOT NULL) OVER o, pg_catalog.lead(v.size) OVER o, " \
	"pg_catalog.lag(v.number) OVER o"

enum
{
	NUMBER, OPERATION, SERIAL, CREATED, WHO, LOCK_OPERATION, COUNT, SIZE, ERASED,
	BEFORE, BEFORE_OPERATION, BEFORE_ERASED, BEFORE_SIZE, AFTER, FURTHER
};

/* What the columns of changes are. */
enum
{
	CHANGE, ADDRESS, DEPOSED, ADDED, CHANGED, REMOVED, ALL
};

/*
 * Ask what has changed from one version to another.  Beside each change are the numbers of
 * all that were added, changed and removed.
 */
static bool
ask_changes(Page *page, const Subject *subject, const char *from, const char *to,
			const char *limit, const char *offset, PGresult **result)
{
	Statement	statement = {"SELECT d.change, d.address, d.deposed, "
		"pg_catalog.count(*) FILTER (WHERE d.change = 'added') OVER (), "
		"pg_catalog.count(*) FILTER (WHERE d.change = 'changed') OVER (), "
		"pg_catalog.count(*) FILTER (WHERE d.change = 'removed') OVER (), "
		"pg_catalog.count(*) OVER () FROM @.tfstate_diff($1, $2, $3) d "
		"ORDER BY d.address COLLATE \"C\", d.deposed COLLATE \"C\" LIMIT $4 OFFSET $5", 5,
	{subject->lockid, from, to, limit, offset}};

	return page_ask(page, &statement, result);
}

static void
write_change_list(Page *page, const PGresult *result)
{
	PQExpBuffer buf = &page->html;

	html(buf, "<ul>\n");
	for (int row = 0; row < PQntuples(result); row++)
	{
		html(buf, "<li>%s <bdi>%s</bdi>", db_value(result, row, CHANGE), db_value(result, row,
																				  ADDRESS));
		if (db_value(result, row, DEPOSED))
			html(buf, " (deposed %s)", db_value(result, row, DEPOSED));
		html(buf, "</li>\n");
	}
	html(buf, "</ul>\n");
}

static void
write_change_counts(Page *page, const PGresult *result)
{
	if (PQntuples(result) == 0)
		html(&page->html, "nothing");
	else
		html(&page->html, "%s added, %s changed, %s removed", db_value(result, 0, ADDED),
			 db_value(result, 0, CHANGED), db_value(result, 0, REMOVED));
}

/*
 * Write what a version has changed where that takes no comparison.  Returns false if it
 * takes one.
 */
static bool
write_plain_change(Page *page, const PGresult *result, int row)
{
	PQExpBuffer buf = &page->html;
	bool		first = db_value(result, row, BEFORE) == NULL;

	if (strcmp(db_value(result, row, OPERATION), "delete") == 0)
		html(buf, "the workspace was deleted");
	else if (first || strcmp(db_value(result, row, BEFORE_OPERATION), "delete") == 0)
	{
		if (first)
			html(buf, "the first that is kept");
		else
			html(buf, "the workspace was made anew");
		if (db_value(result, row, COUNT))
			html(buf, ", with %s resources", db_value(result, row, COUNT));
	}
	else if (db_is_true(result, row, ERASED) || db_is_true(result, row, BEFORE_ERASED))
		html(buf, "not known, because %s was erased",
			 db_is_true(result, row, ERASED) ? "its text" : "that of the version before");
	else
		return false;
	return true;
}

/* Write what a version in a list has changed, when that was asked for. */
static void
write_few_changes(Page *page, const Subject *subject, const char *number, const PGresult *result)
{
	PQExpBuffer buf = &page->html;

	write_change_counts(page, result);
	if (PQntuples(result) == 0)
		return;
	html(buf, "<details><summary>What version %s changed</summary>", number);
	write_change_list(page, result);
	if (page_int(result, 0, ALL) > FEW_CHANGES)
		html(buf, "<a href=\"version?%snumber=%s\">all %s changes of version %s</a>",
			 subject->query, number, db_value(result, 0, ALL), number);
	html(buf, "</details>");
}

/*
 * Write what a version in a list has changed.  *budget is how many bytes may still be
 * compared.
 */
static void
write_changes(Page *page, const Subject *subject, const PGresult *versions, int row,
			  int64_t *budget)
{
	const char *number = db_value(versions, row, NUMBER);
	PGresult   *result;

	if (write_plain_change(page, versions, row))
		return;
	*budget -= page_int(versions, row, SIZE) + page_int(versions, row, BEFORE_SIZE);
	if (*budget < 0)
		html(&page->html, "<a href=\"version?%snumber=%s\">compare version %s</a>",
			 subject->query, number, number);
	else
	{
		if (ask_changes(page, subject, db_value(versions, row, BEFORE), number,
						CppAsString2(FEW_CHANGES), "0", &result))
			write_few_changes(page, subject, number, result);
		else
			page_say_why(page, result);
		PQclear(result);
	}
}

static void
write_version(Page *page, const Subject *subject, const PGresult *result, int row,
			  int64_t *budget)
{
	PQExpBuffer buf = &page->html;
	const char *number = db_value(result, row, NUMBER);

	html(buf, "<tr><th scope=\"row\"><a href=\"version?%snumber=%s\">Version %s</a><small>",
		 subject->query, number, number);
	if (db_value(result, row, SERIAL))
		html(buf, "serial %s, ", db_value(result, row, SERIAL));
	html_size(buf, page_int(result, row, SIZE));
	html(buf, "</small></th>");
	page_cell(page, "Written");
	page_ago(page, result, row, CREATED);
	html(buf, "</td>");
	page_cell(page, "By");
	html(buf, "<bdi>%s</bdi><small><bdi>%s</bdi></small></td>", db_value(result, row, WHO),
		 db_value(result, row, LOCK_OPERATION));
	page_cell(page, "Changes");
	write_changes(page, subject, result, row, budget);
	html(buf, "</td></tr>\n");
}

/* Write the list of the versions. */
void
write_versions(Page *page, Subject *subject)
{
	int64_t		number = page_number(page, "versions");
	int64_t		budget = READ_FOR_LIST;
	int64_t		count = 0;
	char	   *offset = page_offset(number, VERSIONS);
	Statement	statement = {"SELECT " VERSION_COLUMNS ", pg_catalog.count(*) OVER () "
		"FROM @.tfstate_versions v WHERE v.workspace = $1 COLLATE \"C\" "
		"WINDOW o AS (ORDER BY v.number DESC) ORDER BY v.number DESC "
	"LIMIT " CppAsString2(VERSIONS) " OFFSET $2", 2, {subject->lockid, offset}};
	PGresult   *result;

	if (!page_ask(page, &statement, &result))
		page_say_why(page, result);
	else if (PQntuples(result) > 0 || (number > 1 && subject->workspace))
	{
		subject->found = true;
		html(&page->html, "<h2 id=\"versions\">Versions</h2>\n");
		if (PQntuples(result) > 0)
		{
			count = page_int(result, 0, FURTHER);
			page_table(page, count, "kept, the newest first", "Version", "Written", "By",
					   "Changes", NULL);
			for (int row = 0; row < PQntuples(result); row++)
				write_version(page, subject, result, row, &budget);
			page_table_end(page);
		}
		page_links(page, "versions", subject->query, number, VERSIONS, count);
	}
	PQclear(result);
	free(offset);
}

/* Write all that a version has changed. */
static void
write_all_changes(Page *page, const Subject *subject, const PGresult *version)
{
	PQExpBuffer buf = &page->html;
	int64_t		number = page_number(page, "changes");
	char	   *offset = page_offset(number, CHANGES);
	char	   *query = psprintf("%snumber=%s&", subject->query, db_value(version, 0, NUMBER));
	PGresult   *result;
	bool		plain;

	html(buf, "<h2 id=\"changes\">Changes</h2>\n<div>");
	plain = write_plain_change(page, version, 0);
	html(buf, "</div>\n");
	if (!plain)
	{
		if (ask_changes(page, subject, db_value(version, 0, BEFORE), db_value(version, 0, NUMBER),
						CppAsString2(CHANGES), offset, &result))
		{
			html(buf, "<p>Since version %s: ", db_value(version, 0, BEFORE));
			write_change_counts(page, result);
			html(buf, "</p>\n");
			write_change_list(page, result);
			page_links(page, "changes", query, number, CHANGES,
					   PQntuples(result) > 0 ? page_int(result, 0, ALL) : 0);
		}
		else
			page_say_why(page, result);
		PQclear(result);
	}
	free(query);
	free(offset);
}

/* Write a link to another version. */
static void
link_version(Page *page, const Subject *subject, const char *number, const char *relation)
{
	if (number)
		html(&page->html, "<li><a href=\"?%snumber=%s\" rel=\"%s\">Version %s</a></li>",
			 subject->query, number, relation, number);
}

/* Write what is known of a version. */
static void
write_version_facts(Page *page, const Subject *subject, const PGresult *result)
{
	PQExpBuffer buf = &page->html;

	html(buf, "<p>of <a href=\"workspace?%s\"><bdi>%s</bdi></a></p>\n<dl>", subject->query,
		 subject->lockid);
	write_time_fact(page, "Written", result, CREATED);
	write_fact(page, "By", db_value(result, 0, WHO));
	write_fact(page, "For", db_value(result, 0, LOCK_OPERATION));
	write_fact(page, "Serial", db_value(result, 0, SERIAL));
	write_fact(page, "Resources", db_value(result, 0, COUNT));
	write_size_fact(page, "Size", result, SIZE);
	write_size_fact(page, "Stored in", result, FURTHER);
	write_fact(page, "Lineage", db_value(result, 0, FURTHER + 1));
	write_fact(page, "Made by version", db_value(result, 0, FURTHER + 2));
	write_fact(page, "Role", db_value(result, 0, FURTHER + 3));
	write_fact(page, "Program", db_value(result, 0, FURTHER + 4));
	write_fact(page, "Address", db_value(result, 0, FURTHER + 5));
	write_fact(page, "Lock held by", db_value(result, 0, FURTHER + 6));
	write_fact(page, "Lock ID", db_value(result, 0, FURTHER + 7));
	write_fact(page, "Fence", db_value(result, 0, FURTHER + 8));
	write_fact(page, "SHA-256", db_value(result, 0, FURTHER + 9));
	write_time_fact(page, "Text erased", result, FURTHER + 10);
	write_fact(page, "Erased by", db_value(result, 0, FURTHER + 11));
	write_fact(page, "Reason", db_value(result, 0, FURTHER + 12));
	html(buf, "</dl>\n<nav aria-label=\"Other versions\"><ul>");
	link_version(page, subject, db_value(result, 0, BEFORE), "prev");
	link_version(page, subject, db_value(result, 0, AFTER), "next");
	html(buf, "</ul></nav>\n");
}

/* GET /-/version */
void
page_version(Page *page)
{
	char	   *number = page_parameter(page, "number");
	char	   *title = psprintf("Version %s", number ? number : "");
	Statement	statement = {"SELECT * FROM (SELECT " VERSION_COLUMNS ", v.stored, v.lineage, "
		"v.terraform_version, v.role, v.application_name, v.client_addr, "
		"v.lock_who, v.lock_id, v.fence, "
		"v.sha256, " EPOCH("v.erased_at") ", v.erased_by, v.erase_reason "
		"FROM @.tfstate_versions v WHERE v.workspace = $1 COLLATE \"C\" "
		"WINDOW o AS (ORDER BY v.number DESC)) v "
	"WHERE v.number::text = $2", 2, {NULL, number}};
	Subject		subject;
	PGresult   *result;

	if (subject_begin(page, &subject, title))
	{
		statement.values[0] = subject.lockid;
		if (!page_ask(page, &statement, &result))
			page_say_why(page, result);
		else if (PQntuples(result) > 0)
		{
			subject.found = true;
			write_version_facts(page, &subject, result);
			write_all_changes(page, &subject, result);
		}
		PQclear(result);
		subject_end(page, &subject);
	}
	free(title);
	free(number);
}
