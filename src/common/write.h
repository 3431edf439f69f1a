/*-------------------------------------------------------------------------
 *
 * write.h
 *	  Rows that are written without the executor.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_WRITE_H
#define TFSTATE_WRITE_H

#include "storage/itemptr.h"
#include "utils/relcache.h"

extern void tfstate_insert_row(Relation rel, Datum *values, bool *nulls, ItemPointer place);

#endif							/* TFSTATE_WRITE_H */
