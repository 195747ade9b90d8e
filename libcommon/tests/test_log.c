/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/log.h"

static int real_stderr = -1;
static FILE *captured;
static char text[1 << 20];

static int capture(void **state)
{
    (void)state;
    captured = tmpfile();
    real_stderr = dup(STDERR_FILENO);
    return captured && dup2(fileno(captured), STDERR_FILENO) >= 0 ? 0 : -1;
}

static int release(void **state)
{
    (void)state;
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    fclose(captured);
    wfe_log_setup(WFE_LOG_WARN, false);
    wfe_log_set_step(NULL);
    wfe_log_set_hook(NULL, NULL);
    return 0;
}

/* All that was written to stderr since the test's start. */
static const char *written(void)
{
    int fd = fileno(captured);
    lseek(fd, 0, SEEK_SET);
    ssize_t n = wfe_read_full(fd, text, sizeof text - 1);
    assert_true(n >= 0);
    text[n] = '\0';
    return text;
}

static void levels_have_their_names(void **state)
{
    (void)state;
    enum wfe_log_level level = WFE_LOG_ERROR;
    assert_int_equal(wfe_log_level_parse("debug", &level), 0);
    assert_int_equal(level, WFE_LOG_DEBUG);
    assert_int_equal(wfe_log_level_parse("warn", &level), 0);
    assert_int_equal(level, WFE_LOG_WARN);
    assert_int_equal(wfe_log_level_parse("WARN", &level), -EINVAL);
    assert_int_equal(wfe_log_level_parse("", &level), -EINVAL);
    assert_int_equal(level, WFE_LOG_WARN);
}

static void only_lines_up_to_the_level_are_written(void **state)
{
    (void)state;
    wfe_log_setup(WFE_LOG_INFO, false);
    assert_true(wfe_log_enabled(WFE_LOG_INFO));
    assert_false(wfe_log_enabled(WFE_LOG_DEBUG));
    wfe_log(WFE_LOG_DEBUG, "upload", "no");
    wfe_log(WFE_LOG_INFO, "upload", "%d bytes", 5);
    wfe_log_set_step("build");
    wfe_log(WFE_LOG_ERROR, "start", "x");
    assert_string_equal(written(), "info upload: 5 bytes\nerror build start: x\n");
}

static void a_json_line_is_one_object(void **state)
{
    (void)state;
    wfe_log_setup(WFE_LOG_WARN, true);
    wfe_log_set_step("build");
    setenv("TZ", "XXX-5:45", 1);
    tzset();
    time_t now = time(NULL);
    wfe_log(WFE_LOG_WARN, "upload", "a \"quoted\" name");
    const char *line = written();
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    WFE_JSON cJSON *json = cJSON_Parse(line);
    assert_non_null(json);
    assert_string_equal(cJSON_GetObjectItem(json, "level")->valuestring, "warn");
    assert_string_equal(cJSON_GetObjectItem(json, "step")->valuestring, "build");
    assert_string_equal(cJSON_GetObjectItem(json, "stage")->valuestring, "upload");
    assert_string_equal(cJSON_GetObjectItem(json, "message")->valuestring, "a \"quoted\" name");
    const char *stamp = cJSON_GetObjectItem(json, "time")->valuestring;
    struct tm utc = {.tm_sec = 0};
    assert_string_equal(stamp + strlen("2024-01-01T00:00:00.000"), "Z");
    assert_non_null(strptime(stamp, "%Y-%m-%dT%H:%M:%S.", &utc));
    assert_in_range(timegm(&utc), now - 1, now + 60);
}

static void a_message_cannot_break_the_line_or_reach_the_terminal(void **state)
{
    (void)state;
    wfe_log(WFE_LOG_ERROR, "s", "a\nb\x1b[31m\xc2\x9bm \xc3\xa4\xff\xc3");
    assert_string_equal(written(), "error s: a b?[31m??m \xc3\xa4??\n");
}

static void a_very_long_message_is_cut(void **state)
{
    (void)state;
    char message[5000];
    memset(message, 'x', sizeof message);
    message[sizeof message - 1] = '\0';
    wfe_log(WFE_LOG_ERROR, "s", "%s", message);
    assert_int_equal(strlen(written()), strlen("error s: ") + 1023 + 1);
}

static void note(bool before, void *context)
{
    (void)context;
    if (write(STDERR_FILENO, before ? "<" : ">", 1) != 1)
        abort();
}

static void the_hook_runs_around_each_written_line(void **state)
{
    (void)state;
    wfe_log_set_hook(note, NULL);
    wfe_log(WFE_LOG_WARN, "s", "x");
    wfe_log(WFE_LOG_DEBUG, "s", "y");
    wfe_log_set_hook(NULL, NULL);
    wfe_log(WFE_LOG_WARN, "s", "z");
    assert_string_equal(written(), "<warn s: x\n>warn s: z\n");
}

static void *log_lines(void *context)
{
    for (int i = 0; i < 200; i++)
        wfe_log(WFE_LOG_WARN, "s", "%s", (const char *)context);
    return NULL;
}

static void lines_of_many_threads_stay_whole(void **state)
{
    (void)state;
    static char messages[4][600];
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        memset(messages[i], 'a' + (int)i, sizeof messages[i] - 1);
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, messages[i]), 0);
    }
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    const char *line = written();
    unsigned lines = 0;
    for (; *line; lines++) {
        line += strlen("warn s: ");
        size_t same = strspn(line, (char[]){*line, '\0'});
        assert_int_equal(same, sizeof messages[0] - 1);
        assert_int_equal(line[same], '\n');
        line += same + 1;
    }
    assert_int_equal(lines, 800);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, capture, release)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(levels_have_their_names),
        TEST(only_lines_up_to_the_level_are_written),
        TEST(a_json_line_is_one_object),
        TEST(a_message_cannot_break_the_line_or_reach_the_terminal),
        TEST(a_very_long_message_is_cut),
        TEST(the_hook_runs_around_each_written_line),
        TEST(lines_of_many_threads_stay_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
