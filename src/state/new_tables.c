/*-------------------------------------------------------------------------
 *
 * new_tables.c
 *	  Tables of states that Terraform or OpenTofu makes itself.
 *
 * terraform init sends, each statement in a transaction of its own,
 *
 *		CREATE SCHEMA IF NOT EXISTS "s"
 *		CREATE SEQUENCE IF NOT EXISTS public.global_states_id_seq AS bigint
 *		CREATE TABLE IF NOT EXISTS "s".states (id ..., name ..., data ...)
 *		CREATE UNIQUE INDEX IF NOT EXISTS states_by_name ON "s".states (name)
 *
 * Where the administrator wants it, event triggers attach that table before the third
 * statement ends (sql/install/new_tables.sql).
 *
 * IF NOT EXISTS does not wait for a transaction that is creating the same, so two that begin
 * at once end in a duplicate key of a system catalog; and with the work of attaching in one
 * of them it happens more often.  Therefore one at a time creates what is missing in a schema:
 * before the server looks for it, the others wait for the creation tag of the schema's name.
 * Where it exists already nobody waits.
 *
 * The event triggers are PL/pgSQL, because one in C whose library is missing would let no
 * table be created in the database.  They do not get the statement that way: before a
 * command it is taken from the client's portal, which has the statements of Terraform, and
 * after it from the command that the server has collected.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "tcop/deparse_utility.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "common/catalog.h"
#include "lock/tag.h"

PG_FUNCTION_INFO_V1(tfstate_await_creation);
PG_FUNCTION_INFO_V1(tfstate_is_terraforms);
PG_FUNCTION_INFO_V1(tfstate_insert_as_owner);

/*
 * Returns the utility statement that the client has sent, or NULL.
 */
static Node *
client_statement(void)
{
	PlannedStmt *stmt;

	if (ActivePortal == NULL || list_length(ActivePortal->stmts) != 1)
		return NULL;
	stmt = linitial_node(PlannedStmt, ActivePortal->stmts);
	return stmt->commandType == CMD_UTILITY ? stmt->utilityStmt : NULL;
}

/*
 * Return true if a statement creates a table in the way of Terraform, which does not tell
 * what its columns are.
 */
static bool
is_terraforms_table(const CreateStmt *stmt)
{
	return stmt->if_not_exists && stmt->relation->relpersistence == RELPERSISTENCE_PERMANENT &&
		stmt->inhRelations == NIL && stmt->partspec == NULL && stmt->ofTypename == NULL;
}

/*
 * Returns what a statement of Terraform's form is to create: a schema, with *name NULL, or
 * a relation of that name in it.  NULL if the statement is another one.
 */
static const char *
to_be_created(Node *stmt, const char **name)
{
	RangeVar   *relation;

	*name = NULL;
	if (IsA(stmt, CreateSchemaStmt))
	{
		CreateSchemaStmt *schema = (CreateSchemaStmt *) stmt;

		return schema->if_not_exists && schema->authrole == NULL ? schema->schemaname : NULL;
	}
	if (IsA(stmt, CreateSeqStmt) && ((CreateSeqStmt *) stmt)->if_not_exists)
		relation = ((CreateSeqStmt *) stmt)->sequence;
	else if (IsA(stmt, CreateStmt) && is_terraforms_table((CreateStmt *) stmt))
		relation = ((CreateStmt *) stmt)->relation;
	else if (IsA(stmt, IndexStmt) && ((IndexStmt *) stmt)->if_not_exists &&
			 ((IndexStmt *) stmt)->unique && !((IndexStmt *) stmt)->concurrent)
	{
		relation = ((IndexStmt *) stmt)->relation;
		*name = ((IndexStmt *) stmt)->idxname;
		return relation->schemaname;
	}
	else
		return NULL;
	if (relation->relpersistence != RELPERSISTENCE_PERMANENT)
		return NULL;
	*name = relation->relname;
	return relation->schemaname;
}

static bool
exists(const char *schema, const char *name)
{
	Oid			namespace = get_namespace_oid(schema, true);

	return OidIsValid(namespace) &&
		(name == NULL || OidIsValid(get_relname_relid(name, namespace)));
}

/*
 * tfstate_internal.await_creation() returns void
 *
 * If the client's statement is one of Terraform's that creates something, wait until no
 * other transaction creates anything in the same schema that way.  The tag is kept until
 * the end of the transaction.  For a table, wait for tfstate_attach(), too, before there
 * is anything that it could wait for in turn.
 */
Datum
tfstate_await_creation(PG_FUNCTION_ARGS)
{
	Node	   *stmt = client_statement();
	const char *name;
	const char *schema = stmt ? to_be_created(stmt, &name) : NULL;
	LOCKTAG		tag;

	if (schema == NULL || exists(schema, name))
		PG_RETURN_VOID();
	tag = tfstate_creation_tag(schema);
	(void) LockAcquire(&tag, tfstate_tag_mode(&tag), false, false);
	if (IsA(stmt, CreateStmt))
		LockRelationOid(tfstate_catalog()->attached, RowExclusiveLock);
	/* what the one before has created is to be found */
	AcceptInvalidationMessages();
	PG_RETURN_VOID();
}

/*
 * tfstate_internal.is_terraforms(command pg_ddl_command) returns boolean
 */
Datum
tfstate_is_terraforms(PG_FUNCTION_ARGS)
{
	CollectedCommand *command = (CollectedCommand *) PG_GETARG_POINTER(0);

	PG_RETURN_BOOL(command->type == SCT_Simple && IsA(command->parsetree, CreateStmt) &&
				   is_terraforms_table((CreateStmt *) command->parsetree));
}

/*
 * tfstate_internal.insert_as_owner(rel regclass, state text) returns void
 *
 * Insert a workspace "default" with the rights of the table's owner, so that nothing which
 * that role has put on the table runs with those of the current one.  An error leaves the
 * resetting of the user to the end of the subtransaction.
 */
Datum
tfstate_insert_as_owner(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Oid			types[] = {TEXTOID};
	Datum		values[] = {PG_GETARG_DATUM(1)};
	Oid			owner = tfstate_relation_owner(relid);
	char	   *table = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
												   get_rel_name(relid));
	Oid			user;
	int			context;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	SPI_connect();
	if (SPI_execute_with_args(psprintf("INSERT INTO %s (name, data) VALUES ('default', $1)", table),
							  1, types, values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not insert into table %u", relid);
	SPI_finish();
	SetUserIdAndSecContext(user, context);
	PG_RETURN_VOID();
}
