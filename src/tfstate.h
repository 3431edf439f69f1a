/*-------------------------------------------------------------------------
 *
 * tfstate.h
 *	  The vocabulary that all files of tfstate share.
 *
 * Files include one way: the SQL-callable entry points (functions.c, shim.c,
 * views.c) use the engine (lock.c), the engine uses its parts (wait.c, rows.c,
 * history.c, conflict.c, xact.c, session.c), and those use the pure helpers
 * (key.c, info.c, settings.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_H
#define TFSTATE_H

#include "access/genam.h"
#include "access/htup.h"
#include "access/tableam.h"
#include "access/tupdesc.h"
#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "storage/lock.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* The longest lockid, ID, info and reason that are accepted, in bytes. */
#define TFSTATE_MAX_LOCKID	1024
#define TFSTATE_MAX_ID		256
#define TFSTATE_MAX_INFO	8192
#define TFSTATE_MAX_REASON	1024

/* The longest wait and ttl that are accepted: a year. */
#define TFSTATE_MAX_USECS	(INT64CONST(365) * USECS_PER_DAY)

/* The secret key of the hash of lockids, in bytes. */
#define TFSTATE_KEY_SIZE	16

/*
 * What the library and the SQL objects have to agree on: the layout of the tables, the
 * tags, and how a lock is taken.  A library refuses an installation of another number.
 */
#define TFSTATE_PROTOCOL	1

/* The columns of tfstate_durable_lock and tfstate_session_lock ... */
enum
{
	Anum_lock_lockid = 1,
	Anum_lock_fence,
	Anum_lock_id,
	Anum_lock_created,
	Anum_lock_ttl,
	Anum_lock_expires_at,
	Anum_lock_session,
	Anum_lock_pid,
	Anum_lock_role,				/* by its OID */
	Anum_lock_role_name,		/* as it was */
	Anum_lock_login_role,
	Anum_lock_application_name,
	Anum_lock_client_addr,
	Anum_lock_run_id,
	Anum_lock_key,
	Anum_lock_unlock_key,
	Anum_lock_info,
	Natts_lock = Anum_lock_info,
	/* ... which tfstate_released_lock has too, before its own. */
	Anum_released_mode,
	Anum_released_released_at,
	Anum_released_how,
	Anum_released_released_by,
	Anum_released_reason,
	Natts_released = Anum_released_reason
};

/* The objects of the installed extension; see catalog.c. */
typedef struct TfstateCatalog
{
	Oid			durable;		/* tfstate_durable_lock */
	Oid			durable_index;	/* its key (lockid, fence) */
	Oid			session;		/* tfstate_session_lock */
	Oid			session_index;	/* its key (lockid, fence) */
	Oid			released;		/* tfstate_released_lock */
	Oid			released_index; /* its key (lockid, fence) */
	Oid			released_at_index;	/* its index on released_at */
	Oid			privilege;		/* tfstate_privilege */
	Oid			privilege_index;	/* its key (role, pattern, privilege) */
	Oid			attached;		/* tfstate_attached_table */
	Oid			version;		/* tfstate_stored_version */
	Oid			version_index;	/* its key (lockid, number) */
	Oid			fence;			/* the sequence of fences */
	Oid			installation;	/* tfstate_installation */
	Oid			owner;			/* who owns all of them */
	uint8		key[TFSTATE_KEY_SIZE];	/* of the hash in the lock-manager tags */
	TimeLineID	timeline;		/* whose fences are ahead of all earlier ones */
} TfstateCatalog;

/* One row of a lock table, copied out of it. */
typedef struct Holding
{
	bool		durable;		/* from tfstate_durable_lock? */
	Oid			relfilenode;	/* of the table, when it was read */
	ItemPointerData tid;		/* where it lies */
	TransactionId changing;		/* who is changing it in an open transaction */
	Datum		values[Natts_lock];
	bool		nulls[Natts_lock];
} Holding;

#define HOLDING_NULL(h, col)	((h)->nulls[Anum_lock_##col - 1])
#define HOLDING_DATUM(h, col)	((h)->values[Anum_lock_##col - 1])
#define HOLDING_INT64(h, col)	DatumGetInt64(HOLDING_DATUM(h, col))
#define HOLDING_TEXT(h, col)	TextDatumGetCString(HOLDING_DATUM(h, col))

