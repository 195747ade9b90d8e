/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <cmocka.h>

#include "artifactfs/tests/scan_fixture.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/tests/layer_fixture.h"

static char *read_scratch(const char *name, size_t *ret_length)
{
    char *data = NULL;
    assert_int_equal(wfe_read_file(scratch_path(name), 64 << 20, &data, ret_length, NULL), 0);
    return data;
}

static ssize_t read_byte(const struct scanned *scanned, const char *path, uint64_t offset)
{
    char byte;
    int64_t inode = scanned_find(scanned, path);
    assert_true(inode > 0);
    return scanned_read(scanned, (uint32_t)inode, &byte, 1, offset);
}

static void make_tar_of_three(struct wfe_buffer *tar)
{
    static char large[5000];
    memset(large, 'x', sizeof large);
    tar_add(tar, &(struct tar_entry){.name = "one", .data = "first"});
    tar_add(tar, &(struct tar_entry){.name = "two", .data = large, .data_length = sizeof large});
    tar_add(tar, &(struct tar_entry){.name = "three", .data = "third"});
    tar_end(tar);
}

static void a_tar_that_ends_early_is_good_up_to_there(void **state)
{
    (void)state;
    TAR_BUFFER(tar);
    make_tar_of_three(&tar);
    scratch_write("cut.tar", tar.data, 512 + 512 + 512 + 2000);
    for (int packed = 0; packed < 2; packed++) {
        const char *path = scratch_path("cut.tar");
        SCANNED struct scanned scanned = {.spool = -1};
        scan_path(packed ? gzip_path(path) : path, NULL, &scanned);
        assert_int_equal(scanned.result, 0);
        assert_broken(&scanned, "after 'two': ");
        assert_contents(&scanned, "one", "first");
        assert_int_equal(scanned_inode(&scanned, "two").size_bytes, 5000);
        assert_int_equal(read_byte(&scanned, "two", 1999), 1);
        assert_int_equal(read_byte(&scanned, "two", 2000), -EIO);
        assert_int_equal(scanned_find(&scanned, "three"), -ENOENT);
    }
}

static void a_tar_with_a_damaged_header_is_good_up_to_there(void **state)
{
    (void)state;
    TAR_BUFFER(tar);
    make_tar_of_three(&tar);
    tar.data[1024] ^= 1;
    scratch_write("flip.tar", tar.data, tar.length);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("flip.tar"), NULL, &scanned);
    assert_int_equal(scanned.result, 0);
    assert_broken(&scanned, "after 'one': ");
    assert_contents(&scanned, "one", "first");
    assert_int_equal(scanned.index->item_count, 1);
}

static void a_gzip_that_ends_early_is_good_up_to_there(void **state)
{
    (void)state;
    struct archive *archive = start_archive("tar", "ustar", "");
    for (unsigned i = 0; i < 50; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%u", i);
        write_file(archive, name, 20000, i);
    }
    end_archive(archive);
    gzip_path(scratch_path("tar"));
    size_t length;
    WFE_FREE char *data = read_scratch("packed.gz", &length);
    scratch_write("cut.gz", data, length / 2);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("cut.gz"), NULL, &scanned);
    assert_int_equal(scanned.result, 0);
    assert_non_null(scanned.index->broken);
    assert_in_range(scanned.index->item_count, 10, 40);
    assert_int_equal(read_byte(&scanned, "f5", 19999), 1);
    /* Its checksum comes after all entries. */
    data[length - 5] ^= 1;
    scratch_write("sum.gz", data, length);
    SCANNED struct scanned sum = {.spool = -1};
    scan_path(scratch_path("sum.gz"), NULL, &sum);
    assert_int_equal(sum.result, 0);
    assert_int_equal(sum.index->item_count, 50);
    assert_non_null(sum.index->broken);
}

