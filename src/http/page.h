/*-------------------------------------------------------------------------
 *
 * page.h
 *	  The pages for people, and what they share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_PAGE_H
#define TFSTATE_HTTP_PAGE_H

#include "http/html.h"
#include "http/request.h"

/* What a browser is told that a page is. */
#define PAGE_CONTENT_TYPE "text/html; charset=utf-8"

/* A column of a result in seconds since 1970. */
#define EPOCH(time) "pg_catalog.floor(extract(epoch FROM " time "))::pg_catalog.int8"

/* A page that is being written. */
typedef struct Page
{
	Request    *request;
	Db		   *db;
	PQExpBufferData html;
	const char *root;			/* the address of the first page, seen from
								 * this one */
	char	   *database;
	char	   *role;
	int64_t		now;			/* the clock of PostgreSQL, in seconds since
								 * 1970 */
	bool		standby;
	bool		gone;			/* has the connection broken? */
} Page;

/* In page.c */
extern const Method *page_method(const char *uri);
extern void page_add_headers(struct MHD_Response *response);
extern bool page_ask(Page *page, const Statement *statement, PGresult **result);
extern void page_say_why(Page *page, const PGresult *result);
extern char *page_parameter(const Page *page, const char *name);
extern int64_t page_number(const Page *page, const char *name);
extern char *page_offset(int64_t number, int64_t size);
extern void page_begin(Page *page, const char *title);
extern void page_links(Page *page, const char *name, const char *query, int64_t number, int64_t size, int64_t count);
extern void page_table(Page *page, int64_t count, const char *what,...);
extern void page_table_end(Page *page);
extern void page_cell(Page *page, const char *heading);
extern void page_freezes(Page *page, const char *lockid);
extern void page_ago(Page *page, const PGresult *result, int row, int column);
extern int64_t page_int(const PGresult *result, int row, int column);

/* In style.c */
extern const char page_style[];

/* In locks.c */
extern void page_lock_state(Page *page, const PGresult *result, int row, int column);
extern void page_locks(Page *page);

/* In workspace.c and versions.c */
extern void page_workspace(Page *page);
extern void page_version(Page *page);

/* In timeline.c */
extern void page_timeline(Page *page, const PGresult *holdings);

/* In release.c */
extern void page_release_commands(Page *page, const char *lockid, const char *id, bool terminate);

#endif							/* TFSTATE_HTTP_PAGE_H */