/*
 * What stands for the privilege to see who holds and who waits for a lock, which comes
 * with "view" and with "lock".
 */
#define PRIVILEGE_SEE	"see"

/* What somebody asks of the lock engine. */
typedef struct LockRequest
{
	const char *lockid;			/* checked by tfstate_check_lockid() */
	Jsonb	   *info;			/* as the caller gave it; NULL for none */
	bool		durable;		/* durable mode, else session mode */
	int64		wait;			/* microseconds; 0 at once, -1 for ever */
	Interval   *ttl;			/* of a lease; NULL for none */
	bool		has_key;		/* does a built-in advisory lock go along? */
	int64		key;			/* its key */
	int64		unlock_key;		/* what Terraform unlocks, if not key; else 0 */
	bool		tied;			/* held as long as the built-in unlock_key is? */
	const char *run_id;			/* adopt what this run holds; NULL for no run */
} LockRequest;

/* A row of tfstate_attached_table. */
typedef struct AttachedTable
{
	Oid			relid;
	int			guard;			/* the least GuardLevel */
	int			keep_versions;	/* how many of a workspace; 0 for all */
	bool		has_keep_age;
	Interval	keep_age;		/* how long versions are kept */
} AttachedTable;

/* The columns of a table of states. */
typedef enum StateColumn
{
	STATE_ID,					/* bigint */
	STATE_NAME,					/* text */
	STATE_DATA					/* text */
} StateColumn;

#define NUM_STATE_COLUMNS	(STATE_DATA + 1)

/* Why a request was not granted. */
typedef struct LockConflict
{
	bool		known;			/* is there a row that tells the holder? */
	Holding		holder;			/* that row */
	bool		own;			/* held by this very session? */
	LOCKTAG		tag;			/* else: what somebody else has locked */
	int64		newest_fence;	/* where nobody holds it: what the lock tables know */
} LockConflict;

/*
 * Where a wait ends, by a clock that nobody sets; see tfstate_start_wait().
 */
typedef struct WaitLimit
{
	int64		give_up;		/* then there is no lock, and no error */
	int64		error;			/* then the server's lock_timeout is over */
	bool		announced;		/* has the client been told that it waits? */
} WaitLimit;

/* A share of a built-in lock that goes along with a durable lock (builtin.c). */
typedef struct KeptBuiltin KeptBuiltin;

/* What is known of another backend, NULL or 0 where nothing is. */
typedef struct BackendDetails
{
	char	   *role;
	char	   *client_addr;
	char	   *application_name;
	TimestampTz statement_start;
} BackendDetails;

/*
 * Whose doing a session remembers: what it keeps in memory is of no account after
 * DISCARD ALL, under another role, or for another run.
 */
typedef struct Caller
{
	int64		session;		/* whose S it had */
	Oid			role;
	char	   *run;			/* in TopMemoryContext; NULL for none */
} Caller;

/* How a holding ended, as tfstate_history shows it. */
#define HOW_UNLOCK		"unlock"
#define HOW_FORCE		"force"
#define HOW_EXPIRED		"expired"
#define HOW_RECLAIMED	"reclaimed"

/* Which finished holdings leave a row. */
typedef enum HistoryKind
{
	HISTORY_NONE,
	HISTORY_DURABLE,
	HISTORY_ALL
} HistoryKind;

/* Which writes of states are refused. */
typedef enum GuardLevel
{
	GUARD_OFF,
	GUARD_ON,
	GUARD_REQUIRE
} GuardLevel;

/* settings.c */
extern char *tfstate_who;
extern char *tfstate_operation;
extern char *tfstate_info;
extern char *tfstate_run_id;
extern int64 tfstate_fence;		/* 0 for none */
extern int	tfstate_guard_level;	/* a GuardLevel */
extern int	tfstate_mode;		/* is it durable? */
extern int	tfstate_wait;		/* milliseconds, -1 for ever */
extern int	tfstate_history;	/* a HistoryKind */
extern int	tfstate_history_count;
extern int	tfstate_history_age;	/* seconds */
extern int	tfstate_max_session_locks;
extern void tfstate_define_settings(void);
extern void tfstate_check_settings(void);
extern const char *tfstate_my_run(void);
extern void tfstate_require_run(void);

/* catalog.c */
extern const TfstateCatalog *tfstate_catalog(void);
extern void tfstate_note_timeline(TimeLineID timeline);

