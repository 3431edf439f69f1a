/*-------------------------------------------------------------------------
 *
 * info.c
 *	  The lock info: Terraform's description of a lock, as jsonb.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "common/compat.h"
#include "common/limits.h"
#include "common/settings.h"
#include "common/text.h"
#include "lock/backend.h"
#include "lock/info.h"

/*
 * The keys of Terraform's lock info, in the order of jsonb, which then need not sort them.
 */
typedef enum KnownKey
{
	KEY_ID,
	KEY_WHO,
	KEY_INFO,
	KEY_PATH,
	KEY_CREATED,
	KEY_VERSION,
	KEY_OPERATION
} KnownKey;

static const char *const known_keys[] = {
	[KEY_ID] = "ID",
	[KEY_WHO] = "Who",
	[KEY_INFO] = "Info",
	[KEY_PATH] = "Path",
	[KEY_CREATED] = "Created",
	[KEY_VERSION] = "Version",
	[KEY_OPERATION] = "Operation"
};

/*
 * Error if the text is empty or too long to be an ID.
 */
void
tfstate_check_id(const char *id)
{
	if (*id == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lock ID must not be empty")));
	if (strlen(id) > TFSTATE_MAX_ID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lock ID is too long: it has %zu bytes, and %d are allowed",
						strlen(id), TFSTATE_MAX_ID)));
}

/*
 * The string under a key of the info, palloc'd; NULL if there is none.
 */
