/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_REGISTRY_REQUEST_H
#define WFE_EXECUTOR_REGISTRY_REQUEST_H

/*
 * The way of one GET to a registry: over its hosts, the retries, the redirects and the
 * authentication. What comes goes into a stream, which may get several answers until it is whole.
 */

#include "executor/image/http.h"
#include "executor/image/registry.h"

struct wfe_registry_stream {
    /* An answer begins: 200, or 206 when bytes were there already. */
    int (*begin)(struct wfe_registry_stream *stream, const struct wfe_http_response *response,
        struct wfe_error *err);
    int (*take)(
        struct wfe_registry_stream *stream, const void *data, size_t length, struct wfe_error *err);
    uint64_t done_bytes;  /* taken: what follows them is asked for */
    int64_t wanted_bytes; /* 0: not known */
};

struct wfe_registry_request {
    const char *kind; /* "manifests" or "blobs" */
    const char *name; /* tag or digest */
    const char *accept;
    bool resolves; /* a tag: only hosts that may resolve are asked */
    struct wfe_registry_stream *stream;
    struct wfe_cancel *cancel;
};

/* Errors: see executor/image/registry.h. */
int wfe_registry_get(struct wfe_registry *registry, const struct wfe_registry_request *request,
    struct wfe_error *err);

#endif
