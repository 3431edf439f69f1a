/*-------------------------------------------------------------------------
 *
 * session_lock.c
 *	  The locks in session mode, in shared memory.
 *
 * Who may have a lock is decided by its lock tag (see acquire.c), in session mode as in
 * durable mode.  What is here tells who has it: an entry for each lock in session mode, with
 * the columns that a durable lock has in its row.  No transaction ID, no WAL and no disk is
 * needed for it.
 *
 * Entries are in the shared memory of the database (common/shared.c), in lists by the hash
 * of the lockid.  An LWLock protects some of the lists.  While a session has it, it does
 * nothing that could wait, and allocates and frees no entries; it may have to attach to a
 * further segment of the area, and if that fails the list stays whole.
 *
 * An entry is in one of three states:
 *
 *	pending		The transaction that takes the lock is not committed.  Only its own
 *				session sees the entry.
 *	live		The transaction is committed: the lock is held, as long as the session
 *				lives (session.c).
 *	free		The lock has ended, or the transaction was rolled back.  Of such an entry
 *				only the fence counts (fence.c), until somebody puts another one into the
 *				list and removes it.
 *
 * Nothing may fail after a commit, so all that happens then, or in a rollback, is that the
 * state changes (commit.c), without a lock.
 *
 * The right to end a live lock is the end tag of its fence, in the lock manager.  Whoever
 * takes that (the session that has the lock, an administrator who releases it by force, or the
 * owner of the lock tag, after the session has died) looks at the entry again, and if it is
 * live then has it become free at the commit.  A second one waits for the first, or counts
 * the lock as held.  A share of the end tag keeps the lock from being ended.  A transaction
 * that has taken the lock itself needs no end tag: nobody else sees it.
 *
 * In its own transaction, what a session has ended is gone at once; other sessions see the
 * lock until the commit.
 *
 * An entry outlives its session, if that has not released the lock: then it is there for the
 * record of the lock's end, until the lock is taken again or it is found in passing
 * (reclaim.c).  It does not outlive the server.
 *
 * Whoever takes or ends a lock keeps durable_lock locked as if it had written a row, until the
 * transaction ends.  So DROP and ALTER EXTENSION wait for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "utils/dsa.h"
#include "utils/rel.h"

#include "common/catalog.h"
#include "common/shared.h"
#include "lock/holding.h"
#include "lock/pending.h"
#include "lock/session_lock.h"
#include "lock/tag.h"
#include "lock/wait.h"

typedef enum EntryState
{
	ENTRY_PENDING,
	ENTRY_LIVE,
	ENTRY_FREE
} EntryState;

/*
 * The columns of a lock.  (A tuple would take less space, but four times as long to write and to
 * read, and the table's descriptor.)
 */
typedef struct Row
{
	Size		length;			/* with what follows */
	uint32		nulls;			/* a bit for each column that is NULL ... */
	uint32		references;		/* ... and for each whose value follows: here
								 * is the offset of that in the row */
	Datum		values[Natts_lock];
} Row;

/* In shared memory.  Only next and state change once it is in a list. */
struct SessionLock
{
	dsa_pointer next;			/* in the list; protected by the LWLock */
	pg_atomic_uint32 state;		/* an EntryState */
	int			pid;			/* of the process that took the lock */
	uint64		hash;			/* of the lockid */
	int64		fence;
	Row			row;
};

/* Most rows are not longer. */
#define USUAL_LENGTH	1024

#define BIT(column)		((uint32) 1 << (column))

/* The list for a hash. */
static int
bucket_of(uint64 hash)
{
	return hash % SESSION_LOCK_BUCKETS;
}

/* The lock of a list. */
static LWLock *
bucket_lock(TfstateShared *shared, int bucket)
{
	return &shared->partitions[bucket % SESSION_LOCK_PARTITIONS].lock;
}

/* NULL for InvalidDsaPointer. */
static SessionLock *
entry_at(dsa_pointer place)
{
	return DsaPointerIsValid(place) ? dsa_get_address(tfstate_shared_area(), place) : NULL;
}

static EntryState
state_of(SessionLock *entry)
{
	return (EntryState) pg_atomic_read_u32(&entry->state);
}

/* Return true if this transaction has taken the lock. */
static bool
is_taken_here(SessionLock *entry)
{
	return state_of(entry) == ENTRY_PENDING && entry->pid == MyProcPid;
}

/* Return true if this transaction sees the lock as held, be its session dead. */
static bool
is_visible(SessionLock *entry)
{
	return (state_of(entry) == ENTRY_LIVE || is_taken_here(entry)) && !tfstate_has_ended(entry);
}

