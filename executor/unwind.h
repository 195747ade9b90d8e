/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_UNWIND_H
#define WFE_EXECUTOR_UNWIND_H

/*
 * Unmaking a container of ours, a step's or a service's, with all that belongs to it: task,
 * container, snapshot and lease in the daemon, and its network on this machine.
 */

#include <stdbool.h>

#include "executor/daemon/connect.h"
#include "executor/network/network.h"

/* What there is to unmake. A flag is set before its request goes out, since a request that fails
 * may have been carried out all the same. */
struct wfe_holdings {
    const char *id;      /* of the container, its snapshot and its lease */
    const char *service; /* whose they are, for messages; NULL: a step's */
    bool lease_made, snapshot_made, container_made, task_made;
    struct wfe_network *network; /* NULL: none */
    /* What is still to be read in the daemon, with the lease, when the task is gone; NULL: nothing.
     * The rest is unmade afterwards. */
    void (*collect)(void *context);
    /* What this machine holds under the id: it is found by the daemon's records, so it goes before
     * the last of them, and after the task; NULL: nothing. */
    void (*release)(void *context);
    void *context;
};

/* In the order that leaves nothing behind. What can't be unmade is logged, and goes with the next
 * executor's reclaiming. A task that still runs is killed. */
void wfe_unwind(const struct wfe_session *session, const struct wfe_holdings *holdings);

#endif
