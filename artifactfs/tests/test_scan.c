/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "artifactfs/tests/scan_fixture.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/tests/layer_fixture.h"

enum { HAS_SYMLINKS = 1, HAS_HARDLINKS = 2, IS_FLAT = 4 };

static const struct {
    const char *format;
    const char *options;
    int features;
} formats[] = {
    {"ustar", "", HAS_SYMLINKS | HAS_HARDLINKS},
    {"pax", "", HAS_SYMLINKS | HAS_HARDLINKS},
    {"gnutar", "", HAS_SYMLINKS | HAS_HARDLINKS},
    {"v7tar", "", HAS_SYMLINKS | HAS_HARDLINKS},
    {"cpio", "", HAS_SYMLINKS},
    {"newc", "", HAS_SYMLINKS},
    {"bin", "", HAS_SYMLINKS},
    {"arbsd", "", IS_FLAT},
    {"argnu", "", IS_FLAT},
    {"zip", "compression=deflate", HAS_SYMLINKS},
    {"zip", "compression=store", HAS_SYMLINKS},
    {"7zip", "compression=deflate", HAS_SYMLINKS},
    {"iso9660", "", HAS_SYMLINKS},
    {"xar", "", HAS_SYMLINKS | HAS_HARDLINKS},
    {"warc", "", IS_FLAT},
};

static void make_sample(const char *format, const char *options, int features)
{
    struct archive *archive = start_archive("sample", format, options);
    if (features & IS_FLAT) {
        write_file(archive, "one.bin", 70001, 1);
        write_file(
            archive, strcmp(format, "arbsd") == 0 ? "two-with-a-name-of-some-length" : "two", 3, 2);
        write_file(archive, "three.bin", 600001, 3);
    } else {
        write_directory(archive, "d");
        write_file(archive, "d/empty", 0, 0);
        write_file(archive, "d/one", 1, 1);
        write_file(archive, "d/block", 512, 2);
        write_file(archive, "d/large", 700001, 3);
        write_file(archive, "last", 70001, 4);
        if (features & HAS_SYMLINKS)
            write_symlink(archive, "d/link", "../last");
        if (features & HAS_HARDLINKS)
            write_hardlink(archive, "hard", "d/one");
        write_file(archive, "after", 77, 5);
    }
    end_archive(archive);
}

static void each_format_reads_as_libarchive_reads_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        print_message("%s %s\n", formats[i].format, formats[i].options);
        make_sample(formats[i].format, formats[i].options, formats[i].features);
        bool needs_seek = strcmp(formats[i].format, "7zip") == 0;
        if (!needs_seek) {
            compare_with_libarchive(scratch_path("sample"));
            continue;
        }
        SCANNED struct scanned scanned = {.spool = -1};
        scan_path(scratch_path("sample"), NULL, &scanned);
        assert_null(scanned.index->broken);
        assert_int_equal(scanned_inode(&scanned, "d/large").size_bytes, 700001);
        SCANNED struct scanned packed = {.spool = -1};
        scan_path(gzip_path(scratch_path("sample")), NULL, &packed);
        assert_non_null(packed.index->broken);
    }
}

static void only_what_has_to_be_is_spooled(void **state)
{
    (void)state;
    static const struct {
        const char *format, *options;
        int features;
        enum wfe_index_place place;
    } expected[] = {
        {"pax", "", 0, WFE_INDEX_STREAM},
        {"newc", "", 0, WFE_INDEX_STREAM},
        {"argnu", "", IS_FLAT, WFE_INDEX_STREAM},
        {"zip", "compression=store", 0, WFE_INDEX_STREAM},
        {"zip", "compression=deflate", 0, WFE_INDEX_SPOOL},
        {"7zip", "", 0, WFE_INDEX_SPOOL},
        {"iso9660", "", 0, WFE_INDEX_SPOOL},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        make_sample(expected[i].format, expected[i].options, expected[i].features);
        SCANNED struct scanned scanned = {.spool = -1};
        scan_path(scratch_path("sample"), NULL, &scanned);
        assert_int_equal(scanned.result, 0);
        assert_null(scanned.index->broken);
        assert_int_equal(scanned.index->place, expected[i].place);
        if (expected[i].place == WFE_INDEX_SPOOL)
            assert_true(scanned.spool >= 0);
    }
}

