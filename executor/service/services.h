/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_SERVICES_H
#define WFE_EXECUTOR_SERVICES_H

/*
 * A workflow's services: containers wfe-svc-SERVICE-WORKFLOW on the network of the daemon's host,
 * where the steps find them at 127.0.0.1, or on the workflow's bridge (executor/network/network.h),
 * where they have an address and their name.
 *
 * All of them are started, then each is probed until it is ready; when one fails, or dies
 * meanwhile, all are undone. Each has its lease and snapshot under its container's id, and its
 * output in BASE/wfe-io-ID/log (executor/service/service_log.h). They belong to this process, and
 * are reclaimed when it dies (executor/reclaim.h), unless they were disowned.
 *
 * A probe of the kind tcp or http comes from here, so it needs a daemon on this machine.
 */

#include <cjson/cJSON.h>

#include "executor/daemon/connect.h"
#include "executor/image/pull.h"
#include "executor/step/step.h"

struct wfe_services_options {
    const struct wfe_session
        *session; /* outlives the services; wfe_sharing_find() has been called */
    const struct wfe_service *services;
    size_t count;
    const char *workflow_id;
    struct wfe_pull_options pull; /* its progress is all of theirs, and may be NULL */
};

struct wfe_services;

/*
 * Bring all up, and wait until they are ready. Errors: WFE_ERROR_INPUT (an id that no container may
 * have; one is up already; a probe or a bridge that can't be made), WFE_ERROR_TIMEOUT (not ready in
 * time), WFE_ERROR_CONTAINERD (the daemon, or a service that ended), WFE_ERROR_SYSTEM,
 * WFE_ERROR_CANCELLED, WFE_ERROR_INTERNAL. Nothing of them is left then.
 */
int wfe_services_up(
    const struct wfe_services_options *options, struct wfe_services **ret, struct wfe_error *err);

/* What workflow data get, see executor/service/service_data.h. NULL when memory ran out; the caller
 * deletes. */
cJSON *wfe_services_data(const struct wfe_services *services);

/* Let them outlive this process, and free the handle on success. Errors: WFE_ERROR_CONTAINERD. */
int wfe_services_disown(struct wfe_services *services, struct wfe_error *err);

/* From now on the session's token is triggered when one of them ends. */
int wfe_services_watch(struct wfe_services *services, struct wfe_error *err);
/* Whether one has ended: err says which, how, and its last words. */
bool wfe_services_ended(struct wfe_services *services, struct wfe_error *err);

/* End and remove them, and free the handle; NULL is fine. What can't be removed is logged. */
void wfe_services_down(struct wfe_services *services);

/* Remove services by their names, whoever has brought them up; what is not there is fine. Errors:
 * WFE_ERROR_INPUT, WFE_ERROR_CONTAINERD; the others are removed all the same. */
int wfe_services_remove(const struct wfe_services_options *options, struct wfe_error *err);

/* "wfe-svc-SERVICE-WORKFLOW". -EINVAL when no container may be called that (containerd: 76 bytes of
 * letters and digits, with single '.', '_' or '-' between them). */
#define WFE_SERVICE_ID_MAX 77
int wfe_service_id(
    const char *service, const char *workflow_id, char id[static WFE_SERVICE_ID_MAX]);

#endif
