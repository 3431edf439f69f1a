/*-------------------------------------------------------------------------
 *
 * facts.h
 *	  Reading the text of a Terraform state: what it is, and how much it has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_FACTS_H
#define TFSTATE_FACTS_H

/* How much of a text tfstate_read_head() reads. */
#define TFSTATE_HEAD_BYTES	4096

typedef struct StateFacts
{
	bool		valid;			/* it is a JSON object */
	bool		is_object;		/* it begins like one */
	bool		has_serial;		/* it has one from 0 to 2^63 - 1 */
	int64		serial;
	const char *serial_start;	/* its place in the text; NULL for none */
	const char *serial_end;
	char	   *lineage;		/* NULL if there is none */
	char	   *terraform_version;	/* NULL if there is none */
	bool		encrypted;		/* by OpenTofu */
	bool		has_resources;	/* any, even without instances, or in modules
								 * as before Terraform 0.12 */
	int			resources;		/* the number of instances of resources */
	int			outputs;
} StateFacts;

extern void tfstate_read_facts(const char *text, int len, StateFacts *facts);
extern bool tfstate_read_head(const char *text, int len, StateFacts *facts);

#endif							/* TFSTATE_FACTS_H */
