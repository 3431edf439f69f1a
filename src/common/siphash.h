/*-------------------------------------------------------------------------
 *
 * siphash.h
 *	  A hash with a secret key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SIPHASH_H
#define TFSTATE_SIPHASH_H

extern uint64 tfstate_siphash(const uint8 *key, const char *data, size_t len);

#endif							/* TFSTATE_SIPHASH_H */
