/* SPDX-License-Identifier: MIT */
#include "executor/network/network_ports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "libcommon/cleanup.h"

int wfe_network_ports_take(
    const struct wfe_step_port *ports, size_t count, int *fds, struct wfe_error *err)
{
    for (size_t i = 0; i < count; i++)
        fds[i] = -1;
    for (size_t i = 0; i < count; i++) {
        struct sockaddr_in address = {
            .sin_family = AF_INET,
            .sin_port = htons(ports[i].host_port),
            .sin_addr = ports[i].host_address,
        };
        fds[i] = socket(AF_INET, (ports[i].udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
        if (fds[i] < 0 || bind(fds[i], (struct sockaddr *)&address, sizeof address) < 0)
            return wfe_error_system(err, errno, "publish port %u/%s of the host",
                ports[i].host_port, ports[i].udp ? "udp" : "tcp");
    }
    return 0;
}

static cJSON *mapping(const struct wfe_step_port *port)
{
    WFE_JSON cJSON *item = cJSON_CreateObject();
    char address[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &port->host_address, address, sizeof address);
    if (!cJSON_AddNumberToObject(item, "hostPort", port->host_port) ||
        !cJSON_AddNumberToObject(item, "containerPort", port->container_port) ||
        !cJSON_AddStringToObject(item, "protocol", port->udp ? "udp" : "tcp"))
        return NULL;
    if (port->host_address.s_addr != INADDR_ANY &&
        !cJSON_AddStringToObject(item, "hostIP", address))
        return NULL;
    return wfe_steal(&item);
}

cJSON *wfe_network_ports_capability(const struct wfe_step_port *ports, size_t count)
{
    WFE_JSON cJSON *capabilities = cJSON_CreateObject();
    cJSON *mappings = count > 0 ? cJSON_AddArrayToObject(capabilities, "portMappings") : NULL;
    if (count > 0 && !mappings)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        cJSON *item = mapping(&ports[i]);
        if (!item || !cJSON_AddItemToArray(mappings, item)) {
            cJSON_Delete(item);
            return NULL;
        }
    }
    return wfe_steal(&capabilities);
}

static bool is_taken(const struct wfe_step_port *port, const cJSON *mapping)
{
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(mapping, "hostPort");
    const char *protocol =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(mapping, "protocol"));
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(mapping, "hostIP"));
    struct in_addr address = {.s_addr = htonl(INADDR_ANY)};
    if (!cJSON_IsNumber(number) || number->valueint != port->host_port || !protocol ||
        strcmp(protocol, port->udp ? "udp" : "tcp") != 0)
        return false;
    if (text && inet_pton(AF_INET, text, &address) != 1)
        return false;
    return address.s_addr == htonl(INADDR_ANY) || port->host_address.s_addr == htonl(INADDR_ANY) ||
           address.s_addr == port->host_address.s_addr;
}

const struct wfe_step_port *wfe_network_ports_find(
    const struct wfe_step_port *ports, size_t count, const cJSON *capability)
{
    const cJSON *mapping;
    for (size_t i = 0; i < count; i++)
        cJSON_ArrayForEach(
            mapping, cJSON_GetObjectItemCaseSensitive(capability,
                         "portMappings")) if (is_taken(&ports[i], mapping)) return &ports[i];
    return NULL;
}
