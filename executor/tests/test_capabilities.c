/* SPDX-License-Identifier: MIT */
#include "executor/spec/capabilities.h"

#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static void a_name_stands_at_the_kernels_number(void **state)
{
    (void)state;
    assert_string_equal(wfe_capability_name(CAP_CHOWN), "CAP_CHOWN");
    assert_string_equal(wfe_capability_name(CAP_SYS_ADMIN), "CAP_SYS_ADMIN");
    assert_string_equal(wfe_capability_name(CAP_MKNOD), "CAP_MKNOD");
    assert_string_equal(wfe_capability_name(CAP_SETFCAP), "CAP_SETFCAP");
    assert_string_equal(wfe_capability_name(CAP_BPF), "CAP_BPF");
    assert_string_equal(wfe_capability_name(CAP_CHECKPOINT_RESTORE), "CAP_CHECKPOINT_RESTORE");
    assert_int_equal(WFE_CAPABILITY_COUNT, CAP_LAST_CAP + 1);
    for (unsigned i = 0; i < WFE_CAPABILITY_COUNT; i++) {
        uint64_t set;
        assert_true(wfe_capability_parse(wfe_capability_name(i), &set));
        assert_int_equal(set, WFE_CAPABILITY(i));
    }
}

static void a_name_is_taken_as_docker_takes_it(void **state)
{
    (void)state;
    static const char *const texts[] = {"NET_ADMIN", "CAP_NET_ADMIN", "net_admin", "cap_Net_Admin"};
    static const char *const wrong[] = {
        "", "CAP_", "NET", "NET_ADMIN2", "CAP_CAP_NET_ADMIN", "CAP_ALL", " NET_ADMIN"};
    uint64_t set;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_true(wfe_capability_parse(texts[i], &set));
        assert_int_equal(set, WFE_CAPABILITY(CAP_NET_ADMIN));
    }
    assert_true(wfe_capability_parse("all", &set));
    assert_int_equal(set, WFE_CAPABILITIES_ALL);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(wfe_capability_parse(wrong[i], &set));
}

static void what_is_added_and_dropped_is_resolved_as_docker_does(void **state)
{
    (void)state;
    const uint64_t kill = WFE_CAPABILITY(CAP_KILL), admin = WFE_CAPABILITY(CAP_SYS_ADMIN);
    const uint64_t all = WFE_CAPABILITIES_ALL, usual = WFE_CAPABILITIES_DEFAULT;
    assert_int_equal(wfe_capabilities_resolve(0, 0), usual);
    assert_int_equal(wfe_capabilities_resolve(admin, 0), usual | admin);
    assert_int_equal(wfe_capabilities_resolve(0, kill), usual & ~kill);
    assert_int_equal(wfe_capabilities_resolve(admin, kill), (usual & ~kill) | admin);
    assert_int_equal(wfe_capabilities_resolve(kill, kill), usual);
    assert_int_equal(wfe_capabilities_resolve(all, 0), all);
    assert_int_equal(wfe_capabilities_resolve(all, kill), all & ~kill);
    assert_int_equal(wfe_capabilities_resolve(0, all), 0);
    assert_int_equal(wfe_capabilities_resolve(kill, all), kill);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_stands_at_the_kernels_number),
        cmocka_unit_test(a_name_is_taken_as_docker_takes_it),
        cmocka_unit_test(what_is_added_and_dropped_is_resolved_as_docker_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