static void a_zip_may_hold_both_stored_and_deflated_files(void **state)
{
    (void)state;
    struct archive *archive = start_archive("sample", "zip", "compression=deflate");
    write_file(archive, "deflated", 5000, 1);
    assert_int_equal(archive_write_zip_set_compression_store(archive), ARCHIVE_OK);
    write_file(archive, "stored", 5000, 2);
    end_archive(archive);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("sample"), NULL, &scanned);
    assert_int_equal(scanned.index->place, WFE_INDEX_SPOOL);
    assert_true(scanned_inode(&scanned, "deflated").data & WFE_INDEX_IN_SPOOL);
    assert_false(scanned_inode(&scanned, "stored").data & WFE_INDEX_IN_SPOOL);
    compare_with_libarchive(scratch_path("sample"));
}

static void a_stored_file_whose_size_lies_is_not_taken_at_its_word(void **state)
{
    (void)state;
    struct archive *archive = start_archive("sample", "zip", "compression=store");
    write_file(archive, "stored", 100, 1);
    end_archive(archive);
    WFE_FREE char *data = NULL;
    size_t length;
    assert_int_equal(wfe_read_file(scratch_path("sample"), 1 << 20, &data, &length, NULL), 0);
    /* The unpacked size in the central directory and the local header. */
    char *central = memmem(data, length, "PK\001\002", 4);
    assert_non_null(central);
    memcpy(data + 22, "\xff\xff\xff\x00", 4);
    memcpy(central + 24, "\xff\xff\xff\x00", 4);
    scratch_write("lie", data, length);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("lie"), NULL, &scanned);
    char byte;
    int64_t inode = scanned_find(&scanned, "stored");
    assert_true(inode > 0);
    assert_int_equal(scanned_read(&scanned, (uint32_t)inode, &byte, 1, 0), -EIO);
}

static void sparse_files_of_every_dialect_have_their_holes(void **state)
{
    (void)state;
    static const char *const names[] = {
        "ok-sparse-gnu.tar.gz",
        "ok-sparse-0.0.tar.gz",
        "ok-sparse-0.1.tar.gz",
        "ok-sparse-1.0.tar.gz",
        "ok-sparse-libarchive.tar.gz",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s", gunzip_data(names[i]));
        print_message("%s\n", names[i]);
        compare_with_libarchive(path);
        SCANNED struct scanned scanned = {.spool = -1};
        scan_path(path, NULL, &scanned);
        assert_null(scanned.index->broken);
        struct wfe_inode inode = scanned_inode(&scanned, "sparse");
        assert_int_equal(inode.size_bytes, 5000000);
        assert_true(inode.count > 3);
        assert_true(inode.data < 200000);
        inode = scanned_inode(&scanned, "hole");
        assert_int_equal(inode.size_bytes, 3000000);
        assert_int_equal(inode.data, 0);
        assert_contents(&scanned, "plain", "plain\n");
    }
}

static void a_real_size_without_a_map_is_a_hole(void **state)
{
    (void)state;
    const struct tar_entry entries[] = {
        {.name = "f", .data = "12345", .pax = "GNU.sparse.realsize=1000"},
        {.name = "g", .data = "next"},
        {.name = NULL},
    };
    write_tar(entries);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("a.tar"), NULL, &scanned);
    assert_null(scanned.index->broken);
    assert_int_equal(scanned_inode(&scanned, "f").size_bytes, 1000);
    char data[1001];
    uint32_t inode = (uint32_t)scanned_find(&scanned, "f");
    assert_int_equal(scanned_read(&scanned, inode, data, sizeof data, 0), 1000);
    char expected[1000] = "12345";
    assert_memory_equal(data, expected, 1000);
    assert_contents(&scanned, "g", "next");
}

