/*-------------------------------------------------------------------------
 *
 * log.h
 *	  What is logged while requests are answered.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_LOG_H
#define TFSTATE_HTTP_LOG_H

extern void log_line(char *line, size_t length);

#endif							/* TFSTATE_HTTP_LOG_H */
