/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The configuration parameters tfstate.*
 *
 * A parameter that PGOPTIONS or ALTER ROLE sets is a placeholder until the library is
 * loaded, and only then is its value checked.  For a wrong value or a misspelled name the
 * server sends a warning, which users of Terraform do not see, and goes on without the
 * setting.  So what was refused is remembered here, and tfstate_check_settings() raises an
 * error when the session wants a lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "common/compat.h"
#include "common/limits.h"
#include "common/run.h"
#include "common/settings.h"
#include "common/text.h"

/* A choice among words begins as its default, which builds with assertions check. */
char	   *tfstate_who;
char	   *tfstate_operation;
char	   *tfstate_info;
int64		tfstate_fence;
int			tfstate_guard_level = GUARD_ON;
int			tfstate_mode = false;
int			tfstate_wait;
int			tfstate_history = HISTORY_DURABLE;
int			tfstate_history_count;
int			tfstate_history_age;
int			tfstate_max_session_locks;
bool		tfstate_log_events;
bool		tfstate_notify;

static const struct config_enum_entry mode_options[] = {
	{"session", false, false},
	{"durable", true, false},
	{NULL, 0, false}
};

static const struct config_enum_entry guard_options[] = {
	{"off", GUARD_OFF, false},
	{"on", GUARD_ON, false},
	{"require", GUARD_REQUIRE, false},
	{NULL, 0, false}
};

static const struct config_enum_entry history_options[] = {
	{"none", HISTORY_NONE, false},
	{"durable", HISTORY_DURABLE, false},
	{"all", HISTORY_ALL, false},
	{NULL, 0, false}
};

static char *fence_text;		/* tfstate.fence as it was given */

/* The parameters, and the values that were refused when the library was loaded. */
static struct
{
	const char *name;
	char	   *refused;
}			parameters[] = {
	{"tfstate.who"},
	{"tfstate.operation"},
	{"tfstate.info"},
	{"tfstate.run_id"},
	{"tfstate.mode"},
	{"tfstate.wait"},
	{"tfstate.fence"},
	{"tfstate.guard"},
	{"tfstate.history"},
	{"tfstate.history_count"},
	{"tfstate.history_age"},
	{"tfstate.max_session_locks"},
	{"tfstate.log_events"},
	{"tfstate.notify"},
};

/* The name of a parameter tfstate.* that was set and does not exist, or NULL. */
static char *unknown_parameter = NULL;

/* True if the library was preloaded and pg_db_role_setting must still be checked. */
static bool look_at_catalog = false;

/*
 * Part of the check hooks of texts: return true if a text is valid in the database's
 * encoding.  The server does not check what PGOPTIONS sets, nor what was set in a database
 * with another encoding, and a dump of a table with such a text could not be restored.
 */
static bool
check_encoding(const char *value)
{
	if (pg_verifymbstr(value, strlen(value), true))
		return true;
	GUC_check_errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE);
	GUC_check_errdetail("The value is not valid in encoding \"%s\".", GetDatabaseEncodingName());
	return false;
}

/*
 * Check hook of the short texts.  They become part of the lock info, which has a limit of
 * its own.
 */
static bool
check_short_text(char **newval, void **extra, GucSource source)
{
	if (*newval && strlen(*newval) > TFSTATE_MAX_LOCKID)
	{
		GUC_check_errdetail("The value is longer than %d bytes.",
							TFSTATE_MAX_LOCKID);
		return false;
	}
	return *newval == NULL || check_encoding(*newval);
}

/*
 * Check hook of tfstate.info: empty, or a JSON object of bounded size.
 */
static bool
check_info(char **newval, void **extra, GucSource source)
{
	const char *start = *newval;

	if (start == NULL || *start == '\0')
		return true;
	if (strlen(start) > TFSTATE_MAX_INFO)
	{
		GUC_check_errdetail("The value is longer than %d bytes.",
							TFSTATE_MAX_INFO);
		return false;
	}
	if (!check_encoding(start))
		return false;
	start += strspn(start, " \t\r\n");
	if (*start != '{' || !compat_json_is_valid(*newval, GetDatabaseEncoding()))
	{
		GUC_check_errdetail("The value must be a JSON object.");
		return false;
	}
	return true;
}

/*
 * Check and assign hooks of tfstate.fence: empty for none, or a fence.
 */
static bool
check_fence(char **newval, void **extra, GucSource source)
{
	char	   *end;

	if (*newval == NULL || **newval == '\0')
		return true;
	errno = 0;
	if (strtoi64(*newval, &end, 10) > 0 && errno == 0 && *end == '\0')
		return true;
	GUC_check_errdetail("The value must be a fence, a number greater than zero.");
	return false;
}

static void
assign_fence(const char *newval, void *extra)
{
	tfstate_fence = (newval && *newval) ? strtoi64(newval, NULL, 10) : 0;
}

