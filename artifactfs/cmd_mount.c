/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "artifactfs/background.h"
#include "artifactfs/cli.h"
#include "artifactfs/index_cache.h"
#include "artifactfs/layer_view.h"
#include "artifactfs/mount.h"
#include "artifactfs/volume.h"
#include "artifactfs/volume_view.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/log.h"

#define MAX_OPTIONS_BYTES (64 * 1024)

/* How long a container, which a mount with as_layer is for, takes to start. */
#define CONTAINER_START_MS 1000

/* For a mount by the system itself, which has no home. */
#define SYSTEM_CACHE "/var/cache/wfe"

enum { FOREGROUND = CLI_OWN, OPTIONS_LIST, DATA, INPUTS, ARTIFACT, CACHE, NO_CACHE, CACHE_SIZE };

static const struct wfe_option OPTIONS[] = {
    {"foreground", 'f', NULL, "stay in the foreground and log to standard error", FOREGROUND},
    {"options", 'o', "OPTS", "mount options: allow_other, uid=N, gid=N, umask=N and more",
        OPTIONS_LIST},
    CLI_STORE_OPTION,
    {"data", 0, "FILE", "workflow data, a JSON object: mount the artifacts that it refers to",
        DATA},
    {"inputs", 0, "FILE", "a step document: only the artifacts that its inputs name", INPUTS},
    {"artifact", 0, "NAME=SOURCE", "mount an archive, a directory or sha256:DIGEST as NAME",
        ARTIFACT},
    {"cache", 0, "DIR", "where indexes are kept (default: wfe below the XDG cache directory)",
        CACHE},
    {"no-cache", 0, NULL, "keep no indexes", NO_CACHE},
    {"cache-size", 0, "SIZE", "what the indexes may take, and each temporary file: 500M, 20G",
        CACHE_SIZE},
    CLI_COMMON_OPTIONS,
};

static struct state {
    bool foreground;
    struct wfe_buffer options; /* all lists, joined by commas */
    const char *data_path;
    const char *inputs_path;
    struct wfe_volume_binding *bindings; /* names are allocated */
    size_t binding_count;
    const char *cache_path;
    bool no_cache;
    uint64_t cache_bytes; /* 0: the defaults */
} state = {.options = WFE_BUFFER_INIT(MAX_OPTIONS_BYTES)};

static int parse_size(const char *text, uint64_t *ret)
{
    static const char units[] = "KMGT";
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 15)
        return -EINVAL;
    uint64_t size = strtoull(text, NULL, 10);
    const char *unit = text + digits;
    const char *found = *unit ? strchr(units, *unit) : NULL;
    if (*unit && (!found || unit[1]))
        return -EINVAL;
    unsigned shift = found ? 10 * (unsigned)(found - units + 1) : 0;
    if (size == 0 || size > UINT64_MAX >> 1 >> shift)
        return -EINVAL;
    *ret = size << shift;
    return 0;
}

static int add_binding(struct state *s, const char *text, struct wfe_error *err)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1])
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "--artifact '%s': expected NAME=SOURCE", text);
    struct wfe_volume_binding *bindings =
        reallocarray(s->bindings, s->binding_count + 1, sizeof *bindings);
    if (!bindings)
        return wfe_error_nomem(err);
    s->bindings = bindings;
    char *name = strndup(text, (size_t)(equals - text));
    if (!name)
        return wfe_error_nomem(err);
    bindings[s->binding_count++] = (struct wfe_volume_binding){.name = name, .source = equals + 1};
    return 0;
}

static int add_options(struct state *s, const char *list, struct wfe_error *err)
{
    if (s->options.length > 0 && wfe_buffer_puts(&s->options, ",") < 0)
        return wfe_error_nomem(err);
    return wfe_buffer_puts(&s->options, list) < 0 ? wfe_error_nomem(err) : 0;
}

static int take(void *context, int id, const char *value, struct wfe_error *err)
{
    struct state *s = context;
    switch (id) {
    case FOREGROUND:
        s->foreground = true;
        return 0;
    case OPTIONS_LIST:
        return add_options(s, value, err);
    case DATA:
        s->data_path = value;
        return 0;
    case INPUTS:
        s->inputs_path = value;
        return 0;
    case ARTIFACT:
        return add_binding(s, value, err);
    case CACHE:
        s->cache_path = value;
        return 0;
    case NO_CACHE:
        s->no_cache = true;
        return 0;
    default:
        if (parse_size(value, &s->cache_bytes) == 0)
            return 0;
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "--cache-size '%s': expected a number and K, M, G or T, as in 500M", value);
    }
}

static void release(struct state *s)
{
    for (size_t i = 0; i < s->binding_count; i++)
        free((char *)s->bindings[i].name);
    free(s->bindings);
    wfe_buffer_done(&s->options);
}

/* NULL when the command line makes sense. */
static const char *fault_of(const char *source)
{
    if (source && (state.data_path || state.inputs_path || state.binding_count > 0))
        return "a SOURCE and --data, --inputs or --artifact exclude each other";
    if (!source && !state.data_path && state.binding_count == 0)
        return state.inputs_path
                   ? "--inputs needs --data or --artifact, in which its artifacts are found"
                   : "expected SOURCE MOUNTPOINT, or --data or --artifact, and MOUNTPOINT";
    if (state.no_cache && state.cache_path)
        return "--cache and --no-cache exclude each other";
    return NULL;
}

