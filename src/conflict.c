/*-------------------------------------------------------------------------
 *
 * conflict.c
 *	  What people read when a lock is not to be had.
 *
 * Terraform shows only the primary message of an error, so that one names the
 * holder, on one line, however odd the texts are that the holder gave.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "tfstate.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/snapmgr.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* The most bytes of a text that somebody gave, in a primary message. */
#define MAX_IN_MESSAGE	256

/* The encoding that texts are in: where the server does not say, what the client says. */
static int
text_encoding(void)
{
	return GetDatabaseEncoding() == PG_SQL_ASCII ? pg_get_client_encoding() : GetDatabaseEncoding();
}

/* Has an encoding control characters at 0x80 to 0x9f, as ISO 8859 has? */
static bool
has_c1(int encoding)
{
	return (encoding >= PG_LATIN1 && encoding <= PG_LATIN10) ||
		(encoding >= PG_ISO_8859_5 && encoding <= PG_ISO_8859_8);
}

/*
 * Length of the control character at text, which a terminal would obey, or 0.
 */
static int
control_bytes(const char *text)
{
	const unsigned char *p = (const unsigned char *) text;
	int			encoding = text_encoding();

	if (*p < ' ' || *p == 0x7f)
		return 1;
	if (*p >= 0x80 && *p < 0xa0 && has_c1(encoding))
		return 1;
	if (encoding == PG_UTF8 && p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
		return 2;				/* U+0080 to U+009F */
	return 0;
}

/*
 * How many bytes at the start of a text the client can be shown.
 */
static int
showable_bytes(const char *text, int len)
{
	int			encoding = text_encoding();
	int			client = pg_get_client_encoding();
	int			valid = pg_encoding_verifymbstr(encoding, text, len);
	Oid			conversion;
	unsigned char *space;

	if (encoding == client || client == PG_SQL_ASCII || encoding == PG_SQL_ASCII)
		return valid;
	conversion = FindDefaultConversionProc(encoding, client);
	if (!OidIsValid(conversion))
		return valid;
	space = palloc((Size) valid * MAX_CONVERSION_GROWTH + 1);
	valid = pg_do_encoding_conversion_buf(conversion, encoding, client,
										  (unsigned char *) unconstify(char *, text), valid,
										  space, valid * MAX_CONVERSION_GROWTH + 1, true);
	pfree(space);
	return valid;
}

/*
 * A copy of a text in which question marks stand for what is not valid in the
 * database's encoding.
 */
char *
tfstate_valid_text(const char *text)
{
	int			len = strlen(text);
	char	   *result = pnstrdup(text, len);
	int			pos = 0;

	while ((pos += pg_encoding_verifymbstr(GetDatabaseEncoding(), result + pos, len - pos)) < len)
		result[pos] = '?';
	return result;
}

/*
 * A text that the client can be shown: without control characters, cut to a number of
 * bytes, and with question marks for what is not valid or not in the client's encoding.
 * An error message would otherwise become another error.
 */
char *
tfstate_one_line(const char *text, int max_bytes)
{
	int			len = strlen(text);
	char	   *result = pnstrdup(text, len);
	int			encoding = text_encoding();
	int			pos = 0;

	while ((pos += showable_bytes(result + pos, len - pos)) < len)
	{
		int			bytes = pg_encoding_verifymbchar(encoding, result + pos, len - pos);

		memset(result + pos, '?', Max(bytes, 1));
	}
	result[pg_encoding_mbcliplen(encoding, result, len, max_bytes)] = '\0';
	for (char *p = result; *p; p++)
		memset(p, ' ', control_bytes(p));
	return strlen(result) < len ? psprintf("%s...", result) : result;
}

/*
 * How many bytes of the character at text have to be escaped, or 0.  *shown is up to
 * where the client can be shown the text, as far as that is known.
 */
static int
bytes_to_escape(const char *text, const char **shown)
{
	if (text >= *shown)
		*shown = text + showable_bytes(text, strlen(text));
	return text >= *shown ? pg_encoding_mblen(text_encoding(), text) : control_bytes(text);
}

/*
 * An SQL literal in one line, without control characters and without what the client
 * cannot be shown.
 */
static char *
literal(const char *text)
{
	StringInfoData result;
	const char *shown = text;
	bool		escaped = false;

	initStringInfo(&result);
	for (const char *p = text; *p; p++)
	{
		int			bytes = bytes_to_escape(p, &shown);

		if (bytes == 0)
		{
			if (*p == '\'' || *p == '\\')
				appendStringInfoChar(&result, *p);
			appendStringInfoChar(&result, *p);
			escaped |= *p == '\\';
			continue;
		}
		escaped = true;
		appendStringInfo(&result, "\\x%02x", (unsigned char) *p);
		while (--bytes > 0 && p[1])
			appendStringInfo(&result, "\\x%02x", (unsigned char) *++p);
	}
	return psprintf("%s'%s'", escaped ? "E" : "", result.data);
}

/*
 * A point in time to the second, in the session's time zone.
 */
char *
tfstate_format_time(TimestampTz time)
{
	char		buffer[MAXDATELEN + 1];
	struct pg_tm tm;
	fsec_t		fsec;
	int			tz;
	const char *tzn;

	if (timestamp2tm(time, &tz, &tm, &fsec, &tzn, NULL) != 0)
		return pstrdup("?");
	EncodeDateTime(&tm, 0, true, tz, tzn, USE_ISO_DATES, buffer);
	return pstrdup(buffer);
}

/*
 * One line about who holds a lock: who, what for, since when, ID and Info.
 */
char *
tfstate_describe_holding(const Holding *holding, bool own)
{
	Jsonb	   *info = DatumGetJsonbP(HOLDING_DATUM(holding, info));
	char	   *who = tfstate_info_get(info, "Who");
	char	   *operation = tfstate_info_get(info, "Operation");
	char	   *note = tfstate_info_get(info, "Info");
	StringInfoData line;

	initStringInfo(&line);
	appendStringInfoString(&line, tfstate_one_line(who ? who : "?", MAX_IN_MESSAGE));
	if (own)
		appendStringInfoString(&line, " (this session)");
	if (operation && *operation)
		appendStringInfo(&line, ": %s", tfstate_one_line(operation, MAX_IN_MESSAGE));
	appendStringInfo(&line, " since %s (ID %s",
					 tfstate_format_time(DatumGetTimestampTz(HOLDING_DATUM(holding, created))),
					 tfstate_one_line(HOLDING_TEXT(holding, id), MAX_IN_MESSAGE));
	if (note && *note)
		appendStringInfo(&line, ", info \"%s\"", tfstate_one_line(note, MAX_IN_MESSAGE));
	appendStringInfoChar(&line, ')');
	return line.data;
}

/*
 * Who has a tag, from the session: role, address, process, application.
 */
static char *
describe_tag_holder(const LOCKTAG *tag)
{
	int			pid = tfstate_tag_holder(tag);
	BackendDetails details;
	StringInfoData line;

	if (pid == 0)
		return pstrdup("another transaction");
	if (!tfstate_backend_details(pid, &details))
		return psprintf("process %d", pid);
	initStringInfo(&line);
	appendStringInfo(&line, "%s@%s (pid %d",
					 details.role ? tfstate_one_line(details.role, NAMEDATALEN) : "?",
					 details.client_addr ? details.client_addr : "[local]", pid);
	if (*details.application_name)
		appendStringInfo(&line, ", %s", tfstate_one_line(details.application_name, NAMEDATALEN));
	appendStringInfoChar(&line, ')');
	return line.data;
}

/*
 * An info for a holder of whom there is no row.
 */
Jsonb *
tfstate_conflict_info(const LockConflict *conflict)
{
	return tfstate_who_info(describe_tag_holder(&conflict->tag));
}

/*
 * The call that releases a holding.  It names the schema of the extension where the
 * session's search_path does not have it.
 */
char *
tfstate_force_unlock_call(const char *lockid, const Holding *holder)
{
	Oid			relid = tfstate_catalog()->durable;
	char	   *schema = RelationIsVisible(relid) ? NULL : get_namespace_name(get_rel_namespace(relid));

	return psprintf("SELECT %s(%s, %s%s);",
					quote_qualified_identifier(schema, "tfstate_force_unlock"), literal(lockid), literal(HOLDING_TEXT(holder, id)),
					holder->durable ? "" : ", terminate => true");
}

/*
 * What a conflict is about: a lock by its lockid, or the one under which workspaces are
 * created, whose holder tells of which table.
 */
static char *
subject(const char *lockid)
{
	if (tfstate_describe_creation(lockid))
		return pstrdup("cannot create a workspace: the lock for that");
	return psprintf("state lock \"%s\"", tfstate_one_line(lockid, TFSTATE_MAX_LOCKID));
}

/*
 * Raise the error for a request that was not granted.
 */
void
tfstate_raise_conflict(const char *lockid, const LockConflict *conflict)
{
	char	   *name = subject(lockid);
	const Holding *holder = &conflict->holder;

	if (conflict->known)
	{
		Jsonb	   *info = DatumGetJsonbP(HOLDING_DATUM(holder, info));

		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("%s is held by %s", name,
						tfstate_describe_holding(holder, tfstate_is_own(holder))),
				 errdetail("Lock info: %s",
						   tfstate_one_line(JsonbToCString(NULL, &info->root, VARSIZE(info)),
											INT_MAX)),
				 errhint("Ask who holds it, or release it with: %s",
						 tfstate_force_unlock_call(lockid, holder))));
	}
	if (!tfstate_is_key(&conflict->tag))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("%s is held without tfstate by %s", name,
						describe_tag_holder(&conflict->tag)),
				 errdetail("Advisory lock %lld is held by a client that does not use tfstate.",
						   (long long) tfstate_tag_number(&conflict->tag)),
				 errhint("Wait until it has finished, or end it with pg_terminate_backend().")));
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("%s is being taken or released by %s", name,
					describe_tag_holder(&conflict->tag)),
			 errhint("Try again when that transaction has ended.")));
}

