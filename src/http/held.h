/*-------------------------------------------------------------------------
 *
 * held.h
 *	  The locks that end with the command of "tfstate run --http".
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_HELD_H
#define TFSTATE_HTTP_HELD_H

#include "http/http.h"

extern void held_start(int64_t ttl_ms, const char *const *command);
extern const char *held_ttl(void);
extern void held_note(const char *lockid, const char *id);
extern bool held_forget(const char *lockid, const char *id);
extern bool held_names(const char *id);
extern bool held_lost(void);
extern bool held_release_all(void);

#endif							/* TFSTATE_HTTP_HELD_H */
