/*-------------------------------------------------------------------------
 *
 * rollback.c
 *	  Rolling a state back to an earlier version.
 *
 * The text of that version is written as a new state, under the workspace's lock and with
 * the next serial, because Terraform takes the state with the higher serial for the newer
 * one.  Nothing else in the text is changed.  (A state that OpenTofu has encrypted repeats
 * its serial in the encrypted part, so it is written as it was.)
 *
 * The write is an ordinary INSERT by the current role, with its privileges and
 * with the triggers of the table, which record it like any other.  The lock is taken and
 * released in the same transaction, so a crash or an error leaves nothing of all that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "common/catalog.h"
#include "common/compat.h"
#include "common/limits.h"
#include "common/lockid.h"
#include "common/privilege.h"
#include "common/settings.h"
#include "common/text.h"
#include "common/workspace.h"
#include "lock/acquire.h"
#include "lock/conflict.h"
#include "lock/holding.h"
#include "lock/info.h"
#include "lock/lookup.h"
#include "lock/owner.h"
#include "lock/release.h"
#include "state/facts.h"
#include "state/guard.h"
#include "state/listing.h"
#include "state/restore.h"
#include "state/version.h"

PG_FUNCTION_INFO_V1(tfstate_rollback);
PG_FUNCTION_INFO_V1(tfstate_undelete);

/*
 * Take the lock of a workspace, unless it is ours already.  Returns true if it was taken,
 * with the holding, so that the caller releases it.  Error if somebody else holds it.
 */
static bool
lock_workspace(const char *lockid, Holding *holding)
{
	LockRequest request = {0};
	LockConflict conflict;

	if (tfstate_current_holding(lockid, holding) && tfstate_may_write_under(holding) &&
		!tfstate_holding_expired(holding))
		return false;
	request.lockid = lockid;
	request.info = tfstate_operation_info("rollback");
	request.has_key = tfstate_workspace_id(lockid, &request.key);
	if (!tfstate_acquire(&request, holding, &conflict))
		tfstate_raise_conflict(lockid, &conflict);
	return true;
}

/*
 * The greatest serial of a workspace: that of the state in the table, or of the newest
 * version that has one.
 */
static int64
last_serial(const char *lockid, Oid relid, const char *name, const Version *newest)
{
	Version		version = *newest;
	int64		serial;
	StateFacts	facts;
	text	   *data;

	while (VERSION_NULL(&version, serial) &&
		   tfstate_find_version(lockid, VERSION_INT64(&version, number) - 1, &version))
		 /* a text that was found in the table need not be a state */ ;
	serial = VERSION_NULL(&version, serial) ? 0 : VERSION_INT64(&version, serial);
	if (tfstate_workspace_text(relid, name, &data))
	{
		tfstate_read_facts(VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data), &facts);
		if (facts.has_serial)
			serial = Max(serial, facts.serial);
		pfree(data);
	}
	return serial;
}

/*
 * The text of a state with another serial; facts are those of the text.
 */
static text *
replace_serial(const char *state, size_t len, const StateFacts *facts, int64 serial)
{
	size_t		before = facts->serial_start - state;
	size_t		after = state + len - facts->serial_end;
	char		digits[MAXINT8LEN + 1];
	int			digits_len = pg_lltoa(serial, digits);
	text	   *result = palloc(VARHDRSZ + before + digits_len + after);

	SET_VARSIZE(result, VARHDRSZ + before + digits_len + after);
	memcpy(VARDATA(result), state, before);
	memcpy(VARDATA(result) + before, digits, digits_len);
	memcpy(VARDATA(result) + before + digits_len, facts->serial_end, after);
	return result;
}

/*
 * The text of a version with the serial that follows its own and this one, whichever is
 * greater.
 *
 * Errors: the version cannot be restored, it is not a state, there is no greater serial.
 */
static text *
with_serial_after(const char *lockid, int64 number, int64 serial)
{
	size_t		len;
	char	   *state = tfstate_version_text(lockid, number, &len);
	StateFacts	facts;
	text	   *result;

	tfstate_read_facts(state, (int) len, &facts);
	if (!facts.valid || !facts.has_serial)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_JSON_TEXT),
				 errmsg("version %lld of workspace \"%s\" is not a state that Terraform can read",
						(long long) number, tfstate_one_line(lockid, TFSTATE_MAX_LOCKID))));
	serial = Max(serial, facts.serial);
	if (facts.encrypted)
		result = cstring_to_text_with_len(state, (int) len);
	else if (serial < PG_INT64_MAX)
		result = replace_serial(state, len, &facts, serial + 1);
	else
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("workspace \"%s\" has reached the largest possible serial",
						tfstate_one_line(lockid, TFSTATE_MAX_LOCKID))));
	pfree(state);
	return result;
}

