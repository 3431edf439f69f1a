/*-------------------------------------------------------------------------
 *
 * caller.c
 *	  Functions for administrators that are no superusers.
 *
 * tfstate_attach() and its like read and write tables that only the owner of the extension
 * may use, and run DDL that only the caller must be able to run.  So they are C functions
 * with the rights of the caller.  Each notes who that is, becomes the owner, and calls the
 * function of the same name and arguments in tfstate_internal, which has the body.  That
 * one decides with caller_may() what the caller may do, and runs whatever touches objects
 * of others with as_caller(), which becomes the caller again.
 *
 * Who the caller is stands in this file, not in an argument, and nobody but the owner can
 * execute the functions in tfstate_internal.  Code of others, a trigger for example, runs
 * within as_caller() only.  What it calls notes its own caller, so that a function that runs
 * with the rights of its owner is not taken for the role that logged in.
 *
 * Some have a last argument more, dry_run, which asks what the call would do.  Then the same
 * body runs in a subtransaction that is rolled back, and what as_caller() ran and note() was
 * told is the result.  note() also tells the body what to leave out meanwhile: what others
 * would have to wait for, and what no rollback takes back, such as the next value of a
 * sequence.
 *
 * A superuser, or a role with the rights of the extension's owner, stays what it is.  An
 * error brings the user back at the end of the subtransaction, as it does for functions with
 * SECURITY DEFINER.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "common/catalog.h"
#include "common/privilege.h"
#include "common/subtransaction.h"

PG_FUNCTION_INFO_V1(tfstate_for_administrators);
PG_FUNCTION_INFO_V1(tfstate_for_administrators_or_dry);
PG_FUNCTION_INFO_V1(tfstate_as_caller);
PG_FUNCTION_INFO_V1(tfstate_calling_role);
PG_FUNCTION_INFO_V1(tfstate_caller_is_owner);
PG_FUNCTION_INFO_V1(tfstate_caller_may);
PG_FUNCTION_INFO_V1(tfstate_note);
PG_FUNCTION_INFO_V1(tfstate_dry_run);

/* A call of one of these functions, and the one that it was made in. */
typedef struct Call
{
	Oid			caller;
	int			sec_context;
	bool		as_owner;		/* the caller is not the user meanwhile */
	ReturnSetInfo *steps;		/* of a dry run: its result so far; else NULL */
	struct Call *outer;
} Call;

static Call *call = NULL;

/* The function in tfstate_internal that has the body of this one, with its first nargs arguments. */
static Oid
body_of(Oid function, int nargs)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	Oid			body;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	body = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
						   NameGetDatum(&proc->proname),
						   PointerGetDatum(buildoidvector(proc->proargtypes.values, nargs)),
						   ObjectIdGetDatum(get_namespace_oid(TFSTATE_INTERNAL, false)));
	if (!OidIsValid(body))
		elog(ERROR, "function %s.%s is missing", TFSTATE_INTERNAL, NameStr(proc->proname));
	ReleaseSysCache(tuple);
	return body;
}

/* Call the body with the first nargs arguments. */
static Datum
call_body(FunctionCallInfo fcinfo, int nargs, Node *resultinfo)
{
	LOCAL_FCINFO(inner, FUNC_MAX_ARGS);
	FmgrInfo	flinfo;
	Datum		result;

	fmgr_info_cxt(body_of(fcinfo->flinfo->fn_oid, nargs), &flinfo, fcinfo->flinfo->fn_mcxt);
	InitFunctionCallInfoData(*inner, &flinfo, nargs, fcinfo->fncollation, fcinfo->context,
							 resultinfo);
	memcpy(inner->args, fcinfo->args, nargs * sizeof(NullableDatum));
	result = FunctionCallInvoke(inner);
	fcinfo->isnull = inner->isnull;
	return result;
}

/* A call of a body whose effects are to be rolled back. */
typedef struct DryCall
{
	FunctionCallInfo fcinfo;
	int			nargs;
	ReturnSetInfo *steps;		/* the result of the call */
	ReturnSetInfo lines;		/* that of the body, which nobody reads */
} DryCall;

static void
make_dry_call(void *arg)
{
	DryCall    *dry = arg;

	call->steps = dry->steps;
	(void) call_body(dry->fcinfo, dry->nargs, (Node *) &dry->lines);
}

/*
 * Call the body in a subtransaction, and roll that back.  The notes that it takes become the
 * rows of this call.
 */
static void
call_body_dry(FunctionCallInfo fcinfo, int nargs)
{
	DryCall		dry = {fcinfo, nargs};
	ErrorData  *error;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	dry.steps = (ReturnSetInfo *) fcinfo->resultinfo;
	dry.lines = *dry.steps;
	dry.lines.setResult = NULL;
	dry.lines.setDesc = NULL;
	error = tfstate_in_subtransaction(make_dry_call, &dry, false);
	if (error)
		ReThrowError(error);
	fcinfo->isnull = true;
}

