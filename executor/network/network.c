/* SPDX-License-Identifier: MIT */
#include "executor/network/network.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "executor/network/cni.h"
#include "executor/network/cni_plugin.h"
#include "executor/network/netns.h"
#include "executor/network/network_files.h"
#include "executor/network/network_names.h"
#include "executor/network/network_ports.h"
#include "executor/network/network_range.h"
#include "executor/network/network_state.h"
#include "executor/owner.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/log.h"

#define INTERFACE "eth0"
#define ROUTES_MAX_BYTES (1024 * 1024)
#define RESOLV_CONF "/etc/resolv.conf"
/* What systemd-resolved's own server on a loopback address asks. */
#define RESOLVED_CONF "/run/systemd/resolve/resolv.conf"

struct wfe_network {
    char *id;
    const struct wfe_step_port *ports; /* NULL when it was read from its state */
    size_t port_count;
    int *port_fds;
    char name[WFE_NETWORK_NAME_MAX]; /* of the built-in network; "" for another one */
    int range;                       /* of the built-in network, once it has one */
    int step_fd;                     /* -1: nothing was made yet */
    cJSON *state; /* group, service, path, list, capabilities, result, owner, name, range, kept */
    struct wfe_network_addresses addresses; /* once it is up */
    char *files[1 + WFE_NETWORK_FILES_MAX]; /* netns, resolv.conf, hosts */
    struct wfe_spec_file spec_files[WFE_NETWORK_FILES_MAX];
};

static const char *const FILE_NAMES[] = {"netns", "resolv.conf", "hosts"};
#define FILE_COUNT (sizeof FILE_NAMES / sizeof *FILE_NAMES)

static const char *setting(const char *variable, const char *otherwise)
{
    const char *value = getenv(variable);
    return value && *value ? value : otherwise;
}

static const char *text_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* Takes item, which may be NULL; another one of that name goes. */
static int put(cJSON *state, const char *name, cJSON *item, struct wfe_error *err)
{
    cJSON_DeleteItemFromObjectCaseSensitive(state, name);
    if (item && cJSON_AddItemToObject(state, name, item))
        return 0;
    cJSON_Delete(item);
    return wfe_error_nomem(err);
}

static int new_network(const char *id, struct wfe_network **ret, struct wfe_error *err)
{
    struct wfe_network *network = calloc(1, sizeof *network);
    if (!network)
        return wfe_error_nomem(err);
    network->step_fd = -1;
    network->range = -1;
    bool complete = (network->id = strdup(id)) != NULL;
    for (size_t i = 0; complete && i < FILE_COUNT; i++)
        complete = (network->files[i] = wfe_network_step_path(id, FILE_NAMES[i])) != NULL;
    if (!complete) {
        wfe_network_free(network);
        return wfe_error_nomem(err);
    }
    network->spec_files[0] = (struct wfe_spec_file){network->files[1], "/etc/resolv.conf"};
    network->spec_files[1] = (struct wfe_spec_file){network->files[2], "/etc/hosts"};
    *ret = network;
    return 0;
}

static void done(struct wfe_network *network)
{
    for (size_t i = 0; network->port_fds && i < network->port_count; i++)
        wfe_cleanup_close(&network->port_fds[i]);
    free(network->port_fds);
    for (size_t i = 0; i < FILE_COUNT; i++)
        free(network->files[i]);
    cJSON_Delete(network->state);
    free(network->id);
    free(network);
}

/* The descriptor of a network that is still up stays open, and with it the lock. */
void wfe_network_free(struct wfe_network *network)
{
    if (network)
        done(network);
}

static bool can_publish(const cJSON *list)
{
    const cJSON *plugin;
    cJSON_ArrayForEach(plugin, cJSON_GetObjectItemCaseSensitive(list, "plugins"))
    {
        const cJSON *capabilities = cJSON_GetObjectItemCaseSensitive(plugin, "capabilities");
        if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(capabilities, "portMappings")))
            return true;
    }
    return false;
}

/* The built-in list for the network's range, or for any while it has none. */
static cJSON *built_in_list(const struct wfe_network *network, const char *path)
{
    return wfe_network_list(network->name, network->range < 0 ? 0 : network->range,
        wfe_cni_has_plugin(path, "firewall"));
}

