/*-------------------------------------------------------------------------
 *
 * page.c
 *	  The pages for people: which there are, and what they share.
 *
 * They show what the views of tfstate show to the role that asks, and change nothing.
 * Their addresses have none or two segments, which that of a workspace never has:
 *
 * /							locks and workspaces
 * /-/workspace?lockid=...		a workspace, or any other lock
 * /-/version?lockid=...&number=...		what a version has changed
 *
 * Links are relative, so that a proxy can have all of this below a path.  There are no
 * scripts, and nothing is loaded from anywhere.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "http/address.h"
#include "http/page.h"
#include "http/reply.h"

/* The greatest number of a page of a long list. */
#define MAX_NUMBER	1000000

typedef struct PageAddress
{
	const char *path;
	const char *root;
	void		(*write) (Page *page);
} PageAddress;

static const PageAddress pages[] = {
	{"/", "./", page_locks},
	{"/-/workspace", "../", page_workspace},
	{"/-/version", "../", page_version},
};

static const PageAddress *
find_page(const char *uri)
{
	size_t		length = strcspn(uri, "?");

	for (int i = 0; i < lengthof(pages); i++)
	{
		if (strlen(pages[i].path) == length && strncmp(pages[i].path, uri, length) == 0)
			return &pages[i];
	}
	return NULL;
}

/*
 * Ask the database.  Returns true if it has answered with rows.  Otherwise *result has the
 * error, or the connection is gone; it is to be cleared in any case.
 *
 * A database without an encoding may have bytes in a name that are no characters, which the
 * server would not send as UTF-8.
 */
bool
page_ask(Page *page, const Statement *statement, PGresult **result)
{
	Statement	statements[] = {
		{"SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', true)", 0},
		*statement
	};
	const char *encoding = PQparameterStatus(page->db->pg, "server_encoding");
	DbStatus	status = DB_GONE;

	*result = NULL;
	if (!page->gone)
		status = encoding && strcmp(encoding, "SQL_ASCII") == 0 ?
			db_transaction(page->db, statements, lengthof(statements), result) :
			db_query(page->db, statement, result);
	page->gone = status == DB_GONE;
	return status == DB_OK;
}

/* Say in the page why something is not shown. */
void
page_say_why(Page *page, const PGresult *result)
{
	const char *message = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	const char *detail = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL) : NULL;

	html(&page->html, "<p class=\"note bad\">Not shown: %s%s%s</p>\n", message, detail ? ": " :
		 "", detail);
}

/* A value in the query of the address, which the caller frees; NULL if there is none. */
char *
page_parameter(const Page *page, const char *name)
{
	return query_value(page->request->uri, name);
}

/* Which page of a long list is asked for. */
int64_t
page_number(const Page *page, const char *name)
{
	char	   *text = page_parameter(page, name);
	int64_t		number = text ? strtoll(text, NULL, 10) : 1;

	free(text);
	return Max(Min(number, MAX_NUMBER), 1);
}

/* How many rows are in front of a page of a long list, as a text that the caller frees. */
char *
page_offset(int64_t number, int64_t size)
{
	return psprintf("%lld", (long long) ((number - 1) * size));
}