static void
define_text(const char *name, const char *description, char **variable,
			GucStringCheckHook check)
{
	DefineCustomStringVariable(name, description, NULL, variable, "",
							   PGC_USERSET, 0, check, NULL, NULL);
}

/*
 * Define the parameters that every session may set: how Terraform's locks are taken, what
 * the lock info says, and how writes of states are guarded.
 */
static void
define_user_settings(void)
{
	define_text("tfstate.who", "Sets who takes locks, as others see it.",
				&tfstate_who, check_short_text);
	define_text("tfstate.operation", "Sets what locks are taken for, as others see it.",
				&tfstate_operation, check_short_text);
	define_text("tfstate.info", "Sets a JSON object that is merged into the info of locks.",
				&tfstate_info, check_info);
	define_text("tfstate.run_id", "Sets the UUID that names one run over several connections.",
				&tfstate_run_id, check_short_text);
	DefineCustomEnumVariable("tfstate.mode",
							 "Sets the mode of the locks that Terraform takes.",
							 NULL, &tfstate_mode, false, mode_options,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tfstate.wait",
							"Sets how long Terraform waits for its locks.",
							"0 means not to wait, -1 to wait without limit.",
							&tfstate_wait, 0, -1, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable("tfstate.fence",
							   "Sets the fence of the lock under which states are written.",
							   "A write is refused unless the workspace's lock is held with this fence.",
							   &fence_text, "", PGC_USERSET, 0,
							   check_fence, assign_fence, NULL);
	DefineCustomEnumVariable("tfstate.guard",
							 "Sets which writes of states are refused.",
							 "\"require\" also refuses writes without a lock; \"off\" needs the privilege \"override\".",
							 &tfstate_guard_level, GUARD_ON, guard_options,
							 PGC_USERSET, 0, NULL, NULL, NULL);
}

/*
 * Define the parameters that protect the server and the history.  Only an administrator
 * may set them, for a role by ALTER ROLE.
 */
static void
define_administrator_settings(void)
{
	DefineCustomEnumVariable("tfstate.history",
							 "Sets which finished holdings leave a row in tfstate_history.",
							 NULL, &tfstate_history, HISTORY_DURABLE, history_options,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tfstate.history_count",
							"Sets how many finished holdings of a lockid are kept.",
							"-1 means all of them.",
							&tfstate_history_count, 100, -1, INT_MAX,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tfstate.history_age",
							"Sets how long finished holdings are kept.",
							"-1 means without limit.",
							&tfstate_history_age, 90 * SECS_PER_DAY, -1, INT_MAX,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("tfstate.max_session_locks",
							"Sets the maximum number of locks that a session may have in the lock manager.",
							"Counts the locks in session mode and those of the current transaction.",
							&tfstate_max_session_locks, 1000, 1, INT_MAX,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("tfstate.log_events",
							 "Logs locks that end otherwise than by an unlock, and writes that are refused or made without the guard.",
							 NULL, &tfstate_log_events, true,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("tfstate.notify",
							 "Sends a notification for each lock that is taken or ends.",
							 "Commits that send notifications wait for each other.",
							 &tfstate_notify, false,
							 PGC_SUSET, 0, NULL, NULL, NULL);
}

/*
 * Where the value of a parameter comes from.
 */
static GucSource
source_of(const char *name)
{
	struct config_generic *parameter = compat_parameter(name);

	return parameter ? parameter->source : PGC_S_DEFAULT;
}

/*
 * Return true if a parameter was set by the session or its client, in PGOPTIONS for example.
 */
bool
tfstate_set_by_session(const char *name)
{
	return source_of(name) >= PGC_S_CLIENT;
}

/*
 * Return true if a parameter was set for this session: by itself, or with ALTER ROLE or ALTER
 * DATABASE.  What the server's configuration file says is said for no session.
 */
bool
tfstate_set_for_session(const char *name)
{
	return source_of(name) >= PGC_S_GLOBAL;
}

/*
 * Remember a placeholder that is left after all parameters tfstate.* have been defined.
 */
static void
find_unknown_parameter(void)
{
	int			count;
	struct config_generic **variables = compat_parameters(&count);

	for (int i = 0; i < count; i++)
	{
		if ((variables[i]->flags & GUC_CUSTOM_PLACEHOLDER) != 0 &&
			variables[i]->source != PGC_S_DEFAULT &&
			strncmp(variables[i]->name, "tfstate.", strlen("tfstate.")) == 0)
			unknown_parameter = MemoryContextStrdup(TopMemoryContext, variables[i]->name);
	}
}

/*
 * Define the parameters, and remember which of the values that were set before are refused.
 * That a session may not set an administrator's parameter is not remembered: the server
 * reports it.
 */
void
tfstate_define_settings(void)
{
	for (int i = 0; i < lengthof(parameters); i++)
	{
		/* a placeholder that was reset is still there, with an empty text */
		const char *before = source_of(parameters[i].name) != PGC_S_DEFAULT ?
			GetConfigOption(parameters[i].name, true, false) : NULL;

		parameters[i].refused = before ? MemoryContextStrdup(TopMemoryContext, before) : NULL;
	}

	look_at_catalog = process_shared_preload_libraries_in_progress;
	define_user_settings();
	define_administrator_settings();
	find_unknown_parameter();
	MarkGUCPrefixReserved("tfstate");

	for (int i = 0; i < lengthof(parameters); i++)
	{
		if (parameters[i].refused == NULL)
			continue;
		if (set_config_option(parameters[i].name, parameters[i].refused,
							  PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SET,
							  false, DEBUG5, false) != 0)
		{
			pfree(parameters[i].refused);
			parameters[i].refused = NULL;
		}
	}
}

/*
 * Remember a setting "name=value" if it is one of tfstate.* and is refused.
 */
static void
check_catalog_setting(char *setting)
{
	char	   *value = strchr(setting, '=');

	if (value == NULL || pg_strncasecmp(setting, "tfstate.", strlen("tfstate.")) != 0)
		return;
	*value++ = '\0';
	for (int i = 0; i < lengthof(parameters); i++)
	{
		if (pg_strcasecmp(parameters[i].name, setting) != 0)
			continue;
		if (set_config_option(setting, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SET,
							  false, DEBUG5, false) == 0)
			parameters[i].refused = MemoryContextStrdup(TopMemoryContext, value);
		return;
	}
	unknown_parameter = MemoryContextStrdup(TopMemoryContext, setting);
}

/*
 * Check what was set for a role in a database; InvalidOid stands for any of them.
 */
static void
check_catalog_settings(Relation rel, Oid database, Oid role)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_db_role_setting_setdatabase, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(database));
	ScanKeyInit(&keys[1], Anum_pg_db_role_setting_setrole, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(role));
	scan = systable_beginscan(rel, DbRoleSettingDatidRolidIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		settings = heap_getattr(tuple, Anum_pg_db_role_setting_setconfig,
											RelationGetDescr(rel), &isnull);
		Datum	   *elements;
		bool	   *nulls;
		int			count;

		if (isnull)
			continue;
		deconstruct_array(DatumGetArrayTypeP(settings), TEXTOID, -1, false, TYPALIGN_INT,
						  &elements, &nulls, &count);
		for (int i = 0; i < count; i++)
			check_catalog_setting(TextDatumGetCString(elements[i]));
	}
	systable_endscan(scan);
}

/*
 * Check what ALTER ROLE and ALTER DATABASE have set, once a session, if the library was
 * preloaded.  Then there were no placeholders, and at login the server has refused what
 * is wrong with a mere warning.
 */
static void
check_catalog(void)
{
	Relation	rel;

	if (!look_at_catalog)
		return;
	rel = table_open(DbRoleSettingRelationId, AccessShareLock);
	check_catalog_settings(rel, MyDatabaseId, GetSessionUserId());
	check_catalog_settings(rel, InvalidOid, GetSessionUserId());
	check_catalog_settings(rel, MyDatabaseId, InvalidOid);
	check_catalog_settings(rel, InvalidOid, InvalidOid);
	table_close(rel, AccessShareLock);
	look_at_catalog = false;
}

/*
 * Error if a text is not valid in the database's encoding.  In postgresql.conf it can be
 * set before the encoding is known.
 */
static void
check_encodings(void)
{
	char	   *texts[] = {tfstate_who, tfstate_operation, tfstate_info};

	for (int i = 0; i < lengthof(texts); i++)
	{
		if (texts[i] && *texts[i] && !pg_verifymbstr(texts[i], strlen(texts[i]), true))
			ereport(ERROR,
					(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
					 errmsg("parameter \"%s\" is \"%s\", which is not valid in encoding \"%s\"",
							parameters[i].name, tfstate_one_line(texts[i], TFSTATE_MAX_LOCKID),
							GetDatabaseEncodingName())));
	}
}

/*
 * Error if a setting was refused when the library was loaded and has not been set since, if
 * a parameter tfstate.* was set that does not exist, or if the name of the run is not valid.
 * For everything that takes a lock.
 */
void
tfstate_check_settings(void)
{
	tfstate_check_run_name();
	check_encodings();
	check_catalog();
	if (unknown_parameter)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("unrecognized configuration parameter \"%s\"",
						tfstate_one_line(unknown_parameter, TFSTATE_MAX_LOCKID)),
				 errhint("Correct its name where it is set, and connect again.")));
	for (int i = 0; i < lengthof(parameters); i++)
	{
		if (parameters[i].refused != NULL && source_of(parameters[i].name) == PGC_S_DEFAULT)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value for parameter \"%s\": \"%s\"",
							parameters[i].name,
							tfstate_one_line(parameters[i].refused, TFSTATE_MAX_LOCKID)),
					 errhint("Correct it where it is set (PGOPTIONS, ALTER ROLE or ALTER DATABASE), or SET a valid value.")));
	}
}
