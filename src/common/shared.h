/*-------------------------------------------------------------------------
 *
 * shared.h
 *	  What the sessions of a database share in memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SHARED_H
#define TFSTATE_SHARED_H

#include "datatype/timestamp.h"
#include "port/atomics.h"

#include "common/counters.h"

/*
 * The layout of what follows in TfstateShared.  Raise this with each change of it: sessions
 * whose libraries differ then do not share.
 */
#define TFSTATE_SHARED_VERSION	1

/* The shared memory of one database.  The first three fields stay where they are. */
typedef struct TfstateShared
{
	uint64		magic;			/* this memory is ours ... */
	Oid			database;		/* ... and this database's */
	uint32		version;		/* TFSTATE_SHARED_VERSION */
	pg_atomic_flag retired;		/* set once its installation is gone */
	TimestampTz since;			/* when it was made */
	pg_atomic_uint64 counts[NUM_COUNTERS];
} TfstateShared;

extern TfstateShared *tfstate_shared(void);
extern TfstateShared *tfstate_shared_as_is(void);

#endif							/* TFSTATE_SHARED_H */
