/*-------------------------------------------------------------------------
 *
 * address.c
 *	  Which workspace an address means.
 *
 * An address is /SCHEMA/TABLE/WORKSPACE or /LOCKID.  Each segment is percent-encoded, so
 * that a slash in a name is %2F.  The names are as in SQL without quotes; in a lockid the
 * identifiers are quoted as in SQL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <ctype.h>

#include "pqexpbuffer.h"

#include "common/quoted_words.h"
#include "http/address.h"

#define MAX_SEGMENTS	3

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = pg_tolower((unsigned char) c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * The text that is percent-encoded, which the caller frees; NULL if it is not encoded
 * correctly, or has a zero byte.
 */
char *
percent_decode(const char *text, size_t length)
{
	char	   *decoded = pg_malloc(length + 1);
	size_t		n = 0;

	for (size_t i = 0; i < length; i++)
	{
		char		c = text[i];

		if (c == '%')
		{
			int			high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
			int			low = high >= 0 ? hex_digit(text[i + 2]) : -1;

			if (low < 0)
			{
				free(decoded);
				return NULL;
			}
			c = (char) (high * 16 + low);
			i += 2;
		}
		if (c == '\0')
		{
			free(decoded);
			return NULL;
		}
		decoded[n++] = c;
	}
	decoded[n] = '\0';
	return decoded;
}

static int
compare_words(const void *a, const void *b)
{
	return strcmp(a, *(const char *const *) b);
}

/* Append an identifier as lockids have it; see append_identifier() in common/lockid.c. */
static void
append_identifier(PQExpBuffer buf, const char *identifier)
{
	size_t		bare = strspn(identifier, "abcdefghijklmnopqrstuvwxyz_0123456789");

	if (bare > 0 && identifier[bare] == '\0' && !isdigit((unsigned char) *identifier) &&
		bsearch(identifier, quoted_words, lengthof(quoted_words), sizeof(char *), compare_words) == NULL)
	{
		appendPQExpBufferStr(buf, identifier);
		return;
	}
	appendPQExpBufferChar(buf, '"');
	for (; *identifier; identifier++)
	{
		if (*identifier == '"')
			appendPQExpBufferChar(buf, '"');
		appendPQExpBufferChar(buf, *identifier);
	}
	appendPQExpBufferChar(buf, '"');
}

/*
 * Read the identifier that a text begins with, quoted as in SQL or bare.  Returns it, and
 * moves *text behind it; NULL if there is none.
 */
static char *
read_identifier(const char **text)
{
	const char *p = *text;
	char	   *identifier = pg_malloc(strlen(p) + 1);
	size_t		n = 0;
	bool		quoted = *p == '"';

	if (!quoted)
	{
		while ((*p >= 'a' && *p <= 'z') || *p == '_' || isdigit((unsigned char) *p))
			identifier[n++] = *p++;
	}
	else
	{
		p++;
		while (*p && (*p != '"' || p[1] == '"'))
		{
			p += *p == '"';
			identifier[n++] = *p++;
		}
		quoted = *p++ == '"';
		if (!quoted)
			n = 0;
	}
	identifier[n] = '\0';
	if (n == 0)
	{
		free(identifier);
		return NULL;
	}
	*text = p;
	return identifier;
}

static void
set_lockid(Address *address)
{
	PQExpBufferData buf;

	initPQExpBuffer(&buf);
	append_identifier(&buf, address->schema);
	appendPQExpBufferChar(&buf, '.');
	append_identifier(&buf, address->table);
	appendPQExpBuffer(&buf, "/%s", address->workspace);
	address->lockid = buf.data;
}

/*
 * Read a lockid.  Returns false if it is not that of a workspace; address_free() is due in
 * any case.
 */
bool
address_of_lockid(const char *lockid, Address *address)
{
	memset(address, 0, sizeof(Address));
	address->schema = read_identifier(&lockid);
	if (address->schema == NULL || *lockid++ != '.')
		return false;
	address->table = read_identifier(&lockid);
	if (address->table == NULL || *lockid++ != '/' || *lockid == '\0')
		return false;
	address->workspace = pg_strdup(lockid);
	set_lockid(address);
	return true;
}

/*
 * Read the path of a request, as it was sent.  Returns false if it means no workspace;
 * address_free() is due in any case.
 */
bool
address_of_path(const char *path, Address *address)
{
	char	   *segments[MAX_SEGMENTS] = {NULL};
	int			count = 0;
	bool		good = *path == '/';

	memset(address, 0, sizeof(Address));
	while (good && *path == '/')
	{
		size_t		length = strcspn(++path, "/");

		good = length > 0 && count < MAX_SEGMENTS && (segments[count++] = percent_decode(path, length)) != NULL;
		path += length;
	}
	if (good && count == 1)
		good = address_of_lockid(segments[0], address);
	else if (good && count == MAX_SEGMENTS)
	{
		address->schema = pg_strdup(segments[0]);
		address->table = pg_strdup(segments[1]);
		address->workspace = pg_strdup(segments[2]);
		set_lockid(address);
	}
	else
		good = false;
	for (int i = 0; i < MAX_SEGMENTS; i++)
		free(segments[i]);
	return good;
}

/* The text with all but letters, digits and -._~ percent-encoded, which the caller frees. */
char *
percent_encode(const char *text)
{
	PQExpBufferData buf;

	initPQExpBuffer(&buf);
	for (; *text; text ++)
	{
		if (isalnum((unsigned char) *text) || strchr("-._~", *text))
			appendPQExpBufferChar(&buf, *text);
		else
			appendPQExpBuffer(&buf, "%%%02X", (unsigned char) *text);
	}
	return buf.data;
}

/*
 * A value in the query of a URI, which the caller frees; NULL if there is none, or it is
 * empty or not encoded correctly.  A space can be a plus there.
 */
char *
query_value(const char *uri, const char *name)
{
	size_t		length = strlen(name);

	for (const char *p = strchr(uri, '?'); p; p = strchr(p, '&'))
	{
		size_t		size = strcspn(++p, "&");

		if (size > length + 1 && strncmp(p, name, length) == 0 && p[length] == '=')
		{
			char	   *value = pnstrdup(p + length + 1, size - length - 1);
			char	   *decoded;

			for (char *plus = value; (plus = strchr(plus, '+')) != NULL;)
				*plus = ' ';
			decoded = percent_decode(value, strlen(value));
			free(value);
			return decoded;
		}
	}
	return NULL;
}

static void
append_encoded(PQExpBuffer buf, const char *segment)
{
	char	   *encoded = percent_encode(segment);

	appendPQExpBuffer(buf, "/%s", encoded);
	free(encoded);
}

/* The path of an address, which the caller frees. */
char *
address_path(const Address *address)
{
	PQExpBufferData buf;

	initPQExpBuffer(&buf);
	append_encoded(&buf, address->schema);
	append_encoded(&buf, address->table);
	append_encoded(&buf, address->workspace);
	return buf.data;
}

void
address_free(Address *address)
{
	free(address->schema);
	free(address->table);
	free(address->workspace);
	free(address->lockid);
	memset(address, 0, sizeof(Address));
}
