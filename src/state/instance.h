/*-------------------------------------------------------------------------
 *
 * instance.h
 *	  The instances of resources in the text of a Terraform state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_INSTANCE_H
#define TFSTATE_INSTANCE_H

#include "common/slice.h"

/* The members of an instance in a state; a missing one is an empty slice. */
typedef struct Instance
{
	/* of its resource */
	Slice		module;
	Slice		mode;
	Slice		type;
	Slice		name;
	Slice		provider;
	/* its own */
	Slice		object;			/* all of it */
	Slice		index_key;
	Slice		status;
	Slice		deposed;
	Slice		attributes;
	Slice		attributes_flat;
	Slice		sensitive_attributes;
} Instance;

/* Reads a state. */
typedef struct StateReader
{
	bool		encrypted;		/* by OpenTofu, so that nothing can be read */
	Slice		outputs;		/* the object of the outputs */
	SliceReader resources;		/* the next ones */
	SliceReader instances;		/* the next ones of the current resource */
	Instance	instance;		/* the last one that was read */
} StateReader;

/* The address that stands for all of an encrypted state. */
#define ENCRYPTED_ADDRESS	"(encrypted)"

extern bool tfstate_open_state(const char *text, int len, StateReader *reader);
extern bool tfstate_next_instance(StateReader *reader);
extern char *tfstate_instance_address(const Instance *instance);
extern Slice tfstate_instance_id(const Instance *instance, bool *sensitive);

#endif							/* TFSTATE_INSTANCE_H */
