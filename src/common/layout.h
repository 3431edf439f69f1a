/*-------------------------------------------------------------------------
 *
 * layout.h
 *	  What the extension's own tables have to look like.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_LAYOUT_H
#define TFSTATE_LAYOUT_H

#include "common/catalog.h"

extern void tfstate_look_up_relations(Oid schema, TfstateCatalog *catalog);
extern bool tfstate_is_in_catalog(const TfstateCatalog *catalog, Oid relid);
extern void tfstate_raise_misfit(const char *name, const char *difference);

#endif							/* TFSTATE_LAYOUT_H */
