/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_RPC_STATUS_H
#define WFE_LIBCOMMON_RPC_STATUS_H

/* How a call's bad gRPC status becomes an error; a part of the client in libcommon/rpc.h. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libcommon/error.h"

struct wfe_rpc_outcome {
    const char *method; /* "Service/Method" */
    const char *target; /* the connection's gRPC name */
    int status;         /* grpc_status_code, not GRPC_STATUS_OK */
    const char *text;   /* the status's text, without a NUL at its end */
    size_t text_length;
    int64_t timeout_ms; /* the deadline that the call had, 0 for none */
    bool cancelled;     /* we asked for its end */
};

/* Records the outcome as libcommon/rpc.h ("Errors") says. Returns the negative errno. */
int wfe_rpc_status_error(const struct wfe_rpc_outcome *outcome, struct wfe_error *err);

#endif
