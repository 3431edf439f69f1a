/*-------------------------------------------------------------------------
 *
 * json.c
 *	  Reading the outer levels of a JSON text as a stream.
 *
 * A state can have hundreds of megabytes, of which a few values near the root are
 * wanted.  The server's parser checks the whole text, but the callbacks are called, and
 * memory is allocated for keys and values, only down to the depth that the caller asks
 * for: below it, the actions and the copying of strings are switched off.
 *
 * The parser recurses for each level of nesting, and raises an error when its stack is
 * used up.  No state is nested so deeply, and a row with such a text must not keep a
 * command from reading the others, so the text is treated as invalid JSON.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "common/compat.h"
#include "common/json.h"

/* The deepest level of nesting. */
#define MAX_DEPTH	1000

/* A stream, with what its users need not know. */
typedef struct Reader
{
	JsonStream *stream;
	CompatJsonLexer lexer;
	JsonSemAction actions;
} Reader;

static compat_json_result read_key(void *state, char *key, bool isnull);
static compat_json_result read_scalar(void *state, char *value, JsonTokenType type);

/*
 * Switch the callbacks for keys and scalars on or off, depending on the depth.
 */
static void
set_actions(Reader *reader)
{
	bool		on = reader->stream->depth <= reader->stream->max_depth;

	reader->actions.object_field_start = on ? read_key : NULL;
	reader->actions.scalar = on ? read_scalar : NULL;
	compat_json_set_escapes(&reader->lexer, on);
}

static void
forget_key(JsonStream *stream, int depth)
{
	if (depth > JSON_STREAM_DEPTH || stream->keys[depth] == NULL)
		return;
	pfree(stream->keys[depth]);
	stream->keys[depth] = NULL;
}

/* Make the parser believe that the text ends after the current token. */
static void
end_text(JsonLexContext *context)
{
	context->input_length = context->token_terminator - context->input;
}

static compat_json_result
start_container(void *state)
{
	Reader	   *reader = state;
	JsonStream *stream = reader->stream;

	stream->depth++;
	if (stream->depth <= JSON_STREAM_DEPTH)
		stream->starts[stream->depth] = reader->lexer.context->token_start;
	if (stream->start)
		stream->start(stream);
	set_actions(reader);
	if (stream->depth > MAX_DEPTH)
		end_text(reader->lexer.context);
	COMPAT_JSON_RETURN;
}

static compat_json_result
end_container(void *state)
{
	Reader	   *reader = state;
	JsonStream *stream = reader->stream;

	stream->position = reader->lexer.context->prev_token_terminator;
	forget_key(stream, stream->depth);
	if (stream->end)
		stream->end(stream);
	stream->depth--;
	set_actions(reader);
	COMPAT_JSON_RETURN;
}

static compat_json_result
read_key(void *state, char *key, bool isnull)
{
	Reader	   *reader = state;
	JsonStream *stream = reader->stream;

	forget_key(stream, stream->depth);
	stream->keys[stream->depth] = key;
	stream->value_start = reader->lexer.context->token_start;
	COMPAT_JSON_RETURN;
}

static compat_json_result
read_scalar(void *state, char *value, JsonTokenType type)
{
	Reader	   *reader = state;
	JsonStream *stream = reader->stream;

	stream->position = reader->lexer.context->prev_token_terminator;
	if (stream->scalar)
		stream->scalar(stream, value, type);
	if (value)
		pfree(value);
	COMPAT_JSON_RETURN;
}

/*
 * Read a text of len bytes, in the database's encoding.  The caller has zeroed the stream
 * and set max_depth and the callbacks.  Returns false if the text is not valid JSON; then
 * the callbacks have been called for what is before the fault.
 */
bool
tfstate_read_json(const char *text, int len, JsonStream *stream)
{
	Reader		reader = {0};
	bool		valid;

	reader.stream = stream;
	compat_json_open(&reader.lexer, text, len, GetDatabaseEncoding());
	reader.actions.semstate = &reader;
	reader.actions.object_start = start_container;
	reader.actions.object_end = end_container;
	reader.actions.array_start = start_container;
	reader.actions.array_end = end_container;
	set_actions(&reader);
	valid = pg_parse_json(reader.lexer.context, &reader.actions) == JSON_SUCCESS;
	for (int i = 0; i <= JSON_STREAM_DEPTH; i++)
		forget_key(stream, i);
	return valid;
}
