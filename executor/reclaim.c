/* SPDX-License-Identifier: MIT */
#include "executor/reclaim.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

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
#include "executor/daemon/task_io.h"
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

/* When this machine was booted, by the daemon's clock, which is ours. */
static bool is_older_than_boot(const Google__Protobuf__Timestamp *created_at)
{
    struct timespec now, since;
    clock_gettime(CLOCK_REALTIME, &now);
    clock_gettime(CLOCK_BOOTTIME, &since);
    return created_at && created_at->seconds < now.tv_sec - since.tv_sec;
}

enum verdict { LIVES, LEFT_BEHIND, BY_ITS_LEASE };

/* labels of any message: see labels.h. */
static enum verdict judge(const struct wfe_session *session, void *labels, size_t count,
    const Google__Protobuf__Timestamp *created_at)
{
    const char *owner = wfe_label_find(labels, count, WFE_OWNER_LABEL);
    if (!owner)
        return LIVES;
    switch (wfe_owner_judge(owner)) {
    case WFE_OWNER_ALIVE:
        return LIVES;
    case WFE_OWNER_DEAD:
        return LEFT_BEHIND;
    case WFE_OWNER_OTHER_BOOT:
        return session->local && is_older_than_boot(created_at) ? LEFT_BEHIND : BY_ITS_LEASE;
    case WFE_OWNER_UNKNOWN:
        break;
    }
    return BY_ITS_LEASE;
}

/* The lease is asked for now: it was there before its container was. */
static bool is_left_behind(
    const struct wfe_session *session, const Containers__Container *container)
{
    bool alive = true;
    struct wfe_error err = WFE_ERROR_INIT;
    switch (judge(session, container->labels, container->n_labels, container->created_at)) {
    case LIVES:
        return false;
    case LEFT_BEHIND:
        return true;
    case BY_ITS_LEASE:
        break;
    }
    if (wfe_lease_is_alive(session, container->id, &alive, &err) < 0)
        wfe_log(WFE_LOG_WARN, "gc", "%s: %s", container->id, err.message);
    return !alive;
}

static bool is_lease_left_behind(const struct wfe_session *session, const Leases__Lease *lease)
{
    switch (judge(session, lease->labels, lease->n_labels, lease->created_at)) {
    case LIVES:
        return false;
    case LEFT_BEHIND:
        return true;
    case BY_ITS_LEASE:
        break;
    }
    return wfe_lease_has_run_out(lease->labels, lease->n_labels);
}

/* Of its output and of its mounted inputs. */
static void remove_directories(const char *id)
{
    /* A lease may be called anything. */
    if (strchr(id, '/'))
        return;
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
static int reclaim_step(const struct wfe_session *session, const char *id, bool is_settled,
    struct wfe_reclaim_report *report, struct wfe_error *err)
{
    bool had_task, had_network = false;
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
    if (r == 0 && session->local)
        r = wfe_network_remove(id, &had_network, err);
    report->networks += had_network;
    if (r == 0)
        r = wfe_container_delete(session, id, UNDO_TIMEOUT_MS, err);
    if (r == 0)
        r = wfe_snapshot_remove(session, id, UNDO_TIMEOUT_MS, err);
    if (r == 0)
        r = wfe_task_io_reclaim(session, id, UNDO_TIMEOUT_MS, err);
    if (r == 0)
        r = wfe_lease_delete_all(session, id, UNDO_TIMEOUT_MS, err);
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

/* How long until something is SETTLE_MS old; by our clock, so never more than that. */
static int64_t unsettled_ms(const Google__Protobuf__Timestamp *created_at)
{
    if (!created_at)
        return SETTLE_MS;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t left_ms = (created_at->seconds - now.tv_sec) * 1000 + SETTLE_MS;
    return left_ms < 0 ? 0 : left_ms > SETTLE_MS ? SETTLE_MS : left_ms;
}

/* One run over all containers; *ret_wait_ms: when those that were left for their youth have
 * settled. */
static int reclaim_containers(const struct wfe_session *session, struct reclaiming *reclaiming,
    int64_t *ret_wait_ms, struct wfe_error *err)
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
        if (!container || !is_left_behind(session, container))
            continue;
        int64_t wait_ms = unsettled_ms(container->created_at);
        struct wfe_error failure = WFE_ERROR_INIT;
        int reclaimed =
            reclaim_step(session, container->id, wait_ms == 0, &reclaiming->report, &failure);
        if (reclaimed != -EBUSY)
            count(
                &reclaiming->report, &reclaiming->report.steps, container->id, reclaimed, &failure);
        else if (wait_ms > *ret_wait_ms)
            *ret_wait_ms = wait_ms;
    }
    return r;
}

