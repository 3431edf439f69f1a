/*-------------------------------------------------------------------------
 *
 * state.c
 *	  GET, POST and DELETE: the state of a workspace.
 *
 * These are plain statements on the table of states, whose guard decides.  A request that
 * shows the ID of a lock works for the run that the lock was taken for; see lock.c.
 *
 * A workspace that does not exist has no state, which is 404.  A table that does not exist,
 * or is not attached, is another error, because Terraform takes 404 for an empty state, and
 * would plan to create everything anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "http/lock.h"
#include "http/reply.h"
#include "http/state.h"

/*
 * Sets *found if the table of a request exists and is attached, or else answers the
 * request.  A connection remembers the last table for as long as it lives, a minute.
 */
DbStatus
state_find_table(Request *request, Db *db, bool *found)
{
	char	   *prefix = pnstrdup(request->address.lockid,
								  strlen(request->address.lockid) - strlen(request->address.workspace) - 1);
	Statement	statement = {"SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger t "
		"JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace "
		"WHERE t.tgrelid = c.oid AND pn.nspname = 'tfstate_internal' AND p.proname = 'guard') "
		"FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
	"WHERE n.nspname = $1 AND c.relname = $2", 2, {request->address.schema, request->address.table}};
	PGresult   *result;
	DbStatus	status;

	*found = db->table && strcmp(db->table, prefix) == 0;
	if (*found)
	{
		free(prefix);
		return DB_OK;
	}
	status = db_query(db, &statement, &result);
	*found = status == DB_OK && PQntuples(result) == 1 && db_is_true(result, 0, 0);
	if (*found)
	{
		free(db->table);
		db->table = pg_strdup(prefix);
	}
	else if (status == DB_ERROR)
		reply_error(request, result);
	else if (status == DB_OK && PQntuples(result) == 0)
		reply_problem(request, 400, "there is no table %s", prefix);
	else if (status == DB_OK)
		reply_problem(request, 400, "table %s is not attached to tfstate; an administrator can do that with tfstate_attach()", prefix);
	PQclear(result);
	free(prefix);
	return status == DB_GONE ? DB_GONE : DB_OK;
}

/* A statement with the table of a request for each "%s", which the caller frees. */
static char *
with_table(const Request *request, const char *format)
{
	char	   *schema = db_quote(request->address.schema);
	char	   *table = db_quote(request->address.table);
	char	   *sql = psprintf(format, schema, table);

	free(schema);
	free(table);
	return sql;
}

/* GET */
DbStatus
state_get(Request *request, Db *db)
{
	Statement	statement = {NULL, 1, {request->address.workspace}};
	PGresult   *result;
	DbStatus	status;
	bool		found;
	char	   *sql;

	status = state_find_table(request, db, &found);
	if (!found)
		return status;
	sql = with_table(request, "SELECT data FROM %s.%s WHERE name = $1");
	statement.sql = sql;
	status = db_query(db, &statement, &result);
	free(sql);
	if (status == DB_OK && PQntuples(result) > 0 && PQgetlength(result, 0, 0) > 0)
	{
		reply_state(request, result);
		return DB_OK;
	}
	if (status == DB_ERROR)
		reply_error(request, result);
	else if (status == DB_OK && PQntuples(result) > 0)
		request->status = 204;
	else if (status == DB_OK)
		reply_problem(request, 404, "there is no workspace %s", request->address.lockid);
	PQclear(result);
	return status == DB_GONE ? DB_GONE : DB_OK;
}

/*
 * Run a statement that writes the workspace, for the run whose lock is shown.
 */
static DbStatus
write_state(Request *request, Db *db, const char *format)
{
	const char *id = request->id ? request->id : "";
	const char *who = db_who(db, request->address.lockid, id);
	Statement	statements[] = {
		/* the version is by whom the lock says it is */
		{who ? "SELECT " LOCK_SET_RUN("$1") ", pg_catalog.set_config('tfstate.who', $2, true)" :
			"SELECT " LOCK_SET_RUN("$1") ", (SELECT pg_catalog.set_config('tfstate.who', h.who, true) "
			"FROM @.tfstate_holders($2) h WHERE h.lockid = $2 AND h.id = $1)",
		2, {id, who ? who : request->address.lockid}},
		{NULL, request->body ? 2 : 1, {request->address.workspace, request->body}}
	};
	PGresult   *result;
	DbStatus	status;
	bool		found;
	char	   *sql;

	status = state_find_table(request, db, &found);
	if (!found)
		return status;
	sql = with_table(request, format);
	statements[1].sql = sql;
	status = db_transaction(db, statements, lengthof(statements), &result);
	free(sql);
	if (status == DB_OK)
		reply_done(request);
	else if (status == DB_ERROR)
		reply_error(request, result);
	PQclear(result);
	return status == DB_GONE ? DB_GONE : DB_OK;
}

/*
 * POST, or PUT.  The state that is there already is no error, so that a request can be
 * repeated.
 */
DbStatus
state_post(Request *request, Db *db)
{
	if (request->length == 0)
	{
		reply_problem(request, 400, "there is no state in the request");
		return DB_OK;
	}
	return write_state(request, db, "INSERT INTO %s.%s AS s (name, data) VALUES ($1, $2) "
					   "ON CONFLICT (name) DO UPDATE SET data = $2 WHERE s.name = $1");
}

/* DELETE.  The same goes for a workspace that is gone. */
DbStatus
state_delete(Request *request, Db *db)
{
	free(request->body);
	request->body = NULL;
	return write_state(request, db, "DELETE FROM %s.%s WHERE name = $1");
}
