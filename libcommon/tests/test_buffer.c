/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"

static void appended_bytes_are_a_c_string(void **state)
{
    (void)state;
    WFE_BUFFER struct wfe_buffer buffer = WFE_BUFFER_INIT(1000);
    assert_null(buffer.data);
    assert_int_equal(wfe_buffer_append(&buffer, "abc", 2), 0);
    assert_int_equal(wfe_buffer_puts(&buffer, "cd"), 0);
    assert_int_equal(wfe_buffer_printf(&buffer, "%d-%s", 7, "x"), 0);
    assert_string_equal(buffer.data, "abcd7-x");
    assert_int_equal(buffer.length, 7);
}

static void a_buffer_can_be_filled_to_its_cap_and_no_further(void **state)
{
    (void)state;
    WFE_BUFFER struct wfe_buffer buffer = WFE_BUFFER_INIT(4);
    assert_int_equal(wfe_buffer_append(&buffer, "abcd", 4), 0);
    assert_int_equal(wfe_buffer_append(&buffer, "", 0), 0);
    assert_int_equal(wfe_buffer_append(&buffer, "e", 1), -EMSGSIZE);
    assert_int_equal(wfe_buffer_puts(&buffer, "e"), -EMSGSIZE);
    assert_int_equal(wfe_buffer_printf(&buffer, "%c", 'e'), -EMSGSIZE);
    assert_string_equal(buffer.data, "abcd");
    assert_int_equal(buffer.length, 4);
}

static void a_buffer_with_cap_zero_holds_the_empty_string(void **state)
{
    (void)state;
    WFE_BUFFER struct wfe_buffer buffer = WFE_BUFFER_INIT(0);
    assert_int_equal(wfe_buffer_append(&buffer, "a", 1), -EMSGSIZE);
    assert_int_equal(wfe_buffer_append(&buffer, NULL, 0), 0);
    assert_string_equal(buffer.data, "");
}

static void many_small_appends_keep_every_byte(void **state)
{
    (void)state;
    WFE_BUFFER struct wfe_buffer buffer = WFE_BUFFER_INIT(100000);
    for (size_t i = 0; i < 100000; i++) {
        char byte = (char)('a' + i % 26);
        assert_int_equal(wfe_buffer_append(&buffer, &byte, 1), 0);
    }
    for (size_t i = 0; i < 100000; i++)
        assert_int_equal(buffer.data[i], 'a' + i % 26);
    assert_true(buffer.allocated <= 100001);
}

static void the_largest_cap_does_not_wrap_around(void **state)
{
    (void)state;
    WFE_BUFFER struct wfe_buffer buffer = WFE_BUFFER_INIT(SIZE_MAX);
    assert_int_equal(wfe_buffer_puts(&buffer, "abc"), 0);
    assert_int_equal(wfe_buffer_append(&buffer, "x", SIZE_MAX - 3), -ENOMEM);
    assert_string_equal(buffer.data, "abc");
}

static void stolen_contents_leave_a_usable_buffer(void **state)
{
    (void)state;
    WFE_BUFFER struct wfe_buffer buffer = WFE_BUFFER_INIT(10);
    WFE_FREE char *empty = wfe_buffer_steal(&buffer);
    assert_string_equal(empty, "");
    wfe_buffer_puts(&buffer, "abc");
    WFE_FREE char *full = wfe_buffer_steal(&buffer);
    assert_string_equal(full, "abc");
    assert_int_equal(buffer.length, 0);
    assert_int_equal(wfe_buffer_puts(&buffer, "0123456789"), 0);
    assert_string_equal(buffer.data, "0123456789");
}

static void a_released_buffer_can_be_used_again(void **state)
{
    (void)state;
    WFE_BUFFER struct wfe_buffer buffer = WFE_BUFFER_INIT(3);
    wfe_buffer_puts(&buffer, "abc");
    wfe_buffer_done(&buffer);
    assert_int_equal(wfe_buffer_puts(&buffer, "def"), 0);
    assert_string_equal(buffer.data, "def");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appended_bytes_are_a_c_string),
        cmocka_unit_test(a_buffer_can_be_filled_to_its_cap_and_no_further),
        cmocka_unit_test(a_buffer_with_cap_zero_holds_the_empty_string),
        cmocka_unit_test(many_small_appends_keep_every_byte),
        cmocka_unit_test(the_largest_cap_does_not_wrap_around),
        cmocka_unit_test(stolen_contents_leave_a_usable_buffer),
        cmocka_unit_test(a_released_buffer_can_be_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
