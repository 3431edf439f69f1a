/*-------------------------------------------------------------------------
 *
 * release.c
 *	  The commands that would release a lock, for a shell and for psql.
 *
 * They can be copied and run, whatever is in a name: what is not to be seen, and would be
 * shown by the page as something else, is written as an escape.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <ctype.h>

#include "mb/pg_wchar.h"

#include "http/page.h"

/* Returns true if all of a text is to be seen. */
static bool
is_shown(const char *value)
{
	int			length;

	for (; *value; value += length)
	{
		if (!html_shows((const unsigned char *) value, &length))
			return false;
	}
	return true;
}

/* Returns true if a shell takes a word as it is. */
static bool
is_bare(const char *word)
{
	for (const char *p = word; *p; p++)
	{
		if (!isalnum((unsigned char) *p) && !strchr("_-./:@%+,", *p))
			return false;
	}
	return *word != '\0';
}

static void
append_quoted(PQExpBuffer buf, const char *value, const char *quote)
{
	appendPQExpBufferChar(buf, '\'');
	for (; *value; value++)
	{
		if (*value == '\'')
			appendPQExpBufferStr(buf, quote);
		else
			appendPQExpBufferChar(buf, *value);
	}
	appendPQExpBufferChar(buf, '\'');
}

/* Append a text with all bytes but those of ordinary characters as escapes. */
static void
append_escapes(PQExpBuffer buf, const char *begin, const char *value, bool bytes)
{
	appendPQExpBuffer(buf, "%s'", begin);
	while (*value)
	{
		const unsigned char *p = (const unsigned char *) value;
		int			length;
		bool		shown = html_shows(p, &length);

		if (strchr("'\\", *p))
			appendPQExpBuffer(buf, "\\%c", *p);
		else if (shown)
			appendBinaryPQExpBuffer(buf, value, length);
		else if (bytes || length == 0)
		{
			for (int i = 0; i < Max(length, 1); i++)
				appendPQExpBuffer(buf, "\\x%02x", p[i]);
		}
		else
			appendPQExpBuffer(buf, "\\U%08x", (unsigned int) utf8_to_unicode(p));
		value += Max(length, 1);
	}
	appendPQExpBufferChar(buf, '\'');
}

/* Append a word of a command for a shell; for one that knows $'' if need be. */
static void
append_word(PQExpBuffer buf, const char *word)
{
	appendPQExpBufferChar(buf, ' ');
	if (is_bare(word))
		appendPQExpBufferStr(buf, word);
	else if (is_shown(word))
		append_quoted(buf, word, "'\\''");
	else
		append_escapes(buf, "$", word, true);
}

/* Append a literal of SQL. */
static void
append_literal(PQExpBuffer buf, const char *value)
{
	if (strchr(value, '\\') == NULL && is_shown(value))
		append_quoted(buf, value, "''");
	else
		append_escapes(buf, "E", value, false);
}

/*
 * Write the commands that release a lock by force.  terminate: also end the session that
 * holds it.
 */
void
page_release_commands(Page *page, const char *lockid, const char *id, bool terminate)
{
	PQExpBufferData buf;

	initPQExpBuffer(&buf);
	appendPQExpBufferStr(&buf, "tfstate force-unlock -d");
	append_word(&buf, page->database);
	appendPQExpBufferStr(&buf, terminate ? " --terminate" : "");
	appendPQExpBufferStr(&buf, *lockid == '-' || *id == '-' ? " --" : "");
	append_word(&buf, lockid);
	append_word(&buf, id);
	html(&page->html, "<p>In a shell:</p>\n<pre><code>%s</code></pre>\n", buf.data);

	resetPQExpBuffer(&buf);
	appendPQExpBuffer(&buf, "SELECT %s.tfstate_force_unlock(", page->db->schema);
	append_literal(&buf, lockid);
	appendPQExpBufferStr(&buf, ", ");
	append_literal(&buf, id);
	appendPQExpBufferStr(&buf, terminate ? ", terminate => true);" : ");");
	html(&page->html, "<p>In SQL:</p>\n<pre><code>%s</code></pre>\n", buf.data);
	termPQExpBuffer(&buf);
}
