/*-------------------------------------------------------------------------
 *
 * delta.h
 *	  Compression of a text against another, and digests.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_DELTA_H
#define TFSTATE_DELTA_H

extern bytea *tfstate_compress(const char *text, size_t len,
							   const char *prefix, size_t prefix_len);
extern char *tfstate_decompress(const bytea *compressed, size_t len,
								const char *prefix, size_t prefix_len);
extern bytea *tfstate_sha256(const char *text, size_t len);
extern bytea *tfstate_md5(const char *text, size_t len);

#endif							/* TFSTATE_DELTA_H */
