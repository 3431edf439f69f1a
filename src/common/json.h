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
	 * Set by the caller; NULL for no callback.  Containers (objects and
	 * arrays) have the depths 1, 2 and so on.  start and end are called for
	 * all of them; scalar is called, and keys are filled in, down to
	 * max_depth.  start and end may change that for what follows.
	 */
	int			max_depth;
	void		(*start) (struct JsonStream *stream);
	void		(*end) (struct JsonStream *stream);
	void		(*scalar) (struct JsonStream *stream, const char *value,
						   JsonTokenType type);
	void	   *arg;			/* for the callbacks */

	/*
	 * For the callbacks to read.  keys[d] is the key of the value that is
	 * being read in the container of depth d; NULL in an array.
	 */
	int			depth;			/* of the innermost open container */
	char	   *keys[JSON_STREAM_DEPTH + 1];
	const char *starts[JSON_STREAM_DEPTH + 1];	/* of the open containers */
	const char *value_start;	/* of the value under the last key */
	const char *position;		/* in scalar and end: the end of what was read */
} JsonStream;

extern bool tfstate_read_json(const char *text, int len, JsonStream *stream);

#endif							/* TFSTATE_JSON_H */