char *
tfstate_info_get(Jsonb *info, const char *key)
{
	JsonbValue	space;
	JsonbValue *value = getKeyJsonValueFromContainer(&info->root, key,
													 strlen(key), &space);

	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/*
 * What names the session that takes or releases a lock, palloc'd: tfstate.who, or else the role
 * and the client's address.
 */
char *
tfstate_caller(void)
{
	const char *addr = tfstate_client_addr();
	StringInfoData who;

	if (tfstate_who && *tfstate_who)
		return tfstate_valid_text(tfstate_who);
	initStringInfo(&who);		/* psprintf() takes three times as long */
	appendStringInfoString(&who, tfstate_my_role_name());
	appendStringInfoChar(&who, '@');
	appendStringInfoString(&who, addr ? addr : "[local]");
	return who.data;
}

/*
 * The same for the history: with the role, because every session can set tfstate.who.
 */
char *
tfstate_actor(void)
{
	if (tfstate_who && *tfstate_who)
		return tfstate_valid_text(psprintf("%s (role %s)", tfstate_who,
										   GetUserNameFromId(GetUserId(), false)));
	return tfstate_caller();
}

/*
 * A point in time in the format of RFC 3339, in UTC.
 */
static char *
format_rfc3339(TimestampTz time)
{
	char	   *text = palloc(MAXDATELEN + 1);
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		elog(ERROR, "could not decompose timestamp");
	EncodeDateTime(&tm, fsec, false, 0, NULL, USE_XSD_DATES, text);
	return strcat(text, "Z");
}

/*
 * A new ID: a random UUID (version 4 of RFC 9562), palloc'd.
 *
 * The random bytes of several are drawn at once, because a draw from OpenSSL takes about
 * as long as an index lookup, however few bytes it is for.  uuid_out() would take 750
 * instructions more than what follows.
 */
static char *
new_id(void)
{
	static const int groups[] = {8, 4, 4, 4, 12};
	static uint8 drawn[64][UUID_LEN];
	static int	left = 0;
	char		digits[2 * UUID_LEN];
	char	   *id = palloc(sizeof(digits) + lengthof(groups));
	uint8	   *uuid;
	char	   *from = digits;
	char	   *to = id;

	if (left == 0)
	{
		if (!pg_strong_random(drawn, sizeof(drawn)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		left = lengthof(drawn);
	}
	uuid = drawn[--left];
	uuid[6] = (uuid[6] & 0x0f) | 0x40;	/* the version */
	uuid[8] = (uuid[8] & 0x3f) | 0x80;	/* the variant */
	(void) hex_encode((char *) uuid, UUID_LEN, digits);
	for (int i = 0; i < lengthof(groups); i++)
	{
		memcpy(to, from, groups[i]);
		from += groups[i];
		to += groups[i];
		*to++ = (i < lengthof(groups) - 1) ? '-' : '\0';
	}
	return id;
}

/*
 * The default for a missing key of the info; NULL to leave it out.
 */
static char *
default_value(KnownKey key, const char *lockid, TimestampTz created)
{
	switch (key)
	{
		case KEY_ID:
			return new_id();
		case KEY_WHO:
			return tfstate_caller();
		case KEY_PATH:
			return pstrdup(lockid);
		case KEY_CREATED:
			return format_rfc3339(created);
		case KEY_OPERATION:
			return tfstate_operation;
		case KEY_INFO:
		case KEY_VERSION:
			break;
	}
	return NULL;
}

/* An object that is put together, with its pairs in the order of jsonb. */
typedef struct Pairs
{
	JsonbPair  *pairs;
	int			count;
	int			size;			/* of the array */
} Pairs;

/* Compare two keys as jsonb sorts them: shorter ones first. */
static int
compare_keys(const JsonbValue *a, const JsonbValue *b)
{
	if (a->val.string.len != b->val.string.len)
		return a->val.string.len < b->val.string.len ? -1 : 1;
	return memcmp(a->val.string.val, b->val.string.val, a->val.string.len);
}

/*
 * Add a pair.  It replaces one with the same key.  Pairs mostly come in their order, so the
 * place is sought from the end.
 */
static void
put(Pairs *object, const JsonbValue *key, const JsonbValue *value)
{
	int			i = object->count;
	int			difference = 1;

	while (i > 0 && (difference = compare_keys(key, &object->pairs[i - 1].key)) < 0)
		i--;
	if (i > 0 && difference == 0)
	{
		object->pairs[i - 1].value = *value;
		return;
	}
	if (object->count == object->size)
	{
		object->size *= 2;
		object->pairs = repalloc(object->pairs, object->size * sizeof(JsonbPair));
	}
	memmove(&object->pairs[i + 1], &object->pairs[i],
			(object->count - i) * sizeof(JsonbPair));
	object->pairs[i].key = *key;
	object->pairs[i].value = *value;
	object->pairs[i].order = 0;
	object->count++;
}

static JsonbValue
string_value(const char *text)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	return value;
}

static void
put_string(Pairs *object, const char *key, const char *text)
{
	JsonbValue	key_value = string_value(key);
	JsonbValue	value = string_value(text);

	put(object, &key_value, &value);
}

/*
 * An array or object within a jsonb, as it was before it was written: only so can it be
 * written into another one.
 */
static JsonbValue
unpack(JsonbContainer *container)
{
	JsonbIterator *iterator = JsonbIteratorInit(container);
	JsonbInState state = {0};
	JsonbIteratorToken token;
	JsonbValue	value;

	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
		compat_push_jsonb(&state, token,
						  token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM ? &value : NULL);
	return *state.result;
}

/*
 * Add the pairs of an object.
 */
static void
put_object(Pairs *pairs, Jsonb *object)
{
	JsonbIterator *iterator = JsonbIteratorInit(&object->root);
	JsonbValue	key;
	JsonbValue	value;

	(void) JsonbIteratorNext(&iterator, &value, true);	/* the opening brace */
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		if (value.type == jbvBinary)
			value = unpack(value.val.binary.data);
		put(pairs, &key, &value);
	}
}

static Pairs
no_pairs(void)
{
	Pairs		object;

	object.count = 0;
	object.size = 8;			/* most have the known keys only */
	object.pairs = palloc(object.size * sizeof(JsonbPair));
	return object;
}

/* The string under a key of the object, palloc'd; NULL if there is none. */
static char *
get_string(const Pairs *object, const char *key)
{
	JsonbValue	wanted = string_value(key);

	for (int i = 0; i < object->count; i++)
	{
		const JsonbPair *pair = &object->pairs[i];

		if (pair->value.type == jbvString && compare_keys(&pair->key, &wanted) == 0)
			return pnstrdup(pair->value.val.string.val, pair->value.val.string.len);
	}
	return NULL;
}

/* The length of all keys and values together; -1 if not all values are strings. */
static int
length_of_strings(const Pairs *object)
{
	int			length = 0;

	for (int i = 0; i < object->count; i++)
	{
		if (object->pairs[i].value.type != jbvString)
			return -1;
		length += object->pairs[i].key.val.string.len + object->pairs[i].value.val.string.len;
	}
	return length;
}

/*
 * An object of strings as jsonb, palloc'd; length is that of them all.  This is what
 * JsonbValueToJsonb() does, in a quarter of the time: an entry for each key and then for each
 * value, and behind them all the strings.
 */
static Jsonb *
write_strings(const Pairs *object, int length)
{
	int			entries = 2 * object->count;
	Size		size = offsetof(Jsonb, root.children) + entries * sizeof(JEntry) + length;
	Jsonb	   *jsonb = palloc(size);
	JEntry	   *entry = jsonb->root.children;
	char	   *start = (char *) (entry + entries);
	char	   *end = start;

	SET_VARSIZE(jsonb, size);
	jsonb->root.header = object->count | JB_FOBJECT;
	for (int i = 0; i < entries; i++)
	{
		const JsonbValue *value = i < object->count ? &object->pairs[i].key :
			&object->pairs[i - object->count].value;

		memcpy(end, value->val.string.val, value->val.string.len);
		end += value->val.string.len;
		entry[i] = JENTRY_ISSTRING;
		if (i % JB_OFFSET_STRIDE == 0)
			entry[i] |= JENTRY_HAS_OFF | (JEntry) (end - start);
		else
			entry[i] |= (JEntry) value->val.string.len;
	}
	return jsonb;
}

/* The object as jsonb, palloc'd. */
static Jsonb *
write_pairs(const Pairs *object)
{
	int			length = length_of_strings(object);
	JsonbValue	value;

	if (length >= 0)
		return write_strings(object, length);
	value.type = jbvObject;
	value.val.object.pairs = object->pairs;
	value.val.object.nPairs = object->count;
	return JsonbValueToJsonb(&value);
}

/*
 * Error if it is not an object, or is too large.
 */
static void
check_object(Jsonb *info)
{
	if (!JB_ROOT_IS_OBJECT(info))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lock info must be a JSON object")));
	if (VARSIZE(info) - VARHDRSZ > TFSTATE_MAX_INFO)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("lock info is too large: it has %zu bytes, and %d are allowed",
						(size_t) (VARSIZE(info) - VARHDRSZ), TFSTATE_MAX_INFO)));
}