/* A number in a result; 0 where it is null. */
int64_t
page_int(const PGresult *result, int row, int column)
{
	return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

/* Write a point in time in a result, and how long ago it was. */
void
page_ago(Page *page, const PGresult *result, int row, int column)
{
	int64_t		seconds = page_int(result, row, column);

	html_duration(&page->html, Max(page->now - seconds, 0));
	html(&page->html, " ago<small>");
	html_time(&page->html, seconds);
	html(&page->html, "</small>");
}

/* Write what stands above every page. */
void
page_begin(Page *page, const char *title)
{
	PQExpBuffer buf = &page->html;

	html(buf, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
		 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
		 "<meta name=\"color-scheme\" content=\"light dark\">\n"
		 "<title>%s - tfstate</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>", title);
	appendPQExpBufferStr(buf, page_style);
	html(buf, "</style>\n</head>\n<body>\n"
		 "<a class=\"skip\" href=\"#main\">Skip to the content</a>\n"
		 "<header><p><strong><a href=\"%s\">tfstate</a></strong> database <bdi>%s</bdi>, "
		 "as role <bdi>%s</bdi></p></header>\n"
		 "<main id=\"main\">\n<h1><bdi>%s</bdi></h1>\n",
		 page->root, page->database, page->role, title);
	if (page->standby)
		html(buf, "<p class=\"note held\">This is a standby: it knows nothing of sessions that "
			 "hold or wait for locks.</p>\n");
}

/*
 * Write links to the other pages of a long list.  name is that of the list, of its heading's
 * id and of the parameter in the query, query what stands in front of that; number is the
 * page that is shown, size how many rows a page has, and count how many there are.
 */
void
page_links(Page *page, const char *name, const char *query, int64_t number, int64_t size,
		   int64_t count)
{
	PQExpBuffer buf = &page->html;
	long long	last = Max((count + size - 1) / size, 1);

	if (last == 1 && number == 1)
		return;
	html(buf, "<nav aria-label=\"Pages of %s\"><ul>", name);
	if (count == 0)
		html(buf, "<li>There are no more.</li><li><a href=\"?%s#%s\">Page 1</a></li>", query,
			 name);
	else
	{
		if (number > 1)
			html(buf, "<li><a href=\"?%s%s=%lld#%s\" rel=\"prev\">Previous</a></li>", query, name,
				 (long long) number - 1, name);
		html(buf, "<li aria-current=\"page\">Page %lld of %lld</li>", (long long) number, last);
		if (number < last)
			html(buf, "<li><a href=\"?%s%s=%lld#%s\" rel=\"next\">Next</a></li>", query, name,
				 (long long) number + 1, name);
	}
	html(buf, "</ul></nav>\n");
}

/*
 * Begin a table: how many rows there are of what, and the headings of its columns, up to a
 * NULL.
 */
void
page_table(Page *page, int64_t count, const char *what,...)
{
	PQExpBuffer buf = &page->html;
	const char *heading;
	va_list		headings;

	html(buf, "<table><caption class=\"soft\">%lld %s</caption>\n<thead><tr>", (long long) count,
		 what);
	va_start(headings, what);
	while ((heading = va_arg(headings, const char *)) != NULL)
		html(buf, "<th scope=\"col\">%s</th>", heading);
	va_end(headings);
	html(buf, "</tr></thead>\n<tbody>\n");
}

void
page_table_end(Page *page)
{
	html(&page->html, "</tbody></table>\n");
}

/* Begin a cell, whose column has a heading. */
void
page_cell(Page *page, const char *heading)
{
	html(&page->html, "<td data-label=\"%s\">", heading);
}

/* Write which freezes there are, or those that a lock is subject to. */
void
page_freezes(Page *page, const char *lockid)
{
	PQExpBuffer buf = &page->html;
	Statement	statement = {"SELECT f.pattern, pg_catalog.left(f.reason, 200), "
		"pg_catalog.left(f.who, 200), " EPOCH("f.since") ", " EPOCH("f.until") " "
		"FROM @.tfstate_freezes f "
		"WHERE $1::pg_catalog.text IS NULL OR @.tfstate_matches($1, f.pattern) "
	"ORDER BY f.since LIMIT 20", 1, {lockid}};
	PGresult   *result;

	if (page_ask(page, &statement, &result))
	{
		for (int row = 0; row < PQntuples(result); row++)
		{
			html(buf, "<p class=\"note held\">Frozen: <bdi>%s</bdi>, by <bdi>%s</bdi> since ",
				 db_value(result, row, 0), db_value(result, row, 2));
			html_time(buf, page_int(result, row, 3));
			if (db_value(result, row, 4))
			{
				html(buf, " until ");
				html_time(buf, page_int(result, row, 4));
			}
			html(buf, ": <bdi>%s</bdi></p>\n", db_value(result, row, 1));
		}
	}
	else
		page_say_why(page, result);
	PQclear(result);
}

/* Find out for whom the page is.  Returns false if that has failed. */
static bool
ask_who(Page *page, PGresult **result)
{
	Statement	statement = {"SELECT pg_catalog.current_database(), current_user, "
	EPOCH("pg_catalog.clock_timestamp()") ", pg_catalog.pg_is_in_recovery()", 0};

	if (!page_ask(page, &statement, result))
		return false;
	page->database = PQgetvalue(*result, 0, 0);
	page->role = PQgetvalue(*result, 0, 1);
	page->now = page_int(*result, 0, 2);
	page->standby = db_is_true(*result, 0, 3);
	return true;
}

/* GET of a page */
static DbStatus
page_answer(Request *request, Db *db)
{
	const PageAddress *address = find_page(request->uri);
	Page		page = {request, db,.root = address->root};
	PGresult   *who;

	initPQExpBuffer(&page.html);
	if (ask_who(&page, &who))
	{
		address->write(&page);
		html(&page.html, "</main>\n<footer><p>As of ");
		html_time(&page.html, page.now);
		html(&page.html, ". This page changes nothing. <a href=\"\">Look again</a></p></footer>\n"
			 "</body>\n</html>\n");
	}
	PQclear(who);
	if (page.gone)
	{
		request->status = 0;	/* what was not there may be, next time */
		termPQExpBuffer(&page.html);
		return DB_GONE;
	}
	if (request->status == 0)
		request->status = 200;
	if (request->text)
		termPQExpBuffer(&page.html);	/* a problem was answered instead */
	else
	{
		request->content_type = PAGE_CONTENT_TYPE;
		request->text = page.html.data;
	}
	return DB_OK;
}

/* Returns the method that answers a GET, or NULL if the address is not that of a page. */
const Method *
page_method(const char *uri)
{
	static const Method method = {"GET", page_answer, false};

	return find_page(uri) ? &method : NULL;
}

/* Let a browser do with a page only what it is made for: show itself. */
void
page_add_headers(struct MHD_Response *response)
{
	unsigned char digest[32];
	gnutls_datum_t binary = {digest, sizeof(digest)};
	gnutls_datum_t base64;
	char	   *policy;

	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, page_style, strlen(page_style), digest) != 0 ||
		gnutls_base64_encode2(&binary, &base64) != 0)
		base64.data = NULL;
	policy = psprintf("default-src 'none'; style-src 'sha256-%s'; img-src data:; form-action "
					  "'self'; base-uri 'none'; "
					  "frame-ancestors 'none'", base64.data ? (char *) base64.data : "");
	MHD_add_response_header(response, "Content-Security-Policy", policy);
	MHD_add_response_header(response, "X-Frame-Options", "DENY");
	MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
	MHD_add_response_header(response, "Cross-Origin-Opener-Policy", "same-origin");
	gnutls_free(base64.data);
	free(policy);
}
