/*-------------------------------------------------------------------------
 *
 * backend.c
 *	  Where a directory of Terraform's configuration has its states.
 *
 * "terraform init" leaves the type and the settings of the backend in the file
 * .terraform/terraform.tfstate, as far as they are in the configuration; the others come
 * from the environment, and the selected workspace from TF_WORKSPACE or another file.
 *
 * The connection string is one of lib/pq, the driver of Terraform, which differs from
 * libpq's: a parameter that lib/pq does not know is a setting of the session, the default
 * host is localhost, and the default sslmode is "require".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <ctype.h>

#include "common/jsonapi.h"
#include "fe_utils/string_utils.h"
#include "mb/pg_wchar.h"

#include "backend.h"
#include "client.h"
#include "conn.h"

/* The file must be read whole; it has a few kilobytes. */
#define MAX_FILE		1048576

/* How deep objects and arrays can be nested. */
#define MAX_DEPTH		100

/* How deep the fields are that count: backend, config, name. */
#define FIELD_DEPTH		3

typedef struct Reader
{
	Backend    *backend;
	int			depth;			/* of objects and arrays */
	char	   *fields[FIELD_DEPTH];
	bool		names_table;	/* is there a setting for the table's name? */
} Reader;

/* What the calls of the JSON parser return, which is new in PostgreSQL 16. */
#if PG_VERSION_NUM >= 160000
typedef JsonParseErrorType JsonResult;
#define JSON_GO_ON	return JSON_SUCCESS
#else
typedef void JsonResult;
#define JSON_GO_ON	return
#endif

static JsonResult
enter(void *state)
{
	((Reader *) state)->depth++;
	JSON_GO_ON;
}

static JsonResult
leave(void *state)
{
	((Reader *) state)->depth--;
	JSON_GO_ON;
}

static JsonResult
note_field(void *state, char *name, bool isnull)
{
	Reader	   *reader = state;

	if (reader->depth <= FIELD_DEPTH)
		reader->fields[reader->depth - 1] = name;
	JSON_GO_ON;
}

/* Is the value that was found that of this field? */
static bool
is_field(const Reader *reader, const char *first, const char *second, const char *third)
{
	const char *names[] = {first, second, third};
	int			depth = third ? 3 : second ? 2 : 1;

	for (int i = 0; i < depth; i++)
	{
		if (reader->depth != depth || reader->fields[i] == NULL || strcmp(reader->fields[i], names[i]) != 0)
			return false;
	}
	return true;
}

static JsonResult
note_value(void *state, char *value, JsonTokenType type)
{
	Reader	   *reader = state;
	Backend    *backend = reader->backend;

	if (is_field(reader, "backend", "config", "table_name"))
		reader->names_table = true;
	if (type != JSON_TOKEN_STRING)
		JSON_GO_ON;
	if (is_field(reader, "terraform_version", NULL, NULL))
		backend->version = value;
	else if (is_field(reader, "backend", "type", NULL))
		backend->type = value;
	else if (is_field(reader, "backend", "config", "conn_str"))
		backend->conn_str = value;
	else if (is_field(reader, "backend", "config", "schema_name"))
		backend->schema = value;
	else if (is_field(reader, "backend", "config", "table_name"))
		backend->table = value;
	JSON_GO_ON;
}

/* Returns true if objects and arrays are nested deeper than the parser should recurse. */
static bool
is_too_deep(const char *content)
{
	int			depth = 0;

	for (; *content && depth <= MAX_DEPTH; content++)
		depth += (*content == '{' || *content == '[') - (*content == '}' || *content == ']');
	return depth > MAX_DEPTH;
}

/* Read the fields of a JSON object that count.  Returns false if it is none. */
static bool
read_json(Reader *reader, char *content, size_t length)
{
	JsonSemAction action = {
		.semstate = reader,
		.object_start = enter,
		.object_end = leave,
		.array_start = enter,
		.array_end = leave,
		.object_field_start = note_field,
		.scalar = note_value
	};

#if PG_VERSION_NUM >= 170000
	JsonLexContext *lex = makeJsonLexContextCstringLen(NULL, content, length, PG_UTF8, true);
#else
	JsonLexContext *lex = makeJsonLexContextCstringLen(content, (int) length, PG_UTF8, true);
#endif

	return !is_too_deep(content) && pg_parse_json(lex, &action) == JSON_SUCCESS;
}

/* The content of a file; NULL if it cannot be read. */
static char *
read_file(const char *path, size_t *length)
{
	FILE	   *file = fopen(path, "r");
	char	   *content;

	if (file == NULL)
		return NULL;
	content = pg_malloc(MAX_FILE + 1);
	*length = fread(content, 1, MAX_FILE, file);
	content[*length] = '\0';
	if (ferror(file))
		content = NULL;
	fclose(file);
	return content;
}