/* Leases whose steps have no container: their owners died before they had one. A request for it
 * may be under way yet, so *ret_wait_ms says when those have settled that were left for that. */
static int reclaim_leases(const struct wfe_session *session, struct reclaiming *reclaiming,
    int64_t *ret_wait_ms, struct wfe_error *err)
{
    WFE_MESSAGE Leases__ListResponse *leases = NULL;
    int r = list_leases(session, &leases, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < leases->n_leases && !atomic_load(&reclaiming->stop); i++) {
        const Leases__Lease *lease = leases->leases[i];
        if (!is_lease_left_behind(session, lease))
            continue;
        int64_t wait_ms = unsettled_ms(lease->created_at);
        if (wait_ms > 0) {
            *ret_wait_ms = wait_ms > *ret_wait_ms ? wait_ms : *ret_wait_ms;
            continue;
        }
        struct wfe_error failure = WFE_ERROR_INIT;
        remove_directories(lease->id);
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

static int reclaim(const struct wfe_session *session, struct reclaiming *reclaiming,
    int64_t *ret_wait_ms, struct wfe_error *err)
{
    *ret_wait_ms = 0;
    int r = reclaim_containers(session, reclaiming, ret_wait_ms, err);
    /* The lease of a container that was left must stay: it is what holds its snapshot. */
    if (r == 0 && *ret_wait_ms == 0)
        r = reclaim_leases(session, reclaiming, ret_wait_ms, err);
    /* A network is there until its container has ended. */
    if (r == 0 && *ret_wait_ms == 0)
        r = reclaim_networks(reclaiming, ret_wait_ms, err);
    return r;
}

/* Until nothing is left that has to settle first; stop_fd, when it is readable, ends the wait
 * (-ECANCELED, without err). */
static int reclaim_all(const struct wfe_session *session, struct reclaiming *reclaiming,
    int stop_fd, struct wfe_error *err)
{
    for (;;) {
        int64_t wait_ms;
        int r = reclaim(session, reclaiming, &wait_ms, err);
        if (r < 0 || wait_ms == 0)
            return r;
        struct pollfd stop = {.fd = stop_fd, .events = POLLIN};
        if (poll(&stop, 1, (int)wait_ms + SETTLE_SLACK_MS) > 0)
            return -ECANCELED;
    }
}

int wfe_reclaim(
    const struct wfe_session *session, struct wfe_reclaim_report *ret, struct wfe_error *err)
{
    struct reclaiming reclaiming = {0};
    int r = reclaim_all(
        session, &reclaiming, session->cancel ? wfe_cancel_fd(session->cancel) : -1, err);
    if (r == -ECANCELED)
        return wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "stopped on request");
    if (r == 0)
        *ret = reclaiming.report;
    return r;
}

struct wfe_reclaimer {
    const struct wfe_session *session;
    struct reclaiming reclaiming;
    int stop_event;
    pthread_t thread;
};

static void *reclaim_beside(void *context)
{
    struct wfe_reclaimer *reclaimer = context;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = reclaim_all(reclaimer->session, &reclaimer->reclaiming, reclaimer->stop_event, &err);
    if (r < 0 && r != -ECANCELED)
        wfe_log(WFE_LOG_DEBUG, "gc", "%s", err.message);
    return NULL;
}

struct wfe_reclaimer *wfe_reclaimer_start(const struct wfe_session *session)
{
    struct wfe_reclaimer *reclaimer = calloc(1, sizeof *reclaimer);
    if (!reclaimer)
        return NULL;
    reclaimer->session = session;
    reclaimer->stop_event = eventfd(0, EFD_CLOEXEC);
    if (reclaimer->stop_event < 0 ||
        pthread_create(&reclaimer->thread, NULL, reclaim_beside, reclaimer) != 0) {
        wfe_cleanup_close(&reclaimer->stop_event);
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
    eventfd_write(reclaimer->stop_event, 1);
    pthread_join(reclaimer->thread, NULL);
    close(reclaimer->stop_event);
    free(reclaimer);
}
