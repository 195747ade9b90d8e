/* SPDX-License-Identifier: MIT */
#include "executor/run/run_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/daemon/container.h"
#include "executor/spec/host.h"
#include "executor/daemon/lease.h"
#include "executor/daemon/remote_path.h"
#include "executor/daemon/sharing.h"
#include "executor/network/network_files.h"
#include "executor/image/pull.h"
#include "executor/reclaim.h"
#include "executor/service/service_data.h"
#include "executor/spec/root_user.h"
#include "executor/daemon/snapshot.h"
#include "executor/spec/spec.h"
#include "libcommon/cleanup.h"
#include "libcommon/log.h"

/* Stored inputs of more bytes than this, which the daemon has not got, are mounted by default: of
 * those a layer takes twice as long as a mount, also when the step reads all of it (`scripts/bench
 * input`). What is smaller is soon applied, and as a layer costs nothing the next time. */
#define MOUNT_FROM_BYTES (UINT64_C(16) * 1024 * 1024)

static int check_cancelled(const struct step_run *run, struct wfe_error *err)
{
    if (wfe_cancel_requested(run->options->daemon.cancel))
        return wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "stopped before it ran");
    return 0;
}

static bool contains(const char *directory, const char *path)
{
    size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* What is mounted is not in the container's own file system, which outputs are taken of. */
static bool has_output_around_input(const struct wfe_step_config *config)
{
    for (size_t i = 0; i < config->output_count; i++)
        for (size_t j = 0; j < config->input_count; j++)
            if (contains(config->outputs[i].value, config->inputs[j].value) ||
                contains(config->inputs[j].value, config->outputs[i].value))
                return true;
    return false;
}

/* Why the inputs can't be mounted (static), or NULL. */
static const char *mount_obstacle(const struct step_run *run)
{
    if (has_output_around_input(&run->step->config))
        return "an output is in the same place as an input";
    return run->session.local ? wfe_input_mount_obstacle(&run->inputs) : "the daemon is remote";
}

static int start_mount(struct step_run *run, struct wfe_error *err)
{
    int r = wfe_input_mount_start(&run->inputs, wfe_sharing_directory(NULL), run->id,
        run->options->store_path, &run->mount, err);
    run->mount_fails = r < 0;
    return r;
}

/* Mounting begins at once, when it was asked for. */
static int start_wanted_mount(struct step_run *run, struct wfe_error *err)
{
    if (run->inputs.count == 0 || run->inputs_as != WFE_INPUTS_MOUNT)
        return 0;
    const char *obstacle = mount_obstacle(run);
    if (!obstacle)
        return start_mount(run, err);
    wfe_log(WFE_LOG_WARN, "inputs", "not mounted but applied as layers: %s", obstacle);
    return 0;
}

/* Whether there can be a bridge is told before anything is made. */
static int plan_network(struct step_run *run, struct wfe_error *err)
{
    const struct wfe_step_config *config = &run->step->config;
    if (config->network != WFE_NETWORK_BRIDGE)
        return 0;
    if (!run->session.local)
        return wfe_error_set(err, WFE_ERROR_INPUT, EOPNOTSUPP,
            "network: bridge needs a daemon on this machine, and the one at %s is remote",
            run->session.address);
    WFE_FREE char *group = NULL;
    if (run->workflow_id && !(group = wfe_network_group(run->session.namespace_, run->workflow_id)))
        return wfe_error_nomem(err);
    struct wfe_network_options options = {
        .id = run->id,
        .group = group,
        .ports = config->ports,
        .port_count = config->port_count,
    };
    return wfe_network_plan(&options, &run->network, err);
}

static int connect_daemon(struct step_run *run, struct wfe_error *err)
{
    const struct wfe_run_options *options = run->options;
    struct wfe_connect_options connect_options =
        wfe_run_daemon(&options->daemon, &run->step->config);
    wfe_progress_stage(options->progress, "connecting to %s", connect_options.address);
    int r = wfe_connect_start(&connect_options, &run->session, err);
    if (r < 0)
        return r;
    run->connected = true;
    /* What can't be asked now is asked when it is needed. */
    if (run->step->config.pull != WFE_PULL_ALWAYS)
        wfe_image_find_start(&run->session, run->step->config.image, &run->image_call, NULL);
    run->lease_made = true;
    r = wfe_lease_create_start(&run->session, run->id, &run->lease_call, err);
    if (r == 0)
        r = wfe_connect_finish(&run->session, err);
    if (r < 0)
        return r;
    wfe_log(WFE_LOG_INFO, "connect", "containerd %s, %s/%s, at %s", run->session.version,
        run->session.platform.os, run->session.platform.architecture, run->session.address);
    return 0;
}

/* A way that can't be gone is refused: a task whose pipes are not its daemon's may hang. */
static int check_io(const struct step_run *run, struct wfe_error *err)
{
    const struct wfe_session *session = &run->session;
    const char *directory = wfe_sharing_directory(run->options->io_directory);
    if (run->io_kind == WFE_TASK_IO_FIFO && !session->local)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "--io fifo: the daemon at %s is not on this machine, or does not see its files; --io "
            "snapshot works everywhere",
            session->address);
    if (run->io_kind == WFE_TASK_IO_FILE && !session->sees_directory)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "--io file: the daemon at %s does not see the directory %s: set WFE_IO_DIR to one that "
            "it sees under the same path; --io snapshot works everywhere",
            session->address, directory);
    return 0;
}

