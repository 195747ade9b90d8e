/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_RECLAIM_H
#define WFE_EXECUTOR_RECLAIM_H

/*
 * Finds what executors that died have left in the daemon's namespace, by the owner's label on
 * each container and lease, and removes it: task, container, snapshot, lease (and with
 * it uploads and layers), the directory of its output.
 *
 * A daemon whose client dies during Tasks.Create goes on with it for a while, unseen, and undoes it
 * then; were the container's record deleted meanwhile, a shim would stay for ever. So a young
 * container without a task is left alone until the daemon has had the time, and so is a young lease
 * without a container.
 *
 * Networks are this machine's, not the daemon's: all those go whose executors have died.
 *
 * An owner on another host or in another PID namespace can't be judged: its things count as
 * left behind once their lease has run out, which a living executor renews in time. So do those of
 * an owner with this host's name and another boot, unless they are older than this boot and the
 * daemon was booted with us.
 */

#include <stddef.h>

#include "executor/daemon/connect.h"

struct wfe_reclaim_report {
    size_t steps;    /* containers with all that belongs to them */
    size_t leases;   /* of steps that had no container yet */
    size_t networks; /* see executor/network/network.h */
    size_t failed;   /* still there; the log says why */
};

/*
 * Reclaim everything, waiting until it is possible (some seconds) where an owner has died just now.
 * Errors: WFE_ERROR_CONTAINERD when the daemon can't be asked, WFE_ERROR_CANCELLED.
 */
int wfe_reclaim(
    const struct wfe_session *session, struct wfe_reclaim_report *ret, struct wfe_error *err);

/* A reclaiming beside other work, which takes as long as it needs to, and ends with the step that
 * it has in hand once it is stopped. */
struct wfe_reclaimer;

/* Start it in a thread. NULL: it can't be, which is no reason to fail. session is borrowed. */
struct wfe_reclaimer *wfe_reclaimer_start(const struct wfe_session *session);
/* Wait for what it has in hand. NULL is fine. */
void wfe_reclaimer_stop(struct wfe_reclaimer *reclaimer);

#endif
