/*-------------------------------------------------------------------------
 *
 * lock.c
 *	  LOCK and UNLOCK.
 *
 * The body of both is Terraform's lock info.  A lock is durable, or, under "tfstate run
 * --http", a lease that is renewed until the command ends (held.c).  It is taken for a run
 * whose name is the ID of the lock.  So who shows the ID, in a write that follows, belongs
 * to that run, and nobody else does, even if it comes over the same connection: the guard
 * and the lock functions see to that, and also look at the role.  The ID is no secret.
 *
 * A request can come twice, because an answer was lost, also to another server behind the
 * same address.  The lock that is held by this role under the ID that is asked for counts as
 * taken, and the one that was unlocked under it as unlocked.
 *
 * terraform force-unlock sends an empty body, so that the ID has to be in the address, and
 * tofu force-unlock from 1.10 an info with nothing but the ID.  Both release by force if the
 * role may do that, and else only what the role itself has locked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <ctype.h>

#include "pqexpbuffer.h"

#include "client/event.h"
#include "http/held.h"
#include "http/lock.h"
#include "http/reply.h"
#include "http/state.h"

/* For how long to try again while another transaction takes or releases the lock. */
#define UNKNOWN_HOLDER_MS	1000
#define TRY_AGAIN_MS		50

/* Created where nobody knows it: Go's zero time. */
#define NO_TIME	"0001-01-01T00:00:00Z"

/*
 * What LOCK and UNLOCK work with, as the table i: the lock info, the ID in it, and whether
 * nothing else is filled in; no row if there is no ID.  From here on the transaction works for
 * the run of that lock.  OFFSET 0 has this done before what is joined with it.
 */
#define INFO(v) \
	"(SELECT i.v, i.v ->> 'ID' AS id, " \
	"pg_catalog.concat(i.v ->> 'Operation', i.v ->> 'Info', i.v ->> 'Who', i.v ->> 'Version') = '' AS only_id, " \
	LOCK_SET_RUN("(i.v ->> 'ID')") \
	" FROM (SELECT " v ") i(v) WHERE i.v ->> 'ID' <> '' OFFSET 0) i"
#define INFO_OF_BODY	INFO("$1::pg_catalog.jsonb")
#define INFO_OF_ID		INFO("pg_catalog.jsonb_build_object('ID', $1::text)")

/* The ID of the lock is in the first column of a result. */
static void
set_id(Request *request, const PGresult *result)
{
	free(request->id);
	request->id = pg_strdup(db_value(result, 0, 0));
}

static void
reply_no_id(Request *request)
{
	reply_problem(request, 400, "the lock info has no ID");
}

/*
 * Read the info in the body: the ID goes into the request, and *only_id becomes true if
 * nothing else is filled in.  If there is no ID, the request is answered.
 */
static DbStatus
read_info(Request *request, Db *db, bool *only_id)
{
	Statement	statement = {"SELECT i.id, i.only_id FROM " INFO_OF_BODY, 1, {request->body}};
	PGresult   *result;
	DbStatus	status = db_query(db, &statement, &result);

	if (status == DB_ERROR)
		reply_error(request, result);
	else if (status == DB_OK && PQntuples(result) == 0)
		reply_no_id(request);
	else if (status == DB_OK)
	{
		set_id(request, result);
		*only_id = db_is_true(result, 0, 1);
	}
	PQclear(result);
	return status == DB_GONE ? DB_GONE : DB_OK;
}

/* Reads a number of so many digits.  Returns -1 if there is something else. */
static int
digits(const char **text, int count)
{
	int			number = 0;

	for (int i = 0; i < count; i++)
	{
		if (!isdigit((unsigned char) **text))
			return -1;
		number = number * 10 + *(*text) ++- '0';
	}
	return number;
}

static bool
is_between(int number, int least, int greatest)
{
	return number >= least && number <= greatest;
}

/*
 * Returns true if a text is a point in time of RFC 3339, as Go reads it: without leap
 * seconds.
 */
static bool
is_rfc3339(const char *text)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int			year = digits(&text, 4);
	int			month = *text ++== '-' ? digits(&text, 2) : -1;
	int			day = month > 0 && *text ++== '-' ? digits(&text, 2) : -1;
	bool		leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	if (year < 0 || !is_between(month, 1, 12) || !is_between(day, 1, days[month - 1] + (month == 2 && leap)) ||
		*text ++!= 'T' || !is_between(digits(&text, 2), 0, 23) ||
		*text ++!= ':' || !is_between(digits(&text, 2), 0, 59) ||
		*text ++!= ':' || !is_between(digits(&text, 2), 0, 59))
		return false;
	if (*text == '.')
	{
		size_t		fraction = strspn(++text, "0123456789");

		if (fraction == 0)
			return false;
		text	  +=fraction;
	}
	if (*text == 'Z')
		return text[1] == '\0';

	return (*text == '+' || *text == '-') &&text ++&& is_between(digits(&text, 2), 0, 23) &&
		*text ++== ':' && is_between(digits(&text, 2), 0, 59) && *text == '\0';
}

