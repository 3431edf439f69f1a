/*-------------------------------------------------------------------------
 *
 * parsers.c
 *	  The code that reads what others wrote, as targets of libFuzzer.
 *
 * test/fuzz.sh compiles this file into the extension and calls
 *
 *	fuzz(target text, VARIADIC arguments text[])
 *
 * in a single-user server, whose process ends when libFuzzer has finished.  A
 * target may raise errors, but no internal ones, and must not read beyond its
 * input, which lies at the end of a page before one that cannot be read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "common/lockid.h"
#include "common/slice.h"
#include "common/text.h"
#include "lock/describe.h"
#include "lock/holding.h"
#include "lock/info.h"
#include "state/delta.h"
#include "state/facts.h"
#include "state/instance.h"

/* The longest input, and the longest text that a version is read as, in bytes. */
#define MAX_INPUT		(1 << 16)
#define MAX_RESTORED	(1 << 20)

#define require(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "broken: %s, line %d\n", #condition, __LINE__); \
			abort(); \
		} \
	} while (0)

/* of libFuzzer */
extern int	LLVMFuzzerRunDriver(int *argc, char ***argv,
								int (*run) (const uint8_t *data, size_t size));

PG_FUNCTION_INFO_V1(tfstate_fuzz);

static char *page_end;			/* what is behind it cannot be read */
static void (*target) (const char *input, size_t len);
static MemoryContext run_context;

/* Returns true if it is a text that the server would accept. */
static bool
is_text(const char *input, size_t len)
{
	return pg_verify_mbstr(PG_UTF8, input, len, true);
}

/* Cut the input at its first zero byte; the second part may be empty. */
static char *
cut(const char *input, size_t len, const char **second, size_t *second_len)
{
	size_t		first_len = strnlen(input, len);

	*second = input + Min(first_len + 1, len);
	*second_len = input + len - *second;
	return pnstrdup(input, first_len);
}

/* Ask everything about a value and the values in it. */
static void
read_value(Slice value, int depth)
{
	SliceReader reader = tfstate_slice_members(value);

	(void) tfstate_slice_string(value);
	(void) tfstate_slice_scalar(value);
	(void) tfstate_slice_is(value, "managed");
	while (depth > 0 && tfstate_slice_next(&reader))
	{
		(void) tfstate_slice_string(reader.key);
		read_value(reader.value, depth - 1);
	}
	reader = tfstate_slice_elements(value);
	while (depth > 0 && tfstate_slice_next(&reader))
		read_value(reader.value, depth - 1);
}

