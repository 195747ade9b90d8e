/* SPDX-License-Identifier: MIT */
#include "executor/spec/spec.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "executor/spec/capabilities.h"
#include "libcommon/cleanup.h"

/* containerd's own mounts, which the tests of volumes count from. */
#define DEFAULT_MOUNTS 7

static struct wfe_step_config minimal_config(void)
{
    return (struct wfe_step_config){
        .image = (char *)"alpine:3.18",
        .run = (char *)"echo hello",
    };
}

static const struct wfe_user NOBODY = {.uid = 65534, .gid = 65534};
static const struct wfe_user ROOT = {.uid = 0, .gid = 0};

static const struct wfe_spec_options OPTIONS = {
    .namespace_ = "default",
    .container_id = "wfe-build-0123",
    .architecture = "amd64",
    .user = &NOBODY,
};

/* The spec as a runtime reads it: written out and parsed again. */
static cJSON *build_with(const struct wfe_step_config *config, const struct wfe_image_config *image,
    char *const *env, const struct wfe_spec_options *options)
{
    struct wfe_error err = WFE_ERROR_INIT;
    cJSON *spec = NULL;
    int r = wfe_spec_build(config, image, env, options, &spec, &err);
    if (r < 0)
        fail_msg("%s", err.message);
    char *text = cJSON_PrintUnformatted(spec);
    cJSON_Delete(spec);
    assert_non_null(text);
    cJSON *parsed = cJSON_Parse(text);
    free(text);
    assert_non_null(parsed);
    return parsed;
}

static cJSON *build(const struct wfe_step_config *config, const struct wfe_image_config *image)
{
    char *const none[] = {NULL};
    return build_with(config, image, none, &OPTIONS);
}

static cJSON *build_as(const struct wfe_step_config *config, const struct wfe_user *user)
{
    char *const none[] = {NULL};
    struct wfe_spec_options options = OPTIONS;
    options.user = user;
    return build_with(config, NULL, none, &options);
}

/* "process.args.0" → the item, NULL when it is not there. */
static const cJSON *maybe_at(const cJSON *json, const char *path)
{
    char part[64];
    while (json && *path) {
        size_t length = strcspn(path, ".");
        assert_true(length < sizeof part);
        memcpy(part, path, length);
        part[length] = '\0';
        json = cJSON_IsArray(json) ? cJSON_GetArrayItem(json, atoi(part))
                                   : cJSON_GetObjectItemCaseSensitive(json, part);
        path += length + (path[length] == '.');
    }
    return json;
}

static const cJSON *at(const cJSON *json, const char *path)
{
    json = maybe_at(json, path);
    if (!json)
        fail_msg("there is no %s", path);
    return json;
}

static const char *text_at(const cJSON *json, const char *path)
{
    const cJSON *item = at(json, path);
    assert_true(cJSON_IsString(item));
    return item->valuestring;
}

static double number_at(const cJSON *json, const char *path)
{
    const cJSON *item = at(json, path);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static int size_at(const cJSON *json, const char *path)
{
    const cJSON *item = at(json, path);
    assert_true(cJSON_IsArray(item));
    return cJSON_GetArraySize(item);
}

static bool list_has(const cJSON *list, const char *text)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (cJSON_IsString(item) && strcmp(item->valuestring, text) == 0)
            return true;
    }
    return false;
}

static const cJSON *mount_at(const cJSON *spec, const char *destination)
{
    const cJSON *mount, *found = NULL;
    cJSON_ArrayForEach(mount, at(spec, "mounts"))
    {
        if (strcmp(text_at(mount, "destination"), destination) == 0)
            found = mount;
    }
    assert_non_null(found);
    return found;
}

static bool has_namespace(const cJSON *spec, const char *type)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, at(spec, "linux.namespaces"))
    {
        if (strcmp(text_at(item, "type"), type) == 0)
            return true;
    }
    return false;
}

