/*-------------------------------------------------------------------------
 *
 * metrics.h
 *	  GET /metrics: tfstate_metrics as Prometheus reads it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TFSTATE_HTTP_METRICS_H
#define TFSTATE_HTTP_METRICS_H

#include "http/request.h"

extern DbStatus metrics_answer(Request *request, Db *db);

#endif							/* TFSTATE_HTTP_METRICS_H */