/* key.c */
extern void tfstate_check_lockid(const char *lockid);
extern uint64 tfstate_hash_lockid(const char *lockid);
extern uint64 tfstate_private_hash(const char *lockid);
extern LOCKTAG tfstate_key_tag(const char *lockid);
extern LOCKTAG tfstate_waiting_tag(const LOCKTAG *key);
extern LOCKTAG tfstate_version_tag(const char *lockid);
extern LOCKTAG tfstate_session_tag(int64 session);
extern LOCKTAG tfstate_builtin_tag(int64 key);
extern LOCKMODE tfstate_tag_mode(const LOCKTAG *tag);
extern bool tfstate_is_key(const LOCKTAG *tag);
extern bool tfstate_is_waiting(const LOCKTAG *tag);
extern uint64 tfstate_tag_number(const LOCKTAG *tag);

/* info.c */
extern void tfstate_check_id(const char *id);
extern Jsonb *tfstate_fill_info(Jsonb *given, const char *lockid,
								TimestampTz created);
extern void tfstate_check_info(Jsonb *given);
extern Jsonb *tfstate_who_info(const char *who);
extern Jsonb *tfstate_operation_info(const char *operation);
extern char *tfstate_info_get(Jsonb *info, const char *key);
extern char *tfstate_caller(void);
extern char *tfstate_actor(void);

/* privilege.c */
extern List *tfstate_privileges(const char *privilege);
extern List *tfstate_statement_privileges(FmgrInfo *flinfo, const char *privilege);
extern bool tfstate_allowed(List *patterns, const char *lockid);
extern bool tfstate_allowed_below(List *patterns, const char *prefix);
extern void tfstate_check_privilege(const char *lockid, const char *privilege);
extern bool tfstate_is_owner(void);
extern bool tfstate_acts_for_holder(const Holding *holding);
extern char *tfstate_holder_role(const Holding *holding);
extern void tfstate_check_pattern(const char *pattern);
extern bool tfstate_pattern_matches(const char *lockid, const char *pattern);

/* session.c */
extern int64 tfstate_session_open(void);
extern bool tfstate_session_is_mine(int64 session);
extern bool tfstate_session_is_open(void);
extern bool tfstate_session_is_alive(int64 session);
extern int	tfstate_session_pid(int64 session);
extern bool tfstate_is_own(const Holding *holding);
extern bool tfstate_is_ours(const Holding *holding);
extern const char *tfstate_client_addr(void);
extern bool tfstate_backend_details(int pid, BackendDetails *details);
extern int	tfstate_tag_holder(const LOCKTAG *tag);
extern void tfstate_note_caller(Caller *caller);
extern bool tfstate_is_caller(const Caller *caller);

/* rows.c */
extern Snapshot tfstate_latest_snapshot(void);
extern HeapTuple tfstate_next_visible(SysScanDesc scan, Snapshot snapshot);
extern HeapTuple tfstate_next_in_order(SysScanDesc scan, ScanDirection direction,
									   Snapshot snapshot);
extern bool tfstate_find_row(const char *lockid, bool keep_tables, Holding *holding,
							 int64 *newest);
extern int64 tfstate_newest_row_fence(const char *lockid, ItemPointer except, bool *live);
extern bool tfstate_current_holding(const char *lockid, Holding *holding);
extern bool tfstate_current_holding_again(const char *lockid, Holding *holding);
extern bool tfstate_find_created(const char *run_id, int64 unlock_key, Holding *holding);
extern void tfstate_insert_holding(Holding *holding);
extern TM_Result tfstate_delete_holding(const Holding *holding, bool wait);
extern bool tfstate_update_holding(Holding *holding, bool wait);
extern List *tfstate_dead_holdings(int max_blocks, int max_rows);
extern bool tfstate_pin_holding(const Holding *holding);
extern bool tfstate_lock_holding(const Holding *holding);
extern bool tfstate_holding_expired(const Holding *holding);
extern bool tfstate_holding_is_tied(const Holding *holding);
extern bool tfstate_holding_is_live(const Holding *holding);
extern bool tfstate_find_tied(int64 creation_key, Holding *holding);

/* fence.c */
extern int64 tfstate_newest_in_history(const char *lockid, int64 least);
extern int64 tfstate_next_fence(const char *lockid, int64 newest);
extern void tfstate_raise_synchronous_commit(void);

/* history.c */
extern void tfstate_record_release(const Holding *holding, const char *how,
								   const char *reason);