static void a_run_step_becomes_a_shell_command(void **state)
{
    (void)state;
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *spec = build(&config, NULL);
    assert_string_equal(
        WFE_SPEC_TYPE_URL, "types.containerd.io/opencontainers/runtime-spec/1/Spec");
    assert_string_equal(text_at(spec, "ociVersion"), "1.0.2");
    assert_int_equal(size_at(spec, "process.args"), 3);
    assert_string_equal(text_at(spec, "process.args.0"), "/bin/sh");
    assert_string_equal(text_at(spec, "process.args.1"), "-c");
    assert_string_equal(text_at(spec, "process.args.2"), "echo hello");
    assert_int_equal(number_at(spec, "process.user.uid"), 65534);
    assert_int_equal(number_at(spec, "process.user.gid"), 65534);
    assert_string_equal(text_at(spec, "process.cwd"), "/");
}

static void a_command_is_the_argument_list(void **state)
{
    (void)state;
    char *command[] = {(char *)"echo", (char *)"hello", (char *)"world", NULL};
    struct wfe_step_config config = minimal_config();
    config.run = NULL;
    config.command = command;
    WFE_JSON cJSON *spec = build(&config, NULL);
    assert_int_equal(size_at(spec, "process.args"), 3);
    assert_string_equal(text_at(spec, "process.args.0"), "echo");
    assert_string_equal(text_at(spec, "process.args.1"), "hello");
    assert_string_equal(text_at(spec, "process.args.2"), "world");
}

static void the_environment_is_taken_over(void **state)
{
    (void)state;
    char *const env[] = {(char *)"FOO=bar", (char *)"BAZ=qux", NULL};
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *spec = build_with(&config, NULL, env, &OPTIONS);
    assert_int_equal(size_at(spec, "process.env"), 2);
    assert_true(list_has(at(spec, "process.env"), "FOO=bar"));
    assert_true(list_has(at(spec, "process.env"), "BAZ=qux"));
}

static void the_steps_working_directory_wins(void **state)
{
    (void)state;
    char *none[] = {NULL};
    struct wfe_image_config image = {
        .env = none, .entrypoint = none, .cmd = none, .working_dir = (char *)"/srv"};
    struct wfe_step_config config = minimal_config();
    config.working_dir = (char *)"/app";
    WFE_JSON cJSON *spec = build(&config, &image);
    assert_string_equal(text_at(spec, "process.cwd"), "/app");
    config.working_dir = NULL;
    WFE_JSON cJSON *of_image = build(&config, &image);
    assert_string_equal(text_at(of_image, "process.cwd"), "/srv");
}

static void a_relative_working_directory_of_an_image_is_below_the_root(void **state)
{
    (void)state;
    char *none[] = {NULL};
    struct wfe_image_config image = {
        .env = none, .entrypoint = none, .cmd = none, .working_dir = (char *)"app"};
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *spec = build(&config, &image);
    assert_string_equal(text_at(spec, "process.cwd"), "/app");
}

static void the_user_has_its_groups(void **state)
{
    (void)state;
    uint32_t groups[] = {30, 10};
    struct wfe_user user = {.uid = 1000, .gid = 2000, .groups = groups, .group_count = 2};
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *spec = build_as(&config, &user);
    assert_int_equal(number_at(spec, "process.user.uid"), 1000);
    assert_int_equal(number_at(spec, "process.user.gid"), 2000);
    /* The primary one is there too, so that no setgid program can shed it. */
    assert_int_equal(size_at(spec, "process.user.additionalGids"), 3);
    assert_int_equal(number_at(spec, "process.user.additionalGids.0"), 2000);
    assert_int_equal(number_at(spec, "process.user.additionalGids.1"), 30);
    assert_int_equal(number_at(spec, "process.user.additionalGids.2"), 10);
}