/*
 * The lock is held by somebody.  If that is this request's role under this request's ID,
 * the request is a repeated one and was done; else answer with the holder's info: the
 * seven keys that Terraform knows, all of them strings, and a time that it can read.  With
 * an empty ID it would not try again for its -lock-timeout.
 */
static DbStatus
answer_held(Request *request, Db *db, const char *id, const char *info)
{
	Statement	statement = {"SELECT pg_catalog.json_build_object('ID', coalesce(i.v ->> 'ID', 'unknown'), "
		"'Operation', coalesce(i.v ->> 'Operation', ''), 'Info', coalesce(i.v ->> 'Info', ''), "
		"'Who', coalesce(i.v ->> 'Who', ''), 'Version', coalesce(i.v ->> 'Version', ''), "
		"'Path', coalesce(i.v ->> 'Path', $3)), i.v ->> 'Created', "
		"pg_catalog.to_char(h.created AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), "
		"h.mode = 'durable' AND h.role = current_user AND h.id = $4, "
		"pg_catalog.concat_ws(' ', 'held by', coalesce(i.v ->> 'Who', 'somebody') || ':', i.v ->> 'Operation', "
		"'(ID ' || (i.v ->> 'ID') || ')') "
		"FROM (SELECT $1::pg_catalog.jsonb) i(v) LEFT JOIN (SELECT * FROM @.tfstate_holders($3) t WHERE t.lockid = $3) h ON h.id = $2",
	4, {info, id, request->address.lockid, request->id}};
	PGresult   *result;
	DbStatus	status = db_query(db, &statement, &result);
	const char *created;

	if (status == DB_ERROR)
		reply_error(request, result);
	else if (status == DB_OK && db_is_true(result, 0, 3))
	{
		held_note(request->address.lockid, request->id);
		reply_done(request);
	}
	else if (status == DB_OK)
	{
		created = db_value(result, 0, 1);
		if (created == NULL || !is_rfc3339(created))
			created = db_value(result, 0, 2);
		if (created == NULL || !is_rfc3339(created))
			created = NO_TIME;
		reply_json(request, 423, psprintf("{\"Created\" : \"%s\", %s", created, db_value(result, 0, 0) + 1),
				   db_value(result, 0, 4));
	}
	PQclear(result);
	return status == DB_GONE ? DB_GONE : DB_OK;
}

/*
 * LOCK was refused with an error.  Where that is a conflict, such as a freeze, Terraform
 * expects the info of a holder, of which it shows the ID in any version.  So that is the
 * reason.
 */
static void
answer_refused(Request *request, const PGresult *error)
{
	const char *message = PQresultErrorField(error, PG_DIAG_MESSAGE_PRIMARY);
	char	   *reason;
	char	   *path;

	if (message == NULL || reply_status(db_sqlstate(error)) != 409)
	{
		reply_error(request, error);
		return;
	}
	reason = json_string(message);
	path = json_string(request->address.lockid);
	reply_json(request, 423, psprintf("{\"Created\" : \"%s\", \"ID\" : %s, \"Operation\" : \"\", \"Info\" : \"\", "
									  "\"Who\" : \"\", \"Version\" : \"\", \"Path\" : %s}", NO_TIME, reason, path), message);
	free(reason);
	free(path);
}

/* LOCK */
DbStatus
lock_take(Request *request, Db *db)
{
	int64_t		until = now_ms() + UNKNOWN_HOLDER_MS;
	Statement	statement = {"SELECT i.id, i.v ->> 'Who', l.locked, l.id, l.holder FROM " INFO_OF_BODY
		", LATERAL @.tfstate_try_lock($2, i.v || CASE WHEN coalesce(i.v ->> 'Path', '') = '' "
		"THEN pg_catalog.jsonb_build_object('Path', $2::text) ELSE '{}' END, 'durable', '0', $3::pg_catalog.interval) l", 3,
	{request->body, request->address.lockid, held_ttl()}};
	PGresult   *result = NULL;
	DbStatus	status;
	bool		found;
	bool		locked = false;

	status = state_find_table(request, db, &found);
	if (!found)
		return status;
	for (;;)
	{
		PQclear(result);
		status = db_query(db, &statement, &result);
		if (status != DB_OK || PQntuples(result) == 0)
			break;
		locked = db_is_true(result, 0, 2);

		/*
		 * another transaction is about to take or to release it, a copy of
		 * this request say
		 */
		if (locked || db_value(result, 0, 3) || now_ms() >= until)
			break;
		pg_usleep(TRY_AGAIN_MS * 1000L);
	}
	if (status == DB_OK && PQntuples(result) > 0)
		set_id(request, result);
	if (locked)
	{
		held_note(request->address.lockid, request->id);
		db_note_lock(db, request->address.lockid, request->id, db_value(result, 0, 1));
		reply_done(request);
	}
	else if (status == DB_OK && PQntuples(result) == 0)
		reply_no_id(request);
	else if (status == DB_OK)
		status = answer_held(request, db, db_value(result, 0, 3), db_value(result, 0, 4));
	else if (status == DB_ERROR)
		answer_refused(request, result);
	PQclear(result);
	return status == DB_GONE ? DB_GONE : DB_OK;
}

