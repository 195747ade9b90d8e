/* SPDX-License-Identifier: MIT */
#include "executor/reclaim.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "containers.pb-c.h"
#include "executor/daemon/cgroup.h"
#include "executor/daemon/container.h"
#include "executor/input/input_mount.h"
#include "executor/daemon/labels.h"
#include "executor/daemon/lease.h"
#include "executor/network/network.h"
#include "executor/owner.h"
#include "executor/daemon/shim.h"
#include "executor/daemon/snapshot.h"
#include "executor/daemon/task.h"
#include "leases.pb-c.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/log.h"

#define OWNED_FILTER "labels.\"" WFE_OWNER_LABEL "\""
#define UNDO_TIMEOUT_MS 30000

/* A daemon gives up on a task that it can't make 5 s after its client is gone. */
#define SETTLE_MS 10000
#define PLUGIN_WAIT_MS 100
#define SETTLE_SLACK_MS 1000 /* its times are whole seconds to us */

struct reclaiming {
    struct wfe_reclaim_report report;
    atomic_bool stop;
};

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

/* Of its output and of its mounted inputs. */
static void remove_directories(const char *id)
{
    const char *const bases[] = {getenv("WFE_IO_DIR"), getenv("TMPDIR"), "/tmp"};
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        WFE_FREE char *path = NULL;
        if (!bases[i] || !*bases[i])
            continue;
        if (asprintf(&path, "%s/wfe-io-%s", bases[i], id) < 0)
            path = NULL;
        else
            wfe_remove_tree(path);
        wfe_input_mount_reclaim(bases[i], id);
    }
}

/* -EBUSY, without err: the daemon may be making its task at this moment. */
static int reclaim_step(
    const struct wfe_session *session, const char *id, bool is_settled, struct wfe_error *err)
{
    bool had_task;
    int r = wfe_task_delete(session, id, &had_task, err);
    if (r == 0 && !had_task) {
        if (!is_settled)
            return -EBUSY;
        wfe_shim_end(session->namespace_, id);
        wfe_cgroup_end(session->namespace_, id);
    }
    /* Before the record by which they are found, since this executor may be killed as well. */
    if (r == 0)
        remove_directories(id);
    if (r == 0)
        r = wfe_container_delete(session, id, UNDO_TIMEOUT_MS, err);
    if (r == 0)
        r = wfe_snapshot_remove(session, id, UNDO_TIMEOUT_MS, err);
    if (r == 0)
        r = wfe_lease_delete(session, id, true, UNDO_TIMEOUT_MS, err);
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

/* How long until a container is SETTLE_MS old; by our clock, so never more than that. */
static int64_t unsettled_ms(const Containers__Container *container)
{
    if (!container->created_at)
        return SETTLE_MS;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t left_ms = (container->created_at->seconds - now.tv_sec) * 1000 + SETTLE_MS;
    return left_ms < 0 ? 0 : left_ms > SETTLE_MS ? SETTLE_MS : left_ms;
}

/* One run over all containers; *ret_wait_ms: when those that were left for their youth have
 * settled. */
static int reclaim_containers(const struct wfe_session *session, const Leases__ListResponse *leases,
    struct reclaiming *reclaiming, int64_t *ret_wait_ms, struct wfe_error *err)
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
    while (r == 0 && !atomic_load(&reclaiming->stop)) {
        WFE_MESSAGE ProtobufCMessage *message = NULL;
        r = wfe_rpc_receive(call, -1, &message, err);
        if (!message)
            break;
        const Containers__Container *container =
            ((Containers__ListContainerMessage *)message)->container;
        if (!container || !is_left_behind(container->labels, container->n_labels,
                              has_lease(leases, container->id)))
            continue;
        int64_t wait_ms = unsettled_ms(container);
        struct wfe_error failure = WFE_ERROR_INIT;
        int reclaimed = reclaim_step(session, container->id, wait_ms == 0, &failure);
        if (reclaimed != -EBUSY)
            count(
                &reclaiming->report, &reclaiming->report.steps, container->id, reclaimed, &failure);
        else if (wait_ms > *ret_wait_ms)
            *ret_wait_ms = wait_ms;
    }
    return r;
}

