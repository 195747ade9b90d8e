/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "executor/run/result.h"
#include "libcommon/cleanup.h"

static struct wfe_stream_output whole(const char *text)
{
    return (struct wfe_stream_output){
        .data = text, .length = strlen(text), .total_bytes = strlen(text)};
}

static void assert_step_data(const char *step_name, const char *directives_json,
    struct wfe_stream_output stdout_output, struct wfe_stream_output stderr_output, int exit_code,
    const char *expected)
{
    WFE_JSON cJSON *directives = cJSON_Parse(directives_json);
    WFE_JSON cJSON *object =
        wfe_result_step_data(step_name, directives, &stdout_output, &stderr_output, exit_code);
    WFE_FREE char *json = cJSON_PrintUnformatted(object);
    assert_string_equal(json, expected);
}

static void step_data_holds_directives_streams_and_exit_code(void **context)
{
    (void)context;
    assert_step_data("my_step", "{\"result\":\"success\"}", whole("hello world\n"), whole(""), 0,
        "{\"result\":\"success\",\"my_step.stdout\":\"hello world\\n\",\"my_step.stderr\":\"\","
        "\"my_step.exit_code\":0}");
}

static void step_data_without_directives_has_three_members(void **context)
{
    (void)context;
    assert_step_data("step1", "{}", whole("out"), whole("err"), 1,
        "{\"step1.stdout\":\"out\",\"step1.stderr\":\"err\",\"step1.exit_code\":1}");
}

static void several_directives_stand_before_the_streams(void **context)
{
    (void)context;
    assert_step_data("s", "{\"a\":\"1\",\"b\":\"2\",\"c\":\"3\"}", whole(""), whole(""), 0,
        "{\"a\":\"1\",\"b\":\"2\",\"c\":\"3\",\"s.stdout\":\"\",\"s.stderr\":\"\","
        "\"s.exit_code\":0}");
}

static void a_negative_exit_code_stays_negative(void **context)
{
    (void)context;
    assert_step_data("s", "{}", whole(""), whole(""), -1,
        "{\"s.stdout\":\"\",\"s.stderr\":\"\",\"s.exit_code\":-1}");
}

static void an_unnamed_step_is_unknown(void **context)
{
    (void)context;
    assert_step_data(NULL, "{}", whole("x"), whole(""), 0,
        "{\"unknown.stdout\":\"x\",\"unknown.stderr\":\"\",\"unknown.exit_code\":0}");
}

static void the_steps_own_members_win_over_directives(void **context)
{
    (void)context;
    assert_step_data("s",
        "{\"s.stdout\":\"fake\",\"s.exit_code\":\"7\",\"s.stdout_truncated\":\"1\",\"s.other\":"
        "\"x\","
        "\"t.stdout\":\"y\"}",
        whole("real"), whole(""), 0,
        "{\"s.other\":\"x\",\"t.stdout\":\"y\",\"s.stdout\":\"real\",\"s.stderr\":\"\","
        "\"s.exit_code\":0}");
}

static void a_cut_stream_says_how_long_it_was(void **context)
{
    (void)context;
    struct wfe_stream_output cut = whole("abc");
    cut.total_bytes = UINT64_C(5000000000);
    assert_step_data("s", "{}", cut, whole(""), 0,
        "{\"s.stdout\":\"abc\",\"s.stderr\":\"\",\"s.exit_code\":0,"
        "\"s.stdout_truncated\":5000000000}");
    assert_step_data("s", "{}", whole(""), cut, 0,
        "{\"s.stdout\":\"\",\"s.stderr\":\"abc\",\"s.exit_code\":0,"
        "\"s.stderr_truncated\":5000000000}");
}

static void assert_lossy(const char *data, size_t length, const char *expected)
{
    WFE_FREE char *text = wfe_utf8_lossy(data, length);
    assert_string_equal(text, expected);
}