/*
 * A lock could not be released.  If it is not held under this ID, find out whether that is
 * because it was released before, as far as the role may know; if not, answer with the error.
 */
static DbStatus
answer_not_released(Request *request, Db *db, const PGresult *error)
{
	Statement	statement = {"SELECT (SELECT h.how FROM @.tfstate_history($1) h WHERE h.lockid = $1 AND h.id = $2 "
		"ORDER BY h.fence DESC LIMIT 1), EXISTS (SELECT FROM @.tfstate_holders($1) t WHERE t.lockid = $1), "
	"@.tfstate_has_privilege($1, 'view')", 2, {request->address.lockid}};
	PGresult   *result;
	DbStatus	status = DB_OK;
	bool		force = true;

	if (request->length > 0)
		status = read_info(request, db, &force);
	if (status == DB_GONE || request->status != 0)
		return status;
	if (strcmp(db_sqlstate(error), "55000") != 0)
	{
		reply_error(request, error);
		return DB_OK;
	}
	statement.values[1] = request->id;
	status = db_query(db, &statement, &result);
	if (status == DB_OK)
	{
		const char *how = db_value(result, 0, 0);
		bool		held = db_is_true(result, 0, 1);
		bool		may_know = db_is_true(result, 0, 2);

		if (how ? strcmp(how, "unlock") == 0 || (force && strcmp(how, "force") == 0) :
			!held && (request->repeated || (!force && !may_know)))
			reply_done(request);
		else
			reply_error(request, error);
	}
	else if (status == DB_ERROR)
		reply_error(request, result);
	PQclear(result);
	return status == DB_GONE ? DB_GONE : DB_OK;
}

/*
 * The ID that the command of "tfstate run --http" names, as in "terraform force-unlock ID",
 * if it is that of the holder.
 */
static DbStatus
find_named_id(Request *request, Db *db)
{
	Statement	statement = {"SELECT h.id FROM @.tfstate_holders($1) h WHERE h.lockid = $1", 1, {request->address.lockid}};
	PGresult   *result;
	DbStatus	status = db_query(db, &statement, &result);

	if (status == DB_OK && PQntuples(result) == 1 && held_names(PQgetvalue(result, 0, 0)))
		request->id = pg_strdup(PQgetvalue(result, 0, 0));
	PQclear(result);
	return status;
}

/* UNLOCK */
DbStatus
lock_release(Request *request, Db *db)
{
#define RELEASE(i) \
	"SELECT i.id, CASE WHEN i.only_id AND @.tfstate_has_privilege($2, 'force') " \
	"THEN @.tfstate_force_unlock($2, i.id, 'force-unlock by HTTP') ELSE @.tfstate_unlock($2, i.id) END FROM " i
	Statement	statement = {RELEASE(INFO_OF_BODY), 2, {request->body, request->address.lockid}};
	PGresult   *result;
	DbStatus	status = DB_OK;
	bool		force = true;
	bool		noted;

	/* what is released must not be renewed any more */
	if (request->length > 0 && options.own)
		status = read_info(request, db, &force);
	else if (request->length == 0 && request->id == NULL && options.own)
		status = find_named_id(request, db);
	if (status == DB_GONE || request->status != 0)
		return status;
	if (request->length == 0 && request->id == NULL)
	{
		reply_problem(request, 400, "the request does not say which lock is to be released: for \"terraform force-unlock\", "
					  "put its ID into the address, as in TF_HTTP_UNLOCK_ADDRESS=\"$TF_HTTP_ADDRESS?ID=...\"");
		return DB_OK;
	}
	if (request->length == 0)
	{
		statement.sql = RELEASE(INFO_OF_ID);
		statement.values[0] = request->id;
	}
	noted = request->id && held_forget(request->address.lockid, request->id);
	status = db_query(db, &statement, &result);
	if (status == DB_OK && PQntuples(result) == 0)
		reply_no_id(request);
	else if (status == DB_OK)
	{
		set_id(request, result);
		reply_done(request);
	}
	else if (status == DB_ERROR)
		status = answer_not_released(request, db, result);
	if (noted && request->status != 200)
		held_note(request->address.lockid, request->id);
	PQclear(result);
	return status == DB_GONE ? DB_GONE : DB_OK;
}
