/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "executor/step.h"

static uint64_t duration(const char *text)
{
    uint64_t ms = 0;
    assert_int_equal(wfe_duration_parse(text, &ms), 0);
    return ms;
}

static void assert_no_duration(const char *text, int expected)
{
    uint64_t ms = 7;
    assert_int_equal(wfe_duration_parse(text, &ms), expected);
    assert_int_equal(ms, 7);
}

static void durations_have_units_down_to_milliseconds(void **context)
{
    (void)context;
    assert_int_equal(duration("500ms"), 500);
    assert_int_equal(duration("30s"), 30000);
    assert_int_equal(duration("5m"), 300000);
    assert_int_equal(duration("1500"), 1500);
    assert_int_equal(duration("0"), 0);
    assert_int_equal(duration("9223372036854"), INT64_C(9223372036854));
}

static void other_durations_are_refused(void **context)
{
    (void)context;
    static const char *const texts[] = {
        "", "s", "5h", "5 s", " 5s", "5s ", "-5s", "+5s", "1.5s", "5S", "5M", "5sm", "0x10", "1e3"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_no_duration(texts[i], -EINVAL);
}

static void durations_that_overflow_are_refused(void **context)
{
    (void)context;
    assert_no_duration("9223372036855", -ERANGE);
    assert_no_duration("18446744073709551615", -ERANGE);
    assert_no_duration("18446744073709551616ms", -ERANGE);
    assert_no_duration("99999999999999999999999999m", -ERANGE);
    assert_no_duration("153722868m", -ERANGE);
}

static uint64_t size(const char *text)
{
    uint64_t bytes = 0;
    assert_int_equal(wfe_size_parse(text, &bytes), 0);
    return bytes;
}

static void assert_no_size(const char *text, int expected)
{
    uint64_t bytes = 7;
    assert_int_equal(wfe_size_parse(text, &bytes), expected);
    assert_int_equal(bytes, 7);
}

static void sizes_have_units_that_are_powers_of_1024(void **context)
{
    (void)context;
    assert_int_equal(size("1048576"), 1048576);
    assert_int_equal(size("12b"), 12);
    assert_int_equal(size("64k"), 65536);
    assert_int_equal(size("64Ki"), 65536);
    assert_int_equal(size("512m"), 512 * 1048576);
    assert_int_equal(size("512MB"), 512 * 1048576);
    assert_int_equal(size("1g"), 1073741824);
    assert_int_equal(size("2GiB"), UINT64_C(2147483648));
    assert_int_equal(size("1T"), UINT64_C(1099511627776));
    assert_int_equal(size("0"), 0);
    assert_int_equal(size("9223372036854775807"), INT64_MAX);
}

static void other_sizes_are_refused(void **context)
{
    (void)context;
    static const char *const texts[] = {
        "", "m", "abc", "1.5g", "5 m", "-1", "+1", "5mm", "5i", "5ib", "5p", "5bk", "0x10"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_no_size(texts[i], -EINVAL);
}

static void sizes_that_overflow_are_refused(void **context)
{
    (void)context;
    assert_no_size("9223372036854775808", -ERANGE);
    assert_no_size("18446744073709551616", -ERANGE);
    assert_no_size("8388608t", -ERANGE);
    assert_no_size("16777216t", -ERANGE);
    assert_no_size("99999999999999999999g", -ERANGE);
}

static uint32_t cpu(const char *text)
{
    uint32_t millis = 0;
    assert_int_equal(wfe_cpu_parse(text, &millis), 0);
    return millis;
}

static void assert_no_cpu(const char *text, int expected)
{
    uint32_t millis = 7;
    assert_int_equal(wfe_cpu_parse(text, &millis), expected);
    assert_int_equal(millis, 7);
}

static void processors_are_counted_in_thousandths(void **context)
{
    (void)context;
    assert_int_equal(cpu("0.5"), 500);
    assert_int_equal(cpu("1.0"), 1000);
    assert_int_equal(cpu("2"), 2000);
    assert_int_equal(cpu("1500m"), 1500);
    assert_int_equal(cpu(".25"), 250);
    assert_int_equal(cpu("1."), 1000);
    assert_int_equal(cpu("0.001"), 1);
    assert_int_equal(cpu("0.12399"), 123);
    assert_int_equal(cpu("4294967.295"), UINT32_MAX);
}

static void other_numbers_of_processors_are_refused(void **context)
{
    (void)context;
    static const char *const texts[] = {
        "", ".", "m", ".5m", "0.5m", "-1", "+1", "1e3", "1 ", "1.2.3", "two", "1M"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_no_cpu(texts[i], -EINVAL);
    assert_no_cpu("0", -ERANGE);
    assert_no_cpu("0.0009", -ERANGE);
    assert_no_cpu("4294967.296", -ERANGE);
    assert_no_cpu("99999999999999999999", -ERANGE);
    assert_no_cpu("99999999999999999999m", -ERANGE);
    assert_no_cpu("18446744073709551.616", -ERANGE);
}

static void assert_user(
    const char *text, int expected, uint32_t expected_uid, uint32_t expected_gid)
{
    uint32_t uid = 1, gid = 1;
    assert_int_equal(wfe_user_parse(text, &uid, &gid), expected);
    assert_int_equal(uid, expected_uid);
    assert_int_equal(gid, expected_gid);
}

static void a_user_is_uid_and_gid(void **context)
{
    (void)context;
    assert_user("1000:1000", 0, 1000, 1000);
    assert_user("1000:2000", 0, 1000, 2000);
}

static void the_root_user_is_zero(void **context)
{
    (void)context;
    assert_user("0:0", 0, 0, 0);
}

static void the_default_user_is_nobody(void **context)
{
    (void)context;
    assert_user(WFE_STEP_DEFAULT_USER, 0, 65534, 65534);
}

static void a_user_without_a_group_has_group_zero(void **context)
{
    (void)context;
    assert_user("1000", 0, 1000, 0);
}

static void an_invalid_user_falls_back_to_nobody(void **context)
{
    (void)context;
    static const char *const texts[] = {"", "abc", "abc:1", "1:abc", ":", "1:", ":1", "1:2:3", "-1",
        " 1", "1 ", "4294967295", "0:4294967295", "18446744073709551616:0", "0x0:0x0"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_user(texts[i], -EINVAL, 65534, 65534);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_have_units_down_to_milliseconds),
        cmocka_unit_test(other_durations_are_refused),
        cmocka_unit_test(durations_that_overflow_are_refused),
        cmocka_unit_test(sizes_have_units_that_are_powers_of_1024),
        cmocka_unit_test(other_sizes_are_refused),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(processors_are_counted_in_thousandths),
        cmocka_unit_test(other_numbers_of_processors_are_refused),
        cmocka_unit_test(a_user_is_uid_and_gid),
        cmocka_unit_test(the_root_user_is_zero),
        cmocka_unit_test(the_default_user_is_nobody),
        cmocka_unit_test(a_user_without_a_group_has_group_zero),
        cmocka_unit_test(an_invalid_user_falls_back_to_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
