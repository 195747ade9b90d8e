/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libcommon/error.h"
#include "libcommon/utf8.h"

static void set_records_kind_errno_and_text(void **state)
{
    (void)state;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_error_set(&err, WFE_ERROR_LIMIT, EFBIG, "%d of %s", 3, "x"), -EFBIG);
    assert_int_equal(err.kind, WFE_ERROR_LIMIT);
    assert_int_equal(err.errnum, EFBIG);
    assert_int_equal(err.grpc_status, 0);
    assert_string_equal(err.message, "3 of x");
}

static void every_function_takes_no_error(void **state)
{
    (void)state;
    assert_int_equal(wfe_error_set(NULL, WFE_ERROR_INPUT, EINVAL, "x"), -EINVAL);
    assert_int_equal(wfe_error_system(NULL, ENOENT, "x"), -ENOENT);
    assert_int_equal(wfe_error_nomem(NULL), -ENOMEM);
    wfe_error_prefix(NULL, "x");
}

static void memory_that_ran_out_is_internal(void **state)
{
    (void)state;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_error_nomem(&err), -ENOMEM);
    assert_int_equal(err.kind, WFE_ERROR_INTERNAL);
    assert_string_equal(err.message, "out of memory");
}

static void a_system_error_ends_with_the_reason(void **state)
{
    (void)state;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_error_system(&err, ENOENT, "open %s", "/x"), -ENOENT);
    assert_int_equal(err.kind, WFE_ERROR_SYSTEM);
    assert_string_equal(err.message, "open /x: No such file or directory");
}

static void a_long_path_does_not_push_the_reason_out(void **state)
{
    (void)state;
    char path[2001];
    for (size_t i = 0; i < 1000; i++)
        memcpy(path + 2 * i, "\xC3\xA4", 2);
    path[2000] = '\0';
    for (size_t shift = 0; shift < 2; shift++) {
        struct wfe_error err = WFE_ERROR_INIT;
        assert_int_equal(wfe_error_system(&err, ENOENT, "%s%s", shift ? "x" : "", path), -ENOENT);
        assert_non_null(strstr(err.message, "\xC3\xA4: No such file or directory"));
        size_t length = strlen(err.message);
        assert_int_equal(wfe_utf8_span(err.message, length), length);
    }
}

static void a_cut_message_ends_with_a_whole_character(void **state)
{
    (void)state;
    static const char *const characters[] = {"\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t c = 0; c < 3; c++) {
        for (size_t shift = 0; shift < 4; shift++) {
            char text[2048] = "xxx";
            size_t length = strlen(characters[c]);
            for (size_t at = shift; at + length < sizeof text; at += length)
                memcpy(text + at, characters[c], length + 1);
            struct wfe_error err = WFE_ERROR_INIT;
            wfe_error_set(&err, WFE_ERROR_INPUT, EINVAL, "%s", text);
            size_t kept = strlen(err.message);
            assert_in_range(kept, sizeof err.message - 4, sizeof err.message - 1);
            assert_int_equal(wfe_utf8_span(err.message, kept), kept);
            wfe_error_prefix(&err, "step '%s'", "b");
            kept = strlen(err.message);
            assert_in_range(kept, sizeof err.message - 4, sizeof err.message - 1);
            assert_int_equal(wfe_utf8_span(err.message, kept), kept);
        }
    }
}

static void a_message_that_fits_is_kept_to_the_last_byte(void **state)
{
    (void)state;
    struct wfe_error err = WFE_ERROR_INIT;
    char text[sizeof err.message];
    memset(text, 'x', sizeof text);
    memcpy(text + sizeof text - 3, "\xC3\xA4", 3);
    wfe_error_set(&err, WFE_ERROR_INPUT, EINVAL, "%s", text);
    assert_string_equal(err.message, text);
}

static void prefixes_stand_in_front_of_each_other(void **state)
{
    (void)state;
    struct wfe_error err = WFE_ERROR_INIT;
    wfe_error_set(&err, WFE_ERROR_CONTAINERD, ENOENT, "not found");
    wfe_error_prefix(&err, "image '%s'", "alpine");
    wfe_error_prefix(&err, "step '%s'", "build");
    assert_string_equal(err.message, "step 'build': image 'alpine': not found");
    assert_int_equal(err.kind, WFE_ERROR_CONTAINERD);
    assert_int_equal(err.errnum, ENOENT);
}

static void each_kind_has_its_own_name(void **state)
{
    (void)state;
    for (int a = WFE_ERROR_NONE; a <= WFE_ERROR_INTERNAL; a++) {
        for (int b = WFE_ERROR_NONE; b < a; b++)
            assert_string_not_equal(wfe_error_kind_name(a), wfe_error_kind_name(b));
    }
    assert_string_equal(wfe_error_kind_name(WFE_ERROR_TIMEOUT), "timeout");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_records_kind_errno_and_text),
        cmocka_unit_test(every_function_takes_no_error),
        cmocka_unit_test(memory_that_ran_out_is_internal),
        cmocka_unit_test(a_system_error_ends_with_the_reason),
        cmocka_unit_test(a_long_path_does_not_push_the_reason_out),
        cmocka_unit_test(a_cut_message_ends_with_a_whole_character),
        cmocka_unit_test(a_message_that_fits_is_kept_to_the_last_byte),
        cmocka_unit_test(prefixes_stand_in_front_of_each_other),
        cmocka_unit_test(each_kind_has_its_own_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