static void volumes_are_bind_mounts_after_the_default_mounts(void **state)
{
    (void)state;
    struct wfe_step_volume volumes[] = {
        {.source = (char *)"/host/data", .target = (char *)"/container/data"},
        {.source = (char *)"/host/config", .target = (char *)"/etc/config", .readonly = true},
    };
    struct wfe_step_config config = minimal_config();
    config.volumes = volumes;
    config.volume_count = 2;
    WFE_JSON cJSON *spec = build(&config, NULL);
    assert_int_equal(size_at(spec, "mounts"), DEFAULT_MOUNTS + 2);

    int binds = 0;
    const cJSON *mount;
    cJSON_ArrayForEach(mount, at(spec, "mounts"))
    {
        binds += strcmp(text_at(mount, "type"), "bind") == 0;
    }
    assert_int_equal(binds, 2);
    mount = cJSON_GetArrayItem(at(spec, "mounts"), DEFAULT_MOUNTS);
    assert_string_equal(text_at(mount, "destination"), "/container/data");
    assert_string_equal(text_at(mount, "source"), "/host/data");
    assert_true(list_has(at(mount, "options"), "rbind"));
    assert_true(list_has(at(mount, "options"), "rprivate"));
    assert_false(list_has(at(mount, "options"), "ro"));
    mount = mount_at(spec, "/etc/config");
    assert_true(list_has(at(mount, "options"), "rbind"));
    assert_true(list_has(at(mount, "options"), "ro"));
}

static void a_volume_inside_of_another_comes_after_it(void **state)
{
    (void)state;
    struct wfe_step_volume volumes[] = {
        {.source = (char *)"/3", .target = (char *)"/a/b/c"},
        {.target = (char *)"/a/b", .type = WFE_VOLUME_TMPFS},
        {.source = (char *)"/1", .target = (char *)"/z"},
        {.source = (char *)"/2", .target = (char *)"/a"},
    };
    static const char *const expected[] = {"/z", "/a", "/a/b", "/a/b/c"};
    struct wfe_step_config config = minimal_config();
    config.volumes = volumes;
    config.volume_count = 4;
    WFE_JSON cJSON *spec = build(&config, NULL);
    for (int i = 0; i < 4; i++) {
        const cJSON *mount = cJSON_GetArrayItem(at(spec, "mounts"), DEFAULT_MOUNTS + i);
        assert_string_equal(text_at(mount, "destination"), expected[i]);
    }
}

static void a_volume_is_mounted_as_it_says(void **state)
{
    (void)state;
    struct wfe_step_volume volumes[] = {
        {.source = (char *)"/s",
            .target = (char *)"/a",
            .shallow = true,
            .propagation = WFE_PROPAGATION_SLAVE},
        {.target = (char *)"/b", .type = WFE_VOLUME_TMPFS},
        {.target = (char *)"/c",
            .type = WFE_VOLUME_TMPFS,
            .size_bytes = 65536,
            .mode = 0700,
            .readonly = true},
    };
    struct wfe_step_config config = minimal_config();
    config.volumes = volumes;
    config.volume_count = 3;
    config.shm_bytes = 1048576;
    WFE_JSON cJSON *spec = build(&config, NULL);
    static const struct {
        const char *target, *type, *options;
    } expected[] = {
        {"/a", "bind", "[\"bind\",\"slave\"]"},
        {"/b", "tmpfs", "[\"nosuid\",\"nodev\",\"noexec\",\"mode=1777\"]"},
        {"/c", "tmpfs", "[\"nosuid\",\"nodev\",\"noexec\",\"mode=700\",\"size=65536\",\"ro\"]"},
        {"/dev/shm", "tmpfs", "[\"nosuid\",\"noexec\",\"nodev\",\"mode=1777\",\"size=1048576\"]"},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const cJSON *mount = mount_at(spec, expected[i].target);
        assert_string_equal(text_at(mount, "type"), expected[i].type);
        WFE_FREE char *options = cJSON_PrintUnformatted(at(mount, "options"));
        assert_string_equal(options, expected[i].options);
    }
}

