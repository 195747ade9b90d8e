/* SPDX-License-Identifier: MIT */
#include "executor/spec/seccomp.h"

#include <errno.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "executor/spec/capabilities.h"
#include "libcommon/cleanup.h"

#define DENIED (-EPERM)

/* The profile as a runtime reads it: written out and parsed again. */
static cJSON *profile_for(const char *architecture, uint64_t bounding)
{
    WFE_JSON cJSON *profile = wfe_seccomp_default(architecture, bounding);
    assert_non_null(profile);
    WFE_FREE char *text = cJSON_PrintUnformatted(profile);
    cJSON *parsed = cJSON_Parse(text);
    assert_non_null(parsed);
    return parsed;
}

static const cJSON *get(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static bool names(const cJSON *list, const char *text)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (strcmp(item->valuestring, text) == 0)
            return true;
    }
    return false;
}

static bool condition_holds(const cJSON *condition, const uint64_t arguments[6])
{
    uint64_t argument = arguments[(int)get(condition, "index")->valuedouble];
    uint64_t value = (uint64_t)get(condition, "value")->valuedouble;
    const char *op = get(condition, "op")->valuestring;
    if (strcmp(op, "SCMP_CMP_EQ") == 0)
        return argument == value;
    if (strcmp(op, "SCMP_CMP_LT") == 0)
        return argument < value;
    assert_string_equal(op, "SCMP_CMP_MASKED_EQ");
    return (argument & value) == 0;
}

/* What the profile does with a call: 0 (allowed) or -errno. No rule may have two conditions. */
static int judge(const cJSON *profile, const char *call, uint64_t first, uint64_t second)
{
    const uint64_t arguments[6] = {first, second};
    int verdict = DENIED;
    const cJSON *rule;
    cJSON_ArrayForEach(rule, get(profile, "syscalls"))
    {
        const cJSON *conditions = get(rule, "args");
        assert_true(cJSON_GetArraySize(conditions) <= 1);
        if (!names(get(rule, "names"), call) ||
            (conditions && !condition_holds(conditions->child, arguments)))
            continue;
        if (strcmp(get(rule, "action")->valuestring, "SCMP_ACT_ALLOW") == 0)
            return 0;
        verdict = -get(rule, "errnoRet")->valueint;
    }
    return verdict;
}

static void what_is_not_named_is_denied(void **state)
{
    (void)state;
    static const char *const denied[] = {"mount", "umount2", "unshare", "setns", "keyctl",
        "add_key", "request_key", "bpf", "perf_event_open", "kexec_load", "init_module", "reboot",
        "io_uring_setup", "userfaultfd", "swapon", "open_by_handle_at", "iopl", "settimeofday",
        "acct", "nfsservctl", "kcmp", "mbind", "syslog", "create_module"};
    static const char *const allowed[] = {"read", "openat", "fork", "vfork", "execve", "futex",
        "chroot", "mknod", "ptrace", "socketpair", "socketcall", "landlock_restrict_self"};
    WFE_JSON cJSON *profile = profile_for("amd64", WFE_CAPABILITIES_DEFAULT);
    assert_string_equal(get(profile, "defaultAction")->valuestring, "SCMP_ACT_ERRNO");
    assert_null(get(profile, "defaultErrnoRet"));
    for (size_t i = 0; i < sizeof denied / sizeof *denied; i++)
        if (judge(profile, denied[i], 0, 0) != DENIED)
            fail_msg("%s is not denied", denied[i]);
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (judge(profile, allowed[i], 0, 0) != 0)
            fail_msg("%s is denied", allowed[i]);
}

static void a_capability_of_the_bounding_set_adds_its_calls(void **state)
{
    (void)state;
    static const struct {
        unsigned capability;
        const char *call;
    } cases[] = {{CAP_SYS_ADMIN, "mount"}, {CAP_SYS_ADMIN, "setns"}, {CAP_SYS_ADMIN, "unshare"},
        {CAP_SYS_BOOT, "reboot"}, {CAP_SYS_CHROOT, "chroot"}, {CAP_SYS_MODULE, "init_module"},
        {CAP_SYS_PACCT, "acct"}, {CAP_SYS_PTRACE, "kcmp"}, {CAP_SYS_RAWIO, "iopl"},
        {CAP_SYS_TIME, "settimeofday"}, {CAP_SYS_TTY_CONFIG, "vhangup"}, {CAP_SYS_NICE, "mbind"},
        {CAP_SYSLOG, "syslog"}, {CAP_BPF, "bpf"}, {CAP_PERFMON, "perf_event_open"},
        {CAP_DAC_READ_SEARCH, "open_by_handle_at"}};
    WFE_JSON cJSON *bare = profile_for("amd64", 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        WFE_JSON cJSON *profile = profile_for("amd64", WFE_CAPABILITY(cases[i].capability));
        assert_int_equal(judge(bare, cases[i].call, 0, 0), DENIED);
        assert_int_equal(judge(profile, cases[i].call, 0, 0), 0);
        /* None adds what has no capability of its own. */
        assert_int_equal(judge(profile, "keyctl", 0, 0), DENIED);
    }
}

