/*-------------------------------------------------------------------------
 *
 * facts.c
 *	  Reading the text of a Terraform state: what it is, and how much it has.
 *
 * A state is a JSON object:
 *
 * 	{"version": 4, "terraform_version": "1.11.4", "serial": 7,
 * 	 "lineage": "<uuid>", "outputs": {...},
 * 	 "resources": [{"mode": ..., "type": ..., "name": ...,
 * 					"instances": [{...}, ...]}, ...], ...}
 *
 * Terraform and OpenTofu write serial and lineage near the beginning, and OpenTofu leaves
 * them readable in a state that it has encrypted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"

#include "common/json.h"
#include "state/facts.h"

/* The depth of a resource: { [ {, of an instance of it: { [ { [ {, of an output: { { { */
#define RESOURCE_DEPTH	3
#define INSTANCE_DEPTH	5
#define OUTPUT_DEPTH	3

/* Read a serial.  Clears *valid if it is not an integer from 0 to 2^63 - 1. */
static int64
parse_serial(const char *digits, bool *valid)
{
	int64		serial = 0;

	*valid = *digits != '\0';
	for (; *digits; digits++)
	{
		if (*digits < '0' || *digits > '9' ||
			pg_mul_s64_overflow(serial, 10, &serial) ||
			pg_add_s64_overflow(serial, *digits - '0', &serial))
			*valid = false;
	}
	return serial;
}

static void
read_fact(JsonStream *stream, const char *value, JsonTokenType type)
{
	StateFacts *facts = stream->arg;
	const char *key = stream->depth == 1 ? stream->keys[1] : NULL;

	if (key == NULL)
		return;
	if (strcmp(key, "serial") == 0 && type == JSON_TOKEN_NUMBER)
	{
		facts->serial = parse_serial(value, &facts->has_serial);
		facts->serial_start = stream->value_start;
		facts->serial_end = stream->position;
	}
	else if (strcmp(key, "lineage") == 0 && type == JSON_TOKEN_STRING)
		facts->lineage = pstrdup(value);
	else if (strcmp(key, "terraform_version") == 0 && type == JSON_TOKEN_STRING)
		facts->terraform_version = pstrdup(value);
	else if (strcmp(key, "encrypted_data") == 0)
		facts->encrypted = true;
}

static void
count_objects(JsonStream *stream)
{
	StateFacts *facts = stream->arg;
	const char *key = stream->keys[1] ? stream->keys[1] : "";

	if (stream->depth == 1)
		facts->is_object = *stream->starts[1] == '{';
	else if (strcmp(key, "modules") == 0 ||
			 (stream->depth == RESOURCE_DEPTH && strcmp(key, "resources") == 0))
		facts->has_resources = true;
	if (stream->depth == INSTANCE_DEPTH && strcmp(key, "resources") == 0)
		facts->resources++;
	else if (stream->depth == OUTPUT_DEPTH && strcmp(key, "outputs") == 0)
		facts->outputs++;
}

/*
 * Read the facts of a text of len bytes.  It need not be a state, nor JSON: facts->valid
 * tells whether it is a JSON object.
 */
void
tfstate_read_facts(const char *text, int len, StateFacts *facts)
{
	JsonStream	stream = {0};

	memset(facts, 0, sizeof(StateFacts));
	stream.max_depth = 1;
	stream.start = count_objects;
	stream.scalar = read_fact;
	stream.arg = facts;
	facts->valid = tfstate_read_json(text, len, &stream) && facts->is_object;
}

/*
 * Read serial, lineage and Terraform's version from the first TFSTATE_HEAD_BYTES of a text,
 * which may be all that the caller has.  Returns false if they are not all there; then the
 * caller has to read the whole text.  The other facts are not reliable.
 */
bool
tfstate_read_head(const char *text, int len, StateFacts *facts)
{
	int			head = Min(len, TFSTATE_HEAD_BYTES);

	tfstate_read_facts(text, head, facts);
	/* a number at the very end may have been cut */
	return facts->has_serial && facts->serial_end < &text[head] &&
		facts->lineage && facts->terraform_version;
}
