/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "executor/daemon/diff_tail.h"
#include "libcommon/buffer.h"
#include "libcommon/layer_tar.h"

#define MAX_BYTES (8 * 1024 * 1024)

/* A tar in memory that counts what is read of it. */
struct tar {
    struct wfe_buffer bytes;
    uint64_t read_bytes;
};

static int append(void *context, const void *data, size_t length, struct wfe_error *err)
{
    (void)err;
    return wfe_buffer_append(context, data, length);
}

static int read_tar(
    void *context, uint64_t offset, uint64_t length, struct wfe_sink sink, struct wfe_error *err)
{
    struct tar *tar = context;
    if (offset >= tar->bytes.length)
        return 0;
    if (length > tar->bytes.length - offset)
        length = tar->bytes.length - offset;
    tar->read_bytes += length;
    return sink.write(sink.context, tar->bytes.data + offset, (size_t)length, err);
}

static void add_file(struct wfe_tar_writer *writer, const char *name, const char *data, size_t size)
{
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_tar_header header = {
        .path = name, .typeflag = '0', .mode = 0600, .size_bytes = size};
    assert_int_equal(wfe_tar_write_header(writer, &header, &err), 0);
    assert_int_equal(wfe_tar_write_data(writer, data, size, &err), 0);
    assert_int_equal(wfe_tar_write_padding(writer, &err), 0);
}

static void make_tar(
    struct tar *tar, const char *first, size_t first_size, const char *second, size_t second_size)
{
    wfe_buffer_done(&tar->bytes);
    *tar = (struct tar){.bytes = WFE_BUFFER_INIT(MAX_BYTES)};
    struct wfe_tar_writer writer;
    wfe_tar_writer_init_part(
        &writer, (struct wfe_sink){.write = append, .context = &tar->bytes}, MAX_BYTES);
    add_file(&writer, "stderr", first, first_size);
    add_file(&writer, "stdout", second, second_size);
    add_file(&writer, "wfe-1-io", "", 0);
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_tar_finish(&writer, &err), 0);
    wfe_tar_writer_done(&writer);
}

struct followed {
    struct wfe_buffer out[2];
    struct wfe_diff_tail tails[2];
};

static void follow(struct followed *followed)
{
    *followed = (struct followed){.out = {WFE_BUFFER_INIT(MAX_BYTES), WFE_BUFFER_INIT(MAX_BYTES)}};
    static const char *const names[] = {"stdout", "stderr"};
    for (int i = 0; i < 2; i++)
        followed->tails[i] = (struct wfe_diff_tail){
            .name = names[i], .sink = {.write = append, .context = &followed->out[i]}};
}

static void unfollow(struct followed *followed)
{
    for (int i = 0; i < 2; i++)
        wfe_buffer_done(&followed->out[i]);
}

static int read_on(struct followed *followed, struct tar *tar, struct wfe_error *err)
{
    *err = (struct wfe_error)WFE_ERROR_INIT;
    return wfe_diff_tails_from(read_tar, tar, tar->bytes.length, followed->tails, 2, err);
}

static void only_what_is_new_is_passed_on(void **state)
{
    (void)state;
    struct tar tar = {0};
    struct followed followed;
    struct wfe_error err;
    follow(&followed);
    make_tar(&tar, "", 0, "one\n", 4);
    assert_int_equal(read_on(&followed, &tar, &err), 0);
    assert_int_equal(read_on(&followed, &tar, &err), 0);
    make_tar(&tar, "oops", 4, "one\ntwo", 7);
    assert_int_equal(read_on(&followed, &tar, &err), 0);
    assert_string_equal(followed.out[0].data, "one\ntwo");
    assert_string_equal(followed.out[1].data, "oops");
    unfollow(&followed);
    wfe_buffer_done(&tar.bytes);
}