enum wfe_task_io_kind wfe_run_io_kind(const struct wfe_session *session, const char *io_directory)
{
    if (!session->sees_directory)
        return WFE_TASK_IO_SNAPSHOT;
    return session->local && !io_directory ? WFE_TASK_IO_FIFO : WFE_TASK_IO_FILE;
}

/* Which way the output takes. */
static int choose_io(struct step_run *run, struct wfe_error *err)
{
    const struct wfe_run_options *options = run->options;
    const struct wfe_session *session = &run->session;
    run->io_kind = options->io;
    if (options->io_given)
        return check_io(run, err);
    if (options->io_directory && !session->sees_directory)
        wfe_log(WFE_LOG_WARN, "output", "the daemon does not see WFE_IO_DIR, %s",
            options->io_directory);
    run->io_kind = wfe_run_io_kind(session, options->io_directory);
    return 0;
}

/* Only the machine of the daemon knows what a volume's source is. */
static int check_volumes(struct step_run *run, struct wfe_error *err)
{
    const struct wfe_step_config *config = &run->step->config;
    if (run->session.local)
        return wfe_host_check_volumes(config, err);
    int r = 0;
    for (size_t i = 0; i < config->volume_count && r == 0; i++) {
        if (config->volumes[i].type != WFE_VOLUME_BIND)
            continue;
        r = wfe_step_run_hold_lease(run, err);
        if (r < 0)
            return r;
        r = wfe_remote_path_check(&run->session, config->volumes[i].source, err);
        if (r < 0)
            wfe_error_prefix(err, "volumes[%zu].source", i);
    }
    return r;
}

/* What the daemon shares with us, and what a step wants that needs it. */
static int check_sharing(struct step_run *run, struct wfe_error *err)
{
    int r =
        wfe_sharing_find(&run->session, run->options->io_directory, WFE_SHARING_REMEMBERED, err);
    if (r == 0)
        r = check_volumes(run, err);
    if (r == 0)
        r = plan_network(run, err);
    if (r == 0)
        r = choose_io(run, err);
    return r < 0 ? r : start_wanted_mount(run, err);
}

/* Awaited in any case: a lease must not appear after its deletion. */
int wfe_step_run_hold_lease(void *context, struct wfe_error *err)
{
    struct step_run *run = context;
    if (!run->lease_call)
        return 0;
    int r = wfe_lease_create_finish(run->lease_call, err);
    wfe_rpc_call_free(wfe_steal(&run->lease_call));
    run->session.lease = run->id;
    return r;
}

/* As the step's policy says. */
static int find_image(struct step_run *run, struct wfe_error *err)
{
    struct wfe_pull_options options = {
        .registry.hosts_directory = run->options->hosts_directory,
        .max_downloads = run->options->max_downloads,
        .progress = run->options->progress,
        .found = run->image_call,
    };
    return wfe_pull_by_policy(&run->session, &run->step->config, &options, wfe_step_run_hold_lease,
        run, &run->image, &run->image_chain, err);
}

/* Mount the inputs where the choice is ours, they can be mounted and it is worth it. */
static int choose_mount(struct step_run *run, struct wfe_error *err)
{
    if (run->inputs.count == 0 || run->inputs_as != WFE_INPUTS_AUTO || mount_obstacle(run))
        return 0;
    uint64_t bytes;
    int r = wfe_inputs_missing_bytes(&run->session, &run->image_chain, &run->inputs, &bytes, err);
    if (r < 0 || bytes <= MOUNT_FROM_BYTES)
        return r;
    wfe_progress_stage(run->options->progress, "mounting the inputs");
    return start_mount(run, err);
}

/* Root and inputs: one chain, or the image's alone with a mount. */
static int make_root_chain(struct step_run *run, struct wfe_error *err)
{
    const struct wfe_digest *image_chain = &run->image_chain;
    int r = choose_mount(run, err);
    if (r < 0)
        return r;
    if (!run->mount)
        return wfe_inputs_apply(&run->session, &run->image, image_chain, &run->inputs,
            run->options->progress, &run->root_chain, err);
    run->root_chain = *image_chain;
    return 0;
}

