/*-------------------------------------------------------------------------
 *
 * resources.c
 *	  SQL functions that list the resources and outputs of all states.
 *
 * A role that may view a workspace sees what its state does not mark as sensitive.  The
 * rest is shown only to a role that could read it in the table of states.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "common/attached.h"
#include "common/compat.h"
#include "common/slice.h"
#include "common/subtransaction.h"
#include "state/instance.h"
#include "state/listing.h"

/* A row of a result, to which columns are added one by one. */
#define MAX_COLUMNS		11

typedef struct Row
{
	Datum		values[MAX_COLUMNS];
	bool		nulls[MAX_COLUMNS];
	int			columns;		/* the number of those that were added */
} Row;

PG_FUNCTION_INFO_V1(tfstate_resources);
PG_FUNCTION_INFO_V1(tfstate_outputs);

static void
add_datum(Row *row, Datum value, bool isnull)
{
	row->values[row->columns] = value;
	row->nulls[row->columns] = isnull;
	row->columns++;
}

/* Add a text, or NULL. */
static void
add_text(Row *row, const char *text)
{
	add_datum(row, text ? CStringGetTextDatum(text) : (Datum) 0, text == NULL);
}

static void
put_row(ReturnSetInfo *result, Row *row)
{
	tuplestore_putvalues(result->setResult, result->setDesc, row->values, row->nulls);
}

/*
 * Begin to read the state of a workspace.  Returns false if it has none that can be read;
 * reader->encrypted tells whether it is encrypted.
 */
static bool
open_workspace(const Workspace *workspace, StateReader *reader)
{
	text	   *state;

	memset(reader, 0, sizeof(StateReader));
	if (workspace->is_null)
		return false;
	state = DatumGetTextPP(workspace->data);
	return tfstate_open_state(VARDATA_ANY(state), VARSIZE_ANY_EXHDR(state), reader);
}

/*
 * Return a row that says in its second column that the state of a workspace is encrypted.
 */
static void
put_encrypted(ReturnSetInfo *result, const Workspace *workspace)
{
	Row			row = {0};

	add_text(&row, workspace->lockid);
	add_text(&row, ENCRYPTED_ADDRESS);
	while (row.columns < result->setDesc->natts)
		add_text(&row, NULL);
	put_row(result, &row);
}

static void
put_instance(ReturnSetInfo *result, const Workspace *workspace, const Instance *instance)
{
	Row			row = {0};
	bool		sensitive;
	Slice		id = tfstate_instance_id(instance, &sensitive);
	bool		hidden = sensitive && !tfstate_may_read_states(workspace->relid);

	add_text(&row, workspace->lockid);
	add_text(&row, tfstate_instance_address(instance));
	add_text(&row, tfstate_slice_string(instance->module));
	add_text(&row, tfstate_slice_string(instance->mode));
	add_text(&row, tfstate_slice_string(instance->type));
	add_text(&row, tfstate_slice_string(instance->name));
	add_text(&row, tfstate_slice_scalar(instance->index_key));
	add_text(&row, tfstate_slice_string(instance->provider));
	add_text(&row, hidden ? NULL : tfstate_slice_scalar(id));
	add_datum(&row, BoolGetDatum(tfstate_slice_is(instance->status, "tainted")), false);
	add_text(&row, tfstate_slice_string(instance->deposed));
	put_row(result, &row);
}

