/*-------------------------------------------------------------------------
 *
 * listing.h
 *	  The states in the attached tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_LISTING_H
#define TFSTATE_LISTING_H

/* A row of an attached table. */
typedef struct Workspace
{
	Oid			relid;			/* its table */
	char	   *lockid;			/* NULL if it has no name */
	int64		id;
	Datum		data;			/* may be compressed or stored elsewhere */
	bool		is_null;		/* there is no data */
} Workspace;

typedef void (*WorkspaceVisitor) (const Workspace *workspace, void *arg);

extern void tfstate_visit_table(Oid relid, const char *name, WorkspaceVisitor visitor, void *arg);
extern void tfstate_visit_workspaces(const char *pattern, WorkspaceVisitor visitor, void *arg);
extern void tfstate_check_read(const char *lockid);

#endif							/* TFSTATE_LISTING_H */
