/*-------------------------------------------------------------------------
 *
 * tag.c
 *	  The lock-manager tags of tfstate.
 *
 * All are advisory tags of this database, told apart by their fourth field,
 * where the built-in functions have 1 and 2:
 *
 * 	K	0x7466, one for each lockid.  Whoever takes or waits for the lock takes
 * 		K in the transaction; a lock in session mode keeps it for the session.
 * 	S	0x7467, one for each session that took a lock.  It is held for as long
 * 		as the session lives.
 * 	W	0x7468, one for each lockid.  Held by who has K and waits for the holder
 * 		of a durable lock, so that tfstate_waiters can tell him from a holder.
 * 	V	0x7469, one for each lockid.  Held by a transaction that adds a version
 * 		of the workspace, or removes some.
 *
 * K, W and V carry a 64-bit hash of the lockid.  Two lockids with the same hash
 * only exclude each other in the short time that K is held; who owns a lock is
 * told by the rows, which have the whole text.  pg_locks shows the hashes to
 * everybody, so the hash is SipHash-2-4 with a secret key of 128 bits: from the
 * hashes of lockids of its own a role can neither learn the key nor that of
 * another lockid, nor make up a lockid that collides with another's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"

#include "common/catalog.h"
#include "common/siphash.h"
#include "lock/tag.h"

#define LOCK_FIELD4		0x7466
#define SESSION_FIELD4	0x7467
#define WAITER_FIELD4	0x7468
#define VERSION_FIELD4	0x7469
#define BUILTIN_FIELD4	1		/* bigint keys, see utils/adt/lockfuncs.c */

static LOCKTAG
make_tag(uint64 number, uint16 field4)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (number >> 32),
						 (uint32) number, field4);
	return tag;
}

/* The hash of a lockid, the number in all its tags. */
uint64
tfstate_hash_lockid(const char *lockid)
{
	return tfstate_siphash(tfstate_catalog()->key, lockid, strlen(lockid));
}

/*
 * A hash of a lockid for what a session remembers of it.  It is faster, and nobody
 * else may get to see it.
 */
uint64
tfstate_private_hash(const char *lockid)
{
	return hash_bytes_extended((const unsigned char *) lockid, (int) strlen(lockid), 0);
}

/* K of a lockid. */
LOCKTAG
tfstate_lock_tag(const char *lockid)
{
	return make_tag(tfstate_hash_lockid(lockid), LOCK_FIELD4);
}

/* W of the same lockid as K. */
LOCKTAG
tfstate_waiter_tag(const LOCKTAG *key)
{
	return make_tag(tfstate_tag_number(key), WAITER_FIELD4);
}

/* V of a lockid. */
LOCKTAG
tfstate_version_tag(const char *lockid)
{
	return make_tag(tfstate_hash_lockid(lockid), VERSION_FIELD4);
}

/* S of a session. */
LOCKTAG
tfstate_session_tag(int64 session)
{
	return make_tag((uint64) session, SESSION_FIELD4);
}

/* The tag of pg_advisory_lock(bigint). */
LOCKTAG
tfstate_builtin_tag(int64 key)
{
	return make_tag((uint64) key, BUILTIN_FIELD4);
}

static bool
has_field4(const LOCKTAG *tag, uint16 field4)
{
	return tag->locktag_type == LOCKTAG_ADVISORY &&
		tag->locktag_field1 == MyDatabaseId &&
		tag->locktag_field4 == field4;
}

/*
 * The mode in which we take a tag: our own exclude each other.  Of the others,
 * which are the built-in advisory locks and transactions, we take a share.
 */
LOCKMODE
tfstate_tag_mode(const LOCKTAG *tag)
{
	if (has_field4(tag, LOCK_FIELD4) || has_field4(tag, SESSION_FIELD4) ||
		has_field4(tag, WAITER_FIELD4) || has_field4(tag, VERSION_FIELD4))
		return ExclusiveLock;
	return ShareLock;
}

/* Is it a K of this database? */
bool
tfstate_is_lock_tag(const LOCKTAG *tag)
{
	return has_field4(tag, LOCK_FIELD4);
}

/* Is it a W of this database? */
bool
tfstate_is_waiter_tag(const LOCKTAG *tag)
{
	return has_field4(tag, WAITER_FIELD4);
}

/* The hash, session or key in a tag. */
uint64
tfstate_tag_number(const LOCKTAG *tag)
{
	return ((uint64) tag->locktag_field2 << 32) | tag->locktag_field3;
}
