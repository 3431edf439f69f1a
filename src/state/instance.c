/*-------------------------------------------------------------------------
 *
 * instance.c
 *	  The instances of resources in the text of a Terraform state.
 *
 * Only states of version 4 are read, which is what Terraform 0.12 and later and
 * OpenTofu write:
 *
 * 	{"version": 4,
 * 	 "outputs": {"NAME": {"value": ..., "type": ..., "sensitive": true}, ...},
 * 	 "resources": [{"module": "module.a[0]", "mode": "data", "type": ...,
 * 					"name": ..., "provider": ...,
 * 					"instances": [{"index_key": ..., "status": "tainted",
 * 								   "deposed": ..., "attributes": {...},
 * 								   "sensitive_attributes": [...]}, ...]},
 * 				   ...]}
 *
 * The keys may stand in any order.  Any other text has no instances and no outputs;
 * nothing in it is an error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "common/slice.h"
#include "state/instance.h"

/*
 * Begin to read a text of len bytes.  Returns false if it is not a state that can be read;
 * an encrypted one cannot, and sets reader->encrypted.  Nothing has to be closed.
 */
bool
tfstate_open_state(const char *text, int len, StateReader *reader)
{
	Slice		state;
	SliceReader members;
	bool		readable = false;

	memset(reader, 0, sizeof(StateReader));
	if (!tfstate_json_object(text, len, &state))
		return false;
	members = tfstate_slice_members(state);
	while (tfstate_slice_next(&members))
	{
		if (tfstate_slice_is(members.key, "version"))
			readable = members.value.end - members.value.start == 1 && *members.value.start == '4';
		else if (tfstate_slice_is(members.key, "outputs"))
			reader->outputs = members.value;
		else if (tfstate_slice_is(members.key, "encrypted_data"))
			reader->encrypted = true;
		else if (tfstate_slice_is(members.key, "resources"))
			reader->resources = tfstate_slice_elements(members.value);
	}
	return readable;
}

/*
 * Read the members of a resource that all its instances share.
 */
static void
read_resource(StateReader *reader, Slice resource)
{
	SliceReader members = tfstate_slice_members(resource);
	Instance   *instance = &reader->instance;

	memset(instance, 0, sizeof(Instance));
	memset(&reader->instances, 0, sizeof(SliceReader));
	while (tfstate_slice_next(&members))
	{
		if (tfstate_slice_is(members.key, "module"))
			instance->module = members.value;
		else if (tfstate_slice_is(members.key, "mode"))
			instance->mode = members.value;
		else if (tfstate_slice_is(members.key, "type"))
			instance->type = members.value;
		else if (tfstate_slice_is(members.key, "name"))
			instance->name = members.value;
		else if (tfstate_slice_is(members.key, "provider"))
			instance->provider = members.value;
		else if (tfstate_slice_is(members.key, "instances"))
			reader->instances = tfstate_slice_elements(members.value);
	}
}

static void
read_instance(Instance *instance, Slice object)
{
	SliceReader members = tfstate_slice_members(object);
	const Slice none = {0};

	instance->object = object;
	instance->index_key = instance->status = instance->deposed = none;
	instance->attributes = instance->attributes_flat = instance->sensitive_attributes = none;
	while (tfstate_slice_next(&members))
	{
		if (tfstate_slice_is(members.key, "index_key"))
			instance->index_key = members.value;
		else if (tfstate_slice_is(members.key, "status"))
			instance->status = members.value;
		else if (tfstate_slice_is(members.key, "deposed"))
			instance->deposed = members.value;
		else if (tfstate_slice_is(members.key, "attributes"))
			instance->attributes = members.value;
		else if (tfstate_slice_is(members.key, "attributes_flat"))
			instance->attributes_flat = members.value;
		else if (tfstate_slice_is(members.key, "sensitive_attributes"))
			instance->sensitive_attributes = members.value;
	}
}

/* Return true if an instance has what its address is made of. */
static bool
has_address(const Instance *instance)
{
	return instance->type.start && *instance->type.start == '"' &&
		instance->name.start && *instance->name.start == '"';
}

/*
 * Read the next instance into reader->instance.  Returns false if there is none.  Those
 * without a type or a name, or that are not objects, are skipped.
 */
bool
tfstate_next_instance(StateReader *reader)
{
	for (;;)
	{
		while (tfstate_slice_next(&reader->instances))
		{
			if (*reader->instances.value.start != '{' || !has_address(&reader->instance))
				continue;
			read_instance(&reader->instance, reader->instances.value);
			return true;
		}
		if (!tfstate_slice_next(&reader->resources))
			return false;
		read_resource(reader, reader->resources.value);
	}
}

/*
 * Return true if Terraform prints a character as it is: not spaces other than the plain
 * one, nor control, format or private-use characters.  (Nor characters that Unicode has
 * not assigned, but that is not checked here.)
 */
