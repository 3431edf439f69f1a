/*-------------------------------------------------------------------------
 *
 * subject.c
 *	  What the pages about one lock share.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "http/address.h"
#include "http/reply.h"
#include "http/subject.h"

/*
 * Begin a page about the lock that the address names, under a title or its own name.
 * Returns false if the address names none; the request is answered then.
 */
bool
subject_begin(Page *page, Subject *subject, const char *title)
{
	char	   *encoded;

	memset(subject, 0, sizeof(Subject));
	subject->lockid = page_parameter(page, "lockid");
	if (subject->lockid == NULL)
	{
		reply_problem(page->request, 400, "the address names no lock: ?lockid=");
		return false;
	}
	encoded = percent_encode(subject->lockid);
	subject->query = psprintf("lockid=%s&", encoded);
	free(encoded);
	page_begin(page, title ? title : subject->lockid);
	return true;
}

/* End it.  What is not there looks the same as what the role may not see. */
void
subject_end(Page *page, Subject *subject)
{
	if (!subject->found)
	{
		page->request->status = 404;
		html(&page->html, "<p class=\"note bad\">There is nothing of that name, or role <bdi>%s"
			 "</bdi> may not see it.</p>\n",
			 page->role);
	}
	free(subject->lockid);
	free(subject->query);
}

/* Write a line of a list of facts.  Nothing is written for a NULL. */
void
write_fact(Page *page, const char *name, const char *value)
{
	if (value)
		html(&page->html, "<dt>%s</dt><dd><bdi>%s</bdi></dd>\n", name, value);
}

/* The same for a column with a time. */
void
write_time_fact(Page *page, const char *name, const PGresult *result, int column)
{
	if (db_value(result, 0, column) == NULL)
		return;
	html(&page->html, "<dt>%s</dt><dd>", name);
	html_time(&page->html, page_int(result, 0, column));
	html(&page->html, "</dd>\n");
}

/* The same for a column with a number of bytes. */
void
write_size_fact(Page *page, const char *name, const PGresult *result, int column)
{
	if (db_value(result, 0, column) == NULL)
		return;
	html(&page->html, "<dt>%s</dt><dd>", name);
	html_size(&page->html, page_int(result, 0, column));
	html(&page->html, "</dd>\n");
}
