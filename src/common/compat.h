/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between the PostgreSQL majors that tfstate supports.
 *
 * This is the only file that looks at PG_VERSION_NUM.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_COMPAT_H
#define TFSTATE_COMPAT_H

#include "access/genam.h"
#include "access/xloginsert.h"
#include "common/jsonapi.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/backend_status.h"
#include "utils/guc_tables.h"
#include "utils/rel.h"

#if PG_VERSION_NUM < 150000
#error tfstate needs PostgreSQL 15 or later
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM >= 190000
#include "commands/sequence_xlog.h"
#else
#include "commands/sequence.h"
#endif

/* Does this backend hold the tag in that mode, at any level? */
static inline bool
compat_lock_held_by_me(const LOCKTAG *tag, LOCKMODE mode)
{
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(tag, mode, false);
#else
	return LockHeldByMe(tag, mode);
#endif
}

/*
 * Take a tag for the transaction if that is possible at once.  A full lock table is no
 * error.
 */
static inline bool
compat_try_lock(const LOCKTAG *tag, LOCKMODE mode)
{
#if PG_VERSION_NUM >= 180000
	return LockAcquireExtended(tag, mode, false, true, false, NULL, false) !=
		LOCKACQUIRE_NOT_AVAIL;
#else
	return LockAcquireExtended(tag, mode, false, true, false, NULL) != LOCKACQUIRE_NOT_AVAIL;
#endif
}

/*
 * Has a process locked a tag in that mode?  The caller has the lock of the part of
 * the lock table that the tag's hash falls into.
 */
static inline bool
compat_proc_holds(PGPROC *proc, const LOCKTAG *tag, uint32 hash, LOCKMODE mode)
{
	int			partition = LockHashPartition(hash);
#if PG_VERSION_NUM >= 160000
	dlist_iter	iter;

	dlist_foreach(iter, &proc->myProcLocks[partition])
	{
		PROCLOCK   *item = dlist_container(PROCLOCK, procLink, iter.cur);
#else
	SHM_QUEUE  *queue = &proc->myProcLocks[partition];
	PROCLOCK   *item = NULL;

	while ((item = (PROCLOCK *) SHMQueueNext(queue, item ? &item->procLink : queue,
											 offsetof(PROCLOCK, procLink))) != NULL)
	{
#endif
		if ((item->holdMask & LOCKBIT_ON(mode)) != 0 &&
			memcmp(&item->tag.myLock->tag, tag, sizeof(LOCKTAG)) == 0)
			return true;
	}
	return false;
}

/* The number that tells this backend's transactions apart. */
static inline LocalTransactionId
compat_my_lxid(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProc->vxid.lxid;
#else
	return MyProc->lxid;
#endif
}

/* The i-th backend's status entry, counted from 1; NULL past the end. */
static inline PgBackendStatus *
compat_backend_status(int i)
{
	LocalPgBackendStatus *local;

#if PG_VERSION_NUM >= 160000
	local = pgstat_get_local_beentry_by_index(i);
#else
	local = pgstat_fetch_stat_local_beentry(i);
#endif
	return local ? &local->backendStatus : NULL;
}

/* Begin a scan that reads an index only, and not its table. */
static inline IndexScanDesc
compat_index_beginscan(Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan_bitmap(index, snapshot, NULL, nkeys);
#else
	return index_beginscan_bitmap(index, snapshot, nkeys);
#endif
}

/*
 * Write the only tuple of a sequence to WAL, as recovery is to restore it.  The
 * caller has the buffer locked.
 */
static inline XLogRecPtr
compat_log_sequence(Relation sequence, Buffer buffer, HeapTuple tuple)
{
	xl_seq_rec	record;

#if PG_VERSION_NUM >= 160000
	record.locator = sequence->rd_locator;
#else
	record.node = sequence->rd_node;
#endif
	XLogBeginInsert();
	XLogRegisterBuffer(0, buffer, REGBUF_WILL_INIT);
	XLogRegisterData((char *) &record, sizeof(record));
	XLogRegisterData((char *) tuple->t_data, tuple->t_len);
	return XLogInsert(RM_SEQ_ID, XLOG_SEQ_LOG);
}

/* All configuration parameters, and how many there are. */
static inline struct config_generic **
compat_parameters(int *count)
{
#if PG_VERSION_NUM >= 160000
	return get_guc_variables(count);
#else
	*count = GetNumConfigOptions();
	return get_guc_variables();
#endif
}

/* What the semantic actions of the JSON parser return. */
#if PG_VERSION_NUM >= 160000
typedef JsonParseErrorType compat_json_result;
#define COMPAT_JSON_RETURN	return JSON_SUCCESS
#else
typedef void compat_json_result;
#define COMPAT_JSON_RETURN	return
#endif

/* A lexer, and what is needed to switch the copying of strings off and on. */
typedef struct CompatJsonLexer
{
	JsonLexContext *context;
#if PG_VERSION_NUM < 180000
	StringInfo	strval;
#endif
} CompatJsonLexer;

/* Start to read a text of a number of bytes. */
static inline void
compat_json_open(CompatJsonLexer *lexer, const char *json, int len, int encoding)
{
#if PG_VERSION_NUM >= 170000
	lexer->context = makeJsonLexContextCstringLen(NULL, json, len, encoding, true);
#else
	lexer->context = makeJsonLexContextCstringLen(unconstify(char *, json), len,
												  encoding, true);
#endif
#if PG_VERSION_NUM < 180000
	lexer->strval = lexer->context->strval;
#endif
}

/*
 * Are the strings that follow to be copied?  Without that an action gets NULL
 * in their place.
 */
static inline void
compat_json_set_escapes(CompatJsonLexer *lexer, bool on)
{
#if PG_VERSION_NUM >= 180000
	lexer->context->need_escapes = on;
#else
	lexer->context->strval = on ? lexer->strval : NULL;
#endif
}

/* Does the text parse as JSON?  Raises no error. */
static inline bool
compat_json_is_valid(const char *json, int encoding)
{
	CompatJsonLexer lexer;

	compat_json_open(&lexer, json, strlen(json), encoding);
	compat_json_set_escapes(&lexer, false);
	return pg_parse_json(lexer.context, &nullSemAction) == JSON_SUCCESS;
}

#endif							/* TFSTATE_COMPAT_H */
