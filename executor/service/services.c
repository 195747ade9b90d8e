/* SPDX-License-Identifier: MIT */
#include "executor/service/services.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "executor/daemon/container.h"
#include "executor/spec/host.h"
#include "executor/image/image.h"
#include "executor/daemon/lease.h"
#include "executor/daemon/lease_keeper.h"
#include "executor/network/network_files.h"
#include "executor/run/result.h"
#include "executor/service/service_data.h"
#include "executor/service/service_log.h"
#include "executor/service/service_probe.h"
#include "executor/daemon/sharing.h"
#include "executor/daemon/snapshot.h"
#include "executor/spec/spec.h"
#include "executor/daemon/task.h"
#include "executor/unwind.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define UNDO_TIMEOUT_MS 30000
#define STOP_GRACE_MS 10000

/* While the first interval lasts, a service is looked at this often. */
#define FIRST_PAUSE_MS 100

/* On the container: where its output is, and whose it is. */
#define LOG_LABEL "wfe.log"
#define SERVICE_LABEL "wfe.service"
#define WORKFLOW_LABEL "wfe.workflow"

struct running {
    const struct wfe_service *service;
    char id[WFE_SERVICE_ID_MAX];
    char *directory;            /* of its log; NULL: its output is not kept */
    char *stdio;                /* see executor/service/service_log.h */
    struct wfe_session session; /* with its own lease */
    struct wfe_lease_keeper *lease_keeper;
    struct wfe_network *network; /* NULL: the host's */
    struct wfe_rpc_call *wait;
    bool lease_made, snapshot_made, container_made, task_made;
    cJSON *spec;
    pthread_t watcher, thread;
    struct wfe_cancel *watch_stop; /* NULL: nobody watches */
    bool in_thread;
    atomic_bool ended;
    uint32_t status;          /* once it ended */
    struct wfe_error failure; /* of its removal; or why it is not known how it ended */
};

struct wfe_services {
    struct wfe_services_options options;
    struct running *items;
};

int wfe_service_id(const char *service, const char *workflow_id, char id[static WFE_SERVICE_ID_MAX])
{
    int length = snprintf(id, WFE_SERVICE_ID_MAX, "wfe-svc-%s-%s", service, workflow_id);
    if (length < 0 || length >= WFE_SERVICE_ID_MAX)
        return -EINVAL;
    bool separator = true;
    for (const char *c = id; *c; c++) {
        bool is_letter = (unsigned char)*c < 0x80 && isalnum((unsigned char)*c);
        if (!is_letter && (separator || !strchr("._-", *c)))
            return -EINVAL;
        separator = !is_letter;
    }
    return separator ? -EINVAL : 0;
}

static int set_id(const struct wfe_services_options *options, const struct wfe_service *service,
    char id[static WFE_SERVICE_ID_MAX], struct wfe_error *err)
{
    if (wfe_service_id(service->name, options->workflow_id, id) == 0)
        return 0;
    return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
        "service '%s': no container may be called wfe-svc-%s-%.80s; allowed: 76 letters and digits "
        "with single '.', '_' or '-' between them",
        service->name, service->name, options->workflow_id);
}

/* Its output is complete once its task is deleted. */
static int tell_end(const struct running *running, struct wfe_error *err)
{
    wfe_task_delete(&running->session, running->id, NULL, NULL);
    if (running->failure.kind != WFE_ERROR_NONE)
        return wfe_error_set(err, WFE_ERROR_CONTAINERD, ECHILD, "service '%s' is gone: %s",
            running->service->name, running->failure.message);
    WFE_FREE char *tail = wfe_service_log_tail(running->directory);
    return wfe_error_set(err, WFE_ERROR_CONTAINERD, ECHILD, "service '%s' ended with code %u%s%s",
        running->service->name, (unsigned)running->status, tail && *tail ? ": " : "",
        tail ? tail : "");
}

/* Where this machine finds it. */
static const char *address_of(const struct running *running)
{
    return running->network ? wfe_network_address(running->network) : "127.0.0.1";
}

static const struct wfe_label *labels_of(
    const struct running *running, const char *workflow_id, struct wfe_label labels[static 3])
{
    labels[0] = (struct wfe_label){SERVICE_LABEL, running->service->name};
    labels[1] = (struct wfe_label){WORKFLOW_LABEL, workflow_id};
    labels[2] = (struct wfe_label){LOG_LABEL, running->directory ? running->directory : ""};
    return labels;
}

