/*-------------------------------------------------------------------------
 *
 * commands.h
 *	  The subcommands.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_COMMANDS_H
#define TFSTATE_COMMANDS_H

#include "client.h"

extern const Command run_command;	/* run.c */
extern const Command import_command;	/* import.c */
extern const Command serve_command; /* http.c */
extern const Command terraform_command; /* terraform.c */
extern const Command tofu_command;
extern const Command watch_command; /* watch.c */

/* list.c: what shows something */
extern const Command list_commands[];
extern const int num_list_commands;

/* act.c: what changes something */
extern const Command act_commands[];
extern const int num_act_commands;

#endif							/* TFSTATE_COMMANDS_H */
