/*-------------------------------------------------------------------------
 *
 * import.c
 *	  tfstate import: states and locks of other backends, brought into a table.
 *
 * Each state is brought in by one transaction: it takes the lock of the workspace, writes,
 * and releases the lock.  So it is there as a whole or not at all, and nobody else's run is
 * disturbed.  What may be written is decided by the guard, whatever guard the table has: a
 * state is replaced only by a later one of its lineage, and that only where the user wants
 * it, or if it is empty.  What is there already is not written again, so that an import can
 * be repeated.
 *
 * Lock items are what DynamoDB has for the s3 backend: BUCKET/KEY with the lock info while
 * a state is locked, and BUCKET/KEY-md5 with the MD5 of the state.  An item belongs to the
 * state in a file whose path ends with KEY.  The lock of such an item can come along: it is
 * then taken with the info that it has there, its ID included, and is not released.
 *
 * States and items are sent as bytes, so that the encoding of the terminal does not
 * change them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <unistd.h>

#include "fe_utils/string_utils.h"

#include "client.h"
#include "commands.h"
#include "event.h"
#include "options.h"
#include "print.h"
#include "simple.h"

/* The largest file that can be a parameter of a statement. */
#define MAX_FILE	1000000000

/*
 * An identifier as lockids have it: bare if PostgreSQL 15 takes it for every kind of name.
 * (If this was wrong, the guard would refuse the write, as one without the lock.)
 */
#define QUOTED(name) \
	"CASE WHEN " name " ~ '^[a-z_][a-z0-9_]*$' AND NOT EXISTS (SELECT FROM pg_catalog.pg_get_keywords() k " \
	"WHERE k.word = " name " AND k.catcode <> 'U' AND k.word !~ '^(json|merge_action|system_user|graph_table)') " \
	"THEN " name "::text ELSE '\"' || pg_catalog.replace(" name ", '\"', '\"\"') || '\"' END"

enum
{
	OPTION_ITEMS = OPTION_LONG_ONLY,
	OPTION_LOCKS,
	OPTION_NEWER,
	OPTION_TABLE
};

static const struct option long_options[] = {
	CONNECTION_LONG_OPTIONS,
	{"items", required_argument, NULL, OPTION_ITEMS},
	{"locks", no_argument, NULL, OPTION_LOCKS},
	{"newer", no_argument, NULL, OPTION_NEWER},
	{"table", required_argument, NULL, OPTION_TABLE},
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0}
};

/* A state that is to be brought in. */
typedef struct ImportSource
{
	const char *file;			/* "-" for standard input */
	char	   *workspace;
	char	   *lockid;
	int			item;			/* its row in the items, or -1 */
} ImportSource;

/* The columns of the lock items. */
enum
{
	ITEM_NAME,					/* BUCKET/KEY */
	ITEM_DIGEST,
	ITEM_INFO,					/* NULL if it is not locked */
	ITEM_ID,
	ITEM_HOLDER					/* in words */
};

typedef struct Import
{
	Conn	   *conn;
	const char *table;			/* as it was named */
	const char *items_file;		/* NULL if there are no items */
	bool		locks;			/* are locks to be taken over? */
	bool		newer;			/* may states be replaced by newer ones? */
	char	   *sql_table;		/* as statements have it */
	char	   *prefix;			/* of lockids */
	PGresult   *items;
	ImportSource *sources;
	int			count;
	int			status;			/* of the last state that was refused */
} Import;

static const char *
shown_name(const char *file)
{
	return strcmp(file, "-") == 0 ? "standard input" : file;
}

/*
 * The bytes of a file, or of standard input.  Returns NULL if it cannot be read, which
 * is reported.  A signal ends the program: whoever writes into a pipe may not do so soon.
 */
static char *
read_whole(const char *name, int *length)
{
	FILE	   *file;
	size_t		size = 65536;
	size_t		used = 0;
	char	   *bytes = pg_malloc(size);

	release_signals();
	file = strcmp(name, "-") == 0 ? stdin : fopen(name, "rb");
	while (file && used <= MAX_FILE && !feof(file) && !ferror(file))
	{
		if (used == size)
			bytes = pg_realloc(bytes, size *= 2);
		used += fread(bytes + used, 1, size - used, file);
	}
	catch_signals();
	*length = (int) used;
	if (file == NULL || ferror(file))
		fprintf(stderr, "%s: could not read %s: %s\n", progname, shown_name(name), strerror(errno));
	else if (used > MAX_FILE)
		fprintf(stderr, "%s: %s is too large\n", progname, shown_name(name));
	else if (used == 0)
		fprintf(stderr, "%s: %s is empty\n", progname, shown_name(name));
	else
	{
		if (file != stdin)
			fclose(file);
		return bytes;
	}
	if (file && file != stdin)
		fclose(file);
	free(bytes);
	return NULL;
}

