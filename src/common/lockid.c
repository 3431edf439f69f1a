/*-------------------------------------------------------------------------
 *
 * lockid.c
 *	  Lockids and patterns of lockids.
 *
 * The lockid of a workspace has identifiers in it.  They are quoted as in SQL, but by a rule
 * that depends neither on settings nor on the version of the server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "common/limits.h"
#include "common/lockid.h"
#include "common/quoted_words.h"

PG_FUNCTION_INFO_V1(tfstate_matches);

/*
 * Error if the text is empty or too long to be a lockid.
 */
void
tfstate_check_lockid(const char *lockid)
{
	if (*lockid == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lockid must not be empty")));
	if (strlen(lockid) > TFSTATE_MAX_LOCKID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lockid is too long: it has %zu bytes, and %d are allowed",
						strlen(lockid), TFSTATE_MAX_LOCKID)));
}

/*
 * Error if the text is too long to be a pattern.  The time to match it grows with the
 * product of both lengths, so both are limited.
 */
void
tfstate_check_pattern(const char *pattern)
{
	if (strlen(pattern) > TFSTATE_MAX_LOCKID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("pattern is too long: it has %zu bytes, and %d are allowed",
						strlen(pattern), TFSTATE_MAX_LOCKID)));
}

/*
 * Return true if a lockid matches a pattern, in which a star stands for any text.
 */
bool
tfstate_pattern_matches(const char *lockid, const char *pattern)
{
	const char *star = NULL;	/* the last star */
	const char *resume = NULL;	/* the end of the text that it stands for */

	while (*lockid)
	{
		if (*pattern == '*')
		{
			star = pattern++;
			if (*pattern == '\0')
				return true;
			resume = lockid;
		}
		else if (*pattern == *lockid)
		{
			pattern++;
			lockid++;
		}
		else if (star)
		{
			CHECK_FOR_INTERRUPTS();
			pattern = star + 1;
			lockid = ++resume;
		}
		else
			return false;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

static int
compare_words(const void *a, const void *b)
{
	return strcmp(a, *(const char *const *) b);
}

/*
 * Append an identifier as lockids have it: without quotes if it consists of lower-case
 * ASCII letters, digits and underscores, begins with no digit and is not one of the quoted
 * words, else in double quotes.
 */
static void
append_identifier(StringInfo buf, const char *identifier)
{
	size_t		bare = strspn(identifier, "abcdefghijklmnopqrstuvwxyz_0123456789");

	if (bare > 0 && identifier[bare] == '\0' && !isdigit((unsigned char) *identifier) &&
		bsearch(identifier, quoted_words, lengthof(quoted_words), sizeof(char *),
				compare_words) == NULL)
	{
		appendStringInfoString(buf, identifier);
		return;
	}
	appendStringInfoChar(buf, '"');
	for (; *identifier; identifier++)
	{
		if (*identifier == '"')
			appendStringInfoChar(buf, '"');
		appendStringInfoChar(buf, *identifier);
	}
	appendStringInfoChar(buf, '"');
}

/* An identifier as lockids have it, palloc'd. */
char *
tfstate_quote_identifier(const char *identifier)
{
	StringInfoData buf;

	initStringInfo(&buf);
	append_identifier(&buf, identifier);
	return buf.data;
}

/*
 * tfstate_internal.matches(lockid text, pattern text) returns boolean
 */
Datum
tfstate_matches(PG_FUNCTION_ARGS)
{
	char	   *lockid = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *pattern = text_to_cstring(PG_GETARG_TEXT_PP(1));

	if (*lockid)
		tfstate_check_lockid(lockid);
	tfstate_check_pattern(pattern);
	PG_RETURN_BOOL(tfstate_pattern_matches(lockid, pattern));
}
