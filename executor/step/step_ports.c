/* SPDX-License-Identifier: MIT */
#include "executor/step/step_ports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"

#define PARTS_MAX 3
#define PORT_DIGITS_MAX 5

static const char port_words[] = "a port such as 80, 8080:80, 127.0.0.1:8080:80, each also with "
                                 "/tcp or /udp behind it";

static int read_port(const char *text, uint16_t *ret)
{
    size_t digits = strspn(text, "0123456789");
    unsigned long value = digits > 0 && digits <= PORT_DIGITS_MAX ? strtoul(text, NULL, 10) : 0;
    if (text[digits] != '\0' || value == 0 || value > UINT16_MAX)
        return -EINVAL;
    *ret = (uint16_t)value;
    return 0;
}

int wfe_port_parse(const char *text, struct wfe_step_port *ret)
{
    char copy[64];
    struct wfe_step_port port = {.host_address.s_addr = htonl(INADDR_ANY)};
    if (strlen(text) >= sizeof copy)
        return -EINVAL;
    memcpy(copy, text, strlen(text) + 1);
    char *protocol = strchr(copy, '/');
    if (protocol) {
        *protocol++ = '\0';
        port.udp = strcmp(protocol, "udp") == 0;
        if (!port.udp && strcmp(protocol, "tcp") != 0)
            return -EINVAL;
    }
    /* From the end: the container's port, the host's, the host's address. */
    char *parts[PARTS_MAX] = {NULL};
    size_t count = 0;
    for (char *colon; count < PARTS_MAX - 1 && (colon = strrchr(copy, ':')); count++) {
        parts[count] = colon + 1;
        *colon = '\0';
    }
    parts[count++] = copy;
    if (read_port(parts[0], &port.container_port) < 0)
        return -EINVAL;
    port.host_port = port.container_port;
    if (count > 1 && read_port(parts[1], &port.host_port) < 0)
        return -EINVAL;
    if (count > 2 && inet_pton(AF_INET, parts[2], &port.host_address) != 1)
        return -EINVAL;
    *ret = port;
    return 0;
}

static bool clash(const struct wfe_step_port *a, const struct wfe_step_port *b)
{
    return a->host_port == b->host_port && a->udp == b->udp &&
           (a->host_address.s_addr == b->host_address.s_addr ||
               a->host_address.s_addr == INADDR_ANY || b->host_address.s_addr == INADDR_ANY);
}

void wfe_step_add_port(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const struct wfe_step_port *port,
    struct wfe_step_config *config)
{
    for (size_t i = 0; i < config->port_count; i++) {
        if (clash(&config->ports[i], port)) {
            wfe_step_refuse(reader, node, path, "each of the host's ports once");
            break;
        }
    }
    config->ports[config->port_count++] = *port;
}

void wfe_step_read_ports(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    if (!wfe_step_is_list(reader, node, path) || node->count == 0)
        return;
    if (node->count > WFE_STEP_MAX_PORTS) {
        wfe_step_problem(
            reader, node, path, "found %zu of them; allowed: %d", node->count, WFE_STEP_MAX_PORTS);
        return;
    }
    config->ports = wfe_step_allocate(reader, node->count, sizeof *config->ports);
    for (size_t i = 0; config->ports && i < node->count; i++) {
        struct wfe_step_path where = {.up = path, .index = i};
        struct wfe_step_port port;
        WFE_FREE char *text = wfe_step_text(reader, node->items[i], &where, 1, port_words);
        if (!text)
            continue;
        if (wfe_port_parse(text, &port) < 0)
            wfe_step_refuse(reader, node->items[i], &where, port_words);
        else
            wfe_step_add_port(reader, node->items[i], &where, &port, config);
    }
}

void wfe_step_check_ports(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const struct wfe_step_config *config)
{
    const struct wfe_node *ports = wfe_step_given(node, "ports");
    struct wfe_step_path where = {.up = path, .name = "ports"};
    if (ports && config->network != WFE_NETWORK_BRIDGE)
        wfe_step_problem(
            reader, ports, &where, "found without 'network: bridge'; allowed: only with it");
}