/*
 * Who is waited for, as a part of the sentence that begins with the lock.
 */
static char *
describe_awaited(const LockConflict *conflict)
{
	if (conflict->known)
		return psprintf("held by %s", tfstate_describe_holding(&conflict->holder, conflict->own));
	if (!tfstate_is_key(&conflict->tag))
		return psprintf("held without tfstate by %s", describe_tag_holder(&conflict->tag));
	return pstrdup("which another transaction is taking or releasing");
}

/*
 * Tell the client that it waits for a lock, for whom, and at which position of the queue.
 *
 * A query's snapshot is still there while it waits, and some commands of the holder's
 * wait for that, which no deadlock detector sees.
 */
void
tfstate_announce_wait(const char *lockid, const LockConflict *conflict, int position)
{
	ereport(NOTICE,
			(errmsg("waiting for state lock \"%s\", %s",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID), describe_awaited(conflict)),
			 errdetail("The position in the queue is %d.", position),
			 ActiveSnapshotSet() ?
			 errhint("CREATE INDEX CONCURRENTLY waits for this statement; CALL tfstate_wait_lock() waits without a snapshot.") : 0));
}

/*
 * Raise the error for a lock that is to be released and that nobody holds.
 */
void
tfstate_raise_not_held(const char *lockid)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("state lock \"%s\" is not held",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID))));
}
