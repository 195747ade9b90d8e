/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "libcommon/units.h"

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