static void archives_made_for_such_tests_read_as_libarchive_reads_them(void **state)
{
    (void)state;
    static const char *const names[] = {"file-and-dir", "gnu", "gnu-incremental", "gnu-long-nul",
        "gnu-multi-hdrs", "gnu-nil-sparse-data", "gnu-nil-sparse-hole", "gnu-not-utf8",
        "gnu-sparse-big", "gnu-utf8", "hardlink", "hdr-only", "invalid-go17", "issue10968",
        "issue11169", "issue12435", "neg-size", "nil-uid", "pax-bad-hdr-file", "pax-bad-mtime-file",
        "pax-global-records", "pax-multi-hdrs", "pax-nil-sparse-data", "pax-nil-sparse-hole",
        "pax-nul-path", "pax-nul-xattrs", "pax-path-hdr", "pax-pos-size-file", "pax-records",
        "pax-sparse-big", "pax", "sparse-formats", "star", "trailing-slash", "ustar-file-devs",
        "ustar-file-reg", "ustar", "v7", "writer-big-long", "writer-big", "writer", "xattrs"};
    size_t found = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "/usr/share/go-1.19/src/archive/tar/testdata/%s.tar", names[i]);
        if (access(path, R_OK) != 0)
            continue;
        print_message("%s\n", names[i]);
        compare_with_libarchive(path);
        found++;
    }
    const char *python = "/usr/lib/python3.11/test/testtar.tar";
    if (access(python, R_OK) == 0) {
        compare_with_libarchive(python);
        found++;
    }
    if (found == 0)
        skip();
}

static void hard_links_of_a_cpio_have_the_data_of_the_last(void **state)
{
    (void)state;
    struct archive *archive = start_archive("sample", "newc", "");
    for (int i = 0; i < 3; i++) {
        const char *names[] = {"a", "b", "other"};
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, names[i]);
        archive_entry_set_mode(entry, S_IFREG | 0600);
        archive_entry_set_ino(entry, i < 2 ? 5 : 6);
        archive_entry_set_nlink(entry, i < 2 ? 2 : 1);
        archive_entry_set_size(entry, i == 1 ? 5 : 0);
        assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
        if (i == 1)
            assert_int_equal(archive_write_data(archive, "hello", 5), 5);
        archive_entry_free(entry);
    }
    end_archive(archive);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("sample"), NULL, &scanned);
    assert_null(scanned.index->broken);
    assert_int_equal(scanned_find(&scanned, "a"), scanned_find(&scanned, "b"));
    assert_int_equal(scanned_inode(&scanned, "a").nlink, 2);
    assert_contents(&scanned, "a", "hello");
}

static void a_hard_link_of_a_pax_may_carry_data(void **state)
{
    (void)state;
    const struct tar_entry entries[] = {
        {.name = "f", .data = "old", .pax = "comment=x"},
        {.name = "g", .type = '1', .target = "f", .data = "newer", .pax = "comment=x"},
        {.name = "h", .type = '1', .target = "g"},
        {.name = NULL},
    };
    write_tar(entries);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("a.tar"), NULL, &scanned);
    assert_null(scanned.index->broken);
    assert_contents(&scanned, "f", "newer");
    assert_int_equal(scanned_inode(&scanned, "f").nlink, 3);
}

static void names_of_a_tar_keep_their_bytes(void **state)
{
    (void)state;
    const struct tar_entry entries[] = {
        {.name = "latin-\xe9"},
        {.name = "short", .pax = "path=e\xcc\x81-decomposed"},
        {.name = "short", .pax = "path=bad-\xff"},
        {.name = NULL},
    };
    write_tar(entries);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("a.tar"), NULL, &scanned);
    assert_true(scanned_find(&scanned, "latin-\xe9") > 0);
    assert_true(scanned_find(&scanned, "e\xcc\x81-decomposed") > 0);
    assert_true(scanned_find(&scanned, "bad-\xff") > 0);
    assert_int_equal(scanned.index->problem_count, 0);
}

