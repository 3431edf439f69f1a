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
#include "access/tableam.h"
#include "access/xloginsert.h"
#include "common/jsonapi.h"
#include "storage/bufmgr.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/backend_status.h"
#include "utils/guc_tables.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#if PG_VERSION_NUM < 150000
#error tfstate needs PostgreSQL 15 or later
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM >= 190000
#include "commands/sequence_xlog.h"
#include "storage/dsm_registry.h"
#else
#include "commands/sequence.h"
#endif

/* Return true if this backend holds the tag in that mode, at any level. */
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
 * Take a tag for the transaction, if that is possible at once.  Return false, without an
 * error, if it is not, or if the lock table is full.
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
 * Return true if a process holds a tag in that mode.  The caller holds the lock of the
 * partition of the lock table that the tag's hash falls into.
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

/* Returns the number of this backend's current transaction among its own. */
static inline LocalTransactionId
compat_my_lxid(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProc->vxid.lxid;
#else
	return MyProc->lxid;
#endif
}

/* Returns the i-th status entry of a backend, counted from 1; NULL past the end. */
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

#if PG_VERSION_NUM >= 190000
static inline void
compat_init_tranche(void *tranche, void *arg)
{
	*(int *) tranche = LWLockNewTrancheId("tfstate");
}
#endif

/* Returns the number of a new tranche of LWLocks. */
static inline int
compat_new_tranche(void)
{
#if PG_VERSION_NUM >= 190000
	/* There are only 256, so all databases share one. */
	bool		found;
	int		   *tranche = GetNamedDSMSegment("tfstate", sizeof(int), compat_init_tranche,
											 &found, NULL);

	return *tranche;
#else
	return LWLockNewTrancheId();
#endif
}

/* Give a tranche its name in this backend. */
static inline void
compat_name_tranche(int tranche)
{
#if PG_VERSION_NUM < 190000
	LWLockRegisterTranche(tranche, "tfstate");
#endif
}

/* Begin a scan of a table by an index. */
static inline IndexScanDesc
compat_index_beginscan(Relation rel, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 190000
	return index_beginscan(rel, index, snapshot, NULL, nkeys, 0, SO_NONE);
#elif PG_VERSION_NUM >= 180000
	return index_beginscan(rel, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(rel, index, snapshot, nkeys, 0);
#endif
}

/*
 * Delete a row in the current command, as table_tuple_delete() does without snapshots.
 * With wait, wait for a transaction that is changing the row.
 */
static inline TM_Result
compat_delete_tuple(Relation rel, ItemPointer tid, CommandId command, bool wait)
{
	TM_FailureData failure;

#if PG_VERSION_NUM >= 190000
	return table_tuple_delete(rel, tid, command, 0, InvalidSnapshot, InvalidSnapshot,
							  wait, &failure);
#else
	return table_tuple_delete(rel, tid, command, InvalidSnapshot, InvalidSnapshot,
							  wait, &failure, false);
#endif
}

/*
 * Write the only tuple of a sequence to WAL, as recovery shall restore it, and return the
 * end of the record.  The caller has locked the buffer.
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

/* What the callbacks of system caches get. */
#if PG_VERSION_NUM >= 190000
typedef SysCacheIdentifier CompatCacheId;
#else
typedef int CompatCacheId;
#endif

/* Where the data of a relation is. */
#if PG_VERSION_NUM >= 160000
typedef RelFileLocator CompatFile;
#else
typedef RelFileNode CompatFile;
#endif

static inline CompatFile
compat_file(Relation rel)
{
#if PG_VERSION_NUM >= 160000
	return rel->rd_locator;
#else
	return rel->rd_node;
#endif
}

/*
 * Pin a buffer if it has this block of a file, as ReadRecentBuffer() does.  Return false if it
 * has not.
 */
static inline bool
compat_read_recent_buffer(CompatFile file, BlockNumber block, Buffer buffer)
{
	return ReadRecentBuffer(file, MAIN_FORKNUM, block, buffer);
}

/* Returns a configuration parameter by its name as it was defined, NULL if there is none. */
static inline struct config_generic *
compat_parameter(const char *name)
{
#if PG_VERSION_NUM >= 160000
	return find_option(name, false, true, 0);
#else
	struct config_generic **all = get_guc_variables();

	for (int i = 0; i < GetNumConfigOptions(); i++)
	{
		if (strcmp(all[i]->name, name) == 0)
			return all[i];
	}
	return NULL;
#endif
}

/* Stop the timer of transaction_timeout, which PostgreSQL 17 has brought.  Returns true if it ran. */
static inline bool
compat_stop_transaction_timer(void)
{
#if PG_VERSION_NUM >= 170000
	if (get_timeout_active(TRANSACTION_TIMEOUT))
	{
		disable_timeout(TRANSACTION_TIMEOUT, false);
		return true;
	}
#endif
	return false;
}

/* Start it anew. */
static inline void
compat_start_transaction_timer(void)
{
#if PG_VERSION_NUM >= 170000
	enable_timeout_after(TRANSACTION_TIMEOUT, TransactionTimeout);
#endif
}

/* Returns all configuration parameters, and sets their number. */
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

/* A jsonb value that is being built; all zero at first, and result is set at its end. */
#if PG_VERSION_NUM < 190000
typedef struct JsonbInState
{
	JsonbValue *result;
	JsonbParseState *parseState;
} JsonbInState;
#endif

/* Add a token to it, and the value that the token has, NULL for none. */
static inline void
compat_push_jsonb(JsonbInState *state, JsonbIteratorToken token, JsonbValue *value)
{
#if PG_VERSION_NUM >= 190000
	pushJsonbValue(state, token, value);
#else
	state->result = pushJsonbValue(&state->parseState, token, value);
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

/* A lexer, with what switches the copying of strings off and on. */
typedef struct CompatJsonLexer
{
	JsonLexContext *context;
#if PG_VERSION_NUM < 180000
	StringInfo	strval;
#endif
} CompatJsonLexer;

/* Start reading a text; len is in bytes. */
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
 * Switch on or off that the strings which follow are copied.  Off, the actions get NULL
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

/* Return true if the text is valid JSON.  Raises no error. */
static inline bool
compat_json_is_valid(const char *json, int encoding)
{
	CompatJsonLexer lexer;

	compat_json_open(&lexer, json, strlen(json), encoding);
	compat_json_set_escapes(&lexer, false);
	return pg_parse_json(lexer.context, &nullSemAction) == JSON_SUCCESS;
}

#endif							/* TFSTATE_COMPAT_H */
