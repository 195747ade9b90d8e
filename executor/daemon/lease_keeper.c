/* SPDX-License-Identifier: MIT */
#include "executor/daemon/lease_keeper.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "executor/daemon/lease.h"
#include "libcommon/cleanup.h"
#include "libcommon/log.h"

#define UNDO_TIMEOUT_MS 30000

struct wfe_lease_keeper {
    const struct wfe_session *session;
    const char *ids[2];
    char *renewed_id;
    int current; /* of ids: the one that holds now */
    int64_t pause_ms;
    int stop_event;
    pthread_t thread;
};

static void delete_lease(const struct wfe_lease_keeper *keeper, int which)
{
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_lease_delete(keeper->session, keeper->ids[which], false, UNDO_TIMEOUT_MS, &err) < 0)
        wfe_log(WFE_LOG_WARN, "lease", "the old one is left behind for now: %s", err.message);
}

/* One that is left of an earlier turn would run out as it was. */
static void renew(struct wfe_lease_keeper *keeper)
{
    int next = !keeper->current;
    struct wfe_error err = WFE_ERROR_INIT;
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    delete_lease(keeper, next);
    int r = wfe_lease_create_start(keeper->session, keeper->ids[next], &call, &err);
    if (r == 0)
        r = wfe_lease_create_finish(call, &err);
    if (r < 0) {
        wfe_log(WFE_LOG_WARN, "lease", "it could not be renewed: %s", err.message);
        return;
    }
    delete_lease(keeper, keeper->current);
    keeper->current = next;
}

static void *keep(void *context)
{
    struct wfe_lease_keeper *keeper = context;
    struct pollfd stop = {.fd = keeper->stop_event, .events = POLLIN};
    for (;;) {
        int n = poll(&stop, 1, (int)keeper->pause_ms);
        if (n > 0)
            return NULL;
        if (n == 0)
            renew(keeper);
    }
}

static void done(struct wfe_lease_keeper *keeper)
{
    wfe_cleanup_close(&keeper->stop_event);
    free(keeper->renewed_id);
    free(keeper);
}

static int start(struct wfe_lease_keeper *keeper, const char *id, struct wfe_error *err)
{
    int64_t duration_ms;
    int r = wfe_lease_duration(&duration_ms, err);
    if (r < 0)
        return r;
    int64_t pause_ms = duration_ms / 3;
    keeper->pause_ms = pause_ms < INT32_MAX ? pause_ms : INT32_MAX;
    keeper->renewed_id = wfe_lease_renewed_id(id);
    if (!keeper->renewed_id)
        return wfe_error_nomem(err);
    keeper->ids[0] = id;
    keeper->ids[1] = keeper->renewed_id;
    keeper->stop_event = eventfd(0, EFD_CLOEXEC);
    if (keeper->stop_event < 0)
        return wfe_error_system(err, errno, "eventfd");
    r = pthread_create(&keeper->thread, NULL, keep, keeper);
    return r != 0 ? wfe_error_system(err, r, "start a thread") : 0;
}

struct wfe_lease_keeper *wfe_lease_keep(const struct wfe_session *session, const char *id)
{
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_lease_keeper *keeper = calloc(1, sizeof *keeper);
    int r = -ENOMEM;
    if (keeper) {
        *keeper = (struct wfe_lease_keeper){.session = session, .stop_event = -1};
        r = start(keeper, id, &err);
    }
    if (r == 0)
        return keeper;
    wfe_log(WFE_LOG_WARN, "lease", "it will not be renewed: %s",
        err.kind == WFE_ERROR_NONE ? strerror(-r) : err.message);
    if (keeper)
        done(keeper);
    return NULL;
}

void wfe_lease_keeper_stop(struct wfe_lease_keeper *keeper)
{
    if (!keeper)
        return;
    eventfd_write(keeper->stop_event, 1);
    pthread_join(keeper->thread, NULL);
    if (keeper->current != 0)
        delete_lease(keeper, keeper->current);
    done(keeper);
}