static void names_of_a_zip_are_utf8(void **state)
{
    (void)state;
    const char name[] = "\xc3\xa4\xe2\x82\xac";
    struct archive *archive = start_archive("sample", "zip", "");
    write_file(archive, name, 5, 1);
    end_archive(archive);
    WFE_FREE char *data = NULL;
    size_t length;
    assert_int_equal(wfe_read_file(scratch_path("sample"), 1 << 20, &data, &length, NULL), 0);
    /* "Language encoding flag", here and in the central directory. */
    data[7] |= 0x08;
    char *central = memmem(data, length, "PK\001\002", 4);
    assert_non_null(central);
    central[9] |= 0x08;
    scratch_write("utf8.zip", data, length);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("utf8.zip"), NULL, &scanned);
    assert_true(scanned_find(&scanned, name) > 0);
}

static void numbers_keep_their_range(void **state)
{
    (void)state;
    const struct tar_entry entries[] = {
        {.name = "f",
            .pax = "mtime=-1.25\nuid=4294967294\ngid=4294967295\nSCHILY.xattr.user.x=v\n"
                   "SCHILY.xattr.system.posix_acl_access=v"},
        {.name = "g", .pax = "uid=99999999999\nmtime=123.000000001"},
        {.name = NULL},
    };
    write_tar(entries);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(scratch_path("a.tar"), NULL, &scanned);
    struct wfe_inode inode = scanned_inode(&scanned, "f");
    assert_int_equal(inode.uid, 4294967294);
    assert_int_equal(inode.gid, 65534);
    uint32_t number = (uint32_t)scanned_find(&scanned, "f");
    assert_int_equal(wfe_index_listxattr(scanned.index, number, NULL, 0), sizeof "user.x");
    assert_int_equal(scanned_inode(&scanned, "g").uid, 65534);
    assert_int_equal(scanned_inode(&scanned, "g").mtime_ns, 1);
    assert_problem(&scanned, "'f': its group 4294967295 is none");
    assert_problem(&scanned, "'g': its owner 99999999999 is none");
}

static void assert_single(const char *path, const char *data, size_t length)
{
    const struct wfe_scan_options options = {
        .file_name = "data.bin", .file_mtime_s = 77, .file_mtime_ns = 5};
    SCANNED struct scanned scanned = {.spool = -1};
    scan_path(path, &options, &scanned);
    assert_int_equal(scanned.result, 0);
    assert_null(scanned.index->broken);
    assert_int_equal(scanned.index->problem_count, 0);
    assert_int_equal(scanned.index->place, WFE_INDEX_STREAM);
    assert_int_equal(scanned.index->item_count, 1);
    struct wfe_inode inode = scanned_inode(&scanned, "data.bin");
    assert_int_equal(inode.mode, S_IFREG | 0644);
    assert_int_equal(inode.mtime_s, 77);
    assert_int_equal(inode.mtime_ns, 5);
    assert_int_equal(inode.size_bytes, length);
    WFE_FREE char *found = malloc(length + 1);
    uint32_t number = (uint32_t)scanned_find(&scanned, "data.bin");
    assert_int_equal(scanned_read(&scanned, number, found, length + 1, 0), length);
    assert_memory_equal(found, data, length);
}

static void what_is_no_archive_is_one_file(void **state)
{
    (void)state;
    size_t length = 5000000;
    WFE_FREE char *data = malloc(length);
    unsigned seed = 5;
    for (size_t i = 0; i < length; i++)
        data[i] = (char)(rand_r(&seed) | 1);
    const size_t lengths[] = {length, 600, 1, 0};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        scratch_write("plain", data, lengths[i]);
        assert_single(scratch_path("plain"), data, lengths[i]);
        assert_single(gzip_path(scratch_path("plain")), data, lengths[i]);
    }
    /* A disk image's first part. */
    memset(data, 0, length);
    scratch_write("zeros", data, length);
    assert_single(scratch_path("zeros"), data, length);
    assert_single(gzip_path(scratch_path("zeros")), data, length);
}

