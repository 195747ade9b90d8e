/* SPDX-License-Identifier: MIT */
#include "executor/step/step_services.h"

#include <stdlib.h>
#include <string.h>

#include "executor/step/step_config.h"
#include "executor/step/step_interpolate.h"
#include "executor/step/step_ports.h"
#include "libcommon/cleanup.h"

#define MAX_PORTS 64
#define NAME_MAX_BYTES 60
#define DEFAULT_INTERVAL_MS 5000
#define DEFAULT_TIMEOUT_MS 60000
#define DEFAULT_RETRIES 12
#define MAX_RETRIES 1000000

static const char port_words[] = "a port, 1 to 65535";

static bool read_port(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, uint16_t *ret)
{
    char *end = NULL;
    long port = node->kind == WFE_NODE_INT ? strtol(node->text, &end, 10) : 0;
    if (port < 1 || port > UINT16_MAX || *end) {
        wfe_step_refuse(reader, node, path, port_words);
        return false;
    }
    *ret = (uint16_t)port;
    return true;
}

/* Of a bridge one may also be published on the host: HOST:PORT, ADDRESS:HOST:PORT. */
static void read_bridge_port(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_service *service)
{
    static const char allowed[] =
        "a port such as 80, or 8080:80, 127.0.0.1:8080:80 to publish it, each also with /tcp or "
        "/udp behind it";
    struct wfe_step_port port;
    WFE_FREE char *text = wfe_step_text(reader, node, path, 1, allowed);
    if (!text)
        return;
    if (wfe_port_parse(text, &port) < 0) {
        wfe_step_refuse(reader, node, path, allowed);
        return;
    }
    if (strchr(text, ':'))
        wfe_step_add_port(reader, node, path, &port, &service->config);
    if (!port.udp && service->probe.kind == WFE_PROBE_NONE) {
        service->probe.kind = WFE_PROBE_TCP;
        service->probe.port = port.container_port;
    }
    service->ports[service->port_count++] = port.container_port;
}

static void read_host_port(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_service *service)
{
    uint16_t port;
    if (!read_port(reader, node, path, &port))
        return;
    if (service->port_count == 0) {
        service->probe.kind = WFE_PROBE_TCP;
        service->probe.port = port;
    }
    service->ports[service->port_count++] = port;
}

/* Without any word of its readiness it is a connection to the first of them. */
static void read_ports(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_service *service)
{
    if (!wfe_step_is_list(reader, node, path) || node->count == 0)
        return;
    if (node->count > MAX_PORTS) {
        wfe_step_problem(
            reader, node, path, "found %zu of them; allowed: %d", node->count, MAX_PORTS);
        return;
    }
    service->ports = wfe_step_allocate(reader, node->count, sizeof *service->ports);
    service->config.ports = wfe_step_allocate(reader, node->count, sizeof *service->config.ports);
    for (size_t i = 0; service->ports && service->config.ports && i < node->count; i++) {
        struct wfe_step_path where = {.up = path, .index = i};
        if (service->config.network == WFE_NETWORK_BRIDGE)
            read_bridge_port(reader, node->items[i], &where, service);
        else
            read_host_port(reader, node->items[i], &where, service);
    }
}

static void read_network(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_service *service)
{
    static const char *const words[] = {"host", "bridge", NULL};
    static const enum wfe_step_network networks[] = {WFE_NETWORK_HOST, WFE_NETWORK_BRIDGE};
    int word;
    if (wfe_step_word(reader, node, path, words, "host, bridge", &word))
        service->config.network = networks[word];
}

/* `tcp: PORT`, `tcp: {port: PORT}`, `http: {port: PORT, path: PATH}`. */
static void read_endpoint(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, bool has_path, struct wfe_service_probe *probe)
{
    static const char *const tcp_keys[] = {"port", NULL};
    static const char *const http_keys[] = {"port", "path", NULL};
    if (!has_path && wfe_node_is_scalar(node)) {
        read_port(reader, node, path, &probe->port);
        return;
    }
    if (!wfe_step_is_map(reader, node, path))
        return;
    wfe_step_check_keys(reader, node, path, has_path ? http_keys : tcp_keys);
    const struct wfe_node *port = wfe_step_given(node, "port");
    struct wfe_step_path port_path = {.up = path, .name = "port"};
    if (port)
        read_port(reader, port, &port_path, &probe->port);
    else
        wfe_step_problem(
            reader, node, &port_path, "found nothing; allowed: %s (it is required)", port_words);
    if (!has_path)
        return;
    static const char allowed[] = "a path that begins with '/', without blanks";
    const struct wfe_node *value = wfe_step_given(node, "path");
    struct wfe_step_path value_path = {.up = path, .name = "path"};
    WFE_FREE char *text =
        value ? wfe_step_text(reader, value, &value_path, 1, allowed) : strdup("/");
    if (text && (text[0] != '/' || text[strcspn(text, " \t\r\n")]))
        wfe_step_refuse(reader, value, &value_path, allowed);
    else
        probe->path = wfe_steal(&text);
    if (!value && !probe->path)
        reader->nomem = true;
}

