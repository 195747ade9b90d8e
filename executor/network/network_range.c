/* SPDX-License-Identifier: MIT */
#include "executor/network/network_range.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/network/netlink.h"
#include "executor/network/network_state.h"
#include "libcommon/cleanup.h"
#include "libcommon/digest.h"
#include "libcommon/file.h"

#define POOL UINT32_C(0x0AD50000) /* 10.213.0.0 */
#define POOL_BITS 16
#define RANGE_BITS 26
#define RANGE_SIZE (UINT32_C(1) << (32 - RANGE_BITS))
#define POOL_MASK (UINT32_MAX << (32 - POOL_BITS))

/* Before the main table's rule, which is 32766. */
#define RULE_PRIORITY 21300

#define NAME_DIGITS 11

static uint32_t range_start(int range)
{
    assert(range >= 0 && range < WFE_NETWORK_RANGES);
    return POOL + (uint32_t)range * RANGE_SIZE;
}

void wfe_network_name(const char *group, char name[static WFE_NETWORK_NAME_MAX])
{
    struct wfe_digest digest;
    wfe_digest_of(group, strlen(group), &digest);
    snprintf(name, WFE_NETWORK_NAME_MAX, "wfe-%.*s", NAME_DIGITS, wfe_digest_hex(&digest));
}

const char *wfe_network_subnet(int range, char subnet[static WFE_NETWORK_SUBNET_MAX])
{
    uint32_t start = range_start(range);
    snprintf(subnet, WFE_NETWORK_SUBNET_MAX, "%u.%u.%u.%u/%d", start >> 24, start >> 16 & 255,
        start >> 8 & 255, start & 255, RANGE_BITS);
    return subnet;
}

void wfe_network_taken_by_routes(const char *routes, bool taken[static WFE_NETWORK_RANGES])
{
    for (const char *line = routes; *line;) {
        unsigned long destination, mask;
        size_t length = strcspn(line, "\n");
        /* Iface Destination Gateway Flags RefCnt Use Metric Mask, addresses in network order. */
        if (sscanf(line, "%*s %lx %*x %*x %*d %*d %*d %lx", &destination, &mask) == 2) {
            uint32_t to = ntohl((uint32_t)destination), bits = ntohl((uint32_t)mask);
            bool in_pool = (to & POOL_MASK) == POOL && (bits & POOL_MASK) == POOL_MASK;
            for (int i = 0; in_pool && i < WFE_NETWORK_RANGES; i++) {
                uint32_t shorter = bits & (UINT32_MAX << (32 - RANGE_BITS));
                taken[i] = taken[i] || (range_start(i) & shorter) == (to & shorter);
            }
        }
        line += length + (line[length] == '\n');
    }
}

int wfe_network_choose_range(const char *name, const bool taken[static WFE_NETWORK_RANGES])
{
    struct wfe_digest digest;
    wfe_digest_of(name, strlen(name), &digest);
    char digits[5] = {0};
    memcpy(digits, wfe_digest_hex(&digest), sizeof digits - 1);
    int first = (int)(strtoul(digits, NULL, 16) % WFE_NETWORK_RANGES);
    for (int i = 0; i < WFE_NETWORK_RANGES; i++) {
        int range = (first + i) % WFE_NETWORK_RANGES;
        if (!taken[range])
            return range;
    }
    return -ENOSPC;
}

cJSON *wfe_network_list(const char *name, int range, bool with_firewall)
{
    char subnet[WFE_NETWORK_SUBNET_MAX], text[1024];
    /* 0.4.0 is what plugins of any age understand. */
    int length = snprintf(text, sizeof text,
        "{\"cniVersion\":\"0.4.0\",\"name\":\"%s\",\"plugins\":["
        "{\"type\":\"bridge\",\"bridge\":\"%s\",\"isDefaultGateway\":true,\"ipMasq\":true,"
        "\"hairpinMode\":true,\"ipam\":{\"type\":\"host-local\",\"dataDir\":\"%s\","
        "\"ranges\":[[{\"subnet\":\"%s\"}]]}},"
        "{\"type\":\"portmap\",\"capabilities\":{\"portMappings\":true}}%s]}",
        name, name, WFE_NETWORK_ADDRESSES, wfe_network_subnet(range, subnet),
        with_firewall ? ",{\"type\":\"firewall\"}" : "");
    assert(length > 0 && (size_t)length < sizeof text);
    return cJSON_Parse(text);
}

#define RULES 2

/* To its own addresses, which a published port may lead to, and to none of the others'. */
static void make_rules(const char *name, int range, struct wfe_netlink_rule rules[RULES])
{
    rules[0] = (struct wfe_netlink_rule){
        .priority = RULE_PRIORITY,
        .interface = name,
        .to.s_addr = htonl(range_start(range)),
        .to_bits = RANGE_BITS,
        .action = WFE_RULE_ROUTE,
    };
    rules[1] = (struct wfe_netlink_rule){
        .priority = RULE_PRIORITY + 1,
        .interface = name,
        .to.s_addr = htonl(POOL),
        .to_bits = POOL_BITS,
        .action = WFE_RULE_PROHIBIT,
    };
}

int wfe_network_isolate(const char *name, int range, struct wfe_error *err)
{
    struct wfe_netlink_rule rules[RULES];
    make_rules(name, range, rules);
    int r = 0;
    for (size_t i = 0; r == 0 && i < RULES; i++)
        r = wfe_netlink_add_rule(&rules[i], err);
    return r;
}

int wfe_network_range_remove(const char *name, int range, struct wfe_error *err)
{
    struct wfe_netlink_rule rules[RULES];
    make_rules(name, range, rules);
    int r = wfe_netlink_delete_interface(name, err);
    for (size_t i = 0; i < RULES; i++) {
        int rule_r = wfe_netlink_delete_rule(&rules[i], r == 0 ? err : NULL);
        r = r < 0 ? r : rule_r;
    }
    WFE_FREE char *addresses = wfe_path_join(WFE_NETWORK_ADDRESSES, name);
    int addresses_r = addresses ? wfe_remove_tree(addresses) : -ENOMEM;
    if (addresses_r < 0 && r == 0)
        r = wfe_error_system(err, -addresses_r, "remove the addresses of %s", name);
    return r;
}
