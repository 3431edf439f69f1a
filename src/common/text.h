/*-------------------------------------------------------------------------
 *
 * text.h
 *	  Making texts safe to show.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_TEXT_H
#define TFSTATE_TEXT_H

#include "datatype/timestamp.h"

extern char *tfstate_valid_text(const char *text);
extern char *tfstate_one_line(const char *text, int max_bytes);
extern char *tfstate_shown_literal(const char *text);
extern char *tfstate_format_time(TimestampTz time);

#endif							/* TFSTATE_TEXT_H */