/* Return true if it is the entry of a lockid. */
static bool
is_of_lockid(SessionLock *entry, uint64 hash, const char *lockid, Size length)
{
	char	   *value = (char *) &entry->row + entry->row.values[Anum_lock_lockid - 1];

	return entry->hash == hash && VARSIZE_ANY_EXHDR(value) == length &&
		memcmp(VARDATA_ANY(value), lockid, length) == 0;
}

/*
 * Remove the free entries from a list.  Returns the first of them, to be passed to
 * free_entries().  The caller has the LWLock exclusively.
 */
static dsa_pointer
unlink_free(TfstateShared *shared, int bucket)
{
	dsa_pointer *place = &shared->buckets[bucket];
	dsa_pointer removed = InvalidDsaPointer;

	while (DsaPointerIsValid(*place))
	{
		dsa_pointer this = *place;
		SessionLock *entry = entry_at(this);

		if (state_of(entry) == ENTRY_FREE)
		{
			*place = entry->next;
			entry->next = removed;
			removed = this;
		}
		else
			place = &entry->next;
	}
	return removed;
}

static void
free_entries(dsa_pointer removed)
{
	while (DsaPointerIsValid(removed))
	{
		dsa_pointer next = entry_at(removed)->next;

		dsa_free(tfstate_shared_area(), removed);
		removed = next;
	}
}

/*
 * Allocate memory for an entry.  Error if there is none, even after all free entries have been
 * removed.
 */
static dsa_pointer
allocate(TfstateShared *shared, Size size)
{
	dsa_area   *area = tfstate_shared_area();
	dsa_pointer place = dsa_allocate_extended(area, size, DSA_ALLOC_NO_OOM);

	if (likely(DsaPointerIsValid(place)))
		return place;
	for (int bucket = 0; bucket < SESSION_LOCK_BUCKETS; bucket++)
	{
		dsa_pointer removed;

		LWLockAcquire(bucket_lock(shared, bucket), LW_EXCLUSIVE);
		removed = unlink_free(shared, bucket);
		LWLockRelease(bucket_lock(shared, bucket));
		free_entries(removed);
	}
	place = dsa_allocate_extended(area, size, DSA_ALLOC_NO_OOM);
	if (!DsaPointerIsValid(place))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("no shared memory is left for state locks in session mode"),
				 errdetail("Those of one database can take %d MB.",
						   (int) (TFSTATE_SHARED_LIMIT / (1024 * 1024))),
				 errhint("Release some, or use durable mode.")));
	return place;
}

/*
 * The length of each value of a holding that follows its row, 0 for others, and in *total that
 * of the row with all of them.
 */
static void
value_lengths(const Holding *holding, TupleDesc desc, Size *lengths, Size *total)
{
	*total = sizeof(Row);
	for (int i = 0; i < Natts_lock; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		lengths[i] = 0;
		if (holding->nulls[i] || attribute->attbyval)
			continue;
		lengths[i] = attribute->attlen > 0 ? attribute->attlen :
			VARSIZE_ANY(DatumGetPointer(holding->values[i]));
		*total += MAXALIGN(lengths[i]);
	}
}

/* Write the row of a holding to a place that has enough space. */
static void
write_row(const Holding *holding, const Size *lengths, Size total, Row *row)
{
	Size		end = sizeof(Row);

	row->length = total;
	row->nulls = 0;
	row->references = 0;
	for (int i = 0; i < Natts_lock; i++)
	{
		if (holding->nulls[i])
			row->nulls |= BIT(i);
		row->values[i] = holding->values[i];
		if (lengths[i] == 0)
			continue;
		row->references |= BIT(i);
		row->values[i] = end;
		memcpy((char *) row + end, DatumGetPointer(holding->values[i]), lengths[i]);
		end += MAXALIGN(lengths[i]);
	}
}

/* Fill in a holding from a row in this process, to which its values point. */
static void
read_row(Row *row, Holding *holding)
{
	memset(holding, 0, offsetof(Holding, values));
	for (int i = 0; i < Natts_lock; i++)
	{
		holding->nulls[i] = (row->nulls & BIT(i)) != 0;
		holding->values[i] = (row->references & BIT(i)) != 0 ?
			PointerGetDatum((char *) row + row->values[i]) : row->values[i];
	}
}

/*
 * Insert the entry of a lock, as one that this transaction takes.  The caller owns the lock
 * tag of the lockid.  Error if there is no memory for it.
 */
