/*-------------------------------------------------------------------------
 *
 * simple.h
 *	  Subcommands that run one statement, or a few.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SIMPLE_H
#define TFSTATE_SIMPLE_H

#include "conn.h"

extern void simple_begin(Conn *conn);
extern int	simple_signal(void);
extern Conn *simple_connect(void);
extern PGresult *simple_query(Conn *conn, const char *sql, int count, const char *const *values);
extern PGresult *simple_query_again(Conn *conn, const char *sql, int count, const char *const *values);
extern bool simple_try(Conn *conn, PGresult **result, const char *sql, int count,
					   const char *const *values, const int *lengths);
extern char *lock_info(Conn *conn, const char *lockid, char **id);
extern void simple_pause(int64_t ms);
extern void simple_screen(const char *start, const char *end);
extern bool ask_yes(const char *question);

#endif							/* TFSTATE_SIMPLE_H */
