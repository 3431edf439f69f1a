/*-------------------------------------------------------------------------
 *
 * print.h
 *	  Results as tables, CSV or JSON.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_PRINT_H
#define TFSTATE_PRINT_H

#include "libpq-fe.h"

typedef enum OutputFormat
{
	FORMAT_TABLE,
	FORMAT_CSV,
	FORMAT_JSON
} OutputFormat;

/* A format of printf() for a query that makes JSON of the rows of another. */
#define AS_JSON "SELECT coalesce(pg_catalog.jsonb_agg(t), '[]') FROM (%s) t"

extern bool flush_output(void);
extern void print_result(const PGresult *result, int encoding, OutputFormat format, bool expanded);

#endif							/* TFSTATE_PRINT_H */