/* An environment variable that is not empty; NULL if there is none. */
static char *
variable(const char *name)
{
	char	   *value = getenv(name);

	return value && *value ? value : NULL;
}

static char *
in_directory(const char *directory, const char *name)
{
	return directory && !is_absolute_path(name) ? psprintf("%s/%s", directory, name) : pg_strdup(name);
}

/* The workspace that is selected. */
static char *
selected_workspace(const char *data)
{
	size_t		length;
	char	   *name = variable("TF_WORKSPACE");

	if (name)
		return name;
	name = read_file(psprintf("%s/environment", data), &length);
	while (name && isspace((unsigned char) *name))
		name++;
	for (size_t end = name ? strlen(name) : 0; end > 0 && isspace((unsigned char) name[end - 1]); end--)
		name[end - 1] = '\0';
	return name && *name ? name : "default";
}

/* A parameter of a connection string, cut out of *rest in place; see the two formats below. */
typedef bool (*NextParameter) (char **rest, char **name, char **value);

/* Decode a part of a URL in place: %41, and "+" for a space. */
static char *
decode(char *part)
{
	char	   *to = part;

	for (char *from = part; *from; from++)
	{
		unsigned int byte;

		if (*from == '%' && isxdigit((unsigned char) from[1]) && isxdigit((unsigned char) from[2]) &&
			sscanf(from + 1, "%2x", &byte) == 1)
		{
			*to++ = (char) byte;
			from += 2;
		}
		else
			*to++ = *from == '+' ? ' ' : *from;
	}
	*to = '\0';
	return part;
}

/* The next one of name=value&name=value, the query of a URL. */
static bool
next_of_query(char **rest, char **name, char **value)
{
	char	   *end = *rest + strcspn(*rest, "&");
	bool		last = *end == '\0';

	*name = *rest;
	*end = '\0';
	*rest = last ? end : end + 1;
	*value = strchr(*name, '=');
	if (*value == NULL)
		return false;
	*(*value)++ = '\0';
	decode(*name);
	decode(*value);
	return true;
}

/* The next one of name=value name='value with a \' in it'. */
static bool
next_of_words(char **rest, char **name, char **value)
{
	char	   *p = *rest;
	char	   *to;
	bool		found;
	bool		quoted;

	*name = p;
	p += strcspn(p, "= \t\n\r");
	to = p;
	p += strspn(p, " \t\n\r");
	found = *p == '=';
	/* no message shows what follows, which may be a password */
	*to = '\0';
	if (!found)
		return false;
	p++;
	p += strspn(p, " \t\n\r");
	quoted = *p == '\'';
	if (quoted)
		p++;
	*value = to = p;
	while (*p && (quoted ? *p != '\'' : !isspace((unsigned char) *p)))
	{
		if (*p == '\\' && p[1])
			p++;
		*to++ = *p++;
	}
	if (quoted && *p != '\'')
		return false;
	if (*p)
		p++;
	*to = '\0';
	*rest = p + strspn(p, " \t\n\r");
	return true;
}

/*
 * The parameters of a connection string, in a copy of it.  Of a URL these are the ones
 * behind "?", and *url is what stands before.
 */
static char *
begin_parameters(const char *conn_str, char **url, NextParameter *next)
{
	char	   *string = pg_strdup(conn_str ? conn_str : "");

	*url = NULL;
	if (strncmp(string, "postgres://", 11) == 0 || strncmp(string, "postgresql://", 13) == 0)
	{
		char	   *query = string + strcspn(string, "?");

		*url = string;
		*next = next_of_query;
		if (*query)
			*query++ = '\0';
		return query;
	}
	*next = next_of_words;
	return string + strspn(string, " \t\n\r");
}

/* Note what the connection string says of the settings of a session. */
static void
note_session(Backend *backend)
{
	NextParameter next;
	char	   *url;
	char	   *rest = begin_parameters(backend->conn_str, &url, &next);
	char	   *name;
	char	   *value;

	while (*rest && next(&rest, &name, &value))
	{
		if (strcmp(name, "options") == 0)
			backend->sets_options = true;
		else if (strcmp(name, "binary_parameters") == 0)
			backend->pooled = strcmp(value, "yes") == 0;
	}
}

/*
 * Find out what Terraform has for the backend, when started in this directory (chdir is
 * the option -chdir, or NULL).  backend->type is NULL if it was not initialized.  Returns
 * false, with a message, if the file cannot be read.
 */