/* Leases whose steps have no container: their owners died before they had one. */
static int reclaim_leases(
    const struct wfe_session *session, struct reclaiming *reclaiming, struct wfe_error *err)
{
    WFE_MESSAGE Leases__ListResponse *leases = NULL;
    int r = list_leases(session, &leases, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < leases->n_leases && !atomic_load(&reclaiming->stop); i++) {
        const Leases__Lease *lease = leases->leases[i];
        if (!is_left_behind(lease->labels, lease->n_labels, true))
            continue;
        struct wfe_error failure = WFE_ERROR_INIT;
        int deleted = wfe_lease_delete(session, lease->id, true, UNDO_TIMEOUT_MS, &failure);
        count(&reclaiming->report, &reclaiming->report.leases, lease->id, deleted, &failure);
    }
    return 0;
}

/* Those of any daemon and namespace: they are this machine's. */
static int reclaim_networks(
    struct reclaiming *reclaiming, int64_t *ret_wait_ms, struct wfe_error *err)
{
    struct wfe_network_report report;
    int r = wfe_network_reclaim(&report, err);
    if (r < 0)
        return r;
    reclaiming->report.networks += report.reclaimed;
    reclaiming->report.failed += report.failed;
    *ret_wait_ms = report.busy ? PLUGIN_WAIT_MS : 0;
    return 0;
}

static bool has_orphans(const Leases__ListResponse *leases)
{
    for (size_t i = 0; i < leases->n_leases; i++)
        if (is_left_behind(leases->leases[i]->labels, leases->leases[i]->n_labels, true))
            return true;
    return false;
}

static int reclaim(const struct wfe_session *session, struct reclaiming *reclaiming,
    int64_t *ret_wait_ms, struct wfe_error *err)
{
    WFE_MESSAGE Leases__ListResponse *leases = NULL;
    int r = list_leases(session, &leases, err);
    if (r < 0)
        return r;
    *ret_wait_ms = 0;
    r = reclaim_containers(session, leases, reclaiming, ret_wait_ms, err);
    /* The lease of a container that was left must stay: it is what holds its snapshot. */
    if (r == 0 && *ret_wait_ms == 0 && has_orphans(leases))
        r = reclaim_leases(session, reclaiming, err);
    /* A network is there until its container has ended. */
    if (r == 0 && *ret_wait_ms == 0)
        r = reclaim_networks(reclaiming, ret_wait_ms, err);
    return r;
}

int wfe_reclaim(
    const struct wfe_session *session, struct wfe_reclaim_report *ret, struct wfe_error *err)
{
    struct reclaiming reclaiming = {0};
    for (;;) {
        int64_t wait_ms;
        int r = reclaim(session, &reclaiming, &wait_ms, err);
        if (r < 0)
            return r;
        if (wait_ms == 0)
            break;
        struct pollfd stop = {
            .fd = session->cancel ? wfe_cancel_fd(session->cancel) : -1, .events = POLLIN};
        if (poll(&stop, 1, (int)wait_ms + SETTLE_SLACK_MS) > 0)
            return wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "stopped on request");
    }
    *ret = reclaiming.report;
    return 0;
}

struct wfe_reclaimer {
    const struct wfe_session *session;
    struct reclaiming reclaiming;
    pthread_t thread;
};

static void *reclaim_beside(void *context)
{
    struct wfe_reclaimer *reclaimer = context;
    struct wfe_error err = WFE_ERROR_INIT;
    int64_t wait_ms;
    if (reclaim(reclaimer->session, &reclaimer->reclaiming, &wait_ms, &err) < 0)
        wfe_log(WFE_LOG_DEBUG, "gc", "%s", err.message);
    return NULL;
}

struct wfe_reclaimer *wfe_reclaimer_start(const struct wfe_session *session)
{
    struct wfe_reclaimer *reclaimer = calloc(1, sizeof *reclaimer);
    if (!reclaimer)
        return NULL;
    reclaimer->session = session;
    if (pthread_create(&reclaimer->thread, NULL, reclaim_beside, reclaimer) != 0) {
        free(reclaimer);
        return NULL;
    }
    return reclaimer;
}

void wfe_reclaimer_stop(struct wfe_reclaimer *reclaimer)
{
    if (!reclaimer)
        return;
    atomic_store(&reclaimer->reclaiming.stop, true);
    pthread_join(reclaimer->thread, NULL);
    free(reclaimer);
}