/* The part of a path up to the next slash, if another part follows; else NULL. */
static char *
next_part(const char *path)
{
	const char *slash = strchr(path, '/');

	return slash && slash > path && slash[1] ? pnstrdup(path, slash - path) : NULL;
}

/*
 * The workspace that a path tells: by "env:/NAME/", as the s3 backend has it, or by
 * "terraform.tfstate.d/NAME/terraform.tfstate", as it is in local files, where
 * "terraform.tfstate" is that of the default workspace.  NULL if it does not tell.
 */
static char *
workspace_of(const char *path)
{
	static const char *const marks[] = {"env:/", "terraform.tfstate.d/"};
	const char *base = last_dir_separator(path) ? last_dir_separator(path) + 1 : path;

	for (int i = 0; i < lengthof(marks); i++)
	{
		const char *mark = strstr(path, marks[i]);

		if (mark && (mark == path || mark[-1] == '/'))
			return next_part(mark + strlen(marks[i]));
	}
	return strcmp(base, "terraform.tfstate") == 0 ? pg_strdup("default") : NULL;
}

/* Read an argument: FILE, or WORKSPACE=FILE if there is no file of that name. */
static void
read_source(ImportSource *source, char *argument)
{
	char	   *equals = strchr(argument, '=');

	source->item = -1;
	source->file = argument;
	if (equals == NULL || access(argument, F_OK) == 0)
	{
		source->workspace = workspace_of(argument);
		return;
	}
	source->file = equals + 1;
	source->workspace = pnstrdup(argument, equals - argument);
	if (source->workspace[0] == '\0' || source->file[0] == '\0')
		usage_error(&import_command, "invalid argument: \"%s\" (WORKSPACE=FILE is valid)", argument);
}

static void
read_command_line(Import *import, int argc, char **argv)
{
	int			c;
	int			inputs;

	import->table = "terraform_remote_state.states";
	while ((c = getopt_long(argc, argv, CONNECTION_OPTSTRING, long_options, NULL)) != -1)
	{
		switch (c)
		{
			case OPTION_ITEMS:
				import->items_file = optarg;
				break;
			case OPTION_LOCKS:
				import->locks = true;
				break;
			case OPTION_NEWER:
				import->newer = true;
				break;
			case OPTION_TABLE:
				import->table = optarg;
				break;
			default:
				if (!connection_option(c, optarg))
					exit(bad_option(&import_command, c));
		}
	}
	if (optind == argc)
		usage_error(&import_command, "no state is given: name its file, or WORKSPACE=- for standard input");
	if (strchr(import->table, '.') == NULL)
		usage_error(&import_command, "invalid table: \"%s\" (SCHEMA.TABLE is valid)", import->table);
	if (import->locks && import->items_file == NULL)
		usage_error(&import_command, "--locks needs --items, which says what is locked");
	inputs = import->items_file && strcmp(import->items_file, "-") == 0;
	import->count = argc - optind;
	import->sources = pg_malloc0(import->count * sizeof(ImportSource));
	for (int i = 0; i < import->count; i++)
	{
		read_source(&import->sources[i], argv[optind + i]);
		inputs += strcmp(import->sources[i].file, "-") == 0;
	}
	if (inputs > 1)
		usage_error(&import_command, "standard input is named twice");
}

/*
 * Find the table.
 */
static void
find_table(Import *import)
{
	PGresult   *result = simple_query(import->conn,
									  "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), "
									  QUOTED("n.nspname") " || '.' || " QUOTED("c.relname") " || '/', "
									  "EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid "
									  "JOIN pg_catalog.pg_namespace i ON i.oid = p.pronamespace "
									  "WHERE t.tgrelid = c.oid AND i.nspname = 'tfstate_internal' AND p.proname = 'guard') "
									  "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
									  "WHERE c.oid = pg_catalog.to_regclass($1)", 1, &import->table);
	bool		found = PQntuples(result) == 1;

	if (!found || strcmp(PQgetvalue(result, 0, 2), "t") != 0)
	{
		fprintf(stderr, "%s: %s \"%s\"%s; an administrator can run: tfstate attach SCHEMA TABLE\n", progname,
				found ? "table" : "there is no table", import->table, found ? " is not attached" : "");
		exit(EXIT_FAILED);
	}
	import->sql_table = pg_strdup(PQgetvalue(result, 0, 0));
	import->prefix = pg_strdup(PQgetvalue(result, 0, 1));
	PQclear(result);
}

