/*-------------------------------------------------------------------------
 *
 * conn.h
 *	  Connections to the server, and statements that a signal or a time can end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_CONN_H
#define TFSTATE_CONN_H

#include <getopt.h>

#include "libpq-fe.h"
#include "pqexpbuffer.h"

#include "hosts.h"

/* The connection options that all subcommands have: a part of an optstring and of a table. */
#define CONNECTION_OPTSTRING	"d:h:p:U:wW"
#define CONNECTION_LONG_OPTIONS \
	{"dbname", required_argument, NULL, 'd'}, \
	{"host", required_argument, NULL, 'h'}, \
	{"port", required_argument, NULL, 'p'}, \
	{"username", required_argument, NULL, 'U'}, \
	{"no-password", no_argument, NULL, 'w'}, \
	{"password", no_argument, NULL, 'W'}

/* How many parameters connection_parameters() takes. */
#define MAX_CONNECTION_PARAMETERS	80

/* How a statement, or a connection, has ended. */
typedef enum DbStatus
{
	DB_OK,
	DB_ERROR,					/* the server has refused it */
	DB_GONE,					/* there is no connection, or it broke */
	DB_TIMEOUT,					/* the time was over before */
	DB_STOPPED					/* the caller's idle function wanted it to end */
} DbStatus;

typedef struct Conn
{
	PGconn	   *pg;				/* NULL if there is none */
	const char *name;			/* its application_name; NULL for the default */
	char	   *schema;			/* of the extension, quoted */
	char	   *version;		/* of the extension */
	bool		pooled;			/* is there a pooler in between? */
	int			connect_mode;	/* while connecting: what to wait for */
	HostList	hosts;			/* the servers to connect to; none for all
								 * that are named */
	PQExpBuffer errors;			/* of the servers that did not answer in time */
	bool		timed_out;		/* was the last one of them? */
	char	   *farewell;		/* why the server has ended the session */

	/*
	 * While a statement runs or a connection is made, this is called whenever
	 * something has happened: a signal, a look at side_socket is due, or it
	 * is time to wake.  It returns true to end what runs.
	 */
	bool		(*idle) (void *arg);
	void	   *arg;
	int			side_socket;	/* -1 for none */
	int			side_mode;
	int64_t		wake;			/* NEVER for no time */
} Conn;

extern bool connection_option(int c, const char *value);
extern void connection_parameters(const char *const *names, const char *const *values);
extern void db_init(Conn *conn, bool (*idle) (void *arg), void *arg);
extern DbStatus db_connect(Conn *conn, int64_t until);
extern void db_connect_start(Conn *conn);
extern DbStatus db_connect_step(Conn *conn);
extern void db_disconnect(Conn *conn);
extern DbStatus db_exec(Conn *conn, PGresult **result, int64_t until, const char *sql,
						int count, const char *const *values);
extern DbStatus db_exec_data(Conn *conn, PGresult **result, int64_t until, const char *sql,
							 int count, const char *const *values, const int *lengths);
extern bool db_send(Conn *conn, const char *sql, int count, const char *const *values);
extern char *db_value(PGresult *result, int row, int column);
extern const char *db_sqlstate(const PGresult *result);
extern char *db_message(const Conn *conn, const PGresult *result);
extern void db_report(const Conn *conn, const PGresult *result);
extern int	db_exit_status(DbStatus status, const PGresult *result);

#endif							/* TFSTATE_CONN_H */
