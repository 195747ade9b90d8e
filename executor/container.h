/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_CONTAINER_H
#define WFE_EXECUTOR_CONTAINER_H

/* Container records: what containerd knows of a step's container besides its task. */

#include <cjson/cJSON.h>

#include "executor/connect.h"

/* Label with the step's name, for whoever looks at the daemon. */
#define WFE_CONTAINER_STEP_LABEL "wfe.step"

struct wfe_container_options {
    const char *id;    /* also the key of its snapshot */
    const char *image; /* name in the image store */
    const char *step_name;
    const cJSON *spec; /* OCI runtime spec */
};

/* Create the record, labelled with its owner. Errors: WFE_ERROR_CONTAINERD, WFE_ERROR_SYSTEM. */
int wfe_container_create(const struct wfe_session *session,
    const struct wfe_container_options *options, struct wfe_error *err);

/* Delete it; one that is gone already is success. Never cancelled by the session's token. */
int wfe_container_delete(
    const struct wfe_session *session, const char *id, int64_t timeout_ms, struct wfe_error *err);

#endif
