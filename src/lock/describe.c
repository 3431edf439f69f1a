/*-------------------------------------------------------------------------
 *
 * describe.c
 *	  A lock and its holder in words.
 *
 * These texts go into primary messages.  So they are one line without control
 * characters, whatever texts the holder gave.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "common/catalog.h"
#include "common/limits.h"
#include "common/text.h"
#include "lock/backend.h"
#include "lock/describe.h"
#include "lock/holding.h"
#include "lock/info.h"

/* The most bytes of a text of the holder's that a message shows. */
#define MAX_IN_MESSAGE	256

/*
 * Return one line about a holder: Who, Operation, since when, ID and Info.  own says
 * that it is this session.
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
 * Return one line about the session that owns a tag: role, address, process and
 * application, or less if that is not known.
 */
char *
tfstate_describe_tag_holder(const LOCKTAG *tag)
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
 * Return the name of a function of ours as this session can call it: qualified, if the
 * extension's schema is not in its search_path.
 */
const char *
tfstate_callable(const char *function)
{
	Oid			schema = tfstate_extension_schema();
	Oid			relid = get_relname_relid("tfstate_holders", schema);
	bool		visible = OidIsValid(relid) && RelationIsVisible(relid);

	return quote_qualified_identifier(visible ? NULL : get_namespace_name(schema), function);
}

/*
 * Return the call that releases a holding.
 */
char *
tfstate_force_unlock_call(const char *lockid, const Holding *holder)
{
	return psprintf("SELECT %s(%s, %s%s)", tfstate_callable("tfstate_force_unlock"),
					tfstate_shown_literal(lockid),
					tfstate_shown_literal(HOLDING_TEXT(holder, id)),
					holder->durable ? "" : ", terminate => true");
}

/*
 * Raise the error for a lock that is to be released but is not held.
 */
void
tfstate_raise_not_held(const char *lockid)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("state lock \"%s\" is not held",
					tfstate_one_line(lockid, TFSTATE_MAX_LOCKID))));
}
