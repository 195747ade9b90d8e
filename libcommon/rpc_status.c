/* SPDX-License-Identifier: MIT */
#include "libcommon/rpc_status.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <grpc/status.h>

#include "libcommon/rpc.h"

static int errno_of_status(int status)
{
    switch (status) {
    case GRPC_STATUS_NOT_FOUND:
        return ENOENT;
    case GRPC_STATUS_ALREADY_EXISTS:
        return EEXIST;
    case GRPC_STATUS_UNAVAILABLE:
        return EAGAIN;
    case GRPC_STATUS_UNIMPLEMENTED:
        return ENOSYS;
    case GRPC_STATUS_FAILED_PRECONDITION:
        return EBUSY;
    case GRPC_STATUS_PERMISSION_DENIED:
        return EACCES;
    case GRPC_STATUS_INVALID_ARGUMENT:
        return EINVAL;
    default:
        return EIO;
    }
}

static bool has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* C core wraps what the system said in the names of all its layers. */
static int connect_error(
    const struct wfe_rpc_outcome *outcome, const char *text, struct wfe_error *err)
{
    const char *cause = strrchr(text, ':');
    return wfe_error_set(err, WFE_ERROR_CONTAINERD, EAGAIN, "%s: cannot connect to %s%s",
        outcome->method, outcome->target, cause ? cause : "");
}

static int describe(const struct wfe_rpc_outcome *outcome, const char *text, struct wfe_error *err)
{
    const char *method = outcome->method;
    switch (outcome->status) {
    case GRPC_STATUS_CANCELLED:
        if (outcome->cancelled)
            return wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "%s: cancelled", method);
        break;
    case GRPC_STATUS_DEADLINE_EXCEEDED:
        if (outcome->timeout_ms > 0)
            return wfe_error_set(err, WFE_ERROR_TIMEOUT, ETIMEDOUT, "%s: not done within %lld ms",
                method, (long long)outcome->timeout_ms);
        return wfe_error_set(err, WFE_ERROR_TIMEOUT, ETIMEDOUT, "%s: %s", method, text);
    case GRPC_STATUS_RESOURCE_EXHAUSTED:
        /* C core's words for a limit of ours; a daemon's limit has others. */
        if (has_prefix(text, "Received message larger than max"))
            return wfe_error_set(err, WFE_ERROR_LIMIT, EMSGSIZE,
                "%s: the reply is larger than %d bytes", method, WFE_RPC_MESSAGE_MAX_BYTES);
        break;
    case GRPC_STATUS_UNAVAILABLE:
        if (has_prefix(text, "failed to connect"))
            return connect_error(outcome, text, err);
        break;
    default:
        break;
    }
    return wfe_error_set(
        err, WFE_ERROR_CONTAINERD, errno_of_status(outcome->status), "%s: %s", method, text);
}

int wfe_rpc_status_error(const struct wfe_rpc_outcome *outcome, struct wfe_error *err)
{
    assert(outcome->status != GRPC_STATUS_OK);
    char text[sizeof err->message];
    if (outcome->text_length == 0)
        snprintf(text, sizeof text, "gRPC status %d without a text", outcome->status);
    else
        snprintf(text, sizeof text, "%.*s", (int)outcome->text_length, outcome->text);
    int r = describe(outcome, text, err);
    if (err)
        err->grpc_status = outcome->status;
    return r;
}