void
tfstate_insert_session_lock(Holding *holding)
{
	Relation	rel = tfstate_open(&tfstate_catalog()->durable, RowExclusiveLock);
	Size		lengths[Natts_lock];
	Size		total;
	TfstateShared *shared = tfstate_require_shared();
	uint64		hash = tfstate_hash_lockid(HOLDING_TEXT(holding, lockid));
	int			bucket = bucket_of(hash);
	Pending    *item = tfstate_add_pending(PENDING_TAKE);
	dsa_pointer place;
	SessionLock *entry;
	dsa_pointer removed;

	value_lengths(holding, RelationGetDescr(rel), lengths, &total);
	place = allocate(shared, offsetof(SessionLock, row) + total);
	entry = entry_at(place);
	pg_atomic_init_u32(&entry->state, ENTRY_PENDING);
	entry->pid = MyProcPid;
	entry->hash = hash;
	entry->fence = HOLDING_INT64(holding, fence);
	write_row(holding, lengths, total, &entry->row);

	LWLockAcquire(bucket_lock(shared, bucket), LW_EXCLUSIVE);
	removed = unlink_free(shared, bucket);
	entry->next = shared->buckets[bucket];
	shared->buckets[bucket] = place;
	item->entry = entry;
	LWLockRelease(bucket_lock(shared, bucket));

	holding->changing = InvalidTransactionId;
	table_close(rel, NoLock);
	free_entries(removed);
}

/*
 * Find the lock of a lockid in session mode, even if its session is dead, and copy it into the
 * current memory context.  Returns false if there is none.  *newest is raised to the greatest
 * fence that an entry of the lockid has, in whatever state.
 */
bool
tfstate_find_session_lock(const char *lockid, Holding *holding, int64 *newest)
{
	TfstateShared *shared = tfstate_shared();
	uint64		hash = tfstate_hash_lockid(lockid);
	Size		lockid_length = strlen(lockid);
	int			bucket = bucket_of(hash);
	LWLock	   *lock;
	union
	{
		char		data[USUAL_LENGTH];
		int64		align;
	}			usual;
	Size		size = USUAL_LENGTH;
	char	   *copy = usual.data;
	Size		length;

	if (shared == NULL)
		return false;
	lock = bucket_lock(shared, bucket);
	for (;;)
	{
		length = 0;
		LWLockAcquire(lock, LW_SHARED);
		for (SessionLock *entry = entry_at(shared->buckets[bucket]); entry;
			 entry = entry_at(entry->next))
		{
			if (!is_of_lockid(entry, hash, lockid, lockid_length))
				continue;
			*newest = Max(*newest, entry->fence);
			if (!is_visible(entry))
				continue;
			length = entry->row.length;
			if (length <= size)
				memcpy(copy, &entry->row, length);
		}
		LWLockRelease(lock);
		if (length <= size)
			break;
		copy = palloc(length);
		size = length;
	}
	if (length == 0)
		return false;
	if (copy == usual.data)
		copy = memcpy(palloc(length), usual.data, length);
	read_row((Row *) copy, holding);
	return true;
}

/*
 * Find the entry of a holding that was read before, if this transaction still sees it.  The hash
 * is that of its lockid.
 */
static SessionLock *
find_again(const Holding *holding, uint64 hash)
{
	TfstateShared *shared = tfstate_shared();
	int			bucket = bucket_of(hash);
	SessionLock *entry;

	if (shared == NULL)
		return NULL;
	LWLockAcquire(bucket_lock(shared, bucket), LW_SHARED);
	entry = entry_at(shared->buckets[bucket]);
	while (entry && !(entry->hash == hash && entry->fence == HOLDING_INT64(holding, fence) &&
					  is_visible(entry)))
		entry = entry_at(entry->next);
	LWLockRelease(bucket_lock(shared, bucket));
	return entry;
}

/*
 * Have a lock end when this transaction commits.  Returns TM_Ok if that was arranged,
 * TM_Deleted if the lock has ended since it was read, and without wait TM_BeingModified if
 * another transaction is ending it or keeps it from ending.
 */
