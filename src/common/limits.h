/*-------------------------------------------------------------------------
 *
 * limits.h
 *	  The limits on the lengths of texts and times.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_LIMITS_H
#define TFSTATE_LIMITS_H

#include "datatype/timestamp.h"

/* The longest texts, in bytes. */
#define TFSTATE_MAX_LOCKID	1024
#define TFSTATE_MAX_ID		256
#define TFSTATE_MAX_INFO	8192
#define TFSTATE_MAX_REASON	1024

/* The longest wait and ttl, in microseconds: a year. */
#define TFSTATE_MAX_USECS	(INT64CONST(365) * USECS_PER_DAY)

#endif							/* TFSTATE_LIMITS_H */
