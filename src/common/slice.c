/*-------------------------------------------------------------------------
 *
 * slice.c
 *	  Values inside a JSON text that is known to be valid.
 *
 * The server's parser has checked the text before, in tfstate_json_object().  So the
 * functions here check neither for faults nor for the end of the text, and what they skip
 * costs no memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "common/json.h"
#include "common/slice.h"

static inline bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *
skip_space(const char *p)
{
	while (is_space(*p))
		p++;
	return p;
}

/* The end of the string whose opening quote is at p: after its closing quote. */
static const char *
skip_string(const char *p)
{
	for (p++; *p != '"'; p++)
	{
		if (*p == '\\')
			p++;
	}
	return p + 1;
}

static const char *
skip_container(const char *p)
{
	int			depth = 0;

	for (;;)
	{
		switch (*p)
		{
			case '"':
				p = skip_string(p);
				continue;
			case '{':
			case '[':
				depth++;
				break;
			case '}':
			case ']':
				if (--depth == 0)
					return p + 1;
				break;
		}
		p++;
	}
}

/* The end of a value.  It is in a container, so something follows it. */
static const char *
skip_value(const char *p)
{
	if (*p == '"')
		return skip_string(p);
	if (*p == '{' || *p == '[')
		return skip_container(p);
	return p + strcspn(p, ",]} \t\n\r");
}

/*
 * Return true, and the object, if a text of len bytes, in the database's encoding, is a
 * JSON object.
 */
bool
tfstate_json_object(const char *json, int len, Slice *object)
{
	JsonStream	stream = {0};

	CHECK_FOR_INTERRUPTS();
	stream.max_depth = -1;		/* no keys, no values */
	if (!tfstate_read_json(json, len, &stream))
		return false;
	object->start = skip_space(json);
	object->end = json + len;
	return *object->start == '{';
}

static SliceReader
open_container(Slice container, char bracket)
{
	SliceReader reader = {0};

	reader.is_object = bracket == '{';
	if (container.start && *container.start == bracket)
		reader.position = container.start + 1;
	return reader;
}

/*
 * Start reading the members of an object.  Any other value, or none, has no members.
 */
SliceReader
tfstate_slice_members(Slice object)
{
	return open_container(object, '{');
}

/*
 * Start reading the elements of an array.  Any other value, or none, has no elements.
 */
SliceReader
tfstate_slice_elements(Slice array)
{
	return open_container(array, '[');
}

/*
 * Read the next member or element into the reader's key and value.  Returns false if there
 * is none.
 */
bool
tfstate_slice_next(SliceReader *reader)
{
	const char *p = reader->position;

	if (p == NULL)
		return false;
	CHECK_FOR_INTERRUPTS();
	p = skip_space(p);
	if (*p == ',')
		p = skip_space(p + 1);
	if (*p == '}' || *p == ']')
	{
		reader->position = NULL;
		return false;
	}
	if (reader->is_object)
	{
		reader->key.start = p;
		reader->key.end = skip_string(p);
		p = skip_space(reader->key.end);	/* to the colon */
		p = skip_space(p + 1);
	}
	reader->value.start = p;
	reader->value.end = reader->position = skip_value(p);
	return true;
}

static uint32
hex_number(const char *digits)
{
	uint32		number = 0;

	for (int i = 0; i < 4; i++)
	{
		char		c = digits[i];

		number = number * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	return number;
}

/*
 * Append the character of the escape \uXXXX at p, or of a pair of such escapes for
 * surrogates, and return the end of what was read.  An escape that stands for no character
 * of the database's encoding is appended as it is written; so is one beyond ASCII if the
 * encoding is not UTF-8.
 */
static const char *
append_unicode(StringInfo buf, const char *p)
{
	const char *end = p + 6;
	uint32		code = hex_number(p + 2);
	unsigned char utf8[MAX_MULTIBYTE_CHAR_LEN + 1] = {0};

	if (is_utf16_surrogate_first(code) && end[0] == '\\' && end[1] == 'u' &&
		is_utf16_surrogate_second(hex_number(end + 2)))
	{
		code = surrogate_pair_to_codepoint(code, hex_number(end + 2));
		end += 6;
	}
	if (!is_valid_unicode_codepoint(code) ||
		is_utf16_surrogate_first(code) || is_utf16_surrogate_second(code) ||
		(code >= 0x80 && GetDatabaseEncoding() != PG_UTF8))
		appendBinaryStringInfo(buf, p, end - p);
	else
	{
		unicode_to_utf8(code, utf8);
		appendStringInfoString(buf, (char *) utf8);
	}
	return end;
}

/* Append the character of the escape at p, and return the end of the escape. */
static const char *
append_escaped(StringInfo buf, const char *p)
{
	switch (p[1])
	{
		case 'b':
			appendStringInfoChar(buf, '\b');
			break;
		case 'f':
			appendStringInfoChar(buf, '\f');
			break;
		case 'n':
			appendStringInfoChar(buf, '\n');
			break;
		case 'r':
			appendStringInfoChar(buf, '\r');
			break;
		case 't':
			appendStringInfoChar(buf, '\t');
			break;
		case 'u':
			return append_unicode(buf, p);
		default:				/* a quote, a slash or a backslash */
			appendStringInfoChar(buf, p[1]);
	}
	return p + 2;
}

/*
 * The text of a string, palloc'd; NULL if the value is not a string.  Characters that the
 * database cannot represent, such as the character 0, stay escaped.
 */
char *
tfstate_slice_string(Slice value)
{
	StringInfoData buf;
	const char *p = value.start;

	if (p == NULL || *p != '"')
		return NULL;
	initStringInfo(&buf);
	for (p++; *p != '"';)
	{
		const char *plain = p;

		while (*p != '"' && *p != '\\')
			p++;
		appendBinaryStringInfo(&buf, plain, p - plain);
		if (*p == '\\')
			p = append_escaped(&buf, p);
	}
	return buf.data;
}

/*
 * The text of a string, as tfstate_slice_string() returns it, or a number as it is
 * written, palloc'd; NULL for any other value.
 */
char *
tfstate_slice_scalar(Slice value)
{
	if (value.start && (*value.start == '-' || (*value.start >= '0' && *value.start <= '9')))
		return tfstate_slice_json(value);
	return tfstate_slice_string(value);
}

/* A value as it is written, palloc'd. */
char *
tfstate_slice_json(Slice value)
{
	return pnstrdup(value.start, value.end - value.start);
}

/* Return true if the value is this string. */
bool
tfstate_slice_is(Slice value, const char *string)
{
	size_t		len = strlen(string);
	char	   *decoded;
	bool		equal;

	if (value.start == NULL || *value.start != '"')
		return false;
	if (memchr(value.start, '\\', value.end - value.start) == NULL)
		return value.end - value.start == len + 2 && memcmp(value.start + 1, string, len) == 0;
	decoded = tfstate_slice_string(value);
	equal = strcmp(decoded, string) == 0;
	pfree(decoded);
	return equal;
}

/*
 * Append a value as it is written, but without white space between its tokens.
 */
void
tfstate_slice_squeeze(StringInfo buf, Slice value)
{
	const char *p = value.start;

	while (p < value.end)
	{
		const char *token = p;

		if (*p == '"')
			p = skip_string(p);
		else
		{
			while (p < value.end && *p != '"' && !is_space(*p))
				p++;
		}
		appendBinaryStringInfo(buf, token, p - token);
		while (p < value.end && is_space(*p))
			p++;
	}
}