static void
list_instances(const Workspace *workspace, void *result)
{
	MemoryContext context;
	MemoryContext old;
	StateReader reader;

	if (!open_workspace(workspace, &reader))
	{
		if (reader.encrypted)
			put_encrypted(result, workspace);
		return;
	}
	context = AllocSetContextCreate(CurrentMemoryContext, "tfstate instance",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	while (tfstate_next_instance(&reader))
	{
		put_instance(result, workspace, &reader.instance);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*
 * tfstate_resources(pattern text)
 * returns setof (workspace, address, module, mode, type, name, index, provider,
 *				  id, tainted, deposed)
 */
Datum
tfstate_resources(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	tfstate_visit_workspaces(text_to_cstring(PG_GETARG_TEXT_PP(0)), list_instances,
							 fcinfo->resultinfo);
	PG_RETURN_NULL();
}

/* Return true if this error code tells that jsonb cannot hold a value. */
static bool
is_data_error(int code)
{
	return ERRCODE_TO_CATEGORY(code) == ERRCODE_DATA_EXCEPTION ||
		ERRCODE_TO_CATEGORY(code) == ERRCODE_PROGRAM_LIMIT_EXCEEDED ||
		ERRCODE_TO_CATEGORY(code) == ERRCODE_FEATURE_NOT_SUPPORTED;
}

/* A value that is converted in a subtransaction. */
typedef struct Conversion
{
	Slice		value;
	Datum		jsonb;
} Conversion;

static void
convert(void *arg)
{
	Conversion *conversion = arg;

	conversion->jsonb = DirectFunctionCall1(jsonb_in,
											CStringGetDatum(tfstate_slice_json(conversion->value)));
}

/*
 * Convert a value to jsonb.  Returns false for an empty slice, and if jsonb cannot hold the
 * value: it has the character 0, a number that is too large, or a character that is not in
 * the database's encoding.
 */
static bool
convert_to_jsonb(Slice value, Datum *jsonb)
{
	Conversion	conversion = {value};
	ErrorData  *error;

	if (value.start == NULL)
		return false;
	error = tfstate_in_subtransaction(convert, &conversion, true);
	if (error && !is_data_error(error->sqlerrcode))
		ReThrowError(error);
	*jsonb = conversion.jsonb;
	return error == NULL;
}

static void
add_jsonb(Row *row, Slice value)
{
	Datum		jsonb = (Datum) 0;
	bool		converted = convert_to_jsonb(value, &jsonb);

	add_datum(row, jsonb, !converted);
}

static void
put_output(ReturnSetInfo *result, const Workspace *workspace, Slice name, Slice output)
{
	SliceReader members = tfstate_slice_members(output);
	const Slice none = {0};
	Slice		value = none;
	Slice		type = none;
	bool		sensitive = false;
	Row			row = {0};

	while (tfstate_slice_next(&members))
	{
		if (tfstate_slice_is(members.key, "value"))
			value = members.value;
		else if (tfstate_slice_is(members.key, "type"))
			type = members.value;
		else if (tfstate_slice_is(members.key, "sensitive"))
			sensitive = *members.value.start != 'f';	/* false */
	}
	add_text(&row, workspace->lockid);
	add_text(&row, tfstate_slice_string(name));
	add_jsonb(&row, sensitive && !tfstate_may_read_states(workspace->relid) ? none : value);
	add_jsonb(&row, type);
	add_datum(&row, BoolGetDatum(sensitive), false);
	put_row(result, &row);
}

static void
list_outputs(const Workspace *workspace, void *result)
{
	MemoryContext context;
	MemoryContext old;
	StateReader reader;
	SliceReader outputs;

	if (!open_workspace(workspace, &reader))
	{
		if (reader.encrypted)
			put_encrypted(result, workspace);
		return;
	}
	context = AllocSetContextCreate(CurrentMemoryContext, "tfstate output",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	outputs = tfstate_slice_members(reader.outputs);
	while (tfstate_slice_next(&outputs))
	{
		put_output(result, workspace, outputs.key, outputs.value);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*
 * tfstate_outputs(pattern text)
 * returns setof (workspace, name, value, type, sensitive)
 *
 * The value is NULL if it is sensitive and the role may not read it, and if jsonb cannot
 * hold it.
 */
Datum
tfstate_outputs(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	tfstate_visit_workspaces(text_to_cstring(PG_GETARG_TEXT_PP(0)), list_outputs,
							 fcinfo->resultinfo);
	PG_RETURN_NULL();
}