/* command is the Entrypoint's place, args that of Cmd; an Entrypoint of one's own drops the image's
 * Cmd, as everywhere. */
static struct wfe_image_config with_command(
    const struct wfe_image_config *image, const struct wfe_service *service)
{
    static char *none[] = {NULL};
    struct wfe_image_config config = *image;
    if (service->command) {
        config.entrypoint = service->command;
        config.cmd = none;
    }
    if (service->args)
        config.cmd = service->args;
    return config;
}

static int build_spec(
    struct running *running, const struct wfe_image_config *image, struct wfe_error *err)
{
    const struct wfe_step_config *config = &running->service->config;
    struct wfe_image_config own = with_command(image, running->service);
    struct wfe_spec_file files[WFE_NETWORK_FILES_MAX];
    const struct wfe_user root = {.uid = 0};
    struct wfe_spec_options options = {
        .namespace_ = running->session.namespace_,
        .container_id = running->id,
        .architecture = running->session.platform.architecture,
        .user = &root,
        .files = files,
    };
    if (running->network) {
        options.network_namespace = wfe_network_namespace(running->network);
        options.files = wfe_network_files(running->network, &options.file_count);
    } else {
        options.file_count = wfe_network_host_files(running->session.local, files);
    }
    if (running->session.local) {
        struct wfe_host host = wfe_host_probe();
        options.apparmor_profile = host.apparmor_profile;
        options.limits_swap = host.limits_swap;
    }
    char **env = wfe_spec_env(&own, NULL, config);
    if (!env)
        return wfe_error_nomem(err);
    int r = wfe_spec_build(config, &own, env, &options, &running->spec, err);
    wfe_spec_env_free(env);
    const cJSON *process = cJSON_GetObjectItemCaseSensitive(running->spec, "process");
    if (r == 0 && cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(process, "args")) == 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "nothing to run: image '%s' has no command of its own", config->image);
    return r;
}

static int hold_lease(void *context, struct wfe_error *err)
{
    struct running *running = context;
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    running->lease_made = true;
    int r = wfe_lease_create_start(&running->session, running->id, &call, err);
    if (r == 0)
        r = wfe_lease_create_finish(call, err);
    if (r == 0)
        running->session.lease = running->id;
    return r;
}

static int create_container(struct running *running, const struct wfe_services_options *options,
    const char *image, struct wfe_error *err)
{
    struct wfe_label labels[3];
    struct wfe_container_options container = {
        .id = running->id,
        .image = image,
        .step_name = running->service->name,
        .spec = running->spec,
        .labels = labels_of(running, options->workflow_id, labels),
        .label_count = 3,
    };
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    running->container_made = true;
    int r = wfe_container_create_start(&running->session, &container, &call, err);
    if (r == 0)
        r = wfe_container_create_finish(call, err);
    /* Somebody else was quicker. */
    if (r == -EEXIST)
        running->container_made = false;
    return r;
}

static int start_task(
    struct running *running, Snapshots__PrepareSnapshotResponse *root, struct wfe_error *err)
{
    int r = wfe_snapshot_set_volatile(&running->session, root, err);
    if (r < 0)
        return r;
    running->task_made = true;
    r = wfe_task_create(&running->session, running->id, root, running->stdio, running->stdio, err);
    if (r == 0)
        r = wfe_task_wait_start(&running->session, running->id, &running->wait, err);
    running->lease_keeper = wfe_lease_keep(&running->session, running->id);
    return r < 0 ? r : wfe_task_start(&running->session, running->id, err);
}

/* Whether there can be a bridge is told before anything is made. */
static int plan_network(
    struct running *running, const struct wfe_services_options *options, struct wfe_error *err)
{
    const struct wfe_step_config *config = &running->service->config;
    if (config->network != WFE_NETWORK_BRIDGE)
        return 0;
    if (!running->session.local)
        return wfe_error_set(err, WFE_ERROR_INPUT, EOPNOTSUPP,
            "network: bridge needs a daemon on this machine, and the one at %s is remote",
            running->session.address);
    WFE_FREE char *group = wfe_network_group(running->session.namespace_, options->workflow_id);
    if (!group)
        return wfe_error_nomem(err);
    struct wfe_network_options network = {
        .id = running->id,
        .group = group,
        .service = running->service->name,
        .ports = config->ports,
        .port_count = config->port_count,
    };
    return wfe_network_plan(&network, &running->network, err);
}