static void a_compressed_file_that_ends_early_is_as_long_as_it_is_good(void **state)
{
    (void)state;
    WFE_FREE char *data = malloc(300000);
    unsigned seed = 1;
    for (size_t i = 0; i < 300000; i++)
        data[i] = (char)(rand_r(&seed) % 64 + 32);
    scratch_write("plain", data, 300000);
    gzip_path(scratch_path("plain"));
    size_t length;
    WFE_FREE char *packed = read_scratch("packed.gz", &length);
    scratch_write("cut.gz", packed, length / 2);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("cut.gz"), NULL, &scanned);
    assert_int_equal(scanned.result, 0);
    assert_non_null(scanned.index->broken);
    struct wfe_inode inode = scanned_inode(&scanned, "the-file");
    assert_in_range(inode.size_bytes, 100000, 200000);
    assert_int_equal(read_byte(&scanned, "the-file", inode.size_bytes - 1), 1);
}

static void a_size_that_lies_is_kept_and_not_believed(void **state)
{
    (void)state;
    TAR_BUFFER(tar);
    tar_add(&tar, &(struct tar_entry){.name = "one", .data = "first"});
    tar_add(
        &tar, &(struct tar_entry){.name = "huge", .data = "x", .pax = "size=1000000000000000000"});
    tar_end(&tar);
    scratch_write("lie.tar", tar.data, tar.length);
    for (int packed = 0; packed < 2; packed++) {
        const char *path = scratch_path("lie.tar");
        SCANNED struct scanned scanned = {.spool = -1};
        scan_path(packed ? gzip_path(path) : path, NULL, &scanned);
        assert_int_equal(scanned.result, 0);
        assert_non_null(scanned.index->broken);
        assert_contents(&scanned, "one", "first");
        assert_int_equal(scanned_inode(&scanned, "huge").size_bytes, 1000000000000000000);
        assert_int_equal(read_byte(&scanned, "huge", 0), 1);
        assert_int_equal(read_byte(&scanned, "huge", 999999999999), -EIO);
    }
}

static void a_gigantic_header_ends_the_scan(void **state)
{
    (void)state;
    TAR_BUFFER(tar);
    size_t length = 3 << 20;
    WFE_FREE char *comment = calloc(1, length + 1);
    memset(comment, 'c', length);
    memcpy(comment, "comment=", 8);
    tar_add(&tar, &(struct tar_entry){.name = "one", .data = "first"});
    tar_add(&tar, &(struct tar_entry){.name = "two", .data = "second", .pax = comment});
    tar_end(&tar);
    scratch_write("big.tar", tar.data, tar.length);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("big.tar"), NULL, &scanned);
    assert_int_equal(scanned.result, 0);
    assert_broken(&scanned, "after 'one': ");
}

static void a_sparse_file_that_ends_early_is_lost_from_there(void **state)
{
    (void)state;
    const char *path = gunzip_data("ok-sparse-1.0.tar.gz");
    size_t length;
    WFE_FREE char *data = read_scratch("unpacked", &length);
    (void)path;
    scratch_write("cut.tar", data, 5000);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("cut.tar"), NULL, &scanned);
    assert_int_equal(scanned.result, 0);
    assert_non_null(scanned.index->broken);
    assert_int_equal(scanned_inode(&scanned, "sparse").size_bytes, 5000000);
    assert_int_equal(read_byte(&scanned, "sparse", 0), 1);
    assert_int_equal(read_byte(&scanned, "sparse", 4999999), -EIO);
}

static void a_map_of_holes_that_makes_no_sense_is_not_followed(void **state)
{
    (void)state;
    const struct tar_entry entries[] = {
        {.name = "f",
            .data = "0123456789abcdef",
            .pax = "GNU.sparse.size=100\nGNU.sparse.map=10,8,4,8"},
        {.name = "g",
            .data = "0123456789abcdef",
            .pax = "GNU.sparse.size=12\nGNU.sparse.map=2,8,10,8"},
        {.name = "h", .data = "after"},
        {.name = NULL},
    };
    write_tar(entries);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("a.tar"), NULL, &scanned);
    assert_null(scanned.index->broken);
    assert_problem(&scanned, "'f': the map of its holes makes no sense");
    assert_int_equal(read_byte(&scanned, "f", 12), 1);
    assert_int_equal(read_byte(&scanned, "f", 50), -EIO);
    char data[12];
    uint32_t inode = (uint32_t)scanned_find(&scanned, "g");
    assert_int_equal(scanned_read(&scanned, inode, data, sizeof data, 0), 12);
    assert_memory_equal(data,
        "\0\0"
        "0123456789",
        12);
    assert_contents(&scanned, "h", "after");
}

