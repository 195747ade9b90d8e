/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_NETLINK_H
#define WFE_EXECUTOR_NETLINK_H

/*
 * The few things that are asked of the kernel's network by ourselves (rtnetlink(7)): rules of its
 * routing policy, and the removal of an interface. IPv4. Needs root.
 */

#include <netinet/in.h>
#include <stdint.h>

#include "libcommon/error.h"

/* What becomes of packets that came in by an interface and go to addresses of a prefix. */
struct wfe_netlink_rule {
    uint32_t priority; /* a smaller one is asked first */
    const char *interface;
    struct in_addr to;
    uint8_t to_bits;
    enum { WFE_RULE_ROUTE, WFE_RULE_PROHIBIT } action; /* by the main table; not at all */
};

/* One that is there already is success. Errors: WFE_ERROR_SYSTEM. */
int wfe_netlink_add_rule(const struct wfe_netlink_rule *rule, struct wfe_error *err);
/* One that is not there is success. */
int wfe_netlink_delete_rule(const struct wfe_netlink_rule *rule, struct wfe_error *err);

/* One that is not there is success. */
int wfe_netlink_delete_interface(const char *name, struct wfe_error *err);

#endif
