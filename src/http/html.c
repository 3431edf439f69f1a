/*-------------------------------------------------------------------------
 *
 * html.c
 *	  Writing HTML, in which every value is escaped.
 *
 * Markup is a literal of the source, which the macro html() sees to, and values have no
 * other way in than %s.  That escapes what would end a text or an attribute in quotes, and
 * makes characters visible that nobody would see, or that would rearrange what stands
 * around them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <time.h>

#include "mb/pg_wchar.h"

#include "http/html.h"

/* What stands for bytes that are no character. */
#define REPLACEMENT	"\xef\xbf\xbd"

/* Characters that are not to be seen, or have no place in HTML. */
static const struct
{
	uint32_t	first;
	uint32_t	last;
}			unseen[] = {
	{0x0001, 0x001f},			/* control characters */
	{0x007f, 0x009f},
	{0x00ad, 0x00ad},			/* soft hyphen */
	{0x061c, 0x061c},			/* directions */
	{0x180e, 0x180e},
	{0x200b, 0x200b},			/* zero width */
	{0x200e, 0x200f},			/* directions */
	{0x2028, 0x202e},
	{0x2060, 0x206f},
	{0xfdd0, 0xfdef},			/* no characters */
	{0xfeff, 0xfeff},			/* zero width */
	{0xfff0, 0xfffb},
	{0xe0000, 0xe0fff}			/* tags */
};

static bool
is_unseen(uint32_t code)
{
	for (int i = 0; i < lengthof(unseen); i++)
	{
		if (code >= unseen[i].first && code <= unseen[i].last)
			return true;
	}
	return (code & 0xfffe) == 0xfffe;
}

/*
 * Returns true if a reader sees the character that a text begins with.  *length becomes its
 * length, or 0 if there is no character but a wrong byte.
 */
bool
html_shows(const unsigned char *text, int *length)
{
	int			expected = pg_utf_mblen(text);

	if (strnlen((const char *) text, expected) < expected || !pg_utf8_islegal(text, expected))
	{
		*length = 0;
		return false;
	}
	*length = expected;
	return !is_unseen(utf8_to_unicode(text));
}

static void
append_escaped(PQExpBuffer buf, const char *text)
{
	const unsigned char *p = (const unsigned char *) text;

	while (*p)
	{
		int			length;
		bool		shown = html_shows(p, &length);

		if (length == 0)
			appendPQExpBufferStr(buf, REPLACEMENT);
		else if (!shown)
			appendPQExpBuffer(buf, "[U+%04X]", (unsigned int) utf8_to_unicode(p));
		else if (strchr("<>&\"'", *p))
			appendPQExpBuffer(buf, "&#%d;", *p);
		else
			appendBinaryPQExpBuffer(buf, (const char *) p, length);
		p += Max(length, 1);
	}
}

/*
 * The function behind html().  A NULL for %s is nothing.
 */
void
html_append(PQExpBuffer buf, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	for (; *format; format++)
	{
		const char *text;

		if (*format != '%')
			appendPQExpBufferChar(buf, *format);
		else if (*++format == 's')
		{
			text = va_arg(arguments, const char *);

			append_escaped(buf, text ? text : "");
		}
		else if (*format == 'd')
			appendPQExpBuffer(buf, "%d", va_arg(arguments, int));
		else if (strncmp(format, "lld", 3) == 0)
		{
			appendPQExpBuffer(buf, "%lld", va_arg(arguments, long long));
			format += 2;
		}
		else
			appendPQExpBufferChar(buf, '%');
	}
	va_end(arguments);
}

/* Append a point in time, which is given in seconds since 1970. */
void
html_time(PQExpBuffer buf, int64_t seconds)
{
	time_t		time = (time_t) seconds;
	struct tm	tm;
	char		machine[64];
	char		human[64];

	if (gmtime_r(&time, &tm) == NULL)
		return;
	strftime(machine, sizeof(machine), "%Y-%m-%dT%H:%M:%SZ", &tm);
	strftime(human, sizeof(human), "%Y-%m-%d %H:%M:%S UTC", &tm);
	html(buf, "<time datetime=\"%s\">%s</time>", machine, human);
}

/* Append how long something takes, in words. */
void
html_duration(PQExpBuffer buf, int64_t seconds)
{
	static const struct
	{
		int64_t		seconds;
		const char *name;
	}			units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
	int			i = 0;

	/* two of a unit say more than one of the next */
	while (i < lengthof(units) - 1 && seconds < 2 * units[i].seconds)
		i++;
	html(buf, "%lld %s%s", (long long) (seconds / units[i].seconds), units[i].name,
		 seconds / units[i].seconds == 1 ? "" : "s");
}

/* Append a number of bytes. */
void
html_size(PQExpBuffer buf, int64_t bytes)
{
	static const char *const units[] = {"bytes", "kB", "MB", "GB"};
	double		size = bytes;
	int			i = 0;
	char text[	32];

	while (i < lengthof(units) - 1 && size >= 1000)
	{
		size /= 1000;
		i++;
	}
	snprintf(text, sizeof(text), i == 0 || size >= 100 ? "%.0f" : "%.1f", size);
	html(buf, "%s %s", text, units[i]);
}
