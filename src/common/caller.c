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
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"

#include "common/catalog.h"
#include "common/privilege.h"

PG_FUNCTION_INFO_V1(tfstate_for_administrators);
PG_FUNCTION_INFO_V1(tfstate_as_caller);
PG_FUNCTION_INFO_V1(tfstate_calling_role);
PG_FUNCTION_INFO_V1(tfstate_caller_is_owner);
PG_FUNCTION_INFO_V1(tfstate_caller_may);

/* A call of one of these functions, and the one that it was made in. */
typedef struct Call
{
	Oid			caller;
	int			sec_context;
	bool		as_owner;		/* the caller is not the user meanwhile */
	struct Call *outer;
} Call;

static Call *call = NULL;

/* The function in tfstate_internal that has the body of this one. */
static Oid
body_of(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	Oid			body;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	body = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
						   NameGetDatum(&proc->proname),
						   PointerGetDatum(&proc->proargtypes),
						   ObjectIdGetDatum(get_namespace_oid(TFSTATE_INTERNAL, false)));
	if (!OidIsValid(body))
		elog(ERROR, "function %s.%s is missing", TFSTATE_INTERNAL, NameStr(proc->proname));
	ReleaseSysCache(tuple);
	return body;
}

/*
 * Any function for administrators: calls the one of the same name and arguments in
 * tfstate_internal, with the rights of the extension's owner.
 */
Datum
tfstate_for_administrators(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(inner, FUNC_MAX_ARGS);
	FmgrInfo	flinfo;
	Call		this;
	Datum		result;

	GetUserIdAndSecContext(&this.caller, &this.sec_context);
	this.as_owner = !tfstate_is_owner();
	this.outer = call;
	if (this.as_owner)
		SetUserIdAndSecContext(tfstate_catalog()->owner,
							   this.sec_context | SECURITY_LOCAL_USERID_CHANGE);
	PG_TRY();
	{
		call = &this;
		fmgr_info_cxt(body_of(fcinfo->flinfo->fn_oid), &flinfo, fcinfo->flinfo->fn_mcxt);
		InitFunctionCallInfoData(*inner, &flinfo, fcinfo->nargs, fcinfo->fncollation,
								 fcinfo->context, fcinfo->resultinfo);
		memcpy(inner->args, fcinfo->args, fcinfo->nargs * sizeof(NullableDatum));
		result = FunctionCallInvoke(inner);
		fcinfo->isnull = inner->isnull;
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