/*
 * Error if an administrator would run code that the owner of the table has put there, a
 * trigger say: it would have the administrator's rights.  Other roles are not checked,
 * since they write to the table with Terraform anyway.  The lock on the table keeps its
 * owner from adding code meanwhile.
 */
static void
check_foreign_code(Oid relid, const char *table)
{
	Oid			type = REGCLASSOID;
	Datum		value = ObjectIdGetDatum(relid);
	HeapTuple	tuple;
	Oid			owner;
	char	   *code;

	LockRelationOid(relid, RowExclusiveLock);
	if (!tfstate_is_owner())
		return;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		return;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	if (superuser_arg(owner) || owner == GetUserId())
		return;
	if (SPI_execute_with_args("SELECT pg_catalog.string_agg(code, ', ' ORDER BY code COLLATE \"C\")"
							  " FROM tfstate_internal.foreign_code($1) code",
							  1, &type, &value, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for code of table %u", relid);
	code = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (code)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has code of role \"%s\", which would run as \"%s\": %s", table,
						GetUserNameFromId(owner, false), GetUserNameFromId(GetUserId(), false),
						code)));
}

/*
 * Write a state with the statement that Terraform uses.  Error if that does not write
 * just one row.
 */
static void
write_state(const char *lockid, Oid relid, const char *name, text *state)
{
	char	   *table = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
												   get_rel_name(relid));
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name), PointerGetDatum(state)};
	const char *outer = tfstate_rolling_back;	/* a trigger may call us */

	SPI_connect();
	check_foreign_code(relid, table);
	tfstate_rolling_back = lockid;
	PG_TRY();
	{
		if (SPI_execute_with_args(psprintf("INSERT INTO %s (name, data) VALUES ($1, $2)"
										   " ON CONFLICT (name) DO UPDATE SET data = $2", table),
								  2, types, values, NULL, false, 0) != SPI_OK_INSERT ||
			SPI_processed != 1)
			ereport(ERROR,
					(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
					 errmsg("state of workspace \"%s\" was not written",
							tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
					 errdetail("A trigger or a rule of table %s has prevented it.", table)));
	}
	PG_FINALLY();
	{
		tfstate_rolling_back = outer;
	}
	PG_END_TRY();
	SPI_finish();
}

/*
 * Write a version of a workspace as its new state.  Returns the number of the new
 * version.
 */
static int64
roll_back(const char *lockid, int64 number)
{
	const char *name;
	Oid			relid = tfstate_lockid_table(lockid, &name);
	Holding		holding;
	Version		newest;
	bool		taken;

	if (!OidIsValid(relid) || !tfstate_newest_version(lockid, &newest))
		tfstate_raise_no_workspace(lockid);
	taken = lock_workspace(lockid, &holding);
	(void) tfstate_newest_version(lockid, &newest);
	write_state(lockid, relid, name,
				with_serial_after(lockid, number, last_serial(lockid, relid, name, &newest)));
	if (taken)
		(void) tfstate_release(&holding, HOW_UNLOCK, NULL);
	(void) tfstate_newest_version(lockid, &newest);
	return VERSION_INT64(&newest, number);
}

/*
 * The first argument of both functions, a workspace's lockid.  Error unless the current
 * role may roll that back.
 */
static char *
workspace_argument(FunctionCallInfo fcinfo, const char *function)
{
	char	   *lockid = text_to_cstring(PG_GETARG_TEXT_PP(0));

	tfstate_check_writable(function);
	tfstate_check_lockid(lockid);
	tfstate_check_settings();
	tfstate_check_privilege(lockid, "lock");
	tfstate_check_read(lockid);
	return lockid;
}

/*
 * tfstate_rollback(workspace text, number bigint) returns bigint
 */
Datum
tfstate_rollback(PG_FUNCTION_ARGS)
{
	char	   *lockid = workspace_argument(fcinfo, "tfstate_rollback()");

	PG_RETURN_INT64(roll_back(lockid, PG_GETARG_INT64(1)));
}

/*
 * tfstate_undelete(workspace text) returns bigint
 *
 * The newest version is the deletion.  It is the last state if the whole table was
 * dropped: a new table of the same name does not have the workspace.
 */
Datum
tfstate_undelete(PG_FUNCTION_ARGS)
{
	char	   *lockid = workspace_argument(fcinfo, "tfstate_undelete()");
	Version		newest;
	int64		number;
	int64		id;

	if (!tfstate_newest_version(lockid, &newest))
		tfstate_raise_no_workspace(lockid);
	number = VERSION_INT64(&newest, number);
	if (VERSION_NULL(&newest, size))
		number--;
	else if (tfstate_workspace_id(lockid, &id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("workspace \"%s\" is not deleted",
						tfstate_one_line(lockid, TFSTATE_MAX_LOCKID)),
				 errhint("To go back to an earlier version, call tfstate_rollback().")));
	PG_RETURN_INT64(roll_back(lockid, number));
}