static int bring_network_up(struct running *running, struct wfe_error *err)
{
    if (!running->network)
        return 0;
    int r = wfe_network_up(running->network, running->session.cancel, err);
    if (r == 0 && !address_of(running))
        r = wfe_error_set(err, WFE_ERROR_SYSTEM, EADDRNOTAVAIL,
            "network: bridge: the plugins gave it no address");
    return r;
}

static int start_service(struct running *running, const struct wfe_services_options *options,
    struct wfe_image *image, struct wfe_error *err)
{
    struct wfe_digest chain;
    WFE_MESSAGE Snapshots__PrepareSnapshotResponse *root = NULL;
    int r = wfe_pull_by_policy(&running->session, &running->service->config, &options->pull,
        hold_lease, running, image, &chain, err);
    if (r == 0)
        r = bring_network_up(running, err);
    if (r == 0)
        r = build_spec(running, &image->config, err);
    if (r == 0)
        r = wfe_service_log_directory(&running->session, running->id, &running->directory, err);
    if (r == 0)
        r = wfe_service_log_open(&running->session, running->directory, &running->stdio, err);
    if (r == 0)
        r = create_container(running, options, image->name, err);
    if (r == 0) {
        running->snapshot_made = true;
        r = wfe_snapshot_prepare(&running->session, running->id, chain.text, NULL, 0, &root, err);
    }
    return r < 0 ? r : start_task(running, root, err);
}

/* One that somebody else has brought up is not ours to touch. */
static int check_absent(const struct running *running, struct wfe_error *err)
{
    bool exists;
    WFE_FREE char *log = NULL;
    int r = wfe_container_label(&running->session, running->id, LOG_LABEL, &exists, &log, err);
    if (r == 0 && exists)
        r = wfe_error_set(err, WFE_ERROR_INPUT, EEXIST,
            "it is up already, as container %s: take it down first", running->id);
    return r;
}

