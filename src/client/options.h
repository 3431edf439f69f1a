/*-------------------------------------------------------------------------
 *
 * options.h
 *	  Reading the command line.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_OPTIONS_H
#define TFSTATE_OPTIONS_H

#include <getopt.h>

#include "client.h"

/* What getopt_long() returns for options without a letter. */
enum
{
	OPTION_HELP = 256,
	OPTION_LONG_ONLY
};

pg_noreturn extern void usage_error(const Command *command, const char *format,...)
			pg_attribute_printf(2, 3);
extern int64_t duration_argument(const Command *command, const char *option, const char *value);
extern int	status_argument(const Command *command, const char *option, const char *value);
extern int	bad_option(const Command *command, int c);
extern void print_help(const Command *command);
extern char *make_uuid(void);
extern char *default_who(void);

#endif							/* TFSTATE_OPTIONS_H */
