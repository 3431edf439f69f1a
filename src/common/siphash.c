/*-------------------------------------------------------------------------
 *
 * siphash.c
 *	  SipHash-2-4, a hash with a secret key for short texts.
 *
 * Written after the paper: J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast
 * short-input PRF", 2012 (https://www.aumasson.jp/siphash/siphash.pdf), whose
 * test values sql/fences.sql checks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"

#include "common/compat.h"
#include "common/siphash.h"

PG_FUNCTION_INFO_V1(tfstate_siphash_bytea);

static inline uint64
rotate(uint64 x, int bits)
{
	return (x << bits) | (x >> (64 - bits));
}

/* Up to 8 bytes as a number, the first one as its lowest byte. */
static inline uint64
little_endian(const uint8 *p, size_t len)
{
	uint64		result = 0;

	for (size_t i = 0; i < len; i++)
		result |= (uint64) p[i] << (8 * i);
	return result;
}

static inline void
rounds(uint64 *v, int n)
{
	while (n-- > 0)
	{
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] = rotate(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[2] = rotate(v[2], 32);
	}
}

static inline void
add_word(uint64 *v, uint64 word)
{
	v[3] ^= word;
	rounds(v, 2);
	v[0] ^= word;
}

/*
 * The SipHash-2-4 of len bytes of data, under a key of 16 bytes.
 */
uint64
tfstate_siphash(const uint8 *key, const char *data, size_t len)
{
	const uint8 *p = (const uint8 *) data;
	uint64		k0 = little_endian(key, 8);
	uint64		k1 = little_endian(key + 8, 8);
	uint64		v[4];
	size_t		left = len;

	v[0] = k0 ^ UINT64CONST(0x736f6d6570736575);
	v[1] = k1 ^ UINT64CONST(0x646f72616e646f6d);
	v[2] = k0 ^ UINT64CONST(0x6c7967656e657261);
	v[3] = k1 ^ UINT64CONST(0x7465646279746573);
	for (; left >= 8; left -= 8, p += 8)
		add_word(v, little_endian(p, 8));
	add_word(v, ((uint64) len << 56) | little_endian(p, left));
	v[2] ^= 0xff;
	rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/*
 * tfstate_siphash_bytea(key bytea, data bytea) returns bigint
 *
 * For tests only: they declare it, the extension does not.
 */
Datum
tfstate_siphash_bytea(PG_FUNCTION_ARGS)
{
	bytea	   *key = PG_GETARG_BYTEA_PP(0);
	bytea	   *data = PG_GETARG_BYTEA_PP(1);

	if (VARSIZE_ANY_EXHDR(key) != 16)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key must have 16 bytes")));
	PG_RETURN_INT64((int64) tfstate_siphash((const uint8 *) VARDATA_ANY(key),
											VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data)));
}