static void neither_command_nor_run_gives_no_arguments(void **state)
{
    (void)state;
    struct wfe_step_config config = minimal_config();
    config.run = NULL;
    WFE_JSON cJSON *spec = build(&config, NULL);
    assert_int_equal(size_at(spec, "process.args"), 0);
}

static void the_images_entrypoint_and_cmd_are_merged(void **state)
{
    (void)state;
    char *none[] = {NULL};
    char *entrypoint[] = {(char *)"/entry", (char *)"-x", NULL};
    char *cmd[] = {(char *)"serve", NULL};
    char *command[] = {(char *)"check", NULL};
    struct wfe_image_config image = {.env = none, .entrypoint = entrypoint, .cmd = cmd};
    struct wfe_step_config config = minimal_config();
    config.run = NULL;
    WFE_JSON cJSON *of_image = build(&config, &image);
    assert_int_equal(size_at(of_image, "process.args"), 3);
    assert_string_equal(text_at(of_image, "process.args.0"), "/entry");
    assert_string_equal(text_at(of_image, "process.args.2"), "serve");

    config.command = command;
    WFE_JSON cJSON *of_step = build(&config, &image);
    assert_int_equal(size_at(of_step, "process.args"), 3);
    assert_string_equal(text_at(of_step, "process.args.1"), "-x");
    assert_string_equal(text_at(of_step, "process.args.2"), "check");

    config.command = NULL;
    config.run = (char *)"true";
    WFE_JSON cJSON *of_run = build(&config, &image);
    assert_int_equal(size_at(of_run, "process.args"), 3);
    assert_string_equal(text_at(of_run, "process.args.0"), "/bin/sh");
}

static void the_default_mounts_are_containerds_in_its_order(void **state)
{
    (void)state;
    static const char *const expected[DEFAULT_MOUNTS][3] = {{"/proc", "proc", "nosuid"},
        {"/dev", "tmpfs", "mode=755"}, {"/dev/pts", "devpts", "gid=5"},
        {"/dev/shm", "tmpfs", "mode=1777"}, {"/dev/mqueue", "mqueue", "noexec"},
        {"/sys", "sysfs", "ro"}, {"/run", "tmpfs", "size=65536k"}};
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *spec = build(&config, NULL);
    assert_int_equal(size_at(spec, "mounts"), DEFAULT_MOUNTS);
    for (int i = 0; i < DEFAULT_MOUNTS; i++) {
        const cJSON *mount = cJSON_GetArrayItem(at(spec, "mounts"), i);
        assert_string_equal(text_at(mount, "destination"), expected[i][0]);
        assert_string_equal(text_at(mount, "type"), expected[i][1]);
        assert_true(list_has(at(mount, "options"), expected[i][2]));
    }
}

static void root_has_containerds_capabilities_and_no_ambient_ones(void **state)
{
    (void)state;
    static const char *const sets[] = {"bounding", "permitted", "effective"};
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *spec = build_as(&config, &ROOT);
    const cJSON *capabilities = at(spec, "process.capabilities");
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(size_at(capabilities, sets[i]), 14);
        assert_true(list_has(at(capabilities, sets[i]), "CAP_AUDIT_WRITE"));
        assert_false(list_has(at(capabilities, sets[i]), "CAP_SYS_ADMIN"));
    }
    assert_null(maybe_at(capabilities, "ambient"));
    assert_null(maybe_at(capabilities, "inheritable"));
}

static void another_user_than_root_has_no_usable_capability(void **state)
{
    (void)state;
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *spec = build(&config, NULL);
    assert_int_equal(size_at(spec, "process.capabilities.bounding"), 14);
    assert_int_equal(size_at(spec, "process.capabilities.permitted"), 0);
    assert_int_equal(size_at(spec, "process.capabilities.effective"), 0);
}