static void make_zip(const char *options)
{
    struct archive *archive = start_archive("sample", "zip", options);
    write_file(archive, "one", 500000, 1);
    write_file(archive, "two", 500000, 2);
    write_file(archive, "three", 500000, 3);
    end_archive(archive);
}

static void a_corrupt_file_of_a_zip_can_not_be_read(void **state)
{
    (void)state;
    make_zip("compression=deflate");
    size_t length;
    WFE_FREE char *data = read_scratch("sample", &length);
    /* Within the second file's data. */
    data[length / 2] ^= 0x10;
    scratch_write("corrupt.zip", data, length);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("corrupt.zip"), NULL, &scanned);
    assert_int_equal(scanned.result, 0);
    assert_int_equal(scanned.index->place, WFE_INDEX_SPOOL);
    assert_int_equal(read_byte(&scanned, "one", 499999), 1);
    assert_int_equal(scanned_inode(&scanned, "two").size_bytes, 500000);
    assert_int_equal(read_byte(&scanned, "two", 0), -EIO);
    if (!scanned.index->broken) {
        assert_problem(&scanned, "'two': it can't be read: ");
        assert_int_equal(read_byte(&scanned, "three", 499999), 1);
    }
}

static void an_encrypted_file_is_shown_and_can_not_be_read(void **state)
{
    (void)state;
    make_zip("compression=store");
    size_t length;
    WFE_FREE char *data = read_scratch("sample", &length);
    data[6] |= 1;
    char *central = memmem(data, length, "PK\001\002", 4);
    assert_non_null(central);
    central[8] |= 1;
    scratch_write("encrypted.zip", data, length);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("encrypted.zip"), NULL, &scanned);
    assert_int_equal(scanned.result, 0);
    assert_problem(&scanned, "'one': it is encrypted");
    assert_int_equal(scanned_inode(&scanned, "one").size_bytes, 500000);
    assert_int_equal(read_byte(&scanned, "one", 0), -EIO);
    assert_int_equal(read_byte(&scanned, "two", 0), 1);
    assert_int_equal(scanned.index->place, WFE_INDEX_SPOOL);
}

static void the_spool_is_limited(void **state)
{
    (void)state;
    make_zip("compression=deflate");
    const struct wfe_scan_options options = {.max_spool_bytes = 800000};
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("sample"), &options, &scanned);
    assert_int_equal(scanned.result, -EFBIG);
    assert_int_equal(scanned.err.kind, WFE_ERROR_LIMIT);
    assert_broken(&scanned, "more than the 800000 bytes");
    assert_int_equal(read_byte(&scanned, "one", 499999), 1);
    assert_int_equal(scanned_inode(&scanned, "two").size_bytes, 500000);
    assert_int_equal(read_byte(&scanned, "two", 0), -EIO);
    assert_true(lseek(scanned.spool, 0, SEEK_END) <= 800000);
}

static void a_spool_needs_a_directory(void **state)
{
    (void)state;
    make_zip("compression=deflate");
    const struct wfe_scan_options options = {.spool_directory = "/nonexistent"};
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("sample"), &options, &scanned);
    assert_int_equal(scanned.result, -ENOENT);
    assert_int_equal(scanned.err.kind, WFE_ERROR_SYSTEM);
    write_tar((const struct tar_entry[]){{.name = "f", .data = "x"}, {.name = NULL}});
    SCANNED struct scanned tar = {.spool = -1};
    scan_path(scratch_path("a.tar"), &options, &tar);
    assert_int_equal(tar.result, 0);
    assert_contents(&tar, "f", "x");
}

