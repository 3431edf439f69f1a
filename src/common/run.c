/*-------------------------------------------------------------------------
 *
 * run.c
 *	  The name of the run that a session belongs to.
 *
 * A run is one command of Terraform, say, which may use several sessions.  Two sessions
 * belong to one run only if their clients gave the same UUID for this, in tfstate.run_id
 * or in application_name.  Any other name could be that of two runs by accident: it may
 * have been cut or replaced on its way, or be what a program calls itself.  Therefore it is
 * an error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "utils/guc.h"

#include "common/run.h"
#include "common/text.h"

char	   *tfstate_run_id;

/*
 * The beginning of an application_name that names a run.  No program calls itself like
 * this, and with the UUID it is too short to be cut.
 */
#define RUN_PREFIX		"tfstate-run:"

/* The length of a UUID as text: 8-4-4-4-12 hexadecimal digits. */
#define UUID_CHARS		36

/*
 * The text that must be the UUID of this session's run, NULL if none was given.  Sets
 * *from_setting to whether it is from tfstate.run_id, else it is from application_name.
 */
static const char *
run_text(bool *from_setting)
{
	*from_setting = tfstate_run_id && *tfstate_run_id;
	if (*from_setting)
		return tfstate_run_id;
	if (application_name && strncmp(application_name, RUN_PREFIX, strlen(RUN_PREFIX)) == 0)
		return application_name + strlen(RUN_PREFIX);
	return NULL;
}

/* Copy a UUID in lower case.  Returns false if the text is not one, or is longer. */
static bool
copy_uuid(const char *text, char *uuid)
{
	for (int i = 0; i < UUID_CHARS; i++)
	{
		bool		dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !isxdigit((unsigned char) text[i]))
			return false;
		uuid[i] = pg_ascii_tolower((unsigned char) text[i]);
	}
	uuid[UUID_CHARS] = '\0';
	return text[UUID_CHARS] == '\0';
}

/*
 * The name of this session's run, a UUID in lower case, valid until the next call; NULL if
 * it has none.
 */
const char *
tfstate_my_run(void)
{
	static char run[UUID_CHARS + 1];
	bool		from_setting;
	const char *name = run_text(&from_setting);

	return name && copy_uuid(name, run) ? run : NULL;
}

/*
 * Error if the session was given a name for its run that is not a UUID.
 */
void
tfstate_check_run_name(void)
{
	bool		from_setting;

	if (run_text(&from_setting) == NULL || tfstate_my_run() != NULL)
		return;
	if (from_setting)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tfstate.run_id is \"%s\", which is not a UUID; set a new UUID for each run, for example with PGOPTIONS=\"-c tfstate.run_id=$(uuidgen)\"",
						tfstate_one_line(tfstate_run_id, NAMEDATALEN))));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("application_name is \"%s\", which is not \"%s\" followed by a UUID and nothing else; set PGAPPNAME=\"%s$(uuidgen)\", and application_name_add_host = 0 in PgBouncer",
					tfstate_one_line(application_name, NAMEDATALEN), RUN_PREFIX, RUN_PREFIX)));
}

/*
 * Error if the run of this session has no name.  Without one, a run could not find a
 * durable lock of Terraform's again after a broken connection, and behind a pooler other
 * clients would be in the same session.
 */
void
tfstate_require_run(void)
{
	if (tfstate_my_run() == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the lock is to be durable, but this run has no name that it could belong to; set PGAPPNAME=\"%s$(uuidgen)\", or add \"-c tfstate.run_id=$(uuidgen)\" to PGOPTIONS",
						RUN_PREFIX)));
}
