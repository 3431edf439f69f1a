/*-------------------------------------------------------------------------
 *
 * duration.h
 *	  Durations on the command line.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_DURATION_H
#define TFSTATE_DURATION_H

#define DURATION_EXAMPLES "use 90, 90s, 1m30s or 2h, for example"

extern bool read_duration(const char *text, int64_t *ms);

#endif							/* TFSTATE_DURATION_H */