static void bytes_that_are_no_text_become_replacement_characters(void **context)
{
    (void)context;
    assert_lossy("", 0, "");
    assert_lossy(NULL, 0, "");
    assert_lossy("plain é 😀", 13, "plain é 😀");
    assert_lossy("a\xFFz", 3, "a\uFFFDz");
    assert_lossy("a\0b\0", 4, "a\uFFFDb\uFFFD");
    assert_lossy("\xE2\x82", 2, "\uFFFD");
    assert_lossy("\xE2\x82\x00\xE2\x82\xAC", 6, "\uFFFD\uFFFD€");
    assert_lossy("\xC0\xAF\xED\xA0\x80", 5, "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
    assert_lossy("\xF0\x9F\x98x", 4, "\uFFFDx");
}

static void a_long_stream_of_nuls_is_replaced_in_linear_time(void **context)
{
    (void)context;
    size_t length = 4 * 1024 * 1024;
    WFE_FREE char *zeros = calloc(length, 1);
    WFE_FREE char *text = wfe_utf8_lossy(zeros, length);
    assert_int_equal(strlen(text), 3 * length);
    memset(zeros, 0xFF, length);
    WFE_FREE char *other = wfe_utf8_lossy(zeros, length);
    assert_int_equal(strlen(other), 3 * length);
}

static void merging_replaces_and_adds_members(void **context)
{
    (void)context;
    WFE_JSON cJSON *to = cJSON_Parse("{\"a\":1,\"A\":2,\"b\":{\"x\":1}}");
    WFE_JSON cJSON *from = cJSON_Parse("{\"b\":{\"y\":2},\"c\":null,\"A\":3}");
    assert_int_equal(wfe_result_merge(to, from), 0);
    WFE_FREE char *json = cJSON_PrintUnformatted(to);
    assert_string_equal(json, "{\"a\":1,\"A\":3,\"b\":{\"y\":2},\"c\":null}");
    assert_int_equal(wfe_result_merge(to, from), 0);
    WFE_FREE char *again = cJSON_PrintUnformatted(to);
    assert_string_equal(again, json);
    WFE_FREE char *untouched = cJSON_PrintUnformatted(from);
    assert_string_equal(untouched, "{\"b\":{\"y\":2},\"c\":null,\"A\":3}");
}

static struct wfe_outcome failed(enum wfe_error_kind kind, int errnum, int grpc_status)
{
    struct wfe_outcome outcome = {.kind = WFE_OUTCOME_FAILED};
    outcome.error = (struct wfe_error){
        .kind = kind, .errnum = errnum, .grpc_status = grpc_status, .message = "what happened"};
    return outcome;
}

static struct wfe_outcome outcome_of(enum wfe_outcome_kind kind)
{
    struct wfe_outcome outcome = failed(WFE_ERROR_CONTAINERD, EIO, 2);
    outcome.kind = kind;
    return outcome;
}

static int exited_status(int exit_code)
{
    struct wfe_outcome outcome = outcome_of(WFE_OUTCOME_EXITED);
    outcome.exit_code = exit_code;
    return wfe_outcome_exit_status(&outcome);
}

static void the_exit_status_tells_how_the_run_ended(void **context)
{
    (void)context;
    static const struct {
        enum wfe_outcome_kind kind;
        int status;
    } cases[] = {{WFE_OUTCOME_DONE, 0}, {WFE_OUTCOME_TIMED_OUT, 124}, {WFE_OUTCOME_FAILED, 125},
        {WFE_OUTCOME_NOT_RUNNABLE, 126}, {WFE_OUTCOME_NOT_FOUND, 127}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct wfe_outcome outcome = outcome_of(cases[i].kind);
        assert_int_equal(wfe_outcome_exit_status(&outcome), cases[i].status);
    }
    struct wfe_outcome cancelled = outcome_of(WFE_OUTCOME_CANCELLED);
    cancelled.signal_number = 15;
    assert_int_equal(wfe_outcome_exit_status(&cancelled), 143);
}

static void a_containers_exit_code_is_passed_on(void **context)
{
    (void)context;
    assert_int_equal(exited_status(1), 1);
    assert_int_equal(exited_status(137), 137);
    assert_int_equal(exited_status(255), 255);
    assert_int_equal(exited_status(-1), 255);
    assert_int_equal(exited_status(256), 125);
}

static bool retryable(struct wfe_outcome outcome)
{
    return wfe_outcome_retryable(&outcome);
}

static void what_may_pass_is_retryable(void **context)
{
    (void)context;
    assert_true(retryable(outcome_of(WFE_OUTCOME_TIMED_OUT)));
    assert_true(retryable(outcome_of(WFE_OUTCOME_CANCELLED)));
    assert_true(retryable(failed(WFE_ERROR_CONTAINERD, EAGAIN, 14)));
    assert_true(retryable(failed(WFE_ERROR_CONTAINERD, ETIMEDOUT, 4)));
    assert_true(retryable(failed(WFE_ERROR_CONTAINERD, ECONNREFUSED, 0)));
    assert_true(retryable(failed(WFE_ERROR_TIMEOUT, ETIMEDOUT, 0)));
    assert_true(retryable(failed(WFE_ERROR_CANCELLED, ECANCELED, 0)));
    assert_true(retryable(failed(WFE_ERROR_SYSTEM, EMFILE, 0)));
    assert_true(retryable(failed(WFE_ERROR_INTERNAL, ENOMEM, 0)));
}

static void what_stays_is_not_retryable(void **context)
{
    (void)context;
    assert_false(retryable(outcome_of(WFE_OUTCOME_DONE)));
    assert_false(retryable(outcome_of(WFE_OUTCOME_EXITED)));
    assert_false(retryable(outcome_of(WFE_OUTCOME_OOM)));
    assert_false(retryable(outcome_of(WFE_OUTCOME_NOT_RUNNABLE)));
    assert_false(retryable(outcome_of(WFE_OUTCOME_NOT_FOUND)));
    assert_false(retryable(failed(WFE_ERROR_INPUT, EINVAL, 0)));
    assert_false(retryable(failed(WFE_ERROR_CONTAINERD, ENOENT, 5)));
    assert_false(retryable(failed(WFE_ERROR_CONTAINERD, ENOENT, 0)));
    assert_false(retryable(failed(WFE_ERROR_ARCHIVE, EINVAL, 0)));
    assert_false(retryable(failed(WFE_ERROR_INTEGRITY, EBADMSG, 0)));
    assert_false(retryable(failed(WFE_ERROR_LIMIT, EFBIG, 0)));
    assert_false(retryable(failed(WFE_ERROR_SYSTEM, EACCES, 0)));
    assert_false(retryable(failed(WFE_ERROR_INTERNAL, EIO, 0)));
}

static void assert_result(
    const struct wfe_outcome *outcome, const char *output_data, const char *expected)
{
    WFE_JSON cJSON *data = output_data ? cJSON_Parse(output_data) : NULL;
    WFE_JSON cJSON *object = wfe_result_object(outcome, data);
    WFE_FREE char *json = cJSON_PrintUnformatted(object);
    assert_string_equal(json, expected);
}

static void a_result_of_success_proceeds(void **context)
{
    (void)context;
    struct wfe_outcome done = {.kind = WFE_OUTCOME_DONE};
    assert_result(
        &done, "{\"s.exit_code\":0}", "{\"proceed\":true,\"output_data\":{\"s.exit_code\":0}}");
    assert_result(&done, NULL, "{\"proceed\":true,\"output_data\":{}}");
}

static void a_result_of_failure_says_why(void **context)
{
    (void)context;
    struct wfe_outcome exited = outcome_of(WFE_OUTCOME_EXITED);
    exited.exit_code = 3;
    memcpy(exited.error.message, "container exited with code 3", 29);
    assert_result(&exited, "{\"s.exit_code\":3}",
        "{\"proceed\":false,\"error\":{\"kind\":\"exit\",\"message\":\"container exited with code "
        "3\",\"exit_code\":3,\"retryable\":false},\"output_data\":{\"s.exit_code\":3}}");
    struct wfe_outcome killed = failed(WFE_ERROR_SYSTEM, ENOMEM, 0);
    killed.kind = WFE_OUTCOME_OOM;
    killed.exit_code = 137;
    assert_int_equal(wfe_outcome_exit_status(&killed), 137);
    assert_result(&killed, "{}",
        "{\"proceed\":false,\"error\":{\"kind\":\"oom\",\"message\":\"what happened\","
        "\"exit_code\":137,\"retryable\":false},\"output_data\":{}}");
    struct wfe_outcome timed_out = failed(WFE_ERROR_TIMEOUT, ETIMEDOUT, 0);
    timed_out.kind = WFE_OUTCOME_TIMED_OUT;
    assert_result(&timed_out, "{}",
        "{\"proceed\":false,\"error\":{\"kind\":\"timeout\",\"message\":\"what happened\","
        "\"exit_code\":null,\"retryable\":true},\"output_data\":{}}");
}

static void an_error_message_that_is_no_text_becomes_text(void **context)
{
    (void)context;
    struct wfe_outcome outcome = failed(WFE_ERROR_CONTAINERD, EIO, 2);
    memcpy(outcome.error.message, "a\xFF", 3);
    assert_result(&outcome, "{}",
        "{\"proceed\":false,\"error\":{\"kind\":\"containerd\",\"message\":\"a\uFFFD\","
        "\"exit_code\":null,\"retryable\":false},\"output_data\":{}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(step_data_holds_directives_streams_and_exit_code),
        cmocka_unit_test(step_data_without_directives_has_three_members),
        cmocka_unit_test(several_directives_stand_before_the_streams),
        cmocka_unit_test(a_negative_exit_code_stays_negative),
        cmocka_unit_test(an_unnamed_step_is_unknown),
        cmocka_unit_test(the_steps_own_members_win_over_directives),
        cmocka_unit_test(a_cut_stream_says_how_long_it_was),
        cmocka_unit_test(bytes_that_are_no_text_become_replacement_characters),
        cmocka_unit_test(a_long_stream_of_nuls_is_replaced_in_linear_time),
        cmocka_unit_test(merging_replaces_and_adds_members),
        cmocka_unit_test(the_exit_status_tells_how_the_run_ended),
        cmocka_unit_test(a_containers_exit_code_is_passed_on),
        cmocka_unit_test(what_may_pass_is_retryable),
        cmocka_unit_test(what_stays_is_not_retryable),
        cmocka_unit_test(a_result_of_success_proceeds),
        cmocka_unit_test(a_result_of_failure_says_why),
        cmocka_unit_test(an_error_message_that_is_no_text_becomes_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
