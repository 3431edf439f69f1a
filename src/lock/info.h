/*-------------------------------------------------------------------------
 *
 * info.h
 *	  The lock info: Terraform's description of a lock, as jsonb.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_INFO_H
#define TFSTATE_INFO_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

extern void tfstate_check_id(const char *id);
extern bool tfstate_restamp_info(Jsonb *info, TimestampTz from, TimestampTz to);
extern Jsonb *tfstate_fill_info(Jsonb *given, const char *lockid, TimestampTz created, char **id);
extern void tfstate_check_info(Jsonb *given);
extern Jsonb *tfstate_who_info(const char *who);
extern Jsonb *tfstate_operation_info(const char *operation);
extern char *tfstate_info_get(Jsonb *info, const char *key);
extern char *tfstate_caller(void);
extern char *tfstate_actor(void);

#endif							/* TFSTATE_INFO_H */
