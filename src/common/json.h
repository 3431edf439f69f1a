/*-------------------------------------------------------------------------
 *
 * json.h
 *	  Reading the outer levels of a JSON text as a stream.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_JSON_H
#define TFSTATE_JSON_H

#include "common/jsonapi.h"

/* The deepest level whose keys can be asked for. */
#define JSON_STREAM_DEPTH	8

typedef struct JsonStream
{
	/*
	 * Set by the caller.  Containers (objects and arrays) have the depths 1,
	 * 2 and so on.  start and end are called for all of them, scalar and the
	 * keys are there down to max_depth, which start and end may change: what
	 * they leave is valid for what follows.
	 */
	int			max_depth;
	void		(*start) (struct JsonStream *stream);
	void		(*end) (struct JsonStream *stream);
	void		(*scalar) (struct JsonStream *stream, const char *value,
						   JsonTokenType type);
	void	   *arg;			/* the caller's own */

	/*
	 * What the callbacks find.  The value that is being read in the container
	 * of depth d has the key keys[d]; in an array that is NULL.
	 */
	int			depth;			/* of the innermost container that is open */
	char	   *keys[JSON_STREAM_DEPTH + 1];
	const char *starts[JSON_STREAM_DEPTH + 1];	/* of the open containers */
	const char *value_start;	/* of the value under the last key */
	const char *position;		/* in scalar and end: behind what was read */
} JsonStream;

extern bool tfstate_read_json(const char *text, int len, JsonStream *stream);

#endif							/* TFSTATE_JSON_H */
