/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "libcommon/archive.h"
#include "libcommon/cleanup.h"
#include "libcommon/tests/layer_fixture.h"

static void assert_form(const char *name, enum wfe_archive_form expected)
{
    enum wfe_archive_form form = (enum wfe_archive_form)99;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_archive_probe(scratch_path(name), &form, &err), 0);
    assert_string_equal(err.message, "");
    assert_int_equal(form, expected);
}

/* Data, behind filters, in the scratch file `name`; format raw writes them as they are. */
static void write_filtered(const char *name, int (*first)(struct archive *),
    int (*second)(struct archive *), const void *data, size_t length)
{
    struct archive *writer = archive_write_new();
    assert_int_equal(archive_write_set_format_raw(writer), ARCHIVE_OK);
    assert_int_equal(first(writer), ARCHIVE_OK);
    if (second)
        assert_int_equal(second(writer), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(writer, scratch_path(name)), ARCHIVE_OK);
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_filetype(entry, AE_IFREG);
    assert_int_equal(archive_write_header(writer, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(writer, data, length), length);
    archive_entry_free(entry);
    assert_int_equal(archive_write_close(writer), ARCHIVE_OK);
    archive_write_free(writer);
}

static void a_tar_is_told_by_its_compression(void **state)
{
    (void)state;
    TAR_BUFFER(tar);
    tar_add(&tar, &(struct tar_entry){.name = "f", .data = "x"});
    tar_end(&tar);
    scratch_write("plain", tar.data, tar.length);
    assert_form("plain", WFE_ARCHIVE_TAR);
    write_filtered("f", archive_write_add_filter_gzip, NULL, tar.data, tar.length);
    assert_form("f", WFE_ARCHIVE_TAR_GZIP);
    write_filtered("f", archive_write_add_filter_zstd, NULL, tar.data, tar.length);
    assert_form("f", WFE_ARCHIVE_TAR_ZSTD);
    write_filtered("f", archive_write_add_filter_xz, NULL, tar.data, tar.length);
    assert_form("f", WFE_ARCHIVE_OTHER);
    write_filtered(
        "f", archive_write_add_filter_gzip, archive_write_add_filter_gzip, tar.data, tar.length);
    assert_form("f", WFE_ARCHIVE_OTHER);
}

static void a_tar_without_entries_is_short(void **state)
{
    (void)state;
    WFE_FREE char *zeros = calloc(1, 1 << 20);
    assert_non_null(zeros);
    scratch_write("f", zeros, 1024);
    assert_form("f", WFE_ARCHIVE_TAR);
    scratch_write("f", zeros, 10240);
    assert_form("f", WFE_ARCHIVE_TAR);
    write_filtered("f", archive_write_add_filter_gzip, NULL, zeros, 10240);
    assert_form("f", WFE_ARCHIVE_TAR_GZIP);
    scratch_write("f", zeros, 10752);
    assert_form("f", WFE_ARCHIVE_NONE);
    zeros[5000] = 1;
    scratch_write("f", zeros, 10240);
    assert_form("f", WFE_ARCHIVE_NONE);
    write_filtered("f", archive_write_add_filter_gzip, NULL, zeros, 1 << 20);
    assert_form("f", WFE_ARCHIVE_NONE);
}

static void plain_files_are_no_archives(void **state)
{
    (void)state;
    scratch_write("f", "", 0);
    assert_form("f", WFE_ARCHIVE_NONE);
    scratch_write("f", "hello\n", 6);
    assert_form("f", WFE_ARCHIVE_NONE);
    write_filtered("f", archive_write_add_filter_gzip, NULL, "hello\n", 6);
    assert_form("f", WFE_ARCHIVE_NONE);
    scratch_write("f", "\x1f\x8b\x08\0garbage", 11);
    assert_form("f", WFE_ARCHIVE_NONE);
    static const char mtree[] = "#mtree\n./f type=file contents=/etc/passwd\n";
    scratch_write("f", mtree, sizeof mtree - 1);
    assert_form("f", WFE_ARCHIVE_NONE);
}

static void other_archives_are_told(void **state)
{
    (void)state;
    static const char cpio[] = "070707000001000001100644000000000000000001000000000000000000000020"
                               "0000000001a\0x";
    scratch_write("f", cpio, sizeof cpio - 1);
    assert_form("f", WFE_ARCHIVE_OTHER);
    static const char zip[] = "PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    scratch_write("f", zip, sizeof zip - 1);
    assert_form("f", WFE_ARCHIVE_OTHER);
}

static void assert_not_probed(const char *path, int errnum, enum wfe_error_kind kind)
{
    enum wfe_archive_form form = (enum wfe_archive_form)99;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_archive_probe(path, &form, &err), -errnum);
    assert_int_equal(err.kind, kind);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(form, 99);
}

static void what_is_no_file_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(scratch_path("fifo"), 0600), 0);
    assert_not_probed("/", EISDIR, WFE_ERROR_INPUT);
    assert_not_probed(scratch_path("fifo"), EINVAL, WFE_ERROR_INPUT);
    assert_not_probed(scratch_path("missing"), ENOENT, WFE_ERROR_SYSTEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tar_is_told_by_its_compression),
        cmocka_unit_test(a_tar_without_entries_is_short),
        cmocka_unit_test(plain_files_are_no_archives),
        cmocka_unit_test(other_archives_are_told),
        cmocka_unit_test(what_is_no_file_is_an_error),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
