/* SPDX-License-Identifier: MIT */
#include "executor/network/netlink.h"

#include <assert.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "libcommon/cleanup.h"

/* Room for each of our requests with its attributes. */
#define REQUEST_MAX 256

struct request {
    union {
        struct nlmsghdr head;
        char bytes[REQUEST_MAX];
    };
    size_t length;
};

/* size bytes that are zero, at the request's end. */
static void *extend(struct request *request, size_t size)
{
    void *at = request->bytes + request->length;
    assert(request->length + NLMSG_ALIGN(size) <= REQUEST_MAX);
    request->length += NLMSG_ALIGN(size);
    return at;
}

static void begin(struct request *request, uint16_t type, uint16_t flags)
{
    *request = (struct request){.length = 0};
    struct nlmsghdr *head = extend(request, sizeof *head);
    head->nlmsg_type = type;
    head->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
}

static void attribute(struct request *request, uint16_t type, const void *data, size_t length)
{
    struct rtattr *head = extend(request, RTA_LENGTH(length));
    head->rta_type = type;
    head->rta_len = (uint16_t)RTA_LENGTH(length);
    memcpy(RTA_DATA(head), data, length);
}

/* Returns 0 or -errno, the kernel's or our own. */
static int ask(struct request *request)
{
    request->head.nlmsg_len = (uint32_t)request->length;
    WFE_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0 || send(fd, request->bytes, request->length, 0) < 0)
        return -errno;
    union {
        struct nlmsghdr head;
        char bytes[4096];
    } reply;
    ssize_t n;
    do {
        n = recv(fd, &reply, sizeof reply, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    if ((size_t)n < NLMSG_LENGTH(sizeof(struct nlmsgerr)) || reply.head.nlmsg_type != NLMSG_ERROR)
        return -EBADMSG;
    return ((const struct nlmsgerr *)NLMSG_DATA(&reply.head))->error;
}

static int ask_for_rule(uint16_t type, uint16_t flags, const struct wfe_netlink_rule *rule)
{
    struct request request;
    begin(&request, type, flags);
    struct fib_rule_hdr *head = extend(&request, sizeof *head);
    head->family = AF_INET;
    head->dst_len = rule->to_bits;
    head->action = rule->action == WFE_RULE_ROUTE ? FR_ACT_TO_TBL : FR_ACT_PROHIBIT;
    head->table = rule->action == WFE_RULE_ROUTE ? RT_TABLE_MAIN : RT_TABLE_UNSPEC;
    attribute(&request, FRA_PRIORITY, &rule->priority, sizeof rule->priority);
    attribute(&request, FRA_IIFNAME, rule->interface, strlen(rule->interface) + 1);
    attribute(&request, FRA_DST, &rule->to, sizeof rule->to);
    return ask(&request);
}

int wfe_netlink_add_rule(const struct wfe_netlink_rule *rule, struct wfe_error *err)
{
    assert(strlen(rule->interface) < IFNAMSIZ);
    int r = ask_for_rule(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule);
    if (r < 0 && r != -EEXIST)
        return wfe_error_system(err, -r, "add a routing rule for %s", rule->interface);
    return 0;
}

int wfe_netlink_delete_rule(const struct wfe_netlink_rule *rule, struct wfe_error *err)
{
    assert(strlen(rule->interface) < IFNAMSIZ);
    int r = ask_for_rule(RTM_DELRULE, 0, rule);
    if (r < 0 && r != -ENOENT)
        return wfe_error_system(err, -r, "delete a routing rule for %s", rule->interface);
    return 0;
}

int wfe_netlink_delete_interface(const char *name, struct wfe_error *err)
{
    assert(strlen(name) < IFNAMSIZ);
    struct request request;
    begin(&request, RTM_DELLINK, 0);
    struct ifinfomsg *head = extend(&request, sizeof *head);
    head->ifi_family = AF_UNSPEC;
    attribute(&request, IFLA_IFNAME, name, strlen(name) + 1);
    int r = ask(&request);
    if (r < 0 && r != -ENODEV)
        return wfe_error_system(err, -r, "delete the interface %s", name);
    return 0;
}