static void a_scan_can_be_cancelled(void **state)
{
    (void)state;
    write_tar((const struct tar_entry[]){{.name = "f", .data = "x"}, {.name = NULL}});
    struct wfe_cancel *cancel;
    assert_int_equal(wfe_cancel_new(&cancel), 0);
    const char *path = gzip_path(scratch_path("a.tar"));
    struct wfe_stream_options stream_options = {.spool_directory = "/tmp"};
    struct wfe_stream *stream;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(wfe_stream_open(fd, &stream_options, &stream, NULL), 0);
    const struct wfe_scan_options options = {.file_name = "x", .cancel = cancel};
    struct wfe_scan *scan;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_scan_open(stream, &options, &scan, &err), 0);
    struct wfe_index *index = wfe_scan_take_index(scan);
    wfe_cancel_trigger(cancel);
    assert_int_equal(wfe_scan_run(scan, &err), -ECANCELED);
    assert_int_equal(err.kind, WFE_ERROR_CANCELLED);
    assert_true(wfe_index_is_complete(index));
    assert_non_null(index->broken);
    wfe_scan_free(scan);
    wfe_index_free(index);
    wfe_stream_free(stream);
    wfe_cancel_free(cancel);
}

static void *run(void *scan)
{
    struct wfe_error err = WFE_ERROR_INIT;
    return wfe_scan_run(scan, &err) == 0 ? NULL : scan;
}

static void names_can_be_asked_for_during_the_scan(void **state)
{
    (void)state;
    struct archive *archive = start_archive("many", "pax", "");
    for (unsigned i = 0; i < 20000; i++) {
        char name[32];
        snprintf(name, sizeof name, "d%u/f%u", i % 7, i);
        write_file(archive, name, i % 2000, i);
    }
    end_archive(archive);
    struct wfe_stream_options stream_options = {.spool_directory = "/tmp"};
    int fd = open(gzip_path(scratch_path("many")), O_RDONLY | O_CLOEXEC);
    SCANNED struct scanned scanned = {.spool = -1};
    assert_int_equal(wfe_stream_open(fd, &stream_options, &scanned.stream, NULL), 0);
    struct wfe_scan *scan;
    const struct wfe_scan_options options = {.file_name = "x"};
    assert_int_equal(wfe_scan_open(scanned.stream, &options, &scan, NULL), 0);
    scanned.index = wfe_scan_take_index(scan);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run, scan), 0);
    for (unsigned i = 1; i < 20000; i += 500) {
        char name[32];
        snprintf(name, sizeof name, "d%u/f%u", i % 7, i);
        int64_t inode = scanned_find(&scanned, name);
        assert_true(inode > 0);
        unsigned seed = i;
        char byte;
        /* Its data may not have gone by yet. */
        ssize_t n = scanned_read(&scanned, (uint32_t)inode, &byte, 1, 0);
        if (n == 1)
            assert_int_equal(byte, (char)rand_r(&seed));
        else
            assert_int_equal(n, -EIO);
    }
    assert_int_equal(scanned_find(&scanned, "nothing"), -ENOENT);
    void *failed;
    pthread_join(thread, &failed);
    assert_null(failed);
    wfe_scan_free(scan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tar_that_ends_early_is_good_up_to_there),
        cmocka_unit_test(a_tar_with_a_damaged_header_is_good_up_to_there),
        cmocka_unit_test(a_gzip_that_ends_early_is_good_up_to_there),
        cmocka_unit_test(a_compressed_file_that_ends_early_is_as_long_as_it_is_good),
        cmocka_unit_test(a_size_that_lies_is_kept_and_not_believed),
        cmocka_unit_test(a_gigantic_header_ends_the_scan),
        cmocka_unit_test(a_sparse_file_that_ends_early_is_lost_from_there),
        cmocka_unit_test(a_map_of_holes_that_makes_no_sense_is_not_followed),
        cmocka_unit_test(a_corrupt_file_of_a_zip_can_not_be_read),
        cmocka_unit_test(an_encrypted_file_is_shown_and_can_not_be_read),
        cmocka_unit_test(the_spool_is_limited),
        cmocka_unit_test(a_spool_needs_a_directory),
        cmocka_unit_test(a_scan_can_be_cancelled),
        cmocka_unit_test(names_can_be_asked_for_during_the_scan),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
