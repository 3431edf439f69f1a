/*-------------------------------------------------------------------------
 *
 * run.h
 *	  The name of the run that a session belongs to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_RUN_H
#define TFSTATE_RUN_H

extern char *tfstate_run_id;	/* the parameter tfstate.run_id */

extern const char *tfstate_my_run(void);
extern void tfstate_check_run_name(void);
extern void tfstate_require_run(void);

#endif							/* TFSTATE_RUN_H */