/* The list, of which a built-in one has no range yet. */
static int choose_list(struct wfe_network *network, const struct wfe_network_options *options,
    cJSON **ret, struct wfe_error *err)
{
    const char *directory = setting("NETCONFPATH", WFE_CNI_DEFAULT_DIRECTORY);
    const char *path = text_of(network->state, "path");
    WFE_JSON cJSON *list = NULL;
    int r = wfe_cni_list_load(directory, &list, err);
    if (r == 0 && !list) {
        snprintf(network->name, sizeof network->name, "%s", text_of(network->state, "group"));
        list = built_in_list(network, path);
        r = list ? 0 : wfe_error_nomem(err);
    }
    if (r == 0)
        r = wfe_cni_list_check(list, path, err);
    if (r == 0 && options->port_count > 0 && !can_publish(list))
        r = wfe_error_set(err, WFE_ERROR_INPUT, EOPNOTSUPP,
            "no plugin of the CNI network '%s' in %s can publish ports", text_of(list, "name"),
            directory);
    if (r == 0)
        *ret = wfe_steal(&list);
    return r;
}

static int plan(
    struct wfe_network *network, const struct wfe_network_options *options, struct wfe_error *err)
{
    if (geteuid() != 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EPERM, "it needs root");
    network->ports = options->ports;
    network->port_count = options->port_count;
    network->port_fds = calloc(options->port_count + 1, sizeof *network->port_fds);
    network->state = cJSON_CreateObject();
    if (!network->port_fds || !network->state)
        return wfe_error_nomem(err);
    for (size_t i = 0; i < network->port_count; i++)
        network->port_fds[i] = -1;
    char group[WFE_NETWORK_NAME_MAX];
    wfe_network_name(options->group ? options->group : options->id, group);
    int r = put(network->state, "group", cJSON_CreateString(group), err);
    if (r == 0 && options->service)
        r = put(network->state, "service", cJSON_CreateString(options->service), err);
    if (r == 0)
        r = put(network->state, "path",
            cJSON_CreateString(setting("CNI_PATH", WFE_CNI_DEFAULT_PATH)), err);
    if (r == 0)
        r = put(network->state, "capabilities",
            wfe_network_ports_capability(options->ports, options->port_count), err);
    cJSON *list = NULL;
    if (r == 0)
        r = choose_list(network, options, &list, err);
    return r < 0 ? r : put(network->state, "list", list, err);
}

int wfe_network_plan(
    const struct wfe_network_options *options, struct wfe_network **ret, struct wfe_error *err)
{
    struct wfe_network *network = NULL;
    int r = new_network(options->id, &network, err);
    if (r < 0)
        return r;
    r = plan(network, options, err);
    if (r < 0) {
        wfe_network_free(network);
        wfe_error_prefix(err, "network: bridge");
        return r;
    }
    *ret = network;
    return 0;
}

/* What other steps have: their ranges, and whether one is of our network, whose range is ours then.
 * The lock is held. */
static int look_around(
    struct wfe_network *network, bool *taken, bool *ret_shared, struct wfe_error *err)
{
    char **ids;
    size_t count;
    int r = wfe_network_step_list(&ids, &count, err);
    if (r < 0)
        return r;
    *ret_shared = false;
    for (size_t i = 0; i < count; i++) {
        WFE_CLOSE int fd = -1;
        bool locked;
        if (strcmp(ids[i], network->id) == 0 || wfe_network_step_open(ids[i], &fd, &locked) < 0)
            continue;
        WFE_JSON cJSON *state = wfe_network_state_read(fd);
        const cJSON *range = cJSON_GetObjectItemCaseSensitive(state, "range");
        const char *name = text_of(state, "name");
        if (!name || !cJSON_IsNumber(range) || range->valueint < 0 ||
            range->valueint >= WFE_NETWORK_RANGES)
            continue;
        taken[range->valueint] = true;
        if (strcmp(name, network->name) == 0) {
            network->range = range->valueint;
            *ret_shared = true;
        }
    }
    wfe_names_free(ids, count);
    return 0;
}

static int choose_range(struct wfe_network *network, struct wfe_error *err)
{
    bool taken[WFE_NETWORK_RANGES] = {false}, shared;
    int r = look_around(network, taken, &shared, err);
    if (r < 0)
        return r;
    if (!shared) {
        WFE_FREE char *routes = NULL;
        size_t length;
        r = wfe_read_file("/proc/net/route", ROUTES_MAX_BYTES, &routes, &length, err);
        if (r < 0)
            return r;
        wfe_network_taken_by_routes(routes, taken);
        network->range = wfe_network_choose_range(network->name, taken);
    }
    if (network->range < 0)
        return wfe_error_set(err, WFE_ERROR_LIMIT, ENOSPC,
            "all %d networks of 10.213.0.0/16 are in use", WFE_NETWORK_RANGES);
    cJSON *list = built_in_list(network, text_of(network->state, "path"));
    r = put(network->state, "list", list, err);
    if (r == 0)
        r = put(network->state, "name", cJSON_CreateString(network->name), err);
    return r < 0 ? r : put(network->state, "range", cJSON_CreateNumber(network->range), err);
}

