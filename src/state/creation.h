/*-------------------------------------------------------------------------
 *
 * creation.h
 *	  The lock that comes with the creation of a workspace.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_CREATION_H
#define TFSTATE_CREATION_H

extern void tfstate_exchange_creation_key(Oid relid, const char *lockid, int64 id);

#endif							/* TFSTATE_CREATION_H */