static int start(
    struct running *running, const struct wfe_services_options *options, struct wfe_error *err)
{
    enum wfe_probe_kind kind = running->service->probe.kind;
    struct wfe_image image = {0};
    int r = 0;
    if (!running->session.local && kind != WFE_PROBE_EXEC && kind != WFE_PROBE_NONE)
        r = wfe_error_set(err, WFE_ERROR_INPUT, EOPNOTSUPP,
            "the daemon at %s is remote, so its readiness needs 'exec'", running->session.address);
    if (r == 0)
        r = check_absent(running, err);
    if (r == 0)
        r = start_service(running, options, &image, err);
    wfe_image_done(&image);
    if (r < 0)
        wfe_error_prefix(err, "service '%s'", running->service->name);
    return r;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Probe it until it is ready; between the tries its end is waited for. */
static int await_ready(struct running *running, struct wfe_error *err)
{
    const struct wfe_service_probe *probe = &running->service->probe;
    const cJSON *process = cJSON_GetObjectItemCaseSensitive(running->spec, "process");
    int64_t started = now_ms(), until = started + (int64_t)probe->timeout_ms;
    int64_t interval = (int64_t)probe->interval_ms;
    uint64_t tries = 0;
    char reason[WFE_PROBE_REASON_MAX] = "it was not tried";
    for (unsigned number = 0;; number++) {
        bool first_interval = now_ms() - started < interval;
        int64_t left = until - now_ms();
        if (left <= 0 || tries >= probe->retries)
            return wfe_error_set(err, WFE_ERROR_TIMEOUT, ETIMEDOUT, "service '%s' is not ready: %s",
                running->service->name, reason);
        int r = wfe_probe_try(&running->session, running->id, address_of(running), probe, process,
            number, left < interval ? left : interval, reason);
        if (r == 1)
            return 0;
        if (r == -ENOMEM)
            return wfe_error_nomem(err);
        tries += !first_interval;
        left = until - now_ms();
        int64_t pause = first_interval && interval > FIRST_PAUSE_MS ? FIRST_PAUSE_MS : interval;
        r = wfe_task_wait_finish(
            running->wait, left < pause ? left < 0 ? 0 : left : pause, &running->status, err);
        if (r == 0)
            return tell_end(running, err);
        if (r != -ETIMEDOUT || err->kind != WFE_ERROR_NONE)
            return r;
    }
}

static void release(void *context)
{
    struct running *running = context;
    if (running->directory)
        wfe_remove_tree(running->directory);
}

static void *undo(void *context)
{
    struct running *running = context;
    struct wfe_holdings holdings = {
        .id = running->id,
        .service = running->service->name,
        .lease_made = running->lease_made,
        .snapshot_made = running->snapshot_made,
        .container_made = running->container_made,
        .task_made = running->task_made,
        .network = running->network,
        .release = release,
        .context = running,
    };
    wfe_rpc_call_free(wfe_steal(&running->wait));
    wfe_lease_keeper_stop(wfe_steal(&running->lease_keeper));
    running->session.lease = NULL;
    if (running->task_made)
        wfe_task_stop(&running->session, running->id, STOP_GRACE_MS, NULL);
    wfe_unwind(&running->session, &holdings);
    return NULL;
}

/* For each at once: one that does not heed SIGTERM must not keep the others from hearing it. */
static void each_at_once(struct running *items, size_t count, void *(*function)(void *running))
{
    for (size_t i = 0; i < count; i++)
        items[i].in_thread = pthread_create(&items[i].thread, NULL, function, &items[i]) == 0;
    for (size_t i = 0; i < count; i++) {
        if (items[i].in_thread)
            pthread_join(items[i].thread, NULL);
        else
            function(&items[i]);
    }
}

static void free_services(struct wfe_services *services)
{
    for (size_t i = 0; i < services->options.count; i++) {
        struct running *running = &services->items[i];
        wfe_rpc_call_free(running->wait);
        wfe_network_free(running->network);
        cJSON_Delete(running->spec);
        free(running->directory);
        free(running->stdio);
    }
    free(services->items);
    free(services);
}

static void stop_watching(struct running *running)
{
    if (!running->watch_stop)
        return;
    wfe_cancel_trigger(running->watch_stop);
    pthread_join(running->watcher, NULL);
    wfe_cancel_free(wfe_steal(&running->watch_stop));
}

void wfe_services_down(struct wfe_services *services)
{
    if (!services)
        return;
    for (size_t i = 0; i < services->options.count; i++)
        stop_watching(&services->items[i]);
    each_at_once(services->items, services->options.count, undo);
    free_services(services);
}

int wfe_services_up(
    const struct wfe_services_options *options, struct wfe_services **ret, struct wfe_error *err)
{
    struct wfe_services *services = calloc(1, sizeof *services);
    if (!services || !(services->items = calloc(options->count + 1, sizeof *services->items))) {
        free(services);
        return wfe_error_nomem(err);
    }
    services->options = *options;
    int r = 0;
    for (size_t i = 0; i < options->count; i++) {
        struct running *running = &services->items[i];
        running->service = &options->services[i];
        running->session = *options->session;
        if (r == 0)
            r = set_id(options, running->service, running->id, err);
        if (r == 0 && (r = plan_network(running, options, err)) < 0)
            wfe_error_prefix(err, "service '%s'", running->service->name);
    }
    for (size_t i = 0; r == 0 && i < options->count; i++) {
        wfe_progress_stage(
            options->pull.progress, "starting service %s", options->services[i].name);
        r = start(&services->items[i], options, err);
    }
    for (size_t i = 0; r == 0 && i < options->count; i++) {
        wfe_progress_stage(
            options->pull.progress, "waiting for service %s", options->services[i].name);
        r = await_ready(&services->items[i], err);
    }
    if (r < 0) {
        wfe_services_down(services);
        return r;
    }
    *ret = services;
    return 0;
}

int wfe_services_disown(struct wfe_services *services, struct wfe_error *err)
{
    for (size_t i = 0; i < services->options.count; i++) {
        struct running *running = &services->items[i];
        struct wfe_label labels[3];
        wfe_lease_keeper_stop(wfe_steal(&running->lease_keeper));
        int r = running->network ? wfe_network_keep(running->network, err) : 0;
        if (r == 0)
            r = wfe_container_disown(&running->session, running->id,
                labels_of(running, services->options.workflow_id, labels), 3, err);
        /* The container's record holds the snapshot from now on. */
        if (r == 0)
            r = wfe_lease_delete(&running->session, running->id, false, UNDO_TIMEOUT_MS, err);
        if (r < 0)
            return r;
    }
    free_services(services);
    return 0;
}

cJSON *wfe_services_data(const struct wfe_services *services)
{
    size_t count = services->options.count;
    WFE_FREE const char **addresses = calloc(count + 1, sizeof *addresses);
    if (!addresses)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (services->items[i].network)
            addresses[i] = address_of(&services->items[i]);
    return wfe_service_data(
        services->options.services, addresses, count, services->options.workflow_id);
}

static void *watch(void *context)
{
    struct running *running = context;
    struct wfe_session session = running->session;
    session.cancel = running->watch_stop;
    int r = wfe_task_await(&session, running->id, &running->status, &running->failure);
    if (r != -ECANCELED) {
        atomic_store(&running->ended, true);
        wfe_cancel_trigger(running->session.cancel);
    }
    return NULL;
}

static int start_watching(struct running *running, struct wfe_error *err)
{
    int r = wfe_cancel_new(&running->watch_stop);
    if (r < 0)
        return wfe_error_system(err, -r, "watch over a service");
    r = pthread_create(&running->watcher, NULL, watch, running);
    if (r == 0)
        return 0;
    wfe_cancel_free(wfe_steal(&running->watch_stop));
    return wfe_error_system(err, r, "start a thread");
}

int wfe_services_watch(struct wfe_services *services, struct wfe_error *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < services->options.count; i++)
        r = start_watching(&services->items[i], err);
    return r;
}

