/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/run/outputs.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"

#define MANY_BYTES (32 * 1024 * 1024)

/* The outputs of a stdout that comes in pieces of `piece` bytes. */
static cJSON *outputs_in_pieces(const char *text, size_t length, size_t piece, size_t *ret_dropped)
{
    struct wfe_outputs *outputs;
    assert_int_equal(wfe_outputs_new(&outputs), 0);
    for (size_t offset = 0; offset < length; offset += piece)
        assert_int_equal(wfe_outputs_feed(outputs, text + offset,
                             length - offset < piece ? length - offset : piece),
            0);
    cJSON *object = wfe_outputs_finish(outputs);
    assert_non_null(object);
    *ret_dropped = wfe_outputs_dropped(outputs);
    wfe_outputs_free(outputs);
    return object;
}

/* The outputs as JSON text must be `expected`, however the bytes are cut. */
static void assert_outputs_of(const char *text, size_t length, const char *expected)
{
    for (size_t piece = 1; piece <= length + 1; piece++) {
        size_t dropped;
        WFE_JSON cJSON *object = outputs_in_pieces(text, length, piece, &dropped);
        WFE_FREE char *json = cJSON_PrintUnformatted(object);
        assert_string_equal(json, expected);
        assert_int_equal(dropped, 0);
    }
}

static void assert_outputs(const char *text, const char *expected)
{
    assert_outputs_of(text, strlen(text), expected);
}

static void an_empty_stdout_has_no_outputs(void **context)
{
    (void)context;
    assert_outputs("", "{}");
}

static void a_single_output_is_found_between_other_lines(void **context)
{
    (void)context;
    assert_outputs(
        "some log line\n##wfe[output version=1.2.3]\nmore logs\n", "{\"version\":\"1.2.3\"}");
}

static void several_outputs_keep_their_order(void **context)
{
    (void)context;
    assert_outputs("##wfe[output foo=bar]\n##wfe[output baz=qux]\n##wfe[output abc=1]\n",
        "{\"foo\":\"bar\",\"baz\":\"qux\",\"abc\":\"1\"}");
}

static void outputs_are_found_among_regular_lines(void **context)
{
    (void)context;
    assert_outputs("Starting container...\n"
                   "Pulling image...\n"
                   "##wfe[output digest=sha256:abc123]\n"
                   "Running tests...\n"
                   "##wfe[output result=pass]\n"
                   "Done.\n",
        "{\"digest\":\"sha256:abc123\",\"result\":\"pass\"}");
}

static void lines_without_a_directive_give_no_outputs(void **context)
{
    (void)context;
    assert_outputs("line 1\nline 2\nline 3\n", "{}");
}

static void a_value_may_hold_equals_signs_and_brackets(void **context)
{
    (void)context;
    assert_outputs("##wfe[output url=https://example.com?a=1&b=2]\n",
        "{\"url\":\"https://example.com?a=1&b=2\"}");
    assert_outputs("##wfe[output a=[x]]]\n", "{\"a\":\"[x]]\"}");
}

static void malformed_directives_are_ignored(void **context)
{
    (void)context;
    assert_outputs("##wfe[output ]\n"
                   "##wfe[output no_equals]\n"
                   "##wfe[output valid=yes]\n"
                   "##wfe[output_extra bad=val]\n"
                   "##wfe[output\n"
                   "##wfe[output x=y\n"
                   "##wfe[output x=y] \n"
                   " ##wfe[output x=y]\n"
                   "###wfe[output x=y]\n"
                   "#\n\n"
                   "##wfe[output =y]\n"
                   "##wfe[output  \t =y]\n",
        "{\"valid\":\"yes\"}");
}

static void the_last_value_of_a_key_wins(void **context)
{
    (void)context;
    assert_outputs("##wfe[output key=first]\n##wfe[output other=x]\n##wfe[output key=second]\n",
        "{\"key\":\"second\",\"other\":\"x\"}");
}

static void the_key_is_trimmed_and_the_value_verbatim(void **context)
{
    (void)context;
    assert_outputs(
        "##wfe[output  \ta b\t = c \t]\n##wfe[output e=]\n", "{\"a b\":\" c \\t\",\"e\":\"\"}");
}

static void a_carriage_return_ends_a_line_too(void **context)
{
    (void)context;
    assert_outputs("##wfe[output a=b]\r\n##wfe[output c=d\r]\r\n", "{\"a\":\"b\",\"c\":\"d\\r\"}");
}

static void the_last_line_needs_no_end(void **context)
{
    (void)context;
    assert_outputs("x\n##wfe[output a=b]", "{\"a\":\"b\"}");
}

static void bytes_that_are_no_text_are_replaced(void **context)
{
    (void)context;
    static const char text[] = "##wfe[output k\xFF=a\0b\xE2\x82]\n##wfe[output k\xFE=2]\n";
    assert_outputs_of(text, sizeof text - 1, "{\"k\xEF\xBF\xBD\":\"2\"}");
    static const char nul[] = "##wfe[output k=a\0b\xE2\x82]\n";
    assert_outputs_of(nul, sizeof nul - 1,
        "{\"k\":\"a\xEF\xBF\xBD"
        "b\xEF\xBF\xBD\"}");
}

