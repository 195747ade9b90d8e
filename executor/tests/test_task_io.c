/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "executor/daemon/task_io.h"
#include "libcommon/file.h"

/* The tests play the shim: they open the paths for writing and write. */

static char base[PATH_MAX];

static int make_base(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(base, sizeof base, "%s/wfe-test-task-io-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    return mkdtemp(base) ? 0 : -1;
}

/* Whatever a test opened must be gone by now: rmdir fails on a directory that is not empty. */
static int remove_base(void **state)
{
    (void)state;
    return rmdir(base);
}

static struct wfe_task_io *open_io(enum wfe_task_io_kind kind, uint64_t limit, const char *raw)
{
    struct wfe_task_io_options options = {
        .kind = kind,
        .base_directory = base,
        .container_id = "c1",
        .limit_bytes = limit,
        .raw_directory = raw,
        .step_name = "build",
    };
    struct wfe_task_io *io = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_task_io_open(&options, &io, &err), 0);
    return io;
}

static int open_to_write(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void write_text(int fd, const char *text)
{
    assert_int_equal(wfe_write_all(fd, text, strlen(text)), 0);
}

static void assert_stream(const struct wfe_stream_output *stream, const char *expected)
{
    assert_int_equal(stream->length, strlen(expected));
    assert_memory_equal(stream->data, expected, stream->length);
}

static void both_streams_come_back_apart(enum wfe_task_io_kind kind)
{
    struct wfe_task_io *io = open_io(kind, 1000, NULL);
    int out = open_to_write(wfe_task_io_stdout(io));
    int error = open_to_write(wfe_task_io_stderr(io));
    write_text(out, "one\n##wfe[output a=1]\n");
    write_text(error, "wrong\n");
    write_text(out, "no newline");
    close(out);
    close(error);
    struct wfe_task_output output;
    assert_int_equal(wfe_task_io_finish(io, &output, NULL), 0);
    assert_stream(&output.stdout_output, "one\n##wfe[output a=1]\nno newline");
    assert_stream(&output.stderr_output, "wrong\n");
    const cJSON *a = cJSON_GetObjectItemCaseSensitive(output.directives, "a");
    assert_string_equal(cJSON_GetStringValue(a), "1");
    cJSON_Delete(output.directives);
    wfe_task_io_free(io);
}

static void fifos_bring_both_streams_back_apart(void **state)
{
    (void)state;
    both_streams_come_back_apart(WFE_TASK_IO_FIFO);
}

static void files_bring_both_streams_back_apart(void **state)
{
    (void)state;
    both_streams_come_back_apart(WFE_TASK_IO_FILE);
}

static void a_file_can_be_written_by_any_user(void **state)
{
    (void)state;
    mode_t old = umask(077);
    struct wfe_task_io *io = open_io(WFE_TASK_IO_FILE, 1000, NULL);
    umask(old);
    struct stat st;
    assert_int_equal(stat(wfe_task_io_stdout(io), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666);
    wfe_task_io_free(io);
}

static void a_task_that_never_came_leaves_empty_streams(void **state)
{
    (void)state;
    struct wfe_task_io *io = open_io(WFE_TASK_IO_FIFO, 1000, NULL);
    struct wfe_task_output output;
    assert_int_equal(wfe_task_io_finish(io, &output, NULL), 0);
    assert_stream(&output.stdout_output, "");
    assert_int_equal(output.stdout_output.total_bytes, 0);
    cJSON_Delete(output.directives);
    wfe_task_io_free(io);
}

static void what_is_beyond_the_limit_is_counted_and_still_searched(void **state)
{
    (void)state;
    struct wfe_task_io *io = open_io(WFE_TASK_IO_FIFO, 4, NULL);
    int out = open_to_write(wfe_task_io_stdout(io));
    int error = open_to_write(wfe_task_io_stderr(io));
    write_text(out, "123456789\n##wfe[output late=yes]\n");
    close(out);
    close(error);
    struct wfe_task_output output;
    assert_int_equal(wfe_task_io_finish(io, &output, NULL), 0);
    assert_stream(&output.stdout_output, "1234");
    assert_int_equal(output.stdout_output.total_bytes, 33);
    assert_non_null(cJSON_GetObjectItemCaseSensitive(output.directives, "late"));
    cJSON_Delete(output.directives);
    wfe_task_io_free(io);
}

static void a_megabyte_flows_while_nobody_waits_for_it(void **state)
{
    (void)state;
    struct wfe_task_io *io = open_io(WFE_TASK_IO_FIFO, 2000000, NULL);
    int out = open_to_write(wfe_task_io_stdout(io));
    int error = open_to_write(wfe_task_io_stderr(io));
    static char block[1000];
    memset(block, 'x', sizeof block);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(wfe_write_all(out, block, sizeof block), 0);
    close(out);
    close(error);
    struct wfe_task_output output;
    assert_int_equal(wfe_task_io_finish(io, &output, NULL), 0);
    assert_int_equal(output.stdout_output.length, 1000000);
    cJSON_Delete(output.directives);
    wfe_task_io_free(io);
}

static void raw_files_hold_every_byte(void **state)
{
    (void)state;
    struct wfe_task_io *io = open_io(WFE_TASK_IO_FIFO, 2, base);
    int out = open_to_write(wfe_task_io_stdout(io));
    int error = open_to_write(wfe_task_io_stderr(io));
    assert_int_equal(wfe_write_all(out,
                         "a\0\xff"
                         "b",
                         4),
        0);
    close(out);
    close(error);
    struct wfe_task_output output;
    assert_int_equal(wfe_task_io_finish(io, &output, NULL), 0);
    cJSON_Delete(output.directives);
    wfe_task_io_free(io);

    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/build.stdout", base);
    char *data = NULL;
    size_t length;
    assert_int_equal(wfe_read_file(path, 100, &data, &length, NULL), 0);
    assert_int_equal(length, 4);
    assert_memory_equal(data,
        "a\0\xff"
        "b",
        4);
    free(data);
    unlink(path);
    snprintf(path, sizeof path, "%s/build.stderr", base);
    assert_int_equal(unlink(path), 0);
}

static void a_directory_that_cannot_be_made_is_an_error(void **state)
{
    (void)state;
    struct wfe_task_io_options options = {
        .base_directory = "/nonexistent", .container_id = "c", .step_name = "s"};
    struct wfe_task_io *io = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_task_io_open(&options, &io, &err), -ENOENT);
    assert_non_null(strstr(err.message, "/nonexistent/wfe-io-c"));
    assert_null(io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            fifos_bring_both_streams_back_apart, make_base, remove_base),
        cmocka_unit_test_setup_teardown(
            files_bring_both_streams_back_apart, make_base, remove_base),
        cmocka_unit_test_setup_teardown(a_file_can_be_written_by_any_user, make_base, remove_base),
        cmocka_unit_test_setup_teardown(
            a_task_that_never_came_leaves_empty_streams, make_base, remove_base),
        cmocka_unit_test_setup_teardown(
            what_is_beyond_the_limit_is_counted_and_still_searched, make_base, remove_base),
        cmocka_unit_test_setup_teardown(
            a_megabyte_flows_while_nobody_waits_for_it, make_base, remove_base),
        cmocka_unit_test_setup_teardown(raw_files_hold_every_byte, make_base, remove_base),
        cmocka_unit_test(a_directory_that_cannot_be_made_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
