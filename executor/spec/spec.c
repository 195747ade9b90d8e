/* SPDX-License-Identifier: MIT */
#include "executor/spec/spec.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/spec/capabilities.h"
#include "executor/spec/seccomp.h"
#include "executor/spec/spec_json.h"
#include "executor/step/step_mounts.h"
#include "libcommon/cleanup.h"

#define CPU_PERIOD_US 100000
#define CPU_MIN_MILLIS 10 /* the kernel takes no quota below 1 ms of each period */
#define TMPFS_MODE 01777u
#define OPEN_FILES_DEFAULT 1024

/* NULL-terminated lists. */
static const char *const MASKED_PATHS[] = {"/proc/acpi", "/proc/asound", "/proc/kcore",
    "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap", NULL};
static const char *const READONLY_PATHS[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL};

struct mount {
    const char *destination, *type, *source;
    const char *options[8];
};

static const char SHM[] = "/dev/shm";

static const struct mount MOUNTS[] = {
    {"/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}},
    {"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
    {"/dev/pts", "devpts", "devpts",
        {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
    {SHM, "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
    {"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}},
    {"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}},
    {"/run", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
};

struct device {
    int major, minor; /* minor -1: all of them */
};

/* null, random, full, tty, zero, urandom, console, the pseudo-terminals, ptmx. */
static const struct device DEVICES[] = {
    {1, 3}, {1, 8}, {1, 7}, {5, 0}, {1, 5}, {1, 9}, {5, 1}, {136, -1}, {5, 2}};

static bool add_args(
    cJSON *process, const struct wfe_step_config *config, const struct wfe_image_config *image)
{
    cJSON *args = cJSON_AddArrayToObject(process, "args");
    if (!args)
        return false;
    if (config->run) {
        char *const shell[] = {(char *)"/bin/sh", (char *)"-c", config->run, NULL};
        return append_list(args, shell);
    }
    if (image && !append_list(args, image->entrypoint))
        return false;
    if (config->command)
        return append_list(args, config->command);
    return !image || append_list(args, image->cmd);
}

static bool add_cwd(
    cJSON *process, const struct wfe_step_config *config, const struct wfe_image_config *image)
{
    const char *cwd = config->working_dir;
    if (!cwd && image)
        cwd = image->working_dir;
    if (!cwd)
        cwd = "/";
    if (*cwd == '/')
        return add_text(process, "cwd", cwd);
    /* Images may have a relative one; the runtime spec has none. */
    WFE_FREE char *absolute = NULL;
    if (asprintf(&absolute, "/%s", cwd) < 0) {
        absolute = NULL;
        return false;
    }
    return add_text(process, "cwd", absolute);
}

/* containerd names the primary group a supplementary one as well: without that, a setgid binary
 * would shed it, and with it the denials that files hold against that group (CVE-2023-25173). */
static bool add_user(cJSON *process, const struct wfe_user *user)
{
    cJSON *object = cJSON_AddObjectToObject(process, "user");
    cJSON *groups = cJSON_AddArrayToObject(object, "additionalGids");
    if (!groups || !add_number(object, "uid", user->uid) || !add_number(object, "gid", user->gid) ||
        !append(groups, cJSON_CreateNumber(user->gid)))
        return false;
    for (size_t i = 0; i < user->group_count; i++)
        if (!append(groups, cJSON_CreateNumber(user->groups[i])))
            return false;
    return true;
}

static bool add_capability_list(cJSON *capabilities, const char *name, uint64_t set)
{
    cJSON *list = cJSON_AddArrayToObject(capabilities, name);
    for (unsigned i = 0; i < WFE_CAPABILITY_COUNT; i++)
        if ((set & WFE_CAPABILITY(i)) && !append(list, cJSON_CreateString(wfe_capability_name(i))))
            return false;
    return list != NULL;
}

/*
 * Root has all of the bounding set. For another user exec() clears what is permitted and effective
 * anyway; it is left out, as docker does, so that the spec shows what the process will have.
 */
static bool add_capabilities(cJSON *process, uint64_t bounding, uint32_t uid)
{
    cJSON *capabilities = cJSON_AddObjectToObject(process, "capabilities");
    uint64_t usable = uid == 0 ? bounding : 0;
    return capabilities && add_capability_list(capabilities, "bounding", bounding) &&
           add_capability_list(capabilities, "permitted", usable) &&
           add_capability_list(capabilities, "effective", usable);
}

static bool add_rlimits(cJSON *process, uint64_t nofile)
{
    cJSON *rlimits = cJSON_AddArrayToObject(process, "rlimits");
    cJSON *limit = cJSON_CreateObject();
    uint64_t files = nofile > 0 ? nofile : OPEN_FILES_DEFAULT;
    return append(rlimits, limit) && add_text(limit, "type", "RLIMIT_NOFILE") &&
           add_integer(limit, "hard", files) && add_integer(limit, "soft", files);
}

static bool add_process(cJSON *spec, const struct wfe_step_config *config,
    const struct wfe_image_config *image, char *const *env, const struct wfe_user *user)
{
    cJSON *process = cJSON_AddObjectToObject(spec, "process");
    cJSON *env_list = cJSON_AddArrayToObject(process, "env");
    uint64_t bounding = wfe_capabilities_resolve(config->cap_add, config->cap_drop);
    return env_list && append_list(env_list, env) && cJSON_AddFalseToObject(process, "terminal") &&
           add_user(process, user) && add_args(process, config, image) &&
           add_cwd(process, config, image) && add_capabilities(process, bounding, user->uid) &&
           add_rlimits(process, config->nofile) &&
           cJSON_AddBoolToObject(process, "noNewPrivileges", !config->new_privileges);
}

/* A profile of the machine's own, which only it can know. */
static bool add_apparmor(cJSON *spec, const struct wfe_step_config *config, const char *profile)
{
    cJSON *process = cJSON_GetObjectItemCaseSensitive(spec, "process");
    return !profile || config->apparmor == WFE_PROFILE_UNCONFINED ||
           add_text(process, "apparmorProfile", profile);
}

static bool add_root(cJSON *spec, bool read_only)
{
    cJSON *root = cJSON_AddObjectToObject(spec, "root");
    return root && add_text(root, "path", "rootfs") &&
           cJSON_AddBoolToObject(root, "readonly", read_only);
}

/* A DNS label; the kernel itself takes 64 bytes. */
void wfe_spec_hostname(const char *container_id, char hostname[static WFE_SPEC_HOSTNAME_MAX])
{
    size_t length = strnlen(container_id, WFE_SPEC_HOSTNAME_MAX - 1);
    for (size_t i = 0; i < length; i++) {
        bool separator = container_id[i] == '_' || container_id[i] == '.';
        hostname[i] = separator ? '-' : container_id[i];
    }
    while (length > 1 && hostname[length - 1] == '-')
        length--;
    hostname[length] = '\0';
}

static bool add_hostname(cJSON *spec, const char *container_id)
{
    char hostname[WFE_SPEC_HOSTNAME_MAX];
    wfe_spec_hostname(container_id, hostname);
    return add_text(spec, "hostname", hostname);
}

static bool add_mount(cJSON *mounts, const struct mount *mount)
{
    cJSON *item = cJSON_CreateObject();
    return append(mounts, item) && add_text(item, "destination", mount->destination) &&
           add_text(item, "type", mount->type) && add_text(item, "source", mount->source) &&
           add_list(item, "options", mount->options);
}

static char *mount_option(const char *key, const char *value)
{
    char *text;
    return asprintf(&text, "%s=%s", key, value) < 0 ? NULL : text;
}

static bool add_overlay(cJSON *mounts, const struct wfe_spec_overlay *overlay)
{
    WFE_FREE char *lower = mount_option("lowerdir", overlay->lower);
    WFE_FREE char *upper = mount_option("upperdir", overlay->upper);
    WFE_FREE char *work = mount_option("workdir", overlay->work);
    if (!lower || !upper || !work)
        return false;
    struct mount mount = {overlay->target, "overlay", "overlay", {lower, upper, work}};
    return add_mount(mounts, &mount);
}

static bool add_default_mounts(cJSON *mounts, uint64_t shm_bytes)
{
    for (size_t i = 0; i < COUNT(MOUNTS); i++) {
        struct mount mount = MOUNTS[i];
        char size[32];
        if (shm_bytes > 0 && strcmp(mount.destination, SHM) == 0) {
            snprintf(size, sizeof size, "size=%" PRIu64, shm_bytes);
            mount.options[4] = size;
        }
        if (!add_mount(mounts, &mount))
            return false;
    }
    return true;
}

static bool add_bind(cJSON *mounts, const struct wfe_step_volume *volume)
{
    struct mount mount = {volume->target, "bind", volume->source,
        {volume->shallow ? "bind" : "rbind", wfe_step_propagations[volume->propagation],
            volume->readonly ? "ro" : NULL}};
    return add_mount(mounts, &mount);
}

static bool add_tmpfs(cJSON *mounts, const struct wfe_step_volume *volume)
{
    char mode[32], size[32];
    struct mount mount = {volume->target, "tmpfs", "tmpfs", {"nosuid", "nodev", "noexec", mode}};
    size_t count = 4;
    snprintf(mode, sizeof mode, "mode=%o", volume->mode ? volume->mode : TMPFS_MODE);
    snprintf(size, sizeof size, "size=%" PRIu64, volume->size_bytes);
    if (volume->size_bytes > 0)
        mount.options[count++] = size;
    if (volume->readonly)
        mount.options[count++] = "ro";
    return add_mount(mounts, &mount);
}

static size_t depth_of(const char *path)
{
    size_t depth = 0;
    for (; *path; path++)
        depth += *path == '/';
    return depth;
}

/* Those nearest to the root first, so that none hides another. */
static bool add_volumes(cJSON *mounts, const struct wfe_step_config *config)
{
    size_t added = 0;
    for (size_t depth = 1; added < config->volume_count; depth++) {
        for (size_t i = 0; i < config->volume_count; i++) {
            const struct wfe_step_volume *volume = &config->volumes[i];
            if (depth_of(volume->target) != depth)
                continue;
            if (!(volume->type == WFE_VOLUME_TMPFS ? add_tmpfs(mounts, volume)
                                                   : add_bind(mounts, volume)))
                return false;
            added++;
        }
    }
    return true;
}

static bool add_mounts(
    cJSON *spec, const struct wfe_step_config *config, const struct wfe_spec_options *options)
{
    cJSON *mounts = cJSON_AddArrayToObject(spec, "mounts");
    if (!mounts || !add_default_mounts(mounts, config->shm_bytes))
        return false;
    for (size_t i = 0; i < options->overlay_count; i++)
        if (!add_overlay(mounts, &options->overlays[i]))
            return false;
    for (size_t i = 0; i < options->file_count; i++) {
        const struct wfe_spec_file *file = &options->files[i];
        struct mount mount = {file->target, "bind", file->source, {"rbind", "rprivate", "ro"}};
        if (!add_mount(mounts, &mount))
            return false;
    }
    return add_volumes(mounts, config);
}

static bool add_namespace(cJSON *namespaces, const char *type, const char *path)
{
    cJSON *item = cJSON_CreateObject();
    return append(namespaces, item) && add_text(item, "type", type) &&
           (!path || add_text(item, "path", path));
}

/* A step is no root there, as a rule, and has the whole network for itself. The groups are those
 * that a daemon in a user namespace has, too. */
static bool add_sysctls(cJSON *linux_part)
{
    cJSON *sysctl = cJSON_AddObjectToObject(linux_part, "sysctl");
    return sysctl && add_text(sysctl, "net.ipv4.ip_unprivileged_port_start", "0") &&
           add_text(sysctl, "net.ipv4.ping_group_range", "0 65535");
}

static bool add_namespaces(
    cJSON *linux_part, enum wfe_step_network network, const char *network_path)
{
    static const char *const types[] = {"pid", "ipc", "uts", "mount"};
    cJSON *namespaces = cJSON_AddArrayToObject(linux_part, "namespaces");
    for (size_t i = 0; i < COUNT(types); i++)
        if (!namespaces || !add_namespace(namespaces, types[i], NULL))
            return false;
    if (network == WFE_NETWORK_HOST)
        return true;
    return add_namespace(
               namespaces, "network", network == WFE_NETWORK_BRIDGE ? network_path : NULL) &&
           add_sysctls(linux_part);
}

static bool add_device_rules(cJSON *resources)
{
    cJSON *devices = cJSON_AddArrayToObject(resources, "devices");
    cJSON *deny = cJSON_CreateObject();
    if (!append(devices, deny) || !cJSON_AddFalseToObject(deny, "allow") ||
        !add_text(deny, "access", "rwm"))
        return false;
    for (size_t i = 0; i < COUNT(DEVICES); i++) {
        cJSON *rule = cJSON_CreateObject();
        if (!append(devices, rule) || !cJSON_AddTrueToObject(rule, "allow") ||
            !add_text(rule, "type", "c") || !add_number(rule, "major", DEVICES[i].major))
            return false;
        if (DEVICES[i].minor >= 0 && !add_number(rule, "minor", DEVICES[i].minor))
            return false;
        if (!add_text(rule, "access", "rwm"))
            return false;
    }
    return true;
}

static bool add_memory(cJSON *resources, uint64_t bytes, bool limits_swap)
{
    cJSON *memory = cJSON_AddObjectToObject(resources, "memory");
    /* What the runtime spec calls swap is the sum of both. */
    uint64_t sum = bytes <= INT64_MAX / 2 ? 2 * bytes : INT64_MAX;
    return memory && add_integer(memory, "limit", bytes) &&
           (!limits_swap || add_integer(memory, "swap", sum));
}

static bool add_cpu(cJSON *resources, uint32_t millis)
{
    cJSON *cpu = cJSON_AddObjectToObject(resources, "cpu");
    return cpu && add_integer(cpu, "quota", (uint64_t)millis * (CPU_PERIOD_US / 1000)) &&
           add_integer(cpu, "period", CPU_PERIOD_US);
}

static bool add_pids(cJSON *resources, uint64_t limit)
{
    cJSON *pids = cJSON_AddObjectToObject(resources, "pids");
    return pids && add_integer(pids, "limit", limit);
}

static bool add_resources(cJSON *linux_part, const struct wfe_step_config *config, bool limits_swap)
{
    cJSON *resources = cJSON_AddObjectToObject(linux_part, "resources");
    if (!resources || !add_device_rules(resources))
        return false;
    if (config->memory_bytes > 0 && !add_memory(resources, config->memory_bytes, limits_swap))
        return false;
    if (config->cpu_millis > 0 && !add_cpu(resources, config->cpu_millis))
        return false;
    return config->pids == 0 || add_pids(resources, config->pids);
}

static bool add_seccomp(
    cJSON *linux_part, const struct wfe_step_config *config, const char *architecture)
{
    if (config->seccomp == WFE_PROFILE_UNCONFINED)
        return true;
    uint64_t bounding = wfe_capabilities_resolve(config->cap_add, config->cap_drop);
    return attach(linux_part, "seccomp", wfe_seccomp_default(architecture, bounding));
}

/* What the container mounts in a shared volume reaches the source only when the root is shared as
 * well, which the runtime makes a slave otherwise. */
static bool add_propagation(cJSON *linux_part, const struct wfe_step_config *config)
{
    for (size_t i = 0; i < config->volume_count; i++) {
        enum wfe_step_propagation propagation = config->volumes[i].propagation;
        if (propagation == WFE_PROPAGATION_SHARED || propagation == WFE_PROPAGATION_RSHARED)
            return add_text(linux_part, "rootfsPropagation", "shared");
    }
    return true;
}

static bool add_linux(
    cJSON *spec, const struct wfe_step_config *config, const struct wfe_spec_options *options)
{
    cJSON *linux_part = cJSON_AddObjectToObject(spec, "linux");
    WFE_FREE char *cgroup = NULL;
    if (asprintf(&cgroup, "/%s/%s", options->namespace_, options->container_id) < 0) {
        cgroup = NULL;
        return false;
    }
    return linux_part && add_resources(linux_part, config, options->limits_swap) &&
           add_text(linux_part, "cgroupsPath", cgroup) &&
           add_namespaces(linux_part, config->network, options->network_namespace) &&
           add_list(linux_part, "maskedPaths", MASKED_PATHS) &&
           add_list(linux_part, "readonlyPaths", READONLY_PATHS) &&
           add_propagation(linux_part, config) &&
           add_seccomp(linux_part, config, options->architecture);
}

/* What a valid document may still ask for in vain. */
static int check_config(const struct wfe_step_config *config, struct wfe_error *err)
{
    if (config->cpu_millis > 0 && config->cpu_millis < CPU_MIN_MILLIS)
        return wfe_error_set(err, WFE_ERROR_INPUT, ERANGE,
            "cpu: %" PRIu32 " thousandths of a processor, at least %d (0.01) are needed",
            config->cpu_millis, CPU_MIN_MILLIS);
    if (config->memory_bytes > INT64_MAX)
        return wfe_error_set(err, WFE_ERROR_INPUT, ERANGE,
            "memory: %" PRIu64 " bytes, at most %" PRId64 " can be asked for", config->memory_bytes,
            INT64_MAX);
    return 0;
}

int wfe_spec_build(const struct wfe_step_config *config, const struct wfe_image_config *image,
    char *const *env, const struct wfe_spec_options *options, cJSON **ret, struct wfe_error *err)
{
    assert(config && env && options && options->namespace_ && options->container_id);
    assert(options->architecture && options->user);
    assert(config->network != WFE_NETWORK_BRIDGE || options->network_namespace);
    int r = check_config(config, err);
    if (r < 0)
        return r;
    WFE_JSON cJSON *spec = cJSON_CreateObject();
    bool complete = spec && add_text(spec, "ociVersion", "1.0.2") &&
                    add_process(spec, config, image, env, options->user) &&
                    add_apparmor(spec, config, options->apparmor_profile) &&
                    add_root(spec, config->read_only) &&
                    add_hostname(spec, options->container_id) &&
                    add_mounts(spec, config, options) && add_linux(spec, config, options);
    if (!complete)
        return wfe_error_nomem(err);
    *ret = wfe_steal(&spec);
    return 0;
}
