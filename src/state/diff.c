/*-------------------------------------------------------------------------
 *
 * diff.c
 *	  What differs between two states of a workspace.
 *
 * Only the addresses and digests of what a state has are kept; its text is freed before
 * the other state is read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/sha2.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "common/compat.h"
#include "common/lockid.h"
#include "common/privilege.h"
#include "common/slice.h"
#include "common/workspace.h"
#include "state/delta.h"
#include "state/instance.h"
#include "state/restore.h"

/* An instance or an output. */
typedef struct Entry
{
	char	   *address;
	char	   *deposed;		/* NULL for a current object */
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
} Entry;

/* All that a state has. */
typedef struct Inventory
{
	MemoryContext context;		/* where it lives */
	bool		encrypted;		/* then it has one entry, for all of it */
	Entry	   *entries;		/* sorted by take_inventory() */
	size_t		count;
	size_t		allocated;
} Inventory;

PG_FUNCTION_INFO_V1(tfstate_diff);

/*
 * Add an entry with these contents.
 */
static void
add_entry(Inventory *inventory, const char *address, const char *deposed, StringInfo contents)
{
	MemoryContext old = MemoryContextSwitchTo(inventory->context);
	bytea	   *digest = tfstate_sha256(contents->data, contents->len);
	Entry	   *entry;

	if (inventory->count == inventory->allocated)
	{
		inventory->allocated = inventory->allocated ? inventory->allocated * 2 : 64;
		inventory->entries = inventory->entries ?
			repalloc_huge(inventory->entries, inventory->allocated * sizeof(Entry)) :
			palloc_array(Entry, inventory->allocated);
	}
	entry = &inventory->entries[inventory->count++];
	entry->address = pstrdup(address);
	entry->deposed = deposed ? pstrdup(deposed) : NULL;
	memcpy(entry->digest, VARDATA_ANY(digest), PG_SHA256_DIGEST_LENGTH);
	pfree(digest);
	MemoryContextSwitchTo(old);
}

static void
add_instance(Inventory *inventory, const Instance *instance)
{
	StringInfoData contents;

	initStringInfo(&contents);
	if (instance->provider.start)
		tfstate_slice_squeeze(&contents, instance->provider);
	tfstate_slice_squeeze(&contents, instance->object);
	add_entry(inventory, tfstate_instance_address(instance),
			  tfstate_slice_string(instance->deposed), &contents);
}

static void
add_output(Inventory *inventory, Slice name, Slice output)
{
	StringInfoData contents;

	initStringInfo(&contents);
	tfstate_slice_squeeze(&contents, output);
	add_entry(inventory, psprintf("output.%s", tfstate_slice_string(name)), NULL, &contents);
}

/* Compare by address; a current object comes before the deposed ones. */
static int
compare_addresses(const Entry *x, const Entry *y)
{
	int			order = strcmp(x->address, y->address);

	return order ? order : strcmp(x->deposed ? x->deposed : "", y->deposed ? y->deposed : "");
}

static int
compare_entries(const void *a, const void *b)
{
	const Entry *x = a;
	const Entry *y = b;
	int			order = compare_addresses(x, y);

	return order ? order : memcmp(x->digest, y->digest, PG_SHA256_DIGEST_LENGTH);
}

static void
sort_inventory(Inventory *inventory)
{
	if (inventory->count > 0)
		qsort(inventory->entries, inventory->count, sizeof(Entry), compare_entries);
}

/*
 * Add all instances and outputs of a text, and sort them.
 */
static void
take_inventory(Inventory *inventory, const char *text, int len)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "tfstate inventory",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	StateReader reader;
	SliceReader outputs;

	if (tfstate_open_state(text, len, &reader))
	{
		while (tfstate_next_instance(&reader))
		{
			add_instance(inventory, &reader.instance);
			MemoryContextReset(context);
		}
		outputs = tfstate_slice_members(reader.outputs);
		while (tfstate_slice_next(&outputs))
		{
			add_output(inventory, outputs.key, outputs.value);
			MemoryContextReset(context);
		}
	}
	else if (reader.encrypted)
	{
		StringInfoData contents;

		initStringInfo(&contents);
		appendBinaryStringInfo(&contents, text, len);
		add_entry(inventory, ENCRYPTED_ADDRESS, NULL, &contents);
		inventory->encrypted = true;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	sort_inventory(inventory);
}

