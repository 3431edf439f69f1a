/*-------------------------------------------------------------------------
 *
 * lockid.h
 *	  Lockids and patterns of lockids.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_LOCKID_H
#define TFSTATE_LOCKID_H

extern void tfstate_check_lockid(const char *lockid);
extern void tfstate_check_pattern(const char *pattern);
extern bool tfstate_pattern_matches(const char *lockid, const char *pattern);
extern char *tfstate_quote_identifier(const char *identifier);

#endif							/* TFSTATE_LOCKID_H */