static bool
is_printed(pg_wchar c)
{
	static const pg_wchar hidden[][2] = {
		{0x0000, 0x001F}, {0x007F, 0x00A0}, {0x00AD, 0x00AD}, {0x0600, 0x0605},
		{0x061C, 0x061C}, {0x06DD, 0x06DD}, {0x070F, 0x070F}, {0x0890, 0x0891},
		{0x08E2, 0x08E2}, {0x1680, 0x1680}, {0x180E, 0x180E}, {0x2000, 0x200F},
		{0x2028, 0x202F}, {0x205F, 0x2064}, {0x2066, 0x206F}, {0x3000, 0x3000},
		{0xE000, 0xF8FF}, {0xFEFF, 0xFEFF}, {0xFFF9, 0xFFFB}, {0x110BD, 0x110BD},
		{0x110CD, 0x110CD}, {0x13430, 0x1343F}, {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A},
		{0xE0001, 0xE0001}, {0xE0020, 0xE007F}, {0xF0000, 0x10FFFF}
	};

	for (int i = 0; i < lengthof(hidden); i++)
	{
		if (c >= hidden[i][0] && c <= hidden[i][1])
			return false;
	}
	return true;
}

/*
 * Append a character that has no escape of its own, and return its end.  In encodings
 * other than UTF-8, all characters beyond ASCII count as printed.
 */
static const char *
append_character(StringInfo buf, const char *p)
{
	int			len = pg_mblen(p);
	bool		known = !IS_HIGHBIT_SET(*p) || GetDatabaseEncoding() == PG_UTF8;
	pg_wchar	c = known ? utf8_to_unicode((const unsigned char *) p) : 0;

	if (!known || is_printed(c))
		appendBinaryStringInfo(buf, p, len);
	else
		appendStringInfo(buf, c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
	return p + len;
}

/*
 * Append a key in brackets, quoted as Terraform quotes it.
 */
static void
append_string_key(StringInfo buf, const char *key)
{
	appendStringInfoString(buf, "[\"");
	while (*key)
	{
		const char *escaped = strchr("\n\r\t\"\\", *key);

		if (escaped)
			appendStringInfo(buf, "\\%c", "nrt\"\\"[escaped - "\n\r\t\"\\"]);
		else if ((*key == '$' || *key == '%') && key[1] == '{')
			appendStringInfo(buf, "%c%c", *key, *key);
		else
		{
			key = append_character(buf, key);
			continue;
		}
		key++;
	}
	appendStringInfoString(buf, "\"]");
}

/*
 * The address of an instance as "terraform state list" prints it, palloc'd.
 */
char *
tfstate_instance_address(const Instance *instance)
{
	StringInfoData buf;
	char	   *module = tfstate_slice_string(instance->module);
	char	   *index = tfstate_slice_scalar(instance->index_key);

	initStringInfo(&buf);
	if (module && *module)
		appendStringInfo(&buf, "%s.", module);
	if (tfstate_slice_is(instance->mode, "data"))
		appendStringInfoString(&buf, "data.");
	appendStringInfo(&buf, "%s.%s", tfstate_slice_string(instance->type),
					 tfstate_slice_string(instance->name));
	if (index && *instance->index_key.start == '"')
		append_string_key(&buf, index);
	else if (index)
		appendStringInfo(&buf, "[%s]", index);
	return buf.data;
}

/* The member of an object with this name; an empty slice if there is none. */
static Slice
member(Slice object, const char *name)
{
	SliceReader members = tfstate_slice_members(object);
	Slice		result = {0};

	while (tfstate_slice_next(&members))
	{
		if (tfstate_slice_is(members.key, name))
			result = members.value;
	}
	return result;
}

/*
 * Return true if a path of sensitive_attributes leads to something other than the id.  It
 * is a list of steps; the first one must take another attribute.
 */
static bool
path_spares_id(Slice path)
{
	SliceReader steps = tfstate_slice_elements(path);
	Slice		value;

	if (!tfstate_slice_next(&steps) ||
		!tfstate_slice_is(member(steps.value, "type"), "get_attr"))
		return false;
	value = member(steps.value, "value");
	return value.start && *value.start == '"' && !tfstate_slice_is(value, "id");
}

/*
 * Return true if the id is marked as sensitive, or if that cannot be told.  Attributes
 * written by an older version of Terraform have no marks.
 */
static bool
id_is_sensitive(const Instance *instance)
{
	const char *marks = instance->sensitive_attributes.start;
	SliceReader paths = tfstate_slice_elements(instance->sensitive_attributes);

	if (instance->attributes.start == NULL || *instance->attributes.start != '{')
		return true;
	if (marks && *marks != '[')
		return *marks != 'n';	/* null */
	while (tfstate_slice_next(&paths))
	{
		if (!path_spares_id(paths.value))
			return true;
	}
	return false;
}

/*
 * The id among the attributes of an instance, an empty slice if there is none.  Sets
 * *sensitive if it must not be shown to everybody who may view the workspace.
 */
Slice
tfstate_instance_id(const Instance *instance, bool *sensitive)
{
	Slice		id = member(instance->attributes, "id");

	*sensitive = id_is_sensitive(instance);
	return id.start ? id : member(instance->attributes_flat, "id");
}
