/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The configuration parameters tfstate.*
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SETTINGS_H
#define TFSTATE_SETTINGS_H

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

extern char *tfstate_who;
extern char *tfstate_operation;
extern char *tfstate_info;
extern int64 tfstate_fence;		/* 0 for none */
extern int	tfstate_guard_level;	/* a GuardLevel */
extern int	tfstate_mode;		/* 1 for durable, 0 for session */
extern int	tfstate_wait;		/* milliseconds, -1 without limit */
extern int	tfstate_history;	/* a HistoryKind */
extern int	tfstate_history_count;
extern int	tfstate_history_age;	/* seconds */
extern int	tfstate_max_session_locks;
extern bool tfstate_log_events;
extern bool tfstate_notify;

extern void tfstate_define_settings(void);
extern void tfstate_check_settings(void);
extern bool tfstate_set_by_session(const char *name);
extern bool tfstate_set_for_session(const char *name);

#endif							/* TFSTATE_SETTINGS_H */
