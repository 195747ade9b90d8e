/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_NETWORK_RANGE_H
#define WFE_EXECUTOR_NETWORK_RANGE_H

/*
 * The network that a workflow has when /etc/cni/net.d describes none: a bridge of its own with 64
 * addresses out of 10.213.0.0/16. Steps of other workflows have other bridges, and what comes in by
 * one of them is not routed to the addresses of another.
 */

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "libcommon/error.h"

/* Ranges of the pool, by number. */
#define WFE_NETWORK_RANGES 1024
#define WFE_NETWORK_SUBNET_MAX 32

/* "wfe-" and 11 hexadecimal digits, which is as long as an interface's name may be. */
#define WFE_NETWORK_NAME_MAX 16

/* The name of the network, and of its bridge, for the steps of a group. */
void wfe_network_name(const char *group, char name[static WFE_NETWORK_NAME_MAX]);

/* "10.213.X.Y/26". Returns subnet. */
const char *wfe_network_subnet(int range, char subnet[static WFE_NETWORK_SUBNET_MAX]);

/* The ranges that the routes of /proc/net/route (proc(5)) lead to. A route to more than the whole
 * pool (a default route, one to 10.0.0.0/8) takes none. */
void wfe_network_taken_by_routes(const char *routes, bool taken[static WFE_NETWORK_RANGES]);

/* A free range, for one name the same each time when it can be. -ENOSPC when all are taken. */
int wfe_network_choose_range(const char *name, const bool taken[static WFE_NETWORK_RANGES]);

/* The CNI list of that network. with_firewall: also let it through a firewall that forwards nothing
 * by default. NULL when memory ran out; the caller deletes. */
cJSON *wfe_network_list(const char *name, int range, bool with_firewall);

/* Keep what comes in by the network's bridge from the other networks; once is enough. Errors:
 * WFE_ERROR_SYSTEM. */
int wfe_network_isolate(const char *name, int range, struct wfe_error *err);

/* Remove the bridge, its rules and its addresses, when no step uses them any more. Errors:
 * WFE_ERROR_SYSTEM; the rest is removed all the same. */
int wfe_network_range_remove(const char *name, int range, struct wfe_error *err);

#endif