/* Take the inventory of a version. */
static void
take_version(Inventory *inventory, const char *lockid, int64 number)
{
	size_t		len;
	char	   *state = tfstate_version_text(lockid, number, &len);

	take_inventory(inventory, state, len);
}

/* Take the inventory of a workspace's state.  Error if there is no such workspace. */
static void
take_workspace(Inventory *inventory, const char *lockid)
{
	const char *name;
	Oid			relid = tfstate_lockid_table(lockid, &name);
	text	   *state;

	if (!OidIsValid(relid) || !tfstate_workspace_text(relid, name, &state))
		tfstate_raise_no_workspace(lockid);
	take_inventory(inventory, VARDATA_ANY(state), VARSIZE_ANY_EXHDR(state));
}

/*
 * The inventory of this version, or of the current state where number is NULL.
 */
static Inventory
inventory_of(const char *lockid, const int64 *number)
{
	Inventory	inventory = {CurrentMemoryContext};
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "tfstate version",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);

	if (number)
		take_version(&inventory, lockid, *number);
	else
		take_workspace(&inventory, lockid);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return inventory;
}

static void
put_change(ReturnSetInfo *result, const Entry *entry, const char *change)
{
	Datum		values[3];
	bool		nulls[3] = {false, false, entry->deposed == NULL};

	values[0] = CStringGetTextDatum(entry->address);
	values[1] = CStringGetTextDatum(change);
	if (entry->deposed)
		values[2] = CStringGetTextDatum(entry->deposed);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * Return the differences between two sorted inventories.  If only one of them is encrypted,
 * what the other one has is left out, since nobody can tell whether it has changed.
 */
static void
put_changes(ReturnSetInfo *result, Inventory *a, Inventory *b)
{
	size_t		i = 0;
	size_t		j = 0;

	if (a->encrypted != b->encrypted)
		(a->encrypted ? b : a)->count = 0;
	while (i < a->count || j < b->count)
	{
		int			order;

		CHECK_FOR_INTERRUPTS();
		if (i == a->count || j == b->count)
			order = i == a->count ? 1 : -1;
		else
			order = compare_addresses(&a->entries[i], &b->entries[j]);
		if (order < 0)
			put_change(result, &a->entries[i++], "removed");
		else if (order > 0)
			put_change(result, &b->entries[j++], "added");
		else if (compare_entries(&a->entries[i++], &b->entries[j++]) != 0)
			put_change(result, &b->entries[j - 1], "changed");
	}
}

/*
 * tfstate_diff(workspace text, a bigint, b bigint)
 * returns setof (address, change, deposed)
 *
 * What was added, removed and changed from version a to version b, or to the current state
 * if b is NULL.
 */
Datum
tfstate_diff(PG_FUNCTION_ARGS)
{
	char	   *lockid;
	int64		number;
	Inventory	a;
	Inventory	b;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("workspace and version must not be null")));
	lockid = text_to_cstring(PG_GETARG_TEXT_PP(0));
	tfstate_check_lockid(lockid);
	tfstate_check_privilege(lockid, "view");

	InitMaterializedSRF(fcinfo, 0);
	number = PG_GETARG_INT64(1);
	a = inventory_of(lockid, &number);
	if (!PG_ARGISNULL(2))
		number = PG_GETARG_INT64(2);
	b = inventory_of(lockid, PG_ARGISNULL(2) ? NULL : &number);
	put_changes((ReturnSetInfo *) fcinfo->resultinfo, &a, &b);
	PG_RETURN_NULL();
}
