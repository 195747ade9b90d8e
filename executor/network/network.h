/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_NETWORK_H
#define WFE_EXECUTOR_NETWORK_H

/*
 * The network of a step or service with `network: bridge`: a network namespace of its own, which
 * CNI plugins attach to the network that /etc/cni/net.d ($NETCONFPATH) describes, else to a
 * built-in one, a bridge for each workflow (executor/network/network_range.h).
 *
 * plan → up → (the step runs) → down. What is up is written down below /run/wfe
 * (executor/network/network_state.h), so that the next executor takes it away when this one dies.
 *
 * It needs root, and a daemon on this machine in our mount namespace. Threads: a handle belongs to
 * one thread.
 */

#include <stdbool.h>
#include <stddef.h>

#include "executor/spec/spec.h"
#include "executor/step/step.h"
#include "libcommon/cancel.h"
#include "libcommon/error.h"

struct wfe_network_options {
    const char *id; /* the container's, unlike all others */
    /* Steps of one group share the built-in network, others have no way to each other; NULL: the
     * step is alone. */
    const char *group;
    const char *service; /* the name by which others of the group find it; NULL: no service */
    const struct wfe_step_port *ports; /* borrowed until the handle's end */
    size_t port_count;
};

struct wfe_network;

/*
 * Look for all that is needed, and make nothing yet. Errors: WFE_ERROR_INPUT (no root; a plugin is
 * missing; a configuration is wrong, or can't publish ports), WFE_ERROR_SYSTEM, WFE_ERROR_LIMIT,
 * WFE_ERROR_INTERNAL.
 */
int wfe_network_plan(
    const struct wfe_network_options *options, struct wfe_network **ret, struct wfe_error *err);

/*
 * Make the namespace and attach it. When it fails, wfe_network_down() is still the caller's.
 * Errors: WFE_ERROR_SYSTEM (the plugin's own words; a port is in use), WFE_ERROR_LIMIT (no free
 * range), WFE_ERROR_TIMEOUT, WFE_ERROR_CANCELLED, WFE_ERROR_INTERNAL.
 */
int wfe_network_up(struct wfe_network *network, struct wfe_cancel *cancel, struct wfe_error *err);

/* Once it is up: the path of the namespace, and the container's resolv.conf and hosts; its address,
 * and that of its gateway, which is this machine, each NULL when there is none. Views. */
const char *wfe_network_namespace(const struct wfe_network *network);
const struct wfe_spec_file *wfe_network_files(const struct wfe_network *network, size_t *ret_count);
const char *wfe_network_address(const struct wfe_network *network);
const char *wfe_network_gateway(const struct wfe_network *network);

/* Let it outlive this process, out of reclaiming's reach, until wfe_network_remove(). Errors:
 * WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL. */
int wfe_network_keep(struct wfe_network *network, struct wfe_error *err);

/*
 * Detach it and remove all that was made; the last step of a built-in network removes that too. The
 * container must have ended. Nothing happens when it never was up. Errors: WFE_ERROR_SYSTEM and the
 * like: what could not be removed is left to wfe_network_reclaim().
 */
int wfe_network_down(struct wfe_network *network, struct wfe_error *err);

/* NULL is fine. What is still up stays so, and out of reclaiming's reach until this process
 * ends. */
void wfe_network_free(struct wfe_network *network);

/* Take away the network of the container `id`, which has ended; *ret_removed. That of a living
 * executor is left to it, and what is not there, or not ours to see, is fine. Errors: those of
 * wfe_network_down(). */
int wfe_network_remove(const char *id, bool *ret_removed, struct wfe_error *err);

/* The group of a workflow in a namespace of the daemon. Allocated; NULL when memory ran out. */
char *wfe_network_group(const char *namespace_, const char *workflow_id);

struct wfe_network_report {
    size_t reclaimed;
    size_t failed; /* still there; the log says why */
    bool busy;     /* a plugin that a dead executor started runs yet: try again in a moment */
};

/* Take away what executors that died have left. Errors: WFE_ERROR_SYSTEM. */
int wfe_network_reclaim(struct wfe_network_report *ret, struct wfe_error *err);

#endif
