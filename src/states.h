/*-------------------------------------------------------------------------
 *
 * states.h
 *	  The states in the attached tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_STATES_H
#define TFSTATE_STATES_H

/* A row of an attached table. */
typedef struct Workspace
{
	Oid			relid;			/* its table */
	char	   *lockid;			/* NULL if it has no name */
	int64		id;
	Datum		data;			/* may be compressed or stored elsewhere */
	bool		is_null;		/* is there no data? */
} Workspace;

typedef void (*WorkspaceVisitor) (const Workspace *workspace, void *arg);

extern void tfstate_visit_workspaces(const char *pattern, WorkspaceVisitor visit, void *arg);
extern void tfstate_check_read(const char *lockid);
extern void tfstate_notice_no_workspace(const char *lockid);
extern void tfstate_raise_no_workspace(const char *lockid);

#endif							/* TFSTATE_STATES_H */