/*
 * Read the lock items.
 */
static void
read_items(Import *import)
{
	int			length;
	char	   *bytes = read_whole(import->items_file, &length);
	const char *values[] = {bytes};

	if (bytes == NULL)
		exit(EXIT_FAILED);
	if (!simple_try(import->conn, &import->items,
					"SELECT i.name, pg_catalog.max(i.digest), pg_catalog.max(i.info), pg_catalog.max(i.info::jsonb ->> 'ID'), "
					"pg_catalog.max(pg_catalog.format('%s: %s since %s (ID %s)', i.info::jsonb ->> 'Who', "
					"i.info::jsonb ->> 'Operation', i.info::jsonb ->> 'Created', i.info::jsonb ->> 'ID')) "
					"FILTER (WHERE i.info IS NOT NULL) FROM (SELECT e #>> '{Digest,S}' AS digest, "
					"nullif(e #>> '{Info,S}', '') AS info, CASE WHEN e ? 'Digest' THEN pg_catalog.regexp_replace("
					"e #>> '{LockID,S}', '-md5$', '') ELSE e #>> '{LockID,S}' END AS name FROM "
					"pg_catalog.jsonb_array_elements(pg_catalog.convert_from($1::bytea, 'UTF8')::jsonb -> 'Items') e) i "
					"WHERE i.name IS NOT NULL GROUP BY i.name", 1, values, &length))
	{
		char	   *message = db_message(import->conn, import->items);

		fprintf(stderr, "%s: %s is not the JSON that \"aws dynamodb scan\" prints: %s\n", progname,
				shown_name(import->items_file), message);
		exit(EXIT_FAILED);
	}
	free(bytes);
	if (PQntuples(import->items) == 0)
	{
		fprintf(stderr, "%s: there are no lock items in %s; it should have the JSON that \"aws dynamodb scan\" prints\n",
				progname, shown_name(import->items_file));
		exit(EXIT_FAILED);
	}
}

/* The path behind the bucket in the name of an item. */
static const char *
key_of_item(const Import *import, int item)
{
	const char *name = PQgetvalue(import->items, item, ITEM_NAME);

	return strchr(name, '/') ? strchr(name, '/') + 1 : name;
}

static bool
ends_with_path(const char *path, const char *end)
{
	size_t		before = strlen(path) - strlen(end);

	return strlen(path) >= strlen(end) && strcmp(path + before, end) == 0 && (before == 0 || path[before - 1] == '/');
}

/*
 * Find the item of a state: the one with the longest key that its path ends with.
 * Returns false, with a report, if there is none or more than one.
 */
static bool
find_item(const Import *import, ImportSource *source)
{
	size_t		longest = 0;
	bool		several = false;
	bool		env = strncmp(source->file, "env:/", 5) == 0 || strstr(source->file, "/env:/");

	for (int i = 0; i < PQntuples(import->items); i++)
	{
		const char *key = key_of_item(import, i);

		/* the state of a workspace is not that of the default workspace */
		if (!ends_with_path(source->file, key) || strlen(key) < longest || (env && strstr(key, "env:/") == NULL))
			continue;
		several = strlen(key) == longest;
		longest = strlen(key);
		source->item = i;
	}
	if (source->item >= 0 && !several)
		return true;
	fprintf(stderr, "%s: no state was imported: %s in %s belong%s to %s; keep the states in files that are named as in S3, "
			"or leave out --items\n", progname, several ? "more than one lock item" : "no lock item",
			shown_name(import->items_file), several ? "" : "s", shown_name(source->file));
	return false;
}

/*
 * Find out which workspaces and items the states are for.  Exits if that is not clear of
 * each.
 */
