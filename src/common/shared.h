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
#include "storage/buf.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/dsa.h"

#include "common/compat.h"
#include "common/counters.h"

/*
 * The layout of what follows in TfstateShared.  Raise this with each change of it: sessions
 * whose libraries differ then do not share.
 */
#define TFSTATE_SHARED_VERSION	4

/*
 * How much memory it can have, in bytes: little, because /dev/shm of a container may have
 * only 64 MB, and enough for some 40,000 locks.
 */
#define TFSTATE_SHARED_LIMIT	(32 * 1024 * 1024)

/* Into how many lists the locks in session mode are divided, and how many LWLocks these have. */
#define SESSION_LOCK_BUCKETS	512
#define SESSION_LOCK_PARTITIONS	16

/* The fences that are handed out; see lock/fence.c. */
typedef struct TfstateFences
{
	slock_t		mutex;			/* protects what follows */
	int64		newest;			/* the greatest that was given out */
	int64		last;			/* the last one of the batch */
	int			size;			/* of the batch */
	XLogRecPtr	lsn;			/* of the sequence's page as long as nobody
								 * else has drawn from it; invalid for no
								 * batch */
	CompatFile	file;			/* where that page was found */
	Buffer		buffer;
} TfstateFences;

/* The shared memory of one database.  The first three fields stay where they are. */
typedef struct TfstateShared
{
	uint64		magic;			/* this memory is ours ... */
	Oid			database;		/* ... and this database's */
	uint32		version;		/* TFSTATE_SHARED_VERSION */
	pg_atomic_flag retired;		/* set once its installation is gone */
	TimestampTz since;			/* when it was made */
	pg_atomic_uint64 counts[NUM_COUNTERS];
	TfstateFences fences;
	int			tranche;		/* of the LWLocks */
	LWLockPadded partitions[SESSION_LOCK_PARTITIONS];	/* see
														 * lock/session_lock.c */
	dsa_pointer buckets[SESSION_LOCK_BUCKETS];
} TfstateShared;

extern TfstateShared *tfstate_shared(void);
extern TfstateShared *tfstate_require_shared(void);
extern TfstateShared *tfstate_shared_as_is(void);
extern dsa_area *tfstate_shared_area(void);

#endif							/* TFSTATE_SHARED_H */