/* Without white space it is still the same value. */
static void
squeeze(Slice value)
{
	StringInfoData once;
	StringInfoData twice;
	Slice		squeezed;

	initStringInfo(&once);
	initStringInfo(&twice);
	tfstate_slice_squeeze(&once, value);
	require(tfstate_json_object(once.data, once.len, &squeezed));
	tfstate_slice_squeeze(&twice, squeezed);
	require(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
}

/* A state as a client wrote it. */
static void
fuzz_state(const char *input, size_t len)
{
	StateFacts	facts;
	StateFacts	head;
	StateReader reader;
	Slice		object;
	int			instances = 0;
	bool		sensitive;

	if (!is_text(input, len))
		return;
	tfstate_read_facts(input, len, &facts);
	/* a key that no text can represent makes a JSON object that is not a state */
	require(tfstate_json_object(input, len, &object) || !facts.valid);
	if (tfstate_read_head(input, len, &head) && facts.valid)
		require(head.serial == facts.serial && strcmp(head.lineage, facts.lineage) == 0);
	if (!tfstate_open_state(input, len, &reader))
		return;
	while (tfstate_next_instance(&reader))
	{
		(void) tfstate_instance_address(&reader.instance);
		(void) tfstate_instance_id(&reader.instance, &sensitive);
		(void) tfstate_slice_string(reader.instance.deposed);
		instances++;
	}
	require(instances <= len);
	read_value(object, 10);
	squeeze(object);
}

/* A version as it is in the table: its prefix up to a zero byte, and a frame. */
static void
fuzz_version(const char *input, size_t len)
{
	const char *frame;
	size_t		frame_len;
	char	   *prefix = cut(input, len, &frame, &frame_len);
	unsigned long long size = ZSTD_getFrameContentSize(frame, frame_len);
	bytea	   *compressed = palloc(VARHDRSZ + frame_len);

	if (size > MAX_RESTORED)
		size = frame_len;
	SET_VARSIZE(compressed, VARHDRSZ + frame_len);
	memcpy(VARDATA(compressed), frame, frame_len);
	(void) tfstate_decompress(compressed, size, prefix, strlen(prefix));
	require(tfstate_decompress(compressed, size + 1, prefix, strlen(prefix)) == NULL);
}

/* A text that is compressed and restored is the same. */
static void
fuzz_delta(const char *input, size_t len)
{
	const char *text;
	size_t		text_len;
	char	   *prefix = cut(input, len, &text, &text_len);
	bytea	   *compressed = tfstate_compress(text, text_len, prefix, strlen(prefix));
	char	   *restored = tfstate_decompress(compressed, text_len, prefix, strlen(prefix));

	require(restored && memcmp(restored, text, text_len) == 0);
}

/* Lock info, as JSON. */
static void
fuzz_info(const char *input, size_t len)
{
	char	   *text = pnstrdup(input, len);
	Jsonb	   *info;

	if (strlen(text) != len || !is_text(input, len))
		return;
	info = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	tfstate_check_info(info);
	info = tfstate_fill_info(info, "lockid", 0);
	tfstate_check_info(info);
	require(strlen(tfstate_info_get(info, "ID")) > 0);
}

/* Returns true if the pattern matches.  Slow, but simple. */
static bool
matches(const char *text, const char *pattern)
{
	if (*pattern == '*')
		return matches(text, pattern + 1) || (*text && matches(text + 1, pattern));
	return *text == *pattern && (*text == '\0' || matches(text + 1, pattern + 1));
}

static void
fuzz_pattern(const char *input, size_t len)
{
	const char *rest;
	size_t		rest_len;
	char	   *text = cut(input, Min(len, 24), &rest, &rest_len);
	char	   *pattern = pnstrdup(rest, rest_len);

	require(tfstate_pattern_matches(text, pattern) == matches(text, pattern));
}

/* The call in a hint has the right ID, on one line. */
static void
fuzz_hint(const char *input, size_t len)
{
	char	   *id = pnstrdup(input, len);
	Holding		holding = {0};
	char	   *call;
	RawStmt    *statement;
	FuncCall   *function;

	if (!is_text(id, strlen(id)))
		return;
	HOLDING_DATUM(&holding, id) = CStringGetTextDatum(id);
	call = tfstate_force_unlock_call(id, &holding);
	require(strcmp(tfstate_one_line(call, strlen(call)), call) == 0);
	statement = linitial_node(RawStmt, raw_parser(call, RAW_PARSE_DEFAULT));
	function = (FuncCall *) linitial_node(ResTarget, castNode(SelectStmt, statement->stmt)->targetList)->val;
	for (int i = 0; i < 2; i++)
		require(strcmp(strVal(&((A_Const *) list_nth(function->args, i))->val), id) == 0);
}

static const struct
{
	const char *name;
	void		(*run) (const char *input, size_t len);
}			targets[] =
{
	{"state", fuzz_state},
	{"version", fuzz_version},
	{"delta", fuzz_delta},
	{"info", fuzz_info},
	{"pattern", fuzz_pattern},
	{"hint", fuzz_hint}
};

/* libFuzzer calls this. */
static int
run(const uint8_t *data, size_t size)
{
	MemoryContext old = MemoryContextSwitchTo(run_context);
	char	   *input = page_end - size;

	if (size > MAX_INPUT)
		return 0;
	memcpy(input, data, size);
	PG_TRY();
	{
		target(input, size);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(run_context);
		error = CopyErrorData();
		FlushErrorState();
		if (error->sqlerrcode == ERRCODE_INTERNAL_ERROR)
		{
			fprintf(stderr, "internal error: %s\n", error->message);
			abort();
		}
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	MemoryContextReset(run_context);
	return 0;
}

Datum
tfstate_fuzz(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	size_t		page = sysconf(_SC_PAGESIZE);
	char	   *pages = mmap(NULL, MAX_INPUT + page, PROT_READ | PROT_WRITE,
							 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	Datum	   *given;
	int			argc;
	char	  **argv;

	if (pages == MAP_FAILED || mprotect(pages + MAX_INPUT, page, PROT_NONE) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not map memory: %m")));
	page_end = pages + MAX_INPUT;
	for (int i = 0; i < lengthof(targets); i++)
	{
		if (strcmp(targets[i].name, name) == 0)
			target = targets[i].run;
	}
	if (target == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized target: \"%s\"", name)));
	run_context = AllocSetContextCreate(TopMemoryContext, "fuzz", ALLOCSET_DEFAULT_SIZES);

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &given, NULL, &argc);
	argv = palloc_array(char *, argc + 2);
	argv[0] = name;
	for (int i = 0; i < argc; i++)
		argv[i + 1] = TextDatumGetCString(given[i]);
	argv[++argc] = NULL;
	LLVMFuzzerRunDriver(&argc, &argv, run);
	PG_RETURN_VOID();
}
