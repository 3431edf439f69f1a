/*-------------------------------------------------------------------------
 *
 * lockviews.h
 *	  What the views of locks know.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_LOCKVIEWS_H
#define TFSTATE_LOCKVIEWS_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

extern int	tfstate_count_waiters(List *patterns, TimestampTz *since);

#endif							/* TFSTATE_LOCKVIEWS_H */