extern bool tfstate_find_release(const char *lockid, const char *run_id, int64 *fence, char **how,
								 TimestampTz *released_at);

/* xact.c */
extern void tfstate_init_xact(void);
extern void tfstate_sync_at_commit(void);
extern void tfstate_begin_release(void);
extern void tfstate_end_release(void);
extern void tfstate_promote_at_commit(const LOCKTAG *tag, int64 session,
									  KeptBuiltin *kept);
extern void tfstate_release_at_commit(const LOCKTAG *tag, int64 session,
									  KeptBuiltin *kept);
extern void tfstate_wake_at_commit(const LOCKTAG *tag);
extern bool tfstate_has_pending(void);
extern void tfstate_check_lock_count(void);
extern void tfstate_count_lock(void);

/* wait.c */
extern bool tfstate_try_tag(const LOCKTAG *tag);
extern void tfstate_start_wait(WaitLimit *limit, int64 usecs);
extern bool tfstate_wait_is_over(const WaitLimit *limit);
extern bool tfstate_wait_is_endless(const WaitLimit *limit);
extern bool tfstate_wait_tag(const LOCKTAG *tag, const WaitLimit *limit);
extern void tfstate_release_tag(const LOCKTAG *tag);
extern void tfstate_wait_as_first(const LOCKTAG *key, TransactionId changing,
								  TimestampTz expires_at, const WaitLimit *limit);
extern bool tfstate_wait_tag_as_first(const LOCKTAG *key, const LOCKTAG *tag,
									  const WaitLimit *limit);

/* reclaim.c */
extern void tfstate_reclaim_some(void);

/* builtin.c */
extern void tfstate_keep_builtin(const Holding *holding);
extern void tfstate_forget_kept(KeptBuiltin *kept);
extern void tfstate_return_builtin(const Holding *holding);
extern void tfstate_drop_stale_builtins(void);

/* conflict.c */
extern void tfstate_raise_conflict(const char *lockid,
								   const LockConflict *conflict);
extern void tfstate_announce_wait(const char *lockid, const LockConflict *conflict,
								  int position);
extern void tfstate_raise_not_held(const char *lockid);
extern Jsonb *tfstate_conflict_info(const LockConflict *conflict);
extern char *tfstate_describe_holding(const Holding *holding, bool own);
extern char *tfstate_force_unlock_call(const char *lockid, const Holding *holder);
extern char *tfstate_format_time(TimestampTz time);
extern char *tfstate_valid_text(const char *text);
extern char *tfstate_one_line(const char *text, int max_bytes);

/* lock.c */
extern bool tfstate_acquire(const LockRequest *request, Holding *holding,
							LockConflict *conflict);
extern bool tfstate_release(const Holding *holding, const char *how,
							const char *reason);
extern bool tfstate_renew_lease(Holding *holding, Interval *ttl);
extern Jsonb *tfstate_force_release(const char *lockid, const char *id,
									const char *reason, bool terminate);

/* workspace.c */
extern bool tfstate_state_columns(Relation rel, AttrNumber *columns);
extern List *tfstate_attached_tables(void);
extern bool tfstate_attached_table(Oid relid, AttachedTable *table);
extern char *tfstate_quote_identifier(const char *identifier);
extern char *tfstate_workspace_lockid(Oid relid, const char *name);
extern Oid	tfstate_index_on(Relation rel, AttrNumber column);
extern List *tfstate_readable_tables(List *tables, bool readable);
extern char *tfstate_workspace_by_id(List *tables, int64 id);
extern bool tfstate_workspace_id(const char *lockid, int64 *id);
extern int64 tfstate_table_creation_key(Oid relid);
extern char *tfstate_creation_lockid(List *tables, int64 key);
extern char *tfstate_describe_creation(const char *lockid);
extern Oid	tfstate_lockid_table(const char *lockid, const char **name);
extern bool tfstate_workspace_text(Oid relid, const char *name, text **data);
extern bool tfstate_may_read_states(Oid relid);

/* functions.c */
extern void tfstate_check_writable(const char *function);

/* shim.c */
extern void tfstate_exchange_creation_key(Oid relid, const char *lockid, int64 id);
extern bool tfstate_released_last(const char *lockid, int64 *fence, int64 *version);

/* guard.c */
extern const char *tfstate_rolling_back;

#endif							/* TFSTATE_H */
