/*-------------------------------------------------------------------------
 *
 * text.c
 *	  Making texts safe to show.
 *
 * An error message is sent in the client's encoding and shown on a terminal.  A text in it
 * that another user gave must neither turn it into another error nor have control characters
 * that the terminal would obey.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "common/text.h"

/* The encoding of texts: the database's, or the client's where that is SQL_ASCII. */
static int
text_encoding(void)
{
	return GetDatabaseEncoding() == PG_SQL_ASCII ? pg_get_client_encoding() : GetDatabaseEncoding();
}

/* Return true if an encoding has control characters at 0x80 to 0x9f, as ISO 8859 does. */
static bool
has_c1(int encoding)
{
	return (encoding >= PG_LATIN1 && encoding <= PG_LATIN10) ||
		(encoding >= PG_ISO_8859_5 && encoding <= PG_ISO_8859_8);
}

/*
 * The length in bytes of the control character at text, or 0.
 */
static int
control_bytes(const char *text)
{
	const unsigned char *p = (const unsigned char *) text;
	int			encoding = text_encoding();

	if (*p < ' ' || *p == 0x7f)
		return 1;
	if (*p >= 0x80 && *p < 0xa0 && has_c1(encoding))
		return 1;
	if (encoding == PG_UTF8 && p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
		return 2;				/* U+0080 to U+009F */
	return 0;
}

/*
 * How many bytes of a text, from its start, are valid and can be converted to the client's
 * encoding.
 */
static int
showable_bytes(const char *text, int len)
{
	int			encoding = text_encoding();
	int			client = pg_get_client_encoding();
	int			valid = pg_encoding_verifymbstr(encoding, text, len);
	Oid			conversion;
	unsigned char *space;

	if (encoding == client || client == PG_SQL_ASCII || encoding == PG_SQL_ASCII)
		return valid;
	conversion = FindDefaultConversionProc(encoding, client);
	if (!OidIsValid(conversion))
		return valid;
	space = palloc((Size) valid * MAX_CONVERSION_GROWTH + 1);
	valid = pg_do_encoding_conversion_buf(conversion, encoding, client,
										  (unsigned char *) unconstify(char *, text), valid,
										  space, valid * MAX_CONVERSION_GROWTH + 1, true);
	pfree(space);
	return valid;
}

/*
 * A copy of a text with question marks for what is not valid in the database's encoding.
 */
char *
tfstate_valid_text(const char *text)
{
	int			len = strlen(text);
	char	   *result = pnstrdup(text, len);
	int			pos = 0;

	while ((pos += pg_encoding_verifymbstr(GetDatabaseEncoding(), result + pos, len - pos)) < len)
		result[pos] = '?';
	return result;
}

/*
 * A copy of a text that can be shown to the client in one line: cut to max_bytes, with
 * spaces for control characters and question marks for what is not valid or cannot be
 * converted to the client's encoding.
 */
char *
tfstate_one_line(const char *text, int max_bytes)
{
	int			len = strlen(text);
	char	   *result = pnstrdup(text, len);
	int			encoding = text_encoding();
	int			pos = 0;

	while ((pos += showable_bytes(result + pos, len - pos)) < len)
	{
		int			bytes = pg_encoding_verifymbchar(encoding, result + pos, len - pos);

		memset(result + pos, '?', Max(bytes, 1));
	}
	result[pg_encoding_mbcliplen(encoding, result, len, max_bytes)] = '\0';
	for (char *p = result; *p; p++)
		memset(p, ' ', control_bytes(p));
	return strlen(result) < len ? psprintf("%s...", result) : result;
}

/*
 * The length in bytes of the character at p if it must be escaped, else 0.  *shown is the
 * end of what is known to be showable; it is moved on as needed.
 */
static int
bytes_to_escape(const char *p, const char **shown)
{
	if (p >= *shown)
		*shown = p + showable_bytes(p, strlen(p));
	return p >= *shown ? pg_encoding_mblen(text_encoding(), p) : control_bytes(p);
}

/*
 * A text as a literal of SQL that can be shown to the client in one line: control
 * characters, and what cannot be shown, are escaped.
 */
char *
tfstate_shown_literal(const char *text)
{
	StringInfoData result;
	const char *shown = text;
	bool		escaped = false;

	initStringInfo(&result);
	for (const char *p = text; *p; p++)
	{
		int			bytes = bytes_to_escape(p, &shown);

		if (bytes == 0)
		{
			if (*p == '\'' || *p == '\\')
				appendStringInfoChar(&result, *p);
			appendStringInfoChar(&result, *p);
			escaped |= *p == '\\';
			continue;
		}
		escaped = true;
		appendStringInfo(&result, "\\x%02x", (unsigned char) *p);
		while (--bytes > 0 && p[1])
			appendStringInfo(&result, "\\x%02x", (unsigned char) *++p);
	}
	return psprintf("%s'%s'", escaped ? "E" : "", result.data);
}

/*
 * A point in time as text, in seconds, in ISO form in the session's time zone.
 */
char *
tfstate_format_time(TimestampTz time)
{
	char		buffer[MAXDATELEN + 1];
	struct pg_tm tm;
	fsec_t		fsec;
	int			tz;
	const char *tzn;

	if (timestamp2tm(time, &tz, &tm, &fsec, &tzn, NULL) != 0)
		return pstrdup("?");
	EncodeDateTime(&tm, 0, true, tz, tzn, USE_ISO_DATES, buffer);
	return pstrdup(buffer);
}