static void
name_workspaces(Import *import)
{
	for (int i = 0; i < import->count; i++)
	{
		ImportSource *source = &import->sources[i];

		if (import->items && !find_item(import, source))
			exit(EXIT_FAILED);
		if (source->workspace == NULL && source->item >= 0)
			source->workspace = pg_strdup("default");
		if (source->workspace == NULL)
			usage_error(&import_command, "the name \"%s\" does not tell the workspace: write WORKSPACE=%s", source->file,
						source->file);
		source->lockid = psprintf("%s%s", import->prefix, source->workspace);
		for (int j = 0; j < i; j++)
		{
			if (strcmp(source->lockid, import->sources[j].lockid) == 0)
				usage_error(&import_command, "\"%s\" and \"%s\" are both for workspace \"%s\"", import->sources[j].file,
							source->file, source->workspace);
		}
	}
}

/* What examine() finds out about a state. */
enum
{
	NEW_MD5,
	NEW_SERIAL,
	NEW_LINEAGE,
	OLD_SERIAL,
	OLD_LINEAGE,
	OLD_SAME					/* is it there already? */
};

static void
report_lineage(const ImportSource *source, PGresult *state)
{
	fprintf(stderr, "%s: workspace \"%s\" has the state of another project, with lineage \"%s\"; that of %s is \"%s\"\n",
			progname, source->lockid, PQgetvalue(state, 0, OLD_LINEAGE), shown_name(source->file),
			PQgetvalue(state, 0, NEW_LINEAGE));
}

/* A text without the character 0, which makes PostgreSQL refuse to read JSON. */
#define READABLE(text) "pg_catalog.replace(t." text ", '\\u0000', '\\ufffd')"

/*
 * Read a state, and compare it with what is in its workspace.  It counts as the same if
 * only the layout of the text differs, or the program that wrote it.  Returns NULL, with
 * a report, if it is not a state.
 */
static PGresult *
examine(Import *import, const ImportSource *source, const char *const *values, const int *lengths)
{
	static const char *const sql =
		"WITH texts AS MATERIALIZED (SELECT pg_catalog.convert_from($2::bytea, 'UTF8') AS new, "
		"(SELECT s.data FROM %s s WHERE s.name = $1) AS old), "
		"facts AS MATERIALIZED (SELECT t.*, j.new ->> 'serial' AS new_serial, j.new ->> 'lineage' AS new_lineage, "
		"j.old ->> 'serial' AS old_serial, j.old ->> 'lineage' AS old_lineage FROM texts t, "
		"LATERAL (SELECT " READABLE("new") "::json AS new, "
		"CASE WHEN pg_catalog.ltrim(t.old, E' \\t\\r\\n') LIKE '{%%' THEN " READABLE("old") "::json END AS old) j) "
		"SELECT pg_catalog.md5($2::bytea), f.new_serial, f.new_lineage, f.old_serial, f.old_lineage, "
		"CASE WHEN f.new = f.old THEN true "
		"WHEN f.new_serial = f.old_serial AND f.new_lineage = f.old_lineage AND pg_catalog.strpos(f.new || f.old, '\\u0000') = 0 "
		"THEN f.new::jsonb - 'terraform_version' = f.old::jsonb - 'terraform_version' END FROM facts f";
	PGresult   *result;

	if (!simple_try(import->conn, &result, psprintf(sql, import->sql_table), 2, values, lengths))
	{
		/* class 22: what is wrong is the text */
		if (strncmp(db_sqlstate(result), "22", 2) == 0)
			fprintf(stderr, "%s: %s is not a state: %s\n", progname, shown_name(source->file),
					db_message(import->conn, result));
		else
			db_report(import->conn, result);
		import->status = db_exit_status(DB_ERROR, result);
		return NULL;
	}
	if (PQgetisnull(result, 0, NEW_SERIAL) || PQgetisnull(result, 0, NEW_LINEAGE))
	{
		fprintf(stderr, "%s: %s is not a state: it has no serial or no lineage\n", progname, shown_name(source->file));
		import->status = EXIT_FAILED;
		return NULL;
	}
	return result;
}

/*
 * Error if a state would pass the guard, and the user has not said that it may replace
 * what is there.
 */
static bool
check_replaced(Import *import, const ImportSource *source, PGresult *state)
{
	const char *lineage = PQgetvalue(state, 0, NEW_LINEAGE);
	const char *old_lineage = PQgetvalue(state, 0, OLD_LINEAGE);
	const char *old_serial = PQgetvalue(state, 0, OLD_SERIAL);
	int64_t		before = strtoll(old_serial, NULL, 10);

	if (strcmp(PQgetvalue(state, 0, OLD_SAME), "t") == 0)
		return true;
	/* the guard takes an empty lineage for any */
	if (*lineage == '\0' && *old_lineage != '\0')
		report_lineage(source, state);
	else if (before > 0 && strtoll(PQgetvalue(state, 0, NEW_SERIAL), NULL, 10) > before && !import->newer &&
			 (*old_lineage == '\0' || strcmp(lineage, old_lineage) == 0))
		fprintf(stderr, "%s: workspace \"%s\" has serial %s, and %s has serial %s; to replace it, use --newer\n",
				progname, source->lockid, old_serial, shown_name(source->file), PQgetvalue(state, 0, NEW_SERIAL));
	else
		return true;
	import->status = EXIT_FAILED;
	return false;
}