/* A service that was kept has no process that holds its ports. */
static int check_ports(const struct wfe_network *network, struct wfe_error *err)
{
    if (network->port_count == 0)
        return 0;
    char **ids;
    size_t count;
    int r = wfe_network_step_list(&ids, &count, err);
    if (r < 0)
        return r;
    for (size_t i = 0; r == 0 && i < count; i++) {
        WFE_CLOSE int fd = -1;
        bool locked;
        if (wfe_network_step_open(ids[i], &fd, &locked) < 0)
            continue;
        WFE_JSON cJSON *state = wfe_network_state_read(fd);
        const struct wfe_step_port *port = wfe_network_ports_find(network->ports,
            network->port_count, cJSON_GetObjectItemCaseSensitive(state, "capabilities"));
        if (port)
            r = wfe_error_set(err, WFE_ERROR_SYSTEM, EADDRINUSE,
                "publish port %u/%s of the host: it is in use by %s", port->host_port,
                port->udp ? "udp" : "tcp", ids[i]);
    }
    wfe_names_free(ids, count);
    return r;
}

/* From here on others know of the step, and of its range. */
static int enter(struct wfe_network *network, struct wfe_error *err)
{
    char owner[WFE_OWNER_TEXT_MAX];
    int r = wfe_owner_self(owner);
    if (r < 0)
        return wfe_error_system(err, -r, "identify this process");
    r = put(network->state, "owner", cJSON_CreateString(owner), err);
    WFE_CLOSE int lock = -1;
    if (r == 0)
        r = wfe_network_lock(&lock, err);
    if (r == 0)
        r = check_ports(network, err);
    if (r == 0 && *network->name)
        r = choose_range(network, err);
    if (r == 0)
        r = wfe_network_step_make(network->id, &network->step_fd, err);
    if (r == 0)
        r = wfe_network_state_write(network->step_fd, network->state, err);
    if (r == 0 && *network->name)
        r = wfe_network_isolate(network->name, network->range, err);
    return r;
}

static struct wfe_cni_attachment attachment_of(
    const struct wfe_network *network, struct wfe_cancel *cancel)
{
    return (struct wfe_cni_attachment){
        .path = text_of(network->state, "path"),
        .container_id = network->id,
        .netns = network->files[0],
        .interface = INTERFACE,
        .capabilities = cJSON_GetObjectItemCaseSensitive(network->state, "capabilities"),
        .lock_fd = network->step_fd,
        .cancel = cancel,
    };
}

static int keep_result(void *context, const cJSON *result, struct wfe_error *err)
{
    struct wfe_network *network = context;
    int r = put(network->state, "result", cJSON_Duplicate(result, true), err);
    return r < 0 ? r : wfe_network_state_write(network->step_fd, network->state, err);
}

static int write_resolv_conf(
    const struct wfe_network *network, const cJSON *dns, bool has_ipv6, struct wfe_error *err)
{
    static const char *const places[] = {RESOLV_CONF, RESOLVED_CONF};
    WFE_BUFFER struct wfe_buffer text = WFE_BUFFER_INIT(WFE_NETWORK_FILE_MAX_BYTES);
    size_t servers = 0;
    for (size_t i = 0; servers == 0 && i < sizeof places / sizeof *places; i++) {
        WFE_FREE char *host_text = NULL;
        size_t length;
        if (access(places[i], R_OK) < 0)
            continue;
        int r = wfe_read_file(places[i], WFE_NETWORK_FILE_MAX_BYTES, &host_text, &length, err);
        if (r < 0)
            return r;
        wfe_buffer_done(&text);
        r = wfe_network_resolv_conf(host_text, dns, has_ipv6, &text, &servers);
        if (r < 0)
            return wfe_error_system(err, -r, "make a resolv.conf of %s", places[i]);
    }
    if (servers == 0)
        wfe_log(WFE_LOG_WARN, "network",
            "no name server of this machine can be reached from the step's network");
    int r = wfe_replace_file(
        network->step_fd, FILE_NAMES[1], text.data ? text.data : "", text.length, 0644);
    return r < 0 ? wfe_error_system(err, -r, "write resolv.conf") : 0;
}

/* A service's name is told to those that are there already. */
static int write_names(const struct wfe_network *network, struct wfe_error *err)
{
    WFE_CLOSE int lock = -1;
    int r = wfe_network_lock(&lock, err);
    return r < 0 ? r
                 : wfe_network_names_write(text_of(network->state, "group"),
                       text_of(network->state, "service") ? NULL : network->id, err);
}

