/*-------------------------------------------------------------------------
 *
 * subject.h
 *	  What the pages about one lock share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_SUBJECT_H
#define TFSTATE_HTTP_SUBJECT_H

#include "http/page.h"

/* How many bytes of states are read for a list, unless somebody asks for more. */
#define READ_FOR_LIST	(8 * 1024 * 1024)

/* The lock, mostly of a workspace, that a page is about. */
typedef struct Subject
{
	char	   *lockid;
	char	   *query;			/* for links to it */
	bool		found;			/* is there anything to show? */
	bool		workspace;		/* is there a state? */
	int64_t		size;			/* of the state */
} Subject;

/* In subject.c */
extern bool subject_begin(Page *page, Subject *subject, const char *title);
extern void subject_end(Page *page, Subject *subject);
extern void write_fact(Page *page, const char *name, const char *value);
extern void write_time_fact(Page *page, const char *name, const PGresult *result, int column);
extern void write_size_fact(Page *page, const char *name, const PGresult *result, int column);

/* In versions.c */
extern void write_versions(Page *page, Subject *subject);

#endif							/* TFSTATE_HTTP_SUBJECT_H */