TM_Result
tfstate_end_session_lock(const Holding *holding, bool wait)
{
	LOCKTAG		tag = tfstate_end_tag(HOLDING_INT64(holding, fence));
	Relation	rel = tfstate_open(&tfstate_catalog()->durable, RowExclusiveLock);
	uint64		hash = tfstate_hash_lockid(HOLDING_TEXT(holding, lockid));
	SessionLock *entry = find_again(holding, hash);
	Pending    *item;

	table_close(rel, NoLock);
	if (entry && !is_taken_here(entry))
	{
		if (wait)
			tfstate_take_tag(&tag);
		else if (!tfstate_try_tag(&tag))
			return TM_BeingModified;
		entry = find_again(holding, hash);
	}
	if (entry == NULL)
		return TM_Deleted;

	/*
	 * What this subtransaction took is rolled back or committed together with
	 * its end: nobody will see it.  A transaction that takes and releases one
	 * lock again and again would find all those entries each time.
	 */
	if (is_taken_here(entry) && (item = tfstate_find_taken(entry)) != NULL)
	{
		item->entry = NULL;
		tfstate_free_session_lock(entry);
		return TM_Ok;
	}
	item = tfstate_add_pending(PENDING_END);
	item->entry = entry;
	item->session = HOLDING_INT64(holding, session);
	return TM_Ok;
}

/*
 * Keep a lock from being ended until the end of the transaction.  Waits for a transaction that
 * is ending it.  Returns false if the lock has ended since it was read.
 */
bool
tfstate_pin_session_lock(const Holding *holding)
{
	LOCKTAG		tag = tfstate_end_tag(HOLDING_INT64(holding, fence));
	Relation	rel = tfstate_open(&tfstate_catalog()->durable, RowShareLock);

	table_close(rel, NoLock);
	tfstate_take_share_of(&tag);
	return find_again(holding, tfstate_hash_lockid(HOLDING_TEXT(holding, lockid))) != NULL;
}

/*
 * The transaction that takes the lock is committed.  Cannot fail.
 */
void
tfstate_publish_session_lock(SessionLock *entry)
{
	pg_atomic_write_u32(&entry->state, ENTRY_LIVE);
}

/*
 * The lock has ended, or the transaction that takes it is rolled back.  From here on the
 * memory of the entry may be used for something else.  Cannot fail.
 */
void
tfstate_free_session_lock(SessionLock *entry)
{
	pg_atomic_write_u32(&entry->state, ENTRY_FREE);
}

/*
 * Begin to look at all locks, from one of the lists on.  Those that this transaction sees are
 * found, be their sessions dead; with all, also those that other transactions are taking.
 */
void
tfstate_begin_session_scan(SessionLockScan *scan, int first, bool all)
{
	memset(scan, 0, sizeof(SessionLockScan));
	scan->rel = tfstate_open(&tfstate_catalog()->durable, AccessShareLock);
	scan->all = all;
	scan->bucket = first;
	scan->left = tfstate_shared() ? SESSION_LOCK_BUCKETS : 0;

	/*
	 * what was put into a list before now is seen there, without its LWLock,
	 * too
	 */
	pg_memory_barrier();
}

/*
 * Copy the rows of a list, as far as there is space.
 * Returns how much space they need.
 */
static Size
copy_bucket(SessionLockScan *scan, TfstateShared *shared)
{
	LWLock	   *lock = bucket_lock(shared, scan->bucket);
	Size		length = 0;

	if (!DsaPointerIsValid(shared->buckets[scan->bucket]))
		return 0;
	LWLockAcquire(lock, LW_SHARED);
	for (SessionLock *entry = entry_at(shared->buckets[scan->bucket]); entry;
		 entry = entry_at(entry->next))
	{
		Size		needed = MAXALIGN(entry->row.length);

		if (scan->all ? state_of(entry) == ENTRY_FREE || tfstate_has_ended(entry) :
			!is_visible(entry))
			continue;
		if (length + needed <= scan->size)
			memcpy(scan->copy + length, &entry->row, entry->row.length);
		length += needed;
	}
	LWLockRelease(lock);
	return length;
}

/*
 * Returns the next lock, valid until the next call; NULL at the end.
 */
Holding *
tfstate_next_session_lock(SessionLockScan *scan)
{
	TfstateShared *shared = tfstate_shared_as_is();
	Row		   *row;

	while (scan->position >= scan->length)
	{
		CHECK_FOR_INTERRUPTS();
		if (scan->left-- <= 0)
			return NULL;
		while ((scan->length = copy_bucket(scan, shared)) > scan->size)
		{
			if (scan->copy)
				pfree(scan->copy);
			scan->copy = palloc(scan->length);
			scan->size = scan->length;
		}
		scan->position = 0;
		scan->bucket = (scan->bucket + 1) % SESSION_LOCK_BUCKETS;
	}
	row = (Row *) (scan->copy + scan->position);
	scan->position += MAXALIGN(row->length);
	read_row(row, &scan->holding);
	return &scan->holding;
}

void
tfstate_end_session_scan(SessionLockScan *scan)
{
	if (scan->copy)
		pfree(scan->copy);
	table_close(scan->rel, AccessShareLock);
}