bool wfe_services_ended(struct wfe_services *services, struct wfe_error *err)
{
    for (size_t i = 0; i < services->options.count; i++) {
        if (!atomic_load(&services->items[i].ended))
            continue;
        tell_end(&services->items[i], err);
        return true;
    }
    return false;
}

/* Anybody may have written the label. */
static bool is_log_directory(const char *directory, const char *id)
{
    const char *name = directory ? strrchr(directory, '/') : NULL;
    return name && strncmp(name, "/wfe-io-", strlen("/wfe-io-")) == 0 &&
           strcmp(name + strlen("/wfe-io-"), id) == 0;
}

static int remove_named(const struct wfe_session *session, const char *id, struct wfe_error *err)
{
    bool exists;
    WFE_FREE char *directory = NULL;
    int r = wfe_container_label(session, id, LOG_LABEL, &exists, &directory, err);
    /* Others have removed the container alone. */
    if (r == 0 && !exists)
        r = wfe_service_log_directory(session, id, &directory, err);
    if (r == 0 && exists)
        r = wfe_task_stop(session, id, STOP_GRACE_MS, err);
    if (r == 0 && exists)
        r = wfe_task_delete(session, id, NULL, err);
    /* Before the record by which they are found. */
    bool had_network;
    if (r == 0 && session->local)
        r = wfe_network_remove(id, &had_network, err);
    if (r == 0 && is_log_directory(directory, id))
        wfe_remove_tree(directory);
    if (r == 0)
        r = wfe_container_delete(session, id, UNDO_TIMEOUT_MS, err);
    if (r == 0)
        r = wfe_snapshot_remove(session, id, UNDO_TIMEOUT_MS, err);
    if (r == 0)
        r = wfe_lease_delete_all(session, id, UNDO_TIMEOUT_MS, err);
    return r;
}

static void *remove_one(void *context)
{
    struct running *running = context;
    remove_named(&running->session, running->id, &running->failure);
    return NULL;
}

int wfe_services_remove(const struct wfe_services_options *options, struct wfe_error *err)
{
    WFE_FREE struct running *items = calloc(options->count + 1, sizeof *items);
    if (!items)
        return wfe_error_nomem(err);
    for (size_t i = 0; i < options->count; i++) {
        items[i].service = &options->services[i];
        items[i].session = *options->session;
        int r = set_id(options, items[i].service, items[i].id, err);
        if (r < 0)
            return r;
    }
    each_at_once(items, options->count, remove_one);
    for (size_t i = 0; i < options->count; i++) {
        if (items[i].failure.kind == WFE_ERROR_NONE)
            continue;
        *err = items[i].failure;
        wfe_error_prefix(err, "service '%s'", items[i].service->name);
        return -err->errnum;
    }
    return 0;
}
