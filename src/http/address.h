/*-------------------------------------------------------------------------
 *
 * address.h
 *	  Which workspace an address means.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_ADDRESS_H
#define TFSTATE_HTTP_ADDRESS_H

/* All of it is allocated; NULL in an address that was not read. */
typedef struct Address
{
	char	   *schema;
	char	   *table;
	char	   *workspace;
	char	   *lockid;			/* of the workspace */
} Address;

extern bool address_of_path(const char *path, Address *address);
extern bool address_of_lockid(const char *lockid, Address *address);
extern char *address_path(const Address *address);
extern void address_free(Address *address);
extern char *percent_decode(const char *text, size_t length);
extern char *percent_encode(const char *text);
extern char *query_value(const char *uri, const char *name);

#endif							/* TFSTATE_HTTP_ADDRESS_H */
