/* SPDX-License-Identifier: MIT */
#include "executor/spec.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"

#define CPU_PERIOD_US 100000
#define CPU_MIN_MILLIS 10 /* the kernel takes no quota below 1 ms of each period */
#define OPEN_FILES_MAX 1024

/* NULL-terminated lists. */
static const char *const CAPABILITIES[] = {"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID",
    "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP",
    "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE", NULL};
static const char *const MASKED_PATHS[] = {"/proc/acpi", "/proc/asound", "/proc/kcore",
    "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap", NULL};
static const char *const READONLY_PATHS[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL};

struct mount {
    const char *destination, *type, *source;
    const char *options[8];
};

static const struct mount MOUNTS[] = {
    {"/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}},
    {"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
    {"/dev/pts", "devpts", "devpts",
        {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
    {"/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
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

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* The functions below build the document and answer false when memory ran out. */

/* Takes item, which may be NULL. */
static bool attach(cJSON *object, const char *name, cJSON *item)
{
    if (cJSON_AddItemToObject(object, name, item))
        return true;
    cJSON_Delete(item);
    return false;
}

/* Takes item, which may be NULL. */
static bool append(cJSON *array, cJSON *item)
{
    if (cJSON_AddItemToArray(array, item))
        return true;
    cJSON_Delete(item);
    return false;
}

static bool add_text(cJSON *object, const char *name, const char *text)
{
    return cJSON_AddStringToObject(object, name, text) != NULL;
}

static bool add_number(cJSON *object, const char *name, double number)
{
    return cJSON_AddNumberToObject(object, name, number) != NULL;
}

/* As digits: cJSON writes a large number with an exponent, which no runtime takes for an integer.
 */
static bool add_integer(cJSON *object, const char *name, uint64_t number)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, number);
    return cJSON_AddRawToObject(object, name, digits) != NULL;
}

static cJSON *new_list(const char *const *strings)
{
    int count = 0;
    while (strings[count])
        count++;
    return cJSON_CreateStringArray(strings, count);
}

static bool add_list(cJSON *object, const char *name, const char *const *strings)
{
    return attach(object, name, new_list(strings));
}

static bool append_list(cJSON *array, char *const *strings)
{
    for (; *strings; strings++)
        if (!append(array, cJSON_CreateString(*strings)))
            return false;
    return true;
}

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
static bool add_user(cJSON *process, uint32_t uid, uint32_t gid)
{
    cJSON *user = cJSON_AddObjectToObject(process, "user");
    cJSON *groups = cJSON_AddArrayToObject(user, "additionalGids");
    return groups && add_number(user, "uid", uid) && add_number(user, "gid", gid) &&
           append(groups, cJSON_CreateNumber(gid));
}

/*
 * Root has containerd's set. For another user exec() clears what is permitted and effective anyway;
 * it is left out, as docker does, so that the spec shows what the process will have.
 */
static bool add_capabilities(cJSON *process, uint32_t uid)
{
    static const char *const none[] = {NULL};
    cJSON *capabilities = cJSON_AddObjectToObject(process, "capabilities");
    const char *const *usable = uid == 0 ? CAPABILITIES : none;
    return capabilities && add_list(capabilities, "bounding", CAPABILITIES) &&
           add_list(capabilities, "permitted", usable) &&
           add_list(capabilities, "effective", usable);
}

static bool add_rlimits(cJSON *process)
{
    cJSON *rlimits = cJSON_AddArrayToObject(process, "rlimits");
    cJSON *limit = cJSON_CreateObject();
    return append(rlimits, limit) && add_text(limit, "type", "RLIMIT_NOFILE") &&
           add_number(limit, "hard", OPEN_FILES_MAX) && add_number(limit, "soft", OPEN_FILES_MAX);
}

static bool add_process(cJSON *spec, const struct wfe_step_config *config,
    const struct wfe_image_config *image, char *const *env, uint32_t uid, uint32_t gid)
{
    cJSON *process = cJSON_AddObjectToObject(spec, "process");
    cJSON *env_list = cJSON_AddArrayToObject(process, "env");
    return env_list && append_list(env_list, env) && cJSON_AddFalseToObject(process, "terminal") &&
           add_user(process, uid, gid) && add_args(process, config, image) &&
           add_cwd(process, config, image) && add_capabilities(process, uid) &&
           add_rlimits(process) && cJSON_AddTrueToObject(process, "noNewPrivileges");
}

static bool add_root(cJSON *spec)
{
    cJSON *root = cJSON_AddObjectToObject(spec, "root");
    return root && add_text(root, "path", "rootfs") && cJSON_AddFalseToObject(root, "readonly");
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

static bool add_mounts(
    cJSON *spec, const struct wfe_step_config *config, const struct wfe_spec_options *options)
{
    cJSON *mounts = cJSON_AddArrayToObject(spec, "mounts");
    if (!mounts)
        return false;
    for (size_t i = 0; i < COUNT(MOUNTS); i++)
        if (!add_mount(mounts, &MOUNTS[i]))
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
    for (size_t i = 0; i < config->volume_count; i++) {
        const struct wfe_step_volume *volume = &config->volumes[i];
        struct mount mount = {volume->target, "bind", volume->source,
            {"rbind", "rprivate", volume->readonly ? "ro" : NULL}};
        if (!add_mount(mounts, &mount))
            return false;
    }
    return true;
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

static bool add_resources(cJSON *linux_part, const struct wfe_step_config *config)
{
    cJSON *resources = cJSON_AddObjectToObject(linux_part, "resources");
    if (!resources || !add_device_rules(resources))
        return false;
    if (config->memory_bytes > 0) {
        cJSON *memory = cJSON_AddObjectToObject(resources, "memory");
        if (!memory || !add_integer(memory, "limit", config->memory_bytes))
            return false;
    }
    if (config->cpu_millis > 0) {
        cJSON *cpu = cJSON_AddObjectToObject(resources, "cpu");
        uint64_t quota_us = (uint64_t)config->cpu_millis * (CPU_PERIOD_US / 1000);
        if (!cpu || !add_integer(cpu, "quota", quota_us) ||
            !add_integer(cpu, "period", CPU_PERIOD_US))
            return false;
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
    return linux_part && add_resources(linux_part, config) &&
           add_text(linux_part, "cgroupsPath", cgroup) &&
           add_namespaces(linux_part, config->network, options->network_namespace) &&
           add_list(linux_part, "maskedPaths", MASKED_PATHS) &&
           add_list(linux_part, "readonlyPaths", READONLY_PATHS);
}

/* What a valid document may still ask for in vain. */
static int check_config(const struct wfe_step_config *config, uint32_t *ret_uid, uint32_t *ret_gid,
    struct wfe_error *err)
{
    if (config->cpu_millis > 0 && config->cpu_millis < CPU_MIN_MILLIS)
        return wfe_error_set(err, WFE_ERROR_INPUT, ERANGE,
            "cpu: %" PRIu32 " thousandths of a processor, at least %d (0.01) are needed",
            config->cpu_millis, CPU_MIN_MILLIS);
    if (config->memory_bytes > INT64_MAX)
        return wfe_error_set(err, WFE_ERROR_INPUT, ERANGE,
            "memory: %" PRIu64 " bytes, at most %" PRId64 " can be asked for", config->memory_bytes,
            INT64_MAX);
    if (wfe_user_parse(config->user, ret_uid, ret_gid) < 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "user: found '%s', allowed are numbers: UID or UID:GID", config->user);
    return 0;
}

int wfe_spec_build(const struct wfe_step_config *config, const struct wfe_image_config *image,
    char *const *env, const struct wfe_spec_options *options, cJSON **ret, struct wfe_error *err)
{
    assert(config && env && options && options->namespace_ && options->container_id);
    assert(config->network != WFE_NETWORK_BRIDGE || options->network_namespace);
    uint32_t uid, gid;
    int r = check_config(config, &uid, &gid, err);
    if (r < 0)
        return r;
    WFE_JSON cJSON *spec = cJSON_CreateObject();
    bool complete = spec && add_text(spec, "ociVersion", "1.0.2") &&
                    add_process(spec, config, image, env, uid, gid) && add_root(spec) &&
                    add_hostname(spec, options->container_id) &&
                    add_mounts(spec, config, options) && add_linux(spec, config, options);
    if (!complete)
        return wfe_error_nomem(err);
    *ret = wfe_steal(&spec);
    return 0;
}