static void feed_repeated(struct wfe_outputs *outputs, const char *piece, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(wfe_outputs_feed(outputs, piece, strlen(piece)), 0);
}

static void a_line_that_is_too_long_is_dropped(void **context)
{
    (void)context;
    WFE_BUFFER struct wfe_buffer kilobyte = WFE_BUFFER_INIT(2048);
    for (int i = 0; i < 1024; i++)
        wfe_buffer_puts(&kilobyte, "x");
    struct wfe_outputs *outputs;
    assert_int_equal(wfe_outputs_new(&outputs), 0);
    feed_repeated(outputs, "##wfe[output long=", 1);
    feed_repeated(outputs, kilobyte.data, 1024);
    feed_repeated(outputs, "]\n##wfe[output a=b]\n##wfe[output fits=", 1);
    feed_repeated(outputs, kilobyte.data, 1023);
    feed_repeated(outputs, "]\n", 1);
    feed_repeated(outputs, kilobyte.data, 4096);
    feed_repeated(outputs, "\n", 1);
    WFE_JSON cJSON *object = wfe_outputs_finish(outputs);
    assert_int_equal(cJSON_GetArraySize(object), 2);
    assert_string_equal(cJSON_GetObjectItem(object, "a")->valuestring, "b");
    assert_int_equal(strlen(cJSON_GetObjectItem(object, "fits")->valuestring), 1023 * 1024);
    assert_int_equal(wfe_outputs_dropped(outputs), 1);
    wfe_outputs_free(outputs);
}

static void keys_past_the_limit_are_dropped_and_counted(void **context)
{
    (void)context;
    struct wfe_outputs *outputs;
    assert_int_equal(wfe_outputs_new(&outputs), 0);
    for (int i = 0; i < WFE_OUTPUTS_MAX_KEYS + 5; i++) {
        char line[64];
        snprintf(line, sizeof line, "##wfe[output k%d=%d]\n", i, i);
        feed_repeated(outputs, line, 1);
    }
    feed_repeated(outputs, "##wfe[output k7=again]\n", 1);
    WFE_JSON cJSON *object = wfe_outputs_finish(outputs);
    assert_int_equal(cJSON_GetArraySize(object), WFE_OUTPUTS_MAX_KEYS);
    assert_string_equal(cJSON_GetObjectItem(object, "k7")->valuestring, "again");
    assert_int_equal(wfe_outputs_dropped(outputs), 5);
    wfe_outputs_free(outputs);
}

/* A directive of nearly a megabyte. */
static void feed_long_output(struct wfe_outputs *outputs, const char *key, const char *end)
{
    WFE_BUFFER struct wfe_buffer line = WFE_BUFFER_INIT(MANY_BYTES);
    wfe_buffer_printf(&line, "##wfe[output %s=", key);
    for (int i = 0; i < 62500; i++)
        wfe_buffer_puts(&line, "0123456789ABCDEF");
    wfe_buffer_printf(&line, "%s]\n", end);
    feed_repeated(outputs, line.data, 1);
}

static void bytes_past_the_limit_are_dropped_and_counted(void **context)
{
    (void)context;
    struct wfe_outputs *outputs;
    assert_int_equal(wfe_outputs_new(&outputs), 0);
    static const char *const keys[] = {"k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        feed_long_output(outputs, keys[i], "");
    feed_long_output(outputs, "k1", "-again");
    feed_repeated(outputs, "##wfe[output k0=short]\n##wfe[output small=x]\n", 1);
    feed_long_output(outputs, "k0", "");
    WFE_JSON cJSON *object = wfe_outputs_finish(outputs);
    assert_int_equal(cJSON_GetArraySize(object), 9);
    assert_int_equal(strlen(cJSON_GetObjectItem(object, "k0")->valuestring), 1000000);
    assert_string_equal(cJSON_GetObjectItem(object, "k1")->valuestring + 1000000, "-again");
    assert_string_equal(cJSON_GetObjectItem(object, "small")->valuestring, "x");
    assert_int_equal(wfe_outputs_dropped(outputs), 2);
    wfe_outputs_free(outputs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_stdout_has_no_outputs),
        cmocka_unit_test(a_single_output_is_found_between_other_lines),
        cmocka_unit_test(several_outputs_keep_their_order),
        cmocka_unit_test(outputs_are_found_among_regular_lines),
        cmocka_unit_test(lines_without_a_directive_give_no_outputs),
        cmocka_unit_test(a_value_may_hold_equals_signs_and_brackets),
        cmocka_unit_test(malformed_directives_are_ignored),
        cmocka_unit_test(the_last_value_of_a_key_wins),
        cmocka_unit_test(the_key_is_trimmed_and_the_value_verbatim),
        cmocka_unit_test(a_carriage_return_ends_a_line_too),
        cmocka_unit_test(the_last_line_needs_no_end),
        cmocka_unit_test(bytes_that_are_no_text_are_replaced),
        cmocka_unit_test(a_line_that_is_too_long_is_dropped),
        cmocka_unit_test(keys_past_the_limit_are_dropped_and_counted),
        cmocka_unit_test(bytes_past_the_limit_are_dropped_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
