/*-------------------------------------------------------------------------
 *
 * attached.h
 *	  The attached tables of states, and what is in their columns.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_ATTACHED_H
#define TFSTATE_ATTACHED_H

#include "access/attnum.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

/* A row of tfstate_internal.attached_table. */
typedef struct AttachedTable
{
	Oid			relid;
	char	   *name;			/* as its lockids began when it was attached */
	int			guard;			/* a GuardLevel; sessions can ask for more */
	int			keep_versions;	/* how many of a workspace; 0 for all */
	bool		has_keep_age;
	Interval	keep_age;		/* how long versions are kept */
	bool		has_mode;
	bool		durable;		/* the mode of Terraform's locks */
	bool		has_wait;
	int64		wait;			/* how long it waits for them, in microseconds */
} AttachedTable;

/* The columns of a table of states. */
typedef enum StateColumn
{
	STATE_ID,					/* bigint */
	STATE_NAME,					/* text */
	STATE_DATA					/* text */
} StateColumn;

#define NUM_STATE_COLUMNS	(STATE_DATA + 1)

extern List *tfstate_attached_tables(void);
extern bool tfstate_any_attached(void);
extern bool tfstate_attached_table(Oid relid, AttachedTable *table);
extern bool tfstate_state_columns(Relation rel, AttrNumber *columns);
extern Oid	tfstate_index_on(Relation rel, AttrNumber column);
extern List *tfstate_readable_tables(List *tables, bool readable);
extern bool tfstate_may_read_states(Oid relid);
extern bool tfstate_may_write_states(Oid relid);

#endif							/* TFSTATE_ATTACHED_H */