static int prepare_root(struct step_run *run, struct wfe_error *err)
{
    run->snapshot_made = true;
    int r = wfe_snapshot_prepare(
        &run->session, run->id, run->root_chain.text, NULL, 0, &run->root, err);
    if (r < 0)
        wfe_error_prefix(err, "root file system");
    return r;
}

/* Who has to be looked up takes the root file system. */
static int find_user(struct step_run *run, struct wfe_error *err)
{
    const char *text = wfe_root_user_text(run->step->config.user, run->image.config.user);
    bool looked_up = wfe_user_is_valid(text) && wfe_user_needs(text);
    int r = looked_up && !run->root ? prepare_root(run, err) : 0;
    struct wfe_root root = {
        .prepared = run->session.local ? run->root : NULL,
        .session = &run->session,
        .chain = &run->root_chain,
    };
    if (r == 0)
        r = wfe_root_user(text, &root, &run->user, err);
    if (r < 0)
        wfe_error_prefix(err, "user '%.64s'", text);
    return r;
}

static int bring_network_up(struct step_run *run, struct wfe_error *err)
{
    if (!run->network)
        return 0;
    wfe_progress_stage(run->options->progress, "attaching the network");
    return wfe_network_up(run->network, run->options->daemon.cancel, err);
}

/* The environment, in which a bridge's steps find the host's services where they can. */
static char **make_env(const struct step_run *run, const cJSON *data)
{
    const char *gateway = run->network ? wfe_network_gateway(run->network) : NULL;
    WFE_JSON cJSON *behind = gateway ? wfe_service_data_behind(data, gateway) : NULL;
    if (gateway && !behind)
        return NULL;
    return wfe_spec_env(&run->image.config, behind ? behind : data, &run->step->config);
}

static int build_spec(struct step_run *run, const cJSON *data, struct wfe_error *err)
{
    char **env = make_env(run, data);
    if (!env)
        return wfe_error_nomem(err);
    struct wfe_spec_options options = {
        .namespace_ = run->session.namespace_,
        .container_id = run->id,
        .architecture = run->session.platform.architecture,
        .user = &run->user,
    };
    if (run->session.local) {
        struct wfe_host host = wfe_host_probe();
        options.apparmor_profile = host.apparmor_profile;
        options.limits_swap = host.limits_swap;
    }
    if (run->mount)
        options.overlays = wfe_input_mount_overlays(run->mount, &options.overlay_count);
    struct wfe_spec_file files[WFE_NETWORK_FILES_MAX];
    options.files = files;
    if (run->network) {
        options.network_namespace = wfe_network_namespace(run->network);
        options.files = wfe_network_files(run->network, &options.file_count);
    } else if (run->step->config.network == WFE_NETWORK_HOST) {
        options.file_count = wfe_network_host_files(run->session.local, files);
    }
    int r = wfe_spec_build(&run->step->config, &run->image.config, env, &options, &run->spec, err);
    wfe_spec_env_free(env);
    if (r < 0)
        return r;
    const cJSON *process = cJSON_GetObjectItemCaseSensitive(run->spec, "process");
    if (cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(process, "args")) == 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "nothing to run: neither run nor command is given, and image '%s' has no command of "
            "its own",
            run->image.name);
    return 0;
}

/* Mounted inputs lie on what the image has there. */
static int complete_mount(struct step_run *run, struct wfe_error *err)
{
    if (!run->mount)
        return 0;
    int r = prepare_root(run, err);
    if (r < 0)
        return r;
    r = wfe_input_mount_await(run->mount, run->options->daemon.cancel, err);
    run->mount_fails = r < 0 && r != -ECANCELED;
    if (r < 0)
        return r;
    r = wfe_input_mount_add_image(run->mount, run->root, err);
    run->mount_fails = r == -ENOTSUP;
    return r;
}

/* The snapshot is made while the daemon writes the container's record. */
static int create_container(struct step_run *run, struct wfe_error *err)
{
    struct wfe_container_options options = {
        .id = run->id,
        .image = run->image.name,
        .step_name = run->name,
        .spec = run->spec,
    };
    char label_key[WFE_VOLUME_LABEL_MAX], volume_key[WFE_TASK_IO_KEY_MAX];
    struct wfe_label label;
    if (run->io_kind == WFE_TASK_IO_SNAPSHOT) {
        wfe_task_io_key(run->id, volume_key);
        label = wfe_volume_label(&run->session, volume_key, label_key);
        options.labels = &label;
        options.label_count = 1;
    }
    wfe_progress_stage(run->options->progress, "preparing the root file system");
    run->container_made = true;
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_container_create_start(&run->session, &options, &call, err);
    if (r < 0)
        return r;
    if (!run->root)
        r = prepare_root(run, err);
    /* Awaited in any case: a record must not appear after its deletion. */
    int container_r = wfe_container_create_finish(call, r == 0 ? err : NULL);
    return r < 0 ? r : container_r;
}