static void log_artifact(void *context, const char *name, const char *message)
{
    (void)context;
    wfe_background_log(WFE_LOG_WARN, name, "%s", message);
}

/* A cache that can't be used makes mounts slower, and is no reason to refuse them, unless the user
 * has named it. */
static int open_cache(struct wfe_index_cache **ret, struct wfe_error *err)
{
    if (state.no_cache)
        return 0;
    bool is_homeless = !getenv("HOME") && !getenv("XDG_CACHE_HOME");
    struct wfe_index_cache_options options = {
        .directory = state.cache_path                ? state.cache_path
                     : is_homeless && geteuid() == 0 ? SYSTEM_CACHE
                                                     : NULL,
        .max_bytes = state.cache_bytes,
    };
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = wfe_index_cache_open(&options, ret, &failure);
    if (r < 0 && state.cache_path) {
        *err = failure;
        return r;
    }
    if (r < 0)
        wfe_background_log(WFE_LOG_WARN, "cache", "indexes are not kept: %s", failure.message);
    return 0;
}

/* Files that the mount hides would be asked for through the mount. */
static int check_cache(
    const struct wfe_index_cache *cache, const char *mountpoint, struct wfe_error *err)
{
    WFE_FREE char *path = cache ? realpath(wfe_index_cache_directory(cache), NULL) : NULL;
    size_t length = strlen(mountpoint);
    if (!path || strncmp(path, mountpoint, length) != 0 || (path[length] && path[length] != '/'))
        return 0;
    return wfe_error_set(err, WFE_ERROR_INPUT, ELOOP,
        "the mount point %s would hide the cache %s: choose another one with --cache, or use "
        "--no-cache",
        mountpoint, path);
}

/* Everything between the command line and the end of the mount. */
static int mount_volume(const char *store_path, const char *source, const char *mountpoint,
    struct wfe_mount_options *options, struct wfe_error *err)
{
    struct wfe_index_cache *cache = NULL;
    struct wfe_volume *volume = NULL;
    struct wfe_virtual *virtual_files = NULL;
    struct wfe_layer_views *layers = NULL;
    int r = open_cache(&cache, err);
    if (r == 0)
        r = check_cache(cache, mountpoint, err);
    if (r == 0) {
        const struct wfe_volume_options volume_options = {
            .source = source,
            .store_path = store_path,
            .data_path = state.data_path,
            .inputs_path = state.inputs_path,
            .bindings = state.bindings,
            .binding_count = state.binding_count,
            .mountpoint = mountpoint,
            .cache = cache,
            .max_spool_bytes = state.cache_bytes,
            .quiet_ms = options->owner.as_layer ? CONTAINER_START_MS : 0,
            .log = log_artifact,
        };
        r = wfe_volume_open(&volume_options, &volume, err);
    }
    if (r == 0)
        r = wfe_virtual_new(&virtual_files, err);
    if (r == 0)
        r = wfe_volume_view_add(virtual_files, volume, err);
    if (r == 0) {
        const struct wfe_layer_view_options layer_options = {
            .max_spool_bytes = state.cache_bytes,
            .log = log_artifact,
        };
        r = wfe_layer_views_add(virtual_files, volume, &layer_options, &layers, err);
    }
    if (r == 0)
        r = wfe_mount_serve(
            mountpoint, options, volume, virtual_files, wfe_background_mounted, err);
    wfe_virtual_free(virtual_files);
    wfe_layer_views_free(layers);
    wfe_volume_free(volume);
    wfe_index_cache_free(cache);
    return r;
}

static enum cli_status run(
    const struct cli_command *command, const char *store_path, char **operands)
{
    const char *source = operands[1] ? operands[0] : NULL;
    const char *mountpoint = operands[1] ? operands[1] : operands[0];
    const char *fault = fault_of(source);
    if (fault)
        return cli_usage(command, "%s", fault);
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_mount_options options;
    WFE_FREE char *resolved_source = source ? realpath(source, NULL) : NULL;
    const char *fsname = resolved_source ? resolved_source : source ? source : CLI_PROGRAM;
    if (wfe_mount_options_parse(state.options.data, fsname, &options, &err) < 0)
        return cli_usage(command, "%s", err.message);
    WFE_FREE char *resolved = NULL;
    int r = wfe_mount_resolve(mountpoint, &resolved, &err);
    if (r == 0 && !state.foreground && !options.debug)
        r = wfe_background_start(resolved, &err);
    wfe_mount_block_signals();
    if (r == 0)
        r = mount_volume(store_path, source, resolved, &options, &err);
    wfe_mount_options_done(&options);
    if (r < 0)
        wfe_background_log(WFE_LOG_DEBUG, "mount", "%s", err.message);
    return r < 0 ? cli_fail(command, &err) : CLI_OK;
}

static enum cli_status mount_(
    const struct cli_command *command, const char *store_path, char **operands)
{
    enum cli_status status = run(command, store_path, operands);
    release(&state);
    return status;
}

const struct cli_command cli_mount = {
    .name = "mount",
    .operands = "[SOURCE] MOUNTPOINT",
    .summary = "Show a store, a volume package, an archive, a directory or the artifacts of "
               "workflow data as files, read-only",
    .min_operands = 1,
    .max_operands = 2,
    .options = OPTIONS,
    .take = take,
    .state = &state,
    .main = mount_,
};
