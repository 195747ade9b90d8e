/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_VOLUME_FOLLOW_H
#define WFE_EXECUTOR_VOLUME_FOLLOW_H

/*
 * Files of a volume that are followed while somebody else adds to them.
 *
 * Each look makes the daemon copy all of them, so the pause before the next one grows with what
 * there is: 100 ms after something new, up to 1 s while nothing comes, times 1 + BYTES/512 KiB. So
 * the daemon copies at most 5 MiB a second for it. Over the wire every byte comes once.
 */

#include "executor/daemon/connect.h"
#include "executor/daemon/diff_tail.h"
#include "executor/daemon/volume.h"

struct wfe_volume_follow {
    const struct wfe_session *session; /* under a lease, which is made again when it has run out */
    const struct wfe_volume *volume;
    struct wfe_diff_tail *tails;
    size_t tail_count;
    struct wfe_digest seen; /* of the last look */
    int64_t idle_ms;        /* 0 at the start */
};

/* Look for more while it may be written to. Errors are no reason to give up: as wfe_diff_make() and
 * wfe_diff_tails(). */
int wfe_volume_look(struct wfe_volume_follow *follow, struct wfe_error *err);

/* How long to wait until the next look. */
int64_t wfe_volume_pause_ms(const struct wfe_volume_follow *follow);

/* Look for the last time, when nobody writes any more; a daemon that is away is waited for. *ret:
 * the tar that was looked at, ours, which the caller drops. Errors: as wfe_volume_look(), final. */
int wfe_volume_look_last(
    struct wfe_volume_follow *follow, struct wfe_diff *ret, struct wfe_error *err);

#endif
