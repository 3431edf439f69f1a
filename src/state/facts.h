/*-------------------------------------------------------------------------
 *
 * facts.h
 *	  What is read from the text of a Terraform state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_FACTS_H
#define TFSTATE_FACTS_H

/* How much of a text is looked at first when only its head is wanted. */
#define TFSTATE_HEAD_BYTES	4096

typedef struct StateFacts
{
	bool		valid;			/* is it a JSON object? */
	bool		is_object;		/* does it begin like one? */
	bool		has_serial;		/* an integer from 0 to 2^63 - 1? */
	int64		serial;
	const char *serial_start;	/* where it stands in the text; NULL if
								 * nowhere */
	const char *serial_end;
	char	   *lineage;		/* NULL if there is none */
	char	   *terraform_version;	/* NULL if there is none */
	bool		encrypted;		/* by OpenTofu */
	bool		has_resources;	/* any, be it without instances, or in modules
								 * as before Terraform 0.12? */
	int			resources;		/* instances of resources */
	int			outputs;
} StateFacts;

extern void tfstate_read_facts(const char *text, int len, StateFacts *facts);
extern bool tfstate_read_head(const char *text, int len, StateFacts *facts);

#endif							/* TFSTATE_FACTS_H */
