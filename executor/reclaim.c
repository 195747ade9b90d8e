/* SPDX-License-Identifier: MIT */
#include "executor/reclaim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "containers.pb-c.h"
#include "executor/container.h"
#include "executor/labels.h"
#include "executor/lease.h"
#include "executor/owner.h"
#include "executor/snapshot.h"
#include "executor/task.h"
#include "leases.pb-c.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/log.h"

#define OWNED_FILTER "labels.\"" WFE_OWNER_LABEL "\""
#define UNDO_TIMEOUT_MS 30000

static int list_leases(
    const struct wfe_session *session, Leases__ListResponse **ret, struct wfe_error *err)
{
    char *filters[] = {(char *)OWNED_FILTER};
    Leases__ListRequest request = LEASES__LIST_REQUEST__INIT;
    request.filters = filters;
    request.n_filters = 1;
    struct wfe_rpc_context context = wfe_session_context(session);
    return wfe_rpc_unary(session->rpc, &context,
        (struct wfe_rpc_method){&leases__leases__descriptor, "List"}, &request.base,
        (ProtobufCMessage **)ret, err);
}

static bool has_lease(const Leases__ListResponse *leases, const char *id)
{
    for (size_t i = 0; i < leases->n_leases; i++)
        if (strcmp(leases->leases[i]->id, id) == 0)
            return true;
    return false;
}

/* labels of any message: see labels.h. */
static bool is_left_behind(void *labels, size_t count, bool lease_exists)
{
    const char *owner = wfe_label_find(labels, count, WFE_OWNER_LABEL);
    if (!owner)
        return false;
    switch (wfe_owner_judge(owner)) {
    case WFE_OWNER_ALIVE:
        return false;
    case WFE_OWNER_DEAD:
        return true;
    case WFE_OWNER_UNKNOWN:
        return !lease_exists;
    }
    return false;
}

static void remove_output_directory(const char *id)
{
    const char *const bases[] = {getenv("WFE_IO_DIR"), getenv("TMPDIR"), "/tmp"};
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        WFE_FREE char *path = NULL;
        if (bases[i] && *bases[i] && asprintf(&path, "%s/wfe-io-%s", bases[i], id) >= 0)
            wfe_remove_tree(path);
    }
}

static int reclaim_step(const struct wfe_session *session, const char *id, struct wfe_error *err)
{
    int r = wfe_task_delete(session, id, err);
    if (r == 0)
        r = wfe_container_delete(session, id, UNDO_TIMEOUT_MS, err);
    if (r == 0)
        r = wfe_snapshot_remove(session, id, UNDO_TIMEOUT_MS, err);
    if (r == 0)
        r = wfe_lease_delete(session, id, true, UNDO_TIMEOUT_MS, err);
    if (r == 0)
        remove_output_directory(id);
    return r;
}

static void count(struct wfe_reclaim_report *report, size_t *reclaimed, const char *id, int r,
    const struct wfe_error *err)
{
    if (r == 0) {
        (*reclaimed)++;
        wfe_log(WFE_LOG_INFO, "gc", "reclaimed %s", id);
    } else {
        report->failed++;
        wfe_log(WFE_LOG_WARN, "gc", "%s: %s", id, err->message);
    }
}

static int reclaim_containers(const struct wfe_session *session, const Leases__ListResponse *leases,
    struct wfe_reclaim_report *report, struct wfe_error *err)
{
    char *filters[] = {(char *)OWNED_FILTER};
    Containers__ListContainersRequest request = CONTAINERS__LIST_CONTAINERS_REQUEST__INIT;
    request.filters = filters;
    request.n_filters = 1;
    struct wfe_rpc_context context = wfe_session_context(session);
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_rpc_start(session->rpc, &context,
        (struct wfe_rpc_method){&containers__containers__descriptor, "ListStream"}, &request.base,
        &call, err);
    while (r == 0) {
        WFE_MESSAGE ProtobufCMessage *message = NULL;
        r = wfe_rpc_receive(call, -1, &message, err);
        if (!message)
            break;
        const Containers__Container *container =
            ((Containers__ListContainerMessage *)message)->container;
        if (!container || !is_left_behind(container->labels, container->n_labels,
                              has_lease(leases, container->id)))
            continue;
        struct wfe_error failure = WFE_ERROR_INIT;
        int reclaimed = reclaim_step(session, container->id, &failure);
        count(report, &report->steps, container->id, reclaimed, &failure);
    }
    return r;
}

int wfe_reclaim(
    const struct wfe_session *session, struct wfe_reclaim_report *ret, struct wfe_error *err)
{
    struct wfe_reclaim_report report = {0};
    WFE_MESSAGE Leases__ListResponse *leases = NULL;
    int r = list_leases(session, &leases, err);
    if (r < 0)
        return r;
    r = reclaim_containers(session, leases, &report, err);
    if (r < 0)
        return r;
    /* What is left now belonged to steps that died before they had a container. */
    WFE_MESSAGE Leases__ListResponse *orphans = NULL;
    r = list_leases(session, &orphans, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < orphans->n_leases; i++) {
        const Leases__Lease *lease = orphans->leases[i];
        if (!is_left_behind(lease->labels, lease->n_labels, true))
            continue;
        struct wfe_error failure = WFE_ERROR_INIT;
        int deleted = wfe_lease_delete(session, lease->id, true, UNDO_TIMEOUT_MS, &failure);
        count(&report, &report.leases, lease->id, deleted, &failure);
    }
    *ret = report;
    return 0;
}