static int open_io(struct step_run *run, struct wfe_error *err)
{
    const struct wfe_run_options *options = run->options;
    struct wfe_task_io_options io = {
        .kind = run->io_kind,
        .base_directory =
            wfe_sharing_directory(run->io_kind == WFE_TASK_IO_FIFO ? NULL : options->io_directory),
        .session = &run->session,
        .container_id = run->id,
        .limit_bytes = run->step->config.output_limit_bytes,
        .progress = options->progress,
        .raw_directory = options->raw_directory,
        .step_name = run->name,
    };
    return wfe_task_io_open(&io, &run->io, err);
}

/* A volume, which takes several requests, is made while the image and the inputs are seen to. A
 * directory is made late: without the container's record nobody would find it, were we killed. */
static int open_early_io(struct step_run *run, struct wfe_error *err)
{
    if (run->io_kind != WFE_TASK_IO_SNAPSHOT)
        return 0;
    int r = wfe_step_run_hold_lease(run, err);
    return r < 0 ? r : open_io(run, err);
}

static int complete_io(struct step_run *run, struct wfe_error *err)
{
    int r = run->io ? 0 : open_io(run, err);
    return r < 0 ? r : wfe_task_io_await(run->io, err);
}

/* A step that failed by itself may have failed for want of memory. */
static void ask_for_oom(struct step_run *run)
{
    const struct wfe_task_end *end = &run->end;
    struct wfe_error err = WFE_ERROR_INIT;
    if (end->exit_status == 0 || end->timed_out || end->cancelled)
        return;
    if (wfe_task_oom_kills(&run->session, run->id, &run->oom_kills, &err) < 0)
        wfe_log(WFE_LOG_DEBUG, "task", "no word of its memory: %s", err.message);
}

static int run_task(struct step_run *run, struct wfe_error *err)
{
    wfe_progress_stage(run->options->progress, "starting");
    /* Outputs are read through a second mount, which not every daemon makes a read-only one. */
    int r = run->step->config.output_count > 0
                ? 0
                : wfe_snapshot_set_volatile(&run->session, run->root, err);
    if (r < 0)
        return r;
    run->task_made = true;
    r = wfe_task_create(&run->session, run->id, run->root, wfe_task_io_stdout(run->io),
        wfe_task_io_stderr(run->io), err);
    if (r == 0)
        r = wfe_task_io_follow(run->io, err);
    if (r < 0)
        return r;
    wfe_progress_stage(run->options->progress, "running");
    /* Others' leftovers are seen to while the step runs, when there is nothing else to do. */
    struct wfe_reclaimer *reclaimer = wfe_reclaimer_start(&run->session);
    run->lease_keeper = wfe_lease_keep(&run->session, run->id);
    struct wfe_task_limits limits = {
        .timeout_ms = run->step->config.timeout_ms,
        .grace_ms = run->step->config.grace_ms,
    };
    run->start_asked = true;
    r = wfe_task_run(&run->session, run->id, &limits, &run->end, err);
    run->ended = r == 0;
    if (run->ended)
        ask_for_oom(run);
    wfe_reclaimer_stop(reclaimer);
    return r;
}

/* The way of a step, as far as it comes. */
int wfe_step_run_stages(struct step_run *run, const cJSON *data, struct wfe_error *err)
{
    const struct wfe_run_options *options = run->options;
    int r = wfe_inputs_resolve(&run->step->config, data, options->bindings, options->binding_count,
        options->store_path, &run->inputs, err);
    run->inputs.limits = options->limits;
    if (r == 0)
        r = wfe_unique_name(run->id, err);
    if (r == 0)
        r = connect_daemon(run, err);
    if (r == 0)
        r = check_sharing(run, err);
    if (r == 0)
        r = open_early_io(run, err);
    if (r == 0)
        r = find_image(run, err);
    if (r == 0)
        r = make_root_chain(run, err);
    if (r == 0)
        r = complete_mount(run, err);
    if (r == 0)
        r = find_user(run, err);
    if (r == 0)
        r = check_cancelled(run, err);
    if (r == 0)
        r = bring_network_up(run, err);
    if (r == 0)
        r = build_spec(run, data, err);
    if (r == 0)
        r = check_cancelled(run, err);
    if (r == 0)
        r = create_container(run, err);
    if (r == 0)
        r = complete_io(run, err);
    if (r == 0)
        r = check_cancelled(run, err);
    if (r == 0)
        r = run_task(run, err);
    return r;
}
