/*-------------------------------------------------------------------------
 *
 * watch.c
 *	  tfstate watch: what is held, who waits, and what was released last, live.
 *
 * Once a second one query is run.  At a terminal the screen is drawn anew from its top
 * in one write, so it does not flicker; what a line had before is erased behind what it
 * has now.  With --json each thing that is there for the first time, or no longer, is
 * one line.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "pqexpbuffer.h"

#include "client.h"
#include "commands.h"
#include "event.h"
#include "options.h"
#include "print.h"
#include "simple.h"

/* How often it is asked, in milliseconds. */
#define EVERY_MS		1000

/* How many releases are shown. */
#define RELEASES		"10"

enum
{
	OPTION_JSON = OPTION_LONG_ONLY
};

static const struct option long_options[] = {
	CONNECTION_LONG_OPTIONS,
	{"json", no_argument, NULL, OPTION_JSON},
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0}
};

/*
 * What is there now.  In each row: its part of the screen, a key that stays the same as
 * long as it is there, the columns for people, and the events of its coming and going.
 */
static const char *const query =
"SELECT 1, h.id, h.lockid, h.who, h.operation, pg_catalog.date_trunc('second', h.created)::text, h.mode, h.waiters::text, "
"pg_catalog.jsonb_build_object('event', 'locked') OPERATOR(pg_catalog.||) pg_catalog.to_jsonb(h), "
"pg_catalog.jsonb_build_object('event', 'ended', 'lockid', h.lockid, 'id', h.id, 'fence', h.fence), "
"pg_catalog.row_number() OVER (ORDER BY h.created, h.lockid) "
"FROM @.tfstate_holders($1) h "
"UNION ALL "
"SELECT 2, w.pid || ' ' || w.since, w.lockid, w.role, w.application_name, pg_catalog.date_trunc('second', w.since)::text, "
"w.position::text, w.pid::text, "
"pg_catalog.jsonb_build_object('event', 'waiting') OPERATOR(pg_catalog.||) pg_catalog.to_jsonb(w), "
"pg_catalog.jsonb_build_object('event', 'waited', 'lockid', w.lockid, 'pid', w.pid), w.position "
"FROM @.tfstate_waiters($1) w "
"UNION ALL "
"SELECT 3, r.id, r.lockid, r.who, r.operation, pg_catalog.date_trunc('second', r.released_at)::text, r.how, r.released_by, "
"pg_catalog.jsonb_build_object('event', 'released') OPERATOR(pg_catalog.||) pg_catalog.to_jsonb(r), NULL, "
"pg_catalog.row_number() OVER (ORDER BY r.released_at DESC) "
"FROM @.tfstate_history($1, " RELEASES ") r "
"ORDER BY 1, 11, 3";

/* Columns of the query. */
enum
{
	COLUMN_PART,
	COLUMN_KEY,
	COLUMN_FIRST,				/* for people */
	COLUMN_LAST = COLUMN_FIRST + 5,
	COLUMN_CAME,
	COLUMN_WENT
};

#define NUM_SHOWN	(COLUMN_LAST - COLUMN_FIRST + 1)

static const char *const headings[3][NUM_SHOWN + 1] = {
	{"Held", "lockid", "who", "operation", "since", "mode", "waiters"},
	{"Waiting", "lockid", "role", "application", "since", "position", "pid"},
	{"Released", "lockid", "who", "operation", "at", "how", "by"}
};

/* Append a value cut or filled up to a number of characters. */
static void
append_column(PQExpBuffer buf, const char *value, int width, int encoding)
{
	int			shown = 0;

	while (*value && shown < width)
	{
		int			bytes = PQmblenBounded(value, encoding);

		appendBinaryPQExpBuffer(buf, value, bytes);
		value += bytes;
		shown++;
	}
	appendPQExpBuffer(buf, "%*s", width - shown + 1, "");
}

/* How wide the columns of a part have to be, and with less where the screen is narrow. */
static void
find_widths(const PGresult *result, int part, int screen, int *widths)
{
	int			total = 0;

	for (int c = 0; c < NUM_SHOWN; c++)
		widths[c] = strlen(headings[part][c + 1]);
	for (int row = 0; row < PQntuples(result); row++)
	{
		if (atoi(PQgetvalue(result, row, COLUMN_PART)) != part + 1)
			continue;
		for (int c = 0; c < NUM_SHOWN; c++)
			widths[c] = Max(widths[c], PQgetlength(result, row, COLUMN_FIRST + c));
	}
	for (int c = 0; c < NUM_SHOWN; c++)
		total += widths[c] + 1;
	/* the longest gives way */
	while (total > screen && total > NUM_SHOWN * 4)
	{
		int			longest = 0;

		for (int c = 1; c < NUM_SHOWN; c++)
		{
			if (widths[c] > widths[longest])
				longest = c;
		}
		widths[longest]--;
		total--;
	}
}

