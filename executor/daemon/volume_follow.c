/* SPDX-License-Identifier: MIT */
#include "executor/daemon/volume_follow.h"

#include <errno.h>
#include <time.h>

#include "executor/daemon/lease.h"

#define IDLE_MIN_MS 100
#define IDLE_MAX_MS 1000
#define PAUSE_DOUBLES_BYTES (512 * 1024)

/* For the last look: a daemon that restarts is away for seconds; other failures stay. */
#define LAST_LOST_MS 60000
#define LAST_TRIES 5
#define LAST_PAUSE_MS 200

static uint64_t read_bytes(const struct wfe_volume_follow *follow)
{
    uint64_t total = 0;
    for (size_t i = 0; i < follow->tail_count; i++)
        total += follow->tails[i].read_bytes;
    return total;
}

static int read_diff(
    struct wfe_volume_follow *follow, const struct wfe_diff *diff, struct wfe_error *err)
{
    if (wfe_digest_equal(&diff->digest, &follow->seen))
        return 0;
    int r = wfe_diff_tails(follow->session, diff, follow->tails, follow->tail_count, err);
    if (r == 0)
        follow->seen = diff->digest;
    return r;
}

/* A step may run longer than its lease. */
static int renew_lease(const struct wfe_session *session, struct wfe_error *err)
{
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_lease_create_start(session, session->lease, &call, err);
    return r < 0 ? r : wfe_lease_create_finish(call, err);
}

/* *ret: what was looked at, the caller's to drop. */
static int look(
    struct wfe_volume_follow *follow, bool is_still, struct wfe_diff *ret, struct wfe_error *err)
{
    struct wfe_diff diff;
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = wfe_volume_diff(follow->session, follow->volume, is_still, &diff, &failure);
    if (r == -ENOENT) {
        r = renew_lease(follow->session, err);
        if (r == 0)
            r = wfe_volume_diff(follow->session, follow->volume, is_still, &diff, err);
    } else if (r < 0 && err) {
        *err = failure;
    }
    if (r < 0)
        return r;
    r = read_diff(follow, &diff, err);
    if (r < 0)
        wfe_diff_drop(follow->session, &diff, true);
    else
        *ret = diff;
    return r;
}

int wfe_volume_look(struct wfe_volume_follow *follow, struct wfe_error *err)
{
    uint64_t before = read_bytes(follow);
    struct wfe_diff diff;
    int r = look(follow, false, &diff, err);
    if (r == 0)
        wfe_diff_drop(follow->session, &diff, true);
    bool is_idle = read_bytes(follow) == before && follow->idle_ms > 0;
    follow->idle_ms = is_idle ? follow->idle_ms * 2 : IDLE_MIN_MS;
    if (follow->idle_ms > IDLE_MAX_MS)
        follow->idle_ms = IDLE_MAX_MS;
    return r;
}

int64_t wfe_volume_pause_ms(const struct wfe_volume_follow *follow)
{
    int64_t idle_ms = follow->idle_ms > 0 ? follow->idle_ms : IDLE_MIN_MS;
    return idle_ms + idle_ms * (int64_t)(read_bytes(follow) / 1024) / (PAUSE_DOUBLES_BYTES / 1024);
}

int wfe_volume_look_last(
    struct wfe_volume_follow *follow, struct wfe_diff *ret, struct wfe_error *err)
{
    int64_t lost_ms = 0;
    for (int tries = 1;;) {
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = look(follow, true, ret, &failure);
        if (r == 0)
            return 0;
        lost_ms += LAST_PAUSE_MS;
        if (wfe_rpc_is_lost(&failure) ? lost_ms >= LAST_LOST_MS : tries++ == LAST_TRIES) {
            if (err)
                *err = failure;
            return r;
        }
        struct timespec pause = {.tv_nsec = LAST_PAUSE_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
}