/*
 * Error if a state is not what its lock item says, or is locked and is to be brought in
 * without the lock.
 */
static bool
check_item(Import *import, const ImportSource *source, PGresult *state)
{
	const char *digest = db_value(import->items, source->item, ITEM_DIGEST);
	const char *holder = db_value(import->items, source->item, ITEM_HOLDER);

	if (digest && pg_strcasecmp(digest, PQgetvalue(state, 0, NEW_MD5)) != 0)
	{
		fprintf(stderr, "%s: %s is not the state that was written last: its MD5 is %s, and the digest in %s is %s\n",
				progname, shown_name(source->file), PQgetvalue(state, 0, NEW_MD5), shown_name(import->items_file), digest);
		import->status = EXIT_FAILED;
		return false;
	}
	if (holder && !import->locks)
	{
		fprintf(stderr, "%s: %s is locked by %s; when that run has ended, get state and lock items again, "
				"or take its lock over with --locks\n", progname, shown_name(source->file), holder);
		import->status = EXIT_HELD;
		return false;
	}
	return true;
}

/*
 * Tell why the guard has not let a state in.
 */
static void
report_refusal(Import *import, const ImportSource *source, PGresult *state, PGresult *result)
{
	const char *old_serial = db_value(state, 0, OLD_SERIAL);
	const char *old_lineage = db_value(state, 0, OLD_LINEAGE);

	import->status = db_exit_status(DB_ERROR, result);
	if (strcmp(db_sqlstate(result), "55000") != 0 || old_serial == NULL || old_lineage == NULL)
		db_report(import->conn, result);
	else if (*old_lineage && strcmp(old_lineage, PQgetvalue(state, 0, NEW_LINEAGE)) != 0)
		report_lineage(source, state);
	else
		fprintf(stderr, "%s: workspace \"%s\" has serial %s%s, and %s has serial %s; compare it with: tfstate cat '%s'\n",
				progname, source->lockid, old_serial,
				strcmp(old_serial, PQgetvalue(state, 0, NEW_SERIAL)) == 0 ? " of another state" : "",
				shown_name(source->file), PQgetvalue(state, 0, NEW_SERIAL), source->lockid);
}

/*
 * Take the lock of a workspace, in the transaction.  With take_over it is that of the
 * lock item, which may be held here already.
 */
static bool
take_lock(Import *import, const ImportSource *source, bool take_over, PGresult **result)
{
	const char *held[] = {source->lockid, take_over ? PQgetvalue(import->items, source->item, ITEM_ID) : NULL};
	const char *values[] = {source->lockid, take_over ? PQgetvalue(import->items, source->item, ITEM_INFO) : NULL,
	shown_name(source->file)};

	if (take_over)
	{
		if (!simple_try(import->conn, result, "SELECT h.id, h.fence FROM @.tfstate_holders($1) h WHERE h.lockid = $1 AND h.id = $2",
						2, held, NULL))
			return false;
		if (PQntuples(*result) == 1)
			return true;
		PQclear(*result);
	}
	return simple_try(import->conn, result,
					  "SELECT l.id, l.fence FROM @.tfstate_lock($1, coalesce($2::jsonb, pg_catalog.jsonb_build_object("
					  "'Operation', 'import', 'Info', $3::text)), 'durable') l", 3, values, NULL);
}

/*
 * Begin a transaction in which the guard asks for all that it can ask for.
 */
static void
begin(Import *import)
{
	const char *values[] = {default_who()};

	PQclear(simple_query(import->conn, "BEGIN", 0, NULL));
	PQclear(simple_query(import->conn,
						 "SELECT pg_catalog.set_config('tfstate.guard', 'require', true), pg_catalog.set_config('tfstate.who', "
						 "coalesce(nullif(pg_catalog.current_setting('tfstate.who', true), ''), $1), true)", 1, values));
}

/*
 * Write a state under the lock with this fence.
 */