/*
 * The value of tfstate.info, palloc'd; NULL if it is not set.
 */
static Jsonb *
setting_info(void)
{
	if (tfstate_info == NULL || *tfstate_info == '\0')
		return NULL;
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(tfstate_info)));
}

/*
 * Return true if a known key of the info is missing or null or, for "Who", empty.  Error if
 * it is there and is not a string.
 */
static bool
is_missing(Jsonb *info, const char *key)
{
	JsonbValue	space;
	JsonbValue *value;

	if (info == NULL || JB_ROOT_COUNT(info) == 0)
		return true;
	value = getKeyJsonValueFromContainer(&info->root, key, strlen(key), &space);
	if (value == NULL || value->type == jbvNull)
		return true;
	if (value->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key \"%s\" of lock info must be a string", key)));
	return value->val.string.len == 0 && strcmp(key, "Who") == 0;
}

/*
 * Error if a caller may not give this as the info of a lock: it must be an object that is
 * not too large, with strings under the known keys and a valid ID.
 */
void
tfstate_check_info(Jsonb *given)
{
	check_object(given);
	if (JB_ROOT_COUNT(given) == 0)
		return;
	for (int i = 0; i < lengthof(known_keys); i++)
		(void) is_missing(given, known_keys[i]);
	if (!is_missing(given, "ID"))
		tfstate_check_id(tfstate_info_get(given, "ID"));
}

/*
 * An info with nothing but the key "Who".
 */
Jsonb *
tfstate_who_info(const char *who)
{
	Pairs		info = no_pairs();

	put_string(&info, "Who", who);
	return write_pairs(&info);
}

/*
 * An info with nothing but the key "Operation".
 */
Jsonb *
tfstate_operation_info(const char *operation)
{
	Pairs		info = no_pairs();

	put_string(&info, "Operation", operation);
	return write_pairs(&info);
}

/*
 * The info of a lock, palloc'd: what the caller has given, then tfstate.info, then the
 * defaults of the known keys.  given is NULL or has passed tfstate_check_info(); created is
 * when the lock is taken.  Also returns the ID, palloc'd.  Error if tfstate.info does not pass
 * that check, or if both are too large together.
 */
Jsonb *
tfstate_fill_info(Jsonb *given, const char *lockid, TimestampTz created, char **id)
{
	Jsonb	   *setting = setting_info();
	Pairs		info = no_pairs();

	if (setting)
		tfstate_check_info(setting);
	if (setting && given && VARSIZE(setting) + VARSIZE(given) > TFSTATE_MAX_INFO)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("lock info and tfstate.info are too large together: they have %zu bytes, and %d are allowed",
						(size_t) (VARSIZE(setting) + VARSIZE(given)), TFSTATE_MAX_INFO)));
	if (setting)
		put_object(&info, setting);
	if (given && JB_ROOT_COUNT(given) > 0)
		put_object(&info, given);
	for (int i = 0; i < lengthof(known_keys); i++)
	{
		char	   *value;

		if (!is_missing(given, known_keys[i]))
			continue;
		if (!is_missing(setting, known_keys[i]))
			value = tfstate_info_get(setting, known_keys[i]);
		else
			value = default_value(i, lockid, created);
		if (value)
			put_string(&info, known_keys[i], value);
	}
	*id = get_string(&info, "ID");
	return write_pairs(&info);
}

/*
 * In an info that tfstate_fill_info() has returned, with from as the time when the lock is
 * taken, put another time in its place.  Returns false if that has another length.
 */
bool
tfstate_restamp_info(Jsonb *info, TimestampTz from, TimestampTz to)
{
	char	   *old = format_rfc3339(from);
	char	   *new = format_rfc3339(to);
	JsonbValue	space;
	JsonbValue *created = getKeyJsonValueFromContainer(&info->root, "Created", strlen("Created"),
													   &space);

	/* the caller may have given its own */
	if (created == NULL || created->val.string.len != strlen(old) ||
		memcmp(created->val.string.val, old, strlen(old)) != 0)
		return true;
	if (strlen(new) != strlen(old))
		return false;
	memcpy(created->val.string.val, new, strlen(new));
	return true;
}