static void
end_line(PQExpBuffer buf, int *lines)
{
	appendPQExpBufferStr(buf, "\033[K\r\n");
	(*lines)--;
}

static void
append_part(PQExpBuffer buf, const PGresult *result, int part, int screen, int encoding, int *lines)
{
	int			widths[NUM_SHOWN];
	int			count = 0;

	find_widths(result, part, screen, widths);
	for (int row = 0; row < PQntuples(result); row++)
		count += atoi(PQgetvalue(result, row, COLUMN_PART)) == part + 1;
	if (*lines > 3)
	{
		appendPQExpBuffer(buf, "%s: %d", headings[part][0], count);
		end_line(buf, lines);
	}
	if (count > 0 && *lines > 3)
	{
		for (int c = 0; c < NUM_SHOWN; c++)
			append_column(buf, headings[part][c + 1], widths[c], encoding);
		end_line(buf, lines);
	}
	for (int row = 0; row < PQntuples(result) && *lines > 2; row++)
	{
		if (atoi(PQgetvalue(result, row, COLUMN_PART)) != part + 1)
			continue;
		for (int c = 0; c < NUM_SHOWN; c++)
			append_column(buf, PQgetvalue(result, row, COLUMN_FIRST + c), widths[c], encoding);
		end_line(buf, lines);
	}
	if (*lines > 2)
		end_line(buf, lines);
}

/* Draw the screen.  Returns false if the terminal is gone. */
static bool
draw(const PGresult *result, int encoding)
{
	struct winsize size;
	PQExpBufferData buf;
	int			columns = 80;
	int			lines = 24;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0)
	{
		columns = size.ws_col;
		lines = size.ws_row;
	}
	initPQExpBuffer(&buf);
	appendPQExpBufferStr(&buf, "\033[H");
	for (int part = 0; part < 3; part++)
		append_part(&buf, result, part, columns, encoding, &lines);
	appendPQExpBufferStr(&buf, "\033[J");
	(void) fwrite(buf.data, 1, buf.len, stdout);
	termPQExpBuffer(&buf);
	return flush_output();
}

/* Is a row of one result in another one, too? */
static bool
is_in(const PGresult *result, const PGresult *rows, int row)
{
	for (int i = 0; i < PQntuples(result); i++)
	{
		if (strcmp(PQgetvalue(result, i, COLUMN_PART), PQgetvalue(rows, row, COLUMN_PART)) == 0 &&
			strcmp(PQgetvalue(result, i, COLUMN_KEY), PQgetvalue(rows, row, COLUMN_KEY)) == 0)
			return true;
	}
	return false;
}

/*
 * Print what has come and gone since the last look, of which there was none if before
 * is NULL: then what was released earlier is no event.  Returns false if nobody reads it.
 */
static bool
print_events(const PGresult *before, const PGresult *now)
{
	for (int row = 0; before && row < PQntuples(before); row++)
	{
		if (!PQgetisnull(before, row, COLUMN_WENT) && !is_in(now, before, row))
			printf("%s\n", PQgetvalue(before, row, COLUMN_WENT));
	}
	for (int row = 0; row < PQntuples(now); row++)
	{
		bool		released = PQgetisnull(now, row, COLUMN_WENT);

		if (before ? !is_in(before, now, row) : !released)
			printf("%s\n", PQgetvalue(now, row, COLUMN_CAME));
	}
	return flush_output();
}

static int
watch_main(const Command *command, int argc, char **argv)
{
	const char *pattern;
	bool		json = false;
	PGresult   *before = NULL;
	Conn	   *conn;
	int			c;

	while ((c = getopt_long(argc, argv, CONNECTION_OPTSTRING, long_options, NULL)) != -1)
	{
		if (c == OPTION_JSON)
			json = true;
		else if (!connection_option(c, optarg))
			return bad_option(command, c);
	}
	if (argc - optind > 1)
		usage_error(command, "too many arguments: %s", command->arguments);
	if (!json && !isatty(STDOUT_FILENO))
		usage_error(command, "standard output is not a terminal; use --json for scripts");
	pattern = argv[optind] ? argv[optind] : "*";
	conn = simple_connect();
	if (!json)
		/* the other screen of the terminal, without a cursor */
		simple_screen("\033[?1049h\033[?25l", "\033[?25h\033[?1049l");
	for (;;)
	{
		PGresult   *result = simple_query_again(conn, query, 1, &pattern);

		if (!(json ? print_events(before, result) : draw(result, PQclientEncoding(conn->pg))))
			return EXIT_OUTPUT;
		PQclear(before);
		before = result;
		simple_pause(EVERY_MS);
	}
}

const Command watch_command = {
	"watch", watch_main, "[OPTION]... [PATTERN]", "show holders, waiters and releases live",
	"      --json             print one line an event\n"
};
