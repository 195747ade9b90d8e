/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_CONTAINER_H
#define WFE_EXECUTOR_CONTAINER_H

/* Container records: what containerd knows of a step's container besides its task. */

#include <cjson/cJSON.h>

#include "executor/daemon/connect.h"
#include "executor/daemon/labels.h"

/* Label with the step's name, for whoever looks at the daemon. */
#define WFE_CONTAINER_STEP_LABEL "wfe.step"

struct wfe_container_options {
    const char *id;    /* also the key of its snapshot */
    const char *image; /* name in the image store */
    const char *step_name;
    const cJSON *spec;              /* OCI runtime spec */
    const struct wfe_label *labels; /* more of them; views until the request is out */
    size_t label_count;
};

/*
 * Ask for the record, labelled with its owner; the answer is taken from *ret_call (caller frees) by
 * wfe_container_create_finish(), so that the snapshot can be made meanwhile. Errors of both:
 * WFE_ERROR_CONTAINERD, WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL.
 */
int wfe_container_create_start(const struct wfe_session *session,
    const struct wfe_container_options *options, struct wfe_rpc_call **ret_call,
    struct wfe_error *err);
int wfe_container_create_finish(struct wfe_rpc_call *call, struct wfe_error *err);

/* The value of a label (allocated); *ret is NULL when the container has none of that name.
 * *ret_exists: whether there is such a container. Errors: WFE_ERROR_CONTAINERD. */
int wfe_container_label(const struct wfe_session *session, const char *id, const char *key,
    bool *ret_exists, char **ret, struct wfe_error *err);

/* Take the owner's label away, so that the container outlives its executor; `labels` are what it
 * has from now on. Errors: WFE_ERROR_CONTAINERD. */
int wfe_container_disown(const struct wfe_session *session, const char *id,
    const struct wfe_label *labels, size_t label_count, struct wfe_error *err);

/* Delete it; one that is gone already is success. Never cancelled by the session's token. */
int wfe_container_delete(
    const struct wfe_session *session, const char *id, int64_t timeout_ms, struct wfe_error *err);
/* Only ask for it: wfe_session_undo_finish() has the answer. */
int wfe_container_delete_start(const struct wfe_session *session, const char *id,
    int64_t timeout_ms, struct wfe_rpc_call **ret_call, struct wfe_error *err);

#endif
