/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "libcommon/utf8.h"

static void assert_span(const char *text, size_t expected)
{
    assert_int_equal(wfe_utf8_span(text, strlen(text)), expected);
}

static void whole_characters_are_spanned(void **context)
{
    (void)context;
    assert_span("", 0);
    assert_span("plain text, longer than a word", 30);
    assert_span("é", 2);
    assert_span("1234567€1234567😀", 21);
    assert_span("\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEF\xBF\xBF\xF0\x90\x80\x80", 17);
    assert_span("\xF4\x8F\xBF\xBF", 4);
}

static void ill_formed_bytes_end_the_span(void **context)
{
    (void)context;
    assert_span("ab\x80", 2);
    assert_span("\xC0\xAF", 0);
    assert_span("\xC1\xBF", 0);
    assert_span("\xE0\x9F\xBF", 0);
    assert_span("\xED\xA0\x80", 0);
    assert_span("\xF0\x8F\xBF\xBF", 0);
    assert_span("\xF4\x90\x80\x80", 0);
    assert_span("\xF5\x80\x80\x80", 0);
    assert_span("x\xE2\x82", 1);
    assert_span("12345678\xFF", 8);
}

static void the_ill_formed_piece_is_the_maximal_subpart(void **context)
{
    (void)context;
    assert_int_equal(wfe_utf8_ill_formed("\x80", 1), 1);
    assert_int_equal(wfe_utf8_ill_formed("\xC0\xAF", 2), 1);
    assert_int_equal(wfe_utf8_ill_formed("\xE2\x82", 2), 2);
    assert_int_equal(wfe_utf8_ill_formed("\xE2\x82x", 3), 2);
    assert_int_equal(wfe_utf8_ill_formed("\xF0\x9F\x98", 3), 3);
    assert_int_equal(wfe_utf8_ill_formed("\xED\xA0\x80", 3), 1);
    assert_int_equal(wfe_utf8_ill_formed("\xF4\x90\x80\x80", 4), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_characters_are_spanned),
        cmocka_unit_test(ill_formed_bytes_end_the_span),
        cmocka_unit_test(the_ill_formed_piece_is_the_maximal_subpart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
