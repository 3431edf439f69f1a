/*-------------------------------------------------------------------------
 *
 * html.h
 *	  Writing HTML, in which every value is escaped.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_HTML_H
#define TFSTATE_HTTP_HTML_H

#include "pqexpbuffer.h"

/*
 * Append markup, which can be nothing but a literal, with values for %s, %d and %lld.
 */
#define html(buf, ...) html_append((buf), "" __VA_ARGS__)

extern void html_append(PQExpBuffer buf, const char *format,...) pg_attribute_printf(2, 3);
extern void html_time(PQExpBuffer buf, int64_t seconds);
extern void html_duration(PQExpBuffer buf, int64_t seconds);
extern void html_size(PQExpBuffer buf, int64_t bytes);
extern bool html_shows(const unsigned char *text, int *length);

#endif							/* TFSTATE_HTTP_HTML_H */