static int write_files(struct wfe_network *network, struct wfe_error *err)
{
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(network->state, "result");
    bool has_ipv6 = false;
    wfe_network_addresses_read(result, &network->addresses);
    for (size_t i = 0; i < network->addresses.count; i++)
        has_ipv6 = has_ipv6 || strchr(network->addresses.text[i], ':');
    int r =
        write_resolv_conf(network, cJSON_GetObjectItemCaseSensitive(result, "dns"), has_ipv6, err);
    return r < 0 ? r : write_names(network, err);
}

int wfe_network_up(struct wfe_network *network, struct wfe_cancel *cancel, struct wfe_error *err)
{
    /* A port of a step that nobody looks after any more still leads into its network. */
    struct wfe_network_report report;
    int r = wfe_network_reclaim(&report, err);
    if (r == 0)
        r = wfe_network_ports_take(network->ports, network->port_count, network->port_fds, err);
    if (r == 0)
        r = enter(network, err);
    if (r == 0)
        r = wfe_netns_make(network->files[0], err);
    if (r == 0) {
        struct wfe_cni_attachment attachment = attachment_of(network, cancel);
        r = wfe_cni_add(cJSON_GetObjectItemCaseSensitive(network->state, "list"), &attachment,
            keep_result, network, err);
    }
    if (r == 0)
        r = write_files(network, err);
    if (r < 0)
        wfe_error_prefix(err, "network: bridge");
    return r;
}

const char *wfe_network_namespace(const struct wfe_network *network)
{
    return network->files[0];
}

const struct wfe_spec_file *wfe_network_files(const struct wfe_network *network, size_t *ret_count)
{
    *ret_count = WFE_NETWORK_FILES_MAX;
    return network->spec_files;
}

const char *wfe_network_address(const struct wfe_network *network)
{
    return wfe_network_addresses_main(&network->addresses);
}

const char *wfe_network_gateway(const struct wfe_network *network)
{
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(network->state, "result"), *ip;
    cJSON_ArrayForEach(ip, cJSON_GetObjectItemCaseSensitive(result, "ips"))
    {
        const char *gateway = text_of(ip, "gateway");
        if (gateway)
            return gateway;
    }
    return NULL;
}

int wfe_network_keep(struct wfe_network *network, struct wfe_error *err)
{
    int r = put(network->state, "kept", cJSON_CreateTrue(), err);
    return r < 0 ? r : wfe_network_state_write(network->step_fd, network->state, err);
}

/* A service's name is forgotten. */
static void forget_name(const struct wfe_network *network)
{
    struct wfe_error err = WFE_ERROR_INIT;
    const char *group = text_of(network->state, "group");
    if (group && text_of(network->state, "service") &&
        wfe_network_names_write(group, NULL, &err) < 0)
        wfe_log(WFE_LOG_WARN, "network", "%s", err.message);
}

/* The step is no more; the last one of a built-in network takes that along. */
static int leave(struct wfe_network *network, struct wfe_error *err)
{
    WFE_CLOSE int lock = -1;
    int r = wfe_network_lock(&lock, err);
    if (r == 0 && *network->name && network->range >= 0) {
        bool taken[WFE_NETWORK_RANGES] = {false}, shared = false;
        int range = network->range;
        r = look_around(network, taken, &shared, err);
        if (r == 0 && !shared)
            r = wfe_network_range_remove(network->name, range, err);
    }
    if (r == 0) {
        r = wfe_network_step_remove(network->id);
        if (r < 0)
            wfe_error_system(err, -r, "remove the network's files");
    }
    if (r == 0)
        forget_name(network);
    return r;
}

int wfe_network_down(struct wfe_network *network, struct wfe_error *err)
{
    if (network->step_fd < 0)
        return 0;
    int r = 0;
    /* Killed between the two halves of making it, a process leaves a file that plugins stumble
     * over; one that is not there they accept. */
    if (!wfe_netns_is_made(network->files[0]))
        unlink(network->files[0]);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(network->state, "list");
    if (list) {
        struct wfe_cni_attachment attachment = attachment_of(network, NULL);
        r = wfe_cni_del(
            list, &attachment, cJSON_GetObjectItemCaseSensitive(network->state, "result"), err);
    }
    if (r == 0) {
        r = wfe_netns_remove(network->files[0]);
        if (r < 0)
            wfe_error_system(err, -r, "remove the network namespace");
    }
    if (r == 0)
        r = leave(network, err);
    wfe_cleanup_close(&network->step_fd);
    network->step_fd = -1;
    return r;
}