static void capabilities_are_added_and_dropped_by_name(void **state)
{
    (void)state;
    struct wfe_step_config config = minimal_config();
    wfe_capability_parse("SYS_ADMIN", &config.cap_add);
    config.cap_drop = WFE_CAPABILITIES_ALL;
    WFE_JSON cJSON *spec = build_as(&config, &ROOT);
    assert_int_equal(size_at(spec, "process.capabilities.bounding"), 1);
    assert_string_equal(text_at(spec, "process.capabilities.effective.0"), "CAP_SYS_ADMIN");
    WFE_FREE char *text = cJSON_PrintUnformatted(at(spec, "linux.seccomp"));
    assert_non_null(strstr(text, "\"unshare\""));
    assert_null(strstr(text, "\"chroot\""));
}

static void confinement_is_opened_by_name_only(void **state)
{
    (void)state;
    struct wfe_spec_options options = OPTIONS;
    options.apparmor_profile = "docker-default";
    char *const none[] = {NULL};
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *confined = build_with(&config, NULL, none, &options);
    assert_string_equal(text_at(confined, "process.apparmorProfile"), "docker-default");
    assert_string_equal(text_at(confined, "linux.seccomp.architectures.0"), "SCMP_ARCH_X86_64");
    assert_true(cJSON_IsFalse(at(confined, "root.readonly")));
    assert_true(cJSON_IsTrue(at(confined, "process.noNewPrivileges")));

    config.seccomp = config.apparmor = WFE_PROFILE_UNCONFINED;
    config.new_privileges = config.read_only = true;
    WFE_JSON cJSON *opened = build_with(&config, NULL, none, &options);
    assert_null(maybe_at(opened, "process.apparmorProfile"));
    assert_null(maybe_at(opened, "linux.seccomp"));
    assert_true(cJSON_IsTrue(at(opened, "root.readonly")));
    assert_true(cJSON_IsFalse(at(opened, "process.noNewPrivileges")));
}

