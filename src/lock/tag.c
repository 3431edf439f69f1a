/*-------------------------------------------------------------------------
 *
 * tag.c
 *	  The lock-manager tags of tfstate.
 *
 * All are advisory tags of this database, told apart by their fourth field, which is
 * 1 or 2 in those of the built-in functions:
 *
 *	lock tag	0x7466, one for each lockid.  A session that takes the lock or waits
 *				for it takes the lock tag in its transaction.  A session that holds
 *				the lock in session mode keeps it.
 *	session tag	0x7467, one for each session that took a lock.  The session has it
 *				for as long as it lives.
 *	waiter tag	0x7468, one for each lockid.  The first waiter has it besides the
 *				lock tag, so that tfstate_waiters can tell it from a holder.
 *	version tag	0x7469, one for each lockid.  A transaction that adds or removes
 *				versions of the workspace has it.
 *	freeze tag	0x746a, one.  A transaction that begins or ends a freeze has it.
 *	creation tag	0x746b, one for each name of a schema.  A transaction that
 *				creates there what Terraform creates has it.
 *	end tag		0x746c, one for each holding in session mode, by its fence.  A
 *				transaction that ends the holding has it, and one that keeps it from
 *				ending has a share of it.
 *
 * All but the session tag, the freeze tag and the end tag carry a 64-bit hash, of the lockid or the
 * name.  Two lockids of the same hash exclude each other only while somebody has the lock
 * tag; the holder is told by the rows, which have the whole text.  pg_locks shows the
 * hashes to everybody, so the hash is SipHash-2-4 with a secret key of 128 bits: from the
 * hashes of lockids of its own a role can learn neither the key nor the hash of another
 * lockid, nor make up a lockid that collides with another's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"

#include "common/catalog.h"
#include "common/limits.h"
#include "common/siphash.h"
#include "lock/tag.h"

#define LOCK_FIELD4		0x7466
#define SESSION_FIELD4	0x7467
#define WAITER_FIELD4	0x7468
#define VERSION_FIELD4	0x7469
#define FREEZE_FIELD4	0x746a
#define CREATION_FIELD4	0x746b
#define END_FIELD4		0x746c
#define BUILTIN_FIELD4	1		/* bigint keys, see utils/adt/lockfuncs.c */

static LOCKTAG
make_tag(uint64 number, uint16 field4)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (number >> 32),
						 (uint32) number, field4);
	return tag;
}

/*
 * Return the hash of a lockid, which is the number in all its tags.
 *
 * That of the last lockid is remembered, because each call needs it several times, and with it
 * the key: the extension may have been created again.
 */
uint64
tfstate_hash_lockid(const char *lockid)
{
	static char last[TFSTATE_MAX_LOCKID + 1];
	static uint8 last_key[TFSTATE_KEY_SIZE];
	static uint64 hash;
	const uint8 *key = tfstate_catalog()->key;

	if (last[0] == '\0' || strcmp(lockid, last) != 0 ||
		memcmp(key, last_key, TFSTATE_KEY_SIZE) != 0)
	{
		hash = tfstate_siphash(key, lockid, strlen(lockid));
		memcpy(last_key, key, TFSTATE_KEY_SIZE);
		if (strlcpy(last, lockid, sizeof(last)) >= sizeof(last))
			last[0] = '\0';
	}
	return hash;
}

/*
 * Return a faster hash of a lockid, for what a session remembers of it.  It is not
 * keyed, so it must not be shown to anybody.
 */
uint64
tfstate_private_hash(const char *lockid)
{
	return hash_bytes_extended((const unsigned char *) lockid, (int) strlen(lockid), 0);
}

/*
 * Return the lock tag of a lockid.
 */
LOCKTAG
tfstate_lock_tag(const char *lockid)
{
	return make_tag(tfstate_hash_lockid(lockid), LOCK_FIELD4);
}

/*
 * Return the waiter tag of the lockid of a lock tag.
 */
LOCKTAG
tfstate_waiter_tag(const LOCKTAG *lock_tag)
{
	return make_tag(tfstate_tag_number(lock_tag), WAITER_FIELD4);
}

/*
 * Return the version tag of a lockid.
 */
LOCKTAG
tfstate_version_tag(const char *lockid)
{
	return make_tag(tfstate_hash_lockid(lockid), VERSION_FIELD4);
}

/*
 * Return the creation tag of a schema, by its name.
 */
LOCKTAG
tfstate_creation_tag(const char *schema)
{
	return make_tag(tfstate_hash_lockid(schema), CREATION_FIELD4);
}

/*
 * Return the session tag of a session, by its number.
 */
LOCKTAG
tfstate_session_tag(int64 session)
{
	return make_tag((uint64) session, SESSION_FIELD4);
}

/*
 * Return the freeze tag.
 */
LOCKTAG
tfstate_freeze_tag(void)
{
	return make_tag(0, FREEZE_FIELD4);
}

/*
 * Return the end tag of a holding in session mode, by its fence.
 */
LOCKTAG
tfstate_end_tag(int64 fence)
{
	return make_tag((uint64) fence, END_FIELD4);
}

/*
 * Return the tag of pg_advisory_lock(bigint) for a key.
 */
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
 * Return the mode in which we take a tag.  Our own tags exclude each other; of others,
 * which are those of built-in advisory locks and of transactions, we take a share.
 */
LOCKMODE
tfstate_tag_mode(const LOCKTAG *tag)
{
	if (has_field4(tag, LOCK_FIELD4) || has_field4(tag, SESSION_FIELD4) ||
		has_field4(tag, WAITER_FIELD4) || has_field4(tag, VERSION_FIELD4) ||
		has_field4(tag, FREEZE_FIELD4) || has_field4(tag, CREATION_FIELD4) ||
		has_field4(tag, END_FIELD4))
		return ExclusiveLock;
	return ShareLock;
}

/*
 * Return true if it is a lock tag of this database.
 */
bool
tfstate_is_lock_tag(const LOCKTAG *tag)
{
	return has_field4(tag, LOCK_FIELD4);
}

/*
 * Return true if it is a waiter tag of this database.
 */
bool
tfstate_is_waiter_tag(const LOCKTAG *tag)
{
	return has_field4(tag, WAITER_FIELD4);
}

/*
 * Return true if it is a tag of pg_advisory_lock(bigint) in this database.
 */
bool
tfstate_is_builtin_tag(const LOCKTAG *tag)
{
	return has_field4(tag, BUILTIN_FIELD4);
}

/*
 * Return the 64-bit number in a tag: a hash, a session's number or a key.
 */
uint64
tfstate_tag_number(const LOCKTAG *tag)
{
	return ((uint64) tag->locktag_field2 << 32) | tag->locktag_field3;
}
