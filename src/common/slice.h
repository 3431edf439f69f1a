/*-------------------------------------------------------------------------
 *
 * slice.h
 *	  Values inside a JSON text that is known to be valid.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_SLICE_H
#define TFSTATE_SLICE_H

#include "lib/stringinfo.h"

/* A value, as a part of the text: nothing is copied. */
typedef struct Slice
{
	const char *start;			/* its first byte; NULL if there is no value */
	const char *end;			/* after its last byte */
} Slice;

/* Reads the members of an object, or the elements of an array. */
typedef struct SliceReader
{
	const char *position;		/* of what is read next; NULL at the end */
	bool		is_object;
	Slice		key;			/* read last; no key in an array */
	Slice		value;
} SliceReader;

extern bool tfstate_json_object(const char *json, int len, Slice *object);
extern SliceReader tfstate_slice_members(Slice object);
extern SliceReader tfstate_slice_elements(Slice array);
extern bool tfstate_slice_next(SliceReader *reader);
extern bool tfstate_slice_is(Slice value, const char *string);
extern char *tfstate_slice_string(Slice value);
extern char *tfstate_slice_scalar(Slice value);
extern char *tfstate_slice_json(Slice value);
extern void tfstate_slice_squeeze(StringInfo buf, Slice value);

#endif							/* TFSTATE_SLICE_H */
