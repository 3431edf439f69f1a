/*-------------------------------------------------------------------------
 *
 * health.h
 *	  GET /healthz: can requests be answered?
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_HEALTH_H
#define TFSTATE_HTTP_HEALTH_H

#include "http/request.h"

extern void health_answer(Request *request);

#endif							/* TFSTATE_HTTP_HEALTH_H */
