/*-------------------------------------------------------------------------
 *
 * delta.c
 *	  Compression of a text against another, and digests.
 *
 * zstd compresses a text with another one as prefix: what the two have in common costs
 * next to nothing, wherever it stands.  A text that was compressed without a prefix can be
 * restored on its own.  The result is a zstd frame that carries the length of the text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <zstd.h>

#include "common/cryptohash.h"
#include "common/md5.h"
#include "common/sha2.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "state/delta.h"

/*
 * For states of 5 and of 50 MB this level was the fastest, and its results were little
 * larger than the best ones.  Matches of less than 32 bytes cost time and save nothing
 * where a text is mostly the same.
 */
#define LEVEL			1
#define MIN_LONG_MATCH	32

/*
 * The largest allowed size of a compressed text, in bytes: pg_dump writes two digits for
 * each byte, in a line that cannot be longer than MaxAllocSize.
 */
#define MAX_COMPRESSED	(MaxAllocSize / 2 - 1024 * 1024)

/* Error if zstd failed: it is out of memory, or was called wrongly. */
static void
check_zstd(size_t result)
{
	if (ZSTD_isError(result))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compress a state: %s", ZSTD_getErrorName(result))));
}

/* The logarithm of the smallest window that has room for this many bytes. */
static int
window_log(size_t size)
{
	ZSTD_bounds bounds = ZSTD_cParam_getBounds(ZSTD_c_windowLog);
	int			log = bounds.lowerBound;

	while (log < bounds.upperBound && ((size_t) 1 << log) < size)
		log++;
	return log;
}

/*
 * Compress a text, against prefix unless that is NULL.  Returns the size of the result,
 * or a zstd error.
 */
static size_t
compress_into(void *target, size_t capacity, const char *text, size_t len,
			  const char *prefix, size_t prefix_len)
{
	ZSTD_CCtx  *context = ZSTD_createCCtx();
	size_t		result;

	if (context == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	(void) ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, LEVEL);
	if (prefix)
	{
		(void) ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log(len + prefix_len));
		(void) ZSTD_CCtx_setParameter(context, ZSTD_c_enableLongDistanceMatching, 1);
		(void) ZSTD_CCtx_setParameter(context, ZSTD_c_ldmMinMatch, MIN_LONG_MATCH);
		(void) ZSTD_CCtx_refPrefix(context, prefix, prefix_len);
	}
	result = ZSTD_compress2(context, target, capacity, text, len);
	ZSTD_freeCCtx(context);
	return result;
}

/*
 * Compress a text, against prefix unless that is NULL.  Lengths are in bytes.
 *
 * Errors: out of memory; the result has more than MAX_COMPRESSED bytes.
 */
bytea *
tfstate_compress(const char *text, size_t len, const char *prefix, size_t prefix_len)
{
	size_t		capacity = ZSTD_compressBound(len);
	bytea	   *result = MemoryContextAllocHuge(CurrentMemoryContext, VARHDRSZ + capacity);
	size_t		size = compress_into(VARDATA(result), capacity, text, len,
									 prefix, prefix_len);

	check_zstd(size);
	if (size > MAX_COMPRESSED)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("state is too large to be kept as a version: it has %zu bytes when compressed, and %zu are allowed",
						size, (size_t) MAX_COMPRESSED)));
	SET_VARSIZE(result, VARHDRSZ + size);
	return result;
}

/*
 * Restore a text of len bytes that was compressed against prefix, NULL for none.  The
 * result is palloc'd, and a zero byte follows it.  Returns NULL if that fails, because the
 * compressed text or the prefix is damaged.
 */
char *
tfstate_decompress(const bytea *compressed, size_t len, const char *prefix, size_t prefix_len)
{
	const char *source = VARDATA_ANY(compressed);
	size_t		size = VARSIZE_ANY_EXHDR(compressed);
	ZSTD_DCtx  *context;
	size_t		result;
	char	   *restored;

	if (len >= MaxAllocSize || ZSTD_getFrameContentSize(source, size) != len)
		return NULL;
	restored = palloc(len + 1);

	context = ZSTD_createDCtx();
	if (context == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	(void) ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax,
								  ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).upperBound);
	if (prefix)
		(void) ZSTD_DCtx_refPrefix(context, prefix, prefix_len);
	result = ZSTD_decompressDCtx(context, restored, len, source, size);
	ZSTD_freeDCtx(context);
	if (result != len)
	{
		pfree(restored);
		return NULL;
	}
	restored[len] = '\0';
	return restored;
}

/*
 * Compute a digest of a text.  Returns false where the server's cryptographic library
 * does not offer it, as with MD5 in FIPS mode.
 */
static bool
digest(pg_cryptohash_type type, const char *text, size_t len, uint8 *result, size_t size)
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(type);
	bool		done = context && pg_cryptohash_init(context) >= 0 &&
		pg_cryptohash_update(context, (const uint8 *) text, len) >= 0 &&
		pg_cryptohash_final(context, result, size) >= 0;

	pg_cryptohash_free(context);
	return done;
}

static bytea *
digest_bytea(pg_cryptohash_type type, const char *text, size_t len, size_t size)
{
	bytea	   *result = palloc(VARHDRSZ + size);

	SET_VARSIZE(result, VARHDRSZ + size);
	if (!digest(type, text, len, (uint8 *) VARDATA(result), size))
		return NULL;
	return result;
}

/*
 * The SHA-256 digest of a text of len bytes.
 */
bytea *
tfstate_sha256(const char *text, size_t len)
{
	bytea	   *result = digest_bytea(PG_SHA256, text, len, PG_SHA256_DIGEST_LENGTH);

	if (result == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute %s hash", "SHA-256")));
	return result;
}

/*
 * The MD5 digest of a text of len bytes; NULL where the server does not offer MD5.
 */
bytea *
tfstate_md5(const char *text, size_t len)
{
	return digest_bytea(PG_MD5, text, len, MD5_DIGEST_LENGTH);
}