static void clone_makes_no_namespaces_without_sys_admin(void **state)
{
    (void)state;
    static const uint64_t namespaces[] = {
        0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000};
    WFE_JSON cJSON *profile = profile_for("amd64", WFE_CAPABILITIES_DEFAULT);
    WFE_JSON cJSON *s390 = profile_for("s390x", WFE_CAPABILITIES_DEFAULT);
    WFE_JSON cJSON *admin = profile_for("amd64", WFE_CAPABILITY(CAP_SYS_ADMIN));
    assert_int_equal(judge(profile, "clone", 0x3D0F00, 0x20000), 0);
    assert_int_equal(judge(profile, "clone3", 0, 0), -ENOSYS);
    for (size_t i = 0; i < sizeof namespaces / sizeof *namespaces; i++) {
        assert_int_equal(judge(profile, "clone", namespaces[i] | 0x11, 0), DENIED);
        /* There the flags are the second argument. */
        assert_int_equal(judge(s390, "clone", 0, namespaces[i] | 0x11), DENIED);
        assert_int_equal(judge(s390, "clone", namespaces[i], 0x11), 0);
        assert_int_equal(judge(admin, "clone", namespaces[i], 0), 0);
    }
    assert_int_equal(judge(admin, "clone3", 0, 0), 0);
}

static void two_families_of_sockets_are_kept_out(void **state)
{
    (void)state;
    WFE_JSON cJSON *profile = profile_for("amd64", WFE_CAPABILITIES_ALL);
    for (uint64_t family = 0; family <= 45; family++) {
        int expected = family == 38 || family == 40 ? DENIED : 0;
        assert_int_equal(judge(profile, "socket", family, 1), expected);
    }
    /* The kernel would take this one for AF_ALG. */
    assert_int_equal(judge(profile, "socket", (UINT64_C(1) << 32) + 38, 5), DENIED);
}

static void a_personality_is_one_of_five(void **state)
{
    (void)state;
    static const uint64_t allowed[] = {0, 8, 0x20000, 0x20008, 0xFFFFFFFF};
    WFE_JSON cJSON *profile = profile_for("amd64", WFE_CAPABILITIES_DEFAULT);
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        assert_int_equal(judge(profile, "personality", allowed[i], 0), 0);
    /* ADDR_NO_RANDOMIZE */
    assert_int_equal(judge(profile, "personality", 0x40000, 0), DENIED);
}

static void the_architectures_are_the_daemons(void **state)
{
    (void)state;
    WFE_JSON cJSON *amd64 = profile_for("amd64", 0);
    const cJSON *list = get(amd64, "architectures");
    assert_int_equal(cJSON_GetArraySize(list), 3);
    assert_true(names(list, "SCMP_ARCH_X86_64"));
    assert_true(names(list, "SCMP_ARCH_X86"));
    assert_true(names(list, "SCMP_ARCH_X32"));
    assert_int_equal(judge(amd64, "arch_prctl", 0, 0), 0);
    assert_int_equal(judge(amd64, "set_tls", 0, 0), DENIED);

    WFE_JSON cJSON *arm64 = profile_for("arm64", 0);
    list = get(arm64, "architectures");
    assert_int_equal(cJSON_GetArraySize(list), 2);
    assert_true(names(list, "SCMP_ARCH_AARCH64"));
    assert_true(names(list, "SCMP_ARCH_ARM"));
    assert_int_equal(judge(arm64, "set_tls", 0, 0), 0);
    assert_int_equal(judge(arm64, "arch_prctl", 0, 0), DENIED);

    WFE_JSON cJSON *other = profile_for("sparc64", 0);
    assert_null(get(other, "architectures"));
    assert_int_equal(judge(other, "read", 0, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_named_is_denied),
        cmocka_unit_test(a_capability_of_the_bounding_set_adds_its_calls),
        cmocka_unit_test(clone_makes_no_namespaces_without_sys_admin),
        cmocka_unit_test(two_families_of_sockets_are_kept_out),
        cmocka_unit_test(a_personality_is_one_of_five),
        cmocka_unit_test(the_architectures_are_the_daemons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
