/*-------------------------------------------------------------------------
 *
 * db.h
 *	  One connection to PostgreSQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_DB_H
#define TFSTATE_HTTP_DB_H

#include "http/http.h"

/* How a statement, or an attempt to connect, has ended. */
typedef enum DbStatus
{
	DB_OK,
	DB_ERROR,					/* the server has refused it */
	DB_GONE						/* there is no connection, or it broke */
} DbStatus;

/* The SQLSTATE of a wrong password, also of one that was not given. */
#define DB_NEEDS_PASSWORD	"28P01"

/* A statement with text parameters.  "@." in it stands for the extension's schema. */
typedef struct Statement
{
	const char *sql;
	int			count;
	const char *values[6];
} Statement;

typedef struct Db
{
	PGconn	   *pg;
	char	   *schema;			/* of the extension, quoted */
	char	   *table;			/* the last one that was found to be attached,
								 * or NULL */
	char	   *lock;			/* the last one that was taken: its lockid and
								 * its ID; NULL for none */
	char	   *who;			/* and who has it, as the client says */

	/* for pool.c */
	char	   *user;
	char	   *password;
	int64_t		opened;
	int64_t		used;
	struct Db  *next;
} Db;

extern DbStatus db_open(Db **db, const char *user, const char *password, char sqlstate[6],
						char **message);
extern void db_close(Db *db);
extern DbStatus db_query(Db *db, const Statement *statement, PGresult **result);
extern DbStatus db_transaction(Db *db, const Statement *statements, int count, PGresult **result);
extern void db_note_lock(Db *db, const char *lockid, const char *id, const char *who);
extern const char *db_who(const Db *db, const char *lockid, const char *id);
extern const char *db_value(const PGresult *result, int row, int column);
extern bool db_is_true(const PGresult *result, int row, int column);
extern const char *db_sqlstate(const PGresult *result);
extern char *db_quote(const char *identifier);

#endif							/* TFSTATE_HTTP_DB_H */