/* What all functions for administrators do.  dry_run counts only if they have that argument. */
static Datum
for_administrators(FunctionCallInfo fcinfo, int nargs, bool dry_run)
{
	Call		this = {0};
	Datum		result = (Datum) 0;

	GetUserIdAndSecContext(&this.caller, &this.sec_context);
	this.as_owner = !tfstate_is_owner();
	this.outer = call;
	if (this.as_owner)
		SetUserIdAndSecContext(tfstate_catalog()->owner,
							   this.sec_context | SECURITY_LOCAL_USERID_CHANGE);
	PG_TRY();
	{
		call = &this;
		if (dry_run)
			call_body_dry(fcinfo, nargs);
		else
			result = call_body(fcinfo, nargs, fcinfo->resultinfo);
	}
	PG_FINALLY();
	{
		call = this.outer;
	}
	PG_END_TRY();
	if (this.as_owner)
		SetUserIdAndSecContext(this.caller, this.sec_context);
	return result;
}

/*
 * Any function for administrators: calls the one of the same name and arguments in
 * tfstate_internal, with the rights of the extension's owner.
 */
Datum
tfstate_for_administrators(PG_FUNCTION_ARGS)
{
	return for_administrators(fcinfo, PG_NARGS(), false);
}

/*
 * The same for a function that returns a set of text and whose last argument is dry_run,
 * which the one in tfstate_internal does not have.
 */
Datum
tfstate_for_administrators_or_dry(PG_FUNCTION_ARGS)
{
	int			nargs = PG_NARGS() - 1;

	return for_administrators(fcinfo, nargs, !PG_ARGISNULL(nargs) && PG_GETARG_BOOL(nargs));
}

/* Note a step, if this is a dry run. */
static void
note(const char *step)
{
	Datum		value;
	bool		null = false;

	if (!call || !call->steps)
		return;
	value = CStringGetTextDatum(step);
	tuplestore_putvalues(call->steps->setResult, call->steps->setDesc, &value, &null);
}

/*
 * tfstate_internal.note(step text) returns boolean
 */
Datum
tfstate_note(PG_FUNCTION_ARGS)
{
	note(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_BOOL(!call || !call->steps);
}

/*
 * tfstate_internal.dry_run() returns boolean
 */
Datum
tfstate_dry_run(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(call && call->steps);
}

/*
 * Run a command, and return the first value of its first row as text in the given context;
 * NULL if there is none.
 */
static char *
execute(const char *command, MemoryContext context)
{
	char	   *result = NULL;

	SPI_connect();
	if (SPI_execute(command, false, 0) < 0)
		elog(ERROR, "SPI_execute failed: %s", command);
	if (SPI_processed > 0 && SPI_tuptable)
		result = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (result)
		result = MemoryContextStrdup(context, result);
	SPI_finish();
	return result;
}

/*
 * The same with the rights of the caller.  If they do not suffice, the error has a hint.  No
 * setting that code of others makes, of search_path for example, stays for the owner's.
 */
static char *
execute_as_caller(const char *command, MemoryContext context)
{
	Oid			owner;
	int			sec_context;
	int			nest_level = NewGUCNestLevel();
	char	   *volatile result = NULL;

	GetUserIdAndSecContext(&owner, &sec_context);
	SetUserIdAndSecContext(call->caller, call->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	PG_TRY();
	{
		result = execute(command, context);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		if (error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE && error->hint == NULL)
			error->hint = psprintf(_("Let a role that may run this call the function: %s"), command);
		ReThrowError(error);
	}
	PG_END_TRY();
	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(owner, sec_context);
	return result;
}

/*
 * tfstate_internal.as_caller(command text) returns text
 */
Datum
tfstate_as_caller(PG_FUNCTION_ARGS)
{
	char	   *command = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *result = call && call->as_owner ?
		execute_as_caller(command, CurrentMemoryContext) : execute(command, CurrentMemoryContext);

	/* what only reads is no step */
	command += strspn(command, " \t\n");
	if (strncmp(command, "SELECT", 6) != 0 && strncmp(command, "LOCK", 4) != 0)
		note(command);
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

/*
 * tfstate_internal.caller() returns name
 */
Datum
tfstate_calling_role(PG_FUNCTION_ARGS)
{
	Name		name = palloc0(NAMEDATALEN);

	namestrcpy(name, GetUserNameFromId(call ? call->caller : GetUserId(), false));
	PG_RETURN_NAME(name);
}

/* Return true if the caller is a superuser or has the rights of the extension's owner. */
static bool
caller_is_owner(void)
{
	return call ? !call->as_owner : tfstate_is_owner();
}

/*
 * tfstate_internal.caller_is_owner() returns boolean
 */
Datum
tfstate_caller_is_owner(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(caller_is_owner());
}

/*
 * tfstate_internal.caller_may(privilege text, pattern text) returns boolean
 *
 * A pattern that matches another one, as if its stars were letters, matches all that the
 * other one matches.
 */
Datum
tfstate_caller_may(PG_FUNCTION_ARGS)
{
	char	   *privilege = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *pattern = text_to_cstring(PG_GETARG_TEXT_PP(1));
	bool		may;
	Oid			owner;
	int			sec_context;

	if (caller_is_owner())
		PG_RETURN_BOOL(true);
	GetUserIdAndSecContext(&owner, &sec_context);
	if (call)
		SetUserIdAndSecContext(call->caller, call->sec_context);
	may = tfstate_may(pattern, privilege);
	SetUserIdAndSecContext(owner, sec_context);
	PG_RETURN_BOOL(may);
}