static void a_tar_without_entries_is_empty(void **state)
{
    (void)state;
    char zeros[10240] = "";
    scratch_write("empty.tar", zeros, sizeof zeros);
    for (int packed = 0; packed < 2; packed++) {
        const char *path = scratch_path("empty.tar");
        SCANNED struct scanned scanned = {.spool = -1};
        scan_path(packed ? gzip_path(path) : path, NULL, &scanned);
        assert_null(scanned.index->broken);
        assert_int_equal(scanned.index->item_count, 0);
        assert_int_equal(scanned.index->inode_count, 1);
    }
}

static void a_long_first_header_is_no_hindrance(void **state)
{
    (void)state;
    TAR_BUFFER(tar);
    size_t length = 900000;
    WFE_FREE char *comment = malloc(length + 16);
    memset(comment, 'c', length);
    comment[length] = '\0';
    memcpy(comment, "comment=", 8);
    tar_add(&tar, &(struct tar_entry){.name = "f", .data = "data", .pax = comment});
    tar_end(&tar);
    scratch_write("long.tar", tar.data, tar.length);
    SCANNED struct scanned plain = {.spool = -1};
    scan_path(scratch_path("long.tar"), NULL, &plain);
    assert_contents(&plain, "f", "data");
    SCANNED struct scanned packed = {.spool = -1};
    scan_path(gzip_path(scratch_path("long.tar")), NULL, &packed);
    assert_contents(&packed, "f", "data");
}

static void many_entries_across_blocks_are_found(void **state)
{
    (void)state;
    struct archive *archive = start_archive("many", "pax", "");
    for (unsigned i = 0; i < 3000; i++) {
        char name[32];
        snprintf(name, sizeof name, "d%u/f%u", i % 7, i);
        write_file(archive, name, i * 7 % 3000, i);
    }
    end_archive(archive);
    for (int packed = 0; packed < 2; packed++) {
        const char *path = scratch_path("many");
        SCANNED struct scanned scanned = {.spool = -1};
        scan_path(packed ? gzip_path(path) : path, NULL, &scanned);
        assert_null(scanned.index->broken);
        assert_int_equal(scanned.index->item_count, 3000);
        for (unsigned i = 0; i < 3000; i++) {
            char name[32];
            snprintf(name, sizeof name, "d%u/f%u", i % 7, i);
            struct wfe_inode inode = scanned_inode(&scanned, name);
            assert_int_equal(inode.size_bytes, i * 7 % 3000);
            char byte;
            unsigned seed = i;
            uint32_t number = (uint32_t)scanned_find(&scanned, name);
            if (inode.size_bytes > 0) {
                assert_int_equal(scanned_read(&scanned, number, &byte, 1, 0), 1);
                assert_int_equal(byte, (char)rand_r(&seed));
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_format_reads_as_libarchive_reads_it),
        cmocka_unit_test(only_what_has_to_be_is_spooled),
        cmocka_unit_test(a_zip_may_hold_both_stored_and_deflated_files),
        cmocka_unit_test(a_stored_file_whose_size_lies_is_not_taken_at_its_word),
        cmocka_unit_test(sparse_files_of_every_dialect_have_their_holes),
        cmocka_unit_test(a_real_size_without_a_map_is_a_hole),
        cmocka_unit_test(archives_made_for_such_tests_read_as_libarchive_reads_them),
        cmocka_unit_test(hard_links_of_a_cpio_have_the_data_of_the_last),
        cmocka_unit_test(a_hard_link_of_a_pax_may_carry_data),
        cmocka_unit_test(names_of_a_tar_keep_their_bytes),
        cmocka_unit_test(names_of_a_zip_are_utf8),
        cmocka_unit_test(numbers_keep_their_range),
        cmocka_unit_test(what_is_no_archive_is_one_file),
        cmocka_unit_test(a_tar_without_entries_is_empty),
        cmocka_unit_test(a_long_first_header_is_no_hindrance),
        cmocka_unit_test(many_entries_across_blocks_are_found),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