/* What a state says, when it says all that is needed to detach the step. */
static bool take_state(struct wfe_network *network, cJSON *state)
{
    const cJSON *range = cJSON_GetObjectItemCaseSensitive(state, "range");
    const char *name = text_of(state, "name");
    if (!text_of(state, "path") || !cJSON_GetObjectItemCaseSensitive(state, "list"))
        return false;
    if (name && cJSON_IsNumber(range) && strlen(name) < sizeof network->name &&
        range->valueint >= 0 && range->valueint < WFE_NETWORK_RANGES) {
        snprintf(network->name, sizeof network->name, "%s", name);
        network->range = range->valueint;
    }
    network->state = state;
    return true;
}

/* Takes step_fd, which is locked. */
static int reclaim_step(const char *id, int step_fd, struct wfe_error *err)
{
    struct wfe_network *network = NULL;
    int r = new_network(id, &network, err);
    if (r < 0) {
        close(step_fd);
        return r;
    }
    network->step_fd = step_fd;
    cJSON *state = wfe_network_state_read(step_fd);
    if (!state || !take_state(network, state))
        cJSON_Delete(state);
    r = wfe_network_down(network, err);
    wfe_network_free(network);
    return r;
}

/* Nobody but a plugin holds a step's lock any more; not for long, since it has but so much time. */
static bool is_ending(int step_fd)
{
    WFE_JSON cJSON *state = wfe_network_state_read(step_fd);
    const char *owner = text_of(state, "owner");
    struct stat st;
    return owner && wfe_owner_judge(owner) == WFE_OWNER_DEAD && fstat(step_fd, &st) == 0 &&
           time(NULL) - st.st_mtime < WFE_CNI_PLUGIN_TIMEOUT_MS / 1000;
}

/* Its service outlives the one that brought it up. */
static bool is_kept(int step_fd)
{
    WFE_JSON cJSON *state = wfe_network_state_read(step_fd);
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(state, "kept"));
}

/* Open and lock it, unless it is just being made. */
static int open_step(const char *id, int *ret_fd, bool *ret_locked)
{
    WFE_CLOSE int lock = -1;
    int r = wfe_network_lock(&lock, NULL);
    return r < 0 ? r : wfe_network_step_open(id, ret_fd, ret_locked);
}

int wfe_network_remove(const char *id, bool *ret_removed, struct wfe_error *err)
{
    *ret_removed = false;
    WFE_FREE char *path = wfe_network_step_path(id, "");
    if (!path)
        return wfe_error_nomem(err);
    int fd = -1;
    bool locked = false;
    if (access(path, F_OK) < 0 || open_step(id, &fd, &locked) < 0)
        return 0;
    if (!locked) {
        close(fd);
        return 0;
    }
    int r = reclaim_step(id, fd, err);
    *ret_removed = r == 0;
    return r;
}

char *wfe_network_group(const char *namespace_, const char *workflow_id)
{
    char *group;
    return asprintf(&group, "%s/%s", namespace_, workflow_id) < 0 ? NULL : group;
}

/* The same, unless it is kept: -EALREADY. Nobody who takes such a one away finds it locked by us.
 */
static int open_left_behind(const char *id, int *ret_fd, bool *ret_locked)
{
    WFE_CLOSE int lock = -1;
    WFE_CLOSE int fd = -1;
    bool locked = false;
    int r = wfe_network_lock(&lock, NULL);
    if (r == 0)
        r = wfe_network_step_open(id, &fd, &locked);
    if (r == 0 && locked && is_kept(fd))
        r = -EALREADY;
    if (r < 0)
        return r;
    *ret_fd = wfe_steal_fd(&fd);
    *ret_locked = locked;
    return 0;
}

int wfe_network_reclaim(struct wfe_network_report *ret, struct wfe_error *err)
{
    struct wfe_network_report report = {0};
    char **ids;
    size_t count;
    int r = wfe_network_step_list(&ids, &count, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < count; i++) {
        int fd = -1;
        bool locked = false;
        if (open_left_behind(ids[i], &fd, &locked) < 0)
            continue;
        if (!locked) {
            report.busy = report.busy || is_ending(fd);
            close(fd);
            continue;
        }
        struct wfe_error failure = WFE_ERROR_INIT;
        if (reclaim_step(ids[i], fd, &failure) == 0) {
            report.reclaimed++;
            wfe_log(WFE_LOG_INFO, "gc", "reclaimed the network of %s", ids[i]);
        } else {
            report.failed++;
            wfe_log(WFE_LOG_WARN, "gc", "network of %s: %s", ids[i], failure.message);
        }
    }
    wfe_names_free(ids, count);
    *ret = report;
    return 0;
}