static void read_retries(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, uint64_t *ret)
{
    char *end = NULL;
    long retries = node->kind == WFE_NODE_INT ? strtol(node->text, &end, 10) : 0;
    if (retries < 1 || retries > MAX_RETRIES || *end)
        wfe_step_refuse(reader, node, path, "a number of tries, 1 to 1000000");
    else
        *ret = (uint64_t)retries;
}

/* The kinds in the order of their precedence. */
static void read_kind(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_service_probe *probe)
{
    const struct wfe_node *exec = wfe_step_given(node, "exec");
    const struct wfe_node *tcp = wfe_step_given(node, "tcp");
    const struct wfe_node *http = wfe_step_given(node, "http");
    struct wfe_step_path exec_path = {.up = path, .name = "exec"};
    struct wfe_step_path tcp_path = {.up = path, .name = "tcp"};
    struct wfe_step_path http_path = {.up = path, .name = "http"};
    if (exec) {
        probe->kind = WFE_PROBE_EXEC;
        probe->exec = wfe_step_read_words(
            reader, exec, &exec_path, "a list of strings, a program and its arguments");
    } else if (tcp) {
        probe->kind = WFE_PROBE_TCP;
        read_endpoint(reader, tcp, &tcp_path, false, probe);
    } else if (http) {
        probe->kind = WFE_PROBE_HTTP;
        read_endpoint(reader, http, &http_path, true, probe);
    }
}

static void read_readiness(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_service_probe *probe)
{
    static const char *const known[] = {
        "exec", "tcp", "http", "interval", "timeout", "retries", NULL};
    if (!wfe_step_is_map(reader, node, path))
        return;
    wfe_step_check_keys(reader, node, path, known);
    read_kind(reader, node, path, probe);
    const struct wfe_node *interval = wfe_step_given(node, "interval");
    const struct wfe_node *timeout = wfe_step_given(node, "timeout");
    const struct wfe_node *retries = wfe_step_given(node, "retries");
    struct wfe_step_path interval_path = {.up = path, .name = "interval"};
    struct wfe_step_path timeout_path = {.up = path, .name = "timeout"};
    struct wfe_step_path retries_path = {.up = path, .name = "retries"};
    if (interval)
        wfe_step_read_duration(reader, interval, &interval_path, 1, &probe->interval_ms);
    if (timeout)
        wfe_step_read_duration(reader, timeout, &timeout_path, 1, &probe->timeout_ms);
    if (retries)
        read_retries(reader, retries, &retries_path, &probe->retries);
}

/* Image, environment and limits are read as those of a step are. */
static void read_config(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_service *service)
{
    static const char *const shared[] = {"image", "env", "memory", "cpu"};
    struct wfe_node *part =
        wfe_document_collection(reader->document, WFE_NODE_MAP, node->line, node->count);
    if (!part) {
        reader->nomem = true;
        return;
    }
    size_t count = 0;
    for (size_t i = 0; i < node->count; i++)
        for (size_t k = 0; k < sizeof shared / sizeof *shared; k++)
            if (strcmp(node->members[i].key->text, shared[k]) == 0)
                part->members[count++] = node->members[i];
    part->count = count;
    wfe_step_config_read(reader, part, path, &service->config);
    service->config.network = WFE_NETWORK_HOST;
    free(service->config.user);
    service->config.user = strdup("0:0");
    if (!service->config.user)
        reader->nomem = true;
}

