/*-------------------------------------------------------------------------
 *
 * metrics.c
 *	  GET /metrics: tfstate_metrics as Prometheus reads it.
 *
 * The format is the text format 0.0.4: of each metric a line with its help, one with its
 * type, and one for each of its samples, all of them together.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "pqexpbuffer.h"

#include "http/metrics.h"
#include "http/reply.h"

/* What the columns of the result are.  A sample has a row for each of its labels. */
enum
{
	NAME, TYPE, HELP, LABELS, LABEL, LABEL_VALUE, VALUE
};

/* Append a help or, in quotes, the value of a label. */
static void
append_escaped(PQExpBuffer buf, const char *value, bool quoted)
{
	for (; *value; value++)
	{
		if (*value == '\n')
			appendPQExpBufferStr(buf, "\\n");
		else
		{
			if (*value == '\\' || (quoted && *value == '"'))
				appendPQExpBufferChar(buf, '\\');
			appendPQExpBufferChar(buf, *value);
		}
	}
}

/* Returns true if a value of a row is the same in the row before it. */
static bool
is_repeated(const PGresult *result, int row, int column)
{
	return row > 0 && strcmp(PQgetvalue(result, row, column), PQgetvalue(result, row - 1, column)) == 0;
}

/* Write all metrics in a result. */
static void
write_metrics(PQExpBuffer buf, const PGresult *result)
{
	int			rows = PQntuples(result);

	for (int row = 0; row < rows; row++)
	{
		const char *name = PQgetvalue(result, row, NAME);
		bool		same_metric = is_repeated(result, row, NAME);
		bool		same_sample = same_metric && is_repeated(result, row, LABELS);

		if (!same_metric)
		{
			appendPQExpBuffer(buf, "# HELP %s ", name);
			append_escaped(buf, PQgetvalue(result, row, HELP), false);
			appendPQExpBuffer(buf, "\n# TYPE %s %s\n", name, PQgetvalue(result, row, TYPE));
		}
		if (!same_sample)
			appendPQExpBufferStr(buf, name);
		if (!PQgetisnull(result, row, LABEL))
		{
			appendPQExpBuffer(buf, "%c%s=\"", same_sample ? ',' : '{', PQgetvalue(result, row, LABEL));
			append_escaped(buf, PQgetvalue(result, row, LABEL_VALUE), true);
			appendPQExpBufferChar(buf, '"');
		}
		if (row + 1 < rows && is_repeated(result, row + 1, NAME) && is_repeated(result, row + 1, LABELS))
			continue;
		appendPQExpBuffer(buf, "%s %s\n", PQgetisnull(result, row, LABEL) ? "" : "}", PQgetvalue(result, row, VALUE));
	}
}

/* GET /metrics */
DbStatus
metrics_answer(Request *request, Db *db)
{
	Statement	statement = {"SELECT m.name, m.type, m.help, m.labels, l.key, l.value, m.value "
		"FROM @.tfstate_metrics m LEFT JOIN LATERAL pg_catalog.jsonb_each_text(m.labels) l ON true "
	"ORDER BY m.name COLLATE \"C\", m.labels, l.key COLLATE \"C\"", 0};
	PQExpBufferData buf;
	PGresult   *result;
	DbStatus	status = db_query(db, &statement, &result);

	if (status == DB_OK)
	{
		initPQExpBuffer(&buf);
		write_metrics(&buf, result);
		request->status = 200;
		request->content_type = "text/plain; version=0.0.4; charset=utf-8";
		request->text = buf.data;
	}
	else if (status == DB_ERROR && strcmp(db_sqlstate(result), "42P01") == 0)
		reply_problem(request, 503, "the extension has no metrics before version 0.2: ALTER EXTENSION tfstate UPDATE");
	else if (status == DB_ERROR)
		reply_error(request, result);
	PQclear(result);
	return status == DB_GONE ? DB_GONE : DB_OK;
}