static void a_long_file_is_not_read_twice(void **state)
{
    (void)state;
    size_t size = 2 * 1024 * 1024;
    char *data = calloc(1, size + 10);
    for (size_t i = 0; i < size + 10; i++)
        data[i] = (char)(i % 251);
    struct tar tar = {0};
    struct followed followed;
    struct wfe_error err;
    follow(&followed);
    make_tar(&tar, data, size, data, size);
    assert_int_equal(read_on(&followed, &tar, &err), 0);
    make_tar(&tar, data, size + 1, data, size + 10);
    assert_int_equal(read_on(&followed, &tar, &err), 0);
    assert_true(tar.read_bytes < size / 2);
    assert_int_equal(followed.out[0].length, size + 10);
    assert_memory_equal(followed.out[0].data, data, size + 10);
    assert_int_equal(followed.out[1].length, size + 1);
    assert_memory_equal(followed.out[1].data, data, size + 1);
    unfollow(&followed);
    wfe_buffer_done(&tar.bytes);
    free(data);
}

static void a_size_in_pax_records_wins(void **state)
{
    (void)state;
    struct tar tar = {.bytes = WFE_BUFFER_INIT(MAX_BYTES)};
    struct followed followed;
    struct wfe_error err;
    follow(&followed);
    struct wfe_tar_writer writer;
    wfe_tar_writer_init_part(
        &writer, (struct wfe_sink){.write = append, .context = &tar.bytes}, MAX_BYTES);
    const char records[] = "9 size=5\n";
    struct wfe_tar_header header = {.path = "stdout",
        .typeflag = '0',
        .mode = 0600,
        .size_bytes = 5,
        .records = records,
        .records_length = sizeof records - 1};
    assert_int_equal(wfe_tar_write_header(&writer, &header, &err), 0);
    assert_int_equal(wfe_tar_write_data(&writer, "hello", 5, &err), 0);
    assert_int_equal(wfe_tar_write_padding(&writer, &err), 0);
    assert_int_equal(wfe_tar_finish(&writer, &err), 0);
    wfe_tar_writer_done(&writer);
    assert_int_equal(read_on(&followed, &tar, &err), 0);
    assert_string_equal(followed.out[0].data, "hello");
    unfollow(&followed);
    wfe_buffer_done(&tar.bytes);
}

static void assert_refused(struct tar *tar, const char *words)
{
    struct followed followed;
    struct wfe_error err;
    follow(&followed);
    assert_int_equal(read_on(&followed, tar, &err), -EBADMSG);
    assert_int_equal(err.kind, WFE_ERROR_ARCHIVE);
    assert_non_null(strstr(err.message, words));
    unfollow(&followed);
}

static void what_is_no_tar_is_refused(void **state)
{
    (void)state;
    struct tar tar = {0};
    make_tar(&tar, "a", 1, "b", 1);
    tar.bytes.data[3] ^= 1;
    assert_refused(&tar, "byte 0: no header");
    tar.bytes.data[3] ^= 1;
    tar.bytes.data[124] = 'x';
    assert_refused(&tar, "byte 0: no header");
    make_tar(&tar, "a", 1, "b", 1);
    tar.bytes.length = 700;
    assert_refused(&tar, "it ends too early");
    char data[4096] = {0};
    make_tar(&tar, data, sizeof data, "b", 1);
    tar.bytes.length = 1024;
    assert_refused(&tar, "longer than the tar");
    wfe_buffer_done(&tar.bytes);
}

static int refuse(void *context, const void *data, size_t length, struct wfe_error *err)
{
    (void)data;
    (void)length;
    int *calls = context;
    return (*calls)++ == 0 ? wfe_error_set(err, WFE_ERROR_SYSTEM, EIO, "no") : 0;
}

static void what_a_sink_did_not_take_comes_again(void **state)
{
    (void)state;
    struct tar tar = {0};
    make_tar(&tar, "", 0, "text", 4);
    int calls = 0;
    struct wfe_diff_tail tail = {.name = "stdout", .sink = {.write = refuse, .context = &calls}};
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_diff_tails_from(read_tar, &tar, tar.bytes.length, &tail, 1, &err), -EIO);
    assert_int_equal(tail.read_bytes, 0);
    assert_int_equal(wfe_diff_tails_from(read_tar, &tar, tar.bytes.length, &tail, 1, &err), 0);
    assert_int_equal(tail.read_bytes, 4);
    wfe_buffer_done(&tar.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_is_new_is_passed_on),
        cmocka_unit_test(a_long_file_is_not_read_twice),
        cmocka_unit_test(a_size_in_pax_records_wins),
        cmocka_unit_test(what_is_no_tar_is_refused),
        cmocka_unit_test(what_a_sink_did_not_take_comes_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