bool
backend_read(Backend *backend, const char *chdir)
{
	char	   *data = in_directory(chdir, variable("TF_DATA_DIR") ? variable("TF_DATA_DIR") : ".terraform");
	Reader		reader = {backend};
	char	   *content;
	size_t		length = 0;

	memset(backend, 0, sizeof(Backend));
	backend->file = psprintf("%s/terraform.tfstate", data);
	backend->workspace = selected_workspace(data);
	content = read_file(backend->file, &length);
	if (content == NULL && errno == ENOENT)
		return true;
	if (content == NULL || !read_json(&reader, content, length))
	{
		fprintf(stderr, "%s: could not read \"%s\": %s\n", progname, backend->file,
				content ? "it is not what \"terraform init\" writes" : strerror(errno));
		return false;
	}
	if (backend->type && strcmp(backend->type, "pg") == 0)
	{
		if (backend->conn_str == NULL)
			backend->conn_str = variable("PG_CONN_STR");
		if (backend->schema == NULL)
			backend->schema = variable("PG_SCHEMA_NAME");
		/* OpenTofu since 1.10 has a name for the table, Terraform has not */
		if (backend->table == NULL && reader.names_table)
			backend->table = variable("PG_TABLE_NAME");
		if (backend->schema == NULL)
			backend->schema = "terraform_remote_state";
		if (backend->table == NULL)
			backend->table = "states";
		note_session(backend);
	}
	return true;
}

/* Does libpq know this parameter? */
static bool
libpq_knows(const char *name)
{
	static PQconninfoOption *known = NULL;

	if (known == NULL)
		known = PQconndefaults();
	for (PQconninfoOption *option = known; option && option->keyword; option++)
	{
		if (strcmp(option->keyword, name) == 0)
			return true;
	}
	return false;
}

/* What lib/pq keeps for itself. */
static bool
is_of_driver(const char *name)
{
	return strcmp(name, "binary_parameters") == 0 || strcmp(name, "disable_prepared_binary_result") == 0 ||
		strcmp(name, "krbspn") == 0;
}

/*
 * Add a setting to the options of a session, where white space separates words.
 */
void
append_setting(PQExpBuffer options, const char *name, const char *value)
{
	appendPQExpBuffer(options, "%s-c %s=", options->len > 0 ? " " : "", name);
	for (; *value; value++)
	{
		if (isspace((unsigned char) *value) || *value == '\\')
			appendPQExpBufferChar(options, '\\');
		appendPQExpBufferChar(options, *value);
	}
}

/*
 * Let connections be made as Terraform makes them.  Returns false, with a message, if
 * that is not possible.
 */
bool
backend_use(const Backend *backend)
{
	static const char *names[MAX_CONNECTION_PARAMETERS + 1];
	static const char *values[MAX_CONNECTION_PARAMETERS + 1];
	PQExpBuffer settings = createPQExpBuffer();
	const char *options = getenv("PGOPTIONS");
	NextParameter next;
	char	   *url;
	char	   *rest = begin_parameters(backend->conn_str, &url, &next);
	char	   *name;
	char	   *value;
	int			count = 0;

	if (getenv("PGSERVICE"))
	{
		fprintf(stderr, "%s: Terraform's driver does not know PGSERVICE; name the server by PG_CONN_STR or PGHOST, or unset it\n", progname);
		return false;
	}
	/* what comes later counts */
	if (!variable("PGHOST") && !variable("PGHOSTADDR"))
	{
		names[count] = "host";
		values[count++] = "localhost";
	}
	if (!variable("PGSSLMODE"))
	{
		names[count] = "sslmode";
		values[count++] = "require";
	}
	if (url)
	{
		names[count] = "dbname";
		values[count++] = url;
	}
	while (*rest)
	{
		if (!next(&rest, &name, &value) || count >= MAX_CONNECTION_PARAMETERS - 1)
		{
			fprintf(stderr, "%s: the connection string of the backend is not valid near \"%s\"\n", progname, name);
			return false;
		}
		if (strcmp(name, "sslinline") == 0)
		{
			fprintf(stderr, "%s: the connection string of the backend has \"sslinline\", which only Terraform's driver knows; name files by sslcert and sslkey\n", progname);
			return false;
		}
		if (strcmp(name, "options") == 0)
			options = value;
		else if (libpq_knows(name))
		{
			names[count] = name;
			values[count++] = value;
		}
		else if (!is_of_driver(name))
			append_setting(settings, name, value);
	}
	names[count] = "options";
	values[count++] = psprintf("%s%s%s", options ? options : "", options && *options && settings->len > 0 ? " " : "", settings->data);
	names[count] = values[count] = NULL;
	connection_parameters(names, values);
	return true;
}