static void the_process_is_confined(void **state)
{
    (void)state;
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *spec = build(&config, NULL);
    assert_true(cJSON_IsTrue(at(spec, "process.noNewPrivileges")));
    assert_string_equal(text_at(spec, "process.rlimits.0.type"), "RLIMIT_NOFILE");
    assert_int_equal(number_at(spec, "process.rlimits.0.hard"), 1024);
    assert_int_equal(number_at(spec, "process.rlimits.0.soft"), 1024);
    static const char *const masked[] = {"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
        "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"};
    assert_int_equal(size_at(spec, "linux.maskedPaths"), 11);
    for (size_t i = 0; i < 11; i++)
        assert_true(list_has(at(spec, "linux.maskedPaths"), masked[i]));
    static const char *const readonly[] = {
        "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    assert_int_equal(size_at(spec, "linux.readonlyPaths"), 5);
    for (size_t i = 0; i < 5; i++)
        assert_true(list_has(at(spec, "linux.readonlyPaths"), readonly[i]));
}

static void devices_are_denied_but_for_the_harmless_ones(void **state)
{
    (void)state;
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *spec = build(&config, NULL);
    const cJSON *devices = at(spec, "linux.resources.devices");
    assert_int_equal(cJSON_GetArraySize(devices), 10);
    assert_true(cJSON_IsFalse(at(devices, "0.allow")));
    assert_null(maybe_at(devices, "0.type"));
    for (int i = 1; i < 10; i++) {
        const cJSON *rule = cJSON_GetArrayItem(devices, i);
        assert_true(cJSON_IsTrue(at(rule, "allow")));
        assert_string_equal(text_at(rule, "type"), "c");
        assert_string_equal(text_at(rule, "access"), "rwm");
        double major = number_at(rule, "major");
        assert_true(major == 1 || major == 5 || major == 136);
        assert_true((major == 136) == !maybe_at(rule, "minor"));
    }
}

static void only_network_host_shares_the_daemons_network(void **state)
{
    (void)state;
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *none = build(&config, NULL);
    static const char *const own[] = {"pid", "ipc", "uts", "mount", "network"};
    assert_int_equal(size_at(none, "linux.namespaces"), 5);
    for (size_t i = 0; i < 5; i++)
        assert_true(has_namespace(none, own[i]));

    config.network = WFE_NETWORK_HOST;
    WFE_JSON cJSON *host = build(&config, NULL);
    assert_int_equal(size_at(host, "linux.namespaces"), 4);
    assert_false(has_namespace(host, "network"));
}

static void network_bridge_joins_the_namespace_that_was_made(void **state)
{
    (void)state;
    struct wfe_step_config config = minimal_config();
    config.network = WFE_NETWORK_BRIDGE;
    struct wfe_spec_options options = OPTIONS;
    options.network_namespace = "/run/wfe/netns";
    char *const none[] = {NULL};
    WFE_JSON cJSON *spec = build_with(&config, NULL, none, &options);
    assert_int_equal(size_at(spec, "linux.namespaces"), 5);
    assert_string_equal(text_at(spec, "linux.namespaces.4.type"), "network");
    assert_string_equal(text_at(spec, "linux.namespaces.4.path"), "/run/wfe/netns");
}

static void any_user_has_all_of_a_network_of_its_own(void **state)
{
    (void)state;
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *none = build(&config, NULL);
    const cJSON *sysctl = at(none, "linux.sysctl");
    const cJSON *first_port =
        cJSON_GetObjectItemCaseSensitive(sysctl, "net.ipv4.ip_unprivileged_port_start");
    assert_string_equal(first_port->valuestring, "0");

    config.network = WFE_NETWORK_HOST;
    WFE_JSON cJSON *host = build(&config, NULL);
    assert_null(maybe_at(host, "linux.sysctl"));
}

static void files_are_mounted_read_only_and_before_volumes(void **state)
{
    (void)state;
    static const struct wfe_spec_file files[] = {{"/run/wfe/hosts", "/etc/hosts"}};
    struct wfe_step_volume volumes[] = {
        {.source = (char *)"/host/data", .target = (char *)"/data"}};
    struct wfe_step_config config = minimal_config();
    config.volumes = volumes;
    config.volume_count = 1;
    struct wfe_spec_options options = OPTIONS;
    options.files = files;
    options.file_count = 1;
    char *const none[] = {NULL};
    WFE_JSON cJSON *spec = build_with(&config, NULL, none, &options);
    const cJSON *mount = cJSON_GetArrayItem(at(spec, "mounts"), DEFAULT_MOUNTS);
    assert_string_equal(text_at(mount, "destination"), "/etc/hosts");
    assert_string_equal(text_at(mount, "source"), "/run/wfe/hosts");
    assert_true(list_has(at(mount, "options"), "ro"));
    mount = cJSON_GetArrayItem(at(spec, "mounts"), DEFAULT_MOUNTS + 1);
    assert_string_equal(text_at(mount, "destination"), "/data");
}

static void limits_are_written_as_whole_numbers(void **state)
{
    (void)state;
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *unlimited = build(&config, NULL);
    assert_null(maybe_at(unlimited, "linux.resources.memory"));
    assert_null(maybe_at(unlimited, "linux.resources.cpu"));

    /* 10^15 is a number that cJSON alone would write with an exponent. */
    config.memory_bytes = UINT64_C(1000000000000000);
    config.cpu_millis = 1500;
    char *const none[] = {NULL};
    WFE_JSON cJSON *spec = NULL;
    assert_int_equal(wfe_spec_build(&config, NULL, none, &OPTIONS, &spec, NULL), 0);
    WFE_FREE char *text = cJSON_PrintUnformatted(spec);
    assert_non_null(strstr(text, "\"memory\":{\"limit\":1000000000000000}"));
    assert_non_null(strstr(text, "\"cpu\":{\"quota\":150000,\"period\":100000}"));
}

static void swap_is_limited_where_it_can_be(void **state)
{
    (void)state;
    char *const none[] = {NULL};
    struct wfe_spec_options options = OPTIONS;
    options.limits_swap = true;
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *unlimited = build_with(&config, NULL, none, &options);
    assert_null(maybe_at(unlimited, "linux.resources.memory"));
    config.memory_bytes = 1048576;
    WFE_JSON cJSON *spec = build_with(&config, NULL, none, &options);
    assert_int_equal(number_at(spec, "linux.resources.memory.limit"), 1048576);
    assert_int_equal(number_at(spec, "linux.resources.memory.swap"), 2097152);
    WFE_JSON cJSON *elsewhere = build(&config, NULL);
    assert_null(maybe_at(elsewhere, "linux.resources.memory.swap"));

    config.memory_bytes = INT64_MAX;
    WFE_JSON cJSON *huge = NULL;
    assert_int_equal(wfe_spec_build(&config, NULL, none, &options, &huge, NULL), 0);
    WFE_FREE char *text = cJSON_PrintUnformatted(at(huge, "linux.resources.memory"));
    assert_string_equal(text, "{\"limit\":9223372036854775807,\"swap\":9223372036854775807}");
}

static void processes_and_open_files_are_limited(void **state)
{
    (void)state;
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *unlimited = build(&config, NULL);
    assert_null(maybe_at(unlimited, "linux.resources.pids"));
    config.pids = 100;
    config.nofile = 65536;
    WFE_JSON cJSON *spec = build(&config, NULL);
    assert_int_equal(number_at(spec, "linux.resources.pids.limit"), 100);
    assert_int_equal(number_at(spec, "process.rlimits.0.hard"), 65536);
    assert_int_equal(number_at(spec, "process.rlimits.0.soft"), 65536);
}

static void limits_that_no_kernel_takes_are_refused(void **state)
{
    (void)state;
    char *const none[] = {NULL};
    struct wfe_error err = WFE_ERROR_INIT;
    cJSON *spec = NULL;
    struct wfe_step_config config = minimal_config();
    config.cpu_millis = 9;
    assert_int_equal(wfe_spec_build(&config, NULL, none, &OPTIONS, &spec, &err), -ERANGE);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
    config.cpu_millis = 10;
    config.memory_bytes = (uint64_t)INT64_MAX + 1;
    struct wfe_error other = WFE_ERROR_INIT;
    assert_int_equal(wfe_spec_build(&config, NULL, none, &OPTIONS, &spec, &other), -ERANGE);
    assert_int_equal(other.kind, WFE_ERROR_INPUT);
    assert_null(spec);
}

static void the_cgroup_and_the_host_name_come_from_the_container_id(void **state)
{
    (void)state;
    struct wfe_step_config config = minimal_config();
    WFE_JSON cJSON *spec = build(&config, NULL);
    assert_string_equal(text_at(spec, "linux.cgroupsPath"), "/default/wfe-build-0123");
    assert_string_equal(text_at(spec, "hostname"), "wfe-build-0123");

    /* The 62nd and 63rd bytes are separators, which a host name may not end in. */
    static const char id[] = "a.b_c-0123456789012345678901234567890123456789012345678901234-_tail";
    const struct wfe_spec_options options = {
        .namespace_ = "ns", .container_id = id, .architecture = "amd64", .user = &NOBODY};
    char *const none[] = {NULL};
    WFE_JSON cJSON *long_one = build_with(&config, NULL, none, &options);
    const char *hostname = text_at(long_one, "hostname");
    assert_int_equal(strlen(hostname), 61);
    assert_int_equal(strncmp(hostname, "a-b-c-0", 7), 0);
    assert_int_not_equal(hostname[strlen(hostname) - 1], '-');
}

/* The fields that runtime-spec 1.0.2 (config.md, config-linux.md) calls REQUIRED. */
static void every_required_field_is_there(void **state)
{
    (void)state;
    struct wfe_step_volume volume = {
        .source = (char *)"/a", .target = (char *)"/b", .readonly = true};
    struct wfe_step_config config = minimal_config();
    config.volumes = &volume;
    config.volume_count = 1;
    WFE_JSON cJSON *spec = build(&config, NULL);
    static const char *const texts[] = {"ociVersion", "root.path", "process.cwd"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_true(text_at(spec, texts[i])[0] != '\0');
    assert_int_equal(text_at(spec, "process.cwd")[0], '/');
    assert_int_equal(text_at(spec, "linux.cgroupsPath")[0], '/');
    assert_true(size_at(spec, "process.args") >= 1);
    number_at(spec, "process.user.uid");
    number_at(spec, "process.user.gid");
    const cJSON *item;
    cJSON_ArrayForEach(item, at(spec, "mounts"))
    {
        assert_int_equal(text_at(item, "destination")[0], '/');
        text_at(item, "type");
        text_at(item, "source");
        assert_true(cJSON_IsArray(at(item, "options")));
    }
    cJSON_ArrayForEach(item, at(spec, "linux.namespaces"))
    {
        text_at(item, "type");
    }
    cJSON_ArrayForEach(item, at(spec, "linux.resources.devices"))
    {
        assert_true(cJSON_IsBool(at(item, "allow")));
    }
    cJSON_ArrayForEach(item, at(spec, "process.rlimits"))
    {
        text_at(item, "type");
        number_at(item, "soft");
        number_at(item, "hard");
    }
    static const char *const known[] = {
        "ociVersion", "process", "root", "hostname", "mounts", "linux"};
    cJSON_ArrayForEach(item, spec)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            found = found || strcmp(known[i], item->string) == 0;
        assert_true(found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_step_becomes_a_shell_command),
        cmocka_unit_test(a_command_is_the_argument_list),
        cmocka_unit_test(the_environment_is_taken_over),
        cmocka_unit_test(the_steps_working_directory_wins),
        cmocka_unit_test(a_relative_working_directory_of_an_image_is_below_the_root),
        cmocka_unit_test(the_user_has_its_groups),
        cmocka_unit_test(volumes_are_bind_mounts_after_the_default_mounts),
        cmocka_unit_test(a_volume_inside_of_another_comes_after_it),
        cmocka_unit_test(a_volume_is_mounted_as_it_says),
        cmocka_unit_test(neither_command_nor_run_gives_no_arguments),
        cmocka_unit_test(the_images_entrypoint_and_cmd_are_merged),
        cmocka_unit_test(the_default_mounts_are_containerds_in_its_order),
        cmocka_unit_test(root_has_containerds_capabilities_and_no_ambient_ones),
        cmocka_unit_test(another_user_than_root_has_no_usable_capability),
        cmocka_unit_test(capabilities_are_added_and_dropped_by_name),
        cmocka_unit_test(confinement_is_opened_by_name_only),
        cmocka_unit_test(the_process_is_confined),
        cmocka_unit_test(devices_are_denied_but_for_the_harmless_ones),
        cmocka_unit_test(only_network_host_shares_the_daemons_network),
        cmocka_unit_test(network_bridge_joins_the_namespace_that_was_made),
        cmocka_unit_test(any_user_has_all_of_a_network_of_its_own),
        cmocka_unit_test(files_are_mounted_read_only_and_before_volumes),
        cmocka_unit_test(limits_are_written_as_whole_numbers),
        cmocka_unit_test(swap_is_limited_where_it_can_be),
        cmocka_unit_test(processes_and_open_files_are_limited),
        cmocka_unit_test(limits_that_no_kernel_takes_are_refused),
        cmocka_unit_test(the_cgroup_and_the_host_name_come_from_the_container_id),
        cmocka_unit_test(every_required_field_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