static void read_service(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_service *service)
{
    static const char *const known[] = {
        "image", "network", "ports", "env", "readiness", "memory", "cpu", "command", "args", NULL};
    static const char words[] = "a list of strings";
    service->probe = (struct wfe_service_probe){
        .interval_ms = DEFAULT_INTERVAL_MS,
        .timeout_ms = DEFAULT_TIMEOUT_MS,
        .retries = DEFAULT_RETRIES,
    };
    if (!wfe_step_is_map(reader, node, path))
        return;
    wfe_step_check_keys(reader, node, path, known);
    read_config(reader, node, path, service);
    const struct wfe_node *network = wfe_step_given(node, "network");
    const struct wfe_node *ports = wfe_step_given(node, "ports");
    const struct wfe_node *command = wfe_step_given(node, "command");
    const struct wfe_node *args = wfe_step_given(node, "args");
    const struct wfe_node *readiness = wfe_step_given(node, "readiness");
    struct wfe_step_path network_path = {.up = path, .name = "network"};
    struct wfe_step_path ports_path = {.up = path, .name = "ports"};
    struct wfe_step_path command_path = {.up = path, .name = "command"};
    struct wfe_step_path args_path = {.up = path, .name = "args"};
    struct wfe_step_path readiness_path = {.up = path, .name = "readiness"};
    if (network)
        read_network(reader, network, &network_path, service);
    if (ports)
        read_ports(reader, ports, &ports_path, service);
    if (command)
        service->command = wfe_step_read_words(reader, command, &command_path, words);
    if (args)
        service->args = wfe_step_read_words(reader, args, &args_path, words);
    if (readiness)
        read_readiness(reader, readiness, &readiness_path, &service->probe);
    if (service->probe.kind == WFE_PROBE_NONE && (service->port_count > 0 || !ports))
        wfe_step_problem(reader, node, &readiness_path,
            "found nothing, and no TCP port either; allowed: exec, tcp or http, or a port");
}

/* Part of a container's id, and of names of variables. */
static bool is_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t length = strlen(name);
    if (length == 0 || length > NAME_MAX_BYTES)
        return false;
    while (*name) {
        size_t part = strspn(name, letters);
        name += part;
        if (part == 0 || (*name && !strchr("._-", *name)) || (*name && !name[1]))
            return false;
        name += *name != '\0';
    }
    return true;
}

static bool is_known(const struct wfe_workflow *workflow, const char *name)
{
    for (size_t i = 0; i < workflow->service_count; i++)
        if (strcmp(workflow->services[i].name, name) == 0)
            return true;
    return false;
}

void wfe_step_read_services(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_workflow *workflow)
{
    const struct wfe_node *services = wfe_step_given(node, "services");
    struct wfe_step_path services_path = {.up = path, .name = "services"};
    if (services)
        services = wfe_step_interpolate(reader, services, &services_path);
    if (!services || services->reported || !wfe_step_is_map(reader, services, &services_path))
        return;
    size_t count = workflow->service_count + services->count;
    if (count > WFE_STEP_MAX_SERVICES) {
        wfe_step_problem(reader, services, &services_path, "found %zu of them; allowed: %d", count,
            WFE_STEP_MAX_SERVICES);
        return;
    }
    struct wfe_service *array = reallocarray(workflow->services, count + 1, sizeof *array);
    if (!array) {
        reader->nomem = true;
        return;
    }
    workflow->services = array;
    for (size_t i = 0; i < services->count; i++) {
        const struct wfe_node *key = services->members[i].key;
        struct wfe_step_path where = {.up = &services_path, .name = key->text};
        if (!is_name(key->text) || is_known(workflow, key->text)) {
            wfe_step_refuse(reader, key, &where,
                "a name of its own, of at most 60 letters and digits with '.', '_' or '-' between "
                "them");
            continue;
        }
        struct wfe_service *service = &array[workflow->service_count];
        *service = (struct wfe_service){.name = strdup(key->text)};
        if (!service->name) {
            reader->nomem = true;
            return;
        }
        workflow->service_count++;
        read_service(reader, services->members[i].value, &where, service);
    }
}

void wfe_service_done(struct wfe_service *service)
{
    free(service->name);
    wfe_step_config_done(&service->config);
    wfe_step_free_words(service->command);
    wfe_step_free_words(service->args);
    wfe_step_free_words(service->probe.exec);
    free(service->probe.path);
    free(service->ports);
    *service = (struct wfe_service){.name = NULL};
}