static bool
write_state(Import *import, const char *fence, const char *const *values, const int *lengths, PGresult **result)
{
	PQclear(simple_query(import->conn, "SELECT pg_catalog.set_config('tfstate.fence', $1, true)", 1, &fence));
	return simple_try(import->conn, result, psprintf("INSERT INTO %s (name, data) VALUES ($1, pg_catalog.convert_from($2::bytea, 'UTF8')) "
													 "ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data", import->sql_table),
					  2, values, lengths);
}

/*
 * Bring in a state, or its lock, or both, in one transaction.  Returns false, with a
 * report, if that was refused.
 */
static bool
bring_in(Import *import, const ImportSource *source, PGresult *state, bool take_over, const char *const *values, const int *lengths)
{
	bool		there = strcmp(PQgetvalue(state, 0, OLD_SAME), "t") == 0;
	const char *lock[] = {source->lockid, NULL};
	PGresult   *result;
	PGresult   *taken;
	bool		done;

	begin(import);
	if (!take_lock(import, source, take_over, &taken))
	{
		import->status = db_exit_status(DB_ERROR, taken);
		db_report(import->conn, taken);
		PQclear(taken);
		PQclear(simple_query(import->conn, "ROLLBACK", 0, NULL));
		return false;
	}
	lock[1] = PQgetvalue(taken, 0, 0);
	done = there || write_state(import, PQgetvalue(taken, 0, 1), values, lengths, &result);
	if (done && !take_over)
		PQclear(simple_query(import->conn, "SELECT @.tfstate_unlock($1, $2)", 2, lock));
	if (!done)
		report_refusal(import, source, state, result);
	PQclear(taken);
	PQclear(simple_query(import->conn, done ? "COMMIT" : "ROLLBACK", 0, NULL));
	return done;
}

/*
 * Import a state, and print a line about it.
 */
static void
import_state(Import *import, ImportSource *source)
{
	int			lengths[2] = {0, 0};
	char	   *bytes = read_whole(source->file, &lengths[1]);
	const char *values[] = {source->workspace, bytes};
	PGresult   *state;
	bool		take_over = source->item >= 0 && !PQgetisnull(import->items, source->item, ITEM_INFO);

	if (bytes == NULL)
	{
		import->status = EXIT_FAILED;
		return;
	}
	state = examine(import, source, values, lengths);
	if (state && (source->item < 0 || check_item(import, source, state)) && check_replaced(import, source, state))
	{
		bool		there = strcmp(PQgetvalue(state, 0, OLD_SAME), "t") == 0;

		if ((there && !take_over) || bring_in(import, source, state, take_over, values, lengths))
		{
			printf("%s: serial %s %s", source->lockid, PQgetvalue(state, 0, NEW_SERIAL), there ? "is already there" : "imported");
			if (take_over)
				printf(", locked by %s", PQgetvalue(import->items, source->item, ITEM_HOLDER));
			printf("\n");
		}
	}
	PQclear(state);
	free(bytes);
}

/*
 * Tell which locks were not taken over, because their states were not given.
 */
static void
report_other_locks(const Import *import)
{
	for (int i = 0; i < PQntuples(import->items); i++)
	{
		bool		given = PQgetisnull(import->items, i, ITEM_INFO);

		for (int j = 0; j < import->count && !given; j++)
			given = import->sources[j].item == i;
		if (!given)
			fprintf(stderr, "%s: not taken over: the lock of %s, whose state is not given, is held by %s\n", progname,
					PQgetvalue(import->items, i, ITEM_NAME), PQgetvalue(import->items, i, ITEM_HOLDER));
	}
}

static int
import_main(const Command *command, int argc, char **argv)
{
	Import		import = {0};

	read_command_line(&import, argc, argv);
	import.conn = simple_connect();
	find_table(&import);
	if (import.items_file)
		read_items(&import);
	name_workspaces(&import);
	for (int i = 0; i < import.count; i++)
		import_state(&import, &import.sources[i]);
	if (import.locks)
		report_other_locks(&import);
	return import.status;
}

const Command import_command = {
	"import", import_main, "[OPTION]... [WORKSPACE=]FILE...", "bring in states and locks of other backends",
	"      --table=SCHEMA.TABLE\n"
	"                         where to (default: terraform_remote_state.states)\n"
	"      --items=FILE       lock items as \"aws dynamodb scan\" prints them: check the digests\n"
	"      --locks            take over locks that are held there\n"
	"      --newer            replace states by later ones of the same lineage\n"
};
